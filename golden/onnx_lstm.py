"""The ONNX operators ``LSTM`` and ``com.microsoft.DynamicQuantizeLSTM``, in full.

https://onnx.ai/onnx/operators/onnx__LSTM.html defines the first.  Where it leaves something open
this is what ONNX Runtime does: names of functions in any case; ``activation_alpha`` and
``activation_beta`` are taken in order, by the functions that have them.  Of ``Affine``, whose
default alpha is 1 in the one and 0 in the other, the file must give the alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import AttributeProto

from golden.function import ELEMENTWISE, PARAMETERS, SIGMOID, TANH, Function
from golden.lstm import LSTM, Bidirectional
from golden.model import Layer, ModelError
from golden.onnx_call import Call
from golden.onnx_quantize import dequantized, kept
from golden.onnx_values import (
    Array,
    Atom,
    Axis,
    Constant,
    Expanded,
    Filled,
    Lengths,
    Scaling,
    Setting,
    Stream,
    Value,
    axes_text,
    axis_size,
)

__all__ = ["lstm", "quantized_lstm"]

LAYOUT_OPSET = 14
"""The version of the operator set from which an LSTM has the attribute 'layout'."""

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""Which directions are reverse."""


def _functions(call: Call, count: int) -> list[tuple[Function, Function, Function]]:
    """The functions of the gates, the candidate and the state, for each direction."""
    given = call.attribute("activations", AttributeProto.STRINGS)
    names = [name.decode(errors="replace") for name in given or ()]
    if given is not None and len(names) != 3 * count:
        raise ModelError(f"activations must be {3 * count} names, not {len(names)}")
    known = {name.lower(): name for name in ELEMENTWISE}
    numbers = {
        which: list(call.attribute(f"activation_{which}", AttributeProto.FLOATS) or ())
        for which in ("alpha", "beta")
    }
    functions = [SIGMOID, TANH, TANH] * count if not names else []
    for name in names:
        if name.lower() not in known:
            raise ModelError(f"activations must be of {', '.join(ELEMENTWISE)}, not {name}")
        full = known[name.lower()]
        if full not in PARAMETERS:
            functions.append(Function(full))
            continue
        if full == "Affine" and not numbers["alpha"]:
            raise ModelError(
                "activation_alpha must be given for Affine, whose default runtimes do not agree on"
            )
        functions.append(
            Function(
                full,
                *(numbers[which].pop(0) if numbers[which] else None for which in ("alpha", "beta")),
            )
        )
    for which, left in numbers.items():
        if left:
            raise ModelError(
                f"activation_{which} must have no more values than activations take, but "
                f"{left[0]:g} is left"
            )
    return [(functions[3 * k], functions[3 * k + 1], functions[3 * k + 2]) for k in range(count)]


def _initial(
    call: Call, index: int, what: str, shape: tuple[int, int], batch: Axis, batch_first: bool
) -> list[Array | None]:
    """The states to begin with, for each direction; None is zeros."""
    count, width = shape
    value = call.input(index)
    axes = f"[B, {count}, {width}]" if batch_first else f"[{count}, B, {width}]"
    if isinstance(value, Setting | Filled) and value.shape is not None:
        # PyTorch's exporter writes a projection as an LSTM of too few and other weights, of which
        # nothing but the size of the cell states tells.
        which = len(value.shape) == 3 and (value.shape[int(batch_first)], value.shape[2])
        if not which or which[0] not in (count, None) or which[1] not in (width, None):
            known = (
                "; PyTorch's exporter writes such a graph for proj_size, without the right weights"
            )
            raise ModelError(
                f"{what} must have the shape {axes}, not {axes_text(value.shape)}"
                + (known if what == "initial_c" else "")
            )
    if isinstance(value, Setting):
        call.note(
            f"begins with an {what} that the application sets, input '{value.name}'; "
            "here it is zeros; --stateful gives a port to set it"
        )
    if value is None or isinstance(value, Setting):
        return [None] * count
    if isinstance(value, Filled) and isinstance(value.item, float):
        array = np.full((count, 1, width), value.item)
    elif isinstance(value, Constant | Expanded):
        array = call.numbers(value.array, what)
        if batch_first and array.ndim == 3:
            array = array.swapaxes(0, 1)
    else:
        raise ModelError(
            f"{what} must be constant or an input of the model, not '{call.name(index)}'"
        )
    size = axis_size(batch)
    good = array.ndim == 3 and array.shape[0] == count and array.shape[2] == width
    if not good or array.shape[1] not in {1, size or array.shape[1]} or not array.size:
        given = array.swapaxes(0, 1) if batch_first and array.ndim == 3 else array
        raise ModelError(f"{what} must have the shape {axes}, not {list(given.shape)}")
    if np.any(array != array[:, :1]):
        raise ModelError(f"{what} must be the same for every sequence of the batch")
    return [row if np.any(row) else None for row in array[:, 0]]


