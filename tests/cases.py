"""Cases of a test, thinned out for the quick suite."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest

__all__ = ["sparse", "thinned"]


def _spread(parts: Iterable[Any], *, slow: bool) -> Any:
    """A case whose tuples are spread over as many parameters."""
    return pytest.param(*(part for each in parts
                          for part in (each if isinstance(each, tuple) else (each,))),
                        marks=[pytest.mark.slow] if slow else [])


def sparse(cases: Iterable[Any], *, every: int) -> list[Any]:
    """All cases, slow but for every n-th."""
    return [_spread([case], slow=n % every > 0) for n, case in enumerate(cases)]


def thinned(first: Iterable[Any], second: Iterable[Any], *, every: int) -> list[Any]:
    """Each of the first with each of the second; all are slow but those on every n-th diagonal.

    So each one still meets one or more of the others in the quick suite.
    """
    return [_spread([one, other], slow=(n + k) % every > 0)
            for (n, one), (k, other) in product(enumerate(first), enumerate(second))]
