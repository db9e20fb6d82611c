"""Random runs of a circuit from its initial state, many side by side.

A run is one bit of a Python integer, so one operation makes a gate's value in all of them.
"""

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from benchmarks.aig import Circuit

__all__ = ["LANES", "Runs", "always", "at_rates", "rarely"]

LANES = 256
"""Runs side by side."""

ALL = (1 << LANES) - 1

Source = Callable[[random.Random], int]
"""What an input has in a cycle: a bit for each run."""


def rarely(halvings: int) -> Source:
    """High in one of ``2**halvings`` cycles."""
    def source(rng: random.Random) -> int:
        bits = ALL
        for _ in range(halvings):
            bits &= rng.getrandbits(LANES)
        return bits
    return source


def always(level: int) -> Source:
    """The same in all cycles."""
    return lambda rng: level * ALL


def at_rates(rates: Sequence[int], apart: int) -> Source:
    """As of :func:`rarely`, but at another rate in every run; these change after ``apart`` runs."""
    masks = [sum(1 << lane for lane in range(LANES) if lane // apart % len(rates) == number)
             for number in range(len(rates))]
    sources = [rarely(rate) for rate in rates]
    return lambda rng: sum(source(rng) & mask for source, mask in zip(sources, masks, strict=True))


class Runs:
    """What the latches and outputs of a circuit have in random runs.

    Parameters
    ----------
    circuit : Circuit
    inputs : sequence of function
        For each input.
    cycles : int
    seed : int
        With the same one the inputs are the same.

    Attributes
    ----------
    latches, outputs : list of int
        Of each, all its values: ``LANES`` bits for each cycle, the first one's lowest.
    """

    def __init__(self, circuit: Circuit, inputs: Sequence[Source], *, cycles: int, seed: int
                 ) -> None:
        rng = random.Random(seed)
        step = _compiled(circuit)
        count = len(circuit.latches)
        states = [start * ALL for start in circuit.starts]
        seen: list[list[int]] = []
        for _ in range(cycles):
            after = step([source(rng) for source in inputs], states)
            seen.append(states + after[count:])
            states = after[:count]
        width = LANES // 8
        joined = [int.from_bytes(b"".join(value.to_bytes(width, "little") for value in column),
                                 "little") for column in zip(*seen, strict=True)]
        self.latches, self.outputs = joined[:count], joined[count:]


@cache
def _compiled(circuit: Circuit) -> Callable[[list[int], list[int]], list[int]]:
    """A cycle in Python: what latches get, and outputs, from inputs and latches."""
    def value(literal: int) -> str:
        if literal < 2:
            return str(literal * ALL)
        return f"n{literal >> 1} ^ {ALL}" if literal & 1 else f"n{literal >> 1}"

    def names(literals: Sequence[int]) -> str:
        return "".join(f"n{literal >> 1}, " for literal in literals)

    lines = ["def step(inputs, latches):",
             *(f"  {names(literals)}= {name}" for name, literals in (
                 ("inputs", circuit.inputs), ("latches", circuit.latches)) if literals),
             *(f"  n{node >> 1} = ({value(a)}) & ({value(b)})" for node, a, b in circuit.ands),
             f"  return [{', '.join(map(value, [*circuit.next, *circuit.outputs]))}]"]
    made: dict[str, Any] = {}
    exec("\n".join(lines), made)
    step: Callable[[list[int], list[int]], list[int]] = made["step"]
    return step
