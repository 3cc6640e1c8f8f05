"""Stages in a row: `engine train sft.toml dpo.toml`, and going on with them when one was stopped or failed."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.common import note, warn
from engine.cli.train import finish, tell_plan, told_by_worker
from engine.errors import EngineError, ExitCode
from engine.hardware.probe import probe_machine
from engine.profile.tomltext import BadToml, read_text
from engine.resolve.stages import check_stages, read_again, resolve_stage
from engine.runs import launch
from engine.runs.stages import StageProfile, StageRow, next_run, row_of, write_row
from engine.runs.store import Run


def train_stages(profiles: tuple[Path, ...], overrides: tuple[str, ...], name: str, *, as_json: bool) -> None:
    """Train the profiles one after the other, each from the adapter of the one before."""
    stages = tuple(StageProfile(str(path.absolute()), _text(path), overrides) for path in profiles)
    row = StageRow(1, stages, name)
    check_stages(row, probe_machine(processes=False))
    _train_from(row, None, as_json=as_json)


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except BadToml as error:
        raise EngineError(
            error.problem.message, code=ExitCode.PROFILE, where=error.problem.where, hint=error.problem.hint
        ) from None


def _train_from(row: StageRow, before: Run | None, *, as_json: bool) -> None:
    while True:
        before = _train_one(row, before, as_json=as_json)
        if row.is_last:
            return
        row = row.after(before)


def _train_one(row: StageRow, before: Run | None, *, as_json: bool) -> Run:
    """One stage, to its end. What ends it, ends the row, with a word on how to go on."""
    note(str(row))
    run: Run | None = None
    try:
        resolved, loaded = resolve_stage(row, before, probe_machine(processes=False))
        for warning in resolved.warnings:
            warn(warning)
        if not as_json:
            tell_plan(resolved)
        title = f"{row.name}-{row.number}" if row.name else resolved.settings.name or Path(row.profile.path).stem
        run, process = launch.start_run(title, resolved.to_run_json(), loaded.text)
        write_row(run, row)
        known = frozenset(told_by_worker(warning) for warning in resolved.warnings)
        finish(run, process, as_json=as_json, known=known, more=_place(row))
    except EngineError as error:
        _tell_end(row, run, before)
        error.message = f"stage {row.number} of {row.count}: {error.message}"
        raise
    except (click.exceptions.Exit, SystemExit):
        _tell_end(row, run, before)
        raise
    return run


def _place(row: StageRow) -> dict[str, int]:
    return {"stage": row.number, "stages": row.count}


def _tell_end(row: StageRow, run: Run | None, before: Run | None) -> None:
    """Why the row ends here, and how it goes on."""
    rest = "" if row.is_last else f"; stage {row.number + 1} was not begun"
    there = run if run is not None and run.path.is_dir() else before
    how = f"engine runs resume {there.id}" if there is not None else "start the row again"
    note(f"stage {row.number} of {row.count} did not end{rest} - to go on: {how}")


def go_on_after(run: Run, *, as_json: bool) -> bool:
    """Begin the stage behind a complete run; False where there is none to begin. Raises EngineError if it was begun."""
    row = row_of(run.path)
    if row is None or row.is_last:
        return False
    begun = next_run(run)
    if begun is not None:
        raise EngineError(
            f"run {run.id} is complete, and stage {row.number + 1} of {row.count} is run {begun.id}",
            code=ExitCode.PROFILE,
            hint=f"engine runs resume {begun.id}",
        )
    after, changed = read_again(row.after(run))
    for path in changed:
        warn(f"{path} was edited since the row began: stage {after.number} uses it as it is now")
    _train_from(after, run, as_json=as_json)
    return True
