"""Reading ONNX files: the same numbers as ONNX Runtime, or one clear refusal."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from golden.model import ModelError, Network
from golden.onnx_file import load
from tests.onnx_builder import Cell, cell, lstm_arrays, node, refusal, runtime, save

N, H, O = 3, 5, 2  # noqa: E741 - the letters of the documentation
I64 = np.int64
END = 2**63 - 1


def read(path: Path) -> Network:
    return load(path).network


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=I64)


def core(prefix: str = "", x: str = "xt", **attributes: Any) -> Any:
    names = [x, *(f"{prefix}{k}" for k in "wrb")]
    hidden = attributes.pop("hidden_size", H)
    return node(
        "LSTM",
        names,
        [f"{prefix}Y", f"{prefix}Yh", f"{prefix}Yc"],
        hidden_size=hidden,
        **attributes,
    )


def flip(source: str, target: str) -> Any:
    return node("Transpose", [source], [target], perm=[1, 0, 2])


def head_arrays(rng: np.random.Generator, hidden: int = H) -> dict[str, np.ndarray]:
    return {
        "hw": rng.normal(size=(hidden, O)).astype(np.float32),
        "hb": rng.normal(size=O).astype(np.float32),
    }


# Each variant wraps the same LSTM, batch first, in other plumbing: nodes and further arrays.
FRONT = [flip("x", "xt"), core()]
GEMM = node("Gemm", ["last", "hw", "hb"], ["y"])
VARIANTS: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "gather": (
        [
            *FRONT,
            node("Squeeze", ["Y", "one"], ["s"]),
            flip("s", "bt"),
            node("Gather", ["bt", "k"], ["last"], axis=1),
            GEMM,
        ],
        {"one": ints(1), "k": np.array(-1)},
    ),
    "gather-time-first": (
        [
            *FRONT,
            node("Gather", ["Y", "k"], ["l"], axis=0),
            node("Squeeze", ["l", "zero"], ["last"]),
            GEMM,
        ],
        {"zero": ints(0), "k": np.array(-1)},
    ),
    "gather-vector": (
        [
            *FRONT,
            node("Gather", ["Y", "k"], ["l"], axis=0),
            node("Reshape", ["l", "shape"], ["last"]),
            GEMM,
        ],
        {"shape": ints(-1, H), "k": ints(-1)},
    ),
    "slice": (
        [
            *FRONT,
            node("Slice", ["Y", "from", "to", "zero"], ["l"]),
            node("Squeeze", ["l", "both"], ["last"]),
            GEMM,
        ],
        {"from": ints(-1), "to": ints(END), "zero": ints(0), "both": ints(0, 1)},
    ),
    "final-state": (
        [*FRONT, node("Squeeze", ["Yh", "zero"], ["last"]), GEMM],
        {"zero": ints(0)},
    ),
    "final-state-gathered": (
        [*FRONT, node("Gather", ["Yh", "k"], ["last"], axis=0), GEMM],
        {"k": np.array(-1)},
    ),
    "gemm-transposed": (
        [
            *FRONT,
            node("Squeeze", ["Yh", "zero"], ["last"]),
            node("Transpose", ["hw"], ["wt"]),
            node("Gemm", ["last", "wt", "hb"], ["y"], transB=1, alpha=0.5, beta=2.0),
        ],
        {"zero": ints(0)},
    ),
    "gemm-without-bias": (
        [*FRONT, node("Squeeze", ["Yh", "zero"], ["last"]), node("Gemm", ["last", "hw"], ["y"])],
        {"zero": ints(0)},
    ),
    "matmul-on-last": (
        [
            *FRONT,
            node("Squeeze", ["Yh", "zero"], ["last"]),
            node("MatMul", ["last", "hw"], ["p"]),
            node("Add", ["p", "hb"], ["y"]),
        ],
        {"zero": ints(0)},
    ),
    "every-step": (
        [
            *FRONT,
            node("Squeeze", ["Y", "one"], ["s"]),
            flip("s", "bt"),
            node("MatMul", ["bt", "hw"], ["p"]),
            node("Add", ["hb", "p"], ["y"]),
        ],
        {"one": ints(1)},
    ),
    "every-step-then-last": (
        [
            *FRONT,
            node("Squeeze", ["Y", "one"], ["s"]),
            flip("s", "bt"),
            node("MatMul", ["bt", "hw"], ["p"]),
            node("Gather", ["p", "k"], ["q"], axis=1),
            node("Add", ["hb", "q"], ["y"]),
        ],
        {"one": ints(1), "k": np.array(-1)},
    ),
    "merged-and-split": (
        [
            *FRONT,
            node("Transpose", ["Y"], ["bt"], perm=[2, 0, 1, 3]),
            node("Reshape", ["bt", "flat"], ["last"]),
            node("Gemm", ["last", "hw", "hb"], ["g"]),
            node("Shape", ["x"], ["full"]),
            node("Slice", ["full", "zero", "two"], ["bts"]),
            node("Concat", ["bts", "end"], ["shape"], axis=0),
            node("Reshape", ["g", "shape"], ["y"]),
        ],
        {"flat": ints(-1, H), "zero": ints(0), "two": ints(2), "end": ints(O)},
    ),
    "reshape-zero": (
        [
            *FRONT,
            node("Transpose", ["Y"], ["bt"], perm=[2, 0, 1, 3]),
            node("Reshape", ["bt", "shape"], ["y"]),
        ],
        {"shape": ints(0, 0, -1)},
    ),
    "no-head-last": ([*FRONT, node("Squeeze", ["Yh", "zero"], ["y"])], {"zero": ints(0)}),
    "identities": (
        [
            node("Identity", ["x"], ["x1"]),
            node("Unsqueeze", ["x1", "one"], ["x2"]),
            node("Squeeze", ["x2", "one"], ["x3"]),
            node("Cast", ["x3"], ["x4"], to=TensorProto.FLOAT),
            flip("x4", "xt"),
            core(),
            node("Dropout", ["Yh"], ["d"]),
            node("Squeeze", ["d", "zero"], ["last"]),
            GEMM,
        ],
        {"zero": ints(0), "one": ints(1)},
    ),
    "zero-states": (
        [
            flip("x", "xt"),
            node("Shape", ["x"], ["size"]),
            node("Gather", ["size", "k"], ["n"], axis=0),
            node("Unsqueeze", ["n", "zero"], ["nv"]),
            node("Concat", ["one", "nv", "h"], ["shape"], axis=0),
            node("ConstantOfShape", ["shape"], ["h0"]),
            node("Expand", ["z", "shape"], ["c0"]),
            node(
                "LSTM",
                ["xt", "w", "r", "b", "", "h0", "c0"],
                ["", "Yh"],
                hidden_size=H,
                activations=["Sigmoid", "Tanh", "Tanh"],
                direction="forward",
            ),
            node("Squeeze", ["Yh", "zero"], ["last"]),
            GEMM,
        ],
        {
            "k": np.array(0),
            "zero": ints(0),
            "one": ints(1),
            "h": ints(H),
            "z": np.zeros((1, 1, H), np.float32),
        },
    ),
}


def compare(path: Path, rng: np.random.Generator, *, inputs: int = N, steps: int = 9) -> Network:
    """Check a batch-first model against ONNX Runtime on several batches; give the network."""
    network = read(path)
    for count in (1, 4):
        x = rng.uniform(-2.0, 2.0, (count, steps, inputs)).astype(np.float32)
        expected = runtime(path, x)
        ours = network.run(x)
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() <= 1e-6
    return network


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("variant", VARIANTS)
def test_plumbing_equals_onnx_runtime(tmp_path: Path, variant: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, arrays = VARIANTS[variant]
    arrays = lstm_arrays(cell(rng, N, H)) | head_arrays(rng) | arrays
    network = compare(save(tmp_path / "m.onnx", nodes, arrays), rng)
    assert network.every_step == (variant in ("every-step", "merged-and-split", "reshape-zero"))
    assert (not network.head) == (variant in ("no-head-last", "reshape-zero"))


@pytest.mark.parametrize(
    ("seed", "inputs", "hidden", "steps"),
    [
        (0, 1, 1, 5),
        (1, 1, 6, 9),
        (2, 4, 1, 3),
        (3, 2, 20, 110),
        (4, 8, 8, 12),
        (5, 13, 7, 30),
        (6, 3, 32, 20),
        (7, 6, 3, 1),
        (8, 2, 2, 50),
        (9, 30, 4, 8),
        (10, 5, 17, 25),
        (11, 7, 11, 40),
    ],
)
def test_shapes_equal_onnx_runtime(
    tmp_path: Path, seed: int, inputs: int, hidden: int, steps: int
) -> None:
    rng = np.random.default_rng(seed)
    nodes = [flip("x", "xt"), core(hidden_size=hidden), *VARIANTS["gather"][0][2:]]
    arrays = lstm_arrays(cell(rng, inputs, hidden)) | head_arrays(rng, hidden)
    path = save(
        tmp_path / "m.onnx", nodes, arrays | VARIANTS["gather"][1], x=["batch", "time", inputs]
    )
    network = compare(path, rng, inputs=inputs, steps=steps)
    assert (network.inputs, network.directions[0].hidden, network.outputs) == (inputs, hidden, O)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("picked", [None, -1, 0, 1])
def test_stacks_equal_onnx_runtime(tmp_path: Path, picked: int | None, seed: int) -> None:
    """Three layers; the output is every step's or a final state picked from the stacked ones."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {"one": ints(1), "k": np.array(picked or 0)}
    nodes, width, x = [flip("x", "xt")], N, "xt"
    # States can be stacked where the layers are of one width, as PyTorch has them.
    widths = (5, 4, 6) if picked is None else (5, 5, 5)
    for k, hidden in enumerate(widths):
        arrays |= lstm_arrays(cell(rng, width, hidden), f"l{k}")
        nodes += [
            core(f"l{k}", x, hidden_size=hidden),
            node("Squeeze", [f"l{k}Y", "one"], [f"l{k}s"]),
        ]
        width, x = hidden, f"l{k}s"
    if picked is None:
        nodes.append(flip(x, "y"))
    else:
        nodes.append(node("Concat", ["l0Yh", "l1Yh", "l2Yh"], ["all"], axis=0))
        nodes.append(node("Gather", ["all", "k"], ["y"], axis=0))
    network = compare(save(tmp_path / "m.onnx", nodes, arrays), rng)
    passed = 3 if picked is None else picked % 3 + 1
    assert tuple(layer.hidden for layer in network.directions) == widths[:passed]
    assert network.every_step == (picked is None)


