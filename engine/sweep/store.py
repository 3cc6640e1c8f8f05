"""Sweep directories: `$XDG_STATE_HOME/tunedeck/sweeps/<utc>-<name>-<4 hex>/`, laid out as a run's.

`profile.toml` as the person wrote it with what the command line changed, `sweep.json` (what is searched, the bill),
`trials.json` (every trial as it stands), `study.journal` (Optuna's own), `events.jsonl worker.log lock control/`.
Written by the command line (once) and the sweep's worker. Light: the shell and the deck read it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.files import write_json_atomic, write_text_atomic
from engine.jsonvalues import Unreadable, load_object
from engine.runs import store as runs
from engine.runs.record import load_record
from engine.runs.removal import remove_directory
from engine.runs.store import Run

SWEEP_VERSION = 1
SWEEP_JOB = {"v": 1, "job": "sweep"}


def sweeps_root() -> Path:
    """Where sweep directories are."""
    return runs.state_home() / "sweeps"


def create_sweep(name: str, sweep_json: Mapping[str, Any], profile_text: str) -> Run:
    """Make a sweep's directory. Raises EngineError(DISK) when it cannot be written."""
    sweep = runs.new_directory(sweeps_root(), name, ("control",))
    try:
        write_text_atomic(sweep.path / "profile.toml", profile_text)
        write_json_atomic(sweep.path / "sweep.json", {"v": SWEEP_VERSION, **sweep_json})
        write_json_atomic(sweep.path / "job.json", SWEEP_JOB)
    except OSError as error:
        shutil.rmtree(sweep.path, ignore_errors=True)
        raise runs.directory_error(sweep.path, error) from error
    return sweep


def list_sweeps() -> list[Run]:
    """All sweeps, newest first."""
    return runs.directories(sweeps_root())


def find_sweep(reference: str) -> Run:
    """A sweep by id, by any unambiguous part of it, or `last`. Raises EngineError(PROFILE)."""
    return runs.find_among(list_sweeps(), reference, kind="sweep", listed_by="engine sweeps list")


def read_sweep(sweep: Run) -> dict[str, Any]:
    """sweep.json. Raises EngineError(PROFILE) when it is damaged or of another version."""
    name = "sweep.json"
    hint = "start a new sweep"
    found = load_object(sweep.path / name, name=name, version_key="v", newest=SWEEP_VERSION, hint=hint)
    if isinstance(found, Unreadable):
        raise found.error()
    return found


def trial_runs(sweep_id: str) -> dict[int, Run]:
    """Runs of this machine that are trials of the sweep, by trial number; the newest where one was started twice."""
    found: dict[int, Run] = {}
    for run in runs.list_runs():
        record = load_record(run.path)
        trial = None if isinstance(record, Unreadable) else record.trial
        if trial is not None and trial.sweep == sweep_id and trial.number is not None:
            found.setdefault(trial.number, run)
    return found


def remove_sweep(sweep: Run) -> None:
    """Delete a sweep's directory; its trials' runs stay. Raises EngineError(RESOURCES) while it works."""
    remove_directory(sweep, kind="sweep")
