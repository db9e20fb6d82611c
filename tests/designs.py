"""Designs drawn by Hypothesis: any network that the hardware can be built for, and what it is fed.

A `Design` is plain data. Printed, it is the expression that makes it again, so a failing one can be
pasted wherever it is wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import ceil
from typing import Any

import numpy as np
from hypothesis import strategies as st

from golden.bidirectional import QuantizedBidirectional, QuantizedLayer
from golden.calibrate import quantize
from golden.fixed import SQ
from golden.formats import DenseFormats, LSTMFormats
from golden.function import ARGMAX, IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, Function
from golden.lstm import LSTM, MERGES, Bidirectional
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from hdl.cycles import Folding
from hdl.dense_cycles import DenseFolding
from hdl.network import LONGEST, Network
from hdl.pipeline import PIPELINE_LIMITS, PIPELINES, SHORT, Pipeline
from tests.networks import FORMATS, random_codes, random_projection
from tests.test_states import Piece, random_state

__all__ = ["DATA", "Design", "Head", "Layer", "Played", "designs"]

DATA = ("tiny", "constant", "walk", "random", "flips", "extremes", "saturating")
"""What the input of a sequence may be like (:meth:`Design.codes`)."""

HARD = Function("HardSigmoid")
GATES = (SIGMOID, HARD, Function("HardSigmoid", 1 / 6, 0.5))
CURVES = (TANH, SIGMOID, IDENTITY, RELU, HARD, Function("HardSigmoid", -0.4, 0.3),
          Function("Affine", -0.7, 0.3), Function("Affine", 0.0, 0.3))


class _Written:
    """Printed as what makes it again, without what is so by default."""

    def __repr__(self) -> str:
        given = ", ".join(f"{each.name}={value!r}" for each in fields(self)  # type: ignore[arg-type]
                          if (value := getattr(self, each.name)) != each.default)
        return f"{type(self).__name__}({given})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Layer(_Written):
    """An LSTM layer.

    Parameters
    ----------
    hidden : int
    folding : Folding
    way : str
        ``forward``, ``reverse``, or both ways, by the name of their merge.
    projected : int or None
    peepholes, coupled, begun : bool
        Whether it has peepholes, coupled gates, and states to begin with.
    gate, candidate, squash : Function
    clip : float or None
    back : tuple of Function, optional
        Gate, candidate and squash of the second direction, where they are others.
    """

    hidden: int
    folding: Folding
    way: str = "forward"
    projected: int | None = None
    peepholes: bool = False
    coupled: bool = False
    begun: bool = False
    gate: Function = SIGMOID
    candidate: Function = TANH
    squash: Function = TANH
    clip: float | None = None
    back: tuple[Function, Function, Function] | None = None

    @property
    def outputs(self) -> int:
        """What each direction gives."""
        return self.projected or self.hidden


@dataclass(frozen=True, kw_only=True, repr=False)
class Head(_Written):
    """A dense layer."""

    outputs: int
    folding: DenseFolding
    function: Function = IDENTITY


@dataclass(frozen=True, kw_only=True, repr=False)
class Played(_Written):
    """A sequence: its length, what its input is like, and what is done with states around it."""

    steps: int
    data: str = DATA[0]
    keep: bool = False
    given: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class Design(_Written):
    """A network, its folding, and what it is fed.

    Parameters
    ----------
    layers : tuple of Layer
    sequences : tuple of Played
        Dealt to the streams in turn.
    inputs : int
    head : tuple of Head
    chosen : bool
        Whether the folding of the head is the one by default.
    bits : int
        For which the formats are calibrated.
    formats : str or None
        Those of :data:`tests.networks.FORMATS` instead; then no layer has functions of its own.
    wild : bool
        Weights and states to begin with are any codes, where they are else a trained network's.
    every_step, final, backwards, stateful, states
        As of the network.
    streams, pipeline, longest
        As of the hardware.
    mixed : bool
        Steps of the streams come in any order.
    stall : float
        Probability of a pause, of each side in each cycle.
    reset_after : int or None
        Beats before a reset, after which all is fed from the start.
    hold, hold_states : int
        Cycles in which no output, and no packet of states, is taken.
    seed : int
        Of all that is random: weights, data, pauses.
    """

    layers: tuple[Layer, ...]
    sequences: tuple[Played, ...]
    inputs: int = 1
    head: tuple[Head, ...] = ()
    chosen: bool = False
    bits: int = 8
    formats: str | None = None
    wild: bool = False
    every_step: bool = False
    final: bool = False
    backwards: bool = False
    stateful: bool = False
    states: tuple[str, ...] = ()
    streams: int = 1
    pipeline: Pipeline = SHORT
    longest: int = LONGEST
    mixed: bool = False
    stall: float = 0.0
    reset_after: int | None = None
    hold: int = 0
    hold_states: int = 0
    seed: int = 0

    def network(self) -> QuantizedNetwork:
        rng = np.random.default_rng([self.seed, 0])
        network = quantize(self._trained(rng), rng.uniform(-0.5, 0.5, (8, 6, self.inputs)),
                           bits=self.bits)
        if self.formats:
            return _in_formats(rng, network, FORMATS[self.formats])
        if not self.wild:
            return network
        return replace(network, layers=tuple(_redrawn(rng, layer) for layer in network.layers),
                       head=tuple(replace(dense, w=random_codes(rng, dense.formats.w,
                                                                dense.w.shape))
                                  for dense in network.head))

    def _trained(self, rng: np.random.Generator) -> FloatNetwork:
        """A float network; its data are from -1/2 to 1/2, so that wilder ones saturate."""
        columns, layers = self.inputs, []
        for layer in self.layers:
            ways = [_direction(rng, layer, columns, reverse=reverse)
                    for reverse in ((False, True) if layer.way in MERGES
                                    else (layer.way == "reverse",))]
            layers.append(ways[0] if len(ways) == 1 else Bidirectional(
                forward=ways[0], backward=ways[1], merge=layer.way))
            columns = layers[-1].outputs
        head = []
        for dense in self.head:
            head.append(Dense(w=rng.uniform(-2, 2, (dense.outputs, columns)),
                              bias=rng.uniform(-1, 1, dense.outputs), function=dense.function))
            columns = head[-1].outputs
        return FloatNetwork(
            layers=tuple(layers), head=tuple(head), every_step=self.every_step, final=self.final,
            backwards=self.backwards, stateful=self.stateful, states=self.states)

    def hardware(self, network: QuantizedNetwork) -> Network:
        return Network(network, foldings=[layer.folding for layer in self.layers],
                       head_folding=None if self.chosen else [each.folding for each in self.head],
                       pipeline=self.pipeline, streams=self.streams, longest=self.longest)

    def codes(self, network: QuantizedNetwork, rng: np.random.Generator, played: Played
              ) -> np.ndarray:
        """Input codes of a sequence."""
        to, shape = network.x, (played.steps, self.inputs)
        match played.data:
            case "tiny":
                return rng.integers(-1, 1, shape, endpoint=True)
            case "constant":
                return np.broadcast_to(random_codes(rng, to, shape[1:]), shape).copy()
            case "walk":
                stride = max(1, to.max // 8)
                start = rng.integers(to.min, to.max, shape[1:], endpoint=True)
                walked = start + rng.integers(-stride, stride, shape, endpoint=True).cumsum(axis=0)
                return np.clip(walked, to.min, to.max)
            case "flips":
                high = (np.arange(played.steps)[:, None] + rng.integers(2, size=shape[1:])) % 2
                return np.where(high, to.max, to.min)
            case "extremes":
                return rng.choice([to.min, to.max], shape)
            case "saturating":
                # As far as one of the sums can go, up or down.
                w = network.directions[0].w_x
                row = w[rng.integers(len(w))] * rng.choice([-1, 1])
                return np.broadcast_to(np.where(row < 0, to.min, to.max), shape).copy()
        return random_codes(rng, to, shape)

    def pieces(self, network: QuantizedNetwork) -> list[list[Piece]]:
        """What each stream is fed."""
        rng = np.random.default_rng([self.seed, 1])
        found = [Piece(self.codes(network, rng, played), played.keep,
                       random_state(rng, network) if played.given else None)
                 for played in self.sequences]
        return [found[stream::self.streams] for stream in range(self.streams)]


def _direction(rng: np.random.Generator, layer: Layer, columns: int, *, reverse: bool) -> LSTM:
    hidden, outputs = layer.hidden, layer.outputs
    more: dict[str, Any] = {}
    if layer.peepholes:
        more["peepholes"] = rng.uniform(-2, 2, 3 * hidden)
    if layer.projected:
        more["projection"] = rng.uniform(-1, 1, (outputs, hidden))
    if layer.begun:
        more |= {"initial_h": rng.uniform(-1, 1, outputs), "initial_c": rng.uniform(-2, 2, hidden)}
    gate, candidate, squash = (layer.back if reverse and layer.back else
                               (layer.gate, layer.candidate, layer.squash))
    make = LSTM.coupled if layer.coupled else LSTM
    return make(
        w_x=rng.uniform(-2, 2, (4 * hidden, columns)),
        w_h=rng.uniform(-1, 1, (4 * hidden, outputs)), bias=rng.uniform(-1, 1, 4 * hidden),
        gate=gate, candidate=candidate, squash=squash, clip=layer.clip, reverse=reverse, **more)


def _redrawn(rng: np.random.Generator, layer: QuantizedLayer, **changes: Any) -> QuantizedLayer:
    """The layer with any codes for its weights, and in other formats where they are given."""
    if isinstance(layer, QuantizedBidirectional):
        forward, backward = (_way(rng, each, **changes) for each in layer.directions)
        h = forward.formats.h
        # A sum may take a bit more than its parts, and gives up the lowest.
        return replace(layer, forward=forward, backward=backward, y=layer.y if not changes
                       else h if layer.merge == "concat" else SQ(h.i, h.f - 1))
    return _way(rng, layer, **changes)


def _way(rng: np.random.Generator, layer: QuantizedLSTM, **changes: Any) -> QuantizedLSTM:
    formats = changes.get("formats", layer.formats)
    limit = 2 << formats.product_fraction
    codes: dict[str, Any] = {name: random_codes(rng, to, getattr(layer, name).shape, size)
                             for name, to, size in (
                                 ("w_x", formats.w_x, 0.6), ("w_h", formats.w_h, 0.6),
                                 ("initial_h", formats.h, 1), ("initial_c", formats.c, 0.3),
                                 ("peepholes", formats.p, 1), ("projection", formats.w_r, 1))
                             if to and np.any(getattr(layer, name))}
    return replace(layer, bias=rng.integers(-limit, limit, layer.bias.shape), **codes, **changes)


def _in_formats(rng: np.random.Generator, network: QuantizedNetwork, formats: LSTMFormats
                ) -> QuantizedNetwork:
    """The network's shape in these formats, with any codes for its weights."""
    layers: list[QuantizedLayer] = []
    y = formats.x
    for layer in network.layers:
        own = replace(formats, x=y, w_x=SQ(formats.w_h.i, formats.w_h.f + formats.h.f - y.f)
                      if layers else formats.w_x)
        if layer.directions[0].projected:
            own = random_projection(own)
        if layer.formats.p:
            f = min(own.w_h.f, own.product_fraction - own.c.f)
            own = replace(own, p=SQ(max(own.w_h.i, 2 - f), f))
        layers.append(_redrawn(rng, layer, formats=own, gate=None, of_candidate=None,
                               of_cell=None))
        y = layers[-1].y
    head: list[QuantizedDense] = []
    for dense in network.head:
        of = DenseFormats(x=y, w=SQ(2, 9), y=SQ(3, 8))
        limit = 1 << of.product_fraction
        head.append(QuantizedDense(formats=of, w=random_codes(rng, of.w, dense.w.shape),
                                   bias=rng.integers(-limit, limit, dense.bias.shape)))
        y = of.y
    vector = network.vector and replace(network.vector, x=y)
    return replace(network, layers=tuple(layers), head=tuple(head), vector=vector)


