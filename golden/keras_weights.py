"""The structure of a network from a Keras file of weights alone.

Such a file has names and shapes only.  In Keras 3's (``.weights.h5``) the layers of each class are
numbered, so that their order among other classes' must follow from their shapes; those of Keras 2
list the layers in order.  What no file of weights says must be told: whether there is an output at
every step, and the activations of the dense layers.  The LSTM layers are taken to have Keras's
default functions, which a note tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from golden.keras_chain import network_of
from golden.keras_config import Config, Item
from golden.keras_graph import Chain
from golden.keras_layers import ArchiveWeights, Functions, LegacyWeights, Weights
from golden.keras_store import Store
from golden.model import ModelError, TrainedModel

__all__ = ["weights_only"]

MAX_PARTS = 16
"""LSTM layers, and dense layers, of a file of weights alone."""

SILENT = ("input", "dropout", "spatial_dropout", "gaussian_dropout", "gaussian_noise",
          "alpha_dropout")
"""What the names of layers begin with that change no output."""

ADVICE = "save the whole model instead, model.save('x.keras')"


@dataclass(frozen=True)
class _Part:
    """A layer with weights.

    Parameters
    ----------
    kind, name : str
        ``LSTM``, ``Bidirectional`` or ``Dense``; its group.
    inputs, units : int
    biased : bool
    place : str
        Of what is inside a wrapper, beyond the group.
    """

    kind: str
    name: str
    inputs: int
    units: int
    biased: bool
    place: str = ""

    @property
    def outputs(self) -> int:
        return 2 * self.units if self.kind == "Bidirectional" else self.units

    def item(self, every_step: bool, activation: str | None) -> Item:
        """The layer as a description would have it."""
        plain: dict[str, Any] = {"units": self.units, "use_bias": self.biased}
        if self.kind == "Dense":
            config = {**plain, "activation": activation}
        else:
            config = {**plain, "return_sequences": every_step}
        if self.kind == "Bidirectional":
            config = {"layer": {"class_name": "LSTM", "config": config}}
        if self.place:
            config = {"layer": {"class_name": "Dense", "config": config}}
        kind = "TimeDistributed" if self.place else self.kind
        return Item(kind, self.name, Config(f"layer '{self.name}' ({kind})", config),
                    f"layers/{self.name}")


def weights_only(
    store: Store, every_step: bool | None, activations: Sequence[str] | None
) -> TrainedModel:
    """The network of a file of weights alone.

    Parameters
    ----------
    store : Store
    every_step, activations
        As of `golden.keras_file.load`.

    Raises
    ------
    ModelError
        If the structure does not follow from names and shapes, or something is not told.
    """
    listed = store.names("", "layer_names")
    if listed is not None:
        recurrent, heads = _listed(store, listed)
    elif store.is_group("layers"):
        recurrent, heads = _numbered(store)
    else:
        raise ModelError("neither a Keras model nor Keras weights: there is no 'model_config', no "
                         "'layers' and no 'layer_names' in the HDF5 file")
    if not recurrent:
        raise ModelError("the file of weights has no LSTM layer")
    if every_step is None:
        raise ModelError(f"a file of weights does not say whether the last LSTM layer, "
                         f"'{recurrent[-1].name}', gives its output at every step; give "
                         f"every_step (--steps) or {ADVICE}")
    if len(activations or ()) != len(heads) or isinstance(activations, str):
        names = ", ".join(f"'{part.name}'" for part in heads)
        raise ModelError(f"a file of weights does not say the activations of its {len(heads)} "
                         f"dense layers, {names or 'none'}; give as many activations "
                         f"(--functions), not {len(activations or ())}, or {ADVICE}")
    given = iter(activations or ())
    items = [part.item(every_step or part is not recurrent[-1], None) for part in recurrent]
    items += [part.item(False, next(given)) for part in heads]

    def weights(item: Item) -> Weights:
        if listed is not None:
            return LegacyWeights(store, item.name)
        return ArchiveWeights(store, item.place)

    functions = Functions.of_version(store.text("", "keras_version"))
    chain = Chain(tuple(items), (0,) * len(items), (), [])
    network = network_of(chain, weights, functions)
    assumed = "The LSTM layers are taken to be forward, with tanh, sigmoid"
    if any(part.kind == "Bidirectional" for part in recurrent):
        assumed += " and, where they are bidirectional, the outputs joined"
    return TrainedModel(
        network=network, source="Keras, weights alone",
        notes=(*functions.notes, f"{assumed}; a file of weights does not say it."),
    )


def _stored(store: Store, path: str, name: str, kind: str, place: str) -> _Part | None:
    """A layer from the shapes of its arrays ``path/0``, ``path/1``, ..., if it is of this kind."""
    shapes = [store.shape(f"{path}/{member}") for member in store.members(path)]
    return _shaped(kind, name, shapes, place)


def _shaped(
    kind: str, name: str, shapes: Sequence[tuple[int, ...] | None], place: str = ""
) -> _Part | None:
    """A layer whose arrays have these shapes, if it may be of this kind."""
    first = shapes[0] if shapes else None
    if first is None or len(first) != 2 or None in shapes:
        return None
    if kind == "Dense":
        if len(shapes) > 2 or shapes[1:] not in ([], [(first[1],)]):
            return None
        return _Part(kind, name, first[0], first[1], len(shapes) == 2, place)
    second = shapes[1] if len(shapes) > 1 else None
    if second != (first[1] // 4, first[1]) or first[1] % 4 or not first[1]:
        return None
    if len(shapes) > 3 or shapes[2:] not in ([], [(first[1],)]):
        return None
    return _Part(kind, name, first[0], first[1] // 4, len(shapes) == 3)


def _unknown(name: str) -> ModelError:
    return ModelError(f"what layer '{name}' does, and where, cannot be told from a file of "
                      f"weights; {ADVICE}")


def _numbered(store: Store) -> tuple[list[_Part], list[_Part]]:
    """The LSTM layers and the dense ones of Keras 3's weights, in order."""
    found: dict[str, list[tuple[int, _Part]]] = {}
    for name in store.members("layers"):
        base, _, suffix = name.rpartition("_")
        if not suffix.isdecimal() or len(suffix) > 4 or not base:
            base, suffix = name, "0"
        if base.startswith(SILENT):
            continue
        inside = {
            "lstm": ("LSTM", "cell"), "bidirectional": ("Bidirectional", "forward_layer/cell"),
            "dense": ("Dense", ""), "time_distributed": ("Dense", "layer"),
        }.get(base)
        if inside is None:
            raise _unknown(name)
        kind, place = inside
        path = "/".join(each for each in ("layers", name, place, "vars") if each)
        part = _stored(store, path, name, kind, place if kind == "Dense" else "")
        if part is None:
            raise _unknown(name)
        found.setdefault(base, []).append((int(suffix), part))
    lists = {base: [part for _, part in sorted(parts, key=lambda each: each[0])]
             for base, parts in found.items()}
    recurrent = _merged("LSTM", lists.get("lstm", []), lists.get("bidirectional", []), None)
    width = recurrent[-1].outputs if recurrent else None
    heads = _merged("dense", lists.get("dense", []), lists.get("time_distributed", []), width)
    return recurrent, heads


