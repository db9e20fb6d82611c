"""Layers with a projection in hardware: bits, cycles, and what they take."""

import re
from collections import Counter
from math import ceil
from typing import Any

import numpy as np
import pytest

from benchmarks.engine_memories import modelled_memories
from golden.calibrate import quantize
from golden.formats import DenseFormats
from golden.lstm import LSTM
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.quantized import QuantizedDense
from hdl.choice import choose
from hdl.cycles import Folding, LSTMCycles
from hdl.dense import DenseEngine
from hdl.dense_cycles import DenseFolding
from hdl.foldings import Limits, choose_drain, choose_folding, lstm_parts, projections
from hdl.network import Network
from hdl.pipeline import FAST, PIPELINES, SHORT
from hdl.ram import RAM
from hdl.search import Stack
from hdl.verilog import generate
from tests.networks import (
    FORMATS,
    STANDARD,
    expected_words,
    folded,
    random_codes,
    random_network,
    random_sequences,
)
from tests.streams import interleaved, run_network
from tests.test_cycles import TRIED, check_hardware, declared_memories
from tests.test_network import poisoned
from tests.test_streams import check


def folding(units: int, columns: int, lanes: int, interval: int, rows: int, behind: int
            ) -> Folding:
    return Folding(units=units, columns=columns, lanes=lanes, interval=interval,
                   projection=DenseFolding(rows=rows, columns=behind))


# Inputs, hidden units and hidden states of each layer, foldings, streams, pipeline.
DESIGNS: list[tuple[int, tuple[int, ...], tuple[int | None, ...], list[Folding], int, str]] = [
    (1, (1,), (1,), [folding(1, 1, 1, 1, 1, 1)], 1, "short"),
    # A word is all there is, and so is the projection: the buffer between has to be prompt.
    (1, (2,), (1,), [folding(2, 2, 2, 1, 1, 2)], 1, "short"),
    (1, (2,), (1,), [folding(2, 2, 2, 1, 1, 2)], 3, "fast"),
    # As many cycles as the layer, in which a drain without a pause fills the buffer between.
    (2, (6,), (4,), [folding(6, 1, 1, 1, 2, 2)], 1, "medium"),
    (2, (6,), (4,), [folding(3, 2, 1, 1, 2, 2)], 2, "short"),
    # Passes and words that do not divide, with more and fewer states than units.
    (3, (7,), (5,), [folding(2, 3, 2, 2, 2, 3)], 1, "fast"),
    (3, (5,), (8,), [folding(2, 2, 1, 2, 3, 2)], 3, "short"),
    (2, (5,), (5,), [folding(5, 1, 2, 2, 1, 5)], 2, "medium"),
    # Beats wider than the columns of either array.
    (2, (6,), (6,), [folding(6, 1, 6, 4, 6, 1)], 1, "short"),
    (13, (3,), (2,), [folding(1, 1, 1, 12, 1, 1)], 2, "behind them"),
    # The first, the last, both, and the one between.
    (2, (4, 3), (2, None), [folding(2, 2, 1, 1, 1, 2),
                            Folding(units=1, columns=1, lanes=1, interval=4)], 1, "short"),
    (2, (3, 5), (None, 2), [Folding(units=3, columns=2, lanes=1, interval=1),
                            folding(2, 3, 2, 2, 2, 1)], 2, "fast"),
    (1, (3, 4), (4, 3), [folding(1, 2, 1, 1, 4, 1), folding(2, 4, 2, 1, 3, 1)], 1, "medium"),
    (1, (2, 4, 2), (None, 1, None), [Folding(units=1, columns=1, lanes=1, interval=2),
                                     folding(2, 1, 1, 1, 1, 2),
                                     Folding(units=1, columns=1, lanes=1, interval=3)], 1, "fast"),
    # Memories of more than 64 words: m, then x, then h.
    (3, (70,), (2,), [folding(5, 1, 1, 1, 2, 1)], 1, "fast"),
    (70, (3,), (2,), [folding(3, 1, 1, 3, 1, 1)], 2, "medium"),
    (2, (10,), (40,), [folding(10, 1, 2, 1, 2, 5)], 3, "all"),
]


def some(*quick: int) -> list[Any]:
    """The designs, all but a few of them slow."""
    return [design if n in quick else pytest.param(*design, marks=pytest.mark.slow)
            for n, design in enumerate(DESIGNS)]


