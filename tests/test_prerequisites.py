import subprocess
import sys
from pathlib import Path

import pytest

from sim import prerequisites

SCRIPT = Path(prerequisites.__file__)


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(SCRIPT)], env=environment,
                          capture_output=True, text=True, check=False)


def test_nothing_missing_where_the_tests_run() -> None:
    assert prerequisites.missing() == []


def test_shared_library_is_there() -> None:
    library = prerequisites.shared_libpython()
    assert library is not None
    assert "libpython3" in library


def test_without_any_program(tmp_path: Path) -> None:
    result = run(PATH=str(tmp_path))
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["set-up:", name, "is", "missing;"] for name in ("g++", "perl")]


@pytest.mark.parametrize("name", ["g++", "perl"])
def test_without_one_program(tmp_path: Path, name: str) -> None:
    for other in {"g++", "perl"} - {name}:
        (tmp_path / other).write_text("#!/bin/sh\n")
        (tmp_path / other).chmod(0o755)
    result = run(PATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith(f"set-up: {name} is missing; it ")
    assert result.stderr.count("\n") == 1


def test_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "MINIMUM_PYTHON", (99, 1))
    (sentence,) = prerequisites.missing()
    assert sentence.startswith("Python 99.1 or later is needed, and ")


def test_python_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "shared_libpython", lambda: None)
    (sentence,) = prerequisites.missing()
    assert "has no shared libpython, which cocotb loads" in sentence


def test_python_without_venv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites.importlib.util, "find_spec", lambda name: None)
    (sentence,) = prerequisites.missing()
    assert "has no venv module" in sentence
