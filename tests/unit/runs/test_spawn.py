"""A command that is ended while it starts a worker leaves none behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, ExitCode
from engine.runs import launch, store, talk
from engine.runs.owner import owner_path, process_owner, write_owner
from tests.unit.conftest import Engine


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_middle_of_a_start_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: signal.Signals
) -> None:
    started: list[Any] = []
    held: list[bool] = []
    real = launch.subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        started.append(real([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        os.kill(os.getpid(), ending)
        held.append(signal.getsignal(ending) is not leave)
        return started[0]

    def leave(number: int, frame: object) -> None:
        raise SystemExit(143)

    before = signal.signal(ending, leave)
    try:
        monkeypatch.setattr(launch.subprocess, "Popen", popen)
        with pytest.raises(SystemExit):
            launch.spawn_worker(tmp_path, dict(os.environ))
        assert signal.getsignal(ending) is leave
        assert held == [True]  # it came through to the end of the start
        assert started[0].poll() is not None
    finally:
        signal.signal(ending, before)
        started[0].kill()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A living process that is no worker."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_file_s_word_alone_ends_no_process(
    stranger: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = store.create_run("p", {"schema_version": 1, "settings": {}}, "")
    write_owner(owner_path(run.lock_path), process_owner(stranger.pid))
    assert not launch.stop_job(run.path)
    code, _, told = engine("runs", "stop", run.id, "--now")
    assert (code, "is no worker of run" in told) == (ExitCode.RESOURCES, True)
    assert stranger.poll() is None


def test_a_start_that_is_broken_off_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(store, "write_json_atomic", end)
    with pytest.raises(KeyboardInterrupt):
        store.create_run("p", {}, "")
    assert not list(store.runs_root().iterdir())


def test_a_talk_whose_worker_cannot_start_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EAGAIN, "no process")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = store.create_run("p", {"schema_version": 1, "settings": {}}, "")
    monkeypatch.setattr(launch.subprocess, "Popen", refuse)
    with pytest.raises(EngineError, match="no worker"):
        talk.Talk(run)
    assert not list(tmp_path.glob("tunedeck-chat-*"))
