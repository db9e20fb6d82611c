"""A line that a cell state goes through: a constant times a signal, out of adders."""

from amaranth.hdl import Const, Module, Value, signed

from golden.formats import Slope
from hdl.registers import delayed

__all__ = ["line", "signed_digits"]


def signed_digits(number: int) -> list[tuple[int, int]]:
    """The fewest powers of two, added or subtracted, that make a number.

    Returns
    -------
    list of (sign, shift)
        The number is the sum of ``sign << shift``, with signs of 1 and -1; no two shifts are
        neighbours.
    """
    digits, shift = [], 0
    while number:
        if number & 1:
            # 3 modulo 4 is a power further up less one.
            sign = 2 - (number & 3)
            digits.append((sign, shift))
            number -= sign
        number >>= 1
        shift += 1
    return digits


def line(m: Module, value: Value, slope: Slope, *, offset: int, cycles: int) -> Value:
    """``slope.a * value + offset`` after so many cycles.

    A tree of adders with a register behind each: a constant of 18 bits has 9 digits at most, which
    with the offset are four levels.

    Raises
    ------
    ValueError
        If the tree is deeper than the cycles that there are.
    """
    digits = signed_digits(slope.a)
    terms: list[Value] = [value.as_signed() << shift if sign > 0 else -(value.as_signed() << shift)
                          for sign, shift in digits]
    terms.append(Const(offset, signed(offset.bit_length() + 1)))
    levels = 0
    while len(terms) > 1:
        pairs = [terms[n:n + 2] for n in range(0, len(terms), 2)]
        terms = [delayed(m, sum(pair[1:], start=pair[0]), 1) for pair in pairs]
        levels += 1
    if levels > cycles:
        raise ValueError(f"slope {slope.a} takes {levels} levels of adders, but there are {cycles} "
                         f"cycles")
    return delayed(m, terms[0], cycles - levels).as_signed()
