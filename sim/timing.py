"""When everything happened: the cycles of a run at full speed, for the cycle model's tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.manifest import Manifest
from sim.monitor import Beats, Values

__all__ = ["TIMING", "Timing", "TimingRecord", "save_timing"]

TIMING = "timing.npz"
"""The file's name in the folder of a run."""

_ALONE = "alone."


class Timing:
    """Collects the cycles of a run, inside the simulator."""

    def __init__(self) -> None:
        self._order: Sequence[int] = ()
        self._lengths = np.empty(0, dtype=np.int64)
        self._inputs = np.empty(0, dtype=np.int64)
        self._collected: list[tuple[Beats, list[Values]]] = []

    def keep(self, order: Sequence[int], lengths: np.ndarray, inputs: Beats,
             collected: list[tuple[Beats, list[Values]]]) -> None:
        """Take the recording of a run that was right."""
        self._order, self._collected = order, collected
        self._lengths = lengths[list(order)]
        self._inputs = inputs.cycles

    def arrays(self, manifest: Manifest) -> dict[str, np.ndarray]:
        """The arrays of a `TimingRecord`."""
        output = np.concatenate([beats.cycles for beats, _ in self._collected])
        arrays = {"lengths": self._lengths,
                  "x": self._inputs.reshape(-1, manifest.input.beats)[:, [0, -1]],
                  "y": output.reshape(-1, manifest.output.beats)[:, [0, -1]]}
        for number, probe in enumerate(manifest.probes):
            cycles = np.concatenate([values[number].cycles for _, values in self._collected])
            arrays[probe.name] = cycles.reshape(-1, probe.units)[:, [0, -1]]
        return arrays


def save_timing(folder: Path, manifest: Manifest, *, steady: Timing, alone: Timing) -> None:
    """Write the file: sequences back to back, and one on a design that was idle."""
    arrays: dict[str, Any] = {**steady.arrays(manifest),
                              **{_ALONE + name: array
                                 for name, array in alone.arrays(manifest).items()}}
    np.savez_compressed(folder / TIMING, **arrays)


@dataclass(frozen=True, kw_only=True, eq=False)
class TimingRecord:
    """The cycles of a run at full speed.

    Every array has two columns, the cycle of the first and of the last beat of a vector, or of
    the first and the last unit.

    Parameters
    ----------
    lengths : int64 array [S]
        Steps of each sequence.
    x : int64 array [L, 2]
        When each step's input was taken.
    y : int64 array [S, 2] or [L, 2]
        When each output was taken.
    states : dict of str to int64 array [L, 2]
        When each step's c and h were shown, ``lstm0.h`` for one.
    """

    lengths: np.ndarray
    x: np.ndarray
    y: np.ndarray
    states: dict[str, np.ndarray]

    @classmethod
    def load(cls, folder: Path, *, alone: bool = False) -> "TimingRecord":
        """Read what a run left in its folder.

        Parameters
        ----------
        folder : Path
        alone : bool
            Whether to read of the one short sequence that was played on an idle design, instead
            of all sequences back to back.
        """
        with np.load(folder / TIMING, allow_pickle=False) as file:
            arrays = {name.removeprefix(_ALONE): file[name] for name in file.files
                      if name.startswith(_ALONE) == alone}
        return cls(lengths=arrays.pop("lengths"), x=arrays.pop("x"), y=arrays.pop("y"),
                   states=arrays)

    def intervals(self, tensor: str) -> np.ndarray:
        """Cycles between the last units of successive steps of a tensor: int64 [L - 1]."""
        return np.diff(self.states[tensor][:, 1])

    @property
    def latency(self) -> int:
        """Cycles from the last input beat before the first output to that output's first beat."""
        # With an output at the end of a sequence only, its last step is what the output waits for.
        every_step = len(self.y) > len(self.lengths)
        step = 0 if every_step else int(self.lengths[0]) - 1
        return int(self.y[0, 0] - self.x[step, 1])
