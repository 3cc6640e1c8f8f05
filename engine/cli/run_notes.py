"""`engine runs tag` and `engine runs note`: what a person says of a run."""

from __future__ import annotations

import click

from engine.cli.common import json_option, line, note, print_json, warn
from engine.cli.names import complete_runs
from engine.runs import store
from engine.runs.notes import RunNotes, change_note, change_tags, load_notes
from engine.runs.store import Run


# Not -h: '-archive' is a tag that goes, and click looks into it for short options.
@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@click.argument("changes", metavar="[+TAG|-TAG]...", nargs=-1)
@json_option
def tag(run_id: str, changes: tuple[str, ...], as_json: bool) -> None:
    """Add tags to a run and take them away: +keep adds, -old removes; without any, print them.

    'engine runs list tag:keep' lists runs by their tags.
    """
    run = store.find_run(run_id)
    _tell(run, change_tags(run.path, changes) if changes else load_notes(run.path), as_json, "tags")


@click.command("note")
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@click.argument("text", metavar="[TEXT]...", nargs=-1)
@json_option
def note_(run_id: str, text: tuple[str, ...], as_json: bool) -> None:
    """Keep a note with a run; '' takes it away; without TEXT, print it."""
    run = store.find_run(run_id)
    _tell(run, change_note(run.path, " ".join(text)) if text else load_notes(run.path), as_json, "note")


def _tell(run: Run, notes: RunNotes, as_json: bool, what: str) -> None:
    if notes.problem:
        warn(notes.problem)
    if as_json:
        print_json({"run": run.id, "tags": list(notes.tags), "note": notes.note})
        return
    shown = " ".join(notes.tags) if what == "tags" else notes.note
    line(shown) if shown else note(f"{run.id} has no {what}")
