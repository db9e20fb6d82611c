"""A dense layer: a matrix-vector product on an array of its own, beside the layer before it."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.quantized import QuantizedDense
from hdl.buffer import Beat, StepBuffer
from hdl.cycles import DenseFolding, array_latency
from hdl.mac import MacArray, Sequencer, pack_weights
from hdl.rounding import round_saturate

__all__ = ["DenseEngine"]

# Cycles from complete sums to their arrival in the output queue: held, bias, rounding.
OUTPUT_LATENCY = 3
# Cycles from there until a beat that is taken at once makes room for another.
QUEUE_LATENCY = 3


class DenseEngine(wiring.Component):
    """A folded dense layer.

    Parameters
    ----------
    layer : QuantizedDense
    folding : DenseFolding
    counts : sequence of int
        Columns in each input beat of a step.

    Attributes
    ----------
    passes, words : int
        The product takes ``passes`` passes of ``words`` cycles.
    cycles : int
        ``passes * words``.
    latency : int
        Cycles from the issue of the last column of a pass to its beat standing at the output.

    Members
    -------
    i : In(stream.Signature(Beat))
        The input vector, in order.
    freed : Out(1)
        The input buffer has a page free again.
    o : Out(stream.Signature(Beat))
        Outputs, in order, ``rows`` in a beat. ``last`` marks the last beat of a sequence.
    saturated : Out(1)
        Sticky: an output has saturated.
    """

    freed: Signal

    def __init__(self, layer: QuantizedDense, *, folding: DenseFolding, counts: Sequence[int]):
        self._layer = layer
        self._folding = folding
        self._counts = tuple(counts)
        super().__init__({
            "i": In(stream.Signature(Beat(layer.formats.x.width, max(counts)))),
            "freed": Out(1),
            "o": Out(stream.Signature(Beat(layer.formats.y.width, folding.rows))),
            "saturated": Out(1),
        })

    @property
    def layer(self) -> QuantizedDense:
        return self._layer

    @property
    def folding(self) -> DenseFolding:
        return self._folding

    @property
    def words(self) -> int:
        return ceil(self._layer.inputs / self._folding.columns)

    @property
    def passes(self) -> int:
        return ceil(self._layer.outputs / self._folding.rows)

    @property
    def cycles(self) -> int:
        return self.passes * self.words

    @property
    def latency(self) -> int:
        return array_latency(self._folding.columns) + OUTPUT_LATENCY + 2

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        layer, f, formats = self._layer, self._folding, self._layer.formats
        passes, words = self.passes, self.words
        m.submodules.x_buffer = x = StepBuffer(width=formats.x.width, columns=f.columns,
                                        counts=self._counts)
        m.submodules.sequencer = sequencer = Sequencer(passes=passes, words=words)
        m.submodules.array = array = MacArray(
            pack_weights(layer.w, rows=f.rows, columns=f.columns),
            weight_width=formats.w.width, operand_width=formats.x.width,
            width=layer.array.width)
        wiring.connect(m, wiring.flipped(self.i), x.i)

        # Deep enough that a pass never waits for the one before to get through.
        depth = ceil((self.latency + QUEUE_LATENCY) / words) + 1
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=self.o.payload.shape().size,
                                                           depth=depth)
        room = Signal(range(depth + 1), init=depth)
        takes = sequencer.issue & sequencer.last
        m.d.sync += room.eq(room + (queue.r_en & queue.r_rdy) - takes)
        m.d.comb += [
            sequencer.go.eq(x.ready),
            sequencer.stall.eq(sequencer.last & (room == 0)),
            x.address.eq(sequencer.word),
            x.release.eq(sequencer.issue & sequencer.end),
            self.freed.eq(x.release),
            array.issue.eq(sequencer.issue),
            array.last.eq(sequencer.last),
            array.address.eq(sequencer.address),
            array.operands.eq(x.data),
        ]

        # What travels with a pass: whether it ends a step, and a sequence.
        end, last = sequencer.end, x.last & sequencer.end
        for _ in range(array.latency + OUTPUT_LATENCY):
            marks = Signal(2, reset_less=True)
            m.d.sync += marks.eq(Cat(end, last))
            end, last = marks

        width = max(1, *(int(bias).bit_length() + 1 for bias in layer.bias))
        biases = data.ArrayLayout(signed(width), f.rows)
        codes = [int(bias) & (1 << width) - 1 for bias in layer.bias]
        codes += [0] * (passes * f.rows - layer.outputs)
        rom: memory.Memory = memory.Memory(
            shape=biases, depth=passes,
            init=[[code - (code >> width - 1 << width) for code in codes[n:n + f.rows]]
                  for n in range(0, len(codes), f.rows)])
        m.submodules.bias = rom
        port = rom.read_port()
        a_pass = Signal(range(passes))
        m.d.comb += port.addr.eq(a_pass)
        with m.If(array.done):
            m.d.sync += a_pass.eq(Mux(a_pass == passes - 1, 0, a_pass + 1))

        # Marks in the cycles in which the sums are held, biased and rounded.
        marks = Signal(OUTPUT_LATENCY)
        m.d.sync += marks.eq(Cat(array.done, marks))
        _, summed, given = marks
        outputs = Signal(self.o.payload.shape())
        rest = layer.outputs - (passes - 1) * f.rows
        for row in range(f.rows):
            held = Signal(signed(layer.array.width), name=f"held{row}", reset_less=True)
            total = Signal(signed(layer.accumulator.width), name=f"total{row}", reset_less=True)
            m.d.sync += [held.eq(array.sums[row]), total.eq(held + port.data[row])]
            code, overflow = round_saturate(total, formats.product_fraction, formats.y)
            m.d.sync += outputs.data[row].eq(code)
            with m.If(summed & overflow):
                m.d.sync += self.saturated.eq(1)
        m.d.comb += [
            outputs.count.eq(f.rows),
            outputs.last.eq(last),
            queue.w_data.eq(outputs),
            queue.w_en.eq(given),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
        ]
        with m.If(end):
            m.d.comb += outputs.count.eq(rest)
        return m
