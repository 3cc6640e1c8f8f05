"""A recommendation as data: what to train, how, what it takes, and why each value was chosen.

`search.py` makes Plans; `profile.resolve` turns one into profile values; `engine fit`,
`engine recommend` and the deck show them. No profile is known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.hardware.cards import model_name
from engine.memory.shape import USUAL_DOCUMENT_TOKENS

if TYPE_CHECKING:
    from engine.memory.recompute import Recompute
    from engine.memory.shape import MemoryEstimate, TrainingShape
    from engine.models.spec import ModelSpec
    from engine.speed.decode import Latency


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a person asked for; `None` leaves the choice to the search."""

    max_length: int | None = None
    complexity: str | None = None
    """`simple`, `medium`, `high` or `extreme`."""
    goal: str = "quality"
    """`quality` or `speed`."""
    total_batch: int = 16
    method: str | None = None
    rewards: bool = False
    """A head for scores in place of logits."""
    trainable_layers: int = 2
    """Of `freeze`."""
    compute_dtype: str | None = None
    quantization: str | None = None
    micro_batch: int | None = None
    gradient_accumulation_steps: int | None = None
    recompute: Recompute | None = None
    kernels: str | None = None
    """`liger` or `plain`."""
    optimizer: str | None = None
    lora_r: int = 16
    lora_targets: tuple[str, ...] | None = None
    """`None` = every linear layer."""
    lora_dropout: float = 0.0
    lora_experts: bool = False
    lora_bias: str = "none"
    modules_to_save: tuple[str, ...] = ()
    use_dora: bool = False
    document_tokens: int = USUAL_DOCUMENT_TOKENS
    """Of the documents that share a row, on average; 0 = each has a row of its own."""
    memory_bytes: int | None = None
    """Most memory of the device that the run may take, where less than all that is free is wanted."""
    latency_ms: float | None = None
    """Longest wait for the first token of an answer."""
    gpu_uuid: str | None = None
    """The card to use: its UUID, or what else names it (`engine.hardware.cards`)."""
    device: str | None = None
    """`cuda` or `cpu` when it was asked for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen value under its profile key, and the reason in a few words."""

    key: str
    """Dotted profile key: `train.per_device_train_batch_size`, `quantization.method` …"""
    value: str | int | float | bool
    reason: str


MEMORY, SPEED, CONTEXT, MAIN_MEMORY = ("memory", "speed", "context", "main memory")
"""What a verdict other than `OK` may come from: the device's memory, the speed of a processor, the model's own context,
or main memory for inputs that wait there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The best configuration of one model on one device."""

    model: ModelSpec
    shape: TrainingShape
    device_name: str
    device_index: int | None
    """Position in `Machine.gpus`; `None` = CPU."""
    available_bytes: int
    """Free device memory less the margin's base: what the estimate is held against."""
    estimate: MemoryEstimate
    tokens_per_second: float | None
    verdict: str
    """`OK`, `TIGHT` or `NO`."""
    choices: tuple[Choice, ...]
    speed_measured: bool = False
    """Whether runs on this device stand behind `tokens_per_second`, not the formula alone."""
    speed_rough: bool = False
    """Whether the device has no published runs like this one, so that the formula may be off by a factor."""
    speed_source: str = ""
    """Where the rates behind `tokens_per_second` come from; runs on the device correct them where there were any."""
    latency: Latency | None = None
    """How fast the tuned model answers on this device; None when its rates are not known."""
    answers_in_time: bool = True
    """Whether the first token comes within the asked latency."""
    card: str = ""
    """What people call the card: `GPU 1`, `GPU 0 MIG 1g.5gb #2`; empty = CPU."""
    limit: str = ""
    """What speaks against an `OK`, `MEMORY`, `SPEED`, `CONTEXT` or `MAIN_MEMORY`; empty for an `OK`."""
    free_bytes: int = 0
    """Free device memory now, the margin included; 0 = not known."""
    total_bytes: int = 0
    """All memory of the device; 0 = not known."""
    alternatives: tuple[str, ...] = ()
    """Runner-ups and, for `NO`, the nearest changes that would fit: one line each."""

    @property
    def device_title(self) -> str:
        """`GPU 1 GeForce RTX 4090`, or the processor's name."""
        return f"{self.card} {model_name(self.device_name)}" if self.card else self.device_name

    @property
    def headroom_bytes(self) -> int:
        """What stays free; negative when it does not fit."""
        return self.available_bytes - self.estimate.device_bytes

    def training_time_s(self, tokens: float) -> float | None:
        """Seconds to train on that many tokens, all epochs counted; None when the speed is not known."""
        return tokens / self.tokens_per_second if self.tokens_per_second else None
