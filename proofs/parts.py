"""The smallest of each part that has all of what its control has to deal with.

What is proven of streams is a matter of control, so numbers have two or three bits.
"""

import numpy as np

from golden.argmax import ArgMax
from golden.fixed import SQ
from golden.quantized import DenseFormats, QuantizedDense
from golden.softmax import Softmax
from hdl.dense import DenseEngine
from hdl.dense_cycles import DenseFolding
from hdl.largest import ArgMaxEngine
from hdl.network import _Entrance
from hdl.outlet import Outlet
from hdl.pipeline import SHORT
from hdl.sequence import SequenceBuffer
from hdl.sequence_cycles import Link
from hdl.softmax import SoftmaxEngine
from hdl.states import StateLoader, StateReader, Tensor

__all__ = ["CODE", "COUNTS", "LOGIT", "argmax", "dense", "entrance", "loader", "outlet",
           "reader", "sequence", "softmax"]

COUNTS = (2, 1)
"""Columns in each beat of a step: a full beat, and the rest."""

STREAMS = 2
CODE = SQ(2, 0)
LOGIT = SQ(1, 1)

TENSORS = (Tensor(name="lstm0.h", width=2, counts=(2, 1)), Tensor(name="lstm0.c", width=2,
                                                                  counts=(1, 1)))


def entrance(*, stateful: bool = False) -> _Entrance:
    return _Entrance(width=CODE.width, counts=COUNTS, streams=STREAMS, stateful=stateful)


def outlet() -> Outlet:
    return Outlet(CODE, lanes=2, counts=COUNTS, streams=STREAMS)


def dense() -> DenseEngine:
    """Three inputs and three outputs, two passes of two words."""
    formats = DenseFormats(x=CODE, w=CODE, y=CODE)
    layer = QuantizedDense(formats=formats, w=np.array([[1, 0, 1], [0, -1, -2], [1, 1, -1]]),
                           bias=np.array([1, 0, -1]))
    return DenseEngine(layer, folding=DenseFolding(rows=2, columns=2), counts=COUNTS,
                       streams=STREAMS)


def argmax() -> ArgMaxEngine:
    return ArgMaxEngine(ArgMax(x=CODE, inputs=sum(COUNTS)), counts=COUNTS, streams=STREAMS)


def softmax() -> SoftmaxEngine:
    return SoftmaxEngine(Softmax(x=LOGIT, inputs=sum(COUNTS), y=SQ(2, 1)), counts=COUNTS,
                         streams=STREAMS)


def sequence(*, read: tuple[bool, ...] = (True,), written: tuple[bool, ...] = (False,)
             ) -> SequenceBuffer:
    """Of three columns, up to two steps long."""
    link = Link(written=written, read=read, features=sum(COUNTS), merge="concat", x=CODE, y=CODE,
                single=False)
    return SequenceBuffer(link, COUNTS, columns=2, longest=2, pipeline=SHORT)


def reader() -> StateReader:
    return StateReader(TENSORS, streams=STREAMS)


def loader() -> StateLoader:
    return StateLoader(TENSORS, streams=STREAMS)
