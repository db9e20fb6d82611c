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

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fpga.boards import Board, find
from fpga.choice import choose_for, wanted
from fpga.flow import implement
from fpga.report import check_fit, performance
from fpga.stored import store
from fpga.tools import keeping_logs, telling_time
from gatefold.errors import InputError, blaming
from gatefold.output_folder import REPORT, new_folder
from gatefold.wishes import (
    check_pipeline,
    check_shape,
    longest_of,
    optional,
    positive,
    positive_real,
)
from golden.accuracy import Metric, compare, mean_squared_error
from golden.calibrate import check_bits, quantize
from golden.checks import valid_steps
from golden.corners import with_corners
from golden.data import Sequences
from golden.model import Network
from golden.model_file import describe
from golden.model_file import load as load_model
from golden.quantized_network import QuantizedNetwork
from golden.result import Result, StateCodes
from hdl.network import LONGEST
from hdl.network import Network as Core
from hdl.pipeline import PIPELINES
from hdl.verilog import NAME, check_name, generate
from sim.coverage import REACHED, of_network
from sim.manifest import MANIFEST, Manifest
from sim.vectors import VECTORS, Vectors
from sim.verify import verify

__all__ = ["InputError", "build", "inspect", "load", "quantize", "run", "verify"]

DEFAULT_BOARD = "ulx3s-85f"


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
    with blaming("bits"):
        check_bits(bits)
    longest = positive("longest", longest)
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
    valid = valid_steps(lengths, x.shape[1])[:, :, None]
    return network.x.quantize(np.where(valid, x, 0))[0], lengths


def build(network: Network, quantized: QuantizedNetwork, directory: str | os.PathLike[str], *,
          x: np.ndarray, lengths: np.ndarray | None = None, y: np.ndarray | None = None,
          metric: Metric = mean_squared_error, board: str = DEFAULT_BOARD,
          units: int | None = None, columns: int | None = None, rate: float | None = None,
          latency_us: float | None = None, fastest: bool = False, multipliers: int | None = None,
          streams: int | None = 1, pipeline: str | None = None, clock_mhz: float | None = None,
          portable: bool = False, longest: int | None = None, name: str = NAME,
          implemented: bool = True, seed: int = 1, sequences: int = 16,
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
    name : str
        Of the top module and of its file, a Verilog identifier: two cores of one design need two.
    implemented : bool
        Whether to synthesise, place and route the core, with a bitstream. Without, nothing has to
        fit the board, and rates are those of the clock that the core was chosen for.
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
    TypeError
        If a network is none, or the other one, the metric no function or the name no text.
    ValueError
        If something else given cannot be used.
    FlowError
        If the design does not fit the board, or a tool fails.
    """
    start = time.monotonic()
    if not isinstance(network, Network):
        raise TypeError(f"network must be what load() gave, not {type(network).__name__}")
    if not isinstance(quantized, QuantizedNetwork):
        raise TypeError(f"quantized must be what quantize() gave, not {type(quantized).__name__}")
    if not callable(metric):
        raise TypeError(f"metric must be a function of outputs and targets, not {metric!r}")
    if not isinstance(name, str):
        raise TypeError(f"name must be a text, not {name!r}")
    if not os.fspath(directory):
        raise InputError("directory must name a folder, not be empty")
    target = find(board)
    seed, sequences = positive("seed", seed), positive("sequences", sequences)
    units = optional(positive, "units", units)
    columns = optional(positive, "columns", columns)
    multipliers = optional(positive, "multipliers", multipliers)
    streams = optional(positive, "streams", streams)
    longest = optional(positive, "longest", longest)
    rate = optional(positive_real, "rate", rate)
    latency_us = optional(positive_real, "latency_us", latency_us)
    clock_mhz = optional(positive_real, "clock_mhz", clock_mhz)
    check_pipeline(pipeline)
    check_shape(network, units=units, columns=columns, streams=streams)
    with blaming("data"):
        data = Sequences.of(x, lengths, y)
        data.check(network)
    x, lengths, y = data.x, data.lengths, data.y
    longest = longest_of(longest, data)
    with blaming("module name"):
        check_name(name)
    with new_folder(Path(directory)) as folder:
        # Verilog and synthesis of what can never fit take minutes.
        if implemented:
            check_fit(target, weight_bits=quantized.weight_bits)
        with blaming("folding"):
            choice = choose_for(
                target, quantized, streams=streams, multipliers=multipliers, units=units,
                columns=columns, rate=rate, latency_us=latency_us, fastest=fastest,
                pipeline=pipeline, clock_mhz=clock_mhz, longest=longest)
            if implemented:
                check_fit(target, multipliers=choice.multipliers)
            core = Core(quantized, foldings=choice.foldings, head_folding=choice.head,
                        pipeline=PIPELINES[choice.pipeline], streams=choice.streams,
                        longest=longest)
        for reason in choice.why:
            progress(reason)
        progress("running the float and the bit-true network on all data")
        with blaming("network"), telling_time(progress, "running the networks"):
            accuracy = compare(network, quantized, x, lengths, y, metric)
        progress("writing Verilog")
        with telling_time(progress, "writing Verilog"):
            verilog, description = generate(core, name,
                                            family=None if portable else target.family)
        (folder / description["verilog"]).write_text(verilog)
        (folder / MANIFEST).write_text(json.dumps(description, indent=2) + "\n")
        codes = _codes(quantized, x[:sequences], lengths[:sequences])
        played = with_corners(quantized, *codes)
        vectors = Vectors.compute(quantized, *played)
        vectors.save(folder / VECTORS)
        of_network(quantized, *played).save(folder / REACHED)
        implementation = _implement(core, verilog, target, folder, codes, seed, progress
                                    ) if implemented else None
        cycles = description["cycles"]
        mhz = implementation["harness"]["fmax_mhz"] if implementation else choice.mhz
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
            "implementation": implementation,
            "vectors": {"sequences": vectors.sequences, "steps": len(vectors.x)},
            "seconds": round(time.monotonic() - start, 1),
        }
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return report


def _implement(core: Core, verilog: str, board: Board, folder: Path,
               codes: tuple[np.ndarray, np.ndarray], seed: int, progress: Callable[[str], None]
               ) -> dict[str, Any]:
    """Place and route the core whose Verilog is in a folder, and leave a bitstream there.

    The self-test shows saturations, so it plays ``codes`` alone, and none of what was made to
    saturate. Returns what the report says of it.
    """
    manifest = Manifest.load(folder)
    with blaming("self-test"):
        plain = Vectors.compute(core.network, *codes)
        stored = store(plain.x, plain.y, plain.lengths, every_step=plain.every_step,
                       source=manifest.input, sink=manifest.output, further=manifest.further,
                       latency=core.latency, board=board)
    with keeping_logs(folder / "fpga"):
        implementation = implement(
            core.signature, verilog=verilog, module=manifest.name, board=board, stored=stored,
            folder=folder / "fpga", seeds=(seed, seed + 1, seed + 2), progress=progress)
    bitstream = folder / f"selftest{implementation.bitstream.suffix}"
    implementation.bitstream.rename(bitstream)
    # Megabytes that the scripts beside them make again.
    for top in (folder / "fpga").iterdir():
        for suffix in (".json", ".config", ".asc"):
            (top / f"{top.name}{suffix}").unlink(missing_ok=True)
    return implementation.as_dict() | {"bitstream": bitstream.name,
                                       "self_test_words": len(stored.stimulus)}
