"""No part waits for ever: while it is taken from and something is offered to it, beats go.

From every state that it can be in, the cycles in a row in which it owes a beat and none goes are
never more than a bound. So no part holds up the one before it for longer than the one behind holds
up itself, and none waits for anything else.

An induction looks at as many cycles as the bound has, and from any state that keeps to the
invariants of the part's control; that the beat has not come by then would be in there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from amaranth.hdl import Assume, Cat, Const, Module, Mux, Signal, Value

from hdl.vector_cycles import INPUT_PAGES
from proofs import parts
from proofs.control import Gathering, counted, entering, held, queued
from proofs.engines import Checks, register
from proofs.proof import Engine, Fault, Proof
from proofs.rules import anything, beats_of, opened, take_turns

__all__ = ["PROOFS"]


def waits(m: Module, check: Checks, owes: Value, goes: Value, bound: int) -> Signal:
    """Of more cycles in a row in which a beat is owed, one goes in one; returns how many it was."""
    waited = Signal(range(bound + 2))
    m.d.sync += waited.eq(Mux(owes & ~goes, waited + 1, 0))
    check.holds("progress", waited <= bound)
    return waited


def argmax(bound: int) -> Module:
    m = Module()
    check = Checks(m)
    m.submodules.dut = dut = parts.argmax()
    inside = opened(opened(dut).submodules.largest)
    anything(m, dut)
    number = beats_of(m, dut.i, parts.COUNTS, stay=("stream",))
    check.holds("number", (register(inside, "number") == number)
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
    check = Checks(m)
    m.submodules.dut = dut = make()
    inside = opened(dut)
    sequencer, x = inside.submodules.sequencer, inside.submodules.x_buffer
    anything(m, dut)
    held(m, check, x, beats_of(m, dut.i, parts.COUNTS, stay=("stream",)), len(parts.COUNTS))
    counted(m, check, sequencer, x.ready)
    to_queue = dut.cycles.latency - 2 if passes else dut.cycles.to_queue
    _, under_way = queued(m, check, inside, sequencer.issue & (sequencer.last if passes else 1),
                          to_queue)
    waits(m, check, (dut.i.valid | x.ready.any() | (under_way != 0)) & dut.o.ready, dut.o.valid,
          bound)
    return m


def softmax(bound: int) -> Module:
    """Of what is nearest to the output, how many cycles it takes at most is counted."""
    m = Module()
    check = Checks(m)
    m.submodules.dut = dut = parts.softmax()
    inside, k, beats = opened(dut), dut.cycles, len(parts.COUNTS)
    of = inside.submodules
    anything(m, dut)
    number = beats_of(m, dut.i, parts.COUNTS, stay=("stream",))
    for name, part in (("codes", of.codes), ("largest", of.largest)):
        within = opened(part)
        check.holds(f"number_{name}", (register(within, "final") == (number == beats - 1)) & (
            register(within, "number" if part is of.largest else "$signal") == number))

    # Steps whose codes are kept, from the last of them to the last that is read.
    tops, waiting = entering(m, check, of.tops, of.codes.filled, k.levels + 1, "tops")
    check.holds("pages_of_codes", register(inside, "pages_of_codes") + waiting == INPUT_PAGES)
    read, _ = counted(m, check, of.reader, name="reader")
    check.follows("reading", read != 0, of.reader.ready)
    # Those whose powers are.
    sums, summed = entering(m, check, of.sums, of.reader.ended[0], k.power + 1, "sums")
    division = opened(of.reciprocal)
    busy, left = register(division, "$signal"), register(division, "left")
    done = of.reciprocal.done
    made, _ = counted(m, check, of.products, name="products")
    check.holds("division", ~(busy & done) & (left < k.unit.scale + 2))
    check.holds("pages_of_powers", register(inside, "pages_of_powers") + summed + (busy | done)
                + (made != 0) == k.pages)
    issued, _ = queued(m, check, inside, of.products.issue, k.to_queue)

    ahead, owed = Signal(range(bound + 2)), Signal()
    cycles: list[tuple[Value, Value]] = [
        (of.queue.r_rdy, Const(0)), (of.queue.level != 0, Const(1))]
    cycles += [(issued[n], Const(k.to_queue - n + 2)) for n in range(k.to_queue, 0, -1)]
    further = k.to_queue + 2
    cycles += [(done | (made != 0), Const(further)), (busy, left + (further + 1))]
    further += k.unit.scale + 3
    cycles += [(of.sums.r_rdy, Const(further)), (of.sums.level != 0, Const(further + 1))]
    further += 2
    cycles += [(sums[n], Const(k.power + 1 - n + further)) for n in range(k.power + 1, 0, -1)]
    further += k.power + 1
    cycles += [(of.tops.r_rdy, Const(further + k.unit.inputs - 1) - read),
               (of.tops.level != 0, Const(further + k.unit.inputs))]
    further += k.unit.inputs + 1
    cycles += [(tops[n], Const(k.levels + 1 - n + further)) for n in range(k.levels + 1, 0, -1)]
    further += k.levels + 1
    cycles += [(dut.i.valid, Const(further + beats - 1) - number)]
    for n, (condition, each) in enumerate(cycles):
        with m.If(condition) if n == 0 else m.Elif(condition):
            m.d.comb += [owed.eq(1), ahead.eq(each)]
    waited = waits(m, check, owed & dut.o.ready, dut.o.valid, bound)
    check.follows("ahead", owed, waited + ahead <= bound)
    return m


def packets(bound: int) -> Module:
    """An element of final states comes, while all of a packet's are there."""
    m = Module()
    check = Checks(m)
    m.submodules.dut = dut = parts.reader()
    inside = opened(dut)
    sequencer = inside.submodules.sequencer
    anything(m, dut)
    ready: Value = sequencer.ready
    for n, tensor in enumerate(parts.TENSORS):
        held(m, check, getattr(inside.submodules, f"page{n}"),
             beats_of(m, getattr(dut, f"i{n}"), tensor.counts, stay=("stream",)),
             len(tensor.counts))
    counted(m, check, sequencer, ready)
    _, under_way = queued(m, check, inside, sequencer.issue, dut._wait)
    waits(m, check, (ready.any() | (under_way != 0)) & dut.o.ready, dut.o.valid, bound)
    return m


