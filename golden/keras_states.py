"""The final states of Keras layers that are outputs of a model."""

from __future__ import annotations

from dataclasses import dataclass

from golden.keras_graph import Chain
from golden.model import ModelError

__all__ = ["Recurrent", "state_names"]

PAIRS = {(1, 2, 3, 4): "hc", (1, 3): "h", (2, 4): "c"}
"""The outputs of a Bidirectional layer that together are final states of a network: 1 and 2 are the
forward h and c, 3 and 4 the backward ones."""


@dataclass
class Recurrent:
    """A Keras layer over the steps.

    Parameters
    ----------
    first : int
        The number of its first LSTM layer in the network.
    kind : str
    count : int
        Its stacked cells.
    exchanged : bool
        Whether its two directions are exchanged in the network.
    returned : bool
        Whether it has its final states as outputs.
    """

    first: int
    kind: str
    count: int = 1
    exchanged: bool = False
    returned: bool = False

    @property
    def states(self) -> int:
        """How many they are."""
        return 4 if self.kind == "Bidirectional" else 2 * self.count


def state_names(chain: Chain, recurrent: dict[str, Recurrent], notes: list[str]) -> tuple[str, ...]:
    """The final states that are outputs of a model, by the names that a `Network` has for them.

    Parameters
    ----------
    chain : Chain
    recurrent : dict
        The chain's layers over the steps, by name.
    notes : list of str
        Grows by what there is to tell.

    Raises
    ------
    ModelError
        If an output is no such state, or only one direction's.
    """
    names: list[str] = []
    wanted = list(chain.states)
    while wanted:
        name, number = wanted.pop(0)
        found = recurrent.get(name)
        if found is None or number == 0:
            raise ModelError(
                f"every output of the model but the first must be a final state of one of the "
                f"layers that the first comes from, not output {number} of layer '{name}'"
            )
        if not found.returned or (isinstance(number, int) and number > found.states):
            raise ModelError(f"layer '{name}' has no output {number}")
        if found.exchanged:
            raise ModelError(
                f"layer '{name}' reads its sequence from the end, which exchanges its two "
                "directions; its final states must not be outputs of the model"
            )
        if isinstance(number, str):
            names.append(f"lstm{found.first}.{number}")
        elif found.kind != "Bidirectional":
            names.append(f"lstm{found.first + (number - 1) // 2}.{'hc'[(number - 1) % 2]}")
        else:
            names += _both(name, found.first, number, wanted)
            notes.append(f"layer '{name}': its two directions' final states are one output, the "
                         "forward one's first.")
    return tuple(names)


def _both(name: str, first: int, number: int, wanted: list[tuple[str, int | str]]) -> list[str]:
    """Final states of two directions, which are outputs one after the other."""
    for order, tensors in PAIRS.items():
        rest = [(name, other) for other in order[1:]]
        if number == order[0] and wanted[: len(rest)] == rest:
            del wanted[: len(rest)]
            return [f"lstm{first}.{tensor}" for tensor in tensors]
    raise ModelError(f"of layer '{name}', the final states of both directions must be outputs, the "
                     "forward one followed by the backward one")
