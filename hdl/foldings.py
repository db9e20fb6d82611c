"""How a layer can be folded, what each folding takes, and which to take where nobody says it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import ceil, log2
from typing import Generic, TypeVar

from golden.argmax import ArgMax
from golden.softmax import Softmax
from hdl.cycles import BLOCK_WORDS, Folding, LSTMCycles
from hdl.dense_cycles import DenseCycles, DenseFolding
from hdl.drain_timing import DrainTiming
from hdl.pipeline import SHORT, Pipeline
from hdl.sequence_cycles import Link
from hdl.vector_cycles import OutletCycles, choose_lanes, vector_cycles

__all__ = ["MULTIPLIERS", "Limits", "Part", "Shape", "check_array", "choose_drain",
           "choose_folding", "dense_part", "dense_parts", "lstm_part", "lstm_parts", "outlet_part",
           "projections"]

MULTIPLIERS = 16
"""Multipliers of a layer's array, at most, where nobody asks for a folding."""

F = TypeVar("F", Folding, DenseFolding, None)


def _intervals(pipeline: Pipeline, peepholes: bool) -> list[int]:
    """The shortest interval for each way to share tables and multipliers."""
    ways: dict[tuple[int, int], int] = {}
    for interval in range(1, DrainTiming(4, pipeline, peepholes).hidden + 1):
        timing = DrainTiming(interval, pipeline, peepholes)
        ways.setdefault((timing.tables, timing.state_multipliers), interval)
    return list(ways.values())


@lru_cache(maxsize=64)
def projections(hidden: int, projected: int) -> tuple[DenseFolding, ...]:
    """The foldings of a projection to choose from.

    Parameters
    ----------
    hidden, projected : int
        H and R.

    Returns
    -------
    tuple of DenseFolding
        The smallest first. None has as few multipliers as one before it and is not quicker, in
        the cycles of its array or in those until the last result.
    """
    ways = []
    for rows in _columns(projected):
        for columns in _columns(hidden):
            passes = ceil(projected / rows)
            work = passes * ceil(hidden / columns)
            # Of two as quick in all, the one with more passes has its first results earlier.
            ways.append((rows * columns, work + ceil(log2(columns)), work, -passes,
                         DenseFolding(rows=rows, columns=columns)))
    kept = []
    quickest = least = ways[0][1] + 1
    for _, until, work, _, folding in sorted(ways, key=lambda way: way[:4]):
        if until < quickest or work < least:
            kept.append(folding)
            quickest, least = min(quickest, until), min(least, work)
    return tuple(kept)


def _projections(hidden: int, projected: int | None, most: int, *, apart: int = 1
                 ) -> list[DenseFolding | None]:
    """Those that take at most so many cycles, each an ``apart``-th of the one before at most."""
    if projected is None:
        return [None]
    found = [(passes * ceil(hidden / folding.columns), folding)
             for folding in projections(hidden, projected)
             for passes in [ceil(projected / folding.rows)]]
    quick = [(work, folding) for work, folding in found if work <= most]
    if apart == 1:
        return [folding for _, folding in quick]
    kept: list[DenseFolding | None] = []
    for work, folding in quick:
        if work <= most:
            kept.append(folding)
            most = work // apart
    return kept


def _drains(inputs: int, hidden: int, units: int, columns: int, pipeline: Pipeline,
            peepholes: bool, projected: int | None) -> Iterator[Folding]:
    """The drains that keep up with the array, with a few foldings of a projection each."""
    words = ceil((inputs + (projected or hidden)) / columns)
    behind = _projections(hidden, projected, ceil(hidden / units) * words, apart=4)
    for interval in _intervals(pipeline, peepholes):
        groups = set()
        for lanes in range(1, units + 1):
            # More lanes with as many groups gain little.
            if ceil(units / lanes) * interval <= words and ceil(units / lanes) not in groups:
                groups.add(ceil(units / lanes))
                for projection in behind:
                    yield Folding(units=units, columns=columns, lanes=lanes, interval=interval,
                                  projection=projection)


