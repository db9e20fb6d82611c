"""From a core's Verilog to area, Fmax and a bitstream.

Both tops instantiate the very Verilog that the user gets, as a file of Amaranth's platform, so the
figures and the bitstream are those of the delivered text and not of a second elaboration. Amaranth
writes the scripts and constraints; the commands are run from here, because a seed is then one more
routing of the same netlist, and because independent ones run in parallel.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from amaranth.build.run import BuildPlan
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from fpga.boards import Board
from fpga.harness import HarnessTop
from fpga.report import Figures, FlowError, check_fit, read_figures
from fpga.selftest import SelfTest, SelfTestTop
from fpga.stored import Stored
from fpga.tools import Processes, Progress, ToolError, warm_up

__all__ = ["PLACER", "TARGET_HZ", "Implementation", "VerilogCore", "implement"]

# The first gives the area and the self-test, all give the harness' median Fmax.
SEEDS = (1, 2, 3)

# Beyond what the device reaches, so that the tools do not stop early.
TARGET_HZ = 250e6

# How nextpnr weighs timing against the length of wires when it places; its own weight is 10, with
# which a design of many blocks far apart, as an array's multipliers are, has a lower clock.
PLACER = ("--placer-heap-timingweight", "30")

# What nextpnr writes the routed design with, by family.
ROUTED: Mapping[str, str] = MappingProxyType({"ecp5": "--textcfg", "ice40": "--asc"})


class VerilogCore(wiring.Component):
    """A component in the form of its Verilog.

    Parameters
    ----------
    signature : wiring.Signature
        Flat ports, named as in the Verilog.
    verilog : str
    module : str
        The Verilog's top module, with the clock ``clk`` and the synchronous reset ``rst``.
    """

    def __init__(self, signature: wiring.Signature, *, verilog: str, module: str) -> None:
        self._verilog = verilog
        self._module = module
        super().__init__(signature)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        platform.add_file(f"{self._module}.v", self._verilog)
        ports = {("i_" if member.flow == In else "o_") + name: getattr(self, name)
                 for name, member in self.signature.members.items()}
        m.submodules.verilog = Instance(
            self._module, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
        return m


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """What the flow gives.

    Parameters
    ----------
    board : str
    harness : Figures
        Area and Fmax of the core with every port registered.
    selftest : Figures
        Of the top that the bitstream holds.
    bitstream : Path
    seconds : mapping of str to float
        How long each tool took, by top and step.
    tools : mapping of str to str
        The version of each tool that ran, by the tool's own answer, where it has one.
    """

    board: str
    harness: Figures
    selftest: Figures
    bitstream: Path
    seconds: Mapping[str, float]
    tools: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self) | {"bitstream": self.bitstream.name}


def _with(arguments: Sequence[str], **options: str) -> list[str]:
    """Arguments with other values behind the options named."""
    changed = list(arguments)
    for name, value in options.items():
        changed[changed.index(f"--{name}") + 1] = value
    return changed


class _Top:
    """One top on its way through the tools, in a folder of its own."""

    def __init__(
        self, name: str, top: wiring.Component, *, board: Board, folder: Path, seed: int,
        clock_hz: float | None = None,
    ) -> None:
        self.name = name
        self.board = board
        self.folder = folder
        self.seed = seed
        folder.mkdir(parents=True, exist_ok=True)
        plan: BuildPlan = board.prepare(clock_hz=clock_hz).prepare(
            # Source locations would put this machine's paths into the files.
            top, name, emit_src=False,
            script_after_synth=f"tee -q -o {name}.stat.json stat -json",
            # nextpnr fails where it misses a constraint, which for the harness is the rule.
            nextpnr_opts=" ".join([*PLACER, "--timing-allow-fail",
                                   f"--seed {seed}", f"--report {name}.{seed}.json"]),
        )
        for file, content in plan.files.items():
            if file.endswith((".bat", ".debug.v")):
                continue
            data = content.encode() if isinstance(content, str) else content
            (folder / file).write_bytes(data)
        synthesis, routing, packing = json.loads(plan.files[f"{plan.script}.json"])["commands"]
        self.synthesis, self.routing, self.packing = (
            (command[0], command[1:]) for command in (synthesis, routing, packing))

    def synthesize(self, processes: Processes, waiting: Callable[[float], None]) -> float:
        tool, arguments = self.synthesis
        seconds = processes.run(tool, arguments, folder=self.folder, waiting=waiting,
                                log=self.folder / f"{self.name}.synthesis.log")
        check_fit(self.board, synthesized=self.synthesized)
        return seconds

    def route(self, processes: Processes, waiting: Callable[[float], None], seed: int) -> float:
        tool, arguments = self.routing
        name = f"{self.name}.{seed}"
        log = self.folder / f"{name}.routing.log"
        arguments = _with(arguments, seed=str(seed), report=f"{name}.json", log=f"{name}.tim")
        if seed != self.seed:
            # Only the first seed's routing becomes a bitstream.
            at = arguments.index(ROUTED[self.board.family])
            del arguments[at:at + 2]
        try:
            return processes.run(tool, arguments, folder=self.folder, log=log, waiting=waiting)
        except ToolError:
            check_fit(self.board, routed=self.folder / f"{name}.tim")
            raise

    def pack(self, processes: Processes, waiting: Callable[[float], None]) -> float:
        tool, arguments = self.packing
        return processes.run(tool, arguments, folder=self.folder, waiting=waiting,
                             log=self.folder / f"{self.name}.packing.log")

    def figures(self, seeds: Sequence[int], *, registers: int = 0) -> Figures:
        return read_figures({seed: self.folder / f"{self.name}.{seed}.json" for seed in seeds},
                            board=self.board, synthesized=self.synthesized, registers=registers)

    @property
    def synthesized(self) -> Path:
        return self.folder / f"{self.name}.stat.json"

    @property
    def bitstream(self) -> Path:
        return self.folder / f"{self.name}{self.board.bitstream}"


def implement(
    signature: wiring.Signature, *, verilog: str, module: str, board: Board,
    stored: Stored, folder: Path, seeds: Sequence[int] = SEEDS, target_hz: float = TARGET_HZ,
    jobs: int | None = None, progress: Progress = print,
) -> Implementation:
    """Synthesise, place and route both tops, and make the self-test's bitstream.

    The same arguments give the same figures and the same bitstream with the same tools.

    Parameters
    ----------
    signature : wiring.Signature
        The network component's.
    verilog : str
        Its Verilog.
    module : str
        Name of the Verilog's top module.
    stored : Stored
        The self-test's sequences.
    folder : Path
        Takes a folder for each top, with scripts, logs, reports and the bitstream. Is created.
    seeds : sequence of int
        Of the placement. Area and bitstream come from the first.
    target_hz : float
        What nextpnr tries to reach for the harness.
    jobs : int or None
        Tools that run at a time; by default as many as there are processors, but not above 4.
    progress : function of str
        Gets a line for each step that ends, and every 15 s for those that run; from several
        threads.

    Raises
    ------
    FitError
        If the device is too small.
    FlowError
        If a tool fails, or the self-test is too slow for the board's clock.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be one at least, each once, not {tuple(seeds)}")
    jobs = jobs or min(4, len(os.sched_getaffinity(0)))

    def core() -> VerilogCore:
        return VerilogCore(signature, verilog=verilog, module=module)

    harness_top = HarnessTop(core(), board=board)
    harness = _Top("harness", harness_top, board=board, folder=folder / "harness",
                   seed=seeds[0], clock_hz=target_hz)
    selftest = _Top("selftest", SelfTestTop(SelfTest(core(), stored=stored), board=board),
                    board=board, folder=folder / "selftest", seed=seeds[0])
    # Tools that all compile themselves at once would write over one another's cache.
    versions = warm_up(progress, tools=[tool for tool, _ in (
        harness.synthesis, harness.routing, harness.packing)])

    processes = Processes()
    seconds: dict[str, float] = {}

    def step(name: str, run: Callable[..., float], *arguments: Any) -> float:
        taken = run(processes, lambda so_far: progress(f"{name}: {so_far:.0f} s so far"),
                    *arguments)
        seconds[name] = round(taken, 1)
        progress(f"{name}: {taken:.1f} s")
        return taken

    def build_selftest() -> None:
        step("selftest synthesis", selftest.synthesize)
        step(f"selftest routing, seed {seeds[0]}", selftest.route, seeds[0])
        step("selftest packing", selftest.pack)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            synthesis = pool.submit(step, "harness synthesis", harness.synthesize)
            waiting: list[Future[Any]] = [pool.submit(build_selftest)]
            _finish([synthesis])
            waiting += [pool.submit(step, f"harness routing, seed {seed}", harness.route, seed)
                        for seed in seeds]
            _finish(waiting)
        except BaseException:
            processes.end()
            pool.shutdown(wait=False, cancel_futures=True)
            raise

    result = Implementation(
        board=board.name,
        harness=harness.figures(seeds, registers=harness_top.harness.registers),
        selftest=selftest.figures(seeds[:1]),
        bitstream=selftest.bitstream, seconds=dict(sorted(seconds.items())),
        tools=versions)
    if result.selftest.fmax_mhz < board.clock_hz / 1e6:
        raise FlowError(f"the self-test must reach the {board.clock_hz / 1e6:g} MHz of "
                        f"{board.name}, but reaches {result.selftest.fmax_mhz:.1f} MHz")
    return result


def _finish(futures: Sequence[Future[Any]]) -> None:
    for future in as_completed(futures):
        future.result()
