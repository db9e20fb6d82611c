"""No part waits for ever: while it is taken from and something is offered to it, beats go.

From every state that it can be in, the cycles in a row in which it owes a beat and none goes are
never more than a bound. So no part holds up the one before it for longer than the one behind holds
up itself, and none waits for anything else.

An induction looks at as many cycles as the bound has, and from any state that keeps to the
invariants of the part's control; that the beat has not come by then would be in there. Of a softmax
it looks at fewer, and an invariant counts the cycles that are left.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from amaranth.hdl import Assume, Cat, Const, Module, Mux, Signal, Value

from hdl.pipeline import FAST, SHORT
from proofs import parts
from proofs.checks import Claims
from proofs.control import Gathering, Stages, counted, held, queued
from proofs.engines import register
from proofs.proof import Engine, Fault, Proof
from proofs.rules import anything, beats_of, opened, take_turns

__all__ = ["PROOFS"]


def waits(m: Module, check: Claims, owes: Value, goes: Value, bound: int) -> Signal:
    """Of more cycles in a row in which a beat is owed, one goes in one; returns how many it was."""
    waited = Signal(range(bound + 2))
    m.d.sync += waited.eq(Mux(owes & ~goes, waited + 1, 0))
    check.holds("progress", waited <= bound)
    return waited


def argmax(bound: int) -> Module:
    m = Module()
    check = Claims(m)
    aids = check.aids
    m.submodules.dut = dut = parts.argmax()
    inside = opened(opened(dut).submodules.largest)
    anything(m, dut)
    number = beats_of(m, dut.i, parts.COUNTS, stay=("stream",))
    aids.holds("number", (register(inside, "number") == number)
               & (register(inside, "final") == (number == len(parts.COUNTS) - 1)))
    waits(m, check, dut.i.valid & dut.o.ready, dut.o.valid, bound)
    return m


def steps(make: Callable[[], Any], bound: int, *, passes: bool) -> Module:
    """Of a part that reads whole steps, and makes beats of their words.

    Parameters
    ----------
    passes : bool
        A beat comes of each pass, not of each word.
    """
    m = Module()
    check = Claims(m)
    aids = check.aids
    m.submodules.dut = dut = make()
    inside = opened(dut)
    sequencer, x = inside.submodules.sequencer, inside.submodules.x_buffer
    anything(m, dut)
    held(m, aids, x, beats_of(m, dut.i, parts.COUNTS, stay=("stream",)), len(parts.COUNTS))
    counted(m, aids, sequencer, x.ready)
    to_queue = dut.cycles.latency - 2 if passes else dut.cycles.to_queue
    _, under_way = queued(m, aids, inside, sequencer.issue & (sequencer.last if passes else 1),
                          to_queue)
    waits(m, check, (dut.i.valid | x.ready.any() | (under_way != 0)) & dut.o.ready, dut.o.valid,
          bound)
    return m


def softmax(make: Callable[[], Any], bound: int) -> Module:
    """Of what is nearest to the output, how many cycles it takes at most is counted."""
    m = Module()
    check = Claims(m)
    aids = check.aids
    m.submodules.dut = dut = make()
    inside, k, beats = opened(dut), dut.cycles, len(parts.COUNTS)
    of = inside.submodules
    anything(m, dut)
    number = beats_of(m, dut.i, parts.COUNTS, stay=("stream",))
    within = opened(of.largest)
    aids.holds("number", (register(within, "final") == (number == beats - 1))
               & (register(within, "number") == number))
    at = Stages(m, aids, dut, inside, number, opened(of.reciprocal))
    issued, _ = queued(m, aids, inside, of.products.issue, k.to_queue)

    ahead, owed = Signal(range(bound + 2)), Signal()
    cycles: list[tuple[Value, Value]] = [
        (of.queue.r_rdy, Const(0)), (of.queue.level != 0, Const(1))]
    cycles += [(issued[n], Const(k.to_queue - n + 2)) for n in range(k.to_queue, 0, -1)]
    further = k.to_queue + 2
    cycles += [(at.done | (at.made != 0), Const(further)), (at.busy, at.left + (further + 1))]
    further += k.unit.scale + 3
    cycles += [(of.sums.r_rdy, Const(further)), (of.sums.level != 0, Const(further + 1))]
    further += 2
    cycles += [(at.sums[n], Const(k.power + 1 - n + further)) for n in range(k.power + 1, 0, -1)]
    further += k.power + 1
    cycles += [(of.tops.r_rdy, Const(further + k.unit.inputs - 1) - at.read),
               (of.tops.level != 0, Const(further + k.unit.inputs))]
    further += k.unit.inputs + 1
    cycles += [(at.tops[n], Const(k.levels + 1 - n + further)) for n in range(k.levels + 1, 0, -1)]
    further += k.levels + 1
    cycles += [(dut.i.valid, Const(further + beats - 1) - number)]
    for n, (condition, each) in enumerate(cycles):
        with m.If(condition) if n == 0 else m.Elif(condition):
            m.d.comb += [owed.eq(1), ahead.eq(each)]
    waited = waits(m, check, owed & dut.o.ready, dut.o.valid, bound)
    aids.follows("ahead", owed, waited + ahead <= bound)
    return m


def packets(latency: int, bound: int) -> Module:
    """An element of final states comes, while all of a packet's are there."""
    m = Module()
    check = Claims(m)
    aids = check.aids
    m.submodules.dut = dut = parts.reader(latency=latency)
    inside = opened(dut)
    sequencer = inside.submodules.sequencer
    anything(m, dut)
    ready: Value = sequencer.ready
    for n, tensor in enumerate(parts.TENSORS):
        held(m, aids, getattr(inside.submodules, f"page{n}"),
             beats_of(m, getattr(dut, f"i{n}"), tensor.counts, stay=("stream",)),
             len(tensor.counts))
    counted(m, aids, sequencer, ready)
    _, under_way = queued(m, aids, inside, sequencer.issue, dut._wait)
    waits(m, check, (ready.any() | (under_way != 0)) & dut.o.ready, dut.o.valid, bound)
    return m


