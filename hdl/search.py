"""Searching the foldings of a whole network, from what each folding of each part takes."""

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from golden.derived import DERIVED, settle
from golden.quantized_network import QuantizedNetwork
from golden.state_name import tensors
from hdl.cycles import LSTMCycles, head_budget
from hdl.foldings import (
    Limits,
    Part,
    Shape,
    choose_folding,
    dense_parts,
    lstm_parts,
    outlet_part,
)
from hdl.pipeline import PIPELINES
from hdl.sequence_cycles import links

__all__ = ["Row", "Search", "Stack", "cycles_of", "latency_of", "memories_of", "multipliers_of",
           "pace_of", "size_of"]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """All that the choice must know of a network.

    Parameters
    ----------
    layers : tuple of Shape
        LSTM layers.
    head : tuple of Shape
        The dense layers behind them.
    streams : int
        S, independent sequences that take turns.
    every_step : bool
        Whether the head has every step, or each sequence's last one only.
    outlet : Shape
        Of what the last layer gives, where there is no dense layer; by default its hidden states.
    """

    layers: tuple[Shape, ...]
    head: tuple[Shape, ...]
    streams: int = 1
    every_step: bool = False
    outlet: Shape = DERIVED

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("stack must have one LSTM layer at least, not none")
        settle(self, outlet=self.layers[-1])
        if not isinstance(self.streams, int) or self.streams < 1:
            raise ValueError(f"streams must be a positive integer, not {self.streams!r}")
        if self.gathered and self.streams > 1:
            raise ValueError(f"streams must be 1 where a layer reads from the end, not "
                             f"{self.streams}")

    @property
    def gathered(self) -> bool:
        """Whether whole sequences are buffered."""
        return any(layer.before or layer.behind for layer in self.layers)

    @property
    def awaited(self) -> bool:
        """Whether a step of the head follows one of the last layer at once."""
        return self.every_step and not self.layers[-1].behind

    @classmethod
    def of(cls, network: QuantizedNetwork, streams: int = 1, longest: int = 1) -> "Stack":
        """That of a quantised network, for sequences of so many steps where they are buffered."""
        def bits(bias: Iterable[Any]) -> int:
            # Half an ulp comes with it, which may carry.
            return max(int(value).bit_length() for value in bias) + 2

        layers, between = [], [link if link.gathered else None for link in links(network)]
        for n, layer in enumerate(network.layers):
            formats, directions = layer.formats, layer.directions
            layers.append(Shape(
                inputs=layer.inputs, outputs=layer.hidden,
                weight_bits=max(formats.w_x.width, formats.w_h.width),
                bias_bits=max(bits(bias) for each in directions
                              for bias in (each.bias, each.first_bias)),
                column_bits=max(formats.x.width, formats.m.width, formats.h.width),
                state_bits=formats.c.width,
                lines=layer.lines, peepholes=directions[0].peepholes is not None,
                initial_h=any(each.initial_h.any() for each in directions),
                initial_c=any(each.initial_c.any() for each in directions),
                directions=len(directions), before=between[n],
                behind=between[-1] if n == len(network.layers) - 1 else None, longest=longest,
                projected=directions[0].projected,
                projection_bits=formats.w_r.width if formats.w_r else 16,
                finals=tensors(network.states, n)))
        head = tuple(Shape(
            inputs=dense.inputs, outputs=dense.outputs, weight_bits=dense.formats.w.width,
            bias_bits=bits(dense.bias), column_bits=dense.formats.x.width,
            tabled=dense.curve.table,
            vector=network.vector if number == len(network.head) - 1 else None)
            for number, dense in enumerate(network.head))
        last = network.layers[-1]
        return cls(layers=tuple(layers), head=head, streams=streams,
                   every_step=network.every_step, outlet=Shape(
                       inputs=last.outputs, outputs=last.outputs, column_bits=last.y.width))


Row = tuple[Part[Any], ...]
"""A part for each LSTM layer, then for each dense layer, or else for an outlet."""


def multipliers_of(row: Row) -> int:
    """All multipliers of a network."""
    return sum(part.multipliers for part in row)


def memories_of(row: Row) -> int:
    """All block RAMs of a network, an estimate."""
    return sum(part.memories for part in row)


def latency_of(row: Row) -> int:
    """Cycles from the last input of a step, on an idle network, to its last output."""
    return sum(part.latency for part in row)


def pace_of(row: Row) -> int:
    """Cycles of a round, in which every stream makes a step: those of the slowest part."""
    return max(part.round for part in row)


def cycles_of(row: Row) -> list[LSTMCycles]:
    """The cycle models of the layers."""
    return [part.cycles for part in row if part.cycles]


def size_of(row: Row) -> tuple[int, int]:
    """Multipliers and block RAMs: of two networks, the one that comes first is the smaller one."""
    return multipliers_of(row), memories_of(row)


def _size_and_latency(row: Row) -> tuple[int, int, int]:
    return (*size_of(row), latency_of(row))


def _frontier(rows: Iterable[Row], costs: Callable[[Row], tuple[int, ...]]) -> list[Row]:
    """The rows that no other is better than in two or three costs, the smallest first."""
    kept: list[Row] = []
    # Second and third costs of those so far, the second rising and the third falling.
    stairs: list[tuple[int, int]] = []
    for row in sorted(rows, key=costs):
        _, second, *more = costs(row)
        third = sum(more)
        at = bisect_right(stairs, (second, third))
        if at and stairs[at - 1][1] <= third:
            continue
        kept.append(row)
        end = at
        while end < len(stairs) and stairs[end][1] >= third:
            end += 1
        stairs[at:end] = [(second, third)]
    return kept


