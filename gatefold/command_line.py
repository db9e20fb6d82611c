"""The command line: ``gatefold build``, ``inspect`` and ``verify``, each with its ``--help``."""

import argparse
import contextlib
import signal
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from fpga.boards import BOARDS, find
from fpga.summary import build_table
from gatefold import DEFAULT_BOARD, build, inspect
from gatefold.arguments import (
    bits,
    folder,
    module_name,
    names,
    natural,
    positive,
    positive_real,
    streams,
)
from gatefold.design_forms import INFERRED, as_netlist, with_unknown
from gatefold.errors import BAD_INPUT, InputError, blaming
from gatefold.output_folder import check_folder
from gatefold.progress import ProgressLog
from gatefold.wishes import check_shape, longest_of
from golden.accuracy import load_metric, mean_squared_error
from golden.calibrate import quantize, unsupported
from golden.checks import counted
from golden.data import Sequences
from golden.model_file import STEPS, SUFFIXES
from golden.model_file import load as load_model
from hdl.families import FAMILIES
from hdl.foldings import MULTIPLIERS
from hdl.network import LONGEST
from hdl.pipeline import PIPELINES
from hdl.verilog import NAME
from sim.simulator import SIMULATORS
from sim.summary import coverage_lines, verify_table
from sim.verify import verify

__all__ = ["main"]

OWN_FAMILY = "own"
"""Of ``--netlist``: the family that the design was written for."""


