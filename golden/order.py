"""In which order the parts of a network take the steps of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from golden.model import Network
    from golden.quantized_network import QuantizedNetwork

__all__ = ["needs_whole", "orders"]


def orders(network: Network | QuantizedNetwork) -> list[tuple[bool, ...]]:
    """Whether each direction of the input, of each layer and of the outputs is the reverse one."""
    return [(False,), *(tuple(each.reverse for each in layer.directions)
                        for layer in network.layers), (network.backwards,)]


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
