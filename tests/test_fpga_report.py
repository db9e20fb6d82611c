"""Figures from the tools' reports."""

import json
from pathlib import Path
from typing import Any

import pytest

from fpga.boards import find
from fpga.report import FitError, ReportError, Usage, check_fit, read_figures

BOARD = find("ulx3s-85f")


def report(fmax: float, **used: int) -> dict[str, Any]:
    counts = {"TRELLIS_COMB": 100, "TRELLIS_FF": 50, "MULT18X18D": 3, "DP16KD": 4} | used
    available = {resource.cell: resource.available for resource in BOARD.resources}
    return {
        "fmax": {"$glbnet$clk": {"achieved": fmax, "constraint": 200.0}},
        "utilization": {cell: {"used": count, "available": available[cell]}
                        for cell, count in counts.items()},
    }


def written(folder: Path, content: Any, name: str = "report.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_median_of_the_seeds_and_area_of_the_first(tmp_path: Path) -> None:
    paths = {seed: written(tmp_path, report(fmax, TRELLIS_COMB=100 + seed), f"{seed}.json")
             for seed, fmax in ((5, 90.0), (2, 110.0), (3, 97.5))}
    figures = read_figures(paths, board=BOARD, synthesized=tmp_path / "none", registers=7)
    assert figures.fmax_mhz == 97.5
    assert figures.fmax_seeds_mhz == {5: 90.0, 2: 110.0, 3: 97.5}
    assert figures.lut == Usage(105, 83640)
    assert figures.ff == Usage(50, 83640)
    assert figures.dsp == Usage(3, 156)
    assert figures.bram == Usage(4, 208)
    assert (figures.device, figures.registers, figures.target_mhz) == ("LFE5U-85F-6BG381", 7, 200)
    assert json.loads(json.dumps(figures.as_dict()))["lut"] == {"used": 105, "available": 83640}


def test_flip_flops_of_an_ice40_are_those_of_yosys(tmp_path: Path) -> None:
    """A logic cell of nextpnr's may hold a lookup table, a flip-flop or both."""
    board = find("icebreaker")
    used = {"ICESTORM_LC": 1836, "ICESTORM_RAM": 15, "ICESTORM_DSP": 7}
    path = written(tmp_path, {
        "fmax": {"clk": {"achieved": 32.1, "constraint": 200.0}},
        "utilization": {cell: {"used": count, "available": resource.available}
                        for resource in board.resources
                        for cell, count in used.items() if cell == resource.cell}})
    stat = written(tmp_path, {"design": {"num_cells_by_type": {
        "SB_LUT4": 1500, "SB_DFF": 21, "SB_DFFESR": 1200, "SB_MAC16": 7}}}, "stat.json")
    figures = read_figures({1: path}, board=board, synthesized=stat)
    assert figures.lut == Usage(1836, 5280)
    assert figures.ff == Usage(1221, 5280)
    assert figures.dsp == Usage(7, 8)
    assert figures.bram == Usage(15, 30)
    assert figures.device == "iCE40UP5K-SG48"


def test_report_must_be_there_and_whole(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"missing\.json must be a JSON file that can be read"):
        read_figures({1: tmp_path / "missing.json"}, board=BOARD, synthesized=tmp_path / "none")
    for broken in ("{", "[]", "null"):
        path = tmp_path / "broken.json"
        path.write_text(broken)
        with pytest.raises(ReportError, match=r"broken\.json must be"):
            read_figures({1: path}, board=BOARD, synthesized=tmp_path / "none")
    content = report(100)
    del content["utilization"]["DP16KD"]
    with pytest.raises(ReportError, match=r"must tell how many DP16KD are used"):
        read_figures({1: written(tmp_path, content)}, board=BOARD, synthesized=tmp_path / "none")


@pytest.mark.parametrize(("clocks", "said"), [([], "not 0: no register is timed"),
                                               (["b", "a"], "not 2: a, b")])
def test_one_clock_exactly(tmp_path: Path, clocks: list[str], said: str) -> None:
    content = report(100)
    content["fmax"] = {clock: {"achieved": 1, "constraint": 1} for clock in clocks}
    with pytest.raises(ReportError, match=f"^the design must have exactly one clock, {said}$"):
        read_figures({1: written(tmp_path, content)}, board=BOARD, synthesized=tmp_path / "none")


def test_fit_of_the_weights() -> None:
    """Refused only beyond all block RAMs and all lookup tables together."""
    most = 208 * 18432 + 83640 * 16
    check_fit(BOARD, weight_bits=most)
    with pytest.raises(FitError, match=r"^the design does not fit: its weights alone need 281 "
                                       r"block RAM \(DP16KD\), but ulx3s-85f has 208$"):
        check_fit(BOARD, weight_bits=most + 1)
    # What no folding can help comes first.
    with pytest.raises(FitError, match=r"its weights alone need 1000 block RAM"):
        check_fit(BOARD, weight_bits=1000 * 18432, multipliers=157)
    with pytest.raises(FitError, match=r"its weights alone need 1001 block RAM"):
        check_fit(BOARD, weight_bits=1000 * 18432 + 1)


def test_fit_after_synthesis(tmp_path: Path) -> None:
    def stat(**cells: int) -> Path:
        return written(tmp_path, {"design": {"num_cells_by_type": cells}})

    check_fit(BOARD, synthesized=stat(MULT18X18D=156, DP16KD=200, PDPW16KD=8, LUT4=83640))
    with pytest.raises(FitError, match=r"^the design does not fit: it needs 157 DSP \(MULT18X18D\),"
                                       r" of which ulx3s-85f has 156$"):
        check_fit(BOARD, synthesized=stat(MULT18X18D=157))
    with pytest.raises(FitError, match=r"^the design does not fit: it needs 83642 LUT "
                                       r"\(TRELLIS_COMB\), of which ulx3s-85f has 83640, and 209 "
                                       r"block RAM \(DP16KD\), of which ulx3s-85f has 208$"):
        check_fit(BOARD, synthesized=stat(LUT4=83640, CCU2C=1, DP16KD=200, PDPW16KD=9))


def test_fit_after_packing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    check_fit(BOARD, routed=log)
    lines = "Info: \t          MULT18X18D:     {}/    156     {}%\n"
    log.write_text("Info: Device utilisation:\n" + lines.format(156, 100))
    check_fit(BOARD, routed=log)
    log.write_text("Info: Device utilisation:\n" + lines.format(160, 102))
    with pytest.raises(FitError, match=r"it needs 160 DSP \(MULT18X18D\)"):
        check_fit(BOARD, routed=log)


def test_fit_of_logic_cells_after_packing(tmp_path: Path) -> None:
    """Named once, though a logic cell is a lookup table and a flip-flop."""
    log = tmp_path / "log"
    log.write_text("Info: \t         ICESTORM_LC:    5281/   5280   100%\n")
    with pytest.raises(FitError, match=r"needs 5281 LUT \(ICESTORM_LC\), of which icebreaker has "
                                       r"5280$"):
        check_fit(find("icebreaker"), routed=log)
