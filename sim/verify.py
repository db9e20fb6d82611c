"""Verify a design: build its simulator, run the bench in it, and say what came of it.

A design's folder holds its manifest, the Verilog that the manifest names, and the vectors; nothing
else is needed. What the bench writes goes into the subfolder ``sim``.
"""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from sim.coverage import COVERED, REACHED, Coverage
from sim.manifest import Manifest
from sim.model import Model
from sim.simulator import (
    SimulatorError,
    build_simulator,
    simulator_command,
    simulator_environment,
)
from sim.timing import TimingRecord
from sim.vectors import VECTORS, Vectors, VectorsError
from sim.verilog_coverage import VerilogCoverage

__all__ = ["FAULT_TESTS", "READ_TESTS", "STATE_TESTS", "STREAM_TESTS", "TESTS", "SeedError",
           "TestResult", "VerifyResult", "verify"]

TESTS = ("full_speed", "random_stalls", "axi_full_speed", "axi_random_stalls", "single_steps",
         "reset_midway", "ready_held_low", "backlog", "flags")
"""The tests of the bench, in the order in which they run."""

STREAM_TESTS = ("idle_streams",)
"""Further ones, of designs that take several streams in turn."""

STATE_TESTS = ("kept_states", "set_states")
"""Of stateful designs."""

READ_TESTS = ("packets_held",)
"""Of designs that give out final states."""

FAULT_TESTS = ("malformed_input",)
"""Of designs with an input that can be malformed."""

EFFORT = 200_000

COVERAGE = "coverage.txt"
"""What a run has covered, in the folder of the run; beside it what Verilator has counted."""

COUNTED = "coverage.dat"


class SeedError(ValueError):
    """A seed is no non-negative integer."""


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """What a test did.

    Parameters
    ----------
    test : str
    message : str or None
        What was wrong.
    words : int
        Output beats compared, TLAST included.
    states : int
        Values of c and h compared.
    sequences, steps : int
        Played to the end.
    cycles : int
        Simulated clock cycles.
    seconds : float
        Of processor time. The simulation is one thread that waits for nothing.
    """

    __test__ = False  # pytest takes every class with such a name for a test

    test: str
    message: str | None
    words: int
    states: int
    sequences: int
    steps: int
    cycles: int
    seconds: float

    @property
    def passed(self) -> bool:
        return self.message is None

    @property
    def cycles_per_second(self) -> float:
        return self.cycles / max(self.seconds, 1e-9)


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What the bench found.

    Parameters
    ----------
    seed : int
        Repeats the run.
    tests : tuple of TestResult
        Those that ran.
    failure : str or None
        What is wrong, in one sentence that names the test and the seed.
    build_seconds : float
    folder : Path
        Where the run left its files.
    coverage : Coverage
        What happened of all that should; also in ``coverage.txt``.
    verilog : VerilogCoverage or None
        Which lines ran and which bits changed, where that was asked for.
    """

    seed: int
    tests: tuple[TestResult, ...]
    failure: str | None
    build_seconds: float
    folder: Path
    coverage: Coverage
    verilog: VerilogCoverage | None = None

    @property
    def passed(self) -> bool:
        return self.failure is None

    @property
    def words(self) -> int:
        return sum(test.words for test in self.tests)

    @property
    def states(self) -> int:
        return sum(test.states for test in self.tests)

    @property
    def sequences(self) -> int:
        return sum(test.sequences for test in self.tests)

    @property
    def steps(self) -> int:
        return sum(test.steps for test in self.tests)

    @property
    def cycles(self) -> int:
        return sum(test.cycles for test in self.tests)

    @property
    def cycles_per_second(self) -> float:
        return self.cycles / max(sum(test.seconds for test in self.tests), 1e-9)

    @property
    def log(self) -> Path:
        """The simulator's own output."""
        return self.folder / "log.txt"

    @cached_property
    def timing(self) -> TimingRecord:
        """The cycles of all sequences back to back; ``full_speed`` must have run and passed."""
        return TimingRecord.load(self.folder)

    @cached_property
    def timing_alone(self) -> TimingRecord:
        """The cycles of one of the shortest sequences on an idle design, in stream 0; likewise."""
        return TimingRecord.load(self.folder, alone=True)


def _choose_seed(seed: int | None) -> int:
    if seed is None:
        given = os.environ.get("GATEFOLD_SEED")
        if given is None:
            return secrets.randbelow(1 << 31)
        if not given.isdecimal():
            raise SeedError(f"GATEFOLD_SEED must be a non-negative integer, not {given!r}")
        seed = int(given)
    if seed < 0:
        raise SeedError(f"seed must not be negative, not {seed}")
    return seed


