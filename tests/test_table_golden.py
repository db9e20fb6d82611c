"""A table's results against its definition in exact fractions, and its sizes."""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest

from golden.activation import function_table, sigmoid_table
from golden.fixed import SQ, UQ
from golden.table import Reading, Table


def by_hand(degree: int = 1, guard: int = 2, *, constant: bool = False) -> Table:
    """Not what a search would find: steep, uneven, with ties, and with two shifts and centres."""
    splits: tuple[int, ...] = (1, 0, 0, 0)
    knots, bent = [0, 9, 9, 40, 62, 63], [8, 0, 16, 4, 0]
    if constant:
        splits, knots, bent = (0, 0), [0, 20, 31, 31], [12, 8, 0]
    return Table(
        argument=SQ(3, 3), fraction=3 + guard, block_bits=3, splits=splits, knots=np.array(knots),
        curvatures=np.array(bent) * (degree - 1), curvature_shift=2 * (degree - 1),
        bend_bits=2 * (degree - 1),
        readings=(Reading(name="one", result=SQ(5, 3), centre=-3),
                  Reading(name="two", result=SQ(7, 1), shift=2, centre=2)))


def shared(i: int, f: int, gate: int, tanh: int, degree: int) -> Table:
    return sigmoid_table(z=SQ(i, f), gate=UQ(1, gate), tanh=SQ(2, tanh), degree=degree)


TABLES: dict[str, Callable[[], Table]] = {
    "by hand": by_hand,
    "by hand, least guard": lambda: by_hand(guard=1),
    "by hand, constant blocks": lambda: by_hand(constant=True),
    "by hand, degree 2": lambda: by_hand(2),
    "by hand, degree 2, least guard": lambda: by_hand(2, 1),
    "by hand, degree 2, constant blocks": lambda: by_hand(2, constant=True),
    "3 bits": lambda: shared(3, 2, 2, 1, 1),
    "8 bits": lambda: shared(4, 7, 7, 6, 1),
    "8 bits, degree 2": lambda: shared(4, 7, 7, 6, 2),
    "tanh coarser": lambda: shared(4, 5, 8, 4, 1),
    "all constant": lambda: function_table(lambda x: 0 * x + 1, argument=SQ(3, 3),
                                           result=SQ(3, 5)),
}


def segment_of(table: Table, magnitude: int) -> tuple[int, Fraction]:
    """The number of the segment that a magnitude lies in, and its place there, from 0 to 1.

    Counted from the first segment on, each as wide as its block says.
    """
    starts = [0]
    for block in range(table.blocks):
        last = block >= len(table.splits)
        cuts = 1 if last else 1 << table.splits[block]
        width = (1 << table.block_bits) // cuts
        for _ in range(cuts):
            stop = starts[-1] + width
            if magnitude < stop or stop == 1 << table.argument.width - 1:
                return (min(len(starts) - 1, table.segments - 1),
                        Fraction(magnitude - starts[-1], width))
            starts.append(stop)
    raise AssertionError(magnitude)


def defined(table: Table, code: int, reading: Reading) -> int:
    """The definition, word for word, with nothing but fractions."""
    segment, t = segment_of(table, abs(code))
    a, b = int(table.knots[segment]), int(table.knots[segment + 1])
    c = int(table.curvatures[segment])
    cut = Fraction(floor(t * 2**table.bend_bits), 2**table.bend_bits)
    y = b - (1 - t) * (b - a - floor(c * cut))
    ulps = y / 2 ** (table.fraction - reading.result.f - reading.shift)
    # To nearest, a tie away from the centre; then the sign.
    magnitude = floor(ulps + Fraction(1, 2))
    return reading.centre + (-magnitude if code < 0 else magnitude)


@pytest.mark.parametrize("name", TABLES)
def test_the_definition(name: str) -> None:
    """Every code, the most negative included, which is the end of the last segment."""
    table = TABLES[name]()
    codes = np.arange(table.argument.min, table.argument.max + 1)
    for number, reading in enumerate(table.readings):
        expected = [defined(table, code, reading) for code in codes.tolist()]
        assert table.evaluate(codes, number).tolist() == expected


@pytest.mark.parametrize("name", TABLES)
def test_the_exact_rise(name: str) -> None:
    """Not falling; the knots are met; the last magnitude is the last knot."""
    table = TABLES[name]()
    rise = table.rise(np.arange((1 << table.magnitude_bits) + 1))
    assert (np.diff(rise) >= 0).all()
    for magnitude, exact in enumerate(rise.tolist()):
        segment, t = segment_of(table, magnitude)
        if t == 0:
            assert exact == int(table.knots[segment]) << table.place_bits
    assert rise[-1] == int(table.knots[-1]) << table.place_bits


def test_a_tie_goes_away_from_the_centre() -> None:
    table = Table(argument=SQ(3, 0), fraction=1, block_bits=2, splits=(0,),
                  knots=np.array([0, 4]), curvatures=np.array([0]),
                  readings=(Reading(name="half", result=SQ(4, 0), centre=1),))
    # The rise is half a code's magnitude.
    assert table.evaluate(np.arange(-4, 4)).tolist() == [-1, -1, 0, 0, 1, 2, 2, 3]


