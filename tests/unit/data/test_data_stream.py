"""Data in chunks, kept preparations, folders and sets of the hub: the same rows whatever way they come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data import cache
from engine.data.pack import Packed
from engine.data.prepare import Prepared, prepare
from engine.data.seen import Seen
from engine.errors import EngineError, ExitCode
from engine.profile.schema import Profile

Make = Callable[..., Profile]
Write = Callable[..., str]
ROWS = [{"instruction": f"Question {n}?", "output": f"Answer {n}" + " and" * (n % 9) + "."} for n in range(300)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(settings: Profile, tokenizer: Any, folder: Path, rows: int = 20_000) -> Prepared:
    # A run loads its tokenizer; preparing leaves the template in use with it.
    tokenizer.chat_template = None
    return prepare(settings, tokenizer, folder, lambda done, total: None, chunk_rows=rows)


def documents(packed: Packed | None) -> Counter[tuple[int, ...]]:
    """Tokens of each document, padding left out."""
    assert packed is not None
    found: Counter[tuple[int, ...]] = Counter()
    for number, lengths in enumerate(packed.lengths):
        borders = np.cumsum([0, *lengths])
        real = lengths[:-1] if packed.padding[number] else lengths
        found.update(tuple(packed.input_ids[number, at : at + size]) for at, size in zip(borders, real, strict=False))
    return found


def test_chunks_hold_the_same_rows_as_one_piece(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    settings = make_settings(write_rows(ROWS), write_rows(ROWS[:50], "again.jsonl"), validation_fraction=0.1)
    whole, parts = run(settings, tokenizer, tmp_path), run(settings, tokenizer, tmp_path, rows=64)
    everything = documents(whole.train) + documents(whole.validation)
    assert documents(parts.train) + documents(parts.validation) == everything
    assert not documents(parts.train) & documents(parts.validation)
    for found in (whole.report, parts.report):
        assert [dataset.rows_read for dataset in found.datasets] == [300, 50]
        assert (found.train.rows + found.validation.rows, found.duplicates) == (350, 50)  # type: ignore[union-attr]
    assert parts.report.lengths == whole.report.lengths
    assert 20 <= parts.report.validation.rows <= 50  # type: ignore[union-attr]
    assert parts.report.train.packing_efficiency > 0.85


def test_duplicates_and_bad_rows_are_counted_over_all_chunks(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    name = write_rows([*ROWS, {"instruction": "Why?"}, *ROWS[:40]])
    done = run(make_settings(name, deduplicate=True), tokenizer, tmp_path, rows=50)
    (dataset,) = done.report.datasets
    told = {item.cause: (item.rows, item.first_rows[0]) for item in dataset.dropped}
    assert told == {"exact duplicate of an earlier row": (40, 302), "missing answer": (1, 301)}
    assert (dataset.kept, dataset.rows_read, done.report.duplicates) == (300, 341, 0)
    name = write_rows([*ROWS[:50], *[{"instruction": "Why?"}] * 11], "bad.jsonl")
    with pytest.raises(EngineError, match="11 of 61 rows cannot be used"):
        run(make_settings(name, max_bad_fraction=0.1), tokenizer, tmp_path, rows=20)
    assert not list(cache.cache_root().glob(".making*"))


def test_a_held_out_file_comes_after_all_chunks(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    held = write_rows([*ROWS[:2], *({**row, "output": "No."} for row in ROWS[:5])], "held.jsonl")
    done = run(make_settings(write_rows(ROWS), validation_path=held), tokenizer, tmp_path, rows=32)
    assert (done.report.train.rows, len(done.validation_examples)) == (300, 7)
    assert any("2 of 7 validation rows are also trained on" in warning for warning in done.report.warnings)


def test_the_second_preparation_is_the_first_one_read_again(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    settings = make_settings(write_rows([*ROWS, {"instruction": "Why?"}]))
    first, again = run(settings, tokenizer, tmp_path), run(settings, tokenizer, tmp_path)
    assert (first.report.from_cache, again.report.from_cache) == (False, True)
    assert np.array_equal(first.train.input_ids, again.train.input_ids)
    assert np.array_equal(first.train.labels, again.train.labels)
    assert first.validation_examples == again.validation_examples
    strip = {"seconds": 0, "from_cache": False}
    assert {**first.report.to_dict(), **strip} == {**again.report.to_dict(), **strip}
    assert first.end_token_ids == again.end_token_ids


def test_other_rows_settings_or_templates_are_prepared_anew(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    name = write_rows(ROWS)
    run(make_settings(name), tokenizer, tmp_path)
    for changed in ({"max_length": 64}, {"seed": 7}, {"template": "chatml"}, {"mask": "all"}):
        assert not run(make_settings(name, **changed), tokenizer, tmp_path).report.from_cache
    write_rows([*ROWS[:-1], {**ROWS[-1], "output": "Another answer."}])
    assert not run(make_settings(name), tokenizer, tmp_path).report.from_cache


def test_a_damaged_preparation_is_told_and_made_anew(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    settings = make_settings(write_rows(ROWS))
    run(settings, tokenizer, tmp_path)
    (folder,) = cache.cache_root().iterdir()
    (folder / "train.lengths").write_bytes(b"\1\0\0\0")
    with pytest.raises(EngineError, match="the cached data was damaged"):
        run(settings, tokenizer, tmp_path)
    assert not run(settings, tokenizer, tmp_path).report.from_cache


def test_a_cache_that_cannot_be_written_is_a_warning(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = run(make_settings(write_rows(ROWS)), tokenizer, tmp_path)
    assert any("not cached for the next run" in warning for warning in done.report.warnings)
    assert len(documents(done.train)) == 285
    assert len(done.validation_examples) == 15


def test_a_full_disk_ends_with_what_to_do(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, packed: Packed) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.data.store.PackedWriter.add", full)
    with pytest.raises(EngineError, match="No space left") as caught:
        run(make_settings(write_rows(ROWS)), tokenizer, tmp_path)
    assert caught.value.code is ExitCode.DISK
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert list(cache.cache_root().iterdir()) == []


def test_what_was_used_longest_ago_makes_room(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write_rows(ROWS)
    run(make_settings(name, seed=1), tokenizer, tmp_path)
    size = sum(file.stat().st_size for file in cache.cache_root().glob("*/*"))
    monkeypatch.setattr(cache, "KEPT_BYTES", int(2.5 * size))
    for seed in (2, 1, 3):
        run(make_settings(name, seed=seed), tokenizer, tmp_path)
    assert len(list(cache.cache_root().iterdir())) == 2
    assert run(make_settings(name, seed=1), tokenizer, tmp_path).report.from_cache
    assert not run(make_settings(name, seed=2), tokenizer, tmp_path).report.from_cache


def settings_of(path: str, **entry: Any) -> Profile:
    tree = {"model": {"name_or_path": "model", "max_length": 128}, "data": {"datasets": [{"path": path, **entry}]}}
    return Profile.model_validate(tree)


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows_of(done: Prepared) -> int:
    return sum(dataset.rows_read for dataset in done.report.datasets)


def test_a_folder_is_read_by_the_names_of_its_files(tmp_path: Path, tokenizer: Any) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train-00000-of-00002.jsonl").write_text(lines(ROWS[:100]))
    (folder / "train-00001-of-00002.jsonl").write_text(lines(ROWS[100:150]))
    (folder / "test.jsonl").write_text(lines(ROWS[150:160]))
    assert rows_of(run(settings_of("set"), tokenizer, tmp_path)) == 150
    assert rows_of(run(settings_of("set", split="test"), tokenizer, tmp_path)) == 10
    with pytest.raises(EngineError, match="no split 'dev'") as caught:
        run(settings_of("set", split="dev"), tokenizer, tmp_path)
    assert "train, test" in caught.value.hint


def test_a_readme_names_subsets_but_no_files_outside(tmp_path: Path, tokenizer: Any) -> None:
    folder = tmp_path / "set"
    for name, rows in (("easy", ROWS[:30]), ("hard", ROWS[30:50])):
        (folder / name).mkdir(parents=True)
        (folder / name / "rows.jsonl").write_text(lines(rows))
    (tmp_path / "secret.jsonl").write_text(lines(ROWS[:3]))
    head = (
        "---\nconfigs:\n- config_name: easy\n  data_files: easy/*.jsonl\n- config_name: hard\n  data_files: {}\n---\n"
    )
    (folder / "README.md").write_text(head.format("hard/*.jsonl"))
    assert rows_of(run(settings_of("set", subset="hard"), tokenizer, tmp_path)) == 20
    with pytest.raises(EngineError, match="several subsets"):
        run(settings_of("set"), tokenizer, tmp_path)
    for outside in ("../secret.jsonl", str(tmp_path / "secret.jsonl"), "https://example.com/rows.jsonl"):
        (folder / "README.md").write_text(head.format(outside))
        with pytest.raises(EngineError, match="outside the folder"):
            run(settings_of("set", subset="hard"), tokenizer, tmp_path)


def test_arrow_files_and_saved_sets(tmp_path: Path, tokenizer: Any) -> None:
    from datasets import Dataset, DatasetDict

    saved = Dataset.from_list(ROWS[:60])
    DatasetDict({"train": saved, "test": Dataset.from_list(ROWS[:7])}).save_to_disk(str(tmp_path / "both"))
    saved.save_to_disk(str(tmp_path / "one"))
    assert rows_of(run(settings_of("both"), tokenizer, tmp_path)) == 60
    assert rows_of(run(settings_of("both", split="test"), tokenizer, tmp_path)) == 7
    assert rows_of(run(settings_of("one"), tokenizer, tmp_path)) == 60
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    assert rows_of(run(settings_of(str(arrow)), tokenizer, tmp_path)) == 60
    arrow.write_bytes(arrow.read_bytes()[:-2000])
    with pytest.raises(EngineError, match="cannot be read as arrow"):
        run(settings_of(str(arrow)), tokenizer, tmp_path)


def test_a_set_of_the_hub_comes_from_its_local_copy(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "a" * 40
    home = tmp_path / "hub" / "datasets--someone--rows"
    (home / "snapshots" / commit / "data").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    (home / "snapshots" / commit / "data" / "train.jsonl").write_text(lines(ROWS[:40]))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert rows_of(run(settings_of("hub:someone/rows"), tokenizer, tmp_path)) == 40
    with pytest.raises(EngineError, match="'someone/else' is not here and cannot be fetched") as caught:
        run(settings_of("hub:someone/else"), tokenizer, tmp_path)
    assert caught.value.code is ExitCode.DATA


def test_a_copy_that_was_cut_off_is_not_taken_for_the_set(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "a" * 40
    home = tmp_path / "hub" / "datasets--someone--rows"
    (home / "snapshots" / commit).mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    for shard in (0, 2):
        (home / "snapshots" / commit / f"train-{shard:05}-of-00003.jsonl").write_text(lines(ROWS[shard : shard + 1]))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(EngineError, match="'someone/rows'"):
        run(settings_of("hub:someone/rows"), tokenizer, tmp_path)
    (home / "snapshots" / commit / "train-00001-of-00003.jsonl").write_text(lines(ROWS[1:2]))
    assert rows_of(run(settings_of("hub:someone/rows"), tokenizer, tmp_path)) == 3


def test_seen_counts_within_and_across_calls() -> None:
    seen = Seen()
    keys = [bytes([number]) * 16 for number in (5, 1, 5, 2)]
    assert seen.mark(keys).tolist() == [False, False, True, False]
    assert seen.mark([keys[1], bytes(16), bytes(16)]).tolist() == [True, False, True]
    assert seen.count([*keys, bytes([9]) * 16]) == 4
    assert seen.mark([]).tolist() == []
