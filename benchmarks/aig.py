"""And-inverter graphs of sequential designs: read from AIGER files, put together, written again.

A literal is twice a node's number, plus 1 where it is inverted; node 0 is the constant 0. AIGER's
formats: A. Biere, K. Heljanko, S. Wieringa, "AIGER 1.9 and beyond", Linz 2011.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

__all__ = ["Circuit", "Graph", "FALSE", "TRUE"]

FALSE, TRUE = 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Circuit:
    """A sequential circuit, as an AIGER file has it.

    Parameters
    ----------
    inputs, latches : tuple of int
        The literals of both.
    next : tuple of int
        Of each latch.
    starts : tuple of int
        0 or 1, what each latch begins with.
    outputs : tuple of int
    ands : list of (int, int, int)
        Each node after those that it depends on: its literal, and the two that it joins.
    names : mapping of str to str
        By ``i`` for input, ``l`` for latch or ``o`` for output, and its place.
    """

    inputs: tuple[int, ...]
    latches: tuple[int, ...]
    next: tuple[int, ...]
    starts: tuple[int, ...]
    outputs: tuple[int, ...]
    ands: list[tuple[int, int, int]]
    names: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> "Circuit":
        """Read a file of the ASCII format, as Yosys writes it.

        Raises
        ------
        ValueError
            If a latch begins with neither 0 nor 1.
        """
        lines = iter(path.read_text(encoding="utf-8").splitlines())
        _, _, inputs, latches, outputs, ands = next(lines).split()[:6]

        def rows(count: str) -> list[list[int]]:
            return [[int(word) for word in line.split()] for line in islice(lines, int(count))]

        read = rows(inputs), rows(latches), rows(outputs), rows(ands)
        names = {match[1]: match[2] for line in lines
                 if (match := re.fullmatch(r"([ilo]\d+) (.*)", line))}
        starts = tuple(latch[2] if len(latch) > 2 else 0 for latch in read[1])
        if not set(starts) <= {FALSE, TRUE}:
            raise ValueError(f"{path}: every latch must begin with 0 or 1")
        return cls(inputs=tuple(row[0] for row in read[0]),
                   latches=tuple(row[0] for row in read[1]), next=tuple(row[1] for row in read[1]),
                   starts=starts, outputs=tuple(row[0] for row in read[2]),
                   ands=sorted((row[0], row[1], row[2]) for row in read[3]), names=names)

    def find(self, name: str) -> list[int]:
        """The places of the inputs that make up a signal, the lowest bit first."""
        places = {key: int(number[1:]) for number, key in self.names.items() if number[0] == "i"}
        if name in places:
            return [places[name]]
        bits = (f"{name}[{bit}]" for bit in range(len(places)))
        return [places[bit] for bit in bits if bit in places]

    @cached_property
    def words(self) -> list[tuple[int, ...]]:
        """The places of the latches of each signal; one without a name is alone."""
        found: dict[str, list[int]] = {}
        for place in range(len(self.latches)):
            # The first of its names, without the bit.
            name = self.names.get(f"l{place}", "").partition(" ")[0]
            found.setdefault(re.sub(r"\[\d+\]$", "", name) or str(place), []).append(place)
        return [tuple(places) for places in found.values()]

    def behind(self, latches: Iterable[int]) -> set[int]:
        """The places of the latches that some depend on, and of themselves."""
        joined = {node: (a & ~1, b & ~1) for node, a, b in self.ands}
        places = {latch: place for place, latch in enumerate(self.latches)}
        front = [self.latches[place] for place in latches]
        found = set[int]()
        while front:
            node = front.pop()
            if node in found:
                continue
            found.add(node)
            front += joined.get(node, ())
            if node in places:
                front.append(self.next[places[node]] & ~1)
        return {places[node] for node in found if node in places}

    def untouched(self, inputs: Iterable[int]) -> set[int]:
        """The places of the latches that never depend on some inputs, given by their places."""
        touched = {self.inputs[place] for place in inputs}
        before = -1
        while before != (before := len(touched)):
            for node, a, b in self.ands:
                if a & ~1 in touched or b & ~1 in touched:
                    touched.add(node)
            touched.update(latch for latch, goes in zip(self.latches, self.next, strict=True)
                           if goes & ~1 in touched)
        return {place for place, latch in enumerate(self.latches) if latch not in touched}


@dataclass(eq=False)
class Graph:
    """A graph that grows, without two nodes that join the same literals."""

    leaves: int = 0
    ands: list[tuple[int, int, int]] = field(default_factory=list)
    _known: dict[tuple[int, int], int] = field(default_factory=dict)

    def leaf(self) -> int:
        """A new input or latch. All of them have to come before any other node."""
        self.leaves += 1
        return 2 * self.leaves

    def both(self, a: int, b: int) -> int:
        """a and b."""
        if a > b:
            a, b = b, a
        if a == FALSE or a == b ^ 1:
            return FALSE
        if a in (TRUE, b):
            return b
        found = self._known.get((a, b))
        if found is None:
            found = self._known[a, b] = 2 * (self.leaves + len(self.ands) + 1)
            self.ands.append((found, b, a))
        return found

    def either(self, literals: Sequence[int]) -> int:
        """Any of them."""
        found = TRUE
        for literal in literals:
            found = self.both(found, literal ^ 1)
        return found ^ 1

    def differ(self, a: int, b: int) -> int:
        """a and b are not the same."""
        return self.either([self.both(a, b ^ 1), self.both(a ^ 1, b)])

    def place(self, circuit: Circuit, inputs: Sequence[int], latches: Sequence[int]
              ) -> tuple[list[int], list[int]]:
        """Put a circuit's logic in; gives the literals of what its latches get, and of its outputs.

        Parameters
        ----------
        circuit : Circuit
        inputs, latches : sequence of int
            What stands for each of its own.
        """
        stands = {FALSE: FALSE}
        stands.update(zip(circuit.inputs, inputs, strict=True))
        stands.update(zip(circuit.latches, latches, strict=True))
        for node, a, b in circuit.ands:
            stands[node] = self.both(stands[a & ~1] ^ a & 1, stands[b & ~1] ^ b & 1)
        return ([stands[literal & ~1] ^ literal & 1 for literal in circuit.next],
                [stands[literal & ~1] ^ literal & 1 for literal in circuit.outputs])

    def write(self, path: Path, latches: Mapping[int, tuple[int, int]], output: int) -> None:
        """Write what an output depends on, in the binary format.

        Parameters
        ----------
        path : Path
        latches : mapping of int to (int, int)
            For the literals of leaves that are latches: what each gets, and begins with. Other
            leaves are inputs, which may have any value.
        output : int
        """
        joined = {node: (a, b) for node, a, b in self.ands}
        needed, front = set[int](), [output & ~1]
        while front:
            node = front.pop()
            if node in needed or not node:
                continue
            needed.add(node)
            if node in latches:
                front.append(latches[node][0] & ~1)
            front += [literal & ~1 for literal in joined.get(node, ())]
        kept = sorted(needed & latches.keys())
        inputs = sorted(needed - joined.keys() - set(kept))
        ands = [node for node, _, _ in self.ands if node in needed]
        # A latch that begins with 1 is written as the inverse of one that begins with 0.
        new = {0: 0, **{node: 2 * n for n, node in enumerate(inputs + kept + ands, start=1)}}
        flip = {node: latches[node][1] for node in kept}

        def literal(old: int) -> int:
            return new[old & ~1] ^ old & 1 ^ flip.get(old & ~1, 0)

        lines = [f"aig {len(new) - 1} {len(inputs)} {len(kept)} 1 {len(ands)}"]
        lines += [str(literal(latches[node][0]) ^ latches[node][1]) for node in kept]
        lines.append(str(literal(output)))
        text = bytearray("\n".join([*lines, ""]).encode())
        for node in ands:
            high, low = sorted(map(literal, joined[node]), reverse=True)
            for delta in (new[node] - high, high - low):
                while delta >= 0x80:
                    text.append(delta & 0x7F | 0x80)
                    delta >>= 7
                text.append(delta)
        path.write_bytes(text)
