"""The bit-true network against a slow reference in Python integers."""

import re
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest

from golden.fixed import SQ, UQ, Format
from golden.formats import DenseFormats, LSTMFormats
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from golden.simulate import BLOCK
from tests.networks import FORMATS, STANDARD, random_codes, random_network


class Reference:
    """The equations of :mod:`golden.quantized`, one number at a time, in exact fractions."""

    def __init__(self, network: QuantizedNetwork) -> None:
        self.network = network
        self.saturated = dict.fromkeys(network.saturating, 0)

    def settle(self, name: str, exact: Fraction, to: Format) -> int:
        code = round(exact * Fraction(2) ** to.f)  # Fraction rounds ties to even
        if not to.min <= code <= to.max:
            self.saturated[name] += 1
        return min(max(code, to.min), to.max)

    @staticmethod
    def rise(layer: QuantizedLSTM, magnitude: int) -> Fraction:
        """sigmoid - 1/2, on the straight line between two knots."""
        table = layer.table
        assert table.degree == 1
        segment = 0
        for block in range(table.blocks):
            first = block << table.block_bits
            if block >= len(table.splits):
                return Fraction(int(table.knots[-1]), 2**table.fraction)
            width = 2 ** (table.block_bits - table.splits[block])
            for start in range(first, first + (1 << table.block_bits), width):
                if start <= magnitude < start + width:
                    left, right = (int(knot) for knot in table.knots[segment:segment + 2])
                    return (left + Fraction((right - left) * (magnitude - start), width)
                            ) / 2**table.fraction
                segment += 1
        return Fraction(int(table.knots[-1]), 2**table.fraction)

    def sigmoid(self, layer: QuantizedLSTM, code: int) -> int:
        one = 2**layer.formats.gate.f
        value = floor(self.rise(layer, abs(code)) * one + Fraction(1, 2))
        return one // 2 + (value if code >= 0 else -value)

    def tanh(self, layer: QuantizedLSTM, code: int) -> int:
        value = floor(2 * self.rise(layer, abs(code)) * 2**layer.formats.tanh.f + Fraction(1, 2))
        return value if code >= 0 else -value

    def run(self, x: list[list[int]]) -> list[dict[str, list[list[int]]]]:
        """Run one sequence; return each layer's intermediates, and the head's as the last."""
        traces = []
        for number, layer in enumerate(self.network.directions):
            formats, hidden = layer.formats, layer.hidden
            candidate = SQ(formats.z.i - 1, formats.z.f + 1)
            h, c = [0] * layer.outputs, [0] * hidden
            trace: dict[str, list[list[int]]] = {name: [] for name in "xzifgoucmh"}
            for step in x:
                now: dict[str, list[int]] = {name: [] for name in "zifgoucmh"}
                for row in range(4 * hidden):
                    total = int(layer.bias[row])
                    total += sum(int(w) * v for w, v in zip(layer.w_x[row], step, strict=True))
                    total += sum(int(w) * v for w, v in zip(layer.w_h[row], h, strict=True))
                    exact = Fraction(total) / Fraction(2) ** formats.product_fraction
                    gate = row // hidden
                    z = self.settle(f"lstm{number}.z", exact, candidate if gate == 2 else formats.z)
                    now["z"].append(z)
                    now["ifgo"[gate]].append((self.tanh if gate == 2 else self.sigmoid)(layer, z))
                for unit in range(hidden):
                    i, f, g, o = (Fraction(now[name][unit]) for name in "ifgo")
                    one, tanh_one = 2**formats.gate.f, 2**formats.tanh.f
                    exact = f / one * c[unit] * Fraction(2) ** -formats.c.f + i / one * g / tanh_one
                    now["u"].append(self.settle(f"lstm{number}.u", exact, candidate))
                    now["c"].append(self.settle(f"lstm{number}.c", exact, formats.c))
                    exact = o / one * self.tanh(layer, now["u"][-1]) / tanh_one
                    out = "h" if layer.projection is None else "m"
                    now["m"].append(self.settle(f"lstm{number}.{out}", exact, formats.m))
                now["h"] = now["m"]
                if layer.projection is not None:
                    assert formats.w_r is not None
                    scale = Fraction(2) ** (formats.w_r.f + formats.m.f)
                    now["h"] = [self.settle(f"lstm{number}.h", sum(
                        int(w) * v for w, v in zip(row, now["m"], strict=True)) / scale, formats.h)
                        for row in layer.projection]
                h, c = now["h"], now["c"]
                trace["x"].append(list(step))
                for name, values in now.items():
                    trace[name].append(values)
            traces.append(trace)
            x = trace["h"]
        if not self.network.head:
            return [*traces, {"y": x}]
        y = x if self.network.every_step else x[-1:]
        for number, dense in enumerate(self.network.head):
            scale = Fraction(2) ** dense.formats.product_fraction
            y = [[self.settle(f"dense{number}.y", (int(dense.bias[row]) + sum(
                int(w) * v for w, v in zip(dense.w[row], h, strict=True))) / scale,
                dense.formats.y) for row in range(dense.outputs)] for h in y]
        return [*traces, {"y": y}]