def check_array(inputs: int, hidden: int, *, units: int | None, columns: int | None,
                projected: int | None = None) -> None:
    """See whether an LSTM layer has so many units and columns.

    Parameters
    ----------
    inputs, hidden : int
        N and H.
    units, columns : int or None
        U and V, where they are given.
    projected : int or None
        R, where the layer has a projection.

    Raises
    ------
    ValueError
        If it has fewer, or one is no positive integer.
    """
    # The quickest drain, with which nothing else can be wrong.
    units = 1 if units is None else units
    all_at_once = None if projected is None else DenseFolding(rows=projected, columns=hidden)
    LSTMCycles(inputs=inputs, hidden=hidden, projected=projected, folding=Folding(
        units=units, columns=1 if columns is None else columns, lanes=units, interval=1,
        projection=all_at_once))


def choose_drain(inputs: int, hidden: int, *, units: int, columns: int, pipeline: Pipeline = SHORT,
                 streams: int = 1, fastest: bool = False, peepholes: bool = False,
                 projected: int | None = None) -> Folding:
    """The folding with U and V as given and the drain that makes the most of all multipliers.

    A shorter interval or more lanes may make the bubble shorter, and take more tables and
    multipliers, and so may a quicker projection: the product of cycles and multipliers decides. The
    drain is chosen with a few foldings of the projection, and then one of all for that drain.

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
    peepholes : bool
        Whether the gates see the cell state.
    projected : int, optional
        R, where the layer has a projection.

    Raises
    ------
    ValueError
        If the layer has fewer units or columns.
    """
    check_array(inputs, hidden, units=units, columns=columns, projected=projected)

    def cost(folding: Folding) -> tuple[int, int]:
        k = LSTMCycles(inputs=inputs, hidden=hidden, folding=folding, pipeline=pipeline,
                       streams=streams, peepholes=peepholes, projected=projected)
        return (k.round, k.multipliers) if fastest else (k.round * k.multipliers, k.round)

    best = min(_drains(inputs, hidden, units, columns, pipeline, peepholes, projected), key=cost)
    work = ceil(hidden / units) * ceil((inputs + (projected or hidden)) / columns)
    return min([best, *(replace(best, projection=projection)
                        for projection in _projections(hidden, projected, work))], key=cost)


