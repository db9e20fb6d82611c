"""The cycle model: how a layer is folded onto its multipliers, and how long it takes, to the cycle.

Plain arithmetic without hardware. The components read their structure from the same objects, so
the model and the machine cannot drift apart, and tests hold it against the simulation.

An LSTM layer of N inputs and H hidden units on U units and V columns takes ``P = ceil(H / U)``
passes of ``C = ceil((N + H) / V)`` cycles a time step. What the passes leave behind *drains*
through the activations and the state update while the next pass runs; only where the recurrence
needs a hidden state that has not come out yet is there a *bubble* of B cycles before a step.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import count
from math import ceil, log2

__all__ = ["DenseFolding", "DrainTiming", "Folding", "LSTMCycles", "array_latency",
           "choose_dense_folding"]

# Latencies in cycles from a signal being present to the result being present.
TABLE_LATENCY = 5
MULTIPLIER_LATENCY = 2


def array_latency(columns: int) -> int:
    """Cycles from the issue of a pass's last column to its complete sums.

    One each for the memories, the operand registers and the product, and one for each level of
    the adder tree over the columns.
    """
    return 3 + ceil(log2(columns))


def _positive(owner: str, name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{owner} {name} must be a positive integer, not {value!r}")


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

    Attributes
    ----------
    gate_tables : int
        Table units for the gates and the candidate: 4, 2 or 1.
    slots : int
        Cycles in which sums leave the hold chain, ``4 / gate_tables``.
    preactivation : tuple of int
        When the preactivations of i, f, g, o enter a table.
    gate : tuple of int
        When i, f, g, o are present.
    forget_product, input_product : int
        When the operands of f c and of i g enter a multiplier.
    state : int
        When c' and the argument of its tanh are present; c' is written, u enters a table.
    squashed : int
        When tanh(c') is present and o tanh(c') enters a multiplier.
    hidden : int
        When h is present, and written.
    shared_table : bool
        Whether tanh(c') uses the gates' table.
    state_multipliers : int
        Multipliers for f c, i g and o tanh(c').
    """

    interval: int

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
    def preactivation(self) -> tuple[int, ...]:
        # Out of the chain, bias added, rounded.
        return tuple(3 + self.slot(gate) for gate in range(4))

    @property
    def gate(self) -> tuple[int, ...]:
        return tuple(t + TABLE_LATENCY for t in self.preactivation)

    @property
    def forget_product(self) -> int:
        return self.gate[1]

    @property
    def input_product(self) -> int:
        return max(self.gate[0], self.gate[2])

    @property
    def state(self) -> int:
        # The exact sum, then its two roundings side by side.
        return self.input_product + MULTIPLIER_LATENCY + 2

    @property
    def squashed(self) -> int:
        return self.state + TABLE_LATENCY

    @property
    def hidden(self) -> int:
        return self.squashed + MULTIPLIER_LATENCY + 1

    @property
    def shared_table(self) -> bool:
        return self.interval > self.state - self.preactivation[0]

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
        return self.gate_tables + (not self.shared_table)

    @property
    def state_multipliers(self) -> int:
        return (1 if self.shared_product else 2) + (not self.shared_multiplier)


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
    """

    units: int
    columns: int
    lanes: int
    interval: int

    def __post_init__(self) -> None:
        for name in ("units", "columns", "lanes", "interval"):
            _positive("folding", name, getattr(self, name))

    @classmethod
    def choose(cls, inputs: int, hidden: int, *, units: int, columns: int) -> "Folding":
        """The folding with the smallest drain that keeps up with the array."""
        words = ceil((inputs + hidden) / columns)
        serial = next(interval for interval in count(4)
                      if DrainTiming(interval).shared_table
                      and DrainTiming(interval).shared_multiplier)
        for interval in (serial, 4, 2):
            if units * interval <= words:
                return cls(units=units, columns=columns, lanes=1, interval=interval)
        return cls(units=units, columns=columns, lanes=ceil(units / words), interval=1)

    @property
    def multipliers(self) -> int:
        """Lanes of the MAC array."""
        return 4 * self.units * self.columns


@dataclass(frozen=True, kw_only=True)
class LSTMCycles:
    """The cycles of an LSTM layer.

    Parameters
    ----------
    inputs, hidden : int
        N and H.
    folding : Folding

    Attributes
    ----------
    passes, words : int
        P and C: a step is P passes of C cycles.
    groups : int
        Units that leave a lane per pass.
    drain : int
        D: cycles from the last column of a pass entering the array to its first h usable.
    bubble : int
        B.
    step : int
        ``P C + B``, cycles of a time step in steady state.
    emitted : int
        Cycles from the first column of a step entering the array to its last h being written.
    counts : tuple of int
        Units in each beat of h that a step emits, empty ones included.

    Raises
    ------
    ValueError
        If the folding does not fit the layer, or the drain does not keep up.
    """

    inputs: int
    hidden: int
    folding: Folding

    def __post_init__(self) -> None:
        _positive("LSTM", "inputs", self.inputs)
        _positive("LSTM", "hidden", self.hidden)
        f = self.folding
        if f.units > self.hidden:
            raise ValueError(f"folding units must be at most the {self.hidden} hidden units, "
                             f"not {f.units}")
        if f.columns > self.inputs + self.hidden:
            raise ValueError(f"folding columns must be at most the {self.inputs + self.hidden} "
                             f"columns of [x, h], not {f.columns}")
        if f.lanes > f.units:
            raise ValueError(f"folding lanes must be at most the {f.units} units, not {f.lanes}")
        if self.groups * f.interval > self.words:
            raise ValueError(f"the drain must take at most the {self.words} cycles of a pass, not "
                             f"{self.groups} units a lane at {f.interval} cycles each")

    @property
    def passes(self) -> int:
        return ceil(self.hidden / self.folding.units)

    @property
    def words(self) -> int:
        return ceil((self.inputs + self.hidden) / self.folding.columns)

    @property
    def groups(self) -> int:
        return ceil(self.folding.units / self.folding.lanes)

    @property
    def timing(self) -> DrainTiming:
        return DrainTiming(self.folding.interval)

    @property
    def drain(self) -> int:
        # The sums, the hold chain, the drain's own stages, and h readable after its write.
        return array_latency(self.folding.columns) + 1 + self.timing.hidden + 1

    def _ready(self, unit: int) -> int:
        """Cycles from the end of a step's columns to a unit's h being usable."""
        f = self.folding
        of_pass, within = divmod(unit, f.units)
        return ((of_pass + 1 - self.passes) * self.words - 1 + self.drain
                + within // f.lanes * f.interval)

    @cached_property
    def bubble(self) -> int:
        return max(0, max(self._ready(unit) - (self.inputs + unit) // self.folding.columns
                          for unit in range(self.hidden)))

    @property
    def step(self) -> int:
        return self.passes * self.words + self.bubble

    @property
    def emitted(self) -> int:
        return self.passes * self.words + self._ready(self.hidden - 1) - 1

    @property
    def counts(self) -> tuple[int, ...]:
        f = self.folding
        return tuple(max(0, min(f.lanes, f.units - group * f.lanes,
                                self.hidden - a_pass * f.units - group * f.lanes))
                     for a_pass in range(self.passes) for group in range(self.groups))


@dataclass(frozen=True, kw_only=True)
class DenseFolding:
    """How a dense layer is folded: ``rows`` outputs by ``columns`` inputs in parallel."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            _positive("folding", name, getattr(self, name))


def choose_dense_folding(inputs: int, outputs: int, budget: int) -> DenseFolding:
    """The dense layer with the fewest multipliers that takes at most ``budget`` cycles."""
    best = DenseFolding(rows=outputs, columns=inputs)
    for rows in range(1, outputs + 1):
        passes = ceil(outputs / rows)
        words = budget // passes
        if words < 1:
            continue
        columns = ceil(inputs / min(words, inputs))
        if rows * columns < best.rows * best.columns:
            best = DenseFolding(rows=rows, columns=columns)
    return best
