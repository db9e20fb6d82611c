"""Where the machine has registers that it could do without: cycles against clock."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, log2
from types import MappingProxyType

__all__ = ["FAST", "MEDIUM", "PIPELINES", "PIPELINE_LIMITS", "SHORT", "Pipeline",
           "check_positive"]


def check_positive(owner: str, name: str, value: int) -> None:
    """Raise ValueError if a value is no positive integer."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{owner} {name} must be a positive integer, not {value!r}")

PIPELINE_LIMITS: Mapping[str, tuple[int, int]] = MappingProxyType({
    "operand": (0, 2), "product": (0, 1), "sums": (0, 1), "bias": (1, 2), "preactivation": (1, 2),
    "table": (5, 8), "multiplier": (2, 3), "rounding": (1, 2),
    "memory": (1, 2), "feedback": (0, 2)})
"""The least and the most of each field of a :class:`Pipeline`."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Where the machine has registers that it could do without: cycles against clock.

    Every cycle lies between a column and the hidden state that comes of it, so it makes the bubble
    longer where there is one, and costs nothing where there is none.

    Parameters
    ----------
    operand : int
        Registers in the fabric before the array's multipliers, 0 to 2: for the ways there from the
        memories.
    product : int
        Registers behind them, 0 or 1: for the way to an accumulator.
    sums : int
        Registers between the adders of the accumulators and the hold chain, 0 or 1.
    bias : int
        Cycles from a sum leaving the hold chain to the biased sum, 1 or 2: what has run up before
        it is taken off and the bias added together or apart.
    preactivation : int
        Cycles from a biased sum to its preactivation, 1 or 2: rounding and saturation together
        or apart.
    table : int
        Cycles of a table unit, 5 to 8.
    multiplier : int
        Cycles of a state multiplier, 2 or 3: 3 with a register behind the block.
    rounding : int
        Cycles in which c', u and h are rounded and saturated, 1 or 2.
    memory : int
        Cycles to read x, h or c where a memory of them has more than ``SHALLOW`` words, 1 or 2:
        block RAM is slow without the register behind it. Fewer words are read in one.
    feedback : int
        Cycles from an h being present to its being an operand, 0 to 2. It goes through its memory,
        or past it where an h that is on its way there is wanted.
    """

    operand: int = 0
    product: int = 0
    sums: int = 0
    bias: int = 1
    preactivation: int = 1
    table: int = 5
    multiplier: int = 2
    rounding: int = 1
    memory: int = 1
    feedback: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in PIPELINE_LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"pipeline {name} must be an integer from {low} to {high}, "
                                 f"not {value!r}")

    def array_latency(self, columns: int) -> int:
        """Cycles from a pass's last word entering the array to its complete sums.

        One for the memories, two in the multipliers, one for each level of the adder tree over the
        columns, and the registers above.
        """
        return 3 + self.operand + self.product + ceil(log2(columns)) + self.sums


SHORT = Pipeline()
MEDIUM = Pipeline(operand=2, product=1, sums=1, bias=2, preactivation=2, table=7, rounding=2,
                  memory=2)
FAST = replace(MEDIUM, table=8, multiplier=3, feedback=1)

PIPELINES: Mapping[str, Pipeline] = MappingProxyType(
    {"short": SHORT, "medium": MEDIUM, "fast": FAST})
