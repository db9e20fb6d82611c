"""The folder of a build: what may be replaced, and replacing it in one step."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sim.coverage import REACHED
from sim.manifest import MANIFEST, Manifest, ManifestError
from sim.vectors import VECTORS

__all__ = ["REPORT", "FolderError", "check_folder", "new_folder"]

REPORT = "report.json"


class FolderError(ValueError):
    """A folder cannot be written; the message is one sentence that says why."""


@contextlib.contextmanager
def _naming(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderError(f"output {directory}: {error.strerror or error}") from error


def _entries(directory: Path) -> set[str]:
    """What a build and its verification may have left; nothing, where there was no build."""
    try:
        verilog = Manifest.load(directory).verilog.name
    except ManifestError:
        return set()
    bitstreams = {path.name for path in directory.glob("selftest.*")}
    return {MANIFEST, VECTORS, REACHED, REPORT, verilog, "fpga", "sim"} | bitstreams


def check_folder(directory: Path) -> None:
    """See whether a build may go to a folder.

    Raises
    ------
    FolderError
        If it is no folder, is not writable, or holds what no build has left there.
    """
    with _naming(directory):
        there = next(path for path in (directory, *directory.parents) if path.exists())
        if not there.is_dir():
            raise FolderError(f"output {directory} must be a folder, but {there} is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise FolderError(f"output {directory}: {there} is not writable")
        foreign = sorted({path.name for path in directory.iterdir()} - _entries(directory)
                         ) if directory.is_dir() else []
        if foreign:
            raise FolderError(f"output {directory} must be a new folder or an earlier build, but "
                              f"it holds {foreign[0]}")


@contextlib.contextmanager
def new_folder(directory: Path) -> Iterator[Path]:
    """A folder that becomes ``directory`` once the work in it is done, and vanishes if it fails.

    Raises
    ------
    FolderError
        As of :func:`check_folder`.
    """
    check_folder(directory)
    with _naming(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, because a rename is one step within a file system only.
        work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        (work / "new").mkdir()
        yield work / "new"
        if directory.exists():
            directory.rename(work / "old")
        try:
            (work / "new").rename(directory)
        except OSError:
            if (work / "old").exists():
                (work / "old").rename(directory)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
