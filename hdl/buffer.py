"""Column buffers: where the operands of the MAC array wait, ping-pong, two pages a stream.

A step's columns are spread over V banks, column k in bank ``k mod V`` at address ``k div V``, so
that V of them are read in a cycle. They arrive in order, in *beats* of a few columns each; where
beats are wider than V, there are two, four or more times as many banks, read in turn. Which
columns a beat holds follows from counting alone, so the write side needs no crossbar where the
numbers divide, and the smallest that the shape allows where they do not.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.column_cycles import ColumnMemories
from hdl.ram import RAM
from hdl.registers import delayed

__all__ = ["Beat", "ColumnBuffer", "StepBuffer", "beat_counts", "of_stream", "page_of", "passed"]


def beat_counts(columns: int, lanes: int) -> tuple[int, ...]:
    """Columns in each beat of a step, where beats are filled: all but the last with ``lanes``."""
    full, rest = divmod(columns, lanes)
    return (lanes,) * full + ((rest,) if rest else ())


def of_stream(bits: Value, stream: Value) -> Value:
    """The bit of a stream, of one for each."""
    return bits.bit_select(stream, 1)


def page_of(stream: Value, half: Value) -> Value:
    """The number of one of a stream's two pages."""
    return Cat(half, stream)


class Beat(data.StructLayout):
    """A few successive columns of a step.

    Parameters
    ----------
    width : int
        Bits of a column, signed.
    lanes : int
        Columns in a full beat.
    streams : int
        Streams that a step may belong to.
    keeps : bool
        Whether there is a member ``keep``.

    Members
    -------
    data : ArrayLayout(signed(width), lanes)
    count : range(lanes + 1)
        How many of them are there; the first ones.
    last : 1
        Whether the step is the last of its sequence.
    stream : range(streams)
        The stream that the step belongs to.
    keep : 1
        Where the step is the last: the next sequence goes on from the state in which it ends.
    """

    def __init__(self, width: int, lanes: int, streams: int, *, keeps: bool = False):
        self.width = width
        self.lanes = lanes
        self.streams = streams
        super().__init__({
            "data": data.ArrayLayout(signed(width), lanes),
            "count": range(lanes + 1),
            "last": 1,
            "stream": range(streams),
            **({"keep": 1} if keeps else {}),
        })


def passed(to: Any, beat: Any) -> list[Any]:
    """The assignments of a beat to one that may lack the member ``keep``."""
    if to.shape() == beat.shape():
        return [to.eq(beat)]
    return [to[name].eq(beat[name]) for name, _ in to.shape()]


