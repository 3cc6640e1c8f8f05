"""Each shipped profile loads, is described, and fits the machine it was made for."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from engine.errors import EngineError, ExitCode
from engine.hardware.probe import hypothetical_machine
from engine.profile.load import load_profile
from engine.profile.shipped import find_profile, shipped_profile, shipped_profiles
from engine.resolve.check import examine
from engine.resolve.resolve import resolve_profile
from tests.unit.profile_machines import machine

CARDS = {
    "full-1b-24gb": "RTX 4090",
    "lora-8b-80gb": "A100 80GB",
    "qlora-14b-24gb": "RTX 3090",
    "qlora-3b-8gb": "RTX 3070",
    "qlora-8b-24gb": "RTX 4090",
    "cpu-smollm2-135m": None,
    "demo": None,
    "sweep-lora": None,
}
NEEDS_A_BUILD = {"demo-base"}


def test_every_shipped_profile_has_a_machine_here():
    assert {item.name for item in shipped_profiles()} == set(CARDS) | NEEDS_A_BUILD


@pytest.mark.parametrize("item", shipped_profiles(), ids=lambda item: item.name)
def test_it_loads_and_explains_itself(item):
    loaded = load_profile(item.path)
    assert loaded.problems == ()
    assert item.description == loaded.profile.description
    assert loaded.text.startswith("#")


@pytest.mark.parametrize("name", CARDS)
def test_it_fits_the_card_in_its_name(name, tmp_path):
    path = tmp_path / f"{name}.toml"
    shutil.copy(shipped_profile(name).path, path)
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    place = hypothetical_machine(CARDS[name]) if CARDS[name] else machine()
    resolved = resolve_profile(load_profile(path), replace(place, disk_free_bytes=1 << 40))
    assert resolved.plan.verdict == "OK"
    assert {warning.key for warning in resolved.warnings} <= {"model.name_or_path", "export.merged"}


def test_the_recipe_of_the_demo_model_lacks_only_what_is_built():
    seen = examine(load_profile(shipped_profile("demo-base").path), machine())
    assert {item.code for item in seen.problems} <= {ExitCode.MODEL, ExitCode.DATA}


def test_names_stand_for_files(tmp_path, monkeypatch):
    assert find_profile("demo") == shipped_profile("demo.toml").path
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("")
    assert find_profile("demo").name == "demo"
    assert find_profile("demo.txt").name == "demo.txt"
    with pytest.raises(EngineError, match="no shipped profile") as raised:
        shipped_profile("qlora-8b")
    assert "qlora-8b-24gb" in raised.value.hint
