"""How many prompts are answered at once: as many as the cache of keys and values leaves room for.

Called by `generate.py`; the bytes are those of `engine.memory.answers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import EngineError
from engine.hardware.memory import system_memory
from engine.memory.answers import answer_bytes, prompts_at_once
from engine.modeling.forward import base_of
from engine.models.config import spec_from_config
from engine.models.spec import ModelSpec
from engine.text import format_bytes
from engine.worker_job import Warn

FREE_SHARE = 0.8
"""Of free memory: the rest is for what others take meanwhile and for what the allocator cannot join."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are made: new tokens at most, prompts at once, and the ids that end or pad."""

    max_new_tokens: int
    batch_size: int
    stop_ids: tuple[int, ...]
    pad_id: int


class Room:
    """Free memory when generation begins, and whether a smaller batch was told of already."""

    def __init__(self, model: Any, how: Sampling, warn: Warn) -> None:
        base = base_of(model)
        self.how, self.warn = how, warn
        self.spec = _spec(base, warn)
        self.width = torch.finfo(base.dtype).bits // 8
        self.free_bytes = int(FREE_SHARE * free_bytes(base.device))
        self.told = False

    def for_prompt(self, tokens: int) -> int:
        """How many prompts of `tokens` tokens at once, `how.batch_size` at most."""
        if self.spec is None:
            return self.how.batch_size
        new = self.how.max_new_tokens
        size = min(self.how.batch_size, prompts_at_once(self.spec, tokens, new, self.width, self.free_bytes))
        if size < self.how.batch_size and not self.told:
            self.told = True
            needed = self.how.batch_size * answer_bytes(self.spec, tokens, new, self.width)
            self.warn(
                "generate_batch",
                f"{self.how.batch_size} prompts of {tokens} tokens with answers of {new} would take"
                f" {format_bytes(needed)} of cache and logits, {format_bytes(self.free_bytes)} may be used:"
                f" {size} at once",
            )
        return size


def harness_batch(base: Any, max_length: int, wanted: int, warn: Warn) -> int:
    """Rows of `max_length` tokens that are scored at once with whole logits: in the model's dtype, in fp32, as logs."""
    width = torch.finfo(base.dtype).bits // 8
    row_bytes = max_length * int(base.config.get_text_config().vocab_size) * (width + 8)
    size = max(1, min(wanted, int(FREE_SHARE * free_bytes(base.device)) // row_bytes))
    if size < wanted:
        warn("harness_batch", f"{wanted} rows would take {format_bytes(wanted * row_bytes)} of logits: {size} at once")
    return size


def free_bytes(device: torch.device) -> int:
    """What `device` has left for new tensors, with what torch holds and does not use."""
    if device.type != "cuda":
        return system_memory().available_bytes
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def _spec(base: Any, warn: Warn) -> ModelSpec | None:
    """The model's numbers; None, told as a warning, for an architecture that the memory model does not know."""
    numbers = base.config.to_dict()
    # How the weights are stored does not change what answers take.
    numbers.pop("quantization_config", None)
    try:
        return spec_from_config(numbers, "model", "config", source="loaded", path=None)
    except EngineError as error:
        warn("generate_batch", f"memory for answers cannot be predicted ({error.message}): the batch is as set")
        return None
