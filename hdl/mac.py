"""The MAC array and the sequencer that walks it over a weight matrix, for one stream or several.

The sequencer *decides* on a word from registers alone, and its outputs are registered before they
reach the memories: a cycle that lies before the columns and costs nothing between steps.
"""

from collections.abc import Sequence
from math import ceil, log2
from typing import Any

import numpy as np
from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.fixed import signed_width
from hdl.cycles import BLOCK_WORDS
from hdl.multiplier import ACCUMULATOR_BITS, ICE40_BITS, Accumulator, Multiplier
from hdl.pipeline import Pipeline
from hdl.registers import Copy, delayed
from hdl.rom import ROM

__all__ = ["MacArray", "Sequencer", "banks", "bias_memory", "pack_weights"]


COPIED_ROWS = 16
"""Rows that share a register of the operands, where they have one."""


def pack_weights(w: np.ndarray, *, rows: int, columns: int) -> np.ndarray:
    """Cut a matrix into the words that an array of ``rows`` by ``columns`` reads in turn.

    Parameters
    ----------
    w : int array, R x K

    Returns
    -------
    int array, ``ceil(R / rows) * ceil(K / columns)`` x rows x columns
        Passes one after the other, and within a pass the columns; filled up with zeros.
    """
    passes, words = ceil(w.shape[0] / rows), ceil(w.shape[1] / columns)
    full = np.zeros((passes * rows, words * columns), dtype=np.int64)
    full[:w.shape[0], :w.shape[1]] = w
    return full.reshape(passes, rows, words, columns).transpose(0, 2, 1, 3).reshape(
        passes * words, rows, columns)


def banks(contents: Sequence[np.ndarray]) -> np.ndarray:
    """The words of several memories of equal depth in one, whose address has the number on top."""
    depth = 1 << (len(contents[0]) - 1).bit_length()
    spare = [(0, depth - len(contents[0])), *[(0, 0)] * (contents[0].ndim - 1)]
    return np.concatenate([*(np.pad(words, spare) for words in contents[:-1]), contents[-1]])


def bias_memory(words: Sequence[Sequence[int]], width: int = 1) -> tuple[ROM, data.ArrayLayout]:
    """A memory of a few biases to a word, and what its words look like.

    It is as narrow as they allow, and has ``width`` bits for each at least.
    """
    every = [bias for word in words for bias in word]
    width = max(width, signed_width(min(every), max(every)))
    mask = (1 << width) - 1
    codes = [sum((bias & mask) << width * n for n, bias in enumerate(word)) for word in words]
    layout = data.ArrayLayout(signed(width), len(words[0]))
    return ROM(codes, width=layout.size, ports=1,
               style="block" if len(words) >= BLOCK_WORDS else "logic"), layout


