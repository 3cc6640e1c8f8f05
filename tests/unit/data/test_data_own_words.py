"""Messages with keys and speakers of their own are read as the usual ones are, in every column that holds messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.data.examples import Examples
from engine.data.formats import read_examples
from engine.inference.rows import read_data
from engine.profile.schema import Dataset, Profile

KEYS = {"role": "speaker", "content": "text"}
SPEAKERS = {"customer": "user", "clerk": "assistant", "note": "system", "desk": "tool", "asks": "call"}
OWN: dict[str, Any] = {"message_keys": KEYS, "speakers": SPEAKERS}
TALK = [
    {"speaker": "note", "text": "Be brief."},
    {"speaker": "customer", "text": "Weather in Ulm?"},
    {"speaker": "asks", "text": '{"name": "weather", "arguments": {"town": "Ulm"}}'},
    {"speaker": "desk", "text": "rain"},
    {"speaker": "clerk", "text": "Rain.", "train": False},
    {"speaker": "customer", "text": "Thanks"},
    {"speaker": "clerk", "text": "Bye."},
]
USUAL = {"note": "system", "customer": "user", "asks": "function_call", "desk": "tool", "clerk": "assistant"}
PLAIN = [
    {"role": USUAL[one["speaker"]], "content": one["text"], **({"train": False} if "train" in one else {})}
    for one in TALK
]


def read(folder: Path, row: Any, objective: str = "sft", **options: Any) -> Examples:
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    found = read_examples(Dataset(path="rows.jsonl", **options), folder, objective=objective)
    assert not found.bad, found.bad
    return found


@pytest.mark.parametrize(
    ("own", "plain", "objective"),
    [
        ({"messages": TALK}, {"messages": PLAIN}, "sft"),
        ({"messages": json.dumps(TALK)}, {"messages": PLAIN}, "sft"),
        ({"prompt": TALK[:2], "completion": TALK[6:]}, {"prompt": PLAIN[:2], "completion": PLAIN[6:]}, "sft"),
        (
            {"prompt": json.dumps(TALK[:2]), "chosen": json.dumps(TALK[4:5]), "rejected": json.dumps(TALK[6:])},
            {"prompt": PLAIN[:2], "chosen": PLAIN[4:5], "rejected": PLAIN[6:]},
            "dpo",
        ),
        ({"chosen": TALK, "rejected": TALK[:5]}, {"chosen": PLAIN, "rejected": PLAIN[:5]}, "dpo"),
    ],
)
def test_own_words_are_read_as_the_usual_ones(tmp_path: Path, own: Any, plain: Any, objective: str) -> None:
    (said,) = read(tmp_path, own, objective, **OWN).examples
    (usual,) = read(tmp_path, plain, objective).examples
    assert said == usual
    assert read(tmp_path, plain, objective, **OWN).examples == (usual,)


def test_the_usual_key_beside_an_own_one_is_told(tmp_path: Path) -> None:
    talk = [
        {"speaker": "customer", "role": "farmer", "from": "Ulm", "text": "Hi", "content": "x"},
        {"speaker": "clerk", "text": "Hello"},
    ]
    found = read(tmp_path, {"messages": talk}, **OWN)
    assert [(one.role, one.content) for one in found.examples[0].messages] == [("user", "Hi"), ("assistant", "Hello")]
    assert {name for _, name, _ in found.unread} == {"role", "from", "content"}


def test_a_word_for_nobody_is_refused_with_the_setting_that_names_it(tmp_path: Path) -> None:
    row = {"messages": [{"role": "customer", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (bad,) = read_examples(Dataset(path="rows.jsonl"), tmp_path).bad
    assert "speakers" in bad.detail
    assert read(tmp_path, row, speakers={"customer": "user"}).examples


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"message_keys": {"speaker": "role"}}, "known are role, content"),
        ({"message_keys": {"role": "x", "content": "x"}}, "the same key"),
        ({"speakers": {"user": "customer"}}, "known are system, user"),
    ],
)
def test_names_the_wrong_way_round_are_refused(wrong: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Dataset(path="rows.jsonl", **wrong)


def test_further_rows_of_an_evaluation_are_read_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text(json.dumps({"messages": TALK}) + "\n", encoding="utf-8")
    data = {"datasets": [{"path": "rows.jsonl", **OWN}]}
    settings = Profile.model_validate({"model": {"name_or_path": "demo"}, "data": data})
    (held,) = read_data("more.jsonl", settings, {}, tmp_path, lambda *_: None)
    assert held.example.messages[1].content == "Weather in Ulm?"
