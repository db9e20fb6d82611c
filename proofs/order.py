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


PROOFS = (
    Proof(name="argmax.order", engine=Engine.PDR, quick=True,
          claim="each step comes out once, in order, as the index of its largest code, the first "
                "of several",
          bench=partial(steps_through, parts.argmax, lambda codes: codes.argmax(axis=0)[None],
                        parts.CODE, (1,), steps=7, apart=False),
          faults=[Fault(module="hdl.largest", old="begins | (value > self.value)",
                        new="begins | (value >= self.value)")]),
    Proof(name="outlet.order", engine=Engine.BOUNDED, depth=12,
          claim="each step comes out once, as it came, those of a stream in order",
          bench=partial(steps_through, parts.outlet, lambda codes: codes, parts.CODE, (2, 1),
                        steps=7, apart=True),
          faults=[Fault(module="hdl.outlet", old="of_stream(x.page, sequencer.stream)",
                        new="of_stream(~x.page, sequencer.stream)", depth=12)]),
)
