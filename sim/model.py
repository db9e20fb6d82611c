"""The model: what must come out of a design, word by word, for sequences that go in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.manifest import Manifest, StateStream
from sim.vectors import Vectors, VectorsError

__all__ = ["Course", "Expected", "Model", "Part", "Rows"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """What goes into a design: sequences dealt out to its streams, and the order of their steps.

    Parameters
    ----------
    queues : tuple of sequence of int
        For each stream, its sequences one after the other. A stream may have none.
    turns : int64 array [L]
        The stream whose next step goes in.
    keeps : tuple of sequence of bool, optional
        Whether the state of each sequence is kept, in a stateful design; by default none.
    given : tuple of sequence of bool, optional
        Whether the state after the row before is set before each sequence; by default before none.
    """

    queues: tuple[Sequence[int], ...]
    turns: np.ndarray
    keeps: tuple[Sequence[bool], ...] = ()
    given: tuple[Sequence[bool], ...] = ()

    @property
    def order(self) -> list[int]:
        """All sequences, stream by stream."""
        return [sequence for queue in self.queues for sequence in queue]

    @classmethod
    def deal(cls, order: Sequence[int], lengths: np.ndarray, streams: int, *,
             rng: np.random.Generator | None = None) -> "Course":
        """The streams in parallel: a sequence for each in turn, and then a step of each in turn.

        Parameters
        ----------
        order : sequence of int
        lengths : int64 array
            Of all sequences.
        streams : int
        rng : Generator or None
            Mixes the streams at random, so that some are idle for long.
        """
        queues = tuple(list(order[stream::streams]) for stream in range(streams))
        return cls(queues=queues, turns=cls.turned(queues, lengths, rng=rng))

    @staticmethod
    def turned(queues: Sequence[Sequence[int]], lengths: np.ndarray, *,
               rng: np.random.Generator | None = None) -> np.ndarray:
        """The turns of streams in parallel, as of :meth:`deal`."""
        streams = len(queues)
        steps = [int(lengths[list(queue)].sum()) for queue in queues]
        if rng is None:
            # Streams that run dry drop out of the rounds.
            rounds = np.concatenate([np.arange(count) for count in steps])
            owners = np.repeat(np.arange(streams), steps)
            return owners[np.argsort(rounds, kind="stable")]
        turns: list[int] = []
        while busy := [stream for stream in range(streams) if steps[stream]]:
            stream = int(rng.choice(busy))
            # Every other time more than one step, up to as many as leave the others idle.
            most = 1 if rng.random() < 0.5 else 3 * streams + 6
            count = min(int(rng.integers(1, most, endpoint=True)), steps[stream])
            turns += [stream] * count
            steps[stream] -= count
        return np.array(turns, dtype=np.int64)

    @classmethod
    def whole(cls, order: Sequence[int], lengths: np.ndarray, streams: int) -> "Course":
        """One whole sequence after the other, each for the next stream."""
        stream = np.arange(len(order)) % streams
        return cls(queues=tuple(list(order[stream::streams]) for stream in range(streams)),
                   turns=np.repeat(stream, lengths[list(order)]))

    @classmethod
    def visited(cls, order: Sequence[int], guests: Sequence[int], lengths: np.ndarray,
                streams: int, *, busy: int, gap: int, rng: np.random.Generator) -> "Course":
        """One stream is busy; now and then another one has a step.

        Parameters
        ----------
        order : sequence of int
            For the busy stream.
        guests : sequence of int
            For the others in turn. What is left of them when the busy stream is through comes then.
        lengths : int64 array
            Of all sequences.
        streams, busy : int
        gap : int
            Steps of the busy stream between two of others: from ``gap`` to twice as many.
        rng : Generator
        """
        others = [stream for stream in range(streams) if stream != busy]
        queues = tuple(list(order) if stream == busy else
                       list(guests[others.index(stream)::len(others)]) for stream in range(streams))
        visitors = rng.permutation(np.concatenate([
            np.repeat(stream, lengths[queues[stream]].sum()) for stream in others]))
        steps = int(lengths[list(order)].sum())
        visits = np.cumsum(rng.integers(gap, 2 * gap, endpoint=True, size=len(visitors)))
        return cls(queues=queues, turns=np.insert(np.full(steps, busy), np.minimum(visits, steps),
                                                  visitors))

    def undisturbed(self, stream: int, steps: int) -> np.ndarray:
        """Whether no step of another stream goes in within so many steps of each: bool [L]."""
        own, others = (np.flatnonzero((self.turns == stream) == which) for which in (True, False))
        fences = np.r_[-len(self.turns) - steps, others, 2 * len(self.turns) + steps]
        after = np.searchsorted(fences, own)
        return np.minimum(own - fences[after - 1], fences[after] - own) > steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Vectors of one tensor, in the order in which they must appear.

    Parameters
    ----------
    name : str
        The tensor, ``y`` or as in the vectors.
    values : int64 array [K, units]
    sequence, step : int64 array [K]
        What each belongs to; the step counts from 0.
    last : bool array [K]
        Whether it is the last of its sequence.
    """

    name: str
    values: np.ndarray
    sequence: np.ndarray
    step: np.ndarray
    last: np.ndarray


