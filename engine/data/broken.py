"""Words for JSON that cannot be read: what a person wrote there, rather than what the parser waited for."""

from __future__ import annotations

import json
import re
from typing import Any

from engine.data.structured import json_decoder

_LOOKED_AT = 200
_COMMENT = re.compile(r"\s*(?://|/\*|#)")


def why_not_json(error: json.JSONDecodeError) -> str:
    """The likely mistake at an error's place; the parser's own words where none is known."""
    rest, before = error.doc[error.pos : error.pos + _LOOKED_AT], error.doc[max(0, error.pos - _LOOKED_AT) : error.pos]
    comma = before.rstrip().endswith(",") or rest.lstrip().startswith(",")
    if comma and rest.lstrip(", \t\r\n")[:1] in ("}", "]"):
        return "a comma before the closing bracket"
    if _COMMENT.match(rest):
        return "a comment, which JSON does not have"
    if rest[:1] == "'":
        return "single quotes: this is Python's writing, JSON has double ones"
    if re.match(r"(?:True|False|None)\b", rest):
        return "True, False or None: this is Python's writing, JSON has true, false and null"
    if error.msg.startswith("Invalid control character"):
        return "a line break or tab inside a text, to be written as \\n or \\t"
    if error.msg == "Extra data" and not rest.strip(", \t\r\n") and "," in rest:
        return "a comma behind the object"
    if error.msg.startswith("Expecting") and comma and rest.lstrip(" \t\r\n")[:1] == ",":
        return "two commas in a row"
    if error.msg == "Extra data" and rest.lstrip().startswith("{"):
        return "a second object on the line"
    return error.msg


def line_refusal(head: str) -> str:
    """Why lines of JSON cannot be read line by line, from the start of a file; '' where they can, as far as is seen."""
    text = head.lstrip()
    first = text.partition("\n")[0].rstrip()
    if not first.startswith("{") or first.endswith("}") or "\n" not in text:
        return ""
    try:
        value, end = json_decoder.raw_decode(text)
    except ValueError:
        return ""
    return several_objects(text, end) if isinstance(value, dict) and "\n" in text[:end].strip() else ""


def several_objects(text: str, end: int) -> str:
    """What is wrong with objects one after another, the first of which ends at `end`."""
    lines = text[:end].lstrip().count("\n") + 1
    how = f"each over several lines (the first takes {lines})" if lines > 1 else "without a list around them"
    return f"objects stand one after another, {how}"


def wrapped(value: dict[str, Any], name: str) -> tuple[str, str]:
    """What is wrong with an object around a list of rows, and what to do; two empty texts for any other object."""
    for key, item in value.items():
        if isinstance(item, list) and item and isinstance(item[0], dict):
            message = f"the {len(item):,} rows are a list under '{str(key)[:80]}', in one object"
            return message, f"write that list to a file of its own: jq -c '.[\"{key}\"][]' {name} > rows.jsonl"
    return "", ""


def is_turned(value: Any) -> bool:
    """Whether one object holds all rows: columns of numbered cells, or numbered rows, as pandas writes by default."""
    if not isinstance(value, dict) or not value:
        return False
    numbered = all(str(key).isdigit() and isinstance(item, dict) for key, item in value.items())
    return numbered or all(isinstance(item, dict) and item and all(map(str.isdigit, item)) for item in value.values())
