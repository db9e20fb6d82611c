"""From a chain of Keras layers to a network.

The sequence that a layer reads may run backwards: an LSTM with ``go_backwards`` gives its outputs
in the order in which it makes them.  The float model's layers keep every step where its input is,
so that the walk remembers which way the sequence runs, and a layer that reads a turned sequence
from its beginning is a reverse one.  For the same reason a Bidirectional layer on a turned sequence
has its two directions exchanged, and the layer behind it reads its features in exchanged order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from golden.function import IDENTITY
from golden.keras_config import Item, items_of
from golden.keras_graph import ARITHMETIC, PICKS, Chain
from golden.keras_layers import (
    HEADS,
    LAYER_FUNCTIONS,
    Affine,
    Functions,
    Weights,
    arithmetic,
    batch_normalization,
    check_dtype,
    dense,
    lstm,
    normalization,
    rescaling,
)
from golden.keras_states import Recurrent, state_names
from golden.lstm import LSTM, MERGES, Bidirectional
from golden.model import Dense, Layer, ModelError, Network

__all__ = ["network_of"]

Array = NDArray[np.float64]

TRAINING_ONLY = (
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise",
    "SpatialDropout1D",
)
"""Layers that pass on what they read, except in training."""

HINTS = {
    "Embedding": "; the core takes the vectors themselves",
    "GRU": "; only LSTM layers are",
    "SimpleRNN": "; only LSTM layers are",
    "Lambda": ", because a file's code is never run",
    "Masking": "; lengths are given with the data instead: leave the layer out",
    "Sequential": "; save its layers in one model",
    "Functional": "; save its layers in one model",
}
"""What to do about some layers that are not supported."""

Part = TypeVar("Part", LSTM, Bidirectional, Dense)


def network_of(chain: Chain, weights: Callable[[Item], Weights], functions: Functions) -> Network:
    """The network that a chain of layers is.

    Parameters
    ----------
    chain : Chain
    weights : callable
        The weights of a layer.
    functions : Functions
        Its notes grow by what is taken into weights or left out.

    Raises
    ------
    ModelError
        If a layer is not supported, or not in this place.
    """
    walk = _Walk(functions)
    walk.start(chain.shape)
    for item, taken in zip(chain.items, chain.taken, strict=True):
        try:
            # Numbers beyond float64 are told of where the layer is made.
            with np.errstate(all="ignore"):
                walk.step(item, taken, weights)
        except ModelError as error:
            text = str(error)
            raise ModelError(text if text.startswith("layer '") else f"{item}: {text}") from error
        except ValueError as error:  # of the parts of the float model
            raise ModelError(f"{item}: {error}") from error
    try:
        return walk.network(chain)
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(str(error)) from error


@dataclass
class _Walk:
    """What the layers so far do with the model's input."""

    functions: Functions
    layers: list[Layer] = field(default_factory=list)
    head: list[Dense] = field(default_factory=list)
    steps: int | None = None
    width: int | None = None
    sequence: bool = True
    turned: bool = False
    # What is to be done yet with the features: scaled and shifted, then in this package's order.
    affine: Affine | None = None
    order: NDArray[np.int64] | None = None
    pending: list[str] = field(default_factory=list)
    picked: bool = False
    stateful: set[bool] = field(default_factory=set)
    recurrent: dict[str, Recurrent] = field(default_factory=dict)
    last: str = ""

    def start(self, shape: list[int | None]) -> None:
        """Begin with an input of this shape."""
        if shape and len(shape) != 3:
            raise ModelError(f"the model's input must have the axes batch, steps and features, but "
                             f"its shape is {shape}")
        if shape:
            self.steps, self.width = shape[1:]

    def step(self, item: Item, taken: int | str, weights: Callable[[Item], Weights]) -> None:
        """Go on by one layer."""
        precision = check_dtype(item.config)
        if precision not in ("float32", "float64"):
            self.functions.notes.append(f"{item} computes in {precision} in Keras; that rounding "
                                        "is left out.")
        handler = {
            "LSTM": self._lstm, "RNN": self._rnn, "Bidirectional": self._bidirectional,
        }.get(item.kind)
        if handler is not None:
            if not self.sequence:
                raise ModelError(f"it must read a sequence, but the layers in front of it give one "
                                 f"step; {self.last} must have return_sequences=True")
            if self.head:
                raise ModelError(f"an LSTM layer must not come behind {self.last}")
            handler(item, taken, weights(item))
        elif taken != 0:
            raise ModelError(f"it has one output, but output {taken} is asked for")
        elif item.kind == "TimeDistributed":
            inner = item.config.child("layer")
            if not self.sequence:
                raise ModelError("it must read a sequence, but the layers in front of it give one "
                                 "step")
            self._plain(inner, weights(item), "layer", 2)
        else:
            self._plain(item, weights(item), "", 3 if self.sequence else 2)
        self.last = str(item)

    # Layers over the steps.

    def _states(self, item: Item, taken: int | str, count: int) -> None:
        """Check which output is used, and note whether it is a sequence still."""
        config = item.config
        if taken != 0:
            if not config.flag("return_state"):
                raise ModelError(f"it has no output {taken} without return_state=True")
            # The last cell's final hidden state is the output that there is without
            # return_sequences.
            if taken not in (2 * count - 1, "h"):
                raise ModelError(f"the layers behind it must read its output or its final hidden "
                                 f"state, not its output {taken}")
        self.sequence = taken == 0 and config.flag("return_sequences")
        self.stateful.add(config.flag("stateful"))
        self.recurrent[item.name].returned = config.flag("return_state")

    def _lstm(self, item: Item, taken: int | str, weights: Weights) -> None:
        self._one_way(item, [(item, "cell")], taken, weights)

    def _rnn(self, item: Item, taken: int | str, weights: Weights) -> None:
        cell = item.config.child("cell")
        if cell.kind != "StackedRNNCells":
            self._one_way(item, [(cell, "cell")], taken, weights)
            return
        entries = cell.config.get("cells")
        if not isinstance(entries, list) or not entries:
            raise ModelError("'cells' must be a list of cells")
        parts = [(part, f"cell/cells/{part.place.split('/')[-1]}")
                 for part in items_of(entries)]
        self._one_way(item, parts, taken, weights)

    def _one_way(
        self, item: Item, cells: list[tuple[Item, str]], taken: int | str, weights: Weights
    ) -> None:
        """One cell or several, stacked, that go over the steps."""
        config = item.config
        if config.flag("time_major"):
            raise ModelError("'time_major' must be false, not true")
        reverse = self.turned != config.flag("go_backwards")
        self.recurrent[item.name] = Recurrent(len(self.layers), item.kind, len(cells))
        for cell, place in cells:
            if cell.kind not in ("LSTM", "LSTMCell"):
                raise ModelError(f"its cell must be an LSTMCell, not a {cell.kind}")
            layer = self._behind(item, lstm(cell.config, weights, place, self.functions, reverse))
            self.layers.append(layer)
            self.width = layer.outputs
        self._states(item, taken, len(cells))
        self.turned = reverse

    def _bidirectional(self, item: Item, taken: int | str, weights: Weights) -> None:
        config = item.config
        merge = config.get("merge_mode") if "merge_mode" in config.values else "concat"
        if taken == "h":
            merge = "concat"  # The final states are joined, whatever the outputs are.
        if merge not in MERGES:
            raise ModelError(f"'merge_mode' must be one of {', '.join(MERGES)}, not {merge!r:.80}")
        ours = config.child("layer")
        theirs = config.child("backward_layer") if config.get("backward_layer") else ours
        for part in (ours, theirs):
            if part.kind != "LSTM":
                raise ModelError(f"it must wrap an LSTM, not a {part.kind}")
        mirrored = theirs is ours
        begins = ours.config.flag("go_backwards")
        if not mirrored and theirs.config.flag("go_backwards") == begins:
            raise ModelError("its two layers must have different 'go_backwards'")
        for key in ("return_sequences", "return_state", "stateful", "time_major"):
            if theirs.config.flag(key) != ours.config.flag(key):
                raise ModelError(f"its two layers must have the same '{key}'")
        if ours.config.flag("time_major"):
            raise ModelError("'time_major' must be false, not true")
        if taken == 1:
            raise ModelError("the layers behind it must read its output or both final hidden "
                             "states, joined, not the forward one alone")
        reverse = self.turned != begins
        first = lstm(ours.config, weights, "forward_layer/cell", self.functions, reverse)
        second = lstm(theirs.config, weights, "backward_layer/cell", self.functions, not reverse)
        pair = (second, first) if reverse else (first, second)
        layer = self._behind(item, Bidirectional(forward=pair[0], backward=pair[1], merge=merge))
        self.recurrent[item.name] = Recurrent(len(self.layers), item.kind, exchanged=reverse)
        self.layers.append(layer)
        self.width = layer.outputs
        # The wrapper says nothing of these itself.
        self._states(replace(item, config=ours.config), taken, 1)
        if reverse and merge == "concat":
            half = first.outputs
            self.order = np.roll(np.arange(2 * half), half)
        # The backward outputs are brought into the order of the forward ones.
        self.turned = reverse

    # Layers on the features of a step.

    def _plain(self, item: Item, weights: Weights, place: str, rank: int) -> None:
        """A layer that does the same at every step."""
        kind, config = item.kind, item.config
        if kind in TRAINING_ONLY:
            self.functions.notes.append(f"{item} is left out; it acts in training only.")
        elif kind == "Dense":
            if not self.layers:
                raise ModelError("a Dense layer must come behind the last LSTM layer, not in front "
                                 "of the first")
            layer = dense(config, weights, place, self.functions)
            self.head.append(self._behind(item, layer))
            self.width = layer.outputs
        elif kind in LAYER_FUNCTIONS:
            self._function(item)
        elif kind == "BatchNormalization":
            self._scale(item, batch_normalization(config, weights, place, rank))
        elif kind == "Normalization":
            self._scale(item, normalization(config, weights, place, rank))
        elif kind == "Rescaling":
            self._scale(item, rescaling(config))
        elif kind in ARITHMETIC:
            self._scale(item, arithmetic(item))
        elif kind in PICKS:
            self._pick(item)
        elif kind == "Reshape":
            self._reshape(item)
        elif kind == "Flatten":
            if self.sequence:
                raise ModelError("it must not flatten the steps of a sequence; the LSTM in front "
                                 "of it must have return_sequences=False")
        elif kind not in ("Identity", "InputLayer"):
            raise ModelError(f"{item} is not supported{HINTS.get(kind, '')}")

    def _pick(self, item: Item) -> None:
        """Take the last step of a sequence."""
        every = {"start": None, "stop": None, "step": None}
        index = item.operands[1] if len(item.operands) == 2 else None
        axes = [each.get("config", each) if isinstance(each, dict) else each
                for each in (index if isinstance(index, list) else [])]
        if axes not in ([every, -1], [every, -1, every]):
            raise ModelError(f"its index must be [:, -1], the last step, not {index!r:.80}")
        if not self.sequence or not self.layers:
            raise ModelError("it must pick the last step of what an LSTM layer gives")
        if self.turned and isinstance(self.layers[-1], Bidirectional):
            raise ModelError("it must not pick the first step in time of two directions")
        # Of a sequence that runs backwards, the last step is the first in time; there, the one
        # direction has its final state.
        self.sequence = False
        self.picked = not self.turned

    def _reshape(self, item: Item) -> None:
        target = item.config.integers("target_shape")
        same = [[self.width], [-1]]
        if self.sequence:
            same = [[self.steps, self.width], [-1, self.width], [self.steps, -1]]
        if target not in same or None in target:
            raise ModelError(f"it must leave the shape as it is, but makes {target}")

    def _function(self, item: Item) -> None:
        function = self.functions.of_layer(item, HEADS)
        if function == IDENTITY:
            return
        if not self.layers:
            raise ModelError("a function must come behind the last LSTM layer, not in front of the "
                             "first")
        waiting = self.affine is not None or self.order is not None
        if waiting or not self.head or self.head[-1].function != IDENTITY:
            self._explicit(item)
        self.head[-1] = replace(self.head[-1], function=function)

    def _scale(self, item: Item, affine: Affine) -> None:
        """Scale and shift the features: in the layer in front, or else in the one behind."""
        for values in affine:
            if self.width is not None and values.size not in (1, self.width):
                raise ModelError(f"it must have {self.width} features, not {values.size}")
            if not np.all(np.isfinite(values)):
                raise ModelError("what it scales and shifts by must be finite")
            if values.size > 1:
                self.width = values.size
        scale, shift = affine
        if self.head and self.head[-1].function == IDENTITY:
            front = self.head[-1]
            self.head[-1] = replace(front, w=front.w * np.reshape(scale, (-1, 1)),
                                    bias=front.bias * scale + shift)
            self.functions.notes.append(f"{item} is taken into the weights of the layer in front.")
            return
        if self.affine is not None:
            scale, shift = scale * self.affine[0], scale * self.affine[1] + shift
        self.affine = scale, shift
        self.pending.append(str(item))

    def _behind(self, item: Item, layer: Part) -> Part:
        """A layer with what is to be done with its input taken into its weights."""
        if self.width is not None and layer.inputs != self.width:
            raise ModelError(f"it must take the {self.width} features that it is given, but its "
                             f"kernel has {layer.inputs} rows")
        if self.affine is not None:
            layer = layer.of_scaled(*self.affine)
            self.functions.notes += [f"{each} is taken into the weights of {item}."
                                     for each in self.pending]
        if self.order is not None:
            layer = _reordered(layer, self.order)
        self.affine, self.order, self.pending = None, None, []
        return layer

    def _explicit(self, item: Item | None) -> None:
        """Make what is to be done with the features a dense layer of its own."""
        assert self.width is not None
        eye = Dense(w=np.eye(self.width), bias=np.zeros(self.width))
        names = [*self.pending, *([] if item is None else [str(item)])]
        if self.affine is not None:
            eye = eye.of_scaled(*self.affine)
        if self.order is not None:
            eye = _reordered(eye, self.order)
            names = names or [f"the exchanged directions of {self.last}"]
        self.affine, self.order, self.pending = None, None, []
        self.head.append(eye)
        self.functions.notes.append(f"A dense layer is added for {' and '.join(names)}: no other "
                                    "could take it.")

    # The end.

    def network(self, chain: Chain) -> Network:
        """The network, and which states it gives besides."""
        if not self.layers:
            raise ModelError("the model has no LSTM layer")
        if self.affine is not None or self.order is not None:
            self._explicit(None)
        if len(self.stateful) > 1:
            raise ModelError("all LSTM layers must be stateful, or none")
        reverse = any(each.reverse for each in self.layers[-1].directions)
        return Network(
            layers=tuple(self.layers), head=tuple(self.head), every_step=self.sequence,
            final=reverse and not self.sequence and not self.picked,
            backwards=self.turned and self.sequence,
            states=state_names(chain, self.recurrent, self.functions.notes),
            stateful=self.stateful == {True},
        )


def _reordered(layer: Part, order: NDArray[np.int64]) -> Part:
    """The layer that reads as feature ``order[j]`` what this one reads as feature j."""
    if isinstance(layer, Bidirectional):
        return replace(layer, forward=_reordered(layer.forward, order),
                       backward=_reordered(layer.backward, order))
    name = "w_x" if isinstance(layer, LSTM) else "w"
    weights = getattr(layer, name)
    moved = np.empty_like(weights)
    moved[:, order] = weights
    return replace(layer, **{name: moved})
