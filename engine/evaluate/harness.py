"""The harness job: tasks of lm-evaluation-harness for base and tuned, with the models as they are loaded here.

Its job is `{"job": "harness", "tasks": […], "folder": …, …}` with the fields of `engine.inference.evaluated`. lm_eval
is optional; it makes prompts, asks and scores, this module lends it the model and compares. Data sets of tasks come
from where the tasks say: local files, or the hub's cache, or the hub.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from engine.errors import EngineError, ExitCode, is_out_of_memory
from engine.evaluate.bootstrap import FEWEST_ROWS, paired_change
from engine.evaluate.harness_page import harness_page
from engine.evaluate.harness_tasks import check_tasks, require_harness
from engine.evaluate.run import write_report
from engine.inference.answers import harness_batch
from engine.inference.evaluated import EvaluatedModels, open_models
from engine.modeling.adapters import base_of
from engine.runs.job import Job

HARNESS_VERSION = 1
_COUNTS = ("sample_len", "sample_count")
"""Entries among lm_eval's results that are no scores."""


def run(job: Job) -> dict[str, Any]:
    """Run the tasks and return the report. Raises EngineError: ENVIRONMENT without lm_eval, PROFILE for bad tasks."""
    began = time.monotonic()
    require_harness()
    folder = job.params.get("tasks_folder")
    allowed = bool(job.params.get("allow_code"))
    if folder is not None:
        check_tasks(Path(folder), allow_code=allowed)
    subject = open_models(job)
    names = [str(name) for name in job.params["tasks"]]
    with _guarded(allow_code=allowed):
        tasks = _task_manager(names, folder)
        results = {}
        for name, model in subject.load():
            job.phase("evaluate", f"{', '.join(names)} of {name}")
            results[name] = _evaluate(job, subject, name, model, names, tasks)
            del model
    report = {
        "v": HARNESS_VERSION,
        "run": subject.title,
        "tasks": names,
        "scores": scores(results),
        "limit": job.params.get("rows"),
        "chat_template": bool(job.params.get("chat")),
        "lm_eval": _version(),
        **subject.about,
        "seconds": round(time.monotonic() - began, 3),
    }
    place = None if subject.folder is None else subject.folder / "harness"
    if place is not None:
        write_report(place, report, harness_page(report))
    return {"outcome": "completed", **report, "report": None if place is None else str(place / "report.txt")}


def _task_manager(names: Sequence[str], folder: str | None) -> Any:
    """lm_eval's tasks with those of `folder`. Raises EngineError(PROFILE) for names that it does not know."""
    from lm_eval.tasks import TaskManager

    tasks = TaskManager(include_path=folder)
    for name in names:
        if name not in tasks.all_tasks:
            near = difflib.get_close_matches(name, tasks.all_tasks, n=1)
            raise EngineError(
                f"lm-evaluation-harness has no task '{name[:80]}'",
                code=ExitCode.PROFILE,
                where="--harness",
                hint=f"did you mean '{near[0]}'?" if near else "see 'lm_eval ls tasks', or give --harness-tasks DIR",
            )
    return tasks


def _evaluate(
    job: Job, subject: EvaluatedModels, name: str, model: Any, names: Sequence[str], tasks: Any
) -> dict[str, Any]:
    """What lm_eval found for one model."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    base, wanted = base_of(model), subject.settings.evaluate
    batch = harness_batch(base, subject.max_length, wanted.batch_size, job.warn)
    lm = HFLM(pretrained=base, tokenizer=subject.tokenizers[name], batch_size=batch, max_length=subject.max_length)
    try:
        found = simple_evaluate(
            model=lm,
            tasks=list(names),
            task_manager=tasks,
            limit=job.params.get("rows"),
            apply_chat_template=bool(job.params.get("chat")),
            bootstrap_iters=0,
            log_samples=True,
        )
    except Exception as error:
        # Tasks are programs of others: what they raise is theirs, a full memory is ours.
        if isinstance(error, EngineError) or is_out_of_memory(error):
            raise
        raise EngineError(
            f"lm-evaluation-harness could not run {', '.join(names)}: {type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0][:300]}",
            code=ExitCode.DATA,
            where="--harness",
            hint="the run's eval/worker.log says where; a task whose data set is not here needs the network once",
        ) from error
    return dict(found or {})


@contextmanager
def _guarded(*, allow_code: bool) -> Iterator[None]:
    """Templates of tasks in Jinja's sandbox, and no metric loaded as a script, unless code is allowed."""
    import lm_eval.utils as utils
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if allow_code:
        yield
        return
    before = utils.env
    sandbox = ImmutableSandboxedEnvironment(
        loader=before.loader, undefined=before.undefined, keep_trailing_newline=before.keep_trailing_newline
    )
    sandbox.filters.update(before.filters)
    try:
        with patch("lm_eval.utils.env", sandbox), patch("evaluate.load", _refuse_script):
            yield
    except _Refused as refused:
        raise EngineError(
            f"the task asks for the metric '{str(refused)[:80]}', which is a script to be loaded and run",
            code=ExitCode.PROFILE,
            where="--harness",
            hint="use a metric that lm_eval has, or allow code with --allow-task-code",
        ) from None


class _Refused(BaseException):
    """A script that was asked for; lm_eval catches every Exception there and goes on without a metric."""


def _refuse_script(path: str, *_: Any, **__: Any) -> Any:
    raise _Refused(path)


def scores(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry a task and metric: `base`, `tuned`, and the change with its interval over the same questions."""
    tuned, base = results["tuned"], results.get("base", {})
    found = []
    for task, values in tuned.get("results", {}).items():
        for key, value in values.items():
            metric, _, rule = key.partition(",")
            if metric in _COUNTS or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            before = base.get("results", {}).get(task, {}).get(key)
            better = -1 if tuned.get("higher_is_better", {}).get(task, {}).get(metric) is False else 1
            entry = {"task": task, "metric": metric, "filter": rule, "base": before, "tuned": value, "better": better}
            found.append(entry | _change(task, metric, rule, better, base, tuned))
    return found


def _change(
    task: str, metric: str, rule: str, better: int, base: dict[str, Any], tuned: dict[str, Any]
) -> dict[str, Any]:
    """Paired over questions where the metric is their mean; other metrics have no interval."""
    one, other = (_by_question(found, task, metric, rule) for found in (base, tuned))
    shared = sorted(set(one) & set(other))
    if len(shared) < FEWEST_ROWS:
        return {"rows": len(other), "delta": None, "interval": None, "direction": 0}
    change = paired_change(metric, [one[key] for key in shared], [other[key] for key in shared], better=better)
    interval = [change.low, change.high]
    return {"rows": len(shared), "delta": change.delta, "interval": interval, "direction": change.direction}


def _by_question(found: dict[str, Any], task: str, metric: str, rule: str) -> dict[int, float]:
    """The metric of every question, where it is one number a question."""
    samples = found.get("samples", {}).get(task, [])
    return {
        int(sample["doc_id"]): float(sample[metric])
        for sample in samples
        if sample.get("filter", "none") == rule and isinstance(sample.get(metric), (int, float))
    }


def _version() -> str:
    from importlib.metadata import version

    return version("lm_eval")
