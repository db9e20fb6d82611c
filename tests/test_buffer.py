import re
from collections.abc import Iterator

import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.buffer import ColumnBuffer, StepBuffer, beat_counts
from tests.cases import thinned

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


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_column_buffer(name: str, streams: int) -> None:
    """Each page reads back in order while another is being written."""
    columns, offset, counts = SHAPES[name]
    dut = ColumnBuffer(width=8, columns=columns, offset=offset, counts=counts, streams=streams)
    rng = np.random.default_rng(streams)
    total, pages = sum(counts), 2 * streams
    filled = [count for count in counts if count]
    contents: dict[int, list[int]] = {}

    async def bench(ctx):
        # Every page once, then any.
        for page in [*range(pages), *rng.integers(0, pages, 4 * pages).tolist()]:
            columns_in = rng.integers(-128, 128, total).tolist()
            readable = [other for other in contents if other != page]
            read = int(rng.choice(readable)) if readable else page
            ctx.set(dut.write_page, page)
            ctx.set(dut.read_page, read)
            words, at = [], 0
            for n in range(max(len(filled), dut.words)):
                ctx.set(dut.valid, n < len(filled))
                if n < len(filled):
                    ctx.set(dut.beat.count, filled[n])
                    for lane in range(max(counts)):
                        value = (columns_in[at + lane] if lane < filled[n]
                                 else int(rng.integers(-128, 128)))
                        ctx.set(dut.beat.data[lane], value)
                    at += filled[n]
                assert ctx.get(dut.filled) == (n == len(filled) - 1)
                ctx.set(dut.address, min(n, dut.words - 1))
                await ctx.tick()
                if n < dut.words:
                    words += [ctx.get(dut.data[lane]) for lane in range(columns)]
            ctx.set(dut.valid, 0)
            if readable:
                assert words[offset:offset + total] == contents[read]
            contents[page] = columns_in

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(contents) == pages


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize(("name", "latency", "forward"), thinned(SHAPES, [
    (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3)], every=3))
def test_forward(name: str, latency: int, forward: int, streams: int) -> None:
    """Each word is read as soon as it may be, in the page that is being written.

    In between, words of other pages are read, the one at the place that is written among them.
    """
    columns, offset, counts = SHAPES[name]
    dut = ColumnBuffer(width=8, columns=columns, offset=offset, counts=counts, streams=streams,
                       latency=latency, forward=forward)
    rng = np.random.default_rng(forward)
    total = sum(counts)
    filled = [count for count in counts if count]
    # Which beat completes each word.
    ends = offset + np.cumsum(filled)
    completes = [int(np.searchsorted(ends, min((word + 1) * columns, offset + total)))
                 for word in range(dut.words)]

    contents: dict[int, list[int]] = {}

    async def bench(ctx):
        for page in rng.integers(0, 2 * streams, 12 * streams).tolist():
            values = rng.integers(-128, 128, total).tolist()
            others = [other for other in contents if other != page]
            elsewhere: dict[int, tuple[int, int]] = {}
            beats: Iterator[np.ndarray] = iter(np.split(
                np.array(values), np.cumsum(filled)[:-1].tolist()))
            writes = (forward + np.cumsum(rng.integers(1, 4, len(filled)))).tolist()
            reads: dict[int, int] = {}
            for word, end in enumerate(completes):
                reads[max([writes[end] + 1 - forward, *(at + 1 for at in reads)])] = word
            words: list[int] = []
            for now in range(max(reads) + 1 + latency):
                beat = next(beats) if now in writes else np.array([])
                ctx.set(dut.valid, now in writes)
                ctx.set(dut.write_page, page)
                ctx.set(dut.beat.count, len(beat))
                for lane in range(max(counts)):
                    ctx.set(dut.beat.data[lane], int(beat[lane]) if lane < len(beat)
                            else int(rng.integers(-128, 128)))
                got = [ctx.get(dut.data[lane]) for lane in range(columns)]
                if now - latency in reads:
                    words += got
                elif now - latency in elsewhere:
                    other, word = elsewhere[now - latency]
                    first, last = (max(0, at * columns - offset) for at in (word, word + 1))
                    wanted = contents[other][first:last]
                    begin = offset if word == 0 else 0
                    assert got[begin:begin + len(wanted)] == wanted
                if now in reads:
                    at, of = reads[now], page
                elif others:
                    # The word that is completed next, or soon after.
                    ahead = sum(end + 1 <= now for end in writes)
                    word = int(np.searchsorted(completes, ahead - int(rng.integers(0, 2))))
                    at, of = min(word, dut.words - 1), int(rng.choice(others))
                    elsewhere[now] = of, at
                else:
                    at, of = 0, page
                ctx.set(dut.address, at)
                ctx.set(dut.read_page, of)
                await ctx.tick()
            assert words[offset:offset + total] == values
            contents[page] = values

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_wrong_forward() -> None:
    for latency in (1, 2):
        with pytest.raises(ValueError, match=(
                f"^column buffer forward must be an integer from 0 to {latency + 1}, "
                f"not {latency + 2}$")):
            ColumnBuffer(width=8, columns=1, offset=0, counts=(1,), streams=1, latency=latency,
                         forward=latency + 2)


