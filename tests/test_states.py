"""States from sequence to sequence: kept, given out, and set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from benchmarks.engine_memories import memory_bits
from fpga.selftest import SelfTest
from fpga.stored import Beat as Word
from fpga.stored import Stored
from golden.calibrate import quantize
from golden.lstm import LSTM
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.quantized_network import QuantizedNetwork
from golden.result import Result, StateCodes
from hdl.foldings import Limits, Shape, lstm_part
from hdl.network import Network
from hdl.pipeline import FAST, SHORT, Pipeline
from hdl.verilog import generate
from tests.networks import FORMATS, folded, random_codes, random_network, random_sequences
from tests.streams import Exchange, pack, run_network

State = tuple[StateCodes, ...]


@dataclass(frozen=True)
class Piece:
    """A sequence of one stream, whether its state is kept, and a state that is set before it."""

    x: np.ndarray
    keep: bool = False
    given: State | None = None


Pieces = Sequence[Sequence[Piece]]
"""Those of each stream."""


def made(seed: int, inputs: int, hidden: tuple[int, ...], *, streams: int = 1, units: int = 2,
         columns: int = 2, every_step: bool = True, pipeline: Pipeline = SHORT,
         **of_network: Any) -> tuple[np.random.Generator, QuantizedNetwork, Network]:
    rng = np.random.default_rng(seed)
    network = replace(
        random_network(rng, FORMATS["8 bits"], inputs, hidden, 2, every_step=every_step, size=0.5),
        **of_network)
    foldings = folded(network, units, columns, pipeline=pipeline, streams=streams)
    return rng, network, Network(network, foldings=foldings, pipeline=pipeline, streams=streams)


def random_state(rng: np.random.Generator, network: QuantizedNetwork, count: int = 1) -> State:
    return tuple(StateCodes(**{tensor: random_codes(
        rng, network.state_format(name), (count, network.state_size(name)))
        for tensor in "hc" for name in [f"lstm{n}.{tensor}"]}) for n in range(len(network.layers)))


def random_pieces(rng: np.random.Generator, network: QuantizedNetwork, count: int, *,
                  given: bool = False) -> list[Piece]:
    return [Piece(random_sequences(rng, network, int(rng.integers(1, 5)))[0],
                  keep=bool(rng.random() < 0.6),
                  given=random_state(rng, network) if given and rng.random() < 0.4 else None)
            for _ in range(count)]


def in_pieces(network: QuantizedNetwork, pieces: Sequence[Piece]) -> list[Result]:
    """Golden, run piece by piece."""
    results: list[Result] = []
    state: State | None = None
    for piece in pieces:
        results.append(network.run(piece.x[None], trace=True, state=piece.given or state))
        state = results[-1].final if piece.keep else None
    return results


def packet(dut: Network, state: State, stream: int = 0) -> list[tuple[int, bool, int]]:
    """The bus beats that set a state."""
    assert dut.loader is not None
    bus = dut.loader.bus
    words = pack(dut.network.state_vector(state, dut.network.known_states)[0], 1, 8 * bus.bytes)
    return [(word, n == len(words) - 1, stream) for n, word in enumerate(words)]


def feed(dut: Network, pieces: Pieces, order: Iterable[int] | None = None) -> list[Any]:
    """The bus beats of pieces step by step, as :func:`tests.streams.interleaved` has them."""
    waiting = [[(step, t == len(piece.x) - 1, piece.keep, None if t else piece.given)
                for piece in some for t, step in enumerate(piece.x)] for some in pieces]
    beats: list[Any] = []
    turns = iter(order) if order is not None else cycle(range(len(pieces)))
    while any(waiting):
        stream = next(turns)
        if waiting[stream]:
            step, last, keep, given = waiting[stream].pop(0)
            if given is not None:
                beats.append(packet(dut, given, stream))
            words = pack(step, dut.in_lanes, 8 * dut.in_bytes)
            # TUSER counts with TLAST only.
            beats += [(word, last and n == len(words) - 1, stream,
                       keep if last and n == len(words) - 1 else n % 2)
                      for n, word in enumerate(words)]
    return beats


def check(network: QuantizedNetwork, pieces: Pieces, seen: Exchange) -> None:
    """Every output vector and state of each stream, or direction, and the flags of all."""
    over = dict.fromkeys(network.saturating, 0)
    for stream, some in enumerate(pieces):
        results = in_pieces(network, some)
        words: list[tuple[list[int], bool]] = []
        for result in results:
            for name, times in result.saturated.items():
                over[name] += times
            steps = result.y[0].tolist() if network.every_step else [result.y[0].tolist()]
            words += [(step, n == len(steps) - 1) for n, step in enumerate(steps)]
        assert seen.of(stream) == words
        of = count()
        for n, layer in enumerate(network.layers):
            for way, each in enumerate(layer.directions):
                at = next(of)
                for tensor in ("c", "h") if each.projection is None else ("c", "m", "h"):
                    # As the direction reads.
                    wanted = [step for result in results if result.layers is not None
                              for step in getattr(result.layers[at], tensor)[0][
                                  ::-1 if each.reverse else 1].tolist()]
                    assert seen.states_of(
                        f"lstm{n}.{tensor}", max(stream, way),
                        each.outputs if tensor == "h" else each.hidden) == wanted
        if network.states:
            assert [packet for whose, packet in seen.packets if whose == stream] == [
                network.state_vector(result.final, network.states)[0].tolist()
                for result in results]
    assert [seen.saturated >> bit & 1 for bit in range(len(over))] == [
        int(times > 0) for times in over.values()]


def run(dut: Network, *, quiet: int = 60, **settings: Any) -> Exchange:
    """Beats through a network, and a while longer."""
    return run_network(dut, [], quiet=quiet, **settings)


def outputs(network: QuantizedNetwork, pieces: Pieces) -> int:
    return sum(len(piece.x) if network.every_step else 1 for some in pieces for piece in some)


# Inputs, hidden units of each layer, units and columns in parallel, pipeline.
SHAPES = {
    "one by one": (1, (3,), 1, 1, SHORT),
    "several beats": (5, (4,), 2, 2, SHORT),
    "all at once": (1, (2,), 2, 3, SHORT),
    "fast": (3, (5,), 2, 3, FAST),
    "fast stack": (2, (3, 5), 2, 2, FAST),
}


def cases(*quick: tuple[str, int, bool]) -> list[Any]:
    """All shapes with one and with three streams, an output at every step and none but stalls."""
    return [pytest.param(name, streams, every_step, 0 if every_step else 0.4,
                         marks=() if (name, streams, every_step) in quick else pytest.mark.slow)
            for name in SHAPES for streams in (1, 3) for every_step in (True, False)]


@pytest.mark.parametrize(("name", "streams", "every_step", "stall"), cases(
    ("several beats", 1, True), ("all at once", 3, False)))
def test_kept(name: str, streams: int, every_step: bool, stall: float) -> None:
    """Hardware in pieces is golden in pieces, whatever the other streams do."""
    inputs, hidden, units, columns, pipeline = SHAPES[name]
    rng, network, dut = made(list(SHAPES).index(name) + 10 * streams, inputs, hidden,
                             streams=streams, units=units, columns=columns, every_step=every_step,
                             pipeline=pipeline, stateful=True)
    pieces = [random_pieces(rng, network, 5) for _ in range(streams)]
    order = iter(lambda: int(rng.integers(streams)), -1)
    seen = run(dut, beats=feed(dut, pieces, order), outputs=outputs(network, pieces),
               stall=stall)
    check(network, pieces, seen)
    assert seen.malformed == 0


@pytest.mark.parametrize("every_step", [True, False])
def test_golden_in_pieces_is_golden_as_a_whole(every_step: bool) -> None:
    """Every intermediate, however the lengths of the batch cut the sequences."""
    rng, network, _ = made(5, 3, (4, 3), every_step=every_step)
    x = random_codes(rng, network.x, (300, 9, 3))
    whole = network.run(x, trace=True)
    lengths = rng.integers(1, 9, 300)
    first = network.run(x, lengths, trace=True)
    rest = np.stack([np.concatenate([one[at:], np.zeros((at, 3), dtype=np.int64)])
                     for one, at in zip(x, lengths, strict=True)])
    second = network.run(rest, 9 - lengths, trace=True, state=first.final)
    assert whole.layers is not None
    assert first.layers is not None
    assert second.layers is not None
    for one, other, whole_layer, begun, ended in zip(
            first.layers, second.layers, whole.layers, first.final, whole.final, strict=True):
        for tensor in ("z", "c", "h"):
            for n, at in enumerate(lengths):
                joined = np.concatenate([getattr(one, tensor)[n, :at],
                                         getattr(other, tensor)[n, :9 - at]])
                assert np.array_equal(joined, getattr(whole_layer, tensor)[n])
        rows = np.arange(300)
        assert np.array_equal(begun.h, one.h[rows, lengths - 1])
        assert np.array_equal(begun.c, one.c[rows, lengths - 1])
        assert np.array_equal(ended.c, whole_layer.c[:, -1])
    for ended, there in zip(second.final, whole.final, strict=True):
        assert np.array_equal(ended.h, there.h)
        assert np.array_equal(ended.c, there.c)
    if not every_step:
        assert np.array_equal(second.y, whole.y)


@pytest.mark.parametrize(("every_step", "pipeline"), [
    (True, SHORT), pytest.param(True, FAST, marks=pytest.mark.slow),
    pytest.param(False, SHORT, marks=pytest.mark.slow), (False, FAST)])
def test_a_kept_state_is_waited_for(every_step: bool, pipeline: Pipeline) -> None:
    """What goes on waits for the bubble as any step does; what begins anew does not."""
    rng, network, dut = made(1, 2, (6,), units=3, every_step=every_step, pipeline=pipeline,
                             stateful=True)
    k = dut.engines[0].cycles
    assert k.bubble > 0
    keeps = [True, True, False, False, True]
    pieces = [[Piece(random_sequences(rng, network, 3)[0], keep) for keep in keeps]]
    seen = run(dut, beats=feed(dut, pieces), outputs=outputs(network, pieces))
    check(network, pieces, seen)
    ends = [now for _, now in seen.steps_of("lstm0.h", 0, 6)]
    wanted = [k.step if within < 2 or keep else k.work
              for keep in keeps for within in range(3)][:-1]
    assert np.diff(ends).tolist() == wanted
    # Kept throughout, it is one long sequence.
    pieces = [[Piece(random_sequences(rng, network, 1)[0], True) for _ in range(5)]]
    seen = run(dut, beats=feed(dut, pieces), outputs=5)
    check(network, pieces, seen)
    assert set(np.diff([now for _, now in seen.steps_of("lstm0.h", 0, 6)])) == {k.step}


@pytest.mark.parametrize(("after", "streams"), [
    (15, 1), *(pytest.param(after, streams, marks=pytest.mark.slow)
               for after, streams in ((1, 1), (6, 3), (29, 3)))])
def test_reset_keeps_nothing(after: int, streams: int) -> None:
    """After a reset sequences begin anew, wherever it came."""
    rng, network, dut = made(after, 3, (4, 2), streams=streams, stateful=True)
    pieces = [[replace(piece, keep=True) for piece in random_pieces(rng, network, 4)]
              for _ in range(streams)]
    beats = feed(dut, pieces)
    seen = run(dut, beats=beats, outputs=outputs(network, pieces), reset_after=after,
               stall=0.2)
    for stream, some in enumerate(pieces):
        assert [word for word, _ in seen.of(stream)] == [
            step for result in in_pieces(network, some) for step in result.y[0].tolist()]


def test_wrong_states() -> None:
    rng, network, _ = made(8, 1, (2,))
    x = random_sequences(rng, network, 2)[0][None]
    good = random_state(rng, network)
    wrongs: list[tuple[Any, str]] = [
        ((), "state must be of each of the 1 LSTM layers, not of 0"),
        ((replace(good[0], h=np.zeros((2, 2), dtype=np.int64)),),
         "state lstm0.h must have the shape 1 x 2, not 2 x 2"),
        ((replace(good[0], c=np.zeros((1, 2))),), "state lstm0.c must be integers, not float64"),
        ((replace(good[0], h=np.full((1, 2), 128)),),
         r"state lstm0.h must lie in SQ\(1, 7\), -128 to 127, but reaches from 128 to 128")]
    for wrong, text in wrongs:
        with pytest.raises(ValueError, match=f"^{text}$"):
            network.run(x, state=wrong)
    with pytest.raises(ValueError, match=r"^a final state must be one of lstm0.h, lstm0.c, not c$"):
        replace(network, states=("c",))
    with pytest.raises(ValueError, match=r"^a final state must be listed once, not lstm0.c 2 time"):
        replace(network, states=("lstm0.c", "lstm0.c"))


@pytest.mark.parametrize("streams", [1, 2])
def test_one_unit(streams: int) -> None:
    """The smallest states that there are."""
    rng, network, dut = made(16, 1, (1,), streams=streams, units=1, columns=1, stateful=True,
                             states=("lstm0.c",))
    pieces = [random_pieces(rng, network, 4, given=True) for _ in range(streams)]
    seen = run(dut, beats=feed(dut, pieces), outputs=outputs(network, pieces),
               packets=4 * streams)
    check(network, pieces, seen)


def test_ports() -> None:
    _, _, dut = made(8, 1, (2,), stateful=True)
    assert len(dut.s_axis_tuser) == 1
    assert len(dut.s_state_axis_tdata) == 8
    assert not hasattr(dut, "m_state_axis_tdata")
    assert not hasattr(dut, "s_state_axis_tid")
    _, _, dut = made(8, 1, (2,), streams=3, states=("lstm0.c",))
    assert len(dut.m_state_axis_tid) == 2
    assert not hasattr(dut, "s_state_axis_tdata")
    assert not hasattr(dut, "s_axis_tuser")
    _, _, dut = made(8, 1, (2,))
    assert not [name for name in dut.signature.members if "state" in name or "tuser" in name]


READ = {"one by one": ("lstm0.c",), "several beats": ("lstm0.h",), "all at once": ("lstm0.h",),
        "fast": ("lstm0.h", "lstm0.c"),
        "fast stack": ("lstm1.h", "lstm0.c", "lstm1.c", "lstm0.h")}


@pytest.mark.parametrize(("name", "streams", "every_step", "stall"), cases(
    ("one by one", 1, True), ("fast stack", 1, True)))
def test_read(name: str, streams: int, every_step: bool, stall: float) -> None:
    """A packet for each sequence, the states in the order in which they are listed."""
    inputs, hidden, units, columns, pipeline = SHAPES[name]
    rng, network, dut = made(list(SHAPES).index(name) + 10 * streams, inputs, hidden,
                             streams=streams, units=units, columns=columns, every_step=every_step,
                             pipeline=pipeline, states=READ[name])
    pieces = [[replace(piece, keep=False) for piece in random_pieces(rng, network, 5)]
              for _ in range(streams)]
    order = iter(lambda: int(rng.integers(streams)), -1)
    seen = run(dut, beats=feed(dut, pieces, order), outputs=outputs(network, pieces),
               packets=5 * streams, stall=stall)
    check(network, pieces, seen)
    assert seen.malformed == 0


def reading(streams: int = 1, *, hidden: int = 6, lengths: Sequence[int] = (3,) * 6,
            states: tuple[str, ...] = ("lstm0.c", "lstm0.h"), **others: Any
            ) -> tuple[QuantizedNetwork, Network, list[list[Piece]]]:
    rng, network, dut = made(3, 2, (hidden,), streams=streams, states=states, **others)
    return network, dut, [[Piece(x) for x in random_sequences(rng, network, *lengths)]
                          for _ in range(streams)]


@pytest.mark.parametrize("pipeline", [pytest.param(SHORT, marks=pytest.mark.slow), FAST])
def test_reading_costs_no_cycle(pipeline: Pipeline) -> None:
    """The steps come as they would without, and a packet at once."""
    network, dut, pieces = reading(pipeline=pipeline)
    seen = run(dut, beats=feed(dut, pieces), outputs=18, packets=6)
    check(network, pieces, seen)
    k = dut.engines[0].cycles
    ends = [now for _, now in seen.steps_of("lstm0.h", 0, 6)]
    assert np.diff(ends).tolist() == ([k.step] * 2 + [k.work]) * 5 + [k.step] * 2
    assert dut.reader is not None
    assert seen.sent == [(end + dut.reader.latency, end + dut.reader.latency + 11)
                         for end in ends[2::3]]


def test_packets_set_the_pace() -> None:
    """Where sequences are shorter than packets: an element goes out in every cycle."""
    network, dut, pieces = reading(streams=2, lengths=(1,) * 5, units=6)
    assert dut.engines[0].cycles.work == 4
    seen = run(dut, beats=feed(dut, pieces), outputs=10, packets=10)
    check(network, pieces, seen)
    firsts = [first for first, _ in seen.sent]
    assert set(np.diff(firsts)) == {12}
    assert [whose for whose, _ in seen.packets] == [0, 1] * 5


@pytest.mark.parametrize("streams", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_nobody_takes_packets(streams: int) -> None:
    """The network waits in the last step of a sequence, and loses nothing."""
    network, dut, pieces = reading(streams, lengths=(1, 2, 1, 1, 3, 1, 1))
    beats = feed(dut, pieces)
    seen = run(dut, beats=beats, outputs=10 * streams, packets=7 * streams,
               hold_states=3000)
    check(network, pieces, seen)
    ends = np.cumsum([len(piece.x) for piece in pieces[0]]) - 1
    for stream in range(streams):
        steps = [now for _, now in seen.steps_of("lstm0.h", stream, 6)]
        # Two pages, and what has left them for the queue is not a whole packet.
        before = sum(steps[end] < 3000 for end in ends)
        assert 1 <= before <= 2


@pytest.mark.parametrize("pause", [24, *(pytest.param(pause, marks=pytest.mark.slow)
                                         for pause in (5, 40, 45))])
def test_reset_forgets_packets(pause: int) -> None:
    """One that is on its way, and one that waits."""
    network, dut, pieces = reading(2, lengths=(1, 2, 1), hidden=3)
    beats = feed(dut, pieces)
    seen = run(dut, beats=beats, outputs=8, packets=6, before=[*beats, pause])
    assert len(seen.packets) == 6
    check(network, pieces, seen)


@pytest.mark.parametrize("streams", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_memories_of_states(streams: int) -> None:
    """What the Verilog declares more than without, to the bit."""
    network, dut, _ = reading(streams, units=3, hidden=7)
    assert dut.reader is not None
    bits = [memory_bits(generate(each)[0]) for each in (dut, Network(
        replace(network, states=()), foldings=[dut.engines[0].cycles.folding], streams=streams))]
    assert bits[0] - bits[1] == sum(dut.reader.memories.values())


def test_states_in_block_ram() -> None:
    shape = Shape(inputs=1, outputs=70, column_bits=12, state_bits=14)
    taken = [lstm_part(replace(shape, finals=finals), folded(
        random_network(np.random.default_rng(0), FORMATS["8 bits"], 1, (70,), 1, every_step=True),
        4, 1)[0], pipeline=SHORT, streams=1, limits=Limits(
            multipliers=99, memories=99, blocks=lambda depth, width: 1, logic_words=64)).memories
        for finals in ("", "h", "hc")]
    assert np.diff(taken).tolist() == [2, 2]


@pytest.mark.parametrize(("name", "streams", "every_step", "stall"), cases(
    ("one by one", 3, True), ("fast stack", 1, False)))
def test_set(name: str, streams: int, every_step: bool, stall: float) -> None:
    """Sequences that begin with given states, with kept ones, and anew."""
    inputs, hidden, units, columns, pipeline = SHAPES[name]
    rng, network, dut = made(list(SHAPES).index(name) + 10 * streams, inputs, hidden,
                             streams=streams, units=units, columns=columns, every_step=every_step,
                             pipeline=pipeline, stateful=True, states=("lstm0.h", "lstm0.c"))
    pieces = [random_pieces(rng, network, 5, given=True) for _ in range(streams)]
    pieces[0][0] = replace(pieces[0][0], given=random_state(rng, network))
    order = iter(lambda: int(rng.integers(streams)), -1)
    seen = run(dut, beats=feed(dut, pieces, order), outputs=outputs(network, pieces),
               packets=5 * streams, stall=stall)
    check(network, pieces, seen)
    assert seen.malformed == 0


@pytest.mark.parametrize("streams", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_set_over_initial_and_kept_states(streams: int) -> None:
    """A set state takes the place of a kept one, of the layer's own, and of one set before."""
    rng, network, _ = made(11, 2, (3,), streams=streams, stateful=True)
    own = random_state(rng, network)[0]
    network = replace(network, layers=(replace(
        network.layers[0], initial_h=own.h[0], initial_c=own.c[0]),))
    dut = Network(network, foldings=folded(network, 2, 2, streams=streams), streams=streams)
    x = random_sequences(rng, network, *[2] * 5)
    pieces = [[Piece(x[0], keep=True), Piece(x[1], given=random_state(rng, network)),
               Piece(x[2], given=random_state(rng, network)), Piece(x[3]), Piece(x[4], True)]
              for _ in range(streams)]
    beats = feed(dut, pieces)
    at = next(n for n, beat in enumerate(beats) if isinstance(beat, list))
    beats.insert(at, packet(dut, random_state(rng, network), beats[at][0][2]))
    seen = run(dut, beats=beats, outputs=outputs(network, pieces))
    check(network, pieces, seen)


