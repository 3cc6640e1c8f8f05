"""Running a planned self-test, step by step, its record on the disk after every check.

No torch here: items run in child processes (`children.py`). An interrupt ends the child, leaves what was found and
raises nothing: the record says that it was cut.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from engine.runs.launch import worker_environment
from engine.runs.ranks import refuse_ranks
from engine.runs.record import LaunchSettings
from engine.selftest import settings
from engine.selftest.checks import FAILED, SKIPPED, Finding, Place, Step, begins
from engine.selftest.children import Workplace, run_items
from engine.selftest.plan import SelftestPlan
from engine.selftest.record import ENDED, STOPPED, Record, StepRecord, new_record

_SLOWEST = 4.0
NO_TIME = "left out for want of time"
OnFinding = Callable[[StepRecord, Finding], None]
OnStep = Callable[[Step], None]


def run_selftest(plan: SelftestPlan, on_step: OnStep, on_finding: OnFinding) -> Record:
    """Run all steps; returns the record, which also lies at its `path`. Raises EngineError: DISK, ENVIRONMENT."""
    refuse_ranks()
    record = new_record(plan)
    folder = Path(tempfile.mkdtemp(prefix=f".{record.path.stem}-", dir=record.path.parent))
    workplace, began = Workplace(environment_of(plan.place), folder), time.monotonic()
    try:
        with _terminated_as_interrupt():
            for step in plan.steps:
                on_step(step)
                record.steps.append(StepRecord(step))
                _run_step(record, workplace, began, on_finding)
        record.state = ENDED
    except KeyboardInterrupt:
        record.state = STOPPED
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        record.write()
    return record


def environment_of(place: Place) -> dict[str, str]:
    """What a worker of a run on this device gets: one visible card, threads, allocator."""
    gpu = "" if place.gpu is None else place.gpu.uuid or ""
    threads = str(place.machine.cpu.physical_cores or "")
    environment = worker_environment(LaunchSettings(place.device, gpu, threads))
    environment["HF_HUB_OFFLINE"] = "1"
    return environment


def _run_step(record: Record, workplace: Workplace, began: float, on_finding: OnFinding) -> None:
    """Items while there is time; each one that cannot start is reported as left out."""
    found, plan = record.steps[-1], record.plan
    step, since = found.step, time.monotonic()

    def begin(number: int) -> bool:
        return begins(step, number, time.monotonic() - began, plan.total_s, _pace(record))

    def tell(finding: Finding) -> None:
        found.findings.append(finding)
        found.seconds = time.monotonic() - since
        record.write()
        on_finding(found, finding)

    for finding in run_items(step.items, workplace, alone=step.alone, begins=begin):
        tell(_slow_again(found, finding, workplace))
    if step.name == "settings" and step.items:
        _confirm(found, workplace, plan.place.device)
        tell(settings.conclude(found.findings, plan.place.device))
    ran = len([finding for finding in found.findings if finding.name != settings.NAME])
    for item in step.items[ran:]:
        tell(Finding(item.name, SKIPPED, NO_TIME))
    if not step.items:
        tell(Finding(step.title, SKIPPED, "nothing of it fits on this device"))


def _pace(record: Record) -> float:
    """How many times as long as expected the checks took so far: an estimate is for a machine without other work."""
    pairs = [pair for step in record.steps for pair in zip(step.step.items, step.findings, strict=False)]
    expected_s = sum(item.expected_s for item, _ in pairs)
    return min(_SLOWEST, max(1.0, sum(finding.seconds for _, finding in pairs) / expected_s)) if expected_s else 1.0


def _slow_again(found: StepRecord, finding: Finding, workplace: Workplace) -> Finding:
    """Speed that is too low is measured once more: other work comes and goes."""
    if found.step.name != "speed" or finding.status != FAILED:
        return finding
    item = found.step.items[len(found.findings)]
    again = next(run_items([item], workplace, alone=True, begins=lambda number: True))
    return replace(again, text=f"{again.text}, at the second try", seconds=finding.seconds + again.seconds)


def _confirm(found: StepRecord, workplace: Workplace, device: str) -> None:
    """Before a neighbor is called faster, it and the recommended setting run once more."""
    best = settings.faster(found.findings, device)
    if best is None:
        return
    numbers = (0, found.findings.index(best))
    again = run_items(
        [found.step.items[number] for number in numbers], workplace, alone=True, begins=lambda number: True
    )
    for number, finding in zip(numbers, again, strict=False):
        kept = settings.better(found.findings[number], finding)
        found.findings[number] = replace(kept, text=f"{kept.text}, the better of two runs")


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM, as `timeout` and job schedulers send it, ends a self-test like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
