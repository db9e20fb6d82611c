"""LSTM engines for the proofs: small ones, and how to get at what is inside of them.

What is proven of an engine is a matter of control: which word, which page, which cycle. So numbers
are left out. Hidden states are *tags* of one bit, which a proof gives them as they are written: a
buffer moves its columns about and does nothing else with them, so that what holds of a tag on any
one column of any one step holds of every number.

A part of an engine is opened by elaborating it once and for all; a stand-in takes its place by
elaborating to something else.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assume, Module, Shape, ShapeLike, Signal, Value

from golden.bidirectional import QuantizedBidirectional, QuantizedLayer
from golden.fixed import SQ, UQ
from golden.formats import LSTMFormats
from golden.quantized import QuantizedLSTM
from hdl.buffer import ColumnBuffer, StepBuffer, beat_counts
from hdl.drain import Drain
from hdl.foldings import choose_drain
from hdl.lstm import LSTMEngine
from hdl.pipeline import PIPELINES
from hdl.ram import RAM
from hdl.registers import delayed
from proofs.checks import Claims
from proofs.rules import opened

__all__ = ["EngineShape", "Tagged", "anything", "begun", "chosen", "looked_up",
           "register", "registers", "replaced", "steady", "timed", "unsteady", "words_of"]

FORMATS = LSTMFormats(x=SQ(2, 6), h=SQ(1, 7), c=SQ(3, 5), w_x=SQ(2, 6), w_h=SQ(3, 5),
                      z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6))


@dataclass(frozen=True, kw_only=True)
class EngineShape:
    """An LSTM engine.

    Parameters
    ----------
    inputs, hidden, units, columns : int
        N, H, U and V.
    pipeline : str
    streams : int
    both : bool
        Both directions, in place of streams.
    every_step : bool
    """

    inputs: int
    hidden: int
    units: int
    columns: int
    pipeline: str = "short"
    streams: int = 1
    both: bool = False
    every_step: bool = True
    states: bool = False
    projected: int | None = None

    def __str__(self) -> str:
        ways = ", both ways" if self.both else ""
        streams = f", {self.streams} streams" if self.streams > 1 else ""
        projected = f", R = {self.projected}" if self.projected else ""
        return (f"N = {self.inputs}, H = {self.hidden}, U = {self.units}, V = {self.columns}, "
                f"{self.pipeline}{streams}{ways}{projected}")

    @property
    def layer(self) -> QuantizedLayer:
        rows, outputs = 4 * self.hidden, self.projected or self.hidden
        formats = replace(FORMATS, w_r=FORMATS.w_h) if self.projected else FORMATS

        def direction(*, reverse: bool) -> QuantizedLSTM:
            return QuantizedLSTM(
                formats=formats, w_x=np.ones((rows, self.inputs), dtype=np.int64),
                w_h=np.ones((rows, outputs), dtype=np.int64), reverse=reverse,
                bias=np.zeros(rows, dtype=np.int64), projection=np.ones(
                    (outputs, self.hidden), dtype=np.int64) if self.projected else None)
        forward = direction(reverse=False)
        if not self.both:
            return forward
        return QuantizedBidirectional(forward=forward, backward=direction(reverse=True))

    def engine(self) -> LSTMEngine:
        pipeline = PIPELINES[self.pipeline]
        folding = choose_drain(self.inputs, self.hidden, units=self.units, columns=self.columns,
                               pipeline=pipeline, streams=2 if self.both else self.streams,
                               projected=self.projected)
        return LSTMEngine(
            self.layer, folding=folding, pipeline=pipeline, streams=self.streams,
            counts=beat_counts(self.inputs, min(self.columns, self.inputs)),
            every_step=self.every_step, reads="h" if self.states else "")


def anything(m: Module, shape: ShapeLike, name: str) -> Signal:
    """Any value, a new one in each cycle."""
    signal = Signal(shape, name=name)
    m.d.comb += signal.eq(AnySeq(Shape.cast(shape)))
    return signal


def chosen(m: Module, count: int, name: str) -> Signal:
    """Any one of so many, for ever."""
    signal = Signal(range(count), name=name)
    m.d.comb += [signal.eq(AnyConst(signal.shape())), Assume(signal < count)]
    return signal


def looked_up(m: Module, index: Value, values: list[int], name: str) -> Signal:
    """The value of that number."""
    signal = Signal(range(max(values) + 1), name=name)
    with m.Switch(index):
        for n, value in enumerate(values):
            with m.Case(n):
                m.d.comb += signal.eq(value)
    return signal


def replaced(component: Any, m: Module) -> None:
    """Let a component elaborate to something else."""
    component.elaborate = lambda platform: m


def registers(m: Module) -> list[Any]:
    """The registers of a module, in the order in which it comes to drive them."""
    driven: Any = m._driving
    return [signal for signal, domains in driven.items() if not domains or "sync" in domains]


def register(m: Module, name: str, number: int = 0) -> Any:
    """One of the registers of a module that have this name."""
    return [signal for signal in registers(m) if signal.name == name][number]


def begun(shape: EngineShape, *, alone: bool = True
          ) -> tuple[Module, Claims, LSTMEngine, Module]:
    """A bench with an engine in it.

    Parameters
    ----------
    shape : EngineShape
    alone : bool
        Pages behind it are given back at any time.

    Returns
    -------
    m : Module
    check : Claims
    engine : LSTMEngine
    inside : Module
        Of the engine.
    """
    m = Module()
    m.submodules.engine = engine = shape.engine()
    inside = opened(engine)
    if alone:
        m.d.comb += engine.freed_behind.eq(anything(m, engine.freed_behind.shape(), "freed"))
    return m, Claims(m), engine, inside


class Tagged:
    """Makes the columns of a buffer tags of one bit, given from outside.

    Parameters
    ----------
    buffer : ColumnBuffer
        Not yet elaborated.

    Attributes
    ----------
    tags : Signal(lanes)
        Those of the beat that is being written.
    inner : ColumnBuffer
        What is behind it: the same, one bit wide.
    """

    def __init__(self, buffer: ColumnBuffer):
        self.tags = Signal(len(buffer.beat.data))
        self.inner = inner = ColumnBuffer(
            width=1, columns=buffer._columns, offset=buffer._offset, counts=buffer._counts,
            streams=buffer._pages // 2, latency=buffer._latency, forward=buffer._forward,
            collides=buffer._collides)
        m = Module()
        m.submodules.inner = inner
        m.d.comb += [
            inner.valid.eq(buffer.valid),
            *(inner.beat[name].eq(buffer.beat[name]) for name, _ in inner.beat.shape()
              if name != "data"),
            *(inner.beat.data[n].eq(tag) for n, tag in enumerate(self.tags)),
            inner.write_page.eq(buffer.write_page),
            inner.read_page.eq(buffer.read_page),
            inner.address.eq(buffer.address),
            buffer.filled.eq(inner.filled),
            *(buffer.data[n].eq(column) for n, column in enumerate(inner.data)),
        ]
        replaced(buffer, m)


def words_of(memory: RAM) -> list[Signal]:
    """Make a memory one whose words can be looked at.

    What is read in the cycle of its being written may be anything, unless it is the old word by
    contract.
    """
    words = [Signal(memory.shape, name=f"word{n}", reset_less=True) for n in range(memory.depth)]
    m = Module()
    read = Signal(memory.shape, reset_less=True)
    with m.If(memory.write_en), m.Switch(memory.write_addr):
        for n, word in enumerate(words):
            with m.Case(n):
                m.d.sync += word.eq(memory.write_data)
    with m.Switch(memory.read_addr):
        for n, word in enumerate(words):
            with m.Case(n):
                m.d.sync += read.eq(word)
    if not memory.collides:
        with m.If(memory.write_en & (memory.write_addr == memory.read_addr)):
            m.d.sync += read.eq(AnySeq(memory.shape))
    m.d.comb += memory.read_data.eq(delayed(m, read, memory.latency - 1))
    replaced(memory, m)
    return words


def unsteady(buffer: StepBuffer) -> None:
    """Make a buffer one that has a step, or has not, as it likes."""
    m = Module()
    for signal in (buffer.ready, buffer.last, buffer.page):
        m.d.comb += signal.eq(AnySeq(signal.shape()))
    # It would be taken for forgotten.
    buffer._buffer._MustUse__used = True
    replaced(buffer, m)


def steady(buffer: StepBuffer) -> Signal:
    """Make a buffer one in which a step that is there stays until it has been read.

    Returns which streams have had one for a cycle.
    """
    m = Module()
    there, last = Signal.like(buffer.ready), Signal.like(buffer.last)
    m.d.comb += [
        buffer.ready.eq(there | AnySeq(buffer.ready.shape())),
        buffer.last.eq((there & last) | (~there & AnySeq(buffer.last.shape()))),
        buffer.page.eq(AnySeq(buffer.page.shape())),
    ]
    m.d.sync += [there.eq(buffer.ready & ~buffer.release), last.eq(buffer.last)]
    buffer._buffer._MustUse__used = True
    replaced(buffer, m)
    return there


def timed(drain: Drain) -> None:
    """Leave a drain's outputs to the proof."""
    replaced(drain, Module())
