"""Attention sinks: output and every gradient are those of transformers' own gpt-oss attention, document by document."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

from engine.modeling import attention, attention_operators
from engine.modeling.attention_documents import Documents
from engine.modeling.attention_kernels import KeptOutputs, fused_attention
from engine.modeling.attention_operators import Call

ROWS, LENGTH, HEADS, KEY_HEADS, WIDTH, SCALE = 2, 24, 4, 2, 8, 0.3
MANY, WHOLE = (0, 5, 6, 24, 33, 48), (0, 24, 48)


def inputs(dtype: torch.dtype = torch.float32, length: int = LENGTH) -> list[torch.Tensor]:
    torch.manual_seed(0)
    parts = [torch.randn(ROWS, heads, length, WIDTH, dtype=dtype) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    return [each.requires_grad_() for each in (*parts, torch.randn(HEADS, dtype=dtype))]


def eager(parts: list[torch.Tensor], borders: tuple[int, ...], window: int | None) -> torch.Tensor:
    """transformers' attention over the whole batch, with a mask that keeps documents apart."""
    query, key, value, sinks = parts
    query, key, value = (part.transpose(0, 1).flatten(1, 2)[None] for part in (query, key, value))
    count = query.shape[2]
    owners = torch.bucketize(torch.arange(count), torch.tensor(borders[1:]), right=True)
    distance = torch.arange(count)[:, None] - torch.arange(count)[None]
    seen = (owners[:, None] == owners[None]) & (distance >= 0) & (distance < (window or count))
    mask = torch.zeros(count, count, dtype=query.dtype).masked_fill(~seen, float("-inf"))[None, None]
    module = SimpleNamespace(num_key_value_groups=HEADS // KEY_HEADS, sinks=sinks, training=True)
    out, _ = eager_attention_forward(module, query, key, value, mask, SCALE)
    return out[0].unflatten(0, (ROWS, count // ROWS))


def with_gradients(out: torch.Tensor, parts: list[torch.Tensor]) -> list[torch.Tensor]:
    up = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out, *torch.autograd.grad(out, parts, up)]


def share(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.detach().float(), expected.detach().float()
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize(
    ("dtype", "length", "bound"),
    [(torch.float32, LENGTH, 1e-6), (torch.bfloat16, LENGTH, 0.02), (torch.bfloat16, 600, 0.02)],
)
def test_output_and_gradients_are_those_of_eager_attention(dtype, length, bound, window):
    borders = MANY if length == LENGTH else (0, 580, 1200)
    parts = inputs(dtype, length)
    offsets = torch.tensor(borders, dtype=torch.int32)
    out, _ = attention.packed_attention(
        torch.nn.Module(), *parts[:3], None, SCALE, sliding_window=window, s_aux=parts[3], cu_seq_lens_q=offsets
    )
    plain = [part.detach().float().requires_grad_() for part in parts]
    expected = with_gradients(eager(plain, borders, window), plain)
    for found, other in zip(with_gradients(out, parts), expected, strict=True):
        assert share(found, other) < bound


def scores(query: torch.Tensor, key: torch.Tensor, call: Call) -> torch.Tensor:
    """[H, T, T] with what no document may see at minus infinity; heads flattened as kernels take them."""
    offsets, count = call.documents.offsets, query.shape[0] * query.shape[2]
    flat = [part.transpose(0, 1).flatten(1, 2) for part in (query, key)]
    owners = torch.bucketize(torch.arange(count), offsets[1:], right=True)
    distance = torch.arange(count)[:, None] - torch.arange(count)[None]
    seen = (owners[:, None] == owners[None]) & (distance >= 0) & (distance < (call.window or count))
    wide = flat[1].repeat_interleave(HEADS // KEY_HEADS, dim=0)
    return (flat[0] @ wide.transpose(1, 2) * call.scale).masked_fill(~seen, float("-inf"))


def in_layout(out: torch.Tensor, normalizer: torch.Tensor, call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    """[H, T, D] and [H, T] as the kernel gives them."""
    if call.kernel == "flash":
        return out.transpose(0, 1).contiguous(), normalizer
    if call.kernel == "cudnn":
        return out.unflatten(1, (ROWS, LENGTH)).transpose(0, 1), normalizer.unflatten(1, (ROWS, LENGTH)).transpose(
            0, 1
        )[..., None]
    sizes = call.documents.offsets.diff().tolist()
    padded = torch.full((len(sizes), HEADS, 32), float("inf"))
    for number, part in enumerate(normalizer.split(sizes, dim=1)):
        padded[number, :, : part.shape[1]] = part
    return out.transpose(0, 1)[None], padded


def from_layout(out: torch.Tensor, normalizer: torch.Tensor, call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    if call.kernel == "flash":
        return out.transpose(0, 1), normalizer
    if call.kernel == "cudnn":
        return out.transpose(0, 1).flatten(1, 2), normalizer[..., 0].transpose(0, 1).flatten(1, 2)
    sizes = call.documents.offsets.diff().tolist()
    return out[0].transpose(0, 1), torch.cat([normalizer[at, :, :size] for at, size in enumerate(sizes)], dim=1)


def stand_in_forward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> Any:
    found = scores(query, key, call)
    wide = value.transpose(0, 1).flatten(1, 2).repeat_interleave(HEADS // KEY_HEADS, dim=0)
    empty = torch.empty(0)
    return *in_layout(found.softmax(-1) @ wide, found.logsumexp(-1), call), empty, empty


def stand_in_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, found: Any, call: Call
) -> tuple[torch.Tensor, ...]:
    """As flash attention's kernels go back: from the kept output and log-sum-exp alone."""
    out, normalizer = from_layout(found[0], found[1], call)
    grad = grad.flatten(0, 1).transpose(0, 1)
    groups = HEADS // KEY_HEADS
    wide = [part.transpose(0, 1).flatten(1, 2).repeat_interleave(groups, dim=0) for part in (key, value)]
    chances = torch.exp(scores(query, key, call) - normalizer[..., None])
    inner = chances * (grad @ wide[1].transpose(1, 2) - (grad * out).sum(-1, keepdim=True)) * call.scale
    flat = query.transpose(0, 1).flatten(1, 2)
    results = [inner @ wide[0], inner.transpose(1, 2) @ flat, chances.transpose(1, 2) @ grad]
    results[1:] = [part.unflatten(0, (KEY_HEADS, groups)).sum(1) for part in results[1:]]
    return tuple(part.unflatten(1, (ROWS, LENGTH)).transpose(0, 1) for part in results)


@pytest.mark.parametrize(("kernel", "borders"), [("flash", MANY), ("efficient", MANY), ("cudnn", WHOLE)])
def test_every_kernels_layout_takes_sinks(monkeypatch, kernel, borders):
    """Plain products stand in for a GPU's kernels, with the layout of their log-sum-exp; kept outputs hold the sink."""
    forwards = []

    def counted(*given: Any) -> Any:
        forwards.append(1)
        return stand_in_forward(*given)

    monkeypatch.setitem(attention_operators.FORWARD, kernel, counted)
    monkeypatch.setitem(attention_operators.BACKWARD, kernel, stand_in_backward)
    offsets = torch.tensor(borders, dtype=torch.int32)
    call = Call(kernel, Documents(offsets, int(offsets.diff().max()), ROWS, LENGTH), SCALE, 4)
    parts, kept = inputs(), KeptOutputs()
    expected = with_gradients(eager(parts, borders, 4), parts)
    for _ in range(2):
        with kept:
            out = fused_attention(*parts[:3], call, parts[3])
        for found, other in zip(with_gradients(out, parts), expected, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-5)
    assert len(forwards) == 1


def test_frozen_sinks_get_no_gradient_and_sinks_beside_a_soft_cap_are_refused():
    parts = inputs()
    out, _ = attention.packed_attention(torch.nn.Module(), *parts[:3], None, SCALE, s_aux=parts[3].detach())
    assert out.grad_fn is not None
    out.sum().backward()
    assert parts[3].grad is None
    with pytest.raises(attention.EngineError, match="soft-capped"):
        attention.packed_attention(torch.nn.Module(), *parts[:3], None, SCALE, softcap=3.0, s_aux=parts[3])
