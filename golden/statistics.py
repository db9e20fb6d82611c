"""What a float network's tensors were on calibration data."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from golden.checks import sequence_lengths, valid_steps
from golden.lines import dense_line, is_unbounded
from golden.lstm import LSTM
from golden.model import Network
from golden.ranges import FARTHEST, Range

__all__ = ["PART", "Statistics"]

# Far beyond what a sensor gives, and near enough for powers of two to stay within float64.
LARGEST = 2.0**40

# Sequences run at once: the trace of a whole data set might not fit the memory.
PART = 256


class Statistics:
    """Ranges and mean squares of a float network's tensors, over all steps of all sequences.

    Attributes
    ----------
    x : array, steps x N
        The input without its padding.
    ranges : dict
        Range of ``x``, of each LSTM layer: ``z``, ``c``, ``m`` and ``h``, and ``g`` where it has
        no ends, and of each dense: ``y``, named like ``lstm0.z``.
    power : dict of arrays
        Mean square of each element of the input ``x``, and of each layer: of the hidden states
        ``h``, over its directions, and of what it gives, ``y``; named like ``lstm0.h``.
    """

    def __init__(self, network: Network, x: ArrayLike, lengths: ArrayLike | None) -> None:
        array = np.asarray(x)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"calibration data must be real numbers, not {array.dtype}")
        if array.ndim != 3 or array.shape[2] != network.inputs or not array.size:
            raise ValueError(f"calibration data must have the shape B x T x {network.inputs} and "
                             f"not be empty, not {' x '.join(map(str, array.shape)) or 'scalar'}")
        sequences, longest, _ = array.shape
        every = sequence_lengths(lengths, sequences, longest)
        self.x = array[valid_steps(every, longest)].astype(np.float64)
        if not np.isfinite(self.x).all():
            raise ValueError(f"calibration data must be finite, but "
                             f"{np.count_nonzero(~np.isfinite(self.x))} values are not")
        if np.abs(self.x).max() > LARGEST:
            raise ValueError(f"calibration data must be at most {LARGEST:g} in magnitude, not "
                             f"{np.abs(self.x).max():g}: scale it, and the weights against it")
        self.ranges: dict[str, Range] = {"x": Range.of(self.x)}
        self.power = {"x": (self.x**2).mean(axis=0)}
        recurrent = replace(network, head=())
        for first in range(0, sequences, PART):
            part = slice(first, first + PART)
            # What grows beyond all numbers is told of by its name.
            with np.errstate(over="ignore", invalid="ignore"):
                trace = recurrent.trace(array[part], every[part])
            traces = iter(trace.directions)
            for number, layer in enumerate(network.layers):
                outputs = []
                for of in layer.directions:
                    codes = next(traces)
                    for name in ("z", *("g" if is_unbounded(of.candidate) else ""), "c", "m", "h"):
                        self._see(f"lstm{number}.{name}", getattr(codes, name)[trace.valid])
                    if of.initial_c is not None:
                        self._see(f"lstm{number}.c", of.initial_c)
                    outputs.append(codes.h[trace.valid])
                    self._weigh(f"lstm{number}.h", outputs[-1], len(layer.directions))
                given = outputs[0] if isinstance(layer, LSTM) else layer.merged(outputs)
                self._see(f"lstm{number}.y", given)
                self._weigh(f"lstm{number}.y", given)
            y = trace.y[trace.valid] if network.every_step else trace.y
            for number, dense in enumerate(network.head):
                with np.errstate(over="ignore", invalid="ignore"):
                    y = (dense if dense.function.elementwise else dense_line(dense)).run(y)
                self._see(f"dense{number}.y", y)

    def _weigh(self, name: str, values: np.ndarray, parts: int = 1) -> None:
        """Add the squares of some rows of a tensor that has so many parts."""
        square = (values**2).sum(axis=0) / (parts * len(self.x))
        self.power[name] = self.power[name] + square if name in self.power else square

    def _see(self, name: str, values: np.ndarray) -> None:
        seen = Range.of(values)
        peak = max(-seen.low, seen.high)
        if not peak <= FARTHEST:
            raise ValueError(f"{name} must be at most {FARTHEST:g} in magnitude on the calibration "
                             f"data, not {peak:g}: see whether the model is damaged, or scale it")
        self.ranges[name] = self.ranges[name] | seen if name in self.ranges else seen
