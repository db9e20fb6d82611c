"""Running the tools."""

import os
import re
import sys
import threading
from pathlib import Path

import pytest

from fpga.tools import Processes, ToolError, telling_time, warm_up


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


@pytest.mark.parametrize(("answer", "version"), [
    ("Yosys 0.70+12 (git sha1 28ba3cb92, Release, Clang /build/clang++ 22.1.0)", "0.70+12"),
    ('"own-nextpnr-ecp5" -- Next Generation Place and Route (Version nextpnr-0.11.1)', "0.11.1"),
    ('"nextpnr-ecp5" -- Next Generation Place and Route (Version 0.4-28-gac17c36b)',
     "0.4-28-gac17c36b"),
    ("a warning\nProject Trellis ecppack Version 1.4-82-g3afe7b5", "1.4-82-g3afe7b5"),
    ("quite\nanother answer", "quite another answer"),
])
def test_warm_up_gives_the_versions(tool: Path, answer: str, version: str) -> None:
    tool.write_text(f"#!{sys.executable}\nprint({answer!r})\n")
    assert warm_up(print, tools=["ecppack"]) == {"ecppack": version}


def test_warm_up_skips_what_has_no_version(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICEPACK", str(tool.with_name("nowhere")))
    tool.write_text(f"#!{sys.executable}\nprint('Version 1.4')\n")
    assert warm_up(print, tools=["icepack", "ecppack"]) == {"ecppack": "1.4"}


def test_telling_time() -> None:
    lines: list[str] = []
    told = threading.Event()

    def progress(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            told.set()

    threads = threading.active_count()
    with telling_time(progress, "writing", interval=1e-3):
        assert told.wait(60)
    # Its thread is gone, so that nothing more can come.
    assert threading.active_count() == threads
    assert all(re.fullmatch(r"writing: \d+ s so far", line) for line in lines)


def test_telling_time_of_what_fails_or_is_quick() -> None:
    lines: list[str] = []
    threads = threading.active_count()
    with pytest.raises(KeyError), telling_time(lines.append, "writing"):
        raise KeyError("planted")
    assert threading.active_count() == threads
    assert lines == []


def test_warm_up_says_what_does_not_run(tool: Path) -> None:
    lines: list[str] = []
    warm_up(lines.append, tools=["ecppack"])
    assert lines == []
    tool.write_text(f"#!{sys.executable}\nraise SystemExit('no WebAssembly here')\n")
    with pytest.raises(ToolError, match=r"^ecppack does not run: no WebAssembly here$"):
        warm_up(lines.append, tools=["ecppack"])
