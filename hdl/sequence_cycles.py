"""Where a network needs buffers of whole sequences (:mod:`hdl.sequence`), and their cycle model."""

from dataclasses import dataclass
from math import ceil

from golden.fixed import SQ
from golden.order import needs_whole, orders
from golden.quantized_network import QuantizedNetwork
from hdl.column_cycles import SHALLOW, ColumnMemories
from hdl.pipeline import SHORT, Pipeline, check_positive

__all__ = ["Link", "SequenceCycles", "links"]

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
    keeps : bool
        Whether beats say of a sequence whether its state is kept.

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
    keeps: bool = False

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

    def stored(self, *, x: int, y: int) -> dict[str, int]:
        """Bits of its memories, counted as by :func:`hdl.memories.lstm_memories`.

        - ``columns``: :class:`hdl.column_cycles.ColumnMemories` for each writer, a column wide.
        - ``queue``: one word less than it holds, since the last is in the register of its output.
          A word is a beat.

        Parameters
        ----------
        x, y : int
            Bits of a column that is written, and of one that is read.
        """
        beat = (self.columns * y + self.columns.bit_length() + 1 + self.keeps
                + (len(self.read) - 1).bit_length())
        return {"columns": len(self.written) * self.memories.count * self.memories.depth * x,
                "queue": (self.queue - 1) * beat}

    @property
    def multipliers(self) -> int:
        return self.columns if self.merge == "mul" else 0


@dataclass(frozen=True, kw_only=True)
class Link:
    """What goes from one part of a network to the next.

    Parameters
    ----------
    written, read : tuple of bool
        For each direction of the part before, and of that behind, whether it is the reverse one.
    features : int
        Columns of a step of one writer.
    merge : str
        What becomes of two writers'.
    x, y : SQ
        Formats before and behind that.
    single : bool
        Whether one step of each sequence goes.
    keeps : bool
        Whether it is told that a sequence's state is kept.
    """

    written: tuple[bool, ...]
    read: tuple[bool, ...]
    features: int
    merge: str
    x: SQ
    y: SQ
    single: bool
    keeps: bool = False

    @property
    def gathered(self) -> bool:
        """Whether sequences must be buffered."""
        return needs_whole(self.written, self.read, single=self.single)

    def cycles(self, *, columns: int, beat: int, longest: int, pipeline: Pipeline
               ) -> SequenceCycles:
        """The model of its buffer.

        Parameters
        ----------
        columns : int
            That are read in a cycle, where there are so many.
        beat : int
            Columns that are written in a cycle.
        longest : int
            Steps of a sequence, at most.
        pipeline : Pipeline
        """
        return SequenceCycles(
            features=self.features, columns=min(columns, self.features), beat=beat,
            longest=1 if self.single else longest, written=self.written, read=self.read,
            merge=self.merge, pipeline=pipeline, keeps=self.keeps)


def links(network: QuantizedNetwork) -> list[Link]:
    """From the input to the first layer, from layer to layer, and from the last to the head."""
    order = orders(network)
    found = [Link(written=order[0], read=order[1], features=network.inputs, merge="concat",
                  x=network.x, y=network.x, single=False, keeps=network.stateful)]
    for n, layer in enumerate(network.layers, 1):
        found.append(Link(
            written=order[n], read=order[n + 1], features=layer.directions[0].outputs,
            merge=getattr(layer, "merge", "concat"), x=layer.formats.h, y=layer.y,
            single=n == len(network.layers) and not network.every_step,
            keeps=network.stateful and n < len(network.layers)))
    return found
