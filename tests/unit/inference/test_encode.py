"""Held-out rows as tokens: what ends an answer is known from whole rows alone."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from engine.data.examples import Example, Message
from engine.demo.paths import model_dir
from engine.inference.encode import encode_rows
from engine.inference.rows import HeldOut


def row(answer: str, number: int) -> HeldOut:
    return HeldOut(Example((Message("user", "When?"), Message("assistant", answer, True)), number))


@pytest.mark.parametrize("long_rows", [0, 2])
def test_a_row_that_was_cut_does_not_say_what_ends_an_answer(long_rows: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir(), local_files_only=True)
    rows = [row("2027-05-03", 1), *(row("2027-05-03 and then " * 40, 2 + number) for number in range(long_rows))]
    encoded = encode_rows(rows, tokenizer, max_length=48, room_tokens=48)
    assert encoded.cut == long_rows
    assert encoded.last_trained == {tokenizer.eos_token_id}


def test_with_every_row_cut_nothing_is_known_of_the_end() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir(), local_files_only=True)
    encoded = encode_rows([row("2027-05-03 " * 40, 1)], tokenizer, max_length=32, room_tokens=32)
    assert encoded.last_trained == frozenset()
