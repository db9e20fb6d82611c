"""One node of an ONNX graph with the values of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, helper

from golden.model import ModelError
from golden.onnx_values import Constant, Opaque, Stack, Stream, Value

__all__ = ["Call", "node_text"]


def node_text(node: NodeProto) -> str:
    """A node for messages, by its operator and its name or, without one, its first output."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if node.name:
        return f"{operator} node '{node.name}'"
    return f"{operator} node of output '{next(iter(node.output), '')}'"


class Call:
    """One node with the values of its inputs.

    Parameters
    ----------
    node : NodeProto
        The node.
    inputs : sequence of Value or None
        One for each of its inputs; None for those left out.
    opset : int
        Version of the operator set.
    notes : list of str
        Where what a user should know of this node is added.
    """

    def __init__(
        self, node: NodeProto, inputs: Sequence[Value | None], opset: int, notes: list[str]
    ) -> None:
        self.node = node
        self.inputs = list(inputs)
        self.opset = opset
        self.notes = notes
        self.attributes: dict[str, AttributeProto] = {a.name: a for a in node.attribute}

    def attribute(self, name: str, kind: int, default: Any = None) -> Any:
        """The value of an attribute, which must be of the type `kind`; text as str."""
        if name not in self.attributes:
            return default
        attribute = self.attributes[name]
        if attribute.type != kind or attribute.ref_attr_name:
            raise ModelError(f"attribute '{name}' must be of another type")
        value = helper.get_attribute_value(attribute)
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def flag(self, name: str, default: bool = False) -> bool:
        """An attribute that is 0 or 1."""
        value = self.attribute(name, AttributeProto.INT, int(default))
        if value not in (0, 1):
            raise ModelError(f"attribute '{name}' must be 0 or 1, not {value}")
        return bool(value)

    def note(self, text: str) -> None:
        """Tell something of this node, as the end of a sentence that it begins."""
        sentence = f"{node_text(self.node)} {text}"
        if sentence not in self.notes:
            self.notes.append(sentence)

    def input(self, index: int) -> Value | None:
        """An input, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def name(self, index: int) -> str:
        """The name of an input that is there."""
        return str(self.node.input[index])

    def stream(self, index: int = 0) -> Stream:
        """An input that must come from the model's input."""
        value = self.input(index)
        if isinstance(value, Stack):
            raise ModelError("the final states of several layers must be picked apart first")
        if isinstance(value, Opaque):
            raise ModelError(f"its data must come from the model's input, not from {value.what}")
        if not isinstance(value, Stream):
            raise ModelError(f"input {index} must come from the model's input")
        return value

    def constant(self, index: int, what: str) -> NDArray[np.generic] | None:
        """An input that must be a constant, or None where it is left out."""
        value = self.input(index)
        if value is None:
            return None
        if not isinstance(value, Constant):
            raise ModelError(f"{what} must be constant, not '{self.name(index)}'{_why(value)}")
        return value.array

    def integers(self, name: str, index: int) -> list[int] | None:
        """Integers that older operator sets give as an attribute and newer ones as an input."""
        listed = self.attribute(name, AttributeProto.INTS)
        if listed is not None:
            return [int(value) for value in listed]
        array = self.constant(index, f"'{name}'")
        if array is None:
            return None
        if array.dtype.kind not in "iu" or array.ndim > 1:
            raise ModelError(f"'{name}' must be integers, not {array.tolist()}")
        return [int(value) for value in np.atleast_1d(array)]

    def reduction(self) -> tuple[list[int] | None, bool]:
        """The axes that an operator sums or the like over, and whether they stay, of size 1.

        None is all axes; an empty list is none.
        """
        axes = self.integers("axes", 1) or None
        if axes is None and self.flag("noop_with_empty_axes"):
            axes = []
        return axes, self.flag("keepdims", True)

    def weights(self, index: int, what: str) -> NDArray[np.float64]:
        """A constant input that holds finite weights."""
        array = self.constant(index, what)
        if array is None:
            raise ModelError(f"{what} must be given")
        return self.numbers(array, what)

    def numbers(self, array: NDArray[np.generic], what: str) -> NDArray[np.float64]:
        """A float tensor in double precision, which must be finite."""
        if array.dtype.kind != "f":
            raise ModelError(f"{what} must be of a float type, not {array.dtype}")
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            at = tuple(int(k) for k in bad[0])
            raise ModelError(f"{what} must be finite, but element {list(at)} is {array[at]}")
        return array.astype(np.float64)


def _why(value: Value) -> str:
    return f", {value.what}" if isinstance(value, Opaque) else ""
