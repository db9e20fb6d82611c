"""A reset brings a part back to where it began, from any state whatsoever.

Two copies run side by side. The registers and memories of one begin as anything, reachable or not,
and it is reset for one cycle; the other one is as at power-up. From then on they get the same
inputs, and nothing that they give may differ: what a reset leaves as it was, in registers without
one and in memories, is not seen.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from amaranth.asserts import AnySeq, Initial
from amaranth.hdl import Assert, Assume, Module, ResetInserter, Signal, Value, unsigned
from amaranth.lib.wiring import Flow

from hdl.buffer import StepBuffer, of_stream
from proofs import parts
from proofs.proof import Engine, Fault, Proof
from proofs.rules import beats_of

__all__ = ["PROOFS"]

STEPS = {"i": parts.COUNTS}


def copies(make: Callable[[], Any], steps: Mapping[str, tuple[int, ...]]) -> Module:
    """Two of them, one reset.

    Parameters
    ----------
    steps : mapping
        Columns in each beat of the inputs that have steps: there are none before the reset is over.
    """
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
        elif path[-1] != "data":
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
    for name, counts in steps.items():
        i = getattr(wild, name)
        m.d.comb += Assume(~(begins & i.valid))
        beats_of(m, i, counts, stay=("stream",))
    if isinstance(fresh, StepBuffer):
        # Read is the step in front, while there is one; and released only then.
        stream = fresh.read_page[1:]
        read, word = Signal(), Signal.like(fresh.address)
        m.d.sync += [read.eq(of_stream(fresh.ready, stream) & (
            fresh.read_page[0] == of_stream(fresh.page, stream))), word.eq(fresh.address)]
        m.d.comb += [Assume((fresh.release & ~fresh.ready) == 0), *(
            Assert((one == other) | begins | ~read
                   | (word * len(fresh.data) + n >= sum(steps["i"])))
            for n, (one, other) in enumerate(zip(wild.data, fresh.data, strict=True)))]
    return m


CLAIM = "whatever state it is reset in, it goes on as from power-up"

PROOFS = (
    *(Proof(name=name, engine=Engine.BOUNDED, depth=depth, wild="wild", claim=CLAIM,
            bench=partial(copies, make, steps),
            faults=[Fault(module=module, old=old, new=new, depth=depth)])
      for name, make, steps, depth, module, old, new in (
          ("entrance.reset", parts.entrance, {}, 10, "hdl.entrance", "filling = Signal()\n",
           "filling = Signal(reset_less=True)\n"),
          ("entrance.reset_gathered", partial(parts.entrance, stateful=True, longest=2), {}, 10,
           "hdl.entrance", "before = Signal(range(self._longest + 1))",
           "before = Signal(range(self._longest + 1), reset_less=True)"),
          ("loader.reset", parts.loader, {}, 14, "hdl.states",
           "ends, strobe = Signal(reset_less=True), Signal()",
           "ends, strobe = Signal(reset_less=True), Signal(reset_less=True)"),
          ("argmax.reset", parts.argmax, STEPS, 10, "hdl.largest",
           "valid, marks = register(valid, reset=True)", "valid, marks = register(valid)"),
          ("outlet.reset", parts.outlet, STEPS, 12, "hdl.outlet", "k.to_queue, reset=True)",
           "k.to_queue)"),
          ("sequence.reset", parts.sequence, STEPS, 12, "hdl.sequence",
           "k.memory + k.merging, reset=True)", "k.memory + k.merging)"),
          ("buffer.reset", parts.step_buffer, STEPS, 9, "hdl.buffer",
           'Signal(name=f"used{n}")', 'Signal(name=f"used{n}", reset_less=True)'),
          ("reader.reset", parts.reader, {"i0": (2, 1), "i1": (1, 1)}, 11, "hdl.states",
           "queue.w_en.eq(delayed(m, sequencer.issue, self._wait, reset=True))",
           "queue.w_en.eq(delayed(m, sequencer.issue, self._wait))"),
          ("dense.reset", parts.dense, STEPS, 15, "hdl.dense",
           'name=f"before{row}")',
           'name=f"before{row}", reset_less=True)'),
          ("softmax.reset", parts.softmax, STEPS, 30, "hdl.softmax", "busy, left = Signal(), ",
           "busy, left = Signal(reset_less=True), "),
          ("engine.reset", parts.Layer, {"i": (1,)}, 31, "hdl.drain",
           "start = Signal()\n        m.d.sync",
           "start = Signal(reset_less=True)\n        m.d.sync"),
      )),
)
