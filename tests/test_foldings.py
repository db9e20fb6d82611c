from typing import Any

import pytest

from hdl import foldings, mac
from hdl.cycles import Folding, LSTMCycles
from hdl.dense_cycles import DenseFolding
from hdl.foldings import (
    MULTIPLIERS,
    Limits,
    Shape,
    choose_drain,
    choose_folding,
    dense_parts,
    lstm_part,
    lstm_parts,
)
from hdl.pipeline import FAST, SHORT, Pipeline

LIMITS = Limits(multipliers=40, memories=100, blocks=lambda depth, width: -(-depth * width // 4096),
                logic_words=0)


def step(inputs: int, hidden: int, folding: Folding) -> int:
    return LSTMCycles(inputs=inputs, hidden=hidden, folding=folding).step


@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (2, 3), (2, 20), (28, 128), (300, 5)])
def test_best_of_all(inputs: int, hidden: int) -> None:
    chosen = choose_folding(inputs, hidden)
    assert chosen.multipliers <= MULTIPLIERS
    least = min(
        (step(inputs, hidden, folding), folding.multipliers)
        for units in range(1, min(hidden, MULTIPLIERS // 4) + 1)
        for columns in range(1, min(inputs + hidden, MULTIPLIERS // 4 // units) + 1)
        for folding in [choose_drain(inputs, hidden, units=units, columns=columns)])
    assert (step(inputs, hidden, chosen), chosen.multipliers) == least


def test_as_asked() -> None:
    folding = choose_folding(2, 20, units=5, columns=4)
    assert (folding.units, folding.columns) == (5, 4)
    assert choose_folding(2, 20, units=4).units == 4
    assert choose_folding(2, 20, units=4).multipliers <= MULTIPLIERS
    assert choose_folding(2, 20, columns=3).columns == 3
    # More than the limit, where that is what was asked for.
    assert choose_folding(2, 20, units=20).units == 20
    assert choose_folding(2, 20, columns=22).columns == 22


@pytest.mark.parametrize(("asked", "text"), [
    ({"units": 21}, "units must be at most the 20 hidden units, not 21"),
    ({"columns": 23}, "columns must be at most the 22 columns"),
    ({"units": -1}, "units must be a positive integer, not -1"),
])
def test_impossible(asked: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        choose_folding(2, 20, **asked)


def every_folding(inputs: int, hidden: int, pipeline: Pipeline, streams: int,
                  peepholes: bool) -> list[LSTMCycles]:
    """All that the cycle model allows."""
    models = []
    for units in range(1, hidden + 1):
        for columns in range(1, inputs + hidden + 1):
            for lanes in range(1, units + 1):
                for interval in range(1, inputs + hidden + 1):
                    try:
                        models.append(LSTMCycles(
                            inputs=inputs, hidden=hidden, pipeline=pipeline, streams=streams,
                            peepholes=peepholes, folding=Folding(
                                units=units, columns=columns, lanes=lanes, interval=interval)))
                    except ValueError:
                        continue
    return models


@pytest.mark.parametrize("pipeline", [SHORT, FAST], ids=["short", "fast"])
@pytest.mark.parametrize(("inputs", "hidden", "streams"), [
    (1, 1, 1), (2, 5, 1), (2, 5, 3), (12, 3, 2), (16, 6, 1),
])
@pytest.mark.parametrize("peepholes", [False, True])
def test_parts_leave_nothing_better_out(inputs: int, hidden: int, streams: int, pipeline: Pipeline,
                                        peepholes: bool) -> None:
    """Each folding there is has one among the parts that is as good in everything."""
    shape = Shape(inputs=inputs, outputs=hidden, peepholes=peepholes)
    parts = lstm_parts(shape, pipeline=pipeline, streams=streams, limits=LIMITS)
    costs = {(part.round, part.multipliers, part.latency) for part in parts}
    models = every_folding(inputs, hidden, pipeline, streams, peepholes)
    for k in models:
        part = lstm_part(shape, k.folding, pipeline=pipeline, streams=streams, limits=LIMITS)
        assert (part.round, part.multipliers) == (k.round, k.multipliers)
        if k.multipliers <= LIMITS.multipliers:
            assert any(a <= part.round and b <= part.multipliers and c <= part.latency
                       for a, b, c in costs), k.folding


@pytest.mark.parametrize("streams", [1, 3])
def test_keeping_a_pace(streams: int) -> None:
    for part in lstm_parts(Shape(inputs=3, outputs=6), pipeline=SHORT, streams=streams,
                           limits=LIMITS):
        for pace in range(part.round - 40, part.round + 2):
            assert part.keeps(pace) == (part.round <= pace)


def test_limit_of_the_array() -> None:
    parts = lstm_parts(Shape(inputs=4, outputs=6), pipeline=SHORT, streams=1, limits=LIMITS,
                       array=8)
    assert {part.folding.multipliers for part in parts} == {4, 8}
    # One multiplier for each gate, however few there may be.
    parts = lstm_parts(Shape(inputs=4, outputs=6), pipeline=SHORT, streams=1, limits=LIMITS,
                       array=1)
    assert {part.folding.multipliers for part in parts} == {4}


def test_memories() -> None:
    shape = Shape(inputs=6, outputs=32, weight_bits=16, bias_bits=30, column_bits=12,
                  state_bits=14)
    asked: list[tuple[int, int]] = []

    def blocks(depth: int, width: int) -> int:
        asked.append((depth, width))
        return 1

    folding = Folding(units=4, columns=2, lanes=2, interval=2)
    common: dict[str, Any] = {"pipeline": SHORT, "streams": 3}
    part = lstm_part(shape, folding, limits=Limits(
        multipliers=99, memories=99, blocks=blocks, logic_words=96), **common)
    # 8 passes of 19 words of 32 weights; 2 groups of 2 slots in a pass.
    assert asked == [(152, 512), (32, 30)]
    # With two tables for the gates and one for the cell state in each of two lanes.
    assert part.memories == 1 + 2 * 3 + 2 * 2

    asked.clear()
    part = lstm_part(shape, folding, limits=Limits(
        multipliers=99, memories=99, blocks=blocks, logic_words=47), **common)
    # h in two banks, each of two memories with a page of each stream; the cell states of 16 groups
    # in each lane; x is small.
    assert asked[2:] == [(48, 12), (48, 14)]
    assert part.memories == 1 + 2 * 3 + 2 * 2 + 2 * 2 + 2


def test_peepholes() -> None:
    """Their multipliers and memories count, and the drain that is chosen knows them."""
    folding = Folding(units=4, columns=1, lanes=2, interval=2)
    plain, peeped = (lstm_part(Shape(inputs=6, outputs=32, peepholes=peepholes), folding,
                               pipeline=SHORT, streams=1, limits=LIMITS)
                     for peepholes in (False, True))
    # A multiplier each for i, f and o in each of two lanes, and one more table.
    assert peeped.multipliers == plain.multipliers + 2 * 3 + 2
    # Those of 16 units, and the table's knots.
    assert peeped.memories == plain.memories + 2 * 3 + 2
    assert peeped.latency == plain.latency + 6
    for units, columns in ((1, 1), (2, 3), (4, 4)):
        chosen, other = (choose_drain(3, 9, units=units, columns=columns, peepholes=peepholes)
                         for peepholes in (True, False))
        ours, theirs = (LSTMCycles(inputs=3, hidden=9, folding=each, peepholes=True)
                        for each in (chosen, other))
        assert ours.round * ours.multipliers <= theirs.round * theirs.multipliers


def test_every_dense_folding() -> None:
    parts = dense_parts(Shape(inputs=7, outputs=3), pipeline=SHORT, streams=2, limits=LIMITS)
    costs = {(part.work, part.multipliers) for part in parts}
    for rows in range(1, 4):
        for columns in range(1, 8):
            folding = DenseFolding(rows=rows, columns=columns)
            cycles = 2 * -(-3 // rows) * -(-7 // columns)
            assert any(a <= cycles and b <= folding.multipliers for a, b in costs)
    assert all(part.multipliers == part.folding.multipliers for part in parts)


def test_same_threshold_as_the_hardware() -> None:
    assert foldings.BLOCK_WORDS == mac.BLOCK_WORDS


@pytest.mark.parametrize(("make", "text"), [
    (lambda: Shape(inputs=0, outputs=1), "shape inputs must be a positive integer, not 0"),
    (lambda: Shape(inputs=1, outputs=1, bias_bits=-2),
     "shape bias_bits must be a positive integer, not -2"),
    (lambda: Limits(multipliers=0, memories=1, blocks=lambda d, w: 1, logic_words=0),
     "multipliers must be a positive integer, not 0"),
    (lambda: Limits(multipliers=1, memories=1.5,  # type: ignore[arg-type]
                    blocks=lambda d, w: 1, logic_words=0),
     "memories must be a positive integer, not 1.5"),
])
def test_wrong_arguments(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        make()
