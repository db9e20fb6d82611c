"""Choosing every number format from the weights and from calibration data.

The float network runs on the data, and each tensor gets the finest format of the wanted width
that holds what was seen: the input and the weights just so, the cell state and the output with
headroom for data not seen. Gates, candidate and hidden state have the formats of their range.

The products ``w_x x`` and ``w_h h`` must share their binary point, so one part's weights give up
fraction bits. The report says how many. Where it is more than :data:`TOLERATED` bits, that part's
operand may be written coarser instead, which leaves the bits to its weights: it is done as far as
it makes the preactivation more precise, predicted from the rounding errors of both parts' weights
and operands on the calibration data. Mostly it does not, since a part whose products are coarse
brings errors as large as those that the other part's shorter weights cause.

Weights that were quantised before, to no more bits and with a power of two for a scale, keep every
bit. Where their scales differ, the words of one part get longer by zeros.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import ArrayLike

from golden.activation import SIGMOID as SIGMOID_READING
from golden.activation import SIGNED_SIGMOID, tail_integer_bits
from golden.activation import TANH as TANH_READING
from golden.argmax import ArgMax
from golden.bidirectional import QuantizedBidirectional, QuantizedLayer
from golden.checks import sequence_lengths
from golden.fixed import SQ, UQ, Format
from golden.function import ARGMAX, IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, Function
from golden.lstm import LSTM, Bidirectional
from golden.model import Dense, Layer, ModelError, Network
from golden.quantized import (
    Curve,
    DenseFormats,
    LSTMFormats,
    QuantizedDense,
    QuantizedLSTM,
    Slope,
)
from golden.quantized_network import QuantizedNetwork
from golden.softmax import Softmax

__all__ = ["BITS", "Calibration", "DenseCalibration", "LSTMCalibration", "Range", "calibrate",
           "quantize", "unsupported"]

BITS = range(8, 19)
"""Widths that there are."""

# Far beyond what a sensor gives, and near enough for powers of two to stay within float64.
LARGEST = 2.0**40

# Room in the cell state and the output, beyond what the calibration data reached. Not more: on
# the adding problem the rounding of c makes nearly all of the error, and each bit of it counts
# nearly fourfold in the mean square.
HEADROOM = 1.125

# Weight bits that equal binary points may cost before a coarser operand is tried.
TOLERATED = 2

# A coarser operand serves other readers too; it must not be had for less than this gain in noise.
WORTH = 1.25

# Fraction bits that a bias has beyond the sum that it is part of, where exact weights need no more.
OF_BIAS = 6

# Bits that a quantised weight may take so that it is exact: those of the narrowest multiplier.
WIDEST = 16

# Of a float64; far below any binary point that there is.
EXACT_BITS = 53

# Sequences run at once: the trace of a whole data set might not fit the memory.
PART = 256


@dataclass(frozen=True)
class Range:
    """The lowest and the highest value seen of a tensor."""

    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Range":
        return cls(float(values.min()), float(values.max()))

    def __or__(self, other: "Range") -> "Range":
        return Range(min(self.low, other.low), max(self.high, other.high))

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}"

    def fits(self, to: Format) -> bool:
        """Whether neither end saturates; whatever lies between rounds to something between."""
        return not to.quantize([self.low, self.high])[1]

    def of_width(self, bits: int, headroom: float = 1.0) -> SQ:
        """The finest signed format of ``bits`` bits for the range, widened by ``headroom``."""
        wide = Range(self.low * headroom, self.high * headroom)
        peak = max(-wide.low, wide.high)
        # 2**(i - 1) is at most the peak: fewer integer bits cannot do.
        i = int(np.frexp(peak)[1]) if peak else 1
        return next(to for to in (SQ(n, bits - n) for n in count(i)) if wide.fits(to))

    def of_fraction(self, f: int) -> SQ:
        """The narrowest signed format with ``f`` fraction bits, at least two bits wide."""
        return next(to for to in (SQ(n, f) for n in count(2 - f)) if self.fits(to))


@dataclass(frozen=True, kw_only=True)
class LSTMCalibration:
    """What calibration chose for an LSTM layer, and why.

    Parameters
    ----------
    formats : LSTMFormats
        Of the one direction, or the forward one.
    lost_x, lost_h : int
        Fraction bits that ``w_x`` and ``w_h`` gave up for the equal binary point; one is 0.
    rescaled_x, rescaled_h : int
        Fraction bits that the operands ``x`` and ``h`` gave up for it.
    ranges : dict
        Range seen of ``x``, ``z``, ``c`` and ``h``, of ``m`` where there is a projection, and of
        ``y`` where two directions are merged to something else.
    y : SQ
        Format of what the layer gives.
    backward : LSTMFormats or None
        Of the other direction, where there are two. They differ in ``g`` and ``s`` only, and so
        only where the functions do.
    """

    formats: LSTMFormats
    lost_x: int
    lost_h: int
    rescaled_x: int
    rescaled_h: int
    ranges: Mapping[str, Range]
    y: SQ
    backward: LSTMFormats | None = None

    @property
    def directions(self) -> tuple[LSTMFormats, ...]:
        """The formats of each direction."""
        return (self.formats,) if self.backward is None else (self.formats, self.backward)


@dataclass(frozen=True, kw_only=True)
class DenseCalibration:
    """What calibration chose for a dense layer, and the range seen of ``y``.

    For a softmax ``y`` are the logits times log2(e), for an index of the largest the logits.
    """

    formats: DenseFormats
    ranges: Mapping[str, Range]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """All formats of a network; printed, a table of them.

    Parameters
    ----------
    bits : int
        Width of weights, states, gates, input and output.
    layers : tuple of LSTMCalibration
    head : tuple of DenseCalibration
    """

    bits: int
    layers: tuple[LSTMCalibration, ...]
    head: tuple[DenseCalibration, ...]

    def __str__(self) -> str:
        lines = []
        for number, layer in enumerate(self.layers):
            given = {"x": layer.rescaled_x, "w_x": layer.lost_x,
                     "h": layer.rescaled_h, "w_h": layer.lost_h}
            more = (*(("p",) if layer.formats.p else ()),
                    *(("m", "w_r") if layer.formats.w_r else ()))
            for name in ("x", "w_x", "h", "w_h", *more, "z", "gate", "tanh", "c"):
                line = f"lstm{number}.{name:6}{getattr(layer.formats, name)!s:12}"
                if name in layer.ranges:
                    line += f"seen {layer.ranges[name]!s:22}"
                if given.get(name):
                    line += f"{given[name]} fraction bits given up for the equal binary point"
                lines.append(line.rstrip())
            if "y" in layer.ranges:
                lines.append(f"lstm{number}.y     {layer.y!s:12}seen {layer.ranges['y']}")
        for number, dense in enumerate(self.head):
            lines.append(f"dense{number}.w    {dense.formats.w}")
            lines.append(f"dense{number}.y    {dense.formats.y!s:12}seen {dense.ranges['y']}")
        return "\n".join(lines)

    def apply(self, network: Network) -> QuantizedNetwork:
        """The network with its weights and biases rounded to these formats."""
        layers: list[QuantizedLayer] = []
        for layer, chosen in zip(network.layers, self.layers, strict=True):
            directions = [_quantized(each, formats, self.bits) for each, formats in zip(
                layer.directions, chosen.directions, strict=True)]
            layers.append(directions[0] if isinstance(layer, LSTM) else QuantizedBidirectional(
                forward=directions[0], backward=directions[1], merge=layer.merge, y=chosen.y))
        head = []
        for of, seen in zip(network.head, self.head, strict=True):
            dense, line = seen.formats, _dense_line(of)
            head.append(QuantizedDense(
                formats=dense, w=dense.w.quantize(line.w)[0],
                bias=_bias(line.bias, dense.product_fraction),
                curve=_curve(of.function, None, dense.z, dense.z),
                reading=TANH_READING if of.function == TANH else SIGMOID_READING))
        return QuantizedNetwork(layers=tuple(layers), head=tuple(head),
                                every_step=network.every_step, final=network.final,
                                backwards=network.backwards, vector=self._vector(network),
                                states=network.states, stateful=network.stateful)

    def _vector(self, network: Network) -> ArgMax | Softmax | None:
        """What becomes of all outputs of the last dense layer together."""
        if not network.head:
            return None
        last, codes = network.head[-1], self.head[-1].formats.y
        if last.function == ARGMAX:
            return ArgMax(x=codes, inputs=last.w.shape[0])
        if last.function == SOFTMAX:
            return Softmax(x=codes, inputs=last.w.shape[0], y=SQ(2, self.bits - 2))
        return None


def _quantized(lstm: LSTM, formats: LSTMFormats, bits: int) -> QuantizedLSTM:
    """A direction with its weights and biases rounded to these formats."""
    lines = _with_lines(lstm, z=formats.z, g=formats.g)
    readings = [SIGNED_SIGMOID if function == SIGMOID else TANH_READING
                for function in (lstm.candidate, lstm.squash)]
    halved = SQ(formats.z.i - 1, formats.z.f + 1)
    arguments = [halved if reading == TANH_READING else formats.z for reading in readings]
    return QuantizedLSTM(
        formats=formats, w_x=formats.w_x.quantize(lines.w_x)[0],
        w_h=formats.w_h.quantize(lines.w_h)[0],
        bias=_bias(lines.bias, formats.product_fraction),
        gate=_curve(lstm.gate, lstm.clip, formats.z, formats.gate),
        of_candidate=_curve(lstm.candidate, lstm.clip, arguments[0], formats.g),
        of_cell=_curve(lstm.squash, None, arguments[1], formats.s),
        candidate_reading=readings[0], cell_reading=readings[1],
        slope=_cell_slope(lstm.squash, formats, bits),
        peepholes=formats.p.quantize(_peepholes(lines))[0] if formats.p else None,
        initial_h=_codes(lstm.initial_h, lstm.outputs, formats.h),
        initial_c=_codes(lstm.initial_c, lstm.hidden, formats.c),
        projection=(None if lstm.projection is None or formats.w_r is None
                    else formats.w_r.quantize(lstm.projection)[0]),
        reverse=lstm.reverse)


def _bias(bias: np.ndarray, f: int) -> np.ndarray:
    return np.rint(bias * 2.0**f).astype(np.int64)


def unsupported(network: Network) -> list[str]:
    """What of a network neither the bit-true model nor the hardware has, in words."""
    found = []
    for number, layer in enumerate(network.layers):
        if len({(each.hidden, each.projection is None) for each in layer.directions}) > 1:
            found.append(f"two directions of different sizes, of lstm{number}")
    return found


def _slope(function: Function) -> tuple[float, float] | None:
    """Slope and offset of a function that is a line between limits; None if it is a curve."""
    match function.name:
        case "HardSigmoid" | "Affine":
            assert function.alpha is not None
            assert function.beta is not None
            return function.alpha, function.beta
        case "Relu":
            return 1.0, 0.0
    return None


def _with_lines(lstm: LSTM, *, z: SQ, g: SQ) -> LSTM:
    """The layer whose preactivations are the values of lines; g's are in units of z's ulp."""
    hidden = lstm.hidden
    scale, offset = np.ones(4 * hidden), np.zeros(4 * hidden)
    for function, unit, blocks in ((lstm.gate, 1.0, (0, 1, 3)),
                                   (lstm.candidate, 2.0 ** (g.f - z.f), (2,))):
        line = _slope(function)
        for n in blocks if line else ():
            rows = slice(n * hidden, (n + 1) * hidden)
            scale[rows], offset[rows] = (number * unit for number in line or ())
    peepholes = lstm.peepholes
    if peepholes is not None:
        peepholes = peepholes * scale.reshape(4, hidden)[[0, 1, 3]].ravel()
    return replace(lstm, w_x=lstm.w_x * scale[:, None], w_h=lstm.w_h * scale[:, None],
                   bias=lstm.bias * scale + offset, peepholes=peepholes)


def _peepholes(lstm: LSTM) -> np.ndarray:
    """The peepholes of a direction; zeros where there are none."""
    return np.zeros(3 * lstm.hidden) if lstm.peepholes is None else lstm.peepholes


def _peephole_format(peepholes: np.ndarray, c: SQ, point: int, bits: int) -> SQ | None:
    """Format of the peepholes, whose products with c may have ``point`` fraction bits at most."""
    if not peepholes.any():
        return None
    seen = Range.of(peepholes)
    return seen.of_fraction(min(seen.of_width(bits).f, point - c.f))


def _ranges_over(function: Function) -> bool:
    """Whether the values of a candidate's function have no ends, and so need a format of theirs."""
    return function.name in ("Relu", "Affine")


