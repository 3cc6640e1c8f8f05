"""One trial: an ordinary run, followed from its start (or from wherever it stands) to its value.

A trial's run lives in a process of its own and outlives the sweep's worker, which finds it again by what stands in
its run.json. Nothing here blocks. Not here: which settings, and what the value means for others (`study.py`).
"""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.jsonvalues import Unreadable, number_in, table_in, whole_in
from engine.resolve.search_space import METRIC_NEEDS
from engine.runs import control, jobs, launch
from engine.runs.events import Event, EventReader, read_events
from engine.runs.record import RESULT_FILE, load_result, summary_or_empty
from engine.runs.state import LIVE_STATES, run_state
from engine.runs.store import Run
from engine.runs.view import widest

SCORING_FOLDER = "score"
"""Of a run: the job that measures what ranks it."""
MOST_RESUMES = 3
"""How often a run whose worker vanished is taken up again."""


@dataclass(slots=True)
class LiveTrial:
    """A trial at work. `slot`: the GPU it holds; `losses`: evaluation losses by step, of this and earlier starts."""

    number: int
    run: Run
    slot: str | None = None
    process: subprocess.Popen[bytes] | None = None
    scoring: subprocess.Popen[bytes] | None = None
    events: EventReader = field(init=False)
    step: int = 0
    steps_total: int = 0
    losses: dict[int, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    error: EngineError | None = None
    reason: str = ""
    """Why the run ended, in its own words."""
    stopped: bool = False
    resumes: int = 0

    def __post_init__(self) -> None:
        self.events = EventReader(self.run.events_path)

    def read(self) -> dict[int, float]:
        """Take in what the run told since the last call; evaluation losses that are new, by step."""
        fresh: dict[int, float] = {}
        for event in self.events.read():
            self._take(event, fresh)
        self.losses |= fresh
        return fresh

    def _take(self, event: Event, fresh: dict[int, float]) -> None:
        kind = event["type"]
        if kind == "started":
            self.error, self.reason = None, ""
        elif kind == "finished":
            self.reason = str(event.get("reason") or "")
        elif kind == "error":
            self.error = EngineError.from_dict(event)
        elif kind == "calibration":
            measured = widest(event)[1]
            self.peak_bytes = int(measured) if measured else self.peak_bytes
        elif kind == "train_step":
            self.step = whole_in(event, "step") or self.step
            self.steps_total = whole_in(event, "steps_total") or self.steps_total
        elif kind == "eval" and (step := whole_in(event, "step")):
            loss = number_in(event, "loss")
            fresh[step] = float("nan") if loss is None else loss

    def state(self) -> str:
        """The run's state; a child that ended is collected, one that has not is alive whatever its files say yet."""
        is_alive = self.process is not None and self.process.poll() is None
        found = run_state(self.run)
        return found if found in LIVE_STATES or not is_alive else "starting"

    def ask_to_stop(self) -> None:
        """Save and stop after the current step, once."""
        if not self.stopped:
            self.stopped = True
            control.request(self.run.path, "stop")

    def take_up_again(self) -> None:
        """Start its worker again from its newest checkpoint. Raises EngineError as `resume_run`."""
        self.resumes += 1
        self.stopped = False
        self.process = launch.resume_run(self.run)


def begin(number: int, name: str, run_json: dict[str, Any], text: str, slot: str | None) -> LiveTrial:
    """Start a trial's run. Raises EngineError(DISK)."""
    run, process = launch.start_run(f"{name}-{number}", run_json, text)
    return LiveTrial(number, run, slot, process)


def run_json_of(resolved_json: dict[str, Any], sweep_id: str, number: int, params: dict[str, Any]) -> dict[str, Any]:
    """A trial's run.json: which sweep's it is, and that its settings are the sweep's choice."""
    provenance = dict(resolved_json["provenance"])
    for key in params:
        for leaf in (one for one in provenance if one == key or one.startswith(f"{key}.")):
            provenance[leaf] = {**provenance[leaf], "source": "override", "reason": f"trial {number} of a sweep"}
    told = {"id": sweep_id, "trial": number, "params": params}
    return {**resolved_json, "provenance": provenance, "sweep": told}


def value_of(trial: LiveTrial, metric: str) -> float | None:
    """What ranks a run that ended: the loss of the weights it kept, or a score of its evaluation; None when missing."""
    if metric == "eval_loss":
        summary = summary_or_empty(trial.run.path)
        loss = None if summary.weights_step is None else trial.losses.get(summary.weights_step)
        found = loss if loss is not None else summary.best_eval_loss
    else:
        found = _score(trial.run.path / SCORING_FOLDER, metric)
    return found if found is not None and math.isfinite(found) else None


def _score(place: Path, metric: str) -> float | None:
    """The run's own score by `metric`, as its evaluation left it."""
    found = load_result(place)
    return None if isinstance(found, Unreadable) else number_in(table_in(found, "tuned"), metric)


def begin_scoring(trial: LiveTrial, metric: str) -> None:
    """Measure the run's own answers by `metric` in a worker, unless one works there or has done so."""
    place = trial.run.path / SCORING_FOLDER
    if launch.is_at_work(place) or (place / RESULT_FILE).is_file() or trial.scoring is not None:
        return
    job = jobs.evaluation_job(trial.run)
    evaluate = {**job["run_json"]["settings"]["evaluate"], "metrics": [METRIC_NEEDS[metric]]}
    settings = {**job["run_json"]["settings"], "evaluate": evaluate}
    trial.scoring = launch.begin_job({**job, "settings": settings, "alone": True}, place)


def scoring_over(trial: LiveTrial) -> bool:
    """Whether the evaluation has ended, well or not."""
    if trial.scoring is not None:
        return trial.scoring.poll() is not None
    return not launch.is_at_work(trial.run.path / SCORING_FOLDER)


def scoring_error(trial: LiveTrial) -> str:
    """Why an evaluation left no score."""
    events, _ = read_events(trial.run.path / SCORING_FOLDER / "events.jsonl")
    told = next((event for event in reversed(events) if event["type"] == "error"), None)
    return str(told.get("message")) if told else "the evaluation left no score"


def diverged(trial: LiveTrial) -> bool:
    """Whether the run ended because its loss is no number: that says something of its settings."""
    return trial.error is not None and trial.error.code is ExitCode.DIVERGED