def _merged(
    what: str, ours: list[_Part], theirs: list[_Part], width: int | None
) -> list[_Part]:
    """The only order of two classes' layers in which each takes what the one before it gives."""
    if len(ours) + len(theirs) > MAX_PARTS:
        raise ModelError(f"a file of weights must have at most {MAX_PARTS} {what} layers, not "
                         f"{len(ours) + len(theirs)}")
    orders: list[list[_Part]] = []

    def extend(done: list[_Part], left: list[_Part], right: list[_Part]) -> None:
        if not left and not right:
            orders.append(done)
        given = done[-1].outputs if done else width
        for source, other in ((left, right), (right, left)):
            if source and given in (None, source[0].inputs) and len(orders) < 2:
                rest = (source[1:], other) if source is left else (other, source[1:])
                extend([*done, source[0]], *rest)

    extend([], ours, theirs)
    if len(orders) != 1:
        names = ", ".join(f"'{part.name}'" for part in ours + theirs)
        raise ModelError(f"by their shapes, the {what} layers {names} follow on each other in "
                         f"{'several orders' if orders else 'no order'}; {ADVICE}")
    return orders[0]


def _listed(store: Store, names: list[str]) -> tuple[list[_Part], list[_Part]]:
    """The LSTM layers and the dense ones of Keras 2's weights, which are listed in order."""
    recurrent: list[_Part] = []
    heads: list[_Part] = []
    for name in names:
        arrays = LegacyWeights(store, name).names
        shapes = [store.shape(f"{name}/{each}") for each in arrays]
        if not arrays and name.startswith(SILENT):
            continue
        half = len(shapes) // 2
        part = _shaped("LSTM", name, shapes) or _shaped("Dense", name, shapes)
        if part is None and half and len(shapes) == 2 * half and shapes[:half] == shapes[half:]:
            part = _shaped("Bidirectional", name, shapes[:half])
        if part is None or (part.kind != "Dense" and heads):
            raise _unknown(name)
        (heads if part.kind == "Dense" else recurrent).append(part)
        if len(recurrent) + len(heads) > 2 * MAX_PARTS:
            raise ModelError(f"a file of weights must have at most {2 * MAX_PARTS} layers")
    return recurrent, heads
