"""The overview of a run as sections of rows, laid out for any width: one page for the deck and the shell.

Nothing here is sanitised: whoever shows it does that. Pure functions of an `Overview`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.runs.overview import MachineFacts, Overview, Planned, Progress, Setting
from engine.runs.record import DataFile, DataPart, DataRecord
from engine.runs.timeline import Moment, ToldWarning
from engine.text import columns_of, format_bytes, format_count, format_duration, sanitize, wrap

MOST_MOMENTS = 1000
"""Moments that a page has; of more the newest."""
NARROW_LABEL, WIDE_LABEL, WIDE = 24, 34, 90
"""Columns of labels, and from which width on they have more."""
_SHORT_S = 0.05
"""A shorter time is not worth a word."""
Piece = tuple[str, str]
"""Text and its part: `label`, `text`, `note`, or a mark of its row."""


@dataclass(frozen=True, slots=True)
class Row:
    """A label, what it says, and a note such as who chose it. `mark`: `warning` or `error` where it needs a look."""

    label: str
    text: str
    note: str = ""
    mark: str = ""
    path: str = ""
    """The file that the row is about."""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a title."""

    name: str
    title: str
    rows: tuple[Row, ...]


def sections(found: Overview) -> tuple[Section, ...]:
    """The page: what needs a look first, what was asked, what happened, and at the end what nobody chose."""
    by_source = _by_source(found.settings)
    parts = (
        Section("run", "run", tuple(_run_rows(found))),
        Section("warnings", f"warnings ({_times(found.warnings)})", tuple(map(_warning_row, found.warnings))),
        Section("planned", f"said of the profile ({len(found.planned)})", tuple(map(_planned_row, found.planned))),
        _settings("chosen", "settings of your own", by_source["chosen"]),
        Section("data", "data", tuple(_data_rows(found.data))),
        Section("machine", "machine when it was planned", tuple(_machine_rows(found.machine))),
        Section("versions", "versions", tuple(_version_rows(found))),
        Section("timeline", "timeline", tuple(_moment_rows(found.moments))),
        Section("files", "files", tuple(_file_rows(found))),
        _settings("auto", "settings chosen for this machine and model", by_source["auto"]),
        _settings("default", "settings left as they are by default", by_source["default"]),
    )
    return tuple(part for part in parts if part.rows)


def filtered(parts: Sequence[Section], words: str) -> tuple[Section, ...]:
    """Only the rows that have all of `words`, with their titles."""
    wanted = words.casefold().split()
    kept = (replace(part, rows=tuple(row for row in part.rows if _has(part, row, wanted))) for part in parts)
    return tuple(part for part in kept if part.rows)


def _has(part: Section, row: Row, wanted: Sequence[str]) -> bool:
    whole = f"{part.title} {row.label} {row.text} {row.note}".casefold()
    return all(word in whole for word in wanted)


