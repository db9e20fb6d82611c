"""Softmax and the index of the largest against exact and float references."""

from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest

from golden.argmax import ArgMax
from golden.calibrate import calibrate, quantize, unsupported
from golden.fixed import SQ
from golden.function import ARGMAX, RELU, SOFTMAX, TANH, Function
from golden.lstm import LSTM
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.softmax import Softmax
from tests.networks import random_codes


def nearest(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


def reference(unit: Softmax, codes: list[int]) -> list[int]:
    """The definition once more, in fractions, a number at a time."""
    f, fraction = unit.y.f, max(unit.x.f, 0)
    n = f + min(3 + int(np.ceil(np.log2(len(codes)))), 8)
    bits = min(fraction, 6)
    powers = []
    for code in codes:
        below = Fraction(max(codes) - code) / Fraction(2) ** unit.x.f
        place = (below - floor(below)) * 2**bits
        left, right = (round(2.0 ** (n - (floor(place) + end) / 2**bits)) for end in (0, 1))
        line = left - floor((left - right) * (place - floor(place)))
        powers.append(floor(line / Fraction(2) ** floor(below)))
    reciprocal = nearest(Fraction(2 ** (n + f + 1), sum(powers)))
    return [nearest(Fraction(nearest(Fraction(power, 2 ** (n - f - 1))) * reciprocal, 2 ** (f + 2)))
            for power in powers]


def logits(rng: np.random.Generator, to: SQ, inputs: int) -> np.ndarray:
    """All equal, one that dominates, ends of the format, near each other, and any; in columns."""
    equal = np.full((inputs, 3), [to.min, 0, to.max])
    one = np.full((inputs, 2), to.min)
    one[rng.integers(inputs), 0], one[-1, 1] = to.max, 0
    ends = rng.choice([to.min, to.max], (inputs, 20))
    scales = np.clip(2.0 ** rng.uniform(-10, 0, 200), 1 / to.max, 1)
    drawn = np.rint(rng.uniform(-1, 1, (inputs, 200)) * to.max * scales).astype(np.int64)
    return np.concatenate([equal, one, ends, drawn, random_codes(rng, to, (inputs, 50))], axis=1)


@pytest.mark.parametrize("inputs", [1, 2, 3, 10, 40, 100])
@pytest.mark.parametrize(("x", "bits"), [
    (SQ(5, 14), 16), (SQ(2, 6), 8), (SQ(4, 4), 12), (SQ(8, 16), 18), (SQ(12, -3), 9),
    (SQ(-2, 20), 16), (SQ(6, 10), 16)])
def test_softmax(x: SQ, bits: int, inputs: int) -> None:
    """By the definition in fractions; within the bound; a distribution that keeps the order."""
    unit = Softmax(x=x, inputs=inputs, y=SQ(2, bits - 2))
    codes = logits(np.random.default_rng(inputs), x, inputs)
    y = unit.evaluate(codes)
    for column in range(0, codes.shape[1], 1 if inputs < 10 else 9):
        assert y[:, column].tolist() == reference(unit, codes[:, column].tolist())
    assert y.min() >= 0
    assert y.max() <= 1 << unit.y.f
    real = 2.0 ** x.to_real(codes - codes.max(axis=0))
    off = np.abs(unit.y.to_real(y) - real / real.sum(axis=0)) / unit.y.ulp
    assert off.max() < unit.error < 2
    assert np.abs(y.sum(axis=0) - (1 << unit.y.f)).max() <= unit.error * inputs
    order = np.argsort(codes, axis=0, kind="stable")
    assert (np.diff(np.take_along_axis(y, order, axis=0), axis=0) >= 0).all()
    assert (np.take_along_axis(y, codes.argmax(axis=0)[None], axis=0) == y.max(axis=0)).all()


def test_the_powers_are_used_to_their_ends() -> None:
    """A logit far below all others gives exactly 0, a lone one exactly 1."""
    unit = Softmax(x=SQ(8, 6), inputs=3, y=SQ(2, 14))
    assert unit.evaluate(np.array([[100 << 6], [0], [-(128 << 6)]])).T.tolist() == [[1 << 14, 0, 0]]
    assert unit.evaluate(np.array([[7], [7], [-8192]])).T.tolist() == [[8192, 8192, 0]]


def test_argmax() -> None:
    unit = ArgMax(x=SQ(4, 4), inputs=5)
    assert (unit.y, unit.outputs) == (SQ(4, 0), 1)
    assert unit.evaluate(np.array([[1, 3, -8], [2, 3, -8], [2, 3, -8], [0, 3, -8], [-5, 3, -7]])
                         ).tolist() == [[1, 0, 4]]
    assert [ArgMax(x=SQ(4, 4), inputs=n).y.width for n in (1, 2, 3, 4, 5)] == [1, 2, 3, 3, 4]


@pytest.mark.parametrize("y", [SQ(1, 15), SQ(2, 0)])
def test_wrong_softmax(y: SQ) -> None:
    with pytest.raises(ValueError, match=r"^the outputs of a softmax must be in SQ"):
        Softmax(x=SQ(4, 4), inputs=2, y=y)
    with pytest.raises(ValueError, match=r"^a softmax must have at least one input, not 0$"):
        Softmax(x=SQ(4, 4), inputs=0, y=SQ(2, 6))


def float_network(rng: np.random.Generator, *functions: Function, widths: tuple[int, ...],
                  every_step: bool, size: float = 1.0) -> FloatNetwork:
    hidden = columns = 6
    head = []
    for outputs, function in zip(widths, functions, strict=True):
        head.append(Dense(w=rng.uniform(-size, size, (outputs, columns)),
                          bias=rng.uniform(-1, 1, outputs), function=function))
        columns = outputs
    return FloatNetwork(
        layers=(LSTM(w_x=rng.uniform(-1, 1, (4 * hidden, 3)),
                     w_h=rng.uniform(-1, 1, (4 * hidden, hidden)),
                     bias=rng.uniform(-1, 1, 4 * hidden)),),
        head=tuple(head), every_step=every_step)


@pytest.mark.parametrize("bits", [8, 12, 16, 18])
@pytest.mark.parametrize(("functions", "widths", "size"), [
    ((SOFTMAX,), (5,), 1.0), ((SOFTMAX,), (3,), 20.0), ((RELU, SOFTMAX), (7, 2), 2.0),
    ((TANH, Function("Sigmoid"), Function("Affine")), (5, 4, 2), 1.0),
    ((RELU, RELU), (8, 3), 1.0), ((), (), 1.0)])
def test_calibrated_heads(bits: int, functions: tuple[Function, ...], widths: tuple[int, ...],
                          size: float) -> None:
    """Near the float model: the error falls with the bits."""
    for every_step in (True, False):
        rng = np.random.default_rng(bits)
        model = float_network(rng, *functions, widths=widths, every_step=every_step, size=size)
        assert unsupported(model) == []
        x = rng.uniform(-1, 1, (16, 9, 3))
        lengths = rng.integers(1, 10, len(x))
        network = quantize(model, x, lengths, bits=bits)
        result = network.run_real(x, lengths)
        assert sum(result.saturated.values()) == 0
        assert result.y.shape == ((16, 9, network.outputs) if every_step else
                                  (16, network.outputs))
        off = np.abs(result.real - model.run(x, lengths)).max()
        assert off < 2.0 ** (5 - bits) * max(size, 1) * 2 ** len(widths)


def test_calibrated_argmax() -> None:
    """The same index as the float model where the logits are further apart than they are off."""
    rng = np.random.default_rng(0)
    model = float_network(rng, RELU, ARGMAX, widths=(6, 9), every_step=True)
    x = rng.uniform(-1, 1, (16, 9, 3))
    network = quantize(model, x, bits=14)
    before = FloatNetwork(layers=model.layers, every_step=True, head=(
        model.head[0], Dense(w=model.head[1].w, bias=model.head[1].bias))).run(x)
    first, second = np.sort(before, axis=-1)[..., -1], np.sort(before, axis=-1)[..., -2]
    clear = first - second > 2.0**-8
    assert clear.mean() > 0.9
    assert np.array_equal(network.run_real(x).real[clear], model.run(x)[clear])


def test_formats_of_the_logits() -> None:
    """They are as fine as the outputs; who names a format gets it."""
    rng = np.random.default_rng(1)
    model = float_network(rng, SOFTMAX, widths=(4,), every_step=True, size=30.0)
    x = rng.uniform(-1, 1, (8, 9, 3))
    chosen = calibrate(model, x, bits=12)
    to = chosen.head[0].formats.y
    assert to.f == 10
    assert to.i > 4
    assert chosen.head[0].ranges["y"].fits(to)
    network = quantize(model, x, bits=12, overrides={"dense0.y": SQ(9, 5)})
    assert network.vector == Softmax(x=SQ(9, 5), inputs=4, y=SQ(2, 10))


@pytest.mark.parametrize(("change", "text"), [
    ({"head": ()}, "Softmax must stand behind a dense layer, but there is none"),
    ({"vector": ArgMax(x=SQ(4, 4), inputs=4)},
     "ArgMax must take what the last dense layer gives, 4 outputs in SQ")])
def test_vectors_that_do_not_fit(change: dict[str, Any], text: str) -> None:

    rng = np.random.default_rng(1)
    model = float_network(rng, SOFTMAX, widths=(4,), every_step=True)
    network = quantize(model, rng.uniform(-1, 1, (4, 5, 3)))
    with pytest.raises(ValueError, match=f"^{text}"):
        replace(network, **change)
