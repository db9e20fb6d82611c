"""The layers of a Keras model's description, and their settings, checked as they are read."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from typing import Any

from golden.model import ModelError

__all__ = ["Config", "Item", "flat_numbers", "input_shape", "items_of"]

MAX_LAYERS = 1000
"""Layers of a model."""

MAX_NAME = 1000
"""Characters of a layer's name."""

OWN_MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "builtins")
"""Where the layers come from that Keras itself has."""


def _snake(name: str) -> str:
    """A class's name as Keras writes it in the paths of weights: ReLU is ``re_lu``."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Config:
    """The settings of a layer, each of the kind that it must be.

    Parameters
    ----------
    what : str
        The layer, for messages.
    values : dict
        As in the file.

    Raises
    ------
    ModelError
        By every method, if a setting is not of its kind.
    """

    def __init__(self, what: str, values: dict[str, Any]) -> None:
        self.what = what
        self.values = values

    def _fail(self, key: str, kind: str) -> ModelError:
        return ModelError(f"{self.what}: '{key}' must be {kind}, not {self.values.get(key)!r:.80}")

    def get(self, key: str) -> Any:
        """A setting of any kind, None where it is absent."""
        return self.values.get(key)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self._fail(key, "true or false")
        return value

    def positive(self, key: str) -> int:
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._fail(key, "a positive integer")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.values.get(key, default)
        if not _is_number(value):
            raise self._fail(key, "a finite number")
        return float(value)

    def numbers(self, key: str, default: Any = None) -> list[float] | float:
        """A number or a flat list of them; one in nested lists of one element counts as its own."""
        found = flat_numbers(self.values.get(key, default))
        if found is None:
            raise self._fail(key, "a finite number or a list of them")
        return found

    def integers(self, key: str, default: Any = None) -> list[int]:
        """An integer or a list of them, as a list."""
        value = self.values.get(key, default)
        value = value if isinstance(value, list) else [value]
        if any(not isinstance(each, int) or isinstance(each, bool) for each in value):
            raise self._fail(key, "an integer or a list of them")
        return list(value)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self._fail(key, "a text")
        return value

    def child(self, key: str) -> Item:
        """The layer that this one wraps."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self._fail(key, "a layer")
        return _item(value, key)


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    # An integer may be beyond any float.
    return abs(value) <= sys.float_info.max if isinstance(value, int) else math.isfinite(value)


def flat_numbers(value: Any) -> list[float] | float | None:
    """A number, or the list of a vector, which may be in lists of one element; None for others."""
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if _is_number(value):
        return float(value)
    if not isinstance(value, list) or not value or not all(map(_is_number, value)):
        return None
    return [float(each) for each in value]


@dataclass(frozen=True)
class Item:
    """A layer of a model's description.

    Parameters
    ----------
    kind, name : str
        Its class and its own name.
    config : Config
    place : str
        Where an archive has its weights.
    operands : tuple
        What an operation is called with: None for the tensor, and the constants.
    """

    kind: str
    name: str
    config: Config
    place: str = ""
    operands: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"layer '{self.name}' ({self.kind})"


def _item(entry: Any, what: str, place: str = "") -> Item:
    """A layer from its entry in the description."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise ModelError(f"the model's description: {what} must have a class_name")
    kind = entry["class_name"]
    config = entry.get("config")
    if not isinstance(config, dict):
        raise ModelError(f"the model's description: {what} must have a config")
    name = entry.get("name") or config.get("name") or what
    if not isinstance(name, str) or max(len(name), len(kind)) > MAX_NAME:
        raise ModelError(f"the model's description: the name and class of {what} must be texts of "
                         f"at most {MAX_NAME} characters")
    item = Item(kind, name, Config(f"layer '{name}' ({kind})", config), place)
    module = entry.get("module")
    registered = entry.get("registered_name")
    if (isinstance(module, str) and not _own(module)) or (
        isinstance(registered, str) and ">" in registered
    ):
        raise ModelError(f"{item} is not one of Keras's own layers, but of "
                         f"'{registered if module is None else module}'")
    return item


def _own(module: str) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in OWN_MODULES)


def items_of(entries: Any) -> list[Item]:
    """The layers of a description's list, each with the place of its weights in an archive."""
    if not isinstance(entries, list) or not entries:
        raise ModelError("the model's description has no list of layers")
    if len(entries) > MAX_LAYERS:
        raise ModelError(f"a model must have at most {MAX_LAYERS} layers, not {len(entries)}")
    items = []
    used: dict[str, int] = {}
    for number, entry in enumerate(entries):
        kind = entry.get("class_name") if isinstance(entry, dict) else None
        base = _snake(kind) if isinstance(kind, str) else ""
        count = used.get(base, 0)
        used[base] = count + 1
        place = f"layers/{base}_{count}" if count else f"layers/{base}"
        items.append(_item(entry, f"layer {number}", place))
    return items


def input_shape(item: Item) -> list[int | None]:
    """The shape that an input layer, or any layer of Keras 2, says of the model's input."""
    shape = item.config.get("batch_shape") or item.config.get("batch_input_shape")
    if shape is None:
        return []
    if not isinstance(shape, list) or any(
        size is not None and (not isinstance(size, int) or isinstance(size, bool))
        for size in shape
    ):
        raise ModelError(f"{item}: the shape must be a list of sizes, not {shape!r:.80}")
    return shape
