"""Files to sequences: every row accounted for, no leak into validation, the same result every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.prepare import Prepared, prepare
from engine.data.split import split_examples
from engine.data.tokens import IGNORED
from engine.errors import EngineError, ExitCode
from engine.profile.schema import Profile

Make = Callable[..., Profile]
Write = Callable[..., str]


def row(number: int, words: int = 3) -> dict[str, str]:
    return {"instruction": f"Question {number}?", "input": "", "output": f"Answer {number}" + " and" * words + "."}


def run(settings: Profile, tokenizer: Any, folder: Path) -> Prepared:
    return prepare(settings, tokenizer, folder, lambda done, total: None)


def answers(examples: list[Any]) -> list[str]:
    return [example.messages[-1].content for example in examples]


def test_alpaca_end_to_end(tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make) -> None:
    name = write_rows([row(number, number % 9) for number in range(200)])
    seen: list[tuple[int, int]] = []
    done = prepare(make_settings(name), tokenizer, tmp_path, lambda *counts: seen.append(counts))
    assert seen[-1] == (200, 200)
    report = done.report
    (dataset,) = report.datasets
    assert (dataset.rows_read, dataset.kept, dataset.cut, dataset.dropped) == (200, 200, 0, ())
    assert (report.train.rows, report.validation.rows if report.validation else 0) == (190, 10)
    assert report.train.packing_efficiency > 0.9
    assert done.validation is not None
    texts = []
    for packed in (done.train, done.validation):
        for number in range(len(packed)):
            labels = packed.labels[number]
            texts += tokenizer.decode(labels[labels != IGNORED].tolist()).split("<|im_end|>")
    expected = [row(number, number % 9)["output"] for number in range(200)]
    assert sorted(text for text in texts if text) == sorted(expected)
    assert done.end_token_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    assert len(done.validation_examples) == 10
    assert report.train.trained_tokens == done.train.trained_tokens
    json.dumps(report.to_dict())


def test_the_tokenizer_carries_the_template_that_was_used(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    name = write_rows([row(number) for number in range(4)])
    done = run(make_settings(name, template="alpaca"), tokenizer, tmp_path)
    assert tokenizer.chat_template == done.template.source
    assert "### Instruction" in done.template.source


def test_every_row_is_kept_cut_or_dropped_with_its_cause(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    rows: list[Any] = [row(number) for number in range(20)]
    rows[3] = row(3, words=200)
    rows[5] = {**row(5), "instruction": "why " * 300}
    rows[7] = {**row(7), "output": ""}
    rows[9] = {**row(9), "output": ""}
    rows[11] = "not a row"
    settings = make_settings(write_rows(rows), max_bad_fraction=0.5, max_length=64, template="chatml")
    done = run(settings, tokenizer, tmp_path)
    (dataset,) = done.report.datasets
    assert (dataset.rows_read, dataset.kept, dataset.cut) == (20, 16, 1)
    assert {drop.cause: (drop.rows, drop.first_rows) for drop in dataset.dropped} == {
        "missing answer": (2, (8, 10)),
        "not an object": (1, (12,)),
        "no answer left within max_length": (1, (6,)),
    }
    assert done.report.lengths.percentiles["p100"] > 64
    assert any("4 rows are left out" in warning for warning in done.report.warnings)
    assert any("1 rows are cut" in warning for warning in done.report.warnings)
    dropping = settings.model_copy(update={"data": settings.data.model_copy(update={"overlong": "drop"})})
    (dataset,) = run(dropping, tokenizer, tmp_path).report.datasets
    assert (dataset.kept, dataset.cut) == (15, 0)
    assert ("longer than max_length", 2) in {(drop.cause, drop.rows) for drop in dataset.dropped}


def test_exact_duplicates_stay_on_one_side(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    name = write_rows([row(number % 40) for number in range(200)])
    settings = make_settings(name, validation_fraction=0.2)
    done = run(settings, tokenizer, tmp_path)
    held = set(answers(done.validation_examples))
    assert len(done.validation_examples) == 40
    assert len(held) == 8
    kept = tokenizer.decode(done.train.input_ids.flatten().tolist())
    assert not [answer for answer in held if answer in kept]
    assert done.report.duplicates == 160


def test_the_split_depends_on_content_and_seed_not_on_order(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    rows = [row(number) for number in range(100)]
    first = run(make_settings(write_rows(rows)), tokenizer, tmp_path)
    turned = run(make_settings(write_rows(rows[::-1], "b.jsonl")), tokenizer, tmp_path)
    other = run(make_settings("rows.jsonl", seed=7), tokenizer, tmp_path)
    assert sorted(answers(first.validation_examples)) == sorted(answers(turned.validation_examples))
    assert sorted(answers(first.validation_examples)) != sorted(answers(other.validation_examples))


def test_the_same_settings_give_the_same_tokens(
    tmp_path: Path,
    make_tokenizer: Callable[..., Any],
    write_rows: Write,
    make_settings: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings(write_rows([row(number, number % 7) for number in range(100)]))
    first = run(settings, make_tokenizer(), tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    again = run(settings, make_tokenizer(), tmp_path)
    assert not again.report.from_cache
    assert np.array_equal(first.train.input_ids, again.train.input_ids)
    assert np.array_equal(first.train.labels, again.train.labels)
    other = run(make_settings("rows.jsonl", seed=1), make_tokenizer(), tmp_path)
    assert not np.array_equal(first.train.input_ids, other.train.input_ids)


def test_whatever_changes_the_tokens_has_a_preparation_of_its_own(
    tmp_path: Path, make_tokenizer: Callable[..., Any], write_rows: Write, make_settings: Make
) -> None:
    file = tmp_path / "own.jinja"
    name = write_rows([row(number) for number in range(3)])
    plain = "{% for m in messages %}{{ m.content }}{{ given | tojson }}{% endfor %}"
    given = {"template_arguments": {"given": {"a": 1, "b": 2}}}
    turned: tuple[tuple[str, dict[str, Any]], ...] = (
        (plain, given),
        (plain, {"template_arguments": {"given": {"b": 2, "a": 1}}}),
        ("x" + plain, given),
        (plain, {**given, "learn": ["calls", "text"]}),
        (plain, {**given, "marks": "tokens"}),
    )
    for source, data in turned:
        file.write_text(source, encoding="utf-8")
        assert not run(make_settings(name, template="own.jinja", **data), make_tokenizer(), tmp_path).report.from_cache
    assert run(make_settings(name, template="own.jinja", **data), make_tokenizer(), tmp_path).report.from_cache


@pytest.mark.parametrize(("rows", "held"), [(1, 0), (2, 1), (3, 1), (40, 2)])
def test_tiny_data_holds_out_at_least_one_row_where_it_can(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, rows: int, held: int
) -> None:
    done = run(make_settings(write_rows([row(number) for number in range(rows)])), tokenizer, tmp_path)
    assert len(done.validation_examples) == held
    assert (done.validation is None) == (held == 0)
    assert any("no rows are held out" in warning for warning in done.report.warnings) == (held == 0)


def test_all_rows_alike_are_not_split() -> None:
    assert split_examples([], [], 0.5, 1) == ([], [])


def test_a_validation_file_replaces_the_split(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    train = write_rows([row(number) for number in range(20)])
    held = write_rows([row(number) for number in range(18, 25)], "held.jsonl")
    done = run(make_settings(train, validation_path=held), tokenizer, tmp_path)
    assert (done.report.train.rows, len(done.validation_examples)) == (20, 7)
    assert any("2 of 7 validation rows are also trained on" in warning for warning in done.report.warnings)
    assert [Path(dataset.path).name for dataset in done.report.datasets] == ["rows.jsonl", "held.jsonl"]


def test_held_out_rows_that_do_not_fit_are_told(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    train = write_rows([row(number) for number in range(5)])
    held = write_rows([{**row(9), "instruction": "why " * 300}], "held.jsonl")
    done = run(make_settings(train, validation_path=held), tokenizer, tmp_path)
    assert (done.validation, done.validation_examples) == (None, [])
    assert any("none of the 1 held-out rows fits" in warning for warning in done.report.warnings)


def test_max_samples_counts_over_all_files(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    names = [write_rows([row(number) for number in range(10)], name) for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    done = run(make_settings(*names, max_samples=15), tokenizer, tmp_path)
    assert [(dataset.rows_read, dataset.kept) for dataset in done.report.datasets] == [(10, 10), (5, 5)]
    assert any("max_samples" in warning for warning in done.report.warnings)


def test_packing_off_gives_a_sequence_a_row(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    name = write_rows([row(number) for number in range(30)])
    done = run(make_settings(name, packing=False, validation_fraction=0.0), tokenizer, tmp_path)
    assert (len(done.train), done.validation, done.report.warnings) == (30, None, done.template.warnings)


def test_a_system_message_is_put_before_each_conversation(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    settings = make_settings(write_rows([row(number) for number in range(5)]), system="Be kind.")
    done = run(settings, tokenizer, tmp_path)
    assert tokenizer.decode(done.train.input_ids.flatten().tolist()).count("system\nBe kind.") == 4


@pytest.mark.parametrize(
    ("rows", "data", "told"),
    [
        ([row(1, words=500)], {"max_length": 16, "overlong": "drop"}, "longer than max_length"),
        ([{**row(1), "instruction": "why " * 300}], {"max_length": 16}, "no answer left within max_length"),
        ([{**row(1), "output": ""}] * 3, {"max_bad_fraction": 1.0}, "3 of 3 rows cannot be used"),
        ([row(1), {"instruction": "x"}], {}, "1 of 2 rows cannot be used"),
    ],
)
def test_nothing_to_train_on_is_an_error(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, rows: Any, data: Any, told: str
) -> None:
    with pytest.raises(EngineError, match=told) as caught:
        run(make_settings(write_rows(rows), **data), tokenizer, tmp_path)
    assert caught.value.code is ExitCode.DATA
    assert "rows.jsonl" in caught.value.where


def test_rows_that_the_template_refuses_count_as_bad(
    tmp_path: Path, make_tokenizer: Callable[..., Any], write_rows: Write, make_settings: Make
) -> None:
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    rows = [row(number) for number in range(10)] + [{**row(10), "system": "Be kind."}]
    tokenizer = make_tokenizer(chat_template=template)
    with pytest.raises(EngineError) as caught:
        run(make_settings(write_rows(rows)), tokenizer, tmp_path)
    assert "refused by the chat template" in caught.value.message
    assert "System role not supported" in str(caught.value.problems[0])
    assert "data.template" in caught.value.hint
    done = run(make_settings("rows.jsonl", max_bad_fraction=0.2), tokenizer, tmp_path)
    assert [(drop.cause, drop.first_rows) for drop in done.report.datasets[0].dropped] == [
        ("refused by the chat template", (11,))
    ]


def test_control_characters_are_kept_and_told(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    rows = [{**row(0), "output": "a\x1b]52;c;x\x07b\u202e"}, *[row(number) for number in range(1, 5)]]
    done = run(make_settings(write_rows(rows), validation_fraction=0.0), tokenizer, tmp_path)
    assert any("1 rows hold control" in warning for warning in done.report.warnings)
    assert "\x1b]52;c;x\x07b\u202e" in tokenizer.decode(done.train.input_ids.flatten().tolist())


def test_the_seed_data_format_of_several_files_is_reported_each(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    names = write_rows([row(1), row(2)], "a.jsonl"), write_rows([chat], "b.jsonl")
    done = run(make_settings(*names), tokenizer, tmp_path)
    assert [dataset.format for dataset in done.report.datasets] == ["alpaca", "messages"]
