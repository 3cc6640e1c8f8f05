"""Real tokens per second of `engine train` beside a plain transformers + PEFT loop, in one run.

    python bench/training.py MODEL_DIR DATA.json [--rows 1000] [--steps 6] [--output FILE.json]

Same model, rows, adapters (LoRA r 16 on all linear layers) and threads; the same number of real tokens
in an optimizer step, give or take packing. The parts take turns, `--rounds` times, because a shared
machine drifts; medians are compared. DATA holds alpaca rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

MAX_LENGTH = 512
PROFILE = """
[model]
name_or_path = {model}
max_length = {max_length}
dtype = {dtype}
[quantization]
method = "none"
[tuning]
method = "lora"
[lora]
r = 16
[data]
validation_fraction = 0.0
max_samples = {rows}
datasets = [{{ path = {data}, format = "alpaca" }}]
[train]
per_device_train_batch_size = {micro}
gradient_accumulation_steps = {accumulation}
max_steps = {steps}
save_steps = 100000
load_best_model_at_end = false
activation_checkpointing = false
learning_rate = 2e-4
[launch]
device = "cpu"
"""


def environment(threads: int, state: str) -> dict[str, str]:
    """Both parts run with the same threads and without the network."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "HF_HUB_OFFLINE": "1",
        "XDG_STATE_HOME": state,
    }


def run_engine(options: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """`engine train` in a state directory of its own; speed over all steps but the first, from its events."""
    with tempfile.TemporaryDirectory() as state:
        profile = Path(state) / "bench.toml"
        values = {"model": options.model, "data": options.data, "dtype": dtype}
        profile.write_text(
            PROFILE.format(
                **{key: json.dumps(value) for key, value in values.items()},
                max_length=MAX_LENGTH,
                rows=options.rows,
                micro=options.engine_micro_batch,
                accumulation=options.engine_accumulation,
                steps=options.steps,
            )
        )
        command = [sys.executable, "-m", "engine", "train", str(profile), "--json"]
        done = subprocess.run(
            command, env=environment(options.threads, state), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"engine train failed:\n{done.stdout}{done.stderr}")
        events = [json.loads(text) for text in next(Path(state).rglob("events.jsonl")).read_text().splitlines()]
    steps = [event for event in events if event["type"] == "train_step"][1:]
    tokens, seconds = sum(step["step_tokens"] for step in steps), sum(step["step_s"] for step in steps)
    losses = [event["loss"] for event in events if event["type"] == "train_step"]
    return {"tokens_per_second": tokens / seconds, "tokens": tokens, "seconds": seconds, "losses": losses}


def run_plain(options: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """The hand-written loop in a process of its own."""
    job = {
        "model": options.model,
        "data": options.data,
        "rows": options.rows,
        "steps": options.steps,
        "micro_batch": options.plain_micro_batch,
        "accumulation": options.plain_accumulation,
        "max_length": MAX_LENGTH,
        "dtype": dtype,
    }
    command = [sys.executable, str(Path(__file__).with_name("plain_loop.py")), json.dumps(job)]
    done = subprocess.run(
        command, env=environment(options.threads, "/nonexistent"), capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Take turns, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--engine-micro-batch", type=int, default=4)
    parser.add_argument("--engine-accumulation", type=int, default=2)
    parser.add_argument("--plain-micro-batch", type=int, default=4)
    parser.add_argument("--plain-accumulation", type=int, default=8)
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    options.model, options.data = str(Path(options.model).resolve()), str(Path(options.data).resolve())
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for dtype in options.dtypes:
            runs.setdefault(f"plain {dtype}", []).append(run_plain(options, dtype))
            runs.setdefault(f"engine {dtype}", []).append(run_engine(options, dtype))
    report(runs, options)


def report(runs: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """Medians, each against the plain loop in fp32 and in its own dtype."""
    speeds = {name: statistics.median(run["tokens_per_second"] for run in found) for name, found in runs.items()}
    for name, speed in speeds.items():
        against = speeds.get(name.replace("engine", "plain"), speed)
        print(f"{name:12s} {speed:8.1f} real tok/s   {speed / against:5.2f} x plain in the same dtype")
    if options.output is None:
        return
    record = {
        "machine": {"processor": platform.processor() or platform.machine(), "threads": options.threads},
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "tunedeck")},
        "options": {
            **vars(options),
            "model": Path(options.model).name,
            "data": Path(options.data).name,
            "output": None,
        },
        "median_tokens_per_second": speeds,
        "runs": runs,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
