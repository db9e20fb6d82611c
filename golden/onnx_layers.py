"""The ONNX operators that make up an LSTM network: ``LSTM``, ``Gemm``, ``MatMul`` and ``Add``.

Each function takes a `Call` and returns the values of the operator's outputs, or raises a
`ModelError` that names the rule and the value.  https://onnx.ai/onnx/operators/ defines them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto

from golden.lstm import LSTM
from golden.model import Dense, ModelError
from golden.onnx_axes import Atom, Axis, Opaque, Stream, Value, axes_text, axis_text
from golden.onnx_call import Call, is_zero

__all__ = ["add", "gemm", "lstm", "matmul"]

LAYOUT_OPSET = 14
"""The version of the operator set from which an LSTM has the attribute 'layout'."""

DEFAULT_ACTIVATIONS = ["sigmoid", "tanh", "tanh"]


def _check_lstm_attributes(call: Call) -> bool:
    """Refuse every variant of the LSTM but the plain one; whether batch comes before time."""
    direction = call.attribute("direction", AttributeProto.STRING, "forward")
    if direction != "forward":
        raise ModelError(f"direction must be 'forward', not '{direction}'")
    activations = call.attribute("activations", AttributeProto.STRINGS)
    if activations is not None:
        names = [name.decode(errors="replace") for name in activations]
        if [name.lower() for name in names] != DEFAULT_ACTIVATIONS:
            raise ModelError(f"activations must be Sigmoid, Tanh, Tanh, not {', '.join(names)}")
    for name in ("activation_alpha", "activation_beta"):
        if call.attribute(name, AttributeProto.FLOATS):
            raise ModelError(f"attribute '{name}' is not supported")
    clip = call.attribute("clip", AttributeProto.FLOAT)
    if clip is not None:
        raise ModelError(f"attribute 'clip' is not supported, but it is {clip:g}")
    if call.attribute("input_forget", AttributeProto.INT, 0):
        raise ModelError("input_forget must be 0, not 1")
    layout = call.attribute("layout", AttributeProto.INT, 0)
    if layout not in ((0, 1) if call.opset >= LAYOUT_OPSET else (0,)):
        raise ModelError(f"layout must be 0 or, from operator set 14 on, 1, not {layout}")
    return bool(layout)


def _lstm_layer(call: Call) -> LSTM:
    """The weights of an LSTM node, in this package's order of the gates."""
    w, r = call.weights(1, "W"), call.weights(2, "R")
    if r.ndim != 3 or r.shape[0] != 1 or not r.size or r.shape[1] != 4 * r.shape[2]:
        raise ModelError(f"R must have the shape [1, 4H, H], not {list(r.shape)}")
    hidden = r.shape[2]
    if w.ndim != 3 or w.shape[:2] != (1, 4 * hidden) or not w.size:
        raise ModelError(f"W must have the shape [1, {4 * hidden}, N], not {list(w.shape)}")
    named = call.attribute("hidden_size", AttributeProto.INT, hidden)
    if named != hidden:
        raise ModelError(f"hidden_size must be {hidden}, as R has columns, not {named}")
    b = np.zeros((1, 8 * hidden)) if call.input(3) is None else call.weights(3, "B")
    if b.shape != (1, 8 * hidden):
        raise ModelError(f"B must have the shape [1, {8 * hidden}], not {list(b.shape)}")
    # ONNX orders the gates i, o, f, c and keeps the biases of W and R apart.
    blocks = np.arange(4 * hidden).reshape(4, hidden)
    order = blocks[[0, 2, 3, 1]].ravel()
    bias = b[0, : 4 * hidden] + b[0, 4 * hidden :]
    return LSTM(w_x=w[0][order], w_h=r[0][order], bias=bias[order])


