"""The largest of the codes of a step, and its index, from the beats in which they come."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.argmax import ArgMax
from hdl.buffer import Beat
from hdl.vector_cycles import ArgMaxCycles

__all__ = ["ArgMaxEngine", "Largest"]


class Largest(wiring.Component):
    """The largest code of each step: a tree over a beat, a register behind each level, then a place
    for the largest so far.

    Parameters
    ----------
    width : int
        Bits of a code.
    counts : sequence of int
        Codes in each beat of a step. All but the last are full.
    streams : int

    Members
    -------
    enable : In(1)
        Go on by a cycle.
    valid : In(1)
        A beat comes in, and goes in with ``enable``.
    beat : In(Beat)
    done : Out(1)
        The last beat of a step has gone through, so many enabled cycles after it came as the tree
        has levels, and one.
    value : Out(signed(width))
        The largest then.
    index : Out
        Which one it is, the first of several.
    last : Out(1)
    stream : Out(range(streams))
        As of the step's last beat.
    """

    def __init__(self, *, width: int, counts: Sequence[int], streams: int):
        self._counts = tuple(counts)
        self._width = width
        super().__init__({
            "enable": In(1),
            "valid": In(1),
            "beat": In(Beat(width, max(counts), streams)),
            "done": Out(1),
            "value": Out(signed(width)),
            "index": Out(range(sum(counts))),
            "last": Out(1),
            "stream": Out(range(streams)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        beats, lanes = len(self._counts), max(self._counts)

        def register(value: Value, *, reset: bool = False) -> Value:
            later = Signal.like(value, name="level", reset_less=not reset)
            with m.If(self.enable):
                m.d.sync += later.eq(value)
            return later

        # Which beat of the step it is.
        base, first = Signal.like(self.index, name="base"), Signal(init=1)
        final = Signal(init=beats == 1)
        number = Signal(range(beats))
        with m.If(self.enable & self.valid):
            m.d.sync += [first.eq(final), number.eq(Mux(final, 0, number + 1)),
                         base.eq(Mux(final, 0, base + lanes))]
            if beats > 1:
                m.d.sync += final.eq(number == beats - 2)

        # A place without a code stands behind those with one, and is never larger.
        least = -(1 << self._width - 1)
        entries: list[tuple[Value, Value]] = [
            (self.beat.data[n] if n < self._counts[-1] else
             Mux(final, Const(least, signed(self._width)), self.beat.data[n]),
             Const(n, range(lanes))) for n in range(lanes)]
        valid: Value = self.valid
        marks: list[Value] = [base, first, final, self.beat.last, self.beat.stream]
        while len(entries) > 1:
            level: list[tuple[Value, Value]] = []
            for n in range(0, len(entries), 2):
                value, index = entries[n]
                if n + 1 < len(entries):
                    other, its = entries[n + 1]
                    larger = other > value
                    value, index = Mux(larger, other, value), Mux(larger, its, index)
                named = Signal(signed(self._width), name="larger")
                m.d.comb += named.eq(value)
                level.append((register(named), register(index)))
            entries = level
            valid, marks = register(valid, reset=True), [register(mark) for mark in marks]
        from_here, begins, ends, last, whose = marks
        (value, index), = entries
        with m.If(self.enable):
            m.d.sync += self.done.eq(valid & ends)
            with m.If(valid):
                m.d.sync += [self.last.eq(last), self.stream.eq(whose)]
                with m.If(begins | (value > self.value)):
                    m.d.sync += [self.value.eq(value), self.index.eq(from_here + index)]
        return m


class ArgMaxEngine(wiring.Component):
    """The index of the largest output of each step.

    Parameters
    ----------
    unit : ArgMax
    counts : sequence of int
        Codes in each beat of a step.
    streams : int

    Attributes
    ----------
    cycles : ArgMaxCycles

    Members
    -------
    i : In(stream.Signature(Beat))
        The codes.
    o : Out(stream.Signature(Beat))
        The index, one beat a step.
    """

    def __init__(self, unit: ArgMax, *, counts: Sequence[int], streams: int = 1):
        self._counts = tuple(counts)
        self._streams = streams
        self.unit = unit
        self.cycles = ArgMaxCycles(unit=unit, rows=max(counts))
        super().__init__({
            "i": In(stream.Signature(Beat(unit.x.width, max(counts), streams))),
            "o": Out(stream.Signature(Beat(unit.y.width, 1, streams))),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.largest = largest = Largest(
            width=self.unit.x.width, counts=self._counts, streams=self._streams)
        m.d.comb += [
            # All stands while an index has not been taken.
            largest.enable.eq(~largest.done | self.o.ready),
            self.i.ready.eq(largest.enable),
            largest.valid.eq(self.i.valid),
            largest.beat.eq(self.i.payload),
            self.o.valid.eq(largest.done),
            self.o.payload.data[0].eq(largest.index),
            self.o.payload.count.eq(1),
            self.o.payload.last.eq(largest.last),
            self.o.payload.stream.eq(largest.stream),
        ]
        return m
