"""The hardware in Amaranth's simulator against the bit-true network: bits and cycles."""

import re
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory

from golden.calibrate import quantize
from golden.fixed import SQ, UQ
from golden.formats import DenseFormats, LSTMFormats
from golden.function import IDENTITY, RELU, Function
from golden.lstm import LSTM
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from hdl.cycles import Folding
from hdl.dense_cycles import DenseFolding
from hdl.network import Network
from hdl.pipeline import PIPELINES
from hdl.ram import RAM
from hdl.registers import delayed
from tests.cases import sparse, thinned
from tests.networks import (
    FORMATS,
    STANDARD,
    expected_words,
    folded,
    random_network,
    random_sequences,
)
from tests.streams import interleaved, run_network

# Inputs, hidden units of each layer, outputs, units and columns in parallel.
SHAPES = {
    "smallest": (1, (1,), 1, 1, 1),
    "one row": (2, (4,), 1, 1, 1),
    "one unit, two columns": (3, (5,), 2, 1, 2),
    "all units": (1, (6,), 1, 6, 1),
    "fully parallel": (2, (4,), 3, 4, 6),
    "all columns": (3, (4,), 1, 1, 7),
    "nothing divides": (3, (7,), 2, 2, 3),
    "several lanes": (5, (6,), 2, 4, 4),
    "lanes and passes": (1, (11,), 1, 5, 6),
    "more columns than inputs": (2, (5,), 1, 2, 4),
    "many inputs": (13, (3,), 1, 2, 4),
    "wide head": (1, (3,), 7, 1, 1),
    "stack": (2, (5, 3), 1, 2, 2),
    "stack of three": (1, (3, 4, 2), 2, 1, 1),
}


@pytest.mark.parametrize(("name", "every_step", "stall"),
                         thinned(SHAPES, [(True, 0), (False, 0.5)], every=4))
def test_every_bit(name: str, every_step: bool, stall: float) -> None:
    """Sequences of length 1 among others, back to back; the flags tell what golden counted."""
    inputs, hidden, outputs, units, columns = SHAPES[name]
    rng = np.random.default_rng(1)
    network = random_network(rng, FORMATS["8 bits"], inputs, hidden, outputs,
                             every_step=every_step, size=0.5)
    sequences = random_sequences(rng, network, 3, 1, 1, 4, 6, 1)
    dut = Network(network, foldings=folded(network, units, columns))
    words = expected_words(network, sequences)
    seen = run_network(dut, sequences, outputs=len(words), stall=stall)
    assert seen.words == words
    counts = {name: sum(network.run(x[None]).saturated[name] for x in sequences)
              for name in network.saturating}
    assert dut.saturation == list(network.saturating)
    assert [seen.saturated >> bit & 1 for bit in range(len(dut.saturation))] == [
        int(counts[name] > 0) for name in dut.saturation]
    assert seen.malformed == 0


def saturating(tensor: str) -> tuple[QuantizedNetwork, np.ndarray]:
    """A network of one unit in which just one tensor saturates, and a sequence that does it.

    Input 0 is 1 - 2^-7 in every step; the other inputs only lengthen the pass. The state counts
    the steps: i and f are near 1, and the candidate is near 1 too.
    """
    c = SQ(2, 6) if tensor == "c" else SQ(6, 4)
    formats = LSTMFormats(x=SQ(1, 7), h=SQ(1, 7), c=c, w_x=SQ(6, 2), w_h=SQ(6, 2),
                          z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6))
    # What x and the bias give i, f, g and o. Each alone, or with another's, would saturate z.
    of_x, of_bias = np.array([-4, -4, 5, 6]), np.array([10, 10, -3, -13])
    if tensor == "z":
        of_x, of_bias = np.array([0, 0, 0, 0]), np.array([-9, -1, 0, 0])
    if tensor == "h":
        of_bias[3] = 0
    w_x = np.zeros((4, 16), dtype=np.int64)
    w_x[:, 0] = of_x * 4
    layer = QuantizedLSTM(formats=formats, w_x=w_x, w_h=np.zeros((4, 1), dtype=np.int64),
                          bias=of_bias << formats.product_fraction)
    dense = DenseFormats(x=formats.h, w=SQ(2, 6), y=SQ(1, 7))
    head = QuantizedDense(formats=dense, w=np.array([[1]]),
                          bias=np.array([(5 if tensor == "y" else 0) << dense.product_fraction]))
    x = np.zeros((10 if tensor == "u" else 3, 16), dtype=np.int64)
    x[:, 0] = formats.x.max
    return QuantizedNetwork(layers=(layer,), head=(head,), every_step=True), x


