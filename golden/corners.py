"""Sequences that drive a network into its corners, found by trying.

A trained network hardly ever saturates on the data that it was made for, and what its tables hold
for large arguments is never looked up. So inputs are drawn at random that are extreme in one way or
another, the bit-true network runs on all of them, and those are kept that reach the most points
(:mod:`golden.coverage`) in the fewest steps.
"""

from collections.abc import Callable

import numpy as np

from golden.coverage import possible, reached
from golden.quantized_network import QuantizedNetwork

__all__ = ["STEPS", "with_corners"]

STEPS = 96
"""Of all sequences that are added, together, at most."""

DRAWN = 128
LONGEST = 24


def _draw(rng: np.random.Generator, network: QuantizedNetwork, steps: int) -> np.ndarray:
    """Input codes of a sequence, int64 T x N, of one of several kinds."""
    to, shape = network.x, (steps, network.inputs)
    ends = np.array([to.min, to.max])

    def rows() -> np.ndarray:
        # What drives a gate or candidate furthest, for as long as it lasts.
        w = network.directions[0].w_x
        row = w[rng.integers(len(w))] * rng.choice([-1, 1])
        return np.broadcast_to(np.where(row < 0, to.min, to.max), shape)

    kinds: tuple[Callable[[], np.ndarray], ...] = (
        lambda: np.full(shape, rng.choice(ends)),
        lambda: np.broadcast_to(ends[(np.arange(steps) + rng.integers(2)) % 2, None], shape),
        lambda: np.broadcast_to(rng.choice(ends, network.inputs), shape),
        lambda: rng.choice(ends, shape),
        lambda: np.repeat(rng.choice(ends, shape), 3, axis=0)[:steps],
        rows,
        lambda: rng.integers(-1, 1, shape, endpoint=True),
        lambda: (rng.choice(ends, shape) * 2.0 ** -rng.integers(0, to.width, shape)).astype(int),
        lambda: (rows() * 2.0 ** -rng.integers(0, to.width, (steps, 1))).astype(int),
        lambda: np.where(np.arange(steps)[:, None] < rng.integers(1, steps, endpoint=True),
                         rows(), 0),
        lambda: np.where(np.arange(steps)[:, None] < rng.integers(1, steps, endpoint=True),
                         rows(), rows()),
        lambda: rng.integers(to.min, to.max, shape, endpoint=True),
    )
    return kinds[rng.integers(len(kinds))]()


def with_corners(network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray, *, seed: int = 0,
                 steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Sequences, and behind them others that reach what these do not.

    Parameters
    ----------
    network : QuantizedNetwork
    x : int64 array, B x T x N
        Input codes.
    lengths : int64 array, B
    seed : int
    steps : int
        That may be added, at most. No sequence that is added is longer than the longest given.

    Returns
    -------
    x, lengths
        The same, and more of them.
    """
    rng = np.random.default_rng(seed)
    longest = min(LONGEST, int(lengths.max()))
    drawn = np.array([_draw(rng, network, longest) for _ in range(DRAWN)], dtype=np.int64)
    cut = rng.integers(1, longest, DRAWN, endpoint=True)
    able = np.concatenate(list(possible(network).values()))

    def points(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        counts = reached(network, network.run(x, lengths, trace=True), lengths)
        return np.concatenate(list(counts.values()), axis=1) > 0

    wanted = able & ~points(x, lengths).any(axis=0)
    reach = points(drawn, cut)
    chosen: list[int] = []
    while True:
        gain = (reach & wanted).sum(axis=1) * (cut <= steps - cut[chosen].sum())
        if not gain.any():
            break
        chosen.append(int(np.argmax(gain / cut)))
        wanted &= ~reach[chosen[-1]]
    more = np.zeros((len(chosen), *x.shape[1:]), dtype=np.int64)
    more[:, :longest] = drawn[chosen]
    return np.concatenate([x, more]), np.concatenate([lengths, cut[chosen]])
