"""How a layer can be folded, what each folding takes, and which to take where nobody says it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Generic, TypeVar

from hdl.cycles import (
    BLOCK_WORDS,
    SHORT,
    DenseCycles,
    DenseFolding,
    DrainTiming,
    Folding,
    LSTMCycles,
    Pipeline,
)

__all__ = ["MULTIPLIERS", "Limits", "Part", "Shape", "choose_drain", "choose_folding",
           "dense_part", "dense_parts", "lstm_part", "lstm_parts"]

MULTIPLIERS = 16
"""Multipliers of a layer's array, at most, where nobody asks for a folding."""

F = TypeVar("F", Folding, DenseFolding)


def _intervals(pipeline: Pipeline) -> list[int]:
    """The shortest interval for each way to share tables and multipliers."""
    ways: dict[tuple[int, int], int] = {}
    for interval in range(1, DrainTiming(4, pipeline).hidden + 1):
        timing = DrainTiming(interval, pipeline)
        ways.setdefault((timing.tables, timing.state_multipliers), interval)
    return list(ways.values())


def _drains(inputs: int, hidden: int, units: int, columns: int, pipeline: Pipeline
            ) -> Iterator[Folding]:
    """The drains that keep up with the array."""
    words = ceil((inputs + hidden) / columns)
    for interval in _intervals(pipeline):
        groups = set()
        for lanes in range(1, units + 1):
            # More lanes with as many groups gain little.
            if ceil(units / lanes) * interval <= words and ceil(units / lanes) not in groups:
                groups.add(ceil(units / lanes))
                yield Folding(units=units, columns=columns, lanes=lanes, interval=interval)


def choose_drain(inputs: int, hidden: int, *, units: int, columns: int, pipeline: Pipeline = SHORT,
                 streams: int = 1, fastest: bool = False) -> Folding:
    """The folding with U and V as given and the drain that makes the most of all multipliers.

    A shorter interval or more lanes may make the bubble shorter, and take more tables and
    multipliers: the product of cycles and multipliers decides.

    Parameters
    ----------
    inputs, hidden : int
        N and H.
    units, columns : int
        U and V.
    pipeline : Pipeline
    streams : int
    fastest : bool
        Only the cycles decide, and the multipliers where they are equal.

    Raises
    ------
    ValueError
        If the layer has fewer units or columns.
    """
    # Whatever is wrong with the shape is told by the first of them.
    LSTMCycles(inputs=inputs, hidden=hidden, pipeline=pipeline, streams=streams, folding=Folding(
        units=units, columns=columns, lanes=units, interval=1))

    def cost(folding: Folding) -> tuple[int, int]:
        k = LSTMCycles(inputs=inputs, hidden=hidden, folding=folding, pipeline=pipeline,
                       streams=streams)
        return (k.round, k.multipliers) if fastest else (k.round * k.multipliers, k.round)

    return min(_drains(inputs, hidden, units, columns, pipeline), key=cost)


