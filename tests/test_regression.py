"""All tests of the bench on generated Verilog: drivers, stalls, resets, states, streams, cycles."""

import json
from pathlib import Path

import numpy as np
import pytest

from golden.quantized_network import QuantizedNetwork
from hdl.families import FAMILIES
from hdl.network import Network
from hdl.pipeline import FAST, SHORT, Pipeline
from hdl.verilog import generate
from sim.cells import block_models, cell_models
from sim.manifest import MANIFEST
from sim.vectors import VECTORS, Vectors
from sim.verify import FAULT_TESTS, STREAM_TESTS, TESTS, verify
from tests.cases import sparse, thinned
from tests.networks import FORMATS, STANDARD, folded, random_codes, random_network

# Formats, inputs, hidden units of each layer, outputs, size of the weights, units, columns.
DESIGNS = {
    "one row": ("16 bits", 2, (5,), 1, 0.3, 1, 1),
    "two rows by two": ("16 bits", 3, (6,), 2, 0.3, 2, 2),
    "all units, several lanes": ("8 bits", 1, (6,), 3, 0.6, 6, 3),
    "stack that saturates": ("8 bits", 3, (4, 3), 2, 1.0, 2, 3),
}
# The same, and the streams: so much work that the array is never idle, or so little that the
# recurrence sets the pace.
INTERLEAVED = {
    "two streams": ("16 bits", 3, (6,), 2, 0.3, 1, 2, 2),
    "a stack, three streams": ("8 bits", 3, (4, 3), 2, 1.0, 2, 3, 3),
}


def write_design(folder: Path, network: QuantizedNetwork, units: int, columns: int,
                 vectors: Vectors, *, streams: int = 1, family: str | None = None,
                 pipeline: Pipeline = SHORT) -> Network:
    dut = Network(network, streams=streams, pipeline=pipeline, longest=int(vectors.lengths.max()),
                  foldings=folded(network, units, columns, streams=streams, pipeline=pipeline))
    save_design(folder, dut, vectors, family=family)
    return dut


def save_design(folder: Path, dut: Network, vectors: Vectors, *, family: str | None = None
                ) -> None:
    verilog, manifest = generate(dut, family=family)
    (folder / manifest["verilog"]).write_text(verilog)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    vectors.save(folder / VECTORS)


@pytest.mark.parametrize(("name", "every_step"), thinned(DESIGNS, [True, False], every=4))
def test_bench(tmp_path: Path, name: str, every_step: bool) -> None:
    """Bit-exact in every test, and the cycles are those of the model."""
    formats, inputs, hidden, outputs, size, units, columns = DESIGNS[name]
    rng = np.random.default_rng(0)
    network = random_network(rng, FORMATS[formats], inputs, hidden, outputs,
                             every_step=every_step, size=size)
    lengths = rng.integers(1, 25, 12)
    x = random_codes(rng, network.x, (len(lengths), 24, inputs))
    dut = write_design(tmp_path, network, units, columns, Vectors.compute(network, x, lengths))
    result = verify(tmp_path, seed=1, effort=20_000)
    assert result.failure is None
    assert [test.test for test in result.tests] == [
        *TESTS, *(FAULT_TESTS if dut.in_lanes < inputs else ())]
    assert all(test.words and test.states for test in result.tests)
    if every_step:
        assert result.timing_alone.latency == dut.latency


@pytest.mark.parametrize(("name", "every_step"), thinned(INTERLEAVED, [True, False], every=3))
def test_streams(tmp_path: Path, name: str, every_step: bool) -> None:
    """Each stream computes what its sequences give alone, at the pace of the model."""
    formats, inputs, hidden, outputs, size, units, columns, streams = INTERLEAVED[name]
    rng = np.random.default_rng(3)
    network = random_network(rng, FORMATS[formats], inputs, hidden, outputs,
                             every_step=every_step, size=size)
    lengths = np.r_[rng.integers(1, 25, 10), 30, 40]
    x = random_codes(rng, network.x, (len(lengths), 40, inputs))
    write_design(tmp_path, network, units, columns, Vectors.compute(network, x, lengths),
                 streams=streams)
    result = verify(tmp_path, seed=3, effort=20_000)
    assert result.failure is None
    assert [test.test for test in result.tests] == [*TESTS, *STREAM_TESTS, *FAULT_TESTS]
    assert all(test.words and test.states for test in result.tests)


def test_every_family_has_models() -> None:
    assert all(path.is_file() for family in FAMILIES
               for path in (*block_models(family), *cell_models(family)))


@pytest.mark.parametrize("family", sparse(FAMILIES, every=2))
def test_families(tmp_path: Path, family: str) -> None:
    """The blocks of a device, as their models behave, compute the same."""
    rng = np.random.default_rng(4)
    network = random_network(rng, STANDARD, 3, (5,), 2, every_step=True, size=0.3)
    vectors = Vectors.compute(network, random_codes(rng, network.x, (6, 20, 3)), np.full(6, 20))
    write_design(tmp_path, network, 2, 2, vectors, family=family)
    result = verify(tmp_path, tests=["full_speed", "random_stalls", "reset_midway"], seed=4,
                    effort=20_000)
    assert result.failure is None


@pytest.mark.parametrize(("units", "columns"), [
    (3, 1), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((1, 2), (4, 6)))])
def test_foldings_give_the_same_words(tmp_path: Path, units: int, columns: int) -> None:
    """One set of vectors serves every folding."""
    rng = np.random.default_rng(2)
    network = random_network(rng, STANDARD, 2, (4,), 1, every_step=True, size=0.3)
    vectors = Vectors.compute(network, random_codes(rng, network.x, (6, 20, 2)), np.full(6, 20))
    write_design(tmp_path, network, units, columns, vectors)
    assert verify(tmp_path, tests=["full_speed"], seed=2).failure is None


@pytest.mark.slow
@pytest.mark.parametrize("family", [None, *FAMILIES])
def test_all_registers(tmp_path: Path, family: str | None) -> None:
    """FAST, with what is in the Verilog alone: copies of registers, more than one of them."""
    rng = np.random.default_rng(3)
    network = random_network(rng, STANDARD, 2, (6,), 1, every_step=True, size=0.3)
    vectors = Vectors.compute(network, random_codes(rng, network.x, (6, 12, 2)), np.full(6, 12))
    dut = write_design(tmp_path, network, 6, 1, vectors, family=family, pipeline=FAST)
    result = verify(tmp_path, tests=["full_speed", "random_stalls"], seed=3)
    assert result.failure is None
    # Behind these come sequences of a single step, which wait for the two pages of the head.
    intervals = result.timing.intervals("lstm0.h")[:6 * 12 - 1]
    assert set(intervals.tolist()) == {dut.work, dut.step}
