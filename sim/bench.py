"""The cocotb bench: runs inside the simulator, on the design around which it was built.

`sim.verify` starts it; the environment variable ``GATEFOLD_BENCH`` names a JSON file with what it
needs. Every test begins with a reset, plays sequences, and compares every output word with its
TLAST and every c and h that the design's probes show. What a test did is appended to the report,
one JSON line a test.
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
from sim.coverage import COVERED, EIGHTHS, Coverage, of_ports, of_reset
from sim.driver import PERIOD, AxiDriver, Backlog, Driver, PortDriver, Stalls
from sim.malformed import Fault, faults
from sim.manifest import Manifest
from sim.model import Course, Expected, Model
from sim.monitor import Beats, Recording, Values
from sim.states import LONGEST, StatePorts, in_pieces
from sim.timing import Timing, check_alone, check_together, save_timing
from sim.vectors import VECTORS, Vectors

__all__: list[str] = []

MIXED_HOLDS = 4
"""How often all comes to stand still with sequences of any length."""

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


class _Session:
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
        self.manifest = setup.manifest
        self.vectors = setup.vectors
        self.effort = setup.effort
        self.rng = np.random.default_rng([setup.seed, zlib.crc32(name.encode())])
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

    def choose(self, budget: int, *, least: int = 1) -> list[int]:
        """Sequences in random order that take about so many cycles."""
        order: list[int] = []
        steps = 0
        for sequence in self.rng.permutation(self.vectors.sequences).tolist():
            length = int(self.vectors.lengths[sequence])
            if len(order) < least or (steps + length) * self.manifest.alone <= budget:
                order.append(sequence)
                steps += length
        return order

    def longer(self) -> list[int]:
        """For each stream a sequence that has more than one step, where there is any."""
        candidates = np.flatnonzero(self.vectors.lengths > 1)
        return self.rng.choice(candidates if len(candidates) else self.vectors.sequences,
                               self.manifest.streams).tolist()

    def longest(self) -> list[int]:
        """The same sequence, none is longer, for each stream."""
        return [int(np.argmax(self.vectors.lengths))] * self.manifest.streams

    def shortest(self, count: int) -> list[int]:
        """So many of the shortest sequences, repeated where there are not enough."""
        ranked = np.argsort(self.vectors.lengths, kind="stable")
        same = ranked[self.vectors.lengths[ranked] == self.vectors.lengths[ranked[0]]]
        return self.rng.permutation(np.resize(same, count)).tolist()

    def each_kind(self) -> list[int]:
        """Of the sequences in which the same tensors saturate one of the shortest each."""
        ranked = self.rng.permutation(self.vectors.sequences)
        ranked = ranked[np.argsort(self.vectors.lengths[ranked], kind="stable")]
        kinds = {tuple(counts[sequence] > 0 for counts in self.vectors.saturated.values()): sequence
                 for sequence in ranked[::-1].tolist()}
        return self.rng.permutation(list(kinds.values())).tolist()

    def mixed(self) -> list[int]:
        """Some of the shortest sequences among some of any length."""
        some = self.choose(self.effort // 16, least=2 * self.manifest.streams)
        return self.rng.permutation([*self.shortest(4 * self.manifest.streams), *some]).tolist()

    def deal(self, order: Sequence[int], *, mixed: bool = False) -> Course:
        """The sequences on all streams at the same time, step by step in turn or at random."""
        streams = self.manifest.streams
        return Course.deal(order, self.vectors.lengths, streams,
                           rng=self.rng if mixed and streams > 1 else None)

    def whole(self, order: Sequence[int]) -> Course:
        """The sequences one after the other, on all streams in turn."""
        return Course.whole(order, self.vectors.lengths, self.manifest.streams)

    def guests(self, visits: int) -> list[int]:
        """Sequences of about so many steps in all, one at least."""
        order = self.shortest(1)
        steps = int(self.vectors.lengths[order].sum())
        for sequence in self.rng.permutation(self.vectors.sequences).tolist():
            length = int(self.vectors.lengths[sequence])
            if steps + length <= visits:
                order.append(sequence)
                steps += length
        return order

    async def _send(self, driver: Driver, course: Course, model: Model, states: StatePorts,
                    broken: Fault | None = None) -> None:
        for part in chain([broken.part] if broken else [], model.beats(course, self.rng)):
            if part.given is not None:
                await states.send(*part.given)
            await driver.send(part)

    def pieces(self, budget: int, *, sets: bool, least: int = 1) -> tuple[Model, Course]:
        """Sequences in pieces that take about so many cycles, and the model for them."""
        course = in_pieces(self.vectors, self.choose(budget, least=least), self.manifest.streams,
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

    def many(self) -> list[int]:
        """More of the shortest sequences than the design holds, where that is known."""
        return self.shortest(max(16, 2 + (self.manifest.held or 0) // self.manifest.streams)
                             * self.manifest.streams)

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
async def _session(dut: Any, name: str) -> AsyncIterator[_Session]:
    """Run a test: reset, the test, a line in the report."""
    session = _Session(dut, name)
    setup = _setup()
    started, message = time.process_time(), None
    with (setup.folder / "progress").open("a", encoding="utf-8") as file:
        file.write(f"test {name}\n")
    await session.reset()
    first = int(dut.cycle.value)
    try:
        yield session
        if session.unknown is not None:
            raise Difference(session.unknown)
    except Exception as error:
        # Where an output was X, whatever else is wrong comes of it.
        message = session.unknown or (str(error) if isinstance(error, Difference) else f"{error!r}")
        raise
    finally:
        line = {"test": name, "message": message, "words": session.words,
                "states": session.states, "sequences": session.sequences,
                "steps": session.steps, "cycles": int(dut.cycle.value) - first,
                "seconds": time.process_time() - started}
        with (setup.folder / "report.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        session.coverage.save(setup.folder / COVERED)


@cocotb.test()
async def full_speed(dut: Any) -> None:
    """All sequences, back to back, on all streams; their cycles are kept and checked."""
    async with _session(dut, "full_speed") as session:
        manifest = session.manifest
        timing, alone = Timing(), Timing()
        driver = PortDriver(dut, manifest)
        await session.play(driver, session.deal(range(session.vectors.sequences)), timing=timing)
        await session.play(driver, session.deal(session.shortest(1)), timing=alone)
        steady = timing.record(manifest)
        save_timing(_setup().folder, steady=steady, alone=alone.record(manifest))
        if manifest.streams == 1:
            check_alone(steady, manifest)
        else:
            together = Timing()
            await session.play(driver, session.deal(session.longest()), timing=together)
            check_together(together.record(manifest), manifest)


@cocotb.test()
async def random_stalls(dut: Any) -> None:
    """Random pauses on both sides, with our own driver, and the streams mixed at random."""
    async with _session(dut, "random_stalls") as session:
        driver = PortDriver(dut, session.manifest, stalls=session.stalls())
        order = session.choose(session.effort, least=2 * session.manifest.streams)
        await session.play(driver, session.deal(order, mixed=True))


@cocotb.test()
async def axi_full_speed(dut: Any) -> None:
    """cocotbext-axi at both ends, without pauses."""
    async with _session(dut, "axi_full_speed") as session:
        order = session.choose(session.effort // 4, least=session.manifest.streams)
        await session.play(AxiDriver(dut, session.manifest), session.whole(order))


@cocotb.test()
async def axi_random_stalls(dut: Any) -> None:
    """cocotbext-axi at both ends, with its random pauses."""
    async with _session(dut, "axi_random_stalls") as session:
        driver = AxiDriver(dut, session.manifest, stalls=session.stalls())
        order = session.choose(session.effort // 4, least=session.manifest.streams)
        await session.play(driver, session.whole(order))


@cocotb.test()
async def single_steps(dut: Any) -> None:
    """Sequences of length 1: each begins with no state and ends at once."""
    async with _session(dut, "single_steps") as session:
        order = session.shortest(max(8, min(64, session.effort // session.manifest.step // 2)))
        await session.play(PortDriver(dut, session.manifest), session.deal(order))
        await session.play(PortDriver(dut, session.manifest, stalls=session.stalls()),
                           session.deal(order, mixed=True))


@cocotb.test()
async def reset_midway(dut: Any) -> None:
    """Resets at random moments; nothing from before may show in what follows."""
    async with _session(dut, "reset_midway") as session:
        rounds, step, streams = EIGHTHS, session.manifest.step, session.manifest.streams
        # In another part of a step each time.
        begin = int(session.rng.integers(1, 1 + max(1, step // rounds), endpoint=True))
        for number in range(rounds):
            interrupted = session.longer()
            length = int(session.vectors.lengths[interrupted].max()) * step
            # Every other time early, where the first words are still on their way.
            limit = min(length, 3 * step if number % 2 else max(step, session.effort // rounds))
            steps = int(session.rng.integers(max(1, limit // step)))
            after = steps * step + begin + number * step // rounds
            await session.interrupt(session.deal(interrupted, mixed=number % 4 > 1), after)
            await session.play(PortDriver(dut, session.manifest),
                               session.deal(session.shortest(2 * streams)))
            # All that counts free places has to be as before, too.
            await session.play_held(session.many())
        if session.manifest.input.beats > 1:
            # At full speed the first beat of a sequence is taken in the first cycle.
            await session.interrupt(session.deal(session.longer()), 1)
        await session.play(PortDriver(dut, session.manifest), session.deal(session.longer()))


@cocotb.test()
async def ready_held_low(dut: Any) -> None:
    """Nobody takes the output, until the input stands still; then all must come out."""
    async with _session(dut, "ready_held_low") as session:
        # What waits then are last steps only; and after that last ones and others, in any order.
        await session.play_held(session.many())
        for _ in range(1 if session.manifest.longest else MIXED_HOLDS):
            await session.play_held(session.mixed())


@cocotb.test()
async def backlog(dut: Any) -> None:
    """The sink is slower than the design: all that can wait is full, nearly all of the time."""
    async with _session(dut, "backlog") as session:
        manifest = session.manifest
        order = session.choose(session.effort // 2, least=2 * manifest.streams)
        # Cycles from an output to the next.
        pace = manifest.step / manifest.streams
        if not manifest.every_step:
            pace *= session.vectors.lengths[order].mean()
        stalls = Backlog(session.rng, pace, manifest.output.beats)
        session.patience += stalls.longest
        await session.play(PortDriver(dut, manifest, stalls=stalls), session.deal(order))


@cocotb.test()
async def flags(dut: Any) -> None:
    """A sequence after each reset: the flags tell what saturates in it, and nothing else."""
    async with _session(dut, "flags") as session:
        spent = 0
        for sequence in session.each_kind():
            # Until it is through, and what should not come has not come.
            spent += int(session.vectors.lengths[sequence] + 4) * session.manifest.further + 200
            if spent > session.effort and session.sequences:
                break
            await session.reset()
            await session.play(PortDriver(dut, session.manifest), session.whole([sequence]))


@cocotb.test()
async def idle_streams(dut: Any) -> None:
    """One stream is busy, the others are idle, or have a step now and then: it need not wait."""
    async with _session(dut, "idle_streams") as session:
        manifest, lengths = session.manifest, session.vectors.lengths
        driver = PortDriver(dut, manifest)
        # Visits so far apart that the pace settles in between.
        gap = 3 * manifest.settling
        for visited in (False, True):
            busy = int(session.rng.integers(manifest.streams))
            order = session.choose(session.effort // 2)
            guests = session.guests(int(lengths[order].sum()) // (2 * gap)) if visited else []
            course = Course.visited(order, guests, lengths, manifest.streams, busy=busy, gap=gap,
                                    rng=session.rng)
            timing = Timing()
            await session.play(driver, course, timing=timing)
            check_alone(timing.record(manifest), manifest, busy,
                        calm=course.undisturbed(busy, manifest.settling))


@cocotb.test()
async def kept_states(dut: Any) -> None:
    """Sequences in pieces, each going on where the one before ended: the same as in one."""
    async with _session(dut, "kept_states") as session:
        manifest, stalls = session.manifest, session.stalls()
        for budget, pauses in ((session.effort // 2, None), (session.effort // 4, stalls)):
            model, course = session.pieces(budget, sets=False, least=manifest.streams)
            await session.play(PortDriver(dut, manifest, stalls=pauses), course, model=model,
                               states=StatePorts(dut, manifest, stalls=pauses))


@cocotb.test()
async def set_states(dut: Any) -> None:
    """Pieces of sequences from states that are set, and resets in between, also while they are."""
    async with _session(dut, "set_states") as session:
        manifest, stalls = session.manifest, session.stalls()
        for pauses in (None, stalls):
            for _ in range(4):
                model, course = session.pieces(session.effort // 8, sets=True)
                after = int(session.rng.integers(1, 3 * manifest.step + 100, endpoint=True))
                await session.interrupt(course, after, model)
            model, course = session.pieces(session.effort // 4, sets=True, least=manifest.streams)
            await session.play(PortDriver(dut, manifest, stalls=pauses), course, model=model,
                               states=StatePorts(dut, manifest, stalls=pauses))


@cocotb.test()
async def packets_held(dut: Any) -> None:
    """Nobody takes final states, until the input stands still; then all must come out."""
    async with _session(dut, "packets_held") as session:
        states = StatePorts(dut, session.manifest, ready=False)

        async def hold() -> None:
            before = -1
            while before != (before := int(dut.beats_in.value)):
                await session.cycles(4 * session.manifest.step + 1000)
            states.take()

        await session.play(PortDriver(dut, session.manifest),
                           session.deal(session.shortest(16 * session.manifest.streams)),
                           states=states, held=hold)


@cocotb.test()
async def malformed_input(dut: Any) -> None:
    """What breaks the rules is reported, then and not before; sequences around it are right."""
    async with _session(dut, "malformed_input") as session:
        manifest = session.manifest
        session.patience += 2 * manifest.further * (manifest.longest or 0)
        for stalls in (None, session.stalls()):
            for broken in faults(session.model, session.rng):
                await session.reset()
                course = session.deal([*session.longer(), *session.shortest(manifest.streams)])
                await session.play(PortDriver(dut, manifest, stalls=stalls), course)
                try:
                    await session.play(PortDriver(dut, manifest, stalls=stalls), course,
                                       broken=broken)
                except Difference as error:
                    raise Difference(f"after {broken.name}: {error}") from error
