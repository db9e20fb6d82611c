"""The bit-true network over whole batches, at the speed of float64 BLAS.

Integers live in float64, which is exact for them up to 2**53; every bound is checked before the
first step. Four things make it fast:

- A tensor of a step lies as one row per unit and one column per sequence, so that a gate is a
  contiguous slice, and all that a step computes lands in buffers made beforehand.
- A table unit, folding, interpolation, rounding and tails included, is one gather from an array
  over all input codes. The array stops where the function has become constant, since the gather
  clips its index anyway, and the shift from code to index rides on the bias.
- Sequences are sorted by length, longest first: those still running are always the first columns,
  so padding is neither computed nor counted, and a final hidden state stays where it is.
- BLAS keeps to one thread. On idle cores a second one gains a little with layers of a hundred
  units or more; where another process wants the core, the two wait for each other at every step,
  and a run takes several times as long.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property, lru_cache, partial
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from golden.activation import SIGMOID
from golden.bidirectional import QuantizedBidirectional, QuantizedLayer
from golden.fixed import SQ, UQ, Format
from golden.quantized import Curve, QuantizedDense, QuantizedLSTM
from golden.table import Table

__all__ = ["LSTMCodes", "Result", "StateCodes", "simulate"]

# Sequences computed together. The buffers of 128 units then just fit a core's caches; more only
# takes memory, fewer leave the calls' overhead uncovered.
BLOCK = 256

EXACT_BITS = 53

# Takes the name and the codes of an intermediate, one row per unit, one column per sequence.
Record = Callable[[str, np.ndarray], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class LSTMCodes:
    """Every intermediate of an LSTM layer over B sequences of T steps: int64 codes.

    All have the shape B x T x H except ``x``, B x T x N, ``z``, B x T x 4H with the gates in the
    order i, f, g, o, ``h``, B x T x R, and ``outside``. Zero beyond the end of a sequence.

    Parameters
    ----------
    x : in the layer's ``x`` format
    z : i, f and o in ``z``, g in the layer's ``candidate``
    i, f, o : in ``gate``
    g : in ``g``
    u : what is looked up for c', in the layer's ``squashed``; without a table, what comes out
    c : in ``c``
    h : in ``h``
    m : what the output gate lets out, in ``m``; ``h`` without a projection
    outside : B x T x 2 S, how many elements of each of the layer's S saturating tensors lay below
        their format, and how many above
    """

    x: np.ndarray
    z: np.ndarray
    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    u: np.ndarray
    c: np.ndarray
    h: np.ndarray
    outside: np.ndarray
    m: np.ndarray = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        given: Any = self.m
        if given is None:
            object.__setattr__(self, "m", self.h)


@dataclass(frozen=True, kw_only=True, eq=False)
class StateCodes:
    """What an LSTM layer carries from step to step, for B sequences: int64 codes.

    Parameters
    ----------
    h : int64 array, B x H, in ``h``
    c : int64 array, B x H, in ``c``
    """

    h: np.ndarray
    c: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a run of the bit-true network gave.

    Parameters
    ----------
    y : int64 array, B x O, or B x T x O with an output at every step
        Output codes; zero beyond the end of a sequence.
    format : Format
        Of the output codes.
    saturated : dict
        How many values of each tensor lay outside its format, steps beyond the end of a sequence
        left out; keys like ``lstm0.z`` in the order of the data flow, and ``x`` where the run
        quantised its input.
    layers : tuple of LSTMCodes or None
        The intermediates, where they were asked for.
    final : tuple of StateCodes
        The state of each layer after each sequence's last step.
    behind : int64 array, B x H, or B x T x H with an output at every step, or None
        What the dense layers take, where the intermediates were asked for.
    outside : dict of str to int64 array, B, or None
        ``saturated`` of each sequence, where the intermediates were asked for.
    """

    y: np.ndarray
    format: Format
    saturated: dict[str, int]
    layers: tuple[LSTMCodes, ...] | None
    final: tuple[StateCodes, ...]
    behind: np.ndarray | None = None
    outside: dict[str, np.ndarray] | None = None

    @property
    def real(self) -> np.ndarray:
        """The outputs as real numbers, float64."""
        return self.format.to_real(self.y)


