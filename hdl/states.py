"""The states of a network at its ports: those in which sequences end go out, others come in.

They travel in packets, an element a beat. What is given out lies in pages of its own, two for each
stream, as what goes from layer to layer does: while one is being sent, the next sequence may end.
Who takes no packets stops the network in the last step of a sequence, and loses nothing.

What comes in goes where the drain writes, h into the page that the next step reads, c into the
lanes' memories. So it is taken only while no step is on its way, and nothing has to be arbitrated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.buffer import Beat, StepBuffer, of_stream, page_of
from hdl.bus import Bus
from hdl.column_cycles import ColumnMemories
from hdl.dense_cycles import QUEUE_LATENCY
from hdl.mac import Sequencer
from hdl.registers import delayed, free_places

__all__ = ["StateLoader", "StateReader", "Tensor", "state_bus"]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A state, as its layer writes it.

    Parameters
    ----------
    name : str
        ``lstm0.h`` for one.
    width : int
        Bits of an element, signed.
    counts : tuple of int
        Elements in each beat, empty ones included.
    """

    name: str
    width: int
    counts: tuple[int, ...]

    @property
    def elements(self) -> int:
        return sum(self.counts)


def state_bus(tensors: Sequence[Tensor]) -> Bus:
    """How states travel: one element a beat, all with the same number of bytes."""
    return Bus(elements=sum(each.elements for each in tensors), lanes=1,
               bytes=-(-max(each.width for each in tensors) // 8))


class StateReader(wiring.Component):
    """Holds the states in which sequences have ended, and sends them.

    A packet goes out when all its states are there, those of a stream in the order in which its
    sequences end. Streams take turns.

    Parameters
    ----------
    tensors : sequence of Tensor
        In the order in which they are sent.
    streams : int
    latency : int
        Cycles to read an element, 1 or 2.

    Attributes
    ----------
    bus : Bus
    latency : int
        Cycles from the last h of a step being shown to the first element of its packet, where this
        is the last of its states.
    memories : dict
        Bits of its memories, by name: ``pages``, the states, and ``queue``.

    Members
    -------
    i0, i1, ... : In(stream.Signature(Beat))
        The final states, one input for each tensor. They are always taken: who sends them has taken
        a page beforehand.
    freed : Out(streams)
        A page of a stream is free again.
    o : Out(stream.Signature(...))
        ``data``, an element; ``last``, it is the last of a packet; ``stream``, whose it is.
    """

    freed: Signal

    def __init__(self, tensors: Sequence[Tensor], *, streams: int, latency: int = 1):
        self._tensors = tuple(tensors)
        self._streams = streams
        self._memory = latency
        self.bus = state_bus(self._tensors)
        self._width = max(each.width for each in self._tensors)
        super().__init__({
            **{f"i{n}": In(stream.Signature(Beat(each.width, max(each.counts), streams)))
               for n, each in enumerate(self._tensors)},
            "freed": Out(streams),
            "o": Out(stream.Signature(Beat(self._width, 1, streams))),
        })

    @property
    def latency(self) -> int:
        # It arrives, is known to be complete, is decided on and read, and goes through the queue.
        return 2 + self._wait + 2

    @property
    def memories(self) -> dict[str, int]:
        pages = 0
        for each in self._tensors:
            store = ColumnMemories(total=each.elements, columns=1, beat=max(each.counts),
                                   streams=self._streams)
            pages += store.count * store.depth * each.width
        # One word less, since the last is in the register of the memory's output.
        word = self._width + 1 + (self._streams - 1).bit_length()
        return {"pages": pages, "queue": (self._depth - 1) * word}

    @property
    def _depth(self) -> int:
        """Elements in the queue: enough for one a cycle."""
        return self._wait + QUEUE_LATENCY + 1

    @property
    def _wait(self) -> int:
        """Cycles from the decision on an element to the element."""
        return 1 + self._memory

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        elements = self.bus.elements
        m.submodules.sequencer = sequencer = Sequencer(
            passes=1, words=elements, streams=self._streams)
        depth = self._depth
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(
            width=self._width + 1 + len(sequencer.stream), depth=depth)
        room = free_places(m, depth, taken=sequencer.issue, freed=queue.r_en & queue.r_rdy)

        ready: Value = Const(0)
        found: Value = Const(0)
        first = 0
        for n, each in enumerate(self._tensors):
            m.submodules[f"page{n}"] = page = StepBuffer(
                width=each.width, columns=1, counts=each.counts, streams=self._streams,
                latency=self._memory)
            wiring.connect(m, wiring.flipped(getattr(self, f"i{n}")), page.i)
            m.d.comb += page.release.eq(sequencer.ended)
            m.d.sync += [
                page.address.eq(sequencer.word - first),
                page.read_page.eq(page_of(sequencer.stream,
                                          of_stream(page.page, sequencer.stream))),
            ]
            # The states before end where this one begins.
            begun = delayed(m, sequencer.word >= first, self._wait)
            found = Mux(begun, page.data[0], found) if n else page.data[0]
            ready = ready & page.ready if n else page.ready
            first += each.elements
        element = Signal(signed(self._width))
        # In no hurry, on the way to the engines.
        m.d.sync += self.freed.eq(sequencer.ended)
        given, taken = self.o.payload, Signal(self._width + 1 + len(sequencer.stream))
        m.d.comb += [
            element.eq(found),
            sequencer.ready.eq(ready),
            sequencer.stall.eq(room == 0),
            queue.w_en.eq(delayed(m, sequencer.issue, self._wait, reset=True)),
            queue.w_data.eq(Cat(element,
                                delayed(m, Cat(sequencer.end, sequencer.stream), self._wait))),
            taken.eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
            given.data[0].eq(taken[:self._width].as_signed()),
            given.count.eq(1),
            given.last.eq(taken[self._width]),
            given.stream.eq(taken[self._width + 1:]),
        ]
        return m


class StateLoader(wiring.Component):
    """Takes packets of states, and writes them as a drain would.

    A packet is wrong where it has more or fewer elements, or where TID changes within. What a short
    one lacks is written as zeros, what a long one has too much is dropped; its stream then begins
    anew, as after a reset. A packet for a stream that there is not is dropped. All of that sets
    ``malformed``.

    Parameters
    ----------
    tensors : sequence of Tensor
        In the order in which they come.
    streams : int

    Attributes
    ----------
    bus : Bus

    Members
    -------
    tdata, tvalid, tready, tlast, tid
        The packets.
    open : In(streams)
        A sequence of a stream has begun and not ended: its packet has to wait.
    idle : In(1)
        No step is on its way.
    hold : Out(1)
        None may begin.
    o0, o1, ... : Out(stream.Signature(Beat))
        Beats of each tensor, always taken.
    end : Out(streams)
        All of a stream's packet has been written with this cycle.
    fresh : Out(1)
        With it: the stream begins anew all the same.
    malformed : Out(1)
        Sticky.
    """

    def __init__(self, tensors: Sequence[Tensor], *, streams: int):
        self._tensors = tuple(tensors)
        self._streams = streams
        self.bus = state_bus(self._tensors)
        self._width = max(each.width for each in self._tensors)
        super().__init__({
            "tdata": In(self.bus.width),
            "tvalid": In(1),
            "tready": Out(1),
            "tlast": In(1),
            "tid": In(range(streams)),
            "open": In(streams),
            "idle": In(1),
            "hold": Out(1),
            **{f"o{n}": Out(stream.Signature(Beat(each.width, max(each.counts), streams)))
               for n, each in enumerate(self._tensors)},
            "end": Out(streams),
            "fresh": Out(1),
            "malformed": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        elements, lanes = self.bus.elements, max(max(each.counts) for each in self._tensors)
        # Within a packet, its last beat has come, all elements have; and what is wrong with it.
        busy, closed, full = Signal(), Signal(), Signal()
        wrong, whose = Signal(), Signal.like(self.tid)
        wanted, taken, over = Signal(), Signal(), Signal()
        number = Signal(range(elements))
        final = number == elements - 1
        stranger = whose >= self._streams
        m.d.sync += wanted.eq(self.tvalid & ((self.tid >= self._streams)
                                             | ~of_stream(self.open, self.tid)))
        m.d.comb += [
            self.hold.eq(wanted | busy),
            self.tready.eq((busy & ~closed) | (~busy & wanted & self.idle)),
            taken.eq(self.tvalid & self.tready),
            over.eq(closed & full),
        ]
        # Element by element; zeros where they are missing.
        goes = (taken | closed) & ~full
        with m.If(taken):
            m.d.sync += [busy.eq(1), closed.eq(self.tlast)]
            with m.If(full | (self.tlast != final) | (busy & (self.tid != whose))):
                m.d.sync += wrong.eq(1)
            with m.If(~busy):
                m.d.sync += whose.eq(self.tid)
        with m.If(goes):
            m.d.sync += [number.eq(Mux(final, 0, number + 1)), full.eq(final)]
        m.d.comb += [
            self.end.eq(Mux(over, 1 << whose, 0)),
            self.fresh.eq(wrong),
        ]
        with m.If(over):
            m.d.sync += [busy.eq(0), closed.eq(0), full.eq(0), wrong.eq(0),
                         self.malformed.eq(self.malformed | wrong | stranger)]

        # A cycle later: what is known of the element by its number, and the beat that it ends.
        element = Signal(signed(self._width), reset_less=True)
        ends, strobe = Signal(reset_less=True), Signal()
        m.d.sync += [
            strobe.eq(goes),
            element.eq(Mux(closed, 0, self.tdata[:self._width].as_signed())),
            ends.eq(_last_of_beats(self._tensors).bit_select(number, 1)),
        ]
        lane = Signal(range(lanes))
        with m.If(strobe):
            m.d.sync += lane.eq(Mux(ends, 0, lane + 1))
        collected: list[Value] = []
        for n in range(lanes):
            held = Signal(signed(self._width), name=f"held{n}", reset_less=True)
            with m.If(strobe & (lane == n)):
                m.d.sync += held.eq(element)
            collected.append(Mux(lane == n, element, held) if lanes > 1 else element)
        first = 0
        for n, each in enumerate(self._tensors):
            o = getattr(self, f"o{n}")
            here = Signal(name=f"here{n}", reset_less=True)
            m.d.sync += here.eq((number >= first) & (number < first + each.elements))
            m.d.comb += [
                o.valid.eq(strobe & ends & here & ~stranger),
                *(o.payload.data[k].eq(collected[k][:each.width])
                  for k in range(max(each.counts))),
                o.payload.count.eq(lane + 1),
                o.payload.stream.eq(whose),
            ]
            first += each.elements
        return m


def _last_of_beats(tensors: Sequence[Tensor]) -> Const:
    """For each element whether it is the last of a beat."""
    ends = [lane == count - 1 for each in tensors for count in each.counts
            for lane in range(count)]
    return Const(sum(end << n for n, end in enumerate(ends)), len(ends))
