"""The drain: from the sums of a pass to new cell and hidden states, while the next pass runs.

Sums are handed over to the *hold chain*, which shifts them out: unit by unit, gate by gate. What
becomes of them in each lane, and when, :mod:`hdl.lane` has.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.quantized import QuantizedLSTM
from hdl.buffer import Beat
from hdl.cycles import LSTMCycles
from hdl.drain_timing import GATES
from hdl.lane import Lane, total_width
from hdl.lane_directions import differ
from hdl.token import LEAD, Token

__all__ = ["LEAD", "Drain", "Step"]


class Step(data.StructLayout):
    """What a step carries through array and drain.

    Members
    -------
    fresh : 1
        It is the first of its sequence.
    emit : 1
        Its h is to be emitted.
    last : 1
        It is the last of its sequence.
    page : 1
        The half of its stream's pages that its h goes to.
    stream : range(streams)
    keep : 1
        Where it is the last: its state is kept. Only where the machine can keep one.
    """

    def __init__(self, streams: int, *, keeps: bool = False):
        super().__init__({"fresh": 1, "emit": 1, "last": 1, "page": 1, "stream": range(streams),
                          **({"keep": 1} if keeps else {})})


class Drain(wiring.Component):
    """All lanes of the drain, with the hold chain and the control they share.

    Parameters
    ----------
    directions : sequence of QuantizedLSTM
        Those of the layer.
    cycles : LSTMCycles
    keeps : bool
        Whether steps and hidden states carry ``keep``, and cell states can be set.
    reads_c : bool
        Whether there is a member ``c``.

    Members
    -------
    coming : In(1)
        The sums of a pass are there in two cycles. Not again before ``groups * interval`` cycles.
    totals : In(ArrayLayout(signed, 4 * units))
        Then, and for that one cycle. The gates i, f, g, o of the first unit, then of the next:
        running totals (:class:`hdl.mac.MacArray`).
    step : In(Step)
        With ``coming``: the step they belong to.
    valid : Out(1)
        New hidden states come out.
    emitted : Out(1)
        They are to be emitted.
    page : Out(1)
        The half of the stream's pages in which they belong.
    h : Out(Beat)
        The hidden states of the next units, in order.
    c : Out(Beat)
        Likewise the cell states of the next units, as they come; without any, ``count`` is 0.
    set_c : In(stream.Signature(Beat))
        Cell states to set, in the same beats as they come out, while no step is on its way. Always
        taken.
    saturated : Out(4)
        Sticky: a preactivation, tanh argument, cell state or hidden state has saturated.
    probe_c_valid, probe_h_valid : Out(lanes)
        Which lanes have a new state of a unit in this cycle, for a test bench.
    probe_c_data, probe_h_data : Out
        The states, the first lane's lowest.
    probe_c_stream, probe_h_stream : Out(range(streams))
        Whose they are. With a projection, ``probe_m_*`` in place of ``probe_h_*``: the engine shows
        an h of its own, and a name that both had would not be unique in the Verilog.
    """

    def __init__(self, directions: Sequence[QuantizedLSTM], cycles: LSTMCycles, *,
                 keeps: bool = False, reads_c: bool = False):
        layer = directions[0]
        self._directions = directions
        self._width = total_width(directions)
        self._cycles = cycles
        self._keeps = keeps
        self._reads_c = reads_c
        formats, lanes, streams = layer.formats, cycles.folding.lanes, cycles.streams
        self._out = "probe_h" if layer.projection is None else "probe_m"
        super().__init__({
            "coming": In(1),
            "totals": In(data.ArrayLayout(signed(self._width), GATES * cycles.folding.units)),
            "step": In(Step(streams, keeps=keeps)),
            "valid": Out(1),
            "emitted": Out(1),
            "page": Out(1),
            "h": Out(Beat(formats.m.width, lanes, streams, keeps=keeps)),
            "saturated": Out(4),
            "probe_c_valid": Out(lanes),
            "probe_c_data": Out(unsigned(lanes * formats.c.width)),
            "probe_c_stream": Out(range(streams)),
            f"{self._out}_valid": Out(lanes),
            f"{self._out}_data": Out(unsigned(lanes * formats.m.width)),
            f"{self._out}_stream": Out(range(streams)),
            **({"c": Out(Beat(formats.c.width, lanes, streams))} if reads_c else {}),
            **({"set_c": In(stream.Signature(Beat(formats.c.width, lanes, streams)))}
               if keeps else {}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        k, t = self._cycles, self._cycles.timing
        lanes, groups = k.folding.lanes, k.groups

        # A unit sets out every ``interval`` cycles.
        left = Signal(range(groups))
        phase = Signal(range(t.interval))
        start = Signal()
        m.d.sync += [start.eq(0), phase.eq(phase + 1)]
        with m.If((left != 0) & (phase == t.interval - 1)):
            m.d.sync += [start.eq(1), phase.eq(0), left.eq(left - 1)]
        with m.If(self.coming):
            m.d.sync += [start.eq(1), phase.eq(0), left.eq(groups - 1)]
        step = Signal(self.step.shape(), reset_less=True)
        with m.If(self.coming):
            m.d.sync += step.eq(self.step)

        marks = Signal(LEAD + t.hidden)
        m.d.sync += marks.eq(Cat(start, marks))
        seconds: Value | None = None
        if differ(self._directions):
            # The step's stream stays as long as the next unit is away.
            passed = Signal(LEAD + t.hidden, reset_less=True)
            seconds = Cat(step.stream, passed)
            m.d.sync += passed.eq(seconds)
        token = Token(m, [start, *marks], t.interval)
        # These go to every bit of the hold chain, so they come straight out of registers.
        load, shift, move = Signal(), Signal(), Signal()
        loads, shifts = Signal(), Cat(token.at(slot - 1) for slot in range(t.slots)).any()
        m.d.sync += [loads.eq(self.coming), load.eq(loads), shift.eq(shifts),
                     move.eq(loads | shifts)]

        parts = []
        for lane in range(lanes):
            part = Lane(self._directions, k, lane, sets=self._keeps)
            m.submodules[f"lane{lane}"] = part
            parts.append(part)
            chain, before = self._hold(m, lane, load=load, shift=shift, move=move)
            m.d.comb += [part.token.eq(Cat(start, marks)), part.fresh.eq(step.fresh),
                         part.stream.eq(step.stream)]
            if seconds is not None:
                m.d.comb += part.second.eq(seconds)
            for n in range(t.gate_tables):
                m.d.comb += [part.totals[n].eq(chain[n]), part.before[n].eq(before[n])]

        c_count, h_count = (self._count(m, token, cycle) for cycle in (t.state, t.hidden))
        shown = getattr(self, f"{self._out}_valid")
        m.d.comb += [
            self.h.count.eq(h_count),
            self.h.last.eq(token.carry(step.last, -LEAD, t.hidden)),
            self.h.stream.eq(token.carry(step.stream, -LEAD, t.hidden)),
            self.valid.eq(h_count != 0),
            self.emitted.eq(token.carry(step.emit, -LEAD, t.hidden)),
            self.page.eq(token.carry(step.page, -LEAD, t.hidden)),
            self.probe_c_data.eq(Cat(part.c for part in parts)),
            self.probe_c_stream.eq(token.carry(step.stream, -LEAD, t.state)),
            getattr(self, f"{self._out}_data").eq(Cat(part.h for part in parts)),
            getattr(self, f"{self._out}_stream").eq(self.h.stream),
        ]
        if self._keeps:
            m.d.comb += self.h.keep.eq(token.carry(step.keep, -LEAD, t.hidden))
            self._set_states(m, parts)
        if self._reads_c:
            m.d.comb += [
                *(self.c.data[lane].eq(part.c) for lane, part in enumerate(parts)),
                self.c.count.eq(c_count),
                self.c.last.eq(token.carry(step.last, -LEAD, t.state)),
                self.c.stream.eq(self.probe_c_stream),
            ]
        for lane, part in enumerate(parts):
            m.d.comb += [
                self.h.data[lane].eq(part.h),
                self.probe_c_valid[lane].eq(lane < c_count),
                shown[lane].eq(lane < h_count),
            ]
        overflow = [part.overflow for part in parts]
        m.d.sync += self.saturated.eq(reduce(or_, overflow, self.saturated))
        return m

    def _hold(self, m: Module, lane: int, *, load: Signal, shift: Signal, move: Signal
              ) -> tuple[list[Signal], list[Signal]]:
        """The hold chain of a lane, and what was in it in the pass before.

        Sums are loaded side by side, unit by unit, and leave as many at a time as there are tables.
        """
        k, shape = self._cycles, signed(self._width)
        units, places, tables = k.folding.units, GATES * k.groups, k.timing.gate_tables
        chain = [Signal(shape, name=f"hold{lane}_{n}", reset_less=True) for n in range(places)]
        # What has left goes round to wait for the next pass.
        before = [Signal(shape, name=f"before{lane}_{n}") for n in range(places)]
        for n, register in enumerate(chain):
            within = n // GATES * k.folding.lanes + lane
            loaded = self.totals[within * GATES + n % GATES] if within < units else 0
            behind = n + tables
            follows = chain[behind] if behind < places else loaded
            with m.If(move):
                m.d.sync += register.eq(Mux(load, loaded, follows))
            with m.If(shift):
                m.d.sync += before[n].eq([*before, *chain][behind])
        return chain, before

    def _count(self, m: Module, token: Token, cycle: int) -> Signal:
        """Units in the beat that passes a distance: 0 where none does."""
        k, groups = self._cycles, self._cycles.groups
        # All passes but the last are alike. Looked up a cycle ahead, into a register.
        inner, final = ([k.count(a_pass, group) for group in range(groups)]
                        for a_pass in (0, k.passes - 1))
        group, a_pass = Signal(range(groups)), Signal(range(k.passes))
        before = token.at(cycle - 1)
        with m.If(before):
            m.d.sync += group.eq(group + 1)
            with m.If(group == groups - 1):
                m.d.sync += [group.eq(0), a_pass.eq(Mux(a_pass == k.passes - 1, 0, a_pass + 1))]
        units: Value = Array(inner)[group]
        if inner != final:
            units = Mux(a_pass == k.passes - 1, Array(final)[group], units)
        count = Signal(range(k.folding.lanes + 1), name=f"count_at_{cycle}")
        m.d.sync += count.eq(Mux(before, units, 0))
        return count

    def _set_states(self, m: Module, parts: Sequence[Lane]) -> None:
        """Let cell states be written, a beat of them at a time."""
        # Empty beats are the last of a step, and do not come.
        beats = sum(count > 0 for count in self._cycles.drained)
        index = Signal(range(beats))
        given = self.set_c.payload
        m.d.comb += self.set_c.ready.eq(1)
        with m.If(self.set_c.valid):
            m.d.sync += index.eq(Mux(index == beats - 1, 0, index + 1))
        for lane, part in enumerate(parts):
            m.d.comb += [
                part.set_en.eq(self.set_c.valid), part.set_index.eq(index),
                part.set_stream.eq(given.stream), part.set_c.eq(given.data[lane]),
            ]
