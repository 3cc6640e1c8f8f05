"""Bytes that the forward pass keeps for the backward pass, per token and layer, and its scratch.

Not here: logits and loss (`loss.py`). The coefficients were checked byte by byte against the real transformers and
PEFT code for Llama blocks (16-bit, fused attention, no dropout); what deviates from a Llama block is added by the
rules beside each term.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from engine.memory import (
    device,
    dora,
    experts,
    latent_attention,
    linear_attention,
    outliers,
    short_convolution,
    state_space,
    transients,
)
from engine.memory.inputs import copied_inputs, held_by_int8, input_bytes
from engine.memory.kinds import kinds_of, mixer_of, role_of, side_width
from engine.memory.parts import attention_bytes, attention_output_bytes, mlp_bytes, norm_bytes, shared_expert_bytes
from engine.memory.resident import targeted_shapes
from engine.memory.shape import TrainingShape, fuses_adapters, learning_layers, learns_whole, uses_kernels
from engine.models.family import LigerKernels
from engine.models.spec import ModelSpec

STAGED_INPUTS = 2
"""Inputs on the device where the others are offloaded: the first layer's, which asks for a gradient and is not let go,
and the one in use. The next is fetched when the widest moment of a layer has passed."""
KEEPING = ("varlen", "packed")
"""Attention kernels whose output a checkpointed layer can keep."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """Bytes per token of one layer."""

    saved: int
    """Kept from forward to backward where the layer is not checkpointed."""
    transient: int
    """Extra at the worst moment of the layer's backward pass."""
    beside_matrix: int
    """Extra while the feed-forward output matrix is dequantized, beside that matrix."""
    boundary: int
    """A checkpointed layer's input, and on a processor what int8 layers hold back."""
    scores: int = 0
    """Per token and key it may look at: squares of scores that are kept (soft caps only)."""
    score_transient: int = 0
    """The same for one document, extra at the worst moment of the backward pass."""
    freed: int = 0
    """Of `saved`, what is gone by then: the feed-forward part."""
    matrices: int = 0
    """Bytes, whatever the tokens: dequantized matrices kept from forward to backward (DoRA with dropout only)."""
    again_transient: int = 0
    """`transient` where the layer's activations were formed again."""
    again_beside_matrix: int = 0
    """`beside_matrix` there."""
    attention: int = 0
    """What a checkpointed layer keeps beside its input: attention's output (`keep_attention`)."""
    mean_saved: int = 0
    """`saved` of the layers on average, where they are of several kinds; 0 = all alike."""
    shared: int = 0
    """Of `saved`, what is one tensor with what a checkpointed layer keeps."""
    kinds: tuple[tuple[ModelSpec, LayerCost], ...] = ()
    """A model and the cost of each kind of layer, where they are of several."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """What decides a layer's cost."""

    spec: ModelSpec
    dtype: str
    full: bool
    int8: bool
    targets: tuple[str, ...]
    r: int
    dropout: bool
    kernel: str
    """As in `device.attention_kernel`."""
    one_row: bool
    """A micro-batch of one."""
    windowed: bool
    """Sequences are longer than the model's sliding window."""
    decomposed: bool
    quantized: bool
    on_gpu: bool
    keep_attention: bool
    fused: LigerKernels | None
    """How Triton kernels are called in this family; None without them."""
    joined: bool
    """Whether adapters are formed together with their layers."""
    rule: linear_attention.DeltaRule | None = None
    """Of a layer with linear attention."""
    length: int = 0
    """Of a row, where a state space fills it up to whole chunks."""
    padded: float = 1.0
    """As `device.padded_share`."""

    @property
    def width(self) -> int:
        """Bytes of an activation."""
        return 4 if self.dtype == "fp32" else 2

    @property
    def adapters(self) -> tuple[tuple[str, int, int], ...]:
        """(name, in, out) of the layers that carry one."""
        if self.full:
            return ()
        found = targeted_shapes(self.spec, self.targets)
        return tuple((role_of(self.spec, name), n_in, n_out) for name, n_in, n_out in found)

    @property
    def copies_inputs(self) -> bool:
        """Whether automatic casting keeps a 16-bit copy of each trained layer's input: fp32 adapters on plain layers
        widen theirs first, those on quantized ones take it as it is."""
        return self.dtype == "fp16" and (self.full or not self.quantized)

    def needs_input(self, name: str) -> bool:
        """Whether the input of this linear layer is kept for its own sake.

        Dropout hands adapters copies of their inputs: the inputs themselves are needed by nothing then.
        """
        return self.full or self.int8 or (not self.dropout and name in {adapter for adapter, _, _ in self.adapters})

    @property
    def inner(self) -> int:
        """Features of a dense feed-forward part; 0 with experts."""
        return self.spec.intermediate_size if not self.spec.num_experts else 0


