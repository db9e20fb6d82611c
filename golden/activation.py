"""The tables of the activation functions: sigmoid and tanh shared, hard ones, and a user's own.

Only what cannot be had by symmetry is stored::

    sigmoid(-x) = 1 - sigmoid(x)        tanh(x) = 2 sigmoid(2 x) - 1

A gate's preactivation comes in ``SQ(i, f)`` and the candidate's in ``SQ(i - 1, f + 1)``: the
same integer then addresses ``sigmoid(x)`` for the one and ``sigmoid(2 x)`` for the other, so both
functions read one table and need no shifter before it.

:func:`function_table` is the place to add a function: whatever increases and is symmetric about
its value at 0, such as ``lambda x: x / (1 + abs(x))``, the softsign, becomes a table that is
faithful on every code, for :class:`golden.table.Table` in NumPy and for
:class:`hdl.table.TableUnit` in hardware.
"""

from collections.abc import Callable
from functools import lru_cache
from math import log

import numpy as np

from golden.fixed import SQ, UQ
from golden.table import Reading, Table
from golden.table_search import TOLERANCE, search_table

__all__ = ["SIGMOID", "SIGNED_SIGMOID", "TANH", "tail_integer_bits", "sigmoid_table",
           "hard_sigmoid_table", "hard_tanh_table", "function_table"]

# The readings of the shared table: the sigmoid as a gate, the tanh, and the sigmoid in the tanh's
# format, to take the tanh's place.
SIGMOID, TANH, SIGNED_SIGMOID = 0, 1, 2


def tail_integer_bits(f: int) -> int:
    """The fewest integer bits (sign included) with which a gate of ``f`` fraction bits is exact.

    The constant 1 is within half an ulp, ``2**-(f+1)``, of the sigmoid from x = (f + 1) ln 2 on,
    so an input format must reach beyond that, or no preactivation gives a gate of exactly 0 or 1.
    """
    i = 1
    while 2.0 ** (i - 1) <= (f + 1) * log(2):
        i += 1
    return i


@lru_cache(maxsize=64)
def sigmoid_table(*, z: SQ, gate: UQ, tanh: SQ, bound: float | None = None, degree: int = 1,
                  splits: tuple[int, ...] | None = None, slope_bits: int = 18,
                  signed_sigmoid: bool = False) -> Table:
    """The smallest table shared by sigmoid and tanh.

    Every code's error is below 1 ulp of the result (the table is *faithful*), or at most
    ``bound``. A gate is exactly 0 or 1, and tanh exactly -1 or 1, wherever that is the nearest
    code at the finer of the two.

    Parameters
    ----------
    z : SQ
        Format of a gate's preactivation. The candidate's is ``SQ(z.i - 1, z.f + 1)``.
    gate : UQ
        Format of the sigmoid, reading ``SIGMOID``: ``UQ(1, f)``, in which 1.0 is exact.
    tanh : SQ
        Format of the tanh, reading ``TANH``: ``SQ(2, f)``, in which -1.0 and 1.0 are exact. At most
        as fine as ``gate``.
    bound, degree, splits, slope_bits
        See :func:`golden.table_search.search_table`.
    signed_sigmoid : bool
        Whether there is the reading ``SIGNED_SIGMOID`` too.

    Raises
    ------
    ValueError
        If the formats are not of this shape, if ``z`` is too narrow for the tails, or if no table
        keeps to the bound.
    """
    if not isinstance(gate, UQ) or gate.i != 1 or gate.f < 2:
        raise ValueError(f"gate format must be UQ(1, f) with f of at least 2, not {gate}")
    if not isinstance(tanh, SQ) or tanh.i != 2 or tanh.f < 1:
        raise ValueError(f"tanh format must be SQ(2, f) with f of at least 1, not {tanh}")
    if tanh.f > gate.f:
        raise ValueError(f"tanh format {tanh} must not be finer than the gate format {gate}")
    readings: tuple[Reading, ...] = (
        Reading(name="sigmoid", result=gate, centre=1 << gate.f - 1),
        Reading(name="tanh", result=tanh, shift=1))
    if signed_sigmoid:
        readings += (Reading(name="signed_sigmoid", result=tanh, centre=1 << tanh.f - 1),)
    finest = max(reading.fraction for reading in readings)
    need = tail_integer_bits(finest)
    if not isinstance(z, SQ) or z.i < need:
        raise ValueError(f"preactivation format must be SQ(i, f) with i of at least {need}, "
                         f"or the sigmoid in {gate} never reaches 0 and 1; not {z}")
    if z.f < 1:
        raise ValueError(f"preactivation format must have a fraction bit at least, not {z}")
    # (1 + tanh(x / 2)) / 2 is the sigmoid.
    rise = np.tanh(z.to_real(np.arange(-z.min + 1)) / 2) / 2
    rise[rise >= 0.5 - 2.0 ** -(finest + 1)] = 0.5
    return search_table(rise, z, readings, bound=bound, degree=degree, splits=splits,
                        slope_bits=slope_bits)


