"""`engine runs show|watch|stop|resume|rm`: one run, as text or JSON. Not here: `list`, `tag`, `note`, `remedy`."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict
from typing import Any

import click

from engine.cli.branch import branch
from engine.cli.common import json_option, line, note, number, print_json, width
from engine.cli.flags import group_flags
from engine.cli.lifecycle import tell_begun, tell_removed, tell_stopped
from engine.cli.names import complete_runs
from engine.cli.remedy import remedy
from engine.cli.run_list import choose, list_
from engine.cli.run_memory import memory_facts, memory_lines
from engine.cli.run_notes import note_, tag
from engine.cli.run_samples import sample_lines
from engine.cli.train import finish, tell_summary, wait_until_it_trains
from engine.cli.watch import watch as follow
from engine.errors import EngineError, ExitCode
from engine.runs import control, launch, store
from engine.runs.disk import disk_bytes
from engine.runs.follow import fold_run
from engine.runs.health import HealthFold
from engine.runs.notes import load_notes
from engine.runs.overview import OverviewReader
from engine.runs.overview_page import page_lines
from engine.runs.record import SUMMARY_FILE, read_record
from engine.runs.removal import remove_run
from engine.runs.stages import STAGES_FILE, row_of
from engine.runs.state import LIVE_STATES, REMOVED, run_state
from engine.runs.store import Run
from engine.runs.view import RunFold
from engine.runs.workers import end_orphan, works_in
from engine.text import format_bytes


@click.group()
@group_flags
def runs() -> None:
    """List, show, tag, watch, stop, resume, branch or remove runs. RUN: an id or a part of one, a directory, 'last'."""


@runs.command()
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@click.option(
    "--full",
    is_flag=True,
    help="Show the whole page: settings and who chose each, data, machine, versions, timeline, warnings, files.",
)
@json_option
def show(run_id: str, full: bool, as_json: bool) -> None:
    """Show state, numbers, predicted and measured memory, answers to its prompts, and files of a run."""
    run = store.find_run(run_id)
    if full and not as_json:
        for text in page_lines(OverviewReader(run).read(), width()):
            line(text)
        return
    record, notes = read_record(run.path), load_notes(run.path)
    health = HealthFold(record.prediction.tokens_per_second)
    fold, _ = fold_run(run, health)
    state = run_state(run)
    facts = {
        "run": run.id,
        "state": state,
        "path": str(run.path),
        "model": record.setting("model.name_or_path"),
        **_place(run),
        "parent": record.start.to_json() if record.start else None,
        "tags": list(notes.tags),
        "note": notes.note,
        "step": fold.step,
        "steps_total": fold.steps_total,
        "loss": fold.last_step.get("loss"),
        "eval_loss": fold.last_eval.get("loss"),
        "best_eval_loss": fold.best_eval.get("loss"),
        "tokens_per_second": fold.last_step.get("tokens_per_second"),
        "memory": memory_facts(fold, record.prediction),
        "error": fold.error or None,
        "warnings": fold.warnings,
        "samples": [asdict(sample) for sample in fold.samples.all()],
        "concerns": [asdict(one) for one in health.concerns(time.time(), live=state in LIVE_STATES)],
    }
    if as_json:
        settings = {"settings": record.settings, "provenance": record.raw.get("provenance")}
        print_json({**facts, **settings, **({"overview": asdict(OverviewReader(run).read())} if full else {})})
        return
    _print_facts(facts, fold, str(record.start or ""))


def _print_facts(facts: dict[str, Any], fold: RunFold, begins: str) -> None:
    line(f"{facts['run']}  {facts['state']}")
    line(f"model    {facts['model']}")
    if "stage" in facts:
        line(f"stage    {facts['stage']} of {facts['stages']}")
    if begins:
        line(f"begins   with {begins}")
    line(f"steps    {facts['step']} of {facts['steps_total']}")
    loss, held_out, best = (number(facts[key]) for key in ("loss", "eval_loss", "best_eval_loss"))
    line(f"loss     {loss}  eval {held_out}  best {best}")
    for text in memory_lines(facts["memory"]):
        line(text)
    line(f"files    {facts['path']}")
    if facts["tags"] or facts["note"]:
        line(f"notes    {' '.join([*(f'#{tag}' for tag in facts['tags']), facts['note']]).strip()}")
    for concern in facts["concerns"]:
        line(f"health   {concern['text']} - {concern['hint']}")
    if facts["error"]:
        line(f"error    {EngineError.from_dict(facts['error'])}")
    for text in sample_lines(fold.samples):
        line(text)
    told = [text for _, kind, text in fold.lines if kind != "sample"]
    for text in told[-8:]:
        line(f"  {text}")


@runs.command()
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@json_option
def watch(run_id: str, as_json: bool) -> None:
    """Follow a run until it ends. Ctrl-C ends this command, not the run.

    --json prints every event of the run as a line, as in its events.jsonl; the last line has the type 'end' and the
    outcome: completed, stopped, failed or lost;
    removed where its directory went away.
    """
    run = store.find_run(run_id)
    follow(run, as_json=as_json)
    if (run.path / SUMMARY_FILE).is_file() and not as_json:
        tell_summary(run, as_json=False)


@runs.command()
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@click.option("--now", is_flag=True, help="Stop without saving a checkpoint.")
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for the end.")
@json_option
def stop(run_id: str, now: bool, wait: float, as_json: bool) -> None:
    """Save a checkpoint and stop a run after its current step. The worker of a deleted run is killed."""
    orphan = end_orphan(run_id)
    if orphan is not None:
        note(f"run {run_id} was deleted; its worker (pid {orphan}) was killed")
        if as_json:
            print_json({"run": run_id, "state": REMOVED})
        return
    run = store.find_run(run_id)
    pid = store.worker_pid(run)
    if pid is None:
        note(f"run {run.id} is not running ({run_state(run)})")
    elif now:
        _end_now(run, pid)
    else:
        control.request(run.path, "stop")
    tell_stopped("run", run, wait, as_json=as_json)


def _end_now(run: Run, pid: int) -> None:
    """Send two SIGTERMs, on which a worker ends at once. Only a worker that was started for the run gets them."""
    if pid <= 0:
        raise EngineError(
            f"run {run.id} works in another container or on another host: --now cannot reach it from here",
            code=ExitCode.RESOURCES,
            hint=f"leave --now out: engine runs stop {run.id}",
        )
    if not works_in(pid, run.path):
        raise EngineError(
            f"pid {pid} is no worker of run {run.id}, though the run's files say so: it gets no signal",
            code=ExitCode.RESOURCES,
            where=str(run.path),
            hint="look at it with 'ps'; a run that starts is ended a moment later",
        )
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.2)
    if store.worker_pid(run) == pid:
        os.kill(pid, signal.SIGTERM)


@runs.command()
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@click.option("--detach", is_flag=True, help="Return once training has restarted.")
@json_option
def resume(run_id: str, detach: bool, as_json: bool) -> None:
    """Go on from the newest complete checkpoint; after a stage of several, go on with those behind it."""
    run = store.find_run(run_id)
    in_row = (run.path / STAGES_FILE).is_file()
    if detach and in_row:
        _refuse_detached(run)
    if in_row and run_state(run) == "completed" and _next_stage(run, as_json):
        return
    offset = run.events_path.stat().st_size if run.events_path.exists() else 0
    process = launch.resume_run(run)
    if not detach:
        finish(run, process, as_json=as_json, offset=offset, keep=True, more=_place(run))
        if in_row:
            _next_stage(run, as_json)
        return
    wait_until_it_trains(run, process, quiet=as_json, offset=offset, keep=True)
    tell_begun("run", run, as_json=as_json)


def _place(run: Run) -> dict[str, int]:
    row = row_of(run.path)
    return {} if row is None else {"stage": row.number, "stages": row.count}


def _refuse_detached(run: Run) -> None:
    row = row_of(run.path)
    if row is not None and not row.is_last:
        raise click.UsageError(f"run {run.id} is {row}: something has to start the next stage, so leave --detach out")


def _next_stage(run: Run, as_json: bool) -> bool:
    """Train the stages behind a complete run; False where none is left to begin."""
    from engine.cli.stages import go_on_after

    return go_on_after(run, as_json=as_json)


@runs.command("rm")
@click.argument("run_ids", metavar="[RUN]...", nargs=-1, shell_complete=complete_runs)
@click.option("--where", metavar="WORDS", default="", help="Delete all runs that 'engine runs list WORDS' lists.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def rm(run_ids: tuple[str, ...], where: str, yes: bool, as_json: bool) -> None:
    """Delete runs with their checkpoints and exports. --where never deletes a run that has a worker."""
    where = where.strip()
    if bool(run_ids) == bool(where):
        raise click.UsageError("name runs, or say which with --where")
    chosen = _found(where, yes) if where else [store.find_run(run_id) for run_id in run_ids]
    for run in chosen:
        if not (yes or where):
            click.confirm(f"delete {run.id} ({format_bytes(disk_bytes(run.path))})?", abort=True, err=True)
        remove_run(run)
    tell_removed(chosen, as_json=as_json)


def _found(where: str, yes: bool) -> list[Run]:
    """Runs without a worker that have these words, once somebody has said yes to all of them."""
    found = choose(where.split(), measured=True)
    chosen = [one for one in found if one.traits.state not in LIVE_STATES and store.worker_pid(one.run) is None]
    if len(chosen) < len(found):
        note(f"{len(found) - len(chosen)} with a worker stay")
    if chosen and not yes:
        for one in chosen:
            note(f"  {one.run.id}")
        size = format_bytes(sum(one.traits.disk_bytes or 0 for one in chosen))
        click.confirm(f"delete these {len(chosen)} runs ({size})?", abort=True, err=True)
    return [one.run for one in chosen]


runs.add_command(branch)
runs.add_command(list_)
runs.add_command(tag)
runs.add_command(note_)
runs.add_command(remedy)
