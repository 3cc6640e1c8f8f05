"""Resident memory of real `engine train` runs on this processor, predicted against measured.

    python bench/processor_memory.py [--gguf MODEL.gguf] [--only TEXT] [--set NAME=VALUE] [--output FILE.json]

Each case is a run of its own: models of random weights that are made here (and SmolLM2-135M where `--gguf` names its
file), the engine's own worker, held-out rows that are evaluated. Measured is the kernel's high-water mark of the
worker's resident memory (VmHWM). `--set` puts a variable into the worker's environment, to try malloc's settings.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MODELS: dict[str, dict[str, Any]] = {
    "48M": {
        "vocab_size": 8192,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 14,
        "heads": (8, 4),
    },
    "112M": {
        "vocab_size": 32000,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 10,
        "heads": (12, 4),
    },
    "337M": {
        "vocab_size": 49152,
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 20,
        "heads": (16, 8),
    },
}


@dataclass(frozen=True, slots=True)
class Case:
    """One run: model, precision and shape."""

    model: str
    dtype: str
    quantization: str
    method: str
    max_length: int
    micro_batch: int
    checkpointing: bool
    steps: int
    accumulation: int = 1

    @property
    def name(self) -> str:
        """What tells the case from others."""
        how = (
            f"{self.dtype} {self.quantization} {self.method}"
            if self.quantization != "none"
            else f"{self.dtype} {self.method}"
        )
        ckpt = "checkpointed" if self.checkpointing else "kept"
        size = f"{self.micro_batch}x{self.max_length}x{self.accumulation}"
        return f"{self.model} {how} {size} {ckpt} {self.steps} steps"


CASES = (
    Case("demo", "fp32", "none", "lora", 256, 8, False, 60),
    Case("demo", "bf16", "none", "full", 128, 16, False, 40),
    Case("smollm2", "bf16", "none", "lora", 512, 4, False, 60),
    Case("smollm2", "bf16", "none", "lora", 512, 4, False, 10, 2),
    Case("smollm2", "bf16", "nf4", "lora", 512, 4, False, 30),
    Case("smollm2", "fp32", "none", "lora", 256, 2, False, 20),
    Case("smollm2", "bf16", "none", "lora", 1024, 2, True, 15),
    Case("smollm2", "bf16", "none", "full", 256, 2, True, 12),
    Case("48M", "fp32", "none", "full", 512, 2, False, 15),
    Case("48M", "bf16", "none", "lora", 1024, 4, True, 20),
    Case("112M", "fp32", "none", "lora", 128, 8, False, 20),
    Case("112M", "bf16", "none", "full", 512, 2, False, 12),
    Case("112M", "bf16", "nf4", "lora", 512, 2, True, 15),
    Case("337M", "bf16", "none", "lora", 512, 1, True, 10),
    Case("337M", "fp32", "none", "lora", 256, 1, False, 10),
)


def main() -> None:
    """Run the cases, print a line each, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="file of SmolLM2-135M; its cases are left out without it")
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--models", type=Path, help="keep the models that are made here")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    extra = dict(item.split("=", 1) for item in options.set)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        write_rows(work / "rows.jsonl")
        models = options.models or work / "models"
        for case in CASES:
            if options.only not in case.name or (case.model == "smollm2" and options.gguf is None):
                continue
            reference = options.gguf.resolve() if case.model == "smollm2" else model_of(case.model, models)
            rows.append(measure(case, str(reference), work, extra))
            print(line_of(rows[-1]), flush=True)
    print(summary_of(rows))
    if options.output:
        options.output.write_text(json.dumps({"threads": 1, "summary": totals(rows), "rows": rows}, indent=1) + "\n")


def write_rows(path: Path) -> None:
    """Conversations of 10 to 900 words, so that packed rows hold few long and many short documents."""
    source = random.Random(7)
    words = ["river", "stone", "a", "the", "of", "light", "seven", "runs", "green", "under", "cold", "north"]

    def text(count: int) -> str:
        return " ".join(source.choice(words) for _ in range(count))

    rows = [
        {"prompt": text(source.randint(5, 40)), "completion": text(int(10 * 90 ** source.random()))} for _ in range(400)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def model_of(name: str, folder: Path) -> Path | str:
    """A directory with random weights, made by a process of its own; the built-in model by its name."""
    if name == "demo":
        return "demo"
    target = folder / name
    if not (target / "config.json").is_file():
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, __file__, "--make", json.dumps(MODELS[name]), str(target)], check=True)
    return target


