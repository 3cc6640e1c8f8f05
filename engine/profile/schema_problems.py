"""A parsed profile held against the schema: every finding in words, and what is left without them.

A wrong value must not hide the next one, so what did not validate is taken out, required settings get a stand-in, and
the checks across fields run on the rest (`Validated.partial`, minus `broken`). Not here: checks across fields, files,
models (`check.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from engine.errors import Problem
from engine.profile.fields import field_at
from engine.profile.fieldspec import FieldSpec
from engine.profile.names import nearest_key, nearest_word
from engine.profile.schema import Profile
from engine.profile.values import allowed, parse_value
from engine.text import sanitize

MAX_LISTED = 50
Locate = Callable[[str], tuple[str, int | None]]
"""Key -> (`file:line` or `--set key`, line)."""

_RANGE = ("greater_than", "less_than", "too_short", "too_long", "finite_number")
_STAND_INS: dict[str, Any] = {"model": {}, "model.name_or_path": "demo", "data": {}, "data.datasets": [{"path": "?"}]}


@dataclass(frozen=True, slots=True)
class Validated:
    """`profile` where everything is right; `partial` has stand-ins under the `broken` keys."""

    profile: Profile | None
    partial: Profile | None
    broken: frozenset[str]
    problems: tuple[Problem, ...]


def validate(tree: dict[str, Any], locate: Locate) -> Validated:
    """All problems of `tree` with the schema, one a key, in the order of the file."""
    try:
        profile = Profile.model_validate(tree)
        return Validated(profile, profile, frozenset(), ())
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
    found = _by_key(details)
    problems = [_problem(key, detail, locate) for key, detail in list(found.items())[:MAX_LISTED]]
    problems.sort(key=lambda problem: problem.line or 0)
    if len(found) > MAX_LISTED:
        problems.append(Problem(f"and {len(found) - MAX_LISTED} more problems", where=locate("")[0]))
    partial = _without(tree, list(found))
    return Validated(None, partial, frozenset(found), tuple(problems))


def show(value: Any) -> str:
    """A value as TOML would write it, short and safe to print."""
    if isinstance(value, str):
        return "'" + sanitize(value, max_chars=60, single_line=True) + "'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 10**24:
        return "a number of more than 24 digits"
    return sanitize(str(value), max_chars=60, single_line=True)


def _by_key(details: list[ErrorDetails]) -> dict[str, ErrorDetails]:
    found: dict[str, ErrorDetails] = {}
    for detail in details:
        key = _key(detail)
        kept = found.get(key)
        # Of a union's findings, one about the range says more than one about the type.
        if kept is None or (_is_range(detail) and not _is_range(kept)):
            found[key] = detail
    return found


def _is_range(detail: ErrorDetails) -> bool:
    return any(mark in detail["type"] for mark in _RANGE)


def _key(detail: ErrorDetails) -> str:
    """Dotted key of a finding: pydantic appends the union member or list index that was tried."""
    parts = [str(part) for part in detail["loc"]]
    for length in range(1, len(parts) + 1):
        if field_at(".".join(parts[:length])) is not None:
            return ".".join(parts[:length])
    return ".".join(parts)


def _problem(key: str, detail: ErrorDetails, locate: Locate) -> Problem:
    field = field_at(key)
    where, line = locate(key)
    value = detail["input"]
    if detail["type"] == "missing":
        message, hint, shown = "is missing", _needed(key, field), ""
    elif detail["type"] == "extra_forbidden":
        message, hint, shown = *_unknown(key), show(value)
    elif detail["type"] == "value_error" and field is not None:
        message, hint, shown = detail["msg"].removeprefix("Value error, "), f"use {allowed(field)}", show(value)
    elif field is None:
        message, hint, shown = *_table_words(key, value), show(value)
    else:
        shown = show(value)
        kind = "is out of range" if _is_range(detail) else f"is not {_kind_words(field)}"
        message, hint = f"{shown} {kind}", _remedy(field, value)
    name = sanitize(key, max_chars=120, single_line=True)
    return Problem(f"{name}: {message}", hint, where, name, line, shown)


def _unknown(key: str) -> tuple[str, str]:
    near = nearest_key(key)
    noun = "setting" if "." in key else "table or setting"
    return f"no such {noun}", f"did you mean '{near}'?" if near else "see 'engine profile schema'"


def _needed(key: str, field: FieldSpec | None) -> str:
    if field is not None:
        return f"set it: {field.description[0].lower()}{field.description[1:]}"
    example = '[[data.datasets]] with path = "train.jsonl"' if key.startswith("data") else f"[{key}]"
    return f"add {example}"


def _table_words(key: str, value: Any) -> tuple[str, str]:
    if key == "data.datasets":
        if isinstance(value, list):
            return "the list is empty or too long", 'add [[data.datasets]] with path = "train.jsonl"'
        return "must be a list of tables", "write [[data.datasets]], with two brackets"
    name = "[data.datasets]" if key.startswith("data.datasets") else key
    return f"{show(value)} is not a table", f"write [{name}] on a line of its own and its settings below"


def _kind_words(field: FieldSpec) -> str:
    plain = {"int": "a whole number", "float": "a number", "bool": "true or false", "text": "accepted text"}
    named = [f"'{word}'" for word in field.choices if word != "auto"]
    words = {
        "switch": f"true, false, a number, {' or '.join(named)}" if named else "true, false or a number",
        "list": "an accepted list",
        "map": "a table of names",
        "table": "a table",
    }
    return {**plain, **words}.get(field.kind, "one of the choices")


def _remedy(field: FieldSpec, value: Any) -> str:
    rule = f"use {allowed(field)}"
    if not isinstance(value, str):
        return rule
    if field.kind in ("choice", "list"):
        near = nearest_word(value, field.choices)
        return f"did you mean '{near}'? {rule}" if near else rule
    if field.kind in ("int", "float", "bool", "switch"):
        try:
            parse_value(field, value)
        except ValueError:
            return rule
        return f"write it without quotes; {rule}"
    return rule


def _without(tree: dict[str, Any], keys: list[str]) -> Profile | None:
    """The tree without these keys, with stand-ins for what is required; `None` if that fails too."""
    left = copy.deepcopy(tree)
    for key in keys:
        _drop(left, key.split("."))
    for key, stand_in in _STAND_INS.items():
        table, _, name = key.rpartition(".")
        holder = left.get(table, {}) if table else left
        if isinstance(holder, dict) and not holder.get(name):
            holder[name] = copy.deepcopy(stand_in)
    for entry in _entries(left):
        entry.setdefault("path", "?")
    try:
        return Profile.model_validate(left)
    except ValidationError:
        return None


def _entries(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    datasets = tree["data"].get("datasets", []) if isinstance(tree.get("data"), dict) else []
    yield from (entry for entry in datasets if isinstance(entry, dict))


def _drop(holder: Any, parts: list[str]) -> None:
    """Delete the setting at `parts`; an entry of a list becomes an empty table, so that others keep their number."""
    for part in parts[:-1]:
        holder = _child(holder, part)
    last = parts[-1]
    if isinstance(holder, dict):
        holder.pop(last, None)
    elif isinstance(holder, list) and last.isdigit() and int(last) < len(holder):
        holder[int(last)] = {}


def _child(holder: Any, part: str) -> Any:
    if isinstance(holder, dict):
        return holder.get(part)
    if isinstance(holder, list) and part.isdigit() and int(part) < len(holder):
        return holder[int(part)]
    return None
