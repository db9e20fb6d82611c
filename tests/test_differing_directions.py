"""Two directions with functions or limits of their own: numbers, formats, hardware, cycles."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.engine_memories import modelled_memories
from fpga.boards import BOARDS
from fpga.choice import limits
from golden.activation import SIGNED_SIGMOID, sigmoid_table, tail_integer_bits
from golden.bidirectional import QuantizedBidirectional
from golden.calibrate import calibrate, quantize, unsupported
from golden.error_bound import error_bound
from golden.fixed import SQ, UQ
from golden.formats import Curve, LSTMFormats, Slope
from golden.function import IDENTITY, RELU, SIGMOID, TANH, Function
from golden.lstm import LSTM, MERGES, Bidirectional
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.quantized_network import QuantizedNetwork
from hdl.cycles import Folding
from hdl.foldings import choose_drain, lstm_part
from hdl.network import Network
from hdl.pipeline import PIPELINES
from hdl.search import Stack
from hdl.verilog import generate
from sim.vectors import Vectors
from sim.verify import verify
from tests.networks import FORMATS, expected_words, random_codes, random_sequences
from tests.streams import run_network
from tests.test_bidirectional import composed, turning_network
from tests.test_cycles import declared_memories
from tests.test_regression import write_design


def functions(name: str, formats: LSTMFormats) -> dict[str, Any]:
    """What a direction has in place of sigmoid, tanh and tanh; the formats' changes beside it."""
    one, z = 1 << formats.tanh.f, formats.z
    hard = Curve(False, 0, 1 << formats.gate.f)
    g, s = SQ(3, formats.tanh.f - 2), SQ(1, formats.tanh.f + 1)
    line = Slope(-one * 3 // 7, formats.tanh.f, one << formats.c.f - 2)
    every: dict[str, dict[str, Any]] = {
        "standard": {},
        "clipped": {"gate": Curve(True, z.min // 3, z.max // 5),
                    "of_candidate": Curve(True, z.min // 7, z.max // 4)},
        "hard gates": {"gate": hard},
        "clipped hard gates": {"gate": Curve(False, hard.high // 5, hard.high * 2 // 3)},
        "sigmoids": {"candidate_reading": SIGNED_SIGMOID, "of_candidate": None,
                     "cell_reading": SIGNED_SIGMOID, "of_cell": None},
        "sigmoid candidate": {"candidate_reading": SIGNED_SIGMOID, "of_candidate": None},
        "rectified": {"g": g, "of_candidate": Curve(False, 0, g.max), "s": formats.c,
                      "of_cell": Curve(False, 0, formats.c.max)},
        "linear candidate": {"g": g, "of_candidate": Curve(False, g.min, g.max)},
        "line of the cell state": {"s": s, "slope": line,
                                   "of_cell": Curve(False, s.min, s.max // 2)},
        "no table": {"gate": hard, "of_candidate": Curve(False, 0, one),
                     "slope": Slope(77, 7, 1 << 6 + formats.c.f), "of_cell": Curve(False, 0, one)},
    }
    return every[name]


def differing(ours: str, theirs: str, *, formats: str = "8 bits", seed: int = 1,
              **options: Any) -> QuantizedNetwork:
    """A bidirectional layer of these functions."""
    network = turning_network(np.random.default_rng(seed), FORMATS[formats], 2,
                              ((options.pop("merge", "concat"), options.pop("hidden", 3)),),
                              **options)
    layer, = network.layers
    directions = []
    for each, name in zip(layer.directions, (ours, theirs), strict=True):
        changes = functions(name, each.formats)
        to = {name: changes.pop(name) for name in "gs" if name in changes}
        directions.append(replace(each, formats=replace(each.formats, **to), **changes))
    assert isinstance(layer, QuantizedBidirectional)
    return replace(network, layers=(
        replace(layer, forward=directions[0], backward=directions[1]),))


def device(network: QuantizedNetwork, units: int, columns: int, interval: int, pipeline: str,
           longest: int = 8) -> Network:
    """With units at this distance, if there is as much time."""
    layer, = network.layers
    one = layer.directions[0]
    chosen = choose_drain(one.inputs, one.hidden, units=min(units, one.hidden), columns=columns,
                          pipeline=PIPELINES[pipeline], streams=2,
                          peepholes=one.peepholes is not None, projected=one.projected)
    folding = Folding(units=chosen.units, columns=columns, lanes=chosen.units, interval=interval,
                      projection=chosen.projection)
    return Network(network, pipeline=PIPELINES[pipeline], foldings=[folding], longest=longest)


# The functions, what else the layer has, units, columns, interval and pipeline.
PAIRS: dict[str, tuple[str, str, dict[str, Any], int, int, int, str]] = {
    "clip": ("standard", "clipped", {}, 2, 2, 2, "short"),
    "gates": ("hard gates", "clipped", {"merge": "mul"}, 1, 1, 1, "short"),
    "tables": ("sigmoids", "standard", {"every_step": False}, 2, 1, 4, "fast"),
    "peepholes": ("no table", "standard", {"peepholes": True}, 1, 1, 1, "medium"),
    "candidates": ("standard", "rectified", {}, 1, 2, 1, "medium"),
    "lines": ("rectified", "line of the cell state", {}, 1, 1, 4, "short"),
    "line and table": ("line of the cell state", "sigmoids", {"merge": "sum"}, 3, 2, 2, "fast"),
    "one candidate": ("linear candidate", "sigmoid candidate", {}, 1, 1, 5, "short"),
    "clipped lines": ("clipped hard gates", "hard gates", {"peepholes": True}, 2, 1, 5, "fast"),
    "table or none": ("no table", "sigmoids", {"every_step": False, "final": True}, 2, 1, 2,
                      "medium"),
    "projections": ("standard", "no table", {"projected": 3, "hidden": 4}, 2, 1, 2, "fast"),
    "begun": ("clipped", "rectified", {"begun": True, "peepholes": True}, 1, 1, 5, "short"),
}


def pair(name: str) -> tuple[QuantizedNetwork, tuple[int, int, int, str]]:
    ours, theirs, options, units, columns, interval, pipeline = PAIRS[name]
    return differing(ours, theirs, **options), (units, columns, interval, pipeline)


def some(*quick: str) -> list[Any]:
    """The pairs, all but a few of them slow."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow)
            for name in PAIRS]


@pytest.mark.parametrize("name", PAIRS)
def test_golden(name: str) -> None:
    """Both directions together give what each gives alone."""
    network, _ = pair(name)
    x = random_codes(np.random.default_rng(2), network.x, (4, 7, network.inputs))
    for n, length in enumerate((4, 1, 7, 2)):
        y = network.run(x[n:n + 1, :length]).y[0]
        expected = composed(network, x[n, :length])
        assert y.tolist() == (expected if network.every_step else expected[0]).tolist()


def check(network: QuantizedNetwork, dut: Network, seed: int) -> None:
    """Words and flags of sequences that follow each other, under random stalls."""
    sequences = random_sequences(np.random.default_rng(seed), network, 3, 1, 8, 2, 5)
    words = expected_words(network, sequences)
    seen = run_network(dut, sequences, outputs=len(words), stall=0.4)
    assert seen.words == words
    runs = [network.run(x[None]).saturated for x in sequences]
    assert [seen.saturated >> bit & 1 for bit in range(len(dut.saturation))] == [
        int(any(counts[name] for counts in runs)) for name in dut.saturation]
    assert seen.malformed == 0


@pytest.mark.parametrize("name", some("lines"))
def test_every_bit(name: str) -> None:
    network, folding = pair(name)
    check(network, device(network, *folding), seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("formats", FORMATS)
@pytest.mark.parametrize("name", PAIRS)
def test_every_bit_of_formats(name: str, formats: str) -> None:
    """With other binary points above each other, the directions exchanged."""
    ours, theirs, options, *_ = PAIRS[name]
    to = FORMATS[formats]
    if {ours, theirs} & {"hard gates", "clipped hard gates", "no table"} and to.z.f != to.gate.f:
        pytest.skip("a gate without a table has the fraction bits of its preactivation")
    network = differing(theirs, ours, formats=formats, seed=5, **options)
    check(network, device(network, 1, 1, 2, "short"), seed=6)


@pytest.mark.parametrize(("ours", "driven", "flags"), [
    ("rectified", 0, "c"), ("rectified", 1, "zuc"),
    pytest.param("line of the cell state", 0, "zuc", marks=pytest.mark.slow),
    pytest.param("hard gates", 0, "zuc", marks=pytest.mark.slow)])
def test_flags_of_each(ours: str, driven: int, flags: str) -> None:
    """What is a limit to one direction saturates in the other, which is at rest."""
    network = differing(ours, "standard", hidden=2, seed=2)
    layer, = network.layers
    assert isinstance(layer, QuantizedBidirectional)
    directions = []
    for n, each in enumerate(layer.directions):
        one = 1 << each.formats.product_fraction
        # Both units keep their state; far off is the candidate of the first, and the second grows.
        bias = np.array([-8, 7.9, 7.9, 7.9, -99, 0.375, 0, 0]) * (n == driven)
        directions.append(replace(
            each, w_x=0 * each.w_x, w_h=0 * each.w_h, bias=(bias * one).astype(np.int64),
            initial_c=np.array([0, each.formats.c.max]) * (n == driven)))
    network = replace(network, layers=(
        replace(layer, forward=directions[0], backward=directions[1]),))
    dut = device(network, 1, 1, 2, "short")
    sequences = random_sequences(np.random.default_rng(0), network, 1, 2)
    runs = [network.run(x[None]).saturated for x in sequences]
    assert {name for counts in runs for name, count in counts.items() if count and name[-1] in "zuc"
            } == {f"lstm0.{name}" for name in flags}
    words = expected_words(network, sequences)
    seen = run_network(dut, sequences, outputs=len(words))
    assert seen.words == words
    assert [seen.saturated >> bit & 1 for bit in range(len(dut.saturation))] == [
        int(any(counts[name] for counts in runs)) for name in dut.saturation]


@pytest.mark.parametrize("name", some("one candidate"))
def test_cycles(name: str) -> None:
    """The same as of two directions that are alike: the model knows nothing of functions."""
    network, folding = pair(name)
    dut = device(network, *folding, longest=10)
    rng, ends = np.random.default_rng(4), {}
    for steps in (1, 5, 6):
        sequences = random_sequences(rng, network, steps)
        words = expected_words(network, sequences)
        seen = run_network(dut, sequences, outputs=len(words))
        assert seen.words == words
        if steps == 1:
            assert seen.given[0] - seen.taken[0] == dut.latency
        ends[steps] = seen.done[-1] - seen.taken[0]
    assert ends[6] - ends[5] == dut.further


@pytest.mark.parametrize("name", some("table or none"))
def test_what_it_takes(name: str) -> None:
    """Memories to the bit, tables where either direction has one, and multipliers."""
    network, folding = pair(name)
    dut = device(network, *folding)
    assert Counter(modelled_memories(dut)) == declared_memories(generate(dut)[0])
    (verilog, manifest), k = generate(dut, family="ecp5"), dut.engines[0].cycles
    told, (_, theirs) = manifest["layers"][0], network.directions
    for name, to in (("g", theirs.formats.g), ("s", theirs.formats.s)):
        assert told.get("reverse_formats", told["formats"])[name] == {
            "kind": "SQ", "i": to.i, "f": to.f}
    tables = re.findall(r"^module \\gatefold\.lstm0\.drain\.lane\d+\.table\d+ ", verilog, re.M)
    assert len(tables) == k.tables
    shape, = Stack.of(network, longest=8).layers
    part = lstm_part(shape, dut.engines[0].cycles.folding, pipeline=k.pipeline, streams=1,
                     limits=limits(BOARDS["ulx3s-85f"]))
    blocks = re.findall(r"^ *MULT18X18D #", verilog, re.M)
    assert len(blocks) == part.multipliers + dut.behind.multipliers


@pytest.mark.parametrize("bits", [8, 11, *(
    pytest.param(bits, marks=pytest.mark.slow) for bits in range(8, 19) if bits not in (8, 11))])
def test_a_further_reading_changes_no_knot(bits: int) -> None:
    """So both directions read the table of the one that has more readings."""
    gate, tanh = UQ(1, bits - 1), SQ(2, bits - 2)
    z = SQ(tail_integer_bits(gate.f), bits - 1)
    plain, more = (sigmoid_table(z=z, gate=gate, tanh=tanh, signed_sigmoid=signed)
                   for signed in (False, True))
    assert (plain.splits, plain.block_bits, plain.fraction) == (
        more.splits, more.block_bits, more.fraction)
    assert plain.knots.tolist() == more.knots.tolist()


KINDS = (SIGMOID, TANH, RELU, IDENTITY, Function("HardSigmoid"), Function("HardSigmoid", 0.4, 0.3),
         Function("HardSigmoid", -0.3, 0.6), Function("Affine", 0.7, -0.2),
         Function("Affine", -0.4, 0.3))


def random_layer(rng: np.random.Generator, inputs: int, hidden: int) -> Bidirectional:
    """Functions of all kinds, a clip and peepholes, each direction its own."""
    def direction(*, reverse: bool) -> LSTM:
        gate = (SIGMOID, Function("HardSigmoid", 0.3, 0.4))[rng.integers(2)]
        candidate, squash = (KINDS[rng.integers(len(KINDS))] for _ in range(2))
        return LSTM(w_x=rng.uniform(-0.8, 0.8, (4 * hidden, inputs)),
                    w_h=rng.uniform(-0.8, 0.8, (4 * hidden, hidden)),
                    bias=rng.uniform(-0.8, 0.8, 4 * hidden),
                    peepholes=rng.uniform(-0.6, 0.6, 3 * hidden) if rng.integers(2) else None,
                    gate=gate, candidate=candidate, squash=squash, reverse=reverse,
                    clip=float(rng.uniform(0.5, 2.0)) if rng.integers(2) else None)

    return Bidirectional(forward=direction(reverse=False), backward=direction(reverse=True),
                         merge=MERGES[rng.integers(4)])


@pytest.mark.parametrize("bits", [8, 16])
def test_calibrated(bits: int) -> None:
    """Nothing is refused, and no output is further off than the rounding may bring it."""
    for seed in range(15):
        rng = np.random.default_rng(seed)
        model = FloatNetwork(layers=(random_layer(rng, 3, 4),), head=(), every_step=True)
        assert unsupported(model) == []
        x, lengths = rng.uniform(-1, 1, (12, 8, 3)), rng.integers(1, 9, 12)
        quantized = quantize(model, x, lengths, bits=bits)
        error = np.abs(quantized.run_real(x, lengths).real - model.run(x, lengths))
        assert (error <= error_bound(model, quantized, x, lengths)).all()
        assert error.max() < 2.0 ** (7 - bits)


def test_formats_of_each() -> None:
    """Those of a candidate and of what a cell state becomes are each direction's own."""
    rng = np.random.default_rng(0)
    layer = random_layer(rng, 3, 4)
    layer = replace(layer, forward=replace(layer.forward, candidate=TANH, squash=TANH),
                    backward=replace(layer.backward, candidate=RELU, squash=RELU))
    model = FloatNetwork(layers=(layer,), head=(), every_step=True)
    chosen, = calibrate(model, rng.uniform(-1, 1, (12, 8, 3))).layers
    assert chosen.backward is not None
    assert (chosen.formats.g, chosen.formats.s) == (chosen.formats.tanh, chosen.formats.tanh)
    assert chosen.backward.g != chosen.formats.g
    assert chosen.backward.s == chosen.formats.c
    assert chosen.directions == (chosen.formats, replace(
        chosen.formats, g=chosen.backward.g, s=chosen.backward.s))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_layers(seed: int) -> None:
    """Whatever the two directions are, at any distance of units."""
    rng = np.random.default_rng(seed)
    inputs, hidden = (int(number) for number in rng.integers(1, 5, 2))
    layer, every_step = random_layer(rng, inputs, hidden), bool(rng.integers(2))
    model = FloatNetwork(
        layers=(layer,), every_step=every_step, final=bool(not every_step and rng.integers(2)),
        head=(Dense(w=rng.uniform(-1, 1, (2, layer.outputs)), bias=np.zeros(2)),))
    network = quantize(model, rng.uniform(-1, 1, (12, 8, inputs)), bits=int(rng.integers(8, 17)))
    interval = int(rng.choice([each for each in (1, 2, 4, 6) if each <= inputs + hidden]))
    units, columns = int(rng.integers(1, hidden + 1)), (inputs + hidden) // interval
    check(network, device(network, units, columns, interval,
                          list(PIPELINES)[rng.integers(len(PIPELINES))]), seed)


@pytest.mark.parametrize(("name", "family"), [
    pytest.param(*item, marks=pytest.mark.slow) for item in zip(
        PAIRS, (None, "ecp5", "ice40") * len(PAIRS), strict=False)])
def test_bench(tmp_path: Path, name: str, family: str | None) -> None:
    """All of the bench's tests, the states of both directions among what they compare."""
    network, (units, columns, _, pipeline) = pair(name)
    rng = np.random.default_rng(6)
    lengths = rng.integers(1, 20, 12)
    x = random_codes(rng, network.x, (len(lengths), 20, network.inputs))
    write_design(tmp_path, network, units, columns, Vectors.compute(network, x, lengths),
                 family=family, pipeline=PIPELINES[pipeline])
    result = verify(tmp_path, seed=1, effort=10_000)
    assert result.failure is None
    assert all(test.words and test.states for test in result.tests)


def test_wrong_directions() -> None:
    """Formats but those of g and s are shared, and sizes are the same."""
    network = differing("standard", "standard")
    layer, = network.layers
    assert isinstance(layer, QuantizedBidirectional)
    other = replace(layer.backward, formats=replace(layer.formats, c=SQ(4, 4)))
    with pytest.raises(ValueError, match=r"^the two directions of an LSTM must have the same "
                                         r"formats, but for those of g and s, not "):
        replace(layer, backward=other)

    rng = np.random.default_rng(0)

    def projected(hidden: int, *, reverse: bool) -> LSTM:
        w_x, w_h = rng.uniform(-1, 1, (2, 4 * hidden, 2))
        return LSTM(w_x=w_x, w_h=w_h, bias=np.zeros(4 * hidden), reverse=reverse,
                    projection=rng.uniform(-1, 1, (2, hidden)))

    model = FloatNetwork(layers=(Bidirectional(
        forward=projected(3, reverse=False), backward=projected(4, reverse=True)),), head=(),
        every_step=True)
    assert unsupported(model) == ["two directions of different sizes, of lstm0"]
