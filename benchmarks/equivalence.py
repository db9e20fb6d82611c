"""Proofs that a fault is none: nothing that can be seen of the design differs, in any cycle.

Two copies of the design, one with the fault, have the same inputs. Seen are its ports, the flags
and the probes; data only where its valid is high. The environment is that of the protocol and of
the bench: a reset comes first, and a beat that was offered stays until it is taken. Everything else
may be anything: further resets at any time, what registers and memories without an initial value
hold at first, beats at any time.

To be proven is that from states that agree both go over to states that agree, and show the same;
then they do so for ever. States agree if all registers are equal, but for some words: such a word
may differ while certain registers of the control have certain values, such as a mark that says that
no data is there. Where what is seen differs in a random run, the fault is one. Otherwise the
conditions of a word are all those values that such runs have never shown it to differ without. Of
these a solver keeps what follows from itself (`benchmarks.question`): what holds in a few cycles
holds in the next one, whatever data registers hold that agree. A word that then differs, though no
run has shown it, joins the others, until none does.

What the control can do is found in the same way, once for all faults: of any two of its registers,
which values no run has shown together. A step of the whole design has a few cycles of the control
alone before it. The control is what the registers depend on that a reset takes to where they begin,
and that no input data ever reaches.

Some control does what no two of its registers tell, such as counting free places. There ABC has the
last word, which looks for whatever invariants it needs, by PDR: where no word ever differs, for the
claim itself; and where words of the control do, for each of their conditions.
"""

import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import combinations
from operator import or_
from pathlib import Path

from benchmarks.aig import FALSE, TRUE, Circuit, Graph
from benchmarks.copies import Copies, Value
from benchmarks.mutants import CORE, MODULE, SELECTOR, Mutation
from benchmarks.question import Question
from benchmarks.runs import LANES, Runs, Source, always, at_rates, rarely
from fpga.tools import Processes, Progress
from sim.manifest import Manifest

__all__ = ["Proof", "Prover"]

ABC = Path(__file__).resolve().parents[1] / "proofs" / "abc_command.py"

CYCLES = 300
"""Of the random runs."""

ALL_CYCLES = (1 << CYCLES * LANES) - 1

RATES = (0, 1, 3, 6)
"""How often, in halvings, beats are offered and taken in them."""

BEFORE, WHOLE = 3, 3
"""Cycles of the control alone, and of all, from which the next one is to follow."""

SECONDS = 120
"""For PDR of a claim; what comes before it may take as long again."""

