"""The scoreboard: what came out against what must come out, and the first difference by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.manifest import Manifest
from sim.model import Expected, Rows
from sim.monitor import Beats, Values

__all__ = ["Checker", "Difference"]


@dataclass(frozen=True, order=True)
class _Place:
    """Where a difference is; earlier ones are smaller.

    Within a step the tensors come in the order in which they are computed, so a wrong state is
    named before the wrong output that follows from it.
    """

    position: int
    step: int
    tensor: int
    unit: int


class Difference(AssertionError):
    """The design differs from golden; the message names the first place."""


class _Track:
    """A tensor's rows, and how far they have been seen."""

    def __init__(self, number: int, rows: Rows, row_units: int) -> None:
        self.number = number
        self.rows = rows
        self.row_units = row_units
        self.total = len(rows.values) * row_units
        # Sequences may be repeated, so the order of appearance counts, not the number.
        starts = np.flatnonzero(np.r_[True, rows.last[:-1]])
        self.position = np.searchsorted(starts, np.arange(len(rows.values)), side="right")
        self.seen = 0
        self.found: tuple[_Place, str] | None = None

    def take(self, count: int) -> tuple[int, np.ndarray]:
        """How many of so many new items were still expected, and their numbers."""
        fit = min(count, self.total - self.seen)
        items = np.arange(self.seen, self.seen + fit)
        self.seen += fit
        return fit, items

    def report(self, row: int, unit: int, text: str) -> None:
        """Keep a difference, if it is the first of this tensor."""
        if self.found is None:
            place = _Place(int(self.position[row]), int(self.rows.step[row]), self.number, unit)
            self.found = place, f"{self.where(row)}, {text}"

    def where(self, row: int) -> str:
        return (f"sequence {self.rows.sequence[row]}, step {self.rows.step[row]}, "
                f"tensor {self.rows.name}")

    def extra(self, items: int, text: str) -> None:
        """Keep that something came after everything that was expected."""
        if items and self.found is None:
            self.found = (_Place(1 << 62, 0, self.number, 0),
                          f"tensor {self.rows.name}: {items} more {text} than expected, after "
                          f"the end of the last sequence")


class Checker:
    """Compares a recording with what is expected, as it grows.

    Parameters
    ----------
    manifest : Manifest
    expected : Expected

    Attributes
    ----------
    words : int
        Beats of the output compared so far.
    states : int
        Values of c and h compared so far.
    """

    def __init__(self, manifest: Manifest, expected: Expected) -> None:
        self._stream = manifest.output
        self._probes = [_Track(number, rows, probe.units)
                        for number, (rows, probe)
                        in enumerate(zip(expected.probes, manifest.probes, strict=True))]
        self._output = _Track(len(self._probes), expected.output, manifest.output.beats)

    @property
    def words(self) -> int:
        return self._output.seen

    @property
    def states(self) -> int:
        return sum(track.seen for track in self._probes)

    def feed(self, outputs: Beats, probes: Sequence[Values]) -> None:
        """Compare what is new.

        Raises
        ------
        Difference
            Naming the first sequence, step, tensor and unit, what was expected and what came.
        """
        for track, values in zip(self._probes, probes, strict=True):
            self._feed_probe(track, values)
        self._feed_output(outputs)
        self._raise_first()

    def finish(self) -> None:
        """Nothing more will come.

        Raises
        ------
        Difference
            If something is missing.
        """
        for track in (*self._probes, self._output):
            if track.seen < track.total:
                row, item = divmod(track.seen, track.row_units)
                what = "unit" if track is not self._output else "word"
                track.report(row, item, f"{what} {item}: missing ({track.total - track.seen} of "
                                        f"{track.total} did not come)")
        self._raise_first()

    def _raise_first(self) -> None:
        found = [track.found for track in (*self._probes, self._output) if track.found]
        if found:
            raise Difference(min(found)[1])

    @staticmethod
    def _feed_probe(track: _Track, values: Values) -> None:
        fit, items = track.take(len(values.values))
        rows, units = np.divmod(items, track.row_units)
        wanted = track.rows.values[rows, units]
        wrong = np.flatnonzero(values.values[:fit] != wanted)
        if len(wrong):
            n = wrong[0]
            track.report(rows[n], units[n],
                         f"unit {units[n]}: expected {wanted[n]}, got {values.values[n]}, "
                         f"in cycle {values.cycles[n]}")
        track.extra(len(values.values) - fit, "values")

    def _feed_output(self, beats: Beats) -> None:
        track, stream = self._output, self._stream
        fit, items = track.take(len(beats.cycles))
        rows, words = np.divmod(items, track.row_units)
        # Lanes beyond the vector's end hold anything, so they are given what came.
        got = stream.unpack(beats.data[:fit])
        unit = words[:, np.newaxis] * stream.lanes + np.arange(stream.lanes)
        wanted = np.where(unit < stream.elements,
                          track.rows.values[rows[:, np.newaxis],
                                            np.minimum(unit, stream.elements - 1)], got)
        last = track.rows.last[rows] & (words == track.row_units - 1)
        wrong = np.flatnonzero((got != wanted).any(axis=1) | (beats.last[:fit] != last))
        if len(wrong):
            n = wrong[0]
            lanes = np.flatnonzero(got[n] != wanted[n])
            if len(lanes):
                lane = lanes[0]
                text = (f"unit {unit[n, lane]}: expected {wanted[n, lane]}, got {got[n, lane]}")
            else:
                text = f"word {words[n]}: expected TLAST {int(last[n])}, got {int(not last[n])}"
            track.report(rows[n], int(unit[n, lanes[0]]) if len(lanes) else stream.elements,
                         f"{text}, in cycle {beats.cycles[n]}")
        track.extra(len(beats.cycles) - fit, "words")
