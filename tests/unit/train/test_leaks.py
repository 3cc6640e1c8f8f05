"""Documents that see each other are found in every precision, and no sound model is suspected."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from engine.modeling import attention, checkpointing, forward
from engine.selftest.device.build import quantize
from engine.train.layer_kinds import one_of_each_kind, passing_on
from engine.train.leaks import find_leak, probe_of
from engine.train.watched_layers import has_experts

attention.register()
VOCABULARY = 256
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "sliding_window": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
DENSE = ("llama", "mistral", "ministral3", "smollm3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3",
         "olmo2", "olmo3", "granite", "exaone4", "glm4", "cohere2")  # fmt: skip
ROUTED = ("qwen3_moe", "qwen2_moe", "mixtral", "olmoe", "gpt_oss")
UNLIKE = ("llama", "gemma2", "gemma3_text", "phi3", "olmo2", "granite", "glm4", "cohere2", "qwen3_moe", "olmoe")
"""Families whose norms, gates or experts have code of their own."""
DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "nf4": torch.bfloat16,
    "int8": torch.bfloat16,
}
STORED = ("fp32", "fp16", "bf16", "nf4")


def tiny(family: str, stored: str = "fp32", kernel: str = attention.NAME, **more: Any) -> Any:
    """A model of random weights with adapters on all of its projections."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZES, **more})
    config.use_cache = False
    model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[stored], attn_implementation=kernel)
    if stored in ("nf4", "int8"):
        quantize(model, stored)
    return adapted(model)


@cache
def shared(stored: str) -> Any:
    """One Llama for all tests that change nothing but its attention."""
    return tiny("llama", stored)


def attending(stored: str, kernel: str) -> Any:
    model = shared(stored)
    model.get_base_model().config._attn_implementation = kernel
    return model


def adapted(model: Any) -> Any:
    names = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    model.requires_grad_(False)
    found = get_peft_model(model, LoraConfig(r=4, target_modules=sorted(names & {"q_proj", "v_proj", "o_proj"}) or
                                             ["qkv_proj"], lora_dropout=0.1))  # fmt: skip
    for name, weight in found.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return found


def words(rows: int = 2, length: int = 160) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


def leaking(name: str, change: Any) -> str:
    """An attention that is ours but for what `change(options)` does to it."""

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        return change(lambda **others: attention.packed_attention(module, query, key, value, mask, **others), options)

    AttentionInterface.register(name, attend)
    return name


def everything(call: Any, options: Any) -> Any:
    borders = options["cu_seq_lens_q"]
    return call(**{**options, "cu_seq_lens_q": borders[[0, -1]], "max_length_q": int(borders[-1])})


def shifted(by: int) -> Any:
    def change(call: Any, options: Any) -> Any:
        borders = options["cu_seq_lens_q"].clone()
        borders[1:-1] += by
        return call(**{**options, "cu_seq_lens_q": borders, "max_length_q": int(options["max_length_q"]) + 1})

    return change


def square(allowed: Any) -> Any:
    """Attention over the whole row by a mask of our own: `allowed(distance, same document)`."""

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        rows, _, length, _ = query.shape
        at = torch.arange(rows * length)
        owner = torch.bucketize(at, options["cu_seq_lens_q"][1:], right=True)
        look = allowed(at[:, None] - at[None, :], owner[:, None] == owner[None, :])
        flat = [part.transpose(0, 1).flatten(1, 2)[None] for part in (query, key, value)]
        scale = options.get("scaling")
        found = torch.nn.functional.scaled_dot_product_attention(*flat, attn_mask=look, scale=scale, enable_gqa=True)
        return found[0].transpose(0, 1).unflatten(0, (rows, length)), None

    return attend


WINDOW = 8
SOUND = square(lambda distance, same: same & (distance >= 0) & (distance < WINDOW))
WINDOW_OFF = square(lambda distance, same: (distance >= 0) & ((same & (distance < WINDOW)) | (distance == WINDOW)))
LEAKS = {
    "mask off": everything,
    "borders one late": shifted(1),
    "borders one early": shifted(-1),
}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("leak", LEAKS)
def test_attention_that_crosses_a_border_is_found(leak: str, stored: str, rows: int) -> None:
    model = attending(stored, leaking("leaking", LEAKS[leak]))
    assert "document" in find_leak(model, words(), rows, "packed")


@pytest.mark.parametrize("stored", STORED)
def test_a_window_that_is_off_by_one_is_found_and_one_that_is_not_is_sound(stored: str) -> None:
    AttentionInterface.register("windowed", WINDOW_OFF)
    model = attending(stored, "windowed")
    assert "document" in find_leak(model, words(), 1, "packed")
    AttentionInterface.register("windowed", SOUND)
    assert find_leak(model, words(), 1, "packed") == ""


