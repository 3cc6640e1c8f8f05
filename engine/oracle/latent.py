"""A config.json's part on latent attention and dense first layers, for a spec that has no files here."""

from __future__ import annotations

from typing import Any

from engine.memory.latent_attention import of_spec
from engine.models.spec import ModelSpec


def latent_values(spec: ModelSpec) -> dict[str, Any]:
    """The keys that a family with latent attention reads; none for others."""
    latent = of_spec(spec)
    if latent is None:
        return {}
    heads = spec.num_attention_heads
    rotated = latent.rotated
    return {
        "q_lora_rank": latent.query_rank or None,
        "kv_lora_rank": latent.key_rank,
        "qk_rope_head_dim": rotated,
        "qk_nope_head_dim": latent.query // heads - rotated,
        "v_head_dim": latent.value // heads,
        # Of the rotated part: the width of cosine and sine.
        "head_dim": rotated,
        **_layers(spec),
    }


def _layers(spec: ModelSpec) -> dict[str, Any]:
    """Dense layers come first; their width, and how many experts' width the shared one has."""
    if not spec.num_experts:
        return {}
    dense = [group for group in spec.layer_groups if not group.stacked]
    count = sum(group.layers for group in dense)
    wide = next((n_out for group in dense for name, _, n_out in group.linear if name == "gate_proj"), 0)
    values: dict[str, Any] = {
        "n_routed_experts": spec.num_experts,
        "n_shared_experts": spec.shared_intermediate_size // spec.intermediate_size,
        "first_k_dense_replace": count,
        "intermediate_size": wide or spec.intermediate_size,
    }
    if spec.family == "glm4_moe_lite":
        values["mlp_layer_types"] = ["dense"] * count + ["sparse"] * (spec.num_hidden_layers - count)
    return values
