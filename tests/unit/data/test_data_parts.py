"""Thoughts, calls, text and results: where they stand, which of them are learned, and how prompts begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.data.chat import ChatTemplate, render, with_start
from engine.data.conversation import conversation_of
from engine.data.examples import Example, Message, RowProblem, ToolCall
from engine.data.marks import OPEN as OPEN_MARK
from engine.data.mask import LEARNED, NO_THOUGHTS, OPENED, REBUILT, SEPARATE, Masker
from engine.data.rendered import Rendered

TOOLS = '[{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}]'
LOOK = (ToolCall("look", '{"at": "Oslo"}', "call_1"),)
TALK = Example(
    (
        Message("user", "Weather?"),
        Message("assistant", "", True, "I look.", LOOK),
        Message("tool", "cold", call_id="call_1"),
        Message("assistant", "It is cold.", True, "Cold it is."),
        Message("user", "Thanks"),
        Message("assistant", "Bye.", True, "He leaves."),
    ),
    1,
    tools=TOOLS,
)
HEAD = "{% if tools %}{{ tools | tojson }}\n{% endif %}{% set n = namespace(last=0) %}{% for m in messages %}"
ASKED = "{% if m.role == 'user' %}{% set n.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
OPEN = "{{ '<|im_start|>' + m.role + '\n' }}"
THINK = "{% if m.reasoning_content %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}"
LATE_THINK = THINK.replace("{% if ", "{% if loop.index0 > n.last and ")
BODY = (
    "{{ m.content }}{% for c in m.tool_calls %}"
    "{{ '<tool_call>\n' + {'name': c.function.name, 'arguments': c.function.arguments} | tojson + '\n</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
)
START = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
WHOLE = HEAD + ASKED + OPEN + THINK + BODY + START
"""Keeps every thought."""
CUTTING = HEAD + ASKED + OPEN + LATE_THINK + BODY + START
"""Like Qwen3: only thoughts behind the last question stay."""
DROPPING = HEAD + ASKED + OPEN + BODY + START.replace("assistant\n", "assistant\n<think>\n")
"""Like R1: no thought is written, and generation begins with one."""
QUIET = WHOLE.replace(START, START.replace("assistant\n", "assistant\n<think>\n\n</think>\n\n"))
"""Like Qwen3 told not to think."""
FUTURE = WHOLE.replace(
    "m.reasoning_content %}", "m.reasoning_content and (loop.last or messages[-1].role != 'assistant') %}"
)
"""Like gpt-oss: a call's thought is written until the final answer comes."""
NO_START = WHOLE.replace(START, "")


def documents(tokenizer: Any, source: str, example: Example = TALK, learn: Any = LEARNED) -> list[Rendered]:
    found = masker(tokenizer, source, learn).render_examples([example])[0]
    assert not isinstance(found, RowProblem), found
    return found


def masker(tokenizer: Any, source: str, learn: Any = LEARNED) -> Masker:
    return Masker(tokenizer, with_start(tokenizer, ChatTemplate("auto", source, "")), learn=learn)


def parts(document: Rendered) -> list[tuple[str, str]]:
    return [(part.kind, document.text[part.start : part.end]) for part in document.parts]


def learned(document: Rendered) -> str:
    return "|".join(document.text[start:end] for start, end in document.spans)


CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "Oslo"}}\n</tool_call><|im_end|>'


def test_each_part_is_found_and_all_that_the_assistant_writes_is_learned(tokenizer: Any) -> None:
    (document,) = documents(tokenizer, WHOLE)
    assert parts(document) == [
        ("thoughts", "<think>\nI look.\n</think>\n\n"),
        ("calls", CALL),
        ("results", "cold"),
        ("thoughts", "<think>\nCold it is.\n</think>\n\n"),
        ("text", "It is cold.<|im_end|>"),
        ("thoughts", "<think>\nHe leaves.\n</think>\n\n"),
        ("text", "Bye.<|im_end|>"),
    ]
    assert learned(document) == "|".join(text for kind, text in parts(document) if kind != "results")


@pytest.mark.parametrize(
    ("learn", "text"),
    [
        (["text"], "It is cold.<|im_end|>|Bye.<|im_end|>"),
        (["calls"], CALL),
        (["results"], "cold"),
        (["thoughts"], "I look.|Cold it is.|He leaves."),
    ],
    ids=["text", "calls", "results", "thoughts"],
)
def test_the_profile_chooses_the_parts_that_are_learned(tokenizer: Any, learn: list[str], text: str) -> None:
    found = learned(documents(tokenizer, WHOLE, learn=learn)[0])
    assert found.replace("<think>\n", "").replace("\n</think>\n\n", "") == text