def verify(directory: str | os.PathLike[str], *, manifest: Manifest | None = None,
           simulator: str = "verilator", tests: Sequence[str] | None = None,
           seed: int | None = None, effort: int = EFFORT, coverage: bool = False,
           folder: str | os.PathLike[str] | None = None,
           simulators: str | os.PathLike[str] | None = None,
           plusargs: Sequence[str] = (), hasty: bool = False, seconds: float | None = None,
           progress: Callable[[str], None] = lambda text: None) -> VerifyResult:
    """Run the bench on a design.

    Parameters
    ----------
    directory : str or path
        The design's folder.
    manifest : Manifest or None
        The design in another form, with the same ports; if None, as it is in the folder.
    simulator : str
        One of `SIMULATORS`.
    tests : sequence of str or None
        Which of `TESTS`, `STREAM_TESTS`, `STATE_TESTS`, `READ_TESTS` and `FAULT_TESTS`; all that
        the design can be given if None.
    seed : int or None
        For every random choice; None takes ``GATEFOLD_SEED`` from the environment, or any.
    effort : int
        About how many cycles each test but the first may take; ``full_speed`` plays all sequences.
    coverage : bool
        Whether to count which lines of the Verilog run and which bits change, too, in a simulator
        that is many times slower for it. What never did is listed in ``coverage.txt``.
    folder : str, path or None
        Where to write; ``sim`` in the design's folder if None. Runs at the same time need a
        folder each.
    simulators : str, path or None
        Where compiled simulators are kept; ``build`` in ``folder`` if None. May be shared.
    plusargs : sequence of str
        What the design's own Verilog asks for by ``$value$plusargs``.
    hasty : bool
        Whether the first test that fails ends the run.
    seconds : float or None
        A simulation that takes longer is ended, and has failed.
    progress : callable
        Told in a few words what begins.

    Returns
    -------
    VerifyResult
        Also where the design is wrong.

    Raises
    ------
    ManifestError, VectorsError
        If the folder does not hold a design and its vectors.
    SimulatorError
        If the simulator cannot be built, or has nowhere to write.
    CoverageError
        If what the vectors reach, or what it has counted, cannot be read.
    SeedError
        If the seed, or ``GATEFOLD_SEED``, is no non-negative integer.
    ValueError
        If a test is unknown or not for such a design.
    """
    known = (*TESTS, *STREAM_TESTS, *STATE_TESTS, *READ_TESTS, *FAULT_TESTS)
    for name in tests or ():
        if name not in known:
            raise ValueError(f"test must be one of {', '.join(known)}, not {name}")
    if tests is not None and not tests:
        raise ValueError("there must be at least one test to run")
    if coverage and (simulator != "verilator" or manifest is not None):
        raise ValueError("coverage is counted by Verilator, of the generated Verilog alone")
    seed = _choose_seed(seed)
    design = Path(directory).resolve()
    run = Path(folder).resolve() if folder is not None else design / "sim"
    manifest = manifest or Manifest.load(design)
    lacking = [
        (STREAM_TESTS, manifest.streams == 1, "a design of several streams, not of 1"),
        (STATE_TESTS, not manifest.stateful, "a stateful design"),
        (READ_TESTS, manifest.state_output is None, "a design that gives out final states"),
        (FAULT_TESTS, not manifest.breakable, "a design whose input can be malformed")]
    if tests is None:
        tests = [name for name in known
                 if not any(name in of and lacks for of, lacks, _ in lacking)]
    for of, lacks, wanted in lacking:
        for name in set(tests) & set(of) if lacks else ():
            raise ValueError(f"the test {name} needs {wanted}")
    vectors = Vectors.load(design / VECTORS, every_step=manifest.every_step)
    reached = Coverage.load(design / REACHED)
    Model(manifest, vectors)
    if manifest.stateful and vectors.pieces is None:
        raise VectorsError("the vectors have no pieces of sequences, which a stateful design needs")
    if "single_steps" in tests and vectors.lengths.min() > 1:
        raise VectorsError("the test single_steps needs a sequence of length 1 in the vectors")

    started = time.monotonic()
    _make(run)
    kept = Path(simulators).resolve() if simulators is not None else run / "build"
    program = build_simulator(manifest, kept, simulator=simulator, coverage=coverage,
                              progress=progress)
    build_seconds = time.monotonic() - started

    for name in ("results.xml", "report.jsonl", "progress", "timing.npz", COUNTED, COVERED,
                 COVERAGE):
        (run / name).unlink(missing_ok=True)
    config = run / "config.json"
    config.write_text(json.dumps({"design": str(design), "folder": str(run), "seed": seed,
                                  "effort": effort, "probes": bool(manifest.probes)}),
                      encoding="utf-8")
    environment = simulator_environment(module="sim.bench", simulator=simulator, extra={
        "GATEFOLD_BENCH": str(config),
        "COCOTB_RESULTS_FILE": str(run / "results.xml"),
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_TEST_FILTER": rf"\.({'|'.join(tests)})$",
        # A failing test says what differs by itself.
        "COCOTB_REWRITE_ASSERTION_FILES": "",
        "COCOTB_MAX_FAILURES": str(int(hasty)),
    })
    progress(f"simulating, seed {seed}")
    status = _simulate([*simulator_command(program, seed=seed, coverage=run / COUNTED),
                        *(f"+{argument}" for argument in plusargs)], environment, run, progress,
                       seconds)
    done = _report(run)
    failure = _failure(done, tests, seed, status, run)
    covered, verilog = Coverage(), None
    if any(test.test == "full_speed" for test in done):
        # It plays all sequences of the vectors.
        covered = reached
    covered.merge(Coverage.load(run / COVERED))
    if coverage and failure is None:
        progress("asking Yosys which bits cannot change")
        verilog = VerilogCoverage.load(run / COUNTED, manifest)
    (run / COVERAGE).write_text("\n".join([
        f"{manifest.verilog.name}, seed {seed}", *covered.report(),
        *(["", *verilog.report()] if verilog else []), ""]), encoding="utf-8")
    return VerifyResult(seed=seed, tests=done, build_seconds=build_seconds, folder=run,
                        failure=failure, coverage=covered, verilog=verilog)


