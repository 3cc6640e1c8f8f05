"""The moments of a training step at which memory peaks, in closed form.

A step has four: the loss, the first backward layer, the last one (all gradients there), the optimizer;
loading takes less than any. `peak` returns the highest as named parts; `terms.py` puts words to
them, `engine.recommend` calls `peak` thousands of times. Not here: what each part is made of (the
modules beside this one).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.hardware.machine import Gpu
from engine.memory import activations, device, dora, loss, stored
from engine.memory.calibration import Calibration, correct
from engine.memory.reserve import reserve_bytes
from engine.memory.resident import (
    States,
    compute_width,
    largest_matrix_bytes,
    states,
    targeted_shapes,
    tower_bytes,
    weight_bytes,
)
from engine.memory.shape import TrainingShape, learning_layers, learns_whole
from engine.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment's transient bytes, on top of weights, adapters and optimizer states."""

    phase: str
    gradients: int = 0
    activations: int = 0
    loss: int = 0
    workspace: int = 0

    @property
    def total(self) -> int:
        """All transient bytes."""
        return self.gradients + self.activations + self.loss + self.workspace


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest moment of a run, all parts in bytes; `device_bytes` is their sum."""

    moment: Moment
    weights: int
    adapters: int
    optimizer: int
    context: int
    reserve: int
    load_bytes: int
    states: States
    calibration: int = 0
    """What measurements on this device add to the closed form; negative where less was measured."""
    calibration_detail: str = ""

    @property
    def allocated_bytes(self) -> int:
        """What the allocator has handed out at the peak."""
        return self.weights + self.adapters + self.optimizer + self.moment.total + self.calibration

    @property
    def reserved_bytes(self) -> int:
        """What the allocator holds then."""
        return self.allocated_bytes + self.reserve

    @property
    def device_bytes(self) -> int:
        """What the process takes from the device."""
        return self.reserved_bytes + self.context


def peak(
    spec: ModelSpec,
    shape: TrainingShape,
    gpu: Gpu | None = None,
    calibration: Calibration | None = None,
    learned: States | None = None,
) -> Peak:
    """The highest moment of training `spec` with `shape` on `gpu` (or on CPU by `shape.device`).

    `calibration` corrects the closed form by what was measured on that device. `learned`: the states of `shape`, where
    they are known; no batch, length or checkpointing changes them.
    """
    learned = learned or states(spec, shape)
    weights = base_bytes(spec, shape)
    optimizer = learned.masters_bytes + learned.moments_bytes
    highest, _ = _highest(spec, shape, gpu, learned)
    cublas = device.cublas_bytes(gpu, shape.device)
    reserve = reserve_bytes(spec, shape, gpu, weights + learned.weights_bytes + optimizer, highest.total - cublas)
    width = compute_width(shape)
    load = weights + max(largest_matrix_bytes(spec, width), stored.load_bytes(spec, shape, width))
    found = Peak(
        moment=highest,
        weights=weights,
        adapters=learned.weights_bytes,
        optimizer=optimizer,
        context=device.context_bytes(gpu, shape.device),
        reserve=reserve,
        load_bytes=load,
        states=learned,
    )
    return found if calibration is None else _calibrated(found, calibration, spec, shape)


def _calibrated(found: Peak, calibration: Calibration, spec: ModelSpec, shape: TrainingShape) -> Peak:
    change = correct(calibration, spec, shape, found.allocated_bytes, found.reserve, found.context)
    return replace(
        found,
        calibration=change.allocated_change,
        calibration_detail=change.detail,
        reserve=found.reserve if change.reserve is None else change.reserve,
        context=found.context if change.context is None else change.context,
    )


def base_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """All weights that this shape loads, with towers; full fp16 training keeps fp32 weights of what learns."""
    width = 4 if shape.method == "full" and shape.compute_dtype == "fp16" else compute_width(shape)
    quantization = "none" if learns_whole(shape) else shape.quantization
    towers = tower_bytes(spec, quantization, shape.double_quant, compute_width(shape))
    return weight_bytes(spec, quantization, shape.double_quant, width) + towers


def resting_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """What lies there between two steps: weights, adapters and optimizer states. No micro-batch takes less."""
    learned = states(spec, shape)
    return base_bytes(spec, shape) + learned.weights_bytes + learned.masters_bytes + learned.moments_bytes


def _total(moment: Moment) -> int:
    return moment.total


def keeps_last_layer(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None = None) -> bool:
    """Whether the last layer may keep its activations at no higher peak than with them recomputed.

    The backward pass begins with that layer, so that its activations are there at the peak either way; kept, they are
    there beside the loss too. False where it is not checkpointed, and on processors.
    """
    return _highest(spec, shape, gpu, states(spec, shape))[1]


def _highest(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None, learned: States) -> tuple[Moment, bool]:
    """The highest moment, and whether the last layer keeps its activations in it."""
    recomputed = max(_moments(spec, shape, gpu, learned, keeps_last=False), key=_total)
    if not _may_keep_last(spec, shape):
        return recomputed, False
    kept = max(_moments(spec, shape, gpu, learned, keeps_last=True), key=_total)
    return (kept, True) if kept.total <= recomputed.total else (recomputed, False)


def _may_keep_last(spec: ModelSpec, shape: TrainingShape) -> bool:
    every = shape.checkpoint_every
    if shape.device != "cuda" or every <= 0 or (spec.num_hidden_layers - 1) % every:
        return False
    # Graph nodes of int8 layers hold what they keep until the whole backward pass is over.
    return shape.quantization != "int8" or learns_whole(shape)


def _moments(
    spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None, learned: States, *, keeps_last: bool
) -> tuple[Moment, ...]:
    cost = activations.cost_of(spec, shape, device.attention_kernel(spec, shape, gpu))
    kept = activations.kept_bytes(spec, shape, cost, keeps_last=keeps_last)
    always = device.cublas_bytes(gpu, shape.device)
    casts = _cast_cache_bytes(spec, shape, learned)
    # The cache ends with the forward pass; layers that are formed again cast anew.
    working, backward = always + casts, always + _casts_in_backward(spec, shape, casts)
    matrix = device.dequantize_bytes(spec, shape)
    hidden = loss.hidden_gradient_bytes(spec, shape)
    held, first, last = _gradients(spec, shape, learned)
    depth, every = spec.num_hidden_layers, shape.checkpoint_every
    again = every > 0 and (depth - 1) % every == 0 and not keeps_last
    top = _layer(Moment("layer", first, kept, hidden, backward), spec, shape, cost, matrix, again)
    below = activations.first_checkpoint_bytes(spec, shape, cost)
    arriving = hidden if shape.offload_inputs else 0
    bottom = _layer(Moment("layer", last, below, arriving, backward), spec, shape, cost, matrix, True)
    embedding = loss.embedding_backward_bytes(spec, shape)
    # The first layer that is computed again, where the last one is not.
    others = kept - activations.whole_layer_bytes(spec, shape, cost)
    second = _layer(Moment("layer", first, others, hidden, backward), spec, shape, cost, matrix, True)
    return (
        Moment("loss", held, kept, loss.final_norm_bytes(spec, shape) + hidden + _logits(spec, shape), working),
        Moment("loss", held, kept, 2 * hidden + loss.head_backward_bytes(spec, shape), working),
        Moment(
            "loss",
            max(held, loss.head_gradient_bytes(spec, shape)),
            kept,
            loss.norm_backward_bytes(spec, shape),
            working,
        ),
        top,
        *((second,) if keeps_last else ()),
        bottom,
        Moment("layer", learned.gradients_bytes, embedding, 0, backward),
        Moment("optimizer", learned.gradients_bytes + learned.step_bytes, 0, 0, always),
        *_decomposing(spec, shape, cost, Moment("layer", held, kept, 0, working), last, again),
    )


def _decomposing(
    spec: ModelSpec, shape: TrainingShape, cost: activations.LayerCost, forward: Moment, gradients: int, again: bool
) -> tuple[Moment, ...]:
    """DoRA's dense products: in the last layer's `forward` pass, and recomputing the first with all `gradients`."""
    dense = dora.dense_bytes(shape, targeted_shapes(spec, shape.lora_targets))
    if not dense:
        return ()
    forward = replace(forward, workspace=forward.workspace + dense)
    if not shape.checkpoint_every:
        return (forward,)
    hidden = loss.hidden_gradient_bytes(spec, shape)
    whole = activations.recomputed_bytes(spec, shape, cost)
    top = replace(forward, loss=hidden, activations=forward.activations + whole)
    first = activations.first_checkpoint_bytes(spec, shape, cost) + whole + hidden
    bottom = replace(forward, gradients=gradients, activations=first)
    return (top if again else forward), bottom


def _layer(
    around: Moment,
    spec: ModelSpec,
    shape: TrainingShape,
    cost: activations.LayerCost,
    matrix: int,
    recomputed: bool,
) -> Moment:
    """`around` with one layer running backward in it; `matrix` is what it may dequantize, in bytes."""
    plain = activations.one_layer_bytes(spec, shape, cost, 0, recomputed=recomputed)
    beside = activations.one_layer_bytes(spec, shape, cost, matrix, recomputed=recomputed) - plain
    # Built anew: `replace` takes several times as long, and a search asks thousands of times.
    return Moment(around.phase, around.gradients, around.activations + plain, around.loss, around.workspace + beside)


def _logits(spec: ModelSpec, shape: TrainingShape) -> int:
    """The chunked loss at its worst: inside a chunk, or when a trained head's gradient is added up."""
    inside = loss.chunk_bytes(spec, shape)
    adding = loss.chunk_end_bytes(spec, shape) + loss.head_product_bytes(spec, shape)
    return loss.head_bytes(spec, shape) + (max(inside, adding) if shape.method == "full" else inside)


