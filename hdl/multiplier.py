"""A multiplier with all the registers that a device's multiplier block wants."""

from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.cycles import MULTIPLIER_LATENCY

__all__ = ["Multiplier"]

# Lattice FPGA-TN-02205: an operand of a MULT18X18D, signed or unsigned.
ECP5_BITS = 18


class Multiplier(wiring.Component):
    """Exact product of two numbers, one each cycle.

    Operands and product are registered; the registers have no reset. On an ECP5 they are those of
    a ``MULT18X18D``, if both operands fit in its 18 bits; Yosys infers the block without them.

    nextpnr-ecp5 times the way into the block and the way out of it, but not the one inside, from
    register to register. Its tables for a block with fewer registers give 3.9 ns from the operand
    registers to the pins of the product at speed grade 6, so believe no clock above 250 MHz.

    Parameters
    ----------
    a, b : Shape
        Of the operands; each may be signed or not.

    Attributes
    ----------
    latency : int
        Cycles from ``a`` and ``b`` to ``p``.

    Members
    -------
    a : In(a)
    b : In(b)
    p : Out
        ``a * b``, as wide as both operands together; signed if one of them is.

    Raises
    ------
    ValueError
        If an operand has no bits.
    """

    latency = MULTIPLIER_LATENCY

    def __init__(self, a: Shape, b: Shape):
        for name, shape in (("a", a), ("b", b)):
            if shape.width < 1:
                raise ValueError(f"multiplier operand {name} must have at least one bit, "
                                 f"not {shape!r}")
        super().__init__({
            "a": In(a),
            "b": In(b),
            "p": Out(Shape(a.width + b.width, signed=a.signed or b.signed)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if (getattr(platform, "family", None) == "ecp5"
                and max(len(self.a), len(self.b)) <= ECP5_BITS):
            m.submodules.block = self._ecp5()
            return m
        a = Signal.like(self.a, name="a_register", reset_less=True)
        b = Signal.like(self.b, name="b_register", reset_less=True)
        p = Signal.like(self.p, name="p_register", reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b), p.eq(a * b)]
        m.d.comb += self.p.eq(p)
        return m

    def _ecp5(self) -> Instance:
        """The block, with the registers at its inputs and at its output.

        Not with the one in the middle: it would be a third cycle, and in place of the one at the
        output it would leave a part of the multiplier behind it, at 200 MHz in nextpnr.
        """
        def operand(name: str, value: Value) -> dict[str, Any]:
            sign = value[-1] if value.shape().signed else Const(0, 1)
            bits = [*value, *[sign] * (ECP5_BITS - len(value))]
            return {f"i_{name}{n}": bit for n, bit in enumerate(bits)} | {
                f"i_SIGNED{name}": Const(value.shape().signed, 1),
                # The operand comes from the fabric, not from the block next to it.
                f"i_SOURCE{name}": Const(0, 1),
                f"p_REG_INPUT{name}_CLK": "CLK0",
                f"p_REG_INPUT{name}_CE": "CE0",
                f"p_REG_INPUT{name}_RST": "RST0",
            }

        return Instance(
            "MULT18X18D",
            **operand("A", self.a), **operand("B", self.b),
            **{f"i_C{n}": Const(0, 1) for n in range(ECP5_BITS)},
            **{f"o_P{n}": bit for n, bit in enumerate(self.p)},
            p_REG_OUTPUT_CLK="CLK0", p_REG_OUTPUT_CE="CE0", p_REG_OUTPUT_RST="RST0",
            p_REG_INPUTC_CLK="NONE", p_REG_PIPELINE_CLK="NONE",
            p_MULT_BYPASS="DISABLED", p_SOURCEB_MODE="B_SHIFT", p_CAS_MATCH_REG="FALSE",
            p_RESETMODE="SYNC", p_GSR="DISABLED",
            # Four blocks share their control lines, so those not in use are left open.
            i_CLK0=ClockSignal(), i_CE0=Const(1, 1), i_RST0=Const(0, 1),
        )
