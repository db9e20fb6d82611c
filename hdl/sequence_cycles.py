"""The cycle model of a buffer of whole sequences (:mod:`hdl.sequence`): plain arithmetic."""

from dataclasses import dataclass
from math import ceil

from hdl.cycles import SHALLOW, SHORT, ColumnMemories, Pipeline, check_positive

__all__ = ["SequenceCycles"]

DECISION = 2
"""Cycles from a sequence being complete to its first word being asked for."""

QUEUE = 2
"""Cycles from a word coming to the queue to its being offered."""


@dataclass(frozen=True, kw_only=True)
class SequenceCycles:
    """A buffer between what gives steps in one order and what takes them in another.

    Parameters
    ----------
    features : int
        Columns of a step of one writer.
    columns : int
        Columns that are read in a cycle.
    beat : int
        Columns that are written in a cycle, at most.
    longest : int
        Steps of a sequence, at most.
    written, read : tuple of bool
        For each writer, and for each reader, whether its order is the reverse one.
    merge : str
        What becomes of two writers' features (:mod:`golden.bidirectional`).
    pipeline : Pipeline

    Attributes
    ----------
    parts : int
        Writers whose columns are read one after the other.
    beats, work : int
        Beats of a step for one reader, and for all.
    counts : tuple of int
        Columns in each of them.
    memories : ColumnMemories
        Of each writer.
    memory, merging : int
        Cycles to read a word, and from that to the merged one.
    queue : int
        Words that its queue holds: as many as are on their way when nobody takes any more.
    latency : int
        Cycles from the last beat of a sequence being taken, where it is idle, to its first beat
        being offered.

    Raises
    ------
    ValueError
        If a number is no positive integer, or the merge is for two writers and there is one.
    """

    features: int
    columns: int
    beat: int
    longest: int
    written: tuple[bool, ...]
    read: tuple[bool, ...]
    merge: str = "concat"
    pipeline: Pipeline = SHORT

    def __post_init__(self) -> None:
        for name in ("features", "columns", "beat", "longest"):
            check_positive("sequence buffer", name, getattr(self, name))
        if self.merge != "concat" and len(self.written) != 2:
            raise ValueError(f"sequence buffer merge must be concat with {len(self.written)} "
                             f"writer, not {self.merge}")

    @property
    def parts(self) -> int:
        return len(self.written) if self.merge == "concat" else 1

    @property
    def words(self) -> int:
        """Words of one part of a step."""
        return ceil(self.features / self.columns)

    @property
    def beats(self) -> int:
        return self.parts * self.words

    @property
    def work(self) -> int:
        return len(self.read) * self.beats

    @property
    def counts(self) -> tuple[int, ...]:
        rest = self.features - (self.words - 1) * self.columns
        return ((self.columns,) * (self.words - 1) + (rest,)) * self.parts

    @property
    def memories(self) -> ColumnMemories:
        return ColumnMemories(total=self.features, columns=self.columns, beat=self.beat,
                              streams=self.longest)

    @property
    def memory(self) -> int:
        return self.pipeline.memory if self.memories.depth > SHALLOW else 1

    @property
    def rounds(self) -> bool:
        """Whether what is merged is rounded."""
        return self.merge != "concat"

    @property
    def merging(self) -> int:
        if self.merge == "concat":
            return 0
        return (self.pipeline.multiplier if self.merge == "mul" else 1) + self.pipeline.rounding

    @property
    def queue(self) -> int:
        return self.memory + self.merging + QUEUE + 2

    @property
    def latency(self) -> int:
        return DECISION + self.memory + self.merging + QUEUE

    @property
    def multipliers(self) -> int:
        return self.columns if self.merge == "mul" else 0
