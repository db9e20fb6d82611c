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
from proofs.checks import Checks, Claims
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


class Watched:
    """Any step, from its first beat until its last product is begun, and any column of it.

    Parameters
    ----------
    m : Module
    check : Claims
    dut : SoftmaxEngine
    inside : Module
        Of it.
    at : Stages
    number : Value
        Which beat of a step is the next.

    Attributes
    ----------
    column, code : Value
        The watched one, and what it has to be.
    marks : Value
        Of the step.
    here : Signal
        It is one that is watched.
    coming, unread, undivided, dividing : Signal
        Beats of it are to come; its codes have not been read; its sum has not been taken; its
        quotient has not.
    to_read, to_divide, to_make : Signal
        Steps before it, of which that is so: the last is of products.
    picks, ends : Value
        Its first beat is taken, and its last.
    reads, read : Value
        A code of it is read, and the last one.
    divides, begun, makes : Value
        Its sum is taken; its first product is begun; any is.
    kept : Signal
        Steps whose codes are kept.
    """

    def __init__(self, m: Module, check: Claims, dut: Any, inside: Module, at: Stages,
                 number: Value):
        of, counts, beat, aids = inside.submodules, dut._counts, dut.i.payload, check.aids
        self.column = chosen(m, sum(counts), "column")
        self.code, last, whose = (Signal.like(each, name=name) for name, each in (
            ("code", beat.data[0]), ("last", beat.last), ("whose", beat.stream)))
        self.marks = Cat(last, whose)
        self.here, self.coming, self.unread, self.undivided, self.dividing = (
            Signal(name=name) for name in ("here", "coming", "unread", "undivided", "dividing"))
        self.to_read, self.to_divide, self.to_make = (
            Signal(range(16), name=name) for name in ("to_read", "to_divide", "to_make"))
        arrives = dut.i.valid & dut.i.ready
        fills = arrives & (number == len(counts) - 1)
        self.picks = arrives & (number == 0) & ~self.here & AnySeq(1)
        amid = self.picks | self.coming
        self.ends = fills & amid
        self.reads = self.unread & ~self.coming & (self.to_read == 0) & of.reader.issue
        self.read = self.reads & of.reader.end
        taken, made = of.reciprocal.taken, of.products.ended[0]
        self.divides = self.undivided & ~self.unread & (self.to_divide == 0) & taken
        self.makes = self.here & ~self.undivided & (self.to_make == 0) & of.products.issue
        self.begun = self.makes & (at.made == 0)

        # All steps of each stage and those before it, as counted here.
        self.kept, undivided, unmade = (Signal(range(16), name=f"all_{name}") for name in (
            "kept", "undivided", "unmade"))
        stages = ((self.kept, of.reader.ended[0], at.codes, self.to_read),
                  (undivided, taken, at.codes + at.powers, self.to_divide),
                  (unmade, made, at.codes + at.powers + at.divided, self.to_make))
        for steps, out, there, before in stages:
            m.d.sync += steps.eq(steps + fills - out)
            aids.holds(steps.name, steps == there)
            with m.If(self.picks):
                m.d.sync += before.eq(steps - out)
            with m.Elif(out & (before != 0)):
                m.d.sync += before.eq(before - 1)
        check.follows("of_a_step", of.products.issue, unmade != 0)

        with m.If(self.picks):
            m.d.sync += [self.here.eq(1), self.unread.eq(1), self.undivided.eq(1)]
        with m.If(self.read):
            m.d.sync += self.unread.eq(0)
        with m.If(self.divides):
            m.d.sync += [self.undivided.eq(0), self.dividing.eq(1)]
        with m.If(self.begun):
            m.d.sync += self.dividing.eq(0)
        with m.If(self.makes & of.products.end):
            m.d.sync += self.here.eq(0)
        with m.If(amid & arrives):
            m.d.sync += [self.coming.eq(~fills), last.eq(beat.last), whose.eq(beat.stream)]
            for n, count in enumerate(counts):
                for lane in range(count):
                    with m.If((number == n) & (self.column == sum(counts[:n]) + lane)):
                        m.d.sync += self.code.eq(beat.data[lane])
        aids.follows("coming", self.coming, self.here & self.unread & (number != 0))
        aids.follows("unread", self.unread, self.here & self.undivided)
        aids.follows("undivided", self.undivided, self.here & ~self.dividing)
        aids.follows("dividing", self.dividing, self.here)


