"""Rounding to nearest even and saturation, as combinational logic.

The hardware twin of :func:`golden.fixed.round_saturate`. There are two ways to round: with a carry
chain of its own, :func:`rounded`; or without one, where :func:`half` an ulp can be added together
with something else, :func:`floor_to_even`. Behind either there may be a register, and then
:func:`saturated`.
"""

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Mux, Value

from golden.fixed import Format
from golden.formats import Curve

__all__ = ["floor_to_even", "half", "limited", "round_saturate", "rounded", "saturated"]


def rounded(value: Value, drop: int) -> Value:
    """``value * 2**-drop``, rounded to nearest, ties to even. Signed, one bit wider than needed.

    A negative ``drop`` shifts to the left, exactly.
    """
    value = value.as_signed()
    if drop <= 0:
        return (value << -drop).as_signed()
    if drop >= len(value):
        # Room for the lowest kept bit, which ties are decided by.
        value = (value + Const(0, drop + 1)).as_signed()
    kept = value[drop:].as_signed()
    highest, below = value[drop - 1], value[:drop - 1]
    return kept + (highest & (below.any() | kept[0]))


def half(drop: int) -> int:
    """Half of the ulp that is left where ``drop`` bits go; 0 where none does."""
    return 1 << drop - 1 if drop > 0 else 0


def floor_to_even(total: Value, drop: int,
                  stage: Callable[[Value], Value] = lambda value: value) -> Value:
    """``value * 2**-drop``, rounded to nearest, ties to even, where ``total`` has the half in it.

    A tie has been rounded up, to a total whose dropped bits are all 0. Where that is odd, the even
    neighbour is the one below, so clearing the lowest bit is all there is to do: no carry runs.

    Parameters
    ----------
    total : Value
        ``value + half(drop)``, wide enough not to have wrapped.
    drop : int
        A negative one shifts to the left, exactly.
    stage : callable
        Puts a register behind what it is given: between finding a tie and clearing the bit.

    Returns
    -------
    whole : Value
        Signed, at least two bits wide.
    """
    total = total.as_signed()
    if drop <= 0:
        return stage((total << -drop).as_signed()).as_signed()
    if len(total) < drop + 2:
        # Room for -2, the even neighbour below -1.
        total = (total + Const(0, drop + 1)).as_signed()
    kept, odd_stays = stage(total[drop:]), stage(total[:drop].any())
    return Cat(kept[0] & odd_stays, kept[1:]).as_signed()


def saturated(whole: Value, to: Format) -> tuple[Value, Value]:
    """Saturate a signed value that has the fraction bits of ``to`` already.

    Returns
    -------
    code : Value
        ``to.width`` bits, signed as ``to`` is.
    overflow : Value
        One bit: the value lay outside ``to``.
    """
    whole = whole.as_signed()
    if len(whole) < to.width + 1:
        whole = (whole + Const(0, to.width)).as_signed()
    # Inside the format all bits from the code's highest on are equal (0, where it is unsigned):
    # that is seen sooner than by comparing with the limits.
    negative = whole[-1]
    spare = whole[to.width - int(to.signed):]
    above = ~negative & spare.any()
    below = negative & ~spare.all() if to.signed else negative
    code = Mux(above, to.max, Mux(below, to.min, whole))[:to.width]
    return code.as_signed() if to.signed else code, above | below


def limited(whole: Value, to: Format, curve: Curve) -> tuple[Value, Value]:
    """Limit a signed value that has the fraction bits of ``to`` already.

    Parameters
    ----------
    to : SQ
        Its format.
    curve : Curve
        The limits.

    Returns
    -------
    code : Value
        ``to.width`` bits, signed.
    overflow : Value
        One bit: the value lay outside ``to``, where that is what limits it.
    """
    code, outside = saturated(whole, to)
    if (curve.low, curve.high) == (to.min, to.max):
        return code, outside
    overflow = outside & Mux(whole[-1], Const(curve.low == to.min, 1),
                             Const(curve.high == to.max, 1))
    # A value beyond the format is beyond the limit, too.
    if curve.low > to.min:
        code = Mux(code < curve.low, curve.low, code)
    if curve.high < to.max:
        code = Mux(code > curve.high, curve.high, code)
    return code[:to.width].as_signed(), overflow


def round_saturate(value: Value, f: int, to: Format) -> tuple[Value, Value]:
    """Round a signed value with ``f`` fraction bits to ``to``, and saturate.

    Returns
    -------
    code, overflow : Value
        As :func:`saturated` has them.
    """
    return saturated(rounded(value, f - to.f), to)
