"""The cycle model: how a layer is folded onto its multipliers, and how long it takes, to the cycle.

Plain arithmetic without hardware. The components read their structure from the same objects, so
the model and the machine cannot drift apart, and tests hold it against the simulation.

An LSTM layer of N inputs and H hidden units on U units and V columns takes ``P = ceil(H / U)``
passes of ``C = ceil((N + H) / V)`` cycles a time step. What the passes leave behind *drains*
through the activations and the state update while the next pass runs; only where the recurrence
needs a hidden state that has not come out yet is there a *bubble* of B cycles before a step.
Several independent *streams* of sequences fill each other's bubbles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from hdl.column_cycles import SHALLOW, ColumnMemories
from hdl.dense_cycles import DenseCycles, DenseFolding
from hdl.drain_timing import DrainTiming
from hdl.pipeline import SHORT, Pipeline, check_positive

__all__ = ["BLOCK_WORDS", "Folding", "LSTMCycles", "head_budget"]

BLOCK_WORDS = 16
"""Words of biases from which on they are in a block RAM; fewer are cheaper in lookup tables."""

HEAD_TURN = 4
"""Cycles from the last h of a step being present to the head working on the step."""


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
