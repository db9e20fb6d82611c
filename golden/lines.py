"""Functions that are lines between limits: their slope goes into the weights that come before."""

from dataclasses import replace

import numpy as np

from golden.fixed import SQ
from golden.function import SOFTMAX, Function
from golden.lstm import LSTM
from golden.model import Dense

__all__ = ["dense_line", "is_unbounded", "peepholes_of", "slope_of", "with_lines"]


def slope_of(function: Function) -> tuple[float, float] | None:
    """Slope and offset of a function that is a line between limits; None if it is a curve."""
    match function.name:
        case "HardSigmoid" | "Affine":
            assert function.alpha is not None
            assert function.beta is not None
            return function.alpha, function.beta
        case "Relu":
            return 1.0, 0.0
    return None


def is_unbounded(function: Function) -> bool:
    """Whether the values of a candidate's function have no ends, and so need a format of theirs."""
    return function.name in ("Relu", "Affine")


def with_lines(lstm: LSTM, *, z: SQ, g: SQ) -> LSTM:
    """The layer whose preactivations are the values of lines; g's are in units of z's ulp."""
    hidden = lstm.hidden
    scale, offset = np.ones(4 * hidden), np.zeros(4 * hidden)
    for function, unit, blocks in ((lstm.gate, 1.0, (0, 1, 3)),
                                   (lstm.candidate, 2.0 ** (g.f - z.f), (2,))):
        line = slope_of(function)
        for n in blocks if line else ():
            rows = slice(n * hidden, (n + 1) * hidden)
            scale[rows], offset[rows] = (number * unit for number in line or ())
    peepholes = lstm.peepholes
    if peepholes is not None:
        peepholes = peepholes * scale.reshape(4, hidden)[[0, 1, 3]].ravel()
    return replace(lstm, w_x=lstm.w_x * scale[:, None], w_h=lstm.w_h * scale[:, None],
                   bias=lstm.bias * scale + offset, peepholes=peepholes)


def dense_line(dense: Dense) -> Dense:
    """The layer whose sums are the values of its function, but for the limits.

    Those of a softmax count powers of two.
    """
    slope, offset = slope_of(dense.function) or (
        1 / np.log(2) if dense.function == SOFTMAX else 1.0, 0.0)
    return Dense(w=dense.w * slope, bias=dense.bias * slope + offset)


def peepholes_of(lstm: LSTM) -> np.ndarray:
    """The peepholes of a direction; zeros where there are none."""
    return np.zeros(3 * lstm.hidden) if lstm.peepholes is None else lstm.peepholes