def softmax(make: Callable[[], Any]) -> Module:
    m = Module()
    check = Claims(m)
    aids = check.aids
    m.submodules.dut = dut = make()
    inside, k, unit = opened(dut), dut.cycles, dut.unit
    of = inside.submodules
    anything(m, dut)
    number = beats_of(m, dut.i, parts.COUNTS, stay=("last", "stream"))
    at = Stages(m, aids, dut, inside, number, numbers_left_out(of.reciprocal, of.product))
    step = Watched(m, check, dut, inside, at, number)
    top = _largest_found(m, aids, dut, inside, at, step, number)
    weight = _powers_kept(m, check, dut, inside, at, step, top)

    # The division, and the products.
    making = step.here & ~step.undivided & ~step.dividing
    aids.follows("behind_sums", step.undivided, step.to_make == step.to_divide + at.divided)
    aids.follows("divided", step.dividing, (at.busy | at.done) & (step.to_make == (at.made != 0)))
    aids.follows("making", making, (at.made != 0) & (step.to_make == 0))
    check.follows("its_quotient", step.begun, step.dividing)
    quotient, factor = of.reciprocal.quotient, Signal.like(of.reciprocal.quotient, name="quotient")
    with m.If(step.begun):
        m.d.sync += factor.eq(quotient)
    divided, multiplied = (register(inside, name) for name in ("$signal", "multiplied"))
    aids.follows("divided_marks", step.dividing, Cat(divided) == step.marks)
    aids.follows("multiplied_marks", making, Cat(multiplied) == step.marks)
    aids.follows("found", making, register(inside, "found") == factor)
    news = Cat(delayed(m, step.begun, n + 1, reset=True) for n in range(k.power_memory)).any()
    aids.follows("factor", making & ~news, register(inside, "factor") == factor)
    now = Mux(at.made == 0, divided, multiplied)
    check.follows("marks", step.makes, now == step.marks)
    mixed = weight ^ Mux(step.begun, quotient, factor)
    passage(m, check, inside, dut.o, of.products.issue, k.to_queue, {
        "count": Const(1), "last": now[0] & of.products.end, "stream": now[1:],
    }, {0: (step.makes & (at.made == step.column), mixed[-unit.y.width:])})
    return m


def _largest_found(m: Module, aids: Checks, dut: Any, inside: Module, at: Stages, step: Watched,
                   number: Value) -> Value:
    """Codes are where they came, and the largest, which may be any, waits beside them."""
    of, k, beat = inside.submodules, dut.cycles, dut.i.payload
    half = register(inside, "page_of_codes")
    lies = Signal.like(half, name="lies")
    m.d.comb += lies.eq(half + step.to_read)
    aids.holds("codes", (of.codes.write_page - half)[:len(half)] == step.kept[:len(half)])
    aids.follows("amid", number != 0, step.kept < INPUT_PAGES)
    aids.follows("behind_codes", step.unread, Mux(
        step.coming, step.to_read == step.kept, step.to_read < step.kept))
    stored(m, aids, of.codes, number, step.column, step.code, lambda first, side, page: (
        step.unread & (~step.coming | (number > first)) & (lies == side + 2 * page)))

    top, value = Signal.like(of.largest.value, name="top"), Signal.like(of.largest.value)
    age = since(m, step.ends, step.picks, k.levels + 2, "since_codes")
    m.d.comb += [top.eq(AnyConst(top.shape())),
                 value.eq(Mux(age == k.levels + 1, top, AnySeq(value.shape())))]
    pipeline = Module()
    pipeline.d.comb += [
        of.largest.done.eq(at.tops[k.levels + 1]), of.largest.value.eq(value),
        Cat(of.largest.last, of.largest.stream).eq(
            delayed(m, Cat(beat.last, beat.stream), k.levels + 1))]
    replaced(of.largest, pipeline)
    aids.follows("since_codes", step.unread, (age == 0) == step.coming)
    waiting(m, aids, of.tops, at.tops, step.unread, age, step.to_read,
            lambda word: word == Cat(top, step.marks), "tops")
    return top


