"""The ONNX operators by which exporters rearrange weights and compute shapes, on constants.

`FOLDED` maps the type of an operator to a function from a `Call`, all of whose inputs are
constants, to its outputs.  The operators are defined at https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from golden.model import ModelError
from golden.onnx_call import Call
from golden.onnx_quantize import dequantize, quantize
from golden.onnx_values import MAX_AXES, Constant, normal_axes

__all__ = ["FOLDED", "MAX_ELEMENTS", "tensor_array"]

Array = NDArray[Any]

MAX_ELEMENTS = 2**26
"""Of a tensor that an operator computes from constants."""

NUMERIC = (
    TensorProto.FLOAT16,
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT32,
    TensorProto.INT64,
)
"""The types that weights and shapes are cast between."""


def tensor_array(tensor: TensorProto) -> Array:
    """The array of a tensor; bfloat16, which NumPy itself does not know, as float32.

    Raises
    ------
    ModelError
        If the data does not fit the type and the shape.
    """
    try:
        if min(tensor.dims, default=0) < 0:
            raise ValueError("negative size")
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # of several types, by what is wrong
        raise ModelError(f"tensor '{tensor.name}' cannot be decoded") from error
    return array.astype(np.float32) if tensor.data_type == TensorProto.BFLOAT16 else array


def _bounded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, if a tensor of it is not too large to be made."""
    if prod(shape) > MAX_ELEMENTS or len(shape) > MAX_AXES:
        raise ModelError(
            f"a constant must have at most {MAX_ELEMENTS} elements and {MAX_AXES} axes, not the "
            f"shape {list(shape[:8])}"
        )
    return shape


def _given(call: Call, index: int) -> Array:
    array = call.constant(index, f"input {index}")
    if array is None:
        raise ModelError(f"input {index} must be given")
    return array


def _axis(call: Call, rank: int, default: int | None = None) -> int:
    axis = call.attribute("axis", AttributeProto.INT, default)
    if axis is None:
        raise ModelError("attribute 'axis' must be given")
    return normal_axes([axis], rank)[0]


def _constant(call: Call) -> Array:
    for name, kind, dtype in (
        ("value_float", AttributeProto.FLOAT, np.float32),
        ("value_floats", AttributeProto.FLOATS, np.float32),
        ("value_int", AttributeProto.INT, np.int64),
        ("value_ints", AttributeProto.INTS, np.int64),
    ):
        if name in call.attributes:
            return np.array(call.attribute(name, kind), dtype=dtype)
    tensor = call.attribute("value", AttributeProto.TENSOR)
    if tensor is None:
        raise ModelError("the value must be a dense tensor or numbers")
    return tensor_array(tensor)


def _cast(call: Call) -> Array:
    kind = call.attribute("to", AttributeProto.INT)
    if kind not in NUMERIC:
        raise ModelError(f"attribute 'to' must be a type of numbers, not {kind}")
    return _given(call, 0).astype(helper.tensor_dtype_to_np_dtype(kind))


def _transpose(call: Call) -> Array:
    return _given(call, 0).transpose(call.attribute("perm", AttributeProto.INTS))


def _squeeze(call: Call) -> Array:
    axes = call.integers("axes", 1)
    return _given(call, 0).squeeze(None if axes is None else tuple(axes))


def _unsqueeze(call: Call) -> Array:
    return np.expand_dims(_given(call, 0), tuple(call.integers("axes", 1) or ()))


def _reshape(call: Call) -> Array:
    array = _given(call, 0)
    shape = [int(size) for size in _given(call, 1)]
    if not call.attribute("allowzero", AttributeProto.INT, 0):
        shape = [size or array.shape[k] for k, size in enumerate(shape)]
    return array.reshape(shape)


def _gather(call: Call) -> Array:
    array, index = _given(call, 0), _given(call, 1)
    axis = _axis(call, array.ndim, 0)
    _bounded((*array.shape[:axis], *index.shape, *array.shape[axis + 1 :]))
    return array.take(index, axis=axis)


def _slice(call: Call) -> Array:
    array = _given(call, 0)
    starts, ends = call.integers("starts", 1), call.integers("ends", 2)
    if starts is None or ends is None:
        raise ModelError("'starts' and 'ends' must be given")
    axes = normal_axes(call.integers("axes", 3) or range(len(starts)), array.ndim)
    steps = call.integers("steps", 4) or [1] * len(starts)
    cut = [slice(None)] * array.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise ModelError(f"the steps of a slice must be positive, not {step}")
        cut[axis] = slice(start, end, step)
    return array[tuple(cut)]


def _concat(call: Call) -> Array:
    arrays = [_given(call, index) for index in range(len(call.inputs))]
    _bounded((sum(array.size for array in arrays),))
    return np.concatenate(arrays, axis=_axis(call, arrays[0].ndim))


def _shape(call: Call) -> Array:
    shape = _given(call, 0).shape
    start = call.attribute("start", AttributeProto.INT, 0)
    end = call.attribute("end", AttributeProto.INT, len(shape))
    return np.array(shape[start:end], dtype=np.int64)


