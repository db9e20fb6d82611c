"""Choosing a core for a board."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fpga.boards import Board
from fpga.stored import SHARE
from golden.quantized_network import QuantizedNetwork
from hdl.choice import Choice, choose, fill
from hdl.foldings import MULTIPLIERS, Limits
from hdl.pipeline import PIPELINES
from hdl.rom import ecp5_blocks
from hdl.search import Stack

__all__ = ["choose_for", "limits", "wanted"]


def limits(board: Board, multipliers: int | None = None) -> Limits:
    """What a core may take of a board.

    Parameters
    ----------
    multipliers : int, optional
        At most, if the board has as many.
    """
    have = board.dsp.available
    return Limits(
        multipliers=have if multipliers is None else min(multipliers, have),
        # What the self-test may take is not the core's.
        memories=board.bram.available - board.bram.available // SHARE,
        blocks=ecp5_blocks if board.family == "ecp5" else (
            lambda depth, width: board.memory_blocks(depth=depth, width=width)),
        logic_words=board.logic_words)


def _clocks(board: Board, pipeline: str | None, mhz: float | None) -> Mapping[str, float]:
    """The pipelines to choose from, and the clock to reckon with for each."""
    clocks = board.core_mhz
    if pipeline is not None:
        if pipeline not in PIPELINES:
            raise ValueError(f"pipeline must be one of {', '.join(PIPELINES)}, not {pipeline!r}")
        clocks = {pipeline: clocks[pipeline]}
    if mhz is None:
        return clocks
    if not mhz > 0:
        raise ValueError(f"clock must be positive, not {mhz:g} MHz")
    # Those that reach it, or else the one that comes closest.
    able = [name for name in clocks if clocks[name] >= mhz]
    return {name: mhz for name in able or [max(clocks, key=lambda name: clocks[name])]}


def choose_for(
    board: Board, network: QuantizedNetwork, *, streams: int | None = 1,
    units: int | None = None, columns: int | None = None, rate: float | None = None,
    latency_us: float | None = None, fastest: bool = False, multipliers: int | None = None,
    pipeline: str | None = None, clock_mhz: float | None = None, longest: int = 1,
) -> Choice:
    """Choose foldings and pipeline of a network for a board.

    Parameters
    ----------
    streams : int or None
        Independent sequences that take turns; None for as few as keep the array of the
        slowest layer busy (:func:`hdl.choice.fill`).
    units, columns, rate, latency_us, fastest
        What is wanted, as of :func:`gatefold.build`: one of them, or both of the first two.
    multipliers : int, optional
        All that the core may take; by default those of the board. Alone: as fast as fits in them.
    pipeline : str, optional
        By default the one that is best at its clock.
    clock_mhz : float, optional
        By default the board's.
    longest : int
        Steps of a sequence, at most, where whole ones are buffered.

    Raises
    ------
    ValueError
        As of :func:`hdl.choice.choose` and `fill`, or if multipliers are limited where U or V is
        given.
    """
    folded = units is not None or columns is not None
    if multipliers is not None and folded:
        raise ValueError("multipliers cannot be limited where units or columns are given")
    given = folded or fastest or rate is not None or latency_us is not None
    choice = (fill if streams is None else choose)(
        Stack.of(network, 1 if streams is None else streams, longest),
        limits=limits(board, multipliers), rate=rate, latency=latency_us, fastest=fastest,
        array=None if given or multipliers is not None else MULTIPLIERS,
        units=units, columns=columns, clocks=_clocks(board, pipeline, clock_mhz))
    known = board.core_mhz[choice.pipeline]
    if choice.mhz <= known:
        return choice
    return replace(choice, why=(*choice.why, (
        f"{choice.mhz:g} MHz is more than the {known:g} MHz that a core is known to reach there")))


def wanted(choice: Choice, rate: float | None, latency_us: float | None, mhz: float
           ) -> dict[str, Any] | None:
    """What was wanted of a core, and whether it is met at the clock that was measured."""
    choice = choice.at(mhz)
    if rate is not None:
        return {"steps_per_second": rate, "reached": choice.rate, "met": choice.rate >= rate}
    if latency_us is not None:
        return {"latency_us": latency_us, "reached": choice.latency_us,
                "met": choice.latency_us <= latency_us}
    return None
