"""Read a trained LSTM network from an ONNX file.

The graph is walked once, in its own order, and every tensor is followed by what it means
(`golden.onnx_axes`): the input and what becomes of it, constants, tensors of sizes, zeros.  The
operators are those of the ONNX specification, https://onnx.ai/onnx/operators/.  What is not
understood, and matters to the output, is refused: a `ModelError` names the file, the operator and
the value in one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto
from onnx.external_data_helper import load_external_data_for_tensor

from golden.model import ModelError, Network
from golden.onnx_axes import (
    Atom,
    Constant,
    Opaque,
    Stack,
    Stream,
    Value,
    Zeros,
    axes_text,
)
from golden.onnx_call import Call, is_zero
from golden.onnx_constants import FOLDED, tensor_array
from golden.onnx_operators import OPERATORS

__all__ = ["load"]

OLDEST_OPSET = 7
"""The first version of the operator set with today's LSTM and with today's broadcasting."""

DATA_TYPES = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
)


def load(path: str | Path) -> Network:
    """Read a network from an ONNX file.

    The file must describe one or several forward LSTM layers from zero initial states and, where
    it has one, a dense layer, on the last step or on every step; transposes, reshapes and the like
    around them are followed.  Whatever the order of batch and time in the file's own input and
    output, the network takes x as [batch, time, features].

    Parameters
    ----------
    path : str or Path
        The file; weights stored outside of it must be in its folder.

    Returns
    -------
    Network
        The float model, weights as stored, in float64.

    Raises
    ------
    ModelError
        If the file cannot be read, is not an ONNX model, or is not such a network.
    """
    try:
        model = _read(Path(path))
        return _Walk(model).network()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error.__cause__


def _read(path: Path) -> onnx.ModelProto:
    """Parse the file and load what it keeps in others of its folder."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the file cannot be read: {error.strerror}") from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own, which the onnx package does not name
        raise ModelError("not an ONNX file") from error
    if not model.HasField("graph") or not model.graph.node:
        raise ModelError("not an ONNX file, or one without any operators")
    if model.graph.sparse_initializer:
        raise ModelError("sparse weights are not supported")
    for tensor in _tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            _read_external(tensor, path.parent)
    return model


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t


def _read_external(tensor: TensorProto, folder: Path) -> None:
    places = [entry.value for entry in tensor.external_data if entry.key == "location"]
    place = places[0] if places else ""
    root = folder.resolve()
    # A model file must not be able to pull in files from elsewhere on the machine.
    if not place or not (root / place).resolve().is_relative_to(root):
        raise ModelError(
            f"the external data of tensor '{tensor.name}' must be in the model's folder, not at "
            f"'{place}'"
        )
    try:
        load_external_data_for_tensor(tensor, str(root))
    except Exception as error:  # the onnx package raises its own and the system's errors here
        raise ModelError(
            f"the external data of tensor '{tensor.name}' cannot be read from '{place}'"
        ) from error
    tensor.data_location = TensorProto.DEFAULT


