"""The front door: from a trained model and some of its data to Verilog, a bitstream and a proof.

In Python::

    import gatefold

    network = gatefold.load("model.onnx")
    quantized = gatefold.quantize(network, x, lengths, bits=16)
    outputs = gatefold.run(quantized, x, lengths).real       # real numbers in, real numbers out
    gatefold.build(network, quantized, "build/mine", x=x, lengths=lengths, y=y)
    assert gatefold.verify("build/mine").passed

On the command line, ``gatefold build`` does all but the last line, and ``gatefold verify`` that.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from fpga.boards import BOARDS, Board, BoardError, find
from fpga.flow import implement
from fpga.report import FlowError
from fpga.selftest import Beat, stored_sequences
from fpga.tools import ToolError
from golden.accuracy import Metric, MetricError, compare, load_metric, mean_squared_error
from golden.calibrate import quantize
from golden.data import DataError, Sequences
from golden.model import ModelError, Network, sequence_lengths
from golden.onnx_file import load
from golden.quantized import QuantizedNetwork
from golden.simulate import Result
from hdl.foldings import choose_folding
from hdl.network import Network as Core
from hdl.verilog import generate
from sim.manifest import MANIFEST, Manifest, ManifestError, Stream
from sim.simulator import SimulatorError
from sim.vectors import VECTORS, Vectors, VectorsError
from sim.verify import verify

__all__ = ["InputError", "build", "load", "quantize", "run", "verify"]

REPORT = "report.json"
DEFAULT_BOARD = "ulx3s-85f"

SINGLE_STEPS = 4
"""How many sequences are verified as sequences of their first step alone, too."""

SELF_TEST_SHARE = 4
"""The self-test stores what fits one in so many of the device's block RAMs."""


class InputError(ValueError):
    """What the user gave cannot be used; the message is one sentence that says why."""


BAD_INPUT = (InputError, ModelError, DataError, MetricError, BoardError, FlowError,
             ManifestError, SimulatorError, VectorsError)


@contextlib.contextmanager
def _blaming(subject: str) -> Iterator[None]:
    """Say what it was about where the work below finds a value that is not allowed."""
    try:
        yield
    except BAD_INPUT:
        raise
    except ValueError as error:
        raise InputError(f"{subject}: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise InputError(f"{subject}: {error.strerror or error}") from error


def run(network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray | None = None) -> Result:
    """Run the bit-true network on real numbers.

    Parameters
    ----------
    network : QuantizedNetwork
    x : float array [B, T, N]
        Rounded to the input's format first, as a host program does before it sends them.
    lengths : int array [B], optional

    Returns
    -------
    Result
        ``real``, the outputs as real numbers, [B, O] or [B, T, O]: exactly what the hardware's
        words stand for; ``y``, those words; ``saturated``, a count for each tensor.

    Raises
    ------
    ValueError
        If the data does not fit the network.
    """
    return network.run_real(x, lengths)


def _check_folder(directory: Path) -> None:
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"output {directory} must be a folder, but {there} is a file")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / MANIFEST).is_file():
        raise InputError(f"output {directory} must be a new folder or an earlier build, but it "
                         f"holds something else")


