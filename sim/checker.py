"""The scoreboard: what came out against what must come out, and the first difference by name."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TypeVar

import numpy as np

from sim.manifest import Manifest, Stream
from sim.model import Expected, Rows
from sim.monitor import Beats, Values

__all__ = ["Checker", "Difference"]

Recorded = TypeVar("Recorded", Beats, Values)


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
    stream: int


class Difference(AssertionError):
    """The design differs from golden; the message names the first place."""


def _of(streams: np.ndarray, stream: int) -> np.ndarray | slice:
    """Which items belong to a stream."""
    return np.flatnonzero(streams == stream) if streams.any() or stream else slice(None)


def _check_streams(what: str, stream: np.ndarray, cycles: np.ndarray, count: int) -> None:
    """Only streams that exist."""
    wrong = np.flatnonzero(stream >= count)
    if len(wrong):
        raise Difference(f"{what} belongs to stream {stream[wrong[0]]} of {count}, in cycle "
                         f"{cycles[wrong[0]]}")


class _Track:
    """A tensor's rows in one stream, and how far they have been seen."""

    def __init__(self, number: int, rows: Rows, row_units: int, stream: int, prefix: str) -> None:
        self.number = number
        self.stream = stream
        self.prefix = prefix
        self.rows = rows
        self.row_units = row_units
        self.total = len(rows.values) * row_units
        # Sequences may be repeated, so the order of appearance counts, not the number.
        starts = np.flatnonzero(np.r_[True, rows.last[:-1]][:len(rows.last)])
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
            place = _Place(int(self.position[row]), int(self.rows.step[row]), self.number, unit,
                           self.stream)
            self.found = place, f"{self.where(row)}, {text}"

    def where(self, row: int) -> str:
        return (f"{self.prefix}sequence {self.rows.sequence[row]}, step {self.rows.step[row]}, "
                f"tensor {self.rows.name}")

    def extra(self, items: int, text: str) -> None:
        """Keep that something came after everything that was expected."""
        if items and self.found is None:
            self.found = (_Place(1 << 62, 0, self.number, 0, self.stream),
                          f"{self.prefix}tensor {self.rows.name}: {items} more {text} than "
                          f"expected, after the end of the last sequence")


def _latest(items: Recorded, tracks: Sequence[_Track]) -> Recorded:
    own = [np.flatnonzero(items.stream == track.stream) for track in tracks]
    kept = np.sort(np.concatenate([some[max(0, len(some) - track.total):]
                                   for some, track in zip(own, tracks, strict=True)]))
    return replace(items, **{each.name: getattr(items, each.name)[kept] for each in fields(items)})


class Checker:
    """Compares a recording with what is expected, as it grows.

    Each stream is compared for itself: what happens in the others must not show in it.

    Parameters
    ----------
    manifest : Manifest
    expected : sequence of Expected
        One for each stream.

    Attributes
    ----------
    words : int
        Beats of the output, and of final states, compared so far.
    states : int
        Values of c and h compared so far.
    """

    def __init__(self, manifest: Manifest, expected: Sequence[Expected]) -> None:
        # For each stream a track of each probe, and one of the output, and of final states.
        self._probes: list[list[_Track]] = []
        self._outputs = _Port("the output", manifest.output)
        self._final = _Port("the final states", manifest.state_output or manifest.output)
        for stream, part in enumerate(expected):
            prefix = f"stream {stream}, " if len(expected) > 1 else ""
            tracks = [_Track(number, rows, units, stream, prefix) for number, (rows, units)
                      in enumerate(zip((*part.probes, part.output),
                                       (*(probe.units for probe in manifest.probes),
                                        manifest.output.beats), strict=True))]
            self._probes.append(tracks[:-1])
            self._outputs.tracks.append(tracks[-1])
            if part.final:
                self._final.tracks.append(_Track(len(tracks), part.final, self._final.bus.beats,
                                                 stream, prefix))

    @property
    def words(self) -> int:
        return sum(track.seen for port in (self._outputs, self._final) for track in port.tracks)

    @property
    def states(self) -> int:
        return sum(track.seen for track in chain(*self._probes))

    def feed(self, outputs: Beats, probes: Sequence[Values], packets: Beats | None = None) -> None:
        """Compare what is new; ``packets`` are the final states.

        Raises
        ------
        Difference
            Naming the first sequence, step, tensor and unit, what was expected and what came.
        """
        for number, values in enumerate(probes):
            _check_streams(f"tensor {self._probes[0][number].rows.name}", values.stream,
                           values.cycles, len(self._probes))
            for stream, tracks in enumerate(self._probes):
                own = _of(values.stream, stream)
                self._feed_probe(tracks[number], values.values[own], values.cycles[own])
        self._outputs.feed(outputs)
        if packets is not None:
            self._final.feed(packets)
        self._raise_first()

    def latest(self, outputs: Beats, probes: Sequence[Values], packets: Beats | None
               ) -> tuple[Beats, list[Values], Beats | None]:
        """Of a recording what came last in each stream: as much as is expected."""
        return (_latest(outputs, self._outputs.tracks),
                [_latest(values, [tracks[number] for tracks in self._probes])
                 for number, values in enumerate(probes)],
                packets and _latest(packets, self._final.tracks))

    def finish(self) -> None:
        """Nothing more will come.

        Raises
        ------
        Difference
            If something is missing.
        """
        words = [*self._outputs.tracks, *self._final.tracks]
        for track in (*chain(*self._probes), *words):
            if track.seen < track.total:
                row, item = divmod(track.seen, track.row_units)
                what = "word" if track in words else "unit"
                track.report(row, item, f"{what} {item}: missing ({track.total - track.seen} of "
                                        f"{track.total} did not come)")
        self._raise_first()

    def _raise_first(self) -> None:
        found = [track.found for track in (*chain(*self._probes), *self._outputs.tracks,
                                           *self._final.tracks) if track.found]
        if found:
            raise Difference(min(found)[1])
        # A word that went to the wrong stream is better named by what is wrong with it there.
        for port in (self._outputs, self._final):
            if port.mixed:
                raise Difference(port.mixed)

    @staticmethod
    def _feed_probe(track: _Track, values: np.ndarray, cycles: np.ndarray) -> None:
        fit, items = track.take(len(values))
        rows, units = np.divmod(items, track.row_units)
        wanted = track.rows.values[rows, units]
        wrong = np.flatnonzero(values[:fit] != wanted)
        if len(wrong):
            n = wrong[0]
            track.report(rows[n], units[n],
                         f"unit {units[n]}: expected {wanted[n]}, got {values[n]}, "
                         f"in cycle {cycles[n]}")
        track.extra(len(values) - fit, "values")


