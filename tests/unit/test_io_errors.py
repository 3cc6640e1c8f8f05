"""What the disk refuses is one kind of error, whatever library tells of it; what is not the disk's stays apart."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.io_errors import io_error, is_full
from engine.worker import _as_engine_error

DISK = [
    "ENOSPC",
    "EDQUOT",
    "EFBIG",
    "EROFS",
    "EIO",
    "ESTALE",
    "EUCLEAN",
    "ENOLCK",
    "EACCES",
    "ENXIO",
    "ENOTCONN",
    "ETIMEDOUT",
]


@pytest.mark.parametrize("name", DISK)
def test_each_number_of_the_disk_has_words_and_one_code(name: str) -> None:
    number = getattr(errno, name)
    found = io_error(OSError(number, os.strerror(number), "/there/file"))
    assert found is not None
    assert (found.code, found.where) == (ExitCode.DISK, "/there/file")
    assert found.hint
    assert "rrno" not in str(found)
    assert os.strerror(number) not in found.message


@pytest.mark.parametrize(
    ("told", "full"),
    [
        (RuntimeError("Error while serializing: I/O error: File too large (os error 27)"), False),
        (ValueError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter: No space left on device"), True),
        (OSError("[Errno 122] Error writing bytes to file. Detail: [errno 122] Disk quota exceeded"), True),
        (OSError("[Errno 30] Failed to open local file '/x'"), False),
        (RuntimeError("cannot save: [Errno 13] Permission denied: '/x'"), False),
        (RuntimeError("I/O error: Permission denied (os error 13)"), False),
    ],
    ids=("safetensors", "rust", "torch", "arrow", "arrow-read-only", "wrapped", "rust-rights"),
)
def test_libraries_that_hide_the_number(told: Exception, full: bool) -> None:
    found = _as_engine_error(told, "/run")
    assert (found.code, found.where, is_full(told)) == (ExitCode.DISK, "/run", full)


@pytest.mark.parametrize(
    "other",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        TimeoutError(errno.ETIMEDOUT, "no answer"),  # of a socket: no file
        PermissionError(errno.EPERM, "not permitted"),  # of a signal
        FileNotFoundError(errno.ENOENT, "no such file", "/x"),
        ValueError("28 is no number of the disk"),
        OSError("Can't load tokenizer for 'x'"),
        OSError("Max retries exceeded (Caused by NewConnectionError('<c>: [Errno 110] Connection timed out'))"),
        RuntimeError("cannot reach the hub: [Errno 13] Permission denied"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_not_the_disk_s(other: Exception) -> None:
    assert io_error(other) is None


def test_memory_and_files_are_means_not_the_disk() -> None:
    for number in (errno.EMFILE, errno.ENOMEM):
        found = io_error(OSError(number, os.strerror(number)))
        assert found is not None
        assert found.code is ExitCode.RESOURCES


def test_of_two_names_the_place_that_was_wanted() -> None:
    found = io_error(OSError(errno.ENOSPC, "full", "/a/.tmp", None, "/a/file"))
    assert found is not None
    assert Path(found.where) == Path("/a/file")


def test_a_file_beside_stands_for_its_folder() -> None:
    found = io_error(OSError(errno.EACCES, "no", "/runs/one/.lock.owner.12.ab.tmp"))
    assert found is not None
    assert found.where == "/runs/one"
