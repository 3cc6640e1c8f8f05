"""YAML or JSON from a person nobody vouches for: its top-level keys with their lines, within bounds.

Only plain data is built (no tags that make objects), and aliases are counted before anything is built, so that a few
hundred bytes cannot become gigabytes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.errors import EngineError, ExitCode
from engine.profile.tomltext import BadToml, read_text, shown_path
from engine.text import sanitize

MAX_ALIASES = 100
MAX_DEPTH = 40
MAX_TABLES = 10_000
_SCRIPTS = (".py", ".ipynb", ".sh")
_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One top-level key of a file: `where` is `file:line`."""

    key: str
    value: Any
    where: str


def read_yaml(path: Path) -> list[Entry]:
    """The top-level keys of a YAML or JSON file in its order. Raises EngineError(PROFILE).

    A key that stands twice is an error: YAML silently keeps the last one.
    """
    shown = shown_path(path)
    try:
        text = read_text(path)
        if path.suffix.lower() in _SCRIPTS:
            raise _error("is a script, not a list of settings", shown, "write its arguments down as YAML or JSON")
        if path.suffix.lower() == ".json":
            return _json_entries(text, shown)
        _refuse_bombs(text, shown)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return []
        if not isinstance(root, yaml.MappingNode):
            raise _error("is not a list of settings (key: value)", shown)
        return _entries(root, text, shown)
    except BadToml as error:
        raise EngineError(error.problem.message, code=ExitCode.PROFILE, where=shown, hint=error.problem.hint) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{shown}:{mark.line + 1}" if mark else shown
        what = getattr(error, "problem", None) or "cannot be read"
        raise _error(f"not YAML: {sanitize(str(what), max_chars=200, single_line=True)}", where) from None
    except (RecursionError, ValueError) as error:
        raise _error(f"cannot be read: {sanitize(str(error), max_chars=120, single_line=True)}", shown) from None


def _refuse_bombs(text: str, shown: str) -> None:
    aliases = depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > MAX_ALIASES or depth > MAX_DEPTH:
            raise _error("is nested too deeply or repeats itself too often", shown)


def _entries(root: yaml.MappingNode, text: str, shown: str) -> list[Entry]:
    loader = yaml.SafeLoader(text)
    found: dict[str, Entry] = {}
    for key_node, value_node in root.value:
        key, where = str(key_node.value), f"{shown}:{key_node.start_mark.line + 1}"
        if key in found:
            raise _error(f"'{sanitize(key, max_chars=80, single_line=True)}' stands twice", where)
        found[key] = Entry(key, plain(loader.construct_object(value_node, deep=True)), where)
    return list(found.values())


def plain(value: Any) -> Any:
    """`value` with `1e-4` as the number that its writer meant: YAML 1.1 reads it as text."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        return float(value)
    return value


def _json_entries(text: str, shown: str) -> list[Entry]:
    """The same from JSON, which YAML does not read where it is indented with tabs."""
    if text.count("[") + text.count("{") > MAX_TABLES:
        raise _error("is nested too deeply or repeats itself too often", shown)
    root = json.loads(text, object_pairs_hook=_once)
    if _depth(text) > MAX_DEPTH:
        raise _error("is nested too deeply or repeats itself too often", shown)
    if not isinstance(root, dict):
        raise _error("is not a list of settings (key: value)", shown)
    return [Entry(key, plain(value), f"{shown}:{_line_of(text, key)}") for key, value in root.items()]


def _depth(text: str) -> int:
    """How deep brackets go; those within texts count too, which settings have few of."""
    deepest = now = 0
    for sign in text:
        now += (sign in "[{") - (sign in "]}")
        deepest = max(deepest, now)
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if again := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"'{again}' stands twice")
    return dict(pairs)


def _line_of(text: str, key: str) -> int:
    at = re.search(re.escape(json.dumps(key)) + r"\s*:", text)
    return text.count("\n", 0, at.start()) + 1 if at else 1


def _error(message: str, where: str, hint: str = "give the training file of the other tool") -> EngineError:
    return EngineError(message, code=ExitCode.PROFILE, where=where, hint=hint)
