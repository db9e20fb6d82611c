import numpy as np
import pytest
from amaranth.sim import Simulator

from golden.activation import SigmoidTable, tail_integer_bits
from golden.fixed import SQ, UQ
from hdl.table import TableUnit

TABLES = {
    "4 bits": SigmoidTable(z=SQ(3, 3), gate=UQ(1, 3), tanh=SQ(2, 2)),
    "8 bits": SigmoidTable(z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6)),
    "tanh as fine as the sigmoid": SigmoidTable(z=SQ(5, 5), gate=UQ(1, 8), tanh=SQ(2, 8)),
    "tanh much coarser": SigmoidTable(z=SQ(5, 5), gate=UQ(1, 9), tanh=SQ(2, 5)),
    "a segment for each code": SigmoidTable(z=SQ(5, 1), gate=UQ(1, 9), tanh=SQ(2, 8)),
    "12 bits": SigmoidTable(z=SQ(5, 7), gate=UQ(1, 11), tanh=SQ(2, 10)),
}


def evaluate(unit: TableUnit, arguments: list[tuple[int, int]]) -> list[int]:
    """Results for (code, tanh) pairs fed one a cycle."""
    seen = []

    async def bench(ctx):
        for cycle in range(len(arguments) + unit.latency):
            if cycle < len(arguments):
                code, tanh = arguments[cycle]
                ctx.set(unit.z, code)
                ctx.set(unit.tanh, tanh)
            if cycle >= unit.latency:
                seen.append(ctx.get(unit.o))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


@pytest.mark.parametrize("name", TABLES)
def test_every_code(name: str) -> None:
    """Both functions of every code, one a cycle, at the stated latency."""
    table = TABLES[name]
    codes = np.arange(table.z.min, table.z.max + 1)
    seen = evaluate(TableUnit(table), [(int(code), tanh) for tanh in (0, 1) for code in codes])
    assert seen == table.sigmoid(codes).tolist() + table.tanh_of(codes).tolist()


@pytest.mark.parametrize("seed", [0])
def test_mixed_at_16_bits(seed: int) -> None:
    """Sigmoid and tanh in turn: the choice travels with its argument."""
    table = SigmoidTable(z=SQ(tail_integer_bits(15), 15), gate=UQ(1, 15), tanh=SQ(2, 14))
    rng = np.random.default_rng(seed)
    codes = np.concatenate([[table.z.min, table.z.min + 1, -1, 0, 1, table.z.max],
                            rng.integers(table.z.min, table.z.max + 1, 3000)])
    tanh = rng.integers(0, 2, len(codes))
    seen = evaluate(TableUnit(table), list(zip(codes.tolist(), tanh.tolist(), strict=True)))
    assert seen == np.where(tanh, table.tanh_of(codes), table.sigmoid(codes)).tolist()
