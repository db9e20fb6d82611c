"""The model: what must come out of a design, word by word, for sequences that go in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.manifest import Manifest
from sim.vectors import Vectors, VectorsError

__all__ = ["Expected", "Model", "Rows"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Vectors of one tensor, in the order in which they must appear.

    Parameters
    ----------
    name : str
        The tensor, ``y`` or as in the vectors.
    values : int64 array [K, units]
    sequence, step : int64 array [K]
        What each belongs to; the step counts from 0.
    last : bool array [K]
        Whether it is the last of its sequence.
    """

    name: str
    values: np.ndarray
    sequence: np.ndarray
    step: np.ndarray
    last: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What must come out: the probes' tensors in the manifest's order, and the output."""

    probes: tuple[Rows, ...]
    output: Rows


class Model:
    """Golden's numbers, arranged as a design takes and gives them.

    Parameters
    ----------
    manifest : Manifest
    vectors : Vectors

    Raises
    ------
    VectorsError
        If the two do not describe the same network.
    """

    def __init__(self, manifest: Manifest, vectors: Vectors) -> None:
        self.manifest = manifest
        self.vectors = vectors
        shapes = {"x": (vectors.x, manifest.input.elements),
                  "y": (vectors.y, manifest.output.elements)}
        for probe in manifest.probes:
            if probe.name not in vectors.states:
                raise VectorsError(f"the vectors have no {probe.name}, which the design shows")
            shapes[probe.name] = vectors.states[probe.name], probe.units
        for name, (array, units) in shapes.items():
            if array.shape[1] != units:
                raise VectorsError(f"{name} must have {units} columns, as the manifest says, "
                                   f"not {array.shape[1]}")

    def beats(self, sequence: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A sequence as it goes in.

        Returns
        -------
        data : uint8 array [B, lanes * bytes]
        last : bool array [B]
        """
        data = self.manifest.input.pack(self.vectors.x[self.vectors.steps(sequence)], rng)
        last = np.zeros(len(data), dtype=bool)
        last[-1] = True
        return data, last

    def expected(self, order: Sequence[int]) -> Expected:
        """What comes out for sequences, one after the other."""
        lengths = self.vectors.lengths[list(order)]
        sequence = np.repeat(np.asarray(order), lengths)
        step = np.concatenate([np.arange(length) for length in lengths])
        last = step == np.repeat(lengths, lengths) - 1
        rows = np.concatenate([np.arange(part.start, part.stop)
                               for part in map(self.vectors.steps, order)])
        probes = tuple(Rows(name=probe.name, values=self.vectors.states[probe.name][rows],
                            sequence=sequence, step=step, last=last)
                       for probe in self.manifest.probes)
        given = np.ones_like(last) if self.vectors.every_step else last
        outputs = np.concatenate([np.arange(part.start, part.stop)
                                  for part in map(self.vectors.outputs, order)])
        output = Rows(name="y", values=self.vectors.y[outputs], sequence=sequence[given],
                      step=step[given], last=last[given])
        return Expected(probes=probes, output=output)
