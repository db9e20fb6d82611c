"""What always holds of a part's control: of its pages, of its sequencer, and of its queue.

These are invariants, with which an induction starts only from states that there can be.
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib.fifo import SyncFIFOBuffered

from hdl.buffer import StepBuffer, of_stream
from hdl.column_cycles import PAGES
from hdl.mac import Sequencer
from hdl.sequence import SequenceBuffer
from hdl.softmax import SoftmaxEngine
from hdl.vector_cycles import INPUT_PAGES
from proofs.checks import Checks
from proofs.engines import register
from proofs.rules import opened

__all__ = ["Gathering", "Stages", "counted", "entering", "held", "queued", "since", "waiting"]


def held(m: Module, aids: Checks, buffer: StepBuffer, number: Value, beats: int) -> None:
    """The pages of a buffer.

    Parameters
    ----------
    buffer : StepBuffer
        Whose pages are free a cycle late.
    number : Value
        Which beat of a step is the next.
    beats : int
        Of a step.
    """
    control = opened(buffer)
    columns = opened(control.submodules.columns)
    if beats > 1:
        aids.holds("written", register(columns, "$signal") == number)
        aids.holds("final", register(columns, "final") == (number == beats - 1))
    for n in range(len(buffer.ready)):
        ready, behind = buffer.ready[n], register(control, f"behind{n}")
        aids.follows(f"behind{n}", behind, ready)
        # A page is given back to the writer a cycle late.
        known = Signal(range(PAGES + 2), name=f"known{n}")
        m.d.comb += known.eq(Const(0, 1) + ready + behind + register(control, f"freed{n}"))
        aids.holds(f"known{n}", known <= PAGES)
        aids.holds(f"writable{n}", register(control, "$signal")[n] == (known < PAGES))
        aids.holds(f"used{n}", register(control, f"used{n}") == (known > 0))


def counted(m: Module, aids: Checks, sequencer: Sequencer, ready: Value | None = None,
            name: str = "sequencer") -> tuple[Signal, Value]:
    """The word that is next, and whether it is a step's last: all in turn, of one stream.

    Parameters
    ----------
    ready : Value, optional
        For each stream, whether there is a step, where that is so until its last word.
    """
    within, words = opened(sequencer), sequencer._words * sequencer._passes
    word = Signal(range(words), name=f"{name}_next")
    final = word == words - 1
    with m.If(sequencer.issue):
        m.d.sync += word.eq(Mux(final, 0, word + 1))
    whose = register(within, "present") if sequencer._streams > 1 else sequencer.stream
    amid = Signal.like(sequencer.stream, name="stream_of_step")
    with m.If(sequencer.issue):
        m.d.sync += amid.eq(sequencer.stream)
    for what, condition in {
            "word": (word < words) & (sequencer.address == word)
            & (sequencer.word == word % sequencer._words),
            "pass": register(within, "a_pass") == word // sequencer._words,
            "begin": register(within, "begin") == (word == 0),
            "last": sequencer.last == (word % sequencer._words == sequencer._words - 1),
            "in_last": register(within, "in_last") == (
                word // sequencer._words == sequencer._passes - 1),
            "first_pass": sequencer.first_pass == (word < sequencer._words),
            "end": sequencer.end == final,
            "stream": sequencer.stream < sequencer._streams,
            "present": whose < sequencer._streams}.items():
        aids.holds(f"{name}_{what}", condition)
    aids.follows(f"{name}_stays", word != 0, sequencer.stream == amid)
    if ready is not None:
        aids.follows(f"{name}_amid", word != 0, of_stream(ready, amid))
        aids.follows(f"{name}_reads", sequencer.issue, of_stream(ready, sequencer.stream))
    aids.holds(f"{name}_ended", sequencer.ended == Mux(sequencer.issue & final,
                                               1 << sequencer.stream, 0))
    return word, final


def queued(m: Module, aids: Checks, inside: Any, issue: Value, cycles: int,
           room: Value | None = None) -> tuple[list[Value], Value]:
    """The places of a queue: one is taken with what is issued, long before that comes.

    Parameters
    ----------
    inside : Module
        Of a part, with ``queue``.
    issue : Value
        Something is issued.
    cycles : int
        From there to the queue.
    room : Value, optional
        Places that are free; by default the part's register of this name.

    Returns
    -------
    issued : list of Value
        Whether something was, so many cycles ago.
    under_way : Value
        How much of it has not been taken out of the queue.
    """
    queue = inside.submodules.queue
    issued, under_way = entering(m, aids, queue, issue, cycles)
    free = register(inside, "room") if room is None else room
    aids.holds("places", free + under_way == queue.depth)
    return issued, under_way


def entering(m: Module, aids: Checks, queue: SyncFIFOBuffered, issue: Value, cycles: int,
             name: str = "queue") -> tuple[list[Value], Value]:
    """What comes to a queue so many cycles after it was issued; the same is returned."""
    stored = register(opened(queue), "inner_level")
    aids.holds(f"{name}_level", (stored < queue.depth) & (queue.level == stored + queue.r_rdy))
    aids.follows(f"{name}_offers", ~queue.r_rdy, stored <= 1)
    issued: list[Value] = [issue]
    under_way: Value = queue.level
    for n in range(1, cycles + 1):
        issued.append(Signal(name=f"{name}_issued{n}"))
        m.d.sync += issued[n].eq(issued[n - 1])
        under_way = under_way + issued[n]
    aids.holds(f"{name}_enters", queue.w_en == issued[cycles])
    aids.follows(f"{name}_has_a_place", queue.w_en, queue.w_rdy)
    return issued, under_way


def entry(m: Module, aids: Checks, queue: SyncFIFOBuffered, number: Value, name: str = "queue"
          ) -> Value:
    """What stands in a queue, by its number from the front."""
    control, depth = opened(queue), queue.depth - 1
    stored, consume, produce = (
        register(control, each) for each in ("inner_level", "consume", "produce"))
    end, place = consume + stored, consume + number - queue.r_rdy
    aids.holds(f"{name}_order", (consume < depth) & (produce < depth) & (
        produce == Mux(end >= depth, end - depth, end)))
    peek = control.submodules.storage.read_port(domain="comb")
    m.d.comb += peek.addr.eq(Mux(place >= depth, place - depth, place))
    return Mux(queue.r_rdy & (number == 0), queue.r_data, peek.data)


def since(m: Module, begins: Value, anew: Value, most: int, name: str) -> Signal:
    """Cycles since something was, at most so many; 0 before it, and from ``anew`` on."""
    age = Signal(range(most + 1), name=name)
    with m.If(begins):
        m.d.sync += age.eq(1)
    with m.Elif(anew):
        m.d.sync += age.eq(0)
    with m.Elif((age != 0) & (age != most)):
        m.d.sync += age.eq(age + 1)
    return age


def waiting(m: Module, aids: Checks, queue: SyncFIFOBuffered, issued: list[Value], here: Value,
            age: Value, ahead: Value, right: Callable[[Value], Value], name: str = "queue") -> None:
    """Something that was issued comes to a queue, and waits there.

    Parameters
    ----------
    issued : list of Value
        As of :func:`entering`.
    here : Value
        It has not come out; nor been issued where ``age`` is 0.
    age : Value
        Cycles since then, at most as many as ``issued`` has.
    ahead : Value
        Of what has been issued and not come out, so much is before it.
    right : function
        Whether a word of the queue is what it has to be.
    """
    for n in range(1, len(issued)):
        before: Value = queue.level
        for each in issued[n + 1:]:
            before = before + each
        aids.follows(f"{name}_ahead{n}", here & (age == n), issued[n] & (ahead == before))
    arrived = here & (age == len(issued))
    aids.follows(f"{name}_age", here, age <= len(issued))
    aids.follows(f"{name}_enters_right", here & (age == len(issued) - 1), right(queue.w_data))
    aids.follows(f"{name}_waits", arrived, ahead < queue.level)
    aids.follows(f"{name}_lies", arrived, right(entry(m, aids, queue, ahead, name)))


class Stages:
    """The steps in a softmax.

    Parameters
    ----------
    m : Module
    aids : Checks
    dut : SoftmaxEngine
    inside : Module
        Of it.
    number : Value
        Which beat of a step is the next.
    division : Module
        The inside of its reciprocal.

    Attributes
    ----------
    tops, sums : list of Value
        Whether a step came for this queue so many cycles ago.
    codes, powers : Value
        Steps whose codes are kept, and those behind them that wait for their division.
    read, made : Value
        The power and the product that is the next of its step.
    busy, left, done : Value
        Of the division.
    """

    def __init__(self, m: Module, aids: Checks, dut: SoftmaxEngine, inside: Module, number: Value,
                 division: Module):
        k, of, beats = dut.cycles, inside.submodules, len(dut._counts)
        within = opened(of.codes)
        aids.holds("number_codes", (register(within, "final") == (number == beats - 1))
                   & (register(within, "$signal") == number))
        self.tops, self.codes = entering(m, aids, of.tops, of.codes.filled, k.levels + 1, "tops")
        aids.holds("pages_of_codes", register(inside, "pages_of_codes") + self.codes == INPUT_PAGES)
        self.read, _ = counted(m, aids, of.reader, name="reader")
        aids.follows("reading", self.read != 0, of.reader.ready)
        self.sums, self.powers = entering(m, aids, of.sums, of.reader.ended[0], k.power + 1, "sums")
        self.busy, self.left = register(division, "$signal"), register(division, "left")
        self.done = of.reciprocal.done
        self.made, _ = counted(m, aids, of.products, name="products")
        aids.holds("division", ~(self.busy & self.done) & (self.left < k.unit.scale + 2))
        aids.holds("pages_of_powers", register(inside, "pages_of_powers") + self.powers
                   + self.divided == k.pages)

    @property
    def divided(self) -> Value:
        """Steps behind those."""
        return (self.busy | self.done) + (self.made != 0)


class Gathering:
    """The sequences in a buffer of them.

    Parameters
    ----------
    aids : Checks
    buffer : SequenceBuffer
    inside : Module
        Of it.
    number : Value
        Which beat of a step is the next.
    turns : tuple of Value
        Whose step is next, and whether that before it was its sequence's last, of writers that
        take turns.

    Attributes
    ----------
    halves, places : list of Value
        Of each writer, where its next step goes: which half of the pages, and which step of it.
    done, whole : list of Value
        Of each half, which writers' sequence is complete, and whether all are.
    lengths : list of Value
        Steps but for one.
    busy, page, up, down, reader, part, word : Value
        What is being read.
    issue : Value
        A word of it is.
    room : Value
        Places of the queue that are free.
    """

    def __init__(self, aids: Checks, buffer: SequenceBuffer, inside: Module, number: Value,
                 turns: tuple[Value, Value]):
        k, beats = buffer.cycles, len(buffer._counts)
        writers, longest, whose = len(k.written), k.longest, buffer.i.payload.stream
        # Those without a name, in the order in which they come to be driven.
        self.busy, self.up, self.room = (register(inside, "$signal", n) for n in range(3))
        self.page, self.down = register(inside, "page"), register(inside, "down")
        self.reader, self.part, self.word = (register(inside, name)
                                             for name in ("reader", "part", "word"))
        self.done, self.lengths = ([register(inside, f"{name}{half}") for half in range(2)]
                                   for name in ("done", "length"))
        self.halves, self.places = ([register(inside, f"{name}{n}") for n in range(writers)]
                                    for name in ("half", "step"))
        self.whole = [each.all() for each in self.done]
        self.issue = self.busy & (self.room != 0)

        # Of each writer, the sequences that are complete, the one that is read first.
        complete = []
        for n in range(writers):
            columns = opened(getattr(inside.submodules, f"columns{n}"))
            mine = Mux(whose == n, number, 0) if writers > 1 else number
            aids.holds(f"written{n}", register(columns, "$signal") == mine)
            aids.holds(f"final{n}", register(columns, "final") == (mine == beats - 1))
            aids.holds(f"step{n}", self.places[n] < longest)
            first, second = (Mux(self.page ^ other, self.done[1][n], self.done[0][n])
                             for other in (0, 1))
            aids.follows(f"done{n}", second, first)
            aids.holds(f"half{n}", self.halves[n] == (self.page ^ (first & ~second)))
            complete.append(first + second)
        if writers > 1:
            # The first one is at most one step ahead.
            (turn, last), (one, other) = turns, self.places
            aids.holds("ahead", complete[0] == complete[1] + ((turn == 1) & last))
            aids.holds("places", Mux(turn == 0, one == other, Mux(
                last, (one == 0) & (other == Mux(self.halves[1], *reversed(self.lengths))),
                (one == other + 1)
                | (one == longest - 1) & (other == longest - 1))))

        aids.holds("reads", (self.reader < len(k.read)) & (self.part < k.parts)
                   & (self.word < k.words))
        aids.follows("busy", self.busy, Mux(self.page, *reversed(self.whole)))
        aids.follows("idle", ~self.busy, (self.reader == 0) & (self.part == 0) & (self.word == 0))
        aids.follows("length", self.busy, (self.up < longest) & (
            self.up + self.down == Mux(self.page, *reversed(self.lengths))))
        for half, length in enumerate(self.lengths):
            aids.holds(f"length{half}", length < longest)
