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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache, partial

import numpy as np
from threadpoolctl import ThreadpoolController

from golden.activation import SIGMOID, TANH
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

    All have the shape B x T x H except ``x``, B x T x N, and ``z``, B x T x 4H with the gates in
    the order i, f, g, o. Zero beyond the end of a sequence.

    Parameters
    ----------
    x : in the layer's ``x`` format
    z : i, f and o in ``z``, g in the layer's ``candidate``
    i, f, o : in ``gate``
    g : in ``g``
    u : what is looked up for c', in the layer's ``squashed``; without a table, what comes out
    c : in ``c``
    h : in ``h``
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
    """

    y: np.ndarray
    format: Format
    saturated: dict[str, int]
    layers: tuple[LSTMCodes, ...] | None
    final: tuple[StateCodes, ...]

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


def _outside(values: np.ndarray, low: float, high: float) -> int:
    """How many values lie outside ``low`` to ``high``."""
    # Mostly none does, and two reductions say so faster than comparing each.
    if values.min() >= low and values.max() <= high:
        return 0
    return int(np.count_nonzero(values < low) + np.count_nonzero(values > high))


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

        self._sigmoid = _lookup(layer.table, SIGMOID, layer.gate, formats.gate)
        self._tanh = _lookup(layer.table, TANH, layer.of_candidate, formats.g)
        self._squash = _lookup(layer.table, TANH, layer.of_cell, formats.s)
        self._layer = layer
        hidden = self._hidden = layer.hidden
        self._inputs, self._formats = layer.inputs, formats
        order = np.r_[:2 * hidden, 3 * hidden:4 * hidden, 2 * hidden:3 * hidden]
        weights = np.concatenate([layer.w_x, layer.w_h, layer.bias[:, None]], axis=1)[order]
        # In units of an ulp of z, and of the candidate's, which is half as large for the table.
        self._weights = weights * 2.0 ** (z.f - product)
        if layer.of_candidate.table:
            self._weights[3 * hidden:] *= 2.0
        self._weights[:3 * hidden, -1] += self._sigmoid.offset
        self._weights[3 * hidden:, -1] += self._tanh.offset

        # Columns of the weights: x, h and a one for the bias.
        self._operand = np.zeros((layer.inputs + hidden + 1, batch))
        self._cell = np.zeros((hidden, batch))
        self._sums, self._values = np.empty((2, 4 * hidden * batch))
        self._indices = np.empty(4 * hidden * batch, dtype=np.int64)
        self.saturated = dict.fromkeys("zuch", 0)

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
        hidden, gates = self._hidden, 3 * self._hidden
        i, f, g, o, c, h = self._i, self._f, self._g, self._o, self._c, self.h
        z, index, values = self._z, self._index, self._a

        np.matmul(self._weights, self._v, out=z)
        np.rint(z, out=z)
        for rows, lookup, curve, to in ((slice(gates), sigmoid, layer.gate, formats.z),
                                        (slice(gates, None), tanh, layer.of_candidate,
                                         layer.candidate)):
            low, high = curve.flagged(to)
            self.saturated["z"] += _outside(z[rows], low + lookup.offset, high + lookup.offset)
        np.copyto(index, z, casting="unsafe")
        np.take(sigmoid.values, index[:gates], mode="clip", out=values[:gates])
        np.take(tanh.values, index[gates:], mode="clip", out=g)
        if record:
            record("x", self.x)
            gate, of_candidate = (np.clip(z[rows] - lookup.offset, curve.low, curve.high)
                                  for rows, lookup, curve in (
                                      (slice(gates), sigmoid, layer.gate),
                                      (slice(gates, None), tanh, layer.of_candidate)))
            record("z", np.concatenate([gate[:2 * hidden], of_candidate, gate[2 * hidden:]]))
            for name, gate in (("i", i), ("f", f), ("o", o)):
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
            self.saturated["u"] += _outside(u, layer.squashed.min + squash.offset,
                                            layer.squashed.max + squash.offset)
            self._settle("c", total, formats.c, c)
        else:
            self._settle("c", total, formats.c, c)
            u = np.add(c, squash.offset, out=g)
        if record:
            record("u", np.clip(u - squash.offset, layer.of_cell.low, layer.of_cell.high))
        np.copyto(index[:hidden], u, casting="unsafe")
        np.take(squash.values, index[:hidden], mode="clip", out=i)

        np.multiply(o, i, out=o)
        np.multiply(o, 2.0**formats.h.f, out=o)
        self._settle("h", o, formats.h, h)
        if record:
            record("c", c)
            record("h", h)

    def _settle(self, name: str, exact: np.ndarray, to: Format, state: np.ndarray) -> None:
        """Round, count what saturates, and write the new state; ``exact`` is lost."""
        np.rint(exact, out=exact)
        self.saturated[name] += _outside(exact, to.min, to.max)
        np.clip(exact, to.min, to.max, out=state)


class _Dense:
    """The dense head."""

    def __init__(self, layer: QuantizedDense) -> None:
        _check_exact("the sum at dense.y", _reach(layer))
        weights = np.concatenate([layer.w, layer.bias[:, None]], axis=1)
        self._weights = weights * 2.0 ** (layer.formats.z.f - layer.formats.product_fraction)
        self._layer, self._bounds = layer, layer.curve.flagged(layer.formats.z)
        self.saturated = 0

    def run(self, h: np.ndarray) -> np.ndarray:
        """Map codes, one column per sequence, to output codes."""
        y = np.rint(self._weights[:, :-1] @ h + self._weights[:, -1:])
        self.saturated += _outside(y, *self._bounds)
        codes = np.clip(y, self._layer.curve.low, self._layer.curve.high)
        if not self._layer.curve.table:
            return codes
        return self._layer.table.evaluate(codes.astype(np.int64), reading=self._layer.reading)


def _recorder(trace: dict[str, np.ndarray], rows: np.ndarray, t: int) -> Record:
    """Put the codes of step ``t``, one column for each of ``rows``, into a layer's trace."""
    def record(name: str, codes: np.ndarray) -> None:
        trace[name][rows, t] = codes.T
    return record


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries: finding them takes milliseconds, setting their threads microseconds."""
    return ThreadpoolController().select(user_api="blas")


def simulate(layers: Sequence[QuantizedLSTM], head: QuantizedDense | None, x: np.ndarray,
             lengths: np.ndarray, *, every_step: bool, trace: bool,
             state: Sequence[StateCodes] | None = None) -> Result:
    """Run a stack of layers on input that is known to be good.

    Parameters
    ----------
    layers : sequence of QuantizedLSTM
    head : QuantizedDense or None
        Without one the last layer's hidden state is the output.
    x : int64 array, B x T x N
        Input codes, all in the first layer's format.
    lengths : int64 array, B
        Steps of each sequence, 1 to T.
    every_step : bool
        Whether there is an output at every step, or at the last of each sequence only.
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
        return _simulate(layers, head, x, lengths, every_step, trace, state)


