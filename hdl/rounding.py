"""Rounding to nearest even and saturation, as combinational logic.

The hardware twin of :func:`golden.fixed.round_saturate`.
"""

from amaranth.hdl import Const, Mux, Value

from golden.fixed import Format

__all__ = ["round_saturate", "rounded"]


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
    half, below = value[drop - 1], value[:drop - 1]
    return kept + (half & (below.any() | kept[0]))


def round_saturate(value: Value, f: int, to: Format) -> tuple[Value, Value]:
    """Round a signed value with ``f`` fraction bits to ``to``, and saturate.

    Returns
    -------
    code : Value
        ``to.width`` bits, signed as ``to`` is.
    overflow : Value
        One bit: the value lay outside ``to``.
    """
    whole = rounded(value, f - to.f)
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
