"""Driving a network's AXI4-Stream ports in Amaranth's simulator."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hdl.network import Network

__all__ = ["Exchange", "run_network"]


@dataclass
class Exchange:
    """What came out, and when.

    Parameters
    ----------
    words : list of (list of int, bool)
        Output vectors with their TLAST.
    taken : list of int
        Cycle in which the last input beat of each step was taken.
    given : list of int
        Cycle in which the first beat of each output vector was taken.
    saturated, malformed : int
        The flags at the end.
    """

    words: list[tuple[list[int], bool]] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    saturated: int = 0
    malformed: int = 0


def pack(codes: Iterable[int], lanes: int, size: int) -> list[int]:
    """Elements as bus beats."""
    codes = [int(code) for code in codes]
    return [sum((code & (1 << size) - 1) << size * lane
                for lane, code in enumerate(codes[n:n + lanes]))
            for n in range(0, len(codes), lanes)]


def run_network(dut: Network, sequences: list[np.ndarray], *, outputs: int, stall: float = 0.0,
                seed: int = 0, reset_after: int | None = None, limit: int = 100_000,
                beats: list[tuple[int, bool]] | None = None) -> Exchange:
    """Feed sequences back to back and collect output vectors.

    Parameters
    ----------
    sequences : list of int arrays, T x N
    outputs : int
        Vectors to wait for. A few hundred cycles more show that no other follows.
    stall : float
        Probability that a side is not ready in a cycle.
    reset_after : int, optional
        Reset in the cycle after so many beats have been taken, and feed all from the start.
    beats : list of (int, bool), optional
        Bus beats with their TLAST in place of ``sequences``.
    """
    seen = Exchange()
    rng = np.random.default_rng(seed)
    size, lanes = 8 * dut.in_bytes, dut.in_lanes
    per_step = -(-dut.network.inputs // lanes)
    if beats is None:
        beats = [(word, bool(last and n == per_step - 1))
                 for x in sequences for t, step in enumerate(x) for last in [t == len(x) - 1]
                 for n, word in enumerate(pack(step, lanes, size))]
    cycle = 0
    vector: list[int] = []

    reset = Signal()
    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)

    async def source(ctx):
        async def feed(some):
            for n, (word, last) in enumerate(some):
                while stall and rng.random() < stall:
                    await ctx.tick()
                ctx.set(dut.s_axis_tdata, word)
                ctx.set(dut.s_axis_tlast, last)
                ctx.set(dut.s_axis_tvalid, 1)
                await ctx.tick().until(dut.s_axis_tready)
                if n % per_step == per_step - 1:
                    seen.taken.append(cycle)
                ctx.set(dut.s_axis_tvalid, 0)

        if reset_after is not None:
            await feed(beats[:reset_after])
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            for before in (seen.words, seen.taken, seen.given, vector):
                before.clear()
        await feed(beats)

    async def sink(ctx):
        nonlocal cycle
        size, idle = 8 * dut.out_bytes, 0
        while idle < 300:
            ctx.set(dut.m_axis_tready, rng.random() >= stall)
            _, _, valid, ready, word, last = await ctx.tick().sample(
                dut.m_axis_tvalid, dut.m_axis_tready, dut.m_axis_tdata, dut.m_axis_tlast)
            cycle += 1
            if valid and ready:
                if not vector:
                    seen.given.append(cycle)
                for lane in range(min(dut.out_lanes, dut.network.outputs - len(vector))):
                    code = word >> lane * size & (1 << size) - 1
                    vector.append(code - (code >> size - 1 << size))
                if len(vector) == dut.network.outputs:
                    seen.words.append((vector.copy(), bool(last)))
                    vector.clear()
            idle = idle + 1 if len(seen.words) >= outputs else 0
            assert cycle < limit, f"only {len(seen.words)} of {outputs} vectors came"
        seen.saturated = ctx.get(dut.saturated)
        seen.malformed = ctx.get(dut.malformed)

    # The sink goes first: it has counted the cycle when the source looks at it.
    simulator.add_testbench(sink)
    simulator.add_testbench(source, background=True)
    simulator.run()
    return seen
