"""Random designs with random data: golden against hardware; a failing one is made small, and kept.

``GATEFOLD_SEED`` repeats a run; the header of each tells it. A failure names the smallest design
that still fails, as an expression for `REGRESSIONS`.
"""

import os
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample
from hypothesis.strategies import SearchStrategy

from golden import bidirectional
from golden.fixed import SQ, round_saturate
from hdl.cycles import Folding
from hdl.dense_cycles import DenseFolding
from sim.vectors import Vectors
from sim.verify import verify
from tests import designs as written
from tests.cases import thinned
from tests.designs import DATA, Design, Head, Layer, Played, designs
from tests.networks import random_codes, random_sequences
from tests.streams import interleaved, run_network
from tests.test_regression import save_design
from tests.test_states import Piece, check, feed, in_pieces, outputs

REGRESSIONS: tuple[Design, ...] = (
    # One of each kind, so that all ways of drawing and playing are alive whatever the seed.
    Design(layers=(Layer(hidden=2, folding=Folding(units=1, columns=1, lanes=1, interval=2),
                         way="sum", begun=True),),
           sequences=(Played(steps=3, data="walk"), Played(steps=1, data="saturating")),
           head=(Head(outputs=2, folding=DenseFolding(rows=1, columns=2)),), wild=True,
           every_step=True, states=("lstm0.c",), stall=0.3),
    Design(layers=(Layer(hidden=2, folding=Folding(units=2, columns=1, lanes=1, interval=1)),),
           sequences=tuple(Played(steps=2, data=data, keep=True, given=data == "flips")
                           for data in DATA),
           formats="products coarser than z", every_step=True, stateful=True, streams=2,
           states=("lstm0.h",)),
)
"""Designs that have failed once, and what else is to be tried at every run."""

PACED = 600
"""Cycles that it may take until the pace of steps has settled, where it is measured."""


def play(design: Design) -> None:
    """Bits, states and flags; cycles too, where nothing holds it up."""
    network = design.network()
    dut = design.hardware(network)
    pieces = design.pieces(network)
    rng = np.random.default_rng([design.seed, 2])
    free = not (design.stall or design.reset_after or design.hold or design.hold_states)
    order = iter(lambda: int(rng.integers(design.streams)), -1) if design.mixed else None
    beats, paced = feed(dut, pieces, order), False
    if free:
        # A step on the idle network comes first; at the end so many that their pace settles.
        steps = 3 * (len(network.layers) + len(network.head)) + 16
        paced = network.every_step and dut.longest is None and steps * dut.step <= PACED
        alone, last = ([[Piece(x) for x in random_sequences(rng, network, *lengths)]
                        for lengths in some] for some in (
                            [[1], *[[]] * (design.streams - 1)],
                            [[steps] if paced else []] * design.streams))
        beats = [*feed(dut, alone), 2 * dut.whole_latency, *beats, *feed(dut, last)]
        pieces = [[*one, *some, *more] for one, some, more in zip(alone, pieces, last, strict=True)]
    # A layer that reads from the end may have its output long before it is through.
    rest = 60 + (0 if dut.longest is None else round(
        max(played.steps for played in design.sequences) * dut.step / (1 - design.stall)))
    seen = run_network(
        dut, [], beats=beats, outputs=outputs(network, pieces), stall=design.stall,
        packets=sum(map(len, pieces)) if network.states else 0, quiet=rest, limit=20_000,
        reset_after=design.reset_after, hold=design.hold, hold_states=design.hold_states,
        seed=design.seed)
    check(network, pieces, seen)
    assert seen.malformed == 0
    if free:
        assert seen.given[0] - seen.taken[0] == dut.latency
        assert seen.done[0] - seen.taken[0] == dut.whole_latency
    for stream in range(design.streams) if paced else ():
        given = [now for now, one in zip(seen.given, seen.streams, strict=True) if one == stream]
        assert set(np.diff(given[-4:]).tolist()) == {dut.step}


def hold(design: Design) -> None:
    """As many steps as the model says go in while no output is taken."""
    network = design.network()
    dut = design.hardware(network)
    if dut.held is None:
        return
    rng = np.random.default_rng([design.seed, 3])
    rounds = dut.held // dut.streams + 2
    sequences = [[random_codes(rng, network.x, (1, network.inputs)) for _ in range(rounds)]
                 for _ in range(dut.streams)]
    steps = rounds * dut.streams
    held = (dut.held + 2) * dut.step + 2 * dut.whole_latency + 100
    if dut.reader:
        # Each step ends a sequence.
        held += steps * dut.reader.bus.elements
    seen = run_network(dut, [], beats=interleaved(dut, sequences), outputs=steps, hold=held,
                       packets=steps if network.states else 0, limit=4 * held, quiet=1)
    assert sum(cycle <= held for cycle in seen.taken) == dut.held


def compile_and_verify(design: Design, folder: Path) -> None:
    """All tests of the bench, on the Verilog."""
    network = design.network()
    rng = np.random.default_rng([design.seed, 1])
    some = [design.codes(network, rng, played) for played in design.sequences]
    lengths = np.array([len(x) for x in some])
    x = np.stack([np.pad(x, ((0, lengths.max() - len(x)), (0, 0))) for x in some])
    save_design(folder, design.hardware(network), Vectors.compute(network, x, lengths))
    result = verify(folder, seed=design.seed, effort=2000)
    assert result.failure is None


