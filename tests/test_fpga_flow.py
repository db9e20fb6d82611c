# amaranth: UnusedElaboratable=no
"""From Verilog to a bitstream, with the real tools, on the stand-in."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.back import verilog

from fpga.boards import Board, find
from fpga.flow import Implementation, implement
from fpga.report import FitError
from fpga.stored import Beat, Stored
from fpga.tools import ToolError
from tests.test_fpga_standin import StandIn, packed

BOARD = find("ulx3s-85f")


def arguments(core: StandIn, lengths: tuple[int, ...], *, board: Board = BOARD) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    sequences = [rng.integers(-2**15, 2**15, (n, 2)) for n in lengths]
    return {
        "verilog": verilog.convert(core, name="standin", strip_internal_attrs=True),
        "module": "standin", "board": board,
        "stored": Stored(stimulus=packed(sequences), timeout=1000,
                         expected=[Beat(core.compute(x), True) for x in sequences]),
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Implementation, Path, list[str]]:
    core = StandIn(np.random.default_rng(0).integers(-2**15, 2**15, (512, 2)))
    folder = tmp_path_factory.mktemp("fpga")
    lines: list[str] = []
    result = implement(core.signature, **arguments(core, (200, 200, 1)), folder=folder, seeds=(1,),
                       progress=lines.append)
    return result, folder, lines


def test_figures(built: tuple[Implementation, Path, list[str]]) -> None:
    result, folder, _ = built
    for figures in (result.harness, result.selftest):
        assert figures.dsp.used == 2
        assert figures.lut.available == BOARD.lut.available
        assert figures.dsp.available == BOARD.dsp.available
        assert 0 < figures.lut.used < 600
    # The weights take one block, the 401 words of the stimulus another one.
    assert result.harness.bram.used == 1
    assert result.selftest.bram.used >= 2
    assert result.harness.target_mhz == 250
    assert result.selftest.target_mhz == 25
    assert result.selftest.fmax_mhz > 25
    content = json.loads(json.dumps(result.as_dict()))
    assert content["bitstream"] == "selftest.bit"
    assert set(content["tools"]) == {"yosys", "nextpnr-ecp5", "ecppack"}
    # The netlist names the Yosys that wrote it.
    creator = json.loads((folder / "harness" / "harness.json").read_text())["creator"]
    assert creator.startswith(f"Yosys {content['tools']['yosys']} ")
    for version in content["tools"].values():
        assert version[0].isdigit()
        assert " " not in version


def test_bitstream(built: tuple[Implementation, Path, list[str]]) -> None:
    result, _, _ = built
    # The comment and the preamble that open every ECP5 bitstream (Lattice FPGA-TN-02039).
    start = result.bitstream.read_bytes()[:4096]
    assert start.startswith(b"\xff\x00")
    assert b"\xff\xff\xbd\xb3" in start
    assert b"LFE5U-85F" in start


def test_harness_keeps_every_port(built: tuple[Implementation, Path, list[str]]) -> None:
    _, folder, _ = built
    netlist = json.loads((folder / "harness" / "harness.json").read_text())
    module = netlist["modules"]["harness"]
    driven = {bit for cell in module["cells"].values() if cell["type"] == "TRELLIS_FF"
              for bit in cell["connections"]["Q"]}
    outputs = module["netnames"]["harness.keeper"]["bits"]
    assert len(outputs) == 1 + 32 + 1 + 1 + 2 + 1
    assert driven.issuperset(outputs)
    # The scan goes from register to register, without a condition, through every input.
    scanned = [cell["connections"] for cell in module["cells"].values()
               if cell["type"] == "TRELLIS_FF" and "CE" not in cell["connections"]]
    (bit,) = module["netnames"]["harness.scan"]["bits"]
    length = 0
    while following := [cell["Q"][0] for cell in scanned if cell["DI"] == [bit]]:
        (bit,) = following
        length += 1
    assert length == 32 + 1 + 1 + 1 + 1


def test_the_given_verilog_is_what_is_synthesised(
        built: tuple[Implementation, Path, list[str]]) -> None:
    _, folder, _ = built
    texts = [(folder / top / "standin.v").read_text() for top in ("harness", "selftest")]
    assert texts[0] == texts[1]
    for top in ("harness", "selftest"):
        assert "read_verilog  standin.v" in (folder / top / f"{top}.ys").read_text()


def test_progress(built: tuple[Implementation, Path, list[str]]) -> None:
    result, _, lines = built
    steps = {"harness synthesis", "harness routing, seed 1", "selftest synthesis",
             "selftest routing, seed 1", "selftest packing"}
    assert set(result.seconds) == steps
    ended = Counter(line.split(":")[0] for line in lines if not line.endswith("so far"))
    assert ended == Counter(steps)


@pytest.mark.slow
def test_ice40(tmp_path: Path) -> None:
    """The other family's tools, to a bitstream; two products in lookup tables."""
    board = find("icebreaker")
    core = StandIn(np.random.default_rng(0).integers(-2**15, 2**15, (256, 2)))
    result = implement(core.signature, **arguments(core, (100, 1), board=board), folder=tmp_path,
                       seeds=(1, 2), progress=lambda line: None)
    for figures in (result.harness, result.selftest):
        assert figures.device == "iCE40UP5K-SG48"
        assert figures.dsp.used == 0
        assert 500 < figures.lut.used < 2500
        # The flip-flops are Yosys' own count, and each takes a logic cell.
        assert 100 < figures.ff.used < figures.lut.used
    # The weights take two blocks of 16 bits.
    assert result.harness.bram.used == 2
    assert result.selftest.bram.used > 2
    assert set(result.harness.fmax_seeds_mhz) == {1, 2}
    assert result.harness.target_mhz == 250
    assert result.selftest.target_mhz == pytest.approx(12, rel=1e-4)
    assert set(result.tools) == {"yosys", "nextpnr-ice40"}
    assert result.bitstream.name == "selftest.bin"
    # The preamble of every iCE40 bitstream (Lattice FPGA-TN-02001).
    assert b"\x7e\xaa\x99\x7e" in result.bitstream.read_bytes()[:64]
    # Of the harness only figures are wanted, and only the first seed makes a bitstream.
    assert [path.name for path in tmp_path.rglob("*.bin")] == ["selftest.bin"]


