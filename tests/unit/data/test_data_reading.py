"""What rows hold is used, refused or told: columns wherever they begin, switches, thoughts, calls, lists as text."""

from __future__ import annotations

import csv
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from engine.data.examples import Example, Examples, Message, ToolCall
from engine.data.find import first_examples
from engine.data.formats import read_examples, read_parts
from engine.data.hermes import for_template
from engine.data.reads import Reads
from engine.errors import EngineError
from engine.profile.schema import Dataset, Profile

ASK = {"role": "user", "content": "Weather in Ulm and Rome?"}
ANSWER = {"role": "assistant", "content": "A"}
CALL: dict[str, Any] = {"role": "assistant", "content": None}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "tells it",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
TOOLS = json.dumps([TOOL])


def read(folder: Path, rows: list[Any], objective: str = "sft", **options: Any) -> Examples:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_examples(Dataset(path="rows.jsonl", **options), folder, objective=objective)


def one(folder: Path, row: Any, objective: str = "sft", **options: Any) -> Example:
    found = read(folder, [row], objective, **options)
    assert not found.bad, found.bad
    return found.examples[0]


def cause(folder: Path, row: Any, **options: Any) -> str:
    good = {"messages": [ASK, {"role": "assistant", "content": "x"}]}
    (bad,) = read(folder, [good, row], **options).bad
    return str(bad)


def texts(example: Example) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in example.messages]


def test_columns_count_whatever_row_they_begin_in(tmp_path: Path) -> None:
    rng = random.Random(7)
    names = ["input", "system", "history", "reasoning", "tools", "enable_thinking", "id"]
    begins = {name: rng.randrange(3000) for name in names}
    values = {"history": [["q", "a"]], "tools": TOOLS, "enable_thinking": True}
    rows = [
        {"instruction": f"i{n}", "output": "o"}
        | {name: values.get(name, f"{name} {n}") for name in names if n >= begins[name]}
        for n in range(3000)
    ]
    parts = list(read_parts(Dataset(path="rows.jsonl"), _written(tmp_path, rows), rows=700))
    found = [example for part in parts for example in part.examples]
    assert len(found) == 3000
    for number, example in enumerate(found):
        has = {name: number >= begin for name, begin in begins.items()}
        asked = f"i{number}" + (f"\ninput {number}" if has["input"] else "")
        assert ("user", asked) in texts(example)
        assert (("system", f"system {number}") in texts(example)) is has["system"]
        assert (("user", "q") in texts(example)) is has["history"]
        assert bool(example.messages[-1].reasoning) is has["reasoning"]
        assert bool(example.tools) is has["tools"]
        assert bool(example.template_arguments) is has["enable_thinking"]
    assert sum(part.unread.get(("column", "id", False), 0) for part in parts) == 3000 - begins["id"]


def _written(folder: Path, rows: list[Any]) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_named_columns_may_begin_late_but_must_be_there(tmp_path: Path) -> None:
    rows = [{"q": "Q", "a": "A"}] * 150 + [{"q": "Q", "a": "A", "ctx": "C"}]
    columns = {"instruction": "q", "output": "a", "input": "ctx"}
    found = read(tmp_path, rows, columns=columns)
    assert texts(found.examples[-1])[0] == ("user", "Q\nC")
    with pytest.raises(EngineError, match="no column 'ctxt'"):
        read(tmp_path, rows, columns={**columns, "input": "ctxt"})


