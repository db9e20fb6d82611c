"""States of layers with a projection, with peepholes, of two directions, and under any head."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.engine_memories import memory_bits
from golden.argmax import ArgMax
from golden.calibrate import quantize, unsupported
from golden.lstm import LSTM, Bidirectional
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.quantized_network import QuantizedNetwork
from hdl.network import Network
from hdl.pipeline import FAST, MEDIUM, PIPELINES, SHORT, Pipeline
from hdl.verilog import generate
from sim.vectors import Vectors
from sim.verify import verify
from tests.networks import (
    FORMATS,
    folded,
    peepholed,
    random_codes,
    random_network,
    random_sequences,
)
from tests.streams import run_network
from tests.test_bidirectional import STACKS, stack
from tests.test_regression import write_design
from tests.test_states import (
    check,
    feed,
    outputs,
    random_pieces,
    random_state,
    run,
)

# Inputs, hidden units, hidden states where there is a projection, and what else.
KINDS: dict[str, tuple[int, tuple[int, ...], tuple[int | None, ...], dict[str, Any]]] = {
    "projected": (2, (5,), (3,), {}),
    "projected to more": (1, (2,), (4,), {"every_step": False}),
    "projected first": (2, (4, 3), (2, None), {}),
    "projected last": (3, (3, 5), (None, 2), {"every_step": False}),
    "projected both": (1, (3, 4), (4, 3), {}),
    "peepholes": (2, (4,), (), {"peepholes": True}),
    "peepholes in a stack": (1, (3, 2), (), {"peepholes": True, "every_step": False}),
    "no dense layer": (2, (5,), (), {"head": None}),
    "no dense layer, projected": (2, (4,), (2,), {"head": None, "every_step": False}),
    "index of the largest": (2, (4,), (), {"vector": True}),
    "peepholes and a projection": (2, (3,), (2,), {"peepholes": True, "vector": True,
                                                   "every_step": False}),
}


def network_of(name: str, **of_network: Any) -> tuple[np.random.Generator, QuantizedNetwork]:
    inputs, hidden, projected, more = KINDS[name]
    rng = np.random.default_rng(list(KINDS).index(name))
    network = random_network(rng, FORMATS["8 bits"], inputs, hidden, more.get("head", 3),
                             every_step=more.get("every_step", True), size=0.5, projected=projected)
    if more.get("peepholes"):
        network = peepholed(rng, network)
    if more.get("vector"):
        network = replace(network, vector=ArgMax(x=network.y, inputs=network.outputs))
    return rng, replace(network, **of_network)


SETTINGS = {"short": (1, SHORT, 0.0), "medium": (1, MEDIUM, 0.4), "fast": (3, FAST, 0.3),
            "two": (2, SHORT, 0.0)}
QUICK = {("projected first", "short"), ("peepholes", "short"),
         ("peepholes and a projection", "medium")}


@pytest.mark.parametrize(("name", "streams", "pipeline", "stall"), [
    pytest.param(name, *of, marks=() if (name, key) in QUICK else pytest.mark.slow)
    for name in KINDS for key, of in SETTINGS.items()])
def test_kept_set_and_read(name: str, streams: int, pipeline: Pipeline, stall: float) -> None:
    """Sequences that begin with given states, with kept ones, and anew; all states are read."""
    rng, network = network_of(name, stateful=True)
    network = replace(network, states=network.known_states[::-1])
    dut = Network(network, foldings=folded(network, 2, 2, pipeline=pipeline, streams=streams),
                  pipeline=pipeline, streams=streams)
    pieces = [random_pieces(rng, network, 6, given=True) for _ in range(streams)]
    pieces[0][0] = replace(pieces[0][0], given=random_state(rng, network))
    order = iter(lambda: int(rng.integers(streams)), -1)
    seen = run(dut, beats=feed(dut, pieces, order), outputs=outputs(network, pieces),
               packets=6 * streams, stall=stall)
    check(network, pieces, seen)
    assert seen.malformed == 0


@pytest.mark.parametrize("name", KINDS)
def test_golden_in_pieces(name: str) -> None:
    """A sequence that goes on from where it was cut is the sequence as a whole."""
    rng, network = network_of(name, stateful=True)
    x = random_codes(rng, network.x, (4, 7, network.inputs))
    whole = network.run(x)
    first = network.run(x[:, :3])
    second = network.run(x[:, 3:], state=first.final)
    assert np.array_equal(second.y, whole.y[:, 3:] if network.every_step else whole.y)
    assert np.array_equal(network.state_vector(second.final, network.known_states),
                          network.state_vector(whole.final, network.known_states))


def read_of(name: str, **more: Any) -> QuantizedNetwork:
    network = stack(name, **more)
    return replace(network, states=network.known_states)


@pytest.mark.parametrize("name", STACKS)
def test_golden_of_directions(name: str) -> None:
    """A direction's final state is that after its last step, in its own order."""
    network = read_of(name, begun=True)
    rng = np.random.default_rng(4)
    lengths = np.array([4, 1, 6, 2])
    result = network.run(random_codes(rng, network.x, (4, 6, network.inputs)), lengths, trace=True)
    assert result.layers is not None
    of = iter(result.layers)
    for n, layer in enumerate(network.layers):
        traces = [(each, next(of)) for each in layer.directions]
        for tensor in "hc":
            found = getattr(result.final[n], tensor)
            assert found.shape == (4, network.state_size(f"lstm{n}.{tensor}"))
            ended = [getattr(trace, tensor)[np.arange(4), 0 if each.reverse else lengths - 1]
                     for each, trace in traces]
            assert np.array_equal(found, np.concatenate(ended, axis=1))


