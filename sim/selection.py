"""Which of a design's sequences a test plays."""

import numpy as np

from sim.manifest import Manifest
from sim.vectors import Vectors

__all__ = ["Selection"]


class Selection:
    """Picks sequences, by their numbers in the vectors.

    Parameters
    ----------
    manifest : Manifest
    vectors : Vectors
    rng : Generator
    effort : int
        About how many cycles a test may take.
    """

    def __init__(self, manifest: Manifest, vectors: Vectors, rng: np.random.Generator,
                 effort: int) -> None:
        self._manifest = manifest
        self._vectors = vectors
        self._rng = rng
        self._effort = effort

    def some(self, budget: int, *, least: int = 1) -> list[int]:
        """Sequences in random order that take about so many cycles."""
        order: list[int] = []
        steps = 0
        for sequence in self._rng.permutation(self._vectors.sequences).tolist():
            length = int(self._vectors.lengths[sequence])
            if len(order) < least or (steps + length) * self._manifest.alone <= budget:
                order.append(sequence)
                steps += length
        return order

    def longer(self) -> list[int]:
        """For each stream a sequence that has more than one step, where there is any."""
        candidates = np.flatnonzero(self._vectors.lengths > 1)
        return self._rng.choice(candidates if len(candidates) else self._vectors.sequences,
                                self._manifest.streams).tolist()

    def longest(self) -> list[int]:
        """The same sequence, none is longer, for each stream."""
        return [int(np.argmax(self._vectors.lengths))] * self._manifest.streams

    def shortest(self, count: int) -> list[int]:
        """So many of the shortest sequences, repeated where there are not enough."""
        ranked = np.argsort(self._vectors.lengths, kind="stable")
        same = ranked[self._vectors.lengths[ranked] == self._vectors.lengths[ranked[0]]]
        return self._rng.permutation(np.resize(same, count)).tolist()

    def each_kind(self) -> list[int]:
        """Of the sequences in which the same tensors saturate one of the shortest each."""
        ranked = self._rng.permutation(self._vectors.sequences)
        ranked = ranked[np.argsort(self._vectors.lengths[ranked], kind="stable")]
        counts = self._vectors.saturated.values()
        kinds = {tuple(each[sequence] > 0 for each in counts): sequence
                 for sequence in ranked[::-1].tolist()}
        return self._rng.permutation(list(kinds.values())).tolist()

    def mixed(self) -> list[int]:
        """Some of the shortest sequences among some of any length."""
        some = self.some(self._effort // 16, least=2 * self._manifest.streams)
        return self._rng.permutation([*self.shortest(4 * self._manifest.streams), *some]).tolist()

    def guests(self, visits: int) -> list[int]:
        """Sequences of about so many steps in all, one at least."""
        order = self.shortest(1)
        steps = int(self._vectors.lengths[order].sum())
        for sequence in self._rng.permutation(self._vectors.sequences).tolist():
            length = int(self._vectors.lengths[sequence])
            if steps + length <= visits:
                order.append(sequence)
                steps += length
        return order

    def many(self) -> list[int]:
        """More of the shortest sequences than the design holds, where that is known."""
        return self.shortest(max(16, 2 + (self._manifest.held or 0) // self._manifest.streams)
                             * self._manifest.streams)
