"""States in the bench: both of their ports, and sequences in pieces that go on from them."""

from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.task import Task
from cocotb.triggers import RisingEdge, Timer

from sim.driver import PERIOD, Stalls
from sim.manifest import Manifest
from sim.model import Course
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
        self._dut = dut
        self._input = manifest.state_input
        self._ids = bool(manifest.id_bits)
        self._clock = RisingEdge(dut.clk)
        self._stalls = stalls
        self._stalling: Task[None] | None = None
        self._take = (getattr(dut, f"{manifest.state_output.prefix}_tready")
                      if manifest.state_output else None)
        if self._take is not None:
            self._take.value = int(ready)
            if stalls is not None and ready:
                self._stalling = cocotb.start_soon(stalls.hold(self._clock, self._pause))

    def _pause(self, pause: bool) -> None:
        assert self._take is not None
        self._take.value = int(not pause)

    async def send(self, stream: int, beats: np.ndarray) -> None:
        """Set the state of a stream: uint8 [E, bytes]; back when it has been taken."""
        assert self._input is not None
        data, valid, last, ready = (getattr(self._dut, f"{self._input.prefix}_t{name}")
                                    for name in ("data", "valid", "last", "ready"))
        if self._ids:
            getattr(self._dut, f"{self._input.prefix}_tid").value = stream
        for n, beat in enumerate(beats):
            # Short ones: a packet has many beats.
            pause = min(self._stalls.before_beat(), LONGEST) if self._stalls else 0
            if pause:
                valid.value = 0
                await Timer(PERIOD * pause - PERIOD // 2, unit="step")
            data.value = int.from_bytes(beat.tobytes(), "little")
            last.value = int(n == len(beats) - 1)
            valid.value = 1
            await self._clock
            while not ready.value:
                await RisingEdge(ready)
                await self._clock
        valid.value = 0

    def take(self) -> None:
        """Take states from now on."""
        if self._take is not None:
            self._take.value = 1

    def stop(self) -> None:
        """Offer and take nothing more."""
        if self._stalling is not None:
            self._stalling.cancel()
        if self._take is not None:
            self._take.value = 0
        if self._input is not None:
            getattr(self._dut, f"{self._input.prefix}_tvalid").value = 0


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
