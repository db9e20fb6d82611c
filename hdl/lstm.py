"""An LSTM layer: column buffers, MAC array and drain around one sequencer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.quantized import QuantizedLSTM
from hdl.buffer import Beat, ColumnBuffer, StepBuffer
from hdl.cycles import Folding, LSTMCycles
from hdl.drain import Drain
from hdl.mac import MacArray, Sequencer, pack_weights

__all__ = ["LSTMEngine"]

# Steps that a buffer downstream holds.
PAGES = 2


class LSTMEngine(wiring.Component):
    """A folded LSTM layer.

    The columns of a step are x, then h in the order in which it was produced, V to a word. While
    the array sums up a pass, the one before drains; while the last pass drains, the array is at
    the x of the next step. Hidden states are written to the page that the next step reads.

    Parameters
    ----------
    layer : QuantizedLSTM
    folding : Folding
    counts : sequence of int
        Columns in each input beat of a step.
    every_step : bool
        Whether every step's h is emitted, or that of each sequence's last step only.

    Attributes
    ----------
    cycles : LSTMCycles
        The cycle model of this layer.

    Members
    -------
    i : In(stream.Signature(Beat))
        x, in order.
    o : Out(stream.Signature(Beat))
        h, in order. Never waits for ``ready``: a step that emits takes a page of the buffer
        behind beforehand, and there are ``PAGES``.
    freed : Out(1)
        A page of the input buffer is free again.
    freed_behind : In(1)
        The same, of the buffer behind.
    saturated : Out(4)
        Sticky, of z, u, c and h (see :mod:`golden.quantized`).
    probe_c_valid, probe_c_data, probe_h_valid, probe_h_data : Out
        As of :class:`hdl.drain.Drain`.
    """

    freed: Signal
    freed_behind: Signal

    def __init__(self, layer: QuantizedLSTM, *, folding: Folding, counts: Sequence[int],
                 every_step: bool):
        self._layer = layer
        self._every_step = every_step
        self._counts = tuple(counts)
        self.cycles = LSTMCycles(inputs=layer.inputs, hidden=layer.hidden, folding=folding)
        self._drain = Drain(layer, self.cycles)
        formats = layer.formats
        super().__init__({
            "i": In(stream.Signature(Beat(formats.x.width, max(counts)))),
            "o": Out(stream.Signature(Beat(formats.h.width, folding.lanes))),
            "freed": Out(1),
            "freed_behind": In(1),
            "saturated": Out(4),
            "probe_c_valid": Out(folding.lanes),
            "probe_c_data": Out(unsigned(folding.lanes * formats.c.width)),
            "probe_h_valid": Out(folding.lanes),
            "probe_h_data": Out(unsigned(folding.lanes * formats.h.width)),
        })

    @property
    def layer(self) -> QuantizedLSTM:
        return self._layer

    def _array(self) -> MacArray:
        layer, f = self._layer, self.cycles.folding
        # Rows by unit and within it by gate, so that a unit's four sums stand together.
        w = np.concatenate([layer.w_x, layer.w_h], axis=1)
        w = w.reshape(4, layer.hidden, -1).transpose(1, 0, 2).reshape(4 * layer.hidden, -1)
        formats = layer.formats
        return MacArray(
            pack_weights(w, rows=4 * f.units, columns=f.columns),
            weight_width=max(formats.w_x.width, formats.w_h.width),
            operand_width=max(formats.x.width, formats.h.width), width=layer.array.width)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        layer, k, columns = self._layer, self.cycles, self.cycles.folding.columns
        formats = layer.formats
        # The word in which h begins, and its place there.
        h_word, h_place = divmod(layer.inputs, columns)

        m.submodules.x_buffer = x = StepBuffer(
            width=formats.x.width, columns=columns, counts=self._counts)
        m.submodules.h_buffer = h = ColumnBuffer(
            width=formats.h.width, columns=columns, offset=h_place, counts=k.counts, write_page=1)
        m.submodules.sequencer = sequencer = Sequencer(passes=k.passes, words=k.words,
                                                       bubble=k.bubble)
        m.submodules.array = array = self._array()
        m.submodules.drain = drain = self._drain
        wiring.connect(m, wiring.flipped(self.i), x.i)

        # A sequence begins after reset and after the last step of another.
        fresh = Signal(init=1)
        end = sequencer.issue & sequencer.end
        with m.If(end):
            m.d.sync += fresh.eq(x.last)

        # A page behind is taken with the pass whose units are the first to go there.
        emit = Const(1) if self._every_step else x.last
        room = Signal(range(PAGES + 1), init=PAGES)
        takes = sequencer.first_pass & sequencer.last & emit
        m.d.sync += room.eq(room + self.freed_behind - (sequencer.issue & takes))
        m.d.comb += [
            sequencer.go.eq(x.ready),
            sequencer.stall.eq(takes & (room == 0)),
            x.address.eq(sequencer.word),
            h.address.eq(sequencer.word - h_word),
            x.release.eq(end),
            h.release.eq(end),
            self.freed.eq(end),
        ]

        # Words hold x, then one of both kinds where V does not divide N, then h.
        only_x, mixed, masked = Signal(), Signal(), Signal()
        m.d.sync += [only_x.eq(sequencer.word < h_word), mixed.eq(sequencer.word == h_word),
                     masked.eq(fresh)]
        for v in range(columns):
            is_x = only_x | (mixed if v < h_place else 0)
            m.d.comb += array.operands[v].eq(Mux(is_x, x.data[v], Mux(masked, 0, h.data[v])))
        m.d.comb += [
            array.issue.eq(sequencer.issue),
            array.last.eq(sequencer.last),
            array.address.eq(sequencer.address),
        ]

        flags: Value = Cat(fresh, emit, x.last)
        for _ in range(array.latency):
            delayed = Signal.like(flags, reset_less=True)
            m.d.sync += delayed.eq(flags)
            flags = delayed
        m.d.comb += [
            drain.load.eq(array.done),
            drain.sums.eq(array.sums),
            Cat(drain.fresh, drain.emit, drain.last).eq(flags),
            h.valid.eq(drain.valid),
            h.beat.eq(drain.h),
            self.o.valid.eq(drain.valid & drain.emitted),
            self.o.payload.eq(drain.h),
            self.saturated.eq(drain.saturated),
            self.probe_c_valid.eq(drain.probe_c_valid),
            self.probe_c_data.eq(drain.probe_c_data),
            self.probe_h_valid.eq(drain.probe_h_valid),
            self.probe_h_data.eq(drain.probe_h_data),
        ]
        return m
