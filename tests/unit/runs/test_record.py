"""A run's files as values: of an earlier tree's run as it left them, and of files that cannot be used."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli.runs import runs
from engine.errors import EngineError, ExitCode
from engine.evaluate.page import page
from engine.evaluate.report import load_report, read_report
from engine.export import parity_page
from engine.export.report import load_export
from engine.files import write_json_atomic
from engine.jsonvalues import Unreadable
from engine.profile.runjson import settings_of
from engine.runs import checkpoint
from engine.runs.events import EventReader
from engine.runs.follow import fold_run
from engine.runs.jobs import EXPORT_FOLDER
from engine.runs.record import (
    JobRequest,
    RunRecord,
    load_data_record,
    load_job,
    load_record,
    load_summary,
    read_record,
    read_summary,
)
from engine.runs.state import Marks, fold_marks, run_state
from engine.runs.store import Run

OLDER = Path(__file__).with_name("run_of_an_older_tree")
"""What `engine demo` left before these values were there: 252 steps, evaluated, exported as int8 and GGUF too."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A copy of the older run."""
    folder = tmp_path / "runs" / "20261128-000536-demo-c9f6"
    shutil.copytree(OLDER, folder)
    (folder / "control").mkdir()
    return Run(folder.name, folder)


def test_settings_prediction_and_origins_are_read(run: Run) -> None:
    record = read_record(run.path)
    assert record.text("model.name_or_path") == "demo"
    assert record.launch.device == "cpu"
    assert record.prediction.device_bytes
    assert record.model.parameters
    assert record.versions["torch"]
    assert record.provenance["train.learning_rate"].source == "profile"
    assert "train.learning_rate" in record.given
    settings, base_dir = settings_of(record)
    assert settings.train.learning_rate == record.setting("train.learning_rate")
    assert base_dir == Path("/home/user/tunedeck/profiles")


def test_its_end_its_data_and_its_job_are_read(run: Run) -> None:
    summary = read_summary(run.path)
    assert (summary.outcome, summary.step, summary.weights) == ("completed", 252, "adapter")
    assert summary.to_json() == json.loads((run.path / "summary.json").read_text())
    data = load_data_record(run.path)
    assert data.validation is not None
    assert data.validation.rows
    assert data.ends
    job = load_job(run.path)
    assert isinstance(job, JobRequest)
    assert (job.job, job.resume, job.asked_at) == ("train", False, None)
    assert job.to_json() == json.loads((run.path / "job.json").read_text())


def test_its_state_and_steps_are_read(run: Run) -> None:
    assert run_state(run) == "completed"
    fold, offset = fold_run(run)
    assert (fold.step, fold.steps_total) == (252, 252)
    assert offset == run.events_path.stat().st_size
    assert run_state(run, fold_marks(fold)) == "completed"


def test_its_evaluation_is_read_and_its_page_is_the_same(run: Run) -> None:
    report = read_report(run.path / "eval")
    assert report.verdict == "better"
    scores = {score.kind.key: score for score in report.scores}
    assert scores["loss"].significance == "better"
    assert scores["rouge1"].significance == ""
    assert page(report) == (run.path / "eval" / "report.txt").read_text()
    assert report.to_json() == json.loads((run.path / "eval" / "report.json").read_text())


def test_its_export_is_read_and_its_page_is_the_same(run: Run) -> None:
    result = load_export(run.path, EXPORT_FOLDER)
    assert not isinstance(result, Unreadable)
    assert list(result.paths) == ["adapter", "merged", "int8-dynamic"]
    assert [made.format for made in result.report.formats] == ["adapter", "merged", "int8-dynamic", "q8_0"]
    assert parity_page.page(result.report) == (run.path / "export" / "parity.txt").read_text()
    written = json.loads((run.path / "export" / "parity.json").read_text())
    assert result.report.to_json() == written
    whole = json.loads((run.path / EXPORT_FOLDER / "result.json").read_text())
    assert result.to_json() == {key: value for key, value in whole.items() if key not in ("outcome", "seconds")}


def test_its_checkpoint_without_weights_is_refused(run: Run) -> None:
    (found,) = checkpoint.list_checkpoints(run.path / "checkpoints")
    assert found.step == 252
    assert "is missing" in checkpoint.flaw(found.path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema_version": 9, "settings": {}}', "has version 9, this engine reads 1"),
        ('{"schema_version": 0, "settings": {}}', "has version 0, this engine reads 1"),
        ('{"schema_version": 1, "setti', "cannot be read: it is not whole JSON"),
        ("", "cannot be read: it is not whole JSON"),
        ("[1, 2]", "it holds a list, not an object"),
        ("3", "it holds a number, not an object"),
        ("null", "it holds nothing, not an object"),
        ('{"hello": "world"}', "has no schema_version"),
        ('{"schema_version": 1, "settings": 3}', "it holds no settings"),
        ("[" * 100_000, "cannot be read: it is not whole JSON"),
        (None, "is missing"),
    ],
)
def test_a_record_that_cannot_be_used_says_why(run: Run, text: str | None, said: str) -> None:
    path = run.path / "run.json"
    path.write_text(text) if text is not None else path.unlink()
    found = load_record(run.path)
    assert isinstance(found, Unreadable)
    assert said in str(found)
    with pytest.raises(EngineError, match=r"run\.json") as raised:
        read_record(run.path)
    assert raised.value.code is ExitCode.PROFILE
    assert raised.value.where == str(run.path)
    assert raised.value.hint
    assert run_state(run) == "completed", "its events are whole"