def test_a_curve_by_hand() -> None:
    """One segment of four places with knots 0 and 16 and a curvature of 8, t cut to two bits."""
    table = Table(argument=SQ(3, 0), fraction=1, block_bits=2, splits=(0,),
                  knots=np.array([0, 16]), curvatures=np.array([8]), curvature_shift=3,
                  bend_bits=2, readings=(Reading(name="bent", result=SQ(6, 0)),))
    # 16 - (1 - t) (16 - 8 t) at t = 0, 1/4, 1/2, 3/4, 1, in quarters.
    assert table.rise(np.arange(5)).tolist() == [0, 22, 40, 54, 64]
    assert table.evaluate(np.arange(4)).tolist() == [0, 3, 5, 7]
    assert table.evaluate(np.array([-4, -1])).tolist() == [-8, -3]
    assert table.bits == 2 * 5 + 1


def test_sizes_of_degree_1() -> None:
    table = by_hand()
    assert table.degree == 1
    assert (table.magnitude_bits, table.blocks, table.segments) == (5, 4, 5)
    assert table.bases == (0, 2, 3, 4)
    assert (table.place_bits, table.knot_bits, table.slope_bits, table.curvature_bits) == (
        3, 6, 5, 0)
    assert table.bits == 6 * 6


def test_sizes_of_degree_2() -> None:
    table = by_hand(2, constant=True)
    assert table.degree == 2
    # Both constant blocks are the segment after the last of those that are not.
    assert (table.blocks, table.bases, table.segments) == (4, (0, 1, 2, 2), 3)
    # A curvature of 12 is stored as 3.
    assert (table.place_bits, table.knot_bits, table.slope_bits, table.curvature_bits) == (
        3, 5, 5, 2)
    assert table.bits == 4 * 5 + 3 * 2


def test_places_count_in_the_widest_segment() -> None:
    table = Table(argument=SQ(3, 3), fraction=4, block_bits=4, splits=(3, 1),
                  knots=np.arange(11), curvatures=np.zeros(10, dtype=np.int64),
                  readings=(Reading(name="one", result=SQ(3, 3)),))
    assert table.place_bits == 3
    assert table.bases == (0, 8)
    assert table.segments == 10


def test_sizes_of_a_constant() -> None:
    table = TABLES["all constant"]()
    assert (table.degree, table.segments, table.splits) == (1, 1, ())
    assert set(table.bases) == {0}
    assert len(table.bases) == table.blocks
    assert (table.knot_bits, table.slope_bits, table.curvature_bits, table.bits) == (1, 1, 0, 2)


def test_formats_of_the_arguments() -> None:
    table = by_hand()
    assert table.argument_of(0) == SQ(3, 3)
    assert table.argument_of(1) == SQ(1, 5)
    assert [reading.fraction for reading in table.readings] == [3, 3]


def test_any_shape_of_codes_and_none_is_changed() -> None:
    table = by_hand(2)
    codes = np.array([[-32, -5, 0], [5, 31, 1]])
    before = codes.copy()
    for reading in (0, 1):
        result = table.evaluate(codes, reading)
        assert result.shape == (2, 3)
        assert result.ravel().tolist() == table.evaluate(codes.ravel(), reading).tolist()
    assert (codes == before).all()
    assert table.evaluate(codes).tolist() == table.evaluate(codes, 0).tolist()


@pytest.mark.parametrize("name", ["", "two words", "a-b", "1st"])
def test_names_of_readings(name: str) -> None:
    text = f"name of a table's reading must be an identifier, not {name!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Reading(name=name, result=SQ(2, 3))


@pytest.mark.parametrize(("changed", "text"), [
    ({"splits": (0, 1, 0, 0)}, "table splits must not grow, nor exceed its 4 blocks of 3 bits, but "
                               "are (0, 1, 0, 0)"),
    ({"splits": (1, 0, 0, 0, 0)}, "table splits must not grow, nor exceed its 4 blocks of 3 bits, "
                                  "but are (1, 0, 0, 0, 0)"),
    ({"splits": (4, 0)}, "table splits must not grow, nor exceed its 4 blocks of 3 bits, but are "
                         "(4, 0)"),
    ({"splits": (1, 0)}, "table of 4 segments must have 5 knots and 4 curvatures, not 6 and 5"),
    ({"knots": np.arange(7)}, "table of 5 segments must have 6 knots and 5 curvatures, "
                              "not 7 and 5"),
    ({"curvatures": np.zeros(6)}, "table of 5 segments must have 6 knots and 5 curvatures, "
                                  "not 6 and 6"),
    ({"readings": (Reading(name="one", result=SQ(2, 3)),) * 2},
     "table readings must have different names, not one, one"),
    ({"fraction": 3}, "table fraction must be more than its readings' 3 bits, not 3"),
])
def test_wrong_parts(changed: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        replace(by_hand(), **changed)  # type: ignore[arg-type]