def _squashed_format(function: Function, c: Range, formats: tuple[SQ, SQ], bits: int) -> SQ:
    """Format of what the cell state becomes on its way out.

    Parameters
    ----------
    c : Range
        That was seen.
    formats : tuple of SQ
        Of the cell state, and of what comes from the table.
    """
    if function in (RELU, IDENTITY):
        return formats[0]
    if function.name == "Affine":
        return Range.of(function(np.array([c.low, c.high]))).of_width(bits, HEADROOM)
    return formats[1]


def _cell_slope(function: Function, formats: LSTMFormats, bits: int) -> Slope | None:
    """The line that a cell state goes through, where it does."""
    if function.name not in ("HardSigmoid", "Affine") or function == IDENTITY:
        return None
    line = _slope(function)
    assert line is not None
    slope, offset = line
    # As many bits as a weight has, but none that would not be seen in s even of the largest c.
    f = min(Range(slope, slope).of_width(bits).f, formats.s.f + formats.c.i + 2)
    a = round(slope * 2.0**f)
    # Beyond this, a limit is all that comes out.
    most = (abs(a) * -formats.c.min) * 2.0 ** -(f + formats.c.f) + 2.0**formats.s.i
    return Slope(a=a, f=f, b=round(min(max(offset, -most), most) * 2.0 ** (f + formats.c.f)))


