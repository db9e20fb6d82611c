"""The table of merit: what Gatefold's tables and table units cost, and how good they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.synthesis import DEVICE, ECP5, ICE40, SEEDS, area, clocks, multipliers
from fpga.tools import Progress
from golden.activation import function_table, hard_sigmoid_table, sigmoid_table
from golden.fixed import SQ, UQ
from golden.table import Table
from hdl.table import TableUnit

__all__ = ["ACCURACY_COLUMNS", "CLOCK_COLUMNS", "COST_COLUMNS", "DESIGNS", "Design", "Merit",
           "measure_merit", "softsign"]

Function = Callable[[np.ndarray], np.ndarray]

ACCURACY_COLUMNS = ("", "argument", "degree", "table bits", "segments", "sigmoid max",
                    "sigmoid mean", "tanh max", "tanh mean", "monotone")
COST_COLUMNS = ("", "multipliers", "latency", *(f"{family.name} {resource}"
                                                for family in (ECP5, ICE40)
                                                for resource in family.cells))
CLOCK_COLUMNS = ("", "best MHz", "median MHz", "worst MHz")
NOTHING = "-"


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softsign(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.abs(x))


@dataclass(frozen=True, kw_only=True)
class Design:
    """A row of the table.

    Parameters
    ----------
    name : str
    make : callable
        Searches the table.
    gate, tanh : callable or None
        The true function of the reading between 0 and 1 and of that between -1 and 1, in the
        table's order; None where there is no such reading.
    timed : bool
        Whether it is placed and routed.
    """

    name: str
    make: Callable[[], Table]
    gate: Function | None = sigmoid
    tanh: Function | None = np.tanh
    timed: bool = False


def _shared(i: int, f: int, degree: int) -> Design:
    return Design(
        name=f"{f} bits, {'linear' if degree == 1 else 'quadratic'}",
        make=lambda: sigmoid_table(z=SQ(i, f), gate=UQ(1, f), tanh=SQ(2, f), degree=degree))


DESIGNS: tuple[Design, ...] = (
    *(_shared(i, f, degree) for i, f in ((4, 8), (5, 12), (5, 16)) for degree in (1, 2)),
    Design(name="12 bits, small decoder", timed=True,
           make=lambda: sigmoid_table(z=SQ(5, 12), gate=UQ(1, 12), tanh=SQ(2, 12), splits=(2, 4),
                                      slope_bits=9)),
    Design(name="16-bit engine", timed=True,
           make=lambda: sigmoid_table(z=SQ(5, 15), gate=UQ(1, 15), tanh=SQ(2, 14))),
    Design(name="12 bits, hard sigmoid", tanh=None,
           gate=lambda x: np.clip(0.2 * x + 0.5, 0, 1),
           make=lambda: hard_sigmoid_table(z=SQ(5, 12), gate=UQ(1, 12), alpha=0.2)),
    Design(name="12 bits, softsign", gate=None, tanh=softsign,
           make=lambda: function_table(softsign, argument=SQ(5, 12), result=SQ(2, 12))),
)


@dataclass(frozen=True, kw_only=True)
class Merit:
    """All there is to say about a design.

    Parameters
    ----------
    design : Design
    table : Table
    latency : int
        Cycles of the unit.
    errors : tuple of (float, float) or None
        For the gate and for tanh, the largest and the mean error over every code, in ulp.
    monotone : bool
        Whether no function ever falls as its argument grows.
    multipliers : tuple of (int, int)
        Bits of the operands of each of the unit's multipliers.
    area : tuple of int
        As the last columns of ``COST_COLUMNS``.
    clocks : tuple of float
        Fmax in MHz of each seed; empty where it was not placed.
    """

    design: Design
    table: Table
    latency: int
    errors: tuple[tuple[float, float] | None, ...]
    monotone: bool
    multipliers: tuple[tuple[int, int], ...]
    area: tuple[int, ...]
    clocks: tuple[float, ...]

    def accuracy_cells(self) -> tuple[str, ...]:
        """As ``ACCURACY_COLUMNS``."""
        argument = self.table.argument
        return (self.design.name, f"SQ({argument.i}, {argument.f})", str(self.table.degree),
                f"{self.table.bits:,}", str(self.table.segments),
                *(cell for pair in self.errors
                  # Faithful is below 1, which two digits may not show.
                  for cell in ((f"{pair[0]:.4f}", f"{pair[1]:.2f}") if pair else [NOTHING] * 2)),
                "yes" if self.monotone else "no")

    def cost_cells(self) -> tuple[str, ...]:
        """As ``COST_COLUMNS``."""
        return (self.design.name, ", ".join(f"{a} x {b}" for a, b in self.multipliers) or NOTHING,
                str(self.latency), *map(str, self.area))

    def clock_cells(self) -> tuple[str, ...]:
        """As ``CLOCK_COLUMNS``."""
        return (self.design.name, *(f"{figure:.1f}" for figure in (
            max(self.clocks), median(self.clocks), min(self.clocks))))


def measure_errors(table: Table, functions: Sequence[Function | None]
                   ) -> tuple[tuple[tuple[float, float] | None, ...], bool]:
    """The largest and the mean error of each function over every code, and whether all rise."""
    codes = np.arange(table.argument.min, table.argument.max + 1)
    errors: list[tuple[float, float] | None] = []
    monotone = True
    reading = 0
    for function in functions:
        if function is None:
            errors.append(None)
            continue
        result = table.evaluate(codes, reading)
        x = table.argument_of(reading).to_real(codes)
        error = np.abs(result - function(x) / table.readings[reading].result.ulp)
        errors.append((float(error.max()), float(error.mean())))
        monotone &= bool((np.diff(result) >= 0).all())
        reading += 1
    return tuple(errors), monotone


def measure_merit(design: Design, *, folder: Path, progress: Progress) -> Merit:
    """Search, measure and synthesise a design, and place it where it is to be timed.

    Parameters
    ----------
    folder : Path
        Where the tools run.
    progress : function of str
        Gets a line before each part.

    Raises
    ------
    FlowError
        If a tool fails.
    """
    progress(f"{design.name}: table")
    table = design.make()
    errors, monotone = measure_errors(table, (design.gate, design.tanh))
    unit = TableUnit(table)
    taken: list[int] = []
    for family in (ECP5, ICE40):
        progress(f"{design.name}: synthesis for {family.name}")
        taken += area(unit, family, folder=folder).values()
    timing: tuple[float, ...] = ()
    if design.timed:
        progress(f"{design.name}: {len(SEEDS)} placements for {DEVICE}")
        timing = clocks(unit, folder=folder)
    return Merit(design=design, table=table, latency=unit.latency, errors=errors,
                 monotone=monotone, multipliers=multipliers(unit, "bend", "product"),
                 area=tuple(taken), clocks=timing)
