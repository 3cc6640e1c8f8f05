"""Inputs of linear layers that a layer keeps for its backward pass, in bytes or features per token.

Not here: what the parts between them keep (`activations.py`).
"""

from __future__ import annotations

from engine.memory import latent_attention
from engine.memory.linear_attention import INPUTS
from engine.models.spec import ModelSpec

_LATENT_INPUTS = frozenset({"q_a_proj", "kv_a_proj_with_mqa"})
_ATTENTION_INPUT = frozenset({"q_proj", "k_proj", "v_proj", "qkv_proj", "in_proj"}) | INPUTS | _LATENT_INPUTS
_MLP_INPUT = frozenset({"gate_proj", "up_proj", "gate_up_proj"})


def input_bytes(spec: ModelSpec, width: int, full: bool, int8: bool, names: set[str]) -> int:
    """Inputs of projections that need them in the backward pass."""
    attention = full or int8 or bool(names & _ATTENTION_INPUT)
    mlp = full or (int8 and not spec.num_experts) or bool(names & _MLP_INPUT)
    # One norm before both parts gives them one input.
    count = int(attention or mlp) if spec.traits.norms_per_layer == 1 else attention + mlp
    latent = latent_attention.of_spec(spec)
    behind_norms = latent_attention.input_bytes(latent, width, names, every=full or int8) if latent else 0
    return count * width * spec.hidden_size + behind_norms


def held_by_int8(spec: ModelSpec) -> int:
    """Features of the inputs that int8 layers keep on their graph nodes, where plain checkpointing does not reach."""
    attention = spec.hidden_size + spec.sizes.query_width
    return attention if spec.num_experts else attention + spec.hidden_size + spec.intermediate_size


def copied_inputs(spec: ModelSpec, adapters: tuple[tuple[str, int, int], ...], full: bool) -> int:
    """16-bit copies of inputs under automatic casting (fp16)."""
    if full:
        query, hidden, inner = spec.sizes.query_width, spec.hidden_size, spec.intermediate_size
        # fp32 weights keep the residual stream and norm outputs in fp32 beside the 16-bit copies.
        return 2 * (5 * hidden + query + inner) + 8 * hidden
    return sum(2 * n_in for _, n_in, _ in adapters)
