"""A unit on its way through a lane: the token that marks how far it is, and what it shares."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring

__all__ = ["LEAD", "Shared", "Token"]

LEAD = 2
"""Cycles from a token setting out to the first sums of its unit leaving the hold chain."""

Part = TypeVar("Part", bound=wiring.Component)


class Token:
    """Marks how far a unit has come: one bit for each cycle, and registers that travel with it.

    Parameters
    ----------
    m : Module
        Where the registers are made.
    bits : sequence of Value
        Bit ``LEAD + n``: a unit's first sums left the hold chain n cycles ago.
    interval : int
        Cycles between successive units, at least.
    """

    def __init__(self, m: Module, bits: Sequence[Value], interval: int) -> None:
        self._m = m
        self._bits = bits
        self._interval = interval

    def at(self, cycle: int) -> Value:
        """Whether a unit is so many cycles behind its first sums' leaving the hold chain."""
        return self._bits[LEAD + cycle]

    def carry(self, value: Value, present: int, wanted: int) -> Value:
        """Keep what is present in one cycle until another.

        A register holds for as long as the next unit is away, so a few reach far.
        """
        while present < wanted:
            register = Signal.like(value, name="carried", reset_less=True)
            with self._m.If(self.at(present)):
                self._m.d.sync += register.eq(value)
            value = register
            present += self._interval
        return value


class Shared(Generic[Part]):
    """A pipelined part that a unit uses at several distances: the uses, then the multiplexers.

    Parameters
    ----------
    part : Component
    ports : str
        Its inputs, in the order in which a use gives their values.

    Attributes
    ----------
    part : Component
    """

    def __init__(self, part: Part, *ports: str) -> None:
        self.part = part
        self._inputs = [getattr(part, port) for port in ports]
        self._uses: list[tuple[int, tuple[Any, ...]]] = []

    def use(self, cycle: int, *operands: Any) -> None:
        """Take operands in so many cycles behind a unit's first sums."""
        self._uses.append((cycle, operands))

    def connect(self, m: Module, token: Token, name: str) -> None:
        """Put the part into a module, with what its uses make of its inputs.

        The first one has them whenever no other use is due.
        """
        m.submodules[name] = self.part
        for n, (cycle, operands) in enumerate(self._uses):
            statements = [i.eq(operand) for i, operand in zip(self._inputs, operands, strict=True)]
            if n == 0:
                m.d.comb += statements
            else:
                with m.If(token.at(cycle)):
                    m.d.comb += statements