class Sequencer(wiring.Component):
    """Issues the words of a step, pass by pass, with no cycle between steps but the bubble.

    Streams take turns: the next one is the first after the present one that is ready, so that one
    without a step to make is passed over and costs nothing.

    Parameters
    ----------
    passes, words, bubble : int
        P, C and B.
    streams : int
    alternate : bool
        The streams take turns strictly, the first one first: none waits for another that has run
        ahead of it, into a page that only the one behind can free.

    Members
    -------
    ready : In(streams)
        For each stream: a step may begin. Looked at only before the first word of a step.
    stall : In(1)
        Hold the word back. Not looked at before a step has begun, other than in its first word.
    free : In(1)
        With the last word of a step: the next one of this stream does not depend on it.
    issue : Out(1)
        A word is issued in this cycle.
    stream : Out(range(streams))
        Whose it is.
    word : Out(range(words))
        Which one of the pass.
    address : Out(range(passes * words))
        Which one of the step. Steps without a break from word to word.
    first_pass, last, end : Out(1)
        The word belongs to the first pass; is the last of its pass; the last of the step.
    ended : Out(streams)
        The stream whose step ends with the word issued in this cycle.
    """

    def __init__(self, *, passes: int, words: int, bubble: int = 0, streams: int = 1,
                 alternate: bool = False):
        self._passes = passes
        self._words = words
        self._bubble = bubble
        self._streams = streams
        self._alternate = alternate
        super().__init__({
            "ready": In(streams),
            "stall": In(1),
            "free": In(1),
            "issue": Out(1),
            "stream": Out(range(streams)),
            "word": Out(range(words)),
            "address": Out(range(passes * words)),
            "first_pass": Out(1),
            "last": Out(1),
            "end": Out(1),
            "ended": Out(streams),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        begin = Signal(init=1)
        rested = Signal(self._streams, init=-1)
        may = self.ready & rested
        present = Signal(range(self._streams), init=self._streams - 1 if self._alternate else 0)
        if self._alternate:
            following = Mux(present == self._streams - 1, 0, present + 1)
            may = may.bit_select(following, 1)
        m.d.comb += [
            self.issue.eq((~begin | may.any()) & ~self.stall),
            self.stream.eq(present),
        ]
        if self._alternate:
            with m.If(begin):
                m.d.comb += self.stream.eq(following)
            with m.If(self.issue):
                m.d.sync += present.eq(self.stream)
        elif self._streams > 1:
            # The first after the present one, or else the first of all.
            after = Signal(self._streams)
            behind = may & after
            m.d.sync += after.eq(~((2 << self.stream) - 1))
            with m.If(begin):
                for some in (may, behind):
                    with m.If(some.any()):
                        m.d.comb += self.stream.eq(_lowest(some))
            m.d.sync += present.eq(self.stream)

        # Which pass and word it is, with marks registered ahead of the comparisons.
        a_pass = Signal(range(self._passes))
        first_pass, last = Signal(init=1), Signal(init=self._words == 1)
        in_last = Signal(init=self._passes == 1)
        end = Signal(init=self._passes * self._words == 1)
        next_last = self.word == self._words - 2 if self._words > 1 else Const(1)
        next_in_last = Signal()
        m.d.comb += [
            next_in_last.eq(in_last),
            self.first_pass.eq(first_pass),
            self.last.eq(last),
            self.end.eq(end),
        ]
        with m.If(self.issue):
            m.d.sync += [self.word.eq(self.word + 1), self.address.eq(self.address + 1),
                         begin.eq(end), last.eq(next_last), in_last.eq(next_in_last),
                         end.eq(next_last & next_in_last)]
            with m.If(last):
                m.d.sync += [self.word.eq(0), a_pass.eq(a_pass + 1), first_pass.eq(end)]
                if self._passes > 1:
                    m.d.comb += next_in_last.eq(a_pass == self._passes - 2)
            with m.If(end):
                m.d.sync += [a_pass.eq(0), self.address.eq(0)]

        for n in range(self._streams):
            ended = self.ended[n]
            m.d.comb += ended.eq(self.issue & self.end & (self.stream == n))
            if self._bubble:
                # Counted from a cycle later, so that little follows from what ends a step.
                left = Signal(range(self._bubble + 1), name=f"left{n}")
                rests = Signal(name=f"rests{n}")
                m.d.sync += rests.eq(ended & ~self.free)
                with m.If(left != 0):
                    m.d.sync += left.eq(left - 1)
                with m.If(rests):
                    m.d.sync += left.eq(self._bubble - 1)
                with m.If((left == 1) | (rests if self._bubble == 1 else 0)):
                    m.d.sync += rested[n].eq(1)
                with m.If(ended & ~self.free):
                    m.d.sync += rested[n].eq(0)
        return m


def _lowest(bits: Value) -> Value:
    """The number of the lowest bit that is set, if there is any."""
    if len(bits) == 1:
        return Const(0)
    half = 1 << (len(bits) - 1).bit_length() - 1
    return Mux(bits[:half].any(), _lowest(bits[:half]), half | _lowest(bits[half:]))


class MacArray(wiring.Component):
    """Rows by columns of multipliers, a weight memory, and an accumulator for each row.

    Takes a word each cycle. The accumulators run on from pass to pass, modulo ``2**width``, so
    that neither a load nor a multiplexer nor a reset stands before them, and a device's own
    accumulator serves as well. What comes out is therefore a *running total*: the sum of a pass is
    the difference of two of them, modulo ``2**width``, and exact where the width is a bound over
    all inputs. A total is there ``latency`` cycles after the last word of its pass entered, for
    that one cycle.

    Parameters
    ----------
    weights : int array, words of a step x rows x columns
        As :func:`pack_weights` gives it.
    weight_width, operand_width, width : int
        Bits of a weight, of an operand and of an accumulator, all signed.
    pipeline : Pipeline

    Attributes
    ----------
    latency : int
        Cycles from a word entering to its part of the sums.

    Members
    -------
    address : In(range(words))
        A word's weights, one cycle before it enters.
    issue, last : In(1)
        A word enters; it is the last of a pass.
    operands : In(ArrayLayout(signed(operand_width), columns))
        Its columns, one cycle later.
    coming : Out(1)
        The totals of a pass are complete in two cycles.
    done : Out(1)
        They are.
    totals : Out(ArrayLayout(signed(width), rows))
        0 before the first word after a reset.
    """

    def __init__(self, weights: np.ndarray, *, weight_width: int, operand_width: int, width: int,
                 pipeline: Pipeline):
        self._weights = weights
        self._words, self._rows, self._columns = weights.shape
        self._weight_width = weight_width
        self._width = width
        self._pipeline = pipeline
        super().__init__({
            "address": In(range(self._words)),
            "issue": In(1),
            "last": In(1),
            "operands": In(data.ArrayLayout(signed(operand_width), self._columns)),
            "coming": Out(1),
            "done": Out(1),
            "totals": Out(data.ArrayLayout(signed(width), self._rows)),
        })

    @property
    def latency(self) -> int:
        return self._pipeline.array_latency(self._columns)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        lanes = data.ArrayLayout(signed(self._weight_width), self._rows * self._columns)
        mask = (1 << self._weight_width) - 1
        m.submodules.weights = rom = ROM(
            [sum((int(w) & mask) << self._weight_width * n
                 for n, w in enumerate(word.reshape(-1))) for word in self._weights],
            width=lanes.size, ports=1)
        # Where the operands have two registers, the weights have one of them behind their memory.
        behind = self._pipeline.operand // 2
        m.d.comb += rom.addr[0].eq(delayed(m, self.address, self._pipeline.operand - behind))
        weights = lanes(delayed(m, rom.data[0], behind))
        # The last of these registers is one for every few rows, on the long way from one memory to
        # all of them.
        groups = [self.operands] * ceil(self._rows / COPIED_ROWS)
        if self._pipeline.operand:
            source = delayed(m, self.operands, self._pipeline.operand - 1)
            for n in range(len(groups)):
                m.submodules[f"operands{n}"] = copy = Copy(self.operands.shape())
                m.d.comb += copy.d.eq(source)
                groups[n] = copy.q

        # One flag each for the cycles in which a word is there, from its entry on.
        def marks(flag: Value) -> list[Value]:
            chain = [flag]
            for _ in range(self.latency):
                chain.append(Signal(name=f"mark_{len(chain)}"))
                m.d.sync += chain[-1].eq(chain[-2])
            return chain

        valid, ends = marks(self.issue), marks(self.issue & self.last)
        m.d.comb += [self.coming.eq(ends[-3]), self.done.eq(ends[-1])]
        stages = 2 + self._pipeline.product
        ready = self.latency - self._pipeline.sums

        if (getattr(platform, "family", None) == "ice40" and self._columns == 1
                and max(self._weight_width, len(self.operands[0])) <= ICE40_BITS
                and self._width <= ACCUMULATOR_BITS):
            for row in range(self._rows):
                operands = groups[row // COPIED_ROWS]
                block = Accumulator(signed(self._weight_width), operands[0].shape(), stages=stages)
                m.submodules[f"accumulator{row}"] = block
                m.d.comb += [
                    block.a.eq(weights[row]),
                    block.b.eq(operands[0]),
                    block.valid.eq(valid[ready - stages]),
                    self.totals[row].eq(delayed(m, block.total, self._pipeline.sums)),
                ]
            return m

        for row in range(self._rows):
            operands = groups[row // COPIED_ROWS]
            terms: list[Value] = []
            for column in range(self._columns):
                product = Multiplier(signed(self._weight_width), operands[column].shape(),
                                     stages=stages)
                m.submodules[f"product{row}_{column}"] = product
                m.d.comb += [product.a.eq(weights[row * self._columns + column]),
                             product.b.eq(operands[column])]
                terms.append(product.p)
            for _ in range(ceil(log2(self._columns))):
                level: list[Value] = []
                for a, b in zip(terms[::2], [*terms[1::2], None], strict=False):
                    total = a if b is None else a + b
                    register = Signal(signed(min(len(total), self._width)), reset_less=True)
                    m.d.sync += register.eq(total)
                    level.append(register)
                terms = level
            accumulator = Signal(signed(self._width), name=f"accumulator{row}")
            total = Signal(signed(self._width), name=f"total{row}")
            m.d.comb += [
                total.eq(accumulator + terms[0]),
                self.totals[row].eq(accumulator if self._pipeline.sums else total),
            ]
            with m.If(valid[ready]):
                m.d.sync += accumulator.eq(total)
        return m
