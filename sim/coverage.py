"""Functional coverage: what a verification has made happen, point by point.

Golden knows what the sequences do inside: which side saturates, which segment is looked up, where a
gate is pinned; `build` writes that beside the vectors. The rest happens at the ports, and is read
off the recording:

==============  ================================================================================
``handshakes``  Each port offered a beat or not, with the other side ready or not; and the source
                with something to send or not, with the sink ready or not.
``stalls``      Pauses of the source and of the sink within a step, between two, and between two
                sequences; the design not ready for a beat; an output held for longer than a step;
                a step that takes the last place there is.
``sequences``   Of a single step, and longer; back to back, and while the design is empty.
``resets``      In each eighth of a step's cycles, counted from the first beat; amid the beats of a
                step, and amid the units of a state.
==============  ================================================================================

A point that cannot happen in a design has no count. One that never happened is no failure: a
trained network need not saturate. But there it is, to be read.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from golden.coverage import labels, possible, reached
from golden.quantized_network import QuantizedNetwork
from sim.manifest import Manifest
from sim.monitor import Beats, Values

__all__ = ["COVERED", "EIGHTHS", "REACHED", "Coverage", "CoverageError", "of_network", "of_ports",
           "of_reset"]

REACHED = "reached.json"
"""The file in the folder of a design: what its vectors reach inside."""

COVERED = "covered.json"
"""The file in the folder of a run: what happened at the ports."""

EIGHTHS = 8


class CoverageError(RuntimeError):
    """What was counted cannot be read, or not be set against the Verilog."""


class Coverage:
    """Points and how often each was met, by group.

    Attributes
    ----------
    groups : dict of str to dict of str to (int or None)
        None for what cannot happen.
    """

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, int | None]] = {}

    def add(self, group: str, point: str, count: int, *, possible: bool = True) -> None:
        """Count a point; what was met once is possible, whatever is said."""
        points = self.groups.setdefault(group, {})
        before = points.get(point)
        points[point] = (before or 0) + int(count) if possible or count or before else None

    def merge(self, other: "Coverage") -> None:
        """Add the counts of another one."""
        for group, points in other.groups.items():
            for point, count in points.items():
                self.add(group, point, count or 0, possible=count is not None)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.groups, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Coverage":
        """Read the file; nothing where there is none.

        Raises
        ------
        CoverageError
            If it is not such a file.
        """
        made = cls()
        try:
            made.groups = json.loads(path.read_text(encoding="utf-8"))
            good = all(count is None or type(count) is int for points in made.groups.values()
                       for count in points.values())
        except FileNotFoundError:
            return made
        except OSError as error:
            raise CoverageError(f"{path}: the file cannot be read: {error.strerror}") from error
        except (ValueError, AttributeError):
            good = False
        if not good:
            raise CoverageError(f"{path} must hold the counts of points by group, as gatefold "
                                f"build has written it: build the design again")
        return made

    @property
    def shares(self) -> dict[str, tuple[int, int]]:
        """Of each group: how many points were met, and how many there are."""
        return {group: (sum(bool(count) for count in points.values()),
                        sum(count is not None for count in points.values()))
                for group, points in self.groups.items()}

    @property
    def summary(self) -> str:
        """The shares in a line."""
        return ", ".join(f"{group} {met} of {count}"
                         for group, (met, count) in self.shares.items())

    def report(self) -> list[str]:
        """Lines of text: every point with its count."""
        lines = []
        for group, (met, count) in self.shares.items():
            lines += ["", f"{group}: {met} of {count}"]
            lines += [f"  {point}: {self._told(met)}" for point, met in self.groups[group].items()]
        return lines

    @staticmethod
    def _told(count: int | None) -> str:
        return "cannot happen" if count is None else f"{count:,}" if count else "NEVER"


def of_network(network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray) -> Coverage:
    """What sequences of input codes, int64 B x T x N, do inside of a network."""
    made = Coverage()
    counts = reached(network, network.run(x, lengths, trace=True), lengths)
    for name, able in possible(network).items():
        group, _, tensor = name.partition(".")
        each = counts[name].sum(axis=0).tolist()
        for label, count, may in zip(labels(name, len(each)), each, able, strict=True):
            made.add(group, f"{tensor} {label}", count, possible=bool(may))
    return made


def of_ports(manifest: Manifest, inputs: Beats, outputs: Sequence[Beats], met: int) -> Coverage:
    """What happened at the ports while sequences were played.

    Parameters
    ----------
    inputs : Beats
    outputs : sequence of Beats
        One after the other.
    met : int
        The bench's port of that name.
    """
    made = Coverage()
    _of_handshakes(made, met)
    ours, theirs = manifest.input, manifest.output
    taken = np.concatenate([beats.cycles for beats in outputs])
    last = np.concatenate([beats.last for beats in outputs])
    waited = np.concatenate([beats.waited for beats in outputs])
    idle = np.diff(inputs.cycles, prepend=inputs.cycles[:1]) - 1 - inputs.waited
    # The source pauses where it offers nothing; the sink where it does not take what is offered.
    for side, beats, paused, ends, steps in (
            ("source", ours.beats, idle, inputs.last, True),
            ("sink", theirs.beats, waited, last, manifest.every_step)):
        place = np.arange(len(paused)) % beats
        behind = np.r_[True, ends[:-1]]
        for where, here, may in (("within a step", place > 0, beats > 1),
                                 ("between steps", (place == 0) & ~behind, steps),
                                 ("between sequences", behind, True)):
            made.add("stalls", f"{side} pauses {where}", (paused[here] > 0).sum(), possible=may)
    made.add("stalls", "the design is not ready for a beat", (inputs.waited > 0).sum())
    made.add("stalls", "an output is held for longer than a step",
             (waited > manifest.step).sum())

    # Only last steps wait for the sink where no others have an output.
    comes = inputs.cycles[ours.beats - 1::ours.beats]
    goes = taken[last]
    if manifest.every_step:
        goes = taken[theirs.beats - 1::theirs.beats]
    else:
        comes = comes[inputs.last[ours.beats - 1::ours.beats]]
    under_way = np.arange(1, 1 + len(comes)) - np.searchsorted(goes, comes)
    # A packet of final states holds up single steps only.
    apart = manifest.state_output is None or inputs.last[ours.beats - 1::ours.beats].all()
    made.add("stalls", "a step takes the last place", 0 if manifest.held is None or not apart
             else (under_way >= manifest.held).sum(), possible=manifest.held is not None)

    begins = np.r_[True, inputs.last[:-1]]
    single = begins & inputs.last if ours.beats == 1 else (
        begins & np.r_[inputs.last[ours.beats - 1:], np.zeros(ours.beats - 1, dtype=bool)])
    made.add("sequences", "of a single step", single.sum())
    made.add("sequences", "of several steps", begins.sum() - single.sum())
    made.add("sequences", "back to back", (idle[begins][1:] == 0).sum())
    # All that went in before has come out.
    through = np.searchsorted(taken[last], inputs.cycles[begins])
    made.add("sequences", "while the design is empty",
             (through == np.arange(begins.sum())).sum())
    return made


def _of_handshakes(made: Coverage, met: int) -> None:
    """Of the bits {input TVALID, TREADY, output TVALID, TREADY}."""
    for what, (one, other), (yes, no), (ready, unready) in (
            ("input", (3, 2), ("offered", "not offered"), ("ready", "not ready")),
            ("output", (1, 0), ("offered", "not offered"), ("ready", "not ready")),
            ("source and sink", (3, 0), ("busy", "idle"), ("ready", "not ready"))):
        for first, name in ((1, yes), (0, no)):
            for second, state in ((1, ready), (0, unready)):
                made.add("handshakes", f"{what}: {name}, {state}", sum(
                    met >> n & 1 for n in range(16)
                    if n >> one & 1 == first and n >> other & 1 == second))


def of_reset(manifest: Manifest, inputs: Beats, probes: Iterable[Values], cycle: int) -> Coverage:
    """What a reset after a cycle came amid, from what was recorded until then."""
    made = Coverage()
    phase = None
    if len(inputs.cycles):
        phase = (cycle - int(inputs.cycles[0])) % manifest.step * EIGHTHS // manifest.step
    for eighth in range(EIGHTHS):
        made.add("resets", f"in eighth {eighth + 1} of a step", phase == eighth)
    beats = manifest.input.beats
    made.add("resets", "amid the beats of a step", len(inputs.cycles) % beats > 0,
             possible=beats > 1)
    amid = any(len(values.cycles) % probe.units
               for values, probe in zip(probes, manifest.probes, strict=True))
    made.add("resets", "amid the units of a state", amid,
             possible=any(probe.units > probe.lanes for probe in manifest.probes))
    return made
