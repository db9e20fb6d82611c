"""The bit-true model's time against ONNX Runtime's float time, both on one thread.

    python benchmarks/golden_speed.py

One LSTM with a dense output on the last step, random weights, batch 256, 100 steps. The two take
turns within one process, and the medians are compared; a ratio of five is what the bit-true model
is held to on an idle machine. No exit status says so, since the ratio moves with whatever else
runs: memory and caches are shared, and the two need them differently.
"""

import statistics
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golden.calibrate import quantize
from golden.lstm import LSTM
from golden.model import Dense, Network

__all__ = ["main", "random_network", "to_onnx"]

INPUTS, OUTPUTS, BATCH, STEPS = 2, 1, 256, 100
HIDDEN = (20, 128)
TURNS = 15
AIM = 5.0


def random_network(hidden: int, seed: int) -> Network:
    """A network with weights uniform in +-1/sqrt(hidden), as PyTorch initialises them."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape) / np.sqrt(hidden)

    lstm = LSTM(w_x=weights(4 * hidden, INPUTS), w_h=weights(4 * hidden, hidden),
                bias=weights(4 * hidden))
    return Network(layers=(lstm,), head=(Dense(w=weights(OUTPUTS, hidden), bias=weights(OUTPUTS)),))


def to_onnx(network: Network) -> bytes:
    """The network as an ONNX model with input [T, B, N] and output [B, O], in float32."""
    (lstm,), (head,) = network.directions, network.head

    def onnx_order(rows: np.ndarray) -> np.ndarray:
        i, f, g, o = np.split(rows, 4)
        return np.concatenate([i, o, f, g])[None]

    bias = np.concatenate([onnx_order(lstm.bias), np.zeros((1, 4 * lstm.hidden))], axis=1)
    arrays = {"w_x": onnx_order(lstm.w_x), "w_h": onnx_order(lstm.w_h), "bias": bias,
              "w": head.w, "b": head.bias}
    constants = [numpy_helper.from_array(array.astype(np.float32), name)
                 for name, array in arrays.items()]
    constants.append(numpy_helper.from_array(np.array([0]), "direction"))
    nodes = [
        helper.make_node("LSTM", ["x", "w_x", "w_h", "bias"], ["", "last"],
                         hidden_size=lstm.hidden),
        helper.make_node("Squeeze", ["last", "direction"], ["h"]),
        helper.make_node("Gemm", ["h", "w", "b"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "speed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, BATCH, INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [BATCH, OUTPUTS])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def main() -> None:
    """Print the times and their ratio for each size."""
    for hidden in HIDDEN:
        network = random_network(hidden, seed=hidden)
        x = np.random.default_rng(0).uniform(-1, 1, (BATCH, STEPS, INPUTS))
        fixed = quantize(network, x)
        codes, _ = fixed.x.quantize(x)

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = ort.InferenceSession(to_onnx(network), options,
                                       providers=["CPUExecutionProvider"])
        feed = {"x": np.ascontiguousarray(x.transpose(1, 0, 2), dtype=np.float32)}

        # The first calls also build tables and check that both compute the same network.
        error = np.abs(fixed.run(codes).real - session.run(None, feed)[0]).max()
        assert error < 1e-2, f"the two models differ by {error}"
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(TURNS):
            start = perf_counter()
            session.run(None, feed)
            middle = perf_counter()
            fixed.run(codes)
            times[0].append(middle - start)
            times[1].append(perf_counter() - middle)
        theirs, ours = (statistics.median(each) for each in times)
        print(f"H={hidden:<4} T={STEPS} batch {BATCH}: ONNX Runtime {theirs * 1e3:6.1f} ms, "
              f"bit-true {ours * 1e3:6.1f} ms, ratio {ours / theirs:.2f} (aim: at most {AIM:g})")


if __name__ == "__main__":
    main()