def _argument(function: Function, y: SQ) -> SQ:
    """Format of the sum of a dense layer: wide enough that a table reaches its ends."""
    z = SQ(tail_integer_bits(y.f + 1), y.f)
    return z if function == SIGMOID else SQ(z.i - 1, z.f + 1) if function == TANH else y


def _dense_line(dense: Dense) -> Dense:
    """The layer whose sums are the values of its function, but for the limits.

    Those of a softmax count powers of two.
    """
    slope, offset = _slope(dense.function) or (
        1 / np.log(2) if dense.function == SOFTMAX else 1.0, 0.0)
    return Dense(w=dense.w * slope, bias=dense.bias * slope + offset)


def _curve(function: Function, clip: float | None, argument: SQ, result: SQ | UQ) -> Curve:
    """What becomes of a preactivation, or of a cell state.

    Parameters
    ----------
    argument : SQ
        Of the table.
    result : SQ or UQ
        Of what comes out where the function is a line.
    """
    line = _slope(function if function.elementwise else IDENTITY)
    low, high = (-np.inf, np.inf) if clip is None else (-clip, clip)
    if line is not None:
        slope, offset = line
        low, high = sorted(slope * end + offset if slope else offset for end in (low, high))
        if function.name == "HardSigmoid":
            low, high = max(low, 0.0), min(high, 1.0)
        elif function.name == "Relu":
            low = max(low, 0.0)
    codes = (argument if line is None else result).quantize(np.array([low, high]))[0]
    return Curve(line is None, int(codes[0]), int(codes[1]))


