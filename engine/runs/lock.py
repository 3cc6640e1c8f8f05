"""The liveness lock: a worker holds it for as long as it lives, so a free lock means no worker.

`fcntl.lockf` (POSIX record lock), not `flock`: a forked data loader would inherit the latter and keep
it after its parent died. A POSIX lock goes when *any* descriptor of the file in the process closes, so
the worker opens the file exactly once.

Beside it lies `lock.owner` (`owner.py`). Whoever only looks reads that file: nothing is locked or written to learn
whether a worker lives. Where the file system has no locks, the file alone decides.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from engine.alarm import alarm
from engine.runs.owner import (
    Life,
    Owner,
    claim,
    is_renewed,
    life_of,
    owner_path,
    process_owner,
    read_owner,
    renew,
    this_process,
    write_owner,
)

_FLOCK = "hhqqi"
"""struct flock on 64-bit Linux: type, whence, start, length, pid."""
_TAKEN = (errno.EAGAIN, errno.EACCES)
_PATIENCE_S = 5.0
CLAIM = "TUNEDECK_CLAIM"
"""Environment variable with the token of the claim that was made for a worker."""
ELSEWHERE = -1
"""Instead of the pid of a worker in another container or on another machine: no signal reaches it."""


@dataclass(slots=True)
class Held:
    """A lock that this process has."""

    path: Path
    descriptor: int
    """Of the lock file; stays open."""
    lacking: str = ""
    """Why only the owner file holds it: what the system answered to the lock. Empty where the lock works."""

    def release(self) -> None:
        """Give it up, for somebody who goes on living."""
        owner_path(self.path).unlink(missing_ok=True)
        os.close(self.descriptor)

    def keep(self) -> bool:
        """Say that the holder lives, from time to time; False when another process has taken the place over."""
        place = owner_path(self.path)
        standing = read_owner(place)
        mine = this_process(locked=not self.lacking)
        if standing == mine:
            renew(place)
            return True
        # Not by the pid: the first process of every container has the same.
        is_other = standing is not None and replace(standing, locked=mine.locked, token="") != mine
        if self.lacking and standing is not None and is_other and life_of(standing) is not Life.GONE:
            return False
        with contextlib.suppress(OSError):
            write_owner(place, mine)
        return True

    def warning(self) -> str:
        """What cannot be promised without locks; empty where there are any."""
        if not self.lacking:
            return ""
        return (
            f"the file system of {self.path.parent} has no file locks ({self.lacking}): the file {self.path.name}.owner"
            " stands in for them. On this machine that is as safe. Between machines it is not: do not start, resume or"
            " remove this from two machines at once, or put XDG_STATE_HOME on a disk with locks"
        )


def acquire(path: Path) -> Held | None:
    """Take the lock for this process, or None when another holds it. Raises OSError.

    A claim that was made for this process (`claim_for_worker`) passes on to it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lacking = _lock(descriptor)
        is_ours = lacking is not None and _own(path, lacking)
    except BaseException:
        os.close(descriptor)
        raise
    if lacking is None or not is_ours:
        os.close(descriptor)
        return None
    return Held(path, descriptor, lacking)


def _lock(descriptor: int) -> str | None:
    """Lock an open file: empty when it is ours, None when another's, else why the system cannot."""
    try:
        with alarm(_PATIENCE_S, _give_up):
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _TAKEN else error.strerror or f"error {error.errno}"
    return ""


def _give_up() -> float:
    """Python asks again as long as the system says that it was interrupted."""
    raise TimeoutError(errno.ETIMEDOUT, "it does not answer")


def _own(path: Path, lacking: str) -> bool:
    """Say who has the lock. With a lock in hand a disk that takes no more files costs only that word."""
    owner, place = this_process(locked=not lacking), owner_path(path)

    def is_held(standing: Owner) -> bool:
        life = life_of(standing)
        if life is Life.ELSEWHERE:  # our lock says that its lock is gone
            return is_renewed(place) and bool(lacking or not standing.locked)
        return life is Life.ALIVE

    try:
        return claim(place, owner, is_held, token=os.environ.get(CLAIM, "")) is None
    except OSError:
        if lacking:
            raise
        with contextlib.suppress(OSError):
            place.unlink()
        return True


def claim_for_worker(path: Path) -> int | None:
    """Claim the lock for a worker that this process is about to start: None = claimed, else who has it.

    Two processes that start a worker in one directory do not both get it. `hand_over` passes it on, `give_back` ends
    it. Raises OSError.
    """
    pid = holder_pid(path)
    if pid is not None:
        return pid
    mine = replace(this_process(), token=secrets.token_hex(8))
    standing = claim(owner_path(path), mine, lambda _: holder_pid(path) is not None)
    return None if standing is None else standing.pid


def token_of_claim(path: Path) -> str:
    """What the worker must know to take over this process's claim; empty without one."""
    standing = read_owner(owner_path(path))
    return standing.token if standing is not None and standing.pid == os.getpid() else ""


def hand_over(path: Path, pid: int) -> None:
    """Pass the claim on to the worker `pid`, which may have taken it already."""
    place = owner_path(path)
    standing = read_owner(place)
    if standing is None or standing.pid != os.getpid():
        return
    worker = replace(process_owner(pid), token=standing.token)
    with contextlib.suppress(OSError):
        # One that ended at once has no start to tell it apart by.
        write_owner(place, worker) if life_of(worker) is Life.ALIVE else place.unlink()


def give_back(path: Path) -> None:
    """End a claim of this process: no worker was started."""
    place = owner_path(path)
    standing = read_owner(place)
    if standing is not None and standing.pid == os.getpid():
        place.unlink(missing_ok=True)


def holder_pid(path: Path) -> int | None:
    """pid of the process that holds the lock, None when it is free or was never made; `ELSEWHERE`: no pid of ours.

    Nothing is locked or written, so that it works wherever the files can be read, and never takes the lock away from
    a worker that starts. Without an owner file (an older version's) the lock is asked, with F_GETLK on Linux.
    """
    place = owner_path(path)
    owner = read_owner(place)
    if owner is None:
        return locked_by(path)
    life = life_of(owner)
    if life is not Life.ELSEWHERE:
        return owner.pid if life is Life.ALIVE else None
    if owner.locked and locked_by(path) is not None:
        return ELSEWHERE
    return ELSEWHERE if is_renewed(place) and not owner.locked else None


def locked_by(path: Path) -> int | None:
    """Who the system says has the lock; None where nobody has it, or no question can be asked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if sys.platform != "linux":
            return _probe_by_locking(descriptor)
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else pid
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _probe_by_locking(descriptor: int) -> int | None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return ELSEWHERE
    return None


def holder_text(pid: int) -> str:
    """`pid 1234`, or where else the holder is."""
    return f"pid {pid}" if pid > 0 else "in another container or on another machine"
