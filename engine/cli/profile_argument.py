"""How commands take a profile and single settings: the PROFILE argument and `--set`, each in one way.

`--set` is parsed in `engine.profile.overrides`, so that its problems stand among the profile's own.
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
    help="A setting for this time, e.g. lora.r=32; repeatable.",
)


def profile_argument(name: str = "profile", *, writes: bool = False) -> Callable[[Any], Any]:
    """PROFILE as the path of a file: one that is there or, unless the command `writes` to it, a shipped one by name."""
    if writes:
        return click.argument(name, metavar="PROFILE", callback=_file_to_write, shell_complete=complete_files)
    return click.argument(name, metavar="PROFILE", callback=_file, shell_complete=complete_profiles)


def _file(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    from engine.profile.shipped import shipped_profiles

    path = Path(value)
    if path.exists() and not path.is_dir():
        return path
    shipped = {item.name: item.path for item in shipped_profiles()}
    return shipped[value] if value in shipped else _missing(path, value, list(shipped))


def _file_to_write(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    found = _file(ctx, param, value)
    if found == Path(value):
        return found
    hint = f"make one of your own: engine profile new my-{value}.toml --from {value}"
    raise EngineError(
        "this profile comes with the package and stays as it is", code=ExitCode.PROFILE, where=value, hint=hint
    )


def _missing(path: Path, value: str, shipped: list[str]) -> Path:
    """Raises EngineError(PROFILE) with the nearest name, a file's or a shipped profile's."""
    import difflib

    shown = sanitize(value, max_chars=300, single_line=True)
    beside = {found.stem: str(found) for found in path.parent.glob("*.toml")} if path.parent.is_dir() else {}
    named = {**{name: name for name in shipped}, **beside}
    near = difflib.get_close_matches(path.stem, named, n=1)
    nearest = sanitize(named[near[0]], max_chars=300, single_line=True) if near else ""
    hint = f"did you mean '{nearest}'?" if near else "check the path, or see 'engine profile list'"
    message = "this is a folder, not a profile" if path.is_dir() else "no file and no shipped profile has this name"
    raise EngineError(message, code=ExitCode.PROFILE, where=shown, hint=hint)
