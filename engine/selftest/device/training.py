"""A short run of the built-in model through the real worker: it ends well, and its loss goes down."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.files import write_json_atomic, write_text_atomic
from engine.hardware.probe import probe_machine
from engine.profile.load import load_text
from engine.resolve.resolve import resolve_profile
from engine.runs.events import Event, read_events
from engine.runs.launch import worker_environment
from engine.runs.record import JobRequest, read_record_of
from engine.runs.store import new_directory
from engine.selftest.checks import FAILED, PASSED, Finding

STEPS = 12
_LOG_TAIL_BYTES = 4000
_PROFILE = """
[model]
name_or_path = "demo"
max_length = 128
dtype = "{dtype}"
[tuning]
method = "{method}"
[quantization]
method = "{quantization}"
[[data.datasets]]
path = "demo:dates.train.jsonl"
format = "prompt-completion"
[data]
max_samples = 200
validation_fraction = 0.1
[train]
per_device_train_batch_size = 8
gradient_accumulation_steps = 1
learning_rate = {rate}
max_steps = {steps}
eval_steps = {steps}
save_steps = {steps}
[launch]
device = "{device}"
"""
_RATES = {"lora": 4e-3, "full": 5e-4}


def profile_of(params: Mapping[str, Any]) -> str:
    """The run's profile as TOML."""
    known = {key: params[key] for key in ("dtype", "method", "quantization", "device")}
    text = _PROFILE.format(**known, steps=STEPS, rate=_RATES[params["method"]])
    return text + (f'gpu = "{params["gpu"]}"\n' if params.get("gpu") else "")


def train(params: dict[str, Any]) -> Finding:
    """Train in a worker of this process's group, with its files in the self-test's folder."""
    text = profile_of(params)
    folder = Path(params["folder"])
    resolved = resolve_profile(load_text(text, folder / "selftest.toml"), probe_machine(processes=False))
    run_json = resolved.to_run_json()
    run = new_directory(folder, "run", ("control", "checkpoints"))
    try:
        write_text_atomic(run.path / "profile.toml", text)
        write_json_atomic(run.path / "run.json", run_json)
        write_json_atomic(run.path / "job.json", JobRequest("train").to_json())
        with (run.path / "worker.log").open("wb") as log:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "engine.worker", str(run.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=worker_environment(read_record_of(run_json).launch),
                cwd=run.path,
                check=False,
            )
        return _judged(done.returncode, read_events(run.events_path)[0], run.path / "worker.log")
    finally:
        shutil.rmtree(run.path, ignore_errors=True)


def _judged(code: int, told: list[Event], log: Path) -> Finding:
    if code:
        return Finding("", FAILED, _reason(code, told, log), {"exit_code": code})
    losses = [event["loss"] for event in told if event["type"] == "eval"]
    before, after = losses[0], losses[-1]
    speed = next((event["tokens_per_second"] for event in reversed(told) if event["type"] == "train_step"), None)
    warnings = [event["message"] for event in told if event["type"] == "warning"]
    figures = {
        "exit_code": 0,
        "loss_before": before,
        "loss_after": after,
        "tokens_per_second": speed,
        "warnings": warnings,
    }
    learns = before is not None and after is not None and after < before
    text = f"loss {_loss(before)} to {_loss(after)} in {STEPS} steps" + ("" if learns else ": it does not learn")
    return Finding("", PASSED if learns else FAILED, "; ".join([text, *fallbacks(told)]), figures)


def fallbacks(told: list[Event]) -> list[str]:
    """What was said of faster paths that were not taken."""
    return [
        str(event["message"]) for event in told if str(event.get("code")).endswith(("_fallback", "kernels_missing"))
    ]


def _loss(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _reason(code: int, told: list[Event], log: Path) -> str:
    error = next((EngineError.from_dict(event) for event in told if event["type"] == "error"), None)
    if error is not None:
        return f"exit code {code}: {error}"
    said = log.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip().splitlines()
    return f"the worker ended with {code}" + (f": {said[-1][:200]}" if said else "")
