"""A self-test as a person reads it: plan, result and verdict, plain text within the width of the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from engine.selftest.checks import FAILED, PASSED, SKIPPED, Finding, Place, Step
from engine.selftest.plan import SelftestPlan, expected
from engine.selftest.record import STOPPED, Record, StepRecord, counts, device_line, kernels_line
from engine.selftest.run import NO_TIME
from engine.text import format_duration, sanitize

_WORDS = {PASSED: "ok", FAILED: "FAILED", SKIPPED: "-"}
_LABEL = 9
_PLAN_LABEL = 10
_NARROWEST, _WIDEST = 40, 100
_ADVICE = {
    "machine": "torch and the driver do not agree: see 'engine probe' and reinstall torch for this driver",
    "kernels": "this device computes something wrong: update the driver and torch, and report it with --report",
    "training": "do not train with these settings here, and report it with --report",
    "memory": "'engine fit' goes by what was measured here from now on; runs like these are safe to plan again",
    "speed": "look for a power limit, heat, or other work on the device ('engine probe')",
    "settings": "set the faster values in your profile, and report it with --report",
}


def plan_lines(plan: SelftestPlan, columns: int) -> Iterator[str]:
    """What would run here: each step with its time, and a line for each group of its checks."""
    columns, steps = _bounded(columns), expected(plan)
    yield from _wrapped("Device", device_line(plan.place), columns)
    yield from _wrapped("Dtypes", ", ".join(plan.place.dtypes), columns)
    yield from _kernels(plan.place, columns)
    for step, count, seconds in steps:
        yield ""
        yield from _plan_step(step, count, seconds, columns)
    yield ""
    yield from _wrapped("", f"About {format_duration(sum(row[2] for row in steps))} in all.", columns, 0)
    if any(count < len(step.items) for step, count, _ in steps):
        yield from _wrapped("", "'2 of 3': the others begin only with more --minutes.", columns, 0)
    yield from _wrapped("", "--plan --json names every check with its time.", columns, 0)


def _plan_step(step: Step, count: int, seconds: float, columns: int) -> Iterator[str]:
    yield from _wrapped("", f"{step.title} (about {format_duration(seconds)})", columns, 0)
    groups: dict[str, list[bool]] = {}
    for number, item in enumerate(step.items):
        groups.setdefault(item.group or item.about, []).append(number < count)
    for group, begun in groups.items():
        some = f"{len(begun)}" if all(begun) else f"{sum(begun)} of {len(begun)}"
        yield from _wrapped(f"{some:>8}", group, columns, _PLAN_LABEL)
    if not step.items:
        yield from _wrapped(f"{'-':>8}", "nothing of it fits on this device", columns, _PLAN_LABEL)


def result_lines(record: Record, columns: int) -> Iterator[str]:
    """Device, every step with its checks, the verdict."""
    columns = _bounded(columns)
    machine = record.plan.place.machine
    yield from _wrapped("Device", device_line(record.plan.place), columns)
    disk = f"{machine.disk_free_bytes / 1024**3:,.1f} GiB of disk free"
    yield from _wrapped("With", f"torch {machine.torch_version or 'not found'}, {disk}, {record.started}", columns)
    yield from _kernels(record.plan.place, columns)
    for note in machine.notes:
        yield from _wrapped("Note", note, columns)
    for step in record.steps:
        yield ""
        yield from step_lines(step, columns)
    yield ""
    yield from verdict_lines(record, columns)


def step_lines(found: StepRecord, columns: int) -> Iterator[str]:
    """A step's title and its checks; those without time are counted, not listed."""
    columns = _bounded(columns)
    yield from _wrapped("", f"{found.step.title} ({format_duration(found.seconds)})", columns, 0)
    late = [finding for finding in found.findings if finding.text == NO_TIME]
    for finding in found.findings:
        if finding.text != NO_TIME:
            yield from check_lines(finding, columns)
    if late:
        yield from _wrapped("  -", f"{len(late)} more {NO_TIME}", columns)


def check_lines(finding: Finding, columns: int) -> list[str]:
    """One check: its word, name and what was found."""
    text = f"{finding.name}: {finding.text}" if finding.text else finding.name
    return _wrapped("  " + _WORDS[finding.status], text, _bounded(columns))


def verdict_lines(record: Record, columns: int) -> Iterator[str]:
    """One sentence; below it, for each step with a failed check, what to do."""
    columns = _bounded(columns)
    number = counts(record.findings)
    done = number[PASSED] + number[FAILED]
    left = f"; {number[SKIPPED]} left out" if number[SKIPPED] else ""
    cut = "Stopped before the end: " if record.state == STOPPED else ""
    if not number[FAILED]:
        passed = "the one check that ran passed" if done == 1 else f"all {done} checks passed"
        yield from _wrapped("", cut + (f"{passed}{left}." if done else "nothing was checked."), columns, 0)
        return
    failed = "the one check that ran" if done == 1 else f"{number[FAILED]} of {done} checks"
    yield from _wrapped("", f"{cut}{failed} failed{left}:", columns, 0)
    for step in record.steps:
        names = [finding.name for finding in step.findings if finding.status == FAILED]
        if names:
            yield from _wrapped("", f"{'; '.join(names)}: {_ADVICE[step.step.name]}.", columns, 2)


def progress_line(step: Step) -> str:
    """What begins now."""
    return f"{step.title} …"


def count_line(found: StepRecord) -> str:
    """How far a step of slow checks is; what they found stands on the page."""
    failed = sum(finding.status == FAILED for finding in found.findings)
    more = f", {failed} failed" if failed else ""
    return f"  {len(found.findings)} of {len(found.step.items)} after {format_duration(found.seconds)}{more}"


def _kernels(place: Place, columns: int) -> list[str]:
    return _wrapped("Kernels", kernels_line(place), columns) if place.device == "cuda" else []


def _bounded(columns: int) -> int:
    return max(_NARROWEST, min(columns, _WIDEST))


def _wrapped(label: str, text: str, columns: int, indent: int = _LABEL) -> list[str]:
    head = label.ljust(indent) if indent >= _LABEL else " " * indent
    return textwrap.wrap(
        sanitize(text, single_line=True),
        columns,
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    ) or [label]
