"""The search for the smallest table that keeps to an error bound on every input code.

With rounding and symmetry taken in, the bound says for each magnitude of an argument's code in
which interval the table's exact value must lie (:class:`_Limits`). Coefficients are integers from
the start, so nothing is lost by quantising them afterwards: the search walks the blocks from 0 on
and keeps, for every value that the knot at hand may have, the fewest segments that lead there (a
shortest path). From one knot to the next, a linear segment allows an interval of slopes, which
follows exactly from the limits; a quadratic one asks whether there is a curvature that will do.

A segment is monotone, so its limits count only where they step: a lower one where it rises, an
upper one just before. And of these only the corners of their convex hull can be touched first.

Tried are several widths of the blocks and finenesses of the knots; the smallest table is kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from golden.fixed import SQ
from golden.table import Reading, Table

__all__ = ["TOLERANCE", "search_table"]

# Bits of a block number: each is an input of the decoder that finds the segment.
BLOCK_NUMBER_BITS = (3, 4, 5, 6)

# A place within a segment reaches 1.0, so it has one bit more: 18, as device multipliers do.
PLACE_BITS = 17

# Knots are tried with up to this many bits below an ulp of the finest reading.
MOST_GUARD_BITS = 10

# How many values of a knot are tried in a quadratic table: its curvature takes up what they leave.
QUADRATIC_KNOTS = 3

# The steps of a curvature, in an ulp of the finest reading as a power of two. In the middle of a
# segment, where it counts most, a quarter of it is felt.
CURVATURE_STEPS = (0, 1, 2)

# How many ways of cutting a block are kept: seldom ones come first, but later blocks must not be
# cut more often.
SPLITS = 3

# What cutting t may move a quadratic table, in half ulp of the finest reading.
CUT_MARGIN = 0.25

# At what distance of codes a second difference is taken.
STRIDE = 16

# More than any code and any difference of codes.
NEVER = 1 << 40

# A bound is kept to this part of an ulp, far above the rounding error of the float64 function.
TOLERANCE = 2.0**-20


def _ceil_div(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    return -(-a // b)


def _corners(at: np.ndarray, value: np.ndarray, cell_bits: int, bend: float) -> np.ndarray:
    """Which points may be touched first by a curve that comes down on those of any union of cells.

    A point well enough below the line through its two neighbours cannot: on or below it for
    straight lines, and by what a curve can bend, ``bend`` in a code squared, for others. Only every
    other point is struck out at a time, so that the neighbours stay.
    """
    kept = np.arange(len(at))
    unchanged = 0
    parity = 1
    while unchanged < 2 and len(kept) > 2:
        middle = np.arange(parity, len(kept) - 1, 2)
        before, here, after = kept[middle - 1], kept[middle], kept[middle + 1]
        span = (at[after] - at[before]).astype(np.float64)
        margin = bend and CUT_MARGIN + bend * span**2
        below = ((value[here] - value[before] + margin) * span
                 <= (value[after] - value[before]) * (at[here] - at[before]))
        below &= at[before] >> cell_bits == at[after] >> cell_bits
        kept = np.delete(kept, middle[below])
        unchanged = 0 if below.any() else unchanged + 1
        parity = 3 - parity
    return kept


@dataclass(frozen=True)
class _Limits:
    """Where the exact rise may lie at each magnitude, ``low <= y < high``.

    In units of half an ulp of the finest reading.
    """

    low: np.ndarray
    high: np.ndarray
    finest: int

    @classmethod
    def of(cls, rise: np.ndarray, readings: Sequence[Reading], bound: float | None) -> "_Limits":
        finest = max(reading.fraction for reading in readings)
        lows, highs = [], []
        for reading in readings:
            value = np.ldexp(rise, reading.fraction)
            if bound is None:
                low, high = np.floor(value + TOLERANCE), np.ceil(value - TOLERANCE)
            else:
                low, high = np.ceil(value - bound - TOLERANCE), np.floor(value + bound + TOLERANCE)
            # What rounds to a code lies from half an ulp below it to half an ulp above.
            lows.append(np.ldexp(2 * low - 1, finest - reading.fraction))
            highs.append(np.ldexp(2 * high + 1, finest - reading.fraction))
        return cls(np.max(lows, axis=0).astype(np.int64), np.min(highs, axis=0).astype(np.int64),
                   finest)

    def corners(self, cell_bits: int, bend: float) -> tuple[np.ndarray, np.ndarray]:
        """The codes at which a lower and at which an upper limit may count."""
        rising = np.flatnonzero(np.diff(self.low) > 0) + 1
        ending = np.flatnonzero(np.diff(self.high) > 0)
        return (rising[_corners(rising, self.low[rising], cell_bits, bend)],
                ending[_corners(ending, -self.high[ending], cell_bits, bend)])

    def kept_by(self, table: Table) -> bool:
        """Whether a table keeps to the limits at every code."""
        y = table.rise(np.arange(len(self.low)))
        below = table.fraction + table.place_bits - self.finest - 1
        return bool((y >= self.low << below).all() and (y < self.high << below).all())

    @cached_property
    def constant(self) -> int:
        """The first code from which on one value satisfies all limits."""
        low, high = (np.maximum.accumulate(self.low[::-1])[::-1],
                     np.minimum.accumulate(self.high[::-1])[::-1])
        return int(np.argmax(low < high))


@dataclass(frozen=True)
class _Way:
    """The ways to one knot: for each value it may have, the one of fewest segments.

    At the end of a block also for each split that the block may have.
    """

    values: np.ndarray
    cost: np.ndarray
    origins: "tuple[tuple[_Way, int], ...]" = ()
    splits: np.ndarray | None = None

    def cut_at_least(self, split: int) -> "_Way | None":
        """Those whose last block may be followed by one of this split: it has no more segments."""
        if self.splits is None:
            return self
        chosen = np.flatnonzero(self.splits >= split)
        if not len(chosen):
            return None
        return _Way(self.values[chosen], self.cost[chosen],
                    tuple(self.origins[n] for n in chosen), self.splits[chosen])

    def path(self, choice: int) -> tuple[list[int], list[int]]:
        """The knots and the splits of one of the ways."""
        way, knots, splits = self, [], []
        while True:
            knots.append(int(way.values[choice]))
            if way.splits is not None:
                splits.append(int(way.splits[choice]))
            if not way.origins:
                return knots[::-1], splits[::-1]
            way, choice = way.origins[choice]


@dataclass(frozen=True, kw_only=True)
class _Search:
    """One search, with the fineness of the knots and the blocks given.

    ``guard`` counts the knots' bits below the ulp of the finest reading, ``cell_bits`` is the
    narrowest segment for which ``corners`` hold.
    """

    limits: _Limits
    rise: np.ndarray
    corners: tuple[np.ndarray, np.ndarray]
    cell_bits: int
    magnitude_bits: int
    guard: int
    block_bits: int
    degree: int
    slope_bits: int
    curvature_shift: int
    splits: tuple[int, ...] | None

    @property
    def fraction(self) -> int:
        return self.limits.finest + self.guard

    @property
    def bend_bits(self) -> int:
        # Cutting t leaves steps of c * 2**-bits: small against an ulp for any c that occurs.
        return max(3, self.limits.finest - 4) if self.degree == 2 else 0

    @cached_property
    def low(self) -> np.ndarray:
        return self.limits.low << self.guard - 1

    @cached_property
    def high(self) -> np.ndarray:
        return self.limits.high << self.guard - 1

    @cached_property
    def blocks(self) -> int:
        """How many blocks are not constant."""
        return -(-self.limits.constant >> self.block_bits)

    @cached_property
    def most(self) -> int:
        """The largest knot of the bits that the last one needs at least."""
        return (1 << int(self.low.max()).bit_length()) - 1

    def window(self, code: int) -> np.ndarray:
        """The values that the knot at a code may have."""
        low, high = int(self.low[code]), int(self.high[code])
        if code == self.blocks << self.block_bits:
            low, high = int(self.low[code:].max()), int(self.high[code:].min())
        values = np.arange(max(low, 0), min(high - 1, self.most) + 1)
        if self.degree == 2:
            near = np.argsort(np.abs(values - self.ideal(code)), kind="stable")
            values = np.sort(values[near[:QUADRATIC_KNOTS]])
        return values

    def ideal(self, code: int) -> float:
        return float(np.ldexp(self.rise[code], self.fraction))

    def steps(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The places strictly within a segment at which its limits count, and the limits."""
        for corners, limit in zip(self.corners, (self.low, self.high), strict=True):
            at = corners[slice(*np.searchsorted(corners, [start + 1, stop]))]
            yield at - start, limit[at]

    def curvatures(self, left: np.ndarray, right: np.ndarray, start: int, stop: int
                   ) -> tuple[np.ndarray, np.ndarray]:
        """The least and the most stored curvature for each pair of knots of a segment.

        The least is above the most where none will do. In a table of degree 1 the only
        curvature is 0.
        """
        (low_at, low), (high_at, high) = self.steps(start, stop)
        width = stop - start
        # The slopes, as seen from the right knot, that its values and the limits allow.
        most = (right[:, None] - low) * width // (width - low_at)
        least = (right[:, None] - high) * width // (width - high_at) + 1
        chord = right - left[:, None]
        fits = (chord >= 0) & (chord < 1 << self.slope_bits)
        if self.degree == 1:
            fits &= (chord <= most.min(1, initial=NEVER)) & (chord >= least.max(1, initial=-NEVER))
            return np.where(fits, 0, 1), np.zeros_like(chord)
        bits = self.bend_bits
        low_c, high_c = np.where(fits, 0, NEVER), chord.copy()
        # floor(c t) is taken from the chord, where t counts in 2**-bits.
        for row, one in enumerate(chord):
            t = (low_at << bits) // width
            excess = one[:, None] - most
            need = np.where(t > 0, _ceil_div(excess << bits, np.maximum(t, 1)),
                            np.where(excess > 0, NEVER, 0))
            low_c[row] = np.maximum(low_c[row], need.max(1, initial=0))
            t = (high_at << bits) // width
            excess = one[:, None] - least + 1
            allowed = np.where(t > 0, _ceil_div(excess << bits, np.maximum(t, 1)) - 1,
                               np.where(excess > 0, NEVER, -1))
            high_c[row] = np.minimum(high_c[row], allowed.min(1, initial=NEVER))
        step = 1 << self.curvature_shift
        return _ceil_div(low_c, step), high_c // step

    def segment(self, way: _Way, start: int, stop: int) -> _Way | None:
        """Go one segment further."""
        values = self.window(stop)
        if not len(values):
            return None
        least, most = self.curvatures(way.values, values, start, stop)
        cost = np.where(least <= most, way.cost[:, None], np.inf)
        origin = cost.argmin(0)
        # Of ways with as many segments, the one with the knots nearest to the function.
        cost = cost.min(0) + 1 + np.abs(values - self.ideal(stop)) * 2.0**-(self.guard + 20)
        reached = np.flatnonzero(np.isfinite(cost))
        if not len(reached):
            return None
        return _Way(values[reached], cost[reached], tuple((way, int(origin[n])) for n in reached))

    def block(self, way: _Way, number: int) -> _Way | None:
        """Go one block further: cut as seldom as possible, and more often too."""
        ends: list[_Way] = []
        splits: list[int] = []
        for split in range(max(0, self.block_bits - PLACE_BITS),
                           self.block_bits - self.cell_bits + 1):
            if self.splits is not None and split not in self.splits:
                continue
            end = way.cut_at_least(split)
            width = 1 << self.block_bits - split
            for start in range(number << self.block_bits, number + 1 << self.block_bits, width):
                if end is not None:
                    end = self.segment(end, start, start + width)
            if end is not None:
                ends.append(end)
                splits += [split] * len(end.values)
            if len(ends) == SPLITS:
                break
        if not ends:
            return None
        return _Way(np.concatenate([end.values for end in ends]),
                    np.concatenate([end.cost for end in ends]),
                    tuple(origin for end in ends for origin in end.origins), np.array(splits))

    def table(self, argument: SQ, readings: Sequence[Reading]) -> Table | None:
        """The smallest table of this kind, or None."""
        first = self.window(0)
        way: _Way | None = _Way(first, np.abs(first - self.ideal(0)) * 2.0**-(self.guard + 20))
        for number in range(self.blocks):
            way = way and self.block(way, number)
        if way is None:
            return None
        path, splits = way.path(int(way.cost.argmin()))
        knots = np.array(path)
        curvatures: list[int] = []
        stop = 0
        for number, split in enumerate(splits):
            width = 1 << self.block_bits - split
            for start in range(number << self.block_bits, number + 1 << self.block_bits, width):
                stop = start + width
                left = len(curvatures)
                least, most = self.curvatures(knots[left:left + 1], knots[left + 1:left + 2],
                                              start, stop)
                curvatures.append(int(least[0, 0] + most[0, 0]) // 2)
        if stop < 1 << self.magnitude_bits:
            knots, curvatures = np.append(knots, knots[-1]), [*curvatures, 0]
        bent = any(curvatures) and min(splits) < self.block_bits
        if not bent:
            curvatures = [0] * len(curvatures)
        return Table(
            argument=argument, readings=tuple(readings), fraction=self.fraction,
            block_bits=self.block_bits, splits=tuple(splits), knots=knots,
            curvatures=np.array(curvatures) << self.curvature_shift,
            curvature_shift=self.curvature_shift if bent else 0,
            bend_bits=self.bend_bits if bent else 0)


def _smallest(limits: _Limits, rise: np.ndarray, argument: SQ, readings: Sequence[Reading], *,
              degree: int, splits: tuple[int, ...] | None, slope_bits: int) -> Table | None:
    """The smallest table of one degree."""
    magnitude_bits = argument.width - 1
    # Half the largest second derivative, which a segment's may exceed a little, in an ulp and code.
    bend = 0.0
    if degree == 2:
        bend = float(np.abs(np.diff(rise[::STRIDE], 2)).max(initial=0)
                     * 2.0**limits.finest / STRIDE**2)
    # Narrower segments than these are seldom needed; where they are, it is tried again.
    for cell_bits in sorted({max(0, magnitude_bits - limits.finest // 2 - less)
                             for less in (3, 6, magnitude_bits)}, reverse=True):
        corners = limits.corners(cell_bits, bend)
        best: Table | None = None
        for block_bits in sorted({max(0, magnitude_bits - n) for n in BLOCK_NUMBER_BITS}):
            if block_bits < cell_bits:
                continue
            for coarser in CURVATURE_STEPS if degree == 2 else (0,):
                last: Table | None = None
                for guard in range(1, MOST_GUARD_BITS + 1):
                    found = _Search(
                        limits=limits, rise=rise, corners=corners, cell_bits=cell_bits,
                        magnitude_bits=magnitude_bits, guard=guard, block_bits=block_bits,
                        degree=degree, slope_bits=slope_bits, splits=splits,
                        curvature_shift=guard + coarser if degree == 2 else 0,
                    ).table(argument, readings)
                    if found and last and found.bits >= last.bits:
                        break
                    last = found or last
                # Of equal ones that with the fewer blocks, which come later.
                if last and (best is None or last.bits <= best.bits):
                    best = last
        if best and limits.kept_by(best):
            return best
    return None


def search_table(rise: np.ndarray, argument: SQ, readings: Sequence[Reading], *,
                 bound: float | None = None, degree: int = 1,
                 splits: tuple[int, ...] | None = None, slope_bits: int = 18) -> Table:
    """Find the smallest table of a function.

    Deterministic. Takes a second or two at 16 fraction bits and a quarter of a minute at 20, of
    degree 2 about three times that; bounds near 0.5 ulp take longer.

    A linear table is the smallest of those whose blocks are cut as seldom as they can be, or once
    or twice more; a quadratic one may not be, for only a few values of each knot are tried.

    Parameters
    ----------
    rise : float64 array, ``2**(argument.width - 1) + 1``
        The exact function at each magnitude of an argument's code, less that at 0. Not falling.
    argument : SQ
    readings : sequence of Reading
    bound : float, optional
        The largest error in ulp of each reading, from 0.5 to less than 1, kept to ``TOLERANCE``;
        without it the table is faithful: every error is below 1 ulp.
    degree : 1 or 2
        The most it may have. A table of degree 2 can store far less and needs a second
        multiplier. It bends one way only, as the sigmoid does for positive arguments; where that
        saves nothing, the table found is of degree 1.
    splits : tuple of int, optional
        The only splits a block may have. Two of them, such as ``(2, 4)``, make the decoder small.
    slope_bits : int
        Width of the largest difference of neighbouring knots, and so of a multiplier's operand.

    Raises
    ------
    ValueError
        If an argument is not as said, or if there is no such table.
    """
    if bound is not None and not 0.5 <= bound < 1:
        raise ValueError(f"error bound must be from 0.5 to less than 1 ulp, not {bound}")
    if degree not in (1, 2):
        raise ValueError(f"degree must be 1 or 2, not {degree!r}")
    if splits is not None and not (isinstance(splits, tuple) and all(
            isinstance(split, int) and split >= 0 for split in splits)):
        raise ValueError(f"splits must be a tuple of non-negative integers, not {splits!r}")
    limits = _Limits.of(rise, readings, bound)
    found = [_smallest(limits, rise, argument, readings, degree=one, splits=splits,
                       slope_bits=slope_bits) for one in range(1, degree + 1)]
    tables = [table for table in found if table is not None]
    if tables:
        return min(tables, key=lambda table: table.bits)
    kept = "is faithful" if bound is None else f"keeps to {bound} ulp"
    only = "" if splits is None else f" and splits of {splits}"
    raise ValueError(f"no table of degree {degree} over {argument} with differences of "
                     f"{slope_bits} bits{only} {kept} in "
                     f"{' and '.join(str(one.result) for one in readings)}")
