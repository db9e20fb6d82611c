"""Formats, rounding and saturation against definitions in exact fractions."""

import re
from fractions import Fraction

import numpy as np
import pytest

from golden.fixed import SQ, UQ, Format, round_saturate, signed_width

FORMATS = [SQ(1, 0), SQ(1, 3), SQ(3, 2), SQ(5, -2), SQ(-1, 4), UQ(1, 0), UQ(1, 3), UQ(0, 4),
           UQ(4, -1), UQ(-2, 5)]


def real(codes: np.ndarray, f: int) -> list[Fraction]:
    return [Fraction(int(code)) / Fraction(2) ** f for code in codes]


def nearest(value: Fraction, to: Format) -> tuple[int, bool]:
    """The code whose value is nearest, even where two are; and whether it had to saturate.

    By search over all codes: no rounding of Python's own is trusted.
    """
    ulp = 1 / Fraction(2) ** to.f
    codes = range(to.min - 2, to.max + 3)  # room to see what lies outside
    outside = value < (to.min - 1) * ulp or value > (to.max + 1) * ulp
    code = min(codes, key=lambda n: (abs(n * ulp - value), n % 2))
    return min(max(code, to.min), to.max), outside or not to.min <= code <= to.max


@pytest.mark.parametrize("to", FORMATS, ids=str)
def test_limits(to: Format) -> None:
    assert to.width == to.i + to.f
    assert to.max - to.min + 1 == 2**to.width
    assert to.min == (-(2 ** (to.width - 1)) if isinstance(to, SQ) else 0)
    assert to.ulp == float(Fraction(2) ** -to.f)
    codes = np.arange(to.min, to.max + 1)
    reals = to.to_real(codes)
    assert reals.dtype == np.float64
    assert [Fraction(value) for value in reals] == real(codes, to.f)
    back, saturated = to.quantize(reals)
    assert back.dtype == np.int64
    assert np.array_equal(back, codes)
    assert saturated == 0


@pytest.mark.parametrize("to", FORMATS, ids=str)
@pytest.mark.parametrize("drop", range(-3, 5))
def test_every_code(to: Format, drop: int) -> None:
    """All codes of a range that overflows on both sides, for integer, float64 and real input."""
    f = to.f + drop
    top = int((to.max + 3) * Fraction(2) ** drop) + 1
    codes = np.arange(-top, top + 1)
    wanted = [nearest(value, to) for value in real(codes, f)]
    expected, count = [code for code, _ in wanted], sum(outside for _, outside in wanted)
    assert count > 0
    for given in (codes, codes.astype(np.int32), codes.astype(np.float64)):
        before = given.copy()
        result, saturated = round_saturate(given, f, to)
        assert result.dtype == given.dtype
        assert result.tolist() == expected
        assert saturated == count
        assert np.array_equal(given, before)
    result, saturated = to.quantize(codes * 2.0**-f)
    assert result.tolist() == expected
    assert saturated == count


@pytest.mark.parametrize("seed", range(3))
def test_wide_codes(seed: int) -> None:
    """Sums as wide as float64 holds them, ties among them, exactly as integers."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-(2**52), 2**52, 1000)
    codes[::2] = codes[::2] >> 20 << 20 | 1 << 19
    to = SQ(22, 12)
    exact = [round(value * 2**12) for value in real(codes, 32)]
    assert round_saturate(codes, 32, to)[0].tolist() == exact
    assert round_saturate(codes.astype(np.float64), 32, to)[0].tolist() == exact
    tied = exact[::2]
    assert all(code % 2 == 0 for code in tied)


def test_quantize_shapes_and_infinity() -> None:
    codes, saturated = SQ(1, 7).quantize([[np.inf, -np.inf], [0.5, -1]])
    assert codes.tolist() == [[127, -128], [64, -128]]
    assert saturated == 2
    codes, saturated = UQ(1, 7).quantize(-0.1)
    assert (codes.shape, int(codes), saturated) == ((), 0, 1)


def test_signed_width_is_the_narrowest() -> None:
    for low in range(-20, 21):
        for high in range(low, 21):
            width = next(n for n in range(1, 9) if SQ(n, 0).min <= low and high <= SQ(n, 0).max)
            assert signed_width(low, high) == width
    assert signed_width(-(2**70), 0) == 71
    assert signed_width(0, 2**70) == 72


def test_names_and_equality() -> None:
    assert (str(SQ(4, 12)), str(UQ(1, -0))) == ("SQ(4, 12)", "UQ(1, 0)")
    assert SQ(1, 3) == SQ(1, 3) != UQ(1, 3)
    assert len({SQ(1, 3), SQ(1, 3), UQ(1, 3)}) == 2


@pytest.mark.parametrize(("kind", "i", "f", "error", "text"), [
    (SQ, 1.0, 3, TypeError, "SQ i must be an integer, not 1.0"),
    (SQ, True, 3, TypeError, "SQ i must be an integer, not True"),
    (UQ, 1, "3", TypeError, "UQ f must be an integer, not '3'"),
    (SQ, 1, -1, ValueError, "SQ(1, -1) width must be positive, not 0"),
    (UQ, -4, 3, ValueError, "UQ(-4, 3) width must be positive, not -1"),
])
def test_wrong_formats(kind: type[Format], i: object, f: object, error: type[Exception],
                       text: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        kind(i, f)  # type: ignore[arg-type]


def test_not_a_number() -> None:
    with pytest.raises(ValueError, match=r"^SQ\(1, 7\) has no code for NaN$"):
        SQ(1, 7).quantize([0.0, np.nan])
