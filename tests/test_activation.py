"""The shared table on every input code, and the tables of hard and of a user's own functions."""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from math import log

import mpmath
import numpy as np
import pytest

from golden.activation import (
    SIGMOID,
    TANH,
    function_table,
    hard_sigmoid_table,
    hard_tanh_table,
    sigmoid_table,
    tail_integer_bits,
)
from golden.fixed import SQ, UQ
from golden.table import Table
from tests.cases import sparse
from tests.hard_functions import (
    hard_sigmoid_keras2,
    hard_sigmoid_onnx,
    hard_sigmoid_relu6,
    hard_tanh,
    softsign,
)

# Up to so many bits of input every code is held against mpmath, beyond that a dense choice.
EXACT_BITS = 16

# Fraction bits of that truth: with the integer bit they fit an int64.
TRUTH_BITS = 60

# Codes evaluated together; a table of 20 fraction bits has 2**25 of them.
CHUNK = 1 << 20


def shared(i: int, f: int, gate: int, tanh: int) -> dict[str, object]:
    return {"z": SQ(i, f), "gate": UQ(1, gate), "tanh": SQ(2, tanh)}


def same(f: int) -> dict[str, object]:
    """The formats that the figures are stated for: f fraction bits in and out."""
    return shared(tail_integer_bits(f + 1), f, f, f)


# Every table, and the bits it takes today where that is one of the figures.
LINEAR: list[tuple[dict[str, object], int | None]] = [
    (shared(3, 2, 2, 1), None), (shared(3, 3, 3, 2), None), (shared(3, 3, 3, 3), None),
    (shared(4, 5, 5, 4), None), (shared(4, 7, 7, 6), None), (shared(4, 7, 7, 7), None),
    (shared(4, 9, 9, 8), None), (shared(4, 9, 9, 9), None), (shared(5, 11, 11, 10), None),
    (shared(5, 11, 11, 11), None), (shared(5, 12, 12, 11), None), (shared(5, 15, 15, 14), None),
    (shared(6, 7, 7, 6), None), (shared(5, 17, 17, 16), None),
    # The input wider, coarser, finer than the result; tanh much coarser.
    (shared(7, 5, 8, 7), None), (shared(4, 1, 7, 6), None),
    (shared(5, 4, 9, 8), None), (shared(5, 12, 15, 14), None),
    (shared(5, 16, 11, 10), None), (shared(5, 11, 11, 5), None), (shared(5, 11, 8, 8), None),
    (same(4), 30), (same(8), 180), (same(12), 975), (same(16), 4878),
]
QUADRATIC: list[tuple[dict[str, object], int | None]] = [
    (shared(3, 3, 3, 2), None), (shared(4, 5, 5, 5), None), (shared(4, 7, 7, 6), None),
    (shared(4, 9, 9, 8), None), (shared(5, 11, 11, 10), None), (shared(5, 11, 11, 11), None),
    (shared(5, 4, 9, 8), None),
    (same(4), 30), (same(8), 122), (same(16), 1170), (same(12), 356),
]

# What is known to be reachable otherwise, for the formats of `same`: the most that is acceptable.
TARGETS = {(8, 1): 240, (12, 1): 1430, (16, 1): 7110, (16, 2): 2240}


def name(value: object) -> str:
    if isinstance(value, dict):
        return "-".join(str(each) for each in value.values()).replace(" ", "")
    return str(value)


def chunks(z: SQ) -> Iterator[np.ndarray]:
    """Every code, in arrays that share their ends, so that no step between two is missed."""
    for start in range(z.min, z.max, CHUNK):
        yield np.arange(start, min(start + CHUNK, z.max) + 1)


