"""Softmax and the index of the largest, as units: bits, marks, latency and pace."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from golden.argmax import ArgMax
from golden.fixed import SQ
from golden.softmax import Softmax
from hdl.largest import ArgMaxEngine
from hdl.pipeline import FAST, MEDIUM, SHORT, Pipeline
from hdl.softmax import SoftmaxEngine
from hdl.vector_cycles import SoftmaxCycles
from tests.test_softmax import logits

Step = tuple[list[int], bool, int]

def exchange(dut: Any, steps: list[Step], rows: int, *,
             stall: float = 0.0, reset_after: int | None = None, pause: int = 0
             ) -> tuple[list[Step], list[int], list[int], list[int]]:
    """Feed steps; what comes out, and when steps were taken, begun and done."""
    rng = np.random.default_rng(0)
    given: list[Step] = []
    taken: list[int] = []
    begun: list[int] = []
    done: list[int] = []
    vector: list[int] = []
    unit, now = dut.unit, 0
    reset = Signal()
    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)

    async def source(ctx):
        async def feed(some: list[Step]) -> None:
            for codes, last, stream in some:
                for at in range(0, len(codes), rows):
                    while stall and rng.random() < stall:
                        await ctx.tick()
                    beat = codes[at:at + rows]
                    # What a beat does not fill is anything.
                    ctx.set(dut.i.payload.data,
                            beat + [unit.x.max] * (min(rows, len(codes)) - len(beat)))
                    ctx.set(dut.i.payload.count, len(beat))
                    ctx.set(dut.i.payload.last, last and at + rows >= len(codes))
                    ctx.set(dut.i.payload.stream, stream)
                    ctx.set(dut.i.valid, 1)
                    await ctx.tick().until(dut.i.ready)
                    ctx.set(dut.i.valid, 0)
                taken.append(now)
                if pause:
                    await ctx.tick().repeat(pause)

        if reset_after is not None:
            await feed(steps[:reset_after])
            await ctx.tick().repeat(5)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            for some in (given, taken, begun, done, vector):
                some.clear()
        await feed(steps)

    async def sink(ctx):
        nonlocal now
        while len(given) < len(steps):
            ctx.set(dut.o.ready, rng.random() >= stall)
            _, _, valid, ready, beat = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload)
            now += 1
            assert now < 50_000
            if valid and ready:
                if not vector:
                    begun.append(now)
                assert beat.count == 1
                vector.append(beat.data[0])
                assert not beat.last or len(vector) == unit.outputs
                if len(vector) == unit.outputs:
                    given.append((vector.copy(), bool(beat.last), beat.stream))
                    done.append(now)
                    vector.clear()

    simulator.add_testbench(sink)
    simulator.add_testbench(source, background=True)
    simulator.run()
    return given, taken, begun, done


# Codes of a step, rows of a beat, their format, bits of the outputs, streams, pipeline.
CASES = [
    (1, 1, SQ(4, 6), 8, 1, SHORT), (2, 1, SQ(5, 14), 16, 1, FAST), (2, 2, SQ(3, 3), 9, 2, MEDIUM),
    (3, 2, SQ(4, 10), 12, 1, SHORT), (5, 3, SQ(8, -2), 8, 3, FAST), (7, 7, SQ(5, 6), 10, 1, SHORT),
    (11, 4, SQ(4, 7), 8, 1, MEDIUM), (12, 1, SQ(2, 6), 8, 1, FAST),
    (16, 5, SQ(6, 10), 16, 1, SHORT),
    pytest.param(40, 9, SQ(5, 16), 18, 2, FAST, marks=pytest.mark.slow),
    pytest.param(70, 17, SQ(4, 6), 8, 1, FAST, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("inputs", "rows", "x", "bits", "streams", "pipeline"), CASES)
@pytest.mark.parametrize("kind", ["argmax", "softmax"])
def test_units(kind: str, inputs: int, rows: int, x: SQ, bits: int, streams: int,
               pipeline: Pipeline) -> None:
    rng = np.random.default_rng(inputs)
    counts = [min(rows, inputs - at) for at in range(0, inputs, rows)]

    def build() -> SoftmaxEngine | ArgMaxEngine:
        if kind == "argmax":
            return ArgMaxEngine(ArgMax(x=x, inputs=inputs), counts=counts, streams=streams)
        return SoftmaxEngine(Softmax(x=x, inputs=inputs, y=SQ(2, bits - 2)), counts=counts,
                             streams=streams, pipeline=pipeline)

    codes = logits(rng, x, inputs)
    codes = codes[:, rng.permutation(codes.shape[1])[:25]]
    unit = build().unit
    y = unit.evaluate(codes)
    marks = [(bool(rng.integers(2)), int(rng.integers(streams))) for _ in range(25)]
    steps = [(codes[:, n].tolist(), *marks[n]) for n in range(25)]
    expected = [(y[:, n].tolist(), *marks[n]) for n in range(25)]
    given, *_ = exchange(build(), steps, rows, stall=0.4, reset_after=int(rng.integers(1, 8)))
    assert given == expected

    # As fast as they are taken; then one alone.
    dut = build()
    given, taken, begun, done = exchange(dut, steps, rows)
    assert given == expected
    work = max(dut.cycles.work, len(counts))
    assert {b - a for a, b in pairwise(done[10:])} == {work}
    assert begun[0] - taken[0] == dut.cycles.latency
    assert done[0] - taken[0] == dut.cycles.whole_latency


def test_pages_of_powers() -> None:
    """As many as let the slowest part be busy all the time, and a power of two."""
    for inputs in (1, 5, 12, 40, 200):
        for bits in (8, 16, 18):
            for pipeline in (SHORT, FAST):
                k = SoftmaxCycles(unit=Softmax(x=SQ(4, 8), inputs=inputs, y=SQ(2, bits - 2)),
                                  rows=1, pipeline=pipeline)
                assert k.pages * k.work >= k.power + k.to_product + inputs
                assert k.pages in (2, 4, 8)
                assert k.work == max(inputs, bits + 3)
