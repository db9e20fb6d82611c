"""Layers that read from the end, alone and beside one that does not: model and hardware."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.engine_memories import modelled_memories
from fpga.boards import BOARDS
from fpga.choice import limits
from golden.bidirectional import QuantizedBidirectional, QuantizedLayer
from golden.calibrate import quantize
from golden.fixed import SQ
from golden.formats import DenseFormats, LSTMFormats
from golden.lstm import LSTM, MERGES, Bidirectional
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from hdl.foldings import lstm_part
from hdl.network import Network
from hdl.pipeline import PIPELINES
from hdl.search import Stack
from hdl.verilog import generate
from sim.vectors import Vectors
from sim.verify import verify
from tests.networks import (
    FORMATS,
    expected_words,
    folded,
    random_codes,
    random_projection,
    random_sequences,
)
from tests.streams import run_network
from tests.test_cycles import declared_memories
from tests.test_regression import write_design


def random_direction(rng: np.random.Generator, formats: LSTMFormats, inputs: int, hidden: int, *,
                     reverse: bool, begun: bool = False, projected: int | None = None
                     ) -> QuantizedLSTM:
    limit, outputs = 2 << formats.product_fraction, projected or hidden
    more: dict[str, Any] = {}
    if begun:
        more |= {"initial_h": random_codes(rng, formats.h, (outputs,)),
                 "initial_c": random_codes(rng, formats.c, (hidden,), 0.3)}
    if formats.p:
        more["peepholes"] = random_codes(rng, formats.p, (3 * hidden,))
    if formats.w_r:
        more["projection"] = random_codes(rng, formats.w_r, (outputs, hidden))
    return QuantizedLSTM(
        formats=formats, w_x=random_codes(rng, formats.w_x, (4 * hidden, inputs), 0.5),
        w_h=random_codes(rng, formats.w_h, (4 * hidden, outputs), 0.5),
        bias=rng.integers(-limit, limit, 4 * hidden), reverse=reverse, **more)


def turning_network(rng: np.random.Generator, formats: LSTMFormats, inputs: int,
                    layers: tuple[tuple[str, int], ...], outputs: int = 2, *, begun: bool = False,
                    every_step: bool = True, final: bool = False, backwards: bool = False,
                    projected: int | None = None, peepholes: bool = False) -> QuantizedNetwork:
    """A stack of layers, each "forward", "reverse" or bidirectional by the name of its merge."""
    built: list[QuantizedLayer] = []
    y, width = formats.x, inputs
    for way, hidden in layers:
        own = replace(formats, x=y, w_x=SQ(formats.w_h.i, formats.w_h.f + formats.h.f - y.f)
                      if built else formats.w_x)
        if projected:
            own = random_projection(own)
        if peepholes:
            own = replace(own, p=SQ(8 - own.product_fraction + own.c.f,
                                    own.product_fraction - own.c.f))

        def direction(*, reverse: bool, own: LSTMFormats = own, width: int = width,
                      hidden: int = hidden) -> QuantizedLSTM:
            return random_direction(rng, own, width, hidden, reverse=reverse, begun=begun,
                                    projected=projected)

        layer: QuantizedLayer
        if way in MERGES:
            # A sum may take a bit more than its parts, and gives up the lowest.
            layer = QuantizedBidirectional(
                forward=direction(reverse=False), backward=direction(reverse=True),
                merge=way, y=own.h if way == "concat" else SQ(own.h.i, own.h.f - 1))
        else:
            layer = direction(reverse=way == "reverse")
        built.append(layer)
        y, width = layer.y, layer.outputs
    dense = DenseFormats(x=y, w=SQ(2, 9), y=SQ(3, 8))
    limit = 1 << dense.product_fraction
    return QuantizedNetwork(
        layers=tuple(built), every_step=every_step, final=final, backwards=backwards,
        head=(QuantizedDense(formats=dense, w=random_codes(rng, dense.w, (outputs, width)),
                             bias=rng.integers(-limit, limit, outputs)),))


STACKS: dict[str, tuple[int, tuple[tuple[str, int], ...], dict[str, Any]]] = {
    "two directions": (2, (("concat", 3),), {}),
    "at the last step": (2, (("concat", 3),), {"every_step": False}),
    "at the ends": (3, (("concat", 4),), {"every_step": False, "final": True}),
    "sum": (1, (("sum", 5),), {}),
    "mean": (2, (("ave", 3),), {"every_step": False, "final": True}),
    "product": (2, (("mul", 4),), {}),
    "reverse": (3, (("reverse", 4),), {}),
    "reverse, last step": (2, (("reverse", 3),), {"every_step": False}),
    "reverse, own last step": (2, (("reverse", 3),), {"every_step": False, "final": True}),
    "reverse, outputs too": (2, (("reverse", 3),), {"backwards": True}),
    "outputs from the end": (2, (("forward", 3),), {"backwards": True}),
    "stack of two": (2, (("concat", 3), ("concat", 2)), {}),
    "forward and back": (1, (("forward", 3), ("concat", 2), ("forward", 4)), {}),
    "projections": (2, (("concat", 4),), {"projected": 3}),
    "peepholes": (2, (("concat", 3),), {"peepholes": True, "every_step": False}),
    "all ways": (1, (("reverse", 2), ("reverse", 3), ("mul", 2), ("forward", 2)),
                 {"every_step": False}),
}


def some(*quick: str) -> list[Any]:
    """The stacks, all but a few of them slow."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow)
            for name in STACKS]


