"""The models of other projects' functions, and the comparison with ours that the page shows."""

import hashlib
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from benchmarks import activation_tables
from benchmarks.peers import (
    CODES,
    PEERS,
    ULP,
    Approximation,
    hard_sigmoid,
    hls4ml_sigmoid,
    hls4ml_table,
    hls4ml_tanh,
    plan_sigmoid,
    plan_tanh,
    tflite_sigmoid,
    tflite_table,
    tflite_tanh,
    true_sigmoid,
    true_tanh,
)
from tests.hard_functions import hard_sigmoid_keras2

BY_NAME = {peer.name: peer for peer in PEERS}


def codes(*x: float) -> np.ndarray:
    """Codes of numbers that Q4.12 holds exactly."""
    scaled = np.array(x) / ULP
    assert (scaled == np.rint(scaled)).all()
    return scaled.astype(np.int64)


@pytest.mark.parametrize("seed", [0])
def test_truth(seed):
    some = np.random.default_rng(seed).choice(CODES, 500)
    some[:3] = CODES[0], 0, CODES[-1]
    with mpmath.workdps(40):
        for code, sigmoid, tanh in zip(some.tolist(), true_sigmoid(some), true_tanh(some),
                                       strict=True):
            x = mpmath.mpf(code) / 4096
            assert abs(1 / (1 + mpmath.exp(-x)) - sigmoid) < 1e-15
            assert abs(mpmath.tanh(x) - tanh) < 1e-15


def test_codes():
    assert CODES.size == 65536
    assert CODES[0] * ULP == -8
    assert CODES[-1] * ULP == 8 - ULP


# Largest error in ulp of 2**-12, and where it is, over all codes.
@pytest.mark.parametrize(("name", "function", "largest", "at"), [
    ("hls4ml", "sigmoid", 19.7, 127 / 4096),
    ("hls4ml", "tanh", 35.0, 63 / 4096),
    ("TFLite", "sigmoid", 0.13, -1.375),
    ("TFLite", "tanh", 0.18, -2987 / 4096),
    ("PLAN", "sigmoid", 77.6, -1.0),
    ("PLAN", "tanh", 155.2, -0.5),
    ("hard sigmoid", "sigmoid", 310.7, -2.5),
    ("hard sigmoid", "tanh", 621.4, -1.25),
])
def test_largest_error(name, function, largest, at):
    result = getattr(BY_NAME[name], function)(CODES)
    truth = {"sigmoid": true_sigmoid, "tanh": true_tanh}[function](CODES)
    error = np.abs(result - truth) / ULP
    assert round(error.max(), 2 if largest < 1 else 1) == largest
    assert CODES[error.argmax()] * ULP == at


@pytest.mark.parametrize(("name", "bits", "fraction"), [
    ("hls4ml", 2 * 18432, 10), ("TFLite", 4096, 15), ("PLAN", 0, None), ("hard sigmoid", 0, None),
])
def test_size(name, bits, fraction):
    peer = BY_NAME[name]
    assert (peer.bits, peer.fraction) == (bits, fraction)
    if fraction is not None:
        for function in (peer.sigmoid, peer.tanh):
            scaled = function(CODES) * 2**fraction
            assert (scaled == np.rint(scaled)).all()
            # No coarser either: the last bit is used.
            assert (scaled % 2 == 1).any()


@pytest.mark.parametrize(("name", "monotone"), [
    ("hls4ml", True), ("TFLite", True), ("PLAN", False), ("hard sigmoid", True),
])
def test_monotone(name, monotone):
    assert activation_tables.measure(BY_NAME[name]).monotone == monotone


