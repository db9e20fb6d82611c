import pytest

from hdl.cycles import Folding, LSTMCycles
from hdl.foldings import MULTIPLIERS, choose_folding


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
        for folding in [Folding.choose(inputs, hidden, units=units, columns=columns)])
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
def test_impossible(asked: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        choose_folding(2, 20, **asked)
