"""States that are kept and set where a layer reads from the end, or both ways."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.engine_memories import modelled_memories
from golden.quantized_network import QuantizedNetwork
from golden.result import StateCodes
from hdl.network import Network
from hdl.pipeline import PIPELINES
from hdl.verilog import generate
from sim.vectors import Vectors
from sim.verify import verify
from tests.networks import FORMATS, folded, random_codes, random_sequences
from tests.test_bidirectional import STACKS, some, stack, turning_network
from tests.test_cycles import declared_memories
from tests.test_differing_directions import differing
from tests.test_regression import write_design
from tests.test_states import (
    Piece,
    State,
    check,
    feed,
    outputs,
    packet,
    random_pieces,
    random_state,
    run,
)


def of_name(name: str, **more: Any) -> QuantizedNetwork:
    network = replace(stack(name, **more), stateful=True)
    return replace(network, states=network.known_states[::-1])


def built(network: QuantizedNetwork, units: int, columns: int, *, pipeline: str = "short",
          longest: int = 8) -> Network:
    return Network(network, pipeline=PIPELINES[pipeline], longest=longest, foldings=folded(
        network, units, columns, pipeline=PIPELINES[pipeline]))


def parts(network: QuantizedNetwork, state: State) -> list[StateCodes]:
    """The state of each of the network's directions."""
    return [StateCodes(h=h, c=c) for layer, of in zip(network.layers, state, strict=True)
            for h, c in zip(*(np.split(codes, len(layer.directions), axis=1)
                              for codes in (of.h, of.c)), strict=True)]


@pytest.mark.parametrize("name", STACKS)
def test_golden(name: str) -> None:
    """A direction begins, in its own order, with the state in which it has ended, or a given one.

    What each has read is known; so it is a forward layer by itself, which is tested elsewhere.
    """
    network = of_name(name, begun=True)
    rng = np.random.default_rng(2)
    state: State | None = None
    for given in (False, False, True, False):
        state = random_state(rng, network, 3) if given else state
        lengths = np.array([4, 1, 6])
        result = network.run(random_codes(rng, network.x, (3, 6, network.inputs)), lengths,
                             trace=True, state=state)
        assert result.layers is not None
        for number, (each, codes, ended) in enumerate(zip(
                network.directions, result.layers, parts(network, result.final), strict=True)):
            alone = QuantizedNetwork(layers=(replace(each, reverse=False),), head=(),
                                     every_step=True)
            for n, length in enumerate(lengths):
                order = slice(None, None, -1) if each.reverse else slice(None)
                begin = None if state is None else [
                    StateCodes(h=of.h[[n]], c=of.c[[n]])
                    for of in parts(network, state)[number:number + 1]]
                wanted = alone.run(codes.x[[n], :length][:, order], state=begin)
                assert np.array_equal(codes.h[n, :length][order], wanted.y[0])
                assert np.array_equal(ended.h[n], wanted.final[0].h[0])
                assert np.array_equal(ended.c[n], wanted.final[0].c[0])
        state = result.final


SETTINGS = {"short": (1, 1, "short", 0.0), "fast": (2, 3, "fast", 0.4)}
QUICK = {("at the last step", "short"), ("reverse", "fast")}


@pytest.mark.parametrize(("name", "units", "columns", "pipeline", "stall"), [
    pytest.param(name, *of, marks=() if (name, key) in QUICK else pytest.mark.slow)
    for name in STACKS for key, of in SETTINGS.items()])
def test_kept_set_and_read(name: str, units: int, columns: int, pipeline: str, stall: float
                           ) -> None:
    """Sequences that begin with given states, with kept ones, and anew; all states are read."""
    network = of_name(name, begun=stall > 0)
    rng = np.random.default_rng(3)
    dut = built(network, units, columns, pipeline=pipeline, longest=4)
    pieces = random_pieces(rng, network, 8, given=True)
    pieces[0] = replace(pieces[0], given=random_state(rng, network))
    # A few in a row go on from each other.
    pieces[2:5] = [replace(piece, keep=True, given=None) for piece in pieces[2:5]]
    seen = run(dut, beats=feed(dut, [pieces]), outputs=outputs(network, [pieces]), packets=8,
               stall=stall)
    check(network, [pieces], seen)
    assert seen.malformed == 0


@pytest.mark.parametrize(("ours", "theirs", "options"), [
    ("rectified", "sigmoids", {"peepholes": True, "begun": True, "every_step": False}),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("standard", "clipped", {"merge": "mul"}),
        ("no table", "standard", {"projected": 2}),
        ("line of the cell state", "hard gates", {"every_step": False, "final": True})))])
