"""What a user can do wrong: each such error is one sentence, told without a traceback."""

import contextlib
from collections.abc import Iterator

from fpga.boards import BoardError
from fpga.report import FlowError
from gatefold.output_folder import FolderError
from golden.accuracy import MetricError
from golden.data import DataError
from golden.model import ModelError
from sim.coverage import CoverageError
from sim.manifest import ManifestError
from sim.simulator import SimulatorError
from sim.vectors import VectorsError
from sim.verify import SeedError

__all__ = ["BAD_INPUT", "InputError", "blaming"]


class InputError(ValueError):
    """What the user gave cannot be used; the message is one sentence that says why."""


BAD_INPUT = (InputError, ModelError, DataError, MetricError, BoardError, FolderError, FlowError,
             ManifestError, SimulatorError, VectorsError, SeedError, CoverageError)


@contextlib.contextmanager
def blaming(subject: str) -> Iterator[None]:
    """Say what it was about where the work below finds a value that is not allowed."""
    try:
        yield
    except BAD_INPUT:
        raise
    except ValueError as error:
        text = " ".join(str(error).split())
        raise InputError(text if text.startswith(subject) else f"{subject}: {text}") from error
    except OSError as error:
        raise InputError(f"{error.filename or subject}: {error.strerror or error}") from error
