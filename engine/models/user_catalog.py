"""A person's own models: the file behind `engine models add`, read and checked, and its text.

Merged behind the shipped list by `catalog.py`; written by `engine.cli.models`. What is read is
untrusted: names, types and ranges are checked before use. Not here: the shipped list.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.models.families import known_family
from engine.models.layers import LayerGroup, Mixer, groups_from
from engine.models.spec import ModelSpec
from engine.models.stored import NAMES
from engine.text import sanitize

MAX_FILE_BYTES = 1024**2
_PLAIN = LayerGroup._fields.index("mixer")
"""Fields of a `LayerGroup` before those that are lists."""
_LIMIT = 10**13
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_HEADER = "# Models of your own, beside the shipped list. Written anew by 'engine models add' and 'remove'.\n"
_SIZES = tuple(field.name for field in fields(ModelSpec) if field.type == "int")[:8]
_NONE_OR = " | None"
_GROUPS = ("layer_groups", "tower_groups")


def user_catalog_path() -> Path:
    """The file, honouring XDG_CONFIG_HOME; it need not be there."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "tunedeck" / "models.toml"


def read_user_catalog() -> tuple[ModelSpec, ...]:
    """The person's models that can be counted and trained; EngineError(MODEL) for a damaged file."""
    return tuple(spec for spec in read_entries() if _is_usable(spec))


def unusable_entries() -> EngineError | None:
    """Which of the person's models are left out, why, and what to do; None for none. Raises for a damaged file."""
    found = [spec for spec in read_entries() if not _is_usable(spec)]
    if not found:
        return None
    told = "; ".join(f"'{spec.name}' is of family '{spec.family}', {_why_not(spec)}" for spec in found)
    return EngineError(
        f"the list of your own models is read without {len(found)} of them: {told}",
        code=ExitCode.MODEL,
        where=sanitize(str(user_catalog_path()), single_line=True),
        hint="; ".join(f"engine models remove {spec.name}" for spec in found),
    )


def _is_usable(spec: ModelSpec) -> bool:
    row = known_family(spec.family)
    return row is not None and not row.refused


def _why_not(spec: ModelSpec) -> str:
    row = known_family(spec.family)
    return f"which cannot be trained here: {row.refused}" if row else "which is not known here"


def read_entries() -> tuple[ModelSpec, ...]:
    """All entries, none without a file, also those whose family is of no use here; EngineError(MODEL) for damage."""
    path = user_catalog_path()
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _damaged(f"cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise _damaged("is larger than 1 MiB")
    import tomllib  # 3 ms that nobody without a list of their own need pay

    try:
        models = tomllib.loads(raw.decode("utf-8")).get("models", {})
    except (ValueError, RecursionError) as error:
        raise _damaged(f"is not TOML: {str(error)[:120]}") from None
    if not isinstance(models, dict):
        raise _damaged("has no table 'models'")
    return tuple(_entry(name, values) for name, values in models.items())


def check_name(name: str) -> str:
    """`name` where it can stand for a model and for nothing else; EngineError(MODEL) otherwise."""
    if _NAME.fullmatch(name) and ".." not in name and name != "demo" and not name.lower().endswith(".gguf"):
        return name
    raise EngineError(
        "the name cannot be used for a model",
        code=ExitCode.MODEL,
        where=sanitize(name, max_chars=100, single_line=True),
        hint="give --name with letters, digits, '.', '_', '-' and at most one '/'; 'demo' and '….gguf' are taken",
    )


def format_user_catalog(specs: Iterable[ModelSpec]) -> str:
    """Text of the file that holds `specs`: one table a model, values other than the defaults."""
    return _HEADER + "".join(_table(spec) for spec in specs)


def _table(spec: ModelSpec) -> str:
    rows = [f'\n[models."{spec.name}"]\n']
    for field in fields(ModelSpec):
        value = getattr(spec, field.name)
        if field.name != "name" and value is not None and value != field.default:
            # Strings are free of control characters, so that JSON's spelling of each value is TOML's too.
            rows.append(f"{field.name} = {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(rows)


def _entry(name: str, values: Any) -> ModelSpec:
    try:
        check_name(name)
    except EngineError as error:
        raise _damaged(f"has a model with an unusable name, '{error.where}'") from None
    if not isinstance(values, dict):
        raise _damaged(f"has no table for '{name}'")
    known = {field.name: str(field.type) for field in fields(ModelSpec) if field.name not in ("name", "counted")}
    for key, value in values.items():
        if key not in known or not _is_valid(key, known[key], value):
            shown = sanitize(f"{key} = {value!r}", max_chars=80, single_line=True)
            raise _damaged(f"has an entry that is not understood, '{shown}' of '{name}'")
    missing = [key for key in _SIZES if key not in values] + ([] if "family" in values else ["family"])
    if missing:
        raise _damaged(f"lacks {', '.join(missing)} of '{name}'")
    spec = ModelSpec(name=name, **{key: _frozen(key, value) for key, value in values.items()})
    return spec if spec.path is None or os.path.exists(spec.path) else replace(spec, path=None)


def _is_valid(key: str, kind: str, value: Any) -> bool:
    if key in _GROUPS:
        return isinstance(value, list) and all(_is_group(item) for item in value)
    if key == "stored":
        return value in NAMES
    if kind.startswith("tuple"):
        return isinstance(value, list) and all(_is_text(item) for item in value)
    if kind.removesuffix(_NONE_OR) == "bool":
        return isinstance(value, bool)
    if kind.removesuffix(_NONE_OR) == "int":
        whole = isinstance(value, int) and not isinstance(value, bool)
        limit = 100 if key == "quality" else _LIMIT
        return whole and int(key in _SIZES) <= value <= limit
    return _is_text(value)


def _is_group(value: Any) -> bool:
    """Whether `value` is a `LayerGroup`: numbers but for lists of numbers, and of linear layers with two sizes.

    The lists at its end are left out in files of an older engine.
    """
    if not isinstance(value, list) or not _PLAIN <= len(value) <= len(LayerGroup._fields):
        return False
    lists = value[_PLAIN:]
    if not isinstance(value[1], list) or not all(isinstance(each, list) for each in lists):
        return False
    if lists and len(lists[0]) != len(Mixer._fields):
        return False
    linear = all(isinstance(item, list) and len(item) == 3 and _is_text(item[0]) for item in value[1])
    numbers = [value[0], *value[2:_PLAIN], *(each for some in lists for each in some)]
    numbers += [side for item in value[1] if linear for side in item[1:]]
    return linear and all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= _LIMIT for each in numbers
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\n" not in value and sanitize(value, max_chars=4096) == value


def _frozen(key: str, value: Any) -> Any:
    if key in _GROUPS:
        return groups_from(value)
    return tuple(value) if isinstance(value, list) else value


def _damaged(problem: str) -> EngineError:
    return EngineError(
        f"the list of your own models {problem}",
        code=ExitCode.MODEL,
        where=sanitize(str(user_catalog_path()), single_line=True),
        hint="correct it, or remove it and add the models again",
    )
