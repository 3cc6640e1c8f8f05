"""What the screens share: the machine, what is highlighted, what is open, what is attached.

Held by the app, written by the screen that owns the fact, read by the command table. No truth lives
here: everything can be read again from the probe, the profile file or the run directory.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from engine.api.fit import Machine, Plan
    from engine.api.runs import Run
    from tui.documents.form import Form
    from tui.reading.snapshot import RunSnapshot

T = TypeVar("T")


@dataclass(slots=True)
class DeckState:
    """The deck's shared facts; `None` = not known or nothing chosen."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys that a person chose, by command."""
    machine: Machine | None = None
    plan: Plan | None = None
    """The plan under the cursor of the fit screen."""
    form: Form | None = None
    """The open profile."""
    run: Run | None = None
    """The run that the run screen shows."""
    process: subprocess.Popen[bytes] | None = None
    """Its worker, when this deck started it."""
    process_offset: int = 0
    """Byte of the event file where what that worker writes begins: 0 for a new run."""
    snapshot: RunSnapshot | None = None
    chosen: Run | None = None
    """The run whose results are shown."""
    _of_screens: dict[type[Any], Any] = field(default_factory=dict)

    def of(self, kind: type[T]) -> T:
        """What one screen alone knows, as it put it last; `kind`'s defaults before that."""
        found: T = self._of_screens.setdefault(kind, kind())
        return found

    def put(self, facts: object) -> None:
        """Replace what one screen knows."""
        self._of_screens[type(facts)] = facts
