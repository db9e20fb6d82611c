"""What a command does, as it does it."""

from time import monotonic

from rich.console import Console

__all__ = ["ProgressLog"]


class ProgressLog:
    """A line for each piece of work, with the seconds since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = monotonic()

    @property
    def seconds(self) -> float:
        return monotonic() - self._start

    def __call__(self, line: str) -> None:
        # Plain: a path may hold what rich takes for markup, and a log wants no wraps.
        self._console.print(f"{self.seconds:6.1f} s  {line}", markup=False, highlight=False,
                            soft_wrap=True)
