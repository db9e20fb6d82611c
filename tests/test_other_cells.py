"""Peepholes, and the functions of candidate and cell state: numbers, formats, hardware, cycles."""

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from golden.activation import SIGMOID as SIGMOID_READING
from golden.activation import SIGNED_SIGMOID, sigmoid_table
from golden.activation import TANH as TANH_READING
from golden.calibrate import calibrate, quantize, unsupported
from golden.fixed import SQ, UQ, Format
from golden.formats import Curve, DenseFormats, LSTMFormats, Slope
from golden.function import RELU, SIGMOID, Function, sigmoid
from golden.lstm import LSTM
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from hdl.cycles import Folding
from hdl.foldings import choose_drain
from hdl.network import Network
from hdl.pipeline import PIPELINES
from hdl.ram import RAM
from hdl.scaling import line, signed_digits
from tests.cases import sparse, thinned
from tests.networks import (
    FORMATS,
    expected_words,
    peepholed,
    random_codes,
    random_network,
    random_sequences,
)
from tests.streams import interleaved, run_network
from tests.test_network import poisoned
from tests.test_quantized import Reference, check_against_reference

HARD = Function("HardSigmoid")


class Cells(Reference):
    """The equations with everything that a layer may have, in exact fractions."""

    def limited(self, name: str, exact: Fraction, to: Format, curve: Curve) -> int:
        code = round(exact * Fraction(2) ** to.f)
        if (code < to.min and curve.low == to.min) or (code > to.max and curve.high == to.max):
            self.saturated[name] += 1
        return min(max(code, curve.low), curve.high)

    def value(self, layer: QuantizedLSTM, curve: Curve, reading: int, code: int) -> int:
        if not curve.table:
            return code
        if reading != SIGNED_SIGMOID:
            return (self.sigmoid, self.tanh)[reading](layer, code)
        one = 2**layer.formats.tanh.f
        value = floor(self.rise(layer, abs(code)) * one + Fraction(1, 2))
        return one // 2 + (value if code >= 0 else -value)

    def step(self, number: int, layer: QuantizedLSTM, x: list[int], h: list[int], c: list[int],
             now: dict[str, list[int]]) -> None:
        """One step of one layer, into ``now``."""
        formats, hidden = layer.formats, layer.hidden
        z: dict[str, list[int]] = {gate: [] for gate in "ifgo"}
        for gate in "ifgo":
            at = "ifgo".index(gate)
            reading, curve = SIGMOID_READING, layer.gate
            if gate == "g":
                reading, curve = layer.candidate_reading, layer.of_candidate
            to = layer.candidate if gate == "g" else formats.z
            for unit in range(hidden):
                row = at * hidden + unit
                total = int(layer.bias[row])
                total += sum(int(w) * v for w, v in zip(layer.w_x[row], x, strict=True))
                total += sum(int(w) * v for w, v in zip(layer.w_h[row], h, strict=True))
                exact = Fraction(total) / Fraction(2) ** formats.product_fraction
                if layer.peepholes is not None and formats.p and gate != "g":
                    weight = int(layer.peepholes["ifo".index(gate) * hidden + unit])
                    # The output gate sees the new state, which is there by now.
                    state = now["c"][unit] if gate == "o" else c[unit]
                    exact += weight * state / Fraction(2) ** (formats.p.f + formats.c.f)
                z[gate].append(self.limited(f"lstm{number}.z", exact, to, curve))
                now[gate].append(self.value(layer, curve, reading, z[gate][-1]))
                if gate != "g":
                    continue
                i, f, g = (Fraction(now[name][unit], 2**to.f) for name, to in (
                    ("i", formats.gate), ("f", formats.gate), ("g", formats.g)))
                exact = f * c[unit] * Fraction(2) ** -formats.c.f + i * g
                now["c"].append(self.settle(f"lstm{number}.c", exact, formats.c))
                if layer.of_cell.table:
                    now["u"].append(self.limited(f"lstm{number}.u", exact, layer.squashed,
                                                 layer.of_cell))
                elif layer.slope is None:
                    now["u"].append(min(max(now["c"][-1], layer.of_cell.low), layer.of_cell.high))
                else:
                    a, b = layer.slope.a, layer.slope.b
                    exact = (a * now["c"][-1] + b) / Fraction(2) ** (layer.slope.f + formats.c.f)
                    now["u"].append(self.limited(f"lstm{number}.u", exact, formats.s,
                                                 layer.of_cell))
        for unit in range(hidden):
            s = self.value(layer, layer.of_cell, layer.cell_reading, now["u"][unit])
            o = Fraction(now["o"][unit], 2**formats.gate.f)
            now["h"].append(self.settle(f"lstm{number}.h", o * s / Fraction(2) ** formats.s.f,
                                        formats.h))
        now["z"] = [*z["i"], *z["f"], *z["g"], *z["o"]]

    def run(self, x: list[list[int]]) -> list[dict[str, list[list[int]]]]:
        traces = []
        for number, layer in enumerate(self.network.directions):
            h, c = layer.initial_h.tolist(), layer.initial_c.tolist()
            trace: dict[str, list[list[int]]] = {name: [] for name in "xzifgouch"}
            for step in x:
                now: dict[str, list[int]] = {name: [] for name in "zifgouch"}
                self.step(number, layer, step, h, c, now)
                h, c = now["h"], now["c"]
                trace["x"].append(list(step))
                for name, values in now.items():
                    trace[name].append(values)
            traces.append(trace)
            x = trace["h"]
        assert not self.network.head
        return [*traces, {"y": x if self.network.every_step else x[-1:]}]


