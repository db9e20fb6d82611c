"""Which axis of an ONNX tensor is which, followed from operator to operator.

Exporters wrap an LSTM in transposes, reshapes and gathers, and compute the shapes for those as
tensors too.  To know what such a graph means, every tensor on the way from the input to the output
is represented by its axes (`Stream`), and a tensor that holds sizes by the axes whose sizes they
are (`Sizes`).  An axis is a product of `Atom`, so that merging axes and splitting them again can be
followed; an axis of size 1 is the empty product.

The functions here implement the operators that only move axes about; each refuses, with a
`ModelError` that names neither file nor node, whatever it cannot follow with certainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from golden.lstm import LSTM
from golden.model import Dense, ModelError

__all__ = [
    "Atom",
    "Axis",
    "Constant",
    "Opaque",
    "Sizes",
    "Stack",
    "Stream",
    "Value",
    "Zeros",
    "axis_text",
    "axes_text",
    "concat_sizes",
    "gather",
    "gather_sizes",
    "multiply_sizes",
    "normal_axes",
    "reshape",
    "slice_axes",
    "slice_sizes",
    "squeeze",
    "transpose",
    "unsqueeze",
]

END = 2**31 - 1
"""Exporters write the end of an axis of unknown size as the largest 32 or 64 bit integer."""


@dataclass(frozen=True, eq=False)
class Atom:
    """An axis of the input, or one that an operator made; equal to itself only.

    Parameters
    ----------
    name : str
        For messages.
    size : int or None
        Above 1; None where it is known at run time only.
    """

    name: str
    size: int | None


Axis = tuple[Atom, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """A tensor on the way from the model's input to its output.

    Parameters
    ----------
    axes : tuple of Axis
        What each axis of the tensor is.
    layers : tuple of LSTM
        The layers passed so far; empty for the input.
    head : tuple of Dense
        The dense layers passed so far.
    open : bool
        Whether the dense layer has no bias yet.
    time, batch, features : Axis
        The roles of the axes, known from the first LSTM on.
    last : bool
        Whether only the last step is left.
    """

    axes: tuple[Axis, ...]
    layers: tuple[LSTM, ...] = ()
    head: tuple[Dense, ...] = ()
    open: bool = False
    time: Axis = ()
    batch: Axis = ()
    features: Axis = ()
    last: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant:
    """A tensor that the file itself determines."""

    array: NDArray[np.generic]


@dataclass(frozen=True, kw_only=True, eq=False)
class Zeros:
    """A tensor of zeros, of a shape that may depend on the input's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sizes:
    """An integer scalar, or a vector of integers, of known numbers and sizes of axes."""

    items: tuple[int | Axis, ...]
    scalar: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Several tensors, each of size 1 along `axis`, one after another along it."""

    items: tuple[Stream, ...]
    axis: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Opaque:
    """Something not followed, and refused only if the result turns out to depend on it."""

    what: str


Value = Stream | Constant | Zeros | Sizes | Stack | Opaque


def axis_text(axis: Axis) -> str:
    """An axis in words."""
    return " * ".join(atom.name for atom in axis) if axis else "1"


def axes_text(axes: Sequence[int | Axis]) -> str:
    """A shape in words."""
    return "[" + ", ".join(str(a) if isinstance(a, int) else axis_text(a) for a in axes) + "]"


def normal_axes(axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the start, where negative ones count from the end of `rank`.

    Raises
    ------
    ModelError
        If one is out of range or given twice.
    """
    normal = []
    for axis in axes:
        if not -rank <= axis < rank:
            raise ModelError(f"axis must be in {-rank} .. {rank - 1}, not {axis}")
        normal.append(axis % rank)
    if len(set(normal)) != len(normal):
        raise ModelError(f"axes must differ, not be {list(axes)}")
    return normal


def transpose(stream: Stream, perm: Sequence[int] | None) -> Stream:
    """ONNX ``Transpose``; without `perm` the axes are reversed."""
    rank = len(stream.axes)
    order = list(range(rank))[::-1] if perm is None else normal_axes(perm, rank)
    if len(order) != rank:
        raise ModelError(f"perm must list {rank} axes, not be {order}")
    return replace(stream, axes=tuple(stream.axes[axis] for axis in order))


def squeeze(stream: Stream, axes: Sequence[int] | None) -> Stream:
    """ONNX ``Squeeze``; without `axes`, every axis known to be of size 1 goes."""
    if axes is None:
        return replace(stream, axes=tuple(axis for axis in stream.axes if axis))
    drop = normal_axes(axes, len(stream.axes))
    for index in drop:
        if stream.axes[index]:
            raise ModelError(
                f"an axis to be removed must have size 1, but axis {index} is "
                f"{axis_text(stream.axes[index])}"
            )
    return replace(stream, axes=tuple(a for k, a in enumerate(stream.axes) if k not in drop))


def unsqueeze(stream: Stream, axes: Sequence[int]) -> Stream:
    """ONNX ``Unsqueeze``: `axes` are positions in the result."""
    rank = len(stream.axes) + len(axes)
    new = normal_axes(axes, rank)
    old = iter(stream.axes)
    return replace(stream, axes=tuple(() if k in new else next(old) for k in range(rank)))


