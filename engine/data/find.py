"""Rows of a profile's data from a number on, or with some words: read part by part, no further than needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engine.data.accounts import VALIDATION
from engine.data.examples import Example
from engine.data.formats import read_parts, with_mask, with_system
from engine.profile.schema import Profile

_PART_ROWS = 2000


def find_examples(
    settings: Profile, base_dir: Path, most: int, first_row: int = 1, words: str = ""
) -> tuple[list[Example], dict[int, str]]:
    """At most `most` usable rows, and the file of each data set they are from; none when none is like that.

    A row's number is that in its file. Of several files the first one counts that has such a row.
    """
    found: list[Example] = []
    paths: dict[int, str] = {VALIDATION: settings.data.validation_path or ""}
    for number, path, example in _examples(settings, base_dir):
        if found and number != found[0].dataset and first_row > 1:
            break
        if example.row >= first_row and has_words(example, words):
            paths[number] = str(path)
            found.append(example)
            if len(found) == most:
                break
    return with_mask(with_system(found, settings.data.system), settings.data.mask), paths


def _examples(settings: Profile, base_dir: Path) -> Iterator[tuple[int, Path, Example]]:
    objective = settings.train.objective
    for number, dataset in enumerate(settings.data.datasets):
        limit = dataset.max_samples
        for part in read_parts(dataset, base_dir, index=number, limit=limit, objective=objective, rows=_PART_ROWS):
            for example in part.examples:
                yield number, part.path, example


def has_words(example: Example, words: str) -> bool:
    """Whether each of the words stands somewhere in the row, in capitals or not."""
    texts = (text for message in (*example.messages, *example.rejected) for text in message.texts)
    text = "\n".join(texts).casefold()
    return all(word in text for word in words.casefold().split())
