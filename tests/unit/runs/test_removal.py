"""A run that a job uses is not deleted, and what is at work is listed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import EngineError, ExitCode
from engine.files import write_json_atomic
from engine.runs import at_work, removal, store
from engine.runs.at_work import Work, uses_of
from engine.runs.parent import VARIABLE
from engine.runs.store import Run

Begin = Callable[[str, Path, dict[str, object]], int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return store.create_run("my run", {"schema_version": 1, "settings": {}}, "# profile\n")


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Start a process whose command line is that of a worker."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(kind: str, place: Path, params: dict[str, object]) -> int:
        place.mkdir(exist_ok=True)
        write_json_atomic(place / "job.json", {"v": 1, "job": kind, **params})
        command = ["sh", "-c", "echo; sleep 60; :", "engine.worker", str(place)]
        environment = {**os.environ, VARIABLE: str(os.getpid())}
        begun.append(subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.PIPE))
        begun[-1].stdout.readline()  # type: ignore[union-attr]
        return begun[-1].pid

    yield start
    for process in begun:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.mark.parametrize(
    ("kind", "folder", "command"),
    [("evaluate", "eval", "evaluate"), ("export", "export-job", "export"), ("chat", "", "chat"), ("x", "eval", "?")],
)
def test_a_run_in_use_is_not_deleted(
    run: Run, begin: Begin, tmp_path: Path, kind: str, folder: str, command: str
) -> None:
    place = run.path / folder if folder else tmp_path / "tunedeck-chat-1"
    pid = begin(kind, place, {} if kind == "x" else {"run_dir": str(run.path)})
    with pytest.raises(EngineError, match=f"engine {'.' if command == '?' else command}.*pid {pid}") as caught:
        removal.remove_run(run)
    assert caught.value.code is ExitCode.RESOURCES
    assert (run.path / "run.json").is_file()
    found = {work.pid: work for work in at_work.at_work()}[pid]
    assert (found.command, found.run, found.waited_for_by) == (command, run.path.resolve(), os.getpid())


def test_a_job_on_another_run_is_no_hindrance(run: Run, begin: Begin, tmp_path: Path) -> None:
    begin("chat", tmp_path / "talk", {"run_dir": str(run.path.with_name("another"))})
    removal.remove_run(run)
    assert not run.path.exists()


def test_a_job_that_begins_while_it_is_deleted_brings_it_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [[], [Work(7, "chat", Path("/tmp/x"), run.path)]]
    monkeypatch.setattr(removal, "uses_of", lambda _: seen.pop(0))
    with pytest.raises(EngineError, match="in use"):
        removal.remove_run(run)
    assert (run.path / "run.json").is_file()
    assert os.listdir(run.path.parent) == [run.id]


def test_the_training_of_the_run_itself_is_no_use_of_it(run: Run, begin: Begin) -> None:
    begin("train", run.path, {})
    assert uses_of(run) == []


def test_what_is_at_work_is_listed(run: Run, begin: Begin, engine: Callable[..., tuple[int, str, str]]) -> None:
    pid = begin("export", run.path / "export-job", {"run_dir": str(run.path)})
    code, out, _ = engine("jobs", "--json")
    (found,) = [job for job in json.loads(out)["jobs"] if job["pid"] == pid]
    assert (code, found["command"], found["run"], found["waited_for_by"]) == (0, "export", run.id, os.getpid())
    assert f"with pid {os.getpid()}" in engine("jobs")[1]
