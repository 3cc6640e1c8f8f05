"""Asking a running worker for something: files dropped into `control/` by atomic rename.

The deck and the command line ask (`request`), the worker looks between steps (`take_requests`) and
acknowledges with a `control` event.
"""

from __future__ import annotations

from pathlib import Path

from engine.files import write_text_atomic

REQUESTS = ("stop", "checkpoint", "evaluate")


def request(run_dir: Path, what: str) -> None:
    """Ask the worker of `run_dir` for one of `REQUESTS`. Raises ValueError for anything else."""
    if what not in REQUESTS:
        raise ValueError(f"unknown request {what!r}: use one of {', '.join(REQUESTS)}")
    write_text_atomic(run_dir / "control" / what, "")


def take_requests(run_dir: Path) -> list[str]:
    """Requests that have come in since the last call, removed as they are taken."""
    taken = []
    for what in REQUESTS:
        try:
            (run_dir / "control" / what).unlink()
        except FileNotFoundError:
            continue
        taken.append(what)
    return taken


def pending(run_dir: Path, what: str) -> bool:
    """Whether a request lies there that the worker has not taken yet."""
    return (run_dir / "control" / what).exists()
