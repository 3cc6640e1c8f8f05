"""`python -m engine.worker DIRECTORY`: the only kind of process that imports torch.

Takes the directory's lock, reads `job.json`, runs the job it names, and ends with an event and an exit
code whatever happens. Started by `engine.runs.launch`; the work itself is in `train`, `evaluate`,
`export` and `data`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from engine.errors import OUT_OF_MEMORY, EngineError, ExitCode, is_out_of_memory
from engine.files import sweep_temporaries, write_json_atomic
from engine.io_errors import io_error, is_full
from engine.libraries import check_libraries, hidden
from engine.runs import presence
from engine.runs.events import EventWriter
from engine.runs.job import Job
from engine.runs.lock import Held, acquire
from engine.runs.notify import Notifier, command_of_run, command_of_sweep
from engine.runs.parent import end_with, take_parent
from engine.runs.ranks import forget_rank
from engine.runs.record import RESULT_FILE, RunRecord, load_record, read_job
from engine.runs.reserve import Reserve
from engine.surroundings import settle

JOBS = {
    "train": "engine.train.run:run",
    "evaluate": "engine.evaluate.run:run",
    "harness": "engine.evaluate.harness:run",
    "export": "engine.export.run:run",
    "chat": "engine.inference.chat:run",
    "sweep": "engine.sweep.run:run",
    "data_check": "engine.data.job:run_check",
    "data_preview": "engine.data.job:run_preview",
}


class Stopped(BaseException):
    """A signal ended the work before it could be stopped at a step; no `except Exception` may keep it."""


def main(arguments: list[str]) -> int:
    """Run the job in the directory named by the only argument; returns the exit code."""
    faulthandler.enable()
    forget_rank()
    # transformers imports torchao with every model; it would tell each time which GPU kernels this torch lacks.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if len(arguments) != 1:
        print("usage: python -m engine.worker DIRECTORY", file=sys.stderr)
        return int(ExitCode.PROFILE)
    settle()
    directory = Path(arguments[0]).resolve()
    try:
        return _work(directory)
    except EngineError as error:
        return _end_early(error)
    except OSError as error:
        found = io_error(error, where=str(directory))
        if found is None:
            raise
        return _end_early(found)


def _work(directory: Path) -> int:
    held = acquire(directory / "lock")
    if held is None:
        raise EngineError("another worker is at work there", code=ExitCode.RESOURCES, where=str(directory))
    _sweep(directory)
    reserve = Reserve(directory)
    try:
        return _work_held(directory, held, reserve)
    finally:
        reserve.free()
        _sweep(directory)


def _work_held(directory: Path, held: Held, reserve: Reserve) -> int:
    events = EventWriter(directory / "events.jsonl")
    try:
        job = Job(directory, read_job(directory).params, events)
    except EngineError as error:
        events.write("error", **error.to_dict())
        raise
    _install_signals(job)
    presence.watch(held, lambda: _leave(job, f"{directory} is gone"))
    parent = take_parent()
    if parent is not None:
        _end_with(parent, job)
    if told := held.warning():
        job.warn("no_locks", told)
    return _run(job, reserve, _notifier(job))


def _end_early(error: EngineError) -> int:
    """What keeps a worker from its work: told in its log, as the one who waits for it reads it there."""
    _log(f"{error}\n{json.dumps({'error': error.to_dict()})}")
    return int(error.code)


def _log(text: str) -> None:
    """A line of the log. The log's disk may be what is broken: that must not hide the exit code."""
    with contextlib.suppress(OSError):
        print(text.rstrip("\n"), file=sys.stderr)


def _end_with(parent: int, job: Job) -> None:
    kind = str(job.params.get("job"))
    number = None if kind == "chat" else signal.SIGKILL if kind.startswith("data_") else signal.SIGTERM
    end_with(parent, lambda: _leave(job, "the command that waited for this work has ended"), number)


_WRITTEN = ("", "control", "checkpoints", "data")


def _sweep(directory: Path) -> None:
    """Clear away what an earlier worker left half written: this one alone writes there now."""
    for name in _WRITTEN:
        sweep_temporaries(directory / name)
    for half in (directory / "checkpoints").glob(".step-*.tmp"):
        shutil.rmtree(half, ignore_errors=True)


