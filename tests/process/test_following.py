"""What `train` and `sweep` make of the worker they started: Ctrl-C, its error, its death, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from engine.cli import sweeps, train
from engine.errors import EngineError, ExitCode
from engine.runs.store import Run

WORKER = """
import signal, sys, time
from pathlib import Path
from engine.runs.events import EventWriter
def stop(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, stop)
events = EventWriter(Path(sys.argv[1]))
try:
    events.write("started", run="x", steps_total=2)
    THEN
except KeyboardInterrupt:
    events.write("finished", outcome="stopped", step=1, exit_code=8)
    sys.exit(8)
"""
WAITS = "time.sleep(120)"
FAILS = 'events.write("error", code="data", message="no rows"); events.write("finished", outcome="failed", exit_code=3)'
DIES = "sys.exit(70)"
Finish = Callable[..., None]


@pytest.fixture(params=[train.finish, sweeps.finish], ids=["run", "sweep"])
def finish(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Finish:
    monkeypatch.setattr(sweeps, "_tell", lambda sweep, as_json: None)
    chosen: Finish = request.param
    return chosen


def started(folder: Path, then: str) -> tuple[Run, subprocess.Popen[bytes]]:
    run = Run("x", folder)
    return run, subprocess.Popen([sys.executable, "-c", WORKER.replace("THEN", then), str(run.events_path)])


def test_ctrl_c_stops_the_worker_and_ends_with_8(
    tmp_path: Path, finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    run, process = started(tmp_path, WAITS)
    before = signal.getsignal(signal.SIGINT)

    def begun() -> bool:
        return run.events_path.exists() and run.events_path.stat().st_size > 0

    def interrupt() -> None:
        while signal.getsignal(signal.SIGINT) is before or not begun():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(click.exceptions.Exit) as left:
        finish(run, process, as_json=True)
    assert left.value.exit_code == ExitCode.INTERRUPTED
    assert "stopping" in capsys.readouterr().err
    assert process.returncode == 8
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("then", "code", "said"),
    [(FAILS, ExitCode.DATA, "no rows"), (DIES, ExitCode.INTERNAL, "exit code 70 and no message")],
)
def test_a_worker_that_fails_or_dies_is_an_error(
    tmp_path: Path, finish: Finish, then: str, code: ExitCode, said: str
) -> None:
    with pytest.raises(EngineError, match=said) as raised:
        finish(*started(tmp_path, then), as_json=True)
    assert raised.value.code is code
    assert tmp_path.is_dir(), "a run that trained stays"
