"""Closed form against oracle where predictions were once too low, every layer simulated: tables in Markdown.

    python -m bench.memory_edges [dora] [documents] [reserve]

DoRA on quantized layers in fp16, rows of short documents, and what the allocator keeps with adapters on the head, of
high rank and behind dropout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from engine.hardware.machine import Gpu
from engine.memory.phases import peak
from engine.memory.shape import TrainingShape
from engine.models.catalog import catalog_index
from engine.oracle.grid import label
from engine.oracle.simulate import simulate

AMPERE, T4 = Gpu("A100", compute_capability=(8, 0)), Gpu("T4", compute_capability=(7, 5))
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Row = tuple[str, TrainingShape, Gpu]


def dora() -> Iterator[Row]:
    """Five models; nf4, fp4 and int8 by turns, long and short rows."""
    names = ("llama-3.1-8b", "qwen2.5-0.5b-instruct", "gemma-3-1b-it", "phi-3.5-mini-instruct", "smollm2-1.7b-instruct")
    for name in names:
        for quantization, length in (("nf4", 8192), ("nf4", 1024), ("fp4", 2048), ("int8", 4096)):
            shape = TrainingShape(compute_dtype="fp16", use_dora=True, quantization=quantization, max_length=length)
            yield name, shape, T4


def documents() -> Iterator[Row]:
    """Documents of 8 to 512 tokens on two kernels."""
    for tokens in (8, 16, 32, 64, 128, 256, 512):
        yield "qwen3-0.6b", TrainingShape(micro_batch=4, max_length=4096, document_tokens=tokens), AMPERE
    for tokens in (8, 16, 32):
        yield (
            "qwen3-4b",
            TrainingShape(micro_batch=4, max_length=4096, quantization="nf4", document_tokens=tokens),
            AMPERE,
        )
        yield "llama-3.2-1b-instruct", TrainingShape(max_length=4096, kernels="liger", document_tokens=tokens), AMPERE
        yield "tinyllama-1.1b-chat-v1.0", TrainingShape(compute_dtype="fp16", document_tokens=tokens), T4


def reserve() -> Iterator[Row]:
    """Adapters on the head, of rank 256, behind dropout, on int8, and a mixture whose last layers learn."""
    rows: Sequence[tuple[str, dict[str, Any]]] = (
        ("gemma-3-270m-it", {"lora_targets": (*ALL, "lm_head"), "max_length": 1024, "micro_batch": 2}),
        ("gemma-3-270m-it", {"lora_targets": (*ALL, "lm_head"), "quantization": "nf4"}),
        ("gemma-3-270m-it", {"lora_targets": (*ALL, "lm_head"), "quantization": "nf4", "kernels": "liger"}),
        ("phi-4-mini-instruct", {"lora_targets": (*ALL, "lm_head"), "quantization": "nf4", "max_length": 1024}),
        ("qwen2.5-0.5b-instruct", {"lora_targets": (*ALL, "lm_head"), "lora_dropout": 0.05, "kernels": "liger"}),
        ("qwen2.5-0.5b-instruct", {"lora_r": 256, "lora_dropout": 0.1, "max_length": 1024, "micro_batch": 4}),
        ("qwen3-0.6b", {"lora_r": 256, "lora_dropout": 0.1, "max_length": 4096, "quantization": "nf4"}),
        ("llama-3.2-1b-instruct", {"lora_r": 256, "lora_dropout": 0.05, "max_length": 1024}),
        ("llama-3.2-1b-instruct", {"lora_r": 256, "quantization": "int8"}),
        ("qwen2.5-0.5b-instruct", {"lora_r": 256, "quantization": "int8", "max_length": 1024}),
        ("granite-3.3-2b-instruct", {"lora_r": 256}),
        ("granite-3.3-2b-instruct", {"lora_r": 256, "lora_dropout": 0.05, "max_length": 1024}),
        ("qwen3-30b-a3b", {"method": "freeze", "trainable_layers": 2, "max_length": 1024}),
    )
    for name, settings in rows:
        yield name, TrainingShape(**settings), AMPERE


PARTS = {"dora": dora, "documents": documents, "reserve": reserve}


def main(asked: Sequence[str]) -> None:
    """Print the tables asked for, or all."""
    for part in asked or PARTS:
        print(f"\n{part}\n\n| model and shape | allocated | reserved | allocated, % | reserved, % |")
        print("|---|---|---|---|---|")
        for name, shape, gpu in PARTS[part]():
            print(line(name, shape, gpu), flush=True)


def line(name: str, shape: TrainingShape, gpu: Gpu) -> str:
    """One row: simulated GiB, and the signed errors of the closed form."""
    spec = catalog_index()[name]
    found, formula = simulate(spec, shape, gpu=gpu, whole=True), peak(spec, shape, gpu)
    allocated, reserved = (
        100 * (ours / theirs - 1)
        for ours, theirs in (
            (formula.allocated_bytes, found.allocated_bytes),
            (formula.reserved_bytes, found.reserved_bytes),
        )
    )
    documents = f" documents of {shape.document_tokens}" if shape.document_tokens else ""
    head = " +head adapter" if "lm_head" in shape.lora_targets else ""
    sizes = f"{found.allocated_bytes / 2**30:.2f} | {found.reserved_bytes / 2**30:.2f}"
    return f"| {name} {label(shape)}{head}{documents} | {sizes} | {allocated:+.2f} | {reserved:+.2f} |"


if __name__ == "__main__":
    main(sys.argv[1:])