def exactly(codes: np.ndarray, f: int) -> np.ndarray:
    """Floor of the sigmoid of ``code * 2**-f`` and of the tanh of half of it, by mpmath.

    Returns
    -------
    int64 array, 2 x codes
        With `TRUTH_BITS` fraction bits.
    """
    one = 1 << 2 * TRUTH_BITS
    result = []
    with mpmath.workprec(2 * TRUTH_BITS):
        for code in codes.tolist():
            power = int(mpmath.ldexp(mpmath.exp(mpmath.ldexp(-code, -f)), 2 * TRUTH_BITS))
            result.append(((one << TRUTH_BITS) // (one + power),
                           int(mpmath.floor(mpmath.ldexp(
                               mpmath.tanh(mpmath.ldexp(code, -f - 1)), TRUTH_BITS)))))
    return np.array(result, dtype=np.int64).T


@cache
def truth(z: SQ) -> np.ndarray:
    """:func:`exactly` for every code of a format."""
    return exactly(np.arange(z.min, z.max + 1), z.f)


def in_float64(codes: np.ndarray, f: int) -> np.ndarray:
    """What :func:`exactly` gives, as real numbers; by another formula than the generator's."""
    x = np.ldexp(codes.astype(np.float64), -f)
    return np.array([1 / (1 + np.exp(-x)), 1 - 2 / (np.exp(x) + 1)])


def check_exact(table: Table, codes: np.ndarray, expected: np.ndarray) -> None:
    """Less than 1 ulp off, by integers: one unit of the truth is allowed for its floor."""
    for reading, one in enumerate(table.readings):
        unit = 1 << TRUTH_BITS - one.result.f
        error = np.abs(table.evaluate(codes, reading) * unit - expected[reading])
        assert error.max() < unit - 1, one


def doubtful(table: Table, codes: np.ndarray) -> np.ndarray:
    """Codes where float64 might not decide, or where the error is largest."""
    chosen = []
    for reading, value in enumerate(in_float64(codes, table.argument.f)):
        f = table.readings[reading].result.f
        ulps = np.ldexp(value, f)
        chosen.append(np.flatnonzero(np.abs(ulps - np.rint(ulps)) < 1e-6))
        error = np.abs(table.evaluate(codes, reading) - ulps)
        chosen.append(np.argpartition(error, -200)[-200:])
    return codes[np.unique(np.concatenate(chosen))]


def check_faithful(table: Table) -> None:
    """Less than 1 ulp off on every code, the most negative one included."""
    z = table.argument
    if z.width <= EXACT_BITS:
        check_exact(table, np.arange(z.min, z.max + 1), truth(z))
        return
    rng = np.random.default_rng(7)
    for codes in chunks(z):
        for reading, value in enumerate(in_float64(codes, z.f)):
            one = table.readings[reading].result
            assert np.abs(one.to_real(table.evaluate(codes, reading)) - value).max() < one.ulp
        dense = np.r_[doubtful(table, codes), codes[rng.integers(509)::509]]
        check_exact(table, dense, exactly(dense, z.f))


def check_monotone(table: Table) -> None:
    for codes in chunks(table.argument):
        for reading in (SIGMOID, TANH):
            assert (np.diff(table.evaluate(codes, reading)) >= 0).all()


def check_ends(table: Table) -> None:
    """Gates are exactly 0 and 1 at the ends, tanh exactly -1 and 1, and nothing lies beyond."""
    z = table.argument
    ends, gate, tanh = np.array([z.min, z.max]), *(one.result for one in table.readings)
    assert table.evaluate(ends, SIGMOID).tolist() == [0, 1 << gate.f]
    assert table.evaluate(ends, TANH).tolist() == [-(1 << tanh.f), 1 << tanh.f]
    zero = np.array([0])
    assert table.evaluate(zero, SIGMOID).tolist() == [1 << gate.f - 1]
    assert table.evaluate(zero, TANH).tolist() == [0]


