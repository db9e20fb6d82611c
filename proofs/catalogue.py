"""All proofs there are."""

from collections.abc import Mapping

from proofs import (
    arithmetic,
    buffers,
    contract,
    hidden,
    inputs,
    order,
    pages,
    passage,
    progress,
    resets,
    room,
    rounding,
    softmax,
    sums,
)
from proofs.proof import Proof

__all__ = ["proofs"]

MODULES = (rounding, arithmetic, sums, contract, room, buffers, order, passage, softmax,
           progress, resets, hidden, inputs, pages)


def proofs() -> Mapping[str, Proof]:
    """The proofs by name, in the order of the modules.

    Raises
    ------
    ValueError
        If two have the same name.
    """
    found: dict[str, Proof] = {}
    for module in MODULES:
        for proof in module.PROOFS:
            if proof.name in found:
                raise ValueError(f"proofs must have different names, but there are two "
                                 f"{proof.name}")
            found[proof.name] = proof
    return found
