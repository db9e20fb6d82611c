"""A memory that is written at one port and read at another."""

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Shape, ShapeLike, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.column_cycles import SHALLOW
from hdl.dp16kd import WRITABLE, Port, block
from hdl.registers import delayed

__all__ = ["RAM"]


class RAM(wiring.Component):
    """Words that are written and read, one of each every cycle.

    A word may be read from the cycle after the one in which it is written.

    With two cycles there is a register behind the memory. More than ``SHALLOW`` words are in block
    RAM then, and on an ECP5 that is ``DP16KD`` with its output registers, which Yosys would infer
    without, up to 2048 words.

    Parameters
    ----------
    shape : Shape
        Of a word.
    depth : int
        Words.
    latency : int
        Cycles from an address to its word, 1 or 2.
    collides : bool
        Whether a word that is read in the very cycle of its being written is the old one. Without,
        it may be anything.

    Members
    -------
    write_en : In(1)
    write_addr, read_addr : In(range(depth))
    write_data : In(shape)
    read_data : Out(shape)
        ``latency`` cycles after its address.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    def __init__(self, *, shape: ShapeLike, depth: int, latency: int, collides: bool = False):
        if latency not in (1, 2):
            raise ValueError(f"RAM latency must be 1 or 2, not {latency!r}")
        self._shape = Shape.cast(shape)
        self._depth = depth
        self._latency = latency
        self._collides = collides
        super().__init__({
            "write_en": In(1),
            "write_addr": In(range(depth)),
            "write_data": In(self._shape),
            "read_addr": In(range(depth)),
            "read_data": Out(self._shape),
        })

    @property
    def shape(self) -> Shape:
        return self._shape

    @property
    def depth(self) -> int:
        return self._depth

    @property
    def latency(self) -> int:
        return self._latency

    @property
    def collides(self) -> bool:
        return self._collides

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # A DP16KD says nothing of the old word.
        if (getattr(platform, "family", None) == "ecp5" and self._latency == 2
                and not self._collides and SHALLOW < self._depth <= max(WRITABLE)):
            self._ecp5(m)
            return m
        store: memory.Memory = memory.Memory(shape=self._shape, depth=self._depth, init=[])
        m.submodules.store = store
        write, read = store.write_port(), store.read_port()
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.addr.eq(self.read_addr),
            self.read_data.eq(delayed(m, read.data, self._latency - 1)),
        ]
        return m

    def _ecp5(self, m: Module) -> None:
        depth = min(depth for depth in WRITABLE if depth >= self._depth)
        width = WRITABLE[depth]
        count = -(-self._shape.width // width)
        wrote, read = (Signal(count * width, name=name) for name in ("wrote", "read"))
        m.d.comb += [wrote.eq(self.write_data), self.read_data.eq(read)]
        for n in range(count):
            at = slice(n * width, (n + 1) * width)
            m.submodules[f"block{n}"] = block(np.zeros((depth, width), dtype=np.uint8), [
                Port(address=Cat(self.write_addr), write=wrote[at], enable=self.write_en),
                Port(address=Cat(self.read_addr), read=read[at])])
