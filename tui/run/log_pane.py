"""The run screen's log: following, finding words in all of it, copying, the worker's own. `run_mend.py` adds to it."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual import on
from textual.binding import Binding
from textual.content import Content
from textual.widgets import Input, Log

from engine.api.runs import Run
from tui.background import Lane
from tui.reading.log_search import Found, matches, search_log
from tui.reading.snapshot import RunSnapshot
from tui.run.curve_pane import CurveScreen
from tui.run.view import log_text
from tui.terminal.clipboard import copy_text
from tui.text import safe, short_path
from tui.widgets.dialogs import Reader

KEPT_LOG_LINES = 2000
WORKER_LOG_BYTES, WORKER_LOG_LINES = 64 * 1024, 300


class LogPane(Log, inherit_bindings=False):
    """The log scrolls up and down only: left and right belong to the crosshair.

    It follows its end until somebody scrolls up, and again once the end is in sight.
    """

    BINDINGS: ClassVar = [
        Binding("up", "scroll_up", show=False),
        Binding("down", "scroll_down", show=False),
        Binding("pageup", "page_up", show=False),
        Binding("pagedown", "page_down", show=False),
        Binding("home", "scroll_home", show=False),
    ]
    following = True

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling up ends following at once, before the next line comes."""
        super().watch_scroll_y(old_value, new_value)
        at_end = new_value >= self.max_scroll_y
        if at_end or new_value < old_value:
            self.following = at_end

    def keep_following(self) -> None:
        """There are more lines or another size: the end stays in sight if it was."""
        if self.following:
            self.call_after_refresh(self._to_end)

    def _to_end(self) -> None:
        if self.following:
            self.scroll_end(animate=False, immediate=True)


class LogScreen(CurveScreen):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.found: Found | None = None
        self._run: Run | None = None
        self._lines_seen = 0
        self._partly = False
        self._searcher = Lane(self, "search")

    def _show_status(self) -> None:
        """The last line; the screen draws it."""
        raise NotImplementedError

    def _show_log(self, shot: RunSnapshot) -> None:
        if self._partly and shot.reading is None and not self.words:
            self.query_one(Log).clear()  # until now only the end of the history was counted
            self._lines_seen = 0
        self._partly = shot.reading is not None
        new = shot.lines_total - self._lines_seen
        if new <= 0:
            return
        fresh = shot.lines[-new:] if new < len(shot.lines) else shot.lines
        lines = [log_text(item) for item in fresh if not self.words or matches(item.text, self.words)]
        missing = new - len(fresh)
        if missing > 0 and not self.words:
            where = short_path(self._run.events_path if self._run else "")
            lines.insert(0, f"… {missing:,} earlier lines are in {where}; / finds words in them")
        self._lines_seen = shot.lines_total
        if lines:
            log = self.query_one(LogPane)
            log.write_lines(lines)
            log.keep_following()

    def do_search(self) -> None:
        """Type words to find."""
        self.add_class("-searching")
        self.query_one("#search", Input).focus()

    @on(Input.Submitted, "#search")
    def _searched(self, event: Input.Submitted) -> None:
        event.stop()
        self._search(event.value.strip())

    def _search(self, words: str) -> None:
        """Only lines with these words from now on; the whole file is read in a thread."""
        self.words, self.found = words, None
        self.set_class(bool(words), "-searching")
        log = self.query_one(Log)
        log.focus()
        log.clear()
        shot = self.deck.snapshot
        if words and self._run is not None:
            self._searcher.submit(partial(search_log, self._run.events_path, words), self._found, self._not_found)
            self._lines_seen = shot.lines_total if shot else 0
        else:
            self.query_one("#search", Input).value = ""
            self._lines_seen = 0
            if shot is not None:
                self._show_log(shot)
            log.scroll_end(animate=False)
        self._show_status()

    def _found(self, found: Found) -> None:
        if found.words == self.words:
            self.found = found
            log = self.query_one(Log)
            log.clear()
            log.write_lines([log_text(item) for item in found.lines] or ["no line has these words"])
            self._show_status()

    def _not_found(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            raise error
        self.say(f"the log cannot be read: {error.strerror}", error=True)

    def do_follow(self) -> None:
        """To the end of the log."""
        self.query_one(Log).scroll_end(animate=False)
        self.call_after_refresh(self._show_status)

    def do_worker_log(self) -> None:
        """The end of what the worker printed."""
        if self._run is None:
            return
        path = self._run.path / "worker.log"
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - WORKER_LOG_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError as error:
            self.say(f"the worker's log cannot be read: {error.strerror}", error=True)
            return
        lines = [safe(last.rpartition("\r")[2], 1000) for last in text.rstrip("\n").split("\n")[-WORKER_LOG_LINES:]]
        shown = Content("\n".join(lines)) if text.strip() else Content.styled("the worker printed nothing", "dim")
        self.app.push_screen(Reader(f"worker.log, its end: {short_path(path)}", shown))

    def do_copy(self) -> None:
        """The log to the clipboard and to a file."""
        if self._run is None:
            return
        text = "\n".join(self.query_one(Log).lines) + "\n"
        try:
            where = copy_text(self.app, text, self._run.path / "deck-log.txt")
        except OSError as error:
            self.say(f"the log cannot be written: {error.strerror}", error=True)
            return
        self.say(safe(where))