def test_earlier_thoughts_that_are_cut_make_documents_of_answers_that_belong_together(tokenizer: Any) -> None:
    used = masker(tokenizer, CUTTING)
    (found,) = used.render_examples([TALK])
    assert isinstance(found, list)
    first, second = found
    assert [kind for kind, _ in parts(first)] == ["thoughts", "calls", "results", "thoughts", "text"]
    assert learned(second) == "<think>\nHe leaves.\n</think>\n\n|Bye.<|im_end|>"
    assert "Cold it is." not in second.text
    assert used.notes.counts[SEPARATE] == 1


@pytest.mark.parametrize("source", [WHOLE, CUTTING, DROPPING, QUIET, FUTURE, NO_START])
def test_every_answer_begins_behind_the_prompt_of_generation(tokenizer: Any, source: str) -> None:
    template = with_start(tokenizer, ChatTemplate("auto", source, ""))
    for count in (1, 3, 5):
        turns = (replace(m, train=m.role == "assistant" and at == count) for at, m in enumerate(TALK.messages))
        example = replace(TALK, messages=tuple(turns))
        (document,) = documents(tokenizer, source, example)
        (prompt,) = render(tokenizer, template, [conversation_of(example, example.messages[:count])], generation=True)
        assert document.text[: document.spans[0][0]] == prompt


def test_thoughts_stand_behind_the_mark_that_generation_opens(tokenizer: Any) -> None:
    used = masker(tokenizer, DROPPING)
    asked = [Message("user", "2+2?"), Message("user", "2+2?")]
    answers = [Message("assistant", "4", True, "Two."), Message("assistant", "4", True)]
    found = used.render_examples([Example(pair, 1) for pair in zip(asked, answers, strict=True)])
    texts = [learned(document) for documents in found if isinstance(documents, list) for document in documents]
    assert texts == ["Two.\n</think>\n\n|4<|im_end|>", "\n</think>\n\n4<|im_end|>"]
    assert used.notes.counts[OPENED] == 2
    assert not used.notes.counts[NO_THOUGHTS]


def test_thoughts_are_left_out_aloud_where_the_prompt_says_not_to_think(tokenizer: Any) -> None:
    used = masker(tokenizer, QUIET)
    (found,) = used.render_examples([Example((Message("user", "2+2?"), Message("assistant", "4", True, "Two.")), 1)])
    assert isinstance(found, list)
    assert (learned(found[0]), found[0].text.count("<think>")) == ("4<|im_end|>", 1)
    assert used.notes.counts[NO_THOUGHTS] == 1


def test_a_prompt_that_a_later_answer_changes_is_put_back(tokenizer: Any) -> None:
    used = masker(tokenizer, FUTURE)
    (found,) = used.render_examples([Example(TALK.messages[:4], 1, tools=TOOLS)])
    assert isinstance(found, list)
    assert used.notes.counts[REBUILT] == 1
    assert learned(found[-1]).endswith("Cold it is.\n</think>\n\n|It is cold.<|im_end|>")
    assert "I look." in found[-1].text


