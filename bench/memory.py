"""Predicted memory against simulated and, on a machine with a GPU, against measured memory.

    python bench/memory.py grid [--whole]      closed form against the oracle, all cases of engine.oracle.grid
    python bench/memory.py gpu                 at least 30 real runs through the engine's trainer on this GPU
    python bench/memory.py                     both; without a GPU it says which rows are missing

Results go to bench/results/memory-*.json. `--whole` simulates every layer (15 minutes; reserved memory is only then
exact), otherwise two shallow depths are extended (4 minutes). GPU runs use random weights, each in its own process.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
STEPS = 3
FIGURES = ("load", "forward", "loss", "backward", "optimizer", "allocated", "reserved")


def main() -> int:
    """Run what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="both", choices=["grid", "gpu", "both", "one"])
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--case", type=int, default=0, help="for 'one': number of the GPU case")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    if options.part == "one":
        print(json.dumps(run_case(gpu_cases()[options.case])))
        return 0
    if options.part in ("grid", "both"):
        write(options.results / "memory-grid.json", run_grid(whole=options.whole))
    if options.part in ("gpu", "both"):
        return run_gpu(options.results)
    return 0


def write(path: Path, record: dict[str, Any]) -> None:
    """One JSON file, with the versions that it holds for."""
    names = ("torch", "transformers", "peft", "bitsandbytes")
    path.write_text(json.dumps({"versions": {name: version(name) for name in names}, **record}, indent=0) + "\n")
    print(f"wrote {path}")


# closed form against oracle ---------------------------------------------------------------------------


def run_grid(*, whole: bool) -> dict[str, Any]:
    """Every case of the grid, simulated, beside its closed form; prints the table."""
    from engine.oracle.grid import GPU, grid_cases
    from engine.oracle.simulate import simulate

    rows = {}
    for number, case in enumerate(grid_cases(), 1):
        found = simulate(case.spec, case.shape, gpu=GPU, whole=whole)
        rows[case.name] = {name: getattr(found, f"{name}_bytes") for name in FIGURES}
        print(f"\r{number} cases", end="", file=sys.stderr)
    print(file=sys.stderr)
    for line in table(rows):
        print(line)
    return {"whole": whole, "gpu": "compute capability 8.0", "simulated_bytes": rows}