def hard_sigmoid_table(*, z: SQ, gate: UQ, alpha: float = 0.2) -> Table:
    """The hard sigmoid, ``min(max(alpha x + 1/2, 0), 1)``, rounded to nearest for every code.

    With ``alpha = 0.2`` it is that of ONNX (``HardSigmoid``, its default) and of Keras 2, with
    ``alpha = 1 / 6`` that of PyTorch (``nn.Hardsigmoid``) and of Keras 3, relu6(x + 3) / 6. A
    ``beta`` other than 1/2 is the same function of ``x + (beta - 1/2) / alpha``: add that to the
    bias of the preactivation. With these alphas the rounding is exact; with others a value within
    ``2**-20`` ulp of the middle of two codes may give either.

    Parameters
    ----------
    z : SQ
    gate : UQ
        ``UQ(1, f)``, in which 1.0 is exact.

    Raises
    ------
    ValueError
        If alpha is not positive, or as :func:`function_table`.
    """
    if not alpha > 0:
        raise ValueError(f"alpha of the hard sigmoid must be positive, not {alpha}")
    return function_table(lambda x: np.clip(alpha * x + 0.5, 0.0, 1.0), argument=z, result=gate,
                          bound=0.5, name="hard sigmoid")


def hard_tanh_table(*, argument: SQ, result: SQ) -> Table:
    """The hard tanh of PyTorch and Keras, ``min(max(x, -1), 1)``, correctly rounded.

    Raises
    ------
    ValueError
        As :func:`function_table`.
    """
    return function_table(lambda x: np.clip(x, -1.0, 1.0), argument=argument, result=result,
                          bound=0.5, name="hard tanh")


def function_table(function: Callable[[np.ndarray], np.ndarray], *, argument: SQ,
                   result: SQ | UQ, bound: float | None = None, degree: int = 1,
                   splits: tuple[int, ...] | None = None, slope_bits: int = 18,
                   name: str = "function") -> Table:
    """The smallest table of any increasing function with a centre of symmetry at 0.

    Parameters
    ----------
    function : callable
        From a float64 array to one of the same shape, with ``f(-x) = 2 f(0) - f(x)``.
    argument : SQ
    result : SQ or UQ
        Must hold every value of the function, and that at 0 without rounding.
    bound, degree, splits, slope_bits
        See :func:`golden.table_search.search_table`.
    name : str
        What messages call it and, with underscores for spaces, the hardware's output.

    Raises
    ------
    ValueError
        If the function is not like that, or if no table keeps to the bound.
    """
    if not isinstance(argument, SQ) or not isinstance(result, SQ | UQ):
        raise ValueError(f"formats of the {name}'s argument and result must be SQ and SQ or UQ, "
                         f"not {argument} and {result}")
    x = argument.to_real(np.arange(-argument.min + 1))
    right, left = (np.asarray(function(side), dtype=np.float64) for side in (x, -x))
    for side, value in ((x, right), (-x, left)):
        if value.shape != x.shape:
            raise ValueError(f"{name} must give an array of the shape of its argument, "
                             f"{x.shape}, not {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, but is not at "
                             f"{side[~np.isfinite(value)][0]}")
    slack = result.ulp * TOLERANCE
    rise = right - right[0]
    falls = np.flatnonzero(np.diff(rise) < -slack)
    if len(falls):
        raise ValueError(f"{name} must not fall, but does from {x[falls[0]]} on")
    odd = np.flatnonzero(np.abs(right + left - 2 * right[0]) > slack)
    if len(odd):
        raise ValueError(f"{name} must be symmetric about its value at 0, {right[0]}, but is "
                         f"{left[odd[0]]} at {-x[odd[0]]} and {right[odd[0]]} at {x[odd[0]]}")
    centre = round(right[0] / result.ulp)
    if abs(right[0] - centre * result.ulp) > slack:
        raise ValueError(f"{name} at 0, {right[0]}, must be a code of {result}")
    lowest, highest = result.min * result.ulp, result.max * result.ulp
    # The last of the right has no code: it is there for the first of the left to mirror.
    if right[-2] > highest + slack or left[-1] < lowest - slack:
        raise ValueError(f"{name} must stay within {result}, from {lowest} to {highest}, but goes "
                         f"from {left[-1]} to {right[-2]}")
    reading = Reading(name=name.replace(" ", "_"), result=result, centre=centre)
    return search_table(np.maximum.accumulate(rise), argument, (reading,), bound=bound,
                        degree=degree, splits=splits, slope_bits=slope_bits)
