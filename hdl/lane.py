"""One lane of the drain (:mod:`hdl.drain`): what becomes of the sums of its units.

A lane adds the bias, rounds to the preactivation and looks up the gates (:mod:`hdl.lane_gates`),
updates the cell state and gives the hidden state (:mod:`hdl.lane_states`). Every operation of a
unit happens at a fixed distance from the cycle in which its first sums leave the hold chain;
:class:`hdl.drain_timing.DrainTiming` holds these distances, and a *token* that travels along them
switches each register and multiplexer. It sets out ``LEAD`` cycles before the sums leave, so that
memories are read ahead of need.

The bias is added here rather than loaded into the accumulators: a lane needs one adder and one
narrow memory for it, the array would need a word as wide as all its accumulators in every pass.
Half a unit in the last place comes with it, and makes a truncation of what would be a rounding.

Two directions whose functions differ are alike in all distances: a line takes as long as a table.
So what differs is made for both, and a bit that travels with the token tells whose unit it is.
"""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.quantized import QuantizedLSTM
from hdl.cycles import LSTMCycles
from hdl.lane_directions import LaneDirections, differ
from hdl.lane_gates import LaneGates
from hdl.lane_parts import LaneParts
from hdl.lane_states import LaneStates
from hdl.lane_words import LaneWords
from hdl.token import LEAD

__all__ = ["Lane", "total_width"]


def total_width(directions: Sequence[QuantizedLSTM]) -> int:
    """Bits of a running total."""
    return max(layer.array.width for layer in directions)


class Lane(wiring.Component):
    """One lane of the drain.

    Members
    -------
    totals, before : In(ArrayLayout(signed, gate_tables))
        The head of the hold chain, and what it was in the pass before.
    token : In(LEAD + timing.hidden + 1)
        Bit ``LEAD + n``: a unit's first sums left the chain n cycles ago.
    fresh, stream : In(1), In(range(streams))
        With bit 0: the step is the first of its sequence, so c is 0; whose it is.
    second : In(LEAD + timing.hidden + 1)
        Where the functions of two directions differ: with each bit of the token, and until the
        next unit comes there, whether the unit is one of the second direction.
    c, h : Out(signed)
        The new states; h is what the output gate lets out, where a projection follows.
    overflow : Out(4)
        A preactivation, tanh argument, cell state or hidden state saturated in the last cycle.
    set_en, set_index, set_stream, set_c : In
        Where states can be set: the cell state of the lane's unit of that number, in order.
    """

    def __init__(self, directions: Sequence[QuantizedLSTM], cycles: LSTMCycles, lane: int, *,
                 sets: bool = False):
        self._directions, self._cycles, self._lane, self._sets = directions, cycles, lane, sets
        formats = directions[0].formats
        heads = data.ArrayLayout(signed(total_width(directions)), cycles.timing.gate_tables)
        super().__init__({
            "totals": In(heads),
            "before": In(heads),
            "token": In(LEAD + cycles.timing.hidden + 1),
            "fresh": In(1),
            "stream": In(range(cycles.streams)),
            **({"second": In(LEAD + cycles.timing.hidden + 1)} if differ(directions) else {}),
            "c": Out(signed(formats.c.width)),
            "h": Out(signed(formats.m.width)),
            "overflow": Out(4),
            **({"set_en": In(1), "set_index": In(range(cycles.passes * cycles.groups)),
                "set_stream": In(range(cycles.streams)), "set_c": In(signed(formats.c.width))}
               if sets else {}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        parts = LaneParts(m, self, LaneDirections(self._directions, getattr(self, "second", ())),
                          self._cycles, LaneWords(self._directions, self._cycles, self._lane))
        gates_of, states = LaneGates(parts), LaneStates(parts, sets=self._sets)
        if parts.formats.p:
            # The gates see the cell state.
            c = states.before(0, gates_of.peephole_slots)
            gates_of.multiply_peepholes(c.now)
        z = gates_of.preactivations()
        z_saturates, gates = z.saturates, gates_of.gates(z)
        if not parts.formats.p:
            c = states.before(parts.t.forget_product - 1)
        new_c = states.update(gates, c)
        if parts.formats.p:
            o, saturates = gates_of.late_output(z)
            z_saturates |= saturates
            gates.append(o)
        h_saturates = states.hidden(gates[3], new_c.shown)
        parts.connect()
        m.d.sync += self.overflow.eq(
            Cat(z_saturates, new_c.function_saturates, new_c.saturates, h_saturates))
        return m
