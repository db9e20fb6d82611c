"""Gatefold's activation functions: how good they are, what they cost, and how others do.

    python benchmarks/activation_tables.py            # prints the tables, in a minute or two
    python benchmarks/activation_tables.py --write    # and puts them into docs/activation.md

First the sigmoid and tanh of other projects, over every Q4.12 input code; then the table of merit,
for which the table units are synthesised and two of them placed and routed. ``--write`` also draws
the page's pictures, for which it needs the `bench` extra.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.merit import (
    ACCURACY_COLUMNS,
    CLOCK_COLUMNS,
    COST_COLUMNS,
    DESIGNS,
    Merit,
    measure_merit,
)
from benchmarks.peers import CODES, FRACTION, PEERS, ULP, Approximation, true_sigmoid, true_tanh
from benchmarks.synthesis import DEVICE, SEEDS
from fpga.report import FlowError
from fpga.tools import Progress, keeping_logs, warm_up
from golden.activation import SIGMOID, TANH, sigmoid_table
from golden.fixed import SQ, UQ
from golden.table import Table as ActivationTable

__all__ = ["COLUMNS", "Errors", "compare", "draw", "draw_segments", "fill", "main", "markdown",
           "ours"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "activation.md"
PICTURE = ROOT / "docs" / "activation_error.svg"
SEGMENTS = ROOT / "docs" / "activation_segments.svg"
BEGIN = "<!-- comparison: written by benchmarks/activation_tables.py --write -->"
END = "<!-- end of the comparison -->"
MERIT_BEGIN = "<!-- table of merit: written by benchmarks/activation_tables.py --write -->"
MERIT_END = "<!-- end of the table of merit -->"

COLUMNS = ("", "table bits", "fraction bits", "sigmoid max", "sigmoid mean", "tanh max",
           "tanh mean", "faithful", "monotone")

# The palette of Okabe and Ito, which the colour-blind tell apart; the dashes serve grey prints.
STYLES = {"hls4ml": ("#0072B2", "-"), "TFLite": ("#009E73", "-"),
          "PLAN": ("#CC79A7", "--"), "hard sigmoid": ("#E69F00", "-.")}
OUR_COLOUR = "#000000"
LOWEST, HIGHEST = 0.01, 1000.0
# Codes to a point of a curve, which shows the largest error among them: 1/16 of x.
BIN = 256
# How far the picture of the segments goes: the sigmoid is constant beyond.
REACH = 10.0

# Settings of both pictures: text stays text, and the names within the file stay the same.
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "gatefold", "svg.fonttype": "none", "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False}


def our_table() -> ActivationTable:
    """Gatefold's smallest table with 12 fraction bits in and out."""
    return sigmoid_table(z=SQ(5, FRACTION), gate=UQ(1, FRACTION), tanh=SQ(2, FRACTION))


def ours() -> Approximation:
    """That table as one to be compared."""
    table = our_table()
    # The argument of tanh comes with a fraction bit more than a gate's.
    return Approximation(name="Gatefold", bits=table.bits, fraction=FRACTION,
                         sigmoid=lambda codes: table.evaluate(codes, SIGMOID) * ULP,
                         tanh=lambda codes: table.evaluate(2 * codes, TANH) * ULP)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """What an approximation does over all of ``CODES``.

    Parameters
    ----------
    of : Approximation
    sigmoid, tanh : float64 arrays, 65,536
        \\|result - function\\| at each code, in ulp of 2**-12.
    monotone : bool
        Whether neither function ever falls as its argument grows.
    """

    of: Approximation
    sigmoid: np.ndarray
    tanh: np.ndarray
    monotone: bool

    @property
    def faithful(self) -> bool:
        """Whether every error is below one ulp."""
        return max(self.sigmoid.max(), self.tanh.max()) < 1

    def cells(self) -> tuple[str, ...]:
        """A row of the comparison, as ``COLUMNS``."""
        return (self.of.name, f"{self.of.bits:,}" if self.of.bits else "none",
                str(self.of.fraction or "exact"),
                *(f"{figure:.2f}" for each in (self.sigmoid, self.tanh)
                  for figure in (each.max(), each.mean())),
                "yes" if self.faithful else "no", "yes" if self.monotone else "no")


