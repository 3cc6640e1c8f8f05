"""A job ends with the command that waits for it, however that command ends: TERM, HUP, KILL or a closed terminal.

The command names itself in the worker's environment; the worker asks the kernel for a signal on its end and looks
itself, too. Runs, sweeps and what the deck starts in the background are not tied.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

from engine.runs.owner import Life, life_of, process_owner

VARIABLE = "TUNEDECK_WAITED_FOR_BY"
LOOK_S = 1.0
_PR_SET_PDEATHSIG = 1


def tied(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a worker that ends with this process."""
    environment[VARIABLE] = str(os.getpid())
    return environment


def take_parent(environment: MutableMapping[str, str] = os.environ) -> int | None:
    """pid of the command that waits for this worker; forgotten afterwards, so that no child takes it for its own."""
    told = environment.pop(VARIABLE, "")
    return int(told) if told.isdigit() else None


def waiting_for(pid: int) -> int | None:
    """The command that waits for the worker `pid`, by the environment that it was started with; None = nobody."""
    try:
        found = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    told = [word for word in found.split(b"\0") if word.startswith(f"{VARIABLE}=".encode())]
    number = told[0].partition(b"=")[2] if told else b""
    return int(number) if number.isdigit() else None


def end_with(parent: int, on_end: Callable[[], None], number: signal.Signals | None) -> None:
    """Call `on_end` from a thread when `parent` is gone; the kernel sends `number` then, too (Linux).

    A library that keeps Python busy in one call hears neither thread nor handler: SIGKILL is for work that has nothing
    to save. The kernel means the thread that started this process: None where that one ends early.
    """
    if number is not None:
        _ask_kernel(number)

    # Not by our own parent's id: something may stand between the command and its worker.
    waiting = process_owner(parent)

    def look() -> None:
        while life_of(waiting) is Life.ALIVE:
            time.sleep(LOOK_S)
        on_end()

    threading.Thread(target=look, name="parent", daemon=True).start()


def _ask_kernel(number: signal.Signals) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
