"""How fast the bench simulates: the design of `make demo`, without its bitstream.

    python benchmarks/simulation_speed.py            # builds, and runs the bench a few times
    python benchmarks/simulation_speed.py --write    # and puts the table into docs/verification.md

The driver of one's own, which sleeps between the beats, and that of cocotbext-axi, which looks at
every clock edge, each at full speed and with random pauses on both sides. What counts is processor
time, checking included; what else runs on the machine still slows it down, by the caches and the
memory that all share. So the best of several runs is told beside their median.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.activation_tables import fill, piped, printed
from fpga.boards import find
from fpga.choice import choose_for
from golden.calibrate import quantize
from golden.data import Sequences
from golden.model_file import load
from hdl.network import Network
from hdl.pipeline import PIPELINES
from hdl.verilog import generate
from sim.manifest import MANIFEST
from sim.simulator import SimulatorError
from sim.vectors import VECTORS, Vectors
from sim.verify import verify

__all__ = ["COLUMNS", "TESTS", "main", "measure", "table", "write_design"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "verification.md"
FOLDER = ROOT / "build" / "speed"
EXAMPLE = ROOT / "examples" / "adding"
BOARD = "ulx3s-85f"
SEQUENCES = 16
BEGIN = "<!-- speed: written by benchmarks/simulation_speed.py --write -->"
END = "<!-- end of the speed -->"

TESTS = {
    "full_speed": ("our own, a wake-up for each transaction", "none", 300),
    "random_stalls": ("our own, a wake-up for each transaction", "random", None),
    "axi_full_speed": ("cocotbext-axi", "none", None),
    "axi_random_stalls": ("cocotbext-axi", "random", 60),
}
"""Of each test its driver, its pauses, and how many thousand cycles a second it should make."""

COLUMNS = ("driver", "pauses", "best, k cycles/s", "median", "aim")


def write_design(folder: Path) -> None:
    """The design of the demo, with the blocks of its board, as `gatefold build` makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    data_file = folder / "adding.npz"
    subprocess.run([sys.executable, str(EXAMPLE / "task.py"), "-o", str(data_file)], check=True,
                   stdout=subprocess.DEVNULL)
    data, board = Sequences.load(data_file), find(BOARD)
    quantized = quantize(load(EXAMPLE / "model.onnx").network, data.x, data.lengths)
    longest = int(data.lengths.max())
    choice = choose_for(board, quantized, streams=1, longest=longest)
    core = Network(quantized, foldings=choice.foldings, head_folding=choice.head,
                   pipeline=PIPELINES[choice.pipeline], longest=longest)
    verilog, manifest = generate(core, family=board.family)
    (folder / manifest["verilog"]).write_text(verilog, encoding="utf-8")
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    codes, _ = quantized.x.quantize(data.x[:SEQUENCES])
    Vectors.compute(quantized, codes, data.lengths[:SEQUENCES]).save(folder / VECTORS)


def measure(folder: Path, runs: int) -> dict[str, list[float]]:
    """Thousands of cycles a second of each test, in each run of the bench.

    Raises
    ------
    SimulatorError
        If the simulator cannot be built, or the design is wrong.
    """
    speeds: dict[str, list[float]] = {test: [] for test in TESTS}
    for seed in range(runs):
        result = verify(folder, tests=tuple(TESTS), seed=seed)
        if result.failure is not None:
            raise SimulatorError(result.failure)
        for test in result.tests:
            speeds[test.test].append(test.cycles_per_second / 1000)
    return speeds


def table(speeds: dict[str, list[float]]) -> list[list[str]]:
    """The cells, a row for each test."""
    rows = []
    for test, (driver, pauses, aim) in TESTS.items():
        best = max(speeds[test])
        wanted = "" if aim is None else f"{aim}, {'met' if best >= aim else 'MISSED'}"
        rows.append([driver, pauses, f"{best:.0f}", f"{median(speeds[test]):.0f}", wanted])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; with ``--write``, put it into docs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=7, help="of the bench (%(default)s)")
    parser.add_argument("--write", action="store_true",
                        help=f"rewrite the table of {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, width=120)
    write_design(FOLDER)
    try:
        rows = table(measure(FOLDER, options.runs))
    except SimulatorError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    told = (f"Of {options.runs} runs, with {os.getloadavg()[0]:.0f} other processes running on "
            f"{os.cpu_count()} processors.")
    console.print(printed(COLUMNS, rows))
    console.print(told)
    if options.write:
        page = fill(PAGE.read_text(encoding="utf-8"), f"{piped(COLUMNS, rows)}\n\n{told}",
                    first=BEGIN, last=END)
        PAGE.write_text(page, encoding="utf-8")
        console.print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
