"""From a profile's files to packed sequences: read, split, encode, cut or drop, pack, report.

It runs in the worker. Rows pass in chunks and sequences go to files that the
trainer maps, so memory stays flat however long the data are. Every row read is accounted for in the report, and
its warnings name what may surprise the user.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter

from engine.data import cache
from engine.data.chat import ChatTemplate, Tokenizer, template_of
from engine.data.chunks import CHUNK_ROWS, read_chunks
from engine.data.examples import Example
from engine.data.lengths import Numbers, read_documents
from engine.data.make import CONVERSATIONS, Maker
from engine.data.pack import Packed
from engine.data.report import DataReport
from engine.data.store import open_packed
from engine.data.stored import example_from_json
from engine.profile.schema import Profile
from engine.resolve.document_lengths import remember

REPORT = "report.json"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What training needs. `conversations`: the held-out ones in file order, for generation, as JSON lines.

    `end_token_ids`: tokens that end an answer in this template; generation stops at them.
    """

    train: Packed
    validation: Packed | None
    conversations: BinaryIO
    report: DataReport
    template: ChatTemplate
    end_token_ids: tuple[int, ...]
    documents: Numbers
    """A few numbers of every document, before anything was cut (`lengths.py`)."""

    @property
    def validation_examples(self) -> list[Example]:
        """The held-out conversations, read anew."""
        self.conversations.seek(0)
        return [example_from_json(json.loads(line), number) for number, line in enumerate(self.conversations, 1)]


def prepare(
    settings: Profile,
    tokenizer: Tokenizer,
    base_dir: Path,
    on_progress: Progress,
    chunk_rows: int = CHUNK_ROWS,
    run_dir: Path | None = None,
) -> Prepared:
    """Everything from `settings.data`, tokenized and packed to `settings.model.max_length`, or from the cache.

    `on_progress(done, total)` counts examples; total is an estimate while files are read. The tokenizer gets the
    template in use as its `chat_template`, so that saving it keeps training and inference alike. A template
    from a file is kept in `run_dir`. Raises EngineError(DATA) when nothing or too little of the data can be used.
    """
    began = time.monotonic()
    template = template_of(settings, tokenizer, base_dir, run_dir)
    tokenizer.chat_template = template.source
    origin = cache.origin_of(settings, tokenizer, template, base_dir)
    cache_warnings: list[str] = []

    def fill(folder: Path) -> None:
        def tell(done: int, total: int | None) -> None:
            on_progress(done, max(done, origin.rows) if total is None else total)

        maker = Maker(settings, tokenizer, template, folder, tell)
        with maker.files, _rare_collection():
            for chunk in read_chunks(settings, base_dir, chunk_rows):
                maker.add(chunk)
        report = maker.finish()
        (folder / REPORT).write_text(json.dumps(report.to_dict()), encoding="utf-8")

    with cache.place(f"{origin.key}-{chunk_rows}", fill, cache_warnings.append) as (folder, kept):
        done = _opened(folder, tokenizer, template)
    remember(settings, base_dir, done.train.document_tokens)
    seconds = round(time.monotonic() - began, 3)
    warnings = (*done.report.warnings, *cache_warnings)
    return replace(done, report=replace(done.report, seconds=seconds, from_cache=kept, warnings=warnings))


@contextmanager
def _rare_collection() -> Iterator[None]:
    """Collect garbage rarely: rows and documents are millions of small objects without cycles."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _opened(folder: Path, tokenizer: Tokenizer, template: ChatTemplate) -> Prepared:
    try:
        report = TypeAdapter(DataReport).validate_json((folder / REPORT).read_bytes())
        train, validation = open_packed(folder, "train"), open_packed(folder, "validation")
        documents = read_documents(folder)
        conversations = (folder / CONVERSATIONS).open("rb")
        if train is None:
            raise ValueError("it holds no sequence to train on")
    except (OSError, ValueError, KeyError) as error:
        raise cache.damaged(folder, error) from error
    ends = tuple(tokenizer.convert_tokens_to_ids(list(report.ends)))
    return Prepared(train, validation, conversations, report, template, ends, documents)