def loaded(bound: int) -> Module:
    """A packet of states goes on, while its source does and no step is on its way, to its end."""
    m = Module()
    m.submodules.dut = dut = parts.loader()
    anything(m, dut)
    m.d.comb += [Assume(dut.idle), Assume(dut.open == 0)]
    waits(m, Claims(m), dut.tvalid, dut.tready | dut.end.any(), bound)
    return m


def sequences(make: Callable[[], Any], bound: int) -> Module:
    """A beat of sequences comes; or one more goes in of those that do not end in time."""
    m = Module()
    check = Claims(m)
    aids = check.aids
    m.submodules.dut = dut = make()
    inside, k, i, o = opened(dut), dut.cycles, dut.i, dut.o
    anything(m, dut)
    number = beats_of(m, i, parts.COUNTS, stay=("last", "stream"))
    inner = Gathering(aids, dut, inside, number, take_turns(
        m, i, number, parts.COUNTS, len(dut.cycles.written)))
    _, under_way = queued(m, aids, inside, inner.issue, k.memory + k.merging, inner.room)
    owes = Cat(inner.whole).any() | (under_way != 0)
    waits(m, check, (i.valid | owes) & o.ready, o.valid | ~owes & i.ready, bound)
    return m


OFFERED = "while steps are offered or held and outputs are taken, one comes within {} cycles"

PROOFS = (
    Proof(name="argmax.progress", depth=6, bench=partial(argmax, 4),
          claim=OFFERED.format(4),
          faults=[Fault(module="hdl.largest", old="~largest.done | self.o.ready",
                        new="largest.done & self.o.ready", depth=20)]),
    Proof(name="outlet.progress", depth=10,
          bench=partial(steps, parts.outlet, 8, passes=False),
          claim=OFFERED.format(8),
          faults=[Fault(module="hdl.outlet", old="freed=queue.r_en & queue.r_rdy", new="freed=0",
                        depth=40)]),
    *(Proof(name=f"dense.progress{suffix}", depth=bound + 2,
            bench=partial(steps, partial(parts.dense, pipeline=pipeline), bound, passes=True),
            claim=f"{OFFERED.format(bound)} ({what})",
            faults=[Fault(module="hdl.dense", old="sequencer.last & (room == 0)",
                          new="sequencer.last", depth=40)])
      for suffix, what, pipeline, bound in (
          ("", "short", SHORT, 14), ("_fast", "all registers", FAST, 20))),
    *(Proof(name=f"softmax.progress{suffix}", depth=depth, bench=partial(softmax, make, bound),
            claim=f"{OFFERED.format(bound)} ({what})",
            faults=[Fault(module="hdl.softmax", old="reciprocal.valid.eq(sums.r_rdy)",
                          new="reciprocal.valid.eq(0)", depth=50)])
      for suffix, what, make, bound, depth in (
          ("", "short", parts.softmax, 31, 11),
          ("_fast", "powers between those of a table, all registers",
           partial(parts.softmax, unit=parts.INTERPOLATED, pipeline=FAST), 36, 15))),
    *(Proof(name=name, depth=bound + 2, bench=partial(sequences, make, bound),
            claim=f"while whole sequences are held and outputs are taken, one comes within {bound} "
                  f"cycles; else a beat that is offered is taken ({what})",
            faults=[Fault(module="hdl.sequence", old="done[at].eq(0)", new="done[at].eq(done[at])",
                          depth=40)])
      for name, what, make, bound in (
          ("sequence.progress", "to a layer that reads from the end", parts.sequence, 6),
          ("sequence.progress_to_both", "to both directions",
           partial(parts.sequence, read=(False, True)), 6),
          ("sequence.progress_between", "from both directions to both",
           partial(parts.sequence, read=(False, True), written=(False, True)), 6),
          ("sequence.progress_merged", "the product of both directions, all registers",
           partial(parts.sequence, read=(False,), written=(False, True), merge="mul",
                   pipeline=FAST), 11),
      )),
    Proof(name="reader.progress", depth=10, bench=partial(packets, 2, 8),
          claim="while all states of a packet are held and elements are taken, one comes within 8 "
                "cycles",
          faults=[Fault(module="hdl.states", old="freed=queue.r_en & queue.r_rdy", new="freed=0",
                        depth=40)]),
    Proof(name="loader.progress", engine=Engine.PDR, bench=partial(loaded, 6),
          claim="while a packet is offered and no step is on its way, an element is taken or the "
                "packet ends within 6 cycles",
          faults=[Fault(module="hdl.states", old="over.eq(closed & full)", new="over.eq(0)",
                        depth=40)]),
)