@pytest.mark.parametrize("text", ['{"v": 3}', "{", "[]", "7", '{"v": 2}', '{"v": 2, "tuned": {}, "samples": 4}', None])
def test_a_report_that_cannot_be_used_says_why(run: Run, text: str | None) -> None:
    path = run.path / "eval" / "report.json"
    path.write_text(text) if text is not None else path.unlink()
    found = load_report(path.parent)
    assert isinstance(found, Unreadable)
    assert "report.json" in str(found)
    assert found.hint


def test_values_of_another_kind_are_left_out(run: Run) -> None:
    odd: dict[str, Any] = {"step": "many", "seconds": None, "best_eval_loss": [1], "tokens": True, "device": 4}
    write_json_atomic(run.path / "summary.json", odd)
    found = read_summary(run.path)
    assert (found.step, found.seconds, found.best_eval_loss, found.tokens, found.device) == (None, None, None, None, "")
    write_json_atomic(run.path / "run.json", {"schema_version": 1, "settings": {}, "provenance": [], "estimate": 3})
    record = load_record(run.path)
    assert isinstance(record, RunRecord)
    assert record.prediction.device_bytes is None
    with pytest.raises(EngineError, match="not whole"):
        settings_of(record)
    (run.path / "summary.json").unlink()
    missing = load_summary(run.path)
    assert isinstance(missing, Unreadable)
    assert missing.missing


def test_a_finished_run_that_was_resumed_is_starting_whoever_asks(run: Run) -> None:
    fold, _ = fold_run(run)
    asked = JobRequest("train", resume=True, asked_at=time.time())
    write_json_atomic(run.path / "job.json", asked.to_json())
    assert run_state(run) == run_state(run, fold_marks(fold)) == "starting"
    assert run_state(run, Marks(begun=True, outcome="failed", ended_at=time.time() + 9)) == "failed"


def test_a_reader_begins_anew_where_the_file_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"type":"phase","name":"load"}\n{"type":"phase","name":"train"}\n')
    reader = EventReader(path)
    assert len(reader.read()) == 2
    assert reader.read() == []
    path.write_text('{"type":"phase","name":"new"}\n')
    assert [event["name"] for event in reader.read()] == ["new"]
    assert reader.restarts == 1


def test_a_reader_waits_for_torn_lines_and_passes_over_foreign_ones(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\xff\xfe\n[1]\n3\n{"no": "type"}\n{"type": 4}\n\n{"type":"phase"}\r\n{"type":"tra')
    reader = EventReader(path)
    assert [event["type"] for event in reader.read()] == ["phase"]
    assert reader.at_end
    with path.open("ab") as file:
        file.write(b'in_step"}\n')
    assert [event["type"] for event in reader.read()] == ["train_step"]


def test_a_line_longer_than_the_limit_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    long = json.dumps({"type": "sample", "output": "x" * 5000})
    path.write_text(f'{{"type":"phase"}}\n{long}\n{{"type":"finished"}}\n')
    reader = EventReader(path, limit_bytes=100)
    found = []
    while not reader.at_end:
        found += reader.read()
    assert [event["type"] for event in found] == ["phase", "sample", "finished"]


def test_a_reader_of_the_tail_begins_at_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(f'{{"type":"memory","n":{number}}}\n' for number in range(100)))
    assert [event["n"] for event in EventReader.at_tail(path, 60).read()] == [98, 99]
    assert EventReader.at_tail(tmp_path / "none", 60).read() == []


def test_the_shell_lists_and_shows_it(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "tunedeck").mkdir()
    (tmp_path / "runs").rename(tmp_path / "tunedeck" / "runs")
    shell = CliRunner()
    (row,) = json.loads(shell.invoke(runs, ["list", "--json"]).stdout)["runs"]
    assert (row["state"], row["model"], row["step"], row["best_eval_loss"]) == (
        "completed",
        "demo",
        252,
        0.0017761377854780718,
    )
    shown = json.loads(shell.invoke(runs, ["show", "last", "--json"]).stdout)
    assert shown["memory"]["predicted"]
    assert shown["provenance"]["train.learning_rate"]["source"] == "profile"
    path = tmp_path / "tunedeck" / "runs" / run.id / "run.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    (row,) = json.loads(shell.invoke(runs, ["list", "--json"]).stdout)["runs"]
    assert row["state"] == "damaged"
    assert "version 2, this engine reads 1" in row["problem"]
