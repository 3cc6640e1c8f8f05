"""The worker's data jobs, and what the command line prints of their results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli import data as commands
from engine.data import job as jobs
from engine.data.choices import choices_of
from engine.data.job import preview
from engine.profile.schema import Profile
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job

ROWS = [
    {"instruction": "Name a colour.", "input": "", "output": "Blue \x1b[31mand ☃"},
    {"instruction": "Name another.", "input": "", "output": "Green and green and green and green and green."},
]


@pytest.fixture
def run_job(
    tmp_path: Path, tokenizer: Any, write_rows: Callable[..., str], make_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a data job in this process, with the test's tokenizer."""
    name = write_rows([*ROWS, {"instruction": "x"}])
    settings = make_settings(name, max_length=48, template="chatml", max_bad_fraction=0.5)
    monkeypatch.setattr(jobs, "_open", lambda job: (settings, tokenizer, tmp_path))
    events = EventWriter(tmp_path / "events.jsonl")
    entries = {"data_check": jobs.run_check, "data_preview": jobs.run_preview}
    yield lambda job: entries[job["job"]](Job(tmp_path, job, events))
    events.close()


def cli(run_job: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setattr(
        commands, "_run", lambda job, profile, overrides, as_json, **params: run_job({"job": job, **params})
    )
    return CliRunner().invoke(commands.data, list(arguments), catch_exceptions=False)


def test_check_returns_the_report_and_tells_progress(run_job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    report = run_job({"job": "data_check"})["report"]
    assert report["datasets"][0]["rows_read"] == 3
    events, _ = read_events(tmp_path / "events.jsonl")
    assert {key: events[-1][key] for key in ("type", "done", "total")} == {"type": "progress", "done": 2, "total": 2}


def test_preview_gives_text_and_trained_flags(run_job: Callable[..., dict[str, Any]]) -> None:
    result = run_job({"job": "data_preview", "rows": 5})
    first, second = result["documents"]
    assert first["row"] == 1
    assert "".join(token["text"] for token in first["tokens"]) == first["text"]
    trained = "".join(token["text"] for token in first["tokens"] if token["trained"])
    assert trained == ROWS[0]["output"] + "<|im_end|>"
    assert second["length"] > 48
    assert [token["kept"] for token in second["tokens"]].index(False) == 48
    assert second["trained_tokens"] == sum(token["trained"] for token in second["tokens"][:48])


def test_check_prints_every_rows_fate(run_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = cli(run_job, monkeypatch, "check", "demo")
    assert "3 rows read, 2 kept, 1 of them cut, 1 dropped" in shown.stdout
    assert "1 dropped: missing answer (no 'output'): row 3" in shown.stdout
    assert "alpaca (recognized): columns instruction, input, output" in shown.stdout
    own = next(text.split() for text in shown.stdout.splitlines() if text.startswith("48 *"))
    assert own[2:5] == ["1", "0", "6"]
    assert "warning: 1 rows are cut to max_length = 48" in shown.stderr


def test_preview_brackets_what_is_trained_on_and_sanitises(run_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = cli(run_job, monkeypatch, "preview", "demo", "--rows", "1").stdout
    assert "<|im_start|>assistant\n⟦Blue \ufffd[31mand ☃<|im_end|>⟧" in shown
    assert "\x1b" not in shown


def test_preview_token_by_token(run_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = cli(run_job, monkeypatch, "preview", "demo", "--rows", "1", "--tokens").stdout
    last = [text for text in shown.splitlines() if "<|im_end|>" in text][-1]
    assert last.split()[0] == "⟦⟧"
    assert "(continues the character before)" in shown


def test_preview_as_json(run_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = json.loads(cli(run_job, monkeypatch, "preview", "demo", "--json").stdout)
    assert shown["template"]["name"] == "chatml"


def test_check_as_json_has_the_lengths(run_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = json.loads(cli(run_job, monkeypatch, "check", "demo", "--json").stdout)
    assert choices_of(shown["at_lengths"]) is not None
    assert shown["lengths"]["percentiles"]


@pytest.mark.parametrize(
    ("first_row", "words", "expected"),
    [(5, "", [5, 6]), (1, "ANSWER 7", [8]), (3, "question", [3, 4]), (11, "", []), (1, "zebra", [])],
)
def test_a_preview_begins_at_a_row_or_finds_words(
    tmp_path: Path, make_tokenizer: Any, first_row: int, words: str, expected: list[int]
) -> None:
    rows = [{"prompt": f"Question {number}", "completion": f"Answer {number}"} for number in range(10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"datasets": [{"path": "rows.jsonl"}], "template": "chatml"}
    settings = Profile.model_validate({"model": {"name_or_path": "demo", "max_length": 64}, "data": data})
    found = preview(settings, make_tokenizer(), tmp_path, 2, first_row, words)
    assert [document["row"] for document in found["documents"]] == expected
