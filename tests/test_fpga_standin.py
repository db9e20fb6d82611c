"""A small core with the network's ports, for the tests of the tops and of the flow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator, SimulatorContext

from fpga.stored import Beat

__all__ = ["StandIn", "packed"]


class StandIn(wiring.Component):
    """Weighted sum of a sequence: one 32-bit word at its end, modulo 2**32.

    Element ``l`` of beat ``t`` is weighted by ``weights[t][l]``. Three cycles from the last beat
    to the sum.

    Parameters
    ----------
    weights : [T, lanes] integers of 16 bits, signed
        A sequence longer than T is malformed.
    """

    def __init__(self, weights: Any) -> None:
        self.weights = np.asarray(weights, dtype=np.int64)
        lanes = self.weights.shape[1]
        super().__init__({
            "s_axis_tdata": In(16 * lanes), "s_axis_tvalid": In(1), "s_axis_tready": Out(1),
            "s_axis_tlast": In(1),
            "m_axis_tdata": Out(32), "m_axis_tvalid": Out(1), "m_axis_tready": In(1),
            "m_axis_tlast": Out(1), "saturated": Out(2), "malformed": Out(1)})

    def compute(self, x: np.ndarray) -> int:
        """The word for a sequence, x [t, lanes]."""
        return int((x * self.weights[:len(x)]).sum()) % 2**32

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth, lanes = self.weights.shape
        words = [sum(int(weight) % 2**16 << 16 * lane for lane, weight in enumerate(row))
                 for row in self.weights]
        memory: Memory[Any, Any] = Memory(shape=16 * lanes, depth=depth, init=words)
        m.submodules.memory = memory
        weight = memory.read_port()

        go, index = Signal(), Signal(range(depth + 1))
        m.d.comb += [
            go.eq(~self.m_axis_tvalid | self.m_axis_tready),
            self.s_axis_tready.eq(go),
            weight.addr.eq(index),
            weight.en.eq(go),
        ]
        x, product = Signal(16 * lanes), Signal(range(-lanes << 30, (lanes << 30) + 1))
        valid, last = Signal(2), Signal(2)
        total = Signal(32)
        beat = self.s_axis_tvalid & go
        with m.If(go):
            m.d.sync += [
                x.eq(self.s_axis_tdata),
                product.eq(sum(x.word_select(lane, 16).as_signed()
                               * weight.data.word_select(lane, 16).as_signed()
                               for lane in range(lanes))),
                valid.eq(valid << 1 | beat),
                last.eq(last << 1 | self.s_axis_tlast),
                self.m_axis_tvalid.eq(valid[1] & last[1]),
                self.m_axis_tlast.eq(1),
                self.m_axis_tdata.eq(total + product),
            ]
            with m.If(valid[1]):
                m.d.sync += total.eq(Array([total + product, 0])[last[1]])
        with m.If(beat):
            m.d.sync += index.eq(index + 1)
            with m.If(index == depth):
                m.d.sync += self.malformed.eq(1)
            with m.If(self.s_axis_tlast):
                m.d.sync += index.eq(0)
        with m.If(total[-1]):
            m.d.sync += self.saturated.eq(Array([1, 2])[total[-2]] | self.saturated)
        return m


def packed(sequences: Sequence[np.ndarray]) -> list[Beat]:
    """Input beats of sequences, each [t, lanes]."""
    return [Beat(sum(int(value) % 2**16 << 16 * lane for lane, value in enumerate(row)),
                 t == len(x) - 1)
            for x in sequences for t, row in enumerate(x)]


@pytest.mark.parametrize("seed", range(3))
def test_standin_computes_its_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    core = StandIn(rng.integers(-2**15, 2**15, (9, 2)))
    sequences = [rng.integers(-2**15, 2**15, (n, 2)) for n in (9, 1, 4)]
    seen = []

    async def feed(ctx: SimulatorContext) -> None:
        for beat in packed(sequences):
            ctx.set(core.s_axis_tvalid, 1)
            ctx.set(core.s_axis_tdata, beat.data)
            ctx.set(core.s_axis_tlast, beat.last)
            await ctx.tick().until(core.s_axis_tready)
            ctx.set(core.s_axis_tvalid, 0)
            await ctx.tick().repeat(int(rng.integers(1, 3)))

    async def drain(ctx: SimulatorContext) -> None:
        for _ in sequences:
            ctx.set(core.m_axis_tready, 1)
            (data,) = await ctx.tick().sample(core.m_axis_tdata).until(core.m_axis_tvalid)
            seen.append(data)
            ctx.set(core.m_axis_tready, 0)
            await ctx.tick().repeat(5)

    simulator = Simulator(core)
    simulator.add_clock(1e-6)
    simulator.add_testbench(feed)
    simulator.add_testbench(drain)
    simulator.run()
    assert seen == [core.compute(x) for x in sequences]