class TestHls4ml:
    def test_table(self):
        # sigmoid(-8) is below 2**-10; tanh is rounded towards minus infinity, not towards 0.
        sigmoid, tanh = hls4ml_table("sigmoid"), hls4ml_table("tanh")
        assert sigmoid.shape == tanh.shape == (1024,)
        assert sigmoid[[0, 512, 513, 1023]].tolist() == [0, 512, 515, 1023]
        assert tanh[[0, 511, 512, 513, 1023]].tolist() == [-1024, -8, 0, 7, 1023]

    def test_index(self):
        # Cells of 1/64 and 1/128, and about 0 one of twice that: int() drops towards zero.
        width = codes(1 / 64)[0]
        assert np.flatnonzero(hls4ml_sigmoid(CODES) == 0.5).tolist() == list(
            range(32768 - width + 1, 32768 + width))
        assert np.flatnonzero(hls4ml_tanh(CODES) == 0).tolist() == list(
            range(32768 - width // 2 + 1, 32768 + width // 2))
        assert hls4ml_sigmoid(codes(1 / 64)) == 515 / 1024
        assert hls4ml_sigmoid(codes(-1 / 64)) == 508 / 1024

    def test_ends(self):
        # The range of tanh ends at 4, and the last entry holds on beyond.
        assert hls4ml_tanh(codes(-8, -4)).tolist() == [-1, -1]
        assert hls4ml_tanh(codes(4, 7.5)).tolist() == [1023 / 1024] * 2


class TestTflite:
    def test_table(self):
        table = tflite_table()
        assert table.shape == (256,)
        assert table[[0, 1, 4, 24, 128, 254, 255]].tolist() == [
            32768, 33451, 35493, 47911, 65221, 65534, 65535]
        # The SHA-256 of the published numbers, as little-endian uint16.
        assert hashlib.sha256(table.astype("<u2").tobytes()).hexdigest() == (
            "c79a34d2c8c6e794fbb0207601538fe0169e968cd6d9d5ca65fff859dcd55183")

    def test_balanced(self):
        # Without being raised by half a chord's error, the table would err by more.
        plain = np.rint(2**16 / (1 + np.exp(-np.arange(256) / 24)))
        assert (tflite_table() >= plain).all()
        assert np.count_nonzero(tflite_table() != plain) == 44

    def test_knots(self):
        # x = 1 is entry 24 of the sigmoid and 48 of the tanh, rounded from 16 to 15 bits.
        assert tflite_sigmoid(codes(0, 1)).tolist() == [0.5, (47911 + 1) // 2 / 2**15]
        assert tflite_tanh(codes(0, 1)).tolist() == [0, (57724 - 32768) / 2**15]

    def test_saturates(self):
        # tanh is past the last entry from x = 255 / 48 on, and ends one step below 1.
        assert tflite_tanh(codes(5.3125, 7.5)).tolist() == [1 - 2**-15] * 2
        assert tflite_tanh(codes(-7.5)) == -1 + 2**-15

    def test_symmetry(self):
        positive = CODES[CODES > 0]
        assert np.abs(tflite_sigmoid(positive) + tflite_sigmoid(-positive) - 1).max() <= 2**-15
        assert np.abs(tflite_tanh(positive) + tflite_tanh(-positive)).max() <= 2**-15


class TestPlan:
    def test_segments(self):
        assert plan_sigmoid(codes(0, 0.5, 1, 2, 2.375, 4, 5, 7)).tolist() == [
            0.5, 0.625, 0.75, 0.875, 0.91796875, 0.96875, 1, 1]
        assert plan_sigmoid(codes(-1, -5)).tolist() == [0.25, 0]

    def test_step_down(self):
        # The two lines do not meet at 2.375.
        below, at = plan_sigmoid(codes(2.375 - ULP, 2.375))
        assert at - below == pytest.approx(-16 * ULP, abs=ULP)

    def test_tanh(self):
        assert plan_tanh(codes(0, 0.5, -0.5, 2.5)).tolist() == [0, 0.5, -0.5, 1]


def test_hard_sigmoid():
    some = CODES[::997]
    exact = [float(hard_sigmoid_keras2(Fraction(code, 4096))) for code in some.tolist()]
    assert hard_sigmoid(some) == pytest.approx(exact, abs=1e-15)


class TestComparison:
    def test_ours(self):
        ours = activation_tables.compare()[0]
        assert ours.of.name == "Gatefold"
        assert ours.faithful
        assert ours.monotone
        for function in (ours.of.sigmoid, ours.of.tanh):
            scaled = function(CODES) / ULP
            assert (scaled == np.rint(scaled)).all()

    def test_errors(self):
        # Off by two ulp at a single code, by which the sigmoid also falls.
        wrong = Approximation(name="wrong", sigmoid=lambda codes: true_sigmoid(codes)
                              + 2 * ULP * (codes == 5), tanh=true_tanh, bits=1234, fraction=None)
        errors = activation_tables.measure(wrong)
        assert errors.cells() == ("wrong", "1,234", "exact", "2.00", "0.00", "0.00", "0.00", "no",
                                  "no")

    def test_page(self):
        page = activation_tables.PAGE.read_text(encoding="utf-8")
        comparison = activation_tables.markdown(activation_tables.compare())
        assert activation_tables.fill(page, comparison) == page, (
            "docs/activation.md is out of date: benchmarks/activation_tables.py --write")

    @pytest.mark.parametrize("page", [
        "", activation_tables.BEGIN, activation_tables.END,
        activation_tables.END + activation_tables.BEGIN,
        (activation_tables.BEGIN + activation_tables.END) * 2,
    ], ids=["none", "begin", "end", "order", "twice"])
    def test_page_without_marks(self, page):
        with pytest.raises(ValueError, match=r"^the page must hold '<!-- com.* each once$"):
            activation_tables.fill(page, "")

    def test_fill(self):
        page = f"a\n{activation_tables.BEGIN}\nold\n{activation_tables.END}\nb\n"
        assert activation_tables.fill(page, "new") == page.replace("old", "new")
