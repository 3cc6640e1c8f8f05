"""The settings of a run as a new profile: its text as it was written, with what the run overrode as edits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine import api
from engine.api import Run
from engine.errors import EngineError, ExitCode
from tui import documents
from tui.form import Form
from tui.newprofile import free_path
from tui.snapshot import short_name


def run_form(run: Run) -> Form:
    """A new profile with the settings of `run`; not on disk until it is saved. Raises EngineError.

    It lies where the run's profile lay, so that relative paths of data still mean the same files.
    """
    run_json = api.load_run_json(run)
    path = run.path / "profile.toml"
    text = documents.read(path) if path.is_file() else ""
    if not text.strip():
        raise EngineError(
            "the run kept no profile", code=ExitCode.PROFILE, where=str(path), hint="make a new one from screen 1"
        )
    form = Form(_place(run, run_json), text)
    for key, entry in _overridden(run_json).items():
        form.set(key, entry)
    return form


def best_form(sweep: Run) -> Form:
    """The profile of a sweep's best trial so far, its paths absolute; not on disk until saved. Raises EngineError."""
    path = sweep.path / "best.toml"
    if not path.is_file():
        raise EngineError(
            "no trial has a value yet", code=ExitCode.PROFILE, where=sweep.id, hint="wait for the first one to end"
        )
    return Form(free_path(f"{short_name(sweep.id)}-best"), documents.read(path))


def _place(run: Run, run_json: Mapping[str, object]) -> Path:
    folder = Path(str(run_json.get("base_dir") or "."))
    written = Path(str(run_json.get("profile_path") or "")).stem
    stem = written if written and written != "profile" else short_name(run.id)
    return free_path(stem, folder if folder.is_dir() else None)


def _overridden(run_json: Mapping[str, object]) -> dict[str, object]:
    """Values that the run got from the command line or from a sweep, by key."""
    provenance = run_json.get("provenance")
    found = provenance.items() if isinstance(provenance, Mapping) else ()
    return {
        str(key): entry["value"]
        for key, entry in found
        if isinstance(entry, Mapping) and entry.get("source") == "override" and "value" in entry
    }
