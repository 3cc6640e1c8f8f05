"""Chunks of rows into the files of one preparation: split, encode, cut or drop, weigh, pack.

`prepare.py` drives it. Everything that happens to a row is noted in the account (`accounts.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from engine.data.accounts import (
    VALIDATION,
    Account,
    check_bad_fraction,
    check_result,
    dataset_report,
    fit,
    held_out_source,
    refuse,
    set_report,
    splits_long,
    take,
)
from engine.data.chat import ChatTemplate, Tokenizer, reads_with
from engine.data.chunks import Chunk
from engine.data.encode import Document, Encoded, encode_examples
from engine.data.examples import Example
from engine.data.formats import with_mask, with_system
from engine.data.hermes import for_template
from engine.data.lengths import DOCUMENTS, DocumentWriter
from engine.data.mask import masker_of
from engine.data.mix import repeats, shares, weigh
from engine.data.pack import pack
from engine.data.preference import NEEDED, answered, flat, paired
from engine.data.report import DataReport, summarise_lengths
from engine.data.seen import Seen
from engine.data.split import HeldRows, split_examples, split_part
from engine.data.store import PackedWriter
from engine.data.stored import example_to_json
from engine.data.written import WRITTEN
from engine.profile.schema import Profile

CONVERSATIONS = "validation.jsonl"


class Maker:
    """Turns chunks of rows into the files of one preparation."""

    def __init__(
        self,
        settings: Profile,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        folder: Path,
        on_progress: Callable[[int, int | None], None],
    ) -> None:
        self.settings, self.tokenizer, self.template = settings, tokenizer, template
        self.on_progress, self.done = on_progress, 0
        self.account = Account(settings)
        self.account.warnings += template.warnings
        self.seen, self.rows_seen = Seen(), Seen()
        self.held_rows = HeldRows(settings.data.validation_rows or 0, settings.train.seed)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)
        self.files = ExitStack()
        limit = int(settings.model.max_length)
        self.writers = (PackedWriter(folder, "train", limit), PackedWriter(folder, "validation", limit))
        self.documents = DocumentWriter(self.files.enter_context((folder / DOCUMENTS).open("wb")))
        self.conversations: IO[str] = self.files.enter_context((folder / CONVERSATIONS).open("w", encoding="utf-8"))
        for writer in self.writers:
            self.files.callback(writer.close)
        # Closed before the files are: it waits for what is under way.
        self.pool = self.files.enter_context(ThreadPoolExecutor(1))
        self.packing: Future[None] | None = None

    def add(self, chunk: Chunk) -> None:
        """Take the rows of a chunk through to sequences. Raises EngineError(DATA), at the last one, for bad rows."""
        account, objective = self.account, self.settings.train.objective
        for number, part in chunk.parts:
            take(account, number, part)
        if chunk.last:
            check_bad_fraction(list(account.sources.values()), self.settings.data.max_bad_fraction)
        train, held = self._sides(chunk)
        examples = [*train, *held]
        encoded = self._encode((train, held), self.done + len(examples) if chunk.last else None)
        refuse(account, encoded.refused, examples)
        if chunk.last:
            check_bad_fraction(list(account.sources.values()), self.settings.data.max_bad_fraction)
        self._note_documents(encoded.documents, examples, len(train), chunk.number)
        kept = fit(account, encoded.documents, examples, 2 if objective in NEEDED else 1)
        learned = weigh(account, [document for document in kept if document.example < len(train)], train)
        tested = [document for document in kept if document.example >= len(train)]
        self._pack_beside((learned, tested), chunk.number)
        rows = sorted({document.example for document in tested})
        self._write_conversations(answered([held[row - len(train)] for row in rows]))
        self.done += len(examples)

    def _note_documents(self, documents: Sequence[Document], examples: list[Example], train: int, chunk: int) -> None:
        """Keep of every document what other lengths would do to it."""
        splits = [splits_long(self.settings) and example.kind == "text" for example in examples]
        times = [repeats(self.settings, example) for example in examples[:train]] + [1] * (len(examples) - train)
        self.documents.add(
            documents,
            [(chunk, int(at >= train), self.done + at, int(splits[at]), times[at]) for at in map(_example, documents)],
        )

    def finish(self) -> DataReport:
        """The report, once the files are closed. Raises EngineError(DATA) when nothing is left to train on."""
        if self.packing is not None:
            self.packing.result()
        account, data = self.account, self.settings.data
        check_result(account, self.template)
        parts = [
            set_report(tally, writer.sequences, writer.tokens, writer.trained_tokens, writer.max_length)
            for tally, writer in zip(account.tallies, self.writers, strict=True)
        ]
        told = shares(account)
        return DataReport(
            datasets=tuple(dataset_report(source, told.get(number, "")) for number, source in account.sources.items()),
            train=parts[0],
            validation=parts[1] if parts[1].sequences else None,
            validation_source=held_out_source(data),
            duplicates=account.duplicates,
            max_length=self.writers[0].max_length,
            lengths=summarise_lengths(account.lengths),
            template=self.template.name,
            written_rows=account.notes[WRITTEN],
            template_why=self.template.why,
            ends=tuple(account.ends),
            seconds=0.0,
            warnings=tuple(account.warnings),
        )

    def _sides(self, chunk: Chunk) -> tuple[list[Example], list[Example]]:
        account, settings = self.account, self.settings
        data, seed = settings.data, settings.train.seed
        given = self._distinct([example for n, part in chunk.parts if n != VALIDATION for example in part.examples])
        tested = self._changed([example for n, part in chunk.parts if n == VALIDATION for example in part.examples])
        examples = self._changed(given)
        keys = [example.key for example in examples]
        account.duplicates += int(self.seen.mark(keys).sum())
        if data.validation_path is None and data.validation_rows is not None:
            examples = self.held_rows.add(examples, keys)
            if chunk.last:
                rest, tested = self.held_rows.finish()
                examples += rest
        elif data.validation_path is None:
            part = split_examples if chunk.whole else split_part
            examples, tested = part(examples, keys, data.validation_fraction, seed)
        else:
            held_keys = [example.key for example in tested]
            account.shared += self.seen.count(held_keys)
            account.duplicates += int(self.seen.mark(held_keys).sum())
        account.held_out += len(tested)
        return examples, tested

    def _changed(self, examples: Sequence[Example]) -> list[Example]:
        data = self.settings.data
        fitting = for_template(examples, reads_with(self.tokenizer, self.template), self.account.notes)
        return with_mask(with_system(fitting, data.system), data.mask)

    def _distinct(self, examples: list[Example]) -> list[Example]:
        """Without exact duplicates of earlier rows where that was asked; each one left out is in its ledger."""
        if not self.settings.data.deduplicate:
            return examples
        kept = []
        repeated = self.rows_seen.mark([example.lesson_key for example in examples])
        for example, is_repeated in zip(examples, repeated, strict=True):
            if is_repeated:
                self.account.ledgers[example.dataset].drop(example.row, "exact duplicate of an earlier row")
            else:
                kept.append(example)
        return kept

    def _encode(self, sides: tuple[list[Example], list[Example]], total: int | None) -> Encoded:
        """Documents of both sides, numbered through; two a row where answers are compared or judged."""
        pairs = self.settings.train.objective in NEEDED
        examples = [*sides[0], *sides[1]]
        asked = [*flat(sides[0]), *flat(sides[1])] if pairs else examples
        times = 2 if pairs else 1
        masker = masker_of(self.settings, self.tokenizer, self.template)

        def tell(done: int, _: int) -> None:
            self.on_progress(self.done + done // times, total)

        encoded = encode_examples(asked, self.tokenizer, self.template, tell, masker)
        self.account.notes += encoded.notes.counts
        self.account.ends += encoded.notes.ends
        if not pairs:
            return encoded
        refused = {position // 2: problem for position, problem in encoded.refused}
        return Encoded(paired(encoded.documents, examples), list(refused.items()), encoded.notes)

    def _pack_beside(self, sides: tuple[Sequence[Document], Sequence[Document]], number: int) -> None:
        """Pack and write in a thread, while the next chunk is read and rendered; the last one's end is waited for."""
        if self.packing is not None:
            self.packing.result()

        def pack_both() -> None:
            for side, documents in enumerate(sides):
                self._pack(side, documents, number)

        self.packing = self.pool.submit(pack_both)

    def _pack(self, side: int, documents: Sequence[Document], number: int) -> None:
        if not documents:
            return
        settings, tally = self.settings, self.account.tallies[side]
        tally.rows += len({document.example for document in documents})
        tally.documents += len(documents)
        packed = pack(
            documents,
            int(settings.model.max_length),
            self.pad,
            packing=settings.data.packing,
            seed=settings.train.seed + number,
            together=2 if settings.train.objective in NEEDED else 1,
        )
        self.writers[side].add(packed)

    def _write_conversations(self, examples: Sequence[Example]) -> None:
        for example in examples:
            self.conversations.write(json.dumps(example_to_json(example)) + "\n")


def _example(document: Document) -> int:
    return document.example
