"""A reset brings a part back to where it began, from any state whatsoever.

Two copies run side by side. The registers and memories of one begin as anything, reachable or not,
and it is reset for one cycle; the other one is as at power-up. From then on they get the same
inputs, and nothing that they give may differ: what a reset leaves as it was, in registers without
one and in memories, is not seen.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from amaranth.asserts import AnySeq, Initial
from amaranth.hdl import Assert, Assume, Module, ResetInserter, Signal, Value, unsigned
from amaranth.lib.wiring import Flow

from proofs import parts
from proofs.proof import Engine, Fault, Proof
from proofs.rules import beats_of

__all__ = ["PROOFS"]


def copies(make: Callable[[], Any], *, beats: bool) -> Module:
    """``beats`` says that its input has steps, and none before the reset is over."""
    m = Module()
    wild, fresh = make(), make()
    begins = Signal()
    m.d.comb += begins.eq(Initial())
    m.submodules.wild = ResetInserter(begins)(wild)
    m.submodules.fresh = ResetInserter(begins)(fresh)
    streams = set()
    for (path, member, one), (_, _, other) in zip(
            wild.signature.flatten(wild), fresh.signature.flatten(fresh), strict=True):
        one, other = Value.cast(one), Value.cast(other)
        if member.flow is Flow.In:
            given = AnySeq(unsigned(len(one)))
            m.d.comb += [one.eq(given), other.eq(given)]
            continue
        if path[-1] == "payload":
            streams.add(path[0])
        else:
            m.d.comb += Assert((one == other) | begins)
    for name in sorted(streams):
        one, other = getattr(wild, name), getattr(fresh, name)
        unseen = begins | ~one.valid
        for field, _ in one.payload.shape():
            if field != "data":
                m.d.comb += Assert((one.payload[field] == other.payload[field]) | unseen)
        # Where there is no column stands what the memory happens to hold.
        m.d.comb += [Assert((one.payload.data[n] == other.payload.data[n]) | unseen
                            | (n >= one.payload.count)) for n in range(len(one.payload.data))]
    if beats:
        m.d.comb += Assume(~(begins & wild.i.valid))
        beats_of(m, wild.i, parts.COUNTS, stay=("stream",))
    return m


PROOFS = tuple(
    Proof(name=f"{name}.reset", engine=Engine.BOUNDED, depth=depth, wild="wild",
          claim="whatever state it is reset in, it goes on as from power-up",
          bench=partial(copies, getattr(parts, name), beats=beats),
          faults=[Fault(module=module, old=old, new=new, depth=depth)])
    for name, beats, depth, module, old, new in (
        ("entrance", False, 10, "hdl.network", "filling = Signal()\n",
         "filling = Signal(reset_less=True)\n"),
        ("loader", False, 14, "hdl.states", "ends, strobe = Signal(reset_less=True), Signal()",
         "ends, strobe = Signal(reset_less=True), Signal(reset_less=True)"),
        ("argmax", True, 10, "hdl.largest", "valid, marks = register(valid, reset=True)",
         "valid, marks = register(valid)"),
        ("outlet", True, 12, "hdl.outlet", "k.to_queue, reset=True)", "k.to_queue)"),
        ("sequence", True, 12, "hdl.sequence", "k.memory + k.merging, reset=True)",
         "k.memory + k.merging)"),
    ))
