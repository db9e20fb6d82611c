"""No input is read before it is written, or overwritten before it has been read.

The watched column of the watched step is any one. Its bit is set, and that of all other columns of
all steps is not; it must be the operand in this column, in all passes of this step, and in nothing
else. Beats come as a step's beats do, with pauses, for any stream; the drain and what is behind the
engine are left out, or may do anything.
"""

from functools import partial

from amaranth.hdl import Module, Mux, Signal

from hdl.column_cycles import PAGES
from hdl.registers import delayed
from proofs.engines import EngineShape, Tagged, anything, begun, chosen, looked_up, timed
from proofs.proof import Engine, Fault, Proof

__all__ = ["PROOFS"]

def hazard(shape: EngineShape) -> Module:
    m, check, engine, inside = begun(shape)
    k, parts = engine.cycles, inside.submodules
    sequencer, array = parts.sequencer, parts.array
    timed(parts.drain)
    Tagged(parts.h_buffer)

    # Beats of whole steps, each of some stream.
    counts, beat = engine._counts, engine.i.payload
    number, whose, now = (Signal(range(count), name=name) for count, name in (
        (len(counts), "number"), (k.streams, "whose"), (k.streams, "now")))
    at = looked_up(m, number, [sum(counts[:n]) for n in range(len(counts))], "at")
    taken, full = Signal(), Signal()
    m.d.comb += [
        engine.i.valid.eq(anything(m, 1, "offered") & (now < k.streams)),
        now.eq(Mux(number == 0, anything(m, now.shape(), "any_stream"), whose)),
        beat.stream.eq(now),
        beat.last.eq(anything(m, 1, "last")),
        beat.count.eq(looked_up(m, number, list(counts), "count")),
        taken.eq(engine.i.valid & engine.i.ready),
        full.eq(taken & (number == len(counts) - 1)),
    ]
    with m.If(taken):
        m.d.sync += [number.eq(Mux(full, 0, number + 1)), whose.eq(now)]

    # How many steps of the watched stream are there, and how many are before the watched one.
    stream, column = chosen(m, k.streams, "stream"), chosen(m, k.inputs, "column")
    ended = sequencer.ended.bit_select(stream, 1)
    held, ahead = Signal(range(PAGES + 2)), Signal(range(PAGES + 2))
    over, waits, writing, picks = (Signal(name=name) for name in (
        "over", "waits", "writing", "picks"))
    m.d.comb += picks.eq(taken & (number == 0) & (now == stream) & anything(m, 1, "pick")
                         & ~waits & ~over)
    m.d.sync += held.eq(held + (full & (now == stream)) - ended)
    with m.If(picks):
        m.d.sync += [waits.eq(1), writing.eq(~full), ahead.eq(held - ended)]
    with m.Else():
        with m.If(full):
            m.d.sync += writing.eq(0)
        with m.If(ended & waits):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += [waits.eq(0), over.eq(1)]
    for n, data in enumerate(beat.data):
        m.d.comb += data[0].eq((picks | writing) & (at + n == column))
    # A page that is given back is free a cycle later.
    back = Signal()
    m.d.sync += back.eq(ended)
    check.follows("room", now == stream, engine.i.ready == (held + back < PAGES))
    # A page is given back only where there is one, and taken only where one is free.
    check.holds("held", held <= PAGES)
    check.follows("given_back", ended, held != 0)

    word = Signal(range(k.words))
    with m.If(sequencer.issue):
        m.d.sync += word.eq(Mux(word == k.words - 1, 0, word + 1))
    watched = sequencer.issue & (sequencer.stream == stream) & waits & (ahead == 0)
    check.follows("written", watched, ~writing)
    issue, late, its = (delayed(m, value, k.memory + 1, reset=True)
                        for value in (sequencer.issue, word, watched))
    for v in range(k.folding.columns):
        place = Signal(range(k.words * k.folding.columns), name=f"place{v}")
        m.d.comb += place.eq(late * k.folding.columns + v)
        check.follows(f"operand{v}", issue & (place < k.inputs),
                      array.operands[v][0] == (its & (place == column)))
    return m


SHAPES = (
    EngineShape(inputs=1, hidden=2, units=1, columns=1),
    EngineShape(inputs=3, hidden=2, units=1, columns=2, streams=2),
    EngineShape(inputs=2, hidden=1, units=1, columns=1, pipeline="fast", both=True),
)

PROOFS = tuple(
    Proof(
        name=f"engine.inputs{n}", bench=partial(hazard, shape), engine=Engine.PDR,
        claim="each step reads its own inputs, none too early and none overwritten; no page of "
              f"them is taken twice or given back twice ({shape})",
        faults=[
            Fault(module="hdl.buffer", old="m.d.sync += [room[n].eq(~used), used.eq(1)]",
                  new="m.d.sync += [room[n].eq(1), used.eq(1)]", depth=30),
            Fault(module="hdl.lstm", old="x.read_page.eq(page_of(sequencer.stream, "
                  "of_stream(x.page, sequencer.stream)))",
                  new="x.read_page.eq(page_of(sequencer.stream, of_stream(~x.page, "
                  "sequencer.stream)))", depth=30),
        ])
    for n, shape in enumerate(SHAPES))
