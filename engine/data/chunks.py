"""The rows of a profile's data sets, some at a time: memory holds one chunk, however long the files are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.data.accounts import VALIDATION
from engine.data.examples import Examples
from engine.data.formats import read_parts
from engine.profile.schema import Profile

CHUNK_ROWS = 20_000
Numbered = tuple[int, Examples]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Parts of files with the number of their data set. `whole`: nothing comes before or after."""

    parts: tuple[Numbered, ...]
    number: int
    last: bool

    @property
    def whole(self) -> bool:
        """Whether this is all."""
        return self.last and self.number == 0


def read_chunks(settings: Profile, base_dir: Path, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Everything that the profile names, training rows first, in chunks of about `rows` usable rows."""
    waiting: list[Numbered] = []
    number = held = 0
    for part in _parts(settings, base_dir, rows):
        if waiting and held + len(part[1].examples) > rows:
            yield Chunk(tuple(waiting), number, last=False)
            number, held, waiting = number + 1, 0, []
        waiting.append(part)
        held += len(part[1].examples)
    yield Chunk(tuple(waiting), number, last=True)


def _parts(settings: Profile, base_dir: Path, rows: int) -> Iterator[Numbered]:
    data, objective = settings.data, settings.train.objective
    left = data.max_samples
    for number, dataset in enumerate(data.datasets):
        if left == 0:
            break
        limit = min((bound for bound in (left, dataset.max_samples) if bound is not None), default=None)
        for part in read_parts(dataset, base_dir, index=number, limit=limit, objective=objective, rows=rows):
            yield number, part
            left = None if left is None else left - len(part.examples)
    if data.validation_path is not None:
        moved = {"path": data.validation_path, "split": data.validation_split}
        held_out = data.datasets[0].model_copy(update=moved)
        for part in read_parts(held_out, base_dir, index=VALIDATION, objective=objective, rows=rows):
            yield VALIDATION, part
