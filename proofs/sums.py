"""Accumulators hold every sum there can be, so the difference of two totals is exact."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Const, Module, Mux, Signal, Value, signed

from golden.calibrate import quantize
from golden.fixed import SQ
from golden.formats import DenseFormats
from golden.onnx_file import load
from golden.quantized import QuantizedDense
from golden.quantized_network import QuantizedNetwork
from hdl.mac import MacArray, pack_weights
from hdl.pipeline import MEDIUM, SHORT, Pipeline
from hdl.registers import delayed
from proofs.checks import Claims
from proofs.parts import CODE
from proofs.proof import Fault, Proof
from proofs.rules import named, opened

__all__ = ["PROOFS"]

DEMO = Path(__file__).parents[1] / "examples" / "adding" / "model.onnx"


def differences(w: np.ndarray, *, columns: int, pipeline: Pipeline) -> Module:
    """An array of one row per row of the matrix: each pass's sum is the difference of its totals.

    Words come at any times, for ever, and the totals run over.
    """
    m = Module()
    check = Claims(m)
    aids = check.aids
    layer = QuantizedDense(formats=DenseFormats(x=CODE, w=CODE, y=CODE), w=w,
                           bias=np.zeros(len(w), dtype=np.int64))
    packed = pack_weights(w, rows=len(w), columns=columns)
    words, width = len(packed), layer.array.width
    m.submodules.dut = dut = MacArray(packed, weight_width=CODE.width, operand_width=CODE.width,
                                      width=width, pipeline=pipeline)
    inside = opened(dut)
    # As a sequencer does, a cycle ahead of the word; the operands come a cycle behind it.
    go, word = Signal(), Signal(range(words))
    last = word == words - 1
    m.d.comb += [go.eq(AnySeq(1)), dut.address.eq(word)]
    with m.If(go):
        m.d.sync += word.eq(Mux(last, 0, word + 1))
    m.d.sync += [dut.issue.eq(go), dut.last.eq(last)]
    operands = [Signal(signed(CODE.width), name=f"operand{n}") for n in range(columns)]
    m.d.comb += [each.eq(AnySeq(each.shape())) for each in operands]
    m.d.comb += [dut.operands[n].eq(each) for n, each in enumerate(operands)]

    # The same in as many bits as it takes, behind as many cycles.
    lag = dut.latency + 1 - pipeline.sums
    chain: list[Value] = [go]
    for _ in range(lag):
        chain.append(delayed(m, chain[-1], 1, reset=True))
    valid, over = chain[-1], Signal()
    # Which word is next, there.
    at = Signal(range(words))
    m.d.comb += over.eq(valid & (at == words - 1))
    aids.holds("at", (at + sum(chain[1:], start=Const(0)))[:len(at)] == word)
    m.d.sync += at.eq(at + valid)
    terms = [[Array(packed[:, row, n].tolist())[delayed(m, word, 2)] * operands[n]
              for n in range(columns)] for row in range(len(w))]
    for row in range(len(w)):
        term = delayed(m, sum(terms[row], start=Const(0)), lag - 2)
        exact, here = (Signal(signed(20), name=f"{name}{row}") for name in ("exact", "here"))
        before = Signal(width, name=f"before{row}")
        m.d.comb += here.eq(exact + Mux(valid, term, 0))
        m.d.sync += exact.eq(Mux(over, 0, here))
        with m.If(over):
            m.d.sync += before.eq((before + here)[:width])
        # As far as the words so far can have brought it.
        least = np.where(packed[:, row] > 0, CODE.min, CODE.max) * packed[:, row]
        most = np.where(packed[:, row] > 0, CODE.max, CODE.min) * packed[:, row]
        low, high = ([0, *np.cumsum(ends.sum(axis=1)).tolist()[:-1]] for ends in (least, most))
        aids.holds(f"range{row}", (exact >= Array(low)[at]) & (exact <= Array(high)[at]))
        stands, comes = Signal(signed(width)), Signal(signed(width))
        m.d.comb += [
            stands.eq(named(inside, f"accumulator{row}") - before),
            comes.eq(dut.totals[row] - delayed(m, before, pipeline.sums)),
        ]
        aids.holds(f"stands{row}", stands == exact)
        check.follows(f"sum{row}", dut.done, delayed(m, over, pipeline.sums)
                      & (comes == delayed(m, here, pipeline.sums)))
    return m


@cache
def demo() -> QuantizedNetwork:
    """The network of the demo, with formats from its weights and from data like its own."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.uniform(-1, 1, (20, 100)), rng.integers(-1, 2, (20, 100))], axis=-1)
    return quantize(load(DEMO).network, x)