def neighbors(weight: float) -> Any:
    """A hook that adds each token's three neighbors before it, as a convolution over the row does."""

    def add(_: Any, __: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        mixed = states + weight * sum(torch.nn.functional.pad(states, (0, 0, by, 0))[:, :-by] for by in (1, 2, 3))
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

    return add


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_a_mixer_that_reads_its_neighbors_is_found(family: str, stored: str) -> None:
    model = tiny(family, stored, **(EXPERTS if family in ROUTED else {}))
    layers = model.get_base_model().model.layers
    layers[-1].self_attn.register_forward_hook(neighbors(0.1))
    assert find_leak(model, words(), 2, "packed")


@pytest.mark.parametrize("by", [-1, 1])
def test_a_mixer_over_the_flattened_batch_that_crosses_rows_is_found(by: int) -> None:
    model = tiny("llama", "bf16")

    def add(_: Any, __: Any, output: Any) -> Any:
        flat = output[0].flatten(0, 1)
        near = flat.roll(by, dims=0) * 0.1
        border = flat.shape[0] // 2
        at = torch.arange(len(flat))[:, None]
        near = near * ((at >= border - 1) & (at <= border))
        return ((flat + near).reshape(output[0].shape), *output[1:])

    model.get_base_model().model.layers[0].self_attn.register_forward_hook(add)
    assert find_leak(model, words(), 2, "packed")


@pytest.mark.parametrize("weight", [1e-3, 1e-6])
def test_a_leak_far_below_any_tolerance_is_found(weight: float) -> None:
    model = tiny("llama")
    model.get_base_model().model.layers[0].self_attn.register_forward_hook(neighbors(weight))
    assert find_leak(model, words(), 1, "packed")


@pytest.mark.parametrize("stored", STORED)
def test_a_leak_among_experts_is_found_by_its_gradient(stored: str) -> None:
    model = tiny("qwen3_moe", stored, **EXPERTS)
    model.get_base_model().model.layers[-1].mlp.register_forward_hook(neighbors(0.1))
    assert find_leak(model, words(), 2, "packed") == "the loss of document 2 has a gradient in document 1"


@pytest.mark.parametrize("more", [{"stored": "bf16"}, {"kernel": "sdpa", "attention_dropout": 0.1}])
def test_a_leak_without_a_gradient_is_found_by_its_bits(more: Any) -> None:
    model = tiny("llama", **more)

    def add(_: Any, __: Any, output: Any) -> Any:
        return (output[0] + output[0].detach().roll(3, dims=1) * 0.01, *output[1:])

    model.get_base_model().model.layers[1].self_attn.register_forward_hook(add)
    assert find_leak(model, words(), 1, "packed") == "document 2 changed with documents 1 and 4, in layer 1"


def test_a_later_document_that_reaches_an_earlier_one_is_found() -> None:
    model = tiny("llama")

    def add(_: Any, __: Any, output: Any) -> Any:
        return (output[0] + output[0].roll(-1, dims=1) * 0.01, *output[1:])

    model.get_base_model().model.layers[0].self_attn.register_forward_hook(add)
    for layout in ("packed", "rows", "padded"):
        assert find_leak(model, words(), 1, layout)


@pytest.mark.parametrize("stored", ["fp32", "bf16"])
def test_gpt_oss_with_eager_attention_leaks_packed_and_not_one_a_row(stored: str) -> None:
    model = tiny("gpt_oss", stored, "eager", **EXPERTS)
    assert find_leak(model, words(), 2, "packed")
    assert find_leak(model, words(), 2, "rows") == ""


@pytest.mark.parametrize("stored", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["lfm2", "falcon_h1"])
def test_convolutions_and_state_spaces_leak_packed_and_not_one_a_row(
    family: str, stored: str, monkeypatch: Any
) -> None:
    """Without the kernels that know documents: as older versions of transformers, which raise nothing."""
    own = forward._inputs
    monkeypatch.setattr(forward, "_inputs", lambda batch: {k: v for k, v in own(batch).items() if k != "seq_idx"})
    more = {"layer_types": ["conv", "full_attention"]} if family == "lfm2" else {}
    small = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_chunk_size": 16}
    model = tiny(family, stored, **more, **(small if family == "falcon_h1" else {}))
    assert "document" in find_leak(model, words(), 2, "packed")
    assert find_leak(model, words(), 2, "rows") == ""
    assert find_leak(model, words(), 2, "padded") == ""


def test_a_model_that_refuses_packed_rows_gives_its_words_and_takes_padded_ones() -> None:
    model = tiny("lfm2", layer_types=["conv", "full_attention"])
    assert "can't keep packed sequences apart" in find_leak(model, words(), 2, "packed")
    assert find_leak(model, words(), 2, "padded") == ""


@pytest.mark.parametrize(
    ("family", "stored"),
    [*((family, "fp32") for family in (*DENSE, *ROUTED)), *((family, "bf16") for family in UNLIKE)],
)
def test_no_family_is_suspected(family: str, stored: str) -> None:
    """In fp32 as it is; in bf16 with layers that are computed again."""
    model = tiny(family, stored, **(EXPERTS if family in ROUTED else {}))
    assert has_experts(model) == (family in ROUTED)
    if stored == "bf16":
        checkpointing.enable(model, 1)
    assert find_leak(model, words(), 2 if stored == "fp32" else 1, "packed") == ""


@pytest.mark.parametrize("stored", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi3", "qwen3_moe"])
def test_no_family_is_suspected_with_one_document_a_row(family: str, stored: str) -> None:
    model = tiny(family, stored, **(EXPERTS if family in ROUTED else {}))
    for layout in ("rows", "padded"):
        assert find_leak(model, words(), 2, layout) == ""


ONE_WAY = [(one, other) for one in range(4) for other in range(4) if one != other]


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(("seen", "sees"), ONE_WAY)
def test_each_document_that_reaches_another_is_found(seen: int, sees: int, rows: int) -> None:
    """A whisper from one document to one other, in either direction, in a row and between rows."""
    model, parts = shared("fp32"), probe_of(words(), rows, "packed").documents

    def whisper(_: Any, __: Any, output: Any) -> Any:
        flat = output[0].flatten(0, 1).clone()
        flat[parts[sees]] += 1e-4 * flat[parts[seen]]
        return (flat.reshape(output[0].shape), *output[1:])

    model.get_base_model().config._attn_implementation = attention.NAME
    handle = model.get_base_model().model.layers[-1].self_attn.register_forward_hook(whisper)
    try:
        assert "document" in find_leak(model, words(), rows, "packed")
    finally:
        handle.remove()


def test_layers_are_told_apart_by_class_setting_and_hook_and_not_by_place() -> None:
    layers = list(tiny("gemma3_text", num_hidden_layers=8).get_base_model().model.layers)
    assert one_of_each_kind(layers) == {0, 5}, "every sixth has no window"
    layers[3].self_attn.register_forward_hook(neighbors(0.1))
    layers[4].mlp.act_fn = torch.nn.SiLU()
    assert one_of_each_kind(layers) == {0, 3, 4, 5}
    assert one_of_each_kind(list(tiny("llama", "nf4").get_base_model().model.layers)) == {0}


def test_layers_that_pass_on_their_input_are_as_before_afterwards() -> None:
    model = tiny("llama", num_hidden_layers=3)
    layers = list(model.get_base_model().model.layers)
    layers[2].forward = own = layers[2].forward
    ran: list[int] = []
    for number, layer in enumerate(layers):
        layer.mlp.register_forward_hook(lambda *_, number=number: ran.append(number))
    ids = words(1, 8)
    with torch.no_grad(), passing_on(layers, dict.fromkeys(range(3), torch.Tensor), {1}):
        model(input_ids=ids)
    assert ran == [1]
    assert [vars(layer).get("forward") for layer in layers] == [None, None, own]


@pytest.mark.parametrize("stored", ["fp16", "nf4", "int8"])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen3_moe"])
def test_no_narrow_base_is_suspected(family: str, stored: str) -> None:
    model = tiny(family, stored, **(EXPERTS if family in ROUTED else {}))
    checkpointing.enable(model, 1, reentrant=stored == "int8")
    assert find_leak(model, words(), 2, "packed") == ""


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_transformers_own_attention_with_dropout_is_not_suspected(kernel: str) -> None:
    assert find_leak(tiny("llama", "fp32", kernel, attention_dropout=0.1), words(), 2, "packed") == ""


def test_the_model_is_left_as_it_was() -> None:
    model = tiny("llama")
    model.eval()
    before = [parameter.requires_grad for parameter in model.parameters()]
    drawn = torch.get_rng_state()
    find_leak(model, words(), 2, "packed")
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(part.training for part in model.modules())
    assert not any(part._forward_hooks for part in model.modules())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_documents_of_the_probe_are_of_one_length_however_short_the_rows() -> None:
    for layout in ("packed", "rows", "padded"):
        for rows in (1, 2):
            probe = probe_of(words(2, 16), rows, layout)
            sizes = {part.stop - part.start for part in probe.documents}
            assert len(sizes) == 1
            assert probe.documents[-1].stop == probe.batch["input_ids"].numel() == probe.batch["cu_seq_lens"][-1]
