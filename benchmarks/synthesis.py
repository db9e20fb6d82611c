"""What a component costs after synthesis, and how fast a device can clock it.

Area is that of the component alone, its ports unregistered. The clock is that of the component in
the harness, which has a register at every port, placed and routed; on an ECP5 out of context:
without pins.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from fpga.flow import PLACER, TARGET_HZ, VerilogCore
from fpga.harness import Harness
from fpga.report import ReportError, fmax_mhz
from fpga.tools import Processes
from hdl.verilog import without_brackets

__all__ = ["DEVICE", "ECP5", "ECP5_25F", "ECP5_85F", "ECP5_85F_8", "ICE40", "ICE40_UP5K", "SEEDS",
           "TOP", "XC7", "Device", "Family", "Waiting", "area", "clocks", "count_cells",
           "multipliers", "pack", "registered", "route", "synthesize"]

TOP = "top"
SEEDS = tuple(range(1, 17))

Waiting = Callable[[float], None]


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
XC7 = Family(
    name="Xilinx 7 series", platform=None, command="synth_xilinx -family xc7 -flatten",
    # Xilinx UG474: a slice's four lookup tables make a RAM32M or a RAM64M, two a RAM64X1D or a
    # RAM32X1D, four a RAM128X1D; one is a shift register of up to 32 bits. An inverter is counted
    # as a lookup table, although a vendor's tool may find a place for it in another.
    cells={"LUT": {"LUT[1-6]": 1, "INV": 1, "RAM(32|64)M": 4, "RAM(32|64)X1D": 2, "RAM128X1D": 4,
                   "SRL16E": 1, "SRLC32E": 1},
           "FF": {"FD[CPRS]E(_1)?": 1},
           "DSP48": {"DSP48E1": 1}, "RAMB18": {"RAMB18E1": 1, "RAMB36E1": 2}},
    free=r"CARRY4|MUXF[78]|BUFG|IBUF|OBUF|\$scopeinfo")


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device, and how nextpnr is told of it.

    Parameters
    ----------
    name : str
    tool : str
    arguments : sequence of str
    resources : mapping of str to str
        Resources as we call them, by nextpnr's names.
    """

    name: str
    tool: str
    arguments: Sequence[str]
    resources: Mapping[str, str]



def _ecp5(size: int, *options: str, grade: int = 6) -> Device:
    """An ECP5 of a speed grade, 6 to 8; 6 is the slowest."""
    return Device(
        name=f"LFE5U-{size}F, speed grade {grade}", tool="nextpnr-ecp5",
        arguments=(f"--{size}k", "--package", "CABGA381", "--speed", str(grade),
                   "--out-of-context", *options),
        resources={"TRELLIS_COMB": "LUT", "TRELLIS_FF": "FF", "MULT18X18D": "DSP",
                   "DP16KD": "block RAM"})


ECP5_25F = _ecp5(25, "--tmg-ripup")
ECP5_85F = _ecp5(85, *PLACER)
ECP5_85F_8 = _ecp5(85, *PLACER, grade=8)
ICE40_UP5K = Device(name="iCE40UP5K-SG48", tool="nextpnr-ice40",
                    arguments=("--up5k", "--package", "sg48", *PLACER),
                    resources={"ICESTORM_LC": "LUT", "ICESTORM_DSP": "DSP",
                               "ICESTORM_RAM": "block RAM"})

DEVICE = ECP5_25F.name


