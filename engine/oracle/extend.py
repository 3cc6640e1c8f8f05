"""From two shallow simulations to a deep model: which figures grow with depth, and how.

Every section of a step grows by the same bytes with each period of layers. The one exception is the optimizer's
fp32 gradients, which exist a portion at a time: those are counted for the deep model itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from engine.memory.allocator import rounded
from engine.train.masters import _portions

BACKWARD = ("head", "first layer", "middle", "last layer")
"""Sections of the backward pass: before the layers, in the first to run, between, in the last."""
Trained = Sequence[tuple[str, tuple[int, ...]]]
_LAYER = re.compile(r"\.layers\.(\d+)\.")


def named_peaks(peaks: dict[str, int]) -> dict[str, int]:
    """Peaks under names that are alike at every depth: the backward pass by first, middle and last layer."""
    layers = sorted((name for name in peaks if name.startswith("layer ")), key=lambda name: int(name.split()[1]))
    named = {name: peaks[name] for name in ("forward", "loss", "head", "optimizer")}
    named["first layer"], named["last layer"] = peaks[layers[-1]], peaks[layers[0]]
    if len(layers) > 2:
        named["middle"] = max(peaks[name] for name in layers[1:-1])
    return named


def extended(found: list[dict[str, int]], layers: tuple[int, ...], depth: int) -> dict[str, int]:
    """Each figure at `depth`, on the line through the two simulated depths, or as found at one."""
    if len(found) == 1:
        return dict(found[0])
    few, more = found
    steps = (depth - layers[0]) / (layers[1] - layers[0])
    return {name: round(few[name] + (more[name] - few[name]) * steps) for name in few if name in more}


def trained_at_depth(trained: Trained, depth: int) -> list[tuple[str, tuple[int, ...]]]:
    """What a model of `depth` layers trains: its second layer stands for all that follow."""
    before: list[tuple[str, tuple[int, ...]]] = []
    first: list[tuple[str, tuple[int, ...]]] = []
    second: list[tuple[str, tuple[int, ...]]] = []
    after: list[tuple[str, tuple[int, ...]]] = []
    for name, shape in trained:
        match = _LAYER.search(name)
        if match is None:
            (after if first else before).append((name, shape))
        elif match.group(1) == "0":
            first.append((name, shape))
        elif match.group(1) == "1":
            second.append((name, shape))
    return [*before, *first, *(second * (depth - 1)), *after]


def portion_bytes(trained: Trained) -> int:
    """fp32 gradients of the optimizer's largest portion, split as the optimizer splits them."""
    ordered = [shape for _, shape in trained if len(shape) >= 2] + [shape for _, shape in trained if len(shape) < 2]
    masters = [torch.empty(shape, dtype=torch.float32, device="meta") for shape in ordered]
    parts = _portions(masters, masters)
    return max((sum(rounded(4 * master.numel()) for master in part) for _, part in parts), default=0)
