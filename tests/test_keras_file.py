"""Reading Keras files: the same numbers as Keras, or one clear refusal.

The files in ``tests/models/keras`` and what Keras computes with them were written by
``tests/models/write_keras.py`` with Keras 3 and with tf.keras 2.
"""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import golden.keras_store
from golden.keras_file import load
from golden.lstm import Bidirectional
from golden.model import ModelError

FOLDER = Path(__file__).parent / "models" / "keras"
ALONE: dict[str, Any] = {"every_step": False, "activations": ("relu", "linear")}


def expected() -> dict[str, list[np.ndarray]]:
    """The input and then the outputs of every file, by its name."""
    found: dict[str, list[np.ndarray]] = {}
    for archive in ("keras.npz", "tf_keras.npz"):
        with np.load(FOLDER / archive) as arrays:
            for key in arrays:
                name, _, number = key.rpartition(".")
                place = 0 if number == "x" else int(number) + 1
                found.setdefault(name, []).insert(place, arrays[key])
    return found


EXPECTED = expected()


@pytest.mark.parametrize("name", EXPECTED)
def test_equals_keras(name: str) -> None:
    model = load(FOLDER / name, **(ALONE if name in ("alone.weights.h5", "tf_alone.h5") else {}))
    x, *want = EXPECTED[name]
    y, ended = model.network.run_states(x)
    got = [y, *model.network.state_outputs(ended)]
    if name.startswith("both_states"):
        # Keras gives the two directions' states one by one.
        forward_h, forward_c, backward_h, backward_c = want[1:]
        want[1:] = [np.hstack([forward_h, backward_h]), np.hstack([forward_c, backward_c])]
    if name == "states_alone.keras":
        assert model.network.states == ("lstm0.c",)
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["stateful.keras", "stateful_both.keras"])
def test_goes_on_as_keras(name: str) -> None:
    """Each direction begins a batch, in its own order, with the state in which it has ended."""
    network = load(FOLDER / name).network
    with np.load(FOLDER / "stateful.npz") as arrays:
        batches, want = arrays[f"{name}.x"], arrays[f"{name}.0"]
    state = None
    for number, x in enumerate(batches):
        y, state = network.run_states(x, state=state)
        np.testing.assert_allclose(y, want[number], rtol=0, atol=1e-6)
        assert number == 0 or np.abs(y - network.run(x)).max() > 1e-3


def test_there_is_a_file_of_every_kind() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.suffix != ".npz"} == {
        *EXPECTED, "stateful_both.keras"}
    assert len(EXPECTED) >= 40


@pytest.mark.parametrize(
    ("name", "every_step", "final", "backwards", "reverse"),
    [
        ("steps.keras", True, False, False, [False]),
        ("concat.keras", True, False, False, [False, True]),
        ("sum.keras", False, True, False, [False, True]),
        ("picked.keras", False, False, False, [False, True]),
        ("backwards.keras", False, True, False, [True]),
        ("picked_backwards.keras", False, True, False, [True]),
        ("backwards_steps.keras", True, False, True, [True]),
        # The layer behind a turned sequence is a reverse one, the one that turns it again is not.
        ("backwards_stack.keras", True, False, False, [True, True, False, False]),
        ("exchanged_steps.keras", True, False, True, [True, False, True]),
    ],
)
def test_directions(
    name: str, every_step: bool, final: bool, backwards: bool, reverse: list[bool]
) -> None:
    network = load(FOLDER / name).network
    assert (network.every_step, network.final, network.backwards) == (every_step, final, backwards)
    assert [each.reverse for each in network.directions] == reverse


def test_merges_and_functions() -> None:
    merges = []
    for name in ("concat", "sum", "average", "product"):
        layer = load(FOLDER / f"{name}.keras").network.layers[0]
        assert isinstance(layer, Bidirectional)
        merges.append(layer.merge)
    assert merges == ["concat", "sum", "ave", "mul"]
    network = load(FOLDER / "functions.keras").network
    assert [str(each.candidate) for each in network.directions] == ["Sigmoid", "Relu", "identity"]
    assert all(each.squash == each.candidate for each in network.directions)


