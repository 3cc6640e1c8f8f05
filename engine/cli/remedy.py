"""`engine runs remedy RUN`: list changes that would let a failed run go on, and apply one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from engine.cli.common import json_option, line, note, print_json, table
from engine.cli.lifecycle import tell_begun
from engine.cli.names import complete_runs
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
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@click.option("--apply", "number", type=click.IntRange(1), help="Apply the remedy with this number.")
@json_option
def remedy(run_id: str, number: int | None, as_json: bool) -> None:
    """List changes that would let a failed run go on, nearest first; --apply 1 makes the first."""
    from engine.hardware.probe import probe_machine
    from engine.resolve.remedies import apply_remedy, failure_of, remedies

    run = store.find_run(run_id)
    state = run_state(run)
    if state not in ("failed", "lost"):
        raise EngineError(f"run {run.id} is {state}: only failed and lost runs have remedies", code=ExitCode.PROFILE)
    error, limit = _what_happened(run)
    machine = probe_machine()
    failure = failure_of(run, error, limit)
    remedy_list = remedies(failure, machine)
    if number is None:
        _show(run, error, remedy_list, as_json)
        return
    if number > len(remedy_list):
        raise EngineError(
            f"there is no remedy {number}: the list has {len(remedy_list)}",
            code=ExitCode.PROFILE,
            hint=f"engine runs remedy {run.id}",
        )
    target, _ = apply_remedy(failure, remedy_list[number - 1], machine)
    tell_begun("run", target, as_json=as_json)


def _what_happened(run: Run) -> tuple[dict[str, Any], float | None]:
    fold, _ = fold_run(run)
    return fold.error, amount(fold.shortage.get("measured"), "limit_bytes")


def _show(run: Run, error: dict[str, Any], remedy_list: tuple[Remedy, ...], as_json: bool) -> None:
    if as_json:
        print_json({"run": run.id, "error": error or None, "remedies": [asdict(item) for item in remedy_list]})
        return
    log = run.path / "worker.log"
    unknown = f"the worker ended without reporting an error; see the end of {log}"
    line(sanitize(str(EngineError.from_dict(error)) if error else unknown, single_line=True))
    if not remedy_list:
        note("no remedy is known: correct what the message says, then 'engine runs resume'")
        return
    for text in table([_row(number, item) for number, item in enumerate(remedy_list, 1)], header=_HEADER, right=(3, 4)):
        line(text)


def _row(number: int, item: Remedy) -> list[str]:
    how = "goes on from the checkpoint" if item.resumes else "a new run"
    speed = f"{item.speed:.2f} x" if item.speed else "n/a"
    return [str(number), item.label, how, format_bytes(item.device_bytes), speed]
