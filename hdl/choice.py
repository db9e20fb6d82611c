"""Choosing the foldings of a whole network: as fast as fits, or the smallest that is fast enough.

All parts work at once, each on a step of its own, so the slowest LSTM layer sets the *pace*: the
cycles of a *round*, in which every stream makes a step. Every other part is the smallest that
keeps it.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil, floor
from typing import Any

from golden.checks import counted
from hdl.cycles import Folding, LSTMCycles, head_budget
from hdl.dense_cycles import DenseFolding, choose_dense_folding
from hdl.foldings import Limits, Part, choose_folding, dense_part, lstm_part, outlet_part
from hdl.pipeline import PIPELINES
from hdl.search import (
    Row,
    Search,
    Stack,
    cycles_of,
    latency_of,
    memories_of,
    multipliers_of,
    pace_of,
    size_of,
)

__all__ = ["Choice", "choose", "fill"]

# What a division of floats may be off.
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Foldings, what they take, and why they are these.

    Parameters
    ----------
    foldings : tuple of Folding
    head : tuple of DenseFolding
        One for each dense layer.
    pipeline : str
        A name in :data:`hdl.pipeline.PIPELINES`.
    mhz : float
        The clock that it was chosen for.
    streams : int
    cycles : int
        In which each part makes a step of each stream. That is :attr:`hdl.network.Network.step`,
        where the head, which may have an output at the last step only, is not the slowest.
    latency : int
        Cycles from the last input beat of a step, on an idle network, to its last output beat.
    multipliers, memories : int
        All of them. The block RAMs are an estimate.
    filled : int
        Streams from which on the array of the slowest layer never waits for a hidden state.
    why : tuple of str
        A sentence each.
    """

    foldings: tuple[Folding, ...]
    head: tuple[DenseFolding, ...]
    pipeline: str
    mhz: float
    streams: int
    cycles: int
    latency: int
    multipliers: int
    memories: int
    filled: int
    why: tuple[str, ...]

    @property
    def latency_us(self) -> float:
        return self.latency / self.mhz

    @property
    def rate(self) -> float:
        """Steps a second, of all streams together."""
        return 1e6 * self.mhz * self.streams / self.cycles

    def at(self, mhz: float) -> "Choice":
        """The same at another clock."""
        return replace(self, mhz=mhz)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


def _number(value: float) -> str:
    # A float has fewer digits than a larger number would show.
    return f"{value:,.0f}" if 1000 <= value < 1e15 else f"{value:.4g}"


def _describe(stack: Stack, row: Row) -> list[str]:
    """A sentence for each part, and one about the bubble where there is one."""
    cycles = "cycles a step" if stack.streams == 1 else f"cycles a round of {stack.streams} streams"
    layers: list[Part[Folding]] = list(row[:len(stack.layers)])
    slowest = max(range(len(layers)), key=lambda n: layers[n].round)
    lines = []
    for n, part in enumerate(layers):
        f = part.folding
        text = (f"layer {n}: {counted(f.units, 'unit')} by {counted(f.columns, 'column')}, "
                f"{part.round} {cycles}; {part.multipliers} multipliers, {f.multipliers} of them "
                f"in the array")
        if f.projection:
            text += (f", and its projection of {counted(f.projection.rows, 'row')} by "
                     f"{counted(f.projection.columns, 'column')}")
        if n != slowest:
            text += f"; layer {slowest} needs {layers[slowest].round} cycles"
        lines.append(text)
    head: list[Part[DenseFolding]] = list(row[len(layers):len(layers) + len(stack.head)])
    for n, dense in enumerate(head):
        rows, columns = dense.folding.rows, dense.folding.columns
        lines.append(f"dense {n}: {counted(rows, 'output')} by {counted(columns, 'input')}, "
                     f"{dense.round} {cycles}; {counted(dense.multipliers, 'multiplier')}")
    k = layers[slowest].cycles
    if k is not None and k.bubble:
        waits, filled = k.round - k.streams * k.work, _filled(k)
        if not waits:
            what = "directions" if stack.gathered else "streams"
            lines.append(f"{filled} {what} are enough to fill the bubble of layer {slowest}")
        else:
            lines.append(
                f"layer {slowest} waits for its own hidden states for {waits} of {k.round} cycles"
                + ("" if stack.gathered else f"; with {filled} streams it would not"))
    return lines


