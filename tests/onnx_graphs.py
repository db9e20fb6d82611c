"""ONNX graphs around LSTMs, batch first, of one input x and one output y, and their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.onnx_builder import node

N, H, O, T = 3, 4, 5, 6  # noqa: E741 - the letters of the documentation
I64 = np.int64
START, END = -(2**63), 2**63 - 1

Array = np.ndarray
Graph = tuple[list[Any], dict[str, Array]]


def ints(*values: int) -> Array:
    return np.array(values, dtype=I64)


def arrays(seed: int = 0) -> dict[str, Array]:
    """Weights of two layers of two directions, and whatever else the graphs below name."""
    rng = np.random.default_rng(seed)

    def some(*shape: int, scale: float = 0.6) -> Array:
        return rng.uniform(-scale, scale, shape).astype(np.float32)

    given = {
        "w2": some(2, 4 * H, N), "r2": some(2, 4 * H, H), "b2": some(2, 8 * H),
        "v2": some(2, 4 * H, 2 * H), "s2": some(2, 4 * H, H), "c2": some(2, 8 * H),
        "w3": some(1, 4 * H, H), "r3": some(1, 4 * H, H), "b3": some(1, 8 * H),
        "dw": some(H, O), "db": some(O), "ew": some(2 * H, O), "fw": some(O, 3), "fb": some(3),
        "scale": some(N) + 1, "shift": some(N), "hscale": some(H) + 1, "hshift": some(H),
        "gamma": some(H) + 1, "beta": some(H), "mean": some(H), "var": some(H) ** 2 + 0.3,
        "gamma2": some(O) + 1, "beta2": some(O), "mean2": some(O), "var2": some(O) ** 2 + 0.3,
        "two": np.array(2, np.float32), "half": np.array(0.5, np.float32),
        "zero": ints(0), "one": ints(1), "last": np.array(-1), "first": np.array(0),
        "minus": ints(-1), "start": ints(START), "end": ints(END), "h": ints(H), "hh": ints(2 * H),
        "keep2": ints(0, 0, -1), "k1": np.array(1), "k0": np.array(0), "axes01": ints(0, 1),
        "minus2": ints(-2), "pair": ints(2), "flat": ints(-1, O), "three": ints(3),
        "hw": some(1, 1, H),
    }
    for k in range(2):
        for name in "wrb":
            given[f"{name}_{k}"] = given[f"{name}2"][k : k + 1]
    return given


def flip(source: str, target: str) -> Any:
    return node("Transpose", [source], [target], perm=[1, 0, 2])


def both(x: str = "xt", prefix: str = "", names: str = "wrb", lengths: str = "") -> Any:
    """A bidirectional LSTM node; its outputs are Y, Yh and Yc."""
    return node(
        "LSTM", [x, *(f"{k}2" for k in names), *([lengths] if lengths else [])],
        [f"{prefix}Y", f"{prefix}Yh", f"{prefix}Yc"], hidden_size=H, direction="bidirectional",
    )


def single(which: int, x: str, prefix: str, lengths: str = "", **attributes: Any) -> Any:
    """An LSTM node with the weights of one of the directions."""
    return node(
        "LSTM", [x, *(f"{k}_{which}" for k in "wrb"), *([lengths] if lengths else [])],
        [f"{prefix}Y", f"{prefix}Yh", f"{prefix}Yc"], hidden_size=H, **attributes,
    )


def squeezed(source: str, target: str, axis: str = "one") -> Any:
    return node("Squeeze", [source, axis], [target])


def turned(source: str, target: str, axis: str = "zero") -> Any:
    return node("Slice", [source, "minus", "start", axis, "minus"], [target])


X = flip("x", "xt")
MERGED = [
    node("Transpose", ["Y"], ["Yt"], perm=[2, 0, 1, 3]),
    node("Reshape", ["Yt", "keep2"], ["bt"]),
]
PARTS = [
    node("Split", ["Y"], ["f4", "b4"], axis=1),
    squeezed("f4", "f3"), squeezed("b4", "b3_"), flip("f3", "f"), flip("b3_", "b"),
]
TWO = [
    X, single(0, "xt", "f"), single(1, "xt", "b", direction="reverse"),
    squeezed("fY", "fs"), squeezed("bY", "bs"), flip("fs", "f"), flip("bs", "b"),
]
TWO_TURNED = [
    X, single(0, "xt", "f"), turned("xt", "xr"), single(1, "xr", "b"),
    squeezed("fY", "fs"), squeezed("bY", "bs0"), turned("bs0", "bs"),
    flip("fs", "f"), flip("bs", "b"),
]
# Lengths as exporters of TensorFlow models compute them: the number of steps, once for each batch.
FULL = [
    node("Shape", ["xt"], ["full"]),
    node("Slice", ["full", "zero", "one"], ["steps"]),
    node("Slice", ["full", "one", "pair"], ["count"]),
    node("Tile", ["steps", "count"], ["lens"]),
]
CONCAT = node("Concat", ["f", "b"], ["y"], axis=-1)
ONLY = [X, single(0, "xt", ""), squeezed("Y", "s"), flip("s", "bt")]
LAST = squeezed("Yh", "q", "zero")
BACK = [X, turned("xt", "xr"), single(0, "xr", "")]

GRAPHS: dict[str, list[Any]] = {
    "both": [X, both(), *MERGED, node("MatMul", ["bt", "ew"], ["p"]),
             node("Add", ["p", "db"], ["y"])],
    "both-last": [X, both(), *MERGED, node("Gather", ["bt", "last"], ["q"], axis=1),
                  node("Gemm", ["q", "ew", "db"], ["y"])],
    "both-stacked": [X, both(), node("Transpose", ["Y"], ["Yt"], perm=[0, 2, 1, 3]),
                     node("Reshape", ["Yt", "keep2"], ["x2"]),
                     both("x2", "z", "vsc"),
                     node("Transpose", ["zY"], ["zt"], perm=[2, 0, 1, 3]),
                     node("Reshape", ["zt", "keep2"], ["y"])],
    "both-final": [X, both(), node("Gather", ["Yh", "k0"], ["f"], axis=0),
                   node("Gather", ["Yh", "k1"], ["b"], axis=0),
                   node("Concat", ["f", "b"], ["q"], axis=1),
                   node("Gemm", ["q", "ew", "db"], ["y"])],
    "both-final-transposed": [X, both(), node("Transpose", ["Yh"], ["t"], perm=[1, 0, 2]),
                              node("Flatten", ["t"], ["q"]),
                              node("Gemm", ["q", "ew"], ["y"])],
    "sum": [X, both(), *PARTS, node("Add", ["f", "b"], ["y"])],
    "sum-turned-round": [X, both(), *PARTS, node("Add", ["b", "f"], ["y"])],
    "mean": [X, both(), *PARTS, node("Add", ["f", "b"], ["s"]), node("Div", ["s", "two"], ["y"])],
    "mean-half": [X, both(), *PARTS, node("Add", ["f", "b"], ["s"]),
                  node("Mul", ["half", "s"], ["y"])],
    "product": [X, both(), *PARTS, node("Mul", ["f", "b"], ["y"])],
    "reduce-sum": [X, both(), node("ReduceSum", ["Y", "one"], ["s"], keepdims=0), flip("s", "y")],
    "reduce-mean": [X, both(), node("ReduceMean", ["Y"], ["s"], axes=[1], keepdims=0),
                    flip("s", "y")],
    "reduce-nothing": [X, both(), node("ReduceSum", ["Y"], ["Y1"], noop_with_empty_axes=1),
                       node("ReduceSum", ["Y1", "one"], ["s"], keepdims=0, noop_with_empty_axes=1),
                       flip("s", "y")],
    "reduce-product": [X, both(), node("ReduceProd", ["Y"], ["s4"], axes=[1]),
                       squeezed("s4", "s"), flip("s", "y")],
    "reduce-final": [X, both(), node("ReduceSum", ["Yh", "zero"], ["y"], keepdims=0)],
    "halves": [X, both(), *MERGED, node("Slice", ["bt", "zero", "h", "pair"], ["f"]),
               node("Slice", ["bt", "h", "end", "pair"], ["b"]), node("Add", ["f", "b"], ["y"])],
    "forward-half": [X, both(), *MERGED, node("Slice", ["bt", "zero", "h", "pair"], ["y"])],
    "backward-only": [X, both(), node("Gather", ["Y", "k1"], ["s"], axis=1), flip("s", "y")],
    "backward-first": [X, both(), node("Gather", ["Y", "k1"], ["s"], axis=1),
                       node("Gather", ["s", "k0"], ["q"], axis=0),
                       node("Gemm", ["q", "dw", "db"], ["y"])],
    "backward-last": [X, both(), node("Gather", ["Y", "k1"], ["s"], axis=1),
                      node("Gather", ["s", "last"], ["q"], axis=0),
                      node("Gemm", ["q", "dw", "db"], ["y"])],
    "both-ends": [X, both(), *MERGED, node("Gather", ["bt", "last"], ["e"], axis=1),
                  node("Slice", ["e", "zero", "h", "one"], ["f"]),
                  node("Gather", ["bt", "first"], ["s"], axis=1),
                  node("Slice", ["s", "h", "end", "one"], ["b"]),
                  node("Concat", ["f", "b"], ["y"], axis=1)],
    "both-first": [X, both(), *MERGED, node("Slice", ["bt", "zero", "one", "one"], ["s"]),
                   node("Split", ["s"], ["f", "b"], axis=2), squeezed("b", "y")],
    "both-layers": [X, both(), node("Transpose", ["Y"], ["Yt"], perm=[0, 2, 1, 3]),
                    node("Reshape", ["Yt", "keep2"], ["x2"]), both("x2", "z", "vsc"),
                    node("Concat", ["Yh", "zYh"], ["hn"], axis=0),
                    node("Reshape", ["hn", "layered"], ["h4"]),
                    node("Gather", ["h4", "last"], ["top"], axis=0),
                    node("Transpose", ["top"], ["t"], perm=[1, 0, 2]),
                    node("Flatten", ["t"], ["y"])],
    "two": [*TWO, CONCAT],
    "two-sum": [*TWO, node("Add", ["f", "b"], ["y"])],
    "two-final": [*TWO, squeezed("fYh", "fh", "zero"), squeezed("bYh", "bh", "zero"),
                  node("Concat", ["fh", "bh"], ["y"], axis=1)],
    "two-ends": [*TWO_TURNED, node("Gather", ["f", "last"], ["fe"], axis=1),
                 node("Gather", ["b", "first"], ["be"], axis=1),
                 node("Concat", ["fe", "be"], ["y"], axis=1)],
    "two-turned": [*TWO_TURNED, CONCAT],
    "two-turned-mean": [*TWO_TURNED, node("Add", ["f", "b"], ["s"]),
                        node("Div", ["s", "two"], ["y"])],
    "two-sequences": [
        X, *FULL, node("ReverseSequence", ["xt", "lens"], ["xr"], time_axis=0, batch_axis=1),
        single(0, "xt", "f"), single(1, "xr", "b"),
        squeezed("fY", "fs"), squeezed("bY", "bs"), flip("fs", "f"), flip("bs", "br"),
        node("ReverseSequence", ["br", "lens"], ["b"], time_axis=1, batch_axis=0), CONCAT,
    ],
    "full-lengths": [X, *FULL, node("Cast", ["lens"], ["lens32"], to=TensorProto.INT32),
                     single(0, "xt", "", "lens32"), LAST, node("Gemm", ["q", "dw"], ["y"])],
    "backwards": [*BACK, squeezed("Y", "s"), flip("s", "y")],
    "backwards-last": [*BACK, node("Gather", ["Y", "last"], ["l"], axis=0),
                       squeezed("l", "y", "zero")],
    "backwards-final": [*BACK, squeezed("Yh", "y", "zero")],
    "backwards-stack": [*BACK, squeezed("Y", "x2"),
                        node("LSTM", ["x2", "w3", "r3", "b3"], ["zY", "zYh"], hidden_size=H),
                        squeezed("zYh", "y", "zero")],
    "backwards-and-forth": [*BACK, squeezed("Y", "x2"), turned("x2", "x3"),
                            node("LSTM", ["x3", "w3", "r3", "b3"], ["zY"], hidden_size=H),
                            squeezed("zY", "s"), flip("s", "y")],
    "reverse-turned": [X, turned("x", "xr0", "one"), flip("xr0", "xr"),
                       single(0, "xr", "", direction="reverse"), squeezed("Y", "s"),
                       flip("s", "y")],
    "scaled": [node("Sub", ["x", "shift"], ["x1"]), node("Div", ["x1", "scale"], ["x2"]),
               flip("x2", "xt"), single(0, "xt", ""), LAST, node("Gemm", ["q", "dw"], ["y"])],
    "scaled-after-transpose": [X, node("Mul", ["two", "xt"], ["x1"]),
                               node("Add", ["x1", "shift"], ["x2"]), node("Neg", ["x2"], ["x3"]),
                               node("Sub", ["half", "x3"], ["x4"]), both("x4"), *MERGED,
                               node("Identity", ["bt"], ["y"])],
    "scaled-between": [*ONLY[:3], node("Mul", ["s", "hscale"], ["m1"]),
                       node("Add", ["m1", "hshift"], ["m2"]),
                       node("LSTM", ["m2", "w3", "r3", "b3"], ["zY"], hidden_size=H),
                       squeezed("zY", "z"), flip("z", "y")],
    "scaled-behind": [*ONLY, node("Mul", ["bt", "hscale"], ["b1"]),
                      node("Add", ["b1", "hshift"], ["y"])],
    "scaled-both": [X, both(), *MERGED, node("Mul", ["bt", "ev"], ["e"]),
                    node("Slice", ["e", "h", "end", "pair"], ["y"])],
    "norm-between": [*ONLY[:3], node("Transpose", ["s"], ["n0"], perm=[1, 2, 0]),
                     node("BatchNormalization", ["n0", "gamma", "beta", "mean", "var"], ["n1"]),
                     node("Transpose", ["n1"], ["n2"], perm=[2, 0, 1]),
                     node("LSTM", ["n2", "w3", "r3", "b3"], ["zY", "zYh"], hidden_size=H),
                     squeezed("zYh", "y", "zero")],
    "norm-behind": [*ONLY[:2], LAST, node("Gemm", ["q", "dw", "db"], ["g"]),
                    node("BatchNormalization", ["g", "gamma2", "beta2", "mean2", "var2"], ["n"],
                         epsilon=0.01),
                    node("Relu", ["n"], ["rl"]), node("Gemm", ["rl", "fw", "fb"], ["y"])],
    "mlp": [*ONLY[:2], LAST, node("Gemm", ["q", "dw", "db"], ["g"]), node("Relu", ["g"], ["g1"]),
            node("MatMul", ["g1", "fw"], ["g2"]), node("Add", ["fb", "g2"], ["g3"]),
            node("HardSigmoid", ["g3"], ["y"], alpha=0.3, beta=0.4)],
    "mlp-every": [*ONLY, node("MatMul", ["bt", "dw"], ["g"]), node("Tanh", ["g"], ["g1"]),
                  node("MatMul", ["g1", "fw"], ["g2"]), node("Sigmoid", ["g2"], ["g3"]),
                  node("Mul", ["g3", "two"], ["y"])],
    "clip": [*ONLY[:2], LAST, node("Gemm", ["q", "dw", "db"], ["g"]),
             node("Clip", ["g", "low", "half"], ["c"]), node("MatMul", ["c", "fw"], ["y"])],
    "clip-below": [*ONLY[:2], LAST, node("Gemm", ["q", "dw", "db"], ["g"]),
                   node("Clip", ["g", "nought"], ["y"])],
    "clip-of-lstm": [*ONLY, node("Clip", ["bt", "low", "half"], ["y"])],
    "softmax": [*ONLY, node("MatMul", ["bt", "dw"], ["g"]), node("Softmax", ["g"], ["y"])],
    "relu-of-lstm": [*ONLY, node("Relu", ["bt"], ["rl"]), node("MatMul", ["rl", "dw"], ["y"])],
    "scaled-tanh-of-lstm": [*ONLY, node("Mul", ["bt", "hscale"], ["m"]),
                            node("Tanh", ["m"], ["y"])],
    "argmax": [*ONLY, node("MatMul", ["bt", "dw"], ["g"]), node("Softmax", ["g"], ["p"], axis=2),
               node("ArgMax", ["p"], ["y"], axis=2)],
    "argmax-last": [*ONLY[:2], LAST, node("Gemm", ["q", "dw", "db"], ["g"]),
                    node("ArgMax", ["g"], ["a"], axis=1, keepdims=0),
                    node("Cast", ["a"], ["y"], to=TensorProto.INT32)],
    "dropout-cast": [node("Cast", ["x"], ["x16"], to=TensorProto.DOUBLE),
                     node("Cast", ["x16"], ["x32"], to=TensorProto.FLOAT), flip("x32", "xt"),
                     single(0, "xt", ""), squeezed("Y", "s"), node("Dropout", ["s"], ["d", ""]),
                     flip("d", "y")],
    "dense-by-reshape": [*ONLY, node("Reshape", ["bt", "rows"], ["m"]),
                         node("MatMul", ["m", "dw"], ["g"]), node("Shape", ["bt"], ["sh"]),
                         node("Slice", ["sh", "zero", "pair"], ["free"]),
                         node("Concat", ["free", "five"], ["target"], axis=0),
                         node("Reshape", ["g", "target"], ["y"])],
    "learned-state": [X, node("Shape", ["xt"], ["full"]),
                      node("Slice", ["full", "one", "pair"], ["count"]),
                      node("Concat", ["one", "count", "h"], ["shape"], axis=0),
                      node("Expand", ["hw", "shape"], ["h0"]),
                      node("ConstantOfShape", ["shape"], ["c0"],
                           value=helper.make_tensor("v", 1, [1], [0.25])),
                      node("LSTM", ["xt", "w_0", "r_0", "b_0", "", "h0", "c0"], ["", "Yh"],
                           hidden_size=H), squeezed("Yh", "y", "zero")],
    "expanded-state": [X, node("Shape", ["xt"], ["full"]),
                       node("Slice", ["full", "one", "pair"], ["count"]),
                       node("Concat", ["minus", "count", "minus"], ["as_is"], axis=0),
                       node("Reshape", ["as_is", "minus"], ["shape"]),
                       node("Shape", ["shape"], ["three_"]),
                       node("ConstantOfShape", ["three_"], ["ones"],
                            value=helper.make_tensor("v", TensorProto.INT64, [1], [1])),
                       node("Mul", ["ones", "minus"], ["marks"]),
                       node("Equal", ["shape", "marks"], ["same"]),
                       node("Where", ["same", "ones", "shape"], ["sizes"]),
                       node("Expand", ["hw", "sizes"], ["h0"]),
                       node("LSTM", ["xt", "w_0", "r_0", "b_0", "", "h0"], ["", "Yh"],
                            hidden_size=H), squeezed("Yh", "y", "zero")],
    "tiled-state": [X, node("Shape", ["xt"], ["full"]),
                    node("Slice", ["full", "one", "pair"], ["count"]),
                    node("Concat", ["one", "count", "one"], ["times"], axis=0),
                    node("Tile", ["hw", "times"], ["h0"]),
                    node("LSTM", ["xt", "w_0", "r_0", "b_0", "", "h0"], ["", "Yh"],
                         hidden_size=H), squeezed("Yh", "y", "zero")],
}
MORE: dict[str, Array] = {
    "ev": np.linspace(0.5, 1.5, 2 * H).astype(np.float32), "rows": ints(-1, H), "five": ints(O),
    "layered": ints(2, 2, -1, H), "low": np.array(-0.25, np.float32),
    "nought": np.array(0, np.float32),
}
