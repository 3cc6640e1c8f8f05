"""Errors that a user can act on, and the exit codes of every command.

Raised everywhere, rendered only by the command line, the worker and the deck. Not here: input
problems collected in bulk (those are `Problem`, several of which make one error).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the shell sees; scripts branch on these. `MEANINGS` has their texts.

    A model, a profile or every setting of a sweep that does not fit is RESOURCES in every command, whether the
    command shows a plan, checks one or would start it. Where other problems stand beside it, PROFILE.
    """

    OK = 0
    INTERNAL = 1
    PROFILE = 2
    DATA = 3
    MODEL = 4
    RESOURCES = 5
    DISK = 6
    DIVERGED = 7
    INTERRUPTED = 8
    ENVIRONMENT = 9
    CANCELLED = 130
    """By Ctrl-C; a command that another signal ended has 128 and that signal's number: 143 for TERM, 129 for HUP."""


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.INTERNAL: "an internal error",
    ExitCode.PROFILE: "profile or usage",
    ExitCode.DATA: "data",
    ExitCode.MODEL: "model",
    ExitCode.RESOURCES: "resources: does not fit, GPU or memory missing, a worker at work, a run in use",
    ExitCode.DISK: "disk: full, over a quota or limit, read-only, no right to it, or broken",
    ExitCode.DIVERGED: "diverged: a loss that is not a number",
    ExitCode.INTERRUPTED: "stopped, and can be resumed",
    ExitCode.ENVIRONMENT: "environment: driver, library, program, network, token, launcher",
    ExitCode.CANCELLED: "ended by Ctrl-C where nothing was stopped that could be resumed",
}
"""What `engine --help` says of each code."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in the user's input.

    `where` is `file:line`, a dotted profile key, or `file, row N`; `hint` says what to do.
    """

    message: str
    hint: str = ""
    where: str = ""
    key: str = ""
    line: int | None = None
    value: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Fields that carry something, for `--json`."""
        fields = ("message", "hint", "where", "key", "line", "value")
        return {name: getattr(self, name) for name in fields if getattr(self, name) not in ("", None)}

    def __str__(self) -> str:
        parts = [part for part in (self.where, self.message, self.hint) if part]
        return " - ".join(parts)


OUT_OF_MEMORY = "out_of_memory"
"""Cause of an error: the device or the machine had too little memory."""


class EngineError(Exception):
    """What happened, where, and what to do about it; carries the exit code.

    `problems` holds every finding when there are several; `message` then counts them. `cause`: for whoever decides what
    to do next, `OUT_OF_MEMORY` or empty.
    """

    def __init__(
        self,
        message: str,
        *,
        code: ExitCode = ExitCode.INTERNAL,
        hint: str = "",
        where: str = "",
        problems: tuple[Problem, ...] = (),
        cause: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.where = where
        self.problems = problems
        self.cause = cause

    def to_dict(self) -> dict[str, Any]:
        """The `error` object of `--json` output and of the `error` event."""
        found: dict[str, Any] = {"code": self.code.name.lower(), "message": self.message}
        if self.cause:
            found["cause"] = self.cause
        if self.hint:
            found["hint"] = self.hint
        if self.where:
            found["where"] = self.where
        if self.problems:
            found["problems"] = [problem.to_dict() for problem in self.problems]
        return found

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> EngineError:
        """Rebuild an error that another process wrote with `to_dict`."""
        known = {"message", "hint", "where", "key", "line", "value"}
        problems = tuple(
            Problem(**{key: value for key, value in item.items() if key in known}) for item in found.get("problems", ())
        )
        name = str(found.get("code", "internal")).upper()
        code = ExitCode[name] if name in ExitCode.__members__ else ExitCode.INTERNAL
        return cls(
            str(found.get("message", "unknown error")),
            code=code,
            hint=str(found.get("hint", "")),
            where=str(found.get("where", "")),
            problems=problems,
            cause=str(found.get("cause", "")),
        )

    def __str__(self) -> str:
        return " - ".join(part for part in (self.where, self.message, self.hint) if part)


def problems_error(problems: list[Problem], code: ExitCode, subject: str) -> EngineError:
    """Join findings into one error; with a single finding that finding is the message."""
    if len(problems) == 1:
        only = problems[0]
        return EngineError(only.message, code=code, hint=only.hint, where=only.where, problems=(only,))
    return EngineError(f"{subject}: {len(problems)} problems", code=code, problems=tuple(problems))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python could not get the memory it asked for, told without importing torch."""
    kind, text = type(error).__name__, str(error)
    return (
        kind in ("OutOfMemoryError", "MemoryError")
        or "DefaultCPUAllocator" in text
        or "CUDA error: out of memory" in text
    )
