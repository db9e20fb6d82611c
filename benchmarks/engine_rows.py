"""What the benchmark of the engine measures: its designs, and what is asked of them.

Every number that a row gives comes from one build of one text of Verilog; see
`benchmarks.engine`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import MappingProxyType

from benchmarks.synthesis import (
    ECP5,
    ECP5_85F,
    ECP5_85F_8,
    ICE40,
    ICE40_UP5K,
    XC7,
    Device,
    Family,
)
from hdl.choice import fill
from hdl.cycles import Folding, LSTMCycles
from hdl.foldings import Limits, Shape, choose_drain, choose_folding
from hdl.pipeline import PIPELINES
from hdl.search import Stack

__all__ = ["CELLS", "GROUPS", "MISSED", "PACKED", "ROUTED", "SIMULATED",
           "Figures", "Group", "Peer", "Row", "Target", "growth", "needed"]

Figures = Mapping[str, float]

MISSED = "MISSED"

# How far a row is built.
SIMULATED, CELLS, PACKED, ROUTED = "simulated", "cells", "packed", "routed"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is asked of a figure.

    Parameters
    ----------
    figure : str
    bound : float
    least : bool
        Whether the bound is a lower one.
    name : str
        With its unit, for the table.
    scale : float
        From the figure to that unit.
    """

    figure: str
    bound: float
    least: bool
    name: str
    scale: float = 1

    def met(self, figures: Figures) -> bool:
        value = figures[self.figure]
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self) -> str:
        return self.name.format(f"{self.bound * self.scale:,.4g}")

    def verdict(self, figures: Figures) -> str:
        """The target, what came of it, and a mark that is seen where it is missed."""
        if self.figure not in figures:
            return f"{self}: not measured"
        value = f"{figures[self.figure] * self.scale:,.4g}"
        return f"{self}: {value}, met" if self.met(figures) else f"{self}: {value}, {MISSED}"


def use_of_array(bound: float) -> Target:
    return Target(figure="use", bound=bound, least=True, name="use of the array >= {} %", scale=100)


def use_of_all(bound: float) -> Target:
    return Target(figure="use of all", bound=bound, least=True,
                  name="use of all multipliers >= {} %", scale=100)


def use_of_budget(bound: float) -> Target:
    return Target(figure="use of budget", bound=bound, least=True,
                  name="use of the budget >= {} %", scale=100)


def clock(bound: float) -> Target:
    return Target(figure="MHz", bound=bound, least=True, name="clock >= {} MHz")


def step_ns(bound: float) -> Target:
    return Target(figure="ns a step", bound=bound, least=False, name="step <= {} ns")


def step_cycles(bound: float) -> Target:
    return Target(figure="cycles a step", bound=bound, least=False, name="step <= {} cycles")


def inference(bound: float) -> Target:
    return Target(figure="cycles an inference", bound=bound, least=False,
                  name="inference <= {} cycles")


def luts(bound: float) -> Target:
    return Target(figure="LUT", bound=bound, least=False, name="<= {} LUT")


def dsps(bound: float) -> Target:
    return Target(figure="DSP", bound=bound, least=False, name="<= {} DSP48")


def needed(k: LSTMCycles) -> int:
    """Multiplications that a round needs: a step of each stream."""
    return 4 * k.hidden * (k.inputs + k.hidden) * k.streams


