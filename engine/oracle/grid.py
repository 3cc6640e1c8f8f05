"""The cases that compare the closed form of memory with the oracle.

Every architecture meets twelve shapes, chosen by turns from the table below so that each combination of
method, precision, quantization, checkpointing, length and batch comes with each kind of model. `bench/memory.py` writes
the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from engine.hardware.machine import Gpu
from engine.memory.shape import TrainingShape
from engine.models.catalog import catalog_index
from engine.models.spec import ModelSpec

GPU = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
_QV = ("q_proj", "v_proj")
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_CATALOG = (
    "llama-3.2-1b-instruct",
    "llama-3.1-8b",
    "tinyllama-1.1b-chat-v1.0",
    "mistral-7b-instruct-v0.3",
    "mistral-nemo-instruct-2407",
    "qwen2.5-0.5b-instruct",
    "qwen2.5-7b-instruct",
    "qwen3-0.6b",
    "qwen3-8b",
    "gemma-2-2b-it",
    "gemma-2-9b-it",
    "gemma-3-270m-it",
    "gemma-3-1b-it",
    "phi-3.5-mini-instruct",
    "phi-4",
    "smollm2-135m-instruct",
    "smollm2-1.7b-instruct",
    "smollm3-3b",
    "olmo-2-0425-1b-instruct",
    "granite-3.3-2b-instruct",
    "qwen3-30b-a3b",
)
_SHAPES: tuple[TrainingShape, ...] = (
    TrainingShape(micro_batch=1, max_length=2048, quantization="nf4"),
    TrainingShape(micro_batch=4, max_length=512),
    TrainingShape(micro_batch=2, max_length=1024, checkpoint_every=0),
    TrainingShape(micro_batch=1, max_length=1024, method="full"),
    TrainingShape(micro_batch=4, max_length=2048, quantization="nf4", gradient_accumulation_steps=4),
    TrainingShape(micro_batch=1, max_length=4096, checkpoint_every=2, lora_r=64),
    TrainingShape(micro_batch=2, max_length=512, compute_dtype="fp32"),
    TrainingShape(micro_batch=1, max_length=8192, lora_targets=_QV),
    TrainingShape(micro_batch=1, max_length=512, quantization="int8"),
    TrainingShape(micro_batch=2, max_length=2048, method="full", gradient_accumulation_steps=2),
    TrainingShape(micro_batch=1, max_length=512, quantization="nf4", lora_targets=_QV, checkpoint_every=0),
    TrainingShape(micro_batch=1, max_length=1024, method="full", optimizer="adamw_bnb_8bit"),
    TrainingShape(micro_batch=2, max_length=1024, quantization="fp4", double_quant=False, lora_targets=_ATTENTION),
    TrainingShape(micro_batch=8, max_length=1024, lora_r=8),
    TrainingShape(micro_batch=1, max_length=2048, compute_dtype="fp32", checkpoint_every=0, lora_targets=_QV),
    TrainingShape(micro_batch=1, max_length=512, method="full", checkpoint_every=0),
    TrainingShape(micro_batch=4, max_length=1024, quantization="int8", checkpoint_every=2),
    TrainingShape(micro_batch=1, max_length=8192, quantization="nf4", lora_r=64, gradient_accumulation_steps=8),
    TrainingShape(micro_batch=2, max_length=2048, lora_dropout=0.1),
    TrainingShape(micro_batch=1, max_length=512, compute_dtype="fp32", method="full"),
    TrainingShape(micro_batch=2, max_length=1024, quantization="nf4", checkpoint_every=0, lora_dropout=0.05),
    TrainingShape(micro_batch=1, max_length=2048, method="full", optimizer="adamw_torch"),
    TrainingShape(micro_batch=16, max_length=512, quantization="nf4", compute_dtype="fp32"),
    TrainingShape(micro_batch=1, max_length=512, optimizer="adamw_bnb_8bit", lora_targets=_ATTENTION),
)
CASES_PER_MODEL = 12
_BOTH = ("embed_tokens", "lm_head")
_ADAPTER_SHAPES: tuple[TrainingShape, ...] = (
    TrainingShape(micro_batch=1, max_length=2048, use_dora=True),
    TrainingShape(micro_batch=2, max_length=1024, modules_to_save=_BOTH),
    TrainingShape(micro_batch=2, max_length=1024, use_dora=True, quantization="nf4", checkpoint_every=0),
    TrainingShape(micro_batch=4, max_length=512, modules_to_save=("lm_head",), quantization="nf4"),
    TrainingShape(micro_batch=1, max_length=4096, lora_bias="all"),
    TrainingShape(micro_batch=4, max_length=512, use_dora=True, checkpoint_every=0, lora_targets=_ATTENTION),
    TrainingShape(micro_batch=4, max_length=1024, modules_to_save=("embed_tokens",)),
    TrainingShape(micro_batch=4, max_length=2048, use_dora=True, quantization="nf4"),
    TrainingShape(micro_batch=1, max_length=1024, modules_to_save=_BOTH, gradient_accumulation_steps=4),
    TrainingShape(micro_batch=2, max_length=512, modules_to_save=("lm_head",), checkpoint_every=0, lora_bias="all"),
)
_ADAPTER_MODELS = (
    "llama-3.2-1b-instruct",
    "llama-3.1-8b",
    "qwen2.5-0.5b-instruct",
    "qwen2.5-7b-instruct",
    "gemma-3-1b-it",
    "gemma-2-2b-it",
    "phi-3.5-mini-instruct",
    "qwen3-8b",
)


_KERNEL_SHAPES: tuple[TrainingShape, ...] = (
    TrainingShape(micro_batch=4, max_length=2048, kernels="liger"),
    TrainingShape(micro_batch=4, max_length=2048, kernels="liger", offload_inputs=True),
    TrainingShape(micro_batch=2, max_length=1024, kernels="liger", checkpoint_every=0),
    TrainingShape(micro_batch=4, max_length=2048, kernels="liger", keep_attention=True),
    TrainingShape(micro_batch=4, max_length=2048, kernels="liger", quantization="nf4", offload_inputs=True),
    TrainingShape(micro_batch=4, max_length=2048, keep_attention=True),
    TrainingShape(micro_batch=4, max_length=1024, kernels="liger", checkpoint_every=2),
    TrainingShape(micro_batch=1, max_length=8192, kernels="liger", lora_targets=_QV),
    TrainingShape(micro_batch=4, max_length=2048, offload_inputs=True),
    TrainingShape(micro_batch=2, max_length=2048, kernels="liger", quantization="int8"),
    TrainingShape(micro_batch=1, max_length=2048, kernels="liger", method="full"),
    TrainingShape(micro_batch=2, max_length=1024, kernels="liger", compute_dtype="fp32"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One model with one shape; `name` tells both."""

    name: str
    spec: ModelSpec
    shape: TrainingShape


