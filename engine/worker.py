"""`python -m engine.worker DIRECTORY`: the only kind of process that imports torch.

Takes the directory's lock, reads `job.json`, runs the job it names, and ends with an event and an exit
code whatever happens. Started by `engine.runs.launch`; the work itself is in `train`, `evaluate`,
`export` and `data`.
"""

from __future__ import annotations

import faulthandler
import importlib
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.runs.events import EventWriter
from engine.runs.files import read_json, write_json_atomic
from engine.runs.lock import acquire
from engine.worker_job import Job

JOBS = {
    "train": "engine.train.run:run",
    "evaluate": "engine.evaluate.run:run",
    "export": "engine.export.run:run",
    "data_check": "engine.data.job:run_check",
    "data_preview": "engine.data.job:run_preview",
}


class Stopped(Exception):
    """A signal ended the work before it could be stopped at a step."""


def main(arguments: list[str]) -> int:
    """Run the job in the directory named by the only argument; returns the exit code."""
    faulthandler.enable()
    if len(arguments) != 1:
        print("usage: python -m engine.worker DIRECTORY", file=sys.stderr)
        return int(ExitCode.PROFILE)
    directory = Path(arguments[0]).resolve()
    lock = acquire(directory / "lock")
    if lock is None:
        print(f"another worker holds {directory / 'lock'}", file=sys.stderr)
        return int(ExitCode.RESOURCES)
    events = EventWriter(directory / "events.jsonl")
    job = Job(directory, read_json(directory / "job.json"), events)
    _install_signals(job)
    return _run(job)


def _run(job: Job) -> int:
    began = time.monotonic()
    outcome: dict[str, Any] = {"outcome": "failed", "step": None, "reason": ""}
    code = ExitCode.INTERNAL
    try:
        result = _entry(str(job.params.get("job")))(job)
        write_json_atomic(job.directory / "result.json", result)
        outcome |= {key: result[key] for key in ("outcome", "step", "reason") if key in result}
        outcome["outcome"] = result.get("outcome", "completed")
        code = ExitCode.OK
    except Stopped as stop:
        outcome |= {"outcome": "stopped", "reason": str(stop)}
        code = ExitCode.INTERRUPTED
    except BaseException as error:
        failure = _as_engine_error(error)
        code = failure.code
        outcome["reason"] = failure.message
        job.events.write("error", **failure.to_dict())
    job.events.write("finished", **outcome, exit_code=int(code), seconds=round(time.monotonic() - began, 3))
    return int(code)


def _entry(name: str) -> Callable[[Job], dict[str, Any]]:
    if name not in JOBS:
        raise EngineError(f"unknown job {name!r}", hint=f"use one of {', '.join(JOBS)}")
    module, _, function = JOBS[name].partition(":")
    entry: Callable[[Job], dict[str, Any]] = getattr(importlib.import_module(module), function)
    return entry


def _as_engine_error(error: BaseException) -> EngineError:
    """What a person can act on; the traceback goes to the log, which is this process's stderr."""
    traceback.print_exc()
    if isinstance(error, EngineError):
        return error
    kind = type(error).__name__
    if kind in ("OutOfMemoryError", "MemoryError"):
        return EngineError(
            f"out of memory: {str(error).splitlines()[0] if str(error) else kind}",
            code=ExitCode.RESOURCES,
            hint="lower train.per_device_train_batch_size or model.max_length, or use activation checkpointing",
        )
    if isinstance(error, OSError) and error.errno in (28, 122):
        return EngineError(
            f"no space left on the disk: {error.strerror}",
            code=ExitCode.DISK,
            where=str(error.filename or ""),
            hint="free space and resume the run",
        )
    first = (str(error).splitlines() or [""])[0]
    return EngineError(f"{kind}: {first}", hint="the traceback is in worker.log")


def _install_signals(job: Job) -> None:
    """SIGTERM and SIGINT: stop at the next step and save; a second one, or one before training: at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if job.stop or not job.stoppable.is_set():
            job.stoppable.clear()
            raise Stopped(f"{name} ended the work at once")
        job.stop.ask(name)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
