"""Who works in a directory is told by a file: without locks, without writing, and never of two at once."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.runs import lock, owner
from engine.runs.lock import ELSEWHERE, acquire, claim_for_worker, give_back, hand_over, holder_pid
from engine.runs.owner import Life, Owner, claim, life_of, owner_path, process_owner, read_owner, this_process

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO, errno.EINVAL)
HERE = this_process()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is neither this one nor its parent."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture(params=WITHOUT_LOCKS, ids=lambda number: errno.errorcode[number])
def _no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(fcntl, "fcntl", refuse)


@pytest.mark.parametrize(
    ("who", "life"),
    [
        (HERE, Life.ALIVE),
        (replace(HERE, started="1"), Life.GONE),  # the number was given to another process
        (replace(HERE, pid=2**22 + 1), Life.GONE),
        (replace(HERE, boot="before"), Life.GONE),  # this machine was started again
        (replace(HERE, boot="of another", host="node7", machine="abc"), Life.ELSEWHERE),
        (replace(HERE, boot="of another", machine="abc"), Life.ELSEWHERE),  # machines of one name
        (replace(HERE, namespace="pid:[1]"), Life.ELSEWHERE),  # a container
    ],
    ids=("alive", "used-again", "gone", "rebooted", "other-machine", "same-name", "container"),
)
def test_whether_an_owner_lives(who: Owner, life: Life) -> None:
    assert life_of(who) is life


@pytest.mark.usefixtures("_no_locks")
def test_without_locks_the_file_holds_and_says_what_it_cannot(path: Path, other: subprocess.Popen[bytes]) -> None:
    owner.write_owner(owner_path(path), process_owner(other.pid, locked=False))
    assert holder_pid(path) == other.pid
    assert acquire(path) is None
    other.kill()
    other.wait()
    assert holder_pid(path) is None
    held = acquire(path)
    assert held is not None
    assert holder_pid(path) == os.getpid()
    assert "no file locks" in held.warning()
    assert "two machines" in held.warning()
    held.release()
    assert holder_pid(path) is None


def test_with_locks_there_is_nothing_to_warn_of(path: Path) -> None:
    held = acquire(path)
    assert held is not None
    assert (held.warning(), holder_pid(path)) == ("", os.getpid())
    held.release()


def test_a_lock_that_is_always_interrupted_ends_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        while True:  # as Python itself asks again
            time.sleep(0.01)

    monkeypatch.setattr(fcntl, "lockf", interrupted)
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.05)
    held = acquire(path)
    assert held is not None
    assert "does not answer" in held.warning()
    held.release()


def test_looking_opens_nothing_for_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch()
    real, opened = os.open, []

    def noted(name: Any, flags: int, *more: Any, **options: Any) -> int:
        opened.append(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return real(name, flags, *more, **options)

    monkeypatch.setattr(os, "open", noted)
    assert holder_pid(path) is None
    assert holder_pid(path.with_name("none")) is None
    assert opened
    assert not any(opened)


def test_a_dead_owner_is_taken_away_and_nobody_else(path: Path) -> None:
    owner.write_owner(path, HERE)
    owner._clear(path, b"what was read before")
    assert read_owner(path) == HERE
    owner._clear(path, path.read_bytes())
    assert not path.exists()


@pytest.mark.parametrize(("age_s", "held"), [(5.0, ELSEWHERE), (owner.SILENT_S + 5, None)])
def test_another_machine_is_believed_as_long_as_it_renews(path: Path, age_s: float, held: int | None) -> None:
    path.touch()
    place = owner_path(path)
    owner.write_owner(place, replace(HERE, boot="other", host="node7", machine="abc", locked=False))
    os.utime(place, (time.time() - age_s,) * 2)
    assert holder_pid(path) == held
    assert claim_for_worker(path) == held


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b"[]", b'{"pid": "x"}', b"[" * 4000])
def test_a_file_that_names_nobody_is_nobody_s(path: Path, content: bytes) -> None:
    owner_path(path).write_bytes(content)
    os.utime(owner_path(path), (1, 1))
    assert holder_pid(path) is None
    held = acquire(path)
    assert held is not None
    assert holder_pid(path) == os.getpid()
    held.release()


def test_a_pipe_in_the_file_s_place_keeps_nobody_waiting(path: Path) -> None:
    os.mkfifo(owner_path(path))
    os.utime(owner_path(path), (1, 1))
    assert holder_pid(path) is None
    held = acquire(path)
    assert held is not None
    assert holder_pid(path) == os.getpid()
    held.release()


@pytest.mark.parametrize("pid", [0, -1, 2**31, 10**1000])
def test_a_number_that_is_no_process_s_names_nobody(path: Path, pid: int) -> None:
    owner.write_owner(owner_path(path), replace(HERE, pid=pid, started=""))
    assert holder_pid(path) is None


def test_an_owner_that_cannot_be_read_is_not_this_process(path: Path) -> None:
    owner_path(path).mkdir()  # as unreadable as another user's, for root too
    os.utime(owner_path(path), (1, 1))
    with pytest.raises(OSError, match=r"lock\.owner"):
        claim_for_worker(path)


def test_a_full_disk_costs_only_the_word_of_a_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = replace(HERE, pid=2**22 + 1)
    owner.write_owner(owner_path(path), dead)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(lock, "claim", full)
    held = acquire(path)
    assert held is not None
    assert read_owner(owner_path(path)) is None  # else readers would go by the dead one
    held.release()


def test_a_claim_is_had_once_and_handed_over(path: Path, other: subprocess.Popen[bytes]) -> None:
    assert claim_for_worker(path) is None
    assert claim_for_worker(path) == os.getpid()
    hand_over(path, other.pid)
    assert claim_for_worker(path) == other.pid
    give_back(path)  # the worker's by now
    assert holder_pid(path) == other.pid
    other.kill()
    other.wait()
    assert claim_for_worker(path) is None
    give_back(path)
    assert holder_pid(path) is None


RACE = """
import os, sys, time
from pathlib import Path
from engine.runs.owner import Life, claim, life_of, this_process
path, begin = Path(sys.argv[1]), float(sys.argv[2])
children = []
for _ in range(6):
    pid = os.fork()
    if not pid:
        time.sleep(max(0.0, begin - time.time()))
        got = claim(path, this_process(), lambda standing: life_of(standing) is Life.ALIVE)
        time.sleep(0.5)
        os._exit(3 if got is None else 0)
    children.append(pid)
