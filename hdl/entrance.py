"""Where beats of the bus become beats of columns."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.buffer import Beat

__all__ = ["Entrance", "bus_bytes"]


def bus_bytes(width: int) -> int:
    """Bytes that an element takes on the bus."""
    return -(-width // 8)


class Entrance(wiring.Component):
    """Turns bus beats into beats of columns, and closes steps that TLAST cuts short.

    A sequence ends with TLAST on the last beat of a step. Where TLAST comes on an earlier beat,
    the missing elements count as 0, the step is the last of its sequence, and ``malformed`` is
    set: the next sequence starts clean. The first beat of a step tells its stream. Where a later
    one tells another, ``malformed`` is set and the first holds; a step for a stream that there
    is not is taken, dropped, and sets ``malformed`` too.

    A beat passes in the cycle in which it is taken; those that are missing take a cycle each. With
    several streams, TREADY depends on TVALID and TID of the same cycle: it says whether there is
    room for that stream.

    Parameters
    ----------
    width : int
        Bits of an element; each takes whole bytes of the bus.
    counts : sequence of int
        Elements in each beat of a step.
    streams : int
    stateful : bool
        Whether TUSER says with TLAST if the state is kept. It is not where TLAST came too early.
    longest : int or None
        Steps of a sequence, at most, where whole ones are buffered; of a longer one, no state is
        kept.

    Members
    -------
    tdata, tvalid, tready, tlast, tid
        AXI4-Stream; TID is the number of the stream.
    o : Out(stream.Signature(Beat))
    malformed : Out(1)
        Whether something was, since the reset.
    tuser : In(1)
        In a stateful network, as all that follows.
    hold : In(1)
        No step begins, or no sequence where these are buffered.
    open : Out(streams)
        Which streams are amid a sequence.
    between : Out(1)
        Whether no step is being taken, or no sequence where these are buffered.
    entered : Out(1)
        Whether one is complete with this beat.
    """

    def __init__(self, *, width: int, counts: Sequence[int], streams: int, stateful: bool = False,
                 longest: int | None = None):
        self._width = width
        self._counts = tuple(counts)
        self._streams = streams
        self._stateful = stateful
        self._longest = longest
        lanes = max(counts)
        super().__init__({
            "tdata": In(8 * bus_bytes(width) * lanes),
            "tvalid": In(1),
            "tready": Out(1),
            "tlast": In(1),
            "tid": In(range(streams)),
            "o": Out(stream.Signature(Beat(width, lanes, streams, keeps=stateful))),
            "malformed": Out(1),
            **({"tuser": In(1), "hold": In(1), "open": Out(streams), "between": Out(1),
                "entered": Out(1)} if stateful else {}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        beats, lanes = len(self._counts), max(self._counts)
        size = 8 * bus_bytes(self._width)
        beat = Signal(range(beats))
        filling = Signal()
        # Registered ahead of the comparison.
        final = Signal(init=beats == 1)
        whose, stranger, wrong = Signal.like(self.tid), Signal(), Signal()
        first_whose = Signal.like(self.tid, reset_less=True)
        # TREADY depends on it, and TID may be anything while nothing is offered.
        told = Mux(self.tvalid, self.tid, 0) if self._streams > 1 else self.tid
        offered, ready = self.tvalid | filling, self.o.ready | stranger
        if self._stateful:
            held = Signal()
            m.d.comb += held.eq(self.hold & self.between)
            offered, ready = offered & ~held, ready & ~held
        m.d.comb += [
            whose.eq(Mux(beat == 0, told, first_whose)),
            stranger.eq(whose >= self._streams),
            wrong.eq(stranger | (whose != self.tid)),
            self.o.valid.eq(offered & ~stranger),
            self.tready.eq(ready & ~filling),
            self.o.payload.count.eq(Mux(final, self._counts[-1], lanes)),
            self.o.payload.last.eq(self.tlast | filling),
            self.o.payload.stream.eq(whose),
        ]
        m.d.comb += [self.o.payload.data[n].eq(Mux(
            filling, 0, self.tdata[n * size:n * size + self._width].as_signed()))
            for n in range(lanes)]
        if self._stateful:
            keep = self.tlast & self.tuser & ~filling
            between = (beat == 0) & ~filling
            entered = offered & ready & ~stranger & final
            if self._longest:
                # Steps of the sequence before this one.
                before = Signal(range(self._longest + 1))
                with m.If(entered):
                    m.d.sync += before.eq(Mux(self.o.payload.last, 0, before + (
                        before != self._longest)))
                keep = keep & (before != self._longest)
                between = between & ~self.open.any()
                entered = entered & self.o.payload.last
            m.d.comb += [
                self.o.payload.keep.eq(keep),
                self.between.eq(between),
                self.entered.eq(entered),
            ]
            for n in range(self._streams):
                with m.If(offered & ready & (whose == n)):
                    m.d.sync += self.open[n].eq(~(final & (self.tlast | filling)))
        with m.If(offered & ready):
            m.d.sync += [beat.eq(Mux(final, 0, beat + 1)), first_whose.eq(whose)]
            if beats > 1:
                m.d.sync += final.eq(beat == beats - 2)
            with m.If(~filling & wrong):
                m.d.sync += self.malformed.eq(1)
            if beats > 1:
                with m.If(final):
                    m.d.sync += filling.eq(0)
                with m.Elif(self.tlast & ~filling):
                    m.d.sync += [filling.eq(1), self.malformed.eq(1)]
        return m
