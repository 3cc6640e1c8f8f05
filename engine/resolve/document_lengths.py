"""How short the documents of a profile's data are, as far as an earlier preparation of the same files counted them.

Attention pads each document, so that rows of very short ones take more memory (`engine.memory.device`). Preparing data
notes their lengths under what they come from, and the next plan of the same data counts with them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from engine.errors import EngineError
from engine.files import read_json, write_json_atomic
from engine.profile.data_files import data_path
from engine.profile.schema import Profile

_MOST = 200
"""Preparations that are remembered, the newest ones."""
_LONGEST_TOKENS = 1 << 24


def remember(settings: Profile, base_dir: Path, tokens: int) -> None:
    """Note that the documents of these files have `tokens` tokens on average in the row that has most of them."""
    path = _file()
    known = _known(path)
    key = _key(settings, base_dir)
    if known.get(key) == tokens:
        return
    known.pop(key, None)
    known[key] = tokens
    kept = dict(list(known.items())[-_MOST:])
    # A cache: where it cannot be written, the next plan counts with what is usual.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json_atomic(path, kept)


def remembered(settings: Profile, base_dir: Path) -> int | None:
    """What `remember` noted of these files as they are now; None where nothing is known."""
    known = _known(_file())
    return known.get(_key(settings, base_dir)) if known else None


def _file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "tunedeck" / "document-lengths.json"


def _known(path: Path) -> dict[str, int]:
    """What the file holds and can be; nothing where it cannot be read."""
    try:
        found = read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return {key: value for key, value in found.items() if type(value) is int and 0 < value <= _LONGEST_TOKENS}


def _key(settings: Profile, base_dir: Path) -> str:
    """Of what decides a document's length: files with size and time, their layout, the model and its template."""
    data = settings.data.model_dump(mode="json")
    stamps = [found for dataset in settings.data.datasets for found in _stamps(dataset.path, base_dir)]
    parts = [settings.model.name_or_path, settings.train.objective, data, stamps]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _stamps(path: str, base_dir: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of each file; nothing of what is on the hub or cannot be read."""
    with suppress(OSError, ValueError, EngineError):
        place = data_path(path, base_dir)
        entries = sorted(os.scandir(place), key=lambda entry: entry.name) if place.is_dir() else [place]
        for entry in entries:
            facts = entry.stat()
            yield str(place), facts.st_size, facts.st_mtime_ns
