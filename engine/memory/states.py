"""Bytes that follow from what learns: adapters, gradients, optimizer states, fp32 masters.

Used by `phases.py` and `terms.py`. Not here: the frozen base (`weights.py`). Describes the engine's
optimizer: trainables in the compute dtype with fp32 masters and Adam states for bf16; fp32
trainables under autocast for fp16; 8-bit Adam keeps neither master nor fp32 states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from engine.memory.shape import TrainingShape
from engine.memory.weights import compute_width
from engine.models.parameters import linear_shapes, small_parameters, total_parameters
from engine.models.spec import ModelSpec

STEP_PORTION_BYTES = 256 * 1024 * 1024
"""fp32 gradients that the optimizer forms at once."""

WHOLE_MODULES = frozenset({"embed_tokens", "lm_head"})
"""What is counted of `modules_to_save`."""

_EIGHT_BIT = frozenset({"adamw_bnb_8bit", "paged_adamw_8bit"})
_FUSED_PARTS = {
    "qkv_proj": frozenset({"q_proj", "k_proj", "v_proj", "qkv_proj"}),
    "gate_up_proj": frozenset({"gate_proj", "up_proj", "gate_up_proj"}),
}


@dataclass(frozen=True, slots=True)
class States:
    """Sizes in bytes; `weights_bytes` is 0 for full fine-tuning, where the base itself learns."""

    parameters: int
    weights_bytes: int
    gradients_bytes: int
    masters_bytes: int
    moments_bytes: int
    paged_bytes: int
    """Optimizer states in CUDA managed memory, which may move to RAM."""
    step_bytes: int
    """Alive during the optimizer step only: fp32 copies of the gradients, unfused AdamW's denominators."""


@lru_cache(maxsize=2048)
def targeted_shapes(spec: ModelSpec, targets: tuple[str, ...]) -> tuple[tuple[str, int, int], ...]:
    """(name, in, out) of the linear layers that carry an adapter, by the last part of each target."""
    wanted = {target.rpartition(".")[2] for target in targets}
    return tuple(
        (name, n_in, n_out)
        for name, (n_in, n_out) in linear_shapes(spec).items()
        if wanted & _FUSED_PARTS.get(name, frozenset({name}))
    )


def adapted_outside(shape: TrainingShape) -> frozenset[str]:
    """Which of embedding and output head carry an adapter."""
    return WHOLE_MODULES & {target.rpartition(".")[2] for target in shape.lora_targets}


def adapter_parameters(spec: ModelSpec, shape: TrainingShape) -> int:
    """r x (in + out) for each targeted layer, and with DoRA a magnitude for each output."""
    outside = len(adapted_outside(shape)) * shape.lora_r * (spec.vocab_size + spec.hidden_size)
    shapes = targeted_shapes(spec, shape.lora_targets)
    layer = sum(shape.lora_r * (n_in + n_out) + (n_out if shape.use_dora else 0) for _, n_in, n_out in shapes)
    return spec.num_hidden_layers * layer + outside


def saved_parameters(spec: ModelSpec, shape: TrainingShape) -> int:
    """Values of the copies that `modules_to_save` trains."""
    return spec.vocab_size * spec.hidden_size * len(WHOLE_MODULES & set(shape.modules_to_save))


@lru_cache(maxsize=512)
def bias_parameters(spec: ModelSpec) -> int:
    """Biases of all layers; with `lora_only` some of them learn, all are counted."""
    return small_parameters(spec) - small_parameters(replace(spec, attention_bias=False, mlp_bias=False))


def trainable_width(shape: TrainingShape) -> int:
    """Bytes of one trainable weight: bf16 trains in bf16, fp16 and fp32 in fp32."""
    return 2 if shape.compute_dtype == "bf16" else 4


def states(spec: ModelSpec, shape: TrainingShape) -> States:
    """What learning costs, per device."""
    full = shape.method == "full"
    biases = bias_parameters(spec) if shape.lora_bias != "none" else 0
    added = adapter_parameters(spec, shape) + saved_parameters(spec, shape)
    count = total_parameters(spec) if full else added + biases
    width = trainable_width(shape)
    eight_bit = shape.optimizer in _EIGHT_BIT
    moments = 2 * count + 8 * -(-count // 256) if eight_bit else 8 * count
    paged = shape.optimizer.startswith("paged") and shape.device == "cuda"
    master = width == 2 and not eight_bit
    return States(
        parameters=count,
        weights_bytes=0 if full else added * width + biases * (width - compute_width(shape)),
        gradients_bytes=count * width,
        masters_bytes=4 * count if master else 0,
        moments_bytes=0 if paged else moments,
        paged_bytes=moments if paged else 0,
        step_bytes=_step_bytes(spec, shape, count, master=master),
    )


def _step_bytes(spec: ModelSpec, shape: TrainingShape, count: int, *, master: bool) -> int:
    """Transient fp32 gradients of masters, a portion at a time; the plain optimizer forms two more of each tensor."""
    if shape.optimizer in _EIGHT_BIT:
        return 0
    largest = largest_trainable(spec, shape)
    portion = min(4 * count, max(STEP_PORTION_BYTES, 4 * largest)) if master else 0
    return portion + (8 * largest if shape.optimizer == "adamw_torch" else 0)


def largest_trainable(spec: ModelSpec, shape: TrainingShape) -> int:
    """Values of the largest tensor that learns: the embedding or stacked experts, or an adapter's matrix."""
    if shape.method == "full":
        experts = 2 * spec.num_experts * spec.intermediate_size * spec.hidden_size
        return max(spec.vocab_size * spec.hidden_size, experts)
    sizes = (max(n_in, n_out) for _, n_in, n_out in targeted_shapes(spec, shape.lora_targets))
    saved = spec.vocab_size * spec.hidden_size if WHOLE_MODULES & set(shape.modules_to_save) else 0
    outside = spec.vocab_size if adapted_outside(shape) else 0
    return max(saved, shape.lora_r * max(outside, *sizes, 0))
