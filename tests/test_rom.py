import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpga.tools import ToolError
from hdl.rom import ROM
from tests.primitives import ECP5, differs, pipelined, prove, run_yosys, write_verilog


def contents(words: int, width: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int.from_bytes(rng.bytes(8), "little") & (1 << width) - 1 for _ in range(words)]


def read(dut: ROM, addresses: list[list[int]]) -> list[list[int]]:
    """Words at addresses given one per port and cycle, from the stated latency on."""

    def put(ctx, n):
        for port, address in enumerate(addresses[n]):
            ctx.set(dut.addr[port], address)

    return pipelined(dut, len(addresses), put,
                     lambda ctx, n: [ctx.get(dut.data[port]) for port in range(dut.ports)])


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("style", ["block", "logic"])
@pytest.mark.parametrize("ports", [1, 2])
@pytest.mark.parametrize(("words", "width"), [(64, 14), (100, 40), (2, 1), (1, 3)])
def test_words(words: int, width: int, ports: int, style: str, seed: int) -> None:
    """Every word at every port, the ports in different orders; beyond the last there are zeros."""
    rng = np.random.default_rng(seed)
    image = contents(words, width, seed)
    dut = ROM(image, width=width, ports=ports, style=style)
    places = 1 << (words - 1).bit_length()
    addresses = np.array([rng.permutation(places) for _ in range(ports)]).T.tolist()
    image += [0] * (places - words)
    assert read(dut, addresses) == [[image[address] for address in row] for row in addresses]


def test_numpy_integers() -> None:
    dut = ROM(list(np.arange(3, dtype=np.int16)), width=2, ports=1)
    assert dut.words == (0, 1, 2)
    assert read(dut, [[1], [2]]) == [[1], [2]]


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize(("words", "width", "ports", "blocks"), [
    (64, 14, 2, 1), (1, 21, 1, 2), (1024, 1, 1, 1)])
def test_ecp5_equals_portable(words: int, width: int, ports: int, blocks: int, seed: int,
                              tmp_path: Path) -> None:
    image = contents(words, width, seed)
    text = prove(ROM(image, width=width, ports=ports), ROM(image, width=width, ports=ports),
                 tmp_path)
    assert len(re.findall(r"\bDP16KD #", text)) == blocks
    assert "always" not in text


def test_the_proof_finds_a_wrong_word(tmp_path: Path) -> None:
    image = contents(64, 14, 0)
    wrong = [*image[:-1], image[-1] ^ 1 << 13]
    assert differs(ROM(image, width=14, ports=2), ROM(wrong, width=14, ports=2), tmp_path)


def test_other_modes_have_no_model(tmp_path: Path) -> None:
    def change(text: str) -> str:
        old = '.REGMODE_B("OUTREG")'
        assert old in text
        return text.replace(old, '.REGMODE_B("NOREG")')

    image = contents(4, 3, 0)
    with pytest.raises(ToolError):
        prove(ROM(image, width=3, ports=1), ROM(image, width=3, ports=1), tmp_path, change=change)
    assert ("DP16KD is modelled with two ports of 18 bits and output registers alone"
            in (tmp_path / "yosys.log").read_text())


@pytest.mark.parametrize(("words", "style"), [(1025, "block"), (64, "logic")])
def test_portable_on_an_ecp5(words: int, style: str, tmp_path: Path) -> None:
    """More words than the block has, and lookup tables: no instance."""
    image = contents(words, 2, 0)
    rom = [ROM(image, width=2, ports=2, style=style) for _ in range(2)]
    assert (write_verilog(rom[0], tmp_path / "top.v", platform=ECP5)
            == write_verilog(rom[1], tmp_path / "top.v"))


@pytest.mark.parametrize(("family", "style", "blocks"), [
    ("ecp5", "block", {"DP16KD": 1}), ("ecp5", "logic", {}),
    ("ice40", "block", {"SB_RAM40_4K": 2}), ("ice40", "logic", {}),
])
def test_yosys_does_as_asked(family: str, style: str, blocks: dict[str, int],
                             tmp_path: Path) -> None:
    """The portable description: too small for block RAM by Yosys's own measure, or too big."""
    words = 16 if style == "block" else 256
    write_verilog(ROM(contents(words, 14, 0), width=14, ports=2, style=style), tmp_path / "top.v")
    log = run_yosys(f"read_verilog top.v\nsynth_{family} -top top -run :map_ffs\nstat", tmp_path)
    cells = {cell: int(count) for count, cell in
             re.findall(r"^\s+(\d+)\s+(\S+)$", log[log.rindex("statistics"):], re.M)}
    assert {cell: count for cell, count in cells.items()
            if cell.startswith(("DP16KD", "PDPW16KD", "SB_RAM", "$mem"))} == blocks


@pytest.mark.parametrize(("change", "message"), [
    ({"words": []}, r"ROM must have at least one word"),
    ({"width": 0}, r"ROM width must be a positive integer, not 0"),
    ({"words": [3, 8]}, r"ROM word 1 must fit in 3 unsigned bits, not 8"),
    ({"words": [-1]}, r"ROM word 0 must fit in 3 unsigned bits, not -1"),
    ({"ports": 3}, r"ROM ports must be 1 or 2, not 3"),
    ({"style": "blocks"}, r"ROM style must be one of block, logic, not 'blocks'"),
])
def test_wrong_arguments(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"words": [1], "width": 3, "ports": 1} | change
    with pytest.raises(ValueError, match=f"^{message}$"):
        ROM(**arguments)
