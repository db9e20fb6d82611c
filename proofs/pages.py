"""Pages are never taken twice nor given back twice, and no step waits for ever.

An engine with an outlet behind it, which is what an LSTM layer without a dense layer is. A step
takes a page of the outlet with the first pass that it ends, and the outlet gives it back when it
has read it; nothing on the way can wait. So the pages that are free, those of steps on their way
and those that are filled are always all there are, and the same holds of the places of the queue
behind. From every such state the outlet gives a beat within a bound, if it is taken from.
"""

from functools import partial

from amaranth.asserts import AnySeq
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from golden.fixed import SQ
from hdl.outlet import Outlet
from hdl.pipeline import PIPELINES
from proofs.engines import (
    Checks,
    EngineShape,
    anything,
    looked_up,
    opened,
    register,
    replaced,
    timed,
)
from proofs.history import History
from proofs.proof import Fault, Proof

__all__ = ["PROOFS"]

PAGES = 2
"""Steps of a stream that a buffer holds."""


def pages(shape: EngineShape) -> Module:
    m = Module()
    check = Checks(m)
    engine = shape.engine()
    k = engine.cycles
    outlet = Outlet(SQ(1, 7), lanes=min(k.lanes, k.hidden), counts=k.counts,
                    pipeline=PIPELINES[shape.pipeline], streams=k.streams)
    inside, beyond = opened(engine), opened(outlet)
    m.submodules.engine, m.submodules.outlet = engine, outlet
    sequencer, drain, x = (getattr(inside.submodules, name)
                           for name in ("sequencer", "drain", "x_buffer"))
    timed(drain)
    buffer, reader, queue = (getattr(beyond.submodules, name)
                             for name in ("x_buffer", "sequencer", "queue"))
    ahead = opened(buffer)
    columns = opened(ahead.submodules.columns)
    taken = Signal()
    m.d.comb += [
        outlet.i.valid.eq(engine.o.valid),
        outlet.i.payload.eq(engine.o.payload),
        engine.freed_behind.eq(outlet.freed),
        outlet.o.ready.eq(anything(m, 1, "sink")),
        taken.eq(outlet.o.valid & outlet.o.ready),
    ]
    # A step that is offered stays until it has been read.
    offered = Signal(k.streams)
    stands_in = Module()
    stands_in.d.comb += [
        x.ready.eq(offered | AnySeq(k.streams)), x.last.eq(AnySeq(k.streams)),
        x.page.eq(AnySeq(k.streams))]
    stands_in.d.sync += offered.eq(x.ready & ~x.release)
    replaced(x, stands_in)

    past = History(m, check, sequencer, k, {})
    for group in range(k.groups):
        at = past.at(group)
        with m.If(past.ended[at]):
            m.d.comb += [drain.h.count.eq(past.count(m, group)),
                         drain.h.stream.eq(past.stream[at]), drain.emitted.eq(1)]
    m.d.comb += drain.valid.eq(drain.h.count != 0)
    out = past.out(m, check, drain.valid, drain.h.count)

    # Whose step may begin: the next one's, where two directions take turns strictly.
    following: Value = Const(-1, k.streams)
    if shape.both:
        following = Const(1, k.streams) << Mux(register(past.control, "present") == 1, 0, 1)

    # What the outlet's buffer counts, a cycle behind the drain.
    beat = Signal.like(out, name="beat")
    m.d.sync += beat.eq(out)
    counts = [count for count in k.counts if count]
    if len(counts) > 1:
        starts = [sum(counts[:n]) for n in range(len(counts))]
        by_unit = [starts.index(unit) if unit in starts else 0 for unit in range(k.hidden)]
        number = looked_up(m, beat, by_unit, "beat_number")
        check.holds("written", register(columns, "$signal") == number)
        check.holds("final", register(columns, "final") == (number == len(counts) - 1))
    valid, count, whose = Signal(), Signal.like(drain.h.count), Signal.like(drain.h.stream)
    m.d.sync += [valid.eq(drain.valid), count.eq(drain.h.count), whose.eq(drain.h.stream)]
    check.holds("emits", engine.o.valid == valid)
    check.follows("emitted", valid, (engine.o.payload.count == count)
                  & (engine.o.payload.stream == whose))
    check.follows("has_a_page", engine.o.valid, outlet.i.ready)

    # The reader of the outlet, and the places of its queue.
    within, o = opened(reader), outlet.cycles
    word = Signal(range(o.work), name="read_word")
    with m.If(reader.issue):
        m.d.sync += word.eq(Mux(word == o.work - 1, 0, word + 1))
    check.holds("read_word", (word < o.work) & (reader.word == word))
    check.holds("read_begin", register(within, "begin") == (word == 0))
    check.holds("read_last", (reader.last == (word == o.work - 1)) & (reader.end == reader.last)
                & reader.first_pass)
    reading = register(within, "present") if k.streams > 1 else reader.stream
    check.holds("reads", reading < k.streams)
    check.follows("reading", word > 0, buffer.ready.bit_select(reading, 1))
    issued: list[Value] = [reader.issue]
    for n in range(1, o.to_queue + 1):
        issued.append(Signal(name=f"issued{n}"))
        m.d.sync += issued[n].eq(issued[n - 1])
        check.holds(f"issued{n}", issued[n] == register(beyond, "delayed", o.to_queue + n - 1))
    stored = register(opened(queue), "inner_level")
    check.holds("level", (stored < o.queue) & (queue.level == stored + queue.r_rdy))
    places = register(beyond, "room") + queue.level
    for each in issued[1:]:
        places = places + each
    check.holds("places", places == o.queue)
    check.follows("has_a_place", queue.w_en, queue.w_rdy)

    # The last units of a step that there are, and the cycle in which the page is full.
    group = max(group for group in range(k.groups) if k.count(k.passes - 1, group))
    full = past.at(group) + 1
    ended = [past.ended[n] & (past.passes[n] == k.passes - 1) for n in range(past.reach + 1)]
    lates: list[Value] = []
    for n in range(k.streams):
        on_their_way: Value = past.amid[n] & (past.a_pass > 0)
        for cycles in range(1, past.reach + 1):
            if cycles <= full:
                on_their_way = on_their_way + (ended[cycles] & (past.stream[cycles] == n))
        if full > past.reach:
            late = Signal(name=f"late{n}")
            m.d.sync += late.eq(ended[past.reach] & (past.stream[past.reach] == n))
            on_their_way = on_their_way + late
            lates.append(late)
        room = register(inside, f"room{n}")
        ready, behind = buffer.ready[n], register(ahead, f"behind{n}")
        freed = register(ahead, f"freed{n}")
        total = Signal(8, name=f"total{n}")
        m.d.comb += total.eq(room + on_their_way + ready + behind)
        check.holds(f"pages{n}", total == PAGES)
        check.follows(f"behind{n}", behind, ready)
        # Those that the writer knows of: a page is given back to it a cycle late.
        known = Signal(4, name=f"known{n}")
        m.d.comb += known.eq(Const(0, 1) + ready + behind + freed)
        check.holds(f"known{n}", known <= PAGES)
        check.holds(f"writable{n}", register(ahead, "$signal")[n] == (known < PAGES))
        check.holds(f"used{n}", register(ahead, f"used{n}") == (known > 0))
        check.follows(f"given_back{n}", reader.ended[n], ready)

    # How many cycles there are at most to the next beat out of the outlet, from what is nearest to
    # it. The waiting so far and these are never more than the bound.
    step, behind_it = k.passes * k.words, full + o.to_queue + 2
    bound = k.bubble + step + behind_it
    left, owed = Signal(range(bound + 2)), Signal()
    m.d.comb += owed.eq(1)
    oldest = ended[1:] + ([Cat(lates).any()] if lates else [])
    with m.If(queue.r_rdy):
        m.d.comb += left.eq(0)
    with m.Elif(queue.level > 0):
        m.d.comb += left.eq(1)
    for n in range(o.to_queue, 0, -1):
        with m.Elif(issued[n]):
            m.d.comb += left.eq(o.to_queue - n + 2)
    with m.Elif(buffer.ready.any()):
        m.d.comb += left.eq(o.to_queue + 2)
    for n in range(full, 0, -1):
        with m.Elif(oldest[n - 1]):
            m.d.comb += left.eq(behind_it + 1 - n)
    with m.Elif(~past.begins):
        m.d.comb += left.eq(step - past.a_pass * k.words - past.word + behind_it)
    with m.Elif((x.ready & following).any()):
        rest: Value = Const(k.bubble)
        for n in range(k.streams):
            still = k.bubble + 1 - past.ages[n]
            rest = Mux(x.ready[n] & following[n] & (still < rest), still, rest)
        m.d.comb += left.eq(rest + step + behind_it)
    with m.Else():
        m.d.comb += owed.eq(0)
    waited = Signal(range(bound + 2))
    m.d.sync += waited.eq(Mux(owed & outlet.o.ready & ~taken, waited + 1, 0))
    check.follows("progress", owed, waited + left <= bound)
    check.holds("bound", waited <= bound)
    return m


