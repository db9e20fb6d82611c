"""What is read of a step comes out once, in order, as it was: from a buffer through a queue.

A part that has whole steps in pages reads them word by word, and what becomes of each word goes
into a queue a fixed time later. Any one word is watched, from the cycle in which it is asked for
until it is taken: those before it that have not been taken come out first. That the pages hold the
steps as they came is proven of the buffers (:mod:`proofs.buffers`), which here are what that proof
says of them; so both together are the order of such a part, from end to end and for ever. Of a
buffer of whole sequences it is one proof, with what lies in its memories.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

from amaranth.asserts import AnySeq
from amaranth.hdl import Array, Assume, Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data

from hdl.buffer import ColumnBuffer, StepBuffer, of_stream, page_of
from hdl.pipeline import FAST, SHORT, Pipeline
from hdl.registers import delayed
from proofs import parts
from proofs.checks import Checks, Claims
from proofs.control import Gathering, counted, queued, since, waiting
from proofs.engines import chosen, looked_up, register, replaced, words_of
from proofs.proof import Fault, Proof
from proofs.rules import anything, beats_of, opened, take_turns

__all__ = ["PROOFS"]


class Front:
    """Makes a buffer what is proven of it.

    Parameters
    ----------
    m : Module
        Of the proof.
    buffer : StepBuffer
        Not yet elaborated.
    stream, column : Value
        Those of the column that is watched.
    there : Value
        For each stream, whether there is a step; it stays, until it is released.

    Attributes
    ----------
    code : Signal
        The watched column of the step in front.
    """

    def __init__(self, m: Module, buffer: StepBuffer, stream: Value, column: Value, there: Value):
        lanes, width = len(buffer.data), buffer.i.payload.shape().width
        before, last, kept = Signal.like(there), Signal.like(buffer.last), Signal(width)
        self.code = Signal(width, name="front")
        m.d.comb += self.code.eq(Mux(of_stream(before, stream), kept, AnySeq(width)))
        m.d.sync += [before.eq(there & ~buffer.release), last.eq(buffer.last),
                     kept.eq(self.code)]
        inside = Module()
        inside.d.comb += [
            buffer.ready.eq(there),
            buffer.last.eq((before & last) | (~before & AnySeq(buffer.last.shape()))),
        ]
        inside.d.sync += buffer.page.eq(buffer.page ^ buffer.release)
        # A word is asked for while its step is in front; its address is registered.
        front = delayed(m, of_stream(there, stream), 1)
        page = delayed(m, page_of(stream, of_stream(buffer.page, stream)), 1)
        code = delayed(m, self.code, 1)
        asked = front & (buffer.read_page == page)
        for n, word in enumerate(buffer.data):
            read = Signal(width, name=f"read{n}")
            m.d.sync += read.eq(Mux(asked & (buffer.address * lanes + n == column), code,
                                    AnySeq(width)))
            inside.d.comb += word.eq(delayed(inside, read, buffer._buffer._latency - 1))
        buffer._buffer._MustUse__used = True
        replaced(buffer, inside)


def offered(m: Module, streams: int, release: Value) -> Signal:
    """For each stream, whether there is a step: it stays until it is released."""
    there, before = Signal(streams, name="there"), Signal(streams)
    m.d.comb += there.eq(before | AnySeq(streams))
    m.d.sync += before.eq(there & ~release)
    return there


def passage(m: Module, check: Claims, inside: Module, o: Any, issue: Value, cycles: int,
            marks: dict[str, Value], known: dict[int, tuple[Value, Value]],
            layout: data.Layout | None = None, room: Value | None = None) -> None:
    """What is issued comes out.

    Parameters
    ----------
    inside : Module
        Of the part, with ``queue`` and ``room``.
    o : stream of beats
        What comes out of the queue.
    issue : Value
        Something is issued.
    cycles : int
        From there to the queue.
    marks : dict of Value
        Of the beat that comes of it.
    known : dict of pairs of Value
        For each lane of the beat whether it is watched, and what it is then.
    layout : Layout, optional
        What of a beat goes through the queue; all of it by default.
    room : Value, optional
        Places that are free, as of :func:`queued`.
    """
    queue, aids = inside.submodules.queue, check.aids
    issued, under_way = queued(m, aids, inside, issue, cycles, room)
    out = o.valid & o.ready
    # As counted here.
    flying = Signal(range(queue.depth + 1), name="flying")
    m.d.sync += flying.eq(flying + issue - out)
    aids.holds("flying", flying == under_way)
    check.follows("of_an_issue", o.valid, flying != 0)

    # Of all that is on its way, how many are before the watched one, and how long ago that was
    # issued; and what it has to be.
    ahead = Signal(range(queue.depth + 1))
    watched, picks = Signal(), Signal()
    m.d.comb += picks.eq(issue & ~watched & AnySeq(1))
    age = since(m, picks, Const(0), cycles + 1, "age")
    wanted = {name: Signal.like(value, name=f"wanted_{name}") for name, value in marks.items()}
    looked, codes = ({lane: Signal.like(Value.cast(pair[n]), name=f"{name}{lane}")
                      for lane, pair in known.items()} for n, name in enumerate(("look", "code")))
    with m.If(picks):
        m.d.sync += [watched.eq(1), ahead.eq(flying - out),
                     *(wanted[name].eq(value) for name, value in marks.items()),
                     *(looked[lane].eq(pair[0]) for lane, pair in known.items()),
                     *(codes[lane].eq(pair[1]) for lane, pair in known.items())]
    with m.Elif(watched & out):
        m.d.sync += [ahead.eq(ahead - 1), watched.eq(ahead != 0)]
    arrived = watched & (age == cycles + 1)

    def right(beat: Any) -> Value:
        fits: Value = Const(1, 1)
        for name, value in wanted.items():
            fits = fits & (beat[name] == value)
        for lane, code in codes.items():
            fits = fits & (~looked[lane] | (beat.data[lane] == code.as_signed()))
        return fits

    given = layout or o.payload.shape()
    aids.follows("age", watched, age != 0)
    waiting(m, aids, queue, issued, watched, age, ahead, lambda word: right(given(word)))
    check.follows("comes_out", arrived & (ahead == 0) & o.valid, right(o.payload))
    check.follows("comes_out_then", watched & (ahead == 0) & o.valid, arrived)


def outlet() -> Module:
    m = Module()
    check = Claims(m)
    m.submodules.dut = dut = parts.outlet()
    inside, k = opened(dut), dut.cycles
    sequencer, x = inside.submodules.sequencer, inside.submodules.x_buffer
    stream, column = chosen(m, k.streams, "stream"), chosen(m, k.hidden, "column")
    there = offered(m, k.streams, x.release)
    front = Front(m, x, stream, column, there)
    m.d.comb += dut.o.ready.eq(AnySeq(1))
    word, final = counted(m, check.aids, sequencer, there)
    passage(m, check, inside, dut.o, sequencer.issue, k.to_queue, {
        "count": Mux(final, k.hidden - (k.work - 1) * k.lanes, k.lanes),
        "last": final & of_stream(x.last, sequencer.stream),
        "stream": sequencer.stream,
    }, {lane: ((sequencer.stream == stream) & (word * k.lanes + lane == column), front.code)
        for lane in range(k.lanes)})
    return m


def dense(pipeline: Pipeline) -> Module:
    """Of each pass."""
    m = Module()
    check = Claims(m)
    m.submodules.dut = dut = parts.dense(pipeline=pipeline)
    inside, k = opened(dut), dut.cycles
    sequencer, x = inside.submodules.sequencer, inside.submodules.x_buffer
    there = offered(m, k.streams, x.release)
    Front(m, x, Const(0, 1), Const(0), there)
    m.d.comb += dut.o.ready.eq(AnySeq(1))
    _, final = counted(m, check.aids, sequencer, there)
    passage(m, check, inside, dut.o, sequencer.issue & sequencer.last, k.latency - 2, {
        "count": Mux(final, k.counts[-1], k.folding.rows),
        "last": final & of_stream(x.last, sequencer.stream),
        "stream": sequencer.stream,
    }, {})
    return m


def reader(latency: int) -> Module:
    m = Module()
    check = Claims(m)
    m.submodules.dut = dut = parts.reader(latency=latency)
    inside = opened(dut)
    sequencer = inside.submodules.sequencer
    stream = chosen(m, dut._streams, "stream")
    element = chosen(m, dut.bus.elements, "element")
    first = 0
    there: Value = Const(-1, dut._streams)
    code: Value = Const(0)
    for n, tensor in enumerate(parts.TENSORS):
        here = offered(m, dut._streams, sequencer.ended)
        front = Front(m, getattr(inside.submodules, f"page{n}"), stream, element - first, here)
        there, code = there & here, Mux(element >= first, front.code, code)
        first += tensor.elements
    m.d.comb += dut.o.ready.eq(AnySeq(1))
    check.holds("count", dut.o.payload.count == 1)
    word, final = counted(m, check.aids, sequencer, there)
    passage(m, check, inside, dut.o, sequencer.issue, dut._wait, {
        "last": final, "stream": sequencer.stream,
    }, {0: ((sequencer.stream == stream) & (word == element), code)}, data.StructLayout({
        name: field.shape for name, field in dut.o.payload.shape() if name != "count"}))
    return m


def stored(m: Module, aids: Checks, columns: ColumnBuffer, number: Value, column: Value,
           code: Value, there: Callable[[int, int, int], Value], name: str = "") -> None:
    """Where the watched column of a step lies, once it has come.

    Parameters
    ----------
    columns : ColumnBuffer
        Whose words have one bank, or more where beats are wider.
    number : Value
        Which beat of a step is the next.
    column, code : Value
        The watched one, and what it has to be.
    there : function
        Of a beat of the step, a half of the pages, and the number of a page of it: whether the
        watched step is there, and the beat has come.
    """
    counts = columns._counts
    starts = [sum(counts[:n]) for n in range(len(counts))]
    within, banks = opened(columns), columns._banks
    for what, each in (("bank", [first % banks for first in starts]),
                       ("row", [first // banks for first in starts])):
        aids.holds(f"{what}{name}", register(within, what) == looked_up(
            m, number, each, f"{what}{name}_expected"))
    row_bits = Shape.cast(range(columns._memories.rows)).width
    for bank, side in product(range(min(banks, sum(counts))), range(2)):
        words = words_of(getattr(within.submodules, f"bank{bank}_{side}"))
        for at in range(bank, sum(counts), banks):
            of_beat = max(n for n, first in enumerate(starts) if first <= at)
            for page in range(columns._pages // 2):
                aids.follows(f"kept{name}_{side}_{at}_{page}",
                             there(of_beat, side, page) & (column == at),
                             words[at // banks | page << row_bits] == code)


def sequence(read: tuple[bool, ...], written: tuple[bool, ...]) -> Module:
    """A column of a step is watched from its coming to the release of its sequence."""
    m = Module()
    check = Claims(m)
    aids = check.aids
    m.submodules.dut = dut = parts.sequence(read=read, written=written)
    inside, k, beat, counts = opened(dut), dut.cycles, dut.i.payload, parts.COUNTS
    longest, features, lanes = k.longest, sum(counts), k.columns
    anything(m, dut)
    number = beats_of(m, dut.i, counts, stay=("last", "stream"))
    turns = take_turns(m, dut.i, number, counts, len(written))
    inner = Gathering(aids, dut, inside, number, turns)
    writer, column = chosen(m, len(written), "writer"), chosen(m, features, "column")

    def its(values: Sequence[Value]) -> Value:
        return Array(values)[writer]

    # Of the watched writer: steps of the sequence before this one, as far as it may go.
    into = dut.i.valid & dut.i.ready & (beat.stream == writer)
    begins, ends = into & (number == 0), into & (number == len(counts) - 1)
    before = Signal(range(longest + 1))
    with m.If(ends):
        m.d.sync += before.eq(Mux(beat.last, 0, before + (before != longest)))
    now, half = its(inner.places), its(inner.halves)
    aids.holds("before", (before <= longest) & (
        now == Mux(before == longest, longest - 1, before)))

    # The watched step: where it lies, the steps behind it in its sequence, and its column.
    watched, coming, whole, at = Signal(), Signal(), Signal(), Signal()
    place, behind = Signal.like(before, name="place"), Signal.like(before, name="behind")
    code = Signal.like(beat.data[0], name="code")
    picks = begins & ~watched & (before < longest) & AnySeq(1)
    amid = picks | coming
    released = Signal()
    with m.If(picks):
        m.d.sync += [watched.eq(1), at.eq(half), place.eq(before), behind.eq(0), whole.eq(0)]
    with m.If(into & amid):
        m.d.sync += coming.eq(~ends)
        for n, count in enumerate(counts):
            for lane in range(count):
                with m.If((number == n) & (column == sum(counts[:n]) + lane)):
                    m.d.sync += code.eq(beat.data[lane])
    with m.If(ends & (amid | watched & ~whole)):
        m.d.sync += [whole.eq(beat.last), behind.eq(Mux(amid, 0, behind + 1))]
    with m.If(watched & whole & released):
        m.d.sync += watched.eq(0)
    # Its sequence is no longer than it may be.
    m.d.comb += Assume(~(begins & watched & ~whole & (before == longest)))
    aids.follows("fits", watched & ~whole & (before == longest),
                 (number == 0) | (beat.stream != writer))
    aids.follows("coming", coming, watched & ~whole & (at == half) & (place == before)
                 & (number != 0) & (turns[0] == writer if len(written) > 1 else 1))
    aids.follows("goes_on", watched & ~coming & ~whole, (at == half) & (
        before == place + behind + 1))
    done = Cat(each.bit_select(writer, 1) for each in inner.done).bit_select(at, 1)
    aids.follows("whole", watched, whole == done)
    aids.follows("length", watched & whole, Mux(at, *reversed(inner.lengths)) == place + behind)

    for n in range(len(written)):
        lies = watched & (writer == n)
        mine = Mux(beat.stream == n, number, 0) if len(written) > 1 else number
        stored(m, aids, getattr(inside.submodules, f"columns{n}"), mine, column, code,
               lambda first, side, step, lies=lies: (  # type: ignore[misc]
                   lies & (~coming | (number > first)) & (at == side) & (place == step)), f"{n}")

    # What is read: beats of a step, for one reader after the other, and steps of the sequence.
    turn, sent = Signal(range(k.work)), Signal(range(longest))
    last_turn = turn == k.work - 1
    with m.If(inner.issue):
        m.d.sync += turn.eq(Mux(last_turn, 0, turn + 1))
        with m.If(last_turn):
            m.d.sync += sent.eq(Mux(inner.down == 0, 0, sent + 1))
    its_turn: dict[str, Value] = {}
    beats = list(product(range(len(read)), range(k.parts), range(k.words)))
    for n, name in enumerate(("reader", "part", "word")):
        its_turn[name] = looked_up(m, turn, [of_beat[n] for of_beat in beats], f"{name}_now")
        aids.holds(name, getattr(inner, name) == its_turn[name])
    ends_here = inner.issue & last_turn & (inner.down == 0)
    m.d.comb += released.eq(ends_here & (inner.page == at))
    aids.holds("sent", sent == Mux(inner.busy, inner.up, 0))
    along = its([Cat(wanted == order for wanted in read) for order in written])
    here = watched & whole & inner.busy & (inner.page == at)
    wanted = here & (sent == Mux(along.bit_select(its_turn["reader"], 1), place, behind))
    check.follows("last", here, (inner.down == 0) == (sent == place + behind))

    # Whole sequences of the watched writer, and those that are read before the watched step's.
    held, older = Signal(range(3), name="held"), Signal(range(3), name="older")
    m.d.sync += held.eq(held + (ends & beat.last) - ends_here)
    with m.If(picks):
        m.d.sync += older.eq(held - ends_here)
    with m.Elif(ends_here & (older != 0)):
        m.d.sync += older.eq(older - 1)
    aids.holds("held", held == sum((each.bit_select(writer, 1) for each in inner.done), Const(0)))
    aids.follows("older", watched, older == (inner.page != at))
    check.follows("in_turn", here, older == 0)
    check.follows("of_a_sequence", inner.issue, held != 0)

    passage(m, check, inside, dut.o, inner.issue, k.memory + k.merging, {
        "count": Mux(its_turn["word"] == k.words - 1, k.counts[k.words - 1], lanes),
        "last": inner.down == 0, "stream": its_turn["reader"],
    }, {lane: (wanted & (its_turn["part"] == writer)
               & (its_turn["word"] * lanes + lane == column), code)
        for lane in range(lanes)}, room=inner.room)
    return m


SEQUENCES = (
    ("sequence.order", "to a layer that reads from the end", (True,), (False,)),
    ("sequence.order_to_both", "to both directions", (False, True), (False,)),
    ("sequence.order_between", "from both directions, side by side, to both", (False, True),
     (False, True)),
)

PASSAGES: tuple[tuple[str, Callable[[], Module], int, str, tuple[Fault, ...]], ...] = (
    ("outlet.passage", outlet, 5, "each word that is read comes out once, in order, with its "
     "marks and its codes",
     (Fault(module="hdl.outlet", old="marks = delayed(m, marks, k.to_queue)",
            new="marks = delayed(m, marks, k.to_queue - 1)", depth=30),
      Fault(module="hdl.outlet", old="k.to_queue, reset=True)", new="k.to_queue)", depth=10))),
    *((f"dense.passage{suffix}", partial(dense, pipeline), depth, "a product for each pass that "
       f"is read comes out once, in order, with its marks ({which})",
       (Fault(module="hdl.dense",
              old="travelling, k.memory + array.latency + k.output_latency)",
              new="travelling, k.memory + array.latency + k.output_latency - 1)", depth=30),))
      for suffix, which, pipeline, depth in (
          ("", "short", SHORT, 12), ("_fast", "all registers", FAST, 16))),
    ("reader.passage", partial(reader, 2), 6, "each element that is read comes out once, in "
     "order, with its marks and its code",
     (Fault(module="hdl.states", old="begun = delayed(m, sequencer.word >= first, self._wait)",
            new="begun = delayed(m, sequencer.word >= first, self._wait - 1)", depth=30),
      Fault(module="hdl.states", old="delayed(m, sequencer.issue, self._wait, reset=True)",
            new="delayed(m, sequencer.issue, self._wait)", depth=10))),
)

PROOFS = (
    *(Proof(name=name, bench=bench, depth=depth, quick=bench is outlet, wild="dut", reset=True,
            claim=claim, faults=faults)
      for name, bench, depth, claim, faults in PASSAGES),
    *(Proof(name=name, bench=partial(sequence, read, written), depth=4,
            wild="dut", reset=True,
            claim="each step of a sequence comes out once for each reader, as it came, at its "
                  f"place in the order that it wants; sequences stay in order ({what})",
            faults=[Fault(module="hdl.sequence", old="Mux(along, up, down)",
                          new="Mux(along, down, up)", depth=20),
                    Fault(module="hdl.sequence", old="[step.eq(0), half.eq(~half)]",
                          new="half.eq(~half)", depth=20)][:1 if len(written) > 1 else None])
      for name, what, read, written in SEQUENCES),
)
