"""Mutation: faults that Yosys plants, one simulator for all, what the bench finds, and proofs."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.aig import FALSE, TRUE, Circuit, Graph
from benchmarks.equivalence import Proof, Prover
from benchmarks.mutants import Mutation, random_subject
from benchmarks.mutation import Campaign, Outcome, score
from benchmarks.question import Question
from benchmarks.runs import LANES, Runs, always, at_rates, rarely
from fpga.tools import Processes
from sim.manifest import MANIFEST
from tests.test_sim import SHAPE

# A register between two streams. While it is empty, nobody sees what is in it. Of the four states
# of the counter, which is a probe, one is never reached. A thousand cycles without a reset are more
# than random runs have.
DESIGN = """
module \\gatefold.mask (input v, input [7:0] d, output [7:0] q);
  assign q = v ? d : 8'd0;
endmodule
module \\gatefold.next (input [1:0] at, output [1:0] to);
  assign to = at == 2 ? 2'd0 : at == 3 ? 2'd2 : at + 2'd1;
endmodule
module \\gatefold.third (input [1:0] at, output hit);
  assign hit = at == 3;
endmodule
module \\gatefold.late (input [9:0] cycles, output is);
  assign is = cycles == 1000;
endmodule
module \\gatefold.core (
  input clk, input rst, input [7:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready,
  input s_axis_tlast, output [7:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready,
  output m_axis_tlast, output saturated, output malformed
);
  reg full = 0;
  reg [1:0] count = 0;
  reg [7:0] data;
  reg last;
  wire [7:0] masked;
  wire [1:0] to;
  wire probe_c_valid = full;
  wire [1:0] probe_c_data = count;
  wire hit;
  reg [9:0] cycles = 0;
  \\gatefold.late late (.cycles(cycles), .is(malformed));
  \\gatefold.mask mask (.v(s_axis_tvalid), .d(s_axis_tdata), .q(masked));
  \\gatefold.next next (.at(count), .to(to));
  \\gatefold.third third (.at(count), .hit(hit));
  assign s_axis_tready = !full || m_axis_tready;
  assign m_axis_tvalid = full;
  assign m_axis_tdata = data;
  assign m_axis_tlast = last;
  assign saturated = hit;
  always @(posedge clk) begin
    if (s_axis_tready) begin
      full <= s_axis_tvalid; data <= masked; last <= s_axis_tlast; count <= to;
    end
    cycles <= cycles + 1;
    if (rst) begin full <= 0; count <= 0; cycles <= 0; end
  end
endmodule
"""
FAULTS = {
    "the data of an empty register": "-mode const1 -cell mask -port v -portbit 0",
    "a flag of a state that is never reached": "-mode const0 -cell third -port hit -portbit 0",
    "a bit of the data": "-mode inv -cell mask -port q -portbit 3",
    "a flag": "-mode inv -cell third -port hit -portbit 0",
    "the way to the state": "-mode cnot0 -cell next -port at -portbit 1 -ctrlbit 0",
    "a flag that comes late": "-mode const0 -cell late -port is -portbit 0",
}


@pytest.fixture(scope="module")
def prover(tmp_path_factory: pytest.TempPathFactory) -> Prover:
    folder = tmp_path_factory.mktemp("prover")
    bus = {"elements": 1, "lanes": 1, "bytes": 1, "format": {"kind": "SQ", "i": 2, "f": 6}}
    (folder / MANIFEST).write_text(json.dumps({
        **SHAPE, "name": "gatefold", "verilog": "gatefold.v", "saturation": ["lstm0.c"],
        "input": {"prefix": "s_axis", **bus},
        "output": {"prefix": "m_axis", **bus, "every_step": True},
        "probes": [{"tensor": "c", "layer": 0, "units": 1, "lanes": 1, "width": 2,
                    "valid": "gatefold.core.probe_c_valid", "data": "gatefold.core.probe_c_data",
                    "stream": None, "direction": None}]}))
    (folder / "gatefold.v").write_text(DESIGN)
    (folder / "mutations.ys").write_text("".join(
        f"{command.command}\n" for command in mutations().values()))
    (folder / "plain.ys").write_text("read_verilog gatefold.v\nprep -top gatefold.core\n"
                                     "write_rtlil plain.il\n")
    processes = Processes()
    processes.run("yosys", ["-q", "-s", "plain.ys"], folder=folder, log=folder / "log")
    return Prover(folder, processes=processes, progress=lambda text: None)


def mutations() -> dict[str, Mutation]:
    return {name: Mutation(number=number, command=f"mutate -ctrl selected 3 {number} -module "
                                                  f"gatefold.core {options}")
            for number, (name, options) in enumerate(FAULTS.items(), start=1)}


@pytest.mark.parametrize(("name", "changed"), [
    ("the data of an empty register", 8),
    ("a flag of a state that is never reached", 0),
])
def test_proven(prover: Prover, name: str, changed: int) -> None:
    proof = prover.prove(mutations()[name])
    assert (proof.proven, proof.changed) == (True, changed)


@pytest.mark.parametrize("name", [
    "a bit of the data", "a flag", "the way to the state"])
def test_not_proven(prover: Prover, name: str) -> None:
    """What differs is never proven to be the same; a random run shows it."""
    proof = prover.prove(mutations()[name])
    assert (proof.proven, proof.seen) == (False, True)


def test_what_runs_do_not_show_is_not_proven(prover: Prover) -> None:
    proof = prover.prove(mutations()["a flag that comes late"])
    assert (proof.proven, proof.seen) == (False, False)


def test_conditions_that_pdr_proves(prover: Prover) -> None:
    """Where the way to its state is another, the counter differs behind its second state alone."""
    number = mutations()["the way to the state"].number
    (count,) = (n for n, word in enumerate(prover._circuit.words) if len(word) == 2)
    differs = 0
    for place in prover._circuit.words[count]:
        differs |= prover._right.latches[place] ^ prover._runs(number).latches[place]
    sure = prover._sure(number, {count: differs})
    assert set(sure) == {count}
    for value in sure[count]:
        assert not differs & ~prover._values[value]
    # At power-up, and behind a reset, it is the same.
    assert differs & ~1 == differs


def test_question() -> None:
    """Of a counter that goes round through 0, 1 and 2."""
    graph = Graph()
    low, high = graph.leaf(), graph.leaf()
    next_low, next_high = graph.both(low ^ 1, high ^ 1), graph.both(low, high ^ 1)
    three = graph.both(low, high)
    cases = {
        "not 3": ([[low ^ 1, high ^ 1]], [next_low ^ 1, next_high ^ 1]),
        "not 1": ([[low ^ 1, high]], [next_low ^ 1, next_high]),
        # Follows from "not 1" alone, which does not last.
        "not 2": ([[low, high ^ 1]], [next_low, next_high ^ 1]),
    }
    assert Question(graph).lasting(cases) == ["not 3"]
    assert Question(graph, [[low ^ 1, high]]).lasting({"not 2": cases["not 2"]}) == ["not 2"]
    question = Question(graph)
    question.lasting({"not 3": cases["not 3"]})
    assert question.possible({"3": three, "2": high, "never": FALSE, "always": TRUE}) == {
        "2", "always"}
    with pytest.raises(ValueError, match=r"^the graph has grown since it was asked about first$"):
        question.possible({"new": graph.both(three ^ 1, high)})


def test_clock_is_not_proven(prover: Prover) -> None:
    command = "mutate -ctrl selected 3 1 -mode inv -module gatefold.core -cell x -port CLK"
    assert not prover.prove(Mutation(number=1, command=command)).proven


def test_proof_text() -> None:
    assert Proof(number=1, proven=False).text == "not proven"
    assert Proof(number=1, proven=False, seen=True).text == "a fault, as a random run shows"
    assert Proof(number=1, proven=True).text == "no register ever differs"
    assert Proof(number=1, proven=True, changed=2).text == (
        "2 registers may differ, and nothing else")


def test_graph() -> None:
    graph = Graph()
    a, b = graph.leaf(), graph.leaf()
    assert graph.both(a, FALSE) == graph.both(a, a ^ 1) == FALSE
    assert graph.both(a, TRUE) == graph.both(a, a) == a
    assert graph.both(a, b) == graph.both(b, a)
    assert graph.either([]) == FALSE
    assert graph.either([a, TRUE]) == TRUE
    assert graph.differ(a, a) == FALSE
    assert graph.differ(a, a ^ 1) == TRUE


def test_write(tmp_path: Path) -> None:
    """A counter of two bits, the higher one beginning with 1."""
    graph = Graph()
    step, low, high = graph.leaf(), graph.leaf(), graph.leaf()
    carry = graph.both(step, low)
    latches = {low: (graph.differ(low, step), 0), high: (graph.differ(high, carry), 1)}
    graph.write(tmp_path / "all.aig", latches, high)
    assert (tmp_path / "all.aig").read_bytes().startswith(b"aig 10 1 2 1 7\n")
    # The higher bit alone: whatever the lower one is.
    graph.write(tmp_path / "part.aig", {high: latches[high]}, high)
    assert (tmp_path / "part.aig").read_bytes().startswith(b"aig 7 2 1 1 4\n")


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "some.aag"
    path.write_text("aag 4 2 1 1 1\n2\n4\n6 8 1\n6\n8 2 5\ni0 s[0]\ni1 s[1]\nl0 state\no0 out\n")
    circuit = Circuit.read(path)
    assert circuit.find("s") == [0, 1]
    assert (circuit.latches, circuit.next, circuit.starts) == ((6,), (8,), (1,))
    graph = Graph()
    leaves = [graph.leaf() for _ in range(3)]
    goes, shows = graph.place(circuit, leaves[:2], leaves[2:])
    assert goes == [graph.both(leaves[0], leaves[1] ^ 1)]
    assert shows == [leaves[2]]
    assert circuit.untouched([0]) == set()
    assert circuit.untouched([]) == {0}
    assert circuit.words == [(0,)]
    assert circuit.behind([0]) == {0}
    # All runs at 1 in the first cycle, then at what the inputs make of it.
    every = (1 << LANES) - 1
    runs = Runs(circuit, [always(1), at_rates((0, 30), 2)], cycles=3, seed=1)
    assert runs.latches == runs.outputs
    assert runs.latches[0] & every == every
    assert runs.latches[0] >> LANES & 0b1111 == runs.latches[0] >> 2 * LANES & 0b1111 == 0b1100
    assert Runs(circuit, [always(0), rarely(1)], cycles=3, seed=1).latches == [every]
    path.write_text("aag 1 0 1 0 0\n2 2 2\n")
    with pytest.raises(ValueError, match=r"some\.aag: every latch must begin with 0 or 1"):
        Circuit.read(path)


def test_subject() -> None:
    """Every tensor saturates, at both ends where it can."""
    subject = random_subject()
    vectors = subject.vectors
    assert all(counts.any() for counts in vectors.saturated.values())
    for codes, to in ((vectors.states["lstm0.c"], subject.core.network.layers[0].formats.c),
                      (vectors.y, subject.core.network.y)):
        assert {to.min, to.max} <= set(np.unique(codes).tolist())


def test_mutation_texts() -> None:
    mutation = Mutation(number=3, command=(
        "mutate -ctrl selected 9 3 -mode cnot1 -module gatefold.lstm0.drain "
        "-cell $procmux$3917 -port Y -portbit 0 -ctrlbit 1 -wire \\some -wirebit 0 -src a.v:1"))
    assert (mutation.module, mutation.place, mutation.change) == (
        "lstm0.drain", "mux.Y[0] (some)", "inverted where bit 1 is 1")
    assert not mutation.clocks


def test_score() -> None:
    outcomes = [Outcome(number=1, test="full_speed", message="tensor y"),
                Outcome(number=2, test=None, message=None),
                Outcome(number=3, test=None, message=None)]
    proofs = {2: Proof(number=2, proven=True), 3: Proof(number=3, proven=False)}
    assert score(outcomes, proofs) == 0.5


def test_campaign(tmp_path: Path) -> None:
    """Faults in a tiny design: one simulator, found and not found, and gone on with later."""
    told: list[str] = []

    def campaign() -> Campaign:
        return Campaign(random_subject(hidden=2, count=8), tmp_path, count=24, seed=1, effort=2000,
                        processes=Processes(), progress=told.append)

    first = campaign()
    assert [mutation.number for mutation in first.mutations] == list(range(1, 25))
    outcomes = first.run(1, [1, 2, 3])
    assert [outcome.test for outcome in outcomes] == [None, "full_speed", None]
    assert [outcome.check for outcome in outcomes if outcome.found] == ["the outputs"]
    assert any(line.endswith("fault 1 was not found") for line in told)
    assert len(list((first.folder / "simulators").iterdir())) == 1
    # Ended while a line was being written.
    with (first.folder / "outcomes.jsonl").open("a") as file:
        file.write('{"number": 4, "te')
    again = campaign()
    told.clear()
    assert again.run(1, [1, 2, 3]) == outcomes
    assert "3 of 3 faults are done already" in told
