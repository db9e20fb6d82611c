"""The ONNX operators that take a part of a tensor: one step, one direction, or the reverse order.

They refuse, with a `ModelError` that names neither file nor node, whatever is not one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from golden.lstm import Bidirectional
from golden.model import ModelError
from golden.onnx_axes import reshape
from golden.onnx_merge import in_one
from golden.onnx_values import (
    Axis,
    Scaling,
    Stack,
    Stream,
    axis_size,
    axis_text,
    normal_axes,
)

__all__ = [
    "gather",
    "gather_stack",
    "reshape_stack",
    "single_directions",
    "slice_axes",
    "slice_stack",
    "split",
    "turn",
]

END = 2**31 - 1
"""Exporters write the end of an axis of unknown size as the largest 32 or 64 bit integer."""


def _is_time(stream: Stream, axis: Axis) -> bool:
    return bool(stream.layers and axis) and axis == stream.time and stream.pick is None


def _with_axis(stream: Stream, at: int, *new: Axis) -> tuple[Axis, ...]:
    return (*stream.axes[:at], *new, *stream.axes[at + 1 :])


def _step(stream: Stream, at: int, last: bool) -> Stream | None:
    """The last or the first step along the time axis, or None if the network cannot stop there."""
    if stream.lengths is not None and last:
        raise ModelError(
            "the last step of padded sequences is not their own last one; the model must take "
            "its final state, Y_h"
        )
    if last != bool(stream.turned):
        pick = "end"
    elif all(each.reverse for each in stream.layers[-1].directions):
        # The first step in time is the one that these directions come to last.
        pick = "final"
    elif stream.directions:
        pick = "start"
    else:
        return None
    return replace(stream, axes=_with_axis(stream, at, ()), pick=pick, turned=())


def _direction(stream: Stream, at: int, which: int) -> Stream:
    """One of the two directions, along the axis that tells them apart."""
    layer = stream.layers[-1]
    assert isinstance(layer, Bidirectional)
    one = layer.directions[which]
    pick = stream.pick
    if pick == "start":
        if not one.reverse:
            stream.require_data()
        pick = "final"
    features = stream.features[len(stream.directions) :]
    scaling = stream.scaling
    if scaling is not None and scaling.along:
        half = slice(which * one.outputs, (which + 1) * one.outputs)
        scaling = Scaling(scale=scaling.scale[half], shift=scaling.shift[half], along=features)
    return replace(
        stream,
        axes=_with_axis(stream, at, stream.axes[at][len(stream.directions) :]),
        layers=(*stream.layers[:-1], one),
        features=features,
        directions=(),
        scaling=scaling,
        pick=pick,
    )


def _directions_at(stream: Stream, at: int) -> bool:
    return bool(stream.directions) and stream.axes[at] in (stream.directions, stream.features)


def gather(stream: Stream, axis: int, index: NDArray[np.generic]) -> Stream:
    """ONNX ``Gather`` of one element: of an axis of size 1, a step, or a direction."""
    (at,) = normal_axes([axis], len(stream.axes))
    if index.dtype.kind not in "iu" or index.size != 1 or index.ndim > 1:
        raise ModelError(f"the index must be one integer, not {index.tolist()}")
    picked = int(index.reshape(()))
    source = stream.axes[at]
    size = axis_size(source)
    result: Stream | None = None
    if not source:
        if picked not in (0, -1):
            raise ModelError(f"the index must be 0 or -1 on an axis of size 1, not {picked}")
        result = stream
    elif _is_time(stream, source) and picked in (-1, 0, None if size is None else size - 1):
        result = _step(stream, at, picked != 0)
    elif _directions_at(stream, at) and size == 2 and -2 <= picked < 2:
        result = _direction(stream, at, picked % 2)
    if result is None:
        raise ModelError(
            "only the last time step or one direction of an LSTM's output can be picked, not "
            f"element {picked} of the axis {axis_text(source)}"
        )
    return replace(result, axes=_with_axis(result, at)) if index.ndim == 0 else result


def turn(stream: Stream, axis: Axis, lengths: str | None) -> Stream:
    """The steps in reverse, of sequences of the lengths that an input gives or of the longest."""
    if not axis:
        return stream
    if stream.layers and not _is_time(stream, axis):
        raise ModelError(f"only time steps can be reversed, not the axis {axis_text(axis)}")
    if (stream.layers or stream.turned) and lengths != stream.lengths:
        ours, theirs = (f"'{n}'" if n else "the longest" for n in (lengths, stream.lengths))
        raise ModelError(f"the lengths of sequences must be {theirs}, as before, not {ours}")
    if stream.turned and stream.turned != axis:
        raise ModelError("only time steps can be reversed, not two axes")
    return replace(stream, turned=() if stream.turned else axis, lengths=lengths)


def _cut(stream: Stream, at: int, start: int, end: int, stride: int) -> Stream:
    """One axis of a ``Slice``."""
    source = stream.axes[at]
    size = axis_size(source)
    below = -END if size is None else -size
    above = END if size is None else size
    if stride == -1 and (start == -1 or start >= above - 1) and end < below:
        return turn(stream, source, None)
    result: Stream | None = None
    if stride == 1:
        from_start = start == 0 or (size is not None and start <= -size)
        to_end = end >= above
        last = start == -1 or (size is not None and start == size - 1)
        if from_start and to_end:
            return stream
        if _is_time(stream, source):
            if to_end and last:
                result = _step(stream, at, True)
            elif from_start and end == 1:
                result = _step(stream, at, False)
        elif _directions_at(stream, at) and size is not None:
            cut, half = slice(start, end).indices(size)[:2], size // 2
            if cut in ((0, half), (half, size)):
                result = _direction(stream, at, int(cut[0] > 0))
    if result is None:
        raise ModelError(
            "only the last time step or one direction of an LSTM's output can be cut out, not "
            f"{start} : {end} : {stride} of the axis {axis_text(source)}"
        )
    return result


def slice_axes(
    stream: Stream,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Stream:
    """ONNX ``Slice`` that takes the whole of an axis, a step, a direction, or the reverse order."""
    where = normal_axes(range(len(starts)) if axes is None else axes, len(stream.axes))
    strides = [1] * len(where) if steps is None else list(steps)
    if not len(starts) == len(ends) == len(where) == len(strides):
        raise ModelError(
            "starts, ends, axes and steps must be equally many, not "
            f"{len(starts)}, {len(ends)}, {len(where)} and {len(strides)}"
        )
    result = stream
    for at, start, end, stride in zip(where, starts, ends, strides, strict=True):
        result = _cut(result, at, start, end, stride)
    return result


def split(
    stream: Stream, axis: int, sizes: Sequence[int] | None, count: int
) -> list[Stream | None]:
    """ONNX ``Split`` of the two directions, or of nothing; None is a part that is of no use."""
    (at,) = normal_axes([axis], len(stream.axes))
    size = axis_size(stream.axes[at])
    if size is None:
        raise ModelError(f"the axis {axis_text(stream.axes[at])} cannot be split")
    parts = [-(-size // count)] * count if sizes is None else list(sizes)
    if len(parts) != count or sum(parts) != size or min(parts) < 1:
        raise ModelError(f"{size} elements cannot be split into {parts}")
    ends = np.cumsum(parts).tolist()
    found: list[Stream | None] = []
    for part, end in zip(parts, ends, strict=True):
        try:
            found.append(_cut(stream, at, end - part, end, 1))
        except ModelError:
            # Of the first time step one of the directions is of no use, and may not be used.
            found.append(None)
    if not any(found):
        raise ModelError(f"the axis {axis_text(stream.axes[at])} cannot be split into {parts[:8]}")
    return found


def single_directions(stream: Stream, at: int) -> list[Stream]:
    """The directions along an axis that tells them apart, or else the tensor itself."""
    if stream.directions and stream.axes[at] == stream.directions:
        return [_direction(stream, at, which) for which in range(2)]
    return [stream]


def gather_stack(stack: Stack, axis: int, index: NDArray[np.generic]) -> Stream | Stack:
    """ONNX ``Gather`` along the axis of a stack."""
    count = len(stack.items)
    if normal_axes([axis], len(stack.items[0].axes)) != [stack.axis]:
        raise ModelError("one layer's final state must be picked at a time")
    if index.dtype.kind not in "iu" or index.ndim > 1 or not index.size:
        raise ModelError("one layer's final state must be picked at a time")
    wanted = [int(k) for k in np.atleast_1d(index)]
    for k in wanted:
        if not -count <= k < count:
            raise ModelError(f"the index must be in {-count} .. {count - 1}, not {k}")
    if index.ndim == 0:
        return gather(stack.items[wanted[0]], axis, np.array(0))
    return in_one([stack.items[k] for k in wanted], stack.axis)


def reshape_stack(stack: Stack, target: Sequence[int | Axis]) -> Stack:
    """ONNX ``Reshape`` that tells the layers of a stack of two directions each apart."""
    count = len(stack.items)
    pairs = [in_one(stack.items[k : k + 2], stack.axis) for k in range(0, count, 2)]
    layers = [pair for pair in pairs if isinstance(pair, Stream) and pair.directions]
    if (
        stack.axis
        or len(layers) < len(pairs)
        or tuple(target[:2])
        not in (
            (len(pairs), 2),
            (-1, 2),
            (len(pairs), -1),
        )
    ):
        raise ModelError("the final states of several layers must be picked apart first")
    return Stack(items=tuple(reshape(pair, (1, 2, *target[2:]), False) for pair in layers), axis=0)


def slice_stack(stack: Stack, axis: int, start: int, end: int, step: int) -> Stream | Stack:
    """ONNX ``Slice`` along the axis of a stack."""
    if normal_axes([axis], len(stack.items[0].axes)) != [stack.axis] or step < 1:
        raise ModelError("final states must be cut apart layer by layer")
    items = stack.items[start:end:step]
    if not items:
        raise ModelError(f"{start} : {end} : {step} leaves none of the final states")
    return in_one(items, stack.axis)
