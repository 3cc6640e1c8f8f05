"""`engine runs remedy RUN`: what would let a failed run go on, and doing it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from engine.cli.common import json_option, line, note, print_json, table
from engine.errors import EngineError, ExitCode
from engine.runs import store
from engine.runs.follow import fold_run
from engine.runs.state import run_state
from engine.runs.store import Run
from engine.runs.view import amount
from engine.text import format_bytes, sanitize

if TYPE_CHECKING:
    from engine.resolve.remedies import Remedy

_HEADER = ("", "remedy", "how", "memory", "speed")


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--apply", "number", type=click.IntRange(1), help="Do the remedy with this number.")
@json_option
def remedy(run_id: str, number: int | None, as_json: bool) -> None:
    """What would let a failed run go on, nearest first; --apply 1 does the first."""
    from engine.hardware.probe import probe_machine
    from engine.resolve.remedies import apply_remedy, failure_of, remedies

    run = store.find_run(run_id)
    state = run_state(run)
    if state not in ("failed", "lost"):
        raise EngineError(f"run {run.id} is {state}: there is nothing to mend", code=ExitCode.PROFILE)
    error, limit = _what_happened(run)
    machine = probe_machine()
    failure = failure_of(run, error, limit)
    found = remedies(failure, machine)
    if number is None:
        _show(run, error, found, as_json)
        return
    if number > len(found):
        raise EngineError(
            f"there are {len(found)} remedies", code=ExitCode.PROFILE, hint=f"engine runs remedy {run.id}"
        )
    target, _ = apply_remedy(failure, found[number - 1], machine)
    print_json({"run": target.id, "path": str(target.path)}) if as_json else line(target.id)


def _what_happened(run: Run) -> tuple[dict[str, Any], float | None]:
    fold, _ = fold_run(run)
    return fold.error, amount(fold.shortage.get("measured"), "limit_bytes")


def _show(run: Run, error: dict[str, Any], found: tuple[Remedy, ...], as_json: bool) -> None:
    if as_json:
        print_json({"run": run.id, "error": error or None, "remedies": [asdict(item) for item in found]})
        return
    line(sanitize(str(EngineError.from_dict(error)) if error else "the worker died without a word", single_line=True))
    if not found:
        note("no remedy is known: mend what the message says")
        return
    for text in table([_row(number, item) for number, item in enumerate(found, 1)], header=_HEADER, right=(3, 4)):
        line(text)


def _row(number: int, item: Remedy) -> list[str]:
    how = "goes on from the checkpoint" if item.resumes else "a new run"
    speed = f"{item.speed:.2f} x" if item.speed else "n/a"
    return [str(number), item.label, how, format_bytes(item.device_bytes), speed]
