"""Reading rows: every format, every kind of file, and everything that a file can have wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.data import rows as rows_module
from engine.data.accounts import Account, Source, check_bad_fraction, take
from engine.data.examples import Example, Examples, Message
from engine.data.formats import read_examples, with_system
from engine.errors import EngineError, ExitCode
from engine.profile.schema import Dataset, Profile

GOOD = {"instruction": "Name a colour.", "input": "", "output": "Blue."}
PAIR = (Message("user", "Name a colour."), Message("assistant", "Blue.", True))


def read(folder: Path, name: str, content: str | bytes | None = None, **options: Any) -> Examples:
    if content is not None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_examples(Dataset(path=name, **options), folder)


def sources(found: Examples) -> list[Source]:
    account = Account(Profile.model_validate({"model": {"name_or_path": "m"}, "data": {"datasets": [{"path": "a"}]}}))
    take(account, 0, found)
    return list(account.sources.values())


def lines(*values: Any) -> str:
    return "".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values)


def refused(folder: Path, name: str, content: str | bytes | None = None, **options: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        read(folder, name, content, **options)
    assert caught.value.code is ExitCode.DATA
    return caught.value


SHAREGPT = {"conversations": [{"from": "human", "value": "Name a colour."}, {"from": "gpt", "value": "Blue."}]}
OPENAI = {"messages": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}]}
PARTS = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Name a "}, {"type": "text", "text": "colour."}]},
        {"role": "assistant", "content": "Blue."},
    ]
}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (GOOD, "alpaca"),
        ({"instruction": "Name a colour.", "response": "Blue."}, "alpaca"),
        (SHAREGPT, "messages"),
        (OPENAI, "messages"),
        (PARTS, "messages"),
        ({"messages": json.dumps(OPENAI["messages"])}, "messages"),
        ({"prompt": "Name a colour.", "completion": "Blue."}, "prompt-completion"),
        ({"question": "Name a colour.", "answer": "Blue."}, "prompt-completion"),
        ({"prompt": OPENAI["messages"][:1], "completion": OPENAI["messages"][1:]}, "prompt-completion"),
    ],
)
def test_every_format_becomes_the_same_conversation(tmp_path: Path, row: dict[str, Any], name: str) -> None:
    found = read(tmp_path, "a.jsonl", lines(row))
    assert found.examples[0].messages == PAIR
    assert found.format == name
    assert found.why.startswith(f"{name} (recognized): columns ")


def test_alpaca_with_input_system_and_history(tmp_path: Path) -> None:
    row = {**GOOD, "input": "A warm one.", "system": "Be brief.", "history": [["Hello", "Hi."]]}
    assert read(tmp_path, "a.json", json.dumps([row])).examples[0].messages == (
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Hi.", True),
        Message("user", "Name a colour.\nA warm one."),
        Message("assistant", "Blue.", True),
    )


@pytest.mark.parametrize(("key", "value"), [("train", False), ("weight", 0)])
def test_a_turn_can_be_left_out_of_training(tmp_path: Path, key: str, value: Any) -> None:
    turns = [*OPENAI["messages"][:1], {"role": "assistant", "content": "Hm.", key: value}, *OPENAI["messages"]]
    found = read(tmp_path, "a.jsonl", lines({"messages": turns})).examples[0]
    assert [message.train for message in found.messages] == [False, False, False, True]


def test_text_rows_are_recognised(tmp_path: Path) -> None:
    found = read(tmp_path, "a.jsonl", lines({"text": "Once upon a time."})).examples[0]
    assert (found.kind, found.messages) == ("text", (Message("assistant", "Once upon a time.", True),))


def test_turns_after_the_last_answer_are_left_out_and_told(tmp_path: Path) -> None:
    found = read(tmp_path, "a.jsonl", lines({"messages": [*OPENAI["messages"], {"role": "user", "content": "Why?"}]}))
    assert found.examples[0].messages == PAIR
    assert found.notes == {"turns after the last answer left out": 1}


def test_columns_can_be_named(tmp_path: Path) -> None:
    row = lines({"frage": "Name a colour.", "antwort": "Blue."})
    assert (
        read(tmp_path, "a.jsonl", row, columns={"prompt": "frage", "completion": "antwort"}).examples[0].messages
        == PAIR
    )
    unknown = refused(tmp_path, "a.jsonl", row)
    assert "antwort, frage" in unknown.message
    assert "columns = {" in unknown.hint
    assert "did you mean 'prompt'" in refused(tmp_path, "a.jsonl", row, columns={"promt": "frage"}).hint
    assert "antwort, frage" in refused(tmp_path, "a.jsonl", row, columns={"prompt": "fragen"}).hint


def test_a_named_format_must_fit(tmp_path: Path) -> None:
    assert "not in the format messages" in refused(tmp_path, "a.jsonl", lines(GOOD), format="messages").message


def test_preference_pairs_are_refused_with_a_way_out(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": "b"}
    assert "completion = 'chosen'" in refused(tmp_path, "a.jsonl", lines(row)).hint
    mapped = read(tmp_path, "a.jsonl", lines(row), columns={"completion": "chosen"})
    assert mapped.examples[0].messages[-1].content == "a"


BAD_ROWS = [
    ({**GOOD, "output": "  "}, "missing answer"),
    ({"instruction": "x"}, "missing answer"),
    ({**GOOD, "output": 7}, "wrong type"),
    ({**GOOD, "output": ["x"]}, "wrong type"),
    ({**GOOD, "instruction": ""}, "missing prompt"),
    ({**GOOD, "history": "x"}, "wrong type"),
    ({**GOOD, "output": "\ud800"}, "not valid Unicode"),
    (["x"], "not an object"),
    (None, "not an object"),
    ("{", "not valid JSON"),
    ("[" * 100_000, "not valid JSON"),
    ('{"a": ' + "1" * 5000 + "}", "not valid JSON"),
]


@pytest.mark.parametrize(("row", "cause"), BAD_ROWS)
def test_bad_rows_are_collected_with_row_line_and_cause(tmp_path: Path, row: Any, cause: str) -> None:
    found = read(tmp_path, "a.jsonl", lines(GOOD, "", row, GOOD))
    assert (found.rows_read, len(found.examples), found.causes) == (3, 2, {cause: 1})
    assert found.bad[0].where(found.path) == "a.jsonl, row 2 (line 3)"


@pytest.mark.parametrize(
    ("turns", "cause"),
    [
        ("x", "wrong type"),
        (None, "missing messages"),
        ([], "no assistant turn"),
        (["x"], "wrong type"),
        (OPENAI["messages"][:1], "no assistant turn"),
        ([{"role": "wizard", "content": "x"}], "unknown role"),
        ([{"role": "assistant", "content": "x"}], "begins with an answer"),
        ([*OPENAI["messages"][:1], {"role": "assistant", "content": ""}], "missing answer"),
        ([*OPENAI["messages"][:1], {"role": "assistant", "tool_calls": [1]}], "a call cannot be read"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, *OPENAI["messages"][1:]], "not text"),
        ([*OPENAI["messages"][:1], {"role": "assistant", "content": "x", "train": False}], "no trained answer"),
        ([*OPENAI["messages"][:1], {"role": "assistant", "content": "x", "train": "no"}], "wrong type"),
    ],
)
def test_bad_conversations(tmp_path: Path, turns: Any, cause: str) -> None:
    assert read(tmp_path, "a.jsonl", lines(OPENAI, {"messages": turns})).causes == {cause: 1}


def test_encodings(tmp_path: Path) -> None:
    plain = lines(GOOD)
    for content in (
        b"\xef\xbb\xbf" + plain.encode(),
        plain.replace("\n", "\r\n"),
        b"\xef\xbb\xbf[" + plain.encode() + b"]",
    ):
        assert read(tmp_path, "a.jsonl", content).examples[0].messages == PAIR
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        error = refused(tmp_path, "a.jsonl", plain.encode(encoding))
        assert "row 1" in error.message
        assert "UTF-16" in f"{error.message} {error.hint}" or "UTF-32" in error.message
    assert read(tmp_path, "a.jsonl", plain.encode() + b'{"instruction": "\xff"}\n').causes == {"not UTF-8": 1}
    assert "line 2" in refused(tmp_path, "a.json", b'[\n{"instruction": "\xff"}]').message
    late_nul = lines(*[GOOD] * 2000).encode() + b"\0\0\n"
    assert read(tmp_path, "a.jsonl", late_nul).causes == {"NUL bytes": 1}
    assert "row 3" in refused(tmp_path, "a.jsonl", lines(GOOD, GOOD).encode() + b"\0\0").message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda row: f"[{row}, {row[:-5]}", "row 2 (line 1): not valid JSON"),
        (lambda row: f"[{row},\n{row}", "after row 2 (line 2): the file ends here"),
        (lambda row: f"[{row} {row}]", "after row 1 (line 1): ',' or ']' expected"),
        (lambda row: f"[{row},\n\n{{bad}}]", "row 2 (line 3)"),
        (lambda row: f"[{row}] trailing", "text follows"),
        (lambda row: f'{{"data": [{row}],\n "v": 1}}', "rows are a list under 'data'"),
        (lambda row: "[]", "no rows"),
        (lambda row: "[" * 100_000, "nested too deeply"),
        (lambda row: "[1, 2]", "rows must be objects"),
        (lambda row: " \n ", "not valid JSON"),
    ],
)
def test_broken_json_lists_name_the_row(tmp_path: Path, content: Any, told: str) -> None:
    error = refused(tmp_path, "a.json", content(json.dumps(GOOD)))
    assert told in error.message
    assert error.where.endswith("a.json")


def test_json_lines_called_json_are_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, "a.json", lines(GOOD, GOOD)).examples) == 2


def test_long_rows_are_skipped_without_filling_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_ROW_BYTES", 1000)
    content = lines(GOOD, {**GOOD, "output": "x" * 50_000}, GOOD)
    found = read(tmp_path, "a.jsonl", content)
    assert (found.causes, found.bad[0].row, found.rows_read) == ({"row too long": 1}, 2, 3)
    array = "[" + ",".join(content.split("\n")[:3]) + "]"
    assert read(tmp_path, "b.json", array).causes == {"row too long": 1}


def test_csv(tmp_path: Path) -> None:
    good = 'instruction,input,output\n"Name a\ncolour.",,Blue.\nx,y\n'
    found = read(tmp_path, "a.csv", b"\xef\xbb\xbf" + good.encode())
    assert found.examples[0].messages == (Message("user", "Name a\ncolour."), Message("assistant", "Blue.", True))
    assert (found.causes, found.bad[0].row) == ({"wrong number of cells": 1}, 2)
    assert read(tmp_path, "b.csv", "prompt;completion\na;b\n").examples
    assert read(tmp_path, "c.tsv", "prompt\tcompletion\na\tb\n").examples
    assert "row 2" in refused(tmp_path, "d.csv", 'prompt,completion\na,b\n"a,b\n').message
    assert "stands twice" in refused(tmp_path, "e.csv", "prompt,prompt\na,b\n").message
    assert "no rows" in refused(tmp_path, "f.csv", "prompt,completion\n").message
    assert "not UTF-8" in refused(tmp_path, "g.csv", b"prompt,completion\na,\xff\n").message


def test_parquet_and_its_damage(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([OPENAI] * 300), tmp_path / "a.parquet")
    assert len(read(tmp_path, "a.parquet").examples) == 300
    whole = (tmp_path / "a.parquet").read_bytes()
    assert "parquet" in refused(tmp_path, "b.parquet", whole[: len(whole) // 2]).message
    assert "no parquet file" in refused(tmp_path, "c.parquet", "hello").message


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "dir.jsonl").mkdir()
    (tmp_path / "train.jsonl").write_text(lines(GOOD))
    told = {
        "fifo.jsonl": "not a regular file",
        "zero.jsonl": "not a regular file",
        "dir.jsonl": "no data files",
        "loop.jsonl": "symbolic link",
        "trains.jsonl": "not found",
        "x" * 400 + ".jsonl": "cannot be opened",
    }
    for name, what in told.items():
        assert what in refused(tmp_path, name).message
    missing = refused(tmp_path, "trains.jsonl")
    assert missing.hint == "did you mean 'train.jsonl'?"
    assert missing.where == str(tmp_path / "trains.jsonl")
    assert "empty" in refused(tmp_path, "a.jsonl", "").message
    assert "gzip" in refused(tmp_path, "a.jsonl", b"\x1f\x8b123").message
    assert "unknown kind" in refused(tmp_path, "a.doc", "hello").message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(GOOD))
    (tmp_path / "a.jsonl").chmod(0)
    assert "permission" in refused(tmp_path, "a.jsonl").message


def test_permission_denied_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.jsonl").write_text(lines(GOOD))
    monkeypatch.setattr(os, "open", deny)
    assert "no permission" in refused(tmp_path, "a.jsonl").message


def test_demo_data_and_no_way_out_of_its_folder(tmp_path: Path) -> None:
    assert read(tmp_path, "demo:dates.train").examples
    for name in ("demo:nothing", "demo:../model/config.json", "demo:/etc/passwd", "demo:"):
        assert "built-in" in refused(tmp_path, name).message


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(*[GOOD] * 10))
    found = read_examples(Dataset(path="a.jsonl"), tmp_path, limit=3)
    assert (found.rows_read, len(found.examples)) == (3, 3)


def test_too_many_bad_rows_are_refused_with_the_first_of_them(tmp_path: Path) -> None:
    found = read(tmp_path, "a.jsonl", lines(*[GOOD] * 90, *[{**GOOD, "output": ""}] * 8, *["{"] * 2))
    check_bad_fraction(sources(found), 0.10)
    with pytest.raises(EngineError) as caught:
        check_bad_fraction(sources(found), 0.09)
    error = caught.value
    assert error.code is ExitCode.DATA
    assert "10 of 100 rows" in error.message
    assert "8 x missing answer, 2 x not valid JSON" in error.message
    assert [problem.where for problem in error.problems[:5]] == [f"a.jsonl, row {n} (line {n})" for n in range(91, 96)]
    assert "max_bad_fraction" in error.hint


def test_a_file_of_bad_rows_only_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    found = read(tmp_path, "a.jsonl", lines({**GOOD, "output": ""}))
    with pytest.raises(EngineError, match="1 of 1 rows"):
        check_bad_fraction(sources(found), 1.0)


def test_the_system_message_goes_where_there_is_none() -> None:
    own = Example((Message("system", "Own."), *PAIR), 1)
    text = Example((Message("assistant", "x", True),), 3, "text")
    changed = with_system([own, Example(PAIR, 2), text], "Be brief.")
    assert [example.messages[0].content for example in changed] == ["Own.", "Be brief.", "x"]


def test_reading_rows_loads_no_numpy_and_no_torch() -> None:
    heavy = ("numpy", "torch", "transformers", "pyarrow", "datasets")
    code = f"import sys, engine.data.formats, engine.cli.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
