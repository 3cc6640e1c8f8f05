"""A person's own editor in the place of the deck: the terminal is given away and taken back.

No shell takes part: the variable is split into words as a shell would, and the file is one more word.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from textual.app import App, SuspendNotSupported

from tui.text import safe

VARIABLES = ("VISUAL", "EDITOR")
NO_EDITOR = "no editor is set: export VISUAL or EDITOR, such as EDITOR=nano, and start the deck again"


def named_editor(environment: Mapping[str, str]) -> tuple[str, str]:
    """The variable that names an editor, and what it says; two empty texts when none does."""
    found = ((name, environment.get(name, "").strip()) for name in VARIABLES)
    return next(((name, value) for name, value in found if value), ("", ""))


def edit(app: App[Any], path: Path) -> str:
    """Open a file in the editor and wait until it is closed. Gives what went wrong, or nothing."""
    variable, value = named_editor(os.environ)
    if not value:
        return NO_EDITOR
    try:
        words = shlex.split(value)
    except ValueError as error:
        return f"{variable} cannot be read: {safe(error, 100).lower()}: {safe(value, 100)}"
    try:
        with app.suspend(), _interrupts_are_the_editors():
            return _run(variable, [*words, str(path.absolute())])
    except SuspendNotSupported:
        return "this terminal cannot be given to an editor"


def _run(variable: str, command: list[str]) -> str:
    """Raises nothing: whoever suspended the deck has to take the terminal back."""
    name = safe(command[0], 100)
    try:
        code = subprocess.run(command, check=False).returncode
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        return f"{variable} names an editor that cannot be started: {name}: {safe(reason, 100).lower()}"
    if code < 0:
        return f"the editor {name} was ended by signal {-code}"
    return f"the editor {name} ended with code {code}" if code else ""


@contextmanager
def _interrupts_are_the_editors() -> Iterator[None]:
    """ctrl+c in the editor reaches the deck's process too, and must not end it."""

    def ignore(number: int, frame: FrameType | None) -> None:
        """A function, not SIG_IGN: the editor would start with that one."""

    before = signal.signal(signal.SIGINT, ignore)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
