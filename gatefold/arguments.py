"""Numbers, names and folders on a command line."""

import argparse
import re
from pathlib import Path

from golden.calibrate import BITS
from hdl.verilog import check_name

__all__ = ["bits", "folder", "module_name", "names", "natural", "positive", "positive_real",
           "streams"]


def folder(text: str) -> Path:
    """An argument that is the path of a folder: a text of nothing would be the current one."""
    if not text:
        raise argparse.ArgumentTypeError("must name a folder, not be empty")
    return Path(text)


def positive(text: str, *, or_else: str = "") -> int:
    """An argument that is a positive integer; ``or_else`` says what else it may be."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer{or_else}, not {text}")
    return value


def bits(text: str) -> int:
    """An argument that is a width of numbers."""
    value = int(text) if text.isdecimal() else 0
    if value not in BITS:
        raise argparse.ArgumentTypeError(f"must be an integer from {BITS[0]} to {BITS[-1]}, not "
                                         f"{text}")
    return value


def names(text: str) -> list[str]:
    """An argument that is one name or several, parted by commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise argparse.ArgumentTypeError(f"must be names parted by commas, not '{text}'")
    return parts


def module_name(text: str) -> str:
    """An argument that is the name of a Verilog module."""
    try:
        check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def natural(text: str) -> int:
    """An argument that is a non-negative integer."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a non-negative integer, not {text}")
    return int(text)


def positive_real(text: str) -> float:
    """An argument that is a positive number; thousands may be parted by commas."""
    try:
        value = float(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")
    return value


def streams(text: str) -> int | None:
    """How many streams, or None for as many as keep the array busy."""
    return None if text == "fill" else positive(text, or_else=" or fill")
