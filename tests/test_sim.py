import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.checker import Checker, Difference
from sim.coverage import REACHED, CoverageError
from sim.driver import Backlog
from sim.manifest import MANIFEST, Manifest, ManifestError, Stream
from sim.model import Course, Model
from sim.monitor import Beats, Recording, Values, bench_verilog
from sim.simulator import SimulatorError, build_simulator
from sim.timing import TimingRecord, check_alone, check_together
from sim.vectors import VECTORS, Vectors, VectorsError
from sim.verify import (
    FAULT_TESTS,
    READ_TESTS,
    STATE_TESTS,
    STREAM_TESTS,
    TESTS,
    VerifyResult,
    verify,
)
from sim.verilog_coverage import VerilogCoverage

# A stand-in for a network, small enough to be right at sight: c sums up x and h = -c = y.
# An element 0 of MAGIC + n at the input makes it do the n-th thing wrong, so that one simulator
# serves all tests. A step takes 10 cycles.
MAGIC = 0x7000
FAULTS = {name: MAGIC + 1 + n for n, name in enumerate((
    "wrong c", "wrong h", "wrong y", "missing word", "extra word", "tlast early", "no tlast",
    "state kept", "withdrawn", "waits for ready", "hangs", "malformed", "saturates",
    "survives reset", "missing c", "not extended", "slow", "silent", "cut state kept",
    "lanes left over"))}
VERILOG = """
module \\standin.lstm0 (
  input clk, input rst, input signed [47:0] x, input clear, input [2:0] phase, input [15:0] fault,
  output reg [53:0] h
);
  reg [53:0] c;
  reg [1:0] probe_c_valid;
  reg [35:0] probe_c_data;
  wire [1:0] probe_h_valid;
  wire [35:0] probe_h_data;
  integer n;
  initial begin c = 0; probe_c_valid = 0; end
  assign probe_h_valid = phase == 4 ? 2'b11 : phase == 5 ? 2'b01 : 2'b00;
  assign probe_h_data = phase == 4 ? h[35:0] ^ (fault == 2) : {18'h2aaaa, h[53:36]};
  always @(posedge clk) begin
    probe_c_valid <= 0;
    case (phase)
      1: for (n = 0; n < 3; n = n + 1)
        c[18 * n +: 18] <= c[18 * n +: 18] + {{2{x[16 * n + 15]}}, x[16 * n +: 16]};
      2: begin
        probe_c_valid <= 2'b11;
        probe_c_data <= c[35:0];
        for (n = 0; n < 3; n = n + 1) h[18 * n +: 18] <= -c[18 * n +: 18];
      end
      3: begin
        probe_c_valid <= fault == 15 ? 2'b00 : 2'b01;
        probe_c_data <= {18'h15555, c[53:36] ^ (fault == 1 ? 18'h4 : 18'h0)};
      end
      7: if (clear && fault != 8) c <= 0;
    endcase
    if (rst) probe_c_valid <= 0;
    if (rst && fault != 14) c <= 0;
  end
endmodule

module standin (
  input clk, input rst,
  input [31:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready, input s_axis_tlast,
  output [47:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready, output m_axis_tlast,
  output reg [1:0] saturated, output reg malformed
);
  // Phases: 0 takes two beats, 1 to 5 compute, 6 sends two beats, 7 ends the step.
  reg [2:0] phase;
  reg beat, last, cut, extra, offered, late;
  reg [47:0] x;
  wire [15:0] fault = x[15:12] == 4'h7 ? x[11:0] : 16'd0;
  wire [53:0] h;
  wire [53:0] y = h ^ (fault == 3 ? 54'd1 << 40 : 54'd0);
  wire taken = m_axis_tvalid && m_axis_tready;
  \\standin.lstm0 lstm0 (.clk(clk), .rst(rst), .x(x), .clear(last && !cut), .phase(phase),
                         .fault(fault), .h(h));
  initial begin
    phase = 0; beat = 0; extra = 0; offered = 0; saturated = 0; malformed = 0; x = 0; last = 0;
    late = 0; cut = 0;
  end
  assign s_axis_tready = phase == 0;
  assign m_axis_tvalid = phase == 6 && !(fault == 9 && offered) && !(fault == 10 && !m_axis_tready)
                         && fault != 11;
  assign m_axis_tdata = beat ? {fault == 20 ? 24'h5a5a5a : 24'h0, {6{y[53]}}, y[53:36]}
                             : {{6{y[35]}}, y[35:18], {6{y[17] && fault != 16}}, y[17:0]};
  assign m_axis_tlast = (last && beat && fault != 7) || (fault == 6 && beat);
  always @(posedge clk) begin
    offered <= m_axis_tvalid && !m_axis_tready;
    case (phase)
      0: if (s_axis_tvalid) begin
        if (beat) x[47:32] <= s_axis_tdata[15:0]; else x <= {16'd0, s_axis_tdata};
        beat <= !beat && !s_axis_tlast;
        last <= s_axis_tlast;
        cut <= s_axis_tlast && !beat && fault == 19;
        if (beat || s_axis_tlast) phase <= 1;
        if (s_axis_tlast && !beat && fault != 18) malformed <= 1;
      end
      6: if (taken) begin
        beat <= !beat;
        extra <= beat && fault == 5;
        if (fault == 5 ? extra : beat || fault == 4) begin phase <= 7; beat <= 0; end
      end
      7: begin
        late <= fault == 17 && !late;
        phase <= fault == 17 && !late ? 7 : 0;
        if (fault == 12) malformed <= 1;
        if (fault == 13) saturated[1] <= 1;
      end
      default: phase <= phase + 1;
    endcase
    if (rst) begin
      beat <= 0; extra <= 0; offered <= 0; saturated <= 0; malformed <= 0;
      phase <= 0;
      if (fault != 14) x <= 0;
    end
  end
endmodule
"""
PROBES = [{"tensor": tensor, "layer": 0, "units": 3, "lanes": 2, "width": 18,
           "valid": f"standin.lstm0.probe_{tensor}_valid",
           "data": f"standin.lstm0.probe_{tensor}_data", "stream": None,
           "direction": None} for tensor in ("c", "h")]
SHAPE = {
    "name": "standin", "verilog": "standin.v", "family": None, "streams": 1,
    "clock": "clk", "reset": "rst",
    "input": {"prefix": "s_axis", "elements": 3, "lanes": 2, "bytes": 2,
              "format": {"kind": "SQ", "i": 4, "f": 12}},
    "output": {"prefix": "m_axis", "elements": 3, "lanes": 2, "bytes": 3,
               "format": {"kind": "SQ", "i": 6, "f": 12}, "every_step": True},
    "layers": [],
    "saturation": ["lstm0.c", "lstm0.h"],
    "probes": PROBES,
    "cycles": {"step": 10, "alone": 10, "work": 10, "further": 10},
    "longest": None,
}
LENGTHS = (5, 1, 30, 1, 2, 12)

# The same for several streams, whose steps take turns. Each has room for one step before the
# machine, which takes the next stream that has one there. A step takes 9 cycles; one of the stream
# that had the last one waits for 3 more, unless it begins a sequence.
STREAM_FAULTS = {name: MAGIC + 1 + n for n, name in enumerate((
    "swapped", "goes over", "restless", "nobody's", "missing vector", "another's state",
    "another's end", "another's probe", "waits for the others", "slow", "hasty"))}
