"""ONNX graphs that mean something else than a network can be: each is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.onnx_builder import node, refusal, save
from tests.onnx_graphs import (
    MERGED,
    PARTS,
    TWO,
    TWO_TURNED,
    H,
    N,
    O,
    T,
    X,
    arrays,
    both,
    flip,
    single,
    squeezed,
    turned,
)

ONE = [X, single(0, "xt", ""), squeezed("Y", "s"), flip("s", "bt")]
LAST = squeezed("Yh", "q", "zero")
END = flip("s", "y")
BATCH, TIME = "axis 0 of input 'x'", "axis 1 of input 'x'"
LENGTHS: dict[str, Any] = {"others": ["lengths"]}


def state(name: str, **attributes: Any) -> list[Any]:
    """An LSTM that begins with the hidden states of that name."""
    return [
        X,
        node("LSTM", ["xt", "w_0", "r_0", "b_0", "", name], ["Y"], hidden_size=H, **attributes),
        squeezed("Y", "s"), END,
    ]


def inner(kind: str, **attributes: Any) -> Any:
    """A node with a graph of its own."""
    graph = helper.make_graph([], "inner", [], [])
    name = {"If": "then_branch"}.get(kind, "body")
    return node(kind, ["x"], ["y"], **{name: graph}, **attributes)


LOOP = (
    "a loop cannot be read; it may be an LSTM that its exporter did not recognise, as with a hard "
    "sigmoid or masking of Keras through tf2onnx"
)
SIBLINGS = "only the two directions of one LSTM layer can be put together"

CASES: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "loop": ([inner("Loop")], {}, f"Loop node 'Loop_y': {LOOP}"),
    "scan": ([inner("Scan", num_scan_inputs=1)], {}, f"Scan node 'Scan_y': {LOOP}"),
    "if": ([inner("If")], {}, "If node 'If_y': a choice at run time cannot be read"),
    "gru": (
        [node("GRU", ["x", "w_0", "r_0"], ["y"])],
        {},
        "GRU node 'GRU_y': the operator is not supported",
    ),
    "attention": (
        [*ONE, node("Expand", ["bt", "one"], ["y"])],
        {},
        "Expand node 'Expand_y': the operator is not supported",
    ),
    # Initial states and lengths.
    "state-per-sequence": (
        state("perseq"), {"x": [2, T, N]},
        "LSTM node 'LSTM_Y': initial_h must be the same for every sequence of the batch",
    ),
    "state-shape": (
        state("wrong"), {},
        f"LSTM node 'LSTM_Y': initial_h must have the shape [1, B, {H}], not [1, 1, 3]",
    ),
    "state-of-another-batch": (
        state("perseq"), {"x": [3, T, N]},
        f"LSTM node 'LSTM_Y': initial_h must have the shape [1, B, {H}], not [1, 2, {H}]",
    ),
    "state-nan": (
        state("nan"), {},
        "LSTM node 'LSTM_Y': initial_h must be finite, but element [0, 0, 1] is nan",
    ),
    "state-integers": (
        state("wholes"), {},
        "LSTM node 'LSTM_Y': initial_h must be of a float type, not int64",
    ),
    "state-computed": (
        [node("Tanh", ["h0"], ["h1"]), *state("h1")], {"others": ["h0"]},
        "LSTM node 'LSTM_Y': initial_h must be constant or an input of the model, not 'h1'",
    ),
    "encoder-and-decoder": (
        [X, single(1, "xt", "e"), *state("eYh")[1:]], {},
        "LSTM node 'LSTM_Y': initial_h must be constant or an input of the model, not 'eYh'",
    ),
    "projected": (
        [X, node("Shape", ["x"], ["sh"]), node("Slice", ["sh", "zero", "one"], ["n"]),
         node("Concat", ["one", "n", "seven"], ["shape"], axis=0),
         node("Expand", ["nought", "shape"], ["c00"]),
         node("Slice", ["c00", "zero", "one", "zero"], ["c0"]),
         node("LSTM", ["xt", "w_0", "r_0", "b_0", "", "", "c0"], ["Y"], hidden_size=H),
         squeezed("Y", "s"), END], {},
        f"LSTM node 'LSTM_Y': initial_c must have the shape [1, B, {H}], not [?, {BATCH}, 7]; "
        "PyTorch's exporter writes such a graph for proj_size, without the right weights",
    ),
    "lengths-constant": (
        [X, single(0, "xt", "", "four"), squeezed("Y", "s"), END], {"x": [1, T, N]},
        "LSTM node 'LSTM_Y': constant sequence_lens must be all steps of X, 6, not [4]",
    ),
    "lengths-of-unknown": (
        [X, single(0, "xt", "", "four"), squeezed("Y", "s"), END], {},
        "LSTM node 'LSTM_Y': constant sequence_lens must be all steps of X, whose number the file "
        "does not say, not [4]",
    ),
    "lengths-computed": (
        [X, node("Sub", ["lengths", "four"], ["l"]), single(0, "xt", "", "l"), squeezed("Y", "s"),
         END], LENGTHS,
        "LSTM node 'LSTM_Y': sequence_lens must be an input of the model or all steps of X, not "
        "'l'",
    ),
    "last-of-padded": (
        [X, single(0, "xt", "", "lengths"), node("Gather", ["Y", "last"], ["y"], axis=0)], LENGTHS,
        "Gather node 'Gather_y': the last step of padded sequences is not their own last one; the "
        "model must take its final state, Y_h",
    ),
    "turned-with-padding": (
        [X, turned("xt", "xr"), single(0, "xr", "", "lengths"), squeezed("Y", "s"), END], LENGTHS,
        "LSTM node 'LSTM_Y': sequence_lens must be absent, as before, not 'lengths'",
    ),
    "padding-turned": (
        [X, single(0, "xt", "", "lengths"), turned("Y", "Yr"), squeezed("Yr", "s"), END], LENGTHS,
        "Slice node 'Slice_Yr': the lengths of sequences must be 'lengths', as before, not the "
        "longest",
    ),
    "padding-forgotten": (
        [X, single(0, "xt", "", "lengths"), squeezed("Y", "x2"),
         node("LSTM", ["x2", "w3", "r3", "b3"], ["zY"], hidden_size=H), squeezed("zY", "s"), END],
        LENGTHS,
        "LSTM node 'LSTM_zY': sequence_lens must be 'lengths', as before, not absent",
    ),
    "sequences-part": (
        [X, node("ReverseSequence", ["xt", "four"], ["xr"]), single(0, "xr", ""),
         squeezed("Y", "s"), END], {"x": [1, T, N]},
        "ReverseSequence node 'ReverseSequence_xr': sequence_lens must be an input of the model or "
        "all steps of the data",
    ),
    # Directions.
    "other-order": (
        [*TWO, node("Concat", ["b", "f"], ["y"], axis=-1)], {},
        "Concat node 'Concat_y': of a layer's two directions, the forward one must come first",
    ),
    "two-forward": (
        [X, single(0, "xt", "f"), single(1, "xt", "b"), squeezed("fY", "f"), squeezed("bY", "b"),
         node("Concat", ["f", "b"], ["y"], axis=-1)], {},
        f"Concat node 'Concat_y': {SIBLINGS}",
    ),
    "residual": (
        [*ONE[:3], node("LSTM", ["s", "w3", "r3", "b3"], ["zY"], hidden_size=H),
         squeezed("zY", "z"), node("Add", ["s", "z"], ["y"])], {},
        f"Add node 'Add_y': {SIBLINGS}",
    ),
    "input-added": (
        [X, single(0, "xt", ""), squeezed("Y", "s"), node("Add", ["s", "xt"], ["y"])], {},
        "Add node 'Add_y': only outputs of LSTM layers can be put together",
    ),
    "times-mixed": (
        [*TWO_TURNED[:4], squeezed("fY", "f"), squeezed("bY", "b"),
         node("Add", ["f", "b"], ["y"])], {},
        "Add node 'Add_y': the two directions' outputs must be in the same order of time",
    ),
    "axes-mixed": (
        [*TWO, node("Mul", ["f", "bs"], ["y"])], {},
        "Mul node 'Mul_y': the two directions' axes must be alike, not "
        f"[{BATCH}, {TIME}, {H} hidden units] and [{TIME}, {BATCH}, {H} hidden units]",
    ),
    "difference": (
        [X, both(), *PARTS, node("Sub", ["f", "b"], ["y"])], {},
        "Sub node 'Sub_y': a difference of two parts of the data is not supported",
    ),
    "one-scaled": (
        [X, both(), *PARTS, node("Mul", ["f", "two"], ["f2"]), node("Add", ["f2", "b"], ["y"])], {},
        "Add node 'Add_y': the two directions must be put together before they are scaled",
    ),
    "mean-over-time": (
        [*ONE, node("ReduceMean", ["bt"], ["y"], axes=[1])], {},
        "ReduceMean node 'ReduceMean_y': only the two directions of an LSTM layer can be added, "
        f"averaged or multiplied, not the axes [{TIME}]",
    ),
    "other-direction": (
        [X, both(), node("Gather", ["Y", "k"], ["y"], axis=1)], {},
        "Gather node 'Gather_y': only the last time step or one direction of an LSTM's output can "
        "be picked, not element 2 of the axis 2 directions",
    ),
    "first-step": (
        [*ONE, node("Gather", ["bt", "first"], ["y"], axis=1)], {},
        "Gather node 'Gather_y': only the last time step or one direction of an LSTM's output can "
        f"be picked, not element 0 of the axis {TIME}",
    ),
    "first-of-forward": (
        [X, both(), *MERGED, node("Gather", ["bt", "first"], ["s"], axis=1),
         node("Slice", ["s", "zero", "h", "one"], ["y"])], {},
        "Slice node 'Slice_y': of the first time step of an LSTM's output only the reverse "
        "direction can be used",
    ),
    "first-of-both": (
        [X, both(), *MERGED, node("Gather", ["bt", "first"], ["q"], axis=1),
         node("Gemm", ["q", "ew"], ["y"])], {},
        "Gemm node 'Gemm_y': of the first time step of an LSTM's output only the reverse "
        "direction can be used",
    ),
    "first-as-output": (
        [X, both(), *MERGED, node("Gather", ["bt", "first"], ["y"], axis=1)], {},
        "output 'y' must not be the first step of both directions",
    ),
    "directions-apart": (
        [X, both(), node("MatMul", ["Y", "dw"], ["y"])], {},
        f"MatMul node 'MatMul_y': the last axis must be the features, but is {H} hidden units",
    ),
    "directions-turned-round": (
        [X, both(), node("Transpose", ["Y"], ["t"], perm=[2, 0, 3, 1]),
         node("Reshape", ["t", "keep2"], ["y"])], {},
        "output 'y' must have the features as its last axis and no merged axes, but its axes are "
        f"[{BATCH}, {TIME}, {H} hidden units * 2 directions]",
    ),
    "both-from-the-end": (
        [X, turned("xt", "xr"), both("xr"), *MERGED, node("Identity", ["bt"], ["y"])], {},
        "LSTM node 'LSTM_Y': an LSTM of two directions must not read its input from the end",
    ),
    "batch-turned": (
        [X, turned("xt", "xr", "one"), single(0, "xr", ""), squeezed("Y", "s"), END], {},
        "LSTM node 'LSTM_Y': only the steps of X can be reversed before it, not another axis",
    ),
    "features-turned": (
        [*ONE, turned("bt", "y", "pair")], {},
        f"Slice node 'Slice_y': only time steps can be reversed, not the axis {H} hidden units",
    ),
    "states-mixed": (
        [*ONE[:3], node("LSTM", ["s", "w3", "r3", "b3"], ["", "zYh"], hidden_size=H),
         node("Concat", ["Yh", "zYh"], ["hn"], axis=0), node("MatMul", ["hn", "dw"], ["y"])], {},
        "MatMul node 'MatMul_y': the final states of several layers must be picked apart first",
    ),
    # What is in front and behind.
    "dense-before": (
        [node("MatMul", ["x", "square"], ["xd"]), flip("xd", "xt"), *ONE[1:3], END], {},
        "MatMul node 'MatMul_xd': a dense layer must come after the LSTM, not before it",
    ),
    "function-before": (
        [node("Relu", ["x"], ["xd"]), flip("xd", "xt"), *ONE[1:3], END], {},
        "Relu node 'Relu_xd': a function in front of the LSTM is not supported",
    ),
    "lstm-after-dense": (
        [*ONE[:3], node("MatMul", ["s", "dd"], ["d"]),
         node("LSTM", ["d", "w3", "r3", "b3"], ["y"], hidden_size=H)], {},
        "LSTM node 'LSTM_y': an LSTM must not follow a dense layer",
    ),
    "lstm-after-function": (
        [*ONE[:3], node("Relu", ["s"], ["d"]),
         node("LSTM", ["d", "w3", "r3", "b3"], ["y"], hidden_size=H)], {},
        "LSTM node 'LSTM_y': an LSTM must not follow a dense layer",
    ),
    "scaled-over-time": (
        [node("Mul", ["x", "steps"], ["xs"]), flip("xs", "xt"), *ONE[1:3], END], {},
        "LSTM node 'LSTM_Y': what scales X must be constant along time and batch",
    ),
    "scaled-two-ways": (
        [node("Mul", ["x", "steps"], ["x1"]), node("Mul", ["x1", "scale"], ["x2"]),
         flip("x2", "xt"), *ONE[1:3], END], {},
        "Mul node 'Mul_x2': the data must be scaled along its features only",
    ),
    "scale-too-long": (
        [node("Mul", ["x", "gamma2"], ["xs"]), flip("xs", "xt"), *ONE[1:3], END], {},
        "Mul node 'Mul_xs': the constant must have one element, or one for each feature, but its "
        f"shape is [{O}], for the axes [{BATCH}, {TIME}, axis 2 of input 'x' (size {N})]",
    ),
    "divided-by-zero": (
        [node("Div", ["x", "nought"], ["xs"]), flip("xs", "xt"), *ONE[1:3], END], {},
        "Div node 'Div_xs': what scales the data must be finite",
    ),
    "division-of-a-constant": (
        [node("Div", ["two", "x"], ["xs"]), flip("xs", "xt"), *ONE[1:3], END], {},
        "Div node 'Div_xs': only a division by a constant is supported",
    ),
    "norm-in-training": (
        [*ONE[:3], node("Transpose", ["s"], ["n"], perm=[0, 2, 1]),
         node("BatchNormalization", ["n", "gamma", "beta", "mean", "var"], ["y"],
              training_mode=1)], {},
        "BatchNormalization node 'BatchNormalization_y': attribute 'training_mode' must be 0, not "
        "1",
    ),
    "norm-of-time": (
        [*ONE, node("BatchNormalization", ["bt", "gamma", "beta", "mean", "var"], ["y"])], {},
        "BatchNormalization node 'BatchNormalization_y': the constant must have one element, or "
        f"one for each feature, but its shape is [{H}, 1], for the axes [{BATCH}, {TIME}, {H} "
        "hidden units]",
    ),
    "clip-above": (
        [*ONE, node("Clip", ["bt", "", "two"], ["y"])], {},
        "Clip node 'Clip_y': min and max must be numbers, the first below the second, not None and "
        "2.0",
    ),
    "softmax-over-time": (
        [*ONE, node("Softmax", ["bt"], ["y"], axis=1)], {},
        f"Softmax node 'Softmax_y': axis must be the features, not {TIME}",
    ),
    "old-softmax": (
        [*ONE[:2], node("Squeeze", ["Y"], ["s"], axes=[1]),
         node("Transpose", ["s"], ["t"], perm=[1, 2, 0]), node("Softmax", ["t"], ["y"])],
        {"opset": 11},
        "Softmax node 'Softmax_y': axis must be the last one before operator set 13",
    ),
    "dense-after-softmax": (
        [*ONE, node("Softmax", ["bt"], ["p"]), node("MatMul", ["p", "dw"], ["y"])], {},
        "MatMul node 'MatMul_y': nothing must follow Softmax",
    ),
    "scaled-argmax": (
        [*ONE, node("ArgMax", ["bt"], ["p"], axis=2), node("Mul", ["p", "two"], ["y"])], {},
        "Mul node 'Mul_y': nothing must follow ArgMax",
    ),
    "last-argmax": (
        [*ONE, node("ArgMax", ["bt"], ["y"], axis=2, select_last_index=1)], {},
        "ArgMax node 'ArgMax_y': select_last_index must be 0, not 1",
    ),
    "log-softmax": (
        [*ONE, node("LogSoftmax", ["bt"], ["y"])], {},
        "LogSoftmax node 'LogSoftmax_y': it is not supported; a model that ends in Softmax or "
        "before it is",
    ),
    "data-as-integers": (
        [node("QuantizeLinear", ["x", "two"], ["xq"]),
         node("DequantizeLinear", ["xq", "two"], ["xd"]), flip("xd", "xt"), *ONE[1:3], END], {},
        "QuantizeLinear node 'QuantizeLinear_xq': integers are supported for constant weights, "
        "not for the data",
    ),
    "cell-in-dense": (
        [*ONE[:2], squeezed("Yc", "q", "zero"), node("Gemm", ["q", "dw"], ["y"])], {},
        "Gemm node 'Gemm_y': the final cell state of an LSTM can be an output only",
    ),
    "cell-in-function": (
        [*ONE[:2], node("Tanh", ["Yc"], ["y"])], {},
        "Tanh node 'Tanh_y': the final cell state of an LSTM can be an output only",
    ),
    "parameter-shapes": (
        [X, node("LSTM", ["xt", "w_0", "r_0", "b_0", "", "", "", "db"], ["y"], hidden_size=H)], {},
        f"LSTM node 'LSTM_y': P must have the shape [1, {3 * H}], not [{O}]",
    ),
    "clashing-constants": (
        [node("Add", ["gamma", "beta2"], ["g"]), node("Mul", ["x", "g"], ["y"])], {},
        "Add node 'Add_g': the operator cannot be applied to its constant inputs, of the shapes "
        f"[{H}], [{O}]",
    ),
    # Outputs and inputs.
    "two-outputs": (
        [*ONE, node("MatMul", ["bt", "dw"], ["y"])], {"outputs": ["y", "bt"]},
        "the model must have one output beside final states, not 2: 'y', 'bt'",
    ),
    "state-of-another": (
        [*ONE[:3], END, node("LSTM", ["s", "w3", "r3", "b3"], ["", "zYh"], hidden_size=H)],
        {"outputs": ["y", "zYh"]},
        "output 'zYh' must be a final state of a layer that output 'y' depends on",
    ),
    "constant-output": (
        [*ONE[:3], END], {"outputs": ["y", "dw"]}, "output 'dw' must come from an LSTM",
    ),
    "two-inputs": (
        [*ONE[:3], node("Add", ["s", "other"], ["y"])], {"others": ["other"]},
        "the model must have one input beside states and lengths, not 2: 'x', 'other'",
    ),
    "no-output": ([*ONE[:3], END], {"outputs": []}, "the model must have an output"),
    "written-twice": (
        [*ONE[:3], node("Relu", ["s"], ["y"]), node("Tanh", ["s"], ["y"])], {},
        "tensor 'y' must be written once only",
    ),
    "circle": (
        [flip("b", "a"), flip("a", "b"), single(0, "a", ""), squeezed("Y", "s"), END], {},
        "Transpose node 'Transpose_a': reads 'b', which nothing before it writes",
    ),
    "itself": (
        [single(0, "Y", ""), squeezed("Y", "s"), END], {},
        "LSTM node 'LSTM_Y': reads 'Y', which nothing before it writes",
    ),
}

MORE: dict[str, np.ndarray] = {
    "perseq": np.arange(2 * H, dtype=np.float32).reshape(1, 2, H),
    "wrong": np.ones((1, 1, 3), np.float32),
    "nan": np.array([[[0.5, np.nan, 0.5, 0.5]]], np.float32),
    "wholes": np.ones((1, 1, H), np.int64),
    "four": np.array([4], np.int32),
    "seven": np.array([7]),
    "nought": np.array(0, np.float32),
    "k": np.array(2),
    "square": np.eye(N, dtype=np.float32),
    "dd": np.eye(H, dtype=np.float32),
    "steps": np.linspace(1, 2, T, dtype=np.float32).reshape(T, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_refuses(tmp_path: Path, case: str) -> None:
    nodes, options, text = CASES[case]
    used = {name for each in nodes for name in each.input} | set(options.get("outputs", ()))
    given = {key: array for key, array in (arrays() | MORE).items() if key in used}
    assert refusal(save(tmp_path / "m.onnx", nodes, given, **options)) == text


def test_a_state_of_the_wrong_size_is_refused_as_an_input(tmp_path: Path) -> None:
    nodes = state("h0")
    given = {name: arrays()[name] for name in ("w_0", "r_0", "b_0", "one")}
    path = save(tmp_path / "m.onnx", nodes, given, others=["h0"])
    model = onnx.load(path)
    shaped = helper.make_tensor_value_info("h0", TensorProto.FLOAT, [1, "batch", 7])
    model.graph.input[1].CopyFrom(shaped)
    path.write_bytes(model.SerializeToString())
    assert refusal(path) == (
        f"LSTM node 'LSTM_Y': initial_h must have the shape [1, B, {H}], not [1, ?, 7]"
    )
