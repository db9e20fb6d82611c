"""A design with faults in it that Yosys has chosen, and a selector that picks one of them.

The design is small and has all that is hard: passes with a unit and a column to spare, a bubble,
and a head; its weights and its sequences make every tensor saturate. Yosys's ``mutate`` draws the
faults from all bits of all cells, evenly over modules, cells and lines; each is active where the
selector has its number, and at 0 the design is as it was. So one simulator serves all of them.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fpga.tools import Processes, Progress
from golden.fixed import SQ
from golden.formats import DenseFormats
from golden.quantized import QuantizedDense
from golden.quantized_network import QuantizedNetwork
from hdl.network import Network
from hdl.verilog import generate
from sim.manifest import MANIFEST
from sim.vectors import VECTORS, Vectors
from tests.networks import FORMATS, folded, random_codes, random_network

__all__ = ["MODULE", "MUTANT", "SELECTOR", "Mutation", "Subject", "random_subject",
           "write_mutants"]

MODULE = "gatefold"
CORE = "core"
SELECTOR = "selected"
MUTANT = "mutant"
"""The plusarg that gives the number of the active fault."""

STEPS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A design that is to be mutated.

    Parameters
    ----------
    core : Network
    vectors : Vectors
    """

    core: Network
    vectors: Vectors

    @property
    def text(self) -> str:
        """The design in one line."""
        core = self.core
        engine = core.engines[0].cycles
        return (f"{core.network.inputs} inputs, {engine.hidden} hidden units, "
                f"{core.network.outputs} outputs, {core.network.x.width} bits; "
                f"{engine.folding.units} units by {engine.folding.columns} columns, "
                f"{engine.passes} passes of {engine.words} cycles and a bubble of {engine.bubble}; "
                f"{self.vectors.sequences} sequences, {len(self.vectors.x)} steps")