def _merges(layer: Layer) -> bool:
    """Whether the outputs of two directions become something else."""
    return isinstance(layer, Bidirectional) and layer.merge != "concat"


def _codes(state: np.ndarray | None, count: int, to: SQ) -> np.ndarray:
    return to.quantize(np.zeros(count) if state is None else state)[0]


class _Statistics:
    """Ranges and mean squares of a float network's tensors, over all steps of all sequences.

    Attributes
    ----------
    x : array, steps x N
        The input without its padding.
    ranges : dict
        Range of ``x``, of each LSTM layer: ``z``, ``c``, ``m`` and ``h``, and ``g`` where it has
        no ends, and of each dense: ``y``, named like ``lstm0.z``.
    power : dict of arrays
        Mean square of each element of the input ``x``, and of each layer: of the hidden states
        ``h``, over its directions, and of what it gives, ``y``; named like ``lstm0.h``.
    """

    def __init__(self, network: Network, x: ArrayLike, lengths: ArrayLike | None) -> None:
        array = np.asarray(x)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"calibration data must be real numbers, not {array.dtype}")
        if array.ndim != 3 or array.shape[2] != network.inputs or not array.size:
            raise ValueError(f"calibration data must have the shape B x T x {network.inputs} and "
                             f"not be empty, not {' x '.join(map(str, array.shape)) or 'scalar'}")
        sequences, longest, _ = array.shape
        every = sequence_lengths(lengths, sequences, longest)
        self.x = array[np.arange(longest) < every[:, None]].astype(np.float64)
        if not np.isfinite(self.x).all():
            raise ValueError(f"calibration data must be finite, but "
                             f"{np.count_nonzero(~np.isfinite(self.x))} values are not")
        if np.abs(self.x).max() > LARGEST:
            raise ValueError(f"calibration data must be at most {LARGEST:g} in magnitude, not "
                             f"{np.abs(self.x).max():g}: scale it, and the weights against it")
        self.ranges: dict[str, Range] = {"x": Range.of(self.x)}
        self.power = {"x": (self.x**2).mean(axis=0)}
        recurrent = replace(network, head=())
        for first in range(0, sequences, PART):
            part = slice(first, first + PART)
            trace = recurrent.trace(array[part], every[part])
            traces = iter(trace.directions)
            for number, layer in enumerate(network.layers):
                outputs = []
                for of in layer.directions:
                    codes = next(traces)
                    for name in ("z", *("g" if _ranges_over(of.candidate) else ""), "c", "m", "h"):
                        self._see(f"lstm{number}.{name}", getattr(codes, name)[trace.valid])
                    if of.initial_c is not None:
                        self._see(f"lstm{number}.c", of.initial_c)
                    outputs.append(codes.h[trace.valid])
                    self._weigh(f"lstm{number}.h", outputs[-1], len(layer.directions))
                given = outputs[0] if isinstance(layer, LSTM) else layer.merged(outputs)
                self._see(f"lstm{number}.y", given)
                self._weigh(f"lstm{number}.y", given)
            y = trace.y[trace.valid] if network.every_step else trace.y
            for number, dense in enumerate(network.head):
                y = (dense if dense.function.elementwise else _dense_line(dense)).run(y)
                self._see(f"dense{number}.y", y)

    def _weigh(self, name: str, values: np.ndarray, parts: int = 1) -> None:
        """Add the squares of some rows of a tensor that has so many parts."""
        square = (values**2).sum(axis=0) / (parts * len(self.x))
        self.power[name] = self.power[name] + square if name in self.power else square

    def _see(self, name: str, values: np.ndarray) -> None:
        seen = Range.of(values)
        self.ranges[name] = self.ranges[name] | seen if name in self.ranges else seen


