"""Write the models of ``tests/models/keras`` and what Keras computes with them.

Run it twice, with each of the two Keras that there are::

    KERAS_BACKEND=numpy python tests/models/write_keras.py keras
    python tests/models/write_keras.py tf_keras

The first takes the packages keras and jax (which Keras's NumPy backend imports), the second
tf_keras and tensorflow.  Every weight is random and different from all others.  The archives are
compressed anew, because HDF5 leaves much of a small file empty; their members are as Keras wrote
them.  Inputs and outputs of all models are in ``keras.npz`` and ``tf_keras.npz``: ``NAME.x`` and
``NAME.0``, ``NAME.1``, ...; those of the stateful ones, of a few batches one after the other, in
``stateful.npz``.
"""

from __future__ import annotations

import importlib
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "keras"
N, H, T, B = 3, 4, 5, 2


def randomize(model: Any, rng: np.random.Generator) -> None:
    """Give every variable of a model random values; variances are positive."""
    values = []
    for variable in model.weights:
        name = (getattr(variable, "path", "") or variable.name).split("/")[-1].split(":")[0]
        shape = tuple(variable.shape)
        if name == "count":
            values.append(np.zeros(shape))
        elif "variance" in name or name == "gamma":
            values.append(rng.uniform(0.5, 2.0, shape))
        else:
            values.append(rng.normal(scale=0.5, size=shape))
    model.set_weights(values)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # of a Normalization, which computes with a copy


def compress(path: Path) -> None:
    """Write an archive anew, with its members compressed."""
    with zipfile.ZipFile(path) as old:
        members = [(name, old.read(name)) for name in old.namelist()]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for name, data in members:
            new.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), data,
                         zipfile.ZIP_DEFLATED, 9)
    path.write_bytes(packed.getvalue())


def sequential(keras: Any, *layers: Any, **options: Any) -> Any:
    model = keras.Sequential(list(layers))
    model.build((options.get("batch"), options.get("steps", T), N))
    return model


def functional(keras: Any, wire: Callable[[Any], Any]) -> Any:
    entry = keras.Input((T, N))
    return keras.Model(entry, wire(entry))


