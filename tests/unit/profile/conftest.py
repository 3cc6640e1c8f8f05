"""Profiles in a folder of their own, and machines to hold them against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from profile_machines import gpu, machine

from engine.hardware.machine import Machine
from engine.profile.load import LoadedProfile, load_profile

Load = Callable[..., LoadedProfile]


@pytest.fixture
def cpu_machine() -> Machine:
    return machine()


@pytest.fixture
def gpu_machine() -> Machine:
    return machine(gpu())


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Text (and overrides) of a profile in `tmp_path`, beside a train.jsonl, loaded."""
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')

    def make(text: str, *overrides: str) -> LoadedProfile:
        path = tmp_path / "p.toml"
        path.write_text(text, encoding="utf-8")
        return load_profile(path, overrides)

    return make
