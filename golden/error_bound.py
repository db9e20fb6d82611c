"""How far the bit-true model may be off the float model: a bound for every output, in real numbers.

The float model's values are known; an error ``e_v`` bounds how far the bit-true v lies from the
float one. It is carried from tensor to tensor in the worst case, without statistics. Weights with
a ``'`` are the rounded ones, all other letters are values of the float model. With

::

    RS(s, r) = the interval from s - r - ulp/2 to s + r + ulp/2, its ends limited to the format
    e_v      = the distance of v from the farther end of the interval of the bit-true v

where ``ulp`` and ends are those of the format that is rounded to and, in a :class:`Curve
<golden.quantized.Curve>`, its limits, the errors of a step are::

    e_x   = |RS(x) - x|                                the input's own; or of the layer before
    s_n   = w'_x x + w'_h h + bias' + p' c             n = i, f, g, o; what the rounding of
    r_n   = |w'_x| e_x + |w'_h| e_h + |p'| e_c         weights makes is in s_n, with its sign
    z_n  in RS(s_n, r_n)
    n    in [F(low z_n) - ulp, F(high z_n) + ulp]      F the function, from a table
    n    in z_n                                        where F is a line, slope in w'
    e_S   = (f + e_f) e_c + e_f |c| + (i + e_i) e_g + e_i |g|
    c'   in RS(c', e_S)
    u    in RS(c', e_S);  RS(a' c' + b', |a'| e_c') where it is a line;  c' where it is c'
    t    in [F(low u) - ulp, F(high u) + ulp], or in u
    m    in RS(m, (o + e_o) e_t + e_o |t|)             h without a projection
    h    in RS(w'_r m, |w'_r| e_m)

``p'_o c`` is that of the new cell state. The terms ``e_f e_c`` of second order are in ``(f + e_f)
e_c``, and no gate is above 1. Functions do not fall, so values at the ends of an argument's
interval bound all within: their slope there is at most 1/4 for a sigmoid, 1 for a tanh, and mostly
less. A table is off by less than one ulp of its result for every code (it is *faithful*,
:func:`golden.activation.sigmoid_table`; ``tests/test_activation.py`` shows it for all codes), and
never beyond the function's limits. Behind the layers::

    sum, ave    y in RS(p + q, e_p + e_q)       RS((p + q) / 2, (e_p + e_q) / 2)
    mul         y in RS(p q, (|p| + e_p) e_q + e_p |q|)
    dense       y in RS(w' y + bias', |w'| e_y), through F as above
    softmax     y_k from 2**low_k / (2**low_k + sum of the others' 2**high) - error
                to 2**high_k / (2**high_k + sum of the others' 2**low) + error
    argmax      every k whose high end is not below all the low ends may be the one

with the ends of the logits times log2(e), which the bit-true logits are, and
:attr:`Softmax.error <golden.softmax.Softmax.error>`. Where a weight row is long or a sequence is,
signs differ and errors cancel, which no bound of this kind knows of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from golden.argmax import ArgMax
from golden.bidirectional import QuantizedBidirectional, QuantizedLayer
from golden.checks import batch
from golden.fixed import Format
from golden.formats import Curve
from golden.function import Function
from golden.lstm import LSTM, Bidirectional
from golden.model import Dense, Layer, Network
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from golden.softmax import Softmax

__all__ = ["error_bound"]

Array = NDArray[np.float64]

# Half an ulp, and more than what float64 itself rounds in the sums of some thousand products.
HALF = 0.5 + 2.0**-12


@dataclass(frozen=True, kw_only=True, eq=False)
class _Near:
    """What the bit-true model has near a float value, which is at most ``error`` away."""

    value: Array
    error: Array

    def at(self, where: tuple[NDArray[np.int64], ...]) -> _Near:
        return _Near(value=self.value[where], error=self.error[where])

    def times(self, other: _Near, most: float = np.inf) -> Array:
        """The error of the product, where the bit-true value here is at most ``most``."""
        reach = np.minimum(np.abs(self.value) + self.error, most)
        return np.asarray(reach * other.error + self.error * np.abs(other.value))


@dataclass(frozen=True, kw_only=True)
class _Rounding:
    """A rounding to steps of ``ulp`` between limits, and a table behind it, where there is one."""

    ulp: float
    low: float
    high: float
    function: Function | None = None
    table_ulp: float = 0.0

    @classmethod
    def to(cls, of: Format) -> _Rounding:
        return cls(ulp=of.ulp, low=of.min * of.ulp, high=of.max * of.ulp)

    @classmethod
    def through(cls, curve: Curve, of: Format, function: Function, result: Format, *,
                rounds: bool = True) -> _Rounding:
        """A curve of an argument in ``of``; without ``rounds`` it is in this format already."""
        return cls(ulp=of.ulp if rounds else 0.0, low=curve.low * of.ulp, high=curve.high * of.ulp,
                   function=function if curve.table else None, table_ulp=result.ulp)

    def ends(self, centre: Array, radius: Array) -> tuple[Array, Array]:
        """Between what the bit-true result lies, of an exact argument around ``centre``."""
        reach = radius + HALF * self.ulp
        low = np.clip(centre - reach, self.low, self.high)
        high = np.clip(centre + reach, self.low, self.high)
        if self.function:
            least, most = self.function([-np.inf, np.inf])
            low = np.maximum(self.function(low) - self.table_ulp, least)
            high = np.minimum(self.function(high) + self.table_ulp, most)
        return low, high

    def near(self, value: Array, centre: Array, radius: Array) -> _Near:
        """The result, which in the float model is ``value``."""
        return _Near(value=value, error=_distance(value, *self.ends(centre, radius)))


def _distance(value: Array, low: Array, high: Array) -> Array:
    """From the farther end."""
    return np.maximum(high - value, value - low)


def _states(lstm: LSTM, layer: QuantizedLSTM, x: _Near, lengths: NDArray[np.int64]) -> _Near:
    """The hidden states of a direction, B x T x R, each where its x is."""
    formats, hidden = layer.formats, layer.hidden
    trace = lstm.trace(x.value, lengths, None)
    # The rows of a candidate that is a line count in its own format's steps.
    unit = np.ones((4 * hidden, 1))
    if not layer.of_candidate.table:
        unit[2 * hidden:3 * hidden] = 2.0 ** (formats.z.f - formats.g.f)
    w_x, w_h = (formats.w_x.to_real(layer.w_x) * unit, formats.w_h.to_real(layer.w_h) * unit)
    bias = layer.bias * 2.0**-formats.product_fraction * unit[:, 0]
    sums, reach = x.value @ w_x.T + bias, x.error @ np.abs(w_x).T
    peepholes = np.zeros((3, hidden))
    if layer.peepholes is not None and formats.p:
        peepholes = formats.p.to_real(layer.peepholes).reshape(3, hidden)

    gate = _Rounding.through(layer.gate, formats.z, lstm.gate, formats.gate)
    candidate = _Rounding.through(layer.of_candidate, layer.candidate, lstm.candidate, formats.g)
    squash = _Rounding.through(layer.of_cell, layer.squashed, lstm.squash, formats.s,
                               rounds=layer.of_cell.table or layer.slope is not None)
    to_c, to_m, to_h = (_Rounding.to(each) for each in (formats.c, formats.m, formats.h))

    start = lstm.start(len(x.value))
    h = _Near(value=start.h, error=np.abs(formats.h.to_real(layer.initial_h) - start.h))
    c = _Near(value=start.c, error=np.abs(formats.c.to_real(layer.initial_c) - start.c))
    every = np.empty_like(trace.h)
    count, steps, _ = x.value.shape
    for t in range(steps):
        # Beyond the end of a sequence anything may stand.
        at = np.arange(count), np.where(t < lengths, lengths - 1 - t, t) if lstm.reverse else t
        s = np.split(sums[at] + h.value @ w_h.T, 4, axis=1)
        r = np.split(reach[at] + h.error @ np.abs(w_h).T, 4, axis=1)
        values = np.split(trace.gates[at], 4, axis=1)
        i, f = (gate.near(values[n], s[n] + peepholes[n] * c.value,
                          r[n] + np.abs(peepholes[n]) * c.error) for n in range(2))
        g = candidate.near(values[2], s[2], r[2])
        total = f.times(c, 1.0) + i.times(g, 1.0)
        c = to_c.near(trace.c[at], trace.c[at], total)
        squashed = lstm.squash(c.value)
        if layer.of_cell.table:
            out = squash.near(squashed, c.value, total)
        elif layer.slope:
            a = layer.slope.a * 2.0**-layer.slope.f
            b = layer.slope.b * 2.0 ** -(layer.slope.f + formats.c.f)
            out = squash.near(squashed, a * c.value + b, abs(a) * c.error)
        else:
            out = squash.near(squashed, c.value, c.error)
        o = gate.near(values[3], s[3] + peepholes[2] * c.value,
                      r[3] + np.abs(peepholes[2]) * c.error)
        h = to_m.near(trace.m[at], trace.m[at], o.times(out, 1.0))
        if layer.projection is not None and formats.w_r:
            w_r = formats.w_r.to_real(layer.projection)
            h = to_h.near(trace.h[at], h.value @ w_r.T, h.error @ np.abs(w_r).T)
        every[at] = h.error
    return _Near(value=trace.h, error=every)


def _merged(layer: Layer, codes: QuantizedLayer, parts: Sequence[_Near]) -> _Near:
    """What a layer gives, of the hidden states of its directions."""
    if not (isinstance(layer, Bidirectional) and isinstance(codes, QuantizedBidirectional)):
        return parts[0]
    p, q = parts
    value = layer.merged([p.value, q.value])
    if layer.merge == "concat":
        return _Near(value=value, error=np.concatenate([p.error, q.error], axis=-1))
    radius = {"sum": p.error + q.error, "ave": (p.error + q.error) / 2, "mul": p.times(q)}
    return _Rounding.to(codes.y).near(value, value, radius[layer.merge])


def _dense(dense: Dense, codes: QuantizedDense, vector: ArgMax | Softmax | None, y: _Near) -> _Near:
    """A dense layer, and what becomes of all its outputs together."""
    formats = codes.formats
    w = formats.w.to_real(codes.w)
    sums = y.value @ w.T + codes.bias * 2.0**-formats.product_fraction
    unit = _Rounding.through(codes.curve, formats.z, dense.function, formats.y)
    value = dense.run(y.value)
    low, high = unit.ends(sums, y.error @ np.abs(w).T)
    if isinstance(vector, Softmax):
        low, high = _softmax_ends(low, high, vector.error * vector.y.ulp)
    if isinstance(vector, ArgMax):
        # Which codes may be the largest, and how far from the float model's they stand.
        possible = high >= low.max(axis=-1, keepdims=True)
        distance = np.where(possible, np.abs(np.arange(vector.inputs) - value), 0.0)
        return _Near(value=value, error=distance.max(axis=-1, keepdims=True))
    return _Near(value=value, error=_distance(value, low, high))


def _softmax_ends(low: Array, high: Array, error: float) -> tuple[Array, Array]:
    """Between what the softmax lies, of powers of two within these ends."""
    least, most = np.empty_like(low), np.empty_like(low)
    with np.errstate(over="ignore"):  # a power beyond all numbers leaves 0 of the output
        for k in range(low.shape[-1]):
            others, one = np.arange(low.shape[-1]) != k, slice(k, k + 1)
            least[..., k] = 1 / (1 + np.exp2(high[..., others] - low[..., one]).sum(axis=-1))
            most[..., k] = 1 / (1 + np.exp2(low[..., others] - high[..., one]).sum(axis=-1))
    return np.maximum(least - error, 0.0), np.minimum(most + error, 1.0)


def error_bound(network: Network, quantized: QuantizedNetwork, x: ArrayLike,
                lengths: ArrayLike | None = None) -> Array:
    """Bound how far each output of the bit-true model is off that of the float model.

    Nothing of the bit-true model is run: it takes the float model's trajectory, the formats, and
    the rounded weights. What saturates is in it.

    Parameters
    ----------
    network : Network
        The float network.
    quantized : QuantizedNetwork
        The same in integer codes, as of :func:`golden.calibrate.quantize`.
    x : array_like, B x T x N
        Real numbers; shorter sequences are padded with anything.
    lengths : array_like of integers, B, optional
        Steps of each sequence, 1 to T; by default all have T.

    Returns
    -------
    float64 array, B x O, or B x T x O with an output at every step
        In the units of the outputs; zero beyond the end of a sequence. Of the index of the largest
        output, how far from the float model's index those lie that may be it.

    Raises
    ------
    ValueError
        If the two are not of the same network, as far as their shapes tell, or the input is not
        what :meth:`golden.model.Network.run` takes.
    """
    for what in ("inputs", "outputs", "every_step", "final", "backwards"):
        ours, theirs = getattr(network, what), getattr(quantized, what)
        if ours != theirs:
            raise ValueError(f"{what} of the float and of the bit-true network must be the same, "
                             f"not {ours} and {theirs}")
    shapes = [[(each.inputs, each.hidden, each.outputs, each.reverse) for each in of.directions]
              for of in (network, quantized)]
    if shapes[0] != shapes[1] or len(network.head) != len(quantized.head):
        raise ValueError(f"float and bit-true network must have the same layers, not {shapes[0]} "
                         f"and {shapes[1]}, with {len(network.head)} and {len(quantized.head)} "
                         f"dense layers behind")
    array, steps, valid = batch(x, lengths, network.inputs)
    codes, _ = quantized.x.quantize(array)
    y = _Near(value=array, error=np.abs(quantized.x.to_real(codes) - array))
    rows = np.arange(len(array))
    final = y
    for layer, integers in zip(network.layers, quantized.layers, strict=True):
        ways = list(zip(layer.directions, integers.directions, strict=True))
        parts = [_states(lstm, direction, y, steps) for lstm, direction in ways]
        final = _merged(layer, integers, [
            part.at((rows, 0 * steps if lstm.reverse else steps - 1))
            for part, (lstm, _) in zip(parts, ways, strict=True)])
        y = _merged(layer, integers, parts)
    if not network.every_step:
        y = final if network.final else y.at((rows, steps - 1))
    elif network.backwards:
        forward = np.arange(array.shape[1])
        y = y.at((rows[:, None], np.where(valid, steps[:, None] - 1 - forward, forward)))
    for number, (dense, behind) in enumerate(zip(network.head, quantized.head, strict=True), 1):
        y = _dense(dense, behind, quantized.vector if number == len(network.head) else None, y)
    return np.where(valid[:, :, None], y.error, 0.0) if network.every_step else y.error