def test_a_stateful_model_says_so() -> None:
    assert load(FOLDER / "stateful.keras").network.stateful
    both = load(FOLDER / "stateful_both.keras").network
    assert both.stateful
    assert [each.reverse for each in both.directions] == [False, True, True]
    assert not load(FOLDER / "last.keras").network.stateful


@pytest.mark.parametrize(
    ("name", "source", "notes"),
    [
        ("last.keras", "Keras 3.15.1, .keras archive", []),
        ("hard.keras", "Keras 3.15.1, .keras archive",
         ["hard_sigmoid is that of Keras 3, x/6 + 1/2 within 0 and 1."]),
        ("tf_hard.h5", "Keras 2.21.0, HDF5 model",
         ["hard_sigmoid is that of Keras 2, 0.2 x + 1/2 within 0 and 1."]),
        ("idle.keras", "Keras 3.15.1, .keras archive",
         ["layer 'gaussian_noise' (GaussianNoise) is left out; it acts in training only.",
          "layer 'spatial_dropout1d' (SpatialDropout1D) is left out; it acts in training only.",
          "layer 'lstm' (LSTM): its dropout is left out; it acts in training only.",
          "layer 'lstm' (LSTM): its recurrent_dropout is left out; it acts in training only.",
          "layer 'gaussian_dropout' (GaussianDropout) is left out; it acts in training only."]),
        ("normalized.keras", "Keras 3.15.1, .keras archive",
         ["layer 'norm' (Normalization) is taken into the weights of layer 'lstm' (LSTM).",
          "layer 'scale' (Rescaling) is taken into the weights of layer 'lstm' (LSTM)."]),
        ("batch_normalized_last.keras", "Keras 3.15.1, .keras archive",
         ["A dense layer is added for layer 'bn' (BatchNormalization): no other could take it."]),
        ("exchanged_last.keras", "Keras 3.15.1, .keras archive",
         ["A dense layer is added for the exchanged directions of layer 'both' "
          "(Bidirectional): no other could take it."]),
        ("both_states.h5", "Keras 3.15.1, HDF5 model",
         ["layer 'both': its two directions' final states are one output, the forward "
          "one's first."]),
        ("alone.weights.h5", "Keras, weights alone",
         ["The LSTM layers are taken to be forward, with tanh, sigmoid and, where they are "
          "bidirectional, the outputs joined; a file of weights does not say it."]),
    ],
)
def test_what_is_told(name: str, source: str, notes: list[str]) -> None:
    model = load(FOLDER / name, **(ALONE if name.startswith("alone") else {}))
    assert model.source == source
    assert list(model.notes) == notes


# Files made here: one LSTM of 3 inputs and 2 units, and what is wrong about it.

rng = np.random.default_rng(7)
KERNELS = {"0": rng.normal(size=(3, 8)), "1": rng.normal(size=(2, 8)), "2": rng.normal(size=8)}
LSTM = {f"layers/lstm/cell/vars/{key}": array for key, array in KERNELS.items()}
DENSE = {"layers/dense/vars/0": rng.normal(size=(2, 4)), "layers/dense/vars/1": rng.normal(size=4)}


def layer(kind: str, **config: Any) -> dict[str, Any]:
    name = config.pop("name", kind.lower())
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, **config},
            "registered_name": None, "name": name}


def lstm(**config: Any) -> dict[str, Any]:
    return layer("LSTM", **{"units": 2, **config})


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}}


def tensor(name: str, number: int = 0, node: int = 0) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__",
            "config": {"shape": [None, 5, 3], "keras_history": [name, node, number]}}


