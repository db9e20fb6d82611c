"""The bit-true bidirectional layer: two LSTM layers that read the same input, one from its end.

Both directions have the same formats, so that one array and one drain serve both; their functions
may differ, and with these what comes of a candidate and of a cell state. Their hidden states p and
q of a step become one output by the ``merge``, with one rounding::

    concat   y = p, then q
    sum      y = RS(p + q)          in y
    ave      y = RS((p + q) / 2)    in y
    mul      y = RS(p q)            in y
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from golden.derived import DERIVED, settle
from golden.fixed import SQ, round_saturate
from golden.formats import LSTMFormats
from golden.lstm import MERGES
from golden.quantized import QuantizedLSTM

__all__ = ["QuantizedBidirectional", "QuantizedLayer", "merge_fraction"]

def merge_fraction(merge: str, h: SQ) -> int:
    """Fraction bits of the exact merged value of two hidden states in ``h``."""
    return {"sum": h.f, "ave": h.f + 1, "mul": 2 * h.f}[merge]


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedBidirectional:
    """A bidirectional LSTM layer in integer codes.

    Parameters
    ----------
    forward, backward : QuantizedLSTM
        Not reverse, and reverse.
    merge : str
        One of :data:`golden.lstm.MERGES`.
    y : SQ
        Format of the outputs; that of h where they are concatenated, which is the default.

    Raises
    ------
    ValueError
        If the directions do not fit each other, or there is no such merge or format.
    """

    forward: QuantizedLSTM
    backward: QuantizedLSTM
    merge: str = "concat"
    y: SQ = DERIVED

    def __post_init__(self) -> None:
        ours, theirs = self.directions
        if ours.reverse or not theirs.reverse:
            raise ValueError("of a bidirectional LSTM's two directions, the first must be forward "
                             "and the second reverse")
        if self.merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, not {self.merge}")
        for what in ("inputs", "hidden", "outputs"):
            if getattr(ours, what) != getattr(theirs, what):
                raise ValueError(f"the two directions of an LSTM must have equally many {what}, "
                                 f"not {getattr(ours, what)} and {getattr(theirs, what)}")
        if ours.formats != replace(theirs.formats, g=ours.formats.g, s=ours.formats.s):
            raise ValueError(f"the two directions of an LSTM must have the same formats, but for "
                             f"those of g and s, not {ours.formats} and {theirs.formats}")
        settle(self, y=self.formats.h)
        if self.merge == "concat" and self.y != self.formats.h:
            raise ValueError(f"concatenated outputs must keep the format of the hidden states, "
                             f"{self.formats.h}, not become {self.y}")

    @property
    def inputs(self) -> int:
        return self.forward.inputs

    @property
    def hidden(self) -> int:
        """Units of each direction."""
        return self.forward.hidden

    @property
    def outputs(self) -> int:
        return self.forward.outputs * (2 if self.merge == "concat" else 1)

    @property
    def formats(self) -> LSTMFormats:
        """Those of the forward direction; the other's may differ in ``g`` and ``s``."""
        return self.forward.formats

    @property
    def lines(self) -> tuple[int, ...]:
        """Which curves need no table in either direction, as of :class:`QuantizedLSTM`."""
        return tuple(n for n in self.forward.lines if n in self.backward.lines)

    @property
    def saturating(self) -> tuple[str, ...]:
        """The tensors that are rounded, in the order of the data flow."""
        return (*self.forward.saturating, *(("y",) if self.merge != "concat" else ()))

    @property
    def directions(self) -> tuple[QuantizedLSTM, ...]:
        """Forward, then backward."""
        return self.forward, self.backward

    def merged(self, parts: Sequence[np.ndarray], axis: int) -> tuple[np.ndarray, int]:
        """The outputs of the hidden states of both directions.

        Parameters
        ----------
        parts : two arrays, int64 or float64
            Codes, features along ``axis``.

        Returns
        -------
        y : array of the same type
        saturated : int
            How many of them lay outside their format.
        """
        if self.merge == "concat":
            return np.concatenate(parts, axis=axis), 0
        p, q = parts
        exact = p * q if self.merge == "mul" else p + q
        return round_saturate(exact, merge_fraction(self.merge, self.formats.h), self.y)


QuantizedLayer = QuantizedLSTM | QuantizedBidirectional
