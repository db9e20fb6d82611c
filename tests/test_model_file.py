"""Reading models by the kind of their file, and what is said of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.function import RELU, SOFTMAX, Function
from golden.lstm import LSTM, Bidirectional
from golden.model import Dense, ModelError, Network, TrainedModel
from golden.model_file import describe, load

MODELS = Path(__file__).parent / "models"
EXAMPLE = Path(__file__).parents[1] / "examples" / "adding" / "model.onnx"


@pytest.mark.parametrize(("path", "told", "source"), [
    (EXAMPLE, {}, "ONNX, operator set 20"),
    (MODELS / "keras" / "stack.keras", {}, "Keras"),
    (MODELS / "keras" / "alone.weights.h5", {"steps": "last", "functions": ["relu", "softmax"]},
     "Keras"),
    (MODELS / "torch" / "plain.safetensors", {"steps": "last"}, "PyTorch"),
])
def test_kinds(path: Path, told: dict[str, Any], source: str) -> None:
    model = load(path, **told)
    assert model.source.startswith(source)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 4, model.network.inputs))
    assert np.isfinite(model.network.run(x)).all()


def test_steps() -> None:
    path = MODELS / "torch" / "plain.safetensors"
    assert load(path, steps="every").network.every_step
    assert not load(path, steps="last").network.every_step


@pytest.mark.parametrize(("path", "told", "text"), [
    ("model.tflite", {}, "model.tflite: the file's name must end in one of .onnx, .safetensors, "
     ".pt, .pth, .ckpt, .bin, .keras, .h5, .hdf5, not '.tflite'"),
    ("a.onnx", {"steps": "first"}, "steps must be one of every, last, final, not first"),
    ("a.onnx", {"steps": "last"}, "a.onnx: steps and functions can be given for files of weights "
     "only, since an ONNX model says them itself"),
    ("a.keras", {"order": ["lstm"]}, "a.keras: the order can be given for a state_dict only"),
    ("a.h5", {"steps": "final"},
     "a.h5: steps must be every or last for the weights of a Keras model, not final"),
])
def test_refuses(path: str, told: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError) as info:
        load(path, **told)
    assert str(info.value) == text


def test_description() -> None:
    def cell(inputs: int, **others: Any) -> LSTM:
        return LSTM(w_x=np.ones((12, inputs)), w_h=np.ones((12, others.pop("outputs", 3))),
                    bias=np.ones(12), **others)

    network = Network(
        layers=(cell(2, peepholes=np.ones(9), clip=3.0, gate=Function("HardSigmoid")),
                cell(3, outputs=1, projection=np.ones((1, 3)), initial_c=np.ones(3)),
                Bidirectional(forward=cell(1), backward=cell(1, reverse=True))),
        head=(Dense(w=np.ones((4, 6)), bias=np.ones(4), function=RELU),
              Dense(w=np.ones((2, 4)), bias=np.ones(2), function=SOFTMAX)),
        every_step=True, backwards=True, states=("lstm2.c",), stateful=True)
    model = TrainedModel(network=network, source="a file", notes=("a dropout is left out",))
    assert [" ".join(line.split()) for line in describe(model, bits=8).splitlines()] == [
        "a file",
        "input 2 features a step",
        "lstm0 2 -> 3 forward 81 parameters, 69 products a step",
        "peepholes",
        "functions HardSigmoid(0.2, 0.5), Tanh, Tanh",
        "clip 3",
        "lstm1 3 -> 3 forward 63 parameters, 51 products a step",
        "projection 3 -> 1",
        "initial_c",
        "lstm2 1 -> 3 bidirectional, concat 120 parameters, 96 products a step",
        "dense0 6 -> 4 Relu 28 parameters, 24 products",
        "dense1 4 -> 2 Softmax 10 parameters, 8 products",
        "output 2 at every step, from the last to the first",
        "states lstm2.c",
        "kept from sequence to sequence",
        "in all 302 parameters, 248 products where there is an output",
        "memory in bits, with numbers of 8:",
        # 3 + 3 + 2 * 4 gates of 3 units, and 6 outputs; 20 bits each.
        "weights 1,984",
        "biases 1,080",
        # Twice 2 + 3, 3 + 1, 1 + 3, 1 + 3, and 6 and 4 of the dense layers; 4 times 3 cell states.
        "steps and states 528",
        # Two of one input before both directions, two of 3 units of each behind them.
        "sequences, up to 64 steps 7,168",
        "taken into the weights, or left out:",
        "- a dropout is left out",
    ]
