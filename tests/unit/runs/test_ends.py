"""How a worker ends with its command, tells its end on a full disk, and what is left behind it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine import worker
from engine.errors import EngineError, ExitCode
from engine.files import sweep_temporaries, write_json_atomic
from engine.runs import launch, temporary
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.runs.parent import VARIABLE
from engine.runs.reserve import RESERVE_BYTES, Reserve

CHILD = """
import os, signal, sys, time
from engine.runs.parent import end_with, take_parent
end_with(take_parent(), lambda: os._exit(7), signal.SIGTERM if sys.argv[1] == "kernel" else None)
print("tied", flush=True)
while True: time.sleep(60)
"""
PARENT = """
import os, subprocess, sys
from engine.runs.parent import tied
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], env=tied(dict(os.environ)),
                         stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["kernel", "thread"])
def test_a_job_ends_with_its_command_even_if_that_is_killed(how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and b") Z " not in Path(f"/proc/{child}/stat").read_bytes():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_ending_a_worker_ends_what_it_started(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, time; signal.signal(15, signal.SIG_IGN);"
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    launch.end_worker(process, grace_s=0.1)
    assert process.returncode == -9
    until = time.monotonic() + 5
    while Path(f"/proc/{grandchild}/cmdline").exists() and Path(f"/proc/{grandchild}/cmdline").read_bytes():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_reason_is_written_on_a_disk_full_to_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve(tmp_path)
    kept = tmp_path / ".reserve"
    assert kept.stat().st_blocks * 512 >= RESERVE_BYTES // 2
    real = EventWriter._append

    def full(self: Any, kind: str, fields: Any) -> Any:
        if kept.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events.jsonl")
        return real(self, kind, fields)

    monkeypatch.setattr(EventWriter, "_append", full)
    events = EventWriter(tmp_path / "events.jsonl")
    job = Job(tmp_path, {"job": "none"}, events)
    job.events.listener = lambda _: None
    handlers = [worker.signal.getsignal(number) for number in (15, 2)]
    try:
        assert worker._run(job, reserve) == ExitCode.INTERNAL
    finally:
        for number, handler in zip((15, 2), handlers, strict=True):
            worker.signal.signal(number, handler)
    assert [event["type"] for event in read_events(tmp_path / "events.jsonl")[0]] == ["error", "finished"]


@pytest.mark.parametrize(
    ("log", "code", "found"),
    [
        ('{"error": {"code": "disk", "message": "no space"}}', 6, (ExitCode.DISK, "no space")),
        ("", 6, (ExitCode.DISK, "not even the reason")),
        ("Traceback", 1, (ExitCode.INTERNAL, "exit code 1")),
        (
            "libgomp: Thread creation failed: Resource temporarily unavailable",
            1,
            (ExitCode.RESOURCES, "no more threads"),
        ),
        ("RuntimeError: can't start new thread", 1, (ExitCode.RESOURCES, "no more threads")),
        ('{"error": 3}', -15, (ExitCode.INTERNAL, "SIGTERM")),
    ],
)
def test_a_worker_without_a_last_event(tmp_path: Path, log: str, code: int, found: tuple[ExitCode, str]) -> None:
    (tmp_path / "worker.log").write_text(f"before\n{log}\n")

    class Ended:
        def poll(self) -> int:
            return code

    error = launch.died(tmp_path, Ended())  # type: ignore[arg-type]
    assert (error.code, found[1] in error.message) == (found[0], True)


def test_a_disk_that_takes_no_log_hides_no_exit_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as log:
        command = [sys.executable, "-m", "engine.worker", str(tmp_path)]
        done = subprocess.run(command, stderr=log, check=False)
    assert done.returncode == ExitCode.PROFILE  # there is no job.json


def test_a_second_worker_says_so_in_its_log(tmp_path: Path) -> None:
    held = launch.claim_for_worker(tmp_path / "lock")
    assert held is None
    write_json_atomic(tmp_path / "job.json", {"v": 1, "job": "train"})
    code = (
        f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-m', 'engine.worker', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.RESOURCES
    assert "another worker is at work" in done.stderr
    assert not (tmp_path / "events.jsonl").exists()


def test_folders_of_killed_jobs_go_when_the_next_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary.tempfile, "tempdir", str(tmp_path))
    old, held, other = (tmp_path / name for name in ("tunedeck-job-old", "tunedeck-chat-held", "another-job"))
    for folder in (old, held, other):
        folder.mkdir()
    assert launch.claim_for_worker(held / "lock") is None
    (tmp_path / "tunedeck-job-link").symlink_to(other)
    young = temporary.make_temporary("job")
    for folder in (old, held, other):
        os.utime(folder, (1, 1))
    made = temporary.make_temporary("chat")
    assert not old.exists()
    assert all(folder.exists() for folder in (held, other, young, made))
    monkeypatch.setattr(temporary.tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(EngineError, match="temporary folder") as caught:
        temporary.make_temporary("job")
    assert caught.value.code is ExitCode.DISK


def test_half_written_files_of_the_dead_are_swept(tmp_path: Path) -> None:
    stays = (f".summary.json.{os.getppid()}.tmp", "summary.json", ".step-3.tmp", ".a.tmp")
    for name in (".summary.json.4194303.tmp", ".lock.owner.4194303.0a1b.tmp", *stays):
        (tmp_path / name).touch()
    sweep_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(stays)
    sweep_temporaries(tmp_path / "none")


def test_no_child_takes_the_tie_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.runs.parent import take_parent

    monkeypatch.setenv(VARIABLE, "12")
    assert (take_parent(), take_parent()) == (12, None)
