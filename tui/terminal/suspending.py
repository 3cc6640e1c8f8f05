"""Stopping the deck so that a shell has the terminal, as `^z` does to any job of a shell."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def can_come_back() -> bool:
    """Whether a shell watches this job: else nobody could ever wake it.

    Some process of the job must have its parent in the same session but in another job.
    """
    job, session, pid = os.getpgrp(), os.getsid(0), os.getpid()
    try:
        while pid > 1 and os.getpgid(pid) == job:
            parent = _parent(pid)
            if parent > 0 and os.getpgid(parent) != job and os.getsid(parent) == session:
                return True
            pid = parent
    except (OSError, ValueError, IndexError):
        return False
    return False


def _parent(pid: int) -> int:
    if pid == os.getpid():
        return os.getppid()
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def suspend_job() -> None:
    """Stop the whole job: a wrapper that waits for the deck, such as `uv run`, is stopped with it.

    Textual's driver answers the signal: it gives the terminal back and takes it again when the job goes on.
    """
    os.killpg(os.getpgrp(), signal.SIGTSTP)
