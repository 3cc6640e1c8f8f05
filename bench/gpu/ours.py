"""`python -m bench.gpu.ours JOB`: this project through `engine train`, measured by its own events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.gpu.job import Job, job_from, told
from bench.gpu.timing import steady

PROFILE = """
[model]
name_or_path = {model}
max_length = {length}
dtype = "bf16"
[quantization]
method = "{quantization}"
[tuning]
method = "lora"
[lora]
r = 16
alpha = 32
[data]
mask = "all"
validation_fraction = 0.0
max_samples = {rows}
datasets = [{{ path = {data}, format = "alpaca" }}]
[train]
per_device_train_batch_size = {micro}
gradient_accumulation_steps = 1
max_steps = {steps}
save_steps = 100000
logging_steps = 1
load_best_model_at_end = false
activation_checkpointing = {checkpointing}
learning_rate = 2e-4
[launch]
device = "{device}"
"""
_SHOWN = (("train", "activation_checkpointing"), ("train", "kernels"), ("lora", "fused"), ("model", "attention"))
"""Settings that a table names beside the speed, as they were resolved."""


def profile_of(job: Job, device: str) -> str:
    """The profile as TOML."""
    return PROFILE.format(
        model=json.dumps(job.model_path),
        length=job.length,
        quantization=job.quantization,
        rows=job.row_count,
        data=json.dumps(job.rows_path),
        micro=job.micro_batch,
        steps=job.steps,
        checkpointing=json.dumps(job.checkpointing),
        device=device,
    )


def run(job: Job, device: str) -> dict[str, Any]:
    """One training run in a state folder of its own. Raises SystemExit with what the command said."""
    with tempfile.TemporaryDirectory() as state:
        profile = Path(state) / "bench.toml"
        profile.write_text(profile_of(job, device), encoding="utf-8")
        command = [sys.executable, "-m", "engine", "train", str(profile), "--json"]
        environment = {**os.environ, "XDG_STATE_HOME": state}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"engine train ended with {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-2500:]}")
        log = next(Path(state).rglob("events.jsonl"))
        settings = json.loads(log.with_name("run.json").read_text(encoding="utf-8"))["settings"]
        return found_in([json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()], settings)


def found_in(events: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """Speed, memory, warnings and settings of a run."""
    steps = [event for event in events if event["type"] == "train_step"]
    memory = [event for event in events if event["type"] == "memory"]
    ended = [event for event in events if event["type"] == "calibration"]

    def most(name: str) -> int | None:
        return max((int(event.get(name) or 0) for event in memory), default=0) or None

    return {
        **steady(*([step[name] for step in steps] for name in ("step_s", "step_tokens", "loss"))),
        "allocated_bytes": most("peak_allocated_bytes"),
        "reserved_bytes": most("peak_reserved_bytes"),
        "predicted_bytes": ended[-1]["predicted"] if ended else None,
        "measured_bytes": ended[-1]["measured"] if ended else None,
        "warnings": [event.get("message") for event in events if event["type"] == "warning"],
        "resolved": {f"{table}.{key}": settings.get(table, {}).get(key) for table, key in _SHOWN},
    }


def main(text: str) -> None:
    """Run the job on the card, or on the processor where there is none."""
    import torch

    told(run(job_from(text), "cuda" if torch.cuda.is_available() else "cpu"))


if __name__ == "__main__":
    main(sys.argv[1])
