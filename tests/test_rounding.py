from collections.abc import Callable

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, Value, signed
from amaranth.sim import Simulator

from golden.fixed import SQ, UQ, Format
from golden.fixed import round_saturate as golden_round_saturate
from hdl.rounding import floor_to_even, half, round_saturate, rounded, saturated

WIDTH = 9
CODES = np.arange(-(1 << WIDTH - 1), 1 << WIDTH - 1)
FORMATS = [SQ(3, 2), SQ(2, 5), SQ(1, 1), SQ(8, 1), SQ(3, 9), UQ(2, 3),
           SQ(9, -4), SQ(10, -8), SQ(12, -9), SQ(12, -10)]


def evaluate(codes: np.ndarray, outputs: Callable[[Value], tuple[Value, ...]]
             ) -> list[tuple[int, ...]]:
    """The outputs of combinational logic for each code of a signed value, ``WIDTH`` bits wide."""
    m = Module()
    value = Signal(signed(WIDTH))
    signals = [Signal.like(output) for output in outputs(value)]
    m.d.comb += [signal.eq(output)
                 for signal, output in zip(signals, outputs(value), strict=True)]
    seen = []

    async def bench(ctx):
        for code in codes.tolist():
            ctx.set(value, code)
            seen.append(tuple(ctx.get(signal) for signal in signals))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def expected(codes: np.ndarray, f: int, to: Format) -> list[tuple[int, bool]]:
    """Of each code golden's, and whether it saturated."""
    return [(int(one[0]), bool(count)) for one, count in (
        golden_round_saturate(codes[n:n + 1], f, to) for n in range(len(codes)))]


@pytest.mark.parametrize("to", FORMATS, ids=str)
@pytest.mark.parametrize("f", [0, 5])
def test_every_code(to: Format, f: int) -> None:
    """All 9-bit codes: what is rounded down, up, to even, and what saturates on either side."""
    seen = evaluate(CODES, lambda value: round_saturate(value, f, to))
    assert seen == expected(CODES, f, to)


@pytest.mark.parametrize("to", FORMATS, ids=str)
@pytest.mark.parametrize("f", [0, 5])
def test_every_total(to: Format, f: int) -> None:
    """The same without a carry chain, for all 9-bit totals that have the half in them."""
    drop = f - to.f
    seen = evaluate(CODES, lambda total: saturated(floor_to_even(total, drop), to))
    assert seen == expected(CODES - half(drop), f, to)


@pytest.mark.parametrize("drop", range(-2, WIDTH + 3))
def test_whole(drop: int) -> None:
    """Both ways of rounding, every code, also where no bit is left: before saturation."""
    want, count = golden_round_saturate(CODES, drop, SQ(WIDTH + 2, 0))
    assert count == 0
    width = max(WIDTH, drop) + 1

    def outputs(value: Value) -> tuple[Value, ...]:
        # As narrow as the sum may be.
        total = (value + half(drop))[:width].as_signed()
        return rounded(value, drop), floor_to_even(total, drop)

    assert evaluate(CODES, outputs) == [(code, code) for code in want.tolist()]


def test_half() -> None:
    assert [half(drop) for drop in (-1, 0, 1, 2, 5)] == [0, 0, 1, 2, 16]


@pytest.mark.parametrize("to", FORMATS, ids=str)
def test_saturated(to: Format) -> None:
    """Saturation alone, of every code."""
    want, count = golden_round_saturate(CODES, to.f, to)
    seen = evaluate(CODES, lambda value: saturated(value, to))
    assert [code for code, _ in seen] == want.tolist()
    assert sum(overflow for _, overflow in seen) == count
