"""What a tensor of an ONNX graph is known to be, while the graph is read.

Exporters wrap an LSTM in transposes, reshapes and gathers, and compute the shapes for those as
tensors too.  To know what such a graph means, every tensor on the way from the input to the output
is represented by its axes (`Stream`), and a tensor that holds sizes by the axes whose sizes they
are (`Sizes`).  An axis is a product of `Atom`, so that merging axes and splitting them again can be
followed; an axis of size 1 is the empty product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.model import Dense, Layer, ModelError

__all__ = [
    "Array",
    "Atom",
    "Axis",
    "Constant",
    "Expanded",
    "Filled",
    "Lengths",
    "Opaque",
    "Scaling",
    "Setting",
    "Shape",
    "Sizes",
    "Stack",
    "Stream",
    "Value",
    "axes_text",
    "axis_size",
    "axis_text",
    "normal_axes",
]

Array = NDArray[np.float64]

MAX_AXES = 64
"""Axes of a tensor, elements of a tensor of sizes, and factors of one such size."""


@dataclass(frozen=True, eq=False)
class Atom:
    """An axis of the input, or one that an operator made; equal to itself only.

    Parameters
    ----------
    name : str
        For messages.
    size : int or None
        Above 1; None where it is known at run time only.
    """

    name: str
    size: int | None


Axis = tuple[Atom, ...]

Shape = tuple[int | Axis | None, ...] | None
"""The sizes of a tensor, each None where it is not known, or None."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaling:
    """``scale * x + shift``, which the next layer takes into its weights.

    Parameters
    ----------
    scale, shift : ndarray, shape (K,)
        One of each for every element of the axis `along`, or one of each for all.
    along : Axis
        Empty if there is one for all.
    """

    scale: Array
    shift: Array
    along: Axis = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """A tensor on the way from the model's input to its output.

    Parameters
    ----------
    axes : tuple of Axis
        What each axis of the tensor is.
    layers : tuple of LSTM or Bidirectional
        The layers passed so far; empty for the input.
    head : tuple of Dense
        The dense layers passed so far.
    scaling : Scaling or None
        What is left to be taken into the next layer.
    time, batch, features : Axis
        The roles of the axes, known from the first LSTM on.
    directions : Axis
        Of `features` the factor that is the two directions, while these are told apart.
    pick : str or None
        None for every step, ``"end"`` for the last one in time, ``"final"`` for each direction's
        own last one, ``"start"`` for the first one in time, of which only the reverse direction is
        of use: to that it is the last.
    cell : bool
        Whether these are cell states, final ones, instead of outputs.
    turned : Axis
        The axis along which the order is reversed; empty if none is.
    lengths : str or None
        The input that says how long each sequence is.
    """

    axes: tuple[Axis, ...]
    layers: tuple[Layer, ...] = ()
    head: tuple[Dense, ...] = ()
    scaling: Scaling | None = None
    time: Axis = ()
    batch: Axis = ()
    features: Axis = ()
    directions: Axis = ()
    pick: str | None = None
    cell: bool = False
    turned: Axis = ()
    lengths: str | None = None

    @property
    def width(self) -> int:
        """The features that the last layer gives."""
        return self.head[-1].outputs if self.head else self.layers[-1].outputs

    def require_data(self) -> None:
        """Refuse a cell state, which is good for an output only, and a step of no use."""
        if self.pick == "start":
            raise ModelError(
                "of the first time step of an LSTM's output only the reverse direction can be used"
            )
        if self.cell:
            raise ModelError("the final cell state of an LSTM can be an output only")


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant:
    """A tensor that the file itself determines."""

    array: NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Expanded:
    """A constant, repeated along axes of size 1 as often as the input calls for."""

    array: NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Filled:
    """A tensor that is one number, or the size of one axis, over and over.

    Parameters
    ----------
    item : float or Axis
    shape : Shape
        As far as known.
    """

    item: float | Axis
    shape: Shape = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """An input of the model that holds the states to begin with, or a part of it.

    Parameters
    ----------
    name : str
        Of the input.
    shape : Shape
        As far as known.
    """

    name: str
    shape: Shape = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Lengths:
    """An input of the model that holds the lengths of the sequences."""

    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Sizes:
    """An integer scalar, or a vector of integers, of known numbers and sizes of axes."""

    items: tuple[int | Axis, ...]
    scalar: bool = False

    def __post_init__(self) -> None:
        longest = max((len(item) for item in self.items if isinstance(item, tuple)), default=0)
        if max(len(self.items), longest) > MAX_AXES:
            raise ModelError(f"a tensor of sizes must have at most {MAX_AXES} elements and factors")
        for item in self.items:
            if isinstance(item, int) and not -(2**63) <= item < 2**63:
                raise ModelError(f"a size must be an integer of 64 bits, not {item:.3g}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Several directions' tensors, each of size 1 along `axis`, one after another along it."""

    items: tuple[Stream, ...]
    axis: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Opaque:
    """Something not followed, and refused only if the result turns out to depend on it."""

    what: str


Value = Stream | Constant | Expanded | Filled | Setting | Lengths | Sizes | Stack | Opaque


def axis_text(axis: Axis) -> str:
    """An axis in words."""
    return " * ".join(atom.name for atom in axis) if axis else "1"


def axes_text(axes: Sequence[int | Axis | None]) -> str:
    """A shape in words."""
    texts = (axis_text(axis) if isinstance(axis, tuple) else str(axis or "?") for axis in axes)
    return f"[{', '.join(texts)}]"


def axis_size(axis: Axis) -> int | None:
    """The size of an axis, or None where it is known at run time only."""
    sizes = [atom.size for atom in axis]
    return None if None in sizes else prod(size for size in sizes if size is not None)


def normal_axes(axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the start, where negative ones count from the end of `rank`.

    Raises
    ------
    ModelError
        If one is out of range or given twice.
    """
    normal = []
    for axis in axes:
        if not -rank <= axis < rank:
            raise ModelError(f"axis must be in {-rank} .. {rank - 1}, not {axis}")
        normal.append(axis % rank)
    if len(set(normal)) != len(normal):
        raise ModelError(f"axes must differ, not be {list(axes)}")
    return normal
