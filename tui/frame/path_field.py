"""A field for a path: tab completes it, and what was typed is checked off the screen's loop.

A folder on a slow file system keeps neither the keyboard nor the screen waiting: an answer that comes after something
else was typed is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from textual.binding import Binding
from textual.widgets import Input

from tui.background import Lane
from tui.documents.completion import Completion, Wanted, complete
from tui.text import safe
from tui.widgets.field_said import FieldSaid

PATIENCE_S = 0.5
"""Keys wait so long for a folder; then it is said that it takes long."""
Check = Callable[[str], str]


class PathField(Input):
    """Posts `FieldSaid` with choices and problems, and `Submitted` when `check` has nothing against what was typed."""

    BINDINGS: ClassVar = [Binding("tab", "complete", "complete", show=False)]

    def __init__(self, value: str, wanted: Wanted, check: Check | None = None) -> None:
        super().__init__(value, compact=True)
        self._wanted, self._check = wanted, check
        self._lane = Lane(self, "path")
        self._asked_at = 0.0
        self._completing = ""
        """What is being completed; empty when nothing is."""
        self._submits_next = False
        """Whether enter came while that was looked up."""

    @property
    def is_busy(self) -> bool:
        """Whether keys shall wait for what a folder says."""
        return self._lane.busy and time.monotonic() - self._asked_at < PATIENCE_S

    def action_complete(self) -> None:
        """Go on with what was typed."""
        typed = self.value[: self.cursor_position]
        self._completing, self._submits_next = self.value, False
        self._ask(partial(complete, typed, self._wanted), partial(self._completed, self.value, typed))

    def _completed(self, value: str, typed: str, found: Completion) -> None:
        self._completing = ""
        if self.value != value or not self.is_attached:
            return  # somebody typed on
        rest = value[len(typed) :]
        self.value = found.text + (rest.removeprefix("/") if found.text.endswith("/") else rest)
        self.cursor_position = len(found.text)
        self.call_later(self._tell, found.said, bool(found.problem))
        if self._submits_next:
            self.call_later(self.action_submit)

    async def action_submit(self) -> None:
        """Have what was typed checked, then give it away."""
        value = self.value
        if self._lane.busy and self._completing == value:
            self._submits_next = True
            return
        if self._check is None:
            await super().action_submit()
        else:
            self._ask(partial(self._check, value.strip()), partial(self._checked, value))

    def _checked(self, value: str, problem: str) -> None:
        if self.value != value or not self.is_attached:
            return
        if problem:
            self._tell(problem, True)
        else:
            self.post_message(self.Submitted(self, value))

    def _ask(self, work: Callable[[], Completion] | Callable[[], str], done: Callable[..., None]) -> None:
        self._asked_at = time.monotonic()
        self._lane.submit(work, done, self._failed)
        self.set_timer(PATIENCE_S, partial(self._tell_late, self._asked_at))

    def _failed(self, error: Exception) -> None:
        self._tell(safe(error, 200), True)

    def _tell_late(self, asked_at: float) -> None:
        if self._lane.busy and asked_at == self._asked_at:
            self._tell("this folder takes long to answer; esc gives up", False)

    def _tell(self, text: str, is_problem: bool) -> None:
        self.post_message(FieldSaid(text, is_problem))