@dataclass(frozen=True, kw_only=True)
class Row:
    """A design, and how far it is built.

    Parameters
    ----------
    inputs, hidden : int
        N and H.
    budget : int
        Multipliers that the array may have.
    folding : Folding
    pipeline : str
        One of ``PIPELINES``.
    streams : int
    family : str or None
        That of `hdl.verilog.generate`.
    build : str
        ``SIMULATED``, and no more; ``CELLS``, counted after synthesis of the text alone;
        ``PACKED`` or ``ROUTED``, in the harness.
    synthesis : Family
    device : Device
    steps : int
        Of the sequences that are simulated.
    every_step : bool
        Whether the head gives an output for each step, or one for a sequence.
    targets : tuple of Target
    """

    inputs: int
    hidden: int
    budget: int
    folding: Folding
    pipeline: str
    streams: int = 1
    family: str | None = "ecp5"
    build: str = ROUTED
    synthesis: Family = ECP5
    device: Device = ECP5_85F
    steps: int = 10
    every_step: bool = True
    targets: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        if self.folding.multipliers > max(self.budget, 4):
            raise ValueError(f"the array must have at most the {self.budget} multipliers of the "
                             f"budget, not {self.folding.multipliers}")

    @cached_property
    def cycles(self) -> LSTMCycles:
        return LSTMCycles(inputs=self.inputs, hidden=self.hidden, folding=self.folding,
                          pipeline=PIPELINES[self.pipeline], streams=self.streams)

    @property
    def name(self) -> str:
        """Short, for progress and errors."""
        parts = [f"({self.inputs}, {self.hidden})",
                 f"{self.folding.units} x {self.folding.columns}", self.pipeline]
        if self.streams > 1:
            parts.append(f"{self.streams} streams")
        return " ".join([*parts, self.family or "portable"])


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What another project takes for the same, as it is known; the command does not measure it.

    Parameters
    ----------
    name : str
    text : str
        What was measured, and how.
    """

    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """A table.

    Parameters
    ----------
    title : str
    text : str
        What the rows are.
    columns : tuple of str
        Of those that `benchmarks.engine` knows.
    rows : function
        Makes them; choosing foldings takes a second or two.
    seeds : int or None
        Placements of a row; None for as many as the command is told.
    conclude : function of rows and figures
        Further lines below the table: what several rows say together. Figures are None where a
        row has failed.
    peers : tuple of Peer
    """

    title: str
    text: str
    columns: tuple[str, ...]
    rows: Callable[[], list[Row]]
    seeds: int | None = None
    conclude: Callable[[Sequence[Row], Sequence[Figures | None]], list[str]] = (
        lambda rows, figures: [])
    peers: tuple[Peer, ...] = ()


@cache
def interleaved(inputs: int, hidden: int, *, budget: int, pipeline: str) -> tuple[Folding, int]:
    """The folding and the fewest streams that fill its bubbles."""
    plenty = Limits(multipliers=10 * budget, memories=1000, blocks=lambda depth, width: 1,
                    logic_words=0)
    choice = fill(Stack(layers=(Shape(inputs=inputs, outputs=hidden),),
                        head=(Shape(inputs=hidden, outputs=1),), every_step=True),
                  limits=plenty, clocks={pipeline: 1}, array=budget)
    return choice.foldings[0], choice.streams


@cache
def chosen(inputs: int, hidden: int, *, budget: int, pipeline: str) -> Folding:
    return choose_folding(inputs, hidden, multipliers=budget, pipeline=PIPELINES[pipeline])


BUDGETS = (4, 16, 64)


def long_layers() -> list[Row]:
    rows = []
    for inputs, hidden in ((15, 120), (3, 128), (64, 128), (256, 256)):
        for budget in BUDGETS:
            targets = [use_of_array(0.97)]
            if budget == 64:
                targets.append(use_of_all(0.85))
            # Its weights are more than twice what the device holds, and the text is sooner made
            # and simulated with plain memories than with blocks.
            large = hidden == 256
            rows.append(Row(
                inputs=inputs, hidden=hidden, budget=budget, pipeline="fast",
                folding=chosen(inputs, hidden, budget=budget, pipeline="fast"),
                family=None if large else "ecp5", build=SIMULATED if large else ROUTED,
                steps=6 if large else 10, targets=tuple(targets)))
    return rows


def short_layers() -> list[Row]:
    rows = []
    for inputs in (1, 6):
        for budget in BUDGETS:
            alone = chosen(inputs, 20, budget=budget, pipeline="short")
            rows.append(Row(inputs=inputs, hidden=20, budget=budget, pipeline="short",
                            folding=alone, targets=(use_of_array(0.97),) if budget == 4 else ()))
            folding, streams = interleaved(inputs, 20, budget=budget, pipeline="fast")
            if streams > 1:
                rows.append(Row(inputs=inputs, hidden=20, budget=budget, pipeline="fast",
                                folding=folding, streams=streams,
                                targets=(use_of_budget(0.92),) if budget > 4 else ()))
    return rows


def an_inference() -> Row:
    return Row(inputs=1, hidden=20, budget=4, pipeline="short", every_step=False, steps=6,
               folding=chosen(1, 20, budget=4, pipeline="short"), targets=(inference(2560),))


def portable() -> Row:
    return replace(an_inference(), family=None, build=CELLS, synthesis=XC7,
                   targets=(luts(900), dsps(7)))


def low_latency() -> list[Row]:
    rows = []
    for device in (ECP5_85F, ECP5_85F_8):
        for name, units, columns in (("medium", 20, 1), ("medium", 10, 2), ("fast", 20, 1)):
            folding = choose_drain(1, 20, units=units, columns=columns, fastest=True,
                                   pipeline=PIPELINES[name])
            rows.append(Row(inputs=1, hidden=20, budget=80, folding=folding, pipeline=name,
                            device=device))
    folding, streams = interleaved(1, 20, budget=80, pipeline="fast")
    rows.append(Row(inputs=1, hidden=20, budget=80, folding=folding, pipeline="fast",
                    streams=streams, targets=(step_cycles(22),)))
    return rows


def best_latency(rows: Sequence[Row], figures: Sequence[Figures | None]) -> list[str]:
    """The target is that of the fastest row with one stream."""
    done = [(row, found) for row, found in zip(rows, figures, strict=True)
            if found and row.streams == 1]
    if not done:
        return []
    row, found = min(done, key=lambda pair: pair[1]["ns a step"])
    return [f"Fastest with one stream: {row.folding.units} x {row.folding.columns}, "
            f"{row.pipeline}, {row.device.name}; {step_ns(250).verdict(found)}"]


def fast_clock() -> list[Row]:
    foldings = [chosen(6, 20, budget=32, pipeline="fast")]
    foldings += [choose_drain(6, 20, units=units, columns=columns, pipeline=PIPELINES["fast"])
                 for units, columns in ((8, 1), (4, 2))]
    return [Row(inputs=6, hidden=20, budget=32, pipeline="fast", folding=folding,
                targets=(clock(200), clock(240)))
            for folding in dict.fromkeys(foldings)]


def ice40() -> list[Row]:
    return [Row(inputs=inputs, hidden=20, budget=4, pipeline=pipeline, family="ice40",
                folding=chosen(inputs, 20, budget=4, pipeline=pipeline), synthesis=ICE40,
                device=ICE40_UP5K)
            for inputs in (1, 6) for pipeline in PIPELINES]


def best_ice40(rows: Sequence[Row], figures: Sequence[Figures | None]) -> list[str]:
    """The target is that of the pipeline with the shorter step in ns."""
    lines = []
    for inputs in dict.fromkeys(row.inputs for row in rows):
        done = [(row, found) for row, found in zip(rows, figures, strict=True)
                if found and row.inputs == inputs]
        if done:
            row, found = min(done, key=lambda pair: pair[1]["ns a step"])
            lines.append(f"({inputs}, 20), the shorter step is that of {row.pipeline}: "
                         f"{clock(40).verdict(found)}; {clock(48).verdict(found)}")
    return lines


# Pairs of foldings (U, V) of one shape, in which only the units grow, and cells per multiplier.
GROWTH = (((2, 1), (16, 1), 95), ((1, 4), (4, 4), 60))


def growing_arrays() -> list[Row]:
    return [Row(inputs=6, hidden=20, budget=4 * units * columns, pipeline="short",
                folding=choose_drain(6, 20, units=units, columns=columns))
            for pair in GROWTH for units, columns in pair[:2]]


def growth(rows: Sequence[Row], figures: Sequence[Figures | None]) -> list[str]:
    """Cells that each multiplier more takes."""
    lines = []
    for number, (_, _, bound) in enumerate(GROWTH):
        (few, before), (many, after) = zip(rows[2 * number:2 * number + 2],
                                           figures[2 * number:2 * number + 2], strict=True)
        if before and after:
            added = many.folding.multipliers - few.folding.multipliers
            each = (after["LUT"] - before["LUT"]) / added
            target = Target(figure="each", bound=bound, least=False,
                            name="logic cells for each multiplier more <= {}")
            lines.append(f"V = {few.folding.columns}, U from {few.folding.units} to "
                         f"{many.folding.units}, {few.folding.multipliers} to "
                         f"{many.folding.multipliers} multipliers: "
                         f"{target.verdict({'each': each})}")
    return lines


def growing_layers() -> list[Row]:
    # The drain that keeps up with the shortest passes does so with all.
    folding = choose_drain(16, 16, units=4, columns=1)
    return [Row(inputs=16, hidden=hidden, budget=16, pipeline="short", folding=folding,
                build=PACKED if hidden > 128 else ROUTED) for hidden in (16, 32, 64, 128, 256)]


def flatness(rows: Sequence[Row], figures: Sequence[Figures | None]) -> list[str]:
    """How the area grows with the layer."""
    cells = [found["LUT"] for found in figures if found]
    if len(cells) < 2:
        return []
    return [f"From H = {rows[0].hidden} to {rows[-1].hidden}: {cells[0]:,.0f} to "
            f"{cells[-1]:,.0f} logic cells, {cells[-1] / cells[0] - 1:+.0%}"]


SHAPE_COLUMNS = ("N, H", "budget", "U x V", "lanes, k", "pipeline", "S", "cycles", "D", "B")
USE_COLUMNS = ("use", "use of all", "use of budget")
AREA_COLUMNS = ("LUT", "multipliers", "DSP", "block RAM", "memory bits")
SPEED_COLUMNS = ("MHz", "ns a step")
ALL_COLUMNS = (*SHAPE_COLUMNS, *USE_COLUMNS, *AREA_COLUMNS, *SPEED_COLUMNS, "target")

CREATOR = "ElasticAI.creator 0.68"
NOT_HERE = "Measured once on the VHDL that it generates, not by this command"

GROUPS: Mapping[str, Group] = MappingProxyType({
    "A": Group(
        title="Long layers", columns=ALL_COLUMNS, rows=long_layers,
        text="Layers of 120 units and more with 4, 16 and 64 multipliers in the array, one "
             f"stream, on {ECP5_85F.name}. (256, 256) is simulated only, in portable Verilog."),
    "B": Group(
        title="Short layers", columns=ALL_COLUMNS, rows=short_layers,
        text="Layers of 20 units: one stream, and where that leaves bubbles, the fewest streams "
             f"that fill them. On {ECP5_85F.name}.",
        peers=(Peer(name="hls4ml 1.3", text="LSTM of 6 inputs and 20 units at full parallelism: "
                                            "about 6 % of the multipliers in use, by its own "
                                            "published latency and resources; not measured "
                                            "here"),)),
    "C": Group(
        title="An inference", rows=lambda: [an_inference()],
        columns=("cycles an inference", *ALL_COLUMNS),
        text="Sequences of 6 steps with a dense output at the end, back to back, 16 bits, on "
             f"{ECP5_85F.name}.",
        peers=(Peer(name=CREATOR, text="the same network with 4 multipliers: 890 cycles a step, "
                                       f"5,376 an inference, simulated. {NOT_HERE}"),)),
    "D": Group(
        title="The shortest step", columns=("device", *ALL_COLUMNS), rows=low_latency,
        conclude=best_latency,
        text="(1, 20) with at most 80 multipliers in the array, the fastest drain: one stream, "
             "and interleaved.",
        peers=(Peer(name=CREATOR, text="integer cell with 80 multipliers: 591 cycles a step, "
                                       f"simulated. {NOT_HERE}"),)),
    "E": Group(
        title="Portable Verilog on Xilinx",
        rows=lambda: [portable()],
        columns=("N, H", "U x V", "lanes, k", "pipeline", "cycles", "LUT", "FF", "multipliers",
                 "DSP", "block RAM", "memory bits", "target"),
        text="The design of table C, portable and without the harness, through Yosys' "
             f"`{XC7.command}`. A RAM32M or RAM64M counts as four LUTs, an SRL16E and an inverter "
             "as one each; block RAM are RAMB18E1.",
        peers=(Peer(name=CREATOR, text="the same network with 4 multipliers: 1,427 LUT and 9 "
                                       "DSP48 by the same Yosys command, outputs up to 49 LSB off "
                                       f"its own definition. {NOT_HERE}"),)),
    "F": Group(
        title="The highest clock", columns=ALL_COLUMNS, rows=fast_clock, seeds=3,
        text=f"(6, 20), 32 multipliers in the array, on {ECP5_85F.name}: the median of three "
             "placements.",
        peers=(Peer(name=CREATOR, text="41 MHz on an ECP5 of speed grade 6, at 1 input and 20 "
                                       f"units with 4 multipliers. {NOT_HERE}"),)),
    "G": Group(
        title="iCE40", columns=ALL_COLUMNS, rows=ice40, seeds=3, conclude=best_ice40,
        text=f"4 multipliers in the array, on {ICE40_UP5K.name}: the median of three placements. "
             "LUT are logic cells, DSP are SB_MAC16, block RAM are SB_RAM40_4K."),
    "H": Group(
        title="Logic for each multiplier", rows=growing_arrays, conclude=growth,
        columns=ALL_COLUMNS,
        text=f"LUTs of the whole design on {ECP5_85F.name}, with the drain that the tool chooses. "
             "There is no array of 8 multipliers with four columns, so that pair begins at 16; "
             "in both pairs only the units grow. Weights that are deeper than a block RAM, as in "
             "table A, take up to two more for each bit, to choose between the blocks."),
    "I": Group(
        title="Logic for each unit", rows=growing_layers, conclude=flatness,
        columns=ALL_COLUMNS,
        text=f"LUTs of the whole design on {ECP5_85F.name}, while the layer grows and the array "
             "and the drain do not. The weights of the largest are more than it holds: that design "
             "is packed, and no more."),
})
"""The tables, by their letters."""
