"""The network as one component, with AXI4-Stream on both sides."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.quantized_network import QuantizedNetwork
from golden.state_name import place, tensors
from hdl.buffer import beat_counts
from hdl.column_cycles import PAGES, SHALLOW
from hdl.cycles import Folding, head_budget
from hdl.dense_cycles import DenseFolding
from hdl.entrance import Entrance, bus_bytes
from hdl.head import Head
from hdl.lstm import LSTMEngine
from hdl.pipeline import SHORT, Pipeline, check_positive
from hdl.sequence import SequenceBuffer
from hdl.sequence_cycles import links
from hdl.states import StateLoader, StateReader, Tensor

__all__ = ["LONGEST", "Network"]

LONGEST = 64
"""Steps of a sequence that is buffered, at most, where nobody says it."""


class Network(wiring.Component):
    """A quantised network.

    Parameters
    ----------
    network : QuantizedNetwork
    foldings : sequence of Folding
        One for each LSTM layer.
    head_folding : sequence of DenseFolding, or DenseFolding, or None
        One for each dense layer. By default the smallest that the last LSTM layer never waits for,
        in sequences of two steps and more (:func:`hdl.cycles.head_budget`).
    pipeline : Pipeline
        Of all layers.
    streams : int
        S, independent sequences that take turns; 1 where a layer reads from the end.
    longest : int
        Steps of a sequence, at most, where a layer reads from the end: then whole sequences are
        buffered.

    Attributes
    ----------
    engines : list of LSTMEngine
    buffers : list of SequenceBuffer or None
        Before each engine and before the head, where the order of the steps is not the same on
        both sides.
    behind : Head
        What is behind the last LSTM layer.
    head : tuple of DenseEngine
        The dense layers of it.
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
        Cycles from the last input beat of a step, on an idle network, to its first output beat;
        where sequences are buffered, of a sequence of one step.
    whole_latency : int
        The same to its last output beat.
    further : int
        Cycles that each further step of a sequence adds to the time from its first input to its
        last output: a step's, and where sequences are buffered, those of each part that waits for
        the whole of one.
    held : int or None
        Steps that it takes in while no output is taken, in sequences of one step, of which each
        stream has one in turn; None where sequences are buffered.

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
        Sticky: TLAST came within a step, TID changed within one or named no stream, a packet of
        states was wrong, or a sequence had more than ``longest`` steps. Its outputs are of no use
        then, those of the next are.

    Raises
    ------
    ValueError
        If there is not one folding for each layer, or a folding that does not fit.
    """

    def __init__(self, network: QuantizedNetwork, *, foldings: Sequence[Folding],
                 head_folding: Sequence[DenseFolding] | DenseFolding | None = None,
                 pipeline: Pipeline = SHORT, streams: int = 1, longest: int = LONGEST):
        if len(foldings) != len(network.layers):
            raise ValueError(f"foldings must be as many as LSTM layers, {len(network.layers)}, "
                             f"not {len(foldings)}")
        self._network = network
        self._streams = streams
        self.in_lanes = min(foldings[0].columns, network.inputs)
        counts = beat_counts(network.inputs, self.in_lanes)
        self._counts = counts
        self._longest, between = longest, links(network)
        if streams > 1 and any(link.gathered for link in between):
            raise ValueError(f"streams must be 1 where a layer reads from the end, not {streams}")
        check_positive("network", "longest", longest)

        def gathered(n: int, folding: Folding) -> SequenceBuffer | None:
            return SequenceBuffer(
                between[n], counts, columns=folding.columns, longest=longest, pipeline=pipeline,
                ) if between[n].gathered else None

        self.engines: list[LSTMEngine] = []
        self.buffers: list[SequenceBuffer | None] = []
        whole = any(link.gathered for link in between)
        for n, (layer, folding) in enumerate(zip(network.layers, foldings, strict=True)):
            buffer, behind = gathered(n, folding), between[n + 1]
            engine = LSTMEngine(
                layer, folding=folding, counts=buffer.cycles.counts if buffer else counts,
                every_step=not behind.single, first=behind.single and not network.final,
                gathered=behind.gathered, pipeline=pipeline, streams=streams,
                stateful=network.stateful, whole=whole, tells=between[n + 1].keeps,
                reads=tensors(network.states, n))
            self.buffers.append(buffer)
            self.engines.append(engine)
            counts = engine.cycles.counts
        buffer = gathered(len(foldings), foldings[-1])
        self.buffers.append(buffer)
        if isinstance(head_folding, DenseFolding):
            head_folding = (head_folding,)
        self.behind = Head(network, counts=buffer.cycles.counts if buffer else counts,
                           foldings=head_folding, pipeline=pipeline,
                           streams=streams, budget=head_budget(
                               [engine.cycles for engine in self.engines],
                               every_step=network.every_step and buffer is None,
                               streams=streams))
        self.head = self.behind.dense
        self.out_lanes = self.behind.lanes
        self.in_bytes = bus_bytes(network.x.width)
        self.out_bytes = bus_bytes(network.y.width)
        self.saturation = list(network.saturating)
        several = streams > 1
        self.reader = self._reader(pipeline) if network.states else None
        self.loader = StateLoader([tensor for name in network.known_states
                                   for tensor in self._tensors(name)],
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

    def _tensors(self, name: str) -> list[Tensor]:
        """One of the network's states, of each direction."""
        number, tensor = place(name)
        k = self.engines[number].cycles
        return [Tensor(name=part, width=self._network.state_format(name).width,
                       counts=k.counts if tensor == "h" else k.drained)
                for part in self._network.state_parts(name)]

    def _reader(self, pipeline: Pipeline) -> StateReader:
        deepest = max(engine.cycles.final_memories(tensor, len(engine.directions)).depth
                      for number, tensor in map(place, self._network.states)
                      for engine in [self.engines[number]])
        return StateReader([tensor for name in self._network.states
                            for tensor in self._tensors(name)],
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
        return self.behind.work if self._network.every_step else 0

    @property
    def longest(self) -> int | None:
        """Steps of a sequence, at most; None where any number may be."""
        return self._longest if self._gathered else None

    @property
    def _gathered(self) -> list[SequenceBuffer]:
        """The buffers of whole sequences."""
        return [buffer for buffer in self.buffers if buffer]

    @property
    def _paces(self) -> list[int]:
        """Cycles in which each engine, and then the head, makes a step of each stream."""
        return [*(engine.cycles.round for engine in self.engines),
                self._streams * self._head_cycles]

    @property
    def step(self) -> int:
        return max(*self._paces, *(buffer.cycles.work for buffer in self._gathered))

    @property
    def alone(self) -> int:
        if self._gathered:
            return self.step
        return max(self._head_cycles, *(engine.cycles.step for engine in self.engines))

    @property
    def work(self) -> int:
        return self._streams * max(self.behind.work,
                                   *(engine.cycles.work for engine in self.engines))

    @property
    def further(self) -> int:
        # Parts between two buffers of whole sequences work at the same time.
        cycles, group = [], [len(self._counts)] if self.buffers[0] else []
        for buffer, pace in zip(self.buffers, self._paces, strict=True):
            if buffer and buffer.cycles.longest > 1 and group:
                cycles.append(max(group))
                group = []
            group.append(max(pace, buffer.cycles.work if buffer else 0))
        return sum(cycles) + max(group)

    @property
    def latency(self) -> int:
        cycles = self.behind.latency
        for n, engine in enumerate(self.engines):
            buffer = self.buffers[n]
            beats = buffer.cycles.beats if buffer else 0
            # The second direction's step follows the first one's.
            cycles += engine.cycles.latency + max(engine.cycles.work, beats) * (
                len(engine.directions) - 1)
        return cycles + sum(buffer.cycles.latency + buffer.cycles.beats - 1
                            for buffer in self._gathered)

    @property
    def whole_latency(self) -> int:
        return self.latency + self.behind.whole_latency - self.behind.latency

    @property
    def held(self) -> int | None:
        if self._gathered:
            return None
        layers = len(self.engines)
        if self._network.states:
            # The first layer whose states are given out is ahead of the last such one by the pages
            # of a layer, at most: their packet has to be whole. What is between fills no further.
            numbers = [number for number, _ in map(place, self._network.states)]
            layers -= max(0, max(numbers) - min(numbers) - 1)
        return PAGES * self._streams * layers + self.behind.held

    def _gather(self, m: Module, n: int, source: Any, flags: list[Value]) -> Any:
        """Put in the buffer before a part, if it needs one; returns what the part takes."""
        buffer = self.buffers[n]
        if buffer is None:
            return source
        m.submodules[f"sequence{n}"] = buffer
        wiring.connect(m, source, buffer.i)
        if buffer.cycles.rounds:
            flags.append(buffer.saturated)
        return buffer.o

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.entrance = entrance = Entrance(
            width=self._network.x.width, counts=self._counts, streams=self._streams,
            stateful=self._network.stateful, longest=self.longest)
        if self.loader:
            m.d.comb += entrance.tuser.eq(self.s_axis_tuser)
            self._load(m, entrance, self.loader)
        m.d.comb += [
            entrance.tdata.eq(self.s_axis_tdata),
            entrance.tvalid.eq(self.s_axis_tvalid),
            self.s_axis_tready.eq(entrance.tready),
            entrance.tlast.eq(self.s_axis_tlast),
            self.malformed.eq(reduce(or_, (buffer.overlong for buffer in self._gathered),
                                     entrance.malformed if self.loader is None else
                                     entrance.malformed | self.loader.malformed)),
        ]
        source: Any = entrance.o
        flags: list[Value] = []
        for n, engine in enumerate(self.engines):
            source = self._gather(m, n, source, flags)
            m.submodules[f"lstm{n}"] = engine
            behind = self.buffers[n + 1] or [*self.engines, self.behind][n + 1]
            wiring.connect(m, source, engine.i)
            m.d.comb += engine.freed_behind.eq(behind.freed)
            source = engine.o
            flags.append(engine.saturated)
        source = self._gather(m, len(self.engines), source, flags)
        output = self.behind.place(m, source)
        m.d.comb += self.saturated.eq(Cat(*flags, *self.behind.saturated))

        if self.reader:
            self._read(m, self.reader)

        size = 8 * self.out_bytes
        beat = output.payload
        m.d.comb += [
            self.m_axis_tvalid.eq(output.valid),
            output.ready.eq(self.m_axis_tready),
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
        n = 0
        for name in self._network.states:
            number, tensor = place(name)
            engine = self.engines[number]
            ended, ways = getattr(engine, f"final_{tensor}"), len(engine.directions)
            if ways == 1:
                wiring.connect(m, ended, getattr(reader, f"i{n}"))
                m.d.comb += engine.freed_final.eq(reader.freed)
            else:
                # The directions are the engine's streams, and there are no others. A packet takes
                # a page of each.
                m.d.comb += engine.freed_final.eq(reader.freed.replicate(ways))
                for way in range(ways):
                    part = getattr(reader, f"i{n + way}")
                    m.d.comb += [
                        part.valid.eq(ended.valid & (ended.payload.stream == way)),
                        part.payload.data.eq(ended.payload.data),
                        part.payload.count.eq(ended.payload.count),
                        part.payload.last.eq(ended.payload.last),
                    ]
            n += ways
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

    def _load(self, m: Module, entrance: Entrance, loader: StateLoader) -> None:
        """States from their port to the engines."""
        m.submodules.loader = loader
        n = 0
        for name in self._network.known_states:
            number, tensor = place(name)
            engine = self.engines[number]
            taken, ways = getattr(engine, f"set_{tensor}"), len(engine.directions)
            if ways == 1:
                wiring.connect(m, getattr(loader, f"o{n}"), taken)
            else:
                one, other = (getattr(loader, f"o{n + way}") for way in range(ways))
                m.d.comb += [
                    taken.valid.eq(one.valid | other.valid),
                    taken.payload.stream.eq(other.valid),
                    *(taken.payload[part].eq(Mux(other.valid, other.payload[part],
                                                 one.payload[part]))
                      for part in ("data", "count", "last")),
                ]
            n += ways
        # Every step goes through all layers, and is over with the last h of the last one. Engines
        # hold two of each stream, and those that have left the array. Where sequences are buffered,
        # these are counted instead, each with one step at least; a buffer holds two of them, and
        # those whose words are in its queue.
        most = sum(2 * self._streams + 2 + (k.emitted + k.memory) // k.work
                   for k in (engine.cycles for engine in self.engines))
        most += sum(2 + buffer.cycles.queue for buffer in self.buffers[:-1] if buffer)
        on_the_way = Signal(range(most + 1))
        left: Value = self.engines[-1].done
        if self._gathered:
            left = left & self.engines[-1].ends
        m.d.sync += on_the_way.eq(on_the_way + entrance.entered - left)
        m.d.comb += [
            *(part.eq(value) for engine in self.engines for part, value in (
                (engine.set_end, loader.end.replicate(len(engine.directions))),
                (engine.set_fresh, loader.fresh))),
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
