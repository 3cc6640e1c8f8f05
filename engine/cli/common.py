"""What every command shares: `--json`, output streams, color, tables and error lines.

Results go to stdout (`emit`, `line`), progress and notes to stderr (`note`). Text from outside is
sanitized here, once, on its way to the terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click

from engine.cli.flags import json_option as json_option
from engine.errors import EngineError, Problem
from engine.text import sanitize

NO_FIT = "Exit code 5: it does not fit on the device. 'engine --help' lists all codes."
"""Below the help of every command that plans memory."""

device_option = click.option(
    "--device",
    metavar="DEVICE",
    default="auto",
    help="Device to use: auto, cpu, or a GPU by number (1), MIG slice (0:2) or UUID.",
)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout; non-finite numbers become null."""
    sys.stdout.write(json.dumps(_finite(value), indent=2, default=str) + "\n")


def print_json_line(value: Any) -> None:
    """Print one JSON object as one line on stdout and flush it, so that a pipe passes it on at once."""
    sys.stdout.write(json.dumps(_finite(value), default=str) + "\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def line(text: str = "") -> None:
    """Print a line of the result on stdout."""
    click.echo(sanitize(text, max_chars=4000))


def note(text: str) -> None:
    """Print a line of progress, warning or advice on stderr."""
    tell(sanitize(text, max_chars=4000))


def tell(text: str, *, ends_line: bool = True) -> None:
    """Print on stderr what nobody has to read: a terminal that hung up or a full disk behind it ends no work."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True, nl=ends_line)


def warn(about: Problem | EngineError | str) -> None:
    """Print a warning on stderr: a sentence, or a problem with its place and remedy."""
    note(f"warning: {about if isinstance(about, str) else problem_line(about)}")


def color(text: str, name: str, *, err: bool = False) -> str:
    """Color `text` if the stream is a terminal and `NO_COLOR` is not set.

    Print it with `click.echo`: `line` and `note` would strip the escape sequences.
    """
    stream = sys.stderr if err else sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return click.style(text, fg=name)


def number(value: Any) -> str:
    """Format a loss or score to four places; `-` where there is none."""
    return f"{value:.4f}" if isinstance(value, (int, float)) else "-"


_NARROWEST, _WIDEST = 20, 1000


def width(default: int = 80) -> int:
    """Columns of the terminal, or of COLUMNS where that is a number that a terminal can have."""
    return max(_NARROWEST, min(shutil.get_terminal_size((default, 24)).columns, _WIDEST))


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), right: Sequence[int] = ()) -> list[str]:
    """Lines of left-aligned columns two spaces apart; columns in `right` align right."""
    cells = [[sanitize(cell, single_line=True) for cell in row] for row in ([header] if header else []) + list(rows)]
    if not cells:
        return []
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(
            cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]


def problem_line(problem: Problem | EngineError) -> str:
    """`file.toml:12  lora.rr: unknown key - did you mean 'r'?` in one line."""
    message = problem.message + (f" - {problem.hint}" if problem.hint else "")
    return sanitize(f"{problem.where}: {message}" if problem.where else message, single_line=True)


def print_error(error: EngineError, *, as_json: bool) -> None:
    """Print an error: as a line `{"error": …}` on stdout with `as_json`, else as text on stderr."""
    if as_json:
        print_json_line({"error": error.to_dict()})
        return
    if len(error.problems) > 1:
        for problem in error.problems:
            click.echo(problem_line(problem), err=True)
        click.echo(sanitize(error.message, single_line=True), err=True)
        return
    text = " - ".join(part for part in (error.where, error.message, error.hint) if part)
    click.echo(f"{color('error', 'red', err=True)}: {sanitize(text, single_line=True)}", err=True)