def make_model(numbers: dict[str, Any], target: Path) -> None:
    """A Llama of random weights with the demo model's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from engine.demo.paths import model_dir

    heads, key_heads = numbers.pop("heads")
    config = LlamaConfig(
        **numbers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=numbers["vocab_size"] < 10_000,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(target)
    for path in model_dir().iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, target / path.name)


def profile_of(case: Case, model: str, data: Path) -> str:
    """The case as a profile."""
    half = max(2, case.steps // 2)
    return f"""
[model]
name_or_path = {json.dumps(model)}
max_length = {case.max_length}
dtype = "{case.dtype}"
[quantization]
method = "{case.quantization}"
[tuning]
method = "{case.method}"
[data]
validation_fraction = 0.04
template = "alpaca"
datasets = [{{ path = {json.dumps(str(data))}, format = "prompt-completion" }}]
[train]
per_device_train_batch_size = {case.micro_batch}
gradient_accumulation_steps = {case.accumulation}
max_steps = {case.steps}
eval_steps = {half}
save_steps = {half}
activation_checkpointing = {str(case.checkpointing).lower()}
[launch]
device = "cpu"
"""


def measure(case: Case, model: str, work: Path, extra: dict[str, str]) -> dict[str, Any]:
    """Run one case to its end; predicted and measured bytes, and the median step."""
    os.environ |= {"XDG_STATE_HOME": str(work / "state"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    from engine.files import write_json_atomic
    from engine.hardware.probe import probe_machine
    from engine.profile.load import load_profile
    from engine.resolve.resolve import resolve_profile
    from engine.runs.launch import spawn_worker, worker_environment
    from engine.runs.record import JobRequest, read_record
    from engine.runs.store import create_run

    path = work / "case.toml"
    path.write_text(profile_of(case, model, work / "rows.jsonl"))
    resolved = resolve_profile(load_profile(path), probe_machine())
    run_json = resolved.to_run_json()
    run = create_run("bench", run_json, path.read_text())
    write_json_atomic(run.path / "job.json", JobRequest("train").to_json())
    process = spawn_worker(run.path, worker_environment(read_record(run.path).launch) | extra)
    seen = watch(process)
    events = [json.loads(text) for text in (run.path / "events.jsonl").read_text().splitlines()]
    if process.returncode:
        raise SystemExit(f"{case.name}: {(run.path / 'worker.log').read_text()[-2000:]}")
    steps = [event["step_s"] for event in events if event["type"] == "train_step"][2:]
    estimate = run_json["estimate"]
    shutil.rmtree(run.path)
    return {
        "case": case.name,
        **asdict(case),
        "predicted_bytes": estimate["device_bytes"],
        "live_bytes": estimate["allocated_bytes"],
        "measured_bytes": seen["VmHWM"],
        "error_percent": round(100 * (estimate["device_bytes"] / seen["VmHWM"] - 1), 2),
        "file_bytes": seen["RssFile"],
        "anonymous_bytes": seen["RssAnon"],
        "step_s": round(statistics.median(steps), 4),
    }


def watch(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """Highest VmHWM, RssAnon and RssFile in bytes until the process ends."""
    seen = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        for line in lines:
            key, _, rest = line.partition(":")
            if key in seen:
                seen[key] = max(seen[key], int(rest.split()[0]) * 1024)
        time.sleep(0.02)
    process.wait()
    return seen


def line_of(row: dict[str, Any]) -> str:
    """One case on a terminal."""
    mib = 2**20
    return (
        f"{row['case']:46s} live {row['live_bytes'] / mib:6.0f}  predicted {row['predicted_bytes'] / mib:6.0f}  "
        f"measured {row['measured_bytes'] / mib:6.0f} (file {row['file_bytes'] / mib:4.0f})  "
        f"{row['error_percent']:+6.1f} %  {row['step_s']:.3f} s"
    )


def totals(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean size of the error, lowest and highest."""
    errors = [row["error_percent"] for row in rows]
    return {
        "cases": len(rows),
        "mean_absolute_error_percent": round(statistics.mean(map(abs, errors)), 2),
        "lowest_percent": min(errors),
        "highest_percent": max(errors),
    }


def summary_of(rows: list[dict[str, Any]]) -> str:
    """The totals in a line; empty without rows."""
    return ", ".join(f"{key} {value}" for key, value in totals(rows).items()) if rows else "no case"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make_model(json.loads(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
