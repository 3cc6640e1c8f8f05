"""Lists and objects that a cell or a text holds, as JSON or as Python and numpy print them; and what counts as nothing.

Python's text is rewritten as JSON piece by piece, in one pass: nothing is evaluated but single text literals.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

EMPTY_WORDS = frozenset(("nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NaT"))
"""What pandas and databases write into a cell that holds nothing."""
_LOOKED_AT = 4096
_MAX_DEPTH = 64
"""Of tools and arguments; templates and their readers recurse into them."""
_MAX_PIECES = 200_000
"""Of a list or object in Python's writing."""
_SPEAKER = re.compile(r"""['"](?:role|from)['"]\s*:""")
_SAID = re.compile(r"""['"](?:content|value|tool_calls|function_call|parts)['"]\s*:""")
_OPENING = re.compile(r"\s*(?:array\()?\s*(?:\[\s*)*(?:array\()?\s*\{")
_PIECE = re.compile(
    r"""(?P<text>[bu]?'[^'\\]*+(?:\\.[^'\\]*+)*+'|[bu]?"[^"\\]*+(?:\\.[^"\\]*+)*+")"""
    r"|(?P<array>\barray\()"
    r"|(?P<array_end>,\s*+dtype=object\)(?:\s++(?=array\())?)"
    r"|(?P<gap>[}\]]\s++(?=[{\['\"]))"
    r"|(?P<number>\d[\d.eE+\-]*+)"
    r"|(?P<word>[A-Za-z_]\w*+)"
    r"|(?P<last_comma>,\s*+(?=[\]})]))"
    r"|(?P<other>[\[{(:\s.+\-]++|[\]}),])",
    re.DOTALL,
)
_WORDS = {"None": "null", "nan": "null", "True": "true", "False": "false", "null": "null", "true": "true"}
_WORDS["false"] = "false"


def _no_number(name: str) -> float | None:
    return None if name == "NaN" else float(name.replace("Infinity", "inf"))


json_decoder = json.JSONDecoder(parse_constant=_no_number)
"""JSON as Python writes it: NaN is null."""


def is_absent(value: Any) -> bool:
    """Whether a value stands for nothing: null, or a NaN."""
    return value is None or value != value


def holds(value: Any) -> bool:
    """Whether something stands there: no null, NaN, blank text or empty list."""
    if isinstance(value, str):
        return bool(value) and not value.isspace()
    return not is_absent(value) and value not in ([], {}, ())


def written(value: Any) -> str:
    """The JSON text of a value; dates and the like of a table as text. ValueError for one nested too deeply."""
    _check_depth(value, _MAX_DEPTH)
    return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)


def without_nulls(value: Any) -> Any:
    """The same without keys that are null: a column of a table has every key that any of its rows has.

    Maps of a table, which are lists of pairs, become objects.
    """
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        value = dict(value)
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if not is_absent(item)}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def parsed(text: str) -> Any:
    """The list or object that a text writes, as JSON or as Python or numpy print it. ValueError for any other text."""
    if text.lstrip()[:1] not in ("[", "{", "(", "a"):
        raise ValueError("no list or object")
    try:
        return json_decoder.decode(text)
    except ValueError:
        pass
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    try:
        return json_decoder.decode(_as_json(text))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def looks_like_turns(text: str) -> bool:
    """Whether a text is meant as messages: it begins like a list or object with a role and what was said."""
    if not _OPENING.match(text[:256]):
        return False
    head = text[:_LOOKED_AT]
    return bool(_SPEAKER.search(head) and _SAID.search(head))


def _as_json(text: str) -> str:
    pieces, position = [], 0
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            raise ValueError(f"neither JSON nor Python's lists at character {position + 1}")
        pieces.append(_piece(match))
        if len(pieces) > _MAX_PIECES:
            raise ValueError("too many values")
        position = match.end()
    return "".join(pieces)


def _piece(match: re.Match[str]) -> str:
    kind, text = match.lastgroup, match[0]
    if kind == "text":
        return _text_literal(text)
    if kind == "word":
        if text not in _WORDS:
            raise ValueError(f"neither JSON nor Python's lists: {text[:40]!r}")
        return _WORDS[text]
    if kind in ("array", "array_end", "last_comma"):
        return "," if kind == "array_end" and text[-1] != ")" else ""
    if kind == "gap":
        return text[0] + ","
    return text.replace("(", "[").replace(")", "]")


def _text_literal(text: str) -> str:
    if "\\" not in text and text[0] in "'\"":
        return json.dumps(text[1:-1], ensure_ascii=False)
    try:
        found = ast.literal_eval(text.replace("\n", "\\n").replace("\r", "\\r"))
    except (SyntaxError, ValueError, MemoryError) as error:
        raise ValueError(f"a text that Python cannot read: {text[:40]!r}") from error
    if not isinstance(found, str):
        raise ValueError("bytes in place of text")
    return json.dumps(found, ensure_ascii=False)
