"""What a step and its memory cannot be below on a card: useful arithmetic at the measured ceiling, weights as stored.

Useful is what the gradients need: forward and input gradients of every weight, weight gradients where they learn, and
attention; recomputing is not. The ceiling is the faster of the measured products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from engine.memory.resident import compute_width, weight_bytes
from engine.memory.shape import TrainingShape
from engine.models.catalog import catalog_index
from engine.speed.flops import micro_batch_flops, product_flops


@dataclass(frozen=True, slots=True)
class Floor:
    """Of one step."""

    useful_flops: float
    recomputing_flops: float
    """The same with every layer's forward pass twice."""
    weight_bytes: int


def floor_of(model: str, shape: TrainingShape, *, full_rows: bool) -> Floor | None:
    """None for a shape that the catalog has not. Attention counts where every document fills its row."""
    spec = catalog_index().get(model)
    if spec is None:
        return None
    flops = micro_batch_flops if full_rows else product_flops
    useful, twice = (flops(spec, replace(shape, checkpoint_every=every)) for every in (0, 1))
    count = shape.gradient_accumulation_steps
    stored = weight_bytes(spec, shape.quantization, shape.double_quant, compute_width(shape))
    return Floor(count * useful, count * twice, stored)


def shape_of(row: dict[str, Any]) -> TrainingShape:
    """The shape of a speed row's step; its tokens stand for rows that do not fill it."""
    full = row["rows"] == "full"
    sequences, length = (row["micro_batch"], row["length"]) if full else (1, round(row["tokens_per_step"]))
    return TrainingShape(quantization=row["quantization"], micro_batch=sequences, max_length=length)


def ceiling_flops(ceilings: dict[str, Any]) -> float:
    """FLOP/s of the fastest measured product."""
    return float(max(ceilings["product_flops"].values()))


def beside_floor(row: dict[str, Any], ceilings: dict[str, Any]) -> dict[str, Any]:
    """A speed row with its floor: seconds of useful arithmetic, its share of the step, bytes of the weights."""
    found = floor_of(row["model"], shape_of(row), full_rows=row["rows"] == "full")
    if found is None:
        return row
    floor_s = found.useful_flops / ceiling_flops(ceilings)
    tokens = row["tokens_per_step"]
    return {
        **row,
        "floor_s": floor_s,
        "floor_share": (floor_s / tokens) * row["tokens_per_second"],
        "floor_recomputing_s": found.recomputing_flops / ceiling_flops(ceilings),
        "floor_bytes": found.weight_bytes,
    }
