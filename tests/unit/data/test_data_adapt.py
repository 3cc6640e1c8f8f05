"""Conversations in the form that a template reads: keys, ids, arguments, roles; and what it would drop, refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.data.adapt import MADE_IDS, NO_CONTENT, NO_THOUGHTS, adapt
from engine.data.asked import tokens_of_conversations
from engine.data.chat import ChatTemplate, adapted, reads_with, render, template_of, trained_template
from engine.data.conversation import Conversation, conversation_of
from engine.data.examples import Example, Message, RowProblem, ToolCall
from engine.profile.schema import Profile

TOOLS = '[{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}]'
CALLED = Example(
    (
        Message("user", "Weather?"),
        Message("assistant", "", True, "I look.", (ToolCall("look", '{"at": "Oslo"}', "call_1"),)),
        Message("tool", "cold", call_id="call_1"),
        Message("assistant", "It is cold.", True),
    ),
    1,
    tools=TOOLS,
)
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
HERMES = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}{% endfor %}"
)
AS_TEXT = HERMES.replace("c.function.arguments | tojson", "'' + c.function.arguments")
"""Like DeepSeek: it joins the arguments to other text."""
NINE = (
    HERMES.replace("{% for c in m.tool_calls %}", "{% for c in m.tool_calls %}{% if c.id|length != 9 %}"
    "{{ raise_exception('ids have nine letters') }}{% endif %}{{ c.id }}")
    + "{% for m in messages %}{% if m.role == 'tool' %}={{ m.tool_call_id }}{% endif %}{% endfor %}"
)  # fmt: skip
THINKING = PLAIN.replace("{{ m.content }}", "{% if m.thinking %}({{ m.thinking }}){% endif %}{{ m.content }}")
IN_MARKS = PLAIN.replace("{{ m.content }}", "{{ m.content if '</think>' in m.content else '-' + m.content }}")
PARTS = "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
OBSERVED = HERMES.replace("<{{ m.role }}>", "{% if m.role == 'observation' %}<seen>{% endif %}")
NAMED = HERMES.replace(
    "<{{ m.role }}>", "<{{ m.role }}>{% if m.role == 'tool' %}{{ m.name | replace('x', 'x') + ':' }}{% endif %}"
)


def written(tokenizer: Any, source: str, example: Example = CALLED, **more: Any) -> str | RowProblem:
    template = ChatTemplate("auto", source, "", **more)
    return render(tokenizer, template, [conversation_of(example)], generation=False)[0]


def without_tools(example: Example) -> Example:
    return replace(example, tools="")


def test_a_template_that_reads_all_gets_all(tokenizer: Any) -> None:
    text = written(tokenizer, HERMES)
    assert isinstance(text, str)
    assert '"name": "look"' in text
    assert text.endswith('<user>Weather?<assistant>[look {"at": "Oslo"}]<tool>cold<assistant>It is cold.')


def test_arguments_are_text_where_the_template_joins_them_to_text(tokenizer: Any) -> None:
    text = written(tokenizer, AS_TEXT)
    assert isinstance(text, str)
    assert '[look {"at": "Oslo"}]' in text


def test_ids_are_made_where_nine_letters_are_demanded_and_results_keep_to_them(tokenizer: Any) -> None:
    notes: Counter[str] = Counter()
    reads = reads_with(tokenizer, ChatTemplate("auto", NINE, ""))
    (_, call, result, _) = adapt(conversation_of(CALLED), reads, notes).turns
    assert len(call["tool_calls"][0]["id"]) == 9
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]
    assert notes[MADE_IDS] == 1
    text = written(tokenizer, NINE)
    assert isinstance(text, str)
    assert text == written(tokenizer, NINE)


ASKED, CALLING = CALLED.messages[:2]
CALLED_TWICE = replace(CALLED, messages=(ASKED, replace(CALLING, calls=CALLING.calls * 2)))
FIRST_ONLY = HERMES.replace("in m.tool_calls %}", "in (m.tool_calls or [])[:1] %}")


@pytest.mark.parametrize(
    ("source", "example", "what"),
    [
        (PLAIN, CALLED, "its tools, the calls"),
        (HERMES.replace("{% if tools %}{{ tools | tojson }}{% endif %}", ""), CALLED, "its tools"),
        (PLAIN, without_tools(CALLED), "the calls"),
        (
            HERMES.replace("<{{ m.role }}>{{ m.content }}", "{{ '' if m.role == 'tool' else m.content }}"),
            CALLED,
            "results",
        ),
        (
            PLAIN.replace("{{ m.content }}", "{{ m.content if m.role != 'system' }}"),
            Example((Message("system", "Be brief."), Message("user", "Hi")), 1),
            "its system message",
        ),
        (FIRST_ONLY, CALLED_TWICE, "more than one call"),
    ],
    ids=["all", "tools", "calls", "results", "system", "second call"],
)
def test_what_a_template_would_drop_refuses_the_row(tokenizer: Any, source: str, example: Example, what: str) -> None:
    problem = written(tokenizer, source, example)
    assert isinstance(problem, RowProblem)
    assert problem.cause == "lost by the chat template"
    assert what in problem.detail


def test_a_template_that_refuses_a_part_says_so_in_its_own_words(tokenizer: Any) -> None:
    source = "{% if tools %}{{ raise_exception('No tools here!') }}{% endif %}" + HERMES
    problem = written(tokenizer, source)
    assert isinstance(problem, RowProblem)
    assert problem.detail == "No tools here!"


THOUGHT = Example((Message("user", "2+2?"), Message("assistant", "4", True, "Two and two.")), 1)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (THINKING, "<user>2+2?<assistant>(Two and two.)4"),
        (THINKING.replace("thinking", "reasoning_content"), "<user>2+2?<assistant>(Two and two.)4"),
        (IN_MARKS, "<user>-2+2?<assistant><think>\nTwo and two.\n</think>\n\n4"),
        (PLAIN, "<user>2+2?<assistant>4"),
    ],
    ids=["thinking", "reasoning_content", "in the answer", "no place"],
)
def test_thoughts_go_where_the_template_reads_them(tokenizer: Any, source: str, text: str) -> None:
    assert written(tokenizer, source, THOUGHT) == text
    notes: Counter[str] = Counter()
    once = adapt(conversation_of(THOUGHT), reads_with(tokenizer, ChatTemplate("auto", source, "")), notes)
    assert bool(notes[NO_THOUGHTS]) == (source == PLAIN)
    again = render(tokenizer, ChatTemplate("auto", source, ""), [once], generation=False)
    assert again == [text]


def test_text_beside_calls_that_the_template_leaves_out_is_counted(tokenizer: Any) -> None:
    source = HERMES.replace("{{ m.content }}", "{{ m.content if not m.tool_calls }}")
    said = replace(CALLED.messages[1], content="Let me see.")
    notes: Counter[str] = Counter()
    reads = reads_with(tokenizer, ChatTemplate("auto", source, ""))
    adapt(conversation_of(replace(CALLED, messages=(CALLED.messages[0], said))), reads, notes)
    assert notes[NO_CONTENT] == 1


def test_results_have_the_role_the_parts_and_the_names_that_the_template_asks_for(tokenizer: Any) -> None:
    assert "<seen>cold" in str(written(tokenizer, OBSERVED))
    assert "<tool>look:cold" in str(written(tokenizer, NAMED))
    talk = Example((Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Yes.", True)), 1)
    assert written(tokenizer, PARTS, talk) == "<system>Be brief.<user>Hi<assistant>Yes."


def test_the_profiles_arguments_reach_the_template_and_a_rows_own_go_first(tokenizer: Any) -> None:
    source = "{{ 'thinks' if enable_thinking else 'quick' }}{{ more.deep }}"
    arguments = {"enable_thinking": True, "more": {"deep": 1}}
    own = replace(THOUGHT, template_arguments='{"enable_thinking": false}')
    assert written(tokenizer, source, THOUGHT, arguments=arguments) == "thinks1"
    assert written(tokenizer, source, own, arguments=arguments) == "quick1"
    reserved = replace(THOUGHT, template_arguments='{"tokenize": true}')
    problem = written(tokenizer, source, reserved)
    assert isinstance(problem, RowProblem)
    assert "tokenize" in problem.detail


@pytest.mark.parametrize("source", [HERMES, AS_TEXT, NINE, THINKING.replace("<{{", "{{ tools|tojson }}<{{"), OBSERVED])
def test_plain_transformers_writes_the_same(make_tokenizer: Callable[..., Any], source: str) -> None:
    tokenizer = make_tokenizer(chat_template=source)
    template = ChatTemplate("auto", source, "", arguments={"custom": "x"})
    example = CALLED if "tool_calls" in source else replace(THOUGHT, tools=TOOLS)
    asked = adapted(tokenizer, template, conversation_of(example))
    plain = tokenizer.apply_chat_template(
        list(asked.turns), tools=list(asked.tools), tokenize=False, add_generation_prompt=True, **asked.arguments
    )
    assert render(tokenizer, template, [conversation_of(example)], generation=True) == [plain]


def test_a_template_from_a_file_is_kept_with_the_run(
    tokenizer: Any, tmp_path: Any, make_settings: Callable[..., Profile]
) -> None:
    (tmp_path / "mine.jinja").write_text("first {{ messages[0].content }}")
    settings = make_settings("x.jsonl", template="mine.jinja", template_arguments={"a": 1})
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    assert template_of(settings, tokenizer, tmp_path, run_dir).source.startswith("first")
    (tmp_path / "mine.jinja").unlink()
    chosen = template_of(settings, tokenizer, tmp_path, run_dir)
    assert (chosen.name, chosen.source[:5], chosen.arguments) == ("mine.jinja", "first", {"a": 1})
    tokenizer.chat_template = chosen.source
    assert trained_template(settings, tokenizer).arguments == {"a": 1}


def test_what_a_person_types_is_letters_and_what_the_profile_adds_is_a_token(tokenizer: Any) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<cmd>"]})
    template = ChatTemplate("auto", PLAIN, "", marks=frozenset(["<cmd>"]))
    (ids,) = tokens_of_conversations(
        tokenizer, template, [Conversation([{"role": "user", "content": "<cmd> a <|im_end|> b"}])]
    )
    assert isinstance(ids, list)
    assert ids.count(tokenizer.convert_tokens_to_ids("<cmd>")) == 1
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids
    assert tokenizer.decode(ids) == "<user><cmd> a <|im_end|> b"


def test_a_template_that_writes_any_role_gets_the_usual_one(tokenizer: Any) -> None:
    source = HERMES.replace("c.function.name", "c['function']['name']")
    text = written(tokenizer, source)
    assert isinstance(text, str)
    assert "<tool>cold" in text