@lru_cache(maxsize=4096)
def _layer_cost(layer: _Layer) -> LayerCost:
    spec, width, mlp = layer.spec, layer.width, _mlp_bytes(layer)
    backward, apart = _backward(layer, mlp), max(_scan_backward_bytes(layer, mlp), _scaling_bytes(layer, mlp))
    heads = spec.num_attention_heads if layer.kernel == "capped" else 0
    # A kernel that takes no window keeps a square mask instead.
    mask = width if layer.windowed and layer.kernel == "split" else 0
    attention = attention_output_bytes(spec, width) if layer.keep_attention and layer.rule is None else 0
    boundary = width * spec.hidden_size
    # On a GPU their layers go through reentrant checkpointing, which makes no graph before the backward pass.
    held = width * held_by_int8(spec) if layer.int8 and not layer.on_gpu else 0
    dense = layer.decomposed and layer.dropout and layer.quantized
    return LayerCost(
        saved=_saved_bytes(layer, mlp),
        transient=max(transients.worst_bytes(backward, again=False), apart),
        beside_matrix=transients.beside_matrix(backward, layer.inner, again=False),
        again_transient=max(transients.worst_bytes(backward, again=True), apart),
        again_beside_matrix=transients.beside_matrix(backward, layer.inner, again=True),
        boundary=boundary + held,
        scores=heads * 8 + mask,
        # On a GPU the softmax's backward pass multiplies gradient and output into one more fp32 square.
        score_transient=heads * (10 if layer.on_gpu else 6),
        freed=mlp,
        matrices=dora.matrices_bytes(layer.adapters, width) if dense else 0,
        attention=attention,
        # The first norm's kernel keeps the layer's input itself.
        shared=attention + (boundary if layer.fused else 0),
    )


def _scaling_bytes(layer: _Layer, mlp: int) -> int:
    """What scaling a decomposed adapter's output takes, forward or backward; 0 without them."""
    return dora.backward_bytes(layer.adapters, layer.dtype, mlp) if layer.decomposed else 0


def _scan_backward_bytes(layer: _Layer, mlp: int) -> int:
    """What a linear attention layer's scan takes beside what it kept: the parts behind it are gone."""
    if layer.rule is None:
        return 0
    needed = layer.needs_input("out_proj")
    scan = linear_attention.worst_bytes(layer.rule, layer.width, output_needed=needed, full=layer.full)
    return scan - mlp - norm_bytes(layer.spec, layer.width, layer.full, layer.fused) // 2


def _saved_bytes(layer: _Layer, mlp: int) -> int:
    of_norms = norm_bytes(layer.spec, layer.width, layer.full, layer.fused)
    return _attention_bytes(layer) + mlp + of_norms + _adapter_bytes(layer) + _side_bytes(layer) + _mixer_bytes(layer)


def _mixer_bytes(layer: _Layer) -> int:
    """A short convolution or a state space; 0 in other layers."""
    mixer = mixer_of(layer.spec)
    if mixer.heads:
        return state_space.kept_bytes(mixer, layer.width, layer.length)
    return short_convolution.kept_bytes(mixer, layer.width, output_needed=layer.needs_input("out_proj"))


def _side_bytes(layer: _Layer) -> int:
    """The part that adds a token's per-layer embedding: its gate's input, three narrow tensors and a norm."""
    spec, width = layer.spec, layer.width
    narrow = side_width(spec)
    if not narrow:
        return 0
    norm = norm_bytes(spec, width, layer.full, layer.fused) // spec.traits.norms_per_layer
    return norm + width * spec.hidden_size + 3 * width * narrow


