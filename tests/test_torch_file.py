"""Reading files of PyTorch: the same numbers as PyTorch, or one clear refusal."""

from __future__ import annotations

import itertools
import json
import os
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from golden.function import IDENTITY, RELU, SOFTMAX, TANH, Function
from golden.lstm import Bidirectional
from golden.model import ModelError, TrainedModel
from golden.torch_chain import MODULES
from golden.torch_file import FILE_BYTES, NUMBERS, TENSORS, load
from golden.torch_layers import LAYERS

FILES = Path(__file__).parent / "models" / "torch"

STACKED = ("scale", "first", "between", "again", "dense", "behind", "classes")

Arrays = dict[str, np.ndarray]


def draw(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {k: rng.uniform(-0.6, 0.6, shape).astype(np.float32) for k, shape in shapes.items()}


def lstm(name: str, n: int = 3, h: int = 4, seed: int = 0) -> Arrays:
    """An nn.LSTM of one layer."""
    prefix = f"{name}." if name else ""
    return draw({
        f"{prefix}weight_ih_l0": (4 * h, n), f"{prefix}weight_hh_l0": (4 * h, h),
        f"{prefix}bias_ih_l0": (4 * h,), f"{prefix}bias_hh_l0": (4 * h,),
    }, seed)


def reverse(arrays: Arrays) -> Arrays:
    """The other direction of an nn.LSTM."""
    return {f"{name}_reverse": -array for name, array in arrays.items()}


def linear(name: str, n: int = 4, o: int = 2, seed: int = 1) -> Arrays:
    return draw({f"{name}.weight": (o, n), f"{name}.bias": (o,)}, seed)


def norm(name: str, n: int = 4, seed: int = 2) -> Arrays:
    arrays = draw({f"{name}.{leaf}": (n,) for leaf in
                   ("weight", "bias", "running_mean", "running_var")}, seed)
    arrays[f"{name}.running_var"] = np.abs(arrays[f"{name}.running_var"]) + np.float32(0.5)
    arrays[f"{name}.num_batches_tracked"] = np.array(7)
    return arrays


def read(folder: Path, arrays: Arrays, **options: Any) -> TrainedModel:
    path = folder / "m.safetensors"
    save_file(arrays, path)
    return load(path, **{"every_step": False, **options})


FROM_PYTORCH: dict[str, dict[str, Any]] = {
    "plain": {"every_step": False},
    "plain_bfloat16": {"every_step": False, "functions": ["none"]},
    "plain_float16": {"every_step": False, "functions": "none"},
    "projected": {"every_step": False, "final": True},
    "stacked": {"every_step": True, "order": STACKED,
                "functions": {"behind": "relu", "classes": "softmax"}},
    "cells": {"every_step": False},
}


@pytest.mark.parametrize("name", FROM_PYTORCH)
def test_files_of_pytorch(name: str) -> None:
    network = load(FILES / f"{name}.safetensors", **FROM_PYTORCH[name]).network
    with np.load(FILES / f"{name}.npz") as data:
        y = network.run(data["x"], data["lengths"])
        assert y.shape == data["y"].shape
        assert np.abs(y - data["y"]).max() <= 1e-12


def test_all_files_are_read() -> None:
    assert {path.stem for path in FILES.iterdir()} == set(FROM_PYTORCH)


def test_what_is_understood() -> None:
    model = load(FILES / "stacked.safetensors", **FROM_PYTORCH["stacked"])
    network = model.network
    assert model.source == "PyTorch state_dict, .safetensors"
    assert [type(layer).__name__ for layer in network.layers] == ["LSTM", "LSTM", "Bidirectional"]
    assert [dense.function for dense in network.head] == [RELU, SOFTMAX]
    assert (network.every_step, network.final) == (True, False)
    eps = "is taken into the weights, with an eps of 1e-05, which the file does not say"
    assert model.notes == (
        "the modules run one after the other in the order " + ", ".join(f"'{m}'" for m in STACKED)
        + ", as given",
        f"nn.BatchNorm1d 'scale' {eps}",
        f"nn.BatchNorm1d 'between' {eps}",
        f"nn.BatchNorm1d 'behind' {eps}",
    )


def test_notes_of_what_is_taken_for_granted() -> None:
    assert load(FILES / "cells.safetensors", every_step=True).notes == (
        "the modules run one after the other in the order 'cells.0', 'cells.1', 'out', the only "
        "one that shapes and names allow",
        "no function follows nn.Linear 'out'; the file does not say, and none is given",
        "nn.LSTMCell 'cells.0' runs over all steps, from states of zero",
        "nn.LSTMCell 'cells.1' runs over all steps, from states of zero",
    )


def test_final_states_and_the_last_step_differ_in_the_reverse_direction(tmp_path: Path) -> None:
    arrays = lstm("lstm")
    arrays |= reverse(arrays)
    x = np.random.default_rng(3).normal(size=(2, 5, 3))
    every = read(tmp_path, arrays, every_step=True).network.run(x)
    last = read(tmp_path, arrays, final=False).network
    final = read(tmp_path, arrays, final=True).network
    assert isinstance(last.layers[0], Bidirectional)
    assert np.array_equal(last.run(x), every[:, -1])
    assert np.array_equal(final.run(x), np.hstack([every[:, -1, :4], every[:, 0, 4:]]))
    # With one direction there is no difference, and no need to say which.
    assert not read(tmp_path, lstm("lstm"), final=True).network.final


def test_functions(tmp_path: Path) -> None:
    arrays = lstm("lstm") | linear("fc1", 4, 3) | linear("fc2", 3, 5)
    for given, expected in (
        (["relu", "softmax"], [RELU, SOFTMAX]),
        (["Tanh", IDENTITY], [TANH, IDENTITY]),
        ({"fc1": TANH}, [TANH, IDENTITY]),
        ({"fc2": "hardsigmoid"}, [IDENTITY, Function("HardSigmoid", 1 / 6, 0.5)]),
    ):
        network = read(tmp_path, arrays, functions=given).network
        assert [dense.function for dense in network.head] == expected


def batch_norm(arrays: Arrays, name: str, x: np.ndarray, eps: float) -> np.ndarray:
    mean, variance, weight, bias = (
        arrays[f"{name}.{leaf}"].astype(np.float64)
        for leaf in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


@pytest.mark.parametrize("order", ["lbabc", "labcd", "labdb", "laabc"])
@pytest.mark.parametrize("where", ["before", "behind", "both"])
def test_norms_and_functions_behind_the_lstm(tmp_path: Path, order: str, where: str) -> None:
    """Every letter a module: l the LSTM, b and d Linear, a and c norms, repeated under a number."""
    arrays, names = lstm("l"), []
    for place, letter in enumerate(order):
        names.append("l" if letter == "l" else f"{letter}{place}")
        if letter in "bd":
            arrays |= linear(names[-1], 4, 4, seed=place)
        elif letter in "ac":
            arrays |= norm(names[-1], 4, seed=place)
    chosen: dict[str, str] = {}
    for name in names[1:]:
        if where == "both" or (name[0] in "bd") == (where == "before"):
            chosen[name] = "tanh" if name[0] in "bd" else "relu"
    network = read(tmp_path, arrays, every_step=True, functions=chosen, order=names, eps=0.01)
    x = np.random.default_rng(4).normal(size=(2, 5, 3))
    y = read(tmp_path, lstm("l"), every_step=True).network.run(x)
    for name in names[1:]:
        if name[0] in "bd":
            y = y @ arrays[f"{name}.weight"].T.astype(np.float64) + arrays[f"{name}.bias"]
        else:
            y = batch_norm(arrays, name, y, 0.01)
        if name in chosen:
            y = np.tanh(y) if chosen[name] == "tanh" else np.maximum(y, 0)
    assert np.abs(network.network.run(x) - y).max() <= 1e-12


def test_two_norms_before_an_lstm(tmp_path: Path) -> None:
    arrays = lstm("l") | norm("n", 3, seed=5) | norm("m", 3, seed=6)
    network = read(tmp_path, arrays, every_step=True, order=["n", "m", "l"]).network
    x = np.random.default_rng(4).normal(size=(2, 5, 3))
    y = batch_norm(arrays, "m", batch_norm(arrays, "n", x, 1e-5), 1e-5)
    expected = read(tmp_path, lstm("l"), every_step=True).network.run(y)
    assert np.abs(network.run(x) - expected).max() <= 1e-12


def test_numbers_in_names_order_modules_of_equal_shapes(tmp_path: Path) -> None:
    """Ten comes after nine, though not in the alphabet."""
    arrays = lstm("net.9", 3, 4) | linear("net.10", 4, 4, 5) | linear("net.11", 4, 4, 6)
    network = read(tmp_path, arrays, functions=["relu", "none"]).network
    assert np.array_equal(network.head[0].w, arrays["net.10.weight"])
    assert np.array_equal(network.head[1].w, arrays["net.11.weight"])


@pytest.mark.parametrize("name", ["", "rnn", "module.model.lstm"])
def test_any_prefix(tmp_path: Path, name: str) -> None:
    model = read(tmp_path, lstm(name))
    assert np.array_equal(model.network.layers[0].directions[0].w_x, lstm("")["weight_ih_l0"])
    assert model.notes == ()


def without(arrays: Arrays, *names: str) -> Arrays:
    return {name: array for name, array in arrays.items() if name not in names}


def with_value(arrays: Arrays, name: str, value: float) -> Arrays:
    changed = arrays[name].copy()
    changed.flat[1] = value
    return arrays | {name: changed}


LSTM_FC = lstm("lstm") | linear("fc")
TWO = lstm("lstm") | linear("a", 4, 3) | linear("b", 3, 2)
BOTH = lstm("lstm") | reverse(lstm("lstm"))
UNKNOWN = "is no parameter of an nn.LSTM, nn.LSTMCell, nn.Linear or nn.BatchNorm1d, so that what " \
    "it does is not known"

# What is wrong: arrays, options, the sentence.
REFUSED: dict[str, tuple[Arrays, dict[str, Any], str]] = {
    "steps": (LSTM_FC, {"every_step": None},
        "a state_dict does not say whether the model gives an output for every step or for the "
        "last one: give --steps every or --steps last"),
    "steps-two-directions": (BOTH, {"every_step": None},
        "a state_dict does not say whether the model gives an output for every step or for the "
        "last one: give --steps every or --steps last, or --steps final for h_n"),
    "final": (BOTH, {},
        "a state_dict does not say what the output of a bidirectional LSTM is made of: give "
        "--steps last for out[:, -1] or --steps final for h_n, both directions"),
    "final-every": (BOTH, {"every_step": True, "final": True},
        "the final states h_n are one output for a sequence, not for every step"),
    "functions": (TWO, {},
        "a state_dict does not say which functions follow its 2 Linear layers, 'a', 'b': give "
        "them, like --functions relu,none"),
    "functions-count": (TWO, {"functions": ["relu"]},
        "there must be one function for each Linear layer, which are 'a', 'b', not 1"),
    "functions-unknown": (LSTM_FC, {"functions": ["gelu"]},
        "a function must be one of none, relu, sigmoid, tanh, hardsigmoid, softmax, argmax, not "
        "'gelu'"),
    "functions-where": (LSTM_FC, {"functions": {"lstm": "relu"}},
        "functions can follow the modules behind the last LSTM, 'fc', but one is given for 'lstm'"),
    "functions-norm": (
        LSTM_FC | norm("norm", 2), {"functions": ["relu"], "order": ["lstm", "fc", "norm"]},
        "it is not clear whether the function of nn.Linear 'fc' stands before nn.BatchNorm1d "
        "'norm' or behind it: give the functions by name, like --functions norm=relu"),
    "softmax-inside": (TWO, {"functions": ["softmax", "none"]},
        "only the last dense layer may have the function Softmax, but dense layer 0 has it"),
    "order": (lstm("a", 4, 4) | lstm("b", 4, 4), {},
        "a .safetensors file does not keep the order of modules, and by their shapes they can run "
        "as 'a', 'b' and as 'b', 'a': give the order, all as they run, like --order a,b"),
    "order-linear": (lstm("lstm", 1, 4) | linear("fc", 4, 1), {},
        "a .safetensors file does not keep the order of modules, and by their shapes they can run "
        "as 'fc', 'lstm' and as 'lstm', 'fc': give the order, all as they run, like "
        "--order fc,lstm"),
    "order-missing": (LSTM_FC, {"order": ["lstm"]},
        "the order must have all modules, but 'fc' is missing"),
    "order-unknown": (LSTM_FC, {"order": ["lstm", "out"]},
        "the order must have the names of the modules, 'fc', 'lstm', but 'out' is none of them"),
    "order-twice": (LSTM_FC, {"order": ["fc", "fc"]},
        "the order must have the names of the modules, 'fc', 'lstm', but 'fc' is named twice"),
    "order-misfit": (LSTM_FC | norm("norm", 3), {"order": ["lstm", "norm", "fc"]},
        "nn.BatchNorm1d 'norm' takes 3 inputs, but nn.LSTM 'lstm' before it gives 4"),
    "no-order": (lstm("lstm") | linear("fc", 5), {},
        "there is no order in which each module takes what the one before it gives: nn.Linear "
        "'fc' (5 to 2), nn.LSTM 'lstm' (3 to 4)"),
    "linear-before": (lstm("lstm") | linear("into", 2, 3), {},
        "nn.Linear 'into' must stand behind the LSTM, but stands before nn.LSTM 'lstm'"),
    "no-lstm": (linear("fc"), {},
        "the file must have the weights of an nn.LSTM or nn.LSTMCell, but has none of their "
        "names, as weight_ih_l0"),
    "modules": (
        lstm("lstm") | {k: v for n in range(MODULES) for k, v in linear(f"fc{n}", 4, 4).items()},
        {}, "a network must have at most 16 modules, not 17"),
    "gru": (draw({"gru.weight_ih_l0": (12, 3), "gru.weight_hh_l0": (12, 4)}), {},
        "'gru.weight_hh_l0' [12, 4] is of an nn.GRU, which is not supported"),
    "rnn-cell": (draw({"cell.weight_ih": (4, 3), "cell.weight_hh": (4, 4)}), {},
        "'cell.weight_hh' [4, 4] is of an nn.RNNCell, which is not supported"),
    "embedding": (lstm("lstm") | draw({"embed.weight": (9, 3)}), {},
        "'embed.weight' [9, 3] without a bias is by its name of an nn.Embedding, which is not "
        "supported"),
    "embedding-or-linear": (lstm("lstm", 4, 4) | draw({"tokens.weight": (9, 4)}), {},
        "'tokens.weight' without a bias can be an nn.Linear's or, in front, an nn.Embedding's, "
        "which is not supported: if it is a Linear's, give the order, all as they run, like "
        "--order lstm,tokens"),
    "input-scaling": (LSTM_FC | draw({"mean": (3,), "std": (3,)}), {}, f"'mean' [3] {UNKNOWN}"),
    "buffer-in-a-module": (LSTM_FC | draw({"lstm.h0": (1, 4)}), {}, f"'lstm.h0' [1, 4] {UNKNOWN}"),
    "layer-norm": (LSTM_FC | draw({"ln.weight": (4,), "ln.bias": (4,)}), {},
        f"'ln.bias' [4] {UNKNOWN} (it may be an nn.LayerNorm's, or a BatchNorm's without "
        f"running_mean)"),
    "convolution": (LSTM_FC | draw({"conv.weight": (3, 3, 5)}), {},
        f"'conv.weight' [3, 3, 5] {UNKNOWN}"),
    "weight-norm": (LSTM_FC | draw({"lstm.weight_hh_l0_g": (16, 1)}), {},
        f"'lstm.weight_hh_l0_g' [16, 1] {UNKNOWN}"),
    "quantised": (LSTM_FC | draw({"fc._packed_params.dtype": (1,)}), {},
        "'fc._packed_params.dtype' is of a quantised module, which is not supported: save the "
        "state_dict of the float model"),
    "missing": (without(LSTM_FC, "lstm.weight_ih_l0"), {},
        "nn.LSTM 'lstm', of 1 layer and biases, must have 'lstm.weight_ih_l0', which is missing"),
    "one-bias": (without(LSTM_FC, "lstm.bias_hh_l0"), {},
        "nn.LSTM 'lstm', of 1 layer and biases, must have 'lstm.bias_hh_l0', which is missing"),
    "other-bias": (without(LSTM_FC, "lstm.bias_ih_l0"), {},
        "nn.LSTM 'lstm', of 1 layer and biases, must have 'lstm.bias_ih_l0', which is missing"),
    "half-a-direction": (without(BOTH, "lstm.weight_hh_l0_reverse"), {},
        "nn.LSTM 'lstm', of 1 layer, two directions and biases, must have "
        "'lstm.weight_hh_l0_reverse', which is missing"),
    "gap": (LSTM_FC | {k.replace("l0", "l2"): v for k, v in lstm("lstm").items()}, {},
        "nn.LSTM 'lstm', of 3 layers and biases, must have 'lstm.weight_ih_l1', which is missing"),
    "layers": (LSTM_FC | {f"lstm.weight_ih_l{LAYERS}": np.ones((16, 4), np.float32)}, {},
        "nn.LSTM 'lstm' must have at most 64 layers, not 65"),
    "inner-shape": (
        {k.replace("l0", "l1"): v for k, v in lstm("lstm").items()} | lstm("lstm"), {},
        "'lstm.weight_ih_l1' must have the shape [16, 4], by its module's other tensors, not "
        "[16, 3]"),
    "bias-shape": (LSTM_FC | draw({"lstm.bias_ih_l0": (4,)}), {},
        "'lstm.bias_ih_l0' must have the shape [16], by its module's other tensors, not [4]"),
    "rows": (LSTM_FC | draw({"lstm.weight_hh_l0": (18, 4)}), {},
        "'lstm.weight_hh_l0' must have the shape [4H, H], not [18, 4]"),
    "projection-rows": (draw({
        "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 2), "weight_hr_l0": (3, 4)}), {},
        "'weight_hr_l0' must have the shape [2, 4], by its module's other tensors, not [3, 4]"),
    "one-axis": (LSTM_FC | draw({"lstm.weight_ih_l0": (16,)}), {},
        "'lstm.weight_ih_l0' must have the shape [16, N], not [16]"),
    "linear-bias": (LSTM_FC | draw({"fc.bias": (3,)}), {},
        "'fc.bias' must have the shape [2], by its module's other tensors, not [3]"),
    "norm-missing": (without(LSTM_FC | norm("norm"), "norm.bias"), {},
        "nn.BatchNorm1d 'norm', with weights, must have 'norm.bias', which is missing"),
    "norm-variance": (
        with_value(LSTM_FC | norm("norm", 2), "norm.running_var", -1.0),
        {"order": ["lstm", "fc", "norm"]},
        "'norm.running_var' plus eps must be positive, not -0.99999"),
    "eps": (LSTM_FC, {"eps": -1.0}, "eps must be at least 0 and finite, not -1.0"),
    "infinite": (with_value(LSTM_FC, "fc.weight", np.inf), {},
        "'fc.weight' must be finite, but element [0, 1] is inf"),
    "signalling": (LSTM_FC | {"fc.bias": np.array([1, 0x7FA00000], np.uint32).view(np.float32)}, {},
        "'fc.bias' must be finite, but element [1] is nan"),
    "infinite-sum": ({k: np.full(v.shape, 1e308) for k, v in lstm("lstm").items()}, {},
        "the sum of 'lstm.bias_ih_l0' and 'lstm.bias_hh_l0' must be finite"),
    "integers": (LSTM_FC | {"fc.weight": np.ones((2, 4), np.int8)}, {},
        "'fc.weight' must be of float16, bfloat16, float32 or float64, not I8"),
    "empty": (LSTM_FC | {"fc.weight": np.ones((0, 4), np.float32)}, {},
        "'fc.weight' must not be empty, but has the shape [0, 4]"),
    "tensors": ({f"t{n}": np.ones(1, np.float32) for n in range(TENSORS + 1)}, {},
        "a state_dict must have at most 1024 tensors, not 1025"),
    "numbers": ({"t": np.ones(NUMBERS + 1, np.float16)}, {},
        "a state_dict must have at most 16777216 numbers, not 16777217"),
    "name": ({"a\nb": np.ones(1, np.float32)}, {},
        "a name of a state_dict must be printable and have at most 256 characters, not be 'a\\nb'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path: Path, case: str) -> None:
    arrays, options, sentence = REFUSED[case]
    with pytest.raises(ModelError) as error:
        read(tmp_path, arrays, **options)
    assert str(error.value) == f"{tmp_path / 'm.safetensors'}: {sentence}"


def refusal(path: Path) -> str:
    """What is said of a file, without its path."""
    with pytest.raises(ModelError) as error:
        load(path, every_step=True)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.pt") == "the file cannot be read: No such file or directory"
    assert refusal(tmp_path / "m.h5") == (
        "a file of PyTorch must end in .safetensors, .pt, .pth, .ckpt, .bin, not in '.h5'"
    )
    for number, data in enumerate((b"", b"\x05" + bytes(7) + b"{}", b"text " * 40)):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(data)
        assert refusal(path) == "not a .safetensors file, or a damaged one"


def test_a_header_that_claims_more_than_there_is(tmp_path: Path) -> None:
    header = json.dumps(
        {"weight_ih_l0": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
    ).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert refusal(path) == "not a .safetensors file, or a damaged one"


def test_large_files_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.truncate(FILE_BYTES + 1)
    assert refusal(path) == "the file must have at most 268435456 bytes, not 268435457"


def test_without_pytorch_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "m.pt"
    path.write_bytes(b"anything")
    assert refusal(path) == (
        "to read .pt files, PyTorch is needed, which is not installed: install the extra, pip "
        "install 'gatefold[train]', or save the state_dict as .safetensors"
    )


def test_old_pytorch_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("torch")
    old.__version__ = "2.5.1+cpu"
    monkeypatch.setitem(sys.modules, "torch", old)
    path = tmp_path / "m.pth"
    path.write_bytes(b"anything")
    assert refusal(path) == (
        "to read .pth files safely, PyTorch must be at least 2.6, not 2.5.1+cpu"
    )


GRID = list(itertools.product((1, 2, 3), (True, False), (False, True), (0, 2)))
STEPS = ("every", "last", "final")


@pytest.mark.torch
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("layers", "bias", "both", "projection"), GRID)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_grid(
    tmp_path: Path, layers: int, bias: bool, both: bool, projection: int, steps: str
) -> None:
    """Random models: all of nn.LSTM, two Linear layers, in float32, from each kind of file."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    seed = 3 * GRID.index((layers, bias, both, projection)) + STEPS.index(steps)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    n, hidden = (int(v) for v in rng.integers(3, 7, 2))
    outputs = (2 if both else 1) * (projection or hidden)
    batch_first = bool(rng.integers(2))
    net = torch.nn.ModuleDict({
        "rnn": torch.nn.LSTM(n, hidden, layers, bias=bias, batch_first=batch_first,
                             bidirectional=both, proj_size=projection),
        "norm": torch.nn.BatchNorm1d(outputs),
        "one": torch.nn.Linear(outputs, 11, bias=bias),
        "two": torch.nn.Linear(11, 12),
    }).eval()
    torch.nn.init.uniform_(net["norm"].running_mean, -0.5, 0.5)
    torch.nn.init.uniform_(net["norm"].running_var, 0.5, 1.5)
    x = torch.randn(4, 7, n)
    with torch.no_grad():
        out, (h, _) = net["rnn"](x if batch_first else x.transpose(0, 1))
        out = out if batch_first else out.transpose(0, 1)
        if steps == "last":
            out = out[:, -1]
        elif steps == "final":
            out = torch.cat((h[-2], h[-1]), dim=1) if both else h[-1]
        flat = net["norm"](out.reshape(-1, outputs)).reshape(out.shape)
        y = torch.sigmoid(net["two"](torch.tanh(net["one"](flat)))).numpy()
    state = net.state_dict()
    name = ("m.pt", "m.safetensors", "m.ckpt", "old.pth")[seed % 4]
    path = tmp_path / name
    match name:
        case "m.safetensors":
            save_torch(state, path)
        case "m.ckpt":
            prefixed = {f"model.{key}": value for key, value in state.items()}
            torch.save({"state_dict": prefixed, "epoch": 3}, path)
        case _:
            torch.save(state, path, _use_new_zipfile_serialization=name == "m.pt")
    order = ("rnn", "norm", "one", "two") if name == "m.safetensors" else None
    model = load(
        path, every_step=steps == "every", final=steps == "final", functions=["tanh", "sigmoid"],
        order=order,
    )
    assert ("the weights are the entry 'state_dict' of a checkpoint; left out is what else it "
            "has: 'epoch'" in model.notes) == (name == "m.ckpt")
    assert np.abs(model.network.run(x.numpy()) - y).max() <= 1e-6


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_types_of_pickled_tensors(tmp_path: Path, kind: str) -> None:
    torch = pytest.importorskip("torch")
    lstm_module = torch.nn.LSTM(3, 4).to(getattr(torch, kind))
    torch.save({"model_state_dict": lstm_module.state_dict()}, tmp_path / "m.pt")
    layer = load(tmp_path / "m.pt", every_step=True).network.layers[0].directions[0]
    expected = lstm_module.weight_ih_l0.detach().to(torch.float64).numpy()
    assert np.array_equal(layer.w_x, expected)


@pytest.mark.torch
def test_order_of_pickled_modules(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    def saved(**modules: Any) -> Path:
        torch.save(torch.nn.ModuleDict(modules).state_dict(), tmp_path / "m.pt")
        return tmp_path / "m.pt"

    first, second = torch.nn.LSTM(4, 4), torch.nn.LSTM(4, 4)
    fc1, fc2 = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    # Of equal shapes and unlike the alphabet: the file's order holds.
    model = load(saved(b=first, a=second), every_step=True)
    assert np.array_equal(model.network.layers[0].directions[0].w_x, first.weight_ih_l0.detach())
    assert refusal(saved(lstm=first, fc2=fc2, fc1=fc1)) == (
        "nn.Linear 'fc2' stands before nn.Linear 'fc1' in the file, but by the numbers in their "
        "names they run the other way: give the order, all as they run, like --order lstm,fc2,fc1"
    )
    assert refusal(saved(fc=fc1, lstm=first)) == (
        "nn.Linear 'fc' must stand behind the LSTM, but stands before nn.LSTM 'lstm'; if it runs "
        "elsewhere, give all as they run, like --order fc,lstm"
    )
    model = load(saved(fc=fc1, lstm=first), every_step=True, order=["lstm", "fc"])
    assert len(model.network.head) == 1


class Unloadable:
    """Whatever runs when a pickle of it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("run",)


@pytest.mark.torch
def test_refusals_of_pickled_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.pt"
    net = torch.nn.LSTM(3, 4)
    state = net.state_dict()

    def said(value: Any, **how: Any) -> str:
        torch.save(value, path, **how)
        return refusal(path)

    run = ("which is not loaded, because that could run any code: save the model's state_dict() "
           "alone")
    assert said(net) == f"the file holds a pickled torch.nn.modules.rnn.LSTM, {run}"
    scalar = "numpy._core.multiarray.scalar"
    assert said({"a": np.float64(1)}) == f"the file holds a pickled {scalar}, {run}"
    for legacy in (False, True):
        evil = said({"x": Unloadable()}, _use_new_zipfile_serialization=not legacy)
        assert evil == f"the file holds a pickled {os.mkdir.__module__}.mkdir, {run}"
        assert not Path("run").exists()
    assert said([1]) == "the file must hold a state_dict or a checkpoint with one, not a list"
    assert said({**state, "epoch": 3}) == (
        "'epoch' must be a tensor, as all of a state_dict, not of the type int"
    )
    assert said({1: state}) == "a state_dict must have names, not 1"
    assert said({"state_dict": state, "model": state}) == (
        "the file must hold one state_dict, but has 'state_dict' and 'model'"
    )
    assert said({"a": torch.zeros(1).expand(10**9, 10**9)}) == (
        "a state_dict must have at most 16777216 numbers, not 1000000000000000000"
    )
    assert said({"a": torch.zeros(2, 2, dtype=torch.int8)}) == (
        "'a' must be of float16, bfloat16, float32 or float64, not int8"
    )
    assert said({"a": torch.zeros(2, 2).to_sparse()}) == (
        "'a' must be a dense tensor, not torch.sparse_coo on 'cpu'"
    )
    assert said({"a": torch.zeros(2, 2, device="meta")}) == (
        "'a' must be a dense tensor, not torch.strided on 'meta'"
    )
    torch.save(state, path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as source, \
            zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            target.writestr(entry, source.read(entry))
    assert refusal(tmp_path / "z.pt") == (
        "the archive's entries must not be compressed, but 'm/data.pkl' is"
    )
    with zipfile.ZipFile(tmp_path / "s.pt", "w") as target:
        target.writestr("s/constants.pkl", b"")
    assert refusal(tmp_path / "s.pt") == (
        "the file is a TorchScript program: save the model's state_dict()"
    )
    disks = bytearray(data)  # an archive in two parts
    disks[data.rindex(b"PK\6\7") + 16] = 2
    later = bytearray(data)  # the first entry asks for a version of zip that there never was
    later[data.index(b"PK\1\2") + 6] = 255
    for damaged in (
        b"", b"text " * 40, data[: len(data) // 2], data[:200] + data[260:], disks, later,
    ):
        path.write_bytes(damaged)
        assert refusal(path) == "not a file of torch.save, or a damaged one"