BRIEFLY = 20
"""For PDR of a condition."""

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
    seen : bool
        Whether a random run shows that it is a fault.
    """

    number: int
    proven: bool
    changed: int = 0
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
    def _untouched(self) -> set[int]:
        """The places of the registers that no input data ever reaches."""
        return self._circuit.untouched(self._circuit.find("beat")[:-1])

    @cached_property
    def _control(self) -> list[int]:
        """The places of those on which the ones depend that a reset takes to where they begin."""
        circuit, graph = self._circuit, Graph()
        inputs = [graph.leaf() for _ in circuit.inputs]
        inputs[circuit.find("rst")[0]] = TRUE
        goes, _ = graph.place(circuit, inputs, [graph.leaf() for _ in circuit.latches])
        return sorted(circuit.behind(place for place in self._untouched
                                     if goes[place] == circuit.starts[place]))

    @cached_property
    def _values(self) -> dict[Value, int]:
        """The values of the control that the runs have shown, not always, and in which cycles.

        One of each set of registers that go together.
        """
        found = dict[int, Value]()
        for place in self._control:
            shown = self._right.latches[place]
            if shown and shown != ALL_CYCLES and ALL_CYCLES ^ shown not in found:
                found.setdefault(shown, (place, 1))
        return {(place, value): shown if value else ALL_CYCLES ^ shown
                for shown, (place, _) in found.items() for value in (0, 1)}

    def _guesses(self) -> list[list[Value]]:
        """Of any two registers of the control, values one of which there has always been."""
        values = {(place, level): self._right.latches[place] ^ (0 if level else ALL_CYCLES)
                  for place in self._control for level in (0, 1)}
        always = [[value] for value, shown in values.items() if shown == ALL_CYCLES]
        pairs = [list(pair) for pair in combinations(self._values, 2)
                 if pair[0][0] != pair[1][0] and values[pair[0]] | values[pair[1]] == ALL_CYCLES]
        # Those that go together.
        known = {shown: value for value, shown in self._values.items()}
        alike = [[value, (known[shown][0], known[shown][1] ^ 1)] for value, shown in values.items()
                 if shown in known and known[shown] != value]
        return always + pairs + alike

    @cached_property
    def _invariants(self) -> list[list[Value]]:
        """Those of the guesses that hold, whatever comes."""
        reach = BEFORE + WHOLE
        guesses = dict(enumerate(self._guesses()))
        for begun, cycles in (*((True, n) for n in range(1, reach)), (False, reach)):
            copies = self._copies(0, (), cycles, 0, begun)
            question = Question(copies.graph, copies.start)
            lasting = question.lasting({
                number: ([[copies.has(value, cycle) for value in guess]
                          for cycle in range(cycles)],
                         [copies.has(value, cycles) for value in guess])
                for number, guess in guesses.items()})
            guesses = {number: guesses[number] for number in lasting}
        return list(guesses.values())

    def _copies(self, number: int, own: Collection[int], before: int, whole: int, begun: bool
                ) -> Copies:
        return Copies(self._circuit, frozenset(self._control), selects=self._select, number=number,
                      own=own, before=before, whole=whole, begun=begun)

    def prove(self, mutation: Mutation) -> Proof:
        """Try it."""
        number = mutation.number
        if mutation.clocks:
            # A graph of gates has one clock, which is not part of it.
            return Proof(number=number, proven=False)
        right, wrong = self._right, self._runs(number)
        if right.outputs != wrong.outputs:
            return Proof(number=number, proven=False, seen=True)
        words = self._circuit.words
        differs = {n: shown for n, word in enumerate(words) if (shown := reduce(
            or_, (right.latches[place] ^ wrong.latches[place] for place in word)))}
        if not differs and self._never_differs(number):
            return Proof(number=number, proven=True)
        own = self._own(number, differs, {})
        if own is None and (sure := self._sure(number, differs)):
            own = self._own(number, differs, sure)
        return Proof(number=number, proven=own is not None, changed=len(own or ()))

    def _own(self, number: int, differs: Mapping[int, int], sure: Mapping[int, list[Value]]
             ) -> set[int] | None:
        """The registers that may differ, where it is proven that nothing else does.

        Parameters
        ----------
        number : int
            The fault's.
        differs : mapping of int to int
            Of the words that do in random runs, in which cycles.
        sure : mapping of int to list of Value
            Conditions of words that need no proof, while no other control differs.
        """
        words = self._circuit.words
        conditions = {n: [] if n in sure else self._conditions(shown)
                      for n, shown in differs.items()}
        # Any cycles, then the first ones of all.
        windows = [(BEFORE, WHOLE, False), *((n, WHOLE, True) for n in range(1, BEFORE)),
                   *((0, n, True) for n in range(1, WHOLE + 1))]
        own = set[int]()
        left = list(windows)
        while left:
            own = {place for n in conditions for place in words[n]}
            copies = self._copies(number, own, *left.pop(0))
            lasting, question = self._lasting(copies, conditions, sure)
            if question.possible({number: copies.shown}):
                return None
            more = question.possible(copies.others)
            new = {n: self._conditions(0) for n, word in enumerate(words) if more & {*word}}
            if sure and not self._untouched.isdisjoint(place for n in new for place in words[n]):
                return None
            if new or lasting != conditions:
                # What has followed from more than this may not do so now.
                left = list(windows)
            conditions = lasting | new
        return own

    def _lasting(self, copies: Copies, conditions: Mapping[int, list[Value]],
                 sure: Mapping[int, list[Value]]) -> tuple[dict[int, list[Value]], Question]:
        """The conditions that follow from themselves, and who knows them."""
        words = self._circuit.words
        *earlier, last = copies.cycles
        differs = {(n, cycle): copies.differs(words[n], cycle)
                   for n in conditions for cycle in copies.cycles}
        met = {(n, value, cycle): [differs[n, cycle] ^ 1, copies.has(value, cycle)]
               for given in (conditions, sure) for n, values in given.items() for value in values
               for cycle in copies.cycles}
        question = Question(copies.graph, [
            *copies.start,
            *([copies.has(value, cycle) for value in clause] for clause in self._invariants
              for cycle in range(last + 1)),
            *(met[n, value, cycle] for n, values in sure.items() for value in values
              for cycle in copies.cycles)])
        lasting = {*question.lasting({
            (n, value): ([met[n, value, cycle] for cycle in earlier], met[n, value, last])
            for n, values in conditions.items() for value in values})}
        return {n: [value for value in values if (n, value) in lasting]
                for n, values in conditions.items()}, question

    def _conditions(self, differs: int) -> list[Value]:
        """The values that the control has whenever a word differs."""
        return [value for value, shown in self._values.items() if not differs & ~shown]

    def _sure(self, number: int, differs: Mapping[int, int]) -> dict[int, list[Value]]:
        """The conditions of words of the control that PDR proves, while no other differs."""
        circuit, graph, words = self._circuit, Graph(), self._circuit.words
        own = self._untouched.intersection(place for n in differs for place in words[n])
        wanted = {n: self._conditions(shown) for n, shown in differs.items()
                  if own.issuperset(words[n])}
        inputs = [graph.leaf() for _ in circuit.inputs]
        states = [graph.leaf() for _ in circuit.latches]
        faulty = [graph.leaf() if place in own else state for place, state in enumerate(states)]
        goes, _ = graph.place(circuit, self._select(inputs, 0), states)
        other_goes, _ = graph.place(circuit, self._select(inputs, number), faulty)
        latches = {states[place]: (goes[place], circuit.starts[place]) for place in self._untouched}
        latches |= {faulty[place]: (other_goes[place], circuit.starts[place]) for place in own}
        found: dict[int, list[Value]] = {}
        for n, values in wanted.items():
            different = graph.either([graph.differ(states[place], faulty[place])
                                      for place in words[n]])
            for place, level in values:
                self._progress(f"fault {number}: what word {n} differs with, register {place}")
                if self._never(graph, latches, graph.both(different, states[place] ^ level),
                               f"condition{number}", BRIEFLY):
                    found.setdefault(n, []).append((place, level))
        return found

    def _never_differs(self, number: int) -> bool:
        """Whether PDR proves that no step makes a difference."""
        circuit, graph = self._circuit, Graph()
        inputs = [graph.leaf() for _ in circuit.inputs]
        states = [graph.leaf() for _ in circuit.latches]
        goes, shows = graph.place(circuit, self._select(inputs, 0), states)
        others = graph.place(circuit, self._select(inputs, number), states)
        claim = graph.either([graph.differ(*pair) for pair in zip(
            [*goes, *shows], [*others[0], *others[1]], strict=True)])
        if claim == FALSE:
            return True
        return self._never(graph, {states[place]: (goes[place], circuit.starts[place])
                                   for place in self._untouched}, claim, f"claim{number}", SECONDS)

    def _never(self, graph: Graph, latches: Mapping[int, tuple[int, int]], claim: int, name: str,
               seconds: int) -> bool:
        """Whether PDR proves that a literal stays 0."""
        path = self._folder / f"{name}.aig"
        graph.write(path, latches, claim)
        left = path.with_suffix(".left.aig")
        left.unlink(missing_ok=True)
        command = (f"read_aiger {path.name}; strash; fraig; scorr; scleanup; "
                   f"write_aiger {left.name}; pdr -T {seconds}; print_stats")
        try:
            said = subprocess.run([sys.executable, str(ABC), "-c", command], cwd=path.parent,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=2 * seconds, check=False).stdout
        except subprocess.TimeoutExpired:
            return False
        if "Property proved" in said:
            return True
        # Where no register is left, there is nothing for PDR to do.
        if not left.is_file():
            return False
        header, *lines = left.read_bytes().split(b"\n")
        return lines[int(header.split()[3])] == b"0"