def table(rows: dict[str, dict[str, int]]) -> list[str]:
    """Markdown: signed errors of the closed form in percent by family, allocated and reserved."""
    from engine.memory.terms import estimate_memory
    from engine.oracle.grid import GPU, grid_cases

    errors: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for case in grid_cases():
        estimate, found = estimate_memory(case.spec, case.shape, gpu=GPU), rows[case.name]
        pair = (estimate.allocated_bytes / found["allocated"] - 1, estimate.reserved_bytes / found["reserved"] - 1)
        errors[case.spec.family].append(pair)
        errors["all"].append(pair)
    lines = ["| family | cases | allocated: median | lowest | highest | reserved: median | lowest | highest |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    order = sorted(set(errors) - {"all"})
    for family in [*order, "all"]:
        cells = [f"{figure:+.2f}" for part in zip(*errors[family], strict=True) for figure in _spread(list(part))]
        lines.append(f"| {family} | {len(errors[family])} | " + " | ".join(cells) + " |")
    return lines


def _spread(errors: list[float]) -> tuple[float, float, float]:
    return 100 * statistics.median(errors), 100 * min(errors), 100 * max(errors)


# real runs --------------------------------------------------------------------------------------------


def gpu_cases() -> list[Any]:
    """0.5B to 14B shapes: methods, precisions, checkpointing, lengths and vocabularies by turns, most with kernels."""
    from engine.memory.shape import TrainingShape
    from engine.models.catalog import catalog_index
    from engine.oracle.grid import Case, label

    index = catalog_index()
    names = ("qwen2.5-0.5b-instruct", "llama-3.2-1b-instruct", "gemma-3-1b-it", "smollm2-1.7b-instruct", "qwen3-4b")
    small = [TrainingShape(micro_batch=4, max_length=1024, checkpoint_every=every) for every in (0, 1, 2)]
    small += [TrainingShape(micro_batch=2, max_length=2048, quantization=kind) for kind in ("nf4", "int8")]
    large = [
        ("llama-3.1-8b", TrainingShape(quantization="nf4", micro_batch=4, max_length=2048)),
        ("llama-3.1-8b", TrainingShape(micro_batch=2, max_length=2048)),
        ("qwen3-8b", TrainingShape(micro_batch=1, max_length=8192)),
        ("mistral-7b-instruct-v0.3", TrainingShape(quantization="int8", max_length=1024)),
        ("phi-4", TrainingShape(quantization="nf4", max_length=4096, gradient_accumulation_steps=2)),
        ("qwen2.5-14b-instruct", TrainingShape(max_length=512)),
        ("llama-3.2-1b-instruct", TrainingShape(method="full", micro_batch=2)),
        ("qwen3-0.6b", TrainingShape(method="full", max_length=8192)),
        ("smollm2-1.7b-instruct", TrainingShape(method="full", checkpoint_every=0, max_length=512)),
        ("llama-3.1-8b", TrainingShape(micro_batch=4, offload_inputs=True)),
        ("llama-3.1-8b", TrainingShape(micro_batch=4, keep_attention=True)),
    ]
    plain = [(name, TrainingShape(micro_batch=4, max_length=1024, checkpoint_every=0)) for name in names[1:3]]
    pairs = [
        (name, replace(shape, kernels="liger")) for name, shape in [*((n, s) for n in names for s in small), *large]
    ]
    pairs += plain
    return [Case(f"{name} {label(shape)}", index[name], shape) for name, shape in pairs]


def run_gpu(results: Path) -> int:
    """All cases that fit on this GPU, each in a fresh process; 0 also where there is no GPU."""
    import torch

    from engine.memory.terms import estimate_memory

    cases = gpu_cases()
    if not torch.cuda.is_available():
        print(f"no GPU here: the {len(cases)} measured rows are missing", file=sys.stderr)
        return 0
    gpu = gpu_here()
    free, _ = torch.cuda.mem_get_info()
    rows = []
    for number, case in enumerate(cases):
        estimate = estimate_memory(case.spec, case.shape, gpu=gpu)
        if estimate.device_bytes > 0.95 * free:
            print(f"skipped, needs {estimate.device_bytes / 1024**3:.0f} GiB: {case.name}")
            continue
        predicted = {name: getattr(estimate, f"{name}_bytes") for name in ("allocated", "reserved", "device")}
        measured = _in_process(number)
        rows.append({"case": case.name, "predicted_bytes": predicted, "measured_bytes": measured})
        errors = {name: 100 * (predicted[name] / measured[name] - 1) for name in predicted if measured.get(name)}
        print(case.name, " ".join(f"{name} {error:+.2f} %" for name, error in errors.items()) or measured, flush=True)
    write(results / "memory-gpu.json", {"gpu": dataclasses.asdict(gpu), "rows": rows})
    return 0


def gpu_here() -> Any:
    """This process's card, as the closed form takes it."""
    import torch

    from engine.hardware.machine import Gpu

    return Gpu(torch.cuda.get_device_name(), compute_capability=torch.cuda.get_device_capability())


def _in_process(number: int) -> dict[str, Any]:
    environment = {**os.environ, "PYTORCH_ALLOC_CONF": "expandable_segments:True", "HF_HUB_OFFLINE": "1"}
    environment["PYTORCH_CUDA_ALLOC_CONF"] = environment["PYTORCH_ALLOC_CONF"]
    command = [sys.executable, __file__, "one", "--case", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_case(case: Any, device: str = "cuda") -> dict[str, Any]:
    """One case through `EngineTrainer` on `device`: tokens per second, and on a GPU peaks in bytes."""
    import torch

    before = torch.cuda.mem_get_info()[0] if device == "cuda" else 0
    model, settings = build(case, device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(case, model, settings, Path(folder))
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
        found: dict[str, Any] = {"steps": trainer.state.global_step, "tokens_per_second": _speed(Path(folder))}
    if device != "cuda":
        return found
    return {
        **found,
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "device": before - torch.cuda.mem_get_info()[0],
    }


def _speed(folder: Path) -> float:
    """Tokens per second over all steps but the first."""
    events = [json.loads(text) for text in (folder / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["type"] == "train_step"][1:]
    return float(sum(step["step_tokens"] for step in steps) / sum(step["step_s"] for step in steps))


def build(case: Any, device: str) -> tuple[Any, Any]:
    """A model of random weights, quantized, wrapped and checkpointed like a run's, with its settings."""
    import torch
    from transformers import AutoModelForCausalLM

    from engine.memory.experts import FOUR_BIT
    from engine.memory.phases import keeps_last_layer
    from engine.memory.shape import uses_kernels
    from engine.modeling import adapters, attention, checkpointing, experts_load, fused_lora, liger
    from engine.modeling.load import DTYPES, quantization_config
    from engine.oracle.build import config_of_spec, settings_for, transformers_config

    attention.register()
    spec, shape = case.spec, case.shape
    settings = settings_for(spec, shape)
    launch = settings.launch.model_copy(update={"device": device})
    settings = settings.model_copy(update={"launch": launch})
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            transformers_config(config_of_spec(spec)),
            dtype=DTYPES[shape.compute_dtype],
            attn_implementation=attention.NAME,
        )
    model.config.use_cache = False
    if shape.method == "lora":
        model.requires_grad_(False)
        if shape.quantization != "none":
            quantize(model, shape, device)
        if shape.quantization in FOUR_BIT:
            experts_load.pack(model, quantization_config(settings))
        model = adapters.attach(model, settings)
    else:
        adapters.set_trainable_dtype(model, settings)
    keep_last = keeps_last_layer(spec, shape, gpu_here() if device == "cuda" else None)
    checkpointing.enable(
        model,
        shape.checkpoint_every,
        keep_last=keep_last,
        offload=shape.offload_inputs,
        keep_attention=shape.keep_attention,
        reentrant=shape.method == "lora" and shape.quantization == "int8",
    )
    if device == "cuda" and uses_kernels(shape):
        liger.bind(model)
    if device == "cuda" and shape.method == "lora" and shape.compute_dtype != "fp16":
        fused_lora.fuse(model)
    return model, settings


def quantize(model: Any, shape: Any, device: str) -> None:
    """Linear layers but the head, packed on `device` one by one."""
    import bitsandbytes as bnb
    from torch import nn

    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear or child is head:
                continue
            sizes = (child.in_features, child.out_features, child.bias is not None)
            if shape.quantization == "int8":
                made = bnb.nn.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=6.0, device="meta")
                weight = bnb.nn.Int8Params(child.weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
            else:
                made = bnb.nn.Linear4bit(*sizes, child.weight.dtype, quant_type=shape.quantization, device="meta")
                weight = bnb.nn.Params4bit(
                    child.weight.data.cpu(),
                    requires_grad=False,
                    compress_statistics=shape.double_quant,
                    quant_type=shape.quantization,
                )
            child.weight = None
            made.weight, made.bias = weight.to(device), child.bias
            setattr(parent, name, made)
    setattr(model, "is_loaded_in_8bit" if shape.quantization == "int8" else "is_loaded_in_4bit", True)


def make_trainer(case: Any, model: Any, settings: Any, folder: Path) -> Any:
    """The engine's trainer over random tokens, one document a row; it saves nothing."""
    import numpy as np

    from engine.data.batch import collate
    from engine.profile.schedule import plan_schedule
    from engine.runs.events import EventWriter
    from engine.runs.job import Job
    from engine.train.arguments import training_arguments
    from engine.train.trainer import EngineTrainer

    class Unsaved(EngineTrainer):
        """Checkpoints would cost time and tell nothing."""

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            return None

    shape, length = case.shape, case.shape.max_length
    random = np.random.default_rng(0)

    def row() -> dict[str, Any]:
        ids = random.integers(3, min(case.spec.vocab_size, 30_000), length)
        bounds = {"position_ids": np.arange(length), "lengths": np.array([length]), "padding": 0}
        return {"input_ids": ids, "labels": ids, **bounds}

    batch, accumulation = shape.micro_batch, shape.gradient_accumulation_steps
    train = settings.train.model_copy(
        update={
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "max_steps": STEPS,
            "activation_checkpointing": shape.checkpoint_every,
        }
    )
    settings = settings.model_copy(update={"train": train})
    rows = [row() for _ in range(batch * accumulation * STEPS)]
    schedule = plan_schedule(settings, len(rows), has_validation=False)
    return Unsaved(
        job=Job(folder, {}, EventWriter(folder / "events.jsonl")),
        settings=settings,
        schedule=schedule,
        arguments=training_arguments(settings, schedule, folder),
        model=model,
        train_dataset=rows,
        eval_dataset=None,
        collator=collate,
    )


if __name__ == "__main__":
    sys.exit(main())
