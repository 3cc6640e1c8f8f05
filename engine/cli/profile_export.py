"""`engine profile export`: a profile as a training file of LLaMA-Factory, Axolotl or TRL."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.common import json_option, line, note, print_json
from engine.cli.profile_argument import profile_argument, set_option
from engine.errors import EngineError, ExitCode, problems_error
from engine.text import sanitize

if TYPE_CHECKING:
    from engine.profile.foreign.outgoing import Outgoing, Rows
    from engine.profile.load import LoadedProfile
    from engine.profile.schema import Profile

_LOOKED_AT = 100
_FILE = click.Path(path_type=Path)


@click.command("export")
@profile_argument("file")
@click.option("--to", "tool", type=click.Choice(["llamafactory", "axolotl", "trl"]), required=True, help="Whose file.")
@click.option("-o", "--output", type=_FILE, help="File to write; default: PROFILE's name with .yaml, here.")
@click.option("--resolved", is_flag=True, help="Write the values chosen for this machine where the profile says auto.")
@set_option
@click.option("--force", is_flag=True, help="Replace the files if they exist.")
@json_option
def export(
    file: Path, tool: str, output: Path | None, resolved: bool, overrides: tuple[str, ...], force: bool, as_json: bool
) -> None:
    """Write PROFILE as a training file of another tool; for LLaMA-Factory with a dataset_info.json beside it.

    Lists every setting that the other tool cannot be told, which the file's heading does too. Paths of data are
    relative to the written file.
    """
    from engine.profile.foreign.out import outgoing
    from engine.profile.foreign.out_text import yaml_text
    from engine.profile.load import load_profile
    from engine.profile.save import write_page

    target = output or Path(f"{file.stem}.yaml")
    loaded = load_profile(file, overrides)
    settings = _settings(loaded, resolved)
    out = outgoing(tool, _moved(settings, loaded.base_dir, target), loaded.given, lambda number: _look(loaded, number))
    texts = {target: yaml_text(out, file.name, target.name)}
    others = {target.absolute().parent / name: value for name, value in out.files.items()}
    texts |= {path: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for path, value in others.items()}
    _refuse_existing(list(texts), force)
    for path, text in texts.items():
        write_page(path, text, "the file")
    _tell(out, list(texts), as_json)


def _tell(out: Outgoing, paths: list[Path], as_json: bool) -> None:
    if as_json:
        lost = [{"key": one.key, "value": one.value, "message": one.reason} for one in out.lost]
        print_json({"paths": [str(path) for path in paths], "tool": out.tool, "settings": out.told, "lost": lost})
        return
    for one in out.lost:
        note(sanitize(f"not carried over, or not quite: {one}", single_line=True))
    note(f"{len(out.told)} settings for {out.tool}, {len(out.lost)} that it cannot be told")
    for path in paths:
        line(str(path))


def _refuse_existing(paths: list[Path], force: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not force:
        hint = "name a file in another folder with --output, or replace it with --force"
        raise EngineError("the file exists", code=ExitCode.PROFILE, where=str(there[0]), hint=hint)


def _settings(loaded: LoadedProfile, resolved: bool) -> Profile:
    """The profile as it is written, or with this machine's choices. Raises EngineError for an invalid one."""
    from engine.hardware.probe import probe_machine
    from engine.resolve.resolve import resolve_profile

    if resolved:
        return resolve_profile(loaded, probe_machine(processes=False)).settings
    if loaded.profile is None:
        raise problems_error(list(loaded.problems), ExitCode.PROFILE, str(loaded.path))
    return loaded.profile


def _moved(settings: Profile, base: Path, target: Path) -> Profile:
    """Paths of data as they read from the folder of the written file."""
    data = settings.data
    home = target.absolute().parent
    sets = [entry.model_copy(update={"path": _from(entry.path, base, home)}) for entry in data.datasets]
    held_out = _from(data.validation_path, base, home) if data.validation_path else None
    moved = data.model_copy(update={"datasets": sets, "validation_path": held_out})
    template, adapter, model = data.template, settings.tuning.adapter, settings.model.name_or_path
    if model != "demo" and os.path.exists(base / os.path.expanduser(model)):
        own = settings.model.model_copy(update={"name_or_path": _from(model, base, home)})
        settings = settings.model_copy(update={"model": own})
    if template.endswith(".jinja"):
        moved = moved.model_copy(update={"template": _from(template, base, home)})
    if adapter and "/" in adapter:
        tuning = settings.tuning.model_copy(update={"adapter": _from(adapter, base, home)})
        return settings.model_copy(update={"data": moved, "tuning": tuning})
    return settings.model_copy(update={"data": moved})


def _from(path: str, base: Path, home: Path) -> str:
    if path.startswith(("hub:", "demo:", "/", "~")):
        return os.path.expanduser(path)
    return os.path.relpath(base / path, home)


def _look(loaded: LoadedProfile, number: int) -> Rows | None:
    """What the first rows of a data set are, where they can be read; a set that is not here stays unknown."""
    import itertools

    from engine.data.layouts import recognise
    from engine.data.preference import NEEDED
    from engine.data.rows import read_rows
    from engine.data.sources import data_files
    from engine.profile.foreign.outgoing import Rows, own_word

    assert loaded.profile is not None
    dataset = loaded.profile.data.datasets[number]
    try:
        path = data_files(dataset, loaded.base_dir)[0]
        first = [row.value for row in itertools.islice(read_rows(path)[1], _LOOKED_AT) if isinstance(row.value, dict)]
        wanted = NEEDED.get(loaded.profile.train.objective, dataset.format)
        layout = recognise({str(key) for row in first for key in row}, wanted, dataset.columns, str(path))
    except (EngineError, OSError):
        return None
    messages = [message for row in first for message in _messages(row, layout.columns)]
    keys = {str(key) for message in messages for key in message}
    role = dataset.message_keys.get("role", "from" if "from" in keys else "role")
    content = dataset.message_keys.get("content", "value" if "value" in keys else "content")
    words = {str(message.get(role)) for message in messages}
    user, assistant = ("human" if "human" in words else "user"), ("gpt" if "gpt" in words else "assistant")
    speakers = (own_word(dataset, "user", user), own_word(dataset, "assistant", assistant))
    return Rows(layout.name, dict(layout.columns), (role, content), speakers, bool(messages))


def _messages(row: dict[str, Any], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    found = [row.get(column) for role, column in columns.items() if role in ("messages", "prompt")]
    return [one for value in found if isinstance(value, list) for one in value if isinstance(one, dict)]
