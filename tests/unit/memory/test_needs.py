"""Disk and RAM beside the device."""

from __future__ import annotations

from engine.memory.needs import needs_of
from engine.memory.shape import GIB, MIB, TrainingShape
from engine.models.catalog import catalog_index

LLAMA = catalog_index()["llama-3.1-8b"]


def test_a_checkpoint_holds_adapters_masters_and_moments() -> None:
    found = needs_of(LLAMA, TrainingShape())
    # 41.94 M parameters: bf16 weights 80 MiB, fp32 masters 160 MiB, two fp32 moments 320 MiB.
    assert found.checkpoint_bytes == 560 * MIB
    assert found.run_disk_bytes >= 5 * found.checkpoint_bytes
    assert 15 * GIB < found.merge_ram_bytes < 16 * GIB
    assert found.merged_disk_bytes == 2 * 8030261248


def test_full_fine_tuning_needs_most_and_merges_nothing() -> None:
    full = needs_of(LLAMA, TrainingShape(method="full", optimizer="adamw_bnb_8bit"))
    assert full.checkpoint_bytes > 29 * GIB
    assert full.merge_ram_bytes == 0
    fewer = needs_of(LLAMA, TrainingShape(method="full"), save_total_limit=1, keeps_best=False)
    assert fewer.run_disk_bytes < needs_of(LLAMA, TrainingShape(method="full")).run_disk_bytes
