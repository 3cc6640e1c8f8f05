"""Rows of very short documents: what attention pads is counted, by the oracle and by what is known of the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.hardware.machine import Gpu
from engine.memory.calibration import measured_shape
from engine.memory.shape import USUAL_DOCUMENT_TOKENS, TrainingShape, documents_of
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index
from engine.profile.schema import Profile
from engine.resolve.document_lengths import remember, remembered

A100, T4 = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0)), Gpu("Tesla T4", compute_capability=(7, 5))
ROWS = TrainingShape(micro_batch=4, max_length=4096)
QWEN = catalog_index()["qwen3-0.6b"]


@pytest.mark.parametrize("tokens", [8, 16, 32, 64, 128, 512])
def test_short_documents_are_the_simulated_peak(tokens: int) -> None:
    from engine.oracle.simulate import simulate

    shape = replace(ROWS, document_tokens=tokens)
    simulated, estimate = simulate(QWEN, shape, gpu=A100), estimate_memory(QWEN, shape, gpu=A100)
    assert -0.01 <= estimate.allocated_bytes / simulated.allocated_bytes - 1 <= 0.012
    assert estimate.reserved_bytes >= simulated.reserved_bytes


@pytest.mark.parametrize(
    ("name", "settings", "gpu"),
    [
        ("qwen3-4b", {"quantization": "nf4", "document_tokens": 16}, A100),
        ("phi-3.5-mini-instruct", {"micro_batch": 2, "document_tokens": 8, "kernels": "liger"}, A100),
        ("tinyllama-1.1b-chat-v1.0", {"max_length": 2048, "document_tokens": 32, "compute_dtype": "fp16"}, T4),
        ("qwen2.5-0.5b-instruct", {"max_length": 2048, "document_tokens": 8, "compute_dtype": "fp32"}, A100),
    ],
)
def test_other_kernels_and_families_pad_too(name: str, settings: dict[str, object], gpu: Gpu) -> None:
    from engine.oracle.simulate import simulate

    spec, shape = catalog_index()[name], replace(ROWS, **settings)  # type: ignore[arg-type]
    simulated, estimate = simulate(spec, shape, gpu=gpu), estimate_memory(spec, shape, gpu=gpu)
    assert -0.01 <= estimate.allocated_bytes / simulated.allocated_bytes - 1 <= 0.04
    assert estimate.reserved_bytes >= simulated.reserved_bytes


def test_the_rest_of_each_row_is_a_document_more() -> None:
    assert documents_of(ROWS) == 4
    assert documents_of(replace(ROWS, document_tokens=4096)) == 4
    assert documents_of(replace(ROWS, document_tokens=100)) == 4 * (1 + 41)


def test_measurements_of_documents_of_usual_length_hold_for_each_other() -> None:
    usual, long, short, shorter = (
        measured_shape(replace(ROWS, document_tokens=n)) for n in (USUAL_DOCUMENT_TOKENS, 700, 20, 17)
    )
    assert usual == long == ROWS
    assert short == shorter == replace(ROWS, document_tokens=16)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    return Profile.model_validate(
        {"model": {"name_or_path": "demo"}, "data": {"datasets": [{"path": "rows.jsonl"}]}, "lora": {}}
    )


def test_what_a_preparation_counted_holds_for_the_same_files_alone(settings: Profile, tmp_path: Path) -> None:
    assert remembered(settings, tmp_path) is None
    remember(settings, tmp_path, 12)
    assert remembered(settings, tmp_path) == 12
    other = settings.model_copy(update={"model": settings.model.model_copy(update={"name_or_path": "other"})})
    assert remembered(other, tmp_path) is None
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert remembered(settings, tmp_path) is None


def test_a_damaged_note_is_nothing_known(settings: Profile, tmp_path: Path) -> None:
    remember(settings, tmp_path, 12)
    (tmp_path / "cache/tunedeck/document-lengths.json").write_text('{"a": [1e999]')
    assert remembered(settings, tmp_path) is None
    remember(settings, tmp_path, 13)
    assert remembered(settings, tmp_path) == 13
