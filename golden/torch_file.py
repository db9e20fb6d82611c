"""Read a trained LSTM network from a PyTorch ``state_dict``.

A state_dict has names and tensors, and no more: which modules there are is read from them
(`golden.torch_layers`), and what they leave open is asked of the caller.  The file may be
``.safetensors``, which needs no PyTorch, or what ``torch.save`` writes, which PyTorch itself reads,
and without running anything in it (``weights_only``).
"""

from __future__ import annotations

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from golden.checks import require_finite, shape_text
from golden.function import Function
from golden.model import ModelError, TrainedModel, reading
from golden.torch_chain import chain, ordered
from golden.torch_layers import COUNTER, modules_of

__all__ = ["FILE_BYTES", "NUMBERS", "TENSORS", "load"]

Array = NDArray[np.float64]

SAFETENSORS = ".safetensors"
PICKLED = (".pt", ".pth", ".ckpt", ".bin")

FILE_BYTES = 2**28
"""The largest file that is opened; with a checkpoint's optimizer some four times the weights."""

TENSORS = 1024
"""The most tensors of a state_dict."""

NUMBERS = 2**24
"""The most weights of a model, as many as no FPGA holds."""

NAME_LENGTH = 256
"""The most characters of a tensor's name."""

WRAPPINGS = ("state_dict", "model_state_dict", "model")
"""Under which names training scripts, PyTorch's tutorials and Lightning keep a state_dict."""

SAFE_TORCH = (2, 6)
"""The first version whose ``weights_only`` runs nothing that is in the file (CVE-2025-32434)."""

