"""Which kernel takes which heads on which card, and what the autograd function around the kernels passes on.

The kernels themselves run on a GPU only (`tests/gpu`); here plain products stand in for them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.modeling import attention, attention_flex, attention_kernels, attention_operators
from engine.modeling.attention_documents import Documents
from engine.modeling.attention_kernels import KeptOutputs, fused_attention, kernel_for
from engine.modeling.attention_operators import Call

OFFSETS = torch.tensor([0, 10, 16, 20, 32], dtype=torch.int32)


def heads(dtype: torch.dtype = torch.bfloat16, width: int = 64, groups: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty(2, 2 * groups, 16, width, dtype=dtype), torch.empty(2, 2, 16, width, dtype=dtype)


def documents(*, whole: bool) -> Documents:
    return Documents(torch.tensor([0, 16, 32], dtype=torch.int32) if whole else OFFSETS, 16 if whole else 12, 2, 16)


@pytest.mark.parametrize(
    ("card", "dtype", "width", "whole", "window", "kernel"),
    [
        ((9, 0), torch.bfloat16, 128, True, None, "cudnn"),
        ((10, 0), torch.float16, 64, True, None, "cudnn"),
        ((9, 0), torch.bfloat16, 128, True, 16, "cudnn"),
        ((9, 0), torch.bfloat16, 128, True, 8, "flash"),
        ((9, 0), torch.bfloat16, 128, False, None, "flash"),
        ((9, 0), torch.bfloat16, 256, True, None, "flash"),
        ((8, 0), torch.bfloat16, 128, True, None, "flash"),
        ((12, 0), torch.bfloat16, 128, True, None, "flash"),
        ((9, 0), torch.bfloat16, 512, True, None, "efficient"),
        ((9, 0), torch.float32, 64, True, None, "efficient"),
        ((7, 5), torch.float16, 64, False, None, "efficient"),
        (None, torch.bfloat16, 64, True, None, None),
    ],
)
def test_each_card_takes_its_kernel(monkeypatch, card, dtype, width, whole, window, kernel):
    monkeypatch.setattr(attention_kernels, "capability", lambda _: card)
    monkeypatch.setattr(attention_kernels, "_cudnn_agrees", lambda *_: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    assert kernel_for(*heads(dtype, width), documents(whole=whole), window) == kernel


def test_cudnn_is_left_out_where_it_is_old_wrong_or_not_deterministic(monkeypatch):
    monkeypatch.setattr(attention_kernels, "capability", lambda _: (9, 0))
    agrees = {"cudnn": True}
    monkeypatch.setattr(attention_kernels, "_cudnn_agrees", lambda *_: agrees["cudnn"])
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91400)
    assert kernel_for(*heads(), documents(whole=True), None) == "flash"
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    assert kernel_for(*heads(), documents(whole=True), None) == "cudnn"
    agrees["cudnn"] = False
    assert kernel_for(*heads(), documents(whole=True), None) == "flash"
    agrees["cudnn"] = True
    torch.use_deterministic_algorithms(True)
    try:
        assert kernel_for(*heads(), documents(whole=True), None) == "flash"
    finally:
        torch.use_deterministic_algorithms(False)


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> torch.Tensor:
    """[B * S, H, D] by one document at a time."""
    how = attention.Scores(call.scale, call.window, None)
    return attention._by_document(query, key, value, call.documents.offsets, how).flatten(0, 1)


class Stand:
    """Plain products in the place of the flash kernel; counts its forward passes."""

    def __init__(self) -> None:
        self.forwards = 0

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> Any:
        self.forwards += 1
        empty = torch.empty(0)
        return plain(query, key, value, call), empty, empty, empty

    def backward(
        self, grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, _: Any, call: Call
    ) -> Any:
        with torch.enable_grad():
            parts = [part.detach().requires_grad_() for part in (query, key, value)]
            return torch.autograd.grad(plain(*parts, call), parts, grad.flatten(0, 1))


@pytest.fixture
def stand(monkeypatch):
    found = Stand()
    monkeypatch.setitem(attention_operators.FORWARD, "flash", found.forward)
    monkeypatch.setitem(attention_operators.BACKWARD, "flash", found.backward)
    return found


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, count, 16, 8, requires_grad=True) for count in (4, 2, 2)]


def test_outputs_and_gradients_pass_through_the_function(stand):
    parts, call = inputs(), Call("flash", documents(whole=False), 0.3, 5)
    expected = plain(*parts, call).unflatten(0, (2, 16))
    found = fused_attention(*parts, call)
    assert torch.equal(found, expected)
    weights = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, parts, weights), torch.autograd.grad(expected, parts, weights), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_kept_output_is_not_formed_again(stand):
    """Two attentions in one checkpointed layer: the second pass over the layer gets both back, in order."""
    from torch.utils.checkpoint import checkpoint

    call = Call("flash", documents(whole=False), 0.3)

    def layer(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        first = fused_attention(query, key, value, call)
        return fused_attention(first.transpose(1, 2) * 2, key, value, call) * 3

    parts, kept = inputs(), KeptOutputs()
    expected = torch.autograd.grad(layer(*parts).square().sum(), parts)
    stand.forwards = 0

    def keeping(*given: torch.Tensor) -> torch.Tensor:
        with kept:
            return layer(*given)

    out = checkpoint(keeping, *parts, use_reentrant=False)
    found = torch.autograd.grad(out.square().sum(), parts)
    assert stand.forwards == 2
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    fused_attention(*parts, call)
    assert stand.forwards == 3, "outside a layer nothing is kept or handed back"


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("key_heads", [2, 4])
def test_flex_attention_looks_where_documents_do(monkeypatch, window, key_heads):
    from torch.nn.attention.flex_attention import flex_attention

    monkeypatch.setattr(attention_flex, "_flex", lambda: flex_attention)
    torch.manual_seed(0)
    parts = [torch.randn(2, count, 64, 16) for count in (4, key_heads, key_heads)]
    offsets = torch.tensor([0, 10, 64, 65, 128], dtype=torch.int32)
    expected = attention._by_document(*parts, offsets, attention.Scores(0.25, window, 5.0))
    how = attention_flex.Capped(0.25, 5.0, window)
    torch.testing.assert_close(
        attention_flex.capped_attention(*parts, Documents(offsets, 54, 2, 64), how), expected, rtol=1e-4, atol=1e-5
    )
