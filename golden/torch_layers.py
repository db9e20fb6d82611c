"""The modules of a PyTorch ``state_dict``, by the names and shapes of its tensors.

A tensor's name is its module's, a dot and the parameter's own, and parameters are named as in
https://docs.pytorch.org/docs/stable/nn.html: ``weight_ih_l0_reverse`` is of an ``nn.LSTM``,
``running_mean`` of an ``nn.BatchNorm1d``.  A tensor that is of none of the known modules is refused
by its name, because what it does is not known.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golden.checks import shape_text
from golden.lstm import LSTM, Bidirectional
from golden.model import Dense, Layer, ModelError

__all__ = ["COUNTER", "LAYERS", "Linear", "Module", "Norm", "Recurrent", "joined", "modules_of"]

Array = NDArray[np.float64]

COUNTER = "num_batches_tracked"
"""The one tensor that is not of float: how often statistics were updated."""

LAYERS = 64
"""The most layers of an nn.LSTM."""

LSTM_NAME = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)_l(\d{1,4})(_reverse)?")
CELL_NAME = re.compile(r"weight_ih|weight_hh|bias_ih|bias_hh")

OTHERS = {1: "nn.RNN", 3: "nn.GRU"}
"""Whose weights have the names of an LSTM's, by the blocks of rows, of which an LSTM has 4."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recurrent:
    """An nn.LSTM or nn.LSTMCell.

    Parameters
    ----------
    name, kind : str
        In the file, and in PyTorch.
    layers : tuple of Layer
    """

    name: str
    kind: str
    layers: tuple[Layer, ...]

    @property
    def inputs(self) -> int:
        """The features it takes."""
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        """The features it gives."""
        return self.layers[-1].outputs

    def __str__(self) -> str:
        return _titled(self.kind, self.name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """An nn.Linear.

    Parameters
    ----------
    name : str
    dense : Dense
    biased : bool
        Without a bias, its weight could as well be an nn.Embedding's.
    """

    name: str
    dense: Dense
    biased: bool

    @property
    def inputs(self) -> int:
        """The features it takes."""
        return self.dense.inputs

    @property
    def outputs(self) -> int:
        """The features it gives."""
        return self.dense.outputs

    def __str__(self) -> str:
        return _titled("nn.Linear", self.name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """An nn.BatchNorm1d of F features; all arrays have the shape (F,), and weight may be ones."""

    name: str
    mean: Array
    variance: Array
    weight: Array
    bias: Array

    @property
    def inputs(self) -> int:
        """The features it takes."""
        return len(self.mean)

    @property
    def outputs(self) -> int:
        """The features it gives."""
        return len(self.mean)

    def __str__(self) -> str:
        return _titled("nn.BatchNorm1d", self.name)

    def scaling(self, eps: float) -> tuple[Array, Array]:
        """Scale and shift, shapes (F,), that it comes to in evaluation."""
        low = float(self.variance.min()) + eps
        if not low > 0:
            raise ModelError(
                f"'{joined(self.name, 'running_var')}' plus eps must be positive, not {low:g}"
            )
        scale = self.weight / np.sqrt(self.variance + eps)
        return scale, self.bias - self.mean * scale


Module = Recurrent | Linear | Norm


def _titled(kind: str, name: str) -> str:
    return f"{kind} '{name}'" if name else f"the file's {kind}"


def joined(module: str, parameter: str) -> str:
    """A tensor's name."""
    return f"{module}.{parameter}" if module else parameter


def modules_of(tensors: Mapping[str, Array], *, embeddings: bool) -> list[Module]:
    """The modules of a state_dict, in its order.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        All tensors by name, finite and not empty.
    embeddings : bool
        Whether a weight without a bias that is called an embedding is taken as an nn.Linear,
        because the caller has said so.

    Raises
    ------
    ModelError
        If a tensor is of no module that is known, is missing, or has another shape than the others
        ask for.
    """
    grouped: dict[str, dict[str, Array]] = {}
    for name, array in tensors.items():
        module, _, leaf = name.rpartition(".")
        grouped.setdefault(module, {})[leaf] = array
    return [_module(name, leaves, embeddings) for name, leaves in grouped.items()]


def _module(name: str, leaves: Mapping[str, Array], embeddings: bool) -> Module:
    """A module, from its tensors by the names they have in it."""
    if any(LSTM_NAME.fullmatch(leaf) for leaf in leaves):
        return _lstm(name, leaves)
    if any(CELL_NAME.fullmatch(leaf) for leaf in leaves):
        return _cell(name, leaves)
    if "running_mean" in leaves:
        return _norm(name, leaves)
    if "weight" in leaves and leaves["weight"].ndim == 2:
        return _linear(name, leaves, embeddings)
    raise _unknown(name, leaves, ())


def _unknown(name: str, leaves: Mapping[str, Array], known: Collection[str]) -> ModelError:
    """Of the first tensor that is not among the known ones."""
    leaf = next(leaf for leaf in leaves if leaf not in known)
    likely = ""
    if leaf in ("weight", "bias") and leaves[leaf].ndim == 1:
        likely = " (it may be an nn.LayerNorm's, or a BatchNorm's without running_mean)"
    return ModelError(
        f"'{joined(name, leaf)}' {shape_text(leaves[leaf].shape)} is no parameter of an nn.LSTM, "
        f"nn.LSTMCell, nn.Linear or nn.BatchNorm1d, so that what it does is not known{likely}"
    )


def _check_names(
    title: str, name: str, leaves: Mapping[str, Array], names: Iterable[str], why: str
) -> None:
    """Refuse what is missing of a module, and what it has beyond."""
    wanted = list(names)
    for leaf in wanted:
        if leaf not in leaves:
            raise ModelError(f"{title}, {why}, must have '{joined(name, leaf)}', which is missing")
    if len(leaves) > len(wanted):
        raise _unknown(name, leaves, wanted)


def _check_shape(name: str, leaf: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ModelError(
            f"'{joined(name, leaf)}' must have the shape {shape_text(shape)}, by its module's "
            f"other tensors, not {shape_text(array.shape)}"
        )


def _hidden(name: str, leaves: Mapping[str, Array], suffix: str, projected: bool) -> int:
    """H, from the weights of the hidden states, or a refusal of what is no LSTM."""
    leaf = f"weight_hh{suffix}"
    shape = leaves[leaf].shape
    rows, columns = shape if len(shape) == 2 else (0, 1)
    if not projected and rows != 4 * columns and rows in (columns, 3 * columns):
        kind = OTHERS[rows // columns] + ("" if suffix else "Cell")
        raise ModelError(
            f"'{joined(name, leaf)}' {shape_text(shape)} is of an {kind}, which is not supported"
        )
    if not rows or rows % 4 or (not projected and rows != 4 * columns):
        raise ModelError(
            f"'{joined(name, leaf)}' must have the shape "
            f"[4H, {'R' if projected else 'H'}], not {shape_text(shape)}"
        )
    return int(rows) // 4


def _direction(
    name: str, leaves: Mapping[str, Array], suffix: str, shapes: Mapping[str, tuple[int, ...]]
) -> LSTM:
    """One direction of one layer, from its tensors, which must have these shapes."""
    parts: dict[str, Array] = {}
    for part, shape in shapes.items():
        leaf = f"{part}{suffix}"
        _check_shape(name, leaf, leaves[leaf], shape)
        parts[part] = leaves[leaf]
    bias = np.zeros(shapes["weight_hh"][0])
    if "bias_ih" in parts:
        with np.errstate(over="ignore"):
            bias = parts["bias_ih"] + parts["bias_hh"]
        if not np.isfinite(bias).all():
            raise ModelError(f"the sum of '{joined(name, f'bias_ih{suffix}')}' and "
                             f"'{joined(name, f'bias_hh{suffix}')}' must be finite")
    return LSTM(
        w_x=parts["weight_ih"], w_h=parts["weight_hh"], bias=bias,
        projection=parts.get("weight_hr"), reverse=suffix.endswith("_reverse"),
    )


def _shapes(
    inputs: int, hidden: int, outputs: int, parts: Iterable[str]
) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a direction."""
    shapes = {
        "weight_ih": (4 * hidden, inputs),
        "weight_hh": (4 * hidden, outputs),
        "bias_ih": (4 * hidden,),
        "bias_hh": (4 * hidden,),
        "weight_hr": (outputs, hidden),
    }
    return {part: shapes[part] for part in parts}


def _inputs(name: str, leaf: str, array: Array, hidden: int) -> int:
    """N, from the weights of the inputs."""
    if array.ndim != 2:
        raise ModelError(
            f"'{joined(name, leaf)}' must have the shape [{4 * hidden}, N], not "
            f"{shape_text(array.shape)}"
        )
    return int(array.shape[1])


def _lstm(name: str, leaves: Mapping[str, Array]) -> Recurrent:
    """An nn.LSTM: layers, directions, biases and projections, all or none of each."""
    title = _titled("nn.LSTM", name)
    found = [match for match in map(LSTM_NAME.fullmatch, leaves) if match]
    last = max(int(match[2]) for match in found)
    if last >= LAYERS:
        raise ModelError(f"{title} must have at most {LAYERS} layers, not {last + 1}")
    have = {match[1] for match in found}
    parts = ["weight_ih", "weight_hh"]
    parts += ["bias_ih", "bias_hh"] if have & {"bias_ih", "bias_hh"} else []
    projected = "weight_hr" in have
    parts += ["weight_hr"] if projected else []
    directions = ("", "_reverse") if any(match[3] for match in found) else ("",)
    what = [f"{last + 1} layer{'s' if last else ''}"]
    what += ["two directions"] if len(directions) > 1 else []
    what += ["biases"] if len(parts) - projected > 2 else []
    what += ["projections"] if projected else []
    names = [
        f"{part}_l{k}{direction}"
        for k in range(last + 1) for direction in directions for part in parts
    ]
    text = what[0] if len(what) == 1 else ", ".join(what[:-1]) + " and " + what[-1]
    _check_names(title, name, leaves, names, f"of {text}")
    hidden = _hidden(name, leaves, "_l0", projected)
    outputs = int(leaves["weight_hh_l0"].shape[1])
    inputs = _inputs(name, "weight_ih_l0", leaves["weight_ih_l0"], hidden)
    layers: list[Layer] = []
    for k in range(last + 1):
        shapes = _shapes(inputs, hidden, outputs, parts)
        read = [_direction(name, leaves, f"_l{k}{each}", shapes) for each in directions]
        if len(read) > 1:
            layers.append(Bidirectional(forward=read[0], backward=read[1]))
        else:
            layers.append(read[0])
        inputs = layers[-1].outputs
    return Recurrent(name=name, kind="nn.LSTM", layers=tuple(layers))


def _cell(name: str, leaves: Mapping[str, Array]) -> Recurrent:
    """An nn.LSTMCell, which is one layer."""
    parts = ["weight_ih", "weight_hh"]
    biases = "bias_ih" in leaves or "bias_hh" in leaves
    parts += ["bias_ih", "bias_hh"] if biases else []
    title = _titled("nn.LSTMCell", name)
    _check_names(title, name, leaves, parts, f"with{'' if biases else 'out'} biases")
    hidden = _hidden(name, leaves, "", False)
    inputs = _inputs(name, "weight_ih", leaves["weight_ih"], hidden)
    layer = _direction(name, leaves, "", _shapes(inputs, hidden, hidden, parts))
    return Recurrent(name=name, kind="nn.LSTMCell", layers=(layer,))


def _norm(name: str, leaves: Mapping[str, Array]) -> Norm:
    """An nn.BatchNorm1d, with or without weights of its own."""
    features = leaves["running_mean"].shape
    if len(features) != 1:
        raise ModelError(
            f"'{joined(name, 'running_mean')}' must have the shape [F], not {shape_text(features)}"
        )
    affine = "weight" in leaves or "bias" in leaves
    parts = ["running_mean", "running_var", *(("weight", "bias") if affine else ())]
    _check_names(_titled("nn.BatchNorm1d", name), name,
                 {leaf: array for leaf, array in leaves.items() if leaf != COUNTER}, parts,
                 f"with{'' if affine else 'out'} weights")
    for leaf in parts:
        _check_shape(name, leaf, leaves[leaf], features)
    return Norm(
        name=name, mean=leaves["running_mean"], variance=leaves["running_var"],
        weight=leaves.get("weight", np.ones(features)),
        bias=leaves.get("bias", np.zeros(features)),
    )


def _linear(name: str, leaves: Mapping[str, Array], embeddings: bool) -> Linear:
    """An nn.Linear, with or without a bias."""
    weight = leaves["weight"]
    outputs = weight.shape[0]
    _check_names(_titled("nn.Linear", name), name, leaves,
                 ("weight", *(("bias",) if "bias" in leaves else ())), "of any kind")
    if "bias" not in leaves and "emb" in name.lower() and not embeddings:
        raise ModelError(
            f"'{joined(name, 'weight')}' {shape_text(weight.shape)} without a bias is by its name "
            f"of an nn.Embedding, which is not supported"
        )
    bias = leaves.get("bias", np.zeros(outputs))
    _check_shape(name, "bias", bias, (outputs,))
    return Linear(name=name, dense=Dense(w=weight, bias=bias), biased="bias" in leaves)
