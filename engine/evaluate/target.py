"""Turn the arguments of `engine evaluate` into a worker's job: a run, or a model beside a run, a base or alone.

It checks settings before anything is loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode, Problem, problems_error
from engine.runs import store
from engine.runs.record import RunRecord, read_record
from engine.runs.store import Run

SETTABLE = ("evaluate.", "model.max_length", "data.system", "data.mask", "launch.device")
_PATHS = ("evaluate.retention_path", "evaluate.bertscore_encoder")
"""Settings that name files: from a shell they start at the working directory, not at a profile's folder."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments of the command. `base` and `run` belong to a model at a path."""

    target: str
    run: str | None = None
    data: tuple[str, ...] = ()
    base: str | None = None
    overrides: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Of the rows in `data`, each as `role=column`."""


def job_of(asked: Asked, *, needs_rows: bool = True) -> tuple[dict[str, Any], Run | None]:
    """The worker's job, and the run that its report belongs to. Raises EngineError(PROFILE or MODEL)."""
    path = _model_path(asked.target)
    run = _run_of(asked, path)
    if path is None and (asked.base or asked.run):
        raise _usage(
            f"--{'base' if asked.base else 'run'} belongs to a model at a path", "leave it out: a run has a base"
        )
    if needs_rows and run is None and not asked.data:
        raise _usage(
            "no rows to score: the model lies in no run's export",
            "name the run whose held-out rows serve with --run RUN, or rows of any data format with --data PATH",
        )
    job: dict[str, Any] = {"job": "evaluate", "path": None if path is None else str(path)}
    job |= {
        "data": [_data(path) for path in asked.data],
        "columns": _columns(asked),
        "base": _absolute(asked.base),
        "base_dir": os.getcwd(),
    }
    record = None if run is None else read_record(run.path)
    if run is not None and record is not None:
        job |= {"run_dir": str(run.path), "run_json": record.raw}
    if run is None or asked.overrides:
        job["settings"] = _settings(record, asked)
    return job, run


def _model_path(target: str) -> Path | None:
    """The model file or folder that `target` names; None where it names a run."""
    path = Path(target).expanduser()
    if path.is_dir() and not (path / "run.json").is_file():
        return path.resolve()
    if path.suffix == ".gguf" and (path.is_file() or os.sep in target):
        if not path.is_file():
            raise EngineError("there is no such file", code=ExitCode.MODEL, where=target, hint="check the path")
        return path.resolve()
    if path.is_file():
        raise EngineError(
            "this is no model", code=ExitCode.MODEL, where=target, hint="name a model directory, a .gguf file or a run"
        )
    if os.sep in target and not path.exists():
        raise EngineError("there is no such directory", code=ExitCode.MODEL, where=target, hint="check the path")
    return None


def _run_of(asked: Asked, path: Path | None) -> Run | None:
    """The run itself, the one that was named, or the one in whose directory the model lies."""
    if path is None:
        return store.find_run(asked.target)
    if asked.run is not None:
        return store.find_run(asked.run)
    home = next((parent for parent in path.parents if (parent / "run.json").is_file()), None)
    return None if home is None or asked.base else Run(home.name, home)


def _absolute(reference: str | None) -> str | None:
    """A path from the shell as the worker, which runs elsewhere, can find it; names stay."""
    if reference is None or reference == "demo" or not Path(reference).expanduser().exists():
        return reference
    return str(Path(reference).expanduser().resolve())


def _columns(asked: Asked) -> dict[str, str]:
    """Role -> column. Raises EngineError(PROFILE)."""
    found = {}
    for text in asked.columns:
        role, mark, column = (part.strip() for part in text.partition("="))
        if not (mark and role and column):
            raise _usage(f"--column {text}: not ROLE=NAME", "write, for example, --column instruction=question")
        found[role] = column
    if found and not asked.data:
        raise _usage("--column belongs to rows of your own", "add --data PATH")
    return found


def _data(path: str) -> str:
    """The same for rows: everything but a built-in set or one of the hub is a path."""
    from engine.profile.data_files import BUILT_IN, HUB

    if path.startswith((BUILT_IN, HUB)):
        return path
    return str(Path(path).expanduser().absolute())


def _settings(record: RunRecord | None, asked: Asked) -> dict[str, Any]:
    """The run's settings, or defaults, with what `--set` changes; every problem at once."""
    from engine.profile.overrides import apply_overrides
    from engine.profile.runjson import settings_of
    from engine.profile.schema_problems import validate

    tree: dict[str, Any] = {"model": {"name_or_path": "?"}, "data": {"datasets": [{"path": "?"}]}}
    if record is not None:
        tree = settings_of(record)[0].model_dump(mode="json")
    keys, problems = apply_overrides(tree, asked.overrides)
    known = ", ".join(SETTABLE).replace("evaluate.", "evaluate.*")
    problems += [
        Problem(f"{key} cannot be set here", f"known: {known}", "--set", key)
        for key in sorted(keys)
        if not key.startswith(SETTABLE)
    ]
    for key in _PATHS:
        name = key.removeprefix("evaluate.")
        if key in keys and isinstance(tree["evaluate"].get(name), str):
            tree["evaluate"][name] = _absolute(tree["evaluate"][name])
    found = validate(tree, lambda key: ("--set" if key in keys else "run.json", None))
    problems += found.problems
    if problems or found.profile is None:
        raise problems_error(problems, ExitCode.PROFILE, "settings of the evaluation")
    return found.profile.model_dump(mode="json")


def _usage(message: str, hint: str) -> EngineError:
    return EngineError(message, code=ExitCode.PROFILE, hint=hint)
