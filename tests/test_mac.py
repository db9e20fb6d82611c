from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator

from benchmarks.synthesis import XC7, area
from hdl.mac import MacArray, Sequencer, pack_weights
from hdl.pipeline import FAST, SHORT, Pipeline


def test_pack_weights() -> None:
    w = np.arange(1, 16).reshape(3, 5)
    packed = pack_weights(w, rows=2, columns=3)
    assert packed.tolist() == [
        [[1, 2, 3], [6, 7, 8]], [[4, 5, 0], [9, 10, 0]],
        [[11, 12, 13], [0, 0, 0]], [[14, 15, 0], [0, 0, 0]]]


@pytest.mark.parametrize(("passes", "words", "bubble"), [
    (1, 1, 0), (1, 1, 3), (3, 1, 0), (1, 4, 0), (2, 3, 0), (3, 4, 2)])
@pytest.mark.parametrize("free", [0, 1])
def test_sequencer_without_a_pause(passes: int, words: int, bubble: int, free: int) -> None:
    """Steps follow each other with the bubble between them where they need it."""
    dut = Sequencer(passes=passes, words=words, bubble=bubble)
    seen = []

    async def bench(ctx):
        ctx.set(dut.ready, 1)
        ctx.set(dut.free, free)
        for _ in range(3 * (passes * words + bubble * (1 - free))):
            seen.append((ctx.get(dut.word), ctx.get(dut.address), ctx.get(dut.first_pass),
                         ctx.get(dut.last), ctx.get(dut.end), ctx.get(dut.ended))
                        if ctx.get(dut.issue) else None)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    total = passes * words
    step = [(n % words, n, n < words, n % words == words - 1, n == total - 1, n == total - 1)
            for n in range(total)]
    assert seen == 3 * (step + [None] * (bubble * (1 - free)))


@pytest.mark.parametrize(("passes", "words", "bubble"), [(1, 1, 0), (1, 1, 4), (2, 3, 7)])
@pytest.mark.parametrize("streams", [2, 3, 5])
def test_streams_take_turns(streams: int, passes: int, words: int, bubble: int) -> None:
    """The next one is the first behind the present one that is ready and has rested."""
    dut = Sequencer(passes=passes, words=words, bubble=bubble, streams=streams)
    rng = np.random.default_rng(streams)
    began = [0] * streams

    async def bench(ctx):
        present, at = streams - 1, 0
        rested = [0] * streams
        for now in range(600):
            # Now and then only some are ready for long.
            if now % 100 == 0:
                likely = rng.choice([0.1, 0.5, 1], streams)
            ready, free = rng.random(streams) < likely, int(rng.integers(2))
            ctx.set(dut.ready, sum(1 << n for n in range(streams) if ready[n]))
            ctx.set(dut.free, free)
            if at == 0:
                may = [stream for ahead in range(1, streams + 1)
                       if ready[stream := (present + ahead) % streams] and now >= rested[stream]]
                assert ctx.get(dut.issue) == bool(may)
                if may:
                    present = may[0]
                    began[present] += 1
            if at or may:
                assert ctx.get(dut.issue)
                assert (ctx.get(dut.stream), ctx.get(dut.address)) == (present, at)
                at = (at + 1) % (passes * words)
                assert ctx.get(dut.ended) == (0 if at else 1 << present)
                if at == 0 and not free:
                    rested[present] = now + 1 + bubble
            else:
                assert ctx.get(dut.ended) == 0
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert min(began) > 5


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_sequencer_under_stalls(seed: int, streams: int) -> None:
    """A stall holds a word back, a stream that is not ready only the first word of a step."""
    dut = Sequencer(passes=2, words=3, bubble=1, streams=streams)
    rng = np.random.default_rng(seed)
    issued: list[tuple[int, int]] = []

    async def bench(ctx):
        for _ in range(400):
            ready, stall = int(rng.integers(1 << streams)), int(rng.integers(2))
            ctx.set(dut.ready, ready)
            ctx.set(dut.stall, stall)
            begin = ctx.get(dut.address) == 0
            if ctx.get(dut.issue):
                assert not stall
                assert ready >> ctx.get(dut.stream) & 1 or not begin
                assert begin or ctx.get(dut.stream) == issued[-1][1]
                issued.append((ctx.get(dut.address), ctx.get(dut.stream)))
            else:
                assert ctx.get(dut.ended) == 0
                assert begin or stall
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(issued) > 60
    assert [address for address, _ in issued] == [n % 6 for n in range(len(issued))]
    assert {stream for _, stream in issued} == set(range(streams))