print(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3 for pid in children))
"""


@pytest.mark.parametrize("links", [True, False], ids=("links", "no-links"))
def test_of_several_that_claim_at_once_one_gets_it(path: Path, links: bool) -> None:
    owner.write_owner(path, replace(HERE, pid=2**22 + 1))
    code = RACE if links else "import os\ndef no(*_, **__): raise PermissionError()\nos.link = no\n" + RACE
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(time.time() + 0.4)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


def test_one_that_was_replaced_elsewhere_notices_it(path: Path, other: subprocess.Popen[bytes]) -> None:
    held = acquire(path)
    assert held is not None
    held.lacking = "none"
    owner.write_owner(owner_path(path), process_owner(other.pid))
    assert not held.keep()
    owner.write_owner(owner_path(path), replace(this_process(), namespace="pid:[1]"))
    assert not held.keep()  # containers give the same number
    held.lacking = ""  # with a lock in hand the file is put right
    assert held.keep()
    assert holder_pid(path) == os.getpid()
    held.release()


def test_a_claim_passes_to_whoever_knows_it(path: Path, other: subprocess.Popen[bytes]) -> None:
    theirs = replace(process_owner(other.pid), token="0a1b")
    owner.write_owner(path, theirs)
    for wrong in ("", "0a1c"):
        assert claim(path, HERE, lambda _: True, token=wrong) == theirs
    assert claim(path, HERE, lambda _: True, token="0a1b") is None
    assert read_owner(path) == HERE
