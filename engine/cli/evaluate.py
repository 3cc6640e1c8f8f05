"""`engine evaluate RUN`: base against tuned on held-out rows, as a table and samples side by side.

Also for a model at a path (an export, a GGUF file), and with the tasks of lm-evaluation-harness.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.common import colour, json_option, line, note, print_json
from engine.cli.progress import Progress
from engine.errors import EngineError, ExitCode
from engine.evaluate.target import Asked, job_of
from engine.runs import jobs, launch
from engine.runs.store import Run

VERDICT_COLOURS = {"better": "green", "worse": "red", "worse, and forgetting": "red"}


@click.command()
@click.argument("target", metavar="RUN|PATH")
@click.option("--rows", type=click.IntRange(1, 100_000), help="Rows to score; default: evaluate.max_samples.")
@click.option("--data", metavar="PATH", help="Score these rows instead of those that the run held out.")
@click.option("--run", metavar="RUN", help="For a PATH: the run whose rows and base serve; default: where it lies.")
@click.option("--base", metavar="MODEL", help="For a PATH: the model to compare with.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of [evaluate]; repeatable.")
@click.option("--harness", metavar="TASK[,TASK]", help="Run these tasks of lm-evaluation-harness instead.")
@click.option("--harness-tasks", metavar="DIR", help="A folder of task files of your own for --harness.")
@click.option("--harness-chat", is_flag=True, help="Ask the tasks' questions in the model's chat template.")
@click.option("--allow-task-code", is_flag=True, help="Let task files run the Python code that they name.")
@json_option
def evaluate(
    target: str,
    rows: int | None,
    data: str | None,
    run: str | None,
    base: str | None,
    overrides: tuple[str, ...],
    harness: str | None,
    harness_tasks: str | None,
    harness_chat: bool,
    allow_task_code: bool,
    as_json: bool,
) -> None:
    """Score base against tuned on the rows that RUN held out: an id, a part of one, or 'last'.

    A PATH is a model directory, an adapter folder or a GGUF file: one that 'engine export' wrote into a run is
    measured on that run's rows, beside its base; any other with --run, or with --data and --base.
    """
    tasks = harness_job(harness, harness_tasks, chat=harness_chat, allow_code=allow_task_code)
    job, owner = job_of(Asked(target, run, data, base, overrides), needs_rows=not tasks)
    report = run_worker({**job, "rows": rows, **tasks}, owner, quiet=as_json)
    if as_json:
        print_json(report)
        return
    show_tasks(report) if tasks else show(report)
    if report["report"]:
        note(f"whole report: {report['report']}")
    if owner is not None and job["path"] is None:
        note(f"next: engine export {owner.id}")


def harness_job(tasks: str | None, folder: str | None, *, chat: bool, allow_code: bool) -> dict[str, Any]:
    """What a job of lm-evaluation-harness has beside its models; empty where it was not asked for.

    Raises EngineError before anything is loaded: ENVIRONMENT where it is not installed, PROFILE for tasks with code.
    """
    from engine.evaluate.harness_tasks import check_tasks, require_harness

    names = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    if not names:
        if tasks is not None or folder is not None:
            raise EngineError("no task is named", code=ExitCode.PROFILE, where="--harness", hint="add --harness TASK")
        return {}
    require_harness()
    if folder is not None:
        check_tasks(Path(folder), allow_code=allow_code)
    place = None if folder is None else str(Path(folder).resolve())
    return {"job": "harness", "tasks": names, "tasks_folder": place, "chat": chat, "allow_code": allow_code}


def show_tasks(report: dict[str, Any]) -> None:
    """What lm-evaluation-harness found, on stdout."""
    from engine.evaluate.harness_page import harness_lines

    for text in harness_lines(report):
        line(text)


def evaluate_run(run: Run, *, rows: int | None = None, quiet: bool = False) -> dict[str, Any]:
    """The report of an evaluation worker; also called by `engine demo`. Raises its EngineError."""
    job, _ = job_of(Asked(str(run.path)))
    return run_worker({**job, "rows": rows}, run, quiet=quiet)


def run_worker(job: dict[str, Any], run: Run | None, *, quiet: bool) -> dict[str, Any]:
    """The result of a worker; a run's `eval/` keeps its log."""
    progress = Progress(quiet=quiet)
    try:
        return launch.run_job(job, progress, directory=None if run is None else run.path / jobs.EVALUATION_FOLDER)
    finally:
        progress.close()


def show(result: dict[str, Any], *, samples: int = 3) -> None:
    """Scores, verdict and a few answers on stdout."""
    from engine.evaluate.page import body_lines, sample_lines, verdict_lines
    from engine.evaluate.report import read_report_of

    report = read_report_of(result)
    for text in body_lines(report):
        line(text)
    word, first, *rest = verdict_lines(report)
    click.echo(f"verdict: {colour(word, VERDICT_COLOURS.get(word, 'yellow'))}", nl=False)
    for text in (first, *rest):
        line(text)
    for number, sample in enumerate(report.samples[:samples], 1):
        line()
        for text in sample_lines(number, sample):
            line(text)
