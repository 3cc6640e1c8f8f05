"""Which fast paths are compared with plain computation on a device: one row a path, in order of worth. Torch-free.

A row names the function that compares (`engine.selftest.device`) and, in `cases`, what it is called with on this
device; no case means that the path is not used here. A new fast path is a row and a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.memory.device import attention_kernel
from engine.memory.shape import TrainingShape
from engine.models.families import family_of
from engine.models.spec import ModelSpec
from engine.recommend.kernels import obstacle
from engine.selftest.checks import Item, Place

Case = tuple[str, Mapping[str, Any]]
FAMILIES = ("llama", "qwen3", "gemma3_text", "gemma2", "qwen2", "phi3")
"""Two-layer models are made of these: grouped heads, norms of heads, windows, capped scores, biases, fused matrices."""
VOCABULARY = 512
_MODULE = "engine.selftest.device."
_KERNELS = {
    "varlen": ("flash attention", "flash"),
    "packed": ("memory-efficient attention", "efficient"),
    "split": ("attention, one call a document", None),
    "products": ("attention as plain products", None),
}
"""The memory model's word for a kernel -> what a person reads, and what `attention_kernels` calls it."""
_CUDNN_CARDS = (9, 10)
_AMPERE = (8, 0)
_EXPECTED_S = {"cpu": 0.5, "cuda": 0.7}
_FIRST_CALL_S = 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """One fast path. `cases(place)` gives the names of its checks and their parameters."""

    about: str
    run: str
    cases: Callable[[Place], Iterator[Case]]


def tiny_spec(family: str) -> ModelSpec:
    """Two layers, four query heads to two key heads, a window shorter than the documents where the family has one."""
    traits = family_of(family)
    return ModelSpec(
        name=f"tiny {family}",
        family=family,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=VOCABULARY,
        max_position_embeddings=1024,
        tie_word_embeddings=family != "qwen3",
        attention_bias=traits.attention_bias,
        fused_projections=traits.fused_projections,
        sliding_window=16 if traits.alternating_windows else None,
    )


def attention_cases(place: Place) -> Iterator[Case]:
    """Each kernel that training uses here, by dtype: grouped heads, a window, wide heads, rows of one document."""
    for dtype in place.dtypes:
        shape = TrainingShape(compute_dtype=dtype, device=place.device)
        name, kernel = _KERNELS[attention_kernel(tiny_spec("llama"), shape, place.gpu)]
        known = {"dtype": dtype, "kernel": kernel}
        yield f"{name}, {dtype}", known
        yield f"{name}, {dtype}, window", {**known, "window": 5}
        yield f"{name}, {dtype}, heads of 128", {**known, "head_dim": 128, "key_heads": 6}
        if place.capability[0] in _CUDNN_CARDS and dtype != "fp32":
            whole = {"dtype": dtype, "kernel": "cudnn", "lengths": [64, 64], "rows": 2, "head_dim": 128}
            yield f"cuDNN's attention, rows of one document, {dtype}", whole
    if place.device == "cpu" and "bf16" in place.dtypes:
        yield "attention, one call a document, bf16, long", {"dtype": "bf16", "lengths": [600, 40]}
    yield f"attention with capped scores, {place.dtypes[0]}", {"dtype": place.dtypes[0], "softcap": 20.0}


def packed_cases(place: Place) -> Iterator[Case]:
    """Every family in fp32, where nothing hides behind rounding, and in the recommended dtype."""
    for family in FAMILIES:
        yield f"packed documents, {family}, fp32", {"family": family, "dtype": "fp32"}
    if place.dtypes[0] != "fp32":
        for family in FAMILIES[:3]:
            yield f"packed documents, {family}, {place.dtypes[0]}", {"family": family, "dtype": place.dtypes[0]}


def loss_cases(place: Place) -> Iterator[Case]:
    """A frozen head, one that learns, one with capped logits."""
    for family, method in (("llama", "lora"), ("qwen3", "full"), ("gemma2", "full")):
        for dtype in dict.fromkeys((place.dtypes[0], "fp32")):
            yield f"loss in chunks, {family} {method}, {dtype}", {"family": family, "method": method, "dtype": dtype}


def adapter_cases(place: Place) -> Iterator[Case]:
    """On plain layers, with biases, on fused matrices, and on 4-bit layers."""
    for dtype in dict.fromkeys((place.dtypes[0], "fp32")):
        for family in ("llama", "qwen2", "phi3"):
            yield f"fused adapters, {family}, {dtype}", {"family": family, "dtype": dtype}
    yield f"fused adapters on nf4, {place.dtypes[0]}", {"quantization": "nf4", "dtype": place.dtypes[0]}


