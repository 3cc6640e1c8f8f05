"""`engine train PROFILE`: resolve, start a detached worker, follow it or leave it running."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import click

from engine.cli.common import json_option, line, note, print_json
from engine.cli.progress import Progress
from engine.errors import EngineError, ExitCode
from engine.runs import launch, store
from engine.runs.follow import follow_worker
from engine.runs.ranks import refuse_ranks
from engine.runs.record import SUMMARY_FILE, read_summary
from engine.runs.store import Run
from engine.text import format_bytes, format_duration


@click.command()
@click.argument("profile", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a profile key; repeatable.")
@click.option("--name", help="Name of the run; default: the profile's.")
@click.option("--detach", is_flag=True, help="Return when training has started; it goes on by itself.")
@json_option
def train(profile: Path, overrides: tuple[str, ...], name: str | None, detach: bool, as_json: bool) -> None:
    """Train from PROFILE, a file or the name of a shipped one.

    The run outlives this terminal; Ctrl-C saves a checkpoint and stops it.
    """
    from engine.hardware.probe import probe_machine
    from engine.profile.load import load_profile
    from engine.profile.shipped import find_profile
    from engine.resolve.resolve import resolve_profile

    refuse_ranks()
    loaded = load_profile(find_profile(str(profile)), overrides)
    resolved = resolve_profile(loaded, probe_machine(processes=False))
    for warning in resolved.warnings:
        note(f"warning: {warning}")
    if not as_json:
        _tell_plan(resolved)
    title = name or resolved.settings.name or profile.stem
    run, process = launch.start_run(title, resolved.to_run_json(), loaded.text)
    if detach:
        wait_until_it_trains(run, process, quiet=as_json)
        _tell_detached(run, as_json)
        return
    finish(run, process, as_json=as_json)


def wait_until_it_trains(
    run: Run, process: subprocess.Popen[bytes], *, quiet: bool, offset: int = 0, keep: bool = False
) -> None:
    """Follow a run until it trains, and leave it. A command that is ended before that takes its worker with it.

    Raises the error of a run that cannot start.
    """
    progress = Progress(quiet=quiet)
    try:
        _guarded(run, process, lambda: launch.wait_started(run, process, progress, offset=offset, keep=keep))
    except SystemExit:
        _leave(run, process, began=False, keep=keep)
        raise
    progress.close()


def finish(run: Run, process: subprocess.Popen[bytes], *, as_json: bool, offset: int = 0, keep: bool = False) -> None:
    """Follow a run to its end and print its summary; Exit(8) for a stopped one, so that scripts can tell."""
    outcome = follow_to_end(run, process, quiet=as_json, offset=offset, keep=keep)
    if outcome and (run.path / SUMMARY_FILE).is_file():
        tell_summary(run, as_json=as_json)
    if outcome != "completed":
        raise click.exceptions.Exit(int(ExitCode.INTERRUPTED))


def follow_to_end(
    run: Run, process: subprocess.Popen[bytes], *, quiet: bool, offset: int = 0, keep: bool = False
) -> str:
    """Follow a run until its worker ends; `completed`, `stopped`, or empty when it never started.

    Raises the run's error. One that never started leaves no directory, unless `keep` (it had before). A command that
    is ended from outside takes its worker with it until training has begun.
    """
    progress = Progress(quiet=quiet)
    error: EngineError | None = None
    began = False

    def follow() -> None:
        nonlocal error, began
        for event in follow_worker(run.events_path, process, offset=offset):
            progress(event)
            began = began or event["type"] == "started"
            if event["type"] == "error":
                error = EngineError.from_dict(event)

    try:
        _guarded(run, process, follow)
    except SystemExit:
        _leave(run, process, began=began, keep=keep)
        raise
    progress.close()
    if error is None and not progress.fold.finished:
        error = launch.died(run.path, process)
    if not (began or keep):
        store.remove_run(run)
    if error is not None:
        raise error
    return str(progress.fold.finished.get("outcome")) if began or keep else ""


def _leave(run: Run, process: subprocess.Popen[bytes], *, began: bool, keep: bool) -> None:
    """What becomes of a run whose command was ended."""
    if began:
        note(f"training goes on without this command; stop it: engine runs stop {run.id}")
        return
    launch.end_worker(process)
    if not keep:
        store.remove_run(run)


def _guarded(run: Run, process: subprocess.Popen[bytes], follow: Callable[[], None]) -> None:
    """Run `follow` with Ctrl-C meant for the worker: the first asks it to save and stop, the second ends it."""
    asked = 0

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        process.terminate()
        note("stopping after this step; Ctrl-C again ends it at once" if asked == 1 else "ending the worker now")

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        follow()
    finally:
        signal.signal(signal.SIGINT, before)


def _tell_plan(resolved: Any) -> None:
    estimate, plan = resolved.plan.estimate, resolved.plan
    needed, there = format_bytes(estimate.device_bytes), format_bytes(plan.available_bytes)
    note(f"{plan.model.name} on {plan.device_title}: {needed} of {there}")
    for key, entry in resolved.provenance.items():
        if str(entry.get("source", "")).startswith("auto") and entry.get("reason"):
            note(f"  {key} = {entry['value']}  ({entry['reason']})")


def _tell_detached(run: Run, as_json: bool) -> None:
    if as_json:
        print_json({"run": run.id, "path": str(run.path), "pid": store.worker_pid(run)})
        return
    line(run.id)
    note(f"training goes on without this terminal; watch: engine runs watch {run.id}   stop: engine runs stop {run.id}")


def tell_summary(run: Run, *, as_json: bool) -> None:
    """The end of a run: losses, steps, time, where its weights are."""
    summary = read_summary(run.path)
    if as_json:
        print_json({"run": run.id, "path": str(run.path), **summary.to_json()})
        return
    line(f"{summary.outcome} {run.id}")
    line(f"steps    {summary.step} of {summary.steps_total} in {format_duration(summary.seconds)}")
    if summary.best_eval_loss is not None:
        line(f"best     evaluation loss {summary.best_eval_loss:.4f} at step {summary.best_step}")
    line(f"weights  {run.path / summary.weights} (step {summary.weights_step})")
    note(f"next: engine evaluate {run.id}   then: engine export {run.id}")
