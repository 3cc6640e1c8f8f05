"""Tools of a conversation in the shell: what the model may call, and the commands that answer its calls.

A command is the user's own, given as `NAME=COMMAND`. It gets a call's arguments as JSON on its standard input, never
on a command line, and what it prints is the result.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.cli.common import warn
from engine.errors import EngineError, ExitCode
from engine.text import sanitize

COMMAND_S = 60.0
MOST_RESULT_CHARS = 64 * 1024
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
        done = subprocess.run(
            words,
            input=json.dumps(call["arguments"]),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = f"no answer in {COMMAND_S:g} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        return _failed(call, why)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return _failed(call, f"exit code {done.returncode}{f': {last}' if last else ''}")
    if len(done.stdout) > MOST_RESULT_CHARS:
        warn(f"{call['name']}: only the first {MOST_RESULT_CHARS} characters of its result are used")
    return done.stdout[:MOST_RESULT_CHARS].strip()


def _failed(call: dict[str, Any], why: str) -> str:
    warn(sanitize(f"{call['name']}: {why}", max_chars=400, single_line=True))
    return f"error: {why}"
