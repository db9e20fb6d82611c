"""Where a build goes: what it may replace, and that nothing is lost where it cannot."""

import errno
import json
import os
import re
from pathlib import Path

import pytest

from gatefold.output_folder import FolderError, new_folder
from sim.manifest import MANIFEST
from tests.test_sim import SHAPE


def fill(folder: Path, content: str) -> None:
    """What a build writes, as far as it is looked at."""
    (folder / MANIFEST).write_text(json.dumps(SHAPE))
    (folder / "standin.v").write_text(content)
    (folder / "fpga").mkdir()
    (folder / "fpga" / "log").write_text(content)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text()
            for path in folder.rglob("*") if path.is_file()}


def filled(text: str) -> dict[str, str]:
    return {MANIFEST: json.dumps(SHAPE), "standin.v": text, "fpga/log": text}


def build(directory: Path, text: str) -> None:
    with new_folder(directory) as folder:
        fill(folder, text)


def test_new_folder(tmp_path: Path) -> None:
    build(tmp_path / "deep" / "out", "one")
    assert content(tmp_path) == {f"deep/out/{name}": text for name, text in filled("one").items()}


def test_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there already stays the same folder, so that it may be one that cannot move."""
    output = tmp_path / "out"
    output.mkdir(mode=0o750)
    before = output.stat()
    monkeypatch.chdir(output)
    for text in ("one", "two"):
        build(Path(), text)
        assert content(tmp_path) == {f"out/{name}": text for name, text in filled(text).items()}
        # Those that verifying leaves go with the old ones.
        (output / "sim").mkdir()
    assert (output.stat().st_ino, output.stat().st_mode) == (before.st_ino, before.st_mode)


def test_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    for text in ("one", "two"):
        build(tmp_path / "out", text)
        assert (tmp_path / "out").is_symlink()
        assert content(tmp_path / "elsewhere") == filled(text)


def test_link_to_itself(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.symlink_to(output)
    with pytest.raises(FolderError,
                       match=f"^output {output} must be a folder, but {output} is a file$"):
        build(output, "one")


@pytest.mark.parametrize("which", ["old", "new", "whole"])
def test_what_cannot_be_put_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         which: str) -> None:
    """Neither it nor the earlier one is lost, be it at the first file or in the midst."""
    output = tmp_path / "out"
    if which != "whole":
        build(output, "earlier")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        stuck = {"old": "out/fpga", "new": "new/fpga", "whole": f"{self.parent.name}/new"}[which]
        if self.match(stuck):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    within = tmp_path if which == "whole" else output
    with pytest.raises(FolderError) as caught:
        build(output, "later")
    match = re.fullmatch(rf"output {output}: what was built cannot be put there, and is in "
                         rf"({within}/\.building-\w+/new): Device or resource busy",
                         str(caught.value))
    assert match
    kept = Path(match[1])
    assert content(kept) == filled("later")
    left = {f"{kept.relative_to(within)}/{name}": text for name, text in filled("later").items()}
    assert content(within) == left | (filled("earlier") if which != "whole" else {})
    monkeypatch.undo()
    if which != "whole":
        with pytest.raises(FolderError, match=(
                f"^output {output} must be a new folder or an earlier build, but it holds "
                f"{kept.parent.name}, of a build that is going on or was killed$")):
            build(output, "again")


def test_full_disk(tmp_path: Path) -> None:
    output = tmp_path / "out"
    build(output, "earlier")

    def build_half() -> None:
        with new_folder(output) as folder:
            fill(folder, "half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(FolderError, match=f"^output {output}: No space left on device$"):
        build_half()
    assert content(tmp_path) == {f"out/{name}": text for name, text in filled("earlier").items()}
