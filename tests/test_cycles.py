import re
from itertools import pairwise, product

import pytest

from hdl.cycles import DenseFolding, DrainTiming, Folding, LSTMCycles, choose_dense_folding

INTERVALS = range(1, 41)


def uses(timing: DrainTiming) -> list[tuple[str, int]]:
    """Which unit a drained unit uses, and when, in all lanes' worth of detail."""
    shown = [(f"table {gate % timing.gate_tables}", timing.preactivation[gate])
             for gate in range(4)]
    shown.append(("table 0" if timing.shared_table else "table of tanh(c')", timing.state))
    shown.append(("multiplier 0", timing.forget_product))
    shown.append(("multiplier 0" if timing.shared_product else "multiplier 1",
                  timing.input_product))
    shown.append(("multiplier 0" if timing.shared_multiplier else "multiplier of o",
                  timing.squashed))
    return shown


@pytest.mark.parametrize("interval", INTERVALS)
def test_units_never_meet(interval: int) -> None:
    """Units at any distance from the interval on never use a table or multiplier together."""
    timing = DrainTiming(interval)
    mine = uses(timing)
    assert len(set(mine)) == len(mine)
    for distance in range(interval, interval + 100):
        assert not {(name, at + distance) for name, at in mine} & set(mine), distance
    assert timing.tables == len({name for name, _ in mine if name.startswith("table")})
    assert timing.state_multipliers == len({name for name, _ in mine if "multiplier" in name})


@pytest.mark.parametrize("interval", INTERVALS)
def test_order(interval: int) -> None:
    """Nothing is used before it is there."""
    timing = DrainTiming(interval)
    assert timing.forget_product >= timing.gate[1]
    assert timing.input_product >= max(timing.gate[0], timing.gate[2])
    assert timing.input_product < timing.state < timing.squashed < timing.hidden
    assert timing.squashed >= timing.gate[3]


def brute_force(inputs: int, hidden: int, folding: Folding, drain: int) -> int:
    """Cycles of a step, by waiting: step after step, each as early as its operands allow."""
    passes = -(-hidden // folding.units)
    words = -(-(inputs + hidden) // folding.columns)
    start, usable = [0], {}
    for _ in range(6):
        begin = start[-1]
        for unit in range(hidden):
            of_pass, within = divmod(unit, folding.units)
            last_column = begin + (of_pass + 1) * words - 1
            usable[unit] = last_column + drain + within // folding.lanes * folding.interval
        follow = begin + passes * words
        while any(follow + (inputs + unit) // folding.columns < usable[unit]
                  for unit in range(hidden)):
            follow += 1
        start.append(follow)
    distances = {b - a for a, b in pairwise(start)}
    assert len(distances) == 1
    return distances.pop()


@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (1, 20), (6, 20), (3, 7), (40, 4), (2, 31)])
def test_bubble(inputs: int, hidden: int) -> None:
    """The formula equals a schedule that waits for each operand."""
    tried = 0
    for units, columns in product(range(1, hidden + 1), range(1, inputs + hidden + 1, 3)):
        folding = Folding.choose(inputs, hidden, units=units, columns=columns)
        cycles = LSTMCycles(inputs=inputs, hidden=hidden, folding=folding)
        assert cycles.step == brute_force(inputs, hidden, folding, cycles.drain)
        assert sum(cycles.counts) == hidden
        assert len(cycles.counts) == cycles.passes * cycles.groups
        tried += 1
    assert tried >= 1


def test_four_multipliers() -> None:
    """The smallest engine: one row, everything in the drain shared."""
    folding = Folding.choose(1, 20, units=1, columns=1)
    cycles = LSTMCycles(inputs=1, hidden=20, folding=folding)
    assert folding.multipliers == 4
    assert cycles.passes * cycles.words == 420
    assert (cycles.timing.tables, cycles.timing.state_multipliers) == (1, 1)


def test_a_fast_drain_where_passes_are_short() -> None:
    folding = Folding.choose(1, 20, units=20, columns=4)
    assert folding == Folding(units=20, columns=4, lanes=4, interval=1)
    timing = DrainTiming(1)
    assert (timing.tables, timing.state_multipliers) == (5, 3)


@pytest.mark.parametrize(("values", "text"), [
    ({"units": 0, "columns": 1, "lanes": 1, "interval": 1},
     "folding units must be a positive integer, not 0"),
    ({"units": 1, "columns": 1.5, "lanes": 1, "interval": 1},
     "folding columns must be a positive integer, not 1.5"),
])
def test_wrong_folding(values: dict, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Folding(**values)


@pytest.mark.parametrize(("folding", "text"), [
    (Folding(units=5, columns=1, lanes=1, interval=1),
     "folding units must be at most the 4 hidden units, not 5"),
    (Folding(units=1, columns=7, lanes=1, interval=1),
     "folding columns must be at most the 6 columns of [x, h], not 7"),
    (Folding(units=2, columns=1, lanes=3, interval=1),
     "folding lanes must be at most the 2 units, not 3"),
    (Folding(units=4, columns=1, lanes=1, interval=2),
     "the drain must take at most the 6 cycles of a pass, not 4 units a lane at 2 cycles each"),
])
def test_folding_that_does_not_fit(folding: Folding, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        LSTMCycles(inputs=2, hidden=4, folding=folding)


@pytest.mark.parametrize(("outputs", "budget", "rows", "columns"), [
    (1, 20, 1, 1),      # exactly one column a cycle
    (1, 19, 1, 2),
    (3, 60, 1, 1),
    (3, 59, 1, 2),
    (4, 10, 4, 2),      # eight multipliers either way; the fewest rows come first
    (2, 1, 2, 20),      # all at once
])
def test_dense_folding(outputs: int, budget: int, rows: int, columns: int) -> None:
    folding = choose_dense_folding(20, outputs, budget)
    assert -(-outputs // folding.rows) * -(-20 // folding.columns) <= budget
    assert folding.rows * folding.columns == rows * columns
    smaller = [(r, c) for r in range(1, outputs + 1) for c in range(1, 21)
               if r * c < rows * columns and -(-outputs // r) * -(-20 // c) <= budget]
    assert not smaller
    assert isinstance(folding, DenseFolding)


@pytest.mark.parametrize(("interval", "cycles"), [
    (1, (3, 8, 12, 17, 20)), (2, (3, 9, 13, 18, 21)), (3, (3, 9, 13, 18, 21)),
    (4, (3, 10, 14, 19, 22)), (11, (3, 10, 14, 19, 22)), (12, (3, 10, 14, 19, 22))])
def test_stages_as_documented(interval: int, cycles: tuple[int, ...]) -> None:
    """The table in docs/machine.md."""
    timing = DrainTiming(interval)
    assert (timing.preactivation[0], timing.input_product, timing.state, timing.squashed,
            timing.hidden) == cycles
    assert (timing.shared_table and timing.shared_multiplier) == (interval >= 12)
