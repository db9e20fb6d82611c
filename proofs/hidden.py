"""No hidden state is read before it is written, or overwritten before it has been read.

The watched unit of the watched step is any one. When it comes out of the drain it is tagged with a
bit of any value; all others have bits of their own, as they like. In the step after that one, this
very bit must be the operand in the unit's column: an h that is read too early is not there yet, one
that is overwritten too early is no longer there. Where the next step begins a sequence, its
operands must be 0. What the memories hold at first does not matter to any of this.

That the drain gives its hidden states a fixed time after the words is a proof of its own; here it
does so by definition. What is before the sequencer and behind the engine may do anything.
"""

from functools import partial
from typing import Any

from amaranth.asserts import AnyConst
from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value

from hdl.drain import LEAD, Step
from hdl.pipeline import PIPELINES
from hdl.registers import delayed
from proofs.engines import (
    EngineShape,
    Tagged,
    anything,
    begun,
    chosen,
    looked_up,
    register,
    registers,
    timed,
    unsteady,
    words_of,
)
from proofs.history import History
from proofs.proof import Fault, Proof
from proofs.rules import opened

__all__ = ["PROOFS"]

IDLE, WATCHED, NEXT, ANEW, OVER = range(5)
"""Of the watched stream: no step has been picked; the picked one is under way; the next one depends
on it; the next one does not; that one is over."""


