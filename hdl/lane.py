"""One lane of the drain (:mod:`hdl.drain`): what becomes of the sums of its units.

A lane adds the bias, rounds to the preactivation, looks up the gates, updates the cell state and
gives the hidden state. Every operation of a unit happens at a fixed distance from the cycle in
which its first sums leave the hold chain; :class:`hdl.drain_timing.DrainTiming` holds these
distances, and a *token* that travels along them switches each register and multiplexer. It sets out
``LEAD`` cycles before the sums leave, so that memories are read ahead of need.

The bias is added here rather than loaded into the accumulators: a lane needs one adder and one
narrow memory for it, the array would need a word as wide as all its accumulators in every pass.
Half a unit in the last place comes with it, and makes a truncation of what would be a rounding.

Two directions whose functions differ are alike in all distances: a line takes as long as a table.
So what differs is made for both, and a bit that travels with the token tells whose unit it is.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.activation import SIGMOID, TANH
from golden.fixed import SQ, Format
from golden.quantized import Curve, QuantizedLSTM
from hdl.cycles import LSTMCycles
from hdl.drain_timing import CANDIDATE, GATES
from hdl.mac import banks, bias_memory
from hdl.multiplier import Multiplier
from hdl.ram import RAM
from hdl.registers import delayed
from hdl.rounding import floor_to_even, half, limited, rounded, saturated
from hdl.scaling import line
from hdl.table import TableUnit

__all__ = ["LEAD", "Lane", "Token", "differ", "total_width"]

LEAD = 2
"""Cycles from a token setting out to the first sums of its unit leaving the hold chain."""


class Token:
    """Marks how far a unit has come: one bit for each cycle, and registers that travel with it."""

    def __init__(self, m: Module, bits: Sequence[Value], interval: int):
        self._m = m
        self._bits = bits
        self._interval = interval

    def at(self, cycle: int) -> Value:
        """Whether a unit is so many cycles behind its first sums' leaving the hold chain."""
        return self._bits[LEAD + cycle]

    def carry(self, value: Value, present: int, wanted: int) -> Value:
        """Keep what is present in one cycle until another.

        A register holds for as long as the next unit is away, so a few reach far.
        """
        while present < wanted:
            register = Signal.like(value, name="carried", reset_less=True)
            with self._m.If(self.at(present)):
                self._m.d.sync += register.eq(value)
            value = register
            present += self._interval
        return value


class _Shared:
    """A pipelined unit used at several distances from a token: the uses, then the multiplexers."""

    def __init__(self) -> None:
        self.uses: list[tuple[int, tuple[Any, ...]]] = []

    def use(self, cycle: int, *operands: Any) -> None:
        self.uses.append((cycle, operands))

    def connect(self, m: Module, token: Token, inputs: Sequence[Signal]) -> None:
        for n, (cycle, operands) in enumerate(self.uses):
            statements = [i.eq(operand) for i, operand in zip(inputs, operands, strict=True)]
            if n == 0:
                m.d.comb += statements
            else:
                with m.If(token.at(cycle)):
                    m.d.comb += statements


def total_width(directions: Sequence[QuantizedLSTM]) -> int:
    """Bits of a running total."""
    return max(layer.array.width for layer in directions)


def differ(directions: Sequence[QuantizedLSTM]) -> bool:
    """Whether the functions of two directions are not the same."""
    return len({layer.functions for layer in directions}) > 1