def check_against_reference(network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray
                            ) -> dict[str, int]:
    """Compare every intermediate, the output and the counts; return the counts."""
    result = network.run(x, lengths, trace=True)
    assert result.layers is not None
    reference = Reference(network)
    for sequence, steps in enumerate(lengths.tolist()):
        *layers, head = reference.run(x[sequence, :steps].tolist())
        for number, (codes, expected) in enumerate(zip(result.layers, layers, strict=True)):
            for name, values in expected.items():
                actual = getattr(codes, name)[sequence]
                assert actual.dtype == np.int64
                assert actual[:steps].tolist() == values, (number, name, sequence)
                assert not actual[steps:].any(), (number, name, sequence)
        if network.every_step:
            assert result.y[sequence, :steps].tolist() == head["y"]
            assert not result.y[sequence, steps:].any()
        else:
            assert result.y[sequence].tolist() == head["y"][-1]
    assert result.saturated == reference.saturated
    assert np.array_equal(result.y, network.run(x, lengths).y)
    return reference.saturated


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_every_bit(name: str, every_step: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    formats = FORMATS[name]
    inputs, hidden = int(rng.integers(1, 4)), tuple(rng.integers(1, 5, 1 + seed % 2).tolist())
    outputs = None if seed == 2 else int(rng.integers(1, 4))
    network = random_network(rng, formats, inputs, hidden, outputs, every_step=every_step,
                             size=[1, 0.25, 0.5][seed])
    x = random_codes(rng, formats.x, (5, 9, inputs))
    check_against_reference(network, x, np.array([3, 9, 1, 9, 6]))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("hidden", "projected"), [
    ((4,), (2,)), ((3,), (3,)), ((2,), (5,)), ((3, 2), (1,)), ((3, 4, 2), (None, 2, None))])
def test_every_bit_of_a_projection(name: str, hidden: tuple[int, ...],
                                   projected: tuple[int | None, ...]) -> None:
    """Fewer hidden states than units, as many, more; before and behind layers without."""
    rng = np.random.default_rng(3)
    network = random_network(rng, FORMATS[name], 2, hidden, 2 if len(hidden) < 3 else None,
                             every_step=True, size=0.3, projected=projected)
    x = random_codes(rng, network.x, (5, 9, 2))
    saturated = check_against_reference(network, x, np.array([3, 9, 1, 9, 6]))
    for number, layer in enumerate(network.directions):
        found = [tensor for tensor in "zucmh" if f"lstm{number}.{tensor}" in saturated]
        assert tuple(found) == layer.saturating
        assert ("m" in found) == (layer.projection is not None)
        assert layer.hidden == hidden[number]
    bits = sum(int(np.count_nonzero(w)) * to.width for layer in network.directions for w, to in (
        (layer.w_x, layer.formats.w_x), (layer.w_h, layer.formats.w_h),
        (layer.projection, layer.formats.w_r)) if w is not None and to is not None)
    bits += sum(int(np.count_nonzero(dense.w)) * dense.formats.w.width for dense in network.head)
    assert network.weight_bits == bits


