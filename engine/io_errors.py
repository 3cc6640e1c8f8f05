"""What the disk or the system refused, as one kind of error: a sentence, the place, and what to do.

Python names such an error by a number, and libraries hide it in a message of their own (`os error 28`). Here each
number has its words; whoever ends a command or a worker asks `io_error`.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

from engine.errors import EngineError, ExitCode

_FREE = "free space there, or choose another disk with XDG_STATE_HOME, XDG_CACHE_HOME or TMPDIR"
_MOVE = "choose a folder on another disk: XDG_STATE_HOME, XDG_CACHE_HOME, TMPDIR or --output"
_RIGHTS = "ask its owner for the right, or choose another folder: XDG_STATE_HOME, XDG_CACHE_HOME, TMPDIR or --output"
_MOUNT = "look at the disk and its mount ('dmesg', 'df'), then start again or resume the run"


@dataclass(frozen=True, slots=True)
class _Kind:
    message: str
    hint: str
    code: ExitCode = ExitCode.DISK


def _kinds() -> dict[int, _Kind]:
    known = {
        "ENOSPC": _Kind("no space left on the disk", _FREE),
        "EDQUOT": _Kind("your disk quota is used up", _FREE),
        "EFBIG": _Kind("a file would grow beyond the size limit of this process", "raise it: 'ulimit -f unlimited'"),
        "EROFS": _Kind("the file system is read-only", _MOVE),
        "EACCES": _Kind("this user has no right to it", _RIGHTS),
        "EPERM": _Kind("this user has no right to it", _RIGHTS),
        "EIO": _Kind("the disk answers with an error", _MOUNT),
        "EREMOTEIO": _Kind("the disk answers with an error", _MOUNT),
        "EUCLEAN": _Kind("the file system is damaged", _MOUNT),
        "ENXIO": _Kind("the disk is gone", _MOUNT),
        "ENODEV": _Kind("the disk is gone", _MOUNT),
        "ESTALE": _Kind("the network file system has lost the file", _MOUNT),
        "ENOTCONN": _Kind("the file system does not answer", _MOUNT),
        "ESHUTDOWN": _Kind("the file system was shut down", _MOUNT),
        "ETIMEDOUT": _Kind("the file system does not answer", _MOUNT),
        "ENOLCK": _Kind("the file system has no file locks", _MOVE),
        "ENOSYS": _Kind("the file system cannot do what is needed", _MOVE),
        "EOPNOTSUPP": _Kind("the file system cannot do what is needed", _MOVE),
        "ENOTSUP": _Kind("the file system cannot do what is needed", _MOVE),
        "EMLINK": _Kind("the file system takes no more links", _MOVE),
        "ENOTDIR": _Kind("a file stands where a folder is needed", "remove or rename it"),
        "EMFILE": _Kind("too many open files", "raise the limit: 'ulimit -n 4096'", ExitCode.RESOURCES),
        "ENFILE": _Kind("this machine has too many open files", "end other programs", ExitCode.RESOURCES),
        "ENOMEM": _Kind("the system has no memory left", "end other programs or raise 'ulimit -v'", ExitCode.RESOURCES),
    }
    return {getattr(errno, name): kind for name, kind in known.items() if hasattr(errno, name)}


_KINDS = _kinds()
_OF_NETWORK = (ConnectionError, BrokenPipeError)
_OF_SOCKETS_TOO = frozenset(
    getattr(errno, name, 0)
    for name in (
        *("EACCES", "EPERM", "ETIMEDOUT", "ENOTCONN", "ESHUTDOWN", "ENOTDIR", "ENXIO", "ENODEV"),
        *("ENOSYS", "EOPNOTSUPP", "ENOTSUP"),
    )
)
"""Numbers that processes and sockets give as well: they are the disk's only beside the name of a file."""
_NUMBER = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]|\berrno: (\d+)")
_OF_A_FILE = re.compile(r"I/O error|\[Errno \d+\] [^][:]+: '")
_WORDS = {os.strerror(number).lower(): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)}


def io_error(error: BaseException, *, where: str = "") -> EngineError | None:
    """The error in words when the disk or the system is behind it, whatever library tells of it; else None."""
    number, path = _number_of(error)
    kind = _KINDS.get(number)
    if kind is None:
        return None
    place = path or where
    return EngineError(kind.message, code=kind.code, where=place, hint=kind.hint)


def is_full(error: BaseException) -> bool:
    """Whether there is no room for a file, so that room made elsewhere would help."""
    return _number_of(error)[0] in (errno.ENOSPC, errno.EDQUOT)


def words_of(error: OSError) -> str:
    """The cause of an error in a sentence that goes on: `no space left on the disk`."""
    kind = _KINDS.get(error.errno or 0)
    return kind.message if kind is not None else error.strerror or str(error) or type(error).__name__


def _number_of(error: BaseException) -> tuple[int, str]:
    """The error's number, from it or from what it says, and the file that it names; 0 where it is no such error."""
    if isinstance(error, _OF_NETWORK):
        return 0, ""
    if isinstance(error, OSError) and error.errno is not None:
        # Two names: a rename or a link. The second is where it should have gone.
        name = _text(error.filename2 or error.filename)
        return (0 if error.errno in _OF_SOCKETS_TOO and not name else error.errno), name
    found = _NUMBER.search(str(error))
    if found is not None:
        number = int(next(group for group in found.groups() if group))
        return (0 if number in _OF_SOCKETS_TOO and not _of_files(error) else number), ""
    if isinstance(error, (OSError, RuntimeError)) or type(error).__module__.partition(".")[0] in _LIBRARIES:
        text = str(error).lower()
        return next((number for words, number in _WORDS.items() if words in text), 0), ""
    return 0, ""


def _of_files(error: BaseException) -> bool:
    """Whether it tells of a file; libraries of networks hide the numbers of sockets."""
    return type(error).__module__.partition(".")[0] in _LIBRARIES or bool(_OF_A_FILE.search(str(error)))


_LIBRARIES = ("safetensors", "safetensors_rust", "pyarrow", "tokenizers")


def _text(name: object) -> str:
    """The file, or its folder for one that a writer makes beside the file that it means."""
    path = os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
    folder, base = os.path.split(path)
    return folder if base.startswith(".") and base.endswith(".tmp") else path
