"""The tests of the bench: what runs inside the simulator, on the design around which it was built.

`sim.verify` starts it; the environment variable ``GATEFOLD_BENCH`` names a JSON file with what it
needs. Each test is a session of its own, and appends what it did to the report, one JSON line a
test.
"""

from typing import Any

import cocotb

from sim.checker import Difference
from sim.coverage import EIGHTHS
from sim.driver import AxiDriver, Backlog, PortDriver
from sim.malformed import faults
from sim.model import Course
from sim.session import session
from sim.states import StatePorts
from sim.timing import Timing, check_alone, check_together, save_timing

__all__: list[str] = []

MIXED_HOLDS = 4
"""How often all comes to stand still with sequences of any length."""


@cocotb.test()
async def full_speed(dut: Any) -> None:
    """All sequences, back to back, on all streams; their cycles are kept and checked."""
    async with session(dut, "full_speed") as test:
        manifest = test.manifest
        timing, alone = Timing(), Timing()
        driver = PortDriver(dut, manifest)
        await test.play(driver, test.deal(range(test.vectors.sequences)), timing=timing)
        await test.play(driver, test.deal(test.pick.shortest(1)), timing=alone)
        steady = timing.record(manifest)
        save_timing(test.folder, steady=steady, alone=alone.record(manifest))
        if manifest.streams == 1:
            check_alone(steady, manifest)
        else:
            together = Timing()
            await test.play(driver, test.deal(test.pick.longest()), timing=together)
            check_together(together.record(manifest), manifest)


@cocotb.test()
async def random_stalls(dut: Any) -> None:
    """Random pauses on both sides, with our own driver, and the streams mixed at random."""
    async with session(dut, "random_stalls") as test:
        driver = PortDriver(dut, test.manifest, stalls=test.stalls())
        order = test.pick.some(test.effort, least=2 * test.manifest.streams)
        await test.play(driver, test.deal(order, mixed=True))


