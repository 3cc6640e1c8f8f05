"""Which run a process works on, by its command line.

Not here: who holds a card (`engine.hardware`).
"""

from __future__ import annotations

from pathlib import Path

from engine.runs.store import Run, runs_root

_MODULE = "engine.worker"
_MOST_BYTES = 65_536


def run_of_process(pid: int, proc: Path = Path("/proc")) -> Run | None:
    """The run of this user that process `pid` trains, scores or exports; None for any other process.

    The command line is another program's word: it names a run only where its folder lies below this user's runs.
    """
    words = _command_line(proc / str(pid) / "cmdline")
    if _MODULE not in words[:-1]:
        return None
    place, root = Path(words[words.index(_MODULE) + 1]), runs_root()
    parts = place.relative_to(root).parts if place.is_relative_to(root) else ()
    if not parts or ".." in parts:
        return None
    run = Run(parts[0], root / parts[0])
    return run if run.path.is_dir() else None


def _command_line(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return [word.decode(errors="replace") for word in file.read(_MOST_BYTES).split(b"\0")]
    except OSError:
        return []
