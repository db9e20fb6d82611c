"""The gates of a lane's units (:mod:`hdl.lane`), and the candidate: from sums to what lets through.

Each method adds one part and gives what the next ones take; the distances at which all of it
happens are those of :class:`hdl.drain_timing.DrainTiming`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed

from golden.activation import SIGMOID, TANH
from golden.fixed import SQ, Format
from golden.formats import Curve
from golden.quantized import QuantizedLSTM
from hdl.drain_timing import CANDIDATE, GATES
from hdl.lane_parts import LaneParts
from hdl.mac import bias_memory
from hdl.registers import delayed
from hdl.rounding import floor_to_even, limited
from hdl.table import TableUnit
from hdl.token import LEAD

__all__ = ["LaneGates", "Preactivations"]


@dataclass(frozen=True, eq=False)
class Preactivations:
    """What becomes of the sums of a unit.

    Parameters
    ----------
    lines : sequence of Value
        By table, the rounded ones that need none; at the time of a table's result.
    output : Value
        The sum of an output gate that waits for the new cell state.
    saturates : Value
        Whether one did, in the last cycle.
    """

    lines: Sequence[Value]
    output: Value
    saturates: Value


class LaneGates:
    """Makes gates of sums; its methods are called once each, in the order in which they stand.

    Parameters
    ----------
    parts : LaneParts

    Attributes
    ----------
    peephole_slots : int
        Weights of a unit that the multiplier of the first gates takes one after the other.
    """

    def __init__(self, parts: LaneParts) -> None:
        self._parts = parts
        self._m, self._lane, self._token = parts.m, parts.lane, parts.token
        self._directions, self._formats, self._k, self._t = (
            parts.directions, parts.formats, parts.k, parts.t)
        self._peephole_words = parts.words.peepholes() if parts.formats.p else []
        self.peephole_slots = self._peephole_words[0][1] if self._peephole_words else 0
        # Bits of the sums that fall away.
        self._drop = parts.formats.product_fraction - parts.formats.z.f

    def multiply_peepholes(self, c: Value) -> None:
        """Their products with the cell state, which begin as the sums leave the chain."""
        m, t, formats = self._m, self._t, self._formats
        assert formats.p is not None
        for n, (words, slots) in enumerate(self._peephole_words):
            rom, layout = bias_memory([[word] for word in words], width=formats.p.width)
            m.submodules[f"peephole{n}"] = rom
            of_output = n == len(self._peephole_words) - 1
            at = t.state if of_output else 0
            read_at = at - rom.latency
            m.d.comb += rom.addr[0].eq(self._parts.banked(
                self._parts.counter(read_at, self._parts.units * slots - 1, slots), read_at))
            self._parts.peepholes[-1 if of_output else n].use(
                at, layout(rom.data[0])[0], self._lane.c if of_output else c)

    def _peeped(self, total: Value, product: Value) -> Signal:
        """The sum with the product of a peephole, in a register."""
        exact = total + (product << self._directions.layers[0].peephole_shift)
        result = Signal.like(exact, name="peeped", reset_less=True)
        self._m.d.sync += result.eq(exact)
        return result

    def _bounds(self, each: QuantizedLSTM, gate: int) -> tuple[SQ, Curve]:
        """Format and limits of a direction's preactivation."""
        return (each.candidate, each.of_candidate) if gate == CANDIDATE else (
            self._formats.z, each.gate)

    def _limits(self, gate: int) -> list[tuple[int, Curve]]:
        """The width and the limits of a preactivation, in each direction."""
        return [(to.width, curve) for each in self._directions.layers
                for to, curve in [self._bounds(each, gate)]]

    def _bounded(self, whole: Value, gate: int) -> tuple[Value, Value]:
        """A preactivation, and whether it saturates."""
        return self._directions.select_pair(self._t.preactivation[gate] - 1, [
            limited(whole, *self._bounds(each, gate))
            for each in self._directions.kinds(lambda each: self._bounds(each, gate))])

    def _tabled(self, *gates: int) -> list[bool]:
        """Whether they come from the table, in each direction."""
        return [curve.table for gate in gates for _, curve in self._limits(gate)]

    def preactivations(self) -> Preactivations:
        """Add biases and peepholes, round, saturate, and look up or let pass.

        A tie is what leaves nothing below once half an ulp has been added.
        """
        m, t, k, lane = self._m, self._t, self._k, self._lane
        bias_address: Value = self._parts.counter(-LEAD, self._parts.units * t.slots - 1, t.slots)
        if self._parts.words.has_first_biases:
            bias_address = Cat(bias_address, lane.fresh)
        if len(self._directions.layers) > 1:
            bias_address = Cat(bias_address, lane.stream)
        lines: list[Value] = []
        saturates: list[Value] = []
        output: Value = Const(0)
        stored = self._parts.words.biases(
            drop=self._drop, halved=list(map(_of_tanh, self._directions.layers)))
        for n, biases in enumerate(stored):
            rom, layout = bias_memory([[bias] for bias in biases])
            m.submodules[f"bias{n}"] = rom
            m.d.comb += rom.addr[0].eq(bias_address)
            # The totals run on: their difference is a pass's sum, modulo what they wrap around at.
            passed = (lane.totals[n] - lane.before[n])[:len(lane.totals[n])]
            bias = layout(delayed(m, rom.data[0], k.pipeline.bias - 1))[0]
            biased = delayed(m, passed, k.pipeline.bias - 1).as_signed() + bias
            total = Signal.like(biased, name=f"biased{n}", reset_less=True)
            m.d.sync += total.eq(biased)
            gates = [slot * t.gate_tables + n for slot in range(t.slots)]
            if self._formats.p:
                # The output gate waits for c' here.
                if gates[-1] == GATES - 1:
                    output = total
                if gates == [GATES - 1]:
                    break
                p_c: Value = Const(0)
                if n < 2:
                    p_c = self._parts.peepholes[n].part.p
                    if CANDIDATE in gates:
                        p_c = Mux(self._token.at(t.summed - 1 + t.slot(CANDIDATE)), 0, p_c)
                total = self._peeped(delayed(m, total, t.summed - 1 - k.pipeline.bias), p_c)
            line, overflow = self._rounded(n, gates, total)
            lines.append(line)
            saturates.append(overflow)
        active = Cat(self._token.at(t.preactivation[0] - 1 + slot) for slot in range(t.slots)).any()
        return Preactivations(lines=lines, output=output, saturates=Cat(saturates).any() & active)

    def _rounded(self, n: int, gates: Sequence[int], total: Signal) -> tuple[Value, Value]:
        """The preactivations of the gates that come from one table, in their order.

        Gives those that need no table, at the time of its result, and whether one saturates.
        """
        m, t, k, directions = self._m, self._t, self._k, self._directions
        tanhs = [_of_tanh(each) for each in directions.layers]
        readings = {each.candidate_reading for each in directions.layers
                    if each.of_candidate.table}
        width = max(self._formats.z.width, *(each.candidate.width for each in directions.layers))
        doubled: Value = total
        reading: Value = Const(SIGMOID)
        # Half of a single bit that is dropped could not be added before.
        twice = Cat(Const(self._drop == 1, 1), total).as_signed()
        if CANDIDATE in gates and readings:
            at = t.summed + t.slot(CANDIDATE)
            entering = t.preactivation[CANDIDATE]
            doubled = directions.select(at, [twice if _of_tanh(each) else total
                                             for each in directions.kinds(_of_tanh)])
            reading = (Const(*readings) if len(readings) == 1 else directions.select(
                entering, [Const(each.candidate_reading) for each in directions.layers]))
            if len(gates) > 1:
                doubled = Mux(self._token.at(at), doubled, total) if any(tanhs) else total
                reading = (self._token.at(entering) if readings == {TANH}
                           else Mux(self._token.at(entering), reading, SIGMOID))
        whole = floor_to_even(doubled, self._drop,
                              lambda value: delayed(m, value, k.pipeline.preactivation - 1))
        code, overflow = self._bounded(whole, n)
        if CANDIDATE in gates[1:] and self._limits(n) != self._limits(CANDIDATE):
            now = self._token.at(t.preactivation[CANDIDATE] - 1)
            code, overflow = (Mux(now, theirs, ours) for theirs, ours in zip(
                self._bounded(whole, CANDIDATE), (code, overflow), strict=True))
        z = Signal(signed(width), name=f"z{n}", reset_less=True)
        m.d.sync += z.eq(code)
        if self._formats.p and gates[-1] == GATES - 1:
            overflow &= ~self._token.at(t.preactivation[0] - 1 + t.slot(GATES - 1))
        if any(self._tabled(*gates)):
            self._parts.tables[n].use(t.preactivation[n], z, reading)
        # Without a table it is the gate itself, at the same time.
        return (z if all(self._tabled(*gates)) else delayed(m, z, k.pipeline.table)), overflow

    def _gate(self, n: int, unit: TableUnit, through: Value) -> Value:
        """A gate, or the candidate, of what a table gives and of the preactivation."""
        def what(each: QuantizedLSTM) -> tuple[bool, Format, int]:
            to, reading = (each.formats.g, each.candidate_reading) if n == CANDIDATE else (
                self._formats.gate, SIGMOID)
            return self._bounds(each, n)[1].table, to, reading

        def of(each: QuantizedLSTM) -> Value:
            from_table, to, reading = what(each)
            if not from_table:
                code = through[:to.width]
                return code.as_signed() if to.signed else code
            code = getattr(unit, self._parts.table.readings[reading].name)
            return code if to.signed else code[:to.width]

        return self._directions.select(self._t.gate[n], [
            of(each) for each in self._directions.kinds(what)])

    def gates(self, z: Preactivations) -> list[Value]:
        """i, f, the candidate and o, but for an output gate that waits for c'."""
        tables = self._t.gate_tables
        return [self._gate(n, self._parts.tables[n % tables].part, z.lines[n % tables])
                for n in range(3 if self._formats.p else GATES)]

    def late_output(self, z: Preactivations) -> tuple[Value, Value]:
        """The output gate that sees the new cell state, and whether its preactivation saturates."""
        m, t, k, formats = self._m, self._t, self._k, self._formats
        total = self._peeped(
            self._token.carry(z.output, k.pipeline.bias + t.slot(GATES - 1), t.peeped - 1),
            self._parts.peepholes[-1].part.p)
        whole = floor_to_even(total, self._drop,
                              lambda value: delayed(m, value, k.pipeline.preactivation - 1))
        code, overflow = self._bounded(whole, 3)
        z_o = Signal(signed(formats.z.width), reset_less=True)
        m.d.sync += z_o.eq(code)
        table = self._parts.tables[t.table_of[3]]
        if any(self._tabled(3)):
            table.use(t.preactivation[3], z_o, SIGMOID)
        through = z_o if all(self._tabled(3)) else delayed(
            m, z_o[:formats.gate.width], k.pipeline.table)
        return self._gate(3, table.part, through), overflow & self._token.at(
            t.preactivation[3] - 1)


def _of_tanh(each: QuantizedLSTM) -> bool:
    """Whether the table takes half the argument of a direction's candidate."""
    return each.of_candidate.table and each.candidate_reading == TANH
