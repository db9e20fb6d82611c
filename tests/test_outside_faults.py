"""What a source, a sink or a reset may do wrong, and what has to come of it: each is tried.

The table in ``docs/verification.md`` is that of `FAULTS`. Whatever happened, the next sequence is
right, and nothing hangs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.quantized_network import QuantizedNetwork
from hdl.network import Network
from hdl.pipeline import FAST, SHORT
from tests.networks import FORMATS, folded, random_sequences
from tests.streams import Exchange, run_network
from tests.test_bidirectional import turning_network
from tests.test_states import (
    Piece,
    Pieces,
    check,
    feed,
    made,
    outputs,
    packet,
    random_pieces,
    random_state,
)

LIMIT = 6000
"""Cycles in which all must have come out, whatever stood still for how long."""

LONG = 400
"""Cycles for which something stands still."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One try.

    Parameters
    ----------
    dut : Network
    beats : list
        As of :func:`tests.streams.run_network`.
    pieces : sequence of sequence of Piece
        The sequences that golden sees in them, those of each stream.
    right : int
        Output vectors that come before anything is wrong.
    useless : int
        Output vectors that then come and are not to be used; states are not looked at then.
    settings : dict
        Of the run.
    """

    dut: Network
    beats: list[Any]
    pieces: Pieces
    right: int = 0
    useless: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """A row of the table: what is wrong, what comes of it, whether that is reported, its tries."""

    fault: str
    expected: str
    malformed: bool
    cases: Callable[[], Iterator[Case]]


FAULTS: list[Fault] = []


def row(fault: str, expected: str, *, malformed: bool = False
        ) -> Callable[[Callable[[], Iterator[Case]]], Callable[[], Iterator[Case]]]:
    def keep(cases: Callable[[], Iterator[Case]]) -> Callable[[], Iterator[Case]]:
        FAULTS.append(Fault(fault, expected, malformed, cases))
        return cases
    return keep


def drained(dut: Network) -> int:
    """A pause in which all that is on its way comes out."""
    return 2 * dut.whole_latency + dut.step + 10


def turning(way: str = "concat", *, longest: int = 5, **options: Any
            ) -> tuple[np.random.Generator, QuantizedNetwork, Network]:
    """A small network whose layer reads from the end."""
    rng = np.random.default_rng(5)
    network = turning_network(rng, FORMATS["8 bits"], 3, ((way, 2),), **options)
    return rng, network, Network(network, foldings=folded(network, 1, 1), longest=longest)


def cut(dut: Network, x: np.ndarray, beat: int, stream: int = 0) -> tuple[list[Any], Piece]:
    """TLAST on this beat of the last step, with TUSER, and what golden sees of it."""
    beats: list[Any] = feed(dut, [*[[]] * stream, [Piece(x)]])
    per_step = len(beats) // len(x)
    ended = len(beats) - per_step + beat
    short = x.copy()
    short[-1, (beat + 1) * dut.in_lanes:] = 0
    return [*beats[:ended], (beats[ended][0], True, stream, 1)], Piece(short)


def cuts(rng: np.random.Generator, dut: Network, stream: int = 0, *, keep: bool = False
         ) -> tuple[list[list[Any]], list[Piece]]:
    """Sequences of one and two steps, cut short at every beat, and whole ones behind them."""
    beats: list[list[Any]] = []
    pieces = []
    for steps in (1, 2):
        for beat in range(-(-dut.network.inputs // dut.in_lanes) - 1):
            broken, piece = cut(dut, random_sequences(rng, dut.network, steps)[0], beat, stream)
            whole = Piece(random_sequences(rng, dut.network, 2)[0], keep)
            beats += [broken, feed(dut, [*[[]] * stream, [whole]])]
            pieces += [piece, whole]
    return beats, pieces


@row("TLAST on any beat of a step but the last",
     "what is missing of the step counts as 0, and the sequence ends with it", malformed=True)
def early() -> Iterator[Case]:
    for every_step in (True, False):
        rng, network, dut = made(7, 3, (2,), columns=1, every_step=every_step)
        first = [Piece(x) for x in random_sequences(rng, network, 2)]
        beats, pieces = cuts(rng, dut)
        yield Case(dut=dut, pieces=[[*first, *pieces]], right=outputs(network, [first]),
                   beats=[*feed(dut, [first]), drained(dut), *chain(*beats)])
    rng, network, dut = turning()
    beats, pieces = cuts(rng, dut)
    yield Case(dut=dut, pieces=[pieces], beats=list(chain(*beats)))


@row("the same in one of several streams", "the same; the other streams do not notice",
     malformed=True)
def early_in_a_stream() -> Iterator[Case]:
    rng, network, dut = made(7, 3, (2,), streams=3, columns=1)
    broken, pieces = cuts(rng, dut, 1)
    others = [[Piece(x) for x in random_sequences(rng, network, 4, 3, 1)] for _ in range(2)]
    all_pieces = [others[0], pieces, others[1]]
    steps = [feed(dut, [others[0], [], others[1]])[n:n + 3] for n in range(0, 3 * 16, 3)]
    beats: list[Any] = []
    for number in range(max(len(broken), len(steps))):
        beats += [*chain(*broken[number:number + 1]), *chain(*steps[number:number + 1])]
    yield Case(dut=dut, pieces=all_pieces, beats=beats)


@row("the same with TUSER, which asks to keep the state", "the same; nothing is kept",
     malformed=True)
def early_and_kept() -> Iterator[Case]:
    rng, _, dut = made(7, 3, (3,), columns=1, stateful=True)
    beats, pieces = cuts(rng, dut, keep=True)
    # A whole one keeps its state, so what is cut short goes on from it.
    yield Case(dut=dut, pieces=[pieces], beats=list(chain(*beats)))


@row("TLAST some steps late", "the core knows no better: one longer sequence")
def late() -> Iterator[Case]:
    for every_step in (True, False):
        rng, network, dut = made(8, 2, (3,), every_step=every_step)
        pieces = [[Piece(x) for x in random_sequences(rng, network, 2 + 3, 2)]]
        yield Case(dut=dut, pieces=pieces, beats=feed(dut, pieces))


@row("TLAST never", "the sequence goes on, for as long as it takes, until a TLAST or a reset")
def never() -> Iterator[Case]:
    for every_step in (True, False):
        rng, network, dut = made(9, 2, (3,), every_step=every_step)
        pieces = [[Piece(x) for x in random_sequences(rng, network, 4, 2)]]
        beats = feed(dut, pieces)
        beats.insert(len(beats) // 3, LONG)
        yield Case(dut=dut, pieces=pieces, beats=beats)
        # As from the start, and once more with what is left behind by a sequence without an end.
        yield Case(dut=dut, pieces=pieces, beats=beats,
                   settings={"before": [*feed(dut, pieces)[:3], LONG]})
    rng, network, dut = turning()
    pieces = [[Piece(x) for x in random_sequences(rng, network, 4, 2)]]
    yield Case(dut=dut, pieces=pieces, beats=feed(dut, pieces),
               settings={"before": [*feed(dut, pieces)[:3 * 3], LONG]})


@row("TVALID low for long, within a step, between steps and between sequences",
     "the core waits, and nothing changes")
def no_input() -> Iterator[Case]:
    rng, network, dut = made(10, 3, (3,), columns=1, streams=2)
    pieces = [[Piece(x) for x in random_sequences(rng, network, 3, 1)] for _ in range(2)]
    beats = feed(dut, pieces)
    for at in (18, 6, 4, 1):
        beats.insert(at, LONG)
    yield Case(dut=dut, pieces=pieces, beats=beats)
    rng, network, dut = turning(every_step=False)
    pieces = [[Piece(x) for x in random_sequences(rng, network, 3, 1)]]
    beats = feed(dut, pieces)
    for at in (9, 4):
        beats.insert(at, LONG)
    yield Case(dut=dut, pieces=pieces, beats=beats)


@row("TREADY low for long", "the core stops taking input, and loses nothing")
def no_output() -> Iterator[Case]:
    for every_step in (True, False):
        rng, network, dut = made(11, 2, (3,), streams=2, every_step=every_step)
        pieces = [[Piece(x) for x in random_sequences(rng, network, 3, 1, 1, 2)] for _ in range(2)]
        yield Case(dut=dut, pieces=pieces, beats=feed(dut, pieces), settings={"hold": LONG})
    rng, network, dut = turning()
    pieces = [[Piece(x) for x in random_sequences(rng, network, 3, 1, 5, 2)]]
    yield Case(dut=dut, pieces=pieces, beats=feed(dut, pieces), settings={"hold": LONG})


@row("TREADY of final states low for long", "the core stops taking input, and loses nothing")
def no_states() -> Iterator[Case]:
    rng, network, dut = made(12, 2, (3,), streams=2, states=("lstm0.c", "lstm0.h"))
    pieces = [[Piece(x) for x in random_sequences(rng, network, 1, 2, 1, 1)] for _ in range(2)]
    yield Case(dut=dut, pieces=pieces, beats=feed(dut, pieces), settings={"hold_states": LONG})


@row("TID changed within a step, to another stream or to none", "that of the first beat holds",
     malformed=True)
def another_stream() -> Iterator[Case]:
    rng, network, dut = made(4, 3, (2,), streams=3, columns=1)
    pieces = [[Piece(x) for x in random_sequences(rng, network, 4)] for _ in range(3)]
    beats = feed(dut, pieces)
    for step, place, other in ((4, 1, 0), (5, 2, 3), (7, 2, 2), (9, 1, 3)):
        beats[3 * step + place] = (*beats[3 * step + place][:2], other, 0)
    yield Case(dut=dut, pieces=pieces, beats=beats)


@row("TID of no stream", "the step is dropped, whatever its later beats say", malformed=True)
def no_stream() -> Iterator[Case]:
    for streams, strangers in ((3, (3,)), (5, (5, 7))):
        rng, network, dut = made(5, 3, (2,), streams=streams, columns=1)
        pieces = [[Piece(x) for x in random_sequences(rng, network, 3)] for _ in range(streams)]
        beats = feed(dut, pieces)
        steps = [beats[at:at + 3] for at in range(0, len(beats), 3)]
        # A whole step, cut short after one and after two beats, and one that goes over to streams
        # that there are; each between two others.
        strange = [step for other in strangers for step in (
            [(1, False, other), (2, False, other), (3, True, other)], [(4, True, other)],
            [(5, False, other), (6, True, other)], [(7, False, other), (8, False, 1), (9, False, 2)]
        )]
        yield Case(dut=dut, pieces=pieces, beats=list(chain(
            *chain(*zip(steps, strange, strict=False)), *steps[len(strange):])))


def with_packet(wrong: list[Any], rng: np.random.Generator, network: QuantizedNetwork,
                dut: Network, *, anew: bool = True) -> Case:
    """A packet for stream 1 between sequences that keep their states."""
    pieces = [[Piece(x, True) for x in random_sequences(rng, network, 2, 2)] for _ in range(3)]
    beats = feed(dut, pieces)
    beats.insert(6, wrong)
    if anew:
        pieces[1][0] = replace(pieces[1][0], keep=False)
    return Case(dut=dut, pieces=pieces, beats=beats)


@row("a packet of states with too few or too many elements, or whose TID changes",
     "its stream begins anew", malformed=True)
def wrong_packets() -> Iterator[Case]:
    for wrong in ("short", "long", "one element", "tid"):
        rng, network, dut = made(12, 1, (2, 2), streams=3, stateful=True)
        given = packet(dut, random_state(rng, network), 1)
        yield with_packet({
            "short": [*given[:-4], (*given[-4][:1], True, 1)],
            "one element": [(7, True, 1)],
            "long": [*((word, False, tid) for word, _, tid in given), (5, False, 1), (6, True, 1)],
            "tid": [*given[:3], (*given[3][:2], 2), *given[4:]]}[wrong], rng, network, dut)


@row("a packet of states for no stream", "it is dropped", malformed=True)
def stranger_packet() -> Iterator[Case]:
    rng, network, dut = made(12, 1, (2, 2), streams=3, stateful=True)
    given = packet(dut, random_state(rng, network), 1)
    yield with_packet([(word, last, 3) for word, last, _ in given], rng, network, dut, anew=False)


@row("a packet of states that stops amid, and goes on after long", "steps wait for its end")
def slow_packet() -> Iterator[Case]:
    rng, network, dut = made(13, 1, (3,), stateful=True)
    state = random_state(rng, network)
    pieces = [[Piece(random_sequences(rng, network, 2)[0], True),
               Piece(random_sequences(rng, network, 2)[0], given=state)]]
    beats = feed(dut, pieces)
    at = next(n for n, beat in enumerate(beats) if isinstance(beat, list))
    beats[at:at + 1] = [beats[at][:2], LONG, beats[at][2:]]
    yield Case(dut=dut, pieces=pieces, beats=beats)


@row("a reset within a packet of states", "nothing is set")
def reset_in_a_packet() -> Iterator[Case]:
    for upto in (1, 4, 7):
        rng, network, dut = made(13, 1, (4,), units=3, stateful=True)
        pieces = [random_pieces(rng, network, 3, given=True)]
        yield Case(dut=dut, pieces=pieces, beats=feed(dut, pieces),
                   settings={"before": [packet(dut, random_state(rng, network))[:upto]]})


@row("a sequence of more steps than are buffered",
     "it has the outputs of a sequence that fits, or one; they are of no use", malformed=True)
def too_long() -> Iterator[Case]:
    for way, options in (("concat", {}), ("reverse", {"every_step": False}),
                         ("concat", {"every_step": False, "final": True})):
        rng, network, dut = turning(way, **options)
        sequences = [[Piece(x)] for x in random_sequences(rng, network, 5, 6, 9, 3, 5)]
        each = [outputs(network, [some]) for some in sequences]
        yield Case(dut=dut, pieces=[[*sequences[0], *sequences[3], *sequences[4]]], right=each[0],
                   beats=[*feed(dut, sequences[:1]), drained(dut) + dut.further * 5,
                          *chain(*(feed(dut, [some]) for some in sequences[1:]))],
                   useless=2 * min(5, each[1]))


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.fault for fault in FAULTS])
def test_outside_fault(fault: Fault) -> None:
    for case in fault.cases():
        network, pieces, useless = case.dut.network, case.pieces, case.useless
        words = outputs(network, pieces)
        seen = run_network(case.dut, [], beats=case.beats, outputs=words + useless, quiet=100,
                           limit=LIMIT, packets=sum(map(len, pieces)) if network.states else 0,
                           **case.settings)
        assert bool(seen.malformed) == fault.malformed
        if useless:
            del seen.words[case.right:case.right + useless]
            del seen.streams[case.right:case.right + useless]
            check_outputs(network, pieces, seen)
        else:
            check(network, pieces, seen)
        if case.right:
            assert seen.reported > seen.done[case.right - 1]


def check_outputs(network: QuantizedNetwork, pieces: Pieces, seen: Exchange) -> None:
    assert [vector for vector, _ in seen.words] == [
        step for piece in pieces[0] for y in [network.run(piece.x[None]).y]
        for step in (y[0] if network.every_step else y).tolist()]


RESET = ("a reset in any cycle of a step, and of its way to the output",
         "nothing from before shows, and all flags are low")


@pytest.mark.parametrize("kind", ["forward", *(
    pytest.param(kind, marks=pytest.mark.slow)
    for kind in ("stateful", "fast", "concat", "reverse"))])
def test_reset_in_every_cycle(kind: str) -> None:
    """From the first beat until the last output would have come."""
    if kind in ("concat", "reverse"):
        rng, network, dut = turning(kind)
    else:
        rng, network, dut = made(6, 3, (2,), columns=1, stateful=kind == "stateful",
                                 pipeline=FAST if kind == "fast" else SHORT)
    broken = Piece(random_sequences(rng, network, 2)[0], keep=kind == "stateful")
    # Cut short amid its second step, so that there is a flag to be cleared.
    before = cut(dut, broken.x, 1)[0]
    last = dut.whole_latency + dut.further + 1
    pieces: list[list[Piece]] = []
    beats: list[Any] = []
    for after in range(1, last + 1):
        pieces.append([Piece(x) for x in random_sequences(rng, network, 1, 2)])
        # Its beats take a cycle each; the reset comes so many cycles after the first of them.
        beats += [*before[:after], *([after - len(before)] if after > len(before) else []), None,
                  *feed(dut, pieces[-1:]), dut.whole_latency + 4 * dut.further]
    seen = run_network(dut, [], beats=beats[:-1], outputs=3, quiet=60, limit=60_000)
    assert len(seen.resets) == last
    assert seen.malformed == 0
    for after, (some, first) in enumerate(zip(pieces, seen.resets, strict=True), 1):
        words = [word for word, _ in seen.words[first:first + 3]]
        assert words == [step for piece in some
                         for step in network.run(piece.x[None]).y[0].tolist()], after


def test_the_table_in_the_docs() -> None:
    """Equal to that here."""
    text = (Path(__file__).parents[1] / "docs/verification.md").read_text(encoding="utf-8")
    rows = [(fault.fault, fault.expected, "yes" if fault.malformed else "no") for fault in FAULTS]
    for cells in (*rows, (*RESET, "no")):
        assert f"| {' | '.join(cells)} |\n" in text
