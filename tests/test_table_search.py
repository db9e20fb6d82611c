"""The search: as small as a table of its kind can be, deterministic, refusing what it cannot do."""

import re
from fractions import Fraction

import numpy as np
import pytest

from golden.activation import sigmoid_table
from golden.fixed import SQ, UQ
from golden.table import Reading, Table
from golden.table_search import search_table

# The made-up functions below are whole multiples of one ulp divided by this.
PARTS = 256

# Fraction bits of their results: so many that the search tries segments of one code from the start.
FRACTION = 8


def made_up(seed: int, magnitude_bits: int) -> np.ndarray:
    """A random increasing function, in ``1 / PARTS`` ulp, with a little noise on it.

    By the seed it is like a sigmoid, has corners and no constant end, or is a power with one.

    Returns
    -------
    int64 array, ``2**magnitude_bits + 1``
    """
    rng = np.random.default_rng(seed)
    codes = 1 << magnitude_bits
    x = np.arange(codes + 1) / codes
    ulps = rng.integers(8, 25)
    if seed % 3 == 0:
        y = 1 - np.exp(-x * rng.uniform(2, 6))
    elif seed % 3 == 1:
        corners, values = (np.sort(np.r_[0, rng.random(3), 1]) for _ in range(2))
        y = np.interp(x, corners, values)
    else:
        y = np.minimum(x * rng.uniform(1.5, 6), 1) ** rng.uniform(0.6, 1.6)
    increments = np.diff(y) * ulps * PARTS * rng.uniform(0.9, 1.1, codes)
    return np.concatenate([[0], np.cumsum(increments.astype(np.int64))])


class Enumeration:
    """Every table of degree 1 for a made-up function, of one width of blocks and one guard.

    That is: any number of blocks before the constant rest, any splits that never grow from block to
    block, any integer knots that do not fall. A table is valid where every code's rounded result
    is less than 1 ulp off; nothing is taken over from the search.

    Parameters
    ----------
    rise : int64 array
        As :func:`made_up` gives it.
    block_bits : int
        Bits of a code below the block number.
    guard : int
        Bits of the knots below an ulp.
    """

    def __init__(self, rise: np.ndarray, block_bits: int, guard: int) -> None:
        self.rise, self.block_bits, self.guard = rise, block_bits, guard
        self.blocks = len(rise) - 1 >> block_bits
        self.knots = np.arange(int(rise[-1]) // PARTS + 2 << guard)
        self.fits: dict[tuple[int, int], np.ndarray] = {}
        self.smallest: int | None = None
        self.go(0, block_bits, np.diag(self.fit(0, 0)).copy(), 0)

    def fit(self, start: int, width: int) -> np.ndarray:
        """Whether a segment of ``width`` codes is valid, for each left and each right knot."""
        if (start, width) not in self.fits:
            left, right = self.knots[:, None], self.knots[None, :]
            valid = left <= right
            unit = max(width, 1) << self.guard
            for place in range(width + 1):
                y = left * (max(width, 1) - place) + right * place
                error = (2 * y + unit) // (2 * unit) * PARTS - self.rise[start + place]
                valid &= np.abs(error) < PARTS
            self.fits[start, width] = valid
        return self.fits[start, width]

    def go(self, block: int, last: int, reached: np.ndarray, segments: int) -> None:
        """Close the table at a block, and go on with every split of it.

        ``reached`` says of each value whether the knot at hand may have it.
        """
        closed = reached.copy()
        if block < self.blocks:
            for code in range(block << self.block_bits, len(self.rise)):
                closed &= np.diag(self.fit(code, 0))
        if closed.any():
            count = segments + (block < self.blocks) + 1
            bits = count * max(1, int(closed.argmax()).bit_length())
            self.smallest = bits if self.smallest is None else min(bits, self.smallest)
        if block == self.blocks:
            return
        for split in range(last + 1):
            width = 1 << self.block_bits - split
            now = reached
            for start in range(block << self.block_bits, block + 1 << self.block_bits, width):
                now = (now[:, None] & self.fit(start, width)).any(0)
            if now.any():
                self.go(block + 1, split, now, segments + (1 << split))


def searched(rise: np.ndarray, magnitude_bits: int) -> Table:
    return search_table(rise / PARTS / 2**FRACTION, SQ(3, magnitude_bits - 2),
                        (Reading(name="made_up", result=SQ(8, FRACTION)),))


@pytest.mark.parametrize("magnitude_bits", [4, 5])
@pytest.mark.parametrize("seed", range(24))
def test_no_table_is_smaller(seed: int, magnitude_bits: int) -> None:
    """Against all tables of three and more bits of block number and of up to 3 guard bits."""
    rise = made_up(seed, magnitude_bits)
    every = [Enumeration(rise, block_bits, guard).smallest
             for block_bits in range(max(magnitude_bits - 2, 1)) for guard in range(1, 4)]
    assert searched(rise, magnitude_bits).bits == min(each for each in every if each is not None)


@pytest.mark.parametrize("seed", range(24, 60))
def test_made_up_functions_are_faithful(seed: int) -> None:
    rise = made_up(seed, 5)
    table = searched(rise, 5)
    codes = np.arange(32)
    assert np.abs(table.evaluate(codes) * PARTS - rise[codes]).max() < PARTS
    assert (table.evaluate(-codes) == -table.evaluate(codes)).all()
    assert (np.diff(table.evaluate(codes)) >= 0).all()


@pytest.mark.parametrize("options", [{}, {"degree": 2}, {"bound": 0.55}], ids=str)
def test_deterministic(options: dict[str, object]) -> None:
    search = sigmoid_table.__wrapped__
    one, two = (search(z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6), **options) for _ in range(2))
    assert one is not two
    for array in ("knots", "curvatures"):
        assert getattr(one, array).tolist() == getattr(two, array).tolist()
    for value in ("splits", "fraction", "block_bits", "curvature_shift", "bend_bits"):
        assert getattr(one, value) == getattr(two, value)


