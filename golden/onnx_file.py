"""Read a trained LSTM network from an ONNX file.

The graph is walked once, in its own order, and every tensor is followed by what it means
(`golden.onnx_values`): the input and what becomes of it, constants, tensors of sizes, initial
states.  The operators are those of the ONNX specification, https://onnx.ai/onnx/operators/.  What
is not understood, and matters to the output, is refused: a `ModelError` names the file, the
operator and the value in one sentence.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto

from golden.model import ModelError, Network, TrainedModel, reading
from golden.onnx_aside import aside, unknown
from golden.onnx_call import Call, node_text
from golden.onnx_constants import FOLDED, MAX_ELEMENTS, tensor_array
from golden.onnx_operators import FOREIGN, OPERATORS, REFUSED
from golden.onnx_read import read
from golden.onnx_result import result
from golden.onnx_values import (
    MAX_AXES,
    Atom,
    Axis,
    Constant,
    Lengths,
    Opaque,
    Setting,
    Sizes,
    Stack,
    Stream,
    Value,
)

__all__ = ["load"]

DATA_TYPES = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
)

DEFAULT = ("", "ai.onnx")
"""The names of the domain of ONNX's own operators."""

RECURRENT = ("LSTM", "DynamicQuantizeLSTM")

ASIDE = {
    **{(kind, index): "setting" for kind in RECURRENT for index in (5, 6)},
    **{(kind, 4): "lengths" for kind in RECURRENT},
    ("ReverseSequence", 1): "lengths",
}
"""Operators' inputs that are not data, by what they are instead."""


def load(path: str | Path) -> TrainedModel:
    """Read a network from an ONNX file.

    The file must describe LSTM layers, of one or two directions and with whatever the operator
    allows, and behind them, where it has some, dense layers; transposes, reshapes and the like
    around them are followed, and scalings and normalisations by constants taken into the weights.
    Its outputs may be every step's or the last one's and, beside it, final states.  Whatever the
    order of batch and time in the file's own input and output, the network takes x as
    [batch, time, features].

    Parameters
    ----------
    path : str or Path
        The file; weights stored outside of it must be in its folder.

    Returns
    -------
    TrainedModel
        The float model, weights as stored, in float64.

    Raises
    ------
    ModelError
        If the file cannot be read, is not an ONNX model, or is not such a network.
    """
    with reading(path):
        model, opset = read(Path(path))
        walk = _Walk(model, opset)
        network = walk.network()
    return TrainedModel(
        network=network, source=f"ONNX, operator set {opset}", notes=tuple(walk.notes)
    )


def _determined(value: Value) -> Value:
    """The value, as a constant where it is sizes that are all known."""
    if not isinstance(value, Sizes):
        return value
    known = [item for item in value.items if isinstance(item, int)]
    if len(known) < len(value.items):
        return value
    array = np.array(known, dtype=np.int64)
    return Constant(array=array.reshape(()) if value.scalar else array)


