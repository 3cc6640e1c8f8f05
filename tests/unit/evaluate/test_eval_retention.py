"""What tuning cost elsewhere: which passages count, when it is called forgetting, and whose texts are read."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from engine.data.examples import Example, Message
from engine.demo.paths import model_dir
from engine.errors import EngineError, ExitCode
from engine.evaluate.retention import (
    RISE_BOUND,
    UNREADABLE_BITS,
    Kept,
    built_in,
    encode_kept,
    judge,
    passage,
    with_forgetting,
)
from engine.evaluate.retention_files import MOST_PASSAGES, passages, read_kept
from engine.inference.losses import RowLoss
from engine.inference.rows import HeldOut
from engine.profile.schema import Profile


def settings(**evaluate: Any) -> Profile:
    tables = {"model": {"name_or_path": "demo"}, "data": {"datasets": [{"path": "?"}]}, "evaluate": evaluate}
    return Profile.model_validate(tables)


def kept(count: int = 20, *, vouched: bool = True) -> Kept:
    rows = [passage("a hundred letters " * 6, number) for number in range(count)]
    return Kept("x", rows, ["one" if number % 2 else "two" for number in range(count)], count, vouched)


def losses(per_token: float, count: int = 20, spread: float = 0.05) -> list[RowLoss]:
    return [RowLoss(25 * (per_token + spread * (number % 3 - 1)), 25) for number in range(count)]


def test_the_built_in_texts_are_of_many_kinds() -> None:
    found = built_in()
    assert Counter(found.groups) == {"English": 24, "code": 8, "other languages": 14}
    assert 12_000 < sum(len(row.reference.encode()) for row in found.rows) < 20_000
    assert len({row.reference for row in found.rows}) == 46
    scripts = "".join(row.reference for row in found.rows)
    assert all(letter in scripts for letter in "äéñãесть老をकل")


@pytest.mark.parametrize(
    ("rise", "forgetting"), [(0.0, False), (-0.5, False), (RISE_BOUND / 2, False), (2 * RISE_BOUND, True), (3.0, True)]
)
def test_forgetting_is_a_sure_rise_beyond_the_bound(rise: float, forgetting: bool) -> None:
    found = judge(kept(), losses(2.0), losses(2.0 + rise))
    assert found.forgetting is forgetting
    assert found.change is not None
    assert found.change.delta == pytest.approx(rise)
    word, reason = with_forgetting("better", "perplexity better", found)
    assert (word == "better, but forgetting") is forgetting
    assert ("nats a token" in reason) is forgetting
    assert with_forgetting("worse", "w", found)[0] == ("worse, and forgetting" if forgetting else "worse")


def test_a_rise_whose_interval_reaches_below_the_bound_is_not_forgetting() -> None:
    after = [RowLoss(25 * (2.0 + (1.5 if number < 3 else 0)), 25) for number in range(20)]
    found = judge(kept(), losses(2.0, spread=0), after)
    assert found.change is not None
    assert found.change.delta > 2 * RISE_BOUND
    assert found.change.low < RISE_BOUND
    assert not found.forgetting


def test_what_the_base_could_not_read_does_not_count() -> None:
    letters = len(kept().rows[0].reference)
    known = UNREADABLE_BITS * letters * math.log(2)
    before = [RowLoss(known * (0.5 if number < 8 else 1.5), 25) for number in range(20)]
    after = [RowLoss(loss.nll * (1 if number < 8 else 9), 25) for number, loss in enumerate(before)]
    found = judge(kept(vouched=False), before, after)
    assert (found.counted, found.tokens, found.forgetting) == (8, 200, False)
    assert {name: group.counted for name, group in found.groups.items()} == {"two": 4, "one": 4}
    # What a person names counts whole.
    assert judge(kept(), before, after).forgetting


def test_too_little_is_not_judged() -> None:
    found = judge(kept(vouched=False), losses(200.0), losses(900.0))
    assert (found.counted, found.change, found.forgetting, found.base) == (0, None, None, None)
    assert with_forgetting("better", "why", found) == ("better", "why")
    assert judge(kept(4), losses(2.0, 4), losses(9.0, 4)).forgetting is None
    assert judge(kept(), losses(2.0)).tuned is None


def test_letters_of_chinese_count_as_three() -> None:
    text = "这座城市的老街两旁种满了梧桐树" * 4
    found = Kept("x", [passage(text, number) for number in range(6)], ["zh"] * 6, 6, vouched=False)
    bits_per_letter = 4.5
    loss = [RowLoss(bits_per_letter * len(text) * math.log(2), 50)] * 6
    assert judge(found, loss, loss).counted == 6


def test_text_is_scored_whole_without_an_end_mark() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir())
    chat = HeldOut(Example((Message("user", "Repeat: pig"), Message("assistant", "pig", True)), 1))
    found = Kept(
        "x", [passage("pig monkey goat", 1), chat, passage("word " * 200, 2)], ["a", "b", "a"], 3, vouched=True
    )
    encoded = encode_kept(found, tokenizer, 64)
    by_owner = dict(zip(encoded.owners, encoded.documents, strict=True))
    assert tokenizer.decode(by_owner[0].ids, skip_special_tokens=True).strip() == "pig monkey goat"
    assert by_owner[0].labels == by_owner[0].ids
    assert by_owner[0].ids[-1] != tokenizer.eos_token_id
    assert sum(label != -100 for label in by_owner[1].labels) < len(by_owner[1].ids)
    assert (len(by_owner[2].ids), encoded.cut) == (64, 1)
    assert [row.tokens for row in encoded.by_row([RowLoss(1.0, 7)] * 3, 3)] == [7, 7, 7]


def test_passages_are_paragraphs_joined_and_cut() -> None:
    text = "\r\n\r\n".join(["short one."] * 3 + ["l" * 4500, "end " * 200])
    found = passages(text)
    assert found[0].startswith("short one.\n\nshort one.")
    assert max(map(len, found)) <= 2000
    assert "".join("".join(found).split()) == "".join(text.split())
    assert passages(" \n\n ") == []


def test_texts_of_the_person(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("\n\n".join([f"paragraph {number} " * 40 for number in range(300)]))
    rows = [{"prompt": "q", "completion": "a"}] * 4 + [{"prompt": "q"}]
    (tmp_path / "notes" / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "notes" / "ignored.png").write_bytes(b"\x89PNG")
    found = read_kept(settings(retention_path="notes"), tmp_path, lambda *what: told.append(what))
    assert found is not None
    assert (found.source, found.found, len(found.rows)) == ("notes", 304, MOST_PASSAGES)
    assert set(found.groups) == {"a.txt", "b.jsonl"}
    assert found.vouched
    assert [code for code, _ in told] == ["retention_rows"]
    assert read_kept(settings(metrics=["rouge"]), tmp_path, lambda *_: None) is None
    own = read_kept(settings(), tmp_path, lambda *_: None)
    assert own is not None
    assert own.source == "built-in texts"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.txt", None, "file not found"),
        ("empty.txt", b"", "empty"),
        ("blank.txt", b" \n \n", "no text there"),
        ("latin.txt", "Gr\u00f6\u00dfe".encode("latin-1"), "not UTF-8"),
        ("weights.bin", b"abc", "unknown kind of file"),
        ("folder", "folder", "no text or data files"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path: Path, name: str, content: Any, words: str) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=words) as caught:
        read_kept(settings(retention_path=name), tmp_path, lambda *_: None)
    assert caught.value.code is ExitCode.DATA
    assert name in caught.value.where


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(EngineError, match="not a regular file"):
        read_kept(settings(retention_path="pipe.txt"), tmp_path, lambda *_: None)
