"""The bits of the memories that a layer takes: plain arithmetic, as the cycle model is."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from golden.fixed import signed_width
from hdl.column_cycles import ColumnMemories
from hdl.cycles import LSTMCycles
from hdl.dense_cycles import DenseCycles
from hdl.drain_timing import CANDIDATE, GATES
from hdl.pipeline import check_positive

__all__ = ["DenseWidths", "Widths", "bias_widths", "dense_memories", "lstm_memories"]


def _addressed(words: int) -> int:
    """Words of a memory that has one for each value of an address: a power of two."""
    return 1 << (words - 1).bit_length()


def _bits(memories: ColumnMemories, width: int) -> int:
    return memories.count * memories.depth * width


def _check_widths(widths: "Widths | DenseWidths") -> None:
    for field in fields(widths):
        value = getattr(widths, field.name)
        for one in value if isinstance(value, tuple) else (value,):
            check_positive("width", field.name, one)


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Bits of what the memories of an LSTM layer hold.

    Parameters
    ----------
    weight : int
        The wider of the weights of x and of h, which share their words.
    bias : int or tuple of int
        A bias with half an ulp of the preactivation: one width for all of them, or that of each
        memory, as :func:`bias_widths` gives it.
    x, h, c : int
        An input, a hidden state, a cell state.
    segments : int
        Segments of the table, each a word of a table unit's memory.
    knots : int
        Such a word: both of the segment's knots, and its curvature.
    peephole : int
        A weight of a cell state, where there are any.
    """

    weight: int
    bias: int | tuple[int, ...]
    x: int
    h: int
    c: int
    segments: int
    knots: int
    peephole: int = 1

    def __post_init__(self) -> None:
        _check_widths(self)


@dataclass(frozen=True, kw_only=True)
class DenseWidths:
    """Bits of what the memories of a dense layer hold.

    Parameters
    ----------
    weight : int
    bias : int
        A bias with half an ulp of the output.
    x, y : int
        An input, an output.
    segments, knots : int
        Of the table, as in :class:`Widths`, where there is one.
    """

    weight: int
    bias: int
    x: int
    y: int
    segments: int = 1
    knots: int = 1

    def __post_init__(self) -> None:
        _check_widths(self)


def bias_widths(k: LSTMCycles, biases: Sequence[int], half: int, *,
                first: Sequence[int] | None = None, halved: bool = True,
                banked: bool = False) -> tuple[int, ...]:
    """Bits of a bias in each bias memory, lane by lane and in each the gates' tables.

    Parameters
    ----------
    k : LSTMCycles
    biases : sequence of int, 4 H
        In the gate order i, f, g, o.
    first : sequence of int, 4 H, optional
        Those of a sequence's first step, where they are others.
    half : int
        Half an ulp of the gates' preactivations, stored with each bias.
    halved : bool
        Whether that of the candidate's is half as large: where it is a tanh.
    banked : bool
        Whether those of another direction lie behind or before these.
    """
    t, f = k.timing, k.folding
    widths = []
    for lane in range(f.lanes):
        # Places without a unit hold a bias of 0.
        within = [group * f.lanes + lane for group in range(k.groups)]
        units = [a_pass * f.units + place if place < f.units else k.hidden
                 for a_pass in range(k.passes) for place in within]
        for table in range(t.gate_tables):
            stored = [(int(of[gate * k.hidden + unit]) if unit < k.hidden else 0)
                      + (half >> (gate == CANDIDATE and halved and CANDIDATE not in k.lines))
                      for gate in range(table, GATES, t.gate_tables) for unit in units
                      for of in (biases, biases if first is None else first)]
            # Between the biases of the first step, of a direction and the others there are zeros.
            if (first is not None or banked) and _addressed(len(units)) > len(units):
                stored.append(half)
            widths.append(signed_width(min(stored), max(stored)))
    return tuple(widths)


