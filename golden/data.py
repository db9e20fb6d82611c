"""Sequences from an NPZ file: what a network is calibrated on, measured on and verified with."""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from golden.checks import require_finite, sequence_lengths, valid_steps
from golden.model import Network

__all__ = ["DataError", "Sequences"]


class DataError(ValueError):
    """A file of sequences that cannot be used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequences:
    """B sequences of up to T steps.

    Parameters
    ----------
    x : float64 array, B x T x N
        Real numbers; shorter sequences are padded with anything.
    lengths : int64 array, B
        Steps of each sequence, 1 to T.
    y : float64 array or None, B x O, or B x T x O for a network with an output at every step
        Targets.
    """

    x: np.ndarray
    lengths: np.ndarray
    y: np.ndarray | None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Sequences":
        """Read arrays ``x``, optionally ``lengths`` (all T where missing), optionally ``y``.

        Raises
        ------
        DataError
            If it is not such a file.
        """
        try:
            with open(path, "rb") as file:
                # A pickled object could run code; arrays of numbers need none.
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise DataError(f"{path}: must be an .npz file, not a single array")
                arrays = {name: archive[name] for name in archive.files}
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise DataError(f"{path}: the file cannot be read: {error.strerror}") from error
        except DataError:
            raise
        except Exception as error:
            # Damaged bytes raise whatever zip, zlib, tokenize and NumPy's own reader raise.
            raise DataError(f"{path}: not an .npz file of plain arrays") from error
        if "x" not in arrays:
            names = ", ".join(f"'{name}'" for name in sorted(arrays))
            raise DataError(f"{path}: must hold an array 'x', but has {names or 'none'}")
        try:
            return cls.of(arrays["x"], arrays.get("lengths"), arrays.get("y"))
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error

    @classmethod
    def of(cls, x: ArrayLike, lengths: ArrayLike | None, y: ArrayLike | None) -> "Sequences":
        """From arrays, or what NumPy makes arrays of.

        Raises
        ------
        ValueError
            If x or y does not hold real numbers, x is not of three axes or is empty, or a length
            is not between 1 and T.
        """
        real = cls._real("x", x)
        if real.ndim != 3 or not real.size:
            raise ValueError(f"array 'x' must have the shape [sequences, steps, inputs] and not be "
                             f"empty, not {list(real.shape)}")
        return cls(x=real, lengths=sequence_lengths(lengths, *real.shape[:2]),
                   y=None if y is None else cls._real("y", y))

    @staticmethod
    def _real(name: str, value: ArrayLike) -> np.ndarray:
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise ValueError(f"array '{name}' must hold real numbers, not {array.dtype}")
        return array.astype(np.float64)

    def check(self, network: Network) -> None:
        """Whether a network can take the data, and its outputs be held against the targets.

        Raises
        ------
        ValueError
            If not.
        """
        count, steps, inputs = self.x.shape
        if inputs != network.inputs:
            raise ValueError(f"array 'x' must have the shape [sequences, steps, {network.inputs}] "
                             f"for this model, not {list(self.x.shape)}")
        valid = valid_steps(self.lengths, steps)
        require_finite("array 'x'", self.x, valid)
        outputs = [count, steps, network.outputs] if network.every_step else [count,
                                                                              network.outputs]
        if self.y is not None and list(self.y.shape) != outputs:
            raise ValueError(f"targets 'y' must have the shape {outputs} of the outputs, not "
                             f"{list(self.y.shape)}")
        if self.y is not None:
            require_finite("targets 'y'", self.y, valid if network.every_step else None)
