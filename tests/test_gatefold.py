import json
import os
import re
import runpy
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import gatefold
from fpga.boards import BOARDS, find
from fpga.flow import Implementation
from fpga.report import Figures, FitError, Usage
from fpga.tools import ToolError
from gatefold import InputError, command_line
from golden.corners import with_corners
from golden.model import Network
from golden.quantized_network import QuantizedNetwork
from hdl.pipeline import FAST, SHORT
from sim.coverage import Coverage, of_network
from sim.manifest import MANIFEST, Manifest
from sim.vectors import Vectors

EXAMPLE = Path(__file__).parent.parent / "examples" / "adding"
MODEL = EXAMPLE / "model.onnx"

SEQUENCES = 24


def sequences(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (SEQUENCES, 12, 2))
    return {"x": x, "lengths": rng.integers(1, 12, SEQUENCES, endpoint=True),
            "y": rng.uniform(0, 1, (SEQUENCES, 1))}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, **sequences())  # type: ignore[arg-type]
    return path


def figures(mhz: float) -> Figures:
    return Figures(device="device", lut=Usage(50, 1000), ff=Usage(100, 1000), dsp=Usage(32, 128),
                   bram=Usage(1, 10), registers=3, fmax_mhz=mhz,
                   fmax_seeds_mhz={5: mhz + 1, 6: mhz, 7: mhz - 2}, target_mhz=200.0)


class Flow:
    """Takes the place of the tools, which take minutes."""

    def __init__(self, error: Callable[[Path], BaseException] | None = None, *,
                 mhz: float = 100.0) -> None:
        self.error = error
        self.mhz = mhz
        self.arguments: dict[str, Any] = {}

    def __call__(self, signature: object, *, folder: Path, **arguments: Any) -> Implementation:
        self.arguments = arguments
        top = folder / "selftest"
        top.mkdir(parents=True)
        (top / "selftest.routing.log").write_text("ERROR: planted\n")
        if self.error is not None:
            raise self.error(top / "selftest.routing.log")
        (top / "selftest.bit").write_bytes(b"bits")
        (top / "selftest.json").write_text("{}")
        arguments["progress"]("routing")
        return Implementation(board="ulx3s-85f", harness=figures(self.mhz), selftest=figures(50.0),
                              bitstream=top / "selftest.bit", seconds={"all": 1.0})


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> Flow:
    flow = Flow()
    monkeypatch.setattr(gatefold, "implement", flow)
    return flow


