"""Where an ONNX file's weights come from: integers, functions, other files; and harmful files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from golden import onnx_constants, onnx_read
from golden.calibrate import quantize
from golden.lstm import Bidirectional
from golden.model import ModelError
from golden.onnx_file import load
from tests.onnx_builder import node, refusal, results, save
from tests.onnx_graphs import GRAPHS, H, N, T, X, arrays, both, flip, single, squeezed

ONE = [X, single(0, "xt", ""), squeezed("Y", "s"), flip("s", "y")]
DOMAIN = "local"


def given(nodes: list[Any], **more: np.ndarray) -> dict[str, np.ndarray]:
    used = {name for each in nodes for name in each.input}
    return {key: array for key, array in (arrays() | more).items() if key in used}


def equal(path: Path, tolerance: float = 1e-6) -> None:
    x = np.random.default_rng(0).uniform(-2, 2, (3, T, N)).astype(np.float32)
    (expected,) = results(path, x=x)
    assert np.abs(load(path).network.run(x) - expected).max() <= tolerance


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_weights_through_integers(tmp_path: Path, dtype: type, axis: int | None) -> None:
    """QuantizeLinear and DequantizeLinear in front of W; DequantizeLinear of a stored R."""
    rng = np.random.default_rng(0)
    w, r = arrays()["w_0"], arrays()["r_0"]
    info = np.iinfo(dtype)

    def scales(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = () if axis is None else (array.shape[axis],)
        steps = rng.uniform(0.8, 1.2, count) * 1.4 / (info.max - info.min)
        middle = int(info.max) // 2 + int(info.min) // 2
        zero = rng.integers(middle - 3, middle + 3, count)
        return np.asarray(steps, np.float32), np.asarray(zero, dtype)

    (w_scale, w_zero), (r_scale, r_zero) = scales(w), scales(r)
    stored: np.ndarray = rng.integers(info.min, info.max, r.shape, endpoint=True).astype(dtype)
    options = {} if axis is None else {"axis": axis}
    nodes = [
        node("QuantizeLinear", ["w_0", "ws", "wz"], ["wq"], **options),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["w_"], **options),
        node("DequantizeLinear", ["rq", "rs", "rz"], ["r_"], **options),
        X, node("LSTM", ["xt", "w_", "r_", "b_0"], ["Y"], hidden_size=H), *ONE[2:],
    ]
    more = {"ws": w_scale, "wz": w_zero, "rq": stored, "rs": r_scale, "rz": r_zero}
    # Integers of 16 bits are of a later operator set.
    path = save(tmp_path / "m.onnx", nodes, given(nodes, **more), opset=21)
    equal(path)

    def count(size: int) -> str:
        return "one scale" if axis is None or size == 1 else f"{size} scales"

    assert load(path).notes == tuple(
        f"DequantizeLinear node 'DequantizeLinear_{k}_' turns weights of the type "
        f"{np.dtype(dtype)} with {count(array.shape[axis or 0])} into the numbers that they "
        "stand for, which a design rounds anew, since the scale is no power of two"
        for k, array in (("w", w), ("r", r))
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_a_design_keeps_the_bits_of_quantised_weights(tmp_path: Path, bits: int) -> None:
    rng = np.random.default_rng(1)
    plain = arrays()
    stored: dict[str, np.ndarray] = {
        name: rng.integers(-128, 128, plain[of].shape).astype(np.int8)
        for name, of in (("wq", "w_0"), ("rq", "r_0"))}
    exponents = {"wq": 6, "rq": 8}
    nodes = [node("DequantizeLinear", [name, f"{name}s", f"{name}z"], [to])
             for name, to in (("wq", "w_"), ("rq", "r_"))]
    nodes += [X, node("LSTM", ["xt", "w_", "r_", "b_0"], ["Y"], hidden_size=H), *ONE[2:]]
    more = stored | {f"{name}s": np.array(2.0**-k, np.float32) for name, k in exponents.items()}
    more |= {f"{name}z": np.array(0, np.int8) for name in exponents}
    path = save(tmp_path / "m.onnx", nodes, given(nodes, **more), opset=21)
    trained = load(path)
    assert [note.partition(", ")[2] for note in trained.notes] == 2 * [
        "whose bits a design keeps, since the scale is a power of two"]
    network = trained.network
    fixed = quantize(network, rng.standard_normal((4, 6, network.inputs)), bits=bits).directions[0]
    for codes, to, name in ((fixed.w_x, fixed.formats.w_x, "wq"),
                            (fixed.w_h, fixed.formats.w_h, "rq")):
        # ONNX has the gates in the order i, o, f, c.
        gates = stored[name][0].reshape(4, H, -1)[[0, 2, 3, 1]]
        assert np.array_equal(to.to_real(codes), gates.reshape(4 * H, -1) * 2.0**-exponents[name])


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["one", "both"])
def test_quantised_operator_of_onnx_runtime(tmp_path: Path, kind: str, per_channel: bool) -> None:
    """Weights as ONNX Runtime's own tool makes them; x and h it rounds as well, to 8 bits."""
    nodes = ONE if kind == "one" else GRAPHS["both-stacked"]
    plain = save(tmp_path / "plain.onnx", nodes, given(nodes))
    path = tmp_path / "m.onnx"
    # Of 7 bits: where a processor has no dot product of its own, sums of products of 8 saturate.
    quantize_dynamic(
        plain, path, per_channel=per_channel, weight_type=QuantType.QInt8, reduce_range=True,
        op_types_to_quantize=["LSTM"],
    )
    kinds = {each.op_type for each in onnx.load(path).graph.node}
    assert "DynamicQuantizeLSTM" in kinds
    assert "LSTM" not in kinds
    equal(path, 0.05)
    trained = load(path)
    assert any("has integer weights, taken as the numbers that they stand for, which a design "
               "rounds anew" in note for note in trained.notes)
    for ours, theirs in zip(
        trained.network.directions, load(plain).network.directions, strict=True
    ):
        for name in ("w_x", "w_h"):
            gap = np.abs(getattr(ours, name) - getattr(theirs, name)).max()
            assert 0 < gap <= 0.6 / 63
        np.testing.assert_array_equal(ours.bias, theirs.bias)


