"""The results screen's export and its jobs: choices, starting what outlives the deck. `results.py` builds on it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from textual import on
from textual.content import Content
from textual.widgets import OptionList

from engine.api import results, runs
from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import Lane
from tui.results.chat_screen import ChatScreen
from tui.results.export_pane import ExportPane
from tui.results.exports import DTYPES, Choices, toggled
from tui.results.reader import Results
from tui.text import safe
from tui.widgets.dialogs import Ask, Pick


class ExportScreen(ChatScreen):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.results: Results | None = None
        self._choices: Choices | None = None
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._starter = Lane(self, "start job")

    def _read(self) -> None:
        """Look at the run again; the screen does."""
        raise NotImplementedError

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self.say(safe(error, 500), error=True)

    def _start(self, name: str, run: Run, make: Callable[[], dict[str, Any]], folder: str) -> None:
        """Start a job that outlives the deck; the chat's model makes room for it."""
        self._end_talk()

        def started(process: subprocess.Popen[bytes]) -> None:
            self._workers[name] = process
            self._read()

        self._starter.submit(lambda: runs.begin_job(make(), run.path / folder), started, self._failed)

    @on(OptionList.OptionHighlighted, "#formats")
    def _on_format(self) -> None:
        if self.results is not None and self._choices is not None:
            self.query_one(ExportPane).show_note(self.results)

    @on(OptionList.OptionSelected, "#formats")
    def _on_format_chosen(self) -> None:
        self.deck_app.action_command("toggle")

    def do_toggle(self) -> None:
        """Switch the format under the cursor, or change dtype or place."""
        name = self.query_one(ExportPane).current
        if self._choices is None or self.results is None or not name:
            return
        if name == "dtype":
            words = [Content(dtype or "as the run computed") for dtype in DTYPES]
            pick = Pick("dtype of the merged weights", words, DTYPES.index(self._choices.dtype))
            self.app.push_screen(pick, self._take_dtype)
        elif name == "output":
            note = "a new or empty folder, or one of an earlier export; empty = in the run's own folder"
            self.app.push_screen(Ask("Write to which folder?", note, self._choices.output), self._take_output)
        else:
            self._choices, refused = toggled(self._choices, name, self.results.profile)
            if refused:
                self.say(refused)
            self._show()

    def _take_dtype(self, index: int | None) -> None:
        if index is not None and self._choices is not None:
            self._choices = replace(self._choices, dtype=DTYPES[index])
            self._show()

    def _take_output(self, text: str | None) -> None:
        if text is not None and self._choices is not None:
            self._choices = replace(self._choices, output=text)
            self._show()

    def do_write(self) -> None:
        """Start the export."""
        run, choices = self._run, self._choices
        if run is None or choices is None:
            return
        make = partial(
            results.export_job,
            run,
            output=Path(choices.output) if choices.output else None,
            merged=choices.merged,
            dtype=choices.dtype or None,
            quantized=choices.quantized,
            gguf=choices.gguf,
        )
        self._start("export", run, make, results.EXPORT_FOLDER)
