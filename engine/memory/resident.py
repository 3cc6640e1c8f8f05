"""Bytes that follow from what learns: adapters, gradients, optimizer states, fp32 masters.

The frozen base comes first, plain or quantized. Then the engine's optimizer: trainables in the compute dtype with fp32
masters and Adam states for bf16; fp32 trainables under autocast for fp16; 8-bit Adam keeps neither master nor fp32
states.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from engine.memory import experts
from engine.memory.shape import STEP_PORTION_BYTES, TrainingShape, learning_layers, learns_whole
from engine.models.spec import ModelSpec

Adapters = tuple[tuple[str, int, int], ...]
"""(name, in, out) of each adapted layer of one block."""
WHOLE_MODULES = frozenset({"embed_tokens", "lm_head"})
"""What is counted of `modules_to_save`."""

_EIGHT_BIT = frozenset({"adamw_bnb_8bit", "paged_adamw_8bit", "lion_8bit"})
_PAGED_FROM = 100_000
"""Values of a tensor from which bitsandbytes pages its states (optimizer.py get_state_buffer)."""
_STEP_COPIES = {"adamw_torch": 2, "adafactor": 2, "lion_32bit": 1}
"""fp32 tensors, each as large as the weight in turn, that a step forms beside the gradients."""
_FUSED_PARTS = {
    "qkv_proj": frozenset({"q_proj", "k_proj", "v_proj", "qkv_proj"}),
    "gate_up_proj": frozenset({"gate_proj", "up_proj", "gate_up_proj"}),
    "input_linear": frozenset({"gate_proj", "up_proj", "gate_up_proj", "input_linear"}),
    "output_linear": frozenset({"down_proj", "output_linear"}),
    "dense": frozenset({"o_proj", "dense"}),
    "fc1": frozenset({"up_proj", "fc1"}),
    "fc2": frozenset({"down_proj", "fc2"}),
    "c_fc": frozenset({"up_proj", "c_fc"}),
    "c_proj": frozenset({"down_proj", "c_proj"}),
}


@dataclass(frozen=True, slots=True)
class States:
    """Sizes in bytes; `weights_bytes` are those beside the base: none where the base itself learns in 16 bits."""

    parameters: int
    weights_bytes: int
    gradients_bytes: int
    masters_bytes: int
    moments_bytes: int
    paged_bytes: int
    """Optimizer states in CUDA managed memory, which may move to RAM."""
    step_bytes: int
    """Alive during the optimizer step only: fp32 copies of the gradients, and what a step forms of one weight."""


def adaptable(spec: ModelSpec) -> tuple[str, ...]:
    """Names of the linear layers that can carry an adapter: all but the output head."""
    return tuple(spec.sizes.linear_shapes)


@lru_cache(maxsize=2048)
def targeted_shapes(spec: ModelSpec, targets: tuple[str, ...]) -> Adapters:
    """(name, in, out) of the linear layers of a block that carry an adapter, by the last part of each target."""
    shapes = ((name, *sides) for name, sides in spec.sizes.linear_shapes.items())
    return _targeted(tuple(shapes), targets)


def _targeted(linear: Adapters, targets: tuple[str, ...]) -> Adapters:
    wanted = {target.rpartition(".")[2] for target in targets}
    return tuple(each for each in linear if wanted & _FUSED_PARTS.get(each[0], frozenset({each[0]})))


@lru_cache(maxsize=2048)
def all_targeted(spec: ModelSpec, targets: tuple[str, ...]) -> tuple[tuple[int, Adapters], ...]:
    """How many layers there are of each kind, and which of their linear layers carry an adapter."""
    return tuple((group.layers, _targeted(group.linear, targets)) for group in spec.sizes.groups)


def adapted_outside(shape: TrainingShape) -> frozenset[str]:
    """Which of embedding and output head carry an adapter."""
    return WHOLE_MODULES & {target.rpartition(".")[2] for target in shape.lora_targets}


def adapter_parameters(spec: ModelSpec, shape: TrainingShape) -> int:
    """r x (in + out) for each targeted layer, and with DoRA a magnitude for each output."""
    outside = len(adapted_outside(shape)) * shape.lora_r * (spec.vocab_size + spec.hidden_size)
    dora = 1 if shape.use_dora else 0
    of_experts = experts.layers_of(spec) * experts.adapter_parameters(spec, shape)
    return (
        outside
        + of_experts
        + sum(
            layers * (shape.lora_r * (n_in + n_out) + dora * n_out)
            for layers, linear in all_targeted(spec, shape.lora_targets)
            for _, n_in, n_out in linear
        )
    )


def saved_parameters(spec: ModelSpec, shape: TrainingShape) -> int:
    """Values of the copies that `modules_to_save` trains."""
    return spec.vocab_size * spec.hidden_size * len(WHOLE_MODULES & set(shape.modules_to_save))


def trainable_width(shape: TrainingShape) -> int:
    """Bytes of one trainable weight: bf16 trains in bf16, fp16 and fp32 in fp32."""
    return 2 if shape.compute_dtype == "bf16" else 4


def states(spec: ModelSpec, shape: TrainingShape) -> States:
    """What learning costs, per device."""
    whole = learns_whole(shape)
    biases = spec.sizes.bias_parameters if shape.lora_bias != "none" else 0
    added = adapter_parameters(spec, shape) + saved_parameters(spec, shape)
    count = base_parameters(spec, shape) if whole else added + biases
    width = trainable_width(shape)
    eight_bit = shape.optimizer in _EIGHT_BIT
    moments = _moments_bytes(spec, shape, count)
    paged = moments - _unpaged_bytes(spec, shape, moments, count) if shape.optimizer.startswith("paged") else 0
    paged = paged if shape.device == "cuda" else 0
    master = width == 2 and not eight_bit
    return States(
        parameters=count,
        weights_bytes=_own_weights(shape, added, count if shape.method == "freeze" else biases),
        gradients_bytes=count * width,
        masters_bytes=4 * count if master else 0,
        moments_bytes=moments - paged,
        paged_bytes=paged,
        step_bytes=_step_bytes(spec, shape, count, master=master),
    )


def _unpaged_bytes(spec: ModelSpec, shape: TrainingShape, moments: int, count: int) -> int:
    """Of a paged optimizer's states, those of small matrices of adapters: they stay in the allocator."""
    if shape.method != "lora":
        return 0
    small = sum(
        layers * sum(shape.lora_r * side for side in sides if shape.lora_r * side < _PAGED_FROM)
        for layers, linear in all_targeted(spec, shape.lora_targets)
        for _, *sides in linear
    )
    return moments * small // max(1, count)


