"""Choosing a core for a board."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fpga.boards import BOARDS, find
from fpga.choice import choose_for, limits, wanted
from golden.argmax import ArgMax
from golden.fixed import SQ
from golden.quantized_network import QuantizedNetwork
from golden.softmax import Softmax
from hdl.foldings import MULTIPLIERS, choose_drain, dense_part, lstm_part, outlet_part
from hdl.network import Network
from hdl.pipeline import PIPELINES
from hdl.search import Stack
from hdl.verilog import generate
from tests.cases import sparse
from tests.networks import STANDARD, random_network

BOARD = find("ulx3s-85f")


@pytest.fixture(scope="module")
def network() -> QuantizedNetwork:
    return random_network(np.random.default_rng(1), STANDARD, 2, (12, 6), 3, every_step=True)


@pytest.mark.parametrize("name", BOARDS)
def test_each_family_is_known(name: str) -> None:
    board = find(name)
    assert set(board.core_mhz) == set(PIPELINES)
    assert board.logic_words >= 0


def test_limits() -> None:
    # A quarter of the block RAMs is the self-test's.
    assert (limits(BOARD).multipliers, limits(BOARD).memories) == (156, 156)
    assert limits(BOARD, 20).multipliers == 20
    assert limits(BOARD, 1000).multipliers == 156
    assert limits(BOARD).blocks(1024, 19) == 2
    with pytest.raises(ValueError, match=r"^multipliers must be a positive integer, not 0$"):
        limits(BOARD, 0)


def test_small_by_default(network: QuantizedNetwork) -> None:
    small = choose_for(BOARD, network)
    assert all(folding.multipliers <= MULTIPLIERS for folding in small.foldings)
    assert small.multipliers < choose_for(BOARD, network, fastest=True).multipliers <= 156
    # A budget alone is to be used.
    assert choose_for(BOARD, network, multipliers=60) == choose_for(
        BOARD, network, multipliers=60, fastest=True)


@pytest.mark.parametrize(("asked", "name", "mhz"), [
    ({"pipeline": "short"}, "short", 115.0),
    ({"pipeline": "fast"}, "fast", 185.0),
    ({"pipeline": "fast", "clock_mhz": 90.0}, "fast", 90.0),
    # At a clock that both reach, fewer cycles are less time.
    ({"clock_mhz": 90.0}, "short", 90.0),
    ({"clock_mhz": 150.0}, "medium", 150.0),
    ({"clock_mhz": 180.0}, "fast", 180.0),
    ({"clock_mhz": 300.0}, "fast", 300.0),
])
def test_pipeline_and_clock(network: QuantizedNetwork, asked: dict[str, Any], name: str,
                            mhz: float) -> None:
    chosen = choose_for(BOARD, network, **asked)
    assert (chosen.pipeline, chosen.mhz) == (name, mhz)
    # What is more than the board is known for is believed, and told.
    told = f"{mhz:g} MHz is more than the {BOARD.core_mhz[name]:g} MHz that a core is known"
    assert any(reason.startswith(told) for reason in chosen.why) == (mhz > BOARD.core_mhz[name])


@pytest.mark.parametrize(("asked", "text"), [
    ({"pipeline": "long"}, "pipeline must be one of short, medium, fast, not 'long'"),
    ({"clock_mhz": 0.0}, "clock must be positive, not 0 MHz"),
    ({"rate": 1.0, "latency_us": 1.0}, "one thing at most can be wanted, not rate and latency"),
    ({"units": 1, "fastest": True},
     "one thing at most can be wanted, not fastest and units or columns"),
    ({"columns": 1, "multipliers": 9},
     "multipliers cannot be limited where units or columns are given"),
])
def test_wrong_wishes(network: QuantizedNetwork, asked: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        choose_for(BOARD, network, **asked)


def test_wanted(network: QuantizedNetwork) -> None:
    chosen = choose_for(BOARD, network, streams=2)
    assert wanted(chosen, None, None, 50.0) is None
    rate = 2 * 50e6 / chosen.cycles
    assert wanted(chosen, rate * 0.999, None, 50.0) == {
        "steps_per_second": rate * 0.999, "reached": pytest.approx(rate), "met": True}
    result = wanted(chosen, rate * 1.001, None, 50.0)
    assert result is not None
    assert not result["met"]
    latency = chosen.latency / 50
    for much, met in (1.001, True), (0.999, False):
        assert wanted(chosen, None, latency * much, 50.0) == {
            "latency_us": latency * much, "reached": pytest.approx(latency), "met": met}


@pytest.mark.parametrize(("inputs", "hidden", "units", "columns", "streams", "pipeline"), sparse([
    (1, 20, 1, 1, 1, "fast"), (15, 120, 1, 1, 1, "medium"), (6, 120, 8, 4, 8, "fast"),
    (3, 64, 1, 1, 1, "fast"), (3, 20, 1, 1, 5, "medium"), (3, 128, 8, 2, 1, "fast"),
    (5, 33, 11, 3, 16, "fast"), (70, 9, 3, 5, 2, "medium")], every=4))
def test_memories_are_those_of_the_hardware(inputs: int, hidden: int, units: int, columns: int,
                                            streams: int, pipeline: str) -> None:
    """Block RAMs in the Verilog for the device, written with output registers."""
    stages = PIPELINES[pipeline]
    network = random_network(np.random.default_rng(2), STANDARD, inputs, (hidden,), 2,
                             every_step=True)
    folding = choose_drain(inputs, hidden, units=units, columns=columns, pipeline=stages,
                           streams=streams)
    dut = Network(network, foldings=[folding], streams=streams, pipeline=stages)
    stack, most = Stack.of(network, streams), limits(BOARD)
    layer = lstm_part(stack.layers[0], folding, pipeline=stages, streams=streams, limits=most)
    head = dense_part(stack.head[0], dut.head[0].cycles.folding, pipeline=stages, streams=streams,
                      limits=most)
    blocks: Counter[str] = Counter()
    for name, body in re.findall(r"^module \\gatefold\.(\w+)\S* (.*?)^endmodule",
                                 generate(dut, family=BOARD.family)[0], re.M | re.S):
        blocks[name] += body.count("DP16KD #")
    assert blocks == Counter({"lstm0": layer.memories, "dense": head.memories})


@pytest.mark.parametrize(("hidden", "outputs", "kind", "pipeline"), [
    (5, 40, "softmax", "fast"), (70, None, "outlet", "medium"),
    pytest.param(9, 3, "softmax", "short", marks=pytest.mark.slow),
    pytest.param(9, 70, "argmax", "fast", marks=pytest.mark.slow)])
def test_memories_behind_the_layers(hidden: int, outputs: int | None, kind: str, pipeline: str
                                    ) -> None:
    """Block RAMs of a softmax, and of hidden states that are sent as they are."""
    stages = PIPELINES[pipeline]
    network = random_network(np.random.default_rng(2), STANDARD, 2, (hidden,), outputs,
                             every_step=True)
    if outputs is not None:
        x = network.head[-1].formats.y
        network = replace(network, vector=Softmax(x=x, inputs=outputs, y=SQ(2, 14))
                          if kind == "softmax" else ArgMax(x=x, inputs=outputs))
    folding = choose_drain(2, hidden, units=1, columns=1, pipeline=stages)
    dut = Network(network, foldings=[folding], pipeline=stages)
    stack, most = Stack.of(network), limits(BOARD)
    if outputs is None:
        part = outlet_part(stack.outlet, -(-hidden // dut.out_lanes), pipeline=stages, streams=1,
                           limits=most).memories
    else:
        part = dense_part(stack.head[0], dut.head[0].cycles.folding, pipeline=stages, streams=1,
                          limits=most).memories
    blocks: Counter[str] = Counter()
    for name, body in re.findall(r"^module \\gatefold\.(\w+)\S* (.*?)^endmodule",
                                 generate(dut, family=BOARD.family)[0], re.M | re.S):
        blocks[name] += body.count("DP16KD #")
    assert blocks[kind] + blocks["dense"] == part
    assert (blocks[kind] > 0) == (kind != "argmax")