def _simulate(layers: Sequence[QuantizedLSTM], head: QuantizedDense | None, x: np.ndarray,
              lengths: np.ndarray, every_step: bool, trace: bool,
              state: Sequence[StateCodes] | None) -> Result:
    count, steps, _ = x.shape
    block = min(count, BLOCK)
    stack = [_LSTM(layer, block, f"lstm{number}") for number, layer in enumerate(layers)]
    dense = _Dense(head) if head else None
    outputs, to = ((head.outputs, head.formats.y) if head else
                   (layers[-1].hidden, layers[-1].formats.h))
    y = np.zeros((count, steps, outputs) if every_step else (count, outputs), dtype=np.int64)
    traces = [
        {field.name: np.zeros((count, steps, width), dtype=np.int64)
         for field in fields(LSTMCodes)
         for width in [{"x": layer.inputs, "z": 4 * layer.hidden}.get(field.name, layer.hidden)]}
        for layer in layers if trace]
    final = tuple(StateCodes(h=np.zeros((count, len(layer.initial_h)), dtype=np.int64),
                             c=np.zeros((count, len(layer.initial_c)), dtype=np.int64))
                  for layer in layers)

    order = np.argsort(-lengths, kind="stable")
    for first in range(0, count, block):
        rows = order[first:first + block]
        columns = np.ascontiguousarray(x[rows].transpose(1, 2, 0), dtype=np.float64)
        running = np.searchsorted(-lengths[rows], -np.arange(lengths[rows[0]])).tolist()
        for number, each in enumerate(stack):
            each.start(state[number] if state else None, rows)
        active = -1
        for t, now in enumerate(running):
            if now != active:
                active = now
                for each in stack:
                    each.keep(active)
            h = columns[t, :, :active]
            for number, each in enumerate(stack):
                each.x[:] = h
                each.step(_recorder(traces[number], rows[:active], t) if trace else None)
                h = each.h
            if every_step:
                y[rows[:active], t] = (dense.run(h) if dense else h).T
        for each, ended in zip(stack, final, strict=True):
            each.finish(ended, rows)
        if not every_step:
            h = stack[-1].h
            y[rows] = (dense.run(h) if dense else h).T

    saturated = {f"lstm{number}.{name}": value for number, each in enumerate(stack)
                 for name, value in each.saturated.items()}
    if dense:
        saturated["dense.y"] = dense.saturated
    return Result(y=y, format=to, saturated=saturated, final=final,
                  layers=tuple(LSTMCodes(**codes) for codes in traces) if trace else None)
