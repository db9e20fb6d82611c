from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from golden.argmax import ArgMax
from golden.fixed import SQ
from golden.formats import DenseFormats
from golden.quantized import QuantizedDense
from golden.softmax import Softmax
from hdl.choice import Choice, choose, fill
from hdl.cycles import Folding, LSTMCycles
from hdl.dense_cycles import DenseFolding
from hdl.foldings import Limits, Part, Shape, dense_part, lstm_part
from hdl.network import Network
from hdl.pipeline import PIPELINES
from hdl.search import Stack
from tests.networks import STANDARD, random_codes, random_network

CLOCKS = {"short": 100.0, "medium": 130.0, "fast": 150.0}


def limits(multipliers: int = 60, memories: int = 1000) -> Limits:
    return Limits(multipliers=multipliers, memories=memories,
                  blocks=lambda depth, width: -(-depth // 64) * -(-width // 64),
                  logic_words=64)


def stack(*layers: tuple[int, int], outputs: int = 1, streams: int = 1) -> Stack:
    return Stack(layers=tuple(Shape(inputs=inputs, outputs=hidden) for inputs, hidden in layers),
                 head=(Shape(inputs=layers[-1][1], outputs=outputs),), streams=streams)


def every(what: Stack, allowed: Limits, name: str) -> list[tuple[Part[Any], ...]]:
    """All foldings of a whole stack that there are."""
    common: dict[str, Any] = {"pipeline": PIPELINES[name], "streams": what.streams,
                              "limits": allowed}
    parts: list[list[Part[Any]]] = []
    for layer in what.layers:
        total = layer.inputs + layer.outputs
        parts.append([])
        for units, columns in product(range(1, layer.outputs + 1), range(1, total + 1)):
            for lanes, interval in product(range(1, units + 1), range(1, total + 1)):
                if -(-units // lanes) * interval <= -(-total // columns):
                    parts[-1].append(lstm_part(layer, Folding(
                        units=units, columns=columns, lanes=lanes, interval=interval), **common))
    parts += [[dense_part(dense, DenseFolding(rows=rows, columns=columns), **common)
               for rows in range(1, dense.outputs + 1)
               for columns in range(1, dense.inputs + 1)] for dense in what.head]
    # Of those that are equal in everything, one is enough.
    few = [list({(part.round, part.multipliers, part.memories, part.latency): part
                 for part in some}.values()) for some in parts]
    return [row for row in product(*few)
            if sum(part.multipliers for part in row) <= allowed.multipliers
            and sum(part.memories for part in row) <= allowed.memories]


def size(row: tuple[Part[Any], ...]) -> tuple[int, int]:
    return sum(part.multipliers for part in row), sum(part.memories for part in row)


def pace(row: tuple[Part[Any], ...]) -> int:
    return max(part.round for part in row)


SMALL = [
    (stack((2, 3)), limits(40)),
    (stack((2, 3), outputs=3), limits(23)),
    (stack((2, 3), streams=3), limits(40)),
    (stack((6, 2)), limits(1000)),
    (stack((6, 2)), limits(1000, memories=9)),
    (stack((1, 2), (2, 2)), limits(40)),
    (stack((1, 2), (2, 3), streams=2), limits(44, memories=14)),
]


@pytest.mark.parametrize(("what", "allowed"), SMALL)
@pytest.mark.parametrize("name", PIPELINES)
def test_fastest_of_all(what: Stack, allowed: Limits, name: str) -> None:
    chosen = choose(what, limits=allowed, clocks={name: 100.0})
    best = min(every(what, allowed, name), key=lambda row: (pace(row), size(row)))
    assert (chosen.cycles, chosen.multipliers, chosen.memories) == (pace(best), *size(best))


@pytest.mark.parametrize(("what", "allowed"), SMALL)
def test_smallest_at_a_rate(what: Stack, allowed: Limits) -> None:
    rows = every(what, allowed, "short")
    paces = sorted({pace(row) for row in rows})
    for cycles in paces[::max(1, len(paces) // 5)]:
        # Exactly as many cycles as there are.
        rate = 100e6 * what.streams / cycles
        chosen = choose(what, limits=allowed, clocks={"short": 100.0}, rate=rate)
        assert chosen.cycles <= cycles
        assert chosen.rate >= rate * (1 - 1e-9)
        assert (chosen.multipliers, chosen.memories) == min(
            size(row) for row in rows if pace(row) <= cycles)
    with pytest.raises(ValueError, match=r"^rate must be at most "):
        choose(what, limits=allowed, clocks={"short": 100.0},
               rate=100e6 * what.streams / (paces[0] - 0.5))


@pytest.mark.parametrize(("what", "allowed"), SMALL)
def test_smallest_with_a_latency(what: Stack, allowed: Limits) -> None:
    rows = every(what, allowed, "short")
    latencies = sorted({sum(part.latency for part in row) for row in rows})
    for cycles in latencies[::max(1, len(latencies) // 5)]:
        chosen = choose(what, limits=allowed, clocks={"short": 100.0}, latency=cycles / 100)
        assert chosen.latency <= cycles
        assert chosen.latency_us <= cycles / 100 + 1e-9
        assert (chosen.multipliers, chosen.memories) == min(
            size(row) for row in rows if sum(part.latency for part in row) <= cycles)
    with pytest.raises(ValueError, match=f"^latency must be at least {latencies[0] / 100:g} us, "):
        choose(what, limits=allowed, clocks={"short": 100.0}, latency=(latencies[0] - 0.5) / 100)


def models(what: Stack, chosen: Choice) -> list[LSTMCycles]:
    return [LSTMCycles(inputs=layer.inputs, hidden=layer.outputs, folding=folding,
                       pipeline=PIPELINES[chosen.pipeline], streams=what.streams)
            for layer, folding in zip(what.layers, chosen.foldings, strict=True)]


@pytest.mark.parametrize("goal", [{}, {"rate": 80e3}, {"array": 16}], ids=str)
@pytest.mark.parametrize("streams", [1, 4])
def test_no_layer_waits_and_none_is_larger_than_it_must(goal: dict[str, Any], streams: int) -> None:
    what = stack((8, 24), (24, 10), (10, 32), outputs=5, streams=streams)
    chosen = choose(what, limits=limits(120), clocks={"fast": 150.0}, **goal)
    rounds = [k.round for k in models(what, chosen)]
    assert max(rounds) == chosen.cycles
    assert chosen.multipliers <= 120
    pipeline = PIPELINES["fast"]
    for n, layer in enumerate(what.layers):
        mine = models(what, chosen)[n].multipliers
        # The rate may leave time.
        slowest = max(rounds) if "rate" not in goal else int(150e6 * streams / goal["rate"])
        for units, columns in product(range(1, 6), range(1, 8)):
            for lanes, interval in product((1, 2, units), (1, 2, 4, 15, 16, 20, 21, 24)):
                try:
                    k = LSTMCycles(inputs=layer.inputs, hidden=layer.outputs, pipeline=pipeline,
                                   streams=streams, folding=Folding(
                                       units=units, columns=columns, lanes=lanes,
                                       interval=interval))
                except ValueError:
                    continue
                if goal.get("array") and k.folding.multipliers > goal["array"]:
                    continue
                assert k.multipliers >= mine or k.round > slowest
    (folding,) = chosen.head
    head = -(-32 // folding.columns) * -(-5 // folding.rows)
    assert streams * head <= max(rounds)


@pytest.mark.parametrize("budget", [8, 13, 40, 99])
def test_budget_is_the_one_given(budget: int) -> None:
    what = stack((3, 12))
    chosen = choose(what, limits=limits(budget), clocks=CLOCKS)
    (k,) = models(what, chosen)
    assert k.multipliers + chosen.head[0].multipliers == chosen.multipliers <= budget


def test_pipeline_that_takes_less_time() -> None:
    what = stack((3, 12))
    by_name = {name: choose(what, limits=limits(40), clocks={name: 100.0}) for name in PIPELINES}
    assert by_name["short"].cycles < by_name["fast"].cycles
    even = 100 * by_name["fast"].cycles / by_name["short"].cycles
    for mhz, name in ((even * 0.99, "short"), (even * 1.01, "fast")):
        chosen = choose(what, limits=limits(40), clocks={"short": 100.0, "fast": mhz})
        assert chosen.pipeline == name
        assert chosen.why[1].startswith(f"{name} pipeline: {chosen.cycles} cycles at ")


def test_pipeline_that_takes_less_room() -> None:
    what = stack((3, 12))
    for rate in (3e5, 1e6):
        by_name = {name: choose(what, limits=limits(80), clocks={name: CLOCKS[name]}, rate=rate)
                   for name in PIPELINES}
        chosen = choose(what, limits=limits(80), clocks=CLOCKS, rate=rate)
        assert chosen.multipliers == min(one.multipliers for one in by_name.values())
        assert chosen.rate >= rate


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("streams", [1, 3])
def test_cycles_of_the_network(name: str, streams: int) -> None:
    """The choice and the hardware agree."""
    network = random_network(np.random.default_rng(3), STANDARD, 5, (12, 7), 4, every_step=True)
    for goal in ({}, {"array": 16}, {"rate": 2e5}, {"units": 2, "columns": 3}):
        chosen = choose(Stack.of(network, streams), limits=limits(150), clocks={name: 100.0},
                        **goal)
        core = Network(network, foldings=chosen.foldings, head_folding=chosen.head,
                       pipeline=PIPELINES[name], streams=streams)
        assert chosen.cycles == core.step
        assert chosen.latency == core.whole_latency


def test_widths_of_a_network() -> None:
    network = random_network(np.random.default_rng(3), STANDARD, 5, (12,), 4, every_step=True)
    what = Stack.of(network, 2)
    (layer,) = what.layers
    assert (layer.inputs, layer.outputs) == (5, 12)
    assert (layer.weight_bits, layer.column_bits, layer.state_bits) == (16, 16, 16)
    assert 1 << layer.bias_bits - 2 > np.abs(network.directions[0].bias).max()
    (head,) = what.head
    assert (head.inputs, head.outputs, head.weight_bits) == (12, 4, 11)
    assert what.streams == 2


@pytest.mark.parametrize("array", [4, 16, 40, 80])
@pytest.mark.parametrize("name", PIPELINES)
def test_fewest_streams(name: str, array: int) -> None:
    goal: dict[str, Any] = {"limits": limits(150), "clocks": {name: 100.0}, "array": array}
    chosen = fill(stack((1, 20)), **goal)
    (k,) = models(stack((1, 20), streams=chosen.streams), chosen)
    assert chosen.cycles == k.round == chosen.streams * k.work
    # Fewer leave a bubble, or make fewer steps; one more does not make more.
    for streams in range(1, chosen.streams):
        other = choose(stack((1, 20), streams=streams), **goal)
        (k,) = models(stack((1, 20), streams=streams), other)
        assert k.round > streams * k.work or other.rate < chosen.rate
    assert choose(stack((1, 20), streams=chosen.streams + 1), **goal).rate <= chosen.rate


def test_streams_that_fit() -> None:
    """Where one more stream does not fit there is none; an array that stays idle is refused."""
    what, goal = stack((1, 20)), {"clocks": {"short": 100.0}, "array": 16}
    chosen = fill(what, limits=limits(150), **goal)
    enough = fill(what, limits=limits(150, memories=chosen.memories), **goal)
    assert (enough.streams, enough.memories) == (chosen.streams, chosen.memories)
    with pytest.raises(ValueError, match=r"^no folding fits: "):
        fill(what, limits=limits(150, memories=1), **goal)


@pytest.mark.parametrize("goal", ["rate", "latency"])
def test_streams_are_not_filled_for(goal: str) -> None:
    with pytest.raises(ValueError, match=(
            f"^streams must be a number where a {goal} is wanted, not to be filled$")):
        fill(stack((1, 20)), limits=limits(150), clocks={"short": 100.0}, **{goal: 1.0})


@pytest.mark.parametrize("streams", [1, 2, 3, 4, 8])
def test_streams_that_fill_the_bubble(streams: int) -> None:
    chosen = choose(stack((2, 20), streams=streams), limits=limits(150), clocks={"fast": 100.0},
                    units=5, columns=3)
    (k,) = models(stack((2, 20), streams=streams), chosen)
    assert k.bubble > 0
    assert chosen.filled * k.work >= k.step > (chosen.filled - 1) * k.work
    text = chosen.why[-1]
    waits = k.round - streams * k.work
    assert (waits > 0) == (streams < chosen.filled)
    assert text == (
        f"layer 0 waits for its own hidden states for {waits} of {k.round} cycles; with "
        f"{chosen.filled} streams it would not" if waits else
        f"{chosen.filled} streams are enough to fill the bubble of layer 0")


def test_reasons() -> None:
    what = stack((8, 24), (24, 10), outputs=5)
    chosen = choose(what, limits=limits(90), clocks=CLOCKS)
    k, other = models(what, chosen)
    slow = k.round >= other.round
    assert chosen.why[0] == (f"as fast as fits: limited by multipliers, {chosen.multipliers} of "
                             f"90: what is faster takes more")
    f = chosen.foldings[0]
    assert chosen.why[2] == (
        f"layer 0: {f.units} units by {f.columns} column{'' if f.columns == 1 else 's'}, "
        f"{k.round} cycles a step; {k.multipliers} multipliers, {f.multipliers} of them in the "
        f"array" + ("" if slow else f"; layer 1 needs {other.round} cycles"))
    assert "; layer 0 needs" in chosen.why[3] if slow else "needs" not in chosen.why[3]
    assert chosen.why[4].startswith("dense 0: ")

    text = choose(what, limits=limits(120), clocks=CLOCKS, rate=123456).why[0]
    assert text in ("the smallest that makes 123,456 steps a second at 100 MHz",
                    "the smallest that makes 123,456 steps a second at 150 MHz")
    text = choose(what, limits=limits(120), clocks={"fast": 150.0}, latency=3.5).why[0]
    assert text == "the smallest with the whole output 3.5 us after a step at 150 MHz"
    assert choose(what, limits=limits(120), clocks=CLOCKS, units=2).why[0] == (
        "units and columns as given")
    text = choose(what, limits=limits(120), clocks=CLOCKS, array=16).why[0]
    assert text == ("the smallest that is as fast as 16 multipliers in the array of each layer "
                    "make it")


def test_reasons_for_several_streams() -> None:
    chosen = choose(stack((8, 24), streams=3), limits=limits(90), clocks=CLOCKS)
    assert f"{chosen.cycles} cycles a round of 3 streams" in chosen.why[2]


def test_what_limits() -> None:
    what = stack((2, 3))
    assert "limited by multipliers, " in choose(what, limits=limits(20), clocks=CLOCKS).why[0]
    # A word of this takes more blocks, the wider it is.
    free = choose(what, limits=limits(120), clocks=CLOCKS)
    tight = choose(what, limits=limits(200, memories=free.memories - 1), clocks=CLOCKS)
    assert f"limited by block RAMs, {tight.memories} of {free.memories - 1}: " in tight.why[0]
    assert free.why[0] == (
        "as fast as fits: no folding is faster, however many multipliers there are")


def test_array_that_does_not_fit() -> None:
    what = stack((2, 20))
    assert choose(what, limits=limits(9), clocks=CLOCKS, array=16) == choose(
        what, limits=limits(9), clocks=CLOCKS)


def test_nothing_fits() -> None:
    what = stack((2, 3))
    least = choose(what, limits=limits(120), clocks=CLOCKS, rate=1)
    for few in (limits(least.multipliers - 1), limits(200, memories=1)):
        goals: tuple[dict[str, Any], ...] = ({}, {"rate": 1}, {"latency": 1000}, {"array": 16})
        for goal in goals:
            with pytest.raises(ValueError, match=(
                    r"^no folding fits: the network takes at least \d+ multipliers and \d+ block "
                    f"RAMs, of which there are {few.multipliers} and {few.memories}$")):
                choose(what, limits=few, clocks=CLOCKS, **goal)


def test_rate_that_cannot_be() -> None:
    what = stack((2, 20))
    best = choose(what, limits=limits(50), clocks=CLOCKS)
    with pytest.raises(ValueError, match="rate must be at most") as error:
        choose(what, limits=limits(50), clocks=CLOCKS, rate=10e6)
    assert str(error.value) == (
        f"rate must be at most {int(best.rate):,} steps a second, {best.cycles} cycles a round "
        f"with the {best.pipeline} pipeline at {best.mhz:g} MHz (limited by multipliers, "
        f"{best.multipliers} of 50: what is faster takes more), not 10,000,000")
    # What it says can be had.
    assert choose(what, limits=limits(50), clocks=CLOCKS, rate=int(best.rate)).rate >= int(
        best.rate)


def test_latency_that_cannot_be() -> None:
    what = stack((2, 20))
    with pytest.raises(ValueError, match="latency must be at least") as error:
        choose(what, limits=limits(50), clocks=CLOCKS, latency=0.1)
    text = str(error.value)
    assert text.endswith("(the least that fits in 50 multipliers and 1000 block RAMs), not 0.1")
    least = float(text.split()[5])
    assert choose(what, limits=limits(50), clocks=CLOCKS, latency=least).latency_us <= least


@pytest.mark.parametrize(("wanted", "text"), [
    ({"rate": 0}, "rate must be positive, not 0"),
    ({"latency": -1.0}, r"latency must be positive, not -1\.0"),
    ({"rate": 1, "array": 2}, "one thing at most can be wanted, not rate and array"),
    ({"latency": 1, "units": 2},
     "one thing at most can be wanted, not latency and units or columns"),
    ({"clocks": {}}, "clocks must be some of short, medium, fast, not {}"),
    ({"clocks": {"long": 1.0}}, "clocks must be some of short, medium, fast, not {'long': 1.0}"),
    ({"units": 21}, "folding units must be at most the 20 hidden units, not 21"),
])
def test_wrong_arguments(wanted: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        choose(stack((2, 20)), limits=limits(), **({"clocks": CLOCKS} | wanted))


def test_wrong_stacks() -> None:
    with pytest.raises(ValueError, match=r"^streams must be a positive integer, not 0$"):
        stack((2, 20), streams=0)
    with pytest.raises(ValueError, match=r"^stack must have one LSTM layer at least, not none$"):
        Stack(layers=(), head=(Shape(inputs=1, outputs=1),))


@pytest.mark.parametrize("name", ["short", "fast"])
@pytest.mark.parametrize("kind", ["dense in a row", "bare", "argmax", "softmax"])
def test_what_is_behind(kind: str, name: str) -> None:
    """The choice and the hardware agree on it, and no part is slower than the pace."""
    rng = np.random.default_rng(4)
    network = random_network(rng, STANDARD, 5, (12,), None if kind == "bare" else 30,
                             every_step=True)
    if kind != "bare":
        (dense,) = network.head
        x = dense.formats.y
        if kind == "dense in a row":
            formats = DenseFormats(x=x, w=SQ(2, 5), y=SQ(4, 4))
            network = replace(network, head=(dense, QuantizedDense(
                formats=formats, w=random_codes(rng, formats.w, (3, 30)),
                bias=np.zeros(3, dtype=np.int64))))
        else:
            network = replace(network, vector=ArgMax(x=x, inputs=30) if kind == "argmax" else
                              Softmax(x=x, inputs=30, y=SQ(2, 14)))
    for goal in ({}, {"array": 16}, {"rate": 2e5}, {"latency": 20.0}, {"units": 2, "columns": 3}):
        for streams in (1, 3):
            few = limits(150)
            chosen = choose(Stack.of(network, streams), limits=few, clocks={name: 100.0}, **goal)
            core = Network(network, foldings=chosen.foldings, head_folding=chosen.head,
                           pipeline=PIPELINES[name], streams=streams)
            assert len(chosen.head) == len(network.head)
            assert chosen.cycles == core.step
            assert chosen.latency == core.whole_latency
            assert chosen.multipliers == core.behind.multipliers + sum(
                engine.cycles.multipliers for engine in core.engines)
            if {"array", "units"} & set(goal) and kind != "softmax":
                assert core.step == max(engine.cycles.round for engine in core.engines)
