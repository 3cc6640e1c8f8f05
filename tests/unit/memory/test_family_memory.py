"""Families outside the catalogue: the closed form against one simulated step of transformers' own model.

Small models, so that activations weigh as much as they do in large ones with long rows.
"""

from __future__ import annotations

from typing import Any

import pytest

from engine.hardware.machine import Gpu
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.config import spec_from_config

_A100 = Gpu("A100", compute_capability=(8, 0))
_SIZES = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 32_000,
    "max_position_embeddings": 8192,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "arcee": {},
    "apertus": {},
    "cohere2": {},
    "ernie4_5": {},
    "exaone4": {},
    "gemma4_text": {"num_hidden_layers": 6, "vocab_size_per_layer_input": 32_000},
    "gemma4_unified_text": {"num_hidden_layers": 6, "attention_k_eq_v": True},
    "glm4": {},
    "gpt_oss": {"num_local_experts": 16, "num_experts_per_tok": 4, "intermediate_size": 2048},
    "granitemoehybrid": {
        "layer_types": ["full_attention"] * 4,
        "num_local_experts": 0,
        "shared_intermediate_size": 8192,
        "mamba_n_heads": 64,
    },
    "hunyuan_v1_dense": {},
    "ministral3": {},
    "olmo3": {},
    "phi": {"num_key_value_heads": 16},
    "stablelm": {"num_key_value_heads": 16},
    "olmoe": {"num_experts": 16, "num_experts_per_tok": 4, "intermediate_size": 1024},
    "qwen2_moe": {"num_experts": 16, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
    "seed_oss": {},
}


@pytest.mark.parametrize("family", _OPTIONS)
def test_the_closed_form_is_that_of_a_simulated_step(family: str) -> None:
    pytest.importorskip("torch")
    from transformers import AutoConfig

    from engine.oracle.simulate import simulate

    config = AutoConfig.for_model(family, **{**_SIZES, **_OPTIONS[family]}).to_dict()
    spec = spec_from_config(config, family, "config.json", source="directory", path=None)
    shape = TrainingShape(quantization="nf4", max_length=4096, lora_targets=tuple(spec.sizes.linear_shapes))
    simulated = simulate(spec, shape, config=config, gpu=_A100, whole=True).allocated_bytes
    assert -0.02 <= estimate_memory(spec, shape, gpu=_A100).allocated_bytes / simulated - 1 <= 0.05


@pytest.mark.parametrize("cap", [None, 30.0])
def test_a_cap_of_logits_is_counted_where_the_configuration_has_one(cap: float | None) -> None:
    pytest.importorskip("torch")
    from transformers import AutoConfig

    from engine.oracle.simulate import simulate

    more = {"num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512, "vocab_size": 64_000}
    narrow = {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "final_logit_softcapping": cap}
    config = AutoConfig.for_model("gemma4_text", **{**_SIZES, **more, **narrow}).to_dict()
    spec = spec_from_config(config, "capped", "config.json", source="directory", path=None)
    shape = TrainingShape(max_length=512, lora_targets=("q_proj",))
    found = estimate_memory(spec, shape, gpu=_A100)
    assert found.peak_phase == "loss"
    simulated = simulate(spec, shape, config=config, gpu=_A100, whole=True).allocated_bytes
    assert -0.02 <= found.allocated_bytes / simulated - 1 <= 0.05
