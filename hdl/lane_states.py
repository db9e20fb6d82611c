"""The states of a lane's units (:mod:`hdl.lane`): from gates to the cell state, and what it shows.

Each method adds one part and gives what the next ones take; the distances at which all of it
happens are those of :class:`hdl.drain_timing.DrainTiming`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed

from golden.fixed import Format
from golden.quantized import QuantizedLSTM
from hdl.drain_timing import CANDIDATE, GATES
from hdl.lane_parts import LaneParts
from hdl.mac import bias_memory
from hdl.ram import RAM
from hdl.registers import delayed
from hdl.rounding import floor_to_even, half, limited, rounded, saturated
from hdl.scaling import line
from hdl.table import TableUnit
from hdl.token import LEAD

__all__ = ["CellState", "LaneStates", "NewCellState"]


@dataclass(frozen=True, eq=False)
class CellState:
    """The cell state before a step.

    Parameters
    ----------
    at : int
        When it is there.
    now : Value
        0, or what is given, at the start of a sequence.
    kept : Signal
        The same a cycle later.
    memory : RAM
        Where it comes from and goes back to.
    stream : Value
        Whose state it is, as it is read.
    """

    at: int
    now: Value
    kept: Signal
    memory: RAM
    stream: Value


@dataclass(frozen=True, eq=False)
class NewCellState:
    """What a step makes of the cell state.

    Parameters
    ----------
    shown : Value
        What the output gate lets out, a table's cycles behind the state itself.
    saturates, function_saturates : Value
        Whether the state did, or the argument or result of its function, in the last cycle.
    """

    shown: Value
    saturates: Value
    function_saturates: Value


class LaneStates:
    """Updates states; its methods are called once each, in the order in which they stand.

    Parameters
    ----------
    parts : LaneParts
    sets : bool
        Whether states can be set.
    """

    def __init__(self, parts: LaneParts, *, sets: bool) -> None:
        self._parts = parts
        self._m, self._lane, self._token = parts.m, parts.lane, parts.token
        self._directions, self._formats, self._k, self._t = (
            parts.directions, parts.formats, parts.k, parts.t)
        self._sets = sets

    def _fitted(self, value: Value, f: int, to: Format) -> tuple[Value, Value]:
        """Round and saturate, in the cycles that there are for it but the last."""
        drop = f - to.f
        if self._k.pipeline.rounding == 1:
            return saturated(rounded(value, drop), to)
        return saturated(floor_to_even(value + half(drop), drop,
                                       lambda part: delayed(self._m, part, 1)), to)

    def before(self, at: int, slots: int = 1) -> CellState:
        """The cell state before the step, 0 or the one given at the start of a sequence.

        It is there in the cycle ``at``, and as many after it as there are slots.
        """
        m, k, formats = self._m, self._k, self._formats
        m.submodules.c_memory = memory = RAM(
            shape=signed(formats.c.width), depth=k.c_depth, latency=k.memory)
        read_at = at - k.memory
        stream = self._token.carry(self._lane.stream, -LEAD, read_at)
        fresh = self._token.carry(self._lane.fresh, -LEAD, at)
        c_before = Signal(signed(formats.c.width), reset_less=True)
        m.d.comb += memory.read_addr.eq(
            Cat(self._parts.counter(read_at + slots - 1, self._parts.units - 1), stream))
        initial: Value = Const(0)
        if any(each.initial_c.any() for each in self._directions.layers):
            rom, layout = bias_memory([[code] for code in self._parts.words.initial_c()],
                                      width=formats.c.width)
            m.submodules.c_initial = rom
            rom_at = at - rom.latency
            m.d.comb += rom.addr[0].eq(self._parts.banked(
                self._parts.counter(rom_at + slots - 1, self._parts.units - 1), rom_at))
            initial = layout(rom.data[0])[0]
        now = Mux(fresh, initial, memory.read_data)
        m.d.sync += c_before.eq(now)
        return CellState(at=at, now=now, kept=c_before, memory=memory, stream=stream)

    def update(self, gates: Sequence[Value], state: CellState) -> NewCellState:
        """c' = f c + i g, rounded once, to the memory and on to its function."""
        m, t, k, formats, token = self._m, self._t, self._k, self._formats, self._token
        forget = self._parts.multipliers[0]
        forget.use(t.forget_product, gates[1],
                   token.carry(state.kept, state.at + 1, t.forget_product))
        enter = self._parts.multipliers[0 if t.shared_product else 1]
        enter.use(t.input_product, token.carry(gates[0], t.gate[0], t.input_product),
                  token.carry(gates[CANDIDATE], t.gate[CANDIDATE], t.input_product))

        # Both products are aligned to the finer binary point before they are added.
        present = t.input_product + k.pipeline.multiplier
        f_c = token.carry(forget.part.p, t.forget_product + k.pipeline.multiplier, present)
        i_g = self._directions.aligned(enter.part.p, present, lambda each: each.formats.g.f)
        fraction = self._directions.finest(lambda each: each.formats.state_fraction)
        of_g = self._directions.finest(lambda each: each.formats.g.f)
        exact = (f_c << fraction - formats.gate.f - formats.c.f) + (
            i_g << fraction - formats.gate.f - of_g)
        total = Signal(signed(len(exact)), name="c_exact", reset_less=True)
        m.d.sync += total.eq(exact)
        c_code, overflow = self._fitted(total, fraction, formats.c)
        shown, function_saturates = self._functions(total, fraction, c_code)
        unit = self._parts.counter(t.state, self._parts.units - 1)
        stream = token.carry(state.stream, state.at - k.memory, t.state)
        m.d.comb += [
            state.memory.write_addr.eq(Cat(unit, stream)),
            state.memory.write_data.eq(self._lane.c),
            state.memory.write_en.eq(token.at(t.state)),
        ]
        if self._sets:
            with m.If(self._lane.set_en):
                m.d.comb += [
                    state.memory.write_addr.eq(Cat(self._lane.set_index, self._lane.set_stream)),
                    state.memory.write_data.eq(self._lane.set_c),
                    state.memory.write_en.eq(1),
                ]
        return NewCellState(shown=shown, saturates=overflow & token.at(t.state - 1),
                            function_saturates=function_saturates)

    def _functions(self, total: Value, fraction: int, c_code: Value) -> tuple[Value, Value]:
        """What becomes of c' on its way out, in the time of a table, and of the exact sum.

        Also whether that saturates.
        """
        m, t, token, directions = self._m, self._t, self._token, self._directions
        squashing = [each for each in directions.kinds(
            lambda each: (each.of_cell.table, each.squashed)) if each.of_cell.table]
        fits = [self._fitted(total, fraction, each.squashed) for each in squashing]
        m.d.sync += self._lane.c.eq(c_code)
        squash = self._parts.tables[t.table_of[GATES]]
        u_overflow: Value = Const(0)
        if fits:
            u_code, u_overflow = directions.select_pair(t.state - 1, fits)
            u = Signal(signed(self._formats.z.width), reset_less=True)
            m.d.sync += u.eq(u_code)
            squash.use(t.state, u, directions.select(t.state, [Const(each.cell_reading)
                                                               for each in squashing]))
        shown, overflows, times = zip(*(
            self._function(each, squash.part, u_overflow) for each in directions.kinds(
                lambda each: (each.of_cell, each.cell_reading, each.slope, each.formats.s))),
            strict=True)
        saturates = reduce(or_, (
            directions.select(at, [overflow if n == place else Const(0)
                                   for place in range(len(times))])
            & token.at(at) for n, (overflow, at) in enumerate(zip(overflows, times, strict=True))))
        return directions.select(t.state + self._k.pipeline.table, shown), saturates

    def _function(self, each: QuantizedLSTM, squash: TableUnit, u_overflow: Value
                  ) -> tuple[Value, Value, int]:
        """What a direction makes of c'; whether it saturates, and when."""
        m, t, k, formats = self._m, self._t, self._k, self._formats
        if each.of_cell.table:
            name = self._parts.table.readings[each.cell_reading].name
            return getattr(squash, name), u_overflow, t.state - 1
        if not each.slope:
            code, _ = limited(self._lane.c, formats.c, each.of_cell)
            return delayed(m, code, k.pipeline.table), Const(0), t.state - 1
        # With a register before the limits if it is long.
        below = each.slope.f + formats.c.f - each.formats.s.f
        late = int(k.pipeline.table > 5)
        whole = floor_to_even(
            line(m, self._lane.c, each.slope, offset=each.slope.b + half(below),
                 cycles=k.pipeline.table - 1 - late),
            below, lambda value: delayed(m, value, late))
        code, overflow = limited(whole, each.formats.s, each.of_cell)
        return delayed(m, code, 1), overflow, t.state + k.pipeline.table - 1

    def hidden(self, o: Value, shown: Value) -> Value:
        """h = o tanh(c'), or whatever the cell state has become; returns whether it saturates."""
        m, t, k, formats, token = self._m, self._t, self._k, self._formats, self._token
        show = self._parts.multipliers[0 if t.shared_multiplier else -1]
        show.use(t.squashed, token.carry(o, t.gate[3], t.squashed),
                 token.carry(shown, t.state + k.pipeline.table, t.squashed))
        h_code, overflow = self._fitted(
            self._directions.aligned(show.part.p, t.squashed + k.pipeline.multiplier,
                                     lambda each: each.formats.s.f),
            formats.gate.f + self._directions.finest(lambda each: each.formats.s.f), formats.m)
        hold = Signal(signed(formats.m.width), name="h_now", reset_less=True)
        m.d.sync += hold.eq(h_code)
        m.d.comb += self._lane.h.eq(hold)
        return overflow & token.at(t.hidden - 1)