def lstm(call: Call) -> list[Value]:
    """ONNX ``LSTM``: one plain forward layer; Y and Y_h are followed, Y_c is not."""
    batch_first = _check_lstm_attributes(call)
    if call.input(4) is not None:
        raise ModelError(f"sequence_lens must be absent, not '{call.name(4)}'")
    optional = (
        (5, "initial_h", "constant zeros"),
        (6, "initial_c", "constant zeros"),
        (7, "P (peepholes)", "absent or zeros"),
    )
    for index, what, rule in optional:
        value = call.input(index)
        if value is not None and not is_zero(value):
            raise ModelError(f"{what} must be {rule}, not '{call.name(index)}'")
    layer = _lstm_layer(call)
    stream = call.stream()
    if len(stream.axes) != 3:
        raise ModelError(f"X must have 3 axes, not {axes_text(stream.axes)}")
    time, batch, features = stream.axes
    if batch_first:
        time, batch = batch, time
    roles = "[batch, time, features]" if batch_first else "[time, batch, features]"
    if stream.layers:
        if stream.head:
            raise ModelError("an LSTM must not follow a dense layer")
        fits = (time, batch, features) == (stream.time, stream.batch, stream.features)
        fits = fits and not stream.last
    else:
        fits = len(time) == 1 and len(batch) <= 1 and len(features) <= 1
    if not fits:
        raise ModelError(
            f"X must be {roles}, with more than one step, but is {axes_text(stream.axes)}"
        )
    width = features[0].size if features else 1
    if width not in (None, layer.inputs):
        raise ModelError(f"W must take the {width} features of X, but takes {layer.inputs}")
    hidden: Axis = ()
    if layer.hidden > 1:
        hidden = (Atom(name=f"{layer.hidden} hidden units", size=layer.hidden),)
    state = replace(stream, layers=(*stream.layers, layer), time=time, batch=batch, features=hidden)
    every = (batch, time, (), hidden) if batch_first else (time, (), batch, hidden)
    final = (batch, (), hidden) if batch_first else ((), batch, hidden)
    return [
        replace(state, axes=every),
        replace(state, axes=final, last=True),
        Opaque(what="the final cell state of an LSTM"),
    ]


def _dense(stream: Stream, w: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Stream:
    """Apply a head of weights w, shape (O, H), to the last axis."""
    if not stream.layers:
        raise ModelError("a dense layer must come after the LSTM, not before it")
    if stream.head:
        raise ModelError("only one dense layer is supported, but this is the second")
    if not stream.axes or stream.axes[-1] != stream.features:
        last = axis_text(stream.axes[-1]) if stream.axes else "missing"
        raise ModelError(f"the last axis must be the LSTM's hidden units, but is {last}")
    hidden = stream.layers[-1].hidden
    if w.shape[1] != hidden or not w.size:
        raise ModelError(f"the weights must take {hidden} hidden units, but take {w.shape[1]}")
    outputs = w.shape[0]
    features: Axis = ()
    if outputs > 1:
        features = (Atom(name=f"{outputs} outputs", size=outputs),)
    return replace(
        stream,
        axes=(*stream.axes[:-1], features),
        features=features,
        head=(Dense(w=w, bias=np.zeros(outputs) if bias is None else bias),),
        open=bias is None,
    )


def _bias(array: NDArray[np.float64], outputs: int, rank: int) -> NDArray[np.float64]:
    """A bias that adds to the last axis alone, broadcast to all outputs."""
    wide = array.shape[-1] if array.ndim else 1
    if array.ndim > rank or array.size != wide or wide not in (1, outputs):
        raise ModelError(
            f"the bias must have {outputs} elements along the last axis, but its shape is "
            f"{list(array.shape)}"
        )
    return np.broadcast_to(array.reshape(-1), (outputs,)).copy()


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
        beta = call.attribute("beta", AttributeProto.FLOAT, 1.0)
        bias = _bias(call.weights(2, "C"), len(w), 2) * beta
    return [_dense(stream, w, bias)]


def matmul(call: Call) -> list[Value]:
    """ONNX ``MatMul`` by a constant, as a dense layer whose bias may follow."""
    stream = call.stream()
    w = call.weights(1, "B")
    if w.ndim != 2:
        raise ModelError(f"B must have 2 axes, not the shape {list(w.shape)}")
    if len(stream.axes) < 2:
        raise ModelError(f"A must have 2 axes or more, not {axes_text(stream.axes)}")
    return [_dense(stream, w.T, None)]


def add(call: Call) -> list[Value]:
    """ONNX ``Add`` of a constant, as the bias of a dense layer."""
    at = 0 if isinstance(call.input(0), Stream) else 1
    stream = call.stream(at)
    bias = call.weights(1 - at, "the other summand")
    if not stream.head or not stream.open or stream.axes[-1] != stream.features:
        raise ModelError("a sum is supported as the bias of a dense layer only")
    (head,) = stream.head
    values = _bias(bias, head.outputs, len(stream.axes))
    return [replace(stream, head=(Dense(w=head.w, bias=values),), open=False)]