ARRAY = 9
"""Units times columns of an array, at most: the simulation takes long for more."""


def _at_most(most: int) -> st.SearchStrategy[int]:
    return st.integers(1, most)


@st.composite
def _foldings(draw: st.DrawFn, total: int, hidden: int, projected: int | None) -> Folding:
    """Any in which drain and projection keep up with the array."""
    units = draw(_at_most(hidden))
    columns = draw(_at_most(min(total, max(1, ARRAY // units))))
    words = ceil(total / columns)
    lanes = draw(st.integers(ceil(units / words), units))
    interval = draw(_at_most(words // ceil(units / lanes)))
    projection = None
    if projected:
        work = ceil(hidden / units) * words
        rows = draw(st.integers(ceil(projected / work), projected))
        passes = ceil(projected / rows)
        projection = DenseFolding(rows=rows, columns=draw(
            st.integers(ceil(hidden / (work // passes)), hidden)))
    return Folding(units=units, columns=columns, lanes=lanes, interval=interval,
                   projection=projection)


@st.composite
def _layers(draw: st.DrawFn, inputs: int, most: int, *, turning: bool, plain: bool) -> Layer:
    hidden = draw(_at_most(most))
    way = draw(st.sampled_from(("forward", "reverse", *MERGES))) if turning else "forward"
    projected = draw(st.none() | _at_most(most))
    more: dict[str, Any] = {name: draw(st.booleans()) for name in (
        "peepholes", "coupled", "begun")}
    gates = st.sampled_from(GATES[:1] if plain else GATES)
    curves = st.just(TANH) | st.sampled_from(CURVES[:2] if plain else CURVES)
    more |= {"gate": draw(gates), "candidate": draw(curves), "squash": draw(curves)}
    if way in MERGES:
        more["back"] = draw(st.none() | st.tuples(gates, curves, curves))
    if not plain:
        more["clip"] = draw(st.sampled_from((None, 0.7, 1.5)))
    return Layer(hidden=hidden, way=way, projected=projected, folding=draw(
        _foldings(inputs + (projected or hidden), hidden, projected)), **more)


@st.composite
def _heads(draw: st.DrawFn, inputs: int, most: int) -> tuple[Head, ...]:
    found: list[Head] = []
    for at in range(count := draw(st.integers(0, 3))):
        last = (SOFTMAX, ARGMAX) if at == count - 1 else ()
        outputs = draw(_at_most(most))
        found.append(Head(outputs=outputs, function=draw(st.sampled_from(
            (IDENTITY, *last, RELU, SIGMOID, TANH, *CURVES[4:]))), folding=DenseFolding(
                rows=draw(_at_most(outputs)), columns=draw(_at_most(inputs)))))
        inputs = outputs
    return tuple(found)


@st.composite
def designs(draw: st.DrawFn, *, most: int = 4, cycles: int = 150,
            widths: Sequence[int] = (8, 9, 10)) -> Design:
    """Any design of up to so many units a layer.

    Parameters
    ----------
    most : int
        Units of a layer, and outputs of a dense one, at most.
    cycles : int
        Of all sequences together, about, at most; each has one step at least.
    widths : sequence of int
        Of gates. The search for the table takes seconds at 16 bits, once for each width.
    """
    inputs = draw(_at_most(most) | _at_most(5 * most))
    turning, plain = draw(st.booleans()), draw(st.booleans())
    formats = draw(st.sampled_from([name for name, of in FORMATS.items()
                                    if of.gate.width in widths])) if plain else None
    layers: list[Layer] = []
    columns = inputs
    for _ in range(draw(st.sampled_from((1, 1, 2, 2, 3)))):
        layers.append(draw(_layers(columns, most, turning=turning, plain=plain)))
        columns = layers[-1].outputs * (2 if layers[-1].way == "concat" else 1)
    head = draw(_heads(columns, most))
    more: dict[str, Any] = {name: draw(st.booleans()) for name in ("every_step", "wild", "chosen")}
    if turning:
        more |= {name: draw(st.booleans()) for name in ("final", "backwards")}
    turns = any(layer.way != "forward" for layer in layers) or (
        turning and more["backwards"] and more["every_step"])
    streams = 1 if turns else draw(st.sampled_from((1, 1, 2, 2, 3, 5)))
    stateful = draw(st.booleans())
    known = [f"lstm{n}.{tensor}" for n in range(len(layers)) for tensor in "hc"]
    states = tuple(draw(st.lists(st.sampled_from(known), unique=True)))

    work = max(ceil(layer.hidden / layer.folding.units) * ceil(
        (taken + layer.outputs) / layer.folding.columns)
        for taken, layer in zip((inputs, *(each.outputs for each in layers)), layers, strict=False))
    spare = cycles // work
    sequences: list[Played] = []
    for _ in range(draw(_at_most(2 + streams))):
        steps = draw(_at_most(4) | _at_most(40) if spare > 40 else _at_most(max(1, min(4, spare))))
        spare -= steps
        sequences.append(Played(steps=steps, data=draw(st.sampled_from(DATA)), **{
            name: draw(st.booleans()) for name in (("keep", "given") if stateful else ())}))
    longest = max(played.steps for played in sequences) + draw(st.integers(0, 2))
    # Where nothing is held up, cycles are looked at, too.
    if draw(st.booleans()):
        more |= {"stall": draw(st.sampled_from((0.3, 0.0, 0.7))),
                 "reset_after": draw(st.none() | _at_most(12)),
                 "hold": draw(st.sampled_from((0, 0, 100))),
                 "hold_states": draw(st.sampled_from((0, 0, 100))) if states else 0}
    return Design(
        layers=tuple(layers), sequences=tuple(sequences), inputs=inputs, head=head,
        bits=draw(st.sampled_from(widths)), formats=formats, stateful=stateful, states=states,
        streams=streams, longest=longest,
        pipeline=draw(st.sampled_from(list(PIPELINES.values())) | st.builds(Pipeline, **{
            name: st.integers(*limits) for name, limits in PIPELINE_LIMITS.items()})),
        mixed=streams > 1 and draw(st.booleans()), seed=draw(st.integers(0, 1 << 16)), **more)
