"""What lies in the memories of a lane, in the order in which its units come."""

from collections.abc import Sequence

import numpy as np

from golden.quantized import QuantizedLSTM
from hdl.cycles import LSTMCycles
from hdl.drain_timing import CANDIDATE, GATES
from hdl.mac import banks
from hdl.rounding import half

__all__ = ["LaneWords"]


class LaneWords:
    """The words of one lane, a bank for each direction; 0 where there is no unit.

    Parameters
    ----------
    directions : sequence of QuantizedLSTM
        Those of the layer.
    cycles : LSTMCycles
    lane : int
        Which of the lanes.
    """

    def __init__(self, directions: Sequence[QuantizedLSTM], cycles: LSTMCycles, lane: int) -> None:
        self._directions, self._cycles = directions, cycles
        k, hidden = cycles, directions[0].hidden
        # The number of each unit in turn, None where there is none.
        self._units = [unit if within < k.folding.units and unit < hidden else None
                       for a_pass in range(k.passes) for group in range(k.groups)
                       for within in [group * k.folding.lanes + lane]
                       for unit in [a_pass * k.folding.units + within]]

    def _in_order(self, *values: np.ndarray) -> np.ndarray:
        """These of each unit, one after the other."""
        return np.array([0 if unit is None else int(of[unit])
                         for unit in self._units for of in values])

    def initial_c(self) -> list[int]:
        """The cell states that sequences begin with."""
        return [int(code) for code in banks([self._in_order(each.initial_c)
                                             for each in self._directions])]

    def peepholes(self) -> list[tuple[list[int], int]]:
        """Weights of the cell states: those of each multiplier for i and f, then those of o.

        With each list, how many weights of a unit follow each other in it.
        """
        def of(layer: QuantizedLSTM) -> list[np.ndarray]:
            assert layer.peepholes is not None
            i, f, o = np.split(layer.peepholes, 3)
            together = [[i, f]] if self._cycles.timing.gate_tables == 1 else [[i], [f]]
            return [self._in_order(*values) for values in (*together, [o])]

        return [([int(word) for word in banks(words)], len(words[0]) // len(self._units))
                for words in zip(*map(of, self._directions), strict=True)]

    def biases(self, *, drop: int, halved: Sequence[bool]) -> list[list[int]]:
        """Of each table, with the half unit that makes a rounding of a truncation.

        Parameters
        ----------
        drop : int
            Bits of the sums that fall away.
        halved : sequence of bool
            Whether the candidate of each direction has a bit less of them: the table takes half
            the argument of a tanh, which so has a fraction bit more.
        """
        t = self._cycles.timing
        rows = [[each.bias] for each in self._directions]
        if self.has_first_biases:
            # In the first step the hidden states of the beginning are part of the bias.
            rows = [[each.bias, each.first_bias] for each in self._directions]
        stored = [banks([np.array(order) for order in orders])
                  for orders in zip(*(self._of_tables(row) for each in rows for row in each),
                                    strict=True)]
        # Those of a direction lie in so many places.
        places = len(rows[0]) << (len(self._units) * t.slots - 1).bit_length()
        result = []
        for n, words in enumerate(stored):
            gates = [slot * t.gate_tables + n for slot in range(t.slots)]
            halves = [[half(drop) >> (gate == CANDIDATE and tanh) for gate in gates]
                      for tanh in halved]
            result.append([int(word) + halves[slot // places][slot % t.slots]
                           for slot, word in enumerate(words)])
        return result

    @property
    def has_first_biases(self) -> bool:
        """Whether the biases of a sequence's first step follow those of the others."""
        return any(each.initial_h.any() for each in self._directions)

    def _of_tables(self, biases: np.ndarray) -> list[list[int]]:
        """In the order in which sums leave the hold chain, one list for each table."""
        hidden, tables = self._directions[0].hidden, self._cycles.timing.gate_tables
        order = self._in_order(*(biases[gate * hidden:(gate + 1) * hidden]
                                 for gate in range(GATES))).tolist()
        return [order[table::tables] for table in range(tables)]
