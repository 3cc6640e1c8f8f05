"""Processes that feed batches need shared memory; without it there are none, with a reason."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.train.feeding import LEAST_BYTES, feeders


def asked(shared: Path, count: int = 2) -> tuple[int, list[str]]:
    told: list[str] = []
    return feeders(count, lambda code, message: told.append(f"{code}: {message}"), shared), told


def test_with_shared_memory_as_many_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=LEAST_BYTES, f_frsize=1, f_blocks=9))
    assert asked(tmp_path) == (2, [])


@pytest.mark.parametrize("kind", ["small", "read-only", "no-semaphores"])
def test_without_it_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    if kind == "small":
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=4096, f_frsize=1, f_blocks=9))
    elif kind == "read-only":
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:

        def refuse() -> None:
            raise OSError(errno.EROFS, "read-only", "/dev/shm")

        monkeypatch.setattr(multiprocessing, "get_context", lambda: SimpleNamespace(Lock=refuse))
    count, (told,) = asked(tmp_path)
    assert count == 0
    assert told.startswith("no_shared_memory: train.dataloader_num_workers = 2")
    assert "Errno" not in told


def test_none_asked_for_needs_none(tmp_path: Path) -> None:
    assert asked(tmp_path / "none", 0) == (0, [])
