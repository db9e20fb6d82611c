import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hdl.cycles import SHALLOW
from hdl.ram import RAM
from tests.primitives import ECP5, MODELS, run_verilator, write_verilog

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
    """Writes a memory and reads it at places that look random, but never at the same at a time."""

    o: Out(32)

    def __init__(self, depth: int, width: int):
        self._ram = RAM(shape=signed(width), depth=depth, latency=2)
        self._depth = depth
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.ram = ram = self._ram
        # Multiplying by an odd number and adding another goes through all 2**32 of them.
        state = Signal(32, init=1)
        m.d.sync += state.eq(state * 1664525 + 1013904223)
        places = 1 << (self._depth - 1).bit_length()
        place, other = (Signal(range(places)) for _ in range(2))
        m.d.comb += [
            place.eq(state[20:]),
            other.eq(state[9:]),
            ram.write_en.eq(state[31] & (place < self._depth)),
            ram.write_addr.eq(Mux(place < self._depth, place, 0)),
            ram.write_data.eq(state ^ (state << 7)),
            ram.read_addr.eq(Mux(other < self._depth, other, 0)),
        ]
        # What is read where it is written is nothing to rely on.
        apart: Any = ~(ram.write_en & (ram.write_addr == ram.read_addr))
        for _ in range(2):
            late = Signal()
            m.d.sync += late.eq(apart)
            apart = late
        m.d.comb += self.o.eq(Mux(apart, ram.read_data.as_unsigned(), Const(0)))
        return m


@pytest.mark.parametrize(("depth", "width", "blocks"), DEEP)
def test_on_an_ecp5(depth: int, width: int, blocks: int, tmp_path: Path) -> None:
    """The blocks give what the portable description gives."""
    seen = []
    for name, platform in (("theirs", None), ("ours", ECP5)):
        folder = tmp_path / name
        folder.mkdir()
        text = write_verilog(_Exercise(depth, width), folder / "top.v", platform=platform)
        assert len(re.findall(r"\bDP16KD #", text)) == (blocks if platform else 0)
        seen.append(run_verilator([folder / "top.v", MODELS], folder, edges=1 << 16))
    assert (seen[0] == seen[1]).all()
    assert len(set(seen[0].tolist())) >= min(depth, 1 << width) // 2


@pytest.mark.parametrize(("depth", "latency"), [(SHALLOW, 2), (100, 1), (2049, 2)])
def test_left_to_the_tool(depth: int, latency: int, tmp_path: Path) -> None:
    text = write_verilog(RAM(shape=signed(16), depth=depth, latency=latency), tmp_path / "top.v",
                         platform=ECP5)
    assert "DP16KD" not in text


def test_wrong_latency() -> None:
    with pytest.raises(ValueError, match=r"^RAM latency must be 1 or 2, not 3$"):
        RAM(shape=signed(3), depth=4, latency=3)
