"""A multiplier and a running sum of products, with the registers that a device's block wants."""

from typing import Any

from amaranth.hdl import (
    Cat,
    ClockSignal,
    Const,
    Instance,
    Module,
    ResetSignal,
    Shape,
    Signal,
    Value,
    ValueLike,
    signed,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ACCUMULATOR_BITS", "Accumulator", "Multiplier"]

STAGES = (2, 3)

# Lattice FPGA-TN-02205: an operand of a MULT18X18D, signed or unsigned.
ECP5_BITS = 18
# Lattice FPGA-TN-02007: an operand of an SB_MAC16, signed or unsigned, and its accumulator.
ICE40_BITS = 16
ACCUMULATOR_BITS = 32


def _check(what: str, operands: dict[str, Shape], stages: int) -> None:
    for name, shape in operands.items():
        if shape.width < 1:
            raise ValueError(f"{what} operand {name} must have at least one bit, not {shape!r}")
    if stages not in STAGES:
        raise ValueError(f"{what} stages must be 2 or 3, not {stages}")


class Multiplier(wiring.Component):
    """Exact product of two numbers, one each cycle.

    Operands and product are registered; the registers have no reset. They are those of the
    device's block, which Yosys would infer without them: on an ECP5 of a ``MULT18X18D``, if both
    operands fit in its 18 bits, on an iCE40 UltraPlus of an ``SB_MAC16``, if they fit in 16.

    nextpnr times the way into the block and the way out of it, but not the one inside, from
    register to register. The tables of nextpnr-ecp5 for a block with fewer registers give 3.9 ns
    from the operand registers to the pins of the product at speed grade 6, so believe no clock
    above 250 MHz. nextpnr-ice40 takes every pin of the block for a registered one whatever its
    mode (``Arch::getPortTimingClass``): a product that Yosys puts into a block without these
    registers is not timed at all. IceStorm (``icefuzz/timings_up5k.txt``) has more than 8 ns from
    an operand to the product without them, so believe no clock above 100 MHz there.

    Parameters
    ----------
    a, b : Shape
        Of the operands; each may be signed or not.
    stages : int
        2 for the block's registers alone; 3 for one more behind the product, in the fabric, which
        leaves the router a cycle from the block to where the product is used.

    Attributes
    ----------
    latency : int
        Cycles from ``a`` and ``b`` to ``p``: as many as there are stages.

    Members
    -------
    a : In(a)
    b : In(b)
    p : Out
        ``a * b``, as wide as both operands together; signed if one of them is.

    Raises
    ------
    ValueError
        If an operand has no bits, or if there is no such number of stages.
    """

    def __init__(self, a: Shape, b: Shape, *, stages: int = 2):
        _check("multiplier", {"a": a, "b": b}, stages)
        self.latency = stages
        super().__init__({
            "a": In(a),
            "b": In(b),
            "p": Out(Shape(a.width + b.width, signed=a.signed or b.signed)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        family = getattr(platform, "family", None)
        width = max(len(self.a), len(self.b))
        product = Signal.like(self.p, name="product")
        if family == "ecp5" and width <= ECP5_BITS:
            m.submodules.block = self._ecp5(product)
        elif family == "ice40" and width <= ICE40_BITS:
            m.submodules.block = _ice40(
                self.a, self.b, product,
                # The product leaves through the register behind the multiplier.
                p_PIPELINE_16x16_MULT_REG2=Const(1, 1),
                p_TOPOUTPUT_SELECT=Const(3, 2), p_BOTOUTPUT_SELECT=Const(3, 2))
        else:
            a = Signal.like(self.a, name="a_register", reset_less=True)
            b = Signal.like(self.b, name="b_register", reset_less=True)
            register = Signal.like(self.p, name="p_register", reset_less=True)
            m.d.sync += [a.eq(self.a), b.eq(self.b), register.eq(a * b)]
            m.d.comb += product.eq(register)
        for _ in range(self.latency - 2):
            late = Signal.like(self.p, name="p_late", reset_less=True)
            m.d.sync += late.eq(product)
            product = late
        m.d.comb += self.p.eq(product)
        return m

    def _ecp5(self, product: Signal) -> Instance:
        """The block, with the registers at its inputs and at its output.

        Not with the one in the middle: it would be a third cycle, and in place of the one at the
        output it would leave a part of the multiplier behind it, at 200 MHz in nextpnr.
        """
        def operand(name: str, value: Value) -> dict[str, Any]:
            return {f"i_{name}{n}": bit for n, bit in enumerate(_extended(value, ECP5_BITS))} | {
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
            **{f"o_P{n}": bit for n, bit in enumerate(product)},
            p_REG_OUTPUT_CLK="CLK0", p_REG_OUTPUT_CE="CE0", p_REG_OUTPUT_RST="RST0",
            p_REG_INPUTC_CLK="NONE", p_REG_PIPELINE_CLK="NONE",
            p_MULT_BYPASS="DISABLED", p_SOURCEB_MODE="B_SHIFT", p_CAS_MATCH_REG="FALSE",
            p_RESETMODE="SYNC", p_GSR="DISABLED",
            # Four blocks share their control lines, so those not in use are left open.
            i_CLK0=ClockSignal(), i_CE0=Const(1, 1), i_RST0=Const(0, 1),
        )


class Accumulator(wiring.Component):
    """Running sum of products: ``a * b`` is added in each cycle in which it is valid.

    The synchronous reset of the domain clears the sum and drops the operands that are on their
    way; nothing else ever clears it. On an iCE40 UltraPlus this is one ``SB_MAC16``. Elsewhere the
    sum is kept in the fabric, behind a :class:`Multiplier` with three stages, behind whatever
    Yosys makes of the product with two.

    Parameters
    ----------
    a, b : Shape
        Of the operands, up to 16 bits each; each may be signed or not.
    stages : int
        2: operand registers, the sum. 3: operand registers, the product, the sum.

    Attributes
    ----------
    latency : int
        Cycles from ``a``, ``b`` and ``valid`` to the ``total`` that they are part of: as many as
        there are stages.

    Members
    -------
    a : In(a)
    b : In(b)
    valid : In(1)
        The operands of this cycle count.
    total : Out(signed(32))
        The sum, modulo 2^32.

    Raises
    ------
    ValueError
        If an operand has no bits or more than 16, or if there is no such number of stages.
    """

    def __init__(self, a: Shape, b: Shape, *, stages: int = 2):
        _check("accumulator", {"a": a, "b": b}, stages)
        for name, shape in (("a", a), ("b", b)):
            if shape.width > ICE40_BITS:
                raise ValueError(f"accumulator operand {name} must have at most {ICE40_BITS} bits, "
                                 f"not {shape!r}")
        self.latency = stages
        super().__init__({
            "a": In(a),
            "b": In(b),
            "valid": In(1),
            "total": Out(signed(ACCUMULATOR_BITS)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # Whether the product in front of the sum counts.
        valid: Value = self.valid
        for n in range(self.latency - 1):
            late = Signal(name=f"valid{n}")
            m.d.sync += late.eq(valid)
            valid = late
        if getattr(platform, "family", None) == "ice40":
            hold = Signal()
            m.d.comb += hold.eq(~(valid | ResetSignal()))
            m.submodules.block = _ice40(
                self.a, self.b, self.total,
                p_PIPELINE_16x16_MULT_REG2=Const(self.latency - 2, 1),
                # The sum leaves through its register, which takes itself plus the product; the
                # carry goes from the lower half to the upper one.
                p_TOPOUTPUT_SELECT=Const(1, 2), p_BOTOUTPUT_SELECT=Const(1, 2),
                p_TOPADDSUB_LOWERINPUT=Const(2, 2), p_BOTADDSUB_LOWERINPUT=Const(2, 2),
                p_TOPADDSUB_CARRYSELECT=Const(3, 2),
                # The register's own reset is asynchronous. To load the zero at C and D is not.
                hold=hold, load=ResetSignal())
            return m
        product: Value
        if self.latency == 3:
            m.submodules.multiplier = multiplier = Multiplier(self.a.shape(), self.b.shape())
            m.d.comb += [multiplier.a.eq(self.a), multiplier.b.eq(self.b)]
            product = multiplier.p
        else:
            a = Signal.like(self.a, name="a_register", reset_less=True)
            b = Signal.like(self.b, name="b_register", reset_less=True)
            m.d.sync += [a.eq(self.a), b.eq(self.b)]
            product = a * b
        with m.If(valid):
            m.d.sync += self.total.eq(self.total + product)
        return m


def _extended(value: Value, width: int) -> list[Value]:
    """The bits of a number in ``width`` bits."""
    sign = value[-1] if value.shape().signed else Const(0, 1)
    return [*value, *[sign] * (width - len(value))]


def _ice40(
    a: Value, b: Value, output: Value, *, hold: ValueLike = 0, load: ValueLike = 0,
    **parameters: Const,
) -> Instance:
    """An ``SB_MAC16`` that multiplies 16 by 16 bits, with the registers at its inputs.

    Parameters
    ----------
    output : Value
        Takes as many bits of the block's output as it has.
    hold, load : ValueLike
        Of the output register: keep the value; else, take 0.
    **parameters : Const
        What comes behind the multiplier; the rest is off, as by default.
    """
    zeros = {f"i_{name}": Const(0, width) for name, width in (
        ("C", 16), ("D", 16), ("AHOLD", 1), ("BHOLD", 1), ("CHOLD", 1), ("DHOLD", 1),
        ("IRSTTOP", 1), ("IRSTBOT", 1), ("ORSTTOP", 1), ("ORSTBOT", 1), ("ADDSUBTOP", 1),
        ("ADDSUBBOT", 1), ("CI", 1), ("ACCUMCI", 1), ("SIGNEXTIN", 1))}
    void = Signal(ACCUMULATOR_BITS - len(output))
    return Instance(
        "SB_MAC16",
        p_A_REG=Const(1, 1), p_B_REG=Const(1, 1),
        p_A_SIGNED=Const(a.shape().signed, 1), p_B_SIGNED=Const(b.shape().signed, 1),
        **parameters, **zeros,
        i_CLK=ClockSignal(), i_CE=Const(1, 1),
        i_A=Cat(_extended(a, ICE40_BITS)), i_B=Cat(_extended(b, ICE40_BITS)),
        i_OHOLDTOP=hold, i_OHOLDBOT=hold, i_OLOADTOP=load, i_OLOADBOT=load,
        o_O=Cat(output, void),
    )