def laid_out(part: Section, width: int) -> list[list[Piece]]:
    """The rows in lines of at most `width` columns: labels in a column, all else whole and wrapped beside them."""
    most = WIDE_LABEL if width >= WIDE else NARROW_LABEL
    column = min(most, width // 3, max((columns_of(row.label) for row in part.rows), default=0)) + 2
    return [line for row in part.rows for line in _row_lines(row, column, width)]


def _row_lines(row: Row, column: int, width: int) -> list[list[Piece]]:
    room = max(16, width - column)
    texts = wrap(row.text, width=room) if row.text else [""]
    lines: list[list[Piece]] = [[(text, row.mark or "text")] for text in texts]
    if row.note:
        lines = [*lines[:-1], *_noted(lines[-1], row.note, room)]
    head: list[list[Piece]] = []
    label = row.label
    if columns_of(label) > column - 2:
        head, label = [[(piece, "label")] for piece in wrap(label, width=width)], ""
    indent = label + " " * (column - columns_of(label))
    return head + [[(indent if at == 0 else " " * column, "label"), *line] for at, line in enumerate(lines)]


def _noted(line: list[Piece], note: str, room: int) -> list[list[Piece]]:
    """The note behind the text where it has room, else under it."""
    used = columns_of(line[0][0])
    if used + 2 + columns_of(note) <= room:
        return [[*line, ("  " if used else "", "note"), (note, "note")]]
    return [line, *([(text, "note")] for text in wrap(note, first="  ", rest="  ", width=room))]


# Settings


def _by_source(settings: Sequence[Setting]) -> dict[str, list[Setting]]:
    found: dict[str, list[Setting]] = {"chosen": [], "auto": [], "default": []}
    kinds = {"override": "chosen", "profile": "chosen", "auto": "auto"}
    for one in settings:
        found[kinds.get(one.origin.source, "default")].append(one)
    return found


def _settings(name: str, title: str, settings: Sequence[Setting]) -> Section:
    return Section(name, f"{title} ({len(settings)})", tuple(map(_setting_row, settings)))


def _setting_row(one: Setting) -> Row:
    source, reason = one.origin.source, one.origin.reason
    who = {"override": "edited: --set, a sweep or a remedy", "profile": "profile", "auto": "auto"}.get(source, "")
    return Row(one.key, value_text(one.origin.value), ": ".join(word for word in (who, reason) if word))


def value_text(value: Any) -> str:
    """A setting's value on one line."""
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# The run


def _run_rows(found: Overview) -> Iterator[Row]:
    yield Row("state", found.state, mark="error" if found.state in ("failed", "lost") else "")
    if found.problem:
        yield Row("settings", found.problem, mark="error")
    texts = (("model", found.model), ("profile", found.profile), ("sweep", found.trial), ("folder", str(found.path)))
    yield from (Row(label, text) for label, text in texts if text)
    if found.begins:
        yield Row("begins with", found.begins)
    for key, was, now in found.differences:
        yield Row("differs", f"{key}: {value_text(was)} → {value_text(now)}", "from that run")
    if found.notes.tags:
        yield Row("tags", " ".join(found.notes.tags))
    if found.notes.note:
        yield Row("note", found.notes.note)
    yield from _progress_rows(found.progress)


def _progress_rows(at: Progress) -> Iterator[Row]:
    if at.step is not None and at.steps_total:
        took = f"in {format_duration(at.seconds)}" if at.seconds is not None else ""
        yield Row("steps", f"{at.step:,} of {at.steps_total:,}", took)
    if at.loss is not None:
        yield Row("loss", f"{at.loss:.4f}", "of the newest step")
    if at.best_eval_loss is not None:
        where = f"at step {at.best_step:,}" if at.best_step is not None else ""
        yield Row("best evaluation", f"{at.best_eval_loss:.4f}", where)
    if at.tokens:
        yield Row("tokens", f"{at.tokens:,}", "seen in training")
    if at.predicted_bytes and at.measured_bytes:
        share = at.measured_bytes / at.predicted_bytes - 1
        off = f"{abs(share):.1%} {'more' if share > 0 else 'less'} than predicted".replace("%", " %")
        measured, predicted = format_bytes(at.measured_bytes), format_bytes(at.predicted_bytes)
        yield Row("memory", f"measured {measured}, predicted {predicted}", off)
    elif at.predicted_bytes:
        yield Row("memory", f"predicted {format_bytes(at.predicted_bytes)}", "not measured yet")


def _times(warnings: Sequence[ToldWarning]) -> int:
    return sum(one.times for one in warnings)


def _warning_row(one: ToldWarning) -> Row:
    where = [clock(one.at_s)] + ([f"step {one.step:,}"] if one.step else [])
    where += [f"told {one.times} times"] if one.times > 1 else []
    return Row(one.code or "warning", one.message, ", ".join(where), "warning")


def _planned_row(one: Planned) -> Row:
    return Row("profile", one.message, one.hint, "warning")


# Data, machine, versions


def _data_rows(data: DataRecord) -> Iterator[Row]:
    for file in data.files:
        yield from _file_of_rows(file)
    if data.duplicates:
        yield Row("duplicates", f"{data.duplicates:,} rows", "found twice")
    if data.train:
        yield Row("trained on", _part(data.train))
    if data.validation and data.validation.rows:
        source = data.validation_source
        yield Row("held out", _part(data.validation), f"from {source}" if source else "")
    elif data.train:
        yield Row("held out", "no rows", "the run is not evaluated while it trains")
    if data.template:
        yield Row("template", data.template)


def _file_of_rows(file: DataFile) -> Iterator[Row]:
    counts = ((file.rows_read, "rows read"), (file.kept, "kept"), (file.cut, "cut"))
    dropped = sum(rows for rows, _ in file.dropped)
    told = [f"{count:,} {word}" for count, word in counts if count is not None]
    yield Row("file", file.path, file.format)
    yield Row("", ", ".join([*told, f"{dropped:,} dropped"]))
    yield from (Row("dropped", f"{rows:,}: {cause}", mark="warning") for rows, cause in file.dropped)


def _part(part: DataPart) -> str:
    words = [f"{part.rows:,} rows"] if part.rows is not None else []
    words += [f"{format_count(part.tokens)} tokens"] if part.tokens is not None else []
    words += [f"{format_count(part.trained_tokens)} of them trained"] if part.trained_tokens is not None else []
    words += [f"{part.sequences:,} sequences"] if part.sequences is not None else []
    return ", ".join(words)


def _machine_rows(machine: MachineFacts) -> Iterator[Row]:
    if machine == MachineFacts():
        return
    if machine.host:
        yield Row("host", machine.host)
    if machine.card:
        yield Row("card", machine.card, _free(machine.card_free_bytes, machine.card_total_bytes))
    driver = [machine.driver] + ([f"CUDA {machine.cuda_driver}"] if machine.cuda_driver else [])
    if machine.driver:
        yield Row("driver", ", ".join(driver))
    cores = f"{machine.physical_cores} cores" if machine.physical_cores else ""
    yield Row("processor", machine.processor or "not known", cores)
    if machine.ram_total_bytes:
        yield Row("RAM", _free(machine.ram_available_bytes, machine.ram_total_bytes))
    if machine.disk_free_bytes is not None:
        yield Row("disk", f"{format_bytes(machine.disk_free_bytes)} free")


def _free(free: int | None, total: int | None) -> str:
    if free is None:
        return "" if total is None else f"{format_bytes(total)} in all"
    return f"{format_bytes(free)} free" + (f" of {format_bytes(total)}" if total else "")


def _version_rows(found: Overview) -> Iterator[Row]:
    for name, version in (found.versions or {}).items():
        yield Row(str(name), str(version) if version is not None else "not installed")


# Timeline and files


def clock(at_s: float) -> str:
    """Local time of day."""
    return time.strftime("%H:%M:%S", _local(at_s))


def _local(at_s: float) -> time.struct_time:
    try:
        return time.localtime(at_s)
    except (OverflowError, ValueError, OSError):
        return time.localtime(0)


def _moment_rows(moments: Sequence[Moment]) -> Iterator[Row]:
    left_out = len(moments) - MOST_MOMENTS
    if left_out > 0:
        yield Row("", f"{left_out:,} earlier moments are in events.jsonl")
    day = ""
    for one in moments[-MOST_MOMENTS:]:
        today = time.strftime("%Y-%m-%d", _local(one.at_s))
        if today != day:
            day = today
            yield Row(day, "")
        took = f"took {format_duration(one.took_s)}" if one.took_s and one.took_s >= _SHORT_S else ""
        yield Row(clock(one.at_s), one.text, took, "error" if one.kind == "error" else "")


def _file_rows(found: Overview) -> Iterator[Row]:
    for one in found.files:
        name = str(one.path.relative_to(found.path))
        yield Row(name, format_bytes(one.bytes), one.what, path=str(one.path))


def page_lines(found: Overview, width: int) -> list[str]:
    """The whole page as plain, safe lines."""
    lines: list[str] = []
    for part in sections(found):
        lines += ["", part.title]
        lines += ["  " + "".join(text for text, _ in pieces).rstrip() for pieces in laid_out(part, width - 2)]
    return [sanitize(text, single_line=True) for text in lines[1:]]
