"""`engine …`: the headless commands. This module only finds the command and renders its errors.

Each command lives in a module of its own, imported when it is called, so that `engine --help`
answers without loading any of them. Not here: any work; commands call the packages below.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from engine.cli.flags import Flags, group_flags, note_unparsed
from engine.cli.printable import make_printable
from engine.errors import MEANINGS, EngineError, ExitCode, is_out_of_memory
from engine.surroundings import settle

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PROGRAM = "engine"
_COMMANDS: dict[str, tuple[str, str]] = {
    "probe": ("engine.cli.probe:probe", "Show this machine: GPUs, processor, memory, disk."),
    "fit": ("engine.cli.fit:fit", "Rank models on this machine, or show one model's estimate term by term."),
    "recommend": ("engine.cli.fit:recommend", "Choose settings for this machine and write a profile."),
    "models": ("engine.cli.models:models", "List known models, show one's numbers, add your own."),
    "profile": ("engine.cli.profile:profile", "Check, create, show or edit profiles."),
    "data": ("engine.cli.data:data", "Check a data set, or preview its tokens and mask."),
    "train": ("engine.cli.train:train", "Train from a profile."),
    "evaluate": ("engine.cli.evaluate:evaluate", "Score base against tuned on held-out rows."),
    "chat": ("engine.cli.chat:chat", "Talk with the model that a run trained."),
    "export": ("engine.cli.export:export", "Write adapter, merged model and model card, checked against each other."),
    "sweep": ("engine.cli.sweep:sweep", "Search over settings: grid, random or TPE, with the bill first."),
    "sweeps": ("engine.cli.sweeps:sweeps", "List, show, watch, stop, resume or remove sweeps; the best as a profile."),
    "runs": ("engine.cli.runs:runs", "List, show, tag, watch, stop, resume or remove runs."),
    "jobs": ("engine.cli.jobs:jobs", "List what is at work on this machine: trainings, evaluations, exports, chats."),
    "measured": ("engine.cli.measured:measured", "Show what runs measured on this machine, or forget it."),
    "selftest": ("engine.cli.selftest:selftest", "Check that it computes right and runs fast on this machine."),
    "completion": (
        "engine.cli.completion:completion",
        "Print the script that makes a shell complete names.",
    ),
    "demo": ("engine.cli.demo:demo", "Probe, recommend, train, evaluate and export a small model, offline."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line helps, and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which users need them, not alphabetically."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name`."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names from the table above and options; click would import every command to ask whether it is hidden."""
        from click.shell_completion import CompletionItem

        names = [(name, text) for name, (_, text) in _COMMANDS.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=text) for name, text in names), *options]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Resolve as click does; suggest the nearest name for an unknown one."""
        import difflib

        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in _COMMANDS and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, _COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {int(code)}  {meaning}" for code, meaning in MEANINGS.items())
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=LazyGroup, epilog=_EPILOG, context_settings=_SETTINGS)
@click.version_option(package_name="tunedeck", prog_name=PROGRAM)
@group_flags
def cli() -> None:
    """Fine-tune language models on this machine: fit, train, evaluate, export.

    Every command takes --json and --debug, before its name or behind it. Results go to stdout, progress to stderr.
    """


def main() -> None:
    """Entry point of the `engine` script: run a command, turn errors into one line and an exit code."""
    flags, arguments = Flags(), sys.argv[1:]
    try:
        _prepare()
        sys.exit(_run(arguments, flags))
    except EngineError as error:
        _end(error, error, flags)
    except click.ClickException as error:
        note_unparsed(flags, arguments)
        if flags.as_json:
            _end(_usage(error), error, flags)
        with contextlib.suppress(OSError):
            error.show()
        sys.exit(int(ExitCode.PROFILE))
    except (click.Abort, KeyboardInterrupt, SignalExit) as ending:
        note_unparsed(flags, arguments)
        _end_cancelled(ending, flags)
    except BrokenPipeError:
        _forget_stdout()
        sys.exit(141)
    except Exception as error:
        _end(_explained(error), error, flags)


def _run(arguments: list[str], flags: Flags) -> int:
    """Run a command; its exit code. Raises what ends it, BrokenPipeError where nobody reads its output."""
    stdout = sys.stdout
    try:
        # Outside standalone mode click hands the code of an Exit back instead of leaving with it.
        code = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False, obj=flags)
    except SystemExit:
        if sys.stdout is stdout:
            raise
        # click has put another stream in the place of a broken pipe, and leaves with 1.
        raise BrokenPipeError from None
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _prepare() -> None:
    """What holds for every command: signals that end it, a terminal of any encoding, files that others cannot write."""
    signal.signal(signal.SIGTERM, _leave)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, _leave)
    settle()
    make_printable()


class SignalExit(SystemExit):
    """A signal ends the command: it unwinds as on Ctrl-C, so that it ends a worker that serves only this command."""


_came: list[int] = []
"""The number of the signal that ends this command."""


def _end_cancelled(ending: BaseException, flags: Flags) -> NoReturn:
    """End after Ctrl-C, TERM or HUP: without a word to a person, who did it, but with a result in JSON."""
    code = ending.code if isinstance(ending, SignalExit) else int(ExitCode.CANCELLED)
    if flags.as_json:
        name = signal.Signals(_came[0]).name if _came else "Ctrl-C"
        is_refused = isinstance(ending, click.Abort) and not isinstance(ending.__cause__, KeyboardInterrupt)
        message = "not confirmed" if is_refused and not _came else f"ended by {name}"
        _print(EngineError(message, code=ExitCode.CANCELLED), flags)
    sys.exit(code)


def _end(error: EngineError, cause: Exception, flags: Flags) -> NoReturn:
    """Print an error, with the traceback of an internal one under --debug, and exit with its code."""
    if flags.debug and error.code is ExitCode.INTERNAL:
        import traceback

        with contextlib.suppress(OSError):
            traceback.print_exception(cause)
    _print(error, flags)
    sys.exit(128 + _came[0] if _came and error.code is ExitCode.CANCELLED else int(error.code))


def _print(error: EngineError, flags: Flags) -> None:
    """Print an error where somebody can read it: a stream that is full or gone must not hide the exit code."""
    from engine.cli.common import print_error

    try:
        print_error(error, as_json=flags.as_json)
        sys.stdout.flush()
    except OSError:
        _forget_stdout()
        with contextlib.suppress(OSError):
            print_error(error, as_json=False)


def _forget_stdout() -> None:
    """Python would try to write what is left when it ends, and fail with an exit code of its own."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: click.ClickException) -> EngineError:
    """Turn click's usage error into an EngineError."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"see '{ctx.command_path} --help'" if ctx is not None else ""
    # A group without a command answers with its whole help.
    message = "a command is missing" if isinstance(error, NoArgsIsHelpError) else error.format_message()
    return EngineError(message, code=ExitCode.PROFILE, hint=hint)


def _explained(failure: Exception) -> EngineError:
    """Explain an unexpected error: the disk, a library that causes it, too little memory, or Python's own message."""
    from engine.io_errors import io_error
    from engine.libraries import explain
    from engine.text import sanitize

    if isinstance(failure, OSError) and failure.errno == errno.ENAMETOOLONG:
        where = sanitize(str(failure.filename), max_chars=200, single_line=True)
        return EngineError("the file name is too long", code=ExitCode.PROFILE, where=where, hint="use a shorter path")
    if is_out_of_memory(failure):
        hint = "end other programs, or raise 'ulimit -v'"
        return EngineError("this command found no memory", code=ExitCode.RESOURCES, hint=hint)

    plain = f"{type(failure).__name__}: {failure}"
    known = io_error(failure) or explain(failure)
    return known or EngineError(plain, hint="run again with --debug for the traceback")


def _leave(number: int, frame: FrameType | None) -> None:
    """Unwind on TERM and HUP as on Ctrl-C."""
    for again in (signal.SIGTERM, signal.SIGHUP):  # schedulers send it twice, and ending a worker takes a moment
        signal.signal(again, signal.SIG_IGN)
    _came.append(number)
    raise SignalExit(128 + number)