def called(entry: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {**entry, "inbound_nodes": [{"args": list(args), "kwargs": kwargs}]}


def functional(
    *layers: dict[str, Any], outputs: Any = None, inputs: Any = None
) -> dict[str, Any]:
    entry = {**layer("InputLayer", name="x", batch_shape=[None, 5, 3]), "inbound_nodes": []}
    return {"class_name": "Functional", "config": {
        "name": "m", "layers": [entry, *layers], "input_layers": inputs or ["x", 0, 0],
        "output_layers": outputs or [layers[-1]["name"], 0, 0],
    }}


def hdf5(arrays: dict[str, Any], spoil: Callable[[h5py.File], None] | None = None) -> bytes:
    packed = io.BytesIO()
    with h5py.File(packed, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        if spoil is not None:
            spoil(file)
    return packed.getvalue()


def archive(path: Path, config: Any, weights: bytes, version: Any = "3.15.1") -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("metadata.json", json.dumps({"keras_version": version}))
        packed.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        packed.writestr("model.weights.h5", weights)
    return path


def refused(path: Path, sentence: str, **options: Any) -> None:
    with pytest.raises(ModelError) as caught:
        load(path, **options)
    assert str(caught.value) == f"{path}: {sentence}"


def test_the_model_made_here_is_read(tmp_path: Path) -> None:
    """What is refused below is refused for what is wrong about it, not for how it is made."""
    path = archive(tmp_path / "m.keras", sequential(lstm(), layer("Dense", units=4)),
                   hdf5({**LSTM, **DENSE}))
    network = load(path).network
    np.testing.assert_array_equal(network.layers[0].directions[0].w_x, KERNELS["0"].T)
    np.testing.assert_array_equal(network.head[0].w, DENSE["layers/dense/vars/0"].T)
    same = functional(called(lstm(), tensor("x"), training=False, mask=None))
    assert load(archive(path, same, hdf5(LSTM))).network.layers[0].inputs == 3


def test_a_lower_precision_is_told(tmp_path: Path) -> None:
    half = lstm(dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}})
    model = load(archive(tmp_path / "m.keras", sequential(half), hdf5(LSTM)))
    assert model.notes == (
        "layer 'lstm' (LSTM) computes in mixed_float16 in Keras; that rounding is left out.",
    )


STEPS = lstm(return_sequences=True)
STATES = lstm(return_sequences=True, return_state=True)
MERGE_NONE = layer("Bidirectional", layer=lstm(), merge_mode=None)

