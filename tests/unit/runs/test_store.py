"""Run directories: states from files and the lock, names that stay inside, removal that spares the living."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from engine.errors import EngineError, ExitCode
from engine.files import write_json_atomic
from engine.runs import control, store
from engine.runs.events import EventWriter
from engine.runs.lock import acquire, holder_pid
from engine.runs.removal import remove_run
from engine.runs.state import run_state


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return store.create_run("my run", {"schema_version": 1, "settings": {}}, "# profile\n")


@pytest.fixture
def holder(run):
    """A process that holds the run's lock as a worker does."""
    code = (
        "import sys, time; from pathlib import Path; from engine.runs.lock import acquire\n"
        "acquire(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run.lock_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_states_without_a_worker(run):
    assert run_state(run) == "starting"
    events = EventWriter(run.events_path)
    events.write("started", steps_total=3)
    assert run_state(run) == "lost"
    events.write("finished", outcome="completed", step=3)
    assert run_state(run) == "completed"
    events.write("started", steps_total=3, resumed_from_step=3)
    assert run_state(run) == "lost"


def test_a_resumed_run_is_starting_before_its_worker_has_the_lock(run):
    events = EventWriter(run.events_path)
    events.write("started", steps_total=3)
    events.write("finished", outcome="stopped", step=1)
    assert run_state(run) == "stopped"
    write_json_atomic(run.path / "job.json", {"v": 1, "job": "train", "asked_at": time.time() + 0.01})
    assert run_state(run) == "starting"
    os.utime(run.path / "job.json", (1_000_000, 1_000_000))
    assert run_state(run) == "lost"


def test_states_with_a_worker(run, holder):
    assert holder_pid(run.lock_path) == holder.pid
    assert run_state(run) == "starting"
    EventWriter(run.events_path).write("started")
    assert run_state(run) == "running"
    control.request(run.path, "stop")
    assert run_state(run) == "stopping"
    with pytest.raises(EngineError, match="is running") as caught:
        remove_run(run)
    assert caught.value.code is ExitCode.RESOURCES


def test_looking_does_not_take_the_lock_and_a_dead_holder_frees_it(run, holder):
    assert acquire(run.lock_path) is None
    holder.kill()
    holder.wait()
    deadline = time.monotonic() + 5
    while holder_pid(run.lock_path) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert holder_pid(run.lock_path) is None


def test_a_long_tail_of_events_still_means_started(run):
    events = EventWriter(run.events_path)
    events.write("started")
    for _ in range(3000):
        events.write("memory", text="x" * 100)
    assert run_state(run) == "lost"


@pytest.mark.parametrize("name", ["..", "/abs", "a/../../b", "x" * 300, "🙂", "a\0b", "-rf", "CON", ""])
def test_names_never_leave_the_runs_folder(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = store.create_run(name, {}, "")
    assert made.path.parent == store.runs_root()
    assert made.path.stat().st_mode & 0o777 == 0o700


def test_runs_are_found_by_part_and_last(run):
    assert store.find_run(run.id[-6:]) == run
    assert store.find_run("last") == run
    assert store.find_run(str(run.path)).path == run.path.resolve()
    with pytest.raises(EngineError, match="no run 'nothing'"):
        store.find_run("nothing")


def test_folders_that_hold_nothing_of_a_run_are_not_listed(run):
    root = store.runs_root()
    for name in ("backup", "20261128", ".hidden", "notes of november", "lost+found"):
        (root / name).mkdir()
    (root / "backup" / "readme.txt").write_text("mine")
    assert store.list_runs() == [run]
    (root / "20261101-101010-emptied-00ff").mkdir()
    run.path.rename(root / "best of november")
    assert [one.id for one in store.list_runs()] == ["best of november", "20261101-101010-emptied-00ff"]


def test_removed_runs_are_gone(run):
    remove_run(run)
    assert store.list_runs() == []


def test_requests_are_taken_once(run):
    control.request(run.path, "checkpoint")
    assert control.take_requests(run.path) == ["checkpoint"]
    assert control.take_requests(run.path) == []
    with pytest.raises(ValueError, match="unknown request"):
        control.request(run.path, "../../escape")
