"""The bit-true layers: what every bit of the hardware must be.

Every tensor has a format of its own. Per layer and step, with ``RS`` one rounding to nearest even
followed by saturation, and everything inside the parentheses exact::

    z_n  = RS(w_x x + w_h h + bias)         n = i, f, o in z; n = g in candidate
    i, f, o = sigmoid(z_n)      g = tanh(z_g)
    c'   = RS(f c + i g)        in c
    u    = RS(f c + i g)        in candidate, from the unrounded sum
    h    = RS(o tanh(u))        in h
    y    = RS(w h + bias)       the dense head, between limits; or sigmoid or tanh of it in z

The binary points of ``w_x x`` and ``w_h h`` are equal by the choice of the weights' formats, so
products add up without a shift. A sequence starts from a zero state, or from given codes: those of
the layer, those in which the sequence before has ended, or any others
(:meth:`golden.quantized_network.QuantizedNetwork.run`).

A :class:`Curve` may take the place of sigmoid or tanh. Either it limits z or u further, which is a
clip, or it has no table: then z *is* the gate, between limits. That is the hard sigmoid, whose
slope and offset are in the weights, and rounded but once; the rectified and the plain linear
function likewise. Without a table there is no u either: the limits are those of c'.
"""

from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any

import numpy as np

from golden.activation import SIGMOID, TANH, sigmoid_table
from golden.fixed import SQ, UQ, Format, signed_width
from golden.table import Table

__all__ = ["Curve", "LSTMFormats", "DenseFormats", "QuantizedLSTM", "QuantizedDense"]


@dataclass(frozen=True)
class Curve:
    """What becomes of a preactivation or a cell state.

    Parameters
    ----------
    table : bool
        Whether it is looked up in the table, or is the result itself.
    low, high : int
        It is limited to these codes before.
    """

    table: bool
    low: int
    high: int

    def flagged(self, of: Format) -> tuple[float, float]:
        """Below and above which codes a value saturates: a limit within the format is meant."""
        return (self.low if self.low == of.min else -inf,
                self.high if self.high == of.max else inf)


@dataclass(frozen=True, kw_only=True)
class LSTMFormats:
    """Formats of an LSTM layer: each tensor's own.

    ``x`` input, ``h`` hidden state, ``c`` cell state, ``w_x`` and ``w_h`` weights, ``z`` a gate's
    preactivation, ``gate`` the gates, ``tanh`` what the table gives for a tanh, ``g`` the candidate
    and ``s`` what the cell state becomes on its way out: these two are ``tanh`` where they come
    from the table.

    Raises
    ------
    ValueError
        If the products of the two parts do not share their binary point.
    """

    x: SQ
    h: SQ
    c: SQ
    w_x: SQ
    w_h: SQ
    z: SQ
    gate: UQ
    tanh: SQ
    g: SQ = field(default=None)  # type: ignore[assignment]
    s: SQ = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in "gs":
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.tanh)
        if self.w_x.f + self.x.f != self.w_h.f + self.h.f:
            raise ValueError(
                f"the products w_x x and w_h h must share their binary point, but {self.w_x} by "
                f"{self.x} and {self.w_h} by {self.h} do not")

    @property
    def product_fraction(self) -> int:
        """Fraction bits of the products, of their sum and of the bias."""
        return self.w_x.f + self.x.f

    @property
    def state_fraction(self) -> int:
        """Fraction bits of the exact sum f c + i g."""
        return self.gate.f + max(self.c.f, self.g.f)


@dataclass(frozen=True, kw_only=True)
class DenseFormats:
    """Formats of a dense layer: ``x`` input, ``w`` weights, ``z`` the sum, ``y`` output.

    Without a table the sum is the output, and ``z`` is ``y``.
    """

    x: SQ
    w: SQ
    y: SQ
    z: SQ = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        given: Any = self.z
        if given is None:
            object.__setattr__(self, "z", self.y)

    @property
    def product_fraction(self) -> int:
        return self.w.f + self.x.f


def _check_codes(name: str, codes: np.ndarray, to: Format) -> None:
    if codes.dtype != np.int64:
        raise TypeError(f"{name} must be an int64 array, not {codes.dtype}")
    if codes.size and (codes.min() < to.min or codes.max() > to.max):
        raise ValueError(f"{name} must lie in {to}, {to.min} to {to.max}, but reach from "
                         f"{codes.min()} to {codes.max()}")


