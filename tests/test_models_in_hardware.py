"""Files of real exporters, through bit-true model and Verilog, bit for bit under cocotb."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.calibrate import quantize
from golden.lstm import LSTM
from golden.model import Dense, Network
from golden.model_file import load
from hdl.network import Network as HardwareNetwork
from hdl.pipeline import PIPELINES, Pipeline
from sim.vectors import Vectors
from sim.verify import verify
from tests.test_onnx_operator import DIRECTIONS, OPSETS, B, functions, random_arrays, write
from tests.test_regression import write_design

MODELS = Path(__file__).parent / "models"
WEIGHTS = {"steps": "last"}

# What a file of weights does not say; units and columns; pipeline and family.
QUICK: dict[str, tuple[dict[str, Any], int, int, str, str | None]] = {
    "onnx/keras-hard-head.onnx": ({}, 1, 2, "short", None),
    "torch/cells.safetensors": (WEIGHTS, 1, 1, "medium", "ice40"),
    "onnx/torch-both-h_n-script.onnx": ({}, 2, 2, "fast", "ecp5"),
}
REST: dict[str, tuple[dict[str, Any], int, int, str, str | None]] = {
    "keras/batch_normalized_last.keras": ({}, 3, 3, "medium", None),
    "onnx/torch-two-scaled-script.onnx": ({}, 2, 1, "fast", "ecp5"),
    "keras/steps.keras": ({}, 2, 2, "short", "ecp5"),
    "keras/activations.keras": ({}, 2, 2, "short", "ecp5"),
    "keras/distributed.keras": ({}, 1, 3, "fast", None),
    "keras/stack.keras": ({}, 2, 1, "medium", None),
    "keras/tf_distributed.h5": ({}, 3, 2, "short", "ice40"),
    "keras/tf_normalized.keras": ({}, 2, 2, "fast", "ecp5"),
    "keras/average.keras": ({}, 1, 2, "short", None),
    "keras/backwards.keras": ({}, 2, 1, "fast", "ecp5"),
    "keras/backwards_stack.keras": ({}, 1, 1, "short", None),
    "keras/backwards_steps.keras": ({}, 2, 3, "medium", "ice40"),
    "keras/concat.keras": ({}, 3, 2, "fast", None),
    "keras/exchanged_steps.keras": ({}, 1, 2, "short", "ecp5"),
    "keras/picked.keras": ({}, 2, 2, "short", None),
    "keras/product.keras": ({}, 2, 2, "fast", "ecp5"),
    "keras/sum.keras": ({}, 1, 3, "medium", None),
    "keras/stateful.keras": ({}, 2, 2, "short", "ecp5"),
    "keras/stateful_both.keras": ({}, 2, 2, "short", "ecp5"),
    "keras/states.keras": ({}, 1, 2, "fast", None),
    "keras/both_states.keras": ({}, 2, 1, "short", "ecp5"),
    "keras/tf_states.keras": ({}, 2, 2, "medium", None),
    "keras/two_ends.keras": ({}, 2, 2, "short", "ecp5"),
    "keras/functions.keras": ({}, 2, 2, "fast", "ecp5"),
    "keras/own_backward.keras": ({}, 2, 1, "short", "ecp5"),
    "keras/tf_own_backward.keras": ({}, 1, 2, "fast", None),
    "keras/hard.keras": ({}, 1, 2, "short", None),
    "keras/tf_hard.h5": ({}, 2, 1, "medium", "ice40"),
    "keras/cell.keras": ({}, 2, 2, "fast", None),
    "keras/idle.keras": ({}, 1, 1, "short", "ecp5"),
    "keras/last.keras": ({}, 4, 1, "short", None),
    "keras/no_bias.keras": ({}, 1, 3, "medium", "ice40"),
    "keras/normalized_by.keras": ({}, 2, 1, "short", "ecp5"),
    "onnx/keras-backwards-every.onnx": ({}, 2, 2, "short", None),
    "onnx/keras-both-every.onnx": ({}, 2, 1, "fast", None),
    "onnx/keras-both-mean.onnx": ({}, 1, 1, "short", "ecp5"),
    "onnx/keras-both-stacked.onnx": ({}, 2, 2, "fast", "ecp5"),
    "onnx/keras-every.onnx": ({}, 4, 7, "fast", "ecp5"),
    "onnx/keras-fixed.onnx": ({}, 2, 3, "fast", "ecp5"),
    "onnx/keras-norm.onnx": ({}, 3, 2, "short", None),
    "onnx/keras-plain.onnx": ({}, 1, 1, "fast", None),
    "onnx/keras-rescaled.onnx": ({}, 2, 2, "medium", "ecp5"),
    "onnx/keras-states.onnx": ({}, 2, 2, "fast", "ecp5"),
    "onnx/torch-both-two-states-dynamo.onnx": ({}, 2, 2, "short", None),
    "onnx/torch-packed-script.onnx": ({}, 1, 2, "medium", "ecp5"),
    "onnx/torch-both-norm-script.onnx": ({}, 2, 1, "medium", None),
    "onnx/torch-both-two-every-script.onnx": ({}, 1, 2, "short", "ice40"),
    "onnx/torch-both-two-h_n-dynamo.onnx": ({}, 2, 2, "fast", "ecp5"),
    "onnx/torch-dropout-softmax-dynamo.onnx": ({}, 1, 2, "medium", "ice40"),
    "onnx/torch-no-bias-mlp-script.onnx": ({}, 2, 2, "fast", "ecp5"),
    "onnx/torch-plain-argmax-dynamo.onnx": ({}, 2, 1, "short", None),
    "onnx/torch-plain-last-script.onnx": ({}, 5, 2, "short", None),
    "onnx/torch-plain-norm-before-dynamo.onnx": ({}, 1, 4, "medium", None),
    "onnx/torch-two-every-dynamo.onnx": ({}, 2, 1, "short", "ice40"),
    "torch/projected.safetensors": ({"steps": "every"}, 2, 2, "short", "ecp5"),
    "torch/plain.safetensors": ({"steps": "every"}, 2, 2, "fast", "ecp5"),
    "torch/plain_float16.safetensors": (WEIGHTS, 1, 2, "short", None),
    "torch/plain_bfloat16.safetensors": (WEIGHTS, 2, 1, "medium", None),
}


FEW = ["full_speed", "random_stalls", "reset_midway"]


def check(folder: Path, network: Network, x: np.ndarray, lengths: np.ndarray, units: int,
          columns: int, *, error: float, pipeline: Pipeline, family: str | None,
          tests: Sequence[str] | None = FEW, streams: int = 1) -> HardwareNetwork:
    """The float model within an error of the bit-true one, and this equal to the hardware."""
    quantized = quantize(network, x, lengths, bits=16)
    assert np.abs(quantized.run_real(x, lengths).real - network.run(x, lengths)).max() < error
    dut = write_design(folder, quantized, units, columns,
                       Vectors.compute(quantized, quantized.x.quantize(x)[0], lengths),
                       family=family, pipeline=pipeline, streams=streams)
    result = verify(folder, tests=tests, seed=1, effort=10_000)
    assert result.failure is None
    assert all(test.words and test.states for test in result.tests)
    return dut


@pytest.mark.parametrize("name", [*QUICK, *(
    pytest.param(name, marks=pytest.mark.slow) for name in REST)])
def test_every_bit(name: str, tmp_path: Path) -> None:
    told, units, columns, pipeline, family = (QUICK | REST)[name]
    network = load(MODELS / name, **told).network
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (16, 9, network.inputs))
    states = ["kept_states", "set_states"] if network.stateful else []
    states += ["packets_held"] if network.states else []
    check(tmp_path, network, x, rng.integers(1, 10, len(x)), units, columns, error=2e-3,
          pipeline=PIPELINES[pipeline], family=family, tests=FEW + states)


def check_seed(folder: Path, network: Network, rng: np.random.Generator, seed: int) -> None:
    x = rng.uniform(-1, 1, (12, 9, network.inputs))
    lengths = rng.integers(1, 10, len(x))
    design = folder / "design"
    design.mkdir()
    units, columns = (int(number) for number in rng.integers(1, 4, 2))
    check(design, network, x, lengths, units, columns, error=1e-2,
          family=(None, "ecp5", "ice40")[seed % 3],
          pipeline=list(PIPELINES.values())[seed // 3 % 3])


@pytest.mark.parametrize("seed", [5, *(
    pytest.param(seed, marks=pytest.mark.slow) for seed in range(18) if seed != 5)])
def test_operator(seed: int, tmp_path: Path) -> None:
    """ONNX's operator with what no exporter writes: peepholes, clip, coupled gates, functions."""
    rng = np.random.default_rng(seed)
    direction = DIRECTIONS[seed % 3]
    count = 2 if direction == "bidirectional" else 1
    n, h = (int(number) for number in rng.integers(1, 6, 2))
    arrays = random_arrays(rng, n, h, count)
    for name in ("h0", "c0"):
        arrays[name] = np.repeat(rng.uniform(-1, 1, (count, 1, h)).astype(np.float32), B, axis=1)
    attributes: dict[str, Any] = {"hidden_size": h, "direction": direction}
    if seed % 2:
        one = functions(rng, 1)
        attributes |= {name: list(values) * count for name, values in one.items()}
    hard = attributes.get("activations", ["sigmoid"])[0].lower() == "hardsigmoid"
    if seed // 3 % 2:
        attributes["clip"] = float(rng.uniform(0.5, 2.0))
    if seed // 6 % 2 and not hard:
        attributes["input_forget"] = 1
    outputs = [["Y", "", ""], ["", "Yh", ""], ["Y", "Yh", "Yc"]][seed % 5 % 3]
    network = load(write(tmp_path / "m.onnx", arrays, ["x", "w", "r", "b", "", "h0", "c0", "p"],
                         outputs, n=n, opset=OPSETS[seed % 3], **attributes)).network
    assert network.directions[0].peepholes is not None
    check_seed(tmp_path, network, rng, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_six_functions(seed: int, tmp_path: Path) -> None:
    """ONNX's operator with functions for each of the two directions."""
    rng = np.random.default_rng(seed)
    n, h = (int(number) for number in rng.integers(1, 5, 2))
    attributes = functions(rng, 2) | ({"clip": float(rng.uniform(0.5, 2.0))} if seed % 2 else {})
    network = load(write(
        tmp_path / "m.onnx", random_arrays(rng, n, h, 2), ["x", "w", "r", "b", "", "", "", "p"],
        [["Y", "", ""], ["", "Yh", ""], ["Y", "Yh", "Yc"]][seed % 3], n=n, opset=OPSETS[seed % 3],
        hidden_size=h, direction="bidirectional", **attributes)).network
    ours, theirs = network.directions
    assert ours.candidate != theirs.candidate or ours.squash != theirs.squash
    check_seed(tmp_path, network, rng, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("units", "columns", "pipeline", "streams", "family"), [
    (1, 2, "short", 1, None), (4, 3, "fast", 2, "ecp5"), (2, 1, "medium", 3, "ice40")])
def test_projections(units: int, columns: int, pipeline: str, streams: int, family: str | None,
                     tmp_path: Path) -> None:
    """PyTorch's projections: the forward directions of a stack, and a head that it has not."""
    rng = np.random.default_rng(0)
    first, _, second, _ = load(MODELS / "torch/projected.safetensors",
                               steps="every").network.directions
    assert isinstance(first, LSTM)
    assert first.outputs < first.hidden
    layers = first, replace(second, w_x=second.w_x[:, :first.outputs])
    network = Network(layers=layers, head=(
        Dense(w=rng.uniform(-1, 1, (2, second.outputs)), bias=rng.uniform(-1, 1, 2)),),
        every_step=True)
    x = rng.uniform(-1, 1, (16, 9, network.inputs))
    # All tests, each of which compares m and h too, and the cycles at full speed.
    dut = check(tmp_path, network, x, rng.integers(1, 10, len(x)), units, columns, error=2e-3,
                pipeline=PIPELINES[pipeline], family=family, tests=None, streams=streams)
    assert "lstm0.m" in dut.saturation