@pytest.mark.parametrize("seed", range(2))
def test_time_first_model_takes_batch_first_data(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = [core(x="x"), node("Squeeze", ["Y", "one"], ["y"])]
    path = save(
        tmp_path / "m.onnx",
        nodes,
        lstm_arrays(cell(rng, N, H)) | {"one": ints(1)},
        x=["time", "batch", N],
    )
    x = rng.normal(size=(4, 7, N)).astype(np.float32)
    expected = runtime(path, x.swapaxes(0, 1)).swapaxes(0, 1)
    assert np.abs(read(path).run(x) - expected).max() <= 1e-6


@pytest.mark.parametrize("seed", range(2))
def test_fixed_sizes_and_old_attributes(tmp_path: Path, seed: int) -> None:
    """Operator set 9, batch 1, 6 steps; the last step is element 5."""
    rng = np.random.default_rng(seed)
    nodes = [
        flip("x", "xt"),
        core(),
        node("Squeeze", ["Y"], ["s"], axes=[1, 2]),
        node("Slice", ["s"], ["l"], axes=[0], starts=[5], ends=[6]),
        node("Gemm", ["l", "hw", "hb"], ["y"]),
    ]
    arrays = lstm_arrays(cell(rng, N, H)) | head_arrays(rng)
    path = save(tmp_path / "m.onnx", nodes, arrays, x=[1, 6, N], opset=9)
    x = rng.normal(size=(1, 6, N)).astype(np.float32)
    network = read(path)
    assert not network.every_step
    assert np.abs(network.run(x) - runtime(path, x)).max() <= 1e-6


@pytest.mark.parametrize("seed", range(2))
def test_layout_one(tmp_path: Path, seed: int) -> None:
    """Batch first within the operator, which ONNX Runtime lacks: compared with layout 0."""
    rng = np.random.default_rng(seed)
    arrays = lstm_arrays(cell(rng, N, H)) | head_arrays(rng) | {"one": ints(1), "two": ints(2)}
    tail = [node("MatMul", ["s", "hw"], ["p"]), node("Add", ["p", "hb"], ["y"])]
    first = save(
        tmp_path / "1.onnx",
        [core(x="x", layout=1), node("Squeeze", ["Y", "two"], ["s"]), *tail],
        arrays,
    )
    zeroth = save(
        tmp_path / "0.onnx",
        [*FRONT, node("Squeeze", ["Y", "one"], ["t"]), flip("t", "s"), *tail],
        arrays,
    )
    x = rng.normal(size=(4, 6, N))
    np.testing.assert_array_equal(read(first).run(x), read(zeroth).run(x))
    compare(zeroth, rng)
    final = save(
        tmp_path / "f.onnx",
        [core(x="x", layout=1), node("Squeeze", ["Yh", "one"], ["y"])],
        arrays,
    )
    assert read(final).run(x).shape == (4, H)


def test_weights_in_other_types_and_places(tmp_path: Path) -> None:
    """Double and half weights, weights from Constant nodes cut out of one array, no bias."""
    rng = np.random.default_rng(0)
    each = cell(rng, N, H)
    joined = np.concatenate([each.w[0], each.r[0]], axis=1).astype(np.float64)
    nodes = [
        flip("x", "xt"),
        node("Constant", [], ["j"], value=numpy_helper.from_array(joined)),
        node("Slice", ["j", "zero", "n", "one"], ["w2"]),
        node("Slice", ["j", "n", "end", "one"], ["r2"]),
        node("Unsqueeze", ["w2", "zero"], ["w"]),
        node("Unsqueeze", ["r2", "zero"], ["r"]),
        node("LSTM", ["xt", "w", "r"], ["", "Yh"], hidden_size=H),
        node("Squeeze", ["Yh", "zero"], ["y"]),
    ]
    arrays = {"zero": ints(0), "one": ints(1), "n": ints(N), "end": ints(END)}
    layer = read(save(tmp_path / "m.onnx", nodes, arrays)).directions[0]
    expected = Cell(each.w, each.r, np.zeros_like(each.b)).layer()
    np.testing.assert_array_equal(layer.w_x, expected.w_x)
    np.testing.assert_array_equal(layer.w_h, expected.w_h)
    assert not layer.bias.any()
    half = Cell(*(array.astype(np.float16) for array in each))
    path = save(
        tmp_path / "h.onnx", VARIANTS["no-head-last"][0], lstm_arrays(half) | {"zero": ints(0)}
    )
    np.testing.assert_array_equal(read(path).directions[0].w_h, half.layer().w_h)


def test_external_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = lstm_arrays(cell(rng, N, H)) | {"zero": ints(0)}
    nodes = VARIANTS["no-head-last"][0]
    plain = save(tmp_path / "plain.onnx", nodes, arrays)
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "m.onnx"
    onnx.save(
        onnx.load(plain), path, save_as_external_data=True, location="m.data", size_threshold=0
    )
    np.testing.assert_array_equal(read(path).directions[0].w_x, read(plain).directions[0].w_x)

    model = onnx.load(path, load_external_data=False)
    (tmp_path / "m.data").write_bytes((tmp_path / "sub" / "m.data").read_bytes())
    for place, rule in (
        ("../m.data", "must be in the model's folder, not at '../m.data'"),
        (str(tmp_path / "m.data"), f"must be in the model's folder, not at '{tmp_path}/m.data'"),
        ("gone.data", "cannot be read from 'gone.data'"),
    ):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = place
        path.write_bytes(model.SerializeToString())
        assert refusal(path) == f"the external data of tensor 'w' {rule}"


GATES = "the function of LSTM gates must be Sigmoid or HardSigmoid with an alpha above 0, not "
KNOWN = "activations must be of Sigmoid, Tanh, HardSigmoid, Relu, Affine, not "
LSTM_REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"direction": "bidirectional"}, "R must have the shape [2, 4H, H], not [1, 20, 5]"),
    (
        {"direction": "Reverse"},
        "direction must be one of forward, reverse, bidirectional, not 'Reverse'",
    ),
    ({"activations": ["Sigmoid", "Tanh"]}, "activations must be 3 names, not 2"),
    ({"activations": ["Sigmoid", "ScaledTanh", "Tanh"]}, KNOWN + "ScaledTanh"),
    ({"activations": ["Sigmoid", "Tanh", "Softsign"]}, KNOWN + "Softsign"),
    ({"activations": ["Tanh", "Tanh", "Tanh"]}, GATES + "Tanh"),
    (
        {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [-0.5]},
        GATES + "HardSigmoid(-0.5, 0.5)",
    ),
    (
        {"activations": ["Sigmoid", "Affine", "Tanh"]},
        "activation_alpha must be given for Affine, whose default runtimes do not agree on",
    ),
    (
        {"activation_alpha": [0.5]},
        "activation_alpha must have no more values than activations take, but 0.5 is left",
    ),
    (
        {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_beta": [0.5, 0.25]},
        "activation_beta must have no more values than activations take, but 0.25 is left",
    ),
    (
        {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_beta": [float("nan")]},
        "beta of HardSigmoid must be finite, not nan",
    ),
    ({"clip": 0.0}, "LSTM clip must be positive and finite, not 0.0"),
    ({"clip": -1.5}, "LSTM clip must be positive and finite, not -1.5"),
    ({"input_forget": 2}, "attribute 'input_forget' must be 0 or 1, not 2"),
    (
        {
            "input_forget": 1,
            "clip": 1.0,
            "activations": ["HardSigmoid", "Tanh", "Tanh"],
            "activation_beta": [0.25],
        },
        "coupled gates with a clip must have a function that is 1/2 at 0, not "
        "HardSigmoid(0.2, 0.25)",
    ),
    ({"layout": 2}, "layout must be 0 or, from operator set 14 on, 1, not 2"),
    ({"hidden_size": 7}, "hidden_size must be 5, as R has columns, not 7"),
    ({"direction": 1}, "attribute 'direction' must be of another type"),
]


@pytest.mark.parametrize(("attributes", "text"), LSTM_REFUSALS)
def test_refuses_attributes(tmp_path: Path, attributes: dict[str, Any], text: str) -> None:
    arrays = lstm_arrays(cell(np.random.default_rng(0), N, H)) | {"zero": ints(0)}
    nodes = [flip("x", "xt"), core(**attributes), VARIANTS["no-head-last"][0][-1]]
    path = save(tmp_path / "m.onnx", nodes, arrays)
    assert refusal(path) == f"LSTM node 'LSTM_Y': {text}"


def nan_in(array: np.ndarray, at: tuple[int, ...]) -> np.ndarray:
    copy = array.copy()
    copy[at] = np.nan
    return copy


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda a: {"w": nan_in(a["w"], (0, 3, 2))},
            "W must be finite, but element [0, 3, 2] is nan",
        ),
        (
            lambda a: {"b": nan_in(a["b"], (0, 39))},
            "B must be finite, but element [0, 39] is nan",
        ),
        (lambda a: {"w": a["w"][:, :16]}, "W must have the shape [1, 20, N], not [1, 16, 3]"),
        (lambda a: {"r": a["r"][0]}, "R must have the shape [1, 4H, H], not [20, 5]"),
        (
            lambda a: {"r": np.concatenate([a["r"], a["r"]])},
            "R must have the shape [1, 4H, H], not [2, 20, 5]",
        ),
        (lambda a: {"b": a["b"][:, :20]}, "B must have the shape [1, 40], not [1, 20]"),
        (lambda a: {"w": a["w"][:, :, :2]}, "W must take the 3 features of X, but takes 2"),
        (lambda a: {"w": a["w"].astype(I64)}, "W must be of a float type, not int64"),
    ],
)
def test_refuses_weights(
    tmp_path: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], text: str
) -> None:
    arrays = lstm_arrays(cell(np.random.default_rng(0), N, H)) | {"zero": ints(0)}
    path = save(tmp_path / "m.onnx", VARIANTS["no-head-last"][0], arrays | change(arrays))
    assert refusal(path) == f"LSTM node 'LSTM_Y': {text}"


