"""The table unit: sigmoid and tanh, one result each cycle."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from golden.activation import SigmoidTable
from hdl.cycles import TABLE_LATENCY
from hdl.rounding import rounded

__all__ = ["TableUnit"]


class TableUnit(wiring.Component):
    """Evaluates a :class:`golden.activation.SigmoidTable`.

    Fully pipelined: takes an argument each cycle and gives its result ``latency`` cycles later.
    The stages: magnitude; look-up; operands; product; interpolated value; rounding; sign.

    Parameters
    ----------
    table : SigmoidTable

    Attributes
    ----------
    latency : int
        Cycles from ``z`` to ``o``.

    Members
    -------
    z : In(signed(table.z.width))
        Code of the argument, in ``table.z`` for the sigmoid, in ``table.candidate`` for tanh.
    tanh : In(1)
        Whether tanh is wanted.
    o : Out(signed)
        Code in ``table.gate`` or ``table.tanh``; wide enough for both.
    """

    latency = TABLE_LATENCY

    def __init__(self, table: SigmoidTable):
        self._table = table
        self._shape = signed(max(table.gate.f + 2, table.tanh.width))
        super().__init__({
            "z": In(signed(table.z.width)),
            "tanh": In(1),
            "o": Out(self._shape),
        })

    @property
    def table(self) -> SigmoidTable:
        return self._table

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        t = self._table
        magnitude_bits, remainder_bits = t.z.width - 1, t.remainder_bits

        # The sign and the wanted function travel beside the value.
        def delayed(value: Value, cycles: int) -> Value:
            for _ in range(cycles):
                register = Signal.like(value, reset_less=True)
                m.d.sync += register.eq(value)
                value = register
            return value

        # The most negative code has a magnitude of one too many bits: it counts as the largest.
        negative = self.z < 0
        absolute = Mux(negative, -self.z, self.z)[:magnitude_bits + 1]
        magnitude = Signal(magnitude_bits, reset_less=True)
        m.d.sync += magnitude.eq(absolute[:magnitude_bits] | absolute[-1].replicate(magnitude_bits))

        half = 1 << t.knot_fraction - 1
        knot_bits = t.knot_fraction
        words = [int(knot) - half | int(slope) << knot_bits
                 for knot, slope in zip(t.knots, t.slopes, strict=False)]
        rom: memory.Memory = memory.Memory(
            shape=unsigned(knot_bits + t.slope_bits), depth=len(words), init=words)
        m.submodules.rom = rom
        port = rom.read_port()
        m.d.comb += port.addr.eq(magnitude[remainder_bits:])

        word = delayed(port.data, 1)
        remainder = delayed(magnitude[:remainder_bits], 2)
        knot, slope = word[:knot_bits], word[knot_bits:]

        product = Signal(t.slope_bits + remainder_bits, reset_less=True)
        m.d.sync += product.eq(slope * remainder)
        # The value's distance from a half.
        value = Signal(t.fraction, reset_less=True)
        m.d.sync += value.eq(Cat(Const(0, remainder_bits), delayed(knot, 1)) + product)

        tanh = delayed(self.tanh, 5)
        as_gate = rounded(Cat(value, Const(0, 1)), t.fraction - t.gate.f)
        as_tanh = rounded(Cat(value, Const(0, 1)), t.fraction - 1 - t.tanh.f)
        result = Signal(self._shape, reset_less=True)
        m.d.sync += result.eq(as_gate if t.gate.f == t.tanh.f + 1
                              else Mux(tanh, as_tanh, as_gate))

        middle = Mux(delayed(tanh, 1), 0, 1 << t.gate.f - 1)
        m.d.sync += self.o.eq(Mux(delayed(negative, 6), middle - result, middle + result))
        return m