def hazard(shape: EngineShape) -> Module:
    m, check, engine, inside = begun(shape)
    aids = check.aids
    k, f, parts = engine.cycles, engine.cycles.folding, inside.submodules
    sequencer, drain, array = parts.sequencer, parts.drain, parts.array
    unsteady(parts.x_buffer)
    timed(drain)
    tagged = Tagged(parts.h_buffer)
    buffer = opened(tagged.inner)

    halves, fresh = register(inside, "half"), _fresh(inside)
    past = History(m, aids, sequencer, k,
                   {"page": ~halves.bit_select(sequencer.stream, 1)})

    # The watched unit, and where its step is.
    stream, unit = chosen(m, k.streams, "stream"), chosen(m, k.hidden, "unit")
    of_pass, group, lane = (looked_up(m, unit, values, name) for name, values in {
        "unit_pass": [j // f.units for j in range(k.hidden)],
        "unit_group": [j % f.units // f.lanes for j in range(k.hidden)],
        "unit_lane": [j % f.units % f.lanes for j in range(k.hidden)]}.items())
    state, page = Signal(range(OVER + 1)), Signal()
    half = halves.bit_select(stream, 1)
    mine = sequencer.issue & (sequencer.stream == stream)
    picks, watched = Signal(), Signal()
    m.d.comb += [
        picks.eq(mine & past.begins & (state == IDLE) & anything(m, 1, "pick")),
        watched.eq(picks | mine & (state == WATCHED)),
    ]
    with m.If(picks):
        m.d.sync += [state.eq(WATCHED), page.eq(~half)]
    with m.If(sequencer.ended.bit_select(stream, 1)):
        with m.If(watched):
            m.d.sync += state.eq(Mux(sequencer.free, ANEW, NEXT))
        with m.Elif((state == NEXT) | (state == ANEW)):
            m.d.sync += state.eq(OVER)
    amid = Cat(past.amid).bit_select(stream, 1)
    aids.holds("state", state <= OVER)
    aids.follows("watched", state == WATCHED, amid & (half != page))
    aids.follows("next", state == NEXT, (half == page) & ~fresh.bit_select(stream, 1))
    aids.follows("anew", state == ANEW, fresh.bit_select(stream, 1))

    # Cycles since the unit's pass has ended: 0 before, and some number when it is long ago.
    longest = past.reach + 3
    since = Signal(range(longest + 1))
    with m.If(watched & past.ends & (past.a_pass == of_pass)):
        m.d.sync += since.eq(1)
    with m.Elif((since != 0) & (since != longest)):
        m.d.sync += since.eq(since + 1)

    def at_most(value: Value) -> Value:
        return Mux(value > longest, longest, value)

    place = past.a_pass * k.words + past.word
    behind = looked_up(m, of_pass, [(k.passes - 1 - p) * k.words for p in range(k.passes)],
                       "passes_behind")
    age = Signal(range(k.bubble + 2))
    with m.Switch(stream):
        for n, each in enumerate(past.ages):
            with m.Case(n):
                m.d.comb += age.eq(each)
    aids.holds("since", since <= longest)
    aids.follows("since_idle", state == IDLE, since == 0)
    aids.follows("since_watched", state == WATCHED, since == Mux(
        past.a_pass > of_pass, at_most(place + 1 - (of_pass + 1) * k.words), 0))
    aids.follows("since_bubble", (state == NEXT) & (age <= k.bubble),
                 since == at_most(age + behind))
    aids.follows("since_next", (state == NEXT) & (age > k.bubble), since >= at_most(
        k.bubble + 1 + behind + Mux(amid, place, 0)))
    for n in range(1, past.reach + 1):
        ours = past.ended[n] & (past.stream[n] == stream)
        aids.follows(f"marked{n}", since == n, ours & (past.passes[n] == of_pass)
                     & (past.about["page"][n] == page))
        # What comes out behind it goes to another place.
        aids.follows(f"behind{n}", ((state == WATCHED) | (state == NEXT)) & (since > n) & ours,
                     (past.passes[n] > of_pass) | (past.about["page"][n] != page))

    # The drain by definition, and the tag.
    for number in range(k.groups):
        at = past.at(number)
        with m.If(past.ended[at]):
            m.d.comb += [
                drain.h.count.eq(past.count(m, number)),
                drain.h.stream.eq(past.stream[at]),
                drain.page.eq(past.about["page"][at]),
            ]
    due = looked_up(m, group, [past.at(number) for number in range(k.groups)], "due")
    tag, others = Signal(), anything(m, len(tagged.tags), "others")
    m.d.comb += [
        tag.eq(AnyConst(1)),
        drain.valid.eq(drain.h.count != 0),
        *(each.eq(Mux((since == due) & (lane == n), tag, others[n]))
          for n, each in enumerate(tagged.tags)),
    ]

    # Where the buffer of h writes, and what is in its memories.
    out = past.out(m, aids, drain.valid, drain.h.count)
    banks, first = tagged.inner._banks, tagged.inner._offset
    counts = [count for count in k.counts if count]
    if len(counts) > 1:
        starts = [sum(counts[:n]) for n in range(len(counts))]
        for name, signal, values in (
                ("bank", register(buffer, "bank"), [(first + at) % banks for at in starts]),
                ("row", register(buffer, "row"), [(first + at) // banks for at in starts]),
                ("written", register(buffer, "$signal"), list(range(len(starts)))),
                ("final", register(buffer, "final"), [0] * (len(starts) - 1) + [1])):
            by_unit = [0] * k.hidden
            for at, value in zip(starts, values, strict=True):
                by_unit[at] = value
            aids.holds(name, signal == looked_up(m, out, by_unit, f"{name}_expected"))
    row_bits = Shape.cast(range(tagged.inner._memories.rows)).width
    memories = {(bank, side): words_of(getattr(buffer.submodules, f"bank{bank}_{side}"))
                for bank in {(first + j) % banks for j in range(k.hidden)} for side in range(2)}
    for j in range(k.hidden):
        row, bank = divmod(first + j, banks)
        for side in range(2):
            for n in range(k.streams):
                there = (unit == j) & (page == side) & (stream == n) & (since > due)
                aids.follows(f"kept{j}_{side}_{n}",
                             there & ((state == WATCHED) | (state == NEXT)),
                             memories[bank, side][row | n << row_bits][0] == tag)

    # The operands, so many cycles behind the sequencer.
    word, depends, anew = (delayed(m, value, k.memory + 1, reset=True) for value in (
        past.word, mine & (state == NEXT), mine & (state == ANEW)))
    for v in range(f.columns):
        column = Signal(range(k.words * f.columns), name=f"column{v}")
        m.d.comb += column.eq(word * f.columns + v)
        check.follows(f"operand{v}", depends & (column == k.inputs + unit),
                      array.operands[v][0] == tag)
        check.follows(f"none{v}", anew & (column >= k.inputs), array.operands[v] == 0)
    return m


FIELDS = ("last", "stream", "emit", "page")
"""What the drain carries along with a step, in the order of its registers."""


def drained(shape: EngineShape) -> Module:
    """Hidden states come out a fixed time after the words, with what belongs to their step."""
    m, check, engine, inside = begun(shape)
    aids = check.aids
    k = engine.cycles
    sequencer, drain = inside.submodules.sequencer, inside.submodules.drain
    unsteady(inside.submodules.x_buffer)
    within = opened(drain)
    last = Signal()
    m.d.comb += last.eq(sequencer.free)
    past = History(m, aids, sequencer, k, {
        "page": ~register(inside, "half").bit_select(sequencer.stream, 1),
        "last": last, "emit": Const(1) if shape.every_step else last})

    # The registers on the way, up to where only a few cycles are left.
    interval = k.folding.interval
    coming = past.first - k.timing.hidden - LEAD - 1
    units = [coming + 1 + group * interval for group in range(k.groups)]

    def one_of(cycle: int) -> Value:
        return Cat(past.ended[at + cycle] for at in units).any()

    marks = register(within, "marks")
    aids.holds("start", register(within, "start") == one_of(0))
    for n, mark in enumerate(marks):
        aids.holds(f"mark{n}", mark == one_of(n + 1))
    for n in range(1, k.groups * interval + 1):
        recent = past.ended[coming + n]
        if k.groups > 1:
            aids.follows(f"left{n}", recent, register(within, "left") == k.groups - 1
                         - (n - 1) // interval)
        if interval > 1:
            aids.follows(f"phase{n}", recent, register(within, "phase") == (n - 1) % interval)
        step = Step(k.streams)(register(within, "step"))
        for field in FIELDS:
            aids.follows(f"step_{field}{n}", recent, step[field] == past.of(field, coming + n))
    if k.groups > 1:
        aids.follows("none_left", ~Cat(past.ended[coming + 1:coming + k.groups * interval + 1]
                                       ).any(), register(within, "left") == 0)
    hops = len(range(-LEAD, k.timing.hidden, interval))
    for n, field in enumerate(FIELDS):
        for hop in range(hops):
            carried = register(within, "carried", n * hops + hop)
            for at in units:
                for late in range(1, interval + 1):
                    since = at + hop * interval + late
                    if since <= past.reach:
                        aids.follows(f"carried_{field}{hop}_{since}", past.ended[since],
                                     carried == past.of(field, since))

    # Which units are next: the second of two alike, whose register of the group is the one before.
    a_pass = register(within, "a_pass", 1)
    every = registers(within)
    group_next = every[[id(each) for each in every].index(id(a_pass)) - 1]
    aids.holds("pass_next", a_pass == past.passes[past.reach - 1])
    aids.holds("group_next", group_next == sum(
        (Cat(past.ended[past.at(group):past.reach]).any() for group in range(k.groups - 1)),
        Const(0)))

    count = Signal(range(k.folding.lanes + 1))
    for group in range(k.groups):
        at = past.at(group)
        with m.If(past.ended[at]):
            m.d.comb += count.eq(past.count(m, group))
        for field, value in {"page": drain.page, "emit": drain.emitted, "last": drain.h.last,
                             "stream": drain.h.stream}.items():
            check.follows(f"{field}_of{group}", past.ended[at] & (count != 0),
                          value == past.of(field, at))
    check.holds("count", drain.h.count == count)
    check.holds("valid", drain.valid == (count != 0))
    past.out(m, aids, drain.valid, drain.h.count)
    return m


def _fresh(inside: Module) -> Any:
    """The register that says which streams' next steps begin a sequence: the one not 0 at first."""
    return next(signal for signal in registers(inside) if signal.name == "$signal" and signal.init)


SHAPES = (
    EngineShape(inputs=1, hidden=2, units=1, columns=1),
    EngineShape(inputs=1, hidden=3, units=2, columns=1, pipeline="medium", streams=2,
                every_step=False),
    EngineShape(inputs=2, hidden=3, units=2, columns=2, pipeline="fast", both=True),
    EngineShape(inputs=1, hidden=4, units=4, columns=1),
    EngineShape(inputs=3, hidden=5, units=4, columns=2, streams=3),
    EngineShape(inputs=2, hidden=3, units=1, columns=4, pipeline="fast"),
)
"""Passes and units that divide and do not, one and more of each; words with columns of both kinds;
one stream, several, and two directions; all pipelines."""


HAZARDS = (
    Fault(module="hdl.cycles", old="late + self.pipeline.feedback - 2)",
          new="late + self.pipeline.feedback - 3)", depth=80),
    Fault(module="hdl.lstm", old="h.read_page.eq(page_of(sequencer.stream, of_stream(half, ",
          new="h.read_page.eq(page_of(sequencer.stream, of_stream(~half, ", depth=40),
    Fault(module="hdl.buffer", old="if stage < self._forward:",
          new="if stage + 1 < self._forward:", depth=40),
)
"""A bubble a cycle shorter, the other page, a register less of forwarding."""

CARRIED = (
    Fault(module="hdl.lstm", old="drain.step.eq(delayed(m, entering, array.latency - 2))",
          new="drain.step.eq(delayed(m, entering, array.latency - 1))", depth=80),
    Fault(module="hdl.drain", old="self.page.eq(token.carry(step.page, -LEAD, t.hidden))",
          new="self.page.eq(token.carry(step.fresh, -LEAD, t.hidden))", depth=50),
)
"""A step that comes to the drain too late, another mark in the place of the page."""

PROOFS = (
    *(Proof(
        name=f"engine.hidden{n}", bench=partial(hazard, shape), depth=6, quick=not n,
        claim="each step reads the hidden states of the one before it, none too early and none "
              f"overwritten ({shape})", faults=HAZARDS[:1 if n else None])
      for n, shape in enumerate(SHAPES)),
    *(Proof(
        name=f"engine.drain{n}", bench=partial(drained, shape),
        depth=PIPELINES[shape.pipeline].array_latency(shape.columns) + 5,
        claim="hidden states come out a fixed time after the last word of their pass, with the "
              f"page, stream and marks of their step ({shape})",
        faults=CARRIED[:1 if n else None])
      for n, shape in enumerate(SHAPES)),
)