def measure(approximation: Approximation) -> Errors:
    """Run an approximation over every code."""
    results = approximation.sigmoid(CODES), approximation.tanh(CODES)
    sigmoid, tanh = (np.abs(result - function(CODES)) / ULP
                     for result, function in zip(results, (true_sigmoid, true_tanh), strict=True))
    monotone = all(bool((np.diff(result) >= 0).all()) for result in results)
    return Errors(of=approximation, sigmoid=sigmoid, tanh=tanh, monotone=monotone)


def compare() -> tuple[Errors, ...]:
    """Every approximation's errors, Gatefold's first."""
    return tuple(measure(each) for each in (ours(), *PEERS))


def printed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        # Only a heading is broken, and only between its words.
        texts = [*column.split(), *(row[index] for row in rows)]
        table.add_column(column, justify="left" if index == 0 else "right",
                         width=max(map(len, texts)))
    for row in rows:
        table.add_row(*row)
    return table


def piped(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join([f"| {' | '.join(columns)} |", f"|---{'|---:' * (len(columns) - 1)}|",
                      *(f"| {' | '.join(row)} |" for row in rows)])


def markdown(rows: Sequence[Errors]) -> str:
    """The comparison for the page; the first row, which is Gatefold's, in bold."""
    first, *others = (row.cells() for row in rows)
    return piped(COLUMNS, [[f"**{cell}**" for cell in first], *others])


def merit_parts(merits: Sequence[Merit], versions: Mapping[str, str]
                ) -> tuple[tuple[str, Sequence[str], list[tuple[str, ...]]], ...]:
    """The table of merit in three: for each a line of text, its columns and its rows."""
    return (
        ("Tables; |error| in ulp of the result, over every input code:",
         ACCURACY_COLUMNS, [merit.accuracy_cells() for merit in merits]),
        (f"Table units after synthesis, Yosys {versions['yosys']}:",
         COST_COLUMNS, [merit.cost_cells() for merit in merits]),
        (f"Clock of the units on {DEVICE}, over {len(SEEDS)} placements, "
         f"nextpnr {versions['nextpnr-ecp5']}:",
         CLOCK_COLUMNS, [merit.clock_cells() for merit in merits if merit.clocks]),
    )


def measure_merits(progress: Progress) -> tuple[tuple[Merit, ...], dict[str, str]]:
    """The rows of the table of merit, and the versions of the tools that measured them."""
    versions = warm_up(progress, tools=("yosys", "nextpnr-ecp5"))
    with tempfile.TemporaryDirectory(prefix="gatefold-") as temporary:
        folder = Path(temporary, "benchmark")
        folder.mkdir()
        with keeping_logs(folder):
            return tuple(measure_merit(design, folder=folder, progress=progress)
                         for design in DESIGNS), versions


def fill(page: str, text: str, *, first: str = BEGIN, last: str = END) -> str:
    """The page with a text between two marks, which are those of the comparison.

    Raises
    ------
    ValueError
        If the page does not hold both marks once, in their order.
    """
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end) or first in after or last in before + after:
        raise ValueError(f"the page must hold {first!r} and then {last!r}, each once")
    return f"{before}{first}\n{text}\n{last}{after}"


def envelope(errors: np.ndarray) -> np.ndarray:
    """The largest error of each bin, kept within what the picture shows."""
    return np.clip(errors.reshape(-1, BIN).max(axis=1), LOWEST, HIGHEST)


