"""What can be done with the run or sweep under the cursor of the runs screen."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial

from textual.content import Content

from engine.api import runs, sweeps
from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import Lane
from tui.frame.screen import DeckScreen
from tui.reading.snapshot import short_name
from tui.runs.commands import Selection
from tui.runs.listing import RunRow, SweepRow
from tui.text import safe, short_path
from tui.widgets.dialogs import Confirm, Reader


class RunActions:
    """Carries out the commands of `screen`. `forget` takes a deleted run off the list, `read_again` reads the list."""

    def __init__(self, screen: DeckScreen, forget: Callable[[Run], None], read_again: Callable[[], None]) -> None:
        self._screen, self._forget, self._read_again = screen, forget, read_again
        self._resumer = Lane(screen, "resume")
        self._sweep_workers: list[subprocess.Popen[bytes]] = []
        """Of sweeps that this deck resumed: polled now and then, so that none stays a zombie."""

    @property
    def _row(self) -> RunRow | None:
        return self._screen.deck.of(Selection).row

    @property
    def _sweep(self) -> SweepRow | None:
        return self._screen.deck.of(Selection).sweep

    @property
    def _sweep_folder(self) -> Run | None:
        """The directory of the sweep under the cursor; None when it is gone."""
        sweep = self._sweep
        return sweep.facts.sweep if sweep is not None and sweep.facts is not None else None

    def collect_workers(self) -> None:
        """Let the system forget workers that have ended."""
        self._sweep_workers = [worker for worker in self._sweep_workers if worker.poll() is None]

    def report(self, error: Exception) -> None:
        """Show an expected error as a notice; any other is a defect and is raised."""
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self._screen.say(safe(error, 400), error=True)

    def reuse(self) -> None:
        """A new profile with this run's settings, or with those of the sweep's best trial."""
        from tui.documents.new import best_form, run_form

        try:
            if self._sweep_folder is not None:
                self._screen.deck_app.open_form(best_form(self._sweep_folder))
            elif self._row is not None:
                self._screen.deck_app.open_form(run_form(self._row.run))
        except EngineError as error:
            self.report(error)

    def resume(self) -> None:
        """Start a worker that goes on from the newest checkpoint, and show it."""
        row, sweep = self._row, self._sweep_folder
        if self._resumer.busy:
            return
        if row is not None:
            self._screen.say(f"resuming {row.name} …")
            offset = row.run.events_path.stat().st_size if row.run.events_path.exists() else 0
            self._resumer.submit(partial(runs.resume_run, row.run), partial(self._resumed, row, offset), self.report)
        elif sweep is not None:
            self._resumer.submit(partial(sweeps.resume_sweep, sweep), self._sweep_resumed, self.report)

    def _resumed(self, row: RunRow, offset: int, process: subprocess.Popen[bytes]) -> None:
        self._screen.deck_app.attach(row.run, process, offset)

    def _sweep_resumed(self, process: subprocess.Popen[bytes]) -> None:
        self._sweep_workers.append(process)
        self._screen.say("the sweep goes on, without this window too")

    def halt(self) -> None:
        """Ask, then stop the run or the sweep under the cursor."""
        row, sweep = self._row, self._sweep_folder
        if row is not None:
            question = f"Stop {row.name}? It saves a checkpoint after this step, then ends. It can be resumed."
            self._screen.app.push_screen(Confirm(question, "stop it"), partial(self._halt, row.run))
        elif sweep is not None:
            name = short_name(safe(sweep.id, 80))
            question = f"Stop the sweep {name}? Its trials save a checkpoint and stop. It can be resumed."
            self._screen.app.push_screen(Confirm(question, "stop it"), partial(self._halt, sweep))

    def _halt(self, run: Run, yes: bool | None) -> None:
        if yes:
            try:
                runs.request(run.path, "stop")
            except OSError as error:
                self.report(error)
                return
            self._screen.say("asked to stop")

    def delete(self) -> None:
        """Ask, then delete."""
        row, sweep = self._row, self._sweep
        if row is not None:
            question = f"Delete {row.name} with its checkpoints, adapter and exports? This cannot be undone."
            self._screen.app.push_screen(Confirm(question, "delete it", final=True), partial(self._delete, row))
        elif sweep is not None:
            count, name = len(sweep.trials), short_name(sweep.id)
            question = f"Delete the sweep {name} and its {count} runs? This cannot be undone."
            dialog = Confirm(question, "delete all of it", final=True)
            self._screen.app.push_screen(dialog, partial(self._delete_sweep, sweep))

    def _delete(self, row: RunRow, yes: bool | None) -> None:
        if yes and self._remove(row.run):
            self._screen.say(f"deleted {row.name}")

    def _delete_sweep(self, sweep: SweepRow, yes: bool | None) -> None:
        if not yes or not all([self._remove(row.run) for row in sweep.trials]):
            return
        try:
            if sweep.facts is not None:
                sweeps.remove_sweep(sweep.facts.sweep)
        except (EngineError, OSError) as error:
            self.report(error)
            return
        self._read_again()
        self._screen.say(f"deleted {short_name(sweep.id)}")

    def _remove(self, run: Run) -> bool:
        """Delete a run and its line; False when that failed, which a notice has said."""
        try:
            runs.remove_run(run)
        except (EngineError, OSError) as error:
            self.report(error)
            return False
        self._forget(run)
        return True

    def copy_folder(self) -> None:
        """Copy the path of the folder of the run or sweep under the cursor."""
        folder = self._row.run if self._row is not None else self._sweep_folder
        if folder is not None:
            self._screen.app.copy_to_clipboard(str(folder.path))
            self._screen.say(f"copied {short_path(folder.path)}")

    def show_error(self) -> None:
        """Why the run failed."""
        row = self._row
        if row is not None:
            text = "\n".join([*row.error, "", f"worker's log: {short_path(row.run.path / 'worker.log')}"])
            self._screen.app.push_screen(Reader(f"{row.name} {row.state}", Content(text)))
