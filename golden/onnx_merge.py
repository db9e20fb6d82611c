"""How ONNX graphs put tensors together: the two directions of a layer, the states of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from golden.lstm import LSTM, Bidirectional
from golden.model import Layer, ModelError
from golden.onnx_values import MAX_AXES, Atom, Axis, Stack, Stream, axes_text

__all__ = ["combine", "concat", "in_one", "reduce_directions", "same_layer"]


def same_layer(one: Layer, other: Layer) -> bool:
    """Whether two layers are the same part of the model."""
    if isinstance(one, Bidirectional) and isinstance(other, Bidirectional):
        pairs = zip(one.directions, other.directions, strict=True)
        return one.merge == other.merge and all(a is b for a, b in pairs)
    return one is other


def _unlike(one: Stream, other: Stream) -> str | None:
    """Why two tensors are not the outputs of two directions that read the same, if so."""
    if not one.layers or not other.layers or one.head or other.head:
        return "only outputs of LSTM layers can be put together"
    ours, theirs = one.layers[-1], other.layers[-1]
    prefix = zip(one.layers[:-1], other.layers[:-1], strict=False)
    if (
        not isinstance(ours, LSTM)
        or not isinstance(theirs, LSTM)
        or len(one.layers) != len(other.layers)
        or not all(same_layer(a, b) for a, b in prefix)
        or ours.reverse == theirs.reverse
        or (one.time, one.batch) != (other.time, other.batch)
        or (one.pick is None) != (other.pick is None)
        or one.cell != other.cell
    ):
        return "only the two directions of one LSTM layer can be put together"
    if ours.outputs != theirs.outputs or ours.inputs != theirs.inputs:
        return "the two directions of a layer must be of one size"
    if one.turned != other.turned:
        return "the two directions' outputs must be in the same order of time"
    if one.lengths != other.lengths:
        return "the two directions must read sequences of the same lengths"
    if one.scaling or other.scaling:
        return "the two directions must be put together before they are scaled"
    return None


def _joined(one: Stream, other: Stream, merge: str) -> Stream:
    """A layer of two directions, axes not yet set; both must be alike."""
    forward, backward = (other, one) if one.layers[-1].directions[0].reverse else (one, other)
    ours, theirs = forward.layers[-1], backward.layers[-1]
    assert isinstance(ours, LSTM)
    assert isinstance(theirs, LSTM)
    layer = Bidirectional(forward=ours, backward=theirs, merge=merge)
    # A forward direction's last step is its final one, whatever it was picked as.
    return replace(forward, layers=(*forward.layers[:-1], layer), pick=backward.pick)


def _renamed(axes: Sequence[Axis], old: Axis, new: Axis) -> tuple[Axis, ...]:
    return tuple(new if old and axis == old else axis for axis in axes)


def _aligned(one: Stream, other: Stream) -> bool:
    return one.axes == _renamed(other.axes, other.features, one.features)


def _concatenated(one: Stream, other: Stream, at: int, apart: bool) -> Stream:
    """Two directions' outputs, one after the other; `apart` on an axis of their own."""
    why = _unlike(one, other)
    if why is None and not _aligned(one, other):
        why = (
            f"the two directions' axes must be alike, not {axes_text(one.axes)} and "
            f"{axes_text(other.axes)}"
        )
    if why is None and one.layers[-1].directions[0].reverse:
        why = "of a layer's two directions, the forward one must come first"
    if why is not None:
        raise ModelError(why)
    result = _joined(one, other, "concat")
    directions: Axis = (Atom(name="2 directions", size=2),)
    features = directions + one.features
    axis = directions if apart else features
    axes = (*one.axes[:at], axis, *one.axes[at + 1 :])
    return replace(result, axes=axes, features=features, directions=directions)


def in_one(items: Sequence[Stream], axis: int) -> Stream | Stack:
    """Tensors of size 1 along an axis, one after another."""
    if len(items) == 1:
        return items[0]
    if len(items) == 2 and _unlike(*items) is None:
        one, other = items
        if _aligned(one, other) and not one.layers[-1].directions[0].reverse:
            return _concatenated(one, other, axis, True)
    if len(items) > MAX_AXES:
        raise ModelError(f"the final states must be at most {MAX_AXES}, not {len(items)}")
    return Stack(items=tuple(items), axis=axis)


def concat(items: Sequence[Stream], axis: int) -> Stream | Stack:
    """ONNX ``Concat`` of directions, along the features or apart, or of layers' final states."""
    rank = len(items[0].axes)
    for item in items:
        if item.pick == "start":
            item.require_data()
    if any(len(item.axes) != rank for item in items):
        raise ModelError("the tensors to be concatenated must have equally many axes")
    along = [item.axes[axis] for item in items]
    features = all(
        item.layers and at == item.features and (at or axis == rank - 1)
        for item, at in zip(items, along, strict=True)
    )
    if features and len(items) == 2:
        one, other = items
        return _concatenated(one, other, axis, False)
    # PyTorch stacks the final states of all layers along an axis of their own.
    if any(along) or any(not item.pick or item.head for item in items):
        raise ModelError(
            "only the two directions of an LSTM layer and the final states of several can be "
            "concatenated"
        )
    return in_one(items, axis)


def combine(one: Stream, other: Stream, merge: str) -> Stream:
    """The sum or the product of two directions' outputs."""
    why = _unlike(one, other)
    if why is None and not _aligned(one, other):
        why = (
            f"the two directions' axes must be alike, not {axes_text(one.axes)} and "
            f"{axes_text(other.axes)}"
        )
    if why is not None:
        raise ModelError(why)
    one.require_data()
    return _joined(one, other, merge)


def reduce_directions(stream: Stream, axes: Sequence[int], keep: bool, merge: str) -> Stream:
    """A sum, mean or product over the axis of the directions."""
    stream.require_data()
    if len(axes) != 1 or not stream.directions or stream.axes[axes[0]] != stream.directions:
        raise ModelError(
            "only the two directions of an LSTM layer can be added, averaged or multiplied, not "
            f"the axes {axes_text([stream.axes[axis] for axis in axes])}"
        )
    if stream.scaling:
        raise ModelError("the two directions must be put together before they are scaled")
    layer = stream.layers[-1]
    assert isinstance(layer, Bidirectional)
    at = axes[0]
    left: tuple[Axis, ...] = ((),) if keep else ()
    return replace(
        stream,
        axes=(*stream.axes[:at], *left, *stream.axes[at + 1 :]),
        layers=(*stream.layers[:-1], replace(layer, merge=merge)),
        features=stream.features[len(stream.directions) :],
        directions=(),
    )