def choose_folding(inputs: int, hidden: int, *, multipliers: int = MULTIPLIERS,
                   units: int | None = None, columns: int | None = None,
                   pipeline: Pipeline = SHORT, streams: int = 1, fastest: bool = False,
                   peepholes: bool = False, projected: int | None = None) -> Folding:
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
    fastest, peepholes, projected
        As of :func:`choose_drain`.

    Raises
    ------
    ValueError
        If the layer has fewer units or columns than asked for.
    """
    quarter = multipliers // 4
    total = inputs + (projected or hidden)
    best: tuple[tuple[int, int], Folding] | None = None
    check_array(inputs, hidden, units=units, columns=columns, projected=projected)

    def tried(given: int | None, most: int, other: int | None) -> Sequence[int]:
        if given is not None:
            return [given]
        return range(1, min(most, max(1, quarter // (other or 1))) + 1)

    for u in tried(units, hidden, columns):
        for v in tried(columns, total, u):
            folding = choose_drain(inputs, hidden, units=u, columns=v, pipeline=pipeline,
                                   streams=streams, fastest=fastest, peepholes=peepholes,
                                   projected=projected)
            k = LSTMCycles(inputs=inputs, hidden=hidden, folding=folding, pipeline=pipeline,
                           streams=streams, peepholes=peepholes, projected=projected)
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
    peepholes : bool
        Whether the gates see the cell state, with weights no wider than the others.
    initial_h, initial_c : bool
        Whether sequences begin with other hidden, or cell, states than zeros.
    tabled : bool
        Whether the outputs of the head come from a table.
    vector : ArgMax, Softmax or None
        What becomes of all outputs of the last dense layer together.
    directions : int
        Those of the layer, each with weights of its own.
    before, behind : Link or None
        Where whole sequences are buffered before the layer, and behind the last one.
    longest : int
        Their steps, at most.
    projected : int or None
        R, hidden states that a projection makes of the H units' outputs.
    projection_bits : int
        Width of a weight of the projection.
    finals : str
        States of the layer that are given out where a sequence has ended: some of ``"hc"``.
    """

    inputs: int
    outputs: int
    weight_bits: int = 16
    bias_bits: int = 32
    column_bits: int = 16
    state_bits: int = 16
    lines: tuple[int, ...] = ()
    peepholes: bool = False
    initial_h: bool = False
    initial_c: bool = False
    tabled: bool = False
    vector: ArgMax | Softmax | None = None
    directions: int = 1
    before: Link | None = None
    behind: Link | None = None
    longest: int = 1
    projected: int | None = None
    projection_bits: int = 16
    finals: str = ""

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "weight_bits", "bias_bits", "column_bits", "state_bits",
                     "directions", "longest", "projection_bits"):
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
    folding : Folding, DenseFolding or None
        None of an outlet, which has no multipliers.
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
        if k and k.usable - (k.inputs + k.outputs - 1) // k.folding.columns > pace:
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
                   streams=streams * shape.directions, lines=shape.lines,
                   peepholes=shape.peepholes, projected=shape.projected)

    def stored(words: int, bits: int) -> int:
        return limits.blocks(words + (shape.directions - 1 << (words - 1).bit_length()), bits)

    # Weights, the knots of the tables, biases, and what is written: x, h, c.
    memories = stored(k.work, folding.multipliers * shape.weight_bits) + k.tables
    units = k.passes * k.groups
    biases = units * k.timing.slots << shape.initial_h
    if biases * shape.directions >= BLOCK_WORDS:
        memories += (folding.lanes * k.timing.gate_tables * stored(biases, shape.bias_bits))
    for banks in (k.x_memories, k.h_memories):
        memories += _written(limits, count=banks.count, depth=banks.depth, bits=shape.column_bits)
    memories += _written(limits, count=folding.lanes, depth=k.c_depth, bits=shape.state_bits)
    if shape.initial_c and units * shape.directions >= BLOCK_WORDS:
        memories += folding.lanes * stored(units, shape.state_bits)
    memories += folding.lanes * sum(stored(words, shape.weight_bits) for words in k.peephole_words
                                    if words * shape.directions >= BLOCK_WORDS)
    for state in shape.finals:
        ended = k.final_memories(state, shape.directions)
        memories += shape.directions * _written(
            limits, count=ended.count, depth=ended.depth,
            bits=shape.state_bits if state == "c" else shape.column_bits)
    if projection := k.projection:
        memories += stored(projection.work, projection.multipliers * shape.projection_bits)
        banks = replace(projection.x_memories, beat=folding.lanes)
        memories += _written(limits, count=banks.count, depth=banks.depth, bits=shape.column_bits)

    # The second direction's step follows the first one's.
    latency, multipliers, apart = k.latency, k.multipliers, k.work
    # What is behind writes a beat of each lane, what is before hardly more than it reads.
    for link, beat in ((shape.before, folding.columns), (shape.behind, k.lanes)):
        if link is None:
            continue
        buffer = link.cycles(columns=folding.columns, beat=min(beat, link.features),
                             longest=shape.longest, pipeline=pipeline)
        if link is shape.before:
            apart = max(apart, buffer.beats)
        latency += buffer.latency + buffer.beats - 1
        multipliers += buffer.multipliers
        memories += len(link.written) * _written(
            limits, count=buffer.memories.count, depth=buffer.memories.depth,
            bits=shape.column_bits)
    return Part(folding=folding, work=streams * shape.directions * k.work,
                latency=latency + (shape.directions - 1) * apart, multipliers=multipliers,
                memories=memories, cycles=k)


