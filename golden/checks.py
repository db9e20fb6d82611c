"""Checks of arrays that come from outside: weights, batches of sequences, their lengths."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["batch", "counted", "parameter", "real_array", "require_finite", "sequence_lengths",
           "shape_text", "valid_steps"]

Array = NDArray[np.float64]


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape or an index as error messages show it."""
    return "[" + ", ".join(str(size) for size in shape) + "]"


def counted(count: int, what: str) -> str:
    """So many of something, in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def real_array(name: str, value: ArrayLike, axes: str) -> Array:
    """A float64 copy of `value`, which must be real, of as many axes as `axes` names, not empty."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must hold real numbers, but its type is {array.dtype}")
    count = len(axes.split(","))
    if array.ndim != count:
        raise ValueError(f"{name} must have the shape [{axes}], not {shape_text(array.shape)}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, but its shape is {shape_text(array.shape)}")
    return np.array(array, dtype=np.float64)


def require_finite(name: str, array: Array, rows: NDArray[np.bool_] | None = None) -> None:
    """Name the first element that is infinite or not a number, of those rows if they are given."""
    wrong = ~np.isfinite(array)
    if rows is not None:
        wrong &= rows[..., np.newaxis]
    bad = np.argwhere(wrong)
    if len(bad):
        at = tuple(int(index) for index in bad[0])
        raise ValueError(f"{name} must be finite, but element {shape_text(at)} is {array[at]}")


def parameter(name: str, value: ArrayLike, axes: str) -> Array:
    """A finite, read-only float64 copy of a weight or bias."""
    array = real_array(name, value, axes)
    require_finite(name, array)
    array.setflags(write=False)
    return array


def sequence_lengths(lengths: ArrayLike | None, count: int, steps: int) -> NDArray[np.int64]:
    """Check the lengths of `count` sequences that are padded to `steps`; None is all of `steps`.

    Returns
    -------
    ndarray of int64, shape (count,)
        Steps of each sequence.

    Raises
    ------
    ValueError
        If they are not `count` integers in ``1 .. steps``.
    """
    if lengths is None:
        return np.full(count, steps, dtype=np.int64)
    array = np.asarray(lengths)
    if array.dtype.kind not in "iu":
        raise ValueError(f"sequence lengths must be integers, but their type is {array.dtype}")
    if array.shape != (count,):
        raise ValueError(
            f"sequence lengths must have the shape [{count}], one for each sequence, not "
            f"{shape_text(array.shape)}"
        )
    bad = np.flatnonzero((array < 1) | (array > steps))
    if len(bad):
        raise ValueError(
            f"sequence lengths must be in 1 .. {steps}, but that of sequence {bad[0]} is "
            f"{array[bad[0]]}"
        )
    return array.astype(np.int64)


def valid_steps(lengths: NDArray[np.int64], steps: int) -> NDArray[np.bool_]:
    """Which of so many steps belong to sequences of these lengths, shape (B, T)."""
    return np.asarray(np.arange(steps) < lengths[:, np.newaxis])


def batch(
    x: ArrayLike, lengths: ArrayLike | None, inputs: int
) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Check a batch: x with its padding zeroed, the lengths, and which steps (B, T) are valid."""
    array = real_array("input 'x'", x, "B, T, N")
    count, steps, width = array.shape
    if width != inputs:
        raise ValueError(f"input 'x' must have {inputs} features, not {width}")
    checked = sequence_lengths(lengths, count, steps)
    valid = valid_steps(checked, steps)
    # Zeroed, so that padding of NaN is as good as any and warns of nothing.
    array[~valid] = 0.0
    require_finite("input 'x'", array)
    return array, checked, valid