def test_quantised_operator_by_hand(tmp_path: Path) -> None:
    """Scales and zero points of the rows, exactly."""
    rng = np.random.default_rng(1)
    w, r = (rng.integers(0, 256, (2, k, 4 * H)).astype(np.uint8) for k in (N, H))
    scales = [rng.uniform(0.001, 0.01, (2, 4 * H)).astype(np.float32) for _ in range(2)]
    zeros = [rng.integers(100, 156, (2, 4 * H)).astype(np.uint8) for _ in range(2)]
    names = ["xt", "wq", "rq", "b2", "", "", "", "", "ws", "wz", "rs", "rz"]
    nodes = [
        X, node("DynamicQuantizeLSTM", names, ["", "Yh"], domain="com.microsoft", hidden_size=H,
                direction="bidirectional"),
        node("Gather", ["Yh", "k1"], ["y"], axis=0),
    ]
    more: dict[str, np.ndarray] = {
        "wq": w,
        "rq": r,
        "ws": scales[0],
        "wz": zeros[0],
        "rs": scales[1],
        "rz": zeros[1],
    }
    path = save(tmp_path / "m.onnx", nodes, given(nodes, **more))
    (layer,) = load(path).network.directions
    assert layer.reverse
    i, o, f, g = np.arange(4 * H).reshape(4, H)
    for ours, stored, scale, zero in zip(
        (layer.w_x, layer.w_h), (w, r), scales, zeros, strict=True
    ):
        values = (stored[1].astype(float) - zero[1]) * scale[1].astype(float)
        np.testing.assert_array_equal(ours, values.T[np.concatenate([i, f, g, o])])
    more["ws"] = scales[0][:, :3]
    path = save(tmp_path / "b.onnx", nodes, given(nodes, **more))
    assert refusal(path) == (
        "com.microsoft.DynamicQuantizeLSTM node 'DynamicQuantizeLSTM_': W_scale must have the "
        f"shape [2] or [2, {4 * H}], not [2, 3]"
    )


def with_functions(path: Path, calls: dict[str, list[Any]], nodes: list[Any]) -> Path:
    """A model with functions of one input a and one output z each, by their nodes."""
    save(path, nodes, given(nodes))
    model = onnx.load(path)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model.functions.extend(
        helper.make_function(DOMAIN, name, ["a"], ["z"], body, opsets)
        for name, body in calls.items()
    )
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    path.write_bytes(model.SerializeToString())
    return path


