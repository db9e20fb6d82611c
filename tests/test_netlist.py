"""The bench on mapped netlists: what Yosys makes of a core for a device, cell by cell."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fpga.boards import BOARDS
from fpga.netlist import synthesis
from gatefold.design_forms import as_netlist
from golden.quantized_network import QuantizedNetwork
from hdl.families import FAMILIES
from hdl.pipeline import FAST, SHORT
from sim.manifest import Manifest, ManifestError
from sim.simulator import SimulatorError
from sim.vectors import Vectors
from sim.verify import FAULT_TESTS, READ_TESTS, STATE_TESTS, STREAM_TESTS, TESTS, verify
from tests.cases import sparse
from tests.networks import FORMATS, STANDARD, random_codes, random_network
from tests.test_bidirectional import stack
from tests.test_head import vector_network
from tests.test_regression import write_design


def tiny(folder: Path, family: str | None) -> None:
    """One hidden unit of 8 bits, and one output: whatever a core consists of, once."""
    rng = np.random.default_rng(6)
    network = random_network(rng, FORMATS["8 bits"], 1, (1,), 1, every_step=True, size=0.3)
    lengths = np.array([7, 6, 5])
    x = random_codes(rng, network.x, (3, 7, 1))
    write_design(folder, network, 1, 1, Vectors.compute(network, x, lengths), family=family)


@pytest.mark.parametrize("family", FAMILIES)
def test_netlist(tmp_path: Path, family: str) -> None:
    """Bit-exact at the ports, in every test, and in as many cycles."""
    tiny(tmp_path, family)
    netlist = as_netlist(tmp_path, family=family)
    cells = set(re.findall(r"^  (\w+) #?\(?", netlist.verilog.read_text(), re.MULTILINE))
    assert cells >= {"ecp5": {"LUT4", "TRELLIS_FF", "CCU2C", "MULT18X18D", "DP16KD"},
                     "ice40": {"SB_LUT4", "SB_DFF", "SB_CARRY", "SB_MAC16"}}[family]
    result = verify(tmp_path, manifest=netlist, seed=1, effort=2_000)
    assert result.failure is None
    assert [test.test for test in result.tests] == list(TESTS)
    assert all(test.words and not test.states for test in result.tests)


def test_it_is_the_synthesis_of_the_flow() -> None:
    assert synthesis("ecp5", "core").split() == ["synth_ecp5", "-top", "core"]
    assert synthesis("ice40", "core").split() == ["synth_ice40", "-top", "core"]
    assert {board.family for board in BOARDS.values()} == set(FAMILIES)


def some_network(name: str, rng: np.random.Generator) -> QuantizedNetwork:
    if name == "both ways":
        return stack("at the ends")
    if name == "softmax":
        return vector_network("three, row by row", "softmax", every_step=False)[1]
    network = random_network(rng, STANDARD if name == "16 bits" else FORMATS["8 bits"], 2,
                             (4, 3) if name == "streams" else (4,), 2,
                             every_step=name != "states", size=0.5)
    return (replace(network, stateful=True, states=("lstm0.c", "lstm0.h"))
            if name == "states" else network)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), [
    *((name, family) for name in ("16 bits", "streams", "states", "both ways", "softmax")
      for family in FAMILIES), ("portable", "ice40")])
def test_netlists(tmp_path: Path, name: str, family: str) -> None:
    """Designs of every kind, those of the second family with the registers for a high clock."""
    rng = np.random.default_rng(8)
    network = some_network(name, rng)
    lengths = rng.integers(1, 16, 8)
    x = random_codes(rng, network.x, (8, 15, network.inputs))
    streams = 3 if name == "streams" else 1
    write_design(tmp_path, network, 2, 2, Vectors.compute(network, x, lengths), streams=streams,
                 family=None if name == "portable" else family,
                 pipeline=SHORT if family == "ecp5" else FAST)
    result = verify(tmp_path, manifest=as_netlist(tmp_path, family=family), seed=1, effort=5_000)
    assert result.failure is None
    assert [test.test for test in result.tests] == [
        *TESTS, *(STREAM_TESTS if streams > 1 else ()),
        *((*STATE_TESTS, *READ_TESTS) if name == "states" else ()),
        *(FAULT_TESTS if Manifest.load(tmp_path).breakable else ())]
    assert all(test.words for test in result.tests)


def _inverted(table: re.Match[str]) -> str:
    return f"INIT(16'h{int(table[1], 16) ^ 0xffff:04x})"


def _flipped(contents: re.Match[str]) -> str:
    # Not a bit alone: Yosys deals the bits of a word out, and rounding may take a low one away.
    return f"{contents[1]}{int(contents[2], 16) ^ 0xffff:04x})"


LOOKUP = (r"INIT\(16'h(\w+)\)", _inverted)
FAULTS: dict[tuple[str, str], tuple[str, str | Callable[[re.Match[str]], str]]] = {
    ("ecp5", "a lookup table"): LOOKUP,
    ("ice40", "a lookup table"): LOOKUP,
    ("ecp5", "a word of a memory"): (r"(INITVAL_00\(\d+'h\w*)(\w{4})\)", _flipped),
    ("ice40", "a word of a memory"): (r"(INIT_0\(\d+'h\w*)([0-9a-f]{4})\)", _flipped),
    ("ice40", "a register of a multiplier"): (
        r"\.A_REG\(1'h1\)(?=[^;]*\) \\lstm0\.array\.accumulator0\.)", ".A_REG(1'h0)"),
}


@pytest.mark.parametrize(("family", "what"), sparse(FAULTS, every=5))
def test_planted(tmp_path: Path, family: str, what: str) -> None:
    """One cell that is wrong is found."""
    tiny(tmp_path, family)
    netlist = as_netlist(tmp_path)
    pattern, put = FAULTS[family, what]
    text, count = re.subn(pattern, put, netlist.verilog.read_text(), count=1)
    assert count == 1
    netlist.verilog.write_text(text)
    result = verify(tmp_path, manifest=netlist, seed=1, effort=2_000, tests=["random_stalls"])
    assert result.failure is not None
    assert result.failure.startswith("random_stalls, seed 1: ")


@pytest.mark.slow
def test_a_mode_without_model(tmp_path: Path) -> None:
    """What our model does not know of the ECP5's multiplier ends the compilation."""
    tiny(tmp_path, "ecp5")
    netlist = as_netlist(tmp_path)
    netlist.verilog.write_text(netlist.verilog.read_text().replace(
        '.REG_OUTPUT_CLK("CLK0")', '.REG_OUTPUT_CLK("NONE")', 1))
    with pytest.raises(SimulatorError, match=r"^Verilator failed: .*"
                                             r"MULT18X18D_mode_without_model"):
        verify(tmp_path, manifest=netlist, tests=["full_speed"])
    with pytest.raises(SimulatorError, match=r"^a netlist needs Verilator: Icarus Verilog does "
                                             r"not read Yosys's models of the cells$"):
        verify(tmp_path, manifest=netlist, simulator="icarus")


def test_wrong_family(tmp_path: Path) -> None:
    tiny(tmp_path, None)
    with pytest.raises(ManifestError, match=r"needs a family, one of ice40, since it is portable "
                                            r"Verilog$"):
        as_netlist(tmp_path)
    with pytest.raises(ManifestError, match=r"one of ice40, not xilinx$"):
        as_netlist(tmp_path, family="xilinx")
    with pytest.raises(ManifestError, match=r"is portable Verilog, of which Yosys makes blocks of "
                                            r"ecp5 in modes that have no model: for the netlist, "
                                            r"build it for ecp5, without --portable$"):
        as_netlist(tmp_path, family="ecp5")
    tiny(tmp_path, "ecp5")
    with pytest.raises(ManifestError, match=r"instantiates blocks of ecp5, so there is no netlist "
                                            r"of it for ice40$"):
        as_netlist(tmp_path, family="ice40")
    with pytest.raises(ValueError, match=r"^coverage is counted by Verilator, of the generated "
                                         r"Verilog alone$"):
        verify(tmp_path, simulator="icarus", coverage=True)
    assert Manifest.load(tmp_path).models