def _make(run: Path) -> None:
    """The folder that the bench writes into."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulatorError(f"{run} must be a folder that the simulation can write into, but "
                             f"cannot be made: {error.strerror}") from error


def _simulate(command: Sequence[str], environment: dict[str, str], run: Path,
              progress: Callable[[str], None], seconds: float | None) -> int | None:
    """The simulator's exit status; None where it was ended."""
    told, begin = 0, time.monotonic()
    with (run / "log.txt").open("w", encoding="utf-8") as log:
        try:
            process = subprocess.Popen(command, cwd=run, env=environment, stdout=log,
                                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise SimulatorError(f"{command[0]} cannot be started: {error.strerror}") from error
        try:
            while True:
                try:
                    return process.wait(timeout=0.1)
                except subprocess.TimeoutExpired:
                    told = _tell(run / "progress", told, progress)
                if seconds is not None and time.monotonic() - begin > seconds:
                    return None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            _tell(run / "progress", told, progress)


def _tell(path: Path, told: int, progress: Callable[[str], None]) -> int:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines[told:]:
        progress(line)
    return len(lines)


def _report(run: Path) -> tuple[TestResult, ...]:
    path = run / "report.jsonl"
    if not path.is_file():
        return ()
    return tuple(TestResult(**json.loads(line))
                 for line in path.read_text(encoding="utf-8").splitlines())


def _failure(done: Sequence[TestResult], tests: Sequence[str], seed: int, status: int | None,
             run: Path) -> str | None:
    """The first thing that is wrong, by the bench's report and by cocotb's, which must agree."""
    for test in done:
        if test.message is not None:
            return f"{test.test}, seed {seed}: {test.message}"
    log = run / "log.txt"
    if status is None:
        return f"the simulator took too long and was ended; its output is in {log}"
    passed = set()
    try:
        for case in ElementTree.parse(run / "results.xml").iter("testcase"):
            fault = next((part for kind in ("failure", "error", "skipped")
                          for part in case.iter(kind)), None)
            if fault is not None:
                text = fault.get("message") or fault.get("error_msg") or fault.tag
                return f"{case.get('name')}, seed {seed}: {text} (see {log})"
            passed.add(case.get("name"))
    except (FileNotFoundError, ElementTree.ParseError):
        return (f"the simulator left no result (exit status {status}); its output is in {log}")
    missing = [name for name in tests
               if name not in passed or name not in {test.test for test in done}]
    if missing:
        return f"{', '.join(missing)} did not run; the simulator's output is in {log}"
    if status:
        return f"the simulator ended with exit status {status}; its output is in {log}"
    return None
