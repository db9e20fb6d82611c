"""Tables, lines, sums and quotients are within their bounds, and exact."""

from functools import cache, partial

from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Const, Module, Mux, Signal, signed

from golden.activation import sigmoid_table
from golden.fixed import SQ, UQ
from golden.formats import Slope
from golden.softmax import Softmax
from golden.table import Table
from hdl.scaling import line
from hdl.softmax import _Reciprocal
from hdl.table import TableUnit
from hdl.vector_cycles import SoftmaxCycles
from proofs.proof import Fault, Proof
from proofs.rules import anything, opened

__all__ = ["PROOFS"]

LINES = ((1, 0), (-1, 5), (-7, -4096), (0b1011011101111, 1), (1 << 17, -1),
         (-0b101010101010101010, 1 << 20))
"""Constants with few digits and with as many as 18 bits can have, of both signs, and offsets."""


def lines() -> Module:
    m = Module()
    value = Signal(signed(8))
    age = Signal(range(6))
    m.d.comb += value.eq(AnyConst(signed(8)))
    m.d.sync += age.eq(Mux(age == 5, 5, age + 1))
    for a, offset in LINES:
        scaled = line(m, value, Slope(a, 0, 0), offset=offset, cycles=5)
        m.d.comb += Assert((age != 5) | (scaled == value * Const(a, signed(20)) + offset))
    return m


@cache
def tables() -> tuple[Table, ...]:
    """Those of 8 and of 16 bits, and one of degree 2."""
    return (sigmoid_table(z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6)),
            sigmoid_table(z=SQ(5, 15), gate=UQ(1, 15), tanh=SQ(2, 14)),
            sigmoid_table(z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6), degree=2))


def segments() -> Module:
    m = Module()
    for n, table in enumerate(tables()):
        m.submodules[f"dut{n}"] = dut = TableUnit(table)
        anything(m, dut)
        m.d.comb += Assert(opened(dut).submodules.knots.addr[0] < table.segments)
    return m


def quotients(unit: Softmax) -> Module:
    m = Module()
    k = SoftmaxCycles(unit=unit, rows=1)
    m.submodules.dut = dut = _Reciprocal(k)
    anything(m, dut)
    # The largest of the powers is 1.
    m.d.comb += Assume((dut.divisor >= 1 << unit.fine) & (dut.divisor <= unit.inputs << unit.fine))
    divisor = Signal.like(dut.divisor, name="taken_divisor")
    with m.If(dut.taken):
        m.d.sync += divisor.eq(dut.divisor)
    exact, twice = 1 << unit.fine + unit.scale + 1, 2 * dut.quotient
    m.d.comb += Assert(~dut.done | ((twice * divisor + divisor > exact)
                                    & (twice * divisor <= exact + divisor)))
    return m


PROOFS = (
    Proof(name="scaling.exact", bench=lines, depth=7,
          claim="a constant times a value, made of shifts and adders, is the product",
          faults=[Fault(module="hdl.scaling", old="else -(value.as_signed() << shift)",
                        new="else (value.as_signed() << shift)", depth=10)]),
    Proof(name="table.segment", bench=segments,
          claim="no argument makes a table unit look outside of its table",
          faults=[Fault(module="hdl.table", old="numbered = of_block([(1 << split) - 1",
                        new="numbered = of_block([(2 << split) - 1", depth=5)]),
    Proof(name="softmax.quotient", depth=10,
          bench=partial(quotients, Softmax(x=SQ(2, 2), inputs=3, y=SQ(2, 2))),
          claim="the reciprocal of a sum of powers is rounded to nearest, for every sum",
          faults=[Fault(module="hdl.softmax", old="left.eq(bits - 1)", new="left.eq(bits - 2)",
                        depth=20),
                  Fault(module="hdl.softmax", old="self.quotient.eq((found + 1)[1:])",
                        new="self.quotient.eq(found[1:])", depth=20)]),
)
