"""Keeping a choice in the deck's settings file, whose other lines and comments stay as a person wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.files import write_text_atomic


def remember(path: Path, table: str, values: Mapping[str, Any]) -> None:
    """Write `values` into `[table]` of the file; empty ones are taken out. Raises OSError or ValueError."""
    import tomlkit
    from tomlkit.items import Table

    real = path.resolve()  # a link to a file among somebody's dotfiles stays a link
    text = real.read_text(encoding="utf-8") if real.exists() else ""
    document = tomlkit.parse(text)
    held = document.get(table)
    if not isinstance(held, Table):
        if held is not None:
            raise ValueError(f"{table} is no table there")
        held = tomlkit.table()
        document[table] = held
    for key, value in values.items():
        if value:
            held[key] = value
        else:
            held.pop(key, None)
    if not held:
        document.remove(table)
    new = tomlkit.dumps(document)
    if new != text:
        real.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(real, new, mode=real.stat().st_mode & 0o777 if real.exists() else 0o600)
