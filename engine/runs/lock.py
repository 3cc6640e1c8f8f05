"""The liveness lock: a worker holds it for as long as it lives, so a free lock means no worker.

`fcntl.lockf` (POSIX record lock), not `flock`: a forked data loader would inherit the latter and keep
it after its parent died. A POSIX lock goes when *any* descriptor of the file in the process closes, so
the worker opens the file exactly once.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from pathlib import Path

_FLOCK = "hhqqi"
"""struct flock on 64-bit Linux: type, whence, start, length, pid."""


def acquire(path: Path) -> int | None:
    """Take the lock for this process; the descriptor to keep open, or None when another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return None
    return descriptor


def holder_pid(path: Path) -> int | None:
    """pid of the process that holds the lock, None when it is free or was never made.

    Asks with F_GETLK on Linux, so that looking never takes the lock away from a worker that starts.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if sys.platform != "linux":
            return _probe_by_locking(descriptor)
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else pid
    finally:
        os.close(descriptor)


def _probe_by_locking(descriptor: int) -> int | None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return -1
    return None
