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
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import ArrayLike

from golden.activation import SIGMOID as SIGMOID_READING
from golden.activation import TANH as TANH_READING
from golden.activation import tail_integer_bits
from golden.checks import sequence_lengths
from golden.fixed import SQ, UQ, Format
from golden.function import IDENTITY, RELU, SIGMOID, TANH, Function
from golden.lstm import LSTM
from golden.model import Dense, ModelError, Network
from golden.quantized import Curve, DenseFormats, LSTMFormats, QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork

__all__ = ["Calibration", "DenseCalibration", "LSTMCalibration", "Range", "calibrate", "quantize",
           "unsupported"]

BITS = range(8, 19)

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
    lost_x, lost_h : int
        Fraction bits that ``w_x`` and ``w_h`` gave up for the equal binary point; one is 0.
    rescaled_x, rescaled_h : int
        Fraction bits that the operands ``x`` and ``h`` gave up for it.
    ranges : dict
        Range seen of ``x``, ``z``, ``c`` and ``h``.
    """

    formats: LSTMFormats
    lost_x: int
    lost_h: int
    rescaled_x: int
    rescaled_h: int
    ranges: Mapping[str, Range]


@dataclass(frozen=True, kw_only=True)
class DenseCalibration:
    """What calibration chose for the dense head, and the range seen of ``y``."""

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
    head : DenseCalibration or None
    """

    bits: int
    layers: tuple[LSTMCalibration, ...]
    head: DenseCalibration | None

    def __str__(self) -> str:
        lines = []
        for number, layer in enumerate(self.layers):
            given = {"x": layer.rescaled_x, "w_x": layer.lost_x,
                     "h": layer.rescaled_h, "w_h": layer.lost_h}
            for name in ("x", "w_x", "h", "w_h", "z", "gate", "tanh", "c"):
                line = f"lstm{number}.{name:6}{getattr(layer.formats, name)!s:12}"
                if name in layer.ranges:
                    line += f"seen {layer.ranges[name]!s:22}"
                if given.get(name):
                    line += f"{given[name]} fraction bits given up for the equal binary point"
                lines.append(line.rstrip())
        if self.head:
            lines.append(f"dense.w     {self.head.formats.w}")
            lines.append(f"dense.y     {self.head.formats.y!s:12}seen {self.head.ranges['y']}")
        return "\n".join(lines)

    def apply(self, network: Network) -> QuantizedNetwork:
        """The network with its weights and biases rounded to these formats."""
        layers = []
        for lstm, chosen in zip(network.directions, self.layers, strict=True):
            formats = chosen.formats
            lines = _with_lines(lstm, z=formats.z, g=formats.g)
            layers.append(QuantizedLSTM(
                formats=formats, w_x=formats.w_x.quantize(lines.w_x)[0],
                w_h=formats.w_h.quantize(lines.w_h)[0],
                bias=_bias(lines.bias, formats.product_fraction),
                gate=_curve(lstm.gate, lstm.clip, formats.z, formats.gate),
                of_candidate=_curve(lstm.candidate, lstm.clip,
                                    SQ(formats.z.i - 1, formats.z.f + 1), formats.g),
                of_cell=_curve(lstm.squash, None, SQ(formats.z.i - 1, formats.z.f + 1), formats.c),
                initial_h=_codes(lstm.initial_h, lstm.hidden, formats.h),
                initial_c=_codes(lstm.initial_c, lstm.hidden, formats.c)))
        head = None
        if network.head and self.head:
            dense = self.head.formats
            (of,) = network.head
            line = _dense_line(of)
            head = QuantizedDense(formats=dense, w=dense.w.quantize(line.w)[0],
                                  bias=_bias(line.bias, dense.product_fraction),
                                  curve=_curve(of.function, None, dense.z, dense.z),
                                  reading=TANH_READING if of.function == TANH else SIGMOID_READING)
        return QuantizedNetwork(layers=tuple(layers), head=head, every_step=network.every_step,
                                states=network.states, stateful=network.stateful)


def _bias(bias: np.ndarray, f: int) -> np.ndarray:
    return np.rint(bias * 2.0**f).astype(np.int64)