def test_rows_of_several_formats_are_read_each_by_its_own(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b"}, {"messages": [ASK, {"role": "assistant", "content": "c"}]}]
    found = read(
        tmp_path, [*rows, {"instruction": None, "output": "", "messages": None, "prompt": "p", "completion": "x"}]
    )
    assert [example.messages[-1].content for example in found.examples] == ["b", "c", "x"]
    assert all(name in found.why for name in ("alpaca", "messages", "prompt-completion"))


def test_an_empty_answer_is_not_replaced_by_another_formats_text(tmp_path: Path) -> None:
    rows = [{"instruction": "i", "output": "o", "text": "Below"}, {"instruction": "i", "output": "", "text": "Below"}]
    found = read(tmp_path, rows)
    assert (len(found.examples), found.causes) == (1, {"missing answer": 1})


@pytest.mark.parametrize(
    ("row", "objective", "first"),
    [
        ({"question": "Q", "context": "C", "answer": "A"}, "sft", "Q\nC"),
        ({"query": "Q", "input": "C", "response": "A"}, "sft", "Q\nC"),
        ({"instruction": "Q", "input": "C", "chosen": "A", "rejected": "B"}, "dpo", "Q\nC"),
        ({"prompt": "Q", "context": "C", "chosen": "A", "rejected": "B"}, "reward", "Q\nC"),
        ({"instruction": "Q", "input": "C", "output": "A", "kto_tag": True}, "kto", "Q\nC"),
        ({"prompt": "Q", "history": [["x", "y"]], "chosen": "A", "rejected": "B"}, "dpo", "x"),
        ({"prompt": "Q", "history": "[('x', 'y')]", "completion": "A", "label": 1.0}, "kto", "x"),
        ({"query": "Q", "response": "A", "history": [{"role": "user", "content": "x"}, ANSWER]}, "sft", "x"),
    ],
)  # fmt: skip
def test_what_stands_beside_a_question_is_in_the_prompt(tmp_path: Path, row: Any, objective: str, first: str) -> None:
    example = one(tmp_path, {**row, "system_prompt": "S"}, objective)
    assert texts(example)[:2] == [("system", "S"), ("user", first)]
    assert texts(example)[-2][1].startswith("Q")


def test_what_is_not_read_is_counted_and_told_apart(tmp_path: Path) -> None:
    row = {"id": 1, "split": "test", "source": "", "messages": [
        {**ASK, "weight": 1, "custom": "x"}, {"role": "assistant", "content": "A", "prefix": True}]}  # fmt: skip
    found = read(tmp_path, [row] * 3, objective="sft")
    assert found.unread == {
        ("column", "id", False): 3,
        ("column", "split", True): 3,
        ("message key", "weight of a user turn", True): 3,
        ("message key", "custom", False): 3,
        ("message key", "prefix", True): 3,
    }
    assert not read(tmp_path, [row], ignored_columns=["id", "split"]).unread.keys() & {("column", "id", False)}


@pytest.mark.parametrize("key", ["train", "trainable", "training", "weight", "loss"])
def test_every_switch_of_a_message_is_honoured(tmp_path: Path, key: str) -> None:
    bad = {"role": "assistant", "content": "bad", key: 0}
    example = one(tmp_path, {"messages": [ASK, bad, ASK, {"role": "assistant", "content": "good", key: 1.0}]})
    assert [message.train for message in example.messages] == [False, False, False, True]
    assert key in cause(tmp_path, {"messages": [ASK, {**bad, key: 0.5}]})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [{**ASK, "train": True}, ANSWER]}, "only answers"),
        ({"images": ["a.jpg"], "messages": [ASK, ANSWER]}, "images"),
        ({"messages": [{**ASK, "audio": "a.wav"}, ANSWER]}, "audio"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "text": "x"}]}]}, "not text"),
        ({"conversation": [{"speaker": "human", "text": "hi"}]}, "needs role and content"),
        ({"messages": [ASK, {**CALL, "tool_calls": [{"name": "f", "arguments": "x"}]}]}, "no JSON object"),
        ({"messages": [ASK, {**CALL, "function_call": {"name": "f", "arguments": [1]}}]}, "no JSON object"),
        ({"messages": [ASK, {"role": "function_call", "content": "look it up"}]}, "a call cannot be read"),
        ({"tools": "weather", "messages": [ASK, ANSWER]}, "tools cannot be read"),
        ({"prompt": '[{"role": "user", "content": "hi"', "completion": "x"}, "messages as text cannot be read"),
        ({"prompt": [ASK], "input": "x", "completion": "A"}, "two prompts"),
        ({"instruction": "i", "output": 7}, "values_as_text"),
        ({"chat_template_kwargs": {"tokenize": True}, "messages": [ASK, ANSWER]}, "argument"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_refused_in_words(tmp_path: Path, row: Any, said: str) -> None:
    assert said in cause(tmp_path, row)


def test_numbers_are_answers_where_the_data_set_says_so(tmp_path: Path) -> None:
    row = {"instruction": "2 + 2?", "output": 4}
    assert one(tmp_path, row, values_as_text=True).messages[-1].content == "4"
    assert one(tmp_path, {**row, "output": True}, values_as_text=True).messages[-1].content == "true"


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_thoughts_go_with_their_answer(tmp_path: Path, key: str) -> None:
    said = {"role": "assistant", "content": "2", key: "one and one"}
    assert one(tmp_path, {"messages": [ASK, said]}).messages[-1] == Message("assistant", "2", True, "one and one")
    assert (
        one(tmp_path, {"question": "1+1?", key: "one and one", "answer": "2"}).messages[-1].reasoning == "one and one"
    )
    parts = [{"type": "thinking", "thinking": "one and one"}, {"type": "text", "text": "2"}]
    assert one(tmp_path, {"messages": [ASK, {"role": "assistant", "content": parts}]}).messages[-1].reasoning


CALLED = (
    Message("user", ASK["content"]),
    Message(
        "assistant", "", True, "", (ToolCall("weather", '{"town": "Ulm"}'), ToolCall("weather", '{"town": "Rome"}'))
    ),
    Message("tool", "rain"),
    Message("tool", "sun"),
    Message("assistant", "Rain and sun.", True),
)
FLAT = [{"name": "weather", "arguments": {"town": town}} for town in ("Ulm", "Rome")]
NESTED = [
    {"type": "function", "function": {"name": "weather", "arguments": json.dumps(call["arguments"])}} for call in FLAT
]
RESULTS = [{"role": "tool", "content": "rain"}, {"role": "tool", "content": "sun"}]
END = {"role": "assistant", "content": "Rain and sun."}
SHAREGPT = [
    {"from": "human", "value": ASK["content"]},
    {"from": "function_call", "value": json.dumps(FLAT)},
    {"from": "observation", "value": "rain"},
    {"from": "observation", "value": "sun"},
    {"from": "gpt", "value": END["content"]},
]
TEXT_CALLS = "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in FLAT)
TEXT_RESULTS = "\n".join(f"<tool_response>\n{text}\n</tool_response>" for text in ("rain", "sun"))
TEXT_TURNS = [
    ASK,
    {"role": "assistant", "content": TEXT_CALLS},
    {"role": "user", "content": TEXT_RESULTS},
    END,
]
HERMES = {
    "role": "system",
    "content": "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with"
    f" function signatures within <tools></tools> XML tags:\n<tools>\n{json.dumps(TOOL)}\n</tools>\n\nFor each function"
    " call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>"
    '\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>',
}
NULLS = {"role": None, "content": None, "tool_calls": None, "tool_call_id": None, "weight": None}
FORMS: dict[str, dict[str, Any]] = {
    "openai": {"tools": [TOOL], "messages": [ASK, {**CALL, "tool_calls": NESTED}, *RESULTS, END]},
    "arguments as objects": {"tools": TOOLS, "messages": [
        ASK, {"role": "assistant", "content": "", "tool_calls": FLAT}, *RESULTS, END]},
    "functions": {"functions": [TOOL["function"]], "messages": [
        ASK, {**CALL, "tool_calls": json.dumps(NESTED)}, *({**r, "role": "function"} for r in RESULTS), END]},
    "sharegpt": {"tools": json.dumps([TOOL["function"]]), "conversations": SHAREGPT},
    "one call a turn": {"tools": TOOLS, "conversations": [
        SHAREGPT[0], *({"from": "function_call", "value": json.dumps(call)} for call in FLAT), *SHAREGPT[2:]]},
    "hermes text": {"messages": [HERMES, *TEXT_TURNS]},
    "hermes text beside tools": {"tools": TOOLS, "messages": TEXT_TURNS},
    "nulls of a table": {"tools": [TOOL], "messages": [
        {**NULLS, **ASK},
        {**NULLS, **CALL, "tool_calls": [{**call, "arguments": {**call["arguments"], "x": None}} for call in FLAT]},
        *({**NULLS, **turn} for turn in (*RESULTS, END))]},
    "python's writing": {"tools": str([TOOL]), "messages": str(
        [ASK, {**CALL, "tool_calls": FLAT}, *RESULTS, END])},
    "tools in a message": {"messages": [{"role": "system", "content": "", "tools": [TOOL]}, ASK,
        {**CALL, "tool_calls": NESTED}, *RESULTS, END]},
    "prompt and completion": {"tools": TOOLS, "prompt": [ASK],
        "completion": [{**CALL, "tool_calls": NESTED}, *RESULTS, END]},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_calls_is_the_same_conversation(tmp_path: Path, form: str) -> None:
    example = one(tmp_path, FORMS[form])
    assert example.messages == CALLED
    assert json.loads(example.tools) == [TOOL]


def test_answers_of_rows_without_messages_may_be_calls(tmp_path: Path) -> None:
    calls = CALLED[1]
    assert one(tmp_path, {"query": "Q", "tools": TOOLS, "answers": json.dumps(FLAT)}).messages[-1] == calls
    assert one(tmp_path, {"instruction": "Q", "tools": TOOLS, "output": TEXT_CALLS}).messages[-1] == calls
    other = '{"name": "Rome", "arguments": {}}'
    assert one(tmp_path, {"instruction": "Q", "tools": TOOLS, "output": other}).messages[-1].content == other
    assert one(tmp_path, {"instruction": "Q", "output": json.dumps(FLAT)}).messages[-1].content == json.dumps(FLAT)


def test_text_calls_without_tools_stay_text_and_are_told(tmp_path: Path) -> None:
    found = read(tmp_path, [{"messages": TEXT_TURNS}])
    assert found.examples[0].messages[1].content == TEXT_CALLS
    assert any("stay text" in note for note in found.notes)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASK, {**ANSWER, "content": "<tool_call>" * 200_000}], "tools": TOOLS},
        {"messages": [{"role": "system", "content": "<tools>[" * 200_000}, ASK, {**ANSWER, "content": "<tool_call>"}]},
        {"prompt": "x", "messages": "[{'a':" * 200_000},
        {"prompt": "[" * 2_000_000, "completion": "x"},
        {"prompt": "x", "messages": "['" + "\\'" * 500_000},
    ],
)
def test_hostile_rows_are_read_in_little_time(tmp_path: Path, row: Any) -> None:
    began = time.process_time()
    assert read(tmp_path, [row, {"prompt": "p", "completion": "c"}]).rows_read == 2
    assert time.process_time() - began < 3


