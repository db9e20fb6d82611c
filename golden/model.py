"""The float model of an LSTM network: what the trained weights compute, in NumPy float64.

A `Network` is a stack of `LSTM` layers and, where the model has one, a `Dense` head on the last
step or on every step.  It is the reference that the fixed-point model and the hardware are
measured against, and the source of the value ranges from which number formats are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from golden.checks import batch, parameter, shape_text

__all__ = [
    "LSTM",
    "Dense",
    "LayerTrace",
    "ModelError",
    "Network",
    "NetworkTrace",
    "sigmoid",
]

Array = NDArray[np.float64]


class ModelError(ValueError):
    """A trained model that cannot be read, or asks for something that is not supported."""


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


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerTrace:
    """Every intermediate of one LSTM layer, over B sequences of T steps and H hidden units.

    Parameters
    ----------
    z : ndarray, shape (B, T, 4H)
        Preactivations, gates in the order i, f, g, o.
    gates : ndarray, shape (B, T, 4H)
        Their activations: sigmoid for i, f and o, tanh for g.
    c : ndarray, shape (B, T, H)
        Cell states after each step.
    h : ndarray, shape (B, T, H)
        Hidden states after each step, the outputs of the layer.
    """

    z: Array
    gates: Array
    c: Array
    h: Array

    def _gate(self, index: int) -> Array:
        hidden = self.h.shape[2]
        return self.gates[:, :, index * hidden : (index + 1) * hidden]

    @property
    def i(self) -> Array:
        """Input gates, shape (B, T, H), in [0, 1]."""
        return self._gate(0)

    @property
    def f(self) -> Array:
        """Forget gates, shape (B, T, H), in [0, 1]."""
        return self._gate(1)

    @property
    def g(self) -> Array:
        """Candidates, shape (B, T, H), in [-1, 1]."""
        return self._gate(2)

    @property
    def o(self) -> Array:
        """Output gates, shape (B, T, H), in [0, 1]."""
        return self._gate(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class LSTM:
    """One LSTM layer with forget gates and without peepholes, starting from h = c = 0.

    The equations are those of Gers, Schmidhuber and Cummins, "Learning to Forget", Neural
    Computation 12(10), 2000, with tanh for both squashing functions, as ``torch.nn.LSTM`` and the
    ONNX operator ``LSTM`` define them::

        z = w_x x[t] + w_h h[t-1] + bias,    split into z_i, z_f, z_g, z_o
        i = sigmoid(z_i)    f = sigmoid(z_f)    g = tanh(z_g)    o = sigmoid(z_o)
        c[t] = f * c[t-1] + i * g
        h[t] = o * tanh(c[t])

    Parameters
    ----------
    w_x : array_like, shape (4H, N)
        Weights of the N inputs; H rows for each gate, gates in the order i, f, g, o.
    w_h : array_like, shape (4H, H)
        Weights of the H hidden states.
    bias : array_like, shape (4H,)
        One bias per row; where a framework keeps two, their sum.

    Raises
    ------
    ValueError
        If a shape does not fit the others, or an array is empty, not real or not finite.
    """

    w_x: Array
    w_h: Array
    bias: Array

    def __post_init__(self) -> None:
        w_x = parameter("LSTM weight 'w_x'", self.w_x, "4H, N")
        w_h = parameter("LSTM weight 'w_h'", self.w_h, "4H, H")
        bias = parameter("LSTM bias", self.bias, "4H")
        rows, hidden = w_h.shape
        if rows != 4 * hidden:
            raise ValueError(
                f"LSTM weight 'w_h' must have the shape [4H, H], not {shape_text(w_h.shape)}"
            )
        if w_x.shape[0] != rows:
            raise ValueError(
                f"LSTM weight 'w_x' must have {rows} rows, as 'w_h' has, not {w_x.shape[0]}"
            )
        if bias.shape[0] != rows:
            raise ValueError(
                f"LSTM bias must have {rows} elements, as 'w_h' has rows, not {bias.shape[0]}"
            )
        object.__setattr__(self, "w_x", w_x)
        object.__setattr__(self, "w_h", w_h)
        object.__setattr__(self, "bias", bias)

    @property
    def inputs(self) -> int:
        """N, the features of one step of the input."""
        return int(self.w_x.shape[1])

    @property
    def hidden(self) -> int:
        """H, the hidden units, which are also the features of the output."""
        return int(self.w_h.shape[1])

    def _steps(self, x: Array) -> Iterator[tuple[Array, Array, Array, Array]]:
        """Yield z, gates, c and h of every step, each shaped (B, ...), for checked x."""
        hidden = self.hidden
        c = np.zeros((x.shape[0], hidden))
        h = np.zeros((x.shape[0], hidden))
        for t in range(x.shape[1]):
            z = x[:, t] @ self.w_x.T + h @ self.w_h.T + self.bias
            gates = sigmoid(z)
            gates[:, 2 * hidden : 3 * hidden] = np.tanh(z[:, 2 * hidden : 3 * hidden])
            i, f, g, o = np.split(gates, 4, axis=1)
            c = f * c + i * g
            h = o * np.tanh(c)
            yield z, gates, c, h

    def run(self, x: ArrayLike) -> LayerTrace:
        """Run the layer and keep every intermediate.

        Parameters
        ----------
        x : array_like, shape (B, T, N)
            B sequences of T steps.

        Returns
        -------
        LayerTrace
            z, gates (also as i, f, g, o), c and h of every step.

        Raises
        ------
        ValueError
            If `x` has another shape, or is empty, not real or not finite.
        """
        return self._run(batch(x, None, self.inputs)[0])

    def _run(self, x: Array) -> LayerTrace:
        count, steps, _ = x.shape
        hidden = self.hidden
        z = np.empty((count, steps, 4 * hidden))
        gates = np.empty((count, steps, 4 * hidden))
        c = np.empty((count, steps, hidden))
        h = np.empty((count, steps, hidden))
        for t, step in enumerate(self._steps(x)):
            z[:, t], gates[:, t], c[:, t], h[:, t] = step
        return LayerTrace(z=z, gates=gates, c=c, h=h)

    def _outputs(self, x: Array) -> Array:
        """The hidden states alone, shape (B, T, H): a tenth of the memory of `_run`."""
        return np.stack([h for _, _, _, h in self._steps(x)], axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense:
    """A linear layer, ``y = w x + bias``.

    Parameters
    ----------
    w : array_like, shape (O, H)
        One row of H weights for each of the O outputs.
    bias : array_like, shape (O,)
        One bias per output.

    Raises
    ------
    ValueError
        If a shape does not fit the other, or an array is empty, not real or not finite.
    """

    w: Array
    bias: Array

    def __post_init__(self) -> None:
        w = parameter("dense weight 'w'", self.w, "O, H")
        bias = parameter("dense bias", self.bias, "O")
        if bias.shape[0] != w.shape[0]:
            raise ValueError(
                f"dense bias must have {w.shape[0]} elements, as 'w' has rows, not {bias.shape[0]}"
            )
        object.__setattr__(self, "w", w)
        object.__setattr__(self, "bias", bias)

    @property
    def inputs(self) -> int:
        """H, the values the layer takes."""
        return int(self.w.shape[1])

    @property
    def outputs(self) -> int:
        """O, the values the layer gives."""
        return int(self.w.shape[0])

    def run(self, x: ArrayLike) -> Array:
        """Map x of shape (..., H) to outputs of shape (..., O).

        Raises
        ------
        ValueError
            If the last axis of `x` is not H long.
        """
        array = np.asarray(x, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != self.inputs:
            raise ValueError(
                f"dense input must have {self.inputs} features, but its shape is "
                f"{shape_text(array.shape)}"
            )
        return np.asarray(array @ self.w.T + self.bias)


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkTrace:
    """Every intermediate of a network on B sequences, for calibration.

    Parameters
    ----------
    x : ndarray, shape (B, T, N)
        The input, padding set to zero.
    layers : tuple of LayerTrace
        One per LSTM layer, the first nearest to the input.
    y : ndarray, shape (B, O) or (B, T, O)
        What `Network.run` gives.
    valid : ndarray of bool, shape (B, T)
        Which steps belong to a sequence.  Everything at the other steps is meaningless and must
        be left out of any statistics: ``trace.layers[0].z[trace.valid]`` has the shape
        (steps, 4H).
    """

    x: Array
    layers: tuple[LayerTrace, ...]
    y: Array
    valid: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A stack of LSTM layers and an optional linear head.

    Parameters
    ----------
    layers : tuple of LSTM
        At least one, the first nearest to the input.
    head : Dense or None
        Applied to the hidden states of the last layer; None gives those states themselves.
    every_step : bool
        Whether the network gives an output at every step or at the last one only.

    Raises
    ------
    ValueError
        If there is no layer, or a layer or the head does not take what the one before it gives.
    """

    layers: tuple[LSTM, ...]
    head: Dense | None = None
    every_step: bool = field(default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ValueError("a network must have at least one LSTM layer, but has none")
        for number in range(1, len(self.layers)):
            given, taken = self.layers[number - 1].hidden, self.layers[number].inputs
            if taken != given:
                raise ValueError(
                    f"LSTM layer {number} must take the {given} hidden units of layer "
                    f"{number - 1}, but takes {taken} inputs"
                )
        if self.head is not None and self.head.inputs != self.layers[-1].hidden:
            raise ValueError(
                f"the head must take the {self.layers[-1].hidden} hidden units of the last LSTM "
                f"layer, but takes {self.head.inputs} inputs"
            )

    @property
    def inputs(self) -> int:
        """N, the features of one step of the input."""
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        """O, the values of one output."""
        return self.layers[-1].hidden if self.head is None else self.head.outputs

    def _result(self, h: Array, lengths: NDArray[np.int64], valid: NDArray[np.bool_]) -> Array:
        """The output from the last layer's hidden states, shape (B, T, H)."""
        chosen = h if self.every_step else h[np.arange(len(h)), lengths - 1]
        y = chosen if self.head is None else self.head.run(chosen)
        if self.every_step:
            y = np.where(valid[:, :, None], y, 0.0)
        return y

    def run(self, x: ArrayLike, lengths: ArrayLike | None = None) -> Array:
        """Run the network on a batch of sequences.

        Parameters
        ----------
        x : array_like, shape (B, T, N)
            B sequences, the shorter ones padded to T steps with any values at all.
        lengths : array_like of int, shape (B,), optional
            Steps of each sequence, 1 .. T; by default all have T.

        Returns
        -------
        ndarray, shape (B, O) or (B, T, O)
            The output at each sequence's own last step or, with `every_step`, at every step,
            zero beyond the end of a sequence.

        Raises
        ------
        ValueError
            If `x` or `lengths` has another shape, is empty or holds values that are not allowed.
        """
        h, steps, valid = batch(x, lengths, self.inputs)
        for layer in self.layers:
            h = layer._outputs(h)
        return self._result(h, steps, valid)

    def trace(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NetworkTrace:
        """Run the network and keep every intermediate.

        Takes some ``10 H`` float64 per step and layer; large data sets should come in parts.

        Parameters
        ----------
        x, lengths
            As for `run`.

        Returns
        -------
        NetworkTrace
            All intermediates, and which steps count.

        Raises
        ------
        ValueError
            As for `run`.
        """
        array, steps, valid = batch(x, lengths, self.inputs)
        traces: list[LayerTrace] = []
        for layer in self.layers:
            traces.append(layer._run(traces[-1].h if traces else array))
        y = self._result(traces[-1].h, steps, valid)
        return NetworkTrace(x=array, layers=tuple(traces), y=y, valid=valid)
