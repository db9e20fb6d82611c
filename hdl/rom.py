"""A read-only memory with an output register, in block RAM or in lookup tables."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, Shape, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ROM", "STYLES"]

STYLES = ("block", "logic")

# Lattice FPGA-TN-02204: a DP16KD in its widest form with two ports. The address of a word begins
# at bit 4, since the narrowest form counts single bits of 16 (the other two are extra).
ECP5_DEPTH = 1024
ECP5_BITS = 18
ECP5_ADDRESS = range(4, 14)
# Its contents are given by 64 parameters of 16 words, each word in 20 bits of which two are void.
ECP5_INIT_WORDS = 16
ECP5_INIT_STRIDE = 20


class ROM(wiring.Component):
    """Words that never change, read through one or two ports, one word each cycle and port.

    The address is registered by the memory, and the word once more behind it; the registers have
    no reset. On an ECP5 that is a ``DP16KD`` with its output registers, for up to 1024 words;
    Yosys infers the block without them.

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
        if (getattr(platform, "family", None) == "ecp5" and self._style == "block"
                and len(self._words) <= ECP5_DEPTH):
            for low in range(0, self._width, ECP5_BITS):
                m.submodules[f"block{low // ECP5_BITS}"] = self._ecp5(low)
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

    def _ecp5(self, low: int) -> Instance:
        """The block that holds the 18 bits from ``low`` on of every word."""
        mask = (1 << ECP5_BITS) - 1
        slices = [word >> low & mask for word in self._words]
        slices += [0] * (ECP5_DEPTH - len(slices))
        arguments: dict[str, Any] = {}
        for n in range(ECP5_DEPTH // ECP5_INIT_WORDS):
            row = slices[n * ECP5_INIT_WORDS:][:ECP5_INIT_WORDS]
            value = sum(word << ECP5_INIT_STRIDE * at for at, word in enumerate(row))
            arguments[f"p_INITVAL_{n:02X}"] = Const(value, ECP5_INIT_WORDS * ECP5_INIT_STRIDE)

        for n, letter in enumerate("AB"):
            used = n < self.ports
            address = list(self.addr[n]) if used else []
            for bit in range(ECP5_ADDRESS.stop):
                # The bits below the word's address would enable the bytes of a write.
                at = bit - ECP5_ADDRESS.start
                arguments[f"i_AD{letter}{bit}"] = (
                    address[at] if 0 <= at < len(address) else Const(0, 1))
            arguments |= {f"i_DI{letter}{bit}": Const(0, 1) for bit in range(ECP5_BITS)}
            if used:
                arguments |= {f"o_DO{letter}{bit}": self.data[n][low + bit]
                              for bit in range(min(ECP5_BITS, self._width - low))}
            arguments |= {
                f"i_CLK{letter}": ClockSignal(),
                f"i_CE{letter}": Const(used, 1),
                f"i_OCE{letter}": Const(used, 1),
                f"i_WE{letter}": Const(0, 1),
                f"i_RST{letter}": Const(0, 1),
                **{f"i_CS{letter}{bit}": Const(0, 1) for bit in range(3)},
                f"p_CSDECODE_{letter}": "0b000",
                f"p_DATA_WIDTH_{letter}": ECP5_BITS,
                f"p_REGMODE_{letter}": "OUTREG",
                f"p_WRITEMODE_{letter}": "NORMAL",
            }
        return Instance("DP16KD", **arguments, p_RESETMODE="SYNC", p_ASYNC_RESET_RELEASE="SYNC",
                        p_GSR="DISABLED")
