"""`engine train PROFILE`: resolve the profile, start a worker, and follow it or leave it running."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import click

from engine.cli.common import NO_FIT, json_option, line, note, print_json, print_json_line, warn
from engine.cli.following import Interrupts, interrupts_passed_on, worker_error
from engine.cli.lifecycle import tell_begun
from engine.cli.profile_argument import profiles_argument, set_option
from engine.cli.progress import Progress
from engine.errors import EngineError, ExitCode, Problem
from engine.runs import launch, store
from engine.runs.follow import follow_worker
from engine.runs.ranks import refuse_ranks
from engine.runs.record import SUMMARY_FILE, read_summary
from engine.runs.removal import discard_run
from engine.runs.store import Run
from engine.runs.view import RunFold
from engine.text import format_bytes, format_duration

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_ON_INTERRUPT = "stopping after this step; Ctrl-C again ends it at once", "ending the worker now"


@click.command(epilog=NO_FIT)
@profiles_argument()
@set_option
@click.option("--name", help="Name of the run; default: the profile's.")
@click.option("--detach", is_flag=True, help="Return once training has started; it goes on in the background.")
@json_option
def train(
    profiles: tuple[Path, ...], overrides: tuple[str, ...], name: str | None, detach: bool, as_json: bool
) -> None:
    """Train from PROFILE: a file, or the name of a shipped profile.

    The run outlives this terminal; Ctrl-C saves a checkpoint and stops it.

    Several profiles are stages in a row, each a run of its own that begins with the adapter of the one before: engine
    train sft.toml dpo.toml. All are checked before the first starts. --set counts for each. With --json each stage
    prints its result as one line.
    """
    refuse_ranks()
    if len(profiles) == 1:
        _train_one(profiles[0], overrides, name, detach=detach, as_json=as_json)
        return
    from engine.cli.stages import train_stages

    if detach:
        raise click.UsageError("--detach goes with one profile: something has to start the next stage")
    train_stages(profiles, overrides, name or "", as_json=as_json)


def _train_one(profile: Path, overrides: tuple[str, ...], name: str | None, *, detach: bool, as_json: bool) -> None:
    from engine.hardware.probe import probe_machine
    from engine.profile.load import load_profile
    from engine.resolve.resolve import resolve_profile

    loaded = load_profile(profile, overrides)
    resolved = resolve_profile(loaded, probe_machine(processes=False))
    for warning in resolved.warnings:
        warn(warning)
    if not as_json:
        tell_plan(resolved)
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
    progress, came = Progress(quiet=quiet, known=known), Interrupts()
    try:
        with interrupts_passed_on(process, *_ON_INTERRUPT) as came:
            launch.wait_started(run, process, progress, offset=offset, keep=keep)
    except (SystemExit, KeyboardInterrupt) as ending:
        _leave(run, process, ending, began=False, keep=keep)
    except EngineError as error:
        raise _as_cancelled(run, keep) if came.count and _is_stopped(process, progress.fold) else error from None
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

    `known`: warnings told already; `more`: what the JSON says beside the summary. Raises the run's error.
    """
    progress = Progress(quiet=as_json, known=known)
    outcome = follow_to_end(run, process, progress, offset=offset, keep=keep)
    if (run.path / SUMMARY_FILE).is_file():
        tell_summary(run, as_json=as_json, warnings=progress.warnings, more=more)
    elif as_json:
        _print_result({"run": run.id, "path": str(run.path), **more, "outcome": outcome})
    if outcome != "completed":
        raise click.exceptions.Exit(int(ExitCode.INTERRUPTED))


def follow_to_end(
    run: Run, process: subprocess.Popen[bytes], progress: Progress, *, offset: int = 0, keep: bool = False
) -> str:
    """Follow a run until its worker ends; `completed` or `stopped`.

    Raises the run's error; CANCELLED where Ctrl-C came before it began. The directory of a run that never began is
    removed, unless `keep` (it is a resumed run). If this command is terminated before that, it ends the worker too.
    """
    try:
        with interrupts_passed_on(process, *_ON_INTERRUPT) as came:
            for event in follow_worker(run.events_path, process, offset=offset):
                progress(event)
    except (SystemExit, KeyboardInterrupt) as ending:
        _leave(run, process, ending, began=bool(progress.fold.started), keep=keep)
    progress.close()
    began = bool(progress.fold.started)
    if not (keep or began):
        error = worker_error(progress.fold, run.path, process)
        discard_run(run)
        if _is_stopped(process, progress.fold):
            raise _as_cancelled(run, keep) if came.count else _STOPPED_BEFORE
        raise error or launch.died(run.path, process)
    if came.count and _is_stopped(process, progress.fold):
        return "stopped"
    error = worker_error(progress.fold, run.path, process)
    if error is not None:
        raise error
    return str(progress.fold.finished.get("outcome"))


_STOPPED_BEFORE = EngineError("the worker was stopped before training began: there is no run", code=ExitCode.CANCELLED)


def _is_stopped(process: subprocess.Popen[bytes], fold: RunFold) -> bool:
    """Whether a request or a signal ended the worker, one too early for its own words too."""
    if fold.error:
        return False
    return fold.finished.get("outcome") == "stopped" or process.poll() in (-signal.SIGTERM, -signal.SIGINT)


def _as_cancelled(run: Run, keep: bool) -> EngineError:
    if keep:
        message, code = f"stopped before it went on: run {run.id} is as it was", ExitCode.INTERRUPTED
        return EngineError(message, code=code, hint=f"engine runs resume {run.id}")
    return EngineError("stopped before training began: there is no run", code=ExitCode.CANCELLED)


def _leave(run: Run, process: subprocess.Popen[bytes], ending: BaseException, *, began: bool, keep: bool) -> NoReturn:
    """When this command is ended: leave a run that trains, and any where a terminal hangs up; end another one."""
    if began or (isinstance(ending, SystemExit) and ending.code == 128 + signal.SIGHUP):
        message = f"run {run.id} goes on without this command"
        raise EngineError(message, code=ExitCode.CANCELLED, hint=f"stop it: engine runs stop {run.id}") from ending
    launch.end_worker(process)
    if not keep:
        discard_run(run)
    told = _as_cancelled(run, keep)
    raise EngineError(told.message, code=ExitCode.CANCELLED, hint=told.hint) from ending


def tell_plan(resolved: Any) -> None:
    """Print what a run will take, and what was chosen for it."""
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


def _print_result(found: dict[str, Any]) -> None:
    """One document, or one line of several for a stage."""
    print_json_line(found) if "stage" in found else print_json(found)


def tell_summary(run: Run, *, as_json: bool, warnings: Sequence[str] = (), more: Mapping[str, Any] = _NOTHING) -> None:
    """Print how a run ended: losses, steps, time, and the path of its weights, and again what it warned of."""
    summary = read_summary(run.path)
    if as_json:
        _print_result({"run": run.id, "path": str(run.path), **more, **summary.to_json(), "warnings": list(warnings)})
        return
    line(f"{summary.outcome} {run.id}")
    line(f"steps    {summary.step} of {summary.steps_total} in {format_duration(summary.seconds)}")
    if summary.best_eval_loss is not None:
        line(f"best     evaluation loss {summary.best_eval_loss:.4f} at step {summary.best_step}")
    line(f"weights  {run.path / summary.weights} (step {summary.weights_step})")
    for text in dict.fromkeys(warnings):
        warn(text)
    note(f"next: engine evaluate {run.id}   then: engine export {run.id}")
