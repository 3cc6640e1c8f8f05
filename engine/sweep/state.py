"""The state of a sweep at work: its document, study and live trials, and how its progress is written down."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from engine.profile.load import load_text
from engine.runs.job import Job
from engine.runs.store import Run
from engine.sweep import table
from engine.sweep.best import write_best
from engine.sweep.combinations import plan_of
from engine.sweep.document import read_document
from engine.sweep.study import Search, Study, cut_torn_line
from engine.sweep.trial import LiveTrial


class SweepState:
    """Shared by the loop and the starter of trials.

    `failures` and `misses`: in a row, trials that failed and settings that could not run.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.sweep = job, Run(job.directory.name, job.directory)
        self.document = read_document(self.sweep)
        text = (job.directory / "profile.toml").read_text(encoding="utf-8")
        self.plan = plan_of(load_text(text, Path(self.document.profile_path)))
        settings = self.plan.sweep
        self.metric = settings.metric
        search = Search(
            name=self.document.study,
            dimensions=self.plan.dimensions,
            method=self.plan.method,
            trials=self.document.trials,
            metric=settings.metric,
            pruner=settings.pruner,
            seed=settings.seed,
        )
        if not self.document.shared:
            cut_torn_line(Path(self.document.storage))
        self.study = Study(search, self.document.storage, self.sweep.id, shared=self.document.shared)
        self.live: dict[int, LiveTrial] = {}
        self.failures = self.misses = 0
        self.began = time.monotonic()
        self.is_over = False

    def rows(self) -> list[table.TrialRow]:
        """Every trial as it stands."""
        return [table.row_of(trial, self.live.get(trial.number)) for trial in self.study.all()]

    def write(self) -> list[table.TrialRow]:
        """Put trials.json and best.toml in place; returns the rows."""
        rows = self.rows()
        table.write_rows(self.job.directory, rows)
        write_best(self.sweep, self.plan, table.ranked(rows, self.metric))
        return rows

    def write_event(self, number: int, state: str, why: str = "", value: float | None = None) -> None:
        """An event for a trial that began or ended, and how far the sweep is."""
        rows = self.write()
        row = next(row for row in rows if row.trial == number)
        self.job.events.write(
            "trial",
            trial=number,
            state=state,
            metric=self.metric,
            value=value,
            reason=why,
            params=row.params,
            run=row.run,
        )
        ended = sum(1 for row in rows if row.state in table.ENDED)
        self.job.progress("sweep", ended, self.document.trials, "trials")

    def result(self) -> dict[str, Any]:
        """What the job returns: outcome, ranked rows and the best of them."""
        rows = table.ranked(self.write(), self.metric)
        return {
            "outcome": "stopped" if self.job.stop else "completed",
            "reason": self.job.stop.reason,
            "metric": self.metric,
            "trials": [row.to_json() for row in rows],
            "best": rows[0].to_json() if rows and rows[0].value is not None else None,
            "seconds": round(time.monotonic() - self.began, 3),
        }
