"""Interleaved streams: each gives what it would give alone, whatever the others do."""

import numpy as np
import pytest

from golden.quantized_network import QuantizedNetwork
from hdl.dense_cycles import DenseFolding
from hdl.network import Network
from hdl.pipeline import FAST, SHORT, Pipeline
from tests.cases import thinned
from tests.networks import FORMATS, expected_words, folded, random_network, random_sequences
from tests.streams import Exchange, interleaved, run_network

Sequences = list[list[np.ndarray]]


def made(seed: int, inputs: int, hidden: tuple[int, ...], streams: int, *, units: int = 2,
         columns: int = 2, outputs: int = 2, every_step: bool = True, pipeline: Pipeline = SHORT,
         head: DenseFolding | None = None) -> tuple[np.random.Generator, QuantizedNetwork, Network]:
    rng = np.random.default_rng(seed)
    network = random_network(rng, FORMATS["8 bits"], inputs, hidden, outputs,
                             every_step=every_step, size=0.5)
    foldings = folded(network, units, columns, pipeline=pipeline, streams=streams)
    return rng, network, Network(network, foldings=foldings, head_folding=head, pipeline=pipeline,
                                 streams=streams)


def count(network: QuantizedNetwork, sequences: Sequences) -> int:
    return sum(len(expected_words(network, some)) for some in sequences)


def check(network: QuantizedNetwork, sequences: Sequences, seen: Exchange) -> None:
    """Every output vector and state of each stream, and the flags of all."""
    over = dict.fromkeys(network.saturating, 0)
    for stream, some in enumerate(sequences):
        assert seen.of(stream) == expected_words(network, some)
        results = [network.run(x[None], trace=True) for x in some]
        for result in results:
            for name, times in result.saturated.items():
                over[name] += times
        for n, layer in enumerate(network.directions):
            for tensor in ("c", "h") if layer.projection is None else ("c", "m", "h"):
                wanted = [step for result in results if result.layers is not None
                          for step in getattr(result.layers[n], tensor)[0].tolist()]
                units = layer.outputs if tensor == "h" else layer.hidden
                assert seen.states_of(f"lstm{n}.{tensor}", stream, units) == wanted
    assert [seen.saturated >> bit & 1 for bit in range(len(over))] == [
        int(times > 0) for times in over.values()]


# Inputs, hidden units of each layer, units and columns in parallel, pipeline.
SHAPES = {
    "one by one": (1, (3,), 1, 1, SHORT),
    "several beats": (5, (4,), 2, 2, SHORT),
    "all at once": (1, (2,), 2, 3, SHORT),
    "fast": (3, (5,), 2, 3, FAST),
    "stack": (2, (4, 2), 2, 2, SHORT),
    "fast stack": (1, (2, 3), 1, 2, FAST),
}


@pytest.mark.parametrize(("name", "streams", "every_step", "stall"), thinned(SHAPES, [
    (streams, *of) for of in ((True, 0), (False, 0.4)) for streams in (2, 3, 5)], every=6))
def test_each_as_if_alone(name: str, streams: int, every_step: bool, stall: float) -> None:
    """Sequences of unequal lengths and numbers in any mixture of turns."""
    inputs, hidden, units, columns, pipeline = SHAPES[name]
    rng, network, dut = made(list(SHAPES).index(name) + 10 * streams, inputs, hidden, streams,
                             units=units, columns=columns, every_step=every_step,
                             pipeline=pipeline)
    sequences = [random_sequences(rng, network, *rng.integers(1, 6, rng.integers(1, 4)).tolist())
                 for _ in range(streams)]
    order = iter(lambda: int(rng.integers(streams)), -1)
    seen = run_network(dut, [], beats=interleaved(dut, sequences, order),
                       outputs=count(network, sequences), stall=stall)
    check(network, sequences, seen)
    assert seen.malformed == 0


@pytest.mark.parametrize("streams", [2, 3, 5])
def test_sequences_of_one_step(streams: int) -> None:
    """Each begins with zero state, however it meets those of the others."""
    rng, network, dut = made(streams, 2, (3,), streams, units=3, columns=5)
    sequences = [random_sequences(rng, network, *[1] * 6) for _ in range(streams)]
    seen = run_network(dut, [], beats=interleaved(dut, sequences),
                       outputs=count(network, sequences))
    check(network, sequences, seen)


@pytest.mark.parametrize("streams", [2, 3, 5])
def test_runs_of_one_stream(streams: int) -> None:
    """Several steps of a stream before the next one's turn: its room runs out, and fills up."""
    rng, network, dut = made(streams, 3, (4,), streams)
    sequences = [random_sequences(rng, network, 3, 1, 5) for _ in range(streams)]
    order = iter([stream for _ in range(3) for stream in rng.permutation(streams).tolist()
                  for _ in range(3)])
    seen = run_network(dut, [], beats=interleaved(dut, sequences, order),
                       outputs=count(network, sequences), stall=0.2)
    check(network, sequences, seen)


