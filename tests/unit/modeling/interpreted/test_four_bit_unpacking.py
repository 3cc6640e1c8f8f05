"""Our program that unpacks 4-bit matrices against bitsandbytes' own."""

from __future__ import annotations

import pytest
import torch

from engine.modeling import triton_four_bit

F = pytest.importorskip("bitsandbytes.functional")


@pytest.mark.parametrize("shape", [(48, 128), (7, 64), (130, 192)], ids=str)
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_value_is_the_same(dtype: torch.dtype, kind: str, nested: bool, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    packed, state = F.quantize_4bit(torch.randn(shape, dtype=dtype), quant_type=kind, compress_statistics=nested)
    out = torch.full(shape, float("nan"), dtype=dtype)
    triton_four_bit.unpack(packed, state, out)
    assert torch.equal(out, F.dequantize_4bit(packed, state))
