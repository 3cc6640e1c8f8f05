"""The sweep job: starts trials, follows them, ranks them. `{"job": "sweep"}` in a sweep's directory.

Trials are runs in processes of their own; this process may die and be started again at any time (`engine sweeps
resume`): what it needs stands in the study, in the sweep's directory and in the runs. Called by the worker.
"""

from __future__ import annotations

import time
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.hardware.probe import probe_machine
from engine.jsonvalues import Unreadable
from engine.runs.control import take_requests
from engine.runs.job import Job
from engine.runs.record import load_record
from engine.runs.state import LIVE
from engine.runs.store import Run
from engine.sweep import table, trial
from engine.sweep.starter import Starter, begin
from engine.sweep.state import Work
from engine.sweep.store import trial_runs
from engine.sweep.trial import MOST_RESUMES, LiveTrial

POLL_S = 0.5


def run(job: Job) -> dict[str, Any]:
    """Search until nothing is left, time is up or somebody asks to stop; returns the ranked rows and the best.

    Raises EngineError: RESOURCES when trial after trial fails or nothing drawn can run, DISK when space runs out.
    """
    work = Work(job)
    job.events.write("started", run=work.sweep.id, steps_total=work.told["trials"])
    if work.plan.method == "grid":
        work.study.enqueue(work.told["cells"])
    _adopt(work)
    starter = Starter(work)
    job.stoppable.set()
    while work.live or not (work.is_over or job.stop):
        _obey(work)
        if not job.stop and not work.is_over:
            starter.start_more()
        for one in list(work.live.values()):
            follow(work, one)
        time.sleep(POLL_S)
    job.stoppable.clear()
    return work.result()


def _obey(work: Work) -> None:
    """A request or a signal to stop is passed on to every trial."""
    if "stop" in take_requests(work.job.directory):
        work.job.stop.ask("asked to stop")
        work.job.events.write("control", request="stop", outcome="accepted")
    if work.job.stop:
        for one in (one for one in work.live.values() if not one.stopped):
            work.study.mark(one.number, "held", True)
            one.ask_to_stop()


def _adopt(work: Work) -> None:
    """Trials that an earlier process of this sweep began: those without a run begin, the others are followed."""
    runs = trial_runs(work.sweep.id)
    for noted in work.study.ours():
        run = runs.get(noted.number)
        if run is None:
            begin(work, noted, probe_machine(processes=False), None)
            continue
        one = LiveTrial(noted.number, run, slot=_slot_of(run))
        work.live[noted.number] = one
        if noted.marks.get("held") and one.state() == "stopped":
            take_up(work, one)
        else:
            work.tell(noted.number, "running", "goes on")
        if noted.marks.get("held"):
            work.study.mark(noted.number, "held", False)
    work.write()


def _slot_of(run: Run) -> str | None:
    found = load_record(run.path)
    return None if isinstance(found, Unreadable) else found.launch.gpu or None


GRACE_SHARE = 0.2
"""Of a trial's steps, in which nothing is pruned: the learning rate still rises."""
MOST_FAILURES = 3


def follow(work: Work, one: LiveTrial) -> None:
    """Take in what a trial told, and act on it. Raises EngineError when trial after trial fails."""
    for step, loss in sorted(one.read().items()):
        work.study.report(one.number, step, loss)
        _prune_if_hopeless(work, one, step)
    state = one.state()
    if state in LIVE:
        return
    # A signal is a reboot's or the kernel's; a request is somebody's.
    if state == "lost" or (state == "stopped" and one.reason.startswith("SIG") and not work.job.stop):
        take_up(work, one)
    elif state == "completed":
        _value(work, one)
    elif state == "stopped":
        _stopped(work, one)
    elif trial.diverged(one):
        _end(work, one, "pruned", str(one.error))
    else:
        _end(work, one, "failed", str(one.error) if one.error else "its worker ended without a word")


def take_up(work: Work, one: LiveTrial) -> None:
    """Go on with a run whose worker is gone, a few times at most."""
    if one.resumes >= MOST_RESUMES:
        _end(work, one, "failed", f"its worker vanished {MOST_RESUMES} times")
        return
    one.take_up_again()
    work.tell(one.number, "running", "taken up again")


def _prune_if_hopeless(work: Work, one: LiveTrial, step: int) -> None:
    early = one.steps_total == 0 or step < GRACE_SHARE * one.steps_total or step >= one.steps_total
    if not early and not one.stopped and work.study.is_hopeless(one.number):
        work.study.mark(one.number, "pruned_at", step)
        one.ask_to_stop()


def _value(work: Work, one: LiveTrial) -> None:
    if work.metric != "eval_loss":
        trial.begin_scoring(one, work.metric)
        if not trial.scoring_over(one):
            return
    value = trial.value_of(one, work.metric)
    if value is not None:
        _end(work, one, "completed", value=value)
        return
    _end(work, one, "failed", trial.scoring_error(one) if work.metric != "eval_loss" else "it left no evaluation loss")


def _stopped(work: Work, one: LiveTrial) -> None:
    if work.job.stop:
        del work.live[one.number]
        work.write()
        return
    at = work.study.of(one.number).marks.get("pruned_at")
    _end(work, one, "pruned", f"worse than the others at step {at}" if at else f"stopped by hand at step {one.step}")


def _end(work: Work, one: LiveTrial, state: str, why: str = "", value: float | None = None) -> None:
    work.study.mark(one.number, "took", table.took(one))
    if value is not None:
        work.study.complete(one.number, value)
    elif state == "pruned":
        work.study.prune(one.number, why)
    else:
        work.study.fail(one.number, why)
    del work.live[one.number]
    work.failures = work.failures + 1 if state == "failed" else 0
    work.tell(one.number, state, why, value)
    _let_go(work)
    if work.failures >= MOST_FAILURES:
        raise EngineError(
            f"{MOST_FAILURES} trials in a row failed; the last: {why}",
            code=one.error.code if one.error else ExitCode.RESOURCES,
            where=one.run.id,
            hint=f"see 'engine runs show {one.run.id}'; then: engine sweeps resume {work.sweep.id}",
        )


def _let_go(work: Work) -> None:
    """Weights of trials beyond `keep_weights` go, as was asked for; their events and settings stay."""
    kept = work.plan.sweep.keep_weights
    if kept is None:
        return
    ended = [row for row in work.rows() if row["state"] in ("completed", "pruned") and row["owner"] == work.sweep.id]
    for row in table.ranked(ended, work.metric)[kept:]:
        table.drop_weights(row["run"])
