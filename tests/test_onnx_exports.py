"""Small models as the exporters of PyTorch and of Keras wrote them, without either of the two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from golden.function import Function
from golden.lstm import Bidirectional
from golden.onnx_file import load
from tests.onnx_builder import refusal

FOLDER = Path(__file__).parent / "models" / "onnx"
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))

LOOP = (
    "a loop cannot be read; it may be an LSTM that its exporter did not recognise, as with a hard "
    "sigmoid or masking of Keras through tf2onnx"
)
REFUSED = {
    "torch-refused-projection-dynamo": "LSTM node 'node_lstm__2': initial_c must have the shape "
    "[1, B, 4], not [?, axis 0 of input 'x', 5]; PyTorch's exporter writes such a graph for "
    "proj_size, without the right weights",
    "keras-refused-hard": f"Loop node '{{}}': {LOOP}",
    "keras-refused-mask": f"Loop node '{{}}': {LOOP}",
    "keras-refused-normalization": "the model must have one input beside states and lengths, not "
    "3: {}",
}


@pytest.mark.parametrize("name", NAMES)
def test_exports_equal_their_framework(name: str) -> None:
    network = load(FOLDER / f"{name}.onnx").network
    with np.load(FOLDER / f"{name}.npz") as file:
        given = {key: file[key] for key in file.files}
    turned = "time_first" in given
    x = given["x"].swapaxes(0, 1) if turned else given["x"]
    y, ended = network.run_states(x, given.get("lengths"))
    expected = given["y0"]
    if turned and network.every_step:
        expected = expected.swapaxes(0, 1)
    if "lengths" in given:
        valid = np.arange(x.shape[1]) < given["lengths"][:, None]
        expected = np.where(valid[:, :, None], expected, 0.0)
    assert np.abs(y - expected.reshape(y.shape)).max() <= 1e-6
    assert network.every_step == (expected.ndim == 3)
    others = [given[f"y{k}"] for k in range(1, len(given)) if f"y{k}" in given]
    # PyTorch has the states of all layers and directions in one tensor, Keras one for each.
    rows = [row for each in others for row in (each if each.ndim == 3 else [each])]
    parts = [
        part
        for state, name in zip(network.state_outputs(ended), network.states, strict=True)
        for part in np.split(state, len(network.layers[int(name[4:-2])].directions), axis=1)
    ]
    assert len(rows) == len(parts)
    for row, part in zip(rows, parts, strict=True):
        assert np.abs(row - part).max() <= 1e-6


def test_there_are_exports() -> None:
    assert sum(name.startswith("torch") for name in NAMES) >= 13
    assert sum(name.startswith("keras") for name in NAMES) >= 15


@pytest.mark.parametrize("name", REFUSED)
def test_exports_that_are_refused(name: str) -> None:
    head, _, tail = REFUSED[name].partition("{}")
    text = refusal(FOLDER / f"{name}.onnx")
    assert text.startswith(head)
    assert text.endswith(tail)


@pytest.mark.parametrize(
    ("name", "merge"),
    [("both-sum", "sum"), ("both-mean", "ave"), ("both-product", "mul"), ("both", "concat")],
)
def test_merges_of_keras(name: str, merge: str) -> None:
    (layer,) = load(FOLDER / f"keras-{name}.onnx").network.layers
    assert isinstance(layer, Bidirectional)
    assert layer.merge == merge


def test_a_hard_sigmoid_is_one_function() -> None:
    """Keras writes it as a sum, a Clip and a product, which are one dense layer again."""
    (dense,) = load(FOLDER / "keras-hard-head.onnx").network.head
    assert dense.function == Function("HardSigmoid", 1 / 6, 0.0)
