"""Kernels of a GPU against plain products: attention, 4-bit matrices, Liger's, and layers that are recomputed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config

from engine.modeling import attention, attention_kernels, checkpointing, forward, fused_lora, liger
from engine.modeling.attention_documents import Documents
from engine.modeling.attention_kernels import fused_attention
from engine.modeling.attention_operators import Call
from tests.tiny_llama import tiny_llama

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

MANY, WHOLE = [0, 10, 300, 301, 700, 1024], [0, 512, 1024]


def shares(found: list[torch.Tensor], expected: list[torch.Tensor]) -> list[float]:
    """Differences as shares of the norm."""
    pairs = zip(found, expected, strict=True)
    return [float((one.float() - other.float()).norm() / other.float().norm()) for one, other in pairs]


def plain_with_sinks(query: Any, key: Any, value: Any, sinks: Any, offsets: Any, how: attention.Scores) -> Any:
    """One document at a time; the sink is one more column of the scores."""
    flat = [part.transpose(0, 1).flatten(1, 2) for part in (query, key, value)]
    groups = query.shape[1] // key.shape[1]
    pieces = []
    for one, two, three in zip(*(part.split(offsets.diff().tolist(), dim=1) for part in flat), strict=True):
        two, three = (part.repeat_interleave(groups, dim=0) for part in (two, three))
        bias = attention._full_bias(one.shape[1], how.window, one.dtype, one.device)
        scores = one @ two.transpose(1, 2) * how.scale + bias
        column = sinks[:, None, None].expand(-1, one.shape[1], 1)
        pieces.append(torch.cat((scores, column), dim=-1).softmax(dim=-1)[..., :-1] @ three)
    return torch.cat(pieces, dim=1).transpose(0, 1).unflatten(0, (query.shape[0], query.shape[2]))


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize(
    ("kernel", "dtype", "heads", "key_heads", "width", "window", "borders"),
    [
        ("flash", torch.bfloat16, 8, 2, 128, None, MANY),
        ("flash", torch.bfloat16, 8, 8, 64, 100, MANY),
        ("cudnn", torch.bfloat16, 8, 2, 128, None, WHOLE),
        ("cudnn", torch.float16, 6, 2, 96, None, WHOLE),
        ("efficient", torch.float32, 8, 2, 64, None, MANY),
        ("efficient", torch.float32, 8, 2, 128, 100, MANY),
        ("efficient", torch.bfloat16, 8, 2, 320, None, MANY),
        ("efficient", torch.float16, 8, 8, 512, 100, MANY),
    ],
)
def test_each_kernel_equals_plain_attention(kernel, dtype, heads, key_heads, width, window, borders, sinks):
    if kernel == "cudnn" and torch.cuda.get_device_capability()[0] not in (9, 10):
        pytest.skip("cuDNN's kernel is for Hopper and Blackwell")
    torch.manual_seed(0)
    parts = [torch.randn(2, 512, each, width, device="cuda").transpose(1, 2) for each in (heads, key_heads, key_heads)]
    offsets = torch.tensor(borders, dtype=torch.int32, device="cuda")
    call = Call(kernel, Documents(offsets, int(offsets.diff().max()), 2, 512), width**-0.5, window)
    up = torch.randn(2, 512, heads, width, device="cuda")
    parts += [torch.randn(heads, device="cuda")] * sinks

    def outcome(function: Any, dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [part.to(dtype).detach().requires_grad_() for part in parts]
        out = function(*inputs)
        return [out, *torch.autograd.grad(out, inputs, up.to(dtype))]

    how = attention.Scores(width**-0.5, window, 0.0)
    reference = plain_with_sinks if sinks else attention._by_document
    expected = outcome(lambda *inputs: reference(*inputs, offsets, how), torch.float32)
    found = outcome(lambda *inputs: fused_attention(*inputs[:3], call, *inputs[3:]), dtype)
    assert max(shares(found, expected)) < (1e-5 if dtype == torch.float32 else 0.01)


@pytest.mark.parametrize(("kernel", "dtype"), [("flash", torch.bfloat16), ("efficient", torch.float32)])
def test_value_heads_may_be_narrower(kernel, dtype):
    torch.manual_seed(0)
    parts = [torch.randn(2, 512, 8, width, device="cuda").transpose(1, 2) for width in (192, 192, 128)]
    offsets = torch.tensor(MANY, dtype=torch.int32, device="cuda")
    call = Call(kernel, Documents(offsets, 399, 2, 512), 192**-0.5)
    up = torch.randn(2, 512, 8, 128, device="cuda")

    def outcome(function: Any, dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [part.to(dtype).detach().requires_grad_() for part in parts]
        out = function(*inputs)
        return [out, *torch.autograd.grad(out, inputs, up.to(dtype))]

    how = attention.Scores(192**-0.5, None, 0.0)
    expected = outcome(lambda *inputs: attention._by_document(*inputs, offsets, how), torch.float32)
    found = outcome(lambda *inputs: fused_attention(*inputs, call), dtype)
    assert max(shares(found, expected)) < (1e-5 if dtype == torch.float32 else 0.01)


def test_rows_of_one_document_take_cudnn_on_hopper():
    if torch.cuda.get_device_capability()[0] not in (9, 10) or torch.backends.cudnn.version() < 91501:
        pytest.skip("cuDNN's kernel is for Hopper and Blackwell, from 9.15.1 on")
    query, key = (torch.empty(2, each, 64, 128, device="cuda", dtype=torch.bfloat16) for each in (8, 2))
    offsets = torch.tensor([0, 64, 128], dtype=torch.int32, device="cuda")
    assert attention_kernels.kernel_for(query, key, Documents(offsets, 64, 2, 64), None) == "cudnn"


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_4_bit_matrices_unpack_to_the_same_values(dtype, kind, nested):
    functional = pytest.importorskip("bitsandbytes.functional")
    from engine.modeling import gpu_programs

    weight = torch.randn(1000, 192, device="cuda", dtype=dtype)
    packed, state = functional.quantize_4bit(weight, quant_type=kind, compress_statistics=nested)
    assert torch.equal(gpu_programs.unpack_four_bit(packed, state), functional.dequantize_4bit(packed, state))


def llama(dtype: torch.dtype) -> Any:
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "head_dim": 64}
    return tiny_llama(r=8, vocab_size=1000, **sizes).to("cuda", dtype).train()


def packed(rows: int = 4, length: int = 1024) -> dict[str, Any]:
    ids = torch.randint(0, 1000, (rows, length), generator=torch.Generator().manual_seed(1)).cuda()
    borders = [0]
    for row in range(rows):
        borders += [row * length + 100 + row, (row + 1) * length]
    return {
        "input_ids": ids,
        "labels": ids,
        "position_ids": torch.arange(length, device="cuda").expand(rows, length),
        "cu_seq_lens": torch.tensor(borders, dtype=torch.int32, device="cuda"),
        "max_doc_length": length,
    }


def gradient(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    forward.loss_sum(model, batch).backward()
    return torch.cat([each.grad.float().flatten() for each in model.parameters() if each.grad is not None])


def test_every_way_to_keep_less_gives_the_same_gradient_and_takes_less():
    """bf16 kernels are as near to fp32 as the plain ones; recomputing, keeping and parking change nothing more."""
    batch = packed()
    exact = gradient(llama(torch.float32), batch)
    model = llama(torch.bfloat16)
    plain = gradient(model, batch)
    fused_lora.fuse(model)
    if not liger.missing_reason():
        liger.bind(model)
    whole = gradient(model, batch)
    assert (whole - exact).norm() < 1.2 * (plain - exact).norm()
    peaks = {}
    for name, options in {"all": {}, "attention": {"keep_attention": True}, "offload": {"offload": True}}.items():
        checkpointing.enable(model, 1, **options)
        for _ in range(3):
            torch.cuda.reset_peak_memory_stats()
            found = gradient(model, batch)
            assert (found - whole).norm() < 1e-2 * whole.norm(), name
        peaks[name] = torch.cuda.max_memory_allocated()
    assert peaks["offload"] < peaks["all"] < peaks["attention"]


def test_soft_caps_go_through_flex_attention():
    attention.register()
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=500,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        sliding_window=64,
        query_pre_attn_scalar=64,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME).to("cuda", torch.bfloat16)
    batch = packed(2, 256)
    batch["input_ids"] = batch["labels"] = batch["input_ids"] % 500
    plain = gradient(model.train(), batch)
    warnings: list[tuple[str, str]] = []
    attention.use_flex(model, lambda code, message: warnings.append((code, message)))
    assert warnings == []
    assert any(getattr(module, "scores_by_flex", False) for module in model.modules())
    assert (gradient(model, batch) - plain).norm() < 0.03 * plain.norm()
