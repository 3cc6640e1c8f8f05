"""One reader of a GGUF file for all that is asked of it: taking a large vocabulary apart costs seconds each time."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from gguf import GGUFReader


def reader_of(path: Path) -> GGUFReader:
    """The file's reader; a file that was written anew is read anew."""
    seen = path.stat()
    return _reader(path, seen.st_ino, seen.st_size, seen.st_mtime_ns)


@lru_cache(maxsize=1)
def _reader(path: Path, inode: int, size_bytes: int, written_ns: int) -> GGUFReader:
    return GGUFReader(path)
