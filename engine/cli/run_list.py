"""`engine runs list`: runs as a table or JSON: filtered, ordered, grouped, with columns of one's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from engine.cli.common import json_option, line, note, number, print_json, table, warn
from engine.errors import EngineError, ExitCode
from engine.evaluate.report import KINDS, tuned_scores
from engine.jsonvalues import Unreadable, number_in, whole_in
from engine.runs import store
from engine.runs.disk import disk_bytes
from engine.runs.events import EventReader
from engine.runs.jobs import EVALUATION_FOLDER
from engine.runs.listed import settled_traits
from engine.runs.notes import load_notes
from engine.runs.query import is_column, matches, parse_query
from engine.runs.record import Summary, load_record, load_summary
from engine.runs.state import run_state
from engine.runs.store import Run
from engine.runs.traits import RunTraits, falls, grouped, ordered, text_of
from engine.runs.workers import orphans
from engine.text import format_bytes

_TAIL_BYTES = 64 * 1024
BETTER = {kind.key: kind.better for kind in KINDS}
_SHOWN_ALWAYS = ("run", "state", "model", "step", "best")


@dataclass(frozen=True, slots=True)
class Listed:
    """A run with all that a list says of it."""

    run: Run
    traits: RunTraits
    row: dict[str, Any]


@click.command("list")
@click.argument("words", metavar="[WORDS]...", nargs=-1)
@click.option("--limit", default=20, show_default=True, help="Number of runs to list; 0 = all.")
@click.option("--sort", metavar="COLUMN", default="begun", show_default=True, help="Order by this column.")
@click.option("--reverse", is_flag=True, help="Turn the order round.")
@click.option("--column", "columns", metavar="COLUMN", multiple=True, help="Another column. Can be repeated.")
@click.option("--group", metavar="COLUMN", default="", help="Group by this column.")
@click.option("--disk", is_flag=True, help="Tell how much of the disk each run takes, and all of them.")
@json_option
def list_(
    words: tuple[str, ...],
    limit: int,
    sort: str,
    reverse: bool,
    columns: tuple[str, ...],
    group: str,
    disk: bool,
    as_json: bool,
) -> None:
    """List runs, newest first; with WORDS only those with these words.

    WORDS are parts of a name, model, method, state, tag or note, or requirements: tag:keep state:failed model:qwen
    lora.r=16 best<1.2 step>=100 age<7d after:2026-11 disk>2. One that begins with '-' must not hold; write '--' before
    the first of these.

    COLUMN is run, state, model, how, step, best, age, begun, disk, tags or note; a score of an evaluation, such as
    perplexity; or a setting, such as lora.r.
    """
    _check_columns([sort, *columns, *([group] if group else [])])
    asks = any(term.key == "disk" for term in parse_query(" ".join(words)).terms)
    sized = disk or asks or "disk" in (sort, group, *columns)
    newest_alone = limit if not words and sort == "begun" and not reverse else 0
    chosen = choose(words, measured=sized, most=newest_alone)
    listed = ordered(chosen, _traits, sort, falling=falls(sort, BETTER) != reverse)
    listed = [*_orphans(words), *(listed[:limit] if limit else listed)]
    if as_json:
        print_json({"runs": [_json_row(one, columns, sized) for one in listed]})
        return
    if not listed:
        note(f"no runs in {store.runs_root()}" if not words else "no run is like that")
        return
    _print(listed, columns, group, sized)
    if sized:
        note(f"{len(listed)} runs, {format_bytes(sum(one.traits.disk_bytes or 0 for one in listed))} on disk")


def _check_columns(columns: Sequence[str]) -> None:
    wrong = [column for column in columns if not is_column(column)]
    if wrong:
        hint = "run, state, model, how, step, best, age, begun, disk, tags, note, a score, or a setting such as lora.r"
        raise EngineError(f"'{wrong[0]}' is no column", code=ExitCode.PROFILE, hint=hint)


def choose(words: Sequence[str], *, measured: bool = False, most: int = 0) -> list[Listed]:
    """Runs that have these words, newest first; `measured`: with their size on disk; `most`: of how many, 0 = all."""
    asked = parse_query(" ".join(words))
    if wrong := asked.problem or asked.unfinished:
        raise EngineError(wrong, code=ExitCode.PROFILE, where="WORDS", hint="see 'engine runs list --help'")
    now_s = time.time()
    found = store.list_runs()
    listed = (_read(run, measured) for run in (found[:most] if most else found))
    return [one for one in listed if matches(one.traits, asked, now_s)]


def _orphans(words: Sequence[str]) -> list[Listed]:
    """Runs whose worker lives on though their directory was deleted."""
    asked, found = parse_query(" ".join(words)), []
    for run_id, pid in orphans().items():
        nothing: dict[str, Any] = {"step": None, "steps_total": None, "best_eval_loss": None, "tags": [], "note": ""}
        row = {"run": run_id, "state": "orphan", "model": "?", "pid": pid, **nothing}
        found.append(Listed(Run(run_id, store.runs_root() / run_id), RunTraits(run_id, "orphan"), row))
    return [one for one in found if matches(one.traits, asked, time.time())]


def _traits(one: Listed) -> RunTraits:
    return one.traits


def _read(run: Run, measured: bool) -> Listed:
    record, summary, notes = load_record(run.path), load_summary(run.path), load_notes(run.path)
    state = "damaged" if isinstance(record, Unreadable) else run_state(run)
    if isinstance(summary, Unreadable):
        summary = _last_step(run)
    settled = settled_traits(run, record, notes, tuned_scores(run.path / EVALUATION_FOLDER))
    traits = replace(
        settled,
        state=state,
        step=summary.step or 0,
        best=summary.best_eval_loss,
        last_s=_last_s(run),
        disk_bytes=disk_bytes(run.path) if measured else None,
    )
    row: dict[str, Any] = {"run": run.id, "state": state, "model": traits.model or "?"}
    row |= {"problem": str(record)} if isinstance(record, Unreadable) else {}
    row |= {"step": summary.step, "steps_total": summary.steps_total, "best_eval_loss": summary.best_eval_loss}
    return Listed(run, traits, {**row, "tags": list(notes.tags), "note": notes.note})


def _last_step(run: Run) -> Summary:
    """How far a run without a summary has come, and how well it did."""
    try:
        events = EventReader.at_tail(run.events_path, _TAIL_BYTES).read()
    except OSError as error:
        warn(f"{run.id}: events.jsonl cannot be read: {error.strerror}")
        return Summary()
    step = next((event for event in reversed(events) if event["type"] == "train_step"), None)
    best = next((event for event in reversed(events) if event["type"] == "eval" and event.get("best")), None)
    return Summary(
        step=whole_in(step, "step"),
        steps_total=whole_in(step, "steps_total"),
        best_eval_loss=number_in(best, "loss"),
    )


def _last_s(run: Run) -> float:
    for path in (run.events_path, run.path):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _json_row(one: Listed, columns: Sequence[str], measured: bool) -> dict[str, Any]:
    own = {column: text_of(one.traits, column) for column in columns if column not in (*_SHOWN_ALWAYS, "disk")}
    return {
        **one.row,
        **({"disk_bytes": one.traits.disk_bytes} if measured else {}),
        **({"columns": own} if own else {}),
    }


def _print(listed: list[Listed], columns: Sequence[str], group: str, measured: bool) -> None:
    shown = [column for column in dict.fromkeys(columns) if column not in (*_SHOWN_ALWAYS, "disk")]
    if any(one.traits.notes.tags for one in listed) and "tags" not in shown:
        shown.append("tags")
    header = ("run", "state", "model", "steps", "best eval", *(["disk"] if measured else []), *shown)
    lines = table([_cells(one, shown, measured) for one in listed], header=header)
    by_run = dict(zip((one.run.id for one in listed), lines[1:], strict=True))
    line(lines[0])
    if not group:
        for text in lines[1:]:
            line(text)
        return
    for value, members in grouped(listed, _traits, group):
        line(f"{group} = {value or 'not set'}  ({len(members)})")
        for one in members:
            line(by_run[one.run.id])


def _cells(one: Listed, shown: Sequence[str], measured: bool) -> list[str]:
    row = one.row
    steps = f"{row['step']}/{row['steps_total']}" if row["step"] is not None else "-"
    cells = [row["run"], row["state"], row["model"], steps, number(row["best_eval_loss"])]
    cells += [format_bytes(one.traits.disk_bytes or 0)] if measured else []
    return cells + [text_of(one.traits, column) or "-" for column in shown]