class _Parser(argparse.ArgumentParser):
    """argparse, but what it has to say about wrong arguments is one sentence, like all else."""

    def error(self, message: str) -> NoReturn:
        print(f"gatefold: {message} (try: {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _add_model(parser: argparse.ArgumentParser) -> None:
    """The file of a trained model, and what some files do not tell."""
    parser.add_argument("model", metavar="MODEL",
                        help=f"the trained model, a file that ends in {', '.join(SUFFIXES)}")
    parser.add_argument("--steps", choices=tuple(STEPS),
                        help="for weights alone: an output at every step, at the last one, or "
                             "from the final state of each direction")
    parser.add_argument("--functions", metavar="F,...", type=names,
                        help="for weights alone: what follows each dense layer: none, relu, "
                             "sigmoid, tanh, softmax ...")
    parser.add_argument("--order", metavar="M,...", type=names,
                        help="for a state_dict: its modules in the order in which they run")


def _told(args: argparse.Namespace) -> dict[str, Any]:
    return {"steps": args.steps, "functions": args.functions, "order": args.order}


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

for another device, in seconds:
  gatefold build model.onnx --data data.npz --portable --verilog-only -o build/mine

DIR then holds gatefold.v, manifest.json (ports, formats, cycle model), vectors.npz (inputs and
expected outputs) and reached.json (what they reach), the bitstream of a self-test for the board,
report.json, and in fpga the scripts and logs of the tools.""")
    _add_model(build_parser)
    build_parser.add_argument("--data", metavar="DATA.npz", required=True,
                              help="calibration and test sequences; see below")
    build_parser.add_argument("--board", default=DEFAULT_BOARD,
                              help=f"one of {', '.join(sorted(BOARDS))} (%(default)s)")
    build_parser.add_argument("-o", "--output", metavar="DIR", type=folder, required=True,
                              help="folder to write; an earlier build there is replaced")
    build_parser.add_argument("--bits", type=bits, default=16,
                              help="width of inputs, weights, states and outputs, 8 to 18 "
                                   "(%(default)s); above 16 an iCE40 multiplies in LUTs")
    goals = build_parser.add_mutually_exclusive_group()
    goals.add_argument("--rate", metavar="STEPS", type=positive_real,
                       help="the smallest core that makes so many steps a second, all streams "
                            "together")
    goals.add_argument("--latency", metavar="US", type=positive_real,
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
    build_parser.add_argument("--states", metavar="S,...", type=names,
                              help="final states that come out as well: lstm0.h,lstm0.c (those of "
                                   "the model)")
    build_parser.add_argument("--streams", metavar="S", type=streams, default=1,
                              help="independent sequences that take turns, or `fill`: as few as "
                                   "keep the array busy; 1 where a layer reads from the end "
                                   "(%(default)s)")
    build_parser.add_argument("--pipeline", choices=tuple(PIPELINES),
                              help="fewest cycles, in between, or highest clock (the best)")
    build_parser.add_argument("--clock", metavar="MHZ", type=positive_real,
                              help="the clock to choose for (what is usual for the board)")
    build_parser.add_argument("--portable", action="store_true",
                              help="Verilog without the blocks of the board's device")
    build_parser.add_argument("--verilog-only", action="store_true",
                              help="no synthesis, placement and bitstream, which take minutes; "
                                   "nothing has to fit the board, rates are those of the clock "
                                   "that the core was chosen for")
    build_parser.add_argument("--name", type=module_name, default=NAME,
                              help="of the top module and its file (%(default)s); two cores of "
                                   "one design need two names")
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
    inspect_parser.add_argument("--bits", type=bits, default=16,
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
    verify_parser.add_argument("directory", metavar="DIR", type=folder, help="what build wrote")
    verify_parser.add_argument("--seed", type=natural, help="repeat a run; each has a new one, and "
                                                        "says which")
    verify_parser.add_argument("--simulator", choices=SIMULATORS, default=SIMULATORS[0],
                               help="icarus has to be installed, and is slow (%(default)s)")
    forms = verify_parser.add_mutually_exclusive_group()
    forms.add_argument("--netlist", nargs="?", const=OWN_FAMILY, choices=(OWN_FAMILY, *FAMILIES),
                       metavar="FAMILY",
                       help="synthesise the core as the flow does, and verify the netlist of the "
                            "device's cells, at its ports; of portable Verilog for "
                            f"{' or '.join(INFERRED)}")
    forms.add_argument("--unknown", action="store_true",
                       help="let every register, and every memory that is written, begin as X, and "
                            "verify that no X comes out after the reset; of portable Verilog")
    forms.add_argument("--coverage", action="store_true",
                       help="count which lines of the Verilog run and which bits change, which is "
                            "slow, and list in DIR/sim/coverage.txt what did not")
    verify_parser.set_defaults(parser=verify_parser)
    return parser


def _build(args: argparse.Namespace, progress: ProgressLog, console: Console) -> int:
    # All that can be wrong with what was given, as soon as it can be known.
    for name in ("units", "columns"):
        for goal in ("rate", "latency", "fastest", "multipliers"):
            if getattr(args, name) and getattr(args, goal):
                args.parser.error(f"argument --{name}: not allowed with argument --{goal}")
    for goal in ("rate", "latency"):
        if args.streams is None and getattr(args, goal):
            args.parser.error(f"argument --streams: fill is not allowed with argument --{goal}")
    metric = load_metric(args.metric) if args.metric else mean_squared_error
    find(args.board)
    check_folder(args.output)
    model = load_model(Path(args.model), **_told(args))
    network = model.network
    if args.stateful:
        network = replace(network, stateful=True)
    if args.states is not None:
        with blaming("--states"):
            network = replace(network, states=tuple(args.states))
    if missing := unsupported(network):
        raise InputError(f"{args.model}: no hardware is built for {' or '.join(missing)}; see "
                         f"gatefold inspect {args.model}")
    check_shape(network, units=args.units, columns=args.columns, streams=args.streams)
    for note in model.notes:
        progress(f"{args.model}: {note}")
    data = Sequences.load(args.data)
    with blaming(args.data):
        data.check(network)
    if args.metric and data.y is None:
        raise InputError(f"--metric needs targets, but {args.data} has no array 'y'")
    longest_of(args.longest, data)
    *others, hidden = (layer.hidden for layer in network.directions)
    progress(f"{args.model}: LSTM, {counted(network.inputs, 'input')}, "
             f"{''.join(f'{units} + ' for units in others)}{counted(hidden, 'hidden unit')}, "
             f"{counted(network.outputs, 'output')} at "
             f"{'every' if network.every_step else 'the last'} step")
    progress(f"{args.data}: {counted(len(data.x), 'sequence')}, "
             f"{counted(data.lengths.sum(), 'step')}")
    progress(f"choosing formats of {args.bits} bits")
    with blaming("calibration"):
        quantized = quantize(network, data.x, data.lengths, bits=args.bits)
    report = build(network, quantized, args.output, x=data.x, lengths=data.lengths, y=data.y,
                   metric=metric, board=args.board, units=args.units, columns=args.columns,
                   rate=args.rate, latency_us=args.latency, fastest=args.fastest,
                   multipliers=args.multipliers, streams=args.streams, pipeline=args.pipeline,
                   clock_mhz=args.clock, portable=args.portable, longest=args.longest,
                   name=args.name, implemented=not args.verilog_only, seed=args.seed,
                   sequences=args.sequences, progress=progress)
    console.print(build_table(report))
    choice, implementation = report["choice"], report["implementation"]
    if implementation and choice["wanted"] and not choice["wanted"]["met"]:
        mhz = implementation["harness"]["fmax_mhz"]
        progress(f"what was wanted is not met: it was chosen for {choice['mhz']:g} MHz, which this "
                 f"core does not reach; --clock {int(mhz)} chooses one for less")
    progress(f"wrote {args.output}; verify it by: gatefold verify {args.output}")
    return 0


def _inspect(args: argparse.Namespace, progress: ProgressLog, console: Console) -> int:
    told = inspect(args.model, bits=args.bits, longest=args.longest, **_told(args))
    print(f"{args.model}: {told}")
    return 0


def _verify(args: argparse.Namespace, progress: ProgressLog, console: Console) -> int:
    if args.netlist is not None and args.simulator != SIMULATORS[0]:
        args.parser.error(f"argument --netlist: not allowed with --simulator {args.simulator}, "
                          f"which does not read Yosys's models of the cells")
    with blaming(str(args.directory)):
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


STOPPING = (signal.SIGTERM, signal.SIGHUP)


def _stop(_signal: int, _frame: object) -> NoReturn:
    # A terminal that closes may say so more than once.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    # As an exception, so that half-written folders go.
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status: 0 done, 1 hardware differs, 2 bad input."""
    args = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 100)
    for number in STOPPING:
        # Who runs it by nohup wants it to go on.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        command = {"build": _build, "inspect": _inspect, "verify": _verify}[args.command]
        return command(args, ProgressLog(console), console)
    except BAD_INPUT as error:
        print(f"gatefold: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # There may be no terminal any more.
        with contextlib.suppress(OSError):
            print("gatefold: stopped", file=sys.stderr)
        return 130