@cocotb.test()
async def axi_full_speed(dut: Any) -> None:
    """cocotbext-axi at both ends, without pauses."""
    async with session(dut, "axi_full_speed") as test:
        order = test.pick.some(test.effort // 4, least=test.manifest.streams)
        await test.play(AxiDriver(dut, test.manifest), test.whole(order))


@cocotb.test()
async def axi_random_stalls(dut: Any) -> None:
    """cocotbext-axi at both ends, with its random pauses."""
    async with session(dut, "axi_random_stalls") as test:
        driver = AxiDriver(dut, test.manifest, stalls=test.stalls())
        order = test.pick.some(test.effort // 4, least=test.manifest.streams)
        await test.play(driver, test.whole(order))


@cocotb.test()
async def single_steps(dut: Any) -> None:
    """Sequences of length 1: each begins with no state and ends at once."""
    async with session(dut, "single_steps") as test:
        order = test.pick.shortest(max(8, min(64, test.effort // test.manifest.step // 2)))
        await test.play(PortDriver(dut, test.manifest), test.deal(order))
        await test.play(PortDriver(dut, test.manifest, stalls=test.stalls()),
                        test.deal(order, mixed=True))


@cocotb.test()
async def reset_midway(dut: Any) -> None:
    """Resets at random moments; nothing from before may show in what follows."""
    async with session(dut, "reset_midway") as test:
        rounds, step, streams = EIGHTHS, test.manifest.step, test.manifest.streams
        # In another part of a step each time.
        begin = int(test.rng.integers(1, 1 + max(1, step // rounds), endpoint=True))
        for number in range(rounds):
            interrupted = test.pick.longer()
            length = int(test.vectors.lengths[interrupted].max()) * step
            # Every other time early, where the first words are still on their way.
            limit = min(length, 3 * step if number % 2 else max(step, test.effort // rounds))
            steps = int(test.rng.integers(max(1, limit // step)))
            after = steps * step + begin + number * step // rounds
            await test.interrupt(test.deal(interrupted, mixed=number % 4 > 1), after)
            await test.play(PortDriver(dut, test.manifest),
                            test.deal(test.pick.shortest(2 * streams)))
            # All that counts free places has to be as before, too.
            await test.play_held(test.pick.many())
        if test.manifest.input.beats > 1:
            # At full speed the first beat of a sequence is taken in the first cycle.
            await test.interrupt(test.deal(test.pick.longer()), 1)
        await test.play(PortDriver(dut, test.manifest), test.deal(test.pick.longer()))


@cocotb.test()
async def ready_held_low(dut: Any) -> None:
    """Nobody takes the output, until the input stands still; then all must come out."""
    async with session(dut, "ready_held_low") as test:
        # What waits then are last steps only; and after that last ones and others, in any order.
        await test.play_held(test.pick.many())
        for _ in range(1 if test.manifest.longest else MIXED_HOLDS):
            await test.play_held(test.pick.mixed())


@cocotb.test()
async def backlog(dut: Any) -> None:
    """The sink is slower than the design: all that can wait is full, nearly all of the time."""
    async with session(dut, "backlog") as test:
        manifest = test.manifest
        order = test.pick.some(test.effort // 2, least=2 * manifest.streams)
        # Cycles from an output to the next.
        pace = manifest.step / manifest.streams
        if not manifest.every_step:
            pace *= test.vectors.lengths[order].mean()
        stalls = Backlog(test.rng, pace, manifest.output.beats)
        test.patience += stalls.longest
        await test.play(PortDriver(dut, manifest, stalls=stalls), test.deal(order))


@cocotb.test()
async def flags(dut: Any) -> None:
    """A sequence after each reset: the flags tell what saturates in it, and nothing else."""
    async with session(dut, "flags") as test:
        spent = 0
        for sequence in test.pick.each_kind():
            # Until it is through, and what should not come has not come.
            spent += int(test.vectors.lengths[sequence] + 4) * test.manifest.further + 200
            if spent > test.effort and test.sequences:
                break
            await test.reset()
            await test.play(PortDriver(dut, test.manifest), test.whole([sequence]))


@cocotb.test()
async def idle_streams(dut: Any) -> None:
    """One stream is busy, the others are idle, or have a step now and then: it need not wait."""
    async with session(dut, "idle_streams") as test:
        manifest, lengths = test.manifest, test.vectors.lengths
        driver = PortDriver(dut, manifest)
        # Visits so far apart that the pace settles in between.
        gap = 3 * manifest.settling
        for visited in (False, True):
            busy = int(test.rng.integers(manifest.streams))
            order = test.pick.some(test.effort // 2)
            guests = test.pick.guests(int(lengths[order].sum()) // (2 * gap)) if visited else []
            course = Course.visited(order, guests, lengths, manifest.streams, busy=busy, gap=gap,
                                    rng=test.rng)
            timing = Timing()
            await test.play(driver, course, timing=timing)
            check_alone(timing.record(manifest), manifest, busy,
                        calm=course.undisturbed(busy, manifest.settling))


@cocotb.test()
async def kept_states(dut: Any) -> None:
    """Sequences in pieces, each going on where the one before ended: the same as in one."""
    async with session(dut, "kept_states") as test:
        manifest, stalls = test.manifest, test.stalls()
        for budget, pauses in ((test.effort // 2, None), (test.effort // 4, stalls)):
            model, course = test.pieces(budget, sets=False, least=manifest.streams)
            await test.play(PortDriver(dut, manifest, stalls=pauses), course, model=model,
                            states=StatePorts(dut, manifest, stalls=pauses))


@cocotb.test()
async def set_states(dut: Any) -> None:
    """Pieces of sequences from states that are set, and resets in between, also while they are."""
    async with session(dut, "set_states") as test:
        manifest, stalls = test.manifest, test.stalls()
        for pauses in (None, stalls):
            for _ in range(4):
                model, course = test.pieces(test.effort // 8, sets=True)
                after = int(test.rng.integers(1, 3 * manifest.step + 100, endpoint=True))
                await test.interrupt(course, after, model)
            model, course = test.pieces(test.effort // 4, sets=True, least=manifest.streams)
            await test.play(PortDriver(dut, manifest, stalls=pauses), course, model=model,
                            states=StatePorts(dut, manifest, stalls=pauses))


@cocotb.test()
async def packets_held(dut: Any) -> None:
    """Nobody takes final states, until the input stands still; then all must come out."""
    async with session(dut, "packets_held") as test:
        states = StatePorts(dut, test.manifest, ready=False)

        async def hold() -> None:
            before = -1
            while before != (before := int(dut.beats_in.value)):
                await test.cycles(4 * test.manifest.step + 1000)
            states.take()

        await test.play(PortDriver(dut, test.manifest),
                        test.deal(test.pick.shortest(16 * test.manifest.streams)),
                        states=states, held=hold)


@cocotb.test()
async def malformed_input(dut: Any) -> None:
    """What breaks the rules is reported, then and not before; sequences around it are right."""
    async with session(dut, "malformed_input") as test:
        manifest = test.manifest
        test.patience += 2 * manifest.further * (manifest.longest or 0)
        for stalls in (None, test.stalls()):
            for broken in faults(test.model, test.rng):
                await test.reset()
                course = test.deal([*test.pick.longer(), *test.pick.shortest(manifest.streams)])
                await test.play(PortDriver(dut, manifest, stalls=stalls), course)
                try:
                    await test.play(PortDriver(dut, manifest, stalls=stalls), course,
                                    broken=broken)
                except Difference as error:
                    raise Difference(f"after {broken.name}: {error}") from error
