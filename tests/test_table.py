"""The table unit equals golden on every input code, one result a cycle, at the stated latency."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.activation import (
    function_table,
    hard_sigmoid_table,
    hard_tanh_table,
    sigmoid_table,
)
from golden.fixed import SQ, UQ
from golden.table import Reading, Table
from hdl.table import STAGES, TableUnit
from tests.every_code import every_code
from tests.primitives import ECP5, MODELS, pipelined


def shared(i: int, f: int, gate: int, tanh: int, **options: object) -> Callable[[], Table]:
    return lambda: sigmoid_table(z=SQ(i, f), gate=UQ(1, gate), tanh=SQ(2, tanh),
                                 **options)


def made_by_hand(degree: int, guard: int) -> Table:
    """Not what a search would find: steep, bent, with ties, and with no constant block."""
    knots = np.array([0, 9, 9, 40, 62, 63])
    bent = np.array([8, 0, 16, 4, 0]) * (degree - 1)
    return Table(argument=SQ(3, 3), fraction=3 + guard, block_bits=3, splits=(1, 0, 0, 0),
                 knots=knots, curvatures=bent, curvature_shift=2 * (degree - 1),
                 bend_bits=2 * (degree - 1),
                 readings=(Reading(name="one", result=SQ(5, 3), centre=-3),
                           Reading(name="two", result=SQ(7, 1), shift=2, centre=2)))


def no_place() -> Table:
    """Of degree 2 by its parameters, but with no room to bend."""
    return Table(argument=SQ(2, 2), fraction=5, block_bits=1, splits=(1, 1, 1, 1),
                 knots=np.array([0, 5, 9, 10, 20, 28, 30, 31, 40]),
                 curvatures=np.array([4, 0, 0, 8, 8, 0, 0, 4]), curvature_shift=2, bend_bits=2,
                 readings=(Reading(name="one", result=SQ(3, 3)),))


def many_segments(seed: int) -> Table:
    """The split has four bits, of which a place takes two in one cycle."""
    rng = np.random.default_rng(seed)
    knots = np.cumsum(rng.integers(0, 40, 258))
    knots[-1] = knots[-2]
    return Table(argument=SQ(2, 10), fraction=14, block_bits=10, splits=(8,), knots=knots,
                 curvatures=np.zeros(257, dtype=np.int64),
                 readings=(Reading(name="many", result=SQ(2, 12)),))



# Every code of each is tried, in every reading.
TABLES: dict[str, Callable[[], Table]] = {
    "4 bits": shared(3, 3, 3, 2),
    "4 bits, degree 2": shared(3, 3, 3, 2, degree=2),
    "8 bits": shared(4, 8, 8, 8),
    "8 bits, degree 2": shared(4, 8, 8, 8, degree=2),
    "8 bits, nearly correct": shared(4, 8, 8, 8, bound=0.51),
    "a knot for each code": shared(4, 8, 8, 8, splits=(8,)),
    "256 segments to a block": lambda: many_segments(3),
    "8-bit words": shared(4, 7, 7, 6),
    "tanh much coarser": shared(5, 5, 9, 5),
    "a segment for each code": shared(5, 1, 9, 8),
    "8 bits, small decoder": shared(4, 8, 8, 8, splits=(0, 2)),
    "wide argument": shared(7, 5, 8, 7),
    "degree 2, a segment for each code": lambda: function_table(
        np.tanh, argument=SQ(3, 0), result=SQ(2, 12), degree=2),
    "by hand, a segment for each code": lambda: no_place(),
    "hard sigmoid": lambda: hard_sigmoid_table(z=SQ(4, 8), gate=UQ(1, 8)),
    "hard sigmoid, a sixth": lambda: hard_sigmoid_table(z=SQ(4, 8), gate=UQ(1, 7), alpha=1 / 6),
    "hard tanh": lambda: hard_tanh_table(argument=SQ(3, 7), result=SQ(2, 7)),
    "softsign": lambda: function_table(lambda x: x / (1 + np.abs(x)), argument=SQ(5, 6),
                                       result=SQ(2, 8), name="softsign"),
    "constant": lambda: function_table(lambda x: 0 * x + 1, argument=SQ(3, 3), result=SQ(3, 5)),
    "straight": lambda: function_table(lambda x: x, argument=SQ(2, 5), result=SQ(3, 5)),
    "by hand": lambda: made_by_hand(1, 2),
    "by hand, degree 2": lambda: made_by_hand(2, 2),
    "by hand, no guard to spare": lambda: made_by_hand(2, 1),
}


def evaluate(unit: TableUnit, arguments: Sequence[tuple[int, int]]) -> list[int]:
    """Present an argument and a reading each cycle; return the results, one each cycle."""
    outputs = [getattr(unit, reading.name) for reading in unit.table.readings]

    def put(ctx, n):
        ctx.set(unit.z, arguments[n][0])
        ctx.set(unit.reading, arguments[n][1])

    return pipelined(unit, len(arguments), put, lambda ctx, n: ctx.get(outputs[arguments[n][1]]))


def codes_of(table: Table) -> np.ndarray:
    return np.arange(table.argument.min, table.argument.max + 1)


# The deeper ones: with and without a place, of both degrees, and with a long split.
DEEPER = ("4 bits", "4 bits, degree 2", "256 segments to a block", "by hand, degree 2",
          "by hand, a segment for each code", "constant")


@pytest.mark.parametrize(("name", "stages"), [
    *((name, 5) for name in TABLES),
    *((name, stages) for name in DEEPER for stages in STAGES[1:])])
def test_every_code(name: str, stages: int) -> None:
    """All codes of all readings, next to each other and mixed."""
    table = TABLES[name]()
    rng = np.random.default_rng(5)
    codes = np.tile(codes_of(table), len(table.readings))
    readings = np.repeat(np.arange(len(table.readings)), len(codes_of(table)))
    mixed = rng.permutation(len(codes))[:2000]
    codes, readings = np.r_[codes, codes[mixed]], np.r_[readings, readings[mixed]]
    expected = np.choose(readings, [table.evaluate(codes, n) for n in range(len(table.readings))])
    seen = evaluate(TableUnit(table, stages=stages),
                    list(zip(codes.tolist(), readings.tolist(), strict=True)))
    assert seen == expected.tolist()


# The widest are too many codes for Amaranth's simulator: Verilator runs them.
WIDE: dict[str, Callable[[], Table]] = {
    "12 bits": shared(5, 12, 12, 12),
    "12 bits, small decoder": shared(5, 12, 12, 12, splits=(2, 4), slope_bits=9),
    "16-bit words, as in an engine": shared(5, 15, 15, 14),
    "16 bits": shared(5, 16, 16, 16),
    "16 bits, degree 2": shared(5, 16, 16, 16, degree=2),
}


def check_every_code(units: list[TableUnit], folder: Path, **options: Any) -> None:
    """All results of units of one table are golden's."""
    table = units[0].table
    expected = [table.evaluate(codes_of(table), n) for n in range(len(table.readings))]
    for unit, seen in zip(units, every_code(units, folder, **options), strict=True):
        assert np.array_equal(seen, expected), unit.stages


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDE)
def test_every_code_of_wide_ones(name: str, tmp_path: Path) -> None:
    table = WIDE[name]()
    check_every_code([TableUnit(table, stages=stages) for stages in STAGES], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("degree", [1, 2])
def test_ecp5(degree: int, tmp_path: Path) -> None:
    """With the device's multipliers and block RAM, as their models have them: the same bits."""
    table = shared(4, 8, 8, 8, degree=degree)()
    check_every_code([TableUnit(table, stages=stages, style=style)
                      for stages in STAGES for style in ("block", "logic")], tmp_path,
                     platform=ECP5, models=[MODELS])
    text = (tmp_path / "top.v").read_text()
    # Those in logic take no block RAM.
    assert (text.count("MULT18X18D"), text.count("DP16KD")) == (
        2 * len(STAGES) * degree, len(STAGES))


@pytest.mark.parametrize("stages", STAGES)
def test_latency(stages: int) -> None:
    assert TableUnit(TABLES["8 bits"](), stages=stages).latency == stages
    assert TableUnit(TABLES["8 bits, degree 2"](), stages=stages).latency == stages + 2


def test_attributes() -> None:
    table = TABLES["8 bits"]()
    unit = TableUnit(table, style="logic", stages=7)
    assert (unit.table, unit.style, unit.stages) == (table, "logic", 7)
    assert (TableUnit(table).style, TableUnit(table).stages) == ("block", 5)
    # An output for each reading, signed: a gate of exactly 1 needs a bit more than its fraction.
    assert (len(unit.z), len(unit.sigmoid), len(unit.tanh)) == (12, 10, 10)


@pytest.mark.parametrize("name", ["z", "reading", "latency", "signature", "_table"])
def test_taken_name(name: str) -> None:
    table = function_table(lambda x: x, argument=SQ(2, 5), result=SQ(3, 5), name=name)
    with pytest.raises(ValueError, match=f"^table reading must not be called '{name}', as another "
                                         "port or attribute of the unit may be$"):
        TableUnit(table)


def test_no_such_style() -> None:
    with pytest.raises(ValueError, match=r"^table style must be one of block, logic, not 'flash'$"):
        TableUnit(TABLES["8-bit words"](), style="flash")


@pytest.mark.parametrize("stages", [4, 9])
def test_no_such_stages(stages: int) -> None:
    with pytest.raises(ValueError, match=f"^table stages must be one of 5, 6, 7, 8, not {stages}$"):
        TableUnit(TABLES["8-bit words"](), stages=stages)


def test_logic() -> None:
    """The same results whatever the knots are kept in."""
    table = TABLES["8-bit words"]()
    codes = codes_of(table)
    seen = evaluate(TableUnit(table, style="logic"), [(code, 1) for code in codes.tolist()])
    assert seen == table.evaluate(codes, 1).tolist()