def _finest_products(w: np.ndarray, bias: np.ndarray, operand: Format, bits: int) -> int:
    """Fraction bits of the products with weights of ``bits`` bits, or as many as make sense."""
    # Finer products would vanish when the sum, which the bias is part of, is rounded to z or y.
    most = 2 * bits + 4 - Range.of(bias).of_width(bits).i
    if not w.any():
        return most
    exact, finest = _fraction_bits(w), Range.of(w).of_width(bits).f
    # Weights that were quantised are exact all the same.
    return operand.f + (max(exact, min(finest, most - operand.f)) if exact <= finest
                        else min(finest, most - operand.f))


def _points(rows: "_Rows", operands: Sequence[Format], bits: int) -> list[int]:
    """Fraction bits of the products with x and with h, before they are made equal.

    Where both parts were quantised, the coarser one gets zeros behind its weights until both are
    exact at the same point, rather than the finer one rounded anew, as far as its words do not get
    wider than :data:`WIDEST`.
    """
    parts = tuple(zip((rows.w_x, rows.w_h), operands, strict=True))
    points = [_finest_products(w, rows.bias, operand, bits) for w, operand in parts]
    exact = [_fraction_bits(w) + operand.f for w, operand in parts]
    if all(own <= finest for own, finest in zip(exact, points, strict=True)):
        common = max(exact)
        if all(Range.of(w).of_fraction(common - operand.f).width <= max(WIDEST, bits)
               for w, operand in parts if w.any()):
            return [max(point, common) for point in points]
    return points


