"""FLOPs of one micro-batch, by what does them: products with weights, and attention.

Multiply and add count as two; P counts the weights a token meets, with the output head. 2P a token forward and 2P for
the gradient of the input (PaLM, arXiv 2204.02311, appendix B); the gradient of the weights, 2P more, only where they
learn; 2P more again where layers are recomputed. Recomputation ends when the last tensor that the backward pass needs
is back: with adapters on the feed-forward output, before that layer's own product.
"""

from __future__ import annotations

from engine.memory.activations import checkpointed_layers
from engine.memory.linear_attention import attending_layers
from engine.memory.resident import targeted_shapes
from engine.memory.shape import TrainingShape, fuses_adapters, learning_layers
from engine.models.spec import ModelSpec


def micro_batch_flops(spec: ModelSpec, shape: TrainingShape) -> float:
    """Products and attention; the latter causal over the whole sequence."""
    span = min(shape.max_length, spec.sliding_window or shape.max_length)
    recomputed = 0.0 if shape.keep_attention else recomputed_share(spec, shape)
    depth, attending = spec.num_hidden_layers, attending_layers(spec)
    passes = 1 + 2 * learning_layers(depth, shape) / depth + recomputed
    attention = 2 * span * spec.sizes.query_width * attending * passes
    return product_flops(spec, shape) + micro_batch_tokens(shape) * attention


def product_flops(spec: ModelSpec, shape: TrainingShape) -> float:
    """Products with weights: 4P a token for adapters, 6P where weights learn, 2P below, 2P more where recomputed."""
    active = spec.sizes.active_parameters
    layers = active - spec.vocab_size * spec.hidden_size
    again = recomputed_share(spec, shape)
    head, recomputed = active - layers, 2 * again * (layers - skipped_parameters(spec, shape))
    if shape.method == "freeze":
        share = learning_layers(spec.num_hidden_layers, shape) / spec.num_hidden_layers
        return micro_batch_tokens(shape) * (2 * active + 2 * head + 4 * share * layers + recomputed)
    return micro_batch_tokens(shape) * ((6 if shape.method == "full" else 4) * active + recomputed)


def skipped_parameters(spec: ModelSpec, shape: TrainingShape) -> int:
    """Weights of the feed-forward outputs where recomputation ends before them; 0 where their product is needed.

    So it is with adapters that are added in place, which keep a layer's input and no more. A norm after the
    feed-forward part needs its output; int8 layers are recomputed whole.
    """
    adapted = any(name == "down_proj" for name, _, _ in targeted_shapes(spec, shape.lora_targets))
    if not fuses_adapters(shape) or spec.traits.norm_after_mlp or not adapted or spec.num_experts:
        return 0
    return spec.num_hidden_layers * spec.intermediate_size * spec.hidden_size


def micro_batch_tokens(shape: TrainingShape) -> int:
    """Positions of one micro-batch, padding included."""
    return shape.micro_batch * shape.max_length


def recomputed_share(spec: ModelSpec, shape: TrainingShape) -> float:
    """Share of the layers whose activations are formed again in the backward pass."""
    return checkpointed_layers(spec, shape) / spec.num_hidden_layers
