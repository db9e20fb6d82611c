"""The one binary point of the products ``w_x x`` and ``w_h h``, which are added up as they are.

One part's weights give up fraction bits for it. Where these are more than :data:`TOLERATED`, that
part's operand may be written coarser instead, which leaves the bits to its weights: it is done as
far as it makes the preactivation more precise, predicted from the rounding errors of both parts'
weights and operands on the calibration data. Mostly it does not, since a part whose products are
coarse brings errors as large as those that the other part's shorter weights cause.

Weights that were quantised before, to no more bits and with a power of two for a scale, keep every
bit. Where their scales differ, the words of one part get longer by zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from golden.fixed import SQ, Format
from golden.lines import peepholes_of
from golden.lstm import LSTM
from golden.ranges import Range

__all__ = ["Rows", "align", "finest_products", "fraction_bits", "points"]

# Weight bits that equal binary points may cost before a coarser operand is tried.
TOLERATED = 2

# A coarser operand serves other readers too; it must not be had for less than this gain in noise.
WORTH = 1.25

# Bits that a quantised weight may take so that it is exact: those of the narrowest multiplier.
WIDEST = 16

# Bits of a sum that keeps quantised weights exact, at most: float64 has room for little more.
WIDEST_SUM = 48

# Of a float64; far below any binary point that there is.
EXACT_BITS = 53


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """The weights of a layer: the rows of all its directions, which share their formats."""

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    peepholes: np.ndarray
    projection: np.ndarray | None

    @classmethod
    def of(cls, directions: Sequence[LSTM]) -> "Rows":
        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(each, name) for each in directions])

        return cls(w_x=joined("w_x"), w_h=joined("w_h"), bias=joined("bias"),
                   peepholes=np.concatenate([peepholes_of(each) for each in directions]),
                   projection=None if directions[0].projection is None else joined("projection"))


def finest_products(w: np.ndarray, bias: np.ndarray, operand: Format, bits: int) -> int:
    """Fraction bits of the products with weights of ``bits`` bits, or as many as make sense."""
    # Finer products would vanish when the sum, which the bias is part of, is rounded to z or y.
    whole = Range.of(bias).of_width(bits).i
    most = 2 * bits + 4 - whole
    if not w.any():
        return most
    exact, finest = operand.f + fraction_bits(w), operand.f + Range.of(w).of_width(bits).f
    enough = min(finest, most)
    # Weights that were quantised are exact all the same.
    return max(exact, enough) if exact <= min(finest, WIDEST_SUM - whole) else enough


def points(rows: Rows, operands: Sequence[Format], bits: int) -> list[int]:
    """Fraction bits of the products with x and with h, before they are made equal.

    Where both parts were quantised, the coarser one gets zeros behind its weights until both are
    exact at the same point, rather than the finer one rounded anew, as far as its words do not get
    wider than :data:`WIDEST`.
    """
    parts = tuple(zip((rows.w_x, rows.w_h), operands, strict=True))
    points = [finest_products(w, rows.bias, operand, bits) for w, operand in parts]
    exact = [fraction_bits(w) + operand.f for w, operand in parts]
    if all(own <= finest for own, finest in zip(exact, points, strict=True)):
        common = max(exact)
        if all(Range.of(w).of_fraction(common - operand.f).width <= max(WIDEST, bits)
               for w, operand in parts if w.any()):
            return [max(point, common) for point in points]
    return points


def fraction_bits(w: np.ndarray) -> int:
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


def align(lstm: Rows, operands: list[SQ], power: list[np.ndarray],
           x: np.ndarray | None, bits: int) -> tuple[int, int]:
    """Fraction bits that the operands x and h should give up for the equal binary point."""
    parts = (lstm.w_x, lstm.w_h)
    finest = points(lstm, operands, bits)
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
