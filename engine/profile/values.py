"""What a setting may be, in words, and text from a form or a shell turned into a value.

Not here: validation of a whole profile.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

from engine.profile.fieldspec import FieldSpec

_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")
_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*)?\.?\d[\d_]*(?:[eE][+-]?\d{1,3})?)\s*([kKmM]?)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_ITEM = re.compile(r"[^\s,\"'\[\]]+")
"""An item of a list that needs no quotes between its commas."""
_QUOTED = re.compile(r""" "(?:[^"\\]|\\.)*" | '[^']*' """, re.VERBOSE)
_MOST_DOTS = 64
"""tomllib takes time and memory by the square of dotted parts."""
_PLAIN = "^[^\\x00"


def parse_value(field: FieldSpec, text: str) -> Any:
    """A value from what was typed: `2e-4`, `1_000`, `16k`, `true`, `a, b`, `auto`; empty = unset.

    k and m are 1024 and 1024² for token counts, 1000 and 1000² elsewhere. Raises `ValueError` with
    a message in words that names the allowed range.
    """
    typed = text.strip()
    if not typed and field.kind not in ("text", "list", "map", "table"):
        return _unset(field)
    if field.auto and typed.lower() == "auto":
        return "auto"
    return _PARSERS[field.kind](field, typed)


