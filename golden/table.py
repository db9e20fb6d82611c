"""A piecewise table of an increasing function, and what every bit of its results must be.

The function f has a centre of symmetry at 0, ``f(-x) = 2 f(0) - f(x)``, so only its *rise*
``f(x) - f(0)`` over x >= 0 is stored. Several functions can read one table: sigmoid and tanh do,
because ``tanh(x) = 2 (sigmoid(2 x) - 1/2)``.

**Segments.** The magnitude of an argument's code splits into a block number (its top bits) and the
rest. Each block is cut into a power of two of equal segments, as many as it needs; from some block
on the function is constant. Stored are the *knots*, the values at the ends of the segments, so the
table is continuous, and monotone because the knots are.

**Within a segment**, with ``a`` and ``b`` its knots, ``t`` from 0 to 1 the place in it and, in
tables of degree 2, ``c`` its curvature::

    y = b - (1 - t) (b - a - c t)

which is a straight line where c is 0. ``1 - t`` is exact; the ``t`` behind ``c`` is cut to a few
bits, and ``c t`` to the knots' fraction. As long as c is at most b - a, the last bracket is not
negative and never rises with t, so y is monotone whatever was cut.

**Rounding.** ``y`` is exact and rounded once, to nearest, a tie away from the centre; then the
sign of the argument is put in. So the symmetry holds to the bit.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from golden.fixed import SQ, Format

__all__ = ["Reading", "Table"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One function that a table gives: ``centre + 2**shift * rise``.

    Parameters
    ----------
    name : str
        An identifier: the hardware's output is called so.
    result : Format
        Format of the results.
    centre : int
        The function at 0, a code in ``result``.
    shift : int
        The argument's binary point lies ``shift`` places further left than the table's: the same
        integer means ``2**-shift`` of the argument, and the result rises ``2**shift`` times.

    Raises
    ------
    ValueError
        If the name is no identifier.
    """

    name: str
    result: Format
    centre: int = 0
    shift: int = 0

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name of a table's reading must be an identifier, "
                             f"not {self.name!r}")

    @property
    def fraction(self) -> int:
        """Fraction bits of the rise that an ulp of the result stands for."""
        return self.result.f + self.shift


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A piecewise linear or quadratic table; :mod:`golden.table_search` makes them.

    Parameters
    ----------
    argument : SQ
        Format of the argument of a reading without shift.
    readings : tuple of Reading
        The functions it gives.
    fraction : int
        Fraction bits of knots and curvatures; at least one more than any reading's.
    block_bits : int
        Bits of the magnitude below the block number.
    splits : tuple of int
        For each block, up to the constant one, how many bits below the block number number its
        segments. No larger than that of the block before.
    knots : int64 array, segments + 1
        The rise at the ends of the segments.
    curvatures : int64 array, segments
        All 0 in a table of degree 1.
    curvature_shift : int
        Curvatures are multiples of two to this power.
    bend_bits : int
        Bits to which the t behind the curvature is cut. 0 in a table of degree 1.

    Attributes
    ----------
    degree : int
        1 or 2.
    bits : int
        Size of the stored table.

    Raises
    ------
    ValueError
        If the parts do not fit together.
    """

    argument: SQ
    readings: tuple[Reading, ...]
    fraction: int
    block_bits: int
    splits: tuple[int, ...]
    knots: np.ndarray
    curvatures: np.ndarray
    curvature_shift: int = 0
    bend_bits: int = 0

    def __post_init__(self) -> None:
        grows = any(after > before for before, after in pairwise(self.splits))
        if grows or len(self.splits) > self.blocks or max(self.splits, default=0) > self.block_bits:
            raise ValueError(f"table splits must not grow, nor exceed its {self.blocks} blocks of "
                             f"{self.block_bits} bits, but are {self.splits}")
        need = sum(1 << split for split in self.splits) + (len(self.splits) < self.blocks)
        if len(self.knots) != need + 1 or len(self.curvatures) != need:
            raise ValueError(f"table of {need} segments must have {need + 1} knots and {need} "
                             f"curvatures, not {len(self.knots)} and {len(self.curvatures)}")
        names = [one.name for one in self.readings]
        if len({*names}) < len(names):
            raise ValueError(f"table readings must have different names, not {', '.join(names)}")
        finest = max(one.fraction for one in self.readings)
        if self.fraction <= finest:
            raise ValueError(f"table fraction must be more than its readings' {finest} bits, "
                             f"not {self.fraction}")

    @property
    def degree(self) -> int:
        # Where every segment is one code wide there is no room to bend.
        return 2 if self.bend_bits and self.place_bits else 1

    def argument_of(self, reading: int) -> SQ:
        """Format of a reading's argument."""
        shift = self.readings[reading].shift
        return SQ(self.argument.i - shift, self.argument.f + shift)

    @property
    def magnitude_bits(self) -> int:
        return self.argument.width - 1

    @property
    def blocks(self) -> int:
        return 1 << self.magnitude_bits - self.block_bits

    @property
    def segments(self) -> int:
        return len(self.knots) - 1

    @property
    def block_splits(self) -> tuple[int, ...]:
        """The split of every block. The constant ones are one segment, its place of no concern."""
        return (*self.splits, *[0] * (self.blocks - len(self.splits)))

    @cached_property
    def bases(self) -> tuple[int, ...]:
        """For each block the number of its first segment; all constant blocks share the last."""
        first = [0]
        for split in self.splits:
            first.append(first[-1] + (1 << split))
        return (*first[:-1], *[first[-1]] * (self.blocks - len(self.splits)))

    @property
    def place_bits(self) -> int:
        """Fraction bits of t."""
        return self.block_bits - min(self.splits, default=0)

    @property
    def knot_bits(self) -> int:
        """Width of a knot, unsigned."""
        return max(1, int(self.knots.max()).bit_length())

    @property
    def slope_bits(self) -> int:
        """Width of the largest difference of neighbouring knots, unsigned."""
        return max(1, int(np.diff(self.knots).max()).bit_length())

    @property
    def curvature_bits(self) -> int:
        """Width of a stored curvature, unsigned; 0 in a table of degree 1."""
        return (int(self.curvatures.max()) >> self.curvature_shift).bit_length()

    @property
    def bits(self) -> int:
        return len(self.knots) * self.knot_bits + self.segments * self.curvature_bits

    def rise(self, magnitude: np.ndarray) -> np.ndarray:
        """The exact rise, with ``fraction + place_bits`` fraction bits.

        Parameters
        ----------
        magnitude : int64 array
            From 0 to ``2**magnitude_bits``; the last one is the end of the last segment.
        """
        inside = np.minimum(magnitude, (1 << self.magnitude_bits) - 1)
        segment, width = self._segment(inside)
        place = (inside & (1 << width) - 1) + (magnitude - inside)
        place = place << self.block_bits - width >> self.block_bits - self.place_bits

        bend = self.curvatures[segment] * (place << self.bend_bits >> self.place_bits)
        left, right = self.knots[segment], self.knots[segment + 1]
        slope = right - left - (bend >> self.bend_bits)
        return (right << self.place_bits) - slope * ((1 << self.place_bits) - place)

    def _segment(self, magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number and width, in bits, of the segment that each magnitude is in."""
        block = magnitude >> self.block_bits
        width = self.block_bits - np.array(self.block_splits)[block]
        return (np.array(self.bases)[block] + ((magnitude & (1 << self.block_bits) - 1) >> width),
                width)

    def segment(self, codes: np.ndarray) -> np.ndarray:
        """Number of the segment in which the hardware looks each argument up.

        Of a negative one it inverts the bits, so where two segments meet, the lower is taken.
        """
        return self._segment(np.where(codes < 0, ~codes, codes))[0]

    def evaluate(self, codes: np.ndarray, reading: int = 0) -> np.ndarray:
        """Result codes of argument codes.

        Parameters
        ----------
        codes : int64 array
            Codes of ``argument.width`` bits, signed.
        reading : int
            Which of the readings.
        """
        one = self.readings[reading]
        below = self.fraction + self.place_bits - one.fraction
        magnitude = self.rise(np.abs(codes)) + (1 << below - 1) >> below
        return one.centre + np.where(codes < 0, -magnitude, magnitude)