class Lane(wiring.Component):
    """One lane of the drain.

    Members
    -------
    totals, before : In(ArrayLayout(signed, gate_tables))
        The head of the hold chain, and what it was in the pass before.
    token : In(LEAD + timing.hidden + 1)
        Bit ``LEAD + n``: a unit's first sums left the chain n cycles ago.
    fresh, stream : In(1), In(range(streams))
        With bit 0: the step is the first of its sequence, so c is 0; whose it is.
    second : In(LEAD + timing.hidden + 1)
        Where the functions of two directions differ: with each bit of the token, and until the
        next unit comes there, whether the unit is one of the second direction.
    c, h : Out(signed)
        The new states; h is what the output gate lets out, where a projection follows.
    overflow : Out(4)
        A preactivation, tanh argument, cell state or hidden state saturated in the last cycle.
    set_en, set_index, set_stream, set_c : In
        Where states can be set: the cell state of the lane's unit of that number, in order.
    """

    def __init__(self, directions: Sequence[QuantizedLSTM], cycles: LSTMCycles, lane: int, *,
                 sets: bool = False):
        layer = directions[0]
        self._directions = directions
        self._layer = layer
        self._cycles = cycles
        self._lane = lane
        self._sets = sets
        self._width = total_width(directions)
        formats = layer.formats
        heads = data.ArrayLayout(signed(self._width), cycles.timing.gate_tables)
        super().__init__({
            "totals": In(heads),
            "before": In(heads),
            "token": In(LEAD + cycles.timing.hidden + 1),
            "fresh": In(1),
            "stream": In(range(cycles.streams)),
            **({"second": In(LEAD + cycles.timing.hidden + 1)} if differ(directions) else {}),
            "c": Out(signed(formats.c.width)),
            "h": Out(signed(formats.m.width)),
            "overflow": Out(4),
            **({"set_en": In(1), "set_index": In(range(cycles.passes * cycles.groups)),
                "set_stream": In(range(cycles.streams)), "set_c": In(signed(formats.c.width))}
               if sets else {}),
        })

    def _biases(self, biases: np.ndarray) -> list[list[int]]:
        """The biases in the order in which the sums leave the chain, one list for each table."""
        k, layer = self._cycles, self._layer
        order = []
        for a_pass in range(k.passes):
            for group in range(k.groups):
                within = group * k.folding.lanes + self._lane
                unit = a_pass * k.folding.units + within
                real = within < k.folding.units and unit < layer.hidden
                order += [int(biases[gate * layer.hidden + unit]) if real else 0
                          for gate in range(GATES)]
        tables = k.timing.gate_tables
        return [order[table::tables] for table in range(tables)]

    def _in_order(self, *values: np.ndarray) -> np.ndarray:
        """Values of each unit, in the order in which units come; 0 where there is none."""
        k, layer = self._cycles, self._layer
        return np.array([
            int(of[unit]) if within < k.folding.units and unit < layer.hidden else 0
            for a_pass in range(k.passes) for group in range(k.groups)
            for within in [group * k.folding.lanes + self._lane]
            for unit in [a_pass * k.folding.units + within] for of in values])

    def _peepholes(self, layer: QuantizedLSTM) -> list[np.ndarray]:
        """Weights of the cell states: those of each multiplier for i and f, then those of o."""
        assert layer.peepholes is not None
        i, f, o = np.split(layer.peepholes, 3)
        together = [[i, f]] if self._cycles.timing.gate_tables == 1 else [[i], [f]]
        return [self._in_order(*values) for values in (*together, [o])]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        layer, k, t, formats = self._layer, self._cycles, self._cycles.timing, self._layer.formats
        # A further reading of a table changes none of its knots.
        of_all = max((each.table for each in self._directions), key=lambda to: len(to.readings))
        tables = [(TableUnit(of_all, stages=k.pipeline.table), _Shared())
                  for _ in range(max(t.table_of) + 1)]
        multipliers = [_Shared() for _ in range(t.state_multipliers - t.peephole_multipliers)]
        token = Token(m, list(self.token), t.interval)

        def kinds(what: Callable[[QuantizedLSTM], Any]) -> Sequence[QuantizedLSTM]:
            """Both directions where they differ in something, else one for all."""
            return self._directions[:len({what(each) for each in self._directions})]

        def own(cycle: int, made: Sequence[Value]) -> Value:
            """Of what is made for one of :func:`kinds` each: that of the unit in a cycle."""
            ours, *theirs = made
            return Mux(self.second[LEAD + cycle], theirs[0], ours) if theirs else ours

        def own_pair(cycle: int, made: Sequence[tuple[Value, Value]]) -> tuple[Value, Value]:
            first, second = zip(*made, strict=True)
            return own(cycle, first), own(cycle, second)

        def aligned(value: Value, cycle: int, f: Callable[[QuantizedLSTM], int]) -> Value:
            """With as many fraction bits as the finer of the directions has."""
            finest = max(f(each) for each in self._directions)
            return own(cycle, [value << finest - f(each) if f(each) < finest else value
                               for each in kinds(f)])

        def fitted(value: Value, f: int, to: Format) -> tuple[Value, Value]:
            """Round and saturate, in the cycles that there are for it but the last."""
            drop = f - to.f
            if k.pipeline.rounding == 1:
                return saturated(rounded(value, drop), to)
            return saturated(floor_to_even(value + half(drop), drop,
                                           lambda part: delayed(m, part, 1)), to)

        def counter(cycle: int, last: int, slots: int = 1) -> Signal:
            """Counts the units that pass a distance, or each of their slots."""
            count = Signal(range(last + 1))
            with m.If(Cat(token.at(cycle + slot) for slot in range(slots)).any()):
                m.d.sync += count.eq(Mux(count == last, 0, count + 1))
            return count

        def banked(place: Value, cycle: int) -> Value:
            """A place in a memory that has a bank for each direction."""
            if len(self._directions) == 1:
                return place
            return Cat(place, token.carry(self.stream, -LEAD, cycle))

        def cell_state(at: int, slots: int = 1) -> tuple[RAM, Value, int, Value, Signal]:
            """The cell state before the step, 0 or the one given at the start of a sequence.

            Read to be there in the cycle ``at``, and as many after it as there are slots.

            Returns
            -------
            store : RAM
                Its memory, to be written.
            stream, read_at : Value, int
                Whose it is, and in which cycle that is there.
            now, later : Value
                The state, and the same from a register, a cycle later.
            """
            m.submodules.c_memory = store = RAM(
                shape=signed(formats.c.width), depth=k.c_depth, latency=k.memory)
            read_at = at - k.memory
            stream = token.carry(self.stream, -LEAD, read_at)
            fresh = token.carry(self.fresh, -LEAD, at)
            c_before = Signal(signed(formats.c.width), reset_less=True)
            m.d.comb += store.read_addr.eq(Cat(counter(read_at + slots - 1, units - 1), stream))
            initial: Value = Const(0)
            if any(each.initial_c.any() for each in self._directions):
                rom, layout = bias_memory(
                    [[int(code)] for code in banks([self._in_order(each.initial_c)
                                                    for each in self._directions])],
                    width=formats.c.width)
                m.submodules.c_initial = rom
                m.d.comb += rom.addr[0].eq(banked(
                    counter(at - rom.latency + slots - 1, units - 1), at - rom.latency))
                initial = layout(rom.data[0])[0]
            now = Mux(fresh, initial, store.read_data)
            m.d.sync += c_before.eq(now)
            return store, stream, read_at, now, c_before

        # Peepholes: their products with the cell state begin as the sums leave the chain.
        units = k.passes * k.groups
        peepholes: list[tuple[Multiplier, _Shared]] = []
        if formats.p:
            weights = [self._peepholes(each) for each in self._directions]
            store, stream, read_at, c_now, c_before = cell_state(0, len(weights[0][0]) // units)
            peepholes = [(Multiplier(signed(formats.p.width), signed(formats.c.width),
                                     stages=k.pipeline.multiplier), _Shared())
                         for _ in range(t.peephole_multipliers)]
            for n, words in enumerate(zip(*weights, strict=True)):
                rom, layout = bias_memory([[int(word)] for word in banks(words)],
                                          width=formats.p.width)
                m.submodules[f"peephole{n}"] = rom
                of_output = n == len(weights[0]) - 1
                at, count = t.state if of_output else 0, len(words[0])
                m.d.comb += rom.addr[0].eq(banked(
                    counter(at - rom.latency, count - 1, count // units), at - rom.latency))
                peepholes[-1 if of_output else n][1].use(
                    at, layout(rom.data[0])[0], self.c if of_output else c_now)

        def peeped(total: Value, product: Value) -> Signal:
            """The sum with the product of a peephole, in a register."""
            exact = total + (product << layer.peephole_shift)
            result = Signal.like(exact, name="peeped", reset_less=True)
            m.d.sync += result.eq(exact)
            return result

        # Preactivations. A tie is what leaves nothing below once half an ulp has been added.
        drop = formats.product_fraction - formats.z.f
        bias_address: Value = counter(-LEAD, k.passes * k.groups * t.slots - 1, t.slots)
        rows = [[each.bias] for each in self._directions]
        if any(each.initial_h.any() for each in self._directions):
            # In the first step the hidden states of the beginning are part of the bias.
            rows = [[each.bias, each.first_bias] for each in self._directions]
            bias_address = Cat(bias_address, self.fresh)
        if len(self._directions) > 1:
            bias_address = Cat(bias_address, self.stream)
        stored = [[int(code) for code in banks([np.array(order) for order in orders])]
                  for orders in zip(*(self._biases(row) for each in rows for row in each),
                                    strict=True)]
        width = max(formats.z.width, *(each.candidate.width for each in self._directions))

        def bounds(each: QuantizedLSTM, gate: int) -> tuple[SQ, Curve]:
            """Of a direction's preactivation."""
            return (each.candidate, each.of_candidate) if gate == CANDIDATE else (
                formats.z, each.gate)

        def bounded(whole: Value, gate: int) -> tuple[Value, Value]:
            """A preactivation, and whether it saturates."""
            return own_pair(t.preactivation[gate] - 1, [
                limited(whole, *bounds(each, gate))
                for each in kinds(lambda each: bounds(each, gate))])

        def limits(gate: int) -> list[tuple[int, Curve]]:
            return [(to.width, curve) for each in self._directions
                    for to, curve in [bounds(each, gate)]]

        def tabled(*gates: int) -> list[bool]:
            """Whether they come from the table, in each direction."""
            return [curve.table for gate in gates for _, curve in limits(gate)]

        def of_tanh(each: QuantizedLSTM) -> bool:
            return each.of_candidate.table and each.candidate_reading == TANH

        tanhs = [of_tanh(each) for each in self._directions]
        readings = {each.candidate_reading for each in self._directions if each.of_candidate.table}
        z_overflow, lines = [], []
        output: Value = Const(0)
        for n, (table, biases) in enumerate(zip(tables[:t.gate_tables], stored, strict=True)):
            # A tanh has a fraction bit more: the table takes half its argument.
            gates = [slot * t.gate_tables + n for slot in range(t.slots)]
            halves = [[half(drop) >> (gate == CANDIDATE and tanh) for gate in gates]
                      for tanh in tanhs]
            # The biases of a direction lie in so many places.
            places = len(rows[0]) << (units * t.slots - 1).bit_length()
            rom, layout = bias_memory([[bias + halves[slot // places][slot % t.slots]]
                                       for slot, bias in enumerate(biases)])
            m.submodules[f"bias{n}"] = rom
            m.d.comb += rom.addr[0].eq(bias_address)
            # The totals run on: their difference is a pass's sum, modulo what they wrap around at.
            passed = (self.totals[n] - self.before[n])[:self._width]
            bias = layout(delayed(m, rom.data[0], k.pipeline.bias - 1))[0]
            biased = delayed(m, passed, k.pipeline.bias - 1).as_signed() + bias
            total = Signal.like(biased, name=f"biased{n}", reset_less=True)
            m.d.sync += total.eq(biased)

            if formats.p:
                # The output gate waits for c' here.
                if gates[-1] == GATES - 1:
                    output = total
                if gates == [GATES - 1]:
                    break
                p_c: Value = Const(0)
                if n < 2:
                    p_c = peepholes[n][0].p
                    if CANDIDATE in gates:
                        p_c = Mux(token.at(t.summed - 1 + t.slot(CANDIDATE)), 0, p_c)
                total = peeped(delayed(m, total, t.summed - 1 - k.pipeline.bias), p_c)

            doubled: Value = total
            reading: Value = Const(SIGMOID)
            # Half of a single bit that is dropped could not be added before.
            twice = Cat(Const(drop == 1, 1), total).as_signed()
            if CANDIDATE in gates and readings:
                at = t.summed + t.slot(CANDIDATE)
                entering = t.preactivation[CANDIDATE]
                doubled = own(at, [twice if of_tanh(each) else total for each in kinds(of_tanh)])
                reading = (Const(*readings) if len(readings) == 1 else own(
                    entering, [Const(each.candidate_reading) for each in self._directions]))
                if len(gates) > 1:
                    doubled = Mux(token.at(at), doubled, total) if any(tanhs) else total
                    reading = (token.at(entering) if readings == {TANH}
                               else Mux(token.at(entering), reading, SIGMOID))
            whole = floor_to_even(doubled, drop,
                                  lambda value: delayed(m, value, k.pipeline.preactivation - 1))
            code, overflow = bounded(whole, n)
            if CANDIDATE in gates[1:] and limits(n) != limits(CANDIDATE):
                now = token.at(t.preactivation[CANDIDATE] - 1)
                code, overflow = (Mux(now, theirs, ours) for theirs, ours in zip(
                    bounded(whole, CANDIDATE), (code, overflow), strict=True))
            z = Signal(signed(width), name=f"z{n}", reset_less=True)
            m.d.sync += z.eq(code)
            if formats.p and gates[-1] == GATES - 1:
                overflow &= ~token.at(t.preactivation[0] - 1 + t.slot(GATES - 1))
            z_overflow.append(overflow)
            if any(tabled(*gates)):
                table[1].use(t.preactivation[n], z, reading)
            # Without a table it is the gate itself, at the same time.
            lines.append(z if all(tabled(*gates)) else delayed(m, z, k.pipeline.table))
        z_active = Cat(token.at(t.preactivation[0] - 1 + slot) for slot in range(t.slots)).any()

        def result(n: int, unit: TableUnit, through: Value) -> Value:
            """A gate, or the candidate, of what a table gives and of the preactivation."""
            def what(each: QuantizedLSTM) -> tuple[bool, Format, int]:
                to, reading = (each.formats.g, each.candidate_reading) if n == CANDIDATE else (
                    formats.gate, SIGMOID)
                return bounds(each, n)[1].table, to, reading

            def of(each: QuantizedLSTM) -> Value:
                from_table, to, reading = what(each)
                if not from_table:
                    code = through[:to.width]
                    return code.as_signed() if to.signed else code
                code = getattr(unit, of_all.readings[reading].name)
                return code if to.signed else code[:to.width]

            return own(t.gate[n], [of(each) for each in kinds(what)])

        gate = [result(n, tables[n % t.gate_tables][0], lines[n % t.gate_tables])
                for n in range(3 if formats.p else GATES)]

        # The cell state, read into a register that is 0 at the start of a sequence.
        if not formats.p:
            store, stream, read_at, _, c_before = cell_state(t.forget_product - 1)
        forget = multipliers[0]
        forget.use(t.forget_product, gate[1],
                   token.carry(c_before, 1, t.forget_product) if formats.p else c_before)
        enter = multipliers[0 if t.shared_product else 1]
        enter.use(t.input_product, token.carry(gate[0], t.gate[0], t.input_product),
                  token.carry(gate[CANDIDATE], t.gate[CANDIDATE], t.input_product))
        squash = tables[t.table_of[GATES]]
        show = multipliers[0 if t.shared_multiplier else -1]

        shape = signed(max(formats.c.width, *(to.width for each in self._directions
                                              for to in (each.formats.g, each.formats.s))))
        products = [Multiplier(unsigned(formats.gate.width), shape, stages=k.pipeline.multiplier)
                    for _ in multipliers]

        def product_of(shared: _Shared) -> Value:
            return products[multipliers.index(shared)].p

        # Both products are aligned to the finer binary point before they are added.
        present = t.input_product + k.pipeline.multiplier
        f_c = token.carry(product_of(forget), t.forget_product + k.pipeline.multiplier, present)
        i_g = aligned(product_of(enter), present, lambda each: each.formats.g.f)
        fraction = max(each.formats.state_fraction for each in self._directions)
        of_g = max(each.formats.g.f for each in self._directions)
        exact = (f_c << fraction - formats.gate.f - formats.c.f) + (
            i_g << fraction - formats.gate.f - of_g)
        total = Signal(signed(len(exact)), name="c_exact", reset_less=True)
        m.d.sync += total.eq(exact)
        c_code, c_overflow = fitted(total, fraction, formats.c)
        squashing = [each for each in kinds(lambda each: (each.of_cell.table, each.squashed))
                     if each.of_cell.table]
        fits = [fitted(total, fraction, each.squashed) for each in squashing]
        m.d.sync += self.c.eq(c_code)
        u_overflow: Value = Const(0)
        if fits:
            u_code, u_overflow = own_pair(t.state - 1, fits)
            u = Signal(signed(formats.z.width), reset_less=True)
            m.d.sync += u.eq(u_code)
            squash[1].use(t.state, u, own(t.state, [Const(each.cell_reading)
                                                    for each in squashing]))

        def passed_on(each: QuantizedLSTM) -> tuple[Value, Value, int]:
            """What becomes of c', in the time of a table; whether it saturates, and when."""
            if each.of_cell.table:
                name = of_all.readings[each.cell_reading].name
                return getattr(squash[0], name), u_overflow, t.state - 1
            if not each.slope:
                code, _ = limited(self.c, formats.c, each.of_cell)
                return delayed(m, code, k.pipeline.table), Const(0), t.state - 1
            # With a register before the limits if it is long.
            below = each.slope.f + formats.c.f - each.formats.s.f
            late = int(k.pipeline.table > 5)
            whole = floor_to_even(
                line(m, self.c, each.slope, offset=each.slope.b + half(below),
                     cycles=k.pipeline.table - 1 - late),
                below, lambda value: delayed(m, value, late))
            code, overflow = limited(whole, each.formats.s, each.of_cell)
            return delayed(m, code, 1), overflow, t.state + k.pipeline.table - 1

        shown, overflows, times = zip(*map(passed_on, kinds(lambda each: (
            each.of_cell, each.cell_reading, each.slope, each.formats.s))), strict=True)
        u_saturates = reduce(or_, (
            own(at, [overflow if n == place else Const(0) for place in range(len(times))])
            & token.at(at) for n, (overflow, at) in enumerate(zip(overflows, times, strict=True))))
        m.d.comb += [
            store.write_addr.eq(Cat(counter(t.state, units - 1),
                                    token.carry(stream, read_at, t.state))),
            store.write_data.eq(self.c),
            store.write_en.eq(token.at(t.state)),
        ]
        if self._sets:
            with m.If(self.set_en):
                m.d.comb += [
                    store.write_addr.eq(Cat(self.set_index, self.set_stream)),
                    store.write_data.eq(self.set_c),
                    store.write_en.eq(1),
                ]

        z_saturates = Cat(z_overflow).any() & z_active
        if formats.p:
            # The output gate, with the new cell state.
            o_sum = peeped(token.carry(output, k.pipeline.bias + t.slot(GATES - 1), t.peeped - 1),
                           peepholes[-1][0].p)
            whole = floor_to_even(o_sum, drop,
                                  lambda value: delayed(m, value, k.pipeline.preactivation - 1))
            code, overflow = bounded(whole, 3)
            z_o = Signal(signed(formats.z.width), reset_less=True)
            m.d.sync += z_o.eq(code)
            z_saturates |= overflow & token.at(t.preactivation[3] - 1)
            unit, shared = tables[t.table_of[3]]
            if any(tabled(3)):
                shared.use(t.preactivation[3], z_o, SIGMOID)
            gate.append(result(3, unit, z_o if all(tabled(3)) else delayed(
                m, z_o[:formats.gate.width], k.pipeline.table)))

        # The hidden state.
        show.use(t.squashed, token.carry(gate[3], t.gate[3], t.squashed),
                 token.carry(own(t.state + k.pipeline.table, shown), t.state + k.pipeline.table,
                             t.squashed))
        h_code, h_overflow = fitted(
            aligned(product_of(show), t.squashed + k.pipeline.multiplier,
                    lambda each: each.formats.s.f),
            formats.gate.f + max(each.formats.s.f for each in self._directions), formats.m)
        hold = Signal(signed(formats.m.width), name="h_now", reset_less=True)
        m.d.sync += hold.eq(h_code)
        m.d.comb += self.h.eq(hold)

        for n in t.used_tables(k.lines):
            unit, shared = tables[n]
            m.submodules[f"table{n}"] = unit
            shared.connect(m, token, (unit.z, unit.reading))
        for n, (product, shared) in enumerate(zip(products, multipliers, strict=True)):
            m.submodules[f"product{n}"] = product
            shared.connect(m, token, (product.a, product.b))
        for n, (multiplier, shared) in enumerate(peepholes):
            m.submodules[f"peephole_product{n}"] = multiplier
            shared.connect(m, token, (multiplier.a, multiplier.b))
        m.d.sync += self.overflow.eq(Cat(
            z_saturates, u_saturates,
            c_overflow & token.at(t.state - 1), h_overflow & token.at(t.hidden - 1)))
        return m
