"""A test of the bench at work: what it plays, and how that is compared.

A session begins with a reset. It chooses sequences, has a driver put them in, and holds against
the model what the monitor has recorded: every output word with its TLAST, every c and h that the
design's probes show, every packet of states, the flags, and how many steps go in where nothing
comes out.
"""

import json
import os
import time
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import First, RisingEdge, Timer, ValueChange

from sim.checker import Checker, Difference
from sim.coverage import COVERED, Coverage, of_ports, of_reset
from sim.driver import PERIOD, Driver, PortDriver, Stalls
from sim.malformed import Fault
from sim.manifest import Manifest
from sim.model import Course, Expected, Model
from sim.monitor import Beats, Recording, Values
from sim.selection import Selection
from sim.states import LONGEST, StatePorts, in_pieces
from sim.timing import Timing
from sim.vectors import VECTORS, Vectors

__all__ = ["Session", "session"]

CHECK_SECONDS = 1.0
"""How often a growing recording is compared, so that a wrong design fails early."""


class _Setup:
    """What all tests of a run share."""

    def __init__(self) -> None:
        config = json.loads(Path(os.environ["GATEFOLD_BENCH"]).read_text(encoding="utf-8"))
        directory, self.folder = Path(config["design"]), Path(config["folder"])
        self.seed: int = config["seed"]
        self.effort: int = config["effort"]
        self.manifest = Manifest.load(directory)
        if not config["probes"]:
            self.manifest = replace(self.manifest, probes=())
        self.vectors = Vectors.load(directory / VECTORS, every_step=self.manifest.every_step)
        self.model = Model(self.manifest, self.vectors)
        self.recording = Recording(self.manifest, self.folder)
        self.coverage = Coverage()


@cache
def _setup() -> _Setup:
    return _Setup()