def _lengths(call: Call, time: Axis) -> str | None:
    """The input that says how long the sequences are; None if they have all steps of X."""
    value = call.input(4)
    if value is None:
        return None
    if isinstance(value, Lengths):
        call.note(f"takes the lengths of sequences from the data, input '{value.name}'")
        return value.name
    size = axis_size(time)
    if isinstance(value, Filled) and value.item in (time, size):
        return None
    if isinstance(value, Constant):
        given = value.array
        if given.dtype.kind in "iu" and size is not None and np.all(given == size):
            return None
        shown = given.reshape(-1)[:8].tolist()
        steps = "whose number the file does not say" if size is None else f"{size}"
        raise ModelError(f"constant sequence_lens must be all steps of X, {steps}, not {shown}")
    raise ModelError(
        f"sequence_lens must be an input of the model or all steps of X, not '{call.name(4)}'"
    )


def _directions(
    call: Call, w: Array, r: Array, count: int, *, batch: Axis, batch_first: bool
) -> list[LSTM]:
    """The directions in the order of the operator, none of them reverse, in this package's form."""
    hidden = r.shape[2]
    named = call.attribute("hidden_size", AttributeProto.INT, hidden)
    if named != hidden:
        raise ModelError(f"hidden_size must be {hidden}, as R has columns, not {named}")
    b = np.zeros((count, 8 * hidden)) if call.input(3) is None else call.weights(3, "B")
    if b.shape != (count, 8 * hidden):
        raise ModelError(f"B must have the shape [{count}, {8 * hidden}], not {list(b.shape)}")
    p = None if call.input(7) is None else call.weights(7, "P")
    if p is not None and p.shape != (count, 3 * hidden):
        raise ModelError(f"P must have the shape [{count}, {3 * hidden}], not {list(p.shape)}")
    functions = _functions(call, count)
    clip = call.attribute("clip", AttributeProto.FLOAT)
    initial = [
        _initial(call, index, what, (count, hidden), batch, batch_first)
        for index, what in ((5, "initial_h"), (6, "initial_c"))
    ]
    coupled = call.flag("input_forget")
    if coupled:
        call.note(
            "has a forget gate of 1 minus its input gate, in the form of weights with their "
            "signs turned"
        )
    # ONNX orders the gates i, o, f, c, the peepholes i, o, f, and keeps the biases apart.
    blocks = np.arange(4 * hidden).reshape(4, hidden)
    order, thirds = blocks[[0, 2, 3, 1]].ravel(), blocks[[0, 2, 1]].ravel()
    make = LSTM.coupled if coupled else LSTM
    return [
        make(
            w_x=w[k][order],
            w_h=r[k][order],
            bias=(b[k, : 4 * hidden] + b[k, 4 * hidden :])[order],
            peepholes=None if p is None or not p[k].any() else p[k][thirds],
            gate=functions[k][0],
            candidate=functions[k][1],
            squash=functions[k][2],
            clip=clip,
            initial_h=initial[0][k],
            initial_c=initial[1][k],
        )
        for k in range(count)
    ]


def _fits(stream: Stream, time: Axis, batch: Axis, features: Axis) -> bool:
    """Whether the axes of X are what the graph before has made of them."""
    if stream.layers:
        roles = stream.time, stream.batch, stream.features
        return (time, batch, features) == roles and stream.pick is None
    return max(len(time), len(batch), len(features)) <= 1


def _with_scaling(layer: LSTM, scaling: Scaling | None, features: Axis) -> LSTM:
    """The layer with what is done to its input in its weights."""
    if scaling is None:
        return layer
    if scaling.along not in ((), features):
        raise ModelError("what scales X must be constant along time and batch")
    if scaling.along and len(scaling.scale) != layer.inputs:
        raise ModelError(
            f"what scales X must have {layer.inputs} elements, as W takes features, not "
            f"{len(scaling.scale)}"
        )
    return layer.of_scaled(scaling.scale, scaling.shift)


def lstm(call: Call) -> list[Value]:
    """ONNX ``LSTM``."""
    return _lstm(call, call.weights(1, "W"), call.weights(2, "R"))