def choose_folding(inputs: int, hidden: int, *, multipliers: int = MULTIPLIERS,
                   units: int | None = None, columns: int | None = None,
                   pipeline: Pipeline = SHORT, streams: int = 1, fastest: bool = False) -> Folding:
    """The folding of an LSTM layer with the fewest cycles, and of those the smallest.

    Parameters
    ----------
    inputs, hidden : int
        N and H.
    multipliers : int
        Of the array, at most, or the fewest that there can be.
    units, columns : int, optional
        U and V; what is not given is chosen.
    pipeline : Pipeline
    streams : int
    fastest : bool
        As of :func:`choose_drain`.

    Raises
    ------
    ValueError
        If the layer has fewer units or columns than asked for.
    """
    quarter = multipliers // 4
    best: tuple[tuple[int, int], Folding] | None = None
    for u in [units] if units else range(1, min(hidden, max(1, quarter // (columns or 1))) + 1):
        for v in [columns] if columns else range(1, min(inputs + hidden, max(1, quarter // u)) + 1):
            folding = choose_drain(inputs, hidden, units=u, columns=v, pipeline=pipeline,
                                   streams=streams, fastest=fastest)
            k = LSTMCycles(inputs=inputs, hidden=hidden, folding=folding, pipeline=pipeline,
                           streams=streams)
            key = k.round, k.multipliers
            if best is None or key < best[0]:
                best = key, folding
    assert best is not None
    return best[1]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What of a part decides what a folding of it takes.

    Parameters
    ----------
    inputs : int
        N, or the inputs of the head.
    outputs : int
        H, or the outputs of the head.
    weight_bits, bias_bits, column_bits, state_bits : int
        Width of a weight, of a bias, of a column of [x, h] and of a cell state.
    lines : tuple of int
        Functions that need no table (:class:`hdl.cycles.LSTMCycles`).
    initial_h, initial_c : bool
        Whether sequences begin with other hidden, or cell, states than zeros.
    tabled : bool
        Whether the outputs of the head come from a table.
    finals : int
        States of the layer that are given out where a sequence has ended, h and c.
    """

    inputs: int
    outputs: int
    weight_bits: int = 16
    bias_bits: int = 32
    column_bits: int = 16
    state_bits: int = 16
    lines: tuple[int, ...] = ()
    initial_h: bool = False
    initial_c: bool = False
    tabled: bool = False
    finals: int = 0

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "weight_bits", "bias_bits", "column_bits", "state_bits"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"shape {name} must be a positive integer, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the device has.

    Parameters
    ----------
    multipliers : int
        All of them count: those of the arrays, of the tables, of the state update and of the head.
    memories : int
        Block RAMs.
    blocks : function of depth and width
        Block RAMs that a memory takes.
    logic_words : int
        Columns and cell states are in memories that are written. Up to so many words they are in
        lookup tables and take no block RAM.
    """

    multipliers: int
    memories: int
    blocks: Callable[[int, int], int]
    logic_words: int

    def __post_init__(self) -> None:
        for name in ("multipliers", "memories"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Part(Generic[F]):
    """One way to fold a part of a network, and what it takes.

    Parameters
    ----------
    folding : Folding or DenseFolding
    work : int
        Cycles of a round in which the array is busy.
    latency : int
        Cycles from the last input of a step, on an idle part, to its last output.
    multipliers, memories : int
        The block RAMs are an estimate.
    cycles : LSTMCycles or None
        The cycle model of an LSTM layer.
    """

    folding: F
    work: int
    latency: int
    multipliers: int
    memories: int
    cycles: LSTMCycles | None = None

    @cached_property
    def round(self) -> int:
        """Cycles in which it makes a step of each stream."""
        return self.cycles.round if self.cycles else self.work

    def keeps(self, pace: int) -> bool:
        """Whether it makes a step of each stream in so many cycles."""
        if self.work > pace:
            return False
        k = self.cycles
        # What the last unit makes the next step wait, at least: the whole bubble takes longer.
        if k and k.usable - (k.inputs + k.hidden - 1) // k.folding.columns > pace:
            return False
        return self.round <= pace


def _columns(total: int) -> list[int]:
    """The fewest columns for each number of words: more would gain nothing."""
    return [columns for columns in range(1, total + 1)
            if columns == 1 or ceil(total / columns) < ceil(total / (columns - 1))]


def _written(limits: Limits, *, count: int, depth: int, bits: int) -> int:
    """Block RAMs of so many memories that are written."""
    return count * limits.blocks(depth, bits) if depth > limits.logic_words else 0


def lstm_part(shape: Shape, folding: Folding, *, pipeline: Pipeline, streams: int,
              limits: Limits) -> Part[Folding]:
    """What a folding of an LSTM layer takes.

    Raises
    ------
    ValueError
        If it does not fit the layer.
    """
    k = LSTMCycles(inputs=shape.inputs, hidden=shape.outputs, folding=folding, pipeline=pipeline,
                   streams=streams, lines=shape.lines)
    # Weights, the knots of the tables, biases, and what is written: x, h, c.
    memories = limits.blocks(k.work, folding.multipliers * shape.weight_bits) + k.tables
    units = k.passes * k.groups
    biases = units * k.timing.slots << shape.initial_h
    if biases >= BLOCK_WORDS:
        memories += (folding.lanes * k.timing.gate_tables
                     * limits.blocks(biases, shape.bias_bits))
    for banks in (k.x_memories, k.h_memories):
        memories += _written(limits, count=banks.count, depth=banks.depth, bits=shape.column_bits)
    memories += _written(limits, count=folding.lanes, depth=k.c_depth, bits=shape.state_bits)
    if shape.finals:
        finals = k.final_memories
        memories += shape.finals * _written(limits, count=finals.count, depth=finals.depth,
                                            bits=max(shape.column_bits, shape.state_bits))
    if shape.initial_c and units >= BLOCK_WORDS:
        memories += folding.lanes * limits.blocks(units, shape.state_bits)
    return Part(folding=folding, work=streams * k.work, latency=k.latency,
                multipliers=k.multipliers, memories=memories, cycles=k)


def lstm_parts(shape: Shape, *, pipeline: Pipeline, streams: int, limits: Limits,
               array: int | None = None) -> list[Part[Folding]]:
    """All foldings of an LSTM layer that may be the best for something.

    Parameters
    ----------
    array : int or None
        Multipliers of the array, at most, or the fewest that there can be.
    """
    total = shape.inputs + shape.outputs
    most = limits.multipliers if array is None else min(array, limits.multipliers)
    parts = []
    for columns in _columns(total):
        for units in range(1, shape.outputs + 1):
            if 4 * units * columns > most and units * columns > 1:
                break
            words = ceil(total / columns)
            for interval in _intervals(pipeline):
                lane = DrainTiming(interval, pipeline)
                each = lane.tables + lane.state_multipliers
                for lanes in range(ceil(units / max(1, words // interval)), units + 1):
                    if ceil(units / lanes) * interval > words:
                        continue
                    if lanes > 1 and 4 * units * columns + lanes * each > limits.multipliers:
                        break
                    parts.append(lstm_part(
                        shape, Folding(units=units, columns=columns, lanes=lanes,
                                       interval=interval),
                        pipeline=pipeline, streams=streams, limits=limits))
    return parts


def dense_part(shape: Shape, folding: DenseFolding, *, pipeline: Pipeline, streams: int,
               limits: Limits) -> Part[DenseFolding]:
    """What a folding of a dense layer takes."""
    k = DenseCycles(inputs=shape.inputs, outputs=shape.outputs, folding=folding, pipeline=pipeline,
                    streams=streams, tabled=shape.tabled)
    memories = limits.blocks(k.work, folding.multipliers * shape.weight_bits) + k.tables
    if k.passes >= BLOCK_WORDS:
        memories += limits.blocks(k.passes, folding.rows * shape.bias_bits)
    memories += _written(limits, count=k.x_memories.count, depth=k.x_memories.depth,
                         bits=shape.column_bits)
    return Part(folding=folding, work=streams * k.work, latency=k.work + k.latency,
                multipliers=k.multipliers, memories=memories)


def dense_parts(shape: Shape, *, pipeline: Pipeline, streams: int, limits: Limits
                ) -> list[Part[DenseFolding]]:
    """All foldings of a dense layer that may be the best for something."""
    return [dense_part(shape, DenseFolding(rows=rows, columns=columns), pipeline=pipeline,
                       streams=streams, limits=limits)
            for rows in _columns(shape.outputs) for columns in _columns(shape.inputs)
            if rows * columns <= limits.multipliers]
