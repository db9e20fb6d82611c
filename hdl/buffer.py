"""Column buffers: where the operands of the MAC array wait, ping-pong.

A step's columns are spread over V banks, column k in bank ``k mod V`` at address ``k div V``, so
that V of them are read in a cycle. They arrive in order, in *beats* of a few columns each; where
beats are wider than V, there are two, four or more times as many banks, read in turn. Which
columns a beat holds follows from counting alone, so the write side needs no crossbar where the
numbers divide, and the smallest that the shape allows where they do not.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

from amaranth.hdl import Module, Mux, Shape, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Beat", "ColumnBuffer", "StepBuffer", "beat_counts"]


def beat_counts(columns: int, lanes: int) -> tuple[int, ...]:
    """Columns in each beat of a step, where beats are filled: all but the last with ``lanes``."""
    full, rest = divmod(columns, lanes)
    return (lanes,) * full + ((rest,) if rest else ())


class Beat(data.StructLayout):
    """A few successive columns of a step.

    Parameters
    ----------
    width : int
        Bits of a column, signed.
    lanes : int
        Columns in a full beat.

    Members
    -------
    data : ArrayLayout(signed(width), lanes)
    count : range(lanes + 1)
        How many of them are there; the first ones.
    last : 1
        Whether the step is the last of its sequence.
    """

    def __init__(self, width: int, lanes: int):
        self.width = width
        self.lanes = lanes
        super().__init__({
            "data": data.ArrayLayout(signed(width), lanes),
            "count": range(lanes + 1),
            "last": 1,
        })


class ColumnBuffer(wiring.Component):
    """Two pages of columns, one being written while the other is read.

    Parameters
    ----------
    width : int
        Bits of a column.
    columns : int
        V, columns read in a cycle.
    offset : int
        Place of the first column in its word, below ``columns``.
    counts : sequence of int
        Columns in each beat of a step.
    write_page, read_page : int
        The pages after reset.

    Attributes
    ----------
    words : int
        Depth of a page.

    Members
    -------
    valid : In(1)
        A beat is being written.
    beat : In(Beat)
        Its ``last`` is not looked at. An empty beat is none.
    filled : Out(1)
        The beat completes the page; the next one goes to the other.
    address : In(range(words))
        Word to be read.
    data : Out(ArrayLayout(signed(width), columns))
        The word, one cycle after its address. Places that hold no column are 0.
    release : In(1)
        The page has been read; the next word is read from the other.
    """

    def __init__(self, *, width: int, columns: int, offset: int, counts: Sequence[int],
                 write_page: int = 0, read_page: int = 0):
        self._width = width
        self._columns = columns
        self._offset = offset
        self._counts = tuple(counts)
        self._total = sum(counts)
        self._pages = write_page, read_page
        self._lanes = max(counts)
        if not 0 <= offset < columns:
            raise ValueError(f"column buffer offset must be at least 0 and below the {columns} "
                             f"columns of a word, not {offset}")
        # How many words lie side by side, in banks of their own.
        self._ways_bits = 0
        while columns << self._ways_bits < self._lanes:
            self._ways_bits += 1
        self._banks = columns << self._ways_bits
        super().__init__({
            "valid": In(1),
            "beat": In(Beat(width, self._lanes)),
            "filled": Out(1),
            "address": In(range(self.words)),
            "data": Out(data.ArrayLayout(signed(width), columns)),
            "release": In(1),
        })

    @property
    def words(self) -> int:
        return ceil((self._offset + self._total) / self._columns)

    def _starts(self) -> set[int]:
        """In which banks a beat may start."""
        starts, place = set(), self._offset
        for count in self._counts:
            if count:
                starts.add(place % self._banks)
            place += count
        return starts

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        write_page, read_page = (Signal(name=name, init=init) for name, init
                                 in zip(("write_page", "read_page"), self._pages, strict=True))
        written = Signal(range(self._total + 1))
        rows = ceil((self._offset + self._total) / self._banks)
        row_bits = Shape.cast(range(rows)).width
        bank = Signal(range(self._banks), init=self._offset)
        row = Signal(range(rows + 1))

        total, place = written + self.beat.count, bank + self.beat.count
        m.d.comb += self.filled.eq(self.valid & (total == self._total))
        with m.If(self.filled):
            m.d.sync += [written.eq(0), bank.eq(self._offset), row.eq(0),
                         write_page.eq(~write_page)]
        with m.Elif(self.valid):
            m.d.sync += written.eq(total)
            with m.If(place >= self._banks):
                m.d.sync += [bank.eq(place - self._banks), row.eq(row + 1)]
            with m.Else():
                m.d.sync += bank.eq(place)
        with m.If(self.release):
            m.d.sync += read_page.eq(~read_page)

        starts = self._starts()
        way, way_now = self.address[:self._ways_bits], Signal(self._ways_bits)
        m.d.sync += way_now.eq(way)
        for number in range(self._banks):
            if (number - self._offset) % self._banks >= self._total:
                continue
            store: memory.Memory = memory.Memory(
                shape=signed(self._width), depth=2 << row_bits, init=[])
            m.submodules[f"bank{number}"] = store
            write, read = store.write_port(), store.read_port()
            for start in sorted(starts):
                lane = (number - start) % self._banks
                if lane < self._lanes:
                    with m.If(bank == start):
                        m.d.comb += [
                            write.data.eq(self.beat.data[lane]),
                            write.en.eq(self.valid & (lane < self.beat.count)),
                        ]
            # A beat that reaches over the last bank goes on in the next row.
            at = Mux(number < bank, row + 1, row)[:row_bits]
            m.d.comb += [
                write.addr.eq(at | write_page << row_bits),
                read.addr.eq(self.address[self._ways_bits:] | read_page << row_bits),
            ]
            with m.If(way_now == number // self._columns):
                m.d.comb += self.data[number % self._columns].eq(read.data)
        return m


class StepBuffer(wiring.Component):
    """A :class:`ColumnBuffer` between a stream of beats and an engine that reads whole steps.

    Parameters
    ----------
    width, columns, counts
        As of :class:`ColumnBuffer`.

    Members
    -------
    i : In(stream.Signature(Beat))
        Taken while a page is free.
    address, data, release
        As of :class:`ColumnBuffer`; a released page is free again.
    ready : Out(1)
        A whole step is there to be read.
    last : Out(1)
        It is the last one of its sequence.
    """

    def __init__(self, *, width: int, columns: int, counts: Sequence[int]):
        self._buffer = ColumnBuffer(width=width, columns=columns, offset=0, counts=counts)
        super().__init__({
            "i": In(stream.Signature(Beat(width, max(counts)))),
            "address": In(range(self._buffer.words)),
            "data": Out(data.ArrayLayout(signed(width), columns)),
            "release": In(1),
            "ready": Out(1),
            "last": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.columns = columns = self._buffer
        full = Signal(range(3))
        lasts = Signal(2)
        m.d.comb += [
            self.i.ready.eq(full != 2),
            columns.valid.eq(self.i.valid & self.i.ready),
            columns.beat.eq(self.i.payload),
            columns.address.eq(self.address),
            columns.release.eq(self.release),
            self.data.eq(columns.data),
            self.ready.eq(full != 0),
            self.last.eq(lasts[0]),
        ]
        m.d.sync += full.eq(full + columns.filled - self.release)
        # The flags queue up behind the page being read.
        with m.If(self.release):
            m.d.sync += lasts.eq(lasts[1])
        with m.If(columns.filled):
            m.d.sync += lasts.bit_select((full - self.release)[:1], 1).eq(self.i.payload.last)
        return m
