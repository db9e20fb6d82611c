"""Proofs that a fault is none: nothing that can be seen of the design differs, in any cycle.

Two copies of the design, one with the fault, have the same inputs. Seen are its ports, the flags
and the probes; data only where its valid is high. The environment is that of the protocol: a beat
that was offered stays until it is taken. Everything else may be anything: reset at any time, what
registers and memories without an initial value hold at first, beats at any time.

To be proven is that from equal states both go over to equal states, and show the same; then they do
so for ever. That is a claim on one copy, but for the registers that the fault does change: of those
the faulty design has its own. At first that is none; where the claim fails, those by which it does,
and then those which these change in turn. A claim that holds whatever the registers farther away
hold needs only a small part of the design, so that is tried first. ABC decides each claim, by
signal correspondence and PDR.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from benchmarks.aig import Circuit, Graph
from benchmarks.mutants import CORE, MODULE, SELECTOR, Mutation
from fpga.tools import Processes, Progress
from sim.manifest import Manifest

__all__ = ["Proof", "Prover"]

ABC = Path(__file__).resolve().parents[1] / "proofs" / "abc.py"

ROUNDS = 10
"""How often registers are added to those that the fault may change."""

DEPTHS = (1, 2, 4)
"""Registers on the way to the claim that are looked at; beyond them anything may be."""

SECONDS = 30
"""For PDR, of each claim; what comes before it may take as long again."""

LIMIT = 300
"""Seconds for each fault, after which no further claim is tried."""

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
        Registers on the way to the claim that the proof looks at.
    """

    number: int
    proven: bool
    changed: int = 0
    depth: int = 0

    @property
    def text(self) -> str:
        if not self.proven:
            return "not proven"
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
    pins += [f".{name}({name})" for name in ("clk", "rst", SELECTOR, f"{s}_tready", f"{m}_tvalid",
                                             f"{m}_tready", "saturated", "malformed")]
    pins += [f".{s}_tvalid(waits | offer)", f".{s}_tlast(now[{manifest.input.width}])",
             f".{s}_tdata(now[{manifest.input.width - 1}:0])", f".{m}_tlast(last)",
             f".{m}_tdata(data)"]
    return "\n".join([
        "module observed(" + ", ".join(
            [f"input [{bits - 1}:0] {name}" for name, bits in ports]
            + [f"output [{bits - 1}:0] {name}" for name, bits in seen]) + ");",
        "  reg waits = 0;", f"  reg {beat} kept = 0;", f"  wire {beat} now = waits ? kept : beat;",
        "  always @(posedge clk) begin",
        f"    waits <= (waits | offer) & ~{s}_tready & ~rst;", "    kept <= now;", "  end",
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
        path = self._folder / "design.aag"
        if not path.is_file():
            self._prepare(folder, path, processes)
        self._circuit = Circuit.read(path)
        self._selector = self._circuit.find(SELECTOR)

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

    def prove(self, mutation: Mutation) -> Proof:
        """Try it, with more and more of the design."""
        number, circuit = mutation.number, self._circuit
        own: list[int] = []
        if mutation.clocks:
            # A graph of gates has one clock, which is not part of it.
            return Proof(number=number, proven=False)
        begin = monotonic()
        for _ in range(ROUNDS):
            graph = Graph()
            inputs = [graph.leaf() for _ in circuit.inputs]
            states = [graph.leaf() for _ in circuit.latches]
            faulty = list(states)
            for place in own:
                faulty[place] = graph.leaf()
            goes, shows = graph.place(circuit, self._select(inputs, 0), states)
            other_goes, other_shows = graph.place(circuit, self._select(inputs, number), faulty)
            apart = [place for place in range(len(states))
                     if goes[place] != other_goes[place] and place not in own]
            pairs = [(goes[place], other_goes[place]) for place in apart]
            pairs += [pair for pair in zip(shows, other_shows, strict=True) if pair[0] != pair[1]]
            if not pairs:
                return Proof(number=number, proven=True, changed=len(own))
            latches = {node: (goes[place], circuit.starts[place])
                       for place, node in enumerate(states)}
            latches |= {faulty[place]: (other_goes[place], circuit.starts[place]) for place in own}
            claim = graph.either([graph.differ(*pair) for pair in pairs])
            for depth in DEPTHS:
                path = self._folder / f"claim{number}.aig"
                whole = graph.write(path, latches, claim, depth=depth)
                if self._never(path):
                    return Proof(number=number, proven=True, changed=len(own), depth=depth)
                if monotonic() - begin > LIMIT:
                    return Proof(number=number, proven=False)
                if whole:
                    break
            if not apart:
                break
            own += apart
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
