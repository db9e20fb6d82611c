"""The bit-true model is as far off the float model as is predicted, and no farther."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.calibrate import quantize, unsupported
from golden.error_bound import error_bound
from golden.fixed import SQ
from golden.function import ARGMAX, IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, Function
from golden.lstm import LSTM, MERGES, Bidirectional
from golden.model import Dense, Layer, Network
from golden.model_file import load
from golden.quantized_network import QuantizedNetwork
from tests.test_onnx_operator import CASES, node_test

MODELS = Path(__file__).parent / "models"
WIDTHS = (8, 11, 14, 16)
ELEMENTWISE = (IDENTITY, RELU, SIGMOID, TANH, Function("HardSigmoid"),
               Function("Affine", -0.7, 0.2))

FILES: dict[str, dict[str, Any]] = {
    "keras/activations.keras": {}, "keras/average.keras": {}, "keras/backwards_steps.keras": {},
    "keras/hard.keras": {}, "keras/product.keras": {}, "keras/sum.keras": {},
    "keras/tf_normalized.keras": {}, "onnx/keras-both-stacked.onnx": {},
    "onnx/keras-hard-head.onnx": {}, "onnx/torch-both-h_n-script.onnx": {},
    "onnx/torch-both-two-states-dynamo.onnx": {}, "onnx/torch-dropout-softmax-dynamo.onnx": {},
    "onnx/torch-no-bias-mlp-script.onnx": {}, "onnx/torch-plain-argmax-dynamo.onnx": {},
    "torch/plain.safetensors": {"steps": "every"},
    "torch/projected.safetensors": {"steps": "final"},
}


def random_directions(rng: np.random.Generator, inputs: int, count: int, *, lines: bool
                      ) -> list[LSTM]:
    """One or two directions with whatever an LSTM may have, the same functions in both."""
    hidden = int(rng.integers(1, 6))
    states = int(rng.integers(1, 5)) if rng.integers(2) else None
    peepholes, initial = rng.integers(2, size=2)
    alike: dict[str, Any] = {}
    if lines:
        gates = SIGMOID, Function("HardSigmoid"), Function("HardSigmoid", 0.4, 0.3)
        alike = {"gate": gates[rng.integers(3)],
                 "candidate": ELEMENTWISE[rng.integers(len(ELEMENTWISE))],
                 "squash": ELEMENTWISE[rng.integers(len(ELEMENTWISE))]}
    if rng.integers(3) == 0:
        alike["clip"] = float(rng.uniform(0.3, 1.5))

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-0.8, 0.8, shape)

    return [LSTM(w_x=uniform(4 * hidden, inputs), w_h=uniform(4 * hidden, states or hidden),
                 bias=uniform(4 * hidden), peepholes=uniform(3 * hidden) if peepholes else None,
                 projection=uniform(states, hidden) if states else None,
                 initial_h=uniform(states or hidden) if initial else None,
                 initial_c=uniform(hidden) if initial else None, reverse=n == 1, **alike)
            for n in range(count)]


def random_network(seed: int) -> Network:
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 4))
    layers: list[Layer] = []
    for _ in range(1 + seed % 2):
        two = bool(rng.integers(2))
        directions = random_directions(rng, width, 1 + two, lines=bool(rng.integers(2)))
        layers.append(Bidirectional(forward=directions[0], backward=directions[1],
                                    merge=MERGES[rng.integers(4)]) if two
                      else replace(directions[0], reverse=bool(rng.integers(2))))
        width = layers[-1].outputs
    head: list[Dense] = []
    for last in ((), (True,), (False, True))[seed % 3]:
        outputs = int(rng.integers(2, 5))
        functions = (*ELEMENTWISE, SOFTMAX, SOFTMAX, ARGMAX) if last else ELEMENTWISE
        head.append(Dense(w=rng.uniform(-1, 1, (outputs, width)), bias=rng.uniform(-1, 1, outputs),
                          function=functions[rng.integers(len(functions))]))
        width = outputs
    every = seed // 4 % 2 == 0
    return Network(layers=tuple(layers), head=tuple(head), every_step=every,
                   final=bool(not every and rng.integers(2)),
                   backwards=bool(every and rng.integers(2)))


def compared(network: Network, quantized: QuantizedNetwork, x: np.ndarray,
             lengths: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The errors and their bounds, no error above its bound."""
    bound = error_bound(network, quantized, x, lengths)
    error = np.abs(quantized.run_real(x, lengths).real - network.run(x, lengths))
    assert bound.shape == error.shape
    assert np.isfinite(bound).all()
    over = np.argwhere(error > bound)
    assert not len(over), f"{error[error > bound][:3]} is above {bound[error > bound][:3]}"
    return error, bound


