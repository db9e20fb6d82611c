"""The folder of a build: what may be replaced, and replacing it once all of the new is there.

A folder that is there stays: what is in it is replaced. So it may be the current one, or one on
which something is mounted, or lie where nothing else may be written.
"""

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

BUILDING = ".building-"


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


def _is_there(path: Path) -> bool:
    """Whether there is something, a link to nothing too."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def check_folder(directory: Path) -> Path:
    """See whether a build may go to a folder; returns where that is.

    Raises
    ------
    FolderError
        If it is no folder, is not writable, or holds what no build has left there.
    """
    with _naming(directory):
        place = Path(os.path.realpath(directory))
        there = next(path for path in (place, *place.parents) if _is_there(path))
        if not there.is_dir():
            raise FolderError(f"output {directory} must be a folder, but {there} is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise FolderError(f"output {directory}: {there} is not writable")
        foreign = sorted({path.name for path in place.iterdir()} - _entries(place)
                         ) if there == place else []
        if foreign:
            left = foreign[0].startswith(BUILDING)
            raise FolderError(f"output {directory} must be a new folder or an earlier build, but "
                              f"it holds {foreign[0]}"
                              + (", of a build that is going on or was killed" if left else ""))
    return place


@contextlib.contextmanager
def new_folder(directory: Path) -> Iterator[Path]:
    """A folder that becomes ``directory`` once the work in it is done, and vanishes if it fails.

    Raises
    ------
    FolderError
        As of :func:`check_folder`, or if a file cannot be written, or what is there not be
        replaced in the end: then what was built is kept.
    """
    place = check_folder(directory)
    with _naming(directory):
        place.parent.mkdir(parents=True, exist_ok=True)
        # Within the file system that it is to be in, so that a rename is all it takes.
        work = Path(tempfile.mkdtemp(prefix=BUILDING,
                                     dir=place if place.exists() else place.parent))
    new, keep = work / "new", False
    try:
        with _naming(directory):
            new.mkdir()
            yield new
        # Until all of it is there, whatever happens.
        keep = True
        try:
            _put(new, place, work)
        except OSError as error:
            raise FolderError(f"output {directory}: what was built cannot be put there, and is in "
                              f"{new}: {error.strerror or error}") from error
        keep = False
    finally:
        if not keep:
            shutil.rmtree(work, ignore_errors=True)


def _put(new: Path, place: Path, work: Path) -> None:
    """Put a folder, or what it holds, in its place; all of it or nothing."""
    if not place.exists():
        new.rename(place)
        return
    old = work / "old"
    old.mkdir()
    moves = [*((path, old / path.name) for path in place.iterdir() if path != work),
             *((path, place / path.name) for path in new.iterdir())]
    try:
        for source, target in moves:
            source.rename(target)
    except BaseException:
        for source, target in reversed(moves):
            if _is_there(target) and not _is_there(source):
                target.rename(source)
        raise