def test_saturation_of_a_projection() -> None:
    rng = np.random.default_rng(5)
    network = random_network(rng, STANDARD, 2, (4,), None, every_step=True, projected=(3,))
    (layer,) = network.directions
    formats = replace(layer.formats, m=SQ(0, 16), w_r=SQ(3, 5))
    layer = replace(layer, formats=formats, projection=np.full((3, 4), 127))
    network = replace(network, layers=(layer,))
    x = random_codes(rng, network.x, (5, 9, 2))
    saturated = check_against_reference(network, x, np.array([3, 9, 1, 9, 6]))
    assert saturated["lstm0.m"] > 0
    assert saturated["lstm0.h"] > 0


def test_wrong_projections() -> None:
    rng = np.random.default_rng(0)
    (layer,) = random_network(rng, STANDARD, 2, (4,), 1, every_step=True, projected=(3,)).directions
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"projection": None}, "LSTM shapes must be 4H x N, 4H x H and 4H, not (16, 2), (16, 3) "
                               "and (16,)"),
        ({"projection": None, "w_h": np.zeros((16, 4), dtype=np.int64)},
         "LSTM weights of a projection must have a format, and no others, not SQ(2, 6) for none"),
        ({"formats": STANDARD}, "LSTM weights of a projection must have a format, and no others, "
                                "not None for some"),
        ({"projection": np.zeros((4, 3), dtype=np.int64)},
         "LSTM projection must have the shape (3, 4), R x H, not (4, 3)"),
        ({"projection": np.full((3, 4), 128)},
         "dense weights must lie in SQ(2, 6), -128 to 127, but reach from 128 to 128"),
        ({"initial_h": np.zeros(4, dtype=np.int64)},
         "LSTM initial_h must have the shape 3, not (4,)"),
        ({"initial_c": np.zeros(3, dtype=np.int64)},
         "LSTM initial_c must have the shape 4, not (3,)"),
    ]
    for change, text in wrong:
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            replace(layer, **change)
    text = (f"what the output gate lets out must be the hidden state, in {STANDARD.h}, where no "
            f"projection follows, not be in SQ(2, 2)")
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        replace(STANDARD, m=SQ(2, 2))


def test_sums_of_a_projection_that_float64_cannot_hold() -> None:
    rng = np.random.default_rng(0)
    (layer,) = random_network(rng, STANDARD, 2, (4,), 1, every_step=True, projected=(3,)).directions
    w_r = SQ(1, 24)
    layer = replace(layer, formats=replace(layer.formats, m=SQ(1, 30), w_r=w_r),
                    projection=np.full((3, 4), w_r.max))
    network = QuantizedNetwork(layers=(layer,), head=(), every_step=True)
    text = ("the sum at lstm0.h reaches 57 bits, but float64 is exact for integers of 53 bits at "
            "most")
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        network.run(np.zeros((1, 1, 2), dtype=np.int64))


def test_saturation_everywhere() -> None:
    """Weights at the extremes drive every tensor beyond its format, both ways."""
    formats = LSTMFormats(x=SQ(1, 7), h=SQ(0, 8), c=SQ(2, 6), w_x=SQ(6, 2), w_h=SQ(7, 1),
                          z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6))
    network = random_network(np.random.default_rng(0), formats, 2, (4, 4), 2, every_step=True)
    (head,) = network.head
    dense = DenseFormats(x=SQ(0, 8), w=head.formats.w, y=SQ(0, 9))
    network = QuantizedNetwork(layers=network.directions, every_step=True, head=(QuantizedDense(
        formats=dense, w=head.w, bias=head.bias),))
    x = random_codes(np.random.default_rng(1), formats.x, (6, 12, 2))
    saturated = check_against_reference(network, x, np.array([12, 1, 7, 12, 3, 5]))
    # u reaches almost 4 in SQ(3, 8), but a state in SQ(2, 6) plus a candidate never exceeds 3.
    assert {name for name, count in saturated.items() if not count} == {"lstm0.u", "lstm1.u"}


