"""What a Keras file holds, read with bounds: its archive, its JSON, its HDF5 groups and arrays.

A file may come from anyone.  Nothing of it is executed or unpacked to disk, members and arrays are
read by their names, each within a bound, and of HDF5's ways to pull in data from elsewhere (links
to other files, external storage, virtual datasets) and of its filters none but those that Keras
writes are followed.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from golden.model import ModelError

__all__ = ["MAX_JSON", "Archive", "Store", "parse_json", "read_file"]

Array = NDArray[np.float64]

MAX_FILE = 1 << 30
"""Bytes of a file, and of an archive's weights once they are decompressed."""

MAX_MEMBERS = 1000
"""Members of an archive; Keras writes three."""

MAX_JSON = 1 << 24
"""Bytes of a model's description; that of a hundred layers takes some 200 kB."""

MAX_DEPTH = 100
"""Objects and lists in one another in a description."""

MAX_ELEMENTS = 1 << 26
"""Elements of one array."""

MAX_NAMES = 10_000
"""Names in a group or in a list of names."""

MAX_LEVELS = 64
"""Levels of a path in a file."""

FILTERS = {1: "gzip", 2: "shuffle", 3: "Fletcher-32"}
"""The HDF5 filters that may be on an array: those that every HDF5 library has and h5py offers."""


