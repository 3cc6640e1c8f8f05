"""The memory estimate a person sees: the peak of `phases.py` as named terms with words.

`estimate_memory` is the one entry point for the recommender, `engine fit` and the deck. The terms
add up to `device_bytes`: they describe one moment, not the largest each could ever be.
"""

from __future__ import annotations

from engine.hardware.machine import Gpu
from engine.memory import experts, linear_attention, stored
from engine.memory.activations import STAGED_INPUTS, checkpointed_layers, host_bytes
from engine.memory.calibration import Calibration
from engine.memory.loss import chunk_tokens
from engine.memory.phases import Peak, peak
from engine.memory.resident import WHOLE_MODULES, adapted_outside, quantized_bytes, targeted_shapes, tower_bytes
from engine.memory.shape import MemoryEstimate, Term, TrainingShape, learning_layers, learns_whole
from engine.models.alone import LONE_TOKENS, STATES, kernels_note, mixing_layers, why_alone
from engine.models.packing import alone_reason
from engine.models.spec import ModelSpec
from engine.text import format_bytes, format_count

TERM_NAMES = (
    "weights",
    "adapters",
    "gradients",
    "optimizer",
    "activations",
    "loss",
    "workspace",
    "context",
    "reserve",
)


def estimate_memory(
    spec: ModelSpec, shape: TrainingShape, *, gpu: Gpu | None = None, calibration: Calibration | None = None
) -> MemoryEstimate:
    """Predicted memory of training `spec` with `shape`: named terms, peak, phase. Under a millisecond.

    `gpu` settles context, workspaces and attention kernels; without it a current card is assumed. `calibration` adds
    a term of its own when measurements on the device change the answer.
    """
    found = peak(spec, shape, gpu, calibration)
    moment = found.moment
    sizes = {
        "weights": (found.weights, _weights_detail(spec, shape)),
        "adapters": (found.adapters, _adapters_detail(spec, shape, found)),
        "gradients": (moment.gradients, _gradients_detail(shape, found)),
        "optimizer": (found.optimizer, _optimizer_detail(shape, found)),
        "activations": (moment.activations, _activations_detail(spec, shape, moment.phase)),
        "loss": (moment.loss, _loss_detail(spec, shape, moment.phase)),
        "workspace": (moment.workspace, _workspace_detail(spec, shape, moment.phase)),
        "context": (found.context, _context_detail(shape, found, calibration)),
        "reserve": (found.reserve, "kept by the allocator above its peak (fragmentation)"),
    }
    if found.calibration_detail:
        sizes["calibration"] = (found.calibration, found.calibration_detail)
    return MemoryEstimate(
        terms=tuple(Term(name, *size) for name, size in sizes.items()),
        allocated_bytes=found.allocated_bytes,
        reserved_bytes=found.reserved_bytes,
        device_bytes=found.device_bytes,
        peak_phase=moment.phase,
        trainable_parameters=found.states.parameters,
        total_parameters=spec.sizes.loaded_parameters,
        tower_parameters=spec.sizes.tower_parameters,
        notes=(*_notes(spec, shape, found), *(calibration.notes if calibration else ())),
    )


def _weights_detail(spec: ModelSpec, shape: TrainingShape) -> str:
    towers = format_count(spec.sizes.tower_parameters)
    count = format_count(spec.sizes.loaded_parameters) + (f" with towers of {towers}" if spec.tower_groups else "")
    if shape.quantization == "none" or learns_whole(shape):
        width = "fp32" if shape.method == "full" and shape.compute_dtype == "fp16" else shape.compute_dtype
        return f"{count} in {width}"
    nested = " double-quantized" if shape.double_quant and shape.quantization in ("nf4", "fp4") else ""
    packed = format_bytes(_packed_bytes(spec, shape))
    what = "linear layers and experts" if experts.are_packed(spec, shape) else "linear layers"
    return f"{count}: {what} {packed} in {shape.quantization}{nested}, the rest in {shape.compute_dtype}"


def _packed_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """All matrices that are quantized, those of towers among them."""
    stored = (shape.quantization, shape.double_quant, 0)
    return quantized_bytes(spec, *stored[:2]) + tower_bytes(spec, *stored)