class ColumnBuffer(wiring.Component):
    """Pages of columns, some being written while others are read.

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
    streams : int
        There are two pages for each.
    latency : int
        Cycles from an address to its word, 1 or 2.
    forward : int
        Cycles that a column may come later than it would have to for the memory, 0 to
        ``latency + 1``: with 0, in the cycle before the address of the word that it belongs to;
        with the most, in that of the word. It goes past the memory then.
    collides : bool
        Whether a word may be read in the very cycle in which its place is written anew.

    Attributes
    ----------
    words : int
        Depth of a page.

    Members
    -------
    valid : In(1)
        A beat is being written; not an empty one.
    beat : In(Beat)
        Its ``last`` is not looked at.
    write_page, read_page : In(range(2 * streams))
        The beat's page; that of the word to be read.
    filled : Out(1)
        The beat completes the page.
    address : In(range(words))
        Word to be read.
    data : Out(ArrayLayout(signed(width), columns))
        The word, ``latency`` cycles after its address. In a place that holds no column may stand
        anything: who reads it has a weight of 0 there, or the beat's ``count``.
    """

    def __init__(self, *, width: int, columns: int, offset: int, counts: Sequence[int],
                 streams: int, latency: int = 1, forward: int = 0, collides: bool = False):
        self._width = width
        self._columns = columns
        self._offset = offset
        self._latency = latency
        self._forward = forward
        self._collides = collides
        self._total = sum(counts)
        self._counts = tuple(counts)
        self._lanes = max(counts)
        self._pages = 2 * streams
        if not 0 <= offset < columns:
            raise ValueError(f"column buffer offset must be at least 0 and below the {columns} "
                             f"columns of a word, not {offset}")
        if forward not in range(latency + 2):
            raise ValueError(f"column buffer forward must be an integer from 0 to {latency + 1}, "
                             f"not {forward!r}")
        self._memories = ColumnMemories(total=self._total, columns=columns, offset=offset,
                                        beat=self._lanes, streams=streams)
        self._ways_bits = self._memories.words_beside.bit_length() - 1
        self._banks = self._memories.banks
        super().__init__({
            "valid": In(1),
            "beat": In(Beat(width, self._lanes, streams)),
            "write_page": In(range(self._pages)),
            "read_page": In(range(self._pages)),
            "filled": Out(1),
            "address": In(range(self.words)),
            "data": Out(data.ArrayLayout(signed(width), columns)),
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
        rows = self._memories.rows
        row_bits = Shape.cast(range(rows)).width
        bank = Signal(range(self._banks), init=self._offset)
        row = Signal(range(rows + 1))

        # Counted in beats, with a mark registered ahead of the comparison.
        beats = sum(count > 0 for count in self._counts)
        written, final = Signal(range(beats)), Signal(init=beats == 1)
        place = bank + self.beat.count
        next_bank, next_row = Signal.like(bank), Signal.like(row)
        m.d.comb += [self.filled.eq(self.valid & final), next_bank.eq(bank), next_row.eq(row)]
        if beats > 1:
            m.d.sync += [bank.eq(next_bank), row.eq(next_row)]
            with m.If(self.valid):
                m.d.sync += [written.eq(written + 1), final.eq(written == beats - 2)]
                with m.If(place >= self._banks):
                    m.d.comb += [next_bank.eq(place - self._banks), next_row.eq(row + 1)]
                with m.Else():
                    m.d.comb += next_bank.eq(place)
                with m.If(final):
                    m.d.comb += [next_bank.eq(self._offset), next_row.eq(0)]
                    m.d.sync += written.eq(0)

        # A memory for each half of the pages: what is read is registered before it is chosen from,
        # since a deep memory of lookup tables is slow to read.
        starts = self._starts()
        way, wanted = self.address[:self._ways_bits], self.address[self._ways_bits:]
        way_now = delayed(m, way, self._latency)
        # What is asked for, from the cycle of the address to that of the word.
        pages, places = [self.read_page], [wanted]
        for _ in range(self._latency):
            pages.append(delayed(m, pages[-1], 1))
            places.append(delayed(m, places[-1], 1))
        for number in range(self._banks):
            if (number - self._offset) % self._banks >= self._total:
                continue
            lanes = [(start, (number - start) % self._banks) for start in sorted(starts)]
            word, enable = Signal(signed(self._width)), Signal()
            for start, lane in lanes:
                if lane < self._lanes:
                    with m.If(bank == start):
                        m.d.comb += [
                            word.eq(self.beat.data[lane]),
                            enable.eq(self.valid & (lane < self.beat.count)),
                        ]
            # A beat that reaches over the last bank goes on in the next row.
            at, next_at = (Mux(number < place, of + 1, of)[:row_bits]
                           for place, of in ((bank, row), (next_bank, next_row)))
            halves = []
            for half in range(2):
                m.submodules[f"bank{number}_{half}"] = store = RAM(
                    shape=signed(self._width), depth=self._memories.depth,
                    latency=self._latency, collides=self._collides)
                m.d.comb += [
                    store.write_data.eq(word),
                    store.write_en.eq(enable & (self.write_page[0] == half)),
                    store.write_addr.eq(at | self.write_page[1:] << row_bits),
                    store.read_addr.eq(wanted | self.read_page[1:] << row_bits),
                ]
                halves.append(store.read_data)

            # What comes while the memory is being read is caught, and kept for the word's cycle.
            caught: Value = Const(0, 1)
            kept: Value = Const(0, self._width)
            found: Value = Mux(pages[-1][0], *reversed(halves))
            for stage in range(self._latency + 1):
                hit: Value = Const(0, 1)
                if stage < self._forward:
                    same: Value = at == wanted
                    if stage > 0:
                        # Compared a cycle ahead.
                        here = Signal(name=f"here{number}_{stage}")
                        m.d.sync += here.eq(next_at == places[stage - 1])
                        same = here
                    hit = enable & same & (self.write_page == pages[stage])
                if stage == self._latency:
                    found = Mux(hit, word, Mux(caught, kept, found))
                elif self._forward:
                    caught, kept = (delayed(m, value, 1) for value in (
                        hit | caught, Mux(hit, word, kept) if stage else word))
            with m.If(way_now == number // self._columns):
                m.d.comb += self.data[number % self._columns].eq(found)
        return m


class StepBuffer(wiring.Component):
    """A :class:`ColumnBuffer` between a stream of beats and an engine that reads whole steps.

    Parameters
    ----------
    width, columns, counts, streams, latency
        As of :class:`ColumnBuffer`.
    prompt : bool
        A page is free for the writer in the very cycle after its release, instead of one later.
        It costs clock, and gains something where a step takes as long to be written as to be read.
    keeps : bool
        Whether beats say of a sequence whether its state is kept.

    Members
    -------
    i : In(stream.Signature(Beat))
        Taken while its stream has a page free. The beats of a step follow each other.
    address, read_page, data
        As of :class:`ColumnBuffer`.
    ready : Out(streams)
        For each stream: a whole step is there to be read.
    last : Out(streams)
        It is the last one of its sequence.
    keep : Out(streams)
        And the state in which it ends is kept, where beats say so.
    page : Out(streams)
        In which of the stream's two pages it is.
    release : In(streams)
        It has been read, and its page is free again.
    """

    def __init__(self, *, width: int, columns: int, counts: Sequence[int], streams: int,
                 latency: int = 1, prompt: bool = False, keeps: bool = False):
        self._streams = streams
        self._prompt = prompt
        self._keeps = keeps
        self._buffer = ColumnBuffer(width=width, columns=columns, offset=0, counts=counts,
                                    streams=streams, latency=latency, collides=prompt)
        super().__init__({
            "i": In(stream.Signature(Beat(width, max(counts), streams, keeps=keeps))),
            "address": In(range(self._buffer.words)),
            "read_page": In(range(2 * streams)),
            "data": Out(data.ArrayLayout(signed(width), columns)),
            "ready": Out(streams),
            "last": Out(streams),
            "page": Out(streams),
            "release": In(streams),
            **({"keep": Out(streams)} if keeps else {}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.columns = columns = self._buffer
        beat = self.i.payload
        room, write_page = Signal(self._streams, init=-1), Signal(self._streams)
        m.d.comb += [
            self.i.ready.eq(of_stream(room, beat.stream)),
            columns.valid.eq(self.i.valid & self.i.ready),
            *passed(columns.beat, beat),
            columns.address.eq(self.address),
            columns.write_page.eq(page_of(beat.stream, of_stream(write_page, beat.stream))),
            columns.read_page.eq(self.read_page),
            self.data.eq(columns.data),
        ]
        for n in range(self._streams):
            # The writer does not have to wait for the reader's decision within a cycle.
            filled, release = Signal(name=f"filled{n}"), self.release[n]
            freed, used = Signal(name=f"freed{n}"), Signal(name=f"used{n}")
            m.d.comb += filled.eq(columns.filled & (beat.stream == n))
            m.d["comb" if self._prompt else "sync"] += freed.eq(release)
            with m.If(filled):
                m.d.sync += write_page[n].eq(~write_page[n])
            with m.If(filled & ~freed):
                m.d.sync += [room[n].eq(~used), used.eq(1)]
            with m.If(freed & ~filled):
                m.d.sync += [used.eq(~room[n]), room[n].eq(1)]

            # The flags queue up behind the page being read.
            behind, last_behind = Signal(name=f"behind{n}"), Signal(name=f"last_behind{n}")
            if self._keeps:
                keep_behind = Signal(name=f"keep_behind{n}")
                with m.If(release):
                    m.d.sync += self.keep[n].eq(keep_behind)
                with m.If(filled):
                    m.d.sync += keep_behind.eq(beat.keep)
                    with m.If(~self.ready[n] | release & ~behind):
                        m.d.sync += self.keep[n].eq(beat.keep)
            with m.If(release):
                m.d.sync += [self.page[n].eq(~self.page[n]), self.last[n].eq(last_behind)]
            with m.If(filled & ~release):
                m.d.sync += [behind.eq(self.ready[n]), self.ready[n].eq(1)]
            with m.If(release & ~filled):
                m.d.sync += [self.ready[n].eq(behind), behind.eq(0)]
            with m.If(filled):
                m.d.sync += last_behind.eq(beat.last)
                with m.If(~self.ready[n] | release & ~behind):
                    m.d.sync += self.last[n].eq(beat.last)
        return m