def models(keras: Any) -> dict[str, Callable[[], Any]]:
    """The models that both Keras can make, by name."""
    layers = keras.layers
    lstm, dense, both = layers.LSTM, layers.Dense, layers.Bidirectional

    def chain(*parts: Any) -> Callable[[], Any]:
        return lambda: sequential(keras, *parts)

    def graph(wire: Callable[[Any], Any]) -> Callable[[], Any]:
        return lambda: functional(keras, wire)

    def states_of_two(x: Any) -> Any:
        y, h, c = lstm(H, return_sequences=True, return_state=True)(x)
        z, k, d = lstm(3, return_state=True, go_backwards=True)(y)
        return [dense(2, activation="tanh")(z), d, h, c, k]

    def joined(x: Any) -> Any:
        parts = both(lstm(H, return_sequences=True, return_state=True), merge_mode="sum")(x)
        h = layers.Concatenate()([parts[1], parts[3]])
        c = layers.Concatenate()([parts[2], parts[4]])
        return [dense(2)(h), c]

    def cells(x: Any) -> Any:
        stack = layers.StackedRNNCells([layers.LSTMCell(3), layers.LSTMCell(H)])
        y, (h0, c0), (h1, c1) = layers.RNN(stack, return_state=True, go_backwards=True)(x)
        return [y, c1, h0, c0, h1]

    def picked(x: Any) -> Any:
        y = both(lstm(H, return_sequences=True))((x - 0.5) / np.array([0.5, 2.0, 4.0], np.float32))
        return dense(2)(1.0 - 2.0 * y[:, -1, :])

    def picked_backwards(x: Any) -> Any:
        return lstm(H, return_sequences=True, go_backwards=True)(x)[:, -1]

    return {
        "last": chain(lstm(H), dense(2)),
        "steps": chain(lstm(H, return_sequences=True), dense(3, activation="softmax")),
        "stack": chain(
            lstm(H, return_sequences=True), layers.Dropout(0.3), lstm(3),
            dense(4, activation="relu"), dense(2, activation="sigmoid"),
        ),
        "hard": chain(
            lstm(H, recurrent_activation="hard_sigmoid", return_sequences=True),
            lstm(3, activation="hard_sigmoid"), dense(2, activation="hard_sigmoid"),
        ),
        "functions": chain(
            lstm(H, activation="sigmoid", return_sequences=True),
            lstm(3, activation="relu", return_sequences=True), lstm(H, activation="linear"),
        ),
        "no_bias": chain(lstm(H, use_bias=False), dense(2, use_bias=False)),
        "concat": chain(both(lstm(H, return_sequences=True)), dense(2)),
        "sum": chain(both(lstm(H), merge_mode="sum"), dense(2)),
        "average": chain(both(lstm(H, return_sequences=True), merge_mode="ave"), lstm(3)),
        "product": chain(both(lstm(H), merge_mode="mul")),
        "two_ends": chain(both(lstm(H, return_sequences=True)), both(lstm(3))),
        "own_backward": chain(
            both(lstm(H, return_sequences=True),
                 backward_layer=lstm(H, activation="relu", use_bias=False, go_backwards=True,
                                     return_sequences=True)),
            dense(2),
        ),
        "exchanged": chain(
            both(lstm(H, return_sequences=True, go_backwards=True),
                 backward_layer=lstm(H, return_sequences=True)),
            layers.BatchNormalization(), both(lstm(3, return_sequences=True)), lstm(2),
        ),
        "exchanged_last": chain(
            lstm(H, go_backwards=True, return_sequences=True), both(lstm(3), name="both"),
        ),
        "exchanged_steps": chain(
            lstm(H, go_backwards=True, return_sequences=True),
            both(lstm(3, return_sequences=True)), layers.Activation("softmax"),
        ),
        "backwards": chain(lstm(H, go_backwards=True)),
        "backwards_steps": chain(lstm(H, go_backwards=True, return_sequences=True), dense(2)),
        "backwards_stack": chain(
            lstm(H, go_backwards=True, return_sequences=True), lstm(3, return_sequences=True),
            lstm(2, go_backwards=True, return_sequences=True), lstm(H, return_sequences=True),
        ),
        "states": graph(states_of_two),
        "states_of_steps": graph(
            lambda x: list(lstm(H, return_sequences=True, return_state=True)(x))
        ),
        "states_alone": graph(lambda x: list(lstm(H, return_state=True)(x)[1:])),
        "both_states": graph(lambda x: list(both(lstm(H, return_state=True), name="both")(x))),
        "joined": graph(joined),
        "stateful": lambda: keras.Sequential([
            keras.Input(batch_size=B, shape=(T, N)), lstm(H, stateful=True), dense(2),
        ]),
        "cell": chain(layers.RNN(layers.LSTMCell(H), return_sequences=True), dense(2)),
        "cells": graph(cells),
        "distributed": chain(
            lstm(H, return_sequences=True), layers.TimeDistributed(dense(3, activation="relu")),
            layers.TimeDistributed(layers.BatchNormalization()),
            layers.TimeDistributed(layers.Activation("sigmoid")),
            layers.TimeDistributed(dense(2)),
        ),
        "normalized": chain(
            layers.Normalization(name="norm"), layers.Rescaling(0.5, offset=0.25, name="scale"),
            lstm(H, name="lstm"),
        ),
        "normalized_by": chain(
            layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 1.5, 2.5], invert=True),
            layers.Rescaling([0.5, 0.25, 2.0], offset=[0.5, 0.25, 0.125]), lstm(H), dense(2),
        ),
        "normalized_alike": chain(layers.Normalization(axis=None), lstm(H)),
        "batch_normalized": chain(
            layers.BatchNormalization(), lstm(H, return_sequences=True),
            layers.BatchNormalization(scale=False), both(lstm(3)),
            layers.BatchNormalization(center=False, epsilon=0.01), dense(4),
            layers.BatchNormalization(), layers.ReLU(), layers.BatchNormalization(), dense(2),
        ),
        "batch_normalized_last": chain(lstm(H), layers.BatchNormalization(name="bn")),
        "activations": chain(
            lstm(H), layers.Activation("linear"), dense(3), layers.Activation("tanh"),
            layers.Activation("relu"), dense(2), layers.Softmax(),
        ),
        "picked": graph(picked),
        "picked_backwards": graph(picked_backwards),
        "idle": chain(
            layers.GaussianNoise(0.1), layers.SpatialDropout1D(0.2), layers.Reshape((T, N)),
            lstm(H, dropout=0.2, recurrent_dropout=0.1, name="lstm"), layers.Flatten(),
            layers.Reshape((H,)), layers.GaussianDropout(0.1), dense(2),
        ),
    }


