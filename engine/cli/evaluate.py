"""`engine evaluate RUN`: score base and tuned model on held-out rows; print a table and samples side by side.

Also scores a model at a path (an export, a GGUF file), and runs tasks of lm-evaluation-harness.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.common import color, json_option, line, note, print_json
from engine.cli.names import complete_runs, or_path
from engine.cli.profile_argument import set_option
from engine.cli.progress import Progress
from engine.errors import EngineError, ExitCode
from engine.evaluate.target import Asked, job_of
from engine.runs import jobs, launch
from engine.runs.store import Run

VERDICT_COLORS = {"better": "green", "worse": "red", "worse, and forgetting": "red"}


@click.command()
@click.argument("target", metavar="RUN|PATH", shell_complete=or_path(complete_runs))
@click.option("--rows", type=click.IntRange(1, 100_000), help="Rows to score; default: evaluate.max_samples.")
@click.option(
    "--data",
    metavar="PATH",
    multiple=True,
    help="Score these rows instead of the run's held-out rows. Repeat it for several tables.",
)
@click.option(
    "--column",
    "columns",
    metavar="ROLE=NAME",
    multiple=True,
    help="Own column names in --data, as instruction=question; default: the run's, where they fit. May be repeated.",
)
@click.option(
    "--run",
    metavar="RUN",
    shell_complete=complete_runs,
    help="For a PATH: use this run's rows and base; default: the run that holds PATH.",
)
@click.option("--base", metavar="MODEL", help="For a PATH: the model to compare with.")
@set_option
@click.option("--harness", metavar="TASK[,TASK]", help="Run these tasks of lm-evaluation-harness instead.")
@click.option("--harness-tasks", metavar="DIR", help="A folder of task files of your own for --harness.")
@click.option("--harness-chat", is_flag=True, help="Ask the tasks' questions in the model's chat template.")
@click.option("--allow-task-code", is_flag=True, help="Let task files run the Python code that they name.")
@json_option
def evaluate(
    target: str,
    rows: int | None,
    data: tuple[str, ...],
    columns: tuple[str, ...],
    run: str | None,
    base: str | None,
    overrides: tuple[str, ...],
    harness: str | None,
    harness_tasks: str | None,
    harness_chat: bool,
    allow_task_code: bool,
    as_json: bool,
) -> None:
    """Score base against tuned on the held-out rows of RUN. RUN is an id, a part of one, or 'last'.

    A PATH is a model directory, an adapter folder or a GGUF file. If 'engine export' wrote it into a run, that run
    gives the rows and the base; for any other, add --run, or --data and --base. --set changes settings of
    [evaluate], model.max_length, data.system, data.mask and launch.device.
    """
    tasks = harness_job(harness, harness_tasks, chat=harness_chat, allow_code=allow_task_code)
    job, owner = job_of(Asked(target, run, data, base, overrides, columns), needs_rows=not tasks)
    report = run_worker({**job, "rows": rows, **tasks}, owner, quiet=as_json)
    if as_json:
        print_json(report)
        return
    shown = show_tasks if tasks else show
    for one in (report, *report.get("more", ())):
        shown(one)
        if one["report"]:
            note(f"whole report: {one['report']}")
    if owner is not None and job["path"] is None:
        note(f"next: engine export {owner.id}")


def harness_job(tasks: str | None, folder: str | None, *, chat: bool, allow_code: bool) -> dict[str, Any]:
    """The job fields of lm-evaluation-harness; empty without --harness.

    Raises EngineError before a model loads: ENVIRONMENT if the harness is missing, PROFILE for tasks with code.
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
    """Print the scores of lm-evaluation-harness."""
    from engine.evaluate.harness_page import harness_lines

    for text in harness_lines(report):
        line(text)


def evaluate_run(run: Run, *, rows: int | None = None, quiet: bool = False) -> dict[str, Any]:
    """Evaluate a run in a worker and return the report. Raises the worker's EngineError."""
    job, _ = job_of(Asked(str(run.path)))
    return run_worker({**job, "rows": rows}, run, quiet=quiet)


def run_worker(job: dict[str, Any], run: Run | None, *, quiet: bool) -> dict[str, Any]:
    """Run a worker and return its result; its log goes into the run's `eval/`."""
    progress = Progress(quiet=quiet)
    try:
        return launch.run_job(job, progress, directory=None if run is None else run.path / jobs.EVALUATION_FOLDER)
    finally:
        progress.close()


def show(result: dict[str, Any], *, samples: int = 3) -> None:
    """Print scores, verdict and a few answers."""
    from engine.evaluate.page import body_lines, sample_lines, verdict_lines
    from engine.evaluate.report import read_report_of

    report = read_report_of(result)
    for text in body_lines(report):
        line(text)
    word, first, *rest = verdict_lines(report)
    click.echo(f"verdict: {color(word, VERDICT_COLORS.get(word, 'yellow'))}", nl=False)
    for text in (first, *rest):
        line(text)
    for number, sample in enumerate(report.samples[:samples], 1):
        line()
        for text in sample_lines(number, sample):
            line(text)
