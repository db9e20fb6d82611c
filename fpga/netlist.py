"""What Yosys makes of a core for simulation: the netlist of a device's cells, and an encoding of X.

The netlist is that of the core by itself, by the very command that synthesises the tops of the
flow; Amaranth's platform of a board of the family has it. In a top, the core is flattened into what
is around it, and cannot be taken out again.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from amaranth.hdl import Module

from fpga.boards import BOARDS
from fpga.tools import Processes, Progress, warm_up

__all__ = ["encode_unknown", "map_to_cells", "synthesis"]

# What follows is Yosys's answer to which values may be unknown, so nothing before `xprop` may use
# that a value does not matter. Every register loses its initial value, and so does every memory
# that can be written; the others hold weights and tables, and become logic. The words of the
# memories become registers, since `xprop` knows no memories. For `xprop` a product of an unknown
# value is unknown, though the other factor be 0: and a word has columns beyond a layer's last one,
# with weights of 0 and operands that nobody has written. So products become sums of what single
# bits select.
MULTIPLY = Path(__file__).with_name("multiply.v")

_ENCODE = """\
read_verilog {design} {wrapper}
hierarchy -check -top {top}
proc
flatten
memory_collect
setattr -unset init w:*
setparam -set INIT 1'bx t:$mem_v2 r:WR_PORTS>0 %i
memory_map
techmap -map {multiply} t:$mul
opt_clean
xprop -assume-def-inputs -formal
chformal -remove
opt_expr
opt_clean
opt_expr
opt_clean
simplemap t:$bwmux
rename {top} {module}
write_verilog -noattr {output}
"""


def synthesis(family: str, top: str) -> str:
    """The command of Yosys that synthesises a module for a family's board."""
    board = next(board for board in BOARDS.values() if board.family == family)
    script = board.prepare().prepare(Module(), top, emit_src=False).files[f"{top}.ys"]
    text = script if isinstance(script, str) else script.decode()
    (command,) = re.findall(r"^\s*(synth_\S.*?)\s*$", text, re.MULTILINE)
    return command


def _run(script: str, files: Sequence[Path], *, folder: Path, name: str, what: str,
         progress: Progress) -> None:
    """Run Yosys in a folder of its own, where it finds copies of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.parent != folder:
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / f"{name}.ys").write_text(script, encoding="utf-8")
    warm_up(progress, tools=["yosys"])
    progress(what)
    Processes().run("yosys", ["-q", f"{name}.ys"], folder=folder, log=folder / f"{name}.log",
                    waiting=lambda seconds: progress(f"{what}: {seconds:.0f} s so far"))


def map_to_cells(verilog: Path, *, module: str, family: str, folder: Path,
                 progress: Progress = print) -> Path:
    """Synthesise a core by itself.

    Parameters
    ----------
    verilog : Path
        Portable, or for the family.
    module : str
    family : str
    folder : Path
        Takes the script, the log and the netlist. Is created.
    progress : function of str

    Returns
    -------
    Path
        The netlist: Verilog that instantiates cells of the family, with the module's name and
        ports.

    Raises
    ------
    ToolError
        If Yosys fails.
    """
    output = "netlist.v"
    _run(f"read_verilog {verilog.name}\n{synthesis(family, module)}\n"
         f"write_verilog -noattr {output}\n", [verilog], folder=folder, name="netlist",
         what=f"synthesising the core for {family}", progress=progress)
    return folder / output


def encode_unknown(verilog: Path, *, module: str, wrapper: Path, top: str, folder: Path,
                   progress: Progress = print) -> Path:
    """Give each bit of a core a second one, which says that the first is X.

    All registers, and all memories that can be written, begin as X.

    Parameters
    ----------
    verilog : Path
        Portable: Yosys must know all that is in it.
    module : str
        The core.
    wrapper : Path
        Verilog of a module around it, which is encoded with it and can ask what is X by ``===``.
    top : str
        That module. The result has its ports, and the core's name.
    folder : Path
        Takes the script, the log and the result. Is created.
    progress : function of str

    Returns
    -------
    Path
        Verilog of two values.

    Raises
    ------
    ToolError
        If Yosys fails.
    """
    output = "encoded.v"
    _run(_ENCODE.format(design=verilog.name, wrapper=wrapper.name, top=top, module=module,
                        multiply=MULTIPLY.name, output=output),
         [verilog, wrapper, MULTIPLY], folder=folder, name="encoded",
         what="encoding what may be unknown", progress=progress)
    return folder / output
