"""Rows of a profile's data from a number on, or with some words: read part by part, no further than needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from engine.data.accounts import VALIDATION
from engine.data.examples import Example
from engine.data.files import data_error
from engine.data.formats import read_examples, read_parts, with_mask, with_system
from engine.data.unread import told, warnings_of
from engine.profile.schema import Dataset, Profile

_PART_ROWS = 2000


def find_examples(
    settings: Profile, base_dir: Path, most: int, first_row: int = 1, words: str = "", dataset: int = 0
) -> tuple[list[Example], dict[int, str]]:
    """At most `most` usable rows, and the file of each data set they are from; none when none is like that.

    A row's number is that in its file. Of several files the first one counts that has such a row. `dataset` counts
    from 1: only its rows; 0 = of all.
    """
    found: list[Example] = []
    paths: dict[int, str] = {VALIDATION: settings.data.validation_path or ""}
    for number, path, example in _examples(settings, base_dir, dataset):
        if found and number != found[0].dataset and first_row > 1:
            break
        if example.row >= first_row and has_words(example, words):
            paths[number] = str(path)
            found.append(example)
            if len(found) == most:
                break
    return with_mask(with_system(found, settings.data.system), settings.data.mask), paths


def _examples(settings: Profile, base_dir: Path, only: int) -> Iterator[tuple[int, Path, Example]]:
    objective = settings.train.objective
    for number, dataset in _wanted(settings, only):
        limit = dataset.max_samples
        for part in read_parts(dataset, base_dir, index=number, limit=limit, objective=objective, rows=_PART_ROWS):
            for example in part.examples:
                yield number, part.path, example


def _wanted(settings: Profile, only: int) -> list[tuple[int, Dataset]]:
    """Data sets with their numbers, or the one that is asked for."""
    found = list(enumerate(settings.data.datasets))
    if only > len(found):
        hint = f"the profile has {len(found)}"
        raise data_error(f"there is no data set {only}", where="data.datasets", hint=hint)
    return found[only - 1 : only] if only else found


def first_examples(
    settings: Profile, base_dir: Path, rows: int, dataset: int = 0
) -> tuple[list[Example], dict[int, str], list[str]]:
    """The first usable rows, a share of each data set but one at least; the file of each; and what is not read of them.

    `dataset` counts from 1: only its rows. Raises EngineError(DATA) when no row can be used.
    """
    found: list[Example] = []
    paths: dict[int, str] = {VALIDATION: settings.data.validation_path or ""}
    causes: Counter[str] = Counter()
    warnings: list[str] = []
    sets = _wanted(settings, dataset)
    for place, (number, one) in enumerate(sets):
        share = max(1, (rows - len(found)) // (len(sets) - place))
        limit = min(share, one.max_samples or share)
        file = read_examples(one, base_dir, index=number, limit=limit, objective=settings.train.objective)
        paths[number] = str(file.path)
        found += file.examples
        causes.update(file.causes)
        warnings += warnings_of(file.path.name, told(file.unread))
    if not found:
        each = ", ".join(f"{count} x {cause}" for cause, count in causes.items())
        raise data_error(f"no row can be used: {each}", where=paths[sets[0][0]])
    return with_mask(with_system(found, settings.data.system), settings.data.mask), paths, warnings


def has_words(example: Example, words: str) -> bool:
    """Whether each of the words stands somewhere in the row, in capitals or not."""
    texts = (text for message in (*example.messages, *example.rejected) for text in message.texts)
    text = "\n".join(texts).casefold()
    return all(word in text for word in words.casefold().split())
