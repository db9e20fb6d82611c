"""The formats of a layer's tensors, and what stands in the place of a table between them.

What they mean, :mod:`golden.quantized` says.
"""

from dataclasses import dataclass
from math import inf

from golden.derived import DERIVED, settle
from golden.fixed import SQ, UQ, Format

__all__ = ["Curve", "DenseFormats", "LSTMFormats", "Slope"]


@dataclass(frozen=True)
class Curve:
    """What becomes of a preactivation or a cell state.

    Parameters
    ----------
    table : bool
        Whether it is looked up in the table, or is the result itself.
    low, high : int
        It is limited to these codes before.
    """

    table: bool
    low: int
    high: int

    def flagged(self, of: Format) -> tuple[float, float]:
        """Below and above which codes a value saturates: a limit within the format is meant."""
        return (self.low if self.low == of.min else -inf,
                self.high if self.high == of.max else inf)


@dataclass(frozen=True)
class Slope:
    """A line through which a cell state c' of ``c.f`` fraction bits goes: ``a c' + b``, exact.

    Parameters
    ----------
    a : int
        With ``f`` fraction bits.
    f : int
    b : int
        With ``f + c.f`` fraction bits.
    """

    a: int
    f: int
    b: int


@dataclass(frozen=True, kw_only=True)
class LSTMFormats:
    """Formats of an LSTM layer: each tensor's own.

    ``x`` input, ``h`` hidden state, ``c`` cell state, ``w_x`` and ``w_h`` weights, ``z`` a gate's
    preactivation, ``gate`` the gates, ``tanh`` what the table gives for a tanh, ``g`` the candidate
    and ``s`` what the cell state becomes on its way out: these two are ``tanh`` where they come
    from the table. ``p`` peepholes, where there are any. ``m`` is what the output gate lets out,
    ``w_r`` the weights of a projection of it; without a projection they are ``h`` and None.

    Raises
    ------
    ValueError
        If the products of the two parts do not share their binary point, those of the peepholes
        are finer, or ``m`` is another format than ``h`` without a projection.
    """

    x: SQ
    h: SQ
    c: SQ
    w_x: SQ
    w_h: SQ
    z: SQ
    gate: UQ
    tanh: SQ
    g: SQ = DERIVED
    s: SQ = DERIVED
    m: SQ = DERIVED
    w_r: SQ | None = None
    p: SQ | None = None

    def __post_init__(self) -> None:
        settle(self, g=self.tanh, s=self.tanh, m=self.h)
        if self.w_r is None and self.m != self.h:
            raise ValueError(f"what the output gate lets out must be the hidden state, in "
                             f"{self.h}, where no projection follows, not be in {self.m}")
        if self.w_x.f + self.x.f != self.w_h.f + self.h.f:
            raise ValueError(
                f"the products w_x x and w_h h must share their binary point, but {self.w_x} by "
                f"{self.x} and {self.w_h} by {self.h} do not")
        if self.p and self.p.f + self.c.f > self.product_fraction:
            raise ValueError(
                f"the products p c must have no more fraction bits than w_x x and w_h h, "
                f"{self.product_fraction}, but {self.p} by {self.c} have {self.p.f + self.c.f}")

    @property
    def product_fraction(self) -> int:
        """Fraction bits of the products, of their sum and of the bias."""
        return self.w_x.f + self.x.f

    @property
    def state_fraction(self) -> int:
        """Fraction bits of the exact sum f c + i g."""
        return self.gate.f + max(self.c.f, self.g.f)


@dataclass(frozen=True, kw_only=True)
class DenseFormats:
    """Formats of a dense layer: ``x`` input, ``w`` weights, ``z`` the sum, ``y`` output.

    Without a table the sum is the output, and ``z`` is ``y``.
    """

    x: SQ
    w: SQ
    y: SQ
    z: SQ = DERIVED

    def __post_init__(self) -> None:
        settle(self, z=self.y)

    @property
    def product_fraction(self) -> int:
        return self.w.f + self.x.f
