"""What can be done with the run or sweep under the cursor of the runs screen."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from functools import partial

from textual.content import Content

from engine.api import runs, sweeps
from engine.api.runs import Run, RunNotes
from engine.errors import EngineError
from engine.text import format_bytes
from tui.background import Lane
from tui.frame.copying import copy_short
from tui.frame.screen import DeckScreen
from tui.reading.snapshot import short_name
from tui.reading.tail import events_end
from tui.runs.commands import Selection
from tui.runs.listing import RunRow, SweepRow
from tui.text import safe, short_path, trouble
from tui.widgets.dialogs import Ask, Confirm, Reader

NAMED = 8
"""Names that the question before a deletion shows."""


class RunActions:
    """Carries out the commands of `screen`. `forget` takes a deleted run off the list, `read_again` reads the list."""

    def __init__(self, screen: DeckScreen, forget: Callable[..., None], read_again: Callable[[], None]) -> None:
        self._screen, self._forget, self._read_again = screen, forget, read_again
        self._resumer = Lane(screen, "resume")
        self._deleter, self._writer = Lane(screen, "delete"), Lane(screen, "notes")
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
        self._screen.say(trouble(error), error=True)

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
            offset = events_end(row.run)
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
            take = partial(self._delete_runs, (row,))
            self._screen.app.push_screen(Confirm(question, "delete it", final=True), take)
        elif sweep is not None:
            count, name = len(sweep.trials), short_name(sweep.id)
            question = f"Delete the sweep {name} and its {count} runs? This cannot be undone."
            dialog = Confirm(question, "delete all of it", final=True)
            self._screen.app.push_screen(dialog, partial(self._delete_sweep, sweep))

    def delete_shown(self, shown: Sequence[RunRow], sweeps_shown: int) -> None:
        """Ask with how many, how much and which, then delete all that have no worker. Sweeps stay."""
        doomed = [row for row in shown if not row.is_live]
        if not doomed:
            self._screen.say("every run shown has a worker: it stays" if shown else "the filter shows no run")
            return
        text = deletion_text(doomed, len(shown) - len(doomed), sweeps_shown)
        question = Confirm(text, "delete all of them", final=True)
        self._screen.app.push_screen(question, partial(self._delete_runs, tuple(doomed)))

    def _delete_runs(self, rows: Sequence[RunRow], yes: bool | None) -> None:
        if yes and self._deleter.busy:
            self._screen.say("runs are being deleted; ask again in a moment", error=True)
        elif yes:
            self._screen.say(f"deleting {len(rows):,} runs …" if len(rows) > 1 else f"deleting {rows[0].name} …")
            self._deleter.submit(partial(_remove_all, [row.run for row in rows]), self._deleted, self.report)

    def _deleted(self, outcome: tuple[list[Run], list[Exception]]) -> None:
        gone, problems = outcome
        self._forget(*gone)
        if problems and len(gone) + len(problems) > 1:
            why = trouble(problems[0])
            self._screen.say(f"deleted {len(gone):,} runs, {len(problems):,} stay: {why}", error=True)
        elif problems:
            self.report(problems[0])
        elif gone:
            text = short_name(safe(gone[0].id, 80)) if len(gone) == 1 else f"{len(gone):,} runs"
            self._screen.say(f"deleted {text}")

    def _delete_sweep(self, sweep: SweepRow, yes: bool | None) -> None:
        if yes and self._deleter.busy:
            self._screen.say("runs are being deleted; ask again in a moment", error=True)
        elif yes:
            self._screen.say(f"deleting {short_name(sweep.id)} …")
            self._deleter.submit(partial(_remove_sweep, sweep), partial(self._sweep_deleted, sweep), self.report)

    def _sweep_deleted(self, sweep: SweepRow, outcome: tuple[list[Run], list[Exception]]) -> None:
        gone, problems = outcome
        self._forget(*gone)
        for error in problems[:1]:
            self.report(error)
        self._read_again()
        if not problems:
            self._screen.say(f"deleted {short_name(sweep.id)}")

    def ask_tags(self) -> None:
        """Ask for the tags of the run under the cursor."""
        row = self._row
        if row is not None:
            value, note = " ".join(row.traits.notes.tags), "words; tag:WORD in the filter finds them"
            ask = Ask(f"Tags of {row.name}", note, value, _tag_problem)
            self._screen.app.push_screen(ask, partial(self._take_tags, row))

    def _take_tags(self, row: RunRow, text: str | None) -> None:
        if text is not None:
            wanted, before = text.split(), row.traits.notes.tags
            changes = [f"-{tag}" for tag in before if tag not in wanted] + [f"+{tag}" for tag in wanted]
            self._write(partial(runs.change_tags, row.run.path, changes))

    def ask_note(self) -> None:
        """Ask for the note of the run under the cursor."""
        row = self._row
        if row is not None:
            ask = Ask(f"Note on {row.name}", "one line; empty takes it away", safe(row.traits.notes.note, 2000))
            self._screen.app.push_screen(ask, partial(self._take_note, row))

    def _take_note(self, row: RunRow, text: str | None) -> None:
        if text is not None:
            self._write(partial(runs.change_note, row.run.path, text))

    def _write(self, change: Callable[[], RunNotes]) -> None:
        if self._writer.busy:
            self._screen.say("the last change is being written; try again in a moment", error=True)
        else:
            self._writer.submit(change, lambda _: self._read_again(), self.report)

    def copy_folder(self) -> None:
        """Copy the path of the folder of the run or sweep under the cursor."""
        folder = self._row.run if self._row is not None else self._sweep_folder
        if folder is not None:
            copy_short(self._screen, str(folder.path), short_path(folder.path))

    def show_error(self) -> None:
        """Why the run failed."""
        row = self._row
        if row is not None:
            text = "\n".join([*row.error, "", f"worker's log: {short_path(row.run.path / 'worker.log')}"])
            self._screen.app.push_screen(Reader(f"{row.name} {row.state}", Content(text)))


def _remove_all(doomed: Sequence[Run]) -> tuple[list[Run], list[Exception]]:
    """Delete runs, in a thread; what is gone, and what could not be deleted. One that has a worker stays."""
    gone: list[Run] = []
    problems: list[Exception] = []
    for run in doomed:
        try:
            runs.remove_run(run)
        except FileNotFoundError:
            gone.append(run)  # somebody else was faster
        except (EngineError, OSError) as error:
            problems.append(error)
        else:
            gone.append(run)
    return gone, problems


def _remove_sweep(sweep: SweepRow) -> tuple[list[Run], list[Exception]]:
    """Delete a sweep's trials, and its own directory once they are gone."""
    gone, problems = _remove_all([row.run for row in sweep.trials])
    if sweep.facts is not None and not problems:
        try:
            sweeps.remove_sweep(sweep.facts.sweep)
        except (EngineError, OSError) as error:
            problems.append(error)
    return gone, problems


def deletion_text(doomed: Sequence[RunRow], living: int, sweeps_shown: int = 0) -> str:
    """What would be deleted: how many runs, how much of the disk, and their names."""
    sizes = [row.traits.disk_bytes for row in doomed]
    known = sum(size for size in sizes if size is not None)
    size = format_bytes(known) + (" or more" if None in sizes else "")
    count = f"{len(doomed):,} run{'s' if len(doomed) > 1 else ''}"
    names = [f"  {safe(row.name, 60)}" for row in doomed[:NAMED]]
    more = [f"  and {len(doomed) - NAMED:,} more"] if len(doomed) > NAMED else []
    stay = [f"{living:,} with a worker stay{'s' if living == 1 else ''}."] if living else []
    stay += ["Sweeps stay, with their trials: d deletes one."] if sweeps_shown else []
    return "\n".join([f"Delete {count}, {size}? This cannot be undone.", *names, *more, *stay])


def _tag_problem(text: str) -> str:
    try:
        for word in text.split():
            runs.checked_tag(word)
    except EngineError as error:
        return safe(f"{error.message}: {error.hint}", 200)
    return ""
