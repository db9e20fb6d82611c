"""The bit-true network: quantised layers in a row, run on codes or on real numbers.

What every bit is, :mod:`golden.quantized` defines; :mod:`golden.simulate` computes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from golden.argmax import ArgMax
from golden.bidirectional import QuantizedLayer
from golden.checks import sequence_lengths, valid_steps
from golden.fixed import SQ
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.result import Result, StateCodes
from golden.simulate import simulate
from golden.softmax import Softmax
from golden.state_name import place

__all__ = ["QuantizedNetwork"]


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedNetwork:
    """A stack of LSTM layers and the dense layers behind them, in integer codes.

    Parameters
    ----------
    layers : tuple of QuantizedLSTM or QuantizedBidirectional
        Each layer's ``x`` format is the ``y`` format of the one before.
    head : tuple of QuantizedDense
        Without any the last layer's hidden state is the output.
    every_step : bool
        Whether there is an output at every step, or at one of each sequence only.
    final, backwards : bool
        Which one that is, and whether those of every step come from the last to the first, as of
        :class:`golden.model.Network`.
    vector : ArgMax, Softmax or None
        What becomes of all outputs of the last dense layer together.
    states : tuple of str
        Final states that are outputs too, by layer and tensor: ``"lstm0.h"``, ``"lstm0.c"``.
    stateful : bool
        Whether a sequence can go on from the state in which the one before has ended, or from a
        given one.

    Raises
    ------
    ValueError
        If there is no layer, or one does not take what the one before it gives, or there is no
        such state.
    """

    layers: tuple[QuantizedLayer, ...]
    head: tuple[QuantizedDense, ...]
    every_step: bool
    final: bool = False
    backwards: bool = False
    vector: ArgMax | Softmax | None = None
    states: tuple[str, ...] = ()
    stateful: bool = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("network must have one LSTM layer at least, not none")
        object.__setattr__(self, "head", tuple(self.head))
        given = [(layer.outputs, layer.y) for layer in self.layers]
        given += [(dense.outputs, dense.formats.y) for dense in self.head]
        following: list[QuantizedLayer | QuantizedDense] = [*self.layers[1:], *self.head]
        for (units, to), behind in zip(given, following, strict=False):
            if (behind.inputs, behind.formats.x) != (units, to):
                raise ValueError(
                    f"a layer must take what the one before it gives, {units} units in "
                    f"{to}, not {behind.inputs} in {behind.formats.x}")
        if self.vector and not self.head:
            raise ValueError(f"{type(self.vector).__name__} must stand behind a dense layer, but "
                             f"there is none")
        if self.vector and (self.vector.inputs, self.vector.x) != given[-1]:
            raise ValueError(
                f"{type(self.vector).__name__} must take what the last dense layer gives, "
                f"{given[-1][0]} outputs in {given[-1][1]}, not {self.vector.inputs} in "
                f"{self.vector.x}")
        object.__setattr__(self, "states", tuple(self.states))
        for name in self.states:
            if name not in self.known_states:
                raise ValueError(f"a final state must be one of {', '.join(self.known_states)}, "
                                 f"not {name}")
            if self.states.count(name) > 1:
                raise ValueError(f"a final state must be listed once, not {name} "
                                 f"{self.states.count(name)} times")

    @property
    def inputs(self) -> int:
        return self.layers[0].inputs

    @property
    def directions(self) -> tuple[QuantizedLSTM, ...]:
        """The directions of all layers, the first layer's first."""
        return tuple(each for layer in self.layers for each in layer.directions)

    @property
    def direction_names(self) -> tuple[str, ...]:
        """A name for each of them: ``lstm0``, and ``lstm0.reverse`` for the second of a layer."""
        return tuple(name for number in range(len(self.layers)) for name in self._names_of(number))

    def _names_of(self, number: int) -> tuple[str, ...]:
        """Those of the directions of one layer."""
        return tuple(f"lstm{number}{way}" for way, _ in zip(
            ("", ".reverse"), self.layers[number].directions, strict=False))

    @property
    def outputs(self) -> int:
        if self.vector:
            return self.vector.outputs
        return self.head[-1].outputs if self.head else self.layers[-1].outputs

    @property
    def x(self) -> SQ:
        """Format of the input."""
        return self.layers[0].formats.x

    @property
    def y(self) -> SQ:
        """Format of the output."""
        if self.vector:
            return self.vector.y
        return self.head[-1].formats.y if self.head else self.layers[-1].y

    @property
    def weight_bits(self) -> int:
        """Bits of the weights that are not 0: what the hardware must store at least."""
        stored = [(w, of) for layer in self.directions for w, of in (
            (layer.w_x, layer.formats.w_x), (layer.w_h, layer.formats.w_h))]
        stored += [(each.peepholes, each.formats.p) for each in self.directions
                   if each.peepholes is not None and each.formats.p]
        stored += [(dense.w, dense.formats.w) for dense in (
            *(each.projector for each in self.directions), *self.head) if dense]
        return sum(int(np.count_nonzero(w)) * of.width for w, of in stored)

    @property
    def known_states(self) -> tuple[str, ...]:
        """Names of all states, in the order in which they are given to a network."""
        return tuple(f"lstm{number}.{name}" for number in range(len(self.layers)) for name in "hc")

    def state_format(self, name: str) -> SQ:
        """Format of one of the :attr:`known_states`."""
        number, tensor = place(name)
        formats = self.layers[number].formats
        return formats.h if tensor == "h" else formats.c

    def state_size(self, name: str) -> int:
        """Elements of one of the :attr:`known_states`."""
        number, tensor = place(name)
        return sum(each.outputs if tensor == "h" else each.hidden
                   for each in self.layers[number].directions)

    def state_parts(self, name: str) -> tuple[str, ...]:
        """What one of the :attr:`known_states` is called in each direction of its layer."""
        number, tensor = place(name)
        return tuple(f"{way}.{tensor}" for way in self._names_of(number))

    def state_vector(self, state: Sequence[StateCodes], names: Sequence[str]) -> np.ndarray:
        """The elements of states one after the other, in the order of ``names``: int64 B x E."""
        return np.concatenate([getattr(state[number], tensor)
                               for number, tensor in map(place, names)], axis=1)

    @property
    def saturating(self) -> tuple[str, ...]:
        """Names of the tensors that can saturate, in the order of the data flow."""
        names = [f"lstm{number}.{name}" for number, layer in enumerate(self.layers)
                 for name in layer.saturating]
        return (*names, *(f"dense{number}.y" for number in range(len(self.head))))

    def run(self, x: ArrayLike, lengths: ArrayLike | None = None, *, trace: bool = False,
            state: Sequence[StateCodes] | None = None) -> Result:
        """Run the network on input codes.

        Parameters
        ----------
        x : array_like of integers, B x T x N
            Codes in the format :attr:`x`; shorter sequences are padded with anything.
        lengths : array_like of integers, B, optional
            Steps of each sequence, 1 to T; by default all have T.
        trace : bool
            Whether to return every intermediate too; that takes some 12 H codes a step and layer.
        state : sequence of StateCodes, optional
            What each layer begins with, in place of its own: where sequences before have ended,
            their ``final``.

        Returns
        -------
        Result

        Raises
        ------
        ValueError
            If the shape, a length, a code or a state is not allowed, or a sum may outgrow what
            float64 holds exactly.
        """
        codes = np.asarray(x)
        if codes.dtype.kind not in "iu":
            raise ValueError(f"input codes must be integers, not {codes.dtype}")
        steps, valid = self._steps(codes, lengths)
        codes = np.where(valid, codes, 0)
        if codes.min() < self.x.min or codes.max() > self.x.max:
            raise ValueError(f"input codes must lie in {self.x}, {self.x.min} to {self.x.max}, "
                             f"but reach from {codes.min()} to {codes.max()}")
        return self._simulate(codes.astype(np.int64), steps, trace, state)

    def run_real(self, x: ArrayLike, lengths: ArrayLike | None = None, *, trace: bool = False,
                 state: Sequence[StateCodes] | None = None) -> Result:
        """Quantise real numbers and run the network on them.

        Parameters
        ----------
        x : array_like, B x T x N
            Real numbers; infinity saturates, as any number outside the format :attr:`x` does.
        lengths, trace, state
            As for :meth:`run`; a state is codes here, too.

        Returns
        -------
        Result
            ``saturated["x"]`` counts the inputs outside the format, and ``real`` has the outputs
            as real numbers.

        Raises
        ------
        ValueError
            As for :meth:`run`, or if an input is not a number.
        """
        real = np.asarray(x)
        if real.dtype.kind not in "iuf":
            raise ValueError(f"input must be real numbers, not {real.dtype}")
        steps, valid = self._steps(real, lengths)
        codes, saturated = self.x.quantize(np.where(valid, real, 0))
        result = self._simulate(codes, steps, trace, state)
        return replace(result, saturated={"x": saturated, **result.saturated})

    def _steps(self, x: np.ndarray, lengths: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
        """The lengths of the sequences, and which steps belong to them, B x T x 1."""
        if x.ndim != 3 or x.shape[2] != self.inputs or not x.size:
            raise ValueError(f"input must have the shape B x T x {self.inputs} and not be empty, "
                             f"not {' x '.join(map(str, x.shape)) or 'a single number'}")
        steps = sequence_lengths(lengths, x.shape[0], x.shape[1])
        return steps, valid_steps(steps, x.shape[1])[:, :, None]

    def _simulate(self, codes: np.ndarray, steps: np.ndarray, trace: bool,
                  state: Sequence[StateCodes] | None) -> Result:
        if state is not None:
            self._check_state(state, len(codes))
        result = simulate(self.layers, self.head, codes, steps, every_step=self.every_step,
                          final=self.final, backwards=self.backwards, trace=trace, state=state)
        if not self.vector:
            return result
        valid = (valid_steps(steps, codes.shape[1]) if self.every_step
                 else np.ones(len(codes), dtype=bool))
        y = np.zeros((*valid.shape, self.outputs), dtype=np.int64)
        y[valid] = self.vector.evaluate(result.y[valid].T).T
        return replace(result, y=y, format=self.y)

    def _check_state(self, state: Sequence[StateCodes], count: int) -> None:
        if len(state) != len(self.layers):
            raise ValueError(f"state must be of each of the {len(self.layers)} LSTM layers, not "
                             f"of {len(state)}")
        for number, (layer, part) in enumerate(zip(self.layers, state, strict=True)):
            for name, to in (("h", layer.formats.h), ("c", layer.formats.c)):
                size = self.state_size(f"lstm{number}.{name}")
                codes = np.asarray(getattr(part, name))
                if codes.dtype.kind not in "iu":
                    raise ValueError(f"state lstm{number}.{name} must be integers, not "
                                     f"{codes.dtype}")
                if codes.shape != (count, size):
                    raise ValueError(f"state lstm{number}.{name} must have the shape {count} x "
                                     f"{size}, not {' x '.join(map(str, codes.shape))}")
                if codes.min() < to.min or codes.max() > to.max:
                    raise ValueError(
                        f"state lstm{number}.{name} must lie in {to}, {to.min} to {to.max}, but "
                        f"reaches from {codes.min()} to {codes.max()}")
