"""Softmax: powers of two, their sum, its reciprocal, products; each on a step of its own."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.softmax import Softmax
from hdl.buffer import Beat, ColumnBuffer
from hdl.largest import Largest
from hdl.mac import Sequencer
from hdl.multiplier import Multiplier
from hdl.pipeline import SHORT, Pipeline
from hdl.ram import RAM
from hdl.registers import delayed, free_places
from hdl.rom import ROM
from hdl.vector_cycles import INPUT_PAGES, SoftmaxCycles

__all__ = ["SoftmaxEngine"]


class _Power(wiring.Component):
    """``2**-d``, for one distance in a cycle: a line between two knots, shifted.

    Members
    -------
    below : In
        d, ``cycles.power - 1 - cycles.memory - 1`` cycles before its power.
    power : Out
    """

    def __init__(self, k: SoftmaxCycles):
        self._k = k
        super().__init__({"below": In(k.unit.x.width), "power": Out(k.unit.fine + 1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        k, unit = self._k, self._k.unit
        below = self.below << max(-unit.x.f, 0)
        within, segment, whole = (below[:unit.within_bits],
                                  below[unit.within_bits:unit.fraction], below[unit.fraction:])
        heights = [left - right for left, right in pairwise(unit.knots)]
        layout = data.StructLayout({"height": unsigned(k.knot_bits - unit.fine),
                                    "left": unsigned(unit.fine)})
        # A knot is above a half and at most 1: its distance to the half says all.
        half = 1 << unit.fine - 1
        m.submodules.knots = knots = ROM(
            [height | left - half << layout["left"].offset
             for height, left in zip(heights, unit.knots, strict=False)],
            width=layout.size, ports=1)
        m.d.comb += knots.addr[0].eq(segment)
        word = data.View(layout, knots.data[0])
        left = Cat(word.left[:-1], ~word.left[-1], word.left[-1])
        line: Value = left
        if unit.within_bits:
            m.submodules.slope = slope = Multiplier(
                word.height.shape(), unsigned(unit.within_bits), stages=k.pipeline.multiplier)
            m.d.comb += [slope.a.eq(word.height), slope.b.eq(delayed(m, within, knots.latency))]
            line = Signal(unit.fine + 1, name="line", reset_less=True)
            m.d.sync += line.eq(delayed(m, left, k.pipeline.multiplier)
                                - (slope.p >> unit.within_bits))
        # Shifted in two steps; what is shifted out of all bits is 0.
        bits = (unit.fine + 1).bit_length()
        short = Signal(bits, name="short", reset_less=True)
        m.d.sync += short.eq(Mux(whole > unit.fine, unit.fine + 1, whole))
        shift = delayed(m, short, knots.latency + k.interpolation - 1)
        coarse = Signal(unit.fine + 1, name="coarse", reset_less=True)
        shifted = Signal(unit.fine + 1, name="shifted", reset_less=True)
        m.d.sync += [coarse.eq(line >> Cat(Const(0, 2), shift[2:])),
                     shifted.eq(coarse >> delayed(m, shift[:2], 1))]
        m.d.comb += self.power.eq(shifted)
        return m


class _Reciprocal(wiring.Component):
    """``round(2**(fine + scale) / divisor)``, one bit in a cycle, and one to round it.

    Members
    -------
    valid : In(1)
        There is a divisor.
    divisor : In
    taken : Out(1)
        It is taken, in this cycle.
    done : Out(1)
        The quotient is there, until ``take``.
    take : In(1)
    quotient : Out
    """

    def __init__(self, k: SoftmaxCycles):
        self._k = k
        super().__init__({"valid": In(1), "divisor": In(k.sum_bits), "taken": Out(1),
                          "done": Out(1), "take": In(1), "quotient": Out(k.unit.scale + 1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        unit = self._k.unit
        bits = unit.scale + 2
        busy, left = Signal(), Signal(range(bits))
        divisor = Signal.like(self.divisor, name="held", reset_less=True)
        rest = Signal(len(divisor) + 1, reset_less=True)
        found = Signal(bits, reset_less=True)
        enough = Signal()
        m.d.comb += [
            enough.eq(rest >= divisor),
            self.taken.eq(self.valid & ~busy & ~self.done),
            # The last bit is that of a half.
            self.quotient.eq((found + 1)[1:]),
        ]
        with m.If(self.taken):
            m.d.sync += [busy.eq(1), left.eq(bits - 1), divisor.eq(self.divisor),
                         rest.eq(1 << unit.fine), found.eq(0)]
        with m.If(busy):
            m.d.sync += [rest.eq(Mux(enough, rest - divisor, rest) << 1),
                         found.eq(Cat(enough, found)), left.eq(left - 1)]
            with m.If(left == 0):
                m.d.sync += [busy.eq(0), self.done.eq(1)]
        with m.If(self.take):
            m.d.sync += self.done.eq(0)
        return m


def _queue(layout: Any, depth: int) -> tuple[fifo.SyncFIFOBuffered, Any, Any]:
    """A queue, and what goes in and comes out."""
    made = fifo.SyncFIFOBuffered(width=layout.size, depth=depth)
    return made, data.View(layout, made.w_data), data.View(layout, made.r_data)


class SoftmaxEngine(wiring.Component):
    """The softmax of the codes of each step (:mod:`golden.softmax`).

    While the beats of a step come in, their largest code is found. Then its codes are read again,
    and their powers are summed up and kept; then the sum's reciprocal is taken; then the powers are
    read again and multiplied by it. Pages and queues between these let each be at another step.

    Parameters
    ----------
    unit : Softmax
    counts : sequence of int
        Codes in each beat of a step.
    pipeline : Pipeline
    streams : int

    Attributes
    ----------
    cycles : SoftmaxCycles

    Members
    -------
    i : In(stream.Signature(Beat))
        The codes.
    o : Out(stream.Signature(Beat))
        One output in a beat. ``last`` marks the last beat of a sequence.
    """

    def __init__(self, unit: Softmax, *, counts: Sequence[int], pipeline: Pipeline = SHORT,
                 streams: int = 1):
        self._counts = tuple(counts)
        self._streams = streams
        self.unit = unit
        self.cycles = SoftmaxCycles(unit=unit, rows=max(counts), pipeline=pipeline,
                                    streams=streams)
        super().__init__({
            "i": In(stream.Signature(Beat(unit.x.width, max(counts), streams))),
            "o": Out(stream.Signature(Beat(unit.y.width, 1, streams))),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        k = self.cycles
        # Codes are read for their powers, and these for the products.
        reader, products = (Sequencer(passes=1, words=self.unit.inputs) for _ in range(2))
        codes, tops, top = self._find_largest(m, reader)
        m.submodules.reader, m.submodules.products = reader, products
        power = self._read_codes(m, reader, products, codes, tops, top)
        sums, summed, powers = self._sum_up(m, reader, power, top)
        begun, found, marks = self._divide(m, products, sums, summed)

        # The products, one in a cycle, while there is room for them.
        queue, output, _ = _queue(self.o.payload.shape(), k.queue)
        m.submodules.queue = queue
        room = free_places(m, k.queue, taken=products.issue, freed=queue.r_en & queue.r_rdy)
        m.d.comb += products.stall.eq(room == 0)
        y = self._multiply(m, products, powers, begun, found)
        whose = delayed(m, Cat(marks.last & products.end, marks.stream), k.to_queue)
        m.d.comb += [
            output.data[0].eq(y),
            output.count.eq(1),
            output.last.eq(whose[0]),
            output.stream.eq(whose[1:]),
            queue.w_en.eq(delayed(m, products.issue, k.to_queue, reset=True)),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
        ]
        return m

    @property
    def _marks(self) -> data.StructLayout:
        """What travels with a step."""
        return data.StructLayout({"last": 1, "stream": range(self._streams)})

    def _find_largest(self, m: Module, reader: Sequencer
                      ) -> tuple[ColumnBuffer, fifo.SyncFIFOBuffered, Any]:
        """The codes as they come, and the queue of the largest of each step, with its front."""
        k, width = self.cycles, self.unit.x.width
        m.submodules.codes = codes = ColumnBuffer(
            width=width, columns=1, offset=0, counts=self._counts, streams=INPUT_PAGES // 2,
            latency=k.memory)
        m.submodules.largest = largest = Largest(
            width=width, counts=self._counts, streams=self._streams)
        tops, top_in, top = _queue(data.StructLayout(
            {"value": signed(width), "marks": self._marks}), INPUT_PAGES)
        m.submodules.tops = tops
        arrives = self.i.valid & self.i.ready
        m.d.comb += [
            self.i.ready.eq(
                free_places(m, INPUT_PAGES, taken=codes.filled, freed=reader.ended[0],
                            name="pages_of_codes") != 0),
            codes.valid.eq(arrives),
            codes.beat.data.eq(self.i.payload.data),
            codes.beat.count.eq(self.i.payload.count),
            largest.enable.eq(1),
            largest.valid.eq(arrives),
            largest.beat.eq(self.i.payload),
            top_in.value.eq(largest.value),
            top_in.marks.last.eq(largest.last),
            top_in.marks.stream.eq(largest.stream),
            tops.w_en.eq(largest.done),
        ]
        with m.If(codes.filled):
            m.d.sync += codes.write_page.eq(codes.write_page + 1)
        return codes, tops, top

    def _read_codes(self, m: Module, reader: Sequencer, products: Sequencer, codes: ColumnBuffer,
                    tops: fifo.SyncFIFOBuffered, top: Any) -> _Power:
        """From the codes to their powers, one in a cycle.

        A step begins when there is a page for these.
        """
        k = self.cycles
        pages = free_places(m, k.pages, taken=reader.ended[0], freed=products.ended[0],
                            name="pages_of_powers")
        half = Signal.like(codes.read_page, name="page_of_codes")
        m.d.comb += [reader.ready.eq(tops.r_rdy & (pages != 0)), tops.r_en.eq(reader.ended[0])]
        m.d.sync += [codes.address.eq(reader.word), codes.read_page.eq(half)]
        with m.If(reader.ended[0]):
            m.d.sync += half.eq(half + 1)
        m.submodules.exponential = power = _Power(k)
        m.d.sync += power.below.eq(delayed(m, top.value, 1 + k.memory) - codes.data[0])
        return power

    def _sum_up(self, m: Module, reader: Sequencer, power: _Power, top: Any
                ) -> tuple[fifo.SyncFIFOBuffered, Any, RAM]:
        """The queue of the sums of powers, with its front, and what is kept of each power."""
        k, unit = self.cycles, self.unit
        is_power = delayed(m, reader.issue, k.power, reset=True)
        begins, ends = delayed(m, reader.word == 0, k.power), delayed(m, reader.end, k.power)
        total = Signal(k.sum_bits, name="total", reset_less=True)
        sums, sum_in, summed = _queue(data.StructLayout(
            {"total": unsigned(k.sum_bits), "marks": self._marks}), k.sums)
        m.submodules.sums = sums
        with m.If(is_power):
            m.d.sync += total.eq(Mux(begins, 0, total) + power.power)
        m.d.comb += [
            sum_in.total.eq(total),
            sum_in.marks.eq(delayed(m, top.marks, k.power + 1)),
            sums.w_en.eq(delayed(m, is_power & ends, 1, reset=True)),
        ]
        m.submodules.powers = powers = RAM(
            shape=unsigned(unit.scale + 1), depth=k.power_words, latency=k.power_memory)
        place = Signal(range(unit.inputs), name="place")
        page = Signal(range(k.pages), name="page_of_powers")
        drop = unit.fine - unit.scale
        kept = Signal(unit.scale + 1, name="kept", reset_less=True)
        m.d.sync += [kept.eq((power.power + (1 << drop - 1)) >> drop),
                     powers.write_en.eq(is_power)]
        m.d.comb += [powers.write_data.eq(kept), powers.write_addr.eq(Cat(place, page))]
        with m.If(powers.write_en):
            m.d.sync += place.eq(place + 1)
            with m.If(sums.w_en):
                m.d.sync += [place.eq(0), page.eq(page + 1)]
        return sums, summed, powers

    def _divide(self, m: Module, products: Sequencer, sums: fifo.SyncFIFOBuffered, summed: Any
                ) -> tuple[Value, Signal, Any]:
        """Take the reciprocal of each sum, and let its step's products begin.

        Returns whether a step's first product is begun; its reciprocal, from the next cycle on;
        and its marks.
        """
        m.submodules.reciprocal = reciprocal = _Reciprocal(self.cycles)
        marks = self._marks
        divided, multiplied = Signal(marks, reset_less=True), Signal(marks, reset_less=True)
        begun = products.issue & (products.word == 0)
        m.d.comb += [
            reciprocal.valid.eq(sums.r_rdy),
            reciprocal.divisor.eq(summed.total),
            sums.r_en.eq(reciprocal.taken),
            reciprocal.take.eq(begun),
            products.ready.eq(reciprocal.done),
        ]
        with m.If(reciprocal.taken):
            m.d.sync += divided.eq(summed.marks)
        found = Signal.like(reciprocal.quotient, name="found", reset_less=True)
        with m.If(begun):
            m.d.sync += [multiplied.eq(divided), found.eq(reciprocal.quotient)]
        return begun, found, marks(Mux(begun, divided, multiplied))

    def _multiply(self, m: Module, products: Sequencer, powers: RAM, begun: Value, found: Signal
                  ) -> Signal:
        """From the powers of a step and its reciprocal to its outputs, one in a cycle."""
        k, unit = self.cycles, self.unit
        read = Signal(range(k.pages), name="page_of_products")
        m.d.sync += powers.read_addr.eq(Cat(products.word, read))
        with m.If(products.ended[0]):
            m.d.sync += read.eq(read + 1)
        # Changed with the first power that it is for.
        factor = Signal.like(found, name="factor", reset_less=True)
        with m.If(delayed(m, begun, k.power_memory)):
            m.d.sync += factor.eq(found)
        m.submodules.product = product = Multiplier(
            unsigned(unit.scale + 1), unsigned(unit.scale + 1), stages=k.pipeline.multiplier)
        m.d.comb += [product.a.eq(powers.read_data), product.b.eq(factor)]
        y = Signal(unit.y.width, name="y", reset_less=True)
        m.d.sync += y.eq((product.p + (1 << unit.y.f + 1)) >> unit.y.f + 2)
        return y
