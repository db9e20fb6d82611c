"""The ONNX operators that may touch an LSTM network's data, by what they do to its axes.

`OPERATORS` maps the type of an operator to a function from a `Call` to the values of its outputs.
The functions raise a `ModelError` that names the rule and the value; who calls them adds the file
and the node.  The operators are defined at https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import AttributeProto, TensorProto

from golden.function import ARGMAX
from golden.model import ModelError
from golden.onnx_aside import constant_of_shape
from golden.onnx_axes import reshape, squeeze, transpose, unsqueeze
from golden.onnx_call import Call, node_text
from golden.onnx_layers import (
    FUNCTIONS,
    add,
    arg_max,
    batch_norm,
    clip,
    divide,
    gemm,
    hard_sigmoid,
    matmul,
    multiply,
    negate,
    softmax,
    subtract,
)
from golden.onnx_lstm import lstm, quantized_lstm
from golden.onnx_merge import concat, reduce_directions
from golden.onnx_parts import (
    gather,
    gather_stack,
    reshape_stack,
    single_directions,
    slice_axes,
    slice_stack,
    split,
    turn,
)
from golden.onnx_sizes import (
    concat_sizes,
    equal_sizes,
    gather_sizes,
    multiply_sizes,
    slice_sizes,
    where_sizes,
)
from golden.onnx_values import (
    Axis,
    Constant,
    Filled,
    Lengths,
    Opaque,
    Sizes,
    Stack,
    Value,
    axis_size,
    normal_axes,
)

__all__ = ["FOREIGN", "OPERATORS", "REFUSED"]

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)

QUANTIZED = "integers are supported for constant weights, not for the data"

LOOP = (
    "a loop cannot be read; it may be an LSTM that its exporter did not recognise, as with a hard "
    "sigmoid or masking of Keras through tf2onnx"
)


def _sizes(value: Value | None) -> Sizes | None:
    """A value as a scalar or vector of sizes, if it is one."""
    if isinstance(value, Sizes):
        return value
    if isinstance(value, Constant) and value.array.dtype.kind in "iu" and value.array.ndim < 2:
        items = tuple(int(item) for item in np.atleast_1d(value.array))
        return Sizes(items=items, scalar=value.array.ndim == 0)
    return None


def _identity(call: Call) -> list[Value]:
    value = call.inputs[0]
    return [value] if isinstance(value, Sizes | Stack) else [call.stream()]


def _cast(call: Call) -> list[Value]:
    kind = call.attribute("to", AttributeProto.INT)
    if isinstance(call.inputs[0], Sizes):
        # A size in another type of integer is the same; in a float it would lose its meaning.
        if kind in (TensorProto.INT32, TensorProto.INT64):
            return [call.inputs[0]]
        raise ModelError("sizes must stay integers")
    stream = call.stream()
    name = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else kind
    if stream.head and stream.head[-1].function == ARGMAX:
        if kind in (TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT):
            return [stream]
        raise ModelError(f"attribute 'to' must be INT32, INT64 or FLOAT, not {name}")
    if kind not in FLOATS:
        raise ModelError(f"attribute 'to' must be a float type, not {name}")
    call.note(f"is left out; nothing is rounded to {name}")
    return [stream]


def _dropout(call: Call) -> list[Value]:
    mode = call.constant(2, "'training_mode'")
    if mode is not None and np.any(mode):
        raise ModelError("'training_mode' must be false, not true")
    call.note("is left out, as it is once training is over")
    return [call.stream(), Opaque(what="the mask of a dropout")]


def _equal(call: Call) -> list[Value]:
    left, right = _sizes(call.input(0)), _sizes(call.input(1))
    if left is None or right is None:
        raise ModelError("the operator is not supported")
    return [Constant(array=equal_sizes(left, right))]


def _where(call: Call) -> list[Value]:
    left, right = _sizes(call.input(1)), _sizes(call.input(2))
    if left is None or right is None:
        raise ModelError("the operator is not supported")
    condition = call.constant(0, "the condition")
    if condition is None:
        raise ModelError("the condition must be given")
    return [where_sizes(condition, left, right)]


def _shape(call: Call) -> list[Value]:
    if isinstance(call.inputs[0], Sizes) and not call.inputs[0].scalar:
        return [Sizes(items=(len(call.inputs[0].items),))]
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
        count = len(call.inputs[0].items)
        if target.items in ((-1,), (count,)):
            return [replace(call.inputs[0], scalar=False)]
        if count != 1 or target.items:
            raise ModelError("sizes to be reshaped must be one")
        return [replace(call.inputs[0], scalar=True)]
    if isinstance(call.inputs[0], Stack):
        return [reshape_stack(call.inputs[0], target.items)]
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
        return [gather_stack(source, axis, index)]
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
    if isinstance(call.inputs[0], Stack):
        if not len(starts) == len(ends) == 1:
            raise ModelError("final states must be cut apart layer by layer")
        axis = axes[0] if axes else 0
        return [slice_stack(call.inputs[0], axis, starts[0], ends[0], steps[0] if steps else 1)]
    return [slice_axes(call.stream(), starts, ends, axes, steps)]


def _concat(call: Call) -> list[Value]:
    sizes = [part for part in map(_sizes, call.inputs) if part is not None]
    if len(sizes) == len(call.inputs):
        return [concat_sizes(sizes)]
    given = [
        item
        for index, value in enumerate(call.inputs)
        for item in (value.items if isinstance(value, Stack) else [call.stream(index)])
    ]
    (axis,) = normal_axes([call.attribute("axis", AttributeProto.INT, 0)], len(given[0].axes))
    if any(isinstance(value, Stack) and value.axis != axis for value in call.inputs):
        raise ModelError("final states must be concatenated along one axis")
    if len(given) == 1:
        return [given[0]]
    single = [
        one
        for item in given
        for one in (single_directions(item, axis) if len(item.axes) > axis else [item])
    ]
    return [concat(single, axis)]


def _mul(call: Call) -> list[Value]:
    left, right = _sizes(call.input(0)), _sizes(call.input(1))
    if left is None or right is None:
        return multiply(call)
    return [multiply_sizes(left, right)]


def _split(call: Call) -> list[Value]:
    axis = call.attribute("axis", AttributeProto.INT, 0)
    sizes, count = call.integers("split", 1), len(call.node.output)
    source = call.inputs[0]
    if isinstance(source, Stack):
        parts = [1] * count if sizes is None else sizes
        if sum(parts) != len(source.items) or min(parts) < 1:
            raise ModelError(f"{len(source.items)} final states cannot be split into {parts[:8]}")
        ends = np.cumsum(parts).tolist()
        return [
            slice_stack(source, axis, end - part, end, 1)
            for part, end in zip(parts, ends, strict=True)
        ]
    unused = Opaque(what=f"a part of what the {node_text(call.node)} gives")
    return [part or unused for part in split(call.stream(), axis, sizes, count)]


def _flatten(call: Call) -> list[Value]:
    stream = call.stream()
    at = call.attribute("axis", AttributeProto.INT, 1)
    rank = len(stream.axes)
    if not -rank <= at <= rank:
        raise ModelError(f"axis must be in {-rank} .. {rank}, not {at}")
    at = at + rank if at < 0 else at
    groups = stream.axes[:at], stream.axes[at:]
    axes = tuple(tuple(atom for axis in group for atom in axis) for group in groups)
    return [replace(stream, axes=axes)]


def _reduce(merge: str) -> Callable[[Call], list[Value]]:
    def apply(call: Call) -> list[Value]:
        axes, keep = call.reduction()
        source = call.inputs[0]
        if axes == []:
            return [source if isinstance(source, Sizes) else call.stream()]
        if isinstance(source, Sizes) and merge == "mul" and axes in (None, [0], [-1]):
            result = Sizes(items=(1,), scalar=not keep)
            for item in source.items:
                result = multiply_sizes(result, Sizes(items=(item,), scalar=not keep))
            return [result]
        stream = call.stream()
        if axes is None:
            axes = list(range(len(stream.axes)))
        return [reduce_directions(stream, normal_axes(axes, len(stream.axes)), keep, merge)]

    return apply


def _reverse_sequence(call: Call) -> list[Value]:
    stream = call.stream()
    time = call.attribute("time_axis", AttributeProto.INT, 0)
    batch = call.attribute("batch_axis", AttributeProto.INT, 1)
    if len(stream.axes) < 2 or {time, batch} != {0, 1}:
        raise ModelError(f"time_axis and batch_axis must be 0 and 1, not {time} and {batch}")
    axis, value = stream.axes[time], call.input(1)
    if isinstance(value, Lengths):
        return [turn(stream, axis, value.name)]
    size = axis_size(axis)
    full = isinstance(value, Filled) and value.item in (axis, size)
    if isinstance(value, Constant) and value.array.dtype.kind in "iu":
        full = size is not None and bool(np.all(value.array == size))
    if isinstance(value, Sizes):
        full = all(item in (axis, size) for item in value.items)
    if not full:
        raise ModelError("sequence_lens must be an input of the model or all steps of the data")
    return [turn(stream, axis, None)]


def _refused(sentence: str) -> Callable[[Call], list[Value]]:
    def refuse(call: Call) -> list[Value]:
        raise ModelError(sentence)

    return refuse


OPERATORS: dict[str, Callable[[Call], list[Value]]] = {
    **FUNCTIONS,
    "Add": add,
    "ArgMax": arg_max,
    "BatchNormalization": batch_norm,
    "Cast": _cast,
    "Clip": clip,
    "Concat": _concat,
    "ConstantOfShape": constant_of_shape,
    "DequantizeLinear": _refused(QUANTIZED),
    "Div": divide,
    "Dropout": _dropout,
    "Equal": _equal,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": gemm,
    "HardSigmoid": hard_sigmoid,
    "Identity": _identity,
    "LSTM": lstm,
    "LogSoftmax": _refused("it is not supported; a model that ends in Softmax or before it is"),
    "MatMul": matmul,
    "Mul": _mul,
    "Neg": negate,
    "QuantizeLinear": _refused(QUANTIZED),
    "ReduceMean": _reduce("ave"),
    "ReduceProd": _reduce("mul"),
    "ReduceSum": _reduce("sum"),
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Slice": _slice,
    "Softmax": softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": subtract,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""By the operator; of the default domain."""

FOREIGN: dict[tuple[str, str], Callable[[Call], list[Value]]] = {
    ("com.microsoft", "DynamicQuantizeLSTM"): quantized_lstm,
}
"""By the domain and the operator."""

REFUSED = {
    "If": "a choice at run time cannot be read",
    "Loop": LOOP,
    "Scan": LOOP,
}
"""Operators that hold graphs of their own, and why they are not supported."""