@pytest.mark.parametrize("pipeline", [
    SHORT, FAST, Pipeline(operand=2), Pipeline(product=1), Pipeline(sums=1)])
@pytest.mark.parametrize(("rows", "columns", "passes", "words"), [
    (1, 1, 1, 1), (4, 1, 2, 5), (3, 2, 1, 3), (2, 5, 3, 1), (4, 7, 2, 2)])
def test_array(rows: int, columns: int, passes: int, words: int, pipeline: Pipeline) -> None:
    """Totals differ by exact sums, at the stated latency, with and without gaps between words."""
    rng = np.random.default_rng(0)
    weights = rng.choice([-128, 127, -1, 0, 77], (passes * words, rows, columns))
    # Just wide enough for words * columns products of -128 by -128.
    width = 16 + (words * columns).bit_length()
    dut = MacArray(weights, weight_width=8, operand_width=8, width=width,
                   pipeline=pipeline)
    steps = 6
    operands = rng.choice([-128, 127, 5], (steps, words, columns))
    issues, dones, comings = [], [], []
    cycle = 0

    def wrapped(code: int) -> int:
        return (code + (1 << width - 1)) % (1 << width) - (1 << width - 1)

    # When which word enters.
    entering: list[tuple[int, int] | None] = [None]
    for step in range(steps):
        for address in range(passes * words):
            while step % 2 and rng.random() < 0.5:
                entering.append(None)
            entering.append((step, address))

    async def feed(ctx):
        before = None
        for now, following in pairwise([*entering, *[None] * 20]):
            # The address comes a cycle ahead, the operands a cycle later.
            if following:
                ctx.set(dut.address, following[1])
            last = now is not None and now[1] % words == words - 1
            ctx.set(dut.issue, now is not None)
            ctx.set(dut.last, last)
            if last:
                issues.append(cycle)
            if before:
                for column in range(columns):
                    ctx.set(dut.operands[column],
                            int(operands[before[0], before[1] % words, column]))
            before = now
            await ctx.tick()

    async def watch(ctx):
        nonlocal cycle
        totals = [[0] * rows]
        while True:
            if ctx.get(dut.coming):
                comings.append(cycle)
            if ctx.get(dut.done):
                dones.append(cycle)
                totals.append([ctx.get(dut.totals[row]) for row in range(rows)])
                step, a_pass = divmod(len(totals) - 2, passes)
                part = weights[a_pass * words:(a_pass + 1) * words]
                sums = [wrapped(now - before) for before, now in zip(*totals[-2:], strict=True)]
                assert sums == np.einsum("wrc,wc->r", part, operands[step]).tolist()
            await ctx.tick()
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    # The watch goes first: it counts the cycle before the next word is fed.
    simulator.add_testbench(watch, background=True)
    simulator.add_testbench(feed)
    simulator.run()
    assert len(dones) == steps * passes
    assert [done - issue for done, issue in zip(dones, issues, strict=True)] == (
        [dut.latency] * len(dones))
    assert dut.latency == pipeline.array_latency(columns)
    assert comings == [done - 2 for done in dones]


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "columns", "pipeline"), [(2, 1, FAST), (8, 2, SHORT)])
def test_a_block_for_each_multiplier(rows: int, columns: int, pipeline: Pipeline, tmp_path: Path
                                     ) -> None:
    """Yosys makes one DSP48E1 of each product of the portable text, and none of anything else."""
    assert XC7.command == "synth_xilinx -family xc7 -flatten"
    assert XC7.platform is None
    weights = np.random.default_rng(0).integers(-1 << 15, 1 << 15, (32, rows, columns))
    dut = MacArray(weights, weight_width=16, operand_width=16, width=37, pipeline=pipeline)
    assert area(dut, XC7, folder=tmp_path)["DSP48"] == rows * columns