def call(name: str, source: str = "a", target: str = "z") -> Any:
    return node(name, [source], [target], domain=DOMAIN)


def test_functions_of_the_model(tmp_path: Path) -> None:
    body = [node("Tanh", ["a"], ["t"]), call("Turn", "t", "z")]
    functions = {"Wrapped": body, "Turn": [flip("a", "z")]}
    path = with_functions(tmp_path / "m.onnx", functions, [*ONE[:3], call("Wrapped", "s", "y")])
    equal(path)


def test_refuses_functions_without_end(tmp_path: Path) -> None:
    nodes = [*ONE[:3], call("A", "s", "y")]
    circle = {"A": [call("B")], "B": [call("A")]}
    path = with_functions(tmp_path / "m.onnx", circle, nodes)
    assert refusal(path) == "function 'A' must not call itself"
    # Each calls the next one ten times: a file of some kilobytes, a graph of 10 ** 30 nodes.
    chain = {
        f"F{k}": [call(f"F{k + 1}", "a" if m == 0 else f"t{m}", f"t{m + 1}" if m < 9 else "z")
                  for m in range(10)]
        for k in range(30)
    } | {"F30": [flip("a", "z")]}
    path = with_functions(tmp_path / "m.onnx", chain, [*ONE[:3], call("F0", "s", "y")])
    text = refusal(path)
    assert text.startswith("the graph must have at most 50000 nodes with its functions, not ")


def test_bounds_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "m.onnx", ONE, given(ONE))
    size = path.stat().st_size
    monkeypatch.setattr(onnx_read, "MAX_BYTES", size - 1)
    assert refusal(path) == f"the file must have at most {size - 1} bytes, not {size}"
    monkeypatch.undo()
    monkeypatch.setattr(onnx_read, "MAX_NODES", 3)
    assert refusal(path) == "the graph must have at most 3 nodes, not 4"
    monkeypatch.undo()
    monkeypatch.setattr(onnx_read, "MAX_TENSORS", 3)
    assert refusal(path) == "the graph must have at most 3 weights, inputs and outputs, not 6"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "the file must be a regular one"


