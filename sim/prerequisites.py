"""What pip cannot bring: a suitable Python, a C++ compiler and perl.

Verilator writes C++, which g++ turns into a program; its own front end is a perl script.
cocotb runs inside that program and loads Python as a shared library. Only the standard library is
imported here, because the set-up runs this file before anything is installed::

    python3 -I sim/prerequisites.py
"""

from __future__ import annotations  # so that an older Python gets as far as the message

import ctypes.util
import importlib.util
import shutil
import sys
import sysconfig
from pathlib import Path

__all__ = ["MINIMUM_PYTHON", "missing", "missing_tools", "shared_libpython"]

MINIMUM_PYTHON = (3, 11)

PACKAGES = {"g++": "g++", "perl": "perl"}
"""Each program and the package that Debian and Ubuntu ship it in."""

REASONS = {
    "g++": "compiles the simulator of a design",
    "perl": "starts Verilator",
}


def shared_libpython() -> str | None:
    """Where this interpreter's shared library is, or None where there is none."""
    names = [sysconfig.get_config_var(name) for name in ("INSTSONAME", "LDLIBRARY")]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    names += [f"libpython{version}.so.1.0", f"libpython{version}.so", f"libpython{version}.dylib"]
    folders = [sysconfig.get_config_var(name) for name in ("LIBDIR", "LIBPL")]
    folders += [str(Path(sys.base_prefix) / "lib")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        folders += [str(Path(folder) / multiarch) for folder in folders if folder]
    for folder in filter(None, folders):
        for name in filter(None, names):
            # A static library has the same place and serves nobody here.
            path = Path(folder) / name
            if path.suffix != ".a" and path.is_file():
                return str(path)
    return ctypes.util.find_library(f"python{version}")


def missing_tools() -> list[str]:
    """One sentence for each program that is not on the PATH."""
    return [f"{name} is missing; it {REASONS[name]} (Debian, Ubuntu: apt install {package})"
            for name, package in PACKAGES.items() if not shutil.which(name)]


def missing() -> list[str]:
    """One sentence for each thing that is missing here; an empty list where nothing is."""
    here = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    found = []
    if sys.version_info < MINIMUM_PYTHON:
        found.append(f"Python {wanted} or later is needed, and {sys.executable} is {here}; "
                     f"name another by make PYTHON=/path/to/python3")
    elif not shared_libpython():
        found.append(f"{sys.executable} (Python {here}) has no shared libpython, which cocotb "
                     f"loads; install it (Debian, Ubuntu: apt install libpython3-dev), or take a "
                     f"Python built with --enable-shared by make PYTHON=/path/to/python3")
    for name in ("venv", "ensurepip"):
        if importlib.util.find_spec(name) is None:
            found.append(f"{sys.executable} has no {name} module, which makes the virtual "
                         f"environment (Debian, Ubuntu: apt install python3-venv)")
            break
    return found + missing_tools()


def main() -> int:
    """Print what is missing, and return the exit status: 1 where anything is."""
    found = missing()
    for sentence in found:
        print(f"set-up: {sentence}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