CONFIGS: dict[str, tuple[Any, str]] = {
    "gru": (sequential(layer("GRU", units=2)),
            "layer 'gru' (GRU) is not supported; only LSTM layers are"),
    "masking": (sequential(layer("Masking", mask_value=0.0), lstm()),
                "layer 'masking' (Masking) is not supported; lengths are given with the data "
                "instead: leave the layer out"),
    "lambda": (sequential(lstm(), layer("Lambda", function={"class_name": "__lambda__"})),
               "layer 'lambda' (Lambda) is not supported, because a file's code is never run"),
    "embedding": (sequential(layer("Embedding", input_dim=9, output_dim=3), lstm()),
                  "layer 'embedding' (Embedding) is not supported; the core takes the vectors "
                  "themselves"),
    "layer norm": (sequential(lstm(), layer("LayerNormalization", axis=-1)),
                   "layer 'layernormalization' (LayerNormalization) is not supported"),
    "convolution": (sequential(layer("Conv1D", filters=3), lstm()),
                    "layer 'conv1d' (Conv1D) is not supported"),
    "nested": (sequential(layer("Sequential", layers=[lstm()])),
               "layer 'sequential' (Sequential) is not supported; save its layers in one model"),
    "subclass": ({"class_name": "MyModel", "config": {}},
                 "the model must be a Sequential or a functional one, not 'MyModel'"),
    "no layers": (sequential(), "the model's description has no list of layers"),
    "no lstm": (sequential(layer("Dropout", rate=0.5)), "the model has no LSTM layer"),
    "own layer": (sequential({**lstm(), "module": "mine.layers"}),
                  "layer 'lstm' (LSTM) is not one of Keras's own layers, but of 'mine.layers'"),
    "registered": (sequential({**lstm(), "module": None, "registered_name": "mine>LSTM"}),
                   "layer 'lstm' (LSTM) is not one of Keras's own layers, but of 'mine>LSTM'"),
    "activation": (sequential(lstm(activation="gelu")),
                   "layer 'lstm' (LSTM): 'activation' must be one of tanh, sigmoid, hard_sigmoid, "
                   "relu, linear, not gelu"),
    "gate": (sequential(lstm(recurrent_activation="tanh")),
             "layer 'lstm' (LSTM): 'recurrent_activation' must be one of sigmoid, hard_sigmoid, "
             "not tanh"),
    "own function": (sequential(lstm(activation={"class_name": "function", "config": "tanh"})),
                     "layer 'lstm' (LSTM): 'activation' must be one of tanh, sigmoid, "
                     "hard_sigmoid, relu, linear, not a function 'tanh'"),
    "clipped relu": (sequential(lstm(), layer("ReLU", max_value=6.0)),
                     "layer 'relu' (ReLU): 'max_value' must be null, not 6.0"),
    "softmax of steps": (sequential(STEPS, layer("Softmax", axis=1)),
                         "layer 'softmax' (Softmax): 'axis' must be -1, the features, not 1"),
    "units": (sequential(lstm(units="2")),
              "layer 'lstm' (LSTM): 'units' must be a positive integer, not '2'"),
    "wrong units": (sequential(lstm(units=3)),
                    "layer 'lstm' (LSTM): kernel must have the shape [N, 12], not [3, 8]"),
    "quantized": (sequential(lstm(dtype={"class_name": "QuantizedDTypePolicy",
                                         "config": {"name": "int8_from_float32"}})),
                  "layer 'lstm' (LSTM): 'dtype' must be one of float32, float64, float16, "
                  "bfloat16, mixed_float16, mixed_bfloat16, not 'int8_from_float32'"),
    "merge": (sequential(MERGE_NONE),
              "layer 'bidirectional' (Bidirectional): 'merge_mode' must be one of concat, sum, "
              "ave, mul, not None"),
    "same directions": (
        sequential(layer("Bidirectional", layer=lstm(), backward_layer=lstm())),
        "layer 'bidirectional' (Bidirectional): its two layers must have different "
        "'go_backwards'"),
    "bidirectional gru": (sequential(layer("Bidirectional", layer=layer("GRU", units=2))),
                          "layer 'bidirectional' (Bidirectional): it must wrap an LSTM, not a "
                          "GRU"),
    "gru cell": (sequential(layer("RNN", cell=layer("GRUCell", units=2))),
                 "layer 'rnn' (RNN): its cell must be an LSTMCell, not a GRUCell"),
    "flatten": (sequential(STEPS, layer("Flatten")),
                "layer 'flatten' (Flatten): it must not flatten the steps of a sequence; the LSTM "
                "in front of it must have return_sequences=False"),
    "reshape": (sequential(STEPS, layer("Reshape", target_shape=[10])),
                "layer 'reshape' (Reshape): it must leave the shape as it is, but makes [10]"),
    "dense in front": (sequential(layer("Dense", units=3), lstm()),
                       "layer 'dense' (Dense): a Dense layer must come behind the last LSTM layer, "
                       "not in front of the first"),
    "lstm behind function": (sequential(STEPS, layer("Activation", activation="tanh"), lstm()),
                             "layer 'lstm' (LSTM): an LSTM layer must not come behind layer "
                             "'activation' (Activation)"),
    "lstm behind one step": (sequential(lstm(name="first"), lstm(name="second")),
                             "layer 'second' (LSTM): it must read a sequence, but the layers in "
                             "front of it give one step; layer 'first' (LSTM) must have "
                             "return_sequences=True"),
    "two dimensions": (sequential(layer("InputLayer", batch_shape=[None, 3]), lstm()),
                       "the model's input must have the axes batch, steps and features, but its "
                       "shape is [None, 3]"),
    "features": (sequential(layer("InputLayer", batch_shape=[None, 5, 4]), lstm()),
                 "layer 'lstm' (LSTM): it must take the 4 features that it is given, but its "
                 "kernel has 3 rows"),
    "normalized features": (
        sequential(layer("Rescaling", scale=[1.0, 2.0]), lstm()),
        "layer 'lstm' (LSTM): it must take the 2 features that it is given, but its kernel has 3 "
        "rows"),
    "scaled by two and three": (
        sequential(layer("Rescaling", scale=[1.0, 2.0, 3.0]),
                   layer("Normalization", mean=[1.0, 2.0], variance=[1.0, 2.0]), lstm()),
        "layer 'normalization' (Normalization): it must have 3 features, not 2"),
    "axis": (sequential(layer("Normalization", axis=1, mean=[1.0], variance=[1.0]), lstm()),
             "layer 'normalization' (Normalization): 'axis' must be -1, the features, not 1"),
    "variance": (sequential(layer("Normalization", mean=[1.0], variance=[-1.0]), lstm()),
                 "layer 'normalization' (Normalization): variance must be at least 0, not -1"),
    "divided by nothing": (
        functional(called(layer("TrueDivide"), tensor("x"), 0),
                   called(lstm(), tensor("truedivide"))),
        "layer 'truedivide' (TrueDivide): what it scales and shifts by must be finite"),
    "first step": (
        functional(called(STEPS, tensor("x")),
                   called(layer("GetItem"), tensor("lstm"), [
                       {"class_name": "__slice__",
                        "config": {"start": None, "stop": None, "step": None}}, 0])),
        "layer 'getitem' (GetItem): its index must be [:, -1], the last step, not "
        "[{'class_name': '__slice__', 'config': {'start': None, 'stop': None, 'step': Non"),
    "stateful": (sequential(lstm(return_sequences=True, stateful=True), {
        **lstm(), "class_name": "RNN", "name": "rnn",
        "config": {"name": "rnn", "cell": layer("LSTMCell", units=2)}}),
        "all LSTM layers must be stateful, or none"),
    "two inputs": (functional(called(lstm(), tensor("x")), inputs=[["x", 0, 0], ["lstm", 0, 0]]),
                   "the model must have one input, not 2: 'x', 'lstm'"),
    "initial state": (
        functional(called(STATES, tensor("x")),
                   called(lstm(name="next"), tensor("lstm"),
                          initial_state=[tensor("lstm", 1), tensor("lstm", 2)])),
        "layer 'next' (LSTM) is called with 'initial_state'; an LSTM must begin with zeros"),
    "training": (functional(called(layer("Dropout"), tensor("x"), training=True),
                            called(lstm(), tensor("dropout"))),
                 "layer 'dropout' (Dropout) is called with 'training'; what is left to chance "
                 "cannot be computed"),
    "cell state": (functional(called(STATES, tensor("x")),
                              called(layer("Dense", units=4), tensor("lstm", 2))),
                   "layer 'lstm' (LSTM): the layers behind it must read its output or its final "
                   "hidden state, not its output 2"),
    "other output": (functional(called(STATES, tensor("x")),
                                called(layer("Dense", units=4), tensor("lstm")),
                                outputs=[["dense", 0, 0], ["lstm", 0, 0]]),
                     "every output of the model but the first must be a final state of one of the "
                     "layers that the first comes from, not output 0 of layer 'lstm'"),
    "no such output": (functional(called(STATES, tensor("x")),
                                  outputs=[["lstm", 0, 0], ["lstm", 0, 3]]),
                       "layer 'lstm' has no output 3"),
    "no such layer": (functional(called(lstm(), tensor("y"))),
                      "the model's description: a node of layer 'lstm' (LSTM) must name a layer "
                      "and two numbers, not ['y', 0, 0]"),
    "twice": (functional(called(STEPS, tensor("lstm", node=1))),
              "layer 'lstm' (LSTM) is applied more than once, which is not supported"),
    "circle": (functional(called(STEPS, tensor("dropout")),
                          called(layer("Dropout"), tensor("lstm"))),
               "layer 'dropout' (Dropout) reads what comes of its own output"),
    "concatenate": (functional(called(STATES, tensor("x")),
                               called(layer("Concatenate"), [tensor("lstm", 1),
                                                             tensor("lstm", 2)])),
                    "layer 'concatenate' (Concatenate) may join only the forward and the backward "
                    "final state of one Bidirectional layer, in this order"),
    "not json": ("{", "'config.json' is not JSON"),
    "no object": ("[1]", "'config.json' must be a JSON object, not list"),
    "deep": ('{"a":' + "[" * 200 + "]" * 200 + "}",
             "'config.json' must be nested at most 100 deep"),
    "deeper": ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
               "'config.json' must be nested at most 100 deep"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_description_is_refused(case: str, tmp_path: Path) -> None:
    config, sentence = CONFIGS[case]
    rnn = {f"layers/rnn/cell/vars/{key}": array
           for key, array in (KERNELS | {"0": KERNELS["1"]}).items()}
    both = {f"layers/bidirectional/{side}_layer/cell/vars/{key}": array
            for side in ("forward", "backward") for key, array in KERNELS.items()}
    weights = hdf5({**LSTM, **DENSE, **rnn, **both})
    refused(archive(tmp_path / "m.keras", config, weights), sentence)


def test_a_hard_sigmoid_of_no_version_is_refused(tmp_path: Path) -> None:
    config = sequential(lstm(recurrent_activation="hard_sigmoid"))
    refused(archive(tmp_path / "m.keras", config, hdf5(LSTM), version=None),
            "layer 'lstm' (LSTM): hard_sigmoid is x/6 + 1/2 in Keras 3 and 0.2 x + 1/2 before, but "
            "the file does not say which Keras has written it")


KERNEL = "layers/lstm/cell/vars/0"


def _instead(make: Callable[[h5py.File], Any]) -> Callable[[h5py.File], None]:
    """Put something else in the place of the kernel."""

    def spoil(file: h5py.File) -> None:
        del file[KERNEL]
        made = make(file)
        if made is not None:
            file[KERNEL] = made

    return spoil


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 8), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "k", (3, 8))
    file.create_virtual_dataset(KERNEL, layout)


