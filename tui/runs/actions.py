"""What can be done with the run or sweep under the cursor of screen 4. `runs.py` builds on it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from functools import partial
from typing import Any

from textual.content import Content

from engine.api import runs, sweeps
from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import Lane
from tui.frame.screen import DeckScreen
from tui.reading.snapshot import short_name
from tui.runs.commands import Selection
from tui.runs.listing import Listing, RunRow, SweepRow
from tui.text import safe, short_path
from tui.widgets.dialogs import Confirm, Reader


class ActsScreen(DeckScreen):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._resumer = Lane(self, "resume")
        self._listing: Listing | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        """Of sweeps that this deck resumed: looked at now and then, so that none stays a zombie."""

    @property
    def selection(self) -> Selection:
        """What is under the cursor, and what is marked."""
        return self.deck.of(Selection)

    def _read(self) -> None:
        """Look again; the screen does."""
        raise NotImplementedError

    def _seen(self, listing: Listing) -> None:
        """Show a list; the screen does."""
        raise NotImplementedError

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self.say(safe(error, 400), error=True)

    def do_reuse(self) -> None:
        """A new profile with this run's settings, or with those of the sweep's best trial."""
        from tui.documents.new import best_form, run_form

        try:
            if self.selection.sweep is not None and self.selection.sweep.facts is not None:
                self.deck_app.open_form(best_form(self.selection.sweep.facts.sweep))
            elif self.selection.row is not None:
                self.deck_app.open_form(run_form(self.selection.row.run))
        except EngineError as error:
            self._failed(error)

    def do_resume(self) -> None:
        """Start a worker that goes on from the newest checkpoint, and show it."""
        row, sweep = self.selection.row, self.selection.sweep
        if self._resumer.busy:
            return
        if row is not None:
            self.say(f"resuming {row.name} …")
            offset = row.run.events_path.stat().st_size if row.run.events_path.exists() else 0
            self._resumer.submit(partial(runs.resume_run, row.run), partial(self._resumed, row, offset), self._failed)
        elif sweep is not None and sweep.facts is not None:
            self._resumer.submit(partial(sweeps.resume_sweep, sweep.facts.sweep), self._sweep_resumed, self._failed)

    def _resumed(self, row: RunRow, offset: int, process: Any) -> None:
        self.deck_app.attach(row.run, process, offset)

    def _sweep_resumed(self, process: Any) -> None:
        self._workers.append(process)
        self.say("the sweep goes on, without this window too")

    def do_halt(self) -> None:
        """Ask, then stop the run or the sweep under the cursor."""
        row, sweep = self.selection.row, self.selection.sweep
        if row is not None:
            text = f"Stop {row.name}? It saves a checkpoint after this step, then ends. It can be resumed."
            self.app.push_screen(Confirm(text, "stop it"), partial(self._halt, row.run))
        elif sweep is not None and sweep.facts is not None:
            text = f"Stop the sweep {short_name(sweep.id)}? Its trials save a checkpoint and stop. It can be resumed."
            self.app.push_screen(Confirm(text, "stop it"), partial(self._halt, sweep.facts.sweep))

    def _halt(self, run: Run, yes: bool | None) -> None:
        if yes:
            try:
                runs.request(run.path, "stop")
            except OSError as error:
                self._failed(error)
                return
            self.say("asked to stop")

    def do_delete(self) -> None:
        """Ask, then delete."""
        row, sweep = self.selection.row, self.selection.sweep
        if row is not None:
            text = f"Delete {row.name} with its checkpoints, adapter and exports? This cannot be undone."
            self.app.push_screen(Confirm(text, "delete it", final=True), partial(self._delete, row))
        elif sweep is not None:
            text = f"Delete the sweep {short_name(sweep.id)} and its {len(sweep.trials)} runs? This cannot be undone."
            self.app.push_screen(Confirm(text, "delete all of it", final=True), partial(self._delete_sweep, sweep))

    def _delete(self, row: RunRow, yes: bool | None) -> None:
        if yes and self._removed(row.run):
            self.say(f"deleted {row.name}")

    def _delete_sweep(self, sweep: SweepRow, yes: bool | None) -> None:
        if not yes:
            return
        done = all([self._removed(row.run) for row in sweep.trials])
        try:
            if done and sweep.facts is not None:
                sweeps.remove_sweep(sweep.facts.sweep)
        except (EngineError, OSError) as error:
            self._failed(error)
            return
        if done:
            self._read()
            self.say(f"deleted {short_name(sweep.id)}")

    def _removed(self, run: Run) -> bool:
        """Delete a run and its line; False when that failed, which was told."""
        try:
            runs.remove_run(run)
        except (EngineError, OSError) as error:
            self._failed(error)
            return False
        if self._listing is not None:
            kept = tuple(one for one in self._listing.rows if one.run.id != run.id)
            self._seen(replace(self._listing, rows=kept, total=self._listing.total - 1))
        return True

    def do_copy_row(self) -> None:
        """The folder of the run or sweep under the cursor."""
        path = self.selection.row.run.path if self.selection.row else None
        if path is None and self.selection.sweep is not None and self.selection.sweep.facts is not None:
            path = self.selection.sweep.facts.sweep.path
        if path is not None:
            self.app.copy_to_clipboard(str(path))
            self.say(f"copied {short_path(path)}")

    def do_error(self) -> None:
        """Why the run failed."""
        row = self.selection.row
        if row is not None:
            text = "\n".join([*row.error, "", f"worker's log: {short_path(row.run.path / 'worker.log')}"])
            self.app.push_screen(Reader(f"{row.name} {row.state}", Content(text)))
