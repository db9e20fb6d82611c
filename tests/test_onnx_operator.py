"""The operator LSTM in full: the float model gives what ONNX Runtime gives, whatever is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.case.node.lstm
import pytest
from onnx import TensorProto, helper, numpy_helper

from golden.lstm import Bidirectional, State
from golden.model import ModelError, Network, TrainedModel
from golden.onnx_file import load
from tests.onnx_builder import node, results

T, B = 6, 3
DIRECTIONS = ("forward", "reverse", "bidirectional")
OPSETS = (7, 14, 22)


def random_arrays(rng: np.random.Generator, n: int, h: int, count: int) -> dict[str, np.ndarray]:
    """Weights of an LSTM node, peepholes too, all different."""
    shapes = {"w": (count, 4 * h, n), "r": (count, 4 * h, h), "b": (count, 8 * h),
              "p": (count, 3 * h)}
    return {k: rng.uniform(-0.7, 0.7, shape).astype(np.float32) for k, shape in shapes.items()}


def write(
    path: Path,
    arrays: dict[str, np.ndarray],
    inputs: list[str],
    outputs: list[str],
    *,
    n: int,
    opset: int = 17,
    steps: int | str = T,
    batch: int | str = B,
    **attributes: Any,
) -> Path:
    """One LSTM node and nothing else; the inputs that are no arrays are the model's."""
    types = {"x": (TensorProto.FLOAT, [steps, batch, n]), "lengths": (TensorProto.INT32, [batch])}
    names = [name for name in inputs if name and name not in arrays]
    graph = helper.make_graph(
        [node("LSTM", inputs, outputs, **attributes)],
        "network",
        [
            helper.make_tensor_value_info(name, *types.get(name, (TensorProto.FLOAT, None)))
            for name in names
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in inputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def functions(rng: np.random.Generator, count: int) -> dict[str, Any]:
    """Functions of all kinds and their parameters, in the order of their use."""
    names: list[str] = []
    alpha, beta = [], []
    for which in range(3 * count):
        kinds = ["Sigmoid", "HardSigmoid"]
        if which % 3:
            kinds += ["Tanh", "Relu", "Affine"]
        kind = str(rng.choice(kinds))
        if kind in ("HardSigmoid", "Affine"):
            alpha.append(float(rng.uniform(0.1, 0.6)))
            beta.append(float(rng.uniform(0.2, 0.6)))
        names.append(kind if rng.integers(2) else kind.lower())
    parameters = {"activation_alpha": alpha, "activation_beta": beta}
    return {"activations": names} | {name: values for name, values in parameters.items() if values}


def compare(
    trained: TrainedModel, expected: dict[str, np.ndarray], x: np.ndarray, lengths: Any = None
) -> None:
    """Hold a network against Y, Y_h and Y_c of the operator, as many of them as there are."""
    network = trained.network
    y, ended = network.run_states(x.swapaxes(0, 1), lengths)
    states = dict(zip(network.states, network.state_outputs(ended), strict=True))
    if "Y" in expected:
        steps = np.full(y.shape[0], len(x)) if lengths is None else lengths
        valid = np.arange(len(x)) < steps[:, None]
        every = expected["Y"].transpose(2, 0, 1, 3).reshape(*y.shape)
        assert network.every_step
        assert np.abs(np.where(valid[:, :, None], y - every, 0.0)).max() <= 1e-6
    for name, array in expected.items():
        if name == "Y":
            continue
        state = array.swapaxes(0, 1).reshape(y.shape[0], -1)
        key = f"lstm0.{name[-1]}"
        ours = states.get(key, y)
        assert key in states or (key == "lstm0.h" and not network.every_step)
        assert ours.shape == state.shape
        assert np.abs(ours - state).max() <= 1e-6


@pytest.mark.parametrize("seed", range(72))
def test_random_operator_equals_onnx_runtime(tmp_path: Path, seed: int) -> None:
    """Directions, peepholes, states, lengths, coupled gates, clip, functions, outputs."""
    rng = np.random.default_rng(seed)
    direction, opset = DIRECTIONS[seed % 3], OPSETS[seed // 3 % 3]
    count = 2 if direction == "bidirectional" else 1
    n, h = (int(k) for k in rng.integers(1, 6, 2))
    arrays = random_arrays(rng, n, h, count)
    inputs = ["x", "w", "r", "b", "", "", "", "p"]
    for index in (3, 7):
        if rng.integers(3) == 0:
            inputs[index] = ""
    for index, name in ((5, "h0"), (6, "c0")):
        if rng.integers(2):
            inputs[index] = name
            row = rng.uniform(-1, 1, (count, 1, h)).astype(np.float32)
            arrays[name] = np.repeat(row, B, axis=1)
    lengths = None
    if rng.integers(2):
        inputs[4] = "lengths"
        lengths = rng.integers(1, T + 1, B).astype(np.int32)
        lengths[0] = T
    attributes: dict[str, Any] = {"hidden_size": h, "direction": direction}
    if rng.integers(2):
        attributes |= functions(rng, count)
    if rng.integers(3) == 0:
        attributes["clip"] = float(rng.uniform(0.2, 1.0))
    hard = any(k.lower() == "hardsigmoid" for k in attributes.get("activations", [])[::3])
    if rng.integers(3) == 0 and not ("clip" in attributes and hard):
        attributes["input_forget"] = 1
    outputs = [name if rng.integers(2) else "" for name in ("Y", "Yh", "Yc")]
    if not any(outputs):
        outputs[seed % 3] = ("Y", "Yh", "Yc")[seed % 3]
    path = write(tmp_path / "m.onnx", arrays, inputs, outputs, n=n, opset=opset, **attributes)
    x = rng.uniform(-2, 2, (T, B, n)).astype(np.float32)
    feeds = {"x": x} | ({} if lengths is None else {"lengths": lengths})
    names = [name for name in outputs if name]
    trained = load(path)
    assert trained.source == f"ONNX, operator set {opset}"
    compare(trained, dict(zip(names, results(path, **feeds), strict=True)), x, lengths)
    layer = trained.network.layers[0]
    assert isinstance(layer, Bidirectional) == (count == 2)
    assert layer.directions[-1].reverse == (direction != "forward")


# Importing a module makes its cases. `collect_testcases` would import those of all operators, which
# takes ten seconds in each process.
CASES = {case.name: case for case in onnx.backend.test.case.node._NodeTestCases
         if case.name.startswith("test_lstm")}


def node_test(name: str, path: Path) -> tuple[Network, np.ndarray, dict[str, np.ndarray]]:
    """A test of the onnx package: network, input and expected outputs, all of them batch first.

    Weights are inputs there, which become part of the model here, written to ``path``.
    """
    case = CASES[name]
    assert case.model is not None
    assert case.data_sets is not None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    (given, expected) = case.data_sets[0]
    kept = []
    for value, array in zip(case.model.graph.input, given, strict=True):
        if value.name == "X":
            kept.append(value)
        else:
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
    del model.graph.input[:]
    model.graph.input.extend(kept)
    path.write_bytes(model.SerializeToString())
    network = load(path).network
    assert expected
    layout = any(a.name == "layout" and a.i for a in model.graph.node[0].attribute)
    outputs = {}
    for value, array in zip(model.graph.output, expected, strict=True):
        if not layout:
            array = array.transpose(2, 0, 1, 3) if value.name == "Y" else array.swapaxes(0, 1)
        outputs[value.name] = array
    return network, given[0] if layout else given[0].swapaxes(0, 1), outputs


@pytest.mark.parametrize("name", CASES)
def test_node_tests_of_the_onnx_package(tmp_path: Path, name: str) -> None:
    network, x, expected = node_test(name, tmp_path / "m.onnx")
    y, ended = network.run_states(x)
    states = dict(zip(network.states, network.state_outputs(ended), strict=True))
    for output, array in expected.items():
        if output == "Y":
            assert network.every_step
        ours = y if output == "Y" else states.get(f"lstm0.{output[-1]}", y)
        assert np.abs(ours - array.reshape(ours.shape)).max() <= 1e-6


def test_there_are_node_tests() -> None:
    assert len(CASES) >= 6


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_states_that_the_application_sets(tmp_path: Path, direction: str) -> None:
    rng = np.random.default_rng(0)
    count = 2 if direction == "bidirectional" else 1
    arrays = random_arrays(rng, 2, 4, count)
    path = write(
        tmp_path / "m.onnx",
        arrays,
        ["x", "w", "r", "b", "", "h0", "c0"],
        ["Y", "Yh", "Yc"],
        n=2,
        hidden_size=4,
        direction=direction,
    )
    trained = load(path)
    assert trained.notes[:2] == (
        "LSTM node 'LSTM_Y' begins with an initial_h that the application sets, input 'h0'; "
        "here it is zeros; --stateful gives a port to set it",
        "LSTM node 'LSTM_Y' begins with an initial_c that the application sets, input 'c0'; "
        "here it is zeros; --stateful gives a port to set it",
    )
    x = rng.normal(size=(T, B, 2)).astype(np.float32)
    h, c = rng.uniform(-1, 1, (2, count, B, 4)).astype(np.float32)
    y, yh, yc = results(path, x=x, h0=h, c0=c)
    state = [State(h=h[k].astype(np.float64), c=c[k].astype(np.float64)) for k in range(count)]
    ours, ended = trained.network.run_states(x.swapaxes(0, 1), state=state)
    assert np.abs(ours - y.transpose(2, 0, 1, 3).reshape(ours.shape)).max() <= 1e-6
    for theirs, mine in zip((yh, yc), trained.network.state_outputs(ended), strict=True):
        assert np.abs(mine - theirs.swapaxes(0, 1).reshape(B, -1)).max() <= 1e-6


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_layout_one_is_layout_zero_turned(tmp_path: Path, direction: str) -> None:
    """Batch first within the operator, which ONNX Runtime lacks: states, too."""
    rng = np.random.default_rng(1)
    count = 2 if direction == "bidirectional" else 1
    arrays = random_arrays(rng, 2, 4, count)
    arrays["h0"] = np.repeat(rng.normal(size=(count, 1, 4)), B, axis=1).astype(np.float32)
    inputs = ["x", "w", "r", "b", "", "h0", "", "p"]
    options: dict[str, Any] = {"n": 2, "hidden_size": 4, "direction": direction}
    zeroth = write(tmp_path / "0.onnx", arrays, inputs, ["Y", "Yh", "Yc"], **options)
    turned = arrays | {"h0": arrays["h0"].swapaxes(0, 1)}
    first = write(
        tmp_path / "1.onnx", turned, inputs, ["Y", "Yh", "Yc"], layout=1, steps=B, batch=T,
        **options,
    )
    x = rng.normal(size=(B, T, 2))
    one, other = load(zeroth).network, load(first).network
    for a, b in zip(one.run_states(x)[1], other.run_states(x)[1], strict=True):
        np.testing.assert_array_equal(a.c, b.c)
    np.testing.assert_array_equal(one.run(x), other.run(x))
    assert one.states == other.states == ("lstm0.h", "lstm0.c")


def test_lengths_that_are_all_steps(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arrays = random_arrays(rng, 2, 4, 1) | {"l": np.full(B, T, np.int32)}
    path = write(
        tmp_path / "m.onnx", arrays, ["x", "w", "r", "b", "l"], ["Y"], n=2, hidden_size=4,
        direction="reverse",
    )
    x = rng.normal(size=(T, B, 2)).astype(np.float32)
    compare(load(path), {"Y": results(path, x=x)[0]}, x)


def test_what_affine_is_without_an_alpha(tmp_path: Path) -> None:
    """ONNX Runtime takes 0, the operator Affine itself 1: it must be said."""
    rng = np.random.default_rng(3)
    arrays = random_arrays(rng, 2, 4, 1)
    given: list[dict[str, Any]] = [{}, {"activation_alpha": [0.0]}, {"activation_alpha": [1.0]}]
    files = [
        write(
            tmp_path / f"{k}.onnx", arrays, ["x", "w", "r", "b"], ["Y"], n=2, hidden_size=4,
            activations=["Sigmoid", "Affine", "Tanh"], **parameters,
        )
        for k, parameters in enumerate(given)
    ]
    x = rng.normal(size=(T, B, 2)).astype(np.float32)
    silent, zero, one = (results(path, x=x)[0] for path in files)
    np.testing.assert_array_equal(silent, zero)
    assert np.abs(silent - one).max() > 0.1
    compare(load(files[2]), {"Y": one}, x)
    with pytest.raises(ModelError, match="activation_alpha must be given for Affine"):
        load(files[0])
