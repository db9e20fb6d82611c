"""A step buffer gives each step as it came, in order, until it is released.

Columns have one bit: a buffer moves them about and does nothing else with them, so what holds for
any one bit of any one column holds for all.
"""

from functools import partial

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Module, Mux, Signal, unsigned

from hdl.buffer import StepBuffer, of_stream, page_of
from hdl.registers import delayed
from proofs.parts import COUNTS
from proofs.proof import Engine, Fault, Proof
from proofs.rules import anything, beats_of, opened

__all__ = ["PROOFS"]

COLUMNS = 2


def step_buffer(*, streams: int, latency: int, prompt: bool) -> Module:
    """A column of a marked step is read while its step is in front, as often as one likes.

    A reader decides on a word, or on the release, while the step is in front, and its address is
    registered, as it is wherever such a buffer is used: so the last word is read a cycle behind the
    release.
    """
    m = Module()
    m.submodules.dut = dut = StepBuffer(width=1, columns=COLUMNS, counts=COUNTS, streams=streams,
                                        latency=latency, prompt=prompt, keeps=True)
    banks = opened(opened(dut).submodules.columns).submodules
    anything(m, dut, "release", "address", "read_page")
    beat = dut.i.payload
    number = beats_of(m, dut.i, COUNTS, stay=("stream", "last", "keep"))
    whose = Signal.like(beat.stream, name="whose")
    column = Signal(range(sum(COUNTS)), name="column")
    m.d.comb += [whose.eq(AnyConst(whose.shape())), column.eq(AnyConst(column.shape()) % 3),
                 dut.release.eq(dut.ready & AnySeq(streams))]
    mine = dut.i.valid & dut.i.ready & (beat.stream == whose)
    ready, release = of_stream(dut.ready, whose), of_stream(dut.release, whose)

    # Steps that have begun and are not released, and whether the last one of them is complete.
    begins = mine & (number == 0)
    flying, coming = Signal(range(3)), Signal()
    m.d.sync += flying.eq(flying + begins - release)
    with m.If(mine):
        m.d.sync += coming.eq(number != len(COUNTS) - 1)
    m.d.comb += [Assert(~begins | (flying != 2)), Assert(ready == (flying > coming))]

    # The marked step, from its first beat to its release. There is but one.
    marked, gone, ahead = Signal(), Signal(), Signal.like(flying, name="ahead")
    bit, last, keep = Signal(), Signal(), Signal()
    mark = begins & ~marked & AnySeq(1)
    with m.If(mark):
        m.d.sync += [marked.eq(1), ahead.eq(flying - release), last.eq(beat.last),
                     keep.eq(beat.keep)]
    with m.If(mark | (mine & marked & ~gone & coming & (flying == ahead + 1))):
        for n, count in enumerate(COUNTS):
            first = sum(COUNTS[:n])
            with m.If((number == n) & (column >= first) & (column < first + count)):
                m.d.sync += bit.eq(Array(beat.data)[column - first])
    with m.If(marked & release):
        m.d.sync += [ahead.eq(Mux(ahead == 0, 0, ahead - 1)), gone.eq(gone | (ahead == 0))]
    front = marked & ~gone & (ahead == 0) & ready
    m.d.comb += [Assert(~front | (of_stream(dut.last, whose) == last)),
                 Assert(~front | (of_stream(dut.keep, whose) == keep))]

    asked = front & AnySeq(1)
    m.d.sync += [
        dut.address.eq(Mux(asked, column // COLUMNS, AnySeq(unsigned(len(dut.address))))),
        dut.read_page.eq(Mux(asked, page_of(whose, of_stream(dut.page, whose)),
                             AnySeq(unsigned(len(dut.read_page))))),
    ]
    read = Signal()
    m.d.sync += read.eq(asked)
    found = delayed(m, read, latency, reset=True)
    m.d.comb += Assert(~found | (Array(dut.data[n][0] for n in range(COLUMNS))[
        column % COLUMNS] == bit))
    if not prompt:
        # Memories that say nothing of a word that is just being written: none is read.
        for n in range(COLUMNS):
            for half in range(2):
                bank = getattr(banks, f"bank{n}_{half}")
                m.d.comb += Assert(~(
                    read & (column % COLUMNS == n) & (dut.read_page[0] == half)
                    & bank.write_en & (bank.write_addr == bank.read_addr)))
    return m


PROOFS = (
    Proof(name="buffer.step", engine=Engine.PDR,
          claim="each step is read as it came, in order, with its marks, until it is released; no "
                "word is read while it is written",
          bench=partial(step_buffer, streams=2, latency=1, prompt=False),
          faults=[
              Fault(module="hdl.buffer", old="m.d.sync += [room[n].eq(~used), used.eq(1)]",
                    new="m.d.sync += used.eq(1)", depth=12),
              Fault(module="hdl.buffer", old="[behind.eq(self.ready[n]), self.ready[n].eq(1)]",
                    new="self.ready[n].eq(1)", depth=12),
              Fault(module="hdl.buffer", old='"comb" if self._prompt', new='"comb" if True',
                    depth=12),
          ]),
    Proof(name="buffer.prompt", engine=Engine.PDR,
          claim="the same where a page is free at once, and where reading takes two cycles",
          bench=partial(step_buffer, streams=1, latency=2, prompt=True),
          faults=[
              Fault(module="hdl.buffer", old="[self.ready[n].eq(behind), behind.eq(0)]",
                    new="self.ready[n].eq(behind)", depth=12),
          ]),
)
