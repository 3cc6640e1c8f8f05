"""The sweep job: starts trials, follows them, ranks them. `{"job": "sweep"}` in a sweep's directory.

Trials are runs in processes of their own; this process may die and be started again at any time (`engine sweeps
resume`): what it needs stands in the study, in the sweep's directory and in the runs. Called by the worker.
"""

from __future__ import annotations

import time
from typing import Any

from engine.hardware.probe import probe_machine
from engine.runs.control import take_requests
from engine.runs.job import Job
from engine.runs.store import Run
from engine.sweep import table
from engine.sweep.following import follow, take_up
from engine.sweep.starting import Starter, begin
from engine.sweep.store import trial_runs
from engine.sweep.trial import LiveTrial
from engine.sweep.work import Work

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
    launch = table.read_or_empty(run.path / "run.json").get("settings", {}).get("launch", {})
    return str(launch["gpu"]) if launch.get("gpu") else None
