"""A design in another form, on which the same bench runs: as a device's netlist, or telling X.

Both have the ports of the generated Verilog. Its inside is another, so the bench looks at the ports
alone: outputs, TLAST, TID, final states, flags.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fpga.netlist import encode_unknown, map_to_cells
from hdl.families import FAMILIES
from sim.cells import cell_models, models_every_mode
from sim.manifest import Manifest, ManifestError
from sim.monitor import WATCH, watching_verilog

__all__ = ["INFERRED", "as_netlist", "with_unknown"]

INFERRED = tuple(family for family in FAMILIES if models_every_mode(family))
"""Families of which also portable Verilog has a netlist that can be simulated."""


def as_netlist(directory: Path, *, family: str | None = None,
               progress: Callable[[str], None] = lambda text: None) -> Manifest:
    """Synthesise a design, as the flow does, and give the netlist.

    Parameters
    ----------
    directory : Path
        The design's folder; its subfolder ``sim/netlist`` takes what Yosys reads and writes.
    family : str or None
        The device family, where the design is portable: one of `INFERRED`. That of the design if
        None.
    progress : function of str

    Raises
    ------
    ManifestError
        If there is no design, or it is not for this family.
    ToolError
        If Yosys fails.
    """
    manifest = Manifest.load(directory)
    wanted = family or manifest.family
    if wanted not in FAMILIES:
        families = ", ".join(FAMILIES if manifest.family else INFERRED)
        raise ManifestError(f"the netlist of {directory} needs a family, one of {families}"
                            + (f", not {family}" if family else ", since it is portable Verilog"))
    if manifest.family is None and wanted not in INFERRED:
        raise ManifestError(f"{directory} is portable Verilog, of which Yosys makes blocks of "
                            f"{wanted} in modes that have no model: for the netlist, build it for "
                            f"{wanted}, without --portable")
    if manifest.family not in (None, wanted):
        raise ManifestError(f"{directory} instantiates blocks of {manifest.family}, so there is no "
                            f"netlist of it for {wanted}")
    netlist = map_to_cells(manifest.verilog, module=manifest.name, family=wanted,
                           folder=directory / "sim" / "netlist", progress=progress)
    return replace(manifest, verilog=netlist, family=wanted, models=cell_models(wanted),
                   mapped=True, probes=())


def with_unknown(directory: Path, *,
                 progress: Callable[[str], None] = lambda text: None) -> Manifest:
    """A design all whose registers and memories begin as X, and which tells where it comes out.

    Parameters
    ----------
    directory : Path
        The design's folder; its subfolder ``sim/unknown`` takes what Yosys reads and writes.
    progress : function of str

    Raises
    ------
    ManifestError
        If there is no design, or it is not portable.
    ToolError
        If Yosys fails.
    """
    manifest = Manifest.load(directory)
    if manifest.family is not None:
        raise ManifestError(f"{directory} instantiates blocks of {manifest.family}, and nobody "
                            f"knows what they make of an X: build it with --portable")
    folder = directory / "sim" / "unknown"
    folder.mkdir(parents=True, exist_ok=True)
    wrapper = folder / f"{WATCH}.v"
    wrapper.write_text(watching_verilog(manifest), encoding="utf-8")
    encoded = encode_unknown(manifest.verilog, module=manifest.name, wrapper=wrapper, top=WATCH,
                             folder=folder, progress=progress)
    return replace(manifest, verilog=encoded, models=(), watched=True, probes=())
