"""The ONNX operators that make up what is in front of an LSTM and behind it.

Dense layers are ``Gemm`` and ``MatMul``; sums and products with constants and
``BatchNormalization`` are taken into the weights of the layers next to them; functions belong to
the dense layer before.  Each operator here takes a `Call` and returns the values of its outputs, or
raises a `ModelError` that names the rule and the value.  https://onnx.ai/onnx/operators/ defines
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import AttributeProto

from golden.function import ARGMAX, IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, Function
from golden.lstm import Bidirectional
from golden.model import Dense, ModelError
from golden.onnx_call import Call
from golden.onnx_merge import combine
from golden.onnx_values import (
    Array,
    Atom,
    Axis,
    Scaling,
    Stream,
    Value,
    axes_text,
    axis_size,
    axis_text,
    normal_axes,
)

__all__ = [
    "FUNCTIONS",
    "add",
    "arg_max",
    "batch_norm",
    "clip",
    "divide",
    "gemm",
    "hard_sigmoid",
    "held",
    "matmul",
    "multiply",
    "negate",
    "softmax",
    "subtract",
]

MAX_HELD = 4096
"""The features for which a dense layer may be made up, whose weights are the square of these."""

ROUNDING = 2.0**-22
"""A scale this close to 1, in the single precision of the files, is one that undoes another."""


def _dense(call: Call, stream: Stream, w: Array, bias: Array) -> Stream:
    """Apply a dense layer of weights w, shape (O, F), to the last axis."""
    stream.require_data()
    if not stream.layers:
        raise ModelError("a dense layer must come after the LSTM, not before it")
    if not stream.axes or stream.axes[-1] != stream.features:
        last = axis_text(stream.axes[-1]) if stream.axes else "missing"
        raise ModelError(f"the last axis must be the features, but is {last}")
    if w.shape[1] != stream.width or not w.size:
        raise ModelError(f"the weights must take {stream.width} features, but take {w.shape[1]}")
    _require_numbers(stream)
    dense = Dense(w=w, bias=bias)
    if stream.scaling is not None:
        dense = dense.of_scaled(stream.scaling.scale, stream.scaling.shift)
    features: Axis = ()
    if len(w) > 1:
        features = (Atom(name=f"{len(w)} outputs", size=len(w)),)
    return replace(
        stream,
        axes=(*stream.axes[:-1], features),
        features=features,
        directions=(),
        scaling=None,
        head=(*stream.head, dense),
    )


def _require_numbers(stream: Stream) -> None:
    """Refuse to go on from probabilities or an index, which end a network."""
    if stream.head and not stream.head[-1].function.elementwise:
        raise ModelError(f"nothing must follow {stream.head[-1].function}")


def gemm(call: Call) -> list[Value]:
    """ONNX ``Gemm``, as a dense layer: ``alpha A B + beta C`` with A from the stream."""
    stream = call.stream()
    if len(stream.axes) != 2:
        raise ModelError(f"A must have 2 axes, not {axes_text(stream.axes)}")
    if call.attribute("transA", AttributeProto.INT, 0):
        raise ModelError("transA must be 0, not 1")
    w = call.weights(1, "B")
    if w.ndim != 2:
        raise ModelError(f"B must have 2 axes, not the shape {list(w.shape)}")
    if not call.attribute("transB", AttributeProto.INT, 0):
        w = w.T
    w = w * call.attribute("alpha", AttributeProto.FLOAT, 1.0)
    bias = np.zeros(len(w))
    if call.input(2) is not None:
        c = call.weights(2, "C")
        if c.ndim > 2 or c.size not in (1, len(w)) or (c.ndim and c.shape[-1] != c.size):
            raise ModelError(
                f"C must have {len(w)} elements along the last axis, but its shape is "
                f"{list(c.shape)}"
            )
        bias = bias + c.reshape(-1) * call.attribute("beta", AttributeProto.FLOAT, 1.0)
    return [_dense(call, stream, w, bias)]


def matmul(call: Call) -> list[Value]:
    """ONNX ``MatMul`` by a constant, as a dense layer whose bias may follow."""
    stream = call.stream()
    w = call.weights(1, "B")
    if w.ndim != 2:
        raise ModelError(f"B must have 2 axes, not the shape {list(w.shape)}")
    return [_dense(call, stream, w.T, np.zeros(w.shape[1]))]


def _along(stream: Stream, array: Array) -> tuple[Array, Axis]:
    """A constant that is broadcast to a tensor: its elements, and the axis along which they are."""
    rank = len(stream.axes)
    wide = [k for k, size in enumerate(array.shape) if size != 1]
    if array.ndim <= rank and not wide:
        return array.reshape(1), ()
    if array.ndim <= rank and len(wide) == 1:
        axis = stream.axes[rank - array.ndim + wide[0]]
        good = axis == stream.features if stream.layers else len(axis) == 1
        if good and axis and axis_size(axis) in (None, array.size):
            return array.reshape(-1), axis
    raise ModelError(
        "the constant must have one element, or one for each feature, but its shape is "
        f"{list(array.shape)}, for the axes {axes_text(stream.axes)}"
    )


def _scaled(call: Call, stream: Stream, scale: Array, shift: Array, along: Axis) -> Stream:
    """``scale * x + shift``, of which each has one element or one for each of the axis `along`."""
    stream.require_data()
    _require_numbers(stream)
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise ModelError("what scales the data must be finite")
    before = stream.scaling
    if stream.head and before is None and stream.head[-1].function == IDENTITY:
        last = stream.head[-1]
        if np.any(scale != 1.0):
            call.note("is taken into the weights of the dense layer before it")
        dense = Dense(w=last.w * scale[:, None], bias=last.bias * scale + shift)
        return replace(stream, head=(*stream.head[:-1], dense))
    if stream.layers and not stream.head and before is None:
        layer = stream.layers[-1]
        halved = isinstance(layer, Bidirectional) and layer.merge == "sum"
        if halved and np.all(scale == 0.5) and not np.any(shift):
            assert isinstance(layer, Bidirectional)
            return replace(stream, layers=(*stream.layers[:-1], replace(layer, merge="ave")))
    call.note("is taken into the layers next to it")
    if before is not None:
        if before.along and along and before.along != along:
            raise ModelError("the data must be scaled along its features only")
        shift = before.shift * scale + shift
        scale = before.scale * scale
        along = along or before.along
    if np.all(np.abs(scale - 1.0) <= ROUNDING) and np.all(np.abs(shift) <= ROUNDING):
        return replace(stream, scaling=None)
    count = max(len(scale), len(shift))
    scaling = Scaling(
        scale=np.broadcast_to(scale, (count,)), shift=np.broadcast_to(shift, (count,)), along=along
    )
    return replace(stream, scaling=scaling)


def _with_constant(call: Call, effect: Callable[[Array, bool], tuple[Array, Array]]) -> list[Value]:
    """Scale and shift by a constant; `effect` of it and whether it comes second."""
    at = 0 if isinstance(call.input(0), Stream) else 1
    stream = call.stream(at)
    array, along = _along(stream, call.weights(1 - at, "the other operand"))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale, shift = effect(array, at == 0)
        return [_scaled(call, stream, scale, shift, along)]


def _both(call: Call) -> tuple[Stream, Stream] | None:
    one, other = call.input(0), call.input(1)
    return (one, other) if isinstance(one, Stream) and isinstance(other, Stream) else None


ONE, ZERO = np.ones(1), np.zeros(1)


def add(call: Call) -> list[Value]:
    """ONNX ``Add`` of a constant, or of the two directions of a layer."""
    both = _both(call)
    if both:
        return [combine(*both, "sum")]
    return _with_constant(call, lambda c, _: (ONE, c))


def subtract(call: Call) -> list[Value]:
    """ONNX ``Sub`` of a constant, or from one."""
    if _both(call):
        raise ModelError("a difference of two parts of the data is not supported")
    return _with_constant(call, lambda c, second: (ONE, -c) if second else (-ONE, c))


def multiply(call: Call) -> list[Value]:
    """ONNX ``Mul`` by a constant, or of the two directions of a layer."""
    both = _both(call)
    if both:
        return [combine(*both, "mul")]
    return _with_constant(call, lambda c, _: (c, ZERO))


def divide(call: Call) -> list[Value]:
    """ONNX ``Div`` by a constant."""
    if not isinstance(call.input(0), Stream) or _both(call):
        raise ModelError("only a division by a constant is supported")
    return _with_constant(call, lambda c, _: (1.0 / c, ZERO))


def negate(call: Call) -> list[Value]:
    """ONNX ``Neg``."""
    return [_scaled(call, call.stream(), -ONE, ZERO, ())]


def batch_norm(call: Call) -> list[Value]:
    """ONNX ``BatchNormalization`` with the statistics of training; its channels are axis 1."""
    if call.flag("training_mode"):
        raise ModelError("attribute 'training_mode' must be 0, not 1")
    if call.opset < 9 and not call.attribute("spatial", AttributeProto.INT, 1):
        raise ModelError("attribute 'spatial' must be 1, not 0")
    stream = call.stream()
    if len(stream.axes) < 2:
        raise ModelError(f"X must have 2 axes or more, not {axes_text(stream.axes)}")
    names = ("scale", "B", "mean", "var")
    scale, bias, mean, var = (call.weights(k + 1, name) for k, name in enumerate(names))
    size = scale.size
    for name, array in zip(names, (scale, bias, mean, var), strict=True):
        if array.shape != (size,):
            raise ModelError(f"{name} must have the shape [{size}], not {list(array.shape)}")
    epsilon = call.attribute("epsilon", AttributeProto.FLOAT, 1e-5)
    if np.any(var + epsilon <= 0.0):
        raise ModelError("var must not be negative")
    shape = (size, *[1] * (len(stream.axes) - 2))
    _, along = _along(stream, scale.reshape(shape))
    if size == 1 and stream.axes[1] not in ((), stream.features):
        raise ModelError(f"the channels must be the features, not {axis_text(stream.axes[1])}")
    factor = scale / np.sqrt(var + epsilon)
    return [_scaled(call, stream, factor, bias - factor * mean, along)]


def _function(call: Call, stream: Stream, function: Function) -> Stream:
    """A function of the outputs, which the last dense layer gets; an LSTM gets one to hold it."""
    stream.require_data()
    if not stream.layers:
        raise ModelError("a function in front of the LSTM is not supported")
    if stream.features and stream.features not in stream.axes:
        raise ModelError(
            f"the features must be one axis, but the axes are {axes_text(stream.axes)}"
        )
    head, scaling = stream.head, stream.scaling
    if head and head[-1].function == SOFTMAX and function == ARGMAX:
        call.note("makes the Softmax before it of no effect")
        return replace(stream, head=(*head[:-1], replace(head[-1], function=function)))
    _require_numbers(stream)
    if head and scaling is None and head[-1].function == IDENTITY:
        return replace(stream, head=(*head[:-1], replace(head[-1], function=function)))
    call.note("becomes a dense layer of its own, each of whose outputs takes one input")
    stream = held(stream)
    last = replace(stream.head[-1], function=function)
    return replace(stream, head=(*stream.head[:-1], last))


def held(stream: Stream) -> Stream:
    """With a dense layer for what is left to be scaled, of one weight for each output."""
    if stream.width > MAX_HELD:
        raise ModelError(
            f"what has no dense layer in front of it must have at most {MAX_HELD} features, not "
            f"{stream.width}"
        )
    dense = Dense(w=np.eye(stream.width), bias=np.zeros(stream.width))
    if stream.scaling is not None:
        dense = dense.of_scaled(stream.scaling.scale, stream.scaling.shift)
    return replace(stream, head=(*stream.head, dense), scaling=None, directions=())


def _elementwise(function: Function) -> Callable[[Call], list[Value]]:
    def apply(call: Call) -> list[Value]:
        return [_function(call, call.stream(), function)]

    return apply


FUNCTIONS = {
    "Relu": _elementwise(RELU),
    "Sigmoid": _elementwise(SIGMOID),
    "Tanh": _elementwise(TANH),
}
"""The operators that are functions without parameters."""


def hard_sigmoid(call: Call) -> list[Value]:
    """ONNX ``HardSigmoid``."""
    alpha = call.attribute("alpha", AttributeProto.FLOAT, 0.2)
    beta = call.attribute("beta", AttributeProto.FLOAT, 0.5)
    return [_function(call, call.stream(), Function("HardSigmoid", alpha, beta))]


def clip(call: Call) -> list[Value]:
    """ONNX ``Clip``, as a hard sigmoid of what it leaves, or as ``Relu``."""
    bounds: list[float | None] = []
    for index, name in ((1, "min"), (2, "max")):
        if call.opset < 11:
            bounds.append(call.attribute(name, AttributeProto.FLOAT))
            continue
        value = None if call.input(index) is None else call.weights(index, name)
        if value is not None and value.size != 1:
            raise ModelError(f"{name} must be one number, not of the shape {list(value.shape)}")
        bounds.append(None if value is None else float(value.reshape(())))
    low, high = bounds
    if low == 0.0 and high is None:
        return [_function(call, call.stream(), RELU)]
    if low is None or high is None or not low < high:
        raise ModelError(
            f"min and max must be numbers, the first below the second, not {low} and {high}"
        )
    width = high - low
    stream = _function(call, call.stream(), Function("HardSigmoid", 1 / width, -low / width))
    scaling = Scaling(scale=np.array([width]), shift=np.array([low]))
    return [stream if (low, high) == (0.0, 1.0) else replace(stream, scaling=scaling)]


def _feature_axis(call: Call, stream: Stream, default: int) -> int:
    """The attribute 'axis', which must be the one of the features."""
    axis = call.attribute("axis", AttributeProto.INT, default)
    (at,) = normal_axes([axis], len(stream.axes))
    single = not stream.features and at == len(stream.axes) - 1
    if not stream.layers or (stream.axes[at] != stream.features and not single):
        raise ModelError(f"axis must be the features, not {axis_text(stream.axes[at])}")
    return at


def softmax(call: Call) -> list[Value]:
    """ONNX ``Softmax`` over the features."""
    stream = call.stream()
    at = _feature_axis(call, stream, -1 if call.opset >= 13 else 1)
    if call.opset < 13 and any(stream.axes[at + 1 :]):
        # Before, all axes from this one on were taken together.
        raise ModelError("axis must be the last one before operator set 13")
    return [_function(call, stream, SOFTMAX)]


def arg_max(call: Call) -> list[Value]:
    """ONNX ``ArgMax`` over the features: the index of the first of the largest."""
    stream = call.stream()
    at = _feature_axis(call, stream, 0)
    if call.flag("select_last_index"):
        raise ModelError("select_last_index must be 0, not 1")
    keep = bool(call.attribute("keepdims", AttributeProto.INT, 1))
    axes = (*stream.axes[:at], *([()] if keep else []), *stream.axes[at + 1 :])
    return [replace(_function(call, stream, ARGMAX), axes=axes, features=(), directions=())]