class Part(NamedTuple):
    """Beats that go in together.

    Parameters
    ----------
    data : uint8 array [B, lanes * bytes]
    last : bool array [B]
    stream : int64 array [B]
    keep : bool array [B]
        TUSER, in a stateful design.
    given : (int, uint8 array [E, bytes]) or None
        A stream, and the packet that sets its state before them.
    """

    data: np.ndarray
    last: np.ndarray
    stream: np.ndarray
    keep: np.ndarray
    given: tuple[int, np.ndarray] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What must come out: the probes' tensors in the manifest's order, output, and final states."""

    probes: tuple[Rows, ...]
    output: Rows
    final: Rows | None = None


class Model:
    """Golden's numbers, arranged as a design takes and gives them.

    Parameters
    ----------
    manifest : Manifest
    vectors : Vectors

    Raises
    ------
    VectorsError
        If the two do not describe the same network.
    """

    def __init__(self, manifest: Manifest, vectors: Vectors) -> None:
        self.manifest = manifest
        self.vectors = vectors
        shapes = {"x": (vectors.x, manifest.input.elements),
                  "y": (vectors.y, manifest.output.elements)}
        for probe in manifest.probes:
            if probe.name not in vectors.states:
                raise VectorsError(f"the vectors have no {probe.name}, which the design shows")
            shapes[probe.name] = vectors.states[probe.name], probe.units
        for part in (manifest.state_input, manifest.state_output):
            for name in part.names if part else ():
                if name not in vectors.states:
                    raise VectorsError(f"the vectors have no {name}, a state of the design")
        for name, (array, units) in shapes.items():
            if array.shape[1] != units:
                raise VectorsError(f"{name} must have {units} columns, as the manifest says, "
                                   f"not {array.shape[1]}")

    def beats(self, course: Course, rng: np.random.Generator) -> Iterator[Part]:
        """What goes in, in parts that end with a sequence, or before one whose state is set."""
        # Sorted by stream and back again.
        turns = np.empty_like(course.turns)
        turns[np.argsort(course.turns, kind="stable")] = np.arange(len(turns))
        queued = [self._rows(queue) for queue in course.queues]
        rows = np.concatenate([rows for rows, _, _ in queued])[turns]
        last = np.concatenate([last for _, _, last in queued])[turns]
        keeps, given = (np.concatenate([np.repeat(
            np.array(flags[n] if flags else [False] * len(queue), dtype=bool),
            self.vectors.lengths[list(queue)]) for n, queue in enumerate(course.queues)])[turns]
            for flags in (course.keeps, course.given))
        given &= np.concatenate([step == 0 for _, step, _ in queued])[turns]
        beats, start = self.manifest.input.beats, 0
        for end in np.union1d(np.flatnonzero(last) + 1, np.flatnonzero(given)).tolist():
            if end == start:
                continue
            final = np.zeros(((end - start), beats), dtype=bool)
            final[:, -1] = last[start:end]
            # Without TLAST it says nothing.
            keep = np.zeros_like(final)
            if course.keeps:
                keep |= rng.random(final.shape) < 0.5
            keep[final] = keeps[start:end][last[start:end]]
            yield Part(self.manifest.input.pack(self.vectors.x[rows[start:end]], rng),
                       final.ravel(), np.repeat(course.turns[start:end], beats), keep.ravel(),
                       (int(course.turns[start]), self.packet(int(rows[start]) - 1))
                       if given[start] else None)
            start = end

    def packet(self, row: int) -> np.ndarray:
        """The beats that set the state after a row."""
        port = self.manifest.state_input
        if port is None:
            raise ValueError("the states of this design cannot be set")
        return port.pack(self._final(port, np.array([row])))

    def _final(self, port: StateStream, rows: np.ndarray) -> np.ndarray:
        """The states after some rows, as one vector each."""
        return np.concatenate([self.vectors.states[name][rows] for name in port.names], axis=1)

    def _rows(self, order: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows, the steps' numbers, and which is the last, of sequences one after the other."""
        lengths = self.vectors.lengths[list(order)]
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        step = np.arange(len(starts)) - starts
        return (np.repeat(self.vectors.starts[list(order)], lengths) + step, step,
                step == np.repeat(lengths, lengths) - 1)

    def expected(self, order: Sequence[int]) -> Expected:
        """What comes out for sequences of one stream, one after the other."""
        order = list(order)
        sequence = np.repeat(np.array(order, dtype=np.int64), self.vectors.lengths[order])
        rows, step, last = self._rows(order)
        probes = tuple(Rows(name=probe.name, values=self.vectors.states[probe.name][rows],
                            sequence=sequence, step=step, last=last)
                       for probe in self.manifest.probes)
        given = np.ones_like(last) if self.vectors.every_step else last
        outputs = rows if self.vectors.every_step else np.array(order, dtype=np.int64)
        output = Rows(name="y", values=self.vectors.y[outputs], sequence=sequence[given],
                      step=step[given], last=last[given])
        port, final = self.manifest.state_output, None
        if port:
            final = Rows(name="final states", values=self._final(port, rows[last]),
                         sequence=sequence[last], step=step[last], last=last[last])
        return Expected(probes=probes, output=output, final=final)
