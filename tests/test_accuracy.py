from pathlib import Path

import numpy as np
import pytest

from golden.accuracy import MetricError, compare, load_metric, mean_squared_error
from golden.calibrate import quantize
from golden.lstm import LSTM
from golden.model import Dense, Network


def network(rng: np.random.Generator, every_step: bool) -> Network:
    return Network(
        layers=(LSTM(w_x=rng.normal(size=(12, 2)), w_h=rng.normal(size=(12, 3)),
                     bias=rng.normal(size=12)),),
        head=(Dense(w=rng.normal(size=(2, 3)), bias=rng.normal(size=2)),), every_step=every_step)


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_compare(seed: int, every_step: bool) -> None:
    rng = np.random.default_rng(seed)
    model = network(rng, every_step)
    x = rng.normal(size=(5, 7, 2))
    lengths = np.array([7, 1, 3, 7, 2])
    quantized = quantize(model, x, lengths)
    reference = model.run(x, lengths)
    y = reference + 0.5
    fixed = quantized.run_real(x, lengths)
    seen: list[tuple[int, ...]] = []

    def largest_error(outputs: np.ndarray, targets: np.ndarray) -> float:
        seen.append(outputs.shape)
        return float(np.abs(outputs - targets).max())

    accuracy = compare(model, quantized, x, lengths, y, largest_error)
    rows = 20 if every_step else 5
    assert seen == [(rows, 2), (rows, 2)]
    assert (accuracy.sequences, accuracy.steps, accuracy.metric) == (5, 20, "largest error")
    assert accuracy.float_model == pytest.approx(0.5)
    # The padding counts for nothing: zero there on both sides, 0.5 apart from the targets.
    outputs = (np.concatenate([fixed.real[n, :length] - reference[n, :length]
                               for n, length in enumerate(lengths)])
               if every_step else fixed.real - reference)
    assert accuracy.largest_difference == np.abs(outputs).max() > 0
    assert accuracy.mean_squared_difference == pytest.approx(np.mean(outputs**2))
    assert accuracy.bit_true == pytest.approx(np.abs(outputs - 0.5).max())
    assert accuracy.saturated == fixed.saturated


def test_without_targets() -> None:
    rng = np.random.default_rng(2)
    model = network(rng, False)
    x = rng.normal(size=(3, 4, 2))
    accuracy = compare(model, quantize(model, x), x, np.full(3, 4))
    assert accuracy.metric is accuracy.float_model is accuracy.bit_true is None
    assert accuracy.largest_difference > 0


def test_targets_of_another_shape() -> None:
    rng = np.random.default_rng(3)
    model = network(rng, False)
    x = rng.normal(size=(3, 4, 2))
    with pytest.raises(ValueError, match=r"targets 'y' must have the shape \[3, 2\] of the "
                                         r"outputs, not \[3, 1\]"):
        compare(model, quantize(model, x), x, np.full(3, 4), np.zeros((3, 1)))


@pytest.mark.parametrize(("metric", "text"), [
    (lambda outputs, targets: 1 / 0, "fails: ZeroDivisionError: division by zero"),
    (lambda outputs: 1.0, "fails: TypeError"),
    (lambda outputs, targets: outputs, "fails: TypeError"),
    (lambda outputs, targets: float("nan"), "must give a finite number, not nan"),
])
def test_metric_that_fails(metric: object, text: str) -> None:
    rng = np.random.default_rng(4)
    model = network(rng, False)
    x = rng.normal(size=(3, 4, 2))
    with pytest.raises(MetricError, match=text):
        compare(model, quantize(model, x), x, np.full(3, 4), np.zeros((3, 2)),
                metric)  # type: ignore[arg-type]


def test_mean_squared_error() -> None:
    assert mean_squared_error(np.array([[1.0], [2.0]]), np.array([[1.0], [5.0]])) == 4.5


def test_load_metric(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def first(outputs, targets):\n    return outputs[0, 0]\n")
    assert load_metric(f"{file}:first")(np.array([[3.0]]), np.zeros((1, 1))) == 3.0


@pytest.mark.parametrize(("name", "text"), [
    ("mine.py", r"metric must be FILE\.py:FUNCTION, not "),
    ("mine.py:", r"metric must be FILE\.py:FUNCTION, not "),
    ("other.py:first", "there is no file .*other.py"),
    ("mine.txt:first", "is not a Python file"),
    ("mine.py:second", "has no function second"),
    ("mine.py:number", "has no function number"),
    ("broken.py:first", "cannot be run: ModuleNotFoundError: No module named 'nowhere'"),
    ("wrong.py:first", "cannot be run: SyntaxError"),
])
def test_load_metric_that_is_not_there(tmp_path: Path, name: str, text: str) -> None:
    for file, content in {"mine.py": "number = 1\ndef first(outputs, targets): return 0.0\n",
                          "mine.txt": "", "broken.py": "import nowhere\n",
                          "wrong.py": "def first(:\n"}.items():
        (tmp_path / file).write_text(content)
    with pytest.raises(MetricError, match=text):
        load_metric(f"{tmp_path}/{name}")
