"""What a run of the bit-true network gives: outputs, states, and every code in between."""

from dataclasses import dataclass

import numpy as np

from golden.derived import DERIVED, settle
from golden.fixed import Format

__all__ = ["LSTMCodes", "Result", "StateCodes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LSTMCodes:
    """Every intermediate of an LSTM layer over B sequences of T steps: int64 codes.

    All have the shape B x T x H except ``x``, B x T x N, ``z``, B x T x 4H with the gates in the
    order i, f, g, o, ``h``, B x T x R, and ``outside``. Zero beyond the end of a sequence.

    Parameters
    ----------
    x : in the layer's ``x`` format
    z : i, f and o in ``z``, g in the layer's ``candidate``
    i, f, o : in ``gate``
    g : in ``g``
    u : what is looked up for c', in the layer's ``squashed``; without a table, what comes out
    c : in ``c``
    h : in ``h``
    m : what the output gate lets out, in ``m``; ``h`` without a projection
    outside : B x T x 2 S, how many elements of each of the layer's S saturating tensors lay below
        their format, and how many above
    """

    x: np.ndarray
    z: np.ndarray
    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    u: np.ndarray
    c: np.ndarray
    h: np.ndarray
    outside: np.ndarray
    m: np.ndarray = DERIVED

    def __post_init__(self) -> None:
        settle(self, m=self.h)


@dataclass(frozen=True, kw_only=True, eq=False)
class StateCodes:
    """What an LSTM layer carries from step to step, for B sequences: int64 codes.

    Parameters
    ----------
    h : int64 array, B x H, in ``h``
    c : int64 array, B x H, in ``c``
    """

    h: np.ndarray
    c: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a run of the bit-true network gave.

    Parameters
    ----------
    y : int64 array, B x O, or B x T x O with an output at every step
        Output codes; zero beyond the end of a sequence.
    format : Format
        Of the output codes.
    saturated : dict
        How many values of each tensor lay outside its format, steps beyond the end of a sequence
        left out; keys like ``lstm0.z`` in the order of the data flow, and ``x`` where the run
        quantised its input.
    layers : tuple of LSTMCodes or None
        The intermediates, where they were asked for.
    final : tuple of StateCodes
        The state of each layer after each sequence's last step.
    behind : int64 array, B x H, or B x T x H with an output at every step, or None
        What the dense layers take, where the intermediates were asked for.
    outside : dict of str to int64 array, B, or None
        ``saturated`` of each sequence, where the intermediates were asked for.
    """

    y: np.ndarray
    format: Format
    saturated: dict[str, int]
    layers: tuple[LSTMCodes, ...] | None
    final: tuple[StateCodes, ...]
    behind: np.ndarray | None = None
    outside: dict[str, np.ndarray] | None = None

    @property
    def real(self) -> np.ndarray:
        """The outputs as real numbers, float64."""
        return self.format.to_real(self.y)
