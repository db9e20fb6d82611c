"""The adding problem: remember two marked numbers over about a hundred steps and add them.

The task is experiment 4 of Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural
Computation 9(8), 1997.  Every step of a sequence is a pair (value, marker):

- the length of a sequence is uniform in ``T .. T + T/10``, with T = 100;
- values are uniform in [-1, 1];
- two steps are marked with 1: X1 is the value of one of the first ten steps, X2 the value of one
  of the first ``T/2 - 1`` steps that are still unmarked;
- the markers of the first and of the last step are -1, all others 0.  Where the first step was
  drawn to be marked, its marker is -1 all the same and its value is set to zero;
- the target, asked for at the last step only, is ``0.5 + (X1 + X2) / 4``;
- a sequence counts as correct where the absolute error is below 0.04.

Run as a program, this file writes a data set that the training never saw.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LENGTH", "TEST_COUNT", "TEST_SEED", "TOLERANCE", "correct", "sequences"]

LENGTH = 100
"""T of the definition: the shortest sequence, in steps."""

FIRST_MARK = 10
"""The first mark falls on one of this many steps."""

TOLERANCE = 0.04
"""A sequence is correct where its absolute error is below this."""

TEST_SEED = 1735
"""Seed of the test sequences; no training or validation seed equals it."""

TEST_COUNT = 2560
"""Sequences in the test set, as many as in the paper."""


def sequences(
    count: int, seed: int | list[int], length: int = LENGTH
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Draw sequences of the adding problem.

    Parameters
    ----------
    count : int
        Number of sequences, at least 1.
    seed : int or list of int
        Seed of ``numpy.random.default_rng``; the same seed gives the same sequences.
    length : int
        T of the definition, in steps, at least 20 (both marks must find room).

    Returns
    -------
    x : ndarray, shape (count, length + length // 10, 2)
        (value, marker) per step; zero beyond the end of a sequence.
    lengths : ndarray of int64, shape (count,)
        Steps of each sequence, in ``length .. length + length // 10``.
    y : ndarray, shape (count, 1)
        Targets, in [0, 1].

    Raises
    ------
    ValueError
        If `count` or `length` is too small.
    """
    if count < 1:
        raise ValueError(f"the number of sequences must be at least 1, not {count}")
    if length < 2 * FIRST_MARK:
        raise ValueError(f"the sequence length must be at least {2 * FIRST_MARK}, not {length}")
    rng = np.random.default_rng(seed)
    rows = np.arange(count)
    longest = length + length // 10

    lengths = rng.integers(length, longest, size=count, endpoint=True, dtype=np.int64)
    value = rng.uniform(-1.0, 1.0, size=(count, longest))
    first = rng.integers(0, FIRST_MARK, size=count)
    # The candidates of the second mark are numbered without the step the first one took.
    second = rng.integers(0, length // 2 - 1, size=count)
    second += second >= first

    value[(first == 0) | (second == 0), 0] = 0.0
    y = 0.5 + (value[rows, first] + value[rows, second]) / 4.0

    marker = np.zeros((count, longest))
    marker[rows, first] = 1.0
    marker[rows, second] = 1.0
    marker[:, 0] = -1.0
    marker[rows, lengths - 1] = -1.0

    x = np.stack([value, marker], axis=2)
    x[np.arange(longest) >= lengths[:, None]] = 0.0
    return x, lengths, y[:, None]


def correct(outputs: ArrayLike, targets: ArrayLike) -> float:
    """Share of the sequences whose absolute error is below 0.04.

    Parameters
    ----------
    outputs, targets : array_like, shape (count, 1) or (count,)
        Outputs at the last step of each sequence, and what they should be.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If the two differ in their number of values, or are empty.
    """
    out = np.asarray(outputs, dtype=np.float64).ravel()
    want = np.asarray(targets, dtype=np.float64).ravel()
    if out.size != want.size or not out.size:
        raise ValueError(
            f"outputs and targets must be as many and not empty, not {out.size} and {want.size}"
        )
    return float(np.mean(np.abs(out - want) < TOLERANCE))


def main() -> None:
    """Write a data set: arrays ``x``, ``lengths`` and ``y`` in one .npz file."""
    parser = argparse.ArgumentParser(description="Write sequences of the adding problem.")
    parser.add_argument("--count", type=int, default=TEST_COUNT, help="sequences (%(default)s)")
    parser.add_argument("--seed", type=int, default=TEST_SEED, help="seed (%(default)s)")
    parser.add_argument("--length", type=int, default=LENGTH, help="T, in steps (%(default)s)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .npz file to write")
    args = parser.parse_args()
    try:
        x, lengths, y = sequences(args.count, args.seed, args.length)
    except ValueError as error:
        parser.error(str(error))
    try:
        # An open file, because numpy appends ".npz" to a bare name that lacks it.
        with open(args.output, "wb") as file:
            np.savez_compressed(file, x=x, lengths=lengths, y=y)
    except OSError as error:
        print(f"{parser.prog}: {args.output} cannot be written: {error.strerror or error}",
              file=sys.stderr)
        raise SystemExit(2) from error
    print(f"{args.output}: {args.count} sequences, seed {args.seed}, up to {x.shape[1]} steps")


if __name__ == "__main__":
    main()
