"""The PROFILE argument and the `--set` option of commands.

`engine.profile.overrides` parses `--set`, so that its problems appear with the profile's own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from engine.cli.names import complete_files, complete_profiles
from engine.errors import EngineError, ExitCode
from engine.text import sanitize

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting once, e.g. lora.r=32; repeatable.",
)


def profile_argument(name: str = "profile", *, writes: bool = False) -> Callable[[Any], Any]:
    """PROFILE as a path: an existing file or, unless the command `writes` to it, a shipped profile by name."""
    if writes:
        return click.argument(name, metavar="PROFILE", callback=_file_to_write, shell_complete=complete_files)
    return click.argument(name, metavar="PROFILE", callback=_file, shell_complete=complete_profiles)


def profiles_argument(name: str = "profiles") -> Callable[[Any], Any]:
    """PROFILE one or several times, each as `profile_argument` takes it."""
    return click.argument(
        name, metavar="PROFILE...", nargs=-1, required=True, callback=_files, shell_complete=complete_profiles
    )


def _files(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(_file(ctx, param, value) for value in values)


def _file(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    from engine.profile.shipped import shipped_profiles

    path = Path(value)
    if path.exists() and not path.is_dir():
        return path
    shipped = {item.name: item.path for item in shipped_profiles()}
    return shipped[value] if value in shipped else _missing(path, value, list(shipped))


def _file_to_write(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    path = _file(ctx, param, value)
    if path == Path(value):
        return path
    hint = f"make a copy: engine profile new my-{value}.toml --from {value}"
    raise EngineError(
        "this profile comes with the package and cannot be changed", code=ExitCode.PROFILE, where=value, hint=hint
    )


def _missing(path: Path, value: str, shipped: list[str]) -> Path:
    """Raise EngineError(PROFILE) with the nearest name of a file or a shipped profile."""
    import difflib

    where = sanitize(value, max_chars=300, single_line=True)
    beside = {file.stem: str(file) for file in path.parent.glob("*.toml")} if path.parent.is_dir() else {}
    named = {**{name: name for name in shipped}, **beside}
    near = difflib.get_close_matches(path.stem, named, n=1)
    nearest = sanitize(named[near[0]], max_chars=300, single_line=True) if near else ""
    hint = f"did you mean '{nearest}'?" if near else "check the path, or see 'engine profile list'"
    message = "this is a folder, not a profile" if path.is_dir() else "no file or shipped profile has this name"
    raise EngineError(message, code=ExitCode.PROFILE, where=where, hint=hint)
