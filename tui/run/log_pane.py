"""The run screen's log: it follows its end, finds words in the whole file, and can be copied."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from engine.api.runs import Run
from tui.background import Lane
from tui.frame.copying import copy_and_tell
from tui.reading.log_search import Found, matches, search_log
from tui.reading.snapshot import RunSnapshot
from tui.run.log_lines import RunLog, whole_lines
from tui.run.view import log_text
from tui.text import safe, short_path
from tui.widgets.dialogs import Reader
from tui.widgets.panes import notify

READER_CELLS, READER_FRAME_CELLS = 78, 10
"""Columns of text in a window, and what the window itself takes of a narrow screen."""
WORKER_LOG_BYTES, WORKER_LOG_LINES = 64 * 1024, 300


class LogPane(Vertical):
    """The log of one run, and the field for words to find in it."""

    class Changed(Message):
        """Other lines are shown, or the log follows its end again."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        """Words that every line shown must have; empty for all lines."""
        self._result: Found | None = None
        self._run: Run | None = None
        self._snapshot: RunSnapshot | None = None
        self._lines_seen = 0
        self._history_partial = False
        self._search_lane = Lane(self, "search")

    def compose(self) -> ComposeResult:
        """The field for words, shown while somebody searches, above the lines."""
        field = Input(placeholder="words to find in the whole log; esc shows all", compact=True, id="search")
        field.cursor_blink = False
        yield field
        yield RunLog()

    @property
    def lines(self) -> RunLog:
        """The widget with the lines."""
        return self.query_one(RunLog)

    @property
    def following(self) -> bool:
        """Whether new lines scroll into sight by themselves."""
        return self.lines.following

    @property
    def searching(self) -> bool:
        """Whether the field for words is open."""
        return self.has_class("-searching")

    @property
    def search_note(self) -> str:
        """How many lines have the words, for the status line; empty when all lines are shown."""
        if not self.words:
            return ""
        total = "…" if self._result is None else f"{self._result.total:,}"
        return f"{total} lines with '{safe(self.words, 20)}' (esc)"

    def reset(self, run: Run | None) -> None:
        """Prepare for another run: no lines, no search."""
        self._run, self._snapshot, self._lines_seen = run, None, 0
        self.words, self._result = "", None
        self.remove_class("-searching")
        self.lines.empty()

    def show(self, snapshot: RunSnapshot) -> None:
        """Add the lines that are new in a snapshot."""
        self._snapshot = snapshot
        if self._history_partial and snapshot.reading is None and not self.words:
            self.lines.empty()  # until now only the end of the history was counted
            self._lines_seen = 0
        self._history_partial = snapshot.reading is not None
        new = snapshot.lines_total - self._lines_seen
        if new <= 0:
            return
        self._lines_seen = snapshot.lines_total
        texts = self._texts(snapshot, new)
        if texts:
            self.lines.put(texts)
            self.lines.keep_following()

    def _texts(self, snapshot: RunSnapshot, new: int) -> list[str]:
        fresh = snapshot.lines[-new:] if new < len(snapshot.lines) else snapshot.lines
        texts = [log_text(item) for item in fresh if not self.words or matches(item.text, self.words)]
        missing = new - len(fresh)
        if missing > 0 and not self.words:
            path = short_path(self._run.events_path if self._run else "")
            texts.insert(0, f"… {missing:,} earlier lines are in {path}; / finds words in them")
        return texts

    # Searching

    def open_search(self) -> None:
        """Let somebody type words to find."""
        self.add_class("-searching")
        self.query_one("#search", Input).focus()

    @on(Input.Submitted, "#search")
    def _on_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.search(event.value.strip())

    def leave_search(self) -> bool:
        """Show all lines again; False when no search is open."""
        searching = self.searching
        if searching:
            self.search("")
        return searching

    def search(self, words: str) -> None:
        """Show only lines with these words, from the whole file, which a thread reads; all lines without words."""
        self.words, self._result = words, None
        self.set_class(bool(words), "-searching")
        self.lines.focus()
        self.lines.empty()
        snapshot = self._snapshot
        if words and self._run is not None:
            work = partial(search_log, self._run.events_path, words)
            self._search_lane.submit(work, self._show_result, self._report_unreadable)
            self._lines_seen = snapshot.lines_total if snapshot else 0
        else:
            self.query_one("#search", Input).value = ""
            self._lines_seen = 0
            if snapshot is not None:
                self.show(snapshot)
            self.lines.scroll_end(animate=False)
        self.post_message(self.Changed())

    def _show_result(self, result: Found) -> None:
        if result.words == self.words:
            self._result = result
            self.lines.empty()
            self.lines.put([log_text(item) for item in result.lines] or ["no line has these words"])
            self.post_message(self.Changed())

    def _report_unreadable(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            raise error
        notify(self, f"the log cannot be read: {error.strerror}", error=True)

    # Other commands

    @on(RunLog.Read)
    def _read_whole(self) -> None:
        """Show the lines in sight whole, in a window."""
        texts = self.lines.in_sight
        if texts:
            width = min(READER_CELLS, self.app.size.width - READER_FRAME_CELLS)
            self.app.push_screen(Reader("log: the lines in sight", whole_lines(texts, width)))

    def follow(self) -> None:
        """Go to the end of the log and stay there."""
        self.lines.scroll_end(animate=False)
        self.call_after_refresh(self.post_message, self.Changed())

    def read_worker_log(self) -> None:
        """Open the end of what the worker printed."""
        if self._run is None:
            return
        path = self._run.path / "worker.log"
        try:
            text = _end_of(path)
        except OSError as error:
            notify(self, f"the worker's log cannot be read: {error.strerror}", error=True)
            return
        content = Content(text) if text.strip() else Content.styled("the worker printed nothing", "dim")
        self.app.push_screen(Reader(f"worker.log, its end: {short_path(path)}", content))

    def copy(self) -> None:
        """Copy the lines to the clipboard and to a file."""
        if self._run is None:
            return
        text = "\n".join(self.lines.texts) + "\n"
        copy_and_tell(self, text, self._run.path / "deck-log.txt", "the log")


def _end_of(path: Path) -> str:
    """The last lines of a file as a terminal would leave them: of a line that was drawn over, the last state."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - WORKER_LOG_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = text.rstrip("\n").split("\n")[-WORKER_LOG_LINES:]
    return "\n".join(safe(line.rpartition("\r")[2], 1000) for line in lines)
