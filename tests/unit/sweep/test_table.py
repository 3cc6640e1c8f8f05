"""Ranking of trials, and the best of them as a profile that trains from anywhere."""

from __future__ import annotations

import json

from engine.profile.load import load_text
from engine.runs.store import Run
from engine.sweep.best import best_text, write_best
from engine.sweep.combinations import plan_of
from engine.sweep.table import TrialRow, ranked, read_rows, write_rows


def row(trial: int, state: str = "completed", value: float | None = None, loss: float | None = None) -> TrialRow:
    return TrialRow(trial, {"lora.r": trial}, state, value, best_eval_loss=loss)


def test_values_rank_then_what_was_ended_early_then_what_failed():
    rows = [
        row(0, "failed"),
        row(1, value=0.3),
        row(2, "pruned", loss=0.9),
        row(3, value=0.1),
        row(4, "pruned", loss=0.5),
        row(5, "running"),
    ]
    assert [one.trial for one in ranked(rows, "eval_loss")] == [3, 1, 4, 2, 5, 0]
    assert [one.rank for one in ranked(rows, "eval_loss")] == [1, 2, None, None, None, None]
    assert [one.trial for one in ranked(rows, "exact_match")][:2] == [1, 3]


def test_the_best_profile_is_the_persons_own_with_paths_that_hold_elsewhere(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    text = (
        '# mine\n[model]\nname_or_path = "demo"\n[[data.datasets]]\npath = "train.jsonl" # rows\n'
        "[sweep.space]\nlora.r = [8, 16]\n"
    )
    plan = plan_of(load_text(text, tmp_path / "p.toml"))
    found = best_text(plan, row(16, value=0.25), "sweep-1")
    assert found.startswith("# Trial 16 of sweep sweep-1: eval_loss 0.25.\n# mine")
    loaded = load_text(found, tmp_path / "elsewhere" / "best.toml")
    assert loaded.problems == ()
    assert loaded.profile.lora.r == 16
    assert loaded.profile.data.datasets[0].path == str(tmp_path / "train.jsonl")
    assert loaded.profile.model.name_or_path == "demo"
    assert loaded.profile.sweep.space == {}


def test_nothing_is_written_before_a_trial_has_a_value(plan, tmp_path):
    found, sweep = plan("[sweep.space]\nlora.r = [8]\n"), Run("s", tmp_path)
    write_best(sweep, found, [])
    write_best(sweep, found, ranked([row(1, "failed")], "eval_loss"))
    assert not (tmp_path / "best.toml").exists()
    write_best(sweep, found, ranked([row(1, value=1.0)], "eval_loss"))
    assert (tmp_path / "best.toml").exists()


def test_rows_are_read_as_they_were_written_and_damaged_ones_left_out(tmp_path):
    rows = [row(0, value=0.5), row(1, "failed")]
    assert read_rows(tmp_path) == []
    write_rows(tmp_path, rows)
    assert read_rows(tmp_path) == rows
    whole = json.loads((tmp_path / "trials.json").read_text())
    whole["trials"] += [{"trial": "two"}, 3, {"trial": 4, "value": "high", "params": None, "state": 7}]
    (tmp_path / "trials.json").write_text(json.dumps(whole))
    assert read_rows(tmp_path)[2:] == [TrialRow(4)]
    (tmp_path / "trials.json").write_text('{"trials": [')
    assert read_rows(tmp_path) == []