@dataclass(frozen=True, eq=False)
class _Lookup:
    """A function of an integer code as an array: ``values[clip(code + offset)]``."""

    values: np.ndarray
    offset: int

    @classmethod
    def over(cls, function: Callable[[np.ndarray], np.ndarray], curve: Curve, ulp: float
             ) -> "_Lookup":
        """Of a function that does not fall, between the limits."""
        values = function(np.arange(curve.low, curve.high + 1))
        first = max(int(np.searchsorted(values, values[0], side="right")) - 1, 0)
        values = values[first:int(np.searchsorted(values, values[-1])) + 1]
        # The offset is added before rounding: an even one leaves a tie's even neighbour even.
        offset = -(curve.low + first)
        if offset & 1:
            offset, values = offset + 1, np.concatenate([values[:1], values])
        return cls(values * ulp, offset)


@lru_cache(maxsize=8)
def _lookup(table: Table, reading: int, curve: Curve, line: SQ | UQ) -> _Lookup:
    """A curve, giving real numbers; ``line`` is the format of what comes out without the table."""
    if curve.table:
        return _Lookup.over(partial(table.evaluate, reading=reading), curve,
                            table.readings[reading].result.ulp)
    return _Lookup.over(lambda codes: codes, curve, line.ulp)


def _check_exact(name: str, bound: int) -> None:
    """Refuse sums that float64 may round; ``bound`` is the largest magnitude in the lowest bit."""
    if bound > 1 << EXACT_BITS:
        raise ValueError(f"{name} reaches {bound.bit_length()} bits, but float64 is exact for "
                         f"integers of {EXACT_BITS} bits at most")


def _reach(layer: QuantizedLSTM | QuantizedDense) -> int:
    """The largest magnitude of any partial sum of a matrix product, in its lowest bit."""
    return max(-layer.array.min, -layer.accumulator.min)


def _outside(values: np.ndarray, low: float, high: float, sides: np.ndarray | None = None) -> int:
    """How many values lie outside ``low`` to ``high``; ``sides`` gets how many of each column."""
    # Mostly none does, and two reductions say so faster than comparing each.
    if values.min() >= low and values.max() <= high:
        return 0
    below, above = values < low, values > high
    if sides is not None:
        sides += below.sum(axis=0), above.sum(axis=0)
    return int(np.count_nonzero(below) + np.count_nonzero(above))


