"""When everything happened: the cycles of a run at full speed, and whether they are those promised.

What can be said of any correct design, whatever its layers, is this. At the start everything fills
up. Then the slowest part sets the pace: within a sequence its steps follow each other at just the
cycles of a step. A sequence's first step need not wait for the step before, so it may come earlier,
and after that the other parts catch up. So no step of any part comes later than promised, and there
is one part none of whose steps comes earlier.

But where states go out as a sequence ends, short sequences wait for it; and where that takes longer
than a step, nothing is promised.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sim.checker import Difference
from sim.manifest import Manifest
from sim.model import Course
from sim.monitor import Beats, Values

__all__ = ["TIMING", "Timing", "TimingRecord", "check_alone", "check_together", "save_timing"]

TIMING = "timing.npz"
"""The file's name in the folder of a run."""

_ALONE, _STREAM = "alone.", "stream."


class Timing:
    """Collects the cycles of a run, inside the simulator."""

    def __init__(self) -> None:
        self._course = Course(queues=(), turns=np.empty(0, dtype=np.int64))
        self._lengths = np.empty(0, dtype=np.int64)
        self._collected: list[tuple[Beats, list[Values]]] = []
        self._inputs: Beats | None = None

    def keep(self, course: Course, lengths: np.ndarray, inputs: Beats,
             collected: list[tuple[Beats, list[Values]]]) -> None:
        """Take the recording of a run that was right."""
        self._course, self._inputs, self._collected = course, inputs, collected
        self._lengths = lengths[course.order]

    def record(self, manifest: Manifest) -> "TimingRecord":
        """What has been collected.

        Raises
        ------
        ValueError
            If there is nothing.
        """
        if self._inputs is None:
            raise ValueError("timing must be given a run before its record is asked for")
        outputs = [beats for beats, _ in self._collected]
        shown: dict[str, tuple[Sequence[Beats | Values], int]] = {
            "x": ([self._inputs], manifest.input.beats),
            "y": (outputs, manifest.output.beats),
            **{probe.name: ([values[number] for _, values in self._collected], probe.units)
               for number, probe in enumerate(manifest.probes)}}
        cycles, streams = {}, {}
        for name, (parts, items) in shown.items():
            cycles[name], streams[name] = _rows(parts, items)
        queues = self._course.queues
        streams["lengths"] = np.repeat(np.arange(len(queues)), [len(queue) for queue in queues])
        return TimingRecord(lengths=self._lengths, x=cycles.pop("x"), y=cycles.pop("y"),
                            states=cycles, streams=streams)


