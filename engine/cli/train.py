"""`engine train PROFILE`: resolve the profile, start a worker, and follow it or leave it running."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from engine.cli.common import NO_FIT, json_option, line, note, print_json, warn
from engine.cli.following import interrupts_passed_on, worker_error
from engine.cli.lifecycle import tell_begun
from engine.cli.profile_argument import profile_argument, set_option
from engine.cli.progress import Progress
from engine.errors import ExitCode, Problem
from engine.runs import launch, store
from engine.runs.follow import follow_worker
from engine.runs.ranks import refuse_ranks
from engine.runs.record import SUMMARY_FILE, read_summary
from engine.runs.store import Run
from engine.text import format_bytes, format_duration

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_ON_INTERRUPT = "stopping after this step; Ctrl-C again ends it at once", "ending the worker now"


@click.command(epilog=NO_FIT)
@profile_argument()
@set_option
@click.option("--name", help="Name of the run; default: the profile's.")
@click.option("--detach", is_flag=True, help="Return once training has started; it goes on in the background.")
@json_option
def train(profile: Path, overrides: tuple[str, ...], name: str | None, detach: bool, as_json: bool) -> None:
    """Train from PROFILE: a file, or the name of a shipped profile.

    The run outlives this terminal; Ctrl-C saves a checkpoint and stops it.
    """
    from engine.hardware.probe import probe_machine
    from engine.profile.load import load_profile
    from engine.resolve.resolve import resolve_profile

    refuse_ranks()
    loaded = load_profile(profile, overrides)
    resolved = resolve_profile(loaded, probe_machine(processes=False))
    for warning in resolved.warnings:
        warn(warning)
    if not as_json:
        _tell_plan(resolved)
    title = name or resolved.settings.name or profile.stem
    run, process = launch.start_run(title, resolved.to_run_json(), loaded.text)
    known = frozenset(told_by_worker(warning) for warning in resolved.warnings)
    if detach:
        wait_until_it_trains(run, process, quiet=as_json, known=known)
        _tell_detached(run, as_json)
        return
    finish(run, process, as_json=as_json, known=known)


def told_by_worker(warning: Problem) -> str:
    """A warning about a profile in the words of the worker, which finds some of them again."""
    return f"{warning.message} - {warning.hint}"


def wait_until_it_trains(
    run: Run,
    process: subprocess.Popen[bytes],
    *,
    quiet: bool,
    offset: int = 0,
    keep: bool = False,
    known: frozenset[str] = frozenset(),
) -> None:
    """Follow a run until it trains, then leave it. If this command ends before that, it ends the worker too.

    Raises the error of a run that cannot start. `known`: warnings that were told already.
    """
    progress = Progress(quiet=quiet, known=known)
    try:
        with interrupts_passed_on(process, *_ON_INTERRUPT):
            launch.wait_started(run, process, progress, offset=offset, keep=keep)
    except SystemExit:
        _leave(run, process, began=False, keep=keep)
        raise
    progress.close()


def finish(
    run: Run,
    process: subprocess.Popen[bytes],
    *,
    as_json: bool,
    offset: int = 0,
    keep: bool = False,
    known: frozenset[str] = frozenset(),
    more: Mapping[str, Any] = _NOTHING,
) -> None:
    """Follow a run to its end and print its summary; Exit(8) if it was stopped.

    `known`: warnings told already; `more`: what the JSON says beside the summary.
    """
    progress = Progress(quiet=as_json, known=known)
    outcome = follow_to_end(run, process, progress, offset=offset, keep=keep)
    if outcome and (run.path / SUMMARY_FILE).is_file():
        tell_summary(run, as_json=as_json, warnings=progress.warnings, more=more)
    if outcome != "completed":
        raise click.exceptions.Exit(int(ExitCode.INTERRUPTED))


def follow_to_end(
    run: Run, process: subprocess.Popen[bytes], progress: Progress, *, offset: int = 0, keep: bool = False
) -> str:
    """Follow a run until its worker ends; `completed`, `stopped`, or empty if it never started.

    Raises the run's error. The directory of a run that never started is removed, unless `keep` (it is a resumed
    run). If this command is terminated before training starts, it ends the worker too.
    """
    try:
        with interrupts_passed_on(process, *_ON_INTERRUPT):
            for event in follow_worker(run.events_path, process, offset=offset):
                progress(event)
    except SystemExit:
        _leave(run, process, began=bool(progress.fold.started), keep=keep)
        raise
    progress.close()
    stays = keep or bool(progress.fold.started)
    error = worker_error(progress.fold, run.path, process)
    if not stays:
        store.remove_run(run)
    if error is not None:
        raise error
    return str(progress.fold.finished.get("outcome")) if stays else ""


def _leave(run: Run, process: subprocess.Popen[bytes], *, began: bool, keep: bool) -> None:
    """When this command is terminated: leave a run that trains, end one that does not yet."""
    if began:
        note(f"training goes on without this command; stop it: engine runs stop {run.id}")
        return
    launch.end_worker(process)
    if not keep:
        store.remove_run(run)


def _tell_plan(resolved: Any) -> None:
    estimate, plan = resolved.plan.estimate, resolved.plan
    needed, there = format_bytes(estimate.device_bytes), format_bytes(plan.available_bytes)
    note(f"{plan.model.name} on {plan.device_title}: {needed} of {there}")
    for key, entry in resolved.provenance.items():
        if str(entry.get("source", "")).startswith("auto") and entry.get("reason"):
            note(f"  {key} = {entry['value']}  ({entry['reason']})")


def _tell_detached(run: Run, as_json: bool) -> None:
    tell_begun("run", run, as_json=as_json, pid=store.worker_pid(run))
    if not as_json:
        watch, stop = f"engine runs watch {run.id}", f"engine runs stop {run.id}"
        note(f"training goes on without this terminal; watch: {watch}   stop: {stop}")


def tell_summary(run: Run, *, as_json: bool, warnings: Sequence[str] = (), more: Mapping[str, Any] = _NOTHING) -> None:
    """Print how a run ended: losses, steps, time, and the path of its weights, and again what it warned of."""
    summary = read_summary(run.path)
    if as_json:
        print_json({"run": run.id, "path": str(run.path), **more, **summary.to_json(), "warnings": list(warnings)})
        return
    line(f"{summary.outcome} {run.id}")
    line(f"steps    {summary.step} of {summary.steps_total} in {format_duration(summary.seconds)}")
    if summary.best_eval_loss is not None:
        line(f"best     evaluation loss {summary.best_eval_loss:.4f} at step {summary.best_step}")
    line(f"weights  {run.path / summary.weights} (step {summary.weights_step})")
    for text in dict.fromkeys(warnings):
        warn(text)
    note(f"next: engine evaluate {run.id}   then: engine export {run.id}")
