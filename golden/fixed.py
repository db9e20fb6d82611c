"""Fixed-point formats, rounding to nearest even, and saturation.

A *format* says how an integer *code* stands for a real number: ``real = code * 2**-f``. The model
and the hardware both take their widths, binary points and limits from the same format objects.

Rounding is to nearest, ties to even, and a value outside the format saturates; nothing in this
project ever wraps. Codes travel as NumPy integers or as float64 that hold integers: float64 is
exact for every integer below 2**53, and :func:`round_saturate` keeps the type it is given.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["SQ", "UQ", "Format", "round_saturate", "signed_width"]


@dataclass(frozen=True)
class Format:
    """A fixed-point number format; use :class:`SQ` or :class:`UQ`.

    Parameters
    ----------
    i : int
        Integer bits; for a signed format the sign bit is one of them. May be negative or above
        the width, as long as ``i + f`` is positive.
    f : int
        Fraction bits: one *ulp*, the weight of the lowest bit, is ``2**-f``.

    Attributes
    ----------
    width : int
        Bits of a code, ``i + f``.
    min, max : int
        The smallest and the largest code.
    ulp : float
        ``2**-f``.

    Raises
    ------
    TypeError
        If ``i`` or ``f`` is not an integer.
    ValueError
        If ``i + f`` is not positive.
    """

    i: int
    f: int

    signed = False

    def __post_init__(self) -> None:
        for name in ("i", "f"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{type(self).__name__} {name} must be an integer, not {value!r}")
        if self.i + self.f <= 0:
            raise ValueError(f"{self} width must be positive, not {self.i + self.f}")

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.i}, {self.f})"

    @property
    def width(self) -> int:
        return self.i + self.f

    @property
    def min(self) -> int:
        return -(1 << self.width - 1) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << self.width - int(self.signed)) - 1

    @property
    def ulp(self) -> float:
        return 2.0**-self.f

    def quantize(self, real: Any) -> tuple[np.ndarray, int]:
        """Round real numbers to this format.

        Returns
        -------
        codes : int64 array of the same shape
        saturated : int
            How many of them lay outside the format.

        Raises
        ------
        ValueError
            If one is not a number; an infinite one saturates.
        """
        scaled = np.rint(np.asarray(real, dtype=np.float64) * 2.0**self.f)
        if np.isnan(scaled).any():
            raise ValueError(f"{self} has no code for NaN")
        codes = np.clip(scaled, self.min, self.max)
        return codes.astype(np.int64), int(np.count_nonzero(codes != scaled))

    def to_real(self, codes: Any) -> np.ndarray:
        """The real numbers that codes stand for, as float64."""
        return np.asarray(codes, dtype=np.float64) * self.ulp


@dataclass(frozen=True)
class SQ(Format):
    """Signed format, two's complement, the sign bit counted in ``i``."""

    signed = True
    __str__ = Format.__str__


@dataclass(frozen=True)
class UQ(Format):
    """Unsigned format."""

    __str__ = Format.__str__


def round_saturate(codes: np.ndarray, f: int, to: Format) -> tuple[np.ndarray, int]:
    """Round codes with ``f`` fraction bits to nearest even in the format ``to``, and saturate.

    Parameters
    ----------
    codes : array, integer or float64
        float64 must hold integers below 2**53.
    f : int
        Fraction bits of ``codes``.
    to : Format
        Where the result must fit.

    Returns
    -------
    codes : array of the same type and shape
    saturated : int
        How many lay outside the format.
    """
    drop = f - to.f
    if codes.dtype == np.float64:
        # Scaling by a power of two is exact, and rint rounds ties to even.
        rounded = np.rint(codes * 2.0**-drop)
    elif drop <= 0:
        rounded = codes << -drop
    else:
        # Adding half an ulp less one, plus the bit that stays lowest, carries exactly when
        # the dropped part is above a half, or is a half and the kept part is odd.
        rounded = codes + ((1 << drop - 1) - 1) + (codes >> drop & 1) >> drop
    result = np.clip(rounded, to.min, to.max)
    return result, int(np.count_nonzero(result != rounded))


def signed_width(low: int, high: int) -> int:
    """Bits of the narrowest two's complement integer that holds both ``low`` and ``high``."""
    return 1 + max((high if high >= 0 else ~high).bit_length(),
                   (low if low >= 0 else ~low).bit_length())
