"""What can be wrong with the input of a design: steps, sequences, packets that break its rules."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.model import Model, Part

__all__ = ["Fault", "faults"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fault:
    """A broken input.

    Parameters
    ----------
    name : str
        What is wrong.
    part : Part
        Its beats, and the packet of states before them.
    sequences : int
        That come out of it, with outputs of no use.
    """

    name: str
    part: Part
    sequences: int


def faults(model: Model, rng: np.random.Generator) -> Iterator[Fault]:
    """One of each kind that there is for a design."""
    manifest, vectors = model.manifest, model.vectors
    beats, streams = manifest.input.beats, manifest.streams
    strangers = range(streams, 1 << manifest.id_bits)

    def steps(count: int) -> Part:
        """So many steps of a stream, from a random place on, without TLAST."""
        first = int(rng.integers(len(vectors.x)))
        data = manifest.input.pack(vectors.x[np.arange(first, first + count) % len(vectors.x)], rng)
        return Part(data=data, last=np.zeros(len(data), dtype=bool),
                    stream=np.full(len(data), rng.integers(streams)),
                    keep=np.zeros(len(data), dtype=bool), given=None)

    def beginning(part: Part, count: int) -> Part:
        return Part(data=part.data[:count], last=part.last[:count], stream=part.stream[:count],
                    keep=part.keep[:count], given=None)

    few = int(rng.integers(1, min(3, manifest.longest or 3), endpoint=True))
    if beats > 1:
        part = steps(few)
        cut = len(part.data) - int(rng.integers(1, beats))
        # TUSER asks to keep a state, which counts at the end of a step only.
        part = beginning(part, cut)
        part.last[-1] = part.keep[-1] = True
        yield Fault(name="TLAST within a step", part=part, sequences=1)
    if beats > 1 and streams > 1:
        part = steps(few)
        part.stream[-int(rng.integers(1, beats))] += int(rng.integers(1, streams))
        yield Fault(name="TID changed within a step", sequences=1, part=part._replace(
            stream=part.stream % streams, last=np.arange(len(part.data)) == len(part.data) - 1))
    if strangers:
        part = steps(1)
        part.stream[:] = rng.choice(strangers)
        part.last[-1] = rng.random() < 0.5
        yield Fault(name="TID of no stream", part=part, sequences=0)
    if manifest.longest is not None:
        part = steps(manifest.longest + int(rng.integers(1, 3, endpoint=True)))
        part.last[-1] = True
        yield Fault(name="a sequence that is too long", part=part, sequences=1)
    if manifest.state_input:
        packet, nothing = model.packet(int(rng.integers(len(vectors.x)))), beginning(steps(1), 0)
        for name, wrong in (("a packet of states that is too short",
                             packet[:int(rng.integers(1, len(packet)))]),
                            ("a packet of states that is too long",
                             np.concatenate([packet, packet[:int(rng.integers(1, 4))]]))):
            yield Fault(name=name, sequences=0, part=nothing._replace(
                given=(int(rng.integers(streams)), wrong)))
