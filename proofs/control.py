"""What always holds of a part's control: of its pages, of its sequencer, and of its queue.

These are invariants, with which an induction starts only from states that there can be.
"""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib.fifo import SyncFIFOBuffered

from hdl.buffer import StepBuffer, of_stream
from hdl.column_cycles import PAGES
from hdl.mac import Sequencer
from hdl.sequence import SequenceBuffer
from proofs.engines import Checks, register
from proofs.rules import opened

__all__ = ["Gathering", "counted", "entering", "held", "queued"]

def held(m: Module, check: Checks, buffer: StepBuffer, number: Value, beats: int) -> None:
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
        check.holds("written", register(columns, "$signal") == number)
        check.holds("final", register(columns, "final") == (number == beats - 1))
    for n in range(len(buffer.ready)):
        ready, behind = buffer.ready[n], register(control, f"behind{n}")
        check.follows(f"behind{n}", behind, ready)
        # A page is given back to the writer a cycle late.
        known = Signal(range(PAGES + 2), name=f"known{n}")
        m.d.comb += known.eq(Const(0, 1) + ready + behind + register(control, f"freed{n}"))
        check.holds(f"known{n}", known <= PAGES)
        check.holds(f"writable{n}", register(control, "$signal")[n] == (known < PAGES))
        check.holds(f"used{n}", register(control, f"used{n}") == (known > 0))


def counted(m: Module, check: Checks, sequencer: Sequencer, ready: Value | None = None,
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
        check.holds(f"{name}_{what}", condition)
    check.follows(f"{name}_stays", word != 0, sequencer.stream == amid)
    if ready is not None:
        check.follows(f"{name}_amid", word != 0, of_stream(ready, amid))
        check.follows(f"{name}_reads", sequencer.issue, of_stream(ready, sequencer.stream))
    check.holds(f"{name}_ended", sequencer.ended == Mux(sequencer.issue & final,
                                                1 << sequencer.stream, 0))
    return word, final


def queued(m: Module, check: Checks, inside: Any, issue: Value, cycles: int,
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
    issued, under_way = entering(m, check, queue, issue, cycles)
    free = register(inside, "room") if room is None else room
    check.holds("places", free + under_way == queue.depth)
    return issued, under_way


def entering(m: Module, check: Checks, queue: SyncFIFOBuffered, issue: Value, cycles: int,
             name: str = "queue") -> tuple[list[Value], Value]:
    """What comes to a queue so many cycles after it was issued; the same is returned."""
    stored = register(opened(queue), "inner_level")
    check.holds(f"{name}_level", (stored < queue.depth) & (queue.level == stored + queue.r_rdy))
    check.follows(f"{name}_offers", ~queue.r_rdy, stored <= 1)
    issued: list[Value] = [issue]
    under_way: Value = queue.level
    for n in range(1, cycles + 1):
        issued.append(Signal(name=f"{name}_issued{n}"))
        m.d.sync += issued[n].eq(issued[n - 1])
        under_way = under_way + issued[n]
    check.holds(f"{name}_enters", queue.w_en == issued[cycles])
    check.follows(f"{name}_has_a_place", queue.w_en, queue.w_rdy)
    return issued, under_way


class Gathering:
    """The sequences in a buffer of them.

    Parameters
    ----------
    check : Checks
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

    def __init__(self, check: Checks, buffer: SequenceBuffer, inside: Module, number: Value,
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
            check.holds(f"written{n}", register(columns, "$signal") == mine)
            check.holds(f"final{n}", register(columns, "final") == (mine == beats - 1))
            check.holds(f"step{n}", self.places[n] < longest)
            first, second = (Mux(self.page ^ other, self.done[1][n], self.done[0][n])
                             for other in (0, 1))
            check.follows(f"done{n}", second, first)
            check.holds(f"half{n}", self.halves[n] == (self.page ^ (first & ~second)))
            complete.append(first + second)
        if writers > 1:
            # The first one is at most one step ahead.
            (turn, last), (one, other) = turns, self.places
            check.holds("ahead", complete[0] == complete[1] + ((turn == 1) & last))
            check.holds("places", Mux(turn == 0, one == other, Mux(
                last, (one == 0) & (other == Mux(self.halves[1], *reversed(self.lengths))),
                (one == other + 1)
                | (one == longest - 1) & (other == longest - 1))))

        check.holds("reads", (self.reader < len(k.read)) & (self.part < k.parts)
                    & (self.word < k.words))
        check.follows("busy", self.busy, Mux(self.page, *reversed(self.whole)))
        check.follows("idle", ~self.busy, (self.reader == 0) & (self.part == 0) & (self.word == 0))
        check.follows("length", self.busy, (self.up < longest) & (
            self.up + self.down == Mux(self.page, *reversed(self.lengths))))
        for half, length in enumerate(self.lengths):
            check.holds(f"length{half}", length < longest)