NUMPY_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""Of safetensors' names; BF16 is the upper half of F32."""


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """A tensor that has not been read yet.

    Parameters
    ----------
    name : str
    kind : str
        The type of its numbers, as the file's format calls it.
    shape : tuple of int
    read : callable or None
        Gives its numbers as float64; None if they are of a type that is not supported.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    read: Callable[[], Array] | None


def load(
    path: str | Path,
    *,
    every_step: bool | None = None,
    final: bool | None = None,
    functions: Sequence[str | Function] | Mapping[str, str | Function] | None = None,
    order: Sequence[str] | None = None,
    eps: float = 1e-5,
) -> TrainedModel:
    """Read a network from a file of a PyTorch ``state_dict``.

    Its modules must be ``nn.LSTM`` or ``nn.LSTMCell``, then ``nn.Linear``, each with any prefix,
    and ``nn.BatchNorm1d`` anywhere, and run one after the other from zero states, as in evaluation.
    Modules without parameters, dropout for one, leave no trace in a state_dict and cannot be seen.
    Whatever ``batch_first`` was, the network takes x as [batch, time, features].

    Parameters
    ----------
    path : str or Path
        The file: ``.safetensors``, or ``.pt``, ``.pth``, ``.ckpt`` or ``.bin`` for what
        ``torch.save`` wrote; there the state_dict may be the entry ``state_dict``,
        ``model_state_dict`` or ``model`` of a checkpoint.
    every_step : bool
        Whether the model gives an output for each step, as from ``out``, or one for a sequence.
        The file does not say, so it must be given.
    final : bool, optional
        What that one is made of: False for ``out[:, -1]``, True for ``h_n`` of the last layer, both
        directions' one behind the other.  They differ, and it must be given, where the last LSTM
        is bidirectional.
    functions : sequence or mapping of str or Function, optional
        What follows the Linear layers: "none", "relu", "sigmoid", "tanh", "hardsigmoid" (as in
        PyTorch), "softmax" or "argmax", one for each layer, or by the names of Linear and
        BatchNorm1d modules, where those without a name have none.  It may be left out where there
        is at most one Linear layer, which then has none.
    order : sequence of str, optional
        All modules as they run, by the names they have in the file, without the parameter's.  By
        default they are as in the file; a .safetensors file keeps no order, so that what shapes and
        numbers in names leave open must be given.
    eps : float
        Of BatchNorm1d; the file does not say, and the default is PyTorch's.

    Returns
    -------
    TrainedModel
        The float model, weights as stored, in float64.

    Raises
    ------
    ModelError
        If the file cannot be read, is not a state_dict, is not of such a network, or leaves open
        what is not given.
    """
    with reading(path):
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix != SAFETENSORS and suffix not in PICKLED:
            raise ModelError(
                f"a file of PyTorch must end in {', '.join((SAFETENSORS, *PICKLED))}, not in "
                f"'{path.suffix}'"
            )
        try:
            size = path.stat().st_size
            if size > FILE_BYTES:
                raise ModelError(f"the file must have at most {FILE_BYTES} bytes, not {size}")
            with path.open("rb"):
                pass
        except OSError as error:
            raise ModelError(f"the file cannot be read: {error.strerror}") from error
        notes: list[str] = []
        if suffix == SAFETENSORS:
            tensors = _safetensors(path)
        else:
            tensors = _torch_tensors(_state_dict(_torch_load(path), notes))
        modules = modules_of(_numbers(list(tensors)), embeddings=order is not None)
        modules = ordered(modules, order=order, in_order=suffix != SAFETENSORS, notes=notes)
        network = chain(
            modules, every_step=every_step, final=final, functions=functions, eps=eps, notes=notes
        )
    source = f"PyTorch state_dict, {suffix}"
    return TrainedModel(network=network, source=source, notes=tuple(notes))


def _safetensors(path: Path) -> Iterator[_Tensor]:
    """The tensors of a .safetensors file, by their names: it keeps no order of theirs."""
    try:
        entries = deserialize(path.read_bytes())
    except SafetensorError as error:
        raise ModelError("not a .safetensors file, or a damaged one") from error
    for name, entry in sorted(entries, key=lambda each: str(each[0])):
        kind, shape = entry["dtype"], tuple(entry["shape"])
        yield _Tensor(name=name, kind=kind, shape=shape, read=_stored(kind, shape, entry["data"]))


def _stored(kind: str, shape: tuple[int, ...], data: bytes) -> Callable[[], Array] | None:
    """How to read the numbers of a safetensors entry."""
    if kind == "BF16":

        def read() -> Array:
            words = np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16
            return words.view(np.float32).astype(np.float64).reshape(shape)

        return read
    if kind in NUMPY_TYPES:
        return lambda: np.frombuffer(data, NUMPY_TYPES[kind]).astype(np.float64).reshape(shape)
    return None


def _torch_load(path: Path) -> Any:
    """What ``torch.save`` saved, as far as it is tensors and plain values."""
    try:
        import torch
    except ImportError as error:
        raise ModelError(
            f"to read {path.suffix} files, PyTorch is needed, which is not installed: install the "
            f"extra, pip install 'gatefold[train]', or save the state_dict as {SAFETENSORS}"
        ) from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise ModelError(
            f"to read {path.suffix} files safely, PyTorch must be at least "
            f"{'.'.join(map(str, SAFE_TORCH))}, not {torch.__version__}"
        )
    zipped = _is_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        # "Unsupported global: GLOBAL a.b was not an allowed global", "Unsupported class a.b".
        found = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
        if not found:
            raise ModelError("not a file of torch.save, or a damaged one") from error
        if found[1] == "torch.ScriptObject":
            raise ModelError("the file holds a torch.ScriptObject, as of a quantised module, which "
                             "is not supported: save the state_dict of the float model") from error
        raise ModelError(
            f"the file holds a pickled {found[1]}, which is not loaded, because that could run "
            f"any code: save the model's state_dict() alone"
        ) from error
    except Exception as error:  # whatever a damaged pickle or archive leads to
        raise ModelError("not a file of torch.save, or a damaged one") from error


def _is_archive(path: Path) -> bool:
    """Whether the file is an archive, as torch.save writes since PyTorch 1.6.

    TorchScript, and archives that torch.save does not write, are refused before they are read.
    """
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise ModelError("not a file of torch.save, or a damaged one") from error
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise ModelError("the file is a TorchScript program: save the model's state_dict()")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ModelError(
                f"the archive's entries must not be compressed, but '{entry.filename}' is"
            )
    return True


def _state_dict(loaded: Any, notes: list[str]) -> Mapping[Any, Any]:
    """The state_dict in what was saved, which may be a whole checkpoint."""
    if not isinstance(loaded, Mapping):
        raise ModelError(
            f"the file must hold a state_dict or a checkpoint with one, not a "
            f"{type(loaded).__name__}"
        )
    found = [name for name in WRAPPINGS if isinstance(loaded.get(name), Mapping)]
    if not found:
        return loaded
    if len(found) > 1:
        names = " and ".join(f"'{name}'" for name in found)
        raise ModelError(f"the file must hold one state_dict, but has {names}")
    others = ", ".join(f"'{name}'" for name in loaded if name != found[0])
    notes.append(
        f"the weights are the entry '{found[0]}' of a checkpoint"
        + (f"; left out is what else it has: {others}" if others else "")
    )
    state = loaded[found[0]]
    assert isinstance(state, Mapping)
    return state


def _torch_tensors(state: Mapping[Any, Any]) -> Iterator[_Tensor]:
    """The tensors of a state_dict, in its order."""
    import torch

    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    for name, value in state.items():
        if not isinstance(name, str):
            raise ModelError(f"a state_dict must have names, not {name!r}")
        if not isinstance(value, torch.Tensor):
            raise ModelError(
                f"'{name}' must be a tensor, as all of a state_dict, not of the type "
                f"{type(value).__name__}"
            )
        kind = str(value.dtype).removeprefix("torch.")
        if value.layout != torch.strided or value.device.type != "cpu":
            raise ModelError(
                f"'{name}' must be a dense tensor, not {value.layout} on '{value.device.type}'"
            )
        yield _Tensor(
            name=name,
            kind=kind,
            shape=tuple(value.shape),
            read=_in_memory(value, torch.float64) if value.dtype in floats else None,
        )


def _in_memory(value: Any, float64: Any) -> Callable[[], Array]:
    return lambda: np.array(value.detach().to(float64).numpy(), dtype=np.float64)


def _numbers(tensors: Sequence[_Tensor]) -> dict[str, Array]:
    """The tensors' numbers by name, all finite, and no more of them than there may be."""
    if len(tensors) > TENSORS:
        raise ModelError(f"a state_dict must have at most {TENSORS} tensors, not {len(tensors)}")
    total = sum(math.prod(tensor.shape) for tensor in tensors)
    if total > NUMBERS:
        raise ModelError(f"a state_dict must have at most {NUMBERS} numbers, not {total}")
    numbers: dict[str, Array] = {}
    for tensor in tensors:
        name = tensor.name
        if not name.isprintable() or len(name) > NAME_LENGTH:
            raise ModelError(f"a name of a state_dict must be printable and have at most "
                             f"{NAME_LENGTH} characters, not be {name[:NAME_LENGTH]!r}")
        if any(part in name for part in ("_packed_params", "_all_weight_values")):
            raise ModelError(
                f"'{name}' is of a quantised module, which is not supported: save the state_dict "
                f"of the float model"
            )
        if name.rpartition(".")[2] == COUNTER:
            # How often statistics were updated, an integer.
            numbers[name] = np.zeros(tensor.shape)
            continue
        if tensor.read is None:
            raise ModelError(
                f"'{name}' must be of float16, bfloat16, float32 or float64, not {tensor.kind}"
            )
        if not math.prod(tensor.shape):
            raise ModelError(f"'{name}' must not be empty, but has the shape "
                             f"{shape_text(tensor.shape)}")
        with np.errstate(invalid="ignore"):  # signalling NaNs, which are refused below
            array = tensor.read()
        try:
            require_finite(f"'{name}'", array)
        except ValueError as error:
            raise ModelError(str(error)) from error
        numbers[name] = array
    return numbers
