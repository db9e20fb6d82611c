"""Keras's layers, one by one, in the terms of the float model.

Kernels are stored inputs first, so that they are transposed here; the gates are in the order
i, f, c, o, which is this package's i, f, g, o.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from golden.checks import shape_text
from golden.function import IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, Function
from golden.keras_config import Config, Item, flat_numbers
from golden.keras_store import Store
from golden.lstm import LSTM
from golden.model import Dense, ModelError

__all__ = [
    "ArchiveWeights",
    "Functions",
    "LegacyWeights",
    "Weights",
    "arithmetic",
    "batch_normalization",
    "check_dtype",
    "dense",
    "lstm",
    "normalization",
    "rescaling",
]

Array = NDArray[np.float64]
Affine = tuple[Array, Array]
"""Scale and shift, of shape (features,) or of one element."""

GATES = ("sigmoid", "hard_sigmoid")
CELLS = ("tanh", "sigmoid", "hard_sigmoid", "relu", "linear")
HEADS = ("linear", "relu", "sigmoid", "tanh", "hard_sigmoid", "softmax")

FLOATS = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
"""The precisions that a layer may compute in; their weights are all floating-point numbers."""

LEAST_DEVIATION = 1e-7
"""What a Normalization divides by at least: Keras's ``epsilon()``, as it is by default."""


class Weights(Protocol):
    """The arrays of a layer."""

    def take(self, place: str, names: tuple[str, ...], unread: int = 0) -> list[Array]:
        """The arrays of a part of the layer, which are so called.

        Parameters
        ----------
        place : str
            The part, as in an archive's paths: ``"cell"``, or ``""`` for the layer itself.
        names : tuple of str
        unread : int
            How many there are behind them that are of no use.
        """


class ArchiveWeights:
    """The weights of a layer in Keras 3's order: ``layers/lstm/cell/vars/0``."""

    def __init__(self, store: Store, place: str) -> None:
        self._store = store
        self._place = place

    def take(self, place: str, names: tuple[str, ...], unread: int = 0) -> list[Array]:
        """As of :class:`Weights`."""
        path = f"{self._place}/{place}/vars" if place else f"{self._place}/vars"
        count = len(self._store.members(path))
        if count != len(names) + unread:
            raise ModelError(f"'{path}' must hold {len(names) + unread} arrays "
                             f"({', '.join(names)}), not {count}")
        return [self._store.array(f"{path}/{number}") for number in range(len(names))]


class LegacyWeights:
    """The weights of a layer of an HDF5 model, which are one list."""

    def __init__(self, store: Store, group: str) -> None:
        self._store = store
        self._group = group
        self.names = store.names(group, "weight_names") or []
        self._taken = 0

    def take(self, place: str, names: tuple[str, ...], unread: int = 0) -> list[Array]:
        """As of :class:`Weights`; they come in the order of the list, whatever the place."""
        stored = self.names[self._taken :][: len(names) + unread]
        if len(stored) < len(names) + unread:
            raise ModelError(f"'{self._group}' must hold weights {', '.join(names)} behind the "
                             f"first {self._taken}, but has {len(self.names)} in all")
        self._taken += len(stored)
        for want, name in zip(names, stored, strict=False):
            if name.split("/")[-1].split(":")[0] != want:
                raise ModelError(f"'{self._group}' must hold '{want}' where it has '{name}'")
        return [self._store.array(f"{self._group}/{name}")
                for _, name in zip(names, stored, strict=False)]


