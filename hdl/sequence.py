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
        k, beat = self.cycles, self.i.payload
        # For each half of the pages: steps of the sequence in it but for one, whether it is
        # complete, each writer's part of it, and whether its state is kept.
        length = [Signal(range(k.longest), name=f"length{half}") for half in range(2)]
        done = [Signal(len(k.written), name=f"done{half}") for half in range(2)]
        keep = [Signal(name=f"keep{half}") for half in range(2)] if k.keeps else []
        release = Signal(2)
        buffers = []
        free = []
        for n in range(len(k.written)):
            m.submodules[f"columns{n}"] = columns = ColumnBuffer(
                width=self._x.width, columns=k.columns, offset=0, counts=self._counts,
                streams=k.longest, latency=k.memory)
            buffers.append(columns)
            half, step = Signal(name=f"half{n}"), Signal(range(k.longest), name=f"step{n}")
            free.append(~Mux(half, done[1][n], done[0][n]))
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
        for at in range(2):
            with m.If(release[at]):
                m.d.sync += done[at].eq(0)
        m.d.comb += [
            self.i.ready.eq(of_stream(Cat(free), beat.stream)),
            self.freed.eq(release.any().replicate(len(k.written))),
        ]

        # A sequence at a time, each of its steps for one reader after the other.
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

        # Steps lie where they came. So one that is read in the order of its being written comes up.
        words = []
        for columns, reverse in zip(buffers, k.written, strict=True):
            along: Value = Cat(wanted == reverse for wanted in k.read).bit_select(reader, 1)
            m.d.comb += [columns.address.eq(word), columns.read_page.eq(page_of(
                Mux(along, up, down), page))]
            words.append(columns.data)
        found = [[each[n] for n in range(k.columns)] for each in words]
        chosen = found[0]
        overflow: list[Value] = []
        if k.merge != "concat":
            both = [self._merged(m, n, p, q) for n, (p, q) in enumerate(zip(*found, strict=True))]
            chosen, overflow = [code for code, _ in both], [outside for _, outside in both]
        elif k.parts > 1:
            second = delayed(m, part, k.memory)
            chosen = [Mux(second, q, p) for p, q in zip(*found, strict=True)]

        m.submodules.queue = queue = fifo.SyncFIFOBuffered(
            width=self.o.payload.shape().size, depth=k.queue)
        entering = Signal(self.o.payload.shape())
        about = delayed(m, Cat(last_word, last, reader), k.memory + k.merging)
        if k.keeps:
            m.d.comb += entering.keep.eq(delayed(m, Mux(page, *reversed(keep)),
                                                 k.memory + k.merging))
        m.d.comb += [
            *(entering.data[n].eq(value) for n, value in enumerate(chosen)),
            entering.count.eq(Mux(about[0], k.counts[k.words - 1], k.columns)),
            entering.last.eq(about[1]),
            entering.stream.eq(about[2:]),
            queue.w_data.eq(entering),
            queue.w_en.eq(delayed(m, issue, k.memory + k.merging, reset=True)),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
        ]
        m.d.sync += room.eq(room + (queue.r_en & queue.r_rdy) - issue)
        with m.If(queue.w_en & Cat(outside & (n < entering.count)
                                   for n, outside in enumerate(overflow)).any()):
            m.d.sync += self.saturated.eq(1)
        return m

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