@pytest.mark.parametrize(("streams", "busy", "pipeline"), thinned(
    [(2, 0), (2, 1), (3, 1), (5, 3)], [SHORT, FAST], every=2))
def test_idle_streams_cost_nothing(streams: int, busy: int, pipeline: Pipeline) -> None:
    """A stream whose neighbours rest in mid-sequence has the array to itself; they go on later."""
    rng, network, dut = made(0, 2, (4,), streams, pipeline=pipeline)
    sequences = [random_sequences(rng, network, 9 if stream == busy else 4)
                 for stream in range(streams)]
    others = [stream for stream in range(streams) if stream != busy]
    order = iter([*others, *others, *[busy] * 9, *others, *others])
    seen = run_network(dut, [], beats=interleaved(dut, sequences, order),
                       outputs=count(network, sequences))
    check(network, sequences, seen)
    given = [now for now, stream in zip(seen.given, seen.streams, strict=True) if stream == busy]
    # The first steps wait for what the others still have to do.
    assert np.diff(given)[2:-2].tolist() == [dut.alone] * 4


@pytest.mark.parametrize(("streams", "busy"), [(3, 2), (5, 2), (5, 4)])
def test_as_many_as_are_busy(streams: int, busy: int) -> None:
    """With k streams busy each makes a step in the cycles of a machine of k streams."""
    rng, network, dut = made(1, 2, (5,), streams)
    sequences = [random_sequences(rng, network, 10) if stream < busy else []
                 for stream in reversed(range(streams))]
    seen = run_network(dut, [], beats=interleaved(dut, sequences),
                       outputs=count(network, sequences), quiet=10)
    k = dut.engines[0].cycles
    wanted = max(busy * k.work, k.step)
    for stream in range(streams - busy, streams):
        given = [now for now, one in zip(seen.given, seen.streams, strict=True) if one == stream]
        assert set(np.diff(given)[3:].tolist()) == {wanted}
    check(network, sequences, seen)


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_slow_head(streams: int) -> None:
    """A head slower than the layer sets the pace of all streams together."""
    rng, network, dut = made(2, 2, (5,), streams, outputs=7, units=5, columns=1,
                             head=DenseFolding(rows=1, columns=1))
    assert dut.head[0].cycles.work == 35
    sequences = [random_sequences(rng, network, 8) for _ in range(streams)]
    seen = run_network(dut, [], beats=interleaved(dut, sequences), outputs=8 * streams, quiet=10)
    assert dut.step == 35 * streams
    assert dut.alone == 35
    for stream in range(streams):
        given = [now for now, one in zip(seen.given, seen.streams, strict=True) if one == stream]
        assert set(np.diff(given)[4:].tolist()) == {dut.step}
    check(network, sequences, seen)


@pytest.mark.parametrize(("streams", "hidden", "after"), thinned(
    [(2, (3,)), (3, (4,)), (5, (3, 2))], [1, 5, 14, 22], every=3))
def test_reset(after: int, streams: int, hidden: tuple[int, ...]) -> None:
    """Nothing of any stream from before a reset shows after it."""
    rng, network, dut = made(after, 3, hidden, streams)
    sequences = [random_sequences(rng, network, 3, 2) for _ in range(streams)]
    beats = interleaved(dut, sequences, iter(lambda: int(rng.integers(streams)), -1))
    seen = run_network(dut, [], beats=beats, outputs=count(network, sequences),
                       reset_after=after, stall=0.2)
    assert [seen.of(stream) for stream in range(streams)] == [
        expected_words(network, some) for some in sequences]
    assert seen.malformed == 0


@pytest.mark.parametrize("every_step", [True, False])
def test_nobody_listens(every_step: bool) -> None:
    """An output that is not taken for long stops the streams; nothing is lost or repeated."""
    rng, network, dut = made(3, 1, (3,), 3, every_step=every_step, units=3, columns=4)
    sequences = [random_sequences(rng, network, 2, 1, 3) for _ in range(3)]
    seen = run_network(dut, [], beats=interleaved(dut, sequences),
                       outputs=count(network, sequences), stall=0.97)
    check(network, sequences, seen)


def test_ports() -> None:
    for streams, bits in ((2, 1), (3, 2), (5, 3)):
        _, _, dut = made(8, 1, (2,), streams)
        assert dut.streams == streams
        assert len(dut.s_axis_tid) == len(dut.m_axis_tid) == bits
    _, _, dut = made(8, 1, (2,), 1)
    assert not hasattr(dut, "s_axis_tid")
    assert not hasattr(dut, "m_axis_tid")
