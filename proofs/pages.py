"""Pages are never taken twice nor given back twice, and no step waits for ever.

An engine with an outlet behind it, which is what an LSTM layer without a dense layer is. A step
takes a page of the outlet with the first pass that it ends, and the outlet gives it back when it
has read it; nothing on the way can wait. So the pages that are free, those of steps on their way
and those that are filled are always all there are, and the same holds of the places of the queue
behind. From every such state the outlet gives a beat within a bound, if it is taken from.
"""

from functools import partial

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from golden.fixed import SQ
from hdl.column_cycles import PAGES
from hdl.drain import Drain
from hdl.outlet import Outlet
from hdl.pipeline import PIPELINES
from proofs.checks import Checks
from proofs.control import counted, held, queued
from proofs.engines import (
    EngineShape,
    anything,
    begun,
    looked_up,
    register,
    steady,
    timed,
)
from proofs.history import History
from proofs.proof import Engine, Fault, Proof
from proofs.rules import opened

__all__ = ["PROOFS"]

def drained(m: Module, aids: Checks, past: History, drain: Drain) -> Signal:
    """Let a drain do what is proven of it; returns the units of a step that have come out."""
    timed(drain)
    for group in range(past.cycles.groups):
        at = past.at(group)
        with m.If(past.ended[at]):
            m.d.comb += [drain.h.count.eq(past.count(m, group)),
                         drain.h.stream.eq(past.stream[at]), drain.emitted.eq(1)]
            if "last" in past.about:
                m.d.comb += drain.h.last.eq(past.about["last"][at])
    m.d.comb += drain.valid.eq(drain.h.count != 0)
    return past.out(m, aids, drain.valid, drain.h.count)


def filled_after(past: History) -> int:
    """Cycles from a step's last word to its page being full."""
    k = past.cycles
    return past.at(max(group for group in range(k.groups) if k.count(k.passes - 1, group))) + 1


def under_way(m: Module, past: History, n: int, counts: list[Value]) -> tuple[Value, list[Value]]:
    """How many steps of a stream have taken a page and not filled it.

    Parameters
    ----------
    n : int
        The stream.
    counts : list of Value
        Whether a step takes one: the one that is being made, and that of the pass that ended so
        many cycles ago.

    Returns
    -------
    steps : Value
    late : list of Value
        Whether it is one of which the history knows no more.
    """
    k, full = past.cycles, filled_after(past)
    steps: Value = past.amid[n] & (past.a_pass > 0) & counts[0]
    ended = [past.ended[cycles] & (past.passes[cycles] == k.passes - 1)
             & (past.stream[cycles] == n) & counts[cycles] for cycles in range(past.reach + 1)]
    for each in ended[1:full + 1]:
        steps = steps + each
    if full <= past.reach:
        return steps, []
    late = Signal(name=f"late{n}")
    m.d.sync += late.eq(ended[past.reach])
    return steps + late, [late]


def pages(shape: EngineShape) -> Module:
    m, check, engine, inside = begun(shape, alone=False)
    k, aids = engine.cycles, check.aids
    outlet = Outlet(SQ(1, 7), lanes=min(k.lanes, k.hidden), counts=k.counts,
                    pipeline=PIPELINES[shape.pipeline], streams=k.streams)
    m.submodules.outlet = outlet
    beyond = opened(outlet)
    sequencer, drain, x = (getattr(inside.submodules, name)
                           for name in ("sequencer", "drain", "x_buffer"))
    buffer, reader, queue = (getattr(beyond.submodules, name)
                             for name in ("x_buffer", "sequencer", "queue"))
    ahead = opened(buffer)
    taken = Signal()
    m.d.comb += [
        outlet.i.valid.eq(engine.o.valid),
        outlet.i.payload.eq(engine.o.payload),
        engine.freed_behind.eq(outlet.freed),
        outlet.o.ready.eq(anything(m, 1, "sink")),
        taken.eq(outlet.o.valid & outlet.o.ready),
    ]
    steady(x)

    past = History(m, aids, sequencer, k, {})
    out = drained(m, aids, past, drain)

    # Whose step may begin: the next one's, where two directions take turns strictly.
    following: Value = Const(-1, k.streams)
    if shape.both:
        following = Const(1, k.streams) << Mux(register(past.control, "present") == 1, 0, 1)

    # What the outlet's buffer counts, a cycle behind the drain.
    beat = Signal.like(out, name="beat")
    m.d.sync += beat.eq(out)
    counts = [count for count in k.counts if count]
    starts = [sum(counts[:n]) for n in range(len(counts))]
    number = looked_up(m, beat, [starts.index(unit) if unit in starts else 0
                                 for unit in range(k.hidden)], "beat_number")
    held(m, aids, buffer, number, len(counts))
    valid, count, whose = Signal(), Signal.like(drain.h.count), Signal.like(drain.h.stream)
    m.d.sync += [valid.eq(drain.valid), count.eq(drain.h.count), whose.eq(drain.h.stream)]
    aids.holds("emits", engine.o.valid == valid)
    aids.follows("emitted", valid, (engine.o.payload.count == count)
                 & (engine.o.payload.stream == whose))
    check.follows("has_a_page", engine.o.valid, outlet.i.ready)

    o = outlet.cycles
    counted(m, aids, reader, buffer.ready)
    issued, under = queued(m, aids, beyond, reader.issue, o.to_queue)
    check.holds("places", register(beyond, "room") + under == queue.depth)

    full = filled_after(past)
    ended = [past.ended[n] & (past.passes[n] == k.passes - 1) for n in range(past.reach + 1)]
    lates: list[Value] = []
    for n in range(k.streams):
        on_their_way, late = under_way(m, past, n, [Const(1)] * (past.reach + 1))
        lates += late
        room = register(inside, f"room{n}")
        ready, behind = buffer.ready[n], register(ahead, f"behind{n}")
        total = Signal(8, name=f"total{n}")
        m.d.comb += total.eq(room + on_their_way + ready + behind)
        check.holds(f"pages{n}", total == PAGES)

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