@pytest.mark.parametrize("has_calls", [True, False])
def test_text_calls_are_calls_only_where_the_template_has_them(tmp_path: Path, has_calls: bool) -> None:
    reads = Reads(True, has_calls, "reasoning_content", has_calls, has_calls)
    (example,) = for_template([one(tmp_path, FORMS["hermes text"])], lambda: reads)
    assert (example.messages == CALLED) is has_calls
    assert bool(example.tools) is has_calls
    if not has_calls:
        assert texts(example)[2] == ("assistant", TEXT_CALLS)
        assert [message.train for message in example.messages] == [False, False, True, False, True]


TURNS = [{"role": "user", "content": 'Say "hi"\n it\'s'}, {"role": "assistant", "content": "a } { b"}]


@pytest.mark.parametrize(
    "cell",
    [
        json.dumps(TURNS),
        json.dumps(TURNS, indent=1),
        str(TURNS),
        str(TURNS).replace("}, {", "}\n {"),
        "array([" + str(TURNS)[1:-1] + "], dtype=object)",
    ],
)
def test_messages_in_a_cell_are_read_however_they_are_written(tmp_path: Path, cell: str) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["messages"], [cell]])
    with (tmp_path / "b.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["prompt", "completion"], ["Q", cell]])
    found = read_examples(Dataset(path="a.csv"), tmp_path)
    assert [message.content for message in found.examples[0].messages] == [turn["content"] for turn in TURNS]
    assert read_examples(Dataset(path="b.csv"), tmp_path).examples[0].messages[-1].content == "a } { b"


def test_empty_cells_that_say_nan_are_empty_and_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("instruction,input,output\nx,nan,1\ny,None,2\nz,,nan\n")
    found = read_examples(Dataset(path="a.csv"), tmp_path)
    assert [example.messages[0].content for example in found.examples] == ["x", "y"]
    assert any("'nan' count as empty" in note for note in found.notes)
    assert "'output' is 'nan'" in str(found.bad[0])
    kept = read_examples(Dataset(path="a.csv", values_as_text=True), tmp_path)
    assert kept.examples[2].messages[-1].content == "nan"
    (tmp_path / "b.jsonl").write_text('{"instruction": "x", "input": NaN, "output": "1"}\n' * 3)
    empty = read_examples(Dataset(path="b.jsonl"), tmp_path)
    assert empty.examples[0].messages[0].content == "x"
    assert empty.notes == {"NaN counts as empty": 3}


def test_nulls_of_a_parquet_struct_are_absent(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    none = {"role": None, "content": None}
    rows = [
        {"messages": [{**ASK, "from": None, "value": None}, {**ANSWER, "from": None, "value": None}]},
        {"messages": [{**none, "from": "human", "value": ASK["content"]}, {**none, "from": "gpt", "value": "A"}]},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    first, second = read_examples(Dataset(path="a.parquet"), tmp_path).examples
    assert first.messages == second.messages


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '[\n{"prompt": "a", "completion": "b"},\n]', "a comma without a row behind it, after row 1"),
        ("a.json", '[{"prompt": "a", "completion": "b",}]', "a comma before the closing bracket"),
        ("a.json", '{\n "prompt": "a"\n}\n{\n "prompt": "b"\n}', "objects stand one after another"),
        ("a.jsonl", '{\n "prompt": "a"\n}\n{\n "prompt": "b"\n}', "objects stand one after another"),
        ("a.json", '{"v": 1, "data": [{"prompt": "a", "completion": "b"}]}', "rows are a list under 'data'"),
        ("a.json", '{"prompt": {"0": "a", "1": "b"}, "completion": {"0": "c", "1": "d"}}', "holds all rows by number"),
        ("a.json", '{"0": {"prompt": "a", "completion": "b"}}', "holds all rows by number"),
        ("a.jsonl", '{"prompt": "a", "completion": "b"},\n', "a comma behind the object"),
        ("a.json", "[{'prompt': 'a'}]", "Python's writing"),
        ("a.json", '[{"prompt": "a", "completion": None}]', "Python's writing"),
        ("a.json", '[\n// rows\n{"prompt": "a"}]', "a comment"),
        ("a.json", '[{"prompt": "a\nb"}]', "a line break or tab"),
    ],
)
def test_broken_json_is_refused_by_its_mistake(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(EngineError) as caught:
        read_examples(Dataset(path=name), tmp_path)
    assert said in caught.value.message


@pytest.mark.parametrize(("documents", "count"), [("file", 1), ("paragraph", 2), ("line", 3)])
def test_plain_text_is_read_as_documents(tmp_path: Path, documents: str, count: int) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOne\r\ntwo.\n\n\nThree \xc3\xa9.\n")
    found = read_examples(Dataset(path="a.txt", documents=documents), tmp_path)
    assert [example.kind for example in found.examples] == ["text"] * count
    assert found.examples[0].messages[0].content.startswith("One")
    (tmp_path / "b.txt").write_bytes(b"ok\n\nbad \xff\n")
    assert "line 3" in str(read_examples(Dataset(path="b.txt", documents="line"), tmp_path).bad[0])


def test_files_by_pattern_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", "readme.md"):
        (tmp_path / "data" / name).write_text(json.dumps({"prompt": name, "completion": "x"}) + "\n")

    def asked(pattern: str) -> list[str]:
        parts = read_parts(Dataset(path=pattern), tmp_path)
        return [example.messages[0].content for part in parts for example in part.examples]

    assert asked("data/*.jsonl") == asked("data/*") == ["a.jsonl", "b.jsonl"]
    assert asked("data/**/*.jsonl") == ["a.jsonl", "b.jsonl", "deep/c.jsonl"]
    with pytest.raises(EngineError, match="no data file matches"):
        asked("data/*.csv")
    (tmp_path / "data" / "d.jsonl.gz").write_bytes(b"\x1f\x8b123")
    with pytest.raises(EngineError, match="gzip"):
        asked("data/*")


def test_each_data_set_can_be_previewed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "completion": "x"}) * 1 + "\n")
    tree = {"model": {"name_or_path": "m"}, "data": {"datasets": [{"path": "a.jsonl"}, {"path": "b.jsonl"}]}}
    settings = Profile.model_validate(tree)
    asked = {number: first_examples(settings, tmp_path, 2, number)[0] for number in (0, 1, 2)}
    assert {number: [example.messages[0].content for example in found] for number, found in asked.items()} == {
        0: ["a", "b"], 1: ["a"], 2: ["b"],
    }  # fmt: skip
    with pytest.raises(EngineError, match="no data set 3"):
        first_examples(settings, tmp_path, 2, 3)
