"""What is behind the last LSTM layer, in hardware against the bit-true network: bits and cycles."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.engine_memories import modelled_memories
from golden.argmax import ArgMax
from golden.fixed import SQ
from golden.formats import Curve, DenseFormats
from golden.quantized import QuantizedDense
from golden.quantized_network import QuantizedNetwork
from golden.softmax import Softmax
from hdl.dense_cycles import DenseFolding
from hdl.network import Network
from hdl.pipeline import FAST, MEDIUM, SHORT, Pipeline
from hdl.verilog import generate
from tests.networks import (
    FORMATS,
    expected_words,
    folded,
    random_codes,
    random_network,
    random_sequences,
)
from tests.streams import interleaved, run_network
from tests.test_cycles import declared_memories


def with_head(rng: np.random.Generator, network: QuantizedNetwork, *widths: int
              ) -> QuantizedNetwork:
    """The network with dense layers of such widths, each with a format and limits of its own."""
    head: list[QuantizedDense] = []
    own, columns = network.layers[-1].formats.h, network.layers[-1].hidden
    for n, outputs in enumerate(widths):
        y = SQ(4, 4 + n % 3)
        formats = DenseFormats(x=own, w=SQ(2, 5), y=y)
        limit = 1 << formats.product_fraction
        head.append(QuantizedDense(
            formats=formats, w=random_codes(rng, formats.w, (outputs, columns)),
            bias=rng.integers(-limit, limit, outputs),
            curve=Curve(False, 0 if n % 2 else y.min, y.max)))
        own, columns = y, outputs
    return replace(network, head=tuple(head))


def check(dut: Network, rng: np.random.Generator, *, last: int = 1, streams: int = 1) -> None:
    """Bits and flags under stalls; then latency, and the pace of steps where each has an output."""
    network = dut.network
    sequences = [random_sequences(rng, network, *rng.permutation([1, 4, 1, 1, 3]).tolist())
                 for _ in range(streams)]
    words = [expected_words(network, some) for some in sequences]
    order = iter(lambda: int(rng.integers(streams)), -1)
    seen = run_network(dut, [], beats=interleaved(dut, sequences, order), quiet=100,
                       outputs=sum(map(len, words)), stall=float(rng.choice([0, 0.3, 0.7])),
                       reset_after=int(rng.integers(1, 12)) if rng.random() < 0.5 else None)
    assert [seen.of(stream) for stream in range(streams)] == words
    counts = [sum(network.run(x[None]).saturated[name] for some in sequences for x in some)
              for name in dut.saturation]
    assert [seen.saturated >> bit & 1 for bit in range(len(counts))] == [
        int(count > 0) for count in counts]

    # A step alone, then all streams.
    filled = 3 * (len(network.layers) + len(network.head)) + last
    steps = filled + 5
    beats: list[tuple[int, bool, int] | int]
    beats = [*interleaved(dut, [random_sequences(rng, network, 1)]), 2 * dut.whole_latency,
             *interleaved(dut, [random_sequences(rng, network, steps) for _ in range(streams)])]
    each = steps if network.every_step else 1
    seen = run_network(dut, [], beats=beats, outputs=1 + each * streams, quiet=10)
    assert seen.given[0] - seen.taken[0] == dut.latency
    assert seen.done[0] - seen.taken[0] == dut.whole_latency
    if not network.every_step:
        return
    ends = [[now for now, one in zip(seen.given, seen.streams, strict=True) if one == stream]
            [-steps:] for stream in range(streams)]
    # Streams that are not through have the turns of those that are.
    end = min(of_stream[-1] for of_stream in ends)
    for of_stream in ends:
        settled = [now for now in of_stream[filled:] if now <= end]
        assert len(settled) > 2
        assert set(np.diff(settled).tolist()) == {dut.step}


# Units of the last LSTM layer, widths and foldings of the dense layers, streams, pipeline.
ROWS: dict[str, tuple[int, tuple[int, ...], tuple[tuple[int, int], ...] | None, int, Pipeline]] = {
    "two": (4, (3, 2), None, 1, SHORT),
    "three, streams": (3, (5, 1, 4), None, 3, FAST),
    "the first is slow": (5, (4, 2), ((1, 1), (2, 4)), 1, MEDIUM),
    "the second is slow": (3, (8, 7), ((8, 3), (1, 1)), 1, SHORT),
    "equally slow, all columns at once": (2, (9, 9, 9), ((1, 2), (1, 9), (1, 9)), 1, SHORT),
    "as slow by column": (9, (9, 9), ((9, 1), (9, 1)), 2, FAST),
    "in a cycle": (1, (1, 1, 2), ((1, 1), (1, 1), (2, 1)), 1, SHORT),
    "beats wider than words": (4, (7, 3), ((7, 1), (2, 2)), 1, SHORT),
}


def quick(names: Iterable[str], *chosen: str) -> list[Any]:
    """All of them, the others slow."""
    return [name if name in chosen else pytest.param(name, marks=pytest.mark.slow)
            for name in names]


@pytest.mark.parametrize("every_step", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", quick(ROWS, "in a cycle"))
def test_dense_layers_in_a_row(name: str, every_step: bool) -> None:
    hidden, widths, foldings, streams, pipeline = ROWS[name]
    rng = np.random.default_rng(1)
    network = with_head(rng, random_network(rng, FORMATS["8 bits"], 1, (hidden,), None,
                                            every_step=every_step, size=0.5), *widths)
    dut = Network(network, foldings=folded(network, hidden, 2, pipeline=pipeline),
                  streams=streams, pipeline=pipeline,
                  head_folding=[DenseFolding(rows=rows, columns=columns)
                                for rows, columns in foldings] if foldings else None)
    assert dut.saturation[4:] == [f"dense{n}.y" for n in range(len(widths))]
    if foldings is None:
        assert dut.step == max(k.cycles.round for k in dut.engines)
    check(dut, rng, streams=streams)
    assert Counter(modelled_memories(dut)) == declared_memories(generate(dut)[0])


# Units of the last LSTM layer, its foldings U and V, streams, pipeline.
BARE: dict[str, tuple[int, int, int, int, Pipeline]] = {
    "one unit": (1, 1, 1, 1, SHORT),
    "all at once": (7, 7, 8, 1, FAST),
    "one row": (5, 1, 1, 3, MEDIUM),
    "several lanes": (6, 4, 7, 2, SHORT),
    "slow enough for one": (9, 1, 3, 1, FAST),
}


@pytest.mark.parametrize("every_step", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("name", quick(BARE, "one unit"))
def test_no_dense_layer(name: str, every_step: bool) -> None:
    hidden, units, columns, streams, pipeline = BARE[name]
    rng = np.random.default_rng(2)
    network = random_network(rng, FORMATS["8 bits"], 1, (3, hidden), None, every_step=every_step,
                             size=0.5)
    dut = Network(network, foldings=folded(network, units, columns, pipeline=pipeline),
                  streams=streams, pipeline=pipeline)
    assert dut.step == max(k.cycles.round for k in dut.engines)
    check(dut, rng, streams=streams)
    assert Counter(modelled_memories(dut)) == declared_memories(generate(dut)[0])


# Outputs, rows and columns, bits of the outputs, fraction bits of the logits, streams, pipeline.
VECTORS: dict[str, tuple[int, int, int, int, int, int, Pipeline]] = {
    "one": (1, 1, 1, 8, 6, 1, SHORT),
    "two at once": (2, 2, 4, 16, 14, 4, FAST),
    "three, row by row": (3, 1, 4, 12, 4, 2, MEDIUM),
    "seven by three": (7, 3, 4, 10, 8, 1, SHORT),
    "nine by four, coarse": (9, 4, 2, 8, -1, 3, FAST),
    "twenty": (20, 8, 4, 8, 7, 1, SHORT),
    "forty, row by row": (40, 1, 4, 9, 7, 1, SHORT),
    "forty at once": (40, 40, 4, 16, 14, 2, FAST),
}


def vector_network(name: str, kind: str, *, every_step: bool) -> tuple[Any, ...]:
    outputs, rows, columns, bits, f, streams, pipeline = VECTORS[name]
    rng = np.random.default_rng(3)
    network = with_head(rng, random_network(rng, FORMATS["8 bits"], 1, (4,), None,
                                            every_step=every_step, size=0.5), outputs)
    (dense,) = network.head
    y = SQ(4, f)
    dense = QuantizedDense(formats=DenseFormats(x=dense.formats.x, w=dense.formats.w, y=y),
                           w=dense.w, bias=dense.bias)
    vector = (ArgMax(x=y, inputs=outputs) if kind == "argmax" else
              Softmax(x=y, inputs=outputs, y=SQ(2, bits - 2)))
    network = replace(network, head=(dense,), vector=vector)
    dut = Network(network, foldings=folded(network, 4, 5, pipeline=pipeline), streams=streams,
                  pipeline=pipeline, head_folding=DenseFolding(rows=rows, columns=columns))
    return rng, network, dut


@pytest.mark.slow
@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("kind", ["argmax", "softmax"])
@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str, kind: str, every_step: bool) -> None:
    rng, _, dut = vector_network(name, kind, every_step=every_step)
    check(dut, rng, last=12 if every_step else 0, streams=dut.streams)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["argmax", "softmax"])
@pytest.mark.parametrize("name", VECTORS)
def test_what_vectors_take(name: str, kind: str) -> None:
    """Memories to the bit, and multipliers, as the Verilog has them."""
    _, _, dut = vector_network(name, kind, every_step=True)
    assert Counter(modelled_memories(dut)) == declared_memories(generate(dut)[0])
    blocks = generate(dut, family="ecp5")[0].count("MULT18X18D #")
    assert blocks == dut.behind.multipliers + sum(k.cycles.multipliers for k in dut.engines)
