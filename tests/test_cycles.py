"""The cycle model against schedules that wait for each operand, and against the hardware."""

import re
from collections import Counter
from dataclasses import fields, replace
from itertools import pairwise, product
from math import ceil
from typing import Any

import numpy as np
import pytest

from benchmarks.engine_memories import memory_bits, modelled_memories
from golden.calibrate import quantize
from golden.function import IDENTITY, RELU, SIGMOID, TANH, Function
from golden.lstm import LSTM
from golden.model import Dense
from golden.model import Network as FloatNetwork
from hdl.choice import choose
from hdl.cycles import Folding, LSTMCycles, head_budget
from hdl.dense_cycles import DenseCycles, DenseFolding, choose_dense_folding
from hdl.drain_timing import DrainTiming
from hdl.foldings import Limits, choose_drain, choose_folding
from hdl.memories import DenseWidths, Widths, bias_widths, dense_memories, lstm_memories
from hdl.network import Network
from hdl.pipeline import FAST, MEDIUM, PIPELINE_LIMITS, PIPELINES, SHORT, Pipeline
from hdl.search import Stack
from hdl.verilog import generate
from tests.cases import sparse, thinned
from tests.networks import FORMATS, folded, peepholed, random_network, random_sequences
from tests.streams import interleaved, run_network

INTERVALS = range(1, 41)
# Each register that there can be, on its own and with others.
TRIED = {
    **PIPELINES,
    "before the tables": Pipeline(operand=2, sums=1, bias=2, memory=2),
    "behind them": Pipeline(product=1, table=6, multiplier=3, feedback=1),
    "roundings": Pipeline(operand=1, preactivation=2, table=8, rounding=2, memory=2, feedback=2),
    "all": Pipeline(**{name: most for name, (_, most) in PIPELINE_LIMITS.items()}),
}


def uses(timing: DrainTiming) -> list[tuple[str, int]]:
    """Which unit a drained unit uses, and when, in all lanes' worth of detail."""
    early = 3 if timing.peepholes else 4
    shown = [(f"table {gate % timing.gate_tables}", timing.preactivation[gate])
             for gate in range(early)]
    shown.append(("table 0" if timing.shared_table else "table of tanh(c')", timing.state))
    if timing.peepholes:
        # The output gate comes last: with tanh(c') if that is long before, or by itself.
        own = timing.interval <= timing.preactivation[3] - timing.state
        shown.append(("table of o" if own else shown[-1][0], timing.preactivation[3]))
        shown += [(f"multiplier of the peephole of {'if'[n % timing.gate_tables]}", timing.slot(n))
                  for n in range(2)]
        shown.append((shown[-1][0] if timing.shared_peephole else "multiplier of o's peephole",
                      timing.state))
    shown.append(("multiplier 0", timing.forget_product))
    shown.append(("multiplier 0" if timing.shared_product else "multiplier 1",
                  timing.input_product))
    shown.append(("multiplier 0" if timing.shared_multiplier else "multiplier of o",
                  timing.squashed))
    return shown


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("interval", INTERVALS)
def test_units_never_meet(interval: int, name: str, peepholes: bool) -> None:
    """Units at any distance from the interval on never use a table or multiplier together."""
    timing = DrainTiming(interval, TRIED[name], peepholes)
    mine = uses(timing)
    assert len(set(mine)) == len(mine)
    for distance in range(interval, interval + 100):
        assert not {(name, at + distance) for name, at in mine} & set(mine), distance
    assert timing.tables == len({name for name, _ in mine if name.startswith("table")})
    assert timing.state_multipliers == len({name for name, _ in mine if "multiplier" in name})


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("interval", INTERVALS)
def test_order(interval: int, name: str, peepholes: bool) -> None:
    """Nothing is used before it is there."""
    pipeline = TRIED[name]
    timing = DrainTiming(interval, pipeline, peepholes)
    # The cell state before the step enters a multiplier in cycle 0, and the new one with o.
    assert timing.summed >= pipeline.bias
    if peepholes:
        assert timing.summed >= pipeline.multiplier + 1
        assert timing.peeped >= timing.state + pipeline.multiplier + 1
        assert timing.preactivation[3] >= timing.peeped + pipeline.preactivation
    assert timing.preactivation[0] >= timing.summed + pipeline.preactivation
    assert all(there == entered + pipeline.table
               for entered, there in zip(timing.preactivation, timing.gate, strict=True))
    assert timing.forget_product >= timing.gate[1]
    assert timing.input_product >= max(timing.gate[0], timing.gate[2])
    # Both products, their sum, its rounding.
    assert (timing.state >= max(timing.forget_product, timing.input_product)
            + pipeline.multiplier + 1 + pipeline.rounding)
    assert timing.squashed >= max(timing.gate[3], timing.state + pipeline.table)
    assert timing.hidden >= timing.squashed + pipeline.multiplier + pipeline.rounding


@pytest.mark.parametrize(("pipeline", "interval", "cycles"), [
    ("short", 1, (2, 7, 11, 16, 19)), ("short", 2, (2, 8, 12, 17, 20)),
    ("short", 3, (2, 8, 12, 17, 20)), ("short", 4, (2, 9, 13, 18, 21)),
    ("short", 11, (2, 9, 13, 18, 21)), ("short", 12, (2, 9, 13, 18, 21)),
    ("medium", 1, (4, 11, 16, 23, 27)), ("medium", 2, (4, 12, 17, 24, 28)),
    ("medium", 3, (4, 12, 17, 24, 28)), ("medium", 4, (4, 13, 18, 25, 29)),
    ("medium", 14, (4, 13, 18, 25, 29)), ("medium", 15, (4, 13, 18, 25, 29)),
    ("fast", 1, (4, 12, 18, 26, 31)), ("fast", 2, (4, 13, 19, 27, 32)),
    ("fast", 3, (4, 13, 19, 27, 32)), ("fast", 4, (4, 14, 20, 28, 33)),
    ("fast", 16, (4, 14, 20, 28, 33)), ("fast", 17, (4, 14, 20, 28, 33))])