STREAM_VERILOG = """
module \\standin.lstm0 (
  input clk, input rst, input signed [47:0] x, input [ID:0] stream, input clear, input [3:0] phase,
  input [15:0] fault, output reg [53:0] h
);
  reg [53:0] c [0:STREAMS-1];
  reg [1:0] probe_c_valid;
  reg [35:0] probe_c_data;
  wire [ID:0] next = stream == STREAMS - 1 ? 0 : stream + 1;
  wire [53:0] was = c[fault == 6 ? next : stream];
  wire [53:0] now = c[stream];
  wire [ID:0] probe_c_stream = stream;
  wire [ID:0] probe_h_stream = fault == 8 ? next : stream;
  wire [1:0] probe_h_valid = phase == 4 ? 2'b11 : phase == 5 ? 2'b01 : 2'b00;
  wire [35:0] probe_h_data = phase == 4 ? h[35:0] : {18'h2aaaa, h[53:36]};
  integer n;
  initial begin
    probe_c_valid = 0;
    for (n = 0; n < STREAMS; n = n + 1) c[n] = 0;
  end
  always @(posedge clk) begin
    probe_c_valid <= 0;
    case (phase)
      1: c[stream] <= {was[53:36] + {{2{x[47]}}, x[47:32]},
                       was[35:18] + {{2{x[31]}}, x[31:16]},
                       was[17:0] + {{2{x[15]}}, x[15:0]}};
      2: begin
        probe_c_valid <= 2'b11;
        probe_c_data <= now[35:0];
        h <= {-now[53:36], -now[35:18], -now[17:0]};
      end
      3: begin
        probe_c_valid <= 2'b01;
        probe_c_data <= {18'h15555, now[53:36]};
      end
      7: if (clear) begin
        c[stream] <= 0;
        if (fault == 7) c[next] <= 0;
      end
    endcase
    if (rst) begin
      probe_c_valid <= 0;
      for (n = 0; n < STREAMS; n = n + 1) c[n] <= 0;
    end
  end
endmodule

module standin (
  input clk, input rst,
  input [31:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready, input s_axis_tlast,
  input [ID:0] s_axis_tid,
  output [47:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready, output m_axis_tlast,
  output [ID:0] m_axis_tid, output [1:0] saturated, output reg malformed
);
  reg [47:0] store [0:STREAMS-1];
  reg [STREAMS-1:0] full, ends;
  reg [31:0] low;
  reg part;
  reg [ID:0] owner;
  // Phases: 0 picks a step, 1 to 5 compute, 6 sends two beats, 7 ends the step.
  reg [3:0] phase, idle;
  reg beat, last, fresh, offered, found;
  reg [ID:0] stream, pick, at;
  reg [47:0] x;
  wire [15:0] fault = x[15:12] == 4'h7 ? x[11:0] : 16'd0;
  wire [ID:0] next = stream == STREAMS - 1 ? 0 : stream + 1;
  wire [53:0] h;
  integer n;
  \\standin.lstm0 lstm0 (.clk(clk), .rst(rst), .x(x), .stream(stream), .clear(last),
                         .phase(phase), .fault(fault), .h(h));
  initial begin
    full = 0; part = 0; phase = 0; idle = 0; beat = 0; last = 0; fresh = 1; offered = 0; x = 0;
    stream = 0; malformed = 0; owner = 0;
  end
  assign saturated = 0;
  wire [ID:0] who = part ? owner : s_axis_tid;
  wire stranger = who >= STREAMS;
  assign s_axis_tready = stranger || !full[who];
  assign m_axis_tvalid = phase == 6 && fault != 5;
  assign m_axis_tdata = beat ? {24'h0, {6{h[53]}}, h[53:36]}
                             : {{6{h[35]}}, h[35:18], {6{h[17]}}, h[17:0]};
  assign m_axis_tlast = last && beat;
  assign m_axis_tid = fault == 1 || (fault == 2 && beat)
                      || (fault == 3 && offered && !m_axis_tready) ? next
                      : fault == 4 ? 3 : stream;
  always @* begin
    found = 0; pick = stream; at = stream;
    for (n = 0; n < STREAMS; n = n + 1) begin
      at = at == STREAMS - 1 ? 0 : at + 1;
      if (!found && full[at] && (at != stream || fresh || idle >= 3 || fault == 11)
          && (&full || fault != 9 || idle >= 14)) begin
        found = 1; pick = at;
      end
    end
  end
  always @(posedge clk) begin
    offered <= m_axis_tvalid && !m_axis_tready;
    if (s_axis_tvalid && s_axis_tready) begin
      part <= !part && !s_axis_tlast;
      owner <= who;
      low <= s_axis_tdata;
      if (stranger || who != s_axis_tid || (s_axis_tlast && !part)) malformed <= 1;
      if ((part || s_axis_tlast) && !stranger) begin
        store[who] <= part ? {s_axis_tdata[15:0], low} : {16'd0, s_axis_tdata};
        full[who] <= 1;
        ends[who] <= s_axis_tlast;
      end
    end
    case (phase)
      0: if (found) begin
        stream <= pick; x <= store[pick]; last <= ends[pick]; full[pick] <= 0;
        phase <= 1;
      end else if (idle != 15) idle <= idle + 1;
      6: if (m_axis_tready || fault == 5) begin
        beat <= !beat;
        if (beat) phase <= 7;
      end
      7: begin phase <= fault == 10 ? 8 : 0; idle <= 0; fresh <= last; end
      8: phase <= 0;
      default: phase <= phase + 1;
    endcase
    if (rst) begin
      full <= 0; part <= 0; phase <= 0; idle <= 0; beat <= 0; fresh <= 1; offered <= 0; x <= 0;
      malformed <= 0;
    end
  end
endmodule
"""


def sum_up(x: np.ndarray, lengths: tuple[int, ...] = LENGTHS) -> Vectors:
    """The stand-in's golden model."""
    parts = np.split(x, np.cumsum(lengths)[:-1])
    c = np.concatenate([np.cumsum(part, axis=0) for part in parts])
    c = (c + (1 << 17)) % (1 << 18) - (1 << 17)
    h = np.where(c == -(1 << 17), c, -c)
    return Vectors(lengths=np.array(lengths), x=x, y=h, states={"lstm0.c": c, "lstm0.h": h},
                   saturated={name: np.zeros(len(lengths), dtype=np.int64)
                              for name in ("lstm0.c", "lstm0.h")}, every_step=True)


def random_input(seed: int, steps: int = sum(LENGTHS)) -> np.ndarray:
    # Below MAGIC, where nothing is wrong.
    return np.random.default_rng(seed).integers(-(1 << 15), MAGIC, size=(steps, 3))


