"""The bit-true layers: what every bit of the hardware must be.

Every tensor has a format of its own. Per layer and step, with ``RS`` one rounding to nearest even
followed by saturation, and everything inside the parentheses exact::

    z_n  = RS(w_x x + w_h h + bias)         n = i, f, o in z; n = g in candidate
    i, f, o = sigmoid(z_n)      g = tanh(z_g)
    c'   = RS(f c + i g)        in c
    u    = RS(f c + i g)        in candidate, from the unrounded sum
    h    = RS(o tanh(u))        in h
    y    = RS(w h + bias)       a dense layer, between limits; or sigmoid or tanh of it in z

With peepholes, p c stands in the parentheses of z_i and z_f, and p c' in those of z_o, with the
rounded codes c and c' of the cell state before the step and after it.

The binary points of ``w_x x`` and ``w_h h`` are equal by the choice of the weights' formats, so
products add up without a shift. A sequence starts from a zero state, or from given codes: those of
the layer, those in which the sequence before has ended, or any others
(:meth:`golden.quantized_network.QuantizedNetwork.run`).

A :class:`golden.formats.Curve` may take the place of sigmoid or tanh. Either it limits z or u
further, which is a clip, or it has no table: then z *is* the gate, between limits. That is the hard
sigmoid, whose slope and offset are in the weights, and rounded but once; the rectified and the
plain linear function likewise. Without a table there is no u either: the limits are those of c', or
of a line s = RS(a c' + b), the constants a and b integers. Where the sigmoid takes the place of
tanh, its argument is in z, and its value in the tanh's format.

A *projection* makes R hidden states of what H units let out, with a rounding of each::

    m    = RS(o tanh(u))        in m
    h    = RS(w_r m)            in h
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from golden.activation import SIGMOID, SIGNED_SIGMOID, TANH, sigmoid_table
from golden.derived import DERIVED, settle
from golden.fixed import SQ, UQ, Format, signed_width
from golden.formats import Curve, DenseFormats, LSTMFormats, Slope
from golden.table import Table

__all__ = ["QuantizedDense", "QuantizedLSTM"]


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
    w_h : int64 array, 4 H x R
        R is H, but for a projection.
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
        Of u, by default the table's tanh; without the table of c', and ``s`` is ``c``, or of what
        ``slope`` makes of it.
    candidate_reading, cell_reading : int
        Which reading of the table is that of g, and of u: ``TANH`` or ``SIGNED_SIGMOID``.
    slope : Slope, optional
        Of the cell state, where ``of_cell`` has no table: the limits are codes of ``s``.
    peepholes : int64 array, 3 H, optional
        Weights of the cell states in ``p``, in the order i, f, o.
    initial_h, initial_c : int64 arrays, R and H
        Codes of the state that a sequence starts from; by default zeros.
    projection : int64 array, R x H, or None
        From what the output gate lets out to the hidden states.
    reverse : bool
        Whether sequences are read from their last step to their first.

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
        Format of the argument of the cell state's curve: the table's, or without the table ``s``.
    array : SQ
        What the MAC array's accumulator must hold: every sum of products without the bias.
    accumulator : SQ
        What the sum with the bias must hold. Both are bounds over all inputs, from the weights.
    projected : int or None
        R, where there is a projection.
    projector : QuantizedDense or None
        The projection as a dense layer without a bias.
    saturating : tuple of str
        The tensors that are rounded, in the order of the data flow.
    """

    formats: LSTMFormats
    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    gate: Curve = DERIVED
    of_candidate: Curve = DERIVED
    of_cell: Curve = DERIVED
    candidate_reading: int = TANH
    cell_reading: int = TANH
    slope: Slope | None = None
    peepholes: np.ndarray | None = None
    initial_h: np.ndarray = DERIVED
    initial_c: np.ndarray = DERIVED
    projection: np.ndarray | None = None
    reverse: bool = False

    def __post_init__(self) -> None:
        rows, outputs = self.w_h.shape
        hidden = rows // 4
        square = self.projection is None
        if (rows != 4 * hidden or self.w_x.shape[0] != rows or self.bias.shape != (rows,)
                or (square and hidden != outputs)):
            raise ValueError(f"LSTM shapes must be 4H x N, 4H x {'H' if square else 'R'} and 4H, "
                             f"not {self.w_x.shape}, {self.w_h.shape} and {self.bias.shape}")
        if square != (self.formats.w_r is None):
            raise ValueError(f"LSTM weights of a projection must have a format, and no others, "
                             f"not {self.formats.w_r} for {'none' if square else 'some'}")
        if self.projection is not None and self.projection.shape != (outputs, hidden):
            raise ValueError(f"LSTM projection must have the shape {outputs, hidden}, R x H, not "
                             f"{self.projection.shape}")
        _ = self.projector  # checks its codes
        _check_codes("LSTM weights w_x", self.w_x, self.formats.w_x)
        _check_codes("LSTM weights w_h", self.w_h, self.formats.w_h)
        for reading in (self.candidate_reading, self.cell_reading):
            if reading not in (TANH, SIGNED_SIGMOID):
                raise ValueError(f"the table's reading of a candidate or cell state must be {TANH} "
                                 f"or {SIGNED_SIGMOID}, not {reading!r}")
        _ = self.table  # refuses formats in which a gate is never exactly 0 or 1
        formats = self.formats
        settle(self, **{name: Curve(True, within.min, within.max) for name, within in {
            "gate": formats.z, "of_candidate": self.table.argument_of(self.candidate_reading),
            "of_cell": self.table.argument_of(self.cell_reading)}.items()})
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
        if self.slope and self.of_cell.table:
            raise ValueError("a cell state that goes through a line must have no table behind it")
        if not self.of_cell.table and not self.slope and formats.s != formats.c:
            raise ValueError(f"a cell state without a table must keep its format, {formats.c}, "
                             f"not become {formats.s}")
        if (self.peepholes is None) != (formats.p is None):
            raise ValueError(f"LSTM peepholes must come with a format, and a format with them, but "
                             f"that is {formats.p} "
                             f"{'without' if self.peepholes is None else 'with'} them")
        if self.peepholes is not None and formats.p:
            if self.peepholes.shape != (3 * hidden,):
                raise ValueError(f"LSTM peepholes must have the shape {3 * hidden}, not "
                                 f"{self.peepholes.shape}")
            _check_codes("LSTM peepholes", self.peepholes, formats.p)
        for name, to, count in (("initial_h", formats.h, outputs),
                                ("initial_c", formats.c, hidden)):
            settle(self, **{name: np.zeros(count, dtype=np.int64)})
            codes = getattr(self, name)
            if codes.shape != (count,):
                raise ValueError(f"LSTM {name} must have the shape {count}, not {codes.shape}")
            _check_codes(f"LSTM {name}", codes, to)

    @property
    def inputs(self) -> int:
        return self.w_x.shape[1]

    @property
    def hidden(self) -> int:
        return self.w_h.shape[0] // 4

    @property
    def outputs(self) -> int:
        return self.w_h.shape[1]

    @property
    def projected(self) -> int | None:
        """R, where there is a projection."""
        return None if self.projection is None else self.outputs

    @property
    def y(self) -> SQ:
        """Format of the outputs."""
        return self.formats.h

    @property
    def directions(self) -> "tuple[QuantizedLSTM, ...]":
        """The layer itself, as one of one."""
        return (self,)

    @cached_property
    def projector(self) -> "QuantizedDense | None":
        formats = self.formats
        if self.projection is None or formats.w_r is None:
            return None
        return QuantizedDense(
            formats=DenseFormats(x=formats.m, w=formats.w_r, y=formats.h), w=self.projection,
            bias=np.zeros(self.outputs, dtype=np.int64))

    @property
    def saturating(self) -> tuple[str, ...]:
        """The tensors that are rounded, in the order of the data flow."""
        return tuple("zuch" if self.projection is None else "zucmh")

    @cached_property
    def table(self) -> Table:
        return sigmoid_table(
            z=self.formats.z, gate=self.formats.gate, tanh=self.formats.tanh,
            signed_sigmoid=SIGNED_SIGMOID in (self.candidate_reading, self.cell_reading))

    @property
    def candidate(self) -> SQ:
        return (self.table.argument_of(self.candidate_reading) if self.of_candidate.table
                else self.formats.g)

    @property
    def squashed(self) -> SQ:
        return (self.table.argument_of(self.cell_reading) if self.of_cell.table
                else self.formats.s)

    @property
    def lines(self) -> tuple[int, ...]:
        """Which curves need no table: 0 to 3 are those of i, f, g and o, 4 is the cell state's."""
        curves = self.gate, self.gate, self.of_candidate, self.gate, self.of_cell
        return tuple(n for n, curve in enumerate(curves) if not curve.table)

    @property
    def functions(self) -> tuple[object, ...]:
        """All that the functions are about: where it is alike, two directions drain alike."""
        return (self.gate, self.of_candidate, self.of_cell, self.candidate_reading,
                self.cell_reading, self.slope, self.formats.g, self.formats.s)

    @property
    def first_bias(self) -> np.ndarray:
        """The bias of a sequence's first step, whose hidden states are those of its start."""
        return np.asarray(self.bias + self.w_h @ self.initial_h)

    @cached_property
    def array(self) -> SQ:
        return _interval([(self.w_x, self.formats.x), (self.w_h, self.formats.h)], None)

    @property
    def peephole_shift(self) -> int:
        """Places by which the products of the peepholes are shifted to the left."""
        formats = self.formats
        return formats.product_fraction - formats.p.f - formats.c.f if formats.p else 0

    @cached_property
    def accumulator(self) -> SQ:
        parts: list[tuple[np.ndarray, Format]] = [(self.w_x, self.formats.x),
                                                  (self.w_h, self.formats.h)]
        if self.peepholes is not None:
            i, f, o = np.split(self.peepholes.astype(object) << self.peephole_shift, 3)
            # A column of its own: each row has one product with a cell state.
            parts.append((np.concatenate([i, f, 0 * f, o])[:, None], self.formats.c))
        return _interval(parts, self.bias)


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
    curve: Curve = DERIVED
    reading: int = SIGMOID

    def __post_init__(self) -> None:
        z = self.formats.z
        settle(self, curve=Curve(False, z.min, z.max))
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