def lstm_with(*inputs: str) -> list[Any]:
    return [
        flip("x", "xt"),
        node("LSTM", ["xt", "w", "r", "b", *inputs], ["Y", "Yh", "Yc"], hidden_size=H),
        node("Squeeze", ["Yh", "zero"], ["y"]),
    ]


STATE = np.full((1, 1, H), 0.5, np.float32)
X = "axis {} of input 'x'"
GRAPH_REFUSALS: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "unused-input": (
        lstm_with(),
        {"others": ["extra"]},
        "the model must have one input beside states and lengths, not 2: 'x', 'extra'",
    ),
    "domain": (
        [*lstm_with()[:2], node("Mish", ["Yh"], ["y"], domain="com.example")],
        {},
        "com.example.Mish node 'Mish_y': the operator is not supported",
    ),
    "no-lstm": (
        [node("Identity", ["x"], ["y"])],
        {},
        "output 'y' must come from an LSTM",
    ),
    "dense-before": (
        [node("MatMul", ["x", "square"], ["xd"]), flip("xd", "xt"), core(), lstm_with()[-1]],
        {},
        "MatMul node 'MatMul_xd': a dense layer must come after the LSTM, not before it",
    ),
    "bias-per-step": (
        [
            *lstm_with()[:2],
            node("MatMul", ["Y", "hh"], ["pp"]),
            node("Add", ["pp", "steps"], ["y"]),
        ],
        {},
        "Add node 'Add_y': the constant must have one element, or one for each feature, but its "
        f"shape is [9, 1, 1, 5], for the axes [{X.format(1)}, 1, {X.format(0)}, 5 outputs]",
    ),
    "dense-over-batch": (
        [*lstm_with(), node("Transpose", ["y"], ["t"]), node("MatMul", ["t", "hh"], ["q"])],
        {"outputs": ["q"]},
        "MatMul node 'MatMul_q': the last axis must be the features, but is " + X.format(0),
    ),
    "dense-width": (
        [*lstm_with(), node("MatMul", ["y", "square"], ["q"])],
        {"outputs": ["q"]},
        "MatMul node 'MatMul_q': the weights must take 5 features, but take 3",
    ),
    "other-step": (
        [*lstm_with()[:2], node("Gather", ["Y", "two"], ["y"], axis=0)],
        {},
        "Gather node 'Gather_y': only the last time step or one direction of an LSTM's output can "
        "be picked, not element 2 of the axis " + X.format(1),
    ),
    "step-of-input": (
        [
            node("Gather", ["x", "minus"], ["g"], axis=1),
            node("Unsqueeze", ["g", "zero"], ["xt"]),
            core(),
            lstm_with()[-1],
        ],
        {},
        "Gather node 'Gather_g': only the last time step or one direction of an LSTM's output can "
        "be picked, not element -1 of the axis " + X.format(1),
    ),
    "batch-picked": (
        [*lstm_with()[:2], node("Gather", ["Yh", "minus"], ["y"], axis=1)],
        {},
        "Gather node 'Gather_y': only the last time step or one direction of an LSTM's output can "
        "be picked, not element -1 of the axis " + X.format(0),
    ),
    "slice": (
        [*lstm_with()[:2], node("Slice", ["Y", "zero", "four", "zero"], ["y"])],
        {},
        "Slice node 'Slice_y': only the last time step or one direction of an LSTM's output can be "
        "cut out, not 0 : 4 : 1 of the axis " + X.format(1),
    ),
    "computed-index": (
        [
            *lstm_with()[:2],
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "one"], ["k"]),
            node("Gather", ["Y", "k"], ["y"]),
        ],
        {},
        "Gather node 'Gather_y': the index must be constant, not 'k'",
    ),
    "squeezed-batch": (
        [*lstm_with()[:2], node("Squeeze", ["Yh", "one"], ["y"])],
        {},
        "Squeeze node 'Squeeze_y': an axis to be removed must have size 1, but axis 1 is "
        + X.format(0),
    ),
    "features-not-last": (
        [*lstm_with()[:2], node("Transpose", ["Y"], ["y"])],
        {},
        "output 'y' must have the features as its last axis and no merged axes, but its axes are "
        f"[5 hidden units, {X.format(0)}, 1, {X.format(1)}]",
    ),
    "merged": (
        [*lstm_with()[:2], node("Reshape", ["Y", "flat"], ["y"])],
        {},
        "output 'y' must have the features as its last axis and no merged axes, but its axes are "
        f"[{X.format(1)} * {X.format(0)}, 5 hidden units]",
    ),
    "swapped-by-reshape": (
        [
            *lstm_with()[:2],
            node("Shape", ["x"], ["s"]),
            node("Slice", ["s", "zero", "pair"], ["bt"]),
            node("Concat", ["bt", "rest"], ["shape"], axis=0),
            node("Reshape", ["Y", "shape"], ["y"]),
        ],
        {},
        f"Reshape node 'Reshape_y': the shape must keep or merge axes, but goes from "
        f"[{X.format(1)}, 1, {X.format(0)}, 5 hidden units] to [{X.format(0)}, {X.format(1)}, -1]",
    ),
    "stack-of-other-order": (
        [
            flip("x", "xt"),
            core(),
            node("Squeeze", ["Y", "one"], ["s"]),
            flip("s", "bt"),
            node("LSTM", ["bt", "w2", "r", "b"], ["", "Yh2"], hidden_size=H),
            node("Squeeze", ["Yh2", "zero"], ["y"]),
        ],
        {},
        "LSTM node 'LSTM_': X must be [time, batch, features], but is "
        f"[{X.format(0)}, {X.format(1)}, 5 hidden units]",
    ),
    "integers": (
        lstm_with(),
        {"x_type": TensorProto.INT64},
        "LSTM node 'LSTM_Y': its data must come from the model's input, not from input 'x', which "
        "is not a float tensor of known rank",
    ),
    "computed-weights": (
        [
            node("Sigmoid", ["w"], ["ws"]),
            flip("x", "xt"),
            node("LSTM", ["xt", "ws", "r"], ["", "Yh"]),
            lstm_with()[-1],
        ],
        {},
        "LSTM node 'LSTM_': W must be constant, not 'ws', what the Sigmoid node 'Sigmoid_ws' "
        "computes",
    ),
    "unwritten": (
        [core(), lstm_with()[-1]],
        {},
        "LSTM node 'LSTM_Y': reads 'xt', which nothing before it writes",
    ),
    "opset": (
        lstm_with(),
        {"opset": 6},
        f"the operator set version must be in 7 .. {onnx.defs.onnx_opset_version()}, not 6",
    ),
}


