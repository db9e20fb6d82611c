"""How a verification closes: the table of its tests, and what they have covered."""

from rich import box
from rich.table import Table

from sim.verify import VerifyResult

__all__ = ["coverage_lines", "verify_table"]


def verify_table(result: VerifyResult) -> Table:
    """A row for each test that ran."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("test")
    for heading in ("sequences", "steps", "cycles", "beats out", "states", "k cycles/s"):
        table.add_column(heading, justify="right")
    table.add_column("result")
    for test in result.tests:
        # Sequences and steps count only when they were played to the end: none says nothing of a
        # test that stopped amid them.
        played = (f"{count:,}" if count or test.passed else "-"
                  for count in (test.sequences, test.steps))
        table.add_row(test.test.replace("_", " "), *played, *(
            f"{value:,}" for value in (test.cycles, test.words, test.states)),
            f"{test.cycles_per_second / 1000:,.0f}",
            "equal" if test.passed else "DIFFERS")
    return table


def coverage_lines(result: VerifyResult) -> list[str]:
    """What has been covered, in a line or two."""
    lines = [f"coverage: {result.coverage.summary}"]
    if result.verilog is not None:
        lines.append("coverage of the Verilog: " + ", ".join(
            f"{100 * met / max(count, 1):.1f} % of {count:,} {name}"
            for name, (met, count) in result.verilog.shares.items()))
    return lines
