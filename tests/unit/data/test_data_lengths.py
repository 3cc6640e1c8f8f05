"""What other lengths would do to data is exactly what preparing them with those lengths does."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.choices import LengthChoices, choices_of
from engine.data.lengths import LENGTH, count_bins, length_choices
from engine.data.pack import best_fit
from engine.data.prepare import Prepared, prepare
from engine.profile.schema import Profile

Make = Callable[..., Profile]
Write = Callable[..., str]
ROWS = 60
WAYS: dict[str, dict[str, Any]] = {
    "packed": {},
    "one a row, left": {"packing": False, "side": "left"},
    "dropped, weighed": {"overlong": "drop", "weight": 2.3},
    "texts": {"objective": "pretrain"},
    "pairs": {"objective": "dpo"},
}


def rows_for(objective: str) -> list[dict[str, str]]:
    dice = random.Random(3)
    found = []
    for number in range(ROWS):
        ask, say = (f"{number} " + "word " * int(dice.expovariate(1 / 12)) for _ in range(2))
        chat = {"instruction": ask, "input": "", "output": say}
        pair = {"prompt": ask, "chosen": say, "rejected": "no " * dice.randrange(1, 20)}
        found.append({"sft": chat, "pretrain": {"text": ask + say}, "dpo": pair}[objective])
    return found


def settings_for(make_settings: Make, name: str, max_length: int, **way: Any) -> Profile:
    data = {key: value for key, value in way.items() if key in ("packing", "overlong")}
    settings = make_settings(name, max_length=max_length, validation_fraction=0.2, template="chatml", **data)
    sets = [one.model_copy(update={"weight": way.get("weight", 1.0)}) for one in settings.data.datasets]
    return settings.model_copy(
        update={
            "train": settings.train.model_copy(update={"objective": way.get("objective", "sft")}),
            "model": settings.model.model_copy(update={"truncation_side": way.get("side", "right")}),
            "data": settings.data.model_copy(update={"datasets": sets}),
        }
    )


def run(settings: Profile, tokenizer: Any, folder: Path) -> Prepared:
    return prepare(settings, tokenizer, folder, lambda done, total: None, chunk_rows=25)


@pytest.mark.parametrize("name", WAYS)
def test_the_counts_are_those_of_training(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, name: str
) -> None:
    way = WAYS[name]
    path = write_rows(rows_for(way.get("objective", "sft")))
    settings = settings_for(make_settings, path, 64, **way)
    first = run(settings, tokenizer, tmp_path)
    found = length_choices(first.documents, settings)
    assert found.at[found.index_of(64)].max_length == 64
    assert sum(count for _, count in found.histogram) == len(first.documents)
    changed = 0
    for limit in (*((96, 160, 250) if name == "pairs" else (26, 40, 64)), found.longest):
        at = found.at[found.index_of(limit)]
        report = run(settings_for(make_settings, path, at.max_length, **way), tokenizer, tmp_path).report
        (dataset,) = report.datasets
        assert (at.rows, at.rows_cut) == (dataset.kept, dataset.cut)
        assert at.rows_dropped == sum(drop.rows for drop in dataset.dropped if "max_length" in drop.cause)
        assert (at.sequences, at.tokens) == (report.train.sequences, report.train.tokens)
        assert at.filled == pytest.approx(report.train.packing_efficiency, abs=1e-4)
        changed += at.rows_cut + at.rows_dropped + at.tokens_lost
    assert (changed > 0) == (name != "texts")
    assert (found.at[-1].rows_cut, found.at[-1].tokens_lost) == (0, 0)
    assert found.tokens == int(first.documents[:, LENGTH].sum())


def test_documents_of_one_size_fill_sequences_as_one_by_one() -> None:
    dice = np.random.default_rng(5)
    for _ in range(40):
        capacity = int(dice.integers(8, 200))
        sizes = dice.integers(1, capacity + 1, int(dice.integers(1, 300)))
        assert count_bins(sizes.astype(np.int32), capacity) == len(best_fit(sizes.tolist(), capacity))


def test_the_values_survive_json_and_another_version_is_refused(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    settings = settings_for(make_settings, write_rows(rows_for("sft")), 64)
    found = length_choices(run(settings, tokenizer, tmp_path).documents, settings)
    assert choices_of(json.loads(json.dumps(found.to_dict()))) == found
    assert isinstance(found, LengthChoices)
    for other in (None, {}, {"at": [{}]}, [], {"at": [], "histogram": []}):
        assert choices_of(other) is None