def finals(shape: EngineShape) -> Module:
    """The pages of final states, which something behind gives back when it likes."""
    m, check, engine, inside = begun(shape)
    k, aids = engine.cycles, check.aids
    sequencer, drain, x = (getattr(inside.submodules, name)
                           for name in ("sequencer", "drain", "x_buffer"))
    there, last = steady(x), Signal()
    m.d.comb += last.eq(x.last.bit_select(sequencer.stream, 1))
    past = History(m, aids, sequencer, k, {"last": last})
    out = drained(m, aids, past, drain)
    whole, full, given = Signal(), filled_after(past), engine.final_h
    m.d.sync += whole.eq(drain.valid & (out + drain.h.count == k.hidden))
    for n in range(k.streams):
        aids.follows(f"there{n}", past.amid[n], there[n])
        on_their_way, late = under_way(m, past, n, [x.last[n], *past.about["last"][1:]])
        filled, fills, gone = (Signal(shape, name=f"{name}{n}") for shape, name in (
            (range(PAGES + 1), "filled"), (1, "fills"), (1, "gone")))
        m.d.comb += [
            fills.eq(given.valid & whole & (given.payload.stream == n)),
            gone.eq((filled != 0) & anything(m, 1, f"gives_back{n}")),
            engine.freed_final[n].eq(gone),
        ]
        m.d.sync += filled.eq(filled + fills - gone)
        aids.holds(f"fills{n}", fills == (late[0] if late else (
            past.ended[full] & (past.passes[full] == k.passes - 1)
            & (past.stream[full] == n) & past.about["last"][full])))
        total = Signal(8, name=f"total{n}")
        m.d.comb += total.eq(register(inside, f"room_final{n}") + on_their_way + filled)
        check.holds(f"final_pages{n}", total == PAGES)
    return m


def projections(shape: EngineShape) -> Module:
    """The projection takes whatever the drain gives it, which does not wait."""
    m, check, engine, inside = begun(shape)
    aids = check.aids
    sequencer, x, drain, projection = (
        getattr(inside.submodules, name)
        for name in ("sequencer", "x_buffer", "drain", "projection"))
    steady(x)
    drained(m, aids, History(m, aids, sequencer, engine.cycles, {}), drain)
    check.follows("has_a_page", projection.i.valid, projection.i.ready)
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
          depth=60),
    Fault(module="hdl.lstm", old="stall = takes & of_stream(no_room, sequencer.stream)",
          new="stall = takes", depth=80),
)
"""A step that waits for no page, a page that is not given back, a step that waits for ever."""

PROJECTED = (
    EngineShape(inputs=1, hidden=2, units=1, columns=1, projected=1),
    EngineShape(inputs=1, hidden=3, units=2, columns=1, pipeline="medium", streams=2,
                projected=2),
    EngineShape(inputs=1, hidden=2, units=2, columns=1, projected=1),
)

FINALS = (
    EngineShape(inputs=1, hidden=3, units=2, columns=1, pipeline="medium", streams=2,
                every_step=False, states=True),
    EngineShape(inputs=2, hidden=3, units=2, columns=2, pipeline="fast", both=True, states=True),
    EngineShape(inputs=1, hidden=2, units=1, columns=1, states=True),
)

PROOFS = (
    *(Proof(
        name=f"engine.pages{n}", bench=partial(pages, shape), depth=6,
        claim="no page or place between the engine and its outlet is taken twice or given back "
              "twice; while it is taken from and a step is there, a beat comes within "
              f"`bubble + P C + latency` cycles ({shape})", faults=FAULTS)
      for n, shape in enumerate(SHAPES)),
    *(Proof(
        name=f"engine.finals{n}", bench=partial(finals, shape), depth=6,
        claim="a page is free for every final h that comes, and none is taken without one that "
              f"comes ({shape})",
        faults=[Fault(module="hdl.lstm", old="stall | (takes_final & of_stream(no_room, "
                      "sequencer.stream))", new="stall | (takes_final & Const(0))", depth=60)])
      for n, shape in enumerate(FINALS)),
    *(Proof(
        name=f"engine.projection{n}", bench=partial(projections, shape), engine=Engine.PDR,
        claim=f"the projection has a page for whatever the drain gives it ({shape})",
        faults=[Fault(module="hdl.lstm", old="prompt=apart < k.projection.work + 2",
                      new="prompt=False", depth=60) if n == len(PROJECTED) - 1 else
                Fault(module="hdl.dense", old="x.release.eq(sequencer.ended)",
                      new="x.release.eq(0)", depth=60)])
      for n, shape in enumerate(PROJECTED)),
)
