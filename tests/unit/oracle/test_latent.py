"""Latent attention, and mixtures with dense first layers: the closed form against a simulated step."""

from __future__ import annotations

from typing import Any

import pytest

from engine.hardware.machine import Gpu
from engine.memory.evaluation import cache_bytes
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index
from engine.models.config import spec_from_config
from engine.oracle.build import config_of_spec, transformers_config
from engine.oracle.grid import GPU
from engine.oracle.simulate import simulate

_SIZES: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 16_000,
    "pad_token_id": 0,
}
_MLA: dict[str, Any] = {
    "q_lora_rank": 384,
    "kv_lora_rank": 256,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "head_dim": 64,
}
_EXPERTS: dict[str, Any] = {"moe_intermediate_size": 704, "num_experts_per_tok": 3, "n_routed_experts": 8}
_V3: dict[str, Any] = {
    **_MLA,
    **_EXPERTS,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_V2 = {**_V3, "q_lora_rank": None}
_FLASH = {**_MLA, **_EXPERTS, "v_head_dim": 192, "n_shared_experts": 1}
_GROUPED: dict[str, Any] = {"head_dim": 128, "num_key_value_heads": 2}
_GLM = {**_GROUPED, **_EXPERTS, "n_shared_experts": 1, "use_qk_norm": True, "n_group": 1, "topk_group": 1}
_MINIMAX = {**_GROUPED, "intermediate_size": 704, "num_local_experts": 8, "num_experts_per_tok": 3}
_LAGUNA = {
    **_GROUPED,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 704,
    "shared_expert_intermediate_size": 704,
    "num_attention_heads_per_layer": None,
}
CASES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("deepseek_v2", _V2, {"quantization": "nf4", "max_length": 4096}),
    ("deepseek_v2", _V2, {"quantization": "nf4", "lora_experts": True}),
    ("deepseek_v3", _V3, {"checkpoint_every": 0}),
    ("deepseek_v3", _V3, {"method": "full", "checkpoint_every": 0}),
    ("deepseek_v3", _V3, {"quantization": "nf4", "compute_dtype": "fp16", "checkpoint_every": 0}),
    ("deepseek_v3", _V3, {"compute_dtype": "fp32", "lora_dropout": 0.1}),
    ("glm4_moe_lite", _FLASH, {"quantization": "nf4", "max_length": 4096}),
    ("glm4_moe_lite", _FLASH, {"keep_attention": True, "micro_batch": 2}),
    ("minicpm3", _MLA, {"quantization": "nf4", "checkpoint_every": 0}),
    ("glm4_moe", _GLM, {"quantization": "nf4", "max_length": 4096}),
    ("minimax_m2", _MINIMAX, {"checkpoint_every": 0}),
    ("laguna", _LAGUNA, {"quantization": "nf4", "max_length": 4096}),
    ("nemotron", _GROUPED, {"quantization": "nf4", "max_length": 4096}),
)


@pytest.mark.parametrize(
    ("family", "options", "changes"),
    [pytest.param(*case, id=f"{case[0]} {' '.join(f'{k}={v}' for k, v in case[2].items())}") for case in CASES],
)
def test_the_closed_form_is_that_of_a_simulated_step(
    family: str, options: dict[str, Any], changes: dict[str, Any]
) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(family, **{**_SIZES, **options}).to_dict()
    spec = spec_from_config(config, family, "config.json", source="directory", path=None)
    shape = TrainingShape(lora_targets=tuple(spec.sizes.linear_shapes), **changes)
    simulated = simulate(spec, shape, config=config, gpu=GPU, whole=True).allocated_bytes
    assert -0.02 <= estimate_memory(spec, shape, gpu=GPU).allocated_bytes / simulated - 1 <= 0.05


def test_a_listed_model_is_simulated_from_its_numbers() -> None:
    """Dense first layers are in both depths that are simulated; what a period adds is a layer with experts."""
    for name in ("deepseek-v2-lite", "glm-4.7-flash", "minicpm3-4b"):
        spec = catalog_index()[name]
        config = transformers_config(config_of_spec(spec)).to_dict()
        again = spec_from_config(config, name, "config.json", source="directory", path=None)
        assert again.sizes == spec.sizes


def test_glm_flash_trains_in_four_bits_on_24_gib() -> None:
    spec = catalog_index()["glm-4.7-flash"]
    shape = TrainingShape(quantization="nf4", lora_targets=tuple(spec.sizes.linear_shapes))
    estimate = estimate_memory(spec, shape, gpu=Gpu("RTX 4090", compute_capability=(8, 9)))
    assert 17 * 2**30 < estimate.device_bytes < 21 * 2**30
    simulated = simulate(spec, shape, gpu=GPU)
    assert simulated.layers_run == (2, 3)
    assert abs(estimate.allocated_bytes / simulated.allocated_bytes - 1) < 0.01


def test_the_cache_of_answers_is_narrow() -> None:
    spec = catalog_index()["deepseek-v2-lite"]
    assert cache_bytes(spec, tokens=1000, width=2) == 27 * (512 + 64) * 2 * 1000
