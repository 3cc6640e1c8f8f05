"""What a person can say about the data: what the loss sees, how often rows come, what becomes of long ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.pack import Packed
from engine.data.prepare import Prepared, prepare
from engine.data.tokens import IGNORED
from engine.errors import EngineError
from engine.profile.schema import Profile

Make = Callable[..., Profile]
Write = Callable[..., str]
TALK = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "First."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Second."},
]


def run(settings: Profile, tokenizer: Any, folder: Path) -> Prepared:
    return prepare(settings, tokenizer, folder, lambda done, total: None)


def trained_text(packed: Packed, tokenizer: Any) -> str:
    return "".join(tokenizer.decode(row[row != IGNORED].tolist()) for row in packed.labels)


def whole_text(packed: Packed, tokenizer: Any) -> str:
    return "".join(
        tokenizer.decode(packed.input_ids[number][: packed.max_length - packed.padding[number]].tolist())
        for number in range(len(packed))
    )


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("answers", "First.<|im_end|>Second.<|im_end|>"),
        ("last", "Second.<|im_end|>"),
    ],
)
def test_the_mask_says_which_answers_are_learned(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, mask: str, expected: str
) -> None:
    settings = make_settings(write_rows([{"messages": TALK}]), mask=mask, validation_fraction=0.0, template="chatml")
    assert trained_text(run(settings, tokenizer, tmp_path).train, tokenizer) == expected


@pytest.mark.parametrize("how", ["mask", "objective"])
def test_prompts_are_learned_where_everything_is(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, how: str
) -> None:
    settings = make_settings(write_rows([{"messages": TALK}]), validation_fraction=0.0, template="chatml")
    if how == "mask":
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"mask": "all"})})
    else:
        settings = settings.model_copy(update={"train": settings.train.model_copy(update={"objective": "pretrain"})})
    text = trained_text(run(settings, tokenizer, tmp_path).train, tokenizer)
    assert "One?" in text
    assert "Second." in text


def test_behind_the_response_mark_of_plain_text_the_loss_begins(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    rows = [{"text": f"Q: number {n} ### no\n### A: answer {n}."} for n in range(3)]
    settings = make_settings(write_rows(rows), response_template="### A:", validation_fraction=0.0)
    done = run(settings, tokenizer, tmp_path)
    text = trained_text(done.train, tokenizer)
    assert sorted(part.strip() for part in text.split("</s>") if part) == [f"answer {n}." for n in range(3)]


@pytest.mark.parametrize(
    ("text", "cause"),
    [("no mark", "no response mark"), ("a ### A: \n", "missing answer"), ("a ### A:</s>", "missing answer")],
)
def test_text_without_the_response_mark_or_an_answer_is_a_bad_row(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, text: str, cause: str
) -> None:
    settings = make_settings(write_rows([{"text": text}] * 3), response_template="### A:", validation_fraction=0.0)
    with pytest.raises(EngineError, match=cause):
        run(settings, tokenizer, tmp_path)


def test_pretraining_goes_on_with_a_long_text_and_loses_nothing(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    text = " ".join(f"word{n}" for n in range(300))
    settings = make_settings(write_rows([{"text": text}]), max_length=64, validation_fraction=0.0, packing=False)
    cut = run(settings, tokenizer, tmp_path)
    assert len(cut.train) == 1
    assert cut.report.datasets[0].cut == 1
    train = settings.train.model_copy(update={"objective": "pretrain"})
    done = run(settings.model_copy(update={"train": train}), tokenizer, tmp_path)
    assert len(done.train) > 5
    assert done.report.datasets[0].cut == 0
    pieces = sorted(range(len(done.train)), key=lambda n: text.find(_row(done.train, n, tokenizer).strip("</s>")[5:40]))
    joined = "".join(_row(done.train, number, tokenizer) for number in pieces)
    assert joined.replace("</s>", "") == text
    assert done.train.trained_tokens == done.train.real_tokens - len(done.train)


def _row(packed: Packed, number: int, tokenizer: Any) -> str:
    return str(tokenizer.decode(packed.input_ids[number][: packed.max_length - packed.padding[number]].tolist()))


@pytest.mark.parametrize(("side", "kept"), [("right", "Question"), ("left", "end.")])
def test_overlong_examples_lose_tokens_on_the_asked_side(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, side: str, kept: str
) -> None:
    rows = [{"instruction": "Question " + "a " * 30, "output": "Answer " + "b " * 60 + "end."}]
    settings = make_settings(write_rows(rows), max_length=80, validation_fraction=0.0)
    model = settings.model.model_copy(update={"truncation_side": side})
    done = run(settings.model_copy(update={"model": model}), tokenizer, tmp_path)
    assert kept in whole_text(done.train, tokenizer)
    assert ("Question" in whole_text(done.train, tokenizer)) == (side == "right")
    assert done.report.datasets[0].cut == 1


def test_duplicates_are_left_out_when_that_is_asked_and_accounted_for(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    rows = [{"instruction": f"Q{n % 4}?", "output": f"A{n % 4}."} for n in range(10)]
    name = write_rows(rows)
    kept = run(make_settings(name, validation_fraction=0.0), tokenizer, tmp_path).report
    assert (kept.datasets[0].kept, kept.duplicates) == (10, 6)
    report = run(make_settings(name, validation_fraction=0.0, deduplicate=True), tokenizer, tmp_path).report
    assert report.datasets[0].kept == 4
    (dropped,) = report.datasets[0].dropped
    assert (dropped.rows, dropped.cause) == (6, "exact duplicate of an earlier row")


def weighed(folder: Path, tokenizer: Any, make_settings: Make, weights: tuple[float, float], seed: int = 1) -> Prepared:
    settings = make_settings("a.jsonl", "b.jsonl", validation_fraction=0.0, seed=seed)
    datasets = [
        dataset.model_copy(update={"weight": weight})
        for dataset, weight in zip(settings.data.datasets, weights, strict=True)
    ]
    data = settings.data.model_copy(update={"datasets": datasets})
    return run(settings.model_copy(update={"data": data}), tokenizer, folder)


def test_weights_say_how_often_rows_are_seen(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    for name in "ab":
        write_rows([{"instruction": f"Q{n}{name}?", "output": f"A{n}{name}."} for n in range(200)], f"{name}.jsonl")
    done = weighed(tmp_path, tokenizer, make_settings, (2.0, 0.3))
    text = trained_text(done.train, tokenizer)
    counts = [[text.count(f"A{n}{name}.") for n in range(200)] for name in "ab"]
    assert counts[0] == [2] * 200
    assert set(counts[1]) == {0, 1}
    assert 40 <= sum(counts[1]) <= 80
    notes = [note for dataset in done.report.datasets for note in dataset.notes]
    assert any("weight 2: 400 documents of 200" in note for note in notes)
    assert any("% of the tokens" in note and "weight 0.3" in note for note in notes)


def test_weighing_is_the_same_for_the_same_seed_only(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    for name in "ab":
        write_rows([{"instruction": f"Q{n}{name}?", "output": f"A{n}{name}."} for n in range(50)], f"{name}.jsonl")
    runs = [weighed(tmp_path, tokenizer, make_settings, (1.0, 0.5), seed) for seed in (1, 1, 2)]
    first, again, other = (done.train.input_ids.tobytes() for done in runs)
    assert first == again
    assert first != other


def test_a_data_set_has_a_limit_of_its_own(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    for name in "ab":
        write_rows([{"instruction": f"Q{n}{name}?", "output": f"A{n}{name}."} for n in range(50)], f"{name}.jsonl")
    settings = make_settings("a.jsonl", "b.jsonl", validation_fraction=0.0)
    datasets = [settings.data.datasets[0].model_copy(update={"max_samples": 5}), settings.data.datasets[1]]
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"datasets": datasets})})
    assert [item.rows_read for item in run(settings, tokenizer, tmp_path).report.datasets] == [5, 50]
