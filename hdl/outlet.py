"""An outlet: hidden states as outputs, where no dense layer is behind them."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.fixed import SQ
from hdl.buffer import Beat, StepBuffer, of_stream, page_of
from hdl.mac import Sequencer
from hdl.pipeline import SHORT, Pipeline
from hdl.registers import delayed, free_places
from hdl.vector_cycles import OutletCycles

__all__ = ["Outlet"]


class Outlet(wiring.Component):
    """Sends the hidden states of a layer that does not wait, as beats that do.

    Parameters
    ----------
    x : SQ
        Their format.
    lanes : int
        Words in an output beat.
    counts : sequence of int
        Words in each input beat of a step.
    pipeline : Pipeline
    streams : int

    Attributes
    ----------
    cycles : OutletCycles

    Members
    -------
    i : In(stream.Signature(Beat))
        The hidden states, in order.
    freed : Out(streams)
        A page of a stream in the buffer is free again.
    o : Out(stream.Signature(Beat))
        The same, ``lanes`` in a beat. ``last`` marks the last beat of a sequence.
    """

    freed: Signal

    def __init__(self, x: SQ, *, lanes: int, counts: Sequence[int], pipeline: Pipeline = SHORT,
                 streams: int = 1):
        self._x = x
        self._counts = tuple(counts)
        self.cycles = OutletCycles(hidden=sum(counts), lanes=lanes, pipeline=pipeline,
                                   streams=streams)
        super().__init__({
            "i": In(stream.Signature(Beat(x.width, max(counts), streams))),
            "freed": Out(streams),
            "o": Out(stream.Signature(Beat(x.width, lanes, streams))),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        k = self.cycles
        m.submodules.x_buffer = x = StepBuffer(
            width=self._x.width, columns=k.lanes, counts=self._counts, streams=k.streams,
            latency=k.memory)
        m.submodules.sequencer = sequencer = Sequencer(passes=1, words=k.work, streams=k.streams)
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(
            width=self.o.payload.shape().size, depth=k.queue)
        wiring.connect(m, wiring.flipped(self.i), x.i)

        room = free_places(m, k.queue, taken=sequencer.issue, freed=queue.r_en & queue.r_rdy)
        m.d.comb += [
            sequencer.ready.eq(x.ready),
            sequencer.stall.eq(room == 0),
            x.release.eq(sequencer.ended),
            self.freed.eq(sequencer.ended),
        ]
        m.d.sync += [
            x.address.eq(sequencer.word),
            x.read_page.eq(page_of(sequencer.stream, of_stream(x.page, sequencer.stream))),
        ]
        marks: Value = Cat(sequencer.end, of_stream(x.last, sequencer.stream) & sequencer.end,
                           sequencer.stream)
        marks = delayed(m, marks, k.to_queue)
        outputs = Signal(self.o.payload.shape())
        m.d.sync += outputs.data.eq(x.data)
        rest = k.hidden - (k.work - 1) * k.lanes
        m.d.comb += [
            outputs.count.eq(Mux(marks[0], rest, k.lanes)),
            outputs.last.eq(marks[1]),
            outputs.stream.eq(marks[2:]),
            queue.w_data.eq(outputs),
            queue.w_en.eq(delayed(m, sequencer.issue, k.to_queue, reset=True)),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
        ]
        return m