@dataclass
class Functions:
    """Activations by their Keras names.

    Parameters
    ----------
    version : int or None
        Of Keras, its first number; None where the file does not say.
    notes : list of str
        Grows by what there is to tell.
    """

    version: int | None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of_version(cls, text: str | None) -> Functions:
        """Those of a release of Keras: ``"2.15.0"``."""
        first = (text or "").split(".")[0]
        return cls(int(first) if first.isdecimal() and len(first) < 4 else None)

    def of(self, config: Config, key: str, default: str, allowed: Iterable[str]) -> Function:
        """The function that a layer's setting names."""
        value = config.values.get(key, default)
        if value is None:
            value = "linear"
        if isinstance(value, dict):
            if value.get("class_name") in LAYER_FUNCTIONS:
                item = config.child(key)
                if not isinstance(item.config.get("activation"), dict):
                    return self.of_layer(item, allowed)
            # Keras's own functions are texts; what is more is somebody's own, whatever its name.
            inner = value.get("config")
            value = f"a function '{inner}'" if isinstance(inner, str) else value.get("class_name")
        if not isinstance(value, str) or value not in allowed:
            raise ModelError(f"{config.what}: '{key}' must be one of {', '.join(allowed)}, not "
                             f"{value!s:.80}")
        return self._named(value, config.what)

    def of_layer(self, item: Item, allowed: Iterable[str]) -> Function:
        """The function that a layer is: Activation, ReLU or Softmax."""
        config, what = item.config, item.config.what
        if item.kind == "Activation":
            return self.of(config, "activation", "linear", allowed)
        if item.kind == "ReLU":
            if config.get("max_value") is not None:
                raise ModelError(f"{what}: 'max_value' must be null, not "
                                 f"{config.get('max_value')!r:.80}")
            for key in ("negative_slope", "threshold"):
                if config.number(key, 0.0):
                    raise ModelError(f"{what}: '{key}' must be 0, not {config.number(key, 0.0):g}")
        elif config.integers("axis", -1) != [-1]:
            raise ModelError(f"{what}: 'axis' must be -1, the features, not "
                             f"{config.get('axis')!r:.80}")
        name = "relu" if item.kind == "ReLU" else "softmax"
        if name not in allowed:
            raise ModelError(f"{what}: the function must be one of {', '.join(allowed)}, not "
                             f"{name}")
        return self._named(name, what)

    def _named(self, name: str, what: str) -> Function:
        if name != "hard_sigmoid":
            return {"linear": IDENTITY, "relu": RELU, "sigmoid": SIGMOID, "tanh": TANH,
                    "softmax": SOFTMAX}[name]
        if self.version is None:
            raise ModelError(f"{what}: hard_sigmoid is x/6 + 1/2 in Keras 3 and 0.2 x + 1/2 "
                             "before, but the file does not say which Keras has written it")
        new = self.version >= 3
        note = (f"hard_sigmoid is that of Keras {self.version}, "
                f"{'x/6 + 1/2' if new else '0.2 x + 1/2'} within 0 and 1.")
        if note not in self.notes:
            self.notes.append(note)
        return Function("HardSigmoid", 1 / 6 if new else 0.2, 0.5)


LAYER_FUNCTIONS = ("Activation", "ReLU", "Softmax")
"""Layers that are but a function."""


def check_dtype(config: Config) -> str:
    """The precision that a layer computes in; refuses weights that are no plain numbers."""
    value = config.get("dtype")
    if isinstance(value, dict):
        inner = value.get("config")
        value = inner.get("name") if isinstance(inner, dict) else value.get("class_name")
    if value is not None and value not in FLOATS:
        raise ModelError(f"{config.what}: 'dtype' must be one of {', '.join(FLOATS)}, not "
                         f"{value!r:.80}")
    if config.get("quantization_config") or config.get("quantization_mode"):
        raise ModelError(f"{config.what}: quantized weights are not supported")
    return value or FLOATS[0]


def _kernel(config: Config, name: str, array: Array, rows: int | None, columns: int) -> Array:
    """A stored kernel, transposed, of a shape that fits the layer."""
    if array.ndim != 2 or array.shape[1] != columns or rows not in (None, array.shape[0]):
        raise ModelError(f"{config.what}: {name} must have the shape "
                         f"[{'N' if rows is None else rows}, {columns}], not "
                         f"{shape_text(array.shape)}")
    return np.ascontiguousarray(array.T)


def _bias(config: Config, arrays: list[Array], size: int) -> Array:
    """The stored bias, or zeros where there is none."""
    if not arrays:
        return np.zeros(size)
    if arrays[0].shape != (size,):
        raise ModelError(f"{config.what}: bias must have the shape [{size}], not "
                         f"{shape_text(arrays[0].shape)}")
    return arrays[0]


def lstm(config: Config, weights: Weights, place: str, functions: Functions, reverse: bool) -> LSTM:
    """An ``LSTM`` or ``LSTMCell``.

    Parameters
    ----------
    config, weights, place
        Of the layer, and where its weights are.
    functions : Functions
    reverse : bool
        Which end of the model's input it reads first.
    """
    check_dtype(config)
    units = config.positive("units")
    for key in ("dropout", "recurrent_dropout"):
        if config.number(key, 0.0):
            functions.notes.append(f"{config.what}: its {key} is left out; it acts in training "
                                   "only.")
    gate = functions.of(config, "recurrent_activation", "sigmoid", GATES)
    cell = functions.of(config, "activation", "tanh", CELLS)
    biased = config.flag("use_bias", True)
    arrays = weights.take(place, ("kernel", "recurrent_kernel", "bias")[: 3 if biased else 2])
    return LSTM(
        w_x=_kernel(config, "kernel", arrays[0], None, 4 * units),
        w_h=_kernel(config, "recurrent_kernel", arrays[1], units, 4 * units),
        bias=_bias(config, arrays[2:], 4 * units),
        gate=gate, candidate=cell, squash=cell, reverse=reverse,
    )


