"""How good a quantised network is: beside its float model, and by a measure of the user's own."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from math import isfinite
from pathlib import Path
from types import ModuleType

import numpy as np

from golden.checks import valid_steps
from golden.model import Network
from golden.quantized_network import QuantizedNetwork

__all__ = ["Accuracy", "Metric", "MetricError", "compare", "load_metric", "mean_squared_error"]

Metric = Callable[[np.ndarray, np.ndarray], float]
"""From outputs and targets, real numbers of the shape (outputs, O) both, to one number."""


class MetricError(ValueError):
    """A measure that cannot be loaded, or does not work on this data."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What a network does on data.

    Parameters
    ----------
    sequences, steps : int
        How much data.
    metric : str or None
        The measure's name; None where the data has no targets.
    float_model, bit_true : float or None
        The measure on the float model's outputs and on the bit-true network's.
    largest_difference : float
        Between an output of the one and of the other.
    mean_squared_difference : float
    saturated : dict
        For each tensor, how many of its values lay outside its format.
    """

    sequences: int
    steps: int
    metric: str | None
    float_model: float | None
    bit_true: float | None
    largest_difference: float
    mean_squared_difference: float
    saturated: dict[str, int]


def mean_squared_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The measure where the user names none."""
    return float(np.mean((outputs - targets) ** 2))


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class _Loader(SourceFileLoader):
    """Runs a file without leaving compiled code in its folder, which is the user's."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        del path, data, _mode


def load_metric(spec: str) -> Metric:
    """The function that ``FILE.py:FUNCTION`` names; the file is run.

    Raises
    ------
    MetricError
        If there is no such file or function, or the file cannot be run.
    """
    file, _, name = spec.rpartition(":")
    if not file or not name:
        raise MetricError(f"metric must be FILE.py:FUNCTION, not {spec}")
    if not Path(file).is_file():
        raise MetricError(f"metric {spec}: there is no file {file}")
    if Path(file).suffix != ".py":
        raise MetricError(f"metric {spec}: {file} is not a Python file")
    loader = _Loader(Path(file).stem, file)
    module = ModuleType(loader.name)
    module.__file__ = file
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise MetricError(f"metric {spec}: {file} cannot be run: {_sentence(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise MetricError(f"metric {spec}: {file} has no function {name}")
    metric: Metric = function
    return metric


def _name(metric: Metric) -> str:
    return getattr(metric, "__name__", type(metric).__name__).replace("_", " ")


def _measure(metric: Metric, outputs: np.ndarray, targets: np.ndarray) -> float:
    try:
        value = float(metric(outputs, targets))
    except (Exception, SystemExit) as error:
        raise MetricError(f"metric {_name(metric)}: fails: {_sentence(error)}") from error
    if not isfinite(value):
        raise MetricError(f"metric {_name(metric)}: must give a finite number, not {value}")
    return value


def compare(network: Network, quantized: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray,
            y: np.ndarray | None = None, metric: Metric = mean_squared_error) -> Accuracy:
    """Run the float model and the bit-true network on all the data.

    Parameters
    ----------
    network : Network
    quantized : QuantizedNetwork
        Made from it.
    x : float array, B x T x N
    lengths : int array, B
    y : float array, B x O or B x T x O, optional
        Targets, shaped as the outputs are.
    metric : callable
        Called with outputs and targets as (outputs, O): one row a sequence, or one a step, those
        beyond the end of a sequence left out.

    Raises
    ------
    ValueError
        If the data does not fit the network.
    MetricError
        If the measure fails.
    """
    result = quantized.run_real(x, lengths)
    reference = network.run(x, lengths)
    if y is not None and y.shape != reference.shape:
        raise ValueError(f"targets 'y' must have the shape {list(reference.shape)} of the "
                         f"outputs, not {list(y.shape)}")
    rows = (valid_steps(np.asarray(lengths), x.shape[1]) if quantized.every_step
            else slice(None))
    floating, fixed = reference[rows], result.real[rows]
    return Accuracy(
        sequences=len(x), steps=int(np.sum(lengths)),
        metric=None if y is None else _name(metric),
        float_model=None if y is None else _measure(metric, floating, y[rows]),
        bit_true=None if y is None else _measure(metric, fixed, y[rows]),
        largest_difference=float(np.abs(fixed - floating).max()),
        mean_squared_difference=float(np.mean((fixed - floating) ** 2)),
        saturated=result.saturated)