def _sequences(rng: np.random.Generator, network: QuantizedNetwork, count: int
               ) -> list[np.ndarray]:
    """Random steps, constants, extremes, tiny numbers: codes [steps, inputs] of each sequence."""
    to, inputs = network.x, network.inputs
    extremes = np.array(np.meshgrid(*[[to.min, to.max]] * inputs)).reshape(inputs, -1).T
    some = [random_codes(rng, to, (int(steps), inputs))
            for steps in rng.integers(1, STEPS, count, endpoint=True)]
    some += [np.tile(codes, (STEPS, 1)) for codes in extremes]
    some += [extremes[rng.integers(len(extremes), size=STEPS)] for _ in range(count // 4)]
    some += [random_codes(rng, to, (STEPS, inputs), size)
             for size in (0.02, 0.1, 0.3) for _ in range(count // 12)]
    some += [np.tile(rng.integers(to.min, to.max, inputs, endpoint=True), (STEPS, 1))
             for _ in range(count // 4)]
    return some


def random_subject(*, hidden: int = 5, count: int = 160, seed: int = 51) -> Subject:
    """A layer of two inputs, on two units by two columns, and a head of two outputs.

    Parameters
    ----------
    hidden : int
    count : int
        Sequences of random steps; there are about twice as many in all.
    seed : int
        Of weights and sequences.
    """
    rng = np.random.default_rng(seed)
    network = random_network(rng, FORMATS["8 bits"], 2, (hidden,), None, every_step=True,
                             size=0.6)
    # An output of a narrow range saturates, too.
    formats = DenseFormats(x=network.layers[0].formats.h, w=SQ(2, 9), y=SQ(2, 8))
    limit = 1 << formats.product_fraction
    head = QuantizedDense(formats=formats, w=random_codes(rng, formats.w, (2, hidden)),
                          bias=rng.integers(-limit, limit, 2))
    network = replace(network, head=(head,))
    sequences = _sequences(rng, network, count)
    x = np.zeros((len(sequences), STEPS, network.inputs), dtype=np.int64)
    for row, codes in zip(x, sequences, strict=True):
        row[:len(codes)] = codes
    lengths = np.array([len(codes) for codes in sequences])
    core = Network(network, foldings=folded(network, 2, 2))
    return Subject(core=core, vectors=Vectors.compute(network, x, lengths))


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A fault, as Yosys has put it down.

    Parameters
    ----------
    number : int
        What the selector has to be; from 1 on.
    command : str
        Yosys's own.
    """

    number: int
    command: str

    def _option(self, name: str) -> str | None:
        found = re.search(rf" -{name} (\S+)", self.command)
        return found[1] if found else None

    @property
    def module(self) -> str:
        """The module below the top that it is in, or the top."""
        return (self._option("module") or "").removeprefix(f"{MODULE}.")

    @property
    def clocks(self) -> bool:
        """Whether it is in the way of a clock."""
        return (self._option("port") or "").lower() == "clk"

    @property
    def place(self) -> str:
        """What is changed: a cell's port, and the signal there where it has a name."""
        cell, wire = self._option("cell") or "", self._option("wire")
        # The name of a cell without the lines of the Verilog and the numbers that Yosys adds.
        kind = re.sub(r"^\$(\w+)\$.*?$", r"\1", cell).removeprefix("proc")
        signal = f" ({wire.lstrip(chr(92))})" if wire and "$" not in wire[:2] else ""
        return f"{kind}.{self._option('port')}[{self._option('portbit')}]{signal}"

    @property
    def change(self) -> str:
        """What becomes of the bit."""
        mode, control = self._option("mode"), self._option("ctrlbit")
        return {"inv": "inverted", "const0": "0", "const1": "1",
                "cnot0": f"inverted where bit {control} is 0",
                "cnot1": f"inverted where bit {control} is 1"}[mode or ""]


def _wrapper(verilog: str, width: int) -> str:
    """The top module: the mutated one, and a selector that a plusarg sets."""
    top = verilog[verilog.index(f"module {MODULE}("):]
    ports = re.findall(r"^  (input|output) (\[\d+:0\] )?(\w+);$",
                       top[:top.index("endmodule")], re.MULTILINE)
    declared = ", ".join(f"{way} wire {bits}{name}" for way, bits, name in ports)
    connected = ", ".join(f".{name}({name})" for _, _, name in ports)
    return (f"module {MODULE}({declared});\n"
            f"  reg [{width - 1}:0] {SELECTOR};\n"
            f'  initial if (!$value$plusargs("{MUTANT}=%d", {SELECTOR})) {SELECTOR} = 0;\n'
            f"  \\{MODULE}.{CORE} {CORE} ({connected}, .{SELECTOR}({SELECTOR}));\n"
            f"endmodule\n")


def _moved(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a design that stands a level lower."""
    probes = [{**probe, **{key: probe[key].replace(f"{MODULE}.", f"{MODULE}.{CORE}.", 1)
                           for key in ("valid", "data")}} for probe in manifest["probes"]]
    return {**manifest, "probes": probes}


def write_mutants(subject: Subject, folder: Path, *, count: int, seed: int, processes: Processes,
                  progress: Progress) -> list[Mutation]:
    """Write a design with all faults, ready to be verified, and what the proofs begin with.

    Parameters
    ----------
    subject : Subject
    folder : Path
        Gets ``gatefold.v`` with manifest and vectors, and ``plain.il`` and ``mutations.ys``.
    count : int
        Faults to choose.
    seed : int
        Of Yosys's choice.
    processes : Processes
    progress : function of str

    Raises
    ------
    ToolError
        If Yosys fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    verilog, manifest = generate(subject.core, MODULE)
    (folder / "plain.v").write_text(verilog, encoding="utf-8")
    width = count.bit_length()
    top = f"{MODULE}.{CORE}"

    def yosys(name: str, *commands: str) -> None:
        (folder / f"{name}.ys").write_text("\n".join([*commands, ""]), encoding="utf-8")
        processes.run("yosys", ["-q", "-s", f"{name}.ys"], folder=folder,
                      log=folder / f"{name}.log",
                      waiting=lambda seconds: progress(f"Yosys: {seconds:.0f} s so far"))

    progress(f"Yosys chooses {count} faults, seed {seed}")
    # Muxes of one select bit have a meaning whatever the selects are. A fault in a memory's ports
    # is one in those of the module that it stands in alone; its own have constants among them,
    # such as the enable of a port without a clock, with which Yosys allows no memory.
    yosys("choose", "read_verilog plain.v", f"prep -top {MODULE}", "pmuxtree", "opt_clean",
          f"rename {MODULE} {top}", "write_rtlil plain.il",
          f"mutate -list {count} -seed {seed} -o mutations.ys -ctrl {SELECTOR} {width} 1 "
          f"* t:$mem_v2 %d")
    # What drives a probe alone is used by nothing that Yosys knows of, so nothing is cleaned away.
    yosys("plant", "read_rtlil plain.il", "script mutations.ys", "write_verilog -noattr mutated.v")
    lines = (folder / "mutations.ys").read_text(encoding="utf-8").splitlines()
    mutated = (folder / "mutated.v").read_text(encoding="utf-8")
    (folder / manifest["verilog"]).write_text(_wrapper(verilog, width) + mutated, encoding="utf-8")
    (folder / MANIFEST).write_text(json.dumps(_moved(manifest), indent=2) + "\n", encoding="utf-8")
    subject.vectors.save(folder / VECTORS)
    return [Mutation(number=number, command=line) for number, line in enumerate(lines, start=1)]
