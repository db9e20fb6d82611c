"""The sigmoid and tanh of the cell, from one shared piecewise linear table.

Only the sigmoid of non-negative arguments is stored. The rest follows from symmetry::

    sigmoid(-x) = 1 - sigmoid(x)        tanh(x) = 2 sigmoid(2 x) - 1

A gate's preactivation comes in ``SQ(i, f)`` and the candidate's in ``SQ(i - 1, f + 1)``: the
same integer then addresses ``sigmoid(x)`` for the one and ``sigmoid(2 x)`` for the other, so both
functions share the table, the multiplier and everything but a subtraction.

The magnitude of the input code splits into a segment number and a remainder. With ``v`` the
values at the ends of the segments (the *knots*), the function within segment ``k`` is
``v[k] + (v[k+1] - v[k]) * remainder / 2**remainder_bits``: continuous, and monotone because the
knots are. It is evaluated exactly and rounded once, to nearest even.
"""

from dataclasses import dataclass
from functools import cached_property
from math import floor, log, log2, sqrt

import numpy as np

from golden.fixed import SQ, UQ, round_saturate

__all__ = ["SigmoidTable", "tail_integer_bits"]

# Knots are kept this much finer than the result, so that rounding them costs 1/16 ulp at most.
GUARD_BITS = 3

# The largest |sigmoid''(x)|, 1 / (6 sqrt 3), bounds the error of a linear segment.
MAX_CURVATURE = 1 / (6 * sqrt(3))


def tail_integer_bits(f: int) -> int:
    """The fewest integer bits (sign included) with which a gate of ``f`` fraction bits is exact.

    The constant 1 is within half an ulp, ``2**-(f+1)``, of the sigmoid from x = (f + 1) ln 2 on,
    so an input format must reach beyond that, or no preactivation gives a gate of exactly 0 or 1.
    """
    i = 1
    while 2.0 ** (i - 1) <= (f + 1) * log(2):
        i += 1
    return i


@dataclass(frozen=True, kw_only=True)
class SigmoidTable:
    """A piecewise linear table for sigmoid and tanh.

    Parameters
    ----------
    z : SQ
        Format of a gate's preactivation.
    gate : UQ
        Format of the sigmoid, ``UQ(1, f)``: 1.0 is exact.
    tanh : SQ
        Format of the tanh, ``SQ(2, f)``: -1.0 and 1.0 are exact. At most as fine as ``gate``.

    Attributes
    ----------
    candidate : SQ
        Format of the argument of tanh, ``SQ(z.i - 1, z.f + 1)``.
    remainder_bits : int
        Bits of the magnitude below the segment number.
    knot_fraction : int
        Fraction bits of the knots.
    knots : int64 array, segments + 1
        sigmoid at the ends of the segments, codes with ``knot_fraction`` fraction bits.
    slopes : int64 array, segments
        Differences of the knots.
    fraction : int
        Fraction bits of an interpolated value before rounding.
    bits : int
        Size of the stored table.

    Raises
    ------
    ValueError
        If the formats are not of this shape, or ``z`` is too narrow for the tails.
    """

    z: SQ
    gate: UQ
    tanh: SQ

    def __post_init__(self) -> None:
        if not isinstance(self.gate, UQ) or self.gate.i != 1 or self.gate.f < 2:
            raise ValueError(f"gate format must be UQ(1, f) with f of at least 2, not {self.gate}")
        if not isinstance(self.tanh, SQ) or self.tanh.i != 2 or self.tanh.f < 1:
            raise ValueError(f"tanh format must be SQ(2, f) with f of at least 1, not {self.tanh}")
        if self.tanh.f > self.gate.f:
            raise ValueError(f"tanh format {self.tanh} must not be finer than the gate format "
                             f"{self.gate}")
        need = tail_integer_bits(self.gate.f)
        if not isinstance(self.z, SQ) or self.z.i < need:
            raise ValueError(f"preactivation format must be SQ(i, f) with i of at least {need}, "
                             f"or the sigmoid in {self.gate} never reaches 0 and 1; not {self.z}")
        if self.z.f < 1:
            raise ValueError(f"preactivation format must have a fraction bit at least, "
                             f"not {self.z}")

    @property
    def candidate(self) -> SQ:
        return SQ(self.z.i - 1, self.z.f + 1)

    @cached_property
    def remainder_bits(self) -> int:
        # A linear segment of width d, shifted to balance its error, is off by d^2 |f''| / 16.
        # A fifth of an ulp leaves room for the knots' rounding and the last one. The tanh doubles
        # the error, so its ulp counts half.
        width = sqrt(16 * 0.2 * min(self.gate.ulp, self.tanh.ulp / 2) / MAX_CURVATURE)
        return max(0, min(self.z.width - 2, self.z.f + floor(log2(width))))

    @property
    def segments(self) -> int:
        return 1 << self.z.width - 1 - self.remainder_bits

    @property
    def knot_fraction(self) -> int:
        return self.gate.f + GUARD_BITS

    @property
    def fraction(self) -> int:
        return self.knot_fraction + self.remainder_bits

    @cached_property
    def knots(self) -> np.ndarray:
        width = 2.0 ** (self.remainder_bits - self.z.f)
        x = np.arange(self.segments + 1) * width
        s = 1 / (1 + np.exp(-x))
        # The chord of a concave function lies below it; half its largest error is put above.
        balance = s * (1 - s) * (1 - 2 * s) * width**2 / 16
        return np.rint((s - balance) * 2.0**self.knot_fraction).astype(np.int64)

    @cached_property
    def slopes(self) -> np.ndarray:
        return np.diff(self.knots)

    @property
    def slope_bits(self) -> int:
        """Width of the widest slope."""
        return max(1, int(self.slopes.max()).bit_length())

    @property
    def bits(self) -> int:
        # A knot is at least a half, so only its distance from there is stored.
        return self.segments * (self.knot_fraction + self.slope_bits)

    def _positive(self, magnitude: np.ndarray) -> np.ndarray:
        segment = magnitude >> self.remainder_bits
        remainder = magnitude & (1 << self.remainder_bits) - 1
        return (self.knots[segment] << self.remainder_bits) + self.slopes[segment] * remainder

    def sigmoid(self, codes: np.ndarray) -> np.ndarray:
        """Gate codes of preactivation codes in ``z``.

        Parameters
        ----------
        codes : int64 array
            The most negative code counts as one above it.
        """
        y = self._positive(np.minimum(np.abs(codes), self.z.max))
        gate, _ = round_saturate(y, self.fraction, self.gate)
        return np.where(codes < 0, (1 << self.gate.f) - gate, gate)

    def tanh_of(self, codes: np.ndarray) -> np.ndarray:
        """Codes of tanh, in ``tanh``, of argument codes in ``candidate``.

        Parameters
        ----------
        codes : int64 array
            The most negative code counts as one above it.
        """
        y = self._positive(np.minimum(np.abs(codes), self.z.max))
        # 2 sigmoid - 1: the same integer with half of 1.0 taken off and one fraction bit less.
        tanh, _ = round_saturate(y - (1 << self.fraction - 1), self.fraction - 1, self.tanh)
        return np.where(codes < 0, -tanh, tanh)
