"""The profile file that a run was started from, opened in the person's editor; afterwards its problems are told."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from engine.api import runs
from engine.api.runs import Run
from engine.errors import EngineError, Problem
from tui.background import Lane
from tui.documents.checking import file_problems, told_problems
from tui.frame.screen import DeckScreen
from tui.terminal.editor import edit
from tui.text import short_path, trouble


class SourceFile:
    """Opens files for `screen`; nothing of the run itself is changed."""

    def __init__(self, screen: DeckScreen) -> None:
        self._screen = screen
        self._lane = Lane(screen, "profile file")

    def edit(self, run: Run) -> None:
        """Open the file, and say what is wrong with it once the editor is closed."""
        try:
            path = runs.read_record(run.path).profile_path
        except EngineError as error:
            self._screen.say(trouble(error), error=True)
            return
        if path is None or not path.is_file():
            where = f"{short_path(path)} is gone" if path is not None else "this run came from no file"
            self._screen.say(f"{where}: u makes a profile of its settings", error=True)
            return
        problem = edit(self._screen.app, path)
        if problem:
            self._screen.say(problem, error=True)
            return
        work = partial(file_problems, path, self._screen.deck.machine)
        self._lane.submit(work, partial(self._tell, path), self._failed)

    def _tell(self, path: Path, problems: tuple[Problem, ...]) -> None:
        self._screen.say(told_problems(path.name, problems), error=bool(problems))

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self._screen.say(trouble(error), error=True)
