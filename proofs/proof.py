"""What a proof is: a design with properties around it, and faults that must break them.

The properties are Amaranth's ``Assert`` and ``Assume``, in a module that has the design as a
submodule. What may be anything is an ``AnySeq`` (new in each cycle) or an ``AnyConst`` (one value
for ever) of ``amaranth.asserts``. Registers begin as at power-up.

A planted fault is a change of the design's source, some text for some other, in one module of
``hdl`` or, where that says how wide something is, of ``golden``. So it is read like a patch, and
reaches every place where that module is used.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from types import CodeType, ModuleType
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Fragment, Module

__all__ = ["Fault", "FaultError", "Engine", "Proof", "planted", "written"]

DESIGN = ("golden", "hdl")
"""Packages in which a fault may be planted."""

_importing = Lock()


class FaultError(ValueError):
    """A fault cannot be planted."""


class Engine(Enum):
    """How a proof is found.

    Members
    -------
    INDUCTION
        k-induction by an SMT solver: holds for ever. ``depth`` is k, so a trace of a true failure
        is shorter than that; what is not inductive needs invariants, as further assertions.
    PDR
        Property directed reachability, which finds the invariants by itself, on single bits: holds
        for ever. Good at control, bad at arithmetic. ``depth`` is not looked at.
    BOUNDED
        An SMT solver looks at every trace of ``depth`` cycles from power-up.
    """

    INDUCTION = "k-induction"
    PDR = "PDR"
    BOUNDED = "bounded"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A change of the design that its proof must see.

    Parameters
    ----------
    module : str
        ``hdl.outlet`` for one.
    old, new : str
        The text, which must be there exactly once, and what takes its place.
    depth : int
        Cycles within which a trace from power-up must show the failure.
    """

    module: str
    old: str
    new: str
    depth: int = 30

    def __post_init__(self) -> None:
        if self.module.partition(".")[0] not in DESIGN:
            raise FaultError(f"a fault must be in a module of {' or '.join(DESIGN)}, not in "
                             f"{self.module}")

    def applied(self, source: str) -> str:
        """The module's source with the fault in it.

        Raises
        ------
        FaultError
            If the old text is not there exactly once.
        """
        count = source.count(self.old)
        if count != 1:
            raise FaultError(f"the text of a fault must be exactly once in {self.module}, "
                             f"not {count} times: {self.old!r}")
        return source.replace(self.old, self.new)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A claim, and how it is proven.

    Parameters
    ----------
    name : str
        ``outlet.stream``: the part, and what of it.
    claim : str
        What is proven, in a sentence without its end.
    bench : function
        Gives the module with the design and the properties. Its domain ``sync`` has no reset; what
        is to be reset is put into a ``ResetInserter``.
    faults : sequence of Fault
        At least one.
    engine : Engine
    depth : int
        As the engine says.
    quick : bool
        Takes seconds, so that the quick tests run it.
    wild : str or None
        The submodule whose registers and memories begin as anything at all.
    reset : bool
        It has just been reset: only what a reset does not reach begins as anything.

    Raises
    ------
    ValueError
        If there is no fault.
    """

    name: str
    claim: str
    bench: Callable[[], Module]
    faults: Sequence[Fault]
    engine: Engine = Engine.INDUCTION
    depth: int = 2
    quick: bool = False
    wild: str | None = None
    reset: bool = False

    def __post_init__(self) -> None:
        if not self.faults:
            raise ValueError(f"proof {self.name} must have a planted fault: without, nobody knows "
                             f"whether it can fail")


class _Changed(importlib.machinery.SourceFileLoader):
    """Loads a module with a fault in it."""

    def __init__(self, path: str, fault: Fault):
        super().__init__(fault.module, path)
        self._fault = fault

    def get_code(self, fullname: str) -> CodeType:
        # Not through the cache of compiled modules.
        source = self.get_data(self.path).decode()
        return compile(self._fault.applied(source), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module that has a fault in it."""

    def __init__(self, path: str, fault: Fault):
        self._path = path
        self._fault = fault
        self.found = False

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None
                  ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._fault.module:
            return None
        self.found = True
        return importlib.util.spec_from_file_location(
            fullname, self._path, loader=_Changed(self._path, self._fault))


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Within it, what is imported of golden, hdl and proofs has the fault in it.

    Modules that were imported before are there again behind it.

    Raises
    ------
    FaultError
        If the fault's text is not there exactly once, or nothing has imported its module.
    """
    with _importing:
        spec = importlib.util.find_spec(fault.module)
        if spec is None or spec.origin is None:
            raise FaultError(f"the module of a fault must be there, but {fault.module} is not")
        finder = _Finder(spec.origin, fault)

        def take() -> dict[str, ModuleType]:
            return {name: sys.modules.pop(name) for name in list(sys.modules)
                    if name.partition(".")[0] in (*DESIGN, "proofs")}

        kept = take()
        sys.meta_path.insert(0, finder)
        try:
            yield
            if not finder.found:
                raise FaultError(f"the module of a fault must be used, but {fault.module} is not")
        finally:
            sys.meta_path.remove(finder)
            take()
            sys.modules.update(kept)


def written(bench: Callable[[], Module]) -> str:
    """The module that a bench gives, as RTLIL with the top module ``top``.

    What a reset would not reach has the attribute ``reset_less``.
    """
    m = bench()
    m.domains.sync = domain = ClockDomain(reset_less=True)
    fragment = Fragment.get(m, None)
    _mark(fragment)
    return rtlil.convert(fragment, name="top", ports=[domain.clk], emit_src=False)


def _mark(fragment: Any) -> None:
    for domain, statements in fragment.statements.items():
        for signal in statements._lhs_signals() if domain != "comb" else ():
            if signal.reset_less:
                signal.attrs["reset_less"] = 1
    for within, _, _ in fragment.subfragments:
        _mark(within)
