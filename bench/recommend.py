"""Is the recommended setting the fastest one? Trains the whole grid around it and compares.

    python bench/recommend.py [MODEL ...] [--context 256] [--batch 8] [--rounds 2] [--output FILE.json]

Every micro-batch x activation checkpointing x (dtype on a processor, quantization on a GPU) that fits runs a few
steps of the engine's own trainer with random weights, each in a process of its own, in turns. Without MODEL:
small shapes on a processor, 0.5B to 8B on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from memory import run_case, write

CPU_MODELS = ("demo", "smollm2-135m-instruct")
GPU_MODELS = ("qwen2.5-0.5b-instruct", "llama-3.2-1b-instruct", "qwen3-4b", "llama-3.1-8b")


def main() -> int:
    """Parse, run the grids, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--context", type=int, default=0, help="tokens of a sequence (256 on a processor, else 2048)")
    parser.add_argument("--batch", type=int, default=0, help="sequences of a step (8 on a processor, else 16)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_run_here(json.loads(options.one))))
        return 0
    from engine.hardware.probe import probe_machine
    from engine.recommend.budget import choose_target
    from engine.recommend.plan import Requirements

    machine = probe_machine()
    target = choose_target(machine, Requirements())
    cpu = target.device == "cpu"
    asked = Requirements(
        max_length=options.context or (256 if cpu else 2048), total_batch=options.batch or (8 if cpu else 16)
    )
    models = options.models or (CPU_MODELS if cpu else GPU_MODELS)
    found = [measure(name, machine, target, asked, options.rounds) for name in models]
    device = {"name": target.name, "threads": os.cpu_count() if cpu else None}
    default = Path(__file__).with_name("results") / f"recommend-{target.device}.json"
    write(options.output or default, {"device": device, "models": found})
    return 0


def measure(name: str, machine: Any, target: Any, asked: Any, rounds: int) -> dict[str, Any]:
    """The grid of one model: every setting's median speed, and where the recommended one stands."""
    from engine.models.resolve import resolve_model
    from engine.recommend.search import plan_model

    spec = resolve_model(name)
    plan = plan_model(spec, machine, asked)
    rows = [{"shape": shape, "predicted": speed, "speeds": []} for shape, speed in grid(plan, machine, target)]
    for _ in range(rounds):
        for row in rows:
            row["speeds"].append(_in_process(name, row["shape"], target.device))
    for row in rows:
        row["tokens_per_second"] = statistics.median(row.pop("speeds"))
    best = max(rows, key=lambda row: row["tokens_per_second"])
    chosen = next(row for row in rows if row["shape"] == plan.shape)
    share = chosen["tokens_per_second"] / best["tokens_per_second"]
    order = rank_correlation([row["predicted"] for row in rows], [row["tokens_per_second"] for row in rows])
    print(f"{name}: recommended {_label(chosen)}, best {_label(best)}: {share:.1%}; rank correlation {order:.2f}")
    for row in sorted(rows, key=lambda row: -row["tokens_per_second"]):
        print(f"  {_label(row):30s} {row['tokens_per_second']:9.1f} tok/s, predicted {row['predicted']:9.1f}")
    records = [{**row, "shape": asdict(row["shape"]), "recommended": row is chosen} for row in rows]
    return {"model": name, "share_of_best": share, "rank_correlation": order, "rows": records}


def grid(plan: Any, machine: Any, target: Any) -> Iterator[tuple[Any, float]]:
    """Every setting around the plan's that fits, with its predicted speed."""
    from engine.hardware.capabilities import cpu_bf16_native
    from engine.recommend.candidates import evaluate
    from engine.speed.roofline import device_rates

    base, total = plan.shape, plan.shape.micro_batch * plan.shape.gradient_accumulation_steps
    if target.device == "cpu":
        kinds = [
            replace(base, compute_dtype=dtype) for dtype in ("fp32", *(["bf16"] if cpu_bf16_native(machine) else []))
        ]
    else:
        kinds = [replace(base, quantization=kind) for kind in ("none", "nf4")]
    for kind in kinds:
        for every in sorted({0, 1, base.checkpoint_every}):
            for size in (size for size in range(1, total + 1) if total % size == 0):
                shape = replace(
                    kind, checkpoint_every=every, micro_batch=size, gradient_accumulation_steps=total // size
                )
                found = evaluate(
                    plan.model, shape, target, device_rates(shape, target.gpu, machine.cpu, target.measured)
                )
                if found.device_bytes <= target.available_bytes:
                    yield shape, found.tokens_per_second or 0.0


def rank_correlation(first: list[float], second: list[float]) -> float:
    """Spearman's, without regard to ties."""
    ranks = [[sorted(values).index(value) for value in values] for values in (first, second)]
    return statistics.correlation(*ranks) if len(first) > 1 else 1.0


def _label(row: dict[str, Any]) -> str:
    shape = row["shape"]
    storage = "" if shape.quantization == "none" else f" {shape.quantization}"
    batch = f"{shape.micro_batch} x {shape.gradient_accumulation_steps}"
    return f"{shape.compute_dtype}{storage} {batch}, every {shape.checkpoint_every}"


def _in_process(name: str, shape: Any, device: str) -> float:
    job = json.dumps({"model": name, "shape": asdict(shape), "device": device})
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    for variable in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        environment.setdefault(variable, "expandable_segments:True")
    command = [sys.executable, __file__, "--one", job]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} {shape}:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["tokens_per_second"])


def _run_here(job: dict[str, Any]) -> dict[str, Any]:
    from engine.memory.shape import TrainingShape
    from engine.models.resolve import resolve_model
    from engine.oracle.grid import Case

    values = {key: tuple(value) if isinstance(value, list) else value for key, value in job["shape"].items()}
    case = Case(job["model"], resolve_model(job["model"]), TrainingShape(**values))
    return run_case(case, job["device"])


if __name__ == "__main__":
    sys.exit(main())
