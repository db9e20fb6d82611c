"""X: what registers and memories hold before the reset never reaches an output after it."""

import re
from pathlib import Path

import numpy as np
import pytest

from gatefold.design_forms import with_unknown
from hdl.pipeline import FAST
from sim.manifest import Manifest, ManifestError
from sim.monitor import unknown_output
from sim.vectors import Vectors
from sim.verify import READ_TESTS, STATE_TESTS, STREAM_TESTS, TESTS, verify
from tests.networks import random_codes
from tests.test_netlist import some_network, tiny
from tests.test_regression import write_design
from tests.test_simulators import ICARUS

# It compiles in a moment what takes Verilator and g++ a quarter of a minute.
SIMULATOR = "icarus" if ICARUS else "verilator"


def test_unknown(tmp_path: Path) -> None:
    """All that is stored begins as X, and so is the bus while nothing is offered on it."""
    tiny(tmp_path, None)
    encoded = with_unknown(tmp_path)
    # Each test begins with its own start of the simulator.
    for name in ("random_stalls", "reset_midway"):
        result = verify(tmp_path, manifest=encoded, seed=1, effort=2_000, tests=[name])
        assert result.failure is None
        assert result.words


@pytest.mark.slow
def test_streams(tmp_path: Path) -> None:
    """TID is X, too, while nothing is offered, and TREADY depends on it."""
    rng = np.random.default_rng(9)
    network = some_network("states", rng)
    write_design(tmp_path, network, 2, 2, Vectors.compute(
        network, random_codes(rng, network.x, (4, 6, 2)), rng.integers(1, 7, 4)), streams=2)
    encoded = with_unknown(tmp_path)
    for name in ("random_stalls", "set_states"):
        assert verify(tmp_path, manifest=encoded, simulator=SIMULATOR, seed=1, effort=1_000,
                      tests=[name]).failure is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["16 bits", "streams", "states", "both ways", "softmax"])
def test_designs(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(9)
    network = some_network(name, rng)
    lengths = rng.integers(1, 16, 8)
    x = random_codes(rng, network.x, (8, 15, network.inputs))
    streams = 3 if name == "streams" else 1
    write_design(tmp_path, network, 2, 2, Vectors.compute(network, x, lengths), streams=streams,
                 pipeline=FAST)
    encoded = with_unknown(tmp_path)
    for test in (*TESTS, *(STREAM_TESTS if streams > 1 else ()),
                 *((*STATE_TESTS, *READ_TESTS) if name == "states" else ())):
        assert verify(tmp_path, manifest=encoded, seed=1, effort=3_000,
                      tests=[test]).failure is None


# What is replaced in the Verilog, and by what.
FAULTS = {
    "a counter that is not reset": (
        r"(?s)(module \\gatefold\.lstm0\.sequencer .*?)    if \(rst\) begin.*?    end\n", r"\1"),
    "a queue that is not reset": (
        r"(?s)(module \\gatefold\.dense\.queue .*?)    if \(rst\) begin.*?    end\n", r"\1"),
    "a cell state that is not masked": (
        r"= \\carried\$\d+  \? \d+'h0+ : read_data;", "= read_data;"),
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if ICARUS and not n else pytest.mark.slow)
    for n, name in enumerate(FAULTS)])
def test_planted(tmp_path: Path, name: str) -> None:
    tiny(tmp_path, None)
    verilog = Manifest.load(tmp_path).verilog
    text, count = re.subn(*FAULTS[name], verilog.read_text(), count=1)
    assert count == 1
    verilog.write_text(text)
    result = verify(tmp_path, manifest=with_unknown(tmp_path), simulator=SIMULATOR, seed=1,
                    effort=2_000, tests=["random_stalls"])
    assert result.failure is not None
    assert re.match(r"random_stalls, seed 1: in cycle \d+ the design puts out an unknown value "
                    r"\(X\)", result.failure)


def test_only_portable_designs(tmp_path: Path) -> None:
    tiny(tmp_path, "ecp5")
    with pytest.raises(ManifestError, match=r"instantiates blocks of ecp5, and nobody knows what "
                                            r"they make of an X: build it with --portable$"):
        with_unknown(tmp_path)


def test_what_must_be_known(tmp_path: Path) -> None:
    """Data and TLAST only while they are offered; the rest always."""
    tiny(tmp_path, None)
    assert unknown_output(Manifest.load(tmp_path)) == (
        "(^{s_axis_tready, malformed, saturated, m_axis_tvalid}) === 1'bx || "
        "m_axis_tvalid && (^{m_axis_tdata, m_axis_tlast}) === 1'bx")
