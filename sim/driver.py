"""Drivers: what feeds a design's input and takes its output, in two independent ways.

`PortDriver` is our own. It sleeps while nothing happens: it waits for the edge at which a beat is
taken, and while the design is not ready, for the design to become ready. `AxiDriver` is the source
and the sink of cocotbext-axi, which no one here wrote. It looks at every clock edge.

The clock's period is two simulator steps, rising edges at odd times.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import cocotb
import numpy as np
from cocotb.task import Task
from cocotb.triggers import RisingEdge, Timer
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from sim.manifest import Manifest
from sim.model import Part

__all__ = ["PERIOD", "AxiDriver", "Backlog", "Driver", "PortDriver", "Received", "Sink", "Source",
           "Stalls"]

PERIOD = 2
"""Simulator steps of a clock cycle."""


class Stalls:
    """Random pauses of a stream.

    Most are a few cycles long, which tries the handshake; the others last up to one and a half
    steps of the design, which shifts the stream against the design's schedule by any amount.

    Parameters
    ----------
    rng : Generator
    step : int
        Cycles of a step.
    """

    def __init__(self, rng: np.random.Generator, step: int) -> None:
        self._rng = rng
        self._longest = step + step // 2 + 4

    def length(self) -> int:
        """Cycles of the next pause or of the next stretch without one, at least 1."""
        most = 4 if self._rng.random() < 0.5 else self._longest
        return int(self._rng.integers(1, most, endpoint=True))

    def before_beat(self) -> int:
        """Cycles of a pause before the next beat, often 0."""
        return self.length() if self._rng.random() < 0.5 else 0

    async def hold(self, clock: RisingEdge, pause: Callable[[bool], None]) -> None:
        """Call ``pause`` whenever that is to change, for ever; it wakes up for nothing else."""
        # Between two rising edges, where no order of events can matter.
        await clock
        await Timer(PERIOD // 2, unit="step")
        while True:
            for level in (True, False):
                pause(level)
                await Timer(PERIOD * self.lasts(level), unit="step")

    def lasts(self, pause: bool) -> int:
        """Cycles of a sink's pause, or of the stretch behind it."""
        return self.length()


class Backlog(Stalls):
    """A source without pauses, and a sink that is slower than the design, so that this fills up.

    It takes a few beats at a time. Before that it waits 0.6 to 1.6 times as long as the design
    takes to make them.

    Parameters
    ----------
    rng : Generator
    pace : float
        Cycles from an output to the next.
    beats : int
        Of an output.
    """

    SHARES = (0.6, 1.6)

    def __init__(self, rng: np.random.Generator, pace: float, beats: int) -> None:
        super().__init__(rng, int(pace))
        self._pace = pace / beats
        self._most = 2 * beats
        self._taken = 0

    def before_beat(self) -> int:
        return 0

    def lasts(self, pause: bool) -> int:
        if not pause:
            return self._taken
        self._taken = int(self._rng.integers(1, self._most, endpoint=True))
        return 1 + int(self._taken * self._pace * self._rng.uniform(*self.SHARES))

    @property
    def longest(self) -> int:
        """Cycles of a pause, at most."""
        return 1 + int(self._most * self._pace * max(self.SHARES))


@dataclass(frozen=True, kw_only=True, eq=False)
class Received:
    """Output beats that a driver has seen itself.

    Parameters
    ----------
    data : uint8 array [B, lanes * bytes]
    last : bool array [B]
    stream : int64 array [B]
    """

    data: np.ndarray
    last: np.ndarray
    stream: np.ndarray


class Driver(Protocol):
    """Both ends of a design."""

    async def send(self, part: Part) -> None:
        """Put in beats; whose states are set before is for others."""

    def received(self) -> Received | None:
        """The output beats seen by the driver itself, where it looks at them."""

    def stop(self) -> None:
        """Offer and take nothing more."""


