"""What sequences make a bit-true network do, of all that it can do.

A *point* is something that a good test makes happen once at least. They come in groups:

==============  ================================================================================
``saturation``  Each tensor that saturates: below its format, above it.
``ends``        Each function of a layer, and each gate for itself: its lowest value, its highest
                one. Of a gate that is exactly 0 and exactly 1.
``segments``    Each segment of the table that a function reads: for negative arguments, for the
                others.
==============  ================================================================================

Some points cannot happen, whatever comes in: an interval bound over the actual weights and the
formats of what they are multiplied with says so. It says nothing wrong, but it may miss some.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from golden.activation import SIGMOID
from golden.bidirectional import QuantizedBidirectional, merge_fraction
from golden.checks import valid_steps
from golden.fixed import SQ, Format, round_saturate
from golden.formats import Curve
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from golden.result import LSTMCodes, Result
from golden.table import Table

__all__ = ["labels", "possible", "reached"]

Range = tuple[int, int]


@dataclass(frozen=True, eq=False)
class _Function:
    """A function with all of its arguments.

    Parameters
    ----------
    curve : Curve
    table : Table
    reading : int
    codes : int64 array
        The arguments; any shape.
    """

    curve: Curve
    table: Table
    reading: int
    codes: np.ndarray

    def value(self) -> np.ndarray:
        """What it gives for each."""
        codes = np.clip(self.codes, self.curve.low, self.curve.high)
        return self.table.evaluate(codes, self.reading) if self.curve.table else codes

    def over(self, codes: Sequence[int]) -> "_Function":
        """The same function of other arguments."""
        return replace(self, codes=np.array(codes))

    @property
    def ends(self) -> np.ndarray:
        """The lowest and the highest value."""
        return self.over((self.curve.low, self.curve.high)).value()

    def segments(self) -> np.ndarray:
        """Numbers of the segments: first those of negative arguments, then those of the others."""
        codes = np.clip(self.codes, self.curve.low, self.curve.high)
        return self.table.segment(codes) + np.where(codes < 0, 0, self.table.segments)


def labels(name: str, count: int) -> list[str]:
    """What the points are, of a name of :func:`reached` with so many."""
    group = name.partition(".")[0]
    if group == "saturation":
        return ["below", "above"]
    if group == "ends":
        return ["lowest", "highest"]
    return [f"segment {number}, {side}" for side in ("negative", "positive")
            for number in range(count // 2)]


def _functions(layer: QuantizedLSTM, z: Sequence[np.ndarray], u: np.ndarray
               ) -> dict[str, _Function]:
    """The functions of a layer, from the preactivations of i, f, g and o, and from u."""
    table = layer.table
    made = {name: _Function(layer.gate, table, SIGMOID, codes)
            for name, codes in zip("ifo", (z[0], z[1], z[3]), strict=True)}
    made["g"] = _Function(layer.of_candidate, table, layer.candidate_reading, z[2])
    made["cell"] = _Function(layer.of_cell, table, layer.cell_reading, u)
    return made


def reached(network: QuantizedNetwork, result: Result, lengths: np.ndarray
            ) -> dict[str, np.ndarray]:
    """How often each sequence reached each point.

    Parameters
    ----------
    network : QuantizedNetwork
    result : Result
        Of a run with ``trace``.
    lengths : int64 array, B

    Returns
    -------
    dict of str to int64 array, B x K
        By group, tensor or function: ``saturation.lstm0.z``, ``segments.lstm0.gates``.
        :func:`labels` says what the K points are.
    """
    if result.layers is None or result.behind is None:
        raise ValueError("result must be that of a run with trace")
    found: dict[str, np.ndarray] = {}
    valid = valid_steps(lengths, result.layers[0].h.shape[1])
    for name, layer, codes in zip(network.direction_names, network.directions, result.layers,
                                  strict=True):
        found |= _of_layer(name, layer, codes, valid)
    where = valid if network.every_step else np.ones((len(lengths), 1), dtype=bool)
    given = result.behind.reshape(*where.shape, -1)
    of = iter(result.layers)
    for number, each in enumerate(network.layers):
        ways = [next(of) for _ in each.directions]
        if isinstance(each, QuantizedBidirectional) and each.merge != "concat":
            p, q = (codes.h for codes in ways)
            exact = _rounded(p * q if each.merge == "mul" else p + q,
                             merge_fraction(each.merge, each.formats.h), each.y.f)
            found[f"saturation.lstm{number}.y"] = _sides(exact, each.y.min, each.y.max, valid)
    for number, dense in enumerate(network.head):
        z = _rounded(given @ dense.w.T + dense.bias, dense.formats.product_fraction,
                     dense.formats.z.f)
        found[f"saturation.dense{number}.y"] = _sides(
            z, *dense.curve.flagged(dense.formats.z), where)
        given = np.clip(z, dense.curve.low, dense.curve.high)
        if dense.curve.table:
            function = _Function(dense.curve, dense.table, dense.reading, z)
            found |= (_of_ends(f"dense{number}", function, where)
                      | _of_segments(f"dense{number}", function, where))
            given = function.value()
    return found


def _of_layer(name: str, layer: QuantizedLSTM, codes: LSTMCodes, valid: np.ndarray
              ) -> dict[str, np.ndarray]:
    found = {}
    outside = (codes.outside * valid[:, :, None]).sum(axis=1)
    for number, tensor in enumerate(layer.saturating):
        found[f"saturation.{name}.{tensor}"] = outside[:, 2 * number:2 * number + 2]
    functions = _functions(layer, np.split(codes.z, 4, axis=2), codes.u)
    for which, function in functions.items():
        found |= _of_ends(f"{name}.{which}", function, valid)
    if layer.gate.table:
        # All three read it in the same way.
        together = np.concatenate([functions[which].codes for which in "ifo"], axis=2)
        found |= _of_segments(f"{name}.gates", replace(functions["i"], codes=together), valid)
    for which in ("g", "cell"):
        if functions[which].curve.table:
            found |= _of_segments(f"{name}.{which}", functions[which], valid)
    return found


def _of_ends(name: str, function: _Function, valid: np.ndarray) -> dict[str, np.ndarray]:
    values = function.value()
    return {f"ends.{name}": np.stack([((values == end) & valid[:, :, None]).sum(axis=(1, 2))
                                      for end in function.ends], axis=1)}


def _of_segments(name: str, function: _Function, valid: np.ndarray) -> dict[str, np.ndarray]:
    count, numbers = 2 * function.table.segments, function.segments()
    # Each sequence counts in a stretch of its own.
    own = numbers + count * np.arange(len(numbers))[:, None, None]
    return {f"segments.{name}": np.bincount(own[valid].ravel(), minlength=count * len(numbers))
            .reshape(-1, count)}


def _sides(values: np.ndarray, low: float, high: float, valid: np.ndarray) -> np.ndarray:
    return np.stack([(side & valid[:, :, None]).sum(axis=(1, 2))
                     for side in (values < low, values > high)], axis=1)


def _rounded(exact: np.ndarray, f: int, to: int) -> np.ndarray:
    """To nearest even with so many fraction bits, and never saturated."""
    return round_saturate(exact, f, SQ(63 - to, to))[0]


def possible(network: QuantizedNetwork) -> dict[str, np.ndarray]:
    """Which points can happen, for all that the bounds say: bool arrays, by names as above."""
    found: dict[str, np.ndarray] = {}
    for name, layer in zip(network.direction_names, network.directions, strict=True):
        found |= dict(_possible_in_layer(name, layer))
    for number, each in enumerate(network.layers):
        if isinstance(each, QuantizedBidirectional) and each.merge != "concat":
            h = each.formats.h.min, each.formats.h.max
            exact = _times(h, h) if each.merge == "mul" else (2 * h[0], 2 * h[1])
            found[f"saturation.lstm{number}.y"] = _beyond(
                _round_range(exact, merge_fraction(each.merge, each.formats.h), each.y.f),
                each.y.min, each.y.max)
    for number, dense in enumerate(network.head):
        reach = _dense_range(dense)
        found[f"saturation.dense{number}.y"] = _beyond(
            reach, *dense.curve.flagged(dense.formats.z))
        if dense.curve.table:
            function = _Function(dense.curve, dense.table, dense.reading, np.array(reach))
            found |= {f"ends.dense{number}": _possible_ends(function),
                      f"segments.dense{number}": _possible_segments(function)}
    return found


def _possible_in_layer(name: str, layer: QuantizedLSTM) -> Iterator[tuple[str, np.ndarray]]:
    formats = layer.formats
    z = _preactivations(layer)
    gate, g = layer.gate.flagged(formats.z), layer.of_candidate.flagged(layer.candidate)
    sides = [_beyond(reach, *(g if number == 2 else gate)) for number, reach in enumerate(z)]
    yield f"saturation.{name}.z", np.any(sides, axis=0)

    c_range = formats.c.min, formats.c.max
    some = _functions(layer, [np.array(reach) for reach in z], np.zeros(1, dtype=np.int64))
    values = {which: _span(some[which].value()) for which in "ifgo"}
    fraction = formats.state_fraction
    total = tuple(a + b for a, b in zip(
        (part << fraction - formats.gate.f - formats.c.f
         for part in _times(values["f"], c_range)),
        (part << fraction - formats.gate.f - formats.g.f
         for part in _times(values["i"], values["g"])), strict=True))
    yield f"saturation.{name}.c", _beyond(_round_range(total, fraction, formats.c.f), *c_range)
    if layer.of_cell.table:
        u = _round_range(total, fraction, layer.squashed.f)
        yield f"saturation.{name}.u", _beyond(u, layer.squashed.min, layer.squashed.max)
    elif layer.slope:
        line = _times((layer.slope.a, layer.slope.a), c_range)
        u = _round_range((line[0] + layer.slope.b, line[1] + layer.slope.b),
                         layer.slope.f + formats.c.f, formats.s.f)
        yield f"saturation.{name}.u", _beyond(u, *layer.of_cell.flagged(formats.s))
    else:
        u = c_range
        yield f"saturation.{name}.u", np.zeros(2, dtype=bool)

    functions = _functions(layer, [np.array(reach) for reach in z], np.array(u))
    out = _times(values["o"], _span(functions["cell"].value()))
    yield (f"saturation.{name}.{'h' if layer.projection is None else 'm'}",
           _beyond(_round_range(out, formats.gate.f + formats.s.f, formats.m.f),
                   formats.m.min, formats.m.max))
    if layer.projector:
        yield f"saturation.{name}.h", _beyond(_dense_range(layer.projector), formats.h.min,
                                              formats.h.max)
    for which, function in functions.items():
        yield f"ends.{name}.{which}", _possible_ends(function)
    gates = [z[number] for number in (0, 1, 3)]
    functions["gates"] = functions["i"].over((min(low for low, _ in gates),
                                              max(high for _, high in gates)))
    for which in ("gates", "g", "cell"):
        if functions[which].curve.table:
            yield f"segments.{name}.{which}", _possible_segments(functions[which])


def _preactivations(layer: QuantizedLSTM) -> list[Range]:
    """Between which codes those of i, f, g and o are, before they saturate."""
    formats = layer.formats
    low = high = layer.bias
    parts = [(layer.w_x, formats.x), (layer.w_h, formats.h)]
    if layer.peepholes is not None:
        i, f, o = np.split(layer.peepholes << layer.peephole_shift, 3)
        parts.append((np.concatenate([i, f, np.zeros_like(f), o])[:, None], formats.c))
    for w, operand in parts:
        ends = np.stack([w * operand.min, w * operand.max])
        low, high = low + ends.min(axis=0).sum(axis=1), high + ends.max(axis=0).sum(axis=1)
    fractions = [formats.z.f] * 4
    if layer.of_candidate.table:
        fractions[2] = layer.candidate.f
    return [_round_range((int(least.min()), int(most.max())), formats.product_fraction, f)
            for least, most, f in zip(np.split(low, 4), np.split(high, 4), fractions,
                                      strict=True)]


def _dense_range(dense: QuantizedDense) -> Range:
    x: Format = dense.formats.x
    ends = np.stack([dense.w * x.min, dense.w * x.max])
    return _round_range((int((ends.min(axis=0).sum(axis=1) + dense.bias).min()),
                         int((ends.max(axis=0).sum(axis=1) + dense.bias).max())),
                        dense.formats.product_fraction, dense.formats.z.f)


def _times(a: Range, b: Range) -> Range:
    products = [one * other for one in a for other in b]
    return min(products), max(products)


def _span(values: np.ndarray) -> Range:
    return int(values.min()), int(values.max())


def _round_range(exact: Sequence[int], f: int, to: int) -> Range:
    low, high = _rounded(np.array(exact, dtype=np.int64), f, to).tolist()
    return low, high


def _beyond(reach: Range, low: float, high: float) -> np.ndarray:
    return np.array([reach[0] < low, reach[1] > high])


def _possible_ends(function: _Function) -> np.ndarray:
    # The functions do not fall.
    low, high = function.value()
    return np.array([low, high]) == function.ends


def _possible_segments(function: _Function) -> np.ndarray:
    """Those between the least and the greatest argument, on both sides of 0."""
    low, high = np.clip(function.codes, function.curve.low, function.curve.high).tolist()
    found = np.zeros(2 * function.table.segments, dtype=bool)
    for side in ((low, min(high, -1)), (max(low, 0), high)):
        if side[0] <= side[1]:
            first, last = np.sort(function.over(side).segments())
            found[first:last + 1] = True
    return found
