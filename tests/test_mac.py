import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.mac import MacArray, Sequencer, pack_weights


def test_pack_weights() -> None:
    w = np.arange(1, 16).reshape(3, 5)
    packed = pack_weights(w, rows=2, columns=3)
    assert packed.tolist() == [
        [[1, 2, 3], [6, 7, 8]], [[4, 5, 0], [9, 10, 0]],
        [[11, 12, 13], [0, 0, 0]], [[14, 15, 0], [0, 0, 0]]]


@pytest.mark.parametrize(("passes", "words", "bubble"), [
    (1, 1, 0), (1, 1, 3), (3, 1, 0), (1, 4, 0), (2, 3, 0), (3, 4, 2)])
def test_sequencer_without_a_pause(passes: int, words: int, bubble: int) -> None:
    """Steps follow each other with the bubble between them and nothing else."""
    dut = Sequencer(passes=passes, words=words, bubble=bubble)
    seen = []

    async def bench(ctx):
        ctx.set(dut.go, 1)
        for _ in range(3 * (passes * words + bubble)):
            seen.append((ctx.get(dut.word), ctx.get(dut.address), ctx.get(dut.first_pass),
                         ctx.get(dut.last), ctx.get(dut.end))
                        if ctx.get(dut.issue) else None)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    step = [(n % words, n, n < words, n % words == words - 1, n == passes * words - 1)
            for n in range(passes * words)]
    assert seen == 3 * (step + [None] * bubble)


@pytest.mark.parametrize("seed", range(3))
def test_sequencer_under_stalls(seed: int) -> None:
    """A stall holds a word back, a missing go only the first word of a step."""
    dut = Sequencer(passes=2, words=3, bubble=1)
    rng = np.random.default_rng(seed)
    issued = []

    async def bench(ctx):
        for _ in range(400):
            go, stall = rng.integers(0, 2, 2).tolist()
            ctx.set(dut.go, go)
            ctx.set(dut.stall, stall)
            begin = ctx.get(dut.address) == 0
            if ctx.get(dut.issue):
                assert not stall
                assert go or not begin
                issued.append(ctx.get(dut.address))
            elif not begin:
                assert stall
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(issued) > 60
    assert issued == [n % 6 for n in range(len(issued))]


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize(("rows", "columns", "passes", "words"), [
    (1, 1, 1, 1), (4, 1, 2, 5), (3, 2, 1, 3), (2, 5, 3, 1), (4, 7, 2, 2)])
def test_array(rows: int, columns: int, passes: int, words: int, seed: int) -> None:
    """Exact sums at the extremes, at the stated latency, with and without gaps between words."""
    rng = np.random.default_rng(seed)
    weights = rng.choice([-128, 127, -1, 0, 77], (passes * words, rows, columns))
    # Just wide enough for words * columns products of -128 by -128.
    width = 16 + (words * columns).bit_length()
    dut = MacArray(weights, weight_width=8, operand_width=8, width=width)
    steps = 6
    operands = rng.choice([-128, 127, 5], (steps, words, columns))
    issues, dones = [], []
    cycle = 0

    async def feed(ctx):
        for step in range(steps):
            for address in range(passes * words):
                while step % 2 and rng.random() < 0.5:
                    ctx.set(dut.issue, 0)
                    await ctx.tick()
                word = address % words
                ctx.set(dut.issue, 1)
                ctx.set(dut.last, word == words - 1)
                ctx.set(dut.address, address)
                if word == words - 1:
                    issues.append(cycle)
                await ctx.tick()
                for column in range(columns):
                    ctx.set(dut.operands[column], int(operands[step, word, column]))
        ctx.set(dut.issue, 0)
        for _ in range(20):
            await ctx.tick()

    async def watch(ctx):
        nonlocal cycle
        sums = []
        while True:
            if ctx.get(dut.done):
                dones.append(cycle)
                sums.append([ctx.get(dut.sums[row]) for row in range(rows)])
                n = len(sums) - 1
                step, a_pass = divmod(n, passes)
                part = weights[a_pass * words:(a_pass + 1) * words]
                assert sums[-1] == np.einsum("wrc,wc->r", part, operands[step]).tolist()
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
