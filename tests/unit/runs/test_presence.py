"""A worker whose directory is deleted ends by itself, and until then it is told of as an orphan."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli.runs import runs
from engine.errors import ExitCode
from engine.files import write_json_atomic
from engine.runs.presence import is_gone
from engine.runs.store import create_run
from engine.runs.workers import end_orphan, orphans

WORKER = """
import sys, time, types
from engine import worker
from engine.runs import presence
presence.LOOK_S = {look_s}
def work(job):
    job.stoppable.set()
    job.phase("train")
    while True:
        time.sleep(0.02)
sys.modules["endless"] = types.SimpleNamespace(run=work)
worker.JOBS["train"] = "endless:run"
sys.exit(worker.main(sys.argv[2:]))
"""


def started(folder: Path, look_s: float) -> subprocess.Popen[bytes]:
    """A worker with endless work; its command line is that of any worker."""
    write_json_atomic(folder / "job.json", {"v": 1, "job": "train"})
    command = [sys.executable, "-c", WORKER.format(look_s=look_s), "engine.worker", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while not (folder / "events.jsonl").exists() or not (folder / "events.jsonl").stat().st_size:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    return process


def test_a_lock_that_was_deleted_or_made_anew_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    path.parent.mkdir()
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    assert not is_gone(path, descriptor)
    path.unlink()
    assert is_gone(path, descriptor)
    path.touch()
    assert is_gone(path, descriptor)
    path.unlink()
    path.parent.rmdir()
    path.parent.touch()
    assert is_gone(path, descriptor)
    os.close(descriptor)


def test_a_worker_without_its_directory_ends_and_makes_nothing_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = create_run("demo", {"schema_version": 1, "settings": {}}, "")
    process = started(run.path, 0.4)
    assert orphans() == {}
    shutil.rmtree(run.path)
    assert orphans() == {run.id: process.pid}
    (row,) = json.loads(CliRunner().invoke(runs, ["list", "--json"]).output)["runs"]
    assert (row["run"], row["state"], row["pid"]) == (run.id, "orphan", process.pid)
    assert "orphan" in CliRunner().invoke(runs, ["list"]).output
    assert process.wait(20) == ExitCode.INTERRUPTED
    assert orphans() == {}
    assert not run.path.exists()


def test_one_that_does_not_end_is_killed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = create_run("demo", {"schema_version": 1, "settings": {}}, "")
    process = started(run.path, 600.0)
    assert end_orphan(run.id) is None
    shutil.rmtree(run.path)
    told = CliRunner().invoke(runs, ["stop", run.id])
    assert f"its worker (pid {process.pid}) was killed" in told.output
    assert process.wait(20) == -9
