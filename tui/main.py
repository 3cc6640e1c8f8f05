"""The `tunedeck` command: reads options, prepares the environment, then opens the deck.

Answers `--help`, `--version` and a wrong run name without importing Textual. What the deck does is in
`app.py`; every screen has a twin in the shell (`engine …`).
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.errors import EngineError, ExitCode
from engine.surroundings import settle
from engine.text import sanitize
from tui.frame.options import Options
from tui.terminal.opening import Attributes, keys_kept, loaded

if TYPE_CHECKING:
    from engine.api.runs import Run


SWITCH_S = 0.001
"""How long a thread that reads a long history may keep the screen's loop waiting."""


def main(argv: Sequence[str] | None = None) -> int:
    """Open the deck and return its exit code."""
    settle()
    arguments = _parser().parse_args(argv)
    if arguments.keys:
        return _print_keys()
    run: Run | None = None
    if arguments.run:
        from engine.api import runs

        try:
            run = runs.find_run(arguments.run)
        except EngineError as error:
            sys.stderr.write(sanitize(f"error: {error}", single_line=True) + "\n")
            return int(error.code)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        sys.stderr.write("error: tunedeck needs a terminal - 'engine fit' and 'engine runs list' print the same\n")
        return int(ExitCode.ENVIRONMENT)
    options = Options(arguments.refresh, arguments.ascii, not arguments.no_mouse)
    prepare_environment()
    with keys_kept() as terminal:
        try:
            return _open(options, run, terminal)
        except KeyboardInterrupt:  # until its first screen takes ctrl+c as a key
            return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunedeck", description="The deck: what this machine can fine-tune, with which settings, how it is going."
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="attach to a run: its id, a part of it, or 'last'")
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")
    parser.add_argument(
        "--refresh", type=_seconds, default=1.0, metavar="S", help="seconds between updates, 0.5 to 60 (default 1)"
    )
    parser.add_argument("--keys", action="store_true", help="list commands and keys, and what is wrong in deck.toml")
    parser.add_argument("--version", action="version", version=f"tunedeck {_version()}")
    return parser


def _print_keys() -> int:
    """Every command as `deck.toml` names it, with the keys that it has now; the file's problems on stderr."""
    from tui.commands import COMMANDS
    from tui.frame.commands import key_label
    from tui.frame.settings import read_settings

    settings = read_settings(COMMANDS)
    for command in COMMANDS.rows:
        key = key_label(command, settings.keys) if command.key or command.id in settings.keys else ""
        sys.stdout.write(f"{command.id:14}{key:10}{command.screen or 'everywhere':12}{command.help}\n")
    for problem in settings.problems:
        sys.stderr.write(sanitize(f"{settings.path}: {problem.key} {problem.message}; {problem.hint}") + "\n")
    return int(ExitCode.PROFILE) if settings.problems else 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 60:
        raise argparse.ArgumentTypeError(f"must be a number from 0.5 to 60; got {text!r}")
    return value


def _version() -> str:
    if "--version" not in sys.argv:
        return ""  # reading package metadata costs more than parsing everything else
    from importlib.metadata import version

    return version("tunedeck")


def prepare_environment() -> None:
    """Settings that Textual reads when it is imported: nothing moves that carries no news."""
    if not os.environ.get("NO_COLOR"):
        os.environ.pop("NO_COLOR", None)  # an empty one means nothing (no-color.org); Textual takes it for a yes
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")
    os.environ.setdefault("TEXTUAL_FPS", "30")


def _open(options: Options, run: Run | None, terminal: Attributes | None = None) -> int:
    gc.disable()  # one look at all that is loaded takes longer than a frame; `tui.warm` lets it go on
    try:
        from tui.app import AttachedDeckApp, DeckApp
        from tui.terminal import escape
    except (ImportError, AttributeError, TypeError) as failure:
        from engine.libraries import report_failed_start

        code = report_failed_start(failure)
        if code is None:
            raise
        return code
    sys.setswitchinterval(SWITCH_S)
    app = DeckApp(options) if run is None else AttachedDeckApp(options, run)
    app.terminal = terminal
    escape.install(app.settings.keys.values())
    loaded()
    app.run(mouse=options.mouse)
    return app.ending.code or app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