def check_tails(table: Table) -> None:
    """Wherever 1 is the nearest code at the finer of the two, every code gives exactly 1."""
    z, (gate, tanh) = table.argument, (one.result for one in table.readings)
    # Half an ulp of the finer: 1 - sigmoid(x), and the half of 1 - tanh(x / 2).
    half = 2.0 ** -(max(gate.f, tanh.f + 1) + 1)
    constant = 0
    for codes in chunks(z):
        tail = codes[(codes > 0) & (1 / (1 + np.exp(codes * z.ulp)) <= half)]
        constant += len(tail)
        assert (table.evaluate(tail, SIGMOID) == 1 << gate.f).all()
        assert (table.evaluate(-tail, SIGMOID) == 0).all()
        assert (table.evaluate(tail, TANH) == 1 << tanh.f).all()
        assert (table.evaluate(-tail, TANH) == -(1 << tanh.f)).all()
    assert constant > 0


def check_symmetric(table: Table) -> None:
    for codes in chunks(table.argument):
        positive = codes[codes >= 0]
        for reading, one in ((SIGMOID, 1 << table.readings[SIGMOID].result.f), (TANH, 0)):
            left, right = (table.evaluate(side, reading) for side in (-positive, positive))
            assert (left == one - right).all()


def check_structure(table: Table) -> None:
    """What the hardware relies on."""
    splits = np.array(table.splits)
    assert (np.diff(splits) <= 0).all()
    assert (np.array(table.bases[:len(splits)]) % (1 << splits) == 0).all()
    differences = np.diff(table.knots)
    assert (differences >= 0).all()
    assert table.slope_bits <= 18
    assert table.place_bits <= 17
    assert (table.curvatures >= 0).all()
    assert (table.curvatures <= differences).all()
    assert (table.curvatures % (1 << table.curvature_shift) == 0).all()


def check(formats: dict[str, object], degree: int, bits: int | None) -> None:
    table = sigmoid_table(**formats, degree=degree)
    z = formats["z"]
    assert isinstance(z, SQ)
    assert (table.argument_of(SIGMOID), table.argument_of(TANH)) == (z, SQ(z.i - 1, z.f + 1))
    assert [one.result for one in table.readings] == [formats["gate"], formats["tanh"]]
    assert table.degree <= degree
    check_faithful(table)
    check_monotone(table)
    check_ends(table)
    check_tails(table)
    check_symmetric(table)
    check_structure(table)
    if bits is not None:
        assert table.bits == bits
        assert bits <= TARGETS.get((z.f, degree), bits)


@pytest.mark.parametrize(("formats", "bits"), sparse(LINEAR, every=4), ids=name)
def test_every_code(formats: dict[str, object], bits: int | None) -> None:
    check(formats, 1, bits)


@pytest.mark.parametrize(("formats", "bits"), sparse(QUADRATIC, every=4), ids=name)
def test_every_code_of_degree_2(formats: dict[str, object], bits: int | None) -> None:
    check(formats, 2, bits)
    if bits is not None:
        assert bits <= sigmoid_table(**formats).bits


def test_degree_2_is_the_most() -> None:
    """Where a curvature saves nothing, the linear table is given."""
    table = sigmoid_table(**shared(4, 5, 5, 5), degree=2)
    assert (table.degree, table.bits) == (1, 49)


@pytest.mark.slow
@pytest.mark.parametrize(("degree", "bits"), [(1, 24728), (2, 4912)])
def test_every_code_of_20_fraction_bits(degree: int, bits: int) -> None:
    check(same(20), degree, bits)


@pytest.mark.parametrize(("f", "bound", "bits"), [(8, 0.51, 784), (10, 0.51, 2244),
                                                  (8, 0.6, 385), (10, 0.6, 952)])
def test_bound(f: int, bound: float, bits: int) -> None:
    """A tighter bound is kept by both functions, and costs bits."""
    formats = same(f)
    table = sigmoid_table(**formats, bound=bound)
    codes = np.arange(table.argument.min, table.argument.max + 1)
    for reading, value in enumerate(truth(table.argument)):
        result = table.readings[reading].result
        error = np.abs(np.ldexp((table.evaluate(codes, reading) << TRUTH_BITS - result.f) - value,
                                result.f - TRUTH_BITS))
        # A table that used much less than the bound would not be the smallest.
        assert 0.9 * bound < error.max() <= bound
    for each in (check_monotone, check_ends, check_tails, check_symmetric, check_structure):
        each(table)
    assert table.bits == bits
    assert bits > sigmoid_table(**formats).bits


