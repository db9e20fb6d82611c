"""All that is behind the last LSTM layer: dense layers in a row, and what becomes of the last."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

from golden.argmax import ArgMax
from golden.quantized_network import QuantizedNetwork
from golden.softmax import Softmax
from hdl.dense import DenseEngine
from hdl.dense_cycles import DenseFolding, choose_dense_folding
from hdl.largest import ArgMaxEngine
from hdl.outlet import Outlet
from hdl.pipeline import Pipeline
from hdl.softmax import SoftmaxEngine
from hdl.vector_cycles import choose_lanes

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
    outlet : Outlet or None
        What sends the hidden states where there is no dense layer: as many to a beat as keep to the
        budget.
    vector : ArgMaxEngine, SoftmaxEngine or None
        What becomes of the outputs of the last dense layer.
    lanes : int
        Elements in an output beat.
    tensors : list of str
        What is rounded, one flag each.
    work : int
        Cycles in which a step goes through the slowest part.
    latency, whole_latency : int
        Cycles from the last beat of a step's hidden states to its first and its last output beat,
        where nothing is on its way.
    held : int
        Steps that it takes in while no output is taken.

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
        self.outlet: Outlet | None = None
        self.vector: ArgMaxEngine | SoftmaxEngine | None = None
        if not engines:
            last = network.layers[-1]
            self.outlet = Outlet(last.y, lanes=choose_lanes(last.outputs, budget),
                                 counts=counts, pipeline=pipeline, streams=streams)
            self.lanes = self.outlet.cycles.lanes
            self.tensors: list[str] = []
            return
        if isinstance(network.vector, ArgMax):
            self.vector = ArgMaxEngine(network.vector, counts=counts, streams=streams)
        elif isinstance(network.vector, Softmax):
            self.vector = SoftmaxEngine(network.vector, counts=counts, pipeline=pipeline,
                                        streams=streams)
        self.lanes = 1 if self.vector else engines[-1].cycles.folding.rows
        self.tensors = [f"dense{number}.y" for number in range(len(engines))]

    def name(self, number: int) -> str:
        """The instance of a dense layer."""
        return "dense" if len(self.dense) == 1 else f"dense{number}"

    @property
    def vector_name(self) -> str:
        """The instance of what becomes of the outputs."""
        return "argmax" if isinstance(self.vector, ArgMaxEngine) else "softmax"

    @property
    def multipliers(self) -> int:
        return (sum(engine.cycles.multipliers for engine in self.dense)
                + (self.vector.cycles.multipliers if self.vector else 0))

    @property
    def work(self) -> int:
        if self.outlet:
            return self.outlet.cycles.work
        return max(*(engine.cycles.work for engine in self.dense),
                   self.vector.cycles.work if self.vector else 0)

    @property
    def latency(self) -> int:
        if self.outlet:
            return self.outlet.cycles.latency
        if self.vector:
            of = self.vector.cycles
            return self.whole_latency - of.whole_latency + of.latency
        # A first output beat needs one pass.
        last = self.dense[-1].cycles
        return self.whole_latency - last.work + last.words

    @property
    def whole_latency(self) -> int:
        if self.outlet:
            return self.outlet.cycles.whole_latency
        return (sum(engine.cycles.work + engine.cycles.latency for engine in self.dense)
                + (self.vector.cycles.whole_latency if self.vector else 0))

    @property
    def held(self) -> int:
        if self.outlet:
            return self.outlet.cycles.held
        return (sum(engine.cycles.held for engine in self.dense)
                + (self.vector.cycles.held if self.vector else 0))

    @property
    def freed(self) -> Signal:
        """For each stream: a page behind the last LSTM layer is free again."""
        return self.outlet.freed if self.outlet else self.dense[0].freed

    @property
    def saturated(self) -> list[Signal]:
        return [engine.saturated for engine in self.dense]

    def place(self, m: Module, source: Any) -> Any:
        """Put the parts into a module, behind the hidden states; returns the outputs."""
        parts: dict[str, Any] = {self.name(n): engine for n, engine in enumerate(self.dense)}
        if self.outlet:
            parts["outlet"] = self.outlet
        if self.vector:
            parts[self.vector_name] = self.vector
        for name, part in parts.items():
            m.submodules[name] = part
            wiring.connect(m, source, part.i)
            source = part.o
        return source
