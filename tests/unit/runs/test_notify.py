"""The command of `launch.notify`: told once of each trouble and of the end, and no harm to the run whatever it does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from engine.files import write_json_atomic
from engine.runs import notify
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.runs.notify import Command, Notice, Notifier, program_of, run_command
from engine.worker import _notifier
from tests.unit.runs.test_health import evaluations, step

TELL = '#!/bin/sh\n{ cat; echo; echo "$TUNEDECK_TEXT|$TUNEDECK_STATE|$1"; } >> told\n'


def script(folder: Path, text: str, name: str = "tell.sh") -> Command:
    """A command that starts a script in `folder`."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return Command((f"./{name}", "a word"), folder)


class Run:
    """A run's directory with its events, a notifier, and what the command was told."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.folder, self.command = folder / "20261128-1-demo-aa", command
        self.folder.mkdir()
        self.events = EventWriter(self.folder / "events.jsonl")
        self.notifier = Notifier(command, self.folder, self.warn)

    def warn(self, code: str, message: str) -> None:
        self.events.write("warning", code=code, message=message)

    @property
    def warnings(self) -> list[str]:
        return [
            event["message"] for event in read_events(self.folder / "events.jsonl")[0] if event["type"] == "warning"
        ]

    @property
    def told(self) -> list[dict[str, Any]]:
        lines = (self.command.folder / "told").read_text().splitlines()
        return [json.loads(line) for line in lines[::2]]


def end(run: Run, **outcome: Any) -> None:
    run.notifier.ended({"outcome": "completed", "step": 40, "reason": "", **outcome})


def test_a_trouble_is_told_once_and_the_end_with_its_reason(tmp_path: Path) -> None:
    run = Run(tmp_path, script(tmp_path, TELL))
    for event in [*map(step, range(1, 31)), *evaluations(1.0, 1.1, 1.2, 1.3), step(31), step(32)]:
        run.notifier.watch({**event, "t": time.time()})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not ((tmp_path / "told").exists() and run.notifier._waiting.empty()):
        time.sleep(0.01)
    run.notifier.watch({"type": "error", "code": "disk", "message": "full", "hint": "free space and resume"})
    end(run, outcome="failed", reason="no space left on the disk")
    trouble, ended = run.told
    assert (trouble["state"], trouble["code"], trouble["run"]) == ("concern", "evaluation_rises", "20261128-1-demo-aa")
    assert "the held-out loss rose 3 times in a row" in trouble["reason"]
    assert ended["state"] == "failed"
    assert (ended["reason"], ended["hint"], ended["code"]) == (
        "no space left on the disk",
        "free space and resume",
        "disk",
    )
    assert ended["folder"] == str(run.folder)
    last = (tmp_path / "told").read_text().splitlines()[-1]
    assert last == "20261128-1-demo-aa: failed at step 40: no space left on the disk|failed|a word"
    assert run.warnings == []


def test_silence_is_told_although_no_event_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "LOOK_S", 0.05)
    run = Run(tmp_path, script(tmp_path, TELL))
    run.notifier.watch({"type": "phase", "name": "train", "t": time.time() - 3600})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not (tmp_path / "told").exists():
        time.sleep(0.01)
    end(run)
    assert run.told[0]["code"] == "silent"
    assert "no event for 1 h 0 min" in run.told[0]["reason"]


def test_what_it_is_told_is_safe_and_read_by_no_shell(tmp_path: Path) -> None:
    command = script(tmp_path, TELL)
    hostile = "x\x00\x1b[2J\n$(touch made) `touch made`; touch made hf_abcdefghijklmnopqrstuv"
    assert run_command(command, Notice("run", "/f", "failed", reason=hostile), tmp_path / "log") == ""
    told = json.loads((tmp_path / "told").read_text().splitlines()[0])
    assert told["reason"] == "x\ufffd\ufffd[2J⏎$(touch made) `touch made`; touch made [secret]"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "#!/bin/sh\necho it broke >&2\nexit 3\n",
            "'./tell.sh' ended with exit code 3; what it printed is in worker.log",
        ),
        ("#!/bin/sh\nsleep 60 &\necho $! > child\nwait\n", "'./tell.sh' had not ended after 0 s and was ended"),
        ("#!/no/such/shell\n", "'./tell.sh' cannot be started: No such file or directory"),
        ("", "'./tell.sh' was not found"),
    ],
)
def test_one_that_fails_hangs_or_is_missing_is_a_warning(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT_S", 0.3)
    run = Run(tmp_path, script(tmp_path, text))
    if not text:
        (tmp_path / "tell.sh").unlink()
    began = time.monotonic()
    end(run)
    assert time.monotonic() - began < 5
    assert run.warnings == [f"launch.notify: {told}"]
    if "child" in text:
        child = f"/proc/{(tmp_path / 'child').read_text().strip()}/exe"
        while os.path.exists(child) and time.monotonic() - began < 5:
            time.sleep(0.01)
        assert not os.path.exists(child)
    if "broke" in text:
        assert (run.folder / "worker.log").read_text() == "it broke\n"


def test_a_command_that_hangs_holds_no_event_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "TIMEOUT_S", 0.3)
    run = Run(tmp_path, script(tmp_path, "#!/bin/sh\nsleep 60\n"))
    began = time.monotonic()
    for event in evaluations(1.0, 1.1, 1.2, 1.3):
        run.notifier.watch(event)
    assert time.monotonic() - began < 0.25
    end(run)


def test_a_program_is_found_on_the_path_below_the_profile_and_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    script(tmp_path, TELL)
    assert program_of(("sh",), tmp_path)
    assert program_of(("./tell.sh",), tmp_path) == str(tmp_path / "./tell.sh")
    assert program_of(("~/tell.sh",), Path("/")) == str(tmp_path / "tell.sh")
    (tmp_path / "tell.sh").chmod(0o644)
    assert program_of(("./tell.sh",), tmp_path) is None


TRIAL = {"sweep": {"id": "s", "trial": 1, "params": {}}}


@pytest.mark.parametrize(
    ("kind", "words", "more", "told"),
    [
        ("train", ["sh"], {}, True),
        ("train", [], {}, False),
        ("train", ["sh"], TRIAL, False),
        ("sweep", ["sh"], {}, True),
        ("sweep", [], {}, False),
        ("evaluate", ["sh"], {}, False),
    ],
)
def test_runs_and_sweeps_are_told_of_but_not_trials(
    kind: str, words: list[str], more: dict[str, Any], told: bool, tmp_path: Path
) -> None:
    (tmp_path / "profile.toml").write_text(f"[launch]\nnotify = {json.dumps(words)}\n")
    write_json_atomic(tmp_path / "sweep.json", {"profile_path": "/home/user/profiles/my.toml"})
    settings = {"launch": {"notify": words}}
    write_json_atomic(tmp_path / "run.json", {"schema_version": 1, "settings": settings, "base_dir": "/", **more})
    job = Job(tmp_path, {"job": kind}, EventWriter(tmp_path / "events.jsonl"))
    notifier = _notifier(job)
    assert (notifier is not None) == told
    if notifier is not None:
        assert job.events.listener == notifier.watch
        folder = Path("/home/user/profiles" if kind == "sweep" else "/")
        assert notifier._command == Command(("sh",), folder)
