"""The shared table: faithful over every input code, monotone, symmetric, exact in the tails."""

import re
from fractions import Fraction
from math import log

import numpy as np
import pytest

from golden.activation import SigmoidTable, tail_integer_bits
from golden.fixed import SQ, UQ


def table(bits: int, *, z_f: int | None = None, more_i: int = 0, tanh_f: int | None = None
          ) -> SigmoidTable:
    gate = UQ(1, bits - 1)
    z = SQ(tail_integer_bits(gate.f) + more_i, gate.f if z_f is None else z_f)
    return SigmoidTable(z=z, gate=gate, tanh=SQ(2, gate.f - 1 if tanh_f is None else tanh_f))


TABLES = [
    *(table(bits) for bits in (3, 4, 6, 8, 10, 12, 13, 16, 18)),
    table(8, more_i=2), table(12, tanh_f=11), table(16, tanh_f=15), table(12, tanh_f=5),
    table(8, z_f=1), table(10, z_f=4), table(12, z_f=16), table(16, z_f=9), table(16, z_f=12),
]


def name(one: SigmoidTable) -> str:
    return f"{one.z}-{one.gate}-{one.tanh}".replace(" ", "")


@pytest.fixture(scope="module", params=TABLES, ids=name)
def case(request: pytest.FixtureRequest
         ) -> tuple[SigmoidTable, np.ndarray, np.ndarray, np.ndarray]:
    """A table, every input code, and both functions of all of them."""
    one: SigmoidTable = request.param
    codes = np.arange(one.z.min, one.z.max + 1)
    return one, codes, one.sigmoid(codes), one.tanh_of(codes)


Case = tuple[SigmoidTable, np.ndarray, np.ndarray, np.ndarray]


def test_faithful(case: Case) -> None:
    """Less than 1 ulp off everywhere; the reference, by another formula than the table's."""
    one, codes, sigmoid, tanh = case
    exact = 0.5 + 0.5 * np.tanh(one.z.to_real(codes) / 2)
    assert np.abs(one.gate.to_real(sigmoid) - exact).max() < one.gate.ulp
    exact = np.tanh(one.candidate.to_real(codes))
    assert np.abs(one.tanh.to_real(tanh) - exact).max() < one.tanh.ulp


def test_monotone(case: Case) -> None:
    _, _, sigmoid, tanh = case
    assert (np.diff(sigmoid) >= 0).all()
    assert (np.diff(tanh) >= 0).all()


def test_range_and_exact_ends(case: Case) -> None:
    one, _, sigmoid, tanh = case
    unit, half = 1 << one.gate.f, 1 << one.tanh.f
    assert (sigmoid[0], sigmoid[-1], sigmoid.min(), sigmoid.max()) == (0, unit, 0, unit)
    assert (tanh[0], tanh[-1], tanh.min(), tanh.max()) == (-half, half, -half, half)


def test_constant_tails(case: Case) -> None:
    """Beyond where 1 is the nearest code, and an ulp of slack, every code gives exactly 1."""
    one, codes, sigmoid, tanh = case
    z = one.z.to_real(codes)
    beyond = z >= (one.gate.f + 2) * log(2)
    assert (sigmoid[beyond] == 1 << one.gate.f).all()
    assert (sigmoid[z <= -(one.gate.f + 2) * log(2)] == 0).all()
    u = one.candidate.to_real(codes)
    assert (tanh[u >= (one.gate.f + 3) * log(2) / 2] == 1 << one.tanh.f).all()


def test_symmetry(case: Case) -> None:
    one, codes, sigmoid, tanh = case
    zero = -one.z.min
    right, left = slice(zero + 1, None), slice(zero - 1, 0, -1)
    assert (codes[left] == -codes[right]).all()
    assert (sigmoid[left] == (1 << one.gate.f) - sigmoid[right]).all()
    assert (tanh[left] == -tanh[right]).all()
    assert (sigmoid[zero], tanh[zero]) == (1 << one.gate.f - 1, 0)
    # The most negative code has no opposite; it counts as the one above it.
    assert (sigmoid[0], tanh[0]) == (sigmoid[1], tanh[1])


