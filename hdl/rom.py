"""A read-only memory with an output register, in block RAM or in lookup tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.dp16kd import SHAPES, Port, block

__all__ = ["ROM", "STYLES", "ecp5_blocks"]

STYLES = ("block", "logic")

# Where there is but one port to read, each port of the block gives half of a word.
ECP5_HALVES = 512
# More blocks behind one another than that take more than one lookup table, with the multiplexers
# of its slices, to choose from.
ECP5_BANKS = 8


def _ecp5_shape(words: int, bits: int, ports: int) -> tuple[int, int, int]:
    """Words and bits of a word of the blocks, and how many: the fewest, then the fewest banks."""
    shapes = dict(SHAPES)
    if ports == 1:
        shapes[ECP5_HALVES] = 2 * SHAPES[2 * ECP5_HALVES]
    most = max(ECP5_BANKS, -(-words // max(shapes)))
    found = [(banks * -(-bits // width), banks, depth, width) for depth, width in shapes.items()
             if (banks := -(-words // depth)) <= most]
    count, _, depth, width = min(found, key=lambda each: each[:2])
    return depth, width, count


def ecp5_blocks(depth: int, width: int) -> int:
    """How many ``DP16KD`` a memory takes that is read through one port.

    Parameters
    ----------
    depth : int
        Words.
    width : int
        Bits of a word.
    """
    return _ecp5_shape(depth, width, 1)[2]


class ROM(wiring.Component):
    """Words that never change, read through one or two ports, one word each cycle and port.

    The address is registered by the memory, and the word once more behind it; the registers have
    no reset. On an ECP5 these are ``DP16KD`` with their output registers, which Yosys would infer
    without, in the shape that takes the fewest. A memory too deep for one block is up to eight
    banks of them (more only beyond 131,072 words), with the choice behind the output registers.

    Parameters
    ----------
    words : sequence of int
        At least one; unsigned, of ``width`` bits.
    width : int
        Bits of a word.
    ports : int
        1 or 2.
    style : str
        ``"block"`` for block RAM, however small the memory is; ``"logic"`` for lookup tables.

    Attributes
    ----------
    latency : int
        Cycles from ``addr`` to ``data``.

    Members
    -------
    addr : In(ArrayLayout(range(len(words)), ports))
        Beyond the last word there are zeros.
    data : Out(ArrayLayout(unsigned(width), ports))

    Raises
    ------
    ValueError
        If there are no words or no bits, if a word does not fit, or if there is no such number of
        ports or no such style.
    """

    latency = 2

    def __init__(self, words: Sequence[int], *, width: int, ports: int, style: str = "block"):
        # Amaranth refuses NumPy's integers, and cuts a word that is too wide.
        self._words = tuple(int(word) for word in words)
        self._width = width
        self._style = style
        if not self._words:
            raise ValueError("ROM must have at least one word")
        if width < 1:
            raise ValueError(f"ROM width must be a positive integer, not {width}")
        for address, word in enumerate(self._words):
            if not 0 <= word < 1 << width:
                raise ValueError(f"ROM word {address} must fit in {width} unsigned bits, "
                                 f"not {word}")
        if ports not in (1, 2):
            raise ValueError(f"ROM ports must be 1 or 2, not {ports}")
        if style not in STYLES:
            raise ValueError(f"ROM style must be one of {', '.join(STYLES)}, not {style!r}")
        self._address_shape = Shape.cast(range(len(self._words)))
        super().__init__({
            "addr": In(data.ArrayLayout(self._address_shape, ports)),
            "data": Out(data.ArrayLayout(unsigned(width), ports)),
        })

    @property
    def words(self) -> tuple[int, ...]:
        return self._words

    @property
    def width(self) -> int:
        return self._width

    @property
    def ports(self) -> int:
        return int(self.addr.shape().length)

    @property
    def style(self) -> str:
        return self._style

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if getattr(platform, "family", None) == "ecp5" and self._style == "block":
            self._ecp5(m)
            return m
        depth = 1 << self._address_shape.width
        store: memory.Memory = memory.Memory(
            shape=unsigned(self._width), depth=depth,
            init=[*self._words, *[0] * (depth - len(self._words))],
            # Without it Yosys decides by size. It knows both words for every family.
            attrs={"rom_style": self._style})
        m.submodules.store = store
        for n in range(self.ports):
            port = store.read_port()
            register = Signal(self._width, name=f"data{n}", reset_less=True)
            m.d.comb += [port.addr.eq(self.addr[n]), self.data[n].eq(register)]
            m.d.sync += register.eq(port.data)
        return m

    def _ecp5(self, m: Module) -> None:
        """Blocks side by side for the bits of a word, and in banks for the words."""
        depth, width, _ = _ecp5_shape(len(self._words), self._width, self.ports)
        banks, columns = -(-len(self._words) // depth), -(-self._width // width)
        contents = self._bits(banks * depth, columns * width)
        low = (depth - 1).bit_length()
        read = [[Signal(columns * width, name=f"read{n}_{port}") for port in range(self.ports)]
                for n in range(banks)]
        for bank in range(banks):
            for column in range(columns):
                at = slice(column * width, (column + 1) * width)
                words = contents[bank * depth:(bank + 1) * depth, at]
                ports = [(self.addr[port][:low], read[bank][port][at])
                         for port in range(self.ports)]
                if depth == ECP5_HALVES:
                    half = width // 2
                    words = np.concatenate([words[:, :half], words[:, half:]])
                    address, word = ports[0]
                    address = Cat(address, Const(0, low - len(address)))
                    ports = [(Cat(address, Const(n, 1)), word[n * half:(n + 1) * half])
                             for n in range(2)]
                m.submodules[f"block{bank}_{column}"] = block(
                    words, [Port(address=address, read=word) for address, word in ports])

        for port in range(self.ports):
            if banks == 1:
                m.d.comb += self.data[port].eq(read[0][port])
                continue
            choice: Value = self.addr[port][low:]
            for n in range(self.latency):
                late = Signal.like(choice, name=f"bank{port}_{n}", reset_less=True)
                m.d.sync += late.eq(choice)
                choice = late
            with m.Switch(choice):
                for n in range(banks):
                    with m.Case(n):
                        m.d.comb += self.data[port].eq(read[n][port])

    def _bits(self, depth: int, width: int) -> np.ndarray:
        """The words, bit by bit, [depth, width] of 0 and 1; zeros beyond them."""
        count = -(-width // 8)
        octets = b"".join(word.to_bytes(count, "little") for word in self._words)
        bits = np.zeros((depth, width), dtype=np.uint8)
        bits[:len(self._words)] = np.unpackbits(
            np.frombuffer(octets, dtype=np.uint8).reshape(-1, count), axis=1, bitorder="little",
            count=width)
        return bits