SHAPES = (
    EngineShape(inputs=1, hidden=2, units=1, columns=1),
    EngineShape(inputs=1, hidden=3, units=2, columns=1, pipeline="medium", streams=2),
    EngineShape(inputs=2, hidden=3, units=2, columns=2, pipeline="fast", both=True),
    EngineShape(inputs=1, hidden=4, units=4, columns=1),
    EngineShape(inputs=3, hidden=5, units=4, columns=2, streams=3),
)

FAULTS = (
    Fault(module="hdl.lstm", old="stall = takes & of_stream(no_room, sequencer.stream)",
          new="stall = takes & Const(0)", depth=40),
    Fault(module="hdl.outlet", old="self.freed.eq(sequencer.ended)", new="self.freed.eq(0)",
          depth=50),
    Fault(module="hdl.outlet", old="sequencer.stall.eq(room == 0)", new="sequencer.stall.eq(1)",
          depth=80),
)
"""A step that waits for no page, a page that is not given back, a reader that never reads."""

PROOFS = tuple(
    Proof(
        name=f"engine.pages{n}", bench=partial(pages, shape), depth=6, quick=not n,
        claim="no page or place between the engine and its outlet is taken twice or given back "
              "twice; while it is taken from and a step is there, a beat comes within "
              f"`bubble + P C + latency` cycles ({shape})", faults=FAULTS[:1 if n else None])
    for n, shape in enumerate(SHAPES))