def check_random(seed: int) -> float:
    """Data like those of the calibration, others that saturate, and formats much too coarse.

    Returns
    -------
    float
        The largest bound by the largest error, or by an ulp of the output, with the first of these.
    """
    network = random_network(seed)
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (40, 5, network.inputs))
    lengths = rng.integers(1, 6, len(x))
    bits = WIDTHS[seed // 3 % len(WIDTHS)]
    quantized = quantize(network, x, lengths, bits=bits)
    error, bound = compared(network, quantized, x, lengths)
    compared(network, quantized, rng.normal(0, 3, x.shape), lengths)
    names = ["x", *(f"lstm{n}.{tensor}" for n in range(len(network.layers)) for tensor in "ch")]
    for to in (SQ(2, 2), SQ(0, 9)):
        # What one tensor is off must show in the outputs, and be predicted.
        overrides = {names[rng.integers(len(names))]: to}
        compared(network, quantize(network, x, lengths, bits=bits, overrides=overrides), x, lengths)
    return float(bound.max() / max(error.max(), quantized.y.ulp))


@pytest.mark.parametrize("seed", range(24))
def test_random_networks(seed: int) -> None:
    assert check_random(seed) <= 100


@pytest.mark.slow
def test_many_random_networks() -> None:
    factors = [check_random(seed) for seed in range(100, 340)]
    assert np.median(factors) <= 10
    assert max(factors) <= 100


def test_directions_steps_and_order() -> None:
    """Each output has the bound of its own step, in each order of the outputs."""
    network = replace(random_network(4), head=(), every_step=True, final=False,
                      backwards=False)
    rng = np.random.default_rng(1)
    x, lengths = rng.uniform(-1, 1, (6, 5, network.inputs)), np.array([1, 2, 3, 4, 5, 5])
    quantized = quantize(network, x, lengths)
    every = error_bound(network, quantized, x, lengths)
    turned = error_bound(replace(network, backwards=True), replace(quantized, backwards=True),
                         x, lengths)
    last = error_bound(replace(network, every_step=False), replace(quantized, every_step=False),
                       x, lengths)
    for n, steps in enumerate(lengths):
        assert (every[n, :steps] > 0).all()
        assert not every[n, steps:].any()
        np.testing.assert_array_equal(turned[n, :steps], every[n, :steps][::-1])
        np.testing.assert_array_equal(last[n], every[n, steps - 1])
        alone = error_bound(network, quantized, x[n:n + 1, :steps])
        np.testing.assert_allclose(alone[0], every[n, :steps], rtol=1e-9)


def passing_cell() -> LSTM:
    """What comes in goes out: a candidate without a table, input and output gates that are 1."""
    return LSTM(w_x=np.array([[0.0], [0.0], [0.75], [0.0]]), w_h=np.zeros((4, 1)),
                bias=np.array([9.0, -9.0, 0.0, 9.0]), gate=Function("HardSigmoid"),
                candidate=IDENTITY, squash=IDENTITY)


def passing() -> Network:
    return Network(layers=(passing_cell(),))


def test_bound_is_reached() -> None:
    """Three roundings, of which the coarsest makes the error; and the excess of what saturates."""
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 1, 1))
    network = passing()
    error, bound = compared(network, quantize(network, x, overrides={"lstm0.c": SQ(1, 5)}), x)
    assert error.max() > 0.99 * bound.max()
    error, bound = compared(network, quantize(network, x, overrides={"lstm0.c": SQ(-1, 17)}), x)
    assert error.max() > 0.49
    assert error.max() > 0.999 * bound.max()


@pytest.mark.parametrize("merge", MERGES)
def test_bound_of_two_directions_is_reached(merge: str) -> None:
    """Both are off alike."""
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 1, 1))
    cell = passing_cell()
    network = Network(layers=(Bidirectional(forward=cell, backward=replace(cell, reverse=True),
                                            merge=merge),))
    error, bound = compared(network, quantize(network, x, overrides={"lstm0.c": SQ(1, 5)}), x)
    assert error.max() > 0.95 * bound.max()


def test_table_is_in_the_bound() -> None:
    """A small input gate from the table, to which all else adds nearly nothing."""
    x = np.rint(np.random.default_rng(0).uniform(-8, -3, (2000, 1, 1)) * 2**10) / 2**10
    network = Network(layers=(replace(
        passing_cell(), gate=SIGMOID, w_x=np.array([[1.0], [0.0], [0.0], [0.0]]),
        bias=np.array([0.0, -20.0, 0.96875, 20.0])),))
    fine = {"lstm0.c": SQ(1, 20), "lstm0.h": SQ(1, 20)}
    error, bound = compared(network, quantize(network, x, overrides=fine), x)
    assert error.max() > 0.4 * bound.max()