class Search:
    """All that a stack could be, with one pipeline.

    Parameters
    ----------
    name : str
        Of the pipeline.
    array : int or None
        Multipliers of each layer's array, at most.
    """

    def __init__(self, stack: Stack, limits: Limits, name: str, array: int | None = None):
        self.stack = stack
        self.limits = limits
        self._pipeline = PIPELINES[name]
        common: dict[str, Any] = {"pipeline": self._pipeline, "streams": stack.streams,
                                  "limits": limits}
        self._parts: list[list[Part[Any]]] = [
            sorted(lstm_parts(layer, array=array, **common),
                   key=lambda part: (part.multipliers, part.memories))
            for layer in stack.layers]
        self._parts += [
            sorted(dense_parts(dense, **common),
                   key=lambda part: (part.multipliers, part.memories))
            for dense in stack.head]
        # No folding of the layers takes more.
        self.most = sum(dense.inputs * dense.outputs for dense in stack.head) + sum(
            4 * layer.outputs * (layer.inputs + (layer.projected or layer.outputs) + 2
                                 + layer.peepholes)
            + layer.outputs * (layer.projected or 0) for layer in stack.layers)

    def fits(self, row: Row) -> bool:
        multipliers, memories = size_of(row)
        return multipliers <= self.limits.multipliers and memories <= self.limits.memories

    def smallest(self, pace: int, *, memories: bool = True) -> Row | None:
        """The smallest that fits and of which every part keeps the pace.

        Parameters
        ----------
        memories : bool
            Whether the block RAMs count.
        """
        rows: list[Row] = [()]
        for parts in self._parts:
            few: list[Part[Any]] = []
            for part in parts:
                # The multipliers rise.
                if (not few or part.memories < few[-1].memories) and part.keeps(pace):
                    few.append(part)
                    if not memories:
                        break
            rows = _frontier((row + (part,) for row in rows for part in few), size_of)
        rows = [self._let_out(row) for row in rows]
        row = next((row for row in rows if (
            self.fits(row) if memories else multipliers_of(row) <= self.limits.multipliers)), None)
        return row and self._unhindered(row)

    def fastest(self) -> Row | None:
        """The smallest of the fastest that fit."""
        best = self.smallest(sys.maxsize)
        low = 1
        while best is not None and low < pace_of(best):
            middle = (low + pace_of(best)) // 2
            row = self.smallest(middle)
            if row is None:
                low = middle + 1
            else:
                best = row
        return best

    def within(self, array: int) -> Row | None:
        """The smallest that is as fast as foldings for arrays of so many multipliers."""
        pace = max(LSTMCycles(
            inputs=layer.inputs, hidden=layer.outputs,
            streams=self.stack.streams * layer.directions,
            pipeline=self._pipeline, peepholes=layer.peepholes, projected=layer.projected,
            folding=choose_folding(
                layer.inputs, layer.outputs, multipliers=array, pipeline=self._pipeline,
                streams=self.stack.streams * layer.directions, peepholes=layer.peepholes,
                projected=layer.projected)).round
            for layer in self.stack.layers)
        return self.smallest(pace)

    def quick(self, latency: int) -> Row | None:
        """The smallest that fits and has no more latency, or else the one with the least."""
        rows: list[Row] = [()]
        for parts in self._parts:
            few = _frontier(((part,) for part in parts if self.fits((part,))), _size_and_latency)
            rows = _frontier((row + part for row in rows for part in few if self.fits(row + part)),
                             _size_and_latency)
        rows = [row for row in map(self._let_out, rows) if self.fits(row)]
        row = next((row for row in rows if latency_of(row) <= latency),
                   min(rows, key=latency_of, default=None))
        return row and self._unhindered(row)

    def _let_out(self, row: Row) -> Row:
        """The layers with an outlet, where no dense layer is behind them."""
        if self.stack.head:
            return row
        budget = head_budget(cycles_of(row), every_step=self.stack.awaited,
                             streams=self.stack.streams)
        return (*row, outlet_part(self.stack.outlet, budget, pipeline=self._pipeline,
                                  streams=self.stack.streams, limits=self.limits))

    def _unhindered(self, row: Row) -> Row:
        """The same with a head that no sequence has to wait for as it begins, if that fits."""
        layers = cycles_of(row)
        most = self.stack.streams * head_budget(layers, every_step=self.stack.awaited,
                                                streams=self.stack.streams)
        for n in range(len(layers), len(layers) + len(self.stack.head)):
            if most < row[n].work <= max(k.round for k in layers):
                for quicker in self._parts[n]:
                    if quicker.work <= most and self.fits((*row[:n], quicker, *row[n + 1:])):
                        row = (*row[:n], quicker, *row[n + 1:])
                        break
        return row

    def nothing(self) -> ValueError:
        """That not even the smallest fits."""
        multipliers = sum(min(part.multipliers for part in parts) for parts in self._parts)
        memories = sum(min(part.memories for part in parts) for parts in self._parts)
        return ValueError(
            f"no folding fits: the network takes at least {multipliers} multipliers and {memories} "
            f"block RAMs, of which there are {self.limits.multipliers} and {self.limits.memories}")

    def limited(self, row: Row) -> str:
        """What keeps it from being faster than its fastest."""
        multipliers, memories = size_of(row)
        if self.smallest(pace_of(row) - 1, memories=False) is not None:
            return (f"limited by block RAMs, {memories} of {self.limits.memories}: what is faster "
                    f"takes more")
        if self.limits.multipliers >= self.most:
            return "no folding is faster, however many multipliers there are"
        return (f"limited by multipliers, {multipliers} of {self.limits.multipliers}: what is "
                f"faster takes more")
