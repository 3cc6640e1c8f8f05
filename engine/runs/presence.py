"""Whether a worker's directory is still there. Without it nobody can follow the worker, stop it or have its work.

A thread looks at the lock file, which no worker makes anew: a part of the directory may have been made again by whoever
saved something there.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from engine.runs.lock import Held
from engine.runs.owner import RENEWED_S

LOOK_S = 2.0
LOOKS = 2
"""Looks in a row after which a directory is gone: a network file system may miss one."""


def is_gone(lock_path: Path, descriptor: int) -> bool:
    """Whether the lock file that was opened as `descriptor` is no longer at its path.

    An error of the disk says nothing. Nothing is opened: closing another descriptor of the file would give the lock up.
    """
    try:
        found = os.stat(lock_path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return not os.path.samestat(found, os.fstat(descriptor))


def watch(held: Held, on_gone: Callable[[], None]) -> None:
    """Call `on_gone` once, from a thread of its own, when the directory has gone or is another worker's by now.

    The thread also keeps the owner file young, by which other machines see that this worker lives.
    """

    def look() -> None:
        missed, kept = 0, time.monotonic()
        while missed < LOOKS:
            time.sleep(LOOK_S)
            is_lost = is_gone(held.path, held.descriptor)
            if not is_lost and time.monotonic() - kept >= RENEWED_S:
                kept = time.monotonic()
                is_lost = not held.keep()
            missed = missed + 1 if is_lost else 0
        on_gone()

    threading.Thread(target=look, name="presence", daemon=True).start()