def test_a_missing_start_of_an_answer_is_added_to_the_template(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer(chat_template=NO_START)
    template = with_start(tokenizer, ChatTemplate("auto", NO_START, ""))
    assert "no generation prompt" in template.warnings[0]
    asked = [{"role": "user", "content": "Hi"}]
    plain = tokenizer.apply_chat_template(
        asked, chat_template=template.source, tokenize=False, add_generation_prompt=True
    )
    assert plain == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    without = tokenizer.apply_chat_template(asked, chat_template=template.source, tokenize=False)
    assert without == tokenizer.apply_chat_template(asked, chat_template=NO_START, tokenize=False)


def test_a_second_call_that_is_dropped_refuses_the_row(tokenizer: Any) -> None:
    source = WHOLE.replace("in m.tool_calls %}", "in (m.tool_calls or [])[:1] %}")
    twice = Example((TALK.messages[0], Message("assistant", "", True, "", LOOK + LOOK)), 1, tools=TOOLS)
    (found,) = masker(tokenizer, source).render_examples([twice])
    assert isinstance(found, RowProblem)
    assert "call" in found.detail


def test_a_turn_that_is_dropped_refuses_the_row_and_a_changed_one_is_counted(tokenizer: Any) -> None:
    first_only = WHOLE.replace("{{ m.content }}", "{{ m.content if m.role == 'assistant' or loop.first }}")
    said = Example(
        (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d", True)), 1
    )
    (found,) = masker(tokenizer, first_only).render_examples([said])
    assert isinstance(found, RowProblem)
    assert "message 3 (user)" in found.detail
    used = masker(tokenizer, WHOLE.replace("{{ m.content }}", "{{ m.content | replace('  ', ' ') }}"))
    used.render_examples([Example((Message("user", "a  b"), Message("assistant", "d", True)), 1)])
    assert any("changes" in note and count for note, count in used.notes.counts.items())


def test_a_call_without_an_end_mark_ends_with_the_mark_of_what_follows(tokenizer: Any) -> None:
    source = CUTTING.replace(
        "{{ '<|im_end|>\n' }}", "{% if not m.tool_calls %}{{ '<|im_end|>\n' }}{% endif %}"
    ).replace(OPEN, "{{ '<|user|>' if m.role == 'tool' else '<|im_start|>' + m.role + '\n' }}")
    first = documents(tokenizer, source)[0]
    assert ("calls", CALL.replace("<|im_end|>", "<|user|>")) in parts(first)


def test_marks_in_calls_and_tools_stay_text(tokenizer: Any) -> None:
    calls = (ToolCall("look", '{"at": "a <|im_end|> b"}'),)
    example = Example(
        (TALK.messages[0], Message("assistant", "", True, "x </s> y", calls)), 1, tools=TOOLS.replace("Looks", "</s>")
    )
    (document,) = documents(tokenizer, WHOLE, example)
    assert [document.text[start:end] for start, end in document.plain] == ["</s>", "</s>", "<|im_end|>"]
    assert learned(document).endswith('{"at": "a <|im_end|> b"}}\n</tool_call><|im_end|>')


@pytest.mark.parametrize("role", ["tool", "ipython"])
def test_a_result_is_not_taken_for_the_argument_that_says_the_same(tokenizer: Any, role: str) -> None:
    turns = [replace(one, content="Oslo") if one.role == "tool" else one for one in TALK.messages[:4]]
    source = WHOLE.replace("+ m.role +", f"+ ('{role}' if m.role in ('tool', '{role}') else m.role) +")
    if role != "tool":
        source = source.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
    (document,) = documents(tokenizer, source, Example(tuple(turns), 1, tools=TOOLS), ["results"])
    ((start, end),) = document.spans
    assert document.text[start:end] == "Oslo"
    assert document.text[:start].endswith(f"<|im_start|>{role}\n")


@pytest.mark.parametrize("source", [DROPPING, QUIET], ids=["open", "closed"])
def test_an_answer_that_speaks_of_the_think_mark_stays_whole(tokenizer: Any, source: str) -> None:
    example = Example((Message("user", "How?"), Message("assistant", "Write </think> behind it.", True)), 1)
    (document,) = documents(tokenizer, source, example)
    assert learned(document).endswith("Write </think> behind it.<|im_end|>")


def test_the_private_marks_in_a_result_do_not_make_tokens_of_letters(tokenizer: Any) -> None:
    turns = (*TALK.messages[:2], Message("tool", f"{OPEN_MARK} a <|im_end|>", call_id="call_1"), TALK.messages[3])
    (document,) = documents(tokenizer, WHOLE, Example(turns, 1, tools=TOOLS))
    assert [document.text[start:end] for start, end in document.plain] == ["<|im_end|>"]


def test_an_answer_is_not_put_behind_the_header_of_an_earlier_one(tokenizer: Any) -> None:
    again = "{{ '<think>\\n' if messages[-1].role == 'tool' else '<|im_start|>assistant\\n' }}"
    source = FUTURE.replace("{{ '<|im_start|>assistant\n' }}", again).replace("m.content }}", "m.content + m.role }}")
    assert again in source
    talk = [replace(one, content="<think>\n" if at == 0 else one.content) for at, one in enumerate(TALK.messages[:4])]
    example = Example((*talk[:3], replace(talk[3], reasoning="")), 1, tools=TOOLS)
    (found,) = masker(tokenizer, source).render_examples([example])
    assert isinstance(found, RowProblem), [learned(document) for document in found]
    assert "not consistent" in found.cause


def test_an_answer_that_says_what_its_header_says_begins_behind_it(tokenizer: Any) -> None:
    source = WHOLE.replace(START, START.replace("assistant\n", "assistant\n<plan>"))
    for said in ("assistant", "<p>"):
        (document,) = documents(
            tokenizer, source, Example((Message("user", "Who?"), Message("assistant", said, True)), 1)
        )
        assert learned(document) == f"{said}<|im_end|>"
