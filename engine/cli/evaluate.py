"""`engine evaluate RUN`: base against tuned on held-out rows, as a table and samples side by side."""

from __future__ import annotations

from typing import Any

import click

from engine.cli.common import colour, json_option, line, note, print_json, table
from engine.cli.progress import Progress
from engine.runs import jobs, launch, store
from engine.runs.store import Run

VERDICT_COLOURS = {"better": "green", "worse": "red"}


@click.command()
@click.argument("run")
@click.option("--rows", type=click.IntRange(1, 100_000), help="Held-out rows to score; default: evaluate.max_samples.")
@json_option
def evaluate(run: str, rows: int | None, as_json: bool) -> None:
    """Score base against tuned on the rows that RUN held out: an id, a part of one, or 'last'."""
    found = store.find_run(run)
    report = evaluate_run(found, rows=rows, quiet=as_json)
    if as_json:
        print_json(report)
        return
    show(report)
    note(f"whole report: {found.path / 'eval' / 'report.txt'}")
    note(f"next: engine export {found.id}")


def evaluate_run(run: Run, *, rows: int | None = None, quiet: bool = False) -> dict[str, Any]:
    """The report of an evaluation worker; also called by `engine demo`. Raises its EngineError."""
    progress = Progress(quiet=quiet)
    try:
        return launch.run_job(jobs.evaluation_job(run, rows), progress, directory=run.path / jobs.EVALUATION_FOLDER)
    finally:
        progress.close()


def show(report: dict[str, Any], *, samples: int = 3) -> None:
    """Scores, verdict and a few answers on stdout."""
    from engine.evaluate.page import count_rows, heading, sample_lines, score_rows

    line(heading(report))
    rows = [*score_rows(report), *(row for row in count_rows(report) if row[1:3] != ("0", "0"))]
    for text in table(rows, header=("", "base", "tuned", "change [95 %]"), right=(1, 2)):
        line(text)
    word = str(report["verdict"])
    click.echo(f"verdict: {colour(word, VERDICT_COLOURS.get(word, 'yellow'))}", nl=False)
    line(f" - {report['verdict_reason']}")
    for number, sample in enumerate(report["samples"][:samples], 1):
        line()
        for text in sample_lines(number, sample):
            line(text)
