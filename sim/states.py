"""States in the bench: both of their ports, and sequences in pieces that go on from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.driver import Sink, Source, Stalls
from sim.manifest import Manifest
from sim.model import Course, Part
from sim.vectors import Vectors

__all__ = ["LONGEST", "StatePorts", "in_pieces"]

LONGEST = 8
"""Cycles of a pause before an element of a state that is set, at most."""


class StatePorts:
    """Sends states to a design, and takes those that it gives.

    Parameters
    ----------
    dut : handle
        The bench's module.
    manifest : Manifest
    stalls : Stalls or None
        Pauses on both sides, or full speed.
    ready : bool
        Whether to take states from the start; `take` does so later.
    """

    def __init__(self, dut: Any, manifest: Manifest, *, stalls: Stalls | None = None,
                 ready: bool = True) -> None:
        given, taken = manifest.state_input, manifest.state_output
        # Short pauses: a packet has many beats.
        self._source = Source(dut, given.prefix, ids=bool(manifest.id_bits), stalls=stalls,
                              longest=LONGEST) if given else None
        self._sink = Sink(dut, taken.prefix, stalls=stalls, ready=ready) if taken else None

    async def send(self, stream: int, beats: np.ndarray) -> None:
        """Set the state of a stream: uint8 [E, bytes]; back when it has been taken."""
        assert self._source is not None
        numbers = np.arange(len(beats))
        await self._source.send(Part(
            data=beats, last=numbers == len(beats) - 1, stream=np.full_like(numbers, stream),
            keep=numbers < 0, given=None))

    def take(self) -> None:
        """Take states from now on."""
        if self._sink is not None:
            self._sink.take()

    def stop(self) -> None:
        """Offer and take nothing more."""
        for end in (self._source, self._sink):
            if end is not None:
                end.stop()


def in_pieces(vectors: Vectors, order: Sequence[int], streams: int, *, sets: bool,
              rng: np.random.Generator) -> Course:
    """Sequences dealt out to the streams piece by piece, with their states kept between them.

    Parameters
    ----------
    vectors : Vectors
        With pieces; what comes of it is for these.
    order : sequence of int
        Sequences.
    sets : bool
        Whether states are set as well: some pieces begin with a state that is set, be it the one
        that is there or another, of another sequence even.
    rng : Generator
        It also mixes the streams.
    """
    pieces, of = vectors.pieces, vectors.pieces_of
    assert pieces is not None
    queues: list[list[int]] = [[] for _ in range(streams)]
    given: list[list[bool]] = [[] for _ in range(streams)]
    goes_on: list[list[bool]] = [[] for _ in range(streams)]
    for number, sequence in enumerate(order):
        stream = number % streams
        first = int(rng.integers(len(of[sequence]))) if sets else 0
        for piece in of[sequence][first:].tolist():
            begins, begun = piece == of[sequence][0], piece == of[sequence][first]
            queues[stream].append(piece)
            goes_on[stream].append(not begun)
            given[stream].append(sets and not begins and bool(begun or rng.random() < 0.3))
    # Before a state that is set, TUSER says anything.
    keeps = tuple([bool(rng.random() < 0.5) if is_set else on for on, is_set in
                   zip([*on[1:], False], [*is_set[1:], False], strict=True)][:len(on)]
                  for on, is_set in zip(goes_on, given, strict=True))
    return Course(queues=tuple(queues), keeps=keeps, given=tuple(given),
                  turns=Course.turned(queues, pieces.lengths, rng=rng if streams > 1 else None))
