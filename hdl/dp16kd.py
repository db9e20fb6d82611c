"""Lattice's block RAM for the ECP5, with its output registers.

nextpnr-ecp5 times the way into the block and the way out of it, but not the one inside, from the
memory to the output register. Its tables give 5.8 ns from the clock to the pins without that
register and 1.0 ns with it at speed grade 6, so take a clock above 200 MHz for unproven.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from amaranth.hdl import ClockSignal, Const, Instance, Value

__all__ = ["ADDRESS_BITS", "SHAPES", "WRITABLE", "Port", "block"]

SHAPES: Mapping[int, int] = MappingProxyType({1024: 18, 2048: 9, 4096: 4, 8192: 2, 16384: 1})
"""The words of a block with two ports, and the bits of each (Lattice FPGA-TN-02204)."""

WRITABLE: Mapping[int, int] = MappingProxyType({
    depth: width for depth, width in SHAPES.items() if width >= 9})
"""Those that are written here."""

ADDRESS_BITS = 14

# An address counts words in its upper bits, since the narrowest form counts single ones.
# The contents are given by 64 parameters of 16 rows, each of 18 bits and two void ones. A row holds
# two bytes of 9 bits; words of 4, 2 or 1 bits leave out the ninth. This is how Yosys fills them
# (techlibs/lattice/brams_16kd.txt, brams_map_16kd.v).
ROWS = 1024
ROW_BITS = 20
BYTE = 9
PARAMETERS = 64


@dataclass(frozen=True, kw_only=True)
class Port:
    """One of the two ports.

    Parameters
    ----------
    address : Value
        Of a word.
    read : Value
        What takes the word, two cycles later; nothing, where the port only writes.
    write : Value
        The word that is written; nothing, where the port only reads.
    enable : Value
        Whether it is.
    """

    address: Value
    read: Value = field(default_factory=lambda: Const(0, 0))
    write: Value = field(default_factory=lambda: Const(0, 0))
    enable: Value = field(default_factory=lambda: Const(0, 1))


def block(words: np.ndarray, ports: Sequence[Port]) -> Instance:
    """A ``DP16KD`` that holds some words.

    Parameters
    ----------
    words : array [depth, width] of 0 and 1
        Of one of the ``SHAPES``, or where a port writes of those that are ``WRITABLE``.
    ports : sequence of Port
        One or two.
    """
    depth, width = words.shape
    rows = np.zeros((ROWS, ROW_BITS), dtype=np.uint8)
    used = width if width >= BYTE else BYTE - 1
    row = words.reshape(ROWS, -1, used)
    for n in range(row.shape[1]):
        rows[:, n * BYTE:][:, :used] = row[:, n]
    parameters = np.packbits(rows.reshape(PARAMETERS, -1), axis=1, bitorder="little")
    bits = ROWS // PARAMETERS * ROW_BITS
    arguments: dict[str, Any] = {
        f"p_INITVAL_{n:02X}": Const(int.from_bytes(value.tobytes(), "little"), bits)
        for n, value in enumerate(parameters)}

    below = ADDRESS_BITS - (depth - 1).bit_length()
    widest = max(SHAPES.values())
    for n, letter in enumerate("AB"):
        on = n < len(ports)
        port = ports[n] if on else Port(address=Const(0, 0))
        for bit in range(ADDRESS_BITS):
            at = bit - below
            # The lowest bits of the widest form enable the two bytes of a write.
            lowest = Const(width == widest and len(port.write) > 0 and bit < 2, 1)
            arguments[f"i_AD{letter}{bit}"] = (
                port.address[at] if 0 <= at < len(port.address) else lowest)
        arguments |= {f"i_DI{letter}{bit}": port.write[bit] if bit < len(port.write)
                      else Const(0, 1) for bit in range(widest)}
        arguments |= {f"o_DO{letter}{bit}": port.read[bit] for bit in range(len(port.read))}
        arguments |= {
            f"i_CLK{letter}": ClockSignal(),
            f"i_CE{letter}": Const(on, 1),
            f"i_OCE{letter}": Const(on, 1),
            f"i_WE{letter}": port.enable,
            f"i_RST{letter}": Const(0, 1),
            **{f"i_CS{letter}{bit}": Const(0, 1) for bit in range(3)},
            f"p_CSDECODE_{letter}": "0b000",
            f"p_DATA_WIDTH_{letter}": width,
            f"p_REGMODE_{letter}": "OUTREG",
            f"p_WRITEMODE_{letter}": "NORMAL",
        }
    return Instance("DP16KD", **arguments, p_RESETMODE="SYNC", p_ASYNC_RESET_RELEASE="SYNC",
                    p_GSR="DISABLED")
