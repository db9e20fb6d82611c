"""Softmax in integers: powers of two of the logits, their sum, and one reciprocal of it.

The dense layer before has log2(e) in its weights, so that its sums count powers of two. With their
codes ``z``, ``F`` fraction bits in them (at least 0) and ``y`` in ``SQ(2, f)``, everything below is
an exact integer, ``//`` rounds down, and ``max`` is over the O codes of a step::

    d   = max z - z
    q,r = divmod(d, 2**F)                    e**(z - max) = 2**-q 2**(-r / 2**F)
    h,l = divmod(r, 2**(F - A))              A = min(F, 6), one of 2**A segments
    K_h = round(2**(n - h / 2**A))           n = f + min(3 + ceil(log2 O), 8)
    p   = K_h - (K_h - K_(h+1)) l // 2**(F - A)
    e   = p // 2**q
    S   = sum of e                           2**n <= S <= O 2**n
    R   = round(2**(n + f + 1) / S)          a half upwards
    w   = round(e / 2**(n - f - 1))          likewise
    y   = round(w R / 2**(f + 2))            likewise

No step can overflow or fall where ``z`` rises: a larger code never has a smaller output, the
largest has the largest, and far above all others it has exactly 1. An output is less than
:attr:`Softmax.error` off.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from golden.fixed import SQ

__all__ = ["Softmax"]

# Segments, a power of two: the line in each is 1.5e-5 of the power off at most.
SEGMENT_BITS = 6
CHORD = np.log(2) ** 2 / 8 / 4.0**SEGMENT_BITS

# Fraction bits of the powers beyond the output's, at most: so a segment's height has no more bits
# than an output, and fits in a multiplier that these fit in.
MOST_GUARD = 8


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """The softmax of the codes of a step.

    Parameters
    ----------
    x : SQ
        Format of the logits times log2(e).
    inputs : int
        O, logits of a step.
    y : SQ
        Format of the outputs, ``SQ(2, f)``: 1 is among them.

    Raises
    ------
    ValueError
        If the outputs have another format, or no fraction.

    Attributes
    ----------
    outputs : int
        As many.
    fraction : int
        F.
    segment_bits : int
        A.
    fine : int
        n, fraction bits of a power.
    scale : int
        ``f + 1``, fraction bits of w, and of R but for S.
    knots : tuple of int
        K, at both ends of each segment.
    error : float
        Bound of what an output is off, in its ulp: a half for its own rounding, a quarter each for
        those of R and of w, and what powers that are one and a half units off make, and the chords.
    """

    x: SQ
    inputs: int
    y: SQ

    def __post_init__(self) -> None:
        if self.y.i != 2 or self.y.f < 1:
            raise ValueError(f"the outputs of a softmax must be in SQ(2, f), not {self.y}")
        if self.inputs < 1:
            raise ValueError(f"a softmax must have at least one input, not {self.inputs}")

    @property
    def outputs(self) -> int:
        return self.inputs

    @property
    def fraction(self) -> int:
        return max(self.x.f, 0)

    @property
    def segment_bits(self) -> int:
        return min(self.fraction, SEGMENT_BITS)

    @property
    def within_bits(self) -> int:
        """Bits of the place within a segment."""
        return self.fraction - self.segment_bits

    @property
    def fine(self) -> int:
        return self.y.f + min(3 + (self.inputs - 1).bit_length(), MOST_GUARD)

    @property
    def scale(self) -> int:
        return self.y.f + 1

    @cached_property
    def knots(self) -> tuple[int, ...]:
        segments = 1 << self.segment_bits
        places = np.arange(segments + 1) / segments
        return tuple(np.rint(2.0 ** (self.fine - places)).astype(int).tolist())

    @property
    def error(self) -> float:
        chord = CHORD / 4 / self.y.ulp if self.within_bits else 0.0
        return 1.0 + 1.5 * (1 + self.inputs) / 2.0 ** (self.fine - self.y.f) + chord

    def powers(self, below: np.ndarray) -> np.ndarray:
        """e for the distances d, int64 of any shape."""
        below = below << max(-self.x.f, 0)
        whole, part = below >> self.fraction, below & (1 << self.fraction) - 1
        at, within = part >> self.within_bits, part & (1 << self.within_bits) - 1
        knots = np.array(self.knots)
        line = knots[at] - ((knots[at] - knots[at + 1]) * within >> self.within_bits)
        return np.asarray(line >> np.minimum(whole, self.fine + 1))

    def evaluate(self, codes: np.ndarray) -> np.ndarray:
        """Outputs, int64 O x B, from int64 codes of the same shape."""
        powers = self.powers(codes.max(axis=0) - codes)
        reciprocal = ((1 << self.fine + self.scale + 1) // powers.sum(axis=0) + 1) >> 1
        drop = self.fine - self.scale
        weights = powers + (1 << drop - 1) >> drop
        return np.asarray(weights * reciprocal + (1 << self.y.f + 1) >> self.y.f + 2)
