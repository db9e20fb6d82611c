"""The cycles and memories of what stands behind the layers: outlet, index of the largest, softmax.

Plain arithmetic, as :mod:`hdl.cycles` is.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

from golden.argmax import ArgMax
from golden.softmax import Softmax
from hdl.column_cycles import PAGES, SHALLOW, ColumnMemories
from hdl.pipeline import SHORT, Pipeline

__all__ = ["ArgMaxCycles", "OutletCycles", "SoftmaxCycles", "choose_lanes", "vector_cycles"]

INPUT_PAGES = 4
"""Steps that wait for a softmax to begin."""

FIFO = 2
"""Cycles from a word's arrival in a queue to its being there."""


def _power(least: int) -> int:
    """The power of two from ``least`` on."""
    return 1 << (least - 1).bit_length()


def choose_lanes(hidden: int, budget: int) -> int:
    """The fewest words of hidden states to a beat, so that a step takes at most so many beats."""
    return ceil(hidden / min(hidden, budget))


@dataclass(frozen=True, kw_only=True)
class OutletCycles:
    """The cycles of an outlet, which sends hidden states as they are.

    Parameters
    ----------
    hidden : int
        H, words of a step.
    lanes : int
        Words in an output beat.
    pipeline : Pipeline
    streams : int

    Attributes
    ----------
    work : int
        Output beats of a step, and cycles that it takes.
    x_memories : ColumnMemories
        With beats of no more columns than a word.
    latency, whole_latency : int
        Cycles from a step's last beat to its first and its last output beat.
    queue : int
        Beats that the output queue holds.
    held : int
        Steps that it takes in while no output is taken.
    """

    hidden: int
    lanes: int
    pipeline: Pipeline = SHORT
    streams: int = 1

    @property
    def work(self) -> int:
        return ceil(self.hidden / self.lanes)

    @property
    def x_memories(self) -> ColumnMemories:
        return ColumnMemories(total=self.hidden, columns=self.lanes, beat=1, streams=self.streams)

    @property
    def memory(self) -> int:
        return self.pipeline.memory if self.x_memories.depth > SHALLOW else 1

    @property
    def to_queue(self) -> int:
        """Cycles from a word being asked for to its entering the queue."""
        return self.memory + 2

    def memories(self, *, width: int, beat: int) -> dict[str, int]:
        """Bits of the memories, as declared, by kind.

        Parameters
        ----------
        width : int
            Of a word.
        beat : int
            Words in a full input beat.
        """
        x = replace(self.x_memories, beat=beat)
        word = self.lanes * width + self.lanes.bit_length() + 1 + (self.streams - 1).bit_length()
        return {"x": x.count * x.depth * width, "queue": (self.queue - 1) * word}

    @property
    def latency(self) -> int:
        return 1 + self.to_queue + FIFO

    @property
    def whole_latency(self) -> int:
        return self.latency + self.work - 1

    @property
    def queue(self) -> int:
        return self.to_queue + FIFO + 1

    @property
    def held(self) -> int:
        return PAGES * self.streams + self.queue // self.work


@dataclass(frozen=True, kw_only=True)
class ArgMaxCycles:
    """The cycles of the index of the largest: a tree over the rows of a beat, then step by step.

    Parameters
    ----------
    unit : ArgMax
    rows : int
        Codes in a beat.

    Attributes
    ----------
    work : int
        Cycles of a step: its beats.
    levels : int
        Of the tree.
    latency, whole_latency : int
        Cycles from a step's last beat to its output.
    held : int
        Steps that it takes in while no output is taken, where they do not come too close.
    multipliers : int
        None.
    """

    unit: ArgMax
    rows: int

    multipliers = 0
    held = 1

    @property
    def work(self) -> int:
        return ceil(self.unit.inputs / self.rows)

    @property
    def levels(self) -> int:
        return (self.rows - 1).bit_length()

    @property
    def latency(self) -> int:
        return self.levels + 1

    @property
    def whole_latency(self) -> int:
        return self.latency

    def memories(self) -> dict[str, int]:
        """Bits of the memories, by kind: none."""
        return {}

    def blocks(self, blocks: Callable[[int, int], int], logic_words: int) -> int:
        """Block RAMs: none."""
        return 0


