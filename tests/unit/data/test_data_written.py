"""Rows that are written with a chat template already, and marks that are tokens or letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.data.asked import tokens_of_conversations, tokens_of_prompts
from engine.data.chat import choose_template, template_of
from engine.data.conversation import conversation_of
from engine.data.encode import encode_examples
from engine.data.examples import Example, Message
from engine.data.mask import Masker, masker_of
from engine.data.tokens import IGNORED
from engine.data.written import OTHER_FAMILY, WRITTEN
from engine.profile.schema import Profile

TALK = (
    Message("user", "One?"),
    Message("assistant", "It is 1.", True),
    Message("user", "Two?"),
    Message("assistant", "It is 2.", True),
)
CHATML = "".join(f"<|im_start|>{one.role}\n{one.content}<|im_end|>\n" for one in TALK)
LLAMA3 = "".join(f"<|start_header_id|>{one.role}<|end_header_id|>\n\n{one.content}<|eot_id|>" for one in TALK)
GEMMA = "".join(
    f"<start_of_turn>{one.role.replace('assistant', 'model')}\n{one.content}<end_of_turn>\n" for one in TALK
)
WRITTEN_AS = {"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA}
ANSWER = {
    "chatml": "<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<start_of_turn>model\n",
}


def text_row(text: str) -> Example:
    return Example((Message("assistant", text, True),), 1, "text")


def encoded(
    tokenizer: Any, example: Example, template: str = "chatml", **masks: Any
) -> tuple[list[int], list[int], Any]:
    chosen = choose_template(tokenizer, template)
    masker = Masker(tokenizer, chosen, **masks)
    found = encode_examples([example], tokenizer, chosen, lambda done, total: None, masker)
    if found.refused:
        return [], [], found.refused[0][1]
    (document,) = found.documents
    return document.ids.tolist(), document.labels.tolist(), found.notes


@pytest.mark.parametrize("name", WRITTEN_AS)
def test_written_text_rows_are_the_tokens_of_the_same_turns(tokenizer: Any, name: str) -> None:
    ids, labels, notes = encoded(tokenizer, text_row(WRITTEN_AS[name]), name, response_mark=ANSWER[name])
    wanted, masks, _ = encoded(tokenizer, Example(TALK, 1), name)
    assert (ids, labels) == (wanted, masks)
    assert notes.counts[WRITTEN] == 1
    assert not notes.counts[OTHER_FAMILY]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("<s>" + CHATML, "chatml"),
        ("\n" + CHATML + "\n\n", "chatml"),
        ("<|end_of_text|>" + LLAMA3, "llama3"),
        ("<s>Be brief.<｜User｜>Hi<｜Assistant｜>Yes</s>", "deepseek"),
    ],
    ids=["begin of text", "blank lines", "another mark in front", "system without a header"],
)
def test_written_rows_may_have_something_in_front(tokenizer: Any, text: str, name: str) -> None:
    ids, _, notes = encoded(tokenizer, text_row(text), name)
    assert notes.counts[WRITTEN] == 1
    assert ids.count(tokenizer.eos_token_id) == (name == "deepseek")


def test_written_text_is_learned_whole_without_a_response_mark(tokenizer: Any) -> None:
    ids, labels, _ = encoded(tokenizer, text_row(CHATML))
    assert labels[1:] == ids[1:]
    assert tokenizer.eos_token_id not in ids


def test_rows_with_other_marks_than_the_template_are_told(tokenizer: Any) -> None:
    _, _, notes = encoded(tokenizer, text_row(LLAMA3), "chatml")
    assert notes.counts[OTHER_FAMILY] == 1


def test_a_written_prompt_gets_no_second_template_and_is_asked_as_it_is(tokenizer: Any) -> None:
    prompt, answer = CHATML.removesuffix("It is 2.<|im_end|>\n"), "It is 2.<|im_end|>"
    example = Example((Message("user", prompt), Message("assistant", answer, True)), 1)
    ids, labels, _ = encoded(tokenizer, example)
    wanted, _, _ = encoded(tokenizer, Example(TALK, 1))
    assert ids == wanted
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == answer
    (asked,) = tokens_of_prompts(tokenizer, choose_template(tokenizer, "chatml"), [example])
    assert isinstance(asked, list)
    assert asked == ids[: len(asked)]
    assert labels[len(asked)] != IGNORED


@pytest.mark.parametrize(
    "example",
    [
        Example((Message("user", CHATML), Message("assistant", "Yes", True)), 1),
        Example((Message("user", "Hi"), Message("assistant", "<|im_start|>assistant\nYes<|im_end|>", True)), 1),
        Example((Message("system", "Be brief."), Message("user", CHATML + ANSWER["chatml"]), TALK[1]), 1),
        text_row("Here is a talk: " + CHATML),
        text_row("<|im_start|>user\nOnly a question<|im_end|>\n"),
    ],
    ids=["whole talk in a turn", "written answer", "system besides", "inside a text", "no answer"],
)
def test_doubtful_rows_are_refused_with_both_remedies(tokenizer: Any, example: Example) -> None:
    _, _, problem = encoded(tokenizer, example)
    assert 'data.marks = "tokens"' in problem.detail
    assert '"text"' in problem.detail


@pytest.mark.parametrize("text", ["Say <|im_end|> to stop", "<s>Plain</s>", "Plain\n</s>\n", "the <|user|> mark"])
def test_marks_in_plain_text_stay_letters_and_an_end_is_not_written_twice(tokenizer: Any, text: str) -> None:
    ids, _, _ = encoded(tokenizer, text_row(text))
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids


def test_the_profile_decides_what_marks_are(
    tokenizer: Any, make_settings: Callable[..., Profile], tmp_path: Any
) -> None:
    mark = tokenizer.convert_tokens_to_ids("<|im_end|>")
    rows = [text_row(CHATML), Example((Message("user", "a <|im_end|> b"), Message("assistant", "c", True)), 1)]
    counts = {}
    for marks in ("text", "tokens"):
        template = template_of(make_settings("x", marks=marks, template="chatml"), tokenizer, tmp_path)
        found = encode_examples(rows, tokenizer, template, lambda done, total: None)
        assert not found.refused
        counts[marks] = [document.ids.tolist().count(mark) for document in found.documents]
        (asked,) = tokens_of_conversations(tokenizer, template, [conversation_of(rows[1]).upto(1)])
        assert isinstance(asked, list)
        assert asked.count(mark) == (2 if marks == "tokens" else 1)
    assert counts == {"text": [0, 2], "tokens": [4, 3]}


def test_response_and_instruction_marks_may_be_token_ids(tokenizer: Any, make_settings: Callable[..., Profile]) -> None:
    settings = make_settings(
        "x",
        response_template=tokenizer("A: ", add_special_tokens=False).input_ids,
        instruction_template="Q: ",
    )
    masker = masker_of(settings, tokenizer, choose_template(tokenizer, "chatml"))
    ((document,),) = masker.render_examples([text_row("Q: one\nA: 1\nQ: two\nA: 2")])  # type: ignore[misc]
    assert [document.text[start:end] for start, end in document.spans] == ["1\n", "2</s>"]


def test_tokens_that_the_profile_adds_are_tokens_wherever_rows_spell_them(
    tokenizer: Any, make_settings: Callable[..., Profile], tmp_path: Any
) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<cmd>", "</cmd>"]})
    tree = make_settings("x", template="chatml").model_dump()
    tree["model"]["additional_special_tokens"] = ["<cmd>", "</cmd>"]
    template = template_of(Profile.model_validate(tree), tokenizer, tmp_path)
    said = "<cmd> 1 </cmd> and </s>"
    turns = (Message("system", said), Message("user", said), Message("assistant", said, True))
    found = encode_examples([Example(turns, 1), text_row(said)], tokenizer, template, lambda done, total: None)
    added = tokenizer.convert_tokens_to_ids("<cmd>")
    assert [document.ids.tolist().count(added) for document in found.documents] == [3, 1]
    labels = [label for label in found.documents[0].labels.tolist() if label != IGNORED]
    assert labels.count(added) == 1
    assert found.documents[0].ids.tolist().count(tokenizer.eos_token_id) == 0
    plain = tokenizer.apply_chat_template(
        [{"role": one.role, "content": one.content.replace("</s>", "x")} for one in turns],
        chat_template=template.source, return_dict=False,
    )  # fmt: skip
    assert plain.count(added) == 3
