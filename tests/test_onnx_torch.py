"""Models of PyTorch through both of its ONNX exporters."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.lstm import Bidirectional, State
from golden.model import ModelError, TrainedModel
from golden.onnx_file import load

pytestmark = pytest.mark.torch

N, H, O, T = 3, 5, 4, 7  # noqa: E741 - the letters of the documentation

LSTMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two": {"num_layers": 2},
    "no-bias": {"bias": False, "num_layers": 2},
    "both": {"bidirectional": True},
    "both-two": {"bidirectional": True, "num_layers": 2},
    "dropout": {"num_layers": 2, "dropout": 0.5},
}
HEADS = (
    "last", "every", "h_n", "mlp", "norm", "norm-before", "softmax", "argmax", "states", "scaled",
)


def build(torch: Any, options: dict[str, Any], head: str, batch_first: bool) -> Any:
    """A network with an LSTM and one of the heads."""
    nn = torch.nn
    wide = H * (2 if options.get("bidirectional") else 1)

    class Net(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(N, H, batch_first=batch_first, **options)
            self.dense = nn.Linear(wide, O)
            self.norm = nn.BatchNorm1d(N if head == "norm-before" else wide)
            self.mlp = nn.Sequential(
                nn.Linear(wide, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 5), nn.Sigmoid(),
                nn.Linear(5, O), nn.Tanh(), nn.Linear(O, O), nn.Hardsigmoid(),
            )
            self.register_buffer("mean", torch.randn(N))
            self.register_buffer("std", torch.rand(N) + 0.5)

        def forward(self, x: Any) -> Any:
            if head == "norm-before":
                x = self.norm(x.transpose(1, 2)).transpose(1, 2)
            if head == "scaled":
                x = (x - self.mean) / self.std
            out, (h, c) = self.lstm(x)
            if head == "states":
                return self.dense(out), h, c
            if head == "h_n":
                if self.lstm.bidirectional:
                    return self.dense(torch.cat((h[-2], h[-1]), 1))
                return self.dense(h[-1])
            last = out[:, -1] if batch_first else out[-1]
            match head:
                case "every":
                    return self.dense(out)
                case "mlp":
                    return self.mlp(last)
                case "norm":
                    return self.dense(self.norm(last))
                case "softmax":
                    return torch.softmax(self.dense(out), -1)
                case "argmax":
                    return torch.argmax(self.dense(last), 1)
                case _:
                    return self.dense(last)

    net = Net()
    net.train()
    if "norm" in head:
        # A few batches, so that the normalisation has statistics to tell apart.
        for _ in range(3):
            net(torch.randn(*((6, T) if batch_first else (T, 6)), N) * 2 + 1)
        with torch.no_grad():
            net.norm.weight.uniform_(0.5, 1.5)
            net.norm.bias.uniform_(-0.5, 0.5)
    return net.eval()


def export(torch: Any, net: Any, path: Path, dynamo: bool, batch_first: bool) -> Path:
    example = torch.zeros(*((2, T) if batch_first else (T, 2)), N)
    outputs = ["y"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            pytest.importorskip("onnxscript")
            # This exporter fixes the number of steps of an LSTM.
            torch.onnx.export(
                net, (example,), str(path), dynamo=True, verbose=False, external_data=False,
                input_names=["x"], output_names=outputs,
                dynamic_shapes=({int(not batch_first): torch.export.Dim.DYNAMIC},),
            )
        else:
            torch.onnx.export(
                net, (example,), str(path), dynamo=False, input_names=["x"],
                output_names=outputs, dynamic_axes={"x": {0: "a", 1: "b"}},
            )
    return path


def compare(torch: Any, net: Any, trained: TrainedModel, head: str, batch_first: bool) -> None:
    x = np.random.default_rng(0).normal(size=(4, T, N)).astype(np.float32)
    with torch.no_grad():
        given = net(torch.from_numpy(x if batch_first else x.swapaxes(0, 1).copy()))
    network = trained.network
    y, ended = network.run_states(x)
    expected = (given[0] if head == "states" else given).numpy()
    if network.every_step and not batch_first:
        expected = expected.swapaxes(0, 1)
    assert network.every_step == (head in ("every", "softmax", "states"))
    assert np.abs(y - expected.reshape(y.shape)).max() <= 1e-6
    if head != "states":
        return
    layers = len(network.layers)
    assert network.states == tuple(f"lstm{k}.{tensor}" for tensor in "hc" for k in range(layers))
    ours = iter(network.state_outputs(ended))
    for states in given[1:]:
        for k in range(layers):
            count = len(network.layers[k].directions)
            rows = states[k * count : (k + 1) * count].numpy()
            assert np.abs(next(ours) - np.concatenate(rows, axis=1)).max() <= 1e-6


# The newer exporter takes seconds: of its models there are fewer.
GRID = [
    (kind, head, dynamo)
    for number, (kind, head) in enumerate((kind, head) for kind in LSTMS for head in HEADS)
    for dynamo in ((False, True) if number % 5 < 2 else (False,))
]


@pytest.mark.parametrize(("kind", "head", "dynamo"), GRID)
def test_exports_equal_pytorch(tmp_path: Path, kind: str, head: str, dynamo: bool) -> None:
    torch = pytest.importorskip("torch")
    options = LSTMS[kind]
    number = list(LSTMS).index(kind) * len(HEADS) + HEADS.index(head)
    torch.manual_seed(number)
    batch_first = bool(number % 3)
    net = build(torch, options, head, batch_first)
    trained = load(export(torch, net, tmp_path / "m.onnx", dynamo, batch_first))
    compare(torch, net, trained, head, batch_first)
    layers = trained.network.layers
    assert len(layers) == options.get("num_layers", 1)
    both = options.get("bidirectional", False)
    assert all(isinstance(layer, Bidirectional) == both for layer in layers)


FORMS = ("view", "learned", "ends", "halves", "turned", "unbatched", "fixed", "given")


@pytest.mark.parametrize("dynamo", [False, True], ids=["script", "dynamo"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_programs(tmp_path: Path, form: str, dynamo: bool) -> None:
    """What people write around an LSTM."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    both = form not in ("learned", "turned", "given")

    class Net(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            layers = 1 if form in ("ends", "halves", "turned") else 2
            first = form != "unbatched"
            self.lstm = nn.LSTM(N, H, layers, batch_first=first, bidirectional=both)
            self.dense = nn.Linear(2 * H if both and form != "halves" else H, O)
            self.h, self.c = nn.Parameter(torch.randn(2, 1, H)), nn.Parameter(torch.randn(2, 1, H))

        def forward(self, x: Any, *states: Any) -> Any:
            match form:
                case "view":
                    _, (h, _) = self.lstm(x)
                    h = h.view(2, 2, x.shape[0], H)[-1]
                    return self.dense(torch.cat((h[0], h[1]), 1))
                case "learned":
                    count = x.shape[0]
                    h = self.h.expand(-1, count, -1).contiguous()
                    return self.dense(self.lstm(x, (h, self.c.repeat(1, count, 1)))[0])
                case "ends":
                    out, _ = self.lstm(x)
                    return self.dense(torch.cat((out[:, -1, :H], out[:, 0, H:]), 1))
                case "halves":
                    one, other = self.lstm(x)[0].chunk(2, -1)
                    return self.dense((one + other) / 2)
                case "turned":
                    return self.dense(torch.flip(self.lstm(torch.flip(x, [1]))[0], [1]))
                case "unbatched":
                    return self.dense(self.lstm(x)[0][-1])
                case "given":
                    out, (h, c) = self.lstm(x, states)
                    return self.dense(out), h, c
                case _:
                    return self.dense(self.lstm(x)[0])

    torch.manual_seed(FORMS.index(form))
    net = Net().eval()
    x = torch.randn(*(() if form == "unbatched" else (1 if form == "fixed" else 2,)), T, N)
    states = tuple(torch.randn(2, 2, H) for _ in range(2)) if form == "given" else ()
    path = tmp_path / "m.onnx"
    names = ["x", "h", "c"][: 1 + len(states)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            pytest.importorskip("onnxscript")
            options: dict[str, Any] = {"dynamo": True, "verbose": False, "external_data": False}
        else:
            moving = {} if form in ("unbatched", "fixed", "given") else {"x": {0: "b", 1: "t"}}
            options = {"dynamo": False, "dynamic_axes": moving}
        torch.onnx.export(net, (x, *states), str(path), input_names=names, **options)
    trained = load(path)
    with torch.no_grad():
        given = net(x, *states)
    if form == "given":
        start = [State(h=h.numpy(), c=c.numpy()) for h, c in zip(*states, strict=True)]
        y, ended = trained.network.run_states(x.numpy(), state=start)
        assert np.abs(y - given[0].numpy()).max() <= 1e-6
        rows = np.concatenate([given[1].numpy(), given[2].numpy()])
        assert np.abs(np.stack(trained.network.state_outputs(ended)) - rows).max() <= 1e-6
        assert sum("that the application sets" in note for note in trained.notes) == 4
    else:
        y = trained.network.run(x.numpy()[None] if form == "unbatched" else x.numpy())
        assert np.abs(y.reshape(given.shape) - given.numpy()).max() <= 1e-6


@pytest.mark.parametrize("dynamo", [False, True], ids=["script", "dynamo"])
def test_projections_are_not_exported_rightly(tmp_path: Path, dynamo: bool) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "m.onnx"
    net = build(torch, {"proj_size": 4}, "last", True)
    net.dense = torch.nn.Linear(4, O)
    if not dynamo:
        with pytest.raises(torch.onnx.errors.SymbolicValueError, match="projections"):
            export(torch, net, path, dynamo, True)
        return
    export(torch, net, path, dynamo, True)
    rule = r"initial_c must have the shape \[1, B, 4\], not .*proj_size"
    with pytest.raises(ModelError, match=rule):
        load(path)
