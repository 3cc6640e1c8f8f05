"""The overview of one run, over the screen that asked for it: settings and who chose them, data, machine, timeline,
warnings in full, files.

Opened with `i` on the run, runs and results screens; read again every two seconds in a thread. The page itself is made
by `engine.api.overview.sections`, as `engine runs show --full` prints it; `view.py` gives it columns and colours.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Input

from engine.api import overview
from engine.api.overview import Overview, OverviewReader, Row, Section
from engine.api.runs import Run
from tui.background import Poll
from tui.overview.view import column_text, columns, head, nothing
from tui.reading.snapshot import short_name
from tui.terminal.clipboard import to_clipboard
from tui.text import Part, fit, fit_right, line, safe, short_path
from tui.widgets.dialogs import Modal, Pick, drop_stale
from tui.widgets.lines import Ends, Line, Rule, hint
from tui.widgets.panes import notify

READ_EVERY_S = 2.0


class OverviewScreen(Modal[None]):
    """One page about a run."""

    BINDINGS: ClassVar = [
        ("escape", "back", "back"),
        ("q,i", "close", "close"),
        ("slash", "find", "find"),
        ("y", "copy", "copy a path"),
        ("right_square_bracket", "section(1)", "next section"),
        ("left_square_bracket", "section(-1)", "section before"),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.words = ""
        """Words that every row shown must have; empty for all rows."""
        self.found: Overview | None = None
        self._begins: tuple[int, ...] = ()
        self._poll = Poll(self, "overview", READ_EVERY_S, OverviewReader(run).read, self._take, self._report)

    def compose(self) -> ComposeResult:
        """Headline, field for words, the page in one column or two, keys."""
        yield Ends(id="overview-head")
        yield Rule()
        field = Input(placeholder="words to find; esc shows all", compact=True, id="overview-words")
        field.cursor_blink = False
        yield field
        with VerticalScroll(id="overview-body"), Horizontal(id="overview-columns"):
            yield Line(id="overview-left")
            yield Line(id="overview-right")
        yield Line(line(*_keys()), id="keys")

    def on_mount(self) -> None:
        """Read at once, then every two seconds."""
        self.query_one("#overview-head", Ends).show(*head(short_name(self.run.id), None))
        self.set_focus(self.query_one("#overview-body"))
        self._poll.start()

    def on_resize(self, event: events.Resize) -> None:
        """Wrap for the new width."""
        if not drop_stale(event, self.app.size):
            self.call_after_refresh(self._show)

    # Reading and showing

    def _take(self, found: Overview) -> None:
        if found != self.found:
            self.found = found
            self._show()

    def _report(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            raise error
        self._poll.pause()
        notify(self, f"the run cannot be read: {error.strerror}", error=True)

    def _show(self) -> None:
        found = self.found
        if found is None or not self.is_mounted:
            return
        self.query_one("#overview-head", Ends).show(*head(short_name(self.run.id), found))
        parts = overview.sections(found)
        self._show_columns(overview.filtered(parts, self.words) if self.words else parts)

    def _show_columns(self, parts: tuple[Section, ...]) -> None:
        shown = columns(parts, self.size.width)
        width = (self.size.width - 3) // max(1, len(shown)) - 2
        self.set_class(len(shown) > 1, "-two")
        self._begins = ()
        for name, column in zip(("#overview-left", "#overview-right"), [*shown, (), ()], strict=False):
            text, begins = column_text(column, width) if column else (Content(""), ())
            self._begins = tuple(sorted({*self._begins, *begins}))
            self.query_one(name, Line).show(text, wraps=True)
        if not shown:
            self.query_one("#overview-left", Line).show(nothing(self.words), wraps=True)

    # Commands

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)

    def action_back(self) -> None:
        """Show all rows again; then go back."""
        if self.words or self.has_class("-finding"):
            self._find("")
        else:
            self.dismiss(None)

    def action_find(self) -> None:
        """Type words."""
        self.add_class("-finding")
        self.set_focus(self.query_one(Input))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value.strip() != self.words:
            self.words = event.value.strip()
            self._show()
            self.query_one("#overview-body").scroll_home(animate=False)

    @on(Input.Submitted)
    def _take_words(self, event: Input.Submitted) -> None:
        event.stop()
        self._find(self.words)

    def _find(self, words: str) -> None:
        self.words = words
        self.query_one(Input).value = words
        self.set_class(bool(words), "-finding")
        self.set_focus(self.query_one("#overview-body"))
        self._show()

    def action_section(self, step: int) -> None:
        """Go to the next section, or to the one before."""
        body = self.query_one("#overview-body")
        at = round(body.scroll_y)
        ahead = [begin for begin in self._begins if (begin > at if step > 0 else begin < at)]
        if ahead:
            body.scroll_to(y=ahead[0] if step > 0 else ahead[-1], animate=False)

    def action_copy(self) -> None:
        """Choose a file of the run, and copy its path."""
        if self.found is None:
            return
        files = next((part.rows for part in overview.sections(self.found) if part.name == "files"), ())
        rows = (Row("the run's folder", "", path=str(self.run.path)), *files)
        choices = [line(fit(safe(row.label), 38), (fit_right(row.text, 10), "dim")) for row in rows]

        def copy(index: int | None) -> None:
            if index is not None:
                places = to_clipboard(self.app, rows[index].path)
                notify(self, f"copied to {' and '.join(places)}: {short_path(rows[index].path)}")

        self.app.push_screen(Pick("Copy the path of", choices), copy)


def _keys() -> list[Part]:
    back, find, copy = hint("esc", "escape"), hint("/", "slash"), hint("y")
    section = [*hint("]", "right_square_bracket"), " ", *hint("[", "left_square_bracket")]
    return [*back, " back  ", *find, " find  ", *section, " section  ", *copy, " copy a path"]
