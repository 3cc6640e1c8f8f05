"""Which tools a conversation may call: those that the run's rows bring, or a file's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.inference.rows import VALIDATION_FILE

MOST_BYTES = 1024 * 1024
Tools = list[dict[str, Any]]


def tools_of_run(run_dir: Path) -> tuple[Tools, str]:
    """The tools of the rows that a run held out, as `tools_brought`; none of a file that is gone or damaged."""
    try:
        with (run_dir / VALIDATION_FILE).open(encoding="utf-8") as lines:
            return tools_brought(_tools_in(text) for text in lines if text.strip())
    except (OSError, UnicodeDecodeError, ValueError, AttributeError):
        return [], ""


def _tools_in(text: str) -> str:
    # Most rows bring none, and there may be many: only those that do are parsed.
    return str(json.loads(text).get("tools", "")) if '"tools"' in text else ""


def tools_brought(found: Iterable[str]) -> tuple[Tools, str]:
    """The tools that rows bring, each row's as JSON text or empty, and what to tell of them.

    Rows with tools of their own each give none: a conversation that showed the model one row's would be a guess.
    """
    brought: set[str] = set()
    for tools in found:
        brought.add(tools)
        if len(brought - {""}) > 1:
            return [], "the run's rows bring different lists of tools: none is offered"
    some = next((tools for tools in brought if tools), "")
    if not some:
        return [], ""
    note = "some of the run's rows bring tools and some do not: they are offered" if "" in brought else ""
    return checked_tools(json.loads(some)), note


def read_tools(path: Path) -> Tools:
    """The tools in a JSON file: a list of function schemas, with or without `{"type": "function"}` around each.

    Raises EngineError(DATA) that names what is wrong, and where.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _error(f"cannot be read: {error.strerror or error}", path) from error
    if len(data) > MOST_BYTES:
        raise _error("holds more than 1 MiB", path)
    try:
        return checked_tools(json.loads(data))
    except (RecursionError, UnicodeDecodeError, ValueError) as error:
        raise _error(str(error), path) from error


def checked_tools(value: Any) -> Tools:
    """A parsed list of tools in the form that templates read. Raises ValueError."""
    if not isinstance(value, list):
        raise ValueError("it is not a list of tools")
    return [_tool(item, number) for number, item in enumerate(value, 1)]


def _tool(item: Any, number: int) -> dict[str, Any]:
    whole = item if isinstance(item, Mapping) and "function" in item else {"type": "function", "function": item}
    function = whole["function"]
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ValueError(f"tool {number} has no function with a name")
    return {**whole, "type": str(whole.get("type", "function")), "function": dict(function)}


def _error(message: str, path: Path) -> EngineError:
    hint = 'write [{"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}, …]'
    return EngineError(f"tools: {message}", code=ExitCode.DATA, where=str(path), hint=hint)