def test_too_big_is_one_sentence(tmp_path: Path) -> None:
    """More multipliers than the device has: told after synthesis, before placement begins."""
    core = StandIn([[1, 1]])
    given = arguments(core, (1,))
    multipliers = "".join(f"  (* keep *) MULT18X18D too_many_{n} ();\n" for n in range(157))
    given["verilog"] = (
        "module standin(input clk, input rst, input [31:0] s_axis_tdata, input s_axis_tvalid,\n"
        "  output s_axis_tready, input s_axis_tlast, output [31:0] m_axis_tdata,\n"
        "  output m_axis_tvalid, input m_axis_tready, output m_axis_tlast,\n"
        "  output [1:0] saturated, output malformed);\n" + multipliers + "endmodule\n")
    with pytest.raises(FitError, match=r"^the design does not fit: it needs 157 DSP "
                                       r"\(MULT18X18D\), of which ulx3s-85f has 156$"):
        implement(core.signature, **given, folder=tmp_path, seeds=(1,), progress=lambda line: None)
    assert not list(tmp_path.rglob("*.config"))


def test_verilog_that_is_none(tmp_path: Path) -> None:
    core = StandIn([[1, 1]])
    given = arguments(core, (1,)) | {"verilog": "modul standin;"}
    with pytest.raises(ToolError, match=r"^yosys failed: .*; its log is .*synthesis\.log$"):
        implement(core.signature, **given, folder=tmp_path, seeds=(1,), progress=lambda line: None)


def test_seeds_are_checked(tmp_path: Path) -> None:
    core = StandIn([[1, 1]])
    for seeds in ((), (1, 1)):
        with pytest.raises(ValueError, match="seeds must be one at least, each once"):
            implement(core.signature, **arguments(core, (1,)), folder=tmp_path, seeds=seeds)
