"""Counts of a preparation: rows kept, cut and dropped, with causes, and the report made from them.

Raises EngineError(DATA) when too little is left to train on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.data.chat import ChatTemplate
from engine.data.encode import Document
from engine.data.examples import BadRow, Example, Examples, RowProblem
from engine.data.files import data_error
from engine.data.layouts import Layout
from engine.data.layouts import told as formats_told
from engine.data.pack import fit_document, split_document
from engine.data.report import DatasetReport, Ledger, SetReport
from engine.data.unread import Place, added, told, warnings_of
from engine.data.written import ALREADY, MARKS_INSIDE
from engine.errors import EngineError, ExitCode, Problem
from engine.profile.schema import Profile
from engine.profile.tables.data import Data

VALIDATION = -1
"""Dataset number of the validation file."""
SHOWN_BAD_ROWS = 5
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(slots=True)
class Source:
    """Counts of one data set. `path`: its first file."""

    path: Path
    format: str
    why: str
    files: set[Path] = field(default_factory=set)
    rows_read: int = 0
    usable: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    unread: Counter[Place] = field(default_factory=Counter)
    layouts: Counter[Layout] = field(default_factory=Counter)
    ledger: Ledger = field(default_factory=Ledger)
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: list[tuple[Path, BadRow]] = field(default_factory=list)
    given_documents: int = 0
    """Before weights, where there are any."""
    taken_documents: int = 0
    taken_tokens: int = 0


@dataclass(slots=True)
class Tally:
    """Packed rows and documents of one side."""

    rows: int = 0
    documents: int = 0


@dataclass(slots=True)
class Account:
    """Counts that grow while files become sequences."""

    settings: Profile
    sources: dict[int, Source] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    tallies: tuple[Tally, Tally] = field(default_factory=lambda: (Tally(), Tally()))
    held_out: int = 0
    shared: int = 0
    duplicates: int = 0
    strange: int = 0

    @property
    def ledgers(self) -> dict[int, Ledger]:
        """Of each data set."""
        return {number: source.ledger for number, source in self.sources.items()}


def take(account: Account, number: int, part: Examples) -> None:
    """Count what was read from a data set."""
    source = account.sources.setdefault(number, Source(part.path, part.format, part.why))
    source.files.add(part.path)
    source.rows_read += part.rows_read
    source.usable += len(part.examples)
    source.notes.update(part.notes)
    added(source.unread, part.unread)
    source.layouts.update(part.layouts)
    for bad in part.bad:
        _take_bad(source, part.path, bad)
    account.strange += sum(
        any(_CONTROL.search(text) for message in example.messages for text in message.texts)
        for example in part.examples
    )


def _take_bad(source: Source, path: Path, bad: BadRow) -> None:
    source.ledger.drop(bad.row, bad.cause, bad.detail)
    source.bad[bad.cause] += 1
    if len(source.first_bad) < SHOWN_BAD_ROWS:
        source.first_bad.append((path, bad))


def refuse(account: Account, refused: Sequence[tuple[int, RowProblem]], examples: Sequence[Example]) -> None:
    """Count what the template refused as bad rows."""
    for position, problem in refused:
        example = examples[position]
        source = account.sources[example.dataset]
        _take_bad(source, source.path, BadRow(example.row, problem.cause, problem.detail))


def check_bad_fraction(sources: Sequence[Source], max_bad_fraction: float) -> None:
    """EngineError(DATA) with the first bad rows and the totals when too many rows are unusable."""
    total, causes = sum(source.rows_read for source in sources), Counter[str]()
    for source in sources:
        causes.update(source.bad)
    bad = causes.total()
    if bad == 0 or (bad <= max_bad_fraction * total and any(source.usable for source in sources)):
        return
    counted = ", ".join(f"{count} x {cause}" for cause, count in causes.most_common())
    message = f"{bad} of {total} rows cannot be used ({bad / total:.1%}; allowed: {max_bad_fraction:.1%}): {counted}"
    hint = "correct these rows, or raise data.max_bad_fraction to train without them"
    first = next(iter(causes), "")
    if first in (ALREADY, MARKS_INSIDE):
        hint = 'say what the marks are with data.marks = "tokens" or "text", or give plain turns'
    elif "template" in first:
        hint = "choose another data.template (hermes writes tools and calls), or leave out what this one cannot hold"
    shown = [found for source in sources for found in source.first_bad][:SHOWN_BAD_ROWS]
    problems = tuple(Problem(str(row), where=row.where(path), line=row.line) for path, row in shown)
    remedy = Problem(hint, key="data.max_bad_fraction")
    raise EngineError(message, code=ExitCode.DATA, hint=hint, where=str(shown[0][0]), problems=(*problems, remedy))


def fit(
    account: Account, documents: Sequence[Document], examples: Sequence[Example], together: int = 1
) -> list[Document]:
    """Documents within max_length; rows are counted as kept, cut or dropped.

    Each `together` documents in a row share a sequence: they fit together, or all of them go.
    """
    limit, overlong = int(account.settings.model.max_length), _overlong(account.settings)
    side = account.settings.model.truncation_side
    lengths = [len(document.ids) for document in documents]
    account.lengths.update(lengths)
    kept: list[Document] = []
    cut, lost = set(), {}
    for document, room in zip(documents, _rooms(lengths, limit, together), strict=True):
        if overlong == "split" and len(document.ids) > limit and examples[document.example].kind == "text":
            kept += split_document(document, limit)
            continue
        fitted = fit_document(document, room, overlong, side)
        if isinstance(fitted, str):
            lost[document.example] = fitted
            continue
        kept.append(fitted)
        if len(fitted.ids) < len(document.ids):
            cut.add(document.example)
    counts = Counter(document.example for document in kept)
    kept = [document for document in kept if together == 1 or counts[document.example] == together]
    whole = {document.example for document in kept}
    for row in whole:
        account.sources[examples[row].dataset].ledger.kept += 1
    for row in cut & whole:
        account.sources[examples[row].dataset].ledger.cut += 1
    for row, cause in lost.items():
        if row not in whole:
            account.sources[examples[row].dataset].ledger.drop(examples[row].row, cause)
        else:
            account.notes["rows lost some of their answers to max_length"] += 1
    return kept


def _rooms(lengths: Sequence[int], limit: int, together: int) -> list[int]:
    """Tokens of each document: `limit`, or a share of it for each of two neighbors, the shorter one first."""
    if together == 1:
        return [limit] * len(lengths)
    rooms = []
    for first, second in zip(lengths[::2], lengths[1::2], strict=True):
        shorter = min(first, second, limit // 2)
        rooms += [limit - shorter if length > shorter else shorter for length in (first, second)]
        if first == second or min(first, second) > limit // 2:
            rooms[-2:] = [limit // 2, limit // 2]
    return rooms


def _overlong(settings: Profile) -> str:
    """In pre-training a long text goes on in the next sequence, unless the profile drops it."""
    return "split" if splits_long(settings) else settings.data.overlong


def splits_long(settings: Profile) -> bool:
    """Whether a plain text that is too long goes on in the next sequence."""
    return settings.train.objective == "pretrain" and settings.data.overlong == "cut"


def check_result(account: Account, template: ChatTemplate) -> None:
    """Refuse an empty training set; add warnings."""
    limit = int(account.settings.model.max_length)
    if not account.tallies[0].documents:
        longest = max(account.lengths, default=0)
        causes = ", ".join(
            f"{item.rows} x {item.cause}" for ledger in account.ledgers.values() for item in ledger.dropped()
        )
        hint = f"raise model.max_length (the longest example has {longest} tokens)" if longest > limit else ""
        where = str(next(iter(account.sources.values())).path)
        raise data_error(f"no row is left to train on: {causes or 'the files hold none'}", where=where, hint=hint)
    account.warnings += _unread(account)
    for source in account.sources.values():
        account.warnings += warnings_of(source.path.name, told(source.unread))
    dropped = sum(item.rows for ledger in account.ledgers.values() for item in ledger.dropped())
    cut = sum(ledger.cut for ledger in account.ledgers.values())
    if dropped:
        account.warnings.append(f"{dropped} rows are left out; see the causes in the report")
    if cut:
        account.warnings.append(
            f"{cut} rows are cut to max_length = {limit} tokens and lose {_lost_part(account.settings)}"
        )
    account.warnings += _about_validation(account)
    account.warnings += [f"{count} {note} (template {template.name})" for note, count in account.notes.items() if count]
    if account.strange:
        account.warnings.append(
            f"{account.strange} rows hold control or text-direction characters; they are kept as they are"
        )


def _unread(account: Account) -> list[str]:
    data = account.settings.data
    if len(account.sources) - (VALIDATION in account.sources) == len(data.datasets):
        return []
    return [f"data.max_samples = {data.max_samples} was reached before the last file: not all were read"]


def _about_validation(account: Account) -> list[str]:
    data, packed = account.settings.data, account.tallies[1].documents
    if account.held_out and not packed:
        return [f"none of the {account.held_out} held-out rows fits max_length: nothing is evaluated"]
    if account.shared:
        return [
            f"{account.shared} of {account.held_out} validation rows are also trained on: their scores prove nothing"
        ]
    if data.validation_path is None and data.holds_out and not account.held_out:
        return ["no rows are held out: the data holds fewer than two different examples"]
    wanted = data.validation_rows if data.validation_path is None else None
    if wanted is not None and account.held_out < wanted:
        return [f"data.validation_rows = {wanted:,} are more than the data holds: {account.held_out:,} are held out"]
    return []


def held_out_source(data: Data) -> str:
    """Where held-out rows come from, in words; '' where none are held out."""
    if data.validation_path is not None:
        return data.validation_path
    if data.validation_rows is not None:
        return f"{data.validation_rows:,} rows"
    return f"{data.validation_fraction:g} of the rows" if data.validation_fraction > 0 else ""


def _lost_part(settings: Profile) -> str:
    return "the end of their answers" if settings.model.truncation_side == "right" else "the beginning of their prompts"


def dataset_report(source: Source, share: str) -> DatasetReport:
    """What became of one data set; `share` where weights were given."""
    notes = [f"{note}: {count} rows" for note, count in source.notes.items()]
    if len(source.files) > 1:
        notes.insert(0, f"{len(source.files):,} files, this one first; row numbers count within each file")
    ledger, path = source.ledger, str(source.path)
    all_notes = (*notes, *([share] if share else []))
    return DatasetReport(
        path,
        *(formats_told(source.layouts) if source.layouts else (source.format, source.why)),
        source.rows_read,
        ledger.kept,
        ledger.cut,
        ledger.dropped(),
        all_notes,
        told(source.unread),
    )


def set_report(tally: Tally, sequences: int, tokens: int, trained_tokens: int, max_length: int) -> SetReport:
    """What was packed of one side."""
    efficiency = round(tokens / (sequences * max_length), 4) if sequences else 0.0
    return SetReport(tally.rows, tally.documents, sequences, tokens, trained_tokens, efficiency)