@contextlib.contextmanager
def _new_folder(directory: Path) -> Iterator[Path]:
    """A folder that becomes ``directory`` once the work in it is done, and vanishes if it fails."""
    _check_folder(directory)
    with _blaming(f"output {directory}"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, because a rename is one step within a file system only.
        work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        (work / "new").mkdir()
        yield work / "new"
        if directory.exists():
            directory.rename(work / "old")
        (work / "new").rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _vectors(network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray) -> Vectors:
    """Sequences, with every output and state that the bit-true network has for them."""
    steps = int(lengths.max())
    codes, _ = network.x.quantize(x[:, :steps])
    valid = np.arange(steps) < lengths[:, None]
    result = network.run(np.where(valid[:, :, None], codes, 0), lengths, trace=True)
    assert result.layers is not None
    return Vectors(
        lengths=lengths, x=codes[valid], y=result.y[valid] if network.every_step else result.y,
        states={f"lstm{number}.{name}": getattr(layer, name)[valid]
                for number, layer in enumerate(result.layers) for name in "ch"},
        saturated={name: result.saturated[name] for name in network.saturating},
        every_step=network.every_step)


def _beats(stream: Stream, codes: np.ndarray, last: np.ndarray) -> list[Beat]:
    """Vectors of codes as beats of a stream, unused lanes 0; ``last`` says which end a sequence."""
    padded = np.zeros((len(codes), stream.beats * stream.lanes), dtype="<i8")
    padded[:, :stream.elements] = codes
    octets = padded.view(np.uint8).reshape(len(codes) * stream.beats, stream.lanes, 8)
    ends = np.zeros((len(codes), stream.beats), dtype=bool)
    ends[:, -1] = last
    return [Beat(int.from_bytes(word.tobytes(), "little"), bool(end))
            for word, end in zip(octets[..., :stream.bytes], ends.ravel(), strict=True)]


def _self_test(manifest: Manifest, vectors: Vectors, board: Board) -> tuple[list[Beat], list[Beat]]:
    """Words in and out of as many sequences as a part of the block RAM holds."""
    source, sink = manifest.input, manifest.output
    outputs = vectors.lengths if vectors.every_step else np.ones_like(vectors.lengths)
    count = stored_sequences(
        (vectors.lengths * source.beats).tolist(), (outputs * sink.beats).tolist(),
        input_width=source.width, output_width=sink.width, board=board,
        blocks=board.bram.available // SELF_TEST_SHARE)
    ends = np.cumsum(vectors.lengths[:count]) - 1
    x = vectors.x[:ends[-1] + 1]
    y = vectors.y[:len(x) if vectors.every_step else count]
    last = np.isin(np.arange(len(x)), ends)
    return _beats(source, x, last), _beats(sink, y, last if vectors.every_step else last[ends])


@contextlib.contextmanager
def _keeping_logs(folder: Path) -> Iterator[None]:
    """Where a tool fails, save its folder from vanishing with all else, since its log says why."""
    try:
        yield
    except ToolError as error:
        kept = Path(tempfile.mkdtemp(prefix="gatefold-")) / folder.name
        shutil.move(folder, kept)
        raise ToolError(str(error).replace(str(folder), str(kept))) from error


def _performance(cycles: dict[str, int], lengths: np.ndarray, mhz: float) -> dict[str, float]:
    """What the cycle model and the clock come to, for the sequences of the data."""
    steps = float(lengths.mean())
    # In steady state sequences follow each other without a gap.
    sequence = cycles["step"] * steps
    latency = cycles["step"] * (steps - 1) + cycles["latency"]
    return {
        "cycles_per_step": cycles["step"],
        "mean_steps": steps,
        "cycles_per_sequence": sequence,
        "latency_cycles": latency,
        "latency_us": latency / mhz,
        "step_ns": 1000 * cycles["step"] / mhz,
        "steps_per_second": 1e6 * mhz / cycles["step"],
        "sequences_per_second": 1e6 * mhz / sequence,
    }


def build(network: Network, quantized: QuantizedNetwork, directory: str | os.PathLike[str], *,
          x: np.ndarray, lengths: np.ndarray | None = None, y: np.ndarray | None = None,
          metric: Metric = mean_squared_error, board: str = DEFAULT_BOARD,
          units: int | None = None, columns: int | None = None, seed: int = 1,
          sequences: int = 16, progress: Callable[[str], None] = lambda line: None,
          ) -> dict[str, Any]:
    """Write Verilog, vectors, a bitstream and a report.

    Parameters
    ----------
    network : Network
    quantized : QuantizedNetwork
        Made from it by :func:`quantize`.
    directory : path
        Is created once everything is done; an earlier build there is replaced.
    x, lengths, y : float array [B, T, N], int array [B], float array [B, O] or [B, T, O]
        Data to measure the accuracy on, all of it; the targets ``y`` may be missing.
    metric : callable
        From outputs and targets, [outputs, O] each, to a number.
    board : str
        A name in :data:`fpga.boards.BOARDS`.
    units, columns : int, optional
        U and V of every layer: 4 U V multipliers. What is not given is chosen.
    seed : int
        Of the placement; the clock is the median of this seed and the two after it.
    sequences : int
        How many of the data the hardware is verified on, from the first on.
    progress : callable
        Takes a line of text now and then.

    Returns
    -------
    dict
        The report, as in ``report.json``.

    Raises
    ------
    ValueError
        If something given cannot be used.
    FlowError
        If the design does not fit the board, or a tool fails.
    """
    start = time.monotonic()
    target = find(board)
    lengths = sequence_lengths(lengths, *x.shape[:2])
    with _new_folder(Path(directory)) as folder:
        progress("running the float and the bit-true network on all data")
        with _blaming("data"):
            accuracy = compare(network, quantized, x, lengths, y, metric)
        progress("writing Verilog")
        with _blaming("folding"):
            core = Core(quantized, foldings=[
                choose_folding(layer.inputs, layer.hidden, units=units, columns=columns)
                for layer in quantized.layers])
        verilog, description = generate(core)
        (folder / description["verilog"]).write_text(verilog)
        (folder / MANIFEST).write_text(json.dumps(description, indent=2) + "\n")
        vectors = _vectors(
            quantized, np.concatenate([x[:sequences], x[:SINGLE_STEPS]]),
            np.concatenate([lengths[:sequences], np.ones_like(lengths[:SINGLE_STEPS])]))
        vectors.save(folder / VECTORS)
        with _blaming("self-test"):
            stimulus, expected = _self_test(Manifest.load(folder), vectors, target)
        with _keeping_logs(folder / "fpga"):
            implementation = implement(
                core.signature, verilog=verilog, module=description["name"], board=target,
                stimulus=stimulus, expected=expected, folder=folder / "fpga",
                seeds=(seed, seed + 1, seed + 2), progress=progress)
        bitstream = folder / f"selftest{implementation.bitstream.suffix}"
        implementation.bitstream.rename(bitstream)
        # Megabytes that the scripts beside them make again.
        for top in (folder / "fpga").iterdir():
            for suffix in (".json", ".config"):
                (top / f"{top.name}{suffix}").unlink(missing_ok=True)
        report = {
            "gatefold": version("gatefold"),
            "accuracy": asdict(accuracy),
            "layers": [{name: layer[name] for name in ("kind", "folding", "multipliers")}
                       for layer in description["layers"]],
            "performance": _performance(description["cycles"], lengths,
                                        implementation.harness.fmax_mhz),
            "implementation": implementation.as_dict() | {"bitstream": bitstream.name},
            "vectors": {"sequences": vectors.sequences, "steps": len(vectors.x),
                        "self_test_words": len(stimulus)},
            "seconds": round(time.monotonic() - start, 1),
        }
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return report


def _table(report: dict[str, Any]) -> Table:
    """What one wants to know first."""
    accuracy, performance = report["accuracy"], report["performance"]
    figures = report["implementation"]["harness"]
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    if accuracy["metric"]:
        table.add_row(accuracy["metric"], f"float {accuracy['float_model']:.6g}, bit-true "
                      f"{accuracy['bit_true']:.6g} ({accuracy['sequences']} sequences)")
    table.add_row("bit-true against float", f"largest difference "
                  f"{accuracy['largest_difference']:.3g}, mean squared "
                  f"{accuracy['mean_squared_difference']:.3g}")
    saturated = {name: count for name, count in accuracy["saturated"].items() if count}
    table.add_row("saturations", ", ".join(f"{name} {count}" for name, count in saturated.items())
                  or "none")
    table.add_row("cycles", f"{performance['cycles_per_step']} a step, "
                  f"{performance['cycles_per_sequence']:.0f} a sequence of "
                  f"{performance['mean_steps']:.1f} steps (mean)")
    table.add_row("clock", f"{figures['fmax_mhz']:.1f} MHz on {figures['device']}, the median of "
                  + ", ".join(f"{mhz:.1f}" for mhz in figures["fmax_seeds_mhz"].values()))
    table.add_row("latency", f"{performance['latency_us']:.1f} us a sequence, "
                  f"{performance['step_ns']:.0f} ns a step")
    table.add_row("throughput", f"{performance['sequences_per_second']:.0f} sequences, "
                  f"{performance['steps_per_second']:.0f} steps a second")
    table.add_row("area", ", ".join(
        f"{figures[name]['used']} {text} ({figures[name]['used'] / figures[name]['available']:.1%})"
        for name, text in (("lut", "LUT"), ("ff", "FF"), ("dsp", "DSP"), ("bram", "block RAM"))))
    return table


class _Parser(argparse.ArgumentParser):
    """argparse, but what it has to say about wrong arguments is one sentence, like all else."""

    def error(self, message: str) -> NoReturn:
        print(f"gatefold: {message} (try: {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gatefold", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Turn a trained LSTM into an FPGA core, proven bit for bit.",
        epilog="First `gatefold build --help`, then `gatefold verify DIR` on what it wrote.")
    parser.add_argument("--version", action="version", version=f"gatefold {version('gatefold')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build_parser = commands.add_parser(
        "build", formatter_class=argparse.RawDescriptionHelpFormatter,
        help="from a model and data to Verilog, a bitstream and a report",
        description="Choose number formats from a model and its data, run the bit-true network on\n"
                    "all of the data, write Verilog, synthesise, place and route it for a board,\n"
                    "and report accuracy, cycles, clock and area.",
        epilog="""DATA.npz holds the arrays
  x        [sequences, steps, inputs]   real numbers, shorter sequences padded with anything
  lengths  [sequences]                  steps of each; without it, all are of full length
  y        [sequences, outputs]         targets, for the metric; [sequences, steps, outputs] where
                                        the model has an output at every step; may be left out

example:
  python -c "import numpy as np; np.savez('data.npz', x=np.random.uniform(-1, 1, (64, 50, 2)))"
  gatefold build model.onnx --data data.npz --board ulx3s-85f -o build/mine
  gatefold verify build/mine

DIR then holds gatefold.v, manifest.json (ports, formats, cycle model), vectors.npz (inputs and
expected outputs), the bitstream of a self-test for the board, and report.json.""")
    build_parser.add_argument("model", metavar="MODEL.onnx", help="the trained model")
    build_parser.add_argument("--data", metavar="DATA.npz", required=True,
                              help="calibration and test sequences; see below")
    build_parser.add_argument("--board", default=DEFAULT_BOARD,
                              help=f"one of {', '.join(sorted(BOARDS))} (%(default)s)")
    build_parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True,
                              help="folder to write; an earlier build there is replaced")
    build_parser.add_argument("--bits", type=_positive, default=16,
                              help="width of inputs, weights, states and outputs (%(default)s)")
    build_parser.add_argument("--units", metavar="U", type=_positive,
                              help="hidden units computed in parallel (chosen where left out)")
    build_parser.add_argument("--columns", metavar="V", type=_positive,
                              help="columns of [x, h] in parallel; a layer has 4 U V multipliers")
    build_parser.add_argument("--metric", metavar="FILE.py:FUNCTION",
                              help="your own measure, called with outputs and targets, each "
                                   "[outputs, O]; gives a number (mean squared error)")
    build_parser.add_argument("--seed", type=_positive, default=1,
                              help="of place-and-route (%(default)s)")
    build_parser.add_argument("--sequences", metavar="N", type=_positive, default=16,
                              help="sequences to verify the hardware on, the first of the data "
                                   "(%(default)s)")
    verify_parser = commands.add_parser(
        "verify", formatter_class=argparse.RawDescriptionHelpFormatter,
        help="simulate what `build` wrote and compare every bit",
        description="Simulate the Verilog in DIR and compare every output word, and every cell\n"
                    "and hidden state, with the bit-true network: with random stalls, back to\n"
                    "back, with a reset in the middle. Exit status 0 where all is equal, 1 where\n"
                    "anything differs.",
        epilog="example:\n  gatefold verify build/mine")
    verify_parser.add_argument("directory", metavar="DIR", type=Path, help="what build wrote")
    verify_parser.add_argument("--seed", type=int, help="repeat a run; each has a new one, and "
                                                        "says which")
    return parser


class _Progress:
    """A line for each piece of work, with the seconds since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def __call__(self, line: str) -> None:
        # Plain: a path may hold what rich takes for markup, and a log wants no wraps.
        self._console.print(f"{self.seconds:6.1f} s  {line}", markup=False, highlight=False,
                            soft_wrap=True)


def _build(args: argparse.Namespace, progress: _Progress, console: Console) -> int:
    # All that can be wrong with what was given, before any of the work.
    metric = load_metric(args.metric) if args.metric else mean_squared_error
    find(args.board)
    _check_folder(args.output)
    network = load(args.model)
    data = Sequences.load(args.data)
    hidden = " + ".join(str(layer.hidden) for layer in network.layers)
    progress(f"{args.model}: LSTM, {network.inputs} inputs, {hidden} hidden units, "
             f"{network.outputs} outputs at {'every' if network.every_step else 'the last'} step")
    progress(f"{args.data}: {len(data.x)} sequences, {data.lengths.sum()} steps")
    progress(f"choosing formats of {args.bits} bits")
    with _blaming("calibration"):
        quantized = quantize(network, data.x, data.lengths, bits=args.bits)
    report = build(network, quantized, args.output, x=data.x, lengths=data.lengths, y=data.y,
                   metric=metric, board=args.board, units=args.units, columns=args.columns,
                   seed=args.seed, sequences=args.sequences, progress=progress)
    console.print(_table(report))
    progress(f"wrote {args.output}; verify it by: gatefold verify {args.output}")
    return 0


def _verify(args: argparse.Namespace, progress: _Progress, console: Console) -> int:
    result = verify(args.directory, seed=args.seed, progress=progress)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("test")
    for heading in ("sequences", "steps", "cycles", "output beats", "c and h values"):
        table.add_column(heading, justify="right")
    table.add_column("result")
    for test in result.tests:
        table.add_row(test.test.replace("_", " "), *(f"{value:,}" for value in (
            test.sequences, test.steps, test.cycles, test.words, test.states)),
            "equal" if test.passed else "DIFFERS")
    console.print(table)
    if result.failure is not None:
        print(f"gatefold: {args.directory} is wrong: {result.failure}", file=sys.stderr)
        return 1
    progress(f"{args.directory} passed: {result.words:,} output beats and {result.states:,} states "
             f"are equal to the bit-true network's, bit for bit (seed {result.seed})")
    return 0


def _stop(_signal: int, _frame: object) -> NoReturn:
    # As an exception, so that half-written folders go.
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status: 0 done, 1 hardware differs, 2 bad input."""
    args = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 100)
    signal.signal(signal.SIGTERM, _stop)
    try:
        command = _build if args.command == "build" else _verify
        return command(args, _Progress(console), console)
    except BAD_INPUT as error:
        print(f"gatefold: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gatefold: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