class _LSTM:
    """One LSTM layer stepping ``batch`` sequences at most.

    Gates are kept in the order i, f, o, g: those with a sigmoid together.
    """

    def __init__(self, layer: QuantizedLSTM, batch: int, name: str) -> None:
        formats = layer.formats
        z, c = formats.z, formats.c
        argument = layer.squashed
        product, state = formats.product_fraction, formats.state_fraction

        finest = max(product, z.f + 1)
        _check_exact(f"the sum at {name}.z",
                     (_reach(layer) << finest - product) + (-z.min << finest - z.f))
        finest = max(state, argument.f)
        _check_exact(f"the sum at {name}.c",
                     (-c.min << finest - c.f) + (-formats.g.min << finest - formats.g.f)
                     + (-argument.min << finest - argument.f))
        if layer.slope:
            fraction = layer.slope.f + c.f
            finest = max(fraction, argument.f)
            _check_exact(f"the line at {name}.u",
                         (abs(layer.slope.a) * -c.min + abs(layer.slope.b) << finest - fraction)
                         + (-argument.min << finest - argument.f))

        self._sigmoid = _lookup(layer.table, SIGMOID, layer.gate, formats.gate)
        self._tanh = _lookup(layer.table, layer.candidate_reading, layer.of_candidate, formats.g)
        self._squash = _lookup(layer.table, layer.cell_reading, layer.of_cell, formats.s)
        self._layer = layer
        hidden = self._hidden = layer.hidden
        self.outputs = layer.outputs
        # Rows whose sums are complete at once: that of an output gate with a peephole waits for c'.
        self._first = 3 * hidden if layer.peepholes is None else 2 * hidden
        self._peepholes: np.ndarray | None = None
        if layer.peepholes is not None:
            # In units of an ulp of z.
            self._peepholes = (layer.peepholes[:, None].astype(np.float64)
                               * 2.0 ** (z.f - product + layer.peephole_shift))
        self._inputs, self._formats = layer.inputs, formats
        order = np.r_[:2 * hidden, 3 * hidden:4 * hidden, 2 * hidden:3 * hidden]
        weights = np.concatenate([layer.w_x, layer.w_h, layer.bias[:, None]], axis=1)[order]
        # In units of an ulp of z, and of the candidate's, which is half as large for a tanh.
        self._weights = weights * 2.0 ** (z.f - product)
        if layer.of_candidate.table:
            self._weights[3 * hidden:] *= 2.0 ** (layer.candidate.f - z.f)
        self._weights[:3 * hidden, -1] += self._sigmoid.offset
        self._weights[3 * hidden:, -1] += self._tanh.offset

        # Columns of the weights: x, h and a one for the bias.
        self._operand = np.zeros((layer.inputs + layer.outputs + 1, batch))
        self._cell = np.zeros((hidden, batch))
        self._projector = layer.projector and _Dense(layer.projector, f"{name}.h")
        self._sums, self._values = np.empty((2, 4 * hidden * batch))
        self._indices = np.empty(4 * hidden * batch, dtype=np.int64)
        self.saturated = dict.fromkeys(layer.saturating, 0)
        # For each of them what lies below and above in this step, where somebody wants to know.
        self._sides: dict[str, np.ndarray] = {}

    def start(self, state: StateCodes | None, rows: np.ndarray) -> None:
        """Set the states to what sequences begin with, or to those given for ``rows``."""
        self._operand[:self._inputs] = 0
        self._operand[self._inputs:-1] = self._layer.initial_h[:, None]
        self._operand[-1] = 1
        self._cell[:] = self._layer.initial_c[:, None]
        if state is not None:
            self._operand[self._inputs:-1, :len(rows)] = state.h[rows].T
            self._cell[:, :len(rows)] = state.c[rows].T

    def finish(self, final: StateCodes, rows: np.ndarray) -> None:
        """Write the states of ``rows``, where each of them ended, into those of all."""
        self.keep(len(rows))
        final.h[rows] = self.h.T
        final.c[rows] = self._c.T

    def keep(self, count: int) -> None:
        """From now on step the first ``count`` sequences only; the others stay as they are."""
        hidden, shape = self._hidden, (4 * self._hidden, count)
        self._v = self._operand[:, :count]
        self.x = self._v[:self._inputs]
        self.h = self._v[self._inputs:-1]
        self._c = self._cell[:, :count]
        self._z = self._sums[:4 * hidden * count].reshape(shape)
        self._index = self._indices[:4 * hidden * count].reshape(shape)
        self._a = self._values[:4 * hidden * count].reshape(shape)
        self._i, self._f, self._o, self._g = np.split(self._a, 4)

    def step(self, record: Record | None) -> None:
        """Go one step with the input in ``x``; leaves the new hidden state in ``h``.

        ``record`` gets every intermediate.
        """
        formats, layer, sigmoid, tanh, squash = (
            self._formats, self._layer, self._sigmoid, self._tanh, self._squash)
        hidden, gates, first = self._hidden, 3 * self._hidden, self._first
        i, f, g, o, c, h = self._i, self._f, self._g, self._o, self._c, self.h
        z, index, values = self._z, self._index, self._a
        self._sides = {name: np.zeros((2, z.shape[1]), dtype=np.int64)
                       for name in (self.saturated if record else ())}

        np.matmul(self._weights, self._v, out=z)
        if self._peepholes is not None:
            np.multiply(self._peepholes[:hidden], c, out=i)
            np.multiply(self._peepholes[hidden:first], c, out=f)
            np.add(z[:first], values[:first], out=z[:first])
        self._round(slice(first), sigmoid, layer.gate, formats.z)
        self._round(slice(gates, None), tanh, layer.of_candidate, layer.candidate)
        np.take(sigmoid.values, index[:first], mode="clip", out=values[:first])
        np.take(tanh.values, index[gates:], mode="clip", out=g)
        if record:
            for name, gate in (("i", i), ("f", f)):
                record(name, gate * 2.0**formats.gate.f)
            record("g", g * 2.0**formats.g.f)

        # The exact sum f c + i g, in units of an ulp of c.
        np.multiply(i, g, out=g)
        np.multiply(g, 2.0**formats.c.f, out=g)
        np.multiply(f, c, out=f)
        total = np.add(f, g, out=f)

        if layer.of_cell.table:
            u = np.multiply(total, 2.0 ** (layer.squashed.f - formats.c.f), out=g)
            np.add(u, squash.offset, out=u)
            np.rint(u, out=u)
            self._count("u", u, layer.squashed.min + squash.offset,
                        layer.squashed.max + squash.offset)
            self._settle("c", total, formats.c, c)
        elif layer.slope:
            self._settle("c", total, formats.c, c)
            line = layer.slope
            u = np.add(np.multiply(c, line.a, out=g), line.b, out=g)
            np.multiply(u, 2.0 ** (formats.s.f - line.f - formats.c.f), out=u)
            np.add(u, squash.offset, out=u)
            np.rint(u, out=u)
            low, high = layer.of_cell.flagged(formats.s)
            self._count("u", u, low + squash.offset, high + squash.offset)
        else:
            self._settle("c", total, formats.c, c)
            u = np.add(c, squash.offset, out=g)
        if record:
            record("u", np.clip(u - squash.offset, layer.of_cell.low, layer.of_cell.high))
        np.copyto(index[:hidden], u, casting="unsafe")
        np.take(squash.values, index[:hidden], mode="clip", out=i)
        if self._peepholes is not None:
            np.multiply(self._peepholes[first:], c, out=f)
            np.add(z[first:gates], f, out=z[first:gates])
            self._round(slice(first, gates), sigmoid, layer.gate, formats.z)
            np.take(sigmoid.values, index[first:gates], mode="clip", out=o)
        if record:
            gate, of_candidate = (np.clip(z[rows] - lookup.offset, curve.low, curve.high)
                                  for rows, lookup, curve in (
                                      (slice(gates), sigmoid, layer.gate),
                                      (slice(gates, None), tanh, layer.of_candidate)))
            record("x", self.x)
            record("z", np.concatenate([gate[:2 * hidden], of_candidate, gate[2 * hidden:]]))
            record("o", o * 2.0**formats.gate.f)

        np.multiply(o, i, out=o)
        np.multiply(o, 2.0**formats.m.f, out=o)
        if self._projector:
            self._settle("m", o, formats.m, o)
            h[:] = self._projector.run(o, self._sides.get("h"))
            self.saturated["h"] = self._projector.saturated
            if record:
                record("m", o)
        else:
            self._settle("h", o, formats.h, h)
        if record:
            record("c", c)
            record("h", h)
            record("outside", np.concatenate(list(self._sides.values())))

    def _round(self, rows: slice, lookup: _Lookup, curve: Curve, to: Format) -> None:
        """Round preactivations to indices of their lookup, and count what saturates."""
        z = self._z[rows]
        np.rint(z, out=z)
        low, high = curve.flagged(to)
        self._count("z", z, low + lookup.offset, high + lookup.offset)
        np.copyto(self._index[rows], z, casting="unsafe")

    def _count(self, name: str, values: np.ndarray, low: float, high: float) -> None:
        self.saturated[name] += _outside(values, low, high, self._sides.get(name))

    def _settle(self, name: str, exact: np.ndarray, to: Format, state: np.ndarray) -> None:
        """Round, count what saturates, and write the new state; ``exact`` is lost."""
        np.rint(exact, out=exact)
        self._count(name, exact, to.min, to.max)
        np.clip(exact, to.min, to.max, out=state)


