"""One cycle of reset brings every register back that has a value to begin with, from any state.

By induction from any state at all, reachable or not. The other registers and the memories keep
what they had. What they hold does not matter: the proofs of inputs and hidden states say nothing of
what memories hold at first, and registers without a reset are on the way of what comes from there.
"""

from functools import partial

from amaranth.hdl import Fragment, Module, ResetInserter, Signal

from hdl.network import Network
from hdl.pipeline import PIPELINES
from proofs.engines import Checks, EngineShape, anything
from proofs.proof import Engine, Fault, Proof

__all__ = ["PROOFS"]
