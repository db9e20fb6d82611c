"""Boards as data: what the flow must know of each, beside its Amaranth platform.

A further board is one more entry in :data:`BOARDS`; a further family is one more function like
:func:`_ecp5`. Pins, clocks and the device's part number come from the platform class in
``amaranth-boards``, so that they are written down once.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

from amaranth.build import Clock
from amaranth.build.plat import TemplatedPlatform
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from hdl.column_cycles import SHALLOW

__all__ = ["BOARDS", "Board", "BoardError", "MemoryShape", "Resource", "find"]


class BoardError(ValueError):
    """There is no board of this name."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind of cell that a device has only so many of.

    Parameters
    ----------
    name : str
        What the tables call it.
    cell : str
        What nextpnr calls it.
    available : int
        How many the device has.
    synthesized : mapping of str to int
        Yosys cells, and how many of ``cell`` each takes at least: the sum tells before placement
        that a design cannot fit.
    routed : bool
        Whether nextpnr counts them. Where it does not, because they share a cell with something
        else, Yosys' cells are the count.
    """

    name: str
    cell: str
    available: int
    synthesized: Mapping[str, int]
    routed: bool = True

    def needed(self, cells: Mapping[str, int]) -> int:
        """The fewest of this resource that a netlist with these Yosys cells takes."""
        return sum(count * cells.get(name, 0) for name, count in self.synthesized.items())


@dataclass(frozen=True)
class MemoryShape:
    """A shape that one block RAM can take: ``depth`` words of ``width`` bits."""

    depth: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board.

    Parameters
    ----------
    name : str
        As on the command line.
    platform : class
        Amaranth's platform.
    family : str
        What a core is generated for: ``hdl`` instantiates this family's blocks.
    core_mhz : mapping of str to float
        Clock that a generated core reaches, roughly, in MHz, by the name of its pipeline
        (:data:`hdl.pipeline.PIPELINES`); ``benchmarks/engine.py`` measures it.
    timed_mhz : float
        Clock up to which nextpnr's timing analysis can be believed; above it, ways inside of the
        family's blocks count that it leaves out (:mod:`hdl.dp16kd`, :mod:`hdl.multiplier`).
    lut, ff, dsp, bram : Resource
        Lookup tables, flip-flops, multipliers and block RAMs of the device.
    lut_bits : int
        What a lookup table holds, in bits.
    memory_shapes : tuple of MemoryShape
        What a block RAM can be.
    logic_words : int
        Depth up to which Yosys takes lookup tables for a memory that is written, of 16 bits.
    leds : int
        LEDs, resources ``("led", 0)`` and on.
    button : (str, int)
        The button that resets the self-test, active high.
    bitstream : str
        Suffix of the file that the board is programmed with.

    Attributes
    ----------
    device : str
        Part number and speed grade.
    clock_hz : float
        Frequency of the oscillator, in Hz.
    resources : tuple of Resource
    """

    name: str
    platform: type[TemplatedPlatform]
    family: str
    core_mhz: Mapping[str, float]
    timed_mhz: float
    lut: Resource
    ff: Resource
    dsp: Resource
    bram: Resource
    lut_bits: int
    memory_shapes: tuple[MemoryShape, ...]
    logic_words: int
    leds: int
    button: tuple[str, int]
    bitstream: str

    @property
    def device(self) -> str:
        platform = self.prepare()
        # An iCE40 UltraPlus comes in one speed.
        return f"{platform.device}-{getattr(platform, 'speed', '')}{platform.package}"

    @property
    def clock_hz(self) -> float:
        return float(self.prepare().default_clk_frequency)

    @property
    def resources(self) -> tuple[Resource, ...]:
        return self.lut, self.ff, self.dsp, self.bram

    def prepare(self, *, clock_hz: float | None = None) -> TemplatedPlatform:
        """A fresh platform, good for one build.

        Parameters
        ----------
        clock_hz : float or None
            Constrain the clock pin to this frequency instead of the oscillator's, to ask the
            tools for more than the board can drive.
        """
        if clock_hz is None:
            return self.platform()
        resources = []
        for resource in self.platform.resources:
            if (resource.name, resource.number) == (self.platform.default_clk, 0):
                # The class shares its resources with every other instance.
                resource = copy(resource)
                resource.clock = Clock(clock_hz)
            resources.append(resource)
        constrained = type(self.platform.__name__, (self.platform,), {"resources": resources})
        return constrained()

    @property
    def block_bits(self) -> int:
        """What a block RAM holds at most, in bits."""
        return max(shape.depth * shape.width for shape in self.memory_shapes)

    def memory_blocks(self, *, depth: int, width: int) -> int:
        """Block RAMs that a memory of ``depth`` words of ``width`` bits takes."""
        return min(-(-depth // shape.depth) * -(-width // shape.width)
                   for shape in self.memory_shapes)


def _resource(name: str, cell: str, available: int, synthesized: dict[str, int], *,
              routed: bool = True) -> Resource:
    return Resource(name=name, cell=cell, available=available, routed=routed,
                    synthesized=MappingProxyType(synthesized))


def _ecp5(*, lut: int, dsp: int, bram: int) -> dict[str, Any]:
    """An ECP5 with so many lookup tables, multipliers and block RAMs."""
    return {
        "family": "ecp5",
        "core_mhz": MappingProxyType({"short": 115.0, "medium": 170.0, "fast": 185.0}),
        "timed_mhz": 200.0,
        # A carry cell spans two lookup tables; a 16x4 RAM takes four, and two more whose inputs
        # carry its write port.
        "lut": _resource("LUT", "TRELLIS_COMB", lut,
                         {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}),
        "ff": _resource("FF", "TRELLIS_FF", lut, {"TRELLIS_FF": 1}),
        "dsp": _resource("DSP", "MULT18X18D", dsp, {"MULT18X18D": 1}),
        "bram": _resource("block RAM", "DP16KD", bram, {"DP16KD": 1, "PDPW16KD": 1}),
        "lut_bits": 16,
        # 18 kbit; the widest shape has one port to write and one to read (Lattice FPGA-TN-02204).
        "memory_shapes": (MemoryShape(512, 36), MemoryShape(1024, 18), MemoryShape(2048, 9),
                          MemoryShape(4096, 4), MemoryShape(8192, 2), MemoryShape(16384, 1)),
        "logic_words": SHALLOW,
        "bitstream": ".bit",
    }


def _ice40(*, lut: int, dsp: int, bram: int) -> dict[str, Any]:
    """An iCE40 UltraPlus with so many logic cells, multipliers and block RAMs."""
    return {
        "family": "ice40",
        "core_mhz": MappingProxyType({"short": 33.0, "medium": 50.0, "fast": 51.0}),
        "timed_mhz": 100.0,
        # A logic cell is a lookup table, a carry and a flip-flop.
        "lut": _resource("LUT", "ICESTORM_LC", lut, {"SB_LUT4": 1}),
        "ff": _resource("FF", "ICESTORM_LC", lut, {
            f"SB_DFF{edge}{enable}{reset}": 1
            for edge, enable, reset in product(("", "N"), ("", "E"), ("", "R", "S", "SR", "SS"))},
            routed=False),
        "dsp": _resource("DSP", "ICESTORM_DSP", dsp, {"SB_MAC16": 1}),
        "bram": _resource("block RAM", "ICESTORM_RAM", bram, {"SB_RAM40_4K": 1}),
        "lut_bits": 16,
        # 4 kbit (Lattice FPGA-TN-02002).
        "memory_shapes": (MemoryShape(256, 16), MemoryShape(512, 8), MemoryShape(1024, 4),
                          MemoryShape(2048, 2)),
        # Its lookup tables cannot be written.
        "logic_words": 0,
        "bitstream": ".bin",
    }


BOARDS: Mapping[str, Board] = MappingProxyType({board.name: board for board in (
    Board(name="ulx3s-85f", platform=ULX3S_85F_Platform, **_ecp5(lut=83640, dsp=156, bram=208),
          leds=8, button=("button_fire", 0)),
    Board(name="icebreaker", platform=ICEBreakerPlatform, **_ice40(lut=5280, dsp=8, bram=30),
          leds=2, button=("button", 0)),
)})


def find(name: str) -> Board:
    """The board of this name.

    Raises
    ------
    BoardError
        If there is none; the message lists those there are.
    """
    if name not in BOARDS:
        raise BoardError(f"unknown board {name!r}; known boards: {', '.join(sorted(BOARDS))}")
    return BOARDS[name]
