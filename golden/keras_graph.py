"""A Keras model's description as a chain of layers, from the input to the first output.

Both models of the ``Sequential`` kind and functional ones are read, with the nodes of the latter
as Keras 3 writes them (``__keras_tensor__``) and as Keras 2 did (lists).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from golden.keras_config import Item, input_shape, items_of
from golden.model import ModelError

__all__ = ["ARITHMETIC", "PICKS", "Chain", "chain_of"]

JOINED = {(1, 3): "h", (2, 4): "c"}
"""What a Concatenate makes of a Bidirectional layer's final states, by the numbers of its outputs:
0 is y, 1 and 2 are the forward h and c, 3 and 4 the backward ones."""

ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide")
"""Operations that a functional model of Keras 3 may have with a constant."""

PICKS = ("GetItem", "SlicingOpLambda")
"""Indexing, in Keras 3 and in Keras 2."""

CONSTANTS = ("__numpy__", "__tensor__")
"""Arrays in a description."""


@dataclass(frozen=True)
class Chain:
    """The layers between the input and the first output, and what the other outputs are.

    Parameters
    ----------
    items : tuple of Item
        In the order in which the data goes through them.
    taken : tuple
        Which output of each is used: 0 is its own, others are final states; ``"h"`` are both
        directions' hidden states, joined.
    states : tuple of (str, int or str)
        The other outputs of the model, each a layer's name and which output of it.
    shape : list
        Of the input, batch first, None where it is not fixed; empty where it is not said.
    """

    items: tuple[Item, ...]
    taken: tuple[int | str, ...]
    states: tuple[tuple[str, int | str], ...]
    shape: list[int | None]


def chain_of(description: dict[str, Any]) -> Chain:
    """The chain of layers of a model's description.

    Raises
    ------
    ModelError
        If the model is neither sequential nor functional, or no such chain.
    """
    kind, config = description.get("class_name"), description.get("config")
    if kind == "Sequential":
        # The first releases of Keras 2 had the layers in the place of the config.
        entries = config.get("layers") if isinstance(config, dict) else config
        items = items_of(entries)
        shape = input_shape(items[0])
        chain = [item for item in items if item.kind != "InputLayer"]
        return Chain(tuple(chain), (0,) * len(chain), (), shape)
    if kind not in ("Functional", "Model") or not isinstance(config, dict):
        raise ModelError(f"the model must be a Sequential or a functional one, not {kind!r:.80}")
    return _Graph(config).chain()


TENSOR = "__keras_tensor__"

Reference = tuple[str, int]
"""A layer's name and which of its outputs."""