def test_small_decoder() -> None:
    """The table of the unit at 12 bits: two splits, and differences of 9 bits."""
    table = sigmoid_table(**same(12), splits=(2, 4), slope_bits=9)
    assert set(table.splits) == {2, 4}
    assert table.slope_bits == 9
    assert table.bits == 1326
    for each in (check_faithful, check_monotone, check_ends, check_tails, check_symmetric,
                 check_structure):
        each(table)


@pytest.mark.parametrize(("f", "bits"), [(2, 3), (7, 4), (10, 4), (11, 5), (12, 5), (15, 5),
                                         (17, 5), (22, 5), (23, 6)])
def test_tail_integer_bits(f: int, bits: int) -> None:
    """Two to the bits less one is the first power above the tail's start, (f + 1) ln 2."""
    assert 2.0 ** (bits - 2) <= (f + 1) * log(2) < 2.0 ** (bits - 1)
    assert tail_integer_bits(f) == bits


def check_against(table: Table, function: Callable[[Fraction], Fraction], error: Fraction, *,
                  strict: bool = False) -> None:
    """At most ``error`` ulp off on every code, or below it where ``strict``; all in Fractions."""
    z, result = table.argument, table.readings[0].result
    codes = range(z.min, z.max + 1)
    for code, value in zip(codes, table.evaluate(np.array(codes)).tolist(), strict=True):
        off = abs(value - function(Fraction(code, 1 << z.f)) * (1 << result.f))
        assert off < error or (off == error and not strict), code


@pytest.mark.parametrize("gate", [UQ(1, 4), UQ(1, 7), UQ(1, 8), UQ(1, 11)], ids=str)
@pytest.mark.parametrize("z", [SQ(3, 3), SQ(4, 2), SQ(4, 8), SQ(5, 7)], ids=str)
@pytest.mark.parametrize("function", [hard_sigmoid_onnx, hard_sigmoid_keras2, hard_sigmoid_relu6])
def test_hard_sigmoid(function: Callable[[Fraction], Fraction], z: SQ, gate: UQ) -> None:
    options = {"alpha": 1 / 6} if function is hard_sigmoid_relu6 else {}
    table = hard_sigmoid_table(z=z, gate=gate, **options)
    check_against(table, function, Fraction(1, 2))
    assert table.readings[0].name == "hard_sigmoid"
    assert table.evaluate(np.array([z.min, z.max])).tolist() == [0, 1 << gate.f]


def test_hard_sigmoid_of_another_slope() -> None:
    """With its corners between two codes."""
    table = hard_sigmoid_table(z=SQ(3, 4), gate=UQ(1, 6), alpha=0.75)
    check_against(table, lambda x: hard_sigmoid_onnx(x, alpha=Fraction(3, 4)), Fraction(1, 2))


@pytest.mark.parametrize("result", [SQ(2, 3), SQ(2, 7), SQ(2, 8), SQ(3, 11)], ids=str)
@pytest.mark.parametrize("argument", [SQ(3, 3), SQ(2, 7), SQ(4, 8), SQ(3, 10)], ids=str)
def test_hard_tanh(argument: SQ, result: SQ) -> None:
    table = hard_tanh_table(argument=argument, result=result)
    check_against(table, hard_tanh, Fraction(1, 2))
    assert table.readings[0].name == "hard_tanh"


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize(("argument", "result"), [
    (SQ(3, 4), SQ(1, 6)), (SQ(5, 6), SQ(2, 8)), (SQ(4, 9), SQ(1, 9))], ids=str)
