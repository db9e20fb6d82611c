"""In which order the parts of a network take the steps of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from golden.model import Network
    from golden.quantized_network import QuantizedNetwork

__all__ = ["kept_whole", "needs_whole", "orders"]


def orders(network: Network | QuantizedNetwork) -> list[tuple[bool, ...]]:
    """Whether each direction of the input, of each layer and of the outputs is the reverse one."""
    return [(False,), *(tuple(each.reverse for each in layer.directions)
                        for layer in network.layers), (network.backwards,)]


def kept_whole(network: Network | QuantizedNetwork) -> list[bool]:
    """Whether whole sequences are kept before each layer, and before the outputs."""
    order = orders(network)
    return [needs_whole(order[n], order[n + 1],
                        single=n == len(network.layers) and not network.every_step)
            for n in range(len(network.layers) + 1)]


def needs_whole(written: Sequence[bool], read: Sequence[bool], *, single: bool) -> bool:
    """Whether whole sequences must be kept between two parts.

    Parameters
    ----------
    written, read : sequence of bool
        For each direction of the part before, and of that behind, whether it is the reverse one.
    single : bool
        Whether one step of each sequence goes from one to the other.
    """
    return len(written) + len(read) > 2 or (not single and tuple(written) != tuple(read))
