import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth.hdl import Const, Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hdl.registers import COPY_VERILOG, Copy, delayed
from tests.primitives import run_yosys, write_verilog


class Twins(wiring.Component):
    """Two copies of one input, and the input two cycles later."""

    a: In(8)
    p: Out(8)
    q: Out(8)
    late: Out(8)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for name, output in (("one", self.p), ("other", self.q)):
            m.submodules[name] = copy = Copy(unsigned(8))
            m.d.comb += [copy.d.eq(self.a), output.eq(copy.q)]
        m.d.comb += self.late.eq(delayed(m, self.a, 2))
        return m


def test_latency() -> None:
    dut = Twins()
    values = [3, 200, 0, 7, 255, 1, 9]
    seen = []

    async def bench(ctx):
        for value in values:
            ctx.set(dut.a, value)
            await ctx.tick()
            seen.append((ctx.get(dut.p), ctx.get(dut.q), ctx.get(dut.late)))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert [p for p, _, _ in seen] == [q for _, q, _ in seen] == values
    assert [late for _, _, late in seen[1:]] == values[:-1]


def test_a_constant_has_no_register() -> None:
    constant = Const(5, 8)
    assert delayed(Module(), constant, 3) is constant
    value = Signal(8)
    assert delayed(Module(), value, 0) is value


@pytest.mark.parametrize(("synthesis", "register"), [
    ("synth_ecp5", "TRELLIS_FF"), ("synth_ice40", "SB_DFF"),
    pytest.param("synth_xilinx -family xc7 -flatten", "FDRE", marks=pytest.mark.slow)])
def test_copies_stay(synthesis: str, register: str, tmp_path: Path) -> None:
    """Synthesis merges the plain registers with the same input, but not the copies."""
    path = tmp_path / "twins.v"
    path.write_text(write_verilog(Twins(), path, platform=SimpleNamespace(family=None))
                    + COPY_VERILOG)
    run_yosys(f"read_verilog {path.name}; {synthesis} -top twins; "
              "tee -q -o stat.json stat -json", tmp_path)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    # Two copies, and the two in a row.
    assert cells[register] == 8 * (2 + 2)
