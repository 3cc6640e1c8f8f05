"""Profiles written whole or not at all: new ones from a dict, edits that keep a person's comments.

Nothing is written that does not validate. Not here: making a profile from a plan (`resolve.py`).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from engine.errors import EngineError, ExitCode, Problem, problems_error
from engine.files import write_text_atomic
from engine.profile.load import load_text
from engine.profile.overrides import put
from engine.profile.tomltext import BadToml, parse, read_text, shown_path

_NEW_FILE_MODE = 0o644


def profile_text(settings: Mapping[str, Any]) -> str:
    """TOML of nested settings; unset (None) ones are left out, as TOML has no null."""
    tree = _without_none(settings)
    data = dict(tree.get("data", {}))
    entries = data.pop("datasets", [])
    tree = {name: table for name, table in {**tree, "data": data}.items() if table != {}}
    return tomli_w.dumps(tree) + "".join(_entry_text(entry) for entry in entries)


def _entry_text(entry: dict[str, Any]) -> str:
    """A `[[data.datasets]]` block: tomli_w would write short ones as inline tables, which are harder to edit."""
    plain = {name: value for name, value in entry.items() if not isinstance(value, dict)}
    text = "\n[[data.datasets]]\n" + tomli_w.dumps(plain)
    tables = {name: value for name, value in entry.items() if isinstance(value, dict) and value}
    return text + "".join(f"\n[data.datasets.{name}]\n{tomli_w.dumps(value)}" for name, value in tables.items())


def write_profile(path: Path, settings: Mapping[str, Any]) -> None:
    """Write a new profile from nested settings. Raises EngineError, and then leaves `path` as it was."""
    save_text(path, profile_text(settings))


def edit_profile(path: Path, changes: Mapping[str, Any]) -> None:
    """Set dotted keys in an existing profile; None removes one. Comments, order and layout stay.

    Raises EngineError with every problem that the file would have afterwards; it is then unchanged.
    """
    try:
        text = read_text(path)
    except BadToml as error:
        raise problems_error([error.problem], ExitCode.PROFILE, shown_path(path)) from None
    save_text(path, edited_text(text, changes, path))


def edited_text(text: str, changes: Mapping[str, Any], path: Path) -> str:
    """`text` with the changes, not yet validated."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        parse(text, shown_path(path))
        document = tomlkit.parse(text)
        for key, value in changes.items():
            _change(document, key, value)
        return tomlkit.dumps(document)
    except BadToml as error:
        raise problems_error([error.problem], ExitCode.PROFILE, shown_path(path)) from None
    except (TOMLKitError, ValueError) as error:
        problem = Problem(str(error), "edit the file by hand", shown_path(path))
        raise problems_error([problem], ExitCode.PROFILE, shown_path(path)) from None


def save_text(path: Path, text: str) -> None:
    """Validate a profile's text against the schema and put it in place at once."""
    found = load_text(text, path)
    if found.problems:
        raise problems_error(list(found.problems), ExitCode.PROFILE, shown_path(path))
    write_page(path, text)


def write_page(path: Path, text: str, what: str = "the profile") -> None:
    """Put a page of settings in place at once; its mode stays. Raises EngineError in words."""
    target = path.resolve()
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else _NEW_FILE_MODE
        write_text_atomic(target, text, mode=mode)
    except (OSError, ValueError) as error:
        raise _write_error(path, error, what) from None


def _write_error(path: Path, error: Exception, what: str) -> EngineError:
    number = getattr(error, "errno", None)
    full = number in (errno.ENOSPC, errno.EDQUOT)
    code = ExitCode.DISK if full else ExitCode.PROFILE
    reason = getattr(error, "strerror", None) or "bad path"
    hint = "free some space" if full else "choose a folder that exists and can be written"
    return EngineError(f"{what} cannot be written: {reason}", code=code, hint=hint, where=shown_path(path))


def _change(document: Any, key: str, value: Any) -> None:
    import tomlkit

    if value is None:
        _remove(document, key)
    else:
        put(document, key, value, new_table=tomlkit.table, new_list=tomlkit.aot)


def _remove(document: Any, key: str) -> None:
    *above, last = key.split(".")
    holder = document
    for part in above:
        holder = holder[int(part)] if isinstance(holder, list) else holder.get(part)
        if holder is None:
            return
    if last in holder:
        del holder[last]


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _without_none(item) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value if item is not None]
    return str(value) if isinstance(value, Path) else value