def format_value(value: Any) -> str:
    """The text that `parse_value` reads back."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        if all(isinstance(item, str) for item in value.values()):
            return ", ".join(f"{name}={item}" for name, item in value.items())
        return inline_toml(value)
    if isinstance(value, (list, tuple)):
        plain = all(_PLAIN_ITEM.fullmatch(str(item)) for item in value)
        return ", ".join(str(item) for item in value) if plain else inline_toml(value)
    return str(value)


def allowed(field: FieldSpec) -> str:
    """What the setting accepts: `a whole number from 1 to 4,096, or 'auto'`."""
    words = [f"'{word}'" for word in field.choices if word != "auto"]
    tail = ", or 'auto'" if field.auto else ""
    if field.kind == "choice":
        return "one of " + ", ".join(f"'{word}'" for word in field.choices)
    if field.kind == "list" and len(words) > 1:
        return "a list of " + ", ".join(words)
    basis = {
        "int": f"a whole number {_limits(field)}" if field.minimum != field.maximum else f"the number {_limits(field)}",
        "float": f"a number {_limits(field)}",
        "switch": f"true, false or a whole number {_limits(field)}{_gpu_words(words)}",
        "bool": "true or false",
        "list": " or ".join([*words, _list_words(field)]),
        "map": "a table of names, such as " + (field.items or "instruction = 'question'"),
        "table": f"a table, such as {field.items or '{ lora.r = [8, 16] }'}",
        "text": _text_words(field),
    }[field.kind]
    return basis + tail


def _list_words(field: FieldSpec) -> str:
    if not field.items:
        return "a list of names"
    most = f"at most {field.most_items} " if field.most_items else ""
    long = f" of 1 to {_number(field.max_chars)} characters without control characters" if field.max_chars else ""
    return f'a list of {most}{field.items}{long}, such as ["What is DNA?"]'


def _gpu_words(words: list[str]) -> str:
    """Words that a switch takes beside its numbers: ways of checkpointing that processors do not have."""
    return f", on a GPU also {' or '.join(words)}" if words else ""


def _limits(field: FieldSpec) -> str:
    low, high = _number(field.minimum), _number(field.maximum)
    if field.minimum is not None and field.minimum == field.maximum:
        return low
    if not field.above and not field.below and low and high:
        return f"from {low} to {high}"
    above = f"{'above' if field.above else 'at least'} {low}" if low else ""
    below = f"{'below' if field.below else 'at most'} {high}" if high else ""
    return " and ".join(part for part in (above, below) if part)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _text_words(field: FieldSpec) -> str:
    if field.pattern and not field.pattern.startswith(_PLAIN):
        return "text of letters, digits, '.', '_' and '-', starting with a letter or digit, at most 64"
    least = f"{field.min_chars} to " if field.min_chars else "at most "
    plain = " without control characters" if field.pattern else ""
    return f"text of {least}{_number(field.max_chars)} characters{plain}" if field.max_chars else f"text{plain}"


def _unset(field: FieldSpec) -> None:
    if field.optional:
        return None
    raise ValueError(f"needs {allowed(field)}")


def _refuse(field: FieldSpec, text: str) -> ValueError:
    return ValueError(f"must be {allowed(field)}; got '{text[:60]}'")


def _parse_number(field: FieldSpec, text: str) -> int | float:
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > 40:
        raise _refuse(field, text)
    digits, suffix = match.group(1).replace("_", ""), match.group(2).lower()
    base = 1024 if field.unit == "tokens" else 1000
    value = (float(digits) if not digits.lstrip("+-").isdigit() else int(digits)) * {"": 1, "k": base, "m": base**2}[
        suffix
    ]
    if field.kind != "float":
        if value != int(value):
            raise _refuse(field, text)
        value = int(value)
    if not _in_range(field, value):
        raise _refuse(field, text)
    return value if field.kind != "float" else float(value)


def _in_range(field: FieldSpec, value: float) -> bool:
    low, high = field.minimum, field.maximum
    if not abs(value) < float("inf"):
        return False
    if low is not None and (value < low or (field.above and value == low)):
        return False
    return high is None or not (value > high or (field.below and value == high))


def _parse_bool(field: FieldSpec, text: str) -> bool:
    word = text.lower()
    if word not in _TRUE + _FALSE:
        raise _refuse(field, text)
    return word in _TRUE


def _parse_switch(field: FieldSpec, text: str) -> bool | int | str:
    if text in field.choices:
        return text
    if text.lower() in _TRUE + _FALSE:
        return _parse_bool(field, text)
    return int(_parse_number(field, text))


def _parse_choice(field: FieldSpec, text: str) -> str:
    if text not in field.choices:
        raise _refuse(field, text)
    return text


def _parse_text(field: FieldSpec, text: str) -> str | None:
    if not text and field.optional:
        return None
    too_long = field.max_chars is not None and len(text) > field.max_chars
    if len(text) < field.min_chars or too_long or (field.pattern and not re.search(field.pattern, text)):
        raise _refuse(field, text)
    return text


def _parse_list(field: FieldSpec, text: str) -> list[str] | str:
    if text in field.choices and field.default == text:
        return text
    quoted = _quoted_items(text)
    items = [item.strip().strip("\"'").strip() for item in text.removeprefix("[").removesuffix("]").split(",")]
    if quoted is not None:
        items = quoted
    elif field.items and not all(_PLAIN_ITEM.fullmatch(item) for item in items if item):
        items = [text]  # one sentence, with its commas
    found = [item for item in items if item]
    fixed = [word for word in field.choices if word != field.default]
    if (fixed and not set(found) <= set(fixed)) or (not found and field.default != []):
        raise _refuse(field, text)
    return found


def _quoted_items(text: str) -> list[str] | None:
    """The items of a list as TOML writes it; None for any other text."""
    if not text.startswith("[") or not text.endswith("]") or any("{" in part for part in _QUOTED.split(text)):
        return None  # the keys of a table are what tomllib takes long for
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return None
    value = found.get("value")
    is_list = set(found) == {"value"} and isinstance(value, list) and all(isinstance(item, str) for item in value)
    return value if is_list else None


def _parse_map(field: FieldSpec, text: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in text.strip("{} ").split(",") if item.strip()]
    if any(not sign or not name.strip() or not value.strip() for name, sign, value in pairs):
        raise _refuse(field, text)
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _parse_table(field: FieldSpec, text: str) -> dict[str, Any]:
    inner = text.removeprefix("{").removesuffix("}") if text.startswith("{") else text
    try:
        # The braces keep a line break from opening a second setting.
        tree = tomllib.loads(f"value = {{{inner}}}") if inner.count(".") < _MOST_DOTS else {}
    except (ValueError, RecursionError):
        raise _refuse(field, text) from None
    if set(tree) != {"value"}:
        raise _refuse(field, text)
    found: dict[str, Any] = tree["value"]
    return found


def inline_toml(value: Any) -> str:
    """A value as TOML on one line; keys are quoted where they need it. None has no TOML and is refused (ValueError)."""
    if isinstance(value, dict):
        pairs = (f"{_toml_key(name)} = {inline_toml(item)}" for name, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(inline_toml(item) for item in value) + "]"
    if isinstance(value, str):
        # A JSON string is a TOML basic string but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if value is None:
        raise ValueError("TOML has no null")
    return format_value(value)


def _toml_key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)


_PARSERS = {
    "text": _parse_text,
    "int": _parse_number,
    "float": _parse_number,
    "bool": _parse_bool,
    "switch": _parse_switch,
    "choice": _parse_choice,
    "list": _parse_list,
    "map": _parse_map,
    "table": _parse_table,
}
