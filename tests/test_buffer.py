import re

import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.buffer import ColumnBuffer, StepBuffer, beat_counts

# (columns of a word, offset, columns in each beat)
SHAPES = {
    "one by one": (1, 0, (1, 1, 1, 1)),
    "one of one": (1, 0, (1,)),
    "offset": (4, 3, (1,) * 7),
    "beats divide words": (4, 0, (2, 2, 2)),
    "beats with an offset": (4, 2, (2, 2, 2, 1)),
    "beats do not divide words": (5, 1, (3, 3, 2, 3, 3, 2)),
    "empty beats": (3, 2, (2, 1, 0, 2, 0)),
    "wider beats than words": (1, 0, (4, 4, 3)),
    "wider beats that do not divide": (2, 0, (5, 5, 1)),
    "one beat": (6, 0, (6,)),
}


@pytest.mark.parametrize(("columns", "lanes", "counts"), [
    (6, 3, (3, 3)), (7, 3, (3, 3, 1)), (2, 2, (2,)), (1, 1, (1,))])
def test_beat_counts(columns: int, lanes: int, counts: tuple[int, ...]) -> None:
    assert beat_counts(columns, lanes) == counts


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("name", SHAPES)
def test_column_buffer(name: str, seed: int) -> None:
    """Each page reads back in order while the other is being written."""
    columns, offset, counts = SHAPES[name]
    dut = ColumnBuffer(width=8, columns=columns, offset=offset, counts=counts)
    rng = np.random.default_rng(seed)
    pages = rng.integers(-128, 128, (5, sum(counts)))

    async def write(ctx, page):
        at = 0
        for n, count in enumerate(counts):
            assert not ctx.get(dut.filled)
            ctx.set(dut.valid, 1)
            ctx.set(dut.beat.count, count)
            for lane in range(max(counts)):
                value = page[at + lane] if lane < count else rng.integers(-128, 128)
                ctx.set(dut.beat.data[lane], int(value))
            at += count
            filled = count and at == sum(counts)
            assert ctx.get(dut.filled) == bool(filled) or not any(counts[n:])
            await ctx.tick()
            ctx.set(dut.valid, 0)
            if filled:
                break

    async def bench(ctx):
        await write(ctx, pages[0])
        for page, following in zip(pages, [*pages[1:], pages[0]], strict=True):
            await write(ctx, following)
            seen = []
            for address in range(dut.words):
                ctx.set(dut.address, address)
                await ctx.tick()
                seen += [ctx.get(dut.data[lane]) for lane in range(columns)]
            assert seen[offset:offset + sum(counts)] == page.tolist()
            ctx.set(dut.release, 1)
            await ctx.tick()
            ctx.set(dut.release, 0)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_wrong_offset() -> None:
    with pytest.raises(ValueError, match="^" + re.escape(
            "column buffer offset must be at least 0 and below the 4 columns of a word, not 4")):
        ColumnBuffer(width=8, columns=4, offset=4, counts=(1,))


@pytest.mark.parametrize("seed", range(4))
def test_step_buffer(seed: int) -> None:
    """Steps come out whole, in order, with their flags, under stalls on both sides."""
    counts = (2, 2, 1)
    dut = StepBuffer(width=8, columns=2, counts=counts)
    rng = np.random.default_rng(seed)
    steps, lasts = rng.integers(-128, 128, (40, 5)), rng.integers(0, 2, 40)
    reader_stall, writer_stall = rng.choice([0, 0.7], 2)
    seen = []

    async def writer(ctx):
        for step, last in zip(steps, lasts, strict=True):
            at = 0
            for count in counts:
                while rng.random() < writer_stall:
                    await ctx.tick()
                ctx.set(dut.i.valid, 1)
                ctx.set(dut.i.payload.count, count)
                ctx.set(dut.i.payload.last, int(last))
                for lane in range(count):
                    ctx.set(dut.i.payload.data[lane], int(step[at + lane]))
                at += count
                await ctx.tick().until(dut.i.ready)
                ctx.set(dut.i.valid, 0)

    async def reader(ctx):
        for _ in steps:
            while rng.random() < reader_stall:
                await ctx.tick()
            while not ctx.get(dut.ready):
                await ctx.tick()
            row = []
            for address in range(3):
                ctx.set(dut.address, address)
                await ctx.tick()
                row += [ctx.get(dut.data[lane]) for lane in range(2)]
            seen.append((row[:5], ctx.get(dut.last)))
            ctx.set(dut.release, 1)
            await ctx.tick()
            ctx.set(dut.release, 0)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(writer)
    simulator.add_testbench(reader)
    simulator.run()
    assert seen == list(zip(steps.tolist(), lasts.tolist(), strict=True))
