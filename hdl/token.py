"""A unit on its way through a lane: the token that marks how far it is, and what it shares."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Signal, Value

__all__ = ["LEAD", "Shared", "Token"]

LEAD = 2
"""Cycles from a token setting out to the first sums of its unit leaving the hold chain."""


class Token:
    """Marks how far a unit has come: one bit for each cycle, and registers that travel with it."""

    def __init__(self, m: Module, bits: Sequence[Value], interval: int):
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


class Shared:
    """A pipelined unit used at several distances from a token: the uses, then the multiplexers."""

    def __init__(self) -> None:
        self.uses: list[tuple[int, tuple[Any, ...]]] = []

    def use(self, cycle: int, *operands: Any) -> None:
        self.uses.append((cycle, operands))

    def connect(self, m: Module, token: Token, inputs: Sequence[Signal]) -> None:
        for n, (cycle, operands) in enumerate(self.uses):
            statements = [i.eq(operand) for i, operand in zip(inputs, operands, strict=True)]
            if n == 0:
                m.d.comb += statements
            else:
                with m.If(token.at(cycle)):
                    m.d.comb += statements
