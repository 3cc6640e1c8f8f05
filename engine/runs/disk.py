"""How much of the disk a run takes: blocks, each file once, whatever links to it."""

from __future__ import annotations

import os
from pathlib import Path

_BLOCK_BYTES = 512
_MARKS = ("", "events.jsonl", "checkpoints", "adapter", "model", "eval", "export", "data", "worker.log")


def disk_bytes(directory: Path) -> int:
    """Bytes on disk of everything below `directory`; what goes away meanwhile, or cannot be read, counts nothing."""
    total, waiting, seen = 0, [os.fspath(directory)], set[tuple[int, int]]()
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += _entry_bytes(entry, waiting, seen)
        except OSError:
            continue
    return total


def _entry_bytes(entry: os.DirEntry[str], waiting: list[str], seen: set[tuple[int, int]]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if entry.is_dir(follow_symlinks=False):
        waiting.append(entry.path)
    elif found.st_nlink > 1:
        if (found.st_dev, found.st_ino) in seen:
            return 0
        seen.add((found.st_dev, found.st_ino))
    return found.st_blocks * _BLOCK_BYTES


def disk_mark(directory: Path) -> tuple[int, ...]:
    """What changes when the size of a run may have changed: cheap, where `disk_bytes` reads every folder."""
    marks: list[int] = []
    for name in _MARKS:
        try:
            found = os.stat(directory / name)
        except OSError:
            marks.append(0)
        else:
            marks += [found.st_mtime_ns, found.st_size]
    return tuple(marks)