def _external(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (3, 8), "f8", external=[("/etc/hostname", 0, 192)])


ELSEWHERE = "is a link to another place or file; links are not followed"
STORES: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "absent": (_instead(lambda file: None),
               "'layers/lstm/cell/vars' must hold 3 arrays (kernel, recurrent_kernel, bias), not "
               "2"),
    "group": (_instead(lambda file: file.create_group(KERNEL) and None),
              f"the file has no weights '{KERNEL}'"),
    "external link": (_instead(lambda file: h5py.ExternalLink("other.h5", "k")),
                      f"'{KERNEL}' {ELSEWHERE}"),
    "soft link": (_instead(lambda file: h5py.SoftLink("/layers/lstm/cell/vars/1")),
                  f"'{KERNEL}' {ELSEWHERE}"),
    "virtual": (_instead(_virtual), f"the weights '{KERNEL}' must be in the file itself, not in "
                "others"),
    "external": (_instead(_external), f"the weights '{KERNEL}' must be in the file itself, not in "
                 "others"),
    "filter": (_instead(lambda file: file.create_dataset(
        KERNEL, data=np.ones((3, 8)), compression="lzf") and None),
        f"the weights '{KERNEL}' must have no HDF5 filters but gzip, shuffle, Fletcher-32, not "
        "number 32000"),
    "large": (_instead(lambda file: file.create_dataset(
        KERNEL, (1 << 20, 8 << 20), "f4", chunks=(8, 8)) and None),
        f"the weights '{KERNEL}' must have at most 67108864 elements, not 8796093022208"),
    "integers": (_instead(lambda file: np.ones((3, 8), np.int8)),
                 f"the weights '{KERNEL}' must be floating-point numbers of at most 64 bits, but "
                 "their type is int8"),
    "infinite": (_instead(lambda file: np.full((3, 8), np.inf)),
                 "LSTM weight 'w_x' must be finite, but element [0, 0] is inf"),
    "one axis": (_instead(lambda file: np.ones(8)),
                 "layer 'lstm' (LSTM): kernel must have the shape [N, 8], not [8]"),
}


