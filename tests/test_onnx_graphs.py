"""Whole ONNX graphs around LSTMs: the float model gives what ONNX Runtime gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from golden.function import Function
from golden.lstm import LSTM, Bidirectional
from golden.model import Network
from golden.onnx_file import load
from tests.onnx_builder import node, results, save
from tests.onnx_graphs import GRAPHS, MORE, N, T, X, arrays, flip, single, squeezed


def compare(path: Path, seed: int) -> Network:
    """Hold a batch-first model of one output against ONNX Runtime; give the network."""
    network = load(path).network
    rng = np.random.default_rng(seed)
    for count in (1, 3):
        x = rng.uniform(-2.0, 2.0, (count, T, N)).astype(np.float32)
        (expected,) = results(path, x=x)
        ours = network.run(x)
        assert ours.shape == (expected.shape if ours.shape[-1] > 1 else ours.shape)
        assert np.abs(ours - expected.reshape(ours.shape)).max() <= 1e-6
    return network


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", GRAPHS)
def test_graph_equals_onnx_runtime(tmp_path: Path, name: str, seed: int) -> None:
    nodes = GRAPHS[name]
    used = {name for each in nodes for name in each.input}
    given = {key: array for key, array in (arrays(seed) | MORE).items() if key in used}
    types = {"argmax": TensorProto.INT64, "argmax-last": TensorProto.INT32}
    y_type = types.get(name, TensorProto.FLOAT)
    network = compare(save(tmp_path / "m.onnx", nodes, given, y_type=y_type), seed)
    merges = {"sum": "sum", "mean": "ave", "product": "mul"}
    last = network.layers[-1]
    if name.split("-")[-1] in merges or name.split("-")[0] in merges:
        kind = name.split("-")[-1] if name.split("-")[-1] in merges else name.split("-")[0]
        assert isinstance(last, Bidirectional)
        assert last.merge == merges[kind]
    if name.startswith("backward"):
        assert all(isinstance(layer, LSTM) for layer in network.layers)
        assert network.backwards == (name == "backwards")


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, 22])
def test_operator_sets(tmp_path: Path, opset: int) -> None:
    """The same graph, axes as attributes and as inputs, Softmax in both of its meanings."""
    old = opset < 13
    squeeze = node("Squeeze", ["Y"], ["s"], axes=[1]) if old else squeezed("Y", "s")
    nodes = [X, single(0, "xt", ""), squeeze, flip("s", "bt"), node("MatMul", ["bt", "dw"], ["g"]),
             node("Softmax", ["g"], ["y"], axis=2)]
    names = ("w_0", "r_0", "b_0", "dw", *(() if old else ("one",)))
    given = {key: arrays()[key] for key in names}
    network = compare(save(tmp_path / "m.onnx", nodes, given, opset=opset), 0)
    assert network.head[-1].function == Function("Softmax")