def smallest(play: Callable[[Design], None], drawn: SearchStrategy[Design], *, count: int,
             seed: int, shrinks: bool = True) -> Design | None:
    """Of so many designs the first that fails, made small; None where none does."""
    def fails(design: Design) -> bool:
        try:
            play(design)
        except Exception:
            return True
        return False

    phases = [Phase.generate, *([Phase.shrink] if shrinks else [])]
    try:
        return find(drawn, fails, random=Random(seed), settings=settings(
            max_examples=count, deadline=None, database=None, phases=phases,
            suppress_health_check=list(HealthCheck)))
    except NoSuchExample:
        return None


def run_seed(part: int) -> int:
    return int(os.environ["GATEFOLD_SEED"]) * 1000 + part


def tell(play: Callable[[Design], None], design: Design | None) -> None:
    """Fail as the design does, and say which it was."""
    if design is not None:
        try:
            play(design)
        except Exception as error:
            error.add_note(f"GATEFOLD_SEED={os.environ['GATEFOLD_SEED']}; to be kept:\n{design!r}")
            raise
        raise AssertionError(f"failed once, and not again: {design!r}")


PARTS = [(0, 4, designs()), *(
    pytest.param(part, 30, designs(most=7, cycles=800, widths=range(8, 19)),
                 marks=pytest.mark.slow) for part in range(1, 7))]


@pytest.mark.parametrize(("part", "count", "drawn"), PARTS)
def test_random_designs(part: int, count: int, drawn: SearchStrategy[Design]) -> None:
    tell(play, smallest(play, drawn, count=count, seed=run_seed(part)))


@pytest.mark.parametrize(("part", "count", "drawn"), [
    (50, 2, designs()),
    pytest.param(51, 40, designs(most=7, cycles=400), marks=pytest.mark.slow)])
def test_steps_held(part: int, count: int, drawn: SearchStrategy[Design]) -> None:
    tell(hold, smallest(hold, drawn, count=count, seed=run_seed(part)))


@pytest.mark.parametrize(("states", "streams"), thinned(
    [" ".join(some) for count in (1, 2) for some in combinations(
        [f"lstm{n}.{tensor}" for n in range(3) for tensor in "hc"], count)], (1, 2), every=9))
def test_steps_held_with_final_states(states: str, streams: int) -> None:
    """A packet of them waits for the last of its layers, and so does the first one."""
    layer = Layer(hidden=2, folding=Folding(units=1, columns=1, lanes=1, interval=2))
    hold(Design(layers=(layer,) * 3, sequences=(Played(steps=1),),
                states=tuple(states.split()), streams=streams))


@pytest.mark.parametrize("part", [100, *(pytest.param(part, marks=pytest.mark.slow)
                                         for part in range(101, 105))])
def test_random_designs_in_verilog(part: int, tmp_path: Path) -> None:
    """As they are: to make one small would take a simulator for every try."""
    folders = (tmp_path / str(n) for n in range(100))

    def play(design: Design) -> None:
        folder = next(folders)
        folder.mkdir()
        compile_and_verify(design, folder)

    # The smallest of all comes first, unless it is ruled out.
    drawn = designs().filter(lambda design: len(design.sequences) > 1 and design.seed > 0)
    tell(play, smallest(play, drawn, count=1, seed=run_seed(part), shrinks=False))


@pytest.mark.parametrize("design", REGRESSIONS, ids=range(len(REGRESSIONS)))
def test_regressions(design: Design) -> None:
    play(design)


def test_written_as_it_is() -> None:
    """A design, printed, is the expression that makes it."""
    def play(design: Design) -> None:
        assert eval(repr(design), {**vars(written), "SQ": SQ}) == design
        assert "\n" not in repr(design)

    tell(play, smallest(play, designs(), count=30, seed=0))


def test_a_planted_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden has merged directions a code too high: found, made small, and seen in hardware."""
    def higher(codes: np.ndarray, f: int, to: SQ) -> tuple[np.ndarray, int]:
        right, saturated = round_saturate(codes, f, to)
        return np.minimum(right + 1, to.max), saturated

    def compare(design: Design) -> None:
        """Golden with the fault against golden without it, which takes no simulation."""
        network = design.network()
        pieces = design.pieces(network)
        y = []
        for planted in (False, True):
            with monkeypatch.context() as patch:
                if planted:
                    patch.setattr(bidirectional, "round_saturate", higher)
                y.append([result.y for some in pieces for result in in_pieces(network, some)])
        assert all(map(np.array_equal, *y))

    found = smallest(compare, designs(), count=200, seed=1)
    assert found is not None
    layer, = found.layers
    played, = found.sequences
    assert layer.way in ("sum", "ave", "mul")
    assert layer.folding == Folding(units=1, columns=1, lanes=1, interval=1)
    assert found.inputs == 1
    assert not any((found.head, found.states, found.stall, found.reset_after, found.hold,
                    layer.peepholes, layer.coupled, layer.projected, layer.clip))
    assert played.steps <= 4
    play(found)
    monkeypatch.setattr(bidirectional, "round_saturate", higher)
    with pytest.raises(AssertionError):
        play(found)
