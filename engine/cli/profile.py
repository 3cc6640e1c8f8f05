"""`engine profile …`: check, show, create and edit profiles.

Arguments and layout only. `engine.profile` and `engine.resolve` do the work; `--help` does not import them,
because pydantic takes longer than all of `--help`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.common import device_option, json_option, line, note, print_json, table, warn
from engine.cli.flags import group_flags
from engine.cli.names import complete_models, complete_shipped
from engine.cli.profile_argument import profile_argument, set_option
from engine.cli.profile_export import export
from engine.cli.profile_import import import_
from engine.errors import EngineError, ExitCode, problems_error
from engine.text import format_bytes

if TYPE_CHECKING:
    from engine.profile.load import LoadedProfile

_FILE = click.Path(path_type=Path)
_SUMMARY = (
    "tuning.method",
    "quantization.method",
    "model.dtype",
    "model.max_length",
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "train.learning_rate",
)


@click.group()
@group_flags
def profile() -> None:
    """Check, create, show or edit profiles."""


profile.add_command(import_)
profile.add_command(export)


@profile.command()
@profile_argument("file")
@set_option
@json_option
def check(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """List every problem that keeps PROFILE from running here.

    Exit code 2, or 3 (data), 4 (model), 5 (does not fit) if all problems are of that kind.
    """
    from engine.hardware.probe import probe_machine
    from engine.resolve.resolve import resolve_profile

    resolved = resolve_profile(_load(file, overrides), probe_machine(processes=False))
    plan, chosen = resolved.plan, {key: resolved.provenance[key]["value"] for key in _SUMMARY}
    if as_json:
        warnings = [problem.to_dict() for problem in resolved.warnings]
        fit = {"verdict": plan.verdict, "device": plan.device_name, "device_bytes": plan.estimate.device_bytes}
        print_json({"ok": True, "path": str(file), **fit, "settings": chosen, "warnings": warnings})
        return
    for problem in resolved.warnings:
        warn(problem)
    needed, there = format_bytes(plan.estimate.device_bytes), format_bytes(plan.available_bytes)
    settings = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in list(chosen.items())[2:])
    what = f"{chosen['tuning.method']}, quantization {chosen['quantization.method']}, {settings}"
    line(f"ok: {plan.model.name} on {plan.device_title}, {needed} of {there}: {what}")


@profile.command()
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON Schema of a profile, with or without --json."""
    from engine.profile.fields import json_schema

    print_json(json_schema())


@profile.command()
@profile_argument("file")
@click.option("--resolved", is_flag=True, help="Also show the values chosen for this machine, with reasons.")
@set_option
@json_option
def show(file: Path, resolved: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print every setting of PROFILE with its source: profile, override, default or auto."""
    from engine.profile.values import format_value

    provenance = _provenance(_load(file, overrides), resolved)
    if as_json:
        print_json({"path": str(file), "resolved": resolved, "settings": provenance})
        return
    rows = [(key, format_value(entry["value"]), entry["source"], entry["reason"]) for key, entry in provenance.items()]
    for text in table(rows, header=("key", "value", "source", "reason")):
        line(text)


@profile.command()
@click.argument("file", type=_FILE)
@click.option(
    "--from",
    "source",
    metavar="NAME",
    shell_complete=complete_shipped,
    help="Start from a shipped profile; 'engine profile list' shows them.",
)
@click.option("--model", shell_complete=complete_models, help="Directory, hub id, .gguf file or 'demo'.")
@click.option("--data", type=_FILE, help="File of training examples.")
@device_option
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
def new(
    file: Path, source: str | None, model: str | None, data: Path | None, device: str, force: bool, as_json: bool
) -> None:
    """Write a profile to FILE: from a shipped profile, or with settings chosen for this machine and MODEL."""
    from engine.profile.save import save_text
    from engine.resolve.create import from_model, from_shipped

    if source is None and model is None:
        raise click.UsageError("Give --from NAME (see 'engine profile list') or --model MODEL.")
    if file.exists() and not force:
        hint = "name another, or replace it with --force"
        raise EngineError("the file exists", code=ExitCode.PROFILE, where=str(file), hint=hint)
    path = _data_reference(data, file)
    if source:
        text = from_shipped(source, model, path, device, file)
    else:
        text = from_model(model or "", path or "train.jsonl", device)
    save_text(file, text)
    if as_json:
        print_json({"path": str(file)})
        return
    line(str(file))
    note(f"next: engine profile check {file}")


@profile.command("set")
@profile_argument("file", writes=True)
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@json_option
def set_(file: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Change settings in the file PROFILE; comments stay. KEY= without a value removes a setting.

    The file does not change if the result would not be a valid profile.
    """
    from engine.profile.save import edit_profile
    from engine.profile.values import format_value

    changes = _changes(settings)
    edit_profile(file, changes)
    if as_json:
        print_json({"path": str(file), "changes": changes})
        return
    for key, value in changes.items():
        line(f"{key} removed" if value is None else f"{key} = {format_value(value)}")


@profile.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the profiles that come with the package."""
    from engine.profile.shipped import shipped_profiles

    profiles = shipped_profiles()
    if as_json:
        rows = [{"name": item.name, "description": item.description, "path": str(item.path)} for item in profiles]
        print_json({"profiles": rows})
        return
    for text in table([(item.name, item.description) for item in profiles]):
        line(text)


def _changes(settings: tuple[str, ...]) -> dict[str, Any]:
    """Keys with their new values; None removes a key. Raises EngineError(PROFILE) with every bad one."""
    from engine.profile.overrides import apply_overrides, split_override

    problems = apply_overrides({}, settings)[1]
    if problems:
        raise problems_error([replace(one, where="") for one in problems], ExitCode.PROFILE, "settings")
    values = dict(split_override(text) for text in settings)
    removed = {text.partition("=")[0].strip() for text in settings if not text.partition("=")[2].strip()}
    return {key: None if key in removed else value for key, value in values.items()}


def _data_reference(data: Path | None, file: Path) -> str | None:
    """The data path as the profile names it: relative to its own folder; built-in names stay as they are."""
    if data is None or str(data).startswith("demo:"):
        return str(data) if data else None
    return os.path.relpath(data, file.parent)


def _load(file: Path, overrides: tuple[str, ...]) -> LoadedProfile:
    from engine.profile.load import load_profile

    return load_profile(file, overrides)


def _provenance(loaded: LoadedProfile, resolved: bool) -> dict[str, dict[str, Any]]:
    from engine.hardware.probe import probe_machine
    from engine.resolve.resolve import as_written, resolve_profile

    if not resolved:
        return as_written(loaded)
    return resolve_profile(loaded, probe_machine(processes=False)).provenance