def capped_cases(place: Place) -> Iterator[Case]:
    """Gemma 2's scores, where a card compiles a kernel for them."""
    if place.capability >= _AMPERE:
        yield f"capped scores through flex attention, gemma2, {place.dtypes[0]}", {"dtype": place.dtypes[0]}


def liger_cases(place: Place) -> Iterator[Case]:
    """Each family that has Triton kernels here; none on a processor, an older card, or without liger-kernel."""
    for family in FAMILIES:
        if not obstacle(tiny_spec(family), place.device, place.gpu):
            for dtype in dict.fromkeys((place.dtypes[0], "fp32" if family == "llama" else place.dtypes[0])):
                yield f"Liger's kernels, {family}, {dtype}", {"family": family, "dtype": dtype}


def checkpointing_cases(place: Place) -> Iterator[Case]:
    """Every layer and every second one; on a card also with what is kept or moved beside."""
    dtype = place.dtypes[0]
    for family in ("llama", "gemma3_text"):
        for every in (1, 2):
            name = f"checkpointing of every{' second' * (every == 2)} layer, {family}, {dtype}"
            yield name, {"family": family, "dtype": dtype, "every": every}
    yield f"checkpointing of int8 layers, {dtype}", {"quantization": "int8", "dtype": dtype, "reentrant": True}
    if place.device == "cuda":
        yield f"checkpointing, inputs in main memory, {dtype}", {"family": "llama", "dtype": dtype, "offload": True}
    if place.capability >= _AMPERE:
        yield f"checkpointing, attention kept, {dtype}", {"family": "llama", "dtype": dtype, "keep_attention": True}


def quantized_cases(place: Place) -> Iterator[Case]:
    """Each kind of packed weights in each dtype."""
    for quantization in ("nf4", "int8", "fp4"):
        for dtype in dict.fromkeys((place.dtypes[0], "fp32" if quantization == "nf4" else place.dtypes[0])):
            yield f"{quantization} layers, {dtype}", {"quantization": quantization, "dtype": dtype}


def unpacking_cases(place: Place) -> Iterator[Case]:
    """Our own program for 4-bit matrices, which only a card runs."""
    if place.capability >= _AMPERE:
        for quantization in ("nf4", "fp4"):
            for dtype in place.dtypes:
                name = f"4-bit matrices in one pass, {quantization}, {dtype}"
                yield name, {"quantization": quantization, "dtype": dtype}


def optimizer_cases(place: Place) -> Iterator[Case]:
    """bf16 weights have fp32 masters, which lie end to end; fp32 ones have none."""
    for dtype in ("bf16", "fp32"):
        if dtype in place.dtypes:
            yield f"AdamW, {dtype}", {"dtype": dtype}


ROWS: tuple[Row, ...] = (
    Row("attention: output and gradients against fp64", _MODULE + "kernels:attention", attention_cases),
    Row("packed documents against each alone, eager, full logits", _MODULE + "kernels:packed", packed_cases),
    Row("loss in chunks against the model's own full logits", _MODULE + "kernels:chunked_loss", loss_cases),
    Row("fused adapters against PEFT's own", _MODULE + "kernels:fused_adapters", adapter_cases),
    Row("checkpointing against the same layers without it", _MODULE + "kernels:checkpointing", checkpointing_cases),
    Row("quantized layers against plain ones of the unpacked weights", _MODULE + "kernels:quantized", quantized_cases),
    Row("AdamW against torch's plain one on fp32 copies", _MODULE + "kernels:optimizer", optimizer_cases),
    Row("Liger's kernels against transformers' own operators", _MODULE + "kernels:liger", liger_cases),
    Row("4-bit matrices in one pass against bitsandbytes, bit for bit", _MODULE + "kernels:unpacking", unpacking_cases),
    Row("capped scores in flex attention against whole matrices of scores", _MODULE + "kernels:capped", capped_cases),
)


def kernel_items(place: Place) -> tuple[Item, ...]:
    """The checks of this device, the first case of every row before the second of any."""
    columns = [[(row, case) for case in row.cases(place)] for row in ROWS]
    most = max(len(column) for column in columns)
    ordered = [column[turn] for turn in range(most) for column in columns if turn < len(column)]
    return tuple(
        Item(
            name,
            row.about,
            row.run,
            _EXPECTED_S[place.device] + (0 if number else place.start_s + _FIRST_CALL_S),
            {"device": place.device, **params},
        )
        for number, (row, (name, params)) in enumerate(ordered)
    )