def stack(name: str, seed: int = 1, *, begun: bool = False) -> QuantizedNetwork:
    inputs, layers, options = STACKS[name]
    return turning_network(np.random.default_rng(seed), FORMATS["8 bits"], inputs, layers,
                           begun=begun, **options)


def composed(network: QuantizedNetwork, x: np.ndarray) -> np.ndarray:
    """One sequence through networks of one forward layer each, which are tested by themselves."""
    head, = network.head
    for number, layer in enumerate(network.layers):
        parts = []
        for each in layer.directions:
            alone = QuantizedNetwork(layers=(replace(each, reverse=False),), head=(),
                                     every_step=True)
            h = alone.run(x[None, ::-1] if each.reverse else x[None]).y[0]
            parts.append(h[::-1] if each.reverse else h)
        if number == len(network.layers) - 1 and not network.every_step:
            parts = [h[:1] if each.reverse and network.final else h[-1:]
                     for h, each in zip(parts, layer.directions, strict=True)]
        x = parts[0]
        if isinstance(layer, QuantizedBidirectional):
            merge, (p, q) = layer.merge, parts
            exact = {"concat": p, "sum": p + q, "ave": (p + q) / 2,
                     "mul": p * q * layer.formats.h.ulp}[merge]
            # Python and NumPy round ties to even.
            x = np.concatenate(parts, axis=1) if merge == "concat" else np.clip(
                np.rint(exact * layer.formats.h.ulp / layer.y.ulp), layer.y.min, layer.y.max
            ).astype(np.int64)
    y = np.clip(np.rint((x @ head.w.T + head.bias) * 2.0 ** (
        head.formats.y.f - head.formats.product_fraction)), head.formats.y.min, head.formats.y.max)
    return (y[::-1] if network.backwards else y).astype(np.int64)


@pytest.mark.parametrize("name", STACKS)
def test_golden(name: str) -> None:
    """Batches of any lengths give what each sequence gives alone, put together by hand."""
    network = stack(name, begun=True)
    rng = np.random.default_rng(2)
    lengths = np.array([4, 1, 7, 7, 2])
    x = random_codes(rng, network.x, (5, 7, network.inputs))
    result = network.run(x, lengths, trace=True)
    for n, length in enumerate(lengths):
        expected = composed(network, x[n, :length])
        if network.every_step:
            assert result.y[n, :length].tolist() == expected.tolist()
            assert not result.y[n, length:].any()
        else:
            assert result.y[n].tolist() == expected[0].tolist()
    assert set(result.saturated) == set(network.saturating)
    assert result.layers is not None
    assert len(result.layers) == len(network.directions)


