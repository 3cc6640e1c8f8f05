"""A model whose layers are of several kinds, as one model a kind: what each kind's layer costs is then counted alike.

Also what is beside the usual parts of a layer in some of them. Not here: the costs (`activations.py`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from engine.models.layers import LayerGroup
from engine.models.spec import ModelSpec


def side_width(spec: ModelSpec) -> int:
    """Features of a per-layer embedding; 0 in families without."""
    return spec.sizes.linear_shapes.get("per_layer_input_gate", (0, 0))[1]


def head_norm(spec: ModelSpec) -> str:
    """Norms of queries and keys, as `Family.query_key_norm`; where a configuration decides, small weights tell."""
    if not spec.traits.optional_head_norms:
        return spec.traits.query_key_norm
    group = spec.sizes.groups[0]
    return "head" if group.small - group.biases > spec.traits.norms_per_layer * spec.hidden_size else ""


@lru_cache(maxsize=256)
def kinds_of(spec: ModelSpec) -> tuple[tuple[int, ModelSpec], ...]:
    """How many layers there are of each kind, and a model of that kind alone."""
    return tuple((group.layers, _of_kind(spec, group)) for group in spec.layer_groups)


def _of_kind(spec: ModelSpec, group: LayerGroup) -> ModelSpec:
    outputs = {name: n_out for name, _, n_out in group.linear}
    inner = next((n_in for name, n_in, _ in group.linear if name == "down_proj"), spec.intermediate_size)
    # Not the query's outputs: a gate may lie among them. Latent attention has narrower values, and no gate.
    width = next((n_in for name, n_in, _ in group.linear if name == "o_proj"), spec.sizes.query_width)
    width = outputs.get("q_proj", spec.sizes.query_width) if spec.traits.latent else width
    head_dim = width // spec.num_attention_heads
    key_heads = outputs["k_proj"] // max(1, head_dim) if "k_proj" in outputs else 0
    sparse = bool(group.stacked)
    return replace(
        spec,
        head_dim=head_dim,
        num_key_value_heads=spec.num_key_value_heads if spec.traits.latent else key_heads,
        intermediate_size=spec.intermediate_size if sparse else inner,
        num_experts=spec.num_experts if sparse else 0,
        shared_intermediate_size=spec.shared_intermediate_size if sparse else 0,
        layer_groups=(group,),
    )