def _run(job: Job, reserve: Reserve, notifier: Notifier | None = None) -> int:
    began = time.monotonic()
    outcome: dict[str, Any] = {"outcome": "failed", "step": None, "reason": ""}
    code = ExitCode.INTERNAL
    try:
        check_libraries(job.warn)
        with hidden(_unneeded(job)):
            work = _entry(str(job.params.get("job")))
        result = work(job)
        write_json_atomic(job.directory / RESULT_FILE, result)
        outcome |= {key: result[key] for key in ("outcome", "step", "reason") if key in result}
        outcome["outcome"] = result.get("outcome", "completed")
        code = ExitCode.OK
    except Stopped as stop:
        outcome |= {"outcome": "stopped", "reason": str(stop)}
        code = ExitCode.INTERRUPTED
    except BaseException as error:
        if is_full(error):
            reserve.free()
        failure = _as_engine_error(error, str(job.directory))
        code = failure.code
        outcome["reason"] = failure.message
        _tell(job, reserve, "error", **failure.to_dict())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _tell(job, reserve, "finished", **outcome, exit_code=int(code), seconds=round(time.monotonic() - began, 3))
    if notifier is not None:
        notifier.ended(outcome)
    return int(code)


_LEAVE_S = 20.0
"""A worker that has to leave has this long to end by itself."""


def _leave(job: Job, why: str) -> None:
    """End at once: what is saved now would be found by nobody, or nobody waits for it."""
    _log(f"{why}: the work ends")
    job.stop.ask(why)
    job.stoppable.clear()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LEAVE_S)
    os._exit(int(ExitCode.INTERRUPTED))


def _notifier(job: Job) -> Notifier | None:
    """Who is told of the end and of troubles of a run or a sweep; trials leave that to their sweep."""
    kind = job.params.get("job")
    record = load_record(job.directory) if kind == "train" else None
    command = command_of_sweep(job.directory) if kind == "sweep" else None
    planned = None
    if isinstance(record, RunRecord) and record.trial is None:
        command, planned = command_of_run(record), record.prediction.tokens_per_second
    if command is None:
        return None
    notifier = Notifier(command, job.directory, job.warn, planned)
    job.events.listener = notifier.watch
    return notifier


def _tell(job: Job, reserve: Reserve, kind: str, **fields: Any) -> None:
    """An event at the end. A full disk has room for it in the reserve; on a broken one the exit code has to do."""
    try:
        try:
            job.events.write(kind, **fields)
        except OSError as error:
            if not is_full(error):
                raise
            reserve.free()
            job.events.write(kind, **fields)
    except OSError:
        _log(traceback.format_exc())


def _unneeded(job: Job) -> tuple[str, ...]:
    """Libraries that others import on sight and that this job never calls: it starts so much sooner."""
    kind = job.params.get("job")
    if kind in ("data_check", "data_preview"):
        return ("bitsandbytes", "torchao")
    record = load_record(job.directory) if kind == "train" else None
    if not isinstance(record, RunRecord):
        return ()
    plain = record.text("quantization.method") == "none" and "8bit" not in record.text("train.optim")
    return ("bitsandbytes", "torchao") if plain else ("torchao",)


def _entry(name: str) -> Callable[[Job], dict[str, Any]]:
    if name not in JOBS:
        raise EngineError(f"unknown job {name!r}", hint=f"use one of {', '.join(JOBS)}")
    module, _, function = JOBS[name].partition(":")
    entry: Callable[[Job], dict[str, Any]] = getattr(importlib.import_module(module), function)
    return entry


def _as_engine_error(error: BaseException, where: str = "") -> EngineError:
    """What a person can act on; the traceback goes to the log, which is this process's stderr."""
    _log(traceback.format_exc())
    if isinstance(error, EngineError):
        return error
    kind, text = type(error).__name__, str(error)
    if is_out_of_memory(error):
        return EngineError(
            f"out of memory: {(text.splitlines() or [kind])[0]}",
            code=ExitCode.RESOURCES,
            cause=OUT_OF_MEMORY,
            hint="lower train.per_device_train_batch_size or model.max_length, or use activation checkpointing",
        )
    if isinstance(error, RuntimeError) and "can't start new thread" in text:
        hint = "raise the limits of addresses and processes ('ulimit -v', 'ulimit -u'), or set OMP_NUM_THREADS=1"
        return EngineError("the worker could start no more threads", code=ExitCode.RESOURCES, hint=hint)
    refused = io_error(error, where=where)
    if refused is not None:
        return refused
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return EngineError(
        f"{kind}: {(text.splitlines() or [''])[0]}", hint=f"in {Path(frame.filename).name}:{frame.lineno}"
    )


def _install_signals(job: Job) -> None:
    """SIGTERM and SIGINT: stop at the next step and save; a second one, or one before training: at once."""

    worker = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if os.getpid() != worker:
            os._exit(128 + number)  # a forked data loader: it has nothing to save
        if job.stop or not job.stoppable.is_set():
            job.stoppable.clear()
            job.stop.ask(name)
            raise Stopped(f"{name} ended the work at once")
        job.stop.ask(name)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
