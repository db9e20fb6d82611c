"""What an ONNX model gives and takes beside its data: final states, lengths; and what is noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.lstm import Bidirectional
from golden.onnx_file import load
from tests.onnx_builder import node, results, save
from tests.onnx_graphs import (
    CONCAT,
    GRAPHS,
    MERGED,
    TWO,
    H,
    N,
    T,
    X,
    arrays,
    both,
    flip,
    single,
    squeezed,
)

SECOND = node(
    "LSTM", ["bt0", "v2", "s2", "c2"], ["zY", "zYh", "zYc"], hidden_size=H,
    direction="bidirectional",
)
STACKED = [
    X, both(), node("Transpose", ["Y"], ["Yt"], perm=[0, 2, 1, 3]),
    node("Reshape", ["Yt", "keep2"], ["bt0"]), SECOND,
    node("Transpose", ["zY"], ["zt"], perm=[2, 0, 1, 3]),
    node("Reshape", ["zt", "keep2"], ["y"]),
    node("Concat", ["Yh", "zYh"], ["hn"], axis=0),
    node("Concat", ["Yc", "zYc"], ["cn"], axis=0),
]
TOP = [node("Slice", ["hn", "minus2", "end", "zero"], ["top"]),
       node("Transpose", ["top"], ["t"], perm=[1, 0, 2]), node("Reshape", ["t", "keep"], ["q"]),
       node("Gemm", ["q", "ew", "db"], ["y"])]


def written(path: Path, nodes: list[Any], **options: Any) -> Path:
    used = {name for each in nodes for name in each.input}
    given = {key: array for key, array in (arrays() | MORE).items() if key in used}
    return save(path, nodes, given, **options)


MORE = {"keep": np.array([0, -1]), "k": np.array([-2, -1])}
ONE = [X, single(0, "xt", "")]
Y = [squeezed("Y", "s"), flip("s", "y")]
TWO_STATES = [squeezed(f"{d}Y{k}", f"{d}{k}", "zero") for d in "fb" for k in "hc"]

# Nodes, outputs, and the final states that the network gives beside its output.
STATES: dict[str, tuple[list[Any], list[str], tuple[str, ...]]] = {
    "all": ([*ONE, *Y], ["y", "Yh", "Yc"], ("lstm0.h", "lstm0.c")),
    "other-order": ([*ONE, *Y], ["Yc", "y", "Yh"], ("lstm0.c", "lstm0.h")),
    "states-only": (ONE, ["Yh", "Yc"], ("lstm0.c",)),
    "states-only-turned-round": (ONE, ["Yc", "Yh"], ("lstm0.c",)),
    "cell-only": (ONE, ["Yc"], ("lstm0.c",)),
    "hidden-only": (ONE, ["Yh"], ()),
    "head": ([*ONE, squeezed("Yh", "q", "zero"), node("Gemm", ["q", "dw", "db"], ["y"])],
             ["y", "Yh", "Yc"], ("lstm0.h", "lstm0.c")),
    "last-and-states": ([*ONE, squeezed("Y", "s"), node("Gather", ["s", "last"], ["y"], axis=0)],
                        ["y", "Yh", "Yc"], ("lstm0.h", "lstm0.c")),
    "both": ([X, both(), *MERGED, node("MatMul", ["bt", "ew"], ["y"])], ["y", "Yh", "Yc"],
             ("lstm0.h", "lstm0.c")),
    "both-states-only": ([X, both()], ["Yh", "Yc"], ("lstm0.c",)),
    "stacked": (STACKED, ["y", "hn", "cn"], ("lstm0.h", "lstm1.h", "lstm0.c", "lstm1.c")),
    "stacked-states-only": (STACKED, ["hn", "cn"], ("lstm0.h", "lstm0.c", "lstm1.c")),
    "stacked-one": (STACKED, ["zYh"], ()),
    "stacked-top": ([*STACKED[:5], STACKED[7], *TOP], ["y", "hn"], ("lstm0.h", "lstm1.h")),
    "two": ([*TWO, CONCAT, *TWO_STATES], ["y", "fh", "fc", "bh", "bc"], ("lstm0.h", "lstm0.c")),
}


@pytest.mark.parametrize("name", STATES)
def test_final_states_equal_onnx_runtime(tmp_path: Path, name: str) -> None:
    nodes, outputs, states = STATES[name]
    network = load(written(tmp_path / "m.onnx", nodes, outputs=outputs)).network
    assert network.states == states
    x = np.random.default_rng(0).uniform(-2, 2, (3, T, N)).astype(np.float32)
    given = dict(zip(outputs, results(tmp_path / "m.onnx", x=x), strict=True))
    y, ended = network.run_states(x)
    ours = dict(zip(states, network.state_outputs(ended), strict=True))

    def rows(array: np.ndarray) -> np.ndarray:
        return array.swapaxes(0, 1).reshape(3, -1) if array.ndim == 3 else array

    if "y" in given:
        assert np.abs(y - given["y"]).max() <= 1e-6
    top = f"lstm{len(network.layers) - 1}.h"
    for k in "hc":
        final = {f"lstm0.{k}": given.get(f"Y{k}"), f"lstm1.{k}": given.get(f"zY{k}")}
        if f"{k}n" in given:
            final = {f"lstm{n}.{k}": given[f"{k}n"][2 * n : 2 * n + 2] for n in range(2)}
        if f"f{k}" in given:
            final = {f"lstm0.{k}": np.stack([given[f"f{k}"], given[f"b{k}"]])}
        for state, array in final.items():
            if array is not None:
                assert state in ours or state == top
                assert np.abs(ours.get(state, y) - rows(array)).max() <= 1e-6


LENGTHS: dict[str, tuple[list[Any], str]] = {
    "final": ([X, both(lengths="l0"), node("Transpose", ["Yh"], ["t"], perm=[1, 0, 2]),
               node("Reshape", ["t", "keep"], ["y"])], "final"),
    "every": ([X, both(lengths="l0"), *MERGED, node("Identity", ["bt"], ["y"])], "every"),
    "stacked": ([X, single(0, "xt", "", "l0"), squeezed("Y", "x2"),
                 node("LSTM", ["x2", "w3", "r3", "b3", "l0"], ["", "zYh"], hidden_size=H,
                      direction="reverse"), squeezed("zYh", "y", "zero")], "final"),
    "turned": ([X, node("Cast", ["l0"], ["l64"], to=7),
                node("ReverseSequence", ["xt", "l64"], ["xr"]),
                single(0, "xt", "f", "l0"), single(1, "xr", "b", "l0"),
                squeezed("fY", "fs"), squeezed("bY", "bs0"),
                node("ReverseSequence", ["bs0", "l64"], ["bs"]),
                flip("fs", "f"), flip("bs", "b"), CONCAT], "every"),
    "last": ([X, node("Cast", ["l0"], ["l64"], to=7),
              node("ReverseSequence", ["xt", "l64"], ["xr"]), single(1, "xr", "b", "l0"),
              squeezed("bYh", "y", "zero")], "final"),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_equal_onnx_runtime(tmp_path: Path, name: str) -> None:
    nodes, form = LENGTHS[name]
    lengths = node("Identity", ["lengths"], ["l0"])
    path = written(tmp_path / "m.onnx", [lengths, *nodes], others=["lengths"])
    trained = load(path)
    assert any("lengths of sequences from the data, input 'lengths'" in n for n in trained.notes)
    rng = np.random.default_rng(1)
    count = 5
    x = rng.uniform(-2, 2, (count, T, N)).astype(np.float32)
    steps = np.array([T, 1, 3, 2, 5], np.int32)
    (expected,) = results(path, x=x, lengths=steps)
    ours = trained.network.run(x, steps)
    assert ours.shape == expected.shape
    assert trained.network.every_step == (form == "every")
    if form == "every":
        valid = np.arange(T) < steps[:, None]
        expected = np.where(valid[:, :, None], expected, 0.0)
    assert np.abs(ours - expected).max() <= 1e-6


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sum", ()),
        ("mlp", ()),
        ("learned-state", ()),
        (
            "dropout-cast",
            (
                "Cast node 'Cast_x16' is left out; nothing is rounded to DOUBLE",
                "Cast node 'Cast_x32' is left out; nothing is rounded to FLOAT",
                "Dropout node 'Dropout_d' is left out, as it is once training is over",
            ),
        ),
        (
            "scaled",
            (
                "Sub node 'Sub_x1' is taken into the layers next to it",
                "Div node 'Div_x2' is taken into the layers next to it",
            ),
        ),
        (
            "norm-behind",
            (
                "BatchNormalization node 'BatchNormalization_n' is taken into the weights of the "
                "dense layer before it",
            ),
        ),
        (
            "scaled-behind",
            (
                "Mul node 'Mul_b1' is taken into the layers next to it",
                "Add node 'Add_y' is taken into the layers next to it",
                "output 'y' is scaled by a dense layer of its own",
            ),
        ),
        (
            "relu-of-lstm",
            (
                "Relu node 'Relu_rl' becomes a dense layer of its own, each of whose outputs takes "
                "one input",
            ),
        ),
        ("argmax", ("ArgMax node 'ArgMax_y' makes the Softmax before it of no effect",)),
    ],
)
def test_notes(tmp_path: Path, name: str, expected: tuple[str, ...]) -> None:
    nodes = GRAPHS[name]
    assert load(written(tmp_path / "m.onnx", nodes)).notes == expected


def test_notes_of_outputs(tmp_path: Path) -> None:
    cell = load(written(tmp_path / "c.onnx", ONE, outputs=["Yc"]))
    assert cell.notes == (
        "output 'Yc' is a final cell state; the final hidden states of its layer are the network's "
        "output, and the cell states come with them",
    )
    assert cell.network.run(np.zeros((1, 2, N))).shape == (1, H)
    raw = load(written(tmp_path / "y.onnx", [X, both()], outputs=["Y"]))
    assert raw.notes == (
        "output 'Y' has the two directions on an axis of their own; here the features of the one "
        "follow those of the other",
    )
    step = load(written(tmp_path / "s.onnx", [*ONE, *Y], x=["batch", 1, N]))
    assert step.notes == (
        "the input has one step; the network takes as many as there are and gives an output at "
        "each",
    )
    assert step.network.every_step


def test_a_coupled_gate_is_noted(tmp_path: Path) -> None:
    nodes = [X, single(0, "xt", "", input_forget=1), *Y]
    trained = load(written(tmp_path / "m.onnx", nodes))
    assert trained.notes == (
        "LSTM node 'LSTM_Y' has a forget gate of 1 minus its input gate, in the form of weights "
        "with their signs turned",
    )


def test_directions_of_two_nodes_are_one_layer(tmp_path: Path) -> None:
    network = load(written(tmp_path / "m.onnx", [*TWO, CONCAT])).network
    (layer,) = network.layers
    assert isinstance(layer, Bidirectional)
    w = arrays()["w2"]
    np.testing.assert_array_equal(layer.forward.w_x[:H], w[0, :H])
    np.testing.assert_array_equal(layer.backward.w_x[:H], w[1, :H])