def test_differing_directions(ours: str, theirs: str, options: dict[str, Any]) -> None:
    """Two directions with functions of their own go on from, and are set to, their own states."""
    network = replace(differing(ours, theirs, **options), stateful=True)
    network = replace(network, states=network.known_states)
    rng = np.random.default_rng(8)
    dut = built(network, 2, 2, longest=4)
    pieces = random_pieces(rng, network, 8, given=True)
    pieces[0] = replace(pieces[0], given=random_state(rng, network))
    pieces[2:5] = [replace(piece, keep=True, given=None) for piece in pieces[2:5]]
    seen = run(dut, beats=feed(dut, [pieces]), outputs=outputs(network, [pieces]), packets=8,
               stall=0.3)
    check(network, [pieces], seen)
    assert seen.malformed == 0


@pytest.mark.parametrize("name", some("two directions"))
def test_cycles(name: str) -> None:
    """What goes on waits for its bubble, as any step does; what begins anew does not."""
    network = replace(stack(name), stateful=True)
    dut = built(network, 2, 2)
    rng = np.random.default_rng(4)
    for keep in (True, False):
        pieces = [Piece(x, keep) for x in random_sequences(rng, network, *[6] * 8)]
        # What reads from the end goes on behind the output of the last step, which it makes first.
        seen = run(dut, beats=feed(dut, [pieces]), outputs=outputs(network, [pieces]),
                   quiet=60 + 6 * dut.step)
        check(network, [pieces], seen)
        # That of a layer that nothing holds up.
        rounds = [engine.cycles.round for engine in dut.engines]
        n = rounds.index(dut.step)
        k, ways = dut.engines[n].cycles, len(dut.engines[n].directions)
        for way in range(ways):
            ends = [now for _, now in seen.steps_of(f"lstm{n}.h", way, k.outputs)]
            gaps = np.diff(ends)[11:41].reshape(5, 6)
            assert (gaps[:, 1:] == dut.step).all()
            if keep:
                assert (gaps[:, 0] == dut.step).all()
            elif n == 0:
                assert (gaps[:, 0] == ways * k.work).all()
            else:
                # The layer before may take longer to bring the first step.
                assert (ways * k.work <= gaps[:, 0]).all()
                assert (gaps[:, 0] < dut.step).all()


@pytest.mark.parametrize("name", some("outputs from the end"))
def test_too_long(name: str) -> None:
    """A sequence that is longer than the buffers keeps no state in any layer."""
    network = of_name(name)
    rng = np.random.default_rng(5)
    dut = built(network, 2, 2, longest=4)
    for length in (4, 5, 9):
        pieces = [Piece(x, True) for x in random_sequences(rng, network, 2, length, 3, 4)]
        beats = feed(dut, [pieces])
        spoilt = min(length, 4) if network.every_step else 1
        count = outputs(network, [pieces]) - (length if network.every_step else 1) + spoilt
        seen = run(dut, beats=beats, outputs=count, packets=4)
        assert seen.malformed == (length > 4)
        kept = network.run(pieces[0].x[None]).final if length == 4 else None
        between = network.run(pieces[1].x[None], state=kept).final if length == 4 else None
        rest = network.run(pieces[2].x[None], state=between)
        last = network.run(pieces[3].x[None], state=rest.final)
        wanted = [step for result in (rest, last) for step in (
            result.y[0] if network.every_step else result.y).tolist()]
        assert [vector for vector, _ in seen.words[-len(wanted):]] == wanted
        assert [packet for _, packet in seen.packets[2:]] == [
            network.state_vector(result.final, network.states)[0].tolist()
            for result in (rest, last)]


@pytest.mark.parametrize("name", some("at the ends"))
def test_a_state_is_set_as_soon_as_all_is_out(name: str) -> None:
    """Sequences that wait in buffers come out first, though nobody takes anything for a while."""
    network = of_name(name)
    rng = np.random.default_rng(6)
    dut = built(network, 2, 2, longest=3)
    pieces = [Piece(x, True) for x in random_sequences(rng, network, *[1, 3] * 6)]
    for n in (5, 6, 9):
        pieces[n] = replace(pieces[n], given=random_state(rng, network))
    for hold, hold_states in ((600, 0), (0, 600)):
        seen = run(dut, beats=feed(dut, [pieces]), outputs=outputs(network, [pieces]),
                   packets=len(pieces), hold=hold, hold_states=hold_states, limit=6000)
        check(network, [pieces], seen)