def test_argument_of_the_squash_is_in_the_bound() -> None:
    """The rounding of u, in a format that is much coarser than all others."""
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 1, 1))
    network = Network(layers=(replace(passing_cell(), gate=SIGMOID, squash=TANH,
                                      bias=np.array([20.0, -20.0, 0.0, 20.0])),))
    error, bound = compared(network, quantize(network, x, overrides={"lstm0.z": SQ(5, 6)}), x)
    assert error.max() > 0.9 * bound.max()


def test_peepholes_carry_errors_on() -> None:
    """c' = -1.5 (c + 0.5 + 0.02 x): what c is off, grows by half each step."""
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 4, 1))
    network = Network(layers=(replace(
        passing_cell(), w_x=np.array([[0.1], [0.0], [0.0], [0.0]]), initial_c=np.array([-0.3]),
        peepholes=np.array([5.0, 0.0, 0.0]), bias=np.array([0.0, -9.0, -1.5, 9.0])),))
    error, bound = compared(network, quantize(network, x, overrides={"lstm0.c": SQ(1, 9)}), x)
    assert error.max() > 2 * 2.0**-10
    assert error.max() > 0.4 * bound.max()


def test_wrong_weight_is_found() -> None:
    """The bound is narrow enough to tell a network from another one."""
    rng = np.random.default_rng(3)
    lstm = random_directions(rng, 2, 1, lines=False)[0]
    network = Network(layers=(lstm,), every_step=True)
    x = rng.uniform(-1, 1, (20, 4, 2))
    bound = error_bound(network, quantize(network, x), x)
    for row in range(len(lstm.w_x)):
        w_x = lstm.w_x.copy()
        w_x[row, 1] += 2.0**-6
        other = replace(network, layers=(replace(lstm, w_x=w_x),))
        error = np.abs(quantize(other, x).run_real(x).real - network.run(x))
        assert (error > bound).any()


def test_index_of_the_largest() -> None:
    """0 where the logits are far apart, and else as far as those that may be the largest."""
    network = replace(passing(), head=(Dense(
        w=np.array([[1.0], [0.0], [-1.0], [0.0]]), bias=np.array([0.0, -9.0, 0.0, -9.0]),
        function=ARGMAX),))
    x = np.array([0.9, 0.2, 1e-6, -1e-6, -0.2])[:, None, None]
    quantized = quantize(network, x)
    np.testing.assert_array_equal(compared(network, quantized, x)[1],
                                  [[0], [0], [2], [2], [0]])


def test_softmax_of_far_logits() -> None:
    """Powers beyond all numbers leave nothing."""
    network = replace(passing(), head=(Dense(
        w=np.array([[4000.0], [-4000.0]]), bias=np.zeros(2), function=SOFTMAX),))
    x = np.array([0.9, -0.9, 0.0])[:, None, None]
    _, bound = compared(network, quantize(network, x), x)
    assert (bound[:2] < 2.0**-12).all()


@pytest.mark.parametrize("name", CASES)
def test_node_tests_of_the_onnx_package(tmp_path: Path, name: str) -> None:
    """Every Y and Y_h of them, whichever of the two the network has been read for."""
    network, x, expected = node_test(name, tmp_path / "m.onnx")
    assert {"Y", "Y_h"} & set(expected)
    for output in {"Y", "Y_h"} & set(expected):
        only = replace(network, every_step=output == "Y", final=output == "Y_h", states=())
        assert not unsupported(only)
        quantized = quantize(only, x)
        ours, bound = quantized.run_real(x).real, error_bound(only, quantized, x)
        assert bound.max() < 2e-4
        assert (np.abs(ours - expected[output].reshape(ours.shape)) <= bound + 1e-6).all()


@pytest.mark.parametrize("name", FILES)
def test_models_of_the_exporters(name: str) -> None:
    network = replace(load(MODELS / name, **FILES[name]).network, states=())
    assert not unsupported(network)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (16, 5, network.inputs))
    lengths = rng.integers(1, 6, len(x))
    _, bound = compared(network, quantize(network, x, lengths), x, lengths)
    assert bound.max() < 2e-3


def test_refusals() -> None:
    network = replace(random_network(0), head=())
    x = np.zeros((1, 1, network.inputs))
    quantized = quantize(network, x)
    with pytest.raises(ValueError, match="every_step of the float and of the bit-true network"):
        error_bound(replace(network, every_step=not network.every_step), quantized, x)
    one = np.ones((1, 1, 1))
    turned = quantize(Network(layers=(replace(passing_cell(), reverse=True),)), one)
    with pytest.raises(ValueError, match="must have the same layers"):
        error_bound(passing(), turned, one)