def test_u_saturates() -> None:
    formats = LSTMFormats(x=SQ(1, 7), h=SQ(1, 7), c=SQ(6, 4), w_x=SQ(6, 2), w_h=SQ(6, 2),
                          z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6))
    zero = np.zeros((4, 1), dtype=np.int64)
    layer = QuantizedLSTM(formats=formats, w_x=np.array([[0], [0], [12], [0]]), w_h=zero,
                          bias=np.array([7, 7, 0, 7]) << formats.product_fraction)
    network = QuantizedNetwork(layers=(layer,), head=(), every_step=False)
    x = np.array([[[127]] * 12, [[-128]] * 12])
    saturated = check_against_reference(network, x, np.array([12, 10]))
    # The gates are exactly 1 and the candidate exactly +-1, so c counts the steps; u is in
    # SQ(3, 8), whose largest number is below 4 and whose smallest is -4. tanh(3) rounds to 1,
    # which h in SQ(1, 7) lacks, but not -1.
    assert saturated == {"lstm0.z": 0, "lstm0.u": 9 + 6, "lstm0.c": 0, "lstm0.h": 10}


def test_more_sequences_than_a_block() -> None:
    """Blocks, the order of sequences and the padding change nothing."""
    rng = np.random.default_rng(5)
    network = random_network(rng, STANDARD, 2, (3, 2), 2, every_step=True, size=0.2)
    count = 2 * BLOCK + 3
    x = random_codes(rng, STANDARD.x, (count, 6, 2))
    lengths = rng.integers(1, 7, count)
    together = network.run(x, lengths, trace=True)
    alone = [network.run(x[[n], :steps]) for n, steps in enumerate(lengths)]
    for n, steps in enumerate(lengths):
        assert np.array_equal(together.y[n, :steps], alone[n].y[0])
    assert together.saturated == {
        name: sum(one.saturated[name] for one in alone) for name in network.saturating}

    padded = np.where((np.arange(6) < lengths[:, None])[:, :, None], x, 1 << 40)
    other = network.run(padded, lengths)
    assert np.array_equal(other.y, together.y)
    assert other.saturated == together.saturated


def test_zero_state_at_the_start() -> None:
    network = random_network(np.random.default_rng(6), STANDARD, 1, (3,), None, every_step=False)
    x = random_codes(np.random.default_rng(7), STANDARD.x, (1, 4, 1))
    assert np.array_equal(network.run(x).y, network.run(x).y)
    assert np.array_equal(network.run(np.repeat(x, 3, axis=0)).y,
                          np.repeat(network.run(x).y, 3, axis=0))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_state_is_held_exactly(sign: int) -> None:
    """f = 1 with i = 0 keeps c to the bit, over 5,000 steps, through the real sigmoid."""
    four = STANDARD.w_x.max
    layer = QuantizedLSTM(
        formats=STANDARD, w_h=np.zeros((4, 1), dtype=np.int64),
        w_x=np.array([[four] * 2, [-four] * 2, [sign * four] * 2, [0, 0]]),
        bias=np.array([-6, 6, 0, 12]) << STANDARD.product_fraction)
    network = QuantizedNetwork(layers=(layer,), head=(), every_step=False)
    x = np.full((1, 5_001, 2), STANDARD.x.min)
    x[0, 0] = STANDARD.x.max
    layers = network.run(x, trace=True).layers
    assert layers is not None
    codes = layers[0]
    assert sign * codes.c[0, 0, 0] > 0.5 * 2**STANDARD.c.f
    assert (codes.i[0, 1:] == 0).all()
    assert (codes.f[0, 1:] == 1 << 15).all()
    assert (codes.c[0] == codes.c[0, 0]).all()
    # The first h comes from the sum before it is rounded to c.
    assert (codes.h[0, 1:] == codes.h[0, 1]).all()


def test_run_real() -> None:
    rng = np.random.default_rng(8)
    network = random_network(rng, STANDARD, 2, (3,), 2, every_step=False, size=0.2)
    x = rng.uniform(-0.9, 0.9, (4, 5, 2))
    x[0, 0, 0], x[1, 4, 1], x[2, 3, 0] = 1.5, np.inf, np.nan
    lengths = np.array([5, 5, 2, 5])
    result = network.run_real(x, lengths)
    codes = np.clip(np.rint(np.where(np.isnan(x), 0, x) * 2**15), -(2**15), 2**15 - 1)
    expected = network.run(codes.astype(np.int64), lengths)
    assert result.saturated == {"x": 2, **expected.saturated}
    assert np.array_equal(result.y, expected.y)
    assert np.array_equal(result.real, expected.y / 2**8)