ARCHIVES = {"tf_keras": ("hard", "states", "own_backward", "normalized")}
"""Which archives are written, if not all: those of both Keras differ in the description only."""

HDF5 = {
    "keras": ("hard", "exchanged", "both_states"),
    "tf_keras": ("hard", "cells", "distributed", "batch_normalized", "joined", "normalized",
                 "picked_backwards"),
}
"""Which models are written as HDF5."""


def weights_model(keras: Any) -> Any:
    """The model whose weights alone are written."""
    layers = keras.layers
    return sequential(
        keras, layers.LSTM(H, return_sequences=True), layers.Dropout(0.2),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.LSTM(5, use_bias=False), layers.Dense(3, activation="relu"), layers.Dense(2),
    )


def write_batches(keras: Any) -> None:
    """Write a stateful model that reads from the end, and what such models make of batches."""
    layers = keras.layers
    rng = np.random.default_rng(26)
    keras.backend.clear_session()
    model = keras.Sequential([
        keras.Input(batch_size=B, shape=(T, N)),
        layers.Bidirectional(layers.LSTM(H, stateful=True, return_sequences=True)),
        layers.LSTM(3, stateful=True, go_backwards=True), layers.Dense(2),
    ])
    randomize(model, rng)
    path = FOLDER / "stateful_both.keras"
    model.save(path)
    compress(path)
    arrays: dict[str, Any] = {}
    for name in ("stateful.keras", path.name):
        model = keras.models.load_model(FOLDER / name)
        x = rng.normal(size=(3, B, T, N)).astype(np.float32)
        arrays[f"{name}.x"] = x
        arrays[f"{name}.0"] = np.stack([np.asarray(model(batch, training=False)) for batch in x])
    np.savez_compressed(FOLDER / "stateful.npz", **arrays)


def main(which: str) -> None:
    keras = importlib.import_module(which)
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(25)
    arrays: dict[str, Any] = {}
    prefix = "tf_" if which == "tf_keras" else ""
    plan = [(f"{prefix}{name}.keras", name) for name in ARCHIVES.get(which, models(keras))]
    plan += [(f"{prefix}{name}.h5", name) for name in HDF5[which]]
    alone = "tf_alone.h5" if which == "tf_keras" else "alone.weights.h5"
    plan.append((alone, ""))
    for name, key in plan:
        keras.backend.clear_session()
        model = models(keras)[key]() if key else weights_model(keras)
        randomize(model, rng)
        x = rng.normal(size=(B, T, N)).astype(np.float32)
        outputs = model(x, training=False)
        arrays[f"{name}.x"] = x
        listed = isinstance(outputs, list | tuple)
        for number, value in enumerate(outputs if listed else [outputs]):
            arrays[f"{name}.{number}"] = np.asarray(value)
        path = FOLDER / name
        if name == alone:
            model.save_weights(path)
        else:
            model.save(path)
        if path.suffix == ".keras":
            compress(path)
    np.savez_compressed(FOLDER / f"{which}.npz", **arrays)
    if which == "keras":
        write_batches(keras)


if __name__ == "__main__":
    main(sys.argv[1])
