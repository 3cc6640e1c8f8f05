"""What of the form is seen, and where the keyboard is: folding, filtering, and the way from row to row.

Not here: what is edited (`form_pane.py`), which rows an outline shows (`outline.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from textual.containers import VerticalScroll
from textual.widget import Widget

from tui.documents.form import Form
from tui.profile.blocks import Blocks, Stop
from tui.profile.field import FieldRow
from tui.profile.form_filter import Filter
from tui.profile.outline import Outline
from tui.profile.section_row import SectionRow


class Cursor:
    """Shows and hides the rows in `pane`, and moves the keyboard. `changed` is called when other rows are seen."""

    def __init__(self, pane: VerticalScroll, changed: Callable[[], object]) -> None:
        self._pane, self._changed = pane, changed
        self.outline = Outline()
        self.blocks = Blocks()
        self._form: Form | None = None

    def hold(self, blocks: Blocks, form: Form | None) -> None:
        """Take over the rows of another form."""
        self.blocks, self._form = blocks, form

    @property
    def stops(self) -> list[Stop]:
        """The rows and headings that are seen, from top to bottom."""
        return self.blocks.stops()

    @property
    def stop(self) -> Stop | None:
        """The row or the heading that has the keyboard, or holds the field that has it."""
        widget: object = self._pane.screen.focused
        while isinstance(widget, Widget) and not isinstance(widget, (FieldRow, SectionRow)):
            widget = widget.parent
        return widget if isinstance(widget, (FieldRow, SectionRow)) else None

    def go(self, stop: Stop | None) -> None:
        """Give a row the keyboard, the first one for None; with that one the form is seen from its top."""
        stops = self.stops
        wanted = stop or next(iter(stops), None)
        self._pane.screen.set_focus(wanted)
        if wanted is not None and self._pane.screen.focused is wanted and wanted is stops[0]:
            self._pane.scroll_home(animate=False)

    def move(self, step: int) -> None:
        """Go `step` rows down."""
        stops = self.stops
        if stops:
            self.go(stops[max(0, min(len(stops) - 1, self._at(stops) + step))])

    def move_sections(self, step: int) -> None:
        """Go to the beginning of the next section; back: of this one, then of those before it."""
        stops = self.stops
        now, places = self._at(stops), [stops.index(start) for start in self.blocks.starts()]
        beyond = [at for at in places if at > now] if step > 0 else [at for at in reversed(places) if at < now]
        if beyond:
            self.go(stops[beyond[0]])

    def arrange(self) -> None:
        """Show the rows that are wanted now; a keyboard on one that goes moves to its heading."""
        if self._form is None:
            return
        stop = self.stop
        with self._pane.app.batch_update():
            self.blocks.arrange(self.outline, self._form)
        if isinstance(stop, FieldRow) and not stop.display:
            heading = self.blocks.block_of(stop).heading
            self.go(heading if heading is not None and heading.display else None)
        self._changed()

    def fold(self, title: str, folded: bool) -> bool:
        """Fold a section or open it; False while a filter decides what is seen."""
        if self.outline.asked:
            return False
        (self.outline.opened.discard if folded else self.outline.opened.add)(title)
        self.arrange()
        return True

    def fold_all(self) -> None:
        """Open all sections, or fold them when all are open."""
        titles = self.blocks.titles
        self.outline.opened = set() if titles <= self.outline.opened else titles
        self.arrange()

    def filter_by(self, asked: Filter) -> None:
        """Show only the settings that are asked for; all, for an empty filter."""
        if asked != self.outline.asked:
            self.outline.asked = asked
            self.arrange()

    def toggle_advanced(self) -> bool:
        """Show or hide advanced settings; whether they are shown now."""
        self.outline.advanced = not self.outline.advanced
        self.arrange()
        return self.outline.advanced

    def go_to(self, key: str) -> bool:
        """Go to the row of a setting, or of the first one below it; a hidden one is shown. False without a row."""
        found = [row for row in self.blocks.rows() if key and f"{row.spec.key}.".startswith(f"{key}.")]
        row = next((row for row in found if row.display), next(iter(found), None))
        if row is not None:
            self._reveal(row)
            self.go(row)
        return row is not None

    def _reveal(self, row: FieldRow) -> None:
        """Open, clear and show whatever hides a row."""
        if row.display:
            return
        self.outline.asked = Filter()
        self.outline.opened.add(self.blocks.block_of(row).section.title)
        self.arrange()
        if not row.display:
            self.outline.advanced = True
            self.arrange()

    def _at(self, stops: list[Stop]) -> int:
        """Where the keyboard is among `stops`; at the first one when it is on none of them."""
        stop = self.stop
        return stops.index(stop) if stop in stops else 0
