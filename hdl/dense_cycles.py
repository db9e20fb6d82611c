"""The cycle model of a dense layer: how it is folded, and how long it takes, to the cycle."""

from dataclasses import dataclass
from math import ceil

from hdl.column_cycles import PAGES, SHALLOW, ColumnMemories
from hdl.pipeline import SHORT, Pipeline, check_positive

__all__ = ["QUEUE_LATENCY", "DenseCycles", "DenseFolding", "choose_dense_folding"]

QUEUE_LATENCY = 3
"""Cycles from a beat's arrival in the head's output queue, where it is taken at once, to its room
again."""


@dataclass(frozen=True, kw_only=True)
class DenseFolding:
    """How a dense layer is folded: ``rows`` outputs by ``columns`` inputs in parallel."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            check_positive("folding", name, getattr(self, name))

    @property
    def multipliers(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True)
class DenseCycles:
    """The cycles of a dense layer.

    Parameters
    ----------
    inputs, outputs : int
    folding : DenseFolding
    pipeline : Pipeline
    streams : int
        Of the layer before.
    tabled : bool
        Whether the sums go through a table.
    direct : bool
        Whether the outputs are handed out as they come, without a queue.

    Attributes
    ----------
    passes, words : int
        The product takes so many passes of so many cycles.
    work : int
        ``passes * words``.
    x_memories : ColumnMemories
        Of the inputs, with beats of no more columns than a word.
    memory : int
        Cycles to read a word of the inputs.
    counts : tuple of int
        Outputs in each beat of a step.
    latency : int
        Cycles from an input's last beat to the first output, but for the words of its pass.
    output_latency : int
        Cycles from complete sums to the output queue: held, biased, rounded and saturated, looked
        up.
    tables, multipliers : int
    queue : int
        Beats that the output queue holds: enough that a pass never waits for the one before to
        get through. 0 where there is none.
    held : int
        Steps that it takes in while no output is taken: those of its buffer, and those whose
        outputs are all in the queue.
    """

    inputs: int
    outputs: int
    folding: DenseFolding
    pipeline: Pipeline = SHORT
    streams: int = 1
    tabled: bool = False
    direct: bool = False

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "streams"):
            check_positive("dense layer", name, getattr(self, name))

    @property
    def passes(self) -> int:
        return ceil(self.outputs / self.folding.rows)

    @property
    def words(self) -> int:
        return ceil(self.inputs / self.folding.columns)

    @property
    def work(self) -> int:
        return self.passes * self.words

    @property
    def x_memories(self) -> ColumnMemories:
        return ColumnMemories(total=self.inputs, columns=self.folding.columns, beat=1,
                              streams=self.streams)

    @property
    def memory(self) -> int:
        return self.pipeline.memory if self.x_memories.depth > SHALLOW else 1

    @property
    def latency(self) -> int:
        return (self.pipeline.array_latency(self.folding.columns)
                + self.output_latency + self.memory + (0 if self.direct else 2))

    @property
    def output_latency(self) -> int:
        # The table's result has a register.
        table = self.pipeline.table + 1 if self.tabled else 0
        return 1 + self.pipeline.bias + self.pipeline.preactivation + table

    @property
    def tables(self) -> int:
        return self.folding.rows if self.tabled else 0

    @property
    def multipliers(self) -> int:
        return self.folding.multipliers + self.tables

    @property
    def counts(self) -> tuple[int, ...]:
        rows = self.folding.rows
        return tuple(min(rows, self.outputs - at) for at in range(0, self.outputs, rows))

    @property
    def queue(self) -> int:
        return 0 if self.direct else ceil((self.latency + QUEUE_LATENCY) / self.words) + 1

    @property
    def held(self) -> int:
        return PAGES * self.streams + self.queue // self.passes


def choose_dense_folding(inputs: int, outputs: int, budget: int) -> DenseFolding:
    """The dense layer with the fewest multipliers that takes at most ``budget`` cycles."""
    best = DenseFolding(rows=outputs, columns=inputs)
    for rows in range(1, outputs + 1):
        passes = ceil(outputs / rows)
        words = budget // passes
        if words < 1:
            continue
        columns = ceil(inputs / min(words, inputs))
        if rows * columns < best.multipliers:
            best = DenseFolding(rows=rows, columns=columns)
    return best
