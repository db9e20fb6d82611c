import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.checker import Checker, Difference
from sim.manifest import MANIFEST, Manifest, ManifestError, Stream
from sim.model import Model
from sim.monitor import Beats, Recording, Values, bench_verilog
from sim.simulator import SimulatorError, build_simulator
from sim.vectors import VECTORS, Vectors, VectorsError
from sim.verify import TESTS, VerifyResult, verify

# A stand-in for a network, small enough to be right at sight: c sums up x and h = -c = y.
# An element 0 of MAGIC + n at the input makes it do the n-th thing wrong, so that one simulator
# serves all tests. A step takes 10 cycles.
MAGIC = 0x7000
FAULTS = {name: MAGIC + 1 + n for n, name in enumerate((
    "wrong c", "wrong h", "wrong y", "missing word", "extra word", "tlast early", "no tlast",
    "state kept", "withdrawn", "waits for ready", "hangs", "malformed", "saturates",
    "survives reset", "missing c", "not extended"))}
VERILOG = """
module \\standin.lstm0 (
  input clk, input rst, input signed [47:0] x, input clear, input [2:0] phase, input [15:0] fault,
  output reg [53:0] h
);
  reg [53:0] c;
  reg [1:0] probe_c_valid;
  reg [35:0] probe_c_data;
  wire [1:0] probe_h_valid;
  wire [35:0] probe_h_data;
  integer n;
  initial begin c = 0; probe_c_valid = 0; end
  assign probe_h_valid = phase == 4 ? 2'b11 : phase == 5 ? 2'b01 : 2'b00;
  assign probe_h_data = phase == 4 ? h[35:0] ^ (fault == 2) : {18'h2aaaa, h[53:36]};
  always @(posedge clk) begin
    probe_c_valid <= 0;
    case (phase)
      1: for (n = 0; n < 3; n = n + 1)
        c[18 * n +: 18] <= c[18 * n +: 18] + {{2{x[16 * n + 15]}}, x[16 * n +: 16]};
      2: begin
        probe_c_valid <= 2'b11;
        probe_c_data <= c[35:0];
        for (n = 0; n < 3; n = n + 1) h[18 * n +: 18] <= -c[18 * n +: 18];
      end
      3: begin
        probe_c_valid <= fault == 15 ? 2'b00 : 2'b01;
        probe_c_data <= {18'h15555, c[53:36] ^ (fault == 1 ? 18'h4 : 18'h0)};
      end
      7: if (clear && fault != 8) c <= 0;
    endcase
    if (rst) probe_c_valid <= 0;
    if (rst && fault != 14) c <= 0;
  end
endmodule

module standin (
  input clk, input rst,
  input [31:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready, input s_axis_tlast,
  output [47:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready, output m_axis_tlast,
  output reg [1:0] saturated, output reg malformed
);
  // Phases: 0 takes two beats, 1 to 5 compute, 6 sends two beats, 7 ends the step.
  reg [2:0] phase;
  reg beat, last, extra, offered;
  reg [47:0] x;
  wire [15:0] fault = x[15:12] == 4'h7 ? x[11:0] : 16'd0;
  wire [53:0] h;
  wire [53:0] y = h ^ (fault == 3 ? 54'd1 << 40 : 54'd0);
  wire taken = m_axis_tvalid && m_axis_tready;
  \\standin.lstm0 lstm0 (.clk(clk), .rst(rst), .x(x), .clear(last), .phase(phase), .fault(fault),
                         .h(h));
  initial begin
    phase = 0; beat = 0; extra = 0; offered = 0; saturated = 0; malformed = 0; x = 0; last = 0;
  end
  assign s_axis_tready = phase == 0;
  assign m_axis_tvalid = phase == 6 && !(fault == 9 && offered) && !(fault == 10 && !m_axis_tready)
                         && fault != 11;
  assign m_axis_tdata = beat ? {24'h5a5a5a, {6{y[53]}}, y[53:36]}
                             : {{6{y[35]}}, y[35:18], {6{y[17] && fault != 16}}, y[17:0]};
  assign m_axis_tlast = (last && beat && fault != 7) || (fault == 6 && beat);
  always @(posedge clk) begin
    offered <= m_axis_tvalid && !m_axis_tready;
    case (phase)
      0: if (s_axis_tvalid) begin
        if (beat) x[47:32] <= s_axis_tdata[15:0]; else x[31:0] <= s_axis_tdata;
        beat <= !beat;
        last <= s_axis_tlast;
        if (beat) phase <= 1;
      end
      6: if (taken) begin
        beat <= !beat;
        extra <= beat && fault == 5;
        if (fault == 5 ? extra : beat || fault == 4) begin phase <= 7; beat <= 0; end
      end
      7: begin
        phase <= 0;
        if (fault == 12) malformed <= 1;
        if (fault == 13) saturated[1] <= 1;
      end
      default: phase <= phase + 1;
    endcase
    if (rst) begin
      beat <= 0; extra <= 0; offered <= 0; saturated <= 0; malformed <= 0;
      phase <= 0;
      if (fault != 14) x <= 0;
    end
  end
endmodule
"""
SHAPE = {
    "name": "standin", "verilog": "standin.v", "clock": "clk", "reset": "rst",
    "input": {"prefix": "s_axis", "elements": 3, "lanes": 2, "bytes": 2,
              "format": {"kind": "SQ", "i": 4, "f": 12}},
    "output": {"prefix": "m_axis", "elements": 3, "lanes": 2, "bytes": 3,
               "format": {"kind": "SQ", "i": 6, "f": 12}, "every_step": True},
    "layers": [],
    "saturation": ["lstm0.c", "lstm0.h"],
    "probes": [{"tensor": tensor, "layer": 0, "units": 3, "lanes": 2, "width": 18,
                "valid": f"standin.lstm0.probe_{tensor}_valid",
                "data": f"standin.lstm0.probe_{tensor}_data"} for tensor in ("c", "h")],
    "cycles": {"step": 10},
}
LENGTHS = (5, 1, 30, 1, 2, 12)


