"""The ONNX operators that only move the axes of a tensor about.

Each refuses, with a `ModelError` that names neither file nor node, whatever it cannot follow with
certainty.  Those that take parts of a tensor are in `golden.onnx_parts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from golden.model import ModelError
from golden.onnx_values import (
    MAX_AXES,
    Atom,
    Axis,
    Stream,
    axes_text,
    axis_text,
    normal_axes,
)

__all__ = ["reshape", "squeeze", "transpose", "unsqueeze"]


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
    if rank > MAX_AXES:
        raise ModelError(f"a tensor must have at most {MAX_AXES} axes, not {rank}")
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
