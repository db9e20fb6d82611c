"""The benchmark of the engine: its rows, its figures, and what it does with them; no tool runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import engine
from benchmarks.engine import (
    PAGE,
    CycleError,
    Engine,
    measured_cycles,
    random_network,
    random_vectors,
)
from benchmarks.engine_memories import memory_bits
from benchmarks.engine_rows import (
    GROUPS,
    PACKED,
    SIMULATED,
    Row,
    Target,
    growth,
    needed,
)
from benchmarks.engine_tables import COLUMNS, cells, markdown, marks, table
from benchmarks.synthesis import XC7, count_cells, pack, registered
from fpga.report import ReportError
from hdl.cycles import Folding
from hdl.network import Network
from hdl.verilog import generate
from sim.timing import TimingRecord

FOLDING = Folding(units=2, columns=1, lanes=1, interval=2)
ROW = Row(inputs=2, hidden=4, budget=8, folding=FOLDING, pipeline="short", family=None)


def record(row: Row, pace: dict[int, list[int]], outputs: list[int] | None = None) -> TimingRecord:
    """Steps of each stream at such distances."""
    cycles = {stream: np.cumsum([100 + stream, *some]) for stream, some in pace.items()}
    owners = np.concatenate([np.full(len(some), stream) for stream, some in cycles.items()])
    h = np.concatenate(list(cycles.values()))
    y = np.cumsum([200, *outputs]) if outputs is not None else h
    return TimingRecord(lengths=np.full(len(h) // row.steps, row.steps),
                        x=np.stack([h, h], axis=1), y=np.stack([y, y], axis=1),
                        states={"lstm0.h": np.stack([h, h], axis=1)},
                        streams={"lstm0.h": owners})


def test_groups() -> None:
    for letter, group in GROUPS.items():
        rows = group.rows()
        assert rows, letter
        assert set(group.columns) <= set(COLUMNS), letter
        for row in rows:
            # The cycle model accepts it, and an array is not larger than its budget.
            assert row.cycles.round >= row.cycles.work
            assert row.folding.multipliers <= row.budget
            assert all(target.figure for target in row.targets)
        page = PAGE.read_text(encoding="utf-8")
        assert [page.count(mark) for mark in marks(letter)] == [1, 1], letter


def test_long_layers_are_used_as_asked() -> None:
    for row in GROUPS["A"].rows():
        assert row.cycles.use >= 0.97
        if row.budget == 64:
            assert needed(row.cycles) / (row.cycles.multipliers + 1) / row.cycles.round >= 0.85


def test_row_within_budget() -> None:
    with pytest.raises(ValueError, match=r"^the array must have at most the 4 multipliers of the "
                                         r"budget, not 8$"):
        replace(ROW, budget=4)


def test_targets() -> None:
    least = Target(figure="use", bound=0.97, least=True, name="use >= {} %", scale=100)
    assert least.verdict({"use": 0.97}) == "use >= 97 %: 97, met"
    assert least.verdict({"use": 0.9699}) == "use >= 97 %: 96.99, MISSED"
    most = Target(figure="LUT", bound=900, least=False, name="<= {} LUT")
    assert most.verdict({"LUT": 900}) == "<= 900 LUT: 900, met"
    assert most.verdict({"LUT": 901}) == "<= 900 LUT: 901, MISSED"
    assert most.verdict({}) == "<= 900 LUT: not measured"


def test_measured_cycles() -> None:
    k = ROW.cycles
    # The first steps of the run, and the first of a sequence, may come at any distance.
    pace = [3, 90, 4] + [k.round] * 6 + [k.work] + [k.step] * 9
    assert measured_cycles(record(ROW, {0: pace}), ROW) == {"cycles": k.round}
    for slip in ([7], [7, 8]):
        wrong = pace.copy()
        wrong[7] += 1
        wrong[8] -= len(slip) - 1
        with pytest.raises(CycleError, match=rf"promises {k.round} cycles a round, but the sim"):
            measured_cycles(record(ROW, {0: wrong}), ROW)


def test_measured_cycles_of_streams() -> None:
    row = replace(ROW, streams=2)
    r = row.cycles.round
    steady = [r] * (row.steps - 1)
    moved = steady.copy()
    # Two streams change places and back.
    moved[5:7] = r + 1, r - 1
    assert measured_cycles(record(row, {0: steady, 1: moved}), row) == {"cycles": r}
    moved[6] = r
    with pytest.raises(CycleError, match=r"^\(2, 4\) 2 x 1 short 2 streams portable: the c"):
        measured_cycles(record(row, {0: steady, 1: moved}), row)


def test_measured_inference() -> None:
    row = replace(ROW, every_step=False, steps=6)
    k = row.cycles
    model = 5 * k.step + k.work
    pace = ([k.step] * 5 + [k.work]) * 6
    outputs = [1] * 4 + [model] * 2
    found = measured_cycles(record(row, {0: pace[:-1]}, outputs), row)
    assert found == {"cycles": k.round, "cycles an inference": model}
    with pytest.raises(CycleError, match=rf"promises {model} cycles an inference, but the simu"):
        measured_cycles(record(row, {0: pace[:-1]}, [*outputs[:-1], model + 1]), row)


def test_vectors_keep_all_streams_busy() -> None:
    row = replace(ROW, streams=3)
    vectors = random_vectors(random_network(2, 4, True), row)
    assert vectors.lengths.tolist() == [10] * 6
    # Not the same numbers twice, and not the same each time.
    assert len(np.unique(vectors.x, axis=0)) == 60


def test_memory_bits() -> None:
    assert memory_bits("  reg [7:0] a [3:0];\n  reg b [1:0];\n  reg signed [1:0] \\c.d  [0:0];\n"
                       "  reg [7:0] e;\n") == 36
    text = generate(Network(random_network(2, 4, True), foldings=[FOLDING]), "engine")[0]
    # The weights of eight rows of 16 bits; 2 passes of 6 words, which 16 hold.
    weights = "reg [127:0] store [15:0];"
    assert text.count(weights) == 1
    assert memory_bits(text) - memory_bits(text.replace(weights, "")) == 128 * 16


def test_registered() -> None:
    core = Network(random_network(2, 4, True), foldings=[FOLDING])
    text = registered(core.signature, module="engine")
    assert text.count("engine verilog (") == 1
    ports = text[text.index("engine verilog ("):]
    # The reset comes from a register of the harness.
    assert ".rst(rst)" not in ports[:ports.index(");")]


def test_count_cells() -> None:
    assert count_cells({"LUT6": 3, "RAM32M": 2, "RAM64M": 1, "SRL16E": 5, "INV": 1, "FDRE": 7,
                        "DSP48E1": 2, "RAMB36E1": 1, "MUXF7": 9}, XC7) == {
        "LUT": 3 + 12 + 5 + 1, "FF": 7, "DSP48": 2, "RAMB18": 2}
    with pytest.raises(ReportError, match=r"^a cell of Xilinx 7 series must be a known one, not X"):
        count_cells({"XADC": 1}, XC7)


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> Engine:
    """An engine whose tools are told of and give fixed figures."""
    def route(place: Path, device: object, *, seed: int, **other: object
              ) -> tuple[float, dict[str, int]]:
        calls.append(f"route {seed}")
        return 100.0 + 10 * seed * seed, {"LUT": 1000, "DSP": 11}

    def synthesize(files: list[str], family: object, **other: object) -> dict[str, int]:
        calls.append("synthesize")
        return {"LUT4": 900}

    monkeypatch.setattr(engine, "route", route)
    monkeypatch.setattr(engine, "synthesize", synthesize)
    monkeypatch.setattr(engine, "pack", lambda *arguments, **other: {"LUT": 1000})

    def simulate(self: Engine, folder: Path, row: Row) -> dict[str, float]:
        calls.append("simulate")
        return {"cycles": float(row.cycles.round)}

    monkeypatch.setattr(Engine, "_simulate", simulate)
    return Engine(folder=tmp_path, versions={"yosys": "1", "nextpnr-ecp5": "1"}, seeds=3)


def test_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    measuring = stand_in(tmp_path, monkeypatch, calls)
    figures = measuring.measure(ROW)
    assert calls == ["simulate", "synthesize", "route 1", "route 2", "route 3"]
    k = ROW.cycles
    # 4 H (N + H) = 96 products; 8 multipliers in the array, and one in the head.
    everything = k.multipliers + 1
    assert figures["multipliers"] == everything
    assert figures["use"] == 96 / (8 * k.round) == k.use
    assert figures["use of all"] == 96 / (everything * k.round)
    assert (figures["MHz"], figures["slowest MHz"], figures["fastest MHz"]) == (140, 110, 190)
    assert figures["ns a step"] == k.round / 140 * 1e3
    # A second time everything is known; another tool, or another design, begins anew.
    calls.clear()
    assert measuring.measure(ROW) == figures
    assert calls == ["simulate"]
    newer = replace(measuring, versions={"yosys": "1", "nextpnr-ecp5": "2"})
    newer.measure(ROW, seeds=1)
    assert calls == ["simulate", "simulate", "route 1"]
    calls.clear()
    measuring.measure(replace(ROW, folding=replace(FOLDING, interval=3)), seeds=1)
    assert calls == ["simulate", "synthesize", "route 1"]


def test_engine_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    measuring = stand_in(tmp_path, monkeypatch, calls)
    figures = measuring.measure(replace(ROW, build=PACKED))
    assert calls == ["simulate", "synthesize"]
    assert figures["LUT"] == 1000
    assert "MHz" not in figures
    assert "LUT" not in measuring.measure(replace(ROW, build=SIMULATED))


def test_pack_reads_the_log(tmp_path: Path) -> None:
    class Stand:
        def run(self, tool: str, arguments: list[str], *, folder: Path, log: Path,
                waiting: object) -> float:
            assert "--pack-only" in arguments
            log.write_text("Info: Device utilisation:\n"
                           "Info: \t           TRELLIS_COMB:   2807/ 83640     3%\n"
                           "Info: \t             TRELLIS_FF:   3067/ 83640     3%\n"
                           "Info: \t             MULT18X18D:     21/   156    13%\n"
                           + ("" if folder.name == "less" else
                              "Info: \t                 DP16KD:    261/   208   125%\n"))
            return 0.0

    stand: Any = Stand()
    assert pack(tmp_path, ROW.device, processes=stand) == {
        "LUT": 2807, "FF": 3067, "DSP": 21, "block RAM": 261}
    less = tmp_path / "less"
    less.mkdir()
    with pytest.raises(ReportError, match=r"pack\.log must tell how many DP16KD are used$"):
        pack(less, ROW.device, processes=stand)


def test_table() -> None:
    group = GROUPS["H"]
    rows = group.rows()
    figures = [{"cycles": 1.0, "LUT": count} for count in (1000.0, 1000.0 + 56 * 95, 1500.0,
                                                            1500.0 + 48 * 61)]
    lines = growth(rows, figures)
    assert lines[0].endswith("8 to 64 multipliers: logic cells for each multiplier more <= 95: "
                             "95, met")
    assert lines[1].endswith("16 to 64 multipliers: logic cells for each multiplier more <= 60: "
                             "61, MISSED")
    # A row that failed leaves dashes, and nothing is said of its pair.
    texts, lines = table(group, rows, [*figures[:3], None])
    assert len(lines) == 1
    assert texts[3][0] == "6, 20"
    assert texts[3][group.columns.index("LUT")] == "-"
    assert cells(ROW, None, ("N, H", "target")) == ["2, 4", "FAILED"]
    text = markdown("H", group, texts, lines, {"yosys": "0.70"})
    assert text.startswith("### H. Logic for each multiplier\n\n")
    assert text.endswith("Measured with yosys 0.70.")
    assert markdown("H", group, texts, ["61, MISSED"], {}).count("\n- 61, **MISSED**\n") == 1


def test_command_fails_where_a_row_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "performance.md"
    page.write_text("\n".join(["before", *marks("C"), "after"]))
    monkeypatch.setattr(engine, "PAGE", page)
    monkeypatch.setattr(engine, "ROOT", tmp_path)
    monkeypatch.setattr(engine, "warm_up", lambda progress, tools: dict.fromkeys(tools, "1"))

    def good(self: Engine, row: Row, *, seeds: int | None = None) -> dict[str, float]:
        return {"cycles": 425.0, "cycles an inference": 2600.0}

    def bad(self: Engine, row: Row, *, seeds: int | None = None) -> dict[str, float]:
        raise CycleError("the cycle model promises 1 cycle")

    monkeypatch.setattr(Engine, "measure", good)
    engine.main(["--only", "C", "--write"])
    assert "inference <= 2,560 cycles: 2,600, **MISSED**" in page.read_text()
    assert "inference <= 2,560 cycles: 2,600, MISSED" in capsys.readouterr().out
    monkeypatch.setattr(Engine, "measure", bad)
    with pytest.raises(SystemExit, match=r"1 failed\n\(1, 20\) 1 x 1 .*: the cycle model promises"):
        engine.main(["--only", "C", "--write"])
    assert "FAILED" in page.read_text()
    with pytest.raises(SystemExit, match="2"):
        engine.main(["--only", "X"])


def test_kept_figures_are_whole(tmp_path: Path) -> None:
    measuring = Engine(folder=tmp_path, versions={})
    path = tmp_path / "figure.json"
    assert measuring._once(path, "what", lambda: {"LUT": 3}) == {"LUT": 3}
    assert json.loads(path.read_text()) == {"LUT": 3}

    def fail() -> dict[str, int]:
        raise AssertionError("measured twice")

    assert measuring._once(path, "what", fail) == {"LUT": 3}
    other = tmp_path / "other.json"
    with pytest.raises(AssertionError, match="measured twice"):
        measuring._once(other, "what", fail)
    assert list(tmp_path.iterdir()) == [path]
