"""The closing table of a build: what one wants to know first of its report."""

from typing import Any

from rich import box
from rich.table import Table

from fpga.boards import find

__all__ = ["build_table", "wanted_text"]


def wanted_text(wanted: dict[str, Any]) -> str:
    """What was wanted of the core, and what the measured clock makes of it."""
    if "latency_us" in wanted:
        goal, reached = f"{wanted['latency_us']:.4g} us", f"{wanted['reached']:.4g} us"
    else:
        goal = f"{wanted['steps_per_second']:,.0f} steps a second"
        reached = f"{wanted['reached']:,.0f}"
    return f"{goal}: {'met' if wanted['met'] else 'NOT MET'}, it is {reached} at this clock"


def build_table(report: dict[str, Any]) -> Table:
    """Lay out a report, as in ``report.json``."""
    accuracy, performance, choice = report["accuracy"], report["performance"], report["choice"]
    implementation = report["implementation"]
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    if accuracy["metric"]:
        table.add_row(accuracy["metric"], f"float {accuracy['float_model']:.6g}, bit-true "
                      f"{accuracy['bit_true']:.6g} ({accuracy['sequences']} sequences)")
    table.add_row("bit-true against float", f"largest difference "
                  f"{accuracy['largest_difference']:.3g}, mean squared "
                  f"{accuracy['mean_squared_difference']:.3g}")
    saturated = {name: count for name, count in accuracy["saturated"].items() if count}
    table.add_row("saturations", ", ".join(f"{name} {count}" for name, count in saturated.items())
                  or "none")
    streams = performance["streams"]
    table.add_row("cycles", f"{performance['cycles_per_step']} a "
                  f"{'step' if streams == 1 else f'round of {streams} streams'}, "
                  f"{performance['cycles_per_sequence']:.0f} a sequence of "
                  f"{performance['mean_steps']:.1f} steps (mean)")
    table.add_row("clock", _clock(implementation) if implementation else
                  f"{choice['mhz']:g} MHz, as it was chosen for; it is not placed and routed")
    table.add_row("latency", f"{performance['latency_us']:.1f} us a sequence, "
                  f"{performance['step_ns']:.0f} ns a step")
    table.add_row("throughput", f"{performance['sequences_per_second']:.0f} sequences, "
                  f"{performance['steps_per_second']:.0f} steps a second")
    wanted = choice["wanted"]
    if wanted is not None:
        table.add_row("wanted", wanted_text(wanted))
    table.add_row("area", _area(implementation["harness"]) if implementation else
                  f"{choice['multipliers']} multipliers, about {choice['memories']} block RAMs")
    return table


def _clock(implementation: dict[str, Any]) -> str:
    figures = implementation["harness"]
    placements = ", ".join(f"{mhz:.1f}" for mhz in figures["fmax_seeds_mhz"].values())
    text = f"{figures['fmax_mhz']:.1f} MHz on {figures['device']}, the median of {placements}"
    timed = find(implementation["board"]).timed_mhz
    if figures["fmax_mhz"] > timed:
        text += f"; above {timed:g} MHz, nextpnr leaves out ways inside of blocks"
    return text


def _area(figures: dict[str, Any]) -> str:
    return ", ".join(
        f"{figures[name]['used']} {text} ({figures[name]['used'] / figures[name]['available']:.1%})"
        for name, text in (("lut", "LUT"), ("ff", "FF"), ("dsp", "DSP"), ("bram", "block RAM")))
