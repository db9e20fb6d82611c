"""The network that the outputs of an ONNX graph describe."""

from __future__ import annotations

from collections.abc import Sequence

from golden.lstm import Bidirectional
from golden.model import ModelError, Network
from golden.onnx_layers import held
from golden.onnx_merge import in_one
from golden.onnx_values import Opaque, Stack, Stream, Value, axes_text

__all__ = ["result"]

Named = tuple[str, Stream]


def _streams(name: str, value: Value | None) -> list[Stream]:
    """What an output is: one tensor, or several layers' final states."""
    if isinstance(value, Opaque):
        raise ModelError(f"output '{name}' must come from an LSTM, not from {value.what}")
    streams = _by_layer(value) if isinstance(value, Stack) else [value]
    found = [each for each in streams if isinstance(each, Stream) and each.layers]
    if len(found) < len(streams):
        raise ModelError(f"output '{name}' must come from an LSTM")
    return found


def _by_layer(stack: Stack) -> list[Value]:
    """The final states of several layers, those of two directions together."""
    layers: list[Value] = []
    left = list(stack.items)
    while left:
        pair = in_one(left[:2], stack.axis)
        layers.append(pair if isinstance(pair, Stream) else left[0])
        left = left[2:] if isinstance(pair, Stream) else left[1:]
    return layers


def _is_state(stream: Stream) -> bool:
    """Whether this is nothing but the final state of a layer."""
    if stream.pick is None or stream.head or stream.scaling:
        return False
    layer = stream.layers[-1]
    if isinstance(layer, Bidirectional) and layer.merge != "concat":
        return False
    return stream.pick == "final" or not any(each.reverse for each in layer.directions)


def _require_axes(name: str, stream: Stream) -> None:
    """The features must be last; the axis of the directions may be anywhere before."""
    order = [axis for axis in stream.axes if axis]
    hidden = stream.features[len(stream.directions) :]
    # Of one hidden unit each, the directions are the features, wherever they are.
    whole = stream.features in stream.axes and bool(hidden or not stream.directions)
    merged = any(len(axis) > 1 and axis != stream.features for axis in order)
    last = stream.features if whole else hidden
    if merged or (last and (not order or order[-1] != last)):
        raise ModelError(
            f"output '{name}' must have the features as its last axis and no merged axes, "
            f"but its axes are {axes_text(stream.axes)}"
        )


def _main(outputs: Sequence[Named]) -> Named:
    """The output that a network has beside its final states."""
    data = [(name, stream) for name, stream in outputs if not _is_state(stream)]
    if len(data) > 1:
        names = ", ".join(f"'{name}'" for name, _ in data)
        raise ModelError(
            f"the model must have one output beside final states, not {len(data)}: {names}"
        )
    if data:
        return data[0]
    depth = max(len(stream.layers) for _, stream in outputs)
    deepest = [each for each in outputs if len(each[1].layers) == depth]
    return next((each for each in deepest if not each[1].cell), deepest[0])


def result(values: Sequence[tuple[str, Value | None]], notes: list[str]) -> Network:
    """The network whose outputs have these names and values.

    Raises
    ------
    ModelError
        If they are not what one network gives.
    """
    outputs = [(name, each) for name, value in values for each in _streams(name, value)]
    for name, stream in outputs:
        if stream.pick == "start":
            raise ModelError(f"output '{name}' must not be the first step of both directions")
        _require_axes(name, stream)
    name, main = _main(outputs)
    if main.cell:
        notes.append(
            f"output '{name}' is a final cell state; the final hidden states of its layer are the "
            "network's output, and the cell states come with them"
        )
    elif len(main.directions) and main.features not in main.axes:
        notes.append(
            f"output '{name}' has the two directions on an axis of their own; here the features of "
            "the one follow those of the other"
        )
    if not main.time and main.pick is None:
        notes.append(
            "the input has one step; the network takes as many as there are and gives an output at "
            "each"
        )
    if main.scaling is not None:
        notes.append(f"output '{name}' is scaled by a dense layer of its own")
        main = held(main)
    states: list[str] = []
    for other, stream in outputs:
        if (stream is main and not main.cell) or not _is_state(stream):
            continue
        state = _state(other, stream, name, main)
        if state not in states:
            states.append(state)
    reverse = any(each.reverse for each in main.layers[-1].directions)
    return Network(
        layers=main.layers,
        head=main.head,
        every_step=main.pick is None,
        final=main.pick == "final" and reverse,
        backwards=bool(main.turned),
        states=tuple(states),
    )


def _state(name: str, stream: Stream, main_name: str, main: Stream) -> str:
    """The name of a final state among those of the network."""
    number = len(stream.layers) - 1
    ours = main.layers[number].directions if number < len(main.layers) else ()
    theirs = stream.layers[-1].directions
    if not all(any(each is one for one in ours) for each in theirs):
        raise ModelError(
            f"output '{name}' must be a final state of a layer that output '{main_name}' depends on"
        )
    return f"lstm{number}.{'c' if stream.cell else 'h'}"