class _Registered(wiring.Component):
    """A core in the harness, whose register for the reset drives that of the core."""

    clk: Signal
    scan: Signal

    def __init__(self, core: wiring.Component):
        self._core = core
        super().__init__({"clk": In(1), "scan": In(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        harness: Any = Harness(self._core)
        m.submodules.harness = harness
        m.d.comb += [
            ClockSignal().eq(self.clk),
            ResetSignal().eq(harness.reset),
            harness.scan.eq(self.scan),
        ]
        return m


def registered(signature: wiring.Signature, *, module: str) -> str:
    """Verilog of a module ``TOP`` that has the module of another file in the harness."""
    core = VerilogCore(signature, verilog="", module=module)
    # The file is there already, so nothing is done with the one that is handed over.
    files = SimpleNamespace(add_file=lambda name, content: None)
    return without_brackets(verilog.convert(_Registered(core), platform=files, name=TOP,
                                            emit_src=False, strip_internal_attrs=True))


def _verilog(component: wiring.Component, family: Family) -> str:
    return without_brackets(verilog.convert(component, platform=family.platform, name=TOP,
                                            emit_src=False, strip_internal_attrs=True))


def synthesize(files: Sequence[str], family: Family, *, folder: Path, top: str = TOP,
               processes: Processes | None = None, waiting: Waiting | None = None
               ) -> dict[str, int]:
    """Synthesise a module, and leave its netlist in ``TOP.json``.

    Parameters
    ----------
    files : sequence of str
        Verilog files in the folder.
    folder : Path
        Where the tool runs; its files stay there.

    Returns
    -------
    cells : dict of str to int
        How many there are of each kind.

    Raises
    ------
    ToolError
        If Yosys fails.
    """
    commands = [f"read_verilog {' '.join(files)}",
                f"{family.command} -top {top}", f"write_json {TOP}.json",
                "tee -q -o stat.json stat -json"]
    (processes or Processes()).run("yosys", ["-q", "-p", "; ".join(commands)], folder=folder,
                                   log=folder / "yosys.log", waiting=waiting)
    cells: dict[str, int] = json.loads(
        (folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    return cells


def count_cells(cells: Mapping[str, int], family: Family) -> dict[str, int]:
    """What cells take of each resource of the family.

    Raises
    ------
    ReportError
        If there is a cell of which it is not known what it takes.
    """
    taken = dict.fromkeys(family.cells, 0)
    for cell, number in cells.items():
        costs = {resource: cost for resource, kinds in family.cells.items()
                 for pattern, cost in kinds.items() if re.fullmatch(pattern, cell)}
        if not costs and not re.fullmatch(family.free, cell):
            raise ReportError(f"a cell of {family.name} must be a known one, not {cell}")
        for resource, cost in costs.items():
            taken[resource] += cost * number
    return taken


def route(folder: Path, device: Device, *, seed: int, processes: Processes | None = None,
          waiting: Waiting | None = None) -> tuple[float, dict[str, int]]:
    """Place and route what :func:`synthesize` left.

    Returns
    -------
    fmax : float
        In MHz.
    taken : dict of str to int
        What is taken of each resource of the device.

    Raises
    ------
    ToolError
        If nextpnr fails.
    """
    report = f"report.{seed}.json"
    (processes or Processes()).run(
        device.tool,
        [*device.arguments, "--json", f"{TOP}.json", "--freq", f"{TARGET_HZ / 1e6:g}",
         "--seed", str(seed), "--timing-allow-fail", "--report", report],
        folder=folder, log=folder / f"nextpnr.{seed}.log", waiting=waiting)
    content = json.loads((folder / report).read_text())
    # On an iCE40 a memory that is never written has its write clock tied low, which nextpnr-ice40
    # lists as a clock of its own.
    content["fmax"] = {name: clock for name, clock in content["fmax"].items()
                       if not name.startswith("$PACKER_GND")}
    return fmax_mhz(content)[0], {name: int(content["utilization"][cell]["used"])
                                  for cell, name in device.resources.items()
                                  if cell in content["utilization"]}


def pack(folder: Path, device: Device, *, processes: Processes | None = None,
         waiting: Waiting | None = None) -> dict[str, int]:
    """What the design takes of each resource of the device, which may have less.

    Raises
    ------
    ToolError
        If nextpnr fails.
    ReportError
        If it does not say how much is taken of a resource.
    """
    log = folder / "pack.log"
    (processes or Processes()).run(
        device.tool, [*device.arguments, "--json", f"{TOP}.json", "--pack-only"],
        folder=folder, log=log, waiting=waiting)
    text = log.read_text(errors="replace")
    taken = {}
    for cell, name in device.resources.items():
        # Info:       TRELLIS_COMB:    1234/  83640     1%
        found = re.search(rf"^Info:\s+{cell}:\s*(\d+)/", text, re.M)
        if found is None:
            raise ReportError(f"{log} must tell how many {cell} are used")
        taken[name] = int(found[1])
    return taken


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
    (folder / f"{TOP}.v").write_text(_verilog(component, family), encoding="utf-8")
    return count_cells(synthesize([f"{TOP}.v"], family, folder=folder), family)


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
    (folder / f"{TOP}.v").write_text(_verilog(Harness(component), ECP5), encoding="utf-8")
    synthesize([f"{TOP}.v"], ECP5, folder=folder)
    return tuple(route(folder, ECP5_25F, seed=seed)[0] for seed in seeds)
