"""The table unit: the functions of a :class:`golden.table.Table`, one result each cycle.

Let a and b be the knots to the left and to the right of the argument's magnitude. In a table of
degree 1 the result is ``centre + a + D`` for a positive argument and ``centre - b + D`` for a
negative one: on both sides of 0 the function rises by D from the end that lies below, and D is
b - a times the argument's bits below its segment number, just as they are, because in the two's
complement of a negative argument they count from the other end already. So no magnitude is
computed, the segment number comes from the argument's bits inverted by its sign, and the code
that has no opposite needs no care. In a table of degree 2 the result is ``centre + b - D`` or
``centre - b + D``.
"""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.table import Table
from hdl.multiplier import Multiplier
from hdl.registers import delayed
from hdl.rom import ROM, STYLES

__all__ = ["STAGES", "TableUnit"]

STAGES = (5, 6, 7, 8)
"""The depths that there are, in cycles."""


def _mirrored(number: int, bits: int) -> int:
    """The number with its bits in reverse order."""
    return int(f"{number:0{bits}b}"[::-1], 2)


class TableUnit(wiring.Component):
    """Evaluates a table.

    Fully pipelined: takes an argument each cycle and gives its result ``latency`` cycles later.
    The five stages: address of the knots; knots, two cycles; difference and place, which the
    multiplier registers; product. The sum behind them has no register. A sixth stage puts one
    between the difference and the multiplier, a seventh one behind the result, an eighth one behind
    the product. A table of degree 2 has two stages more, the product of the curvature and what
    that leaves of the difference.

    Parameters
    ----------
    table : Table
    style : str
        Where the knots are kept, ``"block"`` or ``"logic"`` (see :class:`hdl.rom.ROM`).
    stages : int
        5 to 8. The more, the higher the clock.

    Attributes
    ----------
    latency : int
        Cycles from ``z`` to the result: ``stages``, and 2 more where the table is of degree 2.

    Members
    -------
    z : In(signed(table.argument.width))
        Code of the argument.
    reading : In(range(len(table.readings)))
        Which function is wanted.
    sigmoid, tanh, ... : Out(signed)
        A code in the result format, for each of the table's readings under its name. Only that of
        the reading that was wanted is of use. Signed, so 1 bit wider where the format is not.

    Raises
    ------
    ValueError
        If a reading has the name of another port or attribute, ``style`` is none of the ROM's,
        or there is no such number of stages.
    """

    def __init__(self, table: Table, *, style: str = "block", stages: int = 5):
        self._table = table
        self._style = style
        self._stages = stages
        for one in table.readings:
            if one.name in ("z", "reading") or one.name[0] == "_" or hasattr(type(self), one.name):
                raise ValueError(f"table reading must not be called {one.name!r}, "
                                 f"as another port or attribute of the unit may be")
        if style not in STYLES:
            raise ValueError(f"table style must be one of {', '.join(STYLES)}, not {style!r}")
        if stages not in STAGES:
            raise ValueError(f"table stages must be one of {', '.join(map(str, STAGES))}, "
                             f"not {stages!r}")
        super().__init__({
            "z": In(signed(table.argument.width)),
            "reading": In(range(len(table.readings))),
            **{one.name: Out(signed(one.result.width + (not one.result.signed)))
               for one in table.readings},
        })

    @property
    def table(self) -> Table:
        return self._table

    @property
    def style(self) -> str:
        return self._style

    @property
    def stages(self) -> int:
        return self._stages

    @property
    def latency(self) -> int:
        return self._stages + (2 if self._table.degree == 2 else 0)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        t = self._table
        # Registers behind the difference, the result and the product, beyond those that are always
        # there.
        behind_difference, behind_result, behind_product = (
            int(self._stages >= stages) for stages in STAGES[1:])
        # When the sum is complete.
        last = self.latency - behind_result

        def of_block(values: Sequence[int], block: Value) -> Value:
            """Look up what holds for a block: a few bits of logic."""
            if len(set(values)) == 1:
                return Const(values[0])
            return Array([Const(value, range(max(values) + 1)) for value in values])[block]

        # Cycle 0: the segment. Of its number within the block, the highest bit is the lowest of the
        # address, so the bits that number a block's segments are let through, whatever the split,
        # and nothing is shifted. No carry runs between them and the block's first address.
        negative = self.z[-1]
        folded = (self.z ^ negative.replicate(len(self.z)))[:-1]
        block = folded[t.block_bits:]
        number = folded[t.block_bits - max(t.block_splits):t.block_bits][::-1]
        numbered = of_block([(1 << split) - 1 for split in t.block_splits], block)
        segment = of_block(t.bases, block) | (number & numbered)

        # The place within the segment, shifted to the top: by the lowest bit of the split in
        # cycle 0, by the others in cycle 1.
        split = of_block(t.block_splits, block)
        place: Value = self.z[:t.block_bits]
        for n, bit in enumerate(split):
            place = Mux(delayed(m, bit, min(n, 1)), place << (1 << n), place)[:t.block_bits]
            if n == 0:
                place = delayed(m, place, 1)
        place = delayed(m, place[t.block_bits - t.place_bits:], 1)

        # Cycles 1 to 3: the knots at both ends of the segment, and its curvature. They are one
        # word, although each knot is then in two of them: a second address would be an adder
        # before the memory, where there is no time for one.
        words = [0] * (1 << (t.segments - 1).bit_length())
        for base, bits in dict(zip(t.bases, t.block_splits, strict=True)).items():
            for n in range(1 << bits):
                here, there, curvature = map(int, (t.knots[base + n], t.knots[base + n + 1],
                                                   t.curvatures[base + n]))
                words[base + _mirrored(n, bits)] = (
                    here | there << t.knot_bits
                    | curvature >> t.curvature_shift << 2 * t.knot_bits)
        m.submodules.knots = knots = ROM(words, width=2 * t.knot_bits + t.curvature_bits, ports=1,
                                         style=self._style)
        m.d.comb += knots.addr[0].eq(delayed(m, segment[:(t.segments - 1).bit_length()], 1))
        word = knots.data[0]
        left, right = word[:t.knot_bits], word[t.knot_bits:2 * t.knot_bits]
        chord = (right - left)[:t.slope_bits]

        if t.degree == 1:
            operands = (delayed(m, chord, behind_difference),
                        delayed(m, place, 1 + behind_difference))
            start: Value = left
        else:
            # The place as seen from the other end may be 1.0.
            rest = ((1 << t.place_bits) - place)[:t.place_bits + 1]
            flip = delayed(m, negative, 2)
            bend = Multiplier(unsigned(t.curvature_bits), unsigned(t.bend_bits + 1))
            m.submodules.bend = bend
            m.d.comb += [
                bend.a.eq(word[2 * t.knot_bits:]),
                bend.b.eq(delayed(m, Mux(flip, rest, place) << t.bend_bits >> t.place_bits, 1)),
            ]
            slope = (delayed(m, chord, 2) - (bend.p << t.curvature_shift >> t.bend_bits)
                     )[:t.slope_bits]
            # For a positive argument, -D is the product with the place less 1.0.
            factor = Cat(place, ~flip).as_signed()
            operands = (delayed(m, slope, behind_difference),
                        delayed(m, factor, 3 + behind_difference))
            start = right
        step: Value = Const(0, 1)
        if t.place_bits:
            product = Multiplier(*(operand.shape() for operand in operands),
                                 stages=2 + behind_product)
            m.submodules.product = product
            m.d.comb += [product.a.eq(operands[0]), product.b.eq(operands[1])]
            step = product.p

        # Where it starts from, with the centre and with half an ulp for the rounding.
        minus = Cat(~right, Const(1, 1)).as_signed()
        start = delayed(m, Mux(delayed(m, negative, 3), minus, start), 1)
        offset = Array([Const((2 * one.centre + 1) << t.fraction - one.fraction - 1)
                        for one in t.readings])[delayed(m, self.reading, 4)]
        start = delayed(m, start + offset, last - 4)

        # For a negative argument the result is its opposite's mirror image, rounded up where that
        # is rounded down: all that lies below the knots' last bit is filled with ones.
        below = delayed(m, negative, last).replicate(t.place_bits)
        total = delayed(m, (Cat(below, start).as_signed() + step)[t.place_bits:], behind_result)
        for one in t.readings:
            m.d.comb += getattr(self, one.name).eq(total.as_signed() >> t.fraction - one.fraction)
        return m
