"""Where an open profile comes from: a file, a shipped text, a plan, or the built-in demo."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from engine.api import fit, profiles, runs
from engine.api.fit import Plan, Requirements
from engine.api.runs import Run, RunRecord
from engine.errors import EngineError, ExitCode
from tui.documents import document
from tui.documents.form import Form
from tui.reading.snapshot import short_name

_DEMO = """\
# The built-in demo model on its own data: trains in about a minute, anywhere.
schema_version = 1
name = "demo"

[model]
name_or_path = "demo"

[[data.datasets]]
path = "demo:train"
"""


def file_form(path: Path) -> Form:
    """The profile in `path`. Raises EngineError when it cannot be read."""
    return Form(path, document.read(path), on_disk=True)


def shipped_form(name: str, text: str) -> Form:
    """A profile that comes with the program; saving writes a copy into this folder."""
    return Form(document.free_path(name), text, shipped=True)


def demo_form(asked: Requirements | None = None) -> Form:
    """The shipped demo profile: model and data are built in; on the device that is asked for."""
    form = shipped_form("demo", next((text for name, text in document.shipped() if name == "demo"), _DEMO))
    for key, value in fit.device_settings(asked).items() if asked else ():
        form.set(key, value)
    return form


def plan_form(plan: Plan, data_path: str, asked: Requirements) -> Form:
    """A new profile from a plan and a file of examples, on the device asked for; not on disk until it is saved."""
    path = document.free_path(plan.model.name.rpartition("/")[2])
    return Form(path, document.toml_of(profiles.plan_to_profile(plan, _relative(data_path, path.parent), asked)))


def data_path_problem(text: str) -> str:
    """Why a typed data path cannot be used, or nothing. Looks at files: not for the screen's loop."""
    if not text:
        return "type the path of your examples"
    message, hint = profiles.data_trouble(text, Path.cwd())
    return f"{message}: {hint}" if message and hint else message


def _relative(data_path: str, folder: Path) -> str:
    if data_path.startswith(("demo:", "hub:")):
        return data_path
    path = Path(data_path).expanduser().absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def nearby() -> list[Path]:
    """Profiles in this folder, newest first."""
    found = [path for path in Path.cwd().glob("*.toml") if path.name != "pyproject.toml" and path.is_file()]
    return sorted(found, key=_newest_first)[:50]


def _newest_first(path: Path) -> float:
    with suppress(OSError):  # it may go away meanwhile
        return -path.stat().st_mtime
    return 0.0


def missing(path: Path) -> EngineError:
    """The error for a profile that went away between listing and opening."""
    return EngineError("there is no such profile", code=ExitCode.PROFILE, where=str(path))


def run_form(run: Run) -> Form:
    """A new profile with the settings of `run`; not on disk until it is saved. Raises EngineError.

    It lies where the run's profile lay, so that relative paths of data still mean the same files.
    """
    record = runs.read_record(run.path)
    path = run.path / "profile.toml"
    text = document.read(path) if path.is_file() else ""
    if not text.strip():
        raise EngineError(
            "the run kept no profile", code=ExitCode.PROFILE, where=str(path), hint="make a new one from screen 1"
        )
    form = Form(_place(run, record), text)
    for key, entry in record.overridden.items():
        form.set(key, entry)
    return form


def best_form(sweep: Run) -> Form:
    """The profile of a sweep's best trial so far, its paths absolute; not on disk until saved. Raises EngineError."""
    path = sweep.path / "best.toml"
    if not path.is_file():
        raise EngineError(
            "no trial has a value yet", code=ExitCode.PROFILE, where=sweep.id, hint="wait for the first one to end"
        )
    return Form(document.free_path(f"{short_name(sweep.id)}-best"), document.read(path))


def _place(run: Run, record: RunRecord) -> Path:
    folder = record.base_dir or Path(".")
    written = record.profile_path.stem if record.profile_path else ""
    stem = written if written and written != "profile" else short_name(run.id)
    return document.free_path(stem, folder if folder.is_dir() else None)