def _rows(parts: Sequence[Beats | Values], items: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last cycle of each vector, int64 [L, 2], and its stream, int64 [L]."""
    cycles = np.concatenate([part.cycles for part in parts])
    stream = np.concatenate([part.stream for part in parts])
    # Those of one stream come in order, and between them those of others.
    order = np.argsort(stream, kind="stable")
    cycles = cycles[order].reshape(-1, items)[:, [0, -1]]
    stream = stream[order].reshape(-1, items)[:, 0]
    order = np.argsort(cycles[:, 1], kind="stable")
    return cycles[order], stream[order]


def save_timing(folder: Path, *, steady: "TimingRecord", alone: "TimingRecord") -> None:
    """Write the file: sequences back to back, and one on a design that was idle."""
    arrays: dict[str, np.ndarray] = {}
    for prefix, record in (("", steady), (_ALONE, alone)):
        arrays |= {prefix + name: array for name, array in (
            ("lengths", record.lengths), ("x", record.x), ("y", record.y),
            *record.states.items())}
        arrays |= {f"{prefix}{_STREAM}{name}": array for name, array in record.streams.items()}
    # The names are no parameters of NumPy's function, whatever its types say.
    np.savez_compressed(folder / TIMING, **arrays)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, eq=False)
class TimingRecord:
    """The cycles of a run at full speed.

    Every array of cycles has two columns, the cycle of the first and of the last beat of a vector,
    or of the first and the last unit. Its rows come in the order of the latter.

    Parameters
    ----------
    lengths : int64 array [S]
        Steps of each sequence, stream by stream.
    x : int64 array [L, 2]
        When each step's input was taken.
    y : int64 array [S, 2] or [L, 2]
        When each output was taken.
    states : dict of str to int64 array [L, 2]
        When each step's c and h were shown, ``lstm0.h`` for one.
    streams : dict of str to int64 array
        To which stream each row belongs: of ``lengths``, ``x``, ``y``, and of each in ``states``.
    """

    lengths: np.ndarray
    x: np.ndarray
    y: np.ndarray
    states: dict[str, np.ndarray]
    streams: dict[str, np.ndarray] = field(default_factory=dict)

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
        streams = {name.removeprefix(_STREAM): arrays.pop(name) for name in list(arrays)
                   if name.startswith(_STREAM)}
        return cls(lengths=arrays.pop("lengths"), x=arrays.pop("x"), y=arrays.pop("y"),
                   states=arrays, streams=streams)

    def intervals(self, tensor: str, stream: int = 0) -> np.ndarray:
        """Cycles between the last units of successive steps of a stream: int64 [L - 1]."""
        return np.diff(self.states[tensor][self.streams[tensor] == stream, 1])

    @property
    def latency(self) -> int:
        """Cycles from the last input beat before the first output to that output's first beat."""
        step = 0 if self.every_step else int(self.lengths[0]) - 1
        return int(self.y[0, 0] - self.x[step, 1])

    @property
    def every_step(self) -> bool:
        """Whether there is an output for each step; False where there is one step a sequence."""
        return len(self.y) > len(self.lengths)

    def paces(self, stream: int) -> dict[str, np.ndarray]:
        """Cycles between successive steps of a stream, for each layer and the output.

        int64 [L - 1]; the output is left out where it does not have every step.
        """
        paces = {name: self.intervals(name, stream) for name in self.states if name.endswith(".h")}
        if self.every_step:
            paces["y"] = np.diff(self.y[self.streams["y"] == stream, 0])
        return paces

    def places(self, stream: int) -> np.ndarray:
        """The number of each step of a stream in its sequence: int64 [L]."""
        lengths = self.lengths[self.streams["lengths"] == stream]
        return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def check_alone(record: TimingRecord, manifest: Manifest, stream: int = 0,
                calm: np.ndarray | None = None) -> None:
    """A stream whose input is always there, while all others are idle, keeps its promised pace.

    Parameters
    ----------
    record : TimingRecord
    manifest : Manifest
    stream : int
    calm : bool array [L], optional
        The stream's steps that no other stream is near, where there are others.

    Raises
    ------
    Difference
        If one of its steps took longer, if it takes less cycles than promised, or if a sequence's
        first step came too early.
    """
    paces, places = record.paces(stream), record.places(stream)[1:]
    # Without probes, and with one output for a sequence, there is nothing to see.
    if manifest.crowded or not paces:
        return
    promised = f"{manifest.alone} by the manifest"
    # Well within a sequence. First steps follow so closely that what comes behind may wait for room
    # in a buffer, where it would not at the promised pace.
    steady = places >= manifest.settling
    if calm is not None:
        steady &= calm[1:]
    if manifest.longest is not None:
        # Whole sequences are waited for, so only what happens within one is of a pace.
        steady &= places > 0
    elif manifest.every_step and not manifest.state_output and (calm is None or calm.all()):
        # But where every step goes through every buffer, one long sequence gives all of them the
        # promised pace, and from then on none has to wait for more than a step.
        steady = np.maximum.accumulate(steady)
    inside = steady & (places > 0)
    for name, pace in paces.items():
        late = np.flatnonzero(steady & (pace > manifest.alone))
        if len(late):
            raise Difference(f"step {late[0] + 1} of {name} came {pace[late[0]]} cycles after the "
                             f"one before, not {promised}")
    if inside.any() and not any((pace[inside] == manifest.alone).all() for pace in paces.values()):
        found = ", ".join(f"{name} at {pace[inside].min()}" for name, pace in paces.items())
        raise Difference(f"within a sequence, steps follow each other faster ({found} cycles) than "
                         f"at {promised}")
    # A head that is slower than the layers shows only where it has each step.
    starts, work = (places == 0) & manifest.every_step, manifest.work // manifest.streams
    starts &= manifest.longest is None
    if starts.any() and not any((pace[starts] >= work).all() for pace in paces.values()):
        found = ", ".join(f"{name} at {pace[starts].min()}" for name, pace in paces.items())
        raise Difference(f"the first step of a sequence follows faster ({found} cycles) than the "
                         f"{work} of its work by the manifest")


def check_together(record: TimingRecord, manifest: Manifest) -> None:
    """Streams that all have one sequence of the same length keep the promised pace together.

    Raises
    ------
    Difference
        If not, on average.
    """
    streams = [record.paces(stream) for stream in range(manifest.streams)]
    # A mean over few steps says nothing.
    if (manifest.crowded or not streams[0]
            or len(record.places(0)) < manifest.settling + 8):
        return
    found: list[str] = []
    for name in streams[0]:
        means = np.array([paces[name][manifest.settling:].mean() for paces in streams])
        # To within a half, so that a cycle more or less a step shows, but not how the streams'
        # order within a round varies.
        wrong = means[np.abs(means - manifest.step) >= 0.5]
        if not len(wrong):
            return
        found.append(f"{name} at {wrong[0]:.1f}")
    raise Difference(f"with all streams busy, the steps of one follow each other at other cycles "
                     f"({', '.join(found)}) than the {manifest.step} by the manifest")