def test_stages_as_documented(pipeline: str, interval: int, cycles: tuple[int, ...]) -> None:
    """The table in docs/machine.md."""
    timing = DrainTiming(interval, PIPELINES[pipeline])
    assert (timing.preactivation[0], timing.input_product, timing.state, timing.squashed,
            timing.hidden) == cycles
    assert (timing.shared_table and timing.shared_multiplier) == (
        interval >= {"short": 12, "medium": 15, "fast": 17}[pipeline])


@pytest.mark.parametrize(("pipeline", "interval", "cycles"), [
    ("short", 1, (4, 9, 13, 17, 22, 25)), ("short", 3, (4, 10, 14, 18, 23, 26)),
    ("short", 4, (4, 11, 15, 19, 24, 27)), ("medium", 1, (5, 12, 17, 22, 29, 33)),
    ("medium", 40, (5, 14, 19, 24, 31, 35)), ("fast", 1, (6, 14, 20, 26, 34, 39)),
    ("fast", 4, (6, 16, 22, 28, 36, 41))])
def test_stages_of_peepholes_as_documented(pipeline: str, interval: int, cycles: tuple[int, ...]
                                           ) -> None:
    """What docs/machine.md says of them."""
    timing = DrainTiming(interval, PIPELINES[pipeline], True)
    assert (timing.preactivation[0], timing.input_product, timing.state, timing.preactivation[3],
            timing.squashed, timing.hidden) == cycles
    least = {"short": (5, 15), "medium": (6, 19), "fast": (7, 22)}[pipeline]
    for n in range(4, 60):
        timing = DrainTiming(n, PIPELINES[pipeline], True)
        assert (timing.table_of[3] == timing.table_of[4]) == (n >= least[0])
        assert timing.shared_table == (timing.tables == 1) == (
            n > timing.preactivation[3] - timing.preactivation[0])
        assert timing.peephole_multipliers == (1 if n > timing.state else 2)


def test_array_latency() -> None:
    """The memories, two in the multipliers, the adder tree; MEDIUM and FAST have four more."""
    levels = {1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 8: 3, 9: 4}
    for columns, cycles in levels.items():
        assert SHORT.array_latency(columns) == 3 + cycles
        assert MEDIUM.array_latency(columns) == FAST.array_latency(columns) == 7 + cycles
    assert Pipeline(operand=2).array_latency(2) == 6


@pytest.mark.parametrize(("name", "low", "high"), [
    ("operand", 0, 2), ("product", 0, 1), ("sums", 0, 1), ("bias", 1, 2),
    ("preactivation", 1, 2), ("table", 5, 8), ("multiplier", 2, 3), ("rounding", 1, 2),
    ("memory", 1, 2), ("feedback", 0, 2)])
def test_wrong_pipeline(name: str, low: int, high: int) -> None:
    assert getattr(SHORT, name) == low
    assert getattr(TRIED["all"], name) == high
    for value in range(low, high + 1):
        assert getattr(Pipeline(**{name: value}), name) == value
    wrongs: list[Any] = [low - 1, high + 1, float(low), str(low), None]
    for wrong in wrongs:
        text = f"pipeline {name} must be an integer from {low} to {high}, not {wrong!r}"
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            Pipeline(**{name: wrong})


def test_every_register_costs_its_cycle() -> None:
    """What lies between a column and its h makes D longer by one, whichever register it is."""
    folding = Folding(units=2, columns=2, lanes=1, interval=2)

    def drain(pipeline: Pipeline) -> int:
        return LSTMCycles(inputs=2, hidden=7, folding=folding, pipeline=pipeline).drain

    # A table and a multiplier are passed twice: gates and tanh(c'), the products and o tanh(c').
    twice = {"table", "multiplier", "rounding"}
    for field in fields(Pipeline):
        least = getattr(SHORT, field.name)
        longer = drain(replace(SHORT, **{field.name: least + 1}))
        # A memory is read ahead of need.
        assert longer - drain(SHORT) == (0 if field.name == "memory" else
                                         2 if field.name in twice else 1), field.name


@pytest.mark.parametrize(("inputs", "hidden", "units", "columns", "lanes", "streams", "is_deep"), [
    (65, 2, 2, 1, 2, 1, True), (64, 2, 2, 1, 2, 1, False), (64, 2, 2, 1, 2, 2, True),
    (3, 65, 8, 1, 1, 1, True), (1, 9, 9, 1, 1, 4, False), (1, 9, 9, 1, 1, 5, True),
    (1, 66, 1, 8, 1, 1, True), (200, 4, 4, 4, 4, 1, False),
    # As many words side by side as the lanes need.
    (3, 65, 8, 1, 8, 1, False), (1, 9, 9, 1, 9, 5, False),
    # h begins within a word, and takes one more for that.
    (4, 128, 8, 2, 2, 1, False), (3, 128, 8, 2, 2, 1, True)])
def test_deep_memories(inputs: int, hidden: int, units: int, columns: int, lanes: int,
                       streams: int, is_deep: bool) -> None:
    """x, h or c with more than 64 words, a power of two for each stream."""
    folding = Folding(units=units, columns=columns, lanes=lanes, interval=1)
    for pipeline in (SHORT, FAST):
        k = LSTMCycles(inputs=inputs, hidden=hidden, folding=folding, pipeline=pipeline,
                       streams=streams)
        assert k.memory == (2 if is_deep and pipeline is FAST else 1)
        assert k.latency == k.emitted + 2 + k.memory


