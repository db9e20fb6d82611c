"""The bit-true network over whole batches, at the speed of float64 BLAS.

Integers live in float64, which is exact for them up to 2**53; every bound is checked before the
first step. What a step does, :mod:`golden.steps` says; two things more make it fast:

- Sequences are sorted by length, longest first: those still running are always the first columns,
  so padding is neither computed nor counted, and a final hidden state stays where it is.
- BLAS keeps to one thread. On idle cores a second one gains a little with layers of a hundred
  units or more; where another process wants the core, the two wait for each other at every step,
  and a run takes several times as long.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from golden.bidirectional import QuantizedBidirectional, QuantizedLayer
from golden.quantized import QuantizedDense
from golden.result import LSTMCodes, Result, StateCodes
from golden.steps import DenseSteps, LSTMSteps, Record

__all__ = ["simulate"]

# Sequences computed together. The buffers of 128 units then just fit a core's caches; more only
# takes memory, fewer leave the calls' overhead uncovered.
BLOCK = 256


def _recorder(trace: dict[str, np.ndarray], rows: np.ndarray, at: int | np.ndarray) -> Record:
    """Put the codes of a step, one column for each of ``rows``, into a layer's trace."""
    def record(name: str, codes: np.ndarray) -> None:
        trace[name][rows, at] = codes.T
    return record


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries: finding them takes milliseconds, setting their threads microseconds."""
    return ThreadpoolController().select(user_api="blas")


@dataclass(frozen=True, eq=False)
class _Block:
    """Sequences that are computed together, the longest first.

    Parameters
    ----------
    rows : int array, B
        Their numbers.
    lengths : int array, B
    traces : sequence of dict
        Where the intermediates of each direction of the network go; empty where nobody wants them.
    states : sequence of StateCodes or None
        What each direction begins with, in place of its own.
    ended : sequence of StateCodes
        Where the states go in which each direction ends.
    """

    rows: np.ndarray
    lengths: np.ndarray
    traces: Sequence[dict[str, np.ndarray]]
    states: Sequence[StateCodes] | None
    ended: Sequence[StateCodes]

    @cached_property
    def running(self) -> list[int]:
        """How many sequences have each step."""
        return np.searchsorted(-self.lengths, -np.arange(self.lengths[0])).tolist()

    @cached_property
    def _turned(self) -> np.ndarray:
        """The step that has each one's place when a sequence is turned round: T x 1 x B."""
        steps = np.arange(self.lengths[0])[:, None]
        return np.where(steps < self.lengths, self.lengths - 1 - steps, steps)[:, None]

    def turned(self, columns: np.ndarray) -> np.ndarray:
        """Every sequence of T x N x B from its last step to its first."""
        return np.take_along_axis(columns, self._turned, axis=0)

    def places(self, t: int, active: int, reverse: bool) -> int | np.ndarray:
        """Where the first sequences have the step that is read at a time."""
        return self.lengths[:active] - 1 - t if reverse else t

    def walk(self, stack: Sequence[LSTMSteps], columns: np.ndarray, first: int, *,
             reverse: bool = False) -> Iterator[tuple[int, int, np.ndarray]]:
        """Run layers step by step.

        Parameters
        ----------
        columns : float64 array, T x N x B
            What the first of them reads, in the order in which it reads.
        first : int
            Number of the first one's direction.
        reverse : bool
            Whether that order is the reverse one.

        Yields
        ------
        t, active : int
            The step, and how many sequences have it.
        h : array
            The last layer's hidden states.
        """
        for number, each in enumerate(stack, first):
            each.start(self.states[number] if self.states else None, self.rows)
        active = -1
        for t, now in enumerate(self.running):
            if now != active:
                active = now
                for each in stack:
                    each.keep(active)
            h = columns[t, :, :active]
            for number, each in enumerate(stack, first):
                each.x[:] = h
                each.step(_recorder(self.traces[number], self.rows[:active],
                                    self.places(t, active, reverse)) if self.traces else None)
                h = each.h
            yield t, active, h
        for number, each in enumerate(stack, first):
            each.finish(self.ended[number], self.rows)

    def all_of(self, stack: Sequence[LSTMSteps], columns: np.ndarray, first: int, *,
               reverse: bool = False) -> np.ndarray:
        """The hidden states of all steps, T x R x B, each where its x is; 0 beyond the ends."""
        h = np.zeros((len(columns), stack[-1].outputs, columns.shape[2]))
        for t, active, codes in self.walk(
                stack, self.turned(columns) if reverse else columns, first, reverse=reverse):
            h[t, :, :active] = codes
        return self.turned(h) if reverse else h


