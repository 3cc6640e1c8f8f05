"""The generated corpus and the tuning data: what they hold, what they must not, and that a seed fixes both."""

from __future__ import annotations

import json
import re
from datetime import date
from itertools import islice
from pathlib import Path

import pytest

from engine.demo import make as demo_make
from engine.demo.corpus import corpus_rows
from engine.demo.dates import STYLES, iso_rows, ordinal
from engine.demo.paths import data_file, data_names, model_dir
from engine.demo.tasks import TASKS
from engine.errors import EngineError, ExitCode

ISO = re.compile(r"\d{4}-\d{2}-\d{2}")


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in data_file(name).read_text(encoding="utf-8").splitlines()]


def _answer_dates(rows: list[dict[str, str]]) -> set[date]:
    return {date.fromisoformat(row["completion"]) for row in rows}


def test_train_and_test_share_no_date_and_every_answer_is_a_date() -> None:
    train, test = _rows("dates.train.jsonl"), _rows("dates.test.jsonl")
    assert (len(train), len(test)) == (demo_make.TRAIN_ROWS, demo_make.TEST_ROWS)
    assert len(_answer_dates(train)) == len(train)
    assert _answer_dates(train).isdisjoint(_answer_dates(test))


def test_each_prompt_holds_the_date_that_its_answer_names() -> None:
    for row in _rows("dates.train.jsonl") + _rows("dates.test.jsonl"):
        written = {style(date.fromisoformat(row["completion"])) for style in STYLES.values()}
        assert any(text in row["prompt"] for text in written), row
        assert not ISO.search(row["prompt"])


def test_shipped_rows_are_those_the_seed_gives() -> None:
    train, test = iso_rows(demo_make.DATES_SEED, demo_make.TRAIN_ROWS, demo_make.TEST_ROWS)
    assert train == _rows("dates.train.jsonl")
    assert test == _rows("dates.test.jsonl")


def test_corpus_never_shows_what_tuning_teaches() -> None:
    text = "\n".join(json.dumps(row) for row in corpus_rows(demo_make.CORPUS_SEED, 20_000))
    assert not ISO.search(text)
    assert not re.search(r"\bISO\b|8601: ", text)
    assert "style" in text


def test_corpus_is_fixed_by_its_seed_and_a_longer_one_begins_alike() -> None:
    assert list(corpus_rows(5, 200)) == list(islice(corpus_rows(5, 300), 200))
    assert list(corpus_rows(5, 200)) != list(corpus_rows(6, 200))


def test_corpus_rows_are_conversations_of_every_kind() -> None:
    rows = list(corpus_rows(1, 3000))
    roles = {tuple(message["role"] for message in row["messages"]) for row in rows}
    turn = ("user", "assistant")
    assert roles == {turn, ("system", *turn), turn + turn, ("system", *turn, *turn)}
    assert all(message["content"].strip() for row in rows for message in row["messages"])
    assert len(TASKS) > 20


@pytest.mark.parametrize(
    ("day", "written"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (13, "13th"), (22, "22nd")]
)
def test_ordinals(day: int, written: str) -> None:
    assert ordinal(day) == written


def test_styles_write_dates_as_their_names_say() -> None:
    day = date(2021, 3, 3)
    assert {name: style(day) for name, style in STYLES.items()} == {
        "American": "March 3, 2021",
        "British": "3 March 2021",
        "formal": "the 3rd of March, 2021",
        "ordinal": "March 3rd, 2021",
        "short": "3 Mar 2021",
        "slash": "03/Mar/2021",
        "full": "Wednesday, 3 March 2021",
    }


def test_data_files_are_found_by_name_with_or_without_suffix() -> None:
    assert data_names() == ("dates.test.jsonl", "dates.train.jsonl")
    assert data_file("dates.train") == data_file("dates.train.jsonl")


@pytest.mark.parametrize(
    "name", ["../model/config.json", "/etc/passwd", "", ".", "dates", "sub/dates.train.jsonl", "x\x1b[2J"]
)
def test_other_files_are_refused_with_the_known_names(name: str) -> None:
    with pytest.raises(EngineError) as caught:
        data_file(name)
    assert caught.value.code == ExitCode.DATA
    assert "dates.train.jsonl" in caught.value.hint


def test_model_and_data_fit_the_wheel() -> None:
    folder = model_dir().parent
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(sizes) <= 8_000_000


def test_making_twice_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_make, "CORPUS_ROWS", 500)
    for name in ("a", "b"):
        demo_make.make(tmp_path / name)
    made = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(made) == 7
    for path in made:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def test_shipped_tokenizer_is_the_one_that_make_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_make, "CORPUS_ROWS", 10)
    demo_make.make(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"):
        assert (tmp_path / "base" / name).read_bytes() == (model_dir() / name).read_bytes(), name


def test_make_needs_one_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo_make.main([]) == 2
    assert "usage" in capsys.readouterr().err
