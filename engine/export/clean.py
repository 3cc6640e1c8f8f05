"""What may leave this machine: text without secrets and paths, names that mean something elsewhere.

Every file that `export` writes passes through here. Not here: terminal safety (`engine.text`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from engine.files import write_json_atomic
from engine.text import hide_secrets, sanitize

_PATH = re.compile(
    r"(?<![\w.:/])(?:~(?:/[\w.+@~-]+)+|(?:file:(?://)?)?(?:/[\w.+@~-]+){2,})/?|(?<!\w)[A-Za-z]:\\[^\s\"']+"
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~&$])")
DEMO_NAME = "tunedeck-demo"
"""What the built-in model is called outside."""
_LOADING_KEYS = ("local_files_only", "is_local")
"""How a tokenizer was loaded here; transformers writes it into what it saves."""
_PATH_KEYS = ("_name_or_path", "name_or_path", "vocab_file", "tokenizer_file", "merges_file", "special_tokens_map_file")


def redact(text: str) -> str:
    """`text` without tokens, passwords and absolute paths."""
    return _PATH.sub("[path]", hide_secrets(text))


def plain(value: Any, max_chars: int = 200) -> str:
    """A value as markdown text: redacted, one line, every mark escaped."""
    shown = sanitize(redact(str(value)), max_chars=max_chars, single_line=True)
    return _MARKDOWN.sub(r"\\\1", shown)


def cell(value: Any) -> str:
    """A value for a table cell, in code type where it can be."""
    shown = sanitize(redact(str(value)), max_chars=120, single_line=True)
    return plain(shown) if "`" in shown or "|" in shown or not shown.strip() else f"`{shown}`"


def base_name(reference: str, base_dir: Path) -> tuple[str, bool]:
    """How the base model is called outside this machine, and whether that is a hub id.

    A directory or file gives its own name; only a hub id can be found by others.
    """
    local = Path(reference).expanduser()
    local = local if local.is_absolute() else base_dir / local
    if reference == "demo":
        return DEMO_NAME, False
    is_local = local.exists() or reference.startswith((".", "/", "~")) or reference.endswith(".gguf")
    if not is_local and _HUB_ID.fullmatch(reference) and ".." not in reference:
        return reference, True
    name = redact(sanitize(local.name, max_chars=96, single_line=True))
    return name or "base-model", False


def file_name(text: str) -> str:
    """A plain part of a path: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", redact(text)).strip(".-_")[:64] or "model"


def scrub_json(folder: Path) -> None:
    """Take paths of this machine out of the JSON files that libraries wrote under `folder`."""
    for path in folder.rglob("*.json"):
        if path.name in ("tokenizer.json", "vocab.json") or path.name.endswith(".index.json"):
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and (kept := _without_paths(content)) != content:
            write_json_atomic(path, kept, mode=0o644)


def _without_paths(content: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_paths(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if key not in _LOADING_KEYS and not (key in _PATH_KEYS and isinstance(value, str) and _PATH.search(value))
    }