def _powers_kept(m: Module, check: Claims, dut: Any, inside: Module, at: Stages, step: Watched,
                 top: Value) -> Value:
    """Powers, which may be any, come a fixed time after their codes were read, and are kept.

    Returns what is kept of the watched column's.
    """
    aids, of, k, unit = check.aids, inside.submodules, dut.cycles, dut.unit
    power, inputs, summed = of.exponential, unit.inputs, k.power + 2
    written = since(m, step.reads & (at.read == step.column), step.picks, summed, "since_power")
    check.follows("below", step.here & (written == k.memory + 2),
                  power.below == (top - step.code)[:len(power.below)])
    stub = Module()
    stub.d.comb += power.power.eq(AnySeq(power.power.shape()))
    replaced(power, stub)

    # Their sum.
    age = since(m, step.read, step.picks, summed, "since_read")
    earliest = k.power - inputs + 1
    total = Signal.like(of.reciprocal.divisor, name="sum")
    with m.If(step.undivided & (age >= earliest) & (age <= k.power)):
        m.d.sync += total.eq(Mux(age == earliest, 0, total) + power.power)
    aids.follows("since_read", step.undivided, (age == 0) == step.unread)
    aids.follows("behind_read", step.unread, step.to_divide == step.to_read + at.powers)
    waiting(m, aids, of.sums, at.sums, step.undivided, age, step.to_divide,
            lambda word: word == Cat(total, step.marks), "sums")
    check.follows("divisor", step.divides, of.reciprocal.divisor == total)

    # Where they are. Words are read one after the other, so that the end of a step says where each
    # of it has come to.
    page, read, place = (register(inside, name) for name in (
        "page_of_powers", "page_of_products", "place"))
    entered, bits = of.sums.level + at.divided, len(page)
    writing = [at.sums[k.power + 2 + n - inputs] for n in range(inputs)]
    for n in range(1, k.power + 3 - inputs):
        aids.follows(f"apart{n}", at.sums[n], ~Cat(at.sums[n + 1:n + inputs]).any())
    aids.holds("writes", of.powers.write_en == Cat(writing).any())
    aids.holds("place", place == sum((Mux(each, n, 0) for n, each in enumerate(writing)),
                                     Const(0)))
    aids.holds("powers", (page - read)[:bits] == entered[:bits])
    found = Signal.like(power.power, name="power")
    with m.If(step.here & (written == k.power)):
        m.d.sync += found.eq(power.power)
    drop = unit.fine - unit.scale
    weight, its_page = Signal(unit.scale + 1, name="weight"), Signal.like(page, name="its_page")
    m.d.comb += [weight.eq((found + (1 << drop - 1)) >> drop), its_page.eq(read + step.to_make)]
    words, rows = words_of(of.powers), 1 << (inputs - 1).bit_length()
    for n in range(k.pages):
        for j in range(inputs):
            aids.follows(f"power{n}_{j}", step.here & (written == summed) & (its_page == n)
                         & (step.column == j), words[n * rows + j] == weight)
    going, late = ~step.coming & (step.to_read == 0), age + (inputs - 1 - step.column)
    aids.follows("since_power", step.unread, written == Mux(
        going & (at.read > step.column), at.read - step.column, 0))
    aids.follows("since_power_read", step.undivided & ~step.unread, written == Mux(
        late > summed, summed, late))
    aids.follows("written", step.here & ~step.undivided, written == summed)
    return weight


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