@pytest.mark.parametrize(("inputs", "hidden", "projected", "foldings", "streams", "pipeline"),
                         some(0, 6, 10))
def test_every_bit(inputs: int, hidden: tuple[int, ...], projected: tuple[int | None, ...],
                   foldings: list[Folding], streams: int, pipeline: str) -> None:
    """Outputs, c, m and h of all streams, and the flags; sequences of one step among others."""
    rng = np.random.default_rng(1)
    network = random_network(rng, FORMATS["8 bits"], inputs, hidden, 2, every_step=streams == 2,
                             size=0.5, projected=projected)
    sequences = [random_sequences(rng, network, 3, 1, 1, 1, 4, 1) for _ in range(streams)]
    dut = Network(network, foldings=foldings, streams=streams, pipeline=TRIED[pipeline])
    assert dut.saturation == list(network.saturating)
    words = sum(len(expected_words(network, some)) for some in sequences)
    seen = run_network(dut, [], beats=interleaved(dut, sequences), outputs=words,
                       stall=0.3 if streams > 1 else 0)
    check(network, sequences, seen)


@pytest.mark.parametrize(("inputs", "hidden", "projected", "foldings", "streams", "pipeline"),
                         some(1, 5, 12))
def test_model_equals_hardware(inputs: int, hidden: tuple[int, ...],
                               projected: tuple[int | None, ...], foldings: list[Folding],
                               streams: int, pipeline: str) -> None:
    check_hardware(inputs, hidden, foldings, 0, 0, streams, pipeline, projected)


@pytest.mark.parametrize("after", [1, 8, 17])
def test_reset_and_states_to_begin_with(after: int) -> None:
    """Formats as calibration picks them; nothing from before a reset shows after it."""
    rng = np.random.default_rng(6)
    float_network = FloatNetwork(
        layers=(LSTM(w_x=rng.uniform(-1.5, 1.5, (20, 3)), w_h=rng.uniform(-1, 1, (20, 2)),
                     bias=rng.uniform(-1, 1, 20), projection=rng.uniform(-3, 3, (2, 5)),
                     initial_h=np.array([2.5, -1]), initial_c=np.linspace(1.5, -1, 5)),),
        head=(Dense(w=rng.uniform(-1, 1, (2, 2)), bias=rng.uniform(-1, 1, 2)),), every_step=True)
    # Formats from tame data, so that wilder ones saturate.
    network = quantize(float_network, rng.uniform(-0.2, 0.2, (16, 8, 3)), bits=10)
    dut = Network(network, foldings=folded(network, 2, 2, pipeline=FAST), pipeline=FAST)
    sequences = random_sequences(rng, network, 4, 1, 3)
    seen = run_network(dut, sequences, outputs=8, reset_after=after, stall=0.2, quiet=100)
    check(network, [sequences], seen)


COLLISIONS = [(1, "short"), (3, "medium"), (4, "fast")]


@pytest.mark.parametrize(("design", "pipeline"), [*COLLISIONS, *(
    pytest.param(design, pipeline, marks=pytest.mark.slow)
    for design in (1, 3, 4, 5, 8, 12) for pipeline in PIPELINES
    if (design, pipeline) not in COLLISIONS)])
