"""What differs between the two directions of a layer is made for both in a lane, and selected."""

from collections.abc import Callable, Sequence
from typing import Any

from amaranth.hdl import Mux, Value

from golden.quantized import QuantizedLSTM
from hdl.token import LEAD

__all__ = ["LaneDirections", "differ"]


def differ(directions: Sequence[QuantizedLSTM]) -> bool:
    """Whether the functions of two directions are not the same."""
    return len({layer.functions for layer in directions}) > 1


class LaneDirections:
    """The directions of a layer, one or two, whose units take turns in a lane.

    Parameters
    ----------
    layers : sequence of QuantizedLSTM
    second : sequence of Value
        Bit ``LEAD + n``: the unit that is n cycles behind its first sums is one of the second
        direction. Empty where the functions do not differ.

    Attributes
    ----------
    layers : tuple of QuantizedLSTM
    """

    def __init__(self, layers: Sequence[QuantizedLSTM], second: Sequence[Value]) -> None:
        self.layers = tuple(layers)
        self._second = second

    def kinds(self, what: Callable[[QuantizedLSTM], Any]) -> Sequence[QuantizedLSTM]:
        """Both directions where they differ in something, else one for all."""
        return self.layers[:len({what(each) for each in self.layers})]

    def finest(self, fraction: Callable[[QuantizedLSTM], int]) -> int:
        """The most fraction bits that one of them has."""
        return max(fraction(each) for each in self.layers)

    def select(self, cycle: int, made: Sequence[Value]) -> Value:
        """Of what is made for one of :meth:`kinds` each: that of the unit in a cycle."""
        ours, *theirs = made
        return Mux(self._second[LEAD + cycle], theirs[0], ours) if theirs else ours

    def select_pair(self, cycle: int, made: Sequence[tuple[Value, Value]]) -> tuple[Value, Value]:
        """As :meth:`select`, of pairs."""
        first, second = zip(*made, strict=True)
        return self.select(cycle, first), self.select(cycle, second)

    def aligned(self, value: Value, cycle: int, fraction: Callable[[QuantizedLSTM], int]) -> Value:
        """A value with the fraction bits of its unit's direction, with as many as the finest."""
        finest = self.finest(fraction)
        return self.select(cycle, [
            value << finest - fraction(each) if fraction(each) < finest else value
            for each in self.kinds(fraction)])