@pytest.mark.parametrize("case", GRAPH_REFUSALS)
def test_refuses_graphs(tmp_path: Path, case: str) -> None:
    nodes, options, text = GRAPH_REFUSALS[case]
    rng = np.random.default_rng(0)
    arrays = lstm_arrays(cell(rng, N, H)) | {
        "w2": cell(rng, H, H).w,
        "zero": ints(0),
        "one": ints(1),
        "four": ints(4),
        "pair": ints(2),
        "rest": ints(-1),
        "flat": ints(-1, H),
        "two": np.array(2),
        "minus": np.array(-1),
        "z": np.zeros((1, 1, H), np.float32),
        "state": STATE,
        "p": np.ones((1, 3 * H), np.float32),
        "square": np.ones((N, N), np.float32),
        "hh": np.ones((H, H), np.float32),
        "steps": np.ones((9, 1, 1, H), np.float32),
    }
    assert refusal(save(tmp_path / "m.onnx", nodes, arrays, **options)) == text


def test_refuses_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert refusal(path) == "the file cannot be read: No such file or directory"
    assert refusal(tmp_path) == "the file cannot be read: Is a directory"
    path.write_bytes(b"")
    assert refusal(path) == "not an ONNX file, or one without any operators"
    path.write_text("This is no protobuf message.\n")
    assert refusal(path) == "not an ONNX file"


