"""docs/cli.md: every command with its arguments, options and help, read from the commands themselves.

`python -m bench.pages` writes the page. Not here: any words about a command that `--help` does not say.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

import click

from engine.cli import cli
from engine.errors import MEANINGS
from tui.main import _parser

WIDTH = 80
LONG_CHOICE = 44
"""Characters of `a|b|c` from which on the choices stand behind the help."""
SIGNALS = {
    129: "the terminal hung up; a run or sweep goes on",
    141: "the reader of a pipe went away",
    143: "ended by SIGTERM; a run or sweep that had begun goes on",
}
_HEAD = """\
# Commands

Made from the commands themselves by `python -m bench.pages`; do not edit.
`COMMAND --help` prints the same.

Results go to stdout, progress and warnings to stderr. With `--json` the result
is one JSON document, and so is an error:
`{"error": {"code": …, "message": …}}`.
RUN and SWEEP are an id, a part of one, or `last`. Every command takes `-h` and
`--help`.

"""


def text() -> str:
    """The whole page as Markdown."""
    root = click.Context(cli, info_name="engine")
    commands = list(leaves(root))
    contents = [_entry(f"[{one.command_path}](#{anchor(one.command_path)})", _summary(one)) for one in commands]
    contents.append(_entry("[tunedeck](#tunedeck)", "The deck: all of this as screens."))
    parts = [_HEAD + "\n".join([*contents, _entry("[exit codes](#exit-codes)", "What a script can branch on.")])]
    parts += [_section("engine", "engine [OPTIONS] COMMAND [ARGS]...", _paragraphs(cli.help), _options(root))]
    parts += [_section(one.command_path, _usage(one), _paragraphs(one.command.help), _options(one)) for one in commands]
    parts += [_deck(), _exit_codes()]
    return "\n\n".join(parts) + "\n"


def leaves(context: click.Context) -> Iterator[click.Context]:
    """Every command that does something, in the order of `--help`; each is imported for it."""
    group = context.command
    if not isinstance(group, click.Group):
        yield context
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield from leaves(click.Context(command, info_name=name, parent=context))


def anchor(heading: str) -> str:
    """How a link names a heading of these pages."""
    return heading.lower().replace(" ", "-")


def exit_code_rows() -> list[str]:
    """Lines of the table that README.md shows too."""
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return ["| exit code | meaning |", "|---|---|", *rows]


def _section(title: str, usage: str, paragraphs: list[str], options: list[str]) -> str:
    parts = [f"## {title}", f"```\n{usage}\n```", *paragraphs]
    return "\n\n".join([*parts, "\n".join(options)] if options else parts)


def _summary(context: click.Context) -> str:
    """The first sentence of its help."""
    return context.command.get_short_help_str(limit=1000)


def _paragraphs(help_text: str | None) -> list[str]:
    blocks = (" ".join(block.split()) for block in (help_text or "").split("\n\n"))
    return [textwrap.fill(block, WIDTH, break_on_hyphens=False) for block in blocks if block]


def _usage(context: click.Context) -> str:
    arguments = [one for one in context.command.params if isinstance(one, click.Argument)]
    return " ".join([context.command_path, "[OPTIONS]", *(_argument(one) for one in arguments)])


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    name = name if argument.required or name.startswith("[") else f"[{name}]"
    return name if argument.nargs == 1 or name.endswith("...") else f"{name}..."


def _options(context: click.Context) -> list[str]:
    options = [one for one in context.command.params if isinstance(one, click.Option) and not one.hidden]
    return [_entry(f"`{_option(one)}`", " ".join(filter(None, (one.help, _bounds(one))))) for one in options]


def _option(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return names
    return f"{names} {option.metavar or _kind(option.type)}"


def _kind(kind: click.ParamType) -> str:
    if isinstance(kind, click.Choice):
        return "TYPE" if len(_choices(kind)) >= LONG_CHOICE else _choices(kind)
    return kind.name.upper().removesuffix(" RANGE").replace("FLOAT", "NUMBER")


def _choices(kind: click.ParamType, between: str = "|") -> str:
    return between.join(str(choice) for choice in kind.choices) if isinstance(kind, click.Choice) else ""


def _bounds(option: click.Option) -> str:
    """Many choices, the range of a number, and the default where `--help` shows it."""
    many = _choices(option.type, ", ") if len(_choices(option.type)) >= LONG_CHOICE else ""
    shown = f"default {option.default}" if option.show_default else ""
    said = ", ".join(filter(None, (many, _range(option.type), shown)))
    return f"({said})" if said else ""


def _range(kind: click.ParamType) -> str:
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    low = "" if kind.min is None else f"{'above' if kind.min_open else 'at least'} {kind.min}"
    high = "" if kind.max is None else f"{'below' if kind.max_open else 'at most'} {kind.max}"
    if low and high and not (kind.min_open or kind.max_open):
        return f"{kind.min} to {kind.max}"
    return ", ".join(filter(None, (low, high)))


def _deck() -> str:
    parser = _parser()
    shown = [
        one for one in parser._actions if one.help not in (None, argparse.SUPPRESS) and "-h" not in one.option_strings
    ]
    entries = [_entry(f"`{_deck_option(one)}`", str(one.help).replace("%%", "%")) for one in shown]
    return _section("tunedeck", "tunedeck [OPTIONS] [RUN]", _paragraphs(parser.description), entries)


def _deck_option(action: argparse.Action) -> str:
    return " ".join(filter(None, (", ".join(action.option_strings), action.metavar if action.nargs != 0 else "")))


def _exit_codes() -> str:
    said = textwrap.fill(
        "Numbers above 128 say which signal ended a command before there was anything to resume.", WIDTH
    )
    signals = [f"| {code} | {meaning} |" for code, meaning in SIGNALS.items()]
    return "\n\n".join(["## Exit codes", said, "\n".join([*exit_code_rows(), *signals])])


def _entry(name: str, said: str) -> str:
    """A list item, wrapped with its lines below each other."""
    return textwrap.fill(
        f"- {name}: {said}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
