"""Table units run by Verilator over every code of their argument and every reading."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import verilog
from amaranth.hdl import Array, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hdl.registers import delayed
from hdl.table import TableUnit
from tests.primitives import run_verilator

__all__ = ["every_code"]


class _Counting(wiring.Component):
    """Presents all codes from the lowest on, of one reading after the other, unit by unit.

    Every result is there as late as that of the longest unit.
    """

    o: Out(32)

    def __init__(self, units: Sequence[TableUnit]):
        self._units = units
        super().__init__()

    @property
    def latency(self) -> int:
        return max(unit.latency for unit in self._units)

    @property
    def cases(self) -> tuple[int, int, int]:
        """How many units, readings (a power of two, be there as many or not) and codes."""
        first = self._units[0]
        return len(self._units), 1 << len(first.reading), 1 << len(first.z)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        first = self._units[0]
        count = Signal(range(prod(self.cases) + 1))
        code, reading = count[:len(first.z)], count[len(first.z):][:len(first.reading)]
        shown = count[len(first.z) + len(first.reading):]
        m.d.sync += count.eq(count + 1)
        results = []
        for unit in self._units:
            m.submodules += unit
            m.d.comb += [unit.z.eq(code + unit.table.argument.min), unit.reading.eq(reading)]
            outputs = [getattr(unit, one.name) for one in unit.table.readings]
            result = Signal(signed(32))
            m.d.comb += result.eq(Array(outputs)[delayed(m, reading, unit.latency)])
            results.append(delayed(m, result, self.latency - unit.latency))
        m.d.comb += self.o.eq(Array(results)[delayed(m, shown, self.latency)])
        return m


def every_code(units: Sequence[TableUnit], folder: Path, *, platform: Any = None,
               models: Sequence[Path] = ()) -> np.ndarray:
    """The results of units of one table, int64, units x readings x codes in rising order.

    ``models`` are Verilog files of what the units instantiate on the platform.
    """
    counting = _Counting(units)
    text = verilog.convert(counting, name="top", platform=platform, emit_src=False)
    (folder / "top.v").write_text(text, encoding="utf-8")
    edges = prod(counting.cases) + counting.latency
    seen_at_edges = run_verilator([folder / "top.v", *models], folder, edges=edges)
    shown = seen_at_edges.view(np.int32)[counting.latency:]
    seen = shown.astype(np.int64).reshape(counting.cases)
    return seen[:, :len(units[0].table.readings)]
