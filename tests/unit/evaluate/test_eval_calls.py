"""Which tool calls of held-out rows are asked for, and what is wanted of them."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoTokenizer

from engine.data.examples import Example, Message, ToolCall
from engine.demo.paths import model_dir
from engine.evaluate.calls import CallInputs, call_inputs, call_scores
from engine.evaluate.measure import Questions, _as_said, inputs_of
from engine.inference.answers import Answer
from engine.inference.evaluated import _folders, _short_names
from engine.inference.rows import HeldOut
from engine.profile.schema import Profile

SETTINGS = Profile.model_validate({"model": {"name_or_path": "demo"}, "data": {"datasets": [{"path": "x"}]}})
TOOLS = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}])
HEAD = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
CALLS = "{% for c in m.tool_calls or [] %}"
TAIL = "{% endfor %}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
HERMES = "<tool_call>{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</tool_call>"


def inputs(source: str) -> CallInputs:
    tokenizer = AutoTokenizer.from_pretrained(model_dir(), local_files_only=True)
    tokenizer.chat_template = source
    call = Message("assistant", "", True, calls=(ToolCall("add", '{"a": 1}'),))
    rows = [HeldOut(Example((Message("user", f"add {number}"), call), number, tools=TOOLS)) for number in range(3)]
    found = call_inputs(rows, tokenizer, SETTINGS, 500)
    assert found is not None
    return found


def test_calls_that_cannot_be_read_back_give_no_marks_to_silence() -> None:
    found = inputs(HEAD + CALLS + "CALL:{{ c.function.arguments | length }}:{{ c.function.name }}" + TAIL)
    assert (found.questions, found.unread) == ((), 3)


def test_a_prompt_that_ends_with_an_empty_thought_takes_nothing_of_the_call() -> None:
    found = inputs(HEAD + CALLS + HERMES + TAIL.replace("<assistant>", "<assistant><think></think>"))
    assert (len(found.questions), found.unread) == (3, 0)
    assert [call.name for call in found.questions[0].wanted.calls] == ["add"]
    right = Answer("", 1, True, False, '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
    scores = call_scores([right, Answer("", 1, True, False, "No."), right], found)
    assert scores["tools_right"] == [1, 0, 1]


def test_answers_are_scored_without_the_thought_that_rows_hold_apart() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir(), local_files_only=True)
    tokenizer.chat_template = HEAD + CALLS + HERMES + TAIL
    turns = (Message("user", "2 + 2?"), Message("assistant", "4", True, reasoning="Two twice."))
    what = Questions([HeldOut(Example(turns, 1))], None, SETTINGS, 500, 500)
    inputs = inputs_of(what, tokenizer, lambda code, message: None)
    thought = "<think>\nTwo twice.\n</think>\n\n4"
    answer = Answer(thought, 9, True, False, f"{thought}{tokenizer.eos_token}")
    assert _as_said(answer, what.rows[0], inputs).text == "4"


def test_no_two_sets_of_rows_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").touch()
    deep = "/data/of/many/experiments/with/long/names/that/go/on"
    for names in (
        ["тест.jsonl", "проба.jsonl"],
        ["a b", "a-b", "A b"],
        ["events.jsonl", "report.json", "harness"],
        _short_names([f"{deep}/one/test.jsonl", f"{deep}/two/test.jsonl"]),
    ):
        folders = [str(folder).casefold() for folder in _folders(names, tmp_path)]
        assert len(set(folders)) == len(names)
        assert not {"events.jsonl", "report.json", "harness"} & {Path(folder).name for folder in folders}
    assert _folders(["hard"], tmp_path) == [tmp_path / "hard"]
    assert _folders(["hard"], None) == [None]