def _adapters_detail(spec: ModelSpec, shape: TrainingShape, found: Peak) -> str:
    if shape.method == "full":
        return "none: the weights themselves learn"
    if shape.method == "freeze":
        count = format_count(found.states.parameters)
        widened = ", kept in fp32" if found.states.weights_bytes else ""
        return f"none: the last {shape.trainable_layers} layers learn ({count}){widened}"
    names = [name.removesuffix("_proj") for name, _, _ in targeted_shapes(spec, shape.lora_targets)]
    names += sorted(adapted_outside(shape)) + ["experts"] * experts.are_adapted(spec, shape)
    width = "bf16" if shape.compute_dtype == "bf16" else "fp32"
    return f"{format_count(found.states.parameters)} in {width}, rank {shape.lora_r} on {' '.join(names)}"


def _gradients_detail(shape: TrainingShape, found: Peak) -> str:
    whole = format_bytes(found.states.gradients_bytes)
    if found.moment.phase == "optimizer":
        return f"all ({whole})" + (", with copies for the step" if found.states.step_bytes else "")
    if shape.gradient_accumulation_steps > 1:
        return f"all, kept over {shape.gradient_accumulation_steps} micro-batches"
    return f"those made by then; {whole} at the end of the backward pass"


def _optimizer_detail(shape: TrainingShape, found: Peak) -> str:
    parts = []
    if found.states.masters_bytes:
        parts.append(f"fp32 master weights {format_bytes(found.states.masters_bytes)}")
    if found.states.moments_bytes:
        kind = "8-bit" if "8bit" in shape.optimizer else "fp32"
        names = {"adafactor": "sums of rows and columns", "lion_32bit": "momentum", "lion_8bit": "momentum"}
        what = names.get(shape.optimizer, "Adam moments")
        parts.append(f"{kind} {what} {format_bytes(found.states.moments_bytes)}")
    if found.states.paged_bytes:
        parts.append(f"paged moments {format_bytes(found.states.paged_bytes)}, not counted")
    return ", ".join(parts)


def _activations_detail(spec: ModelSpec, shape: TrainingShape, phase: str) -> str:
    tokens = f"{shape.micro_batch} x {shape.max_length} tokens"
    if phase == "optimizer":
        return f"none left at the peak ({tokens})"
    few, depth = checkpointed_layers(spec, shape), learning_layers(spec.num_hidden_layers, shape)
    if few == 0:
        return f"{tokens}, {'all' if depth == spec.num_hidden_layers else 'the last'} {depth} layers kept"
    if few == depth:
        return f"{tokens}, {_checkpoints_detail(spec, shape, few)}, one layer recomputed"
    return f"{tokens}, {few} of {depth} layers checkpointed, the others kept"


def _checkpoints_detail(spec: ModelSpec, shape: TrainingShape, few: int) -> str:
    """What checkpointed layers keep, and where."""
    if shape.offload_inputs:
        here, moved = min(few, STAGED_INPUTS), format_bytes(host_bytes(spec, shape))
        return f"inputs of {here} layers at a time, {moved} of inputs wait in main memory"
    kept = "inputs and attention outputs" if shape.keep_attention else "inputs"
    return f"{kept} of {few} layers"


def _loss_detail(spec: ModelSpec, shape: TrainingShape, phase: str) -> str:
    rows = min(shape.micro_batch * shape.max_length, chunk_tokens(spec, shape))
    if not rows:
        return "no logits: a head of one output scores the last token"
    chunk = f"chunks of {rows} x {spec.vocab_size:,} logits"
    if phase == "loss":
        return f"{chunk}, final norm and gradient of the hidden states"
    return f"gradient of the hidden states; {chunk} are gone" if phase == "layer" else f"{chunk} are gone"


def _workspace_detail(spec: ModelSpec, shape: TrainingShape, phase: str) -> str:
    parts = ["matrix-multiplication workspaces"] if shape.device == "cuda" else []
    if shape.quantization != "none" and not learns_whole(shape) and phase == "layer":
        parts.append("a layer's experts dequantized" if experts.are_packed(spec, shape) else "one matrix dequantized")
    if shape.compute_dtype == "fp16" and phase != "optimizer":
        parts.append("autocast copies of the trainables")
    return ", ".join(parts) or "none"


