"""Starting evaluations and exports from the results screen: jobs that outlive the deck."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.message import Message
from textual.message_pump import MessagePump

from engine.api import runs
from tui.background import Lane


class JobRequested(Message):
    """A view wants a job started; `make` describes it, `name` says what it is."""

    def __init__(self, name: str, make: Callable[[], dict[str, Any]], folder: Path) -> None:
        super().__init__()
        self.name, self.make, self.folder = name, make, folder


class JobStarter:
    """Starts one job after the other in a thread and remembers their workers.

    `started` and `failed` are called on the owner's loop.
    """

    def __init__(self, owner: MessagePump, started: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        self._started, self._failed = started, failed
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._lane = Lane(owner, "start job")

    def start(self, job: JobRequested) -> None:
        """Start a job in its folder."""

        def remember(process: subprocess.Popen[bytes]) -> None:
            self._workers[job.name] = process
            self._started()

        self._lane.submit(lambda: runs.begin_job(job.make(), job.folder), remember, self._failed)

    def alive(self, name: str) -> bool:
        """Whether the worker of the job `name` lives and was started here."""
        worker = self._workers.get(name)
        return worker is not None and worker.poll() is None

    def reset(self) -> None:
        """Forget the workers, which go on: another run is shown."""
        self._workers = {}
