"""A read-only memory with an output register, in block RAM or in lookup tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Shape, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ROM", "STYLES"]

STYLES = ("block", "logic")

# Lattice FPGA-TN-02204: the words of a DP16KD with two ports, and the bits of each. An address
# counts words in its upper bits, since the narrowest form counts single ones.
ECP5_SHAPES = {1024: 18, 2048: 9, 4096: 4, 8192: 2, 16384: 1}
# Where there is but one port to read, each port of the block gives half of a word.
ECP5_HALVES = 512
ECP5_ADDRESS_BITS = 14
# Its contents are given by 64 parameters of 16 rows, each of 18 bits and two void ones. A row holds
# two bytes of 9 bits; words of 4, 2 or 1 bits leave out the ninth. This is how Yosys fills them
# (techlibs/lattice/brams_16kd.txt, brams_map_16kd.v).
ECP5_ROWS = 1024
ECP5_ROW_BITS = 20
ECP5_BYTE = 9
ECP5_PARAMETERS = 64
# More blocks behind one another than that take more than one lookup table, with the multiplexers
# of its slices, to choose from.
ECP5_BANKS = 8


class ROM(wiring.Component):
    """Words that never change, read through one or two ports, one word each cycle and port.

    The address is registered by the memory, and the word once more behind it; the registers have
    no reset. On an ECP5 these are ``DP16KD`` with their output registers, which Yosys would infer
    without, in the shape that takes the fewest. A memory too deep for one block is up to eight
    banks of them (more only beyond 131,072 words), with the choice behind the output registers.

    nextpnr-ecp5 times the way into the block and the way out of it, but not the one inside, from
    the memory to the output register. Its tables give 5.8 ns from the clock to the pins without
    that register and 1.0 ns with it at speed grade 6, so take a clock above 200 MHz for unproven.

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
        depth, width = self._ecp5_shape()
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
                m.submodules[f"block{bank}_{column}"] = _ecp5_block(words, ports)

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

    def _ecp5_shape(self) -> tuple[int, int]:
        """Words and bits of a word of the blocks: the fewest, and of these the fewest banks."""
        shapes = dict(ECP5_SHAPES)
        if self.ports == 1:
            shapes[ECP5_HALVES] = 2 * ECP5_SHAPES[2 * ECP5_HALVES]
        deepest = max(shapes)

        def banks(depth: int) -> int:
            return -(-len(self._words) // depth)

        return min(((depth, width) for depth, width in shapes.items()
                    if banks(depth) <= max(ECP5_BANKS, banks(deepest))),
                   key=lambda shape: (banks(shape[0]) * -(-self._width // shape[1]),
                                      banks(shape[0])))

    def _bits(self, depth: int, width: int) -> np.ndarray:
        """The words, bit by bit, [depth, width] of 0 and 1; zeros beyond them."""
        count = -(-width // 8)
        octets = b"".join(word.to_bytes(count, "little") for word in self._words)
        bits = np.zeros((depth, width), dtype=np.uint8)
        bits[:len(self._words)] = np.unpackbits(
            np.frombuffer(octets, dtype=np.uint8).reshape(-1, count), axis=1, bitorder="little",
            count=width)
        return bits


def _ecp5_block(words: np.ndarray, ports: Sequence[tuple[Value, Value]]) -> Instance:
    """A ``DP16KD`` that holds some words.

    Parameters
    ----------
    words : array [depth, width] of 0 and 1
        Of one of the shapes.
    ports : sequence of (Value, Value)
        One or two: the address of a word, and what takes the word.
    """
    depth, width = words.shape
    rows = np.zeros((ECP5_ROWS, ECP5_ROW_BITS), dtype=np.uint8)
    used = width if width >= ECP5_BYTE else ECP5_BYTE - 1
    row = words.reshape(ECP5_ROWS, -1, used)
    for n in range(row.shape[1]):
        rows[:, n * ECP5_BYTE:][:, :used] = row[:, n]
    parameters = np.packbits(rows.reshape(ECP5_PARAMETERS, -1), axis=1, bitorder="little")
    bits = ECP5_ROWS // ECP5_PARAMETERS * ECP5_ROW_BITS
    arguments: dict[str, Any] = {
        f"p_INITVAL_{n:02X}": Const(int.from_bytes(value.tobytes(), "little"), bits)
        for n, value in enumerate(parameters)}

    below = ECP5_ADDRESS_BITS - (depth - 1).bit_length()
    widest = max(ECP5_SHAPES.values())
    for n, letter in enumerate("AB"):
        on = n < len(ports)
        address, word = ports[n] if on else (Const(0, 0), Const(0, 0))
        for bit in range(ECP5_ADDRESS_BITS):
            # The lowest bits would enable the bytes of a write, where they are not an address.
            at = bit - below
            arguments[f"i_AD{letter}{bit}"] = (
                address[at] if 0 <= at < len(address) else Const(0, 1))
        arguments |= {f"i_DI{letter}{bit}": Const(0, 1) for bit in range(widest)}
        arguments |= {f"o_DO{letter}{bit}": word[bit] for bit in range(len(word))}
        arguments |= {
            f"i_CLK{letter}": ClockSignal(),
            f"i_CE{letter}": Const(on, 1),
            f"i_OCE{letter}": Const(on, 1),
            f"i_WE{letter}": Const(0, 1),
            f"i_RST{letter}": Const(0, 1),
            **{f"i_CS{letter}{bit}": Const(0, 1) for bit in range(3)},
            f"p_CSDECODE_{letter}": "0b000",
            f"p_DATA_WIDTH_{letter}": width,
            f"p_REGMODE_{letter}": "OUTREG",
            f"p_WRITEMODE_{letter}": "NORMAL",
        }
    return Instance("DP16KD", **arguments, p_RESETMODE="SYNC", p_ASYNC_RESET_RELEASE="SYNC",
                    p_GSR="DISABLED")
