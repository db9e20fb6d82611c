"""Running the tools."""

import os
import sys
import threading
from pathlib import Path

import pytest

from fpga.tools import Processes, ToolError, warm_up


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tool of the user's own, named as Amaranth's platforms have it."""
    path = tmp_path / "own-ecppack"
    path.write_text(f"#!{sys.executable}\n"
                    "import sys\n"
                    "print('said', *sys.argv[1:], flush=True)\n"
                    "if 'wait' in sys.argv: sys.stdin.read(); import time; time.sleep(600)\n"
                    "if 'fail' in sys.argv: print('ERROR: no bels left.'); sys.exit(3)\n"
                    "if 'break' in sys.argv: sys.exit(4)\n")
    path.chmod(0o755)
    monkeypatch.setenv("ECPPACK", str(path))
    return path


def test_own_tool_and_its_log(tool: Path, tmp_path: Path) -> None:
    Processes().run("ecppack", ["--a", "b c"], folder=tmp_path, log=tmp_path / "log")
    assert (tmp_path / "log").read_text() == "said --a b c\n"


@pytest.mark.parametrize(("how", "said"), [("fail", "no bels left"), ("break", "exit status 4")])
def test_failure_is_one_sentence(tool: Path, tmp_path: Path, how: str, said: str) -> None:
    log = tmp_path / "log"
    with pytest.raises(ToolError) as raised:
        Processes().run("ecppack", [how], folder=tmp_path, log=log)
    assert str(raised.value) == f"ecppack failed: {said}; its log is {log}"


def test_tool_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECPPACK", str(tmp_path / "nowhere"))
    with pytest.raises(ToolError, match=r"^ecppack cannot be started: .*nowhere"):
        Processes().run("ecppack", [], folder=tmp_path, log=tmp_path / "log")


def test_end_ends_what_runs(tool: Path, tmp_path: Path) -> None:
    processes = Processes()
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            processes.run("ecppack", ["wait"], folder=tmp_path, log=tmp_path / "log")
        except ToolError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
        assert thread.is_alive()
        os.sched_yield()
    processes.end()
    thread.join(60)
    assert len(raised) == 1
    with pytest.raises(ToolError, match="was not started because another tool failed"):
        processes.run("ecppack", [], folder=tmp_path, log=tmp_path / "second")


def test_warm_up_says_what_does_not_run(tool: Path) -> None:
    lines: list[str] = []
    warm_up(lines.append, tools=["ecppack"])
    assert lines == []
    tool.write_text(f"#!{sys.executable}\nraise SystemExit('no WebAssembly here')\n")
    with pytest.raises(ToolError, match=r"^ecppack does not run: no WebAssembly here$"):
        warm_up(lines.append, tools=["ecppack"])