def _attention_bytes(layer: _Layer) -> int:
    if layer.rule is not None:
        needed = layer.needs_input("out_proj")
        return linear_attention.saved_bytes(
            layer.rule, layer.dtype, output_needed=needed, full=layer.full, one_row=layer.one_row
        )
    spec, output_needed = layer.spec, layer.needs_input("o_proj")
    size = attention_bytes(spec, layer.width, layer.kernel, output_needed) + _gated_output_bytes(layer)
    heads_first = spec.traits.heads_first and not latent_attention.is_narrow(spec)
    if layer.one_row and layer.kernel == "varlen" and heads_first and output_needed:
        # Rotated queries are heads first in memory, the kernel's output too: its reshaped copy is kept beside it.
        size += layer.width * spec.sizes.query_width
    if spec.traits.gates_attention:
        # The gate, and the product that the output projection takes.
        size += layer.width * spec.sizes.query_width * (1 + output_needed)
    return size


def _gated_output_bytes(layer: _Layer) -> int:
    """Attention whose output is multiplied by a gate (Laguna): the gate, before it in fp32, and the product."""
    gate = layer.spec.sizes.linear_shapes.get("g_proj", (0, 0))[1]
    product = layer.spec.sizes.query_width if gate and layer.needs_input("o_proj") else 0
    return (4 + layer.width) * gate + layer.width * product


def _mlp_bytes(layer: _Layer) -> int:
    fused_gate = layer.fused is not None and bool(layer.fused.gate)
    return mlp_bytes(layer.spec, layer.width, _product_needed(layer), layer.full, fused_gate)


def _product_needed(layer: _Layer) -> bool:
    """Whether the feed-forward output's input is kept as such; autocast keeps a copy, which counts among the inputs."""
    return not layer.copies_inputs and layer.needs_input("down_proj")


def _adapter_bytes(layer: _Layer) -> int:
    """Inputs of linear layers, and what adapters keep beside them."""
    spec, width, adapters = layer.spec, layer.width, layer.adapters
    names = set() if layer.dropout else {name for name, _, _ in adapters}
    size = input_bytes(spec, width, layer.full, layer.int8, names)
    if layer.copies_inputs:
        size = copied_inputs(spec, adapters, layer.full)
    size += width * layer.r * len(adapters)
    if layer.decomposed:
        size += dora.saved_bytes(adapters, width)
    if layer.dropout:
        # The kept values and, on a GPU, a mask of one byte each; processors keep it in the tensor's own width.
        mask_width = width if layer.kernel in ("products", "split") else 1
        size += sum((mask_width + width) * n_in for _, n_in, _ in adapters)
    return size


def _backward(layer: _Layer, mlp: int) -> transients.Backward:
    spec, width, adapters = layer.spec, layer.width, layer.adapters
    adapted = {name for name, _, _ in adapters}
    product = width * layer.inner if layer.full or layer.int8 or "down_proj" in adapted else 0
    recomputed = max((3 * width * n_out for name, _, n_out in adapters if name == "gate_up_proj"), default=0)
    if layer.fused and layer.fused.gate:
        # Both halves' gradient is written over what the gate kept.
        recomputed = 0
    if layer.int8 and spec.fuses_gate:
        # int32 and fp16 results beside the output.
        recomputed = max(recomputed, (6 + width) * 2 * layer.inner)
    return transients.Backward(
        spec,
        dtype=layer.dtype,
        copied=layer.copies_inputs,
        kernel=layer.kernel,
        kept_mlp=mlp,
        product=product,
        recomputed=recomputed,
        int8=layer.int8,
        full=layer.full,
        dropout=layer.dropout,
        on_gpu=layer.on_gpu,
        fused=layer.fused,
        joined=layer.joined and "down_proj" in adapted,
        shared=shared_expert_bytes(spec, width, _product_needed(layer)) if spec.traits.shared_expert_last else 0,
        length=layer.length,
        padded=layer.padded,
    )