def _context_detail(shape: TrainingShape, found: Peak, calibration: Calibration | None) -> str:
    measured = ", measured here" if calibration and calibration.context_bytes == found.context else ""
    return ("CUDA context and kernels" if shape.device == "cuda" else "Python and libraries") + measured


def _expert_notes(spec: ModelSpec, shape: TrainingShape, found: Peak) -> list[str]:
    """What a mixture's experts are stored in, and that they stay frozen."""
    if not spec.num_experts or learns_whole(shape):
        return []
    notes = []
    if shape.quantization != "none" and not experts.are_packed(spec, shape):
        kept = format_bytes(found.weights - _packed_bytes(spec, shape))
        notes.append(f"{shape.quantization} leaves experts as they are: {kept} stay in {shape.compute_dtype}")
    if not experts.are_adapted(spec, shape):
        frozen = format_count(spec.sizes.expert_parameters)
        notes.append(f"experts and routers stay frozen ({frozen}); lora.experts = true lets experts learn")
    return notes


def _row_notes(spec: ModelSpec, shape: TrainingShape) -> list[str]:
    """Why documents do not share rows, whose figures memory and speed are, and which kernels are missing."""
    reason = alone_reason(spec, shape.device)
    notes = [f"one document a row, padded: {reason}; {_speed_note(spec)}"] if reason else []
    if linear_attention.has_delta_rule(spec):
        kernels = " and ".join(spec.traits.packs_with)
        notes.append(f"linear attention is counted as plain operators take it; with {kernels} it takes less")
    return notes + _state_notes(spec, shape)


def _speed_note(spec: ModelSpec) -> str:
    if why_alone(spec):
        return f"speed is for {LONE_TOKENS} tokens"
    return "speed is that of full rows, shorter ones are slower"


def _state_notes(spec: ModelSpec, shape: TrainingShape) -> list[str]:
    """Of short convolutions and state spaces: kernels that are missing, and which layers learn."""
    kernels = kernels_note(spec) if shape.device == "cuda" else ""
    states = mixing_layers(spec) == STATES
    if states and shape.device == "cuda" and not kernels:
        kernels = f"memory of {STATES} is that of plain PyTorch: the kernels that are installed take less"
    adapters = f"{STATES} learn by adapters on in_proj alone: kernels read out_proj past any"
    adapted = adapters if states and shape.method == "lora" else ""
    return [note for note in (kernels, adapted) if note]


def _notes(spec: ModelSpec, shape: TrainingShape, found: Peak) -> tuple[str, ...]:
    notes = [f"loading peaks at {format_bytes(found.load_bytes)} on the device, with one matrix more"]
    notes += filter(None, [stored.note(spec, shape, found.weights)])
    if shape.method == "lora" and not targeted_shapes(spec, shape.lora_targets):
        notes.append("no linear layer matches the adapter targets: nothing would learn")
    uncounted = sorted(set(shape.modules_to_save) - WHOLE_MODULES)
    if uncounted and shape.method == "lora":
        notes.append(f"modules_to_save: what training {', '.join(uncounted)} takes is not counted")
    notes += _expert_notes(spec, shape, found) + _row_notes(spec, shape)
    if not spec.traits.checked:
        advice = "ask with --exact" if shape.device == "cuda" else "expect a larger error"
        notes.append(f"family '{spec.family}' is not one this model was checked for: {advice}")
    if found.states.paged_bytes:
        notes.append(f"paged optimizer: up to {format_bytes(found.states.paged_bytes)} of RAM or GPU memory more")
    if shape.quantization == "int8" and not learns_whole(shape):
        if shape.checkpoint_every:
            notes.append("int8 layers keep their inputs: activation checkpointing saves less than with nf4")
        notes.append("int8 sizes follow bitsandbytes' source and were not measured")
    if shape.quantization != "none" and learns_whole(shape):
        notes.append(f"{shape.method} does not quantize: weights of the base learn")
    return tuple(notes)