def _expand(call: Call) -> Array:
    array, shape = _given(call, 0), [int(size) for size in _given(call, 1)]
    return np.broadcast_to(array, _bounded(np.broadcast_shapes(array.shape, tuple(shape))))


def _tile(call: Call) -> Array:
    array, repeats = _given(call, 0), [int(count) for count in _given(call, 1)]
    if len(repeats) != array.ndim or min(repeats, default=0) < 0:
        raise ModelError(f"the repeats must be {array.ndim} counts")
    _bounded(tuple(size * count for size, count in zip(array.shape, repeats, strict=True)))
    return np.tile(array, repeats)


def _constant_of_shape(call: Call) -> Array:
    shape = tuple(int(size) for size in _given(call, 0))
    tensor = call.attribute("value", AttributeProto.TENSOR)
    value = np.zeros(1, np.float32) if tensor is None else tensor_array(tensor)
    return np.full(_bounded(shape), value.reshape(()))


def _clip(call: Call) -> Array:
    low, high = (
        call.attribute(name, AttributeProto.FLOAT) if call.opset < 11 else call.constant(k, name)
        for k, name in ((1, "min"), (2, "max"))
    )
    array = _given(call, 0)
    array = array if low is None else np.maximum(array, np.asarray(low, array.dtype))
    return array if high is None else np.minimum(array, np.asarray(high, array.dtype))


def _split(call: Call) -> list[Array]:
    array = _given(call, 0)
    axis, count = _axis(call, array.ndim, 0), len(call.node.output)
    sizes = call.integers("split", 1)
    if sizes is None:
        each = -(-array.shape[axis] // count)
        return np.split(array, [each * k for k in range(1, count)], axis=axis)
    if len(sizes) != count or sum(sizes) != array.shape[axis] or min(sizes) < 0:
        raise ModelError(f"{array.shape[axis]} elements cannot be split into {sizes[:8]}")
    return np.split(array, np.cumsum(sizes)[:-1], axis=axis)


def _reduced(function: Callable[..., Any]) -> Callable[[Call], Array]:
    """An operator over some axes, or all of them."""

    def apply(call: Call) -> Array:
        array = _given(call, 0)
        axes, keep = call.reduction()
        if axes == []:
            return array
        over = tuple(normal_axes(range(array.ndim) if axes is None else axes, array.ndim))
        return np.asarray(function(array, axis=over, keepdims=keep), dtype=array.dtype)

    return apply


def _divided(one: Array, other: Array) -> Array:
    if one.dtype.kind in "iu":
        if not np.all(other):
            raise ModelError("division by 0")
        return np.asarray(np.fix(one / other), dtype=one.dtype)
    return np.asarray(one / other)


def _pairwise(function: Callable[[Any, Any], Any]) -> Callable[[Call], Array]:
    """An operator on two tensors of one type, broadcast."""

    def apply(call: Call) -> Array:
        if len(call.inputs) != 2:
            raise ModelError(f"there must be 2 inputs, not {len(call.inputs)}")
        one, other = _given(call, 0), _given(call, 1)
        _bounded(np.broadcast_shapes(one.shape, other.shape))
        return np.asarray(function(one, other))

    return apply


def _single(function: Callable[[Any], Any]) -> Callable[[Call], Array]:
    """An operator on one float tensor, which keeps its type."""

    def apply(call: Call) -> Array:
        array = _given(call, 0)
        return np.asarray(function(array)).astype(array.dtype)

    return apply


_OPERATORS: dict[str, Callable[[Call], Array | list[Array]]] = {
    "Abs": _single(np.abs),
    "Add": _pairwise(np.add),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DequantizeLinear": dequantize,
    "Div": _pairwise(_divided),
    "Expand": _expand,
    "Gather": _gather,
    "Identity": lambda call: _given(call, 0),
    "Max": _pairwise(np.maximum),
    "Min": _pairwise(np.minimum),
    "Mul": _pairwise(np.multiply),
    "Neg": _single(np.negative),
    "QuantizeLinear": quantize,
    "Reciprocal": _single(np.reciprocal),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _single(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _pairwise(np.subtract),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def _guarded(
    function: Callable[[Call], Array | list[Array]],
) -> Callable[[Call], list[Array]]:
    def fold(call: Call) -> list[Array]:
        try:
            with np.errstate(all="ignore"):
                result = function(call)
        except ModelError:
            raise
        except (IndexError, MemoryError, OverflowError, TypeError, ValueError) as error:
            arrays = [value.array for value in call.inputs[:8] if isinstance(value, Constant)]
            shapes = ", ".join(str(list(array.shape)) for array in arrays)
            raise ModelError(
                f"the operator cannot be applied to its constant inputs, of the shapes {shapes}"
            ) from error
        return result if isinstance(result, list) else [result]

    return fold


FOLDED = {name: _guarded(function) for name, function in _OPERATORS.items()}
"""The operators that are computed outright where all their inputs are constants."""
