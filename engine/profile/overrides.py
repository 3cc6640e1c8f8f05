"""`--set key=value`: single settings on top of a profile.

A value is TOML; what is not TOML is tried as the form reads it (`16k`, `a,b`), then taken as text. Not here: whether
key and value are allowed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from engine.errors import Problem
from engine.profile.fields import field_at
from engine.profile.values import parse_value
from engine.text import sanitize

MAX_CHARS = 8 * 1024
MAX_PARTS = 8
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NUMBERED = re.compile(r"\d{1,4}")


def split_override(text: str) -> tuple[str, Any]:
    """`train.learning_rate=1e-4` -> key and value. Raises `ValueError` in words."""
    key, sign, written = text.partition("=")
    key = key.strip()
    if not sign or not _KEY.fullmatch(key) or key.count(".") >= MAX_PARTS or len(text) > MAX_CHARS:
        raise ValueError(f"'{sanitize(text, max_chars=80, single_line=True)}' is not key=value")
    return key, override_value(key, written.strip())


def override_value(key: str, written: str) -> Any:
    """The value of a key as typed in a shell."""
    field = field_at(key)
    if field is not None and field.kind == "text" and written[:1] not in ("'", '"'):
        return written
    try:
        # The wrapping list keeps a line break from opening a second setting.
        tree = tomllib.loads(f"value = [{written}]") if written.count(".") < 64 else {}
    except (ValueError, RecursionError):
        tree = {}
    values = tree.get("value", [])
    if len(tree) == 1 and isinstance(values, list) and len(values) == 1:
        return values[0]
    if field is not None:
        try:
            return parse_value(field, written)
        except ValueError:
            return written
    return written


def apply_overrides(tree: dict[str, Any], overrides: Iterable[str]) -> tuple[frozenset[str], list[Problem]]:
    """Put the overrides into `tree`; answers the keys that were set and what went wrong."""
    done: list[str] = []
    problems: list[Problem] = []
    for text in overrides:
        try:
            key, value = split_override(text)
            put(tree, key, value)
            done.append(key)
        except ValueError as error:
            problems.append(Problem(str(error), "write it as table.name=value", "--set"))
    return frozenset(done), problems


def put(
    tree: Any, key: str, value: Any, *, new_table: Callable[[], Any] = dict, new_list: Callable[[], Any] = list
) -> None:
    """Set a dotted key in nested dicts and lists, making tables on the way.

    Raises ValueError in words where the key runs through a value or past the end of a list.
    """
    parts = key.split(".")
    holder = tree
    for part, following in pairwise(parts):
        holder = _step(holder, part, new_list if _NUMBERED.fullmatch(following) else new_table, key)
    if isinstance(holder, list):
        _step(holder, parts[-1], new_table, key)
        holder[int(parts[-1])] = value
    elif hasattr(holder, "keys"):
        holder[parts[-1]] = value
    else:
        raise ValueError(f"{key}: '{parts[-2]}' is a value, not a table")


def _step(holder: Any, part: str, new: Callable[[], Any], key: str) -> Any:
    if isinstance(holder, list):
        if not _NUMBERED.fullmatch(part) or int(part) > len(holder):
            raise ValueError(f"{key}: there is no entry '{part}'; the next one is {len(holder)}")
        if int(part) == len(holder):
            holder.append(new())
        return holder[int(part)]
    if not hasattr(holder, "keys"):
        raise ValueError(f"{key}: what stands before '{part}' is a value, not a table")
    if part not in holder:
        holder[part] = new()
    return holder[part]
