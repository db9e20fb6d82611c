"""The range of a tensor's values, and the formats that hold it."""

from dataclasses import dataclass
from itertools import count

import numpy as np

from golden.fixed import SQ, Format

__all__ = ["FARTHEST", "Range"]

FARTHEST = 2.0**200
"""The largest magnitude that has a format: powers of two farther out, multiplied, leave float64."""


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
        # 2**(i - 1) is at most the peak: fewer integer bits cannot do. What is smaller than any
        # number that has a format is large is as good as zero.
        i = int(np.frexp(peak)[1]) if peak > 1 / FARTHEST else 1
        return next(to for to in (SQ(n, bits - n) for n in count(i)) if wide.fits(to))

    def of_fraction(self, f: int) -> SQ:
        """The narrowest signed format with ``f`` fraction bits, at least two bits wide."""
        return next(to for to in (SQ(n, f) for n in count(2 - f)) if self.fits(to))