def test_softsign(argument: SQ, result: SQ, degree: int) -> None:
    """The example of a function of one's own: faithful on every code."""
    table = function_table(lambda x: x / (1 + abs(x)), argument=argument, result=result,
                           degree=degree, name="softsign")
    check_against(table, softsign, Fraction(1), strict=True)
    codes = np.arange(argument.min, argument.max + 1)
    assert (np.diff(table.evaluate(codes)) >= 0).all()
    assert (table.evaluate(-codes[1:]) == -table.evaluate(codes[1:])).all()


def test_function_with_a_centre() -> None:
    """One that is not 0 at 0, in a result that is not centred at 0 either."""
    table = function_table(lambda x: 2.75 + x / (1 + np.abs(x)), argument=SQ(4, 5),
                           result=UQ(2, 7), bound=0.625, name="lifted softsign")
    assert table.readings[0].centre == 352
    assert table.readings[0].name == "lifted_softsign"
    check_against(table, lambda x: Fraction(11, 4) + softsign(x), Fraction(5, 8))


def test_straight_and_constant_functions() -> None:
    table = function_table(lambda x: x, argument=SQ(2, 5), result=SQ(2, 6))
    codes = np.arange(-64, 64)
    assert table.evaluate(codes).tolist() == (2 * codes).tolist()
    table = function_table(lambda x: 0 * x - 0.5, argument=SQ(3, 3), result=SQ(1, 4))
    assert table.evaluate(np.arange(-32, 32)).tolist() == [-8] * 64
    assert table.segments == 1


def formats(**changed: object) -> dict[str, object]:
    return {"z": SQ(5, 15), "gate": UQ(1, 15), "tanh": SQ(2, 14), **changed}


