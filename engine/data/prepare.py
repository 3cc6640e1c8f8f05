"""From a profile's files to packed sequences: read, split, encode, cut or drop, pack, report.

Called by the training job and by the data jobs, in the worker. Every row read is accounted for in the
report, and what was not done as one might expect is in its warnings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.data.accounts import VALIDATION, Account, check_result, fit, make_report, refuse
from engine.data.chat import ChatTemplate, Tokenizer, choose_template
from engine.data.encode import Document, Encoded, encode_examples
from engine.data.examples import Example, Examples
from engine.data.formats import check_bad_fraction, read_examples, with_mask, with_system
from engine.data.mask import masker_of
from engine.data.mix import weigh
from engine.data.pack import Packed, pack
from engine.data.pairs import paired
from engine.data.preference import NEEDED, answered, flat
from engine.data.report import DataReport, Ledger
from engine.data.split import count_shared, split_examples
from engine.profile.schema import Profile


@dataclass(frozen=True, slots=True)
class Prepared:
    """What training needs. `validation_examples` are conversations in file order, for generation.

    `end_token_ids`: tokens that end an answer in this template; generation stops at them.
    """

    train: Packed
    validation: Packed | None
    validation_examples: list[Example]
    report: DataReport
    template: ChatTemplate
    end_token_ids: tuple[int, ...]


def prepare(
    settings: Profile, tokenizer: Tokenizer, base_dir: Path, on_progress: Callable[[int, int], None]
) -> Prepared:
    """Everything from `settings.data`, tokenized and packed to `settings.model.max_length`.

    `on_progress(done, total)` counts examples. The tokenizer gets the template in use as its
    `chat_template`, so that saving it keeps training and inference alike. Raises EngineError(DATA)
    when nothing or too little of the data can be used.
    """
    began = time.monotonic()
    files = read_files(settings, base_dir)
    check_bad_fraction(list(files.values()), settings.data.max_bad_fraction)
    template = choose_template(tokenizer, settings.data.template)
    tokenizer.chat_template = template.source
    account = Account(settings, files, {number: Ledger() for number in files})
    account.warnings += template.warnings
    for number, file in files.items():
        for bad in file.bad:
            account.ledgers[number].drop(bad.row, bad.cause, bad.detail)
    train, validation = _sides(account)
    together = 2 if settings.train.objective in NEEDED else 1
    encoded = _encode(account, tokenizer, template, (train, validation), on_progress)
    account.notes, account.ends = encoded.notes.counts, encoded.notes.ends
    refuse(account, encoded, [*train, *validation])
    kept = fit(account, encoded.documents, [*train, *validation], together)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)
    learned = weigh(account, [document for document in kept if document.example < len(train)], train)
    train_set = _pack_side(account, learned, pad)
    held = [document for document in kept if document.example >= len(train)]
    validation_set = _pack_side(account, held, pad) if held else None
    check_result(account, train_set, validation_set, template, len(validation))
    rows = sorted({document.example for document in held})
    return Prepared(
        train=train_set,
        validation=validation_set,
        validation_examples=answered([validation[row - len(train)] for row in rows]),
        report=make_report(
            account, (train_set, validation_set), [*learned, *held], (train, validation), template, began
        ),
        template=template,
        end_token_ids=tuple(tokenizer.convert_tokens_to_ids(list(account.ends))),
    )


def _encode(
    account: Account,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    sides: tuple[list[Example], list[Example]],
    on_progress: Callable[[int, int], None],
) -> Encoded:
    """Documents of both sides, numbered through; two a row where answers are compared or judged."""
    settings, examples = account.settings, [*sides[0], *sides[1]]
    masker = masker_of(settings, tokenizer, template)
    if settings.train.objective not in NEEDED:
        return encode_examples(examples, tokenizer, template, on_progress, masker)
    encoded = encode_examples([*flat(sides[0]), *flat(sides[1])], tokenizer, template, on_progress, masker)
    refused = {position // 2: problem for position, problem in encoded.refused}
    return Encoded(paired(encoded.documents, examples), list(refused.items()), encoded.notes)


def read_files(settings: Profile, base_dir: Path) -> dict[int, Examples]:
    """Every file of the profile by its number; the validation file is VALIDATION."""
    data, files = settings.data, {}
    left = data.max_samples
    for number, dataset in enumerate(data.datasets):
        if left == 0:
            break
        limits = [limit for limit in (left, dataset.max_samples) if limit is not None]
        limit = min(limits, default=None)
        files[number] = read_examples(dataset, base_dir, index=number, limit=limit, objective=settings.train.objective)
        left = None if left is None else left - len(files[number].examples)
    if data.validation_path is not None:
        held_out = data.datasets[0].model_copy(update={"path": data.validation_path})
        files[VALIDATION] = read_examples(held_out, base_dir, index=VALIDATION, objective=settings.train.objective)
    return files


def _sides(account: Account) -> tuple[list[Example], list[Example]]:
    data = account.settings.data
    given = [example for number, file in account.files.items() if number != VALIDATION for example in file.examples]
    examples = with_mask(with_system(_distinct(account, given), data.system), data.mask)
    if len(account.files) - (VALIDATION in account.files) < len(data.datasets):
        account.warnings.append(
            f"data.max_samples = {data.max_samples} was reached before the last file: not all were read"
        )
    if VALIDATION not in account.files:
        train, held = split_examples(examples, data.validation_fraction, account.settings.train.seed)
        if data.validation_fraction > 0 and not held:
            account.warnings.append("no rows are held out: the data holds fewer than two different examples")
        return train, held
    held = with_mask(with_system(account.files[VALIDATION].examples, data.system), data.mask)
    shared = count_shared(examples, held)
    if shared:
        account.warnings.append(
            f"{shared} of {len(held)} validation rows are also trained on: their scores prove nothing"
        )
    return examples, held


def _distinct(account: Account, examples: list[Example]) -> list[Example]:
    """Without exact duplicates of earlier rows where that was asked; each one left out is in its ledger."""
    if not account.settings.data.deduplicate:
        return examples
    seen: set[bytes] = set()
    kept = []
    for example in examples:
        if example.key in seen:
            account.ledgers[example.dataset].drop(example.row, "exact duplicate of an earlier row")
        else:
            seen.add(example.key)
            kept.append(example)
    return kept


def _pack_side(account: Account, documents: Sequence[Document], pad_token_id: int) -> Packed:
    settings = account.settings
    limit = int(settings.model.max_length)
    together = 2 if settings.train.objective in NEEDED else 1
    packing, seed = settings.data.packing, settings.train.seed
    return pack(documents, limit, pad_token_id, packing=packing, seed=seed, together=together)