def lstm_parts(shape: Shape, *, pipeline: Pipeline, streams: int, limits: Limits,
               array: int | None = None) -> list[Part[Folding]]:
    """All foldings of an LSTM layer that may be the best for something.

    Parameters
    ----------
    array : int or None
        Multipliers of the array, at most, or the fewest that there can be.
    """
    total = shape.inputs + (shape.projected or shape.outputs)
    most = limits.multipliers if array is None else min(array, limits.multipliers)
    parts = []
    for columns in _columns(total):
        for units in range(1, shape.outputs + 1):
            if 4 * units * columns > most and units * columns > 1:
                break
            words = ceil(total / columns)
            behind = _projections(shape.outputs, shape.projected,
                                  ceil(shape.outputs / units) * words, apart=2)
            for interval in _intervals(pipeline, shape.peepholes):
                lane = DrainTiming(interval, pipeline, shape.peepholes)
                each = lane.tables + lane.state_multipliers
                for lanes in range(ceil(units / max(1, words // interval)), units + 1):
                    if ceil(units / lanes) * interval > words:
                        continue
                    if lanes > 1 and 4 * units * columns + lanes * each > limits.multipliers:
                        break
                    for projection in behind:
                        if (projection and projection != behind[0] and 4 * units * columns
                                + lanes * each + projection.multipliers > limits.multipliers):
                            break
                        parts.append(lstm_part(
                            shape, Folding(units=units, columns=columns, lanes=lanes,
                                           interval=interval, projection=projection),
                            pipeline=pipeline, streams=streams, limits=limits))
    return parts


def dense_part(shape: Shape, folding: DenseFolding, *, pipeline: Pipeline, streams: int,
               limits: Limits) -> Part[DenseFolding]:
    """What a folding of a dense layer takes, with what becomes of its outputs together."""
    k = DenseCycles(inputs=shape.inputs, outputs=shape.outputs, folding=folding, pipeline=pipeline,
                    streams=streams, tabled=shape.tabled)
    memories = limits.blocks(k.work, folding.multipliers * shape.weight_bits) + k.tables
    if k.passes >= BLOCK_WORDS:
        memories += limits.blocks(k.passes, folding.rows * shape.bias_bits)
    memories += _written(limits, count=k.x_memories.count, depth=k.x_memories.depth,
                         bits=shape.column_bits)
    work, latency, multipliers = k.work, k.work + k.latency, k.multipliers
    if shape.vector:
        behind = vector_cycles(shape.vector, rows=max(k.counts), pipeline=pipeline,
                               streams=streams)
        work = max(work, behind.work)
        latency += behind.whole_latency
        multipliers += behind.multipliers
        memories += behind.blocks(limits.blocks, limits.logic_words)
    return Part(folding=folding, work=streams * work, latency=latency, multipliers=multipliers,
                memories=memories)


def outlet_part(shape: Shape, budget: int, *, pipeline: Pipeline, streams: int, limits: Limits
                ) -> Part[None]:
    """What sends so many outputs of the last layer, in so many cycles a step at most."""
    k = OutletCycles(hidden=shape.outputs, lanes=choose_lanes(shape.outputs, budget),
                     pipeline=pipeline, streams=streams)
    memories = _written(limits, count=k.x_memories.count, depth=k.x_memories.depth,
                        bits=shape.column_bits)
    return Part(folding=None, work=streams * k.work, latency=k.whole_latency, multipliers=0,
                memories=memories)


def dense_parts(shape: Shape, *, pipeline: Pipeline, streams: int, limits: Limits
                ) -> list[Part[DenseFolding]]:
    """All foldings of a dense layer that may be the best for something."""
    return [dense_part(shape, DenseFolding(rows=rows, columns=columns), pipeline=pipeline,
                       streams=streams, limits=limits)
            for rows in _columns(shape.outputs) for columns in _columns(shape.inputs)
            if rows * columns <= limits.multipliers]
