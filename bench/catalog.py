"""The two files that `engine/models/catalog.toml` becomes: both are read faster than TOML, and hold the same.

`catalog.json` is the list as it stands; `listed.py` is each model as the `ModelSpec` that follows from it, so that a
cold `engine fit` need not work out 245 configurations. `python -m bench.pages` writes both.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any

from engine.models.catalog import EDITED_PATH, specs_of
from engine.models.spec import ModelSpec

_HEAD = '''"""Each shipped model as numbers. Made from `catalog.toml` by `python -m bench.pages`: do not edit."""

from engine.models.layers import LayerGroup, Mixer
from engine.models.spec import ModelSpec

'''


def edited() -> dict[str, Any]:
    """The tables of `catalog.toml`."""
    with EDITED_PATH.open("rb") as file:
        return tomllib.load(file)


def compiled_json() -> str:
    """Text of `catalog.json`: what `catalog.toml` says now, one row a line."""
    return "{" + ",".join(f"\n{json.dumps(name)}: {_table(rows)}" for name, rows in edited().items()) + "\n}\n"


def compiled_specs() -> str:
    """Text of `listed.py`: a `ModelSpec` a line, in the order of the file."""
    return f"{_HEAD}MODELS: tuple[ModelSpec, ...] = (\n{''.join(_lines(specs_of(edited())))})\n"


def _table(rows: dict[str, Any]) -> str:
    return "{" + ",".join(f"\n{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()) + "\n}"


def _lines(specs: Iterable[ModelSpec]) -> Iterable[str]:
    for spec in specs:
        items = [(item.name, getattr(spec, item.name), _default(item)) for item in fields(spec)]
        yield f"    {_call('ModelSpec', items)},\n"


def _default(item: Field[Any]) -> Any:
    return item.default if item.default is not MISSING else item


def _call(name: str, items: Iterable[tuple[str, Any, Any]]) -> str:
    """A call with the arguments that differ from what they are without being named."""
    return f"{name}({', '.join(f'{key}={_source(value)}' for key, value, usual in items if value != usual)})"


def _source(value: Any) -> str:
    if not isinstance(value, tuple):
        return repr(value)
    if hasattr(value, "_fields"):
        usual = value._field_defaults
        items = [(key, item, usual.get(key, value)) for key, item in value._asdict().items()]
        return _call(type(value).__name__, items)
    inside = ", ".join(_source(item) for item in value)
    return f"({inside},)" if len(value) == 1 else f"({inside})"