@pytest.mark.parametrize("missing", [1, -1])
def test_a_wrong_packet(missing: int) -> None:
    """Both directions begin anew after a packet of another length, and the next is right."""
    network = of_name("at the last step")
    rng = np.random.default_rng(7)
    dut = built(network, 2, 2, longest=3)
    pieces = [Piece(x, True, random_state(rng, network) if n else None)
              for n, x in enumerate(random_sequences(rng, network, 3, 2, 3))]
    beats = feed(dut, [pieces])
    assert pieces[1].given is not None
    full = packet(dut, pieces[1].given)
    at = beats.index(full)
    words = full[:-1 - missing] if missing > 0 else full[:-1] + full[-1:] * -missing
    beats[at] = [(word, False, 0) for word, _, _ in words] + [(full[-1][0], True, 0)]
    assert len(beats[at]) == len(full) - missing
    pieces[:2] = [replace(pieces[0], keep=False), replace(pieces[1], given=None)]
    seen = run(dut, beats=beats, outputs=3, packets=3)
    check(network, [pieces], seen)
    assert seen.malformed == 1


@pytest.mark.parametrize("after", [9, *(pytest.param(after, marks=pytest.mark.slow)
                                        for after in (1, 4, 6))])
def test_reset_keeps_nothing(after: int) -> None:
    network = of_name("at the last step")
    rng = np.random.default_rng(after)
    dut = built(network, 2, 2, longest=4)
    pieces = [replace(piece, keep=True) for piece in random_pieces(rng, network, 6)]
    beats = [beat for beat in feed(dut, [pieces]) if not isinstance(beat, list)]
    seen = run(dut, beats=beats, outputs=6, packets=6, before=[*beats[:after], 20])
    check(network, [pieces], seen)


@pytest.mark.parametrize("name", some("outputs from the end"))
def test_memories(name: str) -> None:
    """What the Verilog declares is what the model says, to the bit; TUSER costs none but a flag."""
    network = replace(stack(name), stateful=True)
    dut = built(network, 2, 3, longest=20)
    assert Counter(modelled_memories(dut)) == declared_memories(generate(dut)[0])


def test_ports() -> None:
    """Both directions of a state stand one after the other."""
    network = replace(stack("at the last step"), stateful=True)
    dut = built(network, 1, 1)
    verilog, manifest = generate(dut)
    assert [(each["name"], each["elements"]) for each in manifest["state_input"]["tensors"]] == [
        ("lstm0.h", 3), ("lstm0.reverse.h", 3), ("lstm0.c", 3), ("lstm0.reverse.c", 3)]
    assert len(dut.s_axis_tuser) == 1
    assert not hasattr(dut, "s_state_axis_tid")
    # A block that depends on nothing never runs in simulation.
    assert not re.search(r"always @\*\n +\S+ = \d+'h[0-9a-f]+;", verilog)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random(seed: int) -> None:
    """Stacks of any layers and options, in any folding."""
    rng = np.random.default_rng(seed)
    ways = rng.choice(["forward", "reverse", "concat", "sum", "ave", "mul"],
                      int(rng.integers(1, 4)), p=[0.2, 0.2, 0.3, 0.1, 0.1, 0.1]).tolist()
    every_step = bool(rng.random() < 0.5)
    if "forward" in ways and len(set(ways)) == 1:
        ways[-1] = "concat"
    network = replace(turning_network(
        rng, FORMATS["8 bits"], int(rng.integers(1, 4)),
        tuple((way, int(rng.integers(1, 5))) for way in ways), begun=bool(rng.random() < 0.5),
        every_step=every_step, final=bool(rng.random() < 0.5),
        backwards=every_step and bool(rng.random() < 0.5),
        projected=int(rng.integers(1, 4)) if rng.random() < 0.3 else None,
        peepholes=bool(rng.random() < 0.3)), stateful=True)
    network = replace(network, states=tuple(
        name for name in network.known_states if rng.random() < 0.6))
    dut = built(network, int(rng.integers(1, 4)), int(rng.integers(1, 4)), longest=4,
                pipeline=str(rng.choice(list(PIPELINES))))
    pieces = random_pieces(rng, network, 10, given=True)
    seen = run(dut, beats=feed(dut, [pieces]), outputs=outputs(network, [pieces]),
               packets=10 if network.states else 0, stall=float(rng.choice([0, 0.3])),
               hold=int(rng.choice([0, 300])), hold_states=int(rng.choice([0, 300])))
    check(network, [pieces], seen)
    assert seen.malformed == 0


BENCHED = {"at the ends": "ecp5", "reverse, last step": None, "forward and back": "ice40",
           "all ways": None, "outputs from the end": None}


@pytest.mark.parametrize("name", some())
def test_bench(tmp_path: Path, name: str) -> None:
    """All of the bench's tests."""
    network = of_name(name)
    rng = np.random.default_rng(6)
    vectors = Vectors.compute(network, random_codes(rng, network.x, (12, 15, network.inputs)),
                              rng.integers(1, 16, 12))
    write_design(tmp_path, network, 2, 2, vectors, family=BENCHED.get(name))
    result = verify(tmp_path, seed=1, effort=10_000)
    assert result.failure is None
    assert {"kept_states", "set_states", "packets_held"} <= {test.test for test in result.tests}
