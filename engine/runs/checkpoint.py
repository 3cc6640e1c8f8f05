"""Checkpoint directories: written whole, verified before use, rotated by step. No torch here.

`checkpoints/step-N/` is filled beside its place, gets `manifest.json` with the SHA-256 of every file
last, is fsynced and renamed. A directory without a manifest that matches is not a checkpoint. What is
inside is the trainer's business (`engine.train.state`).
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.files import read_json, recover_directory, swap_directory, sync_tree, write_json_atomic

MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A finished checkpoint."""

    step: int
    path: Path
    bytes: int = 0


def write_checkpoint(folder: Path, step: int, fill: Callable[[Path], None]) -> Checkpoint:
    """Make `folder/step-N`: `fill` writes its files into the directory that it is given.

    Raises what `fill` raises (disk full …); then nothing of it is left and older ones stand.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = folder / f".step-{step}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700)
    target = folder / f"step-{step}"
    recover_directory(target)
    try:
        fill(beside)
        files = {name: _describe(beside / name) for name in _files(beside)}
        write_json_atomic(beside / MANIFEST, {"v": 1, "step": step, "written": time.time(), "files": files})
        sync_tree(beside)
        swap_directory(beside, target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return Checkpoint(step, target, sum(int(entry["bytes"]) for entry in files.values()))


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _describe(path: Path) -> dict[str, int | str]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def flaw(path: Path) -> str:
    """What is wrong with a checkpoint directory, naming the file; empty when it is whole."""
    try:
        manifest = read_json(path / MANIFEST)
        files = dict(manifest["files"])
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    present = set(_files(path)) - {MANIFEST}
    for name in sorted(present.symmetric_difference(files)):
        return f"{name} is missing" if name in files else f"{name} does not belong there"
    for name, recorded in files.items():
        if (path / name).is_symlink() or _describe(path / name) != recorded:
            return f"{name} is damaged"
    return ""


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """Checkpoints by step, oldest first, not verified."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((Checkpoint(int(match[1]), path) for match, path in found), key=lambda item: item.step)


def newest_whole(folder: Path, on_flaw: Callable[[Checkpoint, str], None]) -> Checkpoint | None:
    """The newest checkpoint that verifies; `on_flaw` hears of each newer one that does not."""
    for checkpoint in reversed(list_checkpoints(folder)):
        wrong = flaw(checkpoint.path)
        if not wrong:
            return checkpoint
        on_flaw(checkpoint, wrong)
    return None


def rotate(folder: Path, keep: int, best_step: int | None) -> list[int]:
    """Remove all but the `keep` newest by step and the best; returns the removed steps."""
    checkpoints = list_checkpoints(folder)
    doomed = [item for item in checkpoints[: max(0, len(checkpoints) - keep)] if item.step != best_step]
    for item in doomed:
        shutil.rmtree(item.path, ignore_errors=True)
    return [item.step for item in doomed]
