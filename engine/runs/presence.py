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


def watch(lock_path: Path, descriptor: int, on_gone: Callable[[], None]) -> None:
    """Call `on_gone` once, from a thread of its own, when the directory has gone."""

    def look() -> None:
        missed = 0
        while missed < LOOKS:
            time.sleep(LOOK_S)
            missed = missed + 1 if is_gone(lock_path, descriptor) else 0
        on_gone()

    threading.Thread(target=look, name="presence", daemon=True).start()