def draw(rows: Sequence[Errors], path: Path) -> None:
    """Draw the errors over x as an SVG, the same file each time for one version of Matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    x = (CODES.reshape(-1, BIN)[:, 0] + BIN / 2) * ULP
    panels: tuple[tuple[str, Callable[[Errors], np.ndarray]], ...] = (
        ("sigmoid", lambda row: row.sigmoid), ("tanh", lambda row: row.tanh))
    with matplotlib.rc_context(SETTINGS):
        figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
        for axis, (title, errors) in zip(axes, panels, strict=True):
            for index, row in enumerate(rows):
                colour, dashes = STYLES.get(row.of.name, (OUR_COLOUR, "-"))
                axis.semilogy(x, envelope(errors(row)), dashes, color=colour, label=row.of.name,
                              linewidth=2.6 if index == 0 else 1.3,
                              zorder=4 if index == 0 else 3)
            axis.axhline(1, color="#555555", linewidth=1, linestyle=":", zorder=2)
            axis.text(2.2, 1.12, "below: faithful", color="#555555", ha="center", size=9)
            axis.set(title=title, xlabel="x", xlim=(-8, 8), ylim=(LOWEST, HIGHEST))
            axis.grid(color="#dddddd", linewidth=0.6)
        axes[0].set_ylabel("largest |error|, ulp of $2^{-12}$")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=len(rows), frameon=False)
        # Date and version would change the file while the picture is the same.
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def knot_codes(table: ActivationTable) -> list[int]:
    """The magnitudes at which a table's knots lie."""
    codes = [0]
    for split in table.splits:
        codes += [codes[-1] + (n + 1 << table.block_bits - split) for n in range(1 << split)]
    if len(codes) < len(table.knots):
        codes.append(1 << table.magnitude_bits)
    return codes


def draw_segments(table: ActivationTable, path: Path) -> None:
    """Draw the sigmoid, the knots and the blocks of its table, the same file each time."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    ulp = table.argument.ulp
    x = np.linspace(0, REACH, 200)
    knots = np.array(knot_codes(table)) * ulp
    shown = knots <= REACH
    block = ulp * (1 << table.block_bits)
    with matplotlib.rc_context(SETTINGS):
        figure, axis = pyplot.subplots(figsize=(10, 3.6), layout="constrained")
        for number in range(int(REACH / block)):
            axis.axvspan(number * block, (number + 1) * block, linewidth=0, zorder=1,
                         color="#f0f0f0" if number % 2 else "#ffffff")
            if number < len(table.splits):
                axis.text((number + 0.5) * block, 0.515, str(1 << table.splits[number]),
                          ha="center", color="#555555")
        axis.plot(x, 1 / (1 + np.exp(-x)), color="#0072B2", linewidth=1.3, zorder=2)
        axis.plot(knots[shown], 0.5 + np.ldexp(table.knots[shown].astype(float), -table.fraction),
                  "o", color=OUR_COLOUR, markersize=3, zorder=3)
        axis.vlines(knots[shown], 0.5, 0.51, color=OUR_COLOUR, linewidth=0.7, zorder=3)
        axis.set(xlabel="x", ylabel="sigmoid", xlim=(0, REACH), ylim=(0.5, 1.02))
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables; with ``--write``, put them and the pictures into docs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true",
                        help=f"rewrite the pictures and the tables of {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, width=120)
    rows = compare()
    console.print("|error| in ulp of 2^-12, over all 65,536 codes of Q4.12 (-8 <= x < 8):")
    console.print(printed(COLUMNS, [row.cells() for row in rows]))

    begin, told = monotonic(), Console(highlight=False, stderr=True)
    try:
        merits, versions = measure_merits(
            lambda text: told.print(f"{monotonic() - begin:6.1f} s  {text}"))
    except FlowError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    parts = merit_parts(merits, versions)
    for text, columns, cells in parts:
        console.print(f"\n{text}")
        console.print(printed(columns, cells))

    if options.write:
        page = fill(PAGE.read_text(encoding="utf-8"), markdown(rows))
        page = fill(page, "\n\n".join(f"{text}\n\n{piped(columns, cells)}"
                                      for text, columns, cells in parts),
                    first=MERIT_BEGIN, last=MERIT_END)
        draw(rows, PICTURE)
        draw_segments(our_table(), SEGMENTS)
        PAGE.write_text(page, encoding="utf-8")
        console.print(f"wrote {PAGE.relative_to(ROOT)}, {PICTURE.relative_to(ROOT)} and "
                      f"{SEGMENTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
