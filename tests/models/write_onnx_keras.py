"""Write the models of Keras in `onnx/`, by its own ONNX exporter, and what Keras computes.

``python -m tests.models.write_onnx_keras``, from the folder of the repository, needs
``tensorflow-cpu==2.21.0``, ``tf2onnx==1.17.0`` without its own dependencies, and ``onnx``.  Of each
model there are ``NAME.onnx`` and ``NAME.npz``, with an input x, shape (B, T, N), and the outputs
y0, y1 ..; of one that is refused the file only.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ["KERAS_BACKEND"] = "tensorflow"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    # Names that tf2onnx takes from NumPy, which has them no longer.
    for old, new in (("object", object), ("bool", bool), ("cast", None)):
        if not hasattr(np, old):
            setattr(np, old, new)

keras: Any = importlib.import_module("keras")
layers = keras.layers

FOLDER = Path(__file__).parent / "onnx"
N, H, T = 3, 4, 6
lstm, both, dense = layers.LSTM, layers.Bidirectional, layers.Dense


def model(*stack: Any, steps: int | None = None) -> Any:
    """A stack of layers on sequences of N features."""
    x = keras.Input((steps, N))
    y = x
    for layer in stack:
        y = layer(y)
    return keras.Model(x, y)


MODELS: dict[str, Callable[[], Any]] = {
    "plain": lambda: model(lstm(H), dense(2)),
    "fixed": lambda: model(lstm(H), dense(2), steps=T),
    "every": lambda: model(
        lstm(H, return_sequences=True), lstm(5, return_sequences=True),
        dense(2, activation="softmax"),
    ),
    "both": lambda: model(both(lstm(H)), dense(2, activation="sigmoid")),
    "both-every": lambda: model(both(lstm(H, return_sequences=True)), dense(2)),
    "both-sum": lambda: model(both(lstm(H, return_sequences=True), merge_mode="sum")),
    "both-mean": lambda: model(both(lstm(H), merge_mode="ave")),
    "both-product": lambda: model(both(lstm(H), merge_mode="mul")),
    "both-stacked": lambda: model(
        both(lstm(H, return_sequences=True)), both(lstm(5)), dense(2, activation="relu"),
        dense(3, activation="tanh"),
    ),
    "backwards": lambda: model(lstm(H, go_backwards=True), dense(2)),
    "backwards-every": lambda: model(lstm(H, go_backwards=True, return_sequences=True)),
    "norm": lambda: model(
        lstm(H, return_sequences=True), layers.BatchNormalization(), lstm(H),
        layers.BatchNormalization(), dense(2),
    ),
    "rescaled": lambda: model(
        layers.Rescaling(0.5, offset=-1.0), lstm(H, use_bias=False, activation="relu"), dense(2)
    ),
    "hard-head": lambda: model(lstm(H), layers.Dropout(0.5), dense(2, activation="hard_sigmoid")),
    "states": lambda: model(lstm(H, return_sequences=True, return_state=True)),
    "refused-hard": lambda: model(lstm(H, recurrent_activation="hard_sigmoid"), dense(2)),
    "refused-mask": lambda: model(layers.Masking(), lstm(H), dense(2)),
    "refused-normalization": lambda: model(
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]), lstm(H), dense(2)
    ),
}


def main() -> None:
    """Write all models."""
    FOLDER.mkdir(exist_ok=True)
    for seed, (kind, build) in enumerate(MODELS.items()):
        rng = np.random.default_rng(seed)
        net = build()
        for layer in net.layers:
            if kind != "refused-normalization":
                low = [0.3 if "variance" in each.name else -0.6 for each in layer.weights]
                pairs = zip(layer.get_weights(), low, strict=True)
                layer.set_weights([rng.uniform(a, a + 1.2, w.shape) for w, a in pairs])
        x = rng.uniform(-1.0, 1.0, (3, T, N)).astype(np.float32)
        given = net(x, training=False)
        name = f"keras-{kind}"
        net.export(FOLDER / f"{name}.onnx", format="onnx", verbose=False)
        if not kind.startswith("refused"):
            outputs = given if isinstance(given, list | tuple) else [given]
            arrays: dict[str, Any] = {f"y{k}": np.asarray(each) for k, each in enumerate(outputs)}
            np.savez_compressed(FOLDER / f"{name}.npz", x=x, **arrays)


if __name__ == "__main__":
    main()