def sum_up(x: np.ndarray, lengths: tuple[int, ...] = LENGTHS) -> Vectors:
    """The stand-in's golden model."""
    parts = np.split(x, np.cumsum(lengths)[:-1])
    c = np.concatenate([np.cumsum(part, axis=0) for part in parts])
    c = (c + (1 << 17)) % (1 << 18) - (1 << 17)
    h = np.where(c == -(1 << 17), c, -c)
    return Vectors(lengths=np.array(lengths), x=x, y=h, states={"lstm0.c": c, "lstm0.h": h},
                   saturated={"lstm0.c": 0, "lstm0.h": 0}, every_step=True)


def random_input(seed: int, steps: int = sum(LENGTHS)) -> np.ndarray:
    # Below MAGIC, where nothing is wrong.
    return np.random.default_rng(seed).integers(-(1 << 15), MAGIC, size=(steps, 3))


def write_design(folder: Path, vectors: Vectors) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "standin.v").write_text(VERILOG)
    (folder / "manifest.json").write_text(json.dumps(SHAPE))
    vectors.save(folder / "vectors.npz")
    return folder


@pytest.fixture(scope="session")
def simulators(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One folder of simulators for all processes of pytest."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "simulators"
    folder.mkdir(exist_ok=True)
    return folder


def planted(folder: Path, simulators: Path, fault: str, tests: tuple[str, ...], *,
            step: int = 13) -> VerifyResult:
    x = random_input(7)
    x[step, 0] = FAULTS[fault]
    return verify(write_design(folder, sum_up(x)), tests=tests, seed=1, simulators=simulators)


def test_names() -> None:
    source = (Path(__file__).parents[1] / "sim/bench.py").read_text()
    assert tuple(re.findall(r"@cocotb\.test\(\)\nasync def (\w+)", source)) == TESTS


@pytest.mark.parametrize("seed", [0, 1])
def test_right(tmp_path: Path, simulators: Path, seed: int) -> None:
    vectors = sum_up(random_input(seed))
    told: list[str] = []
    result = verify(write_design(tmp_path, vectors), seed=seed, simulators=simulators,
                    progress=told.append)
    assert result.failure is None
    assert result.passed
    assert result.seed == seed
    assert [test.test for test in result.tests] == list(TESTS)
    assert [line for line in told if line.startswith("test ")] == [f"test {n}" for n in TESTS]
    full = result.tests[0]
    # All sequences back to back, and one of length 1 on its own.
    assert (full.sequences, full.steps) == (len(LENGTHS) + 1, sum(LENGTHS) + 1)
    assert full.words == 2 * full.steps
    assert full.states == 2 * 3 * full.steps
    for test in result.tests:
        assert test.words >= 2 * test.steps > 0
        assert test.cycles >= 10 * test.steps
    assert result.words == sum(test.words for test in result.tests)
    # 2 cycles in, 5 to compute, 2 out, and one more.
    assert set(result.timing.intervals("lstm0.h")) == {10}
    assert result.timing.latency == result.timing_alone.latency == 6
    assert result.timing.lengths.tolist() == list(LENGTHS)
    assert np.array_equal(result.timing.x[:, 1] + 6, result.timing.y[:, 0])
    assert result.timing_alone.lengths.tolist() == [1]
    assert "PASS" in result.log.read_text()


# The fault is in sequence 2, step 7.
AT = "sequence 2, step 7, tensor"


@pytest.mark.parametrize(("fault", "message"), [
    ("wrong c", rf"{AT} lstm0\.c, unit 2: expected -?\d+, got -?\d+, in cycle \d+"),
    ("missing c", rf"{AT} lstm0\.c, unit 2: expected"),
    ("wrong h", rf"{AT} lstm0\.h, unit 0: expected"),
    ("wrong y", rf"{AT} y, unit 2: expected"),
    ("not extended", rf"{AT} y, unit 0: expected"),
    ("missing word", rf"{AT} y, unit 2: expected"),
    ("extra word", r"sequence 2, step 8, tensor y, unit 0: expected"),
    ("tlast early", rf"{AT} y, word 1: expected TLAST 0, got 1, in cycle \d+"),
    ("hangs", rf"{AT} y, word 0: missing \(76 of 102 did not come\)"),
    ("malformed", r"the design reports a malformed input"),
    ("saturates", r"the design reports that lstm0\.h saturated, but golden"),
])
def test_planted(tmp_path: Path, simulators: Path, fault: str, message: str) -> None:
    result = planted(tmp_path, simulators, fault, ("full_speed",))
    assert result.failure is not None
    assert re.match(f"full_speed, seed 1: {message}", result.failure), result.failure
    assert not result.passed


@pytest.mark.parametrize(("fault", "step", "message"), [
    ("no tlast", 35, "sequence 2, step 29, tensor y, word 1: expected TLAST 1, got 0"),
    ("state kept", 35, "sequence 3, step 0, tensor lstm0.c, unit 0: expected"),
    ("extra word", 50, "tensor y: 1 more words than expected, after the end of the last sequence"),
    ("missing word", 50, "sequence 5, step 11, tensor y, word 1: missing (1 of 102 did not come)"),
    ("missing c", 50, "sequence 5, step 11, tensor lstm0.c, unit 2: missing"),
])
def test_planted_at_end(tmp_path: Path, simulators: Path, fault: str, step: int, message: str
                        ) -> None:
    result = planted(tmp_path, simulators, fault, ("full_speed",), step=step)
    assert result.failure is not None
    assert result.failure.startswith(f"full_speed, seed 1: {message}")


@pytest.mark.parametrize(("fault", "test", "message"), [
    ("withdrawn", "random_stalls", "m_axis: a word was changed or withdrawn"),
    ("withdrawn", "axi_random_stalls", "m_axis: a word was changed or withdrawn"),
    ("waits for ready", "ready_held_low", "with TREADY low the design offers no word"),
    ("survives reset", "reset_midway", "tensor lstm0.c, unit "),
    ("wrong y", "axi_full_speed", "tensor y, unit 2: expected"),
    ("wrong h", "single_steps", "sequence 0, step 0, tensor lstm0.h, unit 0: expected"),
])
def test_planted_for_another_test(tmp_path: Path, simulators: Path, fault: str, test: str,
                                  message: str) -> None:
    # Every step is wrong, so that every choice of sequences meets one.
    x = random_input(7, steps=9)
    x[:, 0] = FAULTS[fault]
    lengths = (1, 8) if test == "single_steps" else (4, 5)
    if test == "ready_held_low":
        lengths = (1, 8)
    vectors = sum_up(x, lengths)
    result = verify(write_design(tmp_path, vectors), tests=(test,), seed=1, simulators=simulators)
    assert result.failure is not None
    assert result.failure.startswith(f"{test}, seed 1: ")
    assert message in result.failure


def test_seed_repeats(tmp_path: Path, simulators: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    design = write_design(tmp_path, sum_up(random_input(3)))

    def run() -> tuple[int, int, bytes]:
        result = verify(design, tests=("random_stalls",), simulators=simulators)
        assert result.passed
        return (result.seed, result.tests[0].cycles,
                (design / "sim/output.bin").read_bytes())

    monkeypatch.setenv("GATEFOLD_SEED", "41")
    first = run()
    assert first[0] == 41
    assert run() == first
    monkeypatch.setenv("GATEFOLD_SEED", "42")
    assert run()[2] != first[2]


def test_simulator_is_kept(tmp_path: Path, simulators: Path) -> None:
    manifest = Manifest.load(write_design(tmp_path, sum_up(random_input(0))))
    program = build_simulator(manifest, simulators)
    told: list[str] = []
    assert build_simulator(manifest, simulators, progress=told.append) == program
    assert not told
    (tmp_path / "standin.v").write_text(VERILOG.replace("phase == 6 && ", "phaze == 6 && "))
    with pytest.raises(SimulatorError, match=r"^Verilator failed: %Error.*standin\.v.*phaze"):
        build_simulator(manifest, simulators)


def test_only_ports_are_public(tmp_path: Path) -> None:
    manifest = Manifest.load(write_design(tmp_path, sum_up(random_input(0))))
    text = bench_verilog(manifest)
    header, body = text.split(");", 1)
    assert "public_flat_rw" in header
    assert "public" not in body
    assert "dut.lstm0.probe_c_valid" in body


def test_stream_bytes() -> None:
    stream = Stream(prefix="s_axis", elements=3, lanes=2, bytes=3)
    assert (stream.beats, stream.width) == (2, 48)
    packed = stream.pack(np.array([[1, -2, 0x7fffff], [-0x800000, 0, 5]]),
                         np.random.default_rng(0))
    assert packed.shape == (4, 6)
    assert packed[0].tolist() == [1, 0, 0, 0xfe, 0xff, 0xff]
    assert packed[1, :3].tolist() == [0xff, 0xff, 0x7f]
    assert stream.unpack(packed)[:, 0].tolist() == [1, 0x7fffff, -0x800000, 5]
    # What nobody reads is not always the same.
    assert packed[1, 3:].tolist() != packed[3, 3:].tolist()


def test_recording(tmp_path: Path) -> None:
    manifest = Manifest.load(write_design(tmp_path, sum_up(random_input(0))))
    for name in ("input", "output", "probe0", "probe1"):
        (tmp_path / f"{name}.bin").write_bytes(b"")
    recording = Recording(manifest, tmp_path)
    assert len(recording.outputs().cycles) == len(recording.probes()[0].values) == 0
    minus_one = (1 << 18) - 1

    def word(mask: int, low: int, high: int, cycle: int) -> bytes:
        data = low | high << 18
        return np.array([cycle, 1, mask, data & 0xffffffff, data >> 32], dtype="<u4").tobytes()

    with (tmp_path / "probe0.bin").open("ab") as file:
        file.write(word(3, minus_one, 5, cycle=9) + word(2, 7, 1 << 17, cycle=11))
    c, h = recording.probes()
    assert c.values.tolist() == [-1, 5, -(1 << 17)]
    assert c.cycles.tolist() == [(1 << 32) + 9, (1 << 32) + 9, (1 << 32) + 11]
    assert len(h.values) == 0
    assert len(recording.probes()[0].values) == 0


def perfect(checker_model: Model, order: list[int]) -> tuple[Beats, list[Values]]:
    """The recording of a design without fault."""
    expected = checker_model.expected(order)
    stream = checker_model.manifest.output
    data = stream.pack(expected.output.values, np.random.default_rng(0))
    last = np.zeros((len(expected.output.last), stream.beats), dtype=bool)
    last[:, -1] = expected.output.last
    return (Beats(cycles=np.arange(len(data)), last=last.ravel(), data=data),
            [Values(cycles=np.arange(rows.values.size), values=rows.values.ravel().copy())
             for rows in expected.probes])


@pytest.fixture
def model(tmp_path: Path) -> Model:
    vectors = sum_up(random_input(5))
    return Model(Manifest.load(write_design(tmp_path, vectors)), vectors)


def test_checker_accepts_in_pieces(model: Model) -> None:
    order = [2, 0, 2]
    beats, values = perfect(model, order)
    checker = Checker(model.manifest, model.expected(order))
    for part in (slice(0, 5), slice(5, 5), slice(5, 1000)):
        checker.feed(
            Beats(cycles=beats.cycles[part], last=beats.last[part], data=beats.data[part]),
            [Values(cycles=v.cycles[part], values=v.values[part]) for v in values])
    checker.finish()
    assert (checker.words, checker.states) == (2 * 65, 2 * 3 * 65)


def test_checker_names_the_first(model: Model) -> None:
    # Sequence 2 is played twice; the error is in the second, and in what follows from it.
    order = [2, 0, 2]
    beats, values = perfect(model, order)
    row = 30 + 5 + 4
    values[0].values[3 * row + 1] ^= 8
    values[1].values[3 * row] ^= 1
    beats.data[2 * row, 0] ^= 1
    with pytest.raises(Difference, match=r"^sequence 2, step 4, tensor lstm0\.c, unit 1: "
                                         r"expected -?\d+, got -?\d+, in cycle 118$"):
        Checker(model.manifest, model.expected(order)).feed(beats, values)


def test_checker_ignores_unused_lanes(model: Model) -> None:
    beats, values = perfect(model, [0])
    beats.data[1::2, 3:] ^= 0xff
    checker = Checker(model.manifest, model.expected([0]))
    checker.feed(beats, values)
    checker.finish()


def test_manifest_errors(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"has no manifest\.json$"):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match=r"manifest\.json is not JSON: "):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({**SHAPE, "output": {}}))
    with pytest.raises(ManifestError, match=r"is not a design's manifest: KeyError 'every_step'$"):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(SHAPE))
    with pytest.raises(ManifestError, match=r"has no standin\.v, which its manifest names$"):
        Manifest.load(tmp_path)


