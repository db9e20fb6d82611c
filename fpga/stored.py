"""What the self-test stores: the words of some sequences, and how long to wait for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fpga.boards import Board
from hdl.bus import Bus

__all__ = ["Beat", "Stored", "fitting", "silence", "store"]

SHARE = 4
"""Stored words take one in so many of the device's block RAMs, at most."""


@dataclass(frozen=True)
class Beat:
    """One transfer of an AXI4-Stream: TDATA, unsigned, and TLAST."""

    data: int
    last: bool


@dataclass(frozen=True, kw_only=True)
class Stored:
    """All that the self-test must know of the network.

    Parameters
    ----------
    stimulus, expected : sequence of Beat
        Words of whole sequences, in order: what goes in, and what must come out.
    timeout : int
        Cycles without a transfer on either side that end a round. More than the core is ever
        silent within one.
    """

    stimulus: Sequence[Beat]
    expected: Sequence[Beat]
    timeout: int


def fitting(
    stimulus: Sequence[int], expected: Sequence[int], *, source: Bus, sink: Bus, board: Board,
    blocks: int,
) -> list[int]:
    """Which sequences to store: from the first on, all for which there still is room.

    Parameters
    ----------
    stimulus, expected : sequence of int
        Vectors of each sequence, in and out.
    blocks : int
        Block RAMs that may be used, of those the core leaves.

    Raises
    ------
    ValueError
        If none fits.
    """
    chosen: list[int] = []
    words_in = words_out = 0
    for number, (inputs, outputs) in enumerate(zip(stimulus, expected, strict=True)):
        longer_in = words_in + inputs * source.beats
        longer_out = words_out + outputs * sink.beats
        # TLAST lies beside the data.
        if (board.memory_blocks(depth=longer_in, width=source.width + 1)
                + board.memory_blocks(depth=longer_out, width=sink.width + 1)) <= blocks:
            chosen.append(number)
            words_in, words_out = longer_in, longer_out
    if not chosen:
        raise ValueError(f"one sequence at least must fit {blocks} block RAMs of {board.name}, but "
                         f"the shortest has {min(stimulus) * source.beats} words in")
    return chosen


def silence(lengths: Sequence[int], *, further: int, latency: int) -> int:
    """A time for which the core is never silent while it has something to do, in cycles.

    Every sequence ends in a word, so no silence is longer than the longest sequence takes from its
    first beat to its last one. This is twice that.

    Parameters
    ----------
    lengths : sequence of int
        Steps of each sequence.
    further, latency : int
        Of the cycle model: cycles that a further step adds to a sequence, and those from the last
        beat of a step to its output.
    """
    return 2 * (max(lengths) * further + latency)


def _beats(bus: Bus, codes: np.ndarray, counts: np.ndarray) -> list[Beat]:
    """Vectors of sequences, ``counts`` of each, as beats."""
    last = np.zeros(len(codes) * bus.beats, dtype=bool)
    last[np.cumsum(counts) * bus.beats - 1] = True
    return [Beat(int.from_bytes(word.tobytes(), "little"), bool(end))
            for word, end in zip(bus.pack(codes), last, strict=True)]


def store(
    x: np.ndarray, y: np.ndarray, lengths: np.ndarray, *, every_step: bool, source: Bus, sink: Bus,
    further: int, latency: int, board: Board,
) -> Stored:
    """Choose sequences and lay their words out.

    Parameters
    ----------
    x : int64 array [L, N]
        Input codes of all sequences, L steps in all, one sequence after the other.
    y : int64 array [S, O], or [L, O] with ``every_step``
        Output codes.
    lengths : int64 array [S]
        Steps of each sequence.
    source, sink : Bus
        The network's streams.
    further, latency : int
        Of the cycle model, in cycles.

    Raises
    ------
    ValueError
        If no sequence fits.
    """
    outputs = lengths if every_step else np.ones_like(lengths)
    chosen = fitting(lengths.tolist(), outputs.tolist(), source=source, sink=sink, board=board,
                     blocks=board.bram.available // SHARE)
    belongs = np.isin(np.arange(len(lengths)), chosen)
    return Stored(
        stimulus=_beats(source, x[np.repeat(belongs, lengths)], lengths[belongs]),
        expected=_beats(sink, y[np.repeat(belongs, outputs)], outputs[belongs]),
        timeout=silence(lengths[belongs].tolist(), further=further, latency=latency))
