"""The ONNX operators by which exporters rearrange weights and compute shapes, on constants.

`FOLDED` maps the type of an operator to a function from a `Call`, all of whose inputs are
constants, to its output.  The operators are defined at https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from golden.model import ModelError
from golden.onnx_axes import normal_axes
from golden.onnx_call import Call

__all__ = ["FOLDED", "tensor_array"]

Array = NDArray[Any]

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
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # of several types, by what is wrong
        raise ModelError(f"tensor '{tensor.name}' cannot be decoded") from error
    return array.astype(np.float32) if tensor.data_type == TensorProto.BFLOAT16 else array


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
    array = _given(call, 0)
    return array.take(_given(call, 1), axis=_axis(call, array.ndim, 0))


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
    return np.concatenate(arrays, axis=_axis(call, arrays[0].ndim))


def _shape(call: Call) -> Array:
    shape = _given(call, 0).shape
    start = call.attribute("start", AttributeProto.INT, 0)
    end = call.attribute("end", AttributeProto.INT, len(shape))
    return np.array(shape[start:end], dtype=np.int64)


_OPERATORS: dict[str, Callable[[Call], Array]] = {
    "Add": lambda call: np.asarray(_given(call, 0) + _given(call, 1)),
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Gather": _gather,
    "Identity": lambda call: _given(call, 0),
    "Mul": lambda call: np.asarray(_given(call, 0) * _given(call, 1)),
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": lambda call: np.asarray(_given(call, 0) - _given(call, 1)),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def _guarded(function: Callable[[Call], Array]) -> Callable[[Call], Array]:
    def fold(call: Call) -> Array:
        try:
            return function(call)
        except ModelError:
            raise
        except (IndexError, TypeError, ValueError) as error:
            raise ModelError("the operator does not fit its constant inputs") from error

    return fold


FOLDED = {name: _guarded(function) for name, function in _OPERATORS.items()}
"""The operators that are computed outright where all their inputs are constants."""
