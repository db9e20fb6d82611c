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
``saturated.NAME``  [S]        How many elements of a tensor golden saturated in each sequence. May
                               be missing.
``cuts``           [S]         Of a stateful network: into how many pieces each sequence is cut.
``pieces.NAME``                Of the pieces, all of the above, where each begins with the state in
                               which the one before it in its sequence has ended.
=================  ==========  ================================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from golden.checks import valid_steps
from golden.quantized_network import QuantizedNetwork
from golden.result import StateCodes

__all__ = ["VECTORS", "Vectors", "VectorsError"]

VECTORS = "vectors.npz"
"""The file's name in the folder of a design."""

_SATURATED = "saturated."
_CUTS = "cuts"
_PIECES = "pieces."


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
    saturated : mapping of str to int64 array [S]
        Elements that golden saturated in each sequence, by tensor; empty if unknown.
    every_step : bool
        Which of its two shapes ``y`` has.
    pieces : Vectors or None
        Of a stateful network, the same sequences cut into pieces, one after the other: each goes
        on from the state in which the one before it has ended, if that is of the same sequence.
    cuts : int64 array [S] or None
        Pieces of each sequence.

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
    saturated: Mapping[str, np.ndarray] = field(default_factory=dict)
    pieces: "Vectors | None" = None
    cuts: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.lengths.ndim != 1 or not len(self.lengths) or self.lengths.min() < 1:
            raise VectorsError("lengths must be a list of positive integers, one at least")
        steps = int(self.lengths.sum())
        rows = {"x": (self.x, steps),
                "y": (self.y, steps if self.every_step else len(self.lengths)),
                **{name: (array, steps) for name, array in self.states.items()}}
        for name, (array, count) in rows.items():
            if array.ndim != 2 or len(array) != count:
                raise VectorsError(f"{name} must have {count} rows, not the shape "
                                   f"{list(array.shape)}")
        for name, counts in self.saturated.items():
            if counts.shape != self.lengths.shape:
                raise VectorsError(f"{_SATURATED}{name} must have {len(self.lengths)} numbers, one "
                                   f"for each sequence, not the shape {list(counts.shape)}; what "
                                   f"an earlier version has built must be built again")
        if (self.pieces is None) != (self.cuts is None):
            raise VectorsError("cuts must be there where pieces are, and only there")
        if self.pieces is not None and self.cuts is not None and (
                self.cuts.shape != self.lengths.shape or self.cuts.min() < 1
                or self.cuts.sum() != self.pieces.sequences
                or not np.array_equal(self.lengths, [
                    self.pieces.lengths[some].sum() for some in self.pieces_of])):
            raise VectorsError("the pieces of each sequence must together be as long as it is")

    @property
    def sequences(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each sequence."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def pieces_of(self) -> list[np.ndarray]:
        """The numbers of each sequence's pieces."""
        assert self.cuts is not None
        ends = np.cumsum(self.cuts)
        return np.split(np.arange(ends[-1]), ends[:-1])

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
        whole, _ = cls._run(network, x, lengths)
        if not network.stateful:
            return whole
        pieces, cuts = cls._cut(network, x, lengths)
        return replace(whole, pieces=pieces, cuts=cuts)

    @classmethod
    def _run(cls, network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray,
             state: Sequence[StateCodes] | None = None
             ) -> tuple["Vectors", Sequence[StateCodes]]:
        """Sequences that begin anew or with given states, and the states in which they end."""
        valid = valid_steps(lengths, x.shape[1])
        result = network.run(x, lengths, trace=True, state=state)
        turned = np.where(valid, lengths[:, np.newaxis] - 1 - np.arange(x.shape[1]), 0)
        states = {}
        for name, codes, each in zip(network.direction_names, result.layers or (),
                                     network.directions, strict=True):
            for tensor in ("c", "h") if each.projection is None else ("c", "m", "h"):
                array = getattr(codes, tensor)
                if each.reverse:
                    array = np.take_along_axis(array, turned[:, :, np.newaxis], axis=1)
                states[f"{name}.{tensor}"] = array[valid]
        return cls(lengths=lengths, x=x[valid],
                   y=result.y[valid] if network.every_step else result.y, states=states,
                   saturated=result.outside or {}, every_step=network.every_step), result.final

    @classmethod
    def _cut(cls, network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray
             ) -> tuple["Vectors", np.ndarray]:
        """Cut sequences at random places, half of them often; gives the pieces of each, too."""
        steps, numbers = np.arange(x.shape[1]), np.arange(len(x))
        often = np.where(numbers % 2, 0.1, 0.5)[:, np.newaxis]
        ends = np.random.default_rng(0).random(x.shape[:2]) < often
        ends = (ends & (steps < lengths[:, np.newaxis])) | (steps == lengths[:, np.newaxis] - 1)
        cuts = ends.sum(axis=1)
        # All first pieces, then all second ones; a sequence's next begins behind the step in which
        # its last one has ended.
        runs: list[Vectors] = []
        state: Sequence[StateCodes] | None = None
        begin, some = np.zeros(len(x), dtype=np.int64), numbers
        for number in range(int(cuts.max())):
            going = cuts[some] > number
            some = some[going]
            if state is not None:
                state = [StateCodes(h=each.h[going], c=each.c[going]) for each in state]
            end = np.argmax(ends[some] & (steps >= begin[some, np.newaxis]), axis=1) + 1
            of = end - begin[some]
            at = np.minimum(begin[some, np.newaxis] + np.arange(of.max()), x.shape[1] - 1)
            run, state = cls._run(network, x[some[:, np.newaxis], at], of, state)
            runs.append(run)
            begin[some] = end
        owners = np.concatenate([numbers[cuts > number] for number in range(len(runs))])
        return cls._joined(runs)._chosen(np.argsort(owners, kind="stable")), cuts

    @classmethod
    def _joined(cls, runs: Sequence["Vectors"]) -> "Vectors":
        """One after the other."""
        return cls(
            lengths=np.concatenate([run.lengths for run in runs]),
            x=np.concatenate([run.x for run in runs]), y=np.concatenate([run.y for run in runs]),
            states={name: np.concatenate([run.states[name] for run in runs])
                    for name in runs[0].states},
            saturated={name: np.concatenate([run.saturated[name] for run in runs])
                       for name in runs[0].saturated},
            every_step=runs[0].every_step)

    def _chosen(self, order: np.ndarray) -> "Vectors":
        """The same sequences in another order."""
        rows = np.concatenate([np.arange(self.starts[n], self.starts[n] + self.lengths[n])
                               for n in order])
        return replace(self, lengths=self.lengths[order], x=self.x[rows],
                       y=self.y[rows if self.every_step else order],
                       states={name: array[rows] for name, array in self.states.items()},
                       saturated={name: counts[order] for name, counts in self.saturated.items()})

    def _arrays(self) -> dict[str, Any]:
        """Those of the file."""
        arrays = {"lengths": self.lengths, "x": self.x, "y": self.y, **self.states,
                  **{_SATURATED + name: counts for name, counts in self.saturated.items()}}
        if self.pieces is not None and self.cuts is not None:
            arrays |= {_CUTS: self.cuts, **{_PIECES + name: array for name, array in
                                            self.pieces._arrays().items()}}
        return {name: np.asarray(array, dtype=np.int64) for name, array in arrays.items()}

    def save(self, path: Path) -> None:
        """Write the file."""
        np.savez_compressed(path, **self._arrays())

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
        for name, array in arrays.items():
            if array.dtype != np.int64:
                raise VectorsError(f"{path}: {name} must be int64, not {array.dtype}")
        return cls._of(path, arrays, every_step=every_step)

    @classmethod
    def _of(cls, path: Path, arrays: dict[str, np.ndarray], *, every_step: bool, within: str = ""
            ) -> "Vectors":
        """Those of a file, or its pieces."""
        for name in ("lengths", "x", "y"):
            if name not in arrays:
                raise VectorsError(f"{path} has no array {within + name!r}")
        pieces = {name.removeprefix(_PIECES): arrays.pop(name)
                  for name in list(arrays) if name.startswith(_PIECES)}
        saturated = {name: arrays.pop(name) for name in list(arrays)
                     if name.startswith(_SATURATED)}
        return cls(
            lengths=arrays.pop("lengths"), x=arrays.pop("x"), y=arrays.pop("y"),
            every_step=every_step, cuts=arrays.pop(_CUTS, None),
            pieces=cls._of(path, pieces, every_step=every_step, within=_PIECES) if pieces else None,
            saturated={name.removeprefix(_SATURATED): counts
                       for name, counts in saturated.items()},
            states=arrays)
