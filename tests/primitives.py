"""Runs a pipelined component, and proves that on an ECP5 it is what it is elsewhere."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.sim import Simulator

from fpga.tools import Processes, ToolError

__all__ = ["ECP5", "MODELS", "differs", "pipelined", "prove", "run_yosys", "write_verilog"]

# What a component looks at in a platform.
ECP5 = SimpleNamespace(family="ecp5")
MODELS = Path(__file__).parents[1] / "sim" / "ecp5.v"


def pipelined(dut: Any, count: int, put: Callable[[Any, int], None], get: Callable[[Any, int], Any]
              ) -> list[Any]:
    """What a component gives for operands put one set a cycle, from its ``latency`` on.

    ``put`` and ``get`` are called with the simulation's context and which of ``count`` it is.
    """
    seen = []

    async def bench(ctx):
        for cycle in range(count + dut.latency):
            if cycle < count:
                put(ctx, cycle)
            if cycle >= dut.latency:
                seen.append(get(ctx, cycle - dut.latency))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def write_verilog(component: wiring.Component, path: Path, *, platform: Any = None) -> str:
    """Verilog whose top has the name of the file."""
    text = verilog.convert(component, platform=platform, name=path.stem, emit_src=False,
                           strip_internal_attrs=True)
    # As hdl.verilog does it: abc9 would take such a name for a bit of a port.
    text = re.sub(r"(\\\S+)\[(\d+)\]", r"\1.\2", text)
    path.write_text(text)
    return text


def run_yosys(script: str, folder: Path) -> str:
    """The log of a script that is run in the folder."""
    (folder / "script.ys").write_text(script)
    log = folder / "yosys.log"
    Processes().run("yosys", ["-q", "-l", log.name, "script.ys"], folder=folder,
                    log=folder / "output.log")
    return log.read_text()


def prove(portable: wiring.Component, device: wiring.Component, folder: Path, *,
          change: Callable[[str], str] = lambda text: text) -> str:
    """Prove that two pipelines of at most two cycles are equal from the third cycle on.

    That holds for every input and every state to begin with.

    Parameters
    ----------
    portable : Component
        Without a platform.
    device : Component
        For an ECP5, over the models of its blocks.
    change : function of str
        What is done to the Verilog of ``device`` before.

    Returns
    -------
    verilog : str
        That of ``device``.

    Raises
    ------
    ToolError
        If it cannot be proven.
    """
    (folder / "ecp5.v").write_bytes(MODELS.read_bytes())
    write_verilog(portable, folder / "gold.v")
    text = change(write_verilog(device, folder / "gate.v", platform=ECP5))
    (folder / "gate.v").write_text(text)
    # Merging what both sides share makes the product one and the same cell, so that the proof
    # does not depend on the width of a multiplier; the solver sees the rest.
    run_yosys("""
        read_verilog -sv -defer ecp5.v
        read_verilog gate.v
        prep -flatten -top gate
        design -stash gate
        read_verilog gold.v
        prep -flatten -top gold
        design -stash gold
        design -copy-from gate gate
        design -copy-from gold gold
        miter -equiv -flatten -make_outputs gold gate miter
        hierarchy -top miter
        memory_map
        opt -full
        simplemap
        wreduce
        opt -full
        opt_merge -share_all
        sat -verify -tempinduct -seq 2 -maxsteps 4 -prove trigger 0 miter
    """, folder)
    return text


def differs(portable: wiring.Component, device: wiring.Component, folder: Path, *,
            change: Callable[[str], str] = lambda text: text) -> bool:
    """Whether the proof fails, because there is an input for which the outputs differ."""
    try:
        prove(portable, device, folder, change=change)
    except ToolError:
        return "model found for base case: FAIL!" in (folder / "yosys.log").read_text()
    return False
