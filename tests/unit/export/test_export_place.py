"""An export takes its place whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, ExitCode
from engine.export.place import building, check_space, check_target, disk_errors, recover, size_bytes
from engine.export.report import MARK_FILE


def export(target: Path, text: str) -> None:
    with building(target) as folder:
        (folder / MARK_FILE).write_text("{}")
        (folder / "model").write_text(text)


def hidden(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir() if path.name.startswith(".")]


def test_builds_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "export"
    export(target, "one")
    check_target(target)
    export(target, "two")
    assert (target / "model").read_text() == "two"
    assert hidden(target) == []
    assert size_bytes(target) == 5


FAILURES: list[tuple[Exception, str]] = [
    (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
    (OSError(errno.EROFS, "Read-only file system"), "Read-only"),
    (RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter: No space left on device"), "space"),
    (ValueError("Error while serializing: I/O error: No space left on device (os error 28)"), "space"),
]


@pytest.mark.parametrize(("failure", "text"), FAILURES)
def test_a_full_disk_keeps_the_old_export(tmp_path: Path, failure: Exception, text: str) -> None:
    target = tmp_path / "export"
    export(target, "old")

    def write_half() -> None:
        with building(target) as folder:
            (folder / "model").write_text("half")
            raise failure

    with pytest.raises(EngineError) as caught:
        write_half()
    assert caught.value.code is ExitCode.DISK
    assert text in caught.value.message
    assert (target / "model").read_text() == "old"
    assert hidden(target) == []


def test_a_full_disk_at_the_last_rename_keeps_the_old_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "export"
    export(target, "old")
    real = os.replace

    def replace(source: Any, goal: Any) -> None:
        if ".tmp-" in str(source):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, goal)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(EngineError):
        export(target, "new")
    assert (target / "model").read_text() == "old"
    assert hidden(target) == []


def test_other_errors_are_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(KeyError), disk_errors(tmp_path):
        raise KeyError("x")
    with pytest.raises(EngineError, match="mine"), disk_errors(tmp_path):
        raise EngineError("mine", code=ExitCode.MODEL)


def test_what_a_killed_export_left_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "export"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".export.tmp-{dead.pid}").mkdir()
    (tmp_path / f".export.tmp-{os.getppid()}").mkdir()
    old = tmp_path / ".export.old"
    old.mkdir()
    (old / "model").write_text("old")
    recover(target)
    assert (target / "model").read_text() == "old"
    assert hidden(target) == [f".export.tmp-{os.getppid()}"]


def test_an_export_killed_before_its_end_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "export"
    export(target, "old")
    code = (
        "import os, sys; from pathlib import Path; from engine.export.place import building\n"
        "with building(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'model').write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False).returncode == -9
    assert (target / "model").read_text() == "old"
    export(target, "new")
    assert (target / "model").read_text() == "new"
    assert hidden(target) == []


def test_foreign_directories_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    check_target(target)
    check_target(tmp_path / "new")
    (target / "thesis.tex").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(target)
    for place in (target, tmp_path / "file", tmp_path / "link"):
        with pytest.raises(EngineError) as caught:
            check_target(place)
        assert caught.value.code is ExitCode.PROFILE
        assert str(place) in caught.value.where


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"takes 1,?048,?576.*GiB|free"):
        check_space(tmp_path / "a" / "b", 2**60)
    check_space(tmp_path / "a" / "b", 1)
