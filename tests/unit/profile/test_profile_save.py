"""Writing: whole or not at all, comments kept, nothing invalid."""

from __future__ import annotations

import os
import tomllib

import pytest

from engine.errors import EngineError, ExitCode
from engine.profile.load import load_profile
from engine.profile.save import edit_profile, write_profile
from tests.unit.profile_machines import DATA, MODEL

WRITTEN = """\
# about this profile
name = "mine" # short

[model] # which
name_or_path = "demo"   # built in
max_length = 128 # rows are short

# the data
[[data.datasets]]
path = "a.jsonl" # first

[train]
seed = 3
"""


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "p.toml"
    target.write_text(WRITTEN)
    return target


def test_comments_and_order_survive_an_edit(path):
    edit_profile(
        path,
        {
            "model.max_length": 256,
            "data.datasets.0.path": "b.csv",
            "lora.r": 8,
            "train.seed": None,
            "data.packing": False,
        },
    )
    text = path.read_text()
    for kept in (
        "# about this profile",
        "# short",
        "# which",
        "# built in",
        "256 # rows are short",
        "# the data",
        "# first",
    ):
        assert kept in text
    found = load_profile(path)
    assert found.problems == ()
    assert (found.profile.lora.r, found.profile.data.packing, found.profile.train.seed) == (8, False, 42)
    assert found.profile.data.datasets[0].path == "b.csv"


def test_a_second_data_set_is_a_table_of_its_own(path):
    edit_profile(path, {"data.datasets.1.path": "c.csv", "data.datasets.1.format": "alpaca"})
    assert path.read_text().count("[[data.datasets]]") == 2
    assert load_profile(path).profile.data.datasets[1].format == "alpaca"


@pytest.mark.parametrize(
    "changes", [{"lora.r": 0}, {"lora.rank": 8}, {"model.name_or_path": None}, {"train.seed.x": 1}]
)
def test_what_would_not_validate_is_not_written(path, changes):
    with pytest.raises(EngineError) as raised:
        edit_profile(path, changes)
    assert raised.value.code is ExitCode.PROFILE
    assert path.read_text() == WRITTEN
    assert os.listdir(path.parent) == ["p.toml"]


def test_a_new_profile_leaves_unset_values_out(tmp_path):
    path = tmp_path / "new.toml"
    entry = {"path": "a.csv", "columns": {"instruction": "q"}}
    settings = {
        "name": None,
        "model": {"name_or_path": "demo", "revision": None},
        "data": {"packing": False, "datasets": [entry, {"path": "b.csv"}]},
    }
    write_profile(path, settings)
    assert tomllib.loads(path.read_text()) == {
        "model": {"name_or_path": "demo"},
        "data": {"packing": False, "datasets": [entry, {"path": "b.csv"}]},
    }
    edit_profile(path, {"data.datasets.0.path": "c.csv"})
    assert load_profile(path).profile.data.datasets[0].path == "c.csv"


def test_an_invalid_new_profile_leaves_no_file(tmp_path):
    with pytest.raises(EngineError):
        write_profile(tmp_path / "new.toml", {"model": {"name_or_path": "demo"}})
    assert os.listdir(tmp_path) == []


def test_a_failing_disk_leaves_the_old_profile(path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError) as raised:
        edit_profile(path, {"lora.r": 8})
    assert raised.value.code is ExitCode.DISK
    assert path.read_text() == WRITTEN
    assert os.listdir(path.parent) == ["p.toml"]


def test_a_link_and_the_mode_survive(path, tmp_path):
    path.chmod(0o600)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    edit_profile(link, {"lora.r": 8})
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "r = 8" in path.read_text()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    settings = {"model": {"name_or_path": "demo"}, "data": {"datasets": [{"path": "a.csv"}]}}
    with pytest.raises(EngineError, match="cannot be written") as raised:
        write_profile(tmp_path / "no" / "p.toml", settings)
    assert raised.value.code is ExitCode.PROFILE


def test_broken_toml_is_not_edited(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(MODEL + "x = = 1\n" + DATA)
    with pytest.raises(EngineError, match="not TOML"):
        edit_profile(path, {"lora.r": 8})
