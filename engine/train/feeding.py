"""Whether processes can feed batches here: they hand them over through shared memory, which a container may lack."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

from engine.io_errors import words_of
from engine.runs.job import Warn
from engine.text import format_bytes

SHARED = Path("/dev/shm")
LEAST_BYTES = 64 * 1024 * 1024
"""Batches of token ids are small, a handful are under way at a time: what Docker gives by itself is enough."""


def feeders(asked: int, warn: Warn, shared: Path = SHARED) -> int:
    """How many processes feed batches: as many as asked, or none, told as a warning, without shared memory.

    The batches are the same either way.
    """
    lacking = _lacking(shared) if asked else ""
    if lacking:
        warn(
            "no_shared_memory",
            f"train.dataloader_num_workers = {asked} needs shared memory, and {lacking}: this process makes the batches"
            " itself. In a container: 'docker run --shm-size 1g', or '--ipc host'",
        )
        return 0
    return asked


def _lacking(shared: Path) -> str:
    try:
        multiprocessing.get_context().Lock()
        if not shared.exists():  # a system that has it elsewhere
            return ""
        place = os.statvfs(shared)
    except OSError as error:
        return f"{shared} cannot be used ({words_of(error)})"
    if not os.access(shared, os.W_OK):
        return f"{shared} cannot be written"
    free = place.f_bavail * place.f_frsize
    return f"{shared} has {format_bytes(free)} free" if place.f_blocks and free < LEAST_BYTES else ""
