"""Proofs that a fault is none: nothing that can be seen of the design differs, in any cycle.

Two copies of the design, one with the fault, have the same inputs. Seen are its ports, the flags
and the probes; data only where its valid is high. The environment is that of the protocol and of
the bench: a reset comes first, and a beat that was offered stays until it is taken. Everything else
may be anything: further resets at any time, what registers and memories without an initial value
hold at first, beats at any time.

To be proven is that from states that agree both go over to states that agree, and show the same;
then they do so for ever. States agree if all registers are equal, but for some: of those the faulty
design has its own. Which these are, and when, is what random runs of both show: those that ever
differ, each unless one other register has a certain value, such as the mark that says that data is
there. Where what is seen differs in such a run, the fault is one.

So the claim is one on a single step, whatever data registers hold that agree; only the control, all
registers that no input data ever reaches, goes its way from the start. Where that is not enough, a
few registers of data do so, too, those nearest to the claim. ABC decides, by signal correspondence
and PDR.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.aig import FALSE, TRUE, Circuit, Graph
from benchmarks.mutants import CORE, MODULE, SELECTOR, Mutation
from benchmarks.runs import Runs, Source, always, at_rates, rarely
from fpga.tools import Processes, Progress
from sim.manifest import Manifest

__all__ = ["Proof", "Prover"]

ABC = Path(__file__).resolve().parents[1] / "proofs" / "abc_command.py"

DEPTHS = (0, 1, 2, 4)
"""Registers of data on the way to the claim that go their way; beyond them anything may be."""

CYCLES = 300
"""Of the random runs."""

RATES = (0, 1, 3, 6)
"""How often, in halvings, beats are offered and taken in them."""

SECONDS = 30
"""For PDR, of each claim; what comes before it may take as long again."""

# A register without an initial value holds anything at first, and the same in both copies.
POWER_UP = r"""
module \$_DFF_P_ (input D, input C, output Q);
  parameter _TECHMAP_WIREINIT_Q_ = 1'bx;
  generate
    if (_TECHMAP_WIREINIT_Q_ === 1'bx) begin
      wire held;
      (* init = 1'b0 *) wire begun;
      (* init = 1'b0 *) wire q;
      \$_DFF_P_ of_begun (.C(C), .D(1'b1), .Q(begun));
      \$_DFF_P_ of_q (.C(C), .D(D), .Q(q));
      assign Q = begun ? q : held;
    end else
      wire _TECHMAP_FAIL_ = 1'b1;
  endgenerate
endmodule
"""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What came of trying to prove that a fault changes nothing.

    Parameters
    ----------
    number : int
        The fault's.
    proven : bool
    changed : int
        Registers that it changes, where it is proven that nothing else differs.
    depth : int
        Registers of data on the way to the claim that the proof looks at.
    seen : bool
        Whether a random run shows that it is a fault.
    """

    number: int
    proven: bool
    changed: int = 0
    depth: int = 0
    seen: bool = False

    @property
    def text(self) -> str:
        if not self.proven:
            return "a fault, as a random run shows" if self.seen else "not proven"
        if not self.changed:
            return "no register ever differs"
        return f"{self.changed} register{'s' * (self.changed > 1)} may differ, and nothing else"


def _below(path: str) -> str:
    """A signal's name in the mutated module, once that is flat."""
    return path.removeprefix(f"{MODULE}.{CORE}.")


def _observed(manifest: Manifest, width: int) -> str:
    """The design with a source that keeps to the protocol, and what can be seen of it."""
    s, m = manifest.input.prefix, manifest.output.prefix
    flags = max(1, len(manifest.saturation))
    ports = [("clk", 1), ("rst", 1), (SELECTOR, width), ("offer", 1),
             ("beat", manifest.input.width + 1), (f"{m}_tready", 1)]
    seen = [(f"{s}_tready", 1), (f"{m}_tvalid", 1), ("word", manifest.output.width + 1),
            ("saturated", flags), ("malformed", 1)]
    shown, pins = [], []
    for number, probe in enumerate(manifest.probes):
        name, bits = f"seen{number}", probe.lanes * probe.width
        seen += [(f"{name}_valid", probe.lanes), (name, bits)]
        shown.append(f"  wire [{bits - 1}:0] {name}_data;")
        for lane in range(probe.lanes):
            part = f"[{(lane + 1) * probe.width - 1}:{lane * probe.width}]"
            shown.append(f"  assign {name}{part} = {name}_data{part} & "
                         f"{{{probe.width}{{{name}_valid[{lane}]}}}};")
        pins += [f".\\{_below(probe.valid)} ({name}_valid)",
                 f".\\{_below(probe.data)} ({name}_data)"]
    beat = f"[{manifest.input.width}:0]"
    pins += [".rst(reset)"]
    pins += [f".{name}({name})" for name in ("clk", SELECTOR, f"{s}_tready", f"{m}_tvalid",
                                             f"{m}_tready", "saturated", "malformed")]
    pins += [f".{s}_tvalid(waits | offer)", f".{s}_tlast(now[{manifest.input.width}])",
             f".{s}_tdata(now[{manifest.input.width - 1}:0])", f".{m}_tlast(last)",
             f".{m}_tdata(data)"]
    return "\n".join([
        "module observed(" + ", ".join(
            [f"input [{bits - 1}:0] {name}" for name, bits in ports]
            + [f"output [{bits - 1}:0] {name}" for name, bits in seen]) + ");",
        "  reg begun = 0;", "  wire reset = rst | ~begun;",
        "  reg waits = 0;", f"  reg {beat} kept = 0;", f"  wire {beat} now = waits ? kept : beat;",
        "  always @(posedge clk) begin", "    begun <= 1;",
        f"    waits <= (waits | offer) & ~{s}_tready & ~reset;", "    kept <= now;", "  end",
        "  wire last;", f"  wire [{manifest.output.width - 1}:0] data;",
        f"  assign word = {{last, data}} & {{{manifest.output.width + 1}{{{m}_tvalid}}}};",
        *shown, f"  \\{MODULE}.{CORE} {CORE}({', '.join(pins)});", "endmodule", ""])


class Prover:
    """Tries to prove that faults of a design change nothing.

    Parameters
    ----------
    folder : Path
        Where `write_mutants` has put the design; gets a subfolder ``proof``.
    processes : Processes
    progress : function of str
    """

    def __init__(self, folder: Path, *, processes: Processes, progress: Progress) -> None:
        self._folder = folder / "proof"
        self._progress = progress
        self._ready = f"{Manifest.load(folder).output.prefix}_tready"
        path = self._folder / "design.aag"
        if not path.is_file():
            self._prepare(folder, path, processes)
        self._circuit = Circuit.read(path)
        self._selector = self._circuit.find(SELECTOR)
        self._control = self._circuit.untouched(self._circuit.find("beat")[:-1])

    def _prepare(self, folder: Path, path: Path, processes: Processes) -> None:
        """The design with its faults, as a graph of gates."""
        self._folder.mkdir(exist_ok=True)
        manifest = Manifest.load(folder)
        mutations = (folder / "mutations.ys").read_text(encoding="utf-8")
        width = int(mutations.split(f"-ctrl {SELECTOR} ")[1].split()[0])
        (self._folder / "power_up.v").write_text(POWER_UP, encoding="utf-8")
        (self._folder / "observed.v").write_text(_observed(manifest, width), encoding="utf-8")
        probes = " ".join(f"w:{_below(name)}" for probe in manifest.probes
                          for name in (probe.valid, probe.data))
        partial = path.with_suffix(".partial")
        (self._folder / "prepare.ys").write_text("\n".join([
            "read_rtlil ../plain.il", "script ../mutations.ys",
            f"hierarchy -top {MODULE}.{CORE}", "flatten", "delete t:$scopeinfo",
            f"expose {probes}", "read_verilog observed.v", "hierarchy -top observed", "proc",
            "flatten", "delete t:$scopeinfo", "opt_clean -purge", "memory_map", "opt_expr",
            "simplemap", "opt_clean -purge", "techmap -map power_up.v t:$_DFF_P_",
            # What nothing drives, and what is undefined, may be anything in each cycle.
            "setundef -undriven -anyseq", "techmap", "simplemap", "opt_clean -purge", "aigmap",
            "opt_clean -purge", f"write_aiger -ascii -symbols {partial.name}", ""]),
            encoding="utf-8")
        processes.run("yosys", ["-q", "-s", "prepare.ys"], folder=self._folder,
                      log=self._folder / "yosys.log", waiting=lambda seconds: self._progress(
                          f"the design as gates: {seconds:.0f} s so far"))
        partial.rename(path)

    def _select(self, inputs: Sequence[int], number: int) -> list[int]:
        chosen = list(inputs)
        for bit, place in enumerate(self._selector):
            chosen[place] = number >> bit & 1
        return chosen

    def _runs(self, number: int) -> Runs:
        """Random runs with a fault; always with the same inputs."""
        circuit = self._circuit
        sources: list[Source] = [rarely(1)] * len(circuit.inputs)
        for name, source in (("rst", rarely(9)), ("offer", at_rates(RATES, 1)),
                             (self._ready, at_rates(RATES, len(RATES)))):
            sources[circuit.find(name)[0]] = source
        for bit, place in enumerate(self._selector):
            sources[place] = always(number >> bit & 1)
        return Runs(circuit, sources, cycles=CYCLES, seed=1)

    @cached_property
    def _right(self) -> Runs:
        return self._runs(0)

    @cached_property
    def _marks(self) -> list[int]:
        """The places of the registers of control that a reset takes to where they begin."""
        circuit, graph = self._circuit, Graph()
        inputs = [graph.leaf() for _ in circuit.inputs]
        inputs[circuit.find("rst")[0]] = TRUE
        goes, _ = graph.place(circuit, inputs, [graph.leaf() for _ in circuit.latches])
        return [place for place in sorted(self._control) if goes[place] == circuit.starts[place]]

    def _quiet(self, differs: int) -> tuple[int, int] | None:
        """The register whose value, most often, goes with another's not differing."""
        found = None
        most = 0
        whole = (1 << differs.bit_length()) - 1
        for place in self._marks:
            for level in (0, 1):
                held = self._right.latches[place] ^ (0 if level else whole)
                if not differs & held and (count := (held & whole).bit_count()) > most:
                    most, found = count, (place, level)
        return found

    def prove(self, mutation: Mutation) -> Proof:
        """Try it, with more and more of the design."""
        number = mutation.number
        if mutation.clocks:
            # A graph of gates has one clock, which is not part of it.
            return Proof(number=number, proven=False)
        right, wrong = self._right, self._runs(number)
        if right.outputs != wrong.outputs:
            return Proof(number=number, proven=False, seen=True)
        circuit = self._circuit
        own = {place: None if place in self._control else self._quiet(one ^ other)
               for place, (one, other) in enumerate(zip(right.latches, wrong.latches, strict=True))
               if one != other}
        graph = Graph()
        inputs = [graph.leaf() for _ in circuit.inputs]
        states = [graph.leaf() for _ in circuit.latches]
        faulty = [graph.leaf() if place in own else state for place, state in enumerate(states)]
        goes, shows = graph.place(circuit, self._select(inputs, 0), states)
        other_goes, other_shows = graph.place(circuit, self._select(inputs, number), faulty)

        def apart(ones: Sequence[int], others: Sequence[int]) -> list[int]:
            """What must not be, of two states: registers that do not agree."""
            found = []
            for place, pair in enumerate(zip(ones, others, strict=True)):
                if place in own and own[place] is None:
                    continue
                differ = graph.differ(*pair)
                if quiet := own.get(place):
                    differ = graph.both(differ, ones[quiet[0]] ^ quiet[1] ^ 1)
                found.append(differ)
            return found

        wrongly = [*apart(goes, other_goes),
                   *(graph.differ(*pair) for pair in zip(shows, other_shows, strict=True))]
        claim = graph.both(graph.either(wrongly), graph.either(apart(states, faulty)) ^ 1)
        if claim == FALSE:
            return Proof(number=number, proven=True, changed=len(own))
        latches = {node: (goes[place], circuit.starts[place]) for place, node in enumerate(states)}
        latches |= {faulty[place]: (other_goes[place], circuit.starts[place]) for place in own}
        control = {one for place in self._control for one in (states[place], faulty[place])}
        for depth in DEPTHS:
            path = self._folder / f"claim{number}.aig"
            whole = graph.write(path, latches, claim, depth=depth, always=control)
            if self._never(path):
                return Proof(number=number, proven=True, changed=len(own), depth=depth)
            if whole:
                break
        return Proof(number=number, proven=False)

    def _never(self, path: Path) -> bool:
        """Whether the output of a circuit is proven to stay 0."""
        left = path.with_suffix(".left.aig")
        left.unlink(missing_ok=True)
        command = (f"read_aiger {path.name}; strash; fraig; scorr; scleanup; "
                   f"write_aiger {left.name}; pdr -T {SECONDS}; print_stats")
        try:
            said = subprocess.run([sys.executable, str(ABC), "-c", command], cwd=path.parent,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=2 * SECONDS, check=False).stdout
        except subprocess.TimeoutExpired:
            return False
        if "Property proved" in said:
            return True
        # Where no register is left, there is nothing for PDR to do.
        if not left.is_file():
            return False
        header, *lines = left.read_bytes().split(b"\n")
        return lines[int(header.split()[3])] == b"0"
