"""Machines that are not here, the two tables that every profile needs, and profiles in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.hardware.machine import Cpu, Gpu, Machine
from engine.profile.load import LoadedProfile, load_profile

Load = Callable[..., LoadedProfile]

GIB = 1024**3
MODEL = '[model]\nname_or_path = "demo"\nmax_length = 128\n'
DATA = '[[data.datasets]]\npath = "train.jsonl"\n'


def machine(*gpus: Gpu) -> Machine:
    """Eight cores, 64 GiB of memory, and these GPUs."""
    return Machine("box", Cpu("CPU", 8, 16, bf16_native=True), 64 * GIB, 60 * GIB, "/", 500 * GIB, gpus=gpus)


def gpu(uuid: str = "GPU-aaaa1111", free_gib: float = 23.0, capability: tuple[int, int] = (8, 6)) -> Gpu:
    """A 24 GiB card."""
    return Gpu(
        "Card",
        uuid=uuid,
        index=0,
        total_bytes=24 * GIB,
        free_bytes=int(free_gib * GIB),
        compute_capability=capability,
        multiprocessors=82,
        memory_bandwidth_bytes_s=936e9,
        tensor_flops=71e12,
    )


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