def unsupported(network: Network) -> list[str]:
    """What of a network neither the bit-true model nor the hardware has, in words."""
    found = []
    for number, layer in enumerate(network.layers):
        of = f"of lstm{number}"
        if len(layer.directions) > 1:
            found.append(f"the two directions {of}")
        elif layer.directions[0].reverse:
            found.append(f"the reverse direction {of}")
        one = layer.directions[0]
        found += [f"the {name} {of}" for name in ("peepholes", "projection")
                  if getattr(one, name) is not None]
        if one.candidate == SIGMOID:
            found.append(f"the function {one.candidate} of the candidate {of}")
        if one.squash not in (TANH, RELU, IDENTITY):
            found.append(f"the function {one.squash} of the cell state {of}")
    if len(network.head) > 1:
        found.append(f"{len(network.head)} dense layers in a row")
    found += [f"the function {dense.function} of dense{number}"
              for number, dense in enumerate(network.head)
              if dense.function not in (SIGMOID, TANH) and _slope(dense.function) is None]
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
    return replace(lstm, w_x=lstm.w_x * scale[:, None], w_h=lstm.w_h * scale[:, None],
                   bias=lstm.bias * scale + offset)


def _argument(function: Function, y: SQ) -> SQ:
    """Format of the sum of a dense layer: wide enough that a table reaches its ends."""
    z = SQ(tail_integer_bits(y.f + 1), y.f)
    return z if function == SIGMOID else SQ(z.i - 1, z.f + 1) if function == TANH else y


def _dense_line(dense: Dense) -> Dense:
    """The layer whose sums are the values of its function, but for the limits."""
    slope, offset = _slope(dense.function) or (1.0, 0.0)
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
    line = _slope(function)
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


def _codes(state: np.ndarray | None, hidden: int, to: SQ) -> np.ndarray:
    return to.quantize(np.zeros(hidden) if state is None else state)[0]


