"""What an evaluation measures: text rows, tool calls, several sets, columns of one's own; and never what it did not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, ExitCode
from engine.evaluate import calls
from engine.evaluate.run import run as evaluate
from engine.inference.answers import Answer
from engine.inference.rows import read_held_out
from tests.process.finished_runs import ROWS, job, told

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</tool_call>{% endfor %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
TOOLS = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}])


def with_rows(run: Path, rows: list[dict[str, Any]]) -> None:
    (run / "data" / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def with_settings(run: Path, **evaluate_settings: Any) -> None:
    run_json = json.loads((run / "run.json").read_text())
    run_json["settings"]["evaluate"] |= evaluate_settings
    (run / "run.json").write_text(json.dumps(run_json))


def calling(number: int) -> dict[str, Any]:
    call = {"name": "add", "arguments": json.dumps({"to": number, "one": 1})}
    messages = [
        {"role": "user", "content": f"What comes after {number}?"},
        {"role": "assistant", "content": "", "train": True, "calls": [call]},
        {"role": "tool", "content": str(number + 1), "name": "add"},
        {"role": "assistant", "content": f"It is {number + 1}.", "train": True},
    ]
    return {"kind": "chat", "messages": messages, "tools": TOOLS}


def test_text_rows_are_scored_and_not_answered(run: Path) -> None:
    text = [{"kind": "text", "messages": [{"role": "assistant", "content": reply * 9}]} for _, reply in ROWS]
    with_rows(run, text)
    with_settings(run, metrics=["perplexity", "rouge"])
    report = evaluate(job(run))
    assert (report["rows_scored"], report["rows_answered"]) == (8, 0)
    assert report["tuned"]["loss"] > 0
    assert "rougeL" not in report["tuned"]
    assert "no row answered" in (run / "eval" / "report.txt").read_text().replace("\n", " ")


def test_where_nothing_can_be_measured_there_is_no_verdict(run: Path) -> None:
    with_settings(run, metrics=["rouge", "exact_match"], max_new_tokens=250)
    with pytest.raises(EngineError, match="none of the 8 rows can be measured: 8 prompts leave no room") as caught:
        evaluate(job(run))
    assert (caught.value.code, "max_new_tokens" in caught.value.hint) == (ExitCode.DATA, True)
    assert not (run / "eval").exists()


def test_each_set_has_a_table_and_columns_of_its_own_are_found(run: Path) -> None:
    rows = run.parent / "hard.jsonl"
    rows.write_text("".join(json.dumps({"frage": ask, "antwort": reply}) + "\n" for ask, reply in ROWS))
    with_settings(run, metrics=["perplexity"])
    with pytest.raises(EngineError, match="no known row format") as caught:
        evaluate(job(run, data=[str(rows)]))
    assert "--column ROLE=NAME" in caught.value.hint
    report = evaluate(job(run, data=[str(rows), str(rows)], columns={"prompt": "frage", "completion": "antwort"}))
    assert [one["tuned"]["loss"] for one in report["more"]] == [report["tuned"]["loss"]]
    run_json = json.loads((run / "run.json").read_text())
    data = {"path": "x.jsonl", "columns": {"prompt": "frage", "completion": "antwort"}}
    run_json["settings"]["data"]["datasets"] = [data]
    run_json["base_dir"] = str(run.parent)
    (run / "run.json").write_text(json.dumps(run_json))
    with_settings(run, sets={"hard": "hard.jsonl"})
    both = evaluate(job(run))
    assert (both["rows_from"], both["more"][0]["rows_from"]) == ("", "hard")
    assert both["more"][0]["tuned"]["loss"] == report["tuned"]["loss"]
    assert (run / "eval" / "hard" / "report.txt").is_file()
    assert "layout" in {event["code"] for event in told(run, "warning")}


def test_tool_calls_are_asked_and_scored(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((run / "tokenizer" / "tokenizer_config.json").read_text())
    (run / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": TEMPLATE}))
    (run / "tokenizer" / "chat_template.jinja").write_text(TEMPLATE)
    with_rows(run, [calling(number) for number in range(6)])
    with_settings(run, metrics=["calls"])
    scored = calls.call_scores
    seen: list[calls.CallInputs] = []
    monkeypatch.setattr(
        "engine.evaluate.measure.call_scores", lambda answers, inputs: seen.append(inputs) or scored(answers, inputs)
    )
    report = evaluate(job(run))
    assert report["calls_asked"] == 6
    assert {name: report["tuned"][name] for name in calls.NAMES} == dict.fromkeys(calls.NAMES, 0.0)
    assert report["samples"][0]["reference"].startswith('<tool_call>{"name": "add"')
    asked, right = seen[0].questions, '<tool_call> {"arguments": {"one": 1.0, "to": 0}, "name": "add"}</tool_call>'
    answers = [Answer("", 1, True, False, right if at == 0 else one.shown) for at, one in enumerate(asked)]
    answers[1] = Answer("", 1, True, False, right)
    answers[2] = Answer("", 1, True, False, right.replace("add", "subtract"))
    answers[3] = Answer("", 1, True, False, "<tool_call>{")
    assert calls.call_scores(answers, seen[0]) == {
        "calls_parsed": [1, 1, 1, 0, 1, 1],
        "tools_right": [1, 1, 0, 0, 1, 1],
        "arguments_right": [1, 0, 0, 0, 1, 1],
    }
    assert [row.example.tools for row in read_held_out(run)] == [TOOLS] * 6
