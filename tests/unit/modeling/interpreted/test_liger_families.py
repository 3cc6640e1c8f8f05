"""Each family's kernels against transformers: loss and gradients of every weight, in fp32, fp16 and bf16."""

from __future__ import annotations

import pytest
import torch

from engine.modeling import liger
from engine.models.families import FAMILIES
from tests.unit.modeling.interpreted.models import OPTIONS, in_fp32, step, tiny

WITH_KERNELS = sorted(row.name for row in FAMILIES.values() if row.kernels)


def test_every_family_is_tested() -> None:
    assert set(OPTIONS) == set(WITH_KERNELS)


@pytest.mark.parametrize("family", WITH_KERNELS)
def test_fp32_is_equal_and_undo_is_exact(family: str) -> None:
    model = tiny(family)
    plain = step(model)
    assert liger.bind(model)
    bound = step(model)
    assert bound.loss == pytest.approx(plain.loss, rel=1e-5)
    assert plain.apart(bound) < 1e-5
    liger.unbind(model)
    undone = step(model)
    assert (undone.loss, bool((undone.gradient == plain.gradient).all())) == (plain.loss, True)


@pytest.mark.parametrize(
    ("family", "dtype"),
    [(family, torch.bfloat16) for family in WITH_KERNELS]
    + [(family, torch.float16) for family in ("llama", "gemma3_text", "olmo2")],
    ids=str,
)
def test_16_bit_is_as_far_from_fp32_as_plain(family: str, dtype: torch.dtype) -> None:
    model = tiny(family, dtype)
    exact, plain = step(in_fp32(model)), step(model)
    liger.bind(model)
    bound = step(model)
    assert abs(bound.loss - exact.loss) <= 1.5 * abs(plain.loss - exact.loss) + 1e-3 * exact.loss
    assert exact.apart(bound) <= 1.25 * exact.apart(plain) + 1e-3
