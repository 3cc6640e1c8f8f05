"""What parity lets pass and what it stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.export.parity import TOLERANCE, allowed, closer_to_base, distance, failed, judge, stored_dtypes

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def logits(seed: int = 0, scale: float = 4.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 500, generator=generator) * scale + 3 for size in (7, 20)]


def add(one: list[torch.Tensor], other: list[torch.Tensor], factor: float) -> list[torch.Tensor]:
    return [a + factor * b for a, b in zip(one, other, strict=True)]


BASE = logits(0)
TUNED = add(BASE, logits(1), 0.3)


def judged(found: list[torch.Tensor], dtype: str = "bf16", stored: dict[str, int] | None = None) -> list[str]:
    return judge(
        dtype,
        distance(TUNED, found),
        distance(BASE, TUNED),
        distance(BASE, found),
        {dtype: 100} if stored is None else stored,
    )


def test_distance_by_hand() -> None:
    wanted = [torch.tensor([[1.0, 3.0], [2.0, 0.0]])]
    found = [torch.tensor([[1.0, 3.5], [2.0, 2.25]])]
    seen = distance(wanted, found)
    # A shift of all logits of a position is no difference: what counts is [-0.25, 0.25] and [-1.125, 1.125].
    assert seen.max_abs == 1.125
    assert seen.mean_abs == pytest.approx(2.75 / 4)
    assert seen.relative == pytest.approx(((0.25**2 + 1.125**2) / 2) ** 0.5)
    assert distance(wanted, [wanted[0] + 5]).relative == 0
    assert seen.top1 == 0.5
    assert seen.positions == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_to_the_stored_dtype_passes(dtype: str) -> None:
    rounded = [part.to(DTYPES[dtype]).float() for part in TUNED]
    assert judged(rounded, dtype) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_forgotten_doubled_or_partial_adapters_fail(dtype: str) -> None:
    assert any("base model" in text for text in judged(BASE, dtype))
    for factor in (0.6, 0.0, 0.15):
        assert judged(add(BASE, logits(1), factor), dtype) != []


def test_rounding_of_a_deep_model_passes_only_beside_an_adapter_that_does_much() -> None:
    effect = distance(BASE, TUNED)
    assert allowed("bf16", None) == TOLERANCE["bf16"]
    assert allowed("bf16", replace(effect, relative=0.1)) == TOLERANCE["bf16"]
    assert allowed("bf16", replace(effect, relative=0.5)) == pytest.approx(0.15)
    assert allowed("bf16", replace(effect, relative=9.0)) == pytest.approx(3 * TOLERANCE["bf16"])
    for share in (0.35, 1.0):
        off = replace(effect, relative=share * 0.5)
        assert judge("bf16", off, replace(effect, relative=0.5), effect, {"bf16": 1}) != []


def test_a_forgotten_adapter_fails_even_when_it_is_weak() -> None:
    weak = add(BASE, logits(1), 1e-3)
    problems = judge("bf16", distance(weak, BASE), distance(BASE, weak), distance(BASE, BASE), {"bf16": 1})
    assert problems == ["it is the base model: nothing of the adapter is in it"]


def test_one_broken_column_fails() -> None:
    broken = [part.clone() for part in TUNED]
    broken[0][0, 17] += 40
    assert any("one logit" in text for text in judged(broken, "fp16"))


def test_not_a_number_fails() -> None:
    assert judged([part * torch.nan for part in TUNED]) != []


def test_other_dtypes_than_asked_fail() -> None:
    assert judged(TUNED, "bf16", {"fp32": 90, "bf16": 10}) != []
    assert judged(TUNED, "bf16", {}) != []
    assert judged(TUNED, "bf16", {"fp32": 5, "bf16": 95}) == []


def test_a_change_lost_in_rounding_is_seen() -> None:
    weak = add(BASE, logits(1), 1e-3)
    found = add(BASE, logits(2), 1e-4)
    assert closer_to_base(distance(weak, found), distance(BASE, weak), distance(BASE, found))
    assert not closer_to_base(distance(TUNED, TUNED), distance(BASE, TUNED), distance(BASE, TUNED))
    assert not closer_to_base(distance(TUNED, TUNED), None, None)


def test_tolerances_grow_with_the_rounding_of_their_dtype() -> None:
    units = {"fp32": 2**-24, "fp16": 2**-11, "bf16": 2**-8}
    assert all(10 * unit < TOLERANCE[name] < 0.1 for name, unit in units.items())


def test_stored_dtype_is_read_from_the_files(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 4, dtype=torch.bfloat16)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.zeros(5), "c": torch.zeros(2, dtype=torch.float16)}, tmp_path / "model-2.safetensors")
    assert stored_dtypes(tmp_path) == {"bf16": 12, "fp32": 5, "fp16": 2}


def test_the_error_says_what_and_what_to_do() -> None:
    error = failed("merged", ["its logits are off by 0.5"])
    assert "off by 0.5" in str(error)
    assert "fp32" in error.hint
    assert "more bits" in failed("nf4", ["its logits are off by 0.5"]).hint
