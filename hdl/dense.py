"""A dense layer: a matrix-vector product on an array of its own, beside the layer before it."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.quantized import QuantizedDense
from hdl.buffer import Beat, StepBuffer, of_stream, page_of
from hdl.dense_cycles import DenseCycles, DenseFolding
from hdl.mac import MacArray, Sequencer, banks, bias_memory, pack_weights
from hdl.pipeline import SHORT, Pipeline
from hdl.registers import delayed, free_places
from hdl.rounding import floor_to_even, half, limited
from hdl.table import TableUnit

__all__ = ["DenseEngine"]


class DenseEngine(wiring.Component):
    """A folded dense layer.

    Parameters
    ----------
    layer : QuantizedDense
    folding : DenseFolding
    counts : sequence of int
        Columns in each input beat of a step.
    pipeline : Pipeline
    streams : int
        Of the layer before. The head takes their steps in turn.
    direct : bool
        Without a queue and without a bias: ``o.ready`` is not looked at, and ``last`` marks every
        beat of a sequence's last step.
    keeps : bool
        Whether a step carries ``keep``, too.
    prompt : bool
        Of the input buffer, as of :class:`hdl.buffer.StepBuffer`.
    beside : sequence of QuantizedDense
        Layers of the same shape and formats for the second stream and those behind it, where each
        has weights of its own; without biases, too.

    Attributes
    ----------
    cycles : DenseCycles
        The cycle model of this layer.

    Members
    -------
    i : In(stream.Signature(Beat))
        The input vector, in order.
    freed : Out(streams)
        A page of a stream in the input buffer is free again.
    o : Out(stream.Signature(Beat))
        Outputs, in order, ``rows`` in a beat. ``last`` marks the last beat of a sequence.
    saturated : Out(1)
        Sticky: an output has saturated.
    """

    freed: Signal

    def __init__(self, layer: QuantizedDense, *, folding: DenseFolding, counts: Sequence[int],
                 pipeline: Pipeline = SHORT, streams: int = 1, direct: bool = False,
                 keeps: bool = False, prompt: bool = False,
                 beside: Sequence[QuantizedDense] = ()):
        if direct and layer.bias.any():
            raise ValueError("a dense layer that hands its outputs out directly must have no bias")
        self._layer = layer
        self._all = (layer, *beside)
        self._counts = tuple(counts)
        self._keeps = keeps
        self._prompt = prompt
        self.cycles = DenseCycles(inputs=layer.inputs, outputs=layer.outputs, folding=folding,
                                  pipeline=pipeline, streams=streams, tabled=layer.curve.table,
                                  direct=direct)
        super().__init__({
            "i": In(stream.Signature(Beat(layer.formats.x.width, max(counts), streams,
                                            keeps=keeps))),
            "freed": Out(streams),
            "o": Out(stream.Signature(Beat(layer.formats.y.width, folding.rows, streams,
                                             keeps=keeps))),
            "saturated": Out(1),
        })

    @property
    def layer(self) -> QuantizedDense:
        return self._layer

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        layer, k, formats = self._layer, self.cycles, self._layer.formats
        f, streams = k.folding, k.streams
        m.submodules.x_buffer = x = StepBuffer(
            width=formats.x.width, columns=f.columns, counts=self._counts, streams=streams,
            latency=k.memory, prompt=self._prompt, keeps=self._keeps)
        m.submodules.sequencer = sequencer = Sequencer(
            passes=k.passes, words=k.words, streams=streams)
        m.submodules.array = array = MacArray(
            banks([pack_weights(each.w, rows=f.rows, columns=f.columns) for each in self._all]),
            weight_width=formats.w.width, operand_width=formats.x.width,
            width=max(each.array.width for each in self._all), pipeline=k.pipeline)
        wiring.connect(m, wiring.flipped(self.i), x.i)

        if not k.direct:
            # Deep enough that a pass never waits for the one before to get through.
            m.submodules.queue = queue = fifo.SyncFIFOBuffered(
                width=self.o.payload.shape().size, depth=k.queue)
            room = free_places(m, k.queue, taken=sequencer.issue & sequencer.last,
                               freed=queue.r_en & queue.r_rdy)
        m.d.comb += [
            sequencer.ready.eq(x.ready),
            sequencer.stall.eq(0 if k.direct else sequencer.last & (room == 0)),
            x.release.eq(sequencer.ended),
            self.freed.eq(sequencer.ended),
            array.operands.eq(x.data),
        ]
        m.d.sync += [
            x.address.eq(sequencer.word),
            x.read_page.eq(page_of(sequencer.stream, of_stream(x.page, sequencer.stream))),
        ]
        # The word enters when its inputs have been read but for a cycle.
        wait = k.memory - 1
        address: Value = sequencer.address
        if len(self._all) > 1:
            address = Cat(address, sequencer.stream)
        m.d.comb += array.address.eq(delayed(m, address, wait))
        m.d.sync += [
            array.issue.eq(delayed(m, sequencer.issue, wait, reset=True)),
            array.last.eq(delayed(m, sequencer.last, wait)),
        ]

        # What travels with a pass: whether it ends a step, and a sequence, and whose it is.
        ends: Value = of_stream(x.last, sequencer.stream)
        travelling: Value = Cat(sequencer.end, ends if k.direct else ends & sequencer.end,
                                sequencer.stream)
        if self._keeps:
            travelling = Cat(travelling, of_stream(x.keep, sequencer.stream))
        travelling = delayed(m, travelling, k.memory + array.latency + k.output_latency)
        end, last = travelling[0], travelling[1]
        whose = travelling[2:2 + len(sequencer.stream)]

        marks, added = self._added(m, array)
        outputs = Signal(self.o.payload.shape())
        for row in range(f.rows):
            self._round(m, row, array.totals[row], added[row], marks, outputs)
        m.d.comb += [
            outputs.count.eq(f.rows),
            outputs.last.eq(last),
            outputs.stream.eq(whose),
        ]
        if self._keeps:
            m.d.comb += outputs.keep.eq(travelling[-1])
        if k.direct:
            m.d.comb += [self.o.valid.eq(marks[-1]), self.o.payload.eq(outputs)]
        else:
            m.d.comb += [
                queue.w_data.eq(outputs),
                queue.w_en.eq(marks[-1]),
                self.o.valid.eq(queue.r_rdy),
                self.o.payload.eq(queue.r_data),
                queue.r_en.eq(self.o.ready),
            ]
        with m.If(end):
            m.d.comb += outputs.count.eq(layer.outputs - (k.passes - 1) * f.rows)
        return m

    def _added(self, m: Module, array: MacArray) -> tuple[Signal, list[Value]]:
        """What is added to the sum of each row: its bias, and half a unit in the last place.

        That comes with the bias, as in the drain. Also gives the pass's mark: bit n says that its
        sums were complete n + 1 cycles ago.
        """
        layer, k, rows = self._layer, self.cycles, self.cycles.folding.rows
        ulp_half = half(self._drop)
        added: list[Value] = [Const(ulp_half)] * rows
        if not k.direct:
            biases = [int(bias) + ulp_half for bias in layer.bias]
            biases += [0] * (k.passes * rows - layer.outputs)
            rom, layout = bias_memory([biases[at:at + rows]
                                       for at in range(0, len(biases), rows)])
            m.submodules.bias = rom
            a_pass = Signal(range(k.passes))
            m.d.comb += rom.addr[0].eq(a_pass)
            # Read when the sums are about to be complete, and there when they are held.
            asked = Signal()
        marks = Signal(k.output_latency)
        m.d.sync += [] if k.direct else asked.eq(array.coming)
        m.d.sync += marks.eq(Cat(array.done, marks))
        if not k.direct:
            with m.If(asked):
                m.d.sync += a_pass.eq(Mux(a_pass == k.passes - 1, 0, a_pass + 1))
            bias = layout(delayed(m, rom.data[0], k.pipeline.bias - 1))
            added = [bias[row] for row in range(rows)]
        return marks, added

    def _round(self, m: Module, row: int, sums: Value, added: Value, marks: Signal, outputs: Any
               ) -> None:
        """From the running total of a row to its output, and the flag."""
        layer, pipeline, z = self._layer, self.cycles.pipeline, self._layer.formats.z
        held = Signal(signed(len(sums)), name=f"held{row}", reset_less=True)
        before = Signal(signed(len(sums)), name=f"before{row}")
        with m.If(marks[0]):
            m.d.sync += before.eq(held)
        passed = delayed(m, (held - before)[:len(sums)], pipeline.bias - 1)
        biased = passed.as_signed() + added
        total = Signal.like(biased, name=f"biased{row}", reset_less=True)
        m.d.sync += [held.eq(sums), total.eq(biased)]
        code, overflow = limited(
            floor_to_even(total, self._drop,
                          lambda value: delayed(m, value, pipeline.preactivation - 1)),
            z, layer.curve)
        rounded = self.cycles.output_latency
        if layer.curve.table:
            rounded -= pipeline.table + 1
            m.submodules[f"table{row}"] = table = TableUnit(layer.table, stages=pipeline.table)
            argument = Signal(signed(z.width), name=f"z{row}", reset_less=True)
            m.d.sync += argument.eq(code)
            m.d.comb += [table.z.eq(argument), table.reading.eq(layer.reading)]
            code = getattr(table, layer.table.readings[layer.reading].name)
        m.d.sync += outputs.data[row].eq(code)
        with m.If(marks[rounded - 2] & overflow):
            m.d.sync += self.saturated.eq(1)

    @property
    def _drop(self) -> int:
        """Bits of the sums that fall away."""
        return self._layer.formats.product_fraction - self._layer.formats.z.f