@pytest.mark.parametrize(("tensor", "interval"), thinned(
    ["z", "u", "c", "h", "y", "none"], [1, 2, 4, 14], every=3))
def test_each_flag_alone(tensor: str, interval: int) -> None:
    """A flag is set by its own tensor only, with every sharing of tables and multipliers."""
    network, x = saturating(tensor)
    counted = network.run(x[None]).saturated
    only = {"y": "dense0.y", "none": None}.get(tensor, f"lstm0.{tensor}")
    assert [name for name, count in counted.items() if count] == ([only] if only else [])
    dut = Network(network, foldings=[Folding(units=1, columns=1, lanes=1, interval=interval)])
    words = expected_words(network, [x])
    seen = run_network(dut, [x], outputs=len(words))
    assert seen.words == words
    flags = [name for bit, name in enumerate(dut.saturation) if seen.saturated >> bit & 1]
    assert flags == ([only] if only else [])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str) -> None:
    rng = np.random.default_rng(2)
    network = random_network(rng, FORMATS[name], 2, (3,), 2, every_step=True, size=0.3)
    sequences = random_sequences(rng, network, 5, 8)
    dut = Network(network, foldings=folded(network, 2, 2))
    words = expected_words(network, sequences)
    assert run_network(dut, sequences, outputs=len(words)).words == words


def poisoned(ram: RAM, platform: Any) -> Module:
    """A memory as a device may have it: what is read in the cycle of its writing is wrong."""
    m = Module()
    store: memory.Memory = memory.Memory(shape=ram.shape, depth=ram.depth, init=[])
    m.submodules.store = store
    write, read = store.write_port(), store.read_port()
    word = Signal.like(ram.read_data)
    hit = ram.write_en & (ram.write_addr == ram.read_addr) & (not ram.collides)
    m.d.comb += [
        write.en.eq(ram.write_en),
        write.addr.eq(ram.write_addr),
        write.data.eq(ram.write_data),
        read.addr.eq(ram.read_addr),
        word.eq(Mux(delayed(m, hit, 1), ~read.data, read.data)),
        ram.read_data.eq(delayed(m, word, ram.latency - 1)),
    ]
    return m


@pytest.mark.parametrize(("inputs", "hidden", "units", "columns", "streams", "pipeline"), thinned([
    # All in one cycle, where a page of x is written in the cycle in which it is read at last.
    (1, (2,), 2, 3, 1), (3, (2,), 2, 5, 2),
    (5, (1,), 1, 3, 1), (3, (5,), 2, 2, 1), (2, (4,), 1, 1, 3), (2, (5, 3), 3, 4, 2)],
    ["short", "fast", "medium"], every=3))
def test_no_word_is_needed_in_the_cycle_of_its_writing(
        inputs: int, hidden: tuple[int, ...], units: int, columns: int, streams: int,
        pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RAM, "elaborate", poisoned)
    # Every memory is a deep one.
    monkeypatch.setattr("hdl.column_cycles.SHALLOW", 0)
    rng = np.random.default_rng(4)
    network = random_network(rng, FORMATS["8 bits"], inputs, hidden, 1, every_step=True, size=0.5)
    dut = Network(network, foldings=folded(network, units, columns), streams=streams,
                  pipeline=PIPELINES[pipeline],
                  head_folding=DenseFolding(rows=1, columns=hidden[-1]))
    sequences = [random_sequences(rng, network, 1, 5, 1, 1, 3) for _ in range(streams)]
    words = [expected_words(network, each) for each in sequences]
    seen = run_network(dut, [], beats=interleaved(dut, sequences), outputs=sum(map(len, words)))
    assert [seen.of(stream) for stream in range(streams)] == words


def test_many_streams() -> None:
    """The choice between them is no deep nest of decisions."""
    rng = np.random.default_rng(5)
    network = random_network(rng, FORMATS["8 bits"], 1, (1,), 1, every_step=True, size=0.5)
    dut = Network(network, foldings=folded(network, 1, 1), streams=100)
    sequences = [random_sequences(rng, network, 2) for _ in range(100)]
    words = [expected_words(network, each) for each in sequences]
    seen = run_network(dut, [], beats=interleaved(dut, sequences), outputs=200)
    assert [seen.of(stream) for stream in range(100)] == words


@pytest.mark.parametrize("function", [
    RELU, Function("HardSigmoid"), Function("HardSigmoid", -0.4, 0.3), Function("Affine", -2, 0.5),
    Function("Sigmoid"), Function("Tanh")])
