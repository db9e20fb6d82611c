import json
import re
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from fpga.boards import find
from fpga.tools import ToolError
from hdl.rom import ROM
from tests.cases import sparse
from tests.primitives import (
    ECP5,
    MODELS,
    differs,
    pipelined,
    prove,
    run_verilator,
    run_yosys,
    write_verilog,
)


def contents(words: int, width: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int.from_bytes(rng.bytes(-(-width // 8)), "little") & (1 << width) - 1
            for _ in range(words)]


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
@pytest.mark.parametrize(("words", "width", "ports", "blocks"), sparse([
    (64, 14, 2, 1), (1, 21, 1, 1), (1, 21, 2, 2), (512, 37, 1, 2), (1024, 1, 1, 1),
    (1025, 2, 2, 1), (2049, 3, 1, 1)], every=4))
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
    assert ("DP16KD is modelled with two ports of 18, 9, 4, 2 or 1 bits and output"
            in (tmp_path / "yosys.log").read_text())


# Words, width, ports; banks and blocks.
DEEP = [(500, 30, 1, 1, 1), (2000, 10, 2, 1, 2), (4096, 4, 1, 1, 1), (5000, 5, 2, 1, 3),
        (16384, 1, 2, 1, 1), (1100, 18, 1, 1, 2), (3000, 17, 2, 3, 3), (16385, 3, 1, 5, 5),
        (25000, 2, 1, 2, 4)]


class _Reading(wiring.Component):
    """Walks through all addresses of several memories, up at one port and down at the other.

    All that they give is in the output, from bits of its own for each, modulo 32, on.
    """

    o: Out(32)

    def __init__(self, roms: list[ROM]):
        self._roms = roms
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = Signal(32)
        m.d.sync += count.eq(count + 1)
        outputs: Value = Const(0, 32)
        for n, rom in enumerate(self._roms):
            m.submodules += rom
            for port in range(rom.ports):
                m.d.comb += rom.addr[port].eq(~count if port else count)
                word = Signal(32)
                m.d.comb += word.eq(rom.data[port])
                outputs ^= word.rotate_left(turn(n, port))
        m.d.comb += self.o.eq(outputs)
        return m


def turn(n: int, port: int) -> int:
    return (7 * n + 11 * port) % 32


@pytest.mark.slow
def test_deep_ones_on_an_ecp5(tmp_path: Path) -> None:
    """Every word of every shape, and of several in banks; zeros beyond the last."""
    edges = 1 << 15
    roms, expected = [], np.zeros(edges, dtype=np.uint64)
    for n, (words, width, ports, _, _) in enumerate(DEEP):
        image = contents(words, width, n)
        roms.append(ROM(image, width=width, ports=ports))
        places = 1 << (words - 1).bit_length()
        full = np.array(image + [0] * (places - words), dtype=np.uint64)
        for port in range(ports):
            word = full[(-1 - np.arange(edges) if port else np.arange(edges)) % places]
            shift = np.uint64(turn(n, port))
            expected ^= (word << shift | word >> np.uint64(32) - shift) & np.uint64(2**32 - 1)
    write_verilog(_Reading(roms), tmp_path / "top.v", platform=ECP5)
    seen = run_verilator([tmp_path / "top.v", MODELS], tmp_path, edges=edges + ROM.latency)
    assert seen[ROM.latency:].tolist() == expected.tolist()


@pytest.mark.parametrize(("words", "width", "ports", "banks", "blocks"), DEEP)
def test_fewest_blocks(words: int, width: int, ports: int, banks: int, blocks: int,
                       tmp_path: Path) -> None:
    text = write_verilog(ROM(contents(words, width, 0), width=width, ports=ports),
                         tmp_path / "top.v", platform=ECP5)
    names = re.findall(r" block(\d+)_(\d+) \($", text, re.M)
    assert len(names) == len(set(names)) == text.count("DP16KD #") == blocks
    assert len({bank for bank, _ in names}) == banks
    # The choice between banks has two registers for each port, and there are no others.
    assert text.count("always @(posedge clk)") == (2 * ports if banks > 1 else 0)


def test_no_more_than_eight_banks(tmp_path: Path) -> None:
    """Ten banks of 1024 words would be the fewest blocks."""
    text = write_verilog(ROM(contents(10000, 18, 0), width=18, ports=1), tmp_path / "top.v",
                         platform=ECP5)
    assert text.count("DP16KD #") == 5 * 2


@pytest.mark.parametrize("width", [
    18, *(pytest.param(width, marks=pytest.mark.slow) for width in (9, 4, 2, 1))])
def test_yosys_lays_the_same_words_out_in_the_same_way(width: int, tmp_path: Path) -> None:
    """Its own block for the portable description has our parameters and our addresses."""
    depth = 1024 * (16 // width if width < 9 else 18 // width)
    image = contents(depth, width, 0)
    blocks = []
    for name, platform in (("theirs", None), ("ours", ECP5)):
        write_verilog(ROM(image, width=width, ports=2), tmp_path / "top.v", platform=platform)
        run_yosys(f"read_verilog top.v\nsynth_ecp5 -top top -run :map_ffs\n"
                  f"hierarchy -top top -purge_lib\nwrite_json {name}.json", tmp_path)
        module = json.loads((tmp_path / f"{name}.json").read_text())["modules"]["top"]
        (cell,) = (cell for cell in module["cells"].values() if cell["type"] == "DP16KD")
        # Theirs has the address ports in either order.
        ports = {name: module["ports"][name]["bits"] for name in ("addr", "data")}
        half = len(ports["addr"]) // 2
        given = {}
        for letter in "AB":
            bits = [cell["connections"][f"AD{letter}{n}"][0] for n in range(14)]
            which = ports["addr"].index(bits[-1]) // half
            given[which] = [ports["addr"].index(bit) - which * half if bit in ports["addr"]
                            else None for bit in bits]
        blocks.append((given, {name: int(value, 2) for name, value in cell["parameters"].items()
                               if name.startswith(("INITVAL", "DATA_WIDTH"))}))
    assert blocks[0] == blocks[1]
    assert len(blocks[0][1]) == 64 + 2
    assert blocks[0][1]["DATA_WIDTH_A"] == width


def test_wide_and_deep_is_quick(tmp_path: Path) -> None:
    """As many blocks as the largest board has: seconds, not minutes."""
    blocks = find("ulx3s-85f").bram.available
    width = blocks // 8 * 18
    image = contents(8192, width, 0)
    begin = process_time()
    text = write_verilog(ROM(image, width=width, ports=1), tmp_path / "top.v", platform=ECP5)
    assert text.count("DP16KD #") == blocks
    assert process_time() - begin < 60


@pytest.mark.parametrize("platform", [ECP5, None])
def test_lookup_tables_where_asked(platform: Any, tmp_path: Path) -> None:
    image = contents(64, 2, 0)
    text = write_verilog(ROM(image, width=2, ports=2, style="logic"), tmp_path / "top.v",
                         platform=platform)
    assert 'rom_style = "logic"' in text
    assert "DP16KD" not in text


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