def _fraction_bits(w: np.ndarray) -> int:
    """The fewest fraction bits in which all weights are exact; few where they were quantised."""
    if not w.any():
        return -EXACT_BITS
    mantissa, exponent = np.frexp(w[w != 0])
    whole = (mantissa * 2.0**EXACT_BITS).astype(np.int64)
    trailing = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return int((EXACT_BITS - exponent - trailing).max())


def _noise(w: np.ndarray, f: int, power: np.ndarray, error: np.ndarray) -> float:
    """Mean square error of a part of z from weights with ``f`` fraction bits.

    ``power`` is the operand's mean square, ``error`` that of its rounding, per column of ``w``.
    """
    rounded = np.rint(w * 2.0**f) * 2.0**-f
    return float((((w - rounded) ** 2) @ power + w**2 @ error).mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """The weights of a layer: the rows of all its directions, which share their formats."""

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    peepholes: np.ndarray
    projection: np.ndarray | None

    @classmethod
    def of(cls, directions: Sequence[LSTM]) -> "_Rows":
        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(each, name) for each in directions])

        return cls(w_x=joined("w_x"), w_h=joined("w_h"), bias=joined("bias"),
                   peepholes=np.concatenate([_peepholes(each) for each in directions]),
                   projection=None if directions[0].projection is None else joined("projection"))


def _align(lstm: _Rows, operands: list[SQ], power: list[np.ndarray],
           x: np.ndarray | None, bits: int) -> tuple[int, int]:
    """Fraction bits that the operands x and h should give up for the equal binary point."""
    parts = (lstm.w_x, lstm.w_h)
    finest = _points(lstm, operands, bits)
    lost, point = abs(finest[0] - finest[1]), min(finest)
    fine = finest.index(max(finest))
    if lost <= TOLERATED or not parts[fine].any():
        return 0, 0

    def noise(part: int, given: int) -> float:
        f = operands[part].f - given
        error = np.full(len(power[part]), 4.0**-f / 12)
        if part == 0 and x is not None:
            # Known data may well be exact in few bits.
            error = ((x - np.rint(x * 2.0**f) * 2.0**-f) ** 2).mean(axis=0)
        return _noise(parts[part], point - f, power[part], error)

    # A format needs a bit besides the sign.
    choices = range(min(lost, operands[fine].width - 2) + 1)
    total = [noise(1 - fine, 0) + noise(fine, given) for given in choices]
    given = next(n for n in choices if total[n] <= WORTH * min(total))
    return (given, 0) if fine == 0 else (0, given)


