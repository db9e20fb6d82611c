"""Rounding and saturation are what one line says of them, for all inputs of some widths."""

from collections.abc import Callable, Sequence
from functools import partial

from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Module, Mux, Signal, Value, signed

from golden.fixed import SQ, UQ, Format
from hdl.rounding import floor_to_even, half, rounded, saturated
from proofs.proof import Fault, Proof

__all__ = ["PROOFS"]

WIDTHS = (1, 2, 3, 8, 12)
"""Bits of values for which the distance from the whole is looked at."""

WIDE = (16, 24, 32, 33, 36, 40, 48)
"""Bits of values, up to those of an accumulator, for which floor and rest are."""

DROPS = (-2, 0, 1, 2, 3, 7, 8, 9, 12, 14)
"""Bits that are dropped of them: none, some, all, more than there are."""

WIDE_DROPS = (-8, 0, 1, 2, 7, 11, 13, 14, 15, 17, 20, 28, 40)
"""The same of wide ones, with what the demo's network drops."""

FORMATS: tuple[Format, ...] = (SQ(1, 0), SQ(1, 1), SQ(3, 2), SQ(5, 7), UQ(1, 0), UQ(1, 3), UQ(4, 4))
WIDE_FORMATS: tuple[Format, ...] = (SQ(5, 15), SQ(4, 16), UQ(1, 15))
"""What is saturated to."""


def _anything(m: Module, width: int) -> Signal:
    value = Signal(signed(width), name=f"value{width}")
    m.d.comb += value.eq(AnyConst(signed(width)))
    return value


def _nearest(m: Module, whole: Value, value: Value, drop: int) -> None:
    """The whole is within half an ulp of the value; if by just half, it is even."""
    if drop <= 0:
        m.d.comb += Assert(whole == value << -drop)
        return
    far = Signal(signed(max(len(whole) + drop, len(value)) + 1), name=f"far{len(value)}_{drop}")
    m.d.comb += [
        far.eq((whole << drop) - value),
        Assert((-half(drop) <= far) & (far <= half(drop))),
        Assert((-half(drop) < far) & (far < half(drop)) | ~whole[0]),
    ]


def _floor_and_rest(m: Module, whole: Value, value: Value, drop: int) -> None:
    """The same, said of the bits that are kept and of those that go.

    A solver sees that two sums of many bits are the same only where they are sums of the same.
    """
    if drop <= 0:
        m.d.comb += Assert(whole == value << -drop)
        return
    extended = Signal(signed(max(len(value), drop + 1)), name=f"extended{len(value)}_{drop}")
    floor, rest = extended >> drop, extended[:drop]
    up = (rest > half(drop)) | (rest == half(drop)) & floor[0]
    m.d.comb += [extended.eq(value), Assert(whole == floor + up)]


def halves(rounding: Callable[[Value, int], Value], *, within: bool) -> Module:
    """Whatever the value; ``within`` says that there is half an ulp in it that does not count."""
    m = Module()
    for width in WIDTHS:
        value = _anything(m, width)
        for drop in DROPS:
            _nearest(m, rounding(value, drop), value - half(drop) if within else value, drop)
    return m


def wide_halves(rounding: Callable[[Value, int], Value], *, within: bool) -> Module:
    m = Module()
    for width in WIDE:
        value = _anything(m, width)
        for drop in WIDE_DROPS:
            _floor_and_rest(m, rounding(value + half(drop) if within else value, drop), value,
                            drop)
    return m


def limits(widths: Sequence[int], formats: Sequence[Format]) -> Module:
    m = Module()
    for width in widths:
        value = _anything(m, width)
        for to in formats:
            code, overflow = saturated(value, to)
            m.d.comb += [
                Assert(code == Mux(value > to.max, to.max, Mux(value < to.min, to.min, value))),
                Assert(overflow == ((value > to.max) | (value < to.min))),
            ]
    return m


ROUNDED = (
    Fault(module="hdl.rounding", depth=1, old="(highest & (below.any() | kept[0]))",
          new="(highest & below.any())"),
    Fault(module="hdl.rounding", depth=1, old="value[drop - 1], value[:drop - 1]",
          new="value[drop - 1], value[:drop]"),
)
FLOORED = (
    Fault(module="hdl.rounding", depth=1, old="kept[0] & odd_stays", new="kept[0]"),
    Fault(module="hdl.rounding", depth=1, old="if len(total) < drop + 2:",
          new="if len(total) < drop + 1:"),
)
SATURATED = (
    Fault(module="hdl.rounding", depth=1, old="spare = whole[to.width - int(to.signed):]",
          new="spare = whole[to.width:]"),
)


def _listed(widths: Sequence[int]) -> str:
    *others, last = widths
    return f"{', '.join(map(str, others))} and {last}"


PROOFS = tuple(
    Proof(name=f"rounding.{name}", claim=claim, bench=bench, faults=faults, depth=1, quick=quick)
    for name, claim, bench, faults, quick in (
        ("rounded", "`rounded` gives the nearest whole number, of two the even one, for every "
         f"value of {_listed(WIDTHS)} bits",
         partial(halves, rounded, within=False), ROUNDED, False),
        ("rounded_wide", f"the same of {_listed(WIDE)} bits, as the floor or one more",
         partial(wide_halves, rounded, within=False), ROUNDED[:1], False),
        ("floor_to_even", "`floor_to_even` gives the same, for every total of a value and half an "
         f"ulp of {_listed(WIDTHS)} bits",
         partial(halves, floor_to_even, within=True), FLOORED, True),
        ("floor_to_even_wide", f"the same for every value of {_listed(WIDE)} bits",
         partial(wide_halves, floor_to_even, within=True), FLOORED[:1], False),
        ("saturated", "`saturated` is the nearest code of its format, and tells where that is "
         f"another, for every value of {_listed(WIDTHS)} bits",
         partial(limits, WIDTHS, FORMATS), SATURATED, True),
        ("saturated_wide", f"the same of {_listed(WIDE)} bits",
         partial(limits, WIDE, (*FORMATS, *WIDE_FORMATS)), SATURATED, False)))
