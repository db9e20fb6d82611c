"""What a lane (:mod:`hdl.lane`) does with a unit, in the order of the data flow.

Each method adds one part to the lane's module and leaves what the next ones take; the distances at
which all of it happens are those of :class:`hdl.drain_timing.DrainTiming`.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned

from golden.activation import SIGMOID, TANH
from golden.fixed import SQ, Format
from golden.formats import Curve
from golden.quantized import QuantizedLSTM
from hdl.cycles import LSTMCycles
from hdl.drain_timing import CANDIDATE, GATES
from hdl.lane_words import LaneWords
from hdl.mac import bias_memory
from hdl.multiplier import Multiplier
from hdl.ram import RAM
from hdl.registers import delayed
from hdl.rounding import floor_to_even, half, limited, rounded, saturated
from hdl.scaling import line
from hdl.table import TableUnit
from hdl.token import LEAD, Shared, Token

__all__ = ["LaneLogic"]


class LaneLogic:
    """The logic of a lane; its methods are called once each, in the order in which they stand.

    Parameters
    ----------
    m : Module
        That of the lane.
    lane : Lane
        Whose members are read and driven.
    directions : sequence of QuantizedLSTM
    cycles : LSTMCycles
    words : LaneWords
        What lies in the memories.
    """

    def __init__(self, m: Module, lane: Any, directions: Sequence[QuantizedLSTM],
                 cycles: LSTMCycles, words: LaneWords) -> None:
        self.m, self.lane, self.directions, self.words = m, lane, directions, words
        self.k, self.t, self.formats = cycles, cycles.timing, directions[0].formats
        k, t = self.k, self.t
        self.units = k.passes * k.groups
        # A further reading of a table changes none of its knots.
        self.of_all = max((each.table for each in directions), key=lambda to: len(to.readings))
        self.tables = [(TableUnit(self.of_all, stages=k.pipeline.table), Shared())
                       for _ in range(max(t.table_of) + 1)]
        self.multipliers = [Shared() for _ in range(t.state_multipliers - t.peephole_multipliers)]
        self.peepholes: list[tuple[Multiplier, Shared]] = []
        self.token = Token(m, list(lane.token), t.interval)
        # Bits of the sums that fall away.
        self.drop = self.formats.product_fraction - self.formats.z.f

    def kinds(self, what: Callable[[QuantizedLSTM], Any]) -> Sequence[QuantizedLSTM]:
        """Both directions where they differ in something, else one for all."""
        return self.directions[:len({what(each) for each in self.directions})]

    def own(self, cycle: int, made: Sequence[Value]) -> Value:
        """Of what is made for one of :meth:`kinds` each: that of the unit in a cycle."""
        ours, *theirs = made
        return Mux(self.lane.second[LEAD + cycle], theirs[0], ours) if theirs else ours

    def own_pair(self, cycle: int, made: Sequence[tuple[Value, Value]]) -> tuple[Value, Value]:
        """As :meth:`own`, of pairs."""
        first, second = zip(*made, strict=True)
        return self.own(cycle, first), self.own(cycle, second)

    def aligned(self, value: Value, cycle: int, f: Callable[[QuantizedLSTM], int]) -> Value:
        """With as many fraction bits as the finer of the directions has."""
        finest = max(f(each) for each in self.directions)
        return self.own(cycle, [value << finest - f(each) if f(each) < finest else value
                                for each in self.kinds(f)])

    def fitted(self, value: Value, f: int, to: Format) -> tuple[Value, Value]:
        """Round and saturate, in the cycles that there are for it but the last."""
        drop = f - to.f
        if self.k.pipeline.rounding == 1:
            return saturated(rounded(value, drop), to)
        return saturated(floor_to_even(value + half(drop), drop,
                                       lambda part: delayed(self.m, part, 1)), to)

    def counter(self, cycle: int, last: int, slots: int = 1) -> Signal:
        """Counts the units that pass a distance, or each of their slots."""
        count = Signal(range(last + 1))
        with self.m.If(Cat(self.token.at(cycle + slot) for slot in range(slots)).any()):
            self.m.d.sync += count.eq(Mux(count == last, 0, count + 1))
        return count

    def banked(self, place: Value, cycle: int) -> Value:
        """A place in a memory that has a bank for each direction."""
        if len(self.directions) == 1:
            return place
        return Cat(place, self.token.carry(self.lane.stream, -LEAD, cycle))

    def read_cell_state(self, at: int, slots: int = 1) -> Value:
        """The cell state before the step, 0 or the one given at the start of a sequence.

        It is there in the cycle ``at``, and as many after it as there are slots; a cycle later it
        is in the register ``c_before``. Where it goes back to, ``store`` and ``where`` tell.
        """
        m, k, formats = self.m, self.k, self.formats
        m.submodules.c_memory = self.store = RAM(
            shape=signed(formats.c.width), depth=k.c_depth, latency=k.memory)
        read_at = at - k.memory
        stream = self.token.carry(self.lane.stream, -LEAD, read_at)
        self.where = stream, read_at
        fresh = self.token.carry(self.lane.fresh, -LEAD, at)
        c_before = Signal(signed(formats.c.width), reset_less=True)
        m.d.comb += self.store.read_addr.eq(
            Cat(self.counter(read_at + slots - 1, self.units - 1), stream))
        initial: Value = Const(0)
        if any(each.initial_c.any() for each in self.directions):
            rom, layout = bias_memory([[code] for code in self.words.initial_c()],
                                      width=formats.c.width)
            m.submodules.c_initial = rom
            m.d.comb += rom.addr[0].eq(self.banked(
                self.counter(at - rom.latency + slots - 1, self.units - 1), at - rom.latency))
            initial = layout(rom.data[0])[0]
        now = Mux(fresh, initial, self.store.read_data)
        m.d.sync += c_before.eq(now)
        self.c_before = c_before
        return now

    def multiply_peepholes(self) -> None:
        """Their products with the cell state, which begin as the sums leave the chain."""
        m, t, k, formats = self.m, self.t, self.k, self.formats
        if not formats.p:
            return
        stored = self.words.peepholes()
        c_now = self.read_cell_state(0, stored[0][1])
        self.peepholes = [(Multiplier(signed(formats.p.width), signed(formats.c.width),
                                      stages=k.pipeline.multiplier), Shared())
                          for _ in range(t.peephole_multipliers)]
        for n, (words, slots) in enumerate(stored):
            rom, layout = bias_memory([[word] for word in words], width=formats.p.width)
            m.submodules[f"peephole{n}"] = rom
            of_output = n == len(stored) - 1
            at = t.state if of_output else 0
            m.d.comb += rom.addr[0].eq(self.banked(
                self.counter(at - rom.latency, self.units * slots - 1, slots), at - rom.latency))
            self.peepholes[-1 if of_output else n][1].use(
                at, layout(rom.data[0])[0], self.lane.c if of_output else c_now)

    def peeped(self, total: Value, product: Value) -> Signal:
        """The sum with the product of a peephole, in a register."""
        exact = total + (product << self.directions[0].peephole_shift)
        result = Signal.like(exact, name="peeped", reset_less=True)
        self.m.d.sync += result.eq(exact)
        return result

    def bounds(self, each: QuantizedLSTM, gate: int) -> tuple[SQ, Curve]:
        """Format and limits of a direction's preactivation."""
        return (each.candidate, each.of_candidate) if gate == CANDIDATE else (
            self.formats.z, each.gate)

    def limits(self, gate: int) -> list[tuple[int, Curve]]:
        """The width and the limits of a preactivation, in each direction."""
        return [(to.width, curve) for each in self.directions
                for to, curve in [self.bounds(each, gate)]]

    def bounded(self, whole: Value, gate: int) -> tuple[Value, Value]:
        """A preactivation, and whether it saturates."""
        return self.own_pair(self.t.preactivation[gate] - 1, [
            limited(whole, *self.bounds(each, gate))
            for each in self.kinds(lambda each: self.bounds(each, gate))])

    def tabled(self, *gates: int) -> list[bool]:
        """Whether they come from the table, in each direction."""
        return [curve.table for gate in gates for _, curve in self.limits(gate)]

    def round_preactivations(self) -> None:
        """Add biases and peepholes, round, saturate, and look up or let pass.

        A tie is what leaves nothing below once half an ulp has been added.
        """
        m, t, k = self.m, self.t, self.k
        bias_address: Value = self.counter(-LEAD, self.units * t.slots - 1, t.slots)
        if self.words.has_first_biases:
            bias_address = Cat(bias_address, self.lane.fresh)
        if len(self.directions) > 1:
            bias_address = Cat(bias_address, self.lane.stream)
        self.z_overflow: list[Value] = []
        self.lines: list[Value] = []
        self.output: Value = Const(0)
        stored = self.words.biases(drop=self.drop, halved=list(map(_of_tanh, self.directions)))
        for n, biases in enumerate(stored):
            rom, layout = bias_memory([[bias] for bias in biases])
            m.submodules[f"bias{n}"] = rom
            m.d.comb += rom.addr[0].eq(bias_address)
            # The totals run on: their difference is a pass's sum, modulo what they wrap around at.
            passed = (self.lane.totals[n] - self.lane.before[n])[:len(self.lane.totals[n])]
            bias = layout(delayed(m, rom.data[0], k.pipeline.bias - 1))[0]
            biased = delayed(m, passed, k.pipeline.bias - 1).as_signed() + bias
            total = Signal.like(biased, name=f"biased{n}", reset_less=True)
            m.d.sync += total.eq(biased)
            gates = [slot * t.gate_tables + n for slot in range(t.slots)]
            if self.formats.p:
                # The output gate waits for c' here.
                if gates[-1] == GATES - 1:
                    self.output = total
                if gates == [GATES - 1]:
                    break
                p_c: Value = Const(0)
                if n < 2:
                    p_c = self.peepholes[n][0].p
                    if CANDIDATE in gates:
                        p_c = Mux(self.token.at(t.summed - 1 + t.slot(CANDIDATE)), 0, p_c)
                total = self.peeped(delayed(m, total, t.summed - 1 - k.pipeline.bias), p_c)
            self._round(n, gates, total)
        z_active = Cat(
            self.token.at(t.preactivation[0] - 1 + slot) for slot in range(t.slots)).any()
        self.z_saturates = Cat(self.z_overflow).any() & z_active

    def _round(self, n: int, gates: Sequence[int], total: Signal) -> None:
        """The preactivations of the gates that come from one table, in their order."""
        m, t, k, directions = self.m, self.t, self.k, self.directions
        tanhs = [_of_tanh(each) for each in directions]
        readings = {each.candidate_reading for each in directions if each.of_candidate.table}
        width = max(self.formats.z.width, *(each.candidate.width for each in directions))
        doubled: Value = total
        reading: Value = Const(SIGMOID)
        # Half of a single bit that is dropped could not be added before.
        twice = Cat(Const(self.drop == 1, 1), total).as_signed()
        if CANDIDATE in gates and readings:
            at = t.summed + t.slot(CANDIDATE)
            entering = t.preactivation[CANDIDATE]
            doubled = self.own(at, [twice if _of_tanh(each) else total
                                    for each in self.kinds(_of_tanh)])
            reading = (Const(*readings) if len(readings) == 1 else self.own(
                entering, [Const(each.candidate_reading) for each in directions]))
            if len(gates) > 1:
                doubled = Mux(self.token.at(at), doubled, total) if any(tanhs) else total
                reading = (self.token.at(entering) if readings == {TANH}
                           else Mux(self.token.at(entering), reading, SIGMOID))
        whole = floor_to_even(doubled, self.drop,
                              lambda value: delayed(m, value, k.pipeline.preactivation - 1))
        code, overflow = self.bounded(whole, n)
        if CANDIDATE in gates[1:] and self.limits(n) != self.limits(CANDIDATE):
            now = self.token.at(t.preactivation[CANDIDATE] - 1)
            code, overflow = (Mux(now, theirs, ours) for theirs, ours in zip(
                self.bounded(whole, CANDIDATE), (code, overflow), strict=True))
        z = Signal(signed(width), name=f"z{n}", reset_less=True)
        m.d.sync += z.eq(code)
        if self.formats.p and gates[-1] == GATES - 1:
            overflow &= ~self.token.at(t.preactivation[0] - 1 + t.slot(GATES - 1))
        self.z_overflow.append(overflow)
        if any(self.tabled(*gates)):
            self.tables[n][1].use(t.preactivation[n], z, reading)
        # Without a table it is the gate itself, at the same time.
        self.lines.append(z if all(self.tabled(*gates)) else delayed(m, z, k.pipeline.table))

    def result(self, n: int, unit: TableUnit, through: Value) -> Value:
        """A gate, or the candidate, of what a table gives and of the preactivation."""
        def what(each: QuantizedLSTM) -> tuple[bool, Format, int]:
            to, reading = (each.formats.g, each.candidate_reading) if n == CANDIDATE else (
                self.formats.gate, SIGMOID)
            return self.bounds(each, n)[1].table, to, reading

        def of(each: QuantizedLSTM) -> Value:
            from_table, to, reading = what(each)
            if not from_table:
                code = through[:to.width]
                return code.as_signed() if to.signed else code
            code = getattr(unit, self.of_all.readings[reading].name)
            return code if to.signed else code[:to.width]

        return self.own(self.t.gate[n], [of(each) for each in self.kinds(what)])

    def look_up_gates(self) -> None:
        """The gates and the candidate, but for an output gate that waits for c'."""
        tables = self.t.gate_tables
        self.gate = [self.result(n, self.tables[n % tables][0], self.lines[n % tables])
                     for n in range(3 if self.formats.p else GATES)]

    def update_cell_state(self, *, sets: bool) -> None:
        """c' = f c + i g, rounded once, to the memory and on to its function."""
        m, t, k, formats, token = self.m, self.t, self.k, self.formats, self.token
        # Read into a register that is 0 at the start of a sequence.
        if not formats.p:
            self.read_cell_state(t.forget_product - 1)
        forget = self.multipliers[0]
        forget.use(t.forget_product, self.gate[1],
                   token.carry(self.c_before, 1, t.forget_product) if formats.p else self.c_before)
        enter = self.multipliers[0 if t.shared_product else 1]
        enter.use(t.input_product, token.carry(self.gate[0], t.gate[0], t.input_product),
                  token.carry(self.gate[CANDIDATE], t.gate[CANDIDATE], t.input_product))
        shape = signed(max(formats.c.width, *(to.width for each in self.directions
                                              for to in (each.formats.g, each.formats.s))))
        self.products = [
            Multiplier(unsigned(formats.gate.width), shape, stages=k.pipeline.multiplier)
            for _ in self.multipliers]

        # Both products are aligned to the finer binary point before they are added.
        present = t.input_product + k.pipeline.multiplier
        f_c = token.carry(self._product_of(forget), t.forget_product + k.pipeline.multiplier,
                          present)
        i_g = self.aligned(self._product_of(enter), present, lambda each: each.formats.g.f)
        fraction = max(each.formats.state_fraction for each in self.directions)
        of_g = max(each.formats.g.f for each in self.directions)
        exact = (f_c << fraction - formats.gate.f - formats.c.f) + (
            i_g << fraction - formats.gate.f - of_g)
        total = Signal(signed(len(exact)), name="c_exact", reset_less=True)
        m.d.sync += total.eq(exact)
        c_code, self.c_overflow = self.fitted(total, fraction, formats.c)
        self._pass_on(total, fraction, c_code)
        stream, read_at = self.where
        m.d.comb += [
            self.store.write_addr.eq(Cat(self.counter(t.state, self.units - 1),
                                         token.carry(stream, read_at, t.state))),
            self.store.write_data.eq(self.lane.c),
            self.store.write_en.eq(token.at(t.state)),
        ]
        if sets:
            with m.If(self.lane.set_en):
                m.d.comb += [
                    self.store.write_addr.eq(Cat(self.lane.set_index, self.lane.set_stream)),
                    self.store.write_data.eq(self.lane.set_c),
                    self.store.write_en.eq(1),
                ]

    def _product_of(self, shared: Shared) -> Value:
        return self.products[self.multipliers.index(shared)].p

    def _pass_on(self, total: Value, fraction: int, c_code: Value) -> None:
        """What becomes of c' on its way out, in the time of a table, and of the exact sum."""
        m, t, token = self.m, self.t, self.token
        squashing = [each for each in self.kinds(lambda each: (each.of_cell.table, each.squashed))
                     if each.of_cell.table]
        fits = [self.fitted(total, fraction, each.squashed) for each in squashing]
        m.d.sync += self.lane.c.eq(c_code)
        squash, shared = self.tables[t.table_of[GATES]]
        u_overflow: Value = Const(0)
        if fits:
            u_code, u_overflow = self.own_pair(t.state - 1, fits)
            u = Signal(signed(self.formats.z.width), reset_less=True)
            m.d.sync += u.eq(u_code)
            shared.use(t.state, u, self.own(t.state, [Const(each.cell_reading)
                                                      for each in squashing]))
        self.shown, overflows, times = zip(*(
            self._passed_on(each, squash, u_overflow) for each in self.kinds(lambda each: (
                each.of_cell, each.cell_reading, each.slope, each.formats.s))), strict=True)
        self.u_saturates = reduce(or_, (
            self.own(at, [overflow if n == place else Const(0) for place in range(len(times))])
            & token.at(at) for n, (overflow, at) in enumerate(zip(overflows, times, strict=True))))

    def _passed_on(self, each: QuantizedLSTM, squash: TableUnit, u_overflow: Value
                   ) -> tuple[Value, Value, int]:
        """What a direction makes of c'; whether it saturates, and when."""
        m, t, k, formats = self.m, self.t, self.k, self.formats
        if each.of_cell.table:
            name = self.of_all.readings[each.cell_reading].name
            return getattr(squash, name), u_overflow, t.state - 1
        if not each.slope:
            code, _ = limited(self.lane.c, formats.c, each.of_cell)
            return delayed(m, code, k.pipeline.table), Const(0), t.state - 1
        # With a register before the limits if it is long.
        below = each.slope.f + formats.c.f - each.formats.s.f
        late = int(k.pipeline.table > 5)
        whole = floor_to_even(
            line(m, self.lane.c, each.slope, offset=each.slope.b + half(below),
                 cycles=k.pipeline.table - 1 - late),
            below, lambda value: delayed(m, value, late))
        code, overflow = limited(whole, each.formats.s, each.of_cell)
        return delayed(m, code, 1), overflow, t.state + k.pipeline.table - 1

    def open_output_gate(self) -> None:
        """The output gate that sees the new cell state."""
        m, t, k, formats = self.m, self.t, self.k, self.formats
        if not formats.p:
            return
        o_sum = self.peeped(
            self.token.carry(self.output, k.pipeline.bias + t.slot(GATES - 1), t.peeped - 1),
            self.peepholes[-1][0].p)
        whole = floor_to_even(o_sum, self.drop,
                              lambda value: delayed(m, value, k.pipeline.preactivation - 1))
        code, overflow = self.bounded(whole, 3)
        z_o = Signal(signed(formats.z.width), reset_less=True)
        m.d.sync += z_o.eq(code)
        self.z_saturates |= overflow & self.token.at(t.preactivation[3] - 1)
        unit, shared = self.tables[t.table_of[3]]
        if any(self.tabled(3)):
            shared.use(t.preactivation[3], z_o, SIGMOID)
        self.gate.append(self.result(3, unit, z_o if all(self.tabled(3)) else delayed(
            m, z_o[:formats.gate.width], k.pipeline.table)))

    def give_hidden_state(self) -> None:
        """h = o tanh(c'), or whatever the cell state has become, and its flag."""
        m, t, k, formats, token = self.m, self.t, self.k, self.formats, self.token
        show = self.multipliers[0 if t.shared_multiplier else -1]
        show.use(t.squashed, token.carry(self.gate[3], t.gate[3], t.squashed),
                 token.carry(self.own(t.state + k.pipeline.table, self.shown),
                             t.state + k.pipeline.table, t.squashed))
        h_code, self.h_overflow = self.fitted(
            self.aligned(self._product_of(show), t.squashed + k.pipeline.multiplier,
                         lambda each: each.formats.s.f),
            formats.gate.f + max(each.formats.s.f for each in self.directions), formats.m)
        hold = Signal(signed(formats.m.width), name="h_now", reset_less=True)
        m.d.sync += hold.eq(h_code)
        m.d.comb += self.lane.h.eq(hold)

    def connect(self) -> None:
        """The tables and multipliers, to all that uses them, and the flags."""
        m, t, token = self.m, self.t, self.token
        for n in t.used_tables(self.k.lines):
            unit, shared = self.tables[n]
            m.submodules[f"table{n}"] = unit
            shared.connect(m, token, (unit.z, unit.reading))
        for n, (product, shared) in enumerate(zip(self.products, self.multipliers, strict=True)):
            m.submodules[f"product{n}"] = product
            shared.connect(m, token, (product.a, product.b))
        for n, (multiplier, shared) in enumerate(self.peepholes):
            m.submodules[f"peephole_product{n}"] = multiplier
            shared.connect(m, token, (multiplier.a, multiplier.b))
        m.d.sync += self.lane.overflow.eq(Cat(
            self.z_saturates, self.u_saturates,
            self.c_overflow & token.at(t.state - 1), self.h_overflow & token.at(t.hidden - 1)))


def _of_tanh(each: QuantizedLSTM) -> bool:
    """Whether the table takes half the argument of a direction's candidate."""
    return each.of_candidate.table and each.candidate_reading == TANH