def calibrate(network: Network, x: ArrayLike, lengths: ArrayLike | None = None, *,
              bits: int = 16, overrides: Mapping[str, SQ] | None = None) -> Calibration:
    """Choose the formats of a network.

    Parameters
    ----------
    network : Network
        The float network.
    x : array_like, B x T x N
        Input sequences like those that the network will meet, padded with anything.
    lengths : array_like of integers, B, optional
        Steps of each sequence, 1 to T; by default all have T.
    bits : int
        Width of weights, states, gates, input and output, 8 to 18.
    overrides : mapping of names to formats, optional
        Formats to take instead: ``x``, ``lstm0.c``, ``lstm0.h``, ``lstm0.z`` (and so on for each
        LSTM layer), ``lstm0.m`` where there is a projection, and ``dense0.y`` (and so on for each
        dense layer). The weights adapt.

    Returns
    -------
    Calibration

    Raises
    ------
    ModelError
        If the network has something that no hardware is built for.
    ValueError
        If the width, the data, a length or an override is not allowed.
    """
    if not isinstance(bits, int) or bits not in BITS:
        raise ValueError(f"bits must be an integer from {BITS[0]} to {BITS[-1]}, not {bits!r}")
    if missing := unsupported(network):
        raise ModelError(f"no hardware is built for {' or '.join(missing)}")
    seen = _Statistics(network, x, lengths)
    gate, tanh = UQ(1, bits - 1), SQ(2, bits - 2)
    chosen: dict[str, SQ] = {"x": seen.ranges["x"].of_width(bits)}
    for number, layer in enumerate(network.layers):
        chosen[f"lstm{number}.z"] = SQ(tail_integer_bits(gate.f), bits - 1)
        chosen[f"lstm{number}.c"] = seen.ranges[f"lstm{number}.c"].of_width(bits, HEADROOM)
        # A hidden state is never beyond 1, unless one is given to begin with, or is no tanh.
        h = m = SQ(1, bits - 1)
        if any(each.squash != TANH for each in layer.directions):
            m = max(m, seen.ranges[f"lstm{number}.m"].of_width(bits, HEADROOM),
                    key=lambda to: to.i)
        if layer.directions[0].projection is None:
            h = m
        else:
            chosen[f"lstm{number}.m"] = m
            h = seen.ranges[f"lstm{number}.h"].of_width(bits, HEADROOM)
        for each in layer.directions:
            if each.initial_h is not None:
                h = max(h, Range.of(each.initial_h).of_width(bits), key=lambda to: to.i)
        chosen[f"lstm{number}.h"] = h
        if _merges(layer):
            chosen[f"lstm{number}.y"] = seen.ranges[f"lstm{number}.y"].of_width(bits, HEADROOM)
    for number, dense in enumerate(network.head):
        name = f"dense{number}.y"
        chosen[name] = seen.ranges[name].of_width(bits, HEADROOM)
        if dense.function.name in ("HardSigmoid", "Sigmoid", "Tanh"):
            chosen[name] = SQ(2, bits - 2)
        if dense.function == SOFTMAX:
            # As fine as the outputs, which are as much off as the logits are; and so wide.
            chosen[name] = SQ(max(chosen[name].i, 2), bits - 2)
    for name, override in (overrides or {}).items():
        if name not in chosen:
            raise ValueError(f"a format can be given for {', '.join(chosen)}, not for {name}")
        if not isinstance(override, SQ):
            raise ValueError(f"the format of {name} must be SQ(i, f), not {override}")
        chosen[name] = override

    # What each layer reads: the input, then what the layer before gives; and its hidden states.
    reads = ["x", *(f"lstm{number}.{'y' if _merges(layer) else 'h'}"
                    for number, layer in enumerate(network.layers))]
    operands = dict(chosen)
    given = dict.fromkeys(chosen, 0)
    candidates, scaled = [], []
    for number, layer in enumerate(network.layers):
        # A line has a format for what it gives; that of a hard sigmoid is that of a tanh.
        g = [seen.ranges[f"lstm{number}.g"].of_width(bits, HEADROOM)
             if _ranges_over(each.candidate) else tanh for each in layer.directions]
        candidates.append(g)
        rows = _Rows.of([_with_lines(each, z=chosen[f"lstm{number}.z"], g=to)
                         for each, to in zip(layer.directions, g, strict=True)])
        scaled.append(rows)
        pair = reads[number], f"lstm{number}.h"
        power = [seen.power[f"lstm{number - 1}.y" if number else "x"], seen.power[pair[1]]]
        for name, more in zip(pair, _align(rows, [operands[name] for name in pair], power,
                                           None if number else seen.x, bits), strict=True):
            # Who names a format gets it.
            if more and name not in (overrides or {}):
                given[name] += more
                operands[name] = SQ(operands[name].i, operands[name].f - more)

    chosen_layers = []
    for number, (layer, rows) in enumerate(zip(network.layers, scaled, strict=True)):
        own, h = operands[reads[number]], operands[f"lstm{number}.h"]
        c = chosen[f"lstm{number}.c"]
        points = _points(rows, (own, h), bits)
        # More fraction bits than the weights have would be zeros: quantised ones keep their format.
        exact = [_fraction_bits(w) + operand.f for w, operand in ((rows.w_x, own), (rows.w_h, h))]
        finest = chosen[f"lstm{number}.z"].f + OF_BIAS
        point = min(*points, max(*exact, finest))
        # Without a projection, what the output gate lets out is the hidden state.
        projection = rows.projection
        m = h if projection is None else chosen[f"lstm{number}.m"]
        w_r = None if projection is None else Range.of(projection).of_fraction(
            _finest_products(projection, np.zeros(1), m, bits) - m.f)
        names_seen = ("z", "c", *(() if projection is None else ("m",)), "h",
                      *(("y",) if _merges(layer) else ()))
        range_c = seen.ranges[f"lstm{number}.c"]
        formats, *others = [LSTMFormats(
            x=own, h=h, c=c, z=chosen[f"lstm{number}.z"], g=g,
            s=_squashed_format(each.squash, range_c, (c, tanh), bits),
            p=_peephole_format(rows.peepholes, c, point, bits),
            w_x=Range.of(rows.w_x).of_fraction(point - own.f),
            w_h=Range.of(rows.w_h).of_fraction(point - h.f), gate=gate, tanh=tanh,
            m=m, w_r=w_r) for each, g in zip(layer.directions, candidates[number], strict=True)]
        chosen_layers.append(LSTMCalibration(
            formats=formats, backward=others[0] if others else None,
            lost_x=max(0, min(points[0], exact[0]) - point) if rows.w_x.any() else 0,
            lost_h=max(0, min(points[1], exact[1]) - point) if rows.w_h.any() else 0,
            rescaled_x=given[reads[number]], rescaled_h=given[f"lstm{number}.h"],
            y=operands[reads[number + 1]],
            ranges={"x": seen.ranges[reads[number]],
                    **{name: seen.ranges[f"lstm{number}.{name}"] for name in names_seen}}))
    head, own = [], operands[reads[-1]]
    for number, dense in enumerate(network.head):
        line, y = _dense_line(dense), chosen[f"dense{number}.y"]
        z = _argument(dense.function, y)
        f = min(_finest_products(line.w, line.bias, own, bits),
                max(_fraction_bits(line.w) + own.f, z.f + OF_BIAS)) - own.f
        head.append(DenseCalibration(
            formats=DenseFormats(x=own, w=Range.of(line.w).of_fraction(f), y=y,
                                 z=z),
            ranges={"y": seen.ranges[f"dense{number}.y"]}))
        own = y
    return Calibration(bits=bits, layers=tuple(chosen_layers), head=tuple(head))


def quantize(network: Network, x: ArrayLike, lengths: ArrayLike | None = None, *,
             bits: int = 16, overrides: Mapping[str, SQ] | None = None,
             stateful: bool | None = None, states: Sequence[str] | None = None,
             ) -> QuantizedNetwork:
    """Calibrate a network and round it.

    Parameters
    ----------
    network, x, lengths, bits, overrides
        As of :func:`calibrate`, as the errors are. Of a stateful network the sequences should be as
        long as states are kept, for these may grow.
    stateful : bool, optional
        Whether a sequence can go on from a state; by default what the network says.
    states : sequence of str, optional
        Final states that are outputs, too; by default those of the network.
    """
    if stateful is not None:
        network = replace(network, stateful=stateful)
    if states is not None:
        network = replace(network, states=tuple(states))
    return calibrate(network, x, lengths, bits=bits, overrides=overrides).apply(network)