def cost_of(spec: ModelSpec, shape: TrainingShape, kernel: str) -> LayerCost:
    """Cost of one layer of `spec` trained with `shape`, of the costliest kind; `kernel` as in
    `device.attention_kernel`."""
    if linear_attention.has_delta_rule(spec):
        return _mixed_cost(spec, shape, kernel)
    if len(spec.layer_groups) < 2:
        return _layer_cost(_layer_of(spec, shape, kernel))
    kinds = tuple((kind, _layer_cost(_layer_of(kind, shape, kernel))) for _, kind in kinds_of(spec))
    widest = max((cost for _, cost in kinds), key=lambda cost: cost.saved + cost.again_transient)
    found = [(count, cost) for (count, _), (_, cost) in zip(kinds_of(spec), kinds, strict=True)]
    if any(group.mixer.convolved for group in spec.layer_groups):
        attention = max(cost.attention for _, cost in found)
        return replace(widest, attention=attention, mean_saved=_mean_saved(spec, shape, found))
    saved = sum(count * cost.saved for count, cost in found)
    return replace(widest, mean_saved=saved // spec.num_hidden_layers, kinds=kinds)


def _mean_saved(spec: ModelSpec, shape: TrainingShape, found: list[tuple[int, LayerCost]]) -> int:
    """What layers that are not checkpointed keep, on average: the widest ones may be just those."""
    whole = left = max(1, spec.num_hidden_layers - checkpointed_layers(spec, shape))
    kept = 0
    for count, cost in sorted(found, key=lambda pair: -pair[1].saved):
        kept += min(count, left) * cost.saved
        left -= min(count, left)
    return kept // whole


def _mixed_cost(spec: ModelSpec, shape: TrainingShape, kernel: str) -> LayerCost:
    """Of the widest kind of layer, with the mean of all: linear attention has nothing in common with the other."""
    costs = [(count, _layer_cost(_layer_of(kind, shape, kernel))) for count, kind in kinds_of(spec)]
    widest = max((cost for _, cost in costs), key=lambda cost: cost.saved + cost.again_transient)
    depth = spec.num_hidden_layers
    return replace(
        widest,
        mean_saved=sum(count * cost.saved for count, cost in costs) // depth,
        attention=-(-sum(count * cost.attention for count, cost in costs) // depth),
    )


def _layer_of(spec: ModelSpec, shape: TrainingShape, kernel: str) -> _Layer:
    full = learns_whole(shape)
    return _Layer(
        spec,
        dtype=shape.compute_dtype,
        full=full,
        int8=shape.quantization == "int8" and not full,
        targets=shape.lora_targets,
        r=shape.lora_r,
        dropout=shape.lora_dropout > 0,
        kernel=kernel,
        one_row=shape.micro_batch == 1,
        windowed=spec.sliding_window is not None and spec.sliding_window < shape.max_length,
        decomposed=dora.is_decomposed(shape),
        quantized=shape.quantization != "none",
        on_gpu=shape.device != "cpu",
        keep_attention=shape.keep_attention and kernel in KEEPING,
        fused=spec.traits.kernels if uses_kernels(shape) else None,
        joined=fuses_adapters(shape),
        rule=linear_attention.delta_rule(spec, shape),
        length=shape.max_length if mixer_of(spec).heads else 0,
        padded=device.padded_share(spec, shape, kernel),
    )


def checkpointed_layers(spec: ModelSpec, shape: TrainingShape) -> int:
    """How many layers are checkpointed (0, n, 2n …), the last one among them; frozen ones keep nothing."""
    every, depth = shape.checkpoint_every, spec.num_hidden_layers
    below = depth - learning_layers(depth, shape)
    return 0 if every <= 0 else -(-depth // every) - -(-below // every)


def kept_bytes(spec: ModelSpec, shape: TrainingShape, cost: LayerCost, *, keeps_last: bool = False) -> int:
    """All that lives on the device between forward and backward, over all layers.

    `keeps_last`: the last layer, which would be checkpointed, keeps its activations.
    """
    tokens = shape.micro_batch * shape.max_length
    few = checkpointed_layers(spec, shape) - keeps_last
    # Token ids, labels and positions; rotary sines and cosines.
    width = 4 if shape.compute_dtype == "fp32" else 2
    shared = 24 + 2 * width * spec.head_dim * spec.traits.rotary_kinds
    if spec.traits.scales_stream and shape.device == "cuda" and shape.checkpoint_every and shape.method == "lora":
        # Embeddings are scaled into a second tensor; the first asks for a gradient, which keeps it.
        shared += width * spec.hidden_size
    # What projects the per-layer embeddings ends in a norm: its fp32 input and its output.
    shared += (4 + width) * side_width(spec) * spec.num_hidden_layers
    others = learning_layers(spec.num_hidden_layers, shape) - few
    # The last one is among the widest where layers are of several kinds.
    last = whole_layer_bytes(spec, shape, cost)
    usual = last + tokens * (cost.mean_saved - cost.saved) if cost.mean_saved else last
    kept = (others - keeps_last) * usual + keeps_last * last
    inputs = min(few, STAGED_INPUTS) if shape.offload_inputs else few
    checkpoints = inputs * cost.boundary + few * cost.attention
    return tokens * (shared + checkpoints) + kept


def whole_layer_bytes(spec: ModelSpec, shape: TrainingShape, cost: LayerCost) -> int:
    """All that a layer keeps which is not checkpointed."""
    tokens = shape.micro_batch * shape.max_length
    kept = tokens * (cost.saved + cost.scores * shape.max_length) + cost.matrices
    width = 4 if shape.compute_dtype == "fp32" else 2
    kept += tokens * experts.kept_bytes_per_token(spec, shape, width) + experts.kept_matrices_bytes(spec, shape, width)
    return kept + outliers.kept_bytes(spec, shape)


def recomputed_bytes(spec: ModelSpec, shape: TrainingShape, cost: LayerCost) -> int:
    """What forming a checkpointed layer's activations again adds to what it has kept."""
    return whole_layer_bytes(spec, shape, cost) - shape.micro_batch * shape.max_length * cost.shared


def first_checkpoint_bytes(spec: ModelSpec, shape: TrainingShape, cost: LayerCost) -> int:
    """What is kept of the layers when the backward pass has come to the first ones."""
    inputs = min(checkpointed_layers(spec, shape), STAGED_INPUTS) if shape.offload_inputs else 1
    return shape.micro_batch * shape.max_length * (inputs * cost.boundary + cost.attention)


def host_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Pinned host memory for the inputs of checkpointed layers but the last one's; 0 where they stay on the device."""
    if not shape.offload_inputs:
        return 0
    width = 4 if shape.compute_dtype == "fp32" else 2
    return (
        max(0, checkpointed_layers(spec, shape) - 1) * width * spec.hidden_size * shape.micro_batch * shape.max_length
    )


def one_layer_bytes(
    spec: ModelSpec, shape: TrainingShape, cost: LayerCost, matrix_bytes: int, *, recomputed: bool
) -> int:
    """One layer's scratch in the backward pass, with its activations where they are `recomputed`; of the costliest
    kind."""
    if cost.kinds:
        dequantized = {kind: device.dequantize_bytes(kind, shape) if matrix_bytes else 0 for kind, _ in cost.kinds}
        return max(
            one_layer_bytes(kind, shape, each, dequantized[kind], recomputed=recomputed) for kind, each in cost.kinds
        )
    tokens, length = shape.micro_batch * shape.max_length, shape.max_length
    beside = cost.again_beside_matrix if recomputed else cost.beside_matrix
    scratch = max(
        tokens * (cost.again_transient if recomputed else cost.transient),
        # Documents take turns: the worst is one that fills its row.
        length * length * cost.score_transient - tokens * cost.freed,
        matrix_bytes + tokens * beside if matrix_bytes else 0,
        _wide_matrix_bytes(spec, shape, matrix_bytes),
        outliers.product_bytes(spec, shape),
        # Of packed experts, what a dequantized stack takes counts with the matrices.
        experts.at_work_bytes(spec, shape, recomputed=recomputed)
        if matrix_bytes or not experts.are_packed(spec, shape)
        else 0,
        experts.gate_bytes(spec, shape, recomputed=recomputed),
    )
    return scratch + (recomputed_bytes(spec, shape, cost) if recomputed else 0)


def _wide_matrix_bytes(spec: ModelSpec, shape: TrainingShape, matrix_bytes: int) -> int:
    """Gate and up in one matrix, dequantized beside their input's gradient when the product is gone; 0 where apart."""
    if not matrix_bytes or not spec.fuses_gate or shape.device == "cpu":
        return 0
    width = 4 if shape.compute_dtype == "fp32" else 2
    beside = width * (spec.hidden_size - spec.intermediate_size)
    return 2 * matrix_bytes + shape.micro_batch * shape.max_length * beside
