"""A softmax gives the outputs of each step once, in order, of its own codes, with pauses anywhere.

Any step is watched, and any column of it, from its first beat until its last product is begun. What
the stages make of numbers is left out, but for the last one:

- the largest of a step's codes comes a fixed time after its last beat. That is proven for itself;
  here it is any number.
- A power is any number. It has to be asked for with the distance of the watched code from the
  largest; from there on it comes through a pipeline without a state.
- The reciprocal of the sum that is taken, which is proven for itself, is any number. The sum has to
  be that of the powers of this very step.
- Of the product of the power that was kept and the reciprocal each output is the upper part. Here
  both are mixed bit by bit, so that another one of either is seen.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream

from hdl.buffer import Beat
from hdl.largest import Largest
from hdl.multiplier import Multiplier
from hdl.pipeline import FAST
from hdl.registers import delayed
from hdl.vector_cycles import INPUT_PAGES
from proofs import parts
from proofs.checks import Claims
from proofs.control import Stages, since, waiting
from proofs.engines import chosen, register, replaced, words_of
from proofs.passage import passage, stored
from proofs.proof import Engine, Fault, Proof
from proofs.rules import anything, beats_of, opened

__all__ = ["PROOFS"]


def largest() -> Module:
    """Of each step, a fixed time after its last beat, whenever that comes."""
    m = Module()
    check = Claims(m)
    counts, width = parts.COUNTS, parts.CODE.width
    m.submodules.dut = dut = Largest(width=width, counts=counts, streams=parts.STREAMS)
    i = stream.Signature(Beat(width, max(counts), parts.STREAMS)).create()
    m.d.comb += [i.valid.eq(AnySeq(1)), i.payload.eq(AnySeq(i.payload.shape().size)),
                 i.ready.eq(1), dut.enable.eq(1), dut.valid.eq(i.valid), dut.beat.eq(i.payload)]
    number = beats_of(m, i, counts)
    so_far, here = (Signal(dut.value.shape(), name=name) for name in ("so_far", "here"))
    beat, final = i.payload, number == len(counts) - 1
    m.d.comb += here.eq(Mux(number == 0, beat.data[0], so_far))
    found: Value = here
    for lane, code in enumerate(beat.data):
        found = Mux((lane < beat.count) & (code > found), code, found)
    with m.If(i.valid):
        m.d.sync += so_far.eq(found)
    late = (max(counts) - 1).bit_length() + 1
    done = delayed(m, i.valid & final, late, reset=True)
    check.holds("done", dut.done == done)
    for name, value in (("value", found), ("last", beat.last), ("stream", beat.stream)):
        check.follows(name, done, getattr(dut, name) == delayed(m, value, late))
    return m


def numbers_left_out(reciprocal: Any, product: Multiplier) -> Module:
    """Let a quotient be any number, and a product be both its factors, mixed bit by bit.

    Returns the inside of the division, whose control stays as it is.
    """
    m = Module()
    m.submodules.inner = inner = type(reciprocal)(reciprocal._k)
    m.d.comb += [inner.valid.eq(reciprocal.valid), inner.take.eq(reciprocal.take),
                 reciprocal.taken.eq(inner.taken), reciprocal.done.eq(inner.done)]
    with m.If(inner.taken):
        m.d.sync += reciprocal.quotient.eq(AnySeq(reciprocal.quotient.shape()))
    replaced(reciprocal, m)
    mixing = Module()
    mixed = delayed(mixing, product.a ^ product.b, product.latency)
    mixing.d.comb += product.p.eq(mixed << len(product.p) - len(mixed))
    replaced(product, mixing)
    return opened(inner)


def softmax(make: Callable[[], Any]) -> Module:
    m = Module()
    check = Claims(m)
    aids = check.aids
    m.submodules.dut = dut = make()
    inside, k, unit, beat = opened(dut), dut.cycles, dut.unit, dut.i.payload
    of, counts = inside.submodules, parts.COUNTS
    anything(m, dut)
    number = beats_of(m, dut.i, counts, stay=("last", "stream"))
    at = Stages(m, aids, dut, inside, number, numbers_left_out(of.reciprocal, of.product))
    codes, products = of.codes, of.products

    # The watched step, and what of it has been done.
    column = chosen(m, unit.inputs, "column")
    code, last, whose = (Signal.like(each, name=name) for name, each in (
        ("code", beat.data[0]), ("last", beat.last), ("whose", beat.stream)))
    watched, coming, unread, undivided, dividing = (Signal(name=name) for name in (
        "watched", "coming", "unread", "undivided", "dividing"))
    # Steps that are before it, from each stage on.
    to_read, to_divide, to_make = (Signal(range(count), name=name) for name, count in (
        ("to_read", 8), ("to_divide", 16), ("to_make", 16)))
    read_out, taken, made_out = of.reader.ended[0], of.reciprocal.taken, products.ended[0]
    arrives = dut.i.valid & dut.i.ready
    begins, ends = arrives & (number == 0), arrives & (number == len(counts) - 1)
    picks = begins & ~watched & AnySeq(1)
    amid = picks | coming
    reads = unread & ~coming & (to_read == 0) & of.reader.issue
    divides = undivided & ~unread & (to_divide == 0) & taken
    makes = watched & ~undivided & (to_make == 0) & products.issue
    begun = makes & (at.made == 0)
    # All steps of each stage and those before it, as counted here.
    kept, to_take, held = (Signal(range(16), name=name) for name in ("kept", "to_take", "held"))
    for steps, out, there in ((kept, read_out, at.codes), (to_take, taken, at.codes + at.powers),
                              (held, made_out, at.codes + at.powers + at.divided)):
        m.d.sync += steps.eq(steps + ends - out)
        aids.holds(f"all_{steps.name}", steps == there)
    check.follows("of_a_step", products.issue, held != 0)
    with m.If(picks):
        m.d.sync += [watched.eq(1), unread.eq(1), undivided.eq(1), to_read.eq(kept - read_out),
                     to_divide.eq(to_take - taken), to_make.eq(held - made_out)]
    with m.Elif(watched):
        for left, done in ((to_read, read_out), (to_divide, taken), (to_make, made_out)):
            with m.If(done & (left != 0)):
                m.d.sync += left.eq(left - 1)
        with m.If(reads & of.reader.end):
            m.d.sync += unread.eq(0)
        with m.If(divides):
            m.d.sync += [undivided.eq(0), dividing.eq(1)]
        with m.If(begun):
            m.d.sync += dividing.eq(0)
        with m.If(makes & products.end):
            m.d.sync += watched.eq(0)
    with m.If(amid & arrives):
        m.d.sync += [coming.eq(~ends), last.eq(beat.last), whose.eq(beat.stream)]
        for n, count in enumerate(counts):
            for lane in range(count):
                with m.If((number == n) & (column == sum(counts[:n]) + lane)):
                    m.d.sync += code.eq(beat.data[lane])
    marks = Cat(last, whose)
    aids.follows("coming", coming, watched & unread & (number != 0))
    aids.follows("unread", unread, watched & undivided)
    aids.follows("undivided", undivided, watched & ~dividing)
    aids.follows("dividing", dividing, watched)

    # Its codes.
    half = register(inside, "page_of_codes")
    lies = Signal.like(half, name="lies")
    m.d.comb += lies.eq(half + to_read)
    aids.holds("codes", (codes.write_page - half)[:len(half)] == kept[:len(half)])
    aids.follows("amid", number != 0, kept < INPUT_PAGES)
    aids.follows("behind_codes", unread, Mux(coming, to_read == kept, to_read < kept))
    stored(m, aids, codes, number, column, code, lambda first, side, page: (
        unread & (~coming | (number > first)) & (lies == side + 2 * page)))

    # Its largest code: in the pipeline, and in the queue.
    top, value = Signal.like(of.largest.value, name="top"), Signal.like(of.largest.value)
    m.d.comb += top.eq(AnyConst(top.shape()))
    age = since(m, ends & amid, picks, k.levels + 2, "since_codes")
    m.d.comb += value.eq(Mux(age == k.levels + 1, top, AnySeq(value.shape())))
    pipeline = Module()
    pipeline.d.comb += [
        of.largest.done.eq(at.tops[k.levels + 1]), of.largest.value.eq(value),
        Cat(of.largest.last, of.largest.stream).eq(
            delayed(m, Cat(beat.last, beat.stream), k.levels + 1))]
    replaced(of.largest, pipeline)
    aids.follows("since_codes", unread, (age == 0) == coming)
    waiting(m, aids, of.tops, at.tops, unread, age, to_read,
            lambda word: word == Cat(top, marks), "tops")

    # What is asked for, and its powers: a fixed time after that they are there, and summed up.
    summed, power = k.power + 2, of.exponential
    written = since(m, reads & (at.read == column), picks, summed, "since_power")
    check.follows("below", watched & (written == k.memory + 2),
                  power.below == (top - code)[:len(power.below)])
    stub = Module()
    stub.d.comb += power.power.eq(AnySeq(power.power.shape()))
    replaced(power, stub)
    age = since(m, reads & of.reader.end, picks, summed, "since_read")
    earliest = k.power - unit.inputs + 1
    total, found = (Signal.like(power.power if name == "power" else of.reciprocal.divisor,
                                name=name) for name in ("sum", "power"))
    with m.If(undivided & (age >= earliest) & (age <= k.power)):
        m.d.sync += total.eq(Mux(age == earliest, 0, total) + power.power)
    with m.If(watched & (written == k.power)):
        m.d.sync += found.eq(power.power)
    aids.follows("since_read", undivided, (age == 0) == unread)
    aids.follows("behind_read", undivided & unread, to_divide == to_read + at.powers)
    waiting(m, aids, of.sums, at.sums, undivided, age, to_divide,
            lambda word: word == Cat(total, marks), "sums")

    # Where they are kept.
    drop = unit.fine - unit.scale
    weight = Signal(unit.scale + 1, name="weight")
    m.d.comb += weight.eq((found + (1 << drop - 1)) >> drop)
    page, read = register(inside, "page_of_powers"), register(inside, "page_of_products")
    place, bits = register(inside, "place"), len(page)
    entered = of.sums.level + at.divided
    aids.holds("powers", (page - read)[:bits] == entered[:bits])
    # Words are read one after the other, so that the end of a step says where each is.
    writing = [at.sums[k.power + 2 + n - unit.inputs] for n in range(unit.inputs)]
    for n in range(1, k.power + 3 - unit.inputs):
        aids.follows(f"apart{n}", at.sums[n], ~Cat(at.sums[n + 1:n + unit.inputs]).any())
    aids.holds("writes", of.powers.write_en == Cat(writing).any())
    aids.holds("place", place == sum((Mux(each, n, 0) for n, each in enumerate(writing)),
                                     Const(0)))
    its_page = Signal.like(page, name="its_page")
    m.d.comb += its_page.eq(read + to_make)
    words = words_of(of.powers)
    rows = 1 << (unit.inputs - 1).bit_length()
    for n in range(k.pages):
        for j in range(unit.inputs):
            aids.follows(f"power{n}_{j}", watched & (written == summed) & (its_page == n)
                         & (column == j), words[n * rows + j] == weight)
    going = unread & ~coming & (to_read == 0)
    aids.follows("since_power", unread, written == Mux(
        going & (at.read > column), at.read - column, 0))
    late = age + (unit.inputs - 1 - column)
    aids.follows("since_power_read", undivided & ~unread, written == Mux(
        late > summed, summed, late))
    aids.follows("written", watched & ~undivided, written == summed)

    # The division, and the products.
    aids.follows("behind_sums", undivided, to_make == to_divide + at.divided)
    aids.follows("divided", dividing, (at.busy | at.done) & (to_make == (at.made != 0)))
    aids.follows("making", watched & ~undivided & ~dividing, (at.made != 0) & (to_make == 0))
    check.follows("divisor", divides, of.reciprocal.divisor == total)
    check.follows("its_quotient", begun, dividing)
    quotient, factor = of.reciprocal.quotient, Signal.like(of.reciprocal.quotient, name="quotient")
    with m.If(begun):
        m.d.sync += factor.eq(quotient)
    divided, multiplied = (register(inside, name) for name in ("$signal", "multiplied"))
    aids.follows("divided_marks", dividing, Cat(divided) == marks)
    making = watched & ~undivided & ~dividing
    aids.follows("multiplied_marks", making, Cat(multiplied) == marks)
    aids.follows("found", making, register(inside, "found") == factor)
    news = Cat(delayed(m, begun, n + 1, reset=True) for n in range(k.power_memory)).any()
    aids.follows("factor", making & ~news, register(inside, "factor") == factor)
    now = Mux(at.made == 0, divided, multiplied)
    check.follows("marks", makes, now == marks)
    mixed = weight ^ Mux(begun, quotient, factor)
    passage(m, check, inside, dut.o, products.issue, k.to_queue, {
        "count": Const(1), "last": now[0] & products.end, "stream": now[1:],
    }, {0: (makes & (at.made == column), mixed[-unit.y.width:])})
    return m


PROOFS = (
    Proof(name="softmax.largest", engine=Engine.PDR, bench=largest,
          claim="the largest code of a step comes a fixed time after its last beat, with its "
                "marks",
          faults=[Fault(module="hdl.largest", old="with m.If(begins | (value > self.value)):",
                        new="with m.If(value > self.value):")]),
    *(Proof(name=f"softmax.passage{suffix}", bench=partial(softmax, make), depth=depth,
            wild="dut", reset=True,
            claim="each output comes out once, in order, with its marks, of its own power and the "
                  f"reciprocal of the sum of those of its step ({what})",
            faults=[Fault(module="hdl.softmax", old="m.d.sync += half.eq(half + 1)",
                          new="m.d.sync += half.eq(half)", depth=30),
                    Fault(module="hdl.softmax", old="total.eq(Mux(begins, 0, total) + ",
                          new="total.eq(total + ", depth=30),
                    Fault(module="hdl.softmax", old="busy, left = Signal(), ",
                          new="busy, left = Signal(reset_less=True), ", depth=20)])
      for suffix, what, make, depth in (
          ("", "short", parts.softmax, 11),
          ("_fast", "all registers", partial(parts.softmax, pipeline=FAST), 11))),
)