def test_every_function_of_a_dense_layer(function: Function) -> None:
    rng = np.random.default_rng(7)
    model = FloatNetwork(
        layers=(LSTM(w_x=rng.uniform(-1, 1, (12, 2)), w_h=rng.uniform(-1, 1, (12, 3)),
                     bias=rng.uniform(-1, 1, 12)),),
        head=(Dense(w=rng.uniform(-5, 5, (3, 3)), bias=rng.uniform(-1, 1, 3), function=function),),
        every_step=True)
    x = rng.uniform(-1, 1, (16, 8, 2))
    network = quantize(model, x, bits=12)
    assert np.abs(network.run_real(x).real - model.run(x)).max() < 0.02
    dut = Network(network, foldings=folded(network, 1, 1),
                  head_folding=DenseFolding(rows=2, columns=1))
    sequences = random_sequences(rng, network, 9, 12, 1)
    words = expected_words(network, sequences)
    seen = run_network(dut, sequences, outputs=len(words))
    assert seen.words == words
    assert seen.given[0] - seen.taken[0] == dut.latency
    assert seen.done[0] - seen.taken[0] == dut.whole_latency
    counts = {name: sum(network.run(each[None]).saturated[name] for each in sequences)
              for name in network.saturating}
    assert [seen.saturated >> bit & 1 for bit in range(len(dut.saturation))] == [
        int(counts[name] > 0) for name in dut.saturation]


@pytest.mark.parametrize(("bits", "inputs_to", "weights_to", "recurrent_to"), sparse([
    (8, 1, 1, 1), (16, 1e-3, 1, 1), (18, 200, 0.01, 1), (12, 1, 50, 0.1), (16, 1, 1e-3, 5)],
    every=2))
def test_calibrated(bits: int, inputs_to: float, weights_to: float, recurrent_to: float) -> None:
    """Formats as calibration picks them for odd scales: narrow ones, binary points outside."""
    rng = np.random.default_rng(10)
    hidden = 3
    model = FloatNetwork(
        layers=(LSTM(w_x=rng.uniform(-weights_to, weights_to, (4 * hidden, 2)),
                     w_h=rng.uniform(-recurrent_to, recurrent_to, (4 * hidden, hidden)),
                     bias=rng.uniform(-1, 1, 4 * hidden)),),
        head=(Dense(w=rng.uniform(-1, 1, (2, hidden)), bias=rng.uniform(-1, 1, 2)),),
        every_step=True)
    x = rng.uniform(-inputs_to, inputs_to, (4, 7, 2))
    network = quantize(model, x, bits=bits)
    sequences = list(network.x.quantize(x)[0])
    dut = Network(network, foldings=folded(network, 2, 1))
    words = expected_words(network, sequences)
    assert run_network(dut, sequences, outputs=len(words)).words == words


@pytest.mark.parametrize(("units", "columns", "lanes", "interval"), sparse([
    (1, 1, 1, 1), (1, 1, 1, 3), (1, 1, 1, 12), (3, 2, 3, 2), (6, 2, 6, 5), (2, 4, 2, 1)], every=2))
def test_every_drain(units: int, columns: int, lanes: int, interval: int) -> None:
    """A drain faster than it must be gives the same bits."""
    rng = np.random.default_rng(3)
    network = random_network(rng, STANDARD, 6, (6,), 1, every_step=True, size=0.3)
    sequences = random_sequences(rng, network, 4, 1, 2)
    dut = Network(network, foldings=[
        Folding(units=units, columns=columns, lanes=lanes, interval=interval)])
    words = expected_words(network, sequences)
    assert run_network(dut, sequences, outputs=len(words), stall=0.3).words == words


@pytest.mark.parametrize("name", sparse(SHAPES, every=2))
def test_cycles_of_a_step(name: str) -> None:
    """Latency from the ports of an idle network, and distances of steps, an output in each."""
    inputs, hidden, outputs, units, columns = SHAPES[name]
    rng = np.random.default_rng(4)
    network = random_network(rng, FORMATS["8 bits"], inputs, hidden, outputs, every_step=True,
                             size=0.5)
    dut = Network(network, foldings=folded(network, units, columns))
    beats: list[tuple[int, bool, int] | int]
    beats = [*interleaved(dut, [random_sequences(rng, network, 1)]), 2 * dut.latency,
             *interleaved(dut, [random_sequences(rng, network, 6, 1, 5)])]
    seen = run_network(dut, [], beats=beats, outputs=13, quiet=10)
    assert seen.given[0] - seen.taken[0] == dut.latency
    assert seen.done[0] - seen.taken[0] == dut.whole_latency
    distances = np.diff(seen.given[1:]).tolist()
    assert set(distances[3:5] + distances[9:]) == {dut.step}
    # The first step of a sequence waits for none before it, but for the head and for room there.
    assert all(dut.work <= distance <= dut.step for distance in distances[5:7])
    assert dut.step == dut.alone


