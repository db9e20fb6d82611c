"""The float LSTM layer: one direction, or two whose outputs are merged.

The equations are those of the ONNX operator ``LSTM``, https://onnx.ai/onnx/operators/, and of
PyTorch's ``nn.LSTM`` with ``proj_size``::

    z_i = clip(w_x_i x[t] + w_h_i h[t-1] + bias_i + p_i * c[t-1])      i = gate(z_i)
    z_f = clip(w_x_f x[t] + w_h_f h[t-1] + bias_f + p_f * c[t-1])      f = gate(z_f)
    z_g = clip(w_x_g x[t] + w_h_g h[t-1] + bias_g)                     g = candidate(z_g)
    c[t] = f * c[t-1] + i * g
    z_o = clip(w_x_o x[t] + w_h_o h[t-1] + bias_o + p_o * c[t])        o = gate(z_o)
    m[t] = o * squash(c[t])
    h[t] = projection m[t]

Without peepholes p is 0, without a projection h is m, and without a clip nothing is clipped. ONNX
says of its clip that it applies to the input of activations; like ONNX Runtime, this model leaves
the argument of ``squash`` as it is.

A forget gate that is coupled to the input gate, f = 1 - i, needs no word here: since
``1 - gate(z) = gate(-z)``, it has the input gate's weights with their signs turned
(:meth:`LSTM.coupled`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from golden.checks import batch, parameter, shape_text
from golden.function import SIGMOID, TANH, Function

__all__ = ["LSTM", "MERGES", "Bidirectional", "LSTMTrace", "State"]

Array = NDArray[np.float64]

MERGES = ("concat", "sum", "ave", "mul")
"""What becomes of the two directions' outputs; the names are Keras's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What a direction carries from step to step, for B sequences.

    Parameters
    ----------
    h : ndarray, shape (B, R)
        Hidden states, which are also the outputs.
    c : ndarray, shape (B, H)
        Cell states.
    """

    h: Array
    c: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class LSTMTrace:
    """Every intermediate of one direction, over B sequences of T steps.

    Steps are where their x is, in both directions. Those beyond the end of a sequence are
    meaningless.

    Parameters
    ----------
    z : ndarray, shape (B, T, 4H)
        Preactivations, gates in the order i, f, g, o, peepholes and clip included.
    gates : ndarray, shape (B, T, 4H)
        What the functions make of them.
    c : ndarray, shape (B, T, H)
        Cell states after each step.
    m : ndarray, shape (B, T, H)
        What the output gate lets out, before the projection.
    h : ndarray, shape (B, T, R)
        Hidden states after each step, the outputs; where there is no projection these are m.
    final : State
        The states after each sequence's last step, which in the reverse direction is its first.
    """

    z: Array
    gates: Array
    c: Array
    m: Array
    h: Array
    final: State

    def _gate(self, index: int) -> Array:
        hidden = self.c.shape[2]
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
        """Candidates, shape (B, T, H)."""
        return self._gate(2)

    @property
    def o(self) -> Array:
        """Output gates, shape (B, T, H), in [0, 1]."""
        return self._gate(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class LSTM:
    """An LSTM layer of one direction.

    Parameters
    ----------
    w_x : array_like, shape (4H, N)
        Weights of the N inputs; H rows for each gate, gates in the order i, f, g, o.
    w_h : array_like, shape (4H, R)
        Weights of the R hidden states; R is H, but for a projection.
    bias : array_like, shape (4H,)
        One bias per row; where a framework keeps two, their sum.
    peepholes : array_like, shape (3H,), optional
        Weights of the cell states, gates in the order i, f, o.
    projection : array_like, shape (R, H), optional
        From what the output gate lets out to the hidden states.
    gate, candidate, squash : Function
        Of the gates i, f and o, of the candidate g, and of the cell state on its way out.
    clip : float, optional
        Preactivations are clipped to [-clip, clip].
    initial_h, initial_c : array_like, shapes (R,) and (H,), optional
        The states that every sequence begins with; by default zeros.
    reverse : bool
        Whether sequences are read from their last step to their first.

    Raises
    ------
    ValueError
        If a shape does not fit the others, an array is empty, not real or not finite, the clip is
        not positive, or a function is not of its kind.
    """

    w_x: Array
    w_h: Array
    bias: Array
    peepholes: Array | None = None
    projection: Array | None = None
    gate: Function = SIGMOID
    candidate: Function = TANH
    squash: Function = TANH
    clip: float | None = None
    initial_h: Array | None = None
    initial_c: Array | None = None
    reverse: bool = False

    def __post_init__(self) -> None:
        w_h = parameter("LSTM weight 'w_h'", self.w_h,
                        "4H, H" if self.projection is None else "4H, R")
        rows, outputs = w_h.shape
        hidden = rows // 4
        if rows != 4 * hidden or (self.projection is None and outputs != hidden):
            wanted = "4H, H" if self.projection is None else "4H, R"
            raise ValueError(
                f"LSTM weight 'w_h' must have the shape [{wanted}], not {shape_text(w_h.shape)}"
            )
        w_x = parameter("LSTM weight 'w_x'", self.w_x, "4H, N")
        if w_x.shape[0] != rows:
            raise ValueError(
                f"LSTM weight 'w_x' must have {rows} rows, as 'w_h' has, not {w_x.shape[0]}"
            )
        bias = parameter("LSTM bias", self.bias, "4H")
        if bias.shape[0] != rows:
            raise ValueError(
                f"LSTM bias must have {rows} elements, as 'w_h' has rows, not {bias.shape[0]}"
            )
        object.__setattr__(self, "w_h", w_h)
        object.__setattr__(self, "w_x", w_x)
        object.__setattr__(self, "bias", bias)
        for name, shape in (
            ("peepholes", (3 * hidden,)),
            ("projection", (outputs, hidden)),
            ("initial_h", (outputs,)),
            ("initial_c", (hidden,)),
        ):
            given = getattr(self, name)
            if given is None:
                continue
            array = parameter(f"LSTM '{name}'", given, ", ".join(map(str, shape)))
            if array.shape != shape:
                raise ValueError(
                    f"LSTM '{name}' must have the shape {shape_text(shape)}, not "
                    f"{shape_text(array.shape)}"
                )
            object.__setattr__(self, name, array)
        if self.clip is not None and not (self.clip > 0 and np.isfinite(self.clip)):
            raise ValueError(f"LSTM clip must be positive and finite, not {self.clip}")
        if not self.gate.is_gate:
            raise ValueError(
                f"the function of LSTM gates must be Sigmoid or HardSigmoid with an alpha above 0, "
                f"not {self.gate}"
            )
        for name in ("candidate", "squash"):
            function = getattr(self, name)
            if not function.elementwise:
                raise ValueError(
                    f"the function of the LSTM's {name} must take single numbers, not be {function}"
                )

    @classmethod
    def coupled(cls, *, w_x: ArrayLike, w_h: ArrayLike, bias: ArrayLike, **others: object) -> LSTM:
        """A layer whose forget gate is what the input gate leaves, f = 1 - i.

        Parameters
        ----------
        w_x, w_h, bias, **others
            As of the layer; the rows of the forget gate are of no effect.

        Raises
        ------
        ValueError
            As for the layer, or if there is a clip and a hard sigmoid that is not 1/2 at 0.
        """
        layer = cls(
            w_x=np.asarray(w_x), w_h=np.asarray(w_h), bias=np.asarray(bias),
            **others,  # type: ignore[arg-type]
        )
        hidden, gate = layer.hidden, layer.gate
        i, f = slice(hidden), slice(hidden, 2 * hidden)
        shift = 0.0
        if gate.name == "HardSigmoid" and gate.alpha and gate.beta is not None:
            # 1 - (alpha z + beta) = alpha (-z + (1 - 2 beta) / alpha) + beta
            shift = (1 - 2 * gate.beta) / gate.alpha
        if shift and layer.clip is not None:
            raise ValueError(
                f"coupled gates with a clip must have a function that is 1/2 at 0, not {gate}"
            )
        turned: dict[str, Array | None] = {}
        for name in ("w_x", "w_h", "bias", "peepholes"):
            array = getattr(layer, name)
            if array is not None:
                array = array.copy()
                array[f] = -array[i] + (shift if name == "bias" else 0.0)
            turned[name] = array
        return replace(layer, **turned)  # type: ignore[arg-type]

    @property
    def inputs(self) -> int:
        """N, the features of one step of the input."""
        return int(self.w_x.shape[1])

    @property
    def hidden(self) -> int:
        """H, the hidden units."""
        return int(self.w_h.shape[0]) // 4

    @property
    def outputs(self) -> int:
        """R, the features of the output, which are the hidden states."""
        return int(self.w_h.shape[1])

    @property
    def directions(self) -> tuple[LSTM, ...]:
        """The layer itself, as one of one."""
        return (self,)

    def of_scaled(self, scale: ArrayLike, shift: ArrayLike) -> LSTM:
        """The layer that does with x what this one does with ``scale * x + shift``.

        Parameters
        ----------
        scale, shift : array_like, shape (N,) or a number
        """
        factor, offset = (np.broadcast_to(v, (self.inputs,)) for v in (scale, shift))
        return replace(self, w_x=self.w_x * factor, bias=self.bias + self.w_x @ offset)

    def start(self, count: int) -> State:
        """The states that so many sequences begin with."""
        return State(
            h=np.tile(np.zeros(self.outputs) if self.initial_h is None else self.initial_h,
                      (count, 1)),
            c=np.tile(np.zeros(self.hidden) if self.initial_c is None else self.initial_c,
                      (count, 1)),
        )

    def _steps(self, x: Array, state: State) -> Iterator[tuple[Array, Array, Array, Array, Array]]:
        """Yield z, gates, c, m and h of every step, each shaped (B, ...), in the order of x."""
        hidden = self.hidden
        i, f, g, o = (slice(n * hidden, (n + 1) * hidden) for n in range(4))
        h, c = state.h, state.c
        peepholes = None if self.peepholes is None else np.split(self.peepholes, 3)

        def clipped(z: Array) -> Array:
            return z if self.clip is None else np.clip(z, -self.clip, self.clip)

        for t in range(x.shape[1]):
            z = x[:, t] @ self.w_x.T + h @ self.w_h.T + self.bias
            if peepholes:
                z[:, i] += peepholes[0] * c
                z[:, f] += peepholes[1] * c
            z[:, : 3 * hidden] = clipped(z[:, : 3 * hidden])
            gates = np.empty_like(z)
            gates[:, i], gates[:, f] = self.gate(z[:, i]), self.gate(z[:, f])
            gates[:, g] = self.candidate(z[:, g])
            c = gates[:, f] * c + gates[:, i] * gates[:, g]
            if peepholes:
                z[:, o] += peepholes[2] * c
            z[:, o] = clipped(z[:, o])
            gates[:, o] = self.gate(z[:, o])
            m = gates[:, o] * self.squash(c)
            h = m if self.projection is None else m @ self.projection.T
            yield z, gates, c, m, h

    def _turned(self, x: Array, lengths: NDArray[np.int64]) -> Array:
        """Every sequence in the order in which this direction reads it, and back."""
        if not self.reverse:
            return x
        steps = np.arange(x.shape[1])
        order = np.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
        return np.asarray(np.take_along_axis(x, order[:, :, None], axis=1))

    def run(
        self, x: ArrayLike, lengths: ArrayLike | None = None, *, state: State | None = None
    ) -> LSTMTrace:
        """Run the layer and keep every intermediate.

        Parameters
        ----------
        x : array_like, shape (B, T, N)
            B sequences, the shorter ones padded to T steps with any values at all.
        lengths : array_like of int, shape (B,), optional
            Steps of each sequence, 1 .. T; by default all have T.
        state : State, optional
            To begin with, in place of the layer's own.

        Raises
        ------
        ValueError
            If `x` or `lengths` has another shape, is empty or holds values that are not allowed.
        """
        array, steps, _ = batch(x, lengths, self.inputs)
        return self.trace(array, steps, state)

    def trace(self, x: Array, lengths: NDArray[np.int64], state: State | None) -> LSTMTrace:
        """:meth:`run` on what is known to be good."""
        count, steps, _ = x.shape
        hidden = self.hidden
        z, gates = np.empty((2, count, steps, 4 * hidden))
        c, m = np.empty((2, count, steps, hidden))
        h = np.empty((count, steps, self.outputs))
        begin = self.start(count) if state is None else state
        for t, step in enumerate(self._steps(self._turned(x, lengths), begin)):
            z[:, t], gates[:, t], c[:, t], m[:, t], h[:, t] = step
        last = np.arange(count), lengths - 1
        final = State(h=h[last], c=c[last])
        z, gates, c, m, h = (self._turned(each, lengths) for each in (z, gates, c, m, h))
        return LSTMTrace(z=z, gates=gates, c=c, m=m, h=h, final=final)

    def advance(
        self, x: Array, lengths: NDArray[np.int64], state: State | None
    ) -> tuple[Array, State]:
        """The hidden states, shape (B, T, R), and the final states, of x that is known to be good.

        A tenth of the memory of :meth:`trace`.
        """
        begin = self.start(len(x)) if state is None else state
        h = np.empty((len(x), x.shape[1], self.outputs))
        final = np.empty((len(x), self.hidden))
        for t, (_, _, c, _, out) in enumerate(self._steps(self._turned(x, lengths), begin)):
            h[:, t] = out
            ends = lengths == t + 1
            final[ends] = c[ends]
        state = State(h=h[np.arange(len(x)), lengths - 1], c=final)
        return self._turned(h, lengths), state


@dataclass(frozen=True, kw_only=True, eq=False)
class Bidirectional:
    """Two LSTM layers that read the same input, one from its end.

    Parameters
    ----------
    forward, backward : LSTM
        Not reverse, and reverse.
    merge : str
        One of ``MERGES``: the features of the one and then of the other, or their sum, mean or
        product.

    Raises
    ------
    ValueError
        If the directions do not fit each other, or there is no such merge.
    """

    forward: LSTM
    backward: LSTM
    merge: str = "concat"

    def __post_init__(self) -> None:
        if self.forward.reverse or not self.backward.reverse:
            raise ValueError("of a bidirectional LSTM's two directions, the first must be forward "
                             "and the second reverse")
        if self.merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, not {self.merge}")
        for what in ("inputs", "outputs"):
            ours, theirs = getattr(self.forward, what), getattr(self.backward, what)
            if ours != theirs:
                raise ValueError(f"the two directions of an LSTM must have equally many {what}, "
                                 f"not {ours} and {theirs}")

    @property
    def inputs(self) -> int:
        """N, the features of one step of the input."""
        return self.forward.inputs

    @property
    def outputs(self) -> int:
        """The features of the output."""
        return (2 if self.merge == "concat" else 1) * self.forward.outputs

    @property
    def directions(self) -> tuple[LSTM, ...]:
        """Forward, then backward."""
        return self.forward, self.backward

    def of_scaled(self, scale: ArrayLike, shift: ArrayLike) -> Bidirectional:
        """As of :class:`LSTM`."""
        return replace(self, forward=self.forward.of_scaled(scale, shift),
                       backward=self.backward.of_scaled(scale, shift))

    def merged(self, parts: Sequence[Array]) -> Array:
        """One output from the two directions'."""
        ours, theirs = parts
        match self.merge:
            case "concat":
                return np.concatenate([ours, theirs], axis=-1)
            case "sum":
                return ours + theirs
            case "ave":
                return (ours + theirs) / 2
            case _:
                return ours * theirs