@pytest.mark.parametrize("corner", [37, 77, 102])
def test_splits_never_grow(corner: int) -> None:
    """A corner within a block has all blocks before it cut as often, though they are constant."""
    table = searched(np.maximum(np.arange(129) - corner, 0) * 3 * PARTS, 7)
    splits = np.array(table.splits)
    block = corner >> table.block_bits
    assert splits[block] > 0
    assert (splits[:block] >= splits[block]).all()
    assert (np.diff(splits) <= 0).all()
    assert (np.array(table.bases[:len(splits)]) % (1 << splits) == 0).all()


@pytest.mark.parametrize("degree", [1, 2])
def test_readings_with_centre_and_shift(degree: int) -> None:
    """Two readings of one rise, each less than 1 ulp off."""
    x = np.arange(129) / 16
    readings = (Reading(name="one", result=SQ(4, 7), centre=-100),
                Reading(name="two", result=SQ(5, 4), centre=9, shift=2))
    table = search_table(x / (1 + x), SQ(4, 4), readings, degree=degree)
    assert table.argument_of(1) == SQ(2, 6)
    codes = np.arange(-128, 128)
    for number, reading in enumerate(readings):
        for code, value in zip(codes, table.evaluate(codes, number).tolist(), strict=True):
            exact = Fraction(int(code), 16) / (1 + abs(Fraction(int(code), 16)))
            ulps = reading.centre + exact * 2**reading.shift * 2**reading.result.f
            assert abs(value - ulps) < 1


@pytest.mark.parametrize("splits", [(0,), (1,), (3,), (0, 2), (1, 4)], ids=str)
def test_splits_as_asked(splits: tuple[int, ...]) -> None:
    table = sigmoid_table(z=SQ(4, 7), gate=UQ(1, 5), tanh=SQ(2, 4), splits=splits)
    free = sigmoid_table(z=SQ(4, 7), gate=UQ(1, 5), tanh=SQ(2, 4))
    assert set(table.splits) <= set(splits)
    assert table.bits >= free.bits


@pytest.mark.parametrize("slope_bits", [5, 6, 7])
def test_slope_bits_as_asked(slope_bits: int) -> None:
    table = sigmoid_table(z=SQ(4, 8), gate=UQ(1, 8), tanh=SQ(2, 8), slope_bits=slope_bits)
    assert table.slope_bits <= slope_bits


RISE = np.minimum(np.arange(17) / 8, 1.0)
PLAIN = (Reading(name="one", result=SQ(2, 3)),)


@pytest.mark.parametrize(("options", "text"), [
    ({"bound": 0.49}, "error bound must be from 0.5 to less than 1 ulp, not 0.49"),
    ({"bound": 1.0}, "error bound must be from 0.5 to less than 1 ulp, not 1.0"),
    ({"bound": float("nan")}, "error bound must be from 0.5 to less than 1 ulp, not nan"),
    ({"splits": [2, 4]}, "splits must be a tuple of non-negative integers, not [2, 4]"),
    ({"splits": (2, -1)}, "splits must be a tuple of non-negative integers, not (2, -1)"),
    ({"splits": (2, 1.0)}, "splits must be a tuple of non-negative integers, not (2, 1.0)"),
    ({"degree": 0}, "degree must be 1 or 2, not 0"),
    ({"degree": 3}, "degree must be 1 or 2, not 3"),
    ({"degree": "2"}, "degree must be 1 or 2, not '2'"),
    ({"slope_bits": 0}, "no table of degree 1 over SQ(3, 2) with differences of 0 bits is faithful "
                        "in SQ(2, 3)"),
    ({"splits": (9,)}, "no table of degree 1 over SQ(3, 2) with differences of 18 bits and splits "
                       "of (9,) is faithful in SQ(2, 3)"),
    ({"slope_bits": 0, "bound": 0.5, "degree": 2},
     "no table of degree 2 over SQ(3, 2) with differences of 0 bits keeps to 0.5 ulp in SQ(2, 3)"),
], ids=str)
def test_refused(options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        search_table(RISE, SQ(3, 2), PLAIN, **options)  # type: ignore[arg-type]


def test_refused_for_several_readings() -> None:
    readings = (*PLAIN, Reading(name="two", result=SQ(3, 2), shift=1))
    text = ("no table of degree 1 over SQ(3, 2) with differences of 0 bits is faithful in SQ(2, 3) "
            "and SQ(3, 2)")
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        search_table(RISE, SQ(3, 2), readings, slope_bits=0)
