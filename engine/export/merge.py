"""Base and adapter made into one model, in the export's dtype, on the CPU.

The base is always loaded fresh and unquantized: merging into dequantized nf4 would bake its error in.
Called by `run.py`. Not here: whether the result is right (`parity.py`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.evaluate.trained import Trained, load_adapter, load_full
from engine.hardware.memory import system_memory
from engine.modeling import load
from engine.text import format_bytes
from engine.worker_job import Warn

ITEM_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
MEMORY_FACTOR = 1.25
"""The model once, and room for the layer that is merged and the logits that are compared."""


def in_dtype(trained: Trained, dtype: str) -> Trained:
    """The run with `model.dtype` replaced and generation's own attention."""
    model = trained.settings.model.model_copy(update={"dtype": dtype, "attention": "sdpa"})
    return dataclasses.replace(trained, settings=trained.settings.model_copy(update={"model": model}))


def export_dtype(trained: Trained, asked: str | None) -> str:
    """`--dtype`, else `export.dtype`, else what the run computed in."""
    wanted = asked or trained.settings.export.dtype
    return trained.settings.model.dtype if wanted == "auto" else wanted


def check_memory(parameters: int, dtype: str) -> None:
    """Raises EngineError(RESOURCES) when the model does not fit the free main memory."""
    needed = int(parameters * ITEM_BYTES[dtype] * MEMORY_FACTOR)
    free = system_memory().available_bytes
    if needed > free:
        raise EngineError(
            f"merging takes {format_bytes(needed)} of main memory, {format_bytes(free)} is free",
            code=ExitCode.RESOURCES,
            hint="close other programs, leave --gguf out, or export the adapter alone with --no-merged",
        )


def load_unmerged(trained: Trained, warn: Warn) -> Any:
    """What the export must equal: the unquantized base, without its adapter yet; or the fully tuned model."""
    if not trained.is_adapter:
        return load_full(trained, "cpu", warn).eval()
    return load.load_base(trained.settings, trained.base_dir, quantized=False, device="cpu", warn=warn).eval()


def put_on_adapter(model: Any, trained: Trained) -> Any:
    """`model` with the run's adapter. Raises EngineError(MODEL) for one with values that are not numbers."""
    adapted = load_adapter(model, trained).eval()
    bad = [name for name, value in adapted.named_parameters() if "lora_" in name and not bool(value.isfinite().all())]
    if bad:
        raise EngineError(
            f"the adapter holds values that are not numbers, first in {bad[0]}",
            code=ExitCode.MODEL,
            where=str(trained.weights),
            hint="train again with a lower learning rate, or resume from an earlier checkpoint",
        )
    return adapted


def merge(adapted: Any) -> Any:
    """The plain model with the adapter's change added into its weights.

    Raises EngineError(MODEL) when a merged weight is not finite.
    """
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise EngineError(
            f"the merge gives values that are not numbers: {error}",
            code=ExitCode.MODEL,
            hint="export with --dtype bf16 or fp32: fp16 may be too narrow for these weights",
        ) from error
    _untie(merged)
    return merged


def _untie(model: Any) -> None:
    """A head or embedding trained by itself is no longer the other one, whatever the configuration says."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight.data_ptr() == embedding.weight.data_ptr():
        return
    if torch.equal(head.weight, embedding.weight):
        return
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def save_model(model: Any, folder: Path, *, stop_ids: tuple[int, ...], pad_id: int, shard_gib: float) -> None:
    """Sharded safetensors, config and generation_config; generation stops where training ended answers."""
    own = model.generation_config
    own.eos_token_id = list(stop_ids) if len(stop_ids) > 1 else next(iter(stop_ids), None)
    own.pad_token_id = pad_id
    try:
        own.validate(strict=True)
    except ValueError:
        # Some published models carry sampling values beside do_sample = false, which cannot be saved.
        own.do_sample = True
    model.save_pretrained(folder, max_shard_size=int(shard_gib * 2**30))
