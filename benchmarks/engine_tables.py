"""The tables of the engine: what stands in them, and how they look on the page."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.activation_tables import piped
from benchmarks.engine_rows import MISSED, Figures, Group, Row

__all__ = ["COLUMNS", "cells", "markdown", "marks", "table"]

NOTHING = "-"


def _integer(figure: str) -> Callable[[Row, Figures], str]:
    return lambda row, figures: f"{figures[figure]:,.0f}"


def _percent(figure: str) -> Callable[[Row, Figures], str]:
    return lambda row, figures: f"{figures[figure]:.1%}"


def _mhz(row: Row, figures: Figures) -> str:
    low, high = figures["slowest MHz"], figures["fastest MHz"]
    text = f"{figures['MHz']:.1f}"
    return text if low == high else f"{text} ({low:.0f} to {high:.0f})"


COLUMNS: Mapping[str, Callable[[Row, Figures], str]] = {
    "N, H": lambda row, figures: f"{row.inputs}, {row.hidden}",
    "budget": lambda row, figures: str(row.budget),
    "U x V": lambda row, figures: f"{row.folding.units} x {row.folding.columns}",
    "lanes, k": lambda row, figures: f"{row.folding.lanes}, {row.folding.interval}",
    "pipeline": lambda row, figures: row.pipeline,
    "device": lambda row, figures: row.device.name,
    "S": lambda row, figures: str(row.streams),
    **{figure: _integer(figure) for figure in (
        "cycles", "cycles an inference", "D", "B", "LUT", "FF", "multipliers", "DSP", "block RAM",
        "memory bits")},
    **{figure: _percent(figure) for figure in ("use", "use of all", "use of budget")},
    "MHz": _mhz,
    "ns a step": lambda row, figures: f"{figures['ns a step']:,.1f}",
    "target": lambda row, figures: "; ".join(
        target.verdict(figures) for target in row.targets) or NOTHING,
}
"""What stands in each column; a dash where the figure is not measured."""

# What is known of a row without building it.
GIVEN = ("N, H", "budget", "U x V", "lanes, k", "pipeline", "S", "device")


def cells(row: Row, figures: Figures | None, columns: Sequence[str]) -> list[str]:
    """A row of a table; of one that has failed, what it would have been."""
    texts = []
    for column in columns:
        try:
            texts.append("FAILED" if figures is None and column == "target" else
                         NOTHING if figures is None and column not in GIVEN else
                         COLUMNS[column](row, figures or {}))
        except KeyError:
            texts.append(NOTHING)
    return texts


def table(group: Group, rows: Sequence[Row], figures: Sequence[Figures | None]
          ) -> tuple[list[list[str]], list[str]]:
    """The rows of a group's table, and the lines below it."""
    lines = group.conclude(rows, figures)
    lines += [f"{peer.name}: {peer.text}." for peer in group.peers]
    return [cells(row, found, group.columns)
            for row, found in zip(rows, figures, strict=True)], lines


def marks(letter: str) -> tuple[str, str]:
    """Between which lines of the page a table stands."""
    return (f"<!-- engine {letter}: written by benchmarks/engine.py --write -->",
            f"<!-- end of engine {letter} -->")


def markdown(letter: str, group: Group, rows: list[list[str]], lines: Sequence[str],
             versions: Mapping[str, str]) -> str:
    """A table for the page."""
    tools = ", ".join(f"{tool} {number}" for tool, number in versions.items())
    listed = "\n".join(f"- {line}" for line in lines)
    text = "\n\n".join(filter(None, [
        f"### {letter}. {group.title}", group.text, piped(group.columns, rows), listed,
        f"Measured with {tools}."]))
    return text.replace(MISSED, f"**{MISSED}**")