def test_vectors_errors(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npz"
    with pytest.raises(VectorsError, match=r"has no vectors\.npz$"):
        Vectors.load(path, every_step=True)
    path.write_text("no")
    with pytest.raises(VectorsError, match=r"is not an \.npz file of plain arrays$"):
        Vectors.load(path, every_step=True)
    np.savez(path, x=np.zeros((1, 3)))
    with pytest.raises(VectorsError, match=r"has no array 'lengths'$"):
        Vectors.load(path, every_step=True)
    vectors = sum_up(random_input(0))
    with pytest.raises(VectorsError, match=r"^y must have 6 rows, not the shape \[51, 3\]$"):
        replace(vectors, every_step=False)
    with pytest.raises(VectorsError, match=r"^lengths must be a list of positive integers"):
        replace(vectors, lengths=np.array([51, 0]))


def test_vectors_file(tmp_path: Path) -> None:
    vectors = sum_up(random_input(0))
    vectors.save(tmp_path / "vectors.npz")
    again = Vectors.load(tmp_path / "vectors.npz", every_step=True)
    assert np.array_equal(again.x, vectors.x)
    assert np.array_equal(again.states["lstm0.h"], vectors.states["lstm0.h"])
    assert again.saturated == vectors.saturated
    assert again.outputs(2) == slice(6, 36)


def test_verify_errors(tmp_path: Path, simulators: Path) -> None:
    vectors = sum_up(random_input(0))
    design = write_design(tmp_path, vectors)
    with pytest.raises(ValueError, match=r"^test must be one of full_speed, .*, not all$"):
        verify(design, tests=("all",))
    with pytest.raises(ValueError, match=r"^seed must not be negative, not -1$"):
        verify(design, seed=-1)
    replace(vectors, states={}).save(design / "vectors.npz")
    with pytest.raises(VectorsError, match=r"^the vectors have no lstm0\.c, which the design sho"):
        verify(design)
    sum_up(random_input(0), (51,)).save(design / "vectors.npz")
    with pytest.raises(VectorsError, match=r"single_steps needs a sequence of length 1"):
        verify(design)
    assert not (design / "sim").exists()


def test_simulator_dies(tmp_path: Path, simulators: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    design = write_design(tmp_path, sum_up(random_input(0)))
    monkeypatch.setenv("COCOTB_TEST_FILTER", "")
    monkeypatch.setattr("sim.verify.simulator_environment", lambda **settings: {})
    result = verify(design, tests=("full_speed",), seed=0, simulators=simulators)
    assert result.failure is not None
    assert result.failure.startswith("the simulator left no result (exit status ")
    assert not result.tests


@pytest.mark.parametrize(("path", "value", "message"), [
    (("input", "lanes"), 0, "lanes must be an integer from 1 on, not 0"),
    (("output", "bytes"), "2", "bytes must be an integer from 1 on, not '2'"),
    (("output", "every_step"), 1, "every_step must be true or false, not 1"),
    (("cycles", "step"), None, "step must be an integer from 1 on, not None"),
    (("name",), 3, "name must be a name, not 3"),
    (("probes", 0, "valid"), [], r"valid must be a name, not \[\]"),
])
def test_manifest_with_a_wrong_value(tmp_path: Path, path: tuple[str | int, ...], value: object,
                                     message: str) -> None:
    write_design(tmp_path, sum_up(random_input(0)))
    file = tmp_path / MANIFEST
    data = json.loads(file.read_text())
    part = data
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    file.write_text(json.dumps(data))
    with pytest.raises(ManifestError, match=f"^{file}: {message}$"):
        Manifest.load(tmp_path)


def test_vectors_that_are_damaged(tmp_path: Path) -> None:
    write_design(tmp_path, sum_up(random_input(0)))
    file = tmp_path / VECTORS
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)
    with pytest.raises(VectorsError, match=r"is not an \.npz file of plain arrays$"):
        Vectors.load(tmp_path / VECTORS, every_step=False)