def test_names() -> None:
    network = random_network(np.random.default_rng(0), STANDARD, 2, (3, 2), 1, every_step=True)
    names = ("lstm0.z", "lstm0.u", "lstm0.c", "lstm0.h",
             "lstm1.z", "lstm1.u", "lstm1.c", "lstm1.h", "dense0.y")
    assert network.saturating == names
    assert tuple(network.run(np.zeros((1, 1, 2), dtype=np.int64)).saturated) == names


def message(text: str) -> str:
    return "^" + re.escape(text) + "$"


def test_wrong_input() -> None:
    network = random_network(np.random.default_rng(0), STANDARD, 2, (3,), 1, every_step=False)
    x = np.zeros((3, 4, 2), dtype=np.int64)
    with pytest.raises(ValueError, match=message("input codes must be integers, not float64")):
        network.run(x.astype(float))
    with pytest.raises(ValueError, match=message(
            "input must have the shape B x T x 2 and not be empty, not 3 x 4 x 1")):
        network.run(x[:, :, :1])
    with pytest.raises(ValueError, match=message(
            "input must have the shape B x T x 2 and not be empty, not 3 x 0 x 2")):
        network.run(x[:, :0])
    with pytest.raises(ValueError, match=message(
            "sequence lengths must be in 1 .. 4, but that of sequence 1 is 5")):
        network.run(x, [4, 5, 4])
    with pytest.raises(ValueError, match=message(
            "input codes must lie in SQ(1, 15), -32768 to 32767, but reach from 0 to 32768")):
        network.run(x + (np.arange(2) << 15))
    with pytest.raises(ValueError, match=message("SQ(1, 15) has no code for NaN")):
        network.run_real(np.full((1, 1, 2), np.nan))
    with pytest.raises(ValueError, match=message("input must be real numbers, not <U1")):
        network.run_real(np.full((1, 1, 2), "1"))


def test_sums_beyond_float64() -> None:
    formats = LSTMFormats(x=SQ(1, 24), h=SQ(1, 24), c=SQ(4, 12), w_x=SQ(1, 27), w_h=SQ(1, 27),
                          z=SQ(5, 15), gate=UQ(1, 15), tanh=SQ(2, 14))
    layer = QuantizedLSTM(formats=formats, w_x=np.full((4, 4), formats.w_x.max),
                          w_h=np.zeros((4, 1), dtype=np.int64), bias=np.zeros(4, dtype=np.int64))
    network = QuantizedNetwork(layers=(layer,), head=(), every_step=False)
    with pytest.raises(ValueError, match=message(
            "the sum at lstm0.z reaches 56 bits, but float64 is exact for integers of 53 bits "
            "at most")):
        network.run(np.zeros((1, 1, 4), dtype=np.int64))


def test_layers_that_do_not_fit() -> None:
    network = random_network(np.random.default_rng(0), STANDARD, 2, (3, 4), 1, every_step=True)
    with pytest.raises(ValueError, match=message(
            "a layer must take what the one before it gives, 4 units in SQ(1, 15), "
            "not 2 in SQ(1, 15)")):
        QuantizedNetwork(layers=network.directions[::-1], head=(), every_step=True)
    with pytest.raises(ValueError, match=message(
            "a layer must take what the one before it gives, 3 units in SQ(1, 15), "
            "not 4 in SQ(1, 15)")):
        QuantizedNetwork(layers=network.directions[:1], head=network.head, every_step=True)
    with pytest.raises(ValueError, match=message(
            "network must have one LSTM layer at least, not none")):
        QuantizedNetwork(layers=(), head=network.head, every_step=True)


def test_weight_bits() -> None:
    network = random_network(np.random.default_rng(1), STANDARD, 2, (3,), 1, every_step=True)
    (dense,) = network.head
    layer = network.directions[0]
    zeros = sum(int((w == 0).sum()) for w in (layer.w_x, layer.w_h))
    head = int(np.count_nonzero(dense.w)) * dense.formats.w.width
    assert network.weight_bits == (12 * 2 + 12 * 3 - zeros) * 16 + head
