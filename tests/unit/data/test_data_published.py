"""Rows in the form of published sets: what they say is learned, refused or told, never another thing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.examples import ToolCall
from engine.data.prepare import prepare
from engine.data.unread import told
from engine.errors import EngineError
from engine.profile.schema import Profile
from tests.unit.data.test_data_reading import ASK, CALLED, END, HERMES, TEXT_TURNS, TOOL, TOOLS, cause, one, read, texts

CALL: dict[str, Any] = {"role": "assistant", "content": None}
ANSWER = {"role": "assistant", "content": "A"}


def warned(folder: Path, row: Any, objective: str = "sft", **options: Any) -> list[str]:
    return [str(one) for one in told(read(folder, [row], objective, **options).unread) if one.matters]


def test_tools_in_a_system_message_are_tools_in_rows_without_calls_too(tmp_path: Path) -> None:
    """Else the prompt's form would tell the model whether to call."""
    example = one(tmp_path, {"messages": [HERMES, ASK, END]})
    assert json.loads(example.tools) == [TOOL]
    assert [role for role, _ in texts(example)] == ["user", "assistant"]
    assert example.as_text[0].content == HERMES["content"]


def test_tools_that_a_column_repeats_are_written_once(tmp_path: Path) -> None:
    example = one(tmp_path, {"tools": TOOLS, "messages": [HERMES, *TEXT_TURNS]})
    assert example.messages == CALLED
    assert example.as_text[0].content == HERMES["content"]
    other = TOOLS.replace("weather", "clock")
    assert one(tmp_path, {"tools": other, "messages": [HERMES, *TEXT_TURNS]}).messages[0].role == "system"


@pytest.mark.parametrize("word", ["on", "off", "High"])
def test_a_column_that_switches_reasoning_is_no_thought(tmp_path: Path, word: str) -> None:
    row = {"input": [ASK], "output": "A", "reasoning": word, "system_prompt": "detailed thinking on"}
    example = one(tmp_path, row)
    assert texts(example) == [("system", "detailed thinking on"), ("user", ASK["content"]), ("assistant", "A")]
    assert example.messages[-1].reasoning == ""


def test_a_switch_of_reasoning_beside_a_question_is_told(tmp_path: Path) -> None:
    row = {"question": "Q", "answer": "A", "reasoning": "off"}
    assert one(tmp_path, row).messages[-1].reasoning == ""
    assert warned(tmp_path, row) == ["column 'reasoning'"]


def test_an_input_of_zero_is_an_input(tmp_path: Path) -> None:
    row = {"instruction": "Double it", "input": 0, "output": 0}
    assert one(tmp_path, row, values_as_text=True).messages[0].content == "Double it\n0"
    assert "values_as_text" in cause(tmp_path, {**row, "output": "0"})


def test_a_message_names_tools_wherever_it_stands(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "S", "tools": None}, {**ASK, "tools": [TOOL]}, ANSWER]
    assert json.loads(one(tmp_path, {"messages": turns}).tools) == [TOOL]
    other = json.loads(TOOLS.replace("weather", "clock"))
    assert "several lists of tools" in cause(tmp_path, {"messages": [*turns[1:], {**ASK, "tools": other}, ANSWER]})
    assert warned(tmp_path, {"tools": other, "messages": turns}) == ["message key 'tools'"]


def test_arguments_under_an_unknown_name_refuse_the_call(tmp_path: Path) -> None:
    called = {"name": "weather", "kwargs": {"town": "Ulm"}}
    assert "kwargs" in cause(tmp_path, {"messages": [ASK, {**CALL, "tool_calls": [called]}]})
    plain = one(
        tmp_path, {"messages": [ASK, {**CALL, "tool_calls": [{"id": "c1", "type": "function", "name": "now"}]}]}
    )
    assert plain.messages[-1].calls == (ToolCall("now", "{}", "c1"),)


def test_two_thoughts_before_two_calls_both_stay(tmp_path: Path) -> None:
    turns = [
        {"role": role, "content": content, "reasoning": thought}
        for role, content, thought in (("assistant", "Wait.", "one"), ("function_call", '{"name": "f"}', "two"))
    ]
    assert [message.reasoning for message in one(tmp_path, {"messages": [ASK, *turns]}).messages] == ["", "one", "two"]


@pytest.mark.parametrize(("column", "word"), [("instruction", "nan"), ("input", "None"), ("output", "NaN")])
def test_the_words_of_empty_cells_are_told_in_every_column(tmp_path: Path, column: str, word: str) -> None:
    row = {"instruction": "i", "input": "x", "output": "o", column: word}
    assert list(read(tmp_path, [row]).notes) == [f"'{column}' is the word '{word}', as pandas writes an empty cell"]


