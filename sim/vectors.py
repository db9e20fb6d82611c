"""Sequences and what golden makes of them: the file between golden and the bench.

An NPZ file of int64 arrays, with S sequences of L steps in all, one after the other:

=================  ==========  ================================================================
``lengths``        [S]         Steps of each sequence, at least 1.
``x``              [L, N]      Input codes.
``y``              [S, O]      Output codes; [L, O] where there is an output for every step.
``lstm0.c``        [L, H]      A layer's cell state after each step; ``lstm0.h`` the hidden state,
                               and ``lstm0.m`` what a projection makes it of, where there is one;
                               ``lstm0.reverse.c`` of the second of two directions. In the order in
                               which the direction reads.
``every.y``        [L, O]      Outputs at every step, of a stateful network that has one for each
                               sequence: for sequences that are cut into pieces.
``saturated.NAME``  []         How many elements of a tensor golden saturated. May be missing.
=================  ==========  ================================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from golden.quantized_network import QuantizedNetwork

__all__ = ["VECTORS", "Vectors", "VectorsError"]

VECTORS = "vectors.npz"
"""The file's name in the folder of a design."""

_SATURATED = "saturated."
_EVERY = "every.y"


class VectorsError(ValueError):
    """The file is missing, or its arrays do not belong together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """Sequences with every number that the bench compares.

    Parameters
    ----------
    lengths : int64 array [S]
    x : int64 array [L, N]
    y : int64 array [S, O] or [L, O]
    states : mapping of str to int64 array [L, H]
        The keys are ``lstm0.c``, ``lstm0.h``, ``lstm1.c`` and so on; of a projection's layer also
        ``lstm0.m``, and ``lstm0.h`` has the shape [L, R]. Where a direction reads from the end, a
        sequence's last step comes first.
    saturated : mapping of str to int
        Elements that golden saturated in all sequences together, by tensor; empty if unknown.
    every_step : bool
        Which of its two shapes ``y`` has.
    every_y : int64 array [L, O] or None
        Where it has the first, the outputs that every step would have; None where nobody needs it.

    Raises
    ------
    VectorsError
        If the shapes do not belong together.
    """

    lengths: np.ndarray
    x: np.ndarray
    y: np.ndarray
    states: Mapping[str, np.ndarray]
    every_step: bool
    saturated: Mapping[str, int] = field(default_factory=dict)
    every_y: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.lengths.ndim != 1 or not len(self.lengths) or self.lengths.min() < 1:
            raise VectorsError("lengths must be a list of positive integers, one at least")
        steps = int(self.lengths.sum())
        rows = {"x": (self.x, steps),
                "y": (self.y, steps if self.every_step else len(self.lengths)),
                **{name: (array, steps) for name, array in self.states.items()}}
        if self.every_y is not None:
            rows[_EVERY] = self.every_y, steps
        for name, (array, count) in rows.items():
            if array.ndim != 2 or len(array) != count:
                raise VectorsError(f"{name} must have {count} rows, not the shape "
                                   f"{list(array.shape)}")

    @property
    def sequences(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each sequence."""
        return np.cumsum(self.lengths) - self.lengths

    def steps(self, sequence: int) -> slice:
        """The rows of a sequence."""
        start = int(self.starts[sequence])
        return slice(start, start + int(self.lengths[sequence]))

    def outputs(self, sequence: int) -> slice:
        """The rows of ``y`` that belong to a sequence."""
        return self.steps(sequence) if self.every_step else slice(sequence, sequence + 1)

    @classmethod
    def compute(cls, network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray, *,
                singles: int = 4) -> "Vectors":
        """Let golden compute everything.

        Parameters
        ----------
        network : QuantizedNetwork
        x : int64 array [B, T, N]
            Input codes.
        lengths : int64 array [B]
        singles : int
            So many sequences of length 1, the first steps of the others, are added at the end,
            for the bench's test of them.
        """
        lengths = np.concatenate([lengths, np.ones(singles, dtype=np.int64)])
        x = np.concatenate([x, x[np.arange(singles) % len(x)]])[:, :lengths.max()]
        valid = np.arange(x.shape[1]) < lengths[:, np.newaxis]
        result = network.run(x, lengths, trace=True)
        turned = np.where(valid, lengths[:, np.newaxis] - 1 - np.arange(x.shape[1]), 0)
        states = {}
        for name, codes, each in zip(network.direction_names, result.layers or (),
                                     network.directions, strict=True):
            for tensor in ("c", "h") if each.projection is None else ("c", "m", "h"):
                array = getattr(codes, tensor)
                if each.reverse:
                    array = np.take_along_axis(array, turned[:, :, np.newaxis], axis=1)
                states[f"{name}.{tensor}"] = array[valid]
        every_y = None
        if network.stateful and not network.every_step:
            every_y = replace(network, every_step=True).run(x, lengths).y[valid]
        return cls(lengths=lengths, x=x[valid], every_y=every_y,
                   y=result.y[valid] if network.every_step else result.y, states=states,
                   saturated=result.saturated, every_step=network.every_step)

    def save(self, path: Path) -> None:
        """Write the file."""
        arrays = {"lengths": self.lengths, "x": self.x, "y": self.y, **self.states,
                  **{_SATURATED + name: np.array(count) for name, count in self.saturated.items()}}
        if self.every_y is not None:
            arrays[_EVERY] = self.every_y
        codes: dict[str, Any] = {name: np.asarray(array, dtype=np.int64)
                                 for name, array in arrays.items()}
        np.savez_compressed(path, **codes)

    @classmethod
    def load(cls, path: Path, *, every_step: bool) -> "Vectors":
        """Read the file.

        Raises
        ------
        VectorsError
            If it is not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError as error:
            raise VectorsError(f"{path.parent} has no {path.name}") from error
        except Exception as error:
            # Damaged bytes raise whatever zip, zlib, tokenize and NumPy's own reader raise.
            raise VectorsError(f"{path} is not an .npz file of plain arrays") from error
        for name in ("lengths", "x", "y"):
            if name not in arrays:
                raise VectorsError(f"{path} has no array {name!r}")
        for name, array in arrays.items():
            if array.dtype != np.int64:
                raise VectorsError(f"{path}: {name} must be int64, not {array.dtype}")
            if name.startswith(_SATURATED) and array.ndim:
                raise VectorsError(f"{path}: {name} must be a single number, not of the shape "
                                   f"{list(array.shape)}")
        return cls(
            lengths=arrays.pop("lengths"), x=arrays.pop("x"), y=arrays.pop("y"),
            every_step=every_step, every_y=arrays.pop(_EVERY, None),
            saturated={name.removeprefix(_SATURATED): int(arrays[name])
                       for name in arrays if name.startswith(_SATURATED)},
            states={name: array for name, array in arrays.items()
                    if not name.startswith(_SATURATED)})
