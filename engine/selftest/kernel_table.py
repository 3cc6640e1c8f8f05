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
from engine.selftest.checks import Item, Place

Case = tuple[str, Mapping[str, Any]]
FAMILIES = ("llama", "qwen3", "gemma3_text", "gemma2", "qwen2", "phi3")
"""Two-layer models are made of these: grouped heads, norms of heads, windows, capped scores, biases, fused matrices."""
_MODULE = "engine.selftest.device."
_KERNELS = {
    "varlen": "variable-length flash attention",
    "repeated": "memory-efficient attention",
    "split": "attention, one call a document",
    "products": "attention as plain products",
}
_EXPECTED_S = {"cpu": 0.5, "cuda": 0.7}
_FIRST_CALL_S = 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """One fast path. `cases(place)` gives the names of its checks and their parameters."""

    about: str
    run: str
    cases: Callable[[Place], Iterator[Case]]


def attention_cases(place: Place) -> Iterator[Case]:
    """Each kernel that training uses here, by dtype: grouped heads, a window, wide heads."""
    for dtype in place.dtypes:
        shape = TrainingShape(compute_dtype=dtype, device=place.device)
        name = _KERNELS[attention_kernel(place.gpu, shape)]
        yield f"{name}, {dtype}", {"dtype": dtype}
        yield f"{name}, {dtype}, window", {"dtype": dtype, "window": 5}
        yield f"{name}, {dtype}, heads of 128", {"dtype": dtype, "head_dim": 128, "key_heads": 6}
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


def checkpointing_cases(place: Place) -> Iterator[Case]:
    """Every layer, and every second one."""
    dtype = place.dtypes[0]
    for family in ("llama", "gemma3_text"):
        for every in (1, 2):
            name = f"checkpointing of every{' second' * (every == 2)} layer, {family}, {dtype}"
            yield name, {"family": family, "dtype": dtype, "every": every}


def quantized_cases(place: Place) -> Iterator[Case]:
    """Each kind of packed weights in each dtype."""
    for quantization in ("nf4", "int8", "fp4"):
        for dtype in dict.fromkeys((place.dtypes[0], "fp32" if quantization == "nf4" else place.dtypes[0])):
            yield f"{quantization} layers, {dtype}", {"quantization": quantization, "dtype": dtype}


def optimizer_cases(place: Place) -> Iterator[Case]:
    """The fused optimizer in the recommended dtype: with fp32 masters where that is 16-bit."""
    yield f"fused AdamW, {place.dtypes[0]}", {"dtype": place.dtypes[0]}


ROWS: tuple[Row, ...] = (
    Row("output and gradients against fp64, a document at a time", _MODULE + "kernels:attention", attention_cases),
    Row("against each document alone, eager, full logits", _MODULE + "kernels:packed", packed_cases),
    Row("against the model's own full logits", _MODULE + "kernels:chunked_loss", loss_cases),
    Row("against PEFT's own adapters", _MODULE + "kernels:fused_adapters", adapter_cases),
    Row("against the same layers without it", _MODULE + "kernels:checkpointing", checkpointing_cases),
    Row("against plain layers with the unpacked weights", _MODULE + "kernels:quantized", quantized_cases),
    Row("against the optimizer's plain loop, three updates", _MODULE + "kernels:optimizer", optimizer_cases),
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
