"""Starting workers: a training run that outlives its starter, or a job that answers its caller.

Both are `python -m engine.worker DIRECTORY` with a `job.json` in the directory, streams to
`worker.log`, never a pipe. The command line and the deck call this; the worker itself is `worker.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from engine.errors import OUT_OF_MEMORY, EngineError, ExitCode
from engine.files import write_json_atomic, write_text_atomic
from engine.runs.events import Event, EventWriter
from engine.runs.follow import follow_worker
from engine.runs.lock import CLAIM, claim_for_worker, give_back, hand_over, holder_pid, holder_text, token_of_claim
from engine.runs.parent import tied
from engine.runs.ranks import refuse_ranks, without_rank
from engine.runs.record import (
    JOB_FILE,
    JOB_VERSION,
    PROFILE_TEXT,
    RESULT_FILE,
    RUN_FILE,
    JobRequest,
    LaunchSettings,
    read_record,
    read_record_of,
    read_result,
)
from engine.runs.removal import discard_run
from engine.runs.start import bring_start, start_of
from engine.runs.state import run_state
from engine.runs.store import Run, create_run, directory_error, worker_pid
from engine.runs.temporary import make_temporary
from engine.runs.workers import works_in
from engine.text import format_bytes

_LOOKS = ("data_check", "data_preview")
OnEvent = Callable[[Event], None]


def worker_environment(settings: LaunchSettings) -> dict[str, str]:
    """The worker's environment: threads, device visibility and allocator, set before torch is imported."""
    environment = without_rank(os.environ)
    if "OMP_NUM_THREADS" not in environment or settings.own_threads:
        environment["OMP_NUM_THREADS"] = settings.threads or str(os.cpu_count() or 1)
    _set_waiting(environment)
    environment["TOKENIZERS_PARALLELISM"] = "true"
    environment.pop("PYTHONOPTIMIZE", None)  # transformers reads its own docstrings
    environment["PYTHONUNBUFFERED"] = "1"
    environment.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if settings.device == "cuda":
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        if settings.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = settings.gpu
        # torch 2.9 and older read the first name, 2.10 and newer the second.
        for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
            environment.setdefault(name, "expandable_segments:True")
    elif settings.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


_SPIN_COUNT = "10000"
"""Turns that an idle thread of libgomp looks for work before it sleeps: a third more steps a second than asleep at
once (SmolLM2-135M, two threads), where the processors are this run's alone."""
_QUIET_PERCENT = 50.0
"""Of the processors: what others may use for that. Threads that spin against others slow everybody down."""
_LOOK_S = 0.1


def _set_waiting(environment: dict[str, str]) -> None:
    """How idle threads wait, unless the person has said so."""
    if "OMP_WAIT_POLICY" in environment or "GOMP_SPINCOUNT" in environment:
        return
    environment["OMP_WAIT_POLICY"] = "passive"
    if psutil.cpu_percent(_LOOK_S) < _QUIET_PERCENT:
        environment["GOMP_SPINCOUNT"] = _SPIN_COUNT