def _filled(k: LSTMCycles) -> int:
    """Streams from which on the array never waits for a hidden state."""
    return ceil(k.step / k.work)


def _asked(stack: Stack, limits: Limits, name: str, units: int | None, columns: int | None) -> Row:
    """U and V as the user says, and dense layers that keep up."""
    common: dict[str, Any] = {"pipeline": PIPELINES[name], "streams": stack.streams}
    row: Row = tuple(
        lstm_part(layer, choose_folding(
            layer.inputs, layer.outputs, units=units, columns=columns, pipeline=PIPELINES[name],
            streams=stack.streams * layer.directions, peepholes=layer.peepholes,
            projected=layer.projected), limits=limits, **common)
        for layer in stack.layers)
    budget = head_budget(cycles_of(row), every_step=stack.awaited,
                         streams=stack.streams)
    if not stack.head:
        return (*row, outlet_part(stack.outlet, budget, limits=limits, **common))
    return (*row, *(
        dense_part(dense, choose_dense_folding(dense.inputs, dense.outputs, budget),
                   limits=limits, **common) for dense in stack.head))


def choose(stack: Stack, *, limits: Limits, clocks: Mapping[str, float], rate: float | None = None,
           latency: float | None = None, array: int | None = None, fastest: bool = False,
           units: int | None = None, columns: int | None = None) -> Choice:
    """Choose how to fold a network, and the pipeline.

    What is wanted is one of the last, from ``rate`` on, or both of ``units`` and ``columns``.

    Parameters
    ----------
    stack : Stack
    limits : Limits
    clocks : mapping of str to float
        The clock in MHz that each pipeline, by its name in :data:`hdl.pipeline.PIPELINES`, is good
        for. That pipeline is taken which is the fastest, or with a rate or a latency the smallest.
    rate : float, optional
        The smallest that makes so many steps a second, all streams together.
    latency : float, optional
        The smallest that gives the whole output so many microseconds after a step, where it is
        idle. Then the parts keep no common pace.
    array : int, optional
        The smallest that is as fast as so many multipliers in the array of each layer make it, or
        if that does not fit, the fastest that does.
    fastest : bool
        The fastest that fits, and of the fastest the smallest, in multipliers first and in block
        RAMs then. All parts but the slowest are the smallest that are not slower. This is what
        there is where nothing is wanted, too.
    units, columns : int, optional
        U and V of every layer, as the user wants them, whether they fit or not.

    Raises
    ------
    ValueError
        If nothing fits; if what fits is not fast enough, with the best that can be had and what
        limits it; if the layers have fewer units or columns; or if more than one thing is wanted.
    """
    wanted = {"rate": rate, "latency": latency, "array": array}
    for key, value in wanted.items():
        if value is not None and not value > 0:
            raise ValueError(f"{key} must be positive, not {value!r}")
    given = {**{key: value is not None for key, value in wanted.items()}, "fastest": fastest,
             "units or columns": units is not None or columns is not None}
    if sum(given.values()) > 1:
        raise ValueError("one thing at most can be wanted, not "
                         + " and ".join(key for key, there in given.items() if there))
    if not clocks or not set(clocks) <= set(PIPELINES):
        raise ValueError(f"clocks must be some of {', '.join(PIPELINES)}, not {dict(clocks)!r}")

    if units is not None or columns is not None:
        asked = {name: _asked(stack, limits, name, units, columns) for name in clocks}
        return _choice(stack, asked, clocks, _seconds, lambda name: "units and columns as given")

    searches = {name: Search(stack, limits, name, array) for name in clocks}
    if rate is not None:
        found = _there({
            name: search.smallest(floor(1e6 * clocks[name] * stack.streams / rate + ROUNDING))
            for name, search in searches.items()})
        if not found:
            found = _there({name: search.fastest() for name, search in searches.items()})
            _need(found, searches)
            best = _choice(stack, found, clocks, _seconds,
                           lambda name: searches[name].limited(found[name]))
            raise ValueError(
                f"rate must be at most {floor(best.rate):,} steps a second, {best.cycles} cycles a "
                f"round with the {best.pipeline} pipeline at {best.mhz:g} MHz "
                f"({best.why[0]}), not {_number(rate)}")
        return _choice(stack, found, clocks, _smallest, lambda name:
                       f"the smallest that makes {_number(rate)} steps a second at "
                       f"{clocks[name]:g} MHz")
    if latency is not None:
        found = _there({name: search.quick(floor(latency * clocks[name] + ROUNDING))
                        for name, search in searches.items()})
        _need(found, searches)
        quick = {name: row for name, row in found.items()
                 if latency_of(row) <= latency * clocks[name] + ROUNDING}
        if not quick:
            best = _choice(stack, found, clocks, lambda row, mhz: (latency_of(row) / mhz, ),
                           lambda name: "")
            raise ValueError(
                f"latency must be at least {ceil(1000 * best.latency_us) / 1000:g} us, "
                f"{best.latency} cycles with the {best.pipeline} pipeline at {best.mhz:g} MHz "
                f"(the least that fits in {limits.multipliers} multipliers and {limits.memories} "
                f"block RAMs), not {_number(latency)}")
        return _choice(stack, quick, clocks, _smallest, lambda name:
                       f"the smallest with the whole output {_number(latency)} us after a step at "
                       f"{clocks[name]:g} MHz")
    if array is not None:
        found = _there({name: search.within(array) for name, search in searches.items()})
        if found:
            return _choice(stack, found, clocks, _seconds, lambda name:
                           f"the smallest that is as fast as {array} multipliers in the array of "
                           f"each layer make it")
        return choose(stack, limits=limits, clocks=clocks)
    found = _there({name: search.fastest() for name, search in searches.items()})
    _need(found, searches)
    return _choice(stack, found, clocks, _seconds,
                   lambda name: f"as fast as fits: {searches[name].limited(found[name])}")