@pytest.mark.parametrize("case", STORES)
def test_weights_are_refused(case: str, tmp_path: Path) -> None:
    spoil, sentence = STORES[case]
    if not sentence.startswith("layer"):
        sentence = f"layer 'lstm' (LSTM): {sentence}"
    weights = hdf5(LSTM, spoil)
    refused(archive(tmp_path / "m.keras", sequential(lstm()), weights), sentence)


def test_gzip_and_shuffle_are_read(tmp_path: Path) -> None:
    def spoil(file: h5py.File) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, data=KERNELS["0"], compression="gzip", shuffle=True)

    path = archive(tmp_path / "m.keras", sequential(lstm()), hdf5(LSTM, spoil))
    np.testing.assert_array_equal(load(path).network.directions[0].w_x, KERNELS["0"].T)


def test_a_file_is_refused_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.keras"
    refused(path, "the file cannot be read: No such file or directory")
    refused(tmp_path, "a folder, not a file; save the model as one .keras or .h5 file, "
            "model.save('x.keras')")
    path.write_bytes(b"\x80\x04pickle")
    refused(path, "neither a .keras archive nor an HDF5 file")
    path.write_bytes(b"PK\x03\x04 and no more")
    refused(path, "not a .keras archive: its zip directory is damaged")
    path.write_bytes(hdf5(LSTM)[:1000])
    refused(path, "the HDF5 file is damaged")
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("config.json", "{}")
    refused(path, "not a .keras archive: there is no 'metadata.json' in it")
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("config.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("config.json", "{}")
    refused(path, "the archive has two members 'config.json'")
    archive(path, sequential(lstm()), hdf5(LSTM))
    refused(path, "'every_step' must not be given: this file of a whole model says it",
            every_step=True)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"units": 2', b'"units": 3'))
    refused(path, "'config.json' of the archive cannot be read: Bad CRC-32 for file 'config.json'")
    path.write_bytes(data)
    monkeypatch.setattr(golden.keras_store, "MAX_MEMBERS", 2)
    refused(path, "the archive must have at most 2 members, not 3")
    monkeypatch.setattr(golden.keras_store, "MAX_FILE", 100)
    refused(path, "the file must have at most 100 bytes, but has more")


def test_a_member_that_grows_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("config.json", " " * (golden.keras_store.MAX_JSON + 1))
    assert path.stat().st_size < 100_000
    refused(path, "'config.json' of the archive must have at most 16777216 bytes, not 16777217")


# Weights alone.

BATCH_NORMALIZATION = {f"layers/batch_normalization/vars/{n}": np.ones(2) for n in range(4)}


def _second(name: str) -> dict[str, np.ndarray]:
    return {f"layers/{name}/vars/0": rng.normal(size=(4, 4)),
            f"layers/{name}/vars/1": rng.normal(size=4)}


def test_weights_alone_follow_their_shapes(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    heads = {"layers/dense/vars/0": np.ones((5, 3)), "layers/dense/vars/1": np.ones(3),
             "layers/time_distributed/layer/vars/0": np.ones((2, 5))}
    path.write_bytes(hdf5({**LSTM, **heads, "layers/dropout/seed_generator/vars/0": np.ones(2)}))
    network = load(path, every_step=True, activations=("relu", "softmax")).network
    assert network.every_step
    assert [(each.inputs, each.outputs, str(each.function)) for each in network.head] == [
        (2, 5, "Relu"), (5, 3, "Softmax"),
    ]


@pytest.mark.parametrize(
    ("arrays", "options", "sentence"),
    [
        (LSTM, {}, "a file of weights does not say whether the last LSTM layer, 'lstm', gives its "
         "output at every step; give every_step (--steps) or save the whole model instead, "
         "model.save('x.keras')"),
        ({**LSTM, **DENSE}, {"every_step": True},
         "a file of weights does not say the activations of its 1 dense layers, 'dense'; give as "
         "many activations (--functions), not 0, or save the whole model instead, "
         "model.save('x.keras')"),
        ({**LSTM, **DENSE}, {"every_step": True, "activations": ["elu"]},
         "layer 'dense' (Dense): 'activation' must be one of linear, relu, sigmoid, tanh, "
         "hard_sigmoid, softmax, not elu"),
        (DENSE, {"every_step": True}, "the file of weights has no LSTM layer"),
        ({**LSTM, **BATCH_NORMALIZATION}, {"every_step": True},
         "what layer 'batch_normalization' does, and where, cannot be told from a file of weights; "
         "save the whole model instead, model.save('x.keras')"),
        ({**LSTM, "layers/re_lu/vars/x": np.ones(1)}, {"every_step": True},
         "what layer 're_lu' does, and where, cannot be told from a file of weights; save the "
         "whole model instead, model.save('x.keras')"),
        ({**LSTM, **DENSE, **_second("dense_1"), **{
            key.replace("dense/", "time_distributed/layer/"): array
            for key, array in _second("dense").items()}},
         {"every_step": True},
         "by their shapes, the dense layers 'dense', 'dense_1', 'time_distributed' follow on each "
         "other in several orders; save the whole model instead, model.save('x.keras')"),
        ({**LSTM, "layers/dense/vars/0": np.ones((3, 4))}, {"every_step": True},
         "by their shapes, the dense layers 'dense' follow on each other in no order; save the "
         "whole model instead, model.save('x.keras')"),
        ({"weights/0": np.ones(3)}, {"every_step": True},
         "neither a Keras model nor Keras weights: there is no 'model_config', no 'layers' and no "
         "'layer_names' in the HDF5 file"),
    ],
)
def test_weights_alone_are_refused(
    arrays: dict[str, np.ndarray], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.weights.h5"
    path.write_bytes(hdf5(arrays))
    refused(path, sentence, **options)


# The layout of HDF5 models that older releases have: `:0` behind names, bytes, a list as config.


def legacy(path: Path, description: Any, names: list[bytes], version: Any) -> Path:
    def spoil(file: h5py.File) -> None:
        file.attrs["model_config"] = json.dumps(description).encode()
        if version is not None:
            file.attrs["keras_version"] = version
        group = file.create_group("model_weights/lstm_1")
        group.attrs["weight_names"] = names
        for name, array in zip(names, KERNELS.values(), strict=False):
            group[name.decode()] = array

    path.write_bytes(hdf5({}, spoil))
    return path


NAMES = [b"lstm_1/kernel:0", b"lstm_1/recurrent_kernel:0", b"lstm_1/bias:0"]


def test_an_old_hdf5_model_is_read(tmp_path: Path) -> None:
    old = {"class_name": "Sequential", "config": [{"class_name": "LSTM", "config": {
        "name": "lstm_1", "batch_input_shape": [None, None, 3], "units": 2, "implementation": 1,
        "activation": "tanh", "recurrent_activation": "hard_sigmoid"}}]}
    model = load(legacy(tmp_path / "m.h5", old, NAMES, b"2.0.8"))
    assert model.source == "Keras 2.0.8, HDF5 model"
    (layer,) = model.network.directions
    assert str(layer.gate) == "HardSigmoid(0.2, 0.5)"
    np.testing.assert_array_equal(layer.w_h, KERNELS["1"].T)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (NAMES[:2], "layer 'lstm_1' (LSTM): 'model_weights/lstm_1' must hold weights kernel, "
         "recurrent_kernel, bias behind the first 0, but has 2 in all"),
        ([NAMES[1], NAMES[0], NAMES[2]],
         "layer 'lstm_1' (LSTM): 'model_weights/lstm_1' must hold 'kernel' where it has "
         "'lstm_1/recurrent_kernel:0'"),
        ([], "layer 'lstm_1' (LSTM): 'model_weights/lstm_1' must hold weights kernel, "
         "recurrent_kernel, bias behind the first 0, but has 0 in all"),
    ],
)
def test_an_hdf5_model_of_other_weights_is_refused(
    names: list[bytes], sentence: str, tmp_path: Path
) -> None:
    path = legacy(tmp_path / "m.h5", sequential(lstm(name="lstm_1")), names, "2.3.1")
    refused(path, sentence)


# Whatever a description says, it is either understood or refused.

ODD: list[Any] = [None, True, -1, 0, 2, 1.5, 1e300, 10**400, "", "x", [], [1], [[]], {}, "sum",
                  {"class_name": "LSTM"}, {"class_name": "LSTM", "config": {}}]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a description, with every key that it has."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += _places(value[key])
    return found


@pytest.mark.parametrize(
    "name", ["exchanged.keras", "states.keras", "joined.keras", "picked.keras", "cells.keras",
             "tf_states.keras"]
)
def test_odd_descriptions_are_refused_or_read(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(FOLDER / name) as packed:
        config = json.loads(packed.read("config.json"))
        weights = packed.read("model.weights.h5")
    choice = np.random.default_rng(len(name))
    messages = []
    for _ in range(60):
        spoiled = copy.deepcopy(config)
        container, key = (places := _places(spoiled))[choice.integers(len(places))]
        container[key] = ODD[choice.integers(len(ODD))]
        path = archive(tmp_path / "m.keras", spoiled, weights)
        try:
            load(path)
        except ModelError as error:
            messages.append(str(error))
    assert messages
    assert all(text.startswith(f"{tmp_path}") and "\n" not in text for text in messages)
