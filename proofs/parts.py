"""The smallest of each part that has all of what its control has to deal with.

What is proven of streams is a matter of control, so numbers have two or three bits.
"""

from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.argmax import ArgMax
from golden.fixed import SQ, UQ
from golden.formats import Curve, DenseFormats, LSTMFormats
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.softmax import Softmax
from hdl.buffer import Beat, StepBuffer
from hdl.dense import DenseEngine
from hdl.dense_cycles import DenseFolding
from hdl.entrance import Entrance
from hdl.foldings import choose_drain
from hdl.largest import ArgMaxEngine
from hdl.lstm import LSTMEngine
from hdl.outlet import Outlet
from hdl.pipeline import SHORT, Pipeline
from hdl.sequence import SequenceBuffer
from hdl.sequence_cycles import Link
from hdl.softmax import SoftmaxEngine
from hdl.states import StateLoader, StateReader, Tensor

__all__ = ["CODE", "COUNTS", "DENSE", "INTERPOLATED", "LOGIT", "SOFTMAX", "TENSORS", "Layer",
           "argmax", "dense", "entrance", "loader", "outlet", "reader", "sequence", "softmax",
           "step_buffer"]

COUNTS = (2, 1)
"""Columns in each beat of a step: a full beat, and the rest."""

STREAMS = 2
CODE = SQ(2, 0)
LOGIT = SQ(1, 1)

DENSE = QuantizedDense(formats=DenseFormats(x=CODE, w=CODE, y=CODE),
                       w=np.array([[1, 0, 1], [0, -1, -2], [1, 1, -1]]), bias=np.array([1, 0, -1]))
SOFTMAX = Softmax(x=LOGIT, inputs=sum(COUNTS), y=SQ(2, 1))
INTERPOLATED = Softmax(x=SQ(1, 7), inputs=sum(COUNTS), y=SQ(2, 1))
"""A softmax whose powers are a table, and one that finds them between those of a table."""

TENSORS = (Tensor(name="lstm0.h", width=2, counts=(2, 1)), Tensor(name="lstm0.c", width=2,
                                                                  counts=(1, 1)))


def entrance(*, stateful: bool = False, longest: int | None = None) -> Entrance:
    """Of three streams, so that there is a TID of none."""
    return Entrance(width=CODE.width, counts=COUNTS, streams=3, stateful=stateful, longest=longest)


def step_buffer() -> StepBuffer:
    return StepBuffer(width=CODE.width, columns=2, counts=COUNTS, streams=STREAMS, keeps=True)


def outlet() -> Outlet:
    return Outlet(CODE, lanes=2, counts=COUNTS, streams=STREAMS)


def dense(*, pipeline: Pipeline = SHORT) -> DenseEngine:
    """Three inputs and three outputs, two passes of two words."""
    return DenseEngine(DENSE, folding=DenseFolding(rows=2, columns=2), counts=COUNTS,
                       pipeline=pipeline, streams=STREAMS)


def argmax() -> ArgMaxEngine:
    return ArgMaxEngine(ArgMax(x=CODE, inputs=sum(COUNTS)), counts=COUNTS, streams=STREAMS)


def softmax(*, unit: Softmax = SOFTMAX, pipeline: Pipeline = SHORT) -> SoftmaxEngine:
    return SoftmaxEngine(unit, counts=COUNTS, pipeline=pipeline, streams=STREAMS)


def sequence(*, read: tuple[bool, ...] = (True,), written: tuple[bool, ...] = (False,),
             merge: str = "concat", pipeline: Pipeline = SHORT) -> SequenceBuffer:
    """Of three columns, up to two steps long."""
    link = Link(written=written, read=read, features=sum(COUNTS), merge=merge, x=CODE, y=CODE,
                single=False)
    return SequenceBuffer(link, COUNTS, columns=2, longest=2, pipeline=pipeline)


def reader(*, latency: int = 1) -> StateReader:
    return StateReader(TENSORS, streams=STREAMS, latency=latency)


def loader() -> StateLoader:
    """Of three streams, so that there is a TID of none."""
    return StateLoader(TENSORS, streams=3)


class Layer(wiring.Component):
    """An engine and its outlet: one unit, one input, and functions that are lines.

    Members
    -------
    i, o : streams of beats
    h : Out(stream.Signature(Beat))
        What goes from the one to the other.
    saturated : Out(4)
    """

    def __init__(self) -> None:
        lstm = QuantizedLSTM(
            formats=LSTMFormats(x=SQ(2, 0), h=SQ(1, 1), c=SQ(2, 2), w_x=SQ(1, 1), w_h=SQ(2, 0),
                                z=SQ(4, 2), gate=UQ(1, 2), tanh=SQ(2, 2), g=SQ(2, 2), s=SQ(2, 2)),
            w_x=np.array([[1], [-1], [1], [1]]), w_h=np.array([[1], [1], [-1], [1]]),
            bias=np.array([1, 1, 0, 1]), gate=Curve(False, 0, 4), of_candidate=Curve(False, -4, 4),
            of_cell=Curve(False, -4, 4))
        self._engine = engine = LSTMEngine(
            lstm, folding=choose_drain(1, 1, units=1, columns=1, pipeline=SHORT, streams=1),
            counts=(1,), every_step=True)
        self._outlet = Outlet(lstm.formats.h, lanes=1, counts=engine.cycles.counts)
        super().__init__({
            "i": In(stream.Signature(Beat(lstm.formats.x.width, 1, 1))),
            **{name: Out(stream.Signature(Beat(lstm.formats.h.width, 1, 1))) for name in "ho"},
            "saturated": Out(4),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.engine = engine = self._engine
        m.submodules.outlet = outlet = self._outlet
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        wiring.connect(m, engine.o, outlet.i)
        wiring.connect(m, outlet.o, wiring.flipped(self.o))
        m.d.comb += [
            self.h.valid.eq(engine.o.valid),
            self.h.payload.eq(engine.o.payload),
            engine.freed_behind.eq(outlet.freed),
            self.saturated.eq(engine.saturated),
        ]
        return m
