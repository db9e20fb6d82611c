"""What a lane (:mod:`hdl.lane`) is made of, and what its units share."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned

from hdl.cycles import LSTMCycles
from hdl.lane_directions import LaneDirections
from hdl.lane_words import LaneWords
from hdl.multiplier import Multiplier
from hdl.table import TableUnit
from hdl.token import LEAD, Shared, Token

__all__ = ["LaneParts"]


class LaneParts:
    """The parts of a lane.

    Parameters
    ----------
    m : Module
        That of the lane.
    lane : Lane
        Whose members are read and driven.
    directions : LaneDirections
    cycles : LSTMCycles
    words : LaneWords
        What lies in the memories.

    Attributes
    ----------
    m, lane, directions, words
        As given.
    k : LSTMCycles
    t : DrainTiming
        When all of it happens.
    formats : LSTMFormats
        Those that both directions have; only ``g``, ``s`` and the candidate's may differ.
    units : int
        That pass the lane in a step.
    table : Table
        Of all readings that there are.
    tables : list of Shared
        Table units, which take ``z`` and ``reading``.
    multipliers, peepholes : list of Shared
        Multipliers for the states, which take a gate and what it lets through, and those of
        peepholes, which take a weight and the cell state.
    token : Token
    """

    def __init__(self, m: Module, lane: Any, directions: LaneDirections, cycles: LSTMCycles,
                 words: LaneWords) -> None:
        self.m, self.lane, self.directions, self.words = m, lane, directions, words
        self.k, self.t, self.formats = cycles, cycles.timing, directions.layers[0].formats
        t, formats, pipeline, layers = self.t, self.formats, cycles.pipeline, directions.layers
        self.units = cycles.passes * cycles.groups
        # A further reading of a table changes none of its knots.
        self.table = max((each.table for each in layers), key=lambda to: len(to.readings))
        self.tables = [Shared(TableUnit(self.table, stages=pipeline.table), "z", "reading")
                       for _ in range(max(t.table_of) + 1)]
        gate = unsigned(formats.gate.width)
        let = signed(max(formats.c.width, *(to.width for each in layers
                                            for to in (each.formats.g, each.formats.s))))
        self.multipliers = [Shared(Multiplier(gate, let, stages=pipeline.multiplier), "a", "b")
                            for _ in range(t.state_multipliers - t.peephole_multipliers)]
        self.peepholes = [
            Shared(Multiplier(signed(formats.p.width), signed(formats.c.width),
                              stages=pipeline.multiplier), "a", "b")
            for _ in range(t.peephole_multipliers)] if formats.p else []
        self.token = Token(m, list(lane.token), t.interval)

    def counter(self, cycle: int, last: int, slots: int = 1) -> Signal:
        """Counts the units that pass a distance, or each of their slots."""
        count = Signal(range(last + 1))
        with self.m.If(Cat(self.token.at(cycle + slot) for slot in range(slots)).any()):
            self.m.d.sync += count.eq(Mux(count == last, 0, count + 1))
        return count

    def banked(self, place: Value, cycle: int) -> Value:
        """A place in a memory that has a bank for each direction."""
        if len(self.directions.layers) == 1:
            return place
        return Cat(place, self.token.carry(self.lane.stream, -LEAD, cycle))

    def connect(self) -> None:
        """Put in the tables and multipliers, with what all their uses make of their inputs."""
        for n in self.t.used_tables(self.k.lines):
            self.tables[n].connect(self.m, self.token, f"table{n}")
        for name, shared in (("product", self.multipliers), ("peephole_product", self.peepholes)):
            for n, each in enumerate(shared):
                each.connect(self.m, self.token, f"{name}{n}")