@pytest.fixture(autouse=True)
def restore_signals() -> Any:
    before = {number: signal.getsignal(number) for number in command_line.STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def command(*arguments: object) -> int:
    """The exit status of the command line, however it ends."""
    try:
        return command_line.main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def refused(capsys: pytest.CaptureFixture[str], output: Path, *arguments: object) -> str:
    """The one sentence with which the command line refuses, leaving nothing behind."""
    before = sorted(output.parent.rglob("*"))
    assert command(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("gatefold: ")
    assert sorted(output.parent.rglob("*")) == before
    return captured.err.removeprefix("gatefold: ").strip()


def test_build(tmp_path: Path, data: Path, flow: Flow, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "deep" / "out"
    assert command("build", MODEL, "--data", data, "-o", output, "--seed", 5, "--sequences", 6,
                   "--units", 2, "--columns", 3, "--metric", f"{EXAMPLE / 'task.py'}:correct") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert sorted(path.name for path in output.iterdir()) == [
        "fpga", "gatefold.v", "manifest.json", "reached.json", "report.json", "selftest.bit",
        "vectors.npz"]
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    assert flow.arguments["seeds"] == (5, 6, 7)
    assert flow.arguments["verilog"] == (output / "gatefold.v").read_text()
    assert (output / "selftest.bit").read_bytes() == b"bits"
    assert [path.name for path in (output / "fpga" / "selftest").iterdir()] == [
        "selftest.routing.log"]

    given = sequences()
    network = gatefold.load(MODEL)
    quantized = gatefold.quantize(network, given["x"], given["lengths"])
    report = json.loads((output / "report.json").read_text())
    accuracy = report["accuracy"]
    result = gatefold.run(quantized, given["x"], given["lengths"])
    near = np.abs(result.real - given["y"]) < 0.04
    assert accuracy["metric"] == "correct"
    assert accuracy["bit_true"] == np.mean(near)
    assert accuracy["saturated"] == result.saturated
    assert accuracy["steps"] == given["lengths"].sum()

    folding = report["layers"][0]["folding"]
    assert (folding["units"], folding["columns"]) == (2, 3)
    cycles = json.loads((output / "manifest.json").read_text())["cycles"]
    mean = given["lengths"].mean()
    performance = report["performance"]
    assert performance["cycles_per_step"] == cycles["step"]
    assert performance["cycles_per_sequence"] == pytest.approx(cycles["step"] * mean)
    assert performance["step_ns"] == pytest.approx(cycles["step"] * 10)
    assert performance["latency_us"] == pytest.approx(
        (cycles["step"] * (mean - 1) + cycles["latency"]) / 100)
    assert performance["sequences_per_second"] == pytest.approx(1e8 / cycles["step"] / mean)

    assert "LSTM, 2 inputs, 20 hidden units, 1 output at the last step\n" in captured.out
    for text in ("correct", "float", "bit-true", f"{cycles['step']} a step", "100.0 MHz",
                 "50 LUT (5.0%)", "32 DSP (25.0%)", "1 block RAM (10.0%)", "saturations"):
        assert text in captured.out


def test_vectors_are_golden(tmp_path: Path, data: Path, flow: Flow) -> None:
    assert command("build", MODEL, "--data", data, "-o", tmp_path / "out", "--sequences", 6) == 0
    manifest = Manifest.load(tmp_path / "out")
    vectors = Vectors.load(tmp_path / "out" / "vectors.npz", every_step=False)
    given = sequences()
    quantized = gatefold.quantize(gatefold.load(MODEL), given["x"], given["lengths"])
    codes, _ = quantized.x.quantize(given["x"])
    # The first six, those that reach what these do not, and the first steps of four of the first
    # as sequences of their own.
    cornered, lengths = with_corners(quantized, codes[:6], given["lengths"][:6])
    assert len(lengths) > 6
    assert vectors.lengths.tolist() == [*lengths, 1, 1, 1, 1]
    result = gatefold.run(quantized, given["x"], given["lengths"])
    np.testing.assert_array_equal(vectors.y[:6], result.y[:6])
    np.testing.assert_array_equal(vectors.y[6:-4], quantized.run(cornered, lengths).y[6:])
    alone = gatefold.run(quantized, given["x"][:4, :1])
    np.testing.assert_array_equal(vectors.y[-4:], alone.y)
    reached = Coverage.load(tmp_path / "out" / "reached.json")
    assert reached.groups == of_network(quantized, cornered, lengths).groups
    trace = quantized.run(codes, given["lengths"], trace=True).layers
    assert trace is not None
    for sequence in range(6):
        length = given["lengths"][sequence]
        rows = vectors.steps(sequence)
        np.testing.assert_array_equal(vectors.x[rows], codes[sequence, :length])
        for name in "ch":
            np.testing.assert_array_equal(vectors.states[f"lstm0.{name}"][rows],
                                          getattr(trace[0], name)[sequence, :length])

    # What the self-test replays is the same, but for those that are made to saturate.
    vectors = Vectors.compute(quantized, codes[:6], given["lengths"][:6])
    stored = flow.arguments["stored"]
    words, answers = stored.stimulus, stored.expected
    assert len(words) == len(vectors.x) * manifest.input.beats
    size = 8 * manifest.input.bytes
    elements = [beat.data >> size * lane & (1 << size) - 1
                for beat in words for lane in range(manifest.input.lanes)]
    columns = manifest.input.beats * manifest.input.lanes
    np.testing.assert_array_equal(np.reshape(elements, (-1, columns))[:, :2],
                                  vectors.x % (1 << size))
    ends = np.flatnonzero([beat.last for beat in words]) + 1
    assert ends.tolist() == (np.cumsum(vectors.lengths) * manifest.input.beats).tolist()
    assert [beat.data for beat in answers] == (
        vectors.y[:, 0] % (1 << 8 * manifest.output.bytes)).tolist()
    assert all(beat.last for beat in answers)
    cycles = json.loads((tmp_path / "out" / "manifest.json").read_text())["cycles"]
    assert stored.timeout == 2 * (vectors.lengths.max() * cycles["step"] + cycles["latency"])


@pytest.mark.parametrize("forward", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_states(tmp_path: Path, data: Path, flow: Flow, capsys: pytest.CaptureFixture[str], *,
                forward: bool) -> None:
    """They are ports of the core, and the vectors have what verifying them takes."""
    output, model = tmp_path / "out", MODEL
    if not forward:
        model = tmp_path / "reverse.onnx"
        from_the_end(model)
    assert command("build", model, "--data", data, "-o", output, "--sequences", 2, "--stateful",
                   "--states", "lstm0.c, lstm0.h", "--portable") == 0
    manifest = json.loads((output / MANIFEST).read_text())
    assert manifest["stateful"] is True
    for name, prefix, tensors in (("state_input", "s_state_axis", ["lstm0.h", "lstm0.c"]),
                                  ("state_output", "m_state_axis", ["lstm0.c", "lstm0.h"])):
        port = manifest[name]
        assert (port["prefix"], port["elements"], port["bytes"]) == (prefix, 40, 2)
        assert [tensor["name"] for tensor in port["tensors"]] == tensors
        assert [tensor["elements"] for tensor in port["tensors"]] == [20, 20]
    assert Vectors.load(output / "vectors.npz", every_step=False).pieces is not None
    capsys.readouterr()
    sentence = refused(capsys, tmp_path / "other", "build", MODEL, "--data", data, "-o",
                       tmp_path / "other", "--states", "lstm1.c")
    assert sentence == "--states: a final state must be one of lstm0.h, lstm0.c, not lstm1.c"


def test_data_without_targets(tmp_path: Path, flow: Flow, capsys: pytest.CaptureFixture[str]
                              ) -> None:
    np.savez(tmp_path / "data.npz", x=sequences()["x"])
    assert command("build", MODEL, "--data", tmp_path / "data.npz", "-o", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["accuracy"]["metric"] is None
    assert report["performance"]["mean_steps"] == 12
    assert "bit-true against float" in capsys.readouterr().out


def test_earlier_build_is_replaced(tmp_path: Path, data: Path, flow: Flow) -> None:
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output) == 0
    (output / "sim").mkdir()
    assert Manifest.load(output).input.bytes == 2
    assert command("build", MODEL, "--data", data, "-o", output, "--bits", 8) == 0
    assert not (output / "sim").exists()
    assert Manifest.load(output).input.bytes == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "out"]


def test_folder_has_usual_permissions(tmp_path: Path, data: Path, flow: Flow) -> None:
    assert command("build", MODEL, "--data", data, "-o", tmp_path / "out") == 0
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(("arguments", "text"), [
    (["--board", "ulx4s"], f"unknown board 'ulx4s'; known boards: {', '.join(sorted(BOARDS))}"),
    (["--bits", "7"], "argument --bits: must be an integer from 8 to 18, not 7 "
                      "(try: gatefold build --help)"),
    (["--bits", "x"], "argument --bits: must be an integer from 8 to 18, not x "
                      "(try: gatefold build --help)"),
    (["--states", ""], "argument --states: must be names parted by commas, not '' "
                       "(try: gatefold build --help)"),
    (["--states", "lstm0.h,"], "argument --states: must be names parted by commas, not 'lstm0.h,' "
                               "(try: gatefold build --help)"),
    (["--metric", "none.py:f"], "metric none.py:f: there is no file none.py"),
    (["--metric", f"{EXAMPLE / 'task.py'}:wrong"],
     f"metric {EXAMPLE / 'task.py'}:wrong: {EXAMPLE / 'task.py'} has no function wrong"),
    (["--nothing"], "unrecognized arguments: --nothing (try: gatefold --help)"),
])
def test_wrong_arguments(tmp_path: Path, data: Path, flow: Flow, arguments: list[str], text: str,
                         capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert refused(capsys, output, "build", MODEL, "--data", data, "-o", output,
                   *arguments) == text


@pytest.mark.parametrize(("arguments", "text"), [
    (["--rate", "0"], "argument --rate: must be a positive number, not 0"),
    (["--rate", "inf"], "argument --rate: must be a positive number, not inf"),
    (["--latency", "x"], "argument --latency: must be a positive number, not x"),
    (["--latency", "2,5"], "argument --latency: must be a positive number, not 2,5"),
    (["--rate", "1", "--latency", "1"],
     "argument --latency: not allowed with argument --rate"),
    (["--fastest", "--rate", "1"], "argument --rate: not allowed with argument --fastest"),
    (["--units", "2", "--rate", "1"], "argument --units: not allowed with argument --rate"),
    (["--columns", "2", "--fastest"], "argument --columns: not allowed with argument --fastest"),
    (["--columns", "2", "--multipliers", "9"],
     "argument --columns: not allowed with argument --multipliers"),
    (["--streams", "fill", "--rate", "1"],
     "argument --streams: fill is not allowed with argument --rate"),
    (["--streams", "0"], "argument --streams: must be a positive integer or fill, not 0"),
    (["--clock", "-3"], "argument --clock: must be a positive number, not -3"),
    (["--pipeline", "long"],
     "argument --pipeline: invalid choice: 'long' (choose from 'short', 'medium', 'fast')"),
])
def test_wrong_wishes(tmp_path: Path, data: Path, flow: Flow, arguments: list[str], text: str,
                      capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    sentence = refused(capsys, output, "build", MODEL, "--data", data, "-o", output, *arguments)
    # Python 3.12 and later quote the choices in another way.
    assert sentence.replace("'short', 'fast'", "short, fast") == (
        text.replace("'short', 'fast'", "short, fast") + " (try: gatefold build --help)")


@pytest.mark.parametrize(("arguments", "text"), [
    (["--units", "21"], "folding units must be at most the 20 hidden units, not 21"),
    (["--columns", "23"], "folding columns must be at most the 22 columns of [x, h], not 23"),
    (["--longest", "3"],
     "longest must be at least the 12 steps of the longest sequence in the data, not 3"),
])
def test_what_is_known_before_calibration(
        tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
        text: str, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command_line, "quantize", None)
    output = tmp_path / "out"
    assert refused(capsys, output, "build", MODEL, "--data", data, "-o", output,
                   *arguments) == text


def test_streams_of_what_reads_from_the_end(
        tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command_line, "quantize", None)
    output, model = tmp_path / "out", tmp_path / "reverse.onnx"
    from_the_end(model)
    assert refused(capsys, output, "build", model, "--data", data, "-o", output, "--streams", 2
                   ) == "streams must be 1 where a layer reads from the end, not 2"


@pytest.mark.parametrize(("arguments", "text"), [
    (["--rate", "1e30"], r"folding: rate must be at most .* \(.*\), not 1e\+30"),
    (["--latency", "0.001"], "folding: latency must be at least .*"),
    (["--multipliers", "6"],
     "folding: no folding fits: the network takes at least 7 multipliers .*"),
])
def test_wishes_that_cannot_be(tmp_path: Path, data: Path, flow: Flow, arguments: list[str],
                               text: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert re.fullmatch(text, refused(capsys, output, "build", MODEL, "--data", data, "-o", output,
                                      *arguments))


def built(output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report and the manifest."""
    return (json.loads((output / "report.json").read_text()),
            json.loads((output / "manifest.json").read_text()))


def multipliers(manifest: dict[str, Any]) -> int:
    return sum(sum(layer["multipliers"].values()) for layer in manifest["layers"])


def test_small_by_default(tmp_path: Path, data: Path, flow: Flow,
                          capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output) == 0
    report, manifest = built(output)
    choice = report["choice"]
    assert manifest["layers"][0]["multipliers"]["array"] <= 16
    assert choice["multipliers"] == multipliers(manifest)
    assert choice["cycles"] == manifest["cycles"]["step"]
    assert choice["wanted"] is None
    assert manifest["family"] == "ecp5"
    assert manifest["streams"] == 1
    shown = capsys.readouterr().out
    for reason in choice["why"]:
        assert f" s  {reason}\n" in shown
    assert "wanted" not in shown


def test_rate(tmp_path: Path, data: Path, flow: Flow, capsys: pytest.CaptureFixture[str]) -> None:
    """The tools' stand-in reaches 100 MHz, which is less than was reckoned with."""
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output, "--rate", "800,000") == 0
    report, manifest = built(output)
    cycles = manifest["cycles"]["step"]
    mhz = report["choice"]["mhz"]
    assert 1e6 * mhz / cycles >= 800e3
    assert report["choice"]["wanted"] == {
        "steps_per_second": 800e3, "reached": pytest.approx(1e8 / cycles),
        "met": 1e8 / cycles >= 800e3}
    assert not report["choice"]["wanted"]["met"]
    shown = capsys.readouterr().out
    assert f"the smallest that makes 800,000 steps a second at {mhz:g} MHz" in shown
    assert f"800,000 steps a second: NOT MET, it is {1e8 / cycles:,.0f} at this clock" in shown
    assert (f"what was wanted is not met: it was chosen for {mhz:g} MHz, which this core does not "
            f"reach; --clock 100 chooses one for less") in shown

    # Where the clock is said to be what it turns out to be, it is met.
    assert command("build", MODEL, "--data", data, "-o", output, "--rate", "800,000", "--clock",
                   100) == 0
    report, manifest = built(output)
    assert report["choice"]["mhz"] == 100
    assert report["choice"]["wanted"]["met"]
    shown = capsys.readouterr().out
    assert "800,000 steps a second: met, it is " in shown
    assert "not met" not in shown


def test_latency(tmp_path: Path, data: Path, flow: Flow, capsys: pytest.CaptureFixture[str]
                 ) -> None:
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output, "--latency", "2.5", "--clock",
                   100, "--pipeline", "short") == 0
    report, manifest = built(output)
    latency = manifest["cycles"]["latency"]
    assert latency <= 250
    assert manifest["layers"][0]["pipeline"] == asdict(SHORT)
    assert report["choice"]["wanted"] == {
        "latency_us": 2.5, "reached": pytest.approx(latency / 100), "met": True}
    assert f"2.5 us: met, it is {latency / 100:.4g} us at this clock" in capsys.readouterr().out


BUDGETS: list[tuple[list[object], int]] = [
    (["--fastest", "--multipliers", 20], 20), (["--multipliers", 40], 40), (["--fastest"], 156)]


def within_budget(folder: Path, data: Path, wish: list[object], most: int) -> float:
    """Build what fits in so many multipliers; returns the microseconds of a step."""
    output = folder / str(most)
    assert command("build", MODEL, "--data", data, "-o", output, *wish) == 0
    report, manifest = built(output)
    assert multipliers(manifest) <= most
    assert f"of {most}: what is faster takes more" in report["choice"]["why"][0]
    return report["choice"]["cycles"] / report["choice"]["mhz"]


def test_multipliers(tmp_path: Path, data: Path, flow: Flow) -> None:
    assert within_budget(tmp_path, data, *BUDGETS[0])


@pytest.mark.slow
def test_more_multipliers_are_faster(tmp_path: Path, data: Path, flow: Flow) -> None:
    steps = [within_budget(tmp_path, data, *budget) for budget in BUDGETS]
    assert steps == sorted(steps, reverse=True)


def test_clock_that_is_not_all_timed(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    told = "; above 200 MHz, nextpnr leaves out ways inside of blocks"
    for mhz, shown in (200.0, False), (200.1, True):
        monkeypatch.setattr(gatefold, "implement", Flow(mhz=mhz))
        assert command("build", MODEL, "--data", data, "-o", tmp_path / "out") == 0
        assert (told in " ".join(capsys.readouterr().out.split())) == shown


def test_verilog_only(tmp_path: Path, data: Path, flow: Flow,
                      capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is placed, nothing has to fit, and all that a simulation needs is there."""
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output, "--portable", "--verilog-only",
                   "--board", "icebreaker", "--units", 5, "--name", "my_core") == 0
    report, manifest = built(output)
    assert not flow.arguments
    assert report["implementation"] is None
    assert multipliers(manifest) > find("icebreaker").dsp.available
    assert {path.name for path in output.iterdir()} == {
        "my_core.v", "manifest.json", "vectors.npz", "reached.json", "report.json"}
    assert "module my_core(" in (output / "my_core.v").read_text()
    assert report["performance"]["step_ns"] == pytest.approx(
        1e3 * manifest["cycles"]["step"] / report["choice"]["mhz"])
    out = capsys.readouterr().out
    assert "MHz, as it was chosen for; it is not placed and routed" in out
    assert re.search(r"area +\d+ multipliers, about \d+ block RAMs", out)
    assert Vectors.load(output / "vectors.npz", every_step=False).sequences >= 16
    assert Manifest.load(output).name == "my_core"


@pytest.mark.parametrize(("name", "rule"), [
    ("my-core", "be a Verilog identifier"), ("wire", "be a Verilog identifier"),
    ("harness", "be none that goes with a core"), ("a_copy", "be none that goes with a core")])
def test_bad_name(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], name: str,
                  rule: str) -> None:
    told = refused(capsys, tmp_path / "out", "build", MODEL, "--data", data, "-o",
                   tmp_path / "out", "--name", name)
    assert told.startswith(f"argument --name: module name must {rule}")
    assert f"not {name!r}" in told


def test_streams_and_pipeline(tmp_path: Path, data: Path, flow: Flow,
                              capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output, "--streams", 2, "--pipeline",
                   "fast", "--portable") == 0
    report, manifest = built(output)
    assert manifest["streams"] == 2
    assert manifest["family"] is None
    assert manifest["layers"][0]["pipeline"] == asdict(FAST)
    assert f"{manifest['cycles']['step']} a round of 2 streams, " in capsys.readouterr().out
    # Both streams together.
    assert report["performance"]["streams"] == 2
    assert report["performance"]["steps_per_second"] == pytest.approx(
        2e8 / manifest["cycles"]["step"])


def test_streams_that_fill(tmp_path: Path, data: Path, flow: Flow) -> None:
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output, "--streams", "fill") == 0
    report, manifest = built(output)
    streams = manifest["streams"]
    assert report["choice"]["filled"] == report["performance"]["streams"] == streams > 1
    assert manifest["cycles"]["step"] == manifest["cycles"]["work"]


def test_other_board(tmp_path: Path, data: Path, flow: Flow) -> None:
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output, "--board", "icebreaker") == 0
    report, manifest = built(output)
    assert manifest["family"] == "ice40"
    assert multipliers(manifest) <= 8
    assert report["choice"]["memories"] <= 30


def test_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "required: COMMAND" in refused(capsys, tmp_path / "out")


def with_nan(path: Path) -> None:
    model = onnx.load(MODEL)
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 3)
    array = numpy_helper.to_array(tensor).copy()
    array[0, 1, 1] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)


def with_attribute(path: Path) -> None:
    model = onnx.load(MODEL)
    node = next(n for n in model.graph.node if n.op_type == "LSTM")
    node.attribute.append(onnx.helper.make_attribute("activations", ["Elu", "Tanh", "Tanh"]))
    onnx.save(model, path)


def from_the_end(path: Path) -> None:
    model = onnx.load(MODEL)
    node = next(n for n in model.graph.node if n.op_type == "LSTM")
    node.attribute.append(onnx.helper.make_attribute("direction", "reverse"))
    onnx.save(model, path)


@pytest.mark.parametrize(("write", "text"), [
    (lambda path: None, "No such file or directory"),
    (lambda path: path.write_bytes(b"no model"), "not an ONNX file"),
    (lambda path: path.mkdir(), "Is a directory"),
    (with_nan, "must be finite"),
    (with_attribute, "Elu"),
], ids=["missing", "text", "folder", "nan", "attribute"])
def test_wrong_model(tmp_path: Path, data: Path, flow: Flow, write: Callable[[Path], object],
                     text: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = tmp_path / "wrong.onnx", tmp_path / "out"
    write(model)
    sentence = refused(capsys, output, "build", model, "--data", data, "-o", output, "--stateful")
    assert sentence.startswith(f"{model}: ")
    assert text in sentence


@pytest.mark.parametrize(("change", "text"), [
    ({"x": np.zeros((4, 5, 3)), "lengths": None, "y": None},
     "data.npz: array 'x' must have the shape [sequences, steps, 2] for this model, not "
     "[4, 5, 3]"),
    ({"x": np.full((SEQUENCES, 12, 2), np.nan)},
     "data.npz: array 'x' must be finite, but element [0, 0, 0] is nan"),
    ({"x": None}, "must hold an array 'x', but has 'lengths', 'y'"),
    ({"lengths": np.full(SEQUENCES, 13)}, "sequence lengths must be in 1 .. 12"),
    ({"y": np.zeros((SEQUENCES, 2))}, f"targets 'y' must have the shape [{SEQUENCES}, 1] of the "
                                      f"outputs, not [{SEQUENCES}, 2]"),
    ({"y": np.full((SEQUENCES, 1), np.nan)},
     "data.npz: targets 'y' must be finite, but element [0, 0] is nan"),
    ({"x": np.zeros((0, 6, 2))}, "data.npz: array 'x' must have the shape [sequences, steps, "
                                 "inputs] and not be empty, not [0, 6, 2]"),
], ids=["width", "nan", "missing", "lengths", "targets", "target", "empty"])
def test_wrong_data(tmp_path: Path, flow: Flow, change: dict[str, np.ndarray | None], text: str,
                    capsys: pytest.CaptureFixture[str]) -> None:
    data, output = tmp_path / "data.npz", tmp_path / "out"
    arrays = {name: array for name, array in {**sequences(), **change}.items()
              if array is not None}
    np.savez(data, **arrays)  # type: ignore[arg-type]
    assert text in refused(capsys, output, "build", MODEL, "--data", data, "-o", output)


@pytest.mark.parametrize("body", [
    "return outputs + 'a'", "return 'good'", "raise SystemExit(0)", "raise RuntimeError('a\\nb')",
    "return float('nan')",
])
def test_metric_that_fails(tmp_path: Path, data: Path, flow: Flow, body: str,
                           capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(f"def mine(outputs, targets):\n    {body}\n")
    output = tmp_path / "out"
    sentence = refused(capsys, output, "build", MODEL, "--data", data, "-o", output, "--metric",
                       f"{tmp_path / 'mine.py'}:mine")
    assert sentence.startswith("metric mine: ")


@pytest.mark.parametrize("pickled", [False, True])
def test_data_that_is_no_array(tmp_path: Path, flow: Flow, pickled: bool,
                               capsys: pytest.CaptureFixture[str]) -> None:
    data, output = tmp_path / "data.npz", tmp_path / "out"
    if pickled:
        np.savez(data, x=np.array([None, 1], dtype=object))
    else:
        np.savez_compressed(data, x=sequences()["x"])
        content = bytearray(data.read_bytes())
        content[200] ^= 255
        data.write_bytes(content)
    assert refused(capsys, output, "build", MODEL, "--data", data, "-o", output) == (
        f"{data}: not an .npz file of plain arrays")


def test_padding_may_be_anything(tmp_path: Path, flow: Flow) -> None:
    """The same build whatever stands behind the ends of the sequences."""
    given = sequences()
    for name, value in (("nan", np.nan), ("one", 1.0)):
        beyond = np.arange(12) >= given["lengths"][:, None]
        given["x"][beyond] = value
        np.savez(tmp_path / f"{name}.npz", **given)  # type: ignore[arg-type]
        assert command("build", MODEL, "--data", tmp_path / f"{name}.npz",
                       "-o", tmp_path / name, "--sequences", 4) == 0
    for file in ("gatefold.v", "manifest.json", "vectors.npz"):
        assert (tmp_path / "nan" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()


def test_foreign_folder(tmp_path: Path, data: Path, flow: Flow,
                        capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.tex").touch()
    text = f"output {output} must be a new folder or an earlier build, but it holds "
    assert refused(capsys, output, "build", MODEL, "--data", data, "-o", output) == (
        f"{text}thesis.tex")
    (output / "thesis.tex").unlink()
    # The manifest of something else.
    (output / "manifest.json").write_text('{"name": "my site"}')
    assert refused(capsys, output, "build", MODEL, "--data", data, "-o", output) == (
        f"{text}manifest.json")
    (output / "manifest.json").unlink()
    assert command("build", MODEL, "--data", data, "-o", output) == 0
    # An earlier build, and something of the user's in it.
    (output / "notes.txt").touch()
    assert refused(capsys, output, "build", MODEL, "--data", data, "-o", output) == (
        f"{text}notes.txt")


def test_metric_without_targets(tmp_path: Path, flow: Flow,
                                capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "data.npz", x=sequences()["x"])
    assert refused(capsys, tmp_path / "out", "build", MODEL, "--data", tmp_path / "data.npz", "-o",
                   tmp_path / "out", "--metric", f"{EXAMPLE / 'task.py'}:correct") == (
        f"--metric needs targets, but {tmp_path / 'data.npz'} has no array 'y'")


def test_mistakes_in_python(tmp_path: Path, flow: Flow) -> None:
    network = gatefold.load(MODEL)
    x = sequences()["x"]
    quantized = gatefold.quantize(network, x)
    with pytest.raises(TypeError, match=r"^network must be what quantize\(\) gave, not Network$"):
        gatefold.run(network, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^network must be what load\(\) gave, not Quantized"):
        gatefold.build(quantized, network, tmp_path / "out", x=x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^quantized must be what quantize\(\) gave, not Network$"):
        gatefold.build(network, network, tmp_path / "out", x=x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^metric must be a function of outputs and targets, not "
                                        r"'mse'$"):
        gatefold.build(network, quantized, tmp_path / "out", x=x,
                       metric="mse")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^name must be a text, not 3$"):
        gatefold.build(network, quantized, tmp_path / "out", x=x, name=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^directory must name a folder, not be empty$"):
        gatefold.build(network, quantized, "", x=x)
    assert not list(tmp_path.iterdir())
    # A list is as good as an array, and so are NumPy's numbers as Python's.
    gatefold.build(network, quantized, tmp_path / "out", x=x.tolist(),
                   units=np.int64(3), rate=None, sequences=np.int16(2))  # type: ignore[arg-type]
    assert built(tmp_path / "out")[0]["layers"][0]["folding"]["units"] == 3


@pytest.mark.parametrize(("name", "value", "text"), [
    *((name, value, f"{name} must be a positive integer, not {value!r}")
      for name in ("units", "columns", "multipliers", "streams", "longest", "seed", "sequences")
      for value in (0, "3", 1.5, True)),
    *((name, None, f"{name} must be a positive integer, not None")
      for name in ("seed", "sequences")),
    *((name, value, f"{name} must be a positive number, not {value!r}")
      for name in ("rate", "latency_us", "clock_mhz") for value in (0, "3", np.inf)),
    ("pipeline", "long", "pipeline must be one of short, medium, fast, not 'long'"),
    ("pipeline", [], "pipeline must be one of short, medium, fast, not []"),
    ("longest", 11,
     "longest must be at least the 12 steps of the longest sequence in the data, not 11"),
    ("columns", 23, "folding columns must be at most the 22 columns of [x, h], not 23"),
    ("x", np.zeros((0, 6, 2)), "data: array 'x' must have the shape [sequences, steps, inputs] "
                               "and not be empty, not [0, 6, 2]"),
    ("x", {}, "data: array 'x' must hold real numbers, not object"),
    ("y", "a", "data: array 'y' must hold real numbers, not <U1"),
])
def test_wrong_values_in_python(tmp_path: Path, quantized: tuple[Network, QuantizedNetwork],
                                name: str, value: object, text: str) -> None:
    arguments: dict[str, Any] = {"x": sequences()["x"], name: value}
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        gatefold.build(*quantized, tmp_path / "out", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def quantized() -> tuple[Network, QuantizedNetwork]:
    network = gatefold.load(MODEL)
    return network, gatefold.quantize(network, sequences()["x"][:1])


def test_inspect_in_python() -> None:
    with pytest.raises(InputError, match=r"^longest must be a positive integer, not -5$"):
        gatefold.inspect(MODEL, longest=-5)
    with pytest.raises(InputError, match=r"^bits must be an integer from 8 to 18, not 16\.0$"):
        gatefold.inspect(MODEL, bits=16.0)  # type: ignore[arg-type]


def test_output_that_cannot_be(tmp_path: Path, data: Path, flow: Flow,
                               capsys: pytest.CaptureFixture[str]) -> None:
    for output in (data, data / "out", data / "deep" / "out"):
        assert refused(capsys, data, "build", MODEL, "--data", data, "-o", output) == (
            f"output {output} must be a folder, but {data} is a file")
    assert refused(capsys, data, "build", MODEL, "--data", data, "-o", "") == (
        "argument -o/--output: must name a folder, not be empty (try: gatefold build --help)")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refused(capsys, data, "build", MODEL, "--data", data, "-o", tmp_path / "loop") == (
        f"output {tmp_path}/loop must be a folder, but {tmp_path}/loop is a file")
    long = tmp_path / ("a" * 300)
    assert refused(capsys, tmp_path / "out", "build", MODEL, "--data", data, "-o", long) == (
        f"output {long}: File name too long")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_that_is_not_writable(tmp_path: Path, data: Path, flow: Flow,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    output = closed / "deep" / "out"
    assert refused(capsys, closed, "build", MODEL, "--data", data, "-o", output) == (
        f"output {output}: {closed} is not writable")


def test_design_that_does_not_fit(tmp_path: Path, data: Path, flow: Flow,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    flow.error = lambda log: FitError("the design does not fit: it needs 200 DSP")
    output = tmp_path / "out"
    assert refused(capsys, output, "build", MODEL, "--data", data, "-o", output) == (
        "the design does not fit: it needs 200 DSP")


def test_array_that_does_not_fit(tmp_path: Path, data: Path, flow: Flow,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    """Told at once, before there is any Verilog."""
    output = tmp_path / "out"
    sentence = refused(capsys, output, "build", MODEL, "--data", data, "-o", output, "--units", 20,
                       "--columns", 22)
    match = re.fullmatch(r"the design does not fit: it needs (\d+) DSP \(MULT18X18D\), of which "
                         r"ulx3s-85f has 156", sentence)
    assert match
    # The array, and in each of twenty lanes five tables and three products; the head.
    assert int(match[1]) == 1760 + 20 * 8 + 1


def test_tool_that_fails(tmp_path: Path, data: Path, flow: Flow, monkeypatch: pytest.MonkeyPatch,
                         capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    flow.error = lambda log: ToolError(f"nextpnr failed: planted; its log is {log}")
    work = tmp_path / "work"
    work.mkdir()
    sentence = refused(capsys, work / "out", "build", MODEL, "--data", data, "-o", work / "out")
    log = Path(sentence.removeprefix("nextpnr failed: planted; its log is "))
    assert log.is_relative_to(kept)
    assert log.read_text() == "ERROR: planted\n"


def test_failure_keeps_the_earlier_build(tmp_path: Path, data: Path, flow: Flow,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output) == 0
    before = (output / "gatefold.v").read_text()
    flow.error = lambda log: FitError("too big")
    assert command("build", MODEL, "--data", data, "-o", output, "--bits", 12) == 2
    assert (output / "gatefold.v").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "out"]


def test_stopped(tmp_path: Path, data: Path, flow: Flow, capsys: pytest.CaptureFixture[str]
                 ) -> None:
    def stop(log: Path) -> NoReturn:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError

    flow.error = stop
    assert command("build", MODEL, "--data", data, "-o", tmp_path / "out") == 130
    assert capsys.readouterr().err == "gatefold: stopped\n"
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_signals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                 number: signal.Signals, *, ignored: bool) -> None:
    """A closed terminal is as good as being told to stop, but for who has asked not to be.

    It may say so again while what is half-written goes.
    """
    def signalled(model: str, **options: object) -> str:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            print("cleaned up")
        return "went on"

    monkeypatch.setattr(command_line, "inspect", signalled)
    # Who runs the tests by nohup ignores one already.
    signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    assert command("inspect", MODEL) == (0 if ignored else 130)
    captured = capsys.readouterr()
    assert captured.out == "cleaned up\n" + (f"{MODEL}: went on\n" if ignored else "")
    assert captured.err == ("" if ignored else "gatefold: stopped\n")


@pytest.mark.parametrize(("files", "text"), [
    (None, " has no manifest.json: it must be a folder that gatefold build has written"),
    ({}, " has no manifest.json: it must be a folder that gatefold build has written"),
    ({"manifest.json": ""}, "/manifest.json is not JSON: "),
    ({"manifest.json": "[]"}, "/manifest.json is not a design's manifest: what it says has "
                              "another shape"),
    ({"manifest.json": '{"name": 3}'}, "/manifest.json is not a design's manifest: it has no "
                                       "'family'"),
], ids=["missing", "empty", "nothing", "list", "lacking"])
def test_verify_what_is_not_a_build(tmp_path: Path, files: dict[str, str] | None, text: str,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "x"
    if files is not None:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
    assert refused(capsys, folder, "verify", folder).startswith(f"{folder}{text}")


def test_verify_a_file(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, data, "verify", data) == (
        f"{data}/manifest.json: the file cannot be read: Not a directory")


def test_no_netlist_in_icarus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused at once, before a synthesis."""
    assert refused(capsys, tmp_path / "x", "verify", tmp_path, "--netlist", "--simulator", "icarus"
                   ).startswith("argument --netlist: not allowed with --simulator icarus, which ")


def test_verify_with_a_bad_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                               monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(capsys, tmp_path / "x", "verify", tmp_path, "--seed", -1) == (
        "argument --seed: must be a non-negative integer, not -1 (try: gatefold verify --help)")
    monkeypatch.setenv("GATEFOLD_SEED", "one")
    assert refused(capsys, tmp_path / "x", "verify", tmp_path) == (
        "GATEFOLD_SEED must be a non-negative integer, not 'one'")


def test_verify(tmp_path: Path, data: Path, flow: Flow, capsys: pytest.CaptureFixture[str]
                ) -> None:
    """The hardware is what golden says, and a wrong expectation does not pass."""
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output, "--sequences", 4) == 0
    capsys.readouterr()
    assert command("verify", output, "--seed", 7) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "random stalls" in captured.out
    assert "bit for bit (seed 7), at " in captured.out
    assert re.search(r"coverage: saturation \d+ of \d+, ends \d+ of \d+, segments \d+ of \d+, "
                     r"handshakes \d+ of 12, stalls \d of \d, sequences 4 of 4, resets ",
                     captured.out)

    vectors = Vectors.load(output / "vectors.npz", every_step=False)
    vectors.y[2, 0] ^= 1
    vectors.save(output / "vectors.npz")
    assert command("verify", output, "--seed", 7) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"gatefold: {output} is wrong: ")
    assert captured.err.count("\n") == 1
    assert "DIFFERS" in captured.out


def test_verify_without_a_compiler(tmp_path: Path, data: Path, flow: Flow,
                                   monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert command("build", MODEL, "--data", data, "-o", output, "--sequences", 1) == 0
    capsys.readouterr()
    # All but g++.
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "perl"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    assert command("verify", output) == 2
    assert "g++ is missing" in capsys.readouterr().err


def test_inspect(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("inspect", MODEL) == 0
    text = capsys.readouterr().out
    assert f"{MODEL}: ONNX, operator set " in text
    assert "memory in bits, with numbers of 16:\n  weights           28,480\n" in text
    assert "weights           14,240\n" in gatefold.inspect(MODEL, bits=8)
    assert "sequences" not in text
    both = MODEL.parents[2] / "tests" / "models" / "keras" / "concat.keras"
    for options, steps in (((), 64), (("--longest", "7"), 7)):
        assert command("inspect", both, *options) == 0
        assert f"sequences, up to {steps} steps" in capsys.readouterr().out


def test_inspect_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What weights do not tell is asked for by the name of the option."""
    path = MODEL.parents[2] / "tests" / "models" / "torch" / "plain.safetensors"
    assert command("inspect", path) == 2
    assert "--steps" in capsys.readouterr().err
    assert command("inspect", path, "--steps", "every") == 0
    assert "at every step" in capsys.readouterr().out


def test_board_of_the_help_text() -> None:
    assert find(gatefold.DEFAULT_BOARD).name == gatefold.DEFAULT_BOARD


def test_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m gatefold`` is the command line too."""
    monkeypatch.setattr("sys.argv", ["gatefold", "inspect", str(MODEL)])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module("gatefold", run_name="__main__")
    assert f"{MODEL}: ONNX, operator set " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["inspect", "--help"],
                                       ["verify", "--help"], ["--version"]], ids=" ".join)
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*arguments) == 0
    captured = capsys.readouterr()
    assert "gatefold" in captured.out
    assert captured.err == ""
