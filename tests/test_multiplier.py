from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Shape, signed, unsigned

from fpga.tools import ToolError
from hdl.multiplier import Multiplier
from tests.primitives import ECP5, differs, pipelined, prove, write_verilog

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


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("shapes", [*SHAPES, (signed(20), unsigned(25))], ids=name)
def test_product(shapes: tuple[Shape, Shape], seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = [(a, b) for a in bounds(shapes[0]) for b in bounds(shapes[1])]
    random = [rng.integers(low, high + 1, 200).tolist() for low, high in map(bounds, shapes)]
    operands = corners + list(zip(*random, strict=True))
    assert products(Multiplier(*shapes), operands) == [a * b for a, b in operands]


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


@pytest.mark.parametrize(("old", "new"), [
    (".A3(a[3])", ".A3(a[4])"),
    (".SIGNEDB(1'h0)", ".SIGNEDB(1'h1)"),
])
def test_the_proof_finds_a_fault(old: str, new: str, tmp_path: Path) -> None:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    shapes = signed(9), unsigned(18)
    assert differs(Multiplier(*shapes), Multiplier(*shapes), tmp_path, change=change)


@pytest.mark.parametrize(("old", "new"), [
    ('.REG_PIPELINE_CLK("NONE")', '.REG_PIPELINE_CLK("CLK0")'),
    ('.GSR("DISABLED"),\n', ""),
])
def test_other_modes_have_no_model(old: str, new: str, tmp_path: Path) -> None:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    shapes = signed(9), unsigned(18)
    with pytest.raises(ToolError):
        prove(Multiplier(*shapes), Multiplier(*shapes), tmp_path, change=change)
    assert ("MULT18X18D is modelled with operand and output registers on CLK0 alone"
            in (tmp_path / "yosys.log").read_text())


@pytest.mark.parametrize("shapes", [(signed(19), signed(2)), (unsigned(2), unsigned(19))],
                         ids=name)
def test_too_wide_for_the_block(shapes: tuple[Shape, Shape], tmp_path: Path) -> None:
    text = write_verilog(Multiplier(*shapes), tmp_path / "top.v", platform=ECP5)
    assert text == write_verilog(Multiplier(*shapes), tmp_path / "top.v")


@pytest.mark.parametrize("shapes", [(unsigned(0), signed(2)), (signed(2), unsigned(0))], ids=name)
def test_no_bits(shapes: tuple[Shape, Shape]) -> None:
    which = "a" if shapes[0].width == 0 else "b"
    with pytest.raises(ValueError, match=rf"^multiplier operand {which} must have at least one "
                                         r"bit, not unsigned\(0\)$"):
        Multiplier(*shapes)
