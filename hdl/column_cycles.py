"""The memories of a column buffer (:mod:`hdl.buffer`): plain arithmetic."""

from dataclasses import dataclass
from math import ceil

__all__ = ["PAGES", "SHALLOW", "ColumnMemories"]

PAGES = 2
"""Steps of a stream that a buffer of steps holds."""

SHALLOW = 64
"""Words of a memory that is written up to which it is in lookup tables, on an ECP5: what Yosys does
with 16 bits to a word."""


@dataclass(frozen=True, kw_only=True)
class ColumnMemories:
    """The memories of a column buffer (:mod:`hdl.buffer`).

    The columns of a step lie side by side in banks, one for each column of a word; as many times
    two, four, ... where a beat has more columns than a word. A bank is two memories, each for one
    of the two pages of each stream; a bank that no column falls into is left out.

    Parameters
    ----------
    total : int
        Columns of a step.
    columns : int
        V, columns of a word.
    offset : int
        Place of the first column in its word.
    beat : int
        Columns that are written at a time, at most.
    streams : int

    Attributes
    ----------
    words_beside : int
        Words that lie side by side, a power of two.
    banks, rows : int
        And what a step takes of each bank.
    count : int
        Memories.
    depth : int
        Words of each.
    """

    total: int
    columns: int
    offset: int = 0
    beat: int
    streams: int

    @property
    def words_beside(self) -> int:
        return 1 << (ceil(self.beat / self.columns) - 1).bit_length()

    @property
    def banks(self) -> int:
        return self.columns * self.words_beside

    @property
    def rows(self) -> int:
        return ceil((self.offset + self.total) / self.banks)

    @property
    def count(self) -> int:
        return 2 * min(self.banks, self.total)

    @property
    def depth(self) -> int:
        return self.streams << (self.rows - 1).bit_length()
