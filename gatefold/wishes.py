"""What is wanted of a core: what can be wrong with it, told before any of the work."""

from collections.abc import Callable
from math import inf
from numbers import Real
from operator import index
from typing import Any, TypeVar

from gatefold.errors import InputError, blaming
from golden.data import Sequences
from golden.model import Network
from golden.order import kept_whole
from hdl.foldings import check_array
from hdl.pipeline import PIPELINES

__all__ = ["check_pipeline", "check_shape", "longest_of", "optional", "positive",
           "positive_real"]

Number = TypeVar("Number")


def positive(name: str, value: Any) -> int:
    """A positive integer, NumPy's too.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        number = 0 if isinstance(value, bool) else index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"{name} must be a positive integer, not {value!r}")
    return number


def positive_real(name: str, value: object) -> float:
    """A positive number.

    Raises
    ------
    InputError
        If it is none.
    """
    number = float(value) if isinstance(value, Real) else 0.0
    if not 0 < number < inf:
        raise InputError(f"{name} must be a positive number, not {value!r}")
    return number


def optional(check: Callable[[str, object], Number], name: str, value: object) -> Number | None:
    """What a check makes of a value, or None where that is not given."""
    return None if value is None else check(name, value)


def check_pipeline(pipeline: str | None) -> None:
    """See whether there is such a pipeline.

    Raises
    ------
    InputError
        If not.
    """
    if pipeline is not None and pipeline not in tuple(PIPELINES):
        raise InputError(f"pipeline must be one of {', '.join(PIPELINES)}, not {pipeline!r}")


def check_shape(network: Network, *, units: int | None, columns: int | None,
                streams: int | None) -> None:
    """See whether the layers have so many units and columns, and may have so many streams.

    Raises
    ------
    InputError
        If not.
    """
    for layer in network.layers:
        one = layer.directions[0]
        with blaming("folding"):
            check_array(one.inputs, one.hidden, units=units, columns=columns,
                        projected=None if one.projection is None else one.outputs)
    if streams is not None and streams > 1 and any(kept_whole(network)):
        raise InputError(f"streams must be 1 where a layer reads from the end, not {streams}")


def longest_of(longest: int | None, data: Sequences) -> int:
    """Steps of a sequence, at most: as given, or those of the longest in the data.

    Raises
    ------
    InputError
        If a sequence of the data is longer.
    """
    most = int(data.lengths.max())
    if longest is None:
        return most
    if longest < most:
        raise InputError(f"longest must be at least the {most} steps of the longest sequence in "
                         f"the data, not {longest}")
    return longest
