"""Nothing is lost, doubled or put in another order, and each output is the golden one."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from amaranth.hdl import Module

from golden.fixed import SQ
from proofs import parts
from proofs.proof import Engine, Fault, Proof
from proofs.rules import anything, follow

__all__ = ["PROOFS"]


def every_step(x: SQ, inputs: int) -> np.ndarray:
    """All steps of so many codes: int64 [inputs, steps], in the order of :func:`follow`."""
    codes = np.arange(1 << x.width)
    codes = np.where(codes > x.max, codes - (1 << x.width), codes)
    return np.array(list(product(codes, repeat=inputs))).T[::-1]


def steps_through(make: Callable[[], Any], evaluate: Callable[[np.ndarray], np.ndarray],
                  x: SQ, given: Sequence[int], *, steps: int, apart: bool) -> Module:
    m = Module()
    m.submodules.dut = dut = make()
    anything(m, dut)
    follow(m, dut.i, dut.o, parts.COUNTS, given,
           evaluate(every_step(x, sum(parts.COUNTS))), steps=steps, apart=apart)
    return m


def dense_sums(codes: np.ndarray) -> np.ndarray:
    layer = parts.dense().layer
    sums = layer.w @ codes + layer.bias[:, None]
    return np.clip(sums, layer.formats.y.min, layer.formats.y.max)


CLAIM = "each step comes out once, in order, and is {}"

PROOFS = (
    Proof(name="argmax.order", engine=Engine.PDR, quick=True,
          claim=CLAIM.format("the index of its largest code, the first of several"),
          bench=partial(steps_through, parts.argmax, lambda codes: codes.argmax(axis=0)[None],
                        parts.CODE, (1,), steps=7, apart=False),
          faults=[Fault(module="hdl.largest", old="begins | (value > self.value)",
                        new="begins | (value >= self.value)")]),
    Proof(name="outlet.order", engine=Engine.BOUNDED, depth=20,
          claim=CLAIM.format("as it came in"),
          bench=partial(steps_through, parts.outlet, lambda codes: codes, parts.CODE,
                        parts.COUNTS, steps=7, apart=True),
          faults=[Fault(module="hdl.outlet", old="of_stream(x.last, sequencer.stream) & ",
                        new="x.last[0] & ", depth=20),
                  Fault(module="hdl.outlet", old="sequencer.stall.eq(room == 0)",
                        new="sequencer.stall.eq(0)")]),
    Proof(name="dense.order", engine=Engine.BOUNDED, depth=22,
          claim=CLAIM.format("what the matrix makes of it"),
          bench=partial(steps_through, parts.dense, dense_sums, parts.CODE, (2, 1), steps=7,
                        apart=True),
          faults=[Fault(module="hdl.dense", old="a_pass.eq(Mux(a_pass == k.passes - 1, 0,",
                        new="a_pass.eq(Mux(a_pass == k.passes, 0,", depth=24)]),
    Proof(name="softmax.order", engine=Engine.BOUNDED, depth=38,
          claim=CLAIM.format("its softmax"),
          bench=partial(steps_through, parts.softmax, parts.softmax().unit.evaluate,
                        parts.LOGIT, (1, 1, 1), steps=31, apart=False),
          faults=[Fault(module="hdl.softmax", old="with m.If(delayed(m, begun, k.power_memory)):",
                        new="with m.If(delayed(m, begun, k.power_memory + 1)):", depth=40)]),
)
