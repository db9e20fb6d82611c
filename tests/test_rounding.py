import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from golden.fixed import SQ, UQ, Format
from golden.fixed import round_saturate as golden_round_saturate
from hdl.rounding import round_saturate

WIDTH = 9


@pytest.mark.parametrize("to", [SQ(3, 2), SQ(2, 5), SQ(1, 1), SQ(8, 1), SQ(3, 9), UQ(2, 3),
                                SQ(9, -4), SQ(12, -9), SQ(12, -10)], ids=str)
@pytest.mark.parametrize("f", [0, 5])
def test_every_code(to: Format, f: int) -> None:
    """All 9-bit codes: what is rounded down, up, to even, and what saturates on either side."""
    m = Module()
    value = Signal(signed(WIDTH))
    overflow = Signal()
    code = Signal(signed(to.width) if to.signed else to.width)
    result, outside = round_saturate(value, f, to)
    m.d.comb += [code.eq(result), overflow.eq(outside)]
    codes = np.arange(-(1 << WIDTH - 1), 1 << WIDTH - 1)
    expected, count = golden_round_saturate(codes, f, to)
    seen, saturated = [], 0

    async def bench(ctx):
        nonlocal saturated
        for number in codes:
            ctx.set(value, int(number))
            seen.append(ctx.get(code))
            saturated += ctx.get(overflow)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == expected.tolist()
    assert saturated == count