def test_bounds_of_constants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files that ask for tensors of terabytes."""
    for nodes, text in (
        (
            [node("Expand", ["half", "huge"], ["w"])],
            "Expand node 'Expand_w': a constant must have at most 67108864 elements and 64 axes, "
            "not the shape [1048576, 1048576]",
        ),
        (
            [node("ConstantOfShape", ["huge"], ["w"])],
            "ConstantOfShape node 'ConstantOfShape_w': a constant must have at most 67108864 "
            "elements and 64 axes, not the shape [1048576, 1048576]",
        ),
        (
            [node("Tile", ["half2", "huge"], ["w"])],
            "Tile node 'Tile_w': a constant must have at most 67108864 elements and 64 axes, not "
            "the shape [1048576, 1048576]",
        ),
        (
            [node("Mul", ["column", "row"], ["w"])],
            "Mul node 'Mul_w': a constant must have at most 67108864 elements and 64 axes, not the "
            "shape [10000, 10000]",
        ),
        (
            [node("Shape", ["x"], ["n0"])]
            + [node("Mul", [f"n{k}", f"n{k}"], [f"n{k + 1}"]) for k in range(40)]
            + [node("Reshape", ["x", "n40"], ["w"])],
            "Reshape node 'Reshape_w': the shape must be a vector of known sizes, not 'n40'",
        ),
    ):
        more = {
            "huge": np.array([2**20, 2**20]),
            "half2": np.ones((1, 1), np.float32),
            "column": np.ones((10000, 1), np.float32),
            "row": np.ones((1, 10000), np.float32),
        }
        every = [*nodes, X, node("LSTM", ["xt", "w", "r_0", "b_0"], ["y"], hidden_size=H)]
        path = save(tmp_path / "m.onnx", every, given(every, **more))
        assert refusal(path) == text
    # The same weights again and again.
    path = save(tmp_path / "m.onnx", ONE, given(ONE))
    monkeypatch.setattr("golden.onnx_file.MAX_ELEMENTS", 1)
    assert refusal(path) == "LSTM node 'LSTM_Y': the model must have at most 4 weights"
    assert onnx_constants.MAX_ELEMENTS > 1


def test_external_data_stays_beside_the_file(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.onnx", ONE, given(ONE))
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "m.onnx"
    onnx.save(
        onnx.load(plain), path, save_as_external_data=True, location="m.data", size_threshold=0
    )
    assert isinstance(load(path).network.directions[0].hidden, int)
    (folder / "m.data").rename(tmp_path / "secret")
    (folder / "m.data").symlink_to(tmp_path / "secret")
    name = onnx.load(path, load_external_data=False).graph.initializer[0].name
    what = f"the external data of tensor '{name}'"
    assert refusal(path) == f"{what} must be in the model's folder, not at 'm.data'"
    (folder / "m.data").unlink()
    os.mkfifo(folder / "m.data")
    assert refusal(path) == f"{what} cannot be read from 'm.data'"
    (folder / "m.data").unlink()
    (folder / "m.data").write_bytes(b"1234")
    assert refusal(path) == f"{what} cannot be read from 'm.data'"
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "length":
            entry.value = "-1"
    path.write_bytes(model.SerializeToString())
    assert refusal(path) == f"{what} cannot be read from 'm.data'"


def test_refuses_broken_tensors_and_types(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", ONE, given(ONE))
    good = path.read_bytes()

    def changed(change: Any) -> str:
        model = onnx.load_model_from_string(good)
        change(model)
        path.write_bytes(model.SerializeToString())
        return refusal(path)

    def weights(model: Any) -> Any:
        return next(each for each in model.graph.initializer if each.name == "w_0")

    def dims(model: Any) -> None:
        weights(model).dims[1] = 2**40

    def negative(model: Any) -> None:
        weights(model).dims[1] = -1

    def text(model: Any) -> None:
        weights(model).CopyFrom(numpy_helper.from_array(np.array(["weights"], dtype=object), "w_0"))

    def twice(model: Any) -> None:
        model.graph.initializer.append(model.graph.initializer[0])

    def sparse(model: Any) -> None:
        model.graph.sparse_initializer.add()

    def name(model: Any) -> None:
        model.graph.node[1].name = "a\n\x1b[31m" + "b" * 5000
        model.graph.node[1].op_type = "Elu"

    assert changed(dims) == "tensor 'w_0' cannot be decoded"
    assert changed(negative).startswith(("tensor 'w_0' cannot be decoded", "LSTM node"))
    assert changed(text) == "LSTM node 'LSTM_Y': W must be of a float type, not object"
    assert changed(twice) == "two weights of the graph have the same name"
    assert changed(sparse) == "sparse weights are not supported"
    long = changed(name)
    assert long.startswith("Elu node 'a??[31mbbb")
    assert len(long) == 600


@pytest.mark.parametrize("graph", ["both-stacked", "two-sequences", "learned-state", "norm-behind"])
def test_damaged_graphs_are_read_or_refused(tmp_path: Path, graph: str) -> None:
    """Flipped bytes never end in another exception."""
    rng = np.random.default_rng(0)
    path = save(tmp_path / "m.onnx", GRAPHS[graph], given(GRAPHS[graph]))
    model = onnx.load(path)
    # Bytes of weights make up most of the file, and are of no interest here.
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(tensor).astype(np.float16), tensor.name
                )
            )
    data = model.SerializeToString()
    texts: list[str] = []
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), size=1 + rng.integers(0, 6)):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            trained = load(path)
        except ModelError as error:
            texts.append(str(error))
        else:
            assert trained.network.layers
    assert len(texts) > 20
    assert all(text.startswith(f"{path}: ") for text in texts)


def test_directions_share_what_is_before(tmp_path: Path) -> None:
    """Two stacked layers of two directions each, from four LSTM nodes and two concatenations."""
    nodes = [
        X, single(0, "xt", "f"), single(1, "xt", "b", direction="reverse"),
        squeezed("fY", "fs"), squeezed("bY", "bs"), node("Concat", ["fs", "bs"], ["m"], axis=2),
        both("m", "z", "vsc"), node("ReduceSum", ["zY", "one"], ["t"], keepdims=0), flip("t", "y"),
    ]
    path = save(tmp_path / "m.onnx", nodes, given(nodes))
    equal(path)
    assert all(isinstance(layer, Bidirectional) for layer in load(path).network.layers)