FOLDED = {"short": (1, 1, "short", 0.0), "fast": (2, 3, "fast", 0.5)}
READ = {("at the ends", "short"), ("two directions", "fast")}


@pytest.mark.parametrize(("name", "units", "columns", "pipeline", "stall"), [
    pytest.param(name, *of, marks=() if (name, key) in READ else pytest.mark.slow)
    for name in STACKS for key, of in FOLDED.items()])
def test_read_of_directions(name: str, units: int, columns: int, pipeline: str, stall: float
                            ) -> None:
    """A packet for each sequence, forward and then backward; the outputs are as without."""
    network = read_of(name, begun=stall > 0)
    rng = np.random.default_rng(5)
    sequences = random_sequences(rng, network, 3, 1, 1, 8, 2, 8, 1, 1, 1)
    dut = Network(network, pipeline=PIPELINES[pipeline], longest=8, foldings=folded(
        network, units, columns, pipeline=PIPELINES[pipeline]))
    results = [network.run(x[None]) for x in sequences]
    words = sum(len(x) if network.every_step else 1 for x in sequences)
    for hold in (0, 400) if stall else (0,):
        seen = run_network(dut, sequences, outputs=words, packets=len(sequences), stall=stall,
                           quiet=60, hold_states=hold)
        assert [vector for vector, _ in seen.words] == [
            step for result in results
            for step in (result.y[0] if network.every_step else result.y).tolist()]
        assert [packet for _, packet in seen.packets] == [
            network.state_vector(result.final, network.states)[0].tolist() for result in results]
        assert seen.malformed == 0


@pytest.mark.parametrize("name", ["two directions", *(
    pytest.param(name, marks=pytest.mark.slow) for name in ("at the ends", "projections"))])
def test_memories(name: str) -> None:
    """What the Verilog declares more than without, to the bit."""
    network = read_of(name)
    foldings = folded(network, 3, 2)
    duts = [Network(each, foldings=foldings, longest=8)
            for each in (network, replace(network, states=()))]
    assert duts[0].reader is not None
    bits = [memory_bits(generate(dut)[0]) for dut in duts]
    assert bits[0] - bits[1] == sum(duts[0].reader.memories.values())


def test_as_the_float_model() -> None:
    """Final states of two directions, with a projection and peepholes; nothing is refused."""
    rng = np.random.default_rng(18)
    ways = [LSTM(w_x=rng.normal(0, 0.5, (16, 3)), w_h=rng.normal(0, 0.5, (16, 2)),
                 bias=rng.normal(0, 0.5, 16), peepholes=rng.normal(0, 0.5, 12),
                 projection=rng.normal(0, 0.7, (2, 4)), reverse=reverse)
            for reverse in (False, True)]
    network = FloatNetwork(layers=(Bidirectional(forward=ways[0], backward=ways[1]),),
                           head=(Dense(w=rng.normal(0, 1, (2, 4)), bias=rng.normal(0, 1, 2)),),
                           states=("lstm0.c", "lstm0.h"))
    assert unsupported(network) == []
    assert unsupported(replace(network, stateful=True)) == []
    x = rng.uniform(-1, 1, (20, 9, 3))
    quantized = quantize(network, x)
    _, ended = network.run_states(x)
    found = quantized.state_vector(quantized.run_real(x).final, quantized.states)
    for name, real, at in zip(quantized.states, network.state_outputs(ended),
                              (slice(8), slice(8, 12)), strict=True):
        assert np.abs(quantized.state_format(name).to_real(found[:, at]) - real).max() < 3e-3


BENCHED = ("projected both", "peepholes and a projection")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BENCHED, "two directions", "at the ends"])
def test_bench(tmp_path: Path, name: str) -> None:
    """All of the bench's tests."""
    rng = np.random.default_rng(6)
    if name in BENCHED:
        _, network = network_of(name, stateful=True)
        network = replace(network, states=network.known_states)
    else:
        network = read_of(name)
    vectors = Vectors.compute(network, random_codes(rng, network.x, (12, 15, network.inputs)),
                              rng.integers(1, 16, 12))
    write_design(tmp_path, network, 2, 2, vectors)
    result = verify(tmp_path, seed=1, effort=10_000)
    assert result.failure is None
    assert {"kept_states", "set_states"} <= {test.test for test in result.tests} or (
        name not in BENCHED)
    assert "packets_held" in {test.test for test in result.tests}
