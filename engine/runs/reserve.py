"""Room on the disk that a worker keeps for its last words: given up when the disk is full to the last byte."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 1024 * 1024
_NAME = ".reserve"


class Reserve:
    """A file of `RESERVE_BYTES` in a worker's directory."""

    def __init__(self, directory: Path) -> None:
        """Make it. A disk that has no room for it, or no means, leaves the worker without."""
        self._path = directory / _NAME
        with contextlib.suppress(OSError):
            _fill(self._path)

    def free(self) -> None:
        """Give the room up."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _fill(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Written, not set aside: not every file system can do the latter. Not all zeros, which some leave out.
        os.write(descriptor, b"kept for the last words\n" * (RESERVE_BYTES // 24))
        os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