def quantized_lstm(call: Call) -> list[Value]:
    """``com.microsoft.DynamicQuantizeLSTM``: integer weights, transposed, with their scales."""
    weights, scales = [], []
    for index, what, at in ((1, "W", 8), (2, "R", 10)):
        array = call.constant(index, what)
        if array is None or array.ndim != 3 or array.dtype.kind not in "iu":
            raise ModelError(f"{what} must be integers of the shape [D, K, 4H]")
        scale = call.weights(at, f"{what}_scale")
        zero = call.constant(at + 1, f"{what}_zero_point")
        # One scale for each direction, or one for each of its rows.
        if scale.shape not in ((array.shape[0],), (array.shape[0], array.shape[2])):
            raise ModelError(
                f"{what}_scale must have the shape [{array.shape[0]}] or "
                f"[{array.shape[0]}, {array.shape[2]}], not {list(scale.shape)}"
            )
        spread = (slice(None), *[None] * (3 - scale.ndim), *[slice(None)] * (scale.ndim - 1))
        shift = np.zeros(scale.shape, array.dtype) if zero is None else zero
        if shift.shape != scale.shape or shift.dtype != array.dtype:
            raise ModelError(
                f"{what}_zero_point must be of the type of {what} and of its scale's shape"
            )
        scales.append(scale)
        weights.append(dequantized(array, scale[spread], shift[spread]).swapaxes(1, 2))
    call.note(
        f"has integer weights, taken as the numbers that they stand for, {kept(*scales)}; that "
        f"runtimes round x and h as well is left out"
    )
    return _lstm(call, *weights)


def _lstm(call: Call, w: Array, r: Array) -> list[Value]:
    direction = call.attribute("direction", AttributeProto.STRING, "forward")
    if direction not in DIRECTIONS:
        raise ModelError(f"direction must be one of {', '.join(DIRECTIONS)}, not '{direction}'")
    reverse = DIRECTIONS[direction]
    count = len(reverse)
    if r.ndim != 3 or r.shape[0] != count or not r.size or r.shape[1] != 4 * r.shape[2]:
        raise ModelError(f"R must have the shape [{count}, 4H, H], not {list(r.shape)}")
    rows = 4 * r.shape[2]
    if w.ndim != 3 or w.shape[:2] != (count, rows) or not w.size:
        raise ModelError(f"W must have the shape [{count}, {rows}, N], not {list(w.shape)}")
    layout = call.attribute("layout", AttributeProto.INT, 0)
    if layout not in ((0, 1) if call.opset >= LAYOUT_OPSET else (0,)):
        raise ModelError(f"layout must be 0 or, from operator set 14 on, 1, not {layout}")
    batch_first = bool(layout)
    stream = call.stream()
    stream.require_data()
    if len(stream.axes) != 3:
        raise ModelError(f"X must have 3 axes, not {axes_text(stream.axes)}")
    time, batch, features = stream.axes
    if batch_first:
        time, batch = batch, time
    if stream.head:
        raise ModelError("an LSTM must not follow a dense layer")
    if not _fits(stream, time, batch, features):
        roles = "[batch, time, features]" if batch_first else "[time, batch, features]"
        raise ModelError(f"X must be {roles}, but is {axes_text(stream.axes)}")
    width = axis_size(features)
    if width not in (None, w.shape[2]):
        raise ModelError(f"W must take the {width} features of X, but takes {w.shape[2]}")
    if stream.turned not in ((), time):
        raise ModelError("only the steps of X can be reversed before it, not another axis")
    lengths = _lengths(call, time)
    if (stream.layers or stream.turned) and lengths != stream.lengths:
        given, known = (f"'{n}'" if n else "absent" for n in (lengths, stream.lengths))
        raise ModelError(f"sequence_lens must be {known}, as before, not {given}")
    layers = [
        replace(_with_scaling(layer, stream.scaling, features), reverse=back != bool(stream.turned))
        for layer, back in zip(
            _directions(call, w, r, count, batch=batch, batch_first=batch_first),
            reverse,
            strict=True,
        )
    ]
    hidden: Axis = ()
    if layers[0].hidden > 1:
        hidden = (Atom(name=f"{layers[0].hidden} hidden units", size=layers[0].hidden),)
    directions: Axis = ()
    layer: Layer = layers[0]
    if count == 2:
        if stream.turned:
            raise ModelError("an LSTM of two directions must not read its input from the end")
        directions = (Atom(name="2 directions", size=2),)
        layer = Bidirectional(forward=layers[0], backward=layers[1])
    return _outputs(stream, layer, (time, batch, directions, hidden), lengths, batch_first)


def _outputs(
    stream: Stream,
    layer: Layer,
    axes: Sequence[Axis],
    lengths: str | None,
    batch_first: bool,
) -> list[Value]:
    """Y, Y_h and Y_c."""
    time, batch, directions, hidden = axes
    y = (batch, time, directions, hidden) if batch_first else (time, directions, batch, hidden)
    every = replace(
        stream,
        axes=y,
        layers=(*stream.layers, layer),
        scaling=None,
        time=time,
        batch=batch,
        features=directions + hidden,
        directions=directions,
        lengths=lengths,
    )
    final = replace(
        every,
        axes=(batch, directions, hidden) if batch_first else (directions, batch, hidden),
        pick="final",
        turned=(),
    )
    return [every, final, replace(final, cell=True)]
