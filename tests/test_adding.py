"""The adding problem: its definition, its program, and the trained network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from golden.activation import TANH
from golden.calibrate import quantize
from golden.onnx_file import load
from golden.quantized import QuantizedLSTM
from golden.table import Table
from tests.onnx_builder import runtime

FOLDER = Path(__file__).parent.parent / "examples" / "adding"


def program() -> ModuleType:
    """The task's file as a module; examples are programs, not a package."""
    spec = importlib.util.spec_from_file_location("adding_task", FOLDER / "task.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


task = program()


@pytest.mark.parametrize("length", [20, 57, 100])
@pytest.mark.parametrize("seed", range(3))
def test_sequences_follow_the_definition(seed: int, length: int) -> None:
    count = 500
    x, lengths, y = task.sequences(count, seed, length)
    assert x.shape == (count, length + length // 10, 2)
    assert lengths.shape == (count,)
    assert lengths.dtype == np.int64
    assert y.shape == (count, 1)
    assert lengths.min() >= length
    assert lengths.max() <= length + length // 10
    marked_first = 0
    for sequence, steps, target in zip(x, lengths, y[:, 0], strict=True):
        values, markers = sequence[:steps].T
        assert not sequence[steps:].any()
        assert np.abs(values).max() <= 1.0
        assert markers[0] == markers[-1] == -1.0
        assert set(markers[1:-1]) <= {0.0, 1.0}
        at = np.flatnonzero(markers == 1.0)
        if len(at) == 1:
            # A mark on the first step leaves no trace but the zero value.
            marked_first += 1
            assert values[0] == 0.0
        else:
            assert len(at) == 2
            assert at[0] < 10
        assert at[-1] <= length // 2 - 1
        assert target == pytest.approx(0.5 + values[at].sum() / 4.0, abs=1e-12)
    # One step in ten for the first mark, and one in length / 2 - 1 for the second.
    assert 0.04 * count < marked_first < 0.35 * count


def test_every_choice_occurs() -> None:
    x, lengths, y = task.sequences(20_000, 0)
    assert set(lengths) == set(range(100, 111))
    assert set(np.flatnonzero((x[:, :, 1] == 1.0).any(axis=0))) == set(range(1, 50))
    assert abs(x[:, 1:100, 0].mean()) < 0.01
    # The variance of a uniform value in [-1, 1] is 1/3; here twice a sixteenth of that.
    assert np.var(y) == pytest.approx(2 / 48, rel=0.1)


def test_seeds_decide() -> None:
    first, again, other = (task.sequences(50, seed) for seed in (7, 7, 8))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(first[0], other[0])
    # Pinned, so that the figures in the documentation stay those of the same data.
    x, lengths, y = task.sequences(task.TEST_COUNT, task.TEST_SEED)
    assert lengths[:4].tolist() == [108, 106, 110, 108]
    assert float(y.sum()) == pytest.approx(1281.5715793, abs=1e-6)
    assert not x[0, lengths[0] :].any()


@pytest.mark.parametrize(
    ("count", "length", "text"),
    [
        (0, 100, "the number of sequences must be at least 1, not 0"),
        (5, 19, "the sequence length must be at least 20, not 19"),
    ],
)
def test_sequences_refuse(count: int, length: int, text: str) -> None:
    with pytest.raises(ValueError) as info:  # noqa: PT011 - the text is compared in full
        task.sequences(count, 0, length)
    assert str(info.value) == text


def test_correct_counts_errors_below_the_tolerance() -> None:
    targets = np.full((4, 1), 0.5)
    outputs = targets + np.array([[0.0], [0.0399], [-0.0401], [0.3]])
    assert task.correct(outputs, targets) == 0.5
    assert task.correct(outputs[:, 0], targets) == 0.5
    assert task.correct([0.04], [0.0]) == 0.0
    with pytest.raises(ValueError, match=r"as many and not empty, not 3 and 4$"):
        task.correct(outputs[:3], targets)


def test_program_writes_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    command = [sys.executable, str(FOLDER / "task.py"), "--count", "12", "--seed", "3"]
    subprocess.run([*command, "-o", str(path)], check=True, capture_output=True)
    with np.load(path) as data:
        assert sorted(data) == ["lengths", "x", "y"]
        for name, array in zip(("x", "lengths", "y"), task.sequences(12, 3), strict=True):
            np.testing.assert_array_equal(data[name], array)
    bad = subprocess.run([*command, "--length", "3", "-o", str(path)], capture_output=True)
    assert bad.returncode == 2
    assert b"the sequence length must be at least 20, not 3" in bad.stderr


def test_program_says_where_it_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "data.npz"
    command = [sys.executable, str(FOLDER / "task.py"), "--count", "12", "-o", str(path)]
    bad = subprocess.run(command, capture_output=True, text=True)
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr == f"task.py: {path} cannot be written: No such file or directory\n"


def test_network_solves_the_task() -> None:
    network = load(FOLDER / "model.onnx").network
    assert (network.inputs, network.directions[0].hidden, network.outputs) == (2, 20, 1)
    assert not network.every_step
    x, lengths, y = task.sequences(task.TEST_COUNT, task.TEST_SEED)
    outputs = network.run(x, lengths)
    assert task.correct(outputs, y) == 1.0
    # Far below the tolerance, to leave room for fixed point.
    assert np.abs(outputs - y).max() < 0.01
    assert np.mean((outputs - y) ** 2) < 1e-6


@pytest.mark.slow
def test_the_check_prints_what_the_documentation_says() -> None:
    printed = subprocess.run([sys.executable, str(FOLDER / "check.py")], check=True,
                             capture_output=True, text=True).stdout
    assert f"```\n{printed}```" in (FOLDER / "README.md").read_text()


def test_network_stays_in_range() -> None:
    """Preactivations, cell states and weights fit number formats of few integer bits."""
    network = load(FOLDER / "model.onnx").network
    x, lengths, _ = task.sequences(512, task.TEST_SEED)
    trace = network.trace(x, lengths)
    assert np.abs(trace.directions[0].z[trace.valid]).max() < 16.0
    assert np.abs(trace.directions[0].c[trace.valid]).max() < 4.0
    layer = network.directions[0]
    assert max(np.abs(w).max() for w in (layer.w_x, layer.w_h, layer.bias)) < 8.0


def test_network_equals_onnx_runtime() -> None:
    network = load(FOLDER / "model.onnx").network
    x, lengths, _ = task.sequences(64, task.TEST_SEED)
    ours = network.run(x, lengths)
    for steps in sorted(set(lengths)):
        chosen = lengths == steps
        theirs = runtime(FOLDER / "model.onnx", x[chosen, :steps])
        assert np.abs(ours[chosen] - theirs).max() <= 1e-5


class Rounded:
    """What a table gives, but the nearest code of the exact sigmoid and tanh for each argument."""

    def __init__(self, table: Table) -> None:
        self.readings, self.argument_of = table.readings, table.argument_of

    def evaluate(self, codes: np.ndarray, reading: int = 0) -> np.ndarray:
        x = self.argument_of(reading).to_real(codes)
        exact = np.tanh(x) if reading == TANH else 0.5 + 0.5 * np.tanh(x / 2)
        return self.readings[reading].result.quantize(exact)[0]


def test_exact_functions_would_hardly_be_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables cost less than a tenth of the mean squared error at 16 bits."""
    network = load(FOLDER / "model.onnx").network
    data, steps, _ = task.sequences(256, 1)
    quantized = quantize(network, data, steps, bits=16)
    x, lengths, y = task.sequences(task.TEST_COUNT, task.TEST_SEED)
    outputs = [quantized.run_real(x, lengths).real]
    table = quantized.directions[0].table
    monkeypatch.setattr(QuantizedLSTM, "table", Rounded(table))
    outputs.append(quantized.run_real(x, lengths).real)
    # A layer keeps the table it was made with, unless it is taken away.
    monkeypatch.delitem(vars(quantized.directions[0]), "table")
    outputs.append(quantized.run_real(x, lengths).real)
    ours, same, exact = (np.mean((each - y) ** 2) for each in outputs)
    assert ours == same != exact
    assert ours == pytest.approx(exact, rel=0.1)
