"""Who works in a directory, as a file says it: host, boot, process and its start, so that no lock has to be asked.

A worker writes `lock.owner` beside its lock. Readers see from it whether the worker lives: on this machine by the
process itself, elsewhere by the file's time, which the worker renews. Where the file system has no locks, this file is
all there is: it appears whole or not at all (`claim`), so two processes of one machine never both have it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache
from pathlib import Path

from engine.files import write_bytes_atomic

RENEWED_S = 10.0
"""A worker renews the time of its file this often."""
SILENT_S = 300.0
"""An owner on another machine that has not renewed its file for this long is taken for dead."""
PROC = Path("/proc")
_MOST_BYTES = 4096
_MOST_PID = 2**31 - 1
"""Zero and numbers below it mean groups of processes, not one."""


class Life(Enum):
    """What is known of an owner."""

    ALIVE = "alive"
    GONE = "gone"
    ELSEWHERE = "elsewhere"
    """On another machine or in another container: only the time of its file tells of it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told apart from every other one on any machine."""

    host: str
    machine: str
    """The installation: a hash of `/etc/machine-id`, which is nobody else's business; empty where there is none."""
    boot: str
    namespace: str
    """The namespace of process ids: a container has its own."""
    pid: int
    started: str
    """When the process started, in the kernel's own ticks: a pid is used again, this is not."""
    locked: bool = True
    """Whether it holds the lock beside, too; False where the file system has none."""
    token: str = ""
    """Of a claim for a worker that is about to start: whoever knows it may take the claim over."""


def this_process(*, locked: bool = True) -> Owner:
    """The process that calls."""
    return process_owner(os.getpid(), locked=locked)


def process_owner(pid: int, *, locked: bool = True) -> Owner:
    """A process of this machine."""
    host, machine, boot, namespace = _here()
    return Owner(host, machine, boot, namespace, pid, _started(pid) or "", locked)


@cache
def _here() -> tuple[str, str, str, str]:
    boot = _text(PROC / "sys/kernel/random/boot_id")
    try:
        namespace = os.readlink(PROC / "self/ns/pid")
    except OSError:
        namespace = ""
    machine = _text(Path("/etc/machine-id"))
    known = hashlib.sha256(f"tunedeck {machine}".encode()).hexdigest()[:16] if machine else ""
    return socket.gethostname(), known, boot, namespace


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()[:100]
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Ticks from boot to the start of a process; None for one that is not there, or has ended and was not collected."""
    try:
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if len(fields) < 20 or fields[0] in (b"Z", b"X") else fields[19].decode("ascii", "replace")


def life_of(owner: Owner) -> Life:
    """Whether the process lives, as far as this machine can tell."""
    host, machine, boot, namespace = _here()
    if owner.boot != boot or not boot:
        rebooted = bool(machine and boot and owner.boot) and (owner.host, owner.machine) == (host, machine)
        return Life.GONE if rebooted else _by_pid(owner) if not boot and owner.host == host else Life.ELSEWHERE
    return _by_pid(owner) if owner.namespace == namespace else Life.ELSEWHERE


def _by_pid(owner: Owner) -> Life:
    started = _started(owner.pid)
    if started is not None:
        return Life.ALIVE if started == owner.started else Life.GONE
    return Life.ALIVE if not owner.started and _answers(owner.pid) else Life.GONE


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def owner_path(lock_path: Path) -> Path:
    """Where the owner of a lock is told."""
    return lock_path.with_name(f"{lock_path.name}.owner")


def read_owner(path: Path) -> Owner | None:
    """The owner that a file names; None where there is none, or nothing that can be understood."""
    try:
        found = json.loads(_raw(path) or b"")
        told = {name: str(found[name])[:200] for name in ("host", "machine", "boot", "namespace", "started")}
        token = str(found.get("token", ""))[:200]
        owner = Owner(**told, pid=int(found["pid"]), locked=found["locked"] is not False, token=token)
        return owner if 0 < owner.pid <= _MOST_PID else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def is_renewed(path: Path) -> bool:
    """Whether an owner elsewhere has renewed its file lately."""
    try:
        return time.time() - path.stat().st_mtime < SILENT_S
    except OSError:
        return False


def renew(path: Path) -> None:
    """Say that the owner still lives. A disk that does not answer is passed over."""
    with contextlib.suppress(OSError):
        os.utime(path)


def write_owner(path: Path, owner: Owner) -> None:
    """Put `owner` there, whoever stood there before. Raises OSError."""
    write_bytes_atomic(path, _bytes(owner))


def _bytes(owner: Owner) -> bytes:
    return (json.dumps(asdict(owner)) + "\n").encode("ascii")


_TRIES = 20
_WRITING_S = 0.05
_YOUNG_S = 0.5


def claim(path: Path, owner: Owner, is_held: Callable[[Owner], bool], *, token: str = "") -> Owner | None:
    """Put `owner` there unless another one holds it; that one is the answer, None = it is ours now. Raises OSError.

    A file that cannot be read says nothing of its owner: it stays, and is an OSError.

    `token`: of a claim that passes to `owner`, as from the command that started a worker to the worker. Not by process
    ids: what starts a worker may stand between the two.
    """
    standing: Owner | None = None
    for _ in range(_TRIES):
        if _place_whole(path, owner):
            return None
        before = _raw(path)
        standing = read_owner(path)
        if standing is None and _is_young(path):  # another process is writing it
            time.sleep(_WRITING_S)
            continue
        if standing is not None and token and standing.token == token:
            write_owner(path, owner)
            return None
        if standing is not None and is_held(standing):
            return standing
        _clear(path, before)
    if standing is None:
        raise OSError(errno.EACCES, "it cannot be read", str(path))
    return standing


def _place_whole(path: Path, owner: Owner) -> bool:
    """Make the file with its content in one step; False when one is there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        write_bytes_atomic(beside, _bytes(owner))
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            return _place_exclusive(path, owner)
        return True
    finally:
        beside.unlink(missing_ok=True)


def _place_exclusive(path: Path, owner: Owner) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(_bytes(owner))
    return _raw(path) == _bytes(owner)


def _is_young(path: Path) -> bool:
    try:
        return abs(time.time() - path.stat().st_mtime) < _YOUNG_S
    except OSError:
        return False


def _raw(path: Path) -> bytes | None:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return None


def _open_at_once(path: str, flags: int) -> int:
    """A pipe in the file's place keeps nobody waiting."""
    return os.open(path, flags | os.O_NONBLOCK)


def _bring_back(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            with contextlib.suppress(OSError):
                os.rename(aside, path)


def _clear(path: Path, dead: bytes | None) -> None:
    """Take a dead owner's file away, and only that one: another process may have put its own there meanwhile."""
    if dead is None:
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    try:
        if _raw(aside) != dead:
            _bring_back(aside, path)
    finally:
        aside.unlink(missing_ok=True)