def dense(config: Config, weights: Weights, place: str, functions: Functions) -> Dense:
    """A ``Dense`` layer."""
    check_dtype(config)
    units = config.positive("units")
    function = functions.of(config, "activation", "linear", HEADS)
    biased = config.flag("use_bias", True)
    arrays = weights.take(place, ("kernel", "bias")[: 2 if biased else 1])
    return Dense(w=_kernel(config, "kernel", arrays[0], None, units),
                 bias=_bias(config, arrays[1:], units), function=function)


def _features_only(config: Config, rank: int) -> None:
    """Refuse statistics of anything but the features, the last axis."""
    axis = config.integers("axis", -1)
    if axis not in ([-1], [rank - 1]):
        raise ModelError(f"{config.what}: 'axis' must be -1, the features, not "
                         f"{config.get('axis')!r:.80}")


def batch_normalization(config: Config, weights: Weights, place: str, rank: int) -> Affine:
    """What a ``BatchNormalization`` does with its moving mean and variance.

    Parameters
    ----------
    config, weights, place
        As of :func:`lstm`.
    rank : int
        Axes of what it reads, batch included.
    """
    check_dtype(config)
    _features_only(config, rank)
    if config.flag("renorm"):
        raise ModelError(f"{config.what}: 'renorm' must be false, not true")
    scaled, centered = config.flag("scale", True), config.flag("center", True)
    names = (*(("gamma",) if scaled else ()), *(("beta",) if centered else ()),
             "moving_mean", "moving_variance")
    arrays = dict(zip(names, weights.take(place, names), strict=True))
    mean, variance = arrays["moving_mean"], arrays["moving_variance"]
    _same_shapes(config, arrays)
    power = variance + config.number("epsilon", 1e-3)
    if not np.all(power > 0):
        raise ModelError(f"{config.what}: moving_variance + epsilon must be above 0, not "
                         f"{power[~(power > 0)][0]:g}")
    scale = arrays.get("gamma", np.ones(1)) / np.sqrt(power)
    return scale, arrays.get("beta", np.zeros(1)) - mean * scale


def _same_shapes(config: Config, arrays: dict[str, Array]) -> None:
    for name, array in arrays.items():
        if array.ndim != 1 or array.shape != next(iter(arrays.values())).shape:
            raise ModelError(f"{config.what}: {' and '.join(arrays)} must have one shape [F], but "
                             f"{name} has {shape_text(array.shape)}")


def normalization(config: Config, weights: Weights, place: str, rank: int) -> Affine:
    """What a ``Normalization`` does; parameters as of :func:`batch_normalization`."""
    check_dtype(config)
    whole = config.get("axis") in (None, []) and "axis" in config.values
    if not whole:
        _features_only(config, rank)
    if config.get("mean") is not None:
        mean, variance = (np.atleast_1d(config.numbers(key)) for key in ("mean", "variance"))
    else:
        mean, variance = (each.reshape(1) if whole and each.ndim == 0 else each
                          for each in weights.take(place, ("mean", "variance"), unread=1))
    _same_shapes(config, {"mean": mean, "variance": variance})
    if not np.all(variance >= 0):
        raise ModelError(f"{config.what}: variance must be at least 0, not "
                         f"{variance[~(variance >= 0)][0]:g}")
    deviation = np.maximum(np.sqrt(variance), LEAST_DEVIATION)
    if config.flag("invert"):
        return deviation, mean
    return 1 / deviation, -mean / deviation


def rescaling(config: Config) -> Affine:
    """What a ``Rescaling`` does."""
    scale, shift = (np.atleast_1d(config.numbers(key, default))
                    for key, default in (("scale", 1.0), ("offset", 0.0)))
    return scale, shift


def arithmetic(item: Item) -> Affine:
    """What an operation with a constant does."""
    if len(item.operands) != 2 or item.operands.count(None) != 1:
        raise ModelError("it must have one tensor and one constant")
    first = item.operands[0] is None
    found = flat_numbers(item.operands[1 if first else 0])
    if found is None:
        raise ModelError("its constant must be a number or one for each feature, not "
                         f"{item.operands[1 if first else 0]!r:.80}")
    value, one = np.atleast_1d(found), np.ones(1)
    match item.kind:
        case "Add":
            return one, value
        case "Subtract":
            return (one, -value) if first else (-one, value)
        case "Multiply":
            return value, np.zeros(1)
        case _:
            if not first:
                raise ModelError("it must divide by its constant, not the constant by a tensor")
            return 1 / value, np.zeros(1)
