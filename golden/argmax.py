"""The index of the largest output, bit for bit."""

from dataclasses import dataclass

import numpy as np

from golden.fixed import SQ, signed_width

__all__ = ["ArgMax"]


@dataclass(frozen=True, kw_only=True)
class ArgMax:
    """The index of the largest code of a step, the first of several that are as large.

    Parameters
    ----------
    x : SQ
        Format of the codes.
    inputs : int
        Codes of a step.

    Attributes
    ----------
    outputs : int
        One.
    y : SQ
        Format of the index: it is the number itself.
    """

    x: SQ
    inputs: int

    @property
    def outputs(self) -> int:
        return 1

    @property
    def y(self) -> SQ:
        return SQ(signed_width(0, self.inputs - 1), 0)

    def evaluate(self, codes: np.ndarray) -> np.ndarray:
        """Indices, int64 1 x B, from int64 codes, O x B."""
        return codes.argmax(axis=0)[None]
