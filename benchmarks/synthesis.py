"""What a component costs after synthesis, and how fast an ECP5 can clock it.

Area is that of the component alone, its ports unregistered. The clock is that of the component in
the harness, which has a register at every port, placed and routed out of context: without pins.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from amaranth.back import verilog
from amaranth.lib import wiring

from fpga.harness import Harness
from fpga.report import ReportError, fmax_mhz
from fpga.tools import Processes

__all__ = ["DEVICE", "ECP5", "ICE40", "SEEDS", "Family", "area", "clocks", "multipliers"]

TOP = "top"

# The slowest of the ECP5's three speed grades.
DEVICE = "LFE5U-25F, speed grade 6"
DEVICE_ARGUMENTS = ("--25k", "--package", "CABGA381", "--speed", "6")
TARGET_MHZ = 250
SEEDS = tuple(range(1, 17))


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of devices.

    Parameters
    ----------
    name : str
    platform : Any
        What components look at, None for the portable description.
    command : str
        Yosys' synthesis.
    cells : mapping of str to mapping of str to int
        For each resource the Yosys cells that take it, as a regular expression, and how many of it
        each of them takes.
    free : str
        A regular expression: cells that come with those.
    """

    name: str
    platform: Any
    command: str
    cells: Mapping[str, Mapping[str, int]]
    free: str


ECP5 = Family(
    name="ECP5", platform=SimpleNamespace(family="ecp5"), command="synth_ecp5",
    # A carry cell is two lookup tables with a carry chain.
    cells={"LUT4": {"LUT4": 1, "CCU2C": 2}, "FF": {"TRELLIS_FF": 1},
           "MULT18X18D": {"MULT18X18D": 1}, "DP16KD": {"DP16KD": 1}},
    free=r"PFUMX|L6MUX21|\$scopeinfo")
ICE40 = Family(
    name="iCE40", platform=None, command="synth_ice40 -dsp",
    cells={"LUT4": {"SB_LUT4": 1}, "FF": {"SB_DFF[A-Z]*": 1},
           "MAC16": {"SB_MAC16": 1}, "RAM40_4K": {"SB_RAM40_4K[A-Z]*": 1}},
    free=r"SB_CARRY|\$scopeinfo")


def _verilog(component: wiring.Component, family: Family) -> str:
    text = verilog.convert(component, platform=family.platform, name=TOP, emit_src=False,
                           strip_internal_attrs=True)
    # As hdl.verilog does it: abc9 would take a name like \data[0] for a bit of a port.
    return re.sub(r"\\\S+", lambda name: re.sub(r"\[(\d+)\]", r".\1", name[0]), text)


def _yosys(text: str, commands: Sequence[str], folder: Path) -> None:
    (folder / f"{TOP}.v").write_text(text, encoding="utf-8")
    Processes().run("yosys", ["-q", "-p", "; ".join([f"read_verilog {TOP}.v", *commands])],
                    folder=folder, log=folder / "yosys.log")


def multipliers(component: wiring.Component, *names: str) -> tuple[tuple[int, int], ...]:
    """Widths of both operands of the component's :class:`hdl.multiplier.Multiplier` submodules.

    Those that it does not have are left out. They are read from the Verilog that is synthesised.
    """
    text = _verilog(component, ICE40)
    found = []
    for name in names:
        module = re.search(rf"^module \\{TOP}\.{name} \(.*?^endmodule", text, re.M | re.S)
        if module:
            widths = {port: int(top or 0) + 1 for top, port in re.findall(
                r"^  input (?:\[(\d+):0\] )?([ab]);", module[0], re.M)}
            found.append((widths["a"], widths["b"]))
    return tuple(found)


def area(component: wiring.Component, family: Family, *, folder: Path) -> dict[str, int]:
    """Synthesise a component, and count what it takes of each resource of the family.

    Parameters
    ----------
    folder : Path
        Where the tools run; their files stay there.

    Raises
    ------
    ToolError
        If Yosys fails.
    ReportError
        If there is a cell of which it is not known what it takes.
    """
    _yosys(_verilog(component, family),
           [f"{family.command} -top {TOP}", "tee -q -o stat.json stat -json"], folder)
    count: Mapping[str, int] = json.loads(
        (folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    taken = dict.fromkeys(family.cells, 0)
    for cell, number in count.items():
        costs = {resource: cost for resource, cells in family.cells.items()
                 for pattern, cost in cells.items() if re.fullmatch(pattern, cell)}
        if not costs and not re.fullmatch(family.free, cell):
            raise ReportError(f"a cell of {family.name} must be a known one, not {cell}")
        for resource, cost in costs.items():
            taken[resource] += cost * number
    return taken


def clocks(component: wiring.Component, *, folder: Path, seeds: Sequence[int] = SEEDS
           ) -> tuple[float, ...]:
    """Fmax of a component on ``DEVICE``, one for each seed of the placement, in MHz.

    Parameters
    ----------
    folder : Path
        Where the tools run; their files stay there.

    Raises
    ------
    ToolError
        If Yosys or nextpnr fails.
    """
    _yosys(_verilog(Harness(component), ECP5),
           [f"{ECP5.command} -top {TOP} -json {TOP}.json"], folder)
    found = []
    for seed in seeds:
        Processes().run(
            "nextpnr-ecp5",
            [*DEVICE_ARGUMENTS, "--json", f"{TOP}.json", "--freq", str(TARGET_MHZ),
             "--seed", str(seed), "--out-of-context", "--tmg-ripup", "--timing-allow-fail",
             "--report", "report.json"],
            folder=folder, log=folder / "nextpnr.log")
        found.append(fmax_mhz(json.loads((folder / "report.json").read_text()))[0])
    return tuple(found)