def _moments_bytes(spec: ModelSpec, shape: TrainingShape, count: int) -> int:
    """States of the optimizer: two fp32 moments, or one byte and a shared scale each, or sums of rows and columns."""
    if shape.optimizer == "adafactor":
        return factored_bytes(spec, shape)
    kept = 1 if shape.optimizer.startswith("lion") else 2
    return kept * (count + 4 * -(-count // 256)) if shape.optimizer in _EIGHT_BIT else 4 * kept * count


def factored_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Adafactor: fp32 sums over rows and columns of each matrix that learns; vectors are small beside them."""
    layers = learning_layers(spec.num_hidden_layers, shape)
    if learns_whole(shape):
        whole_layers = sum(
            group.layers * (n_in + n_out) for group in spec.sizes.groups for _, n_in, n_out in group.linear
        )
        sides = whole_layers * layers // spec.num_hidden_layers
        sides += layers * spec.num_experts * (2 * spec.hidden_size + 3 * spec.intermediate_size)
    else:
        sides = sum(
            count * (n_in + n_out + 2 * shape.lora_r)
            for count, linear in all_targeted(spec, shape.lora_targets)
            for _, n_in, n_out in linear
        )
        sides += experts.layers_of(spec) * experts.adapter_sides(spec, shape)
        sides += len(adapted_outside(shape)) * (spec.vocab_size + spec.hidden_size + 2 * shape.lora_r)
    whole = 2 - spec.tie_word_embeddings if shape.method == "full" else len(WHOLE_MODULES & set(shape.modules_to_save))
    return 4 * (sides + whole * (spec.vocab_size + spec.hidden_size))


def base_parameters(spec: ModelSpec, shape: TrainingShape) -> int:
    """Values of the base that learn: all, or those of the last layers."""
    if shape.method == "full":
        return spec.sizes.total_parameters
    outside = spec.sizes.embedding_parameters + spec.other_parameters + spec.hidden_size
    layers = spec.sizes.total_parameters - outside
    return layers // spec.num_hidden_layers * learning_layers(spec.num_hidden_layers, shape)


def _own_weights(shape: TrainingShape, added: int, widened: int) -> int:
    """Weights beside the base: what was added, and what trainables of the base grow by under fp16."""
    if shape.method == "full":
        return 0
    return added * trainable_width(shape) * (shape.method == "lora") + widened * (
        trainable_width(shape) - compute_width(shape)
    )


def _step_bytes(spec: ModelSpec, shape: TrainingShape, count: int, *, master: bool) -> int:
    """Transient fp32 gradients of masters, a portion at a time; plain optimizers form more of each tensor."""
    if shape.optimizer in _EIGHT_BIT:
        return 0
    largest = largest_trainable(spec, shape)
    portion = min(4 * count, max(STEP_PORTION_BYTES, 4 * largest)) if master else 0
    # AdamW's masters lie end to end, a portion in one tensor.
    end_to_end = master and shape.optimizer == "adamw_torch" and shape.device == "cuda"
    return portion + (portion if end_to_end else 4 * largest) * _STEP_COPIES.get(shape.optimizer, 0)


def largest_trainable(spec: ModelSpec, shape: TrainingShape) -> int:
    """Values of the largest tensor that learns: the embedding or stacked experts, or an adapter's matrix."""
    stack = 2 * spec.num_experts * spec.intermediate_size * spec.hidden_size
    if shape.method == "full":
        return max(spec.vocab_size * spec.hidden_size, stack)
    if shape.method == "freeze":
        return max(stack, *(n_in * n_out for n_in, n_out in spec.sizes.linear_shapes.values()))
    sizes = (max(n_in, n_out) for _, n_in, n_out in targeted_shapes(spec, shape.lora_targets))
    saved = spec.vocab_size * spec.hidden_size if WHOLE_MODULES & set(shape.modules_to_save) else 0
    outside = spec.vocab_size if adapted_outside(shape) else 0
    return max(saved, shape.lora_r * max(outside, *sizes, 0), experts.largest_adapter(spec, shape))


BLOCK_BYTES = 512
"""The CUDA caching allocator rounds every tensor up to this."""
_GROUP, _SCALES_GROUP = 64, 256
_CODE_BYTES, _NESTED_CODE_BYTES = 64, 1024
_WIDTH = {"bf16": 2, "fp16": 2, "fp32": 4}


def rounded(size_bytes: int) -> int:
    """`size_bytes` as the allocator hands it out."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def compute_width(shape: TrainingShape) -> int:
    """Bytes of one activation, and of one frozen weight that is not quantized."""
    return _WIDTH[shape.compute_dtype]


def matrix_bytes(count: int, rows: int, quantization: str, double_quant: bool) -> int:
    """One quantized matrix of `count` values and `rows` output rows, with its scales."""
    if quantization == "int8":
        return rounded(count) + rounded(4 * rows)
    groups = -(-count // _GROUP)
    packed = rounded(-(-count // 2)) + rounded(_CODE_BYTES)
    if not double_quant:
        return packed + rounded(4 * groups)
    nested = rounded(4 * -(-groups // _SCALES_GROUP)) + rounded(_NESTED_CODE_BYTES) + rounded(4)
    return packed + rounded(groups) + nested


@lru_cache(maxsize=2048)
def quantized_bytes(spec: ModelSpec, quantization: str, double_quant: bool) -> int:
    """All layers' linear matrices under `nf4`, `fp4` or `int8`, and in 4 bit the stacked experts."""
    linear = sum(
        group.layers * matrix_bytes(n_in * n_out, n_out, quantization, double_quant)
        for group in spec.sizes.groups
        for _, n_in, n_out in group.linear
    )
    if quantization not in experts.FOUR_BIT:
        return linear
    sizes = (spec.num_experts * n_in * n_out for n_in, n_out in experts.stacks(spec))
    return linear + experts.layers_of(spec) * sum(matrix_bytes(size, 0, quantization, double_quant) for size in sizes)


@lru_cache(maxsize=2048)
def weight_bytes(spec: ModelSpec, quantization: str, double_quant: bool, width: int) -> int:
    """The whole base model; embeddings, output head, norms, routers (int8: experts) keep their dtype."""
    if quantization == "none":
        return spec.sizes.total_parameters * width
    rest = spec.sizes.total_parameters - spec.sizes.linear_parameters
    if quantization in experts.FOUR_BIT:
        rest -= experts.stacked_parameters(spec)
    return quantized_bytes(spec, quantization, double_quant) + rest * width


@lru_cache(maxsize=2048)
def tower_bytes(spec: ModelSpec, quantization: str, double_quant: bool, width: int) -> int:
    """Towers and projectors, frozen: linear layers quantized as those of the text model are, the rest as it is."""
    if quantization == "none":
        return spec.sizes.tower_parameters * width
    matrices = [(group.layers, *sides) for group in spec.tower_groups for _, *sides in group.linear]
    packed = sum(
        layers * matrix_bytes(n_in * n_out, n_out, quantization, double_quant) for layers, n_in, n_out in matrices
    )
    rest = spec.sizes.tower_parameters - sum(layers * n_in * n_out for layers, n_in, n_out in matrices)
    return packed + rest * width


@lru_cache(maxsize=2048)
def largest_matrix_bytes(spec: ModelSpec, width: int) -> int:
    """The largest linear layer in the compute dtype: what dequantizing or loading one needs at once."""
    return max(n_in * n_out for n_in, n_out in spec.sizes.linear_shapes.values()) * width
