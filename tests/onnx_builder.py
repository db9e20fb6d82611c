"""ONNX models of LSTM networks, built node by node for the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from golden.lstm import LSTM
from golden.model import ModelError
from golden.onnx_file import load

Array = NDArray[Any]


class Cell(NamedTuple):
    """The weights of an LSTM as ONNX wants them, float32: w, r and b with a leading axis of 1."""

    w: Array
    r: Array
    b: Array

    def layer(self) -> LSTM:
        """The same weights in the golden model's form, gate by gate."""
        i, o, f, c = (k for k in range(4))
        hidden = self.r.shape[2]

        def rows(array: Array) -> Array:
            return np.concatenate([array[k * hidden : (k + 1) * hidden] for k in (i, f, c, o)])

        wb, rb = np.split(self.b[0].astype(np.float64), 2)
        return LSTM(w_x=rows(self.w[0]), w_h=rows(self.r[0]), bias=rows(wb) + rows(rb))


def cell(rng: np.random.Generator, inputs: int, hidden: int) -> Cell:
    """Random weights, all different, small enough for the gates not to saturate."""
    scale = 1.0 / np.sqrt(hidden + inputs)
    w = rng.uniform(-scale, scale, (1, 4 * hidden, inputs))
    r = rng.uniform(-scale, scale, (1, 4 * hidden, hidden))
    b = rng.uniform(-0.5, 0.5, (1, 8 * hidden))
    return Cell(*(array.astype(np.float32) for array in (w, r, b)))


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """A node named after its operator and first output."""
    name = f"{kind}_{outputs[0]}"
    domain = attributes.pop("domain", "")
    return helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes)


def save(
    path: Path,
    nodes: Sequence[Any],
    arrays: Mapping[str, Array],
    *,
    x: Sequence[int | str] = ("batch", "time", 3),
    y: Sequence[int | str] | None = None,
    others: Sequence[str] = (),
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    x_type: int = TensorProto.FLOAT,
    y_type: int = TensorProto.FLOAT,
) -> Path:
    """Write a model with the input x, of shape `x`, and the output y."""
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info("x", x_type, list(x))]
        + [
            helper.make_tensor_value_info(n, TensorProto.INT32, ["batch"])
            if n == "lengths"
            else helper.make_tensor_value_info(n, TensorProto.FLOAT, None)
            for n in others
        ],
        [helper.make_tensor_value_info(n, y_type, None if y is None else list(y)) for n in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def runtime(path: Path, x: Array) -> Array:
    """What ONNX Runtime makes of x, in float32."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, {"x": x.astype(np.float32)})
    return np.asarray(result)


def lstm_arrays(cell: Cell, prefix: str = "") -> dict[str, Array]:
    """The initializers of an LSTM node."""
    return {f"{prefix}w": cell.w, f"{prefix}r": cell.r, f"{prefix}b": cell.b}


def results(path: Path, **feeds: Array) -> list[Array]:
    """All outputs that ONNX Runtime gives for these inputs, taken as they are."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(result) for result in session.run(None, feeds)]


def refusal(path: Path) -> str:
    """The one sentence with which a file is refused, without the file's name."""
    with pytest.raises(ModelError) as info:
        load(path)
    text = str(info.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    return text.removeprefix(f"{path}: ")