def test_wrong_offset() -> None:
    with pytest.raises(ValueError, match="^" + re.escape(
            "column buffer offset must be at least 0 and below the 4 columns of a word, not 4")):
        ColumnBuffer(width=8, columns=4, offset=4, counts=(1,), streams=1)


@pytest.mark.parametrize("streams", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_step_buffer(seed: int, streams: int) -> None:
    """Each stream's steps come out whole, in order, with their flags, under stalls on both sides.

    The reader takes any stream that has a step, and two steps of each fit.
    """
    counts = (2, 2, 1)
    dut = StepBuffer(width=8, columns=2, counts=counts, streams=streams)
    rng = np.random.default_rng(seed)
    number = 40
    steps, lasts = rng.integers(-128, 128, (number, 5)), rng.integers(0, 2, number)
    whose = rng.integers(0, streams, number)
    reader_stall, writer_stall = [(0, 0), (0.7, 0), (0, 0.7), (0.7, 0.7)][seed]
    seen: list[list[tuple[list[int], int]]] = [[] for _ in range(streams)]
    written, held = [0] * streams, []

    async def writer(ctx):
        for step, last, stream in zip(steps, lasts, whose.tolist(), strict=True):
            at = 0
            for count in counts:
                while rng.random() < writer_stall:
                    await ctx.tick()
                ctx.set(dut.i.valid, 1)
                ctx.set(dut.i.payload.stream, stream)
                ctx.set(dut.i.payload.count, count)
                ctx.set(dut.i.payload.last, int(last))
                for lane in range(count):
                    ctx.set(dut.i.payload.data[lane], int(step[at + lane]))
                at += count
                await ctx.tick().until(dut.i.ready)
                ctx.set(dut.i.valid, 0)
            written[stream] += 1

    async def reader(ctx):
        for _ in range(number):
            while rng.random() < reader_stall:
                await ctx.tick()
            while not ctx.get(dut.ready):
                await ctx.tick()
            ready = ctx.get(dut.ready)
            stream = int(rng.choice([n for n in range(streams) if ready >> n & 1]))
            held.append(written[stream] - len(seen[stream]))
            row = []
            for address in range(3):
                ctx.set(dut.read_page, 2 * stream + (ctx.get(dut.page) >> stream & 1))
                ctx.set(dut.address, address)
                await ctx.tick()
                row += [ctx.get(dut.data[lane]) for lane in range(2)]
            seen[stream].append((row[:5], ctx.get(dut.last) >> stream & 1))
            ctx.set(dut.release, 1 << stream)
            await ctx.tick()
            ctx.set(dut.release, 0)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(writer)
    simulator.add_testbench(reader)
    simulator.run()
    for stream in range(streams):
        mine = whose == stream
        assert seen[stream] == list(zip(steps[mine].tolist(), lasts[mine].tolist(), strict=True))
    # Two pages of a stream, and both are used where the reader is the slower one.
    assert max(held) <= 2
    assert max(held) == 2 or reader_stall <= writer_stall
