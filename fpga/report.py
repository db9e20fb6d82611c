"""Figures of a placed and routed design, parsed from the tools' own reports."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from fpga.boards import Board, Resource

__all__ = ["Figures", "FitError", "FlowError", "ReportError", "Usage", "check_fit", "fmax_mhz",
           "performance", "read_figures"]


class FlowError(Exception):
    """The flow cannot go on; the message is one sentence for the user."""


class ReportError(FlowError):
    """A tool's report is not as expected."""


class FitError(FlowError):
    """The design needs more of a resource than the device has."""


@dataclass(frozen=True)
class Usage:
    """How many of a resource a design takes, and how many the device has."""

    used: int
    available: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Area and speed of one top.

    Parameters
    ----------
    device : str
        Part number.
    lut, ff, dsp, bram : Usage
        Of the whole top, as routed with the first seed. ``lut`` counts those that carry chains
        and distributed RAM occupy as well as those that compute, and on an iCE40, where a logic
        cell is both, those beside a flip-flop that stands alone.
    registers : int
        Flip-flops among ``ff`` that belong to the top and not to the core, at most: identical
        registers may have been merged. 0 where it was not counted.
    fmax_mhz : float
        The median over the seeds, register to register.
    fmax_seeds_mhz : mapping of int to float
        Fmax by seed.
    target_mhz : float
        What the tools were asked for.
    """

    device: str
    lut: Usage
    ff: Usage
    dsp: Usage
    bram: Usage
    registers: int
    fmax_mhz: float
    fmax_seeds_mhz: Mapping[int, float]
    target_mhz: float

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"the report {path} must be a JSON file that can be read, but "
                          f"{error}") from error
    if not isinstance(content, dict):
        raise ReportError(f"the report {path} must be a JSON object, not {content!r}")
    return content


def fmax_mhz(report: Mapping[str, Any]) -> tuple[float, float]:
    """Fmax and the constraint, in MHz, of the only clock in a nextpnr report.

    Raises
    ------
    ReportError
        If there is not exactly one clock.
    """
    clocks = report.get("fmax", {})
    if len(clocks) != 1:
        raise ReportError(f"the design must have exactly one clock, not {len(clocks)}: "
                          f"{', '.join(sorted(clocks)) or 'no register is timed'}")
    (clock,) = clocks.values()
    return float(clock["achieved"]), float(clock["constraint"])


def _cells(synthesized: Path) -> dict[str, int]:
    """How many of each cell Yosys' ``stat -json`` found."""
    # Yosys gives a count, or a count with an area beside it.
    return {name: int(count["count"] if isinstance(count, dict) else count)
            for name, count in _load(synthesized)["design"]["num_cells_by_type"].items()}


def read_figures(reports: Mapping[int, Path], *, board: Board, synthesized: Path,
                 registers: int = 0) -> Figures:
    """Figures from nextpnr's reports.

    Parameters
    ----------
    reports : mapping of int to Path
        The report of each seed; the first seed's gives the area.
    synthesized : Path
        The output of Yosys' ``stat -json``, for what nextpnr does not count.

    Raises
    ------
    ReportError
        If a report cannot be read or lacks a figure.
    """
    loaded = {seed: _load(path) for seed, path in reports.items()}
    first_seed, first = next(iter(loaded.items()))

    def usage(resource: Resource) -> Usage:
        if not resource.routed:
            return Usage(resource.needed(_cells(synthesized)), resource.available)
        try:
            cell = first["utilization"][resource.cell]
            return Usage(int(cell["used"]), int(cell["available"]))
        except KeyError as error:
            raise ReportError(f"the report {reports[first_seed]} must tell how many "
                              f"{resource.cell} are used, but lacks {error}") from error

    speeds = {seed: fmax_mhz(report) for seed, report in loaded.items()}
    return Figures(
        device=board.device, lut=usage(board.lut), ff=usage(board.ff), dsp=usage(board.dsp),
        bram=usage(board.bram), registers=registers,
        fmax_mhz=median(achieved for achieved, _ in speeds.values()),
        fmax_seeds_mhz={seed: achieved for seed, (achieved, _) in speeds.items()},
        target_mhz=speeds[first_seed][1])


def _require(needs: Sequence[tuple[Resource, int, int]], board: Board) -> None:
    short = [f"{used} {resource.name} ({resource.cell}), of which {board.name} has {available}"
             for resource, used, available in needs if used > available]
    if short:
        raise FitError(f"the design does not fit: it needs {', and '.join(short)}")


def check_fit(board: Board, *, multipliers: int = 0, weight_bits: int = 0,
              synthesized: Path | None = None, routed: Path | None = None) -> None:
    """See whether a design fits, from what is known of it so far.

    Parameters
    ----------
    multipliers : int
        How many it has at least, each of which takes a DSP.
    weight_bits : int
        Bits of all weights it stores. Refused only beyond what all block RAMs and all lookup
        tables hold together, because Yosys may make logic of a memory.
    synthesized : Path or None
        The output of Yosys' ``stat -json``: tells early, but only for certain where a design is
        too big by the count of its cells alone.
    routed : Path or None
        nextpnr's log, also where nextpnr failed: its own count after packing.

    Raises
    ------
    FitError
        Naming each resource, how many the design needs and how many there are.
    ReportError
        If Yosys' file cannot be read.
    """
    # First, since no folding helps where the weights alone are too many.
    if weight_bits > (board.bram.available * board.block_bits
                      + board.lut.available * board.lut_bits):
        raise FitError(f"the design does not fit: its weights alone need "
                       f"{-(-weight_bits // board.block_bits)} {board.bram.name} "
                       f"({board.bram.cell}), but {board.name} has {board.bram.available}")
    _require([(board.dsp, multipliers, board.dsp.available)], board)
    if synthesized is not None:
        cells = _cells(synthesized)
        _require([(resource, resource.needed(cells), resource.available)
                  for resource in board.resources], board)
    if routed is not None and routed.exists():
        log = routed.read_text(errors="replace")
        counts = {match[1]: (int(match[2]), int(match[3])) for match in re.finditer(
            r"^Info:\s+(\w+):\s*(\d+)/\s*(\d+)\s+\d+%", log, re.MULTILINE)}
        _require([(resource, *counts[resource.cell]) for resource in board.resources
                  if resource.routed and resource.cell in counts], board)


def performance(*, step: int, further: int, latency: int, steps: float, mhz: float, streams: int = 1
                ) -> dict[str, float]:
    """What the cycle model and the clock come to.

    Parameters
    ----------
    step, further, latency : int
        Cycles of a step in steady state, those that a further step adds to a sequence alone, and
        those from a step's last input beat to its output.
    steps : float
        Mean steps of a sequence.
    mhz : float
        The clock.
    streams : int
        Each of them makes a step in ``step`` cycles; rates are those of all together.
    """
    # In steady state sequences follow each other without a gap.
    sequence = step * steps
    whole = further * (steps - 1) + latency
    return {
        "cycles_per_step": step,
        "mean_steps": steps,
        "cycles_per_sequence": sequence,
        "latency_cycles": whole,
        "latency_us": whole / mhz,
        "step_ns": 1000 * step / mhz,
        "steps_per_second": 1e6 * mhz * streams / step,
        "sequences_per_second": 1e6 * mhz * streams / sequence,
    }
