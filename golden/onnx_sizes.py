"""The ONNX operators on tensors of sizes, by which exporters compute shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from golden.model import ModelError
from golden.onnx_values import Axis, Sizes

__all__ = [
    "concat_sizes",
    "equal_sizes",
    "gather_sizes",
    "multiply_sizes",
    "slice_sizes",
    "where_sizes",
]


def gather_sizes(sizes: Sizes, index: NDArray[np.generic]) -> Sizes:
    """ONNX ``Gather`` from a vector of sizes."""
    if sizes.scalar or index.dtype.kind not in "iu" or index.ndim > 1:
        raise ModelError("sizes must be gathered from a vector, by one index or a vector of them")
    wanted = [int(k) for k in np.atleast_1d(index)]
    count = len(sizes.items)
    for k in wanted:
        if not -count <= k < count:
            raise ModelError(f"the index must be in {-count} .. {count - 1}, not {k}")
    return Sizes(items=tuple(sizes.items[k] for k in wanted), scalar=index.ndim == 0)


def slice_sizes(sizes: Sizes, start: int, end: int, step: int) -> Sizes:
    """ONNX ``Slice`` of a vector of sizes, which clamps as Python does."""
    if sizes.scalar or step < 1:
        raise ModelError(f"a slice of sizes must have a step of at least 1, not {step}")
    return Sizes(items=sizes.items[start:end:step])


def concat_sizes(parts: Sequence[Sizes]) -> Sizes:
    """ONNX ``Concat`` of vectors of sizes."""
    if any(part.scalar for part in parts):
        raise ModelError("sizes to be concatenated must be vectors, not scalars")
    return Sizes(items=tuple(item for part in parts for item in part.items))


def multiply_sizes(left: Sizes, right: Sizes) -> Sizes:
    """ONNX ``Mul`` of sizes, element by element: the size of several axes merged into one."""
    if len(left.items) != len(right.items):
        raise ModelError("sizes to be multiplied must be equally many")
    items: list[int | Axis] = []
    for one, other in zip(left.items, right.items, strict=True):
        if isinstance(one, int) and isinstance(other, int):
            items.append(one * other)
        elif one == 1 or other == 1:
            items.append(other if one == 1 else one)
        elif isinstance(one, tuple) and isinstance(other, tuple):
            items.append(one + other)
        else:
            raise ModelError("sizes of axes can be multiplied with each other only")
    return Sizes(items=tuple(items), scalar=left.scalar and right.scalar)


def equal_sizes(left: Sizes, right: Sizes) -> NDArray[np.bool_]:
    """ONNX ``Equal``, with which exporters look for a -1 among sizes."""
    if len(left.items) != len(right.items):
        raise ModelError("sizes to be compared must be equally many")
    found = []
    for one, other in zip(left.items, right.items, strict=True):
        numbers = [item for item in (one, other) if isinstance(item, int)]
        # An axis whose size is not known has at least one element.
        if one != other and len(numbers) < 2 and (not numbers or numbers[0] > 0):
            raise ModelError("sizes of axes can be compared with numbers below 1 only")
        found.append(one == other)
    return np.array(found[0] if left.scalar and right.scalar else found)


def where_sizes(condition: NDArray[np.generic], left: Sizes, right: Sizes) -> Sizes:
    """ONNX ``Where``, one by one."""
    count = len(left.items)
    if condition.dtype.kind != "b" or condition.ndim > 1 or condition.size != count:
        raise ModelError("the condition must be one truth value for each size")
    if len(right.items) != count:
        raise ModelError("sizes to be chosen from must be equally many")
    chosen = zip(condition.reshape(-1), left.items, right.items, strict=True)
    return Sizes(
        items=tuple(a if which else b for which, a, b in chosen),
        scalar=left.scalar and right.scalar,
    )
