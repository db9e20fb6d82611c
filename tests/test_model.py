"""The float model: against ONNX Runtime, PyTorch, and its own contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from golden.checks import sequence_lengths
from golden.function import sigmoid
from golden.lstm import LSTM
from golden.model import Dense, Network
from tests.onnx_builder import cell, lstm_arrays, node, runtime, save

SHAPES = [  # seed, sequences, steps, inputs, hidden
    (0, 1, 1, 1, 1),
    (1, 1, 7, 3, 5),
    (2, 4, 1, 2, 8),
    (3, 3, 12, 1, 4),
    (4, 5, 9, 6, 1),
    (5, 2, 25, 4, 16),
    (6, 8, 5, 7, 3),
    (7, 1, 110, 2, 20),
    (8, 6, 30, 12, 10),
    (9, 2, 64, 5, 33),
    (10, 16, 3, 9, 2),
    (11, 3, 40, 32, 7),
    (12, 7, 18, 2, 48),
]


def network(
    seed: int, inputs: int, hidden: tuple[int, ...], outputs: int = 0, every: bool = False
) -> Network:
    """A random network; no outputs means no head."""
    rng = np.random.default_rng(seed)
    widths = (inputs, *hidden)
    layers = tuple(cell(rng, n, h).layer() for n, h in zip(widths, hidden, strict=False))
    head: tuple[Dense, ...] = ()
    if outputs:
        head = (Dense(w=rng.normal(size=(outputs, widths[-1])), bias=rng.normal(size=outputs)),)
    return Network(layers=layers, head=head, every_step=every)


@pytest.mark.parametrize(("seed", "count", "steps", "inputs", "hidden"), SHAPES)
def test_equals_onnx_runtime(
    tmp_path: Path, seed: int, count: int, steps: int, inputs: int, hidden: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = cell(rng, inputs, hidden)
    path = save(
        tmp_path / "m.onnx",
        [node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=hidden)],
        lstm_arrays(weights),
        x=["time", "batch", inputs],
    )
    x = rng.uniform(-2.0, 2.0, (count, steps, inputs)).astype(np.float32)
    expected = runtime(path, x.swapaxes(0, 1))[:, 0].swapaxes(0, 1)
    assert np.abs(weights.layer().run(x).h - expected).max() <= 1e-6


@pytest.mark.torch
@pytest.mark.parametrize(("seed", "count", "steps", "inputs", "hidden"), SHAPES)
def test_equals_pytorch(seed: int, count: int, steps: int, inputs: int, hidden: int) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    layers = 1 + seed % 3
    theirs = torch.nn.LSTM(inputs, hidden, num_layers=layers, batch_first=True).double()
    weights = {name: value.detach().numpy() for name, value in theirs.named_parameters()}
    ours = Network(
        layers=tuple(
            LSTM(
                w_x=weights[f"weight_ih_l{k}"],
                w_h=weights[f"weight_hh_l{k}"],
                bias=weights[f"bias_ih_l{k}"] + weights[f"bias_hh_l{k}"],
            )
            for k in range(layers)
        ),
        every_step=True,
    )
    x = np.random.default_rng(seed).uniform(-2.0, 2.0, (count, steps, inputs))
    out, (h, c) = theirs(torch.from_numpy(x))
    trace = ours.trace(x)
    assert np.abs(trace.y - out.detach().numpy()).max() <= 1e-6
    for k in range(layers):
        assert np.abs(trace.directions[k].h[:, -1] - h[k].detach().numpy()).max() <= 1e-6
        assert np.abs(trace.directions[k].c[:, -1] - c[k].detach().numpy()).max() <= 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_intermediates_follow_the_equations(seed: int) -> None:
    layer = cell(np.random.default_rng(seed), 3, 5).layer()
    x = np.random.default_rng(seed).normal(size=(2, 6, 3))
    trace = layer.run(x)
    assert trace.z.shape == trace.gates.shape == (2, 6, 20)
    c = np.zeros((2, 5))
    h = np.zeros((2, 5))
    for t in range(6):
        z = np.stack(
            [layer.w_x @ x[b, t] + layer.w_h @ h[b] + layer.bias for b in range(2)]
        ).reshape(2, 4, 5)
        i, f, o = (1.0 / (1.0 + np.exp(-z[:, k])) for k in (0, 1, 3))
        g = np.tanh(z[:, 2])
        c = f * c + i * g
        h = o * np.tanh(c)
        for name, value in {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}.items():
            np.testing.assert_allclose(getattr(trace, name)[:, t], value, rtol=1e-12)
        np.testing.assert_allclose(trace.z[:, t], z.reshape(2, 20), rtol=1e-12)


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid([-1e308, -800.0, 0.0, 800.0, 1e308]).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    x = np.linspace(-30.0, 30.0, 601)
    np.testing.assert_allclose(sigmoid(x), 0.5 * (1.0 + np.tanh(x / 2.0)), atol=1e-15)


@pytest.mark.parametrize("padding", [0.0, 1e300, np.nan, -np.inf])
@pytest.mark.parametrize("seed", range(3))
def test_padding_never_matters(seed: int, padding: float) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, size=6)
    x = rng.normal(size=(6, 9, 3))
    for row, length in enumerate(lengths):
        x[row, length:] = padding
    last = network(seed, 3, (4, 5), outputs=2)
    every = Network(layers=last.layers, head=last.head, every_step=True)
    trace = every.trace(x, lengths)
    assert trace.valid.sum() == lengths.sum()
    np.testing.assert_array_equal(every.run(x, lengths), trace.y)
    for row, length in enumerate(lengths):
        alone = x[row : row + 1, :length]
        np.testing.assert_allclose(
            last.run(x, lengths)[row], last.run(alone)[0], rtol=1e-12, atol=1e-15
        )
        np.testing.assert_allclose(
            trace.y[row, :length], every.run(alone)[0], rtol=1e-12, atol=1e-15
        )
        assert not trace.y[row, length:].any()
        z = every.trace(alone).directions[1].z[0]
        np.testing.assert_allclose(trace.directions[1].z[row, :length], z, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_stack_feeds_each_layer_with_the_one_before(seed: int) -> None:
    stack = network(seed, 3, (4, 6, 2), every=True)
    x = np.random.default_rng(seed).normal(size=(5, 7, 3))
    h = x
    for layer in stack.directions:
        h = layer.run(h).h
    np.testing.assert_array_equal(stack.run(x), h)
    assert (stack.inputs, stack.outputs) == (3, 2)
    last = Network(layers=stack.layers, every_step=False)
    np.testing.assert_array_equal(last.run(x), h[:, -1])


def test_head_and_widths() -> None:
    net = network(0, 3, (4,), outputs=2, every=True)
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    (layer,), (head,) = net.directions, net.head
    expected = layer.run(x).h @ head.w.T + head.bias
    np.testing.assert_array_equal(net.run(x), expected)
    assert (net.inputs, net.outputs, head.inputs, head.outputs) == (3, 2, 4, 2)
    assert (layer.inputs, layer.hidden, layer.outputs) == (3, 4, 4)


def test_weights_are_copied_and_read_only() -> None:
    w = np.ones((4, 1))
    layer = LSTM(w_x=w, w_h=w, bias=np.zeros(4, dtype=np.float32))
    w[:] = 2.0
    assert layer.w_x.max() == 1.0
    assert layer.bias.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        layer.w_x[0, 0] = 3.0


def lstm(**changes: object) -> LSTM:
    arrays: dict[str, object] = {"w_x": np.ones((8, 3)), "w_h": np.ones((8, 2)), "bias": np.ones(8)}
    return LSTM(**(arrays | changes))  # type: ignore[arg-type]


def nan_at(shape: tuple[int, ...], at: tuple[int, ...], value: float = np.nan) -> np.ndarray:
    array = np.zeros(shape)
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"w_x": nan_at((8, 3), (3, 2))},
            "LSTM weight 'w_x' must be finite, but element [3, 2] is nan",
        ),
        (
            {"w_h": nan_at((8, 2), (7, 1), -np.inf)},
            "LSTM weight 'w_h' must be finite, but element [7, 1] is -inf",
        ),
        ({"bias": nan_at((8,), (5,))}, "LSTM bias must be finite, but element [5] is nan"),
        (
            {"w_h": np.ones((8, 3))},
            "LSTM weight 'w_h' must have the shape [4H, H], not [8, 3]",
        ),
        ({"w_h": np.ones(8)}, "LSTM weight 'w_h' must have the shape [4H, H], not [8]"),
        ({"w_x": np.ones((4, 3))}, "LSTM weight 'w_x' must have 8 rows, as 'w_h' has, not 4"),
        (
            {"w_x": np.ones((8, 0))},
            "LSTM weight 'w_x' must not be empty, but its shape is [8, 0]",
        ),
        ({"bias": np.ones(4)}, "LSTM bias must have 8 elements, as 'w_h' has rows, not 4"),
        (
            {"bias": ["a"] * 8},
            "LSTM bias must hold real numbers, but its type is <U1",
        ),
    ],
)
def test_lstm_refuses(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError) as info:  # noqa: PT011 - the text is compared in full
        lstm(**changes)
    assert str(info.value) == text


@pytest.mark.parametrize(
    ("w", "bias", "text"),
    [
        (np.ones((2, 3)), np.ones(3), "dense bias must have 2 elements, as 'w' has rows, not 3"),
        (np.ones(3), np.ones(1), "dense weight 'w' must have the shape [O, H], not [3]"),
        (
            nan_at((2, 3), (1, 0)),
            np.ones(2),
            "dense weight 'w' must be finite, but element [1, 0] is nan",
        ),
    ],
)
def test_dense_refuses(w: np.ndarray, bias: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError) as info:  # noqa: PT011 - the text is compared in full
        Dense(w=w, bias=bias)
    assert str(info.value) == text


def test_dense_refuses_other_widths() -> None:
    with pytest.raises(
        ValueError, match=r"^dense input must have 3 features, but its shape is \[2, 4\]$"
    ):
        Dense(w=np.ones((1, 3)), bias=np.ones(1)).run(np.ones((2, 4)))


@pytest.mark.parametrize(
    ("count", "head", "text"),
    [
        (0, None, "a network must have at least one LSTM layer, but has none"),
        (2, None, "LSTM layer 1 must take the 2 outputs of layer 0, but takes 3 inputs"),
        (1, 5, "dense layer 0 must take the 2 outputs of the last LSTM layer, but takes 5 inputs"),
    ],
)
def test_network_refuses_what_does_not_fit(count: int, head: int | None, text: str) -> None:
    dense = () if head is None else (Dense(w=np.ones((1, head)), bias=np.ones(1)),)
    with pytest.raises(ValueError) as info:  # noqa: PT011 - the text is compared in full
        Network(layers=(lstm(),) * count, head=dense)
    assert str(info.value) == text


@pytest.mark.parametrize(
    ("x", "lengths", "text"),
    [
        (np.ones((2, 5)), None, "input 'x' must have the shape [B, T, N], not [2, 5]"),
        (np.ones((2, 5, 4)), None, "input 'x' must have 3 features, not 4"),
        (np.ones((2, 0, 3)), None, "input 'x' must not be empty, but its shape is [2, 0, 3]"),
        (
            nan_at((2, 5, 3), (1, 2, 0)),
            [5, 3],
            "input 'x' must be finite, but element [1, 2, 0] is nan",
        ),
        (
            np.ones((2, 5, 3)),
            [5, 6],
            "sequence lengths must be in 1 .. 5, but that of sequence 1 is 6",
        ),
        (
            np.ones((2, 5, 3)),
            [0, 5],
            "sequence lengths must be in 1 .. 5, but that of sequence 0 is 0",
        ),
        (
            np.ones((2, 5, 3)),
            [5],
            "sequence lengths must have the shape [2], one for each sequence, not [1]",
        ),
        (
            np.ones((2, 5, 3)),
            [5.0, 4.0],
            "sequence lengths must be integers, but their type is float64",
        ),
    ],
)
def test_network_refuses_inputs(x: np.ndarray, lengths: list[int] | None, text: str) -> None:
    for method in ("run", "trace"):
        with pytest.raises(ValueError) as info:  # noqa: PT011 - the text is compared in full
            getattr(network(0, 3, (4,), outputs=1), method)(x, lengths)
        assert str(info.value) == text


def test_lengths_default_to_all_steps() -> None:
    assert sequence_lengths(None, 3, 7).tolist() == [7, 7, 7]
