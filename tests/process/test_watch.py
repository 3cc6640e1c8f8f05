"""`engine runs watch` and `sweeps watch` beside a worker that writes: JSON Lines as they happen, and their end."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.files import write_json_atomic
from engine.runs.events import EventWriter
from engine.runs.lock import Held, acquire
from tests.process.conftest import Shell

KINDS = ("runs", "sweeps")


@dataclass
class Worker:
    """What a living worker is to others: the holder of a directory's lock, and its writer of events."""

    path: Path
    lock: Held | None = None
    events: EventWriter = field(init=False)

    def __post_init__(self) -> None:
        for name in ("control", "checkpoints"):
            (self.path / name).mkdir(parents=True)
        write_json_atomic(self.path / "job.json", {"v": 1, "job": "train"})
        write_json_atomic(self.path / "run.json", {"settings": {}})
        write_json_atomic(self.path / "sweep.json", {"v": 1, "metric": "eval_loss", "trials": 1})
        self.lock = acquire(self.path / "lock")
        self.events = EventWriter(self.path / "events.jsonl")
        self.events.write("started", run=self.path.name, steps_total=2)
        self.events.write("train_step", step=1, steps_total=2, loss=float("nan"))

    def leave(self) -> None:
        """End, with or without a last word."""
        assert self.lock is not None
        self.lock.release()
        self.lock = None


@pytest.fixture(params=KINDS)
def worker(request: pytest.FixtureRequest, shell: Shell) -> Iterator[Worker]:
    """A worker at a run or a sweep."""
    root = shell.folder / "state" / "tunedeck" / request.param
    found = Worker(root / "20260101-000000-watched-0000")
    yield found
    found.events.close()
    if found.lock is not None:
        found.leave()


@dataclass
class Watcher:
    """A command whose lines are read as they come."""

    process: subprocess.Popen[str]
    lines: queue.Queue[str] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.lines.put(text)

    def next(self) -> dict[str, Any]:
        """The next line, as it comes, which must be a whole object."""
        text = self.lines.get(timeout=60)
        assert text.endswith("\n")
        found = json.loads(text)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def watcher(shell: Shell, worker: Worker) -> Iterator[Watcher]:
    """The command that watches the worker, as a program starts it: through a pipe that Python buffers."""
    environment = {key: value for key, value in shell.environment.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "engine", worker.path.parent.name, "watch", "last", "--json"]
    process = subprocess.Popen(
        command, cwd=shell.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield Watcher(process)
    process.kill()
    process.communicate()


def written(worker: Worker) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (worker.path / "events.jsonl").read_text().splitlines()]


def test_lines_come_one_by_one_while_it_works_and_end_with_its_outcome(worker: Worker, watcher: Watcher) -> None:
    assert [watcher.next()["type"] for _ in range(3)] == ["started", "train_step", "warning"]
    worker.events.write("train_step", step=2, steps_total=2, loss=0.5, text="two\nlines \x1b[2J")
    fresh = watcher.next()  # while the worker lives: nothing waits in a buffer
    assert fresh == written(worker)[-1]
    worker.events.write("finished", outcome="completed", step=2, exit_code=0)
    worker.leave()
    assert watcher.next() == written(worker)[-1]
    end = watcher.next()
    assert watcher.process.wait(60) == 0
    assert watcher.lines.empty()
    known = {key: end[key] for key in ("v", "type", "run", "outcome", "step")}
    assert known == {"v": 1, "type": "end", "run": worker.path.name, "outcome": "completed", "step": 2}


def test_a_worker_that_was_killed_is_an_end_too(worker: Worker, watcher: Watcher) -> None:
    for event in written(worker):
        assert watcher.next() == event
    worker.leave()
    assert watcher.next()["outcome"] == "lost"
    assert watcher.process.wait(60) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_a_line_as_well(shell: Shell, kind: str) -> None:
    done = shell.engine(kind, "watch", "nothing", "--json")
    assert (done.code, done.out.count("\n"), done.err) == (2, 1, "")
    assert done.json["error"]["code"] == "profile"