def lstm_memories(k: LSTMCycles, widths: Widths, *, beat: int | None = None,
                  initial_h: bool = False, initial_c: bool = False, directions: int = 1
                  ) -> dict[str, int]:
    """Bits of the memories of the layer, as declared: depth times width, added up by kind.

    Counted is every memory of the portable hardware, and nothing else: no registers, so no
    hold chain, and not what a device rounds a memory up to. The depth of a read-only memory
    is a power of two.

    - ``weights``: one memory, P C words rounded up, each of 4 U V weights.
    - ``biases``: one for each of a lane's gate tables, for each pass and each unit of the lane
      in it as many words as there are slots, rounded up, each of one bias; as many more for the
      first step of a sequence that begins with hidden states.
    - ``x``, ``h``: :class:`hdl.column_cycles.ColumnMemories`, one column wide.
    - ``c``: one for each lane, for each stream the units of the lane, rounded up to a power of
      two, one cell state wide; and one more, as for one stream, of those that sequences begin with.
    - ``tables``: one for each table unit, ``segments`` words rounded up, of ``knots`` bits.
    - ``peepholes``, where there are any: in each lane those of i and f in one memory or, where
      they come from two tables, in two, and those of o in another, for each unit of the lane.

    Parameters
    ----------
    k : LSTMCycles
    widths : Widths
    beat : int, optional
        Columns in a full input beat; by default V, or N where that is less: that of the bus.
        A layer behind another takes as many as that one has lanes.
    initial_h, initial_c : bool
        Whether sequences begin with other hidden, or cell, states than zeros.
    directions : int
        Those of the layer: as many of each read-only memory but the tables' lie in one.

    Raises
    ------
    ValueError
        If there are not as many widths of biases as memories for them, or ``beat`` is no
        positive integer.
    """
    f, t = k.folding, k.timing
    of_lane = k.passes * k.groups
    memories = f.lanes * t.gate_tables
    bias = widths.bias if isinstance(widths.bias, tuple) else (widths.bias,) * memories
    if len(bias) != memories:
        raise ValueError(f"width bias must be of each of the {memories} bias memories, "
                         f"not of {len(bias)}")
    if beat is None:
        beat = k.x_memories.beat
    check_positive("LSTM", "beat", beat)
    peepholes = {"peepholes": directions * f.lanes * widths.peephole * sum(
        _addressed(words) for words in k.peephole_words)} if k.peepholes else {}
    return peepholes | {
        "weights": directions * _addressed(k.work) * f.multipliers * widths.weight,
        "biases": directions * (_addressed(of_lane * t.slots) << initial_h) * sum(bias),
        "x": _bits(replace(k.x_memories, beat=beat), widths.x),
        "h": _bits(k.h_memories, widths.h),
        "c": f.lanes * widths.c * (
            k.c_depth + (directions * _addressed(of_lane) if initial_c else 0)),
        "tables": k.tables * _addressed(widths.segments) * widths.knots,
    }


def dense_memories(k: DenseCycles, widths: DenseWidths, *, beat: int, banks: int = 1
                   ) -> dict[str, int]:
    """Bits of the memories of the layer, counted as by :func:`lstm_memories`.

    - ``weights``: one memory, a word for each cycle of the product, rounded up to a power of
      two, of ``rows * columns`` weights.
    - ``biases``: one memory, a word for each pass, rounded up to a power of two, of ``rows``
      biases.
    - ``x``: as of an LSTM layer.
    - ``queue``: one word less than the queue holds, since the last is in the register of the
      memory's output. A word is ``rows`` outputs, how many of them there are, whether they are
      the last of their sequence, and their stream. A layer that hands its outputs out directly
      has neither a queue nor biases.
    - ``tables``: one for each row, where the outputs come from a table.

    Parameters
    ----------
    k : DenseCycles
    widths : DenseWidths
    beat : int
        Columns in a full input beat: the lanes of the layer before.
    banks : int
        Streams with weights of their own.

    Raises
    ------
    ValueError
        If ``beat`` is no positive integer.
    """
    check_positive("dense layer", "beat", beat)
    f = k.folding
    # Counts from 0 to all rows; a stream's number takes no bit where there is but one.
    word = f.rows * widths.y + f.rows.bit_length() + 1 + (k.streams - 1).bit_length()
    return {
        "weights": banks * _addressed(k.work) * f.multipliers * widths.weight,
        "biases": 0 if k.direct else _addressed(k.passes) * f.rows * widths.bias,
        "x": _bits(replace(k.x_memories, beat=beat), widths.x),
        "queue": max(0, k.queue - 1) * word,
        "tables": k.tables * _addressed(widths.segments) * widths.knots,
    }
