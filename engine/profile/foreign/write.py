"""A draft as the text of a profile: every line names its origin, and what was lost stands on top."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT, Table

from engine.profile.fields import canonical, profile_fields
from engine.profile.foreign.draft import MAX_LISTED_CHARS, Draft
from engine.text import sanitize

_PATHS = ("model.name_or_path", "data.validation_path", "data.template", "tuning.adapter")


def profile_text(draft: Draft, sources: list[Path], target: Path) -> str:
    """Commented TOML; paths of data become relative to the folder of `target` where that is shorter."""
    document = tomlkit.document()
    for text in _heading(draft, sources):
        document.add(tomlkit.comment(text))
    order = {field.key: number for number, field in enumerate(profile_fields())}
    for key in sorted(draft.settings, key=lambda key: ("." in key, order.get(canonical(key), 0))):
        _add(document, key, draft, target)
    if "data.datasets" in draft.settings:
        data = document.setdefault("data", tomlkit.table())
        data["datasets"] = _datasets(draft.settings["data.datasets"], target)
    return tomlkit.dumps(document)


def _heading(draft: Draft, sources: list[Path]) -> list[str]:
    names = ", ".join(sanitize(source.name, max_chars=80, single_line=True) for source in sources)
    lines = [f"Read from {draft.tool}'s {names}. Behind each line: the key it comes from."]
    for kind, title in (("left out", "Not carried over:"), ("changed", "Not quite the same:")):
        found = [note for note in draft.notes if note.kind == kind]
        lines += [title] * bool(found)
        lines += [line for note in found for line in _wrapped(str(note))]
    return lines


def _wrapped(text: str) -> list[str]:
    """A note over as many lines as it takes: a setting that is not carried over is named whole."""
    whole = sanitize(text, max_chars=MAX_LISTED_CHARS + 400, single_line=True)
    return textwrap.wrap(whole, 108, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False) or ["  "]


def _add(document: Any, key: str, draft: Draft, target: Path) -> None:
    if key == "data.datasets":
        return
    value = draft.settings[key]
    table, _, name = key.rpartition(".")
    holder = document
    if table:
        if table not in document:
            document[table] = tomlkit.table()
        holder = document[table]
    if key == "evaluate.sets":
        value = {name: _relative(path, target) for name, path in value.items()}
    item = tomlkit.item(_relative(value, target) if key in _PATHS else value)
    holder.add(name, item)
    item.comment(sanitize(draft.origins[key], max_chars=100, single_line=True))


def _datasets(entries: list[dict[str, Any]], target: Path) -> AoT:
    blocks = tomlkit.aot()
    for entry in entries:
        block: Table = tomlkit.table()
        for name, value in entry.items():
            block.add(name, _relative(value, target) if name == "path" else value)
        blocks.append(block)
    return blocks


def _relative(path: str, target: Path) -> str:
    if not os.path.isabs(path):
        return path
    relative = os.path.relpath(path, target.absolute().parent)
    return relative if relative.count("..") <= 3 else path
