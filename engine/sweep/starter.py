"""The next trials of a sweep: where there is room for one, with which settings, and whether it can run.

Not here: which settings come next (`study.py`), what becomes of a trial (`run.py`).
"""

from __future__ import annotations

import shutil
import time

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Machine
from engine.hardware.probe import probe_machine
from engine.sweep import trial as trial_runs
from engine.sweep.combinations import Combination, resolve_combination, trial_text
from engine.sweep.slots import fixed_for, free_slots
from engine.sweep.state import SweepState
from engine.sweep.study import MISSED, Trial
from engine.text import format_bytes

MOST_MISSES = 50
"""Drawn settings in a row that cannot run."""
PROBE_EVERY_S = 5.0


class Starter:
    """Fills free places with trials; looks at the machine only as often as memory can have changed."""

    def __init__(self, state: SweepState) -> None:
        self._state = state
        self._looked_at = -PROBE_EVERY_S
        self._is_waiting = False

    def start_more(self) -> None:
        """Start what there is room for. Raises EngineError: DISK, or RESOURCES when nothing drawn can run."""
        state = self._state
        parallel = state.plan.sweep.parallel
        if time.monotonic() - self._looked_at < PROBE_EVERY_S:
            return
        if _is_late(state):
            return
        machine = probe_machine(processes=False)
        busy = [one.slot for one in state.live.values()]
        slots = free_slots(
            machine, state.document.device, parallel, state.document.needed_bytes, busy, state.document.gpu
        )
        for slot in slots:
            check_disk(state)
            trial = state.study.ask()
            if trial is None:
                state.is_over = True
                return
            begin(state, trial, machine, slot)
        if not slots:
            self._looked_at = time.monotonic()
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        """Once, when the whole machine is somebody else's."""
        state = self._state
        if not state.live and not self._is_waiting:
            self._is_waiting = True
            needed = format_bytes(state.document.needed_bytes)
            state.job.warn("no_free_gpu", f"no GPU has {needed} free: waiting until one has")


def _is_late(state: SweepState) -> bool:
    hours = state.plan.sweep.max_hours
    if hours is None or time.monotonic() - state.began <= hours * 3600:
        return False
    state.job.warn("time_is_up", f"{hours:g} hours have passed: no further trial is started")
    state.is_over = True
    return True


def begin(state: SweepState, trial: Trial, machine: Machine, slot: str | None) -> None:
    """Start a trial's run, or say why there is none: its twin has been trained, or its settings cannot run."""
    twin = _twin(state, trial)
    if twin is not None and twin.value is not None:
        state.study.mark(trial.number, "why", f"as trial {twin.number}, not trained again")
        state.study.complete(trial.number, twin.value)
        state.write_event(trial.number, "completed", f"as trial {twin.number}", twin.value)
        return
    fixed = fixed_for(machine, state.document.device, state.plan.sweep.parallel, slot)
    combination = resolve_combination(state.plan, trial.params, machine, fixed)
    if combination.resolved is None:
        _miss(state, trial, combination)
        return
    state.misses = 0
    run_json = trial_runs.run_json_of(combination.resolved.to_run_json(), state.sweep.id, trial.number, trial.params)
    gpu = slot or combination.resolved.settings.launch.gpu
    one = trial_runs.begin(trial.number, str(state.document.name), run_json, trial_text(state.plan, trial.params), gpu)
    state.live[trial.number] = one
    state.study.mark(trial.number, "run", one.run.id)
    state.write_event(trial.number, "running")


def _twin(state: SweepState, trial: Trial) -> Trial | None:
    """A trial with the same settings that has its value: training is repeatable, so it would come out the same."""
    return next((one for one in state.study.all() if one.value is not None and one.params == trial.params), None)


def _miss(state: SweepState, trial: Trial, combination: Combination) -> None:
    state.study.mark(trial.number, MISSED, True)
    state.study.fail(trial.number, combination.why)
    state.write_event(trial.number, "failed", combination.why)
    state.misses += 1
    if state.misses >= MOST_MISSES:
        raise EngineError(
            f"{MOST_MISSES} settings in a row cannot run; the last: {combination.why}",
            code=ExitCode.RESOURCES,
            hint="narrow sweep.space to what this machine can train",
        )


def check_disk(state: SweepState) -> None:
    """Raises EngineError(DISK) when the next trial's run may not find room."""
    free, needed = shutil.disk_usage(state.job.directory).free, int(state.document.trial_disk_bytes)
    if free < needed:
        raise EngineError(
            f"a trial takes up to {format_bytes(needed)} of disk, {format_bytes(free)} are free",
            code=ExitCode.DISK,
            where=str(state.job.directory),
            hint=f"free space, or set sweep.keep_weights; then: engine sweeps resume {state.sweep.id}",
        )