def _take(atoms: list[Atom], item: int | Axis, front: bool) -> Axis | None:
    """Remove from one end of `atoms` the axis that `item` calls for; None if it is not there."""
    if isinstance(item, int):
        count, size = 0, 1
        while size < item:
            at = count if front else len(atoms) - 1 - count
            step = atoms[at].size if 0 <= at < len(atoms) else None
            if step is None:
                return None
            size *= step
            count += 1
        if size != item:
            return None
    else:
        count = len(item)
    taken = tuple(atoms[:count] if front else atoms[len(atoms) - count :])
    if not isinstance(item, int) and taken != item:
        return None
    del atoms[slice(0, count) if front else slice(len(atoms) - count, None)]
    return taken


def reshape(stream: Stream, target: Sequence[int | Axis], keep_zero: bool) -> Stream:
    """ONNX ``Reshape``, which may merge axes and split merged ones, but not cut through one.

    Parameters
    ----------
    stream : Stream
        The tensor.
    target : sequence of int or Axis
        The new shape; 0 copies the size of the old axis there, and a single -1 takes what is left.
    keep_zero : bool
        The attribute ``allowzero``, with which 0 would mean an empty axis.
    """
    refusal = ModelError(
        f"the shape must keep or merge axes, but goes from {axes_text(stream.axes)} to "
        f"{axes_text(target)}"
    )
    items: list[int | Axis] = []
    for k, item in enumerate(target):
        if item == 0:
            if keep_zero or k >= len(stream.axes):
                raise refusal
            items.append(stream.axes[k])
        else:
            items.append(item)
    wild = [k for k, item in enumerate(items) if item == -1]
    if len(wild) > 1 or any(isinstance(item, int) and item < -1 for item in items):
        raise refusal
    atoms = [atom for axis in stream.axes for atom in axis]
    split = wild[0] if wild else len(items)
    front = [_take(atoms, item, True) for item in items[:split]]
    back = [_take(atoms, item, False) for item in items[:split:-1]][::-1]
    found = front + ([tuple(atoms)] if wild else []) + back
    axes = tuple(axis for axis in found if axis is not None)
    if len(axes) != len(items) or (atoms and not wild):
        raise refusal
    return replace(stream, axes=axes)


def _size(axis: Axis) -> int | None:
    sizes = [atom.size for atom in axis]
    return None if None in sizes else prod(size for size in sizes if size is not None)


def _is_time(stream: Stream, axis: Axis) -> bool:
    return bool(stream.layers) and axis == stream.time and not stream.last


def gather(stream: Stream, axis: int, index: NDArray[np.generic]) -> Stream:
    """ONNX ``Gather`` of one element: of an axis of size 1, or the last step of the time axis."""
    (at,) = normal_axes([axis], len(stream.axes))
    if index.dtype.kind not in "iu" or index.size != 1 or index.ndim > 1:
        raise ModelError(f"the index must be one integer, not {index.tolist()}")
    picked = int(index.reshape(()))
    source = stream.axes[at]
    size = _size(source)
    ends = (-1,) if size is None else (-1, size - 1)
    is_last = _is_time(stream, source) and picked in ends
    if source and not is_last:
        raise ModelError(
            "only the last time step of an LSTM's output can be picked, not element "
            f"{picked} of the axis {axis_text(source)}"
        )
    if not source and picked not in (0, -1):
        raise ModelError(f"the index must be 0 or -1 on an axis of size 1, not {picked}")
    kept: tuple[Axis, ...] = () if index.ndim == 0 else ((),)
    axes = stream.axes[:at] + kept + stream.axes[at + 1 :]
    return replace(stream, axes=axes, last=stream.last or is_last)


def slice_axes(
    stream: Stream,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Stream:
    """ONNX ``Slice`` that takes the whole of an axis, or the last step of the time axis."""
    where = normal_axes(range(len(starts)) if axes is None else axes, len(stream.axes))
    strides = [1] * len(where) if steps is None else list(steps)
    if not len(starts) == len(ends) == len(where) == len(strides):
        raise ModelError(
            "starts, ends, axes and steps must be equally many, not "
            f"{len(starts)}, {len(ends)}, {len(where)} and {len(strides)}"
        )
    result = stream
    for at, start, end, stride in zip(where, starts, ends, strides, strict=True):
        source = result.axes[at]
        size = _size(source)
        to_end = end >= (END if size is None else size)
        whole = start == 0 or (size is not None and start <= -size)
        final = start == -1 or (size is not None and start == size - 1)
        if stride == 1 and to_end and whole:
            continue
        if not (stride == 1 and to_end and final and _is_time(result, source)):
            raise ModelError(
                "only the last time step of an LSTM's output can be cut out, not "
                f"{start} : {end} : {stride} of the axis {axis_text(source)}"
            )
        cut = (*result.axes[:at], (), *result.axes[at + 1 :])
        result = replace(result, axes=cut, last=True)
    return result


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
