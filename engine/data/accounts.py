"""The account of a preparation: what became of every row, and the report that is made of it.

`prepare.py` drives the work and tells it here. Raises EngineError(DATA) when too little is left.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.data.chat import ChatTemplate
from engine.data.encode import Document, Encoded
from engine.data.examples import BadRow, Example, Examples
from engine.data.files import data_error
from engine.data.formats import check_bad_fraction
from engine.data.pack import Packed, fit_document, split_document
from engine.data.report import DataReport, DatasetReport, Ledger, SetReport, summarise_lengths
from engine.data.split import count_duplicates
from engine.profile.schema import Profile

VALIDATION = -1
"""Dataset number of the validation file."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(slots=True)
class Account:
    """What gathers while files become sequences."""

    settings: Profile
    files: dict[int, Examples]
    ledgers: dict[int, Ledger]
    notes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    shares: dict[int, str] = field(default_factory=dict)
    """Of each data set, where weights were given."""


def refuse(account: Account, encoded: Encoded, examples: Sequence[Example]) -> None:
    """Count what the template refused as bad rows, and hold all bad rows against the allowed share."""
    if not encoded.refused:
        return
    extra: dict[int, list[BadRow]] = {number: [] for number in account.files}
    for position, problem in encoded.refused:
        example = examples[position]
        account.ledgers[example.dataset].drop(example.row, problem.cause, problem.detail)
        extra[example.dataset].append(BadRow(example.row, problem.cause, problem.detail))
    judged = [
        Examples(file.path, file.format, file.why, file.rows_read, file.examples, (*file.bad, *extra[number]))
        for number, file in account.files.items()
    ]
    check_bad_fraction(judged, account.settings.data.max_bad_fraction)


def fit(
    account: Account, documents: Sequence[Document], examples: Sequence[Example], together: int = 1
) -> list[Document]:
    """Documents within max_length; rows are counted as kept, cut or dropped.

    Each `together` documents in a row share a sequence: they fit together, or all of them go.
    """
    limit, overlong = int(account.settings.model.max_length), _overlong(account.settings)
    side = account.settings.model.truncation_side
    account.lengths = [len(document.ids) for document in documents]
    kept: list[Document] = []
    cut, lost = set(), {}
    for document, room in zip(documents, _rooms(account.lengths, limit, together), strict=True):
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
        account.ledgers[examples[row].dataset].kept += 1
    for row in cut & whole:
        account.ledgers[examples[row].dataset].cut += 1
    for row, cause in lost.items():
        if row not in whole:
            account.ledgers[examples[row].dataset].drop(examples[row].row, cause)
        else:
            account.notes["rows lost some of their answers to max_length"] += 1
    return kept


def _rooms(lengths: Sequence[int], limit: int, together: int) -> list[int]:
    """How long each document may be: all of `limit`, or two neighbours' shares of it, the shorter one served first."""
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
    """Pre-training goes on with a long text in the next sequence, unless it shall be dropped."""
    chosen = settings.data.overlong
    return "split" if settings.train.objective == "pretrain" and chosen == "cut" else chosen


def check_result(
    account: Account, train: Packed, validation: Packed | None, template: ChatTemplate, held_out: int
) -> None:
    """Refuse an empty training set; turn what happened into warnings. `held_out`: rows meant for validation."""
    limit = int(account.settings.model.max_length)
    if len(train) == 0:
        longest = max(account.lengths, default=0)
        causes = ", ".join(
            f"{item.rows} x {item.cause}" for ledger in account.ledgers.values() for item in ledger.dropped()
        )
        hint = f"raise model.max_length (the longest example has {longest} tokens)" if longest > limit else ""
        where = str(next(iter(account.files.values())).path)
        raise data_error(f"no row is left to train on: {causes or 'the files hold none'}", where=where, hint=hint)
    dropped = sum(item.rows for ledger in account.ledgers.values() for item in ledger.dropped())
    cut = sum(ledger.cut for ledger in account.ledgers.values())
    if dropped:
        account.warnings.append(f"{dropped} rows are left out; see the causes in the report")
    if cut:
        account.warnings.append(
            f"{cut} rows are cut to max_length = {limit} tokens and lose {_lost_part(account.settings)}"
        )
    if held_out and validation is None:
        account.warnings.append(f"none of the {held_out} held-out rows fits max_length: nothing is evaluated")
    account.warnings += [f"{count} {note} (template {template.name})" for note, count in account.notes.items() if count]
    strange = sum(
        any(_CONTROL.search(message.content) for message in example.messages)
        for file in account.files.values()
        for example in file.examples
    )
    if strange:
        account.warnings.append(f"{strange} rows hold control or text-direction characters; they are kept as they are")


def _lost_part(settings: Profile) -> str:
    return "the end of their answers" if settings.model.truncation_side == "right" else "the beginning of their prompts"


def make_report(
    account: Account,
    packed: tuple[Packed, Packed | None],
    kept: Sequence[Document],
    sides: tuple[Sequence[Example], Sequence[Example]],
    template: ChatTemplate,
    began: float,
) -> DataReport:
    """The report of a finished preparation; `sides` are the examples of training and validation."""
    data, border = account.settings.data, len(sides[0])
    train, held = packed
    documents = [document.example for document in kept]
    return DataReport(
        datasets=tuple(_dataset(account, number) for number in account.files),
        train=_set(train, [row for row in documents if row < border]),
        validation=_set(held, [row for row in documents if row >= border]) if held is not None else None,
        validation_source=data.validation_path or f"{data.validation_fraction:g} of the rows",
        duplicates=count_duplicates([*sides[0], *sides[1]]),
        max_length=train.max_length,
        lengths=summarise_lengths(account.lengths),
        template=template.name,
        template_why=template.why,
        ends=tuple(account.ends),
        seconds=round(time.monotonic() - began, 3),
        warnings=tuple(account.warnings),
    )


def _dataset(account: Account, number: int) -> DatasetReport:
    file, ledger = account.files[number], account.ledgers[number]
    path, dropped = str(file.path), ledger.dropped()
    notes = (*file.notes, *([account.shares[number]] if number in account.shares else []))
    return DatasetReport(path, file.format, file.why, file.rows_read, ledger.kept, ledger.cut, dropped, notes)


def _set(packed: Packed, rows: Sequence[int]) -> SetReport:
    tokens, trained = packed.real_tokens, packed.trained_tokens
    return SetReport(len(set(rows)), len(rows), len(packed), tokens, trained, round(packed.efficiency, 4))
