"""Three simulators that share nothing give the same words in the same cycles."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hdl.network import Network
from hdl.pipeline import FAST, SHORT
from sim.manifest import Manifest
from sim.simulator import SimulatorError, build_simulator
from sim.vectors import Vectors
from sim.verify import FAULT_TESTS, TESTS, VerifyResult, verify
from tests.networks import FORMATS, folded, random_codes, random_network
from tests.streams import run_network
from tests.test_netlist import tiny
from tests.test_regression import DESIGNS, write_design

ICARUS = shutil.which("iverilog") is not None
needs_icarus = pytest.mark.skipif(not ICARUS, reason="Icarus Verilog is not installed")


def _when(result: VerifyResult) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """When each output was taken, and each state shown, since the first step was taken."""
    timing, begin = result.timing, int(result.timing.x[0, 1])
    return timing.y - begin, {name: cycles - begin for name, cycles in timing.states.items()}


@pytest.mark.parametrize("name", [
    "one row", *(pytest.param(name, marks=pytest.mark.slow) for name in DESIGNS
                 if name != "one row")])
def test_three_simulators(tmp_path: Path, name: str) -> None:
    """Amaranth's own, Verilator, and Icarus where it is installed; at full speed."""
    formats, inputs, hidden, outputs, size, units, columns = DESIGNS[name]
    rng = np.random.default_rng(5)
    network = random_network(rng, FORMATS[formats], inputs, hidden, outputs, every_step=True,
                             size=size)
    lengths = np.array([6, 1, 4])
    vectors = Vectors.compute(network, random_codes(rng, network.x, (3, 6, inputs)), lengths)
    write_design(tmp_path, network, units, columns, vectors)

    sequences = [vectors.x[vectors.steps(n)] for n in range(vectors.sequences)]
    # The same network once more: the other one has become Verilog.
    seen = run_network(
        Network(network, foldings=folded(network, units, columns), pipeline=SHORT,
                longest=int(lengths.max())), sequences, outputs=len(vectors.y))
    assert [word for word, _ in seen.words] == vectors.y.tolist()
    ends = np.cumsum(vectors.lengths) - 1
    assert [n for n, (_, last) in enumerate(seen.words) if last] == ends.tolist()

    begin = seen.taken[0]
    given = np.stack([seen.given, seen.done], axis=1) - begin
    shown = {}
    for tensor, some in seen.states.items():
        units_of = vectors.states[tensor].shape[1]
        assert seen.states_of(tensor, 0, units_of) == vectors.states[tensor].tolist()
        shown[tensor] = np.array(seen.steps_of(tensor, 0, units_of)) - begin
        assert some
    for simulator in ("verilator", *(["icarus"] if ICARUS else [])):
        result = verify(tmp_path, simulator=simulator, tests=["full_speed"], seed=5)
        assert result.failure is None
        y, states = _when(result)
        assert np.array_equal(y, given)
        assert states.keys() == shown.keys()
        for tensor, cycles in states.items():
            assert np.array_equal(cycles, shown[tensor])


@needs_icarus
@pytest.mark.parametrize(("name", "family"), [
    ("one row", None),
    *(pytest.param(name, family, marks=pytest.mark.slow)
      for name in DESIGNS for family in (None, "ecp5", "ice40"))])
def test_icarus(tmp_path: Path, name: str, family: str | None) -> None:
    """The designs of the regression, with every test; none of them puts out an X."""
    formats, inputs, hidden, outputs, size, units, columns = DESIGNS[name]
    rng = np.random.default_rng(0)
    network = random_network(rng, FORMATS[formats], inputs, hidden, outputs, every_step=False,
                             size=size)
    lengths = rng.integers(1, 12, 6)
    x = random_codes(rng, network.x, (len(lengths), 12, inputs))
    dut = write_design(tmp_path, network, units, columns, Vectors.compute(network, x, lengths),
                       family=family, pipeline=FAST if family else SHORT)
    result = verify(tmp_path, simulator="icarus", seed=1, effort=1_000)
    assert result.failure is None
    assert [test.test for test in result.tests] == [
        *TESTS, *(FAULT_TESTS if dut.in_lanes < inputs else ())]
    assert all(test.words and test.states for test in result.tests)


@needs_icarus
def test_icarus_finds_what_is_wrong(tmp_path: Path) -> None:
    tiny(tmp_path, None)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["probes"][0]["width"] -= 1
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    result = verify(tmp_path, simulator="icarus", tests=["full_speed"], seed=1)
    assert result.failure is not None
    assert "lstm0.c" in result.failure


def test_icarus_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(tmp_path, None)
    monkeypatch.setattr("sim.simulator.shutil.which", lambda name: None)
    with pytest.raises(SimulatorError, match=r"^Icarus Verilog is not installed \(Debian, Ubuntu: "
                                             r"apt install iverilog\)$"):
        verify(tmp_path, simulator="icarus")
    with pytest.raises(ValueError, match=r"^simulator must be one of verilator, icarus, not "
                                         r"'ghdl'$"):
        build_simulator(Manifest.load(tmp_path), tmp_path, simulator="ghdl")
