"""`engine jobs`: what is at work on this machine: trainings, evaluations, exports, chats, looks at data."""

from __future__ import annotations

import time

import click

from engine.cli.common import json_option, line, note, print_json, table
from engine.runs.at_work import Work, at_work
from engine.text import format_duration


@click.command()
@json_option
def jobs(as_json: bool) -> None:
    """List your workers on this machine: what each does, on which run, since when, and who waits for it.

    A job ends with the command that waits for it; runs, sweeps and what the deck starts go on by themselves.
    """
    found, now_s = at_work(), time.time()
    if as_json:
        print_json({"jobs": [_facts(work) for work in found]})
        return
    if not found:
        note("nothing is at work")
        return
    rows = [_row(work, now_s) for work in found]
    for text in table(rows, header=("pid", "command", "run or folder", "for", "goes on")):
        line(text)
    note("end one: engine runs stop RUN, engine sweeps stop SWEEP, or 'kill PID' for a job")


def _facts(work: Work) -> dict[str, object]:
    run = None if work.run is None else work.run.name
    return {
        "pid": work.pid,
        "command": work.command,
        "run": run,
        "path": str(work.place),
        "since": work.since,
        "waited_for_by": work.waited_for_by,
    }


def _row(work: Work, now_s: float) -> tuple[str, ...]:
    age = format_duration(now_s - work.since) if work.since else "?"
    goes_on = "by itself" if work.waited_for_by is None else f"with pid {work.waited_for_by}"
    return str(work.pid), work.command, work.run.name if work.run else str(work.place), age, goes_on
