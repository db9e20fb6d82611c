"""The float model of an LSTM network: what the trained weights compute, in NumPy float64.

A `Network` is a stack of LSTM layers (`golden.lstm`) and, where the model has some, `Dense` layers
on top.  It is the reference that the fixed-point model and the hardware are measured against, and
the source of the value ranges from which number formats are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from golden.checks import batch, parameter, shape_text
from golden.function import IDENTITY, Function
from golden.lstm import LSTM, Bidirectional, LSTMTrace, State
from golden.state_name import place

__all__ = ["Dense", "Layer", "ModelError", "Network", "NetworkTrace", "TrainedModel", "reading"]

Array = NDArray[np.float64]
Layer = LSTM | Bidirectional


class ModelError(ValueError):
    """A trained model that cannot be read, or asks for something that is not supported."""


LONGEST_TEXT = 600
"""Characters of a sentence about a file, which may be made of names in it, at most."""


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Say which file it is that cannot be read."""
    try:
        yield
    except ModelError as error:
        text = "".join(c if c.isprintable() else "?" for c in str(error))
        if len(text) > LONGEST_TEXT:
            text = f"{text[: LONGEST_TEXT - 3]}..."
        raise ModelError(f"{path}: {text}") from error.__cause__


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense:
    """A dense layer, ``y = function(w x + bias)``.

    Parameters
    ----------
    w : array_like, shape (O, H)
        One row of H weights for each of the O sums.
    bias : array_like, shape (O,)
        One bias per sum.
    function : Function
        By default none.

    Raises
    ------
    ValueError
        If a shape does not fit the other, or an array is empty, not real or not finite.
    """

    w: Array
    bias: Array
    function: Function = IDENTITY

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
        """The values the layer gives: O, or with ``ArgMax`` 1."""
        return 1 if self.function.name == "ArgMax" else int(self.w.shape[0])

    def of_scaled(self, scale: ArrayLike, shift: ArrayLike) -> Dense:
        """The layer that does with x what this one does with ``scale * x + shift``."""
        factor, offset = (np.broadcast_to(v, (self.inputs,)) for v in (scale, shift))
        return replace(self, w=self.w * factor, bias=self.bias + self.w @ offset)

    def run(self, x: ArrayLike) -> Array:
        """Map x of shape (..., H) to outputs of shape (..., `outputs`).

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
        return self.function(array @ self.w.T + self.bias)


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkTrace:
    """Every intermediate of a network on B sequences, for calibration.

    Parameters
    ----------
    x : ndarray, shape (B, T, N)
        The input, padding set to zero.
    directions : tuple of LSTMTrace
        One for each of the network's `directions`.
    y : ndarray, shape (B, O) or (B, T, O)
        What `Network.run` gives.
    valid : ndarray of bool, shape (B, T)
        Which steps belong to a sequence.  Everything at the other steps is meaningless and must
        be left out of any statistics: ``trace.directions[0].z[trace.valid]`` has the shape
        (steps, 4H).
    """

    x: Array
    directions: tuple[LSTMTrace, ...]
    y: Array
    valid: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A stack of LSTM layers and dense layers on top.

    Parameters
    ----------
    layers : tuple of LSTM or Bidirectional
        At least one, the first nearest to the input.
    head : tuple of Dense
        Applied to the outputs of the last LSTM layer, one after the other; without any these are
        the network's.
    every_step : bool
        Whether the network gives an output at every step or at one only.
    final : bool
        Which step that one is: False for the last one in time, True for each direction's own last
        one, whose hidden states are its final ones.  There is a difference in the reverse
        direction only, whose last step is the first in time.
    backwards : bool
        Whether the outputs of every step come from the last to the first.
    states : tuple of str
        Final states that are outputs, too, by layer and tensor: ``"lstm0.h"``, ``"lstm0.c"``. Those
        of a bidirectional layer are the forward ones and then the backward ones.
    stateful : bool
        Whether the model wants to begin where the sequence before has ended.

    Raises
    ------
    ValueError
        If there is no layer, or one does not take what the one before it gives, or only the last
        may have its function, or there is no such state.
    """

    layers: tuple[Layer, ...]
    head: tuple[Dense, ...] = ()
    every_step: bool = False
    final: bool = False
    backwards: bool = False
    states: tuple[str, ...] = ()
    stateful: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "head", tuple(self.head))
        object.__setattr__(self, "states", tuple(self.states))
        if not self.layers:
            raise ValueError("a network must have at least one LSTM layer, but has none")
        for number in range(1, len(self.layers)):
            given, taken = self.layers[number - 1].outputs, self.layers[number].inputs
            if taken != given:
                raise ValueError(
                    f"LSTM layer {number} must take the {given} outputs of layer "
                    f"{number - 1}, but takes {taken} inputs"
                )
        given, by = self.layers[-1].outputs, "the last LSTM layer"
        for number, dense in enumerate(self.head):
            if dense.inputs != given:
                raise ValueError(
                    f"dense layer {number} must take the {given} outputs of {by}, but takes "
                    f"{dense.inputs} inputs"
                )
            if number < len(self.head) - 1 and not dense.function.elementwise:
                raise ValueError(
                    f"only the last dense layer may have the function {dense.function}, but "
                    f"dense layer {number} has it"
                )
            given, by = dense.outputs, f"dense layer {number}"
        known = [f"lstm{n}.{tensor}" for n in range(len(self.layers)) for tensor in "hc"]
        for name in self.states:
            if name not in known:
                raise ValueError(f"a final state must be one of {', '.join(known)}, not {name}")

    @property
    def inputs(self) -> int:
        """N, the features of one step of the input."""
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        """O, the values of one output."""
        return self.head[-1].outputs if self.head else self.layers[-1].outputs

    @property
    def directions(self) -> tuple[LSTM, ...]:
        """The directions of all layers, the first layer's first."""
        return tuple(each for layer in self.layers for each in layer.directions)

    def _result(
        self, h: Array, final: Array, lengths: NDArray[np.int64], valid: NDArray[np.bool_]
    ) -> Array:
        """The output, from the last layer's at each step, (B, T, F), and its final ones, (B, F)."""
        if self.every_step:
            y = h
            if self.backwards:
                steps = np.arange(h.shape[1])
                order = np.where(valid, lengths[:, None] - 1 - steps, steps)
                y = np.take_along_axis(h, order[:, :, None], axis=1)
        else:
            y = final if self.final else h[np.arange(len(h)), lengths - 1]
        for dense in self.head:
            y = dense.run(y)
        if self.every_step:
            y = np.where(valid[:, :, None], y, 0.0)
        return y

    def run(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        state: Sequence[State] | None = None,
    ) -> Array:
        """Run the network on a batch of sequences.

        Parameters
        ----------
        x : array_like, shape (B, T, N)
            B sequences, the shorter ones padded to T steps with any values at all.
        lengths : array_like of int, shape (B,), optional
            Steps of each sequence, 1 .. T; by default all have T.
        state : sequence of State, optional
            What each of the `directions` begins with, in place of its own.

        Returns
        -------
        ndarray, shape (B, O) or (B, T, O)
            The output of each sequence or, with `every_step`, of every step, zero beyond the end
            of a sequence.

        Raises
        ------
        ValueError
            If `x` or `lengths` has another shape, is empty or holds values that are not allowed.
        """
        return self.run_states(x, lengths, state=state)[0]

    def run_states(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        state: Sequence[State] | None = None,
    ) -> tuple[Array, tuple[State, ...]]:
        """:meth:`run`, and the final state of each of the `directions`."""
        h, steps, valid = batch(x, lengths, self.inputs)
        begin: Iterator[State | None] = iter(state) if state else repeat(None)
        ended: list[State] = []
        for layer in self.layers:
            parts = [each.advance(h, steps, next(begin)) for each in layer.directions]
            h, final = _merged(layer, [part for part, _ in parts], [end for _, end in parts])
            ended += [end for _, end in parts]
        return self._result(h, final, steps, valid), tuple(ended)

    def trace(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NetworkTrace:
        """Run the network and keep every intermediate.

        Takes some ``11 H`` float64 per step and direction; large data sets should come in parts.

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
        traces: list[LSTMTrace] = []
        h = array
        for layer in self.layers:
            parts = [each.trace(h, steps, None) for each in layer.directions]
            h, final = _merged(layer, [part.h for part in parts], [part.final for part in parts])
            traces += parts
        y = self._result(h, final, steps, valid)
        return NetworkTrace(x=array, directions=tuple(traces), y=y, valid=valid)

    def state_outputs(self, ended: Sequence[State]) -> tuple[Array, ...]:
        """The final states that are outputs, from those of all directions; shapes (B, features)."""
        of = iter(ended)
        layers = [[next(of) for _ in layer.directions] for layer in self.layers]
        return tuple(
            np.concatenate([getattr(each, tensor) for each in layers[number]], axis=1)
            for number, tensor in map(place, self.states)
        )


def _merged(layer: Layer, h: Sequence[Array], final: Sequence[State]) -> tuple[Array, Array]:
    """A layer's outputs and its final ones, from those of its directions."""
    if isinstance(layer, Bidirectional):
        return layer.merged(h), layer.merged([each.h for each in final])
    return h[0], final[0].h


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What a file of a trained model says.

    Parameters
    ----------
    network : Network
    source : str
        What the file is, in a few words: ``"ONNX, operator set 17"``.
    notes : tuple of str
        What was taken into the weights, or is left out because it changes no output, one sentence
        each: a dropout, a normalisation, a coupled gate.
    """

    network: Network
    source: str
    notes: tuple[str, ...] = ()
