"""What can be, of the logic of a graph, and what follows from itself: questions to a SAT solver."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from pysat.solvers import Cadical153

from benchmarks.aig import FALSE, TRUE, Graph

__all__ = ["Clause", "Question"]

Clause = Sequence[int]
"""Literals of a graph, one or more of which are 1."""

Key = TypeVar("Key", bound=Hashable)


class Question:
    """A solver that knows a graph, and some facts.

    Parameters
    ----------
    graph : Graph
        As it is now.
    facts : iterable of Clause
    """

    def __init__(self, graph: Graph, facts: Iterable[Clause] = ()) -> None:
        self._joined = {node: (a, b) for node, a, b in graph.ands}
        self._variables = self._nodes = graph.leaves + len(graph.ands)
        self._known = set[int]()
        self._solver = Cadical153()
        for clause in facts:
            self._give(clause)

    def _literal(self, literal: int) -> int:
        """The solver's, which learns the logic before it; what is a leaf may be anything."""
        if literal >> 1 > self._nodes:
            raise ValueError("the graph has grown since it was asked about first")
        front = [literal & ~1]
        while front:
            node = front.pop()
            if node in self._known or node not in self._joined:
                continue
            self._known.add(node)
            operands = self._joined[node]
            front += [operand & ~1 for operand in operands]
            one, (a, b) = _signed(node), map(_signed, operands)
            for clause in ([-one, a], [-one, b], [one, -a, -b]):
                self._solver.add_clause(clause)
        return _signed(literal)

    def _give(self, clause: Clause, unless: Sequence[int] = ()) -> None:
        """Add a clause, or what it says unless one of the solver's own literals holds."""
        if TRUE not in clause:
            self._solver.add_clause([*unless, *(self._literal(literal) for literal in clause
                                                if literal != FALSE)])

    def _variable(self) -> int:
        self._variables += 1
        return self._variables

    def lasting(self, candidates: Mapping[Key, tuple[Iterable[Clause], Clause]]) -> list[Key]:
        """Those that follow if all of them are so before; which is a fact from then on.

        All that do not are dropped, and with them what is known before, until the others do: the
        algorithm Houdini. C. Flanagan, K. R. M. Leino, "Houdini, an annotation assistant for
        ESC/Java", FME 2001.

        Parameters
        ----------
        candidates : mapping to (iterable of Clause, Clause)
            What is so before, and what is to follow.
        """
        assumed, fails = {}, {}
        for key, (before, after) in candidates.items():
            assumed[key], fails[key] = self._variable(), self._variable()
            for clause in before:
                self._give(clause, [-assumed[key]])
            for literal in after:
                self._give([literal ^ 1], [-fails[key]])
        left = list(candidates)
        while left:
            asked = self._variable()
            self._solver.add_clause([-asked, *(fails[key] for key in left)])
            if not self._solver.solve(assumptions=[asked, *(assumed[key] for key in left)]):
                break
            true = self._true()
            left = [key for key in left if any(true(literal) for literal in candidates[key][1])]
            self._solver.add_clause([-asked])
        for key in left:
            self._solver.add_clause([assumed[key]])
        return left

    def possible(self, literals: Mapping[Key, int]) -> set[Key]:
        """Those that can be 1."""
        found = {key for key, literal in literals.items() if literal == TRUE}
        left = {key: literal for key, literal in literals.items() if literal not in (FALSE, TRUE)}
        while left:
            asked = self._variable()
            self._give(list(left.values()), [-asked])
            if not self._solver.solve(assumptions=[asked]):
                break
            true = self._true()
            new = {key for key, literal in left.items() if true(literal)}
            found |= new
            left = {key: literal for key, literal in left.items() if key not in new}
            self._solver.add_clause([-asked])
        return found

    def _true(self) -> Callable[[int], bool]:
        """Whether a literal is 1 in what the solver has just found."""
        model = self._solver.get_model()

        def true(literal: int) -> bool:
            signed = _signed(literal)
            return literal == TRUE or (literal != FALSE and model[abs(signed) - 1] == signed)

        return true


def _signed(literal: int) -> int:
    """A solver's literal: a node's number, negative where it is inverted."""
    return -(literal >> 1) if literal & 1 else literal >> 1
