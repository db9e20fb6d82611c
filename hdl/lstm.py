"""An LSTM layer: column buffers, MAC array and drain around one sequencer.

Where the layer has a projection, a dense engine stands between the drain and the buffer of h.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.bidirectional import QuantizedLayer
from golden.quantized import QuantizedLSTM
from hdl.buffer import Beat, ColumnBuffer, StepBuffer, of_stream, page_of, passed
from hdl.column_cycles import PAGES
from hdl.cycles import Folding, LSTMCycles
from hdl.dense import DenseEngine
from hdl.drain import Drain, Step
from hdl.mac import MacArray, Sequencer, banks, pack_weights
from hdl.pipeline import SHORT, Pipeline
from hdl.registers import delayed, free_places

__all__ = ["LSTMEngine"]

PROBES = ("probe_c_valid", "probe_c_data", "probe_c_stream",
          "probe_h_valid", "probe_h_data", "probe_h_stream")


class LSTMEngine(wiring.Component):
    """A folded LSTM layer.

    The columns of a step are x, then h in the order in which it was produced, V to a word. While
    the array sums up a pass, the one before drains; while the last pass drains, the array is at
    the x of the next step, or at the step of another stream. Hidden states are written to the page
    that the stream's next step reads.

    Parameters
    ----------
    layer : QuantizedLSTM or QuantizedBidirectional
        The two directions are streams, with weights of their own.
    folding : Folding
    counts : sequence of int
        Columns in each input beat of a step.
    every_step : bool
        Whether every step's h is emitted, or that of one step of each sequence only.
    first : bool
        Whether that is, in the reverse direction, the one which comes first, instead of the last.
    gathered : bool
        Whether what is behind takes sequences, of which it has room for ``PAGES`` at first, instead
        of steps.
    pipeline : Pipeline
    streams : int
        S, independent sequences that take turns; 1 where there are two directions.
    stateful : bool
        Whether its input says of a sequence whether the next one goes on from its state, and
        states can be set.
    whole : bool
        Whether sequences are buffered somewhere, so that there is ``ends``.
    tells : bool
        Whether its output says so, too, to a layer behind.
    reads : str
        Which states it gives out where a sequence has ended: some of ``"hc"``.

    Attributes
    ----------
    cycles : LSTMCycles
        The cycle model of this layer.

    Members
    -------
    i : In(stream.Signature(Beat))
        x, in order.
    o : Out(stream.Signature(Beat))
        h, in order; ``last`` is set with an only step, too. Never waits for ``ready``: a step that
        emits takes a page of the buffer behind beforehand, and there are ``PAGES`` for each stream.
    freed : Out(streams)
        A page of a stream in the input buffer is free again.
    freed_behind : In(streams)
        The same, of the buffer behind.
    final_h, final_c : Out(stream.Signature(Beat))
        The states after the last steps of sequences, in order, where these are given out. They
        never wait for ``ready`` either: a last step takes a page for them, too.
    freed_final : In(streams)
        The same, of these.
    set_h, set_c : In(stream.Signature(Beat))
        States to set, in the same beats as they come out, while no step is on its way. Always
        taken.
    set_end : In(streams)
        With the last of them or later: a stream's next step goes on from them.
    set_fresh : In(1)
        With it: but not so, it begins anew.
    done : Out(1)
        The last h of a step has been written.
    ends : Out(1)
        With it: the step is the last of its sequence, in the last direction.
    saturated : Out(4)
        Sticky, of z, u, c and h (see :mod:`golden.quantized`); with a projection Out(5), of z, u,
        c, m and h.
    probe_c_valid, probe_c_data, probe_c_stream, probe_h_valid, probe_h_data, probe_h_stream : Out
        As of :class:`hdl.drain.Drain`.
    probe_m_valid, probe_m_data, probe_m_stream : Out
        With a projection: what goes into it.
    """

    freed: Signal
    freed_behind: Signal

    def __init__(self, layer: QuantizedLayer, *, folding: Folding, counts: Sequence[int],
                 every_step: bool, first: bool = False, gathered: bool = False,
                 pipeline: Pipeline = SHORT, streams: int = 1, stateful: bool = False,
                 whole: bool = False, tells: bool = False, reads: str = ""):
        self._directions = layer.directions
        self._layer = layer.directions[0]
        self._every_step = every_step
        # The one step that the reverse direction emits is then the first that it reads.
        self._first = first and any(each.reverse for each in layer.directions)
        self._gathered = gathered
        self._stateful = stateful
        self._whole = whole
        self._reads = reads
        self._counts = tuple(counts)
        lines = layer.lines
        layer, streams = self._layer, streams * len(self._directions)
        self.cycles = LSTMCycles(inputs=layer.inputs, hidden=layer.hidden, folding=folding,
                                 pipeline=pipeline, streams=streams, lines=lines,
                                 peepholes=layer.peepholes is not None, projected=layer.projected)
        self._drain = Drain(self._directions, self.cycles, keeps=stateful,
                            reads_c="c" in reads)
        k, formats = self.cycles, layer.formats
        self._projection: DenseEngine | None = None
        self._probes = [name if layer.projection is None else name.replace("_h_", "_m_")
                        for name in PROBES]
        shapes = {name: getattr(self._drain, name).shape() for name in self._probes}
        states = {"h": Beat(formats.h.width, k.lanes, streams),
                  "c": Beat(formats.c.width, folding.lanes, streams)}
        if layer.projector and k.projection:
            # From the last unit of a step to the first of the one after the next, which goes to
            # the same page, at least.
            apart = 2 * k.work - k.draining
            self._projection = DenseEngine(
                layer.projector, folding=k.projection.folding, counts=k.drained,
                pipeline=pipeline, streams=streams, direct=True,
                keeps=tells,
                beside=[each.projector for each in self._directions[1:] if each.projector],
                prompt=apart < k.projection.work + 2)
            shapes |= {"probe_h_valid": unsigned(k.lanes),
                       "probe_h_data": unsigned(k.lanes * formats.h.width),
                       "probe_h_stream": shapes["probe_c_stream"]}
        super().__init__({
            "i": In(stream.Signature(Beat(formats.x.width, max(counts), streams, keeps=stateful))),
            "o": Out(stream.Signature(Beat(formats.h.width, k.lanes, streams, keeps=tells))),
            "freed": Out(streams),
            "freed_behind": In(streams),
            "saturated": Out(len(layer.saturating)),
            **{name: Out(shape) for name, shape in shapes.items()},
            **{f"final_{name}": Out(stream.Signature(beat))
               for name, beat in states.items() if name in reads},
            **({"freed_final": In(streams)} if reads else {}),
            **({f"set_{name}": In(stream.Signature(beat)) for name, beat in states.items()}
               if stateful else {}),
            **({"set_end": In(streams), "set_fresh": In(1), "done": Out(1)} if stateful else {}),
            **({"ends": Out(1)} if stateful and whole else {}),
        })

    @property
    def layer(self) -> QuantizedLSTM:
        """The first direction; the other has the same shapes and formats, but for its functions."""
        return self._layer

    @property
    def directions(self) -> tuple[QuantizedLSTM, ...]:
        return self._directions

    def _weights(self, layer: QuantizedLSTM) -> np.ndarray:
        """The words of a direction."""
        f = self.cycles.folding
        # Rows unit by unit, so that a unit's four sums stand together.
        w = np.concatenate([layer.w_x, layer.w_h], axis=1)
        w = w.reshape(4, layer.hidden, -1).transpose(1, 0, 2).reshape(4 * layer.hidden, -1)
        return pack_weights(w, rows=4 * f.units, columns=f.columns)

    def _array(self) -> MacArray:
        formats = self._layer.formats
        return MacArray(
            banks([self._weights(layer) for layer in self._directions]),
            weight_width=max(formats.w_x.width, formats.w_h.width),
            operand_width=max(formats.x.width, formats.h.width),
            width=max(layer.array.width for layer in self._directions),
            pipeline=self.cycles.pipeline)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        layer, k, columns = self._layer, self.cycles, self.cycles.folding.columns
        formats, streams = layer.formats, k.streams

        m.submodules.x_buffer = x = StepBuffer(
            width=formats.x.width, columns=columns, counts=self._counts, streams=streams,
            latency=k.memory, prompt=len(self._counts) + 1 > k.work, keeps=self._stateful)
        m.submodules.h_buffer = h = ColumnBuffer(
            width=formats.h.width, columns=columns, offset=layer.inputs % columns, counts=k.counts,
            streams=streams, latency=k.memory, forward=1 + k.memory - k.pipeline.feedback)
        m.submodules.sequencer = sequencer = Sequencer(
            passes=k.passes, words=k.words, bubble=k.bubble, streams=streams,
            alternate=len(self._directions) > 1)
        m.submodules.array = array = self._array()
        m.submodules.drain = drain = self._drain
        wiring.connect(m, wiring.flipped(self.i), x.i)

        # The next step of which streams begins a sequence: after reset and after the last step of
        # another whose state is not kept. Which of its two pages of h a stream's steps have last
        # written to: they take turns.
        fresh, half = Signal(streams, init=-1), Signal(streams)
        step, emit, first = self._decide(m, sequencer, x, fresh, half)
        stall = self._take_pages(m, sequencer, x, emit, first, fresh, half)
        forgets = of_stream(x.last, sequencer.stream)
        if self._stateful:
            forgets &= ~of_stream(x.keep, sequencer.stream)
        m.d.comb += [
            sequencer.ready.eq(x.ready),
            sequencer.stall.eq(stall),
            sequencer.free.eq(forgets),
            x.release.eq(sequencer.ended),
            self.freed.eq(sequencer.ended),
        ]
        entering = self._read_word(m, sequencer, x, h, step, half)
        m.d.comb += [
            drain.coming.eq(array.coming),
            drain.totals.eq(array.totals),
            drain.step.eq(delayed(m, entering, array.latency - 2)),
        ]
        if self._projection:
            self._connect_projection(m, self._projection, h)
        else:
            m.d.comb += [
                h.valid.eq(drain.valid),
                *passed(h.beat, drain.h),
                h.write_page.eq(page_of(drain.h.stream, drain.page)),
                self.saturated.eq(drain.saturated),
                *(getattr(self, name).eq(getattr(drain, name)) for name in PROBES),
            ]
            m.d.sync += [self.o.valid.eq(drain.valid & drain.emitted),
                         *passed(self.o.payload, drain.h)]
        if self._first:
            # What is emitted is an only one.
            m.d.sync += self.o.payload.last.eq(1)
        if self._stateful:
            self._set_states(m, h, fresh, half)
        if "h" in self._reads:
            m.d.sync += [self.final_h.valid.eq(h.valid & h.beat.last),
                         self.final_h.payload.eq(h.beat)]
        if "c" in self._reads:
            m.d.sync += [self.final_c.valid.eq((drain.c.count != 0) & drain.c.last),
                         self.final_c.payload.eq(drain.c)]
        return m

    def _decide(self, m: Module, sequencer: Sequencer, x: StepBuffer, fresh: Signal, half: Signal
                ) -> tuple[Any, Value, Value]:
        """What is known of a step with the decision on a word of it.

        Returns what it carries along, a `Step`, whether its h is to be emitted, and whether it is
        the first of its sequence, where that goes on from a state, too.
        """
        streams = self.cycles.streams
        last = of_stream(x.last, sequencer.stream)
        begins: Value = of_stream(fresh, sequencer.stream)
        first = begins
        if self._stateful and self._whole:
            starts = Signal(streams, init=-1)
            first = of_stream(starts, sequencer.stream)
            for n in range(streams):
                with m.If(sequencer.ended[n]):
                    m.d.sync += starts[n].eq(x.last[n])
        emit: Value = Const(1) if self._every_step else last
        if self._first:
            emit = Cat(first if layer.reverse else last for layer in self._directions
                       ).bit_select(sequencer.stream, 1)
        step = Signal(Step(streams, keeps=self._stateful))
        if self._stateful:
            m.d.comb += step.keep.eq(of_stream(x.keep, sequencer.stream))
        m.d.comb += [
            step.fresh.eq(begins),
            step.emit.eq(emit),
            step.last.eq(last),
            step.page.eq(~of_stream(half, sequencer.stream)),
            step.stream.eq(sequencer.stream),
        ]
        return step, emit, first

    def _take_pages(self, m: Module, sequencer: Sequencer, x: StepBuffer, emit: Value, first: Value,
                    fresh: Signal, half: Signal) -> Value:
        """Count the pages behind, and turn over those of h as a step ends.

        A page behind is taken with the pass whose units are the first to go there. Returns whether
        there is none for a word that takes one.
        """
        streams = self.cycles.streams
        takes = Signal()
        m.d.comb += takes.eq(sequencer.first_pass & sequencer.last & (
            first if self._gathered and self._every_step else emit))
        no_room = Signal(streams)
        over = x.last & ~x.keep if self._stateful else x.last
        for n in range(streams):
            self._count_pages(m, sequencer, n, takes, self.freed_behind, no_room)
            with m.If(sequencer.ended[n]):
                m.d.sync += [fresh[n].eq(over[n]), half[n].eq(~half[n])]
        stall = takes & of_stream(no_room, sequencer.stream)
        if self._reads:
            # A sequence's last step waits for one for its states, too.
            takes_final, no_room = Signal(), Signal(streams)
            m.d.comb += takes_final.eq(sequencer.first_pass & sequencer.last
                                       & of_stream(x.last, sequencer.stream))
            for n in range(streams):
                self._count_pages(m, sequencer, n, takes_final, self.freed_final, no_room, "_final")
            stall = stall | (takes_final & of_stream(no_room, sequencer.stream))
        return stall

    def _read_word(self, m: Module, sequencer: Sequencer, x: StepBuffer, h: ColumnBuffer, step: Any,
                   half: Signal) -> Any:
        """From the decision on a word to its operands; returns its step, as it enters the array.

        Words hold x, then one of both kinds where V does not divide N, then h.
        """
        k, array = self.cycles, m.submodules.array
        columns = k.folding.columns
        # The word in which h begins, and its place there.
        h_word, h_place = divmod(self._layer.inputs, columns)
        # The addresses of x and h, and when these have been read but for a cycle the word enters.
        wait = k.memory - 1
        address: Value = sequencer.address
        if len(self._directions) > 1:
            address = Cat(address, sequencer.stream)
        m.d.comb += array.address.eq(delayed(m, address, wait))
        only_x, mixed, masked = Signal(), Signal(), Signal()
        entering = Signal(step.shape(), reset_less=True)
        word_is_x, word_is_mixed = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            array.issue.eq(delayed(m, sequencer.issue, wait, reset=True)),
            array.last.eq(delayed(m, sequencer.last, wait)),
            x.address.eq(sequencer.word),
            x.read_page.eq(page_of(sequencer.stream, of_stream(x.page, sequencer.stream))),
            h.address.eq(sequencer.word - h_word),
            h.read_page.eq(page_of(sequencer.stream, of_stream(half, sequencer.stream))),
            word_is_x.eq(delayed(m, sequencer.word < h_word, wait)),
            word_is_mixed.eq(delayed(m, sequencer.word == h_word, wait)),
            entering.eq(delayed(m, step, wait)),
            only_x.eq(word_is_x), mixed.eq(word_is_mixed), masked.eq(entering.fresh),
        ]
        # A cycle later: the word.
        for v in range(columns):
            is_x = only_x | (mixed if v < h_place else 0)
            m.d.comb += array.operands[v].eq(Mux(is_x, x.data[v], Mux(masked, 0, h.data[v])))
        return entering

    def _set_states(self, m: Module, h: ColumnBuffer, fresh: Signal, half: Signal) -> None:
        """Let states be written as the drain would, and tell when a step's are complete."""
        streams, setting = self.cycles.streams, self.set_h.payload
        wiring.connect(m, wiring.flipped(self.set_c), self._drain.set_c)
        m.d.comb += [self.set_h.ready.eq(1), self.done.eq(h.filled & ~self.set_h.valid)]
        if self._whole:
            m.d.comb += self.ends.eq(h.beat.last & (h.beat.stream == streams - 1))
        with m.If(self.set_h.valid):
            m.d.comb += [
                h.valid.eq(1),
                h.beat.eq(setting),
                h.write_page.eq(page_of(setting.stream, of_stream(half, setting.stream))),
            ]
        for n in range(streams):
            with m.If(self.set_end[n]):
                m.d.sync += fresh[n].eq(self.set_fresh)

    def _connect_projection(self, m: Module, projection: DenseEngine, h: ColumnBuffer) -> None:
        """From the drain through the projection to the buffer of h and to the output."""
        drain, streams, beat = self._drain, self.cycles.streams, projection.o.payload
        m.submodules.projection = projection
        # A step's page and whether it is emitted follow from its stream and from where the sequence
        # ends, so that they need not be carried along.
        page = Signal(streams, init=-1)
        written = self.done if self._stateful else h.filled
        emitted: Value = Const(1) if self._every_step else beat.last
        if self._first:
            begins = Signal(streams, init=-1)
            for n in range(streams):
                with m.If(written & (beat.stream == n)):
                    m.d.sync += begins[n].eq(beat.last)
            emitted = Cat(begins[n] if layer.reverse else beat.last
                          for n, layer in enumerate(self._directions)).bit_select(beat.stream, 1)
        m.d.comb += [
            projection.i.valid.eq(drain.valid),
            *passed(projection.i.payload, drain.h),
            h.valid.eq(projection.o.valid),
            *passed(h.beat, beat),
            h.write_page.eq(page_of(beat.stream, of_stream(page, beat.stream))),
            self.saturated.eq(Cat(drain.saturated, projection.saturated)),
            *(getattr(self, name).eq(getattr(drain, name)) for name in self._probes),
            self.probe_h_valid.eq(Mux(projection.o.valid, (1 << beat.count) - 1, 0)),
            self.probe_h_data.eq(beat.data.as_value()),
            self.probe_h_stream.eq(beat.stream),
        ]
        for n in range(streams):
            with m.If(written & (beat.stream == n)):
                m.d.sync += page[n].eq(~page[n])
        m.d.sync += [self.o.valid.eq(projection.o.valid & emitted), self.o.payload.eq(beat)]

    def _count_pages(self, m: Module, sequencer: Sequencer, stream: int, takes: Value, freed: Value,
                     no_room: Signal, what: str = "") -> None:
        """Count one stream's pages, of which one is taken with a word that ``takes`` it."""
        taken = Signal(name=f"taken{what}{stream}")
        room = free_places(m, PAGES, taken=taken, freed=freed[stream],
                           name=f"room{what}{stream}")
        m.d.comb += [
            taken.eq(sequencer.issue & takes & (sequencer.stream == stream)),
            no_room[stream].eq(room == 0),
        ]
