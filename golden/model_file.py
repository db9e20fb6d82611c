"""Read a trained network from a file, by the file's kind, and say what was understood."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from golden import keras_file, onnx_file, torch_file
from golden.calibrate import unsupported
from golden.checks import counted
from golden.footprint import footprint, parameters_of
from golden.lstm import LSTM, Bidirectional
from golden.model import ModelError, Network, TrainedModel

__all__ = ["STEPS", "SUFFIXES", "describe", "load"]

ONNX = (".onnx",)
TORCH = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
KERAS = (".keras", ".h5", ".hdf5")
SUFFIXES = (*ONNX, *TORCH, *KERAS)
"""Of the files that can be read."""

STEPS = {"every": (True, None), "last": (False, False), "final": (False, True)}
"""What weights alone do not tell: at which steps there is an output, as `every_step`, `final`."""


def load(
    path: str | Path,
    *,
    steps: str | None = None,
    functions: Sequence[str] | None = None,
    order: Sequence[str] | None = None,
) -> TrainedModel:
    """Read a trained network.

    Parameters
    ----------
    path : str or Path
        An ONNX model, a PyTorch ``state_dict``, a Keras model or the weights of one.
    steps : str, optional
        One of ``STEPS``, which a file of weights alone does not tell: an output at every step, at
        the last one, or from the final state of each direction.
    functions : sequence of str, optional
        What follows the dense layers of a ``state_dict``, see :func:`golden.torch_file.load`.
    order : sequence of str, optional
        The modules of a ``state_dict`` in the order in which they run.

    Raises
    ------
    ModelError
        If the file is of no known kind, cannot be read, is not such a network, or tells by itself
        what was given.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelError(
            f"{path}: the file's name must end in one of {', '.join(SUFFIXES)}, not "
            f"'{suffix}'"
        )
    if steps is not None and steps not in STEPS:
        raise ModelError(f"steps must be one of {', '.join(STEPS)}, not {steps}")
    every_step, final = STEPS[steps] if steps else (None, None)
    if suffix in TORCH:
        return torch_file.load(path, every_step=every_step, final=final, functions=functions,
                               order=order)
    if order is not None:
        raise ModelError(f"{path}: the order can be given for a state_dict only")
    if suffix in KERAS:
        if final:
            raise ModelError(f"{path}: steps must be every or last for the weights of a Keras "
                             f"model, not final")
        return keras_file.load(path, every_step=every_step, activations=functions)
    if steps is not None or functions is not None:
        raise ModelError(f"{path}: steps and functions can be given for files of weights only, "
                         f"since an ONNX model says them itself")
    return onnx_file.load(path)


def _parts(layer: LSTM) -> list[str]:
    """What a direction has beyond the plain cell."""
    parts = []
    if layer.projection is not None:
        parts.append(f"projection {layer.hidden} -> {layer.outputs}")
    if layer.peepholes is not None:
        parts.append("peepholes")
    functions = f"{layer.gate}, {layer.candidate}, {layer.squash}"
    if functions != "Sigmoid, Tanh, Tanh":
        parts.append(f"functions {functions}")
    if layer.clip is not None:
        parts.append(f"clip {layer.clip:g}")
    for name in ("initial_h", "initial_c"):
        if getattr(layer, name) is not None:
            parts.append(name)
    return parts


def describe(model: TrainedModel, *, bits: int = 16, longest: int = 64) -> str:
    """What was understood of a model, in lines of text.

    Parameters
    ----------
    model : TrainedModel
    bits, longest : int
        Width of the numbers, and steps of a sequence, at most, for the memory that they take.
    """
    network: Network = model.network
    rows: list[tuple[str, str, str, str]] = [
        ("input", "", f"{counted(network.inputs, 'feature')} a step", "")]
    parameters = products = 0
    for n, layer in enumerate(network.layers):
        counts = np.sum([parameters_of(each) for each in layer.directions], axis=0)
        way = "reverse" if layer.directions[0].reverse else "forward"
        if isinstance(layer, Bidirectional):
            way = f"bidirectional, {layer.merge}"
        hidden = layer.directions[0].hidden
        rows.append((f"lstm{n}", f"{layer.inputs} -> {hidden}", way,
                     f"{counts[0]:,} parameters, {counts[1]:,} products a step"))
        ours, *others = [_parts(each) for each in layer.directions]
        rows += [("", "", part, "") for part in ours]
        rows += [("", "", f"reverse: {part}", "") for theirs in others if theirs != ours
                 for part in theirs or ["none of these"]]
        parameters, products = parameters + counts[0], products + counts[1]
    for n, dense in enumerate(network.head):
        rows.append((f"dense{n}", f"{dense.inputs} -> {len(dense.w)}",
                     "" if str(dense.function) == "identity" else str(dense.function),
                     f"{dense.w.size + dense.bias.size:,} parameters, {dense.w.size:,} products"))
        parameters += dense.w.size + dense.bias.size
        products += dense.w.size
    when = "every step" if network.every_step else "the last step"
    if network.every_step and network.backwards:
        when += ", from the last to the first"
    if not network.every_step and network.final:
        when = "the end of each direction"
    rows.append(("output", "", f"{network.outputs} at {when}", ""))
    if network.states:
        rows.append(("states", "", ", ".join(network.states), ""))
    if network.stateful:
        rows.append(("", "", "kept from sequence to sequence", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [model.source]
    lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(
        row, (*widths, 0), strict=True)).rstrip() for row in rows]
    lines.append(f"in all {parameters:,} parameters, {products:,} products where there is an "
                 f"output")
    taken = footprint(network, bits=bits, longest=longest)
    lines.append(f"memory in bits, with numbers of {bits}:")
    where = {"sequences": f"sequences, up to {longest} steps"}
    named = {where.get(kind, kind): f"{count:,}" for kind, count in taken.items() if count}
    left, right = max(map(len, named)), max(map(len, named.values()))
    lines += [f"  {kind.ljust(left)}  {count.rjust(right)}" for kind, count in named.items()]
    if missing := unsupported(network):
        lines.append("no hardware is built for:")
        lines += [f"  - {what}" for what in missing]
    if model.notes:
        lines.append("taken into the weights, or left out:")
        lines += [f"  - {note}" for note in model.notes]
    return "\n".join(lines)
