"""Rows that compare or judge answers: read in every common layout, side by side in one sequence, all accounted for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.examples import Example, Message, ToolCall
from engine.data.preference import CHOSEN, DESIRED, MISMATCHED, PADDING, REJECTED, UNDESIRED, flat
from engine.data.prepare import Prepared, prepare
from engine.data.tokens import IGNORED
from engine.errors import EngineError
from engine.profile.schema import Profile

Make = Callable[..., Profile]
Write = Callable[..., str]
ASK = {"role": "user", "content": "Why?"}


def say(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PAIRS: dict[str, dict[str, Any]] = {
    "text": {"prompt": "Why?", "chosen": "Good.", "rejected": "Bad."},
    "messages": {"prompt": [ASK], "chosen": [say("Good.")], "rejected": [say("Bad.")]},
    "conversations": {"chosen": [ASK, say("Good.")], "rejected": [ASK, say("Bad.")]},
    "prompt and conversations": {"prompt": "Why?", "chosen": [ASK, say("Good.")], "rejected": [ASK, say("Bad.")]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Why?"}],
        "chosen": {"from": "gpt", "value": "Good."},
        "rejected": {"from": "gpt", "value": "Bad."},
    },
}


def settings_for(make_settings: Make, objective: str, *paths: str, max_length: int = 128, **data: Any) -> Profile:
    options = {"validation_fraction": 0.0, "template": "chatml", **data}
    settings = make_settings(*paths, max_length=max_length, **options)
    return settings.model_copy(update={"train": settings.train.model_copy(update={"objective": objective})})


def run(settings: Profile, tokenizer: Any, folder: Path) -> Prepared:
    return prepare(settings, tokenizer, folder, lambda done, total: None)


def documents(done: Prepared, tokenizer: Any) -> list[tuple[int, str]]:
    """Role and learned text of every document, padding left out."""
    found = []
    for row in range(len(done.train)):
        start = 0
        for length, role in zip(done.train.lengths[row], done.train.roles[row], strict=True):
            labels = done.train.labels[row][start : start + length]
            found.append((int(role), tokenizer.decode(labels[labels != IGNORED].tolist())))
            start += length
    return [pair for pair in found if pair[0] != PADDING]


@pytest.mark.parametrize("layout", PAIRS)
def test_pairs_of_every_layout_become_two_documents_side_by_side(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, layout: str
) -> None:
    done = run(settings_for(make_settings, "dpo", write_rows([PAIRS[layout]] * 3)), tokenizer, tmp_path)
    expected = [(CHOSEN, "Good.<|im_end|>"), (REJECTED, "Bad.<|im_end|>")] * 3
    assert documents(done, tokenizer) == expected
    assert done.report.datasets[0].kept == 3
    assert "preference" in done.report.datasets[0].why


def test_judged_answers_stand_beside_another_rows_answer(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    rows = [{"prompt": f"Q{n}?", "completion": f"A{n}.", "label": n % 2 == 0} for n in range(4)]
    done = run(settings_for(make_settings, "kto", write_rows(rows)), tokenizer, tmp_path)
    found = documents(done, tokenizer)
    assert {text.removesuffix("<|im_end|>"): role for role, text in found if role != MISMATCHED} == {
        "A0.": DESIRED,
        "A1.": UNDESIRED,
        "A2.": DESIRED,
        "A3.": UNDESIRED,
    }
    for (_, own), (role, other) in zip(found[::2], found[1::2], strict=True):
        assert role == MISMATCHED
        assert int(other[1]) == (int(own[1]) + 1) % 4


def test_a_mismatched_answer_brings_its_own_thought_and_calls() -> None:
    calls = (ToolCall("look", '{"at": "Oslo"}'),)
    calling = Message("assistant", "", True, "I look.", calls)
    answers = (calling, Message("assistant", "Fine.", True))
    rows = [Example((Message("user", "Why?"), answer), 1, "judged") for answer in answers]
    assert [one.messages[-1] for one in flat(rows)] == [calling, answers[1], answers[1], calling]


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"prompt": "Why?", "chosen": "Same.", "rejected": "Same."}, "both answers are the same"),
        ({"prompt": "Why?", "chosen": "", "rejected": "Bad."}, "missing answer"),
        ({"prompt": "", "chosen": "Good.", "rejected": "Bad."}, "missing prompt"),
        ({"prompt": None, "chosen": "Good.", "rejected": "Bad."}, "missing prompt"),
    ],
)
def test_rows_that_compare_nothing_are_left_out_with_their_cause(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, row: dict[str, Any], cause: str
) -> None:
    name = write_rows([PAIRS["text"], row])
    done = run(settings_for(make_settings, "orpo", name, max_bad_fraction=0.9), tokenizer, tmp_path)
    (dropped,) = done.report.datasets[0].dropped
    assert (dropped.rows, dropped.cause, dropped.first_rows) == (1, cause, (2,))
    assert len(documents(done, tokenizer)) == 2


def test_a_label_that_is_no_judgement_is_a_bad_row(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    rows = [{"prompt": "Q?", "completion": "A.", "label": word} for word in (True, "false", 1, "0", "perhaps")]
    done = run(settings_for(make_settings, "kto", write_rows(rows), max_bad_fraction=0.9), tokenizer, tmp_path)
    assert [item.cause for item in done.report.datasets[0].dropped] == ["unknown label"]
    roles = [role for role, _ in documents(done, tokenizer) if role != MISMATCHED]
    assert sorted(roles) == sorted([DESIRED, UNDESIRED, DESIRED, UNDESIRED])


@pytest.mark.parametrize(("long", "lengths"), [("chosen", 2), ("both", 2)])
def test_pairs_that_are_too_long_together_are_cut_and_counted(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, long: str, lengths: int
) -> None:
    text = "and so on " * 60
    row = {"prompt": "Why?", "chosen": text, "rejected": text[:-4] if long == "both" else "No."}
    done = run(settings_for(make_settings, "dpo", write_rows([row]), max_length=100), tokenizer, tmp_path)
    assert done.report.datasets[0].cut == 1
    sizes = [int(size) for size, role in zip(done.train.lengths[0], done.train.roles[0], strict=True) if role > 0]
    assert len(sizes) == lengths
    assert sum(sizes) == 100
    if long == "both":
        assert sizes == [50, 50]
    else:
        assert sizes[0] > 60


@pytest.mark.parametrize(("objective", "word"), [("dpo", "preference"), ("kto", "judged")])
def test_rows_without_a_comparison_are_refused_with_their_columns(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make, objective: str, word: str
) -> None:
    name = write_rows([{"instruction": "Q?", "output": "A."}])
    with pytest.raises(EngineError, match=word):
        run(settings_for(make_settings, objective, name), tokenizer, tmp_path)


def test_pairs_are_named_when_answers_shall_be_learned(
    tmp_path: Path, tokenizer: Any, write_rows: Write, make_settings: Make
) -> None:
    with pytest.raises(EngineError, match="preference pairs") as caught:
        run(settings_for(make_settings, "sft", write_rows([PAIRS["conversations"]])), tokenizer, tmp_path)
    assert "train.objective" in caught.value.hint
