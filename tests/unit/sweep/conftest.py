"""Profiles that vary something, and machines to hold them against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.hardware.machine import Cpu, Gpu, Machine
from engine.profile.load import LoadedProfile, load_text
from engine.sweep.combinations import Plan, plan_of

GIB = 1024**3
BASE = """# mine
[model]
name_or_path = "demo"  # small
max_length = 128
[[data.datasets]]
path = "demo:dates.train.jsonl"
[data]
validation_path = "demo:dates.test.jsonl"
"""


def gpu(uuid: str, free_gib: float) -> Gpu:
    """A 24 GiB card with that much free."""
    return Gpu(
        "Card", uuid=uuid, index=0, total_bytes=24 * GIB, free_bytes=int(free_gib * GIB), compute_capability=(8, 6)
    )


def machine(*gpus: Gpu) -> Machine:
    """Eight cores, 64 GiB of memory, and these GPUs."""
    return Machine("box", Cpu("CPU", 8, 16, bf16_native=True), 64 * GIB, 60 * GIB, "/", 500 * GIB, gpus=gpus)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., LoadedProfile]:
    return lambda sweep, base=BASE: load_text(base + sweep, tmp_path / "p.toml")


@pytest.fixture
def plan(load: Callable[..., LoadedProfile]) -> Callable[..., Plan]:
    return lambda sweep, base=BASE: plan_of(load(sweep, base))
