"""Nothing is lost, doubled or put in another order, and each output is the golden one.

Something is marked as it begins to come in, any one, and what it consists of is kept. What is under
way then comes out before it; then it comes out itself, neither more nor less of it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal, Value

from golden.fixed import SQ, round_saturate
from proofs import parts
from proofs.proof import Engine, Fault, Proof
from proofs.rules import anything, beats_of, follow

__all__ = ["PROOFS"]


def every_step(x: SQ, inputs: int) -> np.ndarray:
    """All steps of so many codes: int64 [inputs, steps], in the order of :func:`follow`."""
    codes = np.arange(1 << x.width)
    codes = np.where(codes > x.max, codes - (1 << x.width), codes)
    return np.array(list(product(codes, repeat=inputs))).T[::-1]


def steps_through(make: Callable[[], Any], evaluate: Callable[[np.ndarray], np.ndarray],
                  x: SQ, given: Sequence[int], *, steps: int, apart: bool, prompt: bool = False
                  ) -> Module:
    """Whatever comes, and whenever it is taken.

    Parameters
    ----------
    prompt : bool
        Beats are offered in every cycle, and taken at once.
    """
    m = Module()
    m.submodules.dut = dut = make()
    anything(m, dut)
    if prompt:
        m.d.comb += [dut.i.valid.eq(1), dut.o.ready.eq(1)]
    follow(m, dut.i, dut.o, parts.COUNTS, given,
           evaluate(every_step(x, sum(parts.COUNTS))), steps=steps, apart=apart)
    return m


def dense(codes: np.ndarray) -> np.ndarray:
    """The outputs of the dense layer."""
    layer = parts.DENSE
    totals = layer.w @ codes + layer.bias[:, None]
    return round_saturate(totals, layer.formats.product_fraction, layer.formats.y)[0]


def kept(m: Module, beat: Any, number: Value, counts: Sequence[int], takes: Value, name: str
         ) -> list[Signal]:
    """The columns of a step whose beats are taken one by one."""
    codes = [Signal.like(beat.data[0], name=f"{name}{n}") for n in range(sum(counts))]
    with m.If(takes), m.Switch(number):
        for n, count in enumerate(counts):
            with m.Case(n):
                m.d.sync += [codes[sum(counts[:n]) + lane].eq(beat.data[lane])
                             for lane in range(count)]
    return codes


def packets_through(*, packets: int) -> Module:
    """A packet, marked before any of its states has begun to come.

    Parameters
    ----------
    packets : int
        At most so many of a stream have begun and not gone.
    """
    m = Module()
    m.submodules.dut = dut = parts.reader()
    anything(m, dut)
    o, elements = dut.o, dut.bus.elements
    whose = Signal.like(o.payload.stream, name="whose")
    m.d.comb += whose.eq(AnyConst(whose.shape()))
    out, turn = o.valid & o.ready, Signal(range(elements))
    last_turn, before = turn == elements - 1, Signal.like(o.payload.stream, name="stream_before")
    with m.If(out):
        m.d.sync += [turn.eq(Mux(last_turn, 0, turn + 1)), before.eq(o.payload.stream)]
        m.d.comb += [Assert((turn == 0) | (o.payload.stream == before)),
                     Assert(o.payload.count == 1), Assert(o.payload.last == last_turn)]
    mine = out & (o.payload.stream == whose)
    over = mine & last_turn

    marked, ahead = Signal(), Signal(range(packets + 1))
    most: Value = ahead
    states: list[Signal] = []
    there: Value = Cat()
    for n, tensor in enumerate(parts.TENSORS):
        i = getattr(dut, f"i{n}")
        number = beats_of(m, i, tensor.counts, stay=("stream",))
        into = i.valid & i.ready & (i.payload.stream == whose)
        begins = into & (number == 0)
        flying, coming = Signal(range(packets + 1), name=f"flying{n}"), Signal(name=f"coming{n}")
        m.d.sync += flying.eq(flying + begins - over)
        m.d.comb += [Assert((flying != 0) | ~mine), Assert((flying != packets) | ~begins)]
        takes = into & (marked & begins & (flying == ahead) | coming)
        with m.If(takes):
            m.d.sync += coming.eq(number != len(tensor.counts) - 1)
        states += kept(m, i.payload, number, tensor.counts, takes, f"state{n}_")
        after = flying + begins
        most = Mux(after > most, after, most) if n else after
        there = Cat(there, ~coming)
    with m.If(~marked):
        m.d.sync += [marked.eq(AnySeq(1)), ahead.eq(most - over)]
    with m.Elif(ahead != 0):
        m.d.sync += ahead.eq(ahead - over)
    with m.Elif(mine):
        m.d.comb += [Assert(there.all()), Assert(o.payload.data[0] == Array(states)[turn])]
        with m.If(over):
            m.d.sync += marked.eq(0)
    return m


def steps_in(*, stateful: bool = False, longest: int | None = None) -> Module:
    """Each beat goes on as it is taken, in steps that are whole; none of a stream there is not."""
    m = Module()
    m.submodules.dut = dut = parts.entrance(stateful=stateful, longest=longest)
    anything(m, dut)
    o, counts, streams = dut.o, parts.COUNTS, dut._streams
    # Which beat of a step is the next; whether TLAST has come too early; whose the step is.
    number, short, whose = Signal(range(len(counts))), Signal(), Signal.like(dut.tid)
    final, now = number == len(counts) - 1, Mux(number == 0, dut.tid, whose)
    stranger, last = now >= streams, short | dut.tlast
    # Which streams are amid a sequence; whether the next beat has to wait.
    amid, between, held = Signal(streams), Signal(), Signal()
    taken, goes = dut.tvalid & dut.tready, o.valid & o.ready
    moves, malformed = Signal(), Signal()
    m.d.comb += moves.eq(Mux(stranger, taken | short, goes))
    with m.If(moves):
        m.d.sync += [number.eq(Mux(final, 0, number + 1)), whose.eq(now), short.eq(~final & last),
                     amid.bit_select(now, 1).eq(~(final & last))]
        with m.If(~short & (stranger | (dut.tid != now) | (dut.tlast & ~final))):
            m.d.sync += malformed.eq(1)
    m.d.comb += [
        Assert(dut.malformed == malformed),
        Assert(~(short & taken)), Assert(~(o.valid & stranger)), Assert(~(held & taken)),
        Assert(stranger | (o.valid == ((short | dut.tvalid) & ~held))),
        Assert(stranger | short | (taken == goes)),
    ]
    with m.If(o.valid), m.Switch(number):
        for n, count in enumerate(counts):
            with m.Case(n):
                m.d.comb += [
                    Assert(o.payload.stream == now), Assert(o.payload.count == count),
                    Assert(o.payload.last == last),
                    *(Assert(o.payload.data[lane] == Mux(
                        short, 0, dut.tdata.word_select(lane, 8)[:dut._width].as_signed()))
                      for lane in range(count))]
    if stateful:
        # Steps of the sequence before this one, as far as its state can be kept.
        before = Signal(range((longest or 0) + 1))
        whole = goes & final
        m.d.comb += [
            between.eq((amid == 0) & (number == 0) if longest else number == 0),
            held.eq(dut.hold & between),
            Assert(dut.open == amid), Assert(dut.between == between),
            Assert(dut.entered == (whole & (last if longest else 1))),
            Assert(~o.valid | (o.payload.keep == (dut.tlast & dut.tuser & ~short & (
                (before != longest) if longest else 1)))),
        ]
        if longest:
            with m.If(whole):
                m.d.sync += before.eq(Mux(last, 0, before + (before != longest)))
    return m


def packets_in() -> Module:
    """Each packet, right or wrong: one at a time is under way."""
    m = Module()
    m.submodules.dut = dut = parts.loader()
    anything(m, dut)
    elements = dut.bus.elements
    taken = dut.tvalid & dut.tready
    # Of the packet: elements that have come, as far as it may go; whether its last one has; its
    # stream, and whether any has told another; its elements.
    came, closed, other = Signal(range(elements + 2)), Signal(init=1), Signal()
    whose, begins = Signal.like(dut.tid, name="whose"), taken & closed
    codes = [Signal(dut._width, name=f"code{n}") for n in range(elements)]
    with m.If(taken):
        m.d.sync += [closed.eq(dut.tlast), other.eq(~closed & (other | (dut.tid != whose))),
                     came.eq(Mux(closed, 1, came + (came != elements + 1)))]
        with m.If(closed):
            m.d.sync += [whose.eq(dut.tid), *(code.eq(0) for code in codes)]
        for n, code in enumerate(codes):
            with m.If(Mux(closed, 0, came) == n):
                m.d.sync += code.eq(dut.tdata)

    # Beats that have gone, in the order of the tensors; and whether the end has been told.
    beats = [(n, first, count) for n, tensor in enumerate(dut._tensors)
             for first, count in zip(np.cumsum([0, *tensor.counts]).tolist(), tensor.counts,
                                     strict=False)]
    gone, ended = Signal(range(len(beats) + 1)), Signal(init=1)
    outputs = [getattr(dut, f"o{n}") for n in range(len(dut._tensors))]
    goes = Cat(o.valid for o in outputs)
    stranger = whose >= dut._streams
    m.d.sync += [gone.eq(Mux(begins, 0, gone + goes.any())),
                 ended.eq(~begins & (ended | dut.end.any()))]
    begun = 0
    for n, (tensor, first, count) in enumerate(beats):
        begun = sum(each.elements for each in dut._tensors[:tensor])
        o = outputs[tensor]
        with m.If(goes.any() & (gone == n)):
            m.d.comb += [
                Assert(goes == 1 << tensor), Assert(o.payload.count == count),
                Assert(o.payload.stream == whose), Assert(closed | (came >= begun + first + count)),
                *(Assert(o.payload.data[lane] == codes[begun + first + lane].as_signed())
                  for lane in range(count))]
    with m.If(goes.any()):
        m.d.comb += [Assert(gone != len(beats)), Assert(~ended), Assert(~stranger)]
    with m.If(dut.end.any()):
        m.d.comb += [
            Assert(closed & ~ended), Assert(dut.end == 1 << whose),
            Assert(gone + goes.any() == len(beats)),
            Assert(dut.fresh == (other | (came != elements)))]
    with m.If(begins):
        m.d.comb += Assert(ended | stranger)
    return m


PROOFS = (
    Proof(name="argmax.order", engine=Engine.PDR,
          claim="each step comes out once, in order, as the index of its largest code, the first "
                "of several",
          bench=partial(steps_through, parts.argmax, lambda codes: codes.argmax(axis=0)[None],
                        parts.CODE, (1,), steps=7, apart=False),
          faults=[Fault(module="hdl.largest", old="begins | (value > self.value)",
                        new="begins | (value >= self.value)")]),
    Proof(name="outlet.order", engine=Engine.BOUNDED, depth=12,
          claim="each step comes out once, as it came, those of a stream in order",
          bench=partial(steps_through, parts.outlet, lambda codes: codes, parts.CODE, (2, 1),
                        steps=7, apart=True),
          faults=[Fault(module="hdl.outlet", old="of_stream(x.page, sequencer.stream)",
                        new="of_stream(~x.page, sequencer.stream)", depth=12)]),
    Proof(name="dense.order", engine=Engine.BOUNDED, depth=18,
          claim="each step comes out once, as its product, those of a stream in order",
          bench=partial(steps_through, parts.dense, dense, parts.CODE, (2, 1), steps=7,
                        apart=True),
          faults=[Fault(module="hdl.dense", old="of_stream(x.page, sequencer.stream)",
                        new="of_stream(~x.page, sequencer.stream)", depth=18),
                  Fault(module="hdl.dense", old="with m.If(marks[0]):", new="with m.If(marks[1]):",
                        depth=18)]),
    Proof(name="softmax.order", engine=Engine.BOUNDED, depth=60,
          claim="each step comes out once, in order, as its softmax, where steps are offered "
                "without a pause and taken at once",
          bench=partial(steps_through, parts.softmax, parts.SOFTMAX.evaluate, parts.LOGIT,
                        (1, 1, 1), steps=15, apart=False, prompt=True),
          faults=[Fault(module="hdl.softmax", old="m.d.sync += half.eq(half + 1)",
                        new="m.d.sync += half.eq(half)", depth=60),
                  Fault(module="hdl.softmax", old="m.d.sync += read.eq(read + 1)",
                        new="m.d.sync += read.eq(read)", depth=60)]),
    Proof(name="reader.order", engine=Engine.BOUNDED, depth=13,
          claim="each packet comes out once, with the states of one sequence, those of a stream in "
                "order",
          bench=partial(packets_through, packets=5),
          faults=[Fault(module="hdl.states", old="page.address.eq(sequencer.word - first)",
                        new="page.address.eq(sequencer.word)", depth=13),
                  Fault(module="hdl.states", old="ready = ready & page.ready if n",
                        new="ready = ready | page.ready if n", depth=13)]),
    Proof(name="entrance.order", engine=Engine.PDR,
          claim="each beat goes on as it is taken, with the stream of its step; what a step lacks "
                "follows as zeros; one of no stream is dropped",
          bench=steps_in,
          faults=[Fault(module="hdl.entrance", old="[filling.eq(1), self.malformed.eq(1)]",
                        new="self.malformed.eq(1)", depth=10),
                  Fault(module="hdl.entrance", old="self.tready.eq(ready & ~filling)",
                        new="self.tready.eq(ready)", depth=10)]),
    *(Proof(name=f"entrance.order_{name}", engine=Engine.PDR,
            claim=f"the same, and no {what} begins while it is held; which streams are amid a "
                  f"sequence, and whether its state is kept",
            bench=partial(steps_in, stateful=True, longest=longest),
            faults=[Fault(module="hdl.entrance", old=old, new=new, depth=12)])
      for name, what, longest, old, new in (
          ("stateful", "step", None, "held.eq(self.hold & self.between)", "held.eq(self.hold)"),
          ("gathered", "sequence", 2, "keep = keep & (before != self._longest)", "keep = keep"))),
    Proof(name="loader.order", engine=Engine.PDR,
          claim="each packet's states are written once, in order, zeros for what it lacks, before "
                "its end is told, and whether it was right",
          bench=packets_in,
          faults=[Fault(module="hdl.states", old="element.eq(Mux(closed, 0, ",
                        new="element.eq(Mux(full, 0, "),
                  Fault(module="hdl.states", old="o.payload.count.eq(lane + 1)",
                        new="o.payload.count.eq(lane)")]),
)
