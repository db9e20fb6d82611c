"""The MAC array and the sequencer that walks it over a weight matrix."""

from math import ceil, log2
from typing import Any

import numpy as np
from amaranth.hdl import Module, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.cycles import array_latency

__all__ = ["MacArray", "Sequencer", "pack_weights"]


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


class Sequencer(wiring.Component):
    """Issues the words of a step, pass by pass, with no cycle between steps but the bubble.

    Parameters
    ----------
    passes, words, bubble : int
        P, C and B.

    Members
    -------
    go : In(1)
        A step may begin. Looked at only before its first word.
    stall : In(1)
        Hold the word back. Not looked at before a step has begun, other than in its first word.
    issue : Out(1)
        A word enters the array in this cycle.
    word : Out(range(words))
        Which one of the pass.
    address : Out(range(passes * words))
        Which one of the step.
    first_pass, last, end : Out(1)
        The word belongs to the first pass; is the last of its pass; the last of the step.
    """

    def __init__(self, *, passes: int, words: int, bubble: int = 0):
        self._passes = passes
        self._words = words
        self._bubble = bubble
        super().__init__({
            "go": In(1),
            "stall": In(1),
            "issue": Out(1),
            "word": Out(range(words)),
            "address": Out(range(passes * words)),
            "first_pass": Out(1),
            "last": Out(1),
            "end": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        a_pass = Signal(range(self._passes))
        rest = Signal(range(self._bubble + 1))
        begin = Signal(init=1)
        m.d.comb += [
            self.first_pass.eq(a_pass == 0),
            self.last.eq(self.word == self._words - 1),
            self.end.eq(self.last & (a_pass == self._passes - 1)),
            self.issue.eq((~begin | self.go & (rest == 0)) & ~self.stall),
        ]
        with m.If(rest != 0):
            m.d.sync += rest.eq(rest - 1)
        with m.If(self.issue):
            m.d.sync += [self.word.eq(self.word + 1), self.address.eq(self.address + 1),
                         begin.eq(self.end)]
            with m.If(self.last):
                m.d.sync += [self.word.eq(0), a_pass.eq(a_pass + 1)]
            with m.If(self.end):
                m.d.sync += [a_pass.eq(0), self.address.eq(0), rest.eq(self._bubble)]
        return m


class MacArray(wiring.Component):
    """Rows by columns of multipliers, a weight memory, and an accumulator for each row.

    Accumulates exactly: the width is a bound over all inputs. Takes a word each cycle; the sums
    of a pass are there ``latency`` cycles after the issue of its last word, for that one cycle.
    They leave through the adders' outputs while the accumulators go back to 0, so that neither a
    load nor a multiplexer stands before an accumulator.

    Parameters
    ----------
    weights : int array, words of a step x rows x columns
        As :func:`pack_weights` gives it.
    weight_width, operand_width, width : int
        Bits of a weight, of an operand and of an accumulator, all signed.

    Attributes
    ----------
    latency : int

    Members
    -------
    issue, last : In(1)
        A word enters; it is the last of a pass.
    address : In(range(words))
        Its weights, in the cycle of ``issue``.
    operands : In(ArrayLayout(signed(operand_width), columns))
        Its columns, one cycle later.
    done : Out(1)
        The sums of a pass are complete.
    sums : Out(ArrayLayout(signed(width), rows))
    """

    def __init__(self, weights: np.ndarray, *, weight_width: int, operand_width: int, width: int):
        self._weights = weights
        self._words, self._rows, self._columns = weights.shape
        self._weight_width = weight_width
        self._width = width
        super().__init__({
            "issue": In(1),
            "last": In(1),
            "address": In(range(self._words)),
            "operands": In(data.ArrayLayout(signed(operand_width), self._columns)),
            "done": Out(1),
            "sums": Out(data.ArrayLayout(signed(width), self._rows)),
        })

    @property
    def latency(self) -> int:
        return array_latency(self._columns)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes = data.ArrayLayout(signed(self._weight_width), self._rows * self._columns)
        mask = (1 << self._weight_width) - 1
        rom: memory.Memory = memory.Memory(
            shape=unsigned(lanes.size), depth=self._words,
            init=[sum((int(w) & mask) << self._weight_width * n
                      for n, w in enumerate(word.reshape(-1))) for word in self._weights])
        m.submodules.rom = rom
        port = rom.read_port()
        m.d.comb += port.addr.eq(self.address)

        weights = Signal(lanes, reset_less=True)
        operands = Signal.like(self.operands, reset_less=True)
        m.d.sync += [weights.eq(port.data), operands.eq(self.operands)]

        # One flag each for the cycles in which a word is there, from its issue on.
        def marks(flag: Value) -> list[Value]:
            chain = [flag]
            for _ in range(self.latency):
                chain.append(Signal(name=f"mark_{len(chain)}"))
                m.d.sync += chain[-1].eq(chain[-2])
            return chain

        valid = marks(self.issue)[-1]
        m.d.comb += self.done.eq(marks(self.issue & self.last)[-1])

        for row in range(self._rows):
            terms = []
            for column in range(self._columns):
                weight, operand = weights[row * self._columns + column], operands[column]
                product = Signal(signed(len(weight) + len(operand)), reset_less=True)
                m.d.sync += product.eq(weight * operand)
                terms.append(product)
            for _ in range(ceil(log2(self._columns))):
                level = []
                for a, b in zip(terms[::2], [*terms[1::2], None], strict=False):
                    total = a if b is None else a + b
                    register = Signal(signed(min(len(total), self._width)), reset_less=True)
                    m.d.sync += register.eq(total)
                    level.append(register)
                terms = level
            accumulator = Signal(signed(self._width), name=f"accumulator{row}")
            m.d.comb += self.sums[row].eq(accumulator + terms[0])
            with m.If(self.done):
                m.d.sync += accumulator.eq(0)
            with m.Elif(valid):
                m.d.sync += accumulator.eq(self.sums[row])
        return m