class _Run:
    """A network on a batch: what all blocks of sequences share, and where their results go."""

    def __init__(self, layers: Sequence[QuantizedLayer], head: Sequence[QuantizedDense],
                 x: np.ndarray, lengths: np.ndarray, *, every_step: bool, final: bool,
                 backwards: bool, trace: bool, state: Sequence[StateCodes] | None) -> None:
        self.layers, self.x, self.lengths = layers, x, lengths
        self.every_step, self.final, self.backwards = every_step, final, backwards
        count, steps, _ = x.shape
        self.block = min(count, BLOCK)
        self.directions = [(number, each) for number, layer in enumerate(layers)
                           for each in layer.directions]
        self.stack = [LSTMSteps(each, self.block, f"lstm{number}")
                      for number, each in self.directions]
        self.behind = [DenseSteps(layer, f"dense{number}.y") for number, layer in enumerate(head)]
        last = head[-1] if head else layers[-1]
        self.format = head[-1].formats.y if head else layers[-1].y
        outer = (count, steps) if every_step else (count,)
        self.y = np.zeros((*outer, last.outputs), dtype=np.int64)
        self.before = np.zeros((*outer, layers[-1].outputs), dtype=np.int64) if trace else None
        self.traces = [
            {field.name: np.zeros((count, steps, width), dtype=np.int64)
             for field in fields(LSTMCodes) if field.name != "m" or each.projector
             for width in [{"x": each.inputs, "z": 4 * each.hidden, "h": each.outputs,
                            "outside": 2 * len(each.saturating)}.get(field.name, each.hidden)]}
            for _, each in self.directions if trace]
        self.begun = None if state is None else [
            StateCodes(h=h, c=c) for layer, given in zip(layers, state, strict=True)
            for h, c in zip(*(np.split(np.asarray(codes), len(layer.directions), axis=1)
                              for codes in (given.h, given.c)), strict=True)]
        self.ended = [StateCodes(h=np.zeros((count, each.outputs), dtype=np.int64),
                                 c=np.zeros((count, each.hidden), dtype=np.int64))
                      for _, each in self.directions]
        self.saturated = {f"lstm{number}.{tensor}": 0 for number, layer in enumerate(layers)
                          for tensor in layer.saturating}

    def result(self) -> Result:
        """Run all blocks."""
        order = np.argsort(-self.lengths, kind="stable")
        for first in range(0, len(order), self.block):
            self._run(order[first:first + self.block])
        saturated = self.saturated
        for (number, _), each in zip(self.directions, self.stack, strict=True):
            for name, value in each.saturated.items():
                saturated[f"lstm{number}.{name}"] += value
        saturated |= {f"dense{number}.y": dense.saturated
                      for number, dense in enumerate(self.behind)}
        # Of each layer: what its directions have, one after the other.
        of = iter(self.ended)
        layered = [[next(of) for _ in layer.directions] for layer in self.layers]
        return Result(
            y=self.y, format=self.format, saturated=saturated, behind=self.before,
            final=tuple(StateCodes(h=np.concatenate([each.h for each in of_layer], axis=1),
                                   c=np.concatenate([each.c for each in of_layer], axis=1))
                        for of_layer in layered),
            layers=tuple(LSTMCodes(**codes) for codes in self.traces) if self.traces else None)

    def _run(self, rows: np.ndarray) -> None:
        """Run a block of sequences, the longest first.

        Layers that read forward go step by step together. One that does not needs all of the
        sequence.
        """
        part = _Block(rows, self.lengths[rows], self.traces, self.begun, self.ended)
        columns = np.ascontiguousarray(self.x[rows].transpose(1, 2, 0), dtype=np.float64)
        columns = columns[:part.lengths[0]]
        # So many layers, and directions of them, are done.
        done, begin = 0, 0
        for number, layer in enumerate(self.layers):
            if not any(each.reverse for each in layer.directions):
                continue
            if number > done:
                # The layers before have one direction each.
                columns = part.all_of(self.stack[begin:begin + number - done], columns, begin)
                begin += number - done
            columns = self._run_whole(part, number, columns, begin)
            done, begin = number + 1, begin + len(layer.directions)
        if done < len(self.layers):
            steps: Iterable[tuple[int, int, np.ndarray]] = part.walk(
                self.stack[begin:], columns, begin)
        elif self.every_step:
            steps = ((t, active, columns[t, :, :active]) for t, active in enumerate(part.running))
        else:
            self._settle(rows, columns)
            return
        for t, active, h in steps:
            if self.every_step:
                self._settle((rows[:active], part.places(t, active, self.backwards)), h)
        if not self.every_step:
            self.stack[-1].keep(len(rows))
            self._settle(rows, self.stack[-1].h)

    def _run_whole(self, part: _Block, number: int, columns: np.ndarray, begin: int) -> np.ndarray:
        """What a layer gives that reads from the end: of all steps, or what the outputs need."""
        ways = self.layers[number].directions
        parts = [part.all_of([self.stack[n]], columns, n, reverse=each.reverse)
                 for n, each in enumerate(ways, begin)]
        if self.every_step or number < len(self.layers) - 1:
            return self._merged(number, parts, 1)
        ends, numbers = part.lengths - 1, np.arange(len(part.rows))
        return self._merged(number, [
            h[0 if each.reverse and self.final else ends, :, numbers].T
            for h, each in zip(parts, ways, strict=True)], 0)

    def _merged(self, number: int, parts: list[np.ndarray], axis: int) -> np.ndarray:
        layer = self.layers[number]
        if not isinstance(layer, QuantizedBidirectional):
            return parts[0]
        h, outside = layer.merged(parts, axis)
        if outside:
            self.saturated[f"lstm{number}.y"] += outside
        return h

    def _settle(self, at: Any, h: np.ndarray) -> None:
        """The outputs at some places, of the last layer's."""
        if self.before is not None:
            self.before[at] = h.T
        for dense in self.behind:
            h = dense.run(h)
        self.y[at] = h.T


def simulate(layers: Sequence[QuantizedLayer], head: Sequence[QuantizedDense], x: np.ndarray,
             lengths: np.ndarray, *, every_step: bool, final: bool = False,
             backwards: bool = False, trace: bool, state: Sequence[StateCodes] | None = None
             ) -> Result:
    """Run a stack of layers on input that is known to be good.

    Parameters
    ----------
    layers : sequence of QuantizedLSTM or QuantizedBidirectional
    head : sequence of QuantizedDense
        Without any the last layer's hidden state is the output.
    x : int64 array, B x T x N
        Input codes, all in the first layer's format.
    lengths : int64 array, B
        Steps of each sequence, 1 to T.
    every_step, final, backwards : bool
        At which steps there are outputs, and in which order, as of the network.
    trace : bool
        Whether to return every intermediate.
    state : sequence of StateCodes, optional
        What each layer begins with, in place of its own.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        If a sum may outgrow what float64 holds exactly.
    """
    with _blas().limit(limits=1):
        return _Run(layers, head, x, lengths, every_step=every_step, final=final,
                    backwards=backwards, trace=trace, state=state).result()
