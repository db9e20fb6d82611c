"""A small network that reaches every corner, and what the regression covers of it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golden.corners import with_corners
from golden.fixed import SQ
from golden.formats import DenseFormats
from golden.quantized import QuantizedDense
from golden.quantized_network import QuantizedNetwork
from sim.coverage import REACHED, Coverage, of_network, of_ports, of_reset
from sim.manifest import Manifest
from sim.monitor import Beats, Values
from sim.summary import coverage_lines, verify_table
from sim.vectors import Vectors
from sim.verify import VerifyResult, verify
from tests.networks import FORMATS, random_codes, random_network
from tests.test_regression import write_design

GOLDEN, PORTS = ("saturation", "ends", "segments"), ("handshakes", "stalls", "sequences", "resets")


def corner_network() -> QuantizedNetwork:
    """Narrow formats, and weights up to their ends: everything saturates, on both sides."""
    rng = np.random.default_rng(12)
    network = random_network(rng, FORMATS["8 bits"], 2, (4,), None, every_step=True)
    dense = DenseFormats(x=network.y, w=SQ(2, 6), y=SQ(1, 7))
    head = QuantizedDense(formats=dense, w=random_codes(rng, dense.w, (2, 4)),
                          bias=np.zeros(2, dtype=np.int64))
    return replace(network, head=(head,))


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corners")
    network, rng = corner_network(), np.random.default_rng(0)
    played = with_corners(network, random_codes(rng, network.x, (4, 40, 2)),
                          rng.integers(1, 41, 4), steps=150)
    write_design(folder, network, 2, 2, Vectors.compute(network, *played))
    of_network(network, *played).save(folder / REACHED)
    return folder


@pytest.fixture(scope="module")
def corners(design: Path) -> VerifyResult:
    """All tests of the bench on it."""
    return verify(design, seed=1, effort=20_000)


def test_every_point_is_met(corners: VerifyResult) -> None:
    assert corners.failure is None
    assert tuple(corners.coverage.groups) == (*GOLDEN, *PORTS)
    never = [f"{group}: {point}" for group, points in corners.coverage.groups.items()
             for point, count in points.items() if count == 0]
    assert not never
    assert all(met == count for met, count in corners.coverage.shares.values())
    # What cannot happen in it: h = o tanh(u) is above -1 or is -1, which there is a code for.
    assert [point for point, count in corners.coverage.groups["saturation"].items()
            if count is None] == ["lstm0.h below"]
    assert sum(count for _, count in corners.coverage.shares.values()) > 90


@pytest.mark.slow
def test_lines_and_bits(design: Path) -> None:
    """What is left are blocks that read only constants, and bits that the weights never need."""
    result = verify(design, seed=1, effort=20_000, coverage=True, folder=design / "counted")
    assert result.failure is None
    assert result.verilog is not None
    shares = result.verilog.shares
    assert shares["lines"][0] >= 0.97 * shares["lines"][1]
    assert shares["toggles"][0] >= 0.985 * shares["toggles"][1]
    lines = coverage_lines(result)
    assert lines[0] == f"coverage: {result.coverage.summary}"
    assert re.fullmatch(r"coverage of the Verilog: 9\d\.\d % of 1,\d{3} lines, 9\d\.\d % of "
                        r"3\d,\d{3} toggles", lines[1])


def test_report(corners: VerifyResult) -> None:
    text = (corners.folder / "coverage.txt").read_text()
    for group, (met, count) in corners.coverage.shares.items():
        assert f"\n{group}: {met} of {count}\n" in text
    assert "\n  lstm0.h below: cannot happen\n" in text
    assert "NEVER" not in text
    assert coverage_lines(corners)[0].startswith(
        "coverage: saturation 9 of 9, ends 10 of 10, segments ")
    headings = [str(column.header) for column in verify_table(corners).columns]
    assert headings[-2:] == ["k cycles/s", "result"]


def test_points_add_up(tmp_path: Path) -> None:
    one, other = Coverage(), Coverage()
    one.add("stalls", "of the source", 0)
    one.add("stalls", "of the sink", 0, possible=False)
    other.add("stalls", "of the source", 3)
    other.add("stalls", "of the sink", 0, possible=False)
    other.add("resets", "amid a step", 0)
    one.merge(other)
    one.merge(other)
    assert one.groups == {"stalls": {"of the source": 6, "of the sink": None},
                          "resets": {"amid a step": 0}}
    assert one.shares == {"stalls": (1, 1), "resets": (0, 1)}
    assert one.summary == "stalls 1 of 1, resets 0 of 1"
    assert one.report() == ["", "stalls: 1 of 1", "  of the source: 6",
                            "  of the sink: cannot happen", "", "resets: 0 of 1",
                            "  amid a step: NEVER"]
    one.save(tmp_path / "points.json")
    assert Coverage.load(tmp_path / "points.json").groups == one.groups
    assert Coverage.load(tmp_path / "none.json").groups == {}
    # What the bounds said could not happen, and happened, is there to be seen.
    one.add("stalls", "of the sink", 2, possible=False)
    assert one.groups["stalls"]["of the sink"] == 2


def beats(cycles: list[int], ends: list[int], waited: dict[int, int]) -> Beats:
    count = len(cycles)
    return Beats(cycles=np.array(cycles), last=np.isin(np.arange(count), ends),
                 stream=np.zeros(count, dtype=np.int64), data=np.empty((count, 0), dtype=np.uint8),
                 waited=np.array([waited.get(n, 0) for n in range(count)]))


def test_ports(corners: VerifyResult) -> None:
    """Each pause is put where it is."""
    manifest = replace(Manifest.load(corners.folder.parent), step=10, held=2)
    manifest = replace(manifest, input=replace(manifest.input, elements=2, lanes=1),
                       output=replace(manifest.output, elements=1, lanes=1))
    # Two sequences of two steps, and one of a single step, which begins when all is out.
    inputs = beats([5, 8, 9, 10, 11, 12, 13, 20, 40, 41], [3, 7, 9], {7: 6, 9: 0})
    outputs = [beats([10, 14], [1], {1: 2}), beats([16, 32, 50], [1, 2], {1: 11})]
    made = of_ports(manifest, inputs, outputs, 0b1000_0000_0000_0001).groups
    assert made["stalls"] == {
        "source pauses within a step": 1, "source pauses between steps": 0,
        "source pauses between sequences": 1, "sink pauses within a step": None,
        "sink pauses between steps": 2, "sink pauses between sequences": 0,
        "the design is not ready for a beat": 1, "an output is held for longer than a step": 1,
        "a step takes the last place": 2}
    assert made["sequences"] == {"of a single step": 1, "of several steps": 2, "back to back": 1,
                                 "while the design is empty": 2}
    assert [point for point, count in made["handshakes"].items() if count] == [
        "input: offered, ready", "input: not offered, not ready", "output: offered, ready",
        "output: not offered, not ready", "source and sink: busy, ready",
        "source and sink: idle, not ready"]


def test_places(corners: VerifyResult) -> None:
    """Where only whole sequences have an output, only their last steps take a place for long."""
    manifest = replace(Manifest.load(corners.folder.parent), every_step=False, held=2)
    manifest = replace(manifest, input=replace(manifest.input, elements=1, lanes=1))
    inputs, outputs = beats([1, 2, 3, 4, 5, 9], [2, 4, 5], {}), [beats([7, 10, 12], [0, 1, 2], {})]
    point = "a step takes the last place"
    assert of_ports(manifest, inputs, outputs, 0).groups["stalls"][point] == 2
    unknown = replace(manifest, held=None)
    assert of_ports(unknown, inputs, outputs, 0).groups["stalls"][point] is None


def test_backlog_fills_the_design(design: Path) -> None:
    """It does what it is there for, over and over."""
    alone = verify(design, tests=("backlog",), seed=1, effort=20_000, folder=design / "backlog",
                   simulators=design / "sim/build")
    assert alone.failure is None
    assert (alone.coverage.groups["stalls"]["a step takes the last place"] or 0) > 20


def test_resets(corners: VerifyResult) -> None:
    manifest = replace(Manifest.load(corners.folder.parent), step=16)
    manifest = replace(manifest, input=replace(manifest.input, elements=2, lanes=1))
    whole = [Values(cycles=np.arange(4), values=np.zeros(4, dtype=np.int64),
                    stream=np.zeros(4, dtype=np.int64))] * 2
    made = of_reset(manifest, beats([100, 101, 102], [], {}), whole, 100 + 16 + 5).groups["resets"]
    assert [point for point, count in made.items() if count] == [
        "in eighth 3 of a step", "amid the beats of a step"]
    part = Values(cycles=np.arange(3), values=np.zeros(3, dtype=np.int64),
                  stream=np.zeros(3, dtype=np.int64))
    made = of_reset(manifest, beats([], [], {}), [whole[0], part], 7).groups["resets"]
    assert [point for point, count in made.items() if count] == ["amid the units of a state"]
