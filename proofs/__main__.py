"""Proves what holds for every input and every history, and that each proof can fail."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from warnings import filterwarnings

from amaranth.hdl import UnusedElaboratable
from rich import box
from rich.console import Console
from rich.table import Table

from fpga.tools import ToolError, warm_up
from gatefold.arguments import positive
from gatefold.progress import ProgressLog
from proofs.catalogue import proofs
from proofs.proof import Engine, FaultError, Proof
from proofs.run import Outcome, run_all

__all__ = ["main", "page"]

DESCRIPTION = """\
Proves properties of the hardware with SymbiYosys: of every input and every history, not of those
that a test tries. Each proof comes with planted faults, changes of the design that it has to see;
with --faults each is planted, and a trace must show it.
"""

EPILOG = """\
examples:
  python -m proofs --quick             those of seconds
  python -m proofs rounding            those whose names begin so
  python -m proofs --faults            all, and all planted faults: what `make prove` runs
  python -m proofs --list              the table of docs/verification.md

engines:
  k-induction  by an SMT solver; holds for ever, and the depth is k
  PDR          finds its invariants by itself; holds for ever
  bounded      every trace from power-up, of as many cycles as the depth

Designs, logs and traces are in the folder of -o: NAME/proof, NAME/fault1 and so on. A trace is
run/engine_0/trace.vcd there. The status is 0 if all is proven and all faults are caught, 1 if not.
"""


def reach(proof: Proof) -> str:
    """By which engine, and how far."""
    if proof.engine is Engine.PDR:
        return "PDR"
    if proof.engine is Engine.BOUNDED:
        return f"bounded to {proof.depth} cycles"
    return f"k-induction, k = {proof.depth}"


def page(wanted: Sequence[Proof]) -> str:
    """The table of the docs."""
    lines = ["| proof | what holds | how | planted faults |", "|---|---|---|---|"]
    lines += [f"| `{proof.name}` | {proof.claim} | {reach(proof)} | {len(proof.faults)} |"
              for proof in wanted]
    return "\n".join(lines)


def _table(wanted: Sequence[Proof], outcomes: Sequence[Outcome], *, faults: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("proof", "what is proven", "how"):
        table.add_column(heading)
    for heading in ("s", "faults caught") if faults else ("s",):
        table.add_column(heading, justify="right")
    table.add_column("result")
    for proof in wanted:
        of = [outcome for outcome in outcomes if outcome.proof.name == proof.name]
        caught = [outcome.good for outcome in of if outcome.fault]
        text = "proven" if all(outcome.good for outcome in of) else "; ".join(
            outcome.text for outcome in of if not outcome.good)
        table.add_row(proof.name, proof.claim, reach(proof), f"{of[0].seconds:.1f}",
                      *([f"{sum(caught)} of {len(caught)}"] if faults else []), text)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proofs", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*",
                        help="how the names of the wanted proofs begin; all without one")
    parser.add_argument("--quick", action="store_true", help="only those that take seconds")
    parser.add_argument("--faults", action="store_true", help="plant the faults, too")
    parser.add_argument("--list", action="store_true", help="say what there is, and prove nothing")
    parser.add_argument("--jobs", metavar="N", type=positive, default=2,
                        help="how many run at a time (%(default)s)")
    parser.add_argument("-o", metavar="FOLDER", dest="folder", type=Path,
                        default=Path("build", "proofs"), help="(%(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its status."""
    parser = _parser()
    args = parser.parse_args(arguments)
    every = proofs()
    for name in args.names:
        if not any(known.startswith(name) for known in every):
            parser.error(f"no proof is called {name}; --list says what there is")
    wanted = [proof for name, proof in every.items() if (proof.quick or not args.quick) and (
        not args.names or name.startswith(tuple(args.names)))]
    if not wanted:
        parser.error("none of these is quick")
    if args.list:
        print(page(wanted))
        return 0
    # A fault may leave a design half made.
    filterwarnings("ignore", category=UnusedElaboratable)
    progress = ProgressLog(Console(stderr=True))
    try:
        warm_up(progress, tools=["yosys"])
        outcomes = run_all(wanted, args.folder, faults=args.faults, jobs=args.jobs,
                           progress=progress)
    except (FaultError, ToolError) as error:
        print(f"proofs: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("proofs: interrupted", file=sys.stderr)
        return 130
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(_table(wanted, outcomes, faults=args.faults))
    bad = [outcome for outcome in outcomes if not outcome.good]
    console.print(f"{len(outcomes) - len(bad)} of {len(outcomes)} as they must be, in "
                  f"{progress.seconds:.0f} s; designs and logs are in {args.folder}",
                  markup=False)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
