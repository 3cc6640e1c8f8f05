"""Values from JSON files that another program, or another version of this one, may have written.

`load_object` reads a file or says in words why it cannot be used; the `…_in` functions take one value of the expected
kind and fall back where it is missing or of another kind. Light: the shell and the deck read with this.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.text import sanitize

Table = Mapping[str, Any]
_NEWER_HINT = "use the engine that wrote it, or a newer one"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a file cannot be used: what lists and screens show in place of its content. Safe for a terminal."""

    name: str
    reason: str
    hint: str = ""
    where: str = ""
    missing: bool = False
    """Whether there is no such file at all."""

    def __str__(self) -> str:
        return f"{self.name} {self.reason}" + (f": {self.hint}" if self.hint else "")

    def error(self) -> EngineError:
        """The same for whoever cannot go on without the file."""
        return EngineError(f"{self.name} {self.reason}", code=ExitCode.PROFILE, where=self.where, hint=self.hint)


def load_object(path: Path, *, name: str, version_key: str, newest: int, hint: str) -> dict[str, Any] | Unreadable:
    """The JSON object in `path`, of version `newest` or older; `hint` says what to do about a damaged one."""
    found = load_any_object(path, name=name, hint=hint)
    if isinstance(found, Unreadable):
        return found
    problem = version_problem(found, version_key, newest)
    if problem:
        return Unreadable(name, problem, _NEWER_HINT if "reads" in problem else hint, str(path.parent))
    return found


def load_any_object(path: Path, *, name: str, hint: str) -> dict[str, Any] | Unreadable:
    """The JSON object in `path` whatever its version."""
    where = str(path.parent)
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Unreadable(name, "is missing", hint, where, missing=True)
    except OSError as error:
        return Unreadable(name, f"cannot be read: {error.strerror}", hint, where)
    except (ValueError, RecursionError) as error:
        said = sanitize(str(error), max_chars=120, single_line=True)
        return Unreadable(name, f"cannot be read: it is not whole JSON ({said})", hint, where)
    if not isinstance(found, dict):
        kind = _KINDS.get(type(found), "nothing")
        return Unreadable(name, f"cannot be read: it holds {kind}, not an object", hint, where)
    return found


_KINDS: Mapping[type, str] = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}


def version_problem(found: Table, key: str, newest: int) -> str:
    """Why an object of this version is not read; empty when it is."""
    version = found.get(key)
    if isinstance(version, bool) or not isinstance(version, int):
        return f"is not whole: it has no {key}"
    if not 1 <= version <= newest:
        known = f"{newest}" if newest == 1 else f"1 to {newest}"
        return f"has version {version}, this engine reads {known}"
    return ""


def table_in(holder: Table | None, key: str) -> Table:
    """A table; empty where there is none."""
    found = holder.get(key) if holder else None
    return found if isinstance(found, Mapping) else {}


def tables_in(holder: Table | None, key: str) -> tuple[Table, ...]:
    """The tables of a list."""
    found = holder.get(key) if holder else None
    return tuple(item for item in found if isinstance(item, Mapping)) if isinstance(found, list) else ()


def number_in(holder: Table | None, key: str) -> float | None:
    """A finite number; None where there is none."""
    found = holder.get(key) if holder else None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    # A whole number may be larger than any float.
    return found if abs(found) <= sys.float_info.max else None


def whole_in(holder: Table | None, key: str) -> int | None:
    """A whole number; None where there is none."""
    found = number_in(holder, key)
    return None if found is None else int(found)


def text_in(holder: Table | None, key: str) -> str:
    """A text; empty where there is none."""
    found = holder.get(key) if holder else None
    return found if isinstance(found, str) else ""


def flag_in(holder: Table | None, key: str) -> bool:
    """Whether a switch is on."""
    return holder is not None and holder.get(key) is True
