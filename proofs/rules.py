"""Rules that a stream obeys, as assertions, and what an input may do."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Assume, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import Flow

__all__ = ["anything", "beats_of", "follow", "named", "opened", "stable",
           "take_turns"]


def anything(m: Module, component: wiring.Component, *but: str) -> None:
    """Let each input be anything in each cycle, but those whose names begin so.

    Those inside of streams have names like ``i.payload`` and ``o.ready``.
    """
    for path, member, value in component.signature.flatten(component):
        name = ".".join(map(str, path))
        if member.flow is Flow.In and not name.startswith(but or ("-",)):
            value = Value.cast(value)
            m.d.comb += value.eq(AnySeq(unsigned(len(value))))


def opened(component: Any) -> Module:
    """A component's module, elaborated now and for good, so that its submodules can be reached."""
    inside = component.elaborate(None)
    component.elaborate = lambda platform: inside
    return inside


def named(module: Module, name: str) -> Signal:
    """A signal that a module drives."""
    driven: Iterable[Signal] = module._driving
    return next(signal for signal in driven if signal.name == name)


def stable(m: Module, valid: Value, ready: Value, *payload: Any, name: str,
           assume: bool = False, unless: Value | int = 0) -> None:
    """What is offered stays as it is until it is taken.

    Parameters
    ----------
    assume : bool
        It is so, instead of being proven.
    unless : Value
        An offer may be withdrawn from the cycle on in which this is so.
    """
    waits = Signal(name=f"{name}_waits")
    m.d.sync += waits.eq(valid & ~ready)
    bound = waits & (Value.cast(unless) == 0)
    check = Assume if assume else Assert
    m.d.comb += check(valid | ~bound)
    for n, part in enumerate(payload):
        part = Value.cast(part)
        before = Signal.like(part, name=f"{name}_before{n}")
        m.d.sync += before.eq(part)
        m.d.comb += check((part == before) | ~bound)


def beats_of(m: Module, i: Any, counts: Any, *, stay: Any = ()) -> Signal:
    """Assume that beats come in steps of so many columns each; returns which of the step it is.

    Parameters
    ----------
    i : stream of beats
    counts : sequence of int
        Columns in each beat of a step.
    stay : sequence of str
        Members of the beat that are the same in all of a step.
    """
    number = Signal(range(len(counts)))
    with m.If(i.valid & i.ready):
        m.d.sync += number.eq(Mux(number == len(counts) - 1, 0, number + 1))
    with m.Switch(number):
        for n, count in enumerate(counts):
            with m.Case(n):
                m.d.comb += Assume(i.payload.count == count)
    for name in stay:
        part = i.payload[name]
        before = Signal.like(part, name=f"{name}_of_step")
        with m.If(i.valid & i.ready):
            m.d.sync += before.eq(part)
        with m.If(number != 0):
            m.d.comb += Assume(part == before)
    return number


def take_turns(m: Module, i: Any, number: Value, counts: Sequence[int], streams: int
               ) -> tuple[Signal, Signal]:
    """Assume that streams come step by step in turn, the first one first, and end together.

    It is what an engine of two directions emits.

    Parameters
    ----------
    i : stream of beats
    number : Value
        Which beat of the step it is.
    counts : sequence of int
        Columns in each beat of a step.
    streams : int

    Returns
    -------
    turn : Signal
        Whose step it is.
    last : Signal
        Whether the step of the stream before was the last of its sequence.
    """
    turn, last = Signal(range(streams), name="whose_turn"), Signal(name="last_of_turn")
    with m.If(i.valid & i.ready & (number == len(counts) - 1)):
        m.d.sync += [turn.eq(Mux(turn == streams - 1, 0, turn + 1)), last.eq(i.payload.last)]
    m.d.comb += [Assume(i.payload.stream == turn),
                 Assume((turn == 0) | (i.payload.last == last))]
    return turn, last


def follow(m: Module, i: Any, o: Any, counts: Sequence[int], given: Sequence[int],
           results: np.ndarray, *, steps: int, apart: bool) -> None:
    """Whatever comes before and behind it, a step's outputs are what they have to be, in order.

    Some step is marked, and its codes are kept. Steps that are under way when it begins come out
    before it; then its own outputs come, neither more nor less.

    Parameters
    ----------
    i, o : streams of beats
    counts : sequence of int
        Columns in each beat of a step that comes in.
    given : sequence of int
        Outputs in each beat of a step that goes out.
    results : int array [outputs, codes]
        Those of every step that there can be: for the codes as one number, the first one lowest.
    steps : int
        At most so many of a stream are under way.
    apart : bool
        Whether one stream may overtake another. Else all steps stay in order.
    """
    number = beats_of(m, i, counts, stay=("last", "stream"))
    whose = Signal.like(i.payload.stream, name="whose")
    m.d.comb += whose.eq(AnyConst(whose.shape()))
    into = i.valid & i.ready & ((i.payload.stream == whose) | (not apart))
    out = o.valid & o.ready & ((o.payload.stream == whose) | (not apart))
    turn = Signal(range(len(given)), name="turn")
    last_turn = turn == len(given) - 1
    with m.If(out):
        m.d.sync += turn.eq(Mux(last_turn, 0, turn + 1))

    begins, over = into & (number == 0), out & last_turn
    flying = Signal(range(steps + 1), name="flying")
    m.d.sync += flying.eq(flying + begins - over)
    m.d.comb += [Assert((flying != 0) | ~out), Assert((flying != steps) | ~begins)]

    marked, coming, ahead = Signal(), Signal(), Signal.like(flying, name="ahead")
    last, stream = Signal(), Signal.like(i.payload.stream, name="kept_stream")
    codes = [Signal(len(i.payload.data[0]), name=f"code{n}") for n in range(sum(counts))]
    mark = begins & ~marked & AnySeq(1)
    with m.If(mark):
        m.d.sync += [marked.eq(1), ahead.eq(flying - over), last.eq(i.payload.last),
                     stream.eq(i.payload.stream)]
    with m.If(into & (coming | mark)):
        m.d.sync += coming.eq(number != len(counts) - 1)
        with m.Switch(number):
            for n, count in enumerate(counts):
                with m.Case(n):
                    m.d.sync += [codes[sum(counts[:n]) + lane].eq(i.payload.data[lane])
                                 for lane in range(count)]
    with m.If(marked & out):
        with m.If(ahead != 0):
            m.d.sync += ahead.eq(ahead - last_turn)
        with m.Else():
            m.d.sync += marked.eq(~last_turn)
            m.d.comb += [Assert(~coming), Assert(o.payload.last == (last & last_turn)),
                         Assert(o.payload.stream == stream)]
            with m.Switch(turn):
                for n, count in enumerate(given):
                    with m.Case(n):
                        m.d.comb += Assert(o.payload.count == count)
                        for lane in range(count):
                            wanted = Array(results[sum(given[:n]) + lane].tolist())[Cat(codes)]
                            m.d.comb += Assert(o.payload.data[lane] == wanted)
