"""The training job as the memory and time models see it: plain numbers, no trainer code.

`engine.resolve` and `recommend.search` make these; `memory.terms` and `speed.roofline` read them. The sizes that the
trainer and its prediction must agree on are here, and read by both.
"""

from __future__ import annotations

from dataclasses import dataclass

LOSS_CHUNK_TOKENS = 512
"""Rows of logits alive at once in the loss."""
KERNEL_CHUNK_TOKENS = 1024
"""The same where a Triton kernel writes the logits' gradient over them: half the memory in 16 bit, and products that
fill a large GPU."""
STEP_PORTION_BYTES = 256 * 1024 * 1024
"""fp32 gradients of 16-bit weights alive at once in an optimizer's step on a GPU."""
USUAL_DOCUMENT_TOKENS = 64
"""On average, where nothing is known of the data: below what most conversations have, so that shorter ones surprise."""
GIB = 1024**3
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class TrainingShape:
    """One configuration of the engine's own trainer (fixed-shape packed batches, chunked loss)."""

    method: str = "lora"
    """`lora`, `freeze` (the last layers learn whole) or `full`."""
    trainable_layers: int = 0
    """Of `freeze`: how many of the last layers learn."""
    compute_dtype: str = "bf16"
    """`bf16`, `fp16` or `fp32`: dtype of the base weights, activations and adapters."""
    quantization: str = "none"
    """`none`, `nf4`, `fp4` or `int8`."""
    double_quant: bool = True
    micro_batch: int = 1
    max_length: int = 2048
    document_tokens: int = 0
    """Of the documents that share a packed row, on average; 0 = one document fills it."""
    gradient_accumulation_steps: int = 1
    lora_r: int = 16
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    lora_dropout: float = 0.0
    lora_experts: bool = False
    """Whether the experts of a mixture carry adapters."""
    use_dora: bool = False
    """Weight-decomposed adapters: a trained magnitude for each output."""
    lora_bias: str = "none"
    """`none`, `lora_only` or `all`: biases of the base that learn beside the adapters."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained whole beside adapters, as copies: `embed_tokens`, `lm_head`."""
    checkpoint_every: int = 1
    """Activation checkpointing: 0 = off, 1 = every layer, n = every n-th layer."""
    offload_inputs: bool = False
    """Inputs of checkpointed layers wait in pinned host memory (CUDA only)."""
    keep_attention: bool = False
    """Checkpointed layers keep attention's output, so that it is not computed again."""
    kernels: str = "plain"
    """`plain` (transformers' operators) or `liger` (Triton kernels for norms, rotation, gate and loss)."""
    optimizer: str = "adamw_torch_fused"
    loss_chunk_tokens: int = LOSS_CHUNK_TOKENS
    """Rows of logits alive at once in the chunked cross-entropy; 0 = a reward model, which has none."""
    device: str = "cuda"
    """`cuda` or `cpu`."""


def method_words(shape: TrainingShape) -> str:
    """`LoRA bf16`, `QLoRA nf4`, `last 2 bf16`, `full bf16`: how a shape trains, in a few words."""
    if shape.method == "full":
        return f"full {shape.compute_dtype}"
    if shape.method == "freeze":
        return f"last {shape.trainable_layers} {shape.compute_dtype}"
    return f"LoRA {shape.compute_dtype}" if shape.quantization == "none" else f"QLoRA {shape.quantization}"


def documents_of(shape: TrainingShape) -> int:
    """Documents in a micro-batch, as kernels count them: the rest of each row that stays empty is one more."""
    if not 0 < shape.document_tokens < shape.max_length:
        return shape.micro_batch
    return shape.micro_batch * (1 + -(-shape.max_length // shape.document_tokens))


def uses_kernels(shape: TrainingShape) -> bool:
    """Whether Triton kernels are in force; processors have none."""
    return shape.kernels == "liger" and shape.device == "cuda"


def fuses_adapters(shape: TrainingShape) -> bool:
    """Whether a GPU run forms adapters together with the plain or 4-bit layer that they sit on."""
    plain = not shape.lora_dropout and not shape.use_dora and shape.lora_bias == "none"
    formed = shape.method == "lora" and shape.compute_dtype != "fp16" and shape.quantization != "int8"
    return shape.device == "cuda" and plain and formed


def learns_whole(shape: TrainingShape) -> bool:
    """Whether weights of the base themselves learn."""
    return shape.method in ("full", "freeze")


def learning_layers(layers: int, shape: TrainingShape) -> int:
    """How many of a model's `layers` are on the way of a gradient: all, or with `freeze` the last ones."""
    return min(layers, shape.trainable_layers) if shape.method == "freeze" else layers


def trains(shape: TrainingShape, module: str) -> bool:
    """Whether `embed_tokens` or `lm_head` learns whole."""
    return shape.method == "full" or (shape.method == "lora" and module in shape.modules_to_save)


def adapts(shape: TrainingShape, module: str) -> bool:
    """Whether `embed_tokens` or `lm_head` carries an adapter."""
    return shape.method == "lora" and module in {target.rpartition(".")[2] for target in shape.lora_targets}


@dataclass(frozen=True, slots=True)
class Term:
    """One named part of an estimate, with what it is made of in words."""

    name: str
    bytes: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Predicted memory of one process on one device. All in bytes.

    `allocated_bytes` is the peak the allocator hands out, `reserved_bytes` what it keeps,
    `device_bytes` = reserved + CUDA context: what has to be free before the run starts. On CPU the
    last two are the process's resident memory.
    """

    terms: tuple[Term, ...]
    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    peak_phase: str
    """`load`, `layer`, `loss` or `optimizer`: where the peak is."""
    trainable_parameters: int
    total_parameters: int
    """Of all that is loaded."""
    tower_parameters: int = 0
    """Of those, what lies beside the text model and stays frozen."""
    notes: tuple[str, ...] = ()