class Source:
    """Offers beats at a design's ports.

    Parameters
    ----------
    dut : handle
        The bench's module.
    prefix : str
        Of the ports.
    ids, users : bool
        Whether TID and TUSER are among them.
    stalls : Stalls or None
        Pauses before some beats, or full speed.
    longest : int or None
        Cycles of a pause, at most, if these are fewer.
    """

    def __init__(self, dut: Any, prefix: str, *, ids: bool, users: bool = False,
                 stalls: Stalls | None = None, longest: int | None = None) -> None:
        self._data = getattr(dut, f"{prefix}_tdata")
        self._valid = getattr(dut, f"{prefix}_tvalid")
        self._last = getattr(dut, f"{prefix}_tlast")
        self._id = getattr(dut, f"{prefix}_tid") if ids else None
        self._user = getattr(dut, f"{prefix}_tuser") if users else None
        self._ready = getattr(dut, f"{prefix}_tready")
        self._clock = RisingEdge(dut.clk)
        self._becomes_ready = RisingEdge(self._ready)
        self._stalls = stalls
        self._longest = longest

    async def send(self, part: Part) -> None:
        """Put in beats; back when all have been taken."""
        # A write costs as much as a wake-up, so nothing is written twice.
        offering, shown, named, kept = False, None, None, None
        for beat, final, owner, keep in zip(part.data, part.last.tolist(), part.stream.tolist(),
                                            part.keep.tolist(), strict=True):
            pause = self._stalls.before_beat() if self._stalls else 0
            if self._longest is not None:
                pause = min(pause, self._longest)
            if pause:
                self._valid.value = 0
                offering = False
                await Timer(PERIOD * pause - PERIOD // 2, unit="step")
            self._data.value = int.from_bytes(beat.tobytes(), "little")
            if final != shown:
                self._last.value = int(final)
                shown = final
            if owner != named and self._id is not None:
                self._id.value = owner
                named = owner
            if keep != kept and self._user is not None:
                self._user.value = int(keep)
                kept = keep
            if not offering:
                self._valid.value = 1
                offering = True
            await self._clock
            while not self._ready.value:
                await self._becomes_ready
                await self._clock
        self._valid.value = 0

    def stop(self) -> None:
        """Offer nothing more."""
        self._valid.value = 0


class Sink:
    """Takes beats at a design's ports.

    Parameters
    ----------
    dut : handle
        The bench's module.
    prefix : str
        Of the ports.
    stalls : Stalls or None
        Pauses, or full speed.
    ready : bool
        Whether to take beats from the start; `take` does so later.
    """

    def __init__(self, dut: Any, prefix: str, *, stalls: Stalls | None = None,
                 ready: bool = True) -> None:
        self._ready = getattr(dut, f"{prefix}_tready")
        self._stalling: Task[None] | None = None
        self._ready.value = int(ready)
        if stalls is not None and ready:
            self._stalling = cocotb.start_soon(stalls.hold(RisingEdge(dut.clk), self._pause))

    def _pause(self, pause: bool) -> None:
        self._ready.value = int(not pause)

    def take(self) -> None:
        """Take beats from now on."""
        self._ready.value = 1

    def stop(self) -> None:
        """Take nothing more."""
        if self._stalling is not None:
            self._stalling.cancel()
        self._ready.value = 0


class PortDriver:
    """Our own driver.

    Parameters
    ----------
    dut : handle
        The bench's module.
    manifest : Manifest
    stalls : Stalls or None
        Pauses on both sides, or full speed.
    ready : bool
        Whether to take outputs from the start; `take` does so later.
    """

    def __init__(self, dut: Any, manifest: Manifest, *, stalls: Stalls | None = None,
                 ready: bool = True) -> None:
        self._source = Source(dut, manifest.input.prefix, ids=bool(manifest.id_bits),
                              users=manifest.stateful, stalls=stalls)
        self._sink = Sink(dut, manifest.output.prefix, stalls=stalls, ready=ready)

    async def send(self, part: Part) -> None:
        await self._source.send(part)

    def take(self) -> None:
        """Take outputs from now on."""
        self._sink.take()

    def received(self) -> None:
        return None

    def stop(self) -> None:
        self._source.stop()
        self._sink.stop()


class AxiDriver:
    """The driver of cocotbext-axi.

    Parameters
    ----------
    dut : handle
        The bench's module.
    manifest : Manifest
    stalls : Stalls or None
        Pauses on both sides, or full speed.
    """

    def __init__(self, dut: Any, manifest: Manifest, *, stalls: Stalls | None = None) -> None:
        self._ids = bool(manifest.id_bits)
        self._width = manifest.output.width // 8
        # It reports every frame, byte by byte.
        logging.getLogger("cocotb.gatefold_bench").setLevel(logging.WARNING)
        self._source = AxiStreamSource(AxiStreamBus.from_prefix(dut, manifest.input.prefix),
                                       dut.clk, dut.rst)
        self._sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, manifest.output.prefix),
                                   dut.clk, dut.rst)
        self._stalling: list[Task[None]] = []
        if stalls is not None:
            # A generator of its own for each would be asked, and woken, in every cycle.
            clock = RisingEdge(dut.clk)
            self._stalling = [cocotb.start_soon(stalls.hold(clock, partial(setattr, end, "pause")))
                              for end in (self._source, self._sink)]

    async def send(self, part: Part) -> None:
        # A frame ends with TLAST and has one TID, so a sequence is one. TUSER is 0.
        await self._source.send(AxiStreamFrame(part.data.tobytes(),
                                               tid=int(part.stream[0]) if self._ids else None))

    def received(self) -> Received:
        # What it takes for a frame, up to the next TLAST, may be beats of several streams.
        data, last, stream = [bytearray()], [np.empty(0, dtype=bool)], [np.empty(0, dtype=np.int64)]
        while not self._sink.empty():
            frame = self._sink.recv_nowait(compact=False)
            beats = len(frame.tdata) // self._width
            data.append(frame.tdata)
            last.append(np.arange(beats) == beats - 1)
            stream.append(np.array(frame.tid[::self._width] if self._ids else [0] * beats,
                                   dtype=np.int64))
        return Received(data=np.frombuffer(b"".join(data), np.uint8).reshape(-1, self._width),
                        last=np.concatenate(last), stream=np.concatenate(stream))

    def stop(self) -> None:
        for task in self._stalling:
            task.cancel()
        self._sink.pause = True
