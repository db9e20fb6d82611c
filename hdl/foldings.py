"""Choosing how to fold a network where nobody says it."""

from hdl.cycles import Folding, LSTMCycles

__all__ = ["MULTIPLIERS", "choose_folding"]

MULTIPLIERS = 16
"""Multipliers of a layer's array, at most, where nobody asks for a folding."""


def choose_folding(inputs: int, hidden: int, *, units: int | None = None,
                   columns: int | None = None) -> Folding:
    """The folding of an LSTM layer with the fewest cycles a step, and of those the smallest.

    Each U and V is taken with the smallest drain that keeps up with it (`Folding.choose`). A drain
    with a shorter interval may save some cycles of the bubble, for more tables and multipliers.

    Parameters
    ----------
    inputs, hidden : int
        N and H.
    units, columns : int, optional
        U and V; what is not given is chosen, for ``MULTIPLIERS`` multipliers at most or the
        fewest that there can be.

    Raises
    ------
    ValueError
        If the layer has fewer units or columns than asked for.
    """
    quarter = MULTIPLIERS // 4
    best: tuple[tuple[int, int], Folding] | None = None
    for u in [units] if units else range(1, min(hidden, max(1, quarter // (columns or 1))) + 1):
        for v in [columns] if columns else range(1, min(inputs + hidden, max(1, quarter // u)) + 1):
            folding = Folding.choose(inputs, hidden, units=u, columns=v)
            step = LSTMCycles(inputs=inputs, hidden=hidden, folding=folding).step
            key = step, folding.multipliers
            if best is None or key < best[0]:
                best = key, folding
    assert best is not None
    return best[1]
