import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hdl.column_cycles import SHALLOW
from hdl.ram import RAM
from hdl.registers import delayed
from tests.cases import sparse
from tests.primitives import ECP5, MODELS, differs, prove, run_verilator, write_verilog

# Words, bits of a word, and the blocks of an ECP5 that they take.
DEEP = [(65, 16, 1), (128, 18, 1), (1024, 19, 2), (1000, 36, 2), (2048, 16, 2), (1025, 9, 1),
        (2048, 20, 3)]


@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize(("depth", "width"), [(1, 3), (5, 8), (64, 16), (100, 5)])
def test_words(depth: int, width: int, latency: int) -> None:
    """Each word from the cycle after it was written on, read and written at random."""
    dut = RAM(shape=signed(width), depth=depth, latency=latency)
    rng = np.random.default_rng(depth)
    held: dict[int, int] = {}
    read: list[int | None] = []

    async def bench(ctx):
        for _ in range(6 * depth + 20):
            place, word = int(rng.integers(depth)), int(rng.integers(-1 << width - 1,
                                                                     1 << width - 1))
            write, address = bool(rng.integers(2)), int(rng.integers(depth))
            ctx.set(dut.write_en, write)
            ctx.set(dut.write_addr, place)
            ctx.set(dut.write_data, word)
            ctx.set(dut.read_addr, address)
            read.append(None if write and place == address else held.get(address))
            if write:
                held[place] = word
            await ctx.tick()
            if len(read) >= latency and (wanted := read[-latency]) is not None:
                assert ctx.get(dut.read_data) == wanted

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(held) > depth // 2


class _Exercise(wiring.Component):
    """Writes memories and reads them at places that look random.

    What they give is in the output, from a bit of its own for each, modulo 32, on.
    """

    o: Out(32)

    def __init__(self, sizes: list[tuple[int, int]]):
        self._rams = [RAM(shape=signed(width), depth=depth, latency=2) for depth, width in sizes]
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # Multiplying by an odd number and adding another goes through all 2**32 of them.
        state = Signal(32, init=1)
        m.d.sync += state.eq(state * 1664525 + 1013904223)
        output: Value = Const(0, 32)
        for n, ram in enumerate(self._rams):
            m.submodules[f"ram{n}"] = ram
            depth = ram.depth
            places = 1 << (depth - 1).bit_length()
            place, other = (Signal(range(places), name=f"{name}{n}") for name in ("place", "other"))
            word = Signal(32, name=f"word{n}")
            m.d.comb += [
                place.eq(state[20:]),
                other.eq(state[9:]),
                ram.write_en.eq(state[31] & (place < depth)),
                ram.write_addr.eq(Mux(place < depth, place, 0)),
                ram.write_data.eq(Cat(state, state).rotate_left(n) ^ (state << 7)),
                ram.read_addr.eq(Mux(other < depth, other, 0)),
                word.eq(reliable(m, ram)),
            ]
            output ^= word.rotate_left(5 * n)
        m.d.comb += self.o.eq(output)
        return m


def reliable(m: Module, ram: RAM) -> Value:
    """What is read, but for what is read where it is being written."""
    apart = ~(ram.write_en & (ram.write_addr == ram.read_addr))
    return Mux(delayed(m, apart, 2), ram.read_data.as_unsigned(), 0)


@pytest.mark.slow
def test_on_an_ecp5(tmp_path: Path) -> None:
    """The blocks give what the portable description gives."""
    sizes = [(depth, width) for depth, width, _ in DEEP]
    seen = []
    for name, platform in (("theirs", None), ("ours", ECP5)):
        folder = tmp_path / name
        folder.mkdir()
        write_verilog(_Exercise(sizes), folder / "top.v", platform=platform)
        seen.append(run_verilator([folder / "top.v", MODELS], folder, edges=1 << 16))
    assert (seen[0] == seen[1]).all()
    assert len(set(seen[0].tolist())) > 1 << 15


@pytest.mark.parametrize(("depth", "width", "blocks"), DEEP)
def test_blocks(depth: int, width: int, blocks: int, tmp_path: Path) -> None:
    text = write_verilog(RAM(shape=signed(width), depth=depth, latency=2), tmp_path / "top.v",
                         platform=ECP5)
    assert len(re.findall(r"\bDP16KD #", text)) == blocks


class _Guarded(wiring.Component):
    """A memory that is neither read nor written beyond its last word."""

    def __init__(self, depth: int, width: int):
        self._ram = RAM(shape=signed(width), depth=depth, latency=2)
        self._depth = depth
        super().__init__({"enable": In(1), "place": In(range(depth)), "other": In(range(depth)),
                          "word": In(width), "o": Out(width)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.ram = ram = self._ram
        exists = self.other < self._depth
        m.d.comb += [
            ram.write_en.eq(self.enable & (self.place < self._depth)),
            ram.write_addr.eq(self.place),
            ram.write_data.eq(self.word),
            ram.read_addr.eq(self.other),
            self.o.eq(Mux(delayed(m, exists, 2), reliable(m, ram), 0)),
        ]
        return m


PROVEN = 65, 2
# Each word of the portable memory, and where the block has it: 18 bits in a row.
WORDS = [(f"ram.store[{n}]", f"ram.block0.rows[{n}][{PROVEN[1] - 1}:0]") for n in range(PROVEN[0])]


def test_ecp5_equals_portable(tmp_path: Path) -> None:
    """For every input, from any contents on."""
    prove(_Guarded(*PROVEN), _Guarded(*PROVEN), tmp_path, equal=WORDS)


@pytest.mark.parametrize("faults", sparse([
    {".WEA(write_en)": ".WEA(1'h1)"}, {".DIA0(write_data[0])": ".DIA0(write_data[1])"},
    {".ADB4(read_addr[0])": ".ADB4(read_addr[1])", ".ADB5(read_addr[1])": ".ADB5(read_addr[0])"}],
    every=2))
def test_the_proof_finds_a_fault(faults: dict[str, str], tmp_path: Path) -> None:
    def change(text: str) -> str:
        for old, new in faults.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        return text

    assert differs(_Guarded(*PROVEN), _Guarded(*PROVEN), tmp_path, equal=WORDS, change=change)


@pytest.mark.parametrize(("depth", "latency"), [(SHALLOW, 2), (100, 1), (2049, 2)])
def test_left_to_the_tool(depth: int, latency: int, tmp_path: Path) -> None:
    text = write_verilog(RAM(shape=signed(16), depth=depth, latency=latency), tmp_path / "top.v",
                         platform=ECP5)
    assert "DP16KD" not in text


def test_wrong_latency() -> None:
    with pytest.raises(ValueError, match=r"^RAM latency must be 1 or 2, not 3$"):
        RAM(shape=signed(3), depth=4, latency=3)