@pytest.mark.parametrize(("units", "columns", "pipeline", "stall"), [
    (1, 1, "short", 0.0), pytest.param(2, 3, "fast", 0.5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", some("two directions", "mean", "reverse, last step",
                                      "outputs from the end", "projections"))
def test_every_bit(name: str, units: int, columns: int, pipeline: str, stall: float) -> None:
    """Sequences of all lengths, back to back; the flags tell what golden counted."""
    network = stack(name, begun=stall > 0)
    rng = np.random.default_rng(3)
    sequences = random_sequences(rng, network, 3, 1, 1, 8, 2, 8, 5, 1)
    dut = Network(network, pipeline=PIPELINES[pipeline], longest=8, foldings=folded(
        network, units, columns, pipeline=PIPELINES[pipeline]))
    words = expected_words(network, sequences)
    seen = run_network(dut, sequences, outputs=len(words), stall=stall)
    assert seen.words == words
    alone = [network.run(x[None]).saturated for x in sequences]
    counts = {name: sum(one[name] for one in alone) for name in network.saturating}
    lengths = np.array([len(x) for x in sequences])
    padded = np.stack([np.pad(x, ((0, lengths.max() - len(x)), (0, 0))) for x in sequences])
    assert {name: each.tolist() for name, each in (
        network.run(padded, lengths, trace=True).outside or {}).items()} == {
            name: [one[name] for one in alone] for name in network.saturating}
    assert dut.saturation == list(network.saturating)
    assert [seen.saturated >> bit & 1 for bit in range(len(dut.saturation))] == [
        int(counts[name] > 0) for name in dut.saturation]
    assert seen.malformed == 0


@pytest.mark.parametrize(("units", "columns", "pipeline"), [
    (1, 1, "short"), pytest.param(2, 3, "fast", marks=pytest.mark.slow),
    pytest.param(9, 2, "medium", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", some("at the ends", "projections"))
def test_cycles(name: str, units: int, columns: int, pipeline: str) -> None:
    """What a sequence of one step takes, and what every further step adds."""
    network = stack(name)
    dut = Network(network, pipeline=PIPELINES[pipeline], longest=10, foldings=folded(
        network, units, columns, pipeline=PIPELINES[pipeline]))
    rng, ends = np.random.default_rng(4), {}
    for steps in (1, 9, 10):
        sequences = random_sequences(rng, network, steps)
        words = expected_words(network, sequences)
        seen = run_network(dut, sequences, outputs=len(words))
        assert seen.words == words
        if steps == 1:
            assert seen.given[0] - seen.taken[0] == dut.latency
            assert seen.done[0] - seen.taken[0] == dut.whole_latency
        ends[steps] = seen.done[-1] - seen.taken[0]
    if name == "reverse, last step":
        # Its only output is that of the step which it reads first.
        assert 0 < ends[10] - ends[9] < dut.further
    else:
        assert ends[10] - ends[9] == dut.further


def test_streams_of_their_own() -> None:
    network = stack("two directions")
    with pytest.raises(ValueError, match="streams must be 1 where a layer reads from the end, not"):
        Network(network, foldings=folded(network, 1, 1), streams=2)


FAMILIES = {"two directions": None, "stack of two": "ice40", "forward and back": None,
            "all ways": "ecp5", "reverse, outputs too": None, "product": None}


@pytest.mark.parametrize(("name", "family"), [
    pytest.param("at the ends", "ecp5", marks=pytest.mark.slow),
    *(pytest.param(*item, marks=pytest.mark.slow) for item in FAMILIES.items())])
def test_bench(tmp_path: Any, name: str, family: str | None) -> None:
    """All of the bench's tests, the states of both directions among what they compare."""
    network = stack(name)
    rng = np.random.default_rng(6)
    lengths = rng.integers(1, 20, 12)
    x = random_codes(rng, network.x, (len(lengths), 20, network.inputs))
    write_design(tmp_path, network, 2, 2, Vectors.compute(network, x, lengths), family=family)
    result = verify(tmp_path, seed=1, effort=10_000)
    assert result.failure is None
    assert all(test.words and test.states for test in result.tests)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("merge", [*MERGES, "reverse"])
def test_calibrated(merge: str, bits: int) -> None:
    """Both directions have formats that fit both, and the outputs are near the float model's."""
    rng = np.random.default_rng(7)

    def direction(size: float, *, reverse: bool) -> LSTM:
        return LSTM(w_x=size * rng.standard_normal((20, 3)), w_h=0.4 * rng.standard_normal((20, 5)),
                    bias=rng.standard_normal(20), reverse=reverse,
                    initial_c=rng.standard_normal(5), initial_h=rng.uniform(-1, 1, 5))

    layer: LSTM | Bidirectional = direction(3.0, reverse=True)
    if merge in MERGES:
        layer = Bidirectional(forward=direction(0.5, reverse=False), merge=merge,
                              backward=direction(3.0, reverse=True))
    for every_step, final in ((True, False), (False, False), (False, True)):
        network = FloatNetwork(layers=(layer,), every_step=every_step, final=final, head=(Dense(
            w=rng.standard_normal((2, layer.outputs)), bias=rng.standard_normal(2)),))
        x = rng.uniform(-1, 1, (30, 12, 3))
        lengths = rng.integers(1, 13, 30)
        quantized = quantize(network, x, lengths, bits=bits)
        error = quantized.run_real(x, lengths).real - network.run(x, lengths)
        assert np.abs(error).max() < 50 * 2.0**-bits


@pytest.mark.parametrize(("begun", "units", "columns", "pipeline"), [
    (False, 1, 1, "short"), pytest.param(True, 2, 3, "fast", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", some("product"))
def test_what_it_takes(name: str, begun: bool, units: int, columns: int, pipeline: str) -> None:
    """Memories to the bit, multipliers, and what the choice reckons with."""
    network = stack(name, begun=begun)
    foldings = folded(network, units, columns, pipeline=PIPELINES[pipeline])
    dut = Network(network, foldings=foldings, longest=20, pipeline=PIPELINES[pipeline])
    assert Counter(modelled_memories(dut)) == declared_memories(generate(dut)[0])
    blocks = re.findall(r"^ *MULT18X18D #", generate(dut, family="ecp5")[0], re.M)
    parts = [lstm_part(shape, folding, pipeline=PIPELINES[pipeline], streams=1, limits=limits(
        BOARDS["ulx3s-85f"])) for shape, folding in zip(
            Stack.of(network, longest=20).layers, foldings, strict=True)]
    assert len(blocks) == sum(part.multipliers for part in parts) + dut.behind.multipliers
    assert sum(part.latency for part in parts) + dut.behind.whole_latency == dut.whole_latency
    assert max(part.round for part in parts) <= dut.step


@pytest.mark.parametrize(("states", "final"), [
    (("lstm0.h",), False),
    *(pytest.param((), final, marks=pytest.mark.slow) for final in (False, True))])
def test_a_sink_that_holds_up_one_direction(states: tuple[str, ...], final: bool) -> None:
    """The other direction may not run ahead of it, into a page that only the one behind frees.

    The recurrence of this layer takes ten times as long as its work, so there would be time for it.
    """
    rng = np.random.default_rng(1)
    network = replace(turning_network(rng, FORMATS["8 bits"], 1, (("concat", 4),),
                                      every_step=False, final=final), states=states)
    dut = Network(network, foldings=folded(network, 4, 2), longest=6)
    for lengths in ([1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1], [2, 1, 1] * 4):
        sequences = random_sequences(rng, network, *lengths)
        words = expected_words(network, sequences)
        seen = run_network(dut, sequences, outputs=len(words), hold=400, limit=4000,
                           packets=len(words) if states else 0)
        assert seen.words == words