def _interval(parts: list[tuple[np.ndarray, Format]], bias: np.ndarray | None) -> SQ:
    """The narrowest integer format that holds every sum of every row, partial sums included."""
    low = high = np.zeros(parts[0][0].shape[0], dtype=object)
    for w, operand in parts:
        w = w.astype(object)
        positive, negative = np.maximum(w, 0).sum(axis=1), np.minimum(w, 0).sum(axis=1)
        high = high + positive * operand.max + negative * operand.min
        low = low + positive * operand.min + negative * operand.max
    if bias is not None:
        low, high = low + bias, high + bias
    return SQ(signed_width(int(low.min()), int(high.max())), 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedLSTM:
    """An LSTM layer in integer codes.

    Parameters
    ----------
    formats : LSTMFormats
    w_x : int64 array, 4 H x N
        Rows in the gate order i, f, g, o.
    w_h : int64 array, 4 H x H
    bias : int64 array, 4 H
        With ``formats.product_fraction`` fraction bits.
    gate : Curve
        Of the preactivations of i, f and o; by default the table's sigmoid. Without the table,
        ``z`` and ``gate`` have the same fraction bits, and the limits are within 0 and 1.
    of_candidate : Curve
        Of that of g; by default the table's tanh. Without the table, the rows of g are scaled by
        a power of two so that ``z``'s fraction bits are those of ``g``, and the limits are codes
        of ``g``.
    of_cell : Curve
        Of u, by default the table's tanh; without the table of c', and ``s`` is ``c``.
    initial_h, initial_c : int64 arrays, H
        Codes of the state that a sequence starts from; by default zeros.

    Raises
    ------
    TypeError, ValueError
        If a shape, a weight, a format of the activations or a limit is not allowed.

    Attributes
    ----------
    table : Table
        The sigmoid of the gates, the tanh of candidate and cell state.
    candidate : SQ
        Format of the candidate's preactivation: the table's, or without the table ``g``.
    squashed : SQ
        Format of the argument of the cell state's curve: the table's, or without the table ``c``.
    array : SQ
        What the MAC array's accumulator must hold: every sum of products without the bias.
    accumulator : SQ
        What the sum with the bias must hold. Both are bounds over all inputs, from the weights.
    """

    formats: LSTMFormats
    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    gate: Curve = field(default=None)  # type: ignore[assignment]
    of_candidate: Curve = field(default=None)  # type: ignore[assignment]
    of_cell: Curve = field(default=None)  # type: ignore[assignment]
    initial_h: np.ndarray = field(default=None)  # type: ignore[arg-type]
    initial_c: np.ndarray = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        rows, hidden = self.w_h.shape
        if rows != 4 * hidden or self.w_x.shape[0] != rows or self.bias.shape != (rows,):
            raise ValueError(f"LSTM shapes must be 4H x N, 4H x H and 4H, not {self.w_x.shape}, "
                             f"{self.w_h.shape} and {self.bias.shape}")
        _check_codes("LSTM weights w_x", self.w_x, self.formats.w_x)
        _check_codes("LSTM weights w_h", self.w_h, self.formats.w_h)
        _ = self.table  # refuses formats in which a gate is never exactly 0 or 1
        formats, argument = self.formats, self.table.argument_of(TANH)
        for name, within in (("gate", formats.z), ("of_candidate", argument),
                             ("of_cell", argument)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, Curve(True, within.min, within.max))
        one = 1 << formats.gate.f
        for name, curve, low, high in (
                ("gate", self.gate, *((formats.z.min, formats.z.max) if self.gate.table
                                      else (0, one))),
                ("candidate", self.of_candidate, self.candidate.min, self.candidate.max),
                ("cell state", self.of_cell, self.squashed.min, self.squashed.max)):
            if not low <= curve.low <= curve.high <= high:
                raise ValueError(f"the limits of the {name} must be in order within {low} and "
                                 f"{high}, not {curve.low} and {curve.high}")
        if not self.gate.table and formats.z.f != formats.gate.f:
            raise ValueError(f"a gate without a table must have the fraction bits of its "
                             f"preactivation, {formats.z}, not {formats.gate}")
        if not self.of_cell.table and formats.s != formats.c:
            raise ValueError(f"a cell state without a table must keep its format, {formats.c}, "
                             f"not become {formats.s}")
        for name, to in (("initial_h", formats.h), ("initial_c", formats.c)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.zeros(hidden, dtype=np.int64))
            codes = getattr(self, name)
            if codes.shape != (hidden,):
                raise ValueError(f"LSTM {name} must have the shape {hidden}, not {codes.shape}")
            _check_codes(f"LSTM {name}", codes, to)

    @property
    def inputs(self) -> int:
        return self.w_x.shape[1]

    @property
    def hidden(self) -> int:
        return self.w_h.shape[1]

    @cached_property
    def table(self) -> Table:
        return sigmoid_table(z=self.formats.z, gate=self.formats.gate, tanh=self.formats.tanh)

    @property
    def candidate(self) -> SQ:
        return self.table.argument_of(TANH) if self.of_candidate.table else self.formats.g

    @property
    def squashed(self) -> SQ:
        return self.table.argument_of(TANH) if self.of_cell.table else self.formats.c

    @property
    def lines(self) -> tuple[int, ...]:
        """Which curves need no table: 0 to 3 are those of i, f, g and o, 4 is the cell state's."""
        curves = self.gate, self.gate, self.of_candidate, self.gate, self.of_cell
        return tuple(n for n, curve in enumerate(curves) if not curve.table)

    @property
    def first_bias(self) -> np.ndarray:
        """The bias of a sequence's first step, whose hidden states are those of its start."""
        return np.asarray(self.bias + self.w_h @ self.initial_h)

    @cached_property
    def array(self) -> SQ:
        return _interval([(self.w_x, self.formats.x), (self.w_h, self.formats.h)], None)

    @cached_property
    def accumulator(self) -> SQ:
        return _interval([(self.w_x, self.formats.x), (self.w_h, self.formats.h)], self.bias)


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedDense:
    """A dense layer in integer codes.

    Parameters
    ----------
    formats : DenseFormats
    w : int64 array, O x H
    bias : int64 array, O
        With ``formats.product_fraction`` fraction bits.
    curve : Curve
        Limits of the sum; by default those of ``z``, and no table.
    reading : int
        Which function of the table it is, ``SIGMOID`` or ``TANH``; of no effect without.

    Raises
    ------
    TypeError, ValueError
        If a shape, a weight, a format of the table or a limit is not allowed.

    Attributes
    ----------
    table : Table
        Where the curve has one: its results are in ``y``, ``SQ(2, f)``.
    array, accumulator : SQ
        As in :class:`QuantizedLSTM`.
    """

    formats: DenseFormats
    w: np.ndarray
    bias: np.ndarray
    curve: Curve = field(default=None)  # type: ignore[assignment]
    reading: int = SIGMOID

    def __post_init__(self) -> None:
        z = self.formats.z
        given: Any = self.curve
        if given is None:
            object.__setattr__(self, "curve", Curve(False, z.min, z.max))
        if not z.min <= self.curve.low <= self.curve.high <= z.max:
            raise ValueError(f"the limits of a dense layer must be in order within {z.min} and "
                             f"{z.max}, not {self.curve.low} and {self.curve.high}")
        if self.curve.table:
            _ = self.table
        elif z != self.formats.y:
            raise ValueError(f"a dense layer without a table must keep the format of its sum, {z}, "
                             f"not give {self.formats.y}")
        if self.w.ndim != 2 or self.bias.shape != self.w.shape[:1]:
            raise ValueError(f"dense shapes must be O x H and O, not {self.w.shape} and "
                             f"{self.bias.shape}")
        _check_codes("dense weights", self.w, self.formats.w)

    @property
    def inputs(self) -> int:
        return self.w.shape[1]

    @property
    def outputs(self) -> int:
        return self.w.shape[0]

    @cached_property
    def table(self) -> Table:
        z, y = self.formats.z, self.formats.y
        # A tanh takes half its argument.
        whole = z if self.reading == SIGMOID else SQ(z.i + 1, z.f - 1)
        return sigmoid_table(z=whole, gate=UQ(1, y.f), tanh=y)

    @cached_property
    def array(self) -> SQ:
        return _interval([(self.w, self.formats.x)], None)

    @cached_property
    def accumulator(self) -> SQ:
        return _interval([(self.w, self.formats.x)], self.bias)
