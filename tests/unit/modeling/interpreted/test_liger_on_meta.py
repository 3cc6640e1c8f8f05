"""The stand-ins for tensors without data keep and return what the kernels do, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from engine.modeling import forward, fused_lora, liger
from engine.oracle import liger_on_meta
from engine.oracle.meta import as_on_cuda
from engine.oracle.tracker import StorageTracker, model_tensors
from tests.unit.modeling.interpreted.models import adapted, batch, tiny

Kept = list[tuple[tuple[int, ...], torch.dtype, int]]
"""Shape, dtype and number of its storage of each tensor that is kept, in order; equal numbers are one storage."""


def recorded(run: Callable[[], Any]) -> tuple[Kept, Any]:
    """What is kept for the backward pass of `run`, and what it returns."""
    kept: Kept = []
    storages: list[Any] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        known = [index for index, each in enumerate(storages) if each._cdata == storage._cdata]
        if not known:
            storages.append(storage)
        kept.append((tuple(tensor.shape), tensor.dtype, known[0] if known else len(storages) - 1))
        return tensor

    with saved_tensors_hooks(pack, lambda each: each):
        out = run()
    return kept, out


def operands(*shapes: tuple[int, ...], device: str = "cpu", dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    return [torch.rand(shape, device=device, dtype=dtype).requires_grad_() for shape in shapes]


def of_norm(functions: Any, device: str) -> Any:
    x, weight = operands((2, 3, 16), (16,), device=device)
    return functions.rms_norm(x, weight, 1e-6, 0.0, "llama", True)


def of_norm_that_copies(functions: Any, device: str) -> Any:
    (x,) = operands((3, 16, 2), device=device)
    return functions.rms_norm(x.transpose(1, 2), None, 1e-6, 0.0, "gemma", False)


def of_rotation(functions: Any, device: str) -> Any:
    query, key = operands((1, 3, 4, 8), (1, 3, 2, 8), device=device)
    cos, sin = operands((1, 3, 8), (1, 3, 8), device=device)
    turned = functions.rotate((query * 1).transpose(1, 2), (key * 1).transpose(1, 2), cos.detach(), sin.detach())
    assert all(each.transpose(1, 2).is_contiguous() for each in turned)
    return turned[0]


def of_gate(functions: Any, device: str) -> Any:
    return functions.silu_mul(*(each * 1 for each in operands((2, 3, 16), (2, 3, 16), device=device)))


def of_gelu(functions: Any, device: str) -> Any:
    return functions.gelu_mul(*(each * 1 for each in operands((2, 3, 16), (2, 3, 16), device=device)))


def of_joined(functions: Any, device: str) -> Any:
    return functions.silu_mul_joined(operands((2, 3, 32), device=device)[0] * 1)


def of_loss(functions: Any, device: str) -> Any:
    logits = torch.rand(5, 11, device=device, dtype=torch.bfloat16)
    return functions.cross_entropy_(logits, torch.zeros(5, dtype=torch.int64, device=device), 0.0)


@pytest.mark.parametrize("use", [of_norm, of_norm_that_copies, of_rotation, of_gate, of_gelu, of_joined, of_loss])
def test_each_stand_in_keeps_and_returns_the_same(use: Callable[[Any, str], Any]) -> None:
    (kept, out), (ours, mine) = (
        recorded(lambda each=each: use(*each)) for each in ((liger, "cpu"), (liger_on_meta, "meta"))
    )
    assert ours == kept
    assert (mine.shape, mine.dtype, mine.stride()) == (out.shape, out.dtype, out.stride())


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "olmo2", "phi3"])
def test_whole_models_keep_the_same_bytes(family: str, fused: bool) -> None:
    model = adapted(tiny(family, torch.bfloat16))
    liger.bind(model)
    if fused:
        fused_lora.fuse(model)
    kept, loss = recorded(lambda: forward.loss_sum(model, batch()))
    with liger_on_meta.kernels_on_meta():
        stood_in, other = recorded(lambda: forward.loss_sum(model, batch()))
        other.backward()
    assert stood_in == kept
    assert (loss.shape, loss.dtype) == (other.shape, other.dtype)
    assert [each.grad.shape for each in model.parameters() if each.requires_grad]


def on_meta(layers: int, tokens: int) -> int:
    """Bytes that the forward pass of a bound Llama with fused adapters leaves; its backward pass runs as well."""
    with torch.device("meta"):
        model = adapted(tiny("llama", torch.bfloat16, num_hidden_layers=layers, num_key_value_heads=4).to("meta"))
    liger.bind(model)
    fused_lora.fuse(model)
    names = ("input_ids", "labels", "position_ids")
    data: dict[str, Any] = {name: torch.empty((1, tokens), dtype=torch.int64, device="meta") for name in names}
    data |= {"cu_seq_lens": torch.tensor([0, tokens], dtype=torch.int32), "max_doc_length": tokens}
    tracker = StorageTracker()
    for name, tensor in model_tensors(model):
        tracker.add(tensor, name)
    weights = tracker.live_bytes
    with as_on_cuda("varlen"), liger_on_meta.kernels_on_meta(), tracker:
        states = forward.hidden_states(model, data)
        kept = tracker.live_bytes - weights
        states.sum().backward()
    return kept


def test_a_layer_keeps_what_is_counted_for_it() -> None:
    """Llama's, with frozen norms: 8h + 4q + 4k + 6f + 4H + 8 + 14r bytes a token."""
    tokens = 512
    layer = on_meta(2, tokens) - on_meta(1, tokens)
    hidden, query, key, wide, heads, rank = 32, 32, 32, 48, 4, 4
    counted = 8 * hidden + 4 * query + 4 * key + 6 * wide + 4 * heads + 8 + 14 * rank
    assert layer == pytest.approx(tokens * counted, rel=0.01)
