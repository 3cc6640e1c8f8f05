"""A problem with the exit code it stands for, and several of them as one error.

Not here: any check.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError, ExitCode, Problem, problems_error
from engine.profile.load import LoadedProfile
from engine.profile.schema_problems import show
from engine.profile.tomltext import shown_path
from engine.text import sanitize


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about a profile; a warning does not keep a run from starting."""

    problem: Problem
    code: ExitCode = ExitCode.PROFILE
    is_warning: bool = False

    def __str__(self) -> str:
        return str(self.problem)


def finding(
    loaded: LoadedProfile,
    key: str,
    message: str,
    hint: str,
    *,
    value: Any = None,
    code: ExitCode = ExitCode.PROFILE,
    is_warning: bool = False,
) -> Finding:
    """A finding about a key, with the line it stands on."""
    where, line = loaded.locate(key)
    shown = "" if value is None else show(value)
    text = sanitize(f"{key}: {message}", single_line=True)
    return Finding(Problem(text, sanitize(hint, single_line=True), where, key, line, shown), code, is_warning)


def error_of(findings: Iterable[Finding], loaded: LoadedProfile) -> EngineError | None:
    """One error for all problems among the findings; its code is theirs if they agree, else PROFILE."""
    problems = [item for item in findings if not item.is_warning]
    if not problems:
        return None
    codes = {item.code for item in problems}
    code = codes.pop() if len(codes) == 1 else ExitCode.PROFILE
    return problems_error([item.problem for item in problems], code, shown_path(loaded.path))