def loaded(bound: int) -> Module:
    """A packet of states goes on, while its source does and no step is on its way, to its end."""
    m = Module()
    m.submodules.dut = dut = parts.loader()
    anything(m, dut)
    m.d.comb += [Assume(dut.idle), Assume(dut.open == 0)]
    waits(m, Checks(m), dut.tvalid, dut.tready | dut.end.any(), bound)
    return m


def sequences(read: tuple[bool, ...], written: tuple[bool, ...], bound: int) -> Module:
    """A beat of sequences comes; or one more goes in of those that do not end in time."""
    m = Module()
    check = Checks(m)
    m.submodules.dut = dut = parts.sequence(read=read, written=written)
    inside, k, i, o = opened(dut), dut.cycles, dut.i, dut.o
    anything(m, dut)
    number = beats_of(m, i, parts.COUNTS, stay=("last", "stream"))
    inner = Gathering(check, dut, inside, number, take_turns(
        m, i, number, parts.COUNTS, len(written)))
    _, under_way = queued(m, check, inside, inner.issue, k.memory + k.merging, inner.room)
    owes = Cat(inner.whole).any() | (under_way != 0)
    waits(m, check, (i.valid | owes) & o.ready, o.valid | ~owes & i.ready, bound)
    return m


OFFERED = "while steps are offered or held and outputs are taken, one comes within {} cycles"

PROOFS = (
    Proof(name="argmax.progress", depth=6, bench=partial(argmax, 4),
          claim=OFFERED.format(4),
          faults=[Fault(module="hdl.largest", old="self.i.ready.eq(largest.enable)",
                        new="self.i.ready.eq(largest.done)", depth=20)]),
    Proof(name="outlet.progress", depth=10,
          bench=partial(steps, parts.outlet, 8, passes=False),
          claim=OFFERED.format(8),
          faults=[Fault(module="hdl.outlet", old="freed=queue.r_en & queue.r_rdy", new="freed=0",
                        depth=40)]),
    Proof(name="dense.progress", depth=16,
          bench=partial(steps, parts.dense, 14, passes=True),
          claim=OFFERED.format(14),
          faults=[Fault(module="hdl.dense", old="freed=queue.r_en & queue.r_rdy", new="freed=0",
                        depth=60)]),
    Proof(name="softmax.progress", depth=11, bench=partial(softmax, 31),
          claim=OFFERED.format(31),
          faults=[Fault(module="hdl.softmax", old="reciprocal.take.eq(begun)",
                        new="reciprocal.take.eq(0)", depth=90)]),
    *(Proof(name=name, depth=8, bench=partial(sequences, read, written, 6),
            claim="while whole sequences are held and outputs are taken, one comes within 6 "
                  f"cycles; else a beat that is offered is taken ({what})",
            faults=[Fault(module="hdl.sequence", old="done[at].eq(0)", new="done[at].eq(done[at])",
                          depth=40)])
      for name, what, read, written in (
          ("sequence.progress", "to a layer that reads from the end", (True,), (False,)),
          ("sequence.progress_to_both", "to both directions", (False, True), (False,)),
          ("sequence.progress_of_both", "from both directions", (False,), (False, True)),
      )),
    Proof(name="reader.progress", depth=9, bench=partial(packets, 7),
          claim="while all states of a packet are held and elements are taken, one comes within 7 "
                "cycles",
          faults=[Fault(module="hdl.states", old="freed=queue.r_en & queue.r_rdy", new="freed=0",
                        depth=40)]),
    Proof(name="loader.progress", engine=Engine.PDR, bench=partial(loaded, 6),
          claim="while a packet is offered and no step is on its way, an element is taken or the "
                "packet ends within 6 cycles",
          faults=[Fault(module="hdl.states", old="over.eq(closed & full)", new="over.eq(0)",
                        depth=40)]),
)