def bounds(layers: Sequence[tuple[Sequence[tuple[np.ndarray, SQ]], int]], rows: int) -> Module:
    """In the rows whose sums reach furthest, no sum leaves the accumulator.

    A product keeps within the ends that it has for the ends of its operand; sums keep within the
    sums of those. So both are proven, for every operand and every sum between its ends: partial
    sums lie between the ends of the whole, because each product may be 0.

    Parameters
    ----------
    layers : sequence of (sequence of (int array [rows, columns], SQ), int)
        Matrices, side by side, with the formats of their operands, and the accumulator's bits.
    rows : int
        Of each layer, so many.
    """
    m = Module()
    total = Signal(signed(64))
    m.d.comb += total.eq(AnyConst(total.shape()))
    operands: dict[SQ, Signal] = {}
    for parts, width in layers:
        limit = 1 << width - 1
        reach = sum(np.abs(w) @ np.full(w.shape[1], -to.min) for w, to in parts)
        for row in np.argsort(reach)[-rows:].tolist():
            low = high = 0
            for w, to in parts:
                if to not in operands:
                    operands[to] = operand = Signal(signed(to.width), name=f"x{len(operands)}")
                    m.d.comb += operand.eq(AnyConst(signed(to.width)))
                for weight in w[row].tolist():
                    least, most = sorted((weight * to.min, weight * to.max))
                    product = weight * operands[to]
                    m.d.comb += Assert((product >= least) & (product <= most))
                    low, high = low + least, high + most
            within = (total >= low) & (total <= high)
            m.d.comb += Assert(~within | (total >= -limit) & (total < limit))
    return m


def demo_bounds() -> Module:
    network = demo()
    return bounds([*(([(layer.w_x, layer.formats.x), (layer.w_h, layer.formats.h)],
                      layer.array.width) for each in network.layers for layer in each.directions),
                   *(([(layer.w, layer.formats.x)], layer.array.width) for layer in network.head)],
                  rows=3)


WORST = np.array([[-2, -2, -2, -2], [1, -2, 1, -2]])
"""The largest weights, so that each bit of the accumulator is needed."""

PROOFS = (
    *(Proof(name=f"sums.{name}", depth=8, quick=name == "short",
            bench=partial(differences, WORST, columns=columns, pipeline=pipeline),
            claim=f"the difference of two totals of the array is the exact sum, for the largest "
                  f"weights and any operands, with {text}",
            faults=[Fault(module="golden.quantized", old="negative * operand.min\n",
                          new="negative * (operand.min >> 1)\n", depth=30),
                    Fault(module="hdl.mac", old="with m.If(valid[ready]):",
                          new="with m.If(valid[ready - 1]):", depth=30)])
      for name, columns, pipeline, text in (
          ("short", 2, SHORT, "two columns a word"),
          ("medium", 1, MEDIUM, "all registers and one column"))),
    Proof(name="sums.demo", depth=1, bench=demo_bounds,
          claim="in the rows of the demo whose sums reach furthest, none leaves its "
                "accumulator, for any inputs",
          faults=[Fault(module="golden.fixed", old="return 1 + max(", new="return max(",
                        depth=1)]),
)