def _gradients(spec: ModelSpec, shape: TrainingShape, learned: States) -> tuple[int, int, int]:
    """Gradients alive in the forward pass, the first backward layer and the last one."""
    head, whole = loss.head_gradient_bytes(spec, shape), learned.gradients_bytes
    # Copies in modules_to_save are not tied.
    tied = spec.tie_word_embeddings and shape.method == "full"
    if shape.gradient_accumulation_steps > 1:
        # A tied head's new gradient waits for the embedding's before both are added to the old one.
        waiting = head if tied else 0
        return whole, whole + waiting, whole + waiting
    embedding = loss.embedding_gradient_bytes(spec, shape)
    others = whole - head - (0 if tied else embedding)
    return 0, head + others // max(1, learning_layers(spec.num_hidden_layers, shape)), head + others


def _casts_in_backward(spec: ModelSpec, shape: TrainingShape, casts: int) -> int:
    """Of those copies, what layers that are not checkpointed keep, and one layer that is formed again."""
    if shape.method != "full":
        return casts
    depth = spec.num_hidden_layers
    return casts * min(depth, depth - activations.checkpointed_layers(spec, shape) + 1) // depth


def _cast_cache_bytes(spec: ModelSpec, shape: TrainingShape, learned: States) -> int:
    """Autocast's 16-bit copies of fp32 trainables, which fp16 training needs."""
    if shape.compute_dtype != "fp16":
        return 0
    return 2 * (spec.sizes.linear_parameters if shape.method == "full" else learned.parameters)
