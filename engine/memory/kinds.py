"""A model whose layers are of several kinds, as one model a kind: what each kind's layer costs is then counted alike.

Also what is beside the usual parts of a layer in some of them. Not here: the costs (`activations.py`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from engine.models.layers import LayerGroup, Mixer
from engine.models.spec import ModelSpec

ROLES = {"input_linear": "gate_up_proj", "output_linear": "down_proj", "w1": "gate_proj", "w3": "up_proj"}
ROLES |= {"w2": "down_proj"}
"""Usual names of a feed-forward part for those of single families."""


def mixer_of(spec: ModelSpec) -> Mixer:
    """What passes tokens on beside attention in a model of one kind of layers; all 0 where nothing does."""
    return spec.layer_groups[0].mixer if len(spec.layer_groups) == 1 else Mixer()


def role_of(spec: ModelSpec, name: str) -> str:
    """The usual name of a linear layer in a model of one kind of layers."""
    if name == "out_proj" and not mixer_of(spec).convolved:
        return "o_proj"
    return ROLES.get(name, name)


def has_feed_forward(spec: ModelSpec) -> bool:
    """Whether the layers of a model of one kind have a feed-forward part."""
    group = spec.layer_groups[0] if len(spec.layer_groups) == 1 else None
    return (
        group is None or bool(group.stacked) or any(ROLES.get(name, name) == "down_proj" for name, _, _ in group.linear)
    )


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
    inner = next(
        (n_in for name, n_in, _ in group.linear if ROLES.get(name, name) == "down_proj"), spec.intermediate_size
    )
    # Not the query's outputs: a gate may lie among them. Latent attention has narrower values, and no gate.
    width = next((n_in for name, n_in, _ in group.linear if name == "o_proj"), spec.sizes.query_width)
    width = outputs.get("q_proj", spec.sizes.query_width) if spec.traits.latent else width
    head_dim = width // spec.num_attention_heads
    key_heads = outputs["k_proj"] // max(1, head_dim) if "k_proj" in outputs else 0
    sparse = bool(group.stacked)
    if group.mixer.convolved and "q_proj" not in outputs:
        # No attention there.
        spec, head_dim = replace(spec, num_attention_heads=0), 0
    inner = inner if has_feed_forward(replace(spec, layer_groups=(group,))) else 0
    return replace(
        spec,
        head_dim=head_dim,
        num_key_value_heads=spec.num_key_value_heads if spec.traits.latent else key_heads,
        intermediate_size=spec.intermediate_size if sparse else inner,
        num_experts=spec.num_experts if sparse else 0,
        shared_intermediate_size=spec.shared_intermediate_size if sparse else 0,
        layer_groups=(group,),
    )
