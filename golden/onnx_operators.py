"""The ONNX operators that may touch an LSTM network's data, by what they do to its axes.

`OPERATORS` maps the type of an operator to a function from a `Call` to the values of its outputs.
The functions raise a `ModelError` that names the rule and the value; who calls them adds the file
and the node.  The operators are defined at https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import AttributeProto, TensorProto, numpy_helper

from golden.model import ModelError
from golden.onnx_axes import (
    Axis,
    Constant,
    Sizes,
    Stack,
    Value,
    Zeros,
    concat_sizes,
    gather,
    gather_sizes,
    multiply_sizes,
    normal_axes,
    reshape,
    slice_axes,
    slice_sizes,
    squeeze,
    transpose,
    unsqueeze,
)
from golden.onnx_call import Call
from golden.onnx_layers import add, gemm, lstm, matmul

__all__ = ["OPERATORS"]


def _sizes(value: Value | None) -> Sizes | None:
    """A value as a scalar or vector of sizes, if it is one."""
    if isinstance(value, Sizes):
        return value
    if isinstance(value, Constant) and value.array.dtype.kind in "iu" and value.array.ndim < 2:
        items = tuple(int(item) for item in np.atleast_1d(value.array))
        return Sizes(items=items, scalar=value.array.ndim == 0)
    return None


def _identity(call: Call) -> list[Value]:
    return [call.inputs[0]] if isinstance(call.inputs[0], Sizes) else [call.stream()]


def _cast(call: Call) -> list[Value]:
    kind = call.attribute("to", AttributeProto.INT)
    if isinstance(call.inputs[0], Sizes):
        # A size in another type of integer is the same; in a float it would lose its meaning.
        if kind in (TensorProto.INT32, TensorProto.INT64):
            return [call.inputs[0]]
        raise ModelError("sizes must stay integers")
    if kind not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        name = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else kind
        raise ModelError(f"attribute 'to' must be FLOAT or DOUBLE, not {name}")
    return [call.stream()]


def _dropout(call: Call) -> list[Value]:
    mode = call.constant(2, "'training_mode'")
    if mode is not None and np.any(mode):
        raise ModelError("'training_mode' must be false, not true")
    return [call.stream()]


def _shape(call: Call) -> list[Value]:
    axes = call.stream().axes
    start = call.attribute("start", AttributeProto.INT, 0)
    end = call.attribute("end", AttributeProto.INT, len(axes))
    items: list[int | Axis] = []
    for axis in axes[start:end]:
        known = 1
        for atom in axis:
            known *= atom.size or 0
        items.append(known or axis)
    return [Sizes(items=tuple(items))]


def _transpose(call: Call) -> list[Value]:
    return [transpose(call.stream(), call.attribute("perm", AttributeProto.INTS))]


def _squeeze(call: Call) -> list[Value]:
    axes = call.integers("axes", 1)
    if isinstance(call.inputs[0], Sizes):
        if len(call.inputs[0].items) != 1:
            raise ModelError("sizes to be squeezed must be one")
        return [replace(call.inputs[0], scalar=True)]
    return [squeeze(call.stream(), axes)]


def _unsqueeze(call: Call) -> list[Value]:
    axes = call.integers("axes", 1)
    if axes is None:
        raise ModelError("'axes' must be given")
    if isinstance(call.inputs[0], Sizes):
        if not call.inputs[0].scalar or axes not in ([0], [-1]):
            raise ModelError("sizes to be unsqueezed must be a scalar")
        return [replace(call.inputs[0], scalar=False)]
    return [unsqueeze(call.stream(), axes)]


def _reshape(call: Call) -> list[Value]:
    target = _sizes(call.input(1))
    if target is None or target.scalar:
        why = "" if call.input(1) is None else f", not '{call.name(1)}'"
        raise ModelError(f"the shape must be a vector of known sizes{why}")
    if isinstance(call.inputs[0], Sizes):
        if len(call.inputs[0].items) != 1 or target.items not in ((1,), (-1,), ()):
            raise ModelError("sizes to be reshaped must be one")
        return [replace(call.inputs[0], scalar=not target.items)]
    keep = bool(call.attribute("allowzero", AttributeProto.INT, 0))
    return [reshape(call.stream(), target.items, keep)]


def _gather(call: Call) -> list[Value]:
    source = call.inputs[0]
    axis = call.attribute("axis", AttributeProto.INT, 0)
    index = call.constant(1, "the index")
    if index is None:
        raise ModelError("the index must be given")
    if isinstance(source, Sizes):
        return [gather_sizes(source, index)]
    if isinstance(source, Stack):
        count = len(source.items)
        if normal_axes([axis], len(source.items[0].axes)) != [source.axis] or index.size != 1:
            raise ModelError("one layer's final state must be picked at a time")
        layer = int(index.reshape(()))
        if not -count <= layer < count:
            raise ModelError(f"the index must be in {-count} .. {count - 1}, not {layer}")
        return [gather(source.items[layer], axis, np.zeros_like(index))]
    return [gather(call.stream(), axis, index)]


def _slice(call: Call) -> list[Value]:
    starts, ends = call.integers("starts", 1), call.integers("ends", 2)
    axes, steps = call.integers("axes", 3), call.integers("steps", 4)
    if starts is None or ends is None:
        raise ModelError("'starts' and 'ends' must be given")
    if isinstance(call.inputs[0], Sizes):
        if len(starts) != 1 or len(ends) != 1 or axes not in (None, [0], [-1]):
            raise ModelError("sizes must be sliced along their only axis")
        return [slice_sizes(call.inputs[0], starts[0], ends[0], steps[0] if steps else 1)]
    return [slice_axes(call.stream(), starts, ends, axes, steps)]


def _concat(call: Call) -> list[Value]:
    sizes = [part for part in map(_sizes, call.inputs) if part is not None]
    if len(sizes) == len(call.inputs):
        return [concat_sizes(sizes)]
    streams = [call.stream(index) for index in range(len(call.inputs))]
    rank = len(streams[0].axes)
    (axis,) = normal_axes([call.attribute("axis", AttributeProto.INT, 0)], rank)
    if len(streams) == 1:
        return [streams[0]]
    # PyTorch stacks the final states of all layers along an axis of their own; other
    # concatenations mix features.
    if any(len(s.axes) != rank or s.axes[axis] or not s.last or s.head for s in streams):
        raise ModelError("only the final states of LSTM layers can be concatenated")
    return [Stack(items=tuple(streams), axis=axis)]


def _mul(call: Call) -> list[Value]:
    left, right = _sizes(call.input(0)), _sizes(call.input(1))
    if left is None or right is None:
        raise ModelError("the operator is not supported")
    return [multiply_sizes(left, right)]


def _constant_of_shape(call: Call) -> list[Value]:
    value = call.attribute("value", AttributeProto.TENSOR)
    if value is not None and (
        value.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
        or np.any(numpy_helper.to_array(value))
    ):
        raise ModelError("'value' must be a zero of a float type")
    return [Zeros()]


OPERATORS: dict[str, Callable[[Call], list[Value]]] = {
    "Add": add,
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": _dropout,
    "Gather": _gather,
    "Gemm": gemm,
    "Identity": _identity,
    "LSTM": lstm,
    "MatMul": matmul,
    "Mul": _mul,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