class _Port:
    """What comes out of a port of the design: vectors of all streams, a track for each."""

    def __init__(self, name: str, bus: Stream) -> None:
        self.name = name
        self.bus = bus
        self.tracks: list[_Track] = []
        # Of all streams together: beats so far, the stream of the last, and the first wrong one.
        self._beats, self._owner = 0, 0
        self.mixed: str | None = None

    def feed(self, beats: Beats) -> None:
        _check_streams(self.name, beats.stream, beats.cycles, len(self.tracks))
        for stream, track in enumerate(self.tracks):
            own = _of(beats.stream, stream)
            self._feed_track(track, Beats(cycles=beats.cycles[own], last=beats.last[own],
                                          stream=beats.stream[own], data=beats.data[own]))
        self._feed_owners(beats)

    def _feed_owners(self, beats: Beats) -> None:
        """The beats of a vector come together."""
        if len(self.tracks) == 1 or not len(beats.stream):
            return
        inside = (self._beats + np.arange(len(beats.stream))) % self.bus.beats > 0
        changed = beats.stream != np.r_[self._owner, beats.stream[:-1]]
        wrong = np.flatnonzero(inside & changed)
        if len(wrong) and self.mixed is None:
            self.mixed = (f"{self.name} goes over to stream {beats.stream[wrong[0]]} amid a "
                          f"vector, in cycle {beats.cycles[wrong[0]]}")
        self._beats += len(beats.stream)
        self._owner = int(beats.stream[-1])

    def _feed_track(self, track: _Track, beats: Beats) -> None:
        stream = self.bus
        fit, items = track.take(len(beats.cycles))
        rows, words = np.divmod(items, track.row_units)
        got = stream.unpack(beats.data[:fit])
        unit = words[:, np.newaxis] * stream.lanes + np.arange(stream.lanes)
        # Lanes beyond the vector's end are 0.
        wanted = np.where(unit < stream.elements,
                          track.rows.values[rows[:, np.newaxis],
                                            np.minimum(unit, stream.elements - 1)], 0)
        last = track.rows.last[rows] & (words == track.row_units - 1)
        wrong = np.flatnonzero((got != wanted).any(axis=1) | (beats.last[:fit] != last))
        if len(wrong):
            n = wrong[0]
            lanes = np.flatnonzero(got[n] != wanted[n])
            if len(lanes):
                lane = lanes[0]
                what = (f"unit {unit[n, lane]}" if unit[n, lane] < stream.elements
                        else f"unused lane {lane}")
                text = f"{what}: expected {wanted[n, lane]}, got {got[n, lane]}"
            else:
                text = f"word {words[n]}: expected TLAST {int(last[n])}, got {int(not last[n])}"
            track.report(rows[n], int(unit[n, lanes[0]]) if len(lanes) else stream.elements,
                         f"{text}, in cycle {beats.cycles[n]}")
        track.extra(len(beats.cycles) - fit, "words")
