"""Opening data files without trusting them, and telling which kind of file it is.

Refuses what is not a regular file (FIFO, device, directory), what is empty, compressed or not UTF-8,
and names the path and the remedy. `rows.py` reads rows from what is opened here.
"""

from __future__ import annotations

import difflib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from engine.errors import EngineError, ExitCode

KINDS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
TEXT_SUFFIX = ".txt"
_ARROW = (b"ARROW1", b"\xff\xff\xff\xff")
"""An Arrow file, and an Arrow stream as `datasets` writes them."""
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstandard"),
)


def data_error(message: str, *, where: str = "", hint: str = "") -> EngineError:
    """An EngineError with the exit code of data."""
    return EngineError(message, code=ExitCode.DATA, where=where, hint=hint)


def open_data(path: Path) -> BinaryIO:
    """Open a regular, non-empty file for reading; EngineError(DATA) for anything else.

    Opened without blocking, so that a FIFO is refused instead of waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        raise _open_error(path, error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        os.close(descriptor)
        raise _kind_error(path, status.st_mode)
    return os.fdopen(descriptor, "rb")


def _kind_error(path: Path, mode: int) -> EngineError:
    if stat.S_ISREG(mode):
        return data_error("the file is empty", where=str(path))
    if stat.S_ISDIR(mode):
        return data_error("this is a directory", where=str(path), hint="name a file in it")
    return data_error(
        "not a regular file (pipe, device or socket)", where=str(path), hint="write the data to a file first"
    )


def _open_error(path: Path, error: OSError | ValueError) -> EngineError:
    where = str(path.absolute()) if "\0" not in str(path) else repr(str(path))
    if isinstance(error, FileNotFoundError):
        return data_error("file not found", where=where, hint=_near(path))
    if isinstance(error, PermissionError):
        return data_error("no permission to read the file", where=where, hint="check its owner and mode")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return data_error("the symbolic link leads back to itself", where=where)
    return data_error(f"cannot be opened: {getattr(error, 'strerror', None) or error}", where=where)


def _near(path: Path) -> str:
    try:
        names = [file.name for file in path.parent.iterdir() if file.suffix in KINDS]
    except OSError:
        return f"the folder {path.parent} does not exist either"
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else "the path is relative to the profile's folder"


def file_kind(path: Path, head: bytes) -> str:
    """`json`, `jsonl`, `csv`, `parquet`, `arrow` or `text`, by content where that is certain, else by name.

    `head` is the start of the file. Raises EngineError(DATA) for other encodings, packers and names.
    """
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(_ARROW):
        return "arrow"
    _check_encoding(path, head)
    kind = "text" if path.suffix.lower() == TEXT_SUFFIX else KINDS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join([*KINDS, TEXT_SUFFIX])
        raise data_error(f"unknown kind of file '{path.suffix or path.name}'", where=str(path), hint=f"known: {known}")
    if kind in ("parquet", "arrow"):
        raise data_error(f"this is no {kind} file: its first bytes are others", where=str(path))
    if kind in ("csv", "text"):
        return kind
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if kind == "jsonl":
        return "json" if text.startswith(b"[") else "jsonl"
    return "json" if text.startswith(b"[") or not _first_line_is_object(text) else "jsonl"


def _first_line_is_object(text: bytes) -> bool:
    """JSON lines in a file called .json; a first line longer than the head counts by its opening brace."""
    line, newline, _ = text.partition(b"\n")
    return line.startswith(b"{") and (line.rstrip().endswith(b"}") or not newline)


def _check_encoding(path: Path, head: bytes) -> None:
    for magic, packer in _MAGIC:
        if head.startswith(magic):
            raise data_error(f"the file is packed with {packer}", where=str(path), hint="unpack it first")
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        wide = "UTF-32" if b"\x00\x00" in head[:4] else "UTF-16"
        hint = f"convert it: iconv -f {wide} -t UTF-8 {path.name}"
        raise data_error(f"row 1: the file is {wide}, not UTF-8", where=str(path), hint=hint)
    if b"\0" in head:
        row = head[: head.index(b"\0")].count(b"\n") + 1
        hint = "it may be UTF-16 without a mark, binary, or damaged by a crash"
        raise data_error(f"row {row}: NUL bytes in a text file", where=str(path), hint=hint)
