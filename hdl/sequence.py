"""A buffer of whole sequences, where steps come in one order and are wanted in another.

A layer that reads from the end needs the last step first, and two directions of a layer are at
different ends of a sequence at a time. So where the order in which steps come is not that in which
they are wanted, a buffer collects the sequence, and gives its steps in any order; two of them
ping-pong, so that one can be written while the other is read.

*Writers* are what the steps come from: the input or a layer of one direction, or the two directions
of a layer, whose hidden states are merged here. *Readers* are the streams of what is behind: one,
or the two directions of a layer, whose steps are sent in turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.bidirectional import merge_fraction
from hdl.buffer import Beat, ColumnBuffer, of_stream, page_of
from hdl.multiplier import Multiplier
from hdl.pipeline import Pipeline
from hdl.registers import delayed
from hdl.rounding import rounded, saturated
from hdl.sequence_cycles import Link

__all__ = ["SequenceBuffer"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """Where a word is read.

    Parameters
    ----------
    issue : Signal
        Whether one is.
    page : Signal
        The half of the pages in which its sequence is.
    steps : list of Value
        For each writer, where its part of the step lies.
    part : Signal
        Which writer's it is, where they are read one after the other.
    word : Signal
        Which one of the part.
    marks : Value
        What travels with it: whether it is the last of the part, whether the step is its reader's
        last one, and which reader that is.
    """

    issue: Signal
    page: Signal
    steps: list[Value]
    part: Signal
    word: Signal
    marks: Value


class SequenceBuffer(wiring.Component):
    """Two sequences of up to ``longest`` steps.

    Parameters
    ----------
    link : Link
        Between what it is.
    counts : sequence of int
        Columns in each beat of a step that comes.
    columns : int
        Columns that are read in a cycle, where there are so many.
    longest : int
        Steps of a sequence, at most.
    pipeline : Pipeline

    Attributes
    ----------
    link : Link
    cycles : SequenceCycles
        The cycle model.

    Members
    -------
    i : In(stream.Signature(Beat))
        Steps; the stream is the writer. Taken while the writer has a page free; what never waits
        has to know from ``freed``. Steps beyond the longest sequence take the place of the last
        one.
    o : Out(stream.Signature(Beat))
        Steps of whole sequences, for each reader in turn; the stream is the reader.
    freed : Out(writers)
        A sequence has been read: there is room for another one of each writer. At first there is
        for two.
    overlong : Out(1)
        Sticky: a sequence had more than ``longest`` steps.
    saturated : Out(1)
        Sticky: a merged value has saturated.
    """

    freed: Signal

    def __init__(self, link: Link, counts: Sequence[int], *, columns: int, longest: int,
                 pipeline: Pipeline):
        self.cycles = cycles = link.cycles(columns=columns, beat=max(counts), longest=longest,
                                           pipeline=pipeline)
        self.link = link
        self._x, self._y = x, y = link.x, link.y
        self._counts = tuple(counts)
        writers, readers = len(cycles.written), len(cycles.read)
        super().__init__({
            "i": In(stream.Signature(Beat(x.width, max(counts), writers, keeps=link.keeps))),
            "o": Out(stream.Signature(Beat(y.width, cycles.columns, readers, keeps=link.keeps))),
            "freed": Out(writers),
            "overlong": Out(1),
            "saturated": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        k = self.cycles
        # For each half of the pages: steps of the sequence in it but for one, whether it is
        # complete, each writer's part of it, and whether its state is kept.
        length = [Signal(range(k.longest), name=f"length{half}") for half in range(2)]
        done = [Signal(len(k.written), name=f"done{half}") for half in range(2)]
        keep = [Signal(name=f"keep{half}") for half in range(2)] if k.keeps else []
        release = Signal(2)
        written = [self._write(m, n, length, done, keep) for n in range(len(k.written))]
        for at in range(2):
            with m.If(release[at]):
                m.d.sync += done[at].eq(0)
        m.d.comb += [
            self.i.ready.eq(of_stream(Cat(free for _, free in written), self.i.payload.stream)),
            self.freed.eq(release.any().replicate(len(k.written))),
        ]
        place, room = self._walk(m, length, done, release)
        chosen, overflow = self._read(m, [columns for columns, _ in written], place)
        self._send(m, chosen, overflow, place, keep, room)
        return m

    def _write(self, m: Module, n: int, length: list[Signal], done: list[Signal],
               keep: list[Signal]) -> tuple[ColumnBuffer, Value]:
        """The buffer of a writer, and whether it has a page free."""
        k, beat = self.cycles, self.i.payload
        m.submodules[f"columns{n}"] = columns = ColumnBuffer(
            width=self._x.width, columns=k.columns, offset=0, counts=self._counts,
            streams=k.longest, latency=k.memory)
        half, step = Signal(name=f"half{n}"), Signal(range(k.longest), name=f"step{n}")
        m.d.comb += [
            columns.beat.data.eq(beat.data),
            columns.beat.count.eq(beat.count),
            columns.valid.eq(self.i.valid & self.i.ready & (beat.stream == n)),
            columns.write_page.eq(page_of(step, half)),
        ]
        with m.If(columns.filled):
            with m.If(beat.last):
                m.d.sync += [step.eq(0), half.eq(~half)]
                for at in range(2):
                    with m.If(half == at):
                        m.d.sync += [length[at].eq(step), done[at][n].eq(1)]
                        if k.keeps:
                            m.d.sync += keep[at].eq(beat.keep)
            with m.Elif(step == k.longest - 1):
                m.d.sync += self.overlong.eq(1)
            with m.Else():
                m.d.sync += step.eq(step + 1)
        return columns, ~Mux(half, done[1][n], done[0][n])

    def _walk(self, m: Module, length: list[Signal], done: list[Signal], release: Signal
              ) -> tuple[_Place, Signal]:
        """Read a sequence at a time, each of its steps for one reader after the other.

        Returns where, and the room in the queue behind, which is counted where that is.
        """
        k = self.cycles
        busy, page = Signal(), Signal()
        up, down = Signal(range(k.longest)), Signal(range(k.longest))
        reader, part, word = (Signal(range(count), name=name) for count, name in (
            (len(k.read), "reader"), (k.parts, "part"), (k.words, "word")))
        last_word, last_part, last_reader, last = (
            word == k.words - 1, part == k.parts - 1, reader == len(k.read) - 1, down == 0)
        room, issue = Signal(range(k.queue + 1), init=k.queue), Signal()
        m.d.comb += issue.eq(busy & (room != 0))
        with m.If(~busy & Mux(page, done[1].all(), done[0].all())):
            m.d.sync += [busy.eq(1), down.eq(Mux(page, length[1], length[0])), up.eq(0)]
        with m.If(issue):
            m.d.sync += word.eq(Mux(last_word, 0, word + 1))
            with m.If(last_word):
                m.d.sync += part.eq(Mux(last_part, 0, part + 1))
                with m.If(last_part):
                    m.d.sync += reader.eq(Mux(last_reader, 0, reader + 1))
                    with m.If(last_reader):
                        m.d.sync += [up.eq(up + 1), down.eq(down - 1)]
                        with m.If(last):
                            m.d.sync += [busy.eq(0), page.eq(~page)]
                            m.d.comb += release.eq(Mux(page, 2, 1))
        # Steps lie where they came: one that is read in the order of its being written comes up.
        steps = []
        for reverse in k.written:
            along: Value = Cat(wanted == reverse for wanted in k.read).bit_select(reader, 1)
            steps.append(Mux(along, up, down))
        place = _Place(issue=issue, page=page, steps=steps, part=part, word=word,
                       marks=Cat(last_word, last, reader))
        return place, room

    def _read(self, m: Module, buffers: list[ColumnBuffer], place: _Place
              ) -> tuple[list[Value], list[Value]]:
        """The columns of a word, one writer's or both merged, and which of them have saturated."""
        k = self.cycles
        for columns, step in zip(buffers, place.steps, strict=True):
            m.d.comb += [columns.address.eq(place.word),
                         columns.read_page.eq(page_of(step, place.page))]
        found = [[columns.data[n] for n in range(k.columns)] for columns in buffers]
        if k.merge != "concat":
            both = [self._merged(m, n, p, q) for n, (p, q) in enumerate(zip(*found, strict=True))]
            return [code for code, _ in both], [outside for _, outside in both]
        if k.parts > 1:
            second = delayed(m, place.part, k.memory)
            return [Mux(second, q, p) for p, q in zip(*found, strict=True)], []
        return found[0], []

    def _merged(self, m: Module, n: int, p: Value, q: Value) -> tuple[Value, Value]:
        """One column of both writers made one, and whether it saturates."""
        k = self.cycles
        exact: Value
        if k.merge == "mul":
            product = Multiplier(signed(self._x.width), signed(self._x.width),
                                 stages=k.pipeline.multiplier)
            m.submodules[f"product{n}"] = product
            m.d.comb += [product.a.eq(p), product.b.eq(q)]
            exact = product.p
        else:
            exact = delayed(m, p + q, 1)
        whole = rounded(exact, merge_fraction(k.merge, self._x) - self._y.f)
        code, outside = saturated(delayed(m, whole, k.pipeline.rounding - 1), self._y)
        return delayed(m, code, 1), delayed(m, outside, 1)

    def _send(self, m: Module, chosen: list[Value], overflow: list[Value], place: _Place,
              keep: list[Signal], room: Signal) -> None:
        """From the columns of a word to a beat, through a queue; counts the room there."""
        k = self.cycles
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(
            width=self.o.payload.shape().size, depth=k.queue)
        entering = Signal(self.o.payload.shape())
        about = delayed(m, place.marks, k.memory + k.merging)
        if k.keeps:
            m.d.comb += entering.keep.eq(delayed(m, Mux(place.page, *reversed(keep)),
                                                 k.memory + k.merging))
        m.d.comb += [
            *(entering.data[n].eq(value) for n, value in enumerate(chosen)),
            entering.count.eq(Mux(about[0], k.counts[k.words - 1], k.columns)),
            entering.last.eq(about[1]),
            entering.stream.eq(about[2:]),
            queue.w_data.eq(entering),
            queue.w_en.eq(delayed(m, place.issue, k.memory + k.merging, reset=True)),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
        ]
        m.d.sync += room.eq(room + (queue.r_en & queue.r_rdy) - place.issue)
        with m.If(queue.w_en & Cat(outside & (n < entering.count)
                                   for n, outside in enumerate(overflow)).any()):
            m.d.sync += self.saturated.eq(1)
