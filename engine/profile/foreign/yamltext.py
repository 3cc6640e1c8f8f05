"""YAML or JSON from a person nobody vouches for: its top-level keys with their lines, within bounds.

Only plain data is built (no tags that make objects), and values are counted with aliases written out before anything is
built, so that a few hundred bytes cannot become gigabytes.
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
MAX_VALUES = 100_000
_HINT = "give the training file of the other tool"
_MERGE = "tag:yaml.org,2002:merge"
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
        if _written_out(root, {}) > MAX_VALUES:
            raise _error(_TOO_DEEP, shown)
        _refuse_twice(root, shown, set())
        return _entries(root, text, shown)
    except BadToml as error:
        message = error.problem.message.replace("no such profile", "no such file")
        hint = _HINT if "profile" in error.problem.hint else error.problem.hint
        raise EngineError(message, code=ExitCode.PROFILE, where=shown, hint=hint) from None
    except yaml.YAMLError as error:
        raise _not_yaml(error, shown) from None
    except (RecursionError, ValueError) as error:
        raise _error(f"cannot be read: {sanitize(str(error), max_chars=120, single_line=True)}", shown) from None


def _not_yaml(error: yaml.YAMLError, shown: str) -> EngineError:
    mark = getattr(error, "problem_mark", None)
    where = f"{shown}:{mark.line + 1}" if mark else shown
    what = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read")
    if "another document" in what:
        return _error("holds several documents", where, "put each behind a --- into a file of its own; later files win")
    hint = "indent with spaces: YAML takes no tabs" if "\\t" in what else _HINT
    return _error(f"not YAML: {sanitize(what, max_chars=200, single_line=True)}", where, hint)


def _refuse_bombs(text: str, shown: str) -> None:
    aliases = depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > MAX_ALIASES or depth > MAX_DEPTH:
            raise _error(_TOO_DEEP, shown)


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node makes once its aliases are written out; beyond all bounds where it holds itself."""
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1
        known[id(node)] = 1 + sum(_written_out(part, known) for part in _parts(node))
    return known[id(node)]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _refuse_twice(node: yaml.Node, shown: str, seen: set[int]) -> None:
    """Raise EngineError for a table that has a key twice, wherever it stands."""
    if id(node) in seen:
        return
    seen.add(id(node))
    keys: set[str] = set()
    for key in [key for key, _ in node.value if key.tag != _MERGE] if isinstance(node, yaml.MappingNode) else []:
        if str(key.value) in keys:
            name = sanitize(str(key.value), max_chars=80, single_line=True)
            raise _error(f"'{name}' stands twice", f"{shown}:{key.start_mark.line + 1}", "keep one of them")
        keys.add(str(key.value))
    for part in _parts(node):
        _refuse_twice(part, shown, seen)


def _entries(root: yaml.MappingNode, text: str, shown: str) -> list[Entry]:
    loader = yaml.SafeLoader(text)
    loader.flatten_mapping(root)  # keys that `<<` brings come first, so that the file's own win
    found: dict[str, Entry] = {}
    for key_node, value_node in root.value:
        key, where = str(key_node.value), f"{shown}:{key_node.start_mark.line + 1}"
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
        raise _error(_TOO_DEEP, shown)
    root = json.loads(text, object_pairs_hook=_once)
    if _depth(text) > MAX_DEPTH:
        raise _error(_TOO_DEEP, shown)
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


_TOO_DEEP = "is nested too deeply or repeats itself too often"


def _error(message: str, where: str, hint: str = _HINT) -> EngineError:
    return EngineError(message, code=ExitCode.PROFILE, where=where, hint=hint)
