"""Cases of a test, thinned out for the quick suite."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest

__all__ = ["thinned"]


def thinned(first: Iterable[Any], second: Iterable[Any], *, every: int) -> list[Any]:
    """Each of the first with each of the second; all are slow but those on every n-th diagonal.

    So each one still meets one or more of the others in the quick suite. What is a tuple is spread
    over as many parameters.
    """
    cases = []
    for (n, one), (k, other) in product(enumerate(first), enumerate(second)):
        spread = [part for each in (one, other)
                  for part in (each if isinstance(each, tuple) else (each,))]
        cases.append(pytest.param(*spread,
                                  marks=[pytest.mark.slow] if (n + k) % every else []))
    return cases