def spawn_worker(directory: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a worker in a session of its own: neither a closed terminal nor our death reaches it.

    A signal that ends this process meanwhile ends the worker, too: nobody else knows of it yet.
    """
    started: list[subprocess.Popen[bytes]] = []
    lock = directory / "lock"
    log = os.open(directory / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        with _signals_held():
            started.append(_popen(directory, {**environment, CLAIM: token_of_claim(lock)}, log))
            hand_over(lock, started[0].pid)
    except BaseException:
        for process in started:
            end_worker(process)
        raise
    finally:
        os.close(log)
    return started[0]


def _popen(directory: Path, environment: Mapping[str, str], log: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            # -P: a file in the run's directory must not pass for a module.
            [sys.executable, "-P", "-m", "engine.worker", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=directory,
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        raise EngineError(
            f"no worker can be started: {error.strerror or error}",
            code=ExitCode.RESOURCES,
            hint="end other programs, or raise the limits of processes and memory ('ulimit -u', 'ulimit -v')",
        ) from error


@contextlib.contextmanager
def _claimed(place: Path, refusal: Callable[[int], EngineError]) -> Iterator[None]:
    """A worker may be started in `place`; two processes that want to do so do not both get here."""
    lock = place / "lock"
    pid = claim_for_worker(lock)
    if pid is not None:
        raise refusal(pid)
    try:
        yield
    finally:
        give_back(lock)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """A signal within takes effect at the end, where a handler of Python's would raise in the middle of a start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: found for number in _ENDING if callable(found := signal.getsignal(number))}
    came: list[tuple[int, FrameType | None]] = []
    for number in handlers:
        signal.signal(number, lambda told, frame: came.append((told, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for signalled in came[:1]:
        handlers[signal.Signals(signalled[0])](*signalled)


_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start_run(name: str, run_json: dict[str, Any], profile_text: str) -> tuple[Run, subprocess.Popen[bytes]]:
    """Make a run directory and start its worker; returns at once, before anything is loaded.

    Raises EngineError(ENVIRONMENT) in one of several processes of a launcher.
    """
    refuse_ranks()
    launch = read_record_of(run_json).launch
    run = create_run(name, {**run_json, PROFILE_TEXT: profile_text}, profile_text)
    try:
        start = start_of(run_json)
        if start is not None:
            bring_start(run.path, start)
        with _claimed(run.path, lambda pid: _is_running(run, pid)):
            write_json_atomic(run.path / JOB_FILE, JobRequest("train").to_json())
            return run, spawn_worker(run.path, worker_environment(launch))
    except (SystemExit, KeyboardInterrupt, OSError, EngineError) as error:
        discard_run(run)
        if isinstance(error, OSError):
            raise directory_error(run.path, error) from error
        raise


def _is_running(run: Run, pid: int) -> EngineError:
    return EngineError(
        f"run {run.id} is running already ({holder_text(pid)})",
        code=ExitCode.RESOURCES,
        hint=f"see 'engine runs watch {run.id}'",
    )


def resume_run(
    run: Run, *, run_json: dict[str, Any] | None = None, profile_text: str = "", why: str = ""
) -> subprocess.Popen[bytes]:
    """Start a worker that goes on from the newest whole checkpoint of `run`, where given with other settings.

    The settings until now are kept beside as `run.before-N.json`; an event tells of the change.

    Raises EngineError: RESOURCES when a worker lives, PROFILE when the run is complete, ENVIRONMENT in one of several
    processes of a launcher.
    """
    refuse_ranks()
    pid = worker_pid(run)
    if pid is not None:
        raise _is_running(run, pid)
    if run_state(run) == "completed":
        raise EngineError(
            f"run {run.id} is complete",
            code=ExitCode.PROFILE,
            hint=f"a new run that goes on from it: engine runs branch {run.id}",
        )
    with _claimed(run.path, lambda pid: _is_running(run, pid)):
        (run.path / "control").mkdir(mode=0o700, exist_ok=True)  # copies of a run may lack empty folders
        for stale in (run.path / "control").iterdir():
            stale.unlink(missing_ok=True)
        if run_json is not None:
            _change_settings(run, run_json, profile_text, why)
        write_json_atomic(run.path / JOB_FILE, JobRequest("train", resume=True, asked_at=time.time()).to_json())
        return spawn_worker(run.path, worker_environment(read_record(run.path).launch))


def _change_settings(run: Run, run_json: dict[str, Any], profile_text: str, why: str) -> None:
    number = len(list(run.path.glob("run.before-*.json"))) + 1
    write_json_atomic(run.path / f"run.before-{number}.json", read_record(run.path).raw)
    write_json_atomic(run.path / RUN_FILE, {**run_json, PROFILE_TEXT: profile_text})
    write_text_atomic(run.path / "profile.toml", profile_text)
    writer = EventWriter(run.events_path)
    try:
        writer.write("control", request="settings", outcome=f"changed: {why}; before: run.before-{number}.json")
    finally:
        writer.close()


def wait_started(
    run: Run, process: subprocess.Popen[bytes], on_event: OnEvent, *, offset: int = 0, keep: bool = False
) -> None:
    """Follow a run until it trains. One that cannot start is removed, unless `keep`, and its error raised."""
    error: EngineError | None = None
    for event in follow_worker(run.events_path, process, offset=offset):
        on_event(event)
        if event["type"] == "started":
            return
        if event["type"] == "error":
            error = EngineError.from_dict(event)
        if event["type"] == "finished" and event.get("outcome") == "stopped":
            code = ExitCode.INTERRUPTED if keep else ExitCode.CANCELLED
            error = EngineError("stopped before training began", code=code)
    if error is None:
        error = died(run.path, process)
    if not keep:
        discard_run(run)
    raise error


def died(directory: Path, process: subprocess.Popen[bytes]) -> EngineError:
    """The error for a worker that ended without an event that says why: from its log, its exit code or its signal."""
    code = process.poll()
    told = _told_in_log(directory)
    if told is not None:
        return told
    if code in _EXPLAINED:
        message, hint = _EXPLAINED[ExitCode(code)]
        return EngineError(message, code=ExitCode(code), where=str(directory), hint=hint)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if code in _OF_MEMORY and limit != resource.RLIM_INFINITY:
        return EngineError(
            f"the worker found no memory below the limit of {format_bytes(limit)} for its addresses",
            code=ExitCode.RESOURCES,
            cause=OUT_OF_MEMORY,
            hint="raise it: 'ulimit -v unlimited'; a batch system may set it, too",
        )
    if code == 1 and any(word in text for text in _log_lines(directory)[-3:] for word in _OF_THREADS):
        return EngineError(
            "the worker could start no more threads",
            code=ExitCode.RESOURCES,
            hint="raise the limits of addresses and processes ('ulimit -v', 'ulimit -u'), or set OMP_NUM_THREADS=1",
        )
    how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    hint = "the kernel may have killed it for memory" if code == -signal.SIGKILL else _log_tail(directory)
    return EngineError(f"the worker ended with {how} and no message", code=ExitCode.INTERNAL, hint=hint)


_OF_MEMORY = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
"""How libraries end that do not expect to be refused memory."""
_OF_THREADS = ("Thread creation failed", "pthread_create failed", "can't start new thread")
"""What libgomp, OpenBLAS and Python say of it before they end."""
_EXPLAINED = {
    ExitCode.DISK: (
        "the disk took nothing more, not even the reason",
        "look at its space, quota and mount, then start again or resume the run",
    ),
    ExitCode.RESOURCES: ("memory or another means was missing, and the reason could not be written", "see worker.log"),
}


def _log_lines(directory: Path) -> list[str]:
    try:
        with (directory / "worker.log").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4000))
            data = file.read()
    except OSError:
        return []
    return [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]


def _told_in_log(directory: Path) -> EngineError | None:
    """The error of a worker that could not even begin: the last line of its log."""
    lines = _log_lines(directory)
    try:
        found = json.loads(lines[-1])["error"] if lines and lines[-1].startswith('{"error"') else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return EngineError.from_dict(found) if isinstance(found, dict) else None


def _log_tail(directory: Path) -> str:
    lines = _log_lines(directory)
    return "log ends: " + " | ".join(lines[-3:]) if lines else ""


def run_job(job: dict[str, Any], on_event: OnEvent, *, directory: Path | None = None) -> dict[str, Any]:
    """Run a job in a worker and return its result; raises the EngineError that the worker reported.

    `directory` keeps job.json, events, log and result.json (evaluate, export); without one a temporary
    folder serves and is removed. An interrupt ends the worker before it is passed on.
    """
    place = directory or make_temporary("job")
    try:
        return _await_result(place, begin_job(job, place, tied_to_us=True), on_event)
    finally:
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)


def is_at_work(place: Path) -> bool:
    """Whether a worker lives in a job's directory."""
    return holder_pid(place / "lock") is not None


def begin_job(job: dict[str, Any], place: Path, *, tied_to_us: bool = False) -> subprocess.Popen[bytes]:
    """Start a job in a worker of its own and return at once; `tied_to_us`: it ends when this process does.

    Raises EngineError: RESOURCES while one works there, ENVIRONMENT in one of several processes of a launcher, unless
    the job only looks at data.
    """
    if job.get("job") not in _LOOKS:
        refuse_ranks()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    launch = read_record_of(job["run_json"]).launch if "run_json" in job else LaunchSettings()
    environment = worker_environment(launch)
    with _claimed(place, lambda pid: _is_taken(place, pid)):
        for name in ("events.jsonl", RESULT_FILE):
            (place / name).unlink(missing_ok=True)
        write_json_atomic(place / JOB_FILE, {"v": JOB_VERSION, **job})
        return spawn_worker(place, tied(environment) if tied_to_us else environment)


def _is_taken(place: Path, pid: int) -> EngineError:
    return EngineError(
        f"the same job is at work already ({holder_text(pid)})",
        code=ExitCode.RESOURCES,
        where=str(place),
        hint="wait for it, or see 'engine jobs'",
    )


def stop_job(place: Path) -> bool:
    """Ask the worker at work in `place` to end at once; False when none is there that a signal reaches."""
    pid = holder_pid(place / "lock")
    if pid is None or pid <= 0 or not works_in(pid, place):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return True


def _await_result(place: Path, process: subprocess.Popen[bytes], on_event: OnEvent) -> dict[str, Any]:
    error: EngineError | None = None
    try:
        for event in follow_worker(place / "events.jsonl", process):
            on_event(event)
            if event["type"] == "error":
                error = EngineError.from_dict(event)
    except BaseException:
        end_worker(process)
        raise
    if error is not None:
        raise error
    if process.returncode != 0 or not (place / RESULT_FILE).is_file():
        raise died(place, process)
    return dict(read_result(place))


def end_worker(process: subprocess.Popen[bytes], grace_s: float = 5.0) -> None:
    """End a worker and what it started: asked first, killed after `grace_s`."""
    process.terminate()
    deadline = time.monotonic() + grace_s
    while not _is_over(process) and time.monotonic() < deadline:
        time.sleep(_END_POLL_S)
    if process.returncode is None:
        # Its session is its group: before it is collected nobody else can have that number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


_END_POLL_S = 0.02


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended, without collecting it."""
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return process.poll() is not None
