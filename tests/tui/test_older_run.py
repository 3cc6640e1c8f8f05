"""The deck on a run that an earlier tree left, and on a copy whose files cannot be used."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from engine.api import runs
from engine.files import write_json_atomic
from engine.runs.store import Run
from tests.unit.runs.test_record import OLDER
from tui.reading.jobs import JobReader
from tui.reading.tail import RunReader
from tui.results.reader import ResultReader
from tui.runs.comparing import Comparer
from tui.runs.listing import RunList


def settle_older() -> Run:
    """The older run in this test's store, its export where its result says."""
    folder = runs.runs_root() / "20261128-000536-demo-c9f6"
    shutil.copytree(OLDER, folder)
    result = folder / "export-job" / "result.json"
    told = json.loads(result.read_text())
    write_json_atomic(result, told | {"output": str(folder / "export")})
    return Run(folder.name, folder)


def test_it_is_listed_followed_and_compared() -> None:
    run = settle_older()
    (row,) = RunList().read().rows
    assert (row.state, row.step, row.steps_total, row.facts.model) == ("completed", 252, 252, "demo")
    reader = RunReader(run)
    while reader.read():
        pass
    shot = reader.snapshot(reader.state())
    assert (shot.state, shot.step, shot.facts.problem) == ("completed", 252, "")
    (one,) = Comparer().read([run])
    assert one.numbers["verdict"] == "better"
    assert one.numbers["exact match %, tuned"] == "100.0"
    assert one.settings["train.learning_rate"][1] == "profile"


def test_its_results_are_numbers_ready_to_show() -> None:
    run = settle_older()
    found = ResultReader(run).read()
    assert found.report is not None
    assert found.report.verdict == "better"
    loss = next(score for score in found.report.scores if score.label == "loss per token")
    assert (loss.base, loss.tuned, loss.change, loss.sure) == ("8.1950", "0.0032", "-8.1919", "better")
    assert found.exported is not None
    assert [one.name for one in found.exported.written] == ["adapter", "merged", "int8-dynamic", "gguf q8_0"]
    assert found.held_out


def test_one_that_was_resumed_is_starting_on_every_screen() -> None:
    run = settle_older()
    listing, reader, results = RunList(), RunReader(run), ResultReader(run)
    while reader.read():
        pass
    assert listing.read().rows[0].state == reader.state() == results.read().state == "completed"
    write_json_atomic(run.path / "job.json", {"v": 1, "job": "train", "resume": True, "asked_at": time.time()})
    assert listing.read().rows[0].state == reader.state() == results.read().state == runs.run_state(run) == "starting"


def test_a_newer_version_is_told_in_words() -> None:
    run = settle_older()
    write_json_atomic(run.path / "run.json", {"schema_version": 2, "settings": {}})
    write_json_atomic(run.path / "eval" / "report.json", {"v": 3})
    (row,) = RunList().read().rows
    assert row.state == "completed"
    assert "version 2, this engine reads 1" in row.error[0]
    found = ResultReader(run).read()
    assert "version 2, this engine reads 1" in found.reason
    assert "version 3, this engine reads 1 to 2" in found.report_problem


def test_a_job_that_was_never_asked_for_has_no_state(tmp_path: Path) -> None:
    assert JobReader(tmp_path / "none").read().state == ""
    (tmp_path / "eval").mkdir()
    assert JobReader(tmp_path / "eval").read().state == ""
    write_json_atomic(tmp_path / "eval" / "job.json", {"v": 1, "job": "evaluate"})
    assert JobReader(tmp_path / "eval").read().state == "running"
