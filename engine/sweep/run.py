"""The sweep job: starts trials, follows them, ranks them. `{"job": "sweep"}` in a sweep's directory.

Trials are runs in processes of their own; this process may die and be started again at any time (`engine sweeps
resume`): what it needs stands in the study, in the sweep's directory and in the runs.
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
from engine.runs.state import LIVE_STATES
from engine.runs.store import Run
from engine.sweep import table, trial
from engine.sweep.starter import Starter, begin
from engine.sweep.state import SweepState
from engine.sweep.store import trial_runs
from engine.sweep.trial import MOST_RESUMES, LiveTrial

POLL_S = 0.5


def run(job: Job) -> dict[str, Any]:
    """Search until nothing is left, time is up or somebody asks to stop; returns the ranked rows and the best.

    Raises EngineError: RESOURCES when trial after trial fails or nothing drawn can run, DISK when space runs out.
    """
    state = SweepState(job)
    job.events.write("started", run=state.sweep.id, steps_total=state.document.trials)
    if state.plan.method == "grid":
        state.study.enqueue(state.document.cells)
    _adopt(state)
    starter = Starter(state)
    job.stoppable.set()
    while state.live or not (state.is_over or job.stop):
        _obey(state)
        if not job.stop and not state.is_over:
            starter.start_more()
        for live in list(state.live.values()):
            follow(state, live)
        time.sleep(POLL_S)
    job.stoppable.clear()
    return state.result()


def _obey(state: SweepState) -> None:
    """A request or a signal to stop is passed on to every trial."""
    if "stop" in take_requests(state.job.directory):
        state.job.stop.ask("asked to stop")
        state.job.events.write("control", request="stop", outcome="accepted")
    if state.job.stop:
        for one in (one for one in state.live.values() if not one.stopped):
            state.study.mark(one.number, "held", True)
            one.ask_to_stop()


def _adopt(state: SweepState) -> None:
    """Trials that an earlier process of this sweep began: those without a run begin, the others are followed."""
    runs = trial_runs(state.sweep.id)
    for begun in state.study.ours():
        run = runs.get(begun.number)
        if run is None:
            begin(state, begun, probe_machine(processes=False), None)
            continue
        live = LiveTrial(begun.number, run, slot=_slot_of(run))
        state.live[begun.number] = live
        if begun.marks.get("held") and live.state() == "stopped":
            take_up(state, live)
        else:
            state.write_event(begun.number, "running", "goes on")
        if begun.marks.get("held"):
            state.study.mark(begun.number, "held", False)
    state.write()


def _slot_of(run: Run) -> str | None:
    found = load_record(run.path)
    return None if isinstance(found, Unreadable) else found.launch.gpu or None


GRACE_SHARE = 0.2
"""Of a trial's steps, in which nothing is pruned: the learning rate still rises."""
MOST_FAILURES = 3


def follow(state: SweepState, live: LiveTrial) -> None:
    """Take in what a trial told, and act on it. Raises EngineError when trial after trial fails."""
    for step, loss in sorted(live.read().items()):
        state.study.report(live.number, step, loss)
        _prune_if_hopeless(state, live, step)
    run_state = live.state()
    if run_state in LIVE_STATES:
        return
    # A signal is a reboot's or the kernel's; a request is somebody's.
    if run_state == "lost" or (run_state == "stopped" and live.reason.startswith("SIG") and not state.job.stop):
        take_up(state, live)
    elif run_state == "completed":
        _value(state, live)
    elif run_state == "stopped":
        _stopped(state, live)
    elif trial.diverged(live):
        _end(state, live, "pruned", str(live.error))
    else:
        _end(state, live, "failed", str(live.error) if live.error else "its worker ended without saying why")


def take_up(state: SweepState, live: LiveTrial) -> None:
    """Go on with a run whose worker is gone, a few times at most."""
    if live.resumes >= MOST_RESUMES:
        _end(state, live, "failed", f"its worker vanished {MOST_RESUMES} times")
        return
    live.take_up_again()
    state.write_event(live.number, "running", "taken up again")


def _prune_if_hopeless(state: SweepState, live: LiveTrial, step: int) -> None:
    early = live.steps_total == 0 or step < GRACE_SHARE * live.steps_total or step >= live.steps_total
    if not early and not live.stopped and state.study.is_hopeless(live.number):
        state.study.mark(live.number, "pruned_at", step)
        live.ask_to_stop()


def _value(state: SweepState, live: LiveTrial) -> None:
    if state.metric != "eval_loss":
        trial.begin_scoring(live, state.metric)
        if not trial.scoring_over(live):
            return
    value = trial.value_of(live, state.metric)
    if value is not None:
        _end(state, live, "completed", value=value)
        return
    _end(
        state,
        live,
        "failed",
        trial.scoring_error(live) if state.metric != "eval_loss" else "it left no evaluation loss",
    )


def _stopped(state: SweepState, live: LiveTrial) -> None:
    if state.job.stop:
        del state.live[live.number]
        state.write()
        return
    at = state.study.of(live.number).marks.get("pruned_at")
    _end(state, live, "pruned", f"worse than the others at step {at}" if at else f"stopped by hand at step {live.step}")


def _end(state: SweepState, live: LiveTrial, outcome: str, why: str = "", value: float | None = None) -> None:
    state.study.mark(live.number, "took", table.took(live))
    if value is not None:
        state.study.complete(live.number, value)
    elif outcome == "pruned":
        state.study.prune(live.number, why)
    else:
        state.study.fail(live.number, why)
    del state.live[live.number]
    state.failures = state.failures + 1 if outcome == "failed" else 0
    state.write_event(live.number, outcome, why, value)
    _let_go(state)
    if state.failures >= MOST_FAILURES:
        raise EngineError(
            f"{MOST_FAILURES} trials in a row failed; the last: {why}",
            code=live.error.code if live.error else ExitCode.RESOURCES,
            where=live.run.id,
            hint=f"see 'engine runs show {live.run.id}'; then: engine sweeps resume {state.sweep.id}",
        )


def _let_go(state: SweepState) -> None:
    """Weights of trials beyond `keep_weights` go, as was asked for; their events and settings stay."""
    keep = state.plan.sweep.keep_weights
    if keep is None:
        return
    ended = [row for row in state.rows() if row.state in ("completed", "pruned") and row.owner == state.sweep.id]
    for row in table.ranked(ended, state.metric)[keep:]:
        table.drop_weights(row.run)
