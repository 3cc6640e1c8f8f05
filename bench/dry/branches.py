"""`python -m bench.dry.branches`: every branch forward and backward on the stand-in card; one line of JSON each.

Attention by itself: documents packed and one a row, grouped heads and equal ones, windows, soft caps, widths of heads.
A whole step: adapters plain and fused, Liger's functions, 4-bit and int8 layers, every way of checkpointing, whole
training, comparing objectives. Checked are shapes, dtypes and devices of outputs and gradients, and that no branch
builds squares of scores that is not known for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from bench.dry.fake import on_card
from bench.dry.steps import WAYS, run_way
from engine.modeling import attention
from engine.modeling.attention import packed_attention

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
ROWS, LENGTH = 2, 1024
PACKED = (300, 724, 1000, 24)
WHOLE = (LENGTH, LENGTH)


@dataclass(frozen=True, slots=True)
class Heads:
    """One call of attention."""

    name: str
    key_heads: int = 2
    heads: int = 8
    width: int = 128
    lengths: tuple[int, ...] = PACKED
    window: int | None = None
    softcap: float | None = None
    flex: bool = False
    """Soft-capped scores through flex attention."""


ATTENTION = (
    Heads("packed documents, grouped heads"),
    Heads("packed documents, equal heads", key_heads=8),
    Heads("packed documents, window", window=256),
    Heads("packed documents, heads of 64", width=64),
    Heads("packed documents, heads of 256", width=256),
    Heads("packed documents, heads of 512", width=512),
    Heads("one document a row, grouped heads", lengths=WHOLE),
    Heads("one document a row, equal heads", key_heads=8, lengths=WHOLE),
    Heads("one document a row, heads of 256", width=256, lengths=WHOLE),
    Heads("one document a row, window", window=256, lengths=WHOLE),
    Heads("one document a row, wide window", window=2 * LENGTH, lengths=WHOLE),
    Heads("soft cap", softcap=50.0, flex=True),
    Heads("soft cap, window", softcap=50.0, window=256, flex=True),
    Heads("soft cap without flex", softcap=50.0),
    Heads("soft cap without flex, window", softcap=50.0, window=256),
)


def offsets_of(lengths: tuple[int, ...]) -> torch.Tensor:
    """int32 [documents + 1] on the card."""
    return torch.empty(len(lengths) + 1, dtype=torch.int32, device="cuda")


def run_attention(case: Heads, dtype: torch.dtype) -> list[str]:
    """Forward and backward; the kernels that were called. Raises AssertionError for a wrong shape, dtype or device."""
    with on_card(case.lengths) as watch:
        parts = [
            torch.empty(ROWS, LENGTH, heads, case.width, device="cuda", dtype=dtype).transpose(1, 2).requires_grad_()
            for heads in (case.heads, case.key_heads, case.key_heads)
        ]
        query, key, value = parts
        module = torch.nn.Module()
        setattr(module, attention._BY_FLEX, case.flex)
        out, _ = packed_attention(
            module,
            query,
            key,
            value,
            None,
            scaling=case.width**-0.5,
            sliding_window=case.window,
            softcap=case.softcap,
            cu_seq_lens_q=offsets_of(case.lengths),
            max_length_q=max(case.lengths),
        )
        check("the output", out, (ROWS, LENGTH, case.heads, case.width), dtype)
        gradients = torch.autograd.grad(out.sum(), parts)
        for name, gradient, part in zip(("query", "key", "value"), gradients, parts, strict=True):
            check(f"the gradient of the {name}", gradient, tuple(part.shape), dtype)
        return watch.kernels


def check(name: str, found: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise AssertionError where `found` is not what it should be."""
    told = (tuple(found.shape), found.dtype, found.device.type)
    if told != (shape, dtype, "cuda"):
        raise AssertionError(f"{name} is {told} in place of {(shape, dtype, 'cuda')}")


def branches() -> Iterator[tuple[str, str, Callable[[], list[str]]]]:
    """Name, dtype and what runs it."""
    for case in ATTENTION:
        for name, dtype in DTYPES.items():
            yield f"attention: {case.name}", name, partial(run_attention, case, dtype)
    for way in WAYS:
        for name in DTYPES:
            if name in way.dtypes:
                yield f"step: {way.name}", name, partial(run_way, way, name)


def tried(run: Callable[[], list[str]]) -> dict[str, object]:
    """What became of a branch: its kernels, or the error's first sentence."""
    try:
        return {"kernels": run()}
    except Exception as error:
        lines = (str(error).strip() or "no message").splitlines()
        return {"error": f"{type(error).__name__}: {lines[0][:300]}"}


def main() -> None:
    """Run them all."""
    for name, dtype, run in branches():
        print(json.dumps({"branch": name, "dtype": dtype, **tried(run)}), flush=True)


if __name__ == "__main__":
    main()
