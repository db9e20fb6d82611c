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
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rich.console import Console

from design_forms import as_netlist, with_unknown
from fpga.boards import BOARDS, BoardError, find
from fpga.choice import choose_for, wanted
from fpga.flow import implement
from fpga.report import FlowError, check_fit, performance
from fpga.stored import store
from fpga.summary import build_table
from fpga.tools import keeping_logs, telling_time
from golden.accuracy import Metric, MetricError, compare, load_metric, mean_squared_error
from golden.calibrate import BITS, quantize, unsupported
from golden.corners import with_corners
from golden.data import DataError, Sequences
from golden.model import ModelError, Network
from golden.model_file import STEPS, SUFFIXES, describe
from golden.model_file import load as load_model
from golden.quantized_network import QuantizedNetwork
from golden.simulate import Result, StateCodes
from hdl.foldings import MULTIPLIERS
from hdl.network import LONGEST
from hdl.network import Network as Core
from hdl.pipeline import PIPELINES
from hdl.verilog import generate
from output_folder import REPORT, FolderError, check_folder, new_folder
from sim.coverage import REACHED, of_network
from sim.manifest import FAMILIES, MANIFEST, Manifest, ManifestError
from sim.simulator import SIMULATORS, SimulatorError
from sim.summary import coverage_lines, verify_table
from sim.vectors import VECTORS, Vectors, VectorsError
from sim.verify import verify
from sim.verilog_coverage import CoverageError

__all__ = ["InputError", "build", "inspect", "load", "quantize", "run", "verify"]

DEFAULT_BOARD = "ulx3s-85f"
OWN_FAMILY = "own"


class InputError(ValueError):
    """What the user gave cannot be used; the message is one sentence that says why."""


BAD_INPUT = (InputError, ModelError, DataError, MetricError, BoardError, FolderError, FlowError,
             ManifestError, SimulatorError, VectorsError, CoverageError)


@contextlib.contextmanager
def _blaming(subject: str) -> Iterator[None]:
    """Say what it was about where the work below finds a value that is not allowed."""
    try:
        yield
    except BAD_INPUT:
        raise
    except ValueError as error:
        text = " ".join(str(error).split())
        raise InputError(text if text.startswith(subject) else f"{subject}: {text}") from error
    except OSError as error:
        raise InputError(f"{subject}: {error.strerror or error}") from error


def load(path: str | os.PathLike[str], **told: Any) -> Network:
    """Read a trained network: an ONNX model, a PyTorch ``state_dict`` or a Keras model.

    Parameters
    ----------
    path : path
    **told
        What a file of weights alone does not say, see :func:`golden.model_file.load`.

    Raises
    ------
    golden.model.ModelError
        If the file is not understood: one sentence says where in it, and why.
    """
    return load_model(Path(path), **told).network


def inspect(path: str | os.PathLike[str], *, bits: int = 16, longest: int = LONGEST,
            **told: Any) -> str:
    """What is understood of a file, in lines of text; parameters and errors as of :func:`load`.

    Parameters
    ----------
    bits, longest : int
        Width of the numbers, and steps of a sequence, at most, for the memory that they take.
    """
    if bits not in BITS:
        raise InputError(f"bits must be an integer from {BITS[0]} to {BITS[-1]}, not {bits}")
    return describe(load_model(Path(path), **told), bits=bits, longest=longest)


def run(network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray | None = None, *,
        state: Sequence[StateCodes] | None = None) -> Result:
    """Run the bit-true network on real numbers.

    Parameters
    ----------
    network : QuantizedNetwork
    x : float array [B, T, N]
        Rounded to the input's format first, as a host program does before it sends them.
    lengths : int array [B], optional
    state : sequence of StateCodes, optional
        Where sequences go on from others, the ``final`` of their result.

    Returns
    -------
    Result
        ``real``, the outputs as real numbers, [B, O] or [B, T, O]: exactly what the hardware's
        words stand for; ``y``, those words; ``saturated``, a count for each tensor; ``final``, the
        states in which the sequences end.

    Raises
    ------
    TypeError
        If the network is not a bit-true one.
    ValueError
        If the data does not fit it.
    """
    if not isinstance(network, QuantizedNetwork):
        raise TypeError(f"network must be what quantize() gave, not {type(network).__name__}")
    return network.run_real(x, lengths, state=state)


