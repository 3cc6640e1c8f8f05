"""A path that is not there: the name that was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.models.resolve import resolve_model
from engine.nearby import did_you_mean, nearest_path
from engine.profile.data_files import data_trouble


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("alpaca_en_demo.json", "data/rows.jsonl", "models/tiny/config.json", "bad\x1bname.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("alpaca_en_dem", "alpaca_en_demo.json"),
        ("Alpaca_EN_demo.json", "alpaca_en_demo.json"),
        ("alpaca_en_demo.jsonl", "alpaca_en_demo.json"),
        ("daat/rows.jsonl", "data/rows.jsonl"),
        ("data/row.jsonl", "rows.jsonl"),
        ("data/rows.jsonl", ""),
        ("daat/none.jsonl", ""),
        ("quite another", ""),
        ("bad_name.json", "bad\ufffdname.json"),
    ],
)
def test_the_nearest_name_is_found(folder: Path, typed: str, meant: str) -> None:
    assert nearest_path(folder / typed) == meant


def test_a_folder_that_cannot_be_read_names_nothing(folder: Path) -> None:
    assert did_you_mean(folder / ("x" * 300) / "y") == ""
    assert did_you_mean(folder / "a\x00b") == ""


def test_data_and_models_are_asked_about(folder: Path) -> None:
    message, hint = data_trouble("alpaca_en_dem", folder)
    assert message.startswith("there is no file")
    assert hint == "did you mean 'alpaca_en_demo.json'?"
    with pytest.raises(EngineError) as caught:
        resolve_model("./models/tniy", base_dir=folder)
    assert caught.value.hint == "did you mean 'tiny'?"
