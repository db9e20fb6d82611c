"""Reading of ONNX files that may be broken, or made to harm.

Nothing is read but the file itself and, beside it, the weights that it keeps in other files; sizes
are bounded before anything is made of them.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.external_data_helper import load_external_data_for_tensor

from golden.model import ModelError

__all__ = ["MAX_BYTES", "MAX_NODES", "read"]

MAX_BYTES = 2**30
"""Of a file, and of all weights that it keeps in others."""

MAX_NODES = 50_000
"""Of a graph, those of functions counted wherever they are called."""

MAX_TENSORS = 50_000
"""Of the weights of a graph, inputs and outputs."""

OLDEST_OPSET = 7
"""The first version of the operator set with today's LSTM and with today's broadcasting."""


def read(path: Path) -> tuple[ModelProto, int]:
    """Parse a file, load what it keeps in others of its folder, and expand its functions.

    Returns
    -------
    model : ModelProto
    opset : int
        The version of the operator set.

    Raises
    ------
    ModelError
        If the file cannot be read, is no model, or is too large.
    """
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise ModelError("the file must be a regular one")
        if status.st_size > MAX_BYTES:
            raise ModelError(f"the file must have at most {MAX_BYTES} bytes, not {status.st_size}")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the file cannot be read: {error.strerror}") from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own, which the onnx package does not name
        raise ModelError("not an ONNX file") from error
    if not model.HasField("graph") or not model.graph.node:
        raise ModelError("not an ONNX file, or one without any operators")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if not OLDEST_OPSET <= opset <= onnx.defs.onnx_opset_version():
        raise ModelError(
            f"the operator set version must be in {OLDEST_OPSET} .. "
            f"{onnx.defs.onnx_opset_version()}, not {opset}"
        )
    model = _expanded(model)
    _check_graph(model.graph)
    _read_externals(model.graph, path.parent)
    return model, opset


def _check_graph(graph: GraphProto) -> None:
    """Bounds, and one writer for each tensor."""
    if graph.sparse_initializer:
        raise ModelError("sparse weights are not supported")
    if len(graph.node) > MAX_NODES:
        raise ModelError(f"the graph must have at most {MAX_NODES} nodes, not {len(graph.node)}")
    count = len(graph.initializer) + len(graph.input) + len(graph.output)
    if count > MAX_TENSORS:
        raise ModelError(
            f"the graph must have at most {MAX_TENSORS} weights, inputs and outputs, not {count}"
        )
    written = {tensor.name for tensor in graph.initializer}
    if len(written) < len(graph.initializer):
        raise ModelError("two weights of the graph have the same name")
    for name in (name for node in graph.node for name in node.output if name):
        if name in written:
            raise ModelError(f"tensor '{name}' must be written once only")
        written.add(name)


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _expanded(model: ModelProto) -> ModelProto:
    """The model with its own functions written out where they are called.

    The onnx package does this, but follows functions that call themselves without end.
    """
    functions = {(each.domain, each.name): each for each in model.functions}
    if not functions:
        return model
    if len(functions) < len(model.functions):
        raise ModelError("two functions of the model have the same name")
    sizes: dict[tuple[str, str], int] = {}
    open_calls: set[tuple[str, str]] = set()

    def size(nodes: Iterable[NodeProto]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            total += 1 + sum(size(graph.node) for graph in _graphs(node))
            if key in functions:
                if key in open_calls or len(open_calls) > 100:
                    raise ModelError(f"function '{node.op_type}' must not call itself")
                if key not in sizes:
                    open_calls.add(key)
                    sizes[key] = size(functions[key].node)
                    open_calls.remove(key)
                total += sizes[key]
        return total

    total = size(model.graph.node)
    if total > MAX_NODES:
        raise ModelError(
            f"the graph must have at most {MAX_NODES} nodes with its functions, not {total}"
        )
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(model)
    except Exception as error:  # the onnx package's own, of several types
        raise ModelError("the model's functions cannot be expanded") from error


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t


def _read_externals(graph: GraphProto, folder: Path) -> None:
    """Load the weights that are in other files of the folder."""
    left = MAX_BYTES
    for tensor in _tensors(graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            left -= _read_external(tensor, folder.resolve(), left)


def _read_external(tensor: TensorProto, root: Path, left: int) -> int:
    """Load one tensor; the bytes that it has."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = entries.get("location", "")
    # A model file must not be able to pull in files from elsewhere on the machine, nor through a
    # link from its own folder.
    try:
        target = (root / place).resolve()
        inside = bool(place) and target.is_relative_to(root)
        size = target.stat().st_size if inside and target.is_file() else None
    except (OSError, RuntimeError, ValueError):
        inside, size = bool(place) and "\0" not in place, None
    if not inside:
        raise ModelError(
            f"the external data of tensor '{tensor.name}' must be in the model's folder, not at "
            f"'{place}'"
        )
    what = f"the external data of tensor '{tensor.name}'"
    if size is None:
        raise ModelError(f"{what} cannot be read from '{place}'")
    length = entries.get("length", str(size))
    count = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else -1
    if not 0 <= count <= min(size, left):
        if count > left or (count == size and size > left):
            raise ModelError(f"the weights in other files must have at most {MAX_BYTES} bytes")
        raise ModelError(f"{what} cannot be read from '{place}'")
    try:
        load_external_data_for_tensor(tensor, str(root))
    except Exception as error:  # the onnx package raises its own and the system's errors here
        raise ModelError(f"{what} cannot be read from '{place}'") from error
    tensor.data_location = TensorProto.DEFAULT
    return len(tensor.raw_data)