def test_head_folding() -> None:
    """A head of any folding gives the same words."""
    rng = np.random.default_rng(8)
    network = random_network(rng, FORMATS["8 bits"], 2, (5,), 3, every_step=True, size=0.5)
    sequences = random_sequences(rng, network, 3, 2)
    words = expected_words(network, sequences)
    for rows, columns in [(1, 1), (2, 1), (3, 5), (2, 3)]:
        dut = Network(network, foldings=folded(network, 2, 3),
                      head_folding=DenseFolding(rows=rows, columns=columns))
        assert dut.out_lanes == rows
        assert run_network(dut, sequences, outputs=len(words), stall=0.3).words == words


def test_wrong_arguments() -> None:
    rng = np.random.default_rng(9)
    network = random_network(rng, FORMATS["8 bits"], 2, (5,), 3, every_step=True)
    text = "foldings must be as many as LSTM layers, 1, not 0"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Network(network, foldings=[])


HARD, RELU6 = Function("HardSigmoid"), Function("HardSigmoid", 1 / 6, 0.5)
CELLS: dict[str, dict[str, Any]] = {
    "hard gates": {"gate": HARD},
    "hard gates, clipped": {"gate": Function("HardSigmoid", 0.3, 0.4), "clip": 0.7},
    "clipped": {"clip": 0.5},
    "rectified candidate": {"candidate": RELU},
    "linear candidate": {"candidate": Function("Affine", -0.5, 0.1)},
    "hard candidate": {"candidate": HARD, "clip": 1.25},
    "rectified cell state": {"squash": RELU},
    "linear cell state": {"squash": IDENTITY},
    "no table": {"gate": RELU6, "candidate": RELU, "squash": RELU},
    "only the candidate's table": {"gate": RELU6, "squash": IDENTITY},
    "only the cell state's table": {"gate": RELU6, "candidate": IDENTITY},
    "hidden states to begin with": {"initial_h": np.linspace(-0.9, 0.9, 5)},
    "cell states to begin with": {"initial_c": np.linspace(1.5, -1, 5)},
    "states beyond 1": {"initial_h": np.linspace(3, -2, 5), "initial_c": np.linspace(-3, 1, 5)},
    "all at once": {"gate": HARD, "candidate": RELU, "clip": 1.5,
                    "initial_h": np.linspace(-1, 1, 5), "initial_c": np.linspace(2, -2, 5)},
}


@pytest.mark.parametrize(
    ("name", "units", "columns", "lanes", "interval", "streams", "pipeline"),
    thinned(CELLS, [(1, 1, 1, 8, 1, "short"), (5, 3, 5, 1, 1, "fast"), (2, 2, 1, 2, 2, "medium")],
            every=6))
def test_every_cell(name: str, units: int, columns: int, lanes: int, interval: int, streams: int,
                    pipeline: str) -> None:
    """Functions, clips and states to begin with, with every sharing of tables."""
    rng = np.random.default_rng(6)
    hidden = 5
    float_network = FloatNetwork(
        layers=(LSTM(w_x=rng.uniform(-1.5, 1.5, (4 * hidden, 3)),
                     w_h=rng.uniform(-1, 1, (4 * hidden, hidden)),
                     bias=rng.uniform(-1, 1, 4 * hidden), **CELLS[name]),),
        head=(Dense(w=rng.uniform(-1, 1, (2, hidden)), bias=rng.uniform(-1, 1, 2)),),
        every_step=True)
    # Formats from tame data, so that wilder ones saturate.
    network = quantize(float_network, rng.uniform(-0.5, 0.5, (16, 8, 3)), bits=9)
    dut = Network(network, streams=streams, pipeline=PIPELINES[pipeline], foldings=[
        Folding(units=units, columns=columns, lanes=lanes, interval=interval)])
    sequences = [random_sequences(rng, network, 1, 4, 3) for _ in range(streams)]
    words = [expected_words(network, each) for each in sequences]
    seen = run_network(dut, [], beats=interleaved(dut, sequences), outputs=sum(map(len, words)),
                       stall=0.3, reset_after=3, quiet=100)
    for stream in range(streams):
        results = [network.run(x[None], trace=True) for x in sequences[stream]]
        for tensor in "ch":
            states = [state for result in results if result.layers is not None
                      for state in getattr(result.layers[0], tensor)[0].tolist()]
            assert seen.states_of(f"lstm0.{tensor}", stream, hidden) == states
        assert seen.of(stream) == words[stream]
    counts = {tensor: sum(network.run(x[None]).saturated[tensor] for each in sequences
                          for x in each) for tensor in network.saturating}
    assert [seen.saturated >> bit & 1 for bit in range(len(dut.saturation))] == [
        int(counts[tensor] > 0) for tensor in dut.saturation]
