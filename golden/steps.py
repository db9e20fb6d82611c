"""One step of one layer, for a block of sequences: integers in float64, which is exact for them.

- A tensor lies as one row per unit and one column per sequence, so that a gate is a contiguous
  slice, and all that a step computes lands in buffers made beforehand.
- A table unit, folding, interpolation, rounding and tails included, is one gather from an array
  over all input codes. The array stops where the function has become constant, since the gather
  clips its index anyway, and the shift from code to index rides on the bias.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from golden.activation import SIGMOID
from golden.fixed import SQ, UQ, Format
from golden.formats import Curve
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.result import StateCodes
from golden.table import Table

__all__ = ["DenseSteps", "LSTMSteps", "Record"]

EXACT_BITS = 53

Record = Callable[[str, np.ndarray], None]
"""Takes the name and the codes of an intermediate, one row per unit, one column per sequence."""


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


class LSTMSteps:
    """One LSTM layer stepping ``batch`` sequences at most.

    Gates are kept in the order i, f, o, g: those with a sigmoid together. A step works on rows of
    the same few arrays, in turn: what one operation leaves is where the next one takes it.

    Parameters
    ----------
    layer : QuantizedLSTM
    batch : int
    name : str
        Of the layer, for errors.

    Attributes
    ----------
    x : float64 array, N x B
        Codes of the inputs, to be written before a step. B is the count that `keep` was given.
    h : float64 array, R x B
        Codes of the hidden states.
    outputs : int
        R.
    saturated : dict of str to int
        How many elements of each saturating tensor lay outside of its format so far.

    Raises
    ------
    ValueError
        If a sum may have more bits than float64 is exact for.
    """

    def __init__(self, layer: QuantizedLSTM, batch: int, name: str) -> None:
        self._check_sums(layer, name)
        self._layer, self._inputs, self._formats = layer, layer.inputs, layer.formats
        self._hidden, self.outputs = layer.hidden, layer.outputs
        # Rows whose sums are complete at once: that of an output gate with a peephole waits for c'.
        self._first = (3 if layer.peepholes is None else 2) * self._hidden
        self._load(layer)

        # Columns of the weights: x, h and a one for the bias.
        self._operand = np.zeros((layer.inputs + layer.outputs + 1, batch))
        self._cell = np.zeros((self._hidden, batch))
        self._projector = layer.projector and DenseSteps(layer.projector, f"{name}.h")
        self._sums, self._values = np.empty((2, 4 * self._hidden * batch))
        self._indices = np.empty(4 * self._hidden * batch, dtype=np.int64)
        self.saturated = dict.fromkeys(layer.saturating, 0)
        # For each of them what lies below and above in this step, where somebody wants to know.
        self._sides: dict[str, np.ndarray] = {}

    @staticmethod
    def _check_sums(layer: QuantizedLSTM, name: str) -> None:
        """Refuse a layer one of whose sums float64 may round."""
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

    def _load(self, layer: QuantizedLSTM) -> None:
        """Lookups, and weights in units of an ulp of what they give."""
        formats, hidden = layer.formats, layer.hidden
        z, product = formats.z, formats.product_fraction
        self._sigmoid = _lookup(layer.table, SIGMOID, layer.gate, formats.gate)
        self._tanh = _lookup(layer.table, layer.candidate_reading, layer.of_candidate, formats.g)
        self._squash = _lookup(layer.table, layer.cell_reading, layer.of_cell, formats.s)
        self._peepholes: np.ndarray | None = None
        if layer.peepholes is not None:
            self._peepholes = (layer.peepholes[:, None].astype(np.float64)
                               * 2.0 ** (z.f - product + layer.peephole_shift))
        order = np.r_[:2 * hidden, 3 * hidden:4 * hidden, 2 * hidden:3 * hidden]
        weights = np.concatenate([layer.w_x, layer.w_h, layer.bias[:, None]], axis=1)[order]
        self._weights = weights * 2.0 ** (z.f - product)
        # The candidate's ulp is half as large for a tanh.
        if layer.of_candidate.table:
            self._weights[3 * hidden:] *= 2.0 ** (layer.candidate.f - z.f)
        self._weights[:3 * hidden, -1] += self._sigmoid.offset
        self._weights[3 * hidden:, -1] += self._tanh.offset

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
        self._sides = {name: np.zeros((2, self._z.shape[1]), dtype=np.int64)
                       for name in (self.saturated if record else ())}
        self._gate(record)
        self._update(record)
        if self._peepholes is not None:
            self._gate_output()
        if record:
            self._record_sums(record)
        self._show(record)
        if record:
            record("c", self._c)
            record("h", self.h)
            record("outside", np.concatenate(list(self._sides.values())))

    def _gate(self, record: Record | None) -> None:
        """i, f, o and the candidate, but for an output gate that waits for c'."""
        formats, layer, sigmoid, tanh = self._formats, self._layer, self._sigmoid, self._tanh
        hidden, gates, first = self._hidden, 3 * self._hidden, self._first
        i, f, g, c = self._i, self._f, self._g, self._c
        z, index, values = self._z, self._index, self._a

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

    def _update(self, record: Record | None) -> None:
        """c' = f c + i g, and in place of i what it shows."""
        formats, layer, squash = self._formats, self._layer, self._squash
        hidden, index = self._hidden, self._index
        i, f, g, c = self._i, self._f, self._g, self._c

        # The exact sum, in units of an ulp of c.
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

    def _gate_output(self) -> None:
        """The output gate that sees the new cell state."""
        assert self._peepholes is not None
        waiting, z = slice(self._first, 3 * self._hidden), self._z
        seen = np.multiply(self._peepholes[self._first:], self._c, out=self._f)
        np.add(z[waiting], seen, out=z[waiting])
        self._round(waiting, self._sigmoid, self._layer.gate, self._formats.z)
        np.take(self._sigmoid.values, self._index[waiting], mode="clip", out=self._o)

    def _record_sums(self, record: Record) -> None:
        """Inputs, preactivations, and the output gate, which comes last."""
        layer, z, gates = self._layer, self._z, 3 * self._hidden
        gate, of_candidate = (np.clip(z[rows] - lookup.offset, curve.low, curve.high)
                              for rows, lookup, curve in (
                                  (slice(gates), self._sigmoid, layer.gate),
                                  (slice(gates, None), self._tanh, layer.of_candidate)))
        i_and_f = 2 * self._hidden
        record("x", self.x)
        record("z", np.concatenate([gate[:i_and_f], of_candidate, gate[i_and_f:]]))
        record("o", self._o * 2.0**self._formats.gate.f)

    def _show(self, record: Record | None) -> None:
        """h = o tanh(c'), or the projection of it."""
        formats, o = self._formats, self._o
        np.multiply(o, self._i, out=o)
        np.multiply(o, 2.0**formats.m.f, out=o)
        if not self._projector:
            self._settle("h", o, formats.h, self.h)
            return
        self._settle("m", o, formats.m, o)
        self.h[:] = self._projector.run(o, self._sides.get("h"))
        self.saturated["h"] = self._projector.saturated
        if record:
            record("m", o)

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


class DenseSteps:
    """A dense layer, or a projection.

    Parameters
    ----------
    layer : QuantizedDense
    name : str
        Of its result, for errors.

    Attributes
    ----------
    saturated : int
        How many sums lay outside of their format so far.

    Raises
    ------
    ValueError
        If a sum may have more bits than float64 is exact for.
    """

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