def with_functions(network: QuantizedNetwork, *, candidate: bool = False, cell: str = "tanh"
                   ) -> QuantizedNetwork:
    """The network with a sigmoid candidate, and a sigmoid or a line of the cell state."""
    layers = []
    for layer in network.directions:
        formats = layer.formats
        changes: dict[str, Any] = {}
        if candidate:
            changes |= {"candidate_reading": SIGNED_SIGMOID, "of_candidate": None}
        if cell == "sigmoid":
            changes |= {"cell_reading": SIGNED_SIGMOID, "of_cell": None}
        elif cell == "line":
            one = 1 << formats.tanh.f
            b = one << formats.c.f
            changes |= {"slope": Slope(-one * 3 // 7, formats.tanh.f, b // 3),
                        "of_cell": Curve(False, -one // 8, formats.s.max)}
        elif cell == "hard":
            changes |= {"slope": Slope(77, 7, 1 << 6 + formats.c.f),
                        "of_cell": Curve(False, 0, 1 << formats.tanh.f)}
        layers.append(replace(layer, **changes))
    return replace(network, layers=tuple(layers))


GOLDEN: dict[str, tuple[bool, dict[str, Any]]] = {
    "peepholes": (True, {}), "sigmoid candidate": (False, {"candidate": True}),
    "sigmoid of the cell state": (False, {"cell": "sigmoid"}),
    "line of the cell state": (False, {"cell": "line"}),
    "hard sigmoid of the cell state": (False, {"cell": "hard"}),
    "all": (True, {"candidate": True, "cell": "sigmoid"}),
    "peepholes and a line": (True, {"candidate": True, "cell": "line"}),
}


@pytest.mark.parametrize(("name", "cell"), thinned(FORMATS, GOLDEN, every=2))
def test_every_bit_of_golden(name: str, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against exact fractions, every intermediate and every count of what saturates."""
    monkeypatch.setattr("tests.test_quantized.Reference", Cells)
    rng = np.random.default_rng(len(name) + len(cell))
    peepholes, functions = GOLDEN[cell]
    network = random_network(rng, FORMATS[name], 2, (3, 2), None, every_step=True, size=0.6)
    if peepholes:
        network = peepholed(rng, network)
    network = with_functions(network, **functions)
    x = random_codes(rng, network.x, (5, 9, 2))
    check_against_reference(network, x, np.array([3, 9, 1, 9, 6]))


def test_saturations_of_the_output_gate_count() -> None:
    """A peephole drives o beyond its format, and i and f not."""
    network = of_output_gate(SQ(4, 8))
    result = network.run(np.zeros((1, 6, 1), dtype=np.int64), trace=True)
    assert result.layers is not None
    assert result.saturated["lstm0.z"] > 0
    formats, codes = network.directions[0].formats, result.layers[0]
    assert codes.z[0, -1, 3] == formats.z.max
    assert np.abs(codes.z[0, :, :3]).max() < formats.z.max
    # The new state it is that o sees, exactly 1 after a step.
    assert codes.z[0, :3, 3].tolist() == [-192, 768, formats.z.max]


def of_output_gate(p: SQ, inputs: int = 1) -> QuantizedNetwork:
    """One unit that counts its steps; its output gate sees 7.5 times the count, less 9."""
    formats = LSTMFormats(x=SQ(1, 7), h=SQ(1, 7), c=SQ(6, 4), w_x=SQ(6, 6), w_h=SQ(6, 6),
                          z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6), p=p)
    bias = np.array([7 << 13, 7 << 13, 3 << 13, -9 << 13])
    layer = QuantizedLSTM(
        formats=formats, w_x=np.zeros((4, inputs), dtype=np.int64),
        w_h=np.zeros((4, 1), dtype=np.int64), bias=bias,
        peepholes=np.array([0, 0, 15 << p.f - 1]))
    head = QuantizedDense(formats=DenseFormats(x=formats.h, w=SQ(2, 6), y=SQ(3, 6)),
                          w=np.array([[64]]), bias=np.zeros(1, dtype=np.int64))
    return QuantizedNetwork(layers=(layer,), head=(head,), every_step=True)


@pytest.mark.parametrize(("steps", "interval"), thinned([2, 3], [1, 2, 4, 5, 16], every=3))
def test_flag_of_the_output_gate(steps: int, interval: int) -> None:
    """Its preactivation has the flag of the others, and its sum without c' has none."""
    network = of_output_gate(SQ(4, 8), inputs=16)
    x = np.zeros((steps, 16), dtype=np.int64)
    expected = network.run(x[None]).saturated
    assert expected["lstm0.z"] == (steps == 3)
    dut = Network(network, foldings=[Folding(units=1, columns=1, lanes=1, interval=interval)])
    words = expected_words(network, [x])
    seen = run_network(dut, [x], outputs=len(words))
    assert seen.words == words
    assert [seen.saturated >> bit & 1 for bit in range(len(dut.saturation))] == [
        int(expected[name] > 0) for name in dut.saturation]


def cell_of(rng: np.random.Generator, inputs: int, hidden: int, **cell: Any) -> FloatNetwork:
    """A float network of one layer."""
    scale = 1.5 / max(1, inputs / 3) ** 0.5
    if cell.get("peepholes") == "random":
        cell["peepholes"] = rng.uniform(-2, 2, 3 * hidden)
    return FloatNetwork(
        layers=(LSTM(w_x=rng.uniform(-scale, scale, (4 * hidden, inputs)),
                     w_h=rng.uniform(-1, 1, (4 * hidden, hidden)),
                     bias=rng.uniform(-1, 1, 4 * hidden), **cell),),
        head=(Dense(w=rng.uniform(-1, 1, (2, hidden)), bias=rng.uniform(-1, 1, 2)),),
        every_step=True)


CELLS: dict[str, dict[str, Any]] = {
    "peepholes": {"peepholes": "random"},
    "peepholes of hard gates": {"peepholes": "random", "gate": HARD, "clip": 1.5},
    "sigmoid candidate": {"candidate": SIGMOID},
    "sigmoid candidate, clipped": {"candidate": SIGMOID, "clip": 0.8},
    "sigmoid of the cell state": {"squash": SIGMOID},
    "hard sigmoid of the cell state": {"squash": HARD},
    "falling hard sigmoid of the cell state": {"squash": Function("HardSigmoid", -0.4, 0.3)},
    "line of the cell state": {"squash": Function("Affine", -0.7, 0.3)},
    "constant of the cell state": {"squash": Function("Affine", 0.0, 0.3)},
    "all tables": {"peepholes": "random", "candidate": SIGMOID, "squash": SIGMOID, "clip": 1.2,
                   "initial_h": np.linspace(-1, 1, 5), "initial_c": np.linspace(2, -2, 5)},
    "no table": {"peepholes": "random", "gate": HARD, "candidate": HARD,
                 "squash": Function("Affine", 0.3, -0.2), "initial_c": np.linspace(2, -2, 5)},
    "rectified": {"peepholes": "random", "candidate": RELU, "squash": RELU},
}


@pytest.mark.parametrize("bits", [8, 16, *(pytest.param(bits, marks=pytest.mark.slow)
                                           for bits in (10, 12, 18))])
@pytest.mark.parametrize("name", [name for name in CELLS if name != "rectified"])
def test_calibrated(name: str, bits: int) -> None:
    """Nothing is refused, no state saturates, and what is left is the rounding."""
    rng = np.random.default_rng(bits)
    model = cell_of(rng, 3, 5, **CELLS[name])
    assert unsupported(model) == []
    x = rng.uniform(-1, 1, (30, 10, 3))
    result = quantize(model, x, bits=bits).run_real(x)
    # A preactivation may, where its function is constant.
    assert sum(result.saturated.values()) == result.saturated["lstm0.z"]
    assert np.abs(result.real - model.run(x)).max() < 2.0 ** (5.5 - bits)


@pytest.mark.parametrize(("scale", "weights", "c"), [
    (1.0, 1.0, None), (1e-4, 1.0, None), (100.0, 1.0, None), (1.0, 64.0, None), (1.0, 1e-3, None),
    (1.0, 1.0, SQ(2, 30)), (1.0, 300.0, SQ(4, 20)), (0.0, 1.0, None)])
def test_formats_of_peepholes(scale: float, weights: float, c: SQ | None) -> None:
    """Sixteen bits or as many as the exact sum leaves, and z is as close as they promise."""
    rng = np.random.default_rng(3)
    hidden, start = 4, np.array([0.4, -0.3, 0.2, -0.1])
    lstm = LSTM(w_x=rng.uniform(-weights, weights, (16, 2)), bias=rng.uniform(-1, 1, 16),
                w_h=rng.uniform(-weights, weights, (16, 4)), initial_c=start,
                peepholes=rng.uniform(-1, 1, 12) * scale)
    model = FloatNetwork(layers=(lstm,), head=(), every_step=True)
    x = np.zeros((1, 1, 2))
    chosen = calibrate(model, x, overrides={} if c is None else {"lstm0.c": c})
    network, formats = chosen.apply(model), chosen.layers[0].formats
    if not scale:
        assert (formats.p, network.directions[0].peepholes) == (None, None)
        return
    assert formats.p is not None
    assert formats.p.f + formats.c.f <= formats.product_fraction
    assert formats.p.width == 16 or formats.p.f + formats.c.f == formats.product_fraction
    assert f"lstm0.p     {formats.p}" in str(chosen)
    layers = network.run_real(x, trace=True).layers
    assert layers is not None
    # In the first step all that is not exact are the bias, c, p and the rounding of z.
    z = layers[0].z[0, 0, :2 * hidden] * formats.z.ulp
    assert lstm.peepholes is not None
    exact = lstm.bias[:2 * hidden] + lstm.peepholes[:2 * hidden] * np.tile(start, 2)
    error = (formats.p.ulp * np.abs(start).max() + formats.c.ulp * np.abs(lstm.peepholes).max()
             + formats.p.ulp * formats.c.ulp + formats.z.ulp) / 2 + 2.0**-formats.product_fraction
    inside = np.abs(exact) < 15
    assert inside.any()
    assert np.abs(z - exact)[inside].max() <= error


@pytest.mark.parametrize(("function", "bits"), thinned([
    HARD, Function("HardSigmoid", 1e-6, 1e9), Function("HardSigmoid", 1e9, -1e9),
    Function("HardSigmoid", 1e-12, 0.4), Function("Affine", 1e-9, 0.3), Function("Affine", 30, -7),
    Function("Affine", -1e-3, 1e-6)], [9, 17], every=4))
def test_lines_of_the_cell_state(function: Function, bits: int) -> None:
    """Flat, steep or far off: as close as the constants' bits and one rounding promise."""
    rng = np.random.default_rng(4)
    x = rng.uniform(-1, 1, (4, 6, 3))
    network = quantize(cell_of(rng, 3, 5, squash=function), x, bits=bits)
    layers = network.run_real(x, trace=True).layers
    assert layers is not None
    formats, slope = network.directions[0].formats, network.directions[0].slope
    assert slope is not None
    assert abs(slope.a) < 1 << bits - 1
    c, s = layers[0].c * formats.c.ulp, layers[0].u * formats.s.ulp
    exact = np.clip(function(c), formats.s.min * formats.s.ulp, formats.s.max * formats.s.ulp)
    error = (formats.s.ulp + 2.0**-slope.f * np.abs(c) + 2.0 ** -(slope.f + formats.c.f)) / 2
    assert (np.abs(s - exact) <= error * (1 + 1e-12)).all()
    # Where the constants have bits to spare, they cost less than the rounding does.
    if abs(function.alpha or 0.0) <= 1:
        assert error.max() < 1.25 * formats.s.ulp


def test_signed_sigmoid_is_faithful() -> None:
    """Less than an ulp off for every code, never falling, with exact ends."""
    z, gate, tanh = SQ(5, 11), UQ(1, 11), SQ(2, 10)
    table = sigmoid_table(z=z, gate=gate, tanh=tanh, signed_sigmoid=True)
    codes = np.arange(z.min, z.max + 1)
    found = table.evaluate(codes, SIGNED_SIGMOID)
    assert np.abs(found * tanh.ulp - sigmoid(codes * z.ulp)).max() < tanh.ulp
    assert (np.diff(found) >= 0).all()
    assert (found[0], found[-1]) == (0, 1 << tanh.f)
    assert table.argument_of(SIGNED_SIGMOID) == z
    # The other readings are what they are without it.
    alone = sigmoid_table(z=z, gate=gate, tanh=tanh)
    for reading in (SIGMOID_READING, TANH_READING):
        assert np.array_equal(table.evaluate(codes, reading), alone.evaluate(codes, reading))


def test_wrong_layers() -> None:
    rng = np.random.default_rng(0)
    network = peepholed(rng, random_network(rng, FORMATS["8 bits"], 2, (3,), None, every_step=True))
    (layer,) = network.directions
    formats = layer.formats
    assert formats.p is not None
    for change, text in (
            ({"formats": replace(formats, p=None)},
             "LSTM peepholes must come with a format, and a format with them, but that is None "
             "with them"),
            ({"peepholes": None},
             f"LSTM peepholes must come with a format, and a format with them, but that is "
             f"{formats.p} without them"),
            ({"peepholes": np.zeros(8, dtype=np.int64)},
             "LSTM peepholes must have the shape 9, not (8,)"),
            ({"peepholes": np.full(9, formats.p.max + 1)},
             f"LSTM peepholes must lie in {formats.p}, {formats.p.min} to {formats.p.max}, but "
             f"reach from {formats.p.max + 1} to {formats.p.max + 1}"),
            ({"candidate_reading": SIGMOID_READING},
             "the table's reading of a candidate or cell state must be 1 or 2, not 0"),
            ({"slope": Slope(1, 0, 0)},
             "a cell state that goes through a line must have no table behind it")):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            replace(layer, **change)
    with pytest.raises(ValueError, match=r"^the products p c must have no more fraction bits than "
                                         r"w_x x and w_h h, 12, but SQ\(2, 8\) by SQ\(3, 5\) have "
                                         r"13$"):
        replace(formats, p=SQ(2, 8))


@pytest.mark.parametrize("number", [0, 1, -1, 3, 7, -8, 0b1010101, 91, -91, 2**17 - 1, -87382])
def test_a_constant_times_a_signal(number: int) -> None:
    digits = signed_digits(number)
    assert sum(sign << shift for sign, shift in digits) == number
    shifts = [shift for _, shift in digits]
    assert all(after - before > 1 for before, after in pairwise(shifts))
    assert len(digits) <= 9

    m, value = Module(), Signal(signed(6))
    found = line(m, value, Slope(number, 3, -5), offset=-5, cycles=4)
    result = Signal(signed(40))
    # A constant has no register.
    m.d.sync += Signal().eq(0)
    m.d.comb += result.eq(found)

    async def check(ctx: Any) -> None:
        given = [-32, 31, *range(-9, 9)]
        for n, one in enumerate([*given, 0, 0, 0]):
            ctx.set(value, one)
            await ctx.tick()
            if n >= 3:
                assert ctx.get(result) == number * given[n - 3] - 5

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(check)
    simulator.run()


def test_a_line_that_takes_too_long() -> None:
    with pytest.raises(ValueError, match=r"^slope 85 takes 3 levels of adders, but there are 2 "
                                         r"cycles$"):
        line(Module(), Signal(4), Slope(85, 0, 1), offset=1, cycles=2)


# Units, columns, lanes, interval, streams, pipeline.
WAYS = [
    (3, 2, 3, 1, 1, "fast"), (3, 2, 1, 1, 1, "short"), (2, 2, 1, 2, 2, "medium"),
    (2, 2, 2, 3, 2, "fast"), (1, 1, 1, 4, 2, "medium"), (1, 1, 1, 4, 1, "short"),
    (1, 1, 1, 5, 1, "short"), (2, 1, 1, 8, 1, "short"), (1, 1, 1, 12, 2, "short"),
    (1, 1, 1, 16, 2, "short"), (1, 1, 1, 21, 1, "medium"), (1, 1, 1, 30, 1, "fast"),
]
FEW = [("peepholes", way) for way in WAYS[1::2]] + [
    (name, WAYS[n % len(WAYS)]) for n, name in enumerate([*CELLS, "all tables"], 1)]


def check_in_hardware(name: str, way: tuple[int, int, int, int, int, str],
                      hidden: int = 5) -> None:
    """Every state and output, the flags, with stalls and a reset in the middle."""
    units, columns, lanes, interval, streams, pipeline = way
    rng = np.random.default_rng(6)
    inputs = max(3, interval * -(-units // lanes) * columns - hidden)
    model = cell_of(rng, inputs, hidden, **CELLS[name])
    # Formats from tame data, so that wilder ones saturate.
    network = quantize(model, rng.uniform(-0.5, 0.5, (16, 8, inputs)), bits=9)
    dut = Network(network, streams=streams, pipeline=PIPELINES[pipeline], foldings=[
        Folding(units=units, columns=columns, lanes=lanes, interval=interval)])
    sequences = [random_sequences(rng, network, 1, 4, 3) for _ in range(streams)]
    words = [expected_words(network, each) for each in sequences]
    seen = run_network(dut, [], beats=interleaved(dut, sequences), outputs=sum(map(len, words)),
                       stall=0.3, reset_after=5, quiet=100)
    for stream in range(streams):
        results = [network.run(x[None], trace=True) for x in sequences[stream]]
        for tensor in "ch":
            states = [state for result in results if result.layers is not None
                      for state in getattr(result.layers[0], tensor)[0].tolist()]
            assert seen.states_of(f"lstm0.{tensor}", stream, hidden) == states
        assert seen.of(stream) == words[stream]
    counts = {tensor: sum(network.run(x[None]).saturated[tensor] for each in sequences
                          for x in each) for tensor in network.saturating}
    assert [seen.saturated >> bit & 1 for bit in range(len(dut.saturation))] == [
        int(counts[tensor] > 0) for tensor in dut.saturation]


@pytest.mark.parametrize(("name", "way"), sparse(FEW, every=4))
def test_in_hardware(name: str, way: tuple[int, int, int, int, int, str]) -> None:
    check_in_hardware(name, way)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_every_way(name: str, way: tuple[int, int, int, int, int, str]) -> None:
    check_in_hardware(name, way)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_in_hardware(name: str) -> None:
    rng = np.random.default_rng(2)
    network = peepholed(rng, random_network(rng, FORMATS[name], 2, (3,), 2, every_step=True,
                                            size=0.3))
    network = with_functions(network, candidate=True, cell="line")
    sequences = random_sequences(rng, network, 5, 8)
    dut = Network(network, foldings=[choose_drain(2, 3, units=2, columns=2, peepholes=True)])
    words = expected_words(network, sequences)
    seen = run_network(dut, sequences, outputs=len(words))
    assert seen.words == words
    counts = {tensor: sum(network.run(x[None]).saturated[tensor] for x in sequences)
              for tensor in network.saturating}
    assert counts["lstm0.u"] == 0 or seen.saturated >> 1 & 1
    assert [seen.saturated >> bit & 1 for bit in range(len(dut.saturation))] == [
        int(counts[tensor] > 0) for tensor in dut.saturation]


@pytest.mark.parametrize(("inputs", "hidden", "units", "columns", "streams", "pipeline"), [
    (1, 2, 2, 3, 1, "short"), (5, 1, 1, 3, 1, "fast"), (2, 4, 1, 1, 3, "medium")])
def test_no_state_is_read_in_the_cycle_of_its_writing(
        inputs: int, hidden: int, units: int, columns: int, streams: int, pipeline: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Peepholes read the cell state early: it has long been written by then."""
    monkeypatch.setattr(RAM, "elaborate", poisoned)
    monkeypatch.setattr("hdl.column_cycles.SHALLOW", 0)
    rng = np.random.default_rng(4)
    network = peepholed(rng, random_network(rng, FORMATS["8 bits"], inputs, (hidden,), 1,
                                            every_step=True, size=0.5))
    dut = Network(network, streams=streams, pipeline=PIPELINES[pipeline], foldings=[choose_drain(
        inputs, hidden, units=units, columns=columns, pipeline=PIPELINES[pipeline],
        streams=streams, peepholes=True)])
    sequences = [random_sequences(rng, network, 1, 5, 1, 3) for _ in range(streams)]
    words = [expected_words(network, each) for each in sequences]
    seen = run_network(dut, [], beats=interleaved(dut, sequences), outputs=sum(map(len, words)))
    assert [seen.of(stream) for stream in range(streams)] == words
