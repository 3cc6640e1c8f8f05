"""Every way out of a command: its code, and with --json a result that ends stdout."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from engine import cli
from engine.cli import train
from engine.errors import EngineError, ExitCode
from engine.runs import store
from engine.runs.events import EventWriter
from engine.runs.store import Run
from engine.surroundings import settle
from tests.unit.conftest import Engine


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "cancelled"),
        (cli.SignalExit(143), 143, "cancelled"),
        (cli.SignalExit(129), 129, "cancelled"),
        (OSError(errno.EROFS, "read-only", "/there"), 6, "disk"),
        (OSError(errno.EMFILE, "files"), 5, "resources"),
        (MemoryError(), 5, "resources"),
        (click.Abort(), 130, "cancelled"),
        (ValueError("odd"), 1, "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_command_that_ends_in_its_middle(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, told: str
) -> None:
    def end(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(cli.cli.get_command(None, "jobs"), "callback", end)  # type: ignore[arg-type]
    found, out, _ = engine("jobs", "--json")
    assert found == code
    assert json.loads(out.splitlines()[-1])["error"]["code"] == told


class Worker:
    """A worker that has ended."""

    def __init__(self, code: int) -> None:
        self.returncode = code
        self.pid = 2**22 + 1

    def poll(self) -> int:
        return self.returncode

    def terminate(self) -> None:
        """It has ended."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return store.create_run("p", {"schema_version": 1, "settings": {}}, "")


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is typed while the command follows the run."""
    real = train.follow_worker

    def follow(*given: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        yield from real(*given, **more)

    monkeypatch.setattr(train, "follow_worker", follow)
    monkeypatch.setattr(train.launch, "follow_worker", follow)


def told(run: Run, *events: tuple[str, dict[str, Any]]) -> None:
    writer = EventWriter(run.events_path)
    for kind, fields in events:
        writer.write(kind, **fields)
    writer.close()


STOPPED = ("finished", {"outcome": "stopped", "step": None})


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize(("code", "events"), [(8, [STOPPED]), (-15, []), (-15, [("phase", {"name": "data"})])])
@pytest.mark.parametrize("detach", [False, True])
def test_ctrl_c_before_training_leaves_no_run_and_claims_none(
    run: Run, code: int, events: list[Any], detach: bool
) -> None:
    told(run, *events)
    process: Any = Worker(code)
    follow = partial(train.wait_until_it_trains, quiet=True) if detach else partial(train.finish, as_json=True)
    with pytest.raises(EngineError, match="before training began") as caught:
        follow(run, process)
    assert caught.value.code is ExitCode.CANCELLED
    assert not run.path.exists()


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("keep", [False, True], ids=("begun", "resumed"))
def test_ctrl_c_with_something_to_resume_says_which(run: Run, keep: bool, capsys: pytest.CaptureFixture[str]) -> None:
    told(run, *([] if keep else [("started", {"steps_total": 3})]), STOPPED)
    process: Any = Worker(8)
    with pytest.raises(click.exceptions.Exit) as caught:
        train.finish(run, process, as_json=True, keep=keep)
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert json.loads(capsys.readouterr().out) == {"run": run.id, "path": str(run.path), "outcome": "stopped"}
    assert run.path.exists()


@pytest.mark.parametrize(("number", "goes_on"), [(signal.SIGHUP, True), (signal.SIGTERM, False)])
def test_a_terminal_that_hangs_up_takes_no_run_along(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: int, goes_on: bool
) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(train.launch, "end_worker", ended.append)
    ending = cli.SignalExit(128 + number)
    process: Any = SimpleNamespace()
    with pytest.raises(EngineError, match="goes on without" if goes_on else "there is no run") as caught:
        train._leave(run, process, ending, began=False, keep=False)
    assert caught.value.code is ExitCode.CANCELLED
    assert (ended == [], run.path.exists()) == (goes_on, goes_on)


@pytest.mark.parametrize("kind", ["world", "link"])
def test_a_folder_of_runs_that_others_can_write_is_refused(
    run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    root = run.path.parent
    if kind == "world":
        root.chmod(0o777)
    else:
        root.rename(root.with_name("elsewhere"))
        root.symlink_to(root.with_name("elsewhere"))
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        if os.geteuid() == 0:
            os.lchown(root, 1234, 1234)
    code, out, _ = engine("runs", "list", "--json")
    assert code == ExitCode.DISK
    assert json.loads(out)["error"]["where"] == str(root)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_runs_are_their_owner_s_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "fresh"))
    before = os.umask(umask)
    try:
        made = store.create_run("p", {}, "")
    finally:
        os.umask(before)
    folders = (made.path, made.path.parent, made.path.parent.parent, made.path / "control")
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 4
    assert (made.path / "run.json").stat().st_mode & 0o777 == 0o600


def test_a_full_stdout_keeps_the_code(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "engine.cli", "runs", "show", "none", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == ExitCode.PROFILE
    assert "Traceback" not in done.stderr


def test_folders_are_named_from_where_the_command_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", "st")
    monkeypatch.setenv("XDG_CACHE_HOME", "/abs")
    monkeypatch.delenv("TMPDIR", raising=False)
    settle()
    assert (os.environ["XDG_STATE_HOME"], os.environ["XDG_CACHE_HOME"]) == (str(tmp_path / "st"), "/abs")
    assert "TMPDIR" not in os.environ


def test_a_place_that_no_library_can_name_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    with pytest.raises(EngineError, match="not UTF-8") as caught:
        store.create_run("p", {}, "")
    assert caught.value.code is ExitCode.DISK
    assert os.listdir(tmp_path) == []


ENGINE = f"{sys.executable} -m engine"


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        (f"{ENGINE} jobs --json | true", 141, ""),
        (f"{ENGINE} --help | true", 141, ""),
        (f"{ENGINE} jobs --json >&-", 0, ""),
        (f"{ENGINE} nope --json >&- 2>&- <&-", 2, ""),
        (f"{ENGINE} nope 2>/dev/full", 2, ""),
        (f"{ENGINE} jobs --json >/dev/full", 6, "no space left"),
    ],
)
def test_streams_that_are_closed_full_or_unread(tmp_path: Path, line: str, code: int, told: str) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    command = ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert told in done.stderr