class _Walk:
    """The values of a graph's tensors, found by walking over its nodes."""

    def __init__(self, model: onnx.ModelProto, opset: int) -> None:
        self.graph = model.graph
        self.opset = opset
        self.notes: list[str] = []
        self.values: dict[str, Value] = {
            tensor.name: Constant(array=tensor_array(tensor)) for tensor in self.graph.initializer
        }
        self.inputs = [i for i in self.graph.input if i.name not in self.values]
        self.left = 4 * MAX_ELEMENTS

    def network(self) -> Network:
        """Walk over the nodes that the outputs need, and return what these then mean."""
        if not self.graph.output:
            raise ModelError("the model must have an output")
        needed = self._needed()
        roles = self._roles(needed)
        for value in self.inputs:
            self.values[value.name] = self._input(value, roles.get(value.name, "data"))
        data = [v for v in self.inputs if isinstance(self.values[v.name], Stream | Opaque)]
        if len(data) != 1:
            names = ", ".join(f"'{value.name}'" for value in data)
            raise ModelError(
                f"the model must have one input beside states and lengths, not {len(data)}"
                + (f": {names}" if names else "")
            )
        for node in needed:
            # Looked for before all else: what is around a loop is often not understood either.
            if node.op_type in REFUSED and node.domain in DEFAULT:
                raise ModelError(f"{node_text(node)}: {REFUSED[node.op_type]}")
        for node in needed:
            try:
                self._step(node)
            except ModelError as error:
                raise ModelError(f"{node_text(node)}: {error}") from error.__cause__
            except ValueError as error:  # of the float model's own checks
                raise ModelError(f"{node_text(node)}: {error}") from error
            except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError) as error:
                raise ModelError(
                    f"{node_text(node)}: its inputs and attributes are not what the operator has"
                ) from error
        outputs = [(each.name, self.values.get(each.name)) for each in self.graph.output]
        try:
            return result(outputs, self.notes)
        except ModelError:
            raise
        except ValueError as error:
            raise ModelError(str(error)) from error

    def _input(self, value: ValueInfoProto, role: str) -> Value:
        """The value of a graph input: axes of its own, of size 1 where it is fixed to that."""
        tensor = value.type.tensor_type
        if role == "lengths":
            return Lengths(name=value.name)
        if role == "setting":
            dims = tensor.shape.dim[:MAX_AXES]
            known = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in dims)
            return Setting(name=value.name, shape=known if tensor.HasField("shape") else None)
        if tensor.elem_type not in DATA_TYPES or not tensor.HasField("shape"):
            return Opaque(what=f"input '{value.name}', which is not a float tensor of known rank")
        if len(tensor.shape.dim) > MAX_AXES:
            return Opaque(what=f"input '{value.name}', which has more than {MAX_AXES} axes")
        axes: list[Axis] = []
        for number, dim in enumerate(tensor.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value == 1:
                axes.append(())
                continue
            name = f"axis {number} of input '{value.name}'"
            if dim.HasField("dim_value") and dim.dim_value > 1:
                axes.append((Atom(name=f"{name} (size {dim.dim_value})", size=dim.dim_value),))
            else:
                axes.append((Atom(name=name, size=None),))
        return Stream(axes=tuple(axes))

    def _needed(self) -> list[NodeProto]:
        """The nodes that the outputs depend on, in the order of the graph."""
        wanted = {output.name for output in self.graph.output}
        nodes = []
        for node in reversed(self.graph.node):
            if wanted.intersection(node.output):
                nodes.append(node)
                wanted.update(name for name in node.input if name)
        return nodes[::-1]

    def _roles(self, needed: list[NodeProto]) -> dict[str, str]:
        """What the tensors are to the LSTMs: data before all, or states to begin with, or lengths.

        Found from the outputs back, so that an input may pass through slices on its way.
        """
        order = ("lengths", "setting", "data")
        roles = {output.name: "data" for output in self.graph.output}

        def mark(name: str, role: str) -> None:
            if name and order.index(role) >= order.index(roles.get(name, "lengths")):
                roles[name] = role

        for node in reversed(needed):
            given = max((roles.get(name, "lengths") for name in node.output), key=order.index)
            for index, name in enumerate(node.input):
                mark(name, ASIDE.get((node.op_type, index), given))
        return roles

    def _step(self, node: NodeProto) -> None:
        """Find the outputs of one node."""
        inputs: list[Value | None] = []
        for name in node.input:
            if name and name not in self.values:
                raise ModelError(f"reads '{name}', which nothing before it writes")
            inputs.append(self.values[name] if name else None)
        call = Call(node, inputs, self.opset, self.notes)
        for name, value in zip(node.output, self._outputs(call), strict=False):
            if name:
                self.values[name] = _determined(value)
                self._count(value)

    def _count(self, value: Value) -> None:
        """Bound what a file can make of its weights by using them again and again."""
        if isinstance(value, Constant):
            self.left -= value.array.size
        elif isinstance(value, Stream) and value.layers:
            self.left -= sum(each.w_x.size + each.w_h.size for each in value.layers[-1].directions)
            self.left -= value.head[-1].w.size if value.head else 0
        if self.left < 0:
            raise ModelError(f"the model must have at most {4 * MAX_ELEMENTS} weights")

    def _outputs(self, call: Call) -> list[Value]:
        node = call.node
        foreign = FOREIGN.get((node.domain, node.op_type))
        if foreign is not None:
            return foreign(call)
        if node.domain not in DEFAULT:
            raise ModelError("the operator is not supported")
        present = [value for value in call.inputs if value is not None]
        if node.op_type in FOLDED and all(isinstance(value, Constant) for value in present):
            return [Constant(array=array) for array in FOLDED[node.op_type](call)]
        if node.op_type == "LSTM" or any(isinstance(v, Stream | Stack) for v in present):
            if node.op_type not in OPERATORS:
                raise ModelError("the operator is not supported")
            return OPERATORS[node.op_type](call)
        known = aside(call)
        if known is None and node.op_type in OPERATORS:
            with suppress(ModelError):
                known = OPERATORS[node.op_type](call)
        return [unknown(call)] * len(node.output) if known is None else known
