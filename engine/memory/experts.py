"""Bytes of the stacked experts of a mixture: packed, dequantized for a product, and with adapters on them.

Held against the oracle's simulated steps. What every mixture keeps of its tokens is in `activations.py` and
`transients.py`.
"""

from __future__ import annotations

from functools import lru_cache

from engine.memory.shape import TrainingShape, learns_whole, uses_kernels
from engine.models.spec import ModelSpec

FOUR_BIT = ("nf4", "fp4")
_STACKS_AT_LOAD = 3
"""Copies of a stack while it is put together: each expert's matrices, those joined, gate and up side by side."""


@lru_cache(maxsize=2048)
def stacks(spec: ModelSpec) -> tuple[tuple[int, int], ...]:
    """(in, out) of one expert's matrices as they are stacked: gate and up in one, and down; none in a dense model."""
    if not spec.num_experts or not spec.gated_mlp:
        return ()
    hidden, inner = spec.hidden_size, expert_width(spec)
    return (hidden, 2 * inner), (inner, hidden)


@lru_cache(maxsize=2048)
def expert_width(spec: ModelSpec) -> int:
    """Inner width of one expert: of the layers with experts, whose dense neighbors may be wider."""
    # A linear attention layer's stacked weights hold its convolution too.
    stacked = next((group.stacked for group in spec.sizes.groups if group.stacked and not group.delta), 0)
    one = stacked // max(1, spec.num_experts) - spec.hidden_size
    return one // (3 * spec.hidden_size)


def layers_of(spec: ModelSpec) -> int:
    """Layers with experts; the first ones of some mixtures are dense."""
    return sum(group.layers for group in spec.sizes.groups if group.stacked) if spec.num_experts else 0


def stacked_parameters(spec: ModelSpec) -> int:
    """Weights of all layers' stacks, without routers."""
    return layers_of(spec) * spec.num_experts * sum(n_in * n_out for n_in, n_out in stacks(spec))


def are_packed(spec: ModelSpec, shape: TrainingShape) -> bool:
    """Whether experts are stored in 4 bit."""
    return shape.quantization in FOUR_BIT and not learns_whole(shape) and bool(stacks(spec))


def are_adapted(spec: ModelSpec, shape: TrainingShape) -> bool:
    """Whether experts carry adapters."""
    return shape.lora_experts and shape.method == "lora" and bool(stacks(spec))


def adapter_parameters(spec: ModelSpec, shape: TrainingShape) -> int:
    """r x (in + out) for each expert's matrices in one layer."""
    if not are_adapted(spec, shape):
        return 0
    return spec.num_experts * shape.lora_r * sum(n_in + n_out for n_in, n_out in stacks(spec))


def largest_adapter(spec: ModelSpec, shape: TrainingShape) -> int:
    """Values of the largest matrix that adapters on experts have."""
    if not are_adapted(spec, shape):
        return 0
    return spec.num_experts * shape.lora_r * max(max(pair) for pair in stacks(spec))


def adapter_sides(spec: ModelSpec, shape: TrainingShape) -> int:
    """Rows and columns of one layer's adapters on experts."""
    if not are_adapted(spec, shape):
        return 0
    return sum(n_in + n_out + 2 * shape.lora_r * spec.num_experts for n_in, n_out in stacks(spec))


def clamped_halves(spec: ModelSpec) -> int:
    """Half tensors that a gate of clamps keeps beside a usual one's: clamped gate, its sigmoid, and up + 1."""
    return 3 if spec.traits.clamps_gate else 0


def load_bytes(spec: ModelSpec, shape: TrainingShape, width: int) -> int:
    """What putting together the largest stack takes before it is packed."""
    if not are_packed(spec, shape):
        return 0
    return _STACKS_AT_LOAD * spec.num_experts * width * max(n_in * n_out for n_in, n_out in stacks(spec))


def kept_bytes_per_token(spec: ModelSpec, shape: TrainingShape, width: int) -> int:
    """What adapters on experts keep beside the experts: the inputs of both stacks, and A x."""
    if not are_adapted(spec, shape):
        return 0
    inputs = sum(n_in + shape.lora_r for n_in, _ in stacks(spec))
    return spec.num_experts_per_token * width * inputs


def kept_matrices_bytes(spec: ModelSpec, shape: TrainingShape, width: int) -> int:
    """B of one layer's adapters in the layout of the grouped product, and in fp16 copies of A."""
    if not are_adapted(spec, shape):
        return 0
    values = sum(n_out + n_in * (shape.compute_dtype == "fp16") for n_in, n_out in stacks(spec))
    return spec.num_experts * shape.lora_r * width * values


def at_work_bytes(spec: ModelSpec, shape: TrainingShape, *, recomputed: bool) -> int:
    """The largest moment of one layer with a dequantized stack, beside all that the layer keeps.

    A layer is `recomputed` while the gradient of all experts' outputs waits: its products are wider then.
    """
    if not are_packed(spec, shape) and not are_adapted(spec, shape):
        return 0
    width = 4 if shape.compute_dtype == "fp32" else 2
    tokens = width * shape.micro_batch * shape.max_length
    rows = tokens * spec.num_experts_per_token
    hidden, inner, packed = spec.hidden_size, expert_width(spec), are_packed(spec, shape)
    down = spec.num_experts * width * hidden * inner * packed
    kept = rows * (4 * inner + 2 * hidden if are_adapted(spec, shape) else 3 * inner + hidden)
    kept += rows * clamped_halves(spec) * inner
    first = 2 * down + rows * (2 * inner + hidden) - kept
    second = down + rows * inner * (not are_adapted(spec, shape))
    return max(first, second) + (_waiting_bytes(spec, shape, width) if recomputed else 0)


def gate_bytes(spec: ModelSpec, shape: TrainingShape, *, recomputed: bool) -> int:
    """The same while biases of experts are added and a gate of clamps is formed; 0 in families without."""
    if not spec.traits.clamps_gate:
        return 0
    width = 4 if shape.compute_dtype == "fp32" else 2
    rows = width * shape.micro_batch * shape.max_length * spec.num_experts_per_token
    hidden, inner = spec.hidden_size, expert_width(spec)
    if are_packed(spec, shape) or are_adapted(spec, shape):
        # The product and its bias beside their sum, and the gated rows.
        beside = rows * (2 * hidden + inner * (not are_adapted(spec, shape)))
    else:
        # Each row's bias of gate and up stays until that of down is there; the clamped up, and the gated rows.
        beside = rows * (4 * inner if not learns_whole(shape) else 3 * inner - hidden)
    return beside + (_waiting_bytes(spec, shape, width) if recomputed else 0)


def _waiting_bytes(spec: ModelSpec, shape: TrainingShape, width: int) -> int:
    """The gradient of all experts' outputs, the tokens as the norm gave them, and what plain norms made them of."""
    tokens = width * shape.micro_batch * shape.max_length * spec.hidden_size
    # In fp32 a norm's input is the stream itself.
    normed = 1 if uses_kernels(shape) else 0 if width == 4 else 2
    waiting = tokens * (spec.num_experts_per_token + normed)
    # The shared expert's output, before and after its gate.
    return waiting + 2 * tokens * bool(spec.shared_intermediate_size)
