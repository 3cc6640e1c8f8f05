"""What a person says of a run: tags and one note, in `notes.json` of its directory.

The worker neither reads nor writes it, so it can be changed while the run trains. A file that is torn or foreign counts
as empty and says so in `problem`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.files import write_json_atomic
from engine.jsonvalues import Unreadable, load_object, text_in
from engine.text import sanitize

NOTES_FILE = "notes.json"
NOTES_VERSION = 1
MOST_TAGS, MOST_NOTE_CHARS = 32, 2000
_TAG = re.compile(r"[\w.][\w.+=@-]{0,39}")


@dataclass(frozen=True, slots=True)
class RunNotes:
    """Tags in their order, and the note."""

    tags: tuple[str, ...] = ()
    note: str = ""
    problem: str = ""
    """Why the file cannot be used; empty when it can, or when there is none."""


def load_notes(run_dir: Path) -> RunNotes:
    """The tags and the note of a run; empty where there are none."""
    found = load_object(
        run_dir / NOTES_FILE, name=NOTES_FILE, version_key="v", newest=NOTES_VERSION, hint="tag the run again"
    )
    if isinstance(found, Unreadable):
        return RunNotes() if found.missing else RunNotes(problem=str(found))
    listed = found.get("tags")
    tags = (tag for tag in listed if isinstance(tag, str)) if isinstance(listed, list) else ()
    kept = dict.fromkeys(tag for tag in tags if _TAG.fullmatch(tag))
    return RunNotes(tuple(kept)[:MOST_TAGS], sanitize(text_in(found, "note"), max_chars=MOST_NOTE_CHARS))


def write_notes(run_dir: Path, notes: RunNotes) -> None:
    """Keep tags and note. Raises EngineError(DISK) where they cannot be written."""
    try:
        write_json_atomic(run_dir / NOTES_FILE, {"v": NOTES_VERSION, "tags": list(notes.tags), "note": notes.note})
    except OSError as error:
        raise EngineError(
            f"the note cannot be kept: {error.strerror}",
            code=ExitCode.DISK,
            where=str(run_dir),
            hint="see whether the folder is there and may be written",
        ) from error


def tagged(notes: RunNotes, changes: Iterable[str]) -> RunNotes:
    """Notes with `+a` or `a` added and `-b` taken away. Raises EngineError(PROFILE) for what is no tag."""
    tags = dict.fromkeys(notes.tags)
    for change in changes:
        name = checked_tag(change.lstrip("+-") if change[:1] in "+-" else change)
        if change.startswith("-"):
            tags.pop(name, None)
        else:
            tags[name] = None
    if len(tags) > MOST_TAGS:
        raise EngineError(f"{len(tags)} tags are too many", code=ExitCode.PROFILE, hint=f"keep {MOST_TAGS} or fewer")
    return replace(notes, tags=tuple(tags))


def checked_tag(text: str) -> str:
    """A tag as it is kept. Raises EngineError(PROFILE)."""
    if not _TAG.fullmatch(text):
        shown = sanitize(text, max_chars=60, single_line=True)
        raise EngineError(
            f"'{shown}' is no tag",
            code=ExitCode.PROFILE,
            hint="a tag is one word of at most 40 letters, digits and . _ - + = @",
        )
    return text


def noted(notes: RunNotes, text: str) -> RunNotes:
    """Notes with another note, as one line; an empty one takes it away."""
    one_line = sanitize(" ".join(text.split()), max_chars=MOST_NOTE_CHARS, single_line=True)
    return replace(notes, note=one_line)


def change_tags(run_dir: Path, changes: Iterable[str]) -> RunNotes:
    """Change the tags of a run and keep them. Raises EngineError."""
    return _change(run_dir, lambda notes: tagged(notes, changes))


def change_note(run_dir: Path, text: str) -> RunNotes:
    """Change the note of a run and keep it. Raises EngineError."""
    return _change(run_dir, lambda notes: noted(notes, text))


def _change(run_dir: Path, change: Callable[[RunNotes], RunNotes]) -> RunNotes:
    """Notes after a change. A file that cannot be read stays beside the new one, as `notes.json.damaged`."""
    before = load_notes(run_dir)
    after = replace(change(before), problem="")
    if before.problem:
        with contextlib.suppress(OSError):
            os.replace(run_dir / NOTES_FILE, run_dir / f"{NOTES_FILE}.damaged")
    write_notes(run_dir, after)
    return after
