"""The drain: from the sums of a pass to new cell and hidden states, while the next pass runs.

Sums are handed over to the *hold chain*, which shifts them out: unit by unit, gate by gate. Each
lane then adds the bias, rounds to the preactivation, looks up the gates, updates the cell state
and gives the hidden state. Every operation of a unit happens at a fixed distance from the cycle
in which its first sums leave the chain; :class:`hdl.cycles.DrainTiming` holds these distances,
and a *token* that travels along them switches each register and multiplexer.

The bias is added here rather than loaded into the accumulators: a lane needs one adder and one
narrow memory for it, the array would need a word as wide as all its accumulators in every pass.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from golden.quantized import QuantizedLSTM
from hdl.buffer import Beat
from hdl.cycles import MULTIPLIER_LATENCY, LSTMCycles
from hdl.multiplier import Multiplier
from hdl.rounding import round_saturate
from hdl.table import TableUnit

__all__ = ["Drain"]

GATES = 4


class _Token:
    """Marks how far a unit has come: one bit for each cycle, and registers that travel with it."""

    def __init__(self, m: Module, at: Sequence[Value], interval: int):
        self._m = m
        self.at = at
        self._interval = interval

    def carry(self, value: Value, present: int, wanted: int) -> Value:
        """Keep what is present in one cycle until another.

        A register holds for as long as the next unit is away, so a few reach far.
        """
        while present < wanted:
            register = Signal.like(value, name="carried", reset_less=True)
            with self._m.If(self.at[present]):
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

    def connect(self, m: Module, token: _Token, inputs: Sequence[Signal]) -> None:
        for n, (cycle, operands) in enumerate(self.uses):
            statements = [i.eq(operand) for i, operand in zip(inputs, operands, strict=True)]
            if n == 0:
                m.d.comb += statements
            else:
                with m.If(token.at[cycle]):
                    m.d.comb += statements


class _Lane(wiring.Component):
    """One lane of the drain.

    Members
    -------
    sums : In(ArrayLayout(signed, gate_tables))
        The head of the hold chain.
    token : In(timing.hidden + 1)
        Bit n: a unit's first sums left the chain n cycles ago.
    fresh : In(1)
        With bit 0: the step is the first of its sequence, so c is 0.
    c, h : Out(signed)
        The new states.
    overflow : Out(4)
        A preactivation, tanh argument, cell state or hidden state saturated in the last cycle.
    """

    def __init__(self, layer: QuantizedLSTM, cycles: LSTMCycles, lane: int):
        self._layer = layer
        self._cycles = cycles
        self._lane = lane
        formats = layer.formats
        super().__init__({
            "sums": In(data.ArrayLayout(signed(layer.array.width), cycles.timing.gate_tables)),
            "token": In(cycles.timing.hidden + 1),
            "fresh": In(1),
            "c": Out(signed(formats.c.width)),
            "h": Out(signed(formats.h.width)),
            "overflow": Out(4),
        })

    def _biases(self) -> list[list[int]]:
        """The biases in the order in which the sums leave the chain, one list for each table."""
        k, layer = self._cycles, self._layer
        order = []
        for a_pass in range(k.passes):
            for group in range(k.groups):
                within = group * k.folding.lanes + self._lane
                unit = a_pass * k.folding.units + within
                real = within < k.folding.units and unit < layer.hidden
                order += [int(layer.bias[gate * layer.hidden + unit]) if real else 0
                          for gate in range(GATES)]
        tables = k.timing.gate_tables
        return [order[table::tables] for table in range(tables)]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        k, t, formats = self._cycles, self._cycles.timing, self._layer.formats
        tables = [(TableUnit(self._layer.table), _Shared())
                  for _ in range(t.tables)]
        multipliers = [_Shared() for _ in range(t.state_multipliers)]
        token = _Token(m, list(self.token), t.interval)

        def counter(cycle: int, last: int, slots: int = 1) -> Signal:
            """Counts the units that pass a distance, or each of their slots."""
            count = Signal(range(last + 1))
            with m.If(Cat(token.at[cycle + slot] for slot in range(slots)).any()):
                m.d.sync += count.eq(Mux(count == last, 0, count + 1))
            return count

        # Preactivations.
        bias_address = counter(0, k.passes * k.groups * t.slots - 1, t.slots)
        z_overflow = []
        z_active = Cat(token.at[2 + slot] for slot in range(t.slots)).any()
        for n, (table, biases) in enumerate(zip(tables[:t.gate_tables], self._biases(),
                                                strict=True)):
            width = max(1, *(bias.bit_length() + 1 for bias in biases))
            rom: memory.Memory = memory.Memory(shape=signed(width), depth=len(biases), init=biases)
            m.submodules[f"bias{n}"] = rom
            port = rom.read_port()
            m.d.comb += port.addr.eq(bias_address)
            held = Signal.like(self.sums[n], reset_less=True)
            total = Signal(signed(self._layer.accumulator.width), reset_less=True)
            m.d.sync += [held.eq(self.sums[n]), total.eq(held + port.data)]

            # The candidate has a fraction bit more: the table takes half its argument.
            uses_tanh = [slot for slot in range(t.slots) if slot * t.gate_tables + n == 2]
            doubled: Value = total
            is_tanh: Value = Const(0)
            if uses_tanh:
                is_tanh = token.at[t.preactivation[2]]
                doubled = Mux(token.at[t.preactivation[2] - 1], total << 1, total)
            code, overflow = round_saturate(doubled, formats.product_fraction, formats.z)
            z = Signal(signed(formats.z.width), name=f"z{n}", reset_less=True)
            m.d.sync += z.eq(code)
            z_overflow.append(overflow & z_active)
            table[1].use(t.preactivation[n], z, is_tanh)
        gate = [tables[n % t.gate_tables][0].sigmoid for n in range(GATES)]
        gate[2] = tables[2 % t.gate_tables][0].tanh

        # The cell state.
        store: memory.Memory = memory.Memory(
            shape=signed(formats.c.width), depth=k.passes * k.groups, init=[])
        m.submodules.c_memory = store
        read, write = store.read_port(), store.write_port()
        fresh = token.carry(self.fresh, 0, t.forget_product)
        m.d.comb += read.addr.eq(counter(t.forget_product - 1, k.passes * k.groups - 1))
        c_before = Mux(fresh, 0, read.data)
        forget = multipliers[0]
        forget.use(t.forget_product, gate[1], c_before)
        enter = multipliers[0 if t.shared_product else 1]
        enter.use(t.input_product, token.carry(gate[0], t.gate[0], t.input_product),
                  token.carry(gate[2], t.gate[2], t.input_product))

        hold = Signal(signed(formats.h.width), name="h_now", reset_less=True)
        squash = tables[0 if t.shared_table else -1]
        show = multipliers[0 if t.shared_multiplier else -1]

        shape = signed(max(len(gate[0]), len(gate[2]), formats.c.width))
        products = [Multiplier(signed(len(gate[0])), shape) for _ in multipliers]

        def product_of(shared: _Shared) -> Signal:
            return products[multipliers.index(shared)].p

        # Both products are aligned to the finer binary point before they are added.
        present = t.input_product + MULTIPLIER_LATENCY
        f_c = token.carry(product_of(forget), t.forget_product + MULTIPLIER_LATENCY, present)
        i_g = product_of(enter)
        fraction = formats.state_fraction
        exact = (f_c << fraction - formats.gate.f - formats.c.f) + (
            i_g << fraction - formats.gate.f - formats.tanh.f)
        total = Signal(signed(len(exact)), name="c_exact", reset_less=True)
        m.d.sync += total.eq(exact)
        c_code, c_overflow = round_saturate(total, fraction, formats.c)
        u_code, u_overflow = round_saturate(total, fraction, self._layer.candidate)
        u = Signal(signed(formats.z.width), reset_less=True)
        m.d.sync += [self.c.eq(c_code), u.eq(u_code)]
        m.d.comb += [
            write.addr.eq(counter(t.state, k.passes * k.groups - 1)),
            write.data.eq(self.c),
            write.en.eq(token.at[t.state]),
        ]

        # The hidden state.
        squash[1].use(t.state, u, 1)
        show.use(t.squashed, token.carry(gate[3], t.gate[3], t.squashed), squash[0].tanh)
        h_code, h_overflow = round_saturate(product_of(show),
                                            formats.gate.f + formats.tanh.f, formats.h)
        m.d.sync += hold.eq(h_code)
        m.d.comb += self.h.eq(hold)

        for n, (unit, shared) in enumerate(tables):
            m.submodules[f"table{n}"] = unit
            shared.connect(m, token, (unit.z, unit.reading))
        for n, (product, shared) in enumerate(zip(products, multipliers, strict=True)):
            m.submodules[f"product{n}"] = product
            shared.connect(m, token, (product.a, product.b))
        m.d.sync += self.overflow.eq(Cat(
            Cat(z_overflow).any(), u_overflow & token.at[t.state - 1],
            c_overflow & token.at[t.state - 1], h_overflow & token.at[t.hidden - 1]))
        return m


class Drain(wiring.Component):
    """All lanes of the drain, with the hold chain and the control they share.

    Parameters
    ----------
    layer : QuantizedLSTM
    cycles : LSTMCycles

    Members
    -------
    load : In(1)
        The sums of a pass are there. Not again before ``groups * interval`` cycles.
    sums : In(ArrayLayout(signed, 4 * units))
        The gates i, f, g, o of the first unit, then of the next.
    fresh, emit, last : In(1)
        With ``load``: the step is the first of its sequence; is to be emitted; is the last.
    valid : Out(1)
        New hidden states come out.
    emitted : Out(1)
        They are to be emitted.
    h : Out(Beat)
        The hidden states of the next units, in order.
    saturated : Out(4)
        Sticky: a preactivation, tanh argument, cell state or hidden state has saturated.
    probe_c_valid, probe_h_valid : Out(lanes)
        Which lanes have a new state of a unit in this cycle, for a test bench.
    probe_c_data, probe_h_data : Out
        The states, the first lane's lowest.
    """

    def __init__(self, layer: QuantizedLSTM, cycles: LSTMCycles):
        self._layer = layer
        self._cycles = cycles
        formats, lanes = layer.formats, cycles.folding.lanes
        super().__init__({
            "load": In(1),
            "sums": In(data.ArrayLayout(signed(layer.array.width), GATES * cycles.folding.units)),
            "fresh": In(1),
            "emit": In(1),
            "last": In(1),
            "valid": Out(1),
            "emitted": Out(1),
            "h": Out(Beat(formats.h.width, lanes)),
            "saturated": Out(4),
            "probe_c_valid": Out(lanes),
            "probe_c_data": Out(unsigned(lanes * formats.c.width)),
            "probe_h_valid": Out(lanes),
            "probe_h_data": Out(unsigned(lanes * formats.h.width)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        k, t = self._cycles, self._cycles.timing
        lanes, units, groups = k.folding.lanes, k.folding.units, k.groups

        # A unit leaves every ``interval`` cycles, its gates in the first of them.
        left = Signal(range(groups + 1))
        phase = Signal(range(t.interval))
        start = Signal()
        m.d.comb += start.eq((left != 0) & (phase == 0))
        with m.If(left != 0):
            m.d.sync += phase.eq(phase + 1)
            with m.If(phase == t.interval - 1):
                m.d.sync += [phase.eq(0), left.eq(left - 1)]
        flags = Signal(3)
        with m.If(self.load):
            m.d.sync += [left.eq(groups), phase.eq(0),
                         flags.eq(Cat(self.fresh, self.emit, self.last))]
        fresh, emit, last = flags

        marks = Signal(t.hidden)
        m.d.sync += marks.eq(Cat(start, marks))
        token = _Token(m, [start, *marks], t.interval)
        shift = (left != 0) & (phase < t.slots)

        parts = []
        for lane in range(lanes):
            part = _Lane(self._layer, k, lane)
            m.submodules[f"lane{lane}"] = part
            parts.append(part)
            chain = [Signal(signed(self._layer.array.width), name=f"hold{lane}_{n}",
                            reset_less=True) for n in range(GATES * groups)]
            for n, register in enumerate(chain):
                within = n // GATES * lanes + lane
                loaded = self.sums[within * GATES + n % GATES] if within < units else 0
                behind = n + t.gate_tables
                with m.If(self.load):
                    m.d.sync += register.eq(loaded)
                if behind < len(chain):
                    with m.Elif(shift):
                        m.d.sync += register.eq(chain[behind])
            m.d.comb += [part.token.eq(Cat(token.at)), part.fresh.eq(fresh)]
            m.d.comb += [part.sums[n].eq(chain[n]) for n in range(t.gate_tables)]

        counts = k.counts

        def count_at(cycle: int) -> Value:
            """Units in the beat that passes a distance."""
            if len(set(counts)) == 1:
                return Value.cast(Mux(token.at[cycle], lanes, 0))
            beat = Signal(range(len(counts)))
            with m.If(token.at[cycle]):
                m.d.sync += beat.eq(Mux(beat == len(counts) - 1, 0, beat + 1))
            return Mux(token.at[cycle], Array(counts)[beat], 0)

        c_count, h_count = count_at(t.state), count_at(t.hidden)
        m.d.comb += [
            self.h.count.eq(h_count),
            self.h.last.eq(token.carry(last, 0, t.hidden)),
            self.valid.eq(h_count != 0),
            self.emitted.eq(token.carry(emit, 0, t.hidden)),
            self.probe_c_data.eq(Cat(part.c for part in parts)),
            self.probe_h_data.eq(Cat(part.h for part in parts)),
        ]
        for lane, part in enumerate(parts):
            m.d.comb += [
                self.h.data[lane].eq(part.h),
                self.probe_c_valid[lane].eq(lane < c_count),
                self.probe_h_valid[lane].eq(lane < h_count),
            ]
        overflow = [part.overflow for part in parts]
        m.d.sync += self.saturated.eq(reduce(or_, overflow, self.saturated))
        return m