def test_refuses_broken_tensors(tmp_path: Path) -> None:
    arrays = lstm_arrays(cell(np.random.default_rng(0), N, H)) | {"zero": ints(0)}
    path = save(tmp_path / "m.onnx", VARIANTS["no-head-last"][0], arrays)
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = b"123"
    path.write_bytes(model.SerializeToString())
    assert refusal(path) == "tensor 'w' cannot be decoded"


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Flipped bytes never end in another exception."""
    rng = np.random.default_rng(seed)
    nodes, arrays = VARIANTS["zero-states"]
    arrays = lstm_arrays(cell(rng, N, H)) | head_arrays(rng) | arrays
    path = save(tmp_path / "m.onnx", nodes, arrays)
    data = path.read_bytes()
    texts = []
    for _ in range(250):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), size=1 + rng.integers(0, 4)):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read(path)
        except ModelError as error:
            texts.append(str(error))
    assert len(texts) > 50
    assert all(text.startswith(f"{path}: ") for text in texts)


def test_names_a_node_without_a_name_by_its_output(tmp_path: Path) -> None:
    arrays = lstm_arrays(cell(np.random.default_rng(0), N, H))
    nodes = [*FRONT, helper.make_node("Elu", ["Yh"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, arrays)
    assert refusal(path) == "Elu node of output 'y': the operator is not supported"


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("form", ["last", "state", "every", "zeros", "time-first"])
@pytest.mark.parametrize("dynamo", [False, True], ids=["script", "dynamo"])
def test_pytorch_exports(tmp_path: Path, dynamo: bool, form: str, layers: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")

    class Net(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(N, H, layers, batch_first=form != "time-first")
            self.head = torch.nn.Linear(H, O)

        def forward(self, x: Any) -> Any:
            state = None
            if form == "zeros":
                zeros = torch.zeros(layers, x.size(0), H)
                state = (zeros, zeros)
            out, (h, _) = self.lstm(x, state)
            if form == "state":
                return self.head(h[-1])
            if form in ("every", "time-first"):
                return self.head(out)
            return self.head(out[:, -1, :])

    torch.manual_seed(seed)
    net = Net().eval()
    example = torch.zeros(*((7, 2) if form == "time-first" else (2, 7)), N)
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            # This exporter fixes the number of steps of an LSTM.
            dims = {int(form == "time-first"): torch.export.Dim.DYNAMIC}
            torch.onnx.export(
                net,
                (example,),
                str(path),
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=["x"],
                output_names=["y"],
                dynamic_shapes=(dims,),
            )
        else:
            torch.onnx.export(
                net,
                (example,),
                str(path),
                dynamo=False,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "a", 1: "b"}, "y": {0: "a"}},
            )
    network = read(path)
    assert network.every_step == (form in ("every", "time-first"))
    assert len(network.layers) == layers
    x = np.random.default_rng(seed).normal(size=(4, 7, N)).astype(np.float32)
    swap = (lambda a: a.swapaxes(0, 1)) if form == "time-first" else (lambda a: a)
    with torch.no_grad():
        expected = net(torch.from_numpy(swap(x).copy())).numpy()
    assert np.abs(swap(network.run(x)) - expected).max() <= 1e-6
