"""The closed form of saved activations against what autograd really keeps, byte by byte.

Tiny models of every family, real transformers and PEFT code, the engine's packed attention.
"""

from __future__ import annotations

from typing import Any

import pytest

from engine.memory.activations import cost_of
from engine.memory.device import attention_kernel
from engine.memory.shape import TrainingShape
from engine.models.config import spec_from_config
from engine.models.spec import ModelSpec

TOKENS = (2, 64)
FAMILIES = (
    "LlamaConfig",
    "Qwen2Config",
    "Qwen3Config",
    "MistralConfig",
    "Phi3Config",
    "Gemma3TextConfig",
    "Olmo2Config",
    "SmolLM3Config",
    "GraniteConfig",
)


def build(family: str, layers: int, dtype: str, method: str, **lora: Any) -> tuple[Any, ModelSpec]:
    torch = pytest.importorskip("torch")
    import transformers
    from peft import LoraConfig, get_peft_model

    from engine.modeling import attention

    attention.register()
    sizes = {"hidden_size": 128, "intermediate_size": 320, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = getattr(transformers, family)(
        **sizes,
        head_dim=32,
        vocab_size=512,
        num_hidden_layers=layers,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config._attn_implementation, config.use_cache = attention.NAME, False
    width = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    model = transformers.AutoModelForCausalLM.from_config(config).to(width)
    spec = spec_from_config(config.to_dict(), "tiny", "config.json", source="directory", path=None)
    assert spec.sizes.computed_parameters == sum(parameter.numel() for parameter in model.parameters())
    if method == "lora":
        options = {"r": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **lora}
        model = get_peft_model(model, LoraConfig(**options), autocast_adapter_dtype=False).to(width)
    return model.train(), spec


def saved_bytes(model: Any) -> int:
    """Storage bytes that the forward pass keeps, without parameters."""
    import torch

    owned = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, tuple[int, Any]] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    tokens = torch.randint(3, 500, TOKENS)
    embedded = model.get_input_embeddings()(tokens).detach().requires_grad_(True)
    decoder = model.get_base_model().get_decoder() if hasattr(model, "get_base_model") else model.get_decoder()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        decoder(inputs_embeds=embedded, use_cache=False)
    return sum(size for size, _ in kept.values())


def per_token_and_layer(family: str, dtype: str, method: str, **lora: Any) -> tuple[float, ModelSpec]:
    sizes = []
    for layers in (2, 3):
        model, spec = build(family, layers, dtype, method, **lora)
        sizes.append(saved_bytes(model))
    return (sizes[1] - sizes[0]) / (TOKENS[0] * TOKENS[1]), spec


def shape_for(spec: ModelSpec, dtype: str, method: str, targets: tuple[str, ...] | None = None) -> TrainingShape:
    adapted = targets or tuple(spec.sizes.linear_shapes)
    return TrainingShape(method=method, compute_dtype=dtype, lora_r=8, device="cpu", lora_targets=adapted)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("method", "dtype"), [("lora", "bf16"), ("full", "bf16"), ("lora", "fp32")])
def test_saved_bytes_per_token_and_layer_match_autograd(family: str, method: str, dtype: str) -> None:
    real, spec = per_token_and_layer(family, dtype, method)
    shape = shape_for(spec, dtype, method)
    predicted = cost_of(spec, shape, attention_kernel(spec, shape, None)).saved
    assert predicted == pytest.approx(real, rel=0.005)


def test_adapters_on_two_layers_only_keep_less() -> None:
    targets = ("q_proj", "v_proj")
    real, spec = per_token_and_layer("LlamaConfig", "bf16", "lora", target_modules=list(targets))
    assert cost_of(spec, shape_for(spec, "bf16", "lora", targets), "products").saved == real


def test_dropout_keeps_masks_and_copies() -> None:
    from dataclasses import replace

    real, spec = per_token_and_layer("LlamaConfig", "bf16", "lora", lora_dropout=0.1)
    shape = replace(shape_for(spec, "bf16", "lora"), lora_dropout=0.1)
    predicted = cost_of(spec, shape, "products").saved
    assert predicted >= real
    assert predicted == pytest.approx(real, rel=0.05)
