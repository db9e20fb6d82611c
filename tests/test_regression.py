"""All tests of the bench on generated Verilog: drivers, stalls, resets, states, cycles."""

import json
from pathlib import Path

import numpy as np
import pytest

from golden.quantized_network import QuantizedNetwork
from hdl.cycles import Folding
from hdl.network import Network
from hdl.verilog import generate
from sim.manifest import MANIFEST
from sim.vectors import VECTORS, Vectors
from sim.verify import TESTS, verify
from tests.networks import FORMATS, STANDARD, random_codes, random_network

# Formats, inputs, hidden units of each layer, outputs, size of the weights, units, columns.
DESIGNS = {
    "one row": ("16 bits", 2, (5,), 1, 0.3, 1, 1),
    "two rows by two": ("16 bits", 3, (6,), 2, 0.3, 2, 2),
    "all units, several lanes": ("8 bits", 1, (6,), 3, 0.6, 6, 3),
    "stack that saturates": ("8 bits", 3, (4, 3), 2, 1.0, 2, 3),
}


def write_design(folder: Path, network: QuantizedNetwork, units: int, columns: int,
                 vectors: Vectors) -> Network:
    dut = Network(network, foldings=[
        Folding.choose(layer.inputs, layer.hidden, units=min(units, layer.hidden),
                       columns=min(columns, layer.inputs + layer.hidden))
        for layer in network.layers])
    verilog, manifest = generate(dut)
    (folder / manifest["verilog"]).write_text(verilog)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    vectors.save(folder / VECTORS)
    return dut


@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("name", DESIGNS)
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
    assert [test.test for test in result.tests] == list(TESTS)
    assert all(test.words and test.states for test in result.tests)
    # Once the pipeline of layers is full, each layer takes the step of the slowest.
    last = f"lstm{len(hidden) - 1}.h"
    assert set(result.timing.intervals(last)[3 * len(hidden):].tolist()) == {dut.step}
    if every_step:
        assert result.timing_alone.latency == dut.latency


@pytest.mark.parametrize(("units", "columns"), [(1, 2), (3, 1), (4, 6)])
def test_foldings_give_the_same_words(tmp_path: Path, units: int, columns: int) -> None:
    """One set of vectors serves every folding."""
    rng = np.random.default_rng(2)
    network = random_network(rng, STANDARD, 2, (4,), 1, every_step=True, size=0.3)
    vectors = Vectors.compute(network, random_codes(rng, network.x, (6, 20, 2)), np.full(6, 20))
    write_design(tmp_path, network, units, columns, vectors)
    assert verify(tmp_path, tests=["full_speed"], seed=2).failure is None