@pytest.mark.parametrize("streams", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_packet_waits_for_the_end_of_a_sequence(streams: int) -> None:
    """And what comes after it waits for the packet, though it has been there before."""
    rng, network, dut = made(14, 4, (5,), streams=streams, stateful=True)
    state = random_state(rng, network)
    whose = streams - 1
    pieces: list[list[Piece]] = [[] for _ in range(streams)]
    pieces[whose] = [Piece(random_sequences(rng, network, 4)[0]),
                     Piece(random_sequences(rng, network, 2)[0], given=state)]
    beats = [beat for beat in feed(dut, pieces) if not isinstance(beat, list)]
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    taken: dict[str, list[int]] = {"s_axis": [], "s_state_axis": []}
    words: list[int] = []
    done: list[int] = []

    def sending(port: str, some: Sequence[tuple[int, ...]], pause: int) -> Any:
        async def send(ctx: Any) -> None:
            if pause:
                await ctx.tick().repeat(pause)
            for word, last, stream, *keep in some:
                ctx.set(getattr(dut, f"{port}_tdata"), word)
                ctx.set(getattr(dut, f"{port}_tlast"), last)
                if streams > 1:
                    ctx.set(getattr(dut, f"{port}_tid"), stream)
                if keep:
                    ctx.set(dut.s_axis_tuser, keep[0])
                ctx.set(getattr(dut, f"{port}_tvalid"), 1)
                await ctx.tick().until(getattr(dut, f"{port}_tready"))
                ctx.set(getattr(dut, f"{port}_tvalid"), 0)
        return send

    async def watch(ctx: Any) -> None:
        ctx.set(dut.m_axis_tready, 1)
        ports = [(name, getattr(dut, f"{name}_tvalid"), getattr(dut, f"{name}_tready"))
                 for name in taken]
        shown = dut.engines[0].probe_h_valid
        for now in range(1200):
            _, _, valid, word, units, *both = await ctx.tick().sample(
                dut.m_axis_tvalid, dut.m_axis_tdata, shown,
                *(signal for _, *pair in ports for signal in pair))
            for n, (name, _, _) in enumerate(ports):
                if both[2 * n] and both[2 * n + 1]:
                    taken[name].append(now)
            if units:
                done.append(now)
            if valid:
                words.append(word)

    simulator.add_testbench(watch)
    simulator.add_testbench(sending("s_state_axis", packet(dut, state, whose), 25))
    simulator.add_testbench(sending("s_axis", beats, 0))
    simulator.run()
    size = 8 * dut.out_bytes
    wanted = [sum((int(code) & (1 << size) - 1) << size * lane for lane, code in enumerate(
        step[at:at + dut.out_lanes])) for result in in_pieces(network, pieces[whose])
        for step in result.y[0].tolist() for at in range(0, 2, dut.out_lanes)]
    assert words == wanted
    set_first, set_last = taken["s_state_axis"][0], taken["s_state_axis"][-1]
    four = 4 * 2
    assert taken["s_axis"][four - 1] < set_first
    assert sum(now < set_first for now in done) == 4 * 5
    # A packet is taken at an element a cycle, and sequences begin as soon as it has been written.
    assert set_last - set_first == 9
    assert taken["s_axis"][four] == set_last + 2


def test_self_test() -> None:
    """A core with states in the self-test: it takes them, keeps none, and passes."""
    rng, network, dut = made(15, 2, (6,), units=6, every_step=False, stateful=True,
                             states=("lstm0.h", "lstm0.c"))
    pieces = [[Piece(x) for x in random_sequences(rng, network, 1, 1, 1, 2, 1)]]
    size, lanes = 8 * dut.out_bytes, dut.out_lanes
    expected = [Word(word, at + lanes >= 2) for result in in_pieces(network, pieces[0])
                for at in range(0, 2, lanes)
                for word in pack(result.y[0, at:at + lanes], lanes, size)]
    # Steps are shorter than packets, and so is the silence that ends a round.
    test = SelfTest(dut, blink=2, stored=Stored(
        stimulus=[Word(word, last) for word, last, _, _ in feed(dut, pieces)], expected=expected,
        timeout=50))
    simulator = Simulator(test)
    simulator.add_clock(1e-6)
    seen: list[int] = []

    async def watch(ctx: Any) -> None:
        for _ in range(700):
            await ctx.tick()
            assert not ctx.get(test.failed)
            seen.append(ctx.get(test.blink))

    simulator.add_testbench(watch)
    simulator.run()
    assert np.count_nonzero(np.diff(seen)) >= 2


def test_as_the_float_model() -> None:
    """What is quantised as stateful goes on from its states as the float model from its own."""
    rng = np.random.default_rng(17)
    units = (5, 4)
    network = FloatNetwork(
        layers=tuple(LSTM(w_x=rng.normal(0, 0.5, (4 * hidden, inputs)),
                          w_h=rng.normal(0, 0.5, (4 * hidden, hidden)),
                          bias=rng.normal(0, 0.5, 4 * hidden))
                     for inputs, hidden in ((3, units[0]), units)),
        head=(Dense(w=rng.normal(0, 1, (2, units[1])), bias=rng.normal(0, 1, 2)),))
    x = rng.uniform(-1, 1, (20, 12, 3))
    quantized = quantize(network, x, stateful=True, states=("lstm1.c", "lstm0.h"))
    assert quantized.stateful
    assert quantized.states == ("lstm1.c", "lstm0.h")
    assert not quantize(network, x).stateful
    _, begun = network.run_states(x[:, :5])
    y, ended = network.run_states(x[:, 5:], state=begun)
    first = quantized.run_real(x[:, :5])
    second = quantized.run_real(x[:, 5:], state=first.final)
    assert np.abs(second.real - y).max() < 2e-3
    assert np.array_equal(second.y, quantized.run_real(x).y)
    # From zeros it would be something else.
    assert np.abs(quantized.run_real(x[:, 5:]).real - y).max() > 1e-2
    found = quantized.state_vector(second.final, quantized.states)
    wanted = replace(network, states=quantized.states).state_outputs(ended)
    for name, real, at in zip(quantized.states, wanted, (slice(4), slice(4, 9)), strict=True):
        to = quantized.state_format(name)
        assert np.abs(to.to_real(found[:, at]) - real).max() < 2e-3
