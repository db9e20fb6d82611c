"""The functions that a float model applies to preactivations, states and outputs.

Their names and parameters are those of ONNX, https://onnx.ai/onnx/operators/onnx__LSTM.html.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ARGMAX",
    "ELEMENTWISE",
    "IDENTITY",
    "RELU",
    "SIGMOID",
    "SOFTMAX",
    "TANH",
    "Function",
    "sigmoid",
]

Array = NDArray[np.float64]

ELEMENTWISE = ("Sigmoid", "Tanh", "HardSigmoid", "Relu", "Affine")
"""Functions of one number."""

VECTOR = ("Softmax", "ArgMax")
"""Functions of all outputs of a step together."""

PARAMETERS = {"HardSigmoid": (0.2, 0.5), "Affine": (1.0, 0.0)}
"""alpha and beta where a model does not give them."""


def sigmoid(x: ArrayLike) -> Array:
    """The logistic function ``1 / (1 + exp(-x))``, without overflow for any finite `x`.

    Parameters
    ----------
    x : array_like
        Arguments, dimensionless.

    Returns
    -------
    ndarray
        Values in [0, 1], shaped like `x`.
    """
    values = np.asarray(x, dtype=np.float64)
    # exp of a non-positive number cannot overflow; for negative x, 1 / (1 + exp(-x)) equals
    # exp(x) / (1 + exp(x)).
    decay = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0.0, 1.0, decay) / (1.0 + decay))


@dataclass(frozen=True)
class Function:
    """A function by its name.

    Parameters
    ----------
    name : str
        One of ``ELEMENTWISE``, or ``"Softmax"`` or ``"ArgMax"``, which take the last axis.
    alpha, beta : float
        Of ``HardSigmoid``, ``min(max(alpha x + beta, 0), 1)``, and ``Affine``, ``alpha x + beta``;
        by default 0.2 and 0.5, and 1 and 0. The others have none.

    Raises
    ------
    ValueError
        If there is no such function, or it does not have these parameters.
    """

    name: str
    alpha: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        if self.name not in (*ELEMENTWISE, *VECTOR):
            raise ValueError(
                f"a function must be one of {', '.join((*ELEMENTWISE, *VECTOR))}, not {self.name}"
            )
        defaults = PARAMETERS.get(self.name)
        for which, name in enumerate(("alpha", "beta")):
            value = getattr(self, name)
            if defaults is None:
                if value is not None:
                    raise ValueError(f"{self.name} has no {name}, but {value:g} is given")
                continue
            value = defaults[which] if value is None else float(value)
            if not np.isfinite(value):
                raise ValueError(f"{name} of {self.name} must be finite, not {value}")
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        if self.name not in PARAMETERS:
            return self.name
        if self == Function("Affine"):
            return "identity"
        return f"{self.name}({self.alpha:.4g}, {self.beta:.4g})"

    @property
    def elementwise(self) -> bool:
        return self.name in ELEMENTWISE

    @property
    def is_gate(self) -> bool:
        """Whether its values are from 0 to 1, and it does not fall."""
        return self.name == "Sigmoid" or (self.name == "HardSigmoid" and (self.alpha or 0.0) > 0)

    def __call__(self, x: ArrayLike) -> Array:
        """Apply the function.

        Parameters
        ----------
        x : array_like
            Any shape.

        Returns
        -------
        ndarray
            Of the same shape, except for ``ArgMax``, whose last axis has one element: the index of
            the largest, the first of several.
        """
        values = np.asarray(x, dtype=np.float64)
        match self.name:
            case "Sigmoid":
                return sigmoid(values)
            case "Tanh":
                return np.asarray(np.tanh(values))
            case "HardSigmoid":
                assert self.alpha is not None
                assert self.beta is not None
                return np.asarray(np.clip(self.alpha * values + self.beta, 0.0, 1.0))
            case "Relu":
                return np.asarray(np.maximum(values, 0.0))
            case "Affine":
                assert self.alpha is not None
                assert self.beta is not None
                return np.asarray(self.alpha * values + self.beta)
            case "Softmax":
                powers = np.exp(values - values.max(axis=-1, keepdims=True))
                return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
            case _:
                return np.asarray(values.argmax(axis=-1)[..., None], dtype=np.float64)


SIGMOID = Function("Sigmoid")
TANH = Function("Tanh")
RELU = Function("Relu")
IDENTITY = Function("Affine")
SOFTMAX = Function("Softmax")
ARGMAX = Function("ArgMax")
