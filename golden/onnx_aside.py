"""What ONNX graphs compute beside the data: initial states, lengths, shapes.

What is not understood here matters only if the data depends on it, and is refused then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto

from golden.model import ModelError
from golden.onnx_call import Call, node_text
from golden.onnx_constants import FOLDED, tensor_array
from golden.onnx_values import (
    MAX_AXES,
    Constant,
    Expanded,
    Filled,
    Lengths,
    Opaque,
    Setting,
    Shape,
    Sizes,
    Value,
    normal_axes,
)

__all__ = ["aside", "constant_of_shape", "unknown"]

MOVING = ("Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that take elements of their first input and compute nothing."""

LENGTHS_KEPT = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def _number(array: NDArray[Any]) -> float | None:
    """The number of which a float tensor has nothing else."""
    if array.dtype.kind == "f" and array.size and np.all(array == array.flat[0]):
        return float(array.flat[0])
    return None


def _filled(value: Value | None) -> Filled | None:
    if isinstance(value, Filled):
        return value
    if isinstance(value, Constant):
        number = _number(value.array)
        return None if number is None else Filled(item=number, shape=value.array.shape)
    return None


def constant_of_shape(call: Call) -> list[Value]:
    """ONNX ``ConstantOfShape``, of a shape that the input decides."""
    value = call.attribute("value", AttributeProto.TENSOR)
    if value is None:
        return [Filled(item=0.0)]
    number = _number(tensor_array(value)) if value.data_type in FLOATS else None
    if number is None:
        raise ModelError("'value' must be one number of a float type")
    return [Filled(item=number, shape=_items(call.input(0)))]


def _items(value: Value | None) -> Shape:
    """The shape that a tensor of sizes gives."""
    if isinstance(value, Sizes) and not value.scalar:
        return value.items
    if isinstance(value, Constant) and value.array.dtype.kind in "iu" and value.array.ndim == 1:
        return tuple(int(item) for item in value.array[: MAX_AXES + 1])
    return None


def _repeated_shape(call: Call, shape: Shape) -> Shape:
    """What ``Expand`` and ``Tile`` make of a shape."""
    counts = _items(call.input(1))
    if shape is None or counts is None:
        return None
    rank = max(len(shape), len(counts))
    ones: tuple[int, ...] = (1,)
    old, new = ones * (rank - len(shape)) + shape, ones * (rank - len(counts)) + counts
    pairs = zip(old, new, strict=True)
    if call.node.op_type == "Tile":
        return tuple(b if a == 1 else a if b == 1 else None for a, b in pairs)
    return tuple(a if b == 1 else b for a, b in pairs)


def _moved_shape(call: Call, shape: Shape) -> Shape:
    """What the operators that compute nothing make of a shape, where that is easily told."""
    if shape is None:
        return None
    kind, rank = call.node.op_type, len(shape)
    try:
        match kind:
            case "Identity" | "Cast":
                return shape
            case "Slice" | "Split":
                axes = call.integers("axes", 3) if kind == "Slice" else None
                if kind == "Split":
                    axes = [call.attribute("axis", AttributeProto.INT, 0)]
                cut = range(rank) if axes is None else normal_axes(axes, rank)
                return tuple(None if k in cut else size for k, size in enumerate(shape))
            case "Gather":
                at = normal_axes([call.attribute("axis", AttributeProto.INT, 0)], rank)[0]
                index = call.constant(1, "the index")
                left = (None,) * (1 if index is None else index.ndim)
                return (*shape[:at], *left, *shape[at + 1 :])
            case "Unsqueeze":
                given = call.integers("axes", 1) or []
                new = normal_axes(given, rank + len(given))
                old = iter(shape)
                return tuple(1 if k in new else next(old) for k in range(rank + len(given)))
            case "Squeeze":
                dropped = normal_axes(call.integers("axes", 1) or range(rank), rank)
                return tuple(size for k, size in enumerate(shape) if k not in dropped)
    except ModelError:
        pass
    return None


def _repeated(call: Call, first: Value) -> Value | None:
    """ONNX ``Expand`` and ``Tile``, as often as the input calls for."""
    filled = _filled(first)
    if filled is not None:
        return replace(filled, shape=_repeated_shape(call, filled.shape))
    if isinstance(first, Constant | Expanded) and first.array.dtype.kind == "f":
        return Expanded(array=first.array)
    if isinstance(first, Constant) and first.array.dtype.kind in "iu" and first.array.size == 1:
        return Filled(item=float(first.array.reshape(())))
    if isinstance(first, Sizes) and len(first.items) == 1:
        item = first.items[0]
        return Filled(item=float(item) if isinstance(item, int) else item)
    return None


def _concatenated_shape(call: Call, parts: list[Filled | None]) -> Shape:
    """The shape of the first, of which only the axis along which others follow is not known."""
    shape = parts[0].shape if parts[0] is not None else None
    if shape is None:
        return None
    axis = call.attribute("axis", AttributeProto.INT, 0)
    (at,) = normal_axes([axis], len(shape))
    return tuple(None if k == at else size for k, size in enumerate(shape))


def _only_ones(call: Call) -> bool:
    """Whether a constant is repeated along its axes of size 1 only."""
    first, counts = call.input(0), call.input(1)
    return (
        isinstance(first, Constant | Expanded)
        and isinstance(counts, Sizes)
        and len(counts.items) == first.array.ndim
        and all(
            size == 1 or item == 1
            for size, item in zip(first.array.shape, counts.items, strict=True)
        )
    )


def aside(call: Call) -> list[Value] | None:
    """The values of a node that no part of the data goes into; None if it is of no such kind."""
    kind, first = call.node.op_type, call.input(0)
    present = [value for value in call.inputs if value is not None]
    for value in present:
        if isinstance(value, Opaque):
            return [value] * len(call.node.output)
    if isinstance(first, Lengths) and kind in LENGTHS_KEPT:
        return [first]
    if isinstance(first, Filled | Setting) and kind in (*MOVING, "Cast"):
        return [replace(first, shape=_moved_shape(call, first.shape))] * len(call.node.output)
    if kind == "Concat" and present:
        # Of sizes there is no such thing as a fill, so that these are states.
        parts = [_filled(value) for value in present]
        items = {part.item for part in parts if part is not None}
        if None not in parts and len(items) == 1:
            return [Filled(item=items.pop(), shape=_concatenated_shape(call, parts))]
    if kind in ("Expand", "Tile") and first is not None:
        repeated = _repeated(call, first)
        if kind == "Tile" and isinstance(repeated, Expanded) and not _only_ones(call):
            return None
        return None if repeated is None else [repeated]
    if isinstance(first, Expanded) and kind in (*MOVING, "Cast"):
        inputs: list[Value | None] = [Constant(array=first.array), *call.inputs[1:]]
        if all(isinstance(value, Constant) for value in inputs if value is not None):
            moved = FOLDED[kind](Call(call.node, inputs, call.opset, call.notes))
            return [Expanded(array=array) for array in moved]
    return None


def unknown(call: Call) -> Opaque:
    """A value of which only the node is known that computes it."""
    return Opaque(what=f"what the {node_text(call.node)} computes")