def read_file(path: Path) -> bytes:
    """All bytes of a file that is not too large.

    Raises
    ------
    ModelError
        If there are more than ``MAX_FILE``, or the file cannot be read.
    """
    if path.is_dir():
        raise ModelError(
            "a folder, not a file; save the model as one .keras or .h5 file, model.save('x.keras')"
        )
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ModelError(f"the file cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise ModelError(f"the file must have at most {MAX_FILE} bytes, but has more")
    return data


def parse_json(what: str, text: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    ModelError
        If `text` is longer than ``MAX_JSON``, too deep, or no JSON object.
    """
    if len(text) > MAX_JSON:
        raise ModelError(f"{what} must have at most {MAX_JSON} bytes, not {len(text)}")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ModelError(f"{what} must be nested at most {MAX_DEPTH} deep") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise ModelError(f"{what} is not JSON") from error
    if not isinstance(value, dict):
        raise ModelError(f"{what} must be a JSON object, not {type(value).__name__}")
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [each for outer in level
                 for each in (outer.values() if isinstance(outer, dict) else outer)
                 if isinstance(each, dict | list)]
        if not level:
            return value
    raise ModelError(f"{what} must be nested at most {MAX_DEPTH} deep")


class Archive:
    """The members of a ``.keras`` archive.

    Parameters
    ----------
    data : bytes
        The whole file.

    Raises
    ------
    ModelError
        If it is no zip archive, or has more than ``MAX_MEMBERS`` members or two of one name.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise ModelError("not a .keras archive: its zip directory is damaged") from error
        names = self._zip.namelist()
        if len(names) > MAX_MEMBERS:
            raise ModelError(
                f"the archive must have at most {MAX_MEMBERS} members, not {len(names)}"
            )
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ModelError(f"the archive has two members '{min(twice)}'")

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a member, at most so many."""
        try:
            info = self._zip.getinfo(name)
        except KeyError:
            raise ModelError(f"not a .keras archive: there is no '{name}' in it") from None
        if info.file_size > limit:
            raise ModelError(
                f"'{name}' of the archive must have at most {limit} bytes, not {info.file_size}"
            )
        try:
            # What the directory says of the size may be a lie.
            with self._zip.open(info) as member:
                data = member.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError,
                NotImplementedError, ValueError) as error:
            raise ModelError(f"'{name}' of the archive cannot be read: {error}") from error
        if len(data) > limit:
            raise ModelError(f"'{name}' of the archive must have at most {limit} bytes")
        return data


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """One sentence in place of whatever HDF5 may say of a damaged file."""
    try:
        yield
    except ModelError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, UnicodeError) as error:
        raise ModelError(f"{what} cannot be read; the HDF5 file is damaged") from error


class Store:
    """An HDF5 file in memory.

    Parameters
    ----------
    data : bytes
        The whole file.

    Raises
    ------
    ModelError
        If it is not an HDF5 file.  So do all methods where something is not as it should be.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._file = h5py.File(io.BytesIO(data), "r")
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ModelError("the HDF5 file is damaged") from error

    def _find(self, path: str) -> Any:
        """The group or dataset of a path, or None; the root is ``""``."""
        here: Any = self._file
        parts = path.split("/") if path else []
        if len(parts) > MAX_LEVELS:
            raise ModelError(f"'{path}' must have at most {MAX_LEVELS} levels, not {len(parts)}")
        with _reading(f"'{path}'"):
            for part in parts:
                if part in ("", ".") or not isinstance(here, h5py.Group):
                    return None
                link = here.get(part, getlink=True)
                if link is None:
                    return None
                if not isinstance(link, h5py.HardLink):
                    raise ModelError(f"'{path}' is a link to another place or file; links are not "
                                     "followed")
                here = here[part]
        return here

    def is_group(self, path: str) -> bool:
        """Whether there is a group of this path."""
        return isinstance(self._find(path), h5py.Group)

    def members(self, path: str) -> list[str]:
        """The names in a group, sorted; none where there is no such group."""
        group = self._find(path)
        if not isinstance(group, h5py.Group):
            return []
        with _reading(f"'{path}'"):
            if len(group) > MAX_NAMES:
                raise ModelError(f"'{path}' must have at most {MAX_NAMES} members, not "
                                 f"{len(group)}")
            return sorted(str(name) for name in group)

    def _attribute(self, path: str, name: str) -> Any:
        """The value of an attribute, or None."""
        where = self._find(path)
        if where is None:
            return None
        with _reading(f"attribute '{name}'"):
            if name not in where.attrs:
                return None
            size = math.prod(where.attrs.get_id(name).shape or ())
            if size > MAX_NAMES:
                raise ModelError(f"attribute '{name}' must have at most {MAX_NAMES} elements, not "
                                 f"{size}")
            return where.attrs[name]

    def text(self, path: str, name: str) -> str | None:
        """An attribute that is a text, or None where there is none."""
        value = self._attribute(path, name)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if value is not None and not isinstance(value, str):
            raise ModelError(f"attribute '{name}' must be a text, not {type(value).__name__}")
        return None if value is None else str(value)

    def names(self, path: str, name: str) -> list[str] | None:
        """An attribute that is a list of names, or None where there is none."""
        value = self._attribute(path, name)
        if value is None and self._attribute(path, f"{name}0") is not None:
            # HDF5 takes 64 kB of attribute; Keras writes a longer list in parts.
            parts: list[NDArray[Any]] = []
            while (part := self._attribute(path, f"{name}{len(parts)}")) is not None:
                parts.append(np.atleast_1d(part))
                if len(parts) > MAX_NAMES:
                    raise ModelError(f"attribute '{name}' has more than {MAX_NAMES} parts")
            value = np.concatenate(parts)
        if value is None:
            return None
        items = [item.decode(errors="replace") if isinstance(item, bytes) else item
                 for item in np.atleast_1d(value).tolist()]
        if not all(isinstance(item, str) for item in items):
            raise ModelError(f"attribute '{name}' must be a list of names")
        return items

    def shape(self, path: str) -> tuple[int, ...] | None:
        """The shape of an array, or None where there is none of this path."""
        found = self._find(path)
        return tuple(found.shape or ()) if isinstance(found, h5py.Dataset) else None

    def array(self, path: str) -> Array:
        """An array of floating-point numbers, in float64."""
        found = self._find(path)
        if not isinstance(found, h5py.Dataset):
            raise ModelError(f"the file has no weights '{path}'")
        with _reading(f"the weights '{path}'"):
            if found.is_virtual or found.external:
                raise ModelError(f"the weights '{path}' must be in the file itself, not in others")
            plist = found.id.get_create_plist()
            for number in range(plist.get_nfilters()):
                code = plist.get_filter(number)[0]
                if code not in FILTERS:
                    raise ModelError(
                        f"the weights '{path}' must have no HDF5 filters but "
                        f"{', '.join(FILTERS.values())}, not number {code}"
                    )
            size = math.prod(found.shape or ())
            if size > MAX_ELEMENTS:
                raise ModelError(f"the weights '{path}' must have at most {MAX_ELEMENTS} elements, "
                                 f"not {size}")
            if found.dtype.kind != "f" or found.dtype.itemsize > 8:
                raise ModelError(f"the weights '{path}' must be floating-point numbers of at most "
                                 f"64 bits, but their type is {found.dtype}")
            return np.asarray(found[()], dtype=np.float64)