def write_design(folder: Path, vectors: Vectors, streams: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    verilog, shape = VERILOG, SHAPE
    if streams > 1:
        bits = (streams - 1).bit_length()
        verilog = STREAM_VERILOG.replace("STREAMS", str(streams)).replace("ID", str(bits - 1))
        probes = [{**probe, "stream": f"standin.lstm0.probe_{probe['tensor']}_stream"}
                  for probe in PROBES]
        shape = {**SHAPE, "streams": streams, "probes": probes,
                 "cycles": {"step": 9 * streams, "alone": 12, "work": 9 * streams,
                            "further": 9 * streams}}
    (folder / "standin.v").write_text(verilog)
    (folder / "manifest.json").write_text(json.dumps(shape))
    vectors.save(folder / "vectors.npz")
    return folder


@pytest.fixture(scope="session")
def simulators(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One folder of simulators for all processes of pytest."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "simulators"
    folder.mkdir(exist_ok=True)
    return folder


def planted(folder: Path, simulators: Path, fault: str, tests: tuple[str, ...], *,
            step: int = 13) -> VerifyResult:
    x = random_input(7)
    x[step, 0] = FAULTS[fault]
    return verify(write_design(folder, sum_up(x)), tests=tests, seed=1, simulators=simulators)


def test_names() -> None:
    source = (Path(__file__).parents[1] / "sim/bench.py").read_text()
    assert tuple(re.findall(r"@cocotb\.test\(\)\nasync def (\w+)", source)) == (
        TESTS + STREAM_TESTS + STATE_TESTS + READ_TESTS + FAULT_TESTS)


@pytest.mark.parametrize("seed", [0, 1])
def test_right(tmp_path: Path, simulators: Path, seed: int) -> None:
    vectors = sum_up(random_input(seed))
    told: list[str] = []
    result = verify(write_design(tmp_path, vectors), seed=seed, simulators=simulators,
                    progress=told.append)
    assert result.failure is None
    assert result.passed
    assert result.seed == seed
    every = [*TESTS, *FAULT_TESTS]
    assert [test.test for test in result.tests] == every
    assert [line for line in told if line.startswith("test ")] == [f"test {n}" for n in every]
    full = result.tests[0]
    # All sequences back to back, and one of length 1 on its own.
    assert (full.sequences, full.steps) == (len(LENGTHS) + 1, sum(LENGTHS) + 1)
    assert full.words == 2 * full.steps
    assert full.states == 2 * 3 * full.steps
    for test in result.tests:
        assert test.words >= 2 * test.steps > 0
        assert test.cycles >= 10 * test.steps
    assert result.words == sum(test.words for test in result.tests)
    # 2 cycles in, 5 to compute, 2 out, and one more.
    assert set(result.timing.intervals("lstm0.h")) == {10}
    assert result.timing.latency == result.timing_alone.latency == 6
    assert result.timing.lengths.tolist() == list(LENGTHS)
    assert np.array_equal(result.timing.x[:, 1] + 6, result.timing.y[:, 0])
    assert result.timing_alone.lengths.tolist() == [1]
    assert "PASS" in result.log.read_text()


# The fault is in sequence 2, step 7.
AT = "sequence 2, step 7, tensor"


@pytest.mark.parametrize(("fault", "message"), [
    ("wrong c", rf"{AT} lstm0\.c, unit 2: expected -?\d+, got -?\d+, in cycle \d+"),
    ("missing c", rf"{AT} lstm0\.c, unit 2: expected"),
    ("wrong h", rf"{AT} lstm0\.h, unit 0: expected"),
    ("wrong y", rf"{AT} y, unit 2: expected"),
    ("not extended", rf"{AT} y, unit 0: expected"),
    ("lanes left over", rf"{AT} y, unused lane 1: expected 0, got"),
    ("missing word", rf"{AT} y, unit 2: expected"),
    ("extra word", r"sequence 2, step 8, tensor y, unit 0: expected"),
    ("tlast early", rf"{AT} y, word 1: expected TLAST 0, got 1, in cycle \d+"),
    ("hangs", rf"{AT} y, word 0: missing \(76 of 102 did not come\)"),
    ("malformed", r"the design reports a malformed input"),
    ("saturates", r"the design reports that lstm0\.h saturated, but golden says that it did not"),
    ("slow", r"step 14 of lstm0\.h came 11 cycles after the one before, not 10 by the manifest$"),
])
def test_planted(tmp_path: Path, simulators: Path, fault: str, message: str) -> None:
    result = planted(tmp_path, simulators, fault, ("full_speed",))
    assert result.failure is not None
    assert re.match(f"full_speed, seed 1: {message}", result.failure), result.failure
    assert not result.passed


def test_hasty(tmp_path: Path, simulators: Path) -> None:
    """The first test that fails ends the run."""
    x = random_input(7)
    x[13, 0] = FAULTS["wrong h"]
    result = verify(write_design(tmp_path, sum_up(x)), seed=1, simulators=simulators, hasty=True)
    assert result.failure is not None
    assert result.failure.startswith(f"full_speed, seed 1: {AT} lstm0.h")
    assert [test.test for test in result.tests] == ["full_speed"]


def test_too_long(tmp_path: Path, simulators: Path) -> None:
    design = write_design(tmp_path, sum_up(random_input(7)))
    result = verify(design, seed=1, simulators=simulators, seconds=0)
    assert result.failure == (f"the simulator took too long and was ended; its output is in "
                              f"{result.log}")


@pytest.mark.parametrize(("fault", "step", "message"), [
    ("no tlast", 35, "sequence 2, step 29, tensor y, word 1: expected TLAST 1, got 0"),
    ("state kept", 35, "sequence 3, step 0, tensor lstm0.c, unit 0: expected"),
    ("extra word", 50, "tensor y: 1 more words than expected, after the end of the last sequence"),
    ("missing word", 50, "sequence 5, step 11, tensor y, word 1: missing (1 of 102 did not come)"),
    ("missing c", 50, "sequence 5, step 11, tensor lstm0.c, unit 2: missing"),
])
def test_planted_at_end(tmp_path: Path, simulators: Path, fault: str, step: int, message: str
                        ) -> None:
    result = planted(tmp_path, simulators, fault, ("full_speed",), step=step)
    assert result.failure is not None
    assert result.failure.startswith(f"full_speed, seed 1: {message}")


@pytest.mark.parametrize(("fault", "test", "message"), [
    ("withdrawn", "random_stalls", "m_axis: a word was changed or withdrawn"),
    ("withdrawn", "axi_random_stalls", "m_axis: a word was changed or withdrawn"),
    ("waits for ready", "ready_held_low", "with TREADY low the design offers no word"),
    ("withdrawn", "backlog", "m_axis: a word was changed or withdrawn"),
    ("saturates", "flags", "the design reports that lstm0.h saturated, but golden says that it"),
    ("survives reset", "reset_midway", "tensor lstm0.c, unit "),
    ("wrong y", "axi_full_speed", "tensor y, unit 2: expected"),
    ("wrong h", "single_steps", "sequence 0, step 0, tensor lstm0.h, unit 0: expected"),
    ("silent", "malformed_input",
     "after TLAST within a step: the design does not report a malformed input"),
    ("cut state kept", "malformed_input",
     "after TLAST within a step: sequence 1, step 0, tensor lstm0.c, unit 0: expected"),
])
def test_planted_for_another_test(tmp_path: Path, simulators: Path, fault: str, test: str,
                                  message: str) -> None:
    # Every step is wrong, so that every choice of sequences meets one.
    x = random_input(7, steps=9)
    x[:, 0] = FAULTS[fault]
    lengths = (1, 8) if test == "single_steps" else (4, 5)
    if test == "ready_held_low":
        lengths = (1, 8)
    vectors = sum_up(x, lengths)
    result = verify(write_design(tmp_path, vectors), tests=(test,), seed=1, simulators=simulators)
    assert result.failure is not None
    assert result.failure.startswith(f"{test}, seed 1: ")
    assert message in result.failure


def test_flags_of_each_sequence(tmp_path: Path, simulators: Path) -> None:
    """A flag that rises rightly in one sequence, and wrongly in others; and one that does not."""
    x = random_input(7)
    # In the sequences 1, 2 and 3; golden says so of the second.
    x[[5, 13, 36], 0] = FAULTS["saturates"]
    vectors = sum_up(x)
    vectors.saturated["lstm0.h"][2] = 3
    design = write_design(tmp_path, vectors)
    result = verify(design, tests=("full_speed", "flags"), seed=1, simulators=simulators)
    assert [test.passed for test in result.tests] == [True, False]
    assert result.failure == ("flags, seed 1: the design reports that lstm0.h saturated, but "
                              "golden says that it did not, in any sequence since the reset")
    vectors.saturated["lstm0.c"][5] = 1
    vectors.save(design / VECTORS)
    result = verify(design, tests=("full_speed",), seed=1, simulators=simulators)
    assert result.failure == ("full_speed, seed 1: lstm0.c saturated 1 times in golden since the "
                              "reset, but the design does not report it")


def test_steps_held(tmp_path: Path, simulators: Path) -> None:
    """How many steps go in while no output is taken: one, of a machine without a buffer."""
    design = write_design(tmp_path, sum_up(random_input(7)))
    tests = ("reset_midway", "ready_held_low")
    for held in (1, 2):
        (design / MANIFEST).write_text(json.dumps({**SHAPE, "held": held}))
        result = verify(design, tests=tests, seed=1, simulators=simulators)
        assert [test.passed for test in result.tests] == [held == 1] * 2
    assert [test.message for test in result.tests] == [
        "with TREADY low the design takes in 1 steps and 0 beats, not the 2 steps of the manifest"
        ] * 2


def test_backlog() -> None:
    """A sink that is slower than the design, whatever it takes at a time, and not by far."""
    stalls = Backlog(np.random.default_rng(1), pace=30.0, beats=3)
    held, free = np.array([[stalls.lasts(pause) for pause in (True, False)]
                           for _ in range(1000)]).T
    assert set(free.tolist()) == set(range(1, 7))
    assert 1 < (held + free).sum() / (10 * free.sum()) < 1.5
    assert {stalls.before_beat() for _ in range(10)} == {0}


def test_seed_repeats(tmp_path: Path, simulators: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    design = write_design(tmp_path, sum_up(random_input(3)))

    def run() -> tuple[int, int, bytes]:
        result = verify(design, tests=("random_stalls",), simulators=simulators)
        assert result.passed
        return (result.seed, result.tests[0].cycles,
                (design / "sim/output.bin").read_bytes())

    monkeypatch.setenv("GATEFOLD_SEED", "41")
    first = run()
    assert first[0] == 41
    assert run() == first
    monkeypatch.setenv("GATEFOLD_SEED", "42")
    assert run()[2] != first[2]


def test_simulator_is_kept(tmp_path: Path, simulators: Path) -> None:
    manifest = Manifest.load(write_design(tmp_path, sum_up(random_input(0))))
    program = build_simulator(manifest, simulators)
    told: list[str] = []
    assert build_simulator(manifest, simulators, progress=told.append) == program
    assert not told
    (tmp_path / "standin.v").write_text(VERILOG.replace("phase == 6 && ", "phaze == 6 && "))
    with pytest.raises(SimulatorError) as caught:
        build_simulator(manifest, simulators)
    match = re.fullmatch(r"Verilator failed: \S*/standin\.v:\d+:\d+: .*'phaze'; its output is in "
                         r"(\S+\.log)", str(caught.value))
    assert match
    assert Path(match[1]).parent == simulators
    assert "%Error" in Path(match[1]).read_text()


def test_only_ports_are_public(tmp_path: Path) -> None:
    manifest = Manifest.load(write_design(tmp_path, sum_up(random_input(0))))
    text = bench_verilog(manifest)
    header, body = text.split(");", 1)
    assert "public_flat_rw" in header
    assert "public" not in body
    assert "dut.lstm0.probe_c_valid" in body


def test_stream_bytes() -> None:
    stream = Stream(prefix="s_axis", elements=3, lanes=2, bytes=3)
    assert (stream.beats, stream.width) == (2, 48)
    packed = stream.pack(np.array([[1, -2, 0x7fffff], [-0x800000, 0, 5]]),
                         np.random.default_rng(0))
    assert packed.shape == (4, 6)
    assert packed[0].tolist() == [1, 0, 0, 0xfe, 0xff, 0xff]
    assert packed[1, :3].tolist() == [0xff, 0xff, 0x7f]
    assert stream.unpack(packed)[:, 0].tolist() == [1, 0x7fffff, -0x800000, 5]
    # What nobody reads is not always the same.
    assert packed[1, 3:].tolist() != packed[3, 3:].tolist()


def test_recording(tmp_path: Path) -> None:
    manifest = Manifest.load(write_design(tmp_path, sum_up(random_input(0))))
    for name in ("input", "output", "probe0", "probe1"):
        (tmp_path / f"{name}.bin").write_bytes(b"")
    recording = Recording(manifest, tmp_path)
    assert len(recording.outputs().cycles) == len(recording.probes()[0].values) == 0
    minus_one = (1 << 18) - 1

    def word(mask: int, low: int, high: int, cycle: int) -> bytes:
        data = low | high << 18
        return np.array([cycle, 1, mask, data & 0xffffffff, data >> 32], dtype="<u4").tobytes()

    with (tmp_path / "probe0.bin").open("ab") as file:
        file.write(word(3, minus_one, 5, cycle=9) + word(2, 7, 1 << 17, cycle=11))
    c, h = recording.probes()
    assert c.values.tolist() == [-1, 5, -(1 << 17)]
    assert c.cycles.tolist() == [(1 << 32) + 9, (1 << 32) + 9, (1 << 32) + 11]
    assert len(h.values) == 0
    assert len(recording.probes()[0].values) == 0


def perfect(checker_model: Model, order: list[int], number: int = 0
            ) -> tuple[Beats, list[Values]]:
    """The recording of a design without fault, of one stream."""
    expected = checker_model.expected(order)
    stream = checker_model.manifest.output
    values = expected.output.values
    data = (stream.pack(values) if len(values) else
            np.empty((0, stream.width // 8), dtype=np.uint8))
    last = np.zeros((len(expected.output.last), stream.beats), dtype=bool)
    last[:, -1] = expected.output.last
    return (Beats(cycles=np.arange(len(data)), last=last.ravel(), data=data,
                  stream=np.full(len(data), number)),
            [Values(cycles=np.arange(rows.values.size), values=rows.values.ravel().copy(),
                    stream=np.full(rows.values.size, number))
             for rows in expected.probes])


@pytest.fixture
def model(tmp_path: Path) -> Model:
    vectors = sum_up(random_input(5))
    return Model(Manifest.load(write_design(tmp_path, vectors)), vectors)


def test_checker_accepts_in_pieces(model: Model) -> None:
    order = [2, 0, 2]
    beats, values = perfect(model, order)
    checker = Checker(model.manifest, [model.expected(order)])
    for part in (slice(0, 5), slice(5, 5), slice(5, 1000)):
        checker.feed(
            Beats(cycles=beats.cycles[part], last=beats.last[part], data=beats.data[part],
                  stream=beats.stream[part]),
            [Values(cycles=v.cycles[part], values=v.values[part], stream=v.stream[part])
             for v in values])
    checker.finish()
    assert (checker.words, checker.states) == (2 * 65, 2 * 3 * 65)


def test_checker_names_the_first(model: Model) -> None:
    # Sequence 2 is played twice; the error is in the second, and in what follows from it.
    order = [2, 0, 2]
    beats, values = perfect(model, order)
    row = 30 + 5 + 4
    values[0].values[3 * row + 1] ^= 8
    values[1].values[3 * row] ^= 1
    beats.data[2 * row, 0] ^= 1
    with pytest.raises(Difference, match=r"^sequence 2, step 4, tensor lstm0\.c, unit 1: "
                                         r"expected -?\d+, got -?\d+, in cycle 118$"):
        Checker(model.manifest, [model.expected(order)]).feed(beats, values)


def test_checker_unused_lanes(model: Model) -> None:
    """What a vector leaves over of its last beat is 0."""
    beats, values = perfect(model, [0])
    Checker(model.manifest, [model.expected([0])]).feed(beats, values)
    beats.data[3, 3] = 1
    with pytest.raises(Difference, match=r"^sequence 0, step 1, tensor y, unused lane 1: expected "
                                         r"0, got 1, in cycle \d+$"):
        Checker(model.manifest, [model.expected([0])]).feed(beats, values)


@pytest.fixture
def two(tmp_path: Path) -> Model:
    """A model of two streams."""
    vectors = sum_up(random_input(5))
    return Model(Manifest.load(write_design(tmp_path / "two", vectors, streams=2)), vectors)


def interleaved(model: Model, orders: tuple[list[int], list[int]]) -> tuple[Beats, list[Values]]:
    """The recording of a design of two streams without fault: its steps in random order."""
    parts = [perfect(model, order, number) for number, order in enumerate(orders)]
    rng = np.random.default_rng(0)
    steps = [len(beats.cycles) // 2 for beats, _ in parts]
    owners = rng.permutation(np.repeat([0, 1], steps))

    def mixed(arrays: list[np.ndarray], items: int) -> np.ndarray:
        rows = [array.reshape(-1, items, *array.shape[1:]) for array in arrays]
        taken = [0, 0]
        woven = []
        for owner in owners:
            woven.append(rows[owner][taken[owner]])
            taken[owner] += 1
        return np.concatenate(woven)

    def field(name: str, records: list, items: int) -> np.ndarray:
        return mixed([getattr(record, name) for record in records], items)

    beats = [part[0] for part in parts]
    words, values = np.arange(2 * sum(steps)), np.arange(3 * sum(steps))
    return (Beats(cycles=words, **{name: field(name, beats, 2)
                                   for name in ("last", "stream", "data")}),
            [Values(cycles=values, **{name: field(name, [part[1][n] for part in parts], 3)
                                      for name in ("values", "stream")}) for n in (0, 1)])


def check_two(model: Model, orders: tuple[list[int], list[int]], beats: Beats,
              values: list[Values]) -> Checker:
    checker = Checker(model.manifest, [model.expected(order) for order in orders])
    checker.feed(beats, values)
    checker.finish()
    return checker


ORDERS = ([0, 1, 4], [5, 0])


@pytest.mark.parametrize("orders", [ORDERS, ([], [3, 2]), ([2], [])])
def test_checker_of_streams(two: Model, orders: tuple[list[int], list[int]]) -> None:
    steps = sum(LENGTHS[sequence] for order in orders for sequence in order)
    checker = check_two(two, orders, *interleaved(two, orders))
    assert (checker.words, checker.states) == (2 * steps, 2 * 3 * steps)


def test_checker_of_streams_finds_what_is_swapped(two: Model) -> None:
    beats, values = interleaved(two, ORDERS)
    with pytest.raises(Difference, match=r"^stream 0, sequence 0, step 0, tensor lstm0\.c, unit 0: "
                                         r"expected "):
        check_two(two, ORDERS, beats, [replace(v, stream=1 - v.stream) for v in values])
    with pytest.raises(Difference, match=r"^stream 0, sequence 0, step 0, tensor y, unit 0: expe"):
        check_two(two, ORDERS, replace(beats, stream=1 - beats.stream), values)
    # A vector of the one and the next of the other, each with its own TLAST.
    stream = beats.stream.copy()
    pair = np.flatnonzero(stream[:-2:2] != stream[2::2])[3]
    stream[2 * pair:2 * pair + 4] = 1 - stream[2 * pair:2 * pair + 4]
    with pytest.raises(Difference, match=r"^stream [01], sequence \d, step \d+, tensor y, unit"):
        check_two(two, ORDERS, replace(beats, stream=stream), values)


def test_checker_of_streams_finds_what_is_missing(two: Model) -> None:
    beats, values = interleaved(two, ORDERS)
    # The last vector of stream 1, which is not the last of all.
    at = np.flatnonzero(beats.stream == 1)[-2:]
    less = Beats(**{name: np.delete(getattr(beats, name), at, axis=0)
                    for name in ("cycles", "last", "stream", "data")})
    with pytest.raises(Difference, match=r"^stream 1, sequence 0, step 4, tensor y, word 0: "
                                         r"missing \(2 of 34 did not come\)$"):
        check_two(two, ORDERS, less, values)


def test_checker_of_streams_keeps_vectors_together(two: Model) -> None:
    beats, values = interleaved(two, ORDERS)
    pair = 2 * int(np.flatnonzero(beats.stream[:-2:2] != beats.stream[2::2])[0])
    order = np.arange(len(beats.cycles))
    order[[pair + 1, pair + 2]] = pair + 2, pair + 1
    shuffled = Beats(cycles=beats.cycles, **{name: getattr(beats, name)[order]
                                             for name in ("last", "stream", "data")})
    owner = beats.stream[pair + 2]
    message = rf"^the output goes over to stream {owner} amid a vector, in cycle {pair + 1}$"
    with pytest.raises(Difference, match=message):
        check_two(two, ORDERS, shuffled, values)
    # Also where the recording is cut there.
    checker = Checker(two.manifest, [two.expected(order) for order in ORDERS])
    none = [replace(v, **{name: getattr(v, name)[:0] for name in ("cycles", "values", "stream")})
            for v in values]
    first, second = (Beats(**{name: getattr(shuffled, name)[part]
                              for name in ("cycles", "last", "stream", "data")})
                     for part in (slice(0, pair + 1), slice(pair + 1, None)))
    checker.feed(first, none)
    with pytest.raises(Difference, match=message):
        checker.feed(second, none)


def test_checker_of_streams_knows_how_many(two: Model) -> None:
    beats, values = interleaved(two, ORDERS)
    beats.stream[6] = 2
    with pytest.raises(Difference, match=r"^the output belongs to stream 2 of 2, in cycle 6$"):
        check_two(two, ORDERS, beats, values)
    values[1].stream[9] = 5
    with pytest.raises(Difference, match=r"^tensor lstm0\.h belongs to stream 5 of 2, in cycle 9$"):
        check_two(two, ORDERS, beats, values)


def test_course() -> None:
    lengths = np.array([2, 1, 4, 3])
    course = Course.deal([0, 1, 2], lengths, 2)
    assert course.queues == ([0, 2], [1])
    assert course.order == [0, 2, 1]
    # Stream 1 runs dry.
    assert course.turns.tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert Course.whole([0, 1, 2], lengths, 2).turns.tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert Course.deal([3, 0], lengths, 1).turns.tolist() == [0] * 5
    assert Course.deal([1], lengths, 3).queues == ([1], [], [])


def test_course_at_random() -> None:
    lengths = np.full(9, 20)
    course = Course.deal(range(9), lengths, 3, rng=np.random.default_rng(0))
    assert np.bincount(course.turns).tolist() == [60, 60, 60]
    gaps = np.diff(np.flatnonzero(np.diff(course.turns[:120]) != 0))
    # Now a step of each, now one stream for long.
    assert gaps.min() == 1
    assert gaps.max() > 8


def test_course_with_visits() -> None:
    lengths = np.array([40, 30, 1, 2])
    course = Course.visited([0, 1], [2, 3, 2], lengths, 3, busy=1, gap=10,
                            rng=np.random.default_rng(0))
    assert course.queues == ([2, 2], [0, 1], [3])
    visits = np.flatnonzero(course.turns != 1)
    assert np.bincount(course.turns).tolist() == [2, 70, 2]
    assert (np.diff(visits)[:-1] > 10).all()
    calm = course.undisturbed(1, 3)
    assert len(calm) == 70
    assert [n for n, is_calm in enumerate(calm) if not is_calm][:6] == [
        visits[0] - 3, visits[0] - 2, visits[0] - 1, visits[0], visits[0] + 1, visits[0] + 2]
    assert Course.visited([0], [], lengths, 2, busy=0, gap=5, rng=np.random.default_rng(0)
                          ).undisturbed(0, 3).all()


def test_model_sends_steps_in_turn(two: Model) -> None:
    course = Course.deal([0, 1, 4], two.vectors.lengths, 2)
    parts = list(two.beats(course, np.random.default_rng(0)))
    data, last, stream = (np.concatenate(arrays) for arrays in zip(
        *(part[:3] for part in parts), strict=True))
    # Stream 0 has the sequences of 5 and of 2 steps, stream 1 that of one; two beats a step.
    assert stream.tolist() == [0, 0, 1, 1] + [0] * 12
    assert np.flatnonzero(last).tolist() == [3, 11, 15]
    assert [int(part[1].sum()) for part in parts] == [1, 1, 1]
    vectors = two.vectors
    got = two.manifest.input.unpack(data).reshape(-1, 4)[:, :3]
    rows = [0, 5, 1, 2, 3, 4, *range(37, 39)]
    assert got.tolist() == vectors.x[rows].tolist()


@pytest.mark.parametrize("streams", [2, 3])
def test_interleaved(tmp_path: Path, simulators: Path, streams: int) -> None:
    vectors = sum_up(random_input(streams))
    result = verify(write_design(tmp_path, vectors, streams), seed=streams, simulators=simulators)
    assert result.failure is None
    assert [test.test for test in result.tests] == [*TESTS, *STREAM_TESTS, *FAULT_TESTS]
    full = result.tests[0]
    # All sequences, one of length 1 on its own, the longest on all streams.
    assert full.steps == sum(LENGTHS) + 1 + streams * max(LENGTHS)
    assert full.words == 2 * full.steps
    assert full.states == 2 * 3 * full.steps
    timing = result.timing
    dealt = [number for stream in range(streams)
             for number in range(stream, len(LENGTHS), streams)]
    assert timing.lengths.tolist() == [LENGTHS[number] for number in dealt]
    assert timing.streams["lengths"].tolist() == [number % streams for number in dealt]
    for name in ("x", "y", "lstm0.c", "lstm0.h"):
        counts = np.bincount(timing.streams[name], minlength=streams)
        assert counts.tolist() == [sum(LENGTHS[stream::streams]) for stream in range(streams)]
    # All streams at first; later the longest sequence alone.
    busy = 2 % streams
    assert timing.intervals("lstm0.h", busy)[1] == 9 * streams
    start = 10 if streams == 3 else 15
    assert timing.intervals("lstm0.h", busy)[start:29].tolist() == [12] * (29 - start)
    assert result.timing_alone.latency == 7


@pytest.mark.parametrize(("fault", "test", "message"), [
    ("swapped", "full_speed", r"stream \d, sequence \d, step \d+, tensor y, unit \d: expected"),
    ("swapped", "axi_full_speed", r"stream \d, sequence \d, step \d+, tensor y, unit \d: expec"),
    ("goes over", "full_speed", r"stream \d, sequence \d, step \d+, tensor y, unit \d: expected"),
    ("restless", "random_stalls", r"m_axis: a word was changed or withdrawn"),
    ("nobody's", "full_speed", r"the output belongs to stream 3 of 3, in cycle \d+"),
    ("missing vector", "full_speed", r"stream \d, sequence \d, step \d, tensor y, word 0: missi"),
    ("another's state", "full_speed", r"stream \d, sequence \d, step \d+, tensor lstm0\.c, unit "),
    ("another's end", "full_speed", r"stream \d, sequence \d, step \d+, tensor lstm0\.c, unit "),
    ("another's probe", "full_speed", r"stream \d, sequence \d, step \d+, tensor lstm0\.h, unit "),
    ("waits for the others", "idle_streams",
     r"step \d+ of lstm0\.h came \d+ cycles after the one before, not 12 by the manifest$"),
    ("hasty", "idle_streams", r"within a sequence, steps follow each other faster \(lstm0\.h at 9, "
                              r"y at 9 cycles\) than at 12 by the manifest$"),
    ("hasty", "full_speed", None),
    ("slow", "full_speed",
     r"with all streams busy, the steps of one follow each other at other cycles "
     r"\(lstm0\.h at 30\.0, y at 30\.0\) than the 27 by the manifest$"),
])
def test_planted_in_streams(tmp_path: Path, simulators: Path, fault: str, test: str,
                            message: str | None) -> None:
    x = random_input(7)
    x[:, 0] = STREAM_FAULTS[fault]
    vectors = sum_up(x)
    result = verify(write_design(tmp_path, vectors, 3), tests=(test,), seed=1,
                    simulators=simulators)
    if message is None:
        assert result.failure is None
    else:
        assert result.failure is not None
        assert re.match(f"{test}, seed 1: {message}", result.failure), result.failure


def steady(pace: np.ndarray, lengths: tuple[int, ...], name: str = "lstm0.h") -> TimingRecord:
    """The record of one stream, whose steps came at such distances."""
    cycles = np.cumsum(np.r_[100, pace])
    both = np.stack([cycles, cycles], axis=1)
    owner = np.zeros(len(both), dtype=np.int64)
    return TimingRecord(lengths=np.array(lengths), x=both, y=both + 7, states={name: both},
                        streams={"lengths": np.zeros(len(lengths), dtype=np.int64),
                                 "x": owner, "y": owner, name: owner})


@pytest.fixture
def paced(model: Model) -> Manifest:
    return replace(model.manifest, step=10, alone=10, work=6)


def test_pace(paced: Manifest) -> None:
    # Sequences of 12, 1, 1 and 16 steps; a first step comes early, and others at 10 cycles.
    lengths = (12, 1, 1, 16)
    right = np.full(29, 10)
    right[[11, 12, 13]] = 6, 8, 10
    # The layers fill up.
    right[:3] = 3, 25, 4
    check_alone(steady(right, lengths), paced)

    def wrong(step: int, cycles: int) -> TimingRecord:
        pace = right.copy()
        pace[step - 1] = cycles
        return steady(pace, lengths)

    with pytest.raises(Difference, match=r"^step 20 of lstm0\.h came 11 cycles after the one "
                                         r"before, not 10 by the manifest$"):
        check_alone(wrong(20, 11), paced)
    with pytest.raises(Difference, match=r"^within a sequence, steps follow each other faster "
                                         r"\(lstm0\.h at 9, y at 9 cycles\) than at 10 by the man"):
        check_alone(wrong(20, 9), paced)
    with pytest.raises(Difference, match=r"^the first step of a sequence follows faster \(lstm0\.h "
                                         r"at 5, y at 5 cycles\) than the 6 of its work by the"):
        check_alone(wrong(12, 5), paced)
    # Another's step was near.
    calm = np.arange(30) != 20
    check_alone(wrong(20, 11), paced, calm=calm)
    with pytest.raises(Difference, match=r"^step 20 of "):
        check_alone(wrong(20, 11), paced, calm=np.roll(calm, 1))


def test_pace_of_short_sequences(paced: Manifest) -> None:
    """They are faster on average, but not each step, until a long one sets the pace."""
    lengths = (1,) * 10 + (8, 1, 1)
    pace = np.full(19, 10)
    pace[:10:2], pace[1:10:2] = 6, 12
    check_alone(steady(pace, lengths), paced)
    pace[18] = 12
    with pytest.raises(Difference, match=r"^step 19 of lstm0\.h came 12 cycles after the one "):
        check_alone(steady(pace, lengths), paced)


def test_pace_of_outputs_at_the_end(paced: Manifest) -> None:
    # After short sequences a step may wait for the head.
    paced = replace(paced, every_step=False)
    lengths = (12, 1, 1, 16)
    pace = np.full(29, 10)
    pace[[11, 12, 13, 14, 15]] = 6, 8, 24, 17, 5
    record = steady(pace, lengths)
    record = replace(record, y=record.y[[11, 12, 13, 29]])
    check_alone(record, paced)
    pace[24] = 9
    with pytest.raises(Difference, match=r"^within a sequence, .* \(lstm0\.h at 9 cycles\) than "):
        check_alone(replace(steady(pace, lengths), y=record.y), paced)


def test_pace_of_the_slowest_layer(paced: Manifest) -> None:
    """A layer that catches up is no fault, as long as another keeps the pace."""
    pace = np.full(29, 10)
    early = pace.copy()
    early[12:15] = 9
    lengths = (12, 18)
    slow, fast = steady(pace, lengths), steady(early, lengths, "lstm1.h")
    both = replace(fast, states=slow.states | fast.states, streams=slow.streams | fast.streams)
    check_alone(both, paced)
    with pytest.raises(Difference, match=r"^within a sequence"):
        check_alone(fast, paced)


def test_pace_together(two: Model) -> None:
    manifest = replace(two.manifest, step=20)

    def together(pace: int, steps: int = 30) -> TimingRecord:
        cycles = np.concatenate([np.arange(steps) * pace, np.arange(steps) * pace + 9])
        both = np.stack([cycles, cycles], axis=1)
        owner = np.repeat([0, 1], steps)
        return TimingRecord(lengths=np.array([steps, steps]), x=both, y=both,
                            states={"lstm0.h": both},
                            streams={"lengths": np.array([0, 1]), "x": owner, "y": owner,
                                     "lstm0.h": owner})

    check_together(together(20), manifest)
    for pace in (19, 21):
        with pytest.raises(Difference, match=rf"\(lstm0\.h at {pace}\.0, y at {pace}\.0\) than the "
                                             r"20 by the manifest$"):
            check_together(together(pace), manifest)


def block(pins: dict[str, int], parameters: dict[str, str]) -> str:
    """A stand-in that also has a multiplier of an ECP5, with a product that nobody looks at."""
    settings = ", ".join(f'.{name}("{value}")' for name, value in parameters.items())
    wires = ", ".join(f".{name}(1'd{value})" for name, value in pins.items())
    instance = f"MULT18X18D #({settings}) block ({wires}, .CLK0(clk), .P0(product));"
    return VERILOG.replace("  wire [53:0] h;\n", f"  wire [53:0] h;\n  wire product;\n"
                                                 f"  {instance}\n", 1)


def test_family(tmp_path: Path, simulators: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = {f"{operand}{n}": 0 for operand in "ABC" for n in range(18)} | {
        "SIGNEDA": 1, "SIGNEDB": 1, "SOURCEA": 0, "SOURCEB": 0, "CE0": 1, "RST0": 0}
    parameters = {"REG_INPUTA_CLK": "CLK0", "REG_INPUTB_CLK": "CLK0", "REG_OUTPUT_CLK": "CLK0",
                  "GSR": "DISABLED"}
    design = write_design(tmp_path, sum_up(random_input(0)))
    (design / "standin.v").write_text(block(pins, parameters))
    portable = Manifest.load(design)
    assert not portable.models
    with pytest.raises(SimulatorError, match=r"MULT18X18D"):
        build_simulator(portable, simulators)
    (design / MANIFEST).write_text(json.dumps({**SHAPE, "family": "ecp5"}))
    manifest = Manifest.load(design)
    # The 35 bits of the product that are left open are no fault.
    program = build_simulator(manifest, simulators)
    assert build_simulator(manifest, simulators) == program
    assert verify(design, tests=("full_speed",), seed=0, simulators=simulators).passed
    # An operand is, and so is a mode that has no model.
    (design / "standin.v").write_text(block(pins, parameters).replace(".A3(1'd0), ", ""))
    with pytest.raises(SimulatorError, match=r"Instance has missing pin: 'A3'; its output is in"):
        build_simulator(manifest, simulators)
    (design / "standin.v").write_text(block(pins, parameters | {"GSR": "ENABLED"}))
    with pytest.raises(SimulatorError, match=r"^Verilator failed"):
        build_simulator(manifest, simulators)
    # Another model is another simulator.
    (design / "standin.v").write_text(block(pins, parameters))
    other = tmp_path / "ecp5.v"
    (model,) = manifest.models
    other.write_text(model.read_text() + "// more\n")
    assert build_simulator(replace(manifest, models=(other,)), simulators) != program


def test_manifest_errors(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"has no manifest\.json: it must be a folder that "
                                            r"gatefold build has written$"):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match=r"manifest\.json is not JSON: "):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({**SHAPE, "output": {}}))
    with pytest.raises(ManifestError, match=r"is not a design's manifest: it has no 'every_step'$"):
        Manifest.load(tmp_path)
    for key in ("family", "streams"):
        (tmp_path / "manifest.json").write_text(json.dumps(
            {name: value for name, value in SHAPE.items() if name != key}))
        with pytest.raises(ManifestError, match=rf"is not a design's manifest: it has no '{key}'$"):
            Manifest.load(tmp_path)
    cycles = {"step": 20, "alone": 21, "work": 20, "further": 20}
    (tmp_path / "manifest.json").write_text(json.dumps({**SHAPE, "streams": 2, "cycles": cycles}))
    with pytest.raises(ManifestError, match=r"cycles alone must be at most those of a step, 20, not"
                                            r" 21$"):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(SHAPE))
    with pytest.raises(ManifestError, match=r"has no standin\.v, which its manifest names$"):
        Manifest.load(tmp_path)


def test_vectors_errors(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npz"
    with pytest.raises(VectorsError, match=r"has no vectors\.npz$"):
        Vectors.load(path, every_step=True)
    path.write_text("no")
    with pytest.raises(VectorsError, match=r"is not an \.npz file of plain arrays$"):
        Vectors.load(path, every_step=True)
    np.savez(path, x=np.zeros((1, 3), dtype=np.int64))
    with pytest.raises(VectorsError, match=r"has no array 'lengths'$"):
        Vectors.load(path, every_step=True)
    vectors = sum_up(random_input(0))
    with pytest.raises(VectorsError, match=r"^y must have 6 rows, not the shape \[51, 3\]$"):
        replace(vectors, every_step=False)
    with pytest.raises(VectorsError, match=r"^lengths must be a list of positive integers"):
        replace(vectors, lengths=np.array([51, 0]))
    # A total of all sequences, as earlier versions wrote it.
    with pytest.raises(VectorsError, match=r"^saturated\.lstm0\.c must have 6 numbers, one for each"
                                           r" sequence, not the shape \[\]; what an earlier "
                                           r"version has built must be built again$"):
        replace(vectors, saturated={"lstm0.c": np.array(0)})


def test_vectors_file(tmp_path: Path) -> None:
    vectors = sum_up(random_input(0))
    vectors.save(tmp_path / "vectors.npz")
    again = Vectors.load(tmp_path / "vectors.npz", every_step=True)
    assert np.array_equal(again.x, vectors.x)
    assert np.array_equal(again.states["lstm0.h"], vectors.states["lstm0.h"])
    assert again.saturated.keys() == vectors.saturated.keys()
    assert np.array_equal(again.saturated["lstm0.h"], np.zeros(len(LENGTHS)))
    assert again.outputs(2) == slice(6, 36)


def test_verify_errors(tmp_path: Path, simulators: Path) -> None:
    vectors = sum_up(random_input(0))
    design = write_design(tmp_path, vectors)
    with pytest.raises(ValueError, match=r"^test must be one of full_speed, .*, not all$"):
        verify(design, tests=("all",))
    with pytest.raises(ValueError, match=r"^there must be at least one test to run$"):
        verify(design, tests=())
    with pytest.raises(ValueError, match=r"^the test idle_streams needs a design of several streams"
                                         r", not of 1$"):
        verify(design, tests=("idle_streams",))
    with pytest.raises(ValueError, match=r"^seed must not be negative, not -1$"):
        verify(design, seed=-1)
    replace(vectors, states={}).save(design / "vectors.npz")
    with pytest.raises(VectorsError, match=r"^the vectors have no lstm0\.c, which the design sho"):
        verify(design)
    sum_up(random_input(0), (51,)).save(design / "vectors.npz")
    with pytest.raises(VectorsError, match=r"single_steps needs a sequence of length 1"):
        verify(design)
    assert not (design / "sim").exists()


def test_simulator_dies(tmp_path: Path, simulators: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    design = write_design(tmp_path, sum_up(random_input(0)))
    monkeypatch.setenv("COCOTB_TEST_FILTER", "")
    monkeypatch.setattr("sim.verify.simulator_environment", lambda **settings: {})
    result = verify(design, tests=("full_speed",), seed=0, simulators=simulators)
    assert result.failure is not None
    assert result.failure.startswith("the simulator left no result (exit status ")
    assert not result.tests


@pytest.mark.parametrize(("path", "value", "message"), [
    (("input", "lanes"), 0, "lanes must be an integer from 1 on, not 0"),
    (("output", "bytes"), "2", "bytes must be an integer from 1 on, not '2'"),
    (("output", "every_step"), 1, "every_step must be true or false, not 1"),
    (("cycles", "step"), None, "step must be an integer from 1 on, not None"),
    (("cycles", "alone"), 9, "cycles alone must be those of a step, 10, not 9"),
    (("cycles", "work"), 0, "work must be an integer from 1 on, not 0"),
    (("family",), "xilinx", "family must be ecp5, ice40 or null, not 'xilinx'"),
    (("family",), 5, "family must be ecp5, ice40 or null, not 5"),
    (("streams",), 0, "streams must be an integer from 1 on, not 0"),
    (("streams",), 2, "stream must be a name, not None"),
    (("probes", 1, "stream"), "standin.s",
     "stream of a probe must be null in a design of one stream, not 'standin.s'"),
    (("name",), 3, "name must be a name, not 3"),
    (("probes", 0, "valid"), [], r"valid must be a name, not \[\]"),
])
def test_manifest_with_a_wrong_value(tmp_path: Path, path: tuple[str | int, ...], value: object,
                                     message: str) -> None:
    write_design(tmp_path, sum_up(random_input(0)))
    file = tmp_path / MANIFEST
    data = json.loads(file.read_text())
    part = data
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    file.write_text(json.dumps(data))
    with pytest.raises(ManifestError, match=f"^{file}: {message}$"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"ends": 3}', '{"ends": {"low": "3"}}'])
def test_points_that_are_damaged(tmp_path: Path, content: str) -> None:
    """Told before anything is simulated."""
    write_design(tmp_path, sum_up(random_input(0)))
    (tmp_path / REACHED).write_text(content)
    with pytest.raises(CoverageError, match=(
            f"^{tmp_path}/{REACHED} must hold the counts of points by group, as gatefold build has "
            f"written it: build the design again$")):
        verify(tmp_path)
    assert not (tmp_path / "sim").exists()


def test_nowhere_to_write(tmp_path: Path) -> None:
    write_design(tmp_path, sum_up(random_input(0)))
    (tmp_path / "sim").touch()
    with pytest.raises(SimulatorError, match=(
            f"^{tmp_path}/sim must be a folder that the simulation can write into, but cannot be "
            f"made: File exists$")):
        verify(tmp_path)


def test_vectors_that_are_damaged(tmp_path: Path) -> None:
    write_design(tmp_path, sum_up(random_input(0)))
    file = tmp_path / VECTORS
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)
    with pytest.raises(VectorsError, match=r"is not an \.npz file of plain arrays$"):
        Vectors.load(tmp_path / VECTORS, every_step=False)


@pytest.fixture(scope="session")
def counted(tmp_path_factory: pytest.TempPathFactory, simulators: Path) -> VerifyResult:
    """A run of the stand-in that counts lines and bits."""
    folder = write_design(tmp_path_factory.mktemp("counted"), sum_up(random_input(3)))
    return verify(folder, seed=3, simulators=simulators, coverage=True)


def test_coverage_of_the_verilog(counted: VerifyResult) -> None:
    assert counted.failure is None
    assert counted.verilog is not None
    # What only a planted fault reaches is left over.
    met, count = counted.verilog.shares["lines"]
    assert 0.7 < met / count < 1
    met, count = counted.verilog.shares["toggles"]
    assert 0.8 < met / count < 1
    text = (counted.folder / "coverage.txt").read_text()
    source = VERILOG.splitlines()
    assert re.search(r"bits that cannot change: constant(\n  .*)*: saturated \[0\] rise or", text)
    for what, line in (("saturated [1] rise or fall", "output reg [1:0] saturated"),
                       ("extra rise or fall", "reg beat, last, cut, extra")):
        number = next(n for n, each in enumerate(source, start=1) if line in each)
        assert f"  line {number}: {what}\n" in text
    assert "malformed rise" not in text
    assert "bench.sv" not in text


def test_coverage_that_cannot_be_read(tmp_path: Path) -> None:
    manifest = Manifest.load(write_design(tmp_path, sum_up(random_input(0))))
    with pytest.raises(CoverageError, match=r"^the simulator left no coverage\.dat: No such file"):
        VerilogCoverage.load(tmp_path / "coverage.dat", manifest)
    (tmp_path / "coverage.dat").write_text("something else\n")
    with pytest.raises(CoverageError, match=r"coverage\.dat is not a file of coverage by Veri"):
        VerilogCoverage.load(tmp_path / "coverage.dat", manifest)
    (tmp_path / "coverage.dat").write_text("# SystemC::Coverage-3\n")
    manifest.verilog.write_text("module nonsense")
    with pytest.raises(CoverageError, match=r"^Yosys failed: .*ERROR: syntax error"):
        VerilogCoverage.load(tmp_path / "coverage.dat", manifest)


def test_pauses_of_a_backlog() -> None:
    """The bench waits for as long as the longest one may last, and no longer than it has to."""
    stalls = Backlog(np.random.default_rng(0), 6700.0, 3)
    pauses = []
    for _ in range(2000):
        pauses.append(stalls.lasts(True))
        assert 1 <= stalls.lasts(False) <= 6
    assert 0.95 * stalls.longest < max(pauses) <= stalls.longest
