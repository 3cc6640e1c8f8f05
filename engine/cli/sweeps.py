"""`engine sweeps list|show|watch|stop|resume|best|rm`: searches over settings, as plain text or JSON."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from engine.cli.common import json_option, line, note, number, print_json, table
from engine.cli.flags import group_flags
from engine.cli.following import interrupts_passed_on, worker_error
from engine.cli.lifecycle import tell_begun, tell_removed, tell_stopped
from engine.cli.names import complete_sweeps
from engine.cli.progress import Progress
from engine.cli.sweep_table import look, show_sweep, summary
from engine.cli.watch import watch as follow
from engine.errors import EngineError, ExitCode
from engine.runs import control, launch
from engine.runs.follow import follow_worker
from engine.runs.removal import remove_run
from engine.runs.state import run_state
from engine.runs.store import Run
from engine.sweep import store
from engine.sweep.table import ranked, read_rows

_ON_INTERRUPT = "stopping: trials save and stop", "ending the search; its trials go on"


@click.group()
@group_flags
def sweeps() -> None:
    """List, show, watch, stop, resume or remove sweeps. SWEEP is an id, a part of one, or 'last'."""


sweep_argument = click.argument("sweep_id", metavar="SWEEP", shell_complete=complete_sweeps)


@sweeps.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List sweeps, newest first."""
    rows = [summary(sweep) for sweep in store.list_sweeps()]
    if as_json:
        print_json({"sweeps": rows})
        return
    if not rows:
        note(f"no sweeps in {store.sweeps_root()}")
        return
    cells = [
        [row["sweep"], row["state"], f"{row['ended']}/{row['trials']}", row["metric"], number(row["best_value"])]
        for row in rows
    ]
    for text in table(cells, header=("sweep", "state", "trials", "metric", "best"), right=(4,)):
        line(text)


@sweeps.command()
@sweep_argument
@json_option
def show(sweep_id: str, as_json: bool) -> None:
    """Show the ranked trials with their settings and runs, and predicted beside actual cost."""
    _tell(store.find_sweep(sweep_id), as_json)


def _tell(sweep: Run, as_json: bool) -> None:
    state = look(sweep)
    print_json(state.to_dict()) if as_json else show_sweep(state)


@sweeps.command()
@sweep_argument
@json_option
def watch(sweep_id: str, as_json: bool) -> None:
    """Follow a sweep until it ends. Ctrl-C ends this command, not the sweep.

    --json prints every event of the sweep as a line, as in its events.jsonl; the last line has the type 'end' and the
    outcome: completed, stopped, failed or lost;
    removed where its directory went away.
    """
    sweep = store.find_sweep(sweep_id)
    follow(sweep, as_json=as_json)
    if not as_json:
        _tell(sweep, as_json)


@sweeps.command()
@sweep_argument
@click.option("--wait", default=120.0, show_default=True, help="Seconds to wait for the end.")
@json_option
def stop(sweep_id: str, wait: float, as_json: bool) -> None:
    """Stop a sweep: its trials save a checkpoint and stop; 'engine sweeps resume' continues them."""
    sweep = store.find_sweep(sweep_id)
    if not launch.is_at_work(sweep.path):
        note(f"sweep {sweep.id} is not running ({run_state(sweep)})")
    else:
        control.request(sweep.path, "stop")
    tell_stopped("sweep", sweep, wait, as_json=as_json)


@sweeps.command()
@sweep_argument
@click.option("--detach", is_flag=True, help="Return once the search has restarted.")
@json_option
def resume(sweep_id: str, detach: bool, as_json: bool) -> None:
    """Continue a sweep that was stopped or whose worker died; no trial is repeated or lost."""
    from engine.sweep.launch import resume_sweep

    sweep = store.find_sweep(sweep_id)
    offset = sweep.events_path.stat().st_size if sweep.events_path.exists() else 0
    process = resume_sweep(sweep)
    if detach:
        tell_begun("sweep", sweep, as_json=as_json)
        return
    finish(sweep, process, as_json=as_json, offset=offset)


@sweeps.command()
@sweep_argument
@click.option("--write", "target", type=click.Path(path_type=Path), help="File to write; default: stdout.")
@json_option
def best(sweep_id: str, target: Path | None, as_json: bool) -> None:
    """Print or write the best trial so far as a profile: yours, with the trial's settings and absolute paths."""
    from engine.profile.save import save_text

    sweep = store.find_sweep(sweep_id)
    rows = ranked(read_rows(sweep.path), store.read_sweep(sweep)["metric"])
    try:
        text = (sweep.path / "best.toml").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EngineError(
            f"no trial of {sweep.id} has a value yet", code=ExitCode.PROFILE, hint=f"engine sweeps show {sweep.id}"
        ) from None
    if target is not None:
        save_text(target, text)
    if as_json:
        print_json(
            {"sweep": sweep.id, "best": rows[0].to_json(), "profile": text, "path": str(target) if target else None}
        )
    elif target is None:
        line(text.rstrip("\n"))
    else:
        note(f"wrote {target}; train it: engine train {target}")


@sweeps.command("rm")
@click.argument("sweep_ids", metavar="SWEEP...", nargs=-1, required=True, shell_complete=complete_sweeps)
@click.option("--runs", "with_runs", is_flag=True, help="Also delete the runs of its trials.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def rm(sweep_ids: tuple[str, ...], with_runs: bool, yes: bool, as_json: bool) -> None:
    """Delete sweeps; the runs of their trials stay unless --runs is given."""
    chosen = [store.find_sweep(sweep_id) for sweep_id in sweep_ids]
    for sweep in chosen:
        trials = list(store.trial_runs(sweep.id).values()) if with_runs else []
        if not yes:
            also = f" and {len(trials)} runs" if trials else ""
            click.confirm(f"delete {sweep.id}{also}?", abort=True, err=True)
        store.remove_sweep(sweep)
        for run in trials:
            remove_run(run)
    tell_removed(chosen, as_json=as_json)


def finish(sweep: Run, process: subprocess.Popen[bytes], *, as_json: bool, offset: int = 0) -> None:
    """Follow a sweep to its end and print its table; Exit(8) if it was stopped. Raises the sweep's error."""
    progress = Progress(quiet=as_json)
    try:
        with interrupts_passed_on(process, *_ON_INTERRUPT):
            for event in follow_worker(sweep.events_path, process, offset=offset):
                progress(event)
    except SystemExit as ending:
        message = f"sweep {sweep.id} goes on without this command"
        raise EngineError(message, code=ExitCode.CANCELLED, hint=f"stop it: engine sweeps stop {sweep.id}") from ending
    finally:
        progress.close()
    error = worker_error(progress.fold, sweep.path, process)
    if error is not None:
        raise error
    _tell(sweep, as_json)
    if progress.fold.finished.get("outcome") != "completed":
        raise click.exceptions.Exit(int(ExitCode.INTERRUPTED))
