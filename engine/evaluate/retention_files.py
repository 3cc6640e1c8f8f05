"""The user's own texts for `evaluate.retention_path`: plain text in passages, or rows of any data format.

A file, or every text and data file of a folder. Not here: what is done with them
(`retention.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from engine.data.files import KINDS, data_error, open_data
from engine.data.formats import read_parts
from engine.evaluate.retention import Kept, built_in, passage
from engine.inference.rows import HeldOut, choose
from engine.profile.schema import Profile
from engine.profile.tables.data import Dataset
from engine.runs.job import Warn

TEXT_SUFFIXES = (".txt", ".md")
MOST_PASSAGES = 200
"""Enough for a narrow interval, few beside the answers that are generated."""
MAX_TEXT_BYTES = 64 * 1024 * 1024
_SHORTEST, _LONGEST = 400, 2000
"""Characters: paragraphs are joined up to the first, and a passage is cut at the second."""
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")


def read_kept(settings: Profile, base_dir: Path, warn: Warn) -> Kept | None:
    """What to measure retention on; None where it was not asked for. Raises EngineError(DATA) for unusable files."""
    wanted = settings.evaluate
    if "retention" not in wanted.metrics:
        return None
    if wanted.retention_path is None:
        return built_in()
    path = base_dir / Path(wanted.retention_path).expanduser()
    found = [(row, file.name) for file in _files(path) for row in _rows(file, warn)]
    if not found:
        raise data_error(
            "no text there", where=str(path), hint="put text into it, or leave evaluate.retention_path out"
        )
    chosen = choose(found, MOST_PASSAGES)
    rows, groups = [row for row, _ in chosen], [name for _, name in chosen]
    return Kept(path.name, rows, groups, len(found), vouched=True)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    known = {*TEXT_SUFFIXES, *KINDS}
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in known)
    if not found:
        raise data_error(
            "no text or data files there", where=str(path), hint=f"known: {', '.join([*TEXT_SUFFIXES, *KINDS])}"
        )
    return found


def _rows(file: Path, warn: Warn) -> Iterator[HeldOut]:
    if file.suffix.lower() in TEXT_SUFFIXES:
        yield from (passage(text, number) for number, text in enumerate(passages(_text(file)), 1))
        return
    bad = 0
    for part in read_parts(Dataset(path=str(file.absolute())), file.parent):
        bad += len(part.bad)
        yield from map(HeldOut, part.examples)
    if bad:
        warn("retention_rows", f"{bad} rows of {file.name} cannot be used for retention")


def _text(file: Path) -> str:
    with open_data(file) as stream:
        data = stream.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise data_error("the text is larger than 64 MiB", where=str(file), hint="give a part of it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise data_error(
            f"not UTF-8 at byte {error.start + 1}", where=str(file), hint=f"convert it: iconv -t UTF-8 {file.name}"
        ) from error


def passages(text: str) -> list[str]:
    """`text` at its empty lines, short paragraphs joined, long ones cut."""
    found: list[str] = []
    for paragraph in _PARAGRAPHS.split(text.replace("\r\n", "\n")):
        clean = paragraph.strip()
        if found and clean and len(found[-1]) < _SHORTEST:
            found[-1] += "\n\n" + clean
        elif clean:
            found.append(clean)
    return [one[start : start + _LONGEST] for one in found for start in range(0, len(one), _LONGEST)]
