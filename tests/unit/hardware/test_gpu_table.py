"""The table of known cards: complete rows, names as people and NVML write them, quick to read."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import pytest

import engine.hardware
from engine.hardware import arithmetic
from engine.hardware.gpus import MIB, find_gpu, known_gpus, nearest_names

TABLE = Path(engine.hardware.__file__).parent / "gpus.toml"


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB"),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"),
        ("NVIDIA A100 80GB PCIe", "NVIDIA A100 80GB PCIe"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 Laptop GPU"),
        ("4090 laptop", "NVIDIA GeForce RTX 4090 Laptop GPU"),
        ("RTX 4090 Mobile", "NVIDIA GeForce RTX 4090 Laptop GPU"),
        ("rtx 4090", "NVIDIA GeForce RTX 4090"),
        ("RTX4090", "NVIDIA GeForce RTX 4090"),
        ("geforce_rtx_4090", "NVIDIA GeForce RTX 4090"),
        ("rtx 3090 24gb", "NVIDIA GeForce RTX 3090"),
        ("RTX 3090Ti", "NVIDIA GeForce RTX 3090 Ti"),
        ("4070tisuper", "NVIDIA GeForce RTX 4070 Ti SUPER"),
        ("4060 ti 16 GB", "NVIDIA GeForce RTX 4060 Ti 16GB"),
        ("a100", "NVIDIA A100-SXM4-80GB"),
        ("A100 40GB", "NVIDIA A100-SXM4-40GB"),
        ("h100", "NVIDIA H100 80GB HBM3"),
        ("H100 PCIe", "NVIDIA H100 PCIe"),
        ("T4", "Tesla T4"),
        ("L40", "NVIDIA L40"),
        ("L40S", "NVIDIA L40S"),
        ("A6000", "NVIDIA RTX A6000"),
        ("rtx 6000 ada", "NVIDIA RTX 6000 Ada Generation"),
        ("Quadro RTX 6000", "Quadro RTX 6000"),
        ("RTX PRO 6000", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"),
        ("DGX Spark", "NVIDIA GB10"),
        ("AGX Orin", "NVIDIA Jetson AGX Orin 64GB"),
    ],
)
def test_names_find_their_row(name: str, row: str) -> None:
    spec = find_gpu(name)
    assert spec is not None
    assert spec.name == row


@pytest.mark.parametrize("name", ["", "rtx", "rtx 9090", "rtx 6000", "Titan V", "RTX 2080 with Max-Q Design", "A100-7"])
def test_unknown_and_ambiguous_names_find_nothing(name: str) -> None:
    assert find_gpu(name) is None


def test_every_row_finds_itself_with_and_without_its_memory() -> None:
    for spec in known_gpus():
        assert find_gpu(spec.name) == spec
        found = find_gpu(spec.name, spec.total_bytes)
        assert found is not None
        assert found.tensor_flops == spec.tensor_flops


@pytest.mark.parametrize(
    ("name", "total_mib", "row"),
    [
        ("NVIDIA GeForce RTX 3080", 10240, "NVIDIA GeForce RTX 3080"),
        ("NVIDIA GeForce RTX 3080", 12288, "NVIDIA GeForce RTX 3080 12GB"),
        ("NVIDIA GeForce RTX 3050", 6144, "NVIDIA GeForce RTX 3050 6GB"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 8192, "NVIDIA GeForce RTX 3080 Laptop GPU"),
        ("NVIDIA RTX A6000", 46068, "NVIDIA RTX A6000"),
        ("NVIDIA GeForce RTX 4090", 49140, "NVIDIA GeForce RTX 4090"),
        ("Orin (nvgpu)", 15656, "NVIDIA Jetson Orin NX 16GB"),
    ],
)
def test_memory_tells_variants_apart(name: str, total_mib: int, row: str) -> None:
    spec = find_gpu(name, total_mib * MIB)
    assert spec is not None
    assert spec.name == row


def test_nearest_names_offer_what_was_meant() -> None:
    assert "NVIDIA GeForce RTX 4090" in nearest_names("rtx 4900")
    assert set(nearest_names("rtx 6000")) >= {"Quadro RTX 6000", "NVIDIA RTX 6000 Ada Generation"}
    assert nearest_names("") == []


def test_rows_are_plausible() -> None:
    rows = known_gpus()
    assert len(rows) >= 50
    for spec in rows:
        assert 0.7 * spec.total_bytes < spec.usable_bytes < spec.total_bytes, spec.name
        assert (6, 0) < spec.compute_capability < (13, 0), spec.name
        assert 10e12 < spec.tensor_flops < 3000e12, spec.name
        assert 90e9 < spec.memory_bandwidth_bytes_s <= 8000e9, spec.name
        assert 20 < spec.power_limit_w <= 1400, spec.name


@pytest.mark.parametrize(
    ("name", "cores", "sm_mhz", "memory_mhz", "bus_bits"),
    [
        ("Tesla T4", 2560, 1590, 5001, 256),
        ("NVIDIA GeForce RTX 4090", 16384, 2520, 10501, 384),
        ("NVIDIA GeForce RTX 3090", 10496, 1695, 9751, 384),
        ("NVIDIA RTX A6000", 10752, 1800, 8001, 384),
        ("NVIDIA L4", 7424, 2040, 6251, 192),
        ("NVIDIA A100-SXM4-40GB", 6912, 1410, 1215, 5120),
        ("NVIDIA H100 80GB HBM3", 16896, 1830, 2619, 5120),
    ],
)
def test_arithmetic_meets_the_table(name: str, cores: int, sm_mhz: int, memory_mhz: int, bus_bits: int) -> None:
    spec = find_gpu(name)
    assert spec is not None
    processors = arithmetic.multiprocessors(cores, spec.compute_capability)
    assert processors == spec.multiprocessors
    flops = arithmetic.tensor_flops(name, processors, spec.compute_capability, sm_mhz)
    assert flops == pytest.approx(spec.tensor_flops, rel=0.01)
    rate = arithmetic.memory_bandwidth_bytes_s(memory_mhz, bus_bits)
    assert rate == pytest.approx(spec.memory_bandwidth_bytes_s, rel=0.01)


def test_arithmetic_without_its_figures_gives_nothing() -> None:
    assert arithmetic.multiprocessors(None, (8, 0)) is None
    assert arithmetic.tensor_flops("X", 10, None, 1000) is None
    assert arithmetic.tensor_flops("X", 10, (6, 1), 1000) is None
    assert arithmetic.memory_bandwidth_bytes_s(1000, None) is None


def test_the_table_is_quick_to_read() -> None:
    best = min(_seconds_to_parse() for _ in range(7))
    assert best < 0.02  # 2 ms where nothing else runs


def _seconds_to_parse() -> float:
    start = time.perf_counter()
    tomllib.loads(TABLE.read_text())
    return time.perf_counter() - start
