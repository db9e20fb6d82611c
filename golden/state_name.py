"""Names of the states that layers carry from step to step: ``lstm0.h``, ``lstm1.c``."""

from collections.abc import Sequence

__all__ = ["place", "tensors"]


def place(name: str) -> tuple[int, str]:
    """The number of the layer and the tensor, ``h`` or ``c``, that a name stands for."""
    layer, tensor = name.removeprefix("lstm").split(".")
    return int(layer), tensor


def tensors(names: Sequence[str], layer: int) -> str:
    """Which of the tensors of a layer are among the names, in their order: ``hc`` for one."""
    return "".join(tensor for number, tensor in map(place, names) if number == layer)
