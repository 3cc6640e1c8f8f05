"""What is wrong with a profile's file, in lines for a person who has just edited it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.api.fit import Machine
from engine.errors import EngineError, Problem
from tui.documents import document
from tui.text import safe

TOLD = 3
"""Problems that are named; of more, only how many."""


def told_problems(name: str, problems: Sequence[Problem]) -> str:
    """`mine.toml: 2 problems`, the first of them with their lines; or that nothing is wrong."""
    if not problems:
        return f"{safe(name, 80)}: nothing is wrong with it"
    lines = [_told(problem) for problem in problems[:TOLD]]
    more = len(problems) - TOLD
    lines += [f"… {more} more"] if more > 0 else []
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    return "\n".join([f"{safe(name, 80)}: {count}", *lines])


def _told(problem: Problem) -> str:
    line = f"line {problem.line}: " if problem.line is not None else ""
    key = "" if problem.message.startswith(f"{problem.key}:") or not problem.key else f"{problem.key}: "
    return line + safe(key + problem.message, 200)


def file_problems(path: Path, machine: Machine | None) -> tuple[Problem, ...]:
    """All problems of a file as it is on disk. Resolves it: not for the screen's loop."""
    try:
        seen = document.examine(document.loaded(document.read(path), path), machine)
    except EngineError as error:
        return error.problems or (Problem(error.message, error.hint, error.where),)
    return tuple(item.problem for item in seen.problems)