@dataclass(frozen=True, kw_only=True)
class SoftmaxCycles:
    """The cycles of a softmax, whose parts work on steps of their own.

    They are the search for the largest, along with the beats' arrival; the powers, one a cycle; the
    reciprocal of their sum, one bit a cycle; the products, one a cycle.

    Parameters
    ----------
    unit : Softmax
    rows : int
        Codes in a beat.
    pipeline : Pipeline
    streams : int
        Of the layer before. Steps are taken in the order in which they come.

    Attributes
    ----------
    work : int
        Cycles between steps at most: the slowest part's.
    levels : int
        Of the tree over the rows of a beat.
    division : int
        Cycles of a reciprocal.
    x_memories : ColumnMemories
        Of the codes.
    pages : int
        Steps whose powers are kept: so many that they never set the pace.
    latency, whole_latency : int
        Cycles from a step's last beat to its first and its last output.
    queue : int
        Outputs that the queue behind holds.
    held : int
        Steps that it takes in while no output is taken.
    multipliers : int
    """

    unit: Softmax
    rows: int
    pipeline: Pipeline = SHORT
    streams: int = 1

    @property
    def levels(self) -> int:
        return (self.rows - 1).bit_length()

    @property
    def division(self) -> int:
        # A bit more than the quotient has, to round it; taking the sum, and giving it away.
        return self.unit.scale + 4

    @property
    def work(self) -> int:
        return max(self.unit.inputs, self.division)

    @property
    def x_memories(self) -> ColumnMemories:
        return ColumnMemories(total=self.unit.inputs, columns=1, beat=self.rows,
                              streams=INPUT_PAGES // 2)

    @property
    def memory(self) -> int:
        """Cycles to read a code."""
        return self.pipeline.memory if self.x_memories.depth > SHALLOW else 1

    @property
    def interpolation(self) -> int:
        """Cycles from a segment's ends to the power between them."""
        return self.pipeline.multiplier + 1 if self.unit.within_bits else 0

    @property
    def power(self) -> int:
        """Cycles from a code being asked for to its power: read, subtracted, looked up, shifted."""
        return 1 + self.memory + 1 + 2 + self.interpolation + 2

    @property
    def to_product(self) -> int:
        """Cycles from the first power of a step being there to its first product being begun."""
        # The sum, its queue, the reciprocal.
        return self.unit.inputs - 1 + 1 + FIFO + self.division - 1

    @property
    def pages(self) -> int:
        around = self.power + self.to_product + self.unit.inputs
        return _power(ceil(around / self.work))

    @property
    def sums(self) -> int:
        """Sums that the queue behind the powers holds: one more, since it fills from behind."""
        return self.pages + 1

    @property
    def power_words(self) -> int:
        """Words of the memory of the powers."""
        return self.pages * _power(self.unit.inputs)

    @property
    def power_memory(self) -> int:
        """Cycles to read a power."""
        return self.pipeline.memory if self.power_words > SHALLOW else 1

    @property
    def to_queue(self) -> int:
        """Cycles from a product being begun to the queue: read, multiplied, rounded."""
        return 1 + self.power_memory + self.pipeline.multiplier + 1

    @property
    def latency(self) -> int:
        return (self.levels + 1 + FIFO + self.power + self.to_product + self.to_queue + FIFO)

    @property
    def whole_latency(self) -> int:
        return self.latency + self.unit.inputs - 1

    @property
    def queue(self) -> int:
        return self.to_queue + FIFO + 1

    @property
    def held(self) -> int:
        return INPUT_PAGES + self.pages + self.queue // self.unit.inputs

    @property
    def multipliers(self) -> int:
        return 1 + (self.unit.within_bits > 0)

    @property
    def knot_bits(self) -> int:
        """Bits of a word of the table: the height of a segment, and its left end."""
        knots = self.unit.knots
        return self.unit.fine + max(left - right for left, right in pairwise(knots)).bit_length()

    @property
    def mark_bits(self) -> int:
        """Bits that travel with a step: whether it is its sequence's last, and whose it is."""
        return 1 + (self.streams - 1).bit_length()

    @property
    def sum_bits(self) -> int:
        return (self.unit.inputs << self.unit.fine).bit_length()

    def memories(self) -> dict[str, int]:
        """Bits of the memories as declared, by kind.

        - ``codes``: :class:`hdl.column_cycles.ColumnMemories`, one code wide.
        - ``powers``: a word of ``scale + 1`` bits for each output of each page.
        - ``knots``: the table of powers.
        - ``queue``: those of the largest code, of the sums and of outputs, each with what travels
          with it, one word less than the queue holds.
        """
        unit, x = self.unit, self.x_memories
        # One output a beat: its count takes a bit.
        words = ((INPUT_PAGES, unit.x.width + self.mark_bits),
                 (self.sums, self.sum_bits + self.mark_bits),
                 (self.queue, unit.y.width + 1 + self.mark_bits))
        return {
            "codes": x.count * x.depth * unit.x.width,
            "powers": self.power_words * (unit.scale + 1),
            "knots": (1 << unit.segment_bits) * self.knot_bits,
            "queue": sum((depth - 1) * width for depth, width in words),
        }


    def blocks(self, blocks: Callable[[int, int], int], logic_words: int) -> int:
        """Block RAMs that it takes.

        Parameters
        ----------
        blocks : function of depth and width
            Block RAMs of a memory.
        logic_words : int
            What is written is in lookup tables up to so many words.
        """
        taken = blocks(1 << self.unit.segment_bits, self.knot_bits)
        for count, depth, width in (
                (self.x_memories.count, self.x_memories.depth, self.unit.x.width),
                (1, self.power_words, self.unit.scale + 1)):
            taken += count * blocks(depth, width) if depth > logic_words else 0
        return taken


def vector_cycles(unit: ArgMax | Softmax, *, rows: int, pipeline: Pipeline, streams: int
                  ) -> ArgMaxCycles | SoftmaxCycles:
    """The cycles of what becomes of all outputs of a step together."""
    if isinstance(unit, ArgMax):
        return ArgMaxCycles(unit=unit, rows=rows)
    return SoftmaxCycles(unit=unit, rows=rows, pipeline=pipeline, streams=streams)
