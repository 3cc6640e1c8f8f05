"""Which rows are held out by number, parts of files that have none, and the same rows from every kind of file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.examples import Example, Message
from engine.data.formats import read_examples
from engine.data.prepare import prepare
from engine.data.split import HeldRows
from engine.data.tokens import IGNORED
from engine.profile.data_files import data_trouble, parts_of_a_file
from engine.profile.schema import Dataset, Profile
from tests.unit.data.test_data_reading import FORMS

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Old?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "New?\nThis one."},
    {"role": "assistant", "content": "No."},
]
ALPACA = {
    "instruction": "New?",
    "input": "This one.",
    "output": "No.",
    "system": "Be brief.",
    "history": [["Old?", "Yes."]],
}
SPOKEN = {"system": "system", "user": "human", "assistant": "gpt"}
SHAREGPT = [{"from": SPOKEN[turn["role"]], "value": turn["content"]} for turn in CONVERSATION]
ROWS: dict[str, dict[str, Any]] = {
    "alpaca": ALPACA,
    "messages": {"messages": CONVERSATION},
    "sharegpt": {"conversations": SHAREGPT[1:], "system": "Be brief."},
    "prompt and completion": {"prompt": CONVERSATION[:2], "completion": CONVERSATION[2:]},
    "question and context": {
        "question": "New?", "context": "This one.", "answer": "No.",
        "system_prompt": "Be brief.", "history": [["Old?", "Yes."]],
    },
}  # fmt: skip


def examples_of(count: int) -> tuple[list[Example], list[bytes]]:
    found = [Example((Message("user", f"q{n}"), Message("assistant", f"a{n % 400}", True)), n) for n in range(count)]
    return found, [example.key for example in found]


@pytest.mark.parametrize("part", [1, 7, 100, 1000])
def test_exactly_so_many_rows_are_held_out_however_they_come(part: int) -> None:
    examples, keys = examples_of(500)
    held = HeldRows(50, seed=3)
    train: list[Example] = []
    for begin in range(0, 500, part):
        train += held.add(examples[begin : begin + part], keys[begin : begin + part])
    rest, tested = held.finish()
    whole = HeldRows(50, seed=3)
    whole.add(examples, keys)
    assert len(tested) == 50
    assert {example.row for example in tested} == {example.row for example in whole.finish()[1]}
    assert sorted(example.row for example in [*train, *rest, *tested]) == list(range(500))


def test_equal_rows_stay_together_and_one_content_stays_to_train_on() -> None:
    examples, keys = examples_of(3)
    held = HeldRows(100, seed=0)
    train = held.add([*examples, *examples], [*keys, *keys])
    rest, tested = held.finish()
    assert train == []
    assert (len(rest), len(tested)) == (2, 4)
    assert not {example.key for example in rest} & {example.key for example in tested}


def test_held_out_rows_are_counted_over_all_chunks(
    tmp_path: Path, tokenizer: Any, write_rows: Callable[..., str], make_settings: Callable[..., Profile]
) -> None:
    name = write_rows([{"prompt": f"q{n}", "completion": f"a{n}"} for n in range(40)])
    settings = make_settings(name, validation_rows=7, template="chatml")
    reports = [prepare(settings, tokenizer, tmp_path, lambda done, total: None, rows).report for rows in (9, 1000)]
    assert [report.validation.rows for report in reports if report.validation] == [7, 7]
    assert [report.train.rows for report in reports] == [33, 33]
    assert reports[0].validation_source == "7 rows"
    many = make_settings(name, validation_rows=70, template="chatml")
    assert any(
        "more than the data holds" in one
        for one in prepare(many, tokenizer, tmp_path, lambda a, b: None).report.warnings
    )


def _csv(path: Path, row: dict[str, Any]) -> None:
    cells = [value if isinstance(value, str) else str(value) for value in row.values()]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(row), cells])


def _parquet(path: Path, row: dict[str, Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    other = {"messages": [{"role": "user", "content": "x", "name": "n"}], "extra": None}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row, {**other, **dict.fromkeys(row)}]), path)


def _array(path: Path, row: dict[str, Any]) -> None:
    path.write_text(json.dumps([row], indent=2))


def _hub(path: Path, row: dict[str, Any]) -> None:
    (path / "data").mkdir(parents=True)
    (path / "data" / "train-00000.jsonl").write_text(json.dumps(row) + "\n")


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", lambda path, row: path.write_text(json.dumps(row) + "\n")),
        ("a.json", _array),
        ("a.csv", _csv),
        ("a.parquet", _parquet),
        ("hub", _hub),
    ],
)
def test_the_same_rows_are_the_same_example_in_every_form(
    tmp_path: Path, form: str, name: str, write: Callable[[Path, dict[str, Any]], Any]
) -> None:
    write(tmp_path / name, ROWS[form])
    found = read_examples(Dataset(path=name), tmp_path).examples[0]
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": CONVERSATION}) + "\n")
    assert found == read_examples(Dataset(path="b.jsonl"), tmp_path).examples[0]


def learned(settings: Profile, tokenizer: Any, folder: Path) -> list[tuple[list[int], list[int]]]:
    """Tokens and labels of what training would see."""
    train = prepare(settings, tokenizer, folder, lambda done, total: None).train
    return [(train.input_ids[number].tolist(), train.labels[number].tolist()) for number in range(len(train))]


KINDS = {"a.json": _array, "a.csv": _csv, "a.parquet": _parquet, "hub": _hub}


@pytest.mark.parametrize("form", ROWS)
def test_the_same_rows_are_the_same_tokens_and_labels_in_every_form(
    tmp_path: Path, tokenizer: Any, write_rows: Callable[..., str], make_settings: Callable[..., Profile], form: str
) -> None:
    expected = learned(make_settings(write_rows([{"messages": CONVERSATION}])), tokenizer, tmp_path)
    assert any(label != IGNORED for _, labels in expected for label in labels)
    for name, write in KINDS.items():
        write(tmp_path / name, ROWS[form])
        settings = make_settings(name, max_bad_fraction=0.5)
        assert learned(settings, tokenizer, tmp_path) == expected, name


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_calls_is_the_same_tokens_and_labels(
    tmp_path: Path, tokenizer: Any, write_rows: Callable[..., str], make_settings: Callable[..., Profile], form: str
) -> None:
    name, other = write_rows([FORMS["openai"]], "a.jsonl"), write_rows([FORMS[form]], "b.jsonl")
    first, second = (learned(make_settings(one, template="hermes", max_length=1024), tokenizer, tmp_path)
                     for one in (name, other))  # fmt: skip
    assert first == second


def test_files_have_no_parts_and_packed_ones_say_how_to_unpack_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    assert parts_of_a_file("a.jsonl", tmp_path, "train", None) == []
    assert parts_of_a_file("a.jsonl", tmp_path, "validation", "nl") == ["split", "subset"]
    assert parts_of_a_file(".", tmp_path, "validation", "nl") == []
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    assert "unzstd a.jsonl.zst" in data_trouble("a.jsonl.zst", tmp_path)[1]
    assert data_trouble("*.jsonl", tmp_path) == ("", "")
    assert "no data file matches" in data_trouble("*.csv", tmp_path)[0]
