"""What `engine evaluate` was asked for becomes a job, or an error before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli.evaluate import evaluate
from engine.errors import EngineError, ExitCode
from engine.evaluate.target import Asked, job_of
from engine.profile.schema import Profile
from engine.runs.record import SCHEMA_VERSION


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in the store with an export, and the working directory beside it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "state" / "tunedeck" / "runs" / "20260101-000000-mine-abcd"
    (folder / "export" / "merged").mkdir(parents=True)
    (folder / "export" / "merged" / "config.json").write_text("{}")
    tables = {"model": {"name_or_path": "demo"}, "data": {"datasets": [{"path": "rows.jsonl"}]}}
    settings = Profile.model_validate(tables).model_dump(mode="json")
    run_json = {"schema_version": SCHEMA_VERSION, "settings": settings, "provenance": {}, "base_dir": str(tmp_path)}
    (folder / "run.json").write_text(json.dumps(run_json))
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_run_by_name_with_other_settings(run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    job, owner = job_of(Asked("mine", overrides=("evaluate.retention_path=notes.txt", "evaluate.max_samples=7")))
    assert owner is not None
    assert (owner.path, job["path"], job["run_dir"]) == (run, None, str(run))
    assert job["data"] == []
    assert job["settings"]["evaluate"]["max_samples"] == 7
    # From a shell, a path starts at the working directory.
    assert job["settings"]["evaluate"]["retention_path"] == str(tmp_path / "notes.txt")
    plain, _ = job_of(Asked("last"))
    assert "settings" not in plain


def test_an_export_knows_its_run_by_where_it_lies(run: Path, tmp_path: Path) -> None:
    job, owner = job_of(Asked(str(run / "export" / "merged")))
    assert owner is not None
    assert (owner.id, job["path"]) == (run.name, str(run / "export" / "merged"))
    (tmp_path / "copy").mkdir()
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    job, owner = job_of(Asked("copy", run="mine"))
    assert owner is not None
    assert (owner.id, job["path"]) == (run.name, str(tmp_path / "copy"))
    (tmp_path / "rows.jsonl").write_text("{}")
    job, owner = job_of(Asked("model.gguf", data=("rows.jsonl",), base="OWNER/NAME"))
    assert owner is None
    assert (job["data"], job["base"]) == ([str(tmp_path / "rows.jsonl")], "OWNER/NAME")
    assert job["settings"]["evaluate"]["max_samples"] == 64
    # A missing file is told by the name that was given, and names that are no paths stay.
    for given, kept in (("gone.jsonl", str(tmp_path / "gone.jsonl")), ("hub:a/b", "hub:a/b"), ("demo:dates.test",) * 2):
        assert job_of(Asked("copy", data=(given,)))[0]["data"] == [kept]


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"target": "copy"}, ExitCode.PROFILE, "no rows to score"),
        ({"target": "last", "base": "demo"}, ExitCode.PROFILE, "--base belongs to a model at a path"),
        ({"target": "last", "run": "mine"}, ExitCode.PROFILE, "--run belongs to a model at a path"),
        ({"target": "nothing"}, ExitCode.PROFILE, "no run 'nothing'"),
        ({"target": "nowhere/model.gguf", "data": ("x",)}, ExitCode.MODEL, "no such file"),
        ({"target": "nowhere/model", "data": ("x",)}, ExitCode.MODEL, "no such directory"),
        ({"target": "rows.txt", "data": ("x",)}, ExitCode.MODEL, "this is no model"),
        ({"target": "last", "overrides": ('evaluate.metrics=["meteor"]',)}, ExitCode.PROFILE, "use a list of"),
        ({"target": "last", "overrides": ("evaluate.max_sample=3",)}, ExitCode.PROFILE, "did you mean"),
        ({"target": "last", "overrides": ("train.learning_rate=1",)}, ExitCode.PROFILE, "cannot be set here"),
        ({"target": "last", "columns": ("a",), "data": ("x",)}, ExitCode.PROFILE, "not ROLE=NAME"),
        ({"target": "last", "columns": ("a=b",)}, ExitCode.PROFILE, "--column belongs to rows"),
        ({"target": "last", "overrides": ("nonsense",)}, ExitCode.PROFILE, "not key=value"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    run: Path, tmp_path: Path, asked: dict[str, Any], code: ExitCode, words: str
) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "rows.txt").write_text("text")
    with pytest.raises(EngineError) as caught:
        job_of(Asked(**asked))
    assert caught.value.code is code
    assert words in str(caught.value.to_dict()), caught.value.to_dict()
    assert caught.value.hint


def test_tasks_are_named_and_their_folder_looked_at_first(run: Path) -> None:
    found = CliRunner().invoke(evaluate, ["last", "--harness-tasks", "nowhere"])
    assert isinstance(found.exception, EngineError)
    assert "no task is named" in found.exception.message