class _Graph:
    """The nodes of a functional model."""

    def __init__(self, config: dict[str, Any]) -> None:
        entries = config.get("layers")
        self.items: dict[str, Item] = {}
        self.nodes: dict[str, Any] = {}
        for item, entry in zip(items_of(entries), entries or [], strict=True):
            if item.name in self.items:
                raise ModelError(f"{item}: another layer has the same name")
            self.items[item.name] = item
            self.nodes[item.name] = entry.get("inbound_nodes", [])
        self.inputs = self._ends(config, "input_layers")
        self.outputs = self._ends(config, "output_layers")
        if len(self.inputs) != 1:
            names = ", ".join(f"'{name}'" for name, _ in self.inputs)
            raise ModelError(f"the model must have one input, not {len(self.inputs)}: {names}")

    def _ends(self, config: dict[str, Any], key: str) -> list[Reference]:
        """The model's inputs or outputs."""
        value = config.get(key)
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list) and value and isinstance(value[0], str):
            value = [value]
        if not isinstance(value, list) or not value:
            raise ModelError(f"the model's description: '{key}' must be a list of layers")
        return [self._reference(each, f"'{key}'") for each in value]

    def _reference(self, value: Any, what: str) -> Reference:
        """A tensor from its layer's name and the numbers of the node and the output."""
        if (
            not isinstance(value, list) or len(value) < 3
            or not isinstance(value[0], str) or value[0] not in self.items
            or not all(isinstance(n, int) and not isinstance(n, bool) for n in value[1:3])
        ):
            raise ModelError(f"the model's description: {what} must name a layer and two numbers, "
                             f"not {value!r:.80}")
        if value[1] != 0:
            raise ModelError(f"{self.items[value[0]]} is applied more than once, which is not "
                             "supported")
        return value[0], value[2]

    def _options(self, item: Item, options: Any) -> None:
        """Check what a layer is called with besides its input."""
        if not isinstance(options, dict):
            raise ModelError(f"{item}: the arguments of its call must be a JSON object")
        for key, value in options.items():
            if value is None or (key == "training" and value is False):
                continue
            hint = {
                "initial_state": "; an LSTM must begin with zeros",
                "mask": "; lengths are given with the data",
                "training": "; what is left to chance cannot be computed",
            }.get(key, "")
            raise ModelError(f"{item} is called with '{key}'{hint}")

    def _sources(self, item: Item) -> tuple[list[Reference], tuple[Any, ...]]:
        """The tensors that a layer reads, and an operation's operands."""
        nodes = self.nodes[item.name]
        if not isinstance(nodes, list) or len(nodes) != 1:
            count = len(nodes) if isinstance(nodes, list) else nodes
            raise ModelError(f"{item} must be applied once, not {count!r:.80} times")
        node = nodes[0]
        if isinstance(node, list):  # Keras 2
            return self._listed(item, [node] if node and isinstance(node[0], str) else node)
        if not isinstance(node, dict) or not isinstance(node.get("args"), list):
            raise ModelError(f"{item}: its node must have 'args'")
        self._options(item, node.get("kwargs", {}))
        found: list[Reference] = []
        operands: list[Any] = []
        for number, value in enumerate(node["args"]):
            kind = value.get("class_name") if isinstance(value, dict) else None
            if (item.kind in ARITHMETIC and kind != TENSOR) or (item.kind in PICKS and number):
                operands.append(value["config"].get("value")
                                if kind in CONSTANTS and isinstance(value.get("config"), dict)
                                else value)
                continue
            operands.append(None)
            for each in value if isinstance(value, list) else [value]:
                if each is None:
                    continue
                config = each.get("config") if isinstance(each, dict) else None
                if not isinstance(config, dict) or each.get("class_name") != TENSOR:
                    raise ModelError(f"{item} is called with {each!r:.80}, which is not a tensor")
                found.append(self._reference(config.get("keras_history"), f"a node of {item}"))
        return found, tuple(operands)

    def _listed(self, item: Item, node: list[Any]) -> tuple[list[Reference], tuple[Any, ...]]:
        """As :meth:`_sources`, from a node of Keras 2."""
        found = []
        operands: tuple[Any, ...] = ()
        for each in node:
            found.append(self._reference(each, f"a node of {item}"))
            options = each[3] if len(each) > 3 else {}
            if item.kind in PICKS and isinstance(options, dict):
                operands = (None, options.get("slice_spec"))
            else:
                self._options(item, options)
        return found, operands

    def _joined(self, item: Item) -> tuple[str, str]:
        """The layer whose final states a Concatenate joins, and which of them."""
        sources, _ = self._sources(item)
        names = {name for name, _ in sources}
        state = JOINED.get(tuple(number for _, number in sources))  # type: ignore[arg-type]
        if (
            len(names) != 1 or state is None or item.config.integers("axis", -1) not in ([-1], [1])
            or self.items[sources[0][0]].kind != "Bidirectional"
        ):
            raise ModelError(f"{item} may join only the forward and the backward final state of "
                             "one Bidirectional layer, in this order")
        return sources[0][0], state

    def chain(self) -> Chain:
        items: list[Item] = []
        taken: list[int | str] = []
        name, number = self.outputs[0]
        which: int | str = number
        while (item := self.items[name]).kind != "InputLayer":
            if item.kind == "Concatenate":
                name, which = self._joined(item)
                continue
            if any(item.name == each.name for each in items):
                raise ModelError(f"{item} reads what comes of its own output")
            sources, operands = self._sources(item)
            items.append(replace(item, operands=operands))
            taken.append(which)
            if len(sources) != 1:
                hint = ("; initial states from other layers are not supported"
                        if item.kind in ("LSTM", "Bidirectional", "RNN") else "")
                raise ModelError(f"{item} must read one tensor, not {len(sources)}{hint}")
            name, which = sources[0]
        if name != self.inputs[0][0]:
            raise ModelError(f"{item} must be the model's input, '{self.inputs[0][0]}'")
        states = []
        for name, number in self.outputs[1:]:
            item = self.items[name]
            states.append(self._joined(item) if item.kind == "Concatenate" else (name, number))
        shape = input_shape(self.items[self.inputs[0][0]])
        return Chain(tuple(items[::-1]), tuple(taken[::-1]), tuple(states), shape)
