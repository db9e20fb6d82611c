"""All that is behind the last LSTM layer: the dense layers in a row."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

from golden.quantized_network import QuantizedNetwork
from hdl.cycles import DenseFolding, Pipeline, choose_dense_folding
from hdl.dense import DenseEngine

__all__ = ["Head"]


class Head:
    """What a network has behind its last LSTM layer, as parts of the network's own module.

    Each part has an input buffer of its own, takes a step of any stream when it is there, and has a
    queue for what comes out. So they work on steps of their own, and the slowest sets their pace.

    Parameters
    ----------
    network : QuantizedNetwork
    counts : sequence of int
        Units in each beat of h that the last LSTM layer emits for a step.
    foldings : sequence of DenseFolding or None
        One for each dense layer; by default the smallest that keep to the budget.
    budget : int
        Cycles that a part may take for a step (:func:`hdl.cycles.head_budget`).
    pipeline : Pipeline
    streams : int

    Attributes
    ----------
    dense : tuple of DenseEngine
    lanes : int
        Elements in an output beat.
    tensors : list of str
        What is rounded, one flag each.
    work : int
        Cycles in which a step goes through the slowest part.
    latency, whole_latency : int
        Cycles from the last beat of a step's hidden states to its first and its last output beat,
        where nothing is on its way.

    Raises
    ------
    ValueError
        If there is not one folding for each dense layer.
    """

    def __init__(self, network: QuantizedNetwork, *, counts: Sequence[int],
                 foldings: Sequence[DenseFolding] | None, budget: int, pipeline: Pipeline,
                 streams: int):
        if foldings is None:
            foldings = [choose_dense_folding(dense.inputs, dense.outputs, budget)
                        for dense in network.head]
        if len(foldings) != len(network.head):
            raise ValueError(f"foldings of the head must be as many as dense layers, "
                             f"{len(network.head)}, not {len(foldings)}")
        engines: list[DenseEngine] = []
        for layer, folding in zip(network.head, foldings, strict=True):
            engine = DenseEngine(layer, folding=folding, counts=counts, pipeline=pipeline,
                                 streams=streams, prompt=bool(engines) and len(counts) + 1 >
                                 ceil(layer.outputs / folding.rows)
                                 * ceil(layer.inputs / folding.columns))
            engines.append(engine)
            counts = engine.cycles.counts
        self.dense = tuple(engines)
        if not engines:
            raise ValueError("network head must have a dense layer, not none")
        self.lanes = engines[-1].cycles.folding.rows
        self.tensors = [f"dense{number}.y" for number in range(len(engines))]

    def name(self, number: int) -> str:
        """The instance of a dense layer."""
        return "dense" if len(self.dense) == 1 else f"dense{number}"

    @property
    def multipliers(self) -> int:
        return sum(engine.cycles.multipliers for engine in self.dense)

    @property
    def work(self) -> int:
        return max(engine.cycles.work for engine in self.dense)

    @property
    def latency(self) -> int:
        # A first output beat needs one pass.
        last = self.dense[-1].cycles
        return self.whole_latency - last.work + last.words

    @property
    def whole_latency(self) -> int:
        return sum(engine.cycles.work + engine.cycles.latency for engine in self.dense)

    @property
    def freed(self) -> Signal:
        """For each stream: a page behind the last LSTM layer is free again."""
        return self.dense[0].freed

    @property
    def saturated(self) -> list[Signal]:
        return [engine.saturated for engine in self.dense]

    def place(self, m: Module, source: Any) -> Any:
        """Put the parts into a module, behind the hidden states; returns the outputs."""
        for number, engine in enumerate(self.dense):
            m.submodules[self.name(number)] = engine
            wiring.connect(m, source, engine.i)
            source = engine.o
        return source
