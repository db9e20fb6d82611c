"""A circuit and a faulty copy of it, side by side over a few cycles, in one graph."""

from collections.abc import Callable, Collection, Sequence

from benchmarks.aig import FALSE, Circuit, Graph

__all__ = ["Copies", "Value"]

Value = tuple[int, int]
"""A register's place, and 0 or 1."""


class Copies:
    """Two copies of a circuit over some cycles, of which one has a fault, with the same inputs.

    Parameters
    ----------
    circuit : Circuit
    control : collection of int
        The places of latches that depend on no other.
    selects : function of int
        Gives what the inputs are for the fault of a number, 0 for none, from what they are.
    number : int
        The fault's.
    own : collection of int
        The places of latches of which the faulty copy has its own; the others are equal.
    before, whole : int
        Cycles of which only the control is looked at, and then of which all is.
    begun : bool
        Whether the first one is that of power-up.

    Attributes
    ----------
    graph : Graph
    cycles : range
        Those at whose beginning there are data registers, the last one's behind the whole ones.
    others : dict of int to int
        Of the places of which there is one register: in the last step the copies make a difference.
    shown : int
        They show one in it.
    start : list of Clause
        What is so at power-up.
    """

    def __init__(self, circuit: Circuit, control: Collection[int], *,
                 selects: Callable[[Sequence[int], int], list[int]], number: int,
                 own: Collection[int], before: int, whole: int, begun: bool) -> None:
        self.graph = graph = Graph()
        self.cycles = range(before, before + whole + 1)
        every = range(len(circuit.latches))
        inputs = [[graph.leaf() for _ in circuit.inputs] for _ in range(before + whole)]
        first, data = ([graph.leaf() for _ in every] for _ in range(2))
        faulty = {place: graph.leaf() for place in sorted(own)}
        if not before:
            data = first
        self._right = [first]
        for given in inputs[:before]:
            known = [literal if place in control else FALSE
                     for place, literal in enumerate(self._right[-1])]
            self._right.append(graph.place(circuit, selects(given, 0), known)[0])
        self._right[-1] = [self._right[-1][place] if place in control else data[place]
                           for place in every]
        self._wrong = {before: faulty}
        self.others, self.shown = dict[int, int](), FALSE
        for cycle, given in enumerate(inputs[before:], start=before):
            right = self._right[-1]
            wrong = [self._wrong[cycle].get(place, right[place]) for place in every]
            goes, shows = graph.place(circuit, selects(given, 0), right)
            other_goes, other_shows = graph.place(circuit, selects(given, number), wrong)
            self._right.append(goes)
            self._wrong[cycle + 1] = {place: other_goes[place] for place in own}
            if cycle + 1 == self.cycles[-1]:
                self.others = {place: graph.differ(goes[place], other_goes[place])
                               for place in every if place not in own}
                self.shown = graph.either([graph.differ(*pair)
                                           for pair in zip(shows, other_shows, strict=True)])
        self.start = [[literal ^ circuit.starts[place] ^ 1] for place, literal in (
            *((place, first[place]) for place in (control if before else every)),
            *(() if before else faulty.items()))] if begun else []

    def has(self, value: Value, cycle: int) -> int:
        """The right copy's register has a value."""
        place, level = value
        return self._right[cycle][place] ^ level ^ 1

    def differs(self, word: Sequence[int], cycle: int) -> int:
        """A word is not the same in both."""
        return self.graph.either([self.graph.differ(self._right[cycle][place],
                                                    self._wrong[cycle][place]) for place in word])
