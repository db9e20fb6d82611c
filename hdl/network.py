"""The network as one component, with AXI4-Stream on both sides."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.quantized_network import QuantizedNetwork
from hdl.buffer import Beat, beat_counts
from hdl.cycles import (
    SHALLOW,
    SHORT,
    DenseFolding,
    Folding,
    Pipeline,
    choose_dense_folding,
    head_budget,
)
from hdl.dense import DenseEngine
from hdl.lstm import LSTMEngine
from hdl.states import StateLoader, StateReader, Tensor

__all__ = ["Network"]


def _bus_bytes(width: int) -> int:
    """Bytes that an element takes on the bus."""
    return -(-width // 8)


class _Entrance(wiring.Component):
    """Turns bus beats into beats of columns, and closes steps that TLAST cuts short.

    A sequence ends with TLAST on the last beat of a step. Where TLAST comes on an earlier beat,
    the missing elements count as 0, the step is the last of its sequence, and ``malformed`` is
    set: the next sequence starts clean. The first beat of a step tells its stream. Where a later
    one tells another, ``malformed`` is set and the first holds; a step for a stream that there
    is not is taken, dropped, and sets ``malformed`` too.

    In a stateful network TUSER says with TLAST whether the state is kept. It is not where TLAST
    came too early. With ``hold`` no step begins. ``open`` tells which streams are amid a sequence,
    ``between`` that no step is being taken, and ``entered`` that one is complete.
    """

    def __init__(self, *, width: int, counts: Sequence[int], streams: int, stateful: bool = False):
        self._width = width
        self._counts = tuple(counts)
        self._streams = streams
        self._stateful = stateful
        lanes = max(counts)
        super().__init__({
            "tdata": In(8 * _bus_bytes(width) * lanes),
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
        size = 8 * _bus_bytes(self._width)
        beat = Signal(range(beats))
        filling = Signal()
        # Registered ahead of the comparison.
        final = Signal(init=beats == 1)
        whose, stranger, wrong = Signal.like(self.tid), Signal(), Signal()
        first_whose = Signal.like(self.tid, reset_less=True)
        offered, ready = self.tvalid | filling, self.o.ready | stranger
        if self._stateful:
            held = Signal()
            m.d.comb += held.eq(self.hold & self.between)
            offered, ready = offered & ~held, ready & ~held
        m.d.comb += [
            whose.eq(Mux(beat == 0, self.tid, first_whose)),
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
            m.d.comb += [
                self.o.payload.keep.eq(self.tlast & self.tuser & ~filling),
                self.between.eq((beat == 0) & ~filling),
                self.entered.eq(offered & ready & ~stranger & final),
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


class Network(wiring.Component):
    """A quantised network.

    Parameters
    ----------
    network : QuantizedNetwork
    foldings : sequence of Folding
        One for each LSTM layer.
    head_folding : DenseFolding or None
        By default the smallest head that the last LSTM layer never waits for, in sequences of two
        steps and more (:func:`hdl.cycles.head_budget`).
    pipeline : Pipeline
        Of all layers.
    streams : int
        S, independent sequences that take turns.

    Attributes
    ----------
    engines : list of LSTMEngine
    head : DenseEngine
    reader : StateReader or None
        What gives out final states, where there are any.
    loader : StateLoader or None
        What sets states, in a stateful network.
    in_lanes, out_lanes : int
        Elements in a bus beat.
    in_bytes, out_bytes : int
        Bytes of an element on the bus: the lowest bits hold the code, the others its sign.
    saturation : list of str
        The tensors of the bits of ``saturated``.
    step : int
        Cycles in which each stream makes a time step in steady state, in sequences of some length:
        a head that is slower sets the pace where each step has an output, or each sequence one
        step.
    alone : int
        The same where one stream is busy and the others are not.
    work : int
        The least that it can be: where every sequence has one step, which waits for none before
        it, as far as the pages of the buffers allow.
    latency : int
        Cycles from the last input beat of a step, on an idle network, to its first output beat.
    whole_latency : int
        The same to its last output beat.

    Members
    -------
    s_axis_tdata, s_axis_tvalid, s_axis_tready, s_axis_tlast
        Input: a step is ``ceil(N / in_lanes)`` beats, and TLAST ends a sequence.
    m_axis_tdata, m_axis_tvalid, m_axis_tready, m_axis_tlast
        Output, likewise.
    s_axis_tid, m_axis_tid
        The stream of a beat, where there are several. The beats of a step come together. A beat
        whose stream has no room holds up those behind it.
    s_axis_tuser : In(1)
        In a stateful network, looked at with TLAST: the next sequence of the stream goes on from
        the state in which this one ends.
    m_state_axis_tdata, m_state_axis_tvalid, m_state_axis_tready, m_state_axis_tlast
        Where final states are outputs: a packet for each sequence, an element a beat, with TID
        ``m_state_axis_tid`` where there are several streams.
    s_state_axis_tdata, s_state_axis_tvalid, s_state_axis_tready, s_state_axis_tlast
        In a stateful network, a packet of the states of all layers with which the next sequence of
        a stream begins; with ``s_state_axis_tid``. It is taken between two sequences of its stream,
        as soon as no step is on its way. Until then, and to its end, none can begin.
    saturated : Out
        Sticky flags, one for each tensor that is rounded.
    malformed : Out(1)
        Sticky: TLAST came within a step, or TID changed within one or named no stream.

    Raises
    ------
    ValueError
        If there is not one folding for each layer, no head, or a folding that does not fit.
    """

    def __init__(self, network: QuantizedNetwork, *, foldings: Sequence[Folding],
                 head_folding: DenseFolding | None = None, pipeline: Pipeline = SHORT,
                 streams: int = 1):
        if len(foldings) != len(network.layers):
            raise ValueError(f"foldings must be as many as LSTM layers, {len(network.layers)}, "
                             f"not {len(foldings)}")
        if network.head is None:
            raise ValueError("network head must be a dense layer, not None")
        self._network = network
        self._streams = streams
        self.in_lanes = min(foldings[0].columns, network.inputs)
        counts = beat_counts(network.inputs, self.in_lanes)
        self._counts = counts
        self.engines = []
        for n, (layer, folding) in enumerate(zip(network.layers, foldings, strict=True)):
            engine = LSTMEngine(layer, folding=folding, counts=counts,
                                every_step=network.every_step or n < len(foldings) - 1,
                                pipeline=pipeline, streams=streams, stateful=network.stateful,
                                tells=network.stateful and n < len(foldings) - 1,
                                reads="".join(name[-1] for name in network.states
                                              if name[:-2] == f"lstm{n}"))
            self.engines.append(engine)
            counts = engine.cycles.counts
        if head_folding is None:
            head_folding = choose_dense_folding(
                network.head.inputs, network.head.outputs,
                head_budget([engine.cycles for engine in self.engines],
                            every_step=network.every_step))
        self.head = DenseEngine(network.head, folding=head_folding, counts=counts,
                                pipeline=pipeline, streams=streams)
        self.out_lanes = head_folding.rows
        self.in_bytes = _bus_bytes(network.x.width)
        self.out_bytes = _bus_bytes(network.y.width)
        self.saturation = [f"lstm{n}.{tensor}" for n in range(len(self.engines))
                           for tensor in ("z", "u", "c", "h")] + ["dense.y"]
        several = streams > 1
        self.reader = self._reader(pipeline) if network.states else None
        self.loader = StateLoader([self._tensor(name) for name in network.known_states],
                                  streams=streams) if network.stateful else None
        super().__init__({
            "s_axis_tdata": In(8 * self.in_bytes * self.in_lanes),
            "s_axis_tvalid": In(1),
            "s_axis_tready": Out(1),
            "s_axis_tlast": In(1),
            **({"s_axis_tid": In(range(streams))} if several else {}),
            **({"s_axis_tuser": In(1)} if network.stateful else {}),
            "m_axis_tdata": Out(8 * self.out_bytes * self.out_lanes),
            "m_axis_tvalid": Out(1),
            "m_axis_tready": In(1),
            "m_axis_tlast": Out(1),
            **({"m_axis_tid": Out(range(streams))} if several else {}),
            **({
                "m_state_axis_tdata": Out(self.reader.bus.width),
                "m_state_axis_tvalid": Out(1),
                "m_state_axis_tready": In(1),
                "m_state_axis_tlast": Out(1),
                **({"m_state_axis_tid": Out(range(streams))} if several else {}),
            } if self.reader else {}),
            **({
                "s_state_axis_tdata": In(self.loader.bus.width),
                "s_state_axis_tvalid": In(1),
                "s_state_axis_tready": Out(1),
                "s_state_axis_tlast": In(1),
                **({"s_state_axis_tid": In(range(streams))} if several else {}),
            } if self.loader else {}),
            "saturated": Out(len(self.saturation)),
            "malformed": Out(1),
        })

    def _tensor(self, name: str) -> Tensor:
        """One of the network's states."""
        return Tensor(name=name, width=self._network.state_format(name).width,
                      counts=self.engines[int(name[4:-2])].cycles.counts)

    def _reader(self, pipeline: Pipeline) -> StateReader:
        deepest = max(self.engines[int(name[4:-2])].cycles.final_memories.depth
                      for name in self._network.states)
        return StateReader([self._tensor(name) for name in self._network.states],
                           streams=self._streams,
                           latency=pipeline.memory if deepest > SHALLOW else 1)

    @property
    def network(self) -> QuantizedNetwork:
        return self._network

    @property
    def streams(self) -> int:
        return self._streams

    @property
    def _head_cycles(self) -> int:
        return self.head.cycles.work if self._network.every_step else 0

    @property
    def step(self) -> int:
        return max(self._streams * self._head_cycles,
                   *(engine.cycles.round for engine in self.engines))

    @property
    def alone(self) -> int:
        return max(self._head_cycles, *(engine.cycles.step for engine in self.engines))

    @property
    def work(self) -> int:
        return self._streams * max(self.head.cycles.work,
                                   *(engine.cycles.work for engine in self.engines))

    @property
    def latency(self) -> int:
        # A first output beat needs one pass.
        return (sum(engine.cycles.latency for engine in self.engines)
                + self.head.cycles.words + self.head.cycles.latency)

    @property
    def whole_latency(self) -> int:
        return self.latency + self.head.cycles.work - self.head.cycles.words

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.entrance = entrance = _Entrance(
            width=self._network.x.width, counts=self._counts, streams=self._streams,
            stateful=self._network.stateful)
        if self.loader:
            m.d.comb += entrance.tuser.eq(self.s_axis_tuser)
            self._load(m, entrance, self.loader)
        m.d.comb += [
            entrance.tdata.eq(self.s_axis_tdata),
            entrance.tvalid.eq(self.s_axis_tvalid),
            self.s_axis_tready.eq(entrance.tready),
            entrance.tlast.eq(self.s_axis_tlast),
            self.malformed.eq(entrance.malformed if self.loader is None else
                              entrance.malformed | self.loader.malformed),
        ]
        source = entrance.o
        for n, engine in enumerate(self.engines):
            m.submodules[f"lstm{n}"] = engine
            behind = self.engines[n + 1] if n + 1 < len(self.engines) else self.head
            wiring.connect(m, source, engine.i)
            m.d.comb += engine.freed_behind.eq(behind.freed)
            source = engine.o
        m.submodules.dense = self.head
        wiring.connect(m, source, self.head.i)
        m.d.comb += self.saturated.eq(Cat(*(engine.saturated for engine in self.engines),
                                          self.head.saturated))

        if self.reader:
            self._read(m, self.reader)

        size = 8 * self.out_bytes
        beat = self.head.o.payload
        m.d.comb += [
            self.m_axis_tvalid.eq(self.head.o.valid),
            self.head.o.ready.eq(self.m_axis_tready),
            self.m_axis_tlast.eq(beat.last),
        ]
        if self._streams > 1:
            m.d.comb += [entrance.tid.eq(self.s_axis_tid), self.m_axis_tid.eq(beat.stream)]
        for n in range(self.out_lanes):
            element = Signal(signed(size), name=f"element{n}")
            m.d.comb += [
                element.eq(Mux(n < beat.count, beat.data[n], 0)),
                self.m_axis_tdata[n * size:(n + 1) * size].eq(element),
            ]
        return m

    def _read(self, m: Module, reader: StateReader) -> None:
        """Final states to their port."""
        m.submodules.states = reader
        for n, name in enumerate(self._network.states):
            engine = self.engines[int(name[4:-2])]
            wiring.connect(m, getattr(engine, f"final_{name[-1]}"), getattr(reader, f"i{n}"))
            m.d.comb += engine.freed_final.eq(reader.freed)
        beat, element = reader.o.payload, Signal(signed(reader.bus.width), name="state_element")
        m.d.comb += [
            element.eq(beat.data[0]),
            self.m_state_axis_tdata.eq(element),
            self.m_state_axis_tvalid.eq(reader.o.valid),
            reader.o.ready.eq(self.m_state_axis_tready),
            self.m_state_axis_tlast.eq(beat.last),
        ]
        if self._streams > 1:
            m.d.comb += self.m_state_axis_tid.eq(beat.stream)

    def _load(self, m: Module, entrance: _Entrance, loader: StateLoader) -> None:
        """States from their port to the engines."""
        m.submodules.loader = loader
        for n, name in enumerate(self._network.known_states):
            engine = self.engines[int(name[4:-2])]
            wiring.connect(m, getattr(loader, f"o{n}"), getattr(engine, f"set_{name[-1]}"))
        # Every step goes through all layers, and is over with the last h of the last one. Engines
        # hold two of each stream, and those that have left the array.
        most = sum(2 * self._streams + 2 + (k.emitted + k.memory) // k.work
                   for k in (engine.cycles for engine in self.engines))
        on_the_way = Signal(range(most + 1))
        m.d.sync += on_the_way.eq(on_the_way + entrance.entered - self.engines[-1].done)
        m.d.comb += [
            *(part.eq(value) for engine in self.engines
              for part, value in ((engine.set_end, loader.end), (engine.set_fresh, loader.fresh))),
            entrance.hold.eq(loader.hold),
            loader.open.eq(entrance.open),
            loader.idle.eq((on_the_way == 0) & entrance.between),
            loader.tdata.eq(self.s_state_axis_tdata),
            loader.tvalid.eq(self.s_state_axis_tvalid),
            self.s_state_axis_tready.eq(loader.tready),
            loader.tlast.eq(self.s_state_axis_tlast),
        ]
        if self._streams > 1:
            m.d.comb += loader.tid.eq(self.s_state_axis_tid)
