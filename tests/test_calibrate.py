"""Calibration: formats, the equal binary point and its cost, and what is left of the accuracy."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golden.activation import tail_integer_bits
from golden.calibrate import calibrate, quantize
from golden.fixed import SQ, UQ
from golden.function import IDENTITY, Function
from golden.lstm import LSTM
from golden.model import Dense, Network
from golden.onnx_file import load
from golden.ranges import Range
from golden.statistics import PART

ADDING = Path(__file__).resolve().parents[1] / "examples" / "adding"


def network(seed: int, *, inputs: int = 2, hidden: tuple[int, ...] = (5,),
            outputs: int | None = 2, every_step: bool = False, x_scale: float = 1.0,
            h_scale: float = 1.0) -> Network:
    rng = np.random.default_rng(seed)
    layers: list[LSTM] = []
    columns = inputs
    for units in hidden:
        w_x = rng.uniform(-1, 1, (4 * units, columns)) * (1 if layers else x_scale)
        w_h = rng.uniform(-1, 1, (4 * units, units)) * h_scale
        layers.append(LSTM(w_x=w_x, w_h=w_h, bias=rng.uniform(-1, 1, 4 * units)))
        columns = units
    head = (Dense(w=rng.uniform(-1, 1, (outputs, columns)), bias=rng.uniform(-1, 1, outputs)),
            ) if outputs else ()
    return Network(layers=tuple(layers), head=head, every_step=every_step)


def data(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape)


@pytest.mark.parametrize(("low", "high", "to"), [
    (-1.0, 0.5, SQ(1, 7)),             # -1 is the smallest code
    (-1.0, 1.0, SQ(2, 6)),             # 1 is one beyond the largest
    (0.0, 127 / 128, SQ(1, 7)),
    (0.0, 127.4 / 128, SQ(1, 7)),      # rounds down to it
    (0.0, 127.6 / 128, SQ(2, 6)),      # rounds up to 1
    (-2.0, 1.0, SQ(2, 6)),
    (-100.0, 3.0, SQ(8, 0)),
    (0.0, 1000.0, SQ(11, -3)),
    (0.0, 0.01, SQ(-5, 13)),
    (0.0, 0.0, SQ(1, 7)),
])
def test_finest_format_of_a_width(low: float, high: float, to: SQ) -> None:
    assert Range(low, high).of_width(8) == to
    assert to.quantize([low, high])[1] == 0
    if high:
        assert SQ(to.i - 1, to.f + 1).quantize([low, high])[1] > 0


def test_headroom() -> None:
    assert Range(-0.85, 0.0).of_width(8, 1.25) == SQ(2, 6)
    assert Range(-0.8, 0.0).of_width(8, 1.25) == SQ(1, 7)


@pytest.mark.parametrize(("low", "high", "f", "to"), [
    (-1.0, 0.5, 4, SQ(1, 4)), (-1.0, 1.0, 4, SQ(2, 4)), (0.0, 0.49, 4, SQ(1, 4)),
    (0.0, 0.46, 4, SQ(0, 4)), (0.0, 0.0, 4, SQ(-2, 4)), (0.0, 0.0, -3, SQ(5, -3)),
    (-0.001, 0.001, 4, SQ(-2, 4)),
])
def test_narrowest_format_of_a_fraction(low: float, high: float, f: int, to: SQ) -> None:
    assert Range(low, high).of_fraction(f) == to


@pytest.mark.parametrize("bits", [8, 12, 16, 18])
@pytest.mark.parametrize("every_step", [False, True])
def test_formats(bits: int, every_step: bool) -> None:
    model = network(1, hidden=(5, 4), every_step=every_step)
    x = data(2, 40, 12, 2)
    chosen = calibrate(model, x, bits=bits)
    trace = model.trace(x)
    for number, layer in enumerate(chosen.layers):
        formats, seen = layer.formats, trace.directions[number]
        assert formats.gate == UQ(1, bits - 1)
        assert formats.tanh == SQ(2, bits - 2)
        assert formats.z == SQ(tail_integer_bits(bits - 1), bits - 1)
        assert formats.c.width == bits
        assert formats.c.max * formats.c.ulp > np.abs(seen.c).max()
        assert formats.h.i == 1
        assert formats.h.f == bits - 1 - layer.rescaled_h
        assert formats.w_x.f + formats.x.f == formats.w_h.f + formats.h.f
        assert max(formats.w_x.width, formats.w_h.width) == bits
        assert min(layer.lost_x, layer.lost_h) == 0
        for name in ("z", "c", "h"):
            assert layer.ranges[name] == Range.of(getattr(seen, name))
    assert chosen.layers[0].formats.x == Range.of(x).of_width(bits)
    assert chosen.layers[1].formats.x == chosen.layers[0].formats.h
    (head,) = chosen.head
    assert head.formats.x == chosen.layers[1].formats.h
    assert head.formats.w.width == bits
    assert head.ranges["y"] == Range.of(trace.y)
    fixed = chosen.apply(model)
    assert fixed.every_step == every_step
    result = fixed.run_real(x)
    assert sum(result.saturated.values()) == 0
    assert np.abs(result.real - trace.y).max() < 2.0 ** (6 - bits)


@pytest.mark.parametrize("bits", [8, 12, 16, 18])
@pytest.mark.parametrize(("hidden", "projected", "gain"), [(10, 4, 1), (6, 6, 1), (3, 7, 20)])
def test_projection(hidden: int, projected: int, gain: float, bits: int) -> None:
    """A projected layer before one without; the hidden states may be far beyond 1."""
    rng = np.random.default_rng(24)

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape)

    given, initial = gain * uniform(projected, hidden), gain * uniform(projected)
    model = Network(
        layers=(LSTM(w_x=uniform(4 * hidden, 2), w_h=uniform(4 * hidden, projected) / gain,
                     bias=uniform(4 * hidden), projection=given, initial_h=initial),
                LSTM(w_x=uniform(12, projected) / gain, w_h=uniform(12, 3), bias=uniform(12))),
        head=(Dense(w=uniform(2, 3), bias=uniform(2)),), every_step=True)
    x = data(25, 40, 12, 2)
    chosen = calibrate(model, x, bits=bits)
    seen = model.trace(x).directions[0]
    first, second = chosen.layers
    formats = first.formats
    assert formats.m == SQ(1, bits - 1)
    assert formats.w_r is not None
    assert formats.w_r.width == bits
    assert formats.h.width == bits - first.rescaled_h - second.rescaled_x
    largest = max(np.abs(seen.h).max(), np.abs(initial).max())
    assert formats.h.max * formats.h.ulp >= largest - formats.h.ulp
    assert second.formats.x == formats.h
    assert (second.formats.m, second.formats.w_r) == (second.formats.h, None)
    assert first.ranges["m"] == Range.of(seen.m)
    assert "m" not in second.ranges
    assert "lstm0.w_r" in str(chosen)
    assert "lstm1.w_r" not in str(chosen)

    fixed = chosen.apply(model)
    layer = fixed.directions[0]
    assert (layer.hidden, layer.outputs) == (hidden, projected)
    assert layer.projection is not None
    assert np.abs(formats.w_r.to_real(layer.projection) - given).max() <= formats.w_r.ulp / 2
    result = fixed.run_real(x, trace=True)
    assert sum(result.saturated.values()) == 0
    assert result.layers is not None
    # A rounding each of m, of the weights and of h, and what the errors of m come to.
    assert np.abs(formats.h.to_real(result.layers[0].h) - seen.h).max() < gain * 2.0 ** (5 - bits)
    assert np.abs(result.real - model.run(x)).max() < 2.0 ** (6 - bits)
    over = calibrate(model, x, bits=bits, overrides={"lstm0.m": SQ(1, 6)})
    assert over.layers[0].formats.m == SQ(1, 6)


def test_weights_and_bias_are_rounded_to_nearest() -> None:
    model = network(3)
    fixed = quantize(model, data(4, 8, 6, 2), bits=10)
    layer, formats = fixed.directions[0], fixed.directions[0].formats
    for codes, to, real in ((layer.w_x, formats.w_x, model.directions[0].w_x),
                            (layer.w_h, formats.w_h, model.directions[0].w_h)):
        assert np.abs(to.to_real(codes) - real).max() <= to.ulp / 2
    bias = layer.bias * 2.0**-formats.product_fraction
    assert np.abs(bias - model.directions[0].bias).max() <= 2.0 ** -(formats.product_fraction + 1)
    (head,), (of,) = fixed.head, model.head
    dense = head.formats
    assert np.abs(dense.w.to_real(head.w) - of.w).max() <= dense.w.ulp / 2


@pytest.mark.parametrize(("x_scale", "h_scale", "lost_x", "lost_h"), [
    (1.0, 1.0, 0, 0), (2.0, 1.0, 0, 1), (1.0, 4.0, 2, 0)])
def test_small_costs_are_left_to_the_weights(x_scale: float, h_scale: float, lost_x: int,
                                             lost_h: int) -> None:
    layer, = calibrate(network(5, x_scale=x_scale, h_scale=h_scale), data(6, 8, 6, 2)).layers
    assert (layer.lost_x, layer.lost_h) == (lost_x, lost_h)
    assert (layer.rescaled_x, layer.rescaled_h) == (0, 0)


def test_a_large_cost_is_shared_with_the_operand() -> None:
    """An input of 0 or 200, exact in few bits, with weights that are as exact: what limits z is
    the recurrent part, whose weights would lose 8 bits."""
    model = network(7, h_scale=1.0)
    (lstm,) = model.directions
    model = Network(layers=(LSTM(w_x=np.round(lstm.w_x * 64) / 64, w_h=lstm.w_h, bias=lstm.bias),),
                    head=model.head)
    x = np.random.default_rng(8).integers(0, 2, (64, 10, 2)) * 200.0
    shared, = calibrate(model, x).layers
    alone, = calibrate(model, x, overrides={"lstm0.h": SQ(1, 15)}).layers
    assert (alone.lost_h, alone.rescaled_h) == (8, 0)
    assert shared.lost_h + shared.rescaled_h == 8
    assert shared.rescaled_h > 2
    assert shared.formats.h == SQ(1, 15 - shared.rescaled_h)

    def error(overrides: dict[str, SQ]) -> float:
        layers = quantize(model, x, overrides=overrides).run_real(x, trace=True).layers
        assert layers is not None
        z = layers[0].z * 2.0**-15
        z[:, :, 10:15] /= 2
        exact = model.trace(x).directions[0].z
        inside = np.abs(exact) < 7  # the candidate's range
        return float(((z - exact)[inside] ** 2).mean())

    assert error({}) < error({"lstm0.h": SQ(1, 15)}) / 4


def test_an_input_may_be_what_is_rescaled() -> None:
    """Weak input weights, and an input that is exact in one bit: it gives bits up for nothing."""
    model = network(9, x_scale=2.0**-9)
    x = np.random.default_rng(10).integers(0, 2, (16, 5, 2)) / 2
    layer, = calibrate(model, x).layers
    assert layer.rescaled_h == layer.lost_h == 0
    assert layer.lost_x + layer.rescaled_x > 2
    assert quantize(model, x).run_real(x).saturated["x"] == 0


@pytest.mark.parametrize("part", ["w_x", "w_h", "both", "head"])
def test_zero_weights_cost_nothing(part: str) -> None:
    model = network(11)
    (lstm,), (head,) = model.directions, model.head
    model = Network(
        layers=(LSTM(w_x=lstm.w_x * (part not in ("w_x", "both")),
                     w_h=lstm.w_h * (part not in ("w_h", "both")), bias=lstm.bias),),
        head=(Dense(w=head.w * (part != "head"), bias=head.bias),))
    x = data(12, 16, 8, 2)
    layer, = calibrate(model, x).layers
    assert (layer.lost_x, layer.lost_h, layer.rescaled_x, layer.rescaled_h) == (0, 0, 0, 0)
    assert np.abs(quantize(model, x).run_real(x).real - model.run(x)).max() < 2e-3


@pytest.mark.parametrize(("x_scale", "w_scale"), [(1e6, 1e-6), (1e-9, 1e9), (1e-9, 1.0),
                                                  (1e-300, 1.0), (1.0, 1e-12), (1e-309, 1.0),
                                                  (1.0, 1e-320)])
def test_extreme_scales(x_scale: float, w_scale: float) -> None:
    model = network(13, x_scale=w_scale)
    x = data(14, 16, 8, 2) * x_scale
    result = quantize(model, x).run_real(x)
    assert sum(result.saturated.values()) == 0
    assert np.abs(result.real - model.run(x)).max() < 2e-3


def scaled(model: Network, name: str, scale: float) -> Network:
    """A network of one layer with one of its arrays, ``lstm.w_x`` or ``dense.bias``, scaled."""
    owner, _, array = name.partition(".")
    (lstm,), (head,) = model.directions, model.head
    if owner == "lstm":
        return replace(model, layers=(replace(lstm, **{array: getattr(lstm, array) * scale}),))
    return replace(model, head=(replace(head, **{array: getattr(head, array) * scale}),))


ARRAYS = ("lstm.w_x", "lstm.w_h", "lstm.bias", "dense.w", "dense.bias")


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_next_to_nothing(name: str) -> None:
    """What is as small as a float64 can be is as good as zeros."""
    model, none = (scaled(network(13), name, scale) for scale in (1e-320, 0.0))
    x = data(14, 16, 8, 2)
    assert np.abs(quantize(model, x).run_real(x).real - none.run(x)).max() < 2e-3


@pytest.mark.parametrize("name", ["dense.w", "dense.bias"])
def test_large_outputs(name: str) -> None:
    model = scaled(network(13), name, 1e30)
    x = data(14, 16, 8, 2)
    reference = model.run(x)
    assert np.abs(quantize(model, x).run_real(x).real - reference).max() < (
        2e-3 * np.abs(reference).max())


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_without_a_format(name: str) -> None:
    owner, _, array = name.partition(".")
    text = (rf"^{array} of {owner}0 must be at most 1\.60694e\+60 in magnitude, not "
            r"[0-9.]+e\+(99|100): see whether the model is damaged, or scale it$")
    with pytest.raises(ValueError, match=text):
        quantize(scaled(network(13), name, 1e100), data(14, 16, 8, 2))


def test_states_without_a_format() -> None:
    """A linear recurrence may grow beyond all numbers."""
    lstm = LSTM(w_x=np.ones((4, 2)), w_h=np.full((4, 1), 1e40), bias=np.zeros(4),
                candidate=IDENTITY, squash=IDENTITY)
    model = Network(layers=(lstm,), every_step=False)
    x = np.ones((1, 20, 2))
    with pytest.raises(ValueError, match=r"^lstm0\.z must be at most 1\.60694e\+60 in magnitude "
                                         r"on the calibration data, not inf: see whether the "
                                         r"model is damaged, or scale it$"):
        quantize(model, x)
    steep = Function("Affine", 1e300, 0.0)
    with pytest.raises(ValueError, match=r"^alpha of squash of lstm0 must be at most "
                                         r"1\.60694e\+60 in magnitude, not 1e\+300: see whether "
                                         r"the model is damaged, or scale it$"):
        quantize(replace(model, layers=(replace(lstm, squash=steep),)), x)


@pytest.mark.parametrize("k", [30, 45, 60, 190])
def test_quantised_weights_of_next_to_nothing(k: int) -> None:
    """They are exact where sums have room for it, and else no reason to refuse a network."""
    rng = np.random.default_rng(0)
    w_x, w_h, w = (np.asarray(rng.integers(-100, 100, shape) * 2.0**-k, dtype=np.float64)
                   for shape in ((20, 2), (20, 5), (3, 5)))
    model = Network(layers=(LSTM(w_x=w_x, w_h=w_h, bias=rng.uniform(-1, 1, 20)),),
                    head=(Dense(w=w, bias=rng.uniform(-1, 1, 3)),), every_step=True)
    x = data(1, 8, 6, 2)
    fixed = quantize(model, x)
    assert (fixed.layers[0].formats.w_x.f >= k) == (k == 30)
    assert np.abs(fixed.run_real(x).real - model.run(x)).max() < 1e-4


def test_padding_and_parts() -> None:
    """Padding of any value is no data, and parts of the data add up to the whole."""
    model = network(15, hidden=(3, 3), every_step=True)
    x = data(16, PART + 7, 5, 2)
    lengths = np.random.default_rng(17).integers(1, 6, PART + 7)
    clean = calibrate(model, x, lengths)
    trace = model.trace(x, lengths)
    assert clean.layers[1].ranges["h"] == Range.of(trace.directions[1].h[trace.valid])
    x[np.arange(5) >= lengths[:, None]] = np.nan
    assert calibrate(model, x, lengths) == clean


def test_overrides() -> None:
    chosen = calibrate(network(18), data(19, 4, 5, 2), overrides={
        "x": SQ(3, 11), "lstm0.h": SQ(1, 9), "lstm0.c": SQ(6, 10), "lstm0.z": SQ(6, 12),
        "dense0.y": SQ(9, 3)})
    formats = chosen.layers[0].formats
    assert (formats.x, formats.h, formats.c, formats.z) == (
        SQ(3, 11), SQ(1, 9), SQ(6, 10), SQ(6, 12))
    assert chosen.head[0].formats.y == SQ(9, 3)
    assert formats.w_x.f + 11 == formats.w_h.f + 9


def test_the_report_prints() -> None:
    text = str(calibrate(network(20, x_scale=2.0), data(21, 4, 5, 2)))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == [
        *(f"lstm0.{name}" for name in ("x", "w_x", "h", "w_h", "z", "gate", "tanh", "c")),
        "dense0.w", "dense0.y"]
    given_up = [line for line in lines if "given up" in line]
    assert len(given_up) == 1
    assert re.fullmatch(r"lstm0\.w_h +SQ\(1, 14\) +1 fraction bits given up for the equal binary "
                        r"point", given_up[0])


GOOD = data(22, 3, 4, 2)


@pytest.mark.parametrize(("x", "options", "text"), [
    (GOOD, {"bits": 7}, "bits must be an integer from 8 to 18, not 7"),
    (GOOD, {"bits": 19}, "bits must be an integer from 8 to 18, not 19"),
    (GOOD, {"bits": 16.0}, "bits must be an integer from 8 to 18, not 16.0"),
    (GOOD[:, :, :1], {}, "calibration data must have the shape B x T x 2 and not be empty, not "
                         "3 x 4 x 1"),
    (GOOD[0], {}, "calibration data must have the shape B x T x 2 and not be empty, not 4 x 2"),
    (GOOD[:0], {}, "calibration data must have the shape B x T x 2 and not be empty, not "
                   "0 x 4 x 2"),
    (GOOD.astype(str), {}, "calibration data must be real numbers, not <U32"),
    (np.where(GOOD < 2, np.nan, 0), {}, "calibration data must be finite, but 24 values are not"),
    (np.full(GOOD.shape, -1e300), {}, "calibration data must be at most 1.09951e+12 in magnitude, "
                                      "not 1e+300: scale it, and the weights against it"),
    (GOOD, {"lengths": [4, 5, 1]}, "sequence lengths must be in 1 .. 4, but that of sequence 1 "
                                   "is 5"),
    (GOOD, {"lengths": [4, 0, 1]}, "sequence lengths must be in 1 .. 4, but that of sequence 1 "
                                   "is 0"),
    (GOOD, {"lengths": [4, 4]}, "sequence lengths must have the shape [3], one for each "
                                "sequence, not [2]"),
    (GOOD, {"overrides": {"c": SQ(4, 12)}}, "a format can be given for x, lstm0.z, lstm0.c, "
                                            "lstm0.h, dense0.y, not for c"),
    (GOOD, {"overrides": {"x": UQ(4, 12)}}, "the format of x must be SQ(i, f), not UQ(4, 12)"),
    (GOOD, {"overrides": {"lstm0.z": SQ(4, 12)}},
     "preactivation format must be SQ(i, f) with i of at least 5, or the sigmoid in UQ(1, 15) "
     "never reaches 0 and 1; not SQ(4, 12)"),
])
def test_wrong_arguments(x: np.ndarray, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        quantize(network(23), x, **options)


def test_adding_problem() -> None:
    """All of the 2,560 test sequences are correct at 16 bits, and nothing saturates."""
    task = runpy.run_path(str(ADDING / "task.py"))
    model = load(ADDING / "model.onnx").network
    x, lengths, _ = task["sequences"](256, 1)
    fixed = quantize(model, x, lengths)
    x, lengths, targets = task["sequences"](task["TEST_COUNT"], task["TEST_SEED"])
    result = fixed.run_real(x, lengths)
    assert task["correct"](result.real, targets) == 1.0
    assert sum(result.saturated.values()) == 0
    assert np.mean((result.real - model.run(x, lengths)) ** 2) < 1e-6


@pytest.mark.parametrize("bits", [8, 9, 12, 16, 18])
@pytest.mark.parametrize(("k_x", "k_h"), [(6, 6), (4, 7), (7, 5), (12, 14)])
def test_quantised_weights_keep_their_format(k_x: int, k_h: int, bits: int) -> None:
    """Weights of 8 bits are exact, and take no more bits than the equal binary point asks for."""
    rng = np.random.default_rng(0)
    w_x, w_h, w = (np.asarray(rng.integers(-128, 128, shape) * 2.0**-k, dtype=np.float64)
                   for shape, k in (((20, 2), k_x), ((20, 5), k_h), ((3, 5), 6)))
    w_x[0, 0], w_h[0, 0], w[0, 0] = 2.0**-k_x, 2.0**-k_h, 2.0**-6
    model = Network(layers=(LSTM(w_x=w_x, w_h=w_h, bias=rng.standard_normal(20)),),
                    head=(Dense(w=w, bias=rng.standard_normal(3)),), every_step=True)
    chosen = calibrate(model, data(1, 8, 6, 2), bits=bits)
    fixed, formats = chosen.apply(model), chosen.layers[0].formats
    for codes, to, real in ((fixed.directions[0].w_x, formats.w_x, w_x),
                            (fixed.directions[0].w_h, formats.w_h, w_h),
                            (fixed.head[0].w, fixed.head[0].formats.w, w)):
        assert np.array_equal(to.to_real(codes), real)
    assert max(formats.w_x.width, formats.w_h.width) <= 8 + abs(
        k_x + formats.x.f - k_h - formats.h.f)
    assert min(formats.w_x.f - k_x, formats.w_h.f - k_h) == 0
    assert chosen.layers[0].rescaled_x == chosen.layers[0].rescaled_h == 0
    assert fixed.head[0].formats.w.width == 8
    assert (chosen.layers[0].lost_x, chosen.layers[0].lost_h) == (0, 0)


def test_quantised_weights_of_very_different_scales_are_rounded() -> None:
    """Words of more than 16 bits would fit no narrow multiplier block."""
    rng = np.random.default_rng(0)
    w_x, w_h = (np.asarray(rng.integers(-128, 128, shape) * 2.0**-k, dtype=np.float64)
                for shape, k in (((20, 2), 0), ((20, 5), 12)))
    model = Network(layers=(LSTM(w_x=w_x, w_h=w_h, bias=np.zeros(20)),),
                    head=(Dense(w=np.ones((1, 5)), bias=np.zeros(1)),), every_step=True)
    chosen = calibrate(model, data(1, 8, 6, 2), bits=8)
    assert max(chosen.layers[0].formats.w_x.width, chosen.layers[0].formats.w_h.width) <= 8
    assert chosen.layers[0].lost_h > 0
