"""The next trials of a sweep: where there is room for one, with which settings, and whether it can run.

Not here: which settings come next (`study.py`), what becomes of a trial (`run.py`).
"""

from __future__ import annotations

import shutil
import time

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Machine
from engine.hardware.probe import probe_machine
from engine.sweep import trial
from engine.sweep.combinations import Cell, resolve_cell, trial_text
from engine.sweep.slots import fixed_for, free_slots
from engine.sweep.state import Work
from engine.sweep.study import MISSED, Noted
from engine.text import format_bytes

MOST_MISSES = 50
"""Drawn settings in a row that cannot run."""
PROBE_EVERY_S = 5.0


class Starter:
    """Fills free places with trials; looks at the machine only as often as memory can have changed."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._looked_at = -PROBE_EVERY_S
        self._is_waiting = False

    def start_more(self) -> None:
        """Start what there is room for. Raises EngineError: DISK, or RESOURCES when nothing drawn can run."""
        work = self._work
        parallel = work.plan.sweep.parallel
        if time.monotonic() - self._looked_at < PROBE_EVERY_S:
            return
        if _is_late(work):
            return
        machine = probe_machine(processes=False)
        busy = [one.slot for one in work.live.values()]
        slots = free_slots(
            machine, work.told["device"], parallel, work.told["needed_bytes"], busy, work.told.get("gpu")
        )
        for slot in slots:
            check_disk(work)
            noted = work.study.ask()
            if noted is None:
                work.is_over = True
                return
            begin(work, noted, machine, slot)
        if not slots:
            self._looked_at = time.monotonic()
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        """Once, when the whole machine is somebody else's."""
        work = self._work
        if not work.live and not self._is_waiting:
            self._is_waiting = True
            needed = format_bytes(work.told["needed_bytes"])
            work.job.warn("no_free_gpu", f"no GPU has {needed} free: waiting until one has")


def _is_late(work: Work) -> bool:
    hours = work.plan.sweep.max_hours
    if hours is None or time.monotonic() - work.began <= hours * 3600:
        return False
    work.job.warn("time_is_up", f"{hours:g} hours have passed: no further trial is started")
    work.is_over = True
    return True


def begin(work: Work, noted: Noted, machine: Machine, slot: str | None) -> None:
    """Start a trial's run, or say why there is none: its twin has been trained, or its settings cannot run."""
    twin = _twin(work, noted)
    if twin is not None and twin.value is not None:
        work.study.mark(noted.number, "why", f"as trial {twin.number}, not trained again")
        work.study.complete(noted.number, twin.value)
        work.tell(noted.number, "completed", f"as trial {twin.number}", twin.value)
        return
    fixed = fixed_for(machine, work.told["device"], work.plan.sweep.parallel, slot)
    cell = resolve_cell(work.plan, noted.params, machine, fixed)
    if cell.resolved is None:
        _miss(work, noted, cell)
        return
    work.misses = 0
    run_json = trial.run_json_of(cell.resolved.to_run_json(), work.sweep.id, noted.number, noted.params)
    gpu = slot or cell.resolved.settings.launch.gpu
    one = trial.begin(noted.number, str(work.told["name"]), run_json, trial_text(work.plan, noted.params), gpu)
    work.live[noted.number] = one
    work.study.mark(noted.number, "run", one.run.id)
    work.tell(noted.number, "running")


def _twin(work: Work, noted: Noted) -> Noted | None:
    """A trial with the same settings that has its value: training is repeatable, so it would come out the same."""
    return next((one for one in work.study.all() if one.value is not None and one.params == noted.params), None)


def _miss(work: Work, noted: Noted, cell: Cell) -> None:
    work.study.mark(noted.number, MISSED, True)
    work.study.fail(noted.number, cell.why)
    work.tell(noted.number, "failed", cell.why)
    work.misses += 1
    if work.misses >= MOST_MISSES:
        raise EngineError(
            f"{MOST_MISSES} settings in a row cannot run; the last: {cell.why}",
            code=ExitCode.RESOURCES,
            hint="narrow sweep.space to what this machine can train",
        )


def check_disk(work: Work) -> None:
    """Raises EngineError(DISK) when the next trial's run may not find room."""
    free, needed = shutil.disk_usage(work.job.directory).free, int(work.told["trial_disk_bytes"])
    if free < needed:
        raise EngineError(
            f"a trial takes up to {format_bytes(needed)} of disk, {format_bytes(free)} are free",
            code=ExitCode.DISK,
            where=str(work.job.directory),
            hint=f"free space, or set sweep.keep_weights; then: engine sweeps resume {work.sweep.id}",
        )
