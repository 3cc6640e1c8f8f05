"""Every setting of a profile as a `FieldSpec`, derived from the pydantic schema's JSON Schema.

Not here: any setting; those are declared in `schema.py` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from engine.profile.fieldspec import FieldSpec
from engine.profile.schema import Profile
from engine.profile.values import format_value, parse_value

__all__ = ["FieldSpec", "canonical", "field_at", "format_value", "json_schema", "parse_value", "profile_fields"]

Node = dict[str, Any]

_KINDS = {"string": "text", "integer": "int", "number": "float", "boolean": "bool", "array": "list", "object": "map"}
_LABELS = {
    "lora.r": "rank (r)",
    "model.name_or_path": "model",
    "data.datasets.0.path": "data file",
    "model.trust_remote_code": "run the model's code",
}


@cache
def json_schema() -> Node:
    """JSON Schema of a profile, draft 2020-12."""
    schema = Profile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


@cache
def profile_fields() -> tuple[FieldSpec, ...]:
    """All settings in the schema's order."""
    return tuple(_fields(json_schema(), ""))


@cache
def _by_key() -> dict[str, FieldSpec]:
    return {field.key: field for field in profile_fields()}


def canonical(key: str) -> str:
    """`data.datasets.3.path` -> `data.datasets.0.path`: the key under which the field is known."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "0", key)


def field_at(key: str) -> FieldSpec | None:
    """The setting of a dotted key, whatever the number of its entry."""
    return _by_key().get(canonical(key))


def _resolve(node: Node) -> Node:
    if "$ref" in node:
        found: Node = json_schema()["$defs"][node["$ref"].rpartition("/")[2]]
        return found
    return node


def _fields(table: Node, prefix: str) -> Iterator[FieldSpec]:
    for name, raw in table["properties"].items():
        node, key = _resolve(raw), f"{prefix}{name}"
        entry = _resolve(node.get("items", {}))
        if "properties" in node:
            yield from _fields(node, f"{key}.")
        elif "properties" in entry:
            yield from _fields(entry, f"{key}.0.")
        else:
            yield _field(key, name, node, required=name in table.get("required", ()))


def _field(key: str, name: str, node: Node, *, required: bool) -> FieldSpec:
    parts: list[Node] = node.get("anyOf", [node])
    types = [part.get("type", "string") for part in parts]
    words = _words(parts)
    value = _value_part(parts)
    return FieldSpec(
        key=key,
        table=key.partition(".")[0] if "." in key else "",
        name=name,
        label=_LABELS.get(key, name.replace("_", " ")),
        kind=_kind(parts, value),
        choices=words,
        minimum=value.get("minimum", value.get("exclusiveMinimum")),
        maximum=value.get("maximum", value.get("exclusiveMaximum")),
        unit=node.get("unit", ""),
        description=node.get("description", ""),
        default=node.get("default"),
        advanced=node.get("advanced", False),
        auto="auto" in words or node.get("default") == "auto",
        required=required,
        optional="null" in types,
        above="exclusiveMinimum" in value,
        below="exclusiveMaximum" in value,
        min_chars=value.get("minLength", 0),
        max_chars=value.get("maxLength", value.get("items", {}).get("maxLength") if "holds" in node else None),
        pattern=value.get("pattern", ""),
        items=node.get("holds", ""),
        most_items=value.get("maxItems"),
    )


def _words(parts: list[Node]) -> tuple[str, ...]:
    words: list[str] = []
    for part in parts:
        for holder in (part, part.get("items", {})):
            words += holder.get("enum", [])
            words += [holder["const"]] if "const" in holder else []
    return tuple(words)


def _value_part(parts: list[Node]) -> Node:
    """The part that carries limits: neither null, nor a fixed word, nor the bool beside an int."""
    plain = [part for part in parts if part.get("type") != "null" and "const" not in part]
    numbers = [part for part in plain if part.get("type") in ("integer", "number")]
    return (numbers or plain or parts)[0]


def _kind(parts: list[Node], value: Node) -> str:
    if "enum" in value or "const" in value:
        return "choice"
    if value.get("type") == "integer" and any(part.get("type") == "boolean" for part in parts):
        return "switch"
    if value.get("additionalProperties") is True:
        return "table"
    return _KINDS[value["type"]]
