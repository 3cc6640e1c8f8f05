"""`--json` and `--debug`: options of every command, accepted before and after its name.

`main` puts a `Flags` into the context, so it can read it after a command has failed. Not here: any output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Flags:
    """The values of both options, wherever they stood."""

    as_json: bool = False
    debug: bool = False


def _json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    flags = ctx.find_object(Flags)
    if flags is None:
        return value
    flags.as_json = flags.as_json or value
    return flags.as_json


def _debug(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    flags = ctx.find_object(Flags)
    if flags is not None:
        flags.debug = flags.debug or value
    return value


# Eager: click must read these before another option fails.
_debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_debug,
    help="Show the traceback of an internal error.",
)


def _json_option(*, exposed: bool) -> Callable[[Command], Command]:
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        expose_value=exposed,
        callback=_json,
        help="Print the result, or the error, as JSON.",
    )


def json_option(command: Command) -> Command:
    """Add `--json`, passed as `as_json`, and `--debug` to a command."""
    return _json_option(exposed=True)(_debug_option(command))


def group_flags(group: Command) -> Command:
    """Add both to a group; its subcommands get the values through `json_option`."""
    return _json_option(exposed=False)(_debug_option(group))


def note_unparsed(flags: Flags, arguments: Sequence[str]) -> None:
    """Look for `--json` in arguments that click could not parse."""
    words = list(arguments)
    flags.as_json = flags.as_json or "--json" in words[: words.index("--") if "--" in words else None]