def _synthetic() -> tuple[ModelSpec, ...]:
    llama = catalog_index()["llama-3.2-1b-instruct"]
    biased = replace(llama, name="llama-biased", attention_bias=True, mlp_bias=True, vocab_size=64_000)
    untied = replace(biased, name="llama-untied-256k", tie_word_embeddings=False, vocab_size=256_000, parameters=None)
    mixtral = ModelSpec(
        name="mixtral-8x7b",
        family="mixtral",
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=32_000,
        max_position_embeddings=32_768,
        num_experts=8,
        num_experts_per_token=2,
    )
    return (replace(biased, parameters=None), untied, mixtral)


@lru_cache(maxsize=1)
def grid_cases() -> tuple[Case, ...]:
    """All cases, in the order of the committed table."""
    index = catalog_index()
    specs = (*(replace(index[name], name=name, parameters=None) for name in _CATALOG), *_synthetic())
    found = []
    for turn, spec in enumerate(specs):
        shapes = [_SHAPES[(5 * turn + 7 * place) % len(_SHAPES)] for place in range(len(_SHAPES))]
        fitting = [shape for shape in shapes if _possible(spec, shape)][:CASES_PER_MODEL]
        found += [Case(f"{spec.name} {label(shape)}", spec, shape) for shape in fitting]
    return tuple(found)


@lru_cache(maxsize=1)
def adapter_cases() -> tuple[Case, ...]:
    """Cases of what `grid_cases` has none of: decomposed adapters, modules and biases that learn beside them."""
    index = catalog_index()
    specs = [replace(index[name], name=name, parameters=None) for name in _ADAPTER_MODELS]
    return tuple(
        Case(f"{spec.name} {label(shape)}", spec, shape)
        for turn, spec in enumerate(specs)
        for place, shape in enumerate(_ADAPTER_SHAPES)
        if (turn + place) % 2 == 0
    )


@lru_cache(maxsize=1)
def kernel_cases() -> tuple[Case, ...]:
    """Every family with Triton kernels, with them and with each way of checkpointing."""
    index = catalog_index()
    specs = [replace(index[name], name=name, parameters=None) for name in _CATALOG]
    return tuple(
        Case(f"{spec.name} {label(shape)}", spec, shape)
        for spec in specs
        if spec.traits.kernels is not None
        for shape in _KERNEL_SHAPES
        if _possible(spec, shape)
    )


def _possible(spec: ModelSpec, shape: TrainingShape) -> bool:
    """Grouped products of experts need 16 bits."""
    return not (spec.num_experts and shape.compute_dtype == "fp32")


def label(shape: TrainingShape) -> str:
    """A shape in one short line."""
    parts = [shape.method, shape.quantization if shape.quantization != "none" else "", shape.compute_dtype]
    parts += ["single" if shape.quantization in ("nf4", "fp4") and not shape.double_quant else ""]
    if shape.method == "lora":
        parts += [
            f"r{shape.lora_r}",
            f"{len(shape.lora_targets)}t",
            f"p{shape.lora_dropout}" if shape.lora_dropout else "",
            "dora" if shape.use_dora else "",
            f"bias-{shape.lora_bias}" if shape.lora_bias != "none" else "",
            *(f"+{name}" for name in shape.modules_to_save),
        ]
    parts += [f"{shape.micro_batch}x{shape.max_length}", f"c{shape.checkpoint_every}"]
    parts += [f"ga{shape.gradient_accumulation_steps}" if shape.gradient_accumulation_steps > 1 else ""]
    parts += ["offload" if shape.offload_inputs else "", "attention" if shape.keep_attention else ""]
    parts += [shape.kernels if shape.kernels != "plain" else ""]
    parts += [shape.optimizer.removeprefix("adamw_") if shape.optimizer != "adamw_torch_fused" else ""]
    return " ".join(part for part in parts if part)
