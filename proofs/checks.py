"""Claims, and the aids without which an induction would begin in states that there cannot be.

A claim is what a proof is there for. Its aids are proven along with it, but a fault that breaks one
of them may break nothing that anybody wants to know. So they are in a module of their own, which is
left out where a fault is looked for: from power-up on, a claim needs no aid.
"""

from typing import Any

from amaranth.hdl import Assert, Module, Signal, Value

__all__ = ["AIDS", "Checks", "Claims"]

AIDS = "aids"
"""The submodule that has them."""


class Checks:
    """Assertions, each a signal of its own, so that a trace says by name which one does not hold.

    Parameters
    ----------
    m : Module
        Where they are made.
    """

    def __init__(self, m: Module):
        self._m = m

    def holds(self, name: str, condition: Any) -> None:
        """The condition, a bit wide, or a truth value."""
        signal = Signal(name=f"holds_{name}")
        self._m.d.comb += [signal.eq(condition), Assert(signal)]

    def follows(self, name: str, premise: Any, conclusion: Any) -> None:
        """The conclusion holds where the premise does; both are a bit wide, or truth values."""
        self.holds(name, ~Value.cast(premise).bool() | Value.cast(conclusion).bool())


class Claims(Checks):
    """What is to be proven.

    Parameters
    ----------
    m : Module
        Of the proof.

    Attributes
    ----------
    aids : Checks
        What helps an induction, and is proven along.
    """

    def __init__(self, m: Module):
        super().__init__(m)
        within = Module()
        m.submodules[AIDS] = within
        self.aids = Checks(within)
