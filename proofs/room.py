"""A queue is never written while it is full, although what writes to it cannot wait.

Room is taken when something is issued, long before it comes to the queue.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from amaranth.hdl import Assert, Module

from hdl.pipeline import FAST
from proofs import parts
from proofs.proof import Engine, Fault, Proof
from proofs.rules import anything, opened

__all__ = ["PROOFS"]


def queues(make: Callable[[], Any], names: tuple[str, ...] = ("queue",)) -> Module:
    """Whatever comes in, and whenever it is taken."""
    m = Module()
    m.submodules.dut = dut = make()
    inside = opened(dut).submodules
    anything(m, dut)
    for name in names:
        queue = getattr(inside, name)
        m.d.comb += Assert(queue.w_rdy | ~queue.w_en)
    return m


CLAIM = "its queue has room for whatever comes to it"

PROOFS = (
    *(Proof(name=f"{name}.room", claim=CLAIM, bench=partial(queues, getattr(parts, name)),
            engine=Engine.PDR,
            faults=[Fault(module=module, old=old, new=new)])
      for name, module, old, new in (
          ("outlet", "hdl.outlet", "sequencer.stall.eq(room == 0)", "sequencer.stall.eq(0)"),
          ("dense", "hdl.dense", "sequencer.last & (room == 0)", "0"),
          ("sequence", "hdl.sequence", "busy & (room != 0)", "busy"),
          ("reader", "hdl.states", "sequencer.stall.eq(room == 0)", "sequencer.stall.eq(0)"),
      )),
    Proof(name="sequence.room_merged", engine=Engine.PDR,
          claim="the same where what two directions wrote is multiplied on its way there",
          bench=partial(queues, partial(parts.sequence, read=(False, True),
                                        written=(False, True), merge="mul", pipeline=FAST)),
          faults=[Fault(module="hdl.sequence", old="busy & (room != 0)", new="busy")]),
    Proof(name="softmax.room", engine=Engine.PDR,
          claim="its queue of outputs has room for whatever comes to it",
          bench=partial(queues, parts.softmax),
          faults=[Fault(module="hdl.softmax", old="products.stall.eq(room == 0)",
                        new="products.stall.eq(0)", depth=60)]),
)
