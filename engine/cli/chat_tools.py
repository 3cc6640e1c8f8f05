"""Tools of a conversation in the shell: what the model may call, and the commands that answer its calls.

A command is the user's own, given as `NAME=COMMAND`. It gets a call's arguments as JSON on its standard input, never
on a command line, and what it prints is the result.
"""

from __future__ import annotations

import contextlib
import json
import locale
import os
import selectors
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.cli.common import warn
from engine.errors import EngineError, ExitCode
from engine.text import sanitize

COMMAND_S, POLL_S = 60.0, 0.05
MOST_RESULT_CHARS, MOST_COMPLAINT_BYTES = 64 * 1024, 4096
NONE = "none"


@dataclass(slots=True)
class Toolbox:
    """The tools that a conversation offers, and the command that answers each; `given`: not the run's own."""

    tools: list[dict[str, Any]] = field(default_factory=list)
    commands: dict[str, list[str]] = field(default_factory=dict)
    given: bool = False

    @property
    def names(self) -> list[str]:
        """Of the tools."""
        return [str(tool["function"]["name"]) for tool in self.tools]


def toolbox_of(tools: str | None, commands: Sequence[str]) -> Toolbox:
    """What `--tools` and `--tool` ask for. Raises EngineError: DATA for a file, PROFILE for a command."""
    box = Toolbox(given=tools is not None)
    if tools is not None and tools != NONE:
        from engine.inference.tools import read_tools

        box.tools = read_tools(Path(tools))
    for text in commands:
        name, mark, command = text.partition("=")
        words = _words(command)
        if not mark or not name.strip() or not words:
            hint = "write --tool NAME=COMMAND, for example --tool get_weather='python weather.py'"
            raise EngineError(
                f"this names no tool and command: {text}", code=ExitCode.PROFILE, where="--tool", hint=hint
            )
        box.commands[name.strip()] = words
    return box


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def offered(box: Toolbox, ready: dict[str, Any]) -> None:
    """Take over the run's own tools unless others were given. Raises EngineError(PROFILE) for a command without one."""
    if not box.given:
        box.tools = list(ready.get("tools") or [])
    unknown = [name for name in box.commands if name not in box.names]
    if unknown:
        known = f"the conversation offers {', '.join(box.names)}" if box.names else "name tools with --tools FILE"
        raise EngineError(f"no tool '{unknown[0]}'", code=ExitCode.PROFILE, where="--tool", hint=known)
    if box.tools and not ready.get("writes_calls"):
        warn("the run's chat template writes no tool calls: the model may not know how to call")


def calls_in(turn: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of an answer: name and arguments of each."""
    return [dict(call["function"]) for call in turn.get("tool_calls") or ()]


def call_text(call: dict[str, Any]) -> str:
    """`get_weather {"city": "Paris"}`, safe to show."""
    arguments = json.dumps(call["arguments"], ensure_ascii=False)
    return sanitize(f"{call['name']} {arguments}", max_chars=2000, single_line=True)


def result_turn(call: dict[str, Any], result: str) -> dict[str, Any]:
    """A result as the next question's messages take it."""
    return {"role": "tool", "name": call["name"], "content": result}


def run_command(box: Toolbox, call: dict[str, Any]) -> str | None:
    """What the tool's command prints; None where the tool has no command. A failure is a result too, and is shown."""
    words = box.commands.get(str(call["name"]))
    if words is None:
        return None
    try:
        code, printed, complained = _ran(words, json.dumps(call["arguments"]).encode())
    except (OSError, TimeoutError) as error:
        return _failed(call, str(error))
    if code:
        last = (_text(complained).strip().splitlines() or [""])[-1]
        return _failed(call, f"exit code {code}{f': {last}' if last else ''}")
    text = _text(printed)
    if len(text) > MOST_RESULT_CHARS or code is None:
        warn(f"{call['name']}: only the first {MOST_RESULT_CHARS} characters of its result are used")
    return text[:MOST_RESULT_CHARS].strip()


def _text(printed: bytes) -> str:
    return printed.decode(locale.getpreferredencoding(False), "replace").replace("\r\n", "\n")


def _ran(words: list[str], told: bytes) -> tuple[int | None, bytes, bytes]:
    """Exit code, what the command printed, and the end of what it complained of.

    It is ended with all that it started, and the code is None, once it has printed more than is used: what goes on
    printing would take all memory. Raises TimeoutError where it takes longer than COMMAND_S, and OSError.
    """
    with tempfile.TemporaryFile() as given:
        given.write(told)
        given.seek(0)
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, stdin=given, stdout=pipe, stderr=pipe, start_new_session=True)
    with process:
        try:
            over, printed, complained = _read(process)
            return None if over else process.wait(COMMAND_S), printed, complained
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"no answer in {COMMAND_S:g} s") from None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _read(process: subprocess.Popen[bytes]) -> tuple[bool, bytes, bytes]:
    """Whether it prints more than is used, what it prints up to its end, and the end of its complaints."""
    most, end = 4 * MOST_RESULT_CHARS, time.monotonic() + COMMAND_S
    kept = {"stdout": b"", "stderr": b""}
    with selectors.DefaultSelector() as selector:
        for name in kept:
            selector.register(getattr(process, name), selectors.EVENT_READ, name)
        while selector.get_map():
            ready = selector.select(POLL_S)
            for key, _ in ready:
                part = os.read(key.fd, 64 * 1024)
                whole = kept[key.data] + part
                kept[key.data] = whole[: most + 1] if key.data == "stdout" else whole[-MOST_COMPLAINT_BYTES:]
                if not part:
                    selector.unregister(key.fileobj)
            if len(kept["stdout"]) > most or (not ready and process.poll() is not None):
                break
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(process.args, COMMAND_S)
    return len(kept["stdout"]) > most, kept["stdout"], kept["stderr"]


def _failed(call: dict[str, Any], why: str) -> str:
    warn(sanitize(f"{call['name']}: {why}", max_chars=400, single_line=True))
    return f"error: {why}"
