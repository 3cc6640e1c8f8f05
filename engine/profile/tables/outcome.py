"""Settings of what comes after training: evaluation and export."""

from __future__ import annotations

from typing import Literal

from engine.profile.tables.base import Table, setting


class Evaluate(Table):
    """What `engine evaluate` measures, base against tuned."""

    metrics: list[Literal["perplexity", "rouge", "bleu", "exact_match"]] = setting(
        ["perplexity", "rouge", "bleu", "exact_match"], "Metrics of the report.", min_length=1
    )
    max_samples: int = setting(64, "Held-out rows that are generated and scored.", unit="rows", ge=1, le=100_000)
    max_new_tokens: int = setting(128, "Longest generated answer.", unit="tokens", ge=1, le=32_768)
    batch_size: int = setting(8, "Prompts generated at once.", ge=1, le=1024, advanced=True)


class Export(Table):
    """What `engine export` writes."""

    merged: bool = setting(True, "Write base and adapter merged into one model.")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = setting("auto", "dtype of the merged weights.", advanced=True)
    max_shard_gib: float = setting(5.0, "Largest safetensors file.", unit="GiB", gt=0, le=1000, advanced=True)
