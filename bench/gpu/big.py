"""`python -m bench.gpu.big NAME`: what does not fit a checkpoint on a small disk, or trains whole; in this process.

Random weights go straight to the card, the engine's trainer runs a few steps. Predicted memory stands beside.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench import memory
from bench.gpu.job import BIG, SMALL, told
from bench.gpu.timing import steady
from engine.memory.shape import GIB, TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index
from engine.oracle.grid import Case

STEPS = 6
MOE = "qwen3-30b-a3b"
CASES = {
    "moe-bf16": (MOE, TrainingShape(micro_batch=1, max_length=2048, kernels="liger")),
    "moe-nf4": (MOE, TrainingShape(micro_batch=1, max_length=2048, quantization="nf4", kernels="liger")),
    "8b-int8": (BIG, TrainingShape(micro_batch=4, max_length=2048, quantization="int8", kernels="liger")),
    "1b-full": (SMALL, TrainingShape(method="full", micro_batch=4, max_length=2048, kernels="liger")),
    "tiny": ("smollm2-135m-instruct", TrainingShape(micro_batch=1, max_length=64)),
}
"""The model is built in the compute dtype first, so both MoE rows need as large a card."""


def main(name: str) -> None:
    """Run one, or say that it does not fit."""
    model, shape = CASES[name]
    case = Case(name, catalog_index()[model], shape)
    setting: dict[str, Any] = {
        "model": model,
        "rows": "full",
        "method": shape.method,
        "quantization": shape.quantization,
    }
    setting |= {"micro_batch": shape.micro_batch, "length": shape.max_length, "checkpointing": True}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        estimate = estimate_memory(case.spec, shape, gpu=memory.gpu_here())
        predicted = {key: getattr(estimate, f"{key}_bytes") for key in ("allocated", "reserved", "device")}
        free, _ = torch.cuda.mem_get_info()
        setting["predicted_bytes"] = predicted
        if predicted["device"] > free:
            told({**setting, "error": f"needs {predicted['device'] / GIB:.0f} GiB, {free / GIB:.0f} GiB are free"})
            return
    told({**setting, **run(case, device)})


def run(case: Case, device: str) -> dict[str, Any]:
    """A few steps of the engine's trainer: speed and peaks."""
    memory.STEPS = STEPS
    model, settings = memory.build(case, device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = memory.make_trainer(case, model, settings, Path(folder))
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
        lines = (Path(folder) / "events.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [event for event in map(json.loads, lines) if event["type"] == "train_step"]
    found = steady(*([step[key] for step in steps] for key in ("step_s", "step_tokens", "loss")))
    if device == "cuda":
        found["allocated_bytes"] = torch.cuda.max_memory_allocated()
        found["reserved_bytes"] = torch.cuda.max_memory_reserved()
    return found


if __name__ == "__main__":
    main(sys.argv[1])
