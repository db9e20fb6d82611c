import io
from pathlib import Path

import numpy as np
import pytest

from golden.data import DataError, Sequences

X = np.arange(24.0).reshape(2, 4, 3)


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=X.astype(np.float32), lengths=np.array([4, 1], dtype=np.uint8),
             y=np.array([[1], [2]]))
    data = Sequences.load(path)
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.lengths, [4, 1])
    np.testing.assert_array_equal(data.y, [[1.0], [2.0]])
    assert data.x.dtype == np.float64
    assert data.lengths.dtype == np.int64


def test_defaults(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=X)
    data = Sequences.load(str(path))
    np.testing.assert_array_equal(data.lengths, [4, 4])
    assert data.y is None


@pytest.mark.parametrize(("arrays", "text"), [
    ({}, "must hold an array 'x', but has none"),
    ({"X": X, "a": X}, "must hold an array 'x', but has 'X', 'a'"),
    ({"x": X[0]}, r"array 'x' must have the shape \[sequences, steps, inputs\] and not be empty, "
                  r"not \[4, 3\]"),
    ({"x": X[:0]}, r"not \[0, 4, 3\]"),
    ({"x": X.astype(str)}, "array 'x' must hold real numbers, not <U"),
    ({"x": X * 1j}, "array 'x' must hold real numbers, not complex128"),
    ({"x": X, "y": np.array(["a", "b"])}, "array 'y' must hold real numbers, not <U1"),
    ({"x": X, "lengths": [4, 5]}, "sequence lengths must be in 1 .. 4"),
    ({"x": X, "lengths": [4]}, "sequence lengths must have the shape"),
    ({"x": X, "lengths": [4.0, 1.0]}, "sequence lengths must be integers"),
])
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=text) as caught:
        Sequences.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_pickles(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"not an \.npz file of plain arrays"):
        Sequences.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello"], ids=["empty", "zip", "text"])
def test_not_an_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not an \.npz file of plain arrays"):
        Sequences.load(path)


def test_damaged_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=X)
    content = bytearray(buffer.getvalue())
    content[60:90] = bytes(30)
    path = tmp_path / "data.npz"
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"not an \.npz file of plain arrays"):
        Sequences.load(path)


def test_single_array(tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, X)
    with pytest.raises(DataError, match=r"must be an \.npz file, not a single array"):
        Sequences.load(path)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file or directory"):
        Sequences.load(tmp_path / "none.npz")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        Sequences.load(tmp_path)