def _node_text(node: NodeProto) -> str:
    """A node for messages, by its operator and its name or, without one, its first output."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if node.name:
        return f"{operator} node '{node.name}'"
    return f"{operator} node of output '{next(iter(node.output), '')}'"


class _Walk:
    """The values of a graph's tensors, found by walking over its nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        versions = {entry.domain: entry.version for entry in model.opset_import}
        self.opset = versions.get("", versions.get("ai.onnx", 0))
        if not OLDEST_OPSET <= self.opset <= onnx.defs.onnx_opset_version():
            raise ModelError(
                f"the operator set version must be in {OLDEST_OPSET} .. "
                f"{onnx.defs.onnx_opset_version()}, not {self.opset}"
            )
        self.values: dict[str, Value] = {
            tensor.name: Constant(array=tensor_array(tensor)) for tensor in self.graph.initializer
        }
        self.inputs = [i for i in self.graph.input if i.name not in self.values]

    def network(self) -> Network:
        """Walk over the nodes that the output needs, and return what it then means."""
        if len(self.graph.output) != 1:
            names = ", ".join(f"'{output.name}'" for output in self.graph.output)
            raise ModelError(
                f"the model must have one output, not {len(self.graph.output)}"
                + (f": {names}" if names else "")
            )
        for value in self.inputs:
            self.values[value.name] = self._input(value)
        for node in self._needed():
            try:
                self._step(node)
            except ModelError as error:
                raise ModelError(f"{_node_text(node)}: {error}") from error.__cause__
        if len(self.inputs) != 1:
            names = ", ".join(f"'{value.name}'" for value in self.inputs)
            raise ModelError(
                f"the model must have one input, not {len(self.inputs)}"
                + (f": {names}" if names else "")
            )
        return self._result(self.graph.output[0].name)

    def _input(self, value: onnx.ValueInfoProto) -> Value:
        """The value of a graph input: axes of its own, of size 1 where it is fixed to that."""
        tensor = value.type.tensor_type
        if tensor.elem_type not in DATA_TYPES or not tensor.HasField("shape"):
            return Opaque(what=f"input '{value.name}', which is not a float tensor of known rank")
        axes: list[tuple[Atom, ...]] = []
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
        """The nodes that the output depends on, in the order of the graph."""
        wanted = {self.graph.output[0].name}
        nodes = []
        for node in reversed(self.graph.node):
            if wanted.intersection(node.output):
                nodes.append(node)
                wanted.update(name for name in node.input if name)
        return nodes[::-1]

    def _step(self, node: NodeProto) -> None:
        """Find the outputs of one node."""
        inputs: list[Value | None] = []
        for name in node.input:
            if name and name not in self.values:
                raise ModelError(f"reads '{name}', which nothing before it writes")
            inputs.append(self.values[name] if name else None)
        if node.domain not in ("", "ai.onnx"):
            raise ModelError("the operator is not supported")
        present = [value for value in inputs if value is not None]
        if node.op_type in FOLDED and all(isinstance(value, Constant) for value in present):
            array = FOLDED[node.op_type](Call(node, inputs, self.opset))
            results: list[Value] = [Constant(array=array)]
        elif node.op_type == "LSTM" or any(isinstance(v, Stream | Stack) for v in present):
            if node.op_type not in OPERATORS:
                raise ModelError("the operator is not supported")
            results = OPERATORS[node.op_type](Call(node, inputs, self.opset))
        else:
            results = [self._aside(node, inputs)] * len(node.output)
        for name, result in zip(node.output, results, strict=False):
            if name:
                self.values[name] = result

    def _aside(self, node: NodeProto, inputs: list[Value | None]) -> Value:
        """A node that computes sizes, or zeros for an initial state, from no part of the stream.

        What is not understood here matters only if the stream depends on it, and is refused then.
        """
        zeros = bool(inputs) and inputs[0] is not None and is_zero(inputs[0])
        shaping = ("Expand", "Gather", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
        if zeros and node.op_type in (*shaping, "Cast", "Identity"):
            return Zeros()
        if node.op_type == "Concat" and all(v is not None and is_zero(v) for v in inputs):
            # Of sizes there is no such thing as all zeros, so that these are the states'.
            return Zeros()
        for value in inputs:
            if isinstance(value, Opaque):
                return value
        if node.op_type in OPERATORS:
            try:
                return OPERATORS[node.op_type](Call(node, inputs, self.opset))[0]
            except ModelError:
                pass
        return Opaque(what=f"what the {_node_text(node)} computes")

    def _result(self, name: str) -> Network:
        """The network, from what the graph's output is."""
        stream = self.values.get(name)
        if isinstance(stream, Opaque):
            raise ModelError(f"output '{name}' must come from an LSTM, not from {stream.what}")
        if isinstance(stream, Stack):
            raise ModelError(f"output '{name}' must come from one LSTM, not several layers' states")
        if not isinstance(stream, Stream) or not stream.layers:
            raise ModelError(f"output '{name}' must come from an LSTM")
        order = [axis for axis in stream.axes if axis]
        if any(len(axis) > 1 for axis in order) or (
            stream.features and (not order or order[-1] != stream.features)
        ):
            raise ModelError(
                f"output '{name}' must have the features as its last axis and no merged axes, "
                f"but its axes are {axes_text(stream.axes)}"
            )
        return Network(layers=stream.layers, head=stream.head, every_step=not stream.last)