def test_answers_that_call_tools_that_are_not_offered_are_told(tmp_path: Path) -> None:
    row = {"query": "Q", "tools": TOOLS, "answers": json.dumps([{"name": "clock", "arguments": {}}])}
    assert any("look like calls stay text" in note for note in read(tmp_path, [row]).notes)
    assert not read(tmp_path, [{**row, "answers": '{"town": "Ulm"}'}]).notes


@pytest.mark.parametrize("nothing", ["null", "None", "[]", ""])
def test_no_tools_may_be_written_as_text(tmp_path: Path, nothing: str) -> None:
    assert one(tmp_path, {"tools": nothing, "messages": [ASK, {**ANSWER, "tool_calls": nothing}]}).tools == ""


def test_a_refusal_names_the_columns_of_its_own_format(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        read(tmp_path, [{"input": "Q", "preferred_output": "A", "non_preferred_output": "B"}], "dpo")
    assert "chosen = '…', rejected = '…'" in caught.value.hint


def test_several_files_of_a_set_are_told_as_such(
    tmp_path: Path, tokenizer: Any, write_rows: Callable[..., str], make_settings: Callable[..., Profile]
) -> None:
    for name in ("a", "b"):
        write_rows([{"prompt": name, "completion": "x"}], f"{name}.jsonl")
    report = prepare(make_settings("*.jsonl"), tokenizer, tmp_path, lambda done, total: None).report
    assert report.datasets[0].notes[0].startswith("2 files, this one first")


@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ({"prompt": "P", "text": "T"}, ["column 'prompt'"]),
        ({"prompt": "P", "text": "### P: T", "id": "7"}, []),
        ({"role": "prompter", "text": "T", "parent_id": "x"}, ["column 'role'"]),
        ({"question": "Q", "solution": "because", "answer": "A"}, ["column 'solution'"]),
        ({"prompt": "P", "messages": [ASK, ANSWER], "solution": "s"}, []),
    ],
)
def test_columns_that_say_more_than_the_text_are_told_as_such(tmp_path: Path, row: Any, lost: list[str]) -> None:
    assert warned(tmp_path, row) == lost


@pytest.mark.parametrize(
    ("beside", "lost"),
    [
        ({"prompt": ASK["content"]}, []),
        ({"prompt": [ASK]}, []),
        ({"prompt": "P", "input": "I"}, ["column 'input'", "column 'prompt'"]),
        ({"history": [["x", "y"]]}, ["column 'history'"]),
    ],
)
def test_prompts_beside_whole_conversations_are_told(tmp_path: Path, beside: Any, lost: list[str]) -> None:
    row = {**beside, "chosen": [ASK, ANSWER], "rejected": [ASK, {**ANSWER, "content": "B"}]}
    assert warned(tmp_path, row, "dpo") == lost


def test_text_calls_of_compared_answers_are_told(tmp_path: Path) -> None:
    row = {"tools": TOOLS, "prompt": "Q", "chosen": TEXT_TURNS[1]["content"], "rejected": "x"}
    assert any("stay text in rows that compare" in note for note in read(tmp_path, [row], "dpo").notes)


def test_a_conversation_that_teaches_another_answer_is_no_duplicate(
    tmp_path: Path, tokenizer: Any, write_rows: Callable[..., str], make_settings: Callable[..., Profile]
) -> None:
    def row(*trained: int) -> Any:
        turns = [turn for at in range(2) for turn in (ASK, {**ANSWER, "content": f"A{at}", "train": at in trained})]
        return {"messages": turns}

    settings = make_settings(write_rows([row(0), row(1), row(1)]), deduplicate=True)
    (dataset,) = prepare(settings, tokenizer, tmp_path, lambda done, total: None).report.datasets
    assert (dataset.kept, [drop.rows for drop in dataset.dropped]) == (2, [1])


def test_half_a_surrogate_in_tools_is_a_bad_row(tmp_path: Path) -> None:
    tool = {"name": "f", "description": "\ud800"}
    assert "surrogate" in cause(tmp_path, {"tools": [tool], "messages": [ASK, ANSWER]})


def test_a_conversation_over_two_cells_is_read_whole(tmp_path: Path) -> None:
    row = {"instruction": str([ASK]), "output": json.dumps([ANSWER])}
    assert texts(one(tmp_path, row)) == [("user", ASK["content"]), ("assistant", "A")]