def fill(stack: Stack, **wanted: Any) -> Choice:
    """Choose the streams too: as few as keep the array of the slowest layer busy.

    There is one more as long as that makes more steps a second, of all streams together.

    Parameters
    ----------
    stack : Stack
        Its streams do not matter.
    wanted
        As of :func:`choose`, but no rate and no latency.

    Raises
    ------
    ValueError
        As of :func:`choose`, or if there is a rate or a latency.
    """
    for key in ("rate", "latency"):
        if wanted.get(key) is not None:
            raise ValueError(f"streams must be a number where a {key} is wanted, not to be filled")
    choice = choose(replace(stack, streams=1), **wanted)
    if stack.gathered:
        return choice
    while True:
        busy = choice.filled <= choice.streams
        try:
            further = choose(replace(stack, streams=choice.streams + 1), **wanted)
        except ValueError:
            # What one more takes may not fit.
            if busy:
                return choice
            raise
        if busy and further.rate <= choice.rate:
            return choice
        choice = further


def _there(rows: Mapping[str, Row | None]) -> dict[str, Row]:
    return {name: row for name, row in rows.items() if row is not None}


def _need(found: Mapping[str, Row], searches: Mapping[str, Search]) -> None:
    """Refuse what does not fit, however it is folded."""
    if not found:
        raise next(iter(searches.values())).nothing()


def _seconds(row: Row, mhz: float) -> tuple[float, ...]:
    return (pace_of(row) / mhz, *size_of(row))


def _smallest(row: Row, mhz: float) -> tuple[float, ...]:
    return (*size_of(row), pace_of(row) / mhz)


def _choice(stack: Stack, rows: Mapping[str, Row], clocks: Mapping[str, float],
            cost: Callable[[Row, float], tuple[float, ...]], goal: Callable[[str], str]) -> Choice:
    """The cheapest of several pipelines."""
    name, *others = sorted(rows, key=lambda name: cost(rows[name], clocks[name]))
    row, mhz = rows[name], clocks[name]

    def speed(one: str) -> str:
        pace = pace_of(rows[one])
        return (f"{one} pipeline: {pace} cycles at {clocks[one]:g} MHz, "
                f"{_number(1000 * pace / clocks[one])} ns")

    pipeline = speed(name) + "".join(
        f"; {speed(other)}, {multipliers_of(rows[other])} multipliers" for other in others)
    layers: tuple[Part[Folding], ...] = row[:len(stack.layers)]
    slowest = max(layers, key=lambda part: part.round).cycles
    assert slowest is not None
    return Choice(
        foldings=tuple(part.folding for part in layers), pipeline=name, mhz=mhz,
        head=tuple(part.folding for part in row[len(layers):] if part.folding),
        streams=stack.streams, cycles=pace_of(row), latency=latency_of(row),
        multipliers=multipliers_of(row), memories=memories_of(row), filled=_filled(slowest),
        why=(goal(name), pipeline, *_describe(stack, row)))
