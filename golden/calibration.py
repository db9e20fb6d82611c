"""All formats of a network, as calibration has chosen them, and the network rounded to them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from golden.activation import SIGMOID as SIGMOID_READING
from golden.activation import SIGNED_SIGMOID
from golden.activation import TANH as TANH_READING
from golden.argmax import ArgMax
from golden.bidirectional import QuantizedBidirectional, QuantizedLayer
from golden.fixed import SQ, UQ
from golden.formats import Curve, DenseFormats, LSTMFormats, Slope
from golden.function import ARGMAX, IDENTITY, SIGMOID, SOFTMAX, TANH, Function
from golden.lines import dense_line, peepholes_of, slope_of, with_lines
from golden.lstm import LSTM
from golden.model import Network
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from golden.ranges import Range
from golden.softmax import Softmax

__all__ = ["Calibration", "DenseCalibration", "LSTMCalibration"]


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
            dense, line = seen.formats, dense_line(of)
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
    lines = with_lines(lstm, z=formats.z, g=formats.g)
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
        peepholes=formats.p.quantize(peepholes_of(lines))[0] if formats.p else None,
        initial_h=_codes(lstm.initial_h, lstm.outputs, formats.h),
        initial_c=_codes(lstm.initial_c, lstm.hidden, formats.c),
        projection=(None if lstm.projection is None or formats.w_r is None
                    else formats.w_r.quantize(lstm.projection)[0]),
        reverse=lstm.reverse)


def _bias(bias: np.ndarray, f: int) -> np.ndarray:
    return np.rint(bias * 2.0**f).astype(np.int64)


def _codes(state: np.ndarray | None, count: int, to: SQ) -> np.ndarray:
    return to.quantize(np.zeros(count) if state is None else state)[0]


def _cell_slope(function: Function, formats: LSTMFormats, bits: int) -> Slope | None:
    """The line that a cell state goes through, where it does."""
    if function.name not in ("HardSigmoid", "Affine") or function == IDENTITY:
        return None
    line = slope_of(function)
    assert line is not None
    slope, offset = line
    # As many bits as a weight has, but none that would not be seen in s even of the largest c.
    f = min(Range(slope, slope).of_width(bits).f, formats.s.f + formats.c.i + 2)
    a = round(slope * 2.0**f)
    # Beyond this, a limit is all that comes out.
    most = (abs(a) * -formats.c.min) * 2.0 ** -(f + formats.c.f) + 2.0**formats.s.i
    return Slope(a=a, f=f, b=round(min(max(offset, -most), most) * 2.0 ** (f + formats.c.f)))


def _curve(function: Function, clip: float | None, argument: SQ, result: SQ | UQ) -> Curve:
    """What becomes of a preactivation, or of a cell state.

    Parameters
    ----------
    argument : SQ
        Of the table.
    result : SQ or UQ
        Of what comes out where the function is a line.
    """
    line = slope_of(function if function.elementwise else IDENTITY)
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
