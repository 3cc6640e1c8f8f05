"""Thoughts, text and calls are read from answers in the form that the template writes them, whatever the form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import AutoTokenizer

from engine.data.chat import ChatTemplate, render
from engine.data.conversation import Conversation
from engine.demo.paths import model_dir
from engine.inference.call_forms import AnswerForm, answer_form
from engine.inference.replies import Reply, read_reply, said

TOKENIZER = AutoTokenizer.from_pretrained(model_dir(), local_files_only=True)
HEAD = "{% for m in messages %}<{{ m.role }}>"
CALLS = "{% for c in m.tool_calls or [] %}"
TAIL = "{% endfor %}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
THOUGHT = "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
FORMS = {
    "hermes": f"{HEAD}{THOUGHT}{{{{ m.content }}}}{CALLS}\n<tool_call>\n"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}\n</tool_call>" + TAIL,
    "list": f"{HEAD}{{{{ m.content }}}}{{% if m.tool_calls %}}[TOOL_CALLS] [{{% endif %}}{CALLS}"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments, 'id': c.id} | tojson }}"
    "{% if not loop.last %}, {% else %}]{% endif %}" + TAIL,
    "named": f"{HEAD}{{{{ m.content }}}}{CALLS}[CALL]{{{{ c.function.name }}}}[ARGS]"
    "{{ c.function.arguments | tojson }}" + TAIL,
    "fenced": f"{HEAD}{{{{ m.content }}}}{CALLS}<|call|>function<|sep|>{{{{ c.function.name }}}}\n```json\n"
    "{{ c.function.arguments | tojson }}\n```<|done|>" + TAIL,
    "tags": f"{HEAD}{THOUGHT}{{{{ m.content }}}}{CALLS}<tool_call>\n<function={{{{ c.function.name }}}}>\n"
    "{% for k, v in c.function.arguments.items() %}<parameter={{ k }}>\n"
    "{{ v if v is string else v | tojson }}\n</parameter>\n{% endfor %}</function>\n</tool_call>\n" + TAIL,
    "python": f"{HEAD}{{{{ m.content }}}}{{% if m.tool_calls %}}<|calls|>[{{% endif %}}{CALLS}"
    "{{ c.function.name }}("
    '{% for k, v in c.function.arguments.items() %}{{ k }}={{ "\'" + v + "\'" if v is string else v }}'
    "{% if not loop.last %}, {% endif %}{% endfor %}){% if not loop.last %}, {% else %}]<|calls_end|>{% endif %}"
    + TAIL,
}
ONE = [("get_weather", {"city": 'Paris, "the" {x}', "days": 3})]
TWO = [("a.b", {"x": [1, {"y": None}], "s": "yes"}), ("c_d", {"t": "two\nlines", "f": 1.5})]
NONE = [("list_all", {})]


def written(source: str, calls: list[tuple[str, dict[str, Any]]], content: str = "", thought: str = "") -> str:
    """What the template writes for an answer, up to its end mark."""
    turn: dict[str, Any] = {"role": "assistant", "content": content}
    turn["tool_calls"] = [
        {"type": "function", "id": f"call{number}", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(calls)
    ]
    if thought:
        turn["reasoning_content"] = thought
    asked = [{"role": "user", "content": "hi"}, turn]
    text = render(TOKENIZER, ChatTemplate("x", source, ""), [Conversation(asked)], generation=False)[0]
    assert isinstance(text, str)
    return text.split("<assistant>")[1].removesuffix("<end>")


def calls_of(reply: Reply) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in reply.calls]


@pytest.mark.parametrize("name", FORMS)
def test_calls_come_back_as_the_template_wrote_them(name: str) -> None:
    form = answer_form(TOKENIZER, ChatTemplate("x", FORMS[name], ""))
    for calls in (ONE, TWO, NONE):
        assert calls_of(read_reply(written(FORMS[name], calls), form)) == calls
        reply = read_reply(written(FORMS[name], calls, "I look."), form)
        assert (calls_of(reply), reply.text, reply.problem) == (calls, "I look.", "")
    if "think" in FORMS[name]:
        reply = read_reply(written(FORMS[name], ONE, "So:", "hm {} hm"), form)
        assert (calls_of(reply), reply.text, reply.thought) == (ONE, "So:", "hm {} hm")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('<tool_call>\n{"name": "f", "arguments": {"a": 1}', "not JSON"),
        ('<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>', "no object"),
        ('<tool_call>\n{"arguments": {}}\n</tool_call>', "no 'name'"),
        ("<tool_call>" + "[" * 100_000, "not JSON"),
        ("<tool_call>", "not JSON"),
    ],
)
def test_a_call_that_cannot_be_read_is_text_with_the_reason(answer: str, problem: str) -> None:
    form = answer_form(TOKENIZER, ChatTemplate("x", FORMS["hermes"], ""))
    reply = read_reply(answer, form)
    assert reply.calls == ()
    assert problem in reply.problem
    assert reply.text.startswith("<tool_call>")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("hermes", '{"a": NaN}'),
        ("hermes", '{"a": 1e999}'),
        ("hermes", r'{"a": "\ud83d"}'),
        ("hermes", '{"a": ' * 300 + "1" + "}" * 300),
        ("python", "a={1, 2}"),
        ("python", "a=b'x'"),
    ],
)
def test_arguments_that_no_row_could_hold_make_no_call(name: str, arguments: str) -> None:
    form = answer_form(TOKENIZER, ChatTemplate("x", FORMS[name], ""))
    written = {"hermes": f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'}
    answer = written.get(name, f"<|calls|>[f({arguments})]<|calls_end|>")
    reply = read_reply(answer, form)
    assert (reply.calls, reply.text) == ((), answer)
    assert "the arguments of f" in reply.problem


def test_calls_behind_text_that_follows_others_are_read() -> None:
    form = answer_form(TOKENIZER, ChatTemplate("x", FORMS["hermes"], ""))
    one = '<tool_call>\n{"name": "f%d", "arguments": {}}\n</tool_call>'
    reply = read_reply(f"First {one % 1} then {one % 2}\n{one % 3} done", form)
    assert ([call.name for call in reply.calls], reply.text) == (["f1", "f2", "f3"], "First\nthen\ndone")
    reply = read_reply("\n".join([one % 0] * 65), form)
    assert (reply.calls, reply.problem) == ((), "there are more than 64 calls")


def test_a_call_in_a_thought_is_none_also_where_the_thought_does_not_end() -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    for form in (AnswerForm(), answer_form(TOKENIZER, ChatTemplate("x", FORMS["hermes"], ""))):
        reply = read_reply(f"<think>\nI could {call} or", form)
        assert (reply.calls, reply.text, reply.problem) == ((), "", "")
        assert reply.thought == f"I could {call} or"


def test_an_answer_in_json_is_no_call_where_calls_have_no_mark() -> None:
    bare = "{{ {'name': c.function.name, 'parameters': c.function.arguments} | tojson }}"
    form = answer_form(TOKENIZER, ChatTemplate("x", f"{HEAD}{{{{ m.content }}}}{CALLS}{bare}{TAIL}", ""))
    for text in ('{"city": "Paris"}', '{"name": "Ann", "age": 3}', "{}"):
        assert read_reply(text, form) == Reply(text)
    assert calls_of(read_reply('{"name": "f", "parameters": {"a": 1}}', form)) == [("f", {"a": 1})]


def test_plain_answers_stay_as_they_are() -> None:
    for text in ("It rains.", 'Use {"a": 1}.', "", "a <b> [c] {d"):
        assert read_reply(text, AnswerForm()) == Reply(text)
    assert read_reply("so it\nis</think>\n\nYes.", AnswerForm()) == Reply("Yes.", "so it\nis")


def test_an_answer_is_compared_without_its_thought_and_its_calls() -> None:
    form = answer_form(TOKENIZER, ChatTemplate("x", FORMS["hermes"], ""))
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert said("<think>\nwhy\n</think>\n\n4", "4", form, calls=False) == "4"
    assert said(f"<think>why</think>So: {call}", "So:", form, calls=True) == "So:"
    assert said(f"Write {call}", "Write", form, calls=False) is None
    assert said("<think>why</think>4", "<think>x</think>4", form, calls=False) is None
    assert said("<think>never ends", "4", form, calls=False) is None
    assert said("4", "4", form, calls=False) is None