def test_no_word_is_needed_in_the_cycle_of_its_writing(
        design: int, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, hidden, projected, foldings, streams, _ = DESIGNS[design]
    monkeypatch.setattr(RAM, "elaborate", poisoned)
    # Every memory is a deep one.
    monkeypatch.setattr("hdl.column_cycles.SHALLOW", 0)
    rng = np.random.default_rng(4)
    network = random_network(rng, FORMATS["8 bits"], inputs, hidden, 1, every_step=True, size=0.5,
                             projected=projected)
    dut = Network(network, foldings=foldings, streams=streams, pipeline=PIPELINES[pipeline],
                  head_folding=DenseFolding(rows=1, columns=network.directions[-1].outputs))
    sequences = [random_sequences(rng, network, 1, 5, 1, 1, 3) for _ in range(streams)]
    words = [expected_words(network, each) for each in sequences]
    seen = run_network(dut, [], beats=interleaved(dut, sequences), outputs=sum(map(len, words)))
    assert [seen.of(stream) for stream in range(streams)] == words


@pytest.mark.parametrize(("inputs", "hidden", "projected", "foldings", "streams", "pipeline"),
                         some(11))
def test_what_it_takes(inputs: int, hidden: tuple[int, ...], projected: tuple[int | None, ...],
                       foldings: list[Folding], streams: int, pipeline: str) -> None:
    """Memories and multipliers of the model are those in the Verilog."""
    network = random_network(np.random.default_rng(0), FORMATS["8 bits"], inputs, hidden, 2,
                             every_step=True, projected=projected)
    dut = Network(network, foldings=foldings, streams=streams, pipeline=TRIED[pipeline])
    text, manifest = generate(dut)
    assert Counter(modelled_memories(dut)) == declared_memories(text)
    blocks = re.findall(r"^ *MULT18X18D #", generate(dut, family="ecp5")[0], re.M)
    engines = [engine.cycles for engine in dut.engines]
    assert len(blocks) == sum(k.multipliers for k in engines) + dut.behind.multipliers
    for n, (k, told) in enumerate(zip(engines, manifest["layers"], strict=False)):
        assert sum(told["multipliers"].values()) == k.multipliers
        assert ("projection" in told["folding"]) == (projected[n] is not None)
        assert ("w_r" in told["formats"]) == (projected[n] is not None)
        shown = [probe["tensor"] for probe in manifest["probes"] if probe["layer"] == n]
        assert shown == (["c", "h"] if projected[n] is None else ["c", "m", "h"])


@pytest.mark.parametrize(("inputs", "hidden", "projected", "multipliers", "steps", "pipeline"), [
    (1, 8, 8, 40, 3, "short"),
    pytest.param(1, 4, 6, 16, 2, "medium", marks=pytest.mark.slow)])
def test_back_to_back_sequences(inputs: int, hidden: int, projected: int, multipliers: int,
                                steps: int, pipeline: str) -> None:
    """Neither the projection nor a head by default makes a sequence wait as it begins."""
    rng = np.random.default_rng(0)
    network = random_network(rng, FORMATS["8 bits"], inputs, (hidden,), 2, every_step=True,
                             projected=(projected,))
    chosen = choose_folding(inputs, hidden, multipliers=multipliers, projected=projected,
                            pipeline=PIPELINES[pipeline])
    dut = Network(network, foldings=[chosen], pipeline=PIPELINES[pipeline])
    seen = run_network(dut, random_sequences(rng, network, *[steps] * 6), outputs=6 * steps,
                       quiet=0)
    ends = [end for _, end in seen.steps_of("lstm0.h", 0, projected)][steps - 1::steps]
    k = dut.engines[0].cycles
    assert set(np.diff(ends[2:]).tolist()) == {steps * k.work + (steps - 1) * k.bubble}


def test_bubble() -> None:
    """The formula equals a schedule that waits for each operand."""
    tried = set()
    for inputs, hidden, states in ((1, 6, 3), (6, 6, 6), (20, 4, 2), (2, 3, 7)):
        for units in range(1, hidden + 1):
            for columns in range(1, inputs + states + 1, 2):
                for pipeline in (SHORT, FAST):
                    chosen = choose_drain(inputs, hidden, units=units, columns=columns,
                                          pipeline=pipeline, projected=states)
                    k = LSTMCycles(inputs=inputs, hidden=hidden, folding=chosen, pipeline=pipeline,
                                   projected=states)
                    assert k.projection is not None
                    rows = k.projection.folding.rows
                    # The last m, the projection's own way, and the passes one after the other.
                    last = k.emitted - k.projection.work
                    usable = [last + (state // rows + 1) * k.projection.words
                              + pipeline.feedback - 1 for state in range(states)]
                    start = k.work
                    while any(start + (inputs + state) // columns < usable[state]
                              for state in range(states)):
                        start += 1
                    assert start == k.step
                    assert k.usable == usable[-1]
                    assert k.first == last + k.projection.words
                    tried.add(k.bubble > 0)
    assert True in tried


def test_choice_of_a_projection() -> None:
    """None that is as quick has fewer multipliers, and no other makes a better layer."""
    for hidden, states in ((12, 5), (7, 7), (3, 16)):
        kept = projections(hidden, states)
        assert DenseFolding(rows=1, columns=1) in kept
        for rows in range(1, states + 1):
            for columns in range(1, hidden + 1):
                work = ceil(states / rows) * ceil(hidden / columns)
                assert any(one.multipliers <= rows * columns
                           and ceil(states / one.rows) * ceil(hidden / one.columns) <= work
                           for one in kept)

    def model(folding: Folding) -> LSTMCycles:
        return LSTMCycles(inputs=3, hidden=12, projected=5, folding=folding)

    chosen = [choose_folding(3, 12, projected=5, multipliers=16, fastest=fastest)
              for fastest in (False, True)]
    thrifty, fast = (model(one) for one in chosen)
    assert fast.round <= thrifty.round
    assert fast.multipliers >= thrifty.multipliers
    for rows in range(1, 6):
        for columns in range(1, 13):
            for one, k in zip(chosen, (thrifty, fast), strict=True):
                try:
                    other = model(Folding(
                        units=one.units, columns=one.columns, lanes=one.lanes,
                        interval=one.interval, projection=DenseFolding(rows=rows,
                                                                       columns=columns)))
                except ValueError:
                    continue
                if k is fast:
                    assert (other.round, other.multipliers) >= (k.round, k.multipliers)
                else:
                    assert other.round * other.multipliers >= k.round * k.multipliers


@pytest.mark.parametrize("goal", [{"array": 16}, {"fastest": True}, {"rate": 1e6},
                                  {"latency": 2.0}, {"units": 2, "columns": 1}])
def test_choice_of_a_network(goal: dict[str, Any]) -> None:
    """What is chosen for any goal is what is built, and keeps its promise."""
    rng = np.random.default_rng(2)
    network = random_network(rng, STANDARD, 3, (6, 4), 2, every_step=False, projected=(3, None))
    stack = Stack.of(network)
    assert [layer.projected for layer in stack.layers] == [3, None]
    limits = Limits(multipliers=60, memories=100, blocks=lambda depth, width: ceil(width / 36),
                    logic_words=64)
    choice = choose(stack, limits=limits, clocks={"short": 100, "fast": 200}, **goal)
    dut = Network(network, foldings=choice.foldings, head_folding=choice.head,
                  pipeline=PIPELINES[choice.pipeline])
    assert choice.multipliers == dut.behind.multipliers + sum(
        engine.cycles.multipliers for engine in dut.engines)
    assert choice.cycles == dut.step
    assert choice.latency == dut.whole_latency
    assert "and its projection of" in " ".join(choice.why)
    assert choice.as_dict()["foldings"][0]["projection"] is not None
    parts = lstm_parts(stack.layers[0], pipeline=SHORT, streams=1, limits=limits)
    assert len({part.folding.projection for part in parts}) > 3


@pytest.mark.parametrize(("given", "projected", "text"), [
    (Folding(units=1, columns=1, lanes=1, interval=1), 3,
     "folding projection must be given, as the layer has one, not None"),
    (folding(1, 1, 1, 1, 1, 1), None,
     "folding projection must be None, as the layer has none, not DenseFolding(rows=1, columns=1)"),
    (folding(1, 6, 1, 1, 1, 1), 3,
     "folding columns must be at most the 5 columns of [x, h], not 6"),
    (folding(1, 1, 1, 1, 4, 1), 3,
     "the projection's rows and columns must be at most the 3 by 4 of its matrix, not 4 by 1"),
    (folding(1, 1, 1, 1, 1, 5), 3,
     "the projection's rows and columns must be at most the 3 by 4 of its matrix, not 1 by 5"),
    (folding(2, 1, 1, 1, 1, 1), 3,
     "the projection must take at most the 10 cycles of a step, not 3 passes of 4"),
])
def test_folding_that_does_not_fit(given: Folding, projected: int | None, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        LSTMCycles(inputs=2, hidden=4, folding=given, projected=projected)


def test_outputs_at_once_have_no_bias() -> None:
    layer = QuantizedDense(formats=DenseFormats(x=STANDARD.h, w=STANDARD.w_h, y=STANDARD.h),
                           w=random_codes(np.random.default_rng(0), STANDARD.w_h, (2, 3)),
                           bias=np.array([0, 1]))
    text = "a dense layer that hands its outputs out directly must have no bias"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        DenseEngine(layer, folding=DenseFolding(rows=1, columns=1), counts=(1,) * 3, direct=True)
