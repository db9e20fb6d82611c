"""Choosing every number format from the weights and from calibration data.

The float network runs on the data, and each tensor gets the finest format of the wanted width
that holds what was seen: the input and the weights just so, the cell state and the output with
headroom for data not seen. Gates, candidate and hidden state have the formats of their range.

The products ``w_x x`` and ``w_h h`` must share their binary point, which costs one part's weights
fraction bits, or its operand (:mod:`golden.binary_point`). The report says how many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from golden.activation import tail_integer_bits
from golden.binary_point import Rows, align, finest_products, fraction_bits, points
from golden.calibration import Calibration, DenseCalibration, LSTMCalibration
from golden.fixed import SQ, UQ
from golden.formats import DenseFormats, LSTMFormats
from golden.function import IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, Function
from golden.lines import dense_line, is_unbounded, with_lines
from golden.lstm import LSTM, Bidirectional
from golden.model import Dense, Layer, ModelError, Network
from golden.quantized_network import QuantizedNetwork
from golden.ranges import FARTHEST, Range
from golden.statistics import Statistics

__all__ = ["BITS", "calibrate", "check_bits", "quantize", "unsupported"]

BITS = range(8, 19)
"""Widths that there are."""

# Room in the cell state and the output, beyond what the calibration data reached. Not more: on
# the adding problem the rounding of c makes nearly all of the error, and each bit of it counts
# nearly fourfold in the mean square.
HEADROOM = 1.125

# Fraction bits that a bias has beyond the sum that it is part of, where exact weights need no more.
OF_BIAS = 6


def check_bits(bits: int) -> None:
    """See whether numbers can be of this width.

    Raises
    ------
    ValueError
        If not.
    """
    if not isinstance(bits, int) or bits not in BITS:
        raise ValueError(f"bits must be an integer from {BITS[0]} to {BITS[-1]}, not {bits!r}")


def unsupported(network: Network) -> list[str]:
    """What of a network neither the bit-true model nor the hardware has, in words."""
    found = []
    for number, layer in enumerate(network.layers):
        if len({(each.hidden, each.projection is None) for each in layer.directions}) > 1:
            found.append(f"two directions of different sizes, of lstm{number}")
    return found


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
    check_bits(bits)
    if missing := unsupported(network):
        raise ModelError(f"no hardware is built for {' or '.join(missing)}")
    _check_weights(network)
    seen = Statistics(network, x, lengths)
    return _Choice(network, seen, bits, overrides or {}).calibration()


def _check_weights(network: Network) -> None:
    """Refuse numbers that no format has, before they are scaled by one another."""
    parts: list[tuple[str, LSTM | Dense]] = [
        *((f"lstm{number}", each) for number, layer in enumerate(network.layers)
          for each in layer.directions),
        *((f"dense{number}", dense) for number, dense in enumerate(network.head))]
    for owner, part in parts:
        found = {name: value for name, value in vars(part).items()
                 if isinstance(value, np.ndarray)}
        found |= {f"{parameter} of {name}": np.array(getattr(function, parameter))
                  for name, function in vars(part).items() if isinstance(function, Function)
                  for parameter in ("alpha", "beta") if getattr(function, parameter) is not None}
        for name, numbers in found.items():
            peak = np.abs(numbers).max()
            if peak > FARTHEST:
                raise ValueError(f"{name} of {owner} must be at most {FARTHEST:g} in magnitude, "
                                 f"not {peak:g}: see whether the model is damaged, or scale it")


class _Choice:
    """The formats of all tensors, chosen one after the other: states and outputs, then weights.

    Attributes
    ----------
    chosen : dict of formats
        Of each tensor that has a name in the overrides.
    reads : list of str
        What each layer reads: the input, then what the layer before gives.
    candidates : list of lists of formats
        Of what each direction's candidate gives.
    rows : list of Rows
        Weights of each layer, slopes included.
    operands : dict of formats
        As `chosen`, without the fraction bits in `given`, which are given up for the equal binary
        point.
    """

    def __init__(self, network: Network, seen: Statistics, bits: int,
                 overrides: Mapping[str, SQ]) -> None:
        self.network, self.seen, self.bits, self.overrides = network, seen, bits, overrides
        self.chosen: dict[str, SQ] = {"x": seen.ranges["x"].of_width(bits)}
        self.gate, self.tanh = UQ(1, bits - 1), SQ(2, bits - 2)
        for number, layer in enumerate(network.layers):
            self._choose_states(f"lstm{number}", layer)
        for number, dense in enumerate(network.head):
            self.chosen[f"dense{number}.y"] = self._of_output(f"dense{number}.y", dense.function)
        self._override()

        self.reads = ["x", *(f"lstm{number}.{'y' if _merges(layer) else 'h'}"
                             for number, layer in enumerate(network.layers))]
        # A line has a format for what it gives; that of a hard sigmoid is that of a tanh.
        self.candidates = [[self._with_headroom(f"lstm{number}.g") if is_unbounded(each.candidate)
                            else self.tanh for each in layer.directions]
                           for number, layer in enumerate(network.layers)]
        self.rows = [Rows.of([with_lines(each, z=self.chosen[f"lstm{number}.z"], g=g)
                              for each, g in zip(layer.directions, candidates, strict=True)])
                     for number, (layer, candidates) in enumerate(
                         zip(network.layers, self.candidates, strict=True))]
        self.operands, self.given = dict(self.chosen), dict.fromkeys(self.chosen, 0)
        for number in range(len(network.layers)):
            self._align(number)

    def _with_headroom(self, name: str) -> SQ:
        return self.seen.ranges[name].of_width(self.bits, HEADROOM)

    def _choose_states(self, name: str, layer: Layer) -> None:
        """Formats of what a layer's directions compute, and of what the layer gives."""
        self.chosen[f"{name}.z"] = SQ(tail_integer_bits(self.gate.f), self.bits - 1)
        self.chosen[f"{name}.c"] = self._with_headroom(f"{name}.c")
        # A hidden state is never beyond 1, unless one is given to begin with, or is no tanh.
        h = m = SQ(1, self.bits - 1)
        if any(each.squash != TANH for each in layer.directions):
            m = _wider(m, self._with_headroom(f"{name}.m"))
        if layer.directions[0].projection is None:
            h = m
        else:
            self.chosen[f"{name}.m"] = m
            h = self._with_headroom(f"{name}.h")
        for each in layer.directions:
            if each.initial_h is not None:
                h = _wider(h, Range.of(each.initial_h).of_width(self.bits))
        self.chosen[f"{name}.h"] = h
        if _merges(layer):
            self.chosen[f"{name}.y"] = self._with_headroom(f"{name}.y")

    def _of_output(self, name: str, function: Function) -> SQ:
        """Format of what a dense layer gives."""
        if function.name in ("HardSigmoid", "Sigmoid", "Tanh"):
            return SQ(2, self.bits - 2)
        to = self._with_headroom(name)
        # As fine as the outputs, which are as much off as the logits are; and so wide.
        return SQ(max(to.i, 2), self.bits - 2) if function == SOFTMAX else to

    def _override(self) -> None:
        for name, override in self.overrides.items():
            if name not in self.chosen:
                raise ValueError(f"a format can be given for {', '.join(self.chosen)}, not for "
                                 f"{name}")
            if not isinstance(override, SQ):
                raise ValueError(f"the format of {name} must be SQ(i, f), not {override}")
            self.chosen[name] = override

    def _align(self, number: int) -> None:
        """Let the operands of a layer give up fraction bits where that gains something."""
        pair = self.reads[number], f"lstm{number}.h"
        power = [self.seen.power[f"lstm{number - 1}.y" if number else "x"],
                 self.seen.power[pair[1]]]
        given = align(self.rows[number], [self.operands[name] for name in pair], power,
                      None if number else self.seen.x, self.bits)
        for name, more in zip(pair, given, strict=True):
            # Who names a format gets it.
            if more and name not in self.overrides:
                self.given[name] += more
                self.operands[name] = SQ(self.operands[name].i, self.operands[name].f - more)

    def _lstm(self, number: int) -> LSTMCalibration:
        layer, rows = self.network.layers[number], self.rows[number]
        name, read = f"lstm{number}", self.reads[number]
        x, h, c, z = (self.operands[read], self.operands[f"{name}.h"], self.chosen[f"{name}.c"],
                      self.chosen[f"{name}.z"])
        finest = points(rows, (x, h), self.bits)
        # More fraction bits than the weights have would be zeros: quantised ones keep their format.
        exact = [fraction_bits(w) + operand.f for w, operand in ((rows.w_x, x), (rows.w_h, h))]
        point = min(*finest, max(*exact, z.f + OF_BIAS))
        # Without a projection, what the output gate lets out is the hidden state.
        m = h if rows.projection is None else self.chosen[f"{name}.m"]
        w_r = None if rows.projection is None else Range.of(rows.projection).of_fraction(
            finest_products(rows.projection, np.zeros(1), m, self.bits) - m.f)
        formats, *others = [LSTMFormats(
            x=x, h=h, c=c, z=z, g=g,
            s=self._squashed(each.squash, self.seen.ranges[f"{name}.c"], c),
            p=self._of_peepholes(rows.peepholes, c, point),
            w_x=Range.of(rows.w_x).of_fraction(point - x.f),
            w_h=Range.of(rows.w_h).of_fraction(point - h.f), gate=self.gate, tanh=self.tanh,
            m=m, w_r=w_r) for each, g in zip(layer.directions, self.candidates[number],
                                             strict=True)]
        seen = ("z", "c", *(() if rows.projection is None else ("m",)), "h",
                *(("y",) if _merges(layer) else ()))
        return LSTMCalibration(
            formats=formats, backward=others[0] if others else None,
            lost_x=max(0, min(finest[0], exact[0]) - point) if rows.w_x.any() else 0,
            lost_h=max(0, min(finest[1], exact[1]) - point) if rows.w_h.any() else 0,
            rescaled_x=self.given[read], rescaled_h=self.given[f"{name}.h"],
            y=self.operands[self.reads[number + 1]],
            ranges={"x": self.seen.ranges[read],
                    **{of: self.seen.ranges[f"{name}.{of}"] for of in seen}})

    def _squashed(self, function: Function, seen: Range, c: SQ) -> SQ:
        """Format of what the cell state becomes on its way out, whose range was seen."""
        if function in (RELU, IDENTITY):
            return c
        if function.name == "Affine":
            ends = Range.of(function(np.array([seen.low, seen.high])))
            return ends.of_width(self.bits, HEADROOM)
        return self.tanh

    def _of_peepholes(self, peepholes: np.ndarray, c: SQ, point: int) -> SQ | None:
        """Format of the peepholes, whose products with c have ``point`` fraction bits at most."""
        if not peepholes.any():
            return None
        seen = Range.of(peepholes)
        return seen.of_fraction(min(seen.of_width(self.bits).f, point - c.f))

    def _dense(self, number: int, dense: Dense, x: SQ) -> DenseCalibration:
        """Formats of a dense layer that reads ``x``."""
        line, y = dense_line(dense), self.chosen[f"dense{number}.y"]
        z = _argument(dense.function, y)
        point = min(finest_products(line.w, line.bias, x, self.bits),
                    max(fraction_bits(line.w) + x.f, z.f + OF_BIAS))
        return DenseCalibration(
            formats=DenseFormats(x=x, w=Range.of(line.w).of_fraction(point - x.f), y=y, z=z),
            ranges={"y": self.seen.ranges[f"dense{number}.y"]})

    def calibration(self) -> Calibration:
        """What was chosen, and why."""
        read = [self.operands[self.reads[-1]],
                *(self.chosen[f"dense{number}.y"] for number in range(len(self.network.head)))]
        return Calibration(
            bits=self.bits, layers=tuple(map(self._lstm, range(len(self.network.layers)))),
            head=tuple(self._dense(number, dense, read[number])
                       for number, dense in enumerate(self.network.head)))


def _wider(*formats: SQ) -> SQ:
    return max(formats, key=lambda to: to.i)


def _argument(function: Function, y: SQ) -> SQ:
    """Format of the sum of a dense layer: wide enough that a table reaches its ends."""
    if function not in (SIGMOID, TANH):
        return y
    z = SQ(tail_integer_bits(y.f + 1), y.f)
    return z if function == SIGMOID else SQ(z.i - 1, z.f + 1)


def _merges(layer: Layer) -> bool:
    """Whether the outputs of two directions become something else."""
    return isinstance(layer, Bidirectional) and layer.merge != "concat"


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