class _Statistics:
    """Ranges and mean squares of a float network's tensors, over all steps of all sequences.

    Attributes
    ----------
    x : array, steps x N
        The input without its padding.
    ranges : dict
        Range of ``x``, ``y`` and each layer's ``z``, ``c`` and ``h``, named like ``lstm0.z``.
    power : list of arrays
        Mean square of each element of the input, and of each layer's hidden state.
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
        self.power = [(self.x**2).mean(axis=0),
                      *(np.zeros(layer.hidden) for layer in network.directions)]
        for first in range(0, sequences, PART):
            part = slice(first, first + PART)
            trace = network.trace(array[part], every[part])
            for number, layer in enumerate(trace.directions):
                for name in ("z", "g", "c", "h"):
                    self._see(f"lstm{number}.{name}", getattr(layer, name)[trace.valid])
                of = network.directions[number]
                if of.initial_c is not None:
                    self._see(f"lstm{number}.c", of.initial_c)
                self.power[number + 1] += (layer.h[trace.valid] ** 2).sum(axis=0) / len(self.x)
            self._see("y", trace.y[trace.valid] if network.every_step else trace.y)

    def _see(self, name: str, values: np.ndarray) -> None:
        seen = Range.of(values)
        self.ranges[name] = self.ranges[name] | seen if name in self.ranges else seen


def _finest_products(w: np.ndarray, bias: np.ndarray, operand: Format, bits: int) -> int:
    """Fraction bits of the products with weights of ``bits`` bits, or as many as make sense."""
    # Finer products would vanish when the sum, which the bias is part of, is rounded to z or y.
    most = 2 * bits + 4 - Range.of(bias).of_width(bits).i
    if not w.any():
        return most
    return min(Range.of(w).of_width(bits).f + operand.f, most)


def _noise(w: np.ndarray, f: int, power: np.ndarray, error: np.ndarray) -> float:
    """Mean square error of a part of z from weights with ``f`` fraction bits.

    ``power`` is the operand's mean square, ``error`` that of its rounding, per column of ``w``.
    """
    rounded = np.rint(w * 2.0**f) * 2.0**-f
    return float((((w - rounded) ** 2) @ power + w**2 @ error).mean())


def _align(lstm: LSTM, operands: list[SQ], power: list[np.ndarray],
           x: np.ndarray | None, bits: int) -> tuple[int, int]:
    """Fraction bits that the operands x and h should give up for the equal binary point."""
    parts = (lstm.w_x, lstm.w_h)
    finest = [_finest_products(w, lstm.bias, operand, bits)
              for w, operand in zip(parts, operands, strict=True)]
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
        layer) and ``dense.y``. The weights adapt.

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
    for number in range(len(network.layers)):
        chosen[f"lstm{number}.z"] = SQ(tail_integer_bits(gate.f), bits - 1)
        chosen[f"lstm{number}.c"] = seen.ranges[f"lstm{number}.c"].of_width(bits, HEADROOM)
        lstm = network.directions[number]
        # A hidden state is never beyond 1, unless one is given to begin with, or is no tanh.
        h = SQ(1, bits - 1)
        if lstm.initial_h is not None:
            h = max(h, Range.of(lstm.initial_h).of_width(bits), key=lambda to: to.i)
        if lstm.squash != TANH:
            h = max(h, seen.ranges[f"lstm{number}.h"].of_width(bits, HEADROOM),
                    key=lambda to: to.i)
        chosen[f"lstm{number}.h"] = h
    if network.head:
        chosen["dense.y"] = seen.ranges["y"].of_width(bits, HEADROOM)
        if network.head[0].function.name in ("HardSigmoid", "Sigmoid", "Tanh"):
            chosen["dense.y"] = SQ(2, bits - 2)
    for name, override in (overrides or {}).items():
        if name not in chosen:
            raise ValueError(f"a format can be given for {', '.join(chosen)}, not for {name}")
        if not isinstance(override, SQ):
            raise ValueError(f"the format of {name} must be SQ(i, f), not {override}")
        chosen[name] = override

    # What each layer reads: the input, then each layer's hidden state.
    layers = network.directions
    names = ["x", *(f"lstm{number}.h" for number in range(len(layers)))]
    operands = [chosen[name] for name in names]
    given = [0] * len(names)
    candidates, scaled = [], []
    for number, lstm in enumerate(layers):
        # A line has a format for what it gives; that of a hard sigmoid is that of a tanh.
        g = tanh
        if lstm.candidate.name in ("Relu", "Affine"):
            g = seen.ranges[f"lstm{number}.g"].of_width(bits, HEADROOM)
        candidates.append(g)
        lstm = _with_lines(lstm, z=chosen[f"lstm{number}.z"], g=g)
        scaled.append(lstm)
        pair = slice(number, number + 2)
        for at, more in enumerate(_align(lstm, operands[pair], seen.power[pair],
                                         None if number else seen.x, bits), number):
            # Who names a format gets it.
            if more and names[at] not in (overrides or {}):
                given[at] += more
                operands[at] = SQ(operands[at].i, operands[at].f - more)

    chosen_layers = []
    for number, lstm in enumerate(scaled):
        own, h = operands[number], operands[number + 1]
        c = chosen[f"lstm{number}.c"]
        points = [_finest_products(w, lstm.bias, operand, bits)
                  for w, operand in ((lstm.w_x, own), (lstm.w_h, h))]
        point = min(points)
        chosen_layers.append(LSTMCalibration(
            formats=LSTMFormats(
                x=own, h=h, c=c, z=chosen[f"lstm{number}.z"], g=candidates[number],
                s=tanh if lstm.squash == TANH else c,
                w_x=Range.of(lstm.w_x).of_fraction(point - own.f),
                w_h=Range.of(lstm.w_h).of_fraction(point - h.f), gate=gate, tanh=tanh),
            lost_x=points[0] - point if lstm.w_x.any() else 0,
            lost_h=points[1] - point if lstm.w_h.any() else 0,
            rescaled_x=given[number], rescaled_h=given[number + 1],
            ranges={"x": seen.ranges[f"lstm{number - 1}.h" if number else "x"],
                    **{name: seen.ranges[f"lstm{number}.{name}"] for name in ("z", "c", "h")}}))
    head = None
    if network.head:
        own, dense = operands[-1], _dense_line(network.head[0])
        f = _finest_products(dense.w, dense.bias, own, bits) - own.f
        head = DenseCalibration(
            formats=DenseFormats(x=own, w=Range.of(dense.w).of_fraction(f), y=chosen["dense.y"],
                                 z=_argument(network.head[0].function, chosen["dense.y"])),
            ranges={"y": seen.ranges["y"]})
    return Calibration(bits=bits, layers=tuple(chosen_layers), head=head)


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
