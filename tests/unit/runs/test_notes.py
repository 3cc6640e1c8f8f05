"""Tags and notes: kept beside the run, whatever was there before; runs filtered, ordered and grouped by them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.runs import store
from engine.runs.disk import disk_bytes, disk_mark
from engine.runs.events import EventWriter
from engine.runs.notes import NOTES_FILE, RunNotes, change_note, change_tags, load_notes, tagged
from engine.runs.query import matches, parse_query
from engine.runs.traits import RunTraits, differing_settings, flat, grouped, ordered
from tests.unit.conftest import Engine

NOW_S = 1_800_000_000.0
ONE = RunTraits(
    "20261101-101010-dates-1f3a", "completed", "dates", "Qwen/Qwen3-8B", "LoRA bf16", 120, 1.25, NOW_S - 86400 * 3,
    3 * 1024**3, RunNotes(("keep", "best"), "the long one"), {"perplexity": 6.5},
    flat({"lora": {"r": 16}, "train": {"learning_rate": 2e-4, "packing": True}, "empty": {}}),
)  # fmt: skip
TWO = replace(
    ONE, run_id="20261020-101010-names-09be", state="not started", name="names", step=0, best=None, disk_bytes=None,
    notes=RunNotes(), scores={}, settings=flat({"lora": {"r": 8}, "train": {"learning_rate": 2e-4, "packing": False}}),
)  # fmt: skip
THREE = replace(TWO, run_id="20260901-101010-old-aaaa", state="failed", best=1.5, settings={"lora.r": 8})


def test_tags_and_a_note_are_kept(tmp_path: Path) -> None:
    assert load_notes(tmp_path) == RunNotes()
    change_tags(tmp_path, ("+keep", "a", "b", "-a"))
    change_note(tmp_path, "  two\n lines \x1b[2J ")
    assert load_notes(tmp_path) == RunNotes(("keep", "b"), "two lines \ufffd[2J")
    assert os.stat(tmp_path / NOTES_FILE).st_mode & 0o777 == 0o600
    change_note(tmp_path, "")
    assert load_notes(tmp_path).note == ""


@pytest.mark.parametrize("wrong", ["", "+", "two words", "-", "\x1b[2J", "x" * 41])
def test_what_is_no_tag_is_refused(wrong: str) -> None:
    with pytest.raises(EngineError, match="is no tag"):
        tagged(RunNotes(), [wrong])


@pytest.mark.parametrize("torn", ['{"v":1,"tags":["ke', "[]", "", '{"v":9,"tags":["a"]}', '{"v":1,"tags":3,"note":[]}'])
def test_a_torn_file_counts_as_empty_and_is_not_lost(tmp_path: Path, torn: str) -> None:
    (tmp_path / NOTES_FILE).write_text(torn)
    found = load_notes(tmp_path)
    assert (found.tags, found.note) == ((), "")
    assert change_tags(tmp_path, ["keep"]).tags == ("keep",)
    assert load_notes(tmp_path) == RunNotes(("keep",))
    if found.problem:
        assert (tmp_path / "notes.json.damaged").read_text() == torn


@pytest.mark.parametrize(
    ("typed", "holds"),
    [
        ("", True), ("dates lora", True), ("dates nothing", False), ("-nothing", True), ("-dates", False),
        ("tag:keep", True), ("tag:kee", False), ("-tag:keep", False), ("tag:", True), ("state:comp", True),
        ("state:failed", False), ("model:qwen", True), ("note:long", True), ("name:dat", True),
        ("lora.r=16", True), ("lora.r=1", False), ("lora.r>8", True), ("train.packing=true", True), ("lora.r=", True),
        ("best<1.3", True), ("step>=120", True), ("step>1k", False), ("perplexity<7", True), ("bleu>1", False),
        ("disk>2", True), ("disk>4", False), ("age<4d", True), ("age<12h", False), ("after:2026-11", True),
        ("after:2026-11-02", False), ("before:2026-11", False), ("before:2026-12", True),
        ("train.learning_rate=2e-4", True),
    ],
)  # fmt: skip
def test_runs_are_found_by_words_and_requirements(typed: str, holds: bool) -> None:
    asked = parse_query(typed)
    assert asked.problem == ""
    assert matches(ONE, asked, NOW_S) is holds


def test_what_is_not_known_of_a_run_does_not_hold_and_half_a_number_is_told() -> None:
    assert [matches(TWO, parse_query(typed), NOW_S) for typed in ("best<9", "disk<9", "state:notst")] == [
        False,
        False,
        True,
    ]
    assert "comes a number" in parse_query("best<low").problem


def test_orders_go_both_ways_with_what_is_missing_last() -> None:
    def names(column: str, falling: bool) -> list[str]:
        return [
            one.name[0] + one.state[0] for one in ordered((TWO, ONE, THREE), lambda one: one, column, falling=falling)
        ]

    assert names("best", False) == ["dc", "nf", "nn"]
    assert names("best", True) == ["nf", "dc", "nn"]
    assert names("begun", True) == ["dc", "nn", "nf"]
    assert names("lora.r", True) == ["dc", "nn", "nf"]
    groups = grouped((TWO, ONE, THREE), lambda one: one, "lora.r")
    assert [(value, len(members)) for value, members in groups] == [("8", 2), ("16", 1)]
    assert differing_settings((ONE, TWO)) == ["lora.r", "train.packing"]


def test_disk_counts_blocks_once(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    before = disk_bytes(tmp_path)
    mark = disk_mark(tmp_path)
    file = tmp_path / "checkpoints" / "weights"
    file.write_bytes(b"x" * 1_000_000)
    os.link(file, tmp_path / "checkpoints" / "again")
    (tmp_path / "away").symlink_to("/")
    assert 1_000_000 <= disk_bytes(tmp_path) - before < 1_100_000
    assert disk_mark(tmp_path) != mark
    assert disk_bytes(tmp_path / "gone") == 0


@pytest.fixture
def three_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[store.Run]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = []
    for name, rank in (("alpha", 8), ("beta", 16), ("gamma", 8)):
        settings = {"name": name, "model": {"name_or_path": "demo"}, "lora": {"r": rank}}
        made.append(store.create_run(name, {"schema_version": 1, "settings": settings}, ""))
        EventWriter(made[-1].events_path).write("finished", outcome="completed", step=1)
    return made


def test_the_shell_tags_lists_and_deletes_by_filter(engine: Engine, three_runs: list[store.Run]) -> None:
    assert engine("runs", "tag", "alpha", "+keep", "+old", "-old")[:2] == (0, "keep\n")
    assert engine("runs", "note", "alpha", "the", "first")[1] == "the first\n"
    assert "#keep the first" in engine("runs", "show", "alpha")[1]
    found = json.loads(engine("runs", "list", "--json", "--disk", "--column", "lora.r", "tag:keep")[1])["runs"]
    assert [(one["tags"], one["note"], one["columns"]) for one in found] == [(["keep"], "the first", {"lora.r": "8"})]
    assert found[0]["disk_bytes"] > 0
    listed = engine("runs", "list", "--sort", "lora.r", "--group", "lora.r")[1].splitlines()
    assert [line for line in listed if "=" in line] == ["lora.r = 8  (2)", "lora.r = 16  (1)"]
    assert engine("runs", "list", "--sort", "Nonsense!")[0] == 2
    assert engine("runs", "list", "best<x")[0] == 2
    code, _, said = engine("runs", "rm", "--where", "lora.r=8 -tag:keep")  # nobody says yes
    assert code != 0
    assert "delete these 1 runs" in said
    assert all(run.path.exists() for run in three_runs)
    assert engine("runs", "rm", "--where", "lora.r=8 -tag:keep", "--yes")[0] == 0
    assert [run.path.exists() for run in three_runs] == [True, True, False]
    assert engine("runs", "rm")[0] == 2


@pytest.mark.parametrize("where", ["tag:", "state:", "-tag:", "lora.r=", "after:yesterday", "best<", "alpha tag:"])
def test_half_a_filter_deletes_nothing(where: str, engine: Engine, three_runs: list[store.Run]) -> None:
    """`tag:$TAG` with an empty variable must not mean every run."""
    code, _, said = engine("runs", "rm", "--where", where, "--yes")
    assert code == 2
    assert where.split()[-1] in said
    assert all(run.path.exists() for run in three_runs)


def test_blanks_are_no_filter(engine: Engine, three_runs: list[store.Run]) -> None:
    assert engine("runs", "rm", "alpha", "--where", " ", "--yes")[0] == 0
    assert [run.path.exists() for run in three_runs] == [False, True, True]


def test_a_tag_with_an_h_goes_and_columns_of_time_are_told(engine: Engine, three_runs: list[store.Run]) -> None:
    engine("runs", "tag", "beta", "+archive", "+keep")
    assert engine("runs", "tag", "beta", "-archive")[:2] == (0, "keep\n")
    rows = json.loads(engine("runs", "list", "--json", "--column", "age", "--column", "begun")[1])["runs"]
    assert all(row["columns"]["age"].startswith("20") for row in rows)
    assert all(row["columns"]["begun"] == row["run"][:15] for row in rows)
    found = json.loads(engine("runs", "list", "--json", "alpha disk<1")[1])["runs"]
    assert [row["run"] for row in found] == [three_runs[0].id]
