"""The cycle model: how a layer is folded onto its multipliers, and how long it takes, to the cycle.

Plain arithmetic without hardware. The components read their structure from the same objects, so
the model and the machine cannot drift apart, and tests hold it against the simulation.

An LSTM layer of N inputs and H hidden units on U units and V columns takes ``P = ceil(H / U)``
passes of ``C = ceil((N + H) / V)`` cycles a time step. What the passes leave behind *drains*
through the activations and the state update while the next pass runs; only where the recurrence
needs a hidden state that has not come out yet is there a *bubble* of B cycles before a step.
Several independent *streams* of sequences fill each other's bubbles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, log2
from types import MappingProxyType

__all__ = ["BLOCK_WORDS", "CANDIDATE", "FAST", "GATES", "MEDIUM", "PIPELINES", "PIPELINE_LIMITS",
           "SHALLOW", "SHORT", "ColumnMemories", "DenseCycles", "DenseFolding", "DrainTiming",
           "Folding", "LSTMCycles", "Pipeline", "check_positive", "choose_dense_folding",
           "head_budget"]

BLOCK_WORDS = 16
"""Words of biases from which on they are in a block RAM; fewer are cheaper in lookup tables."""

SHALLOW = 64
"""Words of a memory that is written up to which it is in lookup tables, on an ECP5: what Yosys does
with 16 bits to a word."""

QUEUE_LATENCY = 3
"""Cycles from a beat's arrival in the head's output queue, where it is taken at once, to its room
again."""

HEAD_TURN = 4
"""Cycles from the last h of a step being present to the head working on the step."""

GATES = 4
"""i, f, g, o."""

CANDIDATE = 2
"""The gate that is a tanh: its preactivation has a fraction bit more."""


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


@dataclass(frozen=True)
class DrainTiming:
    """When each operation of the drain happens, for one unit.

    Cycle 0 is the one in which the unit's first sums leave the hold chain. Units follow each
    other at a distance of at least ``interval`` cycles. Every table and multiplier is used by a
    unit within a window of at most ``interval`` cycles, so units never meet, whatever their
    distance, and no arbitration is needed.

    Parameters
    ----------
    interval : int
        Cycles between successive units of a lane, at least.
    pipeline : Pipeline
    peepholes : bool
        Whether the gates see the cell state. That before the step is multiplied while the sums
        leave the hold chain, and makes all of them a cycle or two later. The output gate waits for
        the new one, and comes last of all.

    Attributes
    ----------
    gate_tables : int
        Table units for the gates and the candidate: 4, 2 or 1.
    slots : int
        Cycles in which sums leave the hold chain, ``4 / gate_tables``.
    summed : int
        When the first sums are complete, with bias and peephole.
    preactivation : tuple of int
        When the preactivations of i, f, g, o enter a table.
    gate : tuple of int
        When i, f, g, o are present.
    forget_product, input_product : int
        When the operands of f c and of i g enter a multiplier.
    state : int
        When c' and the argument of its tanh are present; c' is written, u enters a table.
    peeped : int
        When the sum of an output gate with a peephole is complete.
    squashed : int
        When tanh(c') and o are present and o tanh(c') enters a multiplier.
    hidden : int
        When h is present, and written.
    shared_table : bool
        Whether tanh(c') uses the gates' table, and so does an output gate that comes last.
    table_of : tuple of int
        Which table unit i, f, g, o and tanh(c') use.
    peephole_multipliers : int
        Multipliers of peepholes: one for i and f where they have one table, else one for each;
        and one for o, which is that of i and f where the interval is long enough.
    state_multipliers : int
        Multipliers for f c, i g and o tanh(c'), and those of peepholes.
    """

    interval: int
    pipeline: Pipeline = SHORT
    peepholes: bool = False

    @property
    def gate_tables(self) -> int:
        return 4 if self.interval == 1 else 2 if self.interval < 4 else 1

    @property
    def slots(self) -> int:
        return 4 // self.gate_tables

    def slot(self, gate: int) -> int:
        """In which slot a gate (0 to 3: i, f, g, o) leaves the hold chain."""
        return gate // self.gate_tables

    @property
    def summed(self) -> int:
        # The product begins as the sum leaves the chain, and no bias takes longer.
        return self.pipeline.multiplier + 1 if self.peepholes else self.pipeline.bias

    def _rounded(self, gate: int) -> int:
        """When the preactivation of a gate that does not wait for c' enters a table."""
        return self.summed + self.pipeline.preactivation + self.slot(gate)

    @property
    def peeped(self) -> int:
        return self.state + self.pipeline.multiplier + 1

    @property
    def preactivation(self) -> tuple[int, ...]:
        last = self.peeped + self.pipeline.preactivation if self.peepholes else self._rounded(3)
        return (*(self._rounded(gate) for gate in range(3)), last)

    @property
    def gate(self) -> tuple[int, ...]:
        return tuple(t + self.pipeline.table for t in self.preactivation)

    @property
    def forget_product(self) -> int:
        return self.gate[1]

    @property
    def input_product(self) -> int:
        return max(self._rounded(0), self._rounded(2)) + self.pipeline.table

    @property
    def state(self) -> int:
        # The exact sum, then its two roundings side by side.
        return self.input_product + self.pipeline.multiplier + 1 + self.pipeline.rounding

    @property
    def squashed(self) -> int:
        return max(self.state + self.pipeline.table, self.gate[3])

    @property
    def hidden(self) -> int:
        return self.squashed + self.pipeline.multiplier + self.pipeline.rounding

    @property
    def shared_table(self) -> bool:
        last = self.preactivation[3] if self.peepholes else self.state
        return self.interval > last - self.preactivation[0]

    @property
    def table_of(self) -> tuple[int, ...]:
        of_cell = 0 if self.shared_table else self.gate_tables
        if not self.peepholes:
            return (*(gate % self.gate_tables for gate in range(GATES)), of_cell)
        # An output gate that comes last uses what tanh(c') uses, if it is that much behind.
        of_output = min(self.gate_tables + 1, GATES - 1)
        if self.interval > self.preactivation[3] - self.state:
            of_output = of_cell
        return (*(gate % self.gate_tables for gate in range(3)), of_output, of_cell)

    @property
    def shared_peephole(self) -> bool:
        """Whether the multiplier of the peepholes of i and f does that of o, too."""
        return self.gate_tables == 1 and self.interval > self.state

    @property
    def peephole_multipliers(self) -> int:
        if not self.peepholes:
            return 0
        return (1 if self.gate_tables == 1 else 2) + (not self.shared_peephole)

    @property
    def shared_product(self) -> bool:
        """Whether f c and i g use one multiplier."""
        return self.forget_product != self.input_product

    @property
    def shared_multiplier(self) -> bool:
        """Whether o tanh(c') uses the multiplier of f c and i g."""
        return self.shared_product and self.interval > self.squashed - self.forget_product

    @property
    def tables(self) -> int:
        """Table units of a lane."""
        return len(set(self.table_of))

    def used_tables(self, lines: Sequence[int]) -> tuple[int, ...]:
        """Those that are there where some functions are lines (:class:`LSTMCycles`)."""
        return tuple(sorted({table for n, table in enumerate(self.table_of) if n not in lines}))

    @property
    def state_multipliers(self) -> int:
        return ((1 if self.shared_product else 2) + (not self.shared_multiplier)
                + self.peephole_multipliers)


@dataclass(frozen=True, kw_only=True)
class ColumnMemories:
    """The memories of a column buffer (:mod:`hdl.buffer`).

    The columns of a step lie side by side in banks, one for each column of a word; as many times
    two, four, ... where a beat has more columns than a word. A bank is two memories, each for one
    of the two pages of each stream; a bank that no column falls into is left out.

    Parameters
    ----------
    total : int
        Columns of a step.
    columns : int
        V, columns of a word.
    offset : int
        Place of the first column in its word.
    beat : int
        Columns that are written at a time, at most.
    streams : int

    Attributes
    ----------
    words_beside : int
        Words that lie side by side, a power of two.
    banks, rows : int
        And what a step takes of each bank.
    count : int
        Memories.
    depth : int
        Words of each.
    """

    total: int
    columns: int
    offset: int = 0
    beat: int
    streams: int

    @property
    def words_beside(self) -> int:
        return 1 << (ceil(self.beat / self.columns) - 1).bit_length()

    @property
    def banks(self) -> int:
        return self.columns * self.words_beside

    @property
    def rows(self) -> int:
        return ceil((self.offset + self.total) / self.banks)

    @property
    def count(self) -> int:
        return 2 * min(self.banks, self.total)

    @property
    def depth(self) -> int:
        return self.streams << (self.rows - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class Folding:
    """How an LSTM layer is folded.

    Parameters
    ----------
    units : int
        U, units in parallel: the MAC array has a row for each gate of each.
    columns : int
        V, columns of [x, h] in parallel.
    lanes : int
        Drain lanes: units that leave the array side by side.
    interval : int
        Cycles between the units that leave through a lane. The longer, the fewer tables and
        state multipliers.
    projection : DenseFolding or None
        Of the layer's projection, where it has one.
    """

    units: int
    columns: int
    lanes: int
    interval: int
    projection: "DenseFolding | None" = None

    def __post_init__(self) -> None:
        for name in ("units", "columns", "lanes", "interval"):
            check_positive("folding", name, getattr(self, name))

    @property
    def multipliers(self) -> int:
        """Multipliers of the MAC array."""
        return 4 * self.units * self.columns


@dataclass(frozen=True, kw_only=True)
class LSTMCycles:
    """The cycles of an LSTM layer, and the multipliers it takes.

    Parameters
    ----------
    inputs, hidden : int
        N and H.
    folding : Folding
    pipeline : Pipeline
    streams : int
        S, independent sequences that take turns.
    lines : sequence of int
        Functions that need no table: 0 to 3 for i, f, g and o, 4 for the cell state's.
    peepholes : bool
        Whether the gates see the cell state.
    projected : int or None
        R, hidden states that a projection makes of what H units let out; None without one.

    Attributes
    ----------
    outputs : int
        R, hidden states; H without a projection.
    projection : DenseCycles or None
        The projection as a dense layer that works on a step when all of it has come out of the
        drain. It is done when the next has, so it waits for nothing, and nothing for it.
    passes, words : int
        P and C: a step is P passes of C cycles.
    work : int
        ``P C``, cycles in which a step occupies the array.
    groups : int
        Units that leave a lane per pass.
    drain : int
        D: cycles from the last column of a pass entering the array to its first h usable; with a
        projection, from the last column of a step.
    x_memories, h_memories : ColumnMemories
        x with beats of V columns, or of N where these are fewer: those of the bus.
    c_depth : int
        Words of a lane's memory of cell states.
    memory : int
        Cycles to read a word of x, h and c.
    bubble : int
        B.
    step : int
        ``P C + B``, cycles between the steps of a sequence in steady state, where its stream has
        the array to itself. The first step of a sequence follows the one before after ``P C``
        cycles, since it needs no h.
    round : int
        ``max(S P C, P C + B)``, cycles in which each of S busy streams makes a step.
    usable : int
        Cycles from the first column of a step entering the array to its last h being usable.
    first, emitted : int
        Cycles from the first column of a step entering the array to its first and its last h
        being written.
    latency : int
        Cycles from the last input beat of a step being taken, on an idle engine, to its last h
        being emitted.
    use : float
        Part of the multiplications that the array could do in a round and that are needed.
    tables : int
        Table units.
    multipliers : int
        All of the layer: the array's, one in each table unit, those of the state update, and the
        projection's.
    lanes : int
        Hidden states in a full beat.
    counts : tuple of int
        Hidden states in each beat of a step, empty ones included.
    drained : tuple of int
        The same of what comes out of the drain.
    draining : int
        Cycles from the first unit of a step leaving the drain to the last.

    Raises
    ------
    ValueError
        If the folding does not fit the layer, or the drain or the projection does not keep up.
    """

    inputs: int
    hidden: int
    folding: Folding
    pipeline: Pipeline = SHORT
    streams: int = 1
    lines: tuple[int, ...] = ()
    peepholes: bool = False
    projected: int | None = None

    def __post_init__(self) -> None:
        check_positive("LSTM", "inputs", self.inputs)
        check_positive("LSTM", "hidden", self.hidden)
        check_positive("LSTM", "streams", self.streams)
        f = self.folding
        if (self.projected is None) != (f.projection is None):
            raise ValueError(f"folding projection must be {'None' if f.projection else 'given'}, "
                             f"as the layer has {'none' if f.projection else 'one'}, not "
                             f"{f.projection}")
        if f.units > self.hidden:
            raise ValueError(f"folding units must be at most the {self.hidden} hidden units, "
                             f"not {f.units}")
        if f.columns > self.inputs + self.outputs:
            raise ValueError(f"folding columns must be at most the {self.inputs + self.outputs} "
                             f"columns of [x, h], not {f.columns}")
        if f.lanes > f.units:
            raise ValueError(f"folding lanes must be at most the {f.units} units, not {f.lanes}")
        if self.groups * f.interval > self.words:
            raise ValueError(f"the drain must take at most the {self.words} cycles of a pass, not "
                             f"{self.groups} units a lane at {f.interval} cycles each")
        if f.projection and (f.projection.rows > self.outputs
                             or f.projection.columns > self.hidden):
            raise ValueError(f"the projection's rows and columns must be at most the "
                             f"{self.outputs} by {self.hidden} of its matrix, not "
                             f"{f.projection.rows} by {f.projection.columns}")
        if self.projection and self.projection.work > self.work:
            raise ValueError(f"the projection must take at most the {self.work} cycles of a step, "
                             f"not {self.projection.passes} passes of {self.projection.words}")

    @property
    def outputs(self) -> int:
        return self.hidden if self.projected is None else self.projected

    @cached_property
    def projection(self) -> "DenseCycles | None":
        if self.projected is None or self.folding.projection is None:
            return None
        return DenseCycles(inputs=self.hidden, outputs=self.projected, pipeline=self.pipeline,
                           folding=self.folding.projection, streams=self.streams, direct=True)

    @property
    def passes(self) -> int:
        return ceil(self.hidden / self.folding.units)

    @property
    def words(self) -> int:
        return ceil((self.inputs + self.outputs) / self.folding.columns)

    @property
    def work(self) -> int:
        return self.passes * self.words

    @property
    def groups(self) -> int:
        return ceil(self.folding.units / self.folding.lanes)

    @property
    def timing(self) -> DrainTiming:
        return DrainTiming(self.folding.interval, self.pipeline, self.peepholes)

    @property
    def array_latency(self) -> int:
        return self.pipeline.array_latency(self.folding.columns)

    @property
    def x_memories(self) -> ColumnMemories:
        v = self.folding.columns
        return ColumnMemories(total=self.inputs, columns=v, beat=min(v, self.inputs),
                              streams=self.streams)

    @property
    def h_memories(self) -> ColumnMemories:
        f = self.folding
        return ColumnMemories(total=self.outputs, columns=f.columns,
                              offset=self.inputs % f.columns, beat=self.lanes, streams=self.streams)

    @property
    def c_depth(self) -> int:
        return self.streams << (self.passes * self.groups - 1).bit_length()

    @property
    def peephole_words(self) -> tuple[int, ...]:
        """Words of each of a lane's memories of peepholes: those of i and f, and that of o."""
        if not self.peepholes:
            return ()
        units = self.passes * self.groups
        return (2 * units, units) if self.timing.gate_tables == 1 else (units, units, units)

    def final_memories(self, state: str, directions: int = 1) -> ColumnMemories:
        """Of one direction's ``"h"`` or ``"c"`` in which sequences end, where it is given out."""
        total, beat = ((self.outputs, self.lanes) if state == "h"
                       else (self.hidden, self.folding.lanes))
        return ColumnMemories(total=total, columns=1, beat=beat, streams=self.streams // directions)

    @property
    def memory(self) -> int:
        deepest = max(self.x_memories.depth, self.h_memories.depth, self.c_depth)
        return self.pipeline.memory if deepest > SHALLOW else 1

    @property
    def drain(self) -> int:
        written = self._present(0) if self.projection else self._written
        return written + self.pipeline.feedback - 1

    @property
    def _written(self) -> int:
        """Cycles from the last column of a pass entering the array to its first unit drained."""
        # The sums, the hold chain, and the drain's own stages.
        return self.array_latency + 1 + self.timing.hidden

    def _after(self, unit: int) -> int:
        """Cycles from the last column of a step to that of a unit's pass, and on to its group."""
        f = self.folding
        of_pass, within = divmod(unit, f.units)
        return (of_pass + 1 - self.passes) * self.words + within // f.lanes * f.interval

    def _present(self, state: int) -> int:
        """Cycles from the last column of a step entering the array to an h being written."""
        if self.projection is None:
            return self._written + self._after(state)
        a_pass = state // self.projection.folding.rows
        return (self._written + self._after(self.hidden - 1) + self.projection.latency
                + (a_pass + 1) * self.projection.words)

    @cached_property
    def bubble(self) -> int:
        if self.projection:
            # In each pass it is the first that is wanted first.
            columns, words = self.folding.columns, self.projection.words
            late = self._present(0) + max(
                n * words - (self.inputs + first) // columns
                for n, first in enumerate(range(0, self.outputs, self.lanes)))
        else:
            # A unit of the pass before is usable C cycles earlier, and wanted at most C earlier.
            late = max(self._present(unit) - (self.inputs + unit) // self.folding.columns
                       for unit in range(max(0, self.hidden - self.folding.units), self.hidden))
        return max(0, late + self.pipeline.feedback - 2)

    @property
    def step(self) -> int:
        return self.work + self.bubble

    @property
    def round(self) -> int:
        return max(self.streams * self.work, self.step)

    @property
    def usable(self) -> int:
        return self.emitted + self.pipeline.feedback - 1

    @property
    def first(self) -> int:
        return self.work - 1 + self._present(0)

    @property
    def emitted(self) -> int:
        return self.work - 1 + self._present(self.outputs - 1)

    @property
    def latency(self) -> int:
        # A step that is complete is decided on, its x is read, and it enters; the output has a
        # register.
        return self.emitted + self.memory + 2

    @property
    def use(self) -> float:
        needed = 4 * self.hidden * (self.inputs + self.outputs) * self.streams
        return needed / (self.folding.multipliers * self.round)

    @property
    def tables(self) -> int:
        return self.folding.lanes * len(self.timing.used_tables(self.lines))

    @property
    def multipliers(self) -> int:
        return (self.folding.multipliers + self.tables
                + self.folding.lanes * self.timing.state_multipliers
                + (self.projection.multipliers if self.projection else 0))

    def count(self, a_pass: int, group: int) -> int:
        """Units that leave the array together."""
        f = self.folding
        return max(0, min(f.lanes, f.units - group * f.lanes,
                          self.hidden - a_pass * f.units - group * f.lanes))

    @property
    def drained(self) -> tuple[int, ...]:
        return tuple(self.count(a_pass, group) for a_pass in range(self.passes)
                     for group in range(self.groups))

    @property
    def draining(self) -> int:
        return self._after(self.hidden - 1) - self._after(0)

    @property
    def lanes(self) -> int:
        return self.folding.projection.rows if self.folding.projection else self.folding.lanes

    @property
    def counts(self) -> tuple[int, ...]:
        if self.projection is None:
            return self.drained
        return tuple(min(self.lanes, self.outputs - first)
                     for first in range(0, self.outputs, self.lanes))


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


def head_budget(layers: Sequence[LSTMCycles], *, every_step: bool, streams: int = 1) -> int:
    """Cycles that a head may take for a step, and no layer ever waits for it.

    Where it works on every step, it has to be done with one before the last layer wants the page of
    the step after next, and there may be no bubble between the three: a sequence begins without
    one. They are as far apart as a layer makes them that all behind it keep up with, bubbles
    included: behind one that does not keep up, steps queue. Where that is hardly more than
    ``HEAD_TURN``, no head is that quick.
    """
    if not every_step:
        return max(k.round for k in layers) // streams
    apart = max(k.work for n, k in enumerate(layers)
                if all(behind.step <= k.work for behind in layers[n + 1:]))
    return max(1, apart + layers[0].pipeline.feedback - HEAD_TURN)


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