class Session:
    """A test at work.

    Parameters
    ----------
    dut : handle
        The bench's module.
    name : str
        The test, which also varies the seed.
    """

    def __init__(self, dut: Any, name: str) -> None:
        setup = _setup()
        self.dut = dut
        self.name = name
        self.folder = setup.folder
        self.manifest = setup.manifest
        self.vectors = setup.vectors
        self.effort = setup.effort
        self.rng = np.random.default_rng([setup.seed, zlib.crc32(name.encode())])
        self.pick = Selection(self.manifest, self.vectors, self.rng, self.effort)
        self.model = setup.model
        self.recording = setup.recording
        self.coverage = setup.coverage
        self.clock = RisingEdge(dut.clk)
        # By tensor what golden saturates in all that went in since the last reset; of what breaks
        # the rules nobody knows.
        self.saturated: dict[str, int] = {}
        self.spoilt = False
        self.words = self.states = self.sequences = self.steps = 0
        # Without a beat for so long, nothing will come any more.
        self.patience = 10 * self.manifest.step + 5000 + self.gathering
        if self.manifest.state_input:
            self.patience += (1 + LONGEST) * self.manifest.state_input.elements

    @property
    def gathering(self) -> int:
        """Cycles in which nothing may be seen while sequences are buffered, and worked on."""
        if self.manifest.longest is None:
            return 0
        return 2 * self.manifest.further * int(self.vectors.lengths.max())

    async def cycles(self, count: int) -> None:
        """Wait for a number of clock edges.

        At the last one, signals have the values from before it.
        """
        await self.clock
        if count > 1:
            # Half a cycle short, so that the edge itself is still to come.
            await Timer(PERIOD * (count - 1) - PERIOD // 2, unit="step")
            await self.clock

    async def recorded(self) -> tuple[Beats, list[Values], Beats | None]:
        """What the monitor has written since the last time."""
        self.dut.flush.value = 1
        # Whenever this is called: written after the first edge at the latest, seen by the second,
        # done when the third is about to come.
        await self.cycles(3)
        self.dut.flush.value = 0
        return self.recording.outputs(), self.recording.probes(), self.recording.packets()

    async def reset(self) -> None:
        """Reset for a few cycles, and forget what was recorded before."""
        dut, source, sink = self.dut, self.manifest.input.prefix, self.manifest.output.prefix
        dut.rst.value = 1
        dut.flush.value = 0
        names = [f"{source}_tdata", f"{source}_tvalid", f"{source}_tlast", f"{sink}_tready"]
        if self.manifest.id_bits:
            names.append(f"{source}_tid")
        if self.manifest.stateful:
            names.append(f"{source}_tuser")
        for part, signals in ((self.manifest.state_input, ("tdata", "tvalid", "tlast")),
                              (self.manifest.state_output, ("tready",))):
            names += [f"{part.prefix}_{signal}" for signal in signals] if part else []
        for name in names:
            getattr(dut, name).value = 0
        await self.cycles(int(self.rng.integers(2, 5, endpoint=True)))
        await self.recorded()
        self.recording.inputs()
        dut.rst.value = 0
        self._forget()
        await self.clock

    def _forget(self) -> None:
        """What a reset makes forgotten."""
        self.saturated, self.spoilt = {}, False

    def stalls(self) -> Stalls:
        return Stalls(self.rng, self.manifest.step)

    def deal(self, order: Sequence[int], *, mixed: bool = False) -> Course:
        """The sequences on all streams at the same time, step by step in turn or at random."""
        streams = self.manifest.streams
        return Course.deal(order, self.vectors.lengths, streams,
                           rng=self.rng if mixed and streams > 1 else None)

    def whole(self, order: Sequence[int]) -> Course:
        """The sequences one after the other, on all streams in turn."""
        return Course.whole(order, self.vectors.lengths, self.manifest.streams)

    async def _send(self, driver: Driver, course: Course, model: Model, states: StatePorts,
                    broken: Fault | None = None) -> None:
        for part in chain([broken.part] if broken else [], model.beats(course, self.rng)):
            if part.given is not None:
                await states.send(*part.given)
            await driver.send(part)

    def pieces(self, budget: int, *, sets: bool, least: int = 1) -> tuple[Model, Course]:
        """Sequences in pieces that take about so many cycles, and the model for them."""
        course = in_pieces(self.vectors, self.pick.some(budget, least=least), self.manifest.streams,
                           sets=sets, rng=self.rng)
        assert self.vectors.pieces is not None
        return Model(self.manifest, self.vectors.pieces), course

    async def play(self, driver: Driver, course: Course, *, model: Model | None = None,
                   states: StatePorts | None = None, timing: Timing | None = None,
                   held: Callable[[], Any] | None = None, broken: Fault | None = None) -> None:
        """Put in sequences and compare all that comes out, until some time after the last word.

        Parameters
        ----------
        driver : Driver
        course : Course
        model : Model or None
            For other sequences than those of the vectors.
        states : StatePorts or None
            By default at full speed.
        timing : Timing or None
            Is given the cycles of everything that happened.
        held : function or None
            Awaited after the sequences have been handed to the driver.
        broken : Fault or None
            Goes in first. What comes of it is not compared, but the design has to report it.

        Raises
        ------
        Difference
            If anything differs, is missing, or came without being asked for.
        """
        model, states = model or self.model, states or StatePorts(self.dut, self.manifest)
        expected = [model.expected(queue) for queue in course.queues]
        checker = Checker(self.manifest, expected)
        order = course.order
        collected: list[tuple[Beats, list[Values]]] = []

        async def compare() -> None:
            outputs, probes, packets = await self.recorded()
            if broken is not None:
                outputs, probes, packets = checker.latest(outputs, probes, packets)
            # The probes' many values are kept only where their cycles are asked for.
            collected.append((outputs, probes if timing is not None else []))
            before = checker.words, checker.states
            try:
                checker.feed(outputs, probes, packets)
            finally:
                self.words += checker.words - before[0]
                self.states += checker.states - before[1]

        dut = self.dut
        # What ends sequences: their last outputs, and their states.
        ends = [dut.frames_out, *([dut.packets_out] if self.manifest.state_output else [])]
        count = len(order) + (broken.sequences if broken else 0)
        goals = [int(end.value) + count for end in ends]
        source = cocotb.start_soon(self._send(driver, course, model, states, broken))
        if held is not None:
            await held()
        checked = time.monotonic()
        moving = [dut.beats_in, dut.beats_out, *ends[1:]]
        while any(int(end.value) < goal for end, goal in zip(ends, goals, strict=True)):
            beats = [int(count.value) for count in moving]
            await First(*map(ValueChange, ends), Timer(PERIOD * self.patience, unit="step"))
            if [int(count.value) for count in moving] == beats:
                await compare()
                checker.finish()
                raise Difference(f"after everything expected came out, the design went on without "
                                 f"a TLAST for {self.patience} cycles")
            # What came last is only known at the end.
            if broken is None and time.monotonic() - checked > CHECK_SECONDS:
                await compare()
                checked = time.monotonic()
        # What should not come needs time to come, and a layer that reads from the end may have its
        # output before it is through.
        await self.cycles(2 * self.manifest.step + 200
                          + (0 if self.manifest.every_step else self.gathering))
        await compare()
        source.cancel()
        checker.finish()
        self._check_received(driver, expected)
        self._check_rules(broken)
        self.sequences += len(order)
        self.steps += len(course.turns)
        inputs = self.recording.inputs()
        self.spoilt |= broken is not None
        self._check_flags(model, order)
        # What there is to cover in broken input is not known.
        if broken is None:
            self.coverage.merge(of_ports(self.manifest, inputs,
                                         [outputs for outputs, _ in collected],
                                         int(self.dut.met.value)))
        if timing is not None:
            timing.keep(course, self.vectors.lengths, inputs, collected)

    def _check_received(self, driver: Driver, expected: Sequence[Expected]) -> None:
        """What the driver itself received, independently of the monitor, is right too."""
        received = driver.received()
        if received is None:
            return
        bus = self.manifest.output
        for stream, part in enumerate(expected):
            rows, own = part.output, received.stream == stream
            ends = int(rows.last.sum())
            if int(received.last[own].sum()) != ends or own.sum() != bus.beats * len(rows.last):
                raise Difference(f"the sink received {own.sum()} words and "
                                 f"{received.last[own].sum()} TLAST of stream {stream}, not "
                                 f"{bus.beats * len(rows.last)} and {ends}")
            got = bus.unpack(received.data[own]).reshape(-1, bus.beats * bus.lanes)
            last = received.last[own].reshape(-1, bus.beats)[:, -1]
            if not (np.array_equal(got[:, :bus.elements], rows.values)
                    and np.array_equal(last, rows.last)):
                raise Difference("the sink received words that the monitor did not see")

    def _check_rules(self, broken: Fault | None) -> None:
        if int(self.dut.unstable.value):
            raise Difference(f"{self.manifest.output.prefix}: a word was changed or withdrawn "
                             f"after it was offered and before it was taken")
        reported = int(self.dut.malformed.value)
        if reported and broken is None:
            raise Difference("the design reports a malformed input, but there was none")
        if broken and not reported:
            raise Difference("the design does not report a malformed input")

    @property
    def unknown(self) -> str | None:
        """What to say where an output has been X that never must be."""
        cycle = int(self.dut.unknown.value)
        return (f"in cycle {cycle} the design puts out an unknown value (X): a valid, a ready or a "
                f"flag, or what is offered with a valid" if cycle else None)

    def _check_flags(self, model: Model, order: Sequence[int]) -> None:
        """Just what golden saturated in these sequences, and those before them, is flagged."""
        for name, counts in model.vectors.saturated.items():
            self.saturated[name] = self.saturated.get(name, 0) + int(counts[order].sum())
        flags = int(self.dut.saturated.value)
        for bit, name in enumerate(self.manifest.saturation):
            count, flagged = self.saturated.get(name), flags >> bit & 1
            if flagged and count == 0 and not self.spoilt:
                raise Difference(f"the design reports that {name} saturated, but golden says that "
                                 f"it did not, in any sequence since the reset")
            if count and not flagged:
                raise Difference(f"{name} saturated {count} times in golden since the reset, but "
                                 f"the design does not report it")

    async def play_held(self, order: Sequence[int]) -> None:
        """Play sequences, and take nothing until the input stands still; then all must come out."""
        dut, manifest = self.dut, self.manifest
        driver = PortDriver(dut, manifest, ready=False)
        first = int(dut.beats_in.value)

        async def hold() -> None:
            before = -1
            while before != (before := int(dut.beats_in.value)):
                await self.cycles(4 * manifest.step + 1000 + self.gathering)
            if not int(getattr(dut, f"{manifest.output.prefix}_tvalid").value):
                raise Difference("with TREADY low the design offers no word: it waits for TREADY "
                                 "before it raises TVALID")
            held, rest = divmod(before - first, manifest.input.beats)
            single = (self.vectors.lengths[list(order)] == 1).all()
            if manifest.held is not None and single and len(order) > manifest.held and (
                    held != manifest.held or rest):
                raise Difference(f"with TREADY low the design takes in {held} steps and {rest} "
                                 f"beats, not the {manifest.held} steps of the manifest")
            driver.take()

        await self.play(driver, self.deal(order), held=hold)

    async def interrupt(self, course: Course, after: int, model: Model | None = None) -> None:
        """Reset after so many cycles; what came out until then must have been right."""
        model = model or self.model
        checker = Checker(self.manifest, [model.expected(queue) for queue in course.queues])
        driver = PortDriver(self.dut, self.manifest)
        states = StatePorts(self.dut, self.manifest)
        source = cocotb.start_soon(self._send(driver, course, model, states))
        await self.cycles(after)
        last = int(self.dut.cycle.value)
        source.cancel()
        driver.stop()
        states.stop()
        self.dut.rst.value = 1
        await self.cycles(int(self.rng.integers(1, 4, endpoint=True)))
        self.dut.rst.value = 0
        self._forget()
        outputs, probes, packets = await self.recorded()
        seen = [outputs.cycles, *(values.cycles for values in probes),
                *([packets.cycles] if packets is not None else [])]
        late = [int(cycles[-1]) for cycles in seen if len(cycles) and cycles[-1] > last]
        if late:
            raise Difference(f"a word or a state came out in cycle {max(late)}, although the "
                             f"design was reset after cycle {last} and had no input since")
        self.coverage.merge(of_reset(self.manifest, self.recording.inputs(), probes, last))
        checker.feed(outputs, probes, packets)
        self.words += checker.words
        self.states += checker.states


@asynccontextmanager
async def session(dut: Any, name: str) -> AsyncIterator[Session]:
    """Run a test: reset, the test, a line in the report."""
    test = Session(dut, name)
    started, message = time.process_time(), None
    with (test.folder / "progress").open("a", encoding="utf-8") as file:
        file.write(f"test {name}\n")
    await test.reset()
    first = int(dut.cycle.value)
    try:
        yield test
        if test.unknown is not None:
            raise Difference(test.unknown)
    except Exception as error:
        # Where an output was X, whatever else is wrong comes of it.
        message = test.unknown or (str(error) if isinstance(error, Difference) else f"{error!r}")
        raise
    finally:
        line = {"test": name, "message": message, "words": test.words,
                "states": test.states, "sequences": test.sequences,
                "steps": test.steps, "cycles": int(dut.cycle.value) - first,
                "seconds": time.process_time() - started}
        with (test.folder / "report.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        test.coverage.save(test.folder / COVERED)
