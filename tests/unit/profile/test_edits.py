"""What was edited in a run's profile.toml since it began is named, each setting with both values."""

from __future__ import annotations

import pytest

from engine.profile.edits import edits_in_words
from engine.profile.load import load_text
from engine.resolve.resolve import resolve_profile
from engine.runs.record import PROFILE_TEXT, record_of
from tests.unit.profile_machines import DATA, machine

TEXT = f"[model]\nname_or_path = 'demo'\nmax_length = 128\n{DATA}[train]\nlearning_rate = 2e-4\nseed = 7\n"

EDITS = {
    "another value": ("2e-4", "1e-5", "train.learning_rate: 0.0002 → 1e-05"),
    "a line taken out": ("seed = 7\n", "", "train.seed: 7 → not set"),
    "a new line": ("seed = 7\n", "seed = 7\nmax_steps = 9\n", "train.max_steps: not set → 9"),
    "other data": ("train.jsonl", "other.jsonl", "'other.jsonl'"),
    "no TOML any more": ("[train]", "[train", "is not what it began with"),
}


@pytest.fixture
def began(tmp_path):
    """Records of a run with these settings: as runs begin now, and as they began without their text."""
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    loaded = load_text(TEXT, tmp_path / "profile.toml", ["train.weight_decay=0.1"])
    run_json = resolve_profile(loaded, machine()).to_run_json()
    return [record_of({**run_json, PROFILE_TEXT: TEXT}), record_of(run_json)]


@pytest.mark.parametrize("case", EDITS)
def test_an_edit_is_named_with_both_values_and_where_it_would_count(tmp_path, began, case):
    old, new, told = EDITS[case]
    assert old in TEXT
    (tmp_path / "profile.toml").write_text(TEXT.replace(old, new))
    for record in began:
        said = edits_in_words(record, tmp_path)
        assert told in said
        assert ("engine runs branch" in said) == (case != "no TOML any more")


def test_comments_layout_and_settings_of_the_command_line_are_no_edits(tmp_path, began):
    (tmp_path / "profile.toml").write_text("# note\n" + TEXT.replace("2e-4", "0.0002"))
    assert [edits_in_words(record, tmp_path) for record in began] == ["", ""]
