"""sweep.json is read as it was written, and a damaged one is an error that says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import EngineError, ExitCode
from engine.sweep.document import SweepDocument, read_document
from engine.sweep.store import create_sweep

DOCUMENT = SweepDocument(
    name="dates",
    profile_path="/home/anna/dates.toml",
    method="grid",
    metric="eval_loss",
    trials=2,
    device="cuda",
    gpu=None,
    needed_bytes=10,
    trial_disk_bytes=20,
    shared=False,
    storage="",
    study="",
    keys=("lora.r",),
    cells=({"lora.r": 8}, {"lora.r": 16}),
    left_out=({"params": {"lora.r": 4096}, "why": "too large"},),
    bill={"trials": 2},
)


def test_a_document_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    sweep = create_sweep("dates", DOCUMENT.to_dict(), "")
    assert read_document(sweep) == DOCUMENT
    own = DOCUMENT.with_own_study(sweep, sweep.path / "study.journal")
    assert own == replace(DOCUMENT, study=sweep.id, storage=str(sweep.path / "study.journal"))


@pytest.mark.parametrize("damage", [{"trials": "many"}, {"keys": None}, {"device": ...}])
def test_a_damaged_document_is_an_error_with_its_place(
    damage: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    sweep = create_sweep("dates", DOCUMENT.to_dict(), "")
    path = sweep.path / "sweep.json"
    fields = {**json.loads(path.read_text()), **damage}
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not ...}))
    with pytest.raises(EngineError, match=r"sweep\.json is damaged") as error:
        read_document(sweep)
    assert error.value.code is ExitCode.PROFILE
    assert error.value.where == str(sweep.path)