@pytest.mark.parametrize(("wrong", "text"), [
    (formats(gate=UQ(2, 15)), "gate format must be UQ(1, f) with f of at least 2, not UQ(2, 15)"),
    (formats(gate=SQ(1, 15)), "gate format must be UQ(1, f) with f of at least 2, not SQ(1, 15)"),
    (formats(gate=UQ(1, 1)), "gate format must be UQ(1, f) with f of at least 2, not UQ(1, 1)"),
    (formats(tanh=SQ(1, 14)), "tanh format must be SQ(2, f) with f of at least 1, not SQ(1, 14)"),
    (formats(tanh=UQ(2, 14)), "tanh format must be SQ(2, f) with f of at least 1, not UQ(2, 14)"),
    (formats(tanh=SQ(2, 0)), "tanh format must be SQ(2, f) with f of at least 1, not SQ(2, 0)"),
    (formats(tanh=SQ(2, 16)), "tanh format SQ(2, 16) must not be finer than the gate format "
                              "UQ(1, 15)"),
    (formats(z=SQ(4, 15)), "preactivation format must be SQ(i, f) with i of at least 5, or the "
                           "sigmoid in UQ(1, 15) never reaches 0 and 1; not SQ(4, 15)"),
    (formats(z=UQ(5, 15)), "preactivation format must be SQ(i, f) with i of at least 5, or the "
                           "sigmoid in UQ(1, 15) never reaches 0 and 1; not UQ(5, 15)"),
    # A tanh as fine as the gate needs the sigmoid a bit finer, and so more of its tail.
    (formats(z=SQ(4, 10), gate=UQ(1, 10), tanh=SQ(2, 10)),
     "preactivation format must be SQ(i, f) with i of at least 5, or the sigmoid in UQ(1, 10) "
     "never reaches 0 and 1; not SQ(4, 10)"),
    (formats(z=SQ(5, 0)), "preactivation format must have a fraction bit at least, not SQ(5, 0)"),
    (formats(z=SQ(5, 4), slope_bits=3),
     "no table of degree 1 over SQ(5, 4) with differences of 3 bits is faithful in UQ(1, 15) and "
     "SQ(2, 14)"),
])
def test_wrong_formats(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        sigmoid_table(**wrong)


@pytest.mark.parametrize(("alpha", "text"), [
    (0.0, "alpha of the hard sigmoid must be positive, not 0.0"),
    (-0.2, "alpha of the hard sigmoid must be positive, not -0.2"),
    (float("nan"), "alpha of the hard sigmoid must be positive, not nan"),
])
def test_wrong_alpha(alpha: float, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        hard_sigmoid_table(z=SQ(4, 8), gate=UQ(1, 8), alpha=alpha)


def test_hard_sigmoid_that_its_result_cannot_hold() -> None:
    text = ("hard sigmoid must stay within UQ(0, 8), from 0.0 to 0.99609375, but goes from 0.0 to "
            "1.0")
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        hard_sigmoid_table(z=SQ(4, 8), gate=UQ(0, 8))


def broken(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 1 / (x - 0.5)


@pytest.mark.parametrize(("function", "text"), [
    (lambda x: x[1:], "function must give an array of the shape of its argument, (33,), "
                      "not (32,)"),
    (lambda x: 0.0, "function must give an array of the shape of its argument, (33,), not ()"),
    (broken, "function must be finite, but is not at 0.5"),
    (lambda x: np.where(x < -3, np.nan, x), "function must be finite, but is not at -3.125"),
    (lambda x: -x, "function must not fall, but does from 0.0 on"),
    (lambda x: np.where(x < 2, x, 2 * np.sign(x) - 0.25 * x), "function must not fall, but does "
                                                             "from 1.875 on"),
    (lambda x: np.maximum(x, 0), "function must be symmetric about its value at 0, 0.0, but is "
                                 "0.0 at -0.125 and 0.125 at 0.125"),
    (lambda x: x + 0.03, "function at 0, 0.03, must be a code of SQ(3, 4)"),
    (lambda x: 2 * x, "function must stay within SQ(3, 4), from -4.0 to 3.9375, but goes from "
                      "-8.0 to 7.75"),
    (lambda x: x - 2, "function must stay within SQ(3, 4), from -4.0 to 3.9375, but goes from "
                      "-6.0 to 1.875"),
])
def test_wrong_functions(function: Callable[[np.ndarray], np.ndarray], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        function_table(function, argument=SQ(3, 3), result=SQ(3, 4))


@pytest.mark.parametrize(("argument", "result"), [(UQ(3, 3), SQ(3, 4)), (SQ(3, 3), 4)], ids=str)
def test_wrong_formats_of_a_function(argument: SQ, result: SQ) -> None:
    text = (f"formats of the function's argument and result must be SQ and SQ or UQ, "
            f"not {argument} and {result}")
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        function_table(lambda x: x / 2, argument=argument, result=result)


def test_a_function_is_called_by_its_name() -> None:
    text = "ramp must not fall, but does from 0.0 on"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        function_table(lambda x: -x, argument=SQ(3, 3), result=SQ(3, 4), name="ramp")
    text = "name of a table's reading must be an identifier, not 'a-ramp'"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        function_table(lambda x: x / 2, argument=SQ(3, 3), result=SQ(3, 4), name="a-ramp")


def test_the_whole_range_of_a_format() -> None:
    """The opposite of the lowest code is no code: it need not fit."""
    table = function_table(lambda x: x, argument=SQ(3, 4), result=SQ(3, 4))
    codes = np.arange(-64, 64)
    assert table.evaluate(codes).tolist() == codes.tolist()


@pytest.mark.parametrize(("argument", "result"), [(UQ(3, 4), SQ(3, 4)), (SQ(3, 4), 7)], ids=str)
def test_formats_of_no_function(argument: SQ, result: SQ) -> None:
    text = (f"formats of the function's argument and result must be SQ and SQ or UQ, not "
            f"{argument} and {result}")
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        function_table(lambda x: x, argument=argument, result=result)


@pytest.mark.parametrize(("f", "i"), [(3, 3), (4, 3), (5, 3)])
def test_degree_2_is_never_larger(f: int, i: int) -> None:
    formats = {"z": SQ(max(i, tail_integer_bits(f + 1)), f), "gate": UQ(1, f), "tanh": SQ(2, f)}
    assert sigmoid_table(**formats, degree=2).bits <= sigmoid_table(**formats).bits
