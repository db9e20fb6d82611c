"""Runs proofs, and what their planted faults make of them, through SymbiYosys."""

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from fpga.tools import SCRIPTS, Processes, ToolError
from proofs.checks import AIDS
from proofs.proof import Engine, Fault, Proof, planted, written

__all__ = ["Outcome", "prove", "run_all", "see_fault"]

SECONDS = 900
"""After which a single proof is given up."""

FAILURE = 100
"""Cycles within which the trace of a failure is looked for again."""

BROKEN = re.compile(r"failed assertion .*\bholds_(\w+)_\$check")

ABC = Path(__file__).with_name("abc_command.py")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a proof, or of one of its faults.

    Parameters
    ----------
    proof : Proof
    fault : Fault or None
    text : str
        ``"proven"``, ``"caught"``, or what is wrong.
    seconds : float
    trace : Path or None
        Of a failure, as VCD.
    broken : str
        The names of the assertions that fail at its end, of those that have one.
    """

    proof: Proof
    fault: Fault | None
    text: str
    seconds: float
    trace: Path | None
    broken: str = ""

    @property
    def good(self) -> bool:
        """Whether it is as it has to be."""
        return self.text == ("caught" if self.fault else "proven")


def _script(proof: Proof, engine: Engine, depth: int, *, fault: bool = False) -> str:
    # A fault is looked for from power-up on, and has to break a claim.
    mode = "bmc" if fault or engine is Engine.BOUNDED else "prove"
    aids = f"delete top/c:{AIDS}\n" if fault else ""
    # Flat, so that what no property looks at is gone. What stands in a memory that is never written
    # is known to an induction only where it is made of logic.
    solver = "abc pdr" if engine is Engine.PDR and not fault else "smtbmc yices"
    registers = memories = ""
    if proof.wild:
        which = "a:reset_less" if proof.reset else "w:*"
        registers = f"setattr -unset init top.{proof.wild}*/{which}\n"
        memories = f"setparam -set INIT 1'x c:{proof.wild}.* t:$mem_v2 %i\n"
    return f"""\
[options]
mode {mode}
depth {depth}
timeout {SECONDS}

[engines]
{solver}

[script]
read_rtlil top.il
{aids}{registers}prep -flatten -top top
memory_map -rom-only
{memories}opt_clean -purge
autoname t:$check

[files]
top.il
"""


def _run(script: str, design: str, folder: Path, processes: Processes,
         waiting: Callable[[float], None] | None) -> tuple[str, Path | None]:
    """SymbiYosys's word for what it found, or what went wrong, and the trace."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "top.il").write_text(design)
    (folder / "run.sby").write_text(script)
    failed = None
    try:
        processes.run("yowasp-sby", [
            *(text for tool in ("yosys", "yosys-smtbmc", "yosys-witness") for text in (
                f"--{tool.removeprefix('yosys-')}", f"{SCRIPTS}/yowasp-{tool}")),
            "--abc", f"{sys.executable} {ABC}", "-j", "1", "-f", "run.sby",
            ], folder=folder, log=folder / "sby.log", waiting=waiting)
    except ToolError as error:
        # It fails where a property does, too.
        failed = str(error)
    status = folder / "run" / "status"
    found = status.read_text().split()[0] if status.exists() else ""
    if found == "UNKNOWN":
        return f"NOT PROVEN, see {folder / 'sby.log'}", None
    if found not in ("PASS", "FAIL"):
        return f"{failed or found}; see {folder / 'sby.log'}", None
    traces = sorted((folder / "run").glob("engine_*/trace*.vcd"))
    return found, traces[0] if traces else None


def prove(proof: Proof, folder: Path, processes: Processes,
          waiting: Callable[[float], None] | None = None) -> Outcome:
    """Prove one, in a folder of its own that is made anew."""
    begin = monotonic()
    design = written(proof.bench)
    found, trace = _run(_script(proof, proof.engine, proof.depth), design, folder,
                        processes, waiting)
    if found not in ("PASS", "FAIL") and "(abc pdr) returned FAIL" in (
            folder / "sby.log").read_text(errors="replace"):
        # SymbiYosys cannot turn every trace of ABC's into one of the design.
        found, trace = _run(_script(proof, Engine.BOUNDED, FAILURE), design, folder,
                            processes, waiting)
    text = {"PASS": "proven", "FAIL": f"NOT TRUE, see {trace or folder / 'sby.log'}"}.get(
        found, found)
    return Outcome(proof=proof, fault=None, text=text, seconds=monotonic() - begin, trace=trace)


def see_fault(proof: Proof, fault: Fault, folder: Path, processes: Processes,
              waiting: Callable[[float], None] | None = None) -> Outcome:
    """Plant a fault, and look for a trace that shows it, in a folder that is made anew."""
    begin = monotonic()
    try:
        with planted(fault):
            # Imported anew, with the fault.
            from proofs.catalogue import proofs as changed
            design = written(changed()[proof.name].bench)
    except Exception as error:
        return Outcome(proof=proof, fault=fault, text=f"cannot be planted: {error}",
                       seconds=monotonic() - begin, trace=None)
    found, trace = _run(_script(proof, proof.engine, fault.depth, fault=True), design, folder,
                        processes, waiting)
    text = "caught" if trace else "failed without a trace"
    if found != "FAIL":
        text = "NOT CAUGHT" if found == "PASS" or found.startswith("NOT PROVEN") else found
    log = (folder / "sby.log").read_text(errors="replace")
    return Outcome(proof=proof, fault=fault, text=text, seconds=monotonic() - begin, trace=trace,
                   broken=", ".join(sorted({*BROKEN.findall(log)})))


def run_all(wanted: Sequence[Proof], folder: Path, *, faults: bool, jobs: int,
            progress: Callable[[str], None]) -> list[Outcome]:
    """Run proofs and, where wanted, all their faults, a few at a time; in order."""
    processes = Processes()

    def one(proof: Proof, number: int | None) -> Outcome:
        name = proof.name if number is None else f"{proof.name}, fault {number + 1}"

        def waiting(seconds: float) -> None:
            progress(f"{name}: {seconds:.0f} s so far")

        if number is None:
            outcome = prove(proof, folder / proof.name / "proof", processes, waiting)
        else:
            outcome = see_fault(proof, proof.faults[number],
                                folder / proof.name / f"fault{number + 1}", processes, waiting)
        by = f" by {outcome.broken}" if outcome.broken else ""
        progress(f"{name}: {outcome.text}{by}, {outcome.seconds:.1f} s")
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = [pool.submit(one, proof, number) for proof in wanted
                       for number in (None, *(range(len(proof.faults)) if faults else ()))]
            return [future.result() for future in futures]
        except BaseException:
            processes.end()
            pool.shutdown(cancel_futures=True)
            raise
