"""What a stream offers stays until it is taken: the rule of every output that waits.

The hidden states of an engine and the states that a loader writes never wait, so there is no such
rule: room for them is taken beforehand. What becomes of them is proven where they go.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from amaranth.hdl import Module

from proofs import parts
from proofs.proof import Engine, Fault, Proof
from proofs.rules import anything, stable

__all__ = ["PROOFS"]


def offers(make: Callable[[], Any]) -> Module:
    """Whatever comes in."""
    m = Module()
    m.submodules.dut = dut = make()
    anything(m, dut)
    stable(m, dut.o.valid, dut.o.ready, dut.o.payload, name="o")
    return m


def entered(*, stateful: bool) -> Module:
    """An entrance hands on what comes, so that has to stay, too. A hold takes an offer back."""
    m = Module()
    m.submodules.dut = dut = parts.entrance(stateful=stateful)
    anything(m, dut)
    told = [dut.tuser] if stateful else []
    stable(m, dut.tvalid, dut.tready, dut.tdata, dut.tlast, dut.tid, *told, name="i", assume=True)
    stable(m, dut.o.valid, dut.o.ready, dut.o.payload, name="o",
           unless=dut.hold & dut.between if stateful else 0)
    return m


QUEUED = "what it offers stays, until it is taken"

PROOFS = (
    *(Proof(name=f"{name}.stable", claim=QUEUED, bench=partial(offers, getattr(parts, name)),
            quick=name == "outlet", faults=[Fault(module=module, old=old, new=new, depth=depth)])
      for name, module, old, new, depth in (
          ("outlet", "hdl.outlet", "queue.r_en.eq(self.o.ready)", "queue.r_en.eq(1)", 20),
          ("dense", "hdl.dense", "queue.r_en.eq(self.o.ready)", "queue.r_en.eq(1)", 30),
          ("softmax", "hdl.softmax", "queue.r_en.eq(self.o.ready)", "queue.r_en.eq(1)", 50),
          ("argmax", "hdl.largest", "largest.enable.eq(~largest.done | self.o.ready)",
           "largest.enable.eq(1)", 20),
          ("sequence", "hdl.sequence", "queue.r_en.eq(self.o.ready)", "queue.r_en.eq(1)", 20),
          ("reader", "hdl.states", "queue.r_en.eq(self.o.ready)", "queue.r_en.eq(1)", 20),
      )),
    Proof(name="entrance.stable", bench=partial(entered, stateful=False),
          engine=Engine.PDR,
          claim="what it offers stays, if what comes in does",
          faults=[Fault(module="hdl.entrance", old="Mux(beat == 0, told, first_whose)",
                        new="Mux(self.o.ready, told, first_whose)")]),
    Proof(name="entrance.stable_stateful", bench=partial(entered, stateful=True),
          engine=Engine.PDR,
          claim="the same, but that the first beat of a step is taken back where a packet of "
                "states comes",
          faults=[Fault(module="hdl.entrance", old="self.o.payload.last.eq(self.tlast | filling)",
                        new="self.o.payload.last.eq(self.tlast | ready)")]),
)
