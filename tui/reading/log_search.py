"""Finding words in a run's whole log, however long: lines of text from its event file. Run in a thread.

Steps, memory samples and progress say nothing in a log and are skipped unread; of warnings, of which there may be
a million, only those that hold the words are parsed.
"""

from __future__ import annotations

import json
import mmap
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from engine.api.runs import describe, parse_event
from tui.reading.snapshot import LogLine
from tui.text import safe

KEPT = 2000
_SILENT = (b'"type":"train_step"', b'"type":"memory"', b'"type":"progress"')
_AS_TOLD = (b'"type":"warning"', b'"type":"error"')
"""Events whose line in the log is their message behind the word for their type."""


@dataclass(frozen=True, slots=True)
class Found:
    """The last matching lines, and how many there are in all."""

    words: str
    lines: tuple[LogLine, ...]
    total: int


def matches(text: str, words: str) -> bool:
    """Whether a line holds every word."""
    lower = text.lower()
    return all(word in lower for word in words.lower().split())


def search_log(path: Path, words: str) -> Found:
    """Lines of the log of an event file that hold every word. Raises OSError."""
    kept: deque[LogLine] = deque(maxlen=KEPT)
    total = 0
    wanted = [json.dumps(word)[1:-1].encode().lower() for word in words.lower().split()]
    with path.open("rb") as file:
        if not path.stat().st_size:
            return Found(words, (), 0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            for raw in iter(view.readline, b""):
                if any(mark in raw[:120] for mark in _SILENT):
                    continue
                if any(mark in raw[:120] for mark in _AS_TOLD) and not _holds(raw, wanted):
                    continue
                item = _line(raw)
                if item is not None and matches(item.text, words):
                    kept.append(item)
                    total += 1
    return Found(words, tuple(kept), total)


def _holds(raw: bytes, wanted: list[bytes]) -> bool:
    lower = raw.lower() + b": "
    return all(word in lower or word in (b"warning:", b"error:") for word in wanted)


def _line(raw: bytes) -> LogLine | None:
    event = parse_event(raw)
    if event is None:
        return None
    try:
        text = describe(event)
        return LogLine(float(event.get("t") or 0.0), safe(event["type"], 20), safe(text, 1000)) if text else None
    except (ValueError, KeyError, TypeError):
        return None  # another engine's event of that type
