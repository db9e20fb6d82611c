"""The harness: every port behind a register, and nothing else."""

import numpy as np
from amaranth.sim import Simulator, SimulatorContext

from fpga.harness import Harness
from tests.test_fpga_standin import StandIn

INPUTS = ("s_axis_tdata", "s_axis_tvalid", "s_axis_tlast", "m_axis_tready")
OUTPUTS = ("s_axis_tready", "m_axis_tdata", "m_axis_tvalid", "m_axis_tlast", "saturated",
           "malformed")


def test_registers_are_counted() -> None:
    core = StandIn([[1, 2]])
    harness = Harness(core)
    assert harness.registers == sum(len(getattr(core, name)) for name in INPUTS + OUTPUTS) + 1
    Simulator(harness)  # elaborates


def test_scan_reaches_every_input_and_the_reset() -> None:
    core = StandIn([[1, 2]])
    harness = Harness(core)
    bits = np.random.default_rng(1).integers(0, 2, 200).tolist()
    widths = [len(getattr(core, name)) for name in INPUTS] + [1]
    seen = []

    async def watch(ctx: SimulatorContext) -> None:
        for bit in bits:
            ctx.set(harness.scan, bit)
            await ctx.tick()
            values = [ctx.get(getattr(core, name)) for name in INPUTS] + [ctx.get(harness.reset)]
            seen.append("".join(f"{value:0{width}b}"[::-1]
                                for value, width in zip(values, widths, strict=True)))

    simulator = Simulator(harness)
    simulator.add_clock(1e-6)
    simulator.add_testbench(watch)
    simulator.run()
    padded = [0] * sum(widths) + bits
    for cycle, state in enumerate(seen):
        latest_first = padded[cycle + 1:cycle + 1 + sum(widths)][::-1]
        assert state == "".join(map(str, latest_first)), f"cycle {cycle}"
