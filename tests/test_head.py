"""What is behind the last LSTM layer, in hardware against the bit-true network: bits and cycles."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.engine import modelled_memories
from golden.fixed import SQ
from golden.quantized import Curve, DenseFormats, QuantizedDense
from golden.quantized_network import QuantizedNetwork
from hdl.cycles import FAST, MEDIUM, SHORT, DenseFolding, Pipeline
from hdl.network import Network
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
    for stream in range(streams):
        given = [now for now, one in zip(seen.given, seen.streams, strict=True) if one == stream]
        assert set(np.diff(given[-steps:])[filled:].tolist()) == {dut.step}


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


@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("name", ROWS)
def test_dense_layers_in_a_row(name: str, every_step: bool) -> None:
    hidden, widths, foldings, streams, pipeline = ROWS[name]
    rng = np.random.default_rng(1)
    network = with_head(rng, random_network(rng, FORMATS["8 bits"], 1, (hidden,), None,
                                            every_step=every_step, size=0.5), *widths)
    dut = Network(network, foldings=folded(network, hidden, 2, pipeline=pipeline),
                  streams=streams, pipeline=pipeline,
                  head_folding=None if foldings is None else [
                      DenseFolding(rows=rows, columns=columns)
                      for rows, columns in foldings])
    assert dut.saturation[4:] == [f"dense{n}.y" for n in range(len(widths))]
    if foldings is None:
        assert dut.step == max(k.cycles.round for k in dut.engines)
    check(dut, rng, streams=streams)
    assert Counter(modelled_memories(dut)) == declared_memories(generate(dut)[0])
