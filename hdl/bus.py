"""The layout of vectors on an AXI4-Stream: which element travels in which beat, in which bytes."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Bus", "signed"]


@dataclass(frozen=True, kw_only=True)
class Bus:
    """TDATA of one of the network's streams.

    Parameters
    ----------
    elements : int
        Elements of a vector.
    lanes : int
        Elements in a beat, the first in the lowest bytes.
    bytes : int
        Bytes of an element, sign-extended.
    """

    elements: int
    lanes: int
    bytes: int

    @property
    def beats(self) -> int:
        """Beats of a vector."""
        return -(-self.elements // self.lanes)

    @property
    def width(self) -> int:
        """Bits of a beat."""
        return 8 * self.bytes * self.lanes

    def pack(self, codes: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """The bytes of vectors, as they travel.

        Parameters
        ----------
        codes : int64 array [V, elements]
        rng : Generator, optional
            Fills the lanes that the last beat of a vector leaves unused, where anything may stand;
            0 without it, as the network's own output has there.

        Returns
        -------
        uint8 array [V * beats, lanes * bytes]
        """
        vectors, shape = len(codes), (len(codes), self.beats * self.lanes)
        if rng is None:
            padded = np.zeros(shape, dtype=np.int64)
        else:
            padded = rng.integers(-(1 << 8 * self.bytes - 1), 1 << 8 * self.bytes - 1,
                                  size=shape, dtype=np.int64)
        padded[:, :self.elements] = codes
        lowest = padded.astype("<i8").view(np.uint8).reshape(vectors, -1, 8)[..., :self.bytes]
        return np.ascontiguousarray(lowest).reshape(vectors * self.beats, self.lanes * self.bytes)

    def unpack(self, beats: np.ndarray) -> np.ndarray:
        """The elements of beats: uint8 [B, lanes * bytes] to int64 [B, lanes]."""
        return signed(beats.reshape(len(beats), self.lanes, self.bytes))


def signed(octets: np.ndarray) -> np.ndarray:
    """Two's complement integers of little-endian bytes, uint8 [..., n] to int64 [...]."""
    shifts = 8 * np.arange(octets.shape[-1], dtype=np.uint64)
    total = (octets.astype(np.uint64) << shifts).sum(axis=-1, dtype=np.uint64).astype(np.int64)
    spare = 64 - 8 * octets.shape[-1]
    return total << spare >> spare
