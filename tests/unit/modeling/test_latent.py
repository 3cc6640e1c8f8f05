"""Latent attention, whose value heads are narrower than the others: packed as alone, on every way through a kernel."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.modeling import attention, attention_kernels, attention_operators, forward
from engine.modeling.attention_documents import Documents
from engine.modeling.attention_kernels import fused_attention
from engine.modeling.attention_operators import Call
from engine.train.leaks import find_leak

attention.register()
SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "pad_token_id": 0,
}
OFFSETS = torch.tensor([0, 10, 16, 20, 32], dtype=torch.int32)


def model_of(kind: str, implementation: str) -> Any:
    config = AutoConfig.for_model(kind, **SIZES)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation, dtype=torch.float32).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["deepseek_v2", "deepseek_v3", "glm4_moe_lite"])
def test_packed_documents_are_what_each_is_alone(kind: str) -> None:
    ours, plain = model_of(kind, attention.NAME), model_of(kind, "eager")
    ids = torch.randint(5, 60, (2, 16), generator=torch.Generator().manual_seed(0))
    bounds = OFFSETS.tolist()
    batch = {
        "input_ids": ids,
        "position_ids": torch.cat([torch.arange(end - start) for start, end in pairwise(bounds)]).reshape(2, 16),
        "cu_seq_lens": OFFSETS,
        "max_doc_length": 12,
    }
    together = forward.hidden_states(ours, batch).flatten(0, 1)
    for start, end in pairwise(bounds):
        alone = plain.model(ids.flatten()[None, start:end], use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(together[start:end], alone, atol=3e-6, rtol=1e-5)


def test_no_document_notices_another() -> None:
    model = model_of("glm4_moe_lite", attention.NAME)
    ids = torch.randint(5, 60, (2, 64), generator=torch.Generator().manual_seed(0))
    assert find_leak(model, ids, 2, "packed") == ""


def narrow(dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 2, 16, width, dtype=dtype, requires_grad=True) for width in (24, 24, 12)]


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """[2, 16, 2, 12] by a masked square over all documents."""
    query, key, value = (part.transpose(0, 1).flatten(1, 2) for part in (query, key, value))
    owner = torch.repeat_interleave(torch.arange(4), OFFSETS.diff())
    seen = (owner[:, None] == owner) & torch.ones(32, 32, dtype=torch.bool).tril()
    scores = (query @ key.transpose(1, 2) * 0.3).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(0, 1).unflatten(0, (2, 16))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_a_processor_takes_them_in_both_precisions(dtype: torch.dtype, bound: float) -> None:
    parts = narrow(dtype)
    found, _ = attention.packed_attention(torch.nn.Identity(), *parts, None, scaling=0.3, cu_seq_lens_q=OFFSETS)
    assert_like_plain(found, parts, bound)


def test_a_kernel_of_one_width_gets_zeros_that_nothing_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain products stand in for the flash kernel; they see heads of one width, and autograd keeps none of them."""
    widths = []

    def forward_(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> Any:
        widths.append(value.shape[-1])
        empty = torch.empty(0)
        return plain(query, key, value).flatten(0, 1), empty, empty, empty

    def backward(grad: torch.Tensor, query: Any, key: Any, value: Any, found: Any, call: Call) -> Any:
        assert {part.shape[-1] for part in (grad, query, key, value, found[0])} == {24}
        with torch.enable_grad():
            inner = [part.detach().requires_grad_() for part in (query, key, value)]
            return torch.autograd.grad(plain(*inner), inner, grad)

    monkeypatch.setitem(attention_operators.FORWARD, "flash", forward_)
    monkeypatch.setitem(attention_operators.BACKWARD, "flash", backward)
    parts, kept = narrow(torch.float32), []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.shape) or each, lambda each: each):
        found = fused_attention(*parts, Call("flash", Documents(OFFSETS, 12, 2, 16), 0.3))
    assert widths == [24]
    assert [shape[-1] for shape in kept[:4]] == [24, 24, 12, 12]
    assert_like_plain(found, parts, 1e-6)


def assert_like_plain(found: torch.Tensor, parts: list[torch.Tensor], bound: float) -> None:
    exact = [part.detach().float().requires_grad_() for part in parts]
    expected = plain(*exact)
    assert found.shape == expected.shape == (2, 16, 2, 12)
    up = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    pairs = [(found.float(), expected)]
    pairs += zip(
        torch.autograd.grad(found, parts, up.to(found.dtype)), torch.autograd.grad(expected, exact, up), strict=True
    )
    assert all(float((one.float() - other).norm() / other.norm()) < bound for one, other in pairs)


def test_cudnn_is_for_heads_of_one_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_kernels, "capability", lambda _: (9, 0))
    monkeypatch.setattr(attention_kernels, "has_cudnn", lambda *_: True)
    query, whole = torch.empty(2, 2, 16, 96, dtype=torch.bfloat16), Documents(OFFSETS[[0, 2, 4]], 16, 2, 16)
    assert attention_kernels.kernel_for(query, query, whole, None) == "cudnn"
    assert attention_kernels.kernel_for(query, query, whole, None, narrow_values=True) == "flash"