@pytest.mark.parametrize("one", [table(8), table(10, z_f=4)], ids=name)
def test_the_definition(one: SigmoidTable) -> None:
    """Knots, slopes and remainder as documented, exactly and rounded once."""
    for code in range(one.z.min, one.z.max + 1):
        segment, remainder = divmod(min(abs(code), one.z.max), 2**one.remainder_bits)
        left, right = int(one.knots[segment]), int(one.knots[segment + 1])
        value = Fraction(left) + Fraction((right - left) * remainder, 2**one.remainder_bits)
        value /= 2**one.knot_fraction
        sigmoid, tanh = round(value * 2**one.gate.f), round((2 * value - 1) * 2**one.tanh.f)
        if code < 0:
            sigmoid, tanh = 2**one.gate.f - sigmoid, -tanh
        assert one.sigmoid(np.array([code])).tolist() == [sigmoid]
        assert one.tanh_of(np.array([code])).tolist() == [tanh]


def test_shapes_and_sizes() -> None:
    one = table(16)
    assert one.candidate == SQ(4, 16)
    assert one.fraction == one.knot_fraction + one.remainder_bits
    assert len(one.knots) == one.segments + 1 == len(one.slopes) + 1
    assert one.segments << one.remainder_bits == 1 << one.z.width - 1
    assert one.slopes.min() >= 0
    assert one.slopes.max() < 1 << one.slope_bits
    assert one.bits == one.segments * (one.knot_fraction + one.slope_bits)
    codes = np.arange(6).reshape(2, 3)
    assert one.sigmoid(codes).shape == one.tanh_of(codes).shape == (2, 3)


def test_no_code_is_changed_in_place() -> None:
    codes = np.array([-5, 5])
    table(8).sigmoid(codes)
    table(8).tanh_of(codes)
    assert codes.tolist() == [-5, 5]


@pytest.mark.parametrize(("f", "bits"), [(2, 3), (7, 4), (10, 4), (11, 5), (12, 5), (15, 5),
                                         (17, 5), (22, 5), (23, 6)])
def test_tail_integer_bits(f: int, bits: int) -> None:
    """Two to the bits less one is the first power above the tail's start, (f + 1) ln 2."""
    assert 2.0 ** (bits - 2) <= (f + 1) * log(2) < 2.0 ** (bits - 1)
    assert tail_integer_bits(f) == bits


def formats(**changed: object) -> dict[str, object]:
    return {"z": SQ(5, 15), "gate": UQ(1, 15), "tanh": SQ(2, 14), **changed}


@pytest.mark.parametrize(("wrong", "text"), [
    (formats(gate=UQ(2, 15)), "gate format must be UQ(1, f) with f of at least 2, not UQ(2, 15)"),
    (formats(gate=SQ(1, 15)), "gate format must be UQ(1, f) with f of at least 2, not SQ(1, 15)"),
    (formats(gate=UQ(1, 1)), "gate format must be UQ(1, f) with f of at least 2, not UQ(1, 1)"),
    (formats(tanh=SQ(1, 14)), "tanh format must be SQ(2, f) with f of at least 1, not SQ(1, 14)"),
    (formats(tanh=UQ(2, 14)), "tanh format must be SQ(2, f) with f of at least 1, not UQ(2, 14)"),
    (formats(tanh=SQ(2, 16)), "tanh format SQ(2, 16) must not be finer than the gate format "
                              "UQ(1, 15)"),
    (formats(z=SQ(4, 15)), "preactivation format must be SQ(i, f) with i of at least 5, or the "
                           "sigmoid in UQ(1, 15) never reaches 0 and 1; not SQ(4, 15)"),
    (formats(z=UQ(5, 15)), "preactivation format must be SQ(i, f) with i of at least 5, or the "
                           "sigmoid in UQ(1, 15) never reaches 0 and 1; not UQ(5, 15)"),
    (formats(z=SQ(5, 0)), "preactivation format must have a fraction bit at least, not SQ(5, 0)"),
])
def test_wrong_formats(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        SigmoidTable(**wrong)  # type: ignore[arg-type]