def schedule(cycles: LSTMCycles, busy: tuple[int, ...], steps: int = 8
             ) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """When each step of each busy stream begins, by waiting, and when its last h are usable.

    A step begins when the array is free and each operand will be there when its column is; of
    those that may, the next after the stream before.
    """
    f, streams = cycles.folding, cycles.streams
    inputs, hidden = cycles.inputs, cycles.hidden
    passes, words = ceil(hidden / f.units), ceil((inputs + hidden) / f.columns)
    starts: dict[int, list[int]] = {stream: [] for stream in busy}
    usable: dict[int, list[int]] = {stream: [0] * hidden for stream in busy}
    now, before = 0, streams - 1
    while any(len(some) < steps for some in starts.values()):
        may = [stream for ahead in range(1, streams + 1)
               if (stream := (before + ahead) % streams) in starts
               and all(now + (inputs + unit) // f.columns >= usable[stream][unit]
                       for unit in range(hidden))]
        if not may:
            now += 1
            continue
        before = may[0]
        starts[before].append(now)
        for unit in range(hidden):
            of_pass, within = divmod(unit, f.units)
            last_column = now + (of_pass + 1) * words - 1
            usable[before][unit] = (last_column + cycles.drain
                                    + within // f.lanes * f.interval)
        now += passes * words
    return starts, usable


def distances(starts: list[int]) -> set[int]:
    return {b - a for a, b in pairwise(starts)}


@pytest.mark.parametrize("name", ["short", "fast", "before the tables"])
@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (1, 20), (6, 20), (3, 7), (40, 4), (2, 31)])
def test_bubble(inputs: int, hidden: int, name: str) -> None:
    """The formulas equal a schedule that waits for each operand."""
    tried = 0
    for units, columns in product(range(1, hidden + 1, 1 + hidden // 20),
                                  range(1, inputs + hidden + 1, 3)):
        folding = choose_drain(inputs, hidden, units=units, columns=columns, pipeline=TRIED[name])
        cycles = LSTMCycles(inputs=inputs, hidden=hidden, folding=folding, pipeline=TRIED[name])
        starts, usable = schedule(cycles, (0,), steps=6)
        assert distances(starts[0]) == {cycles.step}
        assert cycles.step == cycles.work + cycles.bubble == cycles.round
        # Through its memory, it can be read in the cycle after it is written.
        written = cycles.pipeline.feedback - 1
        assert cycles.first == usable[0][0] - written - starts[0][-1]
        assert cycles.emitted == usable[0][-1] - written - starts[0][-1]
        assert sum(cycles.counts) == hidden
        assert len(cycles.counts) == cycles.passes * cycles.groups
        tried += 1
    assert tried >= 1


@pytest.mark.parametrize("name", ["short", "fast"])
@pytest.mark.parametrize("streams", [2, 3, 5, 8])
@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (3, 7), (1, 11), (13, 2)])
def test_round(inputs: int, hidden: int, streams: int, name: str) -> None:
    """However many streams are busy: each makes a step when the array and its own h allow."""
    filled = set()
    for units, columns in product(range(1, hidden + 1), range(1, inputs + hidden + 1, 2)):
        folding = choose_drain(inputs, hidden, units=units, columns=columns,
                               pipeline=TRIED[name], streams=streams)
        cycles = LSTMCycles(inputs=inputs, hidden=hidden, folding=folding, pipeline=TRIED[name],
                            streams=streams)
        filled.add(cycles.round > cycles.step)
        for busy in {1, streams // 2, streams - 1, streams}:
            # The last ones, so that idle ones have to be passed over.
            starts, _ = schedule(cycles, tuple(range(streams - busy, streams)))
            wanted = max(busy * cycles.work, cycles.step)
            assert all(distances(some) == {wanted} for some in starts.values())
            if busy in (1, streams):
                assert wanted == {1: cycles.step, streams: cycles.round}[busy]
    # Streams fill the bubble of some foldings, but not of a layer as small as can be.
    assert (True in filled) == (hidden > 1)


def test_four_multipliers() -> None:
    """The smallest engine: one row, everything in the drain shared."""
    folding = Folding(units=1, columns=1, lanes=1, interval=21)
    cycles = LSTMCycles(inputs=1, hidden=20, folding=folding)
    assert folding.multipliers == 4
    assert cycles.work == cycles.passes * cycles.words == 420
    assert (cycles.timing.tables, cycles.timing.state_multipliers) == (1, 1)
    assert cycles.tables == 1
    assert cycles.multipliers == 4 + 1 + 1


def test_a_fast_drain() -> None:
    """Everything in the drain for each gate, in each of four lanes."""
    folding = Folding(units=20, columns=4, lanes=4, interval=1)
    cycles = LSTMCycles(inputs=1, hidden=20, folding=folding)
    assert (cycles.timing.tables, cycles.timing.state_multipliers) == (5, 3)
    assert cycles.tables == 20
    assert cycles.multipliers == 4 * 20 * 4 + 4 * (5 + 3)


@pytest.mark.parametrize(("interval", "tables", "state"), [
    (1, 5, 3), (2, 3, 2), (3, 3, 2), (4, 2, 2), (10, 2, 2), (11, 2, 1), (12, 1, 1), (40, 1, 1)])
def test_units_of_a_lane(interval: int, tables: int, state: int) -> None:
    timing = DrainTiming(interval)
    assert (timing.tables, timing.state_multipliers) == (tables, state)


def test_use() -> None:
    """All of the array in all cycles, where it divides the layer and streams fill the bubble."""
    folding = Folding(units=2, columns=3, lanes=1, interval=1)
    streams = 1
    while (k := LSTMCycles(inputs=2, hidden=4, folding=folding, streams=streams)).use < 1:
        # 4 * 4 * 6 products a step.
        assert k.use == pytest.approx(streams * 96 / (24 * k.round))
        assert k.round == k.step
        streams += 1
    assert k.use == 1
    assert k.round == streams * k.work
    assert (streams - 1) * k.work < k.step <= streams * k.work
    # What a last pass and a last column leave unused: 5 of 6 units, 7 of 8 columns.
    k = LSTMCycles(inputs=2, hidden=5, streams=20,
                   folding=Folding(units=2, columns=4, lanes=2, interval=1))
    assert k.use == pytest.approx(5 / 6 * 7 / 8)


@pytest.mark.parametrize(("values", "text"), [
    ({"units": 0, "columns": 1, "lanes": 1, "interval": 1},
     "folding units must be a positive integer, not 0"),
    ({"units": 1, "columns": 1.5, "lanes": 1, "interval": 1},
     "folding columns must be a positive integer, not 1.5"),
])
def test_wrong_folding(values: dict, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Folding(**values)


@pytest.mark.parametrize(("folding", "text"), [
    (Folding(units=5, columns=1, lanes=1, interval=1),
     "folding units must be at most the 4 hidden units, not 5"),
    (Folding(units=1, columns=7, lanes=1, interval=1),
     "folding columns must be at most the 6 columns of [x, h], not 7"),
    (Folding(units=2, columns=1, lanes=3, interval=1),
     "folding lanes must be at most the 2 units, not 3"),
    (Folding(units=4, columns=1, lanes=1, interval=2),
     "the drain must take at most the 6 cycles of a pass, not 4 units a lane at 2 cycles each"),
])
def test_folding_that_does_not_fit(folding: Folding, text: str) -> None:
    rng = np.random.default_rng(0)
    network = random_network(rng, FORMATS["8 bits"], 2, (4,), 1, every_step=True)
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        LSTMCycles(inputs=2, hidden=4, folding=folding)
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Network(network, foldings=[folding])


@pytest.mark.parametrize("streams", [0, -1, 1.0, "2"])
def test_wrong_streams(streams: int) -> None:
    text = f"LSTM streams must be a positive integer, not {streams!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        LSTMCycles(inputs=2, hidden=4, streams=streams,
                   folding=Folding(units=1, columns=1, lanes=1, interval=1))


@pytest.mark.parametrize(("outputs", "budget", "rows", "columns"), [
    (1, 20, 1, 1),      # exactly one column a cycle
    (1, 19, 1, 2),
    (3, 60, 1, 1),
    (3, 59, 1, 2),
    (4, 10, 4, 2),      # eight multipliers either way; the fewest rows come first
    (2, 1, 2, 20),      # all at once
])
def test_dense_folding(outputs: int, budget: int, rows: int, columns: int) -> None:
    folding = choose_dense_folding(20, outputs, budget)
    assert -(-outputs // folding.rows) * -(-20 // folding.columns) <= budget
    assert folding.rows * folding.columns == rows * columns
    smaller = [(r, c) for r in range(1, outputs + 1) for c in range(1, 21)
               if r * c < rows * columns and -(-outputs // r) * -(-20 // c) <= budget]
    assert not smaller
    assert isinstance(folding, DenseFolding)


def drained(units: int, columns: int, lanes: int, interval: int) -> Folding:
    return Folding(units=units, columns=columns, lanes=lanes, interval=interval)


# Inputs, hidden units of each layer, units and columns in parallel.
SHAPES = [
    (1, (1,), 1, 1), (1, (1,), 1, 2), (4, (1,), 1, 3), (1, (2,), 2, 3), (1, (5,), 1, 1),
    (2, (3,), 3, 5), (3, (7,), 2, 3), (7, (3,), 1, 10), (5, (2,), 1, 4), (2, (7,), 5, 4),
    (1, (11,), 4, 3), (13, (2,), 2, 5), (2, (5,), 5, 1), (2, (4,), 4, 1), (3, (4,), 1, 4),
    (40, (1,), 1, 1),
]
# Memories of more than 64 words.
DEEP = [(1, (9,), 9, 1, 5, "medium"), (1, (9,), 3, 2, 9, "fast"), (80, (2,), 2, 1, 1, "medium"),
        (2, (9,), 9, 1, 5, "all"), (70, (1, 2), 1, 1, 1, "fast"), (1, (33,), 11, 1, 2, "medium"),
        (3, (9,), 2, 3, 33, "roundings")]
OTHERS = tuple(name for name in TRIED if name not in ("short", "fast"))
STACKS = [(2, (5, 3), 2, 2), (1, (2, 5), 1, 3), (1, (3, 1, 2), 1, 1)]
DESIGNS = [
    (*shape, streams, pipeline)
    for n, shape in enumerate(SHAPES)
    for streams, pipeline in ((1, "short"), ((2, 3, 5)[n % 3], "fast"),
                              ((5, 1, 3, 2)[n % 4], OTHERS[n % len(OTHERS)]))
] + [(*shape, streams, pipeline) for shape in STACKS
     for streams, pipeline in ((1, "fast"), (2, "short"))] + DEEP
# Inputs, hidden units, and a drain that nobody would choose.
DRAINS = [
    (6, 6, Folding(units=3, columns=2, lanes=3, interval=2), 2, "short"),
    (6, 6, Folding(units=6, columns=2, lanes=6, interval=5), 1, "fast"),
    (9, 5, Folding(units=5, columns=1, lanes=2, interval=4), 3, "short"),
    (13, 3, Folding(units=1, columns=1, lanes=1, interval=12), 2, "short"),
    (14, 2, Folding(units=1, columns=1, lanes=1, interval=16), 2, "fast"),
    (14, 2, Folding(units=1, columns=1, lanes=1, interval=11), 1, "short"),
    (5, 5, Folding(units=5, columns=2, lanes=3, interval=1), 5, "behind them"),
]


def check_hardware(inputs: int, hidden: tuple[int, ...], foldings: list[Folding] | None, units: int,
                   columns: int, streams: int, pipeline: str,
                   projected: tuple[int | None, ...] = (), peepholes: bool = False) -> None:
    """Every figure of the model, from one run: a step alone, a stream alone, all streams."""
    rng = np.random.default_rng(0)
    network = random_network(rng, FORMATS["8 bits"], inputs, hidden, 1, every_step=False,
                             projected=projected)
    if peepholes:
        network = peepholed(rng, network)
    foldings = foldings or folded(network, units, columns, pipeline=TRIED[pipeline],
                                  streams=streams)
    dut = Network(network, foldings=foldings, pipeline=TRIED[pipeline], streams=streams)
    layers, last = len(hidden), streams - 1
    # A stack takes some steps to find its pace.
    steps, settled = (4, 0) if layers == 1 else (3 + 3 * layers, 3 * layers)
    pause = 3 * layers * dut.alone + dut.latency
    idle: list[list[np.ndarray]] = [[] for _ in range(last)]
    beats: list[tuple[int, bool, int] | int]
    beats = [*interleaved(dut, [*idle, random_sequences(rng, network, 1)]), pause,
             *interleaved(dut, [*idle, random_sequences(rng, network, steps, 1, 3)])]
    outputs = 4
    if streams > 1:
        together = [random_sequences(rng, network, steps) for _ in range(streams)]
        beats += [pause, *interleaved(dut, together)]
        outputs += streams
    seen = run_network(dut, [], beats=beats, outputs=outputs, quiet=0)

    assert seen.given[0] - seen.taken[0] == dut.latency
    taken = seen.taken[0]
    for n, engine in enumerate(dut.engines):
        k, t = engine.cycles, engine.cycles.timing
        h, c = seen.states[f"lstm{n}.h"], seen.states[f"lstm{n}.c"]
        of_layer = seen.steps_of(f"lstm{n}.h", last, k.outputs)
        first, emitted = of_layer[0]
        # A step is decided on, and its first column enters when it has been read but for a cycle.
        entry = 1 + k.memory
        assert first - taken == entry + k.first
        assert emitted - taken == entry + k.emitted == k.latency - 1
        # A register lies between the layers.
        taken = emitted + 1
        if k.projection:
            places = [(a_pass * k.projection.words, count)
                      for a_pass, count in enumerate(k.counts)]
            for at in range(0, len(h), len(places)):
                assert [(now - h[at][0], len(codes))
                        for now, _, codes in h[at:at + len(places)]] == places
            h = seen.states[f"lstm{n}.m"]
        # Where each beat of a step lies, from its first on.
        places = [(a_pass * k.words + group * k.folding.interval, count)
                  for (a_pass, group), count in zip(
                      product(range(k.passes), range(k.groups)), k.drained, strict=True) if count]
        assert places[-1][0] == k.draining
        for at in range(0, len(h), len(places)):
            assert [(now - h[at][0], len(codes))
                    for now, _, codes in h[at:at + len(places)]] == places
        assert [(now + t.hidden - t.state, stream, len(codes)) for now, stream, codes in c] == [
            (now, stream, len(codes)) for now, stream, codes in h]

        ends = [end for _, end in of_layer]
        long = np.diff(ends[1:1 + steps])[settled:].tolist()
        assert set(long) == {dut.alone}, long
        if layers == 1:
            assert dut.alone == k.step
            # Two sequences that begin, and a second step. x of the second of them goes where that
            # of the step before the first was: a page to be emptied and filled.
            assert np.diff(ends[steps:steps + 4]).tolist() == [k.work, k.work, k.step]
    if streams > 1:
        for stream in range(streams):
            ends = [end for _, end in seen.steps_of(f"lstm{layers - 1}.h", stream,
                                                    dut.engines[-1].cycles.outputs)]
            assert set(np.diff(ends[-steps:])[settled:].tolist()) == {dut.step}
    assert dut.step == max(engine.cycles.round for engine in dut.engines)


@pytest.mark.parametrize(("inputs", "hidden", "units", "columns", "streams", "pipeline"),
                         sparse(DESIGNS, every=8))
def test_model_equals_hardware(inputs: int, hidden: tuple[int, ...], units: int, columns: int,
                               streams: int, pipeline: str) -> None:
    check_hardware(inputs, hidden, None, units, columns, streams, pipeline)


@pytest.mark.parametrize(("inputs", "hidden", "folding", "streams", "pipeline"),
                         sparse(DRAINS, every=2))
def test_model_equals_hardware_with_any_drain(inputs: int, hidden: int, folding: Folding,
                                              streams: int, pipeline: str) -> None:
    check_hardware(inputs, (hidden,), [folding], 0, 0, streams, pipeline)


@pytest.mark.parametrize(("inputs", "hidden", "folding", "streams", "pipeline"), [
    (2, (3,), None, 1, "short"), (3, (7,), None, 3, "medium"), (1, (5, 3), None, 1, "fast"),
    *(pytest.param(inputs, (hidden,), folding, streams, pipeline,
                   marks=[pytest.mark.slow] if n % 3 else [])
      for n, (inputs, hidden, folding, streams, pipeline) in enumerate(DRAINS))])
def test_model_equals_hardware_with_peepholes(inputs: int, hidden: tuple[int, ...],
                                              folding: Folding | None, streams: int,
                                              pipeline: str) -> None:
    check_hardware(inputs, hidden, [folding] if folding else None, 2, 2, streams, pipeline,
                   peepholes=True)


WIDTHS = Widths(weight=7, bias=(20, 21), x=9, h=8, c=11, segments=33, knots=28)


def test_memories_by_hand() -> None:
    """A layer of 5 inputs and 7 units, 4 passes of 4 words; two lanes of a unit each, one table."""
    k = LSTMCycles(inputs=5, hidden=7, streams=3,
                   folding=Folding(units=2, columns=3, lanes=2, interval=4))
    assert (k.passes, k.words, k.timing.gate_tables, k.timing.tables) == (4, 4, 1, 2)
    found = lstm_memories(k, WIDTHS)
    assert found == {
        # 8 rows by 3 columns.
        "weights": 16 * 24 * 7,
        # A lane's four units have four gates each.
        "biases": 16 * (20 + 21),
        # Banks, halves, streams; 2 columns in each bank, and 3 where h begins behind two of x.
        "x": 3 * 2 * 3 * 2 * 9, "h": 3 * 2 * 3 * 4 * 8,
        "c": 2 * 3 * 4 * 11,
        # Two lanes' tables of 33 segments.
        "tables": 2 * 2 * 64 * 28,
    }
    assert lstm_memories(k, replace(WIDTHS, bias=21))["biases"] == 16 * 2 * 21
    # Beats of four columns take six banks, of which x fills five.
    assert lstm_memories(k, WIDTHS, beat=4) == {**found, "x": 5 * 2 * 3 * 1 * 9}


def test_memories_of_the_head_by_hand() -> None:
    """7 inputs and 5 outputs: 3 passes of 4 words, and a queue for what is on its way."""
    k = DenseCycles(inputs=7, outputs=5, folding=DenseFolding(rows=2, columns=2), streams=3)
    assert (k.passes, k.words, k.work) == (3, 4, 12)
    # 4 cycles of the array, 3 to the queue, 3 from a step's last beat on, 3 in the queue: 13.
    assert k.queue == 5
    assert dense_memories(k, DenseWidths(weight=7, bias=20, x=8, y=11), beat=1) == {
        "weights": 16 * 4 * 7, "biases": 4 * 2 * 20, "x": 2 * 2 * 3 * 4 * 8,
        # Two outputs, a count up to 2, the mark of the last, one of three streams.
        "queue": 4 * (2 * 11 + 2 + 1 + 2), "tables": 0,
    }
    # Two units of a table of 9 words of 30 bits, five cycles and a register behind them.
    tabled = replace(k, tabled=True)
    assert (tabled.latency - k.latency, tabled.queue, tabled.multipliers) == (6, 6, 4 + 2)
    assert dense_memories(tabled, DenseWidths(weight=7, bias=20, x=8, y=11, segments=9, knots=30),
                          beat=1)["tables"] == 2 * 16 * 30


def test_bias_widths() -> None:
    """Each memory is as wide as the biases in it need; of the candidate, half of half an ulp."""
    # Two tables: i and g in the first, f and o in the second. Units 0 and 2 in the first lane.
    k = LSTMCycles(inputs=4, hidden=3, folding=Folding(units=2, columns=1, lanes=2, interval=2))
    zero = [0] * 12
    assert bias_widths(k, zero, 0) == (1, 1, 1, 1)
    assert bias_widths(k, zero, 8) == (5, 5, 5, 5)
    for gate, unit in product(range(4), range(3)):
        biases = zero.copy()
        biases[gate * 3 + unit] = -8
        memory = unit % 2 * 2 + gate % 2
        assert bias_widths(k, biases, 0) == tuple(4 if n == memory else 1 for n in range(4))
        biases[gate * 3 + unit] = 1024 - (4 if gate == 2 else 8)
        assert bias_widths(k, biases, 8) == tuple(12 if n == memory else 5 for n in range(4))


# Inputs, foldings and hidden units of each layer, outputs, their folding, streams, pipeline,
# formats.
MEMORIES = [
    (1, [(1, (1, 1, 1, 2))], 1, (1, 1), 1, "short", "8 bits"),
    (3, [(7, (2, 3, 1, 2))], 1, (1, 4), 1, "fast", "16 bits"),
    (4, [(1, (1, 3, 1, 2))], 3, (2, 1), 3, "roundings", "products coarser than z"),
    # V > N, and all columns at once.
    (1, [(2, (2, 3, 2, 1))], 2, (1, 2), 2, "fast", "c finer than the candidate"),
    (2, [(9, (4, 5, 3, 1))], 5, (2, 3), 1, "short", "8 bits"),
    # More lanes than columns, which do and do not divide them.
    (6, [(6, (6, 2, 6, 4))], 2, (2, 1), 1, "fast", "8 bits"),
    (9, [(5, (5, 1, 2, 4))], 1, (1, 2), 3, "short", "tanh as fine as the gates"),
    (5, [(5, (5, 2, 3, 1))], 4, (4, 5), 5, "behind them", "8 bits"),
    # Tables and multipliers shared by all.
    (14, [(2, (1, 1, 1, 16))], 1, (1, 1), 2, "short", "16 bits"),
    (40, [(17, (1, 1, 1, 17))], 1, (1, 1), 1, "fast", "8 bits"),
    # Beats wider than the columns of the layer behind, and narrower.
    (2, [(5, (5, 2, 5, 1)), (3, (1, 2, 1, 2))], 1, (1, 1), 2, "short", "8 bits"),
    (1, [(3, (1, 1, 1, 4)), (1, (1, 3, 1, 1)), (2, (2, 2, 2, 1))], 3, (3, 1), 1, "all", "16 bits"),
]
KINDS = {r"projection\.array\.weights": "projection.weights",
         r"projection\.x_buffer\.columns\.bank\d+_\d": "projection.x",
         r"array\.weights": "weights", r"drain\.lane\d+\.bias\d": "biases", "bias": "biases",
         r"x_buffer\.columns\.bank\d+_\d": "x", r"h_buffer\.bank\d+_\d": "h",
         r"drain\.lane\d+\.c_(memory|initial)": "c",
         r"drain\.lane\d+\.peephole\d": "peepholes",
         r"(drain\.lane\d+\.)?table\d\.knots": "tables", "queue": "queue",
         r"codes\.bank\d+_\d": "codes", "powers": "powers", r"exponential\.knots": "knots",
         "tops|sums": "queue", r"columns\d\.bank\d+_\d": "columns"}
"""What is kept in the memories that a module declares, by the module's name in its layer."""


def declared_memories(verilog: str) -> Counter[str]:
    """Bits of the memories that portable Verilog declares, by layer and kind."""
    found: Counter[str] = Counter()
    for module in re.findall(r"^module .*?^endmodule", verilog, re.M | re.S):
        if bits := memory_bits(module):
            name = re.match(r"module \\gatefold\.(\w+)\.(\S+) ", module)
            assert name is not None, module[:80]
            kinds = [kind for pattern, kind in KINDS.items() if re.fullmatch(pattern, name[2])]
            assert len(kinds) == 1, name[2]
            found[f"{name[1]}.{kinds[0]}"] += bits
    assert sum(found.values()) == memory_bits(verilog)
    return found


@pytest.mark.parametrize(
    ("inputs", "layers", "outputs", "head", "streams", "pipeline", "formats"),
    sparse(MEMORIES, every=3))
def test_memories_equal_hardware(inputs: int, layers: list[tuple[int, tuple[int, ...]]],
                                 outputs: int, head: tuple[int, int], streams: int, pipeline: str,
                                 formats: str) -> None:
    """Every memory of the portable Verilog, to the bit."""
    network = random_network(np.random.default_rng(0), FORMATS[formats], inputs,
                             tuple(hidden for hidden, _ in layers), outputs, every_step=True)
    dut = Network(network, streams=streams, pipeline=TRIED[pipeline],
                  foldings=[drained(*folding) for _, folding in layers],
                  head_folding=DenseFolding(rows=head[0], columns=head[1]))
    assert Counter(modelled_memories(dut)) == declared_memories(generate(dut)[0])


@pytest.mark.parametrize(("inputs", "layers", "outputs", "head", "pipeline"), sparse([
    (1, [(20, (1, 1, 1, 12))], 1, (1, 1), "short"), (6, [(20, (8, 1, 1, 2))], 3, (2, 5), "fast"),
    (3, [(7, (2, 3, 1, 2)), (5, (5, 2, 5, 1))], 2, (1, 4), "medium")], every=3))
def test_multipliers(inputs: int, layers: list[tuple[int, tuple[int, ...]]], outputs: int,
                     head: tuple[int, int], pipeline: str) -> None:
    """Those of the model are the blocks in the Verilog."""
    network = random_network(np.random.default_rng(0), FORMATS["16 bits"], inputs,
                             tuple(hidden for hidden, _ in layers), outputs, every_step=True)
    dut = Network(network, pipeline=PIPELINES[pipeline],
                  foldings=[drained(*folding) for _, folding in layers],
                  head_folding=DenseFolding(rows=head[0], columns=head[1]))
    blocks = re.findall(r"^ *MULT18X18D #", generate(dut, family="ecp5")[0], re.M)
    engines, (dense,) = [engine.cycles for engine in dut.engines], dut.head
    assert len(blocks) == sum(k.multipliers for k in engines) + dense.cycles.folding.multipliers
    # One in each table, some for the states, and the array.
    for k in engines:
        assert k.multipliers == (k.folding.multipliers + k.tables
                                 + k.folding.lanes * k.timing.state_multipliers)


HARD = Function("HardSigmoid")


@pytest.mark.parametrize("interval", [
    1, *(pytest.param(interval, marks=pytest.mark.slow) for interval in (2, 4, 16))])
@pytest.mark.parametrize(("cell", "lines"), sparse([
    ({"gate": HARD}, (0, 1, 3)), ({"candidate": RELU}, (2,)), ({"squash": IDENTITY}, (4,)),
    ({"gate": HARD, "squash": RELU}, (0, 1, 3, 4)),
    ({"gate": HARD, "candidate": HARD, "squash": RELU}, (0, 1, 2, 3, 4)),
    ({"initial_h": np.ones(3), "initial_c": np.ones(3)}, ()), ({}, ()),
    ({"peepholes": np.ones(9), "candidate": SIGMOID, "initial_c": np.ones(3)}, ()),
    ({"peepholes": np.ones(9), "gate": HARD, "squash": Function("Affine", 0.7, 0.1)},
     (0, 1, 3, 4))], every=3))
def test_what_other_cells_take(cell: dict[str, Any], lines: tuple[int, ...], interval: int) -> None:
    """A line takes no table; states to begin with take memory, peepholes multipliers too."""
    rng = np.random.default_rng(0)
    model = FloatNetwork(
        layers=(LSTM(w_x=rng.uniform(-1, 1, (12, 17)), w_h=rng.uniform(-1, 1, (12, 3)),
                     bias=rng.uniform(-1, 1, 12), **cell),),
        head=(Dense(w=rng.uniform(-1, 1, (2, 3)), bias=np.zeros(2),
                    function=IDENTITY if cell else TANH),))
    network = quantize(model, rng.uniform(-1, 1, (8, 5, 17)), bits=8)
    dut = Network(network, foldings=[
        Folding(units=2, columns=1, lanes=2 if interval < 16 else 1,
                interval=interval if interval < 16 else 10)],
        head_folding=DenseFolding(rows=2, columns=1))
    assert Counter(modelled_memories(dut)) == declared_memories(generate(dut)[0])
    k, verilog = dut.engines[0].cycles, generate(dut, family="ecp5")[0]
    assert k.lines == lines
    tables = re.findall(r"^module \\gatefold\.lstm0\.drain\.lane\d+\.table\d+ ", verilog, re.M)
    assert len(tables) == k.tables
    blocks = re.findall(r"^ *MULT18X18D #", verilog, re.M)
    assert len(blocks) == k.multipliers + dut.head[0].cycles.multipliers


@pytest.mark.parametrize("name", ["weight", "bias", "x", "h", "c", "segments", "knots"])
def test_wrong_widths(name: str) -> None:
    for wrong in (0, 1.5, *([(20, 0)] if name == "bias" else [])):
        shown = wrong[1] if isinstance(wrong, tuple) else wrong
        text = f"width {name} must be a positive integer, not {shown!r}"
        values: dict[str, Any] = {name: wrong}
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            replace(WIDTHS, **values)
    if name in ("weight", "bias", "x"):
        with pytest.raises(ValueError, match=f"^width {name} must be a positive integer, not 0$"):
            replace(DenseWidths(weight=1, bias=1, x=1, y=1), **{name: 0})


def test_memories_that_do_not_fit() -> None:
    k = LSTMCycles(inputs=4, hidden=4, folding=Folding(units=1, columns=1, lanes=1, interval=4))
    head = DenseCycles(inputs=4, outputs=1, folding=DenseFolding(rows=1, columns=1))
    with pytest.raises(ValueError, match=r"^width bias must be of each of the 1 bias memories, "
                                         r"not of 2$"):
        lstm_memories(k, WIDTHS)
    with pytest.raises(ValueError, match=r"^LSTM beat must be a positive integer, not 0$"):
        lstm_memories(k, replace(WIDTHS, bias=20), beat=0)
    with pytest.raises(ValueError, match=r"^dense layer beat must be a positive integer, not 0$"):
        dense_memories(head, DenseWidths(weight=1, bias=1, x=1, y=1), beat=0)
    with pytest.raises(ValueError, match=r"^dense layer outputs must be a positive integer, not 0"):
        replace(head, outputs=0)


@pytest.mark.parametrize(
    ("inputs", "hidden", "outputs", "multipliers", "steps", "pipeline", "head"), thinned([
        (5, 8, 2, 64, 2, "short"), (1, 8, 1, 40, 3, "short"), (4, 8, 1, 64, 6, "fast"),
        (1, 4, 4, 16, 3, "short"), (3, 5, 3, 40, 2, "fast"),
        (1, 7, 2, 28, 2, "medium")], ["by default", "searched"], every=4))
def test_back_to_back_sequences(inputs: int, hidden: int, outputs: int, multipliers: int,
                                steps: int, pipeline: str, head: str) -> None:
    """With an output at every step too, a sequence costs its steps and its bubbles, no more."""
    folding = choose_folding(inputs, hidden, multipliers=multipliers, pipeline=PIPELINES[pipeline])
    rng = np.random.default_rng(0)
    network = random_network(rng, FORMATS["8 bits"], inputs, (hidden,), outputs, every_step=True)
    head_folding = None
    if head == "searched":
        plenty = Limits(multipliers=1000, memories=1000, blocks=lambda depth, width: 1,
                        logic_words=0)
        choice = choose(Stack.of(network), limits=plenty, clocks={pipeline: 100},
                        array=multipliers)
        (folding,), head_folding = choice.foldings, choice.head
    dut = Network(network, foldings=[folding], head_folding=head_folding,
                  pipeline=PIPELINES[pipeline])
    seen = run_network(dut, random_sequences(rng, network, *[steps] * 7), outputs=7 * steps,
                       quiet=0)
    ends = [end for _, end in seen.steps_of("lstm0.h", 0, hidden)][steps - 1::steps]
    k = dut.engines[0].cycles
    assert set(np.diff(ends[2:]).tolist()) == {steps * k.work + (steps - 1) * k.bubble}


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "layers", "outputs", "steps"), [
    (38, [(2, (2, 1, 2, 1)), (2, (1, 1, 1, 1))], 18, 3),
    (19, [(4, (4, 1, 1, 4)), (6, (4, 2, 1, 1))], 11, 3),
    (2, [(6, (1, 1, 1, 3)), (3, (3, 3, 3, 2)), (4, (4, 1, 1, 1))], 5, 4)])
def test_back_to_back_sequences_of_a_stack(inputs: int, layers: list[tuple[int, tuple[int, ...]]],
                                           outputs: int, steps: int) -> None:
    """Steps that queue before the last layer do not wait for the head as a sequence begins."""
    network = random_network(np.random.default_rng(0), FORMATS["8 bits"], inputs,
                             tuple(hidden for hidden, _ in layers), outputs, every_step=True)
    sequences = random_sequences(np.random.default_rng(1), network, *[steps] * 8)
    foldings = [drained(*folding) for _, folding in layers]
    paces = []
    for head in (None, DenseFolding(rows=outputs, columns=layers[-1][0])):
        dut = Network(network, foldings=foldings, head_folding=head, pipeline=FAST)
        seen = run_network(dut, sequences, outputs=8 * steps, quiet=0)
        ends = [end for _, end in seen.steps_of(f"lstm{len(layers) - 1}.h", 0, layers[-1][0])]
        paces.append(np.diff(ends[steps - 1::steps])[-4:].tolist())
    # As with the quickest head that there is, and the head is not that one.
    assert paces[0] == paces[1]
    assert dut.head[0].cycles.work == 1 < head_budget(
        [engine.cycles for engine in dut.engines], every_step=True)
