"""A command that is ended while it starts a worker leaves none behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.runs import launch


def test_sigterm_in_the_middle_of_a_start_ends_the_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[Any] = []
    real = launch.subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        started.append(real([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[0]

    def leave(number: int, frame: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        monkeypatch.setattr(launch.subprocess, "Popen", popen)
        with pytest.raises(SystemExit):
            launch.spawn_worker(tmp_path, dict(os.environ))
        assert signal.getsignal(signal.SIGTERM) is leave
        assert started[0].poll() is not None
    finally:
        signal.signal(signal.SIGTERM, before)
        started[0].kill()