class _Dense:
    """A dense layer, or a projection; ``name`` is that of its result."""

    def __init__(self, layer: QuantizedDense, name: str) -> None:
        _check_exact(f"the sum at {name}", _reach(layer))
        weights = np.concatenate([layer.w, layer.bias[:, None]], axis=1)
        self._weights = weights * 2.0 ** (layer.formats.z.f - layer.formats.product_fraction)
        self._layer, self._bounds = layer, layer.curve.flagged(layer.formats.z)
        self.saturated = 0

    def run(self, h: np.ndarray, sides: np.ndarray | None = None) -> np.ndarray:
        """Map codes, one column per sequence, to output codes; ``sides`` as of `_outside`."""
        y = np.rint(self._weights[:, :-1] @ h + self._weights[:, -1:])
        self.saturated += _outside(y, *self._bounds, sides)
        codes = np.clip(y, self._layer.curve.low, self._layer.curve.high)
        if not self._layer.curve.table:
            return codes
        return self._layer.table.evaluate(codes.astype(np.int64), reading=self._layer.reading)


def _recorder(trace: dict[str, np.ndarray], rows: np.ndarray, at: int | np.ndarray) -> Record:
    """Put the codes of a step, one column for each of ``rows``, into a layer's trace."""
    def record(name: str, codes: np.ndarray) -> None:
        trace[name][rows, at] = codes.T
    return record


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries: finding them takes milliseconds, setting their threads microseconds."""
    return ThreadpoolController().select(user_api="blas")


def simulate(layers: Sequence[QuantizedLayer], head: Sequence[QuantizedDense], x: np.ndarray,
             lengths: np.ndarray, *, every_step: bool, final: bool = False,
             backwards: bool = False, trace: bool, state: Sequence[StateCodes] | None = None
             ) -> Result:
    """Run a stack of layers on input that is known to be good.

    Parameters
    ----------
    layers : sequence of QuantizedLSTM or QuantizedBidirectional
    head : sequence of QuantizedDense
        Without any the last layer's hidden state is the output.
    x : int64 array, B x T x N
        Input codes, all in the first layer's format.
    lengths : int64 array, B
        Steps of each sequence, 1 to T.
    every_step, final, backwards : bool
        At which steps there are outputs, and in which order, as of the network.
    trace : bool
        Whether to return every intermediate.
    state : sequence of StateCodes, optional
        What each layer begins with, in place of its own.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        If a sum may outgrow what float64 holds exactly.
    """
    with _blas().limit(limits=1):
        return _simulate(layers, head, x, lengths, every_step, final, backwards, trace, state)


@dataclass(frozen=True, eq=False)
class _Block:
    """Sequences that are computed together, the longest first.

    Parameters
    ----------
    rows : int array, B
        Their numbers.
    lengths : int array, B
    traces : sequence of dict
        Where the intermediates of each direction of the network go; empty where nobody wants them.
    states : sequence of StateCodes or None
        What each direction begins with, in place of its own.
    ended : sequence of StateCodes
        Where the states go in which each direction ends.
    """

    rows: np.ndarray
    lengths: np.ndarray
    traces: Sequence[dict[str, np.ndarray]]
    states: Sequence[StateCodes] | None
    ended: Sequence[StateCodes]

    @cached_property
    def running(self) -> list[int]:
        """How many sequences have each step."""
        return np.searchsorted(-self.lengths, -np.arange(self.lengths[0])).tolist()

    @cached_property
    def _turned(self) -> np.ndarray:
        """The step that has each one's place when a sequence is turned round: T x 1 x B."""
        steps = np.arange(self.lengths[0])[:, None]
        return np.where(steps < self.lengths, self.lengths - 1 - steps, steps)[:, None]

    def turned(self, columns: np.ndarray) -> np.ndarray:
        """Every sequence of T x N x B from its last step to its first."""
        return np.take_along_axis(columns, self._turned, axis=0)

    def places(self, t: int, active: int, reverse: bool) -> int | np.ndarray:
        """Where the first sequences have the step that is read at a time."""
        return self.lengths[:active] - 1 - t if reverse else t

    def walk(self, stack: Sequence[_LSTM], columns: np.ndarray, first: int, *,
             reverse: bool = False) -> Iterator[tuple[int, int, np.ndarray]]:
        """Run layers step by step.

        Parameters
        ----------
        columns : float64 array, T x N x B
            What the first of them reads, in the order in which it reads.
        first : int
            Number of the first one's direction.
        reverse : bool
            Whether that order is the reverse one.

        Yields
        ------
        t, active : int
            The step, and how many sequences have it.
        h : array
            The last layer's hidden states.
        """
        for number, each in enumerate(stack, first):
            each.start(self.states[number] if self.states else None, self.rows)
        active = -1
        for t, now in enumerate(self.running):
            if now != active:
                active = now
                for each in stack:
                    each.keep(active)
            h = columns[t, :, :active]
            for number, each in enumerate(stack, first):
                each.x[:] = h
                each.step(_recorder(self.traces[number], self.rows[:active],
                                    self.places(t, active, reverse)) if self.traces else None)
                h = each.h
            yield t, active, h
        for number, each in enumerate(stack, first):
            each.finish(self.ended[number], self.rows)

    def all_of(self, stack: Sequence[_LSTM], columns: np.ndarray, first: int, *,
               reverse: bool = False) -> np.ndarray:
        """The hidden states of all steps, T x R x B, each where its x is; 0 beyond the ends."""
        h = np.zeros((len(columns), stack[-1].outputs, columns.shape[2]))
        for t, active, codes in self.walk(
                stack, self.turned(columns) if reverse else columns, first, reverse=reverse):
            h[t, :, :active] = codes
        return self.turned(h) if reverse else h