def _codes(network: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray
           ) -> tuple[np.ndarray, np.ndarray]:
    """Sequences as input codes, 0 beyond their ends, where anything may stand."""
    valid = (np.arange(x.shape[1]) < lengths[:, None])[:, :, None]
    return network.x.quantize(np.where(valid, x, 0))[0], lengths


def build(network: Network, quantized: QuantizedNetwork, directory: str | os.PathLike[str], *,
          x: np.ndarray, lengths: np.ndarray | None = None, y: np.ndarray | None = None,
          metric: Metric = mean_squared_error, board: str = DEFAULT_BOARD,
          units: int | None = None, columns: int | None = None, rate: float | None = None,
          latency_us: float | None = None, fastest: bool = False, multipliers: int | None = None,
          streams: int | None = 1, pipeline: str | None = None, clock_mhz: float | None = None,
          portable: bool = False, longest: int | None = None, seed: int = 1, sequences: int = 16,
          progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
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
    rate, latency_us : float, optional
        The smallest core that makes so many steps a second, all streams together, or that gives
        the output of a step after so many microseconds.
    fastest : bool
        The fastest core that fits. Without any of these it is a small one, as fast as
        ``MULTIPLIERS`` multipliers in the array of each layer make it.
    multipliers : int, optional
        All that the core may take; by default those of the board. Alone: as fast as fits in them.
    streams : int or None
        Independent sequences that take turns; None for as few as keep the array of the
        slowest layer busy.
    pipeline : str, optional
        A name in :data:`hdl.pipeline.PIPELINES`; by default the best.
    clock_mhz : float, optional
        The clock to choose for; by default what is usual for the board and the pipeline.
    portable : bool
        Verilog without the blocks of the board's device.
    longest : int, optional
        Steps of a sequence, at most, where a layer reads from the end, so that whole sequences are
        buffered; by default the steps of the longest in the data.
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
    with _blaming("data"):
        data = Sequences.of(x, lengths, y)
        data.check(network)
    x, lengths, y = data.x, data.lengths, data.y
    most = int(lengths.max())
    if longest is None:
        longest = most
    elif longest < most:
        raise InputError(f"longest must be at least the {most} steps of the longest sequence in "
                         f"the data, not {longest}")
    if sequences < 1:
        raise InputError(f"sequences must be a positive integer, not {sequences}")
    with new_folder(Path(directory)) as folder:
        # Verilog and synthesis of what can never fit take minutes.
        check_fit(target, weight_bits=quantized.weight_bits)
        with _blaming("folding"):
            choice = choose_for(
                target, quantized, streams=streams, multipliers=multipliers, units=units,
                columns=columns, rate=rate, latency_us=latency_us, fastest=fastest,
                pipeline=pipeline, clock_mhz=clock_mhz, longest=longest)
            check_fit(target, multipliers=choice.multipliers)
            core = Core(quantized, foldings=choice.foldings, head_folding=choice.head,
                        pipeline=PIPELINES[choice.pipeline], streams=choice.streams,
                        longest=longest)
        for reason in choice.why:
            progress(reason)
        progress("running the float and the bit-true network on all data")
        with _blaming("data"), telling_time(progress, "running the networks"):
            accuracy = compare(network, quantized, x, lengths, y, metric)
        progress("writing Verilog")
        with telling_time(progress, "writing Verilog"):
            verilog, description = generate(core, family=None if portable else target.family)
        (folder / description["verilog"]).write_text(verilog)
        (folder / MANIFEST).write_text(json.dumps(description, indent=2) + "\n")
        codes = _codes(quantized, x[:sequences], lengths[:sequences])
        played = with_corners(quantized, *codes)
        vectors = Vectors.compute(quantized, *played)
        vectors.save(folder / VECTORS)
        of_network(quantized, *played).save(folder / REACHED)
        manifest, cycles = Manifest.load(folder), description["cycles"]
        with _blaming("self-test"):
            # The self-test shows saturations, so it has none of what was made to saturate.
            plain = Vectors.compute(quantized, *codes)
            stored = store(plain.x, plain.y, plain.lengths, every_step=plain.every_step,
                           source=manifest.input, sink=manifest.output, further=cycles["further"],
                           latency=cycles["latency"], board=target)
        with keeping_logs(folder / "fpga"):
            implementation = implement(
                core.signature, verilog=verilog, module=description["name"], board=target,
                stored=stored, folder=folder / "fpga", seeds=(seed, seed + 1, seed + 2),
                progress=progress)
        bitstream = folder / f"selftest{implementation.bitstream.suffix}"
        implementation.bitstream.rename(bitstream)
        # Megabytes that the scripts beside them make again.
        for top in (folder / "fpga").iterdir():
            for suffix in (".json", ".config", ".asc"):
                (top / f"{top.name}{suffix}").unlink(missing_ok=True)
        mhz = implementation.harness.fmax_mhz
        speed = performance(step=cycles["step"], further=cycles["further"],
                            latency=cycles["latency"],
                            steps=float(lengths.mean()), mhz=mhz, streams=choice.streams)
        report = {
            "gatefold": version("gatefold"),
            "accuracy": asdict(accuracy),
            "layers": [{name: layer[name] for name in ("kind", "folding", "multipliers")}
                       for layer in description["layers"]],
            "choice": choice.as_dict() | {"wanted": wanted(choice, rate, latency_us, mhz)},
            "performance": {"streams": choice.streams} | speed,
            "implementation": implementation.as_dict() | {"bitstream": bitstream.name},
            "vectors": {"sequences": vectors.sequences, "steps": len(vectors.x),
                        "self_test_words": len(stored.stimulus)},
            "seconds": round(time.monotonic() - start, 1),
        }
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return report


class _Parser(argparse.ArgumentParser):
    """argparse, but what it has to say about wrong arguments is one sentence, like all else."""

    def error(self, message: str) -> NoReturn:
        print(f"gatefold: {message} (try: {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _streams(text: str) -> int | None:
    if text == "fill":
        return None
    return positive(text, or_else=" or fill")


def positive(text: str, *, or_else: str = "") -> int:
    """An argument that is a positive integer; ``or_else`` says what else it may be."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer{or_else}, not {text}")
    return value


def _real(text: str) -> float:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")
    return value


def _add_model(parser: argparse.ArgumentParser) -> None:
    """The file of a trained model, and what some files do not tell."""
    parser.add_argument("model", metavar="MODEL",
                        help=f"the trained model, a file that ends in {', '.join(SUFFIXES)}")
    parser.add_argument("--steps", choices=tuple(STEPS),
                        help="for weights alone: an output at every step, at the last one, or "
                             "from the final state of each direction")
    parser.add_argument("--functions", metavar="F,...", type=_list,
                        help="for weights alone: what follows each dense layer: none, relu, "
                             "sigmoid, tanh, softmax ...")
    parser.add_argument("--order", metavar="M,...", type=_list,
                        help="for a state_dict: its modules in the order in which they run")


def _told(args: argparse.Namespace) -> dict[str, Any]:
    return {"steps": args.steps, "functions": args.functions, "order": args.order}


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gatefold", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Turn a trained LSTM into an FPGA core, proven bit for bit.",
        epilog="First `gatefold inspect MODEL`, then `gatefold build --help`, then `gatefold "
               "verify DIR` on what it wrote.")
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
    _add_model(build_parser)
    build_parser.add_argument("--data", metavar="DATA.npz", required=True,
                              help="calibration and test sequences; see below")
    build_parser.add_argument("--board", default=DEFAULT_BOARD,
                              help=f"one of {', '.join(sorted(BOARDS))} (%(default)s)")
    build_parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True,
                              help="folder to write; an earlier build there is replaced")
    build_parser.add_argument("--bits", type=positive, default=16,
                              help="width of inputs, weights, states and outputs, 8 to 18 "
                                   "(%(default)s); above 16 an iCE40 multiplies in LUTs")
    goals = build_parser.add_mutually_exclusive_group()
    goals.add_argument("--rate", metavar="STEPS", type=_real,
                       help="the smallest core that makes so many steps a second, all streams "
                            "together")
    goals.add_argument("--latency", metavar="US", type=_real,
                       help="the smallest core that gives the whole output so many microseconds "
                            "after the last input of a step, where it is idle; the layers need "
                            "not be equally fast")
    goals.add_argument("--fastest", action="store_true",
                       help="the fastest core that fits; where nothing is asked for it is a small "
                            f"one, as fast as {MULTIPLIERS} multipliers in the array of each layer "
                            "make it")
    build_parser.add_argument("--multipliers", metavar="M", type=positive,
                              help="all that the core may take (the board's); alone, the fastest "
                                   "that fits in them")
    build_parser.add_argument("--units", metavar="U", type=positive,
                              help="hidden units computed in parallel, the same in every layer, "
                                   "fast or not")
    build_parser.add_argument("--columns", metavar="V", type=positive,
                              help="columns of [x, h] in parallel; a layer has 4 U V multipliers")
    build_parser.add_argument("--stateful", action="store_true",
                              help="a sequence can go on from the state in which the one before "
                                   "has ended, or from a given one (what the model says)")
    build_parser.add_argument("--states", metavar="S,...", type=_list,
                              help="final states that come out as well: lstm0.h,lstm0.c (those of "
                                   "the model)")
    build_parser.add_argument("--streams", metavar="S", type=_streams, default=1,
                              help="independent sequences that take turns, or `fill`: as few as "
                                   "keep the array busy (%(default)s)")
    build_parser.add_argument("--pipeline", choices=tuple(PIPELINES),
                              help="fewest cycles, in between, or highest clock (the best)")
    build_parser.add_argument("--clock", metavar="MHZ", type=_real,
                              help="the clock to choose for (what is usual for the board)")
    build_parser.add_argument("--portable", action="store_true",
                              help="Verilog without the blocks of the board's device")
    build_parser.add_argument("--longest", metavar="STEPS", type=positive,
                              help="of a sequence, at most, where a layer reads from the end "
                                   "(those of the longest in the data)")
    build_parser.add_argument("--metric", metavar="FILE.py:FUNCTION",
                              help="your own measure, called with outputs and targets, each "
                                   "[outputs, O]; gives a number (mean squared error)")
    build_parser.add_argument("--seed", type=positive, default=1,
                              help="of place-and-route (%(default)s)")
    build_parser.add_argument("--sequences", metavar="N", type=positive, default=16,
                              help="sequences to verify the hardware on, the first of the data "
                                   "(%(default)s)")
    build_parser.set_defaults(parser=build_parser)
    inspect_parser = commands.add_parser(
        "inspect", formatter_class=argparse.RawDescriptionHelpFormatter,
        help="what is understood of a trained model",
        description="Print the layers of a trained model, their functions and sizes, what was\n"
                    "taken into the weights, and what is left out and why. Exit status 2 where\n"
                    "the file is not understood.",
        epilog="examples:\n  gatefold inspect model.onnx\n"
               "  gatefold inspect weights.safetensors --steps last")
    _add_model(inspect_parser)
    inspect_parser.add_argument("--bits", type=positive, default=16,
                                help="width of the numbers, for the memory they take "
                                     "(%(default)s)")
    inspect_parser.add_argument("--longest", metavar="STEPS", type=positive, default=LONGEST,
                                help="of a sequence, at most, for the memory it takes where a "
                                     "layer reads from the end (%(default)s)")
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
    verify_parser.add_argument("--simulator", choices=SIMULATORS, default=SIMULATORS[0],
                               help="icarus has to be installed, and is slow (%(default)s)")
    forms = verify_parser.add_mutually_exclusive_group()
    forms.add_argument("--netlist", nargs="?", const=OWN_FAMILY, choices=(OWN_FAMILY, *FAMILIES),
                       metavar="FAMILY",
                       help="synthesise the core as the flow does, and verify the netlist of the "
                            "device's cells, at its ports; for portable Verilog, say of which "
                            f"family: {' or '.join(FAMILIES)}")
    forms.add_argument("--unknown", action="store_true",
                       help="let every register, and every memory that is written, begin as X, and "
                            "verify that no X comes out after the reset; of portable Verilog")
    forms.add_argument("--coverage", action="store_true",
                       help="count which lines of the Verilog run and which bits change, which is "
                            "slow, and list in DIR/sim/coverage.txt what did not")
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
    for name in ("units", "columns"):
        for goal in ("rate", "latency", "fastest", "multipliers"):
            if getattr(args, name) and getattr(args, goal):
                args.parser.error(f"argument --{name}: not allowed with argument --{goal}")
    metric = load_metric(args.metric) if args.metric else mean_squared_error
    find(args.board)
    check_folder(args.output)
    model = load_model(Path(args.model), **_told(args))
    network = model.network
    if args.stateful:
        network = replace(network, stateful=True)
    if args.states is not None:
        with _blaming("--states"):
            network = replace(network, states=tuple(args.states))
    if missing := unsupported(network):
        raise InputError(f"{args.model}: no hardware is built for {' or '.join(missing)}; see "
                         f"gatefold inspect {args.model}")
    for note in model.notes:
        progress(f"{args.model}: {note}")
    data = Sequences.load(args.data)
    with _blaming(args.data):
        data.check(network)
    if args.metric and data.y is None:
        raise InputError(f"--metric needs targets, but {args.data} has no array 'y'")
    hidden = " + ".join(str(layer.hidden) for layer in network.directions)
    progress(f"{args.model}: LSTM, {network.inputs} inputs, {hidden} hidden units, "
             f"{network.outputs} outputs at {'every' if network.every_step else 'the last'} step")
    progress(f"{args.data}: {len(data.x)} sequences, {data.lengths.sum()} steps")
    progress(f"choosing formats of {args.bits} bits")
    with _blaming("calibration"):
        quantized = quantize(network, data.x, data.lengths, bits=args.bits)
    report = build(network, quantized, args.output, x=data.x, lengths=data.lengths, y=data.y,
                   metric=metric, board=args.board, units=args.units, columns=args.columns,
                   rate=args.rate, latency_us=args.latency, fastest=args.fastest,
                   multipliers=args.multipliers, streams=args.streams, pipeline=args.pipeline,
                   clock_mhz=args.clock, portable=args.portable, longest=args.longest,
                   seed=args.seed,
                   sequences=args.sequences, progress=progress)
    console.print(build_table(report))
    choice, mhz = report["choice"], report["implementation"]["harness"]["fmax_mhz"]
    if choice["wanted"] is not None and not choice["wanted"]["met"]:
        progress(f"what was wanted is not met: it was chosen for {choice['mhz']:g} MHz, which this "
                 f"core does not reach; --clock {int(mhz)} chooses one for less")
    progress(f"wrote {args.output}; verify it by: gatefold verify {args.output}")
    return 0


def _inspect(args: argparse.Namespace, progress: _Progress, console: Console) -> int:
    told = inspect(args.model, bits=args.bits, longest=args.longest, **_told(args))
    print(f"{args.model}: {told}")
    return 0


def _verify(args: argparse.Namespace, progress: _Progress, console: Console) -> int:
    with _blaming(str(args.directory)):
        manifest, subject = None, str(args.directory)
        if args.netlist is not None:
            manifest = as_netlist(
                args.directory, progress=progress,
                family=None if args.netlist == OWN_FAMILY else args.netlist)
            subject = f"the netlist of {args.directory} for {manifest.family}"
        elif args.unknown:
            manifest = with_unknown(args.directory, progress=progress)
            subject = f"{args.directory} with all that it stores unknown"
        result = verify(args.directory, manifest=manifest, simulator=args.simulator,
                        seed=args.seed, coverage=args.coverage, progress=progress)
    console.print(verify_table(result))
    for line in coverage_lines(result):
        progress(line)
    if result.failure is not None:
        print(f"gatefold: {subject} is wrong: {result.failure}", file=sys.stderr)
        return 1
    shown = f" and {result.states:,} states" if result.states else ""
    progress(f"{subject} passed: {result.words:,} output beats{shown} are equal to the bit-true "
             f"network's, bit for bit (seed {result.seed}), at {result.cycles_per_second:,.0f} "
             f"cycles a second")
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
        command = {"build": _build, "inspect": _inspect, "verify": _verify}[args.command]
        return command(args, _Progress(console), console)
    except BAD_INPUT as error:
        print(f"gatefold: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gatefold: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
