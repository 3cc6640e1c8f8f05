"""How a worker ends: every failure has its exit code, and nothing keeps a request to stop."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from engine.errors import EngineError, ExitCode
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.worker import Stopped, _as_engine_error, _unneeded


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return _as_engine_error(caught)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineError("bad rows", code=ExitCode.DATA), ExitCode.DATA),
        (OSError(28, "No space left on device"), ExitCode.DISK),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ExitCode.DISK),
        (OSError(122, "Disk quota exceeded"), ExitCode.DISK),
        (MemoryError(), ExitCode.RESOURCES),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ExitCode.RESOURCES),
        (RuntimeError("can't start new thread"), ExitCode.RESOURCES),
        (KeyError("surprise"), ExitCode.INTERNAL),
    ],
    ids=str,
)
def test_exit_codes(error, code):
    found = raised(error)
    assert found.code is code
    assert found.message


def test_an_internal_error_says_where_it_happened():
    assert "test_worker.py:" in raised(ValueError("odd")).hint


@pytest.mark.parametrize("text", ["", "[]", '{"v": 99}', '{"v": 1, "job": '])
def test_a_request_that_cannot_be_read_is_an_error_event(text, tmp_path):
    (tmp_path / "job.json").write_text(text)
    command = [sys.executable, "-m", "engine.worker", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.PROFILE
    (told,) = read_events(tmp_path / "events.jsonl")[0]
    assert (told["type"], told["code"]) == ("error", "profile")
    assert told["message"].startswith("job.json ")
    assert "start the job again" in told["hint"] or "engine" in told["hint"]
    assert told["message"] in done.stderr
    assert "Traceback" not in done.stderr


def test_no_except_exception_keeps_a_stop():
    assert not issubclass(Stopped, Exception)


@pytest.mark.parametrize(
    ("job", "settings", "found"),
    [
        ("train", {}, ("bitsandbytes", "torchao")),
        ("train", {"quantization": {"method": "nf4"}}, ("torchao",)),
        ("train", {"train": {"optim": "paged_adamw_8bit"}}, ("torchao",)),
        ("train", None, ()),
        ("evaluate", {}, ()),
        ("export", {}, ()),
        ("data_check", None, ("bitsandbytes", "torchao")),
    ],
)
def test_a_job_hides_only_what_it_never_calls(job, settings, found, tmp_path):
    if settings is not None:
        plain = {"quantization": {"method": "none"}, "train": {"optim": "adamw_torch"}}
        (tmp_path / "run.json").write_text(json.dumps({"schema_version": 1, "settings": plain | settings}))
    assert _unneeded(Job(tmp_path, {"job": job}, EventWriter(tmp_path / "events.jsonl"))) == found
