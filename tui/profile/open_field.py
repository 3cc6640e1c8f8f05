"""What is typed into the open field of the form, until it is taken or given up.

It counts for the prediction at once and for the form when it is taken. Not here: the field itself (`field.py`), and
what follows from an edit (`form_pane.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.timer import Timer
from textual.widget import Widget

from engine.errors import EngineError
from tui.profile.cursor import Cursor
from tui.profile.field import FieldRow
from tui.profile.prediction import Prediction
from tui.text import safe
from tui.widgets.panes import notify

DEBOUNCE_S = 0.15


class OpenField:
    """Among the rows of `cursor` the one that is a field; a value that is taken goes to `edit`.

    `closed` is called when the field is a row again.
    """

    def __init__(
        self,
        owner: Widget,
        cursor: Cursor,
        prediction: Prediction,
        edit: Callable[[FieldRow, Any], None],
        closed: Callable[[], object],
    ) -> None:
        self._owner, self._cursor, self._prediction = owner, cursor, prediction
        self._edit, self._closed = edit, closed
        self._debounce: Timer | None = None

    @property
    def row(self) -> FieldRow | None:
        """The row that is a field now."""
        return next((row for row in self._cursor.blocks.rows() if row.editing), None)

    def type(self, row: FieldRow, value: Any) -> None:
        """Predict with what stands in the field, a moment after the last key."""
        if row.editing:
            self._forget()
            self._prediction.typed = {row.spec.key: value}
            self._debounce = self._owner.set_timer(DEBOUNCE_S, self._prediction.refresh)

    def leave(self) -> None:
        """Predict without what is typed."""
        if self._forget():
            self._prediction.refresh()

    def take(self, row: FieldRow) -> bool:
        """The form has the value when this returns True; else the row says why it cannot be taken."""
        form = self._prediction.form
        try:
            value = row.reading()
            if form is not None:
                form.text({row.spec.key: value})
        except (ValueError, EngineError) as error:
            row.complain(safe(error, 400))
            return False
        self._close(row)
        self._edit(row, value)
        return True

    def settle(self) -> bool:
        """Take what was typed into the open field, or say that it cannot be taken."""
        row = self.row
        if row is None:
            return True
        if row.untouched:
            self._close(row)
            return True
        if self.take(row):
            return True
        notify(self._owner, f"what is typed cannot be taken, esc gives it up: {row.spec.key}", error=True)
        return False

    def give_up(self) -> bool:
        """Close the open field and leave the setting as it is; False when no field is open."""
        row = self.row
        if row is None:
            return False
        self._close(row)
        return True

    def _close(self, row: FieldRow) -> None:
        row.close()
        self.leave()
        self._closed()

    def _forget(self) -> bool:
        """What is typed no longer counts for the prediction; whether it did."""
        counted, self._prediction.typed = bool(self._prediction.typed), {}
        if self._debounce is not None:
            self._debounce.stop()
        return counted
