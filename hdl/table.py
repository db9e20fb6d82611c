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

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.table import Table
from hdl.cycles import TABLE_LATENCY
from hdl.multiplier import Multiplier
from hdl.rom import ROM, STYLES

__all__ = ["TableUnit"]


class TableUnit(wiring.Component):
    """Evaluates a table.

    Fully pipelined: takes an argument each cycle and gives its result ``latency`` cycles later.
    The stages: block; address of the knots; knots; difference and place; product. The sum behind
    them has no register. A table of degree 2 has two stages more, the product of the curvature and
    what that leaves of the difference.

    Parameters
    ----------
    table : Table
    style : str
        Where the knots are kept, ``"block"`` or ``"logic"`` (see :class:`hdl.rom.ROM`).

    Attributes
    ----------
    latency : int
        Cycles from ``z`` to the result: 5, and 7 where the table is of degree 2.

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
        If a reading has the name of another port or attribute, or ``style`` is none of the ROM's.
    """

    def __init__(self, table: Table, *, style: str = "block"):
        self._table = table
        self._style = style
        for one in table.readings:
            if one.name in ("z", "reading") or one.name[0] == "_" or hasattr(type(self), one.name):
                raise ValueError(f"table reading must not be called {one.name!r}, "
                                 f"as another port or attribute of the unit may be")
        if style not in STYLES:
            raise ValueError(f"table style must be one of {', '.join(STYLES)}, not {style!r}")
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
    def latency(self) -> int:
        return TABLE_LATENCY + (2 if self._table.degree == 2 else 0)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        t = self._table

        def delayed(value: Value, cycles: int) -> Value:
            for _ in range(0 if isinstance(value, Const) else cycles):
                register = Signal.like(value, reset_less=True)
                m.d.sync += register.eq(value)
                value = register
            return value

        def of_block(values: Sequence[int], block: Value) -> Value:
            """Look up what holds for a block: a few bits of logic."""
            if len(set(values)) == 1:
                return Const(values[0])
            return Array([Const(value, range(max(values) + 1)) for value in values])[block]

        # Cycle 0: the block, where its segments begin, and into how many it is split.
        negative = self.z[-1]
        folded = (self.z ^ negative.replicate(len(self.z)))[:-1]
        block = folded[t.block_bits:]
        split = of_block(t.block_splits, block)
        base = delayed(of_block(t.bases, block), 1)
        number = delayed(Array([folded[t.block_bits - n:t.block_bits]
                                for n in range(max(t.block_splits) + 1)])[split], 1)

        # The place within the segment, shifted to the top by a bit of the split a cycle.
        place: Value = self.z[:t.block_bits]
        for cycle, bits in enumerate((range(1), range(1, 2), range(2, len(split)))):
            for n in bits:
                if n < len(split):
                    place = Mux(delayed(split, cycle)[n], place << (1 << n), place)[:t.block_bits]
            place = delayed(place, 1)
        place = place[t.block_bits - t.place_bits:]

        # Cycles 1 to 3: the knots of the segment, and with the left one its curvature. No carry
        # runs between the segment's number within the block and the block's first one.
        words = [int(knot) | int(curvature) >> t.curvature_shift << t.knot_bits
                 for knot, curvature in zip(t.knots, [*t.curvatures, 0], strict=True)]
        m.submodules.knots = knots = ROM(words, width=t.knot_bits + t.curvature_bits, ports=2,
                                         style=self._style)
        m.d.comb += [
            knots.addr[0].eq(base | number),
            knots.addr[1].eq((Cat(Const(1, 1), base) + Cat(Const(1, 1), number))[1:]),
        ]
        left, right = (word[:t.knot_bits] for word in knots.data)
        chord = (right - left)[:t.slope_bits]

        if t.degree == 1:
            operands = chord, place
            down: Value = Const(0)
            start: Value = left
        else:
            # Of the other end's place, which may be 1.0, no bit more than that takes.
            rest = ((1 << t.place_bits) - place)[:t.place_bits + 1]
            flip = delayed(negative, 3)
            bend = Multiplier(unsigned(t.curvature_bits), unsigned(t.bend_bits + 1))
            m.submodules.bend = bend
            m.d.comb += [
                bend.a.eq(knots.data[0][t.knot_bits:]),
                bend.b.eq(Mux(flip, rest, place) << t.bend_bits >> t.place_bits),
            ]
            slope = delayed(chord, 2) - (bend.p << t.curvature_shift >> t.bend_bits)
            operands = slope[:t.slope_bits], delayed(Mux(flip, place, rest), 2)
            down = delayed(~negative, 7)
            start = right
        step: Value = Const(0, 1)
        if t.place_bits:
            product = Multiplier(*(unsigned(len(operand)) for operand in operands))
            m.submodules.product = product
            m.d.comb += [product.a.eq(operands[0]), product.b.eq(operands[1])]
            step = product.p

        # Where it starts from, with the centre and with half an ulp for the rounding.
        minus = Cat(~right, Const(1, 1)).as_signed()
        start = delayed(Mux(delayed(negative, 3), minus, start), 1)
        offset = Array([Const((2 * one.centre + 1) << t.fraction - one.fraction - 1)
                        for one in t.readings])[delayed(self.reading, 4)]
        start = delayed(start + offset, self.latency - 4)

        # For a negative argument the result is its opposite's mirror image, rounded up where that
        # is rounded down: all that lies below the knots' last bit is filled with ones. Of the
        # product's bits there it only counts whether any is set, so two become one.
        parts = Cat(step[n:min(n + 2, t.place_bits)].any() for n in range(0, t.place_bits, 2))
        whole = Cat(parts, step[t.place_bits:])
        fill = delayed(negative, self.latency)
        below = Cat(fill | down, fill.replicate(len(parts)))[:len(parts)]
        total = (Cat(below, start).as_signed()
                 + Cat(whole ^ down.replicate(len(whole)), down).as_signed())[len(parts):]
        for one in t.readings:
            m.d.comb += getattr(self, one.name).eq(total.as_signed() >> t.fraction - one.fraction)
        return m
