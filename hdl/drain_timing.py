"""When each operation of the drain (:mod:`hdl.drain`) happens, and what tables it takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from hdl.pipeline import SHORT, Pipeline

__all__ = ["CANDIDATE", "GATES", "DrainTiming"]

GATES = 4
"""i, f, g, o."""

CANDIDATE = 2
"""The gate that is a tanh: its preactivation has a fraction bit more."""


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