def _simulate(layers: Sequence[QuantizedLayer], head: Sequence[QuantizedDense], x: np.ndarray,
              lengths: np.ndarray, every_step: bool, final: bool, backwards: bool, trace: bool,
              state: Sequence[StateCodes] | None) -> Result:
    count, steps, _ = x.shape
    block = min(count, BLOCK)
    directions = [(number, each) for number, layer in enumerate(layers)
                  for each in layer.directions]
    stack = [_LSTM(each, block, f"lstm{number}") for number, each in directions]
    behind = {f"dense{number}.y": _Dense(layer, f"dense{number}.y")
              for number, layer in enumerate(head)}
    outputs, to = ((head[-1].outputs, head[-1].formats.y) if head else
                   (layers[-1].outputs, layers[-1].y))
    y = np.zeros((count, steps, outputs) if every_step else (count, outputs), dtype=np.int64)
    before = np.zeros((*y.shape[:-1], layers[-1].outputs), dtype=np.int64) if trace else None
    traces = [
        {field.name: np.zeros((count, steps, width), dtype=np.int64)
         for field in fields(LSTMCodes) if field.name != "m" or each.projector
         for width in [{"x": each.inputs, "z": 4 * each.hidden, "h": each.outputs,
                        "outside": 2 * len(each.saturating)}.get(field.name, each.hidden)]}
        for _, each in directions if trace]
    begun = None if state is None else [
        StateCodes(h=h, c=c) for layer, given in zip(layers, state, strict=True)
        for h, c in zip(*(np.split(np.asarray(codes), len(layer.directions), axis=1)
                          for codes in (given.h, given.c)), strict=True)]
    ended = [StateCodes(h=np.zeros((count, each.outputs), dtype=np.int64),
                        c=np.zeros((count, each.hidden), dtype=np.int64))
             for _, each in directions]
    saturated = {f"lstm{number}.{tensor}": 0 for number, layer in enumerate(layers)
                 for tensor in layer.saturating}
    outside = {name: np.zeros(count, dtype=np.int64) for name in (*saturated, *behind)}

    def settle(at: Any, h: np.ndarray) -> None:
        """The outputs at some places, of the last layer's."""
        if before is not None:
            before[at] = h.T
        for name, dense in behind.items():
            sides = np.zeros((2, h.shape[1]), dtype=np.int64) if trace else None
            h = dense.run(h, sides)
            if sides is not None:
                outside[name][at[0] if every_step else at] += sides.sum(axis=0)
        y[at] = h.T

    def merged(number: int, rows: np.ndarray, parts: list[np.ndarray], axis: int) -> np.ndarray:
        layer = layers[number]
        if not isinstance(layer, QuantizedBidirectional):
            return parts[0]
        h, total = layer.merged(parts, axis)
        if total:
            saturated[f"lstm{number}.y"] += total
            if trace:
                outside[f"lstm{number}.y"][rows] = [
                    layer.merged([part[..., n] for part in parts], axis)[1]
                    for n in range(len(rows))]
        return h

    # Layers that read forward go step by step together. One that does not needs the whole sequence.
    whole = [number for number, layer in enumerate(layers)
             if any(each.reverse for each in layer.directions)]
    order = np.argsort(-lengths, kind="stable")
    for first in range(0, count, block):
        rows = order[first:first + block]
        part = _Block(rows, lengths[rows], traces, begun, ended)
        columns = np.ascontiguousarray(x[rows].transpose(1, 2, 0), dtype=np.float64)
        columns = columns[:part.lengths[0]]
        done, begin = 0, 0
        for number in whole:
            if number > done:
                # The layers before have one direction each.
                columns = part.all_of(stack[begin:begin + number - done], columns, begin)
                begin += number - done
            ways = layers[number].directions
            parts = [part.all_of([stack[n]], columns, n, reverse=each.reverse)
                     for n, each in enumerate(ways, begin)]
            if number == len(layers) - 1 and not every_step:
                ends, numbers = part.lengths - 1, np.arange(len(rows))
                parts = [h[0 if each.reverse and final else ends, :, numbers].T
                         for h, each in zip(parts, ways, strict=True)]
                columns = merged(number, rows, parts, 0)
            else:
                columns = merged(number, rows, parts, 1)
            done, begin = number + 1, begin + len(ways)

        last: Iterable[tuple[int, int, np.ndarray]]
        if done < len(layers):
            last = part.walk(stack[begin:], columns, begin)
        elif every_step:
            last = ((t, active, columns[t, :, :active]) for t, active in enumerate(part.running))
        else:
            settle(rows, columns)
            continue
        for t, active, h in last:
            if every_step:
                settle((rows[:active], part.places(t, active, backwards)), h)
        if not every_step:
            stack[-1].keep(len(rows))
            settle(rows, stack[-1].h)

    for (number, _), each in zip(directions, stack, strict=True):
        for name, value in each.saturated.items():
            saturated[f"lstm{number}.{name}"] += value
    for (number, direction), codes in zip(directions, traces, strict=trace):
        found = codes["outside"].reshape(count, steps, -1, 2).sum(axis=(1, 3))
        for name, counts in zip(direction.saturating, found.T, strict=True):
            outside[f"lstm{number}.{name}"] += counts
    saturated |= {name: dense.saturated for name, dense in behind.items()}
    # Of each layer: what its directions have, one after the other.
    of = iter(ended)
    layered = [[next(of) for _ in layer.directions] for layer in layers]
    return Result(y=y, format=to, saturated=saturated, final=tuple(
                      StateCodes(h=np.concatenate([each.h for each in of_layer], axis=1),
                                 c=np.concatenate([each.c for each in of_layer], axis=1))
                      for of_layer in layered),
                  layers=tuple(LSTMCodes(**codes) for codes in traces) if trace else None,
                  behind=before, outside=outside if trace else None)
